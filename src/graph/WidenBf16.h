// bf16 for machines that have f32 but not bf16.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::graph {

// The graph with every bf16 value held as f32. A kernel computes in f32 and rounds each result to what bf16 can hold
// (nearest, ties to even; a sum is rounded where the next kernel has it converted or it leaves the graph). Inputs and
// outputs are the bits, u16, which become f32 and come back in kernels of their own. Scans and composites must be
// expanded.
KernelGraph widenBf16(KernelGraph graph);

} // namespace quadrille::graph
