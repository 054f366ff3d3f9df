// Gathers and scatters whose indices are known when the program is made: they say from where each element comes.
#include "base/Error.h"
#include "graph/KernelQueries.h"
#include "numerics/Convert.h"
#include "target/tsp/CompilerState.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Sequence.h"

namespace quadrille::tsp {

using graph::Kernel;
using graph::KernelGraph;

namespace {

// Index vectors in the last dimension of a tensor, as numbers in row-major order of the extents.
std::vector<int64_t> linearIndices(llvm::ArrayRef<int64_t> indices, llvm::ArrayRef<int64_t> extents) {
  std::vector<int64_t> linear;
  for (size_t i = 0; i + extents.size() <= indices.size(); i += extents.size()) {
    int64_t number = 0;
    for (auto [d, extent] : llvm::enumerate(extents)) {
      int64_t at = indices[i + d];
      number = number * extent + (at < 0 ? at + extent : at);
    }
    linear.push_back(number);
  }
  return linear;
}

// Where the element of an index tensor's place `i`, moved along the axis to `at`, lies in a tensor of another shape.
int64_t alongAxis(int64_t i, llvm::ArrayRef<int64_t> of, llvm::ArrayRef<int64_t> in, size_t axis, int64_t at) {
  int64_t index = 0;
  Shape strides = rowMajorStrides(of), to = rowMajorStrides(in);
  for (size_t d = 0; d < of.size(); ++d)
    index += (d == axis ? (at < 0 ? at + in[axis] : at) : i / strides[d] % of[d]) * to[d];
  return index;
}

// For each element of the result: from which read, and which of its elements.
std::vector<ElementOrigin> originsOf(const KernelGraph &graph, const Kernel &kernel) {
  const Shape &data = graph.values[kernel.reads[0].value].shape;
  const graph::Value &given = graph.values[kernel.reads[1].value];
  std::vector<int64_t> indices = valuesOf<int64_t>(given.data);
  int64_t axisAttribute = graph::integerAttribute(kernel, "axis").value_or(0);
  auto axis =
      static_cast<size_t>(axisAttribute < 0 ? axisAttribute + static_cast<int64_t>(data.size()) : axisAttribute);
  std::vector<ElementOrigin> origins(elementCount(graph.values[kernel.writes[0].value].shape));
  if (kernel.operation == "gather" || kernel.operation == "gather_nd") {
    size_t batch = axis, depth = 1;
    int64_t batches = 1; // of the index tensor
    if (kernel.operation == "gather_nd") {
      batch = static_cast<size_t>(graph::integerAttribute(kernel, "batch_dims").value_or(0));
      depth = static_cast<size_t>(given.shape.back());
      batches = elementCount(llvm::ArrayRef(data).take_front(batch));
    }
    llvm::ArrayRef<int64_t> extents = llvm::ArrayRef(data).slice(batch, depth);
    std::vector<int64_t> linear = linearIndices(indices, extents);
    int64_t slice = elementCount(llvm::ArrayRef(data).drop_front(batch + depth)), places = elementCount(extents);
    auto picks = static_cast<int64_t>(linear.size()) / batches;
    for (auto [i, origin] : llvm::enumerate(origins)) {
      int64_t element = static_cast<int64_t>(i), outer = element / slice / picks, pick = element / slice % picks;
      origin = {0, (outer * places + linear[batches > 1 ? outer * picks + pick : pick]) * slice + element % slice};
    }
    return origins;
  }
  if (kernel.operation == "gather_elements") {
    for (auto [i, origin] : llvm::enumerate(origins))
      origin = {0, alongAxis(static_cast<int64_t>(i), given.shape, data, axis, indices[i])};
    return origins;
  }
  // Scatters: the data, but where an update goes; the last one stays.
  for (auto [i, origin] : llvm::enumerate(origins))
    origin = {0, static_cast<int64_t>(i)};
  if (kernel.operation == "scatter_elements") {
    for (auto [i, at] : llvm::enumerate(indices))
      origins[alongAxis(static_cast<int64_t>(i), given.shape, data, axis, at)] = {1, static_cast<int64_t>(i)};
    return origins;
  }
  auto depth = static_cast<size_t>(given.shape.back());
  int64_t slice = elementCount(llvm::ArrayRef(data).drop_front(depth));
  for (auto [i, at] : llvm::enumerate(linearIndices(indices, llvm::ArrayRef(data).take_front(depth))))
    for (int64_t k = 0; k < slice; ++k)
      origins[at * slice + k] = {1, static_cast<int64_t>(i) * slice + k};
  return origins;
}

} // namespace

llvm::Error CompilerState::moveKnown(const Kernel &kernel) {
  graph::ValueId to = kernel.writes[0].value;
  const graph::Value &value = graph.values[to];
  int64_t rows = rowsOf(value.shape), columns = columnsOf(value.shape);
  std::vector<RegionPointer> sources;
  for (auto [i, read] : llvm::enumerate(kernel.reads)) {
    if (i == 1) // the indices
      continue;
    auto region = regionOf(read.value);
    if (!region)
      return region.takeError();
    sources.push_back(*region);
  }
  std::vector<ElementOrigin> origins = originsOf(graph, kernel);
  // Whole rows of one source are read where they lie.
  auto isRow = [&](int64_t row) {
    for (int64_t column = 0; column < columns; ++column) {
      ElementOrigin origin = origins[row * columns + column];
      if (origin.source != 0 || origin.index % columns != column ||
          origin.index / columns != origins[row * columns].index / columns)
        return false;
    }
    return true;
  };
  if (sources[0]->columns == columns && llvm::all_of(llvm::seq<int64_t>(0, rows), isRow)) {
    Operand operand{sources[0], {}};
    for (int64_t row = 0; row < rows; ++row)
      operand.rows.push_back(origins[row * columns].index / columns);
    BlockExpression body;
    body.inputs = {value.type};
    body.results = {body.append(BlockOpcode::Input, value.type, {}, 0)};
    auto copied = stream(body, {operand}, rows, columns);
    if (!copied)
      return copied.takeError();
    regions[to] = copied->front();
    return llvm::Error::success();
  }
  auto region = route(sources, Region::of(value.type, rows, columns, machine.vectorBytes()), 0,
                      [&](int64_t element) { return origins[element]; });
  if (!region)
    return region.takeError();
  regions[to] = *region;
  return llvm::Error::success();
}

} // namespace quadrille::tsp
