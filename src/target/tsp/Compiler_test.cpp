// The compiler's parts by themselves; whole models are in the conformance suite and in test/tsp_test.py.
#include "numerics/BlockEvaluator.h"
#include "numerics/Convert.h"
#include "target/tsp/Expand.h"
#include "target/tsp/TestProgram.h"

#include "gtest/gtest.h"

#include <bit>
#include <cmath>

namespace quadrille::tsp {
namespace {

BlockExpression unary(BlockOpcode opcode, ElementType type = ElementType::f32) {
  BlockExpression expression;
  expression.inputs = {type};
  Register x = expression.append(BlockOpcode::Input, type, {}, 0);
  expression.results = {expression.append(opcode, type, {x})};
  return expression;
}

std::vector<float> evaluate(const BlockExpression &expression, const std::vector<std::vector<float>> &inputs) {
  EXPECT_EQ(expression.verify(), "");
  BlockEvaluator evaluator = llvm::cantFail(BlockEvaluator::compile(expression));
  BlockEvaluator::Scratch scratch(evaluator);
  std::vector<BlockEvaluator::Operand> operands;
  operands.reserve(inputs.size());
  for (const std::vector<float> &input : inputs)
    operands.push_back({input.data(), 1});
  std::vector<float> result(inputs[0].size());
  evaluator.evaluate(operands, {{result.data(), 1}}, static_cast<int64_t>(result.size()), {}, scratch);
  return result;
}

// Units in the last place of an f32 between a result and what is right.
double distance(float got, double right) {
  if (std::isnan(right) || std::isinf(static_cast<float>(right)) || right == 0)
    return (std::isnan(right) && std::isnan(got)) || got == static_cast<float>(right) ? 0 : 1e30;
  int exponent = std::max(std::ilogb(right), -126);
  return std::fabs(static_cast<double>(got) - right) / std::ldexp(1.0, exponent - 23);
}

// Values of all magnitudes and both signs.
std::vector<float> spread() {
  std::vector<float> values = {0.0f, -0.0f, 1.0f,   -1.0f, 0.5f,        1.5f,
                               2.5f, -2.5f, 1e-30f, 3e30f, 0.99999994f, 1.0000001f};
  uint32_t state = 7;
  for (int i = 0; i < 20000; ++i) {
    state = state * 1664525 + 1013904223;
    // Exponents from 2^-60 to 2^60.
    uint32_t exponent = 67 + (state >> 9) % 121;
    values.push_back(std::bit_cast<float>((state & 0x80000000) | exponent << 23 | (state * 2654435761u >> 9)));
  }
  return values;
}

double worst(BlockOpcode opcode, double (*right)(double), bool positive = false) {
  std::vector<float> values = spread();
  if (positive)
    for (float &value : values)
      value = std::fabs(value);
  std::vector<float> got = evaluate(expand(unary(opcode)), {values});
  double most = 0;
  for (size_t i = 0; i < values.size(); ++i)
    most = std::max(most, distance(got[i], right(static_cast<double>(values[i]))));
  return most;
}

TEST(TspExpand, FunctionsAreAsCloseAsTheySay) {
  EXPECT_LE(worst(BlockOpcode::SquareRoot, [](double x) { return std::sqrt(x); }, true), 4);
  EXPECT_LE(worst(BlockOpcode::Reciprocal, [](double x) { return 1 / x; }), 4);
  EXPECT_LE(worst(BlockOpcode::Log, [](double x) { return std::log(x); }, true), 4);
  EXPECT_EQ(worst(BlockOpcode::Floor, [](double x) { return std::floor(x); }), 0);
  EXPECT_EQ(worst(BlockOpcode::Ceil, [](double x) { return std::ceil(x); }), 0);
  EXPECT_EQ(worst(BlockOpcode::Truncate, [](double x) { return std::trunc(x); }), 0);
  EXPECT_EQ(worst(BlockOpcode::RoundEven, [](double x) { return std::nearbyint(x); }), 0);
}

TEST(TspExpand, SpecialValues) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> log = evaluate(expand(unary(BlockOpcode::Log)), {{0.0f, -1.0f, infinity, NAN, 1e-40f}});
  EXPECT_EQ(log[0], -infinity);
  EXPECT_TRUE(std::isnan(log[1]));
  EXPECT_EQ(log[2], infinity);
  EXPECT_TRUE(std::isnan(log[3]));
  EXPECT_LE(distance(log[4], std::log(static_cast<double>(1e-40f))), 4);
  std::vector<float> root = evaluate(expand(unary(BlockOpcode::SquareRoot)), {{0.0f, infinity, -1.0f}});
  EXPECT_EQ(root[0], 0.0f);
  EXPECT_EQ(root[1], infinity);
  EXPECT_TRUE(std::isnan(root[2]));
}

// `rounds`: what is made of the quotient, besides itself.
BlockExpression quotient(std::optional<BlockOpcode> rounds) {
  BlockExpression expression;
  expression.inputs = {ElementType::f32, ElementType::f32};
  Register a = expression.append(BlockOpcode::Input, ElementType::f32, {}, 0);
  Register b = expression.append(BlockOpcode::Input, ElementType::f32, {}, 1);
  Register q = expression.append(BlockOpcode::Divide, ElementType::f32, {a, b});
  if (rounds)
    expression.append(*rounds, ElementType::f32, {q});
  expression.results = {q};
  return expression;
}

TEST(TspExpand, QuotientsThatAreRoundedAreExactWhereTheyCanBe) {
  std::vector<float> dividends, divisors;
  for (int x = -60; x <= 60; ++x)
    for (int y = 1; y <= 60; ++y) {
      dividends.push_back(static_cast<float>(x));
      divisors.push_back(static_cast<float>(y));
    }
  std::vector<float> got = evaluate(expand(quotient(BlockOpcode::RoundEven)), {dividends, divisors});
  std::vector<float> close = evaluate(expand(quotient(std::nullopt)), {dividends, divisors});
  for (size_t i = 0; i < got.size(); ++i) {
    double right = static_cast<double>(dividends[i]) / static_cast<double>(divisors[i]);
    EXPECT_LE(distance(close[i], right), 4) << dividends[i] << " / " << divisors[i];
    EXPECT_LE(distance(got[i], right), 1) << dividends[i] << " / " << divisors[i];
    if (right == static_cast<double>(static_cast<float>(right)))
      EXPECT_EQ(got[i], static_cast<float>(right)) << dividends[i] << " / " << divisors[i];
  }
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (auto rounds : {std::optional(BlockOpcode::Floor), std::optional<BlockOpcode>()}) {
    std::vector<float> special = evaluate(expand(quotient(rounds)), {{1, -1, 0, infinity, 1}, {0, 0, 0, 2, infinity}});
    EXPECT_EQ(special[0], infinity);
    EXPECT_EQ(special[1], -infinity);
    EXPECT_TRUE(std::isnan(special[2]));
    EXPECT_EQ(special[3], infinity);
    EXPECT_EQ(special[4], 0.0f);
  }
}

// However an expression is cut, its stages together are the expression: every stage is one chain, and evaluating them
// one after the other gives the same bits.
TEST(TspExpand, StagesAreTheWhole) {
  auto machine = Architecture::from(llvm::cantFail(machine::Machine::load("unit-tsp")));
  ASSERT_TRUE(bool(machine));
  for (BlockOpcode opcode : {BlockOpcode::Log, BlockOpcode::Erf, BlockOpcode::Floor, BlockOpcode::Tanh}) {
    BlockExpression whole = expand(unary(opcode));
    std::string reason;
    auto stages = splitIntoStages(whole, *machine, reason);
    ASSERT_TRUE(stages.has_value()) << reason;
    std::vector<float> values = spread();
    for (float &value : values)
      value = std::fabs(value);
    std::vector<std::vector<std::vector<uint32_t>>> made; // by stage and result
    for (const Stage &stage : stages->list) {
      BlockEvaluator evaluator = llvm::cantFail(BlockEvaluator::compile(stage.body));
      BlockEvaluator::Scratch scratch(evaluator);
      std::vector<BlockEvaluator::Operand> operands;
      for (const Stage::Input &input : stage.inputs)
        operands.push_back(input.read ? BlockEvaluator::Operand{values.data(), 1}
                                      : BlockEvaluator::Operand{made[input.stage][input.result].data(), 1});
      std::vector<std::vector<uint32_t>> results(stage.body.results.size(), std::vector<uint32_t>(values.size()));
      std::vector<BlockEvaluator::Output> outputs;
      for (std::vector<uint32_t> &result : results)
        outputs.push_back({result.data(), 1});
      evaluator.evaluate(operands, outputs, static_cast<int64_t>(values.size()), {}, scratch);
      made.push_back(std::move(results));
    }
    std::vector<float> right = evaluate(whole, {values});
    auto [stage, result] = stages->results[0];
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(made[stage][result][i], std::bit_cast<uint32_t>(right[i])) << values[i];
  }
}

TEST(TspCompiler, SaysWhatItLacks) {
  graph::KernelGraph graph;
  graph.nodes.push_back({"look", "Gather"});
  graph.values.push_back({"y", ElementType::u32, {2}, graph::ValueRole::Intermediate, {}, std::nullopt});
  graph.kernels.emplace_back().operation = "random_bits";
  graph.kernels[0].writes.push_back({0, {}, graph::Combiner::None, std::nullopt, std::nullopt});
  graph.kernels[0].nodes = {0};
  graph.outputs = {0};
  graph.outputNames = {"y"};
  auto machine = machine::Machine::load("unit-tsp");
  ASSERT_TRUE(bool(machine));
  auto plan = target::find("tsp")->plan(graph, *machine, {});
  ASSERT_FALSE(bool(plan));
  Reported reported = report(plan.takeError());
  EXPECT_EQ(reported.message, "look: kernel 'random_bits' is not supported: 'random_bits' is not compiled yet");
  EXPECT_EQ(reported.exitCode, 1);
  target::Support support = target::find("tsp")->supports(graph, graph.kernels[0], *machine);
  EXPECT_EQ(support.reason, "'random_bits' is not compiled yet");
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
