#include "base/Error.h"
#include "target/Mutate.h"
#include "target/Target.h"
#include "target/null/Payload.h"

#include "llvm/Support/raw_ostream.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quadrille::target {
namespace {

using testing::HasSubstr;

class NullMachine : public testing::Test {
protected:
  void SetUp() override {
    target = find("null");
    ASSERT_NE(target, nullptr);
    graph.name = "g";
    graph.nodes = {{"a", "Add"}, {"b", "Relu"}};
    graph.values.resize(2);
    graph.values[0].name = "x";
    graph.values[0].shape = {4};
    graph.values[0].role = graph::ValueRole::Input;
    graph.values[1].name = "y";
    graph.values[1].shape = {4};
    graph.inputs = {0};
    graph.outputs = {1};
    graph.outputNames = {"y"};
    graph.kernels.resize(1);
    graph.kernels[0].kind = graph::KernelKind::Map;
    graph.kernels[0].operation = "add";
    graph.kernels[0].nodes = {0, 1};
    graph.kernels[0].flops = 8.1;
    graph.kernels[0].bytes = 32;
    machine = llvm::cantFail(machine::Machine::load("null"));
    auto plan = llvm::cantFail(target->plan(graph, *machine, {}));
    program = llvm::cantFail(target->emit(graph, *plan, *machine));
  }
  std::string print(const program::Program &program) {
    std::string text;
    llvm::raw_string_ostream os(text);
    llvm::cantFail(target->disassemble(program, os));
    return text;
  }
  const Target *target = nullptr;
  graph::KernelGraph graph;
  std::optional<machine::Machine> machine;
  program::Program program;
};

TEST_F(NullMachine, RecordsKernelsAndTakesNoTime) {
  EXPECT_TRUE(target->supports(graph, graph.kernels[0], *machine).supported);
  EXPECT_TRUE(llvm::cantFail(target->check(program)).legal());
  timeline::Timeline timeline = llvm::cantFail(target->estimate(program));
  EXPECT_EQ(timeline.cycles.value, 0);
  ASSERT_EQ(timeline.kernels.size(), 1u);
  EXPECT_EQ(timeline.kernels[0].name, "0 add");
  EXPECT_EQ(timeline.kernels[0].nodes, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(timeline.kernels[0].flops, 8.1);
}

TEST_F(NullMachine, ExecutesNothing) {
  auto result = target->simulate(program, {}, {});
  EXPECT_THAT(report(result.takeError()).message, HasSubstr("the null machine executes nothing"));
  MutateOptions options;
  options.inputs = [](uint64_t) -> llvm::Expected<NamedTensors> { return NamedTensors(); };
  EXPECT_THAT(report(mutateAll(*target, program, options).takeError()).message, HasSubstr("executes nothing"));
}

TEST_F(NullMachine, TextRoundTrip) {
  std::string text = print(program);
  EXPECT_THAT(text, HasSubstr("kernel \"0 add\" \"map\" flops 8.0999999999999996 bytes 32 nodes 0 1\n"));
  auto again = target->assemble(text, "p.txt");
  ASSERT_TRUE(bool(again)) << report(again.takeError()).message;
  EXPECT_EQ(again->payload(), program.payload());
  EXPECT_EQ(print(*again), text);
  auto wrong = target->assemble(text + "jump 3\n", "p.txt");
  EXPECT_THAT(report(wrong.takeError()).message, HasSubstr("unknown directive 'jump'"));
}

TEST_F(NullMachine, CheckTrustsNothing) {
  // Field 2 is the first kernel's first node; the third change leads out of the two nodes.
  Mutation mutation = llvm::cantFail(target->mutate(program, 2 + 4 * 2));
  Verdict verdict = llvm::cantFail(target->check(mutation.program));
  ASSERT_EQ(verdict.findings.size(), 1u);
  EXPECT_EQ(verdict.findings[0].message, "node 3 does not exist");
  mutation = llvm::cantFail(target->mutate(program, 0));
  EXPECT_FALSE(llvm::cantFail(target->check(mutation.program)).legal());
  for (uint64_t seed = 0; seed < 50; ++seed)
    EXPECT_NE(llvm::cantFail(target->mutate(program, seed)).program.payload(), program.payload()) << seed;
  // A payload of any bytes is refused, not trusted.
  for (size_t i = 0; i < program.payload().size(); ++i) {
    std::vector<std::byte> damaged = program.payload().vec();
    damaged[i] ^= std::byte(0xff);
    program::Program broken = program;
    broken.setPayload(damaged);
    llvm::consumeError(target->check(broken).takeError());
    llvm::consumeError(target->estimate(broken).takeError());
  }
}

TEST(Registry, FindsByNameOnly) {
  EXPECT_EQ(find("no such target"), nullptr);
  for (const Target *target : all())
    EXPECT_EQ(find(target->name()), target);
}

} // namespace
} // namespace quadrille::target
