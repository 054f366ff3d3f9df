// The legality check of memory: words are written before they are read, banks and ports serve what they can, outputs
// are there in the end.
#pragma once

#include "target/tsp/ChannelCheck.h"
#include "target/tsp/Layout.h"
#include "target/tsp/Meeting.h"

#include <limits>

namespace quadrille::tsp {

class MemoryCheck {
public:
  MemoryCheck(const program::Program &program, const Code &code, const Architecture &machine, const Queues &queues,
              const std::vector<IssueRun> &runs, Findings &findings)
      : program(program), code(code), machine(machine), queues(queues), runs(runs), findings(findings),
        slices(queues.chipCount() * machine.hemispheres * machine.slices), written(slices.size() * machine.banks) {}

  // Words of weights, states and the entry's inputs exist before the start; no two variables may share one. An output
  // may take the place of an input that is no longer needed.
  void placeVariables(const program::EntryPoint &entryPoint);

  // How many issues of a memory run, from its first one on, have an address that exists. The others do nothing.
  int64_t addressable(const IssueRun &run);

  // A run of issues with addresses.
  void add(uint32_t run, const Effects &effects);

  // Once all runs are known, and which of them have their operands.
  void resolve(const ChannelCheck &channels);

  void checkOutputs(const program::EntryPoint &entryPoint);

private:
  static constexpr int64_t never = std::numeric_limits<int64_t>::max(), beforeStart = -1;

  // Accesses of a run to a slice.
  struct Port {
    Progression span; // of cycles
    uint32_t run;
    uint8_t bank;
    bool reads;
  };
  struct Words {
    uint32_t run;
    int64_t completion; // from the dispatch until a write is visible
  };

  const Instruction &instructionOf(const IssueRun &run) const {
    return queues[run.queue].instructions[run.instruction];
  }
  int64_t sliceIndex(int64_t chip, SliceName slice) const {
    return (chip * machine.hemispheres + slice.hemisphere) * machine.slices + slice.slice;
  }
  int64_t sliceOf(uint32_t run) const {
    const QueueName &name = queues[runs[run].queue].name;
    return sliceIndex(queues.chipOf(runs[run].queue), {name.hemisphere, name.index});
  }
  std::vector<int64_t> &wordsOf(int64_t slice, int64_t bank) {
    auto &words = written[slice * machine.banks + bank];
    if (words.empty())
      words.assign(machine.words, never);
    return words;
  }
  void write(const Words &words, const ChannelCheck &channels);
  void read(const Words &words);
  void readRegion(const Words &words, const ChannelCheck &channels);
  void checkPorts(std::vector<Port> &ports);
  void checkPair(Holders<Port> &holders, const Port &a, const Port &b);
  bool checkAccess(Holders<Port> &holders, const Port &port, int64_t k);

  const program::Program &program;
  const Code &code;
  const Architecture &machine;
  const Queues &queues;
  const std::vector<IssueRun> &runs;
  Findings &findings;
  std::vector<std::vector<Port>> slices;
  std::vector<Words> accesses;
  // By bank and address: since when the word can be read. It holds something ever after, so of all its writes only the
  // first to be visible matters.
  std::vector<std::vector<int64_t>> written;
};

} // namespace quadrille::tsp
