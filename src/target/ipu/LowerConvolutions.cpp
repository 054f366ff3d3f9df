#include "target/ipu/LowerConvolutions.h"

#include "target/ipu/Lower.h"

#include "graph/KernelRewriter.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/STLFunctionalExtras.h"

#include <iterator>

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

namespace {

// Whether two loops index the dimension as digits of its index; the outer one first then.
bool isDigits(const Kernel &kernel, graph::DimensionAccess &access, int64_t extent) {
  if (access.terms.size() != 2 || access.offset != 0)
    return false;
  if (access.terms[0].second < access.terms[1].second)
    std::swap(access.terms[0], access.terms[1]);
  auto [outer, weight] = access.terms[0];
  auto [inner, one] = access.terms[1];
  return one == 1 && weight == kernel.loops[inner].extent && weight * kernel.loops[outer].extent == extent;
}

// The map with two dimensions for each one that two loops index as digits, but for windows (which `isWindow` tells by
// their number); the shape of the value changes with it.
AccessMap splitDigits(const Kernel &kernel, AccessMap map, Shape &shape,
                      llvm::function_ref<bool(size_t dimension)> isWindow) {
  AccessMap split;
  Shape of;
  for (auto [d, access] : llvm::enumerate(map)) {
    if (!isWindow(d) && isDigits(kernel, access, shape[d])) {
      for (auto [loop, weight] : access.terms) {
        split.push_back(graph::loopIndex(loop));
        of.push_back(kernel.loops[loop].extent);
      }
      continue;
    }
    split.push_back(access);
    of.push_back(shape[d]);
  }
  shape = std::move(of);
  return split;
}

// The index maps of the one shape in terms of the dimensions of the other, which splits some of its dimensions.
AccessMap joined(llvm::ArrayRef<int64_t> whole, llvm::ArrayRef<int64_t> split) {
  AccessMap map;
  unsigned at = 0;
  for (int64_t extent : whole) {
    if (split[at] == extent) {
      map.push_back(graph::loopIndex(at++));
      continue;
    }
    map.push_back({0, {{at, split[at + 1]}, {at + 1, 1}}});
    at += 2;
  }
  return map;
}

} // namespace

void splitGroups(KernelGraph &graph) {
  std::vector<Kernel> kernels = std::move(graph.kernels);
  graph.kernels.clear();
  graph::KernelRewriter rewriter(graph);
  auto identity = [](ElementType type) {
    graph::BodyBuilder body;
    body.body.results = {body.input(type)};
    return std::move(body.body);
  };
  auto nestOf = [](llvm::ArrayRef<int64_t> shape) {
    std::vector<Loop> nest;
    for (int64_t extent : shape)
      nest.push_back({extent, false});
    return nest;
  };
  for (Kernel &kernel : kernels) {
    rewriter.replaced = &kernel;
    auto contraction =
        kernel.kind == graph::KernelKind::Contract ? graph::inferContraction(graph, kernel) : std::nullopt;
    if (!contraction || isMatrixProduct(graph, kernel) || isDepthwise(kernel, *contraction) ||
        kernel.writes.size() != 1) {
      rewriter.kernels.push_back(std::move(kernel));
      continue;
    }
    Kernel before = kernel;
    std::vector<Kernel> made; // in front of it
    std::swap(made, rewriter.kernels);
    auto splitRead = [&](Read &read, llvm::function_ref<bool(size_t)> isWindow) {
      Shape shape = rewriter.shapeOf(read.value);
      const Shape whole = shape;
      AccessMap map = splitDigits(kernel, read.map, shape, isWindow);
      if (shape == whole)
        return;
      read.map = std::move(map);
      if (const graph::Value &value = graph.values[read.value];
          value.role == graph::ValueRole::Constant && value.data.valid()) {
        graph::Value constant = value;
        constant.shape = shape;
        constant.data = constant.data.reshaped(shape);
        graph.values.push_back(std::move(constant));
        read.value = static_cast<ValueId>(graph.values.size() - 1);
        return;
      }
      ElementType type = rewriter.typeOf(read.value);
      read.value = rewriter.map(shape, {{read.value, joined(whole, shape), std::nullopt}}, identity(type));
    };
    auto none = [](size_t) { return false; };
    for (unsigned number : {contraction->lhs, contraction->rhs})
      splitRead(kernel.reads[number],
                [&](size_t dimension) { return number == contraction->lhs && contraction->isWindowed(dimension); });
    graph::Write &write = kernel.writes[0];
    if (write.initial)
      splitRead(*write.initial, none);
    ValueId result = write.value;
    Shape shape = rewriter.shapeOf(result);
    const Shape whole = shape;
    write.map = splitDigits(kernel, write.map, shape, none);
    if (shape != whole) {
      write.value = rewriter.value(rewriter.typeOf(result), shape);
      graph.values[write.value].name = graph.values[result].name;
    }
    std::swap(made, rewriter.kernels);
    if (!isMatrixProduct(graph, kernel)) { // after all
      rewriter.kernels.push_back(std::move(before));
      continue;
    }
    std::move(made.begin(), made.end(), std::back_inserter(rewriter.kernels));
    ValueId sums = write.value;
    rewriter.kernels.push_back(kernel);
    if (sums == result)
      continue;
    graph::Write join;
    join.value = result;
    join.map = joined(whole, shape);
    ElementType type = rewriter.typeOf(result);
    rewriter.structured(nestOf(shape), {{sums, graph::loopIndices(0, shape.size()), std::nullopt}}, {std::move(join)},
                        identity(type));
  }
  graph.kernels = std::move(rewriter.kernels);
}

} // namespace quadrille::ipu
