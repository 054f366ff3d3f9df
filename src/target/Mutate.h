// The test of a simulator and a checker: a compiled program is changed in one field at a time, and each change must be
// noticed. docs/mutation.md defines the outcomes.
#pragma once

#include "target/Target.h"

namespace quadrille::target {

enum class Outcome : uint8_t {
  Check,      // the legality check refuses the program
  Hazard,     // execution stops with a diagnosed error, or would take more than `watchdogFactor` times as long
  WrongValue, // execution ends with outputs that differ from the unmutated program's
  Benign,     // the outputs are equal on every input tried, and nothing says they should not be
  Silent,     // a defect of the simulator or the checker; the reason says which
};
llvm::StringRef nameOf(Outcome outcome);

struct MutationResult {
  uint64_t seed = 0; // of Target::mutate
  std::string description;
  Outcome outcome = Outcome::Silent;
  std::string reason;    // the finding, the hazard, the output that differs, why it is benign or a defect
  bool proven = false;   // Benign: the target gave a proof; otherwise it was only observed
  double relativeL2 = 0; // WrongValue: of the worst output
};

struct MutationReport {
  uint64_t seed = 0;
  Cycles cycles;        // of the unmutated program
  double tolerance = 0; // of MutateOptions
  std::vector<MutationResult> results;

  int64_t count(Outcome outcome) const;
  int64_t provenBenign() const;
  // Wrong values that `run --check` would accept, since they are within the tolerance.
  int64_t withinTolerance() const;
  bool passed() const { return count(Outcome::Silent) == 0; }

  // A table of counts, then every mutation that was silent, and with `all` every other one.
  void print(llvm::raw_ostream &os, bool all = false) const;
  void writeJson(llvm::raw_ostream &os) const;
};

struct MutateOptions {
  uint64_t seed = 1; // mutations seed .. seed + count - 1 of the target
  int64_t count = 100;
  std::string entryPoint = "inference";
  double tolerance = 0; // relative L2 that `run --check` would allow
  // Inputs number 0, 1, 2: the same whenever asked, and as far as they are free independent of each other.
  std::function<llvm::Expected<NamedTensors>(uint64_t number)> inputs;
  std::function<bool(double)> progress; // as in RunOptions; false stops with what has been found
};

constexpr int64_t watchdogFactor = 16;

// Runs the unmutated program, which must be legal and run without error (its error is returned otherwise), and `count`
// mutations of it.
llvm::Expected<MutationReport> mutateAll(const Target &target, const program::Program &program,
                                         const MutateOptions &options);

} // namespace quadrille::target
