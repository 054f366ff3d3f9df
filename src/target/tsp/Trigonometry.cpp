// Sine, cosine, tangent and their inverses, of f32. Polynomials are minimax fits.
#include "target/tsp/FunctionBuilder.h"

#include <limits>

namespace quadrille::tsp {

namespace {
constexpr ElementType f32 = ElementType::f32, i32 = ElementType::i32;
constexpr double pi = 3.14159265358979323846, halfPi = pi / 2;
constexpr double nan = std::numeric_limits<double>::quiet_NaN();
} // namespace

// Cody and Waite's reduction: x - k pi/2, with pi/2 in parts of 13 bits and k, of 20 bits, in an upper and a lower
// part, so that each product is exact.
FunctionBuilder::Reduced FunctionBuilder::reduceToQuadrant(Register x) {
  // The sum of these is pi/2 to 2^-54; each is a multiple of 2^-12, 2^-25, 2^-38, 2^-51.
  constexpr double part1 = 6433.0 / 0x1p12, part2 = 8042.0 / 0x1p25;
  constexpr double part3 = 4368.0 / 0x1p38;
  constexpr double part4 = halfPi - part1 - part2 - part3;
  Register magnitude = absolute(f32, x);
  Register k = roundEven(f32, multiply(f32, magnitude, constant(f32, 1 / halfPi)));
  Register high = multiply(f32, roundEven(f32, multiply(f32, k, constant(f32, 1.0 / 1024))), constant(f32, 1024));
  Register low = subtract(f32, k, high), rest = magnitude;
  for (double part : {part1, part2, part3, part4}) {
    Register value = constant(f32, part);
    rest = subtract(f32, rest, multiply(f32, high, value));
    rest = subtract(f32, rest, multiply(f32, low, value));
  }
  constexpr double most = 0x1p20;
  rest = select(f32, less(constant(f32, most), magnitude), constant(f32, nan), rest);
  return {nearest(i32, f32, k), rest, magnitude};
}

// Of at most 0.9.
Register FunctionBuilder::sinOf(Register rest) {
  Register z = multiply(f32, rest, rest);
  Register series = polynomial(z, {-0.1666666659, 0.008333324423, -0.0001983794248, 2.70669425e-06});
  return add(f32, rest, multiply(f32, multiply(f32, rest, z), series));
}
Register FunctionBuilder::cosOf(Register rest) {
  Register z = multiply(f32, rest, rest);
  Register series = polynomial(z, {0.04166662199, -0.001388627337, 2.432579527e-05});
  Register parabola = subtract(f32, constant(f32, 1), multiply(f32, constant(f32, 0.5), z));
  return add(f32, parabola, multiply(f32, multiply(f32, z, z), series));
}

// By the two lowest bits of the quadrant: which of sine and cosine of the rest it is, and the sign.
Register FunctionBuilder::sin(Register x) {
  Reduced of = reduceToQuadrant(x);
  Register isOdd = convert(ElementType::boolean, emit(BlockOpcode::And, i32, {of.quadrant, constantBits(i32, 1)}));
  Register value = select(f32, isOdd, cosOf(of.rest), sinOf(of.rest));
  Register turned = emit(BlockOpcode::And, i32, {of.quadrant, constantBits(i32, 2)});
  Register sign =
      emit(BlockOpcode::Xor, i32,
           {emit(BlockOpcode::ShiftLeft, i32, {turned, constantBits(i32, 30)}), bitcast(i32, signBit(f32, x))});
  return bitcast(f32, emit(BlockOpcode::Xor, i32, {bitcast(i32, value), sign}));
}

Register FunctionBuilder::cos(Register x) {
  Reduced of = reduceToQuadrant(x);
  Register isOdd = convert(ElementType::boolean, emit(BlockOpcode::And, i32, {of.quadrant, constantBits(i32, 1)}));
  Register value = select(f32, isOdd, sinOf(of.rest), cosOf(of.rest));
  Register next = add(i32, of.quadrant, constantBits(i32, 1)); // quadrants 1 and 2 are negative
  Register turned = emit(BlockOpcode::And, i32, {next, constantBits(i32, 2)});
  Register sign = emit(BlockOpcode::ShiftLeft, i32, {turned, constantBits(i32, 30)});
  return bitcast(f32, emit(BlockOpcode::Xor, i32, {bitcast(i32, value), sign}));
}

Register FunctionBuilder::tan(Register x) {
  Reduced of = reduceToQuadrant(x);
  Register odd = emit(BlockOpcode::And, i32, {of.quadrant, constantBits(i32, 1)});
  Register isOdd = convert(ElementType::boolean, odd), sine = sinOf(of.rest), cosine = cosOf(of.rest);
  Register value = multiply(f32, select(f32, isOdd, cosine, sine), reciprocal(f32, select(f32, isOdd, sine, cosine)));
  Register sign =
      emit(BlockOpcode::Xor, i32,
           {emit(BlockOpcode::ShiftLeft, i32, {odd, constantBits(i32, 31)}), bitcast(i32, signBit(f32, x))});
  return bitcast(f32, emit(BlockOpcode::Xor, i32, {bitcast(i32, value), sign}));
}

Register FunctionBuilder::atanOfUnit(Register x) {
  Register z = multiply(f32, x, x);
  Register series = polynomial(z, {-0.3333329909, 0.199985482, -0.1426424079, 0.1095218111, -0.08403436679, 0.05795736,
                                   -0.03117761346, 0.01091448124, -0.00179359394});
  return add(f32, x, multiply(f32, multiply(f32, x, z), series));
}

// Of numbers beyond 1 that of the reciprocal, from pi/2 down.
Register FunctionBuilder::atan(Register x) {
  Register magnitude = absolute(f32, x), large = less(constant(f32, 1), magnitude);
  Register angle = atanOfUnit(select(f32, large, reciprocal(f32, magnitude), magnitude));
  angle = select(f32, large, subtract(f32, constant(f32, halfPi), angle), angle);
  return withSign(f32, angle, signBit(f32, x));
}

Register FunctionBuilder::atan2(Register y, Register x) {
  Register height = absolute(f32, y), width = absolute(f32, x), one = constant(f32, 1), zero = constant(f32, 0);
  Register low = emit(BlockOpcode::Minimum, f32, {height, width});
  Register high = emit(BlockOpcode::Maximum, f32, {height, width});
  // Of numbers whose quotient's parts would leave the range.
  Register scale = select(f32, less(constant(f32, 0x1p100), high), constant(f32, 0x1p-64), one);
  scale = select(f32, less(high, constant(f32, 0x1p-100)), constant(f32, 0x1p64), scale);
  Register ratio = multiply(f32, multiply(f32, low, scale), reciprocal(f32, multiply(f32, high, scale)));
  ratio = select(f32, equal(low, high), select(f32, equal(high, zero), zero, one), ratio);
  Register angle = atanOfUnit(ratio);
  angle = select(f32, less(width, height), subtract(f32, constant(f32, halfPi), angle), angle);
  Register isLeft = convert(ElementType::boolean, signBit(f32, x));
  angle = select(f32, isLeft, subtract(f32, constant(f32, pi), angle), angle);
  return withSign(f32, angle, signBit(f32, y));
}

Register FunctionBuilder::asinOfHalf(Register x) {
  Register z = multiply(f32, x, x);
  Register series = polynomial(z, {0.1666675393, 0.07495241778, 0.04547709704, 0.02414761217, 0.04221854566});
  return add(f32, x, multiply(f32, multiply(f32, x, z), series));
}

// Beyond 1/2: asin(a) = pi/2 - 2 asin(sqrt((1 - a) / 2)).
Register FunctionBuilder::asin(Register x) {
  Register a = absolute(f32, x), half = constant(f32, 0.5), large = less(half, a);
  Register root = squareRoot(f32, multiply(f32, half, subtract(f32, constant(f32, 1), a)));
  Register angle = asinOfHalf(select(f32, large, root, a));
  Register other = subtract(f32, constant(f32, halfPi), add(f32, angle, angle));
  return withSign(f32, select(f32, large, other, angle), signBit(f32, x));
}

Register FunctionBuilder::acos(Register x) {
  Register a = absolute(f32, x), half = constant(f32, 0.5), large = less(half, a), sign = signBit(f32, x);
  Register root = squareRoot(f32, multiply(f32, half, subtract(f32, constant(f32, 1), a)));
  Register angle = asinOfHalf(select(f32, large, root, a)), twice = add(f32, angle, angle);
  Register isNegative = convert(ElementType::boolean, sign);
  Register beyond = select(f32, isNegative, subtract(f32, constant(f32, pi), twice), twice);
  Register within = subtract(f32, constant(f32, halfPi), withSign(f32, angle, sign));
  return select(f32, large, beyond, within);
}

} // namespace quadrille::tsp
