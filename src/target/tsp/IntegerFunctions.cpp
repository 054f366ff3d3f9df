// Division, remainder and powers of integers.
#include "numerics/Convert.h"
#include "target/tsp/FunctionBuilder.h"

namespace quadrille::tsp {

namespace {
constexpr ElementType f32 = ElementType::f32, i32 = ElementType::i32, u32 = ElementType::u32;
constexpr ElementType boolean = ElementType::boolean;
} // namespace

// By the reciprocal in f32, made so much smaller (by more than all roundings) that no quotient is too large: what is
// left over never wraps. The first quotient is low by up to 2^-19 of itself, the second, of what is left over, by less
// than one.
FunctionBuilder::Division FunctionBuilder::divideUnsigned(Register a, Register b) {
  Register inverse = multiply(f32, reciprocal(f32, convert(f32, b)), constant(f32, 1 - 0x1p-20));
  Register half = constant(f32, 0.5), quotient = constantBits(u32, 0), rest = a;
  for (int step = 0; step < 2; ++step) {
    Register part = nearest(u32, f32, subtract(f32, multiply(f32, convert(f32, rest), inverse), half));
    quotient = add(u32, quotient, part);
    rest = subtract(u32, rest, multiply(u32, part, b));
  }
  Register once = emit(BlockOpcode::LessEqual, boolean, {b, rest});
  quotient = add(u32, quotient, convert(u32, once));
  rest = subtract(u32, rest, select(u32, once, b, constantBits(u32, 0)));
  Register byZero = equal(b, constantBits(u32, 0)), zero = constantBits(u32, 0);
  return {select(u32, byZero, zero, quotient), select(u32, byZero, zero, rest)};
}

// Of at most 16 bits: the quotient of a + 1/2 is at least 1/(2 b) from whole numbers, which no rounding reaches.
FunctionBuilder::Division FunctionBuilder::divideShort(Register a, Register b) {
  Register half = constant(f32, 0.5), dividend = add(f32, convert(f32, a), half);
  Register exact = multiply(f32, dividend, reciprocal(f32, convert(f32, b)));
  Register quotient = nearest(u32, f32, subtract(f32, exact, half)), zero = constantBits(u32, 0);
  Register rest = subtract(u32, a, multiply(u32, quotient, b)), byZero = equal(b, zero);
  return {select(u32, byZero, zero, quotient), select(u32, byZero, zero, rest)};
}

FunctionBuilder::SignedDivision FunctionBuilder::divideMagnitudes(ElementType t, Register a, Register b) {
  bool isSigned = kindOf(t) == ElementKind::Signed, isShort = bitWidth(t) < 32;
  SignedDivision result;
  result.wide = isSigned ? i32 : u32;
  result.a = isShort ? convert(result.wide, a) : a;
  result.b = isShort ? convert(result.wide, b) : b;
  auto magnitude = [&](Register x) { return isSigned ? bitcast(u32, emit(BlockOpcode::Absolute, i32, {x})) : x; };
  Register dividend = magnitude(result.a), divisor = magnitude(result.b);
  result.magnitudes = isShort ? divideShort(dividend, divisor) : divideUnsigned(dividend, divisor);
  return result;
}

Register FunctionBuilder::divide(ElementType t, Register a, Register b) {
  SignedDivision of = divideMagnitudes(t, a, b);
  Register quotient = of.magnitudes.quotient;
  if (of.wide == i32) {
    quotient = bitcast(i32, quotient);
    Register zero = constantBits(i32, 0), differ = less(emit(BlockOpcode::Xor, i32, {of.a, of.b}), zero);
    quotient = select(i32, differ, subtract(i32, zero, quotient), quotient);
  }
  return t == of.wide ? quotient : convert(t, quotient);
}

Register FunctionBuilder::remainder(ElementType t, Register a, Register b, bool signOfDivisor) {
  SignedDivision of = divideMagnitudes(t, a, b);
  Register rest = of.magnitudes.remainder;
  if (of.wide == i32) {
    rest = bitcast(i32, rest);
    Register zero = constantBits(i32, 0);
    rest = select(i32, less(of.a, zero), subtract(i32, zero, rest), rest);
    if (signOfDivisor) {
      Register differ = less(emit(BlockOpcode::Xor, i32, {rest, of.b}), zero);
      Register moved = both(differ, emit(BlockOpcode::NotEqual, boolean, {rest, zero}));
      rest = select(i32, moved, add(i32, rest, of.b), rest);
    }
  }
  return t == of.wide ? rest : convert(t, rest);
}

// By squares, one for each bit of the exponent.
Register FunctionBuilder::power(ElementType t, Register base, Register exponent) {
  bool isSigned = kindOf(t) == ElementKind::Signed;
  Register one = constantBits(t, 1), zero = constantBits(t, 0), result = one, square = base;
  unsigned bits = bitWidth(t) - isSigned;
  for (unsigned bit = 0; bit < bits; ++bit) {
    Register shifted = emit(BlockOpcode::ShiftRight, t, {exponent, constantBits(t, bit)});
    Register isSet = convert(boolean, emit(BlockOpcode::And, t, {shifted, one}));
    result = select(t, isSet, multiply(t, result, square), result);
    square = multiply(t, square, square);
  }
  if (!isSigned)
    return result;
  // Of negative exponents the quotient of one, truncated.
  Register minusOne = constant(t, -1);
  Register isOdd = convert(boolean, emit(BlockOpcode::And, t, {exponent, one}));
  Register ofMinusOne = select(t, isOdd, minusOne, one);
  Register small = select(t, equal(base, minusOne), ofMinusOne, select(t, equal(base, one), one, zero));
  return select(t, less(exponent, zero), small, result);
}

} // namespace quadrille::tsp
