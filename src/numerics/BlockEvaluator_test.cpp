#include "numerics/BlockEvaluator.h"

#include "numerics/Convert.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cmath>
#include <limits>
#include <random>

using namespace quadrille;
using testing::ElementsAre;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

BlockEvaluator compiled(const BlockExpression &expression) {
  llvm::Expected<BlockEvaluator> evaluator = BlockEvaluator::compile(expression);
  EXPECT_TRUE(static_cast<bool>(evaluator)) << llvm::toString(evaluator.takeError());
  return *evaluator;
}

// One instruction on dense arrays of one type.
template <typename R, typename T>
std::vector<R> apply(BlockOpcode opcode, ElementType type, std::vector<std::vector<T>> operands,
                     std::optional<ElementType> resultType = std::nullopt) {
  BlockExpression e;
  std::vector<Register> registers;
  std::vector<BlockEvaluator::Operand> inputs;
  for (auto &operand : operands) {
    registers.push_back(e.append(BlockOpcode::Input, type, {}, e.inputs.size()));
    e.inputs.push_back(type);
    inputs.push_back({operand.data(), 1});
  }
  e.results = {e.append(opcode, resultType.value_or(type), registers)};
  EXPECT_EQ(e.verify(), "");
  BlockEvaluator evaluator = compiled(e);
  BlockEvaluator::Scratch scratch(evaluator);
  std::vector<R> out(operands[0].size());
  evaluator.evaluate(inputs, {{out.data(), 1}}, static_cast<int64_t>(out.size()), {}, scratch);
  return out;
}

template <typename T> std::vector<T> binary(BlockOpcode opcode, ElementType type, std::vector<T> a, std::vector<T> b) {
  return apply<T, T>(opcode, type, {a, b});
}

TEST(BlockEvaluator, IntegerSemantics) {
  std::vector<int32_t> a = {7, -7, 7, -7, INT32_MIN, 5, INT32_MAX}, b = {2, 2, -2, -2, -1, 0, 1};
  auto i32 = [&](BlockOpcode opcode) { return binary(opcode, ElementType::i32, a, b); };
  EXPECT_THAT(i32(BlockOpcode::Divide), ElementsAre(3, -3, -3, 3, INT32_MIN, 0, INT32_MAX));
  EXPECT_THAT(i32(BlockOpcode::Remainder), ElementsAre(1, -1, 1, -1, 0, 0, 0));
  EXPECT_THAT(i32(BlockOpcode::Modulo), ElementsAre(1, 1, -1, -1, 0, 0, 0));
  EXPECT_THAT(i32(BlockOpcode::Add), ElementsAre(9, -5, 5, -9, INT32_MAX, 5, INT32_MIN));
  EXPECT_THAT(i32(BlockOpcode::Multiply), ElementsAre(14, -14, -14, 14, INT32_MIN, 0, INT32_MAX));
  EXPECT_THAT(binary<int8_t>(BlockOpcode::Power, ElementType::i8, {2, 2, -1, -1, 3, 5}, {3, 7, -3, -2, -1, 0}),
              ElementsAre(8, -128, -1, 1, 0, 1));
  EXPECT_THAT(binary<int8_t>(BlockOpcode::ShiftLeft, ElementType::i8, {1, 1, 1, 1}, {6, 7, 8, -1}),
              ElementsAre(64, -128, 0, 0));
  EXPECT_THAT(binary<int8_t>(BlockOpcode::ShiftRight, ElementType::i8, {-128, -128, 127}, {3, 100, 8}),
              ElementsAre(-16, -1, 0));
  EXPECT_THAT(binary<uint8_t>(BlockOpcode::Subtract, ElementType::u8, {1, 255}, {2, 255}), ElementsAre(255, 0));
  // Types below a byte wrap to their own width and stay extended.
  EXPECT_THAT(binary<int8_t>(BlockOpcode::Add, ElementType::i4, {7, -8, 3}, {1, -1, 4}), ElementsAre(-8, 7, 7));
  EXPECT_THAT(binary<uint8_t>(BlockOpcode::Multiply, ElementType::u4, {15, 3}, {15, 4}), ElementsAre(1, 12));
  EXPECT_THAT(binary<int8_t>(BlockOpcode::Divide, ElementType::i4, {-8, 7}, {-1, 2}), ElementsAre(-8, 3));
}

TEST(BlockEvaluator, FloatMinimumAndMaximum) {
  float nan = NAN;
  std::vector<float> a = {-0.0f, 0.0f, nan, 1.0f, 2.0f}, b = {0.0f, -0.0f, 1.0f, nan, -3.0f};
  auto f32 = [&](BlockOpcode opcode) { return binary(opcode, ElementType::f32, a, b); };
  std::vector<float> low = f32(BlockOpcode::Minimum), high = f32(BlockOpcode::Maximum);
  EXPECT_TRUE(std::signbit(low[0]) && std::signbit(low[1]));
  EXPECT_FALSE(std::signbit(high[0]) || std::signbit(high[1]));
  EXPECT_TRUE(std::isnan(low[2]) && std::isnan(low[3]) && std::isnan(high[2]) && std::isnan(high[3]));
  EXPECT_EQ(low[4], -3.0f);
  EXPECT_EQ(high[4], 2.0f);
  EXPECT_EQ(f32(BlockOpcode::MinimumNumber)[2], 1.0f);
  EXPECT_EQ(f32(BlockOpcode::MaximumNumber)[3], 1.0f);
}

TEST(BlockEvaluator, FloatUnary) {
  auto f32 = [](BlockOpcode opcode, std::vector<float> a) {
    return apply<float, float>(opcode, ElementType::f32, {a});
  };
  EXPECT_THAT(f32(BlockOpcode::RoundEven, {0.5f, 1.5f, 2.5f, -0.5f}), ElementsAre(0, 2, 2, 0));
  EXPECT_THAT(f32(BlockOpcode::Floor, {1.5f, -1.5f}), ElementsAre(1, -2));
  EXPECT_THAT(f32(BlockOpcode::Ceil, {1.5f, -1.5f}), ElementsAre(2, -1));
  EXPECT_THAT(f32(BlockOpcode::Truncate, {1.5f, -1.5f}), ElementsAre(1, -1));
  EXPECT_THAT(f32(BlockOpcode::SquareRoot, {4.0f, 2.0f}), ElementsAre(2, 1.41421354f)); // sqrt 2, correctly rounded
  EXPECT_THAT(f32(BlockOpcode::Sign, {-2.0f, 0.0f, infinity}), ElementsAre(-1, 0, 1));
  EXPECT_TRUE(std::isnan(f32(BlockOpcode::Sign, {NAN})[0]));
  EXPECT_THAT(f32(BlockOpcode::Reciprocal, {3.0f}), ElementsAre(1.0f / 3.0f));
  EXPECT_THAT((apply<uint8_t, float>(BlockOpcode::IsNan, ElementType::f32, {{NAN, 1, infinity}}, ElementType::boolean)),
              ElementsAre(1, 0, 0));
  EXPECT_THAT((apply<uint8_t, float>(BlockOpcode::IsInfinite, ElementType::f32, {{NAN, -infinity, 3e38f}},
                                     ElementType::boolean)),
              ElementsAre(0, 1, 0));
  EXPECT_THAT(
      (apply<uint8_t, float>(BlockOpcode::NotEqual, ElementType::f32, {{NAN, 1}, {NAN, 1}}, ElementType::boolean)),
      ElementsAre(1, 0));
  EXPECT_THAT(
      (apply<uint8_t, float>(BlockOpcode::LessEqual, ElementType::f32, {{NAN, 1, 2}, {1, 1, 1}}, ElementType::boolean)),
      ElementsAre(0, 1, 0));
  EXPECT_THAT(binary<float>(BlockOpcode::Modulo, ElementType::f32, {5.5f, -5.5f, 5.5f}, {3, 3, -3}),
              ElementsAre(2.5f, 0.5f, -0.5f));
  EXPECT_THAT(binary<float>(BlockOpcode::Remainder, ElementType::f32, {5.5f, -5.5f}, {3, 3}), ElementsAre(2.5f, -2.5f));
  // (2^12 + 1)^2 = 2^24 + 2^13 + 1 needs 25 bits: only the fused form keeps the 1.
  EXPECT_THAT((apply<float, float>(BlockOpcode::MultiplyAdd, ElementType::f32, {{4097}, {4097}, {-16785408}})),
              ElementsAre(1));
}

TEST(BlockEvaluator, NarrowFloatsRoundAfterEveryInstruction) {
  // 2048 + 1 = 2049 is a tie in f16 and rounds to 2048; adding 1 again stays there. In f32 it would be 2050.
  BlockExpression e;
  e.inputs = {ElementType::f16};
  Register x = e.append(BlockOpcode::Input, ElementType::f16);
  Register one = e.append(BlockOpcode::Constant, ElementType::f16, {}, 0x3c00);
  Register once = e.append(BlockOpcode::Add, ElementType::f16, {x, one});
  Register twice = e.append(BlockOpcode::Add, ElementType::f16, {once, one});
  e.results = {twice};
  BlockEvaluator evaluator = compiled(e);
  BlockEvaluator::Scratch scratch(evaluator);
  std::vector<uint16_t> in(70, 0x6800), out(70); // 2048
  evaluator.evaluate({{in.data(), 1}}, {{out.data(), 1}}, 70, {}, scratch);
  EXPECT_THAT(out, testing::Each(0x6800));

  // -0 does not exist in f8e4m3fnuz.
  EXPECT_THAT((apply<uint8_t, uint8_t>(BlockOpcode::Negate, ElementType::f8e4m3fnuz, {{0x00, 0x08}})),
              ElementsAre(0x00, 0x88));
}

TEST(BlockEvaluator, Conversions) {
  EXPECT_THAT((apply<int8_t, float>(BlockOpcode::Convert, ElementType::f32, {{-1.9f, 300.0f, NAN}}, ElementType::i8)),
              ElementsAre(-1, 127, 0));
  EXPECT_THAT((apply<int8_t, int32_t>(BlockOpcode::Convert, ElementType::i32, {{300, -1}}, ElementType::i8)),
              ElementsAre(44, -1));
  EXPECT_THAT(
      (apply<int8_t, int32_t>(BlockOpcode::ConvertSaturating, ElementType::i32, {{300, -300}}, ElementType::i8)),
      ElementsAre(127, -128));
  EXPECT_THAT((apply<uint16_t, float>(BlockOpcode::Convert, ElementType::f32, {{1e6f, 1.0f}}, ElementType::f16)),
              ElementsAre(0x7c00, 0x3c00));
  EXPECT_THAT(
      (apply<uint16_t, float>(BlockOpcode::ConvertSaturating, ElementType::f32, {{1e6f, 1.0f}}, ElementType::f16)),
      ElementsAre(0x7bff, 0x3c00));
  EXPECT_THAT((apply<int16_t, uint16_t>(BlockOpcode::Bitcast, ElementType::f16, {{0xbc00, 0x7c01}}, ElementType::i16)),
              ElementsAre(int16_t(0xbc00), testing::AnyOf(0x7c01, 0x7e01)));
  EXPECT_THAT((apply<uint16_t, int16_t>(BlockOpcode::Bitcast, ElementType::i16, {{0x3c00}}, ElementType::f16)),
              ElementsAre(0x3c00));
  EXPECT_THAT((apply<uint32_t, float>(BlockOpcode::Bitcast, ElementType::f32, {{1.0f, -0.0f}}, ElementType::u32)),
              ElementsAre(0x3f800000u, 0x80000000u));
  EXPECT_THAT((apply<uint8_t, int8_t>(BlockOpcode::Bitcast, ElementType::i4, {{-1, -8, 7}}, ElementType::u4)),
              ElementsAre(15, 8, 7));
  EXPECT_THAT(
      (apply<uint16_t, uint16_t>(BlockOpcode::Convert, ElementType::f16, {{0x3c00, 0x7bff}}, ElementType::bf16)),
      ElementsAre(0x3f80, 0x4780)); // 65504 rounds up to 65536
}

// A body with more registers than one block fits, two results, broadcasts, loop indices and every kind of stride; the
// expectation is the same arithmetic written as a C++ loop.
class Strides : public testing::TestWithParam<std::tuple<int64_t, int64_t, int64_t>> {};

TEST_P(Strides, LikeTheScalarLoop) {
  auto [count, inStride, outStride] = GetParam();
  BlockExpression e;
  e.inputs = {ElementType::f32, ElementType::f32, ElementType::f16, ElementType::i8};
  Register x = e.append(BlockOpcode::Input, ElementType::f32, {}, 0);
  Register scale = e.append(BlockOpcode::Input, ElementType::f32, {}, 1);
  Register h = e.append(BlockOpcode::Input, ElementType::f16, {}, 2);
  Register q = e.append(BlockOpcode::Input, ElementType::i8, {}, 3);
  Register row = e.append(BlockOpcode::LoopIndex, ElementType::i64, {}, 0);
  Register column = e.append(BlockOpcode::LoopIndex, ElementType::i64, {}, 1);
  Register rowF = e.append(BlockOpcode::Convert, ElementType::f32, {row});
  Register rowScale = e.append(BlockOpcode::Multiply, ElementType::f32, {rowF, scale}); // uniform in a call
  Register columnF = e.append(BlockOpcode::Convert, ElementType::f32, {column});
  Register hF = e.append(BlockOpcode::Convert, ElementType::f32, {h});
  Register qF = e.append(BlockOpcode::Convert, ElementType::f32, {q});
  Register positive = e.append(BlockOpcode::Less, ElementType::boolean, {qF, x});
  Register sum = e.append(BlockOpcode::Add, ElementType::f32, {x, rowScale});
  sum = e.append(BlockOpcode::Add, ElementType::f32, {sum, columnF});
  Register chosen = e.append(BlockOpcode::Select, ElementType::f32, {positive, sum, hF});
  e.results = {chosen, e.append(BlockOpcode::Convert, ElementType::bf16, {sum}), q};
  BlockEvaluator evaluator = compiled(e);
  BlockEvaluator::Scratch scratch(evaluator);

  std::mt19937 random(5);
  auto span = static_cast<size_t>((count - 1) * std::max<int64_t>(std::abs(inStride), 1) + 1);
  std::vector<float> xs(span);
  std::vector<uint16_t> hs(span);
  std::vector<int8_t> qs(span);
  for (size_t i = 0; i < span; ++i) {
    xs[i] = float(int(random() % 2000) - 1000) / 8;
    hs[i] = static_cast<uint16_t>(bitsFromDouble(ElementType::f16, double(random() % 512) / 4));
    qs[i] = static_cast<int8_t>(random());
  }
  float scaleValue = 0.5f;
  size_t start = inStride < 0 ? span - 1 : 0;
  auto outSpan = static_cast<size_t>((count - 1) * outStride + 1);
  std::vector<float> y0(outSpan, -77);
  std::vector<uint16_t> y1(outSpan, 0xdead);
  std::vector<int8_t> y2(outSpan, 99);
  evaluator.evaluate(
      {{xs.data() + start, inStride}, {&scaleValue, 0}, {hs.data() + start, inStride}, {qs.data() + start, inStride}},
      {{y0.data(), outStride}, {y1.data(), outStride}, {y2.data(), outStride}}, count, {{3, 0}, {10, 2}}, scratch);
  std::vector<float> want0(outSpan, -77);
  std::vector<uint16_t> want1(outSpan, 0xdead);
  std::vector<int8_t> want2(outSpan, 99);
  for (int64_t i = 0; i < count; ++i) {
    auto source = static_cast<size_t>(static_cast<int64_t>(start) + i * inStride);
    float sum = xs[source] + 3 * scaleValue + float(10 + 2 * i);
    auto target = static_cast<size_t>(i * outStride);
    want0[target] = float(qs[source]) < xs[source] ? sum : float(doubleFromBits(ElementType::f16, hs[source]));
    want1[target] = static_cast<uint16_t>(bitsFromDouble(ElementType::bf16, sum));
    want2[target] = qs[source];
  }
  EXPECT_EQ(y0, want0);
  EXPECT_EQ(y1, want1);
  EXPECT_EQ(y2, want2);
}

INSTANTIATE_TEST_SUITE_P(All, Strides,
                         testing::Combine(testing::Values(1, 5, 63, 64, 65, 512, 1300), testing::Values(0, 1, 3, -2),
                                          testing::Values(0, 1, 2)));

TEST(BlockEvaluator, WorksInPlace) {
  BlockExpression e; // (x * x) - x, whose last step needs x again
  e.inputs = {ElementType::f32};
  Register x = e.append(BlockOpcode::Input, ElementType::f32);
  Register square = e.append(BlockOpcode::Multiply, ElementType::f32, {x, x});
  Register difference = e.append(BlockOpcode::Subtract, ElementType::f32, {square, x});
  e.results = {difference, square};
  BlockEvaluator evaluator = compiled(e);
  BlockEvaluator::Scratch scratch(evaluator);
  for (int which : {0, 1}) {
    std::vector<float> values(1024), other(1024);
    for (int i = 0; i < 1024; ++i)
      values[i] = float(i);
    std::vector<BlockEvaluator::Output> outputs = {{values.data(), 1}, {other.data(), 1}};
    if (which == 1)
      std::swap(outputs[0], outputs[1]);
    evaluator.evaluate({{values.data(), 1}}, outputs, 1024, {}, scratch);
    for (int i = 0; i < 1024; ++i) {
      float squared = float(i) * float(i);
      ASSERT_EQ(values[i], which == 0 ? squared - float(i) : squared);
      ASSERT_EQ(other[i], which == 0 ? squared : squared - float(i));
    }
  }
}

TEST(BlockEvaluator, ManyLiveRegistersShrinkTheBlock) {
  BlockExpression e;
  e.inputs = {ElementType::f64};
  Register x = e.append(BlockOpcode::Input, ElementType::f64);
  std::vector<Register> live;
  for (int i = 0; i < 200; ++i) {
    Register c = e.append(BlockOpcode::Constant, ElementType::f64, {}, bitsFromDouble(ElementType::f64, i));
    live.push_back(e.append(BlockOpcode::Multiply, ElementType::f64, {x, c}));
  }
  Register sum = live.back();
  for (int i = 198; i >= 0; --i)
    sum = e.append(BlockOpcode::Add, ElementType::f64, {sum, live[i]});
  e.results = {sum};
  BlockEvaluator evaluator = compiled(e);
  BlockEvaluator::Scratch scratch(evaluator);
  std::vector<double> in(1000), out(1000);
  for (int i = 0; i < 1000; ++i)
    in[i] = i;
  evaluator.evaluate({{in.data(), 1}}, {{out.data(), 1}}, 1000, {}, scratch);
  for (int i = 0; i < 1000; ++i)
    ASSERT_EQ(out[i], 199.0 * 200 / 2 * i); // Gauss
}

TEST(BlockEvaluator, RefusesWhatDoesNotVerify) {
  BlockExpression e;
  e.results = {0};
  llvm::Expected<BlockEvaluator> evaluator = BlockEvaluator::compile(e);
  ASSERT_FALSE(static_cast<bool>(evaluator));
  EXPECT_THAT(llvm::toString(evaluator.takeError()), testing::HasSubstr("no register %0"));
}

// Every opcode that verifies on a type has a kernel.
TEST(BlockEvaluator, EveryWellTypedInstructionCompiles) {
  const BlockOpcode opcodes[] = {
#define QUADRILLE_LIST(text, name, operands) BlockOpcode::name,
      QUADRILLE_BLOCK_OPCODES(QUADRILLE_LIST)
#undef QUADRILLE_LIST
  };
  const ElementType types[] = {
#define QUADRILLE_LIST(text, name, bits, kind) ElementType::name,
      QUADRILLE_ELEMENT_TYPES(QUADRILLE_LIST)
#undef QUADRILLE_LIST
  };
  int compiledCount = 0;
  for (BlockOpcode opcode : opcodes)
    for (ElementType operand : types)
      for (ElementType result : types)
        for (bool condition : {false, true}) {
          BlockExpression e;
          e.inputs = {operand, ElementType::boolean};
          Register x = e.append(BlockOpcode::Input, operand, {}, 0);
          Register b = e.append(BlockOpcode::Input, ElementType::boolean, {}, 1);
          std::vector<Register> operands(operandCount(opcode), x);
          if (condition && !operands.empty())
            operands[0] = b;
          e.results = {e.append(opcode, result, operands)};
          if (!e.verify().empty())
            continue;
          BlockEvaluator evaluator = compiled(e);
          BlockEvaluator::Scratch scratch(evaluator);
          std::vector<uint64_t> in(70, 0x0101010101010101), out(70);
          std::vector<uint8_t> flags(70, 1);
          evaluator.evaluate({{in.data(), 1}, {flags.data(), 1}}, {{out.data(), 1}}, 70, {{0, 1}}, scratch);
          ++compiledCount;
        }
  EXPECT_GT(compiledCount, 1000);
}

// The stated order, written out.
float sumInStatedOrder(const std::vector<float> &values, float initial) {
  std::vector<float> lanes(values.begin(), values.begin() + std::min<size_t>(16, values.size()));
  for (size_t i = 16; i < values.size(); ++i)
    lanes[i % 16] += values[i];
  for (size_t half : {8, 4, 2, 1})
    for (size_t l = 0; l < half; ++l)
      if (l + half < lanes.size() && lanes.size() > half)
        lanes[l] += lanes[l + half];
  return initial + lanes[0];
}

TEST(Combine, SumsInTheStatedOrder) {
  std::mt19937 random(6);
  for (size_t count : {1, 2, 7, 15, 16, 17, 31, 64, 100, 511, 512, 529, 3000})
    for (int64_t stride : {1, 2, -3}) {
      std::vector<float> values(count), spread(count * 3);
      for (size_t i = 0; i < count; ++i) {
        values[i] = std::normal_distribution<float>(0, 1000)(random);
        int64_t at = stride > 0 ? static_cast<int64_t>(i) * stride
                                : static_cast<int64_t>(count - 1) * -stride + static_cast<int64_t>(i) * stride;
        spread[static_cast<size_t>(at)] = values[i];
      }
      float total = 0.25f;
      const float *start = spread.data() + (stride > 0 ? 0 : static_cast<int64_t>(count - 1) * -stride);
      combineInto(Combine::Sum, ElementType::f32, &total, start, stride, static_cast<int64_t>(count));
      EXPECT_EQ(total, sumInStatedOrder(values, 0.25f)) << count << " stride " << stride;
    }
}

TEST(Combine, OtherOperations) {
  std::vector<float> values = {3, NAN, -1, 5};
  float x = infinity;
  combineInto(Combine::MinimumNumber, ElementType::f32, &x, values.data(), 1, 4);
  EXPECT_EQ(x, -1);
  combineInto(Combine::Minimum, ElementType::f32, &x, values.data(), 1, 4);
  EXPECT_TRUE(std::isnan(x));
  std::vector<int8_t> bytes(100);
  for (int i = 0; i < 100; ++i)
    bytes[i] = static_cast<int8_t>(i - 40);
  auto with = [&](Combine combine) {
    auto y = static_cast<int8_t>(neutralBits(combine, ElementType::i8));
    combineInto(combine, ElementType::i8, &y, bytes.data(), 1, 100);
    return int(y);
  };
  EXPECT_EQ(with(Combine::Maximum), 59);
  EXPECT_EQ(with(Combine::Minimum), -40);
  EXPECT_EQ(with(Combine::Sum), int(int8_t(950))); // 0 + ... + 99 - 4000
  EXPECT_EQ(with(Combine::And), 0);
  EXPECT_EQ(with(Combine::Or), -1);
  EXPECT_EQ(with(Combine::Xor), [&] {
    int8_t y = 0;
    for (int8_t b : bytes)
      y ^= b;
    return int(y);
  }());
  // 2^11 + 2049 ones in f16: every partial sum lives in f32, so nothing is lost but the one rounding of 4097 to 4096.
  std::vector<uint16_t> halves(2049, 0x3c00);
  uint16_t total = 0x6800;
  combineInto(Combine::Sum, ElementType::f16, &total, halves.data(), 1, 2049);
  EXPECT_EQ(doubleFromBits(ElementType::f16, total), 4096.0);
}

TEST(Combine, Elementwise) {
  for (int64_t count : {1, 64, 100, 700}) {
    std::vector<float> a(count), b(count);
    std::vector<uint16_t> h(count, 0x3c00), g(count);
    for (int64_t i = 0; i < count; ++i) {
      a[i] = float(i);
      b[i] = float(2 * i + 1);
      g[i] = static_cast<uint16_t>(bitsFromDouble(ElementType::f16, double(i)));
    }
    combineElementwise(Combine::Sum, ElementType::f32, a.data(), b.data(), count);
    combineElementwise(Combine::Product, ElementType::f16, h.data(), g.data(), count);
    for (int64_t i = 0; i < count; ++i) {
      ASSERT_EQ(a[i], float(3 * i + 1));
      ASSERT_EQ(h[i], g[i]);
    }
  }
}

TEST(Combine, NeutralElementsAreNeutral) {
  for (ElementType type : {ElementType::f64, ElementType::f32, ElementType::f16, ElementType::cb16,
                           ElementType::f8e4m3fn, ElementType::f8e5m2fnuz, ElementType::f8e5m2, ElementType::i64,
                           ElementType::i8, ElementType::i4, ElementType::u64, ElementType::u2, ElementType::boolean})
    for (Combine combine : {Combine::Sum, Combine::Product, Combine::Minimum, Combine::Maximum, Combine::MinimumNumber,
                            Combine::MaximumNumber, Combine::And, Combine::Or, Combine::Xor}) {
      bool arithmetic = combine == Combine::Sum || combine == Combine::Product;
      bool bitwise = combine == Combine::And || combine == Combine::Or || combine == Combine::Xor;
      if ((type == ElementType::boolean && arithmetic) || (isFloat(type) && bitwise))
        continue;
      for (double value : {0.0, 1.0, -1.0}) {
        if (value < 0 && kindOf(type) != ElementKind::Signed && !isFloat(type))
          continue;
        uint64_t bits = bitsFromDouble(type, value), accumulator = neutralBits(combine, type);
        combineInto(combine, type, &accumulator, &bits, 1, 1);
        EXPECT_EQ(doubleFromBits(type, accumulator), value) << nameOf(type).str() << " combine " << int(combine);
      }
    }
}

} // namespace
