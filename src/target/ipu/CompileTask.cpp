// Structured kernels that are no matrix products: elementwise vertices, and reductions.
#include "target/ipu/CompilerState.h"
#include "target/ipu/FloatIntegers.h"
#include "target/ipu/VertexCycles.h"

#include "graph/CombineOf.h"
#include "graph/Contraction.h"
#include "graph/KernelQueries.h"
#include "numerics/BlockEvaluator.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <cmath>

namespace quadrille::ipu {

using graph::AccessMap;
using graph::Combiner;
using graph::Read;
using graph::ValueId;
using graph::Write;

namespace {

// A loop of a vertex: some points of a loop of the task, at a distance of `step` points of it.
struct LoopDigit {
  unsigned loop;
  int64_t extent, step;
  int64_t group; // of 1: `step` is the distance in all arrays; else that of groups, or of points within one
};
// A rectangular piece of a tile's loops, whose points every array goes through at even distances.
struct Piece {
  llvm::SmallVector<int64_t, 6> begin; // by loop
  llvm::SmallVector<LoopDigit, 6> digits;
};

// The groups of a loop's points, from the arrays that hold them in groups.
llvm::SmallVector<Piece, 2> piecesOf(const LoopBox &box, llvm::ArrayRef<int64_t> groups) {
  llvm::SmallVector<Piece, 2> pieces(1);
  for (auto [l, range, group] : llvm::enumerate(box, groups)) {
    llvm::SmallVector<Piece, 2> next;
    auto loop = static_cast<unsigned>(l);
    for (const Piece &piece : pieces)
      for (int64_t at = range.begin; at < range.end;) {
        Piece longer = piece;
        longer.begin.push_back(at);
        int64_t within = at % group;
        if (group == 1) {
          longer.digits.push_back({loop, range.end - at, 1, 1});
          at = range.end;
        } else if (within == 0 && range.end - at >= group) {
          int64_t count = (range.end - at) / group;
          longer.digits.push_back({loop, count, group, group});
          longer.digits.push_back({loop, group, 1, group});
          at += count * group;
        } else {
          int64_t count = std::min(group - within, range.end - at);
          longer.digits.push_back({loop, count, 1, group});
          at += count;
        }
        next.push_back(std::move(longer));
      }
    pieces = std::move(next);
  }
  for (Piece &piece : pieces)
    llvm::erase_if(piece.digits, [](const LoopDigit &digit) { return digit.extent == 1; });
  return pieces;
}

int64_t strideOf(const Held &held, const AccessMap &map, const LoopDigit &digit) {
  int64_t stride = 0;
  for (auto [access, dimension] : llvm::zip_equal(map, held.arrangement->dimensions)) {
    int64_t coefficient = graph::coefficientOf(access, digit.loop);
    if (coefficient == 0)
      continue;
    stride += dimension.group > 1 && digit.step > 1 ? dimension.outer : coefficient * digit.step * dimension.inner;
  }
  return stride;
}

int64_t offsetOf(const Held &held, const AccessMap &map, const Piece &piece) {
  int64_t offset = 0;
  for (auto [d, access] : llvm::enumerate(map)) {
    int64_t index = access.offset;
    for (auto [loop, coefficient] : access.terms)
      index += coefficient * piece.begin[loop];
    offset += held.arrangement->offsetOf(d, index - held.box[d].begin);
  }
  return offset;
}

std::vector<int64_t> extentsOf(llvm::ArrayRef<LoopDigit> digits) {
  std::vector<int64_t> extents;
  for (const LoopDigit &digit : digits)
    extents.push_back(digit.extent);
  return extents;
}

int64_t pointsOf(llvm::ArrayRef<LoopDigit> digits) {
  int64_t points = 1;
  for (const LoopDigit &digit : digits)
    points *= digit.extent;
  return points;
}

// Appends where the piece begins in what is held, and the strides of its digits, `unit` to an element.
void addArray(const Held &held, const AccessMap &map, int64_t width, const Piece &piece,
              llvm::ArrayRef<LoopDigit> digits, std::vector<int64_t> &addresses, std::vector<int64_t> &strides,
              int64_t unit = 1) {
  addresses.push_back(addressIn(held.buffer, offsetOf(held, map, piece) * width));
  for (const LoopDigit &digit : digits)
    strides.push_back(strideOf(held, map, digit) * unit);
}

// Raises the groups of the loops that index grouped dimensions; false where that cannot be had.
bool addGroups(const Order &order, const AccessMap &map, llvm::MutableArrayRef<int64_t> groups) {
  if (!order.grouped)
    return true;
  const graph::DimensionAccess &access = map[*order.grouped];
  if (access.terms.empty())
    return true;
  if (access.terms.size() != 1 || access.terms[0].second != 1 || access.offset % order.group != 0)
    return false;
  int64_t &group = groups[access.terms[0].first];
  if (group != 1 && group != order.group)
    return false;
  group = order.group;
  return true;
}

// What is read twice alike, as fused kernels do, is brought and loaded once.
void mergeReads(Task &task) {
  std::vector<Read> distinct;
  std::vector<size_t> numberOf; // by read: among them
  for (const Read &read : task.reads) {
    numberOf.push_back(static_cast<size_t>(llvm::find(distinct, read) - distinct.begin()));
    if (numberOf.back() == distinct.size())
      distinct.push_back(read);
  }
  if (distinct.size() == task.reads.size())
    return;
  BlockExpression merged;
  std::vector<Register> registers, given;
  for (size_t number = 0; number < distinct.size(); ++number) {
    ElementType type = task.body.inputs[static_cast<size_t>(llvm::find(numberOf, number) - numberOf.begin())];
    merged.inputs.push_back(type);
    registers.push_back(merged.append(BlockOpcode::Input, type, {}, number));
  }
  for (size_t number : numberOf)
    given.push_back(registers[number]);
  merged.results = merged.append(task.body, given);
  task.body = std::move(merged);
  task.reads = std::move(distinct);
}

} // namespace

std::optional<std::pair<Task, Task>> CompilerState::splitReduction(const Task &task) {
  constexpr int64_t fewestPoints = 64; // for which a tile is worth its part of an exchange
  if (task.chunk || task.writes.size() != 1)
    return std::nullopt;
  int64_t outputs = 1, reduced = 1;
  std::optional<unsigned> longest;
  for (auto [l, loop] : llvm::enumerate(task.loops)) {
    (loop.reduction ? reduced : outputs) *= loop.extent;
    if (loop.reduction && (!longest || loop.extent > task.loops[*longest].extent))
      longest = static_cast<unsigned>(l);
  }
  if (!longest)
    return std::nullopt;
  int64_t extent = task.loops[*longest].extent;
  int64_t parts = std::min({machine.tiles / std::max<int64_t>(1, outputs), extent, reduced / fewestPoints});
  if (parts < 2)
    return std::nullopt;
  int64_t block = ceilDivide(extent, parts);
  // As the largest operand is shared along the loop, if it is.
  for (const Read &read : task.reads)
    if (const auto &home = homes[read.value])
      for (auto [access, split] : llvm::zip_equal(read.map, home->layout.splits))
        if (split.parts > 1 && access.offset == 0 && access.terms.size() == 1 &&
            access.terms[0] == std::pair<unsigned, int64_t>(*longest, 1))
          block = split.block;
  parts = ceilDivide(extent, block);
  if (parts < 2)
    return std::nullopt;

  const Write &write = task.writes[0];
  const graph::Value result = graph.values[write.value];
  Shape shape = {parts};
  llvm::append_range(shape, result.shape);
  ElementType type = result.type;
  if (isFloat(type))
    type = ElementType::f32;
  else if (byteWidth(type) < byteWidth(ElementType::i32))
    return std::nullopt; // parts of one element are no words
  graph::ValueId partial = temporary(type, shape, result.name);
  Task first = task;
  auto counter = static_cast<unsigned>(first.loops.size());
  first.loops.push_back({parts, false});
  first.chunk = Task::Chunk{*longest, counter, block};
  first.writes[0].value = partial;
  first.writes[0].map.insert(first.writes[0].map.begin(), {0, {{counter, 1}}});
  first.writes[0].initial.reset();
  first.writes[0].initialScalar.reset();

  Task second;
  second.accumulate = task.accumulate;
  AccessMap read = {{0, {{0, 1}}}}, map;
  second.loops.push_back({parts, true});
  for (int64_t each : result.shape) {
    auto loop = static_cast<unsigned>(second.loops.size());
    second.loops.push_back({each, false});
    read.push_back({0, {{loop, 1}}});
    map.push_back({0, {{loop, 1}}});
  }
  second.reads.push_back({partial, read, std::nullopt});
  second.writes.push_back(write);
  if (second.writes[0].initial) {
    // In terms of the loops of the second task.
    std::map<unsigned, unsigned> renamed;
    for (auto [d, access] : llvm::enumerate(write.map))
      if (!access.terms.empty())
        renamed[access.terms[0].first] = static_cast<unsigned>(d) + 1;
    for (graph::DimensionAccess &access : second.writes[0].initial->map)
      for (auto &[loop, coefficient] : access.terms)
        loop = renamed.at(loop);
  }
  second.writes[0].map = map;
  second.body.inputs = {type};
  second.body.results = {second.body.append(BlockOpcode::Input, type)};
  return std::pair(std::move(first), std::move(second));
}

void CompilerState::useFloatIntegers(Task &task) const {
  if (llvm::none_of(task.body.instructions, [](const BlockInstruction &each) { return isInteger(each.type); }))
    return;
  std::vector<std::optional<Range>> ranges;
  for (const Read &read : task.reads) {
    ranges.emplace_back();
    if (auto sum = largestSums.find(read.value); sum != largestSums.end())
      ranges.back() = Range{-static_cast<double>(sum->second), static_cast<double>(sum->second), true};
    constexpr int64_t mostElements = 1 << 16; // that are looked at
    const graph::Value &value = graph.values[read.value];
    if (!isConstant(read.value) || !value.data.valid() || read.padding || value.data.elements() == 0 ||
        value.data.elements() > mostElements)
      continue;
    std::vector<double> values = valuesOf<double>(value.data);
    auto [low, high] = std::minmax_element(values.begin(), values.end());
    if (llvm::all_of(values, [](double each) { return std::isfinite(each); }))
      ranges.back() = Range{*low, *high, llvm::all_of(values, [](double each) { return each == std::rint(each); })};
  }
  BlockExpression floats = integersInF32(task.body, ranges);
  constexpr int64_t elements = 384; // 64 of each worker, say
  if (cyclesOfMap(floats, elements, false, cycles) < cyclesOfMap(task.body, elements, false, cycles))
    task.body = std::move(floats);
}

void CompilerState::task(Task task) {
  mergeReads(task);
  useFloatIntegers(task);
  if (!graph::hasReduction(task.loops))
    return mapTask(task, share(task));
  if (auto split = splitReduction(task)) {
    reduceTask(split->first, share(split->first));
    return reduceTask(split->second, share(split->second));
  }
  reduceTask(task, share(task));
}

// The tiles, their loops, and what they find of each operand and result.
struct CompilerState::Prepared {
  std::vector<uint32_t> tiles;
  std::vector<LoopBox> boxes;
  llvm::SmallVector<int64_t, 6> groups; // by loop
  std::vector<Operand> reads, writes;
  std::vector<const Read *> initials; // by write, null without
  std::vector<Operand> initialOperands;
};

CompilerState::Prepared CompilerState::prepare(const Task &task, const Sharing &sharing) {
  Prepared prepared;
  prepared.groups.assign(task.loops.size(), 1);
  forEachTileOf(task, sharing, [&](uint32_t tile, const LoopBox &box) {
    prepared.tiles.push_back(tile);
    prepared.boxes.push_back(box);
  });
  std::vector<Layout> layouts;
  for (const Write &write : task.writes) {
    layouts.push_back(layoutOf(task, write, sharing));
    if (!addGroups(layouts.back().order, write.map, prepared.groups)) {
      layouts.back().order = Order::rowMajor(layouts.back().shape.size());
      layouts.back().arrange();
    }
  }
  auto bringAll = [&](const Read &read) {
    std::vector<Wanted> wanted;
    for (auto [tile, box] : llvm::zip_equal(prepared.tiles, prepared.boxes))
      wanted.push_back({tile, boxOf(read.map, box)});
    bool plain = false;
    if (graph.values[read.value].role != graph::ValueRole::Constant) {
      llvm::SmallVector<int64_t, 6> groups = prepared.groups;
      plain = !addGroups(homeOf(read.value).layout.order, read.map, groups);
      if (!plain)
        prepared.groups = groups;
    }
    return bring(read.value, wanted, read.padding, plain);
  };
  for (const Read &read : task.reads)
    prepared.reads.push_back(bringAll(read));
  for (const Write &write : task.writes) {
    prepared.initials.push_back(write.initial ? &*write.initial : nullptr);
    prepared.initialOperands.push_back(write.initial ? bringAll(*write.initial) : Operand());
  }
  flush();
  for (auto [write, layout] : llvm::zip_equal(task.writes, layouts)) {
    place(write.value, layout);
    const Home &home = *homes[write.value];
    const Arrangement &arrangement = arrangements.emplace_back(home.layout.arrangement);
    Operand operand;
    for (auto [tile, box] : llvm::zip_equal(prepared.tiles, prepared.boxes))
      operand.push_back({home.buffer, &arrangement, boxOf(write.map, box)});
    prepared.writes.push_back(std::move(operand));
  }
  return prepared;
}

void CompilerState::mapTask(const Task &task, const Sharing &sharing) {
  Prepared prepared = prepare(task, sharing);
  bool copies = task.body.isIdentity() && task.reads.size() == 1 && task.writes.size() == 1;
  uint32_t body = copies ? 0 : expression(task.body);
  VertexSet set(*this);
  for (size_t i = 0; i < prepared.tiles.size(); ++i)
    for (Piece &piece : piecesOf(prepared.boxes[i], prepared.groups)) {
      llvm::stable_sort(piece.digits, [&](const LoopDigit &a, const LoopDigit &b) {
        return strideOf(prepared.writes[0][i], task.writes[0].map, a) >
               strideOf(prepared.writes[0][i], task.writes[0].map, b);
      });
      std::vector<int64_t> extents = extentsOf(piece.digits), in, inStrides, out, outStrides;
      auto add = [&](const Held &held, const AccessMap &map, ValueId value, std::vector<int64_t> &addresses,
                     std::vector<int64_t> &strides) {
        addArray(held, map, widthOf(value), piece, piece.digits, addresses, strides, copies ? widthOf(value) : 1);
      };
      for (auto [r, read] : llvm::enumerate(task.reads))
        add(prepared.reads[r][i], read.map, read.value, in, inStrides);
      for (auto [w, write] : llvm::enumerate(task.writes))
        add(prepared.writes[w][i], write.map, write.value, out, outStrides);
      if (copies)
        set.add(Codelet::Copy, prepared.tiles[i],
                {{widthOf(task.writes[0].value)}, extents, in, inStrides, out, outStrides});
      else
        set.add(Codelet::Map, prepared.tiles[i], {{body}, extents, in, inStrides, out, outStrides});
    }
  set.execute(copies ? "copy" : "map");
}

namespace {

// Pieces of a tile's loops one after the other, so that none has more points than `most`: along parallel loops first.
void cut(const LoopBox &box, llvm::ArrayRef<graph::Loop> loops, int64_t most, std::vector<LoopBox> &pieces) {
  if (pointsOf(box) <= most) {
    pieces.push_back(box);
    return;
  }
  std::optional<size_t> along;
  for (bool reduction : {false, true})
    for (size_t l = 0; l < loops.size() && (!along || loops[*along].reduction == reduction); ++l)
      if (loops[l].reduction == reduction && box[l].count() > 1 && (!along || box[l].count() > box[*along].count()))
        along = l;
  if (!along) {
    pieces.push_back(box);
    return;
  }
  LoopBox first = box, second = box;
  first[*along].end = second[*along].begin = box[*along].begin + (box[*along].count() + 1) / 2;
  cut(first, loops, most, pieces);
  cut(second, loops, most, pieces);
}

} // namespace

std::vector<bool> CompilerState::startReduction(const Task &task, const Prepared &prepared) {
  VertexSet starts(*this);
  std::vector<bool> started;
  for (auto [w, write] : llvm::enumerate(task.writes)) {
    ElementType type = graph.values[write.value].type;
    bool neutral =
        !write.initial &&
        (!write.initialScalar || (write.combiner == Combiner::Sum && graph::startsFromZero(write)) ||
         write.initialScalar->bits == neutralBits(graph::combineOf(write.combiner), write.initialScalar->type));
    started.push_back(!neutral);
    if (neutral)
      continue;
    if (!write.initial) {
      uint64_t bits = write.initialScalar->bits;
      if (write.initialScalar->type != type)
        bits = bitsFromDouble(type, doubleFromBits(write.initialScalar->type, bits));
      const Home &home = *homes[write.value];
      for (uint32_t tile : prepared.tiles)
        starts.fill(tile, home.buffer, 0, widthOf(write.value), bits, home.layout.arrangement.elements);
      continue;
    }
    ElementType from = graph.values[write.initial->value].type;
    BlockExpression convert;
    convert.inputs = {from};
    convert.results = {convert.append(BlockOpcode::Input, from)};
    if (from != type)
      convert.results = {convert.append(BlockOpcode::Convert, type, {convert.results[0]})};
    uint32_t number = expression(convert);
    for (size_t i = 0; i < prepared.tiles.size(); ++i) {
      LoopBox box = prepared.boxes[i];
      for (auto [range, loop] : llvm::zip_equal(box, task.loops))
        if (loop.reduction)
          range.end = range.begin + 1;
      for (const Piece &piece : piecesOf(box, prepared.groups)) {
        std::vector<int64_t> in, inStrides, out, outStrides;
        addArray(prepared.initialOperands[w][i], write.initial->map, widthOf(write.initial->value), piece, piece.digits,
                 in, inStrides);
        addArray(prepared.writes[w][i], write.map, widthOf(write.value), piece, piece.digits, out, outStrides);
        starts.add(Codelet::Map, prepared.tiles[i],
                   {{number}, extentsOf(piece.digits), in, inStrides, out, outStrides});
      }
    }
  }
  starts.execute("start");
  return started;
}

void CompilerState::reduceTask(const Task &task, const Sharing &sharing) {
  Prepared prepared = prepare(task, sharing);
  bool direct = task.body.isIdentity() && task.reads.size() == 1 && task.writes.size() == 1;
  uint32_t body = direct ? 0 : expression(task.body);
  std::vector<bool> started = startReduction(task, prepared);

  // Where elements are computed before they are combined, as many at a time as there is room for.
  constexpr int64_t shareOfMemory = 16;
  int64_t width = 1;
  std::vector<ElementType> types;
  for (Register result : task.body.results) {
    types.push_back(task.body.instructions[result].type);
    width = std::max(width, static_cast<int64_t>(byteWidth(types.back())));
  }
  int64_t most = direct ? std::numeric_limits<int64_t>::max() : machine.memoryBytes / shareOfMemory / width;
  // What each tile does in each round; later rounds combine into what earlier ones have made.
  struct Work {
    Piece piece;
    bool again;
  };
  std::vector<std::vector<Work>> works(prepared.tiles.size());
  size_t rounds = 0;
  int64_t points = 1;
  for (auto [whole, work] : llvm::zip_equal(prepared.boxes, works)) {
    std::vector<LoopBox> boxes;
    cut(whole, task.loops, most, boxes);
    for (const LoopBox &box : boxes) {
      points = std::max(points, pointsOf(box));
      for (Piece &piece : piecesOf(box, prepared.groups)) {
        bool again = false;
        for (auto [begin, range, loop] : llvm::zip_equal(piece.begin, whole, task.loops))
          again |= loop.reduction && begin > range.begin;
        work.push_back({std::move(piece), again});
      }
    }
    rounds = std::max(rounds, work.size());
  }
  std::vector<BufferId> temporaries;
  if (!direct)
    for (ElementType type : types)
      temporaries.push_back(buffer(roundUp(points * static_cast<int64_t>(byteWidth(type)), machine.exchangeGranularity),
                                   prepared.tiles.front(), sharing.lastTile(), "elements of a reduction"));

  for (size_t round = 0; round < rounds; ++round) {
    VertexSet maps(*this), reductions(*this);
    for (size_t i = 0; i < prepared.tiles.size(); ++i) {
      if (round >= works[i].size())
        continue;
      const auto &[piece, again] = works[i][round];
      llvm::SmallVector<LoopDigit, 6> parallel, reduced;
      for (const LoopDigit &digit : piece.digits)
        (task.loops[digit.loop].reduction ? reduced : parallel).push_back(digit);
      llvm::stable_sort(parallel, [&](const LoopDigit &a, const LoopDigit &b) {
        return strideOf(prepared.writes[0][i], task.writes[0].map, a) >
               strideOf(prepared.writes[0][i], task.writes[0].map, b);
      });
      if (direct)
        llvm::stable_sort(reduced, [&](const LoopDigit &a, const LoopDigit &b) {
          return std::abs(strideOf(prepared.reads[0][i], task.reads[0].map, a)) >
                 std::abs(strideOf(prepared.reads[0][i], task.reads[0].map, b));
        });
      llvm::SmallVector<LoopDigit, 6> all(parallel);
      all.append(reduced);
      std::vector<int64_t> dense; // strides of `all` in the temporaries
      if (!direct) {
        int64_t outputs = ceilDivide(pointsOf(parallel), machine.workers), partials = pointsOf(reduced);
        int64_t apart = 0, together = 0;
        for (auto [type, write] : llvm::zip_equal(types, task.writes)) {
          apart += cycles.reduceStrided(type, graph.values[write.value].type, outputs, partials, 1);
          together += cycles.reduceContiguous(type, outputs, partials);
        }
        // What is combined lies apart, results beside each other, or the other way round, whichever is faster.
        llvm::SmallVector<LoopDigit, 6> order(apart < together ? reduced : parallel);
        order.append(apart < together ? parallel : reduced);
        dense = rowMajorStrides(extentsOf(order));
        std::vector<int64_t> in, inStrides, out, outStrides;
        for (auto [r, read] : llvm::enumerate(task.reads))
          addArray(prepared.reads[r][i], read.map, widthOf(read.value), piece, order, in, inStrides);
        for (size_t w = 0; w < types.size(); ++w) {
          out.push_back(addressIn(temporaries[w], 0));
          llvm::append_range(outStrides, dense);
        }
        maps.add(Codelet::Map, prepared.tiles[i], {{body}, extentsOf(order), in, inStrides, out, outStrides});
        if (apart < together)
          std::rotate(dense.begin(), dense.begin() + static_cast<ptrdiff_t>(reduced.size()), dense.end());
      }
      for (auto [w, write] : llvm::enumerate(task.writes)) {
        ElementType type = types[w];
        ElementType accumulate =
            isFloat(type) && byteWidth(type) < byteWidth(ElementType::f32) ? ElementType::f32 : type;
        std::vector<int64_t> in, inStrides, out, outStrides, reducedExtents = extentsOf(reduced);
        if (direct) {
          addArray(prepared.reads[0][i], task.reads[0].map, widthOf(task.reads[0].value), piece, all, in, inStrides);
          buffers[prepared.reads[0][i].buffer].interleaved = true;
        } else {
          in.push_back(addressIn(temporaries[w], 0));
          inStrides = dense;
        }
        addArray(prepared.writes[w][i], write.map, widthOf(write.value), piece, parallel, out, outStrides);
        if (reducedExtents.empty()) {
          reducedExtents.push_back(1);
          inStrides.push_back(1);
        }
        reductions.add(Codelet::Reduce, prepared.tiles[i],
                       {{static_cast<int64_t>(graph::combineOf(write.combiner))},
                        {numberOf(type)},
                        {numberOf(accumulate)},
                        {numberOf(graph.values[write.value].type)},
                        extentsOf(parallel),
                        reducedExtents,
                        in,
                        inStrides,
                        out,
                        outStrides,
                        {started[w] || again},
                        {0}}); // loads are chosen when addresses are known
      }
    }
    maps.execute("map");
    reductions.execute("reduce");
  }
}

} // namespace quadrille::ipu
