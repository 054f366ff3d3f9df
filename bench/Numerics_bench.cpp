// Conversions in bytes read and written a second; block expressions in elements a second. One thread.
#include "numerics/BlockEvaluator.h"
#include "numerics/Convert.h"

#include <benchmark/benchmark.h>

#include <cmath>
#include <vector>

using namespace quadrille;

namespace {

constexpr int64_t conversionElements = 1 << 16; // in L2
constexpr int64_t rowElements = 1 << 13;        // in L1 and L2

void conversion(benchmark::State &state, ElementType from, ElementType to) {
  std::vector<float> values(conversionElements);
  for (int64_t i = 0; i < conversionElements; ++i)
    values[i] = std::sin(static_cast<float>(i)) * 50;
  std::vector<double> source(conversionElements), target(conversionElements);
  convert(ElementType::f32, values.data(), from, source.data(), conversionElements);
  for ([[maybe_unused]] auto _ : state) {
    convert(from, source.data(), to, target.data(), conversionElements);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * conversionElements *
                          static_cast<int64_t>(byteWidth(from) + byteWidth(to)));
}

void stochastic(benchmark::State &state, ElementType to) {
  std::vector<float> values(conversionElements, 0.3f);
  std::vector<uint16_t> target(conversionElements);
  for ([[maybe_unused]] auto _ : state) {
    narrowStochastic(to, values.data(), target.data(), conversionElements, 1, 0);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * conversionElements * static_cast<int64_t>(4 + byteWidth(to)));
}

Register constant(BlockExpression &e, ElementType type, double value) {
  return e.append(BlockOpcode::Constant, type, {}, bitsFromDouble(type, value));
}

BlockExpression add(ElementType type) {
  BlockExpression e;
  e.inputs = {type, type};
  Register x = e.append(BlockOpcode::Input, type, {}, 0), y = e.append(BlockOpcode::Input, type, {}, 1);
  e.results = {e.append(BlockOpcode::Add, type, {x, y})};
  return e;
}

BlockExpression relu(ElementType type) {
  BlockExpression e;
  e.inputs = {type};
  Register x = e.append(BlockOpcode::Input, type);
  e.results = {e.append(BlockOpcode::Maximum, type, {x, constant(e, type, 0)})};
  return e;
}

BlockExpression gelu(ElementType type) {
  BlockExpression e; // x * 0.5 * (1 + erf(x / sqrt 2))
  e.inputs = {type};
  Register x = e.append(BlockOpcode::Input, type);
  Register scaled = e.append(BlockOpcode::Multiply, type, {x, constant(e, type, std::sqrt(0.5))});
  Register erf = e.append(BlockOpcode::Erf, type, {scaled});
  Register one = e.append(BlockOpcode::Add, type, {erf, constant(e, type, 1)});
  Register half = e.append(BlockOpcode::Multiply, type, {x, constant(e, type, 0.5)});
  e.results = {e.append(BlockOpcode::Multiply, type, {half, one})};
  return e;
}

BlockExpression unary(BlockOpcode opcode, ElementType type) {
  BlockExpression e;
  e.inputs = {type};
  e.results = {e.append(opcode, type, {e.append(BlockOpcode::Input, type)})};
  return e;
}

void expression(benchmark::State &state, const BlockExpression &body) {
  BlockEvaluator evaluator = llvm::cantFail(BlockEvaluator::compile(body));
  BlockEvaluator::Scratch scratch(evaluator);
  ElementType type = body.inputs[0];
  std::vector<float> values(rowElements);
  for (int64_t i = 0; i < rowElements; ++i)
    values[i] = std::sin(static_cast<float>(i)) * 3;
  std::vector<double> source(rowElements), target(rowElements);
  convert(ElementType::f32, values.data(), type, source.data(), rowElements);
  std::vector<BlockEvaluator::Operand> inputs(body.inputs.size(), {source.data(), 1});
  int64_t row = state.range(0);
  for ([[maybe_unused]] auto _ : state) {
    for (int64_t i = 0; i < rowElements; i += row)
      evaluator.evaluate(inputs, {{target.data(), 1}}, row, {}, scratch);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * rowElements);
}

void sum(benchmark::State &state, ElementType type) {
  std::vector<double> source(rowElements);
  float total = 0;
  for ([[maybe_unused]] auto _ : state) {
    combineInto(Combine::Sum, type, &total, source.data(), 1, rowElements);
    benchmark::DoNotOptimize(total);
  }
  state.SetItemsProcessed(state.iterations() * rowElements);
}

BENCHMARK_CAPTURE(conversion, f32_to_f16, ElementType::f32, ElementType::f16);
BENCHMARK_CAPTURE(conversion, f16_to_f32, ElementType::f16, ElementType::f32);
BENCHMARK_CAPTURE(conversion, f32_to_bf16, ElementType::f32, ElementType::bf16);
BENCHMARK_CAPTURE(conversion, bf16_to_f32, ElementType::bf16, ElementType::f32);
BENCHMARK_CAPTURE(conversion, f32_to_cb16, ElementType::f32, ElementType::cb16);
BENCHMARK_CAPTURE(conversion, f32_to_f8e4m3fn, ElementType::f32, ElementType::f8e4m3fn);
BENCHMARK_CAPTURE(conversion, f64_to_f16, ElementType::f64, ElementType::f16);
BENCHMARK_CAPTURE(conversion, f32_to_i8, ElementType::f32, ElementType::i8);
BENCHMARK_CAPTURE(conversion, i64_to_i32, ElementType::i64, ElementType::i32);
BENCHMARK_CAPTURE(stochastic, f16, ElementType::f16);
BENCHMARK_CAPTURE(expression, add_f32, add(ElementType::f32))->Arg(rowElements)->Arg(64)->Arg(49);
BENCHMARK_CAPTURE(expression, add_f16, add(ElementType::f16))->Arg(rowElements);
BENCHMARK_CAPTURE(expression, relu_f32, relu(ElementType::f32))->Arg(rowElements);
BENCHMARK_CAPTURE(expression, gelu_f32, gelu(ElementType::f32))->Arg(rowElements);
BENCHMARK_CAPTURE(expression, exp_f32, unary(BlockOpcode::Exp, ElementType::f32))->Arg(rowElements);
BENCHMARK_CAPTURE(expression, tanh_f32, unary(BlockOpcode::Tanh, ElementType::f32))->Arg(rowElements);
BENCHMARK_CAPTURE(sum, f32, ElementType::f32);
BENCHMARK_CAPTURE(sum, f16, ElementType::f16);

} // namespace

BENCHMARK_MAIN();
