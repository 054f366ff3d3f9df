// Bytes as a model, all the way to kernels. What is refused is the file's fault, never a defect of ours; what is
// accepted is well-formed and can be printed.
#include "ModelMutator.h"

#include "base/Error.h"
#include "graph/Model.h"
#include "graph/onnx/DataType.h"
#include "graph/onnx/ModelFile.h"
#include "numerics/Convert.h"
#include "target/host/Evaluate.h"

#include "llvm/ADT/STLExtras.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

using namespace quadrille;
using namespace quadrille::graph;

static void fail(const std::string &message) {
  std::fprintf(stderr, "import_fuzz: %s\n", message.c_str());
  std::abort();
}

static bool load(const ModelFile &file, const ImportOptions &options) {
  llvm::Expected<KernelGraph> graph = loadModel(file, options);
  if (!graph) {
    Reported reported = report(graph.takeError());
    if (reported.exitCode != static_cast<int>(Fault::User) && reported.exitCode != static_cast<int>(Fault::Mismatch))
      fail("a defect that a model file reaches: " + reported.message);
    return false;
  }
  if (std::string wrong = graph->verify(); !wrong.empty())
    fail("the graph is malformed: " + wrong);
  graph->print();
  return true;
}

// Bound inputs make shapes known and let the importer compute: small numbers, since they mostly are shapes and axes.
static void bindInputs(const ModelFile &file, uint8_t choice, bool all, ImportOptions &options) {
  constexpr int64_t mostElements = 4096;
  for (const onnx::ValueInfoProto &input : file.model().graph().input()) {
    const onnx::TypeProto::Tensor &declared = input.type().tensor_type();
    auto type = elementTypeOfCode(declared.elem_type());
    if (!type) {
      llvm::consumeError(type.takeError());
      continue;
    }
    if (!all && kindOf(*type) == ElementKind::Float)
      continue;
    Shape shape;
    int64_t elements = 1;
    for (const auto &dimension : declared.shape().dim()) {
      shape.push_back(dimension.dim_value());
      if (shape.back() < 0 || shape.back() > mostElements || (elements *= shape.back()) > mostElements)
        break;
    }
    if (elements > mostElements || shape.size() != static_cast<size_t>(declared.shape().dim_size()) ||
        llvm::any_of(shape, [](int64_t extent) { return extent < 0 || extent > mostElements; }))
      continue;
    Tensor numbers = Tensor::uninitialized(ElementType::i64, shape);
    for (int64_t i = 0; i < elements; ++i) {
      int64_t number = (choice + i * (choice >> 4)) % 6 - (choice & 1);
      std::memcpy(numbers.mutableBytes() + i * 8, &number, 8);
    }
    options.bindings[input.name()] = convert(numbers, *type);
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::shared_ptr<std::byte[]> copy(new std::byte[size]);
  if (size != 0)
    std::memcpy(copy.get(), data, size);
  auto file = ModelFile::read(llvm::ArrayRef<std::byte>(copy.get(), size), copy, "no-such-folder/model.onnx");
  if (!file) {
    if (report(file.takeError()).exitCode != static_cast<int>(Fault::User))
      fail("an unreadable file is not the user's fault");
    return 0;
  }
  ImportOptions options;
  options.evaluate = host::evaluate;
  if (!load(**file, options)) {
    options.batch = 2; // symbolic dimensions
    load(**file, options);
    options.batch = 0;
  }
  for (bool all : {false, true}) {
    options.bindings.clear();
    bindInputs(**file, data[size / 2], all, options);
    load(**file, options);
  }
  return 0;
}
