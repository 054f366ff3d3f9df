// What is under way on the channels (Effects.h): for each the bursts that drive it, as progressions of diagonals.
#pragma once

#include "target/tsp/Work.h"

namespace quadrille::tsp {

class Channels {
public:
  explicit Channels(const Architecture &machine, int64_t chips)
      : machine(machine), list(chips * channelCount(machine)) {}

  // Everything that the burst drives. An error when another drives the same place in the same cycle.
  llvm::Error add(const std::shared_ptr<Work> &work, const Queues &queues);

  // The driver that issues `from` .. of `reader` meet at one of their reads, as far as it is one burst that has been
  // executed.
  struct Found {
    Work *driver = nullptr;      // null: not driven
    int64_t count = 0;           // 0: driven, and not executed yet
    int64_t first = 0, step = 0; // issues of the driver: first + k * step
    uint8_t part = 0;
    int64_t coordinate = 0; // where it was put on the channel
  };
  Found find(const Work &reader, const ChannelEnd &read, int64_t from, int64_t count) const;

  // All reads of the next `count` issues, which are then executed: shortens `count` to what the drivers have executed.
  // An error when one is not driven.
  llvm::Error find(const Context &context, const Work &reader, int64_t &count,
                   llvm::SmallVectorImpl<Found> &found) const;
  Vectors vectors(const Context &context, const Found &found) const;

  // Drops what no issue from `cycle` on can meet.
  void drop(int64_t cycle);

  // After the last issue: the first vector on a link that was never taken.
  std::optional<LeftOver> leftOver();

private:
  struct Run {
    Progression diagonals;
    int64_t place, coordinate;
    uint8_t part;
    std::shared_ptr<Work> work;
  };
  void noteIfNotTaken(uint32_t channel, const Run &run);

  const Architecture &machine;
  std::optional<std::pair<Issue, uint32_t>> firstNotTaken; // with its channel
  std::vector<llvm::SmallVector<Run, 2>> list;             // by channel
  std::vector<uint32_t> active;                            // channels with runs
};

} // namespace quadrille::tsp
