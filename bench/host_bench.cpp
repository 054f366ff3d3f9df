// Kernels of the reference, each as a graph of its own that is compiled once. Bytes count every operand and result
// once.
#include "target/host/Executor.h"
#include "target/host/GraphBuilder.h"

#include <benchmark/benchmark.h>

using namespace quadrille;
using namespace quadrille::graph;
using namespace quadrille::host;

namespace {

void runGraph(benchmark::State &state, GraphBuilder &b, double flops) {
  std::vector<Tensor> inputs;
  inputs.reserve(b.graph.inputs.size());
  for (ValueId id : b.graph.inputs)
    inputs.push_back(randomTensor(b.graph.values[id].type, b.graph.values[id].shape, id));
  std::unique_ptr<Executor> executor = llvm::cantFail(Executor::create(makePlan(b.graph)));
  for ([[maybe_unused]] auto _ : state)
    benchmark::DoNotOptimize(llvm::cantFail(executor->run(inputs)));
  state.counters["flop/s"] =
      benchmark::Counter(flops * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

ElementType typeOf(const benchmark::State &state) {
  return static_cast<ElementType>(state.range(0));
}

Kernel &mapKernel(GraphBuilder &b, ValueId from, ValueId to, BlockOpcode opcode) {
  const Value &value = b.graph.values[from];
  Kernel &k = b.kernel(KernelKind::Map, "map");
  AccessMap map;
  for (size_t d = 0; d < value.shape.size(); ++d) {
    k.loops.push_back({value.shape[d]});
    map.push_back({0, {{static_cast<unsigned>(d), 1}}});
  }
  k.reads = {{from, map, {}}};
  k.writes = {{to, map, Combiner::None, {}, {}}};
  k.body.inputs = {value.type};
  Register x = k.body.append(BlockOpcode::Input, value.type, {}, 0);
  if (operandCount(opcode) == 1) {
    k.body.results = {k.body.append(opcode, value.type, {x})};
  } else {
    Register zero = k.body.append(BlockOpcode::Constant, value.type);
    k.body.results = {k.body.append(opcode, value.type, {x, zero})};
  }
  return k;
}

void convolution(benchmark::State &state) { // 3x3, 64 -> 64 channels, 56 x 56
  ElementType type = typeOf(state);
  GraphBuilder b;
  ValueId x = b.input("x", type, {1, 64, 56, 56}), w = b.constant("w", randomTensor(type, {64, 64, 3, 3}, 9));
  ValueId y = b.value("y", type, {1, 64, 56, 56});
  b.contract({{1}, {64}, {56}, {56}, {64, true}, {3, true}, {3, true}},
             {x, {{0, {{0, 1}}}, {0, {{4, 1}}}, {-1, {{2, 1}, {5, 1}}}, {-1, {{3, 1}, {6, 1}}}}, scalarOf(type, 0)},
             {w, loopsMap({1, 4, 5, 6}), {}}, y, loopsMap({0, 1, 2, 3}));
  b.output(y);
  runGraph(state, b, 2.0 * 64 * 64 * 9 * 56 * 56);
}
BENCHMARK(convolution)->ArgName("type")->Arg(int(ElementType::f32))->Arg(int(ElementType::f16))->UseRealTime();

void matrixProduct(benchmark::State &state) {
  ElementType type = typeOf(state);
  GraphBuilder b;
  int64_t n = 512;
  ElementType result = isInteger(type) ? ElementType::i32 : type;
  ValueId x = b.input("x", type, {n, n}), w = b.constant("w", randomTensor(type, {n, n}, 9));
  ValueId y = b.value("y", result, {n, n});
  b.contract({{n}, {n}, {n, true}}, {x, loopsMap({0, 2}), {}}, {w, loopsMap({2, 1}), {}}, y, loopsMap({0, 1}));
  b.output(y);
  runGraph(state, b, 2.0 * n * n * n);
}
BENCHMARK(matrixProduct)
    ->ArgName("type")
    ->Arg(int(ElementType::f32))
    ->Arg(int(ElementType::f16))
    ->Arg(int(ElementType::i8))
    ->UseRealTime();

void elementwise(benchmark::State &state) {
  ElementType type = typeOf(state);
  GraphBuilder b;
  ValueId x = b.input("x", type, {1 << 20}), y = b.value("y", type, {1 << 20});
  mapKernel(b, x, y, static_cast<BlockOpcode>(state.range(1)));
  b.output(y);
  runGraph(state, b, 1 << 20);
}
BENCHMARK(elementwise)
    ->ArgNames({"type", "opcode"})
    ->Args({int(ElementType::f32), int(BlockOpcode::Maximum)})
    ->Args({int(ElementType::f16), int(BlockOpcode::Maximum)})
    ->Args({int(ElementType::f32), int(BlockOpcode::Exp)})
    ->UseRealTime();

void maxPool(benchmark::State &state) { // 3x3, stride 2 of 64 x 111 x 111
  ElementType type = typeOf(state);
  GraphBuilder b;
  ValueId x = b.input("x", type, {1, 64, 111, 111}), y = b.value("y", type, {1, 64, 55, 55});
  Kernel &k = b.kernel(KernelKind::Window, "max_pool");
  k.loops = {{1}, {64}, {55}, {55}, {3, true}, {3, true}};
  k.reads = {{x, {{0, {{0, 1}}}, {0, {{1, 1}}}, {0, {{2, 2}, {4, 1}}}, {0, {{3, 2}, {5, 1}}}}, {}}};
  k.writes = {{y, loopsMap({0, 1, 2, 3}), Combiner::Maximum, scalarOf(type, -INFINITY), {}}};
  k.body.inputs = {type};
  k.body.results = {k.body.append(BlockOpcode::Input, type, {}, 0)};
  b.output(y);
  runGraph(state, b, 64.0 * 55 * 55 * 9);
}
BENCHMARK(maxPool)->ArgName("type")->Arg(int(ElementType::f32))->Arg(int(ElementType::f16))->UseRealTime();

void sumOfRows(benchmark::State &state) {
  GraphBuilder b;
  ValueId x = b.input("x", ElementType::f32, {1024, 1024}), y = b.value("y", ElementType::f32, {1024});
  Kernel &k = b.kernel(KernelKind::Reduce, "sum");
  k.loops = {{1024}, {1024, true}};
  k.reads = {{x, state.range(0) ? loopsMap({1, 0}) : loopsMap({0, 1}), {}}};
  k.writes = {{y, loopsMap({0}), Combiner::Sum, scalarOf(ElementType::f32, 0), {}}};
  k.body.inputs = {ElementType::f32};
  k.body.results = {k.body.append(BlockOpcode::Input, ElementType::f32, {}, 0)};
  b.output(y);
  runGraph(state, b, 1 << 20);
}
BENCHMARK(sumOfRows)->ArgName("of columns")->Arg(0)->Arg(1)->UseRealTime();

void transpose(benchmark::State &state) {
  GraphBuilder b;
  ValueId x = b.input("x", ElementType::f32, {1024, 1024}), y = b.value("y", ElementType::f32, {1024, 1024});
  Kernel &k = b.kernel(KernelKind::Move, "transpose");
  k.loops = {{1024}, {1024}};
  k.reads = {{x, loopsMap({1, 0}), {}}};
  k.writes = {{y, loopsMap({0, 1}), Combiner::None, {}, {}}};
  k.body.inputs = {ElementType::f32};
  k.body.results = {k.body.append(BlockOpcode::Input, ElementType::f32, {}, 0)};
  b.output(y);
  runGraph(state, b, 0);
}
BENCHMARK(transpose)->UseRealTime();

} // namespace

BENCHMARK_MAIN();
