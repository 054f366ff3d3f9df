// Files: mapped for reading, and written whole or not at all.
#pragma once

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <cstddef>
#include <memory>
#include <string>

namespace llvm {
class raw_pwrite_stream;
} // namespace llvm

namespace quadrille {

// A file's bytes, memory-mapped read-only and unmapped when the last user lets go. A file that is truncated by somebody
// else while it is mapped raises SIGBUS as everywhere; nothing here guards against that.
class MappedFile {
public:
  // User errors: missing, unreadable, not a regular file.
  static llvm::Expected<std::shared_ptr<const MappedFile>> open(llvm::StringRef path);

  ~MappedFile();
  MappedFile(const MappedFile &) = delete;
  MappedFile &operator=(const MappedFile &) = delete;

  llvm::StringRef path() const { return filePath; }
  llvm::ArrayRef<std::byte> bytes() const { return {data, size}; }
  llvm::StringRef text() const { return {reinterpret_cast<const char *>(data), size}; }

private:
  MappedFile() = default;
  std::string filePath;
  const std::byte *data = nullptr;
  size_t size = 0;
};

// Calls `write` on a stream to a temporary file beside `path`, then renames it. On any failure (of `write`, or a full
// disk) the temporary file is removed and whatever stood at `path` before is untouched; so it is on SIGINT. "-" and
// "/dev/stdout" are standard output; other devices and pipes get the bytes when `write` has made all of them, and a
// symbolic link stays one.
llvm::Error writeFileAtomically(llvm::StringRef path, llvm::function_ref<llvm::Error(llvm::raw_pwrite_stream &)> write);

} // namespace quadrille
