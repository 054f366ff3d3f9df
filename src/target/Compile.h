// From a graph to a program that its own target accepts.
#pragma once

#include "target/Target.h"

namespace quadrille::target {

// Plan, emit and check. A program that the check refuses is a defect of the target: an internal error.
llvm::Expected<program::Program> compile(const Target &target, const graph::KernelGraph &graph,
                                         const machine::Machine &machine, const CompileOptions &options);

// Checks a program that somebody else has written: the findings as one mismatch error.
llvm::Error requireLegal(const Target &target, const program::Program &program);

} // namespace quadrille::target
