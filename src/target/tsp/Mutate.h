// Changes one field of one instruction or layout: the test of simulator and checker.
#pragma once

#include "target/Target.h"
#include "target/tsp/Code.h"

namespace quadrille::tsp {

// Mutation number `seed`. It is proven benign where the checker's own walk shows that every output byte still comes
// from the same input bytes through the same operations.
llvm::Expected<target::Mutation> mutate(const program::Program &program, uint64_t seed);

} // namespace quadrille::tsp
