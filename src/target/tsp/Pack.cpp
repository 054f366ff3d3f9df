#include "target/tsp/Pack.h"

#include "graph/KernelQueries.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::tsp {

using graph::Kernel;
using graph::KernelGraph;
using graph::ValueId;

namespace {

// The kernel that alone reads a value; null when there are others, or it is an output.
const Kernel *readerOf(const KernelGraph &graph, const graph::Uses &uses, ValueId value) {
  llvm::ArrayRef<size_t> readers = uses.readers[value];
  return readers.size() == 1 && readers[0] < graph.kernels.size() ? &graph.kernels[readers[0]] : nullptr;
}

std::vector<int64_t> divisorsOf(int64_t number) {
  std::vector<int64_t> divisors;
  for (int64_t divisor = 1; divisor <= number; ++divisor)
    if (number % divisor == 0)
      divisors.push_back(divisor);
  return divisors;
}

} // namespace

std::vector<Packing> choosePackings(const KernelGraph &graph, const Architecture &machine) {
  std::vector<Packing> packings;
  for (const graph::Value &value : graph.values)
    packings.push_back(plainPacking(value.shape));
  graph::Uses uses(graph);
  for (ValueId input : graph.inputs) {
    // An input that is read by a convolution, or only converted for one.
    std::vector<ValueId> values = {input};
    const Kernel *reader = readerOf(graph, uses, input);
    if (reader && graph::isElementwise(*reader) && reader->reads.size() == 1 &&
        graph::readsOwnElement(graph, *reader, reader->reads[0])) {
      values.push_back(reader->writes[0].value);
      reader = readerOf(graph, uses, values.back());
    }
    auto contraction = reader ? graph::inferContraction(graph, *reader) : std::nullopt;
    if (!contraction || !contraction->isConvolution() || reader->reads[contraction->lhs].value != values.back())
      continue;
    const Shape &shape = graph.values[input].shape;
    int64_t lanes = machine.vectorBytes();
    if (lanesOf(packings[input]) > lanes / 4)
      continue;
    bool floats = isFloat(graph.values[values.back()].type);
    TapOptions options{lanes, machine.lanes, floats ? machine.f16Rows : machine.rows};
    const Packing &result = packings[reader->writes[0].value];
    auto vectorsWith = [&](const Packing &packing) -> std::optional<int64_t> {
      auto plan = planTaps(graph, *reader, *contraction, packing, result, options);
      if (!plan)
        return std::nullopt;
      // What goes through the planes, and what is converted before.
      return plan->vectors() + elementCount(shape) / lanesOf(packing);
    };
    Packing best = packings[input];
    std::optional<int64_t> fewest = vectorsWith(best);
    llvm::ArrayRef<graph::Contraction::Window> windows = contraction->windows;
    const graph::Contraction::Window &inner = windows.back();
    for (int64_t across : divisorsOf(shape[inner.dimension]))
      for (int64_t down :
           {int64_t(1), windows.front().stride, 2 * windows.front().stride, 4 * windows.front().stride}) {
        Packing packing = packings[input];
        packing[inner.dimension] = across;
        if (windows.size() > 1) {
          if (shape[windows.front().dimension] % down != 0)
            continue;
          packing[windows.front().dimension] = down;
        } else if (down != 1) {
          continue;
        }
        // Enough that a tile finds its window; more takes more time to plan than it is worth.
        if (lanesOf(packing) > lanes || lanesOf(packing) < options.mostHeight / 4)
          continue;
        std::optional<int64_t> vectors = vectorsWith(packing);
        if (vectors && (!fewest || *vectors < *fewest)) {
          fewest = vectors;
          best = packing;
        }
      }
    for (ValueId value : values)
      packings[value] = best;
  }
  return packings;
}

} // namespace quadrille::tsp
