// The local functions of a model: which node calls which, and that no call leads back to itself.
#pragma once

#include "graph/onnx/ModelFile.h"

#include "llvm/ADT/STLFunctionalExtras.h"

#include <onnx/onnx_pb.h>

#include <map>
#include <tuple>

namespace quadrille::graph {

class FunctionTable {
public:
  // `model` must stay where it is. Errors: nameless and duplicate functions, recursion, calls nested deeper than 100,
  // expansion beyond maximumExpandedNodes, default attributes that are graphs.
  static llvm::Expected<FunctionTable> build(const onnx::ModelProto &model);

  const onnx::FunctionProto *find(const onnx::NodeProto &node) const;
  const std::vector<onnx::AttributeProto> &defaults(const onnx::FunctionProto &function) const;

private:
  using Key = std::tuple<std::string, std::string, std::string>; // domain, name, overload
  std::map<Key, const onnx::FunctionProto *> functions;
  std::map<const onnx::FunctionProto *, std::vector<onnx::AttributeProto>> defaultAttributes;
};

using Nodes = google::protobuf::RepeatedPtrField<onnx::NodeProto>;

// Every node, followed by those of its subgraphs.
void forEachNode(const Nodes &nodes, llvm::function_ref<void(const onnx::NodeProto &)> visit);

// "Conv", "com.example::Silu".
std::string qualifiedOperator(const onnx::NodeProto &node);

} // namespace quadrille::graph
