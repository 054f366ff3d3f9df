#include "target/tsp/Placement.h"

#include "numerics/Tensor.h"

#include "llvm/ADT/STLExtras.h"

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

Region Region::shape() const {
  Region region = *this;
  region.ready = region.writable = region.lastRead = 0;
  region.rowReady.clear();
  region.copies.clear();
  return region;
}

std::optional<int64_t> Placement::addressIn(llvm::ArrayRef<SliceName> slices, uint8_t bank, int64_t words,
                                            Search search) {
  if (search.high) {
    int64_t end = machine.words;
    for (bool moved = true; std::exchange(moved, false);)
      for (SliceName slice : slices)
        for (const Words &of : llvm::reverse(bankOf(slice, bank)))
          if ((of.live || !search.again) && of.begin < end && end - words < of.end) {
            end = of.begin;
            moved = true;
          }
    return end >= words ? std::optional(end - words) : std::nullopt;
  }
  int64_t address = 0;
  for (bool moved = true; std::exchange(moved, false);)
    for (SliceName slice : slices)
      for (const Words &of : bankOf(slice, bank))
        if ((of.live || !search.again) && of.begin < address + words && address < of.end) {
          address = of.end;
          moved = true;
        }
  return address + words <= machine.words ? std::optional(address) : std::nullopt;
}

RegionPointer Placement::take(Region region, std::vector<SliceName> slices, uint8_t bank, int64_t address) {
  int64_t begin = address, end = address + region.wordsNeeded();
  for (SliceName slice : slices) {
    Bank &words = bankOf(slice, bank), kept;
    for (const Words &of : words) {
      if (of.end <= begin || end <= of.begin) {
        kept.push_back(of);
        continue;
      }
      // What was taken and never used hands on what was there before.
      region.writable = std::max(region.writable, of.writable);
      if (of.begin < begin)
        kept.push_back({of.begin, begin, of.writable, false});
      if (end < of.end)
        kept.push_back({end, of.end, of.writable, false});
    }
    kept.push_back({begin, end, 0, true});
    llvm::sort(kept, [](const Words &a, const Words &b) { return a.begin < b.begin; });
    words = std::move(kept);
  }
  region.hemisphere = slices[0].hemisphere;
  region.bank = bank;
  region.address = address;
  region.slices = std::move(slices);
  return {new Region(std::move(region)), [this](Region *unused) {
            unused->copies.clear();
            int64_t writable = std::max({unused->lastRead + 1, unused->ready + 1, unused->writable});
            for (SliceName slice : unused->slices)
              for (Words &of : bankOf(slice, unused->bank))
                if (of.live && of.begin == unused->address) {
                  of.live = false;
                  of.writable = writable;
                }
            delete unused;
          }};
}

RegionPointer Placement::find(Region &region, llvm::ArrayRef<const Region *> avoid, std::optional<unsigned> hemisphere,
                              bool anywhere, Pool pool, Search search) {
  auto count = static_cast<size_t>(region.slicesNeeded());
  int64_t words = region.wordsNeeded();
  // Both hemispheres and banks in turn. Single rows of weights, as of a bias, all lie in the first banks, so that
  // others have room for values that need a whole one.
  bool single = search.high && pool == Pool::Values && words == 1;
  for (int64_t attempt = 0; attempt < machine.hemispheres * machine.banks; ++attempt) {
    int64_t number = turn++;
    auto side = static_cast<unsigned>(number % machine.hemispheres);
    auto bank = static_cast<uint8_t>(number / machine.hemispheres % machine.banks);
    if (hemisphere && side != *hemisphere) {
      side = *hemisphere;
      bank = static_cast<uint8_t>(number % machine.banks);
    }
    if (single)
      bank = static_cast<uint8_t>(attempt / machine.hemispheres % machine.banks);
    std::vector<SliceName> slices;
    for (unsigned of = 0; of < machine.hemispheres; ++of)
      for (uint16_t slice = 0; slice < machine.slices && (anywhere || of == side); ++slice) {
        SliceName name{static_cast<uint8_t>(of), slice};
        if (!machine.reserved[of][slice] &&
            llvm::none_of(avoid, [&](const Region *other) { return other && llvm::is_contained(other->slices, name); }))
          slices.push_back(name);
      }
    if (pool == Pool::Weights && !anywhere) {
      // From the outermost slice inwards, always the same ones together, so that no words are lost between them.
      llvm::sort(slices, [](SliceName a, SliceName b) { return a.slice > b.slice; });
      for (size_t first = 0; first + count <= slices.size(); first += count) {
        llvm::ArrayRef<SliceName> block = llvm::ArrayRef(slices).slice(first, count);
        if (auto address = addressIn(block, bank, words, search))
          return take(region, block.vec(), bank, *address);
      }
    }
    // From the inner half, if it has room; of the slices those with the lowest free words.
    std::vector<std::tuple<bool, int64_t, SliceName>> ranked;
    for (SliceName name : slices)
      if (auto address =
              search.inner && name.slice >= machine.slices / 2 ? std::nullopt : addressIn(name, bank, words, search))
        ranked.emplace_back(name.slice >= machine.slices / 2, search.high ? -*address : *address, name);
    if (ranked.size() < count)
      continue;
    llvm::sort(ranked);
    // Neighbours in this order are those that have the most in common.
    for (size_t first = 0; first + count <= ranked.size(); ++first) {
      slices.clear();
      for (size_t i = 0; i < count; ++i)
        slices.push_back(std::get<2>(ranked[first + i]));
      llvm::sort(slices);
      if (auto address = addressIn(slices, bank, words, search))
        return take(region, std::move(slices), bank, *address);
    }
  }
  return nullptr;
}

RegionPointer Placement::allocate(Region region, llvm::ArrayRef<const Region *> avoid,
                                  std::optional<unsigned> hemisphere, bool anywhere, bool initial, Pool pool) {
  region.number = ++placed;
  if (initial)
    return find(region, avoid, hemisphere, anywhere, pool, {.again = false, .high = true});
  // Memory that was never used waits for nobody; but weights, which are still to come, lie in nothing else, and far
  // apart what is left of it is of no use to them.
  bool scarce = fresh + expected > machine.dataWords() / 4;
  // The outer slices are read for weights while values come and go.
  for (bool inner : {true, false})
    for (bool again : {scarce, !scarce})
      if (RegionPointer found = find(region, avoid, hemisphere, anywhere, pool, {.again = again, .inner = inner})) {
        if (!again)
          fresh += region.slicesNeeded() * region.wordsNeeded();
        return found;
      }
  return nullptr;
}

} // namespace quadrille::tsp
