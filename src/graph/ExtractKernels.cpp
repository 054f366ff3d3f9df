#include "graph/ExtractKernels.h"

#include "base/Error.h"
#include "graph/KernelQueries.h"
#include "graph/StructuredOp.h"
#include "graph/TranslateBody.h"
#include "graph/dialect/QdDialect.h"
#include "numerics/Convert.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/AsmState.h"
#include "mlir/IR/BuiltinDialect.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "mlir/IR/Matchers.h"

#include "llvm/ADT/SmallBitVector.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cstring>

using namespace mlir;

namespace quadrille::graph {

namespace {
// Extracts the operations of one block into one graph; the body of a composite or scan has an extractor of its own.
class Extractor {
public:
  llvm::Expected<ValueId> addInput(mlir::Value argument, std::string name);
  llvm::Error run(Block &block);
  llvm::Error addOutput(mlir::Value value, std::string name);
  KernelGraph graph;

private:
  llvm::Error extract(Operation &op);
  llvm::Error extractStructured(linalg::LinalgOp op);
  llvm::Error extractElementwise(Operation &op);
  llvm::Error extractSlice(tensor::ExtractSliceOp op);
  llvm::Error extractInsertSlice(tensor::InsertSliceOp op);
  llvm::Error extractRegion(Operation &op, Kernel kernel);

  // The value's id; constants, weights, fills and pads get one when the first kernel needs them as a whole.
  llvm::Expected<ValueId> materialize(mlir::Value value);
  llvm::Expected<ValueId> materializeConstant(mlir::Value value, DenseElementsAttr elements);
  llvm::Expected<ValueId> materializeWeight(qd::WeightOp weight);
  llvm::Expected<ValueId> materializePad(tensor::PadOp pad);
  llvm::Expected<ValueId> materializeFill(mlir::Value value, const Scalar &scalar);
  ValueId addConstant(Tensor data, std::string name = "");
  ValueId addIntermediate(RankedTensorType type);

  // The read of `value` at `map`, through the padding that produces it; appends where what was folded comes from.
  llvm::Expected<Read> readThroughPad(mlir::Value value, AccessMap map, llvm::SmallVectorImpl<Location> &folded);
  // The initial elements of a reduction, through padding, broadcasts and transposes.
  llvm::Expected<Read> readInitial(mlir::Value value, AccessMap map, llvm::SmallVectorImpl<Location> &folded);

  // The input of a kernel's body for a read; the kernel has each read once.
  Register addRead(Kernel &kernel, BodyTranslator &translator, Read read);

  // An unstructured kernel over whole operands.
  llvm::Error addUnstructured(Operation &op, KernelKind kind, llvm::StringRef operation, mlir::ValueRange operands,
                              std::map<std::string, Attribute> attributes = {});
  llvm::Error addUnstructured(Operation &op, Kernel kernel, mlir::ValueRange operands);
  // A kernel that only moves elements: loops over the result, one read.
  llvm::Error addMove(Operation &op, llvm::StringRef operation, mlir::Value source, AccessMap map,
                      std::optional<Scalar> padding = std::nullopt);
  // Adds the kernel of an operation and of what was folded into it.
  llvm::Error finish(Operation &op, Kernel kernel, llvm::ArrayRef<Location> folded = {});

  llvm::DenseMap<mlir::Value, ValueId> ids;
  std::map<std::pair<std::string, std::string>, uint32_t> nodeIndices;
};

std::string operationName(Operation &op) {
  if (auto name = op.getAttrOfType<StringAttr>(qd::operationAttributeName))
    return name.str();
  return "";
}

// An error about an operation: its name and the ONNX node behind it.
std::string nodeOf(Operation &op) {
  llvm::SmallVector<Node> nodes = qd::nodesOf(op.getLoc());
  return nodes.empty() ? "" : nodes.front().operation + " \"" + nodes.front().name + "\"";
}

llvm::Error errorAt(Operation &op, const llvm::Twine &message) {
  return internalError("'" + op.getName().getStringRef() + "': " + message, {"", nodeOf(op)});
}

// The scalar that every element of a tensor is, where the IR says so.
std::optional<Scalar> splatScalar(mlir::Value value) {
  if (!isa<RankedTensorType>(value.getType()))
    return constantScalar(value);
  auto type = cast<RankedTensorType>(value.getType());
  std::optional<ElementType> element = qd::elementTypeOf(type.getElementType());
  if (!element)
    return std::nullopt;
  if (auto fill = value.getDefiningOp<linalg::FillOp>()) {
    std::optional<Scalar> scalar = constantScalar(fill.getInputs()[0]);
    return scalar && scalar->type == *element ? scalar : std::nullopt;
  }
  DenseElementsAttr elements;
  if (matchPattern(value, m_Constant(&elements)) && elements.isSplat())
    return scalarOf(elements.getSplatValue<mlir::Attribute>(), *element);
  return std::nullopt;
}

bool isLazy(Operation &op) {
  return isa<arith::ConstantOp, tensor::EmptyOp, tensor::PadOp, qd::WeightOp, qd::BitcastOp>(op) ||
         (isa<linalg::FillOp>(op) && splatScalar(op.getResult(0)));
}

std::optional<Attribute> attributeFrom(mlir::Attribute attribute) {
  using Result = std::optional<Attribute>;
  return llvm::TypeSwitch<mlir::Attribute, Result>(attribute)
      .Case<BoolAttr>([](BoolAttr value) -> Result { return Attribute(static_cast<int64_t>(value.getValue())); })
      .Case<IntegerAttr>([](IntegerAttr value) -> Result {
        const APInt &bits = value.getValue();
        return Attribute(value.getType().isUnsignedInteger() ? static_cast<int64_t>(bits.getZExtValue())
                                                             : bits.getSExtValue());
      })
      .Case<FloatAttr>([](FloatAttr value) -> Result { return Attribute(value.getValueAsDouble()); })
      .Case<StringAttr>([](StringAttr value) -> Result { return Attribute(value.str()); })
      .Case<DenseI64ArrayAttr>(
          [](DenseI64ArrayAttr values) -> Result { return Attribute(std::vector<int64_t>(values.asArrayRef())); })
      .Case<DenseF64ArrayAttr>(
          [](DenseF64ArrayAttr values) -> Result { return Attribute(std::vector<double>(values.asArrayRef())); })
      .Case<DenseBoolArrayAttr>([](DenseBoolArrayAttr values) -> Result {
        return Attribute(std::vector<int64_t>(values.asArrayRef().begin(), values.asArrayRef().end()));
      })
      .Case<ArrayAttr>([](ArrayAttr values) -> Result {
        std::vector<int64_t> integers;
        std::vector<double> floats;
        std::vector<std::string> strings;
        for (mlir::Attribute value : values) {
          if (auto integer = dyn_cast<IntegerAttr>(value))
            integers.push_back(integer.getValue().getSExtValue());
          else if (auto number = dyn_cast<FloatAttr>(value))
            floats.push_back(number.getValueAsDouble());
          else if (auto text = dyn_cast<StringAttr>(value))
            strings.push_back(text.str());
        }
        if (floats.size() == values.size() && !values.empty())
          return Attribute(floats);
        if (strings.size() == values.size() && !values.empty())
          return Attribute(strings);
        if (integers.size() == values.size())
          return Attribute(integers);
        return std::nullopt;
      })
      .Default([](mlir::Attribute) -> Result { return std::nullopt; });
}

Tensor filled(const Scalar &scalar, Shape shape) {
  Tensor data = Tensor::uninitialized(scalar.type, std::move(shape));
  // Sub-byte integers take a byte each, sign-extended.
  bool extends = kindOf(scalar.type) == ElementKind::Signed && bitWidth(scalar.type) < 8;
  uint64_t bits = extends ? static_cast<uint64_t>(llvm::SignExtend64(scalar.bits, bitWidth(scalar.type))) : scalar.bits;
  size_t width = byteWidth(scalar.type), count = static_cast<size_t>(data.elements());
  for (size_t i = 0; i < count; ++i)
    std::memcpy(data.mutableBytes() + i * width, &bits, width);
  return data;
}

std::vector<int64_t> toVector(llvm::ArrayRef<int64_t> values) {
  return values.vec();
}
} // namespace

ValueId Extractor::addConstant(Tensor data, std::string name) {
  Value value;
  value.name = std::move(name);
  value.type = data.type();
  value.shape = data.shape();
  value.role = ValueRole::Constant;
  value.data = std::move(data);
  graph.values.push_back(std::move(value));
  return static_cast<ValueId>(graph.values.size() - 1);
}

ValueId Extractor::addIntermediate(RankedTensorType type) {
  Value value;
  value.type = *qd::elementTypeOf(type.getElementType());
  value.shape = toVector(type.getShape());
  graph.values.push_back(std::move(value));
  return static_cast<ValueId>(graph.values.size() - 1);
}

// Whether the kernels can hold a value of this type.
static bool isSupported(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.hasStaticShape() && qd::elementTypeOf(tensor.getElementType());
}

llvm::Expected<ValueId> Extractor::addInput(mlir::Value argument, std::string name) {
  if (!isSupported(argument.getType()))
    return internalError("argument \"" + name + "\" is no static tensor of an element type of a model");
  ValueId id = addIntermediate(cast<RankedTensorType>(argument.getType()));
  graph.values[id].role = ValueRole::Input;
  graph.values[id].name = std::move(name);
  graph.inputs.push_back(id);
  ids[argument] = id;
  return id;
}

llvm::Error Extractor::addOutput(mlir::Value value, std::string name) {
  llvm::Expected<ValueId> id = materialize(value);
  if (!id)
    return id.takeError();
  if (graph.values[*id].name.empty())
    graph.values[*id].name = name;
  graph.outputs.push_back(*id);
  graph.outputNames.push_back(std::move(name));
  return llvm::Error::success();
}

llvm::Expected<ValueId> Extractor::materializeConstant(mlir::Value value, DenseElementsAttr elements) {
  auto type = cast<RankedTensorType>(value.getType());
  ElementType element = *qd::elementTypeOf(type.getElementType());
  if (elements.isSplat())
    return addConstant(
        filled(*scalarOf(elements.getSplatValue<mlir::Attribute>(), element), toVector(type.getShape())));
  Tensor data = Tensor::uninitialized(element, toVector(type.getShape()));
  std::byte *destination = data.mutableBytes();
  size_t width = byteWidth(element);
  if (bitWidth(element) >= 8) {
    llvm::ArrayRef<char> source = elements.getRawData(); // of no elements: null, which memcpy must not get
    if (!source.empty())
      std::memcpy(destination, source.data(), source.size());
  } else {
    // MLIR packs bools; sub-byte integers take a byte, sign- or zero-extended.
    size_t index = 0;
    for (APInt bits : elements.getValues<APInt>()) {
      bool isSigned = kindOf(element) == ElementKind::Signed;
      uint64_t extended = isSigned ? static_cast<uint64_t>(bits.getSExtValue()) : bits.getZExtValue();
      std::memcpy(destination + index++ * width, &extended, width);
    }
  }
  return addConstant(std::move(data));
}

llvm::Expected<ValueId> Extractor::materializeWeight(qd::WeightOp weight) {
  Value value;
  value.name = weight.getName().str();
  value.type = *qd::elementTypeOf(weight.getType().getElementType());
  value.shape = toVector(weight.getType().getShape());
  value.role = ValueRole::Constant;
  if (weight.getFile())
    value.origin = FileSpan{weight.getFile()->str(), static_cast<uint64_t>(*weight.getOffset()),
                            static_cast<uint64_t>(*weight.getSize())};
  if (std::optional<DenseResourceElementsAttr> data = weight.getData()) {
    const AsmResourceBlob *blob = data->getRawHandle().getBlob();
    if (!blob)
      return errorAt(*weight, "the module lacks resource '" + data->getRawHandle().getKey() + "'");
    llvm::ArrayRef<std::byte> bytes(reinterpret_cast<const std::byte *>(blob->getData().data()),
                                    blob->getData().size());
    auto *dialect = weight->getContext()->getOrLoadDialect<qd::QdDialect>();
    if (std::shared_ptr<const void> owner = dialect->ownerOf(*data)) {
      value.data = Tensor::borrow(value.type, value.shape, bytes, std::move(owner));
    } else {
      // Elements written in the module's text live as long as the context: the graph needs its own.
      value.data = Tensor::uninitialized(value.type, value.shape);
      std::memcpy(value.data.mutableBytes(), bytes.data(), bytes.size());
    }
  }
  graph.values.push_back(std::move(value));
  return static_cast<ValueId>(graph.values.size() - 1);
}

llvm::Expected<ValueId> Extractor::materializePad(tensor::PadOp pad) {
  mlir::Value padding = pad.getConstantPaddingValue();
  std::optional<Scalar> scalar = padding ? constantScalar(padding) : std::nullopt;
  if (!scalar)
    return errorAt(*pad, "pads with a value that is no constant");
  AccessMap map = identityMap(pad.getResultType().getRank());
  for (auto [access, low] : llvm::zip(map, pad.getStaticLow()))
    access.offset = -low;
  if (llvm::Error error = addMove(*pad, "pad", pad.getSource(), std::move(map), scalar))
    return error;
  return ids.lookup(pad.getResult());
}

llvm::Expected<ValueId> Extractor::materializeFill(mlir::Value value, const Scalar &scalar) {
  Kernel kernel;
  AccessMap map;
  auto type = cast<RankedTensorType>(value.getType());
  for (int64_t extent : type.getShape())
    kernel.loops.push_back({extent, false});
  BodyTranslator translator(kernel.body);
  kernel.body.results = {translator.addConstant(scalar)};
  kernel.writes.push_back({addIntermediate(type), identityMap(type.getRank()), Combiner::None, {}, {}});
  ids[value] = kernel.writes[0].value;
  if (llvm::Error error = finish(*value.getDefiningOp(), std::move(kernel)))
    return error;
  return ids.lookup(value);
}

llvm::Expected<ValueId> Extractor::materialize(mlir::Value value) {
  auto found = ids.find(value);
  if (found != ids.end())
    return found->second;
  Operation *op = value.getDefiningOp();
  if (!op)
    return internalError("a value from outside its block");
  if (!isSupported(value.getType()))
    return errorAt(*op, "gives no static tensor of an element type of a model");
  llvm::Expected<ValueId> id = [&]() -> llvm::Expected<ValueId> {
    if (auto weight = dyn_cast<qd::WeightOp>(op))
      return materializeWeight(weight);
    if (auto pad = dyn_cast<tensor::PadOp>(op))
      return materializePad(pad);
    if (isa<tensor::EmptyOp>(op))
      return errorAt(*op, "a kernel reads elements that nothing wrote");
    if (auto fill = dyn_cast<linalg::FillOp>(op))
      if (std::optional<Scalar> scalar = splatScalar(value))
        return materializeFill(value, *scalar);
    DenseElementsAttr elements;
    if (matchPattern(value, m_Constant(&elements)))
      return materializeConstant(value, elements);
    return errorAt(*op, "has no kernel form");
  }();
  if (id)
    ids[value] = *id;
  return id;
}

llvm::Expected<Read> Extractor::readThroughPad(mlir::Value value, AccessMap map,
                                               llvm::SmallVectorImpl<Location> &folded) {
  Read read;
  // A pad that has a kernel already, because somebody needs it as a whole, still costs this reader nothing to fold.
  if (auto pad = value.getDefiningOp<tensor::PadOp>()) {
    mlir::Value padding = pad.getConstantPaddingValue();
    read.padding = padding ? constantScalar(padding) : std::nullopt;
    if (!read.padding)
      return errorAt(*pad, "pads with a value that is no constant");
    for (auto [access, low] : llvm::zip(map, pad.getStaticLow()))
      access.offset -= low;
    value = pad.getSource();
    folded.push_back(pad.getLoc());
  }
  llvm::Expected<ValueId> id = materialize(value);
  if (!id)
    return id.takeError();
  read.value = *id;
  read.map = std::move(map);
  return read;
}

llvm::Expected<Read> Extractor::readInitial(mlir::Value value, AccessMap map, llvm::SmallVectorImpl<Location> &folded) {
  while (auto op = value.getDefiningOp<linalg::LinalgOp>()) {
    if (isa<linalg::FillOp>(op))
      break;
    std::optional<AffineMap> copied = copiedThrough(op);
    llvm::SmallVector<std::optional<unsigned>, 8> dimensions;
    for (unsigned d = 0; copied && d < copied->getNumDims(); ++d)
      dimensions.push_back(d);
    std::optional<AccessMap> inner = copied ? accessMap(*copied, dimensions) : std::nullopt;
    if (!inner)
      break;
    map = compose(*inner, map);
    if (onlyInitializes(op))
      folded.push_back(op.getLoc());
    value = op.getDpsInputOperand(0)->get();
  }
  return readThroughPad(value, std::move(map), folded);
}

Register Extractor::addRead(Kernel &kernel, BodyTranslator &translator, Read read) {
  auto same = llvm::find(kernel.reads, read);
  if (same != kernel.reads.end())
    return translator.inputRegister(same - kernel.reads.begin());
  kernel.reads.push_back(std::move(read));
  return translator.addInput(graph.values[kernel.reads.back().value].type);
}

llvm::Error Extractor::finish(Operation &op, Kernel kernel, llvm::ArrayRef<Location> folded) {
  llvm::SmallVector<Location> locations(folded);
  locations.push_back(op.getLoc());
  for (Node &node : qd::nodesOf(FusedLoc::get(op.getContext(), locations))) {
    auto [entry, isNew] = nodeIndices.try_emplace({node.name, node.operation}, graph.nodes.size());
    if (isNew)
      graph.nodes.push_back(std::move(node));
    kernel.nodes.push_back(entry->second);
  }
  if (kernel.operation.empty())
    kernel.operation = operationName(op);
  if (kernel.structured())
    recognizeKind(graph, kernel, op);
  countWork(graph, kernel);
  graph.kernels.push_back(std::move(kernel));
  return llvm::Error::success();
}

llvm::Error Extractor::addUnstructured(Operation &op, Kernel kernel, mlir::ValueRange operands) {
  for (mlir::Value operand : operands) {
    llvm::Expected<ValueId> id = materialize(operand);
    if (!id)
      return id.takeError();
    kernel.reads.push_back({*id, {}, {}});
  }
  for (mlir::Value result : op.getResults()) {
    if (!isSupported(result.getType()))
      return errorAt(op, "gives no static tensor of an element type of a model");
    kernel.writes.push_back({addIntermediate(cast<RankedTensorType>(result.getType())), {}, Combiner::None, {}, {}});
    ids[result] = kernel.writes.back().value;
  }
  return finish(op, std::move(kernel));
}

llvm::Error Extractor::addUnstructured(Operation &op, KernelKind kind, llvm::StringRef operation,
                                       mlir::ValueRange operands, std::map<std::string, Attribute> attributes) {
  Kernel kernel;
  kernel.kind = kind;
  kernel.operation = operation.str();
  kernel.attributes = std::move(attributes);
  return addUnstructured(op, std::move(kernel), operands);
}

llvm::Error Extractor::addMove(Operation &op, llvm::StringRef operation, mlir::Value source, AccessMap map,
                               std::optional<Scalar> padding) {
  auto type = cast<RankedTensorType>(op.getResult(0).getType());
  llvm::Expected<ValueId> id = materialize(source);
  if (!id)
    return id.takeError();
  Kernel kernel;
  kernel.operation = operationName(op).empty() ? operation.str() : operationName(op);
  for (int64_t extent : type.getShape())
    kernel.loops.push_back({extent, false});
  BodyTranslator translator(kernel.body);
  kernel.body.results = {translator.addInput(graph.values[*id].type)};
  kernel.reads.push_back({*id, std::move(map), padding});
  kernel.writes.push_back({addIntermediate(type), identityMap(type.getRank()), Combiner::None, {}, {}});
  ids[op.getResult(0)] = kernel.writes[0].value;
  return finish(op, std::move(kernel));
}

llvm::Error Extractor::extractSlice(tensor::ExtractSliceOp op) {
  if (!llvm::all_of(op.getStaticOffsets(), [](int64_t v) { return !ShapedType::isDynamic(v); }) ||
      !llvm::all_of(op.getStaticStrides(), [](int64_t v) { return !ShapedType::isDynamic(v); }) ||
      !isSupported(op.getType()))
    return errorAt(*op, "offsets, sizes or strides are not constant");
  AccessMap map;
  llvm::SmallBitVector dropped = op.getDroppedDims();
  unsigned loop = 0;
  for (auto [dimension, offset, stride] :
       llvm::zip(llvm::seq<size_t>(0, op.getSourceType().getRank()), op.getStaticOffsets(), op.getStaticStrides())) {
    DimensionAccess access;
    access.offset = offset;
    if (!dropped.test(dimension))
      access.terms = {{loop++, stride}};
    map.push_back(std::move(access));
  }
  return addMove(*op, "slice", op.getSource(), std::move(map));
}

llvm::Error Extractor::extractInsertSlice(tensor::InsertSliceOp op) {
  auto isConstant = [](llvm::ArrayRef<int64_t> values) {
    return llvm::none_of(values, [](int64_t value) { return ShapedType::isDynamic(value); });
  };
  if (!isConstant(op.getStaticOffsets()) || !isConstant(op.getStaticSizes()) || !isConstant(op.getStaticStrides()))
    return errorAt(*op, "offsets, sizes or strides are not constant");
  return addUnstructured(*op, KernelKind::Move, "insert_slice", {op.getSource(), op.getDest()},
                         {{"offsets", toVector(op.getStaticOffsets())},
                          {"sizes", toVector(op.getStaticSizes())},
                          {"strides", toVector(op.getStaticStrides())}});
}

llvm::Error Extractor::extractElementwise(Operation &op) {
  auto type = cast<RankedTensorType>(op.getResult(0).getType());
  Kernel kernel;
  llvm::SmallVector<Location> folded;
  BodyTranslator translator(kernel.body);
  for (int64_t extent : type.getShape())
    kernel.loops.push_back({extent, false});
  for (mlir::Value operand : op.getOperands()) {
    if (std::optional<Scalar> scalar = splatScalar(operand)) {
      translator.bind(operand, translator.addConstant(*scalar));
      continue;
    }
    bool isScalar = !isa<RankedTensorType>(operand.getType());
    if (isScalar)
      return errorAt(op, "takes a scalar that is no constant");
    llvm::Expected<Read> read = readThroughPad(operand, identityMap(type.getRank()), folded);
    if (!read)
      return read.takeError();
    translator.bind(operand, addRead(kernel, translator, std::move(*read)));
  }
  if (llvm::Error error = translator.translate(op))
    return atNode(std::move(error), nodeOf(op));
  ValueId result = addIntermediate(type);
  llvm::Expected<Register> reg = translator.registerOf(op.getResult(0), graph.values[result].type);
  if (!reg)
    return reg.takeError();
  kernel.body.results = {*reg};
  kernel.writes.push_back({result, identityMap(type.getRank()), Combiner::None, {}, {}});
  ids[op.getResult(0)] = result;
  return finish(op, std::move(kernel), folded);
}

llvm::Error Extractor::extractStructured(linalg::LinalgOp op) {
  if (!op.hasPureTensorSemantics() || !llvm::all_of(op->getResultTypes(), isSupported) || op.hasDynamicShape())
    return errorAt(*op, "is not over static tensors");
  Kernel kernel;
  BodyTranslator translator(kernel.body);
  llvm::SmallVector<Location> folded;
  Block &block = *op.getBlock();

  // Parallel loops of extent 1 that index no result would write elements twice on paper; they are no loops.
  llvm::SmallVector<int64_t> extents = op.getStaticLoopRanges();
  llvm::SmallVector<utils::IteratorType> iterators = op.getIteratorTypesArray();
  for (auto [dimension, extent, iterator] : llvm::zip(llvm::seq<unsigned>(0, extents.size()), extents, iterators)) {
    bool reduction = iterator == utils::IteratorType::reduction;
    bool indexesResult = llvm::any_of(op.getDpsInitsMutable(), [&](OpOperand &init) {
      return op.getMatchingIndexingMap(&init).isFunctionOfDim(dimension);
    });
    if (extent == 1 && !reduction && !indexesResult) {
      translator.loops.push_back(std::nullopt);
      continue;
    }
    translator.loops.push_back(kernel.loops.size());
    kernel.loops.push_back({extent, reduction});
  }
  bool reduces = hasReduction(kernel.loops);
  auto mapOf = [&](OpOperand &operand) { return accessMap(op.getMatchingIndexingMap(&operand), translator.loops); };
  auto readOperand = [&](OpOperand &operand, BlockArgument argument) -> llvm::Error {
    std::optional<AccessMap> map = mapOf(operand);
    if (!map)
      return errorAt(*op, "an operand is indexed by more than a linear expression of the loops");
    llvm::Expected<Read> read = readThroughPad(operand.get(), std::move(*map), folded);
    if (!read)
      return read.takeError();
    translator.bind(argument, addRead(kernel, translator, std::move(*read)));
    return llvm::Error::success();
  };

  for (OpOperand *operand : op.getDpsInputOperands()) {
    BlockArgument argument = op.getMatchingBlockArgument(operand);
    if (argument.use_empty())
      continue; // the shape of a pooling window
    std::optional<Scalar> scalar = splatScalar(operand->get());
    if (isa<RankedTensorType>(operand->get().getType())) {
      // Operands of a reduction stay operands: a contraction with a constant is still one.
      if (scalar && !reduces)
        translator.bind(argument, translator.addConstant(*scalar));
      else if (llvm::Error error = readOperand(*operand, argument))
        return error;
      continue;
    }
    if (!scalar)
      return errorAt(*op, "takes a scalar that is no constant");
    if (!reduces) {
      translator.bind(argument, translator.addConstant(*scalar));
      continue;
    }
    kernel.reads.push_back({addConstant(filled(*scalar, {})), {}, {}});
    translator.bind(argument, translator.addInput(scalar->type));
  }

  // Reductions combine with the initial value outside the body; elsewhere an initial value is one more operand.
  llvm::SmallVector<mlir::Value> yielded(block.getTerminator()->getOperands());
  llvm::SmallPtrSet<Operation *, 4> skipped;
  for (auto [index, init] : llvm::enumerate(op.getDpsInitsMutable())) {
    BlockArgument argument = op.getMatchingBlockArgument(&init);
    Write write;
    std::optional<AccessMap> map = mapOf(init);
    if (!map)
      return errorAt(*op, "a result is indexed by more than a linear expression of the loops");
    write.map = *map;
    if (!argument.use_empty() && !reduces) {
      if (llvm::Error error = readOperand(init, argument))
        return error;
    } else if (std::optional<Scalar> settled = argument.use_empty() ? constantScalar(yielded[index]) : std::nullopt;
               reduces && (settled || !argument.use_empty())) {
      ElementType type = *qd::elementTypeOf(getElementTypeOrSelf(init.get().getType()));
      if (yielded[index] == argument) {
        // Folding has left nothing of the operands (a sum of zeros): the result is the initial value.
        write.combiner = isFloat(type) ? Combiner::Sum : Combiner::Or;
        translator.bind(argument, translator.addConstant({type, isFloat(type) ? bitsFromDouble(type, -0.0) : 0}));
      } else if (settled) {
        // Or nothing of the initial value (a product of zeros): it is the constant that every step yields.
        write.combiner = isFloat(type) ? Combiner::Maximum : Combiner::Or;
      } else {
        std::optional<Reduction> reduction = matchReduction(argument, yielded[index], type);
        if (!reduction)
          return errorAt(*op, "its body is no reduction by sum, product, minimum, maximum, and, or, xor");
        write.combiner = reduction->combiner;
        yielded[index] = reduction->element;
        skipped.insert(reduction->skipped.begin(), reduction->skipped.end());
      }
      if (std::optional<Scalar> scalar = settled ? settled : splatScalar(init.get())) {
        write.initialScalar = scalar;
      } else {
        llvm::Expected<Read> initial = readInitial(init.get(), std::move(*map), folded);
        if (!initial)
          return initial.takeError();
        write.initial = std::move(*initial);
      }
    }
    kernel.writes.push_back(std::move(write));
  }

  for (Operation &inner : block.without_terminator())
    if (!skipped.contains(&inner))
      if (llvm::Error error = translator.translate(inner))
        return atNode(std::move(error), nodeOf(*op));
  for (auto [index, write] : llvm::enumerate(kernel.writes)) {
    mlir::Value result = op->getResult(index);
    write.value = addIntermediate(cast<RankedTensorType>(result.getType()));
    llvm::Expected<Register> reg = translator.registerOf(yielded[index], graph.values[write.value].type);
    if (!reg)
      return atNode(reg.takeError(), nodeOf(*op));
    kernel.body.results.push_back(*reg);
    ids[result] = write.value;
  }
  return finish(*op, std::move(kernel), folded);
}

// Extracts the operation's region as the kernel's.
llvm::Error Extractor::extractRegion(Operation &op, Kernel kernel) {
  Extractor inner;
  inner.graph.name = kernel.operation;
  Block &block = op.getRegion(0).front();
  for (BlockArgument argument : block.getArguments()) {
    llvm::Expected<ValueId> id = inner.addInput(argument, "");
    if (!id)
      return id.takeError();
  }
  if (llvm::Error error = inner.run(block))
    return error;
  for (mlir::Value value : block.getTerminator()->getOperands())
    if (llvm::Error error = inner.addOutput(value, ""))
      return error;
  kernel.region = std::make_shared<const KernelGraph>(std::move(inner.graph));
  return addUnstructured(op, std::move(kernel), op.getOperands());
}

llvm::Error Extractor::extract(Operation &op) {
  using Attributes = std::map<std::string, Attribute>;
  using Kind = KernelKind;
  auto flag = [](bool value) { return Attribute(static_cast<int64_t>(value)); };
  auto move = [&](llvm::StringRef operation, mlir::ValueRange operands, Attributes attributes = {}) {
    return addUnstructured(op, Kind::Move, operation, operands, std::move(attributes));
  };
  if (isLazy(op) || isa<func::ReturnOp, qd::YieldOp>(op))
    return llvm::Error::success();
  if (auto structured = dyn_cast<linalg::LinalgOp>(op))
    return onlyInitializes(structured) ? llvm::Error::success() : extractStructured(structured);
  if (isa<tensor::ExpandShapeOp, tensor::CollapseShapeOp, qd::ReshapeOp>(op))
    return move("reshape", op.getOperand(0));
  if (auto slice = dyn_cast<tensor::ExtractSliceOp>(op))
    return extractSlice(slice);
  if (auto insert = dyn_cast<tensor::InsertSliceOp>(op))
    return extractInsertSlice(insert);
  if (auto concat = dyn_cast<tensor::ConcatOp>(op))
    return move("concat", concat.getInputs(), {{"axis", static_cast<int64_t>(concat.getDim())}});
  if (auto gather = dyn_cast<qd::GatherOp>(op))
    return move("gather", op.getOperands(), {{"axis", gather.getAxis()}});
  if (auto gather = dyn_cast<qd::GatherElementsOp>(op))
    return move("gather_elements", op.getOperands(), {{"axis", gather.getAxis()}});
  if (auto gather = dyn_cast<qd::GatherNdOp>(op))
    return move("gather_nd", op.getOperands(), {{"batch_dims", gather.getBatchDims()}});
  if (auto scatter = dyn_cast<qd::ScatterElementsOp>(op))
    return move("scatter_elements", op.getOperands(),
                {{"axis", scatter.getAxis()}, {"reduction", qd::stringifyReduction(scatter.getReduction()).str()}});
  if (auto scatter = dyn_cast<qd::ScatterNdOp>(op))
    return move("scatter_nd", op.getOperands(), {{"reduction", qd::stringifyReduction(scatter.getReduction()).str()}});
  if (auto arg = dyn_cast<qd::ArgReduceOp>(op))
    return addUnstructured(op, Kind::Reduce, "arg_reduce", op.getOperands(),
                           {{"axis", arg.getAxis()},
                            {"extremum", qd::stringifyExtremum(arg.getExtremum()).str()},
                            {"select_last", flag(arg.getSelectLast())}});
  if (auto top = dyn_cast<qd::TopKOp>(op))
    return addUnstructured(
        op, Kind::Other, "top_k", op.getOperands(),
        {{"axis", top.getAxis()}, {"largest", flag(top.getLargest())}, {"sorted", flag(top.getSorted())}});
  if (auto sort = dyn_cast<qd::SortOp>(op))
    return addUnstructured(op, Kind::Other, "sort", op.getOperands(),
                           {{"axis", sort.getAxis()}, {"descending", flag(sort.getDescending())}});
  if (auto cumulative = dyn_cast<qd::CumulativeOp>(op))
    return addUnstructured(op, Kind::Other, "cumulative", op.getOperands(),
                           {{"axis", cumulative.getAxis()},
                            {"accumulation", qd::stringifyAccumulation(cumulative.getAccumulation()).str()},
                            {"exclusive", flag(cumulative.getExclusive())},
                            {"reverse", flag(cumulative.getReverse())}});
  if (auto random = dyn_cast<qd::RandomBitsOp>(op)) {
    Attributes attributes{{"offset", random.getOffset()}};
    if (random.getSeedValue())
      attributes["seed"] = *random.getSeedValue();
    return addUnstructured(op, Kind::Other, "random_bits", op.getOperands(), std::move(attributes));
  }
  if (auto composite = dyn_cast<qd::CompositeOp>(op)) {
    Kernel kernel;
    kernel.kind = Kind::Composite;
    kernel.operation = composite.getName().str();
    if (std::optional<DictionaryAttr> parameters = composite.getParameters())
      for (NamedAttribute parameter : *parameters) {
        std::optional<Attribute> attribute = attributeFrom(parameter.getValue());
        if (!attribute)
          return errorAt(op, "parameter '" + parameter.getName().strref() + "' has a type that kernels do not have");
        kernel.attributes[parameter.getName().str()] = std::move(*attribute);
      }
    return extractRegion(op, std::move(kernel));
  }
  if (auto scan = dyn_cast<qd::ScanOp>(op)) {
    Kernel kernel;
    kernel.kind = Kind::Other;
    kernel.operation = "scan";
    auto flags = [](llvm::ArrayRef<bool> values) { return std::vector<int64_t>(values.begin(), values.end()); };
    kernel.attributes = {{"states", static_cast<int64_t>(scan.getStates().size())},
                         {"sequences", static_cast<int64_t>(scan.getSequences().size())},
                         {"trip_count", scan.getTripCount()},
                         {"input_axes", toVector(scan.getInputAxes())},
                         {"input_reversed", flags(scan.getInputReversed())},
                         {"output_axes", toVector(scan.getOutputAxes())},
                         {"output_reversed", flags(scan.getOutputReversed())}};
    return extractRegion(op, std::move(kernel));
  }
  if (op.getNumResults() == 1 && OpTrait::hasElementwiseMappableTraits(&op) && isSupported(op.getResult(0).getType()))
    return extractElementwise(op);
  return errorAt(op, "has no kernel form");
}

llvm::Error Extractor::run(Block &block) {
  for (Operation &op : block)
    if (llvm::Error error = extract(op))
      return error;
  return llvm::Error::success();
}

llvm::Expected<KernelGraph> extractKernels(func::FuncOp function) {
  if (!function.getBody().hasOneBlock())
    return internalError("function '" + function.getSymName() + "' has no body of one block");
  Extractor extractor;
  extractor.graph.name = function.getSymName().str();
  Block &block = function.getBody().front();
  for (BlockArgument argument : block.getArguments()) {
    auto name = function.getArgAttrOfType<StringAttr>(argument.getArgNumber(), qd::nameAttributeName);
    llvm::Expected<ValueId> id =
        extractor.addInput(argument, name ? name.str() : "argument" + std::to_string(argument.getArgNumber()));
    if (!id)
      return id.takeError();
  }
  if (llvm::Error error = extractor.run(block))
    return error;
  for (OpOperand &result : block.getTerminator()->getOpOperands()) {
    unsigned number = result.getOperandNumber();
    auto name = function.getResultAttrOfType<StringAttr>(number, qd::nameAttributeName);
    if (llvm::Error error = extractor.addOutput(result.get(), name ? name.str() : "result" + std::to_string(number)))
      return error;
  }
  if (std::string wrong = extractor.graph.verify(); !wrong.empty())
    return internalError("the kernels of '" + function.getSymName() + "' are not well-formed: " + wrong);
  return std::move(extractor.graph);
}

} // namespace quadrille::graph
