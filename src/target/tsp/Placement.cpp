#include "target/tsp/Placement.h"

#include "numerics/Tensor.h"

#include "llvm/ADT/STLExtras.h"

#include <map>

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
    for (SliceName slice : slices) {
      bool found = false;
      for (auto [begin, end] : freeIn(slice, bank, search))
        if (end - std::max(begin, address) >= words) {
          found = true;
          moved |= begin > address;
          address = std::max(begin, address);
          break;
        }
      if (!found)
        return std::nullopt;
    }
  return address;
}

std::vector<std::pair<int64_t, int64_t>> Placement::freeIn(SliceName slice, uint8_t bank, Search search) {
  std::vector<std::pair<int64_t, int64_t>> free;
  auto add = [&](int64_t begin, int64_t end) {
    if (begin >= end)
      return;
    if (!free.empty() && free.back().second == begin)
      free.back().second = end;
    else
      free.emplace_back(begin, end);
  };
  int64_t next = 0;
  for (const Words &of : bankOf(slice, bank)) {
    if (!search.only)
      add(next, of.begin);
    if (!of.live && (search.again || search.only))
      add(of.begin, of.end);
    next = of.end;
  }
  if (!search.only)
    add(next, machine.words);
  return free;
}

std::optional<int64_t> Placement::addressInSome(std::vector<SliceName> &slices, size_t count, uint8_t bank,
                                                int64_t words, Search search) {
  // How many slices have the words free from an address on changes where it can begin in one, and behind where it can.
  std::map<int64_t, int64_t> changes;
  for (SliceName name : slices)
    for (auto [begin, end] : freeIn(name, bank, search))
      if (end - begin >= words) {
        ++changes[begin];
        --changes[end - words + 1];
      }
  std::optional<int64_t> address;
  int64_t slicesFree = 0;
  for (auto change = changes.begin(); change != changes.end(); ++change) {
    slicesFree += change->second;
    if (slicesFree < static_cast<int64_t>(count))
      continue;
    address = search.high ? std::next(change)->first - 1 : change->first;
    if (!search.high)
      break;
  }
  if (!address)
    return std::nullopt;
  llvm::erase_if(slices, [&](SliceName name) {
    return llvm::none_of(freeIn(name, bank, search),
                         [&](auto run) { return run.first <= *address && *address + words <= run.second; });
  });
  slices.resize(count);
  return address;
}

RegionPointer Placement::take(Region region, std::vector<SliceName> slices, std::vector<Region::Start> starts) {
  region.hemisphere = slices[0].hemisphere;
  region.slices = std::move(slices);
  region.starts = std::move(starts);
  for (auto [index, slice] : llvm::enumerate(region.slices)) {
    auto [bank, begin] = region.start(index);
    int64_t end = begin + region.wordsNeeded();
    Bank &words = bankOf(slice, bank);
    // Those that overlap it give way to it and to what is left of the first and the last of them.
    auto first = llvm::partition_point(words, [&](const Words &of) { return of.end <= begin; }), last = first;
    llvm::SmallVector<Words, 3> instead;
    if (first != words.end() && first->begin < begin)
      instead.push_back({first->begin, begin, first->writable, false});
    instead.push_back({begin, end, 0, true});
    for (; last != words.end() && last->begin < end; ++last) {
      // What was taken and never used hands on what was there before.
      region.writable = std::max(region.writable, last->writable);
      if (end < last->end)
        instead.push_back({end, last->end, last->writable, false});
    }
    words.insert(words.erase(first, last), instead.begin(), instead.end());
  }
  return {new Region(std::move(region)), [this](Region *unused) {
            unused->copies.clear();
            int64_t writable = std::max({unused->lastRead + 1, unused->ready + 1, unused->writable});
            for (auto [index, slice] : llvm::enumerate(unused->slices)) {
              auto [bank, begin] = unused->start(index);
              Words &of = *llvm::partition_point(bankOf(slice, bank),
                                                 [&, begin = begin](const Words &each) { return each.begin < begin; });
              of.live = false;
              of.writable = writable;
            }
            delete unused;
          }};
}

RegionPointer Placement::inEach(const Region &region, llvm::ArrayRef<SliceName> slices, Search search) {
  // The last banks and the outer slices first: values come and go in the others.
  auto key = [](const std::pair<Region::Start, SliceName> &of) {
    return std::tuple(-of.first.bank, -of.first.address, -int64_t{of.second.slice});
  };
  std::vector<std::pair<Region::Start, SliceName>> found;
  for (SliceName slice : slices)
    for (int64_t bank = machine.banks; bank-- > 0;)
      if (auto address = addressIn(slice, static_cast<uint8_t>(bank), region.wordsNeeded(), search)) {
        found.push_back({{static_cast<uint8_t>(bank), *address}, slice});
        break;
      }
  auto count = static_cast<size_t>(region.slicesNeeded());
  if (found.size() < count)
    return nullptr;
  llvm::sort(found, [&](const auto &a, const auto &b) { return key(a) < key(b); });
  found.resize(count);
  std::vector<SliceName> chosen;
  std::vector<Region::Start> starts;
  for (auto [start, slice] : found) {
    starts.push_back(start);
    chosen.push_back(slice);
  }
  return take(region, std::move(chosen), std::move(starts));
}

RegionPointer Placement::find(Region &region, llvm::ArrayRef<const Region *> avoid, std::optional<unsigned> hemisphere,
                              bool anywhere, Pool pool, Search search) {
  auto count = static_cast<size_t>(region.slicesNeeded());
  int64_t words = region.wordsNeeded();
  int64_t sides = machine.hemispheres, attempts = sides * machine.banks;
  // Both hemispheres and banks in turn. Single rows of weights, as of a bias, all lie in the first banks, so that
  // others have room for values that need a whole one. To save memory values come and go in the first banks.
  bool single = search.high && pool == Pool::Values && words == 1;
  auto placeFor = [&](int64_t attempt) {
    int64_t number = turn++, inOrder = attempt / sides % machine.banks;
    auto side = static_cast<unsigned>(number % sides);
    int64_t bank = number / sides % machine.banks;
    if (hemisphere && side != *hemisphere) {
      side = *hemisphere;
      bank = number % machine.banks;
    }
    if (single || (frugal && pool == Pool::Values))
      bank = inOrder;
    else if (frugal)
      bank = machine.banks - 1 - inOrder;
    return std::pair(side, static_cast<uint8_t>(bank));
  };
  auto slicesOn = [&](unsigned side) {
    std::vector<SliceName> slices;
    for (unsigned of = 0; of < machine.hemispheres; ++of)
      for (uint16_t slice = 0; slice < machine.slices && (anywhere || of == side); ++slice) {
        SliceName name{static_cast<uint8_t>(of), slice};
        if (!machine.reserved[of][slice] &&
            llvm::none_of(avoid, [&](const Region *other) { return other && llvm::is_contained(other->slices, name); }))
          slices.push_back(name);
      }
    return slices;
  };
  // Of weights: from the outermost slice inwards, always the same ones together, so that no words are lost between
  // them.
  auto inBlock = [&](std::vector<SliceName> slices, uint8_t bank, size_t number) -> RegionPointer {
    llvm::sort(slices, [](SliceName a, SliceName b) { return a.slice > b.slice; });
    if ((number + 1) * count > slices.size())
      return nullptr;
    llvm::ArrayRef<SliceName> block = llvm::ArrayRef(slices).slice(number * count, count);
    auto address = addressIn(block, bank, words, search);
    return address ? take(region, block.vec(), {{bank, *address}}) : nullptr;
  };
  bool blocks = pool == Pool::Weights && !anywhere;
  size_t mostBlocks = machine.slices / count;
  // Blocks of slices leave those that are less than a block to values: too much where weights fill most of the memory.
  bool dense = frugal && expected > machine.dataWords() * 3 / 4;
  if (blocks && dense)
    for (unsigned side = 0; side < machine.hemispheres; ++side)
      if (side == hemisphere.value_or(side))
        if (RegionPointer found = inEach(region, slicesOn(side), search))
          return found;
  if (blocks && frugal)
    for (size_t number = 0; number < mostBlocks; ++number)
      for (int64_t attempt = 0; attempt < attempts; ++attempt) {
        auto [side, bank] = placeFor(attempt);
        if (RegionPointer found = inBlock(slicesOn(side), bank, number))
          return found;
      }
  for (bool thorough : {false, true})
    for (int64_t attempt = 0; attempt < attempts; ++attempt) {
      auto [side, bank] = placeFor(attempt);
      std::vector<SliceName> slices = slicesOn(side);
      if (blocks && !frugal && !thorough)
        for (size_t number = 0; number < mostBlocks; ++number)
          if (RegionPointer found = inBlock(slices, bank, number))
            return found;
      // From the inner half, if it has room; of the slices those with the lowest free words.
      std::vector<std::tuple<bool, int64_t, SliceName>> ranked;
      for (SliceName name : slices)
        if (auto address =
                search.inner && name.slice >= machine.slices / 2 ? std::nullopt : addressIn(name, bank, words, search))
          ranked.emplace_back(name.slice >= machine.slices / 2, search.high ? -*address : *address, name);
      if (ranked.size() < count)
        continue;
      llvm::sort(ranked);
      if (thorough) {
        slices.clear();
        for (const auto &each : ranked)
          slices.push_back(std::get<2>(each));
        if (auto address = addressInSome(slices, count, bank, words, search)) {
          llvm::sort(slices);
          return take(region, std::move(slices), {{bank, *address}});
        }
        continue;
      }
      // Neighbours in this order are those that have the most in common.
      for (size_t first = 0; first + count <= ranked.size(); ++first) {
        slices.clear();
        for (size_t i = 0; i < count; ++i)
          slices.push_back(std::get<2>(ranked[first + i]));
        llvm::sort(slices);
        if (auto address = addressIn(slices, bank, words, search))
          return take(region, std::move(slices), {{bank, *address}});
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
  // What weights fill besides their elements, and what is lost between regions.
  int64_t losses = machine.dataWords() / 5;
  if (frugal && fresh + expected + losses > machine.dataWords())
    for (bool inner : {true, false})
      if (RegionPointer found =
              find(region, avoid, hemisphere, anywhere, pool, {.again = true, .only = true, .inner = inner}))
        return found;
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
