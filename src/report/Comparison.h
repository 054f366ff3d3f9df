// Machines side by side for one model: docs/compare.md says what each figure is, docs/compare.schema.json the JSON.
#pragma once

#include "timeline/Timeline.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace llvm {
class raw_ostream;
} // namespace llvm

namespace quadrille::reports {

// 0 to 1: what the matrix products of one run, so many FLOPs, are of what the chips could multiply in the time from one
// run to the next. Absent without products, without a clock, and where the peak is not known.
std::optional<double> shareOfPeak(const timeline::Timeline &timeline, double productFlops);

enum class ComparisonStatus : uint8_t {
  Ok,          // a legal program with its figures; where values were asked for, they agree
  DoesNotFit,  // there is no room for the model
  Unsupported, // the machine, or our compiler for it, has not what the model or an option asks for
  NotExecuted, // values were asked for, or are needed to measure, and there are none
  Disagrees,   // the values differ from the reference
  Failed,      // a defect of Quadrille
};
const char *nameOf(ComparisonStatus status); // "does_not_fit"

struct ComparisonError {
  double relativeL2 = 0, maxAbs = 0;
};

// One machine. What follows from a program is there when there is one.
struct MachineComparison {
  std::string machine;
  ComparisonStatus status = ComparisonStatus::Ok;
  std::string reason; // one line; empty when the status is Ok

  struct Program {
    int64_t chips = 0; // of a replica
    int64_t batch = 0; // samples in a run; 0 when the model has no batch dimension
    std::string precision;
    int64_t replicas = 1;
  };
  std::optional<Program> program;
  // Without spans and tables. On a machine without a clock it counts when it was measured.
  std::optional<timeline::Timeline> timeline;
  double productFlops = 0; // of the model's matrix products in one run
  std::optional<ComparisonError> error;

  // Derived, where there is what they derive from.
  bool timed() const { return timeline && (timeline->clockHertz > 0 || timeline->hostSeconds > 0); }
  std::optional<double> latencySeconds() const; // of one run: host link, device, host link
  std::optional<double> throughput() const;     // samples a second, runs where there is no batch dimension
  std::optional<std::string> limitedBy() const; // "host link", or what the target says of its cycles
};

struct Comparison {
  std::string model; // path
  std::vector<MachineComparison> machines;
};

// A line a machine, then the reasons and how many assumed figures the cycles depend on.
void printComparison(const Comparison &comparison, llvm::raw_ostream &os);
void writeComparison(const Comparison &comparison, llvm::raw_ostream &os);

} // namespace quadrille::reports
