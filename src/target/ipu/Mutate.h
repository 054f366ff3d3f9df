// Mutations of programs: one field changed (docs/mutation.md).
#pragma once

#include "target/Target.h"

#include <memory>

namespace quadrille::ipu {

// Mutation number `seed` of the program: a parameter or the tiles of a vertex, a field of a transfer, a step, a part of
// a placement. User errors: a program that cannot be decoded, or has nothing to change.
// `mutations` decodes the program once, and proves which of its mutations are benign (Influence.h).
llvm::Expected<std::unique_ptr<target::Mutations>> mutations(const program::Program &program);
llvm::Expected<target::Mutation> mutate(const program::Program &program, uint64_t seed);

} // namespace quadrille::ipu
