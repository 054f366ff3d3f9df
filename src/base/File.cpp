#include "base/File.h"

#include "base/Error.h"

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

llvm::Error writeFileAtomically(llvm::StringRef path,
                                llvm::function_ref<llvm::Error(llvm::raw_pwrite_stream &)> write) {
  if (path == "-") {
    llvm::SmallVector<char, 0> buffer;
    llvm::raw_svector_ostream memory(buffer);
    if (llvm::Error error = write(memory))
      return error;
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
  llvm::Expected<llvm::sys::fs::TempFile> temporary =
      llvm::sys::fs::TempFile::create(path + ".tmp-%%%%%%%%", llvm::sys::fs::all_read | llvm::sys::fs::all_write);
  if (!temporary)
    return userError("cannot create: " + llvm::toString(temporary.takeError()), {path.str(), ""});

  llvm::Error failure = llvm::Error::success();
  {
    llvm::raw_fd_ostream os(temporary->FD, /*shouldClose=*/false);
    failure = llvm::joinErrors(std::move(failure), write(os));
    os.flush();
    if (os.has_error()) {
      failure = llvm::joinErrors(std::move(failure),
                                 userError("cannot write: " + os.error().message(), {path.str(), ""},
                                           "free some disk space or choose another place; nothing was changed"));
      os.clear_error();
    }
  }
  if (failure)
    return llvm::joinErrors(std::move(failure), temporary->discard());
  if (llvm::Error error = temporary->keep(path))
    return userError("cannot write: " + llvm::toString(std::move(error)), {path.str(), ""});
  return llvm::Error::success();
}

} // namespace quadrille
