// Null programs as text: the common directives of target/Text.h, then one line a kernel:
//
//   kernel "3 conv" "contract" flops 2.5e+09 bytes 1024 nodes 0 7
#pragma once

#include "program/Program.h"

namespace llvm {
class raw_ostream;
} // namespace llvm

namespace quadrille::null_machine {

llvm::Error disassemble(const program::Program &program, llvm::raw_ostream &os);
llvm::Expected<program::Program> assemble(llvm::StringRef text, llvm::StringRef fileName);

} // namespace quadrille::null_machine
