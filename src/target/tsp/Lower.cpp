#include "target/tsp/Lower.h"

#include "graph/InlineComposites.h"
#include "graph/StructureKernels.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::tsp {

using graph::Kernel;
using graph::KernelGraph;

bool isKnownMove(const KernelGraph &graph, const Kernel &kernel) {
  static const char *const gathers[] = {"gather", "gather_elements", "gather_nd"};
  static const char *const scatters[] = {"scatter_elements", "scatter_nd"};
  if (kernel.structured() || kernel.reads.size() < 2)
    return false;
  const graph::Value &indices = graph.values[kernel.reads[1].value];
  if (indices.role != graph::ValueRole::Constant || !indices.data.valid())
    return false;
  if (llvm::is_contained(gathers, kernel.operation))
    return true;
  return llvm::is_contained(scatters, kernel.operation) &&
         std::get<std::string>(kernel.attributes.at("reduction")) == "none";
}

KernelGraph lower(const KernelGraph &graph) {
  return graph::structureKernels(graph::unrollScans(graph), isKnownMove);
}

} // namespace quadrille::tsp
