#include "target/tsp/Pack.h"

#include "graph/KernelQueries.h"
#include "target/tsp/Lower.h"
#include "target/tsp/SaveMoves.h"

#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/STLExtras.h"

#include <map>
#include <set>

namespace quadrille::tsp {

using graph::Kernel;
using graph::KernelGraph;
using graph::ValueId;

namespace {

std::vector<int64_t> divisorsOf(int64_t number) {
  std::vector<int64_t> divisors;
  for (int64_t divisor = 1; divisor <= number; ++divisor)
    if (number % divisor == 0)
      divisors.push_back(divisor);
  return divisors;
}

// Whether two accesses are the same but for where they begin.
bool walksAlike(llvm::ArrayRef<graph::DimensionAccess> a, llvm::ArrayRef<graph::DimensionAccess> b) {
  return llvm::equal(a, b, [](const auto &x, const auto &y) { return x.terms == y.terms; });
}

void packInputs(const KernelGraph &graph, const Architecture &machine, std::vector<Packing> &packings) {
  graph::Uses uses(graph);
  for (ValueId input : graph.inputs) {
    // An input that is read by a convolution, or only converted for some that are alike.
    std::vector<ValueId> values = {input};
    std::vector<const Kernel *> products;
    bool others = false;
    auto add = [&](size_t number, ValueId read) {
      const Kernel *reader = number < graph.kernels.size() ? &graph.kernels[number] : nullptr;
      auto contraction =
          reader && isMatrixProduct(graph, *reader) ? graph::inferContraction(graph, *reader) : std::nullopt;
      others = others || !contraction || !contraction->isConvolution() ||
               reader->reads[contraction->lhs].value != read ||
               (!products.empty() &&
                (!walksAlike(reader->reads[contraction->lhs].map, products[0]->reads[contraction->lhs].map) ||
                 packings[reader->writes[0].value] != packings[products[0]->writes[0].value]));
      products.push_back(reader);
    };
    for (size_t number : uses.readers[input]) {
      const Kernel *reader = number < graph.kernels.size() ? &graph.kernels[number] : nullptr;
      if (reader && graph::isElementwise(*reader) && reader->reads.size() == 1 &&
          graph::readsOwnElement(graph, *reader, reader->reads[0])) {
        values.push_back(reader->writes[0].value);
        for (size_t next : uses.readers[values.back()])
          add(next, values.back());
      } else {
        add(number, input);
      }
    }
    if (others || products.empty())
      continue;
    const Kernel *reader = products[0];
    auto contraction = graph::inferContraction(graph, *reader);
    const Shape &shape = graph.values[input].shape;
    int64_t lanes = machine.vectorBytes();
    if (lanesOf(packings[input]) > lanes / 4)
      continue;
    bool floats = isFloat(graph.values[values.back()].type);
    TapOptions options{lanes, machine.lanes, floats ? machine.f16Rows : machine.rows};
    const Packing &result = packings[reader->writes[0].value];
    auto vectorsWith = [&](const Packing &packing) -> std::optional<int64_t> {
      // What is converted before, and what goes through the planes.
      int64_t vectors = elementCount(shape) / lanesOf(packing);
      for (const Kernel *product : products) {
        auto plan = planTaps(graph, *product, *graph::inferContraction(graph, *product), packing, result, options);
        if (!plan)
          return std::nullopt;
        vectors += plan->vectors(machine.vectorBytes());
      }
      return vectors;
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

// The packing of a value some of whose dimensions become one of `shape` when it is reshaped; nothing when a vector of
// the one would not be a vector of the other.
std::optional<Packing> packingBefore(llvm::ArrayRef<int64_t> before, llvm::ArrayRef<int64_t> shape,
                                     const Packing &packing) {
  if (before == shape)
    return packing;
  auto groups = mergedDimensions(before, shape);
  if (!groups)
    return std::nullopt;
  Packing result(before.size(), 1);
  for (auto [d, group] : llvm::enumerate(*groups)) {
    int64_t left = packing[d];
    for (size_t of : llvm::reverse(group)) {
      int64_t extent = before[of];
      if (left % extent != 0 && extent % left != 0)
        return std::nullopt;
      result[of] = std::min(left, extent);
      left /= result[of];
    }
    if (left != 1)
      return std::nullopt;
  }
  return result;
}

// Values that lie alike: elementwise kernels lead from one to the other, or reshapes by which dimensions become one.
struct Group {
  std::vector<ValueId> values;
  std::vector<size_t> products; // kernels that make or read them
  bool packs = true;
  ValueId merged = graph::noValue;                // the value of the fewest dimensions
  std::vector<std::pair<ValueId, size_t>> single; // dimensions that are shifted: vectors hold one index of them
  // By dimension of that value: places that were dimensions of their own, the innermost of each.
  std::vector<int64_t> parts;
};

std::vector<Group> groupsOf(const KernelGraph &graph) {
  llvm::EquivalenceClasses<ValueId> alike;
  std::vector<bool> packs(graph.values.size()), constant(graph.values.size());
  for (auto [id, value] : llvm::enumerate(graph.values)) {
    alike.insert(static_cast<ValueId>(id));
    constant[id] = value.role == graph::ValueRole::Constant;
    packs[id] = value.role == graph::ValueRole::Intermediate && value.shape.size() >= 3;
  }
  std::vector<std::vector<size_t>> products(graph.values.size());
  std::vector<std::pair<ValueId, size_t>> single;
  for (auto [k, kernel] : llvm::enumerate(graph.kernels)) {
    auto fix = [&, &kernel = kernel] {
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
    if (graph::isReshape(kernel) && !constant[kernel.reads[0].value] &&
        mergedDimensions(graph.values[kernel.reads[0].value].shape, graph.values[kernel.writes[0].value].shape)) {
      alike.unionSets(kernel.reads[0].value, kernel.writes[0].value);
      continue;
    }
    bool follows = graph::isElementwise(kernel) && !graph::readsLoopNumbers(kernel);
    std::vector<std::pair<ValueId, size_t>> shifted;
    for (const graph::Read &read : kernel.reads) {
      auto shifts = constant[read.value] ? std::nullopt : shiftsOf(graph, kernel, read);
      follows &= constant[read.value] ? !read.padding : shifts.has_value();
      for (size_t d = 0; shifts && d < shifts->size(); ++d)
        if ((*shifts)[d] != 0)
          shifted.emplace_back(read.value, d);
    }
    if (!follows) {
      fix();
      continue;
    }
    llvm::append_range(single, shifted);
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
    llvm::copy_if(single, std::back_inserter(group.single), [&](const auto &each) { return each.first == id; });
    group.packs &= packs[id];
    for (size_t k : products[id])
      if (!llvm::is_contained(group.products, k))
        group.products.push_back(k);
  }
  std::vector<Group> list;
  for (auto &[leader, group] : groups) {
    if (!group.packs || group.products.empty())
      continue;
    auto longDimensions = [&](ValueId value) {
      return llvm::count_if(graph.values[value].shape, [](int64_t extent) { return extent > 1; });
    };
    group.merged =
        *llvm::min_element(group.values, [&](ValueId a, ValueId b) { return longDimensions(a) < longDimensions(b); });
    const Shape &shape = graph.values[group.merged].shape;
    group.parts.assign(shape.size(), 1);
    for (ValueId value : group.values) {
      const Shape &before = graph.values[value].shape;
      auto parts = mergedDimensions(before, shape);
      group.packs &= before == shape || parts;
      if (before != shape && parts)
        for (auto [d, part] : llvm::enumerate(*parts))
          if (part.size() > 1)
            group.parts[d] = std::max(group.parts[d], before[part.back()]);
    }
    if (group.packs)
      list.push_back(std::move(group));
  }
  return list;
}

// Vectors of few channels use little of a tile: several places beside each other in one vector use more.
void packChannels(const KernelGraph &graph, const Architecture &machine, std::vector<Packing> &packings) {
  std::vector<Group> groups = groupsOf(graph);
  // Cycles of one plane: vectors through tiles, and tiles installed.
  std::map<std::tuple<size_t, Packing, Packing>, std::optional<int64_t>> known;
  auto cyclesOfProduct = [&](size_t number) -> std::optional<int64_t> {
    const Kernel &kernel = graph.kernels[number];
    auto contraction = graph::inferContraction(graph, kernel);
    ValueId lhs = kernel.reads[contraction->lhs].value, result = kernel.writes[0].value;
    auto [found, fresh] = known.try_emplace({number, packings[lhs], packings[result]});
    if (!fresh)
      return found->second;
    bool floats = isFloat(graph.values[lhs].type);
    TapOptions options{std::min(lanesOf(packings[lhs]), machine.vectorBytes()), machine.lanes,
                       floats ? machine.f16Rows : machine.rows};
    auto plan = planTaps(graph, kernel, *contraction, packings[lhs], packings[result], options);
    if (!plan)
      return std::nullopt;
    int64_t cycles = plan->vectors(machine.vectorBytes());
    for (const TapPlan::Batch &batch : plan->batches)
      cycles += static_cast<int64_t>(batch.passes.size()) * options.mostHeight / machine.installRows;
    return found->second = cycles;
  };
  // And vectors of the values themselves, which somebody writes.
  auto cyclesOf = [&](const Group &group) -> std::optional<int64_t> {
    int64_t cycles = 0;
    for (auto [value, dimension] : group.single)
      if (packings[value][dimension] != 1)
        return std::nullopt;
    for (ValueId value : group.values)
      cycles += elementCount(graph.values[value].shape) / lanesOf(packings[value]);
    for (size_t k : group.products) {
      std::optional<int64_t> own = cyclesOfProduct(k);
      if (!own)
        return std::nullopt;
      cycles += *own;
    }
    return cycles;
  };
  // Neighbours depend on each other: once more with what they chose.
  for (int64_t round = 0; round < 2; ++round)
    for (const Group &group : groups) {
      const Shape &shape = graph.values[group.merged].shape;
      size_t last = shape.size() - 1;
      // Where the channels are parts of the last dimension, places of it; else of the one before.
      bool together = group.parts[last] > 1;
      size_t across = together ? last : last - 1;
      if (!together && 2 * shape[last] > machine.vectorBytes())
        continue;
      std::vector<Packing> best;
      for (ValueId value : group.values)
        best.push_back(packings[value]);
      auto put = [&](llvm::ArrayRef<Packing> chosen) {
        for (auto [value, packing] : llvm::zip(group.values, chosen))
          packings[value] = packing;
      };
      std::optional<int64_t> fewest = cyclesOf(group);
      std::set<int64_t> downs = {1};
      if (across > 0)
        for (int64_t times : {1, 2, 4})
          if (shape[across - 1] % (times * group.parts[across - 1]) == 0)
            downs.insert(times * group.parts[across - 1]);
      for (int64_t down : downs)
        for (int64_t places : divisorsOf(shape[across])) {
          Packing packing(shape.size(), 1);
          packing[last] = together ? 1 : shape[last];
          packing[across] = places;
          if (across > 0)
            packing[across - 1] = down;
          if (lanesOf(packing) > machine.vectorBytes())
            break;
          std::vector<Packing> chosen;
          for (ValueId value : group.values)
            if (auto before = packingBefore(graph.values[value].shape, shape, packing))
              chosen.push_back(std::move(*before));
          if (chosen.size() < group.values.size())
            continue;
          put(chosen);
          std::optional<int64_t> cycles = cyclesOf(group);
          if (cycles && (!fewest || *cycles < *fewest)) {
            fewest = cycles;
            best = std::move(chosen);
          }
        }
      put(best);
    }
}

} // namespace

std::optional<std::vector<int64_t>> shiftsOf(const KernelGraph &graph, const Kernel &kernel, const graph::Read &read) {
  const Shape &shape = graph.values[read.value].shape;
  if (shape != graph.values[kernel.writes[0].value].shape)
    return std::nullopt;
  graph::Read own = read;
  std::vector<int64_t> shifts;
  for (graph::DimensionAccess &access : own.map) {
    shifts.push_back(access.offset);
    access.offset = 0;
  }
  bool shifted = llvm::any_of(shifts, [](int64_t shift) { return shift != 0; });
  if (shifted && !read.padding)
    return std::nullopt;
  own.padding.reset();
  return graph::readsOwnElement(graph, kernel, shifted ? own : read) ? std::optional(shifts) : std::nullopt;
}

std::vector<Packing> choosePackings(const KernelGraph &graph, const Architecture &machine) {
  std::vector<Packing> packings;
  for (const graph::Value &value : graph.values)
    packings.push_back(plainPacking(value.shape));
  packChannels(graph, machine, packings);
  packInputs(graph, machine, packings);
  return packings;
}

} // namespace quadrille::tsp
