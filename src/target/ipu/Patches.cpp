#include "target/ipu/Patches.h"

#include "target/ipu/Lower.h"

#include "graph/KernelRewriter.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::ipu {

using graph::AccessMap;
using graph::Contraction;
using graph::Kernel;
using graph::KernelGraph;
using graph::Loop;
using graph::Read;
using graph::ValueId;

namespace {

constexpr int64_t mostChannels = 4; // more of them fill a good part of the unit

bool isPatches(const KernelGraph &graph, const Kernel &kernel, const Contraction &contraction) {
  const Read &lhs = kernel.reads[contraction.lhs], &rhs = kernel.reads[contraction.rhs];
  auto isLong = [&](unsigned loop) { return kernel.loops[loop].extent > 1; };
  if (contraction.windows.empty() || isDepthwise(kernel, contraction) || llvm::any_of(contraction.batch, isLong) ||
      lhs.padding || graph.values[rhs.value].role != graph::ValueRole::Constant ||
      !graph.values[rhs.value].data.valid())
    return false;
  int64_t channels = 1, taps = 1;
  for (unsigned loop : contraction.k)
    channels *= kernel.loops[loop].extent;
  for (const Contraction::Window &window : contraction.windows) {
    int64_t extent = kernel.loops[window.tap].extent;
    taps *= extent;
    if ((window.stride != extent && kernel.loops[window.output].extent > 1) || (window.dilation != 1 && extent > 1) ||
        window.padBefore != 0 || window.padAfter > 0)
      return false;
  }
  // Of the weights the summed dimensions are the last ones, so that their elements are one row.
  bool summed = false;
  for (const graph::DimensionAccess &access : rhs.map) {
    bool sums = !access.terms.empty() && kernel.loops[access.terms[0].first].reduction;
    if (summed && !sums)
      return false;
    summed |= sums;
  }
  return summed && taps > 1 && channels <= mostChannels;
}

} // namespace

void multiplyPatches(KernelGraph &graph) {
  std::vector<Kernel> kernels = std::move(graph.kernels);
  graph.kernels.clear();
  graph::KernelRewriter rewriter(graph);
  for (Kernel &kernel : kernels) {
    rewriter.replaced = &kernel;
    auto contraction = isMatrixProduct(graph, kernel) ? graph::inferContraction(graph, kernel) : std::nullopt;
    if (!contraction || !isPatches(graph, kernel, *contraction)) {
      rewriter.kernels.push_back(std::move(kernel));
      continue;
    }
    Read &lhs = kernel.reads[contraction->lhs], &rhs = kernel.reads[contraction->rhs];
    // The loops of places, then those of a window in the order of the weights.
    std::vector<unsigned> places, within;
    for (const graph::DimensionAccess &access : lhs.map)
      for (auto [loop, coefficient] : access.terms)
        if (!kernel.loops[loop].reduction && !llvm::is_contained(places, loop))
          places.push_back(loop);
    size_t free = 0; // dimensions of the weights that are not summed over
    for (const graph::DimensionAccess &access : rhs.map) {
      bool sums = !access.terms.empty() && kernel.loops[access.terms[0].first].reduction;
      free += !sums;
      if (sums)
        within.push_back(access.terms[0].first);
    }
    std::vector<std::optional<unsigned>> renamed(kernel.loops.size()); // in the kernel that puts them beside each other
    std::vector<Loop> nest;
    Shape shape;
    for (const std::vector<unsigned> &loops : {places, within})
      for (unsigned loop : loops) {
        renamed[loop] = static_cast<unsigned>(nest.size());
        nest.push_back({kernel.loops[loop].extent, false});
      }
    for (unsigned loop : places)
      shape.push_back(kernel.loops[loop].extent);
    int64_t elements = 1;
    for (unsigned loop : within)
      elements *= kernel.loops[loop].extent;
    shape.push_back(elements);
    ElementType type = rewriter.typeOf(lhs.value);
    Read read = lhs;
    for (graph::DimensionAccess &access : read.map) {
      llvm::erase_if(access.terms, [&](auto term) { return !renamed[term.first]; });
      for (auto &[loop, coefficient] : access.terms)
        loop = *renamed[loop];
    }
    graph::Write write;
    write.value = rewriter.value(type, shape);
    graph.values[write.value].name = graph.values[lhs.value].name + " (patches)";
    write.map = graph::loopIndices(0, places.size());
    graph::DimensionAccess inside;
    int64_t weight = elements;
    for (unsigned loop : within) {
      weight /= kernel.loops[loop].extent;
      inside.terms.push_back({*renamed[loop], weight});
    }
    write.map.push_back(inside);
    graph::BodyBuilder body;
    body.body.results = {body.input(type)};
    ValueId patches = write.value;
    rewriter.structured(std::move(nest), {std::move(read)}, {std::move(write)}, std::move(body.body));

    // The product: its loops but for those of a window, which become one.
    std::vector<std::optional<unsigned>> kept(kernel.loops.size());
    std::vector<Loop> loops;
    for (auto [number, loop] : llvm::enumerate(kernel.loops))
      if (!loop.reduction) {
        kept[number] = static_cast<unsigned>(loops.size());
        loops.push_back(loop);
      }
    auto row = static_cast<unsigned>(loops.size());
    loops.push_back({elements, true});
    auto inNewLoops = [&](AccessMap map) {
      for (graph::DimensionAccess &access : map)
        for (auto &[loop, coefficient] : access.terms)
          loop = *kept[loop];
      return map;
    };
    graph::Value weights = graph.values[rhs.value];
    weights.name += ":patches";
    weights.shape.resize(free);
    weights.shape.push_back(elements);
    weights.data = weights.data.reshaped(weights.shape);
    graph.values.push_back(std::move(weights));
    AccessMap right(rhs.map.begin(), rhs.map.begin() + static_cast<ptrdiff_t>(free));
    rhs.map = inNewLoops(std::move(right));
    rhs.map.push_back(graph::loopIndex(row));
    rhs.value = static_cast<ValueId>(graph.values.size() - 1);
    lhs.value = patches;
    lhs.map.clear();
    for (unsigned loop : places)
      lhs.map.push_back(graph::loopIndex(*kept[loop]));
    lhs.map.push_back(graph::loopIndex(row));
    for (graph::Write &each : kernel.writes) {
      each.map = inNewLoops(each.map);
      if (each.initial)
        each.initial->map = inNewLoops(each.initial->map);
    }
    kernel.loops = std::move(loops);
    rewriter.kernels.push_back(std::move(kernel));
  }
  graph.kernels = std::move(rewriter.kernels);
}

} // namespace quadrille::ipu
