// Order along an axis by comparing elements with each other, and running sums by steps of doubling reach.
#include "graph/KernelQueries.h"
#include "graph/Structurer.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::graph {

namespace {

// A value with one dimension, the axis, apart from the others. Where the axis would be the last dimension it comes
// first, so that its elements never lie beside each other.
struct Along {
  ValueId data = noValue;
  size_t axis = 0;
  bool moved = false;
};

// The order of dimensions in which the axis is the first, or goes back from there to the end.
ValueId rotated(KernelRewriter &rewriter, ValueId from, bool back) {
  const Shape shape = rewriter.shapeOf(from);
  size_t rank = shape.size();
  Shape to(rank);
  AccessMap map(rank);
  for (size_t d = 0; d < rank; ++d) {
    size_t result = back ? (d + rank - 1) % rank : (d + 1) % rank; // where dimension d goes
    to[result] = shape[d];
    map[d] = loopIndex(static_cast<unsigned>(result));
  }
  BodyBuilder body;
  body.body.results = {body.input(rewriter.typeOf(from))};
  return rewriter.map(to, {{from, std::move(map), std::nullopt}}, std::move(body.body));
}

size_t axisOf(const Kernel &kernel, const Shape &shape) {
  int64_t axis = integerAttribute(kernel, "axis").value_or(0);
  return static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(shape.size()) : axis);
}

Along along(KernelRewriter &rewriter) {
  const Kernel &kernel = *rewriter.replaced;
  Along result;
  result.data = kernel.reads[0].value;
  Shape shape = rewriter.shapeOf(result.data);
  result.axis = axisOf(kernel, shape);
  if (result.axis + 1 < shape.size())
    return result;
  if (shape.size() == 1) {
    result.data = rewriter.reshape(result.data, {shape[0], 1});
    return result;
  }
  result.data = rotated(rewriter, result.data, false);
  result.axis = 0;
  result.moved = true;
  return result;
}

// What was computed in the order of `of`, as `to`.
void putBack(KernelRewriter &rewriter, const Along &of, ValueId made, ValueId to) {
  if (of.moved)
    made = rotated(rewriter, made, true);
  rewriter.reshape(made, rewriter.shapeOf(to), to);
}

std::vector<Loop> nestOf(const Shape &shape, std::optional<int64_t> reduced) {
  std::vector<Loop> nest;
  for (int64_t extent : shape)
    nest.push_back({extent, false});
  if (reduced)
    nest.push_back({*reduced, true});
  return nest;
}

Write combining(ValueId to, AccessMap map, Combiner combiner, Scalar initial) {
  Write write;
  write.value = to;
  write.map = std::move(map);
  write.combiner = combiner;
  write.initialScalar = initial;
  return write;
}

// Whether a comes before b in ascending order: NaN is the largest.
Register below(BodyBuilder &body, ElementType type, Register a, Register b) {
  Register less = body.less(a, b);
  if (!isFloat(type))
    return less;
  auto isNan = [&](Register x) { return body.emit(BlockOpcode::IsNan, ElementType::boolean, {x}); };
  return body.either(less, body.both(isNan(b), body.isNot(isNan(a))));
}

} // namespace

void structureArgReduce(KernelRewriter &rewriter) {
  const Kernel &kernel = *rewriter.replaced;
  ValueId to = kernel.writes[0].value;
  bool largest = std::get<std::string>(kernel.attributes.at("extremum")) == "maximum";
  bool last = integerAttribute(kernel, "select_last").value_or(0) != 0;
  ValueId data = kernel.reads[0].value;
  const Shape from = rewriter.shapeOf(data);
  size_t axis = axisOf(kernel, from);
  ElementType type = rewriter.typeOf(data), indexType = rewriter.typeOf(to);
  int64_t extent = from[axis];
  Shape shape = from;
  shape.erase(shape.begin() + static_cast<int64_t>(axis));
  auto reduced = static_cast<unsigned>(shape.size());
  AccessMap all = loopIndices(0, shape.size()), dataMap = all;
  dataMap.insert(dataMap.begin() + static_cast<int64_t>(axis), loopIndex(reduced));

  ValueId extreme = rewriter.value(type, shape);
  {
    BodyBuilder body;
    body.body.results = {body.input(type)};
    double most = std::numeric_limits<double>::infinity();
    Scalar start{type, bitsFromDouble(type, largest ? -most : most, /*saturate=*/!isFloat(type))};
    rewriter.structured(nestOf(shape, extent), {{data, dataMap, {}}},
                        {combining(extreme, all, largest ? Combiner::Maximum : Combiner::Minimum, start)},
                        std::move(body.body));
  }
  Read number{noValue, {loopIndex(reduced)}, {}};
  if (axis + 1 == from.size()) {
    number.value = rewriter.numbersInRow(extent, indexType);
  } else {
    number.value = rewriter.numbers(extent, shape.back(), indexType);
    number.map.push_back(loopIndex(reduced - 1));
  }
  ValueId index = rewriter.value(indexType, shape);
  BodyBuilder body;
  Register element = body.input(type), most = body.input(type), place = body.input(indexType);
  Register here = body.equal(element, most);
  if (isFloat(type)) // where one is NaN, it is the extremum
    here = body.either(here, body.emit(BlockOpcode::IsNan, ElementType::boolean, {element}));
  double beyond = last ? -1 : static_cast<double>(extent);
  body.body.results = {body.select(indexType, here, place, body.constant(indexType, beyond))};
  rewriter.structured(nestOf(shape, extent), {{data, dataMap, {}}, {extreme, all, {}}, number},
                      {combining(index, all, last ? Combiner::Maximum : Combiner::Minimum,
                                 {indexType, bitsFromDouble(indexType, beyond)})},
                      std::move(body.body));
  rewriter.reshape(index, rewriter.shapeOf(to), to);
}

// The rank of an element counts those that come before it; the element of rank r is then picked for place r.
void structureOrder(KernelRewriter &rewriter) {
  const Kernel &kernel = *rewriter.replaced;
  const char *direction = kernel.operation == "sort" ? "descending" : "largest";
  bool descending = integerAttribute(kernel, direction).value_or(0) != 0;
  Along of = along(rewriter);
  const Shape from = rewriter.shapeOf(of.data);
  ElementType type = rewriter.typeOf(of.data), indexType = ElementType::i64, bits = bitsType(type);
  int64_t extent = from[of.axis];
  auto axis = static_cast<unsigned>(of.axis), other = static_cast<unsigned>(from.size()), last = other - 1;
  AccessMap own = loopIndices(0, from.size()), against = own;
  against[axis] = loopIndex(other);
  ValueId numbers = rewriter.numbers(extent, from.back(), indexType);
  AccessMap ownNumber = {loopIndex(axis), loopIndex(last)}, otherNumber = {loopIndex(other), loopIndex(last)};

  ValueId rank = rewriter.value(indexType, from);
  {
    BodyBuilder body;
    Register element = body.input(type), rival = body.input(type);
    Register place = body.input(indexType), rivalPlace = body.input(indexType);
    Register low = descending ? element : rival, high = descending ? rival : element;
    Register before = below(body, type, low, high), behind = below(body, type, high, low);
    Register earlier = body.less(rivalPlace, place);
    Register counts = body.either(before, body.both(body.isNot(behind), earlier));
    body.body.results = {body.emit(BlockOpcode::Convert, indexType, {counts})};
    rewriter.structured(
        nestOf(from, extent),
        {{of.data, own, {}}, {of.data, against, {}}, {numbers, ownNumber, {}}, {numbers, otherNumber, {}}},
        {combining(rank, own, Combiner::Sum, {indexType, 0})}, std::move(body.body));
  }
  bool hasIndices = kernel.writes.size() > 1;
  int64_t axisInResult = integerAttribute(kernel, "axis").value_or(0);
  const Shape &wanted = rewriter.shapeOf(kernel.writes[0].value);
  Shape shape = from;
  shape[axis] = wanted[axisInResult < 0 ? axisInResult + wanted.size() : axisInResult];
  ValueId values = rewriter.value(bits, shape), indices = rewriter.value(indexType, shape);
  BodyBuilder body;
  Register here = body.equal(body.input(indexType), body.input(indexType));
  Register element = bitsOf(body, body.input(type), type);
  body.body.results = {body.select(bits, here, element, body.constant(bits, 0))};
  std::vector<Read> reads = {{rank, against, {}}, {numbers, ownNumber, {}}, {of.data, against, {}}};
  std::vector<Write> writes = {combining(values, own, Combiner::Or, {bits, 0})};
  if (hasIndices) {
    Register number = body.input(indexType);
    body.body.results.push_back(body.select(indexType, here, number, body.constant(indexType, 0)));
    reads.push_back({numbers, otherNumber, {}});
    writes.push_back(combining(indices, own, Combiner::Or, {indexType, 0}));
  }
  rewriter.structured(nestOf(shape, extent), std::move(reads), std::move(writes), std::move(body.body));
  if (of.moved)
    values = rotated(rewriter, values, true);
  fromBits(rewriter, values, kernel.writes[0].value);
  if (hasIndices)
    putBack(rewriter, of, indices, kernel.writes[1].value);
}

void structureCumulative(KernelRewriter &rewriter) {
  const Kernel &kernel = *rewriter.replaced;
  ValueId to = kernel.writes[0].value;
  bool sum = std::get<std::string>(kernel.attributes.at("accumulation")) == "sum";
  bool exclusive = integerAttribute(kernel, "exclusive").value_or(0) != 0;
  int64_t direction = integerAttribute(kernel, "reverse").value_or(0) != 0 ? 1 : -1;
  Along of = along(rewriter);
  const Shape shape = rewriter.shapeOf(of.data);
  ElementType type = rewriter.typeOf(of.data);
  ElementType wide = isFloat(type) && bitWidth(type) < 32 ? ElementType::f32 : type;
  AccessMap own = loopIndices(0, shape.size());
  auto shifted = [&](int64_t by) {
    AccessMap map = own;
    map[of.axis].offset = by * direction;
    return map;
  };
  ValueId running = of.data;
  auto converted = [&](ElementType into) {
    if (rewriter.typeOf(running) == into)
      return;
    BodyBuilder body;
    body.body.results = {body.emit(BlockOpcode::Convert, into, {body.input(rewriter.typeOf(running))})};
    running = rewriter.map(shape, {{running, own, std::nullopt}}, std::move(body.body));
  };
  converted(wide);
  Scalar neutral{wide, bitsFromDouble(wide, sum ? 0 : 1)};
  if (exclusive) {
    BodyBuilder body;
    body.body.results = {body.input(wide)};
    running = rewriter.map(shape, {{running, shifted(1), neutral}}, std::move(body.body));
  }
  for (int64_t reach = 1; reach < shape[of.axis]; reach *= 2) {
    BodyBuilder body;
    Register here = body.input(wide), before = body.input(wide);
    body.body.results = {body.emit(sum ? BlockOpcode::Add : BlockOpcode::Multiply, wide, {before, here})};
    running = rewriter.map(shape, {{running, own, {}}, {running, shifted(reach), neutral}}, std::move(body.body));
  }
  converted(type);
  putBack(rewriter, of, running, to);
}

} // namespace quadrille::graph
