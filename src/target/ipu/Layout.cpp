#include "target/ipu/Layout.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>

namespace quadrille::ipu {

int64_t ceilDivide(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

int64_t roundUp(int64_t a, int64_t multiple) {
  return ceilDivide(a, multiple) * multiple;
}

std::vector<int64_t> partsOf(int64_t units, int64_t most) {
  std::vector<int64_t> counts;
  for (int64_t parts = 1; parts <= std::min(units, most);) {
    int64_t block = ceilDivide(units, parts);
    counts.push_back(ceilDivide(units, block));
    if (block == 1)
      break;
    // The fewest parts with smaller blocks.
    parts = ceilDivide(units, block - 1);
  }
  return counts;
}

namespace {

class EvenSplits {
public:
  EvenSplits(llvm::ArrayRef<int64_t> extents, int64_t parts, double run)
      : extents(extents), now(extents.size()), run(run) {
    int64_t points = 1;
    for (int64_t extent : extents)
      points *= extent;
    search(0, parts, 1, points);
  }
  std::vector<Split> best;

private:
  // `points`: those of a block of the loops that are split; `rest`: of the others.
  void search(size_t loop, int64_t left, int64_t points, int64_t rest) {
    if (!best.empty() && static_cast<double>(points * ceilDivide(rest, left)) >= least)
      return;
    if (loop == extents.size()) {
      double cost = static_cast<double>(points) + run * static_cast<double>(points / contiguous());
      if (best.empty() || cost < least) {
        least = cost;
        best = now;
      }
      return;
    }
    // Many parts of the first loops: what is split first is contiguous.
    std::vector<int64_t> counts = partsOf(extents[loop], left);
    for (int64_t parts : llvm::reverse(counts)) {
      int64_t block = ceilDivide(extents[loop], parts);
      now[loop] = {parts, block, 0};
      search(loop + 1, left / parts, points * block, rest / extents[loop]);
    }
  }

  // Points of a run: whole loops from the last one, and a block of the loop before them.
  int64_t contiguous() const {
    int64_t length = 1;
    for (size_t loop = extents.size(); loop-- > 0;) {
      length *= now[loop].block;
      if (now[loop].parts > 1)
        break;
    }
    return length;
  }

  llvm::ArrayRef<int64_t> extents;
  std::vector<Split> now;
  double run, least = 0;
};

} // namespace

std::vector<Split> evenSplits(llvm::ArrayRef<int64_t> extents, int64_t parts, double run) {
  return EvenSplits(extents, std::max<int64_t>(parts, 1), run).best;
}

int64_t pointsOf(const Box &box) {
  int64_t points = 1;
  for (const Interval &each : box)
    points *= std::max<int64_t>(0, each.count());
  return points;
}

Box meet(const Box &a, const Box &b) {
  Box common;
  for (auto [x, y] : llvm::zip_equal(a, b))
    common.push_back({std::max(x.begin, y.begin), std::min(x.end, y.end)});
  return common;
}

bool isEmpty(const Box &box) {
  return llvm::any_of(box, [](const Interval &each) { return each.end <= each.begin; });
}

bool contains(const Box &outer, const Box &inner) {
  return llvm::all_of(llvm::zip_equal(outer, inner), [](auto pair) {
    auto [o, i] = pair;
    return o.begin <= i.begin && i.end <= o.end;
  });
}

Arrangement Arrangement::make(llvm::ArrayRef<int64_t> extents, llvm::ArrayRef<unsigned> order,
                              std::optional<unsigned> grouped, int64_t group, int64_t quantum) {
  Arrangement result;
  result.dimensions.resize(extents.size());
  int64_t stride = grouped ? group : 1;
  bool fastest = !grouped;
  for (unsigned d : llvm::reverse(order)) {
    Dimension &to = result.dimensions[d];
    to.extent = extents[d];
    if (grouped == d) {
      to.group = group;
      to.inner = 1;
      to.outer = stride;
      stride *= ceilDivide(extents[d], group);
      continue;
    }
    to.outer = to.inner = stride;
    // The first dimension with several elements is the one whose rows are whole words.
    int64_t held = extents[d];
    if (fastest && held > 1) {
      held = roundUp(held, quantum);
      fastest = false;
    }
    stride *= held;
  }
  result.elements = fastest ? roundUp(stride, quantum) : stride;
  // Strides of single elements are of no account, but division needs groups.
  for (Dimension &each : result.dimensions)
    each.group = std::max<int64_t>(each.group, 1);
  return result;
}

Order Order::rowMajor(size_t rank) {
  Order order;
  for (unsigned d = 0; d < rank; ++d)
    order.dimensions.push_back(d);
  return order;
}

std::optional<unsigned> Order::fastest(llvm::ArrayRef<int64_t> shape) const {
  for (unsigned d : llvm::reverse(dimensions))
    if (shape[d] > 1 && grouped != d)
      return d;
  return std::nullopt;
}

llvm::SmallVector<int64_t, 6> Order::grains(llvm::ArrayRef<int64_t> shape, int64_t quantum) const {
  llvm::SmallVector<int64_t, 6> result(shape.size(), 1);
  if (grouped)
    result[*grouped] = group;
  else if (std::optional<unsigned> d = fastest(shape))
    result[*d] = quantum;
  return result;
}

Arrangement Order::arrange(llvm::ArrayRef<int64_t> extents, llvm::ArrayRef<int64_t> shape, int64_t quantum) const {
  // Boxes of one element along the fastest dimension have rows of whole words too.
  llvm::SmallVector<int64_t, 6> held(extents.begin(), extents.end());
  llvm::SmallVector<int64_t, 6> rounding = grains(shape, quantum);
  for (auto [extent, grain] : llvm::zip_equal(held, rounding))
    extent = roundUp(extent, grain);
  return Arrangement::make(held, dimensions, grouped, group, quantum);
}

void Layout::setStrides() {
  int64_t stride = 1;
  for (unsigned d : llvm::reverse(order.dimensions)) {
    splits[d].tileStride = stride;
    stride *= splits[d].parts;
  }
}

void Layout::spread(int64_t tiles) {
  llvm::SmallVector<int64_t, 6> rounding = grains();
  splits.assign(shape.size(), Split());
  for (unsigned d : order.dimensions) {
    int64_t parts = std::max<int64_t>(1, std::min(ceilDivide(shape[d], rounding[d]), tiles));
    int64_t block = std::max<int64_t>(1, roundUp(ceilDivide(shape[d], parts), rounding[d]));
    splits[d] = {std::max<int64_t>(1, ceilDivide(shape[d], block)), block, 0};
    tiles /= splits[d].parts;
  }
  setStrides();
  arrange();
}

void Layout::arrange() {
  llvm::SmallVector<int64_t, 6> extents;
  for (const Split &split : splits)
    extents.push_back(split.block);
  arrangement = order.arrange(extents, shape, quantum());
}

uint32_t Layout::lastTile() const {
  int64_t last = firstTile;
  for (const Split &split : splits)
    last += (split.parts - 1) * split.tileStride;
  return static_cast<uint32_t>(last);
}

void Layout::forEachPart(llvm::function_ref<void(uint32_t, const Box &)> body) const {
  Box all;
  for (int64_t extent : shape)
    all.push_back({0, extent});
  forEachMeeting(all, [&](uint32_t tile, const Box &part, const Box &) { body(tile, part); });
}

void Layout::forEachMeeting(const Box &box, llvm::function_ref<void(uint32_t, const Box &, const Box &)> body) const {
  size_t rank = shape.size();
  llvm::SmallVector<int64_t, 6> first(rank), last(rank), at(rank), rounding = grains();
  if (order.grouped)
    rounding[*order.grouped] = quantum(); // of the last group only the words that hold elements
  for (size_t d = 0; d < rank; ++d) {
    if (box[d].begin >= box[d].end || shape[d] == 0)
      return;
    first[d] = box[d].begin / splits[d].block;
    last[d] = std::min((box[d].end - 1) / splits[d].block, splits[d].parts - 1);
    if (first[d] > last[d])
      return;
    at[d] = first[d];
  }
  while (true) {
    Box part(rank), whole(rank);
    int64_t tile = firstTile;
    for (size_t d = 0; d < rank; ++d) {
      const Split &split = splits[d];
      part[d] = {at[d] * split.block, std::min((at[d] + 1) * split.block, shape[d])};
      whole[d] = {part[d].begin, roundUp(part[d].end, rounding[d])};
      tile += at[d] * split.tileStride;
    }
    Box common = meet(box, whole);
    if (!isEmpty(common))
      body(static_cast<uint32_t>(tile), part, common);
    size_t d = rank;
    while (d > 0 && ++at[d - 1] > last[d - 1]) {
      --d;
      at[d] = first[d];
    }
    if (d == 0)
      return;
  }
}

std::optional<Box> Layout::boxOf(uint32_t tile) const {
  // Strides of the tiles are those of a mixed radix, the largest first.
  if (tile < firstTile)
    return std::nullopt;
  int64_t left = tile - firstTile;
  llvm::SmallVector<size_t, 6> dims;
  for (size_t d = 0; d < splits.size(); ++d)
    if (splits[d].parts > 1)
      dims.push_back(d);
  llvm::sort(dims, [&](size_t a, size_t b) { return splits[a].tileStride > splits[b].tileStride; });
  Box box;
  for (int64_t extent : shape)
    box.push_back({0, extent});
  for (size_t d : dims) {
    int64_t part = left / splits[d].tileStride;
    if (part >= splits[d].parts)
      return std::nullopt;
    left -= part * splits[d].tileStride;
    box[d] = {part * splits[d].block, std::min((part + 1) * splits[d].block, shape[d])};
  }
  return left == 0 ? std::optional(box) : std::nullopt;
}

namespace {

// What one dimension adds to a walk: an offset and up to two loops.
struct Piece {
  int64_t from, to;
  llvm::SmallVector<Walk::Loop, 2> loops;
};

llvm::SmallVector<Piece, 3> piecesOf(const Interval &range, const Arrangement::Dimension &from, int64_t fromBegin,
                                     const Arrangement::Dimension &to, int64_t toBegin) {
  llvm::SmallVector<Piece, 3> pieces;
  // Groups of the one may lie within those of the other.
  int64_t wide = std::max(from.group, to.group), narrow = std::min(from.group, to.group);
  if (wide == 1) {
    pieces.push_back({(range.begin - fromBegin) * from.outer, (range.begin - toBegin) * to.outer, {}});
    pieces.back().loops.push_back({range.count(), from.outer, to.outer});
    return pieces;
  }
  auto offset = [](const Arrangement::Dimension &d, int64_t i) {
    return i / d.group * d.outer + i % d.group * d.inner;
  };
  // Where none of them do, what lies within one group of both goes together.
  if (wide % narrow != 0 || (narrow > 1 && (fromBegin - toBegin) % narrow != 0)) {
    for (int64_t at = range.begin; at < range.end;) {
      int64_t inFrom = at - fromBegin, inTo = at - toBegin;
      int64_t count = std::min({from.group - inFrom % from.group, to.group - inTo % to.group, range.end - at});
      pieces.push_back({offset(from, inFrom), offset(to, inTo), {{count, from.inner, to.inner}}});
      at += count;
    }
    return pieces;
  }
  if (narrow == 1)
    narrow = wide;
  auto stride = [](const Arrangement::Dimension &d, int64_t elements) {
    return d.group > 1 && elements % d.group == 0 ? elements / d.group * d.outer : elements * d.inner;
  };
  // Phases of groups: those of the buffer that has them.
  int64_t phase = from.group == wide ? fromBegin : toBegin;
  int64_t at = range.begin;
  while (at < range.end) {
    int64_t left = range.end - at;
    int64_t ofWide = (at - phase) % wide, ofNarrow = (at - phase) % narrow;
    Piece piece{offset(from, at - fromBegin), offset(to, at - toBegin), {}};
    auto add = [&](int64_t extent, int64_t elements) {
      piece.loops.push_back({extent, stride(from, elements), stride(to, elements)});
    };
    int64_t count = std::min(narrow - ofNarrow, left);
    if (ofWide == 0 && left >= wide) {
      count = left / wide * wide;
      add(count / wide, wide);
      add(wide / narrow, narrow);
      add(narrow, 1);
    } else if (ofNarrow == 0 && left >= narrow) {
      count = std::min(wide - ofWide, left) / narrow * narrow;
      add(count / narrow, narrow);
      add(narrow, 1);
    } else {
      add(count, 1);
    }
    at += count;
    pieces.push_back(piece);
  }
  return pieces;
}

} // namespace

llvm::SmallVector<Walk, 2> walksOf(const Box &common, const Arrangement &from, const Box &fromBox,
                                   const Arrangement &to, const Box &toBox) {
  llvm::SmallVector<Walk, 2> walks(1);
  for (size_t d = 0; d < common.size(); ++d) {
    auto pieces = piecesOf(common[d], from.dimensions[d], fromBox[d].begin, to.dimensions[d], toBox[d].begin);
    llvm::SmallVector<Walk, 2> next;
    for (const Walk &walk : walks)
      for (const Piece &piece : pieces) {
        Walk longer = walk;
        longer.from += piece.from;
        longer.to += piece.to;
        longer.loops.append(piece.loops.begin(), piece.loops.end());
        next.push_back(std::move(longer));
      }
    walks = std::move(next);
  }
  for (Walk &walk : walks) {
    llvm::erase_if(walk.loops, [](const Walk::Loop &loop) { return loop.extent == 1; });
    llvm::stable_sort(walk.loops, [](const Walk::Loop &a, const Walk::Loop &b) { return a.to > b.to; });
    // Loops that both buffers go through as one become one.
    for (size_t i = walk.loops.size(); i-- > 1;) {
      Walk::Loop &outer = walk.loops[i - 1], &inner = walk.loops[i];
      if (outer.from == inner.from * inner.extent && outer.to == inner.to * inner.extent) {
        outer = {outer.extent * inner.extent, inner.from, inner.to};
        walk.loops.erase(walk.loops.begin() + static_cast<ptrdiff_t>(i));
      }
    }
    if (!walk.loops.empty() && walk.loops.back().from == 1 && walk.loops.back().to == 1) {
      walk.run = walk.loops.back().extent;
      walk.loops.pop_back();
    }
  }
  return walks;
}

std::optional<llvm::SmallVector<Walk, 8>> placesAround(const Box &inside, const Arrangement &arrangement,
                                                       const Box &box) {
  Box rest;
  llvm::SmallVector<size_t, 6> order;
  for (auto [d, range, dimension] : llvm::enumerate(box, arrangement.dimensions)) {
    rest.push_back({range.begin, range.begin + roundUp(std::max<int64_t>(dimension.extent, 1), dimension.group)});
    order.push_back(d);
  }
  if (pointsOf(rest) != arrangement.elements)
    return std::nullopt;
  Box whole = rest;
  llvm::SmallVector<Walk, 8> walks;
  // What is cut off along the slowest dimensions is contiguous.
  llvm::stable_sort(
      order, [&](size_t a, size_t b) { return arrangement.dimensions[a].outer > arrangement.dimensions[b].outer; });
  for (size_t d : order) {
    Interval kept = isEmpty(inside) ? Interval{rest[d].end, rest[d].end} : inside[d];
    for (Interval range : {Interval{rest[d].begin, kept.begin}, Interval{kept.end, rest[d].end}}) {
      if (range.count() <= 0)
        continue;
      Box slab = rest;
      slab[d] = range;
      for (Walk &walk : walksOf(slab, arrangement, whole, arrangement, whole))
        walks.push_back(std::move(walk));
    }
    rest[d] = kept;
    if (kept.count() <= 0)
      break;
  }
  return walks;
}

} // namespace quadrille::ipu
