// Other orders of the dimensions of values, for targets that choose how values lie in memory.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::graph {

// A value's new dimension i is its old dimension permutation[i]; an empty permutation changes nothing.
using Permutation = std::vector<unsigned>;

// Whether the kernel can have operands and results with their dimensions in another order: structured kernels, and
// those whose attributes name dimensions. Operands and results of unstructured ones must all be permuted alike.
bool canPermute(const Kernel &kernel);

// `permutations`: one for each value; only values of kernels that can be permuted have one, and those of reshapes that
// are the same reshape of the permuted values. Constants' data is permuted
// too. The graph computes the same, on permuted inputs and with permuted outputs.
void permuteValues(KernelGraph &graph, llvm::ArrayRef<Permutation> permutations);

} // namespace quadrille::graph
