#include "target/tsp/Split.h"

#include "graph/KernelQueries.h"
#include "target/tsp/ColumnParts.h"
#include "target/tsp/Lower.h"

#include "llvm/ADT/STLExtras.h"

#include <map>

namespace quadrille::tsp {

using graph::DimensionAccess;
using graph::Kernel;
using graph::KernelGraph;
using graph::Value;
using graph::ValueId;

SplitGraph splitProducts(const MachineGraph &whole, llvm::ArrayRef<int64_t> parts, int64_t columns) {
  const KernelGraph &graph = whole.graph;
  SplitGraph split{whole, {}};
  MachineGraph &made = split.graph;
  KernelGraph &result = made.graph;
  result.kernels.clear();
  graph::Uses uses(graph);
  std::map<ValueId, std::vector<std::pair<ValueId, int64_t>>> partsOf; // of outputs: a part and where it begins
  std::map<ValueId, size_t> axisOf;
  auto add = [&](Value value) {
    result.values.push_back(std::move(value));
    return static_cast<ValueId>(result.values.size() - 1);
  };
  for (auto [number, kernel, most] : llvm::enumerate(graph.kernels, parts)) {
    std::optional<unsigned> loop = most > 1 ? columnLoop(graph, kernel) : std::nullopt;
    bool picks = most > 1 && isComputedPick(graph, kernel) &&
                 graph.values[kernel.reads[0].value].role == graph::ValueRole::Constant;
    int64_t extent = loop ? kernel.loops[*loop].extent : picks ? graph.values[kernel.reads[0].value].shape[1] : 0;
    int64_t width = extent ? ((extent + most - 1) / most + columns - 1) / columns * columns : 0;
    if (width >= extent) {
      result.kernels.push_back(kernel);
      split.origins.emplace_back(number, 1);
      continue;
    }
    const graph::Write &write = kernel.writes[0];
    // Each loop that does not reduce indexes the result (Write); picked rows are its last dimension.
    size_t axis = loop ? *dimensionAlong(write.map, *loop) : graph.values[write.value].shape.size() - 1;
    Kernel join;
    join.kind = graph::KernelKind::Move;
    join.operation = "concat";
    join.attributes["axis"] = static_cast<int64_t>(axis);
    join.writes.push_back({write.value, {}, graph::Combiner::None, std::nullopt, std::nullopt});
    join.nodes = kernel.nodes;
    std::vector<std::pair<ValueId, int64_t>> partsOfResult;
    for (int64_t first = 0; first < extent; first += width) {
      int64_t count = std::min(width, extent - first);
      Kernel part = kernel;
      auto cut = [&](graph::Read &read) {
        if (auto dimension = dimensionAlong(read.map, *loop))
          read.value = add(sliceOf(graph.values[read.value], *dimension, first, count));
      };
      if (loop) {
        part.loops[*loop].extent = count;
        for (graph::Read &read : part.reads)
          cut(read);
        if (part.writes[0].initial)
          cut(*part.writes[0].initial);
      } else {
        part.reads[0].value = add(sliceOf(graph.values[part.reads[0].value], 1, first, count));
      }
      Value value = graph.values[write.value];
      value.name += " " + std::to_string(first) + ".." + std::to_string(first + count - 1);
      value.shape[axis] = count;
      part.writes[0].value = add(std::move(value));
      join.reads.push_back({part.writes[0].value, {}, std::nullopt});
      partsOfResult.emplace_back(part.writes[0].value, first);
      graph::countWork(result, part);
      result.kernels.push_back(std::move(part));
      split.origins.emplace_back(number, static_cast<double>(count) / static_cast<double>(extent));
    }
    // Readers behind the last kernel are outputs.
    if (llvm::all_of(uses.readers[write.value], [&](size_t reader) { return reader >= graph.kernels.size(); })) {
      partsOf[write.value] = std::move(partsOfResult);
      axisOf[write.value] = axis;
      continue;
    }
    graph::countWork(result, join);
    result.kernels.push_back(std::move(join));
    split.origins.emplace_back(number, 0);
  }
  result.outputs.clear();
  result.outputNames.clear();
  made.outputs.clear();
  for (auto [value, name, part] : llvm::zip(graph.outputs, graph.outputNames, whole.outputs)) {
    auto found = partsOf.find(value);
    if (found == partsOf.end()) {
      result.outputs.push_back(value);
      result.outputNames.push_back(name);
      made.outputs.push_back(part);
      continue;
    }
    for (auto [of, first] : found->second) {
      result.outputs.push_back(of);
      result.outputNames.push_back(name);
      made.outputs.push_back(part);
      made.outputs.back().begin[axisOf[value]] += first;
    }
  }
  for (size_t value = made.packings.size(); value < result.values.size(); ++value)
    made.packings.push_back(plainPacking(result.values[value].shape));
  return split;
}

} // namespace quadrille::tsp
