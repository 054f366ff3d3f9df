// Rows of a matrix picked by computed indices: each tile has some rows and columns, and gives zeros for rows of others.
#include "target/ipu/CompilerState.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>

namespace quadrille::ipu {

using graph::Combiner;
using graph::ValueId;

void CompilerState::pickRows(const graph::Kernel &kernel) {
  ValueId table = kernel.reads[0].value, indices = kernel.reads[1].value, to = kernel.writes[0].value;
  const Shape tableShape = graph.values[table].shape, shape = graph.values[indices].shape;
  int64_t rows = tableShape[0], columns = tableShape[1], count = elementCount(shape), width = widthOf(table);
  // Few words of each row, so that many tiles share one; as many parts of the rows as there are tiles left.
  constexpr int64_t wordsOfRow = 8;
  int64_t columnBlock = std::max<int64_t>(1, wordsOfRow * machine.exchangeGranularity / width);
  columnBlock = std::max(std::min(columnBlock, columns), ceilDivide(columns, machine.tiles));
  if (columns > 1) // else whole words of a column
    columnBlock = roundUp(columnBlock, quantumOf(table));
  int64_t columnParts = ceilDivide(columns, columnBlock);
  int64_t rowParts = std::clamp<int64_t>(machine.tiles / columnParts, 1, rows);
  int64_t rowBlock = ceilDivide(rows, rowParts);
  rowParts = ceilDivide(rows, rowBlock);

  ElementType type = graph.values[table].type;
  Shape partialShape = {rowParts};
  llvm::append_range(partialShape, shape);
  partialShape.push_back(columns);
  ValueId partial = temporary(type, partialShape, graph.values[to].name);
  Layout layout = layoutFor(type, partialShape);
  layout.splits.push_back({rowParts, 1, columnParts});
  for (int64_t extent : shape)
    layout.splits.push_back({1, extent, 0});
  layout.splits.push_back({columnParts, columnBlock, 1});
  layout.arrange();
  place(partial, layout);
  const BufferId out = homes[partial]->buffer;

  std::vector<Wanted> tableWanted, indexWanted;
  Box all;
  for (int64_t extent : shape)
    all.push_back({0, extent});
  for (int64_t r = 0; r < rowParts; ++r)
    for (int64_t c = 0; c < columnParts; ++c) {
      uint32_t tile = firstTile() + static_cast<uint32_t>(r * columnParts + c);
      tableWanted.push_back({tile, {{r * rowBlock, (r + 1) * rowBlock}, {c * columnBlock, (c + 1) * columnBlock}}});
      indexWanted.push_back({tile, all});
    }
  auto dense = [](llvm::ArrayRef<int64_t> extents) {
    std::vector<unsigned> order;
    for (unsigned d = 0; d < extents.size(); ++d)
      order.push_back(d);
    return Arrangement::make(extents, order, std::nullopt, 1, 1);
  };
  uint32_t last = layout.lastTile();
  BufferId tableBuffer = operandOf(table, tableWanted, dense({rowBlock, columnBlock}), last);
  BufferId indexBuffer = operandOf(indices, indexWanted, dense(shape), last);
  flush();
  VertexSet set(*this);
  for (int64_t r = 0; r < rowParts; ++r)
    for (int64_t c = 0; c < columnParts; ++c)
      set.add(Codelet::MultiSlice, firstTile() + static_cast<uint32_t>(r * columnParts + c),
              {{width},
               {columnBlock},
               {rowBlock},
               {r * rowBlock},
               {count},
               {addressIn(tableBuffer, 0)},
               {addressIn(indexBuffer, 0)},
               {addressIn(out, 0)}});
  set.execute("pick rows");

  // All but one of the parts are zeros, which change nothing of the sum but the sign of a zero.
  Task task;
  graph::AccessMap read = {{0, {{0, 1}}}}, map;
  task.loops.push_back({rowParts, true});
  for (size_t d = 1; d < partialShape.size(); ++d) {
    auto loop = static_cast<unsigned>(task.loops.size());
    task.loops.push_back({partialShape[d], false});
    read.push_back({0, {{loop, 1}}});
    map.push_back({0, {{loop, 1}}});
  }
  task.reads.push_back({partial, read, std::nullopt});
  graph::Write write;
  write.value = to;
  write.map = map;
  write.combiner = type == ElementType::boolean ? Combiner::Or : Combiner::Sum;
  task.writes.push_back(std::move(write));
  task.body.inputs = {type};
  task.body.results = {task.body.append(BlockOpcode::Input, type)};
  task.accumulate = isFloat(type) ? ElementType::f32 : type;
  this->task(std::move(task));
}

} // namespace quadrille::ipu
