#include "timeline/Summary.h"
#include "timeline/Trace.pb.h"
#include "timeline/Write.h"

#include "base/Error.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <map>

namespace quadrille::timeline {
namespace {

using testing::HasSubstr;

// 500 MHz: a cycle takes 2 ns. Two memory accesses overlap without nesting, a compute span contains a stall.
Timeline sample() {
  Timeline timeline;
  timeline.machine = "unit";
  timeline.model = "m.onnx";
  timeline.clockHertz = 5e8;
  timeline.cycles = Cycles(100);
  timeline.assumedFigures = {"timing.x"};
  timeline.kernels = {{"conv", "contract", "plane 0", {"Conv_0", "Relu, \"1\""}, 2000, 300},
                      {"add", "map", "", {"Add_2"}, 50, 30}};
  TrackId chip = timeline.addTrack("chip"), memory = timeline.addTrack("memory", chip),
          plane = timeline.addTrack("plane", chip);
  timeline.spans = {{memory, Cycles(0), Cycles(10), Category::Memory, 0, "read a"},
                    {memory, Cycles(5), Cycles(15), Category::Memory, 0, "read b"},
                    {memory, Cycles(15), Cycles(20), Category::Memory, 1, ""},
                    {plane, Cycles(10), Cycles(60), Category::Compute, 0, ""},
                    {plane, Cycles(20), Cycles(30), Category::Stall, 0, "wait"},
                    {plane, Cycles(60), Cycles(70), Category::Compute, 1, ""}};
  timeline.counters = {{"live", "bytes", memory, {{Cycles(0), 64}, {Cycles(7), 128.5}}}};
  timeline.tables = {{"links", {"link", "vectors"}, {{"0", "12"}, {"1", "7"}}, "two more"}};
  return timeline;
}

template <typename Writer> std::string written(Writer writer, const Timeline &timeline) {
  std::string text;
  llvm::raw_string_ostream os(text);
  writer(timeline, os);
  return os.str();
}

TEST(Perfetto, TraceParsesBackWithBalancedNestedSlices) {
  trace::Trace parsed;
  ASSERT_TRUE(parsed.ParseFromString(written(writePerfetto, sample())));
  std::map<uint64_t, trace::TrackDescriptor> tracks;
  std::map<uint64_t, std::vector<std::pair<std::string, uint64_t>>> open;
  std::map<uint64_t, uint64_t> lastTime;
  std::vector<std::string> slices; // "track name begin end"
  std::vector<std::pair<uint64_t, double>> samples;
  for (const trace::TracePacket &packet : parsed.packet()) {
    EXPECT_EQ(packet.trusted_packet_sequence_id(), 1u);
    if (packet.has_track_descriptor()) {
      const auto &track = packet.track_descriptor();
      EXPECT_TRUE(tracks.emplace(track.uuid(), track).second);
      if (track.has_parent_uuid())
        EXPECT_TRUE(tracks.count(track.parent_uuid()));
      continue;
    }
    const trace::TrackEvent &event = packet.track_event();
    ASSERT_TRUE(tracks.count(event.track_uuid()));
    EXPECT_GE(packet.timestamp(), lastTime[event.track_uuid()]);
    lastTime[event.track_uuid()] = packet.timestamp();
    auto &stack = open[event.track_uuid()];
    switch (event.type()) {
    case trace::TrackEvent::TYPE_SLICE_BEGIN:
      stack.emplace_back(event.name(), packet.timestamp());
      break;
    case trace::TrackEvent::TYPE_SLICE_END:
      ASSERT_FALSE(stack.empty());
      slices.push_back(tracks[event.track_uuid()].name() + " " + stack.back().first + " " +
                       std::to_string(stack.back().second) + " " + std::to_string(packet.timestamp()));
      stack.pop_back();
      break;
    case trace::TrackEvent::TYPE_COUNTER:
      EXPECT_EQ(tracks[event.track_uuid()].counter().unit(), trace::CounterDescriptor::UNIT_SIZE_BYTES);
      samples.emplace_back(packet.timestamp(), event.double_counter_value());
      break;
    default:
      FAIL();
    }
  }
  for (const auto &[uuid, stack] : open)
    EXPECT_TRUE(stack.empty());
  EXPECT_THAT(slices, testing::UnorderedElementsAre("memory read a 0 20", "memory read b 10 30", "memory add 30 40",
                                                    "plane conv 20 120", "plane wait 40 60", "plane add 120 140"));
  EXPECT_EQ(samples, (std::vector<std::pair<uint64_t, double>>{{0, 64}, {14, 128.5}}));
  // Root, three tracks, a second lane for the overlapping access, a counter.
  EXPECT_EQ(tracks.size(), 6u);
}

// protoc knows nothing of our schema: the numbers it shows are Perfetto's (checked against the descriptor that the
// perfetto 0.59.1 Python package carries).
TEST(Perfetto, FieldNumbersAreThoseOfPerfetto) {
  auto protoc = llvm::sys::findProgramByName("protoc");
  if (!protoc)
    GTEST_SKIP() << "no protoc";
  llvm::SmallString<128> in, out;
  ASSERT_FALSE(llvm::sys::fs::createTemporaryFile("trace", "pftrace", in));
  ASSERT_FALSE(llvm::sys::fs::createTemporaryFile("trace", "txt", out));
  ASSERT_FALSE(writePerfettoFile(sample(), in));
  std::optional<llvm::StringRef> redirects[] = {llvm::StringRef(in), llvm::StringRef(out), std::nullopt};
  ASSERT_EQ(llvm::sys::ExecuteAndWait(*protoc, {*protoc, "--decode_raw"}, std::nullopt, redirects), 0);
  auto text = llvm::MemoryBuffer::getFile(out);
  ASSERT_TRUE(bool(text));
  std::string decoded = (*text)->getBuffer().str();
  // The track "memory": packet 1, sequence 10, descriptor 60 with uuid 1, name 2, parent 5, ordering 11, rank 12.
  EXPECT_THAT(decoded,
              HasSubstr("1 {\n  10: 1\n  60 {\n    1: 3\n    2: \"memory\"\n    5: 2\n    11: 3\n    12: 3\n  }\n}\n"));
  // Its first slice: time 8, event 11 with annotations 4, type 9, track 11, category 22, name 23.
  EXPECT_THAT(decoded, HasSubstr("1 {\n  8: 0\n  10: 1\n  11 {\n    4 {\n      4: 0\n      10: \"begin_cycle\"\n    }\n"
                                 "    4 {\n      4: 10\n      10: \"cycles\"\n    }\n"
                                 "    4 {\n      6: \"conv\"\n      10: \"kernel\"\n    }\n"));
  EXPECT_THAT(decoded, HasSubstr("      6: \"Conv_0, Relu, \\\"1\\\"\"\n      10: \"onnx_nodes\"\n"));
  EXPECT_THAT(decoded, HasSubstr("      5: 0x409f400000000000\n      10: \"kernel_flops\"\n")); // 2000.0
  EXPECT_THAT(decoded, HasSubstr("    9: 1\n    11: 3\n    22: \"memory\"\n    23: \"read a\"\n  }\n}\n"));
  // The counter: descriptor field 8 with unit 3 = bytes (3); its value is field 44 of the event.
  EXPECT_THAT(decoded, HasSubstr("    8 {\n      3: 3\n    }\n"));
  EXPECT_THAT(decoded, HasSubstr("    9: 4\n    11: 6\n    44: 0x4060100000000000\n")); // 128.5
  llvm::sys::fs::remove(in);
  llvm::sys::fs::remove(out);
}

TEST(Csv, QuotesAsRfc4180) {
  std::string text = written(writeCsv, sample());
  EXPECT_THAT(text,
              testing::StartsWith("track,category,name,kernel,kind,nodes,interval,begin_cycle,end_cycle\r\n"
                                  "chip/memory,memory,read a,conv,contract,\"Conv_0;Relu, \"\"1\"\"\",1,0,10\r\n"));
  EXPECT_THAT(text, HasSubstr("chip/plane,compute,,add,map,Add_2,1,60,70\r\n"));
}

TEST(Json, ParsesAndCarriesTheSummary) {
  Timeline timeline = sample();
  timeline.kernels[1].name = "\xff";
  timeline.kernels[1].flops = std::numeric_limits<double>::infinity();
  auto parsed = llvm::json::parse(written(writeJson, timeline));
  ASSERT_TRUE(bool(parsed)) << report(parsed.takeError()).message;
  const llvm::json::Object &root = *parsed->getAsObject();
  EXPECT_EQ(root.getInteger("cycles"), 100);
  EXPECT_EQ(root.getNumber("device_s"), 2e-7);
  EXPECT_EQ(root.getArray("spans")->size(), 6u);
  const llvm::json::Object &table = *(*root.getArray("tables"))[0].getAsObject();
  EXPECT_EQ(table.getString("title"), "links");
  EXPECT_EQ((*(*table.getArray("rows"))[1].getAsArray())[1].getAsString(), "7");
  EXPECT_EQ(root.getObject("summary")->getObject("categories")->getObject("stall")->getInteger("active_cycles"), 10);
}

TEST(Json, CarriesTheAttribution) {
  Timeline timeline = sample();
  timeline.attribution = {{"work", "idle"},
                          {{Cycles(60), Cycles(40)}},
                          {{1, {Cycles(60), Cycles(30)}, 1.5}, {noKernel, {Cycles(0), Cycles(10)}, 0}},
                          "plane"};
  auto parsed = llvm::json::parse(written(writeJson, timeline));
  ASSERT_TRUE(bool(parsed)) << report(parsed.takeError()).message;
  auto expected = llvm::json::parse(R"({"causes": ["work", "idle"], "devices": [[60, 40]], "peak_of": "plane",
      "kernels": [{"kernel": 1, "cycles": [60, 30], "peak_cycles": 1.5},
                  {"kernel": null, "cycles": [0, 10], "peak_cycles": 0}]})");
  ASSERT_TRUE(bool(expected));
  EXPECT_EQ(*parsed->getAsObject()->get("attribution"), *expected);
}

TEST(Writers, AreDeterministic) {
  EXPECT_EQ(written(writePerfetto, sample()), written(writePerfetto, sample()));
  EXPECT_EQ(written(writeJson, sample()), written(writeJson, sample()));
}

TEST(Summary, FiguresByHand) {
  Summary summary = summarize(sample());
  auto category = [&](Category c) { return summary.categories[static_cast<size_t>(c)]; };
  // Memory: [0,15) and [15,20) on one track; compute: [10,70) on another.
  EXPECT_EQ(category(Category::Memory).active.value, 20);
  EXPECT_EQ(category(Category::Memory).onTracks.value, 20);
  EXPECT_EQ(category(Category::Compute).active.value, 60);
  EXPECT_EQ(category(Category::Stall).onTracks.value, 10);
  ASSERT_EQ(summary.tracks.size(), 2u);
  EXPECT_EQ(summary.tracks[0].busy.value, 20);
  EXPECT_DOUBLE_EQ(summary.tracks[1].utilisation, 0.6);
  // conv works in [0,15) on memory and [10,60) on the plane: 60 cycles together, 15 + 50 on tracks.
  ASSERT_EQ(summary.kernels.size(), 2u);
  EXPECT_EQ(summary.kernels[0].kernel, 0u);
  EXPECT_EQ(summary.kernels[0].active.value, 60);
  EXPECT_EQ(summary.kernels[0].onTracks.value, 65);
  EXPECT_EQ(summary.kernels[1].begin.value, 15);
  EXPECT_EQ(summary.kernels[1].active.value, 15);
  EXPECT_EQ(summary.flops, 2050);
  EXPECT_TRUE(summarize(Timeline()).tracks.empty());
}

TEST(Summary, CountsTheCyclesOfSpansWithGaps) {
  Timeline timeline;
  timeline.cycles = Cycles(20);
  timeline.kernels = {{"a", "", "", {}, 0, 0}};
  for (const char *name : {"0", "1", "2"})
    timeline.addTrack(name);
  timeline.spans = {{0, Cycles(0), Cycles(16), Category::Memory, 0, "", 5},   // 0, 5, 10, 15
                    {1, Cycles(2), Cycles(12), Category::Memory, 0, "", 3},   // 2, 5, 8, 11
                    {2, Cycles(4), Cycles(9), Category::Compute, 0, ""},      // 4, 5, 6, 7, 8
                    {2, Cycles(8), Cycles(20), Category::Compute, 0, "", 4}}; // 8, 12, 16
  Summary summary = summarize(timeline);
  auto category = [&](Category c) { return summary.categories[static_cast<size_t>(c)]; };
  // 5 is of both; 8 of both.
  EXPECT_EQ(category(Category::Memory).active.value, 4 + 4 - 1);
  EXPECT_EQ(category(Category::Memory).onTracks.value, 4 + 4);
  EXPECT_EQ(category(Category::Compute).active.value, 5 + 3 - 1);
  EXPECT_EQ(summary.tracks[2].busy.value, 7);
  EXPECT_DOUBLE_EQ(summary.tracks[0].utilisation, 4.0 / 20);
  // 0, 2, 4, 5, 6, 7, 8, 10, 11, 12, 15, 16.
  EXPECT_EQ(summary.kernels[0].active.value, 12);
  EXPECT_EQ(summary.kernels[0].onTracks.value, 4 + 4 + 7);
}

// Against a bitmap, with stretches of all kinds over each other.
TEST(Summary, UnionsOfSpansEqualABitmap) {
  uint32_t state = 7;
  auto below = [&](uint32_t bound) {
    return static_cast<int64_t>((state = state * 1664525 + 1013904223) >> 8) % bound;
  };
  for (int trial = 0; trial < 200; ++trial) {
    Timeline timeline;
    timeline.addTrack("0");
    std::vector<bool> taken(200);
    for (int64_t i = 0, count = 1 + below(12); i < count; ++i) {
      int64_t begin = below(100), end = begin + below(100), interval = 1 + below(i % 2 == 0 ? 1 : 9);
      timeline.spans.push_back({0, Cycles(begin), Cycles(end), Category::Io, noKernel, "", interval});
      for (int64_t cycle = begin; cycle < end; cycle += interval)
        taken[cycle] = true;
    }
    EXPECT_EQ(summarize(timeline).tracks[0].busy.value, std::count(taken.begin(), taken.end(), true)) << trial;
  }
}

} // namespace
} // namespace quadrille::timeline
