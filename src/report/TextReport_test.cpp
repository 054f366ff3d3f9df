#include "report/TextReport.h"

#include "llvm/Support/raw_ostream.h"
#include "gtest/gtest.h"

namespace quadrille::reports {
namespace {

using namespace timeline;

TEST(TextReport, Profile) {
  Timeline timeline;
  timeline.machine = "unit";
  timeline.model = "m.onnx";
  timeline.clockHertz = 1e9;
  timeline.cycles = Cycles(200);
  timeline.assumedFigures = {"timing.x"};
  timeline.kernels = {{"conv", "contract", "", {"Conv_0", "Relu_1"}, 4000, 1000}};
  TrackId chip = timeline.addTrack("chip");
  timeline.addTrack("memory", chip);
  timeline.addTrack("plane", chip);
  timeline.spans = {{1, Cycles(0), Cycles(50), Category::Memory, 0, ""},
                    {2, Cycles(50), Cycles(150), Category::Compute, 0, ""},
                    {2, Cycles(150), Cycles(200), Category::Stall, noKernel, ""}};
  timeline.tables = {{"links", {"link", "vectors"}, {{"in", "7"}, {"outward", "12345678"}}, "of two"}};
  std::string text;
  llvm::raw_string_ostream os(text);
  printProfile(timeline, os, 1);
  // 4000 FLOP in 200 ns are 20 GFLOP/s; conv is active 150 of 200 cycles.
  EXPECT_EQ(os.str(), R"(m.onnx on unit
  device     200 cycles, 200.000 ns at 1000 MHz
  work       4.00 kFLOP, 1.00 kB read and written by kernels; 20.00 GFLOP/s, 5.00 GB/s

  category    active cycles   share summed on tracks
  compute               100   50.0%              100
  memory                 50   25.0%               50
  stall                  50   25.0%               50

     busy cycles   used  track
             100  50.0%  chip/plane
  ... and 1 more tracks

   active cycles   share         FLOP   FLOP/cycle  kind       kernel (nodes)
             150   75.0%       4.00 k         26.7  contract   conv (Conv_0, Relu_1)

  links
  link      vectors
  in              7
  outward  12345678
  of two

  These cycles depend on machine figures that are assumed, not published:
    timing.x
)");
}

TEST(TextReport, WorkOfNoNodeIsNotKnown) {
  Timeline timeline;
  timeline.machine = "unit";
  timeline.clockHertz = 1e9;
  timeline.cycles = Cycles(200);
  std::string text;
  llvm::raw_string_ostream os(text);
  printProfile(timeline, os);
  EXPECT_EQ(os.str(), " on unit\n  device     200 cycles, 200.000 ns at 1000 MHz\n"
                      "  work       not known: nothing is attributed to nodes of a model\n");
}

// What follows the line `title`, from its end to an empty line.
std::string section(const std::string &text, const std::string &title) {
  size_t begin = text.find("\n  " + title + "\n");
  if (begin == std::string::npos)
    return "";
  begin += title.size() + 3;
  return text.substr(begin, text.find("\n\n", begin) + 1 - begin);
}

TEST(TextReport, WhereTheCyclesWent) {
  Timeline timeline;
  timeline.machine = "unit";
  timeline.clockHertz = 1e9;
  timeline.cycles = Cycles(200);
  timeline.kernels = {{"conv", "contract", "", {"Conv_0"}, 4000, 1000}, {"add", "map", "", {"Add_1"}, 10, 20}};
  timeline.addTrack("plane");
  timeline.spans = {{0, Cycles(50), Cycles(150), Category::Compute, 0, ""}};
  // Two devices of 200 cycles.
  timeline.attribution = {{"work", "sleep", "idle"},
                          {{Cycles(110), Cycles(0), Cycles(90)}, {Cycles(10), Cycles(0), Cycles(190)}},
                          {{noKernel, {Cycles(0), Cycles(0), Cycles(40)}, 0},
                           {1, {Cycles(20), Cycles(0), Cycles(90)}, 0},
                           {0, {Cycles(100), Cycles(0), Cycles(150)}, 50}},
                          "planes"};
  std::string text;
  llvm::raw_string_ostream os(text);
  printProfile(timeline, os, 2);
  os << "\n\n";
  EXPECT_EQ(section(text, "where the cycles went"), R"(
  cause  cycles  share
  work      120  30.0%
  idle      280  70.0%
  planes at 12.5% of the peak
)");
  EXPECT_EQ(section(text, "by device"), R"(
  device  work  idle
  0        110    90
  1         10   190
)");
  EXPECT_EQ(section(text, "by node"), R"(
  node  cycles  share  work  idle  planes    bytes  first  last
  conv     250  62.5%   100   150   20.0%  1.00 kB     50   149
  add      110  27.5%    20    90    0.0%     20 B      -     -
  ... and 1 more nodes
)");
}

} // namespace
} // namespace quadrille::reports
