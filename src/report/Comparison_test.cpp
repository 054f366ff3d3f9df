#include "report/Comparison.h"

#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quadrille::reports {
namespace {

// 1000 cycles at 1 MHz are 1 ms; a run may start every 400; the host takes 0.5 ms.
MachineComparison machineOf(std::optional<Cycles> interval = Cycles(400)) {
  MachineComparison machine;
  machine.machine = "unit";
  machine.program = {2, 8, "f16"};
  timeline::Timeline timeline;
  timeline.clockHertz = 1e6;
  timeline.cycles = Cycles(1000);
  timeline.hostSeconds = 0.5e-3;
  timeline.figures.interval = interval;
  timeline.figures.peakOperations = 1e9;
  timeline.figures.memoryBytes = 64 << 20;
  timeline.figures.memoryPeakBytes = 16 << 20;
  timeline.figures.energyJoules = 0.25;
  timeline.figures.limitedBy = "vector work";
  timeline.assumedFigures = {"clock", "timing.x"};
  machine.timeline = timeline;
  machine.productFlops = 100e3;
  machine.error = {1e-3, 0.5};
  return machine;
}

TEST(Comparison, WhatFollowsFromATimeline) {
  MachineComparison machine = machineOf();
  EXPECT_DOUBLE_EQ(*machine.latencySeconds(), 1.5e-3);
  // The host's 0.5 ms are longer than the interval of 0.4 ms: 8 samples in each.
  EXPECT_DOUBLE_EQ(*machine.throughput(), 16000);
  EXPECT_EQ(machine.limitedBy(), "host link");
  // 100 kFLOP in 0.4 ms are 0.25 GFLOP/s of 1.
  EXPECT_DOUBLE_EQ(*shareOfPeak(*machine.timeline, machine.productFlops), 0.25);
}

TEST(Comparison, RunsThatDoNotOverlapFollowEachOther) {
  MachineComparison machine = machineOf(std::nullopt);
  EXPECT_DOUBLE_EQ(*machine.throughput(), 8000);
  EXPECT_EQ(machine.limitedBy(), "vector work");
  EXPECT_DOUBLE_EQ(*shareOfPeak(*machine.timeline, machine.productFlops), 0.1);
  machine.program->batch = 0; // no batch dimension: runs a second
  EXPECT_DOUBLE_EQ(*machine.throughput(), 1000);
}

// 8 samples of each of 4 replicas in 1 ms, or in 2 ms where the host serves them in turn.
TEST(Comparison, ReplicasWorkSideBySide) {
  MachineComparison machine = machineOf(std::nullopt);
  machine.program->replicas = 4;
  machine.timeline->replicate(4, 0.5e-3);
  EXPECT_DOUBLE_EQ(*machine.latencySeconds(), 1.5e-3);
  EXPECT_DOUBLE_EQ(*machine.throughput(), 32000);
  EXPECT_EQ(machine.limitedBy(), "vector work");
  EXPECT_DOUBLE_EQ(*shareOfPeak(*machine.timeline, machine.productFlops), 0.1);
  EXPECT_DOUBLE_EQ(*machine.timeline->figures.energyJoules, 1);
  EXPECT_DOUBLE_EQ(*machine.timeline->figures.memoryBytes, 256 << 20);
  EXPECT_DOUBLE_EQ(*machine.timeline->figures.memoryPeakBytes, 64 << 20);
  machine.timeline->figures.hostIntervalSeconds = 2e-3;
  EXPECT_DOUBLE_EQ(*machine.throughput(), 16000);
  EXPECT_EQ(machine.limitedBy(), "host link");
  std::string text;
  llvm::raw_string_ostream os(text);
  printComparison({"m.onnx", {machine}}, os);
  EXPECT_THAT(os.str(), testing::HasSubstr("status  chips  replicas"));
}

TEST(Comparison, WhatIsNotKnownIsAbsent) {
  MachineComparison machine;
  machine.timeline.emplace(); // no clock, and not measured
  EXPECT_FALSE(machine.timed());
  for (const auto &figure : {machine.latencySeconds(), machine.throughput(), shareOfPeak(*machine.timeline, 1e6)})
    EXPECT_FALSE(figure.has_value());
  EXPECT_FALSE(machine.limitedBy().has_value());
  machine = machineOf();
  machine.productFlops = 0; // a share of nothing
  EXPECT_FALSE(shareOfPeak(*machine.timeline, machine.productFlops).has_value());
  machine = machineOf();
  machine.timeline->figures.peakOperations.reset();
  EXPECT_FALSE(shareOfPeak(*machine.timeline, machine.productFlops).has_value());
}

TEST(Comparison, Table) {
  MachineComparison refused;
  refused.machine = "small";
  refused.status = ComparisonStatus::DoesNotFit;
  refused.reason = "conv: no room";
  MachineComparison another = refused;
  another.machine = "smaller";
  std::string text;
  llvm::raw_string_ostream os(text);
  printComparison({"m.onnx", {machineOf(), refused, another}}, os);
  EXPECT_EQ(os.str(), R"(m.onnx, batch 8
  machine        status  chips  precision  cycles   latency  per s  of peak    memory MiB   mJ    error  limited by
  unit               ok      2        f16    1000  1.500 ms  16000      25%  16.0 of 64.0  250  1.0e-03   host link
  small    does not fit      -          -       -         -      -        -             -    -        -           -
  smaller  does not fit      -          -       -         -      -        -             -    -        -           -
  small, smaller: conv: no room
  cycles depend on machine figures that are assumed, not published: unit on 2; --json names them
)");
}

TEST(Comparison, ColumnsThatNoMachineFillsAreLeftOut) {
  MachineComparison host;
  host.machine = "host";
  host.program = {1, 1, "f32"};
  host.timeline.emplace();
  host.timeline->hostSeconds = 2e-3;
  std::string text;
  llvm::raw_string_ostream os(text);
  printComparison({"m.onnx", {host}}, os);
  EXPECT_EQ(os.str(), R"(m.onnx, batch 1
  machine  status  chips  precision   latency  per s
  host         ok      1        f32  2.000 ms    500
)");
}

TEST(Comparison, JsonHasEveryKeyOfEveryMachine) {
  MachineComparison refused;
  refused.machine = "small";
  refused.status = ComparisonStatus::Unsupported;
  refused.reason = "no such type";
  std::string text;
  llvm::raw_string_ostream os(text);
  writeComparison({"m.onnx", {machineOf(), refused}}, os);
  auto parsed = llvm::json::parse(os.str());
  ASSERT_TRUE(static_cast<bool>(parsed)) << llvm::toString(parsed.takeError());
  auto expected = llvm::json::parse(R"({"model": "m.onnx", "machines": [
    {"machine": "unit", "status": "ok", "reason": null, "chips": 2, "replicas": 1, "precision": "f16", "batch": 8,
     "cycles": 1000, "latency_s": 0.0015, "throughput_per_s": 16000, "device_s": 0.001, "host_s": 0.0005,
     "host_interval_s": 0.0005, "share_of_peak": 0.25,
     "memory": {"capacity_bytes": 67108864, "peak_bytes": 16777216}, "energy_j": 0.25,
     "error": {"relative_l2": 0.001, "max_abs": 0.5}, "limited_by": "host link", "assumed": ["clock", "timing.x"]},
    {"machine": "small", "status": "unsupported", "reason": "no such type", "chips": null, "replicas": null,
     "precision": null, "batch": null, "cycles": null, "latency_s": null, "throughput_per_s": null, "device_s": null, "host_s": null,
     "host_interval_s": null, "share_of_peak": null, "memory": null, "energy_j": null, "error": null, "limited_by": null, "assumed": []}]})");
  ASSERT_TRUE(static_cast<bool>(expected));
  EXPECT_EQ(*parsed, *expected) << os.str();
}

} // namespace
} // namespace quadrille::reports
