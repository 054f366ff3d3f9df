// The memory over time: how many words of each slice hold something that is still needed, from when it is written (or
// the start) to its last reading (or the end, for outputs).
#pragma once

#include "target/tsp/Code.h"

#include <map>
#include <vector>

namespace quadrille::tsp {

// Counts over time in steps of equal length, which doubles as time goes on: a bounded number of steps.
class Histogram {
public:
  // Adds one to the steps of [begin, end).
  void add(int64_t begin, int64_t end);
  int64_t step() const { return length; }
  // The highest count in each step, at most `mostSteps`. A word counts in every step that it touches.
  std::vector<int64_t> counts() const;
  static constexpr size_t mostSteps = 512;

private:
  int64_t length = 1;
  std::vector<int64_t> changes; // by step: begins minus ends before it
};

class Occupancy {
public:
  explicit Occupancy(const Architecture &machine, int64_t chips)
      : machine(machine), banks(chips * machine.hemispheres * machine.slices * machine.banks) {}

  void place(int64_t chip, SliceName slice, uint8_t bank, int64_t address);
  void read(int64_t chip, const QueueName &queue, uint8_t bank, int64_t address, int64_t cycle);
  void write(int64_t chip, const QueueName &queue, uint8_t bank, int64_t address, int64_t cycle);
  // Part of the word: it is needed from its beginning on.
  void update(int64_t chip, const QueueName &queue, uint8_t bank, int64_t address, int64_t cycle);
  // An output's word is needed until the end.
  void keep(int64_t chip, SliceName slice, uint8_t bank, int64_t address, int64_t end);

  // Call when the program has ended, once.
  void finish();

  struct SliceUse {
    int64_t chip;
    SliceName slice;
    int64_t touched = 0; // words ever written
    int64_t peak = 0;    // words needed at once
    const Histogram *words = nullptr;
  };
  std::vector<SliceUse> slices() const;            // those that were touched
  const Histogram *chipWords(int64_t chip) const { // null when nothing was needed
    auto found = chips.find(chip);
    return found == chips.end() ? nullptr : &found->second;
  }

private:
  struct Word {
    int64_t begin = -1, last = -1; // begin -1: never written
  };
  size_t indexOf(int64_t chip, SliceName slice, uint8_t bank) const {
    return ((chip * machine.hemispheres + slice.hemisphere) * machine.slices + slice.slice) * machine.banks + bank;
  }
  Word &wordOf(int64_t chip, SliceName slice, uint8_t bank, int64_t address);
  void close(size_t bank, const Word &word);

  const Architecture &machine;
  std::vector<std::vector<Word>> banks; // empty until used
  std::map<size_t, Histogram> bySlice;
  std::map<int64_t, Histogram> chips;
};

} // namespace quadrille::tsp
