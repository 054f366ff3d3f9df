#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::graph {

// Takes away kernels whose results nobody reads; values stay.
void dropUnused(KernelGraph &graph);

} // namespace quadrille::graph
