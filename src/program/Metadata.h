// A program's metadata as a FlatBuffer (Metadata.fbs) and back.
#pragma once

#include "program/Program.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"

#include <string>
#include <vector>

namespace quadrille::program {

// Where the data of a variable lies in the file: a section (0: in none), or another file.
struct Placement {
  uint32_t section = 0;
  std::optional<Variable::External> external; // with its hash
};

// `placements` is parallel to the program's variables. The program must be well-formed. A user error when the metadata
// would exceed what a FlatBuffer can hold (2 GiB).
llvm::Expected<std::vector<std::byte>> encodeMetadata(const Program &program, llvm::ArrayRef<Placement> placements);

// Verifies the FlatBuffer, of a file of that format version, and copies it out; Program::verify is the caller's.
// Payload and data are left empty; fills `placements`, parallel to the variables.
llvm::Expected<Program> decodeMetadata(llvm::ArrayRef<std::byte> bytes, uint32_t version, const std::string &fileName,
                                       std::vector<Placement> &placements);

} // namespace quadrille::program
