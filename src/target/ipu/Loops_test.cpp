// Loops that the compiler has repeated, and what reads programs with Repeats.
#include "target/ipu/Compiler.h"
#include "target/ipu/Liveness.h"
#include "target/ipu/TestProgram.h"

#include "graph/KernelRewriter.h"
#include "numerics/Convert.h"
#include "target/Emit.h"

#include "llvm/ADT/STLExtras.h"

#include <numeric>

namespace quadrille::ipu {
namespace {

using namespace graph;

constexpr ElementType f32 = ElementType::f32;

ValueId addInput(KernelGraph &graph, std::string name, ElementType type, Shape shape) {
  graph.values.push_back({std::move(name), type, std::move(shape), ValueRole::Input, {}, std::nullopt});
  graph.inputs.push_back(static_cast<ValueId>(graph.values.size() - 1));
  return graph.inputs.back();
}

void addOutput(KernelGraph &graph, std::string name, ValueId id) {
  graph.values[id].name = name;
  graph.outputs.push_back(id);
  graph.outputNames.push_back(std::move(name));
}

// States total, a, b and other become total + slice, b, total and other + slice; stacked are the new total, the old a
// and the sum of the new and the old other.
KernelGraph turnOf(const Shape &shape) {
  KernelGraph body;
  KernelRewriter rewriter(body);
  Kernel node;
  rewriter.replaced = &node;
  ValueId total = addInput(body, "total", f32, shape), a = addInput(body, "a", f32, shape);
  ValueId b = addInput(body, "b", f32, shape), other = addInput(body, "other", f32, shape),
          slice = addInput(body, "slice", f32, shape);
  BodyBuilder sum;
  Register first = sum.input(f32), second = sum.input(f32);
  sum.body.results = {sum.add(f32, first, second)};
  AccessMap map = loopIndices(0, shape.size());
  auto add = [&](ValueId x, ValueId y) {
    return rewriter.map(shape, {{x, map, std::nullopt}, {y, map, std::nullopt}}, sum.body);
  };
  ValueId next = add(total, slice), otherNext = add(other, slice), both = add(otherNext, other);
  body.kernels = std::move(rewriter.kernels);
  for (ValueId id : {next, b, total, otherNext, next, a, both})
    body.outputs.push_back(id);
  body.outputNames.assign(body.outputs.size(), "");
  return body;
}

// Over rows (axis 0) or columns (axis 1, backwards) of a sequence; totals are stacked in the reverse order.
KernelGraph scanOver(int64_t trips, int64_t axis, int64_t width) {
  KernelGraph graph;
  graph.nodes.push_back({"scan", "Scan"});
  Shape shape = {width}, all = axis == 0 ? Shape{trips, width} : Shape{width, trips};
  std::vector<ValueId> reads;
  for (const char *name : {"total", "a", "b", "other"})
    reads.push_back(addInput(graph, name, f32, shape));
  reads.push_back(addInput(graph, "sequence", f32, all));
  Kernel scan;
  scan.operation = "scan";
  scan.kind = KernelKind::Other;
  scan.nodes = {0};
  scan.region = std::make_shared<KernelGraph>(turnOf(shape));
  scan.attributes = {{"states", int64_t(4)},
                     {"sequences", int64_t(1)},
                     {"trip_count", trips},
                     {"input_axes", std::vector<int64_t>{axis}},
                     {"input_reversed", std::vector<int64_t>{axis}},
                     {"output_axes", std::vector<int64_t>{axis, axis, axis}},
                     {"output_reversed", std::vector<int64_t>{1, 0, 0}}};
  for (ValueId id : reads)
    scan.reads.push_back({id, {}, std::nullopt});
  KernelRewriter rewriter(graph);
  for (const char *name : {"total out", "a out", "b out", "other out", "totals", "as", "sums"}) {
    bool isStacked = scan.writes.size() > 3;
    ValueId id = rewriter.value(f32, isStacked ? all : shape);
    scan.writes.emplace_back().value = id;
    addOutput(graph, name, id);
  }
  graph.kernels.push_back(std::move(scan));
  return graph;
}

program::Program compiled(const KernelGraph &graph, Loops loops) {
  auto description = llvm::cantFail(machine::Machine::load("unit-ipu"));
  auto machine = llvm::cantFail(Architecture::from(description));
  Precision precision{f32, f32};
  KernelGraph lowered = llvm::cantFail(machineGraph(graph, precision, loops));
  program::Program program = target::beginProgram("ipu", graph, description);
  program.nodes.clear();
  for (const Node &node : lowered.nodes)
    program.nodes.push_back({node.name, node.operation});
  return llvm::cantFail(
      compileGraph(lowered, machine, CycleModel(description), precision, std::move(program), /*ipus=*/1));
}

size_t repeatsOf(const program::Program &program) {
  auto loaded = llvm::cantFail(Loaded::from(program));
  return static_cast<size_t>(
      llvm::count_if(loaded.code.entries[0], [](const Step &step) { return step.kind == StepKind::Repeat; }));
}

Tensor floats(Shape shape, std::vector<float> values) {
  return Tensor::of<float>(f32, std::move(shape), values);
}

// Before turns 0 ... 3 total is 0, 1, 11, 111 times (1, 2, 3), a is 5, 7, 0, 1 and b 7, 0, 1, 11 times that; the last
// turn leaves 1111, 11 and 111.
TEST(IpuLoops, statesSlicesAndStacks) {
  for (int64_t axis : {0, 1}) {
    KernelGraph graph = scanOver(4, axis, 3);
    program::Program program = compiled(graph, Loops::Repeated);
    ASSERT_EQ(finding(program), "");
    EXPECT_EQ(repeatsOf(program), 1U);
    // Columns are taken backwards, so that they stand in the reverse order.
    Tensor sequence = axis == 0 ? floats({4, 3}, {1, 2, 3, 10, 20, 30, 100, 200, 300, 1000, 2000, 3000})
                                : floats({3, 4}, {1000, 100, 10, 1, 2000, 200, 20, 2, 3000, 300, 30, 3});
    target::NamedTensors inputs = {{"total", floats({3}, {0, 0, 0})},
                                   {"a", floats({3}, {5, 10, 15})},
                                   {"b", floats({3}, {7, 14, 21})},
                                   {"other", floats({3}, {0, 0, 0})},
                                   {"sequence", sequence}};
    target::RunResult result = ran(program, inputs);
    auto output = [&](const char *name) { return valuesOf<float>(result.outputs.at(name)); };
    EXPECT_EQ(output("total out"), (std::vector<float>{1111, 2222, 3333}));
    EXPECT_EQ(output("a out"), (std::vector<float>{11, 22, 33}));
    EXPECT_EQ(output("b out"), (std::vector<float>{111, 222, 333}));
    if (axis == 0) {
      EXPECT_EQ(output("totals"), (std::vector<float>{1111, 2222, 3333, 111, 222, 333, 11, 22, 33, 1, 2, 3}));
      EXPECT_EQ(output("as"), (std::vector<float>{5, 10, 15, 7, 14, 21, 0, 0, 0, 1, 2, 3}));
      EXPECT_EQ(output("sums"), (std::vector<float>{1, 2, 3, 12, 24, 36, 122, 244, 366, 1222, 2444, 3666}));
    } else {
      EXPECT_EQ(output("totals"), (std::vector<float>{1111, 111, 11, 1, 2222, 222, 22, 2, 3333, 333, 33, 3}));
      EXPECT_EQ(output("as"), (std::vector<float>{5, 7, 0, 1, 10, 14, 0, 2, 15, 21, 0, 3}));
      EXPECT_EQ(output("sums"), (std::vector<float>{1, 12, 122, 1222, 2, 24, 244, 2444, 3, 36, 366, 3666}));
    }
    // The same cycles without values; the same values unrolled.
    EXPECT_EQ(llvm::cantFail(execute(program, nullptr, {})).timeline.cycles.value, result.timeline.cycles.value);
    program::Program unrolled = compiled(graph, Loops::Unrolled);
    EXPECT_EQ(repeatsOf(unrolled), 0U);
    target::RunResult same = ran(unrolled, inputs);
    for (const auto &[name, tensor] : result.outputs)
      EXPECT_EQ(valuesOf<float>(tensor), valuesOf<float>(same.outputs.at(name))) << name;
  }
}

// Rows of seven halves have a place that belongs to no element. Stacked are 2, 3, ... 9 times the slice.
TEST(IpuLoops, stacksOfPartsOfWords) {
  constexpr ElementType f16 = ElementType::f16;
  constexpr int stacks = 8;
  const Shape shape = {5, 7}, all = {4, 5, 7};
  KernelGraph graph, body;
  graph.nodes.push_back({"scan", "Scan"});
  KernelRewriter rewriter(body);
  Kernel node, scan;
  rewriter.replaced = &node;
  ValueId slice = addInput(body, "slice", f16, shape), last = slice;
  BodyBuilder sum;
  Register first = sum.input(f16), second = sum.input(f16);
  sum.body.results = {sum.add(f16, first, second)};
  scan.operation = "scan";
  scan.kind = KernelKind::Other;
  scan.nodes = {0};
  scan.attributes = {{"states", int64_t(0)}, {"sequences", int64_t(1)}, {"trip_count", int64_t(4)}};
  scan.reads.push_back({addInput(graph, "sequence", f16, all), {}, std::nullopt});
  KernelRewriter outer(graph);
  for (int k = 0; k < stacks; ++k) {
    AccessMap map = loopIndices(0, shape.size());
    last = rewriter.map(shape, {{last, map, std::nullopt}, {slice, map, std::nullopt}}, sum.body);
    body.outputs.push_back(last);
    ValueId id = outer.value(f16, all);
    scan.writes.emplace_back().value = id;
    addOutput(graph, "times " + std::to_string(k + 2), id);
  }
  body.kernels = std::move(rewriter.kernels);
  body.outputNames.assign(stacks, "");
  scan.region = std::make_shared<KernelGraph>(std::move(body));
  graph.kernels.push_back(std::move(scan));

  program::Program program = compiled(graph, Loops::Repeated);
  ASSERT_EQ(finding(program), "");
  EXPECT_EQ(repeatsOf(program), 1U);
  std::vector<float> numbers(4 * 5 * 7);
  std::iota(numbers.begin(), numbers.end(), 1.0F);
  target::RunResult result = ran(program, {{"sequence", convert(floats(all, numbers), f16)}});
  for (int times = 2; times < stacks + 2; ++times) {
    std::vector<float> expected;
    for (float number : numbers)
      expected.push_back(number * static_cast<float>(times));
    Tensor output = convert(result.outputs.at("times " + std::to_string(times)), f32);
    EXPECT_EQ(valuesOf<float>(output), expected) << times;
  }
}

// Code does not grow with the trip count.
TEST(IpuLoops, codeIsThatOfOneTurn) {
  auto stepsOfTurn = [](int64_t trips) {
    Loaded loaded = llvm::cantFail(Loaded::from(compiled(scanOver(trips, 0, 3), Loops::Repeated)));
    const std::vector<Step> &steps = loaded.code.entries[0];
    auto begin = llvm::find_if(steps, [](const Step &step) { return step.kind == StepKind::Repeat; });
    EXPECT_EQ(begin->index, trips);
    return llvm::find_if(steps, [](const Step &step) { return step.kind == StepKind::End; }) - begin;
  };
  EXPECT_EQ(stepsOfTurn(40), stepsOfTurn(4));
}

// What is proven not to reach an output does not, over all turns.
TEST(IpuLoops, mutationsThatAreProvenChangeNothing) {
  program::Program program = compiled(scanOver(4, 0, 3), Loops::Repeated);
  target::NamedTensors inputs = {{"total", floats({3}, {1, 2, 3})},
                                 {"a", floats({3}, {5, 10, 15})},
                                 {"b", floats({3}, {7, 14, 21})},
                                 {"other", floats({3}, {0, 0, 0})},
                                 {"sequence", floats({4, 3}, {1, 2, 3, 10, 20, 30, 100, 200, 300, 1000, 2000, 3000})}};
  target::NamedTensors right = ran(program, inputs).outputs;
  auto mutations = llvm::cantFail(target::find("ipu")->mutations(program));
  int wrong = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    target::Mutation mutation = llvm::cantFail(mutations->make(seed));
    if (!finding(mutation.program).empty())
      continue;
    mutations->prove(mutation);
    target::NamedTensors outputs = ran(mutation.program, inputs).outputs;
    bool equal = llvm::all_of(right, [&](const auto &each) {
      return valuesOf<float>(each.second) == valuesOf<float>(outputs.at(each.first));
    });
    EXPECT_TRUE(equal || mutation.effect != target::MutationEffect::Benign) << mutation.description;
    wrong += !equal;
  }
  EXPECT_GT(wrong, 0);
}

// Of each turn y = x + x, then z = y + y, then y goes over to the other tile in x's place.
const char *const turns = R"(.target ipu
.machine unit-ipu
.precision "f32"
.input "x" f32[4]
.input "byte" u8[1]
.output "z" f32[4]
.expression
.in f32
.op input f32
.op add f32 0 0
.result 1
.placement input "x" type=f32
.part tiles=0 address=8192 begin=[0] extents=[4] shift=[0]
.digit dimension=0 extent=4 stride=4
.placement input "byte" type=u8
.part tiles=1 address=8192 begin=[0] extents=[1] shift=[0]
.digit dimension=0 extent=1 stride=1
.placement output "z" type=f32
.part tiles=0 address=8224 begin=[0] extents=[4] shift=[0]
.digit dimension=0 extent=4 stride=4
.compute_set "y"
popops::Map tiles=0 expression=0 extents=[4] in=[8192] in_strides=[1] out=[8208] out_strides=[1]
.compute_set "z"
popops::Map tiles=0 expression=0 extents=[4] in=[8208] in_strides=[1] out=[8224] out_strides=[1]
.exchange "a word with one byte that has been written"
send from=1 at=8192 to=0 into=8192 bytes=4
.steps "inference"
repeat 2
execute 0
execute 1
exchange 0
end
)";

TEST(IpuLoops, checkerFollowsTurns) {
  // The second turn reads bytes 8193 ... 8195, which the first one has made what they are on tile 1: unwritten.
  EXPECT_NE(finding(assembled(turns)).find("step 1, vertex 0: it reads byte 8193 of tile 0, which nothing has written"),
            std::string::npos)
      << finding(assembled(turns));
  EXPECT_EQ(finding(assembled(replaced(turns, "repeat 2", "repeat 1"))), "");
}

// Of the word at 8192 of tile 1 one byte has been written.
TEST(IpuLoops, checkerFollowsPartlyWrittenWords) {
  auto withSends = [](std::string text, const std::vector<std::string> &sends, const std::string &repeat) {
    text = replaced(text, ".exchange \"a word with one byte that has been written\"\n", "");
    std::string exchanges, steps = "execute 0\nexecute 1\n" + repeat + "\n";
    for (auto [i, send] : llvm::enumerate(sends)) {
      exchanges += ".exchange \"" + std::to_string(i) + "\"\n" + send + "\n";
      steps += "exchange " + std::to_string(i) + "\n";
    }
    text = replaced(text, "send from=1 at=8192 to=0 into=8192 bytes=4\n", exchanges);
    return replaced(text, "repeat 2\nexecute 0\nexecute 1\nexchange 0\n", steps);
  };
  // Each turn swaps it and the first word of z.
  std::vector<std::string> swap = {
      "send from=0 at=8224 to=1 into=8256 bytes=4", "send from=1 at=8192 to=0 into=8224 bytes=4",
      "send from=1 at=8256 to=0 into=8256 bytes=4", "send from=0 at=8256 to=1 into=8192 bytes=4"};
  EXPECT_EQ(finding(assembled(withSends(turns, swap, "repeat 16000000"))), "");
  EXPECT_NE(finding(assembled(withSends(turns, swap, "repeat 15999999"))).find("output 'z': it reads byte 8225 of"),
            std::string::npos);
  // It goes to the first word of z, which nothing else writes, before a whole word comes in its place.
  std::string text = replaced(turns, "expression=0 extents=[4] in=[8208] in_strides=[1] out=[8224]",
                              "expression=0 extents=[3] in=[8208] in_strides=[1] out=[8228]");
  std::vector<std::string> move = {"send from=1 at=8192 to=0 into=8224 bytes=4",
                                   "send from=0 at=8192 to=1 into=8192 bytes=4"};
  EXPECT_EQ(finding(assembled(withSends(text, move, "repeat 2"))), "");
  EXPECT_NE(finding(assembled(withSends(text, move, "repeat 1"))).find("output 'z': it reads byte 8225 of"),
            std::string::npos);
}

TEST(IpuLoops, livenessOverTurns) {
  std::string text = replaced(turns, "exchange 0\nend", "end");
  auto live = [&](const std::string &program) {
    program::Program made = assembled(program);
    auto loaded = llvm::cantFail(Loaded::from(made));
    return livenessOf(0, made, loaded.code, loaded.machine, 0).temporary;
  };
  // Three arrays of 16 bytes. In both turns x is needed; z of the first turn is never read. At `execute 1` x waits for
  // the next turn beside y and z.
  EXPECT_EQ(live(text), (std::vector<int64_t>{16, 32, 48, 16}));
  // Done once, x has been read before.
  EXPECT_EQ(live(replaced(text, "repeat 2", "repeat 1")), (std::vector<int64_t>{16, 32, 32, 16}));
}

} // namespace
} // namespace quadrille::ipu
