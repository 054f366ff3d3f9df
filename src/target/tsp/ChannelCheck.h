// The legality check of what travels on channels: every vector that is read is driven, no two drivers meet, what comes
// over a link is taken.
#pragma once

#include "target/tsp/Effects.h"
#include "target/tsp/Findings.h"

namespace quadrille::tsp {

// Indices of a run's issues, first to last.
struct IndexRange {
  int64_t first, last;
};

class ChannelCheck {
public:
  ChannelCheck(const Architecture &machine, const Queues &queues, const std::vector<IssueRun> &runs, Findings &findings)
      : machine(machine), queues(queues), runs(runs), findings(findings),
        drivers(queues.chipCount() * channelCount(machine)), readers(drivers.size()) {}

  void add(uint32_t run, const Effects &effects);

  void resolve();

  // Ascending ranges of issues of a gather or scatter for which an operand is missing: such an issue does nothing. They
  // may overlap.
  llvm::ArrayRef<IndexRange> withoutOperands(uint32_t run) const {
    auto found = missing.find(run);
    return found == missing.end() ? llvm::ArrayRef<IndexRange>() : llvm::ArrayRef<IndexRange>(found->second);
  }

private:
  // What a run does to consecutive channels alike: many streams carry the weights of a LoadWeights.
  struct Ends {
    uint32_t run;
    int32_t place;
    int64_t delay; // from the dispatch to the diagonal
    uint8_t index; // of the first one among the ends of the run
    uint8_t width; // channels
  };
  // What it does to one channel.
  struct End {
    Progression span; // of diagonals
    int32_t place;
    uint32_t run;
    uint8_t index;
  };
  using EndsByChannel = std::vector<std::vector<Ends>>; // by the first channel
  class Channel;

  void list(EndsByChannel &to, uint32_t run, llvm::ArrayRef<ChannelEnd> ends);
  std::vector<End> endsOf(const EndsByChannel &from, uint32_t channel) const;

  const Architecture &machine;
  const Queues &queues;
  const std::vector<IssueRun> &runs;
  Findings &findings;
  EndsByChannel drivers, readers;
  uint32_t widest = 1;
  std::map<uint32_t, std::vector<IndexRange>> missing;
  size_t missingRanges = 0;
};

} // namespace quadrille::tsp
