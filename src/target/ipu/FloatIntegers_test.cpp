// Expressions with integers held in f32 give the bits that the integers give.
#include "target/ipu/FloatIntegers.h"

#include "numerics/BlockEvaluator.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

namespace quadrille::ipu {
namespace {

using Op = BlockOpcode;
constexpr auto f32 = ElementType::f32, f16 = ElementType::f16, i32 = ElementType::i32, u8 = ElementType::u8,
               i8 = ElementType::i8;

constexpr int64_t elements = 512;

// All bytes twice, floats around the bounds of bytes and what is no number.
Tensor operand(ElementType type, std::mt19937 &random) {
  std::vector<float> values(elements);
  for (int64_t i = 0; i < elements; ++i)
    values[i] = isFloat(type) ? static_cast<float>(static_cast<int>(random() % 2400) - 1200) / 4
                              : static_cast<float>(type == i8 ? i % 256 - 128 : i % 256);
  if (type == i32)
    for (float &value : values)
      value = static_cast<float>(static_cast<int32_t>(random()));
  if (type == f32) {
    const float special[] = {NAN, INFINITY, -INFINITY, -0.0F, 0.0F, 0.5F, -0.5F, 2.5F, 3e9F, -3e9F, 254.5F, 255.5F};
    std::copy(std::begin(special), std::end(special), values.begin());
  }
  return convert(Tensor::of<float>(f32, {elements}, values), type);
}

std::vector<Tensor> evaluated(const BlockExpression &expression, const std::vector<Tensor> &operands) {
  auto evaluator = llvm::cantFail(BlockEvaluator::compile(expression));
  BlockEvaluator::Scratch scratch(evaluator);
  std::vector<BlockEvaluator::Operand> in;
  std::vector<BlockEvaluator::Output> out;
  std::vector<Tensor> results;
  for (const Tensor &each : operands)
    in.push_back({each.bytes().data(), 1});
  for (Register result : expression.results)
    results.push_back(Tensor::zeros(expression.instructions[result].type, {elements}));
  for (Tensor &each : results)
    out.push_back({each.mutableBytes(), 1});
  evaluator.evaluate(in, out, elements, {}, scratch);
  return results;
}

void expectSame(const BlockExpression &expression, std::mt19937 &random) {
  ASSERT_EQ(expression.verify(), "");
  BlockExpression floats = integersInF32(expression, {});
  ASSERT_EQ(floats.verify(), "") << expression.print() << floats.print();
  std::vector<Tensor> operands;
  for (ElementType type : expression.inputs)
    operands.push_back(operand(type, random));
  auto expected = evaluated(expression, operands), found = evaluated(floats, operands);
  for (size_t r = 0; r < expected.size(); ++r) {
    auto width = byteWidth(expected[r].type());
    for (int64_t i = 0; i < elements; ++i)
      if (auto a = expected[r].bytes().slice(i * width, width), b = found[r].bytes().slice(i * width, width); a != b) {
        double was = valuesOf<double>(expected[r])[i], is = valuesOf<double>(found[r])[i];
        if (std::isnan(was) && std::isnan(is))
          continue;
        FAIL() << "result " << r << " of element " << i << ": " << was << ", in f32 " << is << '\n'
               << expression.print() << '\n'
               << floats.print();
      }
  }
}

// What ONNX's quantised operators do behind a sum: scale, round, add the zero point, saturate, take away the next
// one's zero point.
BlockExpression requantising(ElementType narrow, int zeroPoint, Op conversion) {
  BlockExpression e;
  e.inputs = {f32};
  auto scalar = [&](ElementType type, double value) {
    return e.append(Op::Constant, type, {}, bitsFromDouble(type, value));
  };
  Register x =
      e.append(Op::RoundEven, f32, {e.append(Op::Multiply, f32, {e.append(Op::Input, f32), scalar(f32, 0.7)})});
  Register byte = e.append(conversion, narrow, {e.append(Op::Add, f32, {x, scalar(f32, zeroPoint)})});
  Register difference = e.append(Op::Subtract, i32, {e.append(Op::Convert, i32, {byte}), scalar(i32, zeroPoint)});
  e.results = {e.append(Op::Convert, f16, {difference}), byte, difference};
  return e;
}

TEST(IpuFloatIntegers, requantising) {
  std::mt19937 random(1);
  for (Op conversion : {Op::Convert, Op::ConvertSaturating}) {
    expectSame(requantising(u8, 123, conversion), random);
    expectSame(requantising(u8, 0, conversion), random);
    expectSame(requantising(i8, 0, conversion), random);
    expectSame(requantising(i8, -7, conversion), random);
  }
  // Bytes stay in f32 from the sum to the halves that are multiplied next.
  BlockExpression e = requantising(u8, 123, Op::ConvertSaturating);
  e.results.pop_back();
  e.results.pop_back();
  for (const BlockInstruction &each : integersInF32(e, {}).instructions)
    EXPECT_TRUE(isFloat(each.type)) << nameOf(each.type).str();
}

// 0 x -3 is -0 in f32, and 0 as an integer.
TEST(IpuFloatIntegers, zerosHaveNoSign) {
  std::mt19937 random(3);
  BlockExpression e;
  e.inputs = {i8};
  Register wide = e.append(Op::Convert, i32, {e.append(Op::Input, i8)});
  Register product = e.append(Op::Multiply, i32, {wide, e.append(Op::Constant, i32, {}, static_cast<uint32_t>(-3))});
  Register negative = e.append(Op::Negate, i32, {wide});
  e.results = {e.append(Op::Convert, f32, {product}), e.append(Op::Convert, f16, {negative})};
  expectSame(e, random);
}

TEST(IpuFloatIntegers, expressionsAtRandom) {
  std::mt19937 random(2);
  const ElementType types[] = {f32, u8, i8, i32, ElementType::i16, ElementType::u16, ElementType::u32, f16};
  int changed = 0;
  for (int turn = 0; turn < 3000; ++turn) {
    BlockExpression e;
    e.inputs = {f32, u8, i8, i32};
    std::vector<Register> registers;
    for (size_t i = 0; i < e.inputs.size(); ++i)
      registers.push_back(e.append(Op::Input, e.inputs[i], {}, i));
    auto pick = [&] { return registers[random() % registers.size()]; };
    auto typeOf = [&](Register id) { return e.instructions[id].type; };
    for (int step = 0; step < 12; ++step) {
      Register a = pick();
      ElementType type = typeOf(a);
      if (type == ElementType::boolean)
        continue;
      auto another = [&]() -> Register {
        for (int tries = 0; tries < 4; ++tries)
          if (Register b = pick(); typeOf(b) == type)
            return b;
        int value = kindOf(type) == ElementKind::Unsigned ? static_cast<int>(random() % 130)
                                                          : static_cast<int>(random() % 250) - 125;
        return e.append(Op::Constant, type, {}, bitsFromDouble(type, value));
      };
      constexpr Op binary[] = {Op::Add, Op::Subtract, Op::Multiply, Op::Minimum, Op::Maximum};
      switch (random() % 4) {
      case 0:
      case 1:
        registers.push_back(e.append(binary[random() % std::size(binary)], type, {a, another()}));
        break;
      case 2:
        registers.push_back(
            e.append(random() % 2 ? Op::Convert : Op::ConvertSaturating, types[random() % std::size(types)], {a}));
        break;
      default:
        if (isFloat(type))
          registers.push_back(e.append(random() % 2 ? Op::RoundEven : Op::Truncate, type, {a}));
        else
          registers.push_back(random() % 2 || kindOf(type) != ElementKind::Signed
                                  ? e.append(random() % 2 ? Op::Less : Op::Equal, ElementType::boolean, {a, another()})
                                  : e.append(random() % 2 ? Op::Negate : Op::Absolute, type, {a}));
      }
    }
    e.results.assign(registers.end() - 3, registers.end());
    expectSame(e, random);
    changed += integersInF32(e, {}).print() != e.print();
    if (HasFatalFailure())
      return;
  }
  EXPECT_GT(changed, 1000);
}

// The range of an operand, if more is known than its type.
TEST(IpuFloatIntegers, knownOperands) {
  BlockExpression e;
  e.inputs = {i32, i32};
  Register sum = e.append(Op::Add, i32, {e.append(Op::Input, i32), e.append(Op::Input, i32, {}, 1)});
  e.results = {e.append(Op::Convert, f32, {sum})};
  auto additions = [](const BlockExpression &expression) {
    return llvm::find_if(expression.instructions, [](const auto &each) { return each.opcode == Op::Add; })->type;
  };
  constexpr double limit = 1 << 23;
  EXPECT_EQ(additions(integersInF32(e, {})), i32);
  EXPECT_EQ(additions(integersInF32(e, {Range{-limit, limit, true}, Range{-limit, limit, true}})), f32);
  EXPECT_EQ(additions(integersInF32(e, {Range{-limit, limit, true}, Range{-limit - 1, limit, true}})), i32);
}

} // namespace
} // namespace quadrille::ipu
