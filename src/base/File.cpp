#include "base/File.h"

#include "base/Error.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace quadrille {

llvm::Expected<std::shared_ptr<const MappedFile>> MappedFile::open(llvm::StringRef path) {
  std::string name = path.str();
  int descriptor = ::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0)
    return userError(llvm::Twine("cannot open: ") + std::strerror(errno), {name, ""});
  struct stat status;
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor);
    return userError("not a regular file", {name, ""});
  }
  std::shared_ptr<MappedFile> file(new MappedFile());
  file->filePath = name;
  file->size = static_cast<size_t>(status.st_size);
  if (file->size != 0) {
    void *address = mmap(nullptr, file->size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (address == MAP_FAILED) {
      int error = errno;
      close(descriptor);
      file->size = 0;
      return userError(llvm::Twine("cannot map: ") + std::strerror(error), {name, ""});
    }
    file->data = static_cast<const std::byte *>(address);
  }
  close(descriptor);
  return file;
}

MappedFile::~MappedFile() {
  if (data)
    munmap(const_cast<std::byte *>(data), size);
}

// A device or a pipe takes the bytes itself: renaming a file onto it would replace it (/dev/null for everybody).
static llvm::Error writeInPlace(llvm::StringRef path, llvm::ArrayRef<char> bytes) {
  // Without a reader a pipe fails here instead of waiting for ever.
  int descriptor = ::open(path.str().c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0)
    return userError(llvm::Twine("cannot write: ") + std::strerror(errno), {path.str(), ""});
  fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) & ~O_NONBLOCK);
  llvm::raw_fd_ostream os(descriptor, /*shouldClose=*/true);
  os.write(bytes.data(), bytes.size());
  os.close();
  if (!os.has_error())
    return llvm::Error::success();
  std::error_code code = os.error();
  os.clear_error();
  return userError("cannot write: " + code.message(), {path.str(), ""});
}

llvm::Error writeFileAtomically(llvm::StringRef givenPath,
                                llvm::function_ref<llvm::Error(llvm::raw_pwrite_stream &)> write) {
  // A symbolic link stays, and what it points to is written.
  llvm::SmallString<128> path = givenPath;
  if (llvm::sys::fs::is_symlink_file(givenPath))
    if (llvm::SmallString<128> target; !llvm::sys::fs::real_path(givenPath, target))
      path = target;
  llvm::sys::fs::file_status status;
  bool exists = !llvm::sys::fs::status(givenPath, status) && llvm::sys::fs::exists(status);
  bool standardOutput = givenPath == "-" || givenPath == "/dev/stdout";
  if (exists && (llvm::sys::fs::is_directory(status) || status.type() == llvm::sys::fs::file_type::block_file))
    return userError("cannot write: not a regular file", {givenPath.str(), ""});
  if (standardOutput || (exists && !llvm::sys::fs::is_regular_file(status))) {
    llvm::SmallVector<char, 0> buffer;
    llvm::raw_svector_ostream memory(buffer);
    if (llvm::Error error = write(memory))
      return error;
    if (!standardOutput)
      return writeInPlace(givenPath, buffer);
    llvm::outs().write(buffer.data(), buffer.size());
    llvm::outs().flush();
    if (llvm::outs().has_error()) {
      std::error_code code = llvm::outs().error();
      llvm::outs().clear_error();
      return userError("cannot write: " + code.message(), {"standard output", ""});
    }
    return llvm::Error::success();
  }
  // Created with the usual permissions; TempFile removes it on a signal.
  llvm::Expected<llvm::sys::fs::TempFile> temporary = llvm::sys::fs::TempFile::create(
      llvm::Twine(path) + ".tmp-%%%%%%%%", llvm::sys::fs::all_read | llvm::sys::fs::all_write);
  if (!temporary)
    return userError("cannot create: " + llvm::toString(temporary.takeError()), {std::string(path), ""});

  llvm::Error failure = llvm::Error::success();
  {
    llvm::raw_fd_ostream os(temporary->FD, /*shouldClose=*/false);
    failure = llvm::joinErrors(std::move(failure), write(os));
    os.flush();
    if (os.has_error()) {
      failure = llvm::joinErrors(std::move(failure),
                                 userError("cannot write: " + os.error().message(), {std::string(path), ""},
                                           "free some disk space or choose another place; nothing was changed"));
      os.clear_error();
    }
  }
  if (failure)
    return llvm::joinErrors(std::move(failure), temporary->discard());
  if (llvm::Error error = temporary->keep(path))
    return userError("cannot write: " + llvm::toString(std::move(error)), {std::string(path), ""});
  return llvm::Error::success();
}

} // namespace quadrille
