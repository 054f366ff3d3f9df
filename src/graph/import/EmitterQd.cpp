// Indexed access, order and regions: the operations of qd.
#include "graph/import/EmitterState.h"

#include "llvm/ADT/ScopeExit.h"

namespace quadrille::graph::importer {

static qd::Reduction reductionOf(Combiner combiner) {
  switch (combiner) {
  case Combiner::Sum:
    return qd::Reduction::Add;
  case Combiner::Product:
    return qd::Reduction::Mul;
  case Combiner::Minimum:
    return qd::Reduction::Min;
  case Combiner::Maximum:
    return qd::Reduction::Max;
  default:
    return qd::Reduction::None;
  }
}

TensorRef Emitter::gather(TensorRef operand, TensorRef indices, int64_t axis) {
  Shape shape = operand.shape();
  shape.erase(shape.begin() + axis);
  shape.insert(shape.begin() + axis, indices.shape().begin(), indices.shape().end());
  auto op =
      state.builder.create<qd::GatherOp>(state.location, state.typeOf(operand.type(), shape), state.valueOf(operand),
                                         state.valueOf(indices), static_cast<uint64_t>(axis));
  return state.add(op.getResult());
}

TensorRef Emitter::gatherElements(TensorRef operand, TensorRef indices, int64_t axis) {
  auto op = state.builder.create<qd::GatherElementsOp>(state.location, state.typeOf(operand.type(), indices.shape()),
                                                       state.valueOf(operand), state.valueOf(indices),
                                                       static_cast<uint64_t>(axis));
  return state.add(op.getResult());
}

TensorRef Emitter::gatherNd(TensorRef operand, TensorRef indices, int64_t batchDimensions) {
  Shape shape(indices.shape().begin(), indices.shape().end() - 1);
  shape.insert(shape.end(), operand.shape().begin() + batchDimensions + indices.dim(-1), operand.shape().end());
  auto op =
      state.builder.create<qd::GatherNdOp>(state.location, state.typeOf(operand.type(), shape), state.valueOf(operand),
                                           state.valueOf(indices), static_cast<uint64_t>(batchDimensions));
  return state.add(op.getResult());
}

TensorRef Emitter::scatterElements(TensorRef operand, TensorRef indices, TensorRef updates, int64_t axis,
                                   Combiner combiner) {
  auto op = state.builder.create<qd::ScatterElementsOp>(
      state.location, state.typeOf(operand.type(), operand.shape()), state.valueOf(operand), state.valueOf(indices),
      state.valueOf(updates), static_cast<uint64_t>(axis), reductionOf(combiner));
  return state.add(op.getResult());
}

TensorRef Emitter::scatterNd(TensorRef operand, TensorRef indices, TensorRef updates, Combiner combiner) {
  auto op = state.builder.create<qd::ScatterNdOp>(state.location, state.typeOf(operand.type(), operand.shape()),
                                                  state.valueOf(operand), state.valueOf(indices),
                                                  state.valueOf(updates), reductionOf(combiner));
  return state.add(op.getResult());
}

std::pair<TensorRef, TensorRef> Emitter::topK(TensorRef operand, int64_t k, int64_t axis, bool largest) {
  Shape shape = operand.shape();
  shape[axis] = k;
  auto op = state.builder.create<qd::TopKOp>(state.location, state.typeOf(operand.type(), shape),
                                             state.typeOf(ElementType::i64, shape), state.valueOf(operand),
                                             static_cast<uint64_t>(axis), largest, true);
  return {state.add(op.getValues()), state.add(op.getIndices())};
}

TensorRef Emitter::argReduce(TensorRef operand, int64_t axis, bool maximum, bool lastIndex) {
  Shape shape = operand.shape(), kept = operand.shape();
  shape.erase(shape.begin() + axis);
  kept[axis] = 1;
  auto op = state.builder.create<qd::ArgReduceOp>(state.location, state.typeOf(ElementType::i64, shape),
                                                  state.valueOf(operand), static_cast<uint64_t>(axis),
                                                  maximum ? qd::Extremum::Maximum : qd::Extremum::Minimum, lastIndex);
  return reshape(state.add(op.getResult()), kept);
}

TensorRef Emitter::cumulative(TensorRef operand, int64_t axis, Combiner combiner, bool exclusive, bool reverse) {
  auto op = state.builder.create<qd::CumulativeOp>(
      state.location, state.typeOf(operand.type(), operand.shape()), state.valueOf(operand),
      static_cast<uint64_t>(axis), combiner == Combiner::Product ? qd::Accumulation::Product : qd::Accumulation::Sum,
      exclusive, reverse);
  return state.add(op.getResult());
}

TensorRef Emitter::randomBits(const Shape &shape, int64_t seed) {
  if (state.loopDepth != 0)
    refuseUnsupported("random numbers in the body of a loop: every step would draw the same ones");
  if (product(shape) == 0)
    return fill(ElementType::u32, shape, 0);
  auto op = state.builder.create<qd::RandomBitsOp>(state.location, state.typeOf(ElementType::u32, shape), mlir::Value(),
                                                   state.builder.getI64IntegerAttr(seed), 0);
  return state.add(op.getResult());
}

static mlir::Attribute toMlir(mlir::Builder &b, const Attribute &attribute) {
  struct Visitor {
    mlir::Builder &b;
    mlir::Attribute operator()(int64_t value) const { return b.getI64IntegerAttr(value); }
    mlir::Attribute operator()(double value) const { return b.getF64FloatAttr(value); }
    mlir::Attribute operator()(const std::string &value) const { return b.getStringAttr(value); }
    mlir::Attribute operator()(const std::vector<int64_t> &values) const { return b.getDenseI64ArrayAttr(values); }
    mlir::Attribute operator()(const std::vector<double> &values) const { return b.getDenseF64ArrayAttr(values); }
    mlir::Attribute operator()(const std::vector<std::string> &values) const {
      llvm::SmallVector<llvm::StringRef> texts(values.begin(), values.end());
      return b.getStrArrayAttr(texts);
    }
  };
  return std::visit(Visitor{b}, attribute);
}

namespace {
// Emits into a block of its own and comes back, whatever the body throws.
class InIsolatedBlock {
public:
  InIsolatedBlock(Emitter::State &state, mlir::Block *block) : state(state), guard(state.builder) {
    state.builder.setInsertionPointToEnd(block);
    state.isolated.push_back(IsolatedBlock(block));
  }
  ~InIsolatedBlock() { state.isolated.pop_back(); }

private:
  Emitter::State &state;
  mlir::OpBuilder::InsertionGuard guard;
};
} // namespace

// Emits the body into a new region and returns the types of what it yields.
static llvm::SmallVector<mlir::Type> emitRegion(Emitter::State &state, mlir::Region &region, mlir::TypeRange arguments,
                                                Emitter::Region body) {
  mlir::Block *block = new mlir::Block;
  region.push_back(block);
  std::vector<TensorRef> seen;
  for (mlir::Type type : arguments)
    seen.push_back(state.add(block->addArgument(type, state.location)));
  InIsolatedBlock inside(state, block);
  llvm::SmallVector<mlir::Value> values;
  for (TensorRef result : body(seen))
    values.push_back(state.valueOf(result));
  state.builder.create<qd::YieldOp>(state.location, values);
  return llvm::to_vector(mlir::TypeRange(mlir::ValueRange(values)));
}

std::vector<TensorRef> Emitter::composite(llvm::StringRef name, llvm::ArrayRef<TensorRef> operands,
                                          const Attributes &attributes, Region body) {
  mlir::OpBuilder &b = state.builder;
  llvm::SmallVector<mlir::Value> values;
  for (TensorRef operand : operands)
    values.push_back(state.valueOf(operand));
  llvm::SmallVector<mlir::NamedAttribute> named;
  for (const auto &[key, attribute] : attributes)
    named.push_back(b.getNamedAttr(key, toMlir(b, attribute)));
  mlir::Region region;
  llvm::SmallVector<mlir::Type> types = emitRegion(state, region, mlir::ValueRange(values).getTypes(), body);
  auto op = b.create<qd::CompositeOp>(state.location, types, b.getStringAttr(name), values,
                                      named.empty() ? mlir::DictionaryAttr() : b.getDictionaryAttr(named));
  op.getBody().takeBody(region);
  std::vector<TensorRef> results;
  for (mlir::Value result : op->getResults())
    results.push_back(state.add(result));
  return results;
}

TensorRef Emitter::composite1(llvm::StringRef name, llvm::ArrayRef<TensorRef> operands, const Attributes &attributes,
                              llvm::function_ref<TensorRef(llvm::ArrayRef<TensorRef>)> body) {
  return composite(name, operands, attributes,
                   [&](llvm::ArrayRef<TensorRef> in) { return std::vector<TensorRef>{body(in)}; })[0];
}

std::vector<TensorRef> Emitter::scan(llvm::ArrayRef<TensorRef> initial, llvm::ArrayRef<TensorRef> sequences,
                                     llvm::ArrayRef<TensorRef> captures, int64_t trip, const ScanAxes &axes,
                                     Region body) {
  mlir::OpBuilder &b = state.builder;
  llvm::SmallVector<mlir::Value> values[3];
  llvm::SmallVector<mlir::Type> arguments;
  auto collect = [&](unsigned segment, llvm::ArrayRef<TensorRef> tensors) {
    for (TensorRef tensor : tensors) {
      values[segment].push_back(state.valueOf(tensor));
      Shape shape = tensor.shape();
      if (segment == 1)
        shape.erase(shape.begin() + axes.input[values[1].size() - 1]);
      arguments.push_back(state.typeOf(tensor.type(), shape));
    }
  };
  collect(0, initial);
  collect(1, sequences);
  collect(2, captures);
  mlir::Region region;
  ++state.loopDepth;
  auto leave = llvm::make_scope_exit([&] { --state.loopDepth; });
  llvm::SmallVector<mlir::Type> types = emitRegion(state, region, arguments, body);
  for (size_t i = initial.size(); i < types.size(); ++i) { // slices, stacked
    auto type = llvm::cast<mlir::RankedTensorType>(types[i]);
    Shape shape = type.getShape().vec();
    shape.insert(shape.begin() + axes.output[i - initial.size()], trip);
    types[i] = mlir::RankedTensorType::get(shape, type.getElementType());
  }
  auto op = b.create<qd::ScanOp>(state.location, types, values[0], values[1], values[2], static_cast<uint64_t>(trip),
                                 axes.input, axes.inputReversed, axes.output, axes.outputReversed);
  op.getBody().takeBody(region);
  std::vector<TensorRef> results;
  for (mlir::Value result : op->getResults())
    results.push_back(state.add(result));
  return results;
}

} // namespace quadrille::graph::importer
