#include "target/Mutate.h"
#include "target/Target.h"
#include "target/host/Evaluate.h"
#include "target/host/GraphBuilder.h"
#include "target/host/Mutate.h"
#include "target/host/Payload.h"

#include "llvm/Support/raw_ostream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

using namespace quadrille;
using namespace quadrille::graph;
using namespace quadrille::host;
using testing::HasSubstr;

namespace {

// relu(x W) of 4 x 8 by 8 x 20, then its reshape, gather, and the sum of each row: several slots, an alias, a weight.
class HostProgram : public testing::Test {
protected:
  void SetUp() override {
    target = target::find("host");
    ASSERT_NE(target, nullptr);
    auto f32 = ElementType::f32;
    ValueId x = b.input("x", f32, {4, 8}), w = b.constant("w", randomTensor(f32, {8, 20}, 1));
    ValueId product = b.value("product", f32, {4, 20}), relu = b.value("relu", f32, {4, 20});
    ValueId shaped = b.value("shaped", f32, {8, 10}), sums = b.value("sums", f32, {8});
    ValueId index = b.constant("index", Tensor::of<int64_t>(ElementType::i64, {2}, {5, -8}));
    ValueId picked = b.value("picked", f32, {2});
    b.contract({{4}, {20}, {8, true}}, {x, loopsMap({0, 2}), {}}, {w, loopsMap({2, 1}), {}}, product, loopsMap({0, 1}));
    Kernel &r = b.kernel(KernelKind::Map, "relu");
    r.loops = {{4}, {20}};
    r.reads = {{product, loopsMap({0, 1}), {}}};
    r.writes = {{relu, loopsMap({0, 1}), Combiner::None, {}, {}}};
    r.body.inputs = {f32};
    Register p = r.body.append(BlockOpcode::Input, f32, {}, 0), z = r.body.append(BlockOpcode::Constant, f32);
    r.body.results = {r.body.append(BlockOpcode::Maximum, f32, {p, z})};
    b.plain("reshape", {relu}, {shaped});
    Kernel &s = b.kernel(KernelKind::Reduce, "sum");
    s.loops = {{8}, {10, true}};
    s.reads = {{shaped, loopsMap({0, 1}), {}}};
    s.writes = {{sums, loopsMap({0}), Combiner::Sum, scalarOf(f32, 0), {}}};
    s.body.inputs = {f32};
    s.body.results = {s.body.append(BlockOpcode::Input, f32, {}, 0)};
    b.plain("gather", {sums, index}, {picked}).attributes["axis"] = int64_t(0);
    b.output(picked);
    b.output(shaped);
    ASSERT_EQ(b.graph.verify(), "");
    machine = llvm::cantFail(machine::Machine::load("host"));
    auto plan = llvm::cantFail(target->plan(b.graph, *machine, {}));
    program = llvm::cantFail(target->emit(b.graph, *plan, *machine));
  }
  static std::string print(const target::Target &target, const program::Program &program) {
    std::string text;
    llvm::raw_string_ostream os(text);
    llvm::cantFail(target.disassemble(program, os));
    return text;
  }
  // The program with one change to its contents.
  program::Program changed(llvm::function_ref<void(schema::ProgramT &)> change) {
    auto contents = llvm::cantFail(payloadOf(program));
    change(*contents);
    program::Program result = program;
    setPayload(result, *contents);
    return result;
  }
  std::string firstFinding(const program::Program &p) {
    target::Verdict verdict = llvm::cantFail(target->check(p));
    return verdict.legal() ? "" : verdict.findings[0].where + ": " + verdict.findings[0].message;
  }

  const target::Target *target = nullptr;
  GraphBuilder b;
  std::optional<machine::Machine> machine;
  program::Program program;
};

TEST_F(HostProgram, KernelsKeepTheNamesOfTheirNodes) {
  // Nodes that no kernel names, or not in the order of the table: planning renumbers them.
  b.graph.nodes = {{"nobody", "Identity"}, {"the sum", "ReduceSum"}, {"the rectifier", "Relu"}};
  for (Kernel &kernel : b.graph.kernels)
    kernel.nodes = kernel.operation == "relu"  ? std::vector<uint32_t>{2}
                   : kernel.operation == "sum" ? std::vector<uint32_t>{1}
                                               : std::vector<uint32_t>{};
  auto plan = llvm::cantFail(target->plan(b.graph, *machine, {}));
  program::Program named = llvm::cantFail(target->emit(b.graph, *plan, *machine));
  timeline::Timeline timeline = llvm::cantFail(target->estimate(named));
  for (const timeline::KernelRecord &record : timeline.kernels) {
    if (record.name.find("relu") != std::string::npos)
      EXPECT_THAT(record.nodes, testing::Contains("the rectifier")) << record.name;
    if (record.name.find("sum") != std::string::npos)
      EXPECT_THAT(record.nodes, testing::ElementsAre("the sum")) << record.name;
  }
}

TEST_F(HostProgram, ComputesWhatEvaluateDoes) {
  EXPECT_EQ(firstFinding(program), "");
  Tensor x = randomTensor(ElementType::f32, {4, 8}, 2);
  auto expected = llvm::cantFail(evaluate(b.graph, {x}));
  auto result = llvm::cantFail(target->simulate(program, {{"x", x}}, {}));
  EXPECT_EQ(result.outputs.at("picked").bytes(), expected[0].bytes());
  EXPECT_EQ(result.outputs.at("shaped").bytes(), expected[1].bytes());
  EXPECT_EQ(result.timeline.cycles.value, 0);
  EXPECT_EQ(result.timeline.spans.size(), 4u); // the reshape is no work
  EXPECT_GT(result.timeline.hostSeconds, 0);
  EXPECT_EQ(llvm::cantFail(target->estimate(program)).kernels.size(), 4u);
}

TEST_F(HostProgram, TextAndFileGiveTheSameProgram) {
  std::string text = print(*target, program);
  EXPECT_THAT(text, HasSubstr("kernel {kind: \"map\",operation: \"relu\""));
  auto read = target->assemble(text, "p.txt");
  ASSERT_TRUE(static_cast<bool>(read)) << llvm::toString(read.takeError());
  EXPECT_EQ(read->payload(), program.payload());
  EXPECT_EQ(print(*target, *read), text);

  std::string path = testing::TempDir() + "/host_program.qdl";
  llvm::cantFail(program.save(path));
  auto loaded = llvm::cantFail(program::Program::load(path));
  EXPECT_EQ(loaded.payload(), program.payload());
  Tensor x = randomTensor(ElementType::f32, {4, 8}, 2);
  auto a = llvm::cantFail(target->simulate(program, {{"x", x}}, {}));
  auto c = llvm::cantFail(target->simulate(loaded, {{"x", x}}, {}));
  EXPECT_EQ(a.outputs.at("picked").bytes(), c.outputs.at("picked").bytes());
}

TEST_F(HostProgram, AssemblyErrorsNameTheLine) {
  std::string text = print(*target, program);
  size_t at = text.find("\nkernel ");
  auto line = std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(at), '\n') + 2;
  text.replace(at, 8, "\nkernel x");
  auto result = target->assemble(text, "p.txt");
  ASSERT_FALSE(static_cast<bool>(result));
  EXPECT_THAT(llvm::toString(result.takeError()), HasSubstr("p.txt: line " + std::to_string(line)));
}

TEST_F(HostProgram, CheckFindsWhatIsWrong) {
  // Values by their names: product, relu (an output through its reshape), sums.
  auto valueNamed = [](schema::ProgramT &p, llvm::StringRef name) -> schema::ValueT & {
    for (auto &value : p.graph->values)
      if (value->name == name)
        return *value;
    llvm_unreachable("no such value");
  };
  EXPECT_THAT(firstFinding(changed([&](auto &p) { valueNamed(p, "product").slot = 99; })),
              HasSubstr("slot 99 does not exist"));
  EXPECT_THAT(firstFinding(changed([&](auto &p) { valueNamed(p, "sums").slot = ~0u; })), HasSubstr("has no slot"));
  EXPECT_THAT(firstFinding(changed([&](auto &p) { std::swap(p.steps[0], p.steps[1]); })),
              HasSubstr("which nothing has produced"));
  EXPECT_THAT(firstFinding(changed([&](auto &p) { p.steps.pop_back(); })), HasSubstr("is in no step"));
  EXPECT_THAT(firstFinding(changed([&](auto &p) { p.steps[1]->kernels[0] = p.steps[0]->kernels[0]; })),
              HasSubstr("runs a second time"));
  EXPECT_THAT(firstFinding(changed([&](auto &p) { p.graph->kernels[0]->reads[0]->value = 1000; })), testing::Not(""));
  EXPECT_THAT(firstFinding(changed([&](auto &p) {
                for (uint32_t k = 0; k < p.graph->kernels.size(); ++k)
                  if (p.graph->kernels[k]->operation == "reshape") {
                    p.steps.push_back(std::make_unique<schema::StepT>());
                    p.steps.back()->kernels = {k};
                  }
              })),
              HasSubstr("a reshape, whose result has no memory of its own"));
  EXPECT_THAT(firstFinding(changed([&](auto &p) { p.graph->values[0]->shape = {1ll << 50}; })),
              HasSubstr("impossible shape"));
}

TEST_F(HostProgram, SlotsOfLiveValuesDoNotOverlap) {
  // product is read while relu is written; relu is an output here, so a second consumer makes the conflict.
  auto f32 = ElementType::f32;
  GraphBuilder chain;
  ValueId last = chain.input("x", f32, {8});
  std::vector<ValueId> values;
  for (int i = 0; i < 6; ++i) { // y_i = reduction of y_{i-1} over an axis of 1: not fused, too few rows to group
    ValueId next = chain.value("y" + std::to_string(i), f32, {8});
    Kernel &k = chain.kernel(KernelKind::Reduce, "sum");
    k.loops = {{8}, {1, true}};
    k.reads = {{last, loopsMap({0}), {}}};
    k.writes = {{next, loopsMap({0}), Combiner::Sum, scalarOf(f32, 1), {}}};
    k.body.inputs = {f32};
    k.body.results = {k.body.append(BlockOpcode::Input, f32, {}, 0)};
    last = next;
  }
  chain.output(last);
  auto plan = llvm::cantFail(target->plan(chain.graph, *machine, {}));
  program = llvm::cantFail(target->emit(chain.graph, *plan, *machine));
  EXPECT_EQ(firstFinding(program), "");
  EXPECT_EQ(llvm::cantFail(payloadOf(program))->slot_count, 2u); // ping-pong
  EXPECT_THAT(firstFinding(changed([](auto &p) {
                for (auto &value : p.graph->values)
                  if (value->slot == 1)
                    value->slot = 0;
              })),
              HasSubstr("which is alive at the same time"));
  auto result = llvm::cantFail(target->simulate(program, {{"x", Tensor::zeros(f32, {8})}}, {}));
  EXPECT_EQ(doubles(result.outputs.at("y5")), std::vector<double>(8, 6.0));
}

TEST_F(HostProgram, MutationsAreNeverSilent) {
  target::MutateOptions options;
  options.count = 300;
  options.inputs = [](uint64_t number) -> llvm::Expected<target::NamedTensors> {
    return target::NamedTensors{{"x", randomTensor(ElementType::f32, {4, 8}, static_cast<uint32_t>(7 + number))}};
  };
  auto report = llvm::cantFail(target::mutateAll(*target, program, options));
  EXPECT_TRUE(report.passed());
  EXPECT_GT(report.count(target::Outcome::Check), 30);
  EXPECT_GT(report.count(target::Outcome::WrongValue), 10);
}

TEST_F(HostProgram, AbsentWeightsStopOnlyExecution) {
  GraphBuilder absent;
  ValueId w = absent.value("w", ElementType::f32, {2}, ValueRole::Constant),
          y = absent.value("y", ElementType::f32, {1, 2});
  absent.plain("concat", {w, w}, {absent.value("z", ElementType::f32, {4})}).attributes["axis"] = int64_t(0);
  (void)y;
  absent.output(2);
  auto plan = llvm::cantFail(target->plan(absent.graph, *machine, {}));
  auto compiled = llvm::cantFail(target->emit(absent.graph, *plan, *machine));
  EXPECT_TRUE(static_cast<bool>(target->estimate(compiled)));
  auto result = target->simulate(compiled, {}, {});
  ASSERT_FALSE(static_cast<bool>(result));
  EXPECT_THAT(llvm::toString(result.takeError()),
              HasSubstr("weights of 'w' are missing; plan and estimate work, execution does not"));
}

TEST(HostTarget, MutatedFieldsGoRoundTheirRange) {
  schema::ProgramT contents;
  contents.graph = std::make_unique<schema::GraphT>();
  auto &kernel = contents.graph->kernels.emplace_back(std::make_unique<schema::KernelT>());
  auto &loop = kernel->loops.emplace_back(std::make_unique<schema::LoopT>());
  loop->extent = INT64_MAX;
  EXPECT_EQ(llvm::cantFail(mutateField(contents, 0)),
            "kernel 0 : loop 0 extent 9223372036854775807 -> -9223372036854775808");
  EXPECT_EQ(loop->extent, INT64_MIN);
  llvm::cantFail(mutateField(contents, 1));
  EXPECT_EQ(loop->extent, INT64_MAX);
}

} // namespace
