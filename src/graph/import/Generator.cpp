// Operators that make tensors: constants, shapes as values, ranges.
#include "graph/import/Window.h"

#include "numerics/Convert.h"

#include <cmath>

namespace quadrille::graph::importer {

static void constant(OperatorContext &c) {
  if (c.has("sparse_value"))
    refuseUnsupported("sparse_value");
  if (TensorRef tensor = c.tensorAttribute("value"))
    return c.result(tensor);
  auto floats = [&](Shape shape, const std::vector<double> &values) {
    std::vector<float> narrow(values.begin(), values.end());
    c.result(c.constant(Tensor::of<float>(ElementType::f32, std::move(shape), narrow)));
  };
  if (c.has("value_float"))
    return floats({}, {c.real("value_float")});
  if (c.has("value_int"))
    return c.result(c.constant(Tensor::of<int64_t>(ElementType::i64, {}, {c.integer("value_int")})));
  if (c.has("value_floats")) {
    std::vector<double> values = c.realList("value_floats");
    return floats({static_cast<int64_t>(values.size())}, values);
  }
  if (c.has("value_ints"))
    return c.result(c.integers(c.integerList("value_ints")));
  if (c.has("value_string") || c.has("value_strings"))
    refuseUnsupported("strings");
  refuse("no value is given");
}

static Shape checkedShape(const std::vector<int64_t> &shape) {
  for (int64_t extent : shape)
    if (extent < 0)
      refuse("the shape " + shapeText(shape) + " holds " + llvm::Twine(extent));
  product(shape);
  return shape;
}

static void constantOfShape(OperatorContext &c) {
  Shape shape = checkedShape(c.knownIntegers(0, "shape"));
  TensorRef value = c.tensorAttribute("value");
  if (!value)
    return c.result(c.fill(ElementType::f32, shape, 0));
  if (!value.known() || value.elements() != 1)
    refuse("attribute 'value' has shape " + shapeText(value.shape()) + " instead of one element");
  Scalar element{value.type(), 0};
  std::memcpy(&element.bits, value.constant().bytes().data(), value.constant().byteSize());
  c.result(c.fill(shape, element));
}

static void shape(OperatorContext &c) {
  TensorRef x = c.operand(0);
  auto clamped = [&](int64_t index) { return std::clamp<int64_t>(index < 0 ? index + x.rank() : index, 0, x.rank()); };
  int64_t start = clamped(c.integer("start", 0)), end = clamped(c.integer("end", x.rank()));
  c.result(c.integers(llvm::ArrayRef(x.shape()).slice(start, std::max<int64_t>(end - start, 0))));
}

static void size(OperatorContext &c) {
  c.result(c.constant(Tensor::of<int64_t>(ElementType::i64, {}, {c.operand(0).elements()})));
}

// Elements start + i * delta for i below ceil((limit - start) / delta), computed in the operands' type.
static void range(OperatorContext &c) {
  c.requireSameType({c.operand(0), c.operand(1), c.operand(2)});
  ElementType type = c.operand(0).type();
  Tensor bounds[3] = {c.known(0, "start"), c.known(1, "limit"), c.known(2, "delta")};
  for (const Tensor &bound : bounds)
    if (bound.elements() != 1)
      refuse("start, limit and delta are not scalars");
  auto checkCount = [](double count) {
    if (!(count <= 1 << 26))
      refuse("a range of " + llvm::Twine(static_cast<uint64_t>(count)) + " elements");
    return std::max<int64_t>(static_cast<int64_t>(count), 0);
  };
  if (isFloat(type)) {
    double start = valuesOf<double>(bounds[0])[0], limit = valuesOf<double>(bounds[1])[0],
           delta = valuesOf<double>(bounds[2])[0];
    if (delta == 0)
      refuse("delta is 0");
    std::vector<double> values(checkCount(std::ceil((limit - start) / delta)));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = start + static_cast<double>(i) * delta;
    Shape shape = {static_cast<int64_t>(values.size())};
    return c.result(c.constant(convert(Tensor::of<double>(ElementType::f64, shape, values), type)));
  }
  int64_t start = valuesOf<int64_t>(bounds[0])[0], limit = valuesOf<int64_t>(bounds[1])[0],
          delta = valuesOf<int64_t>(bounds[2])[0];
  if (delta == 0)
    refuse("delta is 0");
  std::vector<int64_t> values(
      checkCount(std::ceil((static_cast<double>(limit) - static_cast<double>(start)) / static_cast<double>(delta))));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = start + static_cast<int64_t>(i) * delta;
  Shape shape = {static_cast<int64_t>(values.size())};
  c.result(c.constant(convert(Tensor::of<int64_t>(ElementType::i64, shape, values), type)));
}

static void eyeLike(OperatorContext &c) {
  TensorRef x = c.operand(0);
  int64_t k = std::clamp<int64_t>(c.integer("k", 0), -(int64_t(1) << 40), int64_t(1) << 40);
  ElementType type = c.elementType("dtype").value_or(x.type());
  if (x.rank() != 2)
    refuse("operand of shape " + shapeText(x.shape()) + " is no matrix");
  Nest nest;
  nest.operation = "eye_like";
  nest.loops = {{x.dim(0), false}, {x.dim(1), false}};
  nest.write = identityAccess(2);
  c.result(c.nest(nest, [&](llvm::ArrayRef<Lane>) {
    return (loopIndex(c, 1) == loopIndex(c, 0) + static_cast<double>(k)).to(type);
  }));
}

void addGenerators(OperatorTable &table) {
  table.add("Constant", constant);
  table.add("ConstantOfShape", constantOfShape);
  table.add("Shape", shape);
  table.add("Size", size);
  table.add("Range", range);
  table.add("EyeLike", eyeLike);
}

} // namespace quadrille::graph::importer
