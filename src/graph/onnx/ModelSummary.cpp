#include "base/Error.h"
#include "graph/onnx/DataType.h"
#include "graph/onnx/FunctionTable.h"
#include "graph/onnx/TensorReader.h"

#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/MathExtras.h"

namespace quadrille::graph {

namespace {

llvm::Expected<ModelSummary::Port> describePort(const onnx::ValueInfoProto &value, llvm::StringRef what) {
  ModelSummary::Port port;
  port.name = value.name();
  Where where = {"", what.str() + " '" + value.name() + "'"};
  if (!value.type().has_tensor_type()) {
    switch (value.type().value_case()) {
    case onnx::TypeProto::VALUE_NOT_SET:
      return userError("has no type", where);
    case onnx::TypeProto::kSequenceType:
      return userError("sequences are not supported", where);
    case onnx::TypeProto::kOptionalType:
      return userError("optionals are not supported", where);
    default:
      return userError("only tensors are supported", where);
    }
  }
  const onnx::TypeProto::Tensor &type = value.type().tensor_type();
  llvm::Expected<ElementType> element = elementTypeOfCode(type.elem_type());
  if (!element)
    return atNode(element.takeError(), where.node);
  port.type = *element;
  if (!type.has_shape()) { // of any rank
    port.shape = {"..."};
    return port;
  }
  for (const onnx::TensorShapeProto::Dimension &dimension : type.shape().dim()) {
    if (dimension.has_dim_value() && dimension.dim_value() >= 0)
      port.shape.push_back(std::to_string(dimension.dim_value()));
    else // some exporters write -1 for a dimension that they do not know
      port.shape.push_back(dimension.dim_param().empty() ? "?" : dimension.dim_param());
  }
  return port;
}

class Summarizer {
public:
  Summarizer(const ModelFile &file, ModelSummary &summary) : file(file), summary(summary) {}

  llvm::Error graph(const onnx::GraphProto &graph) {
    if (llvm::Error error = weights(graph))
      return error;
    collect(graph.node(), summary.operators);
    if (llvm::Error error = subgraphWeights(graph.node()))
      return error;
    for (const onnx::FunctionProto &function : file.model().functions())
      if (llvm::Error error = subgraphWeights(function.node()))
        return error;
    return llvm::Error::success();
  }

private:
  // Functions whose calls were counted are not walked again: their counts are kept and scaled.
  using Counts = std::map<std::string, int64_t>;

  const Counts &countsOf(const onnx::FunctionProto &function) {
    auto known = functionCounts.find(&function);
    if (known != functionCounts.end())
      return known->second;
    Counts counts; // calls do not recur (checked when the file was opened)
    collect(function.node(), counts);
    return functionCounts.emplace(&function, std::move(counts)).first->second;
  }

  void collect(const Nodes &nodes, Counts &counts) {
    forEachNode(nodes, [&](const onnx::NodeProto &node) {
      if (const onnx::FunctionProto *callee = file.function(node)) {
        for (const auto &[name, count] : countsOf(*callee))
          counts[name] += count;
      } else {
        ++counts[qualifiedOperator(node)];
      }
    });
  }

  llvm::Error weights(const onnx::GraphProto &graph) {
    for (const onnx::TensorProto &initializer : graph.initializer()) {
      llvm::Expected<WeightData> weight = file.weight(initializer);
      if (!weight)
        return weight.takeError();
      int64_t elements = elementCount(weight->shape);
      if (llvm::AddOverflow(summary.parameters, elements, summary.parameters))
        return userError("the initializers have more elements than can be counted");
      summary.parameterBytes += storedBytes(weight->type, elements);
      if (weight->absent())
        summary.absentWeights.push_back(weight->name);
    }
    return llvm::Error::success();
  }

  llvm::Error subgraphWeights(const Nodes &nodes) {
    llvm::Error failure = llvm::Error::success();
    forEachNode(nodes, [&](const onnx::NodeProto &node) {
      for (const onnx::AttributeProto &attribute : node.attribute()) {
        if (!failure && attribute.has_g())
          failure = weights(attribute.g());
        for (const onnx::GraphProto &graph : attribute.graphs())
          if (!failure)
            failure = weights(graph);
      }
    });
    return failure;
  }

  const ModelFile &file;
  ModelSummary &summary;
  std::map<const onnx::FunctionProto *, Counts> functionCounts;
};

} // namespace

llvm::Expected<ModelSummary> summarize(const ModelFile &file) {
  const onnx::ModelProto &model = file.model();
  ModelSummary summary;
  summary.path = file.path().str();
  summary.producer = model.producer_name();
  if (!model.producer_version().empty())
    summary.producer += (summary.producer.empty() ? "" : " ") + model.producer_version();
  summary.irVersion = model.ir_version();
  summary.opset = file.opset();

  llvm::DenseSet<llvm::StringRef> initializers; // before IR version 4 these are listed among the inputs
  for (const onnx::TensorProto &initializer : model.graph().initializer())
    initializers.insert(initializer.name());
  for (const onnx::ValueInfoProto &input : model.graph().input()) {
    if (initializers.contains(input.name()))
      continue;
    llvm::Expected<ModelSummary::Port> port = describePort(input, "input");
    if (!port)
      return inFile(port.takeError(), file.path());
    summary.inputs.push_back(std::move(*port));
  }
  for (const onnx::ValueInfoProto &output : model.graph().output()) {
    llvm::Expected<ModelSummary::Port> port = describePort(output, "output");
    if (!port)
      return inFile(port.takeError(), file.path());
    summary.outputs.push_back(std::move(*port));
  }
  if (llvm::Error error = Summarizer(file, summary).graph(model.graph()))
    return inFile(std::move(error), file.path());
  return summary;
}

} // namespace quadrille::graph
