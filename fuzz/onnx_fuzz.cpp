// Bytes as a model file and as a tensor file. Besides not crashing: what is accepted must be what protobuf itself
// reads.
#include "graph/onnx/FunctionTable.h"
#include "graph/onnx/ModelFile.h"

#include <onnx/onnx_pb.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
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

//===--------------------------------------------------------------------------------------------------------------===//
// Mutation of models as models: bytes alone seldom give two nodes the same output or a function a circle.
//===--------------------------------------------------------------------------------------------------------------===//

extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t maximumSize);

namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

class ModelMutator {
public:
  explicit ModelMutator(unsigned seed) : random(seed) {}

  void mutate(Message &model) {
    for (size_t rounds = 1 + pick(3); rounds != 0; --rounds) {
      messages.clear();
      strings.clear();
      collect(model);
      mutateOne(*messages[pick(messages.size())]); // may free others: a oneof's other members
    }
  }

private:
  size_t pick(size_t count) { return random() % count; }

  void collect(Message &message) {
    messages.push_back(&message);
    std::vector<const FieldDescriptor *> fields;
    const Reflection &reflection = *message.GetReflection();
    reflection.ListFields(message, &fields);
    for (const FieldDescriptor *field : fields) {
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
        if (!field->is_repeated())
          strings.push_back(reflection.GetString(message, field));
        else
          for (int i = 0; i < reflection.FieldSize(message, field); ++i)
            strings.push_back(reflection.GetRepeatedString(message, field, i));
      } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        if (!field->is_repeated())
          collect(*reflection.MutableMessage(&message, field));
        else
          for (int i = 0; i < reflection.FieldSize(message, field); ++i)
            collect(*reflection.MutableRepeatedMessage(&message, field, i));
      }
    }
  }

  int64_t number() {
    constexpr int64_t notable[] = {
        -1, 0, 1, 2, 3, 4, 8, 17, 21, 22, 26, 64, 65, 255, 65536, INT32_MAX, int64_t(1) << 60, INT64_MAX, INT64_MIN};
    return notable[pick(std::size(notable))];
  }

  std::string text() {
    return strings.empty() || pick(8) == 0 ? std::string(pick(20), 'a') : strings[pick(strings.size())];
  }

  void mutateOne(Message &message) {
    const google::protobuf::Descriptor &type = *message.GetDescriptor();
    if (type.field_count() == 0)
      return;
    const FieldDescriptor *field = type.field(static_cast<int>(pick(type.field_count())));
    const Reflection &reflection = *message.GetReflection();
    int size = field->is_repeated() ? reflection.FieldSize(message, field) : 0;
    if (size >= 2 && pick(3) == 0) {
      reflection.SwapElements(&message, field, static_cast<int>(pick(size)), static_cast<int>(pick(size)));
      return;
    }
    bool change = size > 0 && pick(2) == 0; // an element instead of adding one
    int at = size > 0 ? static_cast<int>(pick(size)) : 0;
    switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      if (!field->is_repeated()) {
        reflection.MutableMessage(&message, field);
      } else if (size < 100) {
        std::string copy = size ? reflection.GetRepeatedMessage(message, field, at).SerializeAsString() : "";
        reflection.AddMessage(&message, field)->ParseFromString(copy);
      }
      return;
    case FieldDescriptor::CPPTYPE_STRING:
      if (!field->is_repeated())
        reflection.SetString(&message, field, text());
      else if (change)
        reflection.SetRepeatedString(&message, field, at, text());
      else
        reflection.AddString(&message, field, text());
      return;
    case FieldDescriptor::CPPTYPE_INT64:
      if (!field->is_repeated())
        reflection.SetInt64(&message, field, number());
      else if (change)
        reflection.SetRepeatedInt64(&message, field, at, number());
      else
        reflection.AddInt64(&message, field, number());
      return;
    case FieldDescriptor::CPPTYPE_INT32:
      if (!field->is_repeated())
        reflection.SetInt32(&message, field, static_cast<int32_t>(number()));
      else if (change)
        reflection.SetRepeatedInt32(&message, field, at, static_cast<int32_t>(number()));
      else
        reflection.AddInt32(&message, field, static_cast<int32_t>(number()));
      return;
    case FieldDescriptor::CPPTYPE_FLOAT:
      if (field->is_repeated())
        reflection.AddFloat(&message, field, static_cast<float>(number()));
      return;
    case FieldDescriptor::CPPTYPE_ENUM: {
      const google::protobuf::EnumDescriptor &values = *field->enum_type();
      if (!field->is_repeated())
        reflection.SetEnum(&message, field, values.value(static_cast<int>(pick(values.value_count()))));
      return;
    }
    default:
      return;
    }
  }

  std::minstd_rand random;
  std::vector<Message *> messages;
  std::vector<std::string> strings;
};

} // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t maximumSize, unsigned seed) {
  onnx::ModelProto model;
  if (seed % 2 == 0 || !model.ParseFromArray(data, static_cast<int>(size)) || !model.has_graph())
    return LLVMFuzzerMutate(data, size, maximumSize);
  ModelMutator(seed).mutate(model);
  std::string bytes = model.SerializeAsString();
  if (bytes.size() > maximumSize)
    return LLVMFuzzerMutate(data, size, maximumSize);
  std::memcpy(data, bytes.data(), bytes.size());
  return bytes.size();
}
