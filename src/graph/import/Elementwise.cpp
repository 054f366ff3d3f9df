// Arithmetic on elements with numpy's broadcasting.
#include "graph/import/OperatorContext.h"

#include <cmath>

namespace quadrille::graph::importer {

// Before operator set 7 the second operand was broadcast only when `broadcast` was set, and `axis` said from which
// dimension of the first operand its dimensions count.
static TensorRef legacyBroadcast(OperatorContext &c, TensorRef a, TensorRef b) {
  if (c.opset >= 7)
    return b;
  c.ignoreAttribute("consumed_inputs");
  bool broadcast = c.flag("broadcast");
  int64_t axis = c.integer("axis", a.rank() - b.rank());
  if (!broadcast) {
    if (a.shape() != b.shape())
      refuse("operands of shapes " + shapeText(a.shape()) + " and " + shapeText(b.shape()) +
             " differ and 'broadcast' is not set");
    return b;
  }
  if (axis < 0)
    axis += a.rank();
  if (axis < 0 || axis + b.rank() > a.rank())
    refuse("operand of shape " + shapeText(b.shape()) + " does not fit at axis " + llvm::Twine(axis));
  Shape shape = b.shape();
  shape.resize(a.rank() - axis, 1);
  return c.reshape(b, shape);
}

template <typename Body> static void binary(OperatorContext &c, Body body) {
  TensorRef a = c.operand(0), b = c.operand(1);
  c.requireSameType({a, b});
  if (a.type() == ElementType::boolean)
    refuse("bool operands are not allowed");
  b = legacyBroadcast(c, a, b);
  c.result(c.map(c.operation(), {a, b}, [&](llvm::ArrayRef<Lane> x) { return body(x[0], x[1]); }));
}

static void add(OperatorContext &c) {
  binary(c, [](Lane a, Lane b) { return a + b; });
}
static void subtract(OperatorContext &c) {
  binary(c, [](Lane a, Lane b) { return a - b; });
}
static void multiply(OperatorContext &c) {
  binary(c, [](Lane a, Lane b) { return a * b; });
}
static void divide(OperatorContext &c) {
  binary(c, [](Lane a, Lane b) { return a / b; });
}

// Since operator set 12 the exponent may have another type; the result has the base's.
static void pow(OperatorContext &c) {
  TensorRef base = c.operand(0), exponent = legacyBroadcast(c, base, c.operand(1));
  if (exponent.known() && exponent.elements() == 1 && isFloat(base.type())) {
    double number = valuesOf<double>(exponent.constant())[0];
    Shape shape = broadcastShapes(base.shape(), exponent.shape());
    TensorRef operand = base.rank() < static_cast<int64_t>(shape.size()) ? c.reshape(base, shape) : base;
    auto unary = [&](auto body) {
      c.result(c.map("Pow", {operand}, [&](llvm::ArrayRef<Lane> x) { return body(x[0]); }));
    };
    if (number == 1)
      return c.result(operand);
    if (number == 2)
      return unary([](Lane x) { return x * x; });
    if (number == 3)
      return unary([](Lane x) { return x * x * x; });
    if (number == 0.5)
      return unary([](Lane x) { return squareRoot(x); });
  }
  // An exponent of another kind is computed with in floating point: 2^(-1.0) of integers would otherwise lose it.
  ElementType compute = base.type();
  if (!isFloat(compute) && isFloat(exponent.type()))
    compute = bitWidth(exponent.type()) > 32 || bitWidth(compute) > 16 ? ElementType::f64 : ElementType::f32;
  c.result(c.map("Pow", {base, exponent},
                 [&](llvm::ArrayRef<Lane> x) { return power(x[0].to(compute), x[1].to(compute)).to(base.type()); }));
}

// fmod = 1: C's fmod, the sign of the dividend; 0: python's modulo, the sign of the divisor.
static void mod(OperatorContext &c) {
  bool fmod = c.flag("fmod");
  if (isFloat(c.operand(0).type()) && !fmod)
    refuse("floating-point operands need fmod = 1");
  binary(c, [&](Lane a, Lane b) { return apply(fmod ? BlockOpcode::Remainder : BlockOpcode::Modulo, {a, b}); });
}

template <typename Body> static TensorRef fold(OperatorContext &c, Body body) {
  std::vector<TensorRef> operands = c.allOperands();
  c.requireSameType(operands);
  c.ignoreAttribute("consumed_inputs");
  return operands.size() == 1 ? operands[0] : c.map(c.operation(), operands, [&](llvm::ArrayRef<Lane> x) {
    Lane value = x[0];
    for (const Lane &next : x.drop_front())
      value = body(value, next);
    return value;
  });
}

static void sum(OperatorContext &c) {
  c.result(fold(c, [](Lane a, Lane b) { return a + b; }));
}
static void minimum(OperatorContext &c) {
  c.result(fold(c, [](Lane a, Lane b) { return min(a, b); }));
}
static void maximum(OperatorContext &c) {
  c.result(fold(c, [](Lane a, Lane b) { return max(a, b); }));
}
static void mean(OperatorContext &c) {
  std::vector<TensorRef> operands = c.allOperands();
  c.requireSameType(operands);
  c.requireFloat(operands[0]);
  c.ignoreAttribute("consumed_inputs");
  c.result(c.map("Mean", operands, [&](llvm::ArrayRef<Lane> x) {
    Lane value = x[0];
    for (const Lane &next : x.drop_front())
      value = value + next;
    return value / static_cast<double>(x.size());
  }));
}

template <BlockOpcode opcode, bool floatsOnly = true> static void unary(OperatorContext &c) {
  TensorRef operand = c.operand(0);
  c.ignoreAttribute("consumed_inputs");
  if (floatsOnly)
    c.requireFloat(operand);
  c.result(c.map(c.operation(), {operand}, [](llvm::ArrayRef<Lane> x) { return apply(opcode, {x[0]}); }));
}

// Attributes until operator set 10, operands since 11. Minimum above maximum: the maximum wins, as numpy.clip has it.
static void clip(OperatorContext &c) {
  TensorRef operand = c.operand(0);
  TensorRef low, high;
  if (c.opset < 11) {
    c.ignoreAttribute("consumed_inputs");
    if (c.has("min"))
      low = c.scalar(operand.type(), c.real("min"));
    if (c.has("max"))
      high = c.scalar(operand.type(), c.real("max"));
  } else {
    low = c.optional(1);
    high = c.optional(2);
  }
  std::vector<TensorRef> operands = {operand};
  for (TensorRef bound : {low, high})
    if (bound) {
      if (bound.elements() != 1)
        refuse("a bound has shape " + shapeText(bound.shape()) + " instead of being a scalar");
      operands.push_back(bound.rank() ? c.reshape(bound, {}) : bound);
    }
  c.requireSameType(operands);
  if (operands.size() == 1)
    return c.result(operand);
  c.result(c.map("Clip", operands, [&](llvm::ArrayRef<Lane> x) {
    Lane value = low ? max(x[0], x[1]) : x[0];
    return high ? min(value, x[low ? 2 : 1]) : value;
  }));
}

static void sign(OperatorContext &c) {
  unary<BlockOpcode::Sign, false>(c);
}

static void isInf(OperatorContext &c) {
  bool negative = c.flag("detect_negative", true), positive = c.flag("detect_positive", true);
  TensorRef operand = c.operand(0);
  c.requireFloat(operand);
  c.result(c.map("IsInf", {operand}, [&](llvm::ArrayRef<Lane> x) {
    Lane infinite = isInfinite(x[0]);
    if (negative && positive)
      return infinite;
    if (!negative && !positive)
      return infinite & logicalNot(infinite);
    return infinite & (positive ? x[0] > 0.0 : x[0] < 0.0);
  }));
}

static void isNanOperator(OperatorContext &c) {
  unary<BlockOpcode::IsNan>(c);
}

// Round halves to even.
static void round(OperatorContext &c) {
  unary<BlockOpcode::RoundEven>(c);
}

void addElementwise(OperatorTable &table) {
  table.add("Add", add);
  table.add("Sub", subtract);
  table.add("Mul", multiply);
  table.add("Div", divide);
  table.add("Pow", pow);
  table.add("Mod", mod);
  table.add("Sum", sum);
  table.add("Min", minimum);
  table.add("Max", maximum);
  table.add("Mean", mean);
  table.add("Clip", clip);
  table.add("Sign", sign);
  table.add("IsInf", isInf);
  table.add("IsNaN", isNanOperator);
  table.add("Round", round);
  table.add("Abs", unary<BlockOpcode::Absolute, false>);
  table.add("Neg", unary<BlockOpcode::Negate, false>);
  table.add("Floor", unary<BlockOpcode::Floor>);
  table.add("Ceil", unary<BlockOpcode::Ceil>);
  table.add("Sqrt", unary<BlockOpcode::SquareRoot>);
  table.add("Reciprocal", unary<BlockOpcode::Reciprocal>);
  table.add("Exp", unary<BlockOpcode::Exp>);
  table.add("Log", unary<BlockOpcode::Log>);
  table.add("Sin", unary<BlockOpcode::Sin>);
  table.add("Cos", unary<BlockOpcode::Cos>);
  table.add("Tan", unary<BlockOpcode::Tan>);
  table.add("Asin", unary<BlockOpcode::Asin>);
  table.add("Acos", unary<BlockOpcode::Acos>);
  table.add("Atan", unary<BlockOpcode::Atan>);
  table.add("Sinh", unary<BlockOpcode::Sinh>);
  table.add("Cosh", unary<BlockOpcode::Cosh>);
  table.add("Tanh", unary<BlockOpcode::Tanh>);
  table.add("Asinh", unary<BlockOpcode::Asinh>);
  table.add("Acosh", unary<BlockOpcode::Acosh>);
  table.add("Atanh", unary<BlockOpcode::Atanh>);
  table.add("Erf", unary<BlockOpcode::Erf>);
}

} // namespace quadrille::graph::importer
