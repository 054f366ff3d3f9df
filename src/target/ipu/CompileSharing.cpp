// How the loops of a kernel are shared by the tiles.
#include "target/ipu/CompilerState.h"

#include "graph/KernelQueries.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <map>
#include <numeric>

namespace quadrille::ipu {

using graph::AccessMap;
using graph::Read;
using graph::ValueId;
using graph::Write;

int64_t Sharing::tiles() const {
  int64_t count = 1;
  for (const Split &split : loops)
    count *= split.parts;
  return count;
}

uint32_t Sharing::lastTile() const {
  int64_t last = firstTile;
  for (const Split &split : loops)
    last += (split.parts - 1) * split.tileStride;
  return static_cast<uint32_t>(last);
}

Box CompilerState::boxOf(const AccessMap &map, const LoopBox &loops) {
  Box box;
  for (const graph::DimensionAccess &access : map) {
    Interval range{access.offset, access.offset + 1};
    for (auto [loop, coefficient] : access.terms) {
      int64_t last = coefficient * (loops[loop].end - 1), first = coefficient * loops[loop].begin;
      range.begin += std::min(first, last);
      range.end += std::max(first, last);
    }
    box.push_back(range);
  }
  return box;
}

void CompilerState::forEachTileOf(const Task &task, const Sharing &sharing,
                                  llvm::function_ref<void(uint32_t, const LoopBox &)> body) const {
  size_t rank = task.loops.size();
  llvm::SmallVector<int64_t, 6> at(rank);
  while (true) {
    LoopBox box(rank);
    int64_t tile = sharing.firstTile;
    for (size_t l = 0; l < rank; ++l) {
      const Split &split = sharing.loops[l];
      box[l] = {at[l] * split.block, std::min((at[l] + 1) * split.block, task.loops[l].extent)};
      tile += at[l] * split.tileStride;
    }
    if (task.chunk) {
      Interval parts = box[task.chunk->parts];
      int64_t extent = task.loops[task.chunk->loop].extent;
      box[task.chunk->loop] = {parts.begin * task.chunk->block, std::min(parts.end * task.chunk->block, extent)};
    }
    body(static_cast<uint32_t>(tile), box);
    size_t l = rank;
    while (l > 0 && ++at[l - 1] == sharing.loops[l - 1].parts)
      at[--l] = 0;
    if (l == 0)
      return;
  }
}

Order CompilerState::orderOf(const Task &task, const Write &write) const {
  // As an operand with the same dimensions lies, the largest one first.
  const graph::Value &result = graph.values[write.value];
  Order order = Order::rowMajor(result.shape.size());
  const Home *best = nullptr;
  const Read *of = nullptr;
  for (const Read &read : task.reads)
    if (const auto &home = homes[read.value];
        home && (!best || elementCount(home->layout.shape) > elementCount(best->layout.shape))) {
      best = &*home;
      of = &read;
    }
  if (!best)
    return order;
  // The result's dimension for each of the operand's.
  std::vector<std::optional<unsigned>> dimensionOf(best->layout.shape.size());
  for (auto [d, access] : llvm::enumerate(of->map))
    if (access.terms.size() == 1 && access.terms[0].second == 1)
      for (auto [r, to] : llvm::enumerate(write.map))
        if (to.terms.size() == 1 && to.terms[0] == access.terms[0] && to.terms[0].second == 1)
          dimensionOf[d] = static_cast<unsigned>(r);
  Order like;
  std::vector<bool> taken(result.shape.size());
  for (unsigned d : best->layout.order.dimensions)
    if (std::optional<unsigned> r = dimensionOf[d]) {
      like.dimensions.push_back(*r);
      taken[*r] = true;
    }
  for (unsigned r = 0; r < taken.size(); ++r)
    if (!taken[r])
      like.dimensions.insert(like.dimensions.begin(), r);
  std::optional<unsigned> grouped = best->layout.order.grouped;
  if (grouped && dimensionOf[*grouped] && of->map[*grouped].offset % best->layout.order.group == 0) {
    like.grouped = dimensionOf[*grouped];
    like.group = best->layout.order.group;
  }
  // Several loops to a dimension are only had in the plain order.
  for (const graph::DimensionAccess &access : write.map)
    if (access.terms.size() > 1)
      return order;
  return like;
}

llvm::SmallVector<int64_t, 6> CompilerState::grainsOf(const Task &task) const {
  llvm::SmallVector<int64_t, 6> grains(task.loops.size(), 1);
  for (const Write &write : task.writes) {
    const graph::Value &value = graph.values[write.value];
    int64_t quantum = quantumOf(write.value);
    auto rounding = orderOf(task, write).grains(value.shape, quantum);
    for (auto [access, grain] : llvm::zip_equal(write.map, rounding))
      if (grain > 1)
        for (auto [loop, weight] : access.terms)
          // Blocks of outer points are as many whole inner ones, together a multiple of the grain.
          grains[loop] = std::max(grains[loop], grain / std::gcd(grain, weight));
  }
  return grains;
}

Layout CompilerState::layoutOf(const Task &task, const Write &write, const Sharing &sharing) const {
  const graph::Value &value = graph.values[write.value];
  Layout layout = layoutFor(value.type, value.shape);
  layout.firstTile = sharing.firstTile;
  layout.order = orderOf(task, write);
  for (auto [extent, access] : llvm::zip_equal(value.shape, write.map)) {
    // Outer loops that are split into single points, one that is split into blocks, inner ones that are whole.
    Split split{1, std::max<int64_t>(extent, 1), 0};
    llvm::SmallVector<std::pair<unsigned, int64_t>, 2> terms(access.terms.begin(), access.terms.end());
    llvm::sort(terms, [](auto a, auto b) { return a.second > b.second; });
    for (auto [loop, weight] : terms) {
      const Split &of = sharing.loops[loop];
      if (of.parts == 1)
        continue;
      // Neighbouring parts of the dimension are on tiles at an even distance: inner strides divide outer ones.
      split = {split.parts * of.parts, of.block * weight, of.tileStride};
    }
    layout.splits.push_back(split);
  }
  layout.arrange();
  return layout;
}

namespace {

// Whether a dimension that several loops index can be shared so: parts are contiguous, and tiles at an even distance.
bool sharesEvenly(const Task &task, const Write &write, const Sharing &sharing) {
  for (const graph::DimensionAccess &access : write.map) {
    llvm::SmallVector<std::pair<unsigned, int64_t>, 2> terms(access.terms.begin(), access.terms.end());
    llvm::sort(terms, [](auto a, auto b) { return a.second > b.second; });
    bool whole = false; // an outer loop has blocks of several points
    const Split *outer = nullptr;
    for (auto [loop, weight] : terms) {
      const Split &split = sharing.loops[loop];
      if (task.loops[loop].extent == 1)
        continue;
      if (whole && split.parts > 1)
        return false;
      if (split.parts > 1 && outer && outer->tileStride != split.tileStride * split.parts)
        return false;
      // Blocks within an outer digit must divide it.
      if (split.parts > 1 && outer && split.parts * split.block != task.loops[loop].extent)
        return false;
      if (split.parts > 1)
        outer = &split;
      whole |= split.block > 1;
    }
  }
  return true;
}

} // namespace

Sharing CompilerState::balanced(const Task &task, llvm::ArrayRef<unsigned> loops, int64_t tiles) const {
  Sharing sharing;
  sharing.firstTile = firstTile();
  for (const graph::Loop &loop : task.loops)
    sharing.loops.push_back({1, std::max<int64_t>(loop.extent, 1), 0});
  llvm::SmallVector<int64_t, 6> grains = grainsOf(task);
  int64_t left = tiles;
  llvm::SmallVector<unsigned, 6> split;
  auto setStrides = [&] { // the last loop varies fastest
    int64_t stride = 1;
    for (unsigned l : llvm::reverse(split)) {
      sharing.loops[l].tileStride = stride;
      stride *= sharing.loops[l].parts;
    }
  };
  auto fits = [&] {
    return llvm::all_of(task.writes, [&](const Write &write) { return sharesEvenly(task, write, sharing); });
  };
  for (unsigned loop : loops) {
    int64_t extent = task.loops[loop].extent, grain = grains[loop];
    if (left <= 1 || extent <= 1)
      continue;
    int64_t parts = std::min(ceilDivide(extent, grain), left);
    int64_t block = roundUp(ceilDivide(extent, parts), grain);
    Split to{ceilDivide(extent, block), block, 0};
    if (to.parts == 1)
      continue;
    Split before = sharing.loops[loop];
    sharing.loops[loop] = to;
    split.push_back(loop);
    setStrides();
    if (!fits()) {
      // The largest divisor that is no more.
      int64_t count = parts;
      while (count > 1 && (extent % count != 0 || extent / count % grain != 0))
        --count;
      if (count > 1) {
        sharing.loops[loop] = {count, extent / count, 0};
        setStrides();
      }
      if (count <= 1 || !fits()) {
        sharing.loops[loop] = before;
        split.pop_back();
        setStrides();
        continue;
      }
    }
    left /= sharing.loops[loop].parts;
  }
  return sharing;
}

std::optional<Sharing> CompilerState::evenly(const Task &task, llvm::ArrayRef<unsigned> loops) const {
  llvm::SmallVector<int64_t, 6> grains = grainsOf(task), extents;
  for (unsigned loop : loops)
    extents.push_back(ceilDivide(std::max<int64_t>(task.loops[loop].extent, 1), grains[loop]));
  Sharing sharing;
  sharing.firstTile = firstTile();
  for (const graph::Loop &loop : task.loops)
    sharing.loops.push_back({1, std::max<int64_t>(loop.extent, 1), 0});
  int64_t elements = 1; // of a point
  for (unsigned loop : loops)
    elements *= grains[loop];
  std::vector<Split> splits =
      evenSplits(extents, machine.tiles, static_cast<double>(machine.exchangeFragment) / static_cast<double>(elements));
  int64_t stride = 1;
  for (auto [loop, split] : llvm::reverse(llvm::zip_equal(loops, splits))) {
    if (split.parts == 1)
      continue;
    sharing.loops[loop] = {split.parts, split.block * grains[loop], stride};
    stride *= split.parts;
  }
  if (llvm::any_of(task.writes, [&](const Write &write) { return !sharesEvenly(task, write, sharing); }))
    return std::nullopt;
  return sharing;
}

std::optional<Sharing> CompilerState::sharedAs(const Task &task, const Read &read) const {
  const auto &home = homes[read.value];
  if (!home)
    return std::nullopt;
  Sharing sharing;
  sharing.firstTile = home->layout.firstTile;
  for (const graph::Loop &loop : task.loops)
    sharing.loops.push_back({1, std::max<int64_t>(loop.extent, 1), 0});
  for (auto [access, split] : llvm::zip_equal(read.map, home->layout.splits)) {
    if (split.parts == 1 || access.terms.size() != 1 || access.terms[0].second != 1 || access.offset != 0)
      continue;
    unsigned loop = access.terms[0].first;
    if (task.chunk && task.chunk->loop == loop && task.chunk->block == split.block) {
      sharing.loops[task.chunk->parts] = {split.parts, 1, split.tileStride};
      continue;
    }
    if (task.loops[loop].reduction || split.parts != ceilDivide(task.loops[loop].extent, split.block))
      continue; // another number of elements
    sharing.loops[loop] = split;
  }
  // Blocks of narrow results are whole words.
  llvm::SmallVector<int64_t, 6> grains = grainsOf(task);
  for (auto [split, grain] : llvm::zip_equal(sharing.loops, grains))
    if (split.parts > 1 && split.block % grain != 0)
      return std::nullopt;
  for (const Write &write : task.writes)
    if (!sharesEvenly(task, write, sharing))
      return std::nullopt;
  return sharing;
}

int64_t CompilerState::runOf(const Home &home, const Box &wanted) const {
  const Layout &layout = home.layout;
  int64_t run = 1;
  if (std::optional<unsigned> fastest = layout.order.fastest(layout.shape))
    run = std::min(wanted[*fastest].count(), layout.splits[*fastest].block);
  return layout.order.grouped ? run * layout.order.group : run;
}

CompilerState::Shift CompilerState::shiftAwayFromParts(llvm::ArrayRef<Reading> readings, bool readsInPlace) const {
  if (!frugality.movesAway)
    return {};
  struct Own {
    int64_t copied = 0, kept = 0, fragments = 0; // bytes; of both
  };
  auto ownOf = [&](const Reading &reading, uint32_t shift) {
    Own own;
    for (const auto &[value, box] : reading.boxes) {
      const Home &home = *homes[value];
      std::optional<Box> here = home.layout.boxOf(reading.tile + shift);
      Box common = here ? meet(*here, box) : Box();
      if (!here || isEmpty(common))
        continue;
      bool keeps = readsInPlace && contains(*here, box);
      (keeps ? own.kept : own.copied) += pointsOf(common) * widthOf(value);
      own.fragments += ceilDivide(pointsOf(common), runOf(home, common));
    }
    return own;
  };
  // Some tiles show whether there are any parts.
  constexpr size_t samples = 64;
  bool copies = false;
  for (size_t i = 0; i < readings.size() && !copies; i += std::max<size_t>(1, readings.size() / samples))
    copies = ownOf(readings[i], 0).copied > 0;
  if (!copies)
    return {};
  Own most;
  uint32_t last = firstTile();
  for (const Reading &reading : readings) {
    Own own = ownOf(reading, 0);
    most.copied = std::max(most.copied, own.copied);
    most.kept = std::max(most.kept, own.kept);
    most.fragments = std::max(most.fragments, own.fragments);
    last = std::max(last, reading.tile);
  }
  int64_t copyCycles = cycles.copy(most.copied);
  if (copyCycles <=
      std::max((most.copied + most.kept) / machine.receiveBytesPerCycle, most.fragments * machine.exchangeFragment))
    return {0, copyCycles};
  // Each tile that has a part of what another one reads forbids their distance. Even ones, since neighbours that take
  // the same words do so at a higher rate.
  std::vector<bool> forbidden(static_cast<size_t>(firstTile() + machine.tiles) - last);
  std::map<std::pair<ValueId, Box>, llvm::SmallVector<uint32_t, 16>> owners; // that have it in part
  constexpr size_t mostOwners = 256;
  for (const Reading &reading : readings)
    for (const auto &[value, box] : reading.boxes) {
      auto [known, fresh] = owners.try_emplace({value, box});
      if (fresh)
        homes[value]->layout.forEachMeeting(
            box, [&, &box = box, &of = known->second](uint32_t tile, const Box &part, const Box &common) {
              if (!isEmpty(common) && !(readsInPlace && contains(part, box)))
                of.push_back(tile);
            });
      if (known->second.size() > mostOwners)
        return {0, copyCycles};
      for (uint32_t owner : known->second)
        if (owner >= reading.tile && owner - reading.tile < forbidden.size())
          forbidden[owner - reading.tile] = true;
    }
  auto step = static_cast<uint32_t>(machine.tilesPerBus);
  for (uint32_t shift = 0; shift < forbidden.size(); shift += step)
    if (!forbidden[shift])
      return {shift, 0};
  return {0, copyCycles};
}

double CompilerState::costOf(const Task &task, const Sharing &sharing) const {
  // Of the first tile, which has whole blocks.
  LoopBox box;
  int64_t points = 1, reduced = 1;
  for (auto [loop, split] : llvm::zip_equal(task.loops, sharing.loops)) {
    box.push_back({0, std::min(split.block, loop.extent)});
    if (!loop.reduction)
      points *= box.back().count();
  }
  if (task.chunk)
    box[task.chunk->loop] = {0, task.chunk->block};
  for (auto [loop, range] : llvm::zip_equal(task.loops, box))
    if (loop.reduction)
      reduced *= range.count();
  // Arithmetic: of each operation a vector's worth of elements in a cycle.
  double arithmetic = 0;
  for (const BlockInstruction &each : task.body.instructions)
    if (operandCount(each.opcode) > 0)
      arithmetic += 1;
  double compute = 300 + static_cast<double>(points * reduced) * (arithmetic + 1);
  double bytes = 0, fragments = 0, exchanges = 0;
  for (const Read &read : task.reads) {
    const auto &home = homes[read.value];
    if (!home)
      continue;
    Box wanted = boxOf(read.map, box);
    std::optional<Box> here = home->layout.boxOf(sharing.firstTile);
    if (here && contains(*here, wanted)) {
      // The tiles agree when the loops are shared as the value is.
      bool same = true;
      for (auto [access, split] : llvm::zip_equal(read.map, home->layout.splits)) {
        if (split.parts == 1)
          continue;
        same &= access.terms.size() == 1 && (sharing.loops[access.terms[0].first].tileStride == split.tileStride ||
                                             (task.chunk && task.chunk->loop == access.terms[0].first &&
                                              sharing.loops[task.chunk->parts].tileStride == split.tileStride));
      }
      for (auto [l, split] : llvm::enumerate(sharing.loops))
        if (split.parts > 1)
          same &= llvm::any_of(read.map, [&, l = l](const graph::DimensionAccess &access) {
            return graph::coefficientOf(access, static_cast<unsigned>(l)) != 0 ||
                   (task.chunk && task.chunk->parts == l && graph::coefficientOf(access, task.chunk->loop) != 0);
          });
      if (same)
        continue;
    }
    exchanges = 1;
    double count = static_cast<double>(pointsOf(wanted));
    bytes += count * static_cast<double>(widthOf(read.value));
    fragments += count / static_cast<double>(runOf(*home, wanted));
  }
  double moved = std::max(bytes / static_cast<double>(machine.receiveBytesPerCycle),
                          fragments * static_cast<double>(machine.exchangeFragment));
  return compute + moved + exchanges * static_cast<double>(machine.syncInternal);
}

Sharing CompilerState::share(const Task &task) {
  std::vector<Sharing> candidates;
  for (const Read &read : task.reads)
    if (!isConstant(read.value)) // an input too lies somewhere
      homeOf(read.value);
  for (const Read &read : task.reads)
    if (std::optional<Sharing> like = sharedAs(task, read))
      candidates.push_back(*like);
  // Parallel loops from the slowest to the fastest of the result.
  llvm::SmallVector<unsigned, 6> loops;
  if (task.chunk)
    loops.push_back(task.chunk->parts);
  const Write &write = task.writes[0];
  for (unsigned d : orderOf(task, write).dimensions) {
    llvm::SmallVector<std::pair<unsigned, int64_t>, 2> terms(write.map[d].terms.begin(), write.map[d].terms.end());
    llvm::sort(terms, [](auto a, auto b) { return a.second > b.second; });
    for (auto [loop, weight] : terms)
      if (!llvm::is_contained(loops, loop))
        loops.push_back(loop);
  }
  // Where a few tiles are left over work may be moved away from parts of its operands.
  constexpr int64_t sixteenths[] = {15, 14, 12, 8};
  for (int64_t tiles = machine.tiles; tiles > 0; tiles /= 4)
    candidates.push_back(balanced(task, loops, tiles));
  for (int64_t part : sixteenths)
    candidates.push_back(balanced(task, loops, std::max<int64_t>(1, machine.tiles * part / 16)));
  candidates.push_back(balanced(task, loops, 1));
  if (frugality.sharesEvenly())
    if (std::optional<Sharing> even = evenly(task, loops))
      candidates.push_back(*even);
  // Each part of a reduction is a tile's.
  if (task.chunk)
    llvm::erase_if(candidates, [&](const Sharing &each) { return each.loops[task.chunk->parts].block != 1; });
  assert(!candidates.empty() && "the parts are the first loop that is shared");
  std::vector<std::pair<double, const Sharing *>> byCost;
  for (const Sharing &each : candidates)
    byCost.emplace_back(costOf(task, each), &each);
  llvm::stable_sort(byCost, [](const auto &a, const auto &b) { return a.first < b.first; });
  std::optional<Sharing> best;
  double least = std::numeric_limits<double>::infinity();
  for (const auto &[cost, sharing] : byCost) {
    if (cost >= least)
      break;
    std::vector<Reading> readings;
    forEachTileOf(task, *sharing, [&](uint32_t tile, const LoopBox &box) {
      Reading &reading = readings.emplace_back(Reading{tile, {}});
      for (const Read &read : task.reads)
        if (homes[read.value] && !isConstant(read.value))
          reading.boxes.emplace_back(read.value, boxOf(read.map, box));
    });
    Shift shift = shiftAwayFromParts(readings, true);
    if (double all = cost + static_cast<double>(shift.copyCycles); all < least) {
      least = all;
      best = *sharing;
      best->firstTile += shift.tiles;
    }
  }
  return *best;
}

} // namespace quadrille::ipu
