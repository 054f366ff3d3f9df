// Rewrites of a machine graph before it is compiled, so that kernels find their operands as they lie: which dimension
// of a value lies in the lanes, and in which type values are held that the matrix unit multiplies.
#pragma once

#include "graph/PermuteValues.h"

namespace quadrille::tsp {

// Reshapes whose result's indices give the operand's by sums of products become kernels that move elements.
void structureReshapes(graph::KernelGraph &graph);

// Values that products read are held as f16: what makes them rounds, what else reads them widens. So are tables whose
// rows are picked for sums and products, where f16 has their elements.
void narrowProductOperands(graph::KernelGraph &graph);

// Gives each value an order of dimensions whose last one is what the products that make and read it want in the lanes.
// Returns the orders of the inputs, then of the outputs.
std::vector<graph::Permutation> orientValues(graph::KernelGraph &graph);

} // namespace quadrille::tsp
