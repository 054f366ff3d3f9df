// Gathers and scatters by comparing indices with places.
#include "graph/KernelQueries.h"
#include "graph/Structurer.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

#include <limits>

namespace quadrille::graph {

namespace {

Shape joinedShapes(std::initializer_list<llvm::ArrayRef<int64_t>> parts) {
  Shape shape;
  for (llvm::ArrayRef<int64_t> part : parts)
    shape.insert(shape.end(), part.begin(), part.end());
  return shape;
}

std::vector<Loop> parallelLoops(llvm::ArrayRef<int64_t> shape) {
  std::vector<Loop> nest;
  for (int64_t extent : shape)
    nest.push_back({extent, false});
  return nest;
}

size_t axisOf(const Kernel &kernel, size_t rank) {
  int64_t axis = integerAttribute(kernel, "axis").value_or(0);
  return static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(rank) : axis);
}

int64_t lastOf(llvm::ArrayRef<int64_t> shape) {
  return shape.empty() ? 1 : shape.back();
}

// Index `i`, counted from the end where it is negative.
Register wrapped(BodyBuilder &body, Register index, ElementType type, int64_t extent) {
  Register fromEnd = body.add(type, index, body.constant(type, static_cast<double>(extent)));
  return body.select(type, body.less(index, body.constant(type, 0)), fromEnd, index);
}

Write writeOf(ValueId to, AccessMap map) {
  Write write;
  write.value = to;
  write.map = std::move(map);
  return write;
}
Write combining(ValueId to, AccessMap map, Combiner combiner, Scalar initial) {
  Write write = writeOf(to, std::move(map));
  write.combiner = combiner;
  write.initialScalar = initial;
  return write;
}

// The bits of `data` at `places`, or over the last loop, a reduction that counts the places: into a value of
// `shape`, whose dimensions are the other loops. `numbers` counts the places too.
ValueId picked(KernelRewriter &rewriter, const Shape &shape, int64_t places, Read data, Read index, Read number) {
  ElementType type = rewriter.typeOf(data.value), bits = bitsType(type);
  std::vector<Loop> nest = parallelLoops(shape);
  nest.push_back({places, true});
  BodyBuilder body;
  Register element = bitsOf(body, body.input(type), type);
  Register here = body.equal(body.input(rewriter.typeOf(index.value)), body.input(rewriter.typeOf(number.value)));
  body.body.results = {body.select(bits, here, element, body.constant(bits, 0))};
  ValueId to = rewriter.value(bits, shape);
  rewriter.structured(std::move(nest), {std::move(data), std::move(index), std::move(number)},
                      {combining(to, loopIndices(0, shape.size()), Combiner::Or, {bits, 0})}, std::move(body.body));
  return to;
}

// Index vectors in the last dimension of `indices` as numbers in row-major order of the `extents`; the shape of all
// other dimensions.
ValueId linearIndices(KernelRewriter &rewriter, ValueId indices, llvm::ArrayRef<int64_t> extents) {
  Shape shape = rewriter.shapeOf(indices);
  shape.pop_back();
  ElementType type = rewriter.typeOf(indices);
  BodyBuilder body;
  std::vector<Read> reads;
  Register sum = body.constant(type, 0);
  Shape strides = rowMajorStrides(extents);
  for (auto [d, extent] : llvm::enumerate(extents)) {
    reads.push_back({indices, joinedMaps({loopIndices(0, shape.size()), {fixedIndex(static_cast<int64_t>(d))}}), {}});
    Register at = wrapped(body, body.input(type), type, extent);
    Register steps = body.constant(type, static_cast<double>(strides[d]));
    sum = body.add(type, sum, body.emit(BlockOpcode::Multiply, type, {at, steps}));
  }
  body.body.results = {sum};
  return rewriter.map(shape, std::move(reads), std::move(body.body));
}

// A value with a further, last dimension along which its elements are repeated, so that they lie as what they are
// compared with does.
ValueId repeated(KernelRewriter &rewriter, ValueId from, int64_t count) {
  Shape shape = rewriter.shapeOf(from);
  AccessMap map = loopIndices(0, shape.size());
  shape.push_back(count);
  BodyBuilder body;
  body.body.results = {body.input(rewriter.typeOf(from))};
  return rewriter.map(shape, {{from, std::move(map), std::nullopt}}, std::move(body.body));
}

// Indices that count from the end where they are negative, from 0 on.
ValueId wrappedIndices(KernelRewriter &rewriter, ValueId indices, int64_t extent) {
  Shape shape = rewriter.shapeOf(indices);
  BodyBuilder body;
  ElementType type = rewriter.typeOf(indices);
  body.body.results = {wrapped(body, body.input(type), type, extent)};
  return rewriter.map(shape, {{indices, loopIndices(0, shape.size()), std::nullopt}}, std::move(body.body));
}

// data[b..., index[b..., j...], k...] for the first `batch` dimensions b and indices counted from 0, as `to`.
void gatherSlices(KernelRewriter &rewriter, ValueId data, size_t axis, ValueId index, size_t indexBatch, ValueId to) {
  const Shape from = rewriter.shapeOf(data), picks = rewriter.shapeOf(index);
  size_t batch = axis, pickRank = picks.size() - indexBatch, sliceRank = from.size() - axis - 1;
  Shape shape = joinedShapes({llvm::ArrayRef(from).take_front(batch), llvm::ArrayRef(picks).drop_front(indexBatch),
                              llvm::ArrayRef(from).drop_front(axis + 1)});
  auto place = static_cast<unsigned>(shape.size()), firstPick = static_cast<unsigned>(batch);
  auto firstSlice = static_cast<unsigned>(batch + pickRank);
  AccessMap indexMap = joinedMaps({loopIndices(0, indexBatch), loopIndices(firstPick, pickRank)});
  if (sliceRank > 0) {
    index = repeated(rewriter, index, from.back());
    indexMap.push_back(loopIndex(place - 1));
  }
  int64_t places = from[axis];
  ValueId numbers = rewriter.numbers(places, lastOf(shape), rewriter.typeOf(index));
  AccessMap numberMap = {loopIndex(place), shape.empty() ? fixedIndex(0) : loopIndex(place - 1)};
  AccessMap dataMap = joinedMaps({loopIndices(0, batch), {loopIndex(place)}, loopIndices(firstSlice, sliceRank)});
  ValueId bits = picked(rewriter, shape, places, {data, std::move(dataMap), {}}, {index, std::move(indexMap), {}},
                        {numbers, std::move(numberMap), {}});
  fromBits(rewriter, bits, to);
}

Combiner combinerNamed(llvm::StringRef reduction) {
  return reduction == "add"   ? Combiner::Sum
         : reduction == "mul" ? Combiner::Product
         : reduction == "min" ? Combiner::Minimum
         : reduction == "max" ? Combiner::Maximum
                              : Combiner::None;
}

// What changes nothing when combined with any value of the type.
Scalar neutral(Combiner combiner, ElementType type) {
  switch (combiner) {
  case Combiner::Sum: // of floats -0, as -0 + 0 is 0
    return {type, isFloat(type) ? bitsFromDouble(type, -0.0) : 0};
  case Combiner::Product:
    return {type, bitsFromDouble(type, 1)};
  case Combiner::Minimum:
  case Combiner::Maximum: { // integers clamp
    double most = std::numeric_limits<double>::infinity();
    return {type, bitsFromDouble(type, combiner == Combiner::Minimum ? most : -most, /*saturate=*/!isFloat(type))};
  }
  default:
    return {type, 0};
  }
}

// The reads of a scatter: its loops are those of the result, then one that counts updates.
struct Updates {
  std::vector<Loop> nest;
  Read index, place, number, update; // `place` and `number` count along the scattered axis and the updates
};

// `data` (of the result's shape) with the updates that go to each element, as `to`. Of several the last one stays, or
// they are combined.
void scatter(KernelRewriter &rewriter, const Updates &of, Read data, llvm::StringRef reduction, ValueId to) {
  ElementType type = rewriter.typeOf(data.value), indexType = rewriter.typeOf(of.index.value);
  const Shape shape = rewriter.shapeOf(data.value);
  AccessMap all = loopIndices(0, shape.size());
  Combiner combiner = combinerNamed(reduction);
  if (combiner != Combiner::None) {
    BodyBuilder body;
    Register here = body.equal(body.input(indexType), body.input(indexType));
    Scalar nothing = neutral(combiner, type);
    Register update = body.input(type);
    body.body.results = {body.select(type, here, update, body.emit(BlockOpcode::Constant, type, {}, nothing.bits))};
    ValueId combined = rewriter.value(type, shape);
    Write write = writeOf(combined, all);
    write.combiner = combiner;
    write.initial = std::move(data);
    rewriter.structured(of.nest, {of.index, of.place, of.update}, {std::move(write)}, std::move(body.body));
    rewriter.reshape(combined, rewriter.shapeOf(to), to);
    return;
  }
  // The number of the last update, -1 where there is none.
  ValueId last = rewriter.value(indexType, shape);
  {
    BodyBuilder body;
    Register here = body.equal(body.input(indexType), body.input(indexType));
    Register number = body.input(indexType);
    body.body.results = {body.select(indexType, here, number, body.constant(indexType, -1))};
    rewriter.structured(of.nest, {of.index, of.place, of.number},
                        {combining(last, all, Combiner::Maximum, {indexType, bitsFromDouble(indexType, -1)})},
                        std::move(body.body));
  }
  int64_t count = of.nest.back().extent;
  ValueId bits = picked(rewriter, shape, count, of.update, {last, all, {}}, of.number);
  BodyBuilder body;
  Register from = body.input(type), number = body.input(indexType), update = body.input(rewriter.typeOf(bits));
  if (rewriter.typeOf(bits) != type)
    update = body.emit(BlockOpcode::Bitcast, type, {update});
  body.body.results = {body.select(type, body.less(number, body.constant(indexType, 0)), from, update)};
  ValueId result = rewriter.map(shape, {std::move(data), {last, all, {}}, {bits, all, {}}}, std::move(body.body));
  rewriter.reshape(result, rewriter.shapeOf(to), to);
}

} // namespace

void structureGather(KernelRewriter &rewriter) {
  const Kernel &kernel = *rewriter.replaced;
  ValueId data = kernel.reads[0].value, indices = kernel.reads[1].value;
  size_t axis = axisOf(kernel, rewriter.shapeOf(data).size());
  ValueId index = wrappedIndices(rewriter, indices, rewriter.shapeOf(data)[axis]);
  gatherSlices(rewriter, data, axis, index, 0, kernel.writes[0].value);
}

void structureGatherNd(KernelRewriter &rewriter) {
  const Kernel &kernel = *rewriter.replaced;
  ValueId data = kernel.reads[0].value, indices = kernel.reads[1].value;
  auto batch = static_cast<size_t>(integerAttribute(kernel, "batch_dims").value_or(0));
  const Shape from = rewriter.shapeOf(data);
  auto depth = static_cast<size_t>(rewriter.shapeOf(indices).back());
  llvm::ArrayRef<int64_t> extents = llvm::ArrayRef(from).slice(batch, depth);
  ValueId index = linearIndices(rewriter, indices, extents);
  ValueId flat = rewriter.reshape(data, joinedShapes({llvm::ArrayRef(from).take_front(batch),
                                                      {elementCount(extents)},
                                                      llvm::ArrayRef(from).drop_front(batch + depth)}));
  gatherSlices(rewriter, flat, batch, index, batch, kernel.writes[0].value);
}

void structureGatherElements(KernelRewriter &rewriter) {
  const Kernel &kernel = *rewriter.replaced;
  ValueId data = kernel.reads[0].value, indices = kernel.reads[1].value;
  const Shape from = rewriter.shapeOf(data), shape = rewriter.shapeOf(indices);
  size_t axis = axisOf(kernel, from.size());
  auto place = static_cast<unsigned>(shape.size());
  ValueId index = wrappedIndices(rewriter, indices, from[axis]);
  ValueId numbers = rewriter.numbers(from[axis], shape.back(), rewriter.typeOf(index));
  AccessMap all = loopIndices(0, shape.size()), dataMap = all;
  dataMap[axis] = loopIndex(place);
  ValueId bits = picked(rewriter, shape, from[axis], {data, std::move(dataMap), {}}, {index, all, {}},
                        {numbers, {loopIndex(place), loopIndex(place - 1)}, {}});
  fromBits(rewriter, bits, kernel.writes[0].value);
}

void structureScatterElements(KernelRewriter &rewriter) {
  const Kernel &kernel = *rewriter.replaced;
  ValueId data = kernel.reads[0].value, indices = kernel.reads[1].value, updates = kernel.reads[2].value;
  const Shape shape = rewriter.shapeOf(data), given = rewriter.shapeOf(indices);
  size_t axis = axisOf(kernel, shape.size()), rank = shape.size();
  ElementType type = rewriter.typeOf(data), indexType = rewriter.typeOf(indices);
  auto update = static_cast<unsigned>(rank);
  Updates of;
  of.nest = parallelLoops(shape);
  of.nest.push_back({given[axis], true});
  AccessMap map = loopIndices(0, rank);
  map[axis] = loopIndex(update);
  of.index = {wrappedIndices(rewriter, indices, shape[axis]), map, {}};
  of.update = {updates, map, {}};
  for (size_t d = 0; d < rank; ++d)
    if (d != axis && given[d] < shape[d]) { // elements beside the indices: an index of no place
      of.index.padding = Scalar{indexType, bitsFromDouble(indexType, -1)};
      of.update.padding = Scalar{type, 0};
    }
  auto lastLoop = loopIndex(update - 1);
  if (axis + 1 == rank) {
    of.place = {rewriter.numbersInRow(shape[axis], indexType), {lastLoop}, {}};
  } else {
    of.place = {rewriter.numbers(shape[axis], shape.back(), indexType), {loopIndex(axis), lastLoop}, {}};
  }
  of.number = {rewriter.numbers(given[axis], shape.back(), indexType), {loopIndex(update), lastLoop}, {}};
  scatter(rewriter, of, {data, loopIndices(0, rank), {}}, std::get<std::string>(kernel.attributes.at("reduction")),
          kernel.writes[0].value);
}

void structureScatterNd(KernelRewriter &rewriter) {
  const Kernel &kernel = *rewriter.replaced;
  ValueId data = kernel.reads[0].value, indices = kernel.reads[1].value, updates = kernel.reads[2].value;
  const Shape whole = rewriter.shapeOf(data);
  auto depth = static_cast<size_t>(rewriter.shapeOf(indices).back());
  llvm::ArrayRef<int64_t> extents = llvm::ArrayRef(whole).take_front(depth),
                          slice = llvm::ArrayRef(whole).drop_front(depth);
  ValueId index = linearIndices(rewriter, indices, extents);
  int64_t count = elementCount(rewriter.shapeOf(index)), places = elementCount(extents);
  ElementType indexType = rewriter.typeOf(index);
  // [places, slice...] in rows; where a slice is one element, the places lie beside each other.
  Shape shape = joinedShapes({{places}, slice});
  auto rank = shape.size();
  auto update = static_cast<unsigned>(rank);
  auto lastLoop = loopIndex(update - 1);
  Updates of;
  of.nest = parallelLoops(shape);
  of.nest.push_back({count, true});
  ValueId flatIndex = repeated(rewriter, rewriter.reshape(index, {count}), shape.back());
  of.index = {flatIndex, {loopIndex(update), lastLoop}, {}};
  ValueId flatUpdates = rewriter.reshape(updates, joinedShapes({{count}, slice}));
  of.update = {flatUpdates, joinedMaps({{loopIndex(update)}, loopIndices(1, rank - 1)}), {}};
  if (slice.empty())
    of.place = {rewriter.numbersInRow(places, indexType), {loopIndex(0)}, {}};
  else
    of.place = {rewriter.numbers(places, shape.back(), indexType), {loopIndex(0), lastLoop}, {}};
  of.number = {rewriter.numbers(count, shape.back(), indexType), {loopIndex(update), lastLoop}, {}};
  ValueId flat = rewriter.reshape(data, shape);
  scatter(rewriter, of, {flat, loopIndices(0, rank), {}}, std::get<std::string>(kernel.attributes.at("reduction")),
          kernel.writes[0].value);
}

} // namespace quadrille::graph
