#include "graph/onnx/Validate.h"

#include "base/Error.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallPtrSet.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/Twine.h"

namespace quadrille::graph {

using onnx::AttributeProto;
using onnx::GraphProto;
using onnx::NodeProto;

//===--------------------------------------------------------------------------------------------------------------===//
// Versions and names
//===--------------------------------------------------------------------------------------------------------------===//

using OperatorSets = google::protobuf::RepeatedPtrField<onnx::OperatorSetIdProto>;

static llvm::Error validateOperatorSets(const OperatorSets &sets, Where where) {
  llvm::StringSet<> domains;
  for (const onnx::OperatorSetIdProto &set : sets) {
    llvm::StringRef domain = canonicalDomain(set.domain());
    if (!domains.insert(domain).second)
      return userError("operator set '" + set.domain() + "' is imported twice", where);
    if (domain.empty() && (set.version() < minimumOpset || set.version() > maximumOpset))
      return userError("operator set version " + llvm::Twine(set.version()) + " is not supported; versions " +
                           llvm::Twine(minimumOpset) + " to " + llvm::Twine(maximumOpset) + " are",
                       where, "convert the model with onnx.version_converter");
  }
  return llvm::Error::success();
}

llvm::Error validateVersions(const onnx::ModelProto &model) {
  if (!model.has_ir_version())
    return userError("the model has no IR version");
  if (model.ir_version() < minimumIrVersion || model.ir_version() > maximumIrVersion)
    return userError("IR version " + llvm::Twine(model.ir_version()) + " is not supported; versions " +
                         llvm::Twine(minimumIrVersion) + " to " + llvm::Twine(maximumIrVersion) + " are",
                     {}, "export the model with another version of ONNX");
  if (llvm::Error error = validateOperatorSets(model.opset_import(), {}))
    return error;
  for (const onnx::FunctionProto &function : model.functions())
    if (llvm::Error error = validateOperatorSets(function.opset_import(), {"", "function '" + function.name() + "'"}))
      return error;
  auto importsDefault = [](const OperatorSets &sets) {
    return llvm::any_of(sets, [](const auto &set) { return canonicalDomain(set.domain()).empty(); });
  };
  if (importsDefault(model.opset_import()))
    return llvm::Error::success();
  bool needsDefault = false;
  auto visit = [&](const NodeProto &node) { needsDefault |= canonicalDomain(node.domain()).empty(); };
  forEachNode(model.graph().node(), visit);
  for (const onnx::FunctionProto &function : model.functions())
    if (!importsDefault(function.opset_import()))
      forEachNode(function.node(), visit);
  if (needsDefault)
    return userError("the model does not say which version of ONNX's operators it uses (opset_import)");
  return llvm::Error::success();
}

namespace {
using MutableNodes = google::protobuf::RepeatedPtrField<NodeProto>;

// Every node, followed by those of its subgraphs, as forEachNode does.
template <typename Visit> void forEachMutableNode(MutableNodes &nodes, Visit visit) {
  for (NodeProto &node : nodes) {
    visit(node);
    for (AttributeProto &attribute : *node.mutable_attribute()) {
      if (attribute.has_g())
        forEachMutableNode(*attribute.mutable_g()->mutable_node(), visit);
      for (GraphProto &graph : *attribute.mutable_graphs())
        forEachMutableNode(*graph.mutable_node(), visit);
    }
  }
}
} // namespace

llvm::Error nameNodes(onnx::ModelProto &model) {
  auto forAll = [&](auto visit) {
    forEachMutableNode(*model.mutable_graph()->mutable_node(), visit);
    for (onnx::FunctionProto &function : *model.mutable_functions())
      forEachMutableNode(*function.mutable_node(), visit);
  };
  llvm::StringSet<> taken;
  int64_t index = 0, withoutOperator = -1;
  forAll([&](NodeProto &node) {
    if (!node.name().empty())
      taken.insert(node.name());
    if (node.op_type().empty() && withoutOperator < 0)
      withoutOperator = index;
    ++index;
  });
  if (withoutOperator >= 0)
    return userError("node number " + llvm::Twine(withoutOperator) + " has no operator (op_type)");
  index = 0;
  forAll([&](NodeProto &node) {
    if (node.name().empty()) {
      std::string name = node.op_type() + "_" + std::to_string(index);
      while (!taken.insert(name).second)
        name += "_";
      node.set_name(name);
    }
    ++index;
  });
  return llvm::Error::success();
}

//===--------------------------------------------------------------------------------------------------------------===//
// Attributes
//===--------------------------------------------------------------------------------------------------------------===//

// The types of all values that an attribute holds; a well-formed one holds one, or an empty list.
static llvm::SmallVector<AttributeProto::AttributeType, 2> heldTypes(const AttributeProto &attribute) {
  llvm::SmallVector<AttributeProto::AttributeType, 2> types;
  auto add = [&](bool holds, AttributeProto::AttributeType type) {
    if (holds)
      types.push_back(type);
  };
  add(attribute.has_f(), AttributeProto::FLOAT);
  add(attribute.has_i(), AttributeProto::INT);
  add(attribute.has_s(), AttributeProto::STRING);
  add(attribute.has_t(), AttributeProto::TENSOR);
  add(attribute.has_g(), AttributeProto::GRAPH);
  add(attribute.has_sparse_tensor(), AttributeProto::SPARSE_TENSOR);
  add(attribute.has_tp(), AttributeProto::TYPE_PROTO);
  add(attribute.floats_size() != 0, AttributeProto::FLOATS);
  add(attribute.ints_size() != 0, AttributeProto::INTS);
  add(attribute.strings_size() != 0, AttributeProto::STRINGS);
  add(attribute.tensors_size() != 0, AttributeProto::TENSORS);
  add(attribute.graphs_size() != 0, AttributeProto::GRAPHS);
  add(attribute.sparse_tensors_size() != 0, AttributeProto::SPARSE_TENSORS);
  add(attribute.type_protos_size() != 0, AttributeProto::TYPE_PROTOS);
  return types;
}

static llvm::Error validateAttributes(NodeProto &node, bool inFunction) {
  Where where = {"", node.name()};
  llvm::SmallDenseSet<llvm::StringRef, 8> names;
  for (AttributeProto &attribute : *node.mutable_attribute()) {
    if (attribute.name().empty())
      return userError("an attribute has no name", where);
    std::string shown = "attribute '" + attribute.name() + "'";
    if (!names.insert(attribute.name()).second)
      return userError(shown + " is given twice", where);
    auto held = heldTypes(attribute);
    if (!attribute.ref_attr_name().empty()) {
      if (!inFunction)
        return userError(shown + " refers to a function's attribute outside a function", where);
      if (!held.empty())
        return userError(shown + " has a value and refers to a function's attribute", where);
      continue;
    }
    if (held.size() > 1)
      return userError(shown + " holds both " + AttributeProto::AttributeType_Name(held[0]) + " and " +
                           AttributeProto::AttributeType_Name(held[1]),
                       where);
    if (attribute.type() == AttributeProto::UNDEFINED) {
      if (held.empty())
        return userError(shown + " has neither a type nor a value", where);
      attribute.set_type(held[0]);
    }
    if (!held.empty() && held[0] != attribute.type())
      return userError(shown + " has the type " + AttributeProto::AttributeType_Name(attribute.type()) + " but holds " +
                           AttributeProto::AttributeType_Name(held[0]),
                       where);
    // Numbers, strings and lists that are left out have their default; tensors and graphs do not.
    switch (attribute.type()) {
    case AttributeProto::TENSOR:
    case AttributeProto::GRAPH:
    case AttributeProto::SPARSE_TENSOR:
    case AttributeProto::TYPE_PROTO:
      if (held.empty())
        return userError(shown + " has the type " + AttributeProto::AttributeType_Name(attribute.type()) +
                             " but holds nothing",
                         where);
      break;
    default:
      break;
    }
  }
  return llvm::Error::success();
}

//===--------------------------------------------------------------------------------------------------------------===//
// Values
//===--------------------------------------------------------------------------------------------------------------===//

namespace {

// Names in one graph or function. Strings belong to the model.
struct Scope {
  const Scope *outer = nullptr;
  llvm::DenseMap<llvm::StringRef, const NodeProto *> defined;   // so far; null: input or initializer
  llvm::DenseMap<llvm::StringRef, const NodeProto *> producers; // by all nodes of this graph

  const NodeProto *producer(llvm::StringRef name) const {
    for (const Scope *scope = this; scope; scope = scope->outer)
      if (auto found = scope->producers.find(name); found != scope->producers.end())
        return found->second;
    return nullptr;
  }
  bool sees(llvm::StringRef name) const {
    for (const Scope *scope = this; scope; scope = scope->outer)
      if (scope->defined.contains(name))
        return true;
    return false;
  }
};

template <typename Visit> void forEachUse(const NodeProto &node, Visit visit) {
  for (const std::string &input : node.input())
    visit(llvm::StringRef(input));
  for (const AttributeProto &attribute : node.attribute()) {
    auto uses = [&](const GraphProto &graph) {
      forEachNode(graph.node(), [&](const NodeProto &inner) {
        for (const std::string &input : inner.input())
          visit(llvm::StringRef(input));
      });
      for (const onnx::ValueInfoProto &output : graph.output())
        visit(llvm::StringRef(output.name()));
    };
    if (attribute.has_g())
      uses(attribute.g());
    for (const GraphProto &graph : attribute.graphs())
      uses(graph);
  }
}

// Whether `node` needs, directly or through others of its graph, a value that `target` defines.
bool dependsOn(const NodeProto &node, const NodeProto &target, const Scope &scope) {
  llvm::SmallPtrSet<const NodeProto *, 16> visited;
  llvm::SmallVector<const NodeProto *> pending = {&node};
  while (!pending.empty()) {
    const NodeProto *current = pending.pop_back_val();
    if (current == &target)
      return true;
    if (!visited.insert(current).second)
      continue;
    forEachUse(*current, [&](llvm::StringRef name) {
      if (auto found = scope.producers.find(name); found != scope.producers.end())
        pending.push_back(found->second);
    });
  }
  return false;
}

llvm::Error unknownInput(const NodeProto &node, const std::string &name, const Scope &scope) {
  Where where = {"", node.name()};
  const NodeProto *producer = scope.producer(name);
  if (!producer)
    return userError("input '" + name + "' is not defined by any node, input or initializer", where);
  if (dependsOn(*producer, node, scope))
    return userError("input '" + name + "' comes from node '" + producer->name() +
                         "', which needs this node: the graph has a cycle",
                     where);
  return userError("input '" + name + "' is used before node '" + producer->name() + "' defines it", where,
                   "sort the nodes of the model topologically");
}

llvm::Error validateRank(const onnx::ValueInfoProto &value, Where where) {
  if (value.type().tensor_type().shape().dim_size() > maximumRank)
    return userError("value '" + value.name() + "' has more than " + llvm::Twine(maximumRank) + " dimensions", where);
  return llvm::Error::success();
}

llvm::Error validateNodes(MutableNodes &nodes, Scope &scope, bool inFunction);

llvm::Error validateGraph(GraphProto &graph, const Scope *outer, Where where, bool inFunction) {
  Scope scope;
  scope.outer = outer;
  for (const onnx::ValueInfoProto &input : graph.input()) {
    if (input.name().empty())
      return userError("an input of the graph has no name", where);
    if (!scope.defined.try_emplace(input.name(), nullptr).second)
      return userError("graph input '" + input.name() + "' is declared twice", where);
    if (!outer && input.type().value_case() == onnx::TypeProto::VALUE_NOT_SET)
      return userError("graph input '" + input.name() + "' has no type", where);
  }
  for (const auto *values : {&graph.input(), &graph.output(), &graph.value_info()})
    for (const onnx::ValueInfoProto &value : *values)
      if (llvm::Error error = validateRank(value, where))
        return error;
  llvm::DenseSet<llvm::StringRef> initializers;
  for (const onnx::TensorProto &initializer : graph.initializer()) {
    if (initializer.name().empty())
      return userError("an initializer has no name", where);
    if (!initializers.insert(initializer.name()).second)
      return userError("initializer '" + initializer.name() + "' is given twice", where);
    scope.defined.try_emplace(initializer.name(), nullptr); // an input of the same name has it as its default
  }
  if (graph.sparse_initializer_size() != 0)
    return userError("sparse initializer '" + graph.sparse_initializer(0).values().name() + "' is not supported", where,
                     "export the model with dense weights");
  if (llvm::Error error = validateNodes(*graph.mutable_node(), scope, inFunction))
    return error;
  for (const onnx::ValueInfoProto &output : graph.output()) {
    if (output.name().empty())
      return userError("an output of the graph has no name", where);
    if (!scope.sees(output.name()))
      return userError("graph output '" + output.name() + "' is not defined by any node, input or initializer", where);
  }
  return llvm::Error::success();
}

llvm::Error validateNodes(MutableNodes &nodes, Scope &scope, bool inFunction) {
  for (const NodeProto &node : nodes)
    for (const std::string &output : node.output())
      if (!output.empty())
        scope.producers.try_emplace(output, &node);
  for (NodeProto &node : nodes) {
    if (llvm::Error error = validateAttributes(node, inFunction))
      return error;
    for (const std::string &input : node.input())
      if (!input.empty() && !scope.sees(input))
        return unknownInput(node, input, scope);
    for (AttributeProto &attribute : *node.mutable_attribute()) {
      Where where = {"", node.name() + " (" + attribute.name() + ")"};
      if (attribute.has_g())
        if (llvm::Error error = validateGraph(*attribute.mutable_g(), &scope, where, inFunction))
          return error;
      for (GraphProto &graph : *attribute.mutable_graphs())
        if (llvm::Error error = validateGraph(graph, &scope, where, inFunction))
          return error;
    }
    for (const std::string &output : node.output()) {
      if (output.empty()) // an optional output that is not wanted
        continue;
      auto [known, isNew] = scope.defined.try_emplace(output, &node);
      if (!isNew)
        return userError(
            "output '" + output + "' is already defined by " +
                (known->second ? "node '" + known->second->name() + "'" : std::string("an input or an initializer")),
            {"", node.name()});
    }
  }
  return llvm::Error::success();
}

} // namespace

llvm::Error validateGraphs(onnx::ModelProto &model) {
  if (llvm::Error error = validateGraph(*model.mutable_graph(), nullptr, {}, /*inFunction=*/false))
    return error;
  for (onnx::FunctionProto &function : *model.mutable_functions()) {
    Where where = {"", "function '" + function.name() + "'"};
    Scope scope;
    for (const std::string &input : function.input()) {
      if (input.empty())
        return userError("an input of the function has no name", where);
      if (!scope.defined.try_emplace(input, nullptr).second)
        return userError("function input '" + input + "' is declared twice", where);
    }
    if (llvm::Error error = validateNodes(*function.mutable_node(), scope, /*inFunction=*/true))
      return error;
    for (const std::string &output : function.output())
      if (!scope.sees(output))
        return userError("function output '" + output + "' is not defined by any node or input", where);
  }
  return llvm::Error::success();
}

} // namespace quadrille::graph
