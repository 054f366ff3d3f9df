#include "target/tsp/Pack.h"

#include "graph/KernelQueries.h"
#include "target/tsp/Lower.h"

#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/STLExtras.h"

#include <map>

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

void packInputs(const KernelGraph &graph, const Architecture &machine, std::vector<Packing> &packings) {
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
    auto contraction =
        reader && isMatrixProduct(graph, *reader) ? graph::inferContraction(graph, *reader) : std::nullopt;
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
      return plan->vectors(machine.vectorBytes()) + elementCount(shape) / lanesOf(packing);
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
}

// Values that lie alike: elementwise kernels lead from one to the other.
struct Group {
  std::vector<ValueId> values;
  std::vector<size_t> products; // kernels that make or read them
  bool packs = true;
};

std::vector<Group> groupsOf(const KernelGraph &graph, const Architecture &machine) {
  llvm::EquivalenceClasses<ValueId> alike;
  std::vector<bool> packs(graph.values.size()), constant(graph.values.size());
  for (auto [id, value] : llvm::enumerate(graph.values)) {
    alike.insert(static_cast<ValueId>(id));
    constant[id] = value.role == graph::ValueRole::Constant;
    packs[id] = value.role == graph::ValueRole::Intermediate && value.shape.size() >= 3 &&
                2 * value.shape.back() <= machine.vectorBytes();
  }
  for (ValueId output : graph.outputs)
    packs[output] = false;
  std::vector<std::vector<size_t>> products(graph.values.size());
  for (auto [k, kernel] : llvm::enumerate(graph.kernels)) {
    auto fix = [&] {
      for (ValueId operand : graph::operandsOf(kernel))
        packs[operand] = false;
      for (const graph::Write &write : kernel.writes)
        packs[write.value] = false;
    };
    if (isMatrixProduct(graph, kernel)) {
      auto contraction = graph::inferContraction(graph, kernel);
      const graph::Read &lhs = kernel.reads[contraction->lhs], &rhs = kernel.reads[contraction->rhs];
      const graph::Write &write = kernel.writes[0];
      bool startsAlike = write.initial && !constant[write.initial->value] && write.initial->map == write.map &&
                         graph.values[write.initial->value].shape == graph.values[write.value].shape;
      if (!constant[rhs.value] || (write.initial && !constant[write.initial->value] && !startsAlike)) {
        fix();
        continue;
      }
      if (startsAlike)
        alike.unionSets(write.initial->value, write.value);
      products[lhs.value].push_back(k);
      products[write.value].push_back(k);
      continue;
    }
    bool follows = graph::isElementwise(kernel) &&
                   llvm::none_of(kernel.body.instructions, [](const BlockInstruction &instruction) {
                     return instruction.opcode == BlockOpcode::LoopIndex;
                   });
    for (const graph::Read &read : kernel.reads)
      follows &= constant[read.value] ? !read.padding : graph::readsOwnElement(graph, kernel, read);
    if (!follows) {
      fix();
      continue;
    }
    for (const graph::Read &read : kernel.reads)
      if (!constant[read.value])
        alike.unionSets(read.value, kernel.writes[0].value);
  }
  std::map<ValueId, Group> groups;
  for (ValueId id = 0; id < graph.values.size(); ++id) {
    if (constant[id])
      continue;
    Group &group = groups[alike.getLeaderValue(id)];
    group.values.push_back(id);
    group.packs &= packs[id];
    for (size_t k : products[id])
      if (!llvm::is_contained(group.products, k))
        group.products.push_back(k);
  }
  std::vector<Group> list;
  for (auto &[leader, group] : groups)
    if (group.packs && !group.products.empty())
      list.push_back(std::move(group));
  return list;
}

// Vectors of few channels use little of a tile: several places beside each other in one vector use more.
void packChannels(const KernelGraph &graph, const Architecture &machine, std::vector<Packing> &packings) {
  std::vector<Group> groups = groupsOf(graph, machine);
  auto vectorsOf = [&](const Group &group) -> std::optional<int64_t> {
    int64_t vectors = 0;
    for (size_t k : group.products) {
      const Kernel &kernel = graph.kernels[k];
      auto contraction = graph::inferContraction(graph, kernel);
      ValueId lhs = kernel.reads[contraction->lhs].value, result = kernel.writes[0].value;
      bool floats = isFloat(graph.values[lhs].type);
      TapOptions options{std::min(lanesOf(packings[lhs]), machine.vectorBytes()), machine.lanes,
                         floats ? machine.f16Rows : machine.rows};
      auto plan = planTaps(graph, kernel, *contraction, packings[lhs], packings[result], options);
      if (!plan)
        return std::nullopt;
      vectors += plan->vectors(machine.vectorBytes());
    }
    return vectors;
  };
  // Neighbours depend on each other: once more with what they chose.
  for (int64_t round = 0; round < 2; ++round)
    for (const Group &group : groups) {
      const Shape &shape = graph.values[group.values[0]].shape;
      size_t across = shape.size() - 2;
      auto choose = [&](int64_t places) {
        for (ValueId value : group.values)
          packings[value][across] = places;
      };
      int64_t best = packings[group.values[0]][across];
      std::optional<int64_t> fewest = vectorsOf(group);
      for (int64_t places : divisorsOf(shape[across])) {
        if (places * shape.back() > machine.vectorBytes())
          break;
        choose(places);
        std::optional<int64_t> vectors = vectorsOf(group);
        if (vectors && (!fewest || *vectors < *fewest)) {
          fewest = vectors;
          best = places;
        }
      }
      choose(best);
    }
}

} // namespace

std::vector<Packing> choosePackings(const KernelGraph &graph, const Architecture &machine) {
  std::vector<Packing> packings;
  for (const graph::Value &value : graph.values)
    packings.push_back(plainPacking(value.shape));
  packChannels(graph, machine, packings);
  packInputs(graph, machine, packings);
  return packings;
}

} // namespace quadrille::tsp
