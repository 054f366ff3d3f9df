#include "target/tsp/Lower.h"

#include "graph/Contraction.h"
#include "graph/DropEmpty.h"
#include "graph/InlineComposites.h"
#include "graph/KernelQueries.h"
#include "graph/SplitZeroPoints.h"
#include "graph/StructureKernels.h"
#include "graph/WidenBf16.h"
#include "numerics/Convert.h"

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

bool isComputedPick(const KernelGraph &graph, const Kernel &kernel) {
  return graph::isRowPick(graph, kernel) && !isKnownMove(graph, kernel);
}

bool channelsApart(const KernelGraph &graph, const Kernel &kernel, const graph::Contraction &contraction) {
  auto isLong = [&](unsigned loop) { return kernel.loops[loop].extent > 1; };
  return contraction.isConvolution() && llvm::none_of(contraction.k, isLong) && llvm::none_of(contraction.n, isLong) &&
         llvm::any_of(contraction.batch, isLong) && isFloat(graph.values[kernel.writes[0].value].type);
}

bool isMatrixProduct(const KernelGraph &graph, const Kernel &kernel) {
  if (kernel.kind != graph::KernelKind::Contract)
    return false;
  auto contraction = graph::inferContraction(graph, kernel);
  if (!contraction || contraction->lhsZeroPoint || contraction->rhsZeroPoint || contraction->lhsZeroConstant != 0 ||
      contraction->rhsZeroConstant != 0)
    return false;
  // Channels that do not mix share tiles where the weights are known; the vector unit takes others side by side.
  const graph::Value &weights = graph.values[kernel.reads[contraction->rhs].value];
  if (channelsApart(graph, kernel, *contraction) && weights.role != graph::ValueRole::Constant)
    return false;
  ElementType lhs = graph.values[kernel.reads[contraction->lhs].value].type;
  ElementType rhs = graph.values[kernel.reads[contraction->rhs].value].type;
  ElementType result = graph.values[kernel.writes[0].value].type;
  if (isFloat(lhs) && isFloat(rhs))
    return result == ElementType::f32 || result == ElementType::f16;
  auto isByte = [](ElementType type) { return isInteger(type) && bitWidth(type) == 8; };
  return isByte(lhs) && isByte(rhs) && result == ElementType::i32;
}

namespace {

// A gather of all indices in their order only gives its result another shape.
void dropOrderedGathers(KernelGraph &graph) {
  for (Kernel &kernel : graph.kernels) {
    if (kernel.structured() || kernel.operation != "gather" || !isKnownMove(graph, kernel))
      continue;
    const Shape &data = graph.values[kernel.reads[0].value].shape;
    int64_t axis = graph::integerAttribute(kernel, "axis").value_or(0);
    int64_t extent = data[axis < 0 ? axis + static_cast<int64_t>(data.size()) : axis];
    std::vector<int64_t> indices = valuesOf<int64_t>(graph.values[kernel.reads[1].value].data);
    bool ordered = static_cast<int64_t>(indices.size()) == extent;
    for (auto [place, index] : llvm::enumerate(indices))
      ordered = ordered && (index < 0 ? index + extent : index) == static_cast<int64_t>(place);
    if (!ordered)
      continue;
    kernel.operation = "reshape";
    kernel.attributes.clear();
    kernel.reads.resize(1);
  }
}

} // namespace

KernelGraph boundSums(const KernelGraph &original) {
  auto bounded = [](auto &self, const KernelGraph &from, std::optional<int64_t> bits) -> KernelGraph {
    // Of values of f16, and of their distances from a mean of them, which are up to twice that.
    constexpr int64_t bitsOfSquares = 16, bitsOfDistances = 18, bitsOfOthers = 15;
    KernelGraph graph = from;
    for (Kernel &kernel : graph.kernels) {
      if (kernel.kind == graph::KernelKind::Composite && kernel.region) {
        std::optional<int64_t> inside;
        if (kernel.operation == "softmax")
          inside = 0;
        else if (kernel.operation == "layer_normalization" || kernel.operation == "rms_normalization")
          inside = graph.values[kernel.reads[0].value].type != ElementType::f16 ? bitsOfOthers
                   : kernel.operation == "layer_normalization"                  ? bitsOfDistances
                                                                                : bitsOfSquares;
        kernel.region = std::make_shared<KernelGraph>(self(self, *kernel.region, inside));
      } else if (bits && kernel.kind == graph::KernelKind::Reduce && kernel.writes.size() == 1 &&
                 kernel.writes[0].combiner == graph::Combiner::Sum) {
        kernel.attributes[termsOfSum] = *bits;
      }
    }
    return graph;
  };
  return bounded(bounded, original, std::nullopt);
}

KernelGraph lower(const KernelGraph &original) {
  KernelGraph graph = graph::dropEmpty(graph::unrollScans(original));
  dropOrderedGathers(graph);
  graph = graph::structureKernels(std::move(graph), [](const KernelGraph &graph, const Kernel &kernel) {
    return isKnownMove(graph, kernel) || isComputedPick(graph, kernel);
  });
  return graph::splitZeroPoints(graph::widenBf16(std::move(graph)));
}

} // namespace quadrille::tsp
