// Linear quantisation: real = (stored - zero point) * scale.
#include "graph/import/Product.h"
#include "graph/import/Window.h"

namespace quadrille::graph::importer {

// Scale or zero point shaped so that it broadcasts to `x`: a scalar, one element for each index of `axis`, or (blocked)
// of x's shape with blocks of `block` elements along `axis`, which are repeated.
static TensorRef alongAxis(OperatorContext &c, TensorRef parameter, TensorRef x, int64_t axis, int64_t block) {
  if (parameter.elements() == 1)
    return c.reshape(parameter, {});
  axis = normalAxis(axis, x.rank());
  if (block > 0) {
    Shape expected = x.shape();
    expected[axis] = (x.dim(axis) + block - 1) / block;
    if (parameter.shape() != expected)
      refuse("parameter of shape " + shapeText(parameter.shape()) + " instead of " + shapeText(expected));
    Shape apart = expected, repeated = expected, joined = expected;
    apart.insert(apart.begin() + axis + 1, 1);
    repeated.insert(repeated.begin() + axis + 1, block);
    joined[axis] *= block;
    TensorRef blocks = c.reshape(c.broadcast(c.reshape(parameter, apart), repeated), joined);
    return c.slice(blocks, std::vector<int64_t>(x.rank(), 0), x.shape());
  }
  if (parameter.rank() != 1 || parameter.dim(0) != x.dim(axis))
    refuse("parameter of shape " + shapeText(parameter.shape()) + " for " + llvm::Twine(x.dim(axis)) +
           " elements of axis " + llvm::Twine(axis));
  Shape shape(x.rank() - axis, 1);
  shape[0] = x.dim(axis);
  return c.reshape(parameter, shape);
}

// round(x / scale) + zero point, saturated; ties go to even.
static Lane quantized(Lane x, Lane scale, Lane zeroPoint, ElementType type, bool saturate = true) {
  Lane scaled = x / scale;
  if (isFloat(type))
    return saturate ? scaled.toSaturating(type) : scaled.to(type);
  Lane shifted = roundEven(scaled) + zeroPoint.to(scaled.type());
  return shifted.toSaturating(type); // floats saturate at 4-bit and 2-bit ranges as well
}

static void quantizeLinear(OperatorContext &c) {
  TensorRef x = c.operand(0), scale = c.operand(1), zeroPoint = c.optional(2);
  ElementType type = c.elementType("output_dtype").value_or(zeroPoint ? zeroPoint.type() : ElementType::u8);
  int64_t axis = c.integer("axis", 1), block = c.integer("block_size", 0);
  bool saturate = c.flag("saturate", true);
  if (std::optional<ElementType> precision = c.elementType("precision"))
    if (*precision != scale.type())
      refuseUnsupported("precision " + nameOf(*precision));
  std::vector<TensorRef> operands = {x, alongAxis(c, scale, x, axis, block)};
  if (zeroPoint)
    operands.push_back(alongAxis(c, zeroPoint, x, axis, block));
  ElementType compute = isFloat(x.type()) && isFloat(scale.type()) ? ElementType::f32 : scale.type();
  c.result(c.map("QuantizeLinear", operands, [&](llvm::ArrayRef<Lane> v) {
    Lane zero = zeroPoint ? v[2] : v[1].constant(0, type);
    return quantized(v[0].to(compute), v[1].to(compute), zero, type, saturate);
  }));
}

static void dequantizeLinear(OperatorContext &c) {
  TensorRef x = c.operand(0), scale = c.operand(1), zeroPoint = c.optional(2);
  int64_t axis = c.integer("axis", 1), block = c.integer("block_size", 0);
  ElementType type = c.elementType("output_dtype").value_or(scale.type());
  std::vector<TensorRef> operands = {x, alongAxis(c, scale, x, axis, block)};
  if (zeroPoint) {
    c.requireSameType({x, zeroPoint});
    operands.push_back(alongAxis(c, zeroPoint, x, axis, block));
  }
  c.result(c.map("DequantizeLinear", operands, [&](llvm::ArrayRef<Lane> v) {
    Lane value = v[0];
    if (!isFloat(x.type())) { // the difference of two narrow integers needs one bit more
      value = value.to(ElementType::i32);
      if (zeroPoint)
        value = value - v[2].to(ElementType::i32);
    }
    return (value.to(ElementType::f32) * v[1].to(ElementType::f32)).to(type);
  }));
}

// Scale and zero point that map [min(x, 0), max(x, 0)] to 0..255.
static void dynamicQuantizeLinear(OperatorContext &c) {
  TensorRef x = c.operand(0);
  std::vector<int64_t> axes;
  for (int64_t axis = 0; axis < x.rank(); ++axis)
    axes.push_back(axis);
  TensorRef low = c.reduce("Min", x, axes, false, Combiner::Minimum);
  TensorRef high = c.reduce("Max", x, axes, false, Combiner::Maximum);
  TensorRef scale =
      c.map("scale", {low, high}, [](llvm::ArrayRef<Lane> v) { return (max(v[1], 0.0) - min(v[0], 0.0)) / 255.0; });
  TensorRef zeroPoint = c.map("zero_point", {low, scale}, [](llvm::ArrayRef<Lane> v) {
    Lane exact = 0.0 - min(v[0], 0.0) / v[1];
    return roundEven(min(max(exact, 0.0), 255.0)).toSaturating(ElementType::u8);
  });
  c.result(0, c.map("QuantizeLinear", {x, scale, zeroPoint},
                    [](llvm::ArrayRef<Lane> v) { return quantized(v[0], v[1], v[2], ElementType::u8); }));
  c.result(1, scale);
  c.result(2, zeroPoint);
}

TensorRef sumOfIntegerProducts(Emitter &c, Nest nest, QuantizedOperand a, QuantizedOperand b) {
  nest.combiner = Combiner::Sum;
  nest.numeric = productNumeric(a.tensor.type(), ElementType::i32);
  auto isZero = [](TensorRef zero) {
    return zero.known() && llvm::all_of(valuesOf<int64_t>(zero.constant()), [](int64_t value) { return value == 0; });
  };
  std::optional<size_t> zeroA, zeroB;
  if (a.zeroPoint && !isZero(a.zeroPoint)) {
    zeroA = nest.reads.size();
    nest.reads.push_back({a.zeroPoint, a.zeroPointMap});
  }
  if (b.zeroPoint && !isZero(b.zeroPoint)) {
    zeroB = nest.reads.size();
    nest.reads.push_back({b.zeroPoint, b.zeroPointMap});
  }
  return c.nest(nest, [&](llvm::ArrayRef<Lane> v) {
    Lane x = v[0].to(ElementType::i32), y = v[1].to(ElementType::i32);
    if (zeroA)
      x = x - v[*zeroA].to(ElementType::i32);
    if (zeroB)
      y = y - v[*zeroB].to(ElementType::i32);
    return x * y;
  });
}

// Zero point of a matrix operand: a scalar, one for each row of the left operand or each column of the right one, or
// with all batch dimensions ([..., m, 1] and [..., 1, n]).
static QuantizedOperand matrixOperand(OperatorContext &c, TensorRef matrix, TensorRef zeroPoint, const Nest &nest,
                                      bool left) {
  if (!zeroPoint)
    return {matrix, {}, {}};
  if (zeroPoint.elements() == 1)
    return {matrix, c.reshape(zeroPoint, {}), {}};
  const AccessMap &map = nest.reads[left ? 0 : 1].map;
  size_t kept = left ? map.size() - 2 : map.size() - 1; // the dimension that is not contracted
  if (zeroPoint.rank() == 1 && matrix.rank() >= 2 && zeroPoint.dim(0) == matrix.shape()[kept])
    return {matrix, zeroPoint, {map[kept]}};
  if (zeroPoint.rank() == matrix.rank()) {
    AccessMap access;
    for (int64_t d = 0; d < matrix.rank(); ++d) {
      if (zeroPoint.dim(d) != 1 && zeroPoint.dim(d) != matrix.dim(d))
        refuse("zero point of shape " + shapeText(zeroPoint.shape()) + " for " + shapeText(matrix.shape()));
      access.push_back(zeroPoint.dim(d) == 1 ? fixed(0) : map[d]);
    }
    return {matrix, zeroPoint, access};
  }
  refuse("zero point of shape " + shapeText(zeroPoint.shape()) + " for " + shapeText(matrix.shape()));
}

static TensorRef integerMatrixProduct(OperatorContext &c, TensorRef a, TensorRef b, TensorRef zeroA, TensorRef zeroB) {
  if (!isInteger(a.type()) || !isInteger(b.type()))
    refuse("operands of types " + nameOf(a.type()) + " and " + nameOf(b.type()) + " are not integers");
  Nest nest = matrixProduct(a, b, "matmul");
  return sumOfIntegerProducts(c, nest, matrixOperand(c, a, zeroA, nest, true), matrixOperand(c, b, zeroB, nest, false));
}

static void matMulInteger(OperatorContext &c) {
  c.result(integerMatrixProduct(c, c.operand(0), c.operand(1), c.optional(2), c.optional(3)));
}

// saturate(round(sum * (scale a * scale b / scale y)) + zero point y)
static TensorRef requantize(OperatorContext &c, TensorRef sum, TensorRef scaleA, TensorRef scaleB, TensorRef scaleY,
                            TensorRef zeroY) {
  ElementType type = zeroY.type();
  return c.map("requantize", {sum, scaleA, scaleB, scaleY, zeroY}, [&](llvm::ArrayRef<Lane> v) {
    Lane factor = v[1].to(ElementType::f32) * v[2].to(ElementType::f32) / v[3].to(ElementType::f32);
    Lane value = roundEven(v[0].to(ElementType::f32) * factor);
    if (isFloat(type))
      return value.toSaturating(type);
    return (value + v[4].to(ElementType::f32)).toSaturating(type);
  });
}

// A scale with one element for each row (left) or column (right) of the result.
static TensorRef matrixScale(OperatorContext &c, TensorRef scale, bool left) {
  if (scale.elements() == 1)
    return c.reshape(scale, {});
  if (scale.rank() == 1 && left)
    return c.reshape(scale, {scale.dim(0), 1});
  return scale;
}

static void qLinearMatMul(OperatorContext &c) {
  TensorRef a = c.operand(0), scaleA = c.operand(1), zeroA = c.operand(2);
  TensorRef b = c.operand(3), scaleB = c.operand(4), zeroB = c.operand(5);
  TensorRef scaleY = c.operand(6), zeroY = c.operand(7);
  if (isFloat(a.type()))
    refuseUnsupported("8-bit floats");
  TensorRef sum = integerMatrixProduct(c, a, b, zeroA, zeroB);
  c.result(requantize(c, sum, matrixScale(c, scaleA, true), matrixScale(c, scaleB, false), matrixScale(c, scaleY, true),
                      matrixScale(c, zeroY, true)));
}

static void qLinearConv(OperatorContext &c) {
  TensorRef x = c.operand(0), scaleX = c.operand(1), zeroX = c.operand(2);
  TensorRef w = c.operand(3), scaleW = c.operand(4), zeroW = c.operand(5);
  TensorRef scaleY = c.operand(6), zeroY = c.operand(7), bias = c.optional(8);
  TensorRef sum = integerConvolution(c, x, w, zeroX, zeroW);
  auto perChannel = [&](TensorRef parameter) {
    if (parameter.elements() == 1)
      return c.reshape(parameter, {});
    Shape shape(sum.rank() - 1, 1);
    shape[0] = parameter.elements();
    return c.reshape(parameter, shape);
  };
  if (bias)
    sum = c.map("conv.bias", {sum, perChannel(bias)}, [](llvm::ArrayRef<Lane> v) { return v[0] + v[1]; });
  c.result(requantize(c, sum, perChannel(scaleX), perChannel(scaleW), perChannel(scaleY), perChannel(zeroY)));
}

void addQuantization(OperatorTable &table) {
  table.add("QuantizeLinear", quantizeLinear);
  table.add("DequantizeLinear", dequantizeLinear);
  table.add("DynamicQuantizeLinear", dynamicQuantizeLinear);
  table.add("MatMulInteger", matMulInteger);
  table.add("QLinearMatMul", qLinearMatMul);
  table.add("QLinearConv", qLinearConv);
}

} // namespace quadrille::graph::importer
