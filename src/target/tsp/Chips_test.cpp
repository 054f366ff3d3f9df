// Models on several chips.
#include "numerics/Convert.h"
#include "target/Compile.h"
#include "target/tsp/Code.h"
#include "target/tsp/Partition.h"
#include "target/tsp/Split.h"
#include "target/tsp/TestProgram.h"

#include "llvm/ADT/STLExtras.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"

#include "gtest/gtest.h"

namespace quadrille::tsp {
namespace {

constexpr int64_t rows = 2;

// Layers h = relu(x * W), f16 factors and f32 sums, and behind them the last layer's result plus the first one's; or
// up to the last layer's product. Elements are small integers, of which all sums are exact.
struct Layers {
  graph::KernelGraph graph;
  std::vector<std::vector<int64_t>> weights; // k, n
  std::vector<int64_t> input;
  int64_t width;
  bool upToProduct;

  explicit Layers(size_t count, int64_t width = 32, bool upToProduct = false) : width(width), upToProduct(upToProduct) {
    graph.name = "layers";
    uint32_t state = 3;
    auto next = [&](int64_t below) {
      state = state * 1664525 + 1013904223;
      return static_cast<int64_t>(state >> 16) % below;
    };
    graph.values.push_back({"x", ElementType::f32, {rows, width}, graph::ValueRole::Input, {}, std::nullopt});
    graph.inputs = {0};
    for (int64_t i = 0; i < rows * width; ++i)
      input.push_back(next(4));
    for (size_t layer = 0; layer < count; ++layer) {
      // Two elements of a row are not zero, so that values stay small.
      std::vector<int64_t> weight(width * width);
      for (int64_t k = 0; k < width; ++k)
        for (int i = 0; i < 2; ++i)
          weight[k * width + next(width)] = next(3) - 1;
      weights.push_back(weight);
      std::vector<float> data(weight.begin(), weight.end());
      auto w = add("w" + std::to_string(layer), {width, width}, graph::ValueRole::Constant);
      graph.values[w].data = Tensor::of<float>(ElementType::f32, {width, width}, llvm::ArrayRef(data));
      graph::ValueId x = graph.kernels.empty() ? 0 : graph.kernels.back().writes[0].value;
      auto product = add("product" + std::to_string(layer), {rows, width}, graph::ValueRole::Intermediate);
      graph::Kernel &contract = kernel("matmul", graph::KernelKind::Contract);
      contract.loops = {{rows, false}, {width, false}, {width, true}};
      contract.reads = {{x, {along(0), along(2)}, std::nullopt}, {w, {along(2), along(1)}, std::nullopt}};
      contract.writes.push_back(
          {product, {along(0), along(1)}, graph::Combiner::Sum, graph::Scalar{ElementType::f32, 0}, std::nullopt});
      combine(contract, BlockOpcode::Multiply);
      if (upToProduct && layer + 1 == count) {
        finish(product);
        return;
      }
      auto result = add("h" + std::to_string(layer), {rows, width}, graph::ValueRole::Intermediate);
      graph::Kernel &relu = kernel("relu", graph::KernelKind::Map);
      relu.loops = {{rows, false}, {width, false}};
      relu.reads = {{product, {along(0), along(1)}, std::nullopt}};
      relu.writes.push_back({result, {along(0), along(1)}, graph::Combiner::None, std::nullopt, std::nullopt});
      relu.body.inputs = {ElementType::f32};
      Register a = relu.body.append(BlockOpcode::Input, ElementType::f32, {}, 0);
      Register zero = relu.body.append(BlockOpcode::Constant, ElementType::f32, {}, 0);
      relu.body.results = {relu.body.append(BlockOpcode::Maximum, ElementType::f32, {a, zero})};
    }
    graph::ValueId last = graph.kernels.back().writes[0].value, first = graph.kernels[1].writes[0].value;
    auto sum = add("y", {rows, width}, graph::ValueRole::Intermediate);
    graph::Kernel &skip = kernel("add", graph::KernelKind::Map);
    skip.loops = {{rows, false}, {width, false}};
    skip.reads = {{last, {along(0), along(1)}, std::nullopt}, {first, {along(0), along(1)}, std::nullopt}};
    skip.writes.push_back({sum, {along(0), along(1)}, graph::Combiner::None, std::nullopt, std::nullopt});
    combine(skip, BlockOpcode::Add);
    finish(sum);
  }

  std::vector<float> right() const {
    std::vector<int64_t> x = input, first;
    for (auto [layer, weight] : llvm::enumerate(weights)) {
      bool last = upToProduct && layer + 1 == weights.size();
      std::vector<int64_t> y(rows * width);
      for (int64_t m = 0; m < rows; ++m)
        for (int64_t n = 0; n < width; ++n) {
          for (int64_t k = 0; k < width; ++k)
            y[m * width + n] += x[m * width + k] * weight[k * width + n];
          y[m * width + n] = last ? y[m * width + n] : std::max<int64_t>(y[m * width + n], 0);
        }
      x = y;
      if (first.empty())
        first = x;
    }
    std::vector<float> result;
    for (int64_t i = 0; i < rows * width; ++i)
      result.push_back(static_cast<float>(upToProduct ? x[i] : x[i] + first[i]));
    return result;
  }

  target::NamedTensors inputs() const {
    std::vector<float> data(input.begin(), input.end());
    return {{"x", Tensor::of<float>(ElementType::f32, {rows, width}, llvm::ArrayRef(data))}};
  }

private:
  void finish(graph::ValueId result) {
    graph.outputs = {result};
    graph.outputNames = {"y"};
    for (graph::Kernel &each : graph.kernels)
      graph::countWork(graph, each);
    EXPECT_EQ(graph.verify(), "");
  }
  static graph::DimensionAccess along(unsigned loop) { return {0, {{loop, 1}}}; }
  graph::ValueId add(const std::string &name, Shape shape, graph::ValueRole role) {
    graph.values.push_back({name, ElementType::f32, std::move(shape), role, {}, std::nullopt});
    return static_cast<graph::ValueId>(graph.values.size() - 1);
  }
  graph::Kernel &kernel(const std::string &name, graph::KernelKind kind) {
    graph.nodes.push_back({name + std::to_string(graph.nodes.size()), name});
    graph::Kernel &result = graph.kernels.emplace_back();
    result.operation = name;
    result.kind = kind;
    result.nodes = {static_cast<uint32_t>(graph.nodes.size() - 1)};
    return result;
  }
  static void combine(graph::Kernel &kernel, BlockOpcode opcode) {
    kernel.body.inputs = {ElementType::f32, ElementType::f32};
    Register a = kernel.body.append(BlockOpcode::Input, ElementType::f32, {}, 0);
    Register b = kernel.body.append(BlockOpcode::Input, ElementType::f32, {}, 1);
    kernel.body.results = {kernel.body.append(opcode, ElementType::f32, {a, b})};
  }
};

// unit-tsp-node with another number of words in a bank, and more slices for the program's text.
machine::Machine machineOf(int64_t words) {
  llvm::SmallString<128> path;
  EXPECT_FALSE(llvm::sys::fs::createTemporaryFile("few-words", "yaml", path));
  std::error_code failed;
  llvm::raw_fd_ostream(path, failed) << "description: \"A test bench with " << words << " words in a bank\"\n"
                                     << "chip: {name: unit-tsp-node}\n"
                                     << "defaults: {status: assumed, source: \"test bench\"}\n"
                                     << "figures:\n  mem.words_per_bank: {value: " << words << ", range: [" << words
                                     << ", " << words << "]}\n"
                                     << "  mem.reserved_west: {value: [1, 3, 5, 7, 9, 11, 13, 15]}\n"
                                     << "  mem.reserved_east: {value: [1, 3, 5, 7, 9, 11, 13, 15]}\n";
  auto machine = machine::Machine::load(path);
  (void)llvm::sys::fs::remove(path);
  return llvm::cantFail(std::move(machine));
}

llvm::Expected<program::Program> compileOn(const Layers &model, const machine::Machine &machine, int64_t chips) {
  return target::compile(*target::find("tsp"), model.graph, machine, {"", chips});
}

// Runs it, and compares with the exact values and the estimate.
timeline::Timeline expectRight(const Layers &model, const program::Program &program) {
  const target::Target &tsp = *target::find("tsp");
  auto result = tsp.simulate(program, model.inputs(), {});
  auto estimate = tsp.estimate(program);
  if (!result || !estimate) {
    ADD_FAILURE() << report(result ? estimate.takeError() : result.takeError()).message;
    return {};
  }
  EXPECT_EQ(valuesOf<float>(result->outputs.at("y")), model.right());
  EXPECT_EQ(result->timeline.cycles, estimate->cycles);
  return std::move(*estimate);
}

TEST(TspChips, ValuesDoNotDependOnTheirNumber) {
  Layers model(12);
  // Nodes of four chips; two cables from one to the next.
  machine::Machine machine = llvm::cantFail(machine::Machine::load("unit-tsp-rack"));
  for (int64_t chips : {1, 2, 4, 8, 12}) {
    auto program = compileOn(model, machine, chips);
    ASSERT_TRUE(bool(program)) << report(program.takeError()).message;
    EXPECT_EQ(program->chips, chips);
    timeline::Timeline timeline = expectRight(model, *program);
    ASSERT_EQ(timeline.figures.interval.has_value(), chips > 1);
    if (chips == 1)
      continue;
    // Some chip works in every cycle of a run, so the longest time of one is at least its share; and none works all
    // the time.
    EXPECT_LT(timeline.figures.interval->value, timeline.cycles.value);
    EXPECT_GE(timeline.figures.interval->value * chips, timeline.cycles.value);
  }
}

// Each chip's first instruction is dispatched when the notification arrives, at 35; all is done at 385.
TEST(TspChips, RunsFollowEachOtherAsTheLongestChipAllows) {
  llvm::StringRef folder(QUADRILLE_SOURCE_DIR "/examples/tsp/");
  auto text = llvm::MemoryBuffer::getFile(folder + "two_chips.tspasm");
  ASSERT_TRUE(bool(text));
  auto timeline = target::find("tsp")->estimate(assembleOrFail((*text)->getBuffer().str()));
  ASSERT_TRUE(bool(timeline)) << report(timeline.takeError()).message;
  EXPECT_EQ(timeline->cycles, Cycles(385));
  EXPECT_EQ(timeline->figures.interval, Cycles(385 - 35));
}

// A layer has a tile of 32 rows: 2 blocks of 16 vectors of low bytes and as many of high ones, 64 words, and 24 layers
// 1,536. A chip has 16 slices of 2 banks for data: 32 words for each word of a bank. 24 layers cannot do with 46 (1,472
// words), and twelve, with what else lies there, can; twelve cannot do with 23 (736 of 768), and six can.
TEST(TspChips, AsFewAsItFitsOn) {
  Layers model(24);
  for (auto [words, chips] : {std::pair(108, 1), std::pair(46, 2), std::pair(23, 4)}) {
    auto program = compileOn(model, machineOf(words), 0);
    ASSERT_TRUE(bool(program)) << report(program.takeError()).message;
    EXPECT_EQ(program->chips, chips) << words;
    expectRight(model, *program);
  }
}

TEST(TspChips, WhatDoesNotFitSaysWhatWould) {
  Layers model(48);
  auto program = compileOn(model, machineOf(16), 0);
  ASSERT_FALSE(bool(program));
  Reported reported = report(program.takeError());
  EXPECT_EQ(reported.exitCode, 1);
  // 4 chips x 32 banks x 16 words of 64 bytes are 128 KiB; the layers, of 64 words each, alone take 192 KiB.
  EXPECT_NE(reported.message.find("4 chips hold 0.12 MiB"), std::string::npos) << reported.message;
  auto three = compileOn(model, llvm::cantFail(machine::Machine::load("unit-tsp-node")), 3);
  ASSERT_FALSE(bool(three));
  Reported refused = report(three.takeError());
  EXPECT_EQ(refused.exitCode, 1);
  EXPECT_EQ(refused.message, "a program for unit-tsp-node cannot have 3 chips; --chips may be 1, 2, 4");
}

// 72 layers of 32 x 32 f16 are 144 KiB however they lie; a chip holds 32 KiB, four hold 128.
TEST(TspChips, WeightsThatNoChipsHoldAreRefusedAtOnce) {
  Layers model(72);
  auto program = compileOn(model, machineOf(16), 0);
  ASSERT_FALSE(bool(program));
  Reported reported = report(program.takeError());
  EXPECT_EQ(reported.exitCode, 1);
  EXPECT_NE(reported.message.find("the weights of products alone take 0.14 MiB, 4 chips hold 0.12 MiB; "
                                  "5 chips at least are needed"),
            std::string::npos)
      << reported.message;
}

// A layer of 256 x 256: 8 tiles of depth and 4 of columns of 64 words each, 2,048 words. A chip with 60 words in a bank
// has 1,920 for them, so that the layer itself must be cut.
TEST(TspChips, AWideLayerIsCut) {
  Layers model(1, 256);
  auto program = compileOn(model, machineOf(60), 0);
  ASSERT_TRUE(bool(program)) << report(program.takeError()).message;
  EXPECT_EQ(program->chips, 2);
  expectRight(model, *program);
}

// The same layer at the end of a model: what each chip makes of the output stays there.
TEST(TspChips, AnOutputLiesOnSeveralChips) {
  Layers model(1, 256, /*upToProduct=*/true);
  auto program = compileOn(model, machineOf(60), 0);
  ASSERT_TRUE(bool(program)) << report(program.takeError()).message;
  EXPECT_EQ(program->chips, 2);
  expectRight(model, *program);
  auto code = llvm::cantFail(Code::decode(program->payload()));
  std::map<int64_t, int64_t> columns; // by chip
  for (const Layout &layout : code.layouts)
    if (program->variables[layout.variable].role == program::VariableRole::Output) {
      ASSERT_EQ(layout.ranges.size(), 1u);
      EXPECT_EQ(layout.ranges[0].dimension, 1);
      columns[layout.chip] += layout.ranges[0].extent;
    }
  EXPECT_EQ(columns.size(), 2u);
  EXPECT_EQ(columns[0] + columns[1], 256);
}

// Rows of a table of 128 columns, in two parts side by side.
TEST(TspChips, ATableIsCutAlongItsColumns) {
  MachineGraph whole;
  graph::KernelGraph &graph = whole.graph;
  auto value = [&](ElementType type, Shape shape, graph::ValueRole role) {
    graph.values.push_back({"v" + std::to_string(graph.values.size()), type, std::move(shape), role, {}, std::nullopt});
    return static_cast<graph::ValueId>(graph.values.size() - 1);
  };
  std::vector<float> elements(100 * 128);
  for (size_t i = 0; i < elements.size(); ++i)
    elements[i] = static_cast<float>(i);
  graph::ValueId table = value(ElementType::f32, {100, 128}, graph::ValueRole::Constant);
  graph.values[table].data = Tensor::of<float>(ElementType::f32, {100, 128}, llvm::ArrayRef(elements));
  graph::ValueId indices = value(ElementType::i32, {3}, graph::ValueRole::Input);
  graph::ValueId rows = value(ElementType::f32, {3, 128}, graph::ValueRole::Intermediate);
  graph::Kernel &gather = graph.kernels.emplace_back();
  gather.operation = "gather";
  gather.kind = graph::KernelKind::Move;
  gather.attributes["axis"] = int64_t(0);
  gather.reads = {{table, {}, std::nullopt}, {indices, {}, std::nullopt}};
  gather.writes.push_back({rows, {}, graph::Combiner::None, std::nullopt, std::nullopt});
  graph.inputs = {indices};
  graph.outputs = {rows};
  graph.outputNames = {"y"};
  whole.outputs = {{0, {0, 0}}};
  SplitGraph split = splitProducts(whole, {2}, 64);
  EXPECT_EQ(split.graph.graph.verify(), "");
  ASSERT_EQ(split.graph.graph.kernels.size(), 2u);
  const graph::Kernel &second = split.graph.graph.kernels[1];
  const graph::Value &part = split.graph.graph.values[second.reads[0].value];
  EXPECT_EQ(part.shape, (Shape{100, 64}));
  EXPECT_EQ(part.data.data<float>()[0], 64);        // row 0, column 64
  EXPECT_EQ(part.data.data<float>()[65], 128 + 65); // row 1, column 65
  EXPECT_EQ(second.reads[1].value, indices);
  ASSERT_EQ(split.graph.outputs.size(), 2u);
  EXPECT_EQ(split.graph.outputs[1].begin, (Shape{0, 64}));
  EXPECT_EQ(split.graph.graph.values[split.graph.graph.outputs[1]].shape, (Shape{3, 64}));
}

TEST(TspChips, PartsOfAProductAreTheWhole) {
  Layers model(2, 256);
  MachineGraph whole;
  whole.graph = model.graph;
  whole.outputs = {{0, {0, 0}}};
  SplitGraph split = splitProducts(whole, {3, 5, 9, 1, 1}, 64);
  const graph::KernelGraph &cut = split.graph.graph;
  EXPECT_EQ(cut.verify(), "");
  std::vector<std::string> operations;
  std::vector<int64_t> columns;
  for (const graph::Kernel &kernel : cut.kernels) {
    operations.push_back(kernel.operation);
    columns.push_back(cut.values[kernel.writes[0].value].shape[1]);
  }
  // 256 in three parts is 86 each, which becomes 128: two. In nine it is 29 each, which becomes 64: four. Relu and the
  // sum at the end are no products.
  EXPECT_EQ(operations, (std::vector<std::string>{"matmul", "matmul", "concat", "relu", "matmul", "matmul", "matmul",
                                                  "matmul", "concat", "relu", "add"}));
  EXPECT_EQ(columns, (std::vector<int64_t>{128, 128, 256, 256, 64, 64, 64, 64, 256, 256, 256}));
  EXPECT_EQ(
      split.origins,
      (std::vector<std::pair<size_t, double>>{
          {0, 0.5}, {0, 0.5}, {0, 0}, {1, 1}, {2, 0.25}, {2, 0.25}, {2, 0.25}, {2, 0.25}, {2, 0}, {3, 1}, {4, 1}}));
  model.graph = cut;
  auto program = compileOn(model, llvm::cantFail(machine::Machine::load("unit-tsp")), 0);
  ASSERT_TRUE(bool(program)) << report(program.takeError()).message;
  expectRight(model, *program);
}

// Six kernels in a row; each reads the result of the one before, the last that of the first too.
graph::KernelGraph chain() {
  graph::KernelGraph graph;
  for (int i = 0; i < 7; ++i)
    graph.values.push_back({"v" + std::to_string(i),
                            ElementType::f32,
                            {1},
                            i == 0 ? graph::ValueRole::Input : graph::ValueRole::Intermediate,
                            {},
                            std::nullopt});
  for (graph::ValueId i = 0; i < 6; ++i) {
    graph::Kernel &kernel = graph.kernels.emplace_back();
    kernel.operation = "step";
    kernel.reads.push_back({i, {}, std::nullopt});
    kernel.writes.push_back({i + 1, {}, graph::Combiner::None, std::nullopt, std::nullopt});
  }
  graph.kernels.back().reads.push_back({1, {}, std::nullopt});
  graph.inputs = {0};
  graph.outputs = {6, 3};
  graph.outputNames = {"last", "middle"};
  return graph;
}

Costs costsOfChain(std::vector<int64_t> resident, std::vector<int64_t> cycles) {
  Costs costs;
  costs.valueWords = {0, 1, 1, 1, 1, 1, 1};
  for (size_t i = 0; i < resident.size(); ++i)
    costs.kernels.push_back({resident[i], 1, 0, cycles[i], static_cast<int64_t>(i)});
  return costs;
}

std::vector<size_t> beginsOf(const std::vector<ChipPart> &parts) {
  std::vector<size_t> result;
  for (const ChipPart &part : parts)
    result.push_back(part.first);
  return result;
}

TEST(TspChips, PartsAreBalanced) {
  graph::KernelGraph graph = chain();
  Architecture machine = llvm::cantFail(Architecture::from(llvm::cantFail(machine::Machine::load("unit-tsp-node"))));
  // A vector takes 67 cycles on a link; two values go over each cut but the first (there v1 alone). 0..2 | 3..5 has
  // 3000 + 134 and 3000 + 134 cycles; no other cut has as little on its larger side.
  Partition even(graph, machine, costsOfChain({1, 1, 1, 1, 1, 1}, {1000, 1000, 1000, 1000, 1000, 1000}));
  EXPECT_EQ(beginsOf(*even.parts(1)), (std::vector<size_t>{0}));
  EXPECT_EQ(beginsOf(*even.parts(2)), (std::vector<size_t>{0, 3}));
  // One long kernel: what is before it goes on a chip, and it, with the next ones as far as that is no slower.
  Partition uneven(graph, machine, costsOfChain({1, 1, 1, 1, 1, 1}, {1000, 9000, 1000, 1000, 1000, 1000}));
  EXPECT_EQ(beginsOf(*uneven.parts(4)).size(), 3u);
  EXPECT_EQ(beginsOf(*uneven.parts(4))[1], 1u);
  EXPECT_EQ(beginsOf(*uneven.parts(4))[2], 2u);
  // A chip has 29 slices of 2 banks of 8,192 words, 475,136: each of the large kernels needs another one. Over the cut
  // behind the first goes one value only.
  Partition large(graph, machine, costsOfChain({300000, 100000, 100000, 300000, 100000, 1}, {1, 1, 1, 1, 1, 1}));
  EXPECT_FALSE(large.parts(1));
  EXPECT_FALSE(large.parts(2));
  EXPECT_EQ(beginsOf(*large.parts(3)), (std::vector<size_t>{0, 1, 3}));
}

TEST(TspChips, WhatHasNotFitIsNotTriedAgain) {
  graph::KernelGraph graph = chain();
  for (auto [number, kernel] : llvm::enumerate(graph.kernels))
    kernel.operation = std::to_string(number);
  Architecture machine = llvm::cantFail(Architecture::from(llvm::cantFail(machine::Machine::load("unit-tsp-node"))));
  // Kernel i has i steps. The first four are 6 steps; 3 of them, half, are those before kernel 3.
  Partition partition(graph, machine, costsOfChain({1, 1, 1, 1, 1, 1}, {1000, 1000, 1000, 1000, 1000, 1000}));
  EXPECT_EQ(partition.kernelAt({0, 4, {}, {}, {}, {}}, 0.5), 3u);
  EXPECT_EQ(partition.kernelAt({0, 4, {}, {}, {}, {}}, 0.99), 3u);
  EXPECT_EQ(partition.kernelAt({2, 4, {}, {}, {}, {}}, 0.1), 3u);
  ASSERT_EQ(beginsOf(*partition.parts(2)), (std::vector<size_t>{0, 3}));
  partition.forbid(0, 2);
  EXPECT_EQ(beginsOf(*partition.parts(2)), (std::vector<size_t>{0, 2}));
  // With more before it, it does not fit either: behind 0 and 1 come 2 alone and the others.
  partition.forbid(2, 3);
  EXPECT_FALSE(partition.parts(2));
  EXPECT_EQ(beginsOf(*partition.parts(3)), (std::vector<size_t>{0, 2, 3}));
  partition.forbid(3, 3); // not even itself
  EXPECT_FALSE(partition.parts(4));

  // Where kernels 1 to 4 compute the same, no two of them go together.
  graph = chain();
  Partition alike(graph, machine, costsOfChain({1, 1, 1, 1, 1, 1}, {1000, 1000, 1000, 1000, 1000, 1000}));
  alike.forbid(1, 2);
  EXPECT_FALSE(alike.parts(3));
  EXPECT_EQ(beginsOf(alike.parts(4).value()), (std::vector<size_t>{0, 2, 3, 4}));
}

TEST(TspChips, FullestChipIsAsEmptyAsCanBe) {
  graph::KernelGraph graph = chain();
  Architecture machine = llvm::cantFail(Architecture::from(llvm::cantFail(machine::Machine::load("unit-tsp-node"))));
  // The first two kernels take nearly all of the time and little memory: by time they are apart, 0 | 1 2 3 4 5, which
  // needs 140,000 words on the second chip; 0 1 2 3 | 4 5 needs 80,000 on either.
  Partition partition(graph, machine,
                      costsOfChain({20000, 20000, 20000, 20000, 40000, 40000}, {9000, 9000, 1, 1, 1, 1}));
  EXPECT_EQ(beginsOf(partition.parts(2).value()), (std::vector<size_t>{0, 1}));
  EXPECT_EQ(beginsOf(partition.evenParts(2).value()), (std::vector<size_t>{0, 4}));
  EXPECT_FALSE(
      Partition(graph, machine, costsOfChain({300000, 300000, 300000, 1, 1, 1}, {1, 1, 1, 1, 1, 1})).evenParts(2));
}

TEST(TspChips, ValuesGoFromChipToChip) {
  graph::KernelGraph graph = chain();
  Architecture machine = llvm::cantFail(Architecture::from(llvm::cantFail(machine::Machine::load("unit-tsp-node"))));
  Partition partition(graph, machine, costsOfChain({1, 1, 1, 1, 1, 1}, {9000, 9000, 9000, 9000, 9000, 9000}));
  auto parts = partition.parts(4);
  ASSERT_TRUE(parts.has_value());
  for (size_t i = 0; i + 1 < parts->size(); ++i) {
    EXPECT_EQ((*parts)[i].end, (*parts)[i + 1].first);
    EXPECT_EQ((*parts)[i].leaving, (*parts)[i + 1].arriving);
    // v1, for the last kernel, and what the next kernel reads.
    std::vector<graph::ValueId> values = {1};
    if ((*parts)[i].end > 1)
      values.push_back(static_cast<graph::ValueId>((*parts)[i].end));
    EXPECT_EQ((*parts)[i].leaving, values);
  }
  EXPECT_EQ(parts->front().inputs, (std::vector<size_t>{0}));
  EXPECT_TRUE(parts->back().inputs.empty());
  EXPECT_EQ(parts->back().outputs, (std::vector<size_t>{0}));
}

} // namespace
} // namespace quadrille::tsp
