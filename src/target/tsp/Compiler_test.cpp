// The compiler's parts by themselves; whole models are in the conformance suite and in test/tsp_test.py.
#include "base/Error.h"
#include "target/tsp/TestProgram.h"

#include "gtest/gtest.h"

namespace quadrille::tsp {
namespace {

TEST(TspCompiler, SaysWhatItLacks) {
  graph::KernelGraph graph;
  graph.nodes.push_back({"look", "Look"});
  graph.values.push_back({"y", ElementType::u32, {2}, graph::ValueRole::Intermediate, {}, std::nullopt});
  graph.kernels.emplace_back().operation = "look_up";
  graph.kernels[0].writes.push_back({0, {}, graph::Combiner::None, std::nullopt, std::nullopt});
  graph.kernels[0].nodes = {0};
  graph.outputs = {0};
  graph.outputNames = {"y"};
  auto machine = machine::Machine::load("unit-tsp");
  ASSERT_TRUE(bool(machine));
  auto plan = target::find("tsp")->plan(graph, *machine, {});
  ASSERT_FALSE(bool(plan));
  Reported reported = report(plan.takeError());
  EXPECT_EQ(reported.message, "look: kernel 'look_up' is not supported: 'look_up' is not compiled yet");
  EXPECT_EQ(reported.exitCode, 1);
  target::Support support = target::find("tsp")->supports(graph, graph.kernels[0], *machine);
  EXPECT_EQ(support.reason, "'look_up' is not compiled yet");
}

// A loop of a million iterations is refused before a kernel is made for each.
TEST(TspCompiler, LoopsMustFitIntoInstructions) {
  graph::KernelGraph body;
  body.values.push_back({"s", ElementType::i32, {1}, graph::ValueRole::Input, {}, std::nullopt});
  body.values.push_back({"t", ElementType::i32, {1}, graph::ValueRole::Intermediate, {}, std::nullopt});
  body.inputs = {0};
  body.outputs = {1};
  body.outputNames = {"t"};
  body.kernels.emplace_back().operation = "reshape";
  body.kernels[0].reads = {{0, {}, std::nullopt}};
  body.kernels[0].writes.push_back({1, {}, graph::Combiner::None, std::nullopt, std::nullopt});
  graph::KernelGraph graph = body;
  graph.kernels[0].operation = "scan";
  graph.kernels[0].region = std::make_shared<graph::KernelGraph>(body);
  graph.kernels[0].attributes = {{"states", int64_t(1)}, {"sequences", int64_t(0)}, {"trip_count", int64_t(1000000)}};
  ASSERT_EQ(graph.verify(), "");
  auto plan = target::find("tsp")->plan(graph, llvm::cantFail(machine::Machine::load("unit-tsp")), {});
  ASSERT_FALSE(bool(plan));
  EXPECT_NE(report(plan.takeError()).message.find("more iterations than there is room for"), std::string::npos);
}

} // namespace
} // namespace quadrille::tsp
