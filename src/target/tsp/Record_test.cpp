// What a run reports besides values, against figures derived here by hand.
#include "target/tsp/Occupancy.h"
#include "target/tsp/TestProgram.h"
#include "timeline/Summary.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

#include "gtest/gtest.h"

#include <map>

namespace quadrille::tsp {
namespace {

using timeline::Category;
using timeline::Timeline;

// The cells of a row behind its first, joined by '|'; empty when there is none.
std::string row(const Timeline &timeline, const std::string &title, const std::string &name) {
  for (const timeline::Table &table : timeline.tables)
    if (table.title == title)
      for (const auto &cells : table.rows)
        if (cells.front() == name)
          return llvm::join(llvm::drop_begin(cells), "|");
  return "";
}
std::string note(const Timeline &timeline, const std::string &title) {
  for (const timeline::Table &table : timeline.tables)
    if (table.title == title)
      return table.note;
  return "";
}
const timeline::Counter *counter(const Timeline &timeline, const std::string &name) {
  auto found = llvm::find_if(timeline.counters, [&](const auto &each) { return each.name == name; });
  return found == timeline.counters.end() ? nullptr : &*found;
}

TEST(TspRecord, GapsOfARepeatAreNotBusy) {
  // Ten reads in 0, 24, ... 216, each written by a dispatch 3 later: 20 cycles in which one of two queues issues.
  Timeline timeline = estimateOf(copyProgram(".queue MEM west 0\nread bank=0 address=0 stream=e0\nrepeat count=9 "
                                             "interval=24\n.queue MEM east 0\n.at 3\nwrite bank=0 address=0 stream=e0\n"
                                             "repeat count=9 interval=24\n"));
  timeline::Summary summary = timeline::summarize(timeline);
  EXPECT_EQ(summary.categories[static_cast<size_t>(Category::Memory)].active.value, 20);
  EXPECT_EQ(summary.categories[static_cast<size_t>(Category::Memory)].onTracks.value, 20);
  ASSERT_EQ(summary.tracks.size(), 2u);
  EXPECT_EQ(summary.tracks[0].busy.value, 10);
  // 216 + 3 + capture 1 + write 2 + 20 superlanes.
  EXPECT_DOUBLE_EQ(summary.tracks[1].utilisation, 10.0 / 242);
}

TEST(TspRecord, FiguresThatMachinesAreComparedBy) {
  std::string copy = ".queue MEM west 0\nread bank=0 address=0 stream=e0\n"
                     ".queue MEM east 0\n.at 3\nwrite bank=0 address=0 stream=e0\n";
  Timeline timeline = estimateOf(copyProgram(copy, ".precision \"f16\"\n"));
  const timeline::Figures &figures = timeline.figures;
  // 2 hemispheres, one fp16 unit of 160 x 320 in each, 2 operations, 900 MHz.
  EXPECT_DOUBLE_EQ(figures.peakOperations.value_or(0), 184.32e12);
  // 88 slices of 2 banks of 4096 words of 320 bytes.
  EXPECT_DOUBLE_EQ(figures.memoryBytes.value_or(0), 230686720);
  // The nop of `.at` is the third instruction. x is read in 0 and y written from 3 on, so one word is needed at a time.
  EXPECT_EQ(figures.instructions, 3);
  EXPECT_DOUBLE_EQ(figures.memoryPeakBytes.value_or(0), 320 + 3 * 16);
  double nanojoules = 0;
  for (const char *part : {"memory bytes", "stream bytes x positions", "idle"}) {
    std::string cells = row(timeline, "energy (estimate)", part);
    nanojoules += std::stod(llvm::StringRef(cells).split('|').second.split('|').first.str());
  }
  EXPECT_NEAR(figures.energyJoules.value_or(0) * 1e9, nanojoules, 0.002);

  // Four planes of 320 x 320; of no products there is no peak.
  EXPECT_DOUBLE_EQ(estimateOf(copyProgram(copy, ".precision \"i8\"\n")).figures.peakOperations.value_or(0), 737.28e12);
  EXPECT_FALSE(estimateOf(copyProgram(copy, ".precision \"none\"\n")).figures.peakOperations.has_value());
}

TEST(TspRecord, AWordThatIsWrittenAgainIsOneWord) {
  // A word is written in each of 1001 cycles, and each time needed for one.
  Timeline timeline = estimateOf(copyProgram(".queue MEM west 0\nread bank=0 address=0 stream=e0\nrepeat count=1000\n"
                                             ".queue MEM east 0\n.at 3\nwrite bank=0 address=0 stream=e0\n"
                                             "repeat count=1000\n"));
  EXPECT_EQ(row(timeline, "memory", "MEM east 0"), "1|1|0.0%");
  EXPECT_EQ(row(timeline, "memory", "MEM west 0"), "1|1|0.0%");
}

TEST(TspRecord, WordsNeededAtOnceAreExactInALongProgram) {
  // Words 0, 1 and 2 are written by dispatches in 5003, 5004 and 5005; the first is read in 5010, the last in 5013 and
  // the second never. So two are needed at once. The program has 10003 + 3 + 20 cycles: 512 steps of 32 are enough.
  std::string text =
      copyProgram(".queue MEM west 0\nread bank=0 address=0 stream=e0\nrepeat count=10000\n"
                  ".queue MEM east 0\n.at 3\nwrite bank=0 address=0 stream=e0\nrepeat count=10000\n"
                  ".queue MEM east 1\n.at 5003\nwrite bank=1 address=0 step=1 stream=e0\nrepeat count=2\n"
                  ".at 5010\nread bank=1 address=0 stream=w9\n.at 5013\nread bank=1 address=2 stream=w9\n");
  Timeline timeline = estimateOf(text);
  EXPECT_EQ(row(timeline, "memory", "MEM east 1"), "3|2|0.0%");
  const timeline::Counter *needed = counter(timeline, "memory needed, highest, MEM east 1");
  ASSERT_TRUE(needed);
  std::vector<std::pair<int64_t, double>> samples;
  for (const timeline::CounterSample &sample : needed->samples)
    samples.emplace_back(sample.at.value, sample.value);
  // Steps from 4992 and on: 5003 to 5013 lie in the one of 4992..5023.
  EXPECT_EQ(samples, (std::vector<std::pair<int64_t, double>>{{0, 0}, {4992, 640}, {5024, 0}}));
  // The chip: x until its last reading in 10000; y from its first writing in 3 to the end; and those two.
  const timeline::Counter *chip = counter(timeline, "memory needed, highest");
  ASSERT_TRUE(chip);
  samples.clear();
  for (const timeline::CounterSample &sample : chip->samples)
    samples.emplace_back(sample.at.value, sample.value);
  EXPECT_EQ(samples, (std::vector<std::pair<int64_t, double>>{{0, 640}, {4992, 1280}, {5024, 640}, {10016, 320}}));
}

// The same by counting each cycle, with intervals that begin where others end and more of them than are kept unsorted.
TEST(TspRecord, CoverageEqualsACountOfEachCycle) {
  uint32_t state = 3;
  auto below = [&](uint32_t bound) {
    return static_cast<int64_t>((state = state * 1664525 + 1013904223) >> 8) % bound;
  };
  for (int64_t spread : {50, 3000, 4000000}) { // few cycles for many intervals, and many
    Coverage coverage;
    std::map<int64_t, int64_t> differences;
    for (int i = 0; i < 100000; ++i) {
      int64_t begin = below(static_cast<uint32_t>(spread)), end = begin + below(20);
      coverage.add(begin, end);
      ++differences[begin];
      --differences[end];
    }
    std::vector<std::pair<int64_t, int64_t>> expected, found;
    int64_t count = 0;
    for (auto [cycle, difference] : differences)
      if (difference != 0)
        expected.emplace_back(cycle, count += difference);
    for (auto [cycle, counted] : coverage.changes())
      found.emplace_back(cycle, counted);
    EXPECT_EQ(found, expected) << spread;
  }
}

std::vector<std::pair<int64_t, double>> samplesOf(const Timeline &timeline, const std::string &name) {
  std::vector<std::pair<int64_t, double>> samples;
  if (const timeline::Counter *found = counter(timeline, name))
    for (const timeline::CounterSample &sample : found->samples)
      samples.emplace_back(sample.at.value, sample.value);
  return samples;
}

TEST(TspRecord, AVectorTravelsOnceHoweverManyReadIt) {
  // Driven at position 1 in the west, the matrix unit's edge in the east is 1 + 20 positions away.
  std::string text = copyProgram(".queue MEM west 0\nread bank=0 address=0 stream=e0\n"
                                 ".queue MEM east 0\n.at 3\nwrite bank=0 address=0 stream=e0\n"),
              one = std::to_string(320 * 21);
  EXPECT_EQ(row(estimateOf(text), "energy (estimate)", "stream bytes x positions").substr(0, one.size() + 1),
            one + "|");
  for (const char *slice : {"1", "2"})
    text += std::string(".queue MEM east ") + slice + "\n.at 3\nwrite bank=0 address=0 stream=e0\n";
  EXPECT_EQ(row(estimateOf(text), "energy (estimate)", "stream bytes x positions").substr(0, one.size() + 1),
            one + "|");
}

TEST(TspRecord, PowerOfTheLastStepIsThatOfItsCycles) {
  // 513 cycles, so steps of 2: 257 of them, the last one a single cycle. The last write is dispatched in 513 - 20 - 3;
  // all but idle power, which is 80 W, is in the 488 reads and writes, in 0..487 and 3..490.
  Timeline timeline = estimateOf(copyProgram(".queue MEM west 0\nread bank=0 address=0 stream=e0\nrepeat count=487\n"
                                             ".queue MEM east 0\n.at 3\nwrite bank=0 address=0 stream=e0\n"
                                             "repeat count=487\n"));
  ASSERT_EQ(timeline.cycles.value, 513);
  std::vector<std::pair<int64_t, double>> power = samplesOf(timeline, "power (estimate)");
  ASSERT_FALSE(power.empty());
  EXPECT_EQ(power.back(), (std::pair<int64_t, double>(492, 80)));
  // A vector read costs 320 x 0.5 pJ, one written the same, one on its stream 320 x 21 x 0.05 pJ; at 900 MHz.
  double vector = 320 * 0.5e-12, flight = 320 * 21 * 0.05e-12, joules = 0;
  for (size_t i = 0; i < power.size(); ++i) {
    int64_t end = i + 1 < power.size() ? power[i + 1].first : 513;
    joules += (power[i].second - 80) * static_cast<double>(end - power[i].first) / 900e6;
  }
  EXPECT_NEAR(joules, 488 * (2 * vector + flight), 1e-15);
  // Reads alone in 0 and 1; their vectors are on streams 2 later.
  EXPECT_NEAR(power[0].second, 80 + vector * 900e6, 1e-6);
}

TEST(TspRecord, PowerHasAsManyStepsAsAllCounters) {
  // Energy is spent in the first cycles only: sixteen rows of weights are loaded, and installed 60 x 65536 cycles
  // later. Slice s is at position 1 + s div 4, so read in 8 + that it is at the matrix unit, 20, in 30.
  std::string queues = ".queue MEM west 0\nread bank=0 address=0 stream=e0\n"
                       ".queue MEM east 0\n.at 3\nwrite bank=0 address=0 stream=e0\n";
  std::vector<int> slices = {4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 29, 30, 31, 32};
  for (auto [stream, slice] : llvm::enumerate(slices))
    queues += ".queue MEM east " + std::to_string(slice) + "\n.at " + std::to_string(9 + slice / 4) +
              "\nread bank=0 address=0 stream=e" + std::to_string(stream) + "\n";
  queues += ".queue MXM east 0.0\n.at 29\nlw row=0\n.queue MXM east 0.1\n";
  for (int i = 0; i < 60; ++i)
    queues += "nop cycles=65536\n";
  Timeline timeline = estimateOf(
      copyProgram(queues + "iw rows=16 type=i8\n",
                  ".weight \"w\" i8[16]\n.data 000102030405060708090a0b0c0d0e0f\n.layout weight \"w\" bank=0 "
                  "address=0 slices=e4-15,e29-32\n.axis dimension=0 extent=16 to=slice step=1\n"));
  // 3932160 cycles and a few more: 512 steps of 8192 are enough.
  std::vector<std::pair<int64_t, double>> power = samplesOf(timeline, "power (estimate)");
  ASSERT_EQ(power.size(), 2u);
  EXPECT_EQ(power[1], (std::pair<int64_t, double>(8192, 80)));
}

TEST(TspRecord, CountersOfUnitsAndStreams) {
  // Reads in 0..3, on the stream in 2..5; 4 + 4 + 20 ... cycles are below 512, so steps of one.
  Timeline timeline = estimateOf(copyProgram(".queue MEM west 0\nread bank=0 address=0 stream=e0\nrepeat count=3\n"
                                             ".queue MEM east 0\n.at 3\nwrite bank=0 address=0 stream=e0\n"
                                             "repeat count=3\n"));
  using Samples = std::vector<std::pair<int64_t, double>>;
  EXPECT_EQ(samplesOf(timeline, "MEM west"), (Samples{{0, 1}, {4, 0}}));
  EXPECT_EQ(samplesOf(timeline, "MEM east"), (Samples{{0, 0}, {3, 1}, {7, 0}}));
  EXPECT_EQ(samplesOf(timeline, "streams eastward"), (Samples{{0, 0}, {2, 1}, {6, 0}}));
  EXPECT_EQ(samplesOf(timeline, "streams westward"), (Samples{{0, 0}}));
  // 6 + 3 + 20 cycles.
  EXPECT_EQ(row(timeline, "streams", "stream e0"), "4|0.14");
}

TEST(TspRecord, AssumedFiguresAreThoseInUse) {
  std::string copy = ".queue MEM west 0\nread bank=0 address=0 stream=e0\n"
                     ".queue MEM east 0\n.at 3\nwrite bank=0 address=0 stream=e0\n";
  Timeline timeline = estimateOf(copyProgram(copy));
  EXPECT_EQ(llvm::join(timeline.assumedFigures, " "), "icu.buffer_bytes timing.dispatch_skew position.mem");
  EXPECT_EQ(note(timeline, "energy (estimate)").substr(19),
            "it depends on assumed figures: energy.mem_byte, energy.stream_byte, power.idle");
  EXPECT_EQ(row(timeline, "host link", "once: weights over PCIe"), "");
  // The same with a relu in between; then tanh.
  for (const char *operation : {"relu", "tanh"}) {
    timeline = estimateOf(copyProgram(std::string(".queue MEM west 0\nread bank=0 address=0 stream=e0\n"
                                                  ".queue VXM 0\n.at 2\nrelu type=i8 a=e0 to=e0\n"
                                                  ".queue VXM 2\n.at 2\n") +
                                          (operation == std::string("tanh") ? "tanh type=f16 a=e4 to=e8\n" : "") +
                                          ".queue MEM west 1\nread bank=1 address=0 stream=e4\n"
                                          ".queue MEM west 2\nread bank=1 address=0 stream=e5\n"
                                          ".queue MEM east 0\n.at 10\nwrite bank=0 address=0 stream=e0\n",
                                      ".weight \"w\" i8[1]\n.data 01\n.layout weight \"w\" bank=1 address=0 "
                                      "slices=w1\n.layout weight \"w\" bank=1 address=0 slices=w2\n"));
    EXPECT_EQ(llvm::is_contained(timeline.assumedFigures, "timing.vxm_transcendental"), operation[0] == 't');
    EXPECT_FALSE(llvm::is_contained(timeline.assumedFigures, "mxm.result_group"));
  }
}

} // namespace
} // namespace quadrille::tsp
