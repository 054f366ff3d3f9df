// Products that are cut along the columns of their weights, and tables from which rows are picked along theirs, so that
// parts of one can be on several chips.
#pragma once

#include "target/tsp/Compiler.h"

namespace quadrille::tsp {

struct SplitGraph {
  MachineGraph graph;
  // By kernel: which of the whole graph's it is of, and how much of it; of a kernel that joins parts: nothing.
  std::vector<std::pair<size_t, double>> origins;
};

// The graph with products and tables in parts and their results joined; parts of an output of the model that nothing
// else reads stay apart. `parts` says of each kernel in how many at most; a part is a multiple of `columns` wide, but
// the last. Kernels that are neither products with constant weights nor pick rows of a constant table stay whole.
SplitGraph splitProducts(const MachineGraph &graph, llvm::ArrayRef<int64_t> parts, int64_t columns);

} // namespace quadrille::tsp
