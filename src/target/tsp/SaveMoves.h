// Rewrites of a kernel graph by which fewer elements change their lanes.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::tsp {

// A transposition that alone reads a reshape by which dimensions become one comes before it: what makes the elements
// can then write them in the order that is wanted, and the reshape behind seldom moves any.
void transposeBeforeMerging(graph::KernelGraph &graph);

// A product with constant weights that reads a concatenation along its channels becomes a product for each of the
// parts, which starts from the sums of the one before.
void multiplyPartsApart(graph::KernelGraph &graph);

} // namespace quadrille::tsp
