// Values without elements, for targets that have no room of no size.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::graph {

// The graph without kernels that write no element, and without reads of values that have none: a reduction over nothing
// gives what it starts from, a read that only finds padding is the padding. Scans and composites must be expanded.
// Inputs and outputs stay, as do values that no kernel touches any more.
KernelGraph dropEmpty(KernelGraph graph);

} // namespace quadrille::graph
