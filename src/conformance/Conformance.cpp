#include "conformance/Conformance.h"

#include "base/Error.h"
#include "base/File.h"
#include "conformance/HowOperands.h"
#include "driver/Compilation.h"
#include "driver/Inputs.h"
#include "graph/Model.h"
#include "graph/import/Importer.h"
#include "graph/onnx/FunctionTable.h"
#include "graph/onnx/ModelFile.h"
#include "numerics/Convert.h"
#include "target/Compare.h"
#include "target/Compile.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <onnx/onnx_pb.h>
#include <set>

namespace quadrille::conformance {

namespace {

// Names of inputs that some node takes as an operand that says how.
std::set<std::string> howInputs(const onnx::GraphProto &graph) {
  std::set<std::string> names;
  for (const onnx::NodeProto &node : graph.node())
    if (graph::canonicalDomain(node.domain()).empty())
      for (unsigned operand : howOperands(node.op_type()))
        if (static_cast<int>(operand) < node.input_size())
          names.insert(node.input(operand));
  return names;
}

// Element kinds and types of ports that no machine has; the reason, or empty.
std::string unsupportedPort(const onnx::GraphProto &graph) {
  auto look = [](const auto &ports) -> std::string {
    for (const onnx::ValueInfoProto &port : ports) {
      if (port.type().has_sequence_type())
        return "sequences are not had";
      if (port.type().has_optional_type())
        return "optionals are not had";
      if (port.type().has_map_type())
        return "maps are not had";
      if (port.type().tensor_type().elem_type() == onnx::TensorProto::STRING)
        return "strings are not had";
      if (port.type().tensor_type().elem_type() == onnx::TensorProto::COMPLEX64 ||
          port.type().tensor_type().elem_type() == onnx::TensorProto::COMPLEX128)
        return "complex numbers are not had";
    }
    return "";
  };
  std::string reason = look(graph.input());
  return reason.empty() ? look(graph.output()) : reason;
}

// Operators whose expected results are one draw of numpy's generator, which nobody else's generator gives. Dropout
// draws in training alone, but then its data does not agree either.
bool drawsRandomNumbers(const onnx::GraphProto &graph) {
  static const std::set<std::string> operators = {
      "Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"};
  for (const onnx::NodeProto &node : graph.node())
    if (graph::canonicalDomain(node.domain()).empty() && operators.count(node.op_type()))
      return true;
  return false;
}

// Why no machine's program can express the operator of a node that the message names; empty when it names none.
std::string inexpressible(const onnx::GraphProto &graph, llvm::StringRef message) {
  for (const onnx::NodeProto &node : graph.node()) {
    std::string operation = graph::qualifiedOperator(node);
    if (std::string reason = graph::whyInexpressible(operation);
        !reason.empty() && message.contains(operation + " \"" + node.name() + "\""))
      return operation + ": " + reason;
  }
  return "";
}

// Tolerances against ONNX's own data, by the type that the values were computed in: docs/design.md, "What passes
// conformance means". Absolute parts of the narrow types are relative to the largest magnitude expected.
struct Tolerance {
  double relative, absolute, ofLargest;
};
Tolerance toleranceOf(ElementType type) {
  switch (type) {
  case ElementType::f16:
    return {1e-2, 0, 2e-3};
  case ElementType::bf16:
    return {4e-2, 0, 1e-2};
  default:
    return {1e-3, 1e-5, 0};
  }
}

// Empty when equal, else the difference in type or shape.
std::string differenceInKind(const Tensor &got, const Tensor &expected, const std::string &name) {
  if (got.type() != expected.type() || got.shape() != expected.shape())
    return "output '" + name + "' is " + describe(got.type(), got.shape()) + ", expected " +
           describe(expected.type(), expected.shape());
  return "";
}

// Empty when equal within the tolerance, else the first difference. `products`: in what the program's products are
// computed.
std::string difference(const Tensor &got, const Tensor &expected, const std::string &name, llvm::StringRef products) {
  if (std::string text = differenceInKind(got, expected, name); !text.empty())
    return text;
  if (!isFloat(got.type())) {
    if (got.bytes() == expected.bytes())
      return "";
    for (int64_t i = 0; i < got.elements(); ++i)
      if (got.bytes().slice(i * byteWidth(got.type()), byteWidth(got.type())) !=
          expected.bytes().slice(i * byteWidth(got.type()), byteWidth(got.type())))
        return "output '" + name + "' differs at element " + std::to_string(i);
  }
  const std::vector<double> a = valuesOf<double>(got), b = valuesOf<double>(expected);
  bool narrower = got.type() == ElementType::f32 && products == nameOf(ElementType::f16);
  Tolerance tolerance = toleranceOf(narrower ? ElementType::f16 : got.type());
  double largest = 0;
  for (int64_t i = 0; i < expected.elements(); ++i)
    if (std::isfinite(b[i]))
      largest = std::max(largest, std::fabs(b[i]));
  for (int64_t i = 0; i < expected.elements(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i]))
      continue;
    if (a[i] == b[i])
      continue;
    double bound = tolerance.absolute + tolerance.ofLargest * largest + tolerance.relative * std::fabs(b[i]);
    if (!std::isfinite(b[i]) || !(std::fabs(a[i] - b[i]) <= bound))
      return "output '" + name + "' element " + std::to_string(i) + " is " + target::significant(a[i], 9) +
             ", expected " + target::significant(b[i], 9);
  }
  return "";
}

llvm::Expected<std::vector<Tensor>> readPorts(const std::filesystem::path &data, llvm::StringRef kind) {
  std::vector<Tensor> tensors;
  for (int i = 0;; ++i) {
    std::filesystem::path path = data / (kind + "_" + llvm::Twine(i) + ".pb").str();
    if (!std::filesystem::exists(path))
      return tensors;
    auto tensor = graph::readTensorFile(path.string());
    if (!tensor)
      return tensor.takeError();
    tensors.push_back(std::move(tensor->tensor));
  }
}

// A test "X_expanded..." is the test X with its operator replaced by the operator's function body, where nodes of other
// operators take the inputs. What says how is then known from X, whose inputs have the same names.
std::set<std::string> howInputsOfUnexpanded(const std::string &directory) {
  size_t suffix = directory.rfind("_expanded");
  if (suffix == std::string::npos || !std::filesystem::exists(directory.substr(0, suffix) + "/model.onnx"))
    return {};
  auto model = graph::ModelFile::open(directory.substr(0, suffix) + "/model.onnx");
  if (!model) {
    llvm::consumeError(model.takeError()); // that test reports it
    return {};
  }
  return howInputs((*model)->model().graph());
}

// Passed, folded, or unsupported where random values cannot agree; errors otherwise.
llvm::Expected<Outcome> runDataSet(const std::string &modelPath, const onnx::GraphProto &proto,
                                   const std::set<std::string> &alsoHow, const std::filesystem::path &data,
                                   const machine::Machine &machine, const target::Target &target, bool bindAll) {
  auto inputs = readPorts(data, "input");
  if (!inputs)
    return inputs.takeError();
  auto expected = readPorts(data, "output");
  if (!expected)
    return expected.takeError();

  driver::ModelArguments arguments;
  auto options = driver::importOptions(arguments);
  if (!options)
    return options.takeError();
  std::set<std::string> how = howInputs(proto);
  driver::NamedTensors values;
  how.insert(alsoHow.begin(), alsoHow.end());
  for (int i = 0; i < proto.input_size() && i < static_cast<int>(inputs->size()); ++i) {
    const std::string &name = proto.input(i).name();
    if (bindAll || how.count(name))
      options->bindings.insert_or_assign(name, (*inputs)[i]);
    else {
      values.insert_or_assign(name, (*inputs)[i]);
      options->inputShapes.insert_or_assign(name, (*inputs)[i].shape());
    }
  }
  auto graph = graph::loadModel(modelPath, *options);
  if (!graph)
    return graph.takeError();
  auto program = target::compile(target, *graph, machine, {});
  if (!program)
    return program.takeError();
  auto result = target.simulate(*program, values, {});
  if (!result)
    return result.takeError();
  bool random = drawsRandomNumbers(proto), drawn = false;
  for (int i = 0; i < proto.output_size() && i < static_cast<int>(expected->size()); ++i) {
    auto it = result->outputs.find(proto.output(i).name());
    if (it == result->outputs.end())
      return internalError("no output '" + proto.output(i).name() + "'");
    if (std::string text = difference(it->second, (*expected)[i], it->first, program->precision); !text.empty()) {
      if (!random || !differenceInKind(it->second, (*expected)[i], it->first).empty())
        return mismatchError(text);
      drawn = true;
    }
  }
  if (drawn)
    return Outcome::Unsupported;
  return graph->kernels.empty() ? Outcome::Folded : Outcome::Passed;
}

} // namespace

llvm::Expected<KnownFailures> readKnownFailures(llvm::StringRef path) {
  auto file = MappedFile::open(path);
  if (!file)
    return file.takeError();
  KnownFailures known;
  llvm::SmallVector<llvm::StringRef> lines;
  (*file)->text().split(lines, '\n');
  for (size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].empty() || lines[i].starts_with("#"))
      continue;
    llvm::SmallVector<llvm::StringRef, 3> fields;
    lines[i].split(fields, '\t');
    if (fields.size() != 3 || (fields[1] != "unsupported" && fields[1] != "expected") || fields[2].empty())
      return userError("expected NAME<TAB>unsupported|expected<TAB>REASON",
                       {path.str(), "line " + std::to_string(i + 1)});
    Known entry{fields[1] == "unsupported", fields[2].str()};
    if (fields[0] == "*")
      known.byReason.push_back(entry);
    else if (!known.byName.emplace(fields[0].str(), entry).second)
      return userError("test '" + fields[0] + "' is listed twice", {path.str(), "line " + std::to_string(i + 1)});
  }
  return known;
}

Result runTest(const std::string &directory, const machine::Machine &machine, bool bindAll) {
  std::string modelPath = directory + "/model.onnx";
  const onnx::GraphProto *proto = nullptr;
  auto failed = [&](llvm::Error error) {
    std::string message = report(std::move(error)).message;
    llvm::StringRef text = message;
    text.consume_front(modelPath + ": ");
    text.consume_front(directory + "/");
    // One line, whatever the message: the list of known failures has a test a line.
    std::string line;
    for (llvm::StringRef rest = text; !rest.empty();) {
      auto [first, after] = rest.split('\n');
      line += (line.empty() ? "" : " ") + first.trim().str();
      rest = after;
    }
    std::replace(line.begin(), line.end(), '\t', ' ');
    // A type that no machine has is not ours to write.
    bool type = llvm::StringRef(line).contains("element type float4e2m1") ||
                llvm::StringRef(line).contains("element type float8e8m0");
    if (std::string reason = proto ? inexpressible(*proto, line) : ""; !reason.empty())
      return Result{Outcome::Unsupported, reason};
    return Result{type ? Outcome::Unsupported : Outcome::Failed, line};
  };
  auto model = graph::ModelFile::open(modelPath);
  if (!model)
    return failed(model.takeError());
  proto = &(*model)->model().graph();
  if (std::string reason = unsupportedPort(*proto); !reason.empty())
    return {Outcome::Unsupported, reason};
  auto target = driver::targetOf(machine);
  if (!target)
    return failed(target.takeError());
  std::set<std::string> alsoHow = howInputsOfUnexpanded(directory);
  Outcome outcome = Outcome::Failed;
  for (const auto &entry : std::filesystem::directory_iterator(directory)) {
    if (!entry.is_directory())
      continue;
    auto result = runDataSet(modelPath, *proto, alsoHow, entry.path(), machine, **target, bindAll);
    if (!result)
      return failed(result.takeError());
    outcome = *result;
  }
  if (outcome == Outcome::Unsupported)
    return {outcome, "the expected output is one draw of numpy's generator; type and shape agree"};
  return {outcome, ""};
}

} // namespace quadrille::conformance
