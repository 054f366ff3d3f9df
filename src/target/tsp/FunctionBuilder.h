// Functions that the vector unit lacks, as operations that it has: each appends instructions to an expression. Errors
// are bounds in units in the last place of f32, unless they say otherwise, and are tested over all magnitudes.
#pragma once

#include "numerics/BlockExpression.h"

namespace quadrille::tsp {

class FunctionBuilder {
public:
  BlockExpression to;

  // What has constant operands is computed here.
  Register emit(BlockOpcode opcode, ElementType type, llvm::ArrayRef<Register> operands, uint64_t immediate = 0);
  Register constant(ElementType type, double value);
  Register constantBits(ElementType type, uint64_t bits) { return emit(BlockOpcode::Constant, type, {}, bits); }
  Register add(ElementType t, Register a, Register b) { return emit(BlockOpcode::Add, t, {a, b}); }
  Register subtract(ElementType t, Register a, Register b) { return emit(BlockOpcode::Subtract, t, {a, b}); }
  Register multiply(ElementType t, Register a, Register b) { return emit(BlockOpcode::Multiply, t, {a, b}); }
  Register select(ElementType t, Register condition, Register yes, Register no) {
    return emit(BlockOpcode::Select, t, {condition, yes, no});
  }
  Register less(Register a, Register b) { return emit(BlockOpcode::Less, ElementType::boolean, {a, b}); }
  Register equal(Register a, Register b) { return emit(BlockOpcode::Equal, ElementType::boolean, {a, b}); }
  Register both(Register a, Register b) { return emit(BlockOpcode::And, ElementType::boolean, {a, b}); }
  Register isNot(Register a) { return emit(BlockOpcode::Not, ElementType::boolean, {a}); }
  Register isNan(Register x) { return emit(BlockOpcode::NotEqual, ElementType::boolean, {x, x}); }
  Register convert(ElementType into, Register x) { return emit(BlockOpcode::Convert, into, {x}); }
  Register bitcast(ElementType into, Register x) { return emit(BlockOpcode::Bitcast, into, {x}); }
  // To the nearest integer, as the unit converts.
  Register nearest(ElementType into, ElementType from, Register x) {
    return convert(into, emit(BlockOpcode::RoundEven, from, {x}));
  }

  static ElementType bitsOf(ElementType type) { return bitWidth(type) == 16 ? ElementType::u16 : ElementType::u32; }
  Register signBit(ElementType t, Register x);
  Register withSign(ElementType t, Register magnitude, Register sign);
  Register absolute(ElementType t, Register x) { return emit(BlockOpcode::Absolute, t, {x}); }
  // c[0] + c[1] x + c[2] x^2 ..., in f32.
  Register polynomial(Register x, llvm::ArrayRef<double> coefficients);

  // FloatFunctions.cpp, of f32 and f16 where they take a type
  Register reciprocal(ElementType t, Register x); // 2.5 ulp, right for zeros and infinities
  Register squareRoot(ElementType t, Register x); // 4 ulp
  // a / b in f32 for a result that is rounded to a whole number: whole and half quotients come out as they are.
  Register quotientToRound(Register a, Register b);
  Register roundEven(ElementType t, Register x);
  Register truncate(ElementType t, Register x);
  Register floor(ElementType t, Register x);
  Register ceil(ElementType t, Register x);
  Register log(Register x);               // 4 ulp
  Register log2(Register x);              // 4 ulp; exact at powers of two
  Register log1p(Register x);             // 10 ulp
  Register exp2(Register x);              // 4 ulp
  Register expm1(Register x);             // 5 ulp
  Register sinh(Register x);              // 8 ulp
  Register cosh(Register x);              // 5 ulp
  Register asinh(Register x);             // 16 ulp
  Register acosh(Register x);             // 16 ulp
  Register atanh(Register x);             // 16 ulp
  Register errorFunction(Register x);     // absolute error 8e-7
  Register power(Register x, Register y); // 8 ulp
  // The remainder of a / b with the sign of a, exact; it may be NaN where |a / b| is 2^44 or more.
  Register remainder(Register a, Register b);

  // Trigonometry.cpp, f32. Beyond 2^20 the machine's sine, cosine and tangent are NaN.
  Register sin(Register x);               // absolute error 1.2e-7
  Register cos(Register x);               // absolute error 1.2e-7
  Register tan(Register x);               // 8 ulp where |tan| is at least 1e-4
  Register asin(Register x);              // 5 ulp
  Register acos(Register x);              // 6 ulp
  Register atan(Register x);              // 6 ulp
  Register atan2(Register y, Register x); // 8 ulp

  // IntegerFunctions.cpp, exact. Division by zero gives 0.
  Register divide(ElementType t, Register a, Register b);
  Register remainder(ElementType t, Register a, Register b, bool signOfDivisor);
  Register power(ElementType t, Register base, Register exponent);

  // In f32, for a function of narrower floats.
  template <typename Function> Register inF32(ElementType t, Register x, const Function &function) {
    if (t == ElementType::f32)
      return function(x);
    return convert(t, function(convert(ElementType::f32, x)));
  }
  template <typename Function> Register inF32(ElementType t, Register x, Register y, const Function &function) {
    if (t == ElementType::f32)
      return function(x, y);
    Register wideX = convert(ElementType::f32, x), wideY = convert(ElementType::f32, y);
    return convert(t, function(wideX, wideY));
  }

private:
  Register asFloat(ElementType t, Register condition) { return convert(t, condition); }
  Register roundMagnitude(ElementType t, Register magnitude);
  Register upperHalf(Register x);
  // x = 2^exponent * (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)); of positive finite x.
  struct Split {
    Register exponent, f; // both f32
  };
  Split split(Register x);
  // log(1 + f) - f of a split, without what is exact.
  Register logTail(Register f);
  Register logSpecials(Register x, Register result);
  // 2^k of whole k in [-126, 127], as f32.
  Register powerOfTwo(Register k);

  struct Reduced { // x = quadrant * pi/2 + rest
    Register quadrant, rest, magnitude;
  };
  Reduced reduceToQuadrant(Register x);
  Register sinOf(Register rest);
  Register cosOf(Register rest);
  Register atanOfUnit(Register x); // of [0, 1]
  Register asinOfHalf(Register x); // of [0, 0.5]

  struct Division {
    Register quotient, remainder; // u32
  };
  Division divideUnsigned(Register a, Register b);
  Division divideShort(Register a, Register b);
  struct SignedDivision {
    Division magnitudes;
    ElementType wide = ElementType::i32; // i32 or u32
    Register a = 0, b = 0;               // in that type
  };
  SignedDivision divideMagnitudes(ElementType t, Register a, Register b);
};

} // namespace quadrille::tsp
