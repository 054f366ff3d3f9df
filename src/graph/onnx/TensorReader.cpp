#include "graph/onnx/TensorReader.h"

#include "base/Error.h"
#include "graph/onnx/DataType.h"
#include "graph/onnx/StripTensors.h"
#include "numerics/Convert.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Path.h"

#include <onnx/onnx_pb.h>

#include <cstring>
#include <limits>

namespace quadrille::graph {

llvm::Expected<int64_t> checkedElementCount(llvm::ArrayRef<int64_t> shape, ElementType type) {
  if (shape.size() > static_cast<size_t>(maximumRank))
    return userError("the tensor has " + llvm::Twine(shape.size()) + " dimensions, more than " +
                     llvm::Twine(maximumRank));
  // Products of some of the extents must fit too (strides), so a zero does not excuse the others.
  int64_t count = 1;
  bool empty = false;
  for (int64_t extent : shape) {
    if (extent < 0)
      return userError("the shape " + describe(type, shape) + " has a negative extent");
    if (extent == 0)
      empty = true;
    else if (llvm::MulOverflow(count, extent, count))
      return userError("the shape " + describe(type, shape) + " has more elements than can be counted");
  }
  int64_t bits = 0;
  if (llvm::MulOverflow(count, static_cast<int64_t>(byteWidth(type) * 8), bits))
    return userError("the shape " + describe(type, shape) + " has more elements than can be counted");
  return empty ? 0 : count;
}

uint64_t storedBytes(ElementType type, int64_t elements) {
  auto count = static_cast<size_t>(elements);
  bool packed = isInteger(type) && bitWidth(type) < 8;
  return packed ? packedByteSize(type, count) : count * byteWidth(type);
}

// Sub-byte integers as files hold them, one byte each.
static Tensor unpack(ElementType type, const Shape &shape, const std::byte *packed) {
  Tensor tensor = Tensor::uninitialized(type, shape);
  unpackSubByte(type, packed, tensor.mutableBytes(), static_cast<size_t>(tensor.elements()));
  return tensor;
}

// `stored` are the bytes of the whole tensor as raw data.
static void takeRaw(llvm::ArrayRef<std::byte> stored, std::shared_ptr<const void> owner, llvm::StringRef file,
                    uint64_t offset, WeightData &weight) {
  if (stored.empty()) {
    weight.data = Tensor::uninitialized(weight.type, weight.shape);
    return;
  }
  if (weight.type == ElementType::boolean) {
    if (llvm::any_of(stored, [](std::byte value) { return value > std::byte(1); })) {
      weight.data = Tensor::uninitialized(weight.type, weight.shape);
      llvm::transform(stored, weight.data.mutableBytes(),
                      [](std::byte value) { return std::byte(value != std::byte(0)); });
      return;
    }
  } else if (bitWidth(weight.type) < 8) {
    weight.data = unpack(weight.type, weight.shape, stored.data());
    return;
  }
  weight.data = Tensor::borrow(weight.type, weight.shape, stored, std::move(owner));
  weight.origin = FileSpan{file.str(), offset, stored.size()};
}

//===--------------------------------------------------------------------------------------------------------------===//
// Typed fields
//===--------------------------------------------------------------------------------------------------------------===//

// int32_data and uint64_data hold narrower types too: each value must be one of the type's.
template <typename T, typename Values>
static llvm::Error takeValues(const Values &values, llvm::StringRef field, WeightData &weight) {
  weight.data = Tensor::uninitialized(weight.type, weight.shape);
  auto *out = reinterpret_cast<T *>(weight.data.mutableBytes());
  using Value = typename Values::value_type;
  for (int i = 0, count = values.size(); i < count; ++i) {
    Value value = values.Get(i);
    if constexpr (sizeof(T) < sizeof(Value))
      if (value < static_cast<Value>(std::numeric_limits<T>::min()) ||
          value > static_cast<Value>(std::numeric_limits<T>::max())) {
        weight.data = Tensor();
        return userError(field + "[" + llvm::Twine(i) + "] is " + llvm::Twine(value) + ", which " +
                         nameOf(weight.type) + " cannot hold");
      }
    out[i] = static_cast<T>(value);
  }
  return llvm::Error::success();
}

static llvm::Error takePacked(const google::protobuf::RepeatedField<int32_t> &values, WeightData &weight) {
  std::vector<std::byte> packed(values.size());
  for (int i = 0; i < values.size(); ++i) {
    // Writers give the byte as a signed or as an unsigned number.
    if (values.Get(i) < -128 || values.Get(i) > 255)
      return userError("int32_data[" + llvm::Twine(i) + "] is " + llvm::Twine(values.Get(i)) +
                       ", which is not a byte of packed " + nameOf(weight.type));
    packed[i] = static_cast<std::byte>(values.Get(i));
  }
  weight.data = unpack(weight.type, weight.shape, packed.data());
  return llvm::Error::success();
}

namespace {
struct TypedField {
  const char *name;
  int64_t size;
};
} // namespace

// The typed field that ONNX prescribes for a type; every other must be empty.
static llvm::StringRef typedFieldFor(ElementType type) {
  switch (type) {
  case ElementType::f32:
    return "float_data";
  case ElementType::f64:
    return "double_data";
  case ElementType::i64:
    return "int64_data";
  case ElementType::u32:
  case ElementType::u64:
    return "uint64_data";
  default:
    return "int32_data";
  }
}

static llvm::Error takeTyped(const onnx::TensorProto &tensor, const TypedField &field, uint64_t stored,
                             WeightData &weight) {
  llvm::StringRef prescribed = typedFieldFor(weight.type);
  if (prescribed != field.name)
    return userError(llvm::Twine(nameOf(weight.type)) + " elements are in " + field.name + " instead of " + prescribed);
  bool packed = bitWidth(weight.type) < 8 && weight.type != ElementType::boolean;
  uint64_t expected = packed ? stored : static_cast<uint64_t>(elementCount(weight.shape));
  if (static_cast<uint64_t>(field.size) != expected)
    return userError(llvm::Twine(field.name) + " has " + llvm::Twine(field.size) + " values where " +
                     describe(weight.type, weight.shape) + " needs " + llvm::Twine(expected));
  switch (weight.type) {
  case ElementType::f32:
    return takeValues<float>(tensor.float_data(), field.name, weight);
  case ElementType::f64:
    return takeValues<double>(tensor.double_data(), field.name, weight);
  case ElementType::i64:
    return takeValues<int64_t>(tensor.int64_data(), field.name, weight);
  case ElementType::u64:
    return takeValues<uint64_t>(tensor.uint64_data(), field.name, weight);
  case ElementType::u32:
    return takeValues<uint32_t>(tensor.uint64_data(), field.name, weight);
  case ElementType::i32:
    return takeValues<int32_t>(tensor.int32_data(), field.name, weight);
  case ElementType::i16:
    return takeValues<int16_t>(tensor.int32_data(), field.name, weight);
  case ElementType::i8:
    return takeValues<int8_t>(tensor.int32_data(), field.name, weight);
  case ElementType::u16:
  case ElementType::f16: // floats of 8 and 16 bits are their bits as an unsigned number
  case ElementType::bf16:
    return takeValues<uint16_t>(tensor.int32_data(), field.name, weight);
  case ElementType::u8:
  case ElementType::f8e4m3fn:
  case ElementType::f8e4m3fnuz:
  case ElementType::f8e5m2:
  case ElementType::f8e5m2fnuz:
    return takeValues<uint8_t>(tensor.int32_data(), field.name, weight);
  case ElementType::boolean:
    weight.data = Tensor::uninitialized(weight.type, weight.shape);
    llvm::transform(tensor.int32_data(), weight.data.mutableBytes(),
                    [](int32_t value) { return std::byte(value != 0); });
    return llvm::Error::success();
  case ElementType::i4:
  case ElementType::u4:
  case ElementType::i2:
  case ElementType::u2:
    return takePacked(tensor.int32_data(), weight);
  case ElementType::cb16: // ONNX has no code for it
    break;
  }
  return internalError("no ONNX tensor has elements of " + llvm::Twine(nameOf(weight.type)));
}

//===--------------------------------------------------------------------------------------------------------------===//
// External data
//===--------------------------------------------------------------------------------------------------------------===//

TensorReader::ExternalFile TensorReader::openExternal(llvm::StringRef location) const {
  namespace fs = llvm::sys::fs;
  namespace paths = llvm::sys::path;
  ExternalFile result;
  std::string shown = "external data '" + location.str() + "' ";
  if (location.empty() || location.contains('\0')) {
    result.refusal = "external data has no location";
    return result;
  }
  if (paths::is_absolute(location)) {
    result.refusal = shown + "has an absolute path";
    return result;
  }
  for (llvm::StringRef component : llvm::make_range(paths::begin(location), paths::end(location)))
    if (component == "..") {
      result.refusal = shown + "leads outside the model's folder";
      return result;
    }
  llvm::SmallString<256> folder = paths::parent_path(path);
  if (folder.empty())
    folder = ".";
  llvm::SmallString<256> wanted = folder;
  paths::append(wanted, location);
  llvm::SmallString<256> realFolder, real;
  if (std::error_code error = fs::real_path(folder, realFolder)) {
    result.absence = shown + "cannot be looked for: " + error.message();
    return result;
  }
  if (std::error_code error = fs::real_path(wanted, real)) {
    result.absence =
        shown + (error == std::errc::no_such_file_or_directory ? "is missing" : "cannot be opened: " + error.message());
    return result;
  }
  // Symbolic links are resolved now: what they lead to must lie within the folder.
  llvm::StringRef rest = real;
  if (!rest.consume_front(realFolder) || !(rest.empty() || rest.starts_with("/") || realFolder == "/")) {
    result.refusal = shown + "leads outside the model's folder through a symbolic link";
    return result;
  }
  if (rest.empty() || !fs::is_regular_file(real)) {
    result.refusal = shown + "is not a regular file";
    return result;
  }
  llvm::Expected<std::shared_ptr<const MappedFile>> file = MappedFile::open(real);
  if (!file) {
    result.absence = shown + "cannot be opened: " + llvm::toString(file.takeError());
    return result;
  }
  result.file = std::move(*file);
  return result;
}

const TensorReader::ExternalFile &TensorReader::external(llvm::StringRef location) const {
  std::lock_guard lock(mutex);
  auto known = externalFiles.find(location.str());
  if (known == externalFiles.end())
    known = externalFiles.emplace(location.str(), openExternal(location)).first;
  return known->second; // references into a std::map stay valid
}

llvm::Error TensorReader::readExternal(const onnx::TensorProto &tensor, uint64_t stored, WeightData &weight) const {
  std::string location;
  uint64_t offset = 0;
  std::optional<uint64_t> length;
  for (const onnx::StringStringEntryProto &entry : tensor.external_data()) {
    if (entry.key() == "location")
      location = entry.value();
    if (entry.key() != "offset" && entry.key() != "length")
      continue; // checksum, and keys that ONNX does not define
    uint64_t number = 0;
    if (llvm::StringRef(entry.value()).getAsInteger(10, number))
      return userError("external data has the " + entry.key() + " '" + entry.value() + "', which is not a number");
    if (entry.key() == "offset")
      offset = number;
    else
      length = number;
  }
  if (length && *length != stored)
    return userError("external data has " + llvm::Twine(*length) + " bytes where " +
                     describe(weight.type, weight.shape) + " needs " + llvm::Twine(stored));
  const ExternalFile &found = external(location);
  if (!found.refusal.empty())
    return userError(found.refusal, {}, "put the file beside the model and name it there");
  if (!found.file) {
    weight.absence = found.absence;
    llvm::SmallString<256> missing = llvm::sys::path::parent_path(path);
    llvm::sys::path::append(missing, location);
    weight.origin = FileSpan{missing.str().str(), offset, 0};
    return llvm::Error::success();
  }
  llvm::ArrayRef<std::byte> content = found.file->bytes();
  if (offset > content.size() || stored > content.size() - offset) {
    weight.absence = ("external data '" + llvm::Twine(location) + "' has " + llvm::Twine(content.size()) +
                      " bytes where the tensor needs bytes " + llvm::Twine(offset) + " to " +
                      llvm::Twine(llvm::SaturatingAdd(offset, stored)))
                         .str();
    weight.origin = FileSpan{found.file->path().str(), offset, 0};
    return llvm::Error::success();
  }
  takeRaw(content.slice(offset, stored), found.file, found.file->path(), offset, weight);
  return llvm::Error::success();
}

//===--------------------------------------------------------------------------------------------------------------===//

llvm::Expected<WeightData> TensorReader::read(const onnx::TensorProto &tensor) const {
  WeightData weight;
  weight.name = tensor.name();
  auto failed = [&](llvm::Error error) {
    return inFile(
        atNode(std::move(error), tensor.name().empty() ? "a nameless tensor" : "tensor '" + tensor.name() + "'"), path);
  };
  llvm::Expected<ElementType> type = elementTypeOfCode(tensor.data_type());
  if (!type)
    return failed(type.takeError());
  weight.type = *type;
  weight.shape.assign(tensor.dims().begin(), tensor.dims().end());
  llvm::Expected<int64_t> elements = checkedElementCount(weight.shape, weight.type);
  if (!elements)
    return failed(elements.takeError());
  uint64_t stored = storedBytes(weight.type, *elements);
  if (tensor.has_segment())
    return failed(userError("tensors in segments are not supported"));

  if (tensor.data_location() == onnx::TensorProto::EXTERNAL) {
    if (llvm::Error error = readExternal(tensor, stored, weight))
      return failed(std::move(error));
    return weight;
  }

  TypedField typed = {nullptr, 0};
  for (TypedField field :
       {TypedField{"float_data", tensor.float_data_size()}, TypedField{"int32_data", tensor.int32_data_size()},
        TypedField{"int64_data", tensor.int64_data_size()}, TypedField{"uint64_data", tensor.uint64_data_size()},
        TypedField{"double_data", tensor.double_data_size()}, TypedField{"string_data", tensor.string_data_size()}}) {
    if (field.size == 0)
      continue;
    if (typed.name)
      return failed(userError(llvm::Twine("elements are in both ") + typed.name + " and " + field.name));
    typed = field;
  }
  if (tensor.has_raw_data()) {
    if (typed.name)
      return failed(userError(llvm::Twine("elements are in both ") + typed.name + " and raw_data"));
    std::optional<DataReference> reference = DataReference::decode(tensor.raw_data());
    if (!reference || reference->offset > bytes.size() || reference->size > bytes.size() - reference->offset)
      return failed(internalError("raw_data is no reference into the file"));
    if (reference->size != stored)
      return failed(userError("the data has " + llvm::Twine(reference->size) + " bytes where " +
                              describe(weight.type, weight.shape) + " needs " + llvm::Twine(stored)));
    takeRaw(bytes.slice(reference->offset, reference->size), owner, path, reference->offset, weight);
    return weight;
  }
  if (typed.name) {
    if (llvm::Error error = takeTyped(tensor, typed, stored, weight))
      return failed(std::move(error));
    return weight;
  }
  if (*elements == 0) {
    weight.data = Tensor::uninitialized(weight.type, weight.shape);
    return weight;
  }
  weight.absence = "the file holds no data for the tensor";
  weight.origin = FileSpan{path, 0, 0};
  return weight;
}

} // namespace quadrille::graph
