// Rounding, quotients, logarithms, exponentials, powers.
#include "numerics/BlockEvaluator.h"
#include "numerics/Convert.h"
#include "target/tsp/FunctionBuilder.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>
#include <limits>

namespace quadrille::tsp {

namespace {
constexpr ElementType f32 = ElementType::f32, i32 = ElementType::i32, boolean = ElementType::boolean;
constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
constexpr double ln2 = 0.69314718055994531, log2e = 1.4426950408889634;
} // namespace

Register FunctionBuilder::emit(BlockOpcode opcode, ElementType type, llvm::ArrayRef<Register> operands,
                               uint64_t immediate) {
  auto isConstant = [&](Register value) { return to.instructions[value].opcode == BlockOpcode::Constant; };
  if (opcode == BlockOpcode::Select && isConstant(operands[0]))
    return to.instructions[operands[0]].immediate != 0 ? operands[1] : operands[2];
  if (operands.empty() || !llvm::all_of(operands, isConstant))
    return to.append(opcode, type, operands, immediate);
  BlockExpression alone;
  std::vector<Register> same;
  for (Register operand : operands)
    same.push_back(
        alone.append(BlockOpcode::Constant, to.instructions[operand].type, {}, to.instructions[operand].immediate));
  alone.results = {alone.append(opcode, type, same, immediate)};
  BlockEvaluator evaluator = llvm::cantFail(BlockEvaluator::compile(alone));
  BlockEvaluator::Scratch scratch(evaluator);
  uint64_t bits = 0;
  evaluator.evaluate({}, {{&bits, 1}}, 1, {}, scratch);
  return constantBits(type, bits);
}

Register FunctionBuilder::constant(ElementType type, double value) {
  return constantBits(type, bitsFromDouble(type, value));
}

Register FunctionBuilder::signBit(ElementType t, Register x) {
  ElementType bits = bitsOf(t);
  return emit(BlockOpcode::And, bits, {bitcast(bits, x), constantBits(bits, uint64_t(1) << (bitWidth(t) - 1))});
}

Register FunctionBuilder::withSign(ElementType t, Register magnitude, Register sign) {
  ElementType bits = bitsOf(t);
  return bitcast(t, emit(BlockOpcode::Or, bits, {bitcast(bits, magnitude), sign}));
}

Register FunctionBuilder::polynomial(Register x, llvm::ArrayRef<double> coefficients) {
  Register sum = constant(f32, coefficients.back());
  for (size_t i = coefficients.size() - 1; i-- > 0;)
    sum = add(f32, constant(f32, coefficients[i]), multiply(f32, x, sum));
  return sum;
}

// The reciprocal root squared, with the sign.
Register FunctionBuilder::reciprocal(ElementType t, Register x) {
  Register root = emit(BlockOpcode::ReciprocalSquareRoot, t, {absolute(t, x)});
  return withSign(t, multiply(t, root, root), signBit(t, x));
}

// The reciprocal root of the reciprocal, which is the reciprocal root squared.
Register FunctionBuilder::squareRoot(ElementType t, Register x) {
  Register root = emit(BlockOpcode::ReciprocalSquareRoot, t, {x});
  return emit(BlockOpcode::ReciprocalSquareRoot, t, {multiply(t, root, root)});
}

// The upper 12 bits of the fraction: products of two such numbers are exact.
Register FunctionBuilder::upperHalf(Register x) {
  ElementType bits = ElementType::u32;
  return bitcast(f32, emit(BlockOpcode::And, bits, {bitcast(bits, x), constantBits(bits, 0xfffff000u)}));
}

// a times the reciprocal, corrected by what is exactly left over. Where the correction is no number (infinities,
// divisions by zero) it is left out.
Register FunctionBuilder::quotientToRound(Register a, Register b) {
  ElementType t = f32;
  Register inverse = reciprocal(t, b), first = multiply(t, a, inverse);
  Register q1 = upperHalf(first), q2 = subtract(t, first, q1), b1 = upperHalf(b), b2 = subtract(t, b, b1);
  Register rest = subtract(t, a, multiply(t, q1, b1));
  rest = subtract(t, rest, multiply(t, q1, b2));
  rest = subtract(t, rest, multiply(t, q2, b1));
  rest = subtract(t, rest, multiply(t, q2, b2));
  Register corrected = add(t, first, multiply(t, rest, inverse));
  return select(t, isNan(corrected), first, corrected);
}

// Adding and taking away a number whose unit in the last place is 1 rounds to it, ties to even. Larger numbers are
// whole already.
Register FunctionBuilder::roundMagnitude(ElementType t, Register magnitude) {
  Register whole = constant(t, t == ElementType::f16 ? 1024 : 8388608);
  Register rounded = subtract(t, add(t, magnitude, whole), whole);
  return select(t, less(magnitude, whole), rounded, magnitude);
}

Register FunctionBuilder::roundEven(ElementType t, Register x) {
  return withSign(t, roundMagnitude(t, absolute(t, x)), signBit(t, x));
}

Register FunctionBuilder::truncate(ElementType t, Register x) {
  Register magnitude = absolute(t, x), rounded = roundMagnitude(t, magnitude);
  Register down = subtract(t, rounded, asFloat(t, less(magnitude, rounded)));
  return withSign(t, down, signBit(t, x));
}

Register FunctionBuilder::floor(ElementType t, Register x) {
  Register rounded = roundEven(t, x);
  return subtract(t, rounded, asFloat(t, less(x, rounded)));
}

// As floor of the negative, so that -0 comes out where it should.
Register FunctionBuilder::ceil(ElementType t, Register x) {
  Register rounded = roundEven(t, x);
  Register up = add(t, rounded, asFloat(t, less(rounded, x)));
  return withSign(t, absolute(t, up), signBit(t, x));
}

FunctionBuilder::Split FunctionBuilder::split(Register x) {
  constexpr uint32_t one = 0x3f800000, rootOfHalf = 0x3f3504f3, fractionBits = 0x7fffff;
  // Subnormal numbers are scaled by 2^25.
  Register small = less(x, constant(f32, std::numeric_limits<float>::min()));
  Register scaled = select(f32, small, multiply(f32, x, constant(f32, 0x1p25)), x);
  Register bits = add(i32, bitcast(i32, scaled), constantBits(i32, one - rootOfHalf));
  Register k = subtract(i32, emit(BlockOpcode::ShiftRight, i32, {bits, constantBits(i32, 23)}), constantBits(i32, 127));
  Register fraction =
      add(i32, emit(BlockOpcode::And, i32, {bits, constantBits(i32, fractionBits)}), constantBits(i32, rootOfHalf));
  Register exponent = subtract(f32, convert(f32, k), multiply(f32, asFloat(f32, small), constant(f32, 25)));
  return {exponent, subtract(f32, bitcast(f32, fraction), constant(f32, 1))};
}

// FreeBSD's logf: with s = f / (2 + f), log(1 + f) is f - (f^2/2 - s (f^2/2 + R(s^2))).
Register FunctionBuilder::logTail(Register f) {
  Register s = multiply(f32, f, reciprocal(f32, add(f32, constant(f32, 2), f)));
  Register z = multiply(f32, s, s), w = multiply(f32, z, z);
  Register even = multiply(f32, w, polynomial(w, {0.40000972152, 0.24279078841}));
  Register odd = multiply(f32, z, polynomial(w, {0.66666662693, 0.28498786688}));
  Register half = multiply(f32, multiply(f32, constant(f32, 0.5), f), f);
  return subtract(f32, half, multiply(f32, s, add(f32, half, add(f32, odd, even))));
}

// Zero, negative numbers, infinity, NaN.
Register FunctionBuilder::logSpecials(Register x, Register result) {
  Register zero = constant(f32, 0);
  result = select(f32, equal(x, zero), constant(f32, -infinity), result);
  result = select(f32, less(x, zero), constant(f32, nan), result);
  return select(f32, less(x, constant(f32, infinity)), result, x);
}

Register FunctionBuilder::log(Register x) {
  Split parts = split(x);
  Register low = multiply(f32, parts.exponent, constant(f32, 9.0580006145e-06));
  Register high = multiply(f32, parts.exponent, constant(f32, 6.9313812256e-01));
  Register result = add(f32, add(f32, subtract(f32, low, logTail(parts.f)), parts.f), high);
  return logSpecials(x, result);
}

Register FunctionBuilder::log2(Register x) {
  Split parts = split(x);
  Register fraction = multiply(f32, subtract(f32, parts.f, logTail(parts.f)), constant(f32, log2e));
  return logSpecials(x, add(f32, parts.exponent, fraction));
}

// What is lost when 1 is added is made good by the factor x / ((1 + x) - 1) (HP-15C Advanced Functions Handbook).
Register FunctionBuilder::log1p(Register x) {
  Register one = constant(f32, 1), sum = add(f32, one, x), logarithm = log(sum);
  Register kept = subtract(f32, sum, one);
  Register result = multiply(f32, logarithm, multiply(f32, x, reciprocal(f32, kept)));
  result = select(f32, equal(sum, one), x, result);
  return select(f32, less(constant(f32, 0x1p24), x), logarithm, result);
}

Register FunctionBuilder::powerOfTwo(Register k) {
  Register biased = add(i32, k, constantBits(i32, 127));
  return bitcast(f32, emit(BlockOpcode::ShiftLeft, i32, {biased, constantBits(i32, 23)}));
}

Register FunctionBuilder::exp2(Register x) {
  // Beyond, the result is 0 or infinite.
  Register clamped = emit(BlockOpcode::Minimum, f32, {x, constant(f32, 200)});
  clamped = emit(BlockOpcode::Maximum, f32, {clamped, constant(f32, -200)});
  Register whole = roundEven(f32, clamped);
  Register fraction = emit(BlockOpcode::Exp, f32, {multiply(f32, subtract(f32, clamped, whole), constant(f32, ln2))});
  Register k = nearest(i32, f32, whole);
  Register first = emit(BlockOpcode::ShiftRight, i32, {k, constantBits(i32, 1)});
  Register second = subtract(i32, k, first);
  return multiply(f32, multiply(f32, fraction, powerOfTwo(first)), powerOfTwo(second));
}

// exp(x) - 1 = tanh(x / 2) (exp(x) + 1)
Register FunctionBuilder::expm1(Register x) {
  Register half = emit(BlockOpcode::Tanh, f32, {multiply(f32, x, constant(f32, 0.5))});
  return multiply(f32, half, add(f32, emit(BlockOpcode::Exp, f32, {x}), constant(f32, 1)));
}

// exp(|x|) as a square, which overflows only where the result does.
Register FunctionBuilder::cosh(Register x) {
  Register half = constant(f32, 0.5), magnitude = absolute(f32, x);
  Register root = emit(BlockOpcode::Exp, f32, {multiply(f32, magnitude, half)});
  Register falling = emit(BlockOpcode::Exp, f32, {emit(BlockOpcode::Negate, f32, {magnitude})});
  return add(f32, multiply(f32, multiply(f32, half, root), root), multiply(f32, half, falling));
}

Register FunctionBuilder::sinh(Register x) {
  return multiply(f32, emit(BlockOpcode::Tanh, f32, {x}), cosh(x));
}

// log1p(a + a^2 / (1 + sqrt(1 + a^2))); where that is log(2 a), without the square.
Register FunctionBuilder::asinh(Register x) {
  Register a = absolute(f32, x), square = multiply(f32, a, a), one = constant(f32, 1);
  Register root = squareRoot(f32, add(f32, one, square));
  Register argument = add(f32, a, multiply(f32, square, reciprocal(f32, add(f32, one, root))));
  Register large = less(constant(f32, 0x1p28), a);
  Register result = log1p(select(f32, large, a, argument));
  result = add(f32, result, multiply(f32, asFloat(f32, large), constant(f32, ln2)));
  return withSign(f32, result, signBit(f32, x));
}

// log1p(t + sqrt(t (t + 2))) of t = x - 1
Register FunctionBuilder::acosh(Register x) {
  Register one = constant(f32, 1), t = subtract(f32, x, one);
  Register root = squareRoot(f32, multiply(f32, t, add(f32, t, constant(f32, 2))));
  Register large = less(constant(f32, 0x1p28), x);
  Register result = log1p(select(f32, large, x, add(f32, t, root)));
  result = add(f32, result, multiply(f32, asFloat(f32, large), constant(f32, ln2)));
  return select(f32, less(x, one), constant(f32, nan), result);
}

// log1p(2 a / (1 - a)) / 2
Register FunctionBuilder::atanh(Register x) {
  Register a = absolute(f32, x);
  Register ratio = multiply(f32, add(f32, a, a), reciprocal(f32, subtract(f32, constant(f32, 1), a)));
  return withSign(f32, multiply(f32, constant(f32, 0.5), log1p(ratio)), signBit(f32, x));
}

// Abramowitz and Stegun 7.1.26, which is within 1.5e-7; the roundings of its sum are more than that.
Register FunctionBuilder::errorFunction(Register x) {
  Register magnitude = absolute(f32, x);
  Register root = emit(BlockOpcode::ReciprocalSquareRoot, f32,
                       {add(f32, constant(f32, 1), multiply(f32, constant(f32, 0.3275911), magnitude))});
  Register u = multiply(f32, root, root);
  Register sum = polynomial(u, {0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429});
  Register square = emit(BlockOpcode::Negate, f32, {multiply(f32, magnitude, magnitude)});
  Register tail = multiply(f32, multiply(f32, sum, u), emit(BlockOpcode::Exp, f32, {square}));
  return withSign(f32, subtract(f32, constant(f32, 1), tail), signBit(f32, x));
}

// exp(y log|x|), where the logarithm and the product have twice the digits: each is a sum of two f32, the second of
// which corrects the first.
Register FunctionBuilder::power(Register x, Register y) {
  Register one = constant(f32, 1), zero = constant(f32, 0), a = absolute(f32, x);
  Split parts = split(a);
  // s = f / (2 + f) in 12 bits, and what is left.
  Register f = parts.f, sum = add(f32, constant(f32, 2), f);
  Register lost = subtract(f32, f, subtract(f32, sum, constant(f32, 2)));
  Register inverse = reciprocal(f32, sum), high = upperHalf(multiply(f32, f, inverse));
  Register sum1 = upperHalf(sum), sum2 = subtract(f32, sum, sum1);
  Register rest = subtract(f32, f, multiply(f32, high, sum1));
  rest = subtract(f32, rest, multiply(f32, high, sum2));
  rest = subtract(f32, rest, multiply(f32, high, lost));
  Register low = multiply(f32, rest, inverse), s = add(f32, high, low), z = multiply(f32, s, s);
  // log(1 + f) = 2 s + 2/3 s^3 + 2/5 s^5 ...
  Register series = polynomial(z, {2.0 / 3, 2.0 / 5, 2.0 / 7, 2.0 / 9, 2.0 / 11});
  Register tail = add(f32, add(f32, low, low), multiply(f32, multiply(f32, s, z), series));
  // The exponent's part has 12 bits of log(2), so that the product is exact.
  constexpr double ln2High = 2839.0 / 4096;
  Register large = multiply(f32, parts.exponent, constant(f32, ln2High)), small = add(f32, high, high);
  tail = add(f32, multiply(f32, parts.exponent, constant(f32, ln2 - ln2High)), tail);
  Register first = add(f32, large, small), back = subtract(f32, first, large);
  Register error = add(f32, subtract(f32, large, subtract(f32, first, back)), subtract(f32, small, back));
  Register correction = add(f32, error, tail), logarithm = add(f32, first, correction);
  correction = subtract(f32, correction, subtract(f32, logarithm, first));
  // y times that.
  Register y1 = upperHalf(y), y2 = subtract(f32, y, y1);
  Register l1 = upperHalf(logarithm), l2 = subtract(f32, logarithm, l1);
  Register product = multiply(f32, y, logarithm);
  Register missing = subtract(f32, multiply(f32, y1, l1), product);
  missing = add(f32, missing, multiply(f32, y1, l2));
  missing = add(f32, missing, multiply(f32, y2, l1));
  missing = add(f32, missing, multiply(f32, y2, l2));
  missing = add(f32, missing, multiply(f32, y, correction));
  // Beyond, the result is 0 or infinite.
  missing = select(f32, less(absolute(f32, product), constant(f32, 128)), missing, zero);
  Register raised = emit(BlockOpcode::Exp, f32, {product});
  Register corrected = add(f32, raised, multiply(f32, raised, missing));
  Register result = select(f32, less(raised, constant(f32, infinity)), corrected, raised);

  Register falls = less(y, zero), most = constant(f32, infinity);
  result = select(f32, equal(a, zero), select(f32, falls, most, zero), result);
  result = select(f32, equal(a, most), select(f32, falls, zero, most), result);
  // Of negative numbers: the sign of odd powers; others than whole powers are no numbers.
  auto isWhole = [&](Register value) { return equal(roundEven(f32, value), value); };
  Register whole = isWhole(y), isOdd = both(whole, isNot(isWhole(multiply(f32, y, constant(f32, 0.5)))));
  Register sign = signBit(f32, x), noSign = constantBits(ElementType::u32, 0);
  result = withSign(f32, result, select(ElementType::u32, isOdd, sign, noSign));
  Register inside = both(less(x, zero), both(less(a, most), isNot(whole)));
  result = select(f32, inside, constant(f32, nan), result);
  result = select(f32, isNan(x), x, result);
  result = select(f32, isNan(y), y, result);
  return select(f32, emit(BlockOpcode::Or, boolean, {equal(y, zero), equal(x, one)}), one, result);
}

// Long division in steps of 11 bits: each takes a multiple of the divisor away that is at most what is left, with so
// few bits that what remains is exact.
Register FunctionBuilder::remainder(Register a, Register b) {
  constexpr int steps = 4;
  Register divisor = absolute(f32, b), rest = absolute(f32, a), dividend = rest;
  Register b1 = upperHalf(divisor), b2 = subtract(f32, divisor, b1);
  Register inverse = multiply(f32, reciprocal(f32, divisor), constant(f32, 1 - 0x1p-20));
  for (int step = 0; step < steps; ++step) {
    Register multiple = truncate(f32, upperHalf(multiply(f32, rest, inverse)));
    rest = subtract(f32, rest, multiply(f32, multiple, b1));
    rest = subtract(f32, rest, multiply(f32, multiple, b2));
  }
  rest = select(f32, less(rest, divisor), rest, subtract(f32, rest, divisor));
  rest = select(f32, less(rest, divisor), rest, constant(f32, nan));
  rest = select(f32, less(dividend, divisor), dividend, rest);
  return withSign(f32, rest, signBit(f32, a));
}

} // namespace quadrille::tsp
