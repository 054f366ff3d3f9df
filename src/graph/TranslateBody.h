// The scalar body of a linalg operation (arith, math, qd.bitcast, linalg.index) as a BlockExpression.
//
// MLIR's integer arithmetic is signless: the operation says how it reads its operands. Registers have signed or
// unsigned types, so each operand is read as the operation wants it (a bitcast where the register has the other sign);
// a u8 element that passes through `qd.bitcast ui8 -> i8` and `arith.extui` becomes one conversion from u8.
#pragma once

#include "graph/KernelGraph.h"

#include "mlir/IR/Operation.h"

#include "llvm/ADT/DenseMap.h"

namespace quadrille::graph {

// The scalar that an attribute (integer, float, bool) holds, as an element of `type`; nullopt for any other attribute.
std::optional<Scalar> scalarOf(mlir::Attribute attribute, ElementType type);

// The constant that a scalar value is, through qd.bitcast; nullopt where it is none.
std::optional<Scalar> constantScalar(mlir::Value value);

class BodyTranslator {
public:
  explicit BodyTranslator(BlockExpression &body) : body(body) {}

  // Makes the next input of the body.
  Register addInput(ElementType type);
  // The register of an input made before.
  Register inputRegister(size_t index) const { return inputs[index]; }
  Register addConstant(const Scalar &scalar);

  void bind(mlir::Value value, Register reg) { registers[value] = reg; }
  // Appends the instructions for one operation and binds its result. Internal errors name an operation that has no
  // translation.
  llvm::Error translate(mlir::Operation &op);
  // The register of a value: bound, or a constant from outside the body.
  llvm::Expected<Register> registerOf(mlir::Value value);
  // The same with the bits read as `type`, which has the register's width.
  llvm::Expected<Register> registerOf(mlir::Value value, ElementType type);

  // Loops of the kernel by dimension of the linalg operation; nullopt for a dimension that was dropped (its index is
  // 0).
  llvm::SmallVector<std::optional<unsigned>, 8> loops;

private:
  enum class Sign { Any, Signed, Unsigned };
  ElementType typeOf(Register reg) const { return body.instructions[reg].type; }
  Register as(Register reg, ElementType type);
  llvm::Error unify(llvm::MutableArrayRef<Register> operands, Sign sign);
  llvm::Expected<Register> translateComparison(mlir::Operation &op);
  llvm::Expected<Register> translateConversion(mlir::Operation &op, ElementType result);
  llvm::Expected<Register> translateDivision(mlir::Operation &op);
  Register emit(BlockOpcode opcode, ElementType type, llvm::ArrayRef<Register> operands) {
    return body.append(opcode, type, operands);
  }
  Register negate(Register condition) { return emit(BlockOpcode::Not, ElementType::boolean, condition); }

  BlockExpression &body;
  std::vector<Register> inputs;
  llvm::DenseMap<mlir::Value, Register> registers;
  std::map<std::pair<ElementType, uint64_t>, Register> constants;
};

} // namespace quadrille::graph
