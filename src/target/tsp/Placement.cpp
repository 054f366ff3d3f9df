#include "target/tsp/Placement.h"

#include "numerics/Tensor.h"

#include "llvm/ADT/STLExtras.h"

#include <limits>

namespace quadrille::tsp {

int64_t columnsOf(llvm::ArrayRef<int64_t> shape) {
  return shape.empty() ? 1 : shape.back();
}
int64_t rowsOf(llvm::ArrayRef<int64_t> shape) {
  int64_t rows = 1;
  for (size_t d = 0; d + 1 < shape.size(); ++d)
    rows *= shape[d];
  return rows;
}

bool Region::sharesSlices(const Region &other) const {
  return llvm::any_of(slices, [&](SliceName slice) { return llvm::is_contained(other.slices, slice); });
}

int64_t Region::together(int64_t row, int64_t step, int64_t count) const {
  if (!segmentRows || step == 0)
    return count;
  int64_t segment = row / segmentRows;
  int64_t left = step > 0 ? (segment + 1) * segmentRows - 1 - row : row - segment * segmentRows;
  return std::min(count, left / std::abs(step) + 1);
}

int64_t Region::readableFrom(int64_t row, int64_t step, int64_t count, int64_t interval) const {
  if (rowReady.empty())
    return ready;
  int64_t from = 0;
  for (int64_t k = 0; k < count; ++k)
    from = std::max(from, rowReady[row + k * step] - k * interval);
  return from;
}

void Region::wrote(int64_t row, int64_t cycle) {
  if (rowReady.empty())
    rowReady.resize(rows, ready);
  rowReady[row] = std::max(rowReady[row], cycle);
  ready = std::max(ready, cycle);
}

Region Region::of(ElementType type, int64_t rows, int64_t columns, int64_t widest) {
  Region region;
  region.type = type;
  region.rows = rows;
  region.columns = columns;
  region.pieces = std::max<int64_t>((columns + widest - 1) / widest, 1);
  region.width = std::min(columns, widest);
  return region;
}

RegionPointer Placement::share(Region region) {
  return {new Region(std::move(region)), [this](Region *unused) {
            unused->copies.clear();
            spare.push_back(std::move(*unused));
            delete unused;
          }};
}

RegionPointer Placement::allocate(Region region, llvm::ArrayRef<const Region *> avoid,
                                  std::optional<unsigned> hemisphere, bool anywhere, bool initial, Pool pool) {
  auto count = static_cast<size_t>(region.slicesNeeded());
  region.number = ++placed;
  // Of what lies unused, what was used last longest ago: writing there waits least.
  auto reuse = [&]() -> RegionPointer {
    Region *best = nullptr;
    auto freeFrom = [](const Region &old) { return std::max({old.lastRead + 1, old.ready + 1, old.writable}); };
    for (Region &old : spare) {
      bool sides = anywhere || llvm::all_of(old.slices, [&](SliceName slice) {
                     return slice.hemisphere == hemisphere.value_or(old.slices[0].hemisphere);
                   });
      if (old.slices.size() != count || old.wordsNeeded() < region.wordsNeeded() || !sides ||
          llvm::any_of(avoid, [&](const Region *other) { return other && old.sharesSlices(*other); }))
        continue;
      if (!best || freeFrom(old) < freeFrom(*best))
        best = &old;
    }
    if (!best)
      return nullptr;
    region.hemisphere = best->slices[0].hemisphere;
    region.slices = best->slices;
    region.bank = best->bank;
    region.address = best->address;
    // What was taken and never used hands on what was there before.
    region.writable = freeFrom(*best);
    std::swap(*best, spare.back());
    spare.pop_back();
    return share(std::move(region));
  };
  bool scarce = used > machine.hemispheres * machine.slices * machine.banks * machine.words / 2;
  if (scarce && !initial)
    if (RegionPointer found = reuse())
      return found;
  // Both hemispheres and banks in turn; of the slices those with most room.
  for (int64_t attempt = 0; attempt < machine.hemispheres * machine.banks; ++attempt) {
    int64_t number = turn++;
    auto side = static_cast<unsigned>(number % machine.hemispheres);
    auto bank = static_cast<uint8_t>(number / machine.hemispheres % machine.banks);
    if (hemisphere && side != *hemisphere) {
      side = *hemisphere;
      bank = static_cast<uint8_t>(number % machine.banks);
    }
    auto top = [&](SliceName slice) -> int64_t & {
      return next[(slice.hemisphere * machine.slices + slice.slice) * machine.banks + bank];
    };
    std::vector<SliceName> slices;
    for (unsigned of = 0; of < machine.hemispheres; ++of)
      for (uint16_t slice = 0; slice < machine.slices && (anywhere || of == side); ++slice) {
        SliceName name{static_cast<uint8_t>(of), slice};
        if (!machine.reserved[of][slice] &&
            llvm::none_of(avoid, [&](const Region *other) { return other && llvm::is_contained(other->slices, name); }))
          slices.push_back(name);
      }
    if (slices.size() < count)
      continue;
    // The inner slices for values, the outer ones for weights, while a bank has room.
    auto rank = [&](SliceName name) {
      bool outer = name.slice >= machine.slices / 2, full = top(name) + region.wordsNeeded() > machine.words;
      return std::tuple(full, outer != (pool == Pool::Weights), top(name), name);
    };
    llvm::sort(slices, [&](SliceName a, SliceName b) { return rank(a) < rank(b); });
    // Words below the first one are lost in slices that are less full. When there are few left, slices alike are best.
    if (scarce) {
      llvm::sort(slices, [&](SliceName a, SliceName b) { return std::pair(top(a), a) < std::pair(top(b), b); });
      size_t best = 0;
      int64_t least = std::numeric_limits<int64_t>::max();
      for (size_t first = 0; first + count <= slices.size(); ++first) {
        int64_t lost = 0, highest = top(slices[first + count - 1]);
        for (SliceName slice : llvm::ArrayRef(slices).slice(first, count))
          lost += highest - top(slice);
        if (lost < least && highest + region.wordsNeeded() <= machine.words) {
          least = lost;
          best = first;
        }
      }
      slices.erase(slices.begin(), slices.begin() + static_cast<ptrdiff_t>(best));
    }
    slices.resize(count);
    int64_t address = 0;
    for (SliceName slice : slices)
      address = std::max(address, top(slice));
    if (address + region.wordsNeeded() > machine.words)
      continue;
    llvm::sort(slices);
    for (SliceName slice : slices)
      used += address + region.wordsNeeded() - std::exchange(top(slice), address + region.wordsNeeded());
    region.hemisphere = slices[0].hemisphere;
    region.bank = bank;
    region.address = address;
    region.slices = std::move(slices);
    return share(std::move(region));
  }
  return initial ? nullptr : reuse();
}

} // namespace quadrille::tsp
