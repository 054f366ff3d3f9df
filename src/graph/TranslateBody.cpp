#include "graph/TranslateBody.h"

#include "base/Error.h"
#include "graph/dialect/QdDialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/Matchers.h"

#include "llvm/ADT/StringSwitch.h"

using namespace mlir;

namespace quadrille::graph {

static std::optional<ElementType> scalarTypeOf(Type type) {
  return type.isIndex() ? ElementType::i64 : qd::elementTypeOf(type);
}

std::optional<Scalar> scalarOf(mlir::Attribute attribute, ElementType type) {
  if (auto value = dyn_cast<IntegerAttr>(attribute))
    return Scalar{type, value.getValue().zextOrTrunc(64).getZExtValue()};
  if (auto value = dyn_cast<FloatAttr>(attribute))
    return Scalar{type, value.getValue().bitcastToAPInt().getZExtValue()};
  return std::nullopt;
}

std::optional<Scalar> constantScalar(mlir::Value value) {
  std::optional<ElementType> type = scalarTypeOf(value.getType());
  if (!type)
    return std::nullopt;
  if (auto cast = value.getDefiningOp<qd::BitcastOp>()) {
    std::optional<Scalar> scalar = constantScalar(cast.getInput());
    if (scalar)
      scalar->type = *type;
    return scalar;
  }
  mlir::Attribute attribute;
  if (!matchPattern(value, m_Constant(&attribute)))
    return std::nullopt;
  return scalarOf(attribute, *type);
}

Register BodyTranslator::addInput(ElementType type) {
  body.inputs.push_back(type);
  inputs.push_back(body.append(BlockOpcode::Input, type, {}, body.inputs.size() - 1));
  return inputs.back();
}

Register BodyTranslator::addConstant(const Scalar &scalar) {
  auto [entry, isNew] = constants.try_emplace({scalar.type, scalar.bits}, Register(0));
  if (isNew)
    entry->second = body.append(BlockOpcode::Constant, scalar.type, {}, scalar.bits);
  return entry->second;
}

// The type of the same width with the other reading of the sign.
static ElementType withSign(ElementType type, bool isSigned) {
  switch (type) {
  case ElementType::i64:
  case ElementType::u64:
    return isSigned ? ElementType::i64 : ElementType::u64;
  case ElementType::i32:
  case ElementType::u32:
    return isSigned ? ElementType::i32 : ElementType::u32;
  case ElementType::i16:
  case ElementType::u16:
    return isSigned ? ElementType::i16 : ElementType::u16;
  case ElementType::i8:
  case ElementType::u8:
    return isSigned ? ElementType::i8 : ElementType::u8;
  case ElementType::i4:
  case ElementType::u4:
    return isSigned ? ElementType::i4 : ElementType::u4;
  case ElementType::i2:
  case ElementType::u2:
    return isSigned ? ElementType::i2 : ElementType::u2;
  default:
    return type;
  }
}

Register BodyTranslator::as(Register reg, ElementType type) {
  if (typeOf(reg) == type)
    return reg;
  const BlockInstruction &definition = body.instructions[reg];
  if (definition.opcode == BlockOpcode::Constant)
    return addConstant({type, definition.immediate});
  if (definition.opcode == BlockOpcode::Bitcast && typeOf(definition.operands[0]) == type)
    return definition.operands[0];
  return emit(BlockOpcode::Bitcast, type, reg);
}

llvm::Expected<Register> BodyTranslator::registerOf(mlir::Value value) {
  auto found = registers.find(value);
  if (found != registers.end())
    return found->second;
  std::optional<Scalar> scalar = constantScalar(value);
  if (!scalar)
    return internalError("a body uses a value from outside that is no constant");
  Register reg = addConstant(*scalar);
  bind(value, reg);
  return reg;
}

llvm::Expected<Register> BodyTranslator::registerOf(mlir::Value value, ElementType type) {
  llvm::Expected<Register> reg = registerOf(value);
  if (!reg)
    return reg;
  if (bitWidth(typeOf(*reg)) != bitWidth(type))
    return internalError("a body gives " + llvm::Twine(nameOf(typeOf(*reg))) + " where " + nameOf(type) + " is wanted");
  return as(*reg, type);
}

// Brings integer operands to one sign: the one that the operation asks for, else the one they share, else signed.
llvm::Error BodyTranslator::unify(llvm::MutableArrayRef<Register> operands, Sign sign) {
  ElementType type = typeOf(operands[0]);
  bool agree = llvm::all_of(operands, [&](Register reg) { return typeOf(reg) == type; });
  if (!agree || sign != Sign::Any)
    type = withSign(type, sign != Sign::Unsigned);
  for (Register &reg : operands) {
    if (bitWidth(typeOf(reg)) != bitWidth(type) || isFloat(typeOf(reg)) != isFloat(type))
      return internalError("operands of " + llvm::Twine(nameOf(typeOf(reg))) + " and " + nameOf(type));
    reg = as(reg, type);
  }
  return llvm::Error::success();
}

namespace {
// Operations whose operands and result have one type and that one opcode computes.
struct SameTypeRule {
  BlockOpcode opcode = BlockOpcode::Input;
  enum { Any, Signed, Unsigned } sign = Any;
  BlockOpcode onBool = BlockOpcode::Input; // for i1, where the integer operation is a logical one
};
} // namespace

static std::optional<SameTypeRule> sameTypeRule(StringRef name) {
  using Op = BlockOpcode;
  using Rule = SameTypeRule;
  return llvm::StringSwitch<std::optional<Rule>>(name)
      .Cases("arith.addf", "arith.addi", Rule{Op::Add, Rule::Any, Op::Xor})
      .Cases("arith.subf", "arith.subi", Rule{Op::Subtract, Rule::Any, Op::Xor})
      .Cases("arith.mulf", "arith.muli", Rule{Op::Multiply, Rule::Any, Op::And})
      .Case("arith.divf", Rule{Op::Divide})
      .Case("arith.divsi", Rule{Op::Divide, Rule::Signed})
      .Case("arith.divui", Rule{Op::Divide, Rule::Unsigned})
      .Case("arith.remf", Rule{Op::Remainder})
      .Case("arith.remsi", Rule{Op::Remainder, Rule::Signed})
      .Case("arith.remui", Rule{Op::Remainder, Rule::Unsigned})
      .Case("arith.maximumf", Rule{Op::Maximum})
      .Case("arith.minimumf", Rule{Op::Minimum})
      .Case("arith.maxnumf", Rule{Op::MaximumNumber})
      .Case("arith.minnumf", Rule{Op::MinimumNumber})
      // A signed i1 is 0 or -1, so that the larger of two is false unless both are false.
      .Case("arith.maxsi", Rule{Op::Maximum, Rule::Signed, Op::And})
      .Case("arith.minsi", Rule{Op::Minimum, Rule::Signed, Op::Or})
      .Case("arith.maxui", Rule{Op::Maximum, Rule::Unsigned, Op::Or})
      .Case("arith.minui", Rule{Op::Minimum, Rule::Unsigned, Op::And})
      .Case("arith.andi", Rule{Op::And})
      .Case("arith.ori", Rule{Op::Or})
      .Case("arith.xori", Rule{Op::Xor})
      .Case("arith.shli", Rule{Op::ShiftLeft})
      .Case("arith.shrsi", Rule{Op::ShiftRight, Rule::Signed})
      .Case("arith.shrui", Rule{Op::ShiftRight, Rule::Unsigned})
      .Case("arith.negf", Rule{Op::Negate})
      .Case("math.absf", Rule{Op::Absolute})
      .Case("math.absi", Rule{Op::Absolute, Rule::Signed})
      .Case("math.acos", Rule{Op::Acos})
      .Case("math.acosh", Rule{Op::Acosh})
      .Case("math.asin", Rule{Op::Asin})
      .Case("math.asinh", Rule{Op::Asinh})
      .Case("math.atan", Rule{Op::Atan})
      .Case("math.atan2", Rule{Op::Atan2})
      .Case("math.atanh", Rule{Op::Atanh})
      .Case("math.ceil", Rule{Op::Ceil})
      .Case("math.copysign", Rule{Op::CopySign})
      .Case("math.cos", Rule{Op::Cos})
      .Case("math.cosh", Rule{Op::Cosh})
      .Case("math.erf", Rule{Op::Erf})
      .Case("math.exp", Rule{Op::Exp})
      .Case("math.exp2", Rule{Op::Exp2})
      .Case("math.expm1", Rule{Op::Expm1})
      .Case("math.floor", Rule{Op::Floor})
      .Case("math.fma", Rule{Op::MultiplyAdd})
      .Case("math.ipowi", Rule{Op::Power, Rule::Signed})
      .Case("math.log", Rule{Op::Log})
      .Case("math.log1p", Rule{Op::Log1p})
      .Case("math.log2", Rule{Op::Log2})
      .Case("math.powf", Rule{Op::Power})
      .Case("math.roundeven", Rule{Op::RoundEven})
      .Case("math.rsqrt", Rule{Op::ReciprocalSquareRoot})
      .Case("math.sin", Rule{Op::Sin})
      .Case("math.sinh", Rule{Op::Sinh})
      .Case("math.sqrt", Rule{Op::SquareRoot})
      .Case("math.tan", Rule{Op::Tan})
      .Case("math.tanh", Rule{Op::Tanh})
      .Case("math.trunc", Rule{Op::Truncate})
      .Default(std::nullopt);
}

llvm::Expected<Register> BodyTranslator::translateComparison(Operation &op) {
  llvm::SmallVector<Register, 2> operands;
  for (mlir::Value operand : op.getOperands()) {
    llvm::Expected<Register> reg = registerOf(operand);
    if (!reg)
      return reg;
    operands.push_back(*reg);
  }
  auto compare = [&](BlockOpcode opcode, bool swap = false) {
    Register first = operands[swap], second = operands[!swap];
    return emit(opcode, ElementType::boolean, {first, second});
  };
  auto both = [&](BlockOpcode opcode, Register first, Register second) {
    return emit(opcode, ElementType::boolean, {first, second});
  };
  if (auto integer = dyn_cast<arith::CmpIOp>(op)) {
    using arith::CmpIPredicate;
    CmpIPredicate predicate = integer.getPredicate();
    bool isUnsigned = predicate >= CmpIPredicate::ult;
    bool isEquality = predicate == CmpIPredicate::eq || predicate == CmpIPredicate::ne;
    if (llvm::Error error = unify(operands, isEquality ? Sign::Any : isUnsigned ? Sign::Unsigned : Sign::Signed))
      return error;
    // A signed i1 is 0 or -1, a bool 0 or 1: signed order is the other way round.
    bool swap = typeOf(operands[0]) == ElementType::boolean && !isUnsigned && !isEquality;
    switch (predicate) {
    case CmpIPredicate::eq:
      return compare(BlockOpcode::Equal);
    case CmpIPredicate::ne:
      return compare(BlockOpcode::NotEqual);
    case CmpIPredicate::slt:
    case CmpIPredicate::ult:
      return compare(BlockOpcode::Less, swap);
    case CmpIPredicate::sle:
    case CmpIPredicate::ule:
      return compare(BlockOpcode::LessEqual, swap);
    case CmpIPredicate::sgt:
    case CmpIPredicate::ugt:
      return compare(BlockOpcode::Less, !swap);
    case CmpIPredicate::sge:
    case CmpIPredicate::uge:
      return compare(BlockOpcode::LessEqual, !swap);
    }
  }
  using arith::CmpFPredicate;
  auto ordered = [&] {
    return both(BlockOpcode::And, emit(BlockOpcode::Equal, ElementType::boolean, {operands[0], operands[0]}),
                emit(BlockOpcode::Equal, ElementType::boolean, {operands[1], operands[1]}));
  };
  auto lessOrGreater = [&] {
    return both(BlockOpcode::Or, compare(BlockOpcode::Less), compare(BlockOpcode::Less, true));
  };
  switch (cast<arith::CmpFOp>(op).getPredicate()) {
  case CmpFPredicate::AlwaysFalse:
    return addConstant({ElementType::boolean, 0});
  case CmpFPredicate::AlwaysTrue:
    return addConstant({ElementType::boolean, 1});
  case CmpFPredicate::OEQ:
    return compare(BlockOpcode::Equal);
  case CmpFPredicate::OGT:
    return compare(BlockOpcode::Less, true);
  case CmpFPredicate::OGE:
    return compare(BlockOpcode::LessEqual, true);
  case CmpFPredicate::OLT:
    return compare(BlockOpcode::Less);
  case CmpFPredicate::OLE:
    return compare(BlockOpcode::LessEqual);
  case CmpFPredicate::ONE:
    return lessOrGreater();
  case CmpFPredicate::ORD:
    return ordered();
  case CmpFPredicate::UEQ:
    return negate(lessOrGreater());
  case CmpFPredicate::UGT:
    return negate(compare(BlockOpcode::LessEqual));
  case CmpFPredicate::UGE:
    return negate(compare(BlockOpcode::Less));
  case CmpFPredicate::ULT:
    return negate(compare(BlockOpcode::LessEqual, true));
  case CmpFPredicate::ULE:
    return negate(compare(BlockOpcode::Less, true));
  case CmpFPredicate::UNE:
    return compare(BlockOpcode::NotEqual);
  case CmpFPredicate::UNO:
    return op.getOperand(0) == op.getOperand(1) ? emit(BlockOpcode::IsNan, ElementType::boolean, operands[0])
                                                : negate(ordered());
  }
  return internalError("unknown comparison");
}

// `result` is the type of the MLIR result, signed where MLIR is signless.
llvm::Expected<Register> BodyTranslator::translateConversion(Operation &op, ElementType result) {
  llvm::Expected<Register> operand = registerOf(op.getOperand(0));
  if (!operand)
    return operand;
  StringRef name = op.getName().getStringRef();
  ElementType type = typeOf(*operand);
  bool fromBool = type == ElementType::boolean;
  auto read = [&](bool isSigned) { return as(*operand, withSign(type, isSigned)); };
  auto convert = [&](Register reg, ElementType to) {
    return typeOf(reg) == to ? reg : emit(BlockOpcode::Convert, to, reg);
  };
  if (name == "qd.bitcast" || name == "arith.bitcast") {
    // Entering signless arithmetic keeps the register's sign: the operation that uses it says how it reads it.
    bool keeps = isInteger(type) && isInteger(result) && op.getResult(0).getType().isSignlessInteger();
    return keeps ? *operand : as(*operand, result);
  }
  if (name == "arith.extf" || name == "arith.truncf")
    return convert(*operand, result);
  if (name == "arith.extui" || name == "arith.uitofp" || name == "arith.index_castui")
    return convert(read(false), result);
  if (name == "arith.extsi" || name == "arith.sitofp" || name == "arith.index_cast") {
    Register converted = convert(read(true), result);
    return fromBool ? emit(BlockOpcode::Negate, result, converted) : converted; // a signed i1 is 0 or -1
  }
  if (name == "arith.trunci") {
    if (result != ElementType::boolean)
      return convert(*operand, withSign(result, kindOf(type) != ElementKind::Unsigned));
    Register lowBit = emit(BlockOpcode::And, type, {*operand, addConstant({type, 1})});
    return convert(lowBit, result);
  }
  if (name == "arith.fptosi")
    return convert(*operand, result);
  if (name == "arith.fptoui")
    return convert(*operand, withSign(result, false));
  return internalError("unknown conversion");
}

// Divisions that round to one side.
llvm::Expected<Register> BodyTranslator::translateDivision(Operation &op) {
  llvm::SmallVector<Register, 2> operands;
  for (mlir::Value operand : op.getOperands()) {
    llvm::Expected<Register> reg = registerOf(operand);
    if (!reg)
      return reg;
    operands.push_back(*reg);
  }
  bool isUnsigned = isa<arith::CeilDivUIOp>(op), isFloor = isa<arith::FloorDivSIOp>(op);
  if (llvm::Error error = unify(operands, isUnsigned ? Sign::Unsigned : Sign::Signed))
    return error;
  ElementType type = typeOf(operands[0]);
  Register quotient = emit(BlockOpcode::Divide, type, operands);
  Register remainder = emit(BlockOpcode::Remainder, type, operands);
  Register zero = addConstant({type, 0});
  Register adjust = emit(BlockOpcode::NotEqual, ElementType::boolean, {remainder, zero});
  if (!isUnsigned) {
    // The quotient was rounded toward zero: up when the signs differ, down when they agree.
    Register signs = emit(BlockOpcode::Xor, type, operands);
    Register differ = emit(BlockOpcode::Less, ElementType::boolean, {signs, zero});
    adjust = emit(BlockOpcode::And, ElementType::boolean, {adjust, isFloor ? differ : negate(differ)});
  }
  Register one = emit(BlockOpcode::Convert, type, adjust);
  return emit(isFloor ? BlockOpcode::Subtract : BlockOpcode::Add, type, {quotient, one});
}

llvm::Error BodyTranslator::translate(Operation &op) {
  StringRef name = op.getName().getStringRef();
  if (op.getNumResults() != 1)
    return internalError("'" + name + "' has no translation to a kernel body");
  std::optional<ElementType> result = scalarTypeOf(getElementTypeOrSelf(op.getResult(0).getType()));
  if (!result)
    return internalError("'" + name + "' gives no element type of a model");

  auto define = [&](llvm::Expected<Register> reg) -> llvm::Error {
    if (!reg)
      return reg.takeError();
    bind(op.getResult(0), *reg);
    return llvm::Error::success();
  };
  if (isa<arith::ConstantOp>(op))
    return define(registerOf(op.getResult(0)));
  if (auto index = dyn_cast<linalg::IndexOp>(op)) {
    std::optional<unsigned> loop = loops[index.getDim()];
    return define(loop ? body.append(BlockOpcode::LoopIndex, ElementType::i64, {}, *loop)
                       : addConstant({ElementType::i64, 0}));
  }
  if (isa<arith::CmpIOp, arith::CmpFOp>(op))
    return define(translateComparison(op));
  if (isa<arith::CeilDivSIOp, arith::CeilDivUIOp, arith::FloorDivSIOp>(op))
    return define(translateDivision(op));
  if (llvm::is_contained({"qd.bitcast", "arith.bitcast", "arith.extf", "arith.truncf", "arith.extui", "arith.uitofp",
                          "arith.extsi", "arith.sitofp", "arith.trunci", "arith.fptosi", "arith.fptoui",
                          "arith.index_cast", "arith.index_castui"},
                         name))
    return define(translateConversion(op, *result));

  std::optional<SameTypeRule> rule = sameTypeRule(name);
  bool isSelect = name == "arith.select", isPower = name == "math.fpowi";
  if (!rule && !isSelect && !isPower)
    return internalError("'" + name + "' has no translation to a kernel body");
  llvm::SmallVector<Register, 3> operands;
  for (mlir::Value operand : op.getOperands()) {
    llvm::Expected<Register> reg = registerOf(operand);
    if (!reg)
      return reg.takeError();
    operands.push_back(*reg);
  }
  if (isSelect) {
    llvm::MutableArrayRef<Register> choices = llvm::MutableArrayRef(operands).drop_front();
    if (llvm::Error error = unify(choices, Sign::Any))
      return error;
    return define(emit(BlockOpcode::Select, typeOf(choices[0]), operands));
  }
  if (isPower) {
    operands[1] = emit(BlockOpcode::Convert, *result, operands[1]);
    return define(emit(BlockOpcode::Power, *result, operands));
  }
  if (llvm::Error error = unify(operands, rule->sign == SameTypeRule::Any      ? Sign::Any
                                          : rule->sign == SameTypeRule::Signed ? Sign::Signed
                                                                               : Sign::Unsigned))
    return error;
  ElementType type = typeOf(operands[0]);
  if (type == ElementType::boolean && rule->onBool != BlockOpcode::Input)
    return define(emit(rule->onBool, type, operands));
  return define(emit(rule->opcode, type, operands));
}

} // namespace quadrille::graph
