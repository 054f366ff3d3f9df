#include "target/tsp/Occupancy.h"

#include <algorithm>

namespace quadrille::tsp {

void Histogram::add(int64_t begin, int64_t end) {
  if (end <= begin)
    return;
  while ((end - 1) / length + 2 > static_cast<int64_t>(mostSteps)) {
    // Of two steps that become one the higher count stays.
    std::vector<int64_t> old = counts(), joined((old.size() + 1) / 2);
    for (size_t i = 0; i < old.size(); ++i)
      joined[i / 2] = std::max(joined[i / 2], old[i]);
    changes.assign(joined.size() + 1, 0);
    for (size_t i = 0; i < joined.size(); ++i) {
      changes[i] += joined[i];
      changes[i + 1] -= joined[i];
    }
    length *= 2;
  }
  auto first = static_cast<size_t>(begin / length), behind = static_cast<size_t>((end - 1) / length + 1);
  if (changes.size() <= behind)
    changes.resize(behind + 1);
  ++changes[first];
  --changes[behind];
}

std::vector<int64_t> Histogram::counts() const {
  std::vector<int64_t> result;
  int64_t count = 0;
  for (size_t i = 0; i + 1 < changes.size(); ++i)
    result.push_back(count += changes[i]);
  return result;
}

Occupancy::Word &Occupancy::wordOf(int64_t chip, SliceName slice, uint8_t bank, int64_t address) {
  auto &words = banks[indexOf(chip, slice, bank)];
  if (words.empty())
    words.resize(machine.words);
  return words[address];
}

void Occupancy::close(size_t bank, const Word &word) {
  if (word.begin < 0)
    return;
  bySlice[bank / machine.banks].add(word.begin, word.last);
  chips[static_cast<int64_t>(bank / machine.banks) / (machine.hemispheres * machine.slices)].add(word.begin, word.last);
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
  close(indexOf(chip, slice, bank), word);
  word = {cycle, cycle + 1};
}

void Occupancy::update(int64_t chip, const QueueName &queue, uint8_t bank, int64_t address, int64_t cycle) {
  read(chip, queue, bank, address, cycle);
}

void Occupancy::keep(int64_t chip, SliceName slice, uint8_t bank, int64_t address, int64_t end) {
  wordOf(chip, slice, bank, address).last = end;
}

void Occupancy::finish() {
  for (size_t bank = 0; bank < banks.size(); ++bank)
    for (const Word &word : banks[bank])
      close(bank, word);
}

std::vector<Occupancy::SliceUse> Occupancy::slices() const {
  std::vector<SliceUse> result;
  int64_t perChip = machine.hemispheres * machine.slices;
  for (const auto &[index, histogram] : bySlice) {
    auto slice = static_cast<int64_t>(index);
    SliceUse use{
        slice / perChip,
        {static_cast<uint8_t>(slice % perChip / machine.slices), static_cast<uint16_t>(slice % machine.slices)},
        0,
        0,
        &histogram};
    for (int64_t bank = 0; bank < machine.banks; ++bank)
      for (const Word &word : banks[slice * machine.banks + bank])
        use.touched += word.begin >= 0;
    for (int64_t count : histogram.counts())
      use.peak = std::max(use.peak, count);
    result.push_back(use);
  }
  return result;
}

} // namespace quadrille::tsp
