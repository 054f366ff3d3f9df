// Small models written as text, imported and executed on the host; for tests.
#pragma once

#include "base/Error.h"
#include "graph/ExtractKernels.h"
#include "graph/import/Importer.h"
#include "graph/onnx/ModelFile.h"
#include "target/host/Evaluate.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <onnx/defs/parser.h>

namespace quadrille::graph {

using testing::ElementsAre;
using testing::HasSubstr;

inline std::unique_ptr<const ModelFile> fileOf(const onnx::ModelProto &model) {
  auto bytes = std::make_shared<std::string>(model.SerializeAsString());
  llvm::Expected<std::unique_ptr<const ModelFile>> file =
      ModelFile::read({reinterpret_cast<const std::byte *>(bytes->data()), bytes->size()}, bytes, "test.onnx");
  if (file)
    return std::move(*file);
  ADD_FAILURE() << report(file.takeError()).message;
  return nullptr;
}

// A whole model, and a graph alone.
inline std::unique_ptr<const ModelFile> parse(const std::string &text) {
  onnx::ModelProto model;
  onnx::Common::Status status = onnx::OnnxParser::Parse(model, text.c_str());
  EXPECT_TRUE(status.IsOK()) << status.ErrorMessage();
  return fileOf(model);
}
inline std::unique_ptr<const ModelFile> parse(int opset, const std::string &graph) {
  return parse("<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) + ", \"ai.onnx.preview\" : 1]>\n" +
               graph);
}

inline ImportOptions withHost() {
  ImportOptions options;
  options.evaluate = [](const KernelGraph &graph, llvm::ArrayRef<Tensor> inputs) {
    return host::evaluate(graph, inputs);
  };
  return options;
}

inline ImportOptions withShape(const std::string &input, const Shape &shape) {
  ImportOptions options = withHost();
  options.inputShapes[input] = shape;
  return options;
}

llvm::Expected<KernelGraph> import(const ModelFile &file, const ImportOptions &options = withHost());
inline llvm::Expected<KernelGraph> import(int opset, const std::string &graph,
                                          const ImportOptions &options = withHost()) {
  return import(*parse(opset, graph), options);
}

inline std::string errorOf(int opset, const std::string &graph, const ImportOptions &options = withHost()) {
  llvm::Expected<KernelGraph> imported = import(opset, graph, options);
  return imported ? "no error" : report(imported.takeError()).message;
}

inline Tensor floats(Shape shape, std::vector<float> values) {
  return Tensor::of<float>(ElementType::f32, std::move(shape), values);
}

template <typename T = float>
std::vector<T> run(const ModelFile &file, const std::vector<Tensor> &inputs, const ImportOptions &options = withHost(),
                   size_t output = 0) {
  llvm::Expected<KernelGraph> imported = import(file, options);
  if (!imported) {
    ADD_FAILURE() << report(imported.takeError()).message;
    return {};
  }
  llvm::Expected<std::vector<Tensor>> results = host::evaluate(*imported, inputs);
  if (!results) {
    ADD_FAILURE() << report(results.takeError()).message;
    return {};
  }
  const Tensor &tensor = (*results)[output];
  return {tensor.data<T>(), tensor.data<T>() + tensor.elements()};
}
template <typename T = float>
std::vector<T> run(int opset, const std::string &graph, const std::vector<Tensor> &inputs,
                   const ImportOptions &options = withHost(), size_t output = 0) {
  return run<T>(*parse(opset, graph), inputs, options, output);
}

} // namespace quadrille::graph
