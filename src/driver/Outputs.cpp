#include "driver/Outputs.h"

#include "base/Error.h"

#include "llvm/ADT/Twine.h"
#include "llvm/Support/FileSystem.h"

namespace quadrille::driver {

namespace {

// Devices and pipes may be shared: nothing in them is overwritten.
bool sameRegularFile(llvm::StringRef a, llvm::StringRef b) {
  return llvm::sys::fs::is_regular_file(a) && llvm::sys::fs::equivalent(a, b);
}

// Also of files that do not exist yet.
bool samePath(llvm::StringRef a, llvm::StringRef b) {
  llvm::sys::fs::file_status status;
  if (!llvm::sys::fs::status(a, status) && llvm::sys::fs::exists(status))
    return sameRegularFile(a, b);
  return a == b;
}

} // namespace

llvm::Error requireSeparateFiles(llvm::ArrayRef<std::string> inputs, llvm::ArrayRef<OutputOption> outputs,
                                 bool printsReport) {
  for (const OutputOption &output : outputs) {
    if (output.path.empty())
      continue;
    if (printsReport && (output.path == "-" || output.path == "/dev/stdout"))
      return userError(output.option + " -: the report goes to standard output", {}, "give a file");
    for (llvm::StringRef input : inputs)
      if (sameRegularFile(output.path, input) || sameRegularFile(output.path, input.split('=').second))
        return userError(output.option + " would overwrite an input", {output.path, ""}, "give another file");
    for (const OutputOption &other : outputs)
      if (&other != &output && samePath(output.path, other.path))
        return userError(output.option + " and " + other.option + " name the same file", {output.path, ""},
                         "give two files");
  }
  return llvm::Error::success();
}

} // namespace quadrille::driver
