// What every target's emit does the same way.
#pragma once

#include "graph/KernelGraph.h"
#include "machine/Machine.h"
#include "program/Program.h"

#include <string>

namespace quadrille::target {

// A program without payload and weights: target and machine, compiler revision, the graph's nodes, an Input and an
// Output variable for each of its inputs and outputs (in that order, so input i is variable i), and the entry point
// "inference" over them. Precision and batch are the graph's (below) unless the target says otherwise; the target sets
// chips and adds the weights and states that it uses.
program::Program beginProgram(llvm::StringRef target, const graph::KernelGraph &graph, const machine::Machine &machine);

// The type that most of the graph's multiply-accumulates store their operands in; of a graph without contractions the
// type of most outputs; "none" without either.
std::string dominantPrecision(const graph::KernelGraph &graph);

// The leading extent that all inputs and outputs of rank 2 and more share; 0 when they share none.
int64_t batchOf(const graph::KernelGraph &graph);

// A Weight variable for a constant of the graph, with its data and the file it lies in, where known. The constant must
// be stored in the program as the graph has it; a target that converts or rearranges it makes its own variable.
program::Variable weightOf(const graph::Value &constant);

} // namespace quadrille::target
