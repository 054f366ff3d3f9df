// The program as text, and back. The language is described in README.md, "Programs as text".
#pragma once

#include "target/ipu/Code.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/raw_ostream.h"

namespace quadrille::ipu {

// assemble(disassemble(p)) equals p byte for byte for every program that a tool of this target wrote. Errors when the
// program cannot be decoded or its references are broken.
llvm::Error disassemble(const program::Program &program, llvm::raw_ostream &os);

// User errors: "FILE:LINE: what is wrong and what was expected". Whether the program is legal is the checker's
// business.
llvm::Expected<program::Program> assemble(llvm::StringRef text, llvm::StringRef fileName);

// "popops::Fill tiles=0..3 bytes=4 value=0 count=16 out=256": the text of a vertex whose codelet and parameters exist.
std::string print(const Vertex &vertex);

} // namespace quadrille::ipu
