// The reference: executes the kernel normal form on the host.
#pragma once

#include "graph/KernelGraph.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"

#include <vector>

namespace quadrille::host {

// The graph's outputs for `inputs` (one for each graph input, in order). User errors: a weight that is needed has no
// data, inputs of the wrong number, shape or type, a kernel that the host does not know, an index out of range.
llvm::Expected<std::vector<Tensor>> evaluate(const graph::KernelGraph &graph, llvm::ArrayRef<Tensor> inputs);

} // namespace quadrille::host
