// Bringing operands to the tiles that read them.
#include "target/ipu/CompilerState.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>

namespace quadrille::ipu {

using graph::ValueId;

namespace {

int64_t floorTo(int64_t a, int64_t multiple) {
  return a >= 0 ? a / multiple * multiple : -roundUp(-a, multiple);
}

// Bounds rounded outwards to the grains.
Box rounded(const Box &box, llvm::ArrayRef<int64_t> grains) {
  Box result;
  for (auto [range, grain] : llvm::zip_equal(box, grains)) {
    int64_t begin = floorTo(range.begin, grain);
    result.push_back({begin, begin + roundUp(range.end - begin, grain)});
  }
  return result;
}

llvm::SmallVector<int64_t, 6> largestExtents(llvm::ArrayRef<Box> boxes, size_t rank) {
  llvm::SmallVector<int64_t, 6> extents(rank, 1);
  for (const Box &box : boxes)
    for (auto [extent, range] : llvm::zip_equal(extents, box))
      extent = std::max(extent, range.count());
  return extents;
}

Box wholeOf(llvm::ArrayRef<int64_t> shape) {
  Box box;
  for (int64_t extent : shape)
    box.push_back({0, extent});
  return box;
}

struct Reached {
  uint32_t first = ~uint32_t(0), last = 0;
  void add(uint32_t tile) {
    first = std::min(first, tile);
    last = std::max(last, tile);
  }
};

} // namespace

const Home &CompilerState::homeOf(ValueId id) {
  if (homes[id])
    return *homes[id];
  // In rows, evenly over the tiles.
  Layout layout = layoutFor(graph.values[id].type, graph.values[id].shape);
  layout.spread(machine.tiles);
  place(id, std::move(layout));
  startsThere(id);
  return *homes[id];
}

void CompilerState::startsThere(ValueId id) {
  Buffer &held = buffers[homes[id]->buffer];
  held.from = 0;
  held.always = isConstant(id);
}

Layout CompilerState::layoutFor(ElementType type, Shape shape) const {
  Layout layout;
  layout.type = type;
  layout.order = Order::rowMajor(shape.size());
  layout.shape = std::move(shape);
  layout.firstTile = firstTile();
  layout.wordBytes = machine.exchangeGranularity;
  return layout;
}

void CompilerState::place(ValueId id, Layout layout) {
  BufferId at = buffer(layout.bytes(), layout.firstTile, layout.lastTile(), nameOf(id));
  homes[id] = Home{std::move(layout), at};
}

BufferId CompilerState::placeConstant(ValueId id, llvm::ArrayRef<Wanted> wanted, const Arrangement &arrangement) {
  std::map<uint32_t, Box> boxes;
  Reached reached;
  for (const Wanted &each : wanted) {
    boxes.try_emplace(each.tile, each.box);
    reached.add(each.tile);
  }
  std::vector<Resident> &known = residents[id];
  for (const Resident &each : known)
    if (each.arrangement == arrangement && each.boxes == boxes)
      return each.buffer;
  BufferId at = buffer(arrangement.elements * widthOf(id), reached.first, reached.last, nameOf(id));
  buffers[at].always = true;
  known.push_back({at, arrangement, std::move(boxes)});
  return at;
}

CompilerState::Operand CompilerState::bringConstant(ValueId id, llvm::ArrayRef<Wanted> wanted) {
  const graph::Value &value = graph.values[id];
  std::vector<Box> boxes;
  for (const Wanted &each : wanted)
    boxes.push_back(each.box);
  int64_t quantum = quantumOf(id);
  const Arrangement &arrangement = arrangements.emplace_back(
      Order::rowMajor(value.shape.size()).arrange(largestExtents(boxes, value.shape.size()), value.shape, quantum));
  BufferId at = placeConstant(id, wanted, arrangement);
  Operand operand;
  for (const Wanted &each : wanted)
    operand.push_back({at, &arrangement, each.box});
  return operand;
}

CompilerState::Operand CompilerState::bring(ValueId id, llvm::ArrayRef<Wanted> wanted,
                                            std::optional<graph::Scalar> padding, bool plain) {
  const Shape &shape = graph.values[id].shape;
  Box whole = wholeOf(shape);
  bool leaves = llvm::any_of(wanted, [&](const Wanted &each) { return !contains(whole, each.box); });
  if (graph.values[id].role == graph::ValueRole::Constant && !leaves)
    return bringConstant(id, wanted);
  const Home home = homeOf(id);
  plain &= home.layout.order.grouped.has_value();
  Operand operand(wanted.size());
  std::vector<Wanted> staged;
  std::vector<size_t> numbers;
  std::vector<Box> boxes;
  Reached reached;
  const Arrangement &there = arrangements.emplace_back(home.layout.arrangement);
  Order order = plain ? Order::rowMajor(shape.size()) : home.layout.order;
  auto grains = order.grains(shape, home.layout.quantum());
  for (auto [i, each] : llvm::enumerate(wanted)) {
    std::optional<Box> here = plain ? std::nullopt : home.layout.boxOf(each.tile);
    if (here && contains(*here, each.box)) {
      operand[i] = {home.buffer, &there, *here};
      continue;
    }
    numbers.push_back(i);
    boxes.push_back(rounded(each.box, grains));
    staged.push_back({each.tile, boxes.back()});
    reached.add(each.tile);
  }
  if (staged.empty())
    return operand;
  const Arrangement &arrangement =
      arrangements.emplace_back(order.arrange(largestExtents(boxes, shape.size()), shape, home.layout.quantum()));
  BufferId at = buffer(arrangement.elements * widthOf(id), reached.first, reached.last, nameOf(id) + " (brought)");
  bringInto(id, staged, at, arrangement, padding);
  for (auto [number, each] : llvm::zip_equal(numbers, staged))
    operand[number] = {at, &arrangement, each.box};
  return operand;
}

namespace {

int64_t runsOf(const Walk &walk) {
  int64_t runs = 1;
  for (const Walk::Loop &loop : walk.loops)
    runs *= loop.extent;
  return runs;
}

bool movesWords(const Walk &walk, int64_t width, int64_t word) {
  auto isWord = [&](int64_t elements) { return elements * width % word == 0; };
  return isWord(walk.run) && isWord(walk.from) && isWord(walk.to) &&
         llvm::all_of(walk.loops, [&](const Walk::Loop &loop) { return isWord(loop.from) && isWord(loop.to); });
}

} // namespace

void CompilerState::fillAround(const Wanted &wanted, const Box &inside, BufferId buffer, const Arrangement &to,
                               ElementType type, uint64_t bits) {
  auto width = static_cast<int64_t>(byteWidth(type));
  auto wholeWords = [&](int64_t elements) { return elements * width % machine.storeGranularity == 0; };
  std::optional<llvm::SmallVector<Walk, 8>> walks = placesAround(inside, to, wanted.box);
  auto fillAll = [&] { fills.fill(wanted.tile, buffer, 0, width, bits, to.elements); };
  if (!walks || !llvm::all_of(*walks, [&](const Walk &walk) {
        return wholeWords(walk.to) && wholeWords(walk.run) &&
               llvm::all_of(walk.loops, [&](const Walk::Loop &loop) { return wholeWords(loop.to); });
      }))
    return fillAll();
  // A fill for each run, or an elementwise vertex for all of them, which takes longer to begin and for an element.
  ElementType counted = type == ElementType::f16 ? type : ElementType::f32;
  auto cyclesOfMap = [&](int64_t elements) {
    return *cycles.binary("add", counted, 0, false) +
           cycles.workers() * *cycles.binaryLoop("add", counted, ceilDivide(elements, cycles.workers()));
  };
  constexpr int64_t mostFills = 16;                                 // each has its state in the tile's memory
  auto cyclesOfFills = [&](int64_t runs, int64_t run, int64_t at) { // that all workers share
    FillForm form = fillOf(width, bits, at * width, run);
    return runs * cycles.fill(form.bytes, form.count);
  };
  auto isFilled = [&](const Walk &walk) {
    int64_t runs = runsOf(walk);
    return runs <= mostFills && cyclesOfFills(runs, walk.run, walk.to) <= cyclesOfMap(runs * walk.run);
  };
  int64_t cyclesOfParts = 0;
  for (const Walk &walk : *walks)
    cyclesOfParts +=
        isFilled(walk) ? cyclesOfFills(runsOf(walk), walk.run, walk.to) : cyclesOfMap(runsOf(walk) * walk.run);
  if (cyclesOfParts >= cyclesOfFills(cycles.workers(), ceilDivide(to.elements, cycles.workers()), 0))
    return fillAll();
  BlockExpression constant;
  constant.results = {constant.append(BlockOpcode::Constant, type, {}, bits)};
  for (const Walk &walk : *walks) {
    if (!isFilled(walk)) {
      std::vector<int64_t> extents, strides;
      for (const Walk::Loop &loop : walk.loops) {
        extents.push_back(loop.extent);
        strides.push_back(loop.to);
      }
      extents.push_back(walk.run);
      strides.push_back(1);
      fills.add(Codelet::Map, wanted.tile,
                {{expression(constant)}, extents, {}, {}, {addressIn(buffer, walk.to * width)}, strides});
      continue;
    }
    llvm::SmallVector<int64_t, 16> offsets = {walk.to};
    for (const Walk::Loop &loop : walk.loops) {
      llvm::SmallVector<int64_t, 16> next;
      for (int64_t offset : offsets)
        for (int64_t i = 0; i < loop.extent; ++i)
          next.push_back(offset + i * loop.to);
      offsets = std::move(next);
    }
    for (int64_t offset : offsets)
      fills.fill(wanted.tile, buffer, offset * width, width, bits, walk.run);
  }
}

void CompilerState::bringInto(ValueId id, llvm::ArrayRef<Wanted> wanted, BufferId buffer, const Arrangement &to,
                              std::optional<graph::Scalar> padding) {
  const Home home = homeOf(id);
  const Layout &layout = home.layout;
  int64_t width = layout.width();
  Box whole = wholeOf(layout.shape);
  std::map<Box, std::vector<uint32_t>> tilesOf; // that want the same
  for (const Wanted &each : wanted) {
    tilesOf[each.box].push_back(each.tile);
    if (padding && (!contains(whole, each.box) || pointsOf(each.box) != to.elements))
      fillAround(each, meet(each.box, whole), buffer, to, layout.type, padding->bits);
  }
  for (auto &[box, tiles] : tilesOf)
    llvm::sort(tiles);
  // A value of one element has no rows that are whole words.
  bool single = !layout.order.grouped && !layout.order.fastest(layout.shape);
  auto wholeWords = [&](llvm::SmallVector<Walk, 2> &walks) {
    if (single)
      walks.front().run = layout.quantum();
  };
  // What comes from which tile, and how. Beyond the value are the rests of words, which may be anything.
  struct Move {
    const Box *box;
    llvm::ArrayRef<uint32_t> tiles;
    uint32_t source;
    Box part, common;
    llvm::SmallVector<Walk, 2> walks; // of a transfer
  };
  std::deque<Move> moves;
  int64_t direct = 0, words = 0; // fragments when elements go to their places, and words
  bool aligned = true;
  for (const auto &[box, tiles] : tilesOf)
    layout.forEachMeeting(box, [&, &box = box, &tiles = tiles](uint32_t tile, const Box &part, const Box &common) {
      Box inside = padding ? ipu::meet(common, whole) : common;
      if (isEmpty(inside))
        return;
      Move move{&box, tiles, tile, part, inside, walksOf(inside, layout.arrangement, part, to, box)};
      if (!padding)
        wholeWords(move.walks);
      if (tiles.size() > 1 || tiles.front() != tile)
        for (const Walk &walk : move.walks) {
          aligned &= ipu::movesWords(walk, width, machine.exchangeGranularity);
          direct += runsOf(walk);
          words += runsOf(walk) * walk.run * width / machine.exchangeGranularity;
        }
      moves.push_back(std::move(move));
    });
  auto sendToOthers = [&](const Move &move, BufferId into) {
    llvm::SmallVector<uint32_t, 32> others;
    for (uint32_t tile : move.tiles)
      if (tile != move.source)
        others.push_back(tile);
    std::vector<TileRange> ranges = rangesOf(others);
    for (const Walk &walk : move.walks)
      addSending(move.source, ranges, home.buffer, into, width, walk);
  };
  auto copyHere = [&](uint32_t tile, const Box &part, const Box &common, const Box &box) {
    Box inside = ipu::meet(common, whole);
    if (!isEmpty(inside))
      for (const Walk &walk : walksOf(inside, layout.arrangement, part, to, box))
        copies.copy(tile, width, home.buffer, walk.from * width, buffer, walk.to * width, walk);
  };
  // Otherwise what comes is put in its places here. Short runs cost more control than they carry.
  constexpr int64_t shortRun = 4; // words
  if (!aligned || (direct > 0 && words / direct < shortRun)) {
    llvm::SmallVector<int64_t, 6> grains = layout.grains();
    std::vector<Box> boxes;
    Reached reached;
    for (const auto &[box, tiles] : tilesOf) {
      boxes.push_back(rounded(ipu::meet(box, whole), grains));
      for (uint32_t tile : tiles)
        reached.add(tile);
    }
    Arrangement between =
        layout.order.arrange(largestExtents(boxes, layout.shape.size()), layout.shape, layout.quantum());
    std::deque<Move> first;
    int64_t runs = 0;
    for (auto [entry, box] : llvm::zip_equal(tilesOf, boxes))
      layout.forEachMeeting(box, [&, &entry = entry, &box = box](uint32_t tile, const Box &part, const Box &common) {
        Move move{&box, entry.second, tile, part, common, walksOf(common, layout.arrangement, part, between, box)};
        wholeWords(move.walks);
        if (entry.second.size() > 1 || entry.second.front() != tile)
          for (const Walk &walk : move.walks)
            runs += runsOf(walk);
        first.push_back(std::move(move));
      });
    if (!aligned || runs * 2 <= direct) {
      BufferId staging =
          this->buffer(between.elements * width, reached.first, reached.last, nameOf(id) + " (to be rearranged)");
      // First what is here beside what comes, then all of it to its places at once.
      for (const Move &move : first) {
        for (uint32_t tile : move.tiles)
          if (tile == move.source)
            for (const Walk &walk :
                 walksOf(ipu::meet(move.common, whole), layout.arrangement, move.part, between, *move.box))
              copies.copy(tile, width, home.buffer, walk.from * width, staging, walk.to * width, walk);
        sendToOthers(move, staging);
      }
      for (auto [entry, box] : llvm::zip_equal(tilesOf, boxes)) {
        Box inside = ipu::meet(entry.first, whole);
        if (!isEmpty(inside))
          for (const Walk &walk : walksOf(inside, between, box, to, entry.first))
            for (uint32_t tile : entry.second)
              rearrangements.copy(tile, width, staging, walk.from * width, buffer, walk.to * width, walk);
      }
      return;
    }
  }
  for (const Move &move : moves) {
    if (llvm::is_contained(move.tiles, move.source))
      copyHere(move.source, move.part, move.common, *move.box);
    sendToOthers(move, buffer);
  }
}

void CompilerState::addSending(uint32_t source, llvm::ArrayRef<TileRange> destinations, BufferId from, BufferId to,
                               int64_t width, const Walk &walk) {
  // The two innermost levels are one transfer; one for every point of the others.
  Sending sending{source, {}, from, to, 0, 0, 1, static_cast<uint32_t>(walk.run * width), 0, 0, false};
  llvm::ArrayRef<Walk::Loop> outer = walk.loops;
  if (!outer.empty()) {
    sending.rows = static_cast<uint32_t>(outer.back().extent);
    sending.fromStride = static_cast<int32_t>(outer.back().from * width);
    sending.toStride = static_cast<int32_t>(outer.back().to * width);
    outer = outer.drop_back();
  }
  llvm::SmallVector<int64_t, 6> at(outer.size());
  while (true) {
    int64_t fromOffset = walk.from, toOffset = walk.to;
    for (auto [i, loop] : llvm::zip_equal(at, outer)) {
      fromOffset += i * loop.from;
      toOffset += i * loop.to;
    }
    sending.fromOffset = fromOffset * width;
    sending.toOffset = toOffset * width;
    for (const TileRange &range : destinations) {
      sending.destinations = range;
      pending.push_back(sending);
    }
    size_t l = outer.size();
    while (l > 0 && ++at[l - 1] == outer[l - 1].extent)
      at[--l] = 0;
    if (l == 0)
      return;
  }
}

void CompilerState::flush() {
  fills.execute("fill");
  if (!pending.empty()) {
    // What several tiles take from one send stands together.
    auto key = [](const Sending &s) {
      return std::tuple(s.source, s.from, s.fromOffset, s.rows, s.bytes, s.fromStride, s.destinations.first,
                        s.toOffset);
    };
    llvm::sort(pending, [&](const Sending &a, const Sending &b) { return key(a) < key(b); });
    for (size_t i = 1; i < pending.size(); ++i) {
      const Sending &a = pending[i - 1], &b = pending[i];
      pending[i].joins = a.source == b.source && a.from == b.from && a.fromOffset == b.fromOffset && a.rows == b.rows &&
                         a.bytes == b.bytes && a.fromStride == b.fromStride;
    }
    exchange(std::move(pending));
    pending.clear();
  }
  copies.execute("gather");
  rearrangements.execute("arrange");
}

} // namespace quadrille::ipu
