// Normalizations that wait until a product has made fewer elements of what is normalized.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::tsp {

// A product whose first operand is a softmax multiplies the exponentials, and its result is divided by their sums: the
// same, as each row has one sum, and no other kernel waits for it. Rows without a number as their sum, which a kernel
// between replaces by zeros, become zeros behind the product, also where the other operand has no number.
void divideAfterProducts(graph::KernelGraph &graph);

} // namespace quadrille::tsp
