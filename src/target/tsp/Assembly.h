// The program as text, and back. The language is described in README.md, "Assembly".
#pragma once

#include "target/tsp/Code.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/raw_ostream.h"

namespace quadrille::tsp {

// assemble(disassemble(p)) equals p byte for byte for every program that a tool of this target wrote. Errors when the
// program cannot be decoded or its references are broken.
llvm::Error disassemble(const program::Program &program, llvm::raw_ostream &os);

// User errors: "FILE:LINE: what is wrong and what was expected". Operands are checked against the ranges of the
// machine; whether the program is legal is the checker's business. `.machine NAME` opens that machine's description.
llvm::Expected<program::Program> assemble(llvm::StringRef text, llvm::StringRef fileName);

// The same for what is not common to all targets, over a program whose variables, nodes and entry points are known.
llvm::Error printCode(const Code &code, const program::Program &program, llvm::raw_ostream &os);
llvm::Expected<Code> assembleCode(llvm::StringRef text, llvm::StringRef fileName, const program::Program &program,
                                  const Architecture &machine);

} // namespace quadrille::tsp
