// Comparisons, logic on bools and on bits, and selection.
#include "graph/import/OperatorContext.h"

namespace quadrille::graph::importer {

template <typename Body> static void binary(OperatorContext &c, Body body) {
  TensorRef a = c.operand(0), b = c.operand(1);
  c.requireSameType({a, b});
  if (c.opset < 7) { // broadcasting from `axis`, only when `broadcast` is set
    int64_t axis = c.integer("axis", a.rank() - b.rank());
    if (c.flag("broadcast") && axis >= 0 && axis + b.rank() <= a.rank()) {
      Shape shape = b.shape();
      shape.resize(a.rank() - axis, 1);
      b = c.reshape(b, shape);
    }
  }
  c.result(c.map(c.operation(), {a, b}, [&](llvm::ArrayRef<Lane> x) { return body(x[0], x[1]); }));
}

template <BlockOpcode opcode, bool swapped = false> static void compare(OperatorContext &c) {
  binary(c, [](Lane a, Lane b) { return swapped ? apply(opcode, {b, a}) : apply(opcode, {a, b}); });
}

template <BlockOpcode opcode> static void logic(OperatorContext &c) {
  if (c.operand(0).type() != ElementType::boolean)
    refuse("operands of type " + nameOf(c.operand(0).type()) + " instead of bool");
  binary(c, [](Lane a, Lane b) { return apply(opcode, {a, b}); });
}

template <BlockOpcode opcode> static void bitwise(OperatorContext &c) {
  if (!isInteger(c.operand(0).type()))
    refuse("operands of type " + nameOf(c.operand(0).type()) + " instead of an integer type");
  binary(c, [](Lane a, Lane b) { return apply(opcode, {a, b}); });
}

static void bitShift(OperatorContext &c) {
  std::string direction = c.text("direction");
  if (direction != "LEFT" && direction != "RIGHT")
    refuse("direction is '" + direction + "' instead of LEFT or RIGHT");
  BlockOpcode opcode = direction == "LEFT" ? BlockOpcode::ShiftLeft : BlockOpcode::ShiftRight;
  if (kindOf(c.operand(0).type()) != ElementKind::Unsigned)
    refuse("operands of type " + nameOf(c.operand(0).type()) + " instead of an unsigned integer type");
  binary(c, [&](Lane a, Lane b) { return apply(opcode, {a, b}); });
}

static void invert(OperatorContext &c) {
  TensorRef operand = c.operand(0);
  if (isFloat(operand.type()))
    refuse("operand of type " + nameOf(operand.type()));
  c.result(c.map(c.operation(), {operand}, [](llvm::ArrayRef<Lane> x) { return logicalNot(x[0]); }));
}

static void where(OperatorContext &c) {
  TensorRef condition = c.operand(0), yes = c.operand(1), no = c.operand(2);
  if (condition.type() != ElementType::boolean)
    refuse("condition of type " + nameOf(condition.type()) + " instead of bool");
  c.requireSameType({yes, no});
  c.result(c.map("Where", {condition, yes, no}, [](llvm::ArrayRef<Lane> x) { return select(x[0], x[1], x[2]); }));
}

void addLogical(OperatorTable &table) {
  table.add("Equal", compare<BlockOpcode::Equal>);
  table.add("Less", compare<BlockOpcode::Less>);
  table.add("LessOrEqual", compare<BlockOpcode::LessEqual>);
  table.add("Greater", compare<BlockOpcode::Less, true>);
  table.add("GreaterOrEqual", compare<BlockOpcode::LessEqual, true>);
  table.add("And", logic<BlockOpcode::And>);
  table.add("Or", logic<BlockOpcode::Or>);
  table.add("Xor", logic<BlockOpcode::Xor>);
  table.add("Not", invert);
  table.add("BitwiseAnd", bitwise<BlockOpcode::And>);
  table.add("BitwiseOr", bitwise<BlockOpcode::Or>);
  table.add("BitwiseXor", bitwise<BlockOpcode::Xor>);
  table.add("BitwiseNot", invert);
  table.add("BitShift", bitShift);
  table.add("Where", where);
}

} // namespace quadrille::graph::importer
