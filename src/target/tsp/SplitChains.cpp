#include "target/tsp/SplitChains.h"

#include "graph/KernelQueries.h"
#include "target/tsp/Lower.h"
#include "target/tsp/Placement.h"

#include "llvm/ADT/STLExtras.h"

#include <map>
#include <set>

namespace quadrille::tsp {

using graph::Kernel;
using graph::KernelGraph;
using graph::Read;
using graph::Value;
using graph::ValueId;

namespace {

// In memory, where the last dimension lies in the lanes; what has no other columns, as sums of rows, is packed.
int64_t wordsOf(const Value &value, int64_t lanes) {
  if (elementCount(value.shape) == 0)
    return 0;
  if (columnsOf(value.shape) == 1)
    return (rowsOf(value.shape) + lanes - 1) / lanes * static_cast<int64_t>(byteWidth(value.type));
  Region region = Region::of(value.type, rowsOf(value.shape), columnsOf(value.shape), lanes);
  return region.wordsNeeded() * region.slicesNeeded();
}

// The kernels of a chain, the loop of each that becomes blocks, and the dimension of what they make.
class KernelChain {
public:
  KernelChain(const KernelGraph &graph, const graph::Uses &uses, int64_t mostWords, int64_t lanes)
      : graph(graph), uses(uses), mostWords(mostWords), lanes(lanes) {}

  // Whether the value and all that must go with it can be had in blocks of the dimension.
  bool grow(ValueId value, size_t dimension) {
    extent = graph.values[value].shape[dimension];
    return addValue(value, dimension) && close() && readsOwnBlocks();
  }

  std::map<size_t, unsigned> loops; // by kernel
  std::map<ValueId, size_t> made;   // by value that they write: the dimension
  int64_t extent = 0;

private:
  bool isLarge(ValueId id, int64_t times = 1) const {
    const Value &value = graph.values[id];
    return value.role == graph::ValueRole::Intermediate && wordsOf(value, lanes) > times * mostWords;
  }
  // A value that is read whole for every block, or through more than one of its dimensions, stays as it is.
  bool mayStay(ValueId id) const {
    constexpr int64_t times = 4;
    return !isLarge(id, times);
  }

  // A value whose blocks are made: those who make and read it belong to the chain.
  bool addValue(ValueId value, size_t dimension) {
    auto [known, fresh] = made.try_emplace(value, dimension);
    if (!fresh)
      return known->second == dimension;
    if (!uses.producers[value])
      return false;
    const Kernel &producer = graph.kernels[*uses.producers[value]];
    for (const graph::Write &write : producer.writes)
      if (write.value == value && !addKernel(*uses.producers[value], write.map, dimension))
        return false;
    return !isLarge(value) ||
           llvm::all_of(uses.readers[value], [&](size_t reader) { return addReader(reader, value); });
  }

  bool addReader(size_t reader, ValueId value) {
    if (reader >= graph.kernels.size())
      return mayStay(value); // a result of the program, which is joined
    for (const Read &read : graph.kernels[reader].reads)
      if (read.value == value)
        return addKernel(reader, read.map, made.at(value));
    return false;
  }

  bool addKernel(size_t number, const graph::AccessMap &map, size_t dimension) {
    const Kernel &kernel = graph.kernels[number];
    if (!kernel.structured() || dimension >= map.size())
      return false;
    const graph::DimensionAccess &access = map[dimension];
    if (access.offset != 0 || access.terms.size() != 1 || access.terms[0].second != 1)
      return false;
    unsigned loop = access.terms[0].first;
    auto [known, fresh] = loops.try_emplace(number, loop);
    if (!fresh)
      return known->second == loop;
    if (kernel.loops[loop].reduction || kernel.loops[loop].extent != extent || graph::readsLoopNumber(kernel, loop))
      return false;
    for (const graph::Write &write : kernel.writes) {
      // A bias of columns is the same for all blocks of rows.
      if (write.initial &&
          llvm::any_of(write.initial->map, [&](const auto &index) { return graph::coefficientOf(index, loop) != 0; }))
        return false;
      for (auto [d, index] : llvm::enumerate(write.map))
        if (graph::coefficientOf(index, loop) != 0 && !addValue(write.value, d))
          return false;
    }
    for (const Read &read : kernel.reads) {
      auto count = llvm::count_if(read.map, [&](const auto &index) { return graph::coefficientOf(index, loop) != 0; });
      if (count == 0) {
        if (!mayStay(read.value))
          return false;
        continue;
      }
      auto d = static_cast<size_t>(
          llvm::find_if(read.map, [&](const auto &index) { return graph::coefficientOf(index, loop) != 0; }) -
          read.map.begin());
      // Weights are cut when the program is made (Split.h).
      bool weights =
          kernel.kind == graph::KernelKind::Contract && graph.values[read.value].role == graph::ValueRole::Constant;
      if (count > 1 || read.padding || weights)
        return false;
      if (read.map[d] != graph::DimensionAccess{0, {{loop, 1}}} || graph.values[read.value].shape[d] != extent) {
        if (!mayStay(read.value))
          return false;
        continue;
      }
      if (isLarge(read.value) && !addValue(read.value, d))
        return false;
    }
    return true;
  }

  // What lies between kernels of the chain belongs to it.
  bool close() {
    for (bool again = true; std::exchange(again, false);) {
      size_t first = loops.begin()->first, last = loops.rbegin()->first;
      std::set<ValueId> below; // values that depend on the chain
      std::vector<std::pair<size_t, ValueId>> entries;
      std::vector<bool> leads(graph.kernels.size()); // to the chain
      std::set<ValueId> needed;
      for (size_t number = last + 1; number-- > first;) {
        const Kernel &kernel = graph.kernels[number];
        leads[number] = loops.count(number) || llvm::any_of(kernel.writes, [&](const graph::Write &write) {
                          return needed.count(write.value);
                        });
        if (leads[number])
          for (ValueId value : graph::operandsOf(kernel))
            needed.insert(value);
      }
      for (size_t number = first; number <= last; ++number) {
        const Kernel &kernel = graph.kernels[number];
        std::vector<ValueId> operands = graph::operandsOf(kernel);
        auto from = llvm::find_if(operands, [&](ValueId value) { return below.count(value) != 0; });
        if (!loops.count(number) && from == operands.end())
          continue;
        if (!loops.count(number) && leads[number]) {
          if (!made.count(*from) || !addReader(number, *from))
            return false;
          again = true;
        }
        for (const graph::Write &write : kernel.writes)
          below.insert(write.value);
      }
    }
    return true;
  }

  // Whether kernels of the chain read of its values the block that they work on, and no other rows.
  bool readsOwnBlocks() const {
    auto reads = [&](const Read &read, unsigned loop) {
      auto value = made.find(read.value);
      if (value == made.end())
        return true;
      for (auto [d, index] : llvm::enumerate(read.map))
        if (d == value->second ? index != graph::DimensionAccess{0, {{loop, 1}}}
                               : graph::coefficientOf(index, loop) != 0)
          return false;
      return true;
    };
    return llvm::all_of(loops, [&](auto entry) {
      const Kernel &kernel = graph.kernels[entry.first];
      return llvm::all_of(kernel.reads, [&](const Read &read) { return reads(read, entry.second); }) &&
             llvm::none_of(kernel.writes, [&](const graph::Write &write) {
               return write.initial && made.count(write.initial->value) != 0;
             });
    });
  }

  const KernelGraph &graph;
  const graph::Uses &uses;
  int64_t mostWords, lanes;
};

// The graph with the chain in blocks of `block` indices.
void inBlocks(KernelGraph &graph, const KernelChain &chain, int64_t block) {
  std::vector<Kernel> before, after, kernels;
  std::set<ValueId> below;
  for (auto [value, dimension] : chain.made)
    below.insert(value);
  std::vector<const Kernel *> chained;
  for (auto [number, kernel] : llvm::enumerate(graph.kernels)) {
    if (chain.loops.count(number)) {
      chained.push_back(&kernel);
      continue;
    }
    bool depends = llvm::any_of(graph::operandsOf(kernel), [&](ValueId value) { return below.count(value) != 0; });
    if (depends)
      for (const graph::Write &write : kernel.writes)
        below.insert(write.value);
    (depends ? after : before).push_back(kernel);
  }
  graph::Uses uses(graph);
  std::map<ValueId, Kernel> joins; // of what others read too
  for (auto [value, dimension] : chain.made) {
    if (llvm::all_of(uses.readers[value], [&](size_t reader) { return chain.loops.count(reader) != 0; }))
      continue;
    Kernel join;
    join.kind = graph::KernelKind::Move;
    join.operation = "concat";
    join.attributes["axis"] = static_cast<int64_t>(dimension);
    join.writes.push_back({value, {}, graph::Combiner::None, std::nullopt, std::nullopt});
    join.nodes = graph.kernels[*uses.producers[value]].nodes;
    joins.emplace(value, std::move(join));
  }
  for (int64_t first = 0; first < chain.extent; first += block) {
    int64_t count = std::min(block, chain.extent - first);
    std::map<std::pair<ValueId, size_t>, ValueId> parts;
    auto partOf = [&](ValueId whole, Shape shape) {
      Value part = graph.values[whole];
      part.name += " " + std::to_string(first) + ".." + std::to_string(first + count - 1);
      part.shape = std::move(shape);
      part.role = graph::ValueRole::Intermediate;
      part.data = Tensor();
      part.origin.reset();
      graph.values.push_back(std::move(part));
      return static_cast<ValueId>(graph.values.size() - 1);
    };
    for (auto [number, loop] : chain.loops) {
      Kernel kernel = graph.kernels[number];
      kernel.loops[loop].extent = count;
      for (Read &read : kernel.reads)
        for (auto [d, index] : llvm::enumerate(read.map)) {
          if (graph::coefficientOf(index, loop) == 0)
            continue;
          ValueId whole = read.value;
          if (auto known = parts.find({whole, d}); known != parts.end()) {
            read.value = known->second;
            break;
          }
          // Of what comes from elsewhere what the kernel reads: a dimension for each loop.
          Kernel slice;
          slice.kind = graph::KernelKind::Move;
          slice.operation = "slice";
          slice.nodes = kernel.nodes;
          Read from = read;
          from.map[d].offset += first * graph::coefficientOf(index, loop);
          Shape shape;
          graph::AccessMap own;
          std::map<unsigned, unsigned> dimensions;
          for (graph::DimensionAccess &access : from.map) {
            auto terms = access.terms;
            llvm::stable_sort(terms, [](auto a, auto b) { return a.second > b.second; });
            for (auto [of, coefficient] : terms)
              if (dimensions.try_emplace(of, static_cast<unsigned>(shape.size())).second) {
                own.push_back({0, {{of, 1}}});
                shape.push_back(kernel.loops[of].extent);
              }
            for (auto &term : access.terms)
              term.first = dimensions.at(term.first);
            llvm::sort(access.terms);
          }
          ValueId part = partOf(whole, shape);
          graph::Write to{part, {}, graph::Combiner::None, std::nullopt, std::nullopt};
          for (auto [e, size] : llvm::enumerate(shape)) {
            slice.loops.push_back({size, false});
            to.map.push_back({0, {{static_cast<unsigned>(e), 1}}});
          }
          ElementType type = graph.values[part].type;
          slice.body.inputs = {type};
          slice.body.results = {slice.body.append(BlockOpcode::Input, type, {}, 0)};
          slice.reads.push_back(std::move(from));
          slice.writes.push_back(std::move(to));
          graph::countWork(graph, slice);
          kernels.push_back(std::move(slice));
          read.map = std::move(own);
          read.value = part;
          break;
        }
      for (graph::Write &write : kernel.writes) {
        ValueId whole = write.value;
        size_t d = chain.made.at(whole);
        Shape shape = graph.values[whole].shape;
        shape[d] = count;
        parts[{whole, d}] = write.value = partOf(whole, std::move(shape));
        if (auto join = joins.find(whole); join != joins.end())
          join->second.reads.push_back({write.value, {}, std::nullopt});
      }
      graph::countWork(graph, kernel);
      kernels.push_back(std::move(kernel));
    }
  }
  for (auto &[value, join] : joins) {
    graph::countWork(graph, join);
    kernels.push_back(std::move(join));
  }
  graph.kernels = std::move(before);
  graph.kernels.insert(graph.kernels.end(), kernels.begin(), kernels.end());
  graph.kernels.insert(graph.kernels.end(), after.begin(), after.end());
}

// Whether the one kernel that reads a value can have it as it is made, behind a product: it is never in memory.
bool isStreamed(const KernelGraph &graph, const graph::Uses &uses, ValueId value) {
  if (uses.readers[value].size() != 1 || uses.readers[value][0] >= graph.kernels.size() || !uses.producers[value])
    return false;
  const Kernel &reader = graph.kernels[uses.readers[value][0]], &producer = graph.kernels[*uses.producers[value]];
  bool follows = graph::isElementwise(reader) && llvm::all_of(reader.reads, [&](const Read &read) {
                   return read.value != value || graph::readsOwnElement(graph, reader, read);
                 });
  return follows && (isMatrixProduct(graph, producer) ||
                     (graph::isElementwise(producer) && llvm::any_of(producer.reads, [&](const Read &read) {
                        return isStreamed(graph, uses, read.value);
                      })));
}

// The largest value for which there is a way.
bool splitOne(KernelGraph &graph, int64_t mostWords, int64_t lanes, std::set<ValueId> &whole) {
  graph::Uses uses(graph);
  std::vector<std::pair<int64_t, ValueId>> large;
  for (ValueId value = 0; value < graph.values.size(); ++value)
    if (int64_t words = wordsOf(graph.values[value], lanes);
        graph.values[value].role == graph::ValueRole::Intermediate && words > mostWords && uses.producers[value] &&
        !whole.count(value) && !isStreamed(graph, uses, value))
      large.emplace_back(words, value);
  llvm::stable_sort(large, [](auto a, auto b) { return a.first > b.first; });
  for (auto [words, value] : large) {
    const Shape &shape = graph.values[value].shape;
    for (size_t d = 0; d + 1 < shape.size(); ++d) {
      KernelChain chain(graph, uses, mostWords, lanes);
      // A kernel alone has nothing from block to block.
      if (shape[d] == 1 || !chain.grow(value, d) || chain.loops.size() < 2)
        continue;
      int64_t most = std::max<int64_t>(shape[d] * mostWords / words, 1), blocks = (shape[d] + most - 1) / most;
      inBlocks(graph, chain, (shape[d] + blocks - 1) / blocks);
      return true;
    }
    whole.insert(value);
  }
  return false;
}

} // namespace

void splitChains(KernelGraph &graph, int64_t mostWords, int64_t lanes) {
  std::set<ValueId> whole; // for which there is no way
  while (splitOne(graph, mostWords, lanes, whole))
    ;
}

} // namespace quadrille::tsp
