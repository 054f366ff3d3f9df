#include "graph/import/Importer.h"

#include "base/Error.h"
#include "graph/ExtractKernels.h"
#include "graph/KernelQueries.h"
#include "graph/import/InputShapes.h"
#include "graph/import/ModelImporter.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"

#include "llvm/ADT/StringSet.h"

namespace quadrille::graph {

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
    double points = 1;
    for (const Loop &loop : kernel.loops)
      points *= static_cast<double>(loop.extent);
    work += points;
    if (kernel.region)
      work += static_cast<double>(integerAttribute(kernel, "trip_count").value_or(1)) * workOf(*kernel.region);
  }
  return work;
}

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
  if (static_cast<size_t>(graph.input_size()) != operands.size())
    return userError("graph '" + graph.name() + "' takes " + llvm::Twine(graph.input_size()) + " operands instead of " +
                         llvm::Twine(operands.size()),
                     {file.path().str(), ""});
  for (auto [input, operand] : llvm::zip(graph.input(), operands))
    inner.values[input.name()] = operand;
  if (llvm::Error error = addSubgraph(graph, inner, scope))
    return std::move(error);
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

// Operators that the importer itself resolves, beside those of the operator table.
static std::vector<std::string> resolvedAtImport() {
  std::vector<std::string> names = {"If", "Loop", "Scan"};
  llvm::append_range(names, importer::sequenceMakers);
  llvm::append_range(names, importer::sequenceUsers);
  return names;
}

static void collectUnknown(const ModelFile &file, const Nodes &nodes, const std::string &prefix,
                           std::vector<UnsupportedNode> &unknown) {
  static const std::vector<std::string> atImport = resolvedAtImport();
  forEachNode(nodes, [&](const onnx::NodeProto &node) {
    if (const onnx::FunctionProto *function = file.function(node))
      return collectUnknown(file, function->node(), prefix + node.name() + "/", unknown);
    std::string operation = qualifiedOperator(node);
    if (!llvm::is_contained(atImport, operation) && !importer::OperatorTable::get().find(operation))
      unknown.push_back({prefix + node.name(), operation, whyUnknown(operation)});
  });
}

std::vector<UnsupportedNode> unknownOperators(const ModelFile &file) {
  std::vector<UnsupportedNode> unknown;
  collectUnknown(file, file.model().graph().node(), "", unknown);
  return unknown;
}

namespace {

class NodeCollector {
public:
  explicit NodeCollector(const ModelFile &file) : file(file) {}

  // `known`: the values of the graph that are computed from weights alone, where that is of interest.
  void collect(const Nodes &nodes, const std::string &prefix, llvm::StringSet<> *known) {
    for (const onnx::NodeProto &node : nodes) {
      bool holdsGraphs = llvm::any_of(node.attribute(), [](const onnx::AttributeProto &attribute) {
        return attribute.has_g() || attribute.graphs_size() > 0;
      });
      bool constant = known && !holdsGraphs && llvm::all_of(node.input(), [&](const std::string &name) {
                        return name.empty() || known->contains(name);
                      });
      if (constant)
        known->insert(node.output().begin(), node.output().end());
      all.push_back({{prefix + node.name(), qualifiedOperator(node)}, constant});
      if (const onnx::FunctionProto *function = file.function(node))
        collect(function->node(), prefix + node.name() + "/", nullptr);
      for (const onnx::AttributeProto &attribute : node.attribute()) {
        if (attribute.has_g())
          collect(attribute.g().node(), prefix, nullptr);
        for (const onnx::GraphProto &graph : attribute.graphs())
          collect(graph.node(), prefix, nullptr);
      }
    }
  }

  std::vector<FileNode> all;

private:
  const ModelFile &file;
};

} // namespace

std::vector<FileNode> nodesInOrder(const ModelFile &file) {
  const onnx::GraphProto &graph = file.model().graph();
  llvm::StringSet<> weights;
  for (const onnx::TensorProto &tensor : graph.initializer())
    weights.insert(tensor.name());
  NodeCollector collector(file);
  collector.collect(graph.node(), "", &weights);
  return std::move(collector.all);
}

std::string whyInexpressible(llvm::StringRef qualifiedOperator) {
  return importer::whyInexpressible(qualifiedOperator).str();
}

std::vector<std::string> importableOperators() {
  std::vector<std::string> names = importer::OperatorTable::get().names();
  llvm::append_range(names, resolvedAtImport());
  llvm::sort(names);
  return names;
}

} // namespace quadrille::graph
