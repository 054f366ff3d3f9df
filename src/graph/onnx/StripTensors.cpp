#include "graph/onnx/StripTensors.h"

#include "base/Error.h"

#include "llvm/ADT/Twine.h"
#include "llvm/Support/Endian.h"

#include <onnx/onnx_pb.h>

#include <array>
#include <climits>
#include <optional>

namespace quadrille::graph {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

std::string DataReference::encode() const {
  std::string text(16, '\0');
  llvm::support::endian::write64le(text.data(), offset);
  llvm::support::endian::write64le(text.data() + 8, size);
  return text;
}

std::optional<DataReference> DataReference::decode(llvm::StringRef rawData) {
  if (rawData.size() != 16)
    return std::nullopt;
  return DataReference{llvm::support::endian::read64le(rawData.data()),
                       llvm::support::endian::read64le(rawData.data() + 8)};
}

namespace {

// https://protobuf.dev/programming-guides/encoding/
enum WireType : unsigned { Varint = 0, Fixed64 = 1, Length = 2, StartGroup = 3, EndGroup = 4, Fixed32 = 5 };
constexpr const char *wireTypeNames[] = {"a varint", "8 bytes", "a length", "a group", "a group's end", "4 bytes"};

// Protobuf's own limit when it parses what we leave.
constexpr unsigned maximumDepth = 100;

// A failure while scanning, with the path of fields to it, built on the way out.
struct ScanError {
  std::string message;
  uint64_t offset = 0;
  std::string path;
};

struct Field {
  unsigned number = 0;
  unsigned wireType = 0;
  const char *begin = nullptr;   // of the tag
  const char *payload = nullptr; // of a length-delimited field: its bytes; else the value
  const char *end = nullptr;
  uint64_t value = 0; // of a varint

  uint64_t payloadSize() const { return static_cast<uint64_t>(end - payload); }
};

class Stripper {
public:
  explicit Stripper(llvm::StringRef file) : file(file) {}

  bool strip(const Descriptor &root) { return message(file.begin(), file.end(), root, 0); }

  std::string output;
  ScanError error;

private:
  bool fail(const char *at, const llvm::Twine &message) {
    error.message = message.str();
    error.offset = static_cast<uint64_t>(at - file.begin());
    return false;
  }

  bool varint(const char *&at, const char *end, uint64_t &value) {
    const char *begin = at;
    value = 0;
    for (unsigned shift = 0; at != end; shift += 7) {
      auto byte = static_cast<unsigned char>(*at++);
      value |= shift < 64 ? static_cast<uint64_t>(byte & 0x7f) << shift : 0;
      if (byte < 0x80)
        return true;
      if (shift == 63)
        return fail(begin, "a varint is longer than 10 bytes");
    }
    return fail(begin, "a varint is cut off");
  }

  // Reads the field at `at` within a message that ends at `end`, and moves on to the next.
  bool next(const char *&at, const char *end, Field &field) {
    field = Field();
    field.begin = at;
    uint64_t tag = 0;
    if (!varint(at, end, tag))
      return false;
    field.wireType = tag & 7;
    if (tag > UINT32_MAX || tag >> 3 == 0)
      return fail(field.begin, "there is no field number " + llvm::Twine(tag >> 3));
    field.number = static_cast<unsigned>(tag >> 3);
    uint64_t size = 0;
    switch (field.wireType) {
    case Varint:
      field.payload = at;
      if (!varint(at, end, field.value))
        return false;
      field.end = at;
      return true;
    case Fixed64:
      size = 8;
      break;
    case Fixed32:
      size = 4;
      break;
    case Length:
      if (!varint(at, end, size))
        return false;
      break;
    default:
      return fail(field.begin, "field " + llvm::Twine(field.number) + " has wire type " + llvm::Twine(field.wireType) +
                                   ", which ONNX does not use");
    }
    if (size > static_cast<uint64_t>(end - at))
      return fail(field.begin, "field " + llvm::Twine(field.number) + " says it has " + llvm::Twine(size) +
                                   " bytes where " + llvm::Twine(static_cast<uint64_t>(end - at)) +
                                   " are left in the " + (end == file.end() ? "file" : "message"));
    field.payload = at;
    at += size;
    field.end = at;
    return true;
  }

  static unsigned expectedWireType(const FieldDescriptor &field) {
    switch (field.type()) {
    case FieldDescriptor::TYPE_FLOAT:
    case FieldDescriptor::TYPE_FIXED32:
    case FieldDescriptor::TYPE_SFIXED32:
      return Fixed32;
    case FieldDescriptor::TYPE_DOUBLE:
    case FieldDescriptor::TYPE_FIXED64:
    case FieldDescriptor::TYPE_SFIXED64:
      return Fixed64;
    case FieldDescriptor::TYPE_STRING:
    case FieldDescriptor::TYPE_BYTES:
    case FieldDescriptor::TYPE_MESSAGE:
      return Length;
    default:
      return Varint;
    }
  }

  // Message fields that the installed schema (ONNX 1.12) lacks and that can hold tensors.
  static const Descriptor *newerMessage(const Descriptor &type, unsigned number) {
    if (&type == onnx::FunctionProto::descriptor() && number == 11) // attribute_proto, since IR version 9
      return onnx::AttributeProto::descriptor();
    return nullptr;
  }

  // Whether the one packed float_data or double_data field of this TensorProto holds all its data, in the bytes that
  // raw_data would have.
  bool packedDataIsRaw(const char *begin, const char *end) {
    int64_t type = 0;
    unsigned dataFields = 0, dataNumber = 0;
    uint64_t dataSize = 0;
    Field field;
    while (begin != end) {
      if (!next(begin, end, field))
        return false;
      switch (field.number) {
      case onnx::TensorProto::kDataTypeFieldNumber:
        type = static_cast<int64_t>(field.value);
        break;
      case onnx::TensorProto::kFloatDataFieldNumber:
      case onnx::TensorProto::kDoubleDataFieldNumber:
        if (field.wireType != Length)
          return false;
        ++dataFields;
        dataNumber = field.number;
        dataSize = field.payloadSize();
        break;
      case onnx::TensorProto::kDataLocationFieldNumber:
        if (field.value != 0)
          return false;
        break;
      case onnx::TensorProto::kInt32DataFieldNumber:
      case onnx::TensorProto::kInt64DataFieldNumber:
      case onnx::TensorProto::kUint64DataFieldNumber:
      case onnx::TensorProto::kStringDataFieldNumber:
      case onnx::TensorProto::kRawDataFieldNumber:
        return false;
      default: // says nothing of the elements
        break;
      }
    }
    if (dataFields != 1)
      return false;
    return dataNumber == onnx::TensorProto::kFloatDataFieldNumber
               ? type == onnx::TensorProto::FLOAT && dataSize % 4 == 0
               : type == onnx::TensorProto::DOUBLE && dataSize % 8 == 0;
  }

  void appendReference(const Field &data) {
    static_assert(onnx::TensorProto::kRawDataFieldNumber == 9);
    output += static_cast<char>(onnx::TensorProto::kRawDataFieldNumber << 3 | Length);
    output += static_cast<char>(16);
    output += DataReference{static_cast<uint64_t>(data.payload - file.begin()), data.payloadSize()}.encode();
  }

  // Writes the tag, a length of five bytes to be filled in, and the stripped message.
  bool nested(const Field &field, const Descriptor &type, unsigned depth) {
    if (depth >= maximumDepth)
      return fail(field.begin, "messages nest deeper than " + llvm::Twine(maximumDepth));
    const char *lengthAt = field.begin;
    uint64_t tag = 0;
    varint(lengthAt, field.payload, tag);
    output.append(field.begin, lengthAt);
    size_t start = output.size();
    output.append(5, '\0');
    if (!message(field.payload, field.end, type, depth + 1))
      return false;
    uint64_t size = output.size() - start - 5;
    if (size > INT_MAX)
      return fail(field.begin, "more than 2 GiB remain without the tensors' data");
    for (unsigned i = 0; i < 5; ++i, size >>= 7) // the longest form of a 32-bit varint; protobuf reads it
      output[start + i] = static_cast<char>((size & 0x7f) | (i < 4 ? 0x80 : 0));
    return true;
  }

  bool message(const char *begin, const char *end, const Descriptor &type, unsigned depth) {
    bool isTensor = &type == onnx::TensorProto::descriptor();
    std::optional<bool> packedIsRaw;
    std::array<uint32_t, 32> seen = {}; // message fields by number; ONNX's numbers are below 32
    const char *at = begin;
    Field field;
    while (at != end) {
      if (!next(at, end, field))
        return false;
      const FieldDescriptor *known = type.FindFieldByNumber(static_cast<int>(field.number));
      const Descriptor *message =
          known ? (known->type() == FieldDescriptor::TYPE_MESSAGE ? known->message_type() : nullptr)
                : newerMessage(type, field.number);
      if (!known && !message) { // newer than the schema, without tensors
        output.append(field.begin, field.end);
        continue;
      }
      llvm::StringRef name = known ? llvm::StringRef(known->name()) : "attribute_proto";
      unsigned expected = known ? expectedWireType(*known) : Length;
      bool packed = known && known->is_repeated() && expected != Length && field.wireType == Length;
      if (field.wireType != expected && !packed)
        return fail(field.begin, type.name() + "." + name + " is " + wireTypeNames[field.wireType] + " instead of " +
                                     wireTypeNames[expected]);
      if (message) {
        uint32_t index = field.number < seen.size() ? seen[field.number]++ : 0;
        bool repeated = !known || known->is_repeated();
        if (!repeated && index != 0)
          return fail(field.begin, type.name() + "." + name + " occurs twice");
        if (!nested(field, *message, depth)) {
          std::string step = name.str();
          if (repeated)
            step += "[" + std::to_string(index) + "]";
          error.path = error.path.empty() ? step : step + "." + error.path;
          return false;
        }
        continue;
      }
      if (isTensor && field.number == onnx::TensorProto::kRawDataFieldNumber) {
        appendReference(field);
        continue;
      }
      if (isTensor && packed &&
          (field.number == onnx::TensorProto::kFloatDataFieldNumber ||
           field.number == onnx::TensorProto::kDoubleDataFieldNumber)) {
        if (!packedIsRaw)
          packedIsRaw = packedDataIsRaw(begin, end);
        if (*packedIsRaw) {
          appendReference(field);
          continue;
        }
      }
      if (isTensor && field.number == onnx::TensorProto::kDataLocationFieldNumber && field.value > 1)
        return fail(field.begin, "unknown TensorProto.data_location " + llvm::Twine(field.value));
      output.append(field.begin, field.end);
    }
    return true;
  }

  llvm::StringRef file;
};

} // namespace

llvm::Expected<std::string> stripTensors(llvm::ArrayRef<std::byte> bytes, const Descriptor &root) {
  Stripper stripper({reinterpret_cast<const char *>(bytes.data()), bytes.size()});
  if (stripper.strip(root)) {
    if (stripper.output.size() > INT_MAX)
      return userError("more than 2 GiB remain without the tensors' data");
    return std::move(stripper.output);
  }
  ScanError &error = stripper.error;
  if (error.path.size() > 160) // deeply nested: the ends say enough
    error.path = error.path.substr(0, 80) + " ... " + error.path.substr(error.path.size() - 60);
  return userError("malformed protobuf at byte " + llvm::Twine(error.offset) + ": " + error.message, {"", error.path});
}

} // namespace quadrille::graph
