// The scalar body of an elementwise kernel or reduction as a short register program in static single assignment.
// The evaluator (BlockEvaluator.h) runs each instruction over a block of a few hundred elements; the reference and
// every simulator evaluate through it, so arithmetic is written once.
//
// Semantics that surprise people:
//  - Every register has an ElementType. Floats narrower than f32 compute in f32 and are rounded to their type (nearest
//    even) after every instruction; for + - * / sqrt this equals computing in the type itself (but for subnormal
//    results of bf16), for multiply_add and the transcendentals it is the f32 result narrowed.
//  - Transcendentals are within 1 ulp in f32 and f64 (f32 erf 1.1; f64 asinh and acosh past 2^30 1.2, sinh and
//    cosh past 709 2), the same bits on every CPU with fused multiply-add: ElementaryFunctions_test.cpp measures.
//  - Integers wrap modulo 2^bits. Division by zero gives 0 and INT_MIN / -1 gives INT_MIN: defined, never a trap.
//    Integer division truncates toward zero; `remainder` has the dividend's sign; `modulo` has the divisor's.
//  - `minimum`/`maximum` propagate NaN and order -0 below +0; `minimum_number`/`maximum_number` prefer the number.
//  - Comparisons are ordered (false on NaN) except `not_equal`, and give bool.
//  - `convert` float to integer truncates and saturates (NaN gives 0); integer to narrower integer wraps;
//    to bool is "not equal to zero"; f8 conversions saturate only if `saturate` is set, else follow the format (NaN
//    or inf).
//  - Shifts by the width or more, or by a negative amount, give 0 (or the sign).
//  - `sign` is -1, 0 or 1; zeros keep their sign and NaN stays NaN. `power` on integers wraps; a negative exponent
//    gives the truncated quotient (0 unless the base is 1 or -1).
#pragma once

#include "numerics/ElementType.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <array>
#include <optional>
#include <vector>

namespace quadrille {

// text, enumerator, number of operands
#define QUADRILLE_BLOCK_OPCODES(X)                                                                                     \
  X("input", Input, 0)          /* immediate = index of the read */                                                    \
  X("constant", Constant, 0)    /* immediate = bits in the register's type, zero-extended */                           \
  X("loop_index", LoopIndex, 0) /* immediate = loop number; i64 */                                                     \
  X("add", Add, 2)                                                                                                     \
  X("subtract", Subtract, 2)                                                                                           \
  X("multiply", Multiply, 2)                                                                                           \
  X("divide", Divide, 2)                                                                                               \
  X("remainder", Remainder, 2)                                                                                         \
  X("modulo", Modulo, 2)                                                                                               \
  X("power", Power, 2)                                                                                                 \
  X("minimum", Minimum, 2)                                                                                             \
  X("maximum", Maximum, 2)                                                                                             \
  X("minimum_number", MinimumNumber, 2)                                                                                \
  X("maximum_number", MaximumNumber, 2)                                                                                \
  X("multiply_add", MultiplyAdd, 3) /* fused: one rounding */                                                          \
  X("negate", Negate, 1)                                                                                               \
  X("absolute", Absolute, 1)                                                                                           \
  X("sign", Sign, 1)                                                                                                   \
  X("copy_sign", CopySign, 2)                                                                                          \
  X("square_root", SquareRoot, 1)                                                                                      \
  X("reciprocal_square_root", ReciprocalSquareRoot, 1)                                                                 \
  X("reciprocal", Reciprocal, 1)                                                                                       \
  X("exp", Exp, 1)                                                                                                     \
  X("exp2", Exp2, 1)                                                                                                   \
  X("expm1", Expm1, 1)                                                                                                 \
  X("log", Log, 1)                                                                                                     \
  X("log2", Log2, 1)                                                                                                   \
  X("log1p", Log1p, 1)                                                                                                 \
  X("sin", Sin, 1)                                                                                                     \
  X("cos", Cos, 1)                                                                                                     \
  X("tan", Tan, 1)                                                                                                     \
  X("asin", Asin, 1)                                                                                                   \
  X("acos", Acos, 1)                                                                                                   \
  X("atan", Atan, 1)                                                                                                   \
  X("atan2", Atan2, 2)                                                                                                 \
  X("sinh", Sinh, 1)                                                                                                   \
  X("cosh", Cosh, 1)                                                                                                   \
  X("tanh", Tanh, 1)                                                                                                   \
  X("asinh", Asinh, 1)                                                                                                 \
  X("acosh", Acosh, 1)                                                                                                 \
  X("atanh", Atanh, 1)                                                                                                 \
  X("erf", Erf, 1)                                                                                                     \
  X("floor", Floor, 1)                                                                                                 \
  X("ceil", Ceil, 1)                                                                                                   \
  X("round_even", RoundEven, 1)                                                                                        \
  X("truncate", Truncate, 1)                                                                                           \
  X("and", And, 2)                                                                                                     \
  X("or", Or, 2)                                                                                                       \
  X("xor", Xor, 2)                                                                                                     \
  X("not", Not, 1)                                                                                                     \
  X("shift_left", ShiftLeft, 2)                                                                                        \
  X("shift_right", ShiftRight, 2) /* arithmetic for signed types */                                                    \
  X("equal", Equal, 2)                                                                                                 \
  X("not_equal", NotEqual, 2)                                                                                          \
  X("less", Less, 2)                                                                                                   \
  X("less_equal", LessEqual, 2)                                                                                        \
  X("is_nan", IsNan, 1)                                                                                                \
  X("is_infinite", IsInfinite, 1)                                                                                      \
  X("select", Select, 3) /* operand 0 is bool */                                                                       \
  X("convert", Convert, 1)                                                                                             \
  X("convert_saturating", ConvertSaturating, 1) /* clamps to the result's finite range */                              \
  X("bitcast", Bitcast, 1)

enum class BlockOpcode : uint8_t {
#define QUADRILLE_ENUMERATOR(text, name, operands) name,
  QUADRILLE_BLOCK_OPCODES(QUADRILLE_ENUMERATOR)
#undef QUADRILLE_ENUMERATOR
};

llvm::StringRef nameOf(BlockOpcode opcode);
std::optional<BlockOpcode> blockOpcodeNamed(llvm::StringRef text);
unsigned operandCount(BlockOpcode opcode);

using Register = uint16_t; // index of the instruction that defines it

struct BlockInstruction {
  BlockOpcode opcode;
  ElementType type; // of the result
  std::array<Register, 3> operands = {};
  uint64_t immediate = 0;
};

// Operand types: both operands of an arithmetic instruction have the result's type; comparisons have equal operand
// types and a bool result; shifts have equal types; `verify` says what is wrong otherwise.
struct BlockExpression {
  std::vector<ElementType> inputs;            // types of the reads
  std::vector<BlockInstruction> instructions; // in order of definition
  std::vector<Register> results;              // one for each write

  Register append(BlockOpcode opcode, ElementType type, llvm::ArrayRef<Register> operands = {}, uint64_t immediate = 0);

  // Appends what another expression does to these registers, one for each of its inputs; returns its results.
  std::vector<Register> append(const BlockExpression &other, llvm::ArrayRef<Register> inputs);

  // Empty when well-formed, else what is wrong and at which instruction.
  std::string verify() const;

  // "%2:f32 = multiply %0, %1" a line each, then "return %2".
  std::string print() const;

  // Arithmetic operations for each element: instructions other than inputs, constants, copies and conversions.
  unsigned operationsPerElement() const;

  // The expression only returns its first read unchanged.
  bool isIdentity() const;
};

} // namespace quadrille
