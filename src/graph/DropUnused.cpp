#include "graph/DropUnused.h"

#include "graph/KernelQueries.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::graph {

void dropUnused(KernelGraph &graph) {
  std::vector<bool> needed(graph.values.size(), false);
  for (ValueId output : graph.outputs)
    needed[output] = true;
  std::vector<bool> kept(graph.kernels.size(), false);
  // A state that is read needs what it becomes, which stands behind its readers.
  for (bool again = true; again;) {
    again = false;
    for (size_t number = graph.kernels.size(); number-- > 0;) {
      const Kernel &kernel = graph.kernels[number];
      bool becomesNeeded = kernel.operation == "loop_next" && needed[kernel.reads[1].value];
      if (kept[number] ||
          (!becomesNeeded && llvm::none_of(kernel.writes, [&](const Write &write) { return needed[write.value]; })))
        continue;
      kept[number] = again = true;
      for (ValueId operand : operandsOf(kernel))
        needed[operand] = true;
    }
  }
  std::vector<Kernel> all = std::move(graph.kernels);
  graph.kernels.clear();
  for (auto [kernel, isKept] : llvm::zip_equal(all, kept))
    if (isKept)
      graph.kernels.push_back(std::move(kernel));
}

} // namespace quadrille::graph
