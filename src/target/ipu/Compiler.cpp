#include "target/ipu/Compiler.h"

#include "graph/KernelQueries.h"
#include "target/ipu/CompilerState.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::ipu {

using graph::Kernel;
using graph::KernelGraph;
using graph::ValueId;

std::string whyNot(const KernelGraph &graph, const Kernel &kernel) {
  if (!kernel.structured())
    return graph::isReshape(kernel) || kernel.operation == "concat" || kernel.operation == "insert_slice" ||
                   isRowPick(graph, kernel) || kernel.operation.starts_with("loop_")
               ? ""
               : "the compiler has no program for it";
  for (const graph::Write &write : kernel.writes)
    for (const graph::DimensionAccess &access : write.map)
      if (access.offset != 0)
        return "it writes at an offset";
  return "";
}

CompilerState::CompilerState(const KernelGraph &graph, const Architecture &machine, const CycleModel &cycles,
                             const Precision &precision, program::Program program, llvm::ArrayRef<uint16_t> ipuOf,
                             const Frugality &frugality)
    : graph(graph), ipuOf(ipuOf), frugality(frugality), machine(machine), cycles(cycles), precision(precision),
      program(std::move(program)), homes(graph.values.size()), fills(*this), copies(*this), rearrangements(*this) {
  for (const Kernel &kernel : graph.kernels)
    if (auto sum = graph::integerAttribute(kernel, largestSumName))
      largestSums[kernel.writes[0].value] = *sum;
}

Compiled CompilerState::run(bool measures) {
  for (size_t number = 0; number < graph.kernels.size();)
    number = compile(number);
  return finish(measures);
}

void CompilerState::setCurrent(size_t kernel) {
  current = kernel;
  const std::vector<uint32_t> &nodes = graph.kernels[kernel].nodes;
  node = nodes.empty() ? noNode : nodes.front();
}

size_t CompilerState::compile(size_t number) {
  const Kernel kernel = graph.kernels[number];
  setCurrent(number);
  if (ipuOf[number] != ipu)
    enter(number);
  if (kernel.operation == "loop_begin")
    return loop(number);
  if (graph::isReshape(kernel))
    reshape(kernel);
  else if (kernel.operation == "concat" && !kernel.structured())
    concat(kernel);
  else if (isRowPick(graph, kernel))
    pickRows(kernel);
  else if (!kernel.structured())
    insertSlice(kernel);
  else if (isMatrixProduct(graph, kernel))
    product(kernel);
  else
    task({kernel.loops, kernel.reads, kernel.writes, kernel.body, kernel.numeric.accumulate, std::nullopt});
  return number + 1;
}

void CompilerState::enter(size_t kernel) {
  ipu = ipuOf[kernel];
  std::set<ValueId> wanted;
  for (size_t number = kernel; number < graph.kernels.size() && ipuOf[number] == ipu; ++number)
    for (ValueId id : graph::operandsOf(graph.kernels[number]))
      if (homes[id] && graph.values[id].role != graph::ValueRole::Constant)
        wanted.insert(id);
  std::map<BufferId, BufferId> moved; // values under other shapes share theirs
  for (ValueId id : wanted) {
    Home &home = *homes[id];
    Layout there = home.layout;
    there.firstTile = firstTile() + home.layout.firstTile % static_cast<uint32_t>(machine.tiles);
    auto [known, fresh] = moved.try_emplace(home.buffer, 0);
    if (fresh) {
      known->second = buffer(buffers[home.buffer].bytes, there.firstTile, there.lastTile(), nameOf(id));
      // As they lie, in whole words: rows have places for them.
      there.forEachPart([&](uint32_t tile, const Box &box) {
        uint32_t from = tile - there.firstTile + home.layout.firstTile;
        for (Walk &walk : walksOf(box, home.layout.arrangement, box, there.arrangement, box)) {
          walk.run = roundUp(walk.run, there.quantum());
          addSending(from, TileRange{tile}, home.buffer, known->second, there.width(), walk);
        }
      });
    }
    if (graph.values[id].role == graph::ValueRole::Input)
      firstHomes.try_emplace(id, home);
    home = Home{there, known->second};
  }
  flush();
}

BufferId CompilerState::buffer(int64_t bytes, uint32_t firstTile, uint32_t lastTile, std::string name) {
  Buffer made;
  made.bytes = roundUp(std::max<int64_t>(bytes, 1), machine.arrayAlignment());
  made.firstTile = firstTile;
  made.lastTile = lastTile;
  made.kernel = current;
  made.name = std::move(name);
  buffers.push_back(std::move(made));
  return static_cast<BufferId>(buffers.size() - 1);
}

ValueId CompilerState::temporary(ElementType type, Shape shape, std::string name) {
  graph::Value value;
  value.name = std::move(name);
  value.type = type;
  value.shape = std::move(shape);
  graph.values.push_back(std::move(value));
  homes.emplace_back();
  return static_cast<ValueId>(graph.values.size() - 1);
}

uint32_t CompilerState::expression(const BlockExpression &body) {
  std::string text = body.print();
  for (ElementType type : body.inputs)
    text += quadrille::nameOf(type).str() + " ";
  auto [known, fresh] = expressions.try_emplace(text, static_cast<uint32_t>(code.expressions.size()));
  if (fresh)
    code.expressions.push_back(body);
  return known->second;
}

std::string CompilerState::nameOf(ValueId value) const {
  return graph.values[value].name.empty() ? "value " + std::to_string(value) : graph.values[value].name;
}

void CompilerState::use(BufferId id) {
  Buffer &buffer = buffers[id];
  auto step = static_cast<int64_t>(steps.size());
  buffer.from = buffer.from < 0 ? step : std::min(buffer.from, step);
  buffer.to = std::max(buffer.to, step);
}

void CompilerState::addStep(StepKind kind, uint32_t index) {
  kernelOf.push_back(current);
  steps.push_back({kind, index, node});
}

void CompilerState::execute(ComputeSet set) {
  forEachBuffer(set, [&](BufferId id) { use(id); });
  addStep(StepKind::Execute, static_cast<uint32_t>(code.computeSets.size()));
  code.computeSets.push_back(std::move(set));
}

void CompilerState::exchange(std::vector<Sending> sent) {
  for (const Sending &each : sent) {
    use(each.from);
    use(each.to);
  }
  addStep(StepKind::Exchange, static_cast<uint32_t>(sendings.size()));
  // Its transfers come when buffers have addresses.
  code.exchanges.emplace_back().name = node == noNode ? graph.kernels[current].operation : graph.nodes[node].name;
  sendings.push_back(std::move(sent));
}

std::vector<TileRange> rangesOf(llvm::ArrayRef<uint32_t> tiles) {
  std::vector<TileRange> ranges;
  for (size_t i = 0; i < tiles.size();) {
    TileRange range{tiles[i], 1, 1};
    if (i + 1 < tiles.size()) {
      range.step = tiles[i + 1] - tiles[i];
      while (i + range.count < tiles.size() && tiles[i + range.count] == range.tile(range.count))
        ++range.count;
      // Two that are far from each other may each begin a longer range.
      if (range.count == 2 && range.step > 1)
        range.count = 1;
      if (range.count == 1)
        range.step = 1;
    }
    i += range.count;
    ranges.push_back(range);
  }
  return ranges;
}

void VertexSet::add(Codelet codelet, uint32_t tile, std::vector<std::vector<int64_t>> values) {
  vertices[{static_cast<uint16_t>(codelet), std::move(values)}].push_back(tile);
}

FillForm CompilerState::fillOf(int64_t bytes, uint64_t value, int64_t offset, int64_t count) const {
  // Whole words of 64 bits, which the vertex stores with less to begin with than others.
  constexpr int64_t word = sizeof(uint64_t);
  FillForm narrow{bytes, static_cast<int64_t>(value), count};
  if (bytes >= word || machine.arrayAlignment() % word != 0 || offset % word != 0 || bytes * count % word != 0)
    return narrow;
  uint64_t mask = (uint64_t(1) << (8 * bytes)) - 1, repeated = 0;
  for (int64_t at = 0; at < word; at += bytes)
    repeated |= (value & mask) << (8 * at);
  FillForm wide{word, static_cast<int64_t>(repeated), bytes * count / word};
  return cycles.fill(wide.bytes, wide.count) < cycles.fill(bytes, count) ? wide : narrow;
}

void VertexSet::fill(uint32_t tile, BufferId buffer, int64_t offset, int64_t bytes, uint64_t value, int64_t count) {
  FillForm form = state.fillOf(bytes, value, offset, count);
  // One vertex for each worker, unless that makes them short: each has its state in the tile's memory.
  constexpr int64_t shortestBytes = 64, shortestIfFrugal = 512;
  int64_t shortest = state.frugality.movesAway ? shortestBytes : shortestIfFrugal;
  int64_t parts = std::clamp<int64_t>(form.count * form.bytes / shortest, 1, state.machine.workers);
  int64_t each = ceilDivide(form.count, parts);
  if (form.bytes < state.machine.arrayAlignment())
    each = roundUp(each, state.machine.arrayAlignment());
  for (int64_t at = 0; at < form.count; at += each)
    add(Codelet::Fill, tile,
        {{form.bytes}, {form.value}, {std::min(each, form.count - at)}, {addressIn(buffer, offset + at * form.bytes)}});
}

void VertexSet::copy(uint32_t tile, int64_t width, BufferId from, int64_t fromOffset, BufferId to, int64_t toOffset,
                     const Walk &walk) {
  std::vector<int64_t> extents, in, out;
  for (const Walk::Loop &loop : walk.loops) {
    extents.push_back(loop.extent);
    in.push_back(loop.from * width);
    out.push_back(loop.to * width);
  }
  extents.push_back(walk.run);
  in.push_back(width);
  out.push_back(width);
  add(Codelet::Copy, tile, {{width}, extents, {addressIn(from, fromOffset)}, in, {addressIn(to, toOffset)}, out});
}

void VertexSet::execute(const std::string &name) {
  if (!vertices.empty())
    state.execute(take(name));
}

ComputeSet VertexSet::take(const std::string &name) {
  ComputeSet set;
  set.name = name;
  for (auto &[key, tiles] : vertices) {
    llvm::sort(tiles);
    set.vertices.push_back({key.first, rangesOf(tiles), key.second});
  }
  vertices.clear();
  return set;
}

} // namespace quadrille::ipu
