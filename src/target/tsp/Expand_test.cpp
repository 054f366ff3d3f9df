// Functions that the vector unit lacks, against the C library's in f64, and expressions cut into stages.
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
  EXPECT_LE(worst(BlockOpcode::Log2, [](double x) { return std::log2(x); }, true), 4);
  EXPECT_LE(worst(BlockOpcode::Log1p, [](double x) { return std::log1p(x); }), 10);
  EXPECT_LE(worst(BlockOpcode::Exp2, [](double x) { return std::exp2(x); }), 4);
  EXPECT_LE(worst(BlockOpcode::Expm1, [](double x) { return std::expm1(x); }), 5);
  EXPECT_LE(worst(BlockOpcode::Sinh, [](double x) { return std::sinh(x); }), 8);
  EXPECT_LE(worst(BlockOpcode::Cosh, [](double x) { return std::cosh(x); }), 5);
  EXPECT_LE(worst(BlockOpcode::Asinh, [](double x) { return std::asinh(x); }), 16);
  EXPECT_LE(worst(BlockOpcode::Acosh, [](double x) { return std::acosh(x); }), 16);
  EXPECT_LE(worst(BlockOpcode::Atanh, [](double x) { return std::atanh(x); }), 16);
  EXPECT_LE(worst(BlockOpcode::Asin, [](double x) { return std::asin(x); }), 5);
  EXPECT_LE(worst(BlockOpcode::Acos, [](double x) { return std::acos(x); }), 6);
  EXPECT_LE(worst(BlockOpcode::Atan, [](double x) { return std::atan(x); }), 6);
  EXPECT_EQ(worst(BlockOpcode::Floor, [](double x) { return std::floor(x); }), 0);
  EXPECT_EQ(worst(BlockOpcode::Ceil, [](double x) { return std::ceil(x); }), 0);
  EXPECT_EQ(worst(BlockOpcode::Truncate, [](double x) { return std::trunc(x); }), 0);
  EXPECT_EQ(worst(BlockOpcode::RoundEven, [](double x) { return std::nearbyint(x); }), 0);
}

// convert_saturating(round_even(x) + offset), as QuantizeLinear does: what the reference makes of it, bit for bit, with
// a few operations.
TEST(TspExpand, QuantisationsAreExactAndShort) {
  std::vector<float> values = spread();
  for (int i = -2000; i <= 2000; ++i)
    for (float beside : {-1.0f, 0.0f, 1.0f}) // ties and their neighbours
      values.push_back(beside == 0 ? 0.5f * static_cast<float>(i)
                                   : std::nextafter(0.5f * static_cast<float>(i), beside * INFINITY));
  for (float special : {INFINITY, -INFINITY, NAN, 4194303.5f, -4194304.5f, 8388609.0f, -8388609.0f, 2147483648.0f})
    values.push_back(special);
  for (ElementType into : {ElementType::u8, ElementType::i8, ElementType::i16})
    for (double offset : {0.0, 1.0, 123.0, 255.0, -128.0, -37.0}) {
      BlockExpression quantised;
      quantised.inputs = {ElementType::f32};
      Register x = quantised.append(BlockOpcode::Input, ElementType::f32, {}, 0);
      Register rounded = quantised.append(BlockOpcode::RoundEven, ElementType::f32, {x});
      Register zero =
          quantised.append(BlockOpcode::Constant, ElementType::f32, {}, bitsFromDouble(ElementType::f32, offset));
      Register sum = quantised.append(BlockOpcode::Add, ElementType::f32, {rounded, zero});
      Register narrow = quantised.append(BlockOpcode::ConvertSaturating, into, {sum});
      quantised.results = {quantised.append(BlockOpcode::Convert, ElementType::f32, {narrow})};
      BlockExpression expanded = expand(quantised);
      EXPECT_LE(expanded.operationsPerElement(), offset == 0 ? 1u : 3u);
      std::vector<float> got = evaluate(expanded, {values}), right = evaluate(quantised, {values});
      for (size_t i = 0; i < values.size(); ++i)
        EXPECT_EQ(got[i], right[i]) << values[i] << " + " << offset << " as " << nameOf(into).str();
    }
}

// A constant divisor's quotient that only a function takes is a product: its last digit is less than what the function
// is away from exact, here 9e-7.
TEST(TspExpand, ArgumentsOfFunctionsAreMultiplied) {
  BlockExpression body;
  body.inputs = {ElementType::f32};
  Register x = body.append(BlockOpcode::Input, ElementType::f32, {}, 0);
  Register root = body.append(BlockOpcode::Constant, ElementType::f32, {}, bitsFromDouble(ElementType::f32, M_SQRT2));
  Register quotient = body.append(BlockOpcode::Divide, ElementType::f32, {x, root});
  body.results = {body.append(BlockOpcode::Erf, ElementType::f32, {quotient})};
  BlockExpression expanded = expand(body);
  EXPECT_LE(expanded.operationsPerElement(), 22u);
  std::vector<float> values;
  for (int i = -8000; i <= 8000; ++i)
    values.push_back(static_cast<float>(i) / 1000);
  std::vector<float> got = evaluate(expanded, {values});
  for (size_t i = 0; i < values.size(); ++i)
    EXPECT_NEAR(got[i], std::erf(values[i] / M_SQRT2), 9e-7) << values[i];
  // What is a result too, or rounded, keeps its digits.
  body.results.push_back(quotient);
  EXPECT_GT(expand(body).operationsPerElement(), 30u);
}

// The unit's own conversion to f16 makes infinities of what is too large.
TEST(TspExpand, SaturationOfFloatsIsWritten) {
  BlockExpression saturating = unary(BlockOpcode::ConvertSaturating);
  saturating.instructions[1].type = ElementType::f16;
  saturating.results = {saturating.append(BlockOpcode::Convert, ElementType::f32, {1})};
  BlockExpression expanded = expand(saturating);
  for (const BlockInstruction &instruction : expanded.instructions)
    EXPECT_NE(instruction.opcode, BlockOpcode::ConvertSaturating);
  EXPECT_EQ(evaluate(expanded, {{1, -2049, 65504, 65519, 65520, -65536, 1e30F, INFINITY, -INFINITY}}),
            (std::vector<float>{1, -2048, 65504, 65504, 65504, -65504, 65504, 65504, -65504}));
  EXPECT_TRUE(std::isnan(evaluate(expanded, {{NAN}})[0]));
}

// Of all arguments in [low, high] at equal steps.
template <typename Right> double farthest(BlockOpcode opcode, double low, double high, const Right &right) {
  std::vector<float> values;
  for (int i = 0; i <= 50000; ++i)
    values.push_back(static_cast<float>(low + (high - low) * i / 50000));
  std::vector<float> got = evaluate(expand(unary(opcode)), {values});
  double most = 0;
  for (size_t i = 0; i < values.size(); ++i)
    most = std::max(most, std::fabs(static_cast<double>(got[i]) - right(static_cast<double>(values[i]))));
  return most;
}

TEST(TspExpand, TrigonometryStaysCloseUpToAMillion) {
  for (double reach : {1.0, 10.0, 1000.0, 30000.0, 1048576.0}) {
    EXPECT_LE(farthest(BlockOpcode::Sin, -reach, reach, [](double x) { return std::sin(x); }), 1.2e-7) << reach;
    EXPECT_LE(farthest(BlockOpcode::Cos, -reach, reach, [](double x) { return std::cos(x); }), 1.2e-7) << reach;
  }
  EXPECT_LE(farthest(BlockOpcode::Erf, -6, 6, [](double x) { return std::erf(x); }), 8e-7);
  // Where the tangent is steep, neighbouring arguments are far apart: units in the last place.
  std::vector<float> values;
  for (int i = -20000; i <= 20000; ++i)
    values.push_back(static_cast<float>(i) * 0.37f);
  std::vector<float> got = evaluate(expand(unary(BlockOpcode::Tan)), {values});
  for (size_t i = 0; i < values.size(); ++i)
    EXPECT_LE(distance(got[i], std::tan(static_cast<double>(values[i]))), 8) << values[i];
  for (BlockOpcode opcode : {BlockOpcode::Sin, BlockOpcode::Cos, BlockOpcode::Tan})
    EXPECT_TRUE(std::isnan(evaluate(expand(unary(opcode)), {{1.1e6f}})[0]));
}

BlockExpression binary(BlockOpcode opcode, ElementType type = ElementType::f32) {
  BlockExpression expression;
  expression.inputs = {type, type};
  Register a = expression.append(BlockOpcode::Input, type, {}, 0);
  Register b = expression.append(BlockOpcode::Input, type, {}, 1);
  expression.results = {expression.append(opcode, type, {a, b})};
  return expression;
}

TEST(TspExpand, Powers) {
  std::vector<float> bases, exponents;
  for (float base : spread())
    for (float exponent : {0.75f, -1.5f, 3.0f, -2.0f, 17.3f, 1e-3f, 100.0f}) {
      bases.push_back(std::fabs(base));
      exponents.push_back(exponent);
    }
  for (int i = 1; i < 5000; ++i) { // near 1, to large exponents
    bases.push_back(1.0f + static_cast<float>(i - 2500) * 1e-5f);
    exponents.push_back(static_cast<float>(i % 100 - 50) * 40.7f);
  }
  std::vector<float> got = evaluate(expand(binary(BlockOpcode::Power)), {bases, exponents});
  for (size_t i = 0; i < bases.size(); ++i) {
    double right = std::pow(static_cast<double>(bases[i]), static_cast<double>(exponents[i]));
    if (std::fabs(right) > 1e-37 || right == 0)
      EXPECT_LE(distance(got[i], right), 8) << bases[i] << " ** " << exponents[i];
  }
  // The special cases of C's pow.
  constexpr float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> special = {0.0f, -0.0f, 1.0f, -1.0f, 2.0f, -2.0f, 0.5f, infinity, -infinity, NAN};
  std::vector<float> powers = {0.0f, 1.0f, -1.0f, 2.0f, -3.0f, 0.5f, -0.5f, infinity, -infinity, NAN, 3e9f};
  for (float base : special)
    for (float power : powers) {
      double right = std::pow(static_cast<double>(base), static_cast<double>(power));
      if (std::fabs(base) == 1 && std::isinf(power))
        continue; // C says 1
      float made = evaluate(expand(binary(BlockOpcode::Power)), {{base}, {power}})[0];
      EXPECT_LE(distance(made, right), 8) << base << " ** " << power;
    }
}

TEST(TspExpand, FloatRemaindersAreExact) {
  std::vector<float> dividends, divisors, values = spread();
  for (size_t i = 0; i + 1 < values.size(); ++i) {
    dividends.push_back(values[i]);
    divisors.push_back(values[i + 1]);
    dividends.push_back(values[i] * 1000); // the same magnitude
    divisors.push_back(std::copysign(std::fabs(values[i]) / 7 + 1e-30f, values[i + 1]));
  }
  for (auto [opcode, ofDivisor] : {std::pair(BlockOpcode::Remainder, false), std::pair(BlockOpcode::Modulo, true)}) {
    std::vector<float> got = evaluate(expand(binary(opcode)), {dividends, divisors});
    for (size_t i = 0; i < got.size(); ++i) {
      double a = dividends[i], b = divisors[i], right = std::fmod(a, b);
      if (ofDivisor && right != 0 && (right < 0) != (b < 0))
        right = static_cast<double>(static_cast<float>(right) + divisors[i]);
      bool isRight = got[i] == static_cast<float>(right) || (std::isnan(right) && std::isnan(got[i]));
      EXPECT_TRUE(isRight || (std::fabs(a / b) >= 0x1p44 && std::isnan(got[i])))
          << a << " by " << b << ": " << got[i] << ", not " << right;
    }
  }
}

template <typename T>
std::vector<T> evaluateIntegers(BlockOpcode opcode, ElementType type, const std::vector<T> &a, const std::vector<T> &b,
                                bool expanded) {
  BlockExpression expression = expanded ? expand(binary(opcode, type)) : binary(opcode, type);
  EXPECT_EQ(expression.verify(), "");
  if (expanded)
    for (const BlockInstruction &instruction : expression.instructions)
      EXPECT_NE(instruction.opcode, opcode);
  BlockEvaluator evaluator = llvm::cantFail(BlockEvaluator::compile(expression));
  BlockEvaluator::Scratch scratch(evaluator);
  std::vector<T> result(a.size());
  evaluator.evaluate({{a.data(), 1}, {b.data(), 1}}, {{result.data(), 1}}, static_cast<int64_t>(a.size()), {}, scratch);
  return result;
}

template <typename T> void expectExact(ElementType type) {
  using Limits = std::numeric_limits<T>;
  std::vector<T> edges = {0,
                          1,
                          2,
                          3,
                          7,
                          T(Limits::max() - 1),
                          Limits::max(),
                          T(Limits::max() / 2),
                          T(Limits::max() / 2 + 1),
                          Limits::min(),
                          T(Limits::min() + 1),
                          T(-1),
                          T(-2),
                          T(-7)};
  std::vector<T> a, b;
  auto pair = [&](T x, T y) {
    a.push_back(x);
    b.push_back(y);
  };
  for (T x : edges)
    for (T y : edges)
      pair(x, y);
  uint32_t state = 1;
  auto random = [&] { return state = state * 1664525 + 1013904223, state >> 7 ^ state << 13; };
  for (int i = 0; i < 20000; ++i) {
    pair(static_cast<T>(random()), static_cast<T>(random() >> random() % 32));
    T divisor = static_cast<T>(random() >> random() % 32), times = static_cast<T>(random() >> random() % 32);
    auto product = static_cast<uint32_t>(divisor) * static_cast<uint32_t>(times); // which may wrap
    pair(static_cast<T>(product + static_cast<uint32_t>(i % 3 - 1)), divisor);    // beside whole quotients
  }
  for (BlockOpcode opcode : {BlockOpcode::Divide, BlockOpcode::Remainder, BlockOpcode::Modulo, BlockOpcode::Power}) {
    std::vector<T> got = evaluateIntegers(opcode, type, a, b, true),
                   right = evaluateIntegers(opcode, type, a, b, false);
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_EQ(+got[i], +right[i]) << nameOf(opcode).str() << ' ' << nameOf(type).str() << ' ' << +a[i] << ' '
                                    << +b[i];
  }
}

TEST(TspExpand, IntegerFunctionsAreExact) {
  expectExact<int32_t>(ElementType::i32);
  expectExact<uint32_t>(ElementType::u32);
  expectExact<int16_t>(ElementType::i16);
  expectExact<uint16_t>(ElementType::u16);
  expectExact<int8_t>(ElementType::i8);
  expectExact<uint8_t>(ElementType::u8);
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

} // namespace
} // namespace quadrille::tsp
