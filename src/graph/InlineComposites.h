// Expands composites into the kernels of their bodies, for targets that do not know them.
#pragma once

#include "graph/KernelGraph.h"

#include "llvm/ADT/STLFunctionalExtras.h"

namespace quadrille::graph {

// The graph with every composite for which `keep` is false replaced by the kernels of its body, innermost ones and
// those in the bodies of scans included; a composite that is kept is left as it is. Kernels without ONNX nodes take
// those of the composite.
KernelGraph inlineComposites(const KernelGraph &graph, llvm::function_ref<bool(const Kernel &)> keep);

} // namespace quadrille::graph
