// Mutation of models as models: bytes alone seldom give two nodes the same output or a function a circle. Defines
// libFuzzer's custom mutator; for the one source of a fuzzer whose inputs are models.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t maximumSize);

namespace quadrille {

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
    // By the functions of the field's type.
    auto put = [&](auto value, auto set, auto setRepeated, auto add) {
      if (!field->is_repeated())
        (reflection.*set)(&message, field, value);
      else if (change)
        (reflection.*setRepeated)(&message, field, at, value);
      else
        (reflection.*add)(&message, field, value);
    };
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
      return put(text(), &Reflection::SetString, &Reflection::SetRepeatedString, &Reflection::AddString);
    case FieldDescriptor::CPPTYPE_INT64:
      return put(number(), &Reflection::SetInt64, &Reflection::SetRepeatedInt64, &Reflection::AddInt64);
    case FieldDescriptor::CPPTYPE_INT32:
      return put(static_cast<int32_t>(number()), &Reflection::SetInt32, &Reflection::SetRepeatedInt32,
                 &Reflection::AddInt32);
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

} // namespace quadrille

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t maximumSize, unsigned seed) {
  onnx::ModelProto model;
  if (seed % 2 == 0 || !model.ParseFromArray(data, static_cast<int>(size)) || !model.has_graph())
    return LLVMFuzzerMutate(data, size, maximumSize);
  quadrille::ModelMutator(seed).mutate(model);
  std::string bytes = model.SerializeAsString();
  if (bytes.size() > maximumSize)
    return LLVMFuzzerMutate(data, size, maximumSize);
  std::memcpy(data, bytes.data(), bytes.size());
  return bytes.size();
}
