// Rows of a matrix picked by computed indices: each tile has some rows and columns, and gives zeros for rows of others.
#include "target/ipu/CompilerState.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>

namespace quadrille::ipu {

using graph::Combiner;
using graph::ValueId;

// How the work is shared: blocks of the table's rows and columns, and of the indices, of which each tile has one.
struct CompilerState::GatherPlan {
  int64_t rowBlock, rowParts, columnBlock, columnParts;
  int64_t indexBlock, indexParts;
  llvm::SmallVector<Split, 6> indices; // by dimension, the last one on tiles beside each other
  double cycles = 0;
  int64_t tableBytes = 0; // of a tile
};

std::optional<CompilerState::GatherPlan> CompilerState::planGather(const graph::Kernel &kernel, int64_t rowParts,
                                                                   int64_t columnBlock, int64_t indexParts) const {
  ValueId table = kernel.reads[0].value;
  const Shape &tableShape = graph.values[table].shape, &shape = graph.values[kernel.reads[1].value].shape;
  int64_t rows = tableShape[0], columns = tableShape[1], width = widthOf(table);
  GatherPlan plan;
  plan.rowBlock = ceilDivide(rows, rowParts);
  plan.rowParts = ceilDivide(rows, plan.rowBlock);
  plan.columnBlock = columnBlock;
  plan.columnParts = ceilDivide(columns, columnBlock);
  // The first dimensions are shared as far as they go; where rows have one column the last one in whole words.
  plan.indexBlock = plan.indexParts = 1;
  std::optional<unsigned> inWords;
  if (columns == 1)
    inWords = Order::rowMajor(shape.size()).fastest(shape);
  for (auto [d, extent] : llvm::enumerate(shape)) {
    int64_t block = ceilDivide(extent, std::clamp<int64_t>(indexParts / plan.indexParts, 1, extent));
    if (inWords == d)
      block = roundUp(block, quantumOf(table));
    plan.indices.push_back({ceilDivide(extent, block), block, 0});
    plan.indexParts *= plan.indices.back().parts;
    plan.indexBlock *= block;
  }
  if (plan.rowParts * plan.columnParts * plan.indexParts > machine.tiles)
    return std::nullopt;
  auto rate = static_cast<double>(machine.receiveBytesPerCycle);
  auto sync = static_cast<double>(machine.syncInternal);
  plan.tableBytes = plan.rowBlock * columnBlock * width;
  double received = static_cast<double>(plan.indexBlock) * static_cast<double>(byteWidth(ElementType::i32));
  if (!isConstant(table))
    received += static_cast<double>(plan.tableBytes);
  plan.cycles = received / rate + sync +
                static_cast<double>(cycles.multiSliceOfBytes(columnBlock * width, plan.indexBlock,
                                                             ceilDivide(plan.indexBlock, cycles.workers()), false));
  if (plan.rowParts > 1) { // all parts of the results of a tile, each a fragment, and their sum
    int64_t results = roundUp(ceilDivide(elementCount(shape) * columns, machine.tiles), quantumOf(table));
    plan.cycles += std::max(static_cast<double>(results * plan.rowParts * width) / rate,
                            static_cast<double>(plan.rowParts * machine.exchangeFragment)) +
                   sync +
                   static_cast<double>(
                       cycles.sumOfParts(graph.values[table].type, graph.values[table].type, results, plan.rowParts));
  }
  return plan;
}

CompilerState::GatherPlan CompilerState::planGather(const graph::Kernel &kernel) const {
  ValueId table = kernel.reads[0].value;
  const Shape &tableShape = graph.values[table].shape;
  int64_t rows = tableShape[0], columns = tableShape[1],
          count = elementCount(graph.values[kernel.reads[1].value].shape);
  int64_t words = columns > 1 ? quantumOf(table) : 1; // whole words of a row, unless a row is a column's element
  // Of a large table one copy, whose blocks are a little more than an even share; of others as many as may be.
  auto most = static_cast<int64_t>(static_cast<double>(machine.memoryBytes) * machine.planProportion *
                                   frugality.proportion * frugality.tables);
  int64_t share = ceilDivide(elementCount(tableShape) * widthOf(table), machine.tiles);
  int64_t mostTable = std::max(std::min(most, frugality.weightBytes), share + share / 8);
  std::vector<GatherPlan> fitting;
  std::optional<GatherPlan> smallest;
  for (int64_t columnParts : partsOf(ceilDivide(columns, words), machine.tiles)) {
    int64_t columnBlock = ceilDivide(ceilDivide(columns, words), columnParts) * words;
    for (int64_t indexParts : partsOf(count, machine.tiles / columnParts))
      for (int64_t rowParts : partsOf(rows, machine.tiles / columnParts / indexParts)) {
        std::optional<GatherPlan> plan = planGather(kernel, rowParts, columnBlock, indexParts);
        if (!plan)
          continue;
        if (!smallest || plan->tableBytes < smallest->tableBytes)
          smallest = plan;
        if (plan->tableBytes <= mostTable)
          fitting.push_back(*plan);
      }
  }
  if (fitting.empty())
    return *smallest;
  // Of those that take hardly longer than the fastest the one with the fewest copies of the table.
  constexpr double hardly = 1.05;
  auto least = llvm::min_element(fitting, [](const GatherPlan &a, const GatherPlan &b) { return a.cycles < b.cycles; });
  const GatherPlan *best = &*least;
  for (const GatherPlan &plan : fitting)
    if (plan.cycles <= least->cycles * hardly && plan.tableBytes < best->tableBytes)
      best = &plan;
  return *best;
}

void CompilerState::pickRows(const graph::Kernel &kernel) {
  ValueId table = kernel.reads[0].value, indices = kernel.reads[1].value, to = kernel.writes[0].value;
  GatherPlan plan = planGather(kernel);
  const Shape tableShape = graph.values[table].shape, shape = graph.values[indices].shape;
  int64_t width = widthOf(table);

  // Columns lie beside each other, then rows, then indices.
  std::vector<Wanted> tableWanted, indexWanted;
  std::vector<int64_t> firstRows;
  llvm::SmallVector<int64_t, 6> at(shape.size());
  int64_t tilesOfIndices = plan.rowParts * plan.columnParts, stride = tilesOfIndices;
  for (Split &split : llvm::reverse(plan.indices)) {
    split.tileStride = stride;
    stride *= split.parts;
  }
  for (int64_t part = 0; part < plan.indexParts; ++part) {
    Box box;
    for (const Split &split : plan.indices) {
      int64_t index = part * tilesOfIndices / split.tileStride % split.parts;
      box.push_back({index * split.block, (index + 1) * split.block});
    }
    for (int64_t r = 0; r < plan.rowParts; ++r)
      for (int64_t c = 0; c < plan.columnParts; ++c) {
        auto tile = firstTile() + static_cast<uint32_t>(indexWanted.size());
        tableWanted.push_back(
            {tile, {{r * plan.rowBlock, (r + 1) * plan.rowBlock}, {c * plan.columnBlock, (c + 1) * plan.columnBlock}}});
        indexWanted.push_back({tile, box});
        firstRows.push_back(r * plan.rowBlock);
      }
  }
  homeOf(indices);
  std::vector<Reading> readings;
  for (const Wanted &each : indexWanted)
    readings.push_back({each.tile, {{indices, each.box}}});
  uint32_t shift = shiftAwayFromParts(readings, false).tiles;
  for (auto *wanted : {&tableWanted, &indexWanted})
    for (Wanted &each : *wanted)
      each.tile += shift;

  ElementType type = graph.values[table].type;
  bool several = plan.rowParts > 1;
  Shape partialShape;
  if (several)
    partialShape.push_back(plan.rowParts);
  llvm::append_range(partialShape, shape);
  partialShape.push_back(tableShape[1]);
  ValueId partial = several ? temporary(type, partialShape, graph.values[to].name) : to;
  Layout layout = layoutFor(type, partialShape);
  layout.firstTile += shift;
  if (several)
    layout.splits.push_back({plan.rowParts, 1, plan.columnParts});
  llvm::append_range(layout.splits, plan.indices);
  layout.splits.push_back({plan.columnParts, plan.columnBlock, 1});
  layout.arrange();
  place(partial, layout);
  const BufferId out = homes[partial]->buffer;
  auto dense = [](llvm::ArrayRef<int64_t> extents) {
    std::vector<unsigned> order;
    for (unsigned d = 0; d < extents.size(); ++d)
      order.push_back(d);
    return Arrangement::make(extents, order, std::nullopt, 1, 1);
  };
  llvm::SmallVector<int64_t, 6> indexBlocks;
  for (const Split &split : plan.indices)
    indexBlocks.push_back(split.block);
  uint32_t last = layout.lastTile();
  BufferId tableBuffer = operandOf(table, tableWanted, dense({plan.rowBlock, plan.columnBlock}), last);
  BufferId indexBuffer = operandOf(indices, indexWanted, dense(indexBlocks), last);
  flush();
  VertexSet set(*this);
  for (auto [each, firstRow] : llvm::zip_equal(indexWanted, firstRows))
    set.add(Codelet::MultiSlice, each.tile,
            {{width},
             {plan.columnBlock},
             {plan.rowBlock},
             {firstRow},
             {plan.indexBlock},
             {addressIn(tableBuffer, 0)},
             {addressIn(indexBuffer, 0)},
             {addressIn(out, 0)}});
  set.execute("pick rows");
  if (!several)
    return;

  // All but one of the parts are zeros, which change nothing of the sum but the sign of a zero.
  Task task;
  graph::AccessMap read = {{0, {{0, 1}}}}, map;
  task.loops.push_back({plan.rowParts, true});
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
