// The arithmetic of Vector.def, and which streams and units an arithmetic unit can reach.
#pragma once

#include "target/tsp/Instructions.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"

#include <cstddef>
#include <memory>

namespace quadrille::tsp {

enum class AluType : uint8_t { I8, U8, I16, U16, I32, U32, F16, F32, Bool };

// Of the instructions in Vector.def, with fields in their ranges (Field::problem). Operand 0 is `a`, 1 is `b`; the
// bytes are those of an element, which is the number of streams that the value takes.
int64_t operandCount(const Instruction &instruction);
Source operandSource(const Instruction &instruction, int64_t operand);
int64_t operandBytes(const Instruction &instruction, int64_t operand);
int64_t resultBytes(const Instruction &instruction);
bool isTranscendental(Opcode opcode);
bool needsLargeUnit(const Instruction &instruction);
bool wraps(const Instruction &instruction); // what overflows, instead of saturating

// Empty when arithmetic unit `alu` can do the instruction: the type suits the operation, wide values lie on aligned
// streams, and, with strict routing, each operand comes over one of the mesh row's stream groups, not over the same
// group from both directions, the result leaves over one of the row's groups, another unit's result can get here (it
// leaves over a group that this row reads, in a direction that meets that unit's column first), and transcendental
// functions and products of 32-bit integers are done by a large unit.
std::string vectorProblem(const Instruction &instruction, int64_t alu, const Architecture &machine);
// Whether unit `alu` reaches the operands and the stream of an instruction that is legal on some unit.
bool isReachable(const Instruction &instruction, int64_t alu, const Architecture &machine);

// One instruction's function, compiled once and shared by all threads.
class AluFunction {
public:
  // For an instruction without vectorProblem.
  static llvm::Expected<std::shared_ptr<const AluFunction>> of(const Instruction &instruction);
  ~AluFunction();

  // `count` elements; operands and result as byte planes of `count` bytes each, the least significant first.
  // `b` is empty for an instruction with one operand. A plane of the result may be the plane of the same number
  // of an operand; no others may overlap.
  void evaluate(llvm::ArrayRef<const std::byte *> a, llvm::ArrayRef<const std::byte *> b,
                llvm::ArrayRef<std::byte *> result, int64_t count) const;

private:
  struct State;
  explicit AluFunction(std::unique_ptr<State> state);
  std::unique_ptr<State> state;
};

} // namespace quadrille::tsp
