#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::graph {

// Constants of the same type, shape and bytes become one: exporters write tables once for each layer. Constants without
// data stay; values stay, those that nobody reads any more too.
void shareConstants(KernelGraph &graph);

} // namespace quadrille::graph
