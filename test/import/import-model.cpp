// Imports ONNX models and prints what they become, or executes them on the host and compares with ONNX's test data.
//
//   import-model MODEL [--batch N] [--shape NAME=N] [--bind INPUT=FILE.pb|INTEGER] [--print mlir|kernels|operators]
//   import-model MODEL --check DIRECTORY          inputs input_*.pb, expected outputs output_*.pb
//   import-model --suite DIRECTORY [--filter TEXT] every DIRECTORY/*/model.onnx with its test_data_set_0
#include "base/Error.h"
#include "graph/Model.h"
#include "graph/import/Importer.h"
#include "graph/onnx/ModelFile.h"
#include "numerics/Convert.h"
#include "target/host/Evaluate.h"

#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <onnx/onnx_pb.h>

#include <chrono>
#include <cmath>

using namespace quadrille;

namespace {
llvm::cl::opt<std::string> model(llvm::cl::Positional, llvm::cl::desc("MODEL"));
llvm::cl::list<std::string> shapes("shape"), bindings("bind"), filters("filter");
llvm::cl::opt<int64_t> batch("batch", llvm::cl::init(0));
llvm::cl::opt<std::string> print("print"), check("check"), suite("suite");
llvm::cl::opt<double> relative("rtol", llvm::cl::init(1e-3)), absolute("atol", llvm::cl::init(1e-5));
llvm::cl::opt<bool> timing("time");
llvm::cl::opt<bool> withoutFolding("no-folding");

int fail(llvm::Error error) {
  Reported reported = report(std::move(error));
  llvm::errs() << reported.message << '\n';
  return reported.exitCode;
}

// Operands that say how an operator works, not what it works on.
bool saysHow(llvm::StringRef name) {
  static const char *names[] = {"shape",
                                "axes",
                                "axis",
                                "pads",
                                "starts",
                                "ends",
                                "steps",
                                "repeats",
                                "k",
                                "K",
                                "split",
                                "sizes",
                                "scales",
                                "roi",
                                "start",
                                "limit",
                                "delta",
                                "depth",
                                "sequence_lens",
                                "seq_length",
                                "output_shape",
                                "ratio",
                                "training_mode",
                                "M",
                                "t",
                                "max_output_boxes_per_class",
                                "value",
                                "trip_count",
                                "cond",
                                "high",
                                "low",
                                "max",
                                "min",
                                "block_shape",
                                "image_shape",
                                "r",
                                "size",
                                "sections",
                                "tensor_size",
                                "window_size",
                                "length",
                                "constant_value"};
  return llvm::is_contained(names, name);
}

std::string firstDifference(const Tensor &actual, const Tensor &expected) {
  if (actual.type() != expected.type() || actual.shape() != expected.shape())
    return describe(actual.type(), actual.shape()) + " instead of " + describe(expected.type(), expected.shape());
  Tensor a = convert(actual, ElementType::f64), b = convert(expected, ElementType::f64);
  const double *x = a.data<double>();
  std::vector<double> y(b.elements());
  std::memcpy(y.data(), b.bytes().data(), b.byteSize());
  double rtol = relative, atol = absolute;
  if (expected.type() == ElementType::f16 || expected.type() == ElementType::bf16) {
    double largest = 0;
    for (double value : y)
      largest = std::isfinite(value) ? std::max(largest, std::fabs(value)) : largest;
    rtol = expected.type() == ElementType::f16 ? 1e-2 : 4e-2;
    atol = (expected.type() == ElementType::f16 ? 2e-3 : 1e-2) * largest;
  }
  for (int64_t i = 0; i < a.elements(); ++i) {
    bool equal = x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i])) ||
                 (isFloat(expected.type()) && std::fabs(x[i] - y[i]) <= atol + rtol * std::fabs(y[i]));
    if (!equal)
      return "element " + std::to_string(i) + " is " + std::to_string(x[i]) + " instead of " + std::to_string(y[i]);
  }
  return "";
}

llvm::Expected<std::vector<Tensor>> readTensors(const std::string &directory, const std::string &prefix) {
  std::vector<Tensor> tensors;
  for (int i = 0;; ++i) {
    std::string path = directory + "/" + prefix + std::to_string(i) + ".pb";
    if (!llvm::sys::fs::exists(path))
      return tensors;
    llvm::Expected<graph::NamedTensor> tensor = graph::readTensorFile(path);
    if (!tensor)
      return tensor.takeError();
    tensors.push_back(tensor->tensor);
  }
}

// Empty when the outputs agree, else the first difference; `bindHow` binds the operands that say how.
llvm::Expected<std::string> compare(const std::string &path, const std::string &directory, graph::ImportOptions options,
                                    bool bindHow) {
  llvm::Expected<std::unique_ptr<const graph::ModelFile>> file = graph::ModelFile::open(path);
  if (!file)
    return file.takeError();
  llvm::Expected<std::vector<Tensor>> inputs = readTensors(directory, "input_");
  if (!inputs)
    return inputs.takeError();
  llvm::Expected<std::vector<Tensor>> expected = readTensors(directory, "output_");
  if (!expected)
    return expected.takeError();
  std::map<std::string, Tensor> byName;
  size_t next = 0;
  const auto &model = (*file)->model().graph();
  for (const auto &input : model.input()) {
    bool initialised = llvm::any_of(model.initializer(), [&](const auto &w) { return w.name() == input.name(); });
    if (initialised || next >= inputs->size())
      continue;
    const Tensor &tensor = (*inputs)[next++];
    if (bindHow && saysHow(input.name()) && tensor.elements() <= 64)
      options.bindings[input.name()] = tensor;
    else {
      byName[input.name()] = tensor;
      options.inputShapes[input.name()] = tensor.shape();
    }
  }
  llvm::Expected<graph::KernelGraph> graph = graph::loadModel(path, options);
  if (!graph)
    return graph.takeError();
  std::vector<Tensor> operands;
  for (graph::ValueId input : graph->inputs)
    operands.push_back(byName[graph->values[input].name]);
  llvm::Expected<std::vector<Tensor>> results = host::evaluate(*graph, operands);
  if (!results)
    return results.takeError();
  for (size_t i = 0; i < expected->size() && i < results->size(); ++i)
    if (std::string difference = firstDifference((*results)[i], (*expected)[i]); !difference.empty())
      return "output " + std::to_string(i) + ": " + difference;
  return expected->size() == results->size() ? "" : "the number of outputs differs";
}

int runSuite(const graph::ImportOptions &options) {
  std::vector<std::string> names;
  std::error_code code;
  for (llvm::sys::fs::directory_iterator it(suite, code), end; it != end && !code; it.increment(code))
    names.push_back(llvm::sys::path::filename(it->path()).str());
  llvm::sort(names);
  int passed = 0, failed = 0;
  for (const std::string &name : names) {
    if (!filters.empty() &&
        llvm::none_of(filters, [&](const std::string &text) { return llvm::StringRef(name).contains(text); }))
      continue;
    std::string directory = suite + "/" + name;
    if (!llvm::sys::fs::exists(directory + "/model.onnx"))
      continue;
    llvm::Expected<std::string> difference =
        compare(directory + "/model.onnx", directory + "/test_data_set_0", options, true);
    std::string outcome;
    if (!difference) {
      Reported reported = report(difference.takeError());
      outcome = (reported.exitCode == 70 ? "INTERNAL " : "ERROR ") + reported.message;
    } else if (!difference->empty()) {
      outcome = "WRONG " + *difference;
    }
    outcome.empty() ? ++passed : ++failed;
    llvm::outs() << name << ": " << (outcome.empty() ? "PASS" : outcome) << '\n';
    llvm::outs().flush();
  }
  llvm::outs() << passed << " passed, " << failed << " failed\n";
  return failed != 0;
}
} // namespace

int main(int argc, char **argv) {
  llvm::cl::ParseCommandLineOptions(argc, argv);
  graph::ImportOptions options;
  if (!withoutFolding)
    options.evaluate = [](const graph::KernelGraph &graph, llvm::ArrayRef<Tensor> inputs) {
      return host::evaluate(graph, inputs);
    };
  options.batch = batch;
  for (const std::string &shape : shapes) {
    auto [name, value] = llvm::StringRef(shape).rsplit('=');
    int64_t extent;
    if (value.getAsInteger(10, extent))
      return fail(userError("--shape " + shape + " is not NAME=NUMBER"));
    options.dimensions[name.str()] = extent;
  }
  for (const std::string &binding : bindings) {
    auto [name, value] = llvm::StringRef(binding).split('=');
    int64_t number;
    if (!value.getAsInteger(10, number)) {
      options.bindings[name.str()] = Tensor::of<int64_t>(ElementType::i64, {}, {number});
      continue;
    }
    llvm::Expected<graph::NamedTensor> tensor = graph::readTensorFile(value);
    if (!tensor)
      return fail(tensor.takeError());
    options.bindings[name.str()] = tensor->tensor;
  }
  if (print == "operators") {
    for (const std::string &name : graph::importableOperators())
      llvm::outs() << name << '\n';
    return 0;
  }
  if (!suite.empty())
    return runSuite(options);
  if (!check.empty()) {
    llvm::Expected<std::string> difference = compare(model, check, options, false);
    if (!difference)
      return fail(difference.takeError());
    llvm::outs() << (difference->empty() ? "equal" : *difference) << '\n';
    return !difference->empty();
  }
  auto start = std::chrono::steady_clock::now();
  if (print == "mlir") {
    llvm::Expected<std::unique_ptr<const graph::ModelFile>> file = graph::ModelFile::open(model);
    if (!file)
      return fail(file.takeError());
    llvm::Expected<graph::ImportedModel> imported = graph::importModel(**file, options);
    if (!imported)
      return fail(imported.takeError());
    llvm::outs() << imported->print();
    return 0;
  }
  llvm::Expected<graph::KernelGraph> graph = graph::loadModel(model, options);
  if (!graph)
    return fail(graph.takeError());
  if (timing)
    llvm::outs() << std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count()
                 << " ms, " << graph->kernels.size() << " kernels\n";
  if (print == "kernels")
    llvm::outs() << graph->print();
  return 0;
}
