// Integer contractions with zero points as contractions without, and corrections, for targets whose matrix units
// multiply plain integers.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::graph {

// The graph in which no contraction has zero points. Over the K points of the reduction,
//
//   sum (a - p)(b - q)  =  sum a b  -  p sum b  -  q sum a  +  K p q
//
// The sums of one operand are contractions with ones, and are computed here where the operand is constant; the rest is
// one elementwise kernel, in the type of the result, or, where all of it is known, what the contraction starts from.
// Integers wrap, so that the order does not matter. Padding is an operand like any other.
KernelGraph splitZeroPoints(KernelGraph graph);

} // namespace quadrille::graph
