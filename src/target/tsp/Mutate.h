// Changes one field of one instruction or layout: the test of simulator and checker.
#pragma once

#include "target/Target.h"
#include "target/tsp/Code.h"

namespace quadrille::tsp {

// A mutation is proven benign where the checker's own walk shows that every output byte still comes from the same input
// bytes through the same operations. User errors: a program that is not legal. It must outlive the result.
llvm::Expected<std::unique_ptr<target::Mutations>> mutations(const program::Program &program);

} // namespace quadrille::tsp
