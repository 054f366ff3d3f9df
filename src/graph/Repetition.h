// Kernels that do again what others before them have done, on other values, as the layers of a model do.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::graph {

// Of each kernel: the same for those that compute the same from operands of the same types, shapes and roles. What is
// in constants, and whose results are read, is not looked at.
std::vector<uint64_t> signaturesOf(const KernelGraph &graph);

// Kernels first + i * period .. first + (i + 1) * period - 1 have the same signatures for all i < count.
struct Repetition {
  size_t first = 0, period = 0, count = 0;
  size_t end() const { return first + period * count; }
};
// The repetition, of at least two periods, behind whose first period are most kernels; of those the shortest period.
std::optional<Repetition> repetitionOf(llvm::ArrayRef<uint64_t> signatures);

} // namespace quadrille::graph
