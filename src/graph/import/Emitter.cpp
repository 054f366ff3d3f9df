// Structured operations and movement as linalg, tensor and qd operations. EmitterQd.cpp has the rest.
#include "graph/import/EmitterState.h"

#include "graph/import/Window.h"
#include "graph/onnx/ModelFile.h"
#include "numerics/Convert.h"
#include "numerics/Strided.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

#include "llvm/Support/MathExtras.h"

#include <numeric>

namespace quadrille::graph::importer {

Lane constantLane(Emitter &emitter, ElementType type, uint64_t bits); // Lane.cpp

// Constants of more elements are weights of their own; constants of at most this many can be folded.
constexpr int64_t smallConstant = 4096;
// No tensor of a model has more elements, no loop nest more points and no index more than KernelGraph::verify takes; a
// lying shape must not overflow what is computed from it.
constexpr int64_t maximumElements = largestExtent, maximumPoints = int64_t(1) << 60;
// Of all constants that are computed at import; a file of a few bytes can ask for many.
constexpr int64_t maximumComputedBytes = int64_t(2) << 30;

mlir::RankedTensorType Emitter::State::typeOf(ElementType type, llvm::ArrayRef<int64_t> shape) {
  product(shape); // refuses what is too large
  return mlir::RankedTensorType::get(shape, qd::mlirTypeOf(builder.getContext(), type));
}

TensorRef Emitter::State::add(mlir::Value value) {
  auto type = llvm::cast<mlir::RankedTensorType>(value.getType());
  TensorData data;
  data.type = *qd::elementTypeOf(type.getElementType());
  data.shape = type.getShape().vec();
  data.value = value.getAsOpaquePointer();
  return add(std::move(data));
}

static Scalar elementOf(const Tensor &tensor, int64_t index) {
  Scalar scalar{tensor.type(), 0};
  size_t width = byteWidth(tensor.type());
  std::memcpy(&scalar.bits, tensor.bytes().data() + static_cast<size_t>(index) * width, width);
  return scalar;
}

// The one element that a constant consists of.
static std::optional<Scalar> splatOf(TensorRef tensor) {
  if (tensor->splat)
    return tensor->splat;
  if (tensor.known() && tensor.elements() == 1)
    return elementOf(tensor.constant(), 0);
  return std::nullopt;
}

static mlir::Attribute attributeOf(mlir::Type type, Scalar scalar) {
  if (auto floating = llvm::dyn_cast<mlir::FloatType>(type))
    return mlir::FloatAttr::get(
        floating, llvm::APFloat(floating.getFloatSemantics(), llvm::APInt(64, scalar.bits).trunc(floating.getWidth())));
  return mlir::IntegerAttr::get(type, llvm::APInt(64, scalar.bits).trunc(type.getIntOrFloatBitWidth()));
}

static mlir::DenseElementsAttr splatAttribute(mlir::RankedTensorType type, Scalar scalar) {
  return mlir::DenseElementsAttr::get(type, attributeOf(type.getElementType(), scalar));
}

static mlir::DenseElementsAttr denseAttribute(mlir::RankedTensorType type, const Tensor &tensor) {
  if (tensor.type() == ElementType::boolean) {
    llvm::SmallVector<bool> values;
    for (std::byte byte : tensor.bytes())
      values.push_back(byte != std::byte(0));
    return mlir::DenseElementsAttr::get(type, values);
  }
  llvm::ArrayRef<std::byte> bytes = tensor.bytes();
  return mlir::DenseElementsAttr::getFromRawBuffer(
      type, llvm::ArrayRef<char>(reinterpret_cast<const char *>(bytes.data()), bytes.size()));
}

mlir::Value Emitter::State::valueOf(TensorRef tensor) {
  const TensorData &data = *tensor.get();
  if (!data.isConstant())
    return mlir::Value::getFromOpaquePointer(data.value);
  IsolatedBlock &scope = isolated.back();
  mlir::Value &value = scope.constants[&data];
  if (value)
    return value;
  mlir::OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(scope.block);
  mlir::RankedTensorType type = typeOf(data.type, data.shape);
  mlir::Location unknown = builder.getUnknownLoc();
  std::optional<Scalar> splat = splatOf(tensor);
  bool isWeight = data.weight && !splat;
  if (splat || (!isWeight && tensor.elements() <= smallConstant)) {
    mlir::DenseElementsAttr elements = splat ? splatAttribute(type, *splat) : denseAttribute(type, data.constant);
    return value = builder.create<mlir::arith::ConstantOp>(unknown, type, elements);
  }
  mlir::DenseResourceElementsAttr elements;
  if (data.constant.valid()) {
    auto owner = std::make_shared<Tensor>(data.constant);
    llvm::ArrayRef<std::byte> bytes = owner->bytes();
    elements = builder.getContext()->getLoadedDialect<qd::QdDialect>()->borrowElements(type, bytes, std::move(owner));
  }
  mlir::StringAttr file;
  mlir::IntegerAttr offset, size;
  if (data.origin) {
    file = builder.getStringAttr(data.origin->path);
    offset = builder.getI64IntegerAttr(static_cast<int64_t>(data.origin->offset));
    size = builder.getI64IntegerAttr(static_cast<int64_t>(data.origin->size));
  }
  return value = builder.create<qd::WeightOp>(unknown, type, builder.getStringAttr(data.name), elements, file, offset,
                                              size);
}

TensorRef Emitter::constant(Tensor tensor) {
  TensorData data;
  data.type = tensor.type();
  data.shape = tensor.shape();
  data.constant = std::move(tensor);
  return state.add(std::move(data));
}

TensorRef Emitter::State::computed(Tensor tensor) {
  computedBytes += static_cast<int64_t>(tensor.byteSize());
  if (computedBytes > maximumComputedBytes)
    refuse("the constants that are computed at import take more than " + llvm::Twine(maximumComputedBytes) + " bytes");
  return Emitter(*this).constant(std::move(tensor));
}

TensorRef Emitter::weight(const WeightData &source, llvm::StringRef name) {
  product(source.shape); // refuses what is too large; of absent data any shape can be claimed
  TensorData data;
  data.type = source.type;
  data.shape = source.shape;
  data.name = source.name.empty() ? name.str() : source.name;
  data.weight = true;
  data.stored = true;
  data.constant = source.data;
  data.origin = source.origin;
  return state.add(std::move(data));
}

TensorRef Emitter::integers(llvm::ArrayRef<int64_t> values) {
  return state.computed(Tensor::of<int64_t>(ElementType::i64, {static_cast<int64_t>(values.size())}, values));
}

TensorRef Emitter::range(int64_t count) {
  std::vector<int64_t> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), 0);
  return integers(values);
}

TensorRef Emitter::scalar(ElementType type, double number) {
  return fill({}, scalarOf(type, number));
}

TensorRef Emitter::fill(ElementType type, Shape shape, double number) {
  return fill(std::move(shape), scalarOf(type, number));
}

TensorRef Emitter::fill(Shape shape, Scalar element) {
  TensorData data;
  data.type = element.type;
  data.splat = element;
  int64_t elements = product(shape);
  if (elements <= 65536) {
    Tensor tensor = Tensor::uninitialized(element.type, shape);
    fillElements(tensor.mutableBytes(), element.bits, byteWidth(element.type), elements);
    data.constant = state.computed(std::move(tensor)).constant();
  }
  data.shape = std::move(shape);
  return state.add(std::move(data));
}

AccessMap identityAccess(size_t rank) {
  AccessMap map;
  for (size_t d = 0; d < rank; ++d)
    map.push_back(at(static_cast<unsigned>(d)));
  return map;
}

AccessMap broadcastAccess(llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<int64_t> loops) {
  AccessMap map;
  size_t skipped = loops.size() - shape.size();
  for (size_t d = 0; d < shape.size(); ++d)
    map.push_back(shape[d] == 1 && loops[skipped + d] != 1 ? fixed(0) : at(static_cast<unsigned>(skipped + d)));
  return map;
}

static mlir::AffineMap affineMap(mlir::OpBuilder &b, size_t loops, const AccessMap &map) {
  llvm::SmallVector<mlir::AffineExpr> results;
  for (const DimensionAccess &access : map) {
    mlir::AffineExpr expression = b.getAffineConstantExpr(access.offset);
    for (auto [loop, coefficient] : access.terms)
      expression = b.getAffineDimExpr(loop) * coefficient + expression;
    results.push_back(expression);
  }
  return mlir::AffineMap::get(static_cast<unsigned>(loops), 0, results, b.getContext());
}

static Scalar neutralElement(Combiner combiner, ElementType type) {
  switch (combiner) {
  case Combiner::Sum:
    return scalarOf(type, 0);
  case Combiner::Product:
    return scalarOf(type, 1);
  case Combiner::Minimum:
  case Combiner::MinimumNumber:
    return highestOf(type);
  case Combiner::Maximum:
  case Combiner::MaximumNumber:
    return lowestOf(type);
  case Combiner::And:
    return highestOf(type).type == ElementType::boolean ? Scalar{type, 1} : Scalar{type, ~uint64_t(0)};
  default:
    return {type, 0};
  }
}

static BlockOpcode opcodeOf(Combiner combiner) {
  switch (combiner) {
  case Combiner::Sum:
    return BlockOpcode::Add;
  case Combiner::Product:
    return BlockOpcode::Multiply;
  case Combiner::Minimum:
    return BlockOpcode::Minimum;
  case Combiner::Maximum:
    return BlockOpcode::Maximum;
  case Combiner::MinimumNumber:
    return BlockOpcode::MinimumNumber;
  case Combiner::MaximumNumber:
    return BlockOpcode::MaximumNumber;
  case Combiner::And:
    return BlockOpcode::And;
  case Combiner::Or:
    return BlockOpcode::Or;
  default:
    return BlockOpcode::Xor;
  }
}

static qd::Rounding roundingOf(Rounding rounding) {
  return rounding == Rounding::Stochastic ? qd::Rounding::Stochastic : qd::Rounding::NearestEven;
}

// What KernelGraph::verify would find, while it is known which node asks for it.
static void refuseHugeNest(const Nest &nest) {
  int64_t points = 1;
  for (const Loop &loop : nest.loops)
    if (loop.extent < 0 || llvm::MulOverflow(points, std::max<int64_t>(loop.extent, 1), points) ||
        points > maximumPoints)
      refuse("more than 2^60 steps of computation");
  for (const Nest::Operand &read : nest.reads)
    for (const DimensionAccess &access : read.map) {
      bool huge = access.offset < -largestExtent || access.offset > largestExtent;
      for (auto [loop, coefficient] : access.terms)
        huge |= coefficient < -largestCoefficient || coefficient > largestCoefficient;
      if (huge)
        refuse("strides over 2^20 or offsets over 2^40 elements");
    }
}

TensorRef Emitter::nest(const Nest &nest, LaneBody body) {
  refuseHugeNest(nest);
  mlir::OpBuilder &b = state.builder;
  mlir::Location location = state.location;
  Shape shape;
  for (const DimensionAccess &access : nest.write)
    shape.push_back(nest.loops[access.terms[0].first].extent);

  // Operands whose elements are all equal become constants of the body, but for the factors of a product: it stays one.
  std::vector<std::optional<Scalar>> inBody; // one for each read
  for (auto [r, read] : llvm::enumerate(nest.reads)) {
    bool isFactor = nest.numeric && r < 2 && read.tensor.rank() > 0;
    inBody.push_back(isFactor ? std::nullopt : splatOf(read.tensor));
  }
  llvm::SmallVector<mlir::Value> inputs;
  llvm::SmallVector<mlir::AffineMap> maps;
  auto block = std::make_unique<mlir::Block>();
  llvm::SmallVector<Lane> lanes;
  mlir::OpBuilder::InsertPoint outside = b.saveInsertionPoint();
  mlir::OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToEnd(block.get());
  for (auto [read, splat] : llvm::zip(nest.reads, inBody)) {
    if (splat) {
      lanes.push_back(constantLane(*this, splat->type, splat->bits));
      continue;
    }
    mlir::Value value = state.valueOf(read.tensor);
    inputs.push_back(value);
    maps.push_back(affineMap(b, nest.loops.size(), read.map));
    lanes.push_back(state.enter(
        this, block->addArgument(llvm::cast<mlir::RankedTensorType>(value.getType()).getElementType(), location)));
  }

  Lane result = body(lanes);
  ElementType type = result.type();
  int64_t iterations = 1;
  for (const Loop &loop : nest.loops)
    iterations = loop.extent == 0 ? 0 : iterations;
  mlir::RankedTensorType resultType = state.typeOf(type, shape);
  if (iterations == 0 || product(shape) == 0) {
    if (nest.initial)
      return nest.initial;
    return fill(shape, nest.combiner == Combiner::None ? Scalar{type, 0} : neutralElement(nest.combiner, type));
  }

  // A loop that no operand has as a dimension of its own (the taps of pooling) needs an operand that gives its extent.
  llvm::SmallVector<bool> bounded(nest.loops.size(), false);
  auto bound = [&](const AccessMap &map) {
    for (const DimensionAccess &access : map)
      if (access.terms.size() == 1 && access.terms[0].second == 1 && access.offset == 0)
        bounded[access.terms[0].first] = true;
  };
  bound(nest.write);
  for (auto [read, splat] : llvm::zip(nest.reads, inBody))
    if (!splat)
      bound(read.map);
  AccessMap window;
  Shape windowShape;
  for (size_t loop = 0; loop < nest.loops.size(); ++loop)
    if (!bounded[loop]) {
      window.push_back(at(static_cast<unsigned>(loop)));
      windowShape.push_back(nest.loops[loop].extent);
    }
  mlir::Type element = resultType.getElementType();
  if (!window.empty())
    block->addArgument(element, location);
  mlir::Value accumulator = block->addArgument(element, location);
  if (nest.combiner != Combiner::None)
    result = apply(opcodeOf(nest.combiner), {state.enter(this, accumulator), result});
  b.create<mlir::linalg::YieldOp>(location, mlir::ValueRange{state.leave(result)});

  // Outside the body.
  b.restoreInsertionPoint(outside);
  if (!window.empty()) {
    inputs.push_back(b.create<mlir::tensor::EmptyOp>(location, windowShape, element));
    maps.push_back(affineMap(b, nest.loops.size(), window));
  }
  mlir::Value output;
  if (nest.combiner == Combiner::None)
    output = b.create<mlir::tensor::EmptyOp>(location, shape, element);
  else if (nest.initial)
    output = state.valueOf(nest.initial);
  else
    output = b.create<mlir::arith::ConstantOp>(location, resultType,
                                               splatAttribute(resultType, neutralElement(nest.combiner, type)));
  maps.push_back(affineMap(b, nest.loops.size(), nest.write));
  llvm::SmallVector<mlir::utils::IteratorType> iterators;
  for (const Loop &loop : nest.loops)
    iterators.push_back(loop.reduction ? mlir::utils::IteratorType::reduction : mlir::utils::IteratorType::parallel);
  auto generic = b.create<mlir::linalg::GenericOp>(location, mlir::TypeRange{resultType}, inputs,
                                                   mlir::ValueRange{output}, maps, iterators);
  generic.getRegion().push_back(block.release());
  if (!nest.operation.empty())
    generic->setAttr(qd::operationAttributeName, b.getStringAttr(nest.operation));
  if (nest.numeric)
    generic->setAttr(qd::numericAttributeName,
                     qd::NumericAttr::get(b.getContext(), nest.numeric->storage, nest.numeric->multiply,
                                          nest.numeric->accumulate, roundingOf(nest.numeric->rounding)));
  return state.add(generic.getResult(0));
}

TensorRef Emitter::map(llvm::StringRef operation, llvm::ArrayRef<TensorRef> operands, LaneBody body) {
  Shape shape;
  for (TensorRef operand : operands)
    shape = broadcastShapes(shape, operand.shape());
  Nest loops;
  loops.operation = operation.str();
  for (int64_t extent : shape)
    loops.loops.push_back({extent, false});
  for (TensorRef operand : operands)
    loops.reads.push_back({operand, broadcastAccess(operand.shape(), shape)});
  loops.write = identityAccess(shape.size());
  return nest(loops, body);
}

TensorRef Emitter::reduce(llvm::StringRef operation, TensorRef operand, llvm::ArrayRef<int64_t> axes,
                          bool keepDimensions, Combiner combiner, LaneBody body) {
  Nest loops;
  loops.operation = operation.str();
  Shape kept;
  for (int64_t axis = 0; axis < operand.rank(); ++axis) {
    bool reduced = llvm::is_contained(axes, axis);
    loops.loops.push_back({operand.dim(axis), reduced});
    if (!reduced)
      loops.write.push_back(at(static_cast<unsigned>(axis)));
    if (keepDimensions || !reduced)
      kept.push_back(reduced ? 1 : operand.dim(axis));
  }
  loops.reads = {{operand, identityAccess(operand.rank())}};
  if (!axes.empty())
    loops.combiner = combiner;
  return reshape(nest(loops, body), kept);
}

TensorRef Emitter::reduce(llvm::StringRef operation, TensorRef operand, llvm::ArrayRef<int64_t> axes,
                          bool keepDimensions, Combiner combiner) {
  return reduce(operation, operand, axes, keepDimensions, combiner, [](llvm::ArrayRef<Lane> x) { return x[0]; });
}

TensorRef Emitter::reshape(TensorRef operand, Shape shape) {
  if (operand.shape() == shape)
    return operand;
  if (product(shape) != operand.elements())
    refuse("a tensor of shape " + shapeText(operand.shape()) + " cannot take shape " + shapeText(shape));
  if (operand->isConstant()) { // the same bytes under another shape
    TensorData data = *operand.get();
    if (data.constant.valid())
      data.constant = data.constant.reshaped(shape);
    data.shape = std::move(shape);
    return state.add(std::move(data));
  }
  mlir::RankedTensorType type = state.typeOf(operand.type(), shape);
  return state.add(state.builder.create<qd::ReshapeOp>(state.location, type, state.valueOf(operand)).getResult());
}

static Lane first(llvm::ArrayRef<Lane> x) {
  return x[0];
}

TensorRef Emitter::transpose(TensorRef operand, llvm::ArrayRef<int64_t> permutation) {
  if (llvm::is_sorted(permutation))
    return operand;
  // Moving extents of 1 past others changes nothing but the shape.
  llvm::SmallVector<int64_t> moved;
  Shape shape;
  for (int64_t axis : permutation) {
    shape.push_back(operand.dim(axis));
    if (operand.dim(axis) != 1)
      moved.push_back(axis);
  }
  if (llvm::is_sorted(moved))
    return reshape(operand, shape);
  Nest loops;
  loops.operation = "transpose";
  AccessMap map(permutation.size());
  for (size_t d = 0; d < permutation.size(); ++d) {
    loops.loops.push_back({shape[d], false});
    map[permutation[d]] = at(static_cast<unsigned>(d));
  }
  loops.reads = {{operand, map}};
  loops.write = identityAccess(permutation.size());
  return nest(loops, first);
}

TensorRef Emitter::broadcast(TensorRef operand, const Shape &shape) {
  if (operand.shape() == shape)
    return operand;
  if (std::optional<Scalar> splat = splatOf(operand))
    return fill(shape, *splat);
  Nest loops;
  loops.operation = "broadcast";
  for (int64_t extent : shape)
    loops.loops.push_back({extent, false});
  loops.reads = {{operand, broadcastAccess(operand.shape(), shape)}};
  loops.write = identityAccess(shape.size());
  return nest(loops, first);
}

TensorRef Emitter::slice(TensorRef operand, llvm::ArrayRef<int64_t> starts, llvm::ArrayRef<int64_t> extents,
                         llvm::ArrayRef<int64_t> steps) {
  if (llvm::ArrayRef(operand.shape()) == extents && llvm::all_of(steps, [](int64_t step) { return step > 0; }))
    return operand;
  if (operand->splat)
    return fill(extents.vec(), *operand->splat);
  if (product(extents) == 0)
    return fill(operand.type(), extents.vec(), 0);
  bool forward = llvm::all_of(steps, [](int64_t step) { return step > 0; });
  if (forward) {
    llvm::SmallVector<mlir::OpFoldResult> offsets, sizes, strides;
    for (size_t d = 0; d < extents.size(); ++d) {
      if (!steps.empty() && extents[d] > 1 && steps[d] > largestCoefficient)
        refuse("a step of " + llvm::Twine(steps[d]) + " elements");
      offsets.push_back(state.builder.getIndexAttr(starts[d]));
      sizes.push_back(state.builder.getIndexAttr(extents[d]));
      // The step of a single element is free: 1 keeps it inside.
      strides.push_back(state.builder.getIndexAttr(steps.empty() || extents[d] == 1 ? 1 : steps[d]));
    }
    return state.add(state.builder
                         .create<mlir::tensor::ExtractSliceOp>(state.location, state.typeOf(operand.type(), extents),
                                                               state.valueOf(operand), offsets, sizes, strides)
                         .getResult());
  }
  Nest loops;
  loops.operation = "slice";
  AccessMap map;
  for (size_t d = 0; d < extents.size(); ++d) {
    loops.loops.push_back({extents[d], false});
    map.push_back(extents[d] == 1 ? fixed(starts[d]) : at(static_cast<unsigned>(d), steps[d], starts[d]));
  }
  loops.reads = {{operand, map}};
  loops.write = identityAccess(extents.size());
  return nest(loops, first);
}

TensorRef Emitter::concat(llvm::ArrayRef<TensorRef> operands, int64_t axis) {
  llvm::SmallVector<mlir::Value> values;
  TensorRef only;
  Shape shape = operands[0].shape();
  shape[axis] = 0;
  for (TensorRef operand : operands) {
    shape[axis] += operand.dim(axis);
    if (operand.elements() == 0)
      continue;
    only = operand;
    values.push_back(state.valueOf(operand));
  }
  if (values.empty())
    return fill(operands[0].type(), shape, 0);
  if (values.size() == 1)
    return only;
  return state.add(state.builder
                       .create<mlir::tensor::ConcatOp>(state.location, state.typeOf(only.type(), shape),
                                                       static_cast<uint64_t>(axis), values)
                       .getResult());
}

TensorRef Emitter::pad(TensorRef operand, llvm::ArrayRef<int64_t> before, llvm::ArrayRef<int64_t> after, double value) {
  return pad(operand, before, after, scalarOf(operand.type(), value));
}

TensorRef Emitter::pad(TensorRef operand, llvm::ArrayRef<int64_t> before, llvm::ArrayRef<int64_t> after, Scalar value) {
  auto isZero = [](int64_t extent) { return extent == 0; };
  if (llvm::all_of(before, isZero) && llvm::all_of(after, isZero))
    return operand;
  mlir::OpBuilder &b = state.builder;
  Shape shape = operand.shape();
  llvm::SmallVector<mlir::OpFoldResult> low, high;
  for (size_t d = 0; d < shape.size(); ++d) {
    shape[d] += before[d] + after[d];
    low.push_back(b.getIndexAttr(before[d]));
    high.push_back(b.getIndexAttr(after[d]));
  }
  if (operand.elements() == 0)
    return fill(shape, value);
  mlir::Value padding = state.leave(constantLane(*this, value.type, value.bits));
  return state.add(b.create<mlir::tensor::PadOp>(state.location, state.typeOf(operand.type(), shape),
                                                 state.valueOf(operand), low, high, padding)
                       .getResult());
}

TensorRef Emitter::convert(TensorRef operand, ElementType type) {
  if (operand.type() == type)
    return operand;
  return map("Cast", {operand}, [&](llvm::ArrayRef<Lane> x) { return x[0].to(type); });
}

ElementType Emitter::accumulatorOf(ElementType type) {
  if (isFloat(type))
    return bitWidth(type) < 32 ? ElementType::f32 : type;
  return bitWidth(type) < 32 ? ElementType::i32 : type;
}

Shape broadcastShapes(llvm::ArrayRef<int64_t> a, llvm::ArrayRef<int64_t> b) {
  Shape result(std::max(a.size(), b.size()), 1);
  for (size_t i = 0; i < result.size(); ++i) {
    int64_t left = i < a.size() ? a[a.size() - 1 - i] : 1, right = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (left != right && left != 1 && right != 1)
      refuse("shapes " + shapeText(a) + " and " + shapeText(b) + " do not broadcast");
    result[result.size() - 1 - i] = left == 1 ? right : left;
  }
  return result;
}

int64_t normalAxis(int64_t axis, int64_t rank, llvm::StringRef what) {
  if (axis < -rank || axis >= rank)
    refuse(what + " " + llvm::Twine(axis) + " does not fit a tensor of rank " + llvm::Twine(rank));
  return axis < 0 ? axis + rank : axis;
}

std::vector<int64_t> normalAxes(llvm::ArrayRef<int64_t> axes, int64_t rank) {
  std::vector<int64_t> result;
  for (int64_t axis : axes)
    result.push_back(normalAxis(axis, rank));
  llvm::sort(result);
  if (std::adjacent_find(result.begin(), result.end()) != result.end())
    refuse("axes " + shapeText(axes) + " name a dimension twice");
  return result;
}

int64_t product(llvm::ArrayRef<int64_t> extents) {
  int64_t result = 1;
  for (int64_t extent : extents) {
    if (extent < 0)
      refuse("a tensor cannot have shape " + shapeText(extents));
    // Also where another extent is 0.
    if (llvm::MulOverflow(result, std::max<int64_t>(extent, 1), result) || result > maximumElements)
      refuse("a tensor of shape " + shapeText(extents) + " is too large");
  }
  return llvm::is_contained(extents, 0) ? 0 : result;
}

std::string shapeText(llvm::ArrayRef<int64_t> shape) {
  std::string text = "[";
  for (size_t d = 0; d < shape.size(); ++d)
    text += (d ? "," : "") + std::to_string(shape[d]);
  return text + "]";
}

} // namespace quadrille::graph::importer
