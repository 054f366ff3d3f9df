#include "graph/onnx/FunctionTable.h"

#include "base/Error.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/MathExtras.h"

namespace quadrille::graph {

llvm::StringRef canonicalDomain(llvm::StringRef domain) {
  return domain == "ai.onnx" ? "" : domain;
}

static std::string qualified(llvm::StringRef domain, llvm::StringRef name) {
  domain = canonicalDomain(domain);
  return domain.empty() ? name.str() : (domain + "::" + name).str();
}

std::string qualifiedOperator(const onnx::NodeProto &node) {
  return qualified(node.domain(), node.op_type());
}

void forEachNode(const Nodes &nodes, llvm::function_ref<void(const onnx::NodeProto &)> visit) {
  for (const onnx::NodeProto &node : nodes) {
    visit(node);
    for (const onnx::AttributeProto &attribute : node.attribute()) {
      if (attribute.has_g())
        forEachNode(attribute.g().node(), visit);
      for (const onnx::GraphProto &graph : attribute.graphs())
        forEachNode(graph.node(), visit);
    }
  }
}

// Fields that are newer than the installed schema (ONNX 1.12) are kept as unknown ones.
static std::string unknownString(const google::protobuf::UnknownFieldSet &fields, int number) {
  std::string text;
  for (int i = 0; i < fields.field_count(); ++i) {
    const google::protobuf::UnknownField &field = fields.field(i);
    if (field.number() == number && field.type() == google::protobuf::UnknownField::TYPE_LENGTH_DELIMITED)
      text = field.length_delimited();
  }
  return text;
}

constexpr int nodeOverloadField = 8, functionOverloadField = 13, functionAttributeProtoField = 11;
constexpr size_t maximumCallDepth = 100;

const onnx::FunctionProto *FunctionTable::find(const onnx::NodeProto &node) const {
  if (functions.empty())
    return nullptr;
  auto found = functions.find(Key(canonicalDomain(node.domain()).str(), node.op_type(),
                                  unknownString(node.unknown_fields(), nodeOverloadField)));
  return found == functions.end() ? nullptr : found->second;
}

const std::vector<onnx::AttributeProto> &FunctionTable::defaults(const onnx::FunctionProto &function) const {
  static const std::vector<onnx::AttributeProto> none;
  auto found = defaultAttributes.find(&function);
  return found == defaultAttributes.end() ? none : found->second;
}

namespace {

// Nodes of a function or graph with every call replaced by the callee's nodes.
class Expansion {
public:
  explicit Expansion(const FunctionTable &table) : table(table) {}

  llvm::Expected<uint64_t> count(const onnx::FunctionProto &function) {
    auto known = counts.find(&function);
    if (known != counts.end())
      return known->second;
    std::string name = qualified(function.domain(), function.name());
    for (size_t i = 0; i < stack.size(); ++i)
      if (stack[i] == &function) {
        std::string circle;
        for (; i < stack.size(); ++i)
          circle += qualified(stack[i]->domain(), stack[i]->name()) + " -> ";
        return userError("local functions call each other in a circle: " + circle + name,
                         {"", "function '" + name + "'"});
      }
    if (stack.size() == maximumCallDepth)
      return userError("calls of local functions nest deeper than " + llvm::Twine(maximumCallDepth),
                       {"", "function '" + name + "'"});
    stack.push_back(&function);
    llvm::Expected<uint64_t> total = count(function.node());
    stack.pop_back();
    if (total)
      counts[&function] = *total;
    return total;
  }

  llvm::Expected<uint64_t> count(const Nodes &nodes) {
    uint64_t total = 0;
    llvm::Error failure = llvm::Error::success();
    forEachNode(nodes, [&](const onnx::NodeProto &node) {
      if (failure)
        return;
      uint64_t nodesOfCall = 1;
      if (const onnx::FunctionProto *callee = table.find(node)) {
        llvm::Expected<uint64_t> expanded = count(*callee);
        if (!expanded) {
          failure = expanded.takeError();
          return;
        }
        nodesOfCall = *expanded;
      }
      total = llvm::SaturatingAdd(total, nodesOfCall);
    });
    if (failure)
      return std::move(failure);
    return total;
  }

private:
  const FunctionTable &table;
  llvm::DenseMap<const onnx::FunctionProto *, uint64_t> counts;
  llvm::SmallVector<const onnx::FunctionProto *> stack;
};

} // namespace

llvm::Expected<FunctionTable> FunctionTable::build(const onnx::ModelProto &model) {
  FunctionTable table;
  for (const onnx::FunctionProto &function : model.functions()) {
    std::string name = qualified(function.domain(), function.name());
    Where where = {"", "function '" + name + "'"};
    if (function.name().empty())
      return userError("a local function has no name", where);
    std::string overload = unknownString(function.unknown_fields(), functionOverloadField);
    if (!table.functions.emplace(Key(canonicalDomain(function.domain()).str(), function.name(), overload), &function)
             .second)
      return userError("the function is defined twice", where);

    const google::protobuf::UnknownFieldSet &fields = function.unknown_fields();
    for (int i = 0; i < fields.field_count(); ++i) {
      const google::protobuf::UnknownField &field = fields.field(i);
      if (field.number() != functionAttributeProtoField ||
          field.type() != google::protobuf::UnknownField::TYPE_LENGTH_DELIMITED)
        continue;
      onnx::AttributeProto attribute;
      if (!attribute.ParseFromString(field.length_delimited()))
        return userError("a default attribute is malformed", where);
      if (attribute.name().empty())
        return userError("a default attribute has no name", where);
      if (attribute.has_g() || attribute.graphs_size() != 0)
        return userError("the default of attribute '" + attribute.name() + "' is a graph, which is not supported",
                         where);
      table.defaultAttributes[&function].push_back(std::move(attribute));
    }
  }

  Expansion expansion(table);
  for (const onnx::FunctionProto &function : model.functions())
    if (llvm::Expected<uint64_t> nodes = expansion.count(function); !nodes)
      return nodes.takeError();
  llvm::Expected<uint64_t> nodes = expansion.count(model.graph().node());
  if (!nodes)
    return nodes.takeError();
  if (*nodes > static_cast<uint64_t>(maximumExpandedNodes))
    return userError("with its local functions inlined the model has more than " + llvm::Twine(maximumExpandedNodes) +
                     " nodes");
  return table;
}

} // namespace quadrille::graph
