// Expands composites and loops into the kernels of their bodies, for targets that do not know them.
#pragma once

#include "graph/KernelGraph.h"

#include "llvm/ADT/STLFunctionalExtras.h"

namespace quadrille::graph {

// The graph with every composite for which `keep` is false replaced by the kernels of its body, innermost ones and
// those in the bodies of scans included; a composite that is kept is left as it is. Kernels without ONNX nodes take
// those of the composite.
KernelGraph inlineComposites(const KernelGraph &graph, llvm::function_ref<bool(const Kernel &)> keep);

// The graph, which has no composites, with the kernels of all iterations in the place of every scan, for targets
// without loops: slices of sequences are moves, stacked outputs concatenations.
KernelGraph unrollScans(const KernelGraph &graph);

// The same with the kernels of one iteration, for targets whose programs repeat: they stand between kernels loop_begin
// and loop_next or loop_stack (KernelGraph.h). Scans of one iteration, or none, are unrolled.
KernelGraph markScans(const KernelGraph &graph);

// How many kernels the graph has when its composites are expanded and its scans unrolled.
double unrolledKernels(const KernelGraph &graph);

} // namespace quadrille::graph
