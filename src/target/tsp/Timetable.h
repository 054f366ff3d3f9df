// Where and when a program's instructions go: what is taken of queues and streams, and the earliest time at which a
// group of instructions finds all that it needs. The compiler's own book; the checker does not see it.
#pragma once

#include "target/tsp/Effects.h"

#include <map>
#include <optional>
#include <string>

namespace quadrille::tsp {

// An instruction and how often it is issued, `interval` cycles apart. `cycle` of its first dispatch counts from the
// start of its group.
struct Step {
  QueueName queue;
  Instruction instruction;
  int64_t cycle = 0;
  int64_t count = 1;
  uint32_t value = 0; // of accesses to memory: whose words they are
  int64_t interval = 1;

  int64_t last() const { return cycle + (count - 1) * interval; }
};

class Timetable {
public:
  explicit Timetable(const Architecture &machine);

  // The earliest start from `from` on at which the group has its queues and streams to itself, from where each vector
  // is driven to where the group reads it last. Every stream that the group reads is driven by the group. Steps of the
  // same queue may follow each other without a break, but no more than a buffer of instructions holds. What comes over
  // a link is there when the sender's timetable says so (CompileLinks.cpp). Groups that read one and the same word in
  // every cycle, as constants are, share the vectors.
  int64_t earliest(llvm::ArrayRef<Step> group, int64_t from) const;
  // Whether some of the group's steps want the same thing at once, or drive vectors in front of others of the group, of
  // which then nobody sees any.
  bool meetsItself(llvm::ArrayRef<Step> group) const;
  void place(llvm::ArrayRef<Step> group, int64_t start, uint32_t node);

  // Cycles between the starts of two steps of a queue for which fetches keep up.
  int64_t spacing() const;
  // How many steps of a queue may follow each other without a cycle between two of them.
  int64_t stepsTogether() const;

  // Empty, or which read finds other words than those of its value: a mistake of the compiler that the checker, which
  // does not know values, cannot find. `initial` are values that lie in memory from the start.
  std::string misread(llvm::ArrayRef<uint32_t> initial) const;

  // The cycle behind the last dispatch, and how many steps have been placed.
  int64_t end() const { return behind; }
  int64_t steps() const { return placedSteps; }
  // Nothing is dispatched before this cycle.
  void beginAt(int64_t cycle) { begin = cycle; }

  // The queues' code: idle times, and fetches where there is room for them between instructions.
  std::vector<Queue> queues() const;

private:
  // A word that is read in every cycle, and the stream that it goes to.
  struct Word {
    size_t queue = 0; // its resource
    uint32_t value = 0;
    int32_t bank = 0, address = 0;
    uint8_t stream = 0;
    auto operator<=>(const Word &) const = default;
  };
  // Cycles of a queue, begin, begin + interval, ... before end; or diagonals of a channel, between two places.
  struct Use {
    size_t resource; // channels first, then queues
    int64_t begin, end;
    int64_t firstPlace, lastPlace;
    int64_t interval = 1;
    int64_t behind = 0; // of the end: cycles behind the last access
    std::optional<Word> word = std::nullopt;
    bool operator==(const Use &) const = default;
  };
  // Steps of a queue that follow each other without time for fetches: one use of it, which fetches wait for.
  struct Turn {
    size_t queue; // its resource
    int64_t begin, end, steps;
    std::optional<Word> word;
  };
  // The outcome of a search: nothing from `from` on before `start`.
  struct Found {
    std::vector<Use> uses;
    int64_t from = 0, start = 0;
  };
  // How much later `use` must begin than `start` later to be clear of `other`; 0: it is.
  int64_t delayBehind(const Use &use, int64_t start, const Use &other) const;
  struct Placed {
    Step step; // with its cycle counted from the start of the program
    uint32_t node;
  };
  // `hidden`: whether there are vectors that no step of the group reads.
  std::vector<Use> usesOf(llvm::ArrayRef<Step> group, bool *hidden = nullptr) const;
  std::optional<Word> wordOf(const Step &step) const;
  // With the cycles before and behind that fetches need.
  Use useOf(const Turn &turn) const;
  // Those of a group, of which several become one where these cycles meet.
  std::vector<Use> turnsOf(std::vector<Turn> turns) const;
  // The cycles, with those in which the word is read already before, behind and meanwhile.
  std::pair<int64_t, int64_t> joined(const Word &word, int64_t begin, int64_t end) const;
  // Adds a read of one word to these; returns the cycles of all of it.
  std::pair<int64_t, int64_t> join(const Word &word, const Step &step, uint32_t node);
  size_t indexOf(const QueueName &queue) const;
  static int64_t bucketOf(int64_t cycle) { return std::max<int64_t>(cycle, 0) / span; }
  llvm::ArrayRef<Use> takenIn(size_t resource, int64_t bucket) const;
  void emit(const QueueName &name, std::vector<Placed> steps, Queue &queue) const;

  static constexpr int64_t instructionsOfStep = 4; // idle time, itself, its Repeat, a share of the fetches
  static constexpr int64_t span = 256;             // cycles that one bucket of `taken` covers
  static constexpr size_t searchesKept = 8192;
  const Architecture &machine;
  int64_t begin = 0, behind = 0, placedSteps = 0;
  int64_t indices, ports; // of queues, at most
  // By resource and the buckets of begin .. end - 1, ascending in begin.
  std::vector<std::vector<std::vector<Use>>> taken;
  std::map<QueueName, std::vector<Placed>> placed; // those with a count of 0 have become part of others
  struct Run {
    int64_t end;
    size_t place; // in `placed`
  };
  std::map<Word, std::map<int64_t, Run>> runs; // of words that are read in every cycle, by first cycle
  mutable std::vector<Found> searches;         // by hash of their uses, the last of each
};

} // namespace quadrille::tsp
