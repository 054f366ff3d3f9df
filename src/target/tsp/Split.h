// Products that are cut along the columns of their weights, so that parts of one can be on several chips.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::tsp {

// The graph with products in parts and their results joined. `parts` says of each kernel in how many at most; a part
// is a multiple of `columns` wide, but the last. Kernels that are no products with constant weights stay whole.
graph::KernelGraph splitProducts(const graph::KernelGraph &graph, llvm::ArrayRef<int64_t> parts, int64_t columns);

} // namespace quadrille::tsp
