#include "graph/import/Importer.h"

#include "base/Error.h"
#include "graph/ExtractKernels.h"
#include "graph/import/EmitterState.h"
#include "graph/import/InputShapes.h"
#include "graph/import/OperatorContext.h"
#include "graph/onnx/FunctionTable.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

namespace quadrille::graph {

using importer::AttributeFrame;
using importer::Emitter;
using importer::OperatorContext;
using importer::Refusal;
using importer::TensorData;
using importer::TensorRef;

struct ImportedModel::Storage {
  Storage() : context(mlir::MLIRContext::Threading::DISABLED) {
    context.loadDialect<mlir::arith::ArithDialect, mlir::func::FuncDialect, mlir::linalg::LinalgDialect,
                        mlir::math::MathDialect, mlir::tensor::TensorDialect, qd::QdDialect>();
  }
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  mlir::func::FuncOp function;
};

ImportedModel::ImportedModel() : storage(std::make_unique<Storage>()) {}
ImportedModel::ImportedModel(ImportedModel &&) noexcept = default;
ImportedModel &ImportedModel::operator=(ImportedModel &&) noexcept = default;
ImportedModel::~ImportedModel() = default;

mlir::func::FuncOp ImportedModel::function() const {
  return storage->function;
}

mlir::ModuleOp ImportedModel::module() const {
  return *storage->module;
}

std::string ImportedModel::print() const {
  std::string text;
  llvm::raw_string_ostream os(text);
  mlir::OpPrintingFlags flags;
  flags.enableDebugInfo(true, true).elideLargeElementsAttrs(16).elideLargeResourceString(16);
  storage->module->print(os, flags);
  return text;
}

namespace {

// Results of at most this many elements are computed at import when all operands are known.
constexpr int64_t maximumFoldedElements = 65536;
// And when computing them takes at most this many steps: small operands can ask for large work (pooling with padding).
constexpr double maximumFoldedWork = 1 << 26;

// Points of all loop nests and elements of all values, regions as often as they run.
double workOf(const KernelGraph &graph) {
  double work = 0;
  for (const Value &value : graph.values)
    work += static_cast<double>(elementCount(value.shape));
  for (const Kernel &kernel : graph.kernels) {
    double points = 1, times = 1;
    for (const Loop &loop : kernel.loops)
      points *= static_cast<double>(loop.extent);
    work += points;
    if (auto trip = kernel.attributes.find("trip_count"); trip != kernel.attributes.end())
      if (const int64_t *count = std::get_if<int64_t>(&trip->second))
        times = static_cast<double>(*count);
    if (kernel.region)
      work += times * workOf(*kernel.region);
  }
  return work;
}

// Names of a graph, or of a local function's body. A name without a tensor depends on a node that was refused.
struct Scope {
  const Scope *parent = nullptr; // of a subgraph: the graph around it
  llvm::StringMap<TensorRef> values;
  const onnx::FunctionProto *function = nullptr;
  AttributeFrame frame;
  std::string prefix; // of the names of nodes within a call
  // Sequences exist only at import: which tensors each holds is known, and the operators on them disappear.
  llvm::StringMap<std::vector<TensorRef>> sequences;

  const std::vector<TensorRef> *findSequence(llvm::StringRef name) const {
    for (const Scope *scope = this; scope; scope = scope->parent) {
      auto found = scope->sequences.find(name);
      if (found != scope->sequences.end())
        return &found->second;
    }
    return nullptr;
  }

  const TensorRef *find(llvm::StringRef name) const {
    for (const Scope *scope = this; scope; scope = scope->parent) {
      auto found = scope->values.find(name);
      if (found != scope->values.end())
        return &found->second;
    }
    return nullptr;
  }
};

class Importer {
public:
  Importer(const ModelFile &file, const ImportOptions &options, ImportedModel::Storage &storage)
      : file(file), options(options), storage(storage), state(&storage.context) {}

  llvm::Error run();

private:
  llvm::Error addInputs(Scope &scope);
  llvm::Error addInitializers(const onnx::GraphProto &graph, Scope &scope);
  llvm::Error addNodes(const Nodes &nodes, Scope &scope);
  llvm::Error addNode(const onnx::NodeProto &node, Scope &scope);
  llvm::Error addCall(const onnx::NodeProto &node, const onnx::FunctionProto &function,
                      const std::vector<TensorRef> &operands, Scope &scope);
  // Operators that make, change or read a sequence, and whatever else has one as an operand. False: none of these.
  bool addSequence(const onnx::NodeProto &node, Scope &scope);
  void applySequence(OperatorContext &c, llvm::StringRef operation, const std::vector<TensorRef> *sequence,
                     const onnx::NodeProto &node, Scope &scope);
  llvm::Error addIf(const onnx::NodeProto &node, const std::vector<TensorRef> &operands, Scope &scope);
  llvm::Error addScan(const onnx::NodeProto &node, const std::vector<TensorRef> &operands, Scope &scope);
  llvm::Error addLoop(const onnx::NodeProto &node, const std::vector<TensorRef> &operands, Scope &scope);
  struct ScannedBody;
  llvm::Error addScanned(const onnx::NodeProto &node, ScannedBody scanned, Scope &scope);
  llvm::Error finish(const Scope &scope);
  llvm::Error reportUnsupported() const;

  // The nodes of a subgraph at the builder's position.
  llvm::Expected<std::vector<TensorRef>> addGraph(const onnx::GraphProto &graph, llvm::ArrayRef<TensorRef> operands,
                                                  const Scope &scope);
  // Runs the operator at the builder's position.
  llvm::Expected<std::vector<TensorRef>> apply(const onnx::NodeProto &node, importer::OperatorFunction function,
                                               const std::vector<TensorRef> &operands, const Scope &scope);
  // Computes the node's results from its known operands; nullopt when they are too large to be worth it.
  llvm::Expected<std::optional<std::vector<TensorRef>>> fold(const onnx::NodeProto &node,
                                                             importer::OperatorFunction function,
                                                             const std::vector<TensorRef> &operands,
                                                             const Scope &scope);

  std::string nameOf(const onnx::NodeProto &node, const Scope &scope) const { return scope.prefix + node.name(); }
  Where where(const onnx::NodeProto &node, const Scope &scope) const {
    return {file.path().str(), qualifiedOperator(node) + " \"" + nameOf(node, scope) + "\""};
  }
  llvm::Error failure(const Refusal &refusal, const onnx::NodeProto &node, const Scope &scope);
  void refuseNode(const onnx::NodeProto &node, Scope &scope) {
    for (const std::string &output : node.output())
      scope.values[output] = TensorRef();
  }
  int64_t opsetOf(const onnx::NodeProto &node, const Scope &scope) const {
    return scope.function ? file.opset(*scope.function, node.domain()) : file.opset(node.domain());
  }

  const ModelFile &file;
  const ImportOptions &options;
  ImportedModel::Storage &storage;
  Emitter::State state;
  std::vector<UnsupportedNode> unsupported;
};

} // namespace

// Why the importer has no function for an operator.
static std::string whyUnknown(llvm::StringRef operation) {
  llvm::StringRef reason = importer::whyInexpressible(operation);
  return reason.empty() ? "the operator is not known" : reason.str();
}

llvm::Error Importer::failure(const Refusal &refusal, const onnx::NodeProto &node, const Scope &scope) {
  if (!refusal.unsupported)
    return userError(refusal.message, where(node, scope), refusal.remedy);
  unsupported.push_back({nameOf(node, scope), qualifiedOperator(node), refusal.message});
  return llvm::Error::success();
}

llvm::Error Importer::addInputs(Scope &scope) {
  if (llvm::Error error = importer::checkBindings(file, options))
    return error;
  llvm::Expected<std::vector<importer::InputPort>> ports = importer::resolveInputs(file, options);
  if (!ports)
    return ports.takeError();
  mlir::MLIRContext *context = &storage.context;
  mlir::OpBuilder &b = state.builder;
  mlir::Location unknown = b.getUnknownLoc();
  llvm::SmallVector<mlir::Type> types;
  for (const importer::InputPort &port : *ports) {
    try {
      types.push_back(state.typeOf(port.type, port.shape));
    } catch (const Refusal &refusal) {
      return userError(refusal.message, {file.path().str(), "input '" + port.name + "'"}, refusal.remedy);
    }
  }
  storage.module = mlir::ModuleOp::create(unknown);
  b.setInsertionPointToEnd(storage.module->getBody());
  storage.function = b.create<mlir::func::FuncOp>(unknown, "main", mlir::FunctionType::get(context, types, {}));
  mlir::Block *entry = storage.function.addEntryBlock();
  b.setInsertionPointToEnd(entry);
  state.isolated.push_back(importer::IsolatedBlock(entry));
  for (auto [index, port] : llvm::enumerate(*ports)) {
    unsigned number = static_cast<unsigned>(index);
    storage.function.setArgAttr(number, qd::nameAttributeName, b.getStringAttr(port.name));
    TensorData data;
    data.type = port.type;
    data.shape = port.shape;
    data.name = port.name;
    data.batched = port.batched;
    data.value = entry->getArgument(number).getAsOpaquePointer();
    scope.values[port.name] = state.add(std::move(data));
  }
  for (const auto &[name, tensor] : options.bindings)
    scope.values[name] = Emitter(state).constant(tensor);
  return llvm::Error::success();
}

llvm::Error Importer::addInitializers(const onnx::GraphProto &graph, Scope &scope) {
  for (const onnx::TensorProto &tensor : graph.initializer()) {
    if (!scope.parent && options.bindings.count(tensor.name()))
      continue;
    llvm::Expected<WeightData> data = file.weight(tensor);
    if (!data)
      return atNode(inFile(data.takeError(), file.path()), "weight '" + tensor.name() + "'");
    try {
      scope.values[tensor.name()] = Emitter(state).weight(*data, tensor.name());
    } catch (const Refusal &refusal) {
      return userError(refusal.message, {file.path().str(), "weight '" + tensor.name() + "'"}, refusal.remedy);
    }
  }
  if (graph.sparse_initializer_size())
    return userError("sparse weights are not supported",
                     {file.path().str(), "weight '" + graph.sparse_initializer(0).values().name() + "'"});
  return llvm::Error::success();
}

llvm::Error Importer::addNodes(const Nodes &nodes, Scope &scope) {
  for (const onnx::NodeProto &node : nodes)
    if (llvm::Error error = addNode(node, scope))
      return error;
  return llvm::Error::success();
}

bool Importer::addSequence(const onnx::NodeProto &node, Scope &scope) {
  static const llvm::StringSet<> makers = {"SplitToSequence", "SequenceConstruct", "SequenceEmpty"};
  static const llvm::StringSet<> users = {"SequenceAt", "SequenceLength", "SequenceInsert", "SequenceErase",
                                          "ConcatFromSequence"};
  std::string operation = qualifiedOperator(node);
  const std::vector<TensorRef> *sequence = nullptr;
  std::vector<TensorRef> operands;
  for (const std::string &name : node.input()) {
    const TensorRef *tensor = name.empty() ? nullptr : scope.find(name);
    if (!name.empty() && !tensor) {
      sequence = scope.findSequence(name);
      if (!sequence)
        return false; // not defined
    } else if (tensor && !*tensor) {
      return false; // of a node that was refused
    }
    operands.push_back(tensor ? *tensor : TensorRef());
  }
  if (!sequence && !makers.contains(operation))
    return false;
  state.location = qd::nodeLocation(&storage.context, nameOf(node, scope), operation);
  if (sequence && !users.contains(operation)) {
    unsupported.push_back({nameOf(node, scope), operation, "sequences are had only at import"});
    refuseNode(node, scope);
    return true;
  }
  OperatorContext context(state, file, node, scope.frame, opsetOf(node, scope), std::move(operands), options.batch);
  try {
    applySequence(context, operation, sequence, node, scope);
    context.refuseUnknownAttributes();
  } catch (const Refusal &refusal) {
    unsupported.push_back(
        {nameOf(node, scope), operation, refusal.message + (refusal.remedy.empty() ? "" : "; " + refusal.remedy)});
    refuseNode(node, scope);
  }
  return true;
}

void Importer::applySequence(OperatorContext &c, llvm::StringRef operation, const std::vector<TensorRef> *sequence,
                             const onnx::NodeProto &node, Scope &scope) {
  // A position counts from the end where negative; one past the end only where an element is inserted.
  auto position = [&](unsigned operand, size_t limit) {
    int64_t index = c.knownInteger(operand, "position");
    index += index < 0 ? static_cast<int64_t>(sequence->size()) : 0;
    if (index < 0 || index >= static_cast<int64_t>(limit))
      importer::refuse("position " + llvm::Twine(index) + " in a sequence of " + llvm::Twine(sequence->size()));
    return static_cast<std::ptrdiff_t>(index);
  };
  std::vector<TensorRef> result;
  if (operation == "SequenceAt") {
    scope.values[node.output(0)] = (*sequence)[position(1, sequence->size())];
    return;
  }
  if (operation == "SequenceLength") {
    scope.values[node.output(0)] =
        c.constant(Tensor::of<int64_t>(ElementType::i64, {}, {static_cast<int64_t>(sequence->size())}));
    return;
  }
  if (operation == "ConcatFromSequence") {
    bool isNew = c.flag("new_axis");
    if (sequence->empty())
      importer::refuse("the sequence is empty");
    int64_t rank = sequence->front().rank() + isNew, axis = importer::normalAxis(c.integer("axis"), rank);
    for (TensorRef part : *sequence) {
      Shape shape = part.shape();
      if (isNew && part.rank() + 1 == rank)
        shape.insert(shape.begin() + axis, 1);
      result.push_back(isNew ? c.reshape(part, shape) : part);
    }
    scope.values[node.output(0)] = c.concat(result, axis);
    return;
  }
  if (operation == "SequenceConstruct") {
    result = c.allOperands();
  } else if (operation == "SequenceEmpty") {
    c.ignoreAttribute("dtype");
  } else if (operation == "SequenceInsert") {
    result = *sequence;
    std::ptrdiff_t at = c.optional(2) ? position(2, sequence->size() + 1) : static_cast<std::ptrdiff_t>(result.size());
    result.insert(result.begin() + at, c.operand(1));
  } else if (operation == "SequenceErase") {
    if (sequence->empty())
      importer::refuse("the sequence is empty");
    result = *sequence;
    result.erase(result.begin() +
                 (c.optional(1) ? position(1, sequence->size()) : static_cast<std::ptrdiff_t>(sequence->size()) - 1));
  } else { // SplitToSequence
    TensorRef x = c.operand(0), split = c.optional(1);
    int64_t axis = importer::normalAxis(c.integer("axis", 0), x.rank()), extent = x.dim(axis);
    bool keeps = c.flag("keepdims", true) || split;
    std::vector<int64_t> lengths;
    if (split && split.rank() == 1) {
      lengths = c.knownIntegers(1, "split");
    } else {
      int64_t each = split ? c.knownInteger(1, "split") : 1;
      if (each < 1)
        importer::refuse("parts of " + llvm::Twine(each) + " elements");
      for (int64_t left = extent; left > 0; left -= each)
        lengths.push_back(std::min(each, left));
    }
    std::vector<int64_t> starts(x.rank(), 0);
    for (int64_t length : lengths) {
      if (length < 0 || length > extent - starts[axis])
        importer::refuse("split " + importer::shapeText(lengths) + " of " + llvm::Twine(extent) + " elements");
      Shape shape = x.shape();
      shape[axis] = length;
      TensorRef part = c.slice(x, starts, shape);
      starts[axis] += length;
      if (!keeps) {
        shape.erase(shape.begin() + axis);
        part = c.reshape(part, shape);
      }
      result.push_back(part);
    }
    if (starts[axis] != extent)
      importer::refuse("split " + importer::shapeText(lengths) + " of " + llvm::Twine(extent) + " elements");
  }
  scope.sequences[node.output(0)] = std::move(result);
}

llvm::Error Importer::addNode(const onnx::NodeProto &node, Scope &scope) {
  if (addSequence(node, scope))
    return llvm::Error::success();
  std::vector<TensorRef> operands;
  bool known = true, poisoned = false;
  int64_t elements = 0;
  for (const std::string &name : node.input()) {
    if (name.empty()) {
      operands.push_back({});
      continue;
    }
    const TensorRef *tensor = scope.find(name);
    if (!tensor)
      return userError("operand '" + name + "' is not defined", where(node, scope));
    poisoned |= !*tensor;
    operands.push_back(*tensor);
    if (*tensor) {
      known &= tensor->known();
      elements += tensor->elements();
    }
  }
  while (!operands.empty() && !operands.back())
    operands.pop_back(); // trailing operands may be written as absent
  if (poisoned) {
    refuseNode(node, scope);
    return llvm::Error::success();
  }
  state.location = qd::nodeLocation(&storage.context, nameOf(node, scope), qualifiedOperator(node));
  if (const onnx::FunctionProto *function = file.function(node))
    return addCall(node, *function, operands, scope);
  std::string operation = qualifiedOperator(node);
  if (operation == "If")
    return addIf(node, operands, scope);
  if (operation == "Scan")
    return addScan(node, operands, scope);
  if (operation == "Loop")
    return addLoop(node, operands, scope);

  importer::OperatorFunction function = importer::OperatorTable::get().find(operation);
  if (!function) {
    unsupported.push_back({nameOf(node, scope), operation, whyUnknown(operation)});
    refuseNode(node, scope);
    return llvm::Error::success();
  }
  size_t before = unsupported.size();
  std::optional<std::vector<TensorRef>> results;
  // Dequantised weights stay integers, so that contractions can work on them (IntegerContractions.h).
  bool keepsIntegers = operation == "DequantizeLinear" && known && !operands.empty() && operands[0].rank() > 0;
  // The graphs of an operator may read what is around the node.
  bool closed =
      llvm::none_of(node.attribute(), [](const onnx::AttributeProto &attribute) { return attribute.has_g(); });
  if (known && closed && !keepsIntegers && !operands.empty() && elements <= maximumFoldedElements && options.evaluate) {
    llvm::Expected<std::optional<std::vector<TensorRef>>> folded = fold(node, function, operands, scope);
    if (!folded)
      return folded.takeError();
    results = std::move(*folded);
  }
  if (!results && unsupported.size() == before) {
    llvm::Expected<std::vector<TensorRef>> applied = apply(node, function, operands, scope);
    if (!applied)
      return applied.takeError();
    results = std::move(*applied);
  }
  if (unsupported.size() != before) {
    refuseNode(node, scope);
    return llvm::Error::success();
  }
  bool batched = llvm::any_of(operands, [](TensorRef tensor) { return tensor && tensor->batched; });
  for (int i = 0; i < node.output_size(); ++i) {
    if (node.output(i).empty())
      continue;
    TensorRef result = (*results)[i];
    if (!result)
      return userError("output " + llvm::Twine(i) + " ('" + node.output(i) + "') is not one that the operator has",
                       where(node, scope));
    if (batched && !result->batched && !result.known() && result.rank() > 0 && result.dim(0) == options.batch)
      state.change(result).batched = true;
    if (operands.empty() && result.known())
      state.change(result).stored = true; // a Constant node
    scope.values[node.output(i)] = result;
  }
  return llvm::Error::success();
}

llvm::Expected<std::vector<TensorRef>> Importer::apply(const onnx::NodeProto &node, importer::OperatorFunction function,
                                                       const std::vector<TensorRef> &operands, const Scope &scope) {
  OperatorContext context(state, file, node, scope.frame, opsetOf(node, scope), operands, options.batch);
  struct Unwind {};
  llvm::Error failed = llvm::Error::success();
  context.importGraph = [&](const onnx::AttributeProto &graph, llvm::ArrayRef<TensorRef> operands) {
    llvm::ErrorAsOutParameter failedIsSetHere(&failed);
    llvm::Expected<std::vector<TensorRef>> results = addGraph(graph.g(), operands, scope);
    failed = results.takeError();
    if (failed || llvm::any_of(*results, [](TensorRef result) { return !result; }))
      throw Unwind();
    return *results;
  };
  try {
    function(context);
    context.refuseUnknownAttributes();
    llvm::consumeError(std::move(failed));
    return context.results;
  } catch (const Unwind &) {
    if (failed)
      return std::move(failed);
    return std::vector<TensorRef>(node.output_size());
  } catch (const Refusal &refusal) {
    llvm::consumeError(std::move(failed));
    if (llvm::Error error = failure(refusal, node, scope))
      return std::move(error);
    return std::vector<TensorRef>(node.output_size());
  }
}

// Results that depend on a node that was refused are null.
llvm::Expected<std::vector<TensorRef>> Importer::addGraph(const onnx::GraphProto &graph,
                                                          llvm::ArrayRef<TensorRef> operands, const Scope &scope) {
  Scope inner;
  inner.parent = &scope;
  inner.function = scope.function;
  inner.frame = scope.frame;
  inner.prefix = scope.prefix;
  if (static_cast<size_t>(graph.input_size()) != operands.size())
    return userError("graph '" + graph.name() + "' takes " + llvm::Twine(graph.input_size()) + " operands instead of " +
                         llvm::Twine(operands.size()),
                     {file.path().str(), ""});
  for (auto [input, operand] : llvm::zip(graph.input(), operands))
    inner.values[input.name()] = operand;
  mlir::Location location = state.location;
  if (llvm::Error error = addInitializers(graph, inner))
    return std::move(error);
  if (llvm::Error error = addNodes(graph.node(), inner))
    return std::move(error);
  state.location = location;
  std::vector<TensorRef> results;
  for (const onnx::ValueInfoProto &output : graph.output()) {
    const TensorRef *result = inner.find(output.name());
    if (!result)
      return userError("graph '" + graph.name() + "' does not define '" + output.name() + "'", {file.path().str(), ""});
    results.push_back(*result);
  }
  return results;
}

// Emits the node into a function of its own, whose arguments are the operands, and evaluates that.
llvm::Expected<std::optional<std::vector<TensorRef>>> Importer::fold(const onnx::NodeProto &node,
                                                                     importer::OperatorFunction function,
                                                                     const std::vector<TensorRef> &operands,
                                                                     const Scope &scope) {
  mlir::OpBuilder &b = state.builder;
  mlir::OpBuilder::InsertionGuard guard(b);
  llvm::SmallVector<TensorRef> arguments;
  llvm::SmallVector<mlir::Type> types;
  for (TensorRef operand : operands)
    if (operand && llvm::none_of(arguments, [&](TensorRef other) { return other.get() == operand.get(); })) {
      arguments.push_back(operand);
      types.push_back(state.typeOf(operand.type(), operand.shape()));
    }
  mlir::OwningOpRef<mlir::func::FuncOp> scratch =
      mlir::func::FuncOp::create(state.location, "fold", mlir::FunctionType::get(&storage.context, types, {}));
  mlir::Block *block = scratch->addEntryBlock();
  b.setInsertionPointToEnd(block);
  importer::IsolatedBlock isolated(block);
  for (auto [index, argument] : llvm::enumerate(arguments))
    isolated.constants[argument.get()] = block->getArgument(static_cast<unsigned>(index));
  size_t depth = state.isolated.size();
  state.isolated.push_back(std::move(isolated));
  size_t before = unsupported.size();
  llvm::Expected<std::vector<TensorRef>> results = apply(node, function, operands, scope);
  std::optional<std::vector<TensorRef>> folded;
  llvm::SmallVector<mlir::Value> values;
  if (results && unsupported.size() == before) {
    int64_t elements = 0;
    for (TensorRef result : *results)
      if (result && !result->isConstant()) {
        elements += result.elements();
        values.push_back(state.valueOf(result));
      }
    if (elements <= maximumFoldedElements)
      folded = *results;
  }
  state.isolated.truncate(depth);
  if (!results)
    return results.takeError();
  if (!folded || values.empty())
    return folded;

  b.create<mlir::func::ReturnOp>(state.location, values);
  scratch->setFunctionType(mlir::FunctionType::get(&storage.context, types, mlir::TypeRange(mlir::ValueRange(values))));
  llvm::Expected<KernelGraph> graph = extractKernels(*scratch);
  if (!graph)
    return atNode(inFile(graph.takeError(), file.path()), where(node, scope).node);
  if (workOf(*graph) > maximumFoldedWork)
    return std::nullopt;
  std::vector<Tensor> inputs;
  for (TensorRef argument : arguments)
    inputs.push_back(argument.constant());
  llvm::Expected<std::vector<Tensor>> tensors = options.evaluate(*graph, inputs);
  if (!tensors)
    return atNode(inFile(tensors.takeError(), file.path()), where(node, scope).node);
  size_t next = 0;
  for (TensorRef &result : *folded)
    if (result && !result->isConstant())
      result = state.computed((*tensors)[next++]);
  return folded;
}

llvm::Error Importer::addCall(const onnx::NodeProto &node, const onnx::FunctionProto &function,
                              const std::vector<TensorRef> &operands, Scope &scope) {
  Scope inner;
  inner.function = &function;
  inner.prefix = nameOf(node, scope) + "/";
  for (int i = 0; i < function.input_size(); ++i)
    if (static_cast<size_t>(i) < operands.size() && operands[i])
      inner.values[function.input(i)] = operands[i];
  if (node.input_size() > function.input_size())
    return userError("the function takes " + llvm::Twine(function.input_size()) + " operands", where(node, scope));
  for (const onnx::AttributeProto &attribute : file.defaultAttributes(function))
    inner.frame[attribute.name()] = &attribute;
  for (const onnx::AttributeProto &attribute : node.attribute()) {
    if (attribute.ref_attr_name().empty()) {
      inner.frame[attribute.name()] = &attribute;
    } else if (auto outer = scope.frame.find(attribute.ref_attr_name()); outer != scope.frame.end()) {
      inner.frame[attribute.name()] = outer->second;
    }
  }
  if (llvm::Error error = addNodes(function.node(), inner))
    return error;
  for (int i = 0; i < node.output_size() && i < function.output_size(); ++i) {
    const TensorRef *result = inner.find(function.output(i));
    if (!result)
      return userError("the function does not define its output '" + function.output(i) + "'", where(node, scope));
    scope.values[node.output(i)] = *result;
  }
  return llvm::Error::success();
}

// The condition is known, so one branch takes the node's place.
llvm::Error Importer::addIf(const onnx::NodeProto &node, const std::vector<TensorRef> &operands, Scope &scope) {
  const onnx::GraphProto *branch = nullptr;
  try {
    OperatorContext context(state, file, node, scope.frame, opsetOf(node, scope), operands, options.batch);
    if (!context.operand(0).known())
      importer::refuse("the condition '" + node.input(0) +
                           "' depends on the values of the model's inputs; a machine "
                           "without branches needs to know it at import",
                       "bind the input that it comes from with --bind NAME=VALUE");
    const onnx::AttributeProto *taken =
        context.graphAttribute(context.knownInteger(0, "the condition") ? "then_branch" : "else_branch");
    if (!taken)
      importer::refuse("a branch is missing");
    branch = &taken->g();
  } catch (const Refusal &refusal) {
    return failure(refusal, node, scope);
  }
  Scope inner;
  inner.parent = &scope;
  inner.function = scope.function;
  inner.frame = scope.frame;
  inner.prefix = scope.prefix;
  if (branch->output_size() < node.output_size())
    return userError("the branch gives " + llvm::Twine(branch->output_size()) + " results instead of " +
                         llvm::Twine(node.output_size()),
                     where(node, scope));
  if (llvm::Error error = addInitializers(*branch, inner))
    return error;
  if (llvm::Error error = addNodes(branch->node(), inner))
    return error;
  for (int i = 0; i < node.output_size(); ++i) {
    const TensorRef *result = inner.find(branch->output(i).name());
    if (!result)
      return userError("the branch does not define '" + branch->output(i).name() + "'", where(node, scope));
    scope.values[node.output(i)] = *result;
  }
  return llvm::Error::success();
}

// A loop of known trip count over a graph.
struct Importer::ScannedBody {
  const onnx::GraphProto *body = nullptr;
  std::vector<TensorRef> states, sequences;
  std::vector<std::string> stateNames, sequenceNames; // of the body's inputs
  std::map<std::string, TensorRef> known;             // body inputs that are the same in every step
  int firstOutput = 0;                                // the body's output that is the first state
  std::string condition;                              // a body output that must be known to be true; may be empty
  int64_t trip = 0;
  Emitter::ScanAxes axes; // output axes count from the end where negative
};

// Names that a graph takes from the graphs around it.
static void collectOuterNames(const onnx::GraphProto &graph, llvm::StringSet<> defined, llvm::StringSet<> &outer) {
  for (const onnx::ValueInfoProto &input : graph.input())
    defined.insert(input.name());
  for (const onnx::TensorProto &weight : graph.initializer())
    defined.insert(weight.name());
  auto use = [&](const std::string &name) {
    if (!name.empty() && !defined.contains(name))
      outer.insert(name);
  };
  for (const onnx::NodeProto &node : graph.node()) {
    for (const std::string &name : node.input())
      use(name);
    for (const onnx::AttributeProto &attribute : node.attribute())
      if (attribute.has_g())
        collectOuterNames(attribute.g(), defined, outer);
    for (const std::string &name : node.output())
      defined.insert(name);
  }
  for (const onnx::ValueInfoProto &output : graph.output())
    use(output.name());
}

llvm::Error Importer::addScanned(const onnx::NodeProto &node, ScannedBody scanned, Scope &scope) {
  const onnx::GraphProto &body = *scanned.body;
  mlir::Location location = state.location;
  llvm::StringSet<> outer;
  collectOuterNames(body, {}, outer);
  std::vector<std::string> captureNames;
  std::vector<TensorRef> captures;
  for (const auto &entry : outer)
    if (const TensorRef *tensor = scope.find(entry.getKey())) {
      if (!*tensor) { // depends on a node that was refused
        refuseNode(node, scope);
        return llvm::Error::success();
      }
      if (!(*tensor)->isConstant()) {
        captureNames.push_back(entry.getKey().str());
        captures.push_back(*tensor);
      }
    }
  size_t states = scanned.states.size(), before = unsupported.size();
  llvm::Error failed = llvm::Error::success();
  struct Unwind {};
  auto emitBody = [&](llvm::ArrayRef<TensorRef> in) {
    llvm::ErrorAsOutParameter failedIsSetHere(&failed);
    Scope inner;
    inner.parent = &scope;
    inner.function = scope.function;
    inner.frame = scope.frame;
    inner.prefix = scope.prefix;
    for (const std::vector<std::string> &names : {scanned.stateNames, scanned.sequenceNames, captureNames})
      for (const std::string &name : names) {
        inner.values[name] = in.front();
        in = in.drop_front();
      }
    for (const auto &[name, tensor] : scanned.known)
      inner.values[name] = tensor;
    failed = addInitializers(body, inner);
    if (!failed)
      failed = addNodes(body.node(), inner);
    if (failed || unsupported.size() != before)
      throw Unwind();
    state.location = location;
    if (!scanned.condition.empty()) {
      TensorRef condition = *inner.find(scanned.condition);
      if (!condition.known() || importer::integersOf(condition.constant()) != std::vector<int64_t>{1})
        importer::refuseUnsupported("the loop stops by a condition that is computed");
    }
    std::vector<TensorRef> results;
    for (int i = scanned.firstOutput; i < body.output_size(); ++i) {
      const TensorRef *result = inner.find(body.output(i).name());
      if (!result || !*result)
        importer::refuse("the body does not define '" + body.output(i).name() + "'");
      size_t index = results.size();
      if (index < states) {
        if (result->shape() != scanned.states[index].shape() || result->type() != scanned.states[index].type())
          importer::refuseUnsupported("state " + llvm::Twine(index) + " changes its shape or type from step to step");
      } else {
        size_t stacked = index - states;
        if (stacked >= scanned.axes.output.size()) {
          scanned.axes.output.push_back(0);
          scanned.axes.outputReversed.push_back(false);
        }
        scanned.axes.output[stacked] = importer::normalAxis(scanned.axes.output[stacked], result->rank() + 1);
      }
      results.push_back(*result);
    }
    return results;
  };
  size_t depth = state.isolated.size();
  std::vector<TensorRef> results;
  try {
    results = Emitter(state).scan(scanned.states, scanned.sequences, captures, scanned.trip, scanned.axes, emitBody);
    if (results.size() < static_cast<size_t>(node.output_size()))
      importer::refuse("the body gives " + llvm::Twine(results.size()) + " results");
  } catch (const Unwind &) {
    state.isolated.truncate(depth);
    refuseNode(node, scope);
    return failed;
  } catch (const Refusal &refusal) {
    llvm::consumeError(std::move(failed));
    refuseNode(node, scope);
    return failure(refusal, node, scope);
  }
  llvm::consumeError(std::move(failed));
  for (int i = 0; i < node.output_size(); ++i)
    scope.values[node.output(i)] = results[i];
  return llvm::Error::success();
}

llvm::Error Importer::addScan(const onnx::NodeProto &node, const std::vector<TensorRef> &operands, Scope &scope) {
  ScannedBody scanned;
  try {
    OperatorContext context(state, file, node, scope.frame, opsetOf(node, scope), operands, options.batch);
    if (context.opset < 9)
      importer::refuseUnsupported("the form of operator set 8, with a batch dimension");
    const onnx::AttributeProto *body = context.graphAttribute("body");
    int64_t sequences = context.integer("num_scan_inputs"), states = static_cast<int64_t>(operands.size()) - sequences;
    if (!body || sequences < 1 || states < 0 || body->g().input_size() != static_cast<int>(operands.size()) ||
        body->g().output_size() < states)
      importer::refuse("the body does not fit " + llvm::Twine(operands.size()) + " operands, " +
                       llvm::Twine(sequences) + " of them sequences");
    scanned.body = &body->g();
    std::vector<int64_t> axes = context.integerList("scan_input_axes", std::vector<int64_t>(sequences, 0));
    std::vector<int64_t> reversed = context.integerList("scan_input_directions", std::vector<int64_t>(sequences, 0));
    size_t stacked = static_cast<size_t>(body->g().output_size() - states);
    std::vector<int64_t> outputAxes = context.integerList("scan_output_axes", std::vector<int64_t>(stacked, 0));
    std::vector<int64_t> outputReversed =
        context.integerList("scan_output_directions", std::vector<int64_t>(stacked, 0));
    if (axes.size() != static_cast<size_t>(sequences) || reversed.size() != axes.size() ||
        outputAxes.size() != stacked || outputReversed.size() != stacked)
      importer::refuse("axes or directions do not fit the body's inputs and outputs");
    scanned.axes.output.assign(outputAxes.begin(), outputAxes.end());
    for (int64_t flag : outputReversed)
      scanned.axes.outputReversed.push_back(flag != 0);
    for (unsigned i = 0; i < operands.size(); ++i) {
      TensorRef operand = context.operand(i);
      std::string name = body->g().input(static_cast<int>(i)).name();
      if (i < states) {
        scanned.states.push_back(operand);
        scanned.stateNames.push_back(name);
        continue;
      }
      int64_t axis = importer::normalAxis(axes[i - states], operand.rank());
      if (i > states && operand.dim(axis) != scanned.trip)
        importer::refuse("sequences have " + llvm::Twine(scanned.trip) + " and " + llvm::Twine(operand.dim(axis)) +
                         " elements");
      scanned.trip = operand.dim(axis);
      scanned.sequences.push_back(operand);
      scanned.sequenceNames.push_back(name);
      scanned.axes.input.push_back(axis);
      scanned.axes.inputReversed.push_back(reversed[i - states] != 0);
    }
    context.refuseUnknownAttributes();
  } catch (const Refusal &refusal) {
    refuseNode(node, scope);
    return failure(refusal, node, scope);
  }
  return addScanned(node, std::move(scanned), scope);
}

llvm::Error Importer::addLoop(const onnx::NodeProto &node, const std::vector<TensorRef> &operands, Scope &scope) {
  ScannedBody scanned;
  try {
    OperatorContext context(state, file, node, scope.frame, opsetOf(node, scope), operands, options.batch);
    const onnx::AttributeProto *body = context.graphAttribute("body");
    if (!body || body->g().input_size() < 2 || body->g().output_size() < 1 ||
        body->g().input_size() != std::max<int>(2, static_cast<int>(operands.size())) ||
        body->g().output_size() + 1 < body->g().input_size())
      importer::refuse("the body does not fit " + llvm::Twine(operands.size()) + " operands");
    if (!context.optional(0))
      importer::refuseUnsupported("a loop without a trip count stops by a condition that is computed");
    scanned.trip = context.knownInteger(0, "the trip count");
    if (context.optional(1) && context.knownInteger(1, "the condition") == 0)
      scanned.trip = 0;
    if (scanned.trip < 0 || scanned.trip > int64_t(1) << 24)
      importer::refuseUnsupported("a trip count of " + llvm::Twine(scanned.trip));
    scanned.body = &body->g();
    scanned.firstOutput = 1;
    scanned.condition = body->g().output(0).name();
    scanned.known[body->g().input(1).name()] = context.scalar(ElementType::boolean, 1);
    std::vector<int64_t> numbers(static_cast<size_t>(scanned.trip));
    for (size_t i = 0; i < numbers.size(); ++i)
      numbers[i] = static_cast<int64_t>(i);
    scanned.sequences = {context.integers(numbers)};
    scanned.sequenceNames = {body->g().input(0).name()};
    scanned.axes.input = {0};
    scanned.axes.inputReversed = {false};
    for (unsigned i = 2; i < operands.size(); ++i) {
      scanned.states.push_back(context.operand(i));
      scanned.stateNames.push_back(body->g().input(static_cast<int>(i)).name());
    }
  } catch (const Refusal &refusal) {
    refuseNode(node, scope);
    return failure(refusal, node, scope);
  }
  return addScanned(node, std::move(scanned), scope);
}

llvm::Error Importer::reportUnsupported() const {
  // Nodes behind a refused one were not looked at; of those, the ones whose operator is unknown are known all the same.
  std::vector<UnsupportedNode> all = unsupported;
  for (UnsupportedNode &node : unknownOperators(file))
    if (llvm::none_of(unsupported, [&](const UnsupportedNode &seen) { return seen.node == node.node; }))
      all.push_back(std::move(node));
  std::string message = std::to_string(all.size()) + (all.size() == 1 ? " node is" : " nodes are") + " not supported";
  for (const UnsupportedNode &node : all)
    message += "\n  " + node.operation + " \"" + node.node + "\": " + node.reason;
  return userError(message, {file.path().str(), ""});
}

llvm::Error Importer::finish(const Scope &scope) {
  mlir::OpBuilder &b = state.builder;
  state.location = b.getUnknownLoc();
  llvm::SmallVector<mlir::Value> results;
  for (const onnx::ValueInfoProto &output : file.model().graph().output()) {
    const TensorRef *tensor = scope.find(output.name());
    if (!tensor || !*tensor)
      return userError("the output is not defined", {file.path().str(), "output '" + output.name() + "'"});
    results.push_back(state.valueOf(*tensor));
  }
  b.create<mlir::func::ReturnOp>(state.location, results);
  mlir::func::FuncOp function = storage.function;
  function.setFunctionType(mlir::FunctionType::get(&storage.context, function.getArgumentTypes(),
                                                   mlir::TypeRange(mlir::ValueRange(results))));
  for (auto [index, output] : llvm::enumerate(file.model().graph().output()))
    function.setResultAttr(static_cast<unsigned>(index), qd::nameAttributeName, b.getStringAttr(output.name()));

  // What nobody uses.
  for (mlir::Operation &op : llvm::make_early_inc_range(llvm::reverse(function.getBody().front())))
    if (mlir::isOpTriviallyDead(&op))
      op.erase();

  std::string diagnostics;
  mlir::ScopedDiagnosticHandler handler(&storage.context,
                                        [&](mlir::Diagnostic &diagnostic) { diagnostics += diagnostic.str() + "; "; });
  if (mlir::failed(mlir::verify(*storage.module)))
    return internalError("the imported function does not verify: " + diagnostics, {file.path().str(), ""});
  return llvm::Error::success();
}

llvm::Error Importer::run() {
  Scope scope;
  if (llvm::Error error = addInputs(scope))
    return error;
  if (llvm::Error error = addInitializers(file.model().graph(), scope))
    return error;
  if (llvm::Error error = addNodes(file.model().graph().node(), scope))
    return error;
  for (const onnx::ValueInfoProto &output : file.model().graph().output())
    if (scope.findSequence(output.name()))
      unsupported.push_back({output.name(), "output", "sequences are not had"});
  if (!unsupported.empty())
    return reportUnsupported();
  return finish(scope);
}

llvm::Expected<ImportedModel> importModel(const ModelFile &file, const ImportOptions &options) {
  ImportedModel model;
  try {
    if (llvm::Error error = Importer(file, options, *model.storage).run())
      return std::move(error);
  } catch (const Refusal &refusal) { // outside any operator
    return userError(refusal.message, {file.path().str(), ""}, refusal.remedy);
  }
  return model;
}

static void collectUnknown(const ModelFile &file, const Nodes &nodes, const std::string &prefix,
                           std::vector<UnsupportedNode> &unknown) {
  forEachNode(nodes, [&](const onnx::NodeProto &node) {
    if (const onnx::FunctionProto *function = file.function(node))
      return collectUnknown(file, function->node(), prefix + node.name() + "/", unknown);
    std::string operation = qualifiedOperator(node);
    if (!llvm::is_contained({"If", "Loop", "Scan"}, operation) && !importer::OperatorTable::get().find(operation))
      unknown.push_back({prefix + node.name(), operation, whyUnknown(operation)});
  });
}

std::vector<UnsupportedNode> unknownOperators(const ModelFile &file) {
  std::vector<UnsupportedNode> unknown;
  collectUnknown(file, file.model().graph().node(), "", unknown);
  return unknown;
}

std::string whyInexpressible(llvm::StringRef qualifiedOperator) {
  return importer::whyInexpressible(qualifiedOperator).str();
}

std::vector<std::string> importableOperators() {
  std::vector<std::string> names = importer::OperatorTable::get().names();
  names.insert(names.end(), {"If", "Loop", "Scan"});
  llvm::sort(names);
  return names;
}

} // namespace quadrille::graph
