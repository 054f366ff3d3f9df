// Executes a program, with values or without: the same steps, the same cycles.
#pragma once

#include "target/Target.h"
#include "target/ipu/Code.h"

namespace quadrille::ipu {

// Without inputs no values are computed. User errors: no such entry point, missing inputs, a program that is not
// well-formed (Check.h).
llvm::Expected<target::RunResult> execute(const program::Program &program, const target::NamedTensors *inputs,
                                          const target::RunOptions &options);

} // namespace quadrille::ipu
