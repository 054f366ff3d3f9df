// The text form: what all programs share (target/Text.h), then one record a line, in the order of the program:
//
//   value {name: "x",type: "f32",shape: [1,3],role: "input"}
//   kernel {kind: "map",operation: "add",loops: [{extent: 1},{extent: 3}],...}
//   ports {inputs: [0],outputs: [2]}
//   step {kernels: [0]}
//   slots 1
//
// The records are JSON as FlatBuffers reads and writes it for the tables of Program.fbs.
#pragma once

#include "program/Program.h"

namespace llvm {
class raw_ostream;
} // namespace llvm

namespace quadrille::host {

llvm::Error disassemble(const program::Program &program, llvm::raw_ostream &os);
llvm::Expected<program::Program> assemble(llvm::StringRef text, llvm::StringRef fileName);

} // namespace quadrille::host
