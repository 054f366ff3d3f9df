// Sums of quantised bytes without divisions, on every pair of operands against the same in plain floats.
#include "target/tsp/ByteFunctions.h"

#include "numerics/BlockEvaluator.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

#include "gtest/gtest.h"

#include <array>
#include <cmath>

namespace quadrille::tsp {
namespace {

constexpr ElementType f32 = ElementType::f32, u8 = ElementType::u8, i8 = ElementType::i8;

struct Scale {
  float scale;
  int zero;
};

Register constant(BlockExpression &body, double value) {
  return body.append(BlockOpcode::Constant, f32, {}, bitsFromDouble(f32, value));
}

// (operand - zero) * scale
Register dequantised(BlockExpression &body, ElementType type, Scale scale) {
  Register value = body.append(BlockOpcode::Input, type, {}, body.inputs.size());
  body.inputs.push_back(type);
  value = body.append(BlockOpcode::Convert, f32, {value});
  value = body.append(BlockOpcode::Subtract, f32, {value, constant(body, scale.zero)});
  return body.append(BlockOpcode::Multiply, f32, {value, constant(body, static_cast<double>(scale.scale))});
}

void quantise(BlockExpression &body, Register value, ElementType type, Scale scale) {
  value = body.append(BlockOpcode::Divide, f32, {value, constant(body, static_cast<double>(scale.scale))});
  value = body.append(BlockOpcode::RoundEven, f32, {value});
  value = body.append(BlockOpcode::Add, f32, {value, constant(body, scale.zero)});
  body.results = {body.append(BlockOpcode::ConvertSaturating, type, {value})};
}

BlockExpression quantisedSum(ElementType type, Scale a, Scale b, Scale c) {
  BlockExpression body;
  Register left = dequantised(body, type, a), right = dequantised(body, type, b);
  quantise(body, body.append(BlockOpcode::Add, f32, {left, right}), type, c);
  return body;
}

// The results for all pairs, the second operand the slower one.
std::vector<int> valuesOf(const BlockExpression &body) {
  EXPECT_EQ(body.verify(), "");
  BlockEvaluator evaluator = llvm::cantFail(BlockEvaluator::compile(body));
  BlockEvaluator::Scratch scratch(evaluator);
  std::vector<uint8_t> a, b, results(65536);
  for (int pair = 0; pair < 65536; ++pair) {
    a.push_back(static_cast<uint8_t>(pair));
    b.push_back(static_cast<uint8_t>(pair >> 8));
  }
  std::vector<BlockEvaluator::Operand> inputs = {{a.data(), 1}, {b.data(), 1}};
  inputs.erase(inputs.begin() + static_cast<ptrdiff_t>(body.inputs.size()), inputs.end());
  evaluator.evaluate(inputs, {{results.data(), 1}}, 65536, {}, scratch);
  bool isSigned = body.instructions[body.results[0]].type == i8;
  std::vector<int> values;
  for (uint8_t bits : results)
    values.push_back(isSigned ? static_cast<int8_t>(bits) : bits);
  return values;
}

size_t count(const BlockExpression &body, BlockOpcode opcode) {
  return static_cast<size_t>(llvm::count_if(
      body.instructions, [&](const BlockInstruction &instruction) { return instruction.opcode == opcode; }));
}

// The same in the C library's arithmetic.
int quantisedSumOf(ElementType type, int left, int right, Scale a, Scale b, Scale c) {
  float sum = static_cast<float>(left - a.zero) * a.scale + static_cast<float>(right - b.zero) * b.scale;
  int value = static_cast<int>(std::nearbyint(sum / c.scale)) + c.zero;
  return type == i8 ? std::clamp(value, -128, 127) : std::clamp(value, 0, 255);
}

void expectSum(ElementType type, Scale a, Scale b, Scale c) {
  std::optional<BlockExpression> sum = sumOfBytes(quantisedSum(type, a, b, c));
  ASSERT_TRUE(sum);
  EXPECT_EQ(count(*sum, BlockOpcode::Divide), 0u);
  std::vector<int> values = valuesOf(*sum);
  for (int pair = 0; pair < 65536; ++pair) {
    int left = type == i8 ? static_cast<int8_t>(pair) : pair & 255;
    int right = type == i8 ? static_cast<int8_t>(pair >> 8) : pair >> 8;
    ASSERT_EQ(values[static_cast<size_t>(pair)], quantisedSumOf(type, left, right, a, b, c))
        << left << " and " << right;
  }
}

TEST(TspByteFunctions, SumsOfQuantisedValuesAreTwoProductsAndAnOffset) {
  Scale a{0.0207f, 117}, b{0.0131f, 0}, c{0.0173f, 5};
  std::optional<BlockExpression> sum = sumOfBytes(quantisedSum(u8, a, b, c));
  ASSERT_TRUE(sum);
  EXPECT_EQ(count(*sum, BlockOpcode::Multiply), 2u);
  EXPECT_EQ(count(*sum, BlockOpcode::Add), 2u);
  expectSum(u8, a, b, c);
  expectSum(i8, {0.0207f, -3}, {0.0131f, 10}, {0.0173f, 5});
}

TEST(TspByteFunctions, WithoutZeroPointsThereIsNoOffset) {
  std::optional<BlockExpression> sum = sumOfBytes(quantisedSum(u8, {0.25f, 0}, {0.5f, 0}, {0.75f, 0}));
  ASSERT_TRUE(sum);
  EXPECT_EQ(count(*sum, BlockOpcode::Add), 1u);
  expectSum(u8, {0.25f, 0}, {0.5f, 0}, {0.75f, 0});
}

// Scales for which the factors that are nearest to a / c and b / c round some pairs to another integer.
TEST(TspByteFunctions, FactorsBesideTheQuotientsWhereTheseRoundOtherwise) {
  int wrong = 0;
  for (int number = 0; number < 40; ++number) {
    float x = 0.0207131f + 0.0007193f * static_cast<float>(number), y = 0.0133717f, z = 0.0171931f;
    Scale a{x, 0}, b{y, 0}, c{z, 0};
    auto first = static_cast<float>(static_cast<double>(x) / static_cast<double>(z));
    auto second = static_cast<float>(static_cast<double>(y) / static_cast<double>(z));
    bool same = true;
    for (int left = 0; left < 256; ++left)
      for (int right = 0; right < 256; ++right) {
        volatile float one = static_cast<float>(left) * first, two = static_cast<float>(right) * second;
        int value = std::min(255, static_cast<int>(std::nearbyint(one + two)));
        same &= value == quantisedSumOf(u8, left, right, a, b, c);
      }
    wrong += !same;
    expectSum(u8, a, b, c);
  }
  EXPECT_GT(wrong, 2);
}

// 19 a + 28.5 b in halves of 11.4: many sums lie in the middle between two integers and are rounded as the floats on
// the way happen to be.
TEST(TspByteFunctions, TheDivisionStaysWhereNoFactorsDo) {
  EXPECT_FALSE(sumOfBytes(quantisedSum(u8, {0.019f, 0}, {0.0285f, 0}, {0.0114f, 0})));
}

// What lies between the sum and its quantisation only bounds it.
TEST(TspByteFunctions, ReluBetweenSumAndQuantisation) {
  Scale a{0.0207f, 117}, b{0.0131f, 20}, c{0.0173f, 0};
  BlockExpression body;
  Register left = dequantised(body, u8, a), right = dequantised(body, u8, b);
  Register sum = body.append(BlockOpcode::Add, f32, {left, right});
  quantise(body, body.append(BlockOpcode::Maximum, f32, {sum, constant(body, 0)}), i8, c);
  std::optional<BlockExpression> found = sumOfBytes(body);
  ASSERT_TRUE(found);
  std::vector<int> values = valuesOf(*found);
  for (int pair = 0; pair < 65536; ++pair)
    ASSERT_EQ(values[static_cast<size_t>(pair)], std::max(0, quantisedSumOf(i8, pair & 255, pair >> 8, a, b, c)));
}

// A half quotient: (1 * 3 - 0) / 6 is rounded to the even 0, 3 * 3 / 6 to 2.
TEST(TspByteFunctions, OneOperandAndHalves) {
  BlockExpression body;
  Register value = dequantised(body, u8, {3, 0});
  quantise(body, value, i8, {6, 0});
  std::optional<BlockExpression> found = sumOfBytes(body);
  ASSERT_TRUE(found);
  std::vector<int> values = valuesOf(*found);
  EXPECT_EQ(values[1], 0);
  EXPECT_EQ(values[3], 2);
  EXPECT_EQ(values[255], 127); // 127.5 saturates
}

TEST(TspByteFunctions, OtherFunctionsAreLeftAlone) {
  BlockExpression squares;
  Register value = dequantised(squares, u8, {0.1f, 0});
  quantise(squares, squares.append(BlockOpcode::Multiply, f32, {value, value}), u8, {0.5f, 0});
  EXPECT_FALSE(sumOfBytes(squares));

  BlockExpression floats;
  floats.inputs = {f32};
  quantise(floats, floats.append(BlockOpcode::Input, f32, {}, 0), u8, {0.5f, 0});
  EXPECT_FALSE(sumOfBytes(floats));

  // Truncated, not rounded.
  BlockExpression truncated;
  value = dequantised(truncated, u8, {0.1f, 0});
  truncated.results = {truncated.append(BlockOpcode::Convert, u8, {value})};
  EXPECT_FALSE(sumOfBytes(truncated));
}

} // namespace
} // namespace quadrille::tsp
