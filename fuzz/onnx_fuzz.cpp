// Bytes as a model file and as a tensor file. Besides not crashing: what is accepted must be what protobuf itself
// reads.
#include "ModelMutator.h"

#include "graph/onnx/FunctionTable.h"
#include "graph/onnx/ModelFile.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

using namespace quadrille;
using namespace quadrille::graph;

static void require(bool holds) {
  if (!holds)
    abort();
}

static void compareTensor(const ModelFile &file, const onnx::TensorProto &stripped, const onnx::TensorProto &whole) {
  require(stripped.name() == whole.name() && stripped.dims_size() == whole.dims_size());
  llvm::Expected<WeightData> weight = file.weight(stripped);
  if (!weight) {
    llvm::consumeError(weight.takeError());
    // A vector of floats whose number is right may not be refused.
    onnx::TensorProto plain;
    plain.set_name(whole.name());
    plain.set_data_type(onnx::TensorProto::FLOAT);
    plain.add_dims(whole.float_data_size());
    *plain.mutable_float_data() = whole.float_data();
    require(whole.float_data_size() == 0 || whole.SerializeAsString() != plain.SerializeAsString());
    return;
  }
  if (weight->absent())
    return;
  // Every byte can be read (the address sanitizer watches), and raw data is the file's.
  std::string bytes(reinterpret_cast<const char *>(weight->data.bytes().data()), weight->data.byteSize());
  if (whole.data_location() != onnx::TensorProto::EXTERNAL && whole.has_raw_data() && bitWidth(weight->type) >= 8)
    require(bytes == whole.raw_data());
  if (weight->type == ElementType::f32 && whole.float_data_size() != 0)
    require(bytes.size() == size_t(whole.float_data_size()) * 4 &&
            std::memcmp(bytes.data(), whole.float_data().data(), bytes.size()) == 0);
}

static void compareGraph(const ModelFile &file, const onnx::GraphProto &stripped, const onnx::GraphProto &whole);

static void compareNodes(const ModelFile &file, const Nodes &stripped, const Nodes &whole) {
  require(stripped.size() == whole.size());
  for (int n = 0; n < stripped.size(); ++n) {
    require(!stripped[n].name().empty() && stripped[n].op_type() == whole[n].op_type());
    require(stripped[n].attribute_size() == whole[n].attribute_size());
    file.function(stripped[n]);
    for (int a = 0; a < stripped[n].attribute_size(); ++a) {
      const onnx::AttributeProto &left = stripped[n].attribute(a), &right = whole[n].attribute(a);
      if (left.has_t())
        compareTensor(file, left.t(), right.t());
      if (left.has_g())
        compareGraph(file, left.g(), right.g());
      for (int i = 0; i < left.tensors_size(); ++i)
        compareTensor(file, left.tensors(i), right.tensors(i));
      for (int i = 0; i < left.graphs_size(); ++i)
        compareGraph(file, left.graphs(i), right.graphs(i));
    }
  }
}

static void compareGraph(const ModelFile &file, const onnx::GraphProto &stripped, const onnx::GraphProto &whole) {
  require(stripped.initializer_size() == whole.initializer_size());
  for (int i = 0; i < stripped.initializer_size(); ++i)
    compareTensor(file, stripped.initializer(i), whole.initializer(i));
  compareNodes(file, stripped.node(), whole.node());
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  // A copy of its own, so that reading past the end is noticed; it outlives the call as long as a tensor needs it.
  std::shared_ptr<std::byte[]> copy(new std::byte[size]);
  if (size != 0)
    std::memcpy(copy.get(), data, size);
  llvm::ArrayRef<std::byte> bytes(copy.get(), size);

  if (auto file = ModelFile::read(bytes, copy, "no-such-folder/model.onnx")) {
    onnx::ModelProto whole;
    require(whole.ParseFromArray(data, static_cast<int>(size)));
    compareGraph(**file, (*file)->model().graph(), whole.graph());
    require((*file)->model().functions_size() == whole.functions_size());
    for (int i = 0; i < whole.functions_size(); ++i) {
      const onnx::FunctionProto &function = (*file)->model().functions(i);
      compareNodes(**file, function.node(), whole.functions(i).node());
      for (const onnx::AttributeProto &attribute : (*file)->defaultAttributes(function))
        if (auto weight = (*file)->weight(attribute.t()); !weight)
          llvm::consumeError(weight.takeError());
    }
    if (auto summary = summarize(**file); !summary)
      llvm::consumeError(summary.takeError());
  } else {
    llvm::consumeError(file.takeError());
  }

  if (auto tensor = readTensor(bytes, copy, "no-such-folder/tensor.pb"))
    require(tensor->tensor.valid() && tensor->tensor.bytes().size() == tensor->tensor.byteSize());
  else
    llvm::consumeError(tensor.takeError());
  return 0;
}
