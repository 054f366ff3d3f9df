// Chains of kernels whose intermediate values are too large for a chip, worked through block by block.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::tsp {

// Kernels that are joined by intermediate values of more than `mostWords` words of `lanes` bytes, of a graph whose
// values are oriented, and share a dimension of these over which none reduces (the heads of an attention, then its
// rows), do all their work for one block of the dimension after the other: only one block's values are needed at once.
void splitChains(graph::KernelGraph &graph, int64_t mostWords, int64_t lanes);

} // namespace quadrille::tsp
