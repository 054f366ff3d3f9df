// The memory over time: how many words of each slice hold something that is still needed, from when it is written (or
// the start) to its last reading (or the end, for outputs).
#pragma once

#include "target/tsp/Code.h"

#include <map>
#include <utility>
#include <vector>

namespace quadrille::tsp {

// How many intervals of time cover each cycle.
class Coverage {
public:
  // [begin, end)
  void add(int64_t begin, int64_t end);
  void add(const Coverage &other);

  struct Change {
    int64_t cycle, count; // from that cycle on
  };
  // Exact, ascending in the cycle. Sorts what was added.
  std::vector<Change> changes();

private:
  void compact();

  // An end and a beginning in one cycle cancel out.
  std::vector<int64_t> begins, ends;
  size_t limit = 1 << 16; // compact at this size
};

// The highest count in each of at most `mostSteps` steps of equal length.
struct Highest {
  static constexpr int64_t mostSteps = 512;
  int64_t step = 1;
  std::vector<int64_t> counts;
};
Highest highest(const std::vector<Coverage::Change> &changes, int64_t cycles);

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

  // When the word was last written as a whole (dispatch): 0 for what is there from the start.
  int64_t writtenAt(int64_t chip, const QueueName &queue, uint8_t bank, int64_t address) const {
    return banks[indexOf(chip, {queue.hemisphere, queue.index}, bank)][address].begin;
  }

  // Call when the program has ended, once.
  void finish(int64_t cycles);

  struct SliceUse {
    int64_t chip;
    SliceName slice;
    int64_t touched = 0; // words ever written
    int64_t peak = 0;    // words needed at once
    Highest needed;      // over time
  };
  // Those that were touched, and words needed on each chip that has some; after `finish`.
  const std::vector<SliceUse> &slices() const { return uses; }
  const std::map<int64_t, Highest> &chips() const { return needed; }

private:
  struct Word {
    int64_t begin = -1, last = -1; // begin -1: never written
  };
  size_t indexOf(int64_t chip, SliceName slice, uint8_t bank) const {
    return ((chip * machine.hemispheres + slice.hemisphere) * machine.slices + slice.slice) * machine.banks + bank;
  }
  Word &wordOf(int64_t chip, SliceName slice, uint8_t bank, int64_t address);

  const Architecture &machine;
  std::vector<std::vector<Word>> banks; // empty until used
  std::map<size_t, Coverage> closed;    // by slice: of words that were written again
  std::vector<SliceUse> uses;
  std::map<int64_t, Highest> needed; // by chip
};

} // namespace quadrille::tsp
