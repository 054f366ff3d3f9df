// What the queues of an entry point issue, as the legality check sees it: an instruction with its Repeat is one run.
#pragma once

#include "target/tsp/Hazard.h"
#include "target/tsp/Progression.h"

#include "llvm/ADT/STLFunctionalExtras.h"

namespace quadrille::tsp {

// Issues of one instruction at equal distances; `first` counts its issues before these.
struct IssueRun {
  uint32_t queue = 0, instruction = 0;
  int64_t first = 0;
  Progression cycles;

  int64_t count() const { return cycles.count; }
  Issue issue(int64_t k) const { return {cycles.at(k), queue, instruction, first + k}; }
  IssueRun part(int64_t from, int64_t length) const {
    return {queue, instruction, first + from, cycles.part(from, length)};
  }
};

// Where an issue stands among all: what takes effect in a cycle precedes its use. Matrix instructions come first,
// weights before their install, installs before activations, activations before sums; memory comes last.
struct Moment {
  int64_t cycle = 0;
  uint8_t rank = 0; // of the opcode; 0: before all that is issued in that cycle
  uint32_t queue = 0;
  auto operator<=>(const Moment &) const = default;
};
inline Moment momentOf(const Issue &issue, const Queues &queues) {
  uint8_t opcode = queues[issue.queue].instructions[issue.instruction].opcode;
  constexpr uint8_t behind = 128; // all opcodes
  bool memory = opcode < static_cast<uint8_t>(Opcode::LoadWeights);
  return {issue.cycle, static_cast<uint8_t>(memory ? opcode + behind : opcode), issue.queue};
}

struct IssueRuns {
  struct Problem {
    Issue issue; // of an instruction of the queue itself
    std::string message;
  };
  std::vector<IssueRun> runs;     // queue after queue up to their syncs, and so on: ascending within each queue
  std::vector<Problem> problems;  // each ends its queue
  std::vector<Issue> notReleased; // syncs, in the order of their queues
};

IssueRuns issueRuns(const Queues &queues, const Architecture &machine);

// Visits issues of runs that may overlap in the order of their moments, in parts as long as no issue of another run
// comes between. `visit` returns whether to go on.
void forEachInOrder(std::vector<IssueRun> runs, const Queues &queues,
                    llvm::function_ref<bool(const IssueRun &part)> visit);

} // namespace quadrille::tsp
