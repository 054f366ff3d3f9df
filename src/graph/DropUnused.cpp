#include "graph/DropUnused.h"

#include "graph/KernelQueries.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>

namespace quadrille::graph {

void dropUnused(KernelGraph &graph) {
  std::vector<bool> needed(graph.values.size(), false);
  for (ValueId output : graph.outputs)
    needed[output] = true;
  std::vector<Kernel> kept;
  for (Kernel &kernel : llvm::reverse(graph.kernels)) {
    if (llvm::none_of(kernel.writes, [&](const Write &write) { return needed[write.value]; }))
      continue;
    for (ValueId operand : operandsOf(kernel))
      needed[operand] = true;
    kept.push_back(std::move(kernel));
  }
  std::reverse(kept.begin(), kept.end());
  graph.kernels = std::move(kept);
}

} // namespace quadrille::graph
