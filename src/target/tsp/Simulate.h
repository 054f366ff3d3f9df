// Executes one entry point of a program, with or without values: the same instructions, the same hazards, the same
// cycles.
#pragma once

#include "target/Target.h"
#include "target/tsp/Code.h"

namespace quadrille::tsp {

// With `inputs` null no tensor contents are touched and there are no outputs. User errors: an ill-formed program,
// missing or unsuitable inputs, and the first hazard ("queue MEM west 12, instruction 7, cycle 40: ...").
//
// An instruction and its Repeat are executed together as far as their operands are there; `oneByOne` executes every
// issue by itself, in the order of cycles, with the same result: the test of the former, and how the first of several
// hazards is found.
llvm::Expected<target::RunResult> execute(const program::Program &program, const target::NamedTensors *inputs,
                                          const target::RunOptions &options, bool oneByOne = false);

} // namespace quadrille::tsp
