#include "driver/TensorFile.h"

#include "base/File.h"
#include "graph/onnx/ModelFile.h"
#include "numerics/Convert.h"

#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/raw_ostream.h"

#include <cstring>
#include <zip.h>

namespace quadrille::driver {

namespace {

constexpr llvm::StringLiteral npyMagic("\x93NUMPY");

struct NumpyType {
  llvm::StringLiteral description;
  ElementType type;
};
// NumPy's type strings, little-endian; '|' where the order of bytes does not matter.
constexpr NumpyType numpyTypes[] = {
    {"<f8", ElementType::f64}, {"<f4", ElementType::f32}, {"<f2", ElementType::f16}, {"<i8", ElementType::i64},
    {"<i4", ElementType::i32}, {"<i2", ElementType::i16}, {"|i1", ElementType::i8},  {"<u8", ElementType::u64},
    {"<u4", ElementType::u32}, {"<u2", ElementType::u16}, {"|u1", ElementType::u8},  {"|b1", ElementType::boolean},
    {"|V2", ElementType::u16}, {"|V1", ElementType::u8},
};

llvm::Error damaged(const Where &where, const llvm::Twine &what,
                    const llvm::Twine &remedy = "write it with numpy.save or numpy.savez") {
  return userError("not a readable NumPy array: " + what, where, remedy);
}

// Types that NumPy has and Quadrille has not.
llvm::Error unsupportedType(const Where &where, llvm::StringRef name) {
  if (name.starts_with(">"))
    return damaged(where, "big-endian numbers ('" + name + "') are not supported",
                   "convert them with x.astype(x.dtype.newbyteorder('<'))");
  if (name == "|O")
    return damaged(where, "Python objects ('|O') are not numbers", "convert them with x.astype(numpy.float32)");
  return damaged(where, "arrays of type '" + name + "' are not supported", "convert them with x.astype(numpy.float32)");
}

// The value after 'key': in the header's dictionary literal, up to `end` (exclusive), or nullopt.
std::optional<llvm::StringRef> headerField(llvm::StringRef header, llvm::StringRef key, llvm::StringRef end) {
  size_t at = header.find(("'" + key + "'").str());
  if (at == llvm::StringRef::npos)
    return std::nullopt;
  llvm::StringRef rest = header.drop_front(at + key.size() + 2).ltrim();
  if (!rest.consume_front(":"))
    return std::nullopt;
  rest = rest.ltrim();
  size_t stop = rest.find(end);
  if (stop == llvm::StringRef::npos)
    return std::nullopt;
  return rest.take_front(stop);
}

// Copies elements of a column-major array into row-major order.
Tensor fromColumnMajor(ElementType type, const Shape &shape, llvm::ArrayRef<std::byte> bytes) {
  Tensor result = Tensor::uninitialized(type, shape);
  size_t width = byteWidth(type);
  Shape index(shape.size(), 0), sourceStrides(shape.size(), 1);
  for (size_t d = 1; d < shape.size(); ++d)
    sourceStrides[d] = sourceStrides[d - 1] * shape[d - 1];
  std::byte *out = result.mutableBytes();
  for (int64_t i = 0, count = result.elements(); i < count; ++i, out += width) {
    int64_t source = 0;
    for (size_t d = 0; d < shape.size(); ++d)
      source += index[d] * sourceStrides[d];
    std::memcpy(out, bytes.data() + source * width, width);
    for (size_t d = shape.size(); d-- > 0;) {
      if (++index[d] < shape[d])
        break;
      index[d] = 0;
    }
  }
  return result;
}

std::string npyHeader(ElementType type, const Shape &shape) {
  std::string dictionary;
  llvm::raw_string_ostream os(dictionary);
  for (const NumpyType &entry : numpyTypes)
    if (entry.type == type) {
      os << "{'descr': '" << entry.description << "', 'fortran_order': False, 'shape': (";
      break;
    }
  for (int64_t extent : shape)
    os << extent << ", ";
  os << "), }";
  // The data starts at a multiple of 64 bytes; the header ends with a newline.
  size_t padded = llvm::alignTo(10 + dictionary.size() + 1, 64) - 10;
  dictionary.append(padded - dictionary.size() - 1, ' ');
  dictionary += '\n';
  char prefix[4] = {1, 0, static_cast<char>(dictionary.size() & 0xff), static_cast<char>(dictionary.size() >> 8)};
  return npyMagic.str() + std::string(prefix, 4) + dictionary;
}

bool hasNumpyType(ElementType type) {
  return llvm::any_of(numpyTypes, [&](const NumpyType &entry) { return entry.type == type; });
}

llvm::Expected<NamedTensors> readNpz(std::shared_ptr<const MappedFile> file) {
  std::string name = file->path().str();
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t *source = zip_source_buffer_create(file->bytes().data(), file->bytes().size(), 0, &error);
  zip_t *archive = source ? zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &error) : nullptr;
  if (!archive) {
    std::string message = zip_error_strerror(&error);
    if (source)
      zip_source_free(source);
    zip_error_fini(&error);
    return userError("not a readable .npz: " + message, {name, ""}, "write it with numpy.savez");
  }
  auto close = llvm::make_scope_exit([&] { zip_discard(archive); });

  NamedTensors tensors;
  for (zip_int64_t i = 0, count = zip_get_num_entries(archive, 0); i < count; ++i) {
    zip_stat_t status;
    if (zip_stat_index(archive, i, 0, &status) != 0 || !(status.valid & ZIP_STAT_SIZE) ||
        !(status.valid & ZIP_STAT_COMP_SIZE) || !status.name)
      return userError("damaged entry " + llvm::Twine(i), {name, ""});
    llvm::StringRef entry = status.name;
    // Deflate cannot expand by more than about 1032; a larger claim is a lie that must not be allocated.
    if (status.comp_size > file->bytes().size() || status.size > status.comp_size * 1040 + 1024)
      return userError("implausible size of " + llvm::Twine(status.size) + " bytes", {name, entry.str()});
    std::vector<std::byte> bytes(status.size);
    zip_file_t *stream = zip_fopen_index(archive, i, 0);
    zip_int64_t got = stream ? zip_fread(stream, bytes.data(), bytes.size()) : -1;
    // Only the read that meets the end compares the checksum.
    char beyond;
    bool checked = stream && zip_fread(stream, &beyond, 1) == 0;
    bool intact = stream && zip_fclose(stream) == 0 && checked;
    if (!intact || got != static_cast<zip_int64_t>(bytes.size()))
      return userError("damaged entry", {name, entry.str()});
    llvm::Expected<Tensor> tensor = parseNpy(bytes, {name, entry.str()});
    if (!tensor)
      return tensor.takeError();
    entry.consume_back(".npy");
    tensors.emplace(entry.str(), std::move(*tensor));
  }
  return tensors;
}

} // namespace

llvm::Expected<Tensor> parseNpy(llvm::ArrayRef<std::byte> bytes, const Where &where) {
  llvm::StringRef text(reinterpret_cast<const char *>(bytes.data()), bytes.size());
  if (!text.starts_with(npyMagic) || text.size() < 10)
    return damaged(where, "no NumPy header");
  unsigned version = static_cast<unsigned char>(text[6]);
  size_t headerBegin = version == 1 ? 10 : 12;
  if (version < 1 || version > 3 || text.size() < headerBegin)
    return damaged(where, "format version " + llvm::Twine(version) + " is not known");
  size_t headerSize = version == 1 ? llvm::support::endian::read16le(text.data() + 8)
                                   : llvm::support::endian::read32le(text.data() + 8);
  if (headerSize > text.size() - headerBegin)
    return damaged(where, "truncated header");
  llvm::StringRef header = text.substr(headerBegin, headerSize);

  auto description = headerField(header, "descr", ",");
  auto order = headerField(header, "fortran_order", ",");
  auto extents = headerField(header, "shape", ")");
  if (!description || !order || !extents || !extents->consume_front("("))
    return damaged(where, "header without descr, fortran_order or shape");
  std::optional<ElementType> type;
  llvm::StringRef numpyName = description->trim("' ");
  for (const NumpyType &entry : numpyTypes)
    if (entry.description == numpyName)
      type = entry.type;
  if (!type)
    return unsupportedType(where, numpyName);

  Shape shape;
  uint64_t count = 1;
  llvm::SmallVector<llvm::StringRef> pieces;
  extents->split(pieces, ',', -1, /*KeepEmpty=*/false);
  for (llvm::StringRef piece : pieces) {
    if (piece.trim().empty())
      continue;
    uint64_t extent;
    if (piece.trim().getAsInteger(10, extent) || extent > (uint64_t(1) << 48) ||
        __builtin_mul_overflow(count, extent, &count) || count > (uint64_t(1) << 48))
      return damaged(where, "bad shape (" + *extents + ")");
    shape.push_back(static_cast<int64_t>(extent));
  }
  llvm::ArrayRef<std::byte> data = bytes.drop_front(headerBegin + headerSize);
  if (data.size() != count * byteWidth(*type))
    return damaged(where, "the shape (" + *extents + ") needs " + llvm::Twine(count * byteWidth(*type)) +
                              " bytes, found " + llvm::Twine(data.size()));
  bool columnMajor = order->trim() == "True";
  Tensor tensor = columnMajor ? fromColumnMajor(*type, shape, data) : Tensor::uninitialized(*type, shape);
  if (!columnMajor && !data.empty())
    std::memcpy(tensor.mutableBytes(), data.data(), data.size());
  if (*type == ElementType::boolean) // a truth value is 0 or 1, in a file any byte
    for (size_t i = 0; i < data.size(); ++i)
      tensor.mutableBytes()[i] = static_cast<std::byte>(tensor.bytes()[i] != std::byte(0));
  return tensor;
}

llvm::Expected<NamedTensors> readTensorFile(llvm::StringRef path) {
  auto file = MappedFile::open(path);
  if (!file)
    return file.takeError();
  llvm::StringRef text = (*file)->text();
  if (text.starts_with("PK"))
    return readNpz(*file);
  NamedTensors tensors;
  if (text.starts_with(npyMagic)) {
    auto tensor = parseNpy((*file)->bytes(), {path.str(), ""});
    if (!tensor)
      return tensor.takeError();
    tensors.emplace("", std::move(*tensor));
    return tensors;
  }
  if (path.ends_with(".pb")) {
    auto named = graph::readTensorFile(path);
    if (!named)
      return named.takeError();
    tensors.emplace(named->name, std::move(named->tensor));
    return tensors;
  }
  return userError("neither .npz nor .npy nor an ONNX tensor (.pb)", {path.str(), ""});
}

llvm::Error writeTensorFile(llvm::StringRef path, const NamedTensors &tensors) {
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t *source = zip_source_buffer_create(nullptr, 0, 0, &error);
  zip_t *archive = source ? zip_open_from_source(source, ZIP_TRUNCATE, &error) : nullptr;
  if (!archive)
    return internalError(llvm::Twine("cannot create an archive in memory: ") + zip_error_strerror(&error));
  zip_source_keep(source); // read back after zip_close
  auto release = llvm::make_scope_exit([&] { zip_source_free(source); });

  std::vector<std::string> images; // alive until zip_close
  images.reserve(tensors.size());
  for (const auto &[name, tensor] : tensors) {
    Tensor stored = hasNumpyType(tensor.type()) ? tensor : convert(tensor, ElementType::f32);
    std::string &image = images.emplace_back(npyHeader(stored.type(), stored.shape()));
    image.append(reinterpret_cast<const char *>(stored.bytes().data()), stored.byteSize());
    zip_source_t *entry = zip_source_buffer(archive, image.data(), image.size(), 0);
    zip_int64_t index = entry ? zip_file_add(archive, (name + ".npy").c_str(), entry, ZIP_FL_ENC_UTF_8) : -1;
    // A fixed time makes equal arrays equal files.
    if (index < 0 || zip_set_file_compression(archive, index, ZIP_CM_STORE, 0) != 0 ||
        zip_file_set_mtime(archive, index, 315532800 /* 1980-01-01 */, 0) != 0) {
      std::string message = zip_strerror(archive);
      zip_discard(archive);
      return userError("cannot store array '" + name + "': " + message, {path.str(), ""});
    }
  }
  if (zip_close(archive) != 0) {
    std::string message = zip_strerror(archive);
    zip_discard(archive);
    return internalError("cannot assemble an archive: " + message);
  }
  zip_stat_t status;
  if (zip_source_stat(source, &status) != 0 || zip_source_open(source) != 0)
    return internalError("cannot read an archive back");
  auto closeSource = llvm::make_scope_exit([&] { zip_source_close(source); });
  std::vector<char> bytes(status.size);
  if (zip_source_read(source, bytes.data(), bytes.size()) != static_cast<zip_int64_t>(bytes.size()))
    return internalError("cannot read an archive back");
  return writeFileAtomically(path, [&](llvm::raw_pwrite_stream &os) {
    os.write(bytes.data(), bytes.size());
    return llvm::Error::success();
  });
}

} // namespace quadrille::driver
