#include "graph/dialect/QdDialect.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/AsmState.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinDialect.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "mlir/IR/PatternMatch.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using quadrille::ElementType;

namespace mlir {
// Element types are written by their names, "f16" or "cb16".
template <> struct FieldParser<quadrille::ElementType> {
  static FailureOr<quadrille::ElementType> parse(AsmParser &parser) {
    StringRef keyword;
    SMLoc location = parser.getCurrentLocation();
    if (parser.parseKeyword(&keyword))
      return failure();
    if (std::optional<quadrille::ElementType> type = quadrille::elementTypeNamed(keyword))
      return *type;
    parser.emitError(location) << "'" << keyword << "' is no element type";
    return failure();
  }
};
} // namespace mlir

namespace quadrille {
static AsmPrinter &operator<<(AsmPrinter &printer, ElementType type) {
  return printer << nameOf(type);
}
} // namespace quadrille

#include "graph/dialect/QdDialect.cpp.inc"
#include "graph/dialect/QdEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "graph/dialect/QdAttributes.cpp.inc"
#define GET_OP_CLASSES
#include "graph/dialect/QdOps.cpp.inc"

namespace quadrille::qd {

void QdDialect::initialize() {
  registerAttributes();
  addOperations<
#define GET_OP_LIST
#include "graph/dialect/QdOps.cpp.inc"
      >();
}

void QdDialect::registerAttributes() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "graph/dialect/QdAttributes.cpp.inc"
      >();
}

std::optional<ElementType> elementTypeOf(Type type) {
  if (auto integer = dyn_cast<IntegerType>(type)) {
    if (integer.isSigned())
      return std::nullopt;
    bool isUnsigned = integer.isUnsigned();
    switch (integer.getWidth()) {
    case 1:
      return isUnsigned ? std::nullopt : std::optional(ElementType::boolean);
    case 2:
      return isUnsigned ? ElementType::u2 : ElementType::i2;
    case 4:
      return isUnsigned ? ElementType::u4 : ElementType::i4;
    case 8:
      return isUnsigned ? ElementType::u8 : ElementType::i8;
    case 16:
      return isUnsigned ? ElementType::u16 : ElementType::i16;
    case 32:
      return isUnsigned ? ElementType::u32 : ElementType::i32;
    case 64:
      return isUnsigned ? ElementType::u64 : ElementType::i64;
    default:
      return std::nullopt;
    }
  }
  return llvm::TypeSwitch<Type, std::optional<ElementType>>(type)
      .Case<Float64Type>([](auto) { return ElementType::f64; })
      .Case<Float32Type>([](auto) { return ElementType::f32; })
      .Case<Float16Type>([](auto) { return ElementType::f16; })
      .Case<BFloat16Type>([](auto) { return ElementType::bf16; })
      .Case<Float8E4M3FNType>([](auto) { return ElementType::f8e4m3fn; })
      .Case<Float8E4M3FNUZType>([](auto) { return ElementType::f8e4m3fnuz; })
      .Case<Float8E5M2Type>([](auto) { return ElementType::f8e5m2; })
      .Case<Float8E5M2FNUZType>([](auto) { return ElementType::f8e5m2fnuz; })
      .Default([](Type) { return std::nullopt; });
}

Type mlirTypeOf(MLIRContext *context, ElementType type) {
  switch (type) {
  case ElementType::f64:
    return Float64Type::get(context);
  case ElementType::f32:
    return Float32Type::get(context);
  case ElementType::f16:
    return Float16Type::get(context);
  case ElementType::bf16:
    return BFloat16Type::get(context);
  case ElementType::cb16:
    return nullptr;
  case ElementType::f8e4m3fn:
    return Float8E4M3FNType::get(context);
  case ElementType::f8e4m3fnuz:
    return Float8E4M3FNUZType::get(context);
  case ElementType::f8e5m2:
    return Float8E5M2Type::get(context);
  case ElementType::f8e5m2fnuz:
    return Float8E5M2FNUZType::get(context);
  default:
    return IntegerType::get(context, bitWidth(type),
                            kindOf(type) == ElementKind::Unsigned ? IntegerType::Unsigned : IntegerType::Signless);
  }
}

Location nodeLocation(MLIRContext *context, llvm::StringRef name, llvm::StringRef operation) {
  return NameLoc::get(StringAttr::get(context, name), NameLoc::get(StringAttr::get(context, operation)));
}

llvm::SmallVector<graph::Node> nodesOf(Location location) {
  llvm::SmallVector<graph::Node> nodes;
  auto visit = [&](auto &self, Location current) -> void {
    if (auto fused = dyn_cast<FusedLoc>(current)) {
      for (Location part : fused.getLocations())
        self(self, part);
      return;
    }
    if (auto call = dyn_cast<CallSiteLoc>(current)) {
      self(self, call.getCallee());
      self(self, call.getCaller());
      return;
    }
    auto named = dyn_cast<NameLoc>(current);
    if (!named)
      return;
    auto operation = dyn_cast<NameLoc>(named.getChildLoc());
    if (!operation)
      return self(self, named.getChildLoc());
    graph::Node node{named.getName().str(), operation.getName().str()};
    if (llvm::none_of(nodes, [&](const graph::Node &other) {
          return other.name == node.name && other.operation == node.operation;
        }))
      nodes.push_back(std::move(node));
  };
  visit(visit, location);
  return nodes;
}

DenseResourceElementsAttr QdDialect::borrowElements(RankedTensorType type, llvm::ArrayRef<std::byte> bytes,
                                                    std::shared_ptr<const void> owner) {
  assert(elementTypeOf(type.getElementType()) &&
         bytes.size() == static_cast<size_t>(type.getNumElements()) * byteWidth(*elementTypeOf(type.getElementType())));
  // A name of its own for each blob: the resource manager finds a free name by counting up.
  std::string name = "weight_" + std::to_string(owners.size());
  llvm::ArrayRef<char> data(reinterpret_cast<const char *>(bytes.data()), bytes.size());
  auto handle = DenseResourceElementsHandle::getManagerInterface(getContext())
                    .insert(name, UnmanagedAsmResourceBlob::allocateWithAlign(data, /*align=*/1));
  owners[handle.getKey()] = std::move(owner);
  return DenseResourceElementsAttr::get(type, handle);
}

std::shared_ptr<const void> QdDialect::ownerOf(DenseResourceElementsAttr elements) const {
  return owners.lookup(elements.getRawHandle().getKey());
}

//===--------------------------------------------------------------------------------------------------------------===//
// Discardable attributes
//===--------------------------------------------------------------------------------------------------------------===//

LogicalResult QdDialect::verifyOperationAttribute(Operation *op, NamedAttribute attribute) {
  if (attribute.getName() == numericAttributeName && !isa<NumericAttr>(attribute.getValue()))
    return op->emitOpError("attribute 'qd.numeric' is not a #qd.numeric");
  if (attribute.getName() == operationAttributeName && !isa<StringAttr>(attribute.getValue()))
    return op->emitOpError("attribute 'qd.operation' is not a string");
  return success();
}

static LogicalResult verifyName(Operation *op, NamedAttribute attribute) {
  if (attribute.getName() == nameAttributeName && !isa<StringAttr>(attribute.getValue()))
    return op->emitOpError("attribute 'qd.name' is not a string");
  return success();
}

LogicalResult QdDialect::verifyRegionArgAttribute(Operation *op, unsigned, unsigned, NamedAttribute attribute) {
  return verifyName(op, attribute);
}

LogicalResult QdDialect::verifyRegionResultAttribute(Operation *op, unsigned, unsigned, NamedAttribute attribute) {
  return verifyName(op, attribute);
}

//===--------------------------------------------------------------------------------------------------------------===//
// Verifiers and folders
//===--------------------------------------------------------------------------------------------------------------===//

static LogicalResult verifyAxis(Operation *op, int64_t axis, RankedTensorType type) {
  if (axis < 0 || axis >= type.getRank())
    return op->emitOpError("axis ") << axis << " is not a dimension of " << type;
  return success();
}

static LogicalResult verifyType(Operation *op, StringRef what, Type actual, Type expected) {
  if (actual != expected)
    return op->emitOpError(what) << " is " << actual << " but must be " << expected;
  return success();
}

static LogicalResult verifyShape(Operation *op, StringRef what, RankedTensorType actual,
                                 llvm::ArrayRef<int64_t> shape) {
  return verifyType(op, what, actual, RankedTensorType::get(shape, actual.getElementType()));
}

static LogicalResult verifyShape(Operation *op, StringRef what, RankedTensorType actual, RankedTensorType like,
                                 llvm::ArrayRef<int64_t> shape) {
  return verifyType(op, what, actual, RankedTensorType::get(shape, like.getElementType()));
}

static llvm::SmallVector<int64_t> withoutAxis(RankedTensorType type, int64_t axis) {
  llvm::SmallVector<int64_t> shape(type.getShape());
  shape.erase(shape.begin() + axis);
  return shape;
}

LogicalResult BitcastOp::verify() {
  unsigned from = bitWidth(*elementTypeOf(getInput().getType())), to = bitWidth(*elementTypeOf(getResult().getType()));
  if (from != to)
    return emitOpError("casts ") << from << " bits to " << to;
  return success();
}

OpFoldResult BitcastOp::fold(FoldAdaptor) {
  if (getInput().getType() == getType())
    return getInput();
  if (auto producer = getInput().getDefiningOp<BitcastOp>(); producer && producer.getInput().getType() == getType())
    return producer.getInput();
  return {};
}

LogicalResult WeightOp::verify() {
  if (getFile().has_value() != getOffset().has_value() || getFile().has_value() != getSize().has_value())
    return emitOpError("a file comes with an offset and a size");
  if (getFile() && (*getOffset() < 0 || *getSize() < 0))
    return emitOpError("negative offset or size");
  if (!getData())
    return success();
  auto type = cast<RankedTensorType>(getData()->getType());
  auto result = getResult().getType();
  if (type.getElementType() != result.getElementType() || type.getNumElements() != result.getNumElements())
    return emitOpError("data is ") << type << ", the result " << result;
  // The resource of a textual module may be missing or be of any size.
  if (const AsmResourceBlob *blob = getData()->getRawHandle().getBlob()) {
    size_t expected = static_cast<size_t>(result.getNumElements()) * byteWidth(*elementTypeOf(result.getElementType()));
    if (blob->getData().size() != expected)
      return emitOpError("data has ") << blob->getData().size() << " bytes, " << result << " takes " << expected;
  }
  return success();
}

LogicalResult ReshapeOp::verify() {
  auto from = getInput().getType(), to = getResult().getType();
  if (from.getElementType() != to.getElementType() || from.getNumElements() != to.getNumElements())
    return emitOpError("elements of ") << from << " do not make " << to;
  return success();
}

OpFoldResult ReshapeOp::fold(FoldAdaptor) {
  if (getInput().getType() == getType())
    return getInput();
  if (auto producer = getInput().getDefiningOp<ReshapeOp>(); producer && producer.getInput().getType() == getType())
    return producer.getInput();
  return {};
}

namespace {
struct ReshapeOfReshape : OpRewritePattern<ReshapeOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ReshapeOp op, PatternRewriter &rewriter) const override {
    auto producer = op.getInput().getDefiningOp<ReshapeOp>();
    if (!producer)
      return failure();
    rewriter.modifyOpInPlace(op, [&] { op.getInputMutable().assign(producer.getInput()); });
    return success();
  }
};

// A reshaped weight is a weight over the same bytes.
struct ReshapeOfWeight : OpRewritePattern<ReshapeOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ReshapeOp op, PatternRewriter &rewriter) const override {
    auto weight = op.getInput().getDefiningOp<WeightOp>();
    if (!weight)
      return failure();
    auto reshaped = rewriter.create<WeightOp>(rewriter.getFusedLoc({weight.getLoc(), op.getLoc()}),
                                              TypeRange{op.getType()}, weight->getOperands(), weight->getAttrs());
    rewriter.replaceOp(op, reshaped);
    return success();
  }
};
} // namespace

void ReshapeOp::getCanonicalizationPatterns(RewritePatternSet &patterns, MLIRContext *context) {
  patterns.add<ReshapeOfReshape, ReshapeOfWeight>(context);
}

LogicalResult GatherOp::verify() {
  auto data = getData().getType(), indices = getIndices().getType();
  if (failed(verifyAxis(*this, getAxis(), data)))
    return failure();
  llvm::SmallVector<int64_t> shape(data.getShape().take_front(getAxis()));
  llvm::append_range(shape, indices.getShape());
  llvm::append_range(shape, data.getShape().drop_front(getAxis() + 1));
  return verifyShape(*this, "result", getResult().getType(), data, shape);
}

// The indices cover no more of the data than there is, except along the axis.
static LogicalResult verifyElementIndices(Operation *op, RankedTensorType data, RankedTensorType indices,
                                          int64_t axis) {
  if (failed(verifyAxis(op, axis, data)))
    return failure();
  if (indices.getRank() != data.getRank())
    return op->emitOpError("indices ") << indices << " have another rank than the data " << data;
  for (int64_t d = 0; d < data.getRank(); ++d)
    if (d != axis && indices.getDimSize(d) > data.getDimSize(d))
      return op->emitOpError("indices ") << indices << " exceed the data " << data << " in dimension " << d;
  return success();
}

LogicalResult GatherElementsOp::verify() {
  auto data = getData().getType(), indices = getIndices().getType();
  if (failed(verifyElementIndices(*this, data, indices, getAxis())))
    return failure();
  return verifyShape(*this, "result", getResult().getType(), data, indices.getShape());
}

LogicalResult GatherNdOp::verify() {
  auto data = getData().getType(), indices = getIndices().getType();
  int64_t batch = getBatchDims();
  if (indices.getRank() == 0 || batch < 0 || batch >= indices.getRank() || batch > data.getRank())
    return emitOpError("batch_dims ") << batch << " does not fit the indices " << indices << " and the data " << data;
  if (data.getShape().take_front(batch) != indices.getShape().take_front(batch))
    return emitOpError("batch dimensions of the data ") << data << " and the indices " << indices << " differ";
  int64_t depth = indices.getShape().back();
  if (depth < 1 || batch + depth > data.getRank())
    return emitOpError("index vectors of ") << depth << " elements do not fit the data " << data;
  llvm::SmallVector<int64_t> shape(indices.getShape().drop_back());
  llvm::append_range(shape, data.getShape().drop_front(batch + depth));
  return verifyShape(*this, "result", getResult().getType(), data, shape);
}

LogicalResult ScatterElementsOp::verify() {
  auto data = getData().getType(), indices = getIndices().getType();
  if (failed(verifyElementIndices(*this, data, indices, getAxis())) ||
      failed(verifyShape(*this, "updates", getUpdates().getType(), data, indices.getShape())))
    return failure();
  return verifyType(*this, "result", getResult().getType(), data);
}

LogicalResult ScatterNdOp::verify() {
  auto data = getData().getType(), indices = getIndices().getType();
  if (indices.getRank() == 0)
    return emitOpError("indices have no dimension for index vectors");
  int64_t depth = indices.getShape().back();
  if (depth < 1 || depth > data.getRank())
    return emitOpError("index vectors of ") << depth << " elements do not fit the data " << data;
  llvm::SmallVector<int64_t> shape(indices.getShape().drop_back());
  llvm::append_range(shape, data.getShape().drop_front(depth));
  if (failed(verifyShape(*this, "updates", getUpdates().getType(), data, shape)))
    return failure();
  return verifyType(*this, "result", getResult().getType(), data);
}

LogicalResult TopKOp::verify() {
  auto data = getData().getType(), values = getValues().getType();
  if (failed(verifyAxis(*this, getAxis(), data)))
    return failure();
  llvm::SmallVector<int64_t> shape(data.getShape());
  if (values.getRank() == data.getRank()) {
    shape[getAxis()] = values.getDimSize(getAxis());
    if (shape[getAxis()] > data.getDimSize(getAxis()))
      return emitOpError("takes ") << shape[getAxis()] << " of " << data.getDimSize(getAxis()) << " elements";
  }
  if (failed(verifyShape(*this, "values", values, data, shape)))
    return failure();
  return verifyShape(*this, "indices", getIndices().getType(), shape);
}

LogicalResult SortOp::verify() {
  auto data = getData().getType();
  if (failed(verifyAxis(*this, getAxis(), data)) || failed(verifyType(*this, "values", getValues().getType(), data)))
    return failure();
  return verifyShape(*this, "indices", getIndices().getType(), data.getShape());
}

LogicalResult ArgReduceOp::verify() {
  auto data = getData().getType();
  if (failed(verifyAxis(*this, getAxis(), data)))
    return failure();
  if (data.getDimSize(getAxis()) == 0)
    return emitOpError("no element along axis ") << getAxis() << " of " << data;
  return verifyShape(*this, "result", getResult().getType(), withoutAxis(data, getAxis()));
}

LogicalResult CumulativeOp::verify() {
  if (failed(verifyAxis(*this, getAxis(), getData().getType())))
    return failure();
  return verifyType(*this, "result", getResult().getType(), getData().getType());
}

LogicalResult RandomBitsOp::verify() {
  if ((getSeed() != nullptr) == getSeedValue().has_value())
    return emitOpError("takes a seed or a seed_value, and not both");
  if (getSeed() && cast<RankedTensorType>(getSeed().getType()).getRank() != 0)
    return emitOpError("the seed is not a scalar");
  if (getOffset() < 0)
    return emitOpError("negative offset");
  return success();
}

// The terminator and the block's arguments against what the operation expects of them.
static LogicalResult verifyBody(Operation *op, Block &body, llvm::ArrayRef<Type> arguments,
                                llvm::ArrayRef<Type> yielded) {
  if (body.getNumArguments() != arguments.size())
    return op->emitOpError("the body takes ") << body.getNumArguments() << " arguments, not " << arguments.size();
  for (auto [index, argument] : llvm::enumerate(body.getArguments()))
    if (failed(verifyType(op, ("body argument " + llvm::Twine(index)).str(), argument.getType(), arguments[index])))
      return failure();
  auto yield = body.empty() ? YieldOp() : dyn_cast<YieldOp>(body.back());
  if (!yield)
    return op->emitOpError("the body does not end with qd.yield");
  if (yield.getNumOperands() != yielded.size())
    return op->emitOpError("the body yields ") << yield.getNumOperands() << " values, not " << yielded.size();
  for (auto [index, value] : llvm::enumerate(yield.getOperands()))
    if (failed(verifyType(op, ("yielded value " + llvm::Twine(index)).str(), value.getType(), yielded[index])))
      return failure();
  return success();
}

LogicalResult CompositeOp::verifyRegions() {
  return verifyBody(*this, getBody().front(), llvm::to_vector(getInputs().getTypes()),
                    llvm::to_vector(getOutputs().getTypes()));
}

LogicalResult ScanOp::verifyRegions() {
  size_t states = getStates().size(), sequences = getSequences().size();
  size_t results = getOutputs().size();
  if (getTripCount() < 0)
    return emitOpError("negative trip count");
  if (results < states)
    return emitOpError("has ") << states << " states but " << results << " results";
  size_t stacked = results - states;
  if (getInputAxes().size() != sequences || getInputReversed().size() != sequences)
    return emitOpError("has ") << sequences << " sequences, " << getInputAxes().size() << " input_axes and "
                               << getInputReversed().size() << " input_reversed";
  if (getOutputAxes().size() != stacked || getOutputReversed().size() != stacked)
    return emitOpError("has ") << stacked << " stacked outputs, " << getOutputAxes().size() << " output_axes and "
                               << getOutputReversed().size() << " output_reversed";

  // The slice of a sequence or a stacked output; null after a diagnostic.
  auto sliceOf = [&](StringRef what, size_t index, Type type, int64_t axis) -> Type {
    auto tensor = cast<RankedTensorType>(type);
    if (failed(verifyAxis(*this, axis, tensor)))
      return {};
    if (tensor.getDimSize(axis) != getTripCount()) {
      emitOpError(what) << ' ' << index << " has " << tensor.getDimSize(axis) << " slices for " << getTripCount()
                        << " iterations";
      return {};
    }
    return RankedTensorType::get(withoutAxis(tensor, axis), tensor.getElementType());
  };
  llvm::SmallVector<Type> arguments(getStates().getTypes()), yielded(getStates().getTypes());
  for (auto [index, sequence] : llvm::enumerate(getSequences())) {
    arguments.push_back(sliceOf("sequence", index, sequence.getType(), getInputAxes()[index]));
    if (!arguments.back())
      return failure();
  }
  llvm::append_range(arguments, getCaptures().getTypes());
  for (size_t index = 0; index < states; ++index)
    if (failed(verifyType(*this, ("final state " + llvm::Twine(index)).str(), getOutputs()[index].getType(),
                          getStates()[index].getType())))
      return failure();
  for (size_t index = 0; index < stacked; ++index) {
    yielded.push_back(sliceOf("stacked output", index, getOutputs()[states + index].getType(), getOutputAxes()[index]));
    if (!yielded.back())
      return failure();
  }
  return verifyBody(*this, getBody().front(), arguments, yielded);
}

} // namespace quadrille::qd
