#include "target/tsp/Occupancy.h"

#include <algorithm>

namespace quadrille::tsp {

// Most lists are ascending as they come, or hold about as many cycles as the time that they span.
static void sortCycles(std::vector<int64_t> &cycles) {
  if (std::is_sorted(cycles.begin(), cycles.end()))
    return;
  auto [low, high] = std::minmax_element(cycles.begin(), cycles.end());
  int64_t first = *low, span = *high - first + 1;
  if (span > 4 * static_cast<int64_t>(cycles.size())) {
    std::sort(cycles.begin(), cycles.end());
    return;
  }
  std::vector<uint32_t> times(span);
  for (int64_t cycle : cycles)
    ++times[cycle - first];
  auto to = cycles.begin();
  for (int64_t i = 0; i < span; ++i)
    to = std::fill_n(to, times[i], first + i);
}

void Coverage::add(int64_t begin, int64_t end) {
  if (end <= begin)
    return;
  begins.push_back(begin);
  ends.push_back(end);
  if (begins.size() >= limit)
    compact();
}

void Coverage::add(const Coverage &other) {
  begins.insert(begins.end(), other.begins.begin(), other.begins.end());
  ends.insert(ends.end(), other.ends.begin(), other.ends.end());
}

void Coverage::compact() {
  sortCycles(begins);
  sortCycles(ends);
  std::vector<int64_t> onlyBegins, onlyEnds;
  std::set_difference(begins.begin(), begins.end(), ends.begin(), ends.end(), std::back_inserter(onlyBegins));
  std::set_difference(ends.begin(), ends.end(), begins.begin(), begins.end(), std::back_inserter(onlyEnds));
  begins = std::move(onlyBegins);
  ends = std::move(onlyEnds);
  limit = std::max(limit, 2 * begins.size());
}

std::vector<Coverage::Change> Coverage::changes() {
  sortCycles(begins);
  sortCycles(ends);
  std::vector<Change> result;
  int64_t count = 0;
  for (auto begin = begins.begin(), end = ends.begin(); end != ends.end();) {
    int64_t cycle = begin != begins.end() ? std::min(*begin, *end) : *end, before = count;
    for (; begin != begins.end() && *begin == cycle; ++begin)
      ++count;
    for (; end != ends.end() && *end == cycle; ++end)
      --count;
    if (count != before)
      result.push_back({cycle, count});
  }
  return result;
}

Highest highest(const std::vector<Coverage::Change> &changes, int64_t cycles) {
  Highest result;
  while ((cycles - 1) / result.step >= Highest::mostSteps)
    result.step *= 2;
  result.counts.resize(cycles > 0 ? (cycles - 1) / result.step + 1 : 0);
  for (size_t i = 0; i < changes.size(); ++i) {
    int64_t end = i + 1 < changes.size() ? std::min(changes[i + 1].cycle, cycles) : cycles;
    for (int64_t step = changes[i].cycle / result.step; step * result.step < end; ++step)
      result.counts[step] = std::max(result.counts[step], changes[i].count);
  }
  return result;
}

Occupancy::Word &Occupancy::wordOf(int64_t chip, SliceName slice, uint8_t bank, int64_t address) {
  auto &words = banks[indexOf(chip, slice, bank)];
  if (words.empty())
    words.resize(machine.words);
  return words[address];
}

void Occupancy::place(int64_t chip, SliceName slice, uint8_t bank, int64_t address) {
  wordOf(chip, slice, bank, address) = {0, 0};
}

void Occupancy::read(int64_t chip, const QueueName &queue, uint8_t bank, int64_t address, int64_t cycle) {
  Word &word = wordOf(chip, {queue.hemisphere, queue.index}, bank, address);
  word.last = std::max(word.last, cycle + 1);
}

void Occupancy::write(int64_t chip, const QueueName &queue, uint8_t bank, int64_t address, int64_t cycle) {
  SliceName slice{queue.hemisphere, queue.index};
  Word &word = wordOf(chip, slice, bank, address);
  if (word.begin >= 0)
    closed[indexOf(chip, slice, 0) / machine.banks].add(word.begin, word.last);
  word = {cycle, cycle + 1};
}

void Occupancy::update(int64_t chip, const QueueName &queue, uint8_t bank, int64_t address, int64_t cycle) {
  read(chip, queue, bank, address, cycle);
}

void Occupancy::keep(int64_t chip, SliceName slice, uint8_t bank, int64_t address, int64_t end) {
  wordOf(chip, slice, bank, address).last = end;
}

void Occupancy::finish(int64_t cycles) {
  int64_t perChip = machine.hemispheres * machine.slices;
  Coverage chip;
  for (size_t index = 0; index * machine.banks < banks.size(); ++index) {
    auto slice = static_cast<int64_t>(index);
    SliceUse use{
        slice / perChip,
        {static_cast<uint8_t>(slice % perChip / machine.slices), static_cast<uint16_t>(slice % machine.slices)},
        0,
        0,
        {}};
    Coverage words = std::move(closed[index]);
    for (int64_t bank = 0; bank < machine.banks; ++bank)
      for (const Word &word : banks[slice * machine.banks + bank])
        if (word.begin >= 0) {
          words.add(word.begin, word.last);
          ++use.touched;
        }
    if (use.touched > 0) {
      std::vector<Coverage::Change> changes = words.changes();
      for (const Coverage::Change &change : changes)
        use.peak = std::max(use.peak, change.count);
      use.needed = highest(changes, cycles);
      chip.add(words);
      uses.push_back(std::move(use));
    }
    if ((slice + 1) % perChip == 0) {
      if (std::vector<Coverage::Change> changes = chip.changes(); !changes.empty())
        needed[slice / perChip] = highest(changes, cycles);
      chip = {};
    }
  }
}

} // namespace quadrille::tsp
