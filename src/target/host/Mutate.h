#pragma once

#include "target/Target.h"
#include "target/host/Program_generated.h"

namespace quadrille::host {

// Changes field number `seed` of the kernel list (round and round, each round with another change); says what it did.
llvm::Expected<std::string> mutateField(schema::ProgramT &contents, uint64_t seed);

} // namespace quadrille::host
