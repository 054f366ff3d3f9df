#include "target/tsp/ColumnParts.h"

#include "graph/Contraction.h"
#include "graph/DropUnused.h"
#include "graph/FuseKernels.h"
#include "graph/KernelQueries.h"
#include "target/tsp/Lower.h"

#include "llvm/ADT/STLExtras.h"

#include <cstring>
#include <set>

namespace quadrille::tsp {

using graph::DimensionAccess;
using graph::Kernel;
using graph::KernelGraph;
using graph::Read;
using graph::Value;
using graph::ValueId;

namespace {

// Where a kernel reads a product's columns: which of its reads it is, as one of the product's result, and from which
// column on up to which.
struct ColumnRead {
  size_t kernel, number;
  Read read;
  int64_t first, end;
};

} // namespace

std::optional<size_t> dimensionAlong(const graph::AccessMap &map, unsigned loop) {
  std::optional<size_t> found;
  for (auto [d, access] : llvm::enumerate(map)) {
    if (graph::coefficientOf(access, loop) == 0)
      continue;
    if (found || access.offset != 0 || access.terms.size() != 1 || access.terms[0].second != 1)
      return std::nullopt;
    found = d;
  }
  return found;
}

std::optional<unsigned> columnLoop(const KernelGraph &graph, const Kernel &kernel) {
  if (kernel.kind != graph::KernelKind::Contract || kernel.writes.size() != 1)
    return std::nullopt;
  auto contraction = graph::inferContraction(graph, kernel);
  if (!contraction)
    return std::nullopt;
  const graph::Read &weights = kernel.reads[contraction->rhs];
  if (graph.values[weights.value].role != graph::ValueRole::Constant)
    return std::nullopt;
  for (unsigned loop : contraction->n) {
    bool everywhere = !graph::readsLoopNumber(kernel, loop) && dimensionAlong(weights.map, loop).has_value();
    // What else the loop indexes can be cut along it too.
    auto cuttable = [&](const graph::Read &read) {
      bool indexed = llvm::any_of(
          read.map, [&](const DimensionAccess &access) { return graph::coefficientOf(access, loop) != 0; });
      return !indexed ||
             (dimensionAlong(read.map, loop) && graph.values[read.value].role == graph::ValueRole::Constant);
    };
    for (const graph::Read &read : kernel.reads)
      everywhere &= cuttable(read);
    if (kernel.writes[0].initial)
      everywhere &= cuttable(*kernel.writes[0].initial);
    if (everywhere)
      return loop;
  }
  return std::nullopt;
}

Value sliceOf(const Value &value, size_t dimension, int64_t first, int64_t count) {
  Value slice = value;
  slice.name += " " + std::to_string(first) + ".." + std::to_string(first + count - 1);
  slice.shape[dimension] = count;
  slice.origin.reset();
  if (!value.data.valid())
    return slice;
  slice.data = Tensor::uninitialized(value.type, slice.shape);
  auto inner = static_cast<int64_t>(byteWidth(value.type));
  for (size_t d = dimension + 1; d < value.shape.size(); ++d)
    inner *= value.shape[d];
  int64_t outer = 1;
  for (size_t d = 0; d < dimension; ++d)
    outer *= value.shape[d];
  for (int64_t i = 0; i < outer; ++i)
    std::memcpy(slice.data.mutableBytes() + i * count * inner,
                value.data.bytes().data() + (i * value.shape[dimension] + first) * inner, count * inner);
  return slice;
}

namespace {

// What reads columns of the value, of which they are dimension `columns`; nothing when something needs it whole, or in
// ways that leave open which columns.
std::optional<std::vector<ColumnRead>> columnReads(const KernelGraph &graph, const graph::Uses &uses, ValueId value,
                                                   size_t columns) {
  std::vector<ColumnRead> found;
  auto add = [&](size_t kernel, size_t number, const Read &read) {
    const DimensionAccess &access = read.map[columns];
    ColumnRead part{kernel, number, read, access.offset, access.offset + 1};
    for (auto [loop, coefficient] : access.terms) {
      part.end += coefficient * (graph.kernels[kernel].loops[loop].extent - 1);
      if (coefficient < 0)
        return false;
    }
    bool lies = !read.padding && part.end <= graph.values[value].shape[columns];
    found.push_back(std::move(part));
    return lies;
  };
  std::set<size_t> readers(uses.readers[value].begin(), uses.readers[value].end());
  for (size_t reader : readers) {
    if (reader >= graph.kernels.size() || !graph.kernels[reader].structured())
      return std::nullopt;
    const Kernel &kernel = graph.kernels[reader];
    for (const graph::Write &write : kernel.writes)
      if (write.initial && write.initial->value == value)
        return std::nullopt;
    // Who reads what only has another shape reads the value.
    ValueId made = kernel.writes[0].value;
    bool view = graph.values[made].role == graph::ValueRole::Intermediate &&
                elementCount(graph.values[made].shape) == elementCount(graph.values[value].shape) &&
                llvm::all_of(uses.readers[made], [&](size_t of) {
                  return of < graph.kernels.size() && graph.kernels[of].structured() &&
                         llvm::none_of(
                             graph.kernels[of].writes,
                             [&](const graph::Write &write) { return write.initial && write.initial->value == made; });
                });
    std::vector<ColumnRead> through;
    if (view)
      for (size_t of : std::set<size_t>(uses.readers[made].begin(), uses.readers[made].end()))
        for (auto [number, read] : llvm::enumerate(graph.kernels[of].reads))
          if (read.value == made) {
            std::optional<Read> composed = graph::readThrough(graph, kernel, read);
            view = view && composed && add(of, number, *composed);
          }
    if (view)
      continue;
    for (auto [number, read] : llvm::enumerate(kernel.reads))
      if (read.value == value && !add(reader, number, read))
        return std::nullopt;
  }
  return found;
}

} // namespace

void multiplyReadColumnsApart(KernelGraph &graph, int64_t vectorLanes) {
  graph::Uses uses(graph);
  std::vector<Kernel> kernels;
  for (const Kernel &kernel : graph.kernels) {
    std::optional<unsigned> loop = isMatrixProduct(graph, kernel) ? columnLoop(graph, kernel) : std::nullopt;
    std::optional<size_t> columns = loop ? dimensionAlong(kernel.writes[0].map, *loop) : std::nullopt;
    ValueId value = kernel.writes.empty() ? graph::noValue : kernel.writes[0].value;
    std::optional<std::vector<ColumnRead>> reads;
    if (columns && graph.values[value].role == graph::ValueRole::Intermediate)
      reads = columnReads(graph, uses, value, *columns);
    std::vector<std::pair<int64_t, int64_t>> parts; // [first, end) of columns that something reads together
    if (reads) {
      llvm::sort(*reads, [](const ColumnRead &a, const ColumnRead &b) { return a.first < b.first; });
      for (const ColumnRead &read : *reads)
        if (parts.empty() || read.first >= parts.back().second)
          parts.emplace_back(read.first, read.end);
        else
          parts.back().second = std::max(parts.back().second, read.end);
    }
    // Those that fill vectors, and would have to change their lanes.
    bool moves = llvm::any_of(parts, [&](auto part) { return part.first % vectorLanes != 0; });
    bool wide = llvm::all_of(parts, [&](auto part) { return part.second - part.first >= vectorLanes; });
    if (parts.size() < 2 || !moves || !wide) {
      kernels.push_back(kernel);
      continue;
    }
    for (auto [first, end] : parts) {
      Kernel product = kernel;
      product.loops[*loop].extent = end - first;
      auto slice = [&, first = first, end = end](Read &read) {
        if (std::optional<size_t> d = dimensionAlong(read.map, *loop)) {
          graph.values.push_back(sliceOf(graph.values[read.value], *d, first, end - first));
          read.value = static_cast<ValueId>(graph.values.size() - 1);
        }
      };
      llvm::for_each(product.reads, slice);
      if (product.writes[0].initial)
        slice(*product.writes[0].initial);
      Value part = graph.values[value];
      part.shape[*columns] = end - first;
      product.writes[0].value = static_cast<ValueId>(graph.values.size());
      graph.values.push_back(std::move(part));
      for (ColumnRead &each : *reads)
        if (each.first >= first && each.end <= end) {
          each.read.value = product.writes[0].value;
          each.read.map[*columns].offset -= first;
          graph.kernels[each.kernel].reads[each.number] = each.read; // it comes later
        }
      countWork(graph, product);
      kernels.push_back(std::move(product));
    }
  }
  if (kernels.size() == graph.kernels.size())
    return;
  graph.kernels = std::move(kernels);
  graph::dropUnused(graph);
}

} // namespace quadrille::tsp
