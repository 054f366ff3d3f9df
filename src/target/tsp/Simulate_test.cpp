// What a simulation costs in memory and time, whatever the length of the program.
#include "target/tsp/Simulate.h"
#include "target/tsp/TestProgram.h"

#include "gtest/gtest.h"

#include <ctime>
#include <fstream>
#include <unistd.h>

namespace quadrille::tsp {
namespace {

int64_t residentBytes() {
  int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// West slices 1 to 15 each read a word `times` times in a row, and nobody takes it.
std::string reads(int64_t times, const std::string &machine = ".machine groqcard\n") {
  std::string text = ".target tsp\n" + machine + R"(.weight "w" i8[15,4]
.data 0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c
.entry "inference" ->
.layout weight "w" bank=0 address=3 slices=w1-15
.axis dimension=0 extent=15 to=slice step=1
.axis dimension=1 extent=4 to=lane step=1
.code "inference"
.chip 0
)";
  for (int slice = 1; slice < 16; ++slice)
    text += ".queue MEM west " + std::to_string(slice) + "\nread bank=0 address=3 stream=w" + std::to_string(slice) +
            "\nrepeat count=" + std::to_string(times - 1) + "\n";
  return text;
}

TEST(TspSimulate, MemoryIsBoundedByWhatIsUnderWay) {
  // 983,040 vectors of 320 bytes are 315 MB, of which 64 MiB may wait and about as much may be under way.
  program::Program program = assembleOrFail(reads(65536));
  int64_t before = residentBytes(), most = 0;
  target::RunOptions options;
  options.progress = [&](double) {
    most = std::max(most, residentBytes() - before);
    return true;
  };
  auto result = target::find("tsp")->simulate(program, {}, options);
  ASSERT_TRUE(bool(result)) << report(result.takeError()).message;
  EXPECT_GT(most, 0);
  EXPECT_LT(most, int64_t(200) << 20);
}

TEST(TspSimulate, ALongRepeatIsOneSpan) {
  program::Program program = assembleOrFail(reads(65536));
  auto estimate = target::find("tsp")->estimate(program);
  ASSERT_TRUE(bool(estimate)) << report(estimate.takeError()).message;
  ASSERT_EQ(estimate->spans.size(), 15u);
  for (const timeline::Span &span : estimate->spans) {
    EXPECT_EQ(span.begin.value, 0);
    EXPECT_EQ(span.end.value, 65536);
  }
}

// Seconds of the processor for one issue after the other.
double secondsOneByOne(const std::string &text) {
  program::Program program = assembleOrFail(text);
  std::clock_t begin = std::clock();
  auto result = execute(program, nullptr, {}, /*oneByOne=*/true);
  EXPECT_TRUE(bool(result));
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

TEST(TspSimulate, AnIssueCostsNothingOnChipsThatDoNothing) {
  std::string rack = reads(2000, ".machine groqrack\n.chips 72\n");
  for (int chip = 1; chip < 72; ++chip)
    rack += ".chip " + std::to_string(chip) + "\n";
  double one = secondsOneByOne(reads(2000)), many = secondsOneByOne(rack);
  EXPECT_LT(many, 4 * one + 0.1);
}

} // namespace
} // namespace quadrille::tsp
