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

// The same by the plainest means: kernels one after another as loop nests, every value in memory of its own, no fusion,
// no library's matrix product or convolution. Much slower; what the host's own programs are checked against.
llvm::Expected<std::vector<Tensor>> evaluatePlain(const graph::KernelGraph &graph, llvm::ArrayRef<Tensor> inputs);

} // namespace quadrille::host
