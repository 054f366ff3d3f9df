// What every target's emit does the same way.
#pragma once

#include "graph/KernelGraph.h"
#include "machine/Machine.h"
#include "program/Program.h"

namespace quadrille::target {

// A program without payload and weights: target and machine, compiler revision, the graph's nodes, an Input and an
// Output variable for each of its inputs and outputs (in that order, so input i is variable i), and the entry point
// "inference" over them. The target sets precision, chips, batch, and adds the weights and states that it uses.
program::Program beginProgram(llvm::StringRef target, const graph::KernelGraph &graph, const machine::Machine &machine);

// A Weight variable for a constant of the graph, with its data and the file it lies in, where known. The constant must
// be stored in the program as the graph has it; a target that converts or rearranges it makes its own variable.
program::Variable weightOf(const graph::Value &constant);

} // namespace quadrille::target
