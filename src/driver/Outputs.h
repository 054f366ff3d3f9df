// Where a command writes, checked before it begins.
#pragma once

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"

#include <string>

namespace quadrille::driver {

struct OutputOption {
  std::string option, path; // an empty path: not given
};

// User errors: an output that is also an input (given as FILE or NAME=FILE) or another output, and standard output
// where the command prints its report there.
llvm::Error requireSeparateFiles(llvm::ArrayRef<std::string> inputs, llvm::ArrayRef<OutputOption> outputs,
                                 bool printsReport);

} // namespace quadrille::driver
