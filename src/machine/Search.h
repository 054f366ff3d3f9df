// Where machine files are found; used by the loader.
#pragma once

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <string>

namespace quadrille::machine {

// Letters, digits, '-', '_' and '.', not beginning with a '.': safe as a file name.
bool isMachineName(llvm::StringRef name);

// The file of a machine in the search directories; empty when there is none.
std::string findMachine(llvm::StringRef name);

bool isRegularFile(llvm::StringRef path);

// The user error for a name that findMachine does not know, with the known names.
llvm::Error unknownMachine(llvm::StringRef name);

} // namespace quadrille::machine
