#include "target/tsp/Orient.h"

#include "graph/Contraction.h"
#include "graph/KernelQueries.h"
#include "graph/RetypeValues.h"
#include "numerics/Convert.h"
#include "target/tsp/Lower.h"
#include "target/tsp/SaveMoves.h"

#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/STLExtras.h"

#include <cmath>
#include <cstring>
#include <map>
#include <set>

namespace quadrille::tsp {

using namespace graph;

void structureReshapes(KernelGraph &graph) {
  for (Kernel &kernel : graph.kernels) {
    if (!isReshape(kernel))
      continue;
    const Value &from = graph.values[kernel.reads[0].value], &to = graph.values[kernel.writes[0].value];
    // Each dimension of the operand must be some neighbouring dimensions of the result, apart from those of extent 1.
    AccessMap map(from.shape.size());
    size_t next = 0;
    bool structured = true;
    for (auto [d, extent] : llvm::enumerate(from.shape)) {
      if (extent == 1)
        continue;
      size_t first = next;
      int64_t product = 1;
      while (next < to.shape.size() && product < extent)
        product *= to.shape[next++];
      structured &= product == extent;
      int64_t stride = 1;
      for (size_t r = next; r-- > first; stride *= to.shape[r])
        if (to.shape[r] != 1)
          map[d].terms.insert(map[d].terms.begin(), {static_cast<unsigned>(r), stride});
      if (!structured)
        break;
    }
    if (!structured)
      continue;
    kernel.kind = KernelKind::Move;
    kernel.attributes.clear();
    kernel.reads[0].map = map;
    AccessMap write;
    for (auto [r, extent] : llvm::enumerate(to.shape)) {
      kernel.loops.push_back({extent});
      write.push_back({0, {{static_cast<unsigned>(r), 1}}});
    }
    kernel.writes[0].map = write;
    kernel.body.inputs = {from.type};
    kernel.body.results = {kernel.body.append(BlockOpcode::Input, from.type, {}, 0)};
    kernel.numeric = defaultNumeric(graph, kernel);
  }
}

namespace {

// The roles of the loops of what the matrix unit does.
std::optional<Contraction> productOf(const KernelGraph &graph, const Kernel &kernel) {
  return isMatrixProduct(graph, kernel) ? inferContraction(graph, kernel) : std::nullopt;
}

bool isExtremum(Combiner combiner) {
  return combiner == Combiner::Maximum || combiner == Combiner::Minimum;
}

class Narrower {
public:
  explicit Narrower(KernelGraph &graph) : graph(graph), uses(graph), isOutput(graph.values.size()) {
    for (ValueId output : graph.outputs)
      isOutput[output] = true;
  }

  void run() {
    for (Kernel &kernel : graph.kernels)
      if (canNarrowTable(kernel))
        narrowTable(kernel);
    wanted.resize(graph.values.size());
    for (const Kernel &kernel : graph.kernels)
      if (auto contraction = productOf(graph, kernel))
        for (unsigned read : {contraction->lhs, contraction->rhs}) {
          const Value &value = graph.values[kernel.reads[read].value];
          if (value.type == ElementType::f32 && value.role != ValueRole::Constant)
            wanted[kernel.reads[read].value] = true;
        }
    // The last ones first: what passes elements on reads them in the type in which it writes them.
    for (auto value = static_cast<ValueId>(wanted.size()); value-- > 0;)
      if (wanted[value]) {
        asked.clear();
        canNarrow(value) ? narrow(value) : narrowCopy(value);
      }
    // Copies come before the first kernel that reads them: behind what makes the value, or first of all.
    std::vector<Kernel> kernels;
    auto add = [&](std::optional<size_t> producer) {
      for (auto &[after, copy] : copies)
        if (after == producer)
          kernels.push_back(std::move(copy));
    };
    add(std::nullopt);
    for (auto [k, kernel] : llvm::enumerate(graph.kernels)) {
      kernels.push_back(std::move(kernel));
      add(k);
    }
    graph.kernels = std::move(kernels);
  }

private:
  // Whether rows are picked from a constant whose elements f16 can hold, for kernels to which their rounding is no more
  // than that of a product's operand.
  bool canNarrowTable(const Kernel &kernel) const {
    if (!isComputedPick(graph, kernel))
      return false;
    const Value &table = graph.values[kernel.reads[0].value];
    ValueId picked = kernel.writes[0].value;
    return table.role == ValueRole::Constant && table.type == ElementType::f32 && !isOutput[picked] &&
           llvm::all_of(uses.readers[picked], [&](size_t reader) { return isSmooth(reader, picked); }) &&
           hasHalves(table);
  }
  // Only sums, products and the like come from the value: its relative error is one of about that size of their terms.
  bool isSmooth(size_t reader, ValueId value) const {
    if (reader >= graph.kernels.size() || !graph.kernels[reader].structured())
      return false;
    const Kernel &kernel = graph.kernels[reader];
    std::vector<bool> comesFromIt;
    for (const BlockInstruction &instruction : kernel.body.instructions) {
      bool comes = instruction.opcode == BlockOpcode::Input && kernel.reads[instruction.immediate].value == value;
      for (unsigned i = 0; i < operandCount(instruction.opcode); ++i)
        comes = comes || comesFromIt[instruction.operands[i]];
      if (comes && !isSmooth(instruction))
        return false;
      comesFromIt.push_back(comes);
    }
    return true;
  }
  static bool isSmooth(const BlockInstruction &instruction) {
    switch (instruction.opcode) {
    case BlockOpcode::Input:
    case BlockOpcode::Add:
    case BlockOpcode::Subtract:
    case BlockOpcode::Multiply:
    case BlockOpcode::MultiplyAdd:
    case BlockOpcode::Minimum:
    case BlockOpcode::Maximum:
    case BlockOpcode::Negate:
    case BlockOpcode::Absolute:
      return true;
    case BlockOpcode::Convert:
      return isFloat(instruction.type);
    default:
      return false;
    }
  }
  // Whether f16 rounds the elements of every row to within an ulp of the largest one: that one is finite, and no
  // subnormal. Of absent weights that is taken for granted, as it is of those of products.
  static bool hasHalves(const Value &table) {
    if (!table.data.valid())
      return true;
    constexpr float largest = 65504, smallest = 0x1p-14F;
    std::vector<float> row(static_cast<size_t>(table.shape[1]));
    for (int64_t r = 0; r < table.shape[0]; ++r) {
      size_t bytes = row.size() * sizeof(float);
      std::memcpy(row.data(), table.data.bytes().data() + static_cast<size_t>(r) * bytes, bytes);
      float most = 0;
      bool held = true;
      for (float element : row) {
        most = std::max(most, std::abs(element));
        held &= std::abs(element) <= largest; // not so of NaN
      }
      if (!held || (most != 0 && most < smallest))
        return false;
    }
    return true;
  }

  void narrowTable(Kernel &kernel) {
    auto [known, fresh] = tables.try_emplace(kernel.reads[0].value, static_cast<ValueId>(graph.values.size()));
    if (fresh) {
      Value table = graph.values[kernel.reads[0].value];
      table.type = ElementType::f16;
      table.origin.reset();
      if (table.data.valid())
        table.data = convert(table.data, ElementType::f16);
      graph.values.push_back(std::move(table));
      isOutput.push_back(false);
      uses.readers.emplace_back();
      uses.producers.emplace_back();
    }
    kernel.reads[0].value = known->second;
    ValueId picked = kernel.writes[0].value;
    graph.values[picked].type = ElementType::f16;
    for (size_t reader : uses.readers[picked])
      widenIn(reader, picked);
  }

  // Whether what makes the value can round it itself: an elementwise kernel or a product, an extremum or a move of
  // values that can be held so. What only moves its elements then writes halves too.
  bool canNarrow(ValueId value) {
    if (graph.values[value].type == ElementType::f16 || !asked.insert(value).second)
      return true;
    std::optional<size_t> producer = uses.producers[value];
    if (!producer || isOutput[value] ||
        !llvm::all_of(uses.readers[value], [&](size_t reader) { return canReadHalves(graph.kernels[reader]); }))
      return false;
    const Kernel &kernel = graph.kernels[*producer];
    if (productOf(graph, kernel) || isElementwise(kernel))
      return true;
    return passesOn(kernel) && llvm::all_of(operandsOf(kernel), [&](ValueId operand) { return canNarrow(operand); });
  }
  // A move of one value loses nothing; one of several would round others, unless products want it.
  bool canReadHalves(const Kernel &kernel) {
    if (kernel.structured())
      return true;
    ValueId made = kernel.writes[0].value;
    return passesOn(kernel) && (kernel.reads.size() == 1 || wanted[made]) && canNarrow(made);
  }
  bool passesOn(const Kernel &kernel) const {
    if (!kernel.structured())
      return canPermute(kernel) || isReshape(kernel);
    return kernel.writes.size() == 1 && kernel.reads.size() == 1 && isExtremum(kernel.writes[0].combiner) &&
           !kernel.writes[0].initial && kernel.body.isIdentity();
  }

  void narrow(ValueId id) {
    Value &value = graph.values[id];
    if (value.type == ElementType::f16)
      return;
    Kernel &kernel = graph.kernels[*uses.producers[id]];
    value.type = ElementType::f16;
    if (isElementwise(kernel)) {
      Register &result = kernel.body.results[0];
      result = kernel.body.append(BlockOpcode::Convert, ElementType::f16, {result});
    } else if (passesOn(kernel)) {
      for (ValueId operand : operandsOf(kernel))
        narrow(operand);
      Write &write = kernel.writes[0];
      if (kernel.structured()) {
        kernel.body.inputs[0] = ElementType::f16;
        for (BlockInstruction &instruction : kernel.body.instructions)
          instruction.type = ElementType::f16;
        for (auto scalar : {write.initialScalar ? &*write.initialScalar : nullptr,
                            kernel.reads[0].padding ? &*kernel.reads[0].padding : nullptr})
          if (scalar)
            *scalar = {ElementType::f16,
                       bitsFromDouble(ElementType::f16, doubleFromBits(scalar->type, scalar->bits), true)};
      }
    }
    for (size_t reader : uses.readers[id])
      if (graph.kernels[reader].structured())
        widenIn(reader, id);
      else
        narrow(graph.kernels[reader].writes[0].value);
  }
  // A reader that computes in f32 converts what it reads.
  void widenIn(size_t reader, ValueId id) {
    if (reader == graph.kernels.size() || !graph.kernels[reader].structured())
      return;
    Kernel &kernel = graph.kernels[reader];
    for (auto [r, read] : llvm::enumerate(kernel.reads))
      if (read.value == id && kernel.body.inputs[r] == ElementType::f32) {
        if (read.padding)
          *read.padding = {
              ElementType::f16,
              bitsFromDouble(ElementType::f16, doubleFromBits(read.padding->type, read.padding->bits), true)};
        retypeInput(kernel.body, r, ElementType::f16);
      }
  }

  void narrowCopy(ValueId id) {
    Value copy = graph.values[id];
    copy.role = ValueRole::Intermediate;
    copy.type = ElementType::f16;
    auto narrowed = static_cast<ValueId>(graph.values.size());
    Kernel kernel;
    kernel.kind = KernelKind::Map;
    kernel.operation = "convert";
    AccessMap map;
    for (auto [d, extent] : llvm::enumerate(copy.shape)) {
      kernel.loops.push_back({extent});
      map.push_back({0, {{static_cast<unsigned>(d), 1}}});
    }
    kernel.reads = {{id, map, {}}};
    kernel.writes = {{narrowed, map, Combiner::None, {}, {}}};
    kernel.body.inputs = {ElementType::f32};
    Register wide = kernel.body.append(BlockOpcode::Input, ElementType::f32, {}, 0);
    kernel.body.results = {kernel.body.append(BlockOpcode::Convert, ElementType::f16, {wide})};
    graph.values.push_back(std::move(copy));
    kernel.numeric = defaultNumeric(graph, kernel);
    for (size_t reader : uses.readers[id]) {
      if (reader == graph.kernels.size())
        continue;
      Kernel &product = graph.kernels[reader];
      auto contraction = productOf(graph, product);
      if (!contraction)
        continue;
      for (unsigned r : {contraction->lhs, contraction->rhs})
        if (product.reads[r].value == id) {
          product.reads[r].value = narrowed;
          if (kernel.nodes.empty())
            kernel.nodes = product.nodes;
          retypeInput(product.body, r, ElementType::f16);
        }
    }
    copies.emplace_back(uses.producers[id], std::move(kernel));
  }

  KernelGraph &graph;
  Uses uses;
  std::vector<bool> isOutput;
  std::vector<bool> wanted;                                     // by value: products read it
  std::set<ValueId> asked;                                      // that must be halves together
  std::map<ValueId, ValueId> tables;                            // as they were, and as f16
  std::vector<std::pair<std::optional<size_t>, Kernel>> copies; // behind which kernel
};

} // namespace

void narrowProductOperands(KernelGraph &graph) {
  Narrower(graph).run();
}

std::vector<Permutation> orientValues(KernelGraph &graph) {
  // Dimensions that are walked together, and how much arithmetic wants each in the lanes.
  std::vector<unsigned> firstOf; // number of a value's first dimension
  unsigned count = 0;
  for (const Value &value : graph.values) {
    firstOf.push_back(count);
    count += static_cast<unsigned>(value.shape.size());
  }
  llvm::EquivalenceClasses<unsigned> alike;
  for (unsigned number = 0; number < count; ++number)
    alike.insert(number);
  std::vector<double> wishes(count);
  std::vector<bool> fixed(graph.values.size());   // some kernel cannot have another order
  std::vector<bool> weights(graph.values.size()); // are put into tiles, however they lie
  auto dimensionOf = [&](ValueId value, const AccessMap &map, unsigned loop) -> std::optional<unsigned> {
    for (auto [d, access] : llvm::enumerate(map))
      if (coefficientOf(access, loop) == 1)
        return firstOf[value] + static_cast<unsigned>(d);
    return std::nullopt;
  };
  auto longest = [&](const Kernel &kernel, llvm::ArrayRef<unsigned> loops) -> std::optional<unsigned> {
    std::optional<unsigned> found;
    for (unsigned loop : loops)
      if (!found || kernel.loops[loop].extent >= kernel.loops[*found].extent)
        found = loop;
    return found;
  };
  // A reshape by which dimensions become one has other dimensions last where these stay what they are.
  auto groupsOf = [&](const Kernel &kernel) {
    return isReshape(kernel)
               ? mergedDimensions(graph.values[kernel.reads[0].value].shape, graph.values[kernel.writes[0].value].shape)
               : std::nullopt;
  };
  for (const Kernel &kernel : graph.kernels) {
    if (auto groups = groupsOf(kernel)) {
      for (auto [d, group] : llvm::enumerate(*groups))
        if (group.size() == 1)
          alike.unionSets(firstOf[kernel.reads[0].value] + static_cast<unsigned>(group[0]),
                          firstOf[kernel.writes[0].value] + static_cast<unsigned>(d));
      continue;
    }
    if (!canPermute(kernel)) {
      for (ValueId operand : operandsOf(kernel))
        fixed[operand] = true;
      for (const Write &write : kernel.writes)
        fixed[write.value] = true;
      continue;
    }
    if (!kernel.structured()) {
      for (const Read &read : kernel.reads)
        for (size_t d = 0; d < graph.values[read.value].shape.size(); ++d)
          alike.unionSets(firstOf[read.value] + static_cast<unsigned>(d),
                          firstOf[kernel.writes[0].value] + static_cast<unsigned>(d));
      continue;
    }
    auto wish = [&](ValueId value, const AccessMap &map, llvm::ArrayRef<unsigned> loops) {
      if (std::optional<unsigned> loop = longest(kernel, loops))
        if (auto dimension = dimensionOf(value, map, *loop))
          wishes[*dimension] += kernel.flops;
    };
    // Channels that do not mix lie side by side.
    if (auto channels = kernel.kind == KernelKind::Contract ? inferContraction(graph, kernel) : std::nullopt;
        channels && !isMatrixProduct(graph, kernel))
      wish(kernel.writes[0].value, kernel.writes[0].map, channels->batch);
    if (auto contraction = productOf(graph, kernel)) {
      const Read &lhs = kernel.reads[contraction->lhs], &rhs = kernel.reads[contraction->rhs];
      const Write &write = kernel.writes[0];
      bool apart = channelsApart(graph, kernel, *contraction);
      wish(lhs.value, lhs.map, apart ? contraction->batch : contraction->k);
      wish(write.value, write.map, apart ? contraction->batch : contraction->n);
      if (graph.values[rhs.value].role == ValueRole::Constant)
        weights[rhs.value] = true;
      else
        wish(rhs.value, rhs.map, contraction->n);
      if (write.initial)
        for (unsigned loop = 0; loop < kernel.loops.size(); ++loop)
          if (auto a = dimensionOf(write.initial->value, write.initial->map, loop),
              b = dimensionOf(write.value, write.map, loop);
              a && b)
            alike.unionSets(*a, *b);
      continue;
    }
    // A channel alone is a dimension like others where the value is only converted.
    bool passesOn =
        isElementwise(kernel) && kernel.reads.size() == 1 && readsOwnElement(graph, kernel, kernel.reads[0]);
    for (unsigned loop = 0; loop < kernel.loops.size(); ++loop) {
      std::optional<unsigned> first;
      auto join = [&](ValueId value, const AccessMap &map) {
        if (auto dimension = dimensionOf(value, map, loop); dimension && (kernel.loops[loop].extent > 1 || passesOn)) {
          if (first)
            alike.unionSets(*first, *dimension);
          first = dimension;
        }
      };
      for (const Write &write : kernel.writes) {
        join(write.value, write.map);
        if (write.initial)
          join(write.initial->value, write.initial->map);
      }
      for (const Read &read : kernel.reads)
        join(read.value, read.map);
    }
  }
  std::vector<double> together(count);
  for (unsigned number = 0; number < count; ++number)
    together[alike.getLeaderValue(number)] += wishes[number];
  std::vector<Permutation> permutations(graph.values.size());
  for (auto [id, value] : llvm::enumerate(graph.values)) {
    if (fixed[id] || weights[id] || value.shape.size() < 2)
      continue;
    auto last = static_cast<unsigned>(value.shape.size() - 1);
    auto wishOf = [&](unsigned d) { return together[alike.getLeaderValue(firstOf[id] + d)]; };
    unsigned chosen = last;
    for (unsigned d = last + 1; d-- > 0;)
      if (wishOf(d) > wishOf(chosen))
        chosen = d;
    if (chosen == last)
      continue;
    for (unsigned d = 0; d <= last; ++d)
      if (d != chosen)
        permutations[id].push_back(d);
    permutations[id].push_back(chosen);
  }
  // Operands and result of an unstructured kernel go together.
  for (bool again = true; std::exchange(again, false);)
    for (const Kernel &kernel : graph.kernels) {
      if (auto groups = groupsOf(kernel)) {
        ValueId from = kernel.reads[0].value, to = kernel.writes[0].value;
        auto lastOf = [&](ValueId value) {
          return permutations[value].empty() ? graph.values[value].shape.size() - 1
                                             : static_cast<size_t>(permutations[value].back());
        };
        if ((permutations[from].empty() && permutations[to].empty()) ||
            (*groups)[lastOf(to)] == std::vector<size_t>{lastOf(from)})
          continue;
        permutations[from].clear();
        permutations[to].clear();
        again = true;
        continue;
      }
      if (kernel.structured() || !canPermute(kernel))
        continue;
      std::vector<ValueId> all = operandsOf(kernel);
      all.push_back(kernel.writes[0].value);
      bool same = llvm::all_of(all, [&](ValueId value) { return permutations[value] == permutations[all.back()]; });
      for (ValueId value : all)
        if (!same && !permutations[value].empty()) {
          permutations[value].clear();
          again = true;
        }
    }
  std::vector<Permutation> ends;
  for (const std::vector<ValueId> &list : {graph.inputs, graph.outputs})
    for (ValueId id : list)
      ends.push_back(permutations[id]);
  permuteValues(graph, permutations);
  return ends;
}

} // namespace quadrille::tsp
