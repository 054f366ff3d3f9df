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

} // namespace
} // namespace quadrille::reports
