#include "graph/import/InputShapes.h"

#include "base/Error.h"
#include "graph/onnx/DataType.h"

#include <onnx/onnx_pb.h>

#include "llvm/ADT/StringSet.h"

namespace quadrille::graph::importer {

static std::string shapeOf(const onnx::TensorShapeProto &shape) {
  std::string text = "[";
  for (int d = 0; d < shape.dim_size(); ++d) {
    const auto &dimension = shape.dim(d);
    text += d ? "," : "";
    text += dimension.has_dim_value()       ? std::to_string(dimension.dim_value())
            : dimension.dim_param().empty() ? "?"
                                            : dimension.dim_param();
  }
  return text + "]";
}

static bool isSymbolic(const onnx::TensorShapeProto::Dimension &dimension) {
  return !dimension.has_dim_value() || dimension.dim_value() < 0;
}

namespace {
class Resolver {
public:
  Resolver(const ModelFile &file, const ImportOptions &options)
      : file(file), graph(file.model().graph()), options(options), values(options.dimensions) {
    for (const onnx::TensorProto &weight : graph.initializer())
      weights.insert(weight.name());
    for (const onnx::SparseTensorProto &weight : graph.sparse_initializer())
      weights.insert(weight.values().name());
  }

  llvm::Expected<std::vector<InputPort>> run() {
    if (llvm::Error error = checkNames())
      return std::move(error);
    if (llvm::Error error = takeExampleShapes())
      return std::move(error);
    if (llvm::Error error = takeBatch())
      return std::move(error);
    std::vector<InputPort> ports;
    for (const onnx::ValueInfoProto &input : graph.input()) {
      if (!isPort(input))
        continue;
      llvm::Expected<InputPort> port = resolve(input);
      if (!port)
        return port.takeError();
      ports.push_back(std::move(*port));
    }
    return ports;
  }

private:
  bool isPort(const onnx::ValueInfoProto &input) const {
    return !weights.contains(input.name()) && !options.bindings.count(input.name());
  }

  Where where(const onnx::ValueInfoProto &input) const { return {file.path().str(), "input '" + input.name() + "'"}; }

  // The name by which --shape gives dimension `d` of an input its value.
  static std::string keyOf(const onnx::ValueInfoProto &input, int d) {
    const std::string &parameter = input.type().tensor_type().shape().dim(d).dim_param();
    return parameter.empty() ? input.name() + "." + std::to_string(d) : parameter;
  }

  llvm::Error checkNames() {
    llvm::StringSet<> inputs, symbols;
    std::string listing;
    for (const onnx::ValueInfoProto &input : graph.input()) {
      inputs.insert(input.name());
      const onnx::TensorShapeProto &shape = input.type().tensor_type().shape();
      for (int d = 0; d < shape.dim_size(); ++d)
        if (isSymbolic(shape.dim(d)) && !weights.contains(input.name()) && symbols.insert(keyOf(input, d)).second)
          listing += (listing.empty() ? "" : ", ") + keyOf(input, d);
    }
    for (const auto &[name, value] : options.dimensions) {
      if (!symbols.contains(name))
        return userError("no input has a symbolic dimension '" + name + "'", {file.path().str(), ""},
                         listing.empty() ? "all its dimensions are fixed" : "its symbolic dimensions are " + listing);
      if (value < 0)
        return userError("dimension '" + name + "' cannot be " + llvm::Twine(value), {file.path().str(), ""});
    }
    for (const auto &[name, shape] : options.inputShapes)
      if (!inputs.contains(name))
        return userError("the model has no input '" + name + "'", {file.path().str(), ""});
    return llvm::Error::success();
  }

  llvm::Error takeExampleShapes() {
    for (const onnx::ValueInfoProto &input : graph.input()) {
      auto example = options.inputShapes.find(input.name());
      if (!isPort(input) || example == options.inputShapes.end() || !input.type().tensor_type().has_shape())
        continue;
      const onnx::TensorShapeProto &shape = input.type().tensor_type().shape();
      if (static_cast<size_t>(shape.dim_size()) != example->second.size())
        return userError("the given shape has " + llvm::Twine(example->second.size()) + " dimensions, the model's " +
                             shapeOf(shape) + " has " + llvm::Twine(shape.dim_size()),
                         where(input));
      for (int d = 0; d < shape.dim_size(); ++d) {
        int64_t extent = example->second[d];
        if (!isSymbolic(shape.dim(d))) {
          if (extent != shape.dim(d).dim_value())
            return userError("dimension " + llvm::Twine(d) + " is " + llvm::Twine(shape.dim(d).dim_value()) +
                                 " in the model, but " + llvm::Twine(extent) + " is given",
                             where(input));
          continue;
        }
        auto [known, isNew] = values.emplace(keyOf(input, d), extent);
        if (known->second != extent)
          return userError("dimension '" + keyOf(input, d) + "' is " + llvm::Twine(known->second) + " elsewhere and " +
                               llvm::Twine(extent) + " here",
                           where(input));
      }
    }
    return llvm::Error::success();
  }

  // The first symbolic dimension of every input is its batch.
  llvm::Error takeBatch() {
    if (options.batch == 0)
      return llvm::Error::success();
    if (options.batch < 0)
      return userError("the batch cannot be " + llvm::Twine(options.batch), {file.path().str(), ""});
    bool taken = false;
    const onnx::ValueInfoProto *fixed = nullptr;
    for (const onnx::ValueInfoProto &input : graph.input()) {
      if (!isPort(input))
        continue;
      const onnx::TensorShapeProto &shape = input.type().tensor_type().shape();
      bool open = false;
      for (int d = 0; d < shape.dim_size() && !open; ++d) {
        if (!isSymbolic(shape.dim(d)))
          continue;
        open = taken = true;
        std::string key = keyOf(input, d);
        auto [known, isNew] = values.emplace(key, options.batch);
        if (!isNew && known->second != options.batch)
          return userError("--batch gives dimension '" + key + "' the value " + llvm::Twine(options.batch) +
                               ", but it already is " + llvm::Twine(known->second),
                           where(input), "leave out --batch, or the other value");
        batchNames.insert(key);
      }
      if (!open && !fixed && shape.dim_size() > 0 && shape.dim(0).dim_value() != options.batch)
        fixed = &input;
    }
    if (!taken && fixed)
      return userError("the model's batch is fixed: the input has the static shape " +
                           shapeOf(fixed->type().tensor_type().shape()) + ", so a batch of " +
                           llvm::Twine(options.batch) + " cannot be given",
                       where(*fixed), "leave out --batch, or export the model with a dynamic batch");
    return llvm::Error::success();
  }

  llvm::Expected<InputPort> resolve(const onnx::ValueInfoProto &input) {
    if (!input.type().has_tensor_type())
      return userError("the input is no tensor; sequences, maps and optionals are not supported", where(input));
    llvm::Expected<ElementType> type = elementTypeOfCode(input.type().tensor_type().elem_type());
    if (!type)
      return atNode(inFile(type.takeError(), file.path()), where(input).node);
    InputPort port;
    port.name = input.name();
    port.type = *type;
    if (!input.type().tensor_type().has_shape()) {
      auto example = options.inputShapes.find(input.name());
      if (example == options.inputShapes.end())
        return userError("the model does not say how many dimensions the input has", where(input),
                         "give an example input, whose shape it takes");
      port.shape = example->second;
      return port;
    }
    const onnx::TensorShapeProto &shape = input.type().tensor_type().shape();
    bool first = true;
    for (int d = 0; d < shape.dim_size(); ++d) {
      if (!isSymbolic(shape.dim(d))) {
        port.shape.push_back(shape.dim(d).dim_value());
        continue;
      }
      std::string key = keyOf(input, d);
      auto value = values.find(key);
      if (value == values.end())
        return userError("dimension " + llvm::Twine(d) + " of " + shapeOf(shape) + " has no value", where(input),
                         "give it one with --shape " + key + "=1" + (first ? " or --batch 1" : ""));
      if (d == 0 && batchNames.contains(key))
        port.batched = true;
      port.shape.push_back(value->second);
      first = false;
    }
    return port;
  }

  const ModelFile &file;
  const onnx::GraphProto &graph;
  const ImportOptions &options;
  std::map<std::string, int64_t> values;
  llvm::StringSet<> weights, batchNames;
};
} // namespace

llvm::Expected<std::vector<InputPort>> resolveInputs(const ModelFile &file, const ImportOptions &options) {
  return Resolver(file, options).run();
}

llvm::Error checkBindings(const ModelFile &file, const ImportOptions &options) {
  for (const auto &[name, tensor] : options.bindings) {
    const onnx::ValueInfoProto *input = nullptr;
    for (const onnx::ValueInfoProto &candidate : file.model().graph().input())
      if (candidate.name() == name)
        input = &candidate;
    Where where = {file.path().str(), "input '" + name + "'"};
    if (!input)
      return userError("--bind names an input that the model does not have", where);
    const onnx::TypeProto::Tensor &declared = input->type().tensor_type();
    llvm::Expected<ElementType> type = elementTypeOfCode(declared.elem_type());
    if (!type)
      return atNode(inFile(type.takeError(), file.path()), where.node);
    bool fits = *type == tensor.type();
    if (fits && declared.has_shape()) {
      fits = static_cast<size_t>(declared.shape().dim_size()) == tensor.shape().size();
      for (int d = 0; fits && d < declared.shape().dim_size(); ++d)
        fits = isSymbolic(declared.shape().dim(d)) || declared.shape().dim(d).dim_value() == tensor.shape()[d];
    }
    if (!fits)
      return userError("the input is " + nameOf(*type) + shapeOf(declared.shape()) + ", but the bound value is " +
                           describe(tensor.type(), tensor.shape()),
                       where);
  }
  return llvm::Error::success();
}

} // namespace quadrille::graph::importer
