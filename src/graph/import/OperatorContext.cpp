#include "graph/import/OperatorContext.h"

#include "base/Error.h"
#include "graph/onnx/DataType.h"
#include "graph/onnx/ModelFile.h"

#include <onnx/onnx_pb.h>

namespace quadrille::graph::importer {

void refuse(const llvm::Twine &message, const llvm::Twine &remedy) {
  throw Refusal{message.str(), remedy.str(), false};
}

void refuseUnsupported(const llvm::Twine &message) {
  throw Refusal{message.str(), "", true};
}

const std::string &OperatorContext::name() const {
  return node.name();
}

const std::string &OperatorContext::operation() const {
  return node.op_type();
}

static llvm::StringRef typeName(int type) {
  switch (type) {
  case onnx::AttributeProto::INT:
    return "an integer";
  case onnx::AttributeProto::FLOAT:
    return "a float";
  case onnx::AttributeProto::STRING:
    return "a string";
  case onnx::AttributeProto::INTS:
    return "a list of integers";
  case onnx::AttributeProto::FLOATS:
    return "a list of floats";
  case onnx::AttributeProto::STRINGS:
    return "a list of strings";
  case onnx::AttributeProto::TENSOR:
    return "a tensor";
  case onnx::AttributeProto::GRAPH:
    return "a graph";
  default:
    return "another type";
  }
}

const onnx::AttributeProto *OperatorContext::find(llvm::StringRef name, int type) {
  asked.insert(name.str());
  for (const onnx::AttributeProto &attribute : node.attribute()) {
    if (attribute.name() != name)
      continue;
    const onnx::AttributeProto *found = &attribute;
    if (!attribute.ref_attr_name().empty()) {
      auto bound = frame.find(attribute.ref_attr_name());
      if (bound == frame.end())
        return nullptr; // the call leaves it out: the operator's own default holds
      found = bound->second;
    }
    if (type != onnx::AttributeProto::UNDEFINED && found->type() != type)
      refuse("attribute '" + name + "' is " + typeName(found->type()) + " instead of " + typeName(type));
    return found;
  }
  return nullptr;
}

[[noreturn]] static void missing(llvm::StringRef name) {
  refuse("required attribute '" + name + "' is missing");
}

bool OperatorContext::has(llvm::StringRef name) {
  return find(name, onnx::AttributeProto::UNDEFINED) != nullptr;
}

int64_t OperatorContext::integer(llvm::StringRef name, std::optional<int64_t> otherwise) {
  if (const onnx::AttributeProto *attribute = find(name, onnx::AttributeProto::INT))
    return attribute->i();
  if (!otherwise)
    missing(name);
  return *otherwise;
}

double OperatorContext::real(llvm::StringRef name, std::optional<double> otherwise) {
  if (const onnx::AttributeProto *attribute = find(name, onnx::AttributeProto::FLOAT))
    return attribute->f();
  if (!otherwise)
    missing(name);
  // An attribute is a 32-bit float; so is its default.
  return static_cast<float>(*otherwise);
}

std::string OperatorContext::text(llvm::StringRef name, std::optional<std::string> otherwise) {
  if (const onnx::AttributeProto *attribute = find(name, onnx::AttributeProto::STRING))
    return attribute->s();
  if (!otherwise)
    missing(name);
  return *otherwise;
}

std::vector<int64_t> OperatorContext::integerList(llvm::StringRef name, std::vector<int64_t> otherwise) {
  if (const onnx::AttributeProto *attribute = find(name, onnx::AttributeProto::INTS))
    return {attribute->ints().begin(), attribute->ints().end()};
  return otherwise;
}

std::vector<double> OperatorContext::realList(llvm::StringRef name, std::vector<double> otherwise) {
  if (const onnx::AttributeProto *attribute = find(name, onnx::AttributeProto::FLOATS))
    return {attribute->floats().begin(), attribute->floats().end()};
  return otherwise;
}

std::vector<std::string> OperatorContext::textList(llvm::StringRef name) {
  if (const onnx::AttributeProto *attribute = find(name, onnx::AttributeProto::STRINGS))
    return {attribute->strings().begin(), attribute->strings().end()};
  return {};
}

TensorRef OperatorContext::tensorAttribute(llvm::StringRef name) {
  const onnx::AttributeProto *attribute = find(name, onnx::AttributeProto::TENSOR);
  if (!attribute)
    return {};
  llvm::Expected<WeightData> data = file.weight(attribute->t());
  if (!data)
    refuse(report(data.takeError()).message);
  return weight(*data, name);
}

std::optional<ElementType> OperatorContext::elementType(llvm::StringRef name) {
  int64_t code = integer(name, 0);
  if (code == 0)
    return std::nullopt;
  llvm::Expected<ElementType> type = elementTypeOfCode(static_cast<int32_t>(code));
  if (!type)
    refuseUnsupported("attribute '" + name + "': " + report(type.takeError()).message);
  return *type;
}

const onnx::AttributeProto *OperatorContext::graphAttribute(llvm::StringRef name) {
  return find(name, onnx::AttributeProto::GRAPH);
}

void OperatorContext::refuseUnknownAttributes() {
  for (const onnx::AttributeProto &attribute : node.attribute())
    if (!asked.count(attribute.name()))
      refuseUnsupported("attribute '" + attribute.name() + "' is not known in operator set " + llvm::Twine(opset));
}

TensorRef OperatorContext::operand(unsigned index) {
  TensorRef tensor = optional(index);
  if (!tensor)
    refuse("operand " + llvm::Twine(index) + " is missing");
  return tensor;
}

TensorRef OperatorContext::optional(unsigned index) const {
  return index < operands.size() ? operands[index] : TensorRef();
}

std::vector<TensorRef> OperatorContext::allOperands() {
  if (operands.empty())
    refuse("there are no operands");
  for (unsigned i = 0; i < operands.size(); ++i)
    operand(i);
  return operands;
}

Tensor OperatorContext::known(unsigned index, llvm::StringRef what) {
  TensorRef tensor = operand(index);
  if (tensor.known())
    return tensor.constant();
  if (tensor->weight)
    refuse(what + " (operand " + llvm::Twine(index) + ", '" + tensor->name +
           "') must be known at import, but the weight's data is absent");
  refuse(what + " (operand " + llvm::Twine(index) + ", '" + node.input(static_cast<int>(index)) +
             "') must be known at import, but it depends on the values of the model's inputs",
         "bind the input that it comes from with --bind NAME=VALUE");
}

std::vector<int64_t> OperatorContext::knownIntegers(unsigned index, llvm::StringRef what) {
  Tensor tensor = known(index, what);
  if (isFloat(tensor.type()))
    refuse(what + " (operand " + llvm::Twine(index) + ") has type " + nameOf(tensor.type()) +
           " instead of an integer type");
  if (tensor.elements() > 1 << 20)
    refuse(what + " (operand " + llvm::Twine(index) + ") has " + llvm::Twine(tensor.elements()) + " elements");
  return valuesOf<int64_t>(tensor);
}

int64_t OperatorContext::knownInteger(unsigned index, llvm::StringRef what) {
  std::vector<int64_t> values = knownIntegers(index, what);
  if (values.size() != 1)
    refuse(what + " (operand " + llvm::Twine(index) + ") has " + llvm::Twine(values.size()) + " elements instead of 1");
  return values[0];
}

std::optional<std::vector<int64_t>> OperatorContext::integersFrom(llvm::StringRef attribute, unsigned index) {
  if (has(attribute))
    return integerList(attribute);
  if (optional(index))
    return knownIntegers(index, attribute);
  return std::nullopt;
}

void OperatorContext::requireFloat(TensorRef tensor) {
  if (!isFloat(tensor.type()))
    refuse(llvm::Twine(operation()) + " is not defined for elements of type " + nameOf(tensor.type()));
}

void OperatorContext::requireSameType(llvm::ArrayRef<TensorRef> tensors) {
  for (TensorRef tensor : tensors)
    if (tensor.type() != tensors.front().type())
      refuse("operands have different element types: " + nameOf(tensors.front().type()) + " and " +
             nameOf(tensor.type()));
}

unsigned OperatorContext::resultCount() const {
  return static_cast<unsigned>(node.output_size());
}

bool OperatorContext::wants(unsigned index) const {
  return index < resultCount() && !node.output(static_cast<int>(index)).empty();
}

void OperatorContext::result(unsigned index, TensorRef tensor) {
  if (index < results.size())
    results[index] = tensor;
}

const OperatorTable &OperatorTable::get() {
  static const OperatorTable table = [] {
    OperatorTable all;
    addElementwise(all);
    addLogical(all);
    addActivations(all);
    addReductions(all);
    addResampling(all);
    addLosses(all);
    addMatrixProducts(all);
    addAttention(all);
    addLinearAttention(all);
    addConvolutions(all);
    addPooling(all);
    addNormalizations(all);
    addMovement(all);
    addIndexing(all);
    addGenerators(all);
    addQuantization(all);
    addRecurrent(all);
    addSignal(all);
    addSampling(all);
    addTraining(all);
    addRandom(all);
    addSelection(all);
    addTextStatistics(all);
    addDeterminant(all);
    return all;
  }();
  return table;
}

OperatorFunction OperatorTable::find(llvm::StringRef qualifiedName) const {
  auto found = functions.find(qualifiedName.str());
  return found == functions.end() ? nullptr : found->second;
}

std::vector<std::string> OperatorTable::names() const {
  std::vector<std::string> result;
  for (const auto &[name, function] : functions)
    result.push_back(name);
  return result;
}

llvm::StringRef whyInexpressible(llvm::StringRef qualifiedName) {
  if (qualifiedName.starts_with("ai.onnx.ml::"))
    return "classical machine learning (ai.onnx.ml) is not had";
  static const std::map<llvm::StringRef, llvm::StringRef> reasons = [] {
    std::map<llvm::StringRef, llvm::StringRef> all;
    auto add = [&](llvm::StringRef reason, llvm::ArrayRef<llvm::StringLiteral> names) {
      for (llvm::StringRef name : names)
        all[name] = reason;
    };
    add("strings are not had", {"RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit"});
    add("sequences are not had", sequenceMakers);
    add("sequences are not had", sequenceUsers);
    add("sequences are not had", {"SequenceMap"});
    add("optionals are not had", {"Optional"});
    add("it decodes the bytes of image files, which no tensor program does", {"ImageDecoder"});
    add("the result's shape depends on values; it is computed at import where those are known",
        {"Compress", "NonMaxSuppression", "NonZero", "Unique"});
    return all;
  }();
  auto found = reasons.find(qualifiedName);
  return found == reasons.end() ? llvm::StringRef() : found->second;
}

} // namespace quadrille::graph::importer
