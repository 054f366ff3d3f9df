#include "program/Data.h"

#include "base/Error.h"
#include "base/File.h"

#include "llvm/ADT/Twine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

namespace quadrille::program {

namespace fs = llvm::sys::fs;
namespace path = llvm::sys::path;

llvm::Expected<llvm::ArrayRef<std::byte>> mapSpan(llvm::StringRef path, uint64_t offset, uint64_t size,
                                                  std::shared_ptr<const void> &owner) {
  auto file = MappedFile::open(path);
  if (!file)
    return file.takeError();
  llvm::ArrayRef<std::byte> bytes = (*file)->bytes();
  if (offset > bytes.size() || size > bytes.size() - offset)
    return userError("has " + llvm::Twine(bytes.size()) + " bytes, but " + llvm::Twine(size) + " bytes at offset " +
                         llvm::Twine(offset) + " are referred to",
                     {path.str(), ""});
  owner = std::move(*file);
  return bytes.slice(offset, size);
}

std::optional<std::string> pathBelow(llvm::StringRef path, llvm::StringRef folder) {
  llvm::SmallString<256> realFile, realFolder;
  if (fs::real_path(path, realFile) || fs::real_path(folder.empty() ? "." : folder, realFolder))
    return std::nullopt;
  llvm::StringRef rest = realFile;
  if (!rest.consume_front(realFolder) || !(rest.consume_front("/") || realFolder == "/") || rest.empty())
    return std::nullopt;
  return rest.str();
}

std::string StoredData::resolvedPath() const {
  if (!external)
    return {};
  llvm::SmallString<256> resolved(path::is_absolute(external->path) ? "" : path::parent_path(fileName));
  path::append(resolved, external->path);
  return resolved.str().str();
}

llvm::Error StoredData::open(const Variable &variable) const {
  if (section) {
    if (llvm::Error error = verifyHash(*section, fileName))
      return error;
    verified = section->bytes;
    return llvm::Error::success();
  }
  const Where where{fileName, "variable '" + variable.name + "'"};
  std::string resolved = resolvedPath();
  if (allowed == ExternalFiles::BelowProgram) {
    if (!fs::exists(resolved))
      return userError("its data lies in '" + resolved + "', which is missing", where,
                       "put the file back or compile the model again");
    if (!pathBelow(resolved, path::parent_path(fileName)))
      return userError("its data lies in '" + resolved + "', outside the program's folder, which is not allowed", where,
                       "move the program beside that file, or compile the model again");
  }
  std::shared_ptr<const void> file;
  auto bytes = mapSpan(resolved, external->offset, external->size, file);
  if (!bytes)
    return bytes.takeError();
  if (external->hash && hashOf(*bytes) != *external->hash)
    return userError("the data in '" + resolved + "' is not what the program was compiled with (its hash differs)",
                     where, "put the old file back or compile the model again");
  owner = std::move(file);
  verified = *bytes;
  return llvm::Error::success();
}

llvm::Expected<Tensor> StoredData::read(const Variable &variable) const {
  std::lock_guard lock(mutex);
  if (!isVerified) {
    if (llvm::Error error = open(variable))
      return error;
    isVerified = true;
  }
  // The sizes were compared when the program was loaded, but a Variable can be edited since.
  if (verified.size() != static_cast<uint64_t>(elementCount(variable.shape)) * byteWidth(variable.type))
    return internalError("the shape of variable '" + llvm::Twine(variable.name) + "' no longer matches its data");
  return Tensor::borrow(variable.type, variable.shape, verified, owner);
}

} // namespace quadrille::program
