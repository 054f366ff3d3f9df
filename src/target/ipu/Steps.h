// The time of a program: which steps run when on which IPU, from its compute sets and exchanges alone.
//
// Bulk-synchronous: tiles run on by themselves from vertex to vertex until an exchange; there the tiles of the IPUs
// that take part wait for each other, then the exchange begins on all of them at once.
#pragma once

#include "target/ipu/Code.h"
#include "target/ipu/CycleModel.h"
#include "target/ipu/Exchanges.h"

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/Support/Error.h"

#include <array>
#include <map>

namespace quadrille::ipu {

// What one execution of a compute set takes.
struct ComputeTime {
  std::vector<std::pair<uint32_t, int64_t>> tiles; // those with vertices, and their cycles
  int64_t maximum = 0;
  uint32_t worstTile = 0;
  double mean = 0; // over those tiles
};

// Cycles by what they are spent on.
using ByPurpose = std::array<int64_t, purposes>;
int64_t sumOf(const ByPurpose &cycles);

ComputeTime timeOfSet(const ComputeSet &set, llvm::ArrayRef<BlockExpression> expressions, const Architecture &machine,
                      const CycleModel &cycles);

// A step as it was executed, on one IPU.
struct StepTime {
  uint32_t step = 0; // of the entry point
  int64_t ipu = 0;
  int64_t begin = 0, end = 0; // of an exchange: with the barrier
  int64_t sync = 0;           // cycles of the barrier at its beginning
  int64_t wait = 0;           // that the first tile had waited for the last one before it
};

// What an IPU did from the end of an exchange until its last tile came to the next one: what that tile executed, since
// the others waited for it.
struct Path {
  struct Part {
    uint32_t step = 0;
    ByPurpose cycles = {};
  };
  int64_t ipu = 0;
  uint32_t tile = 0;
  int64_t begin = 0, end = 0; // the parts' cycles lie between them, without a gap
  std::vector<Part> parts;    // in the order of execution
};

class Steps {
public:
  Steps(const Code &code, size_t entry, const Architecture &machine, const CycleModel &cycles, int64_t ipus);

  // Calls `execute` for every step in the order of execution, Repeats unrolled. Stops with its error. A path is
  // observed before the exchange that ends it.
  llvm::Error run(llvm::function_ref<llvm::Error(const Step &step)> execute,
                  llvm::function_ref<void(const StepTime &time)> observe,
                  llvm::function_ref<void(const Path &path)> observePath);

  int64_t cycles() const; // so far
  const ComputeTime &timeOf(uint32_t computeSet) const { return computeTimes[computeSet]; }
  const std::map<int64_t, ExchangeTime> &exchangeTimeOf(uint32_t exchange) const { return exchangeTimes[exchange]; }

private:
  llvm::MutableArrayRef<int64_t> clocksOf(int64_t ipu);
  Path endPath(int64_t ipu);

  const Code &code;
  const std::vector<Step> &steps;
  const Architecture &machine;
  const CycleModel &model;
  int64_t ipus;
  std::vector<ComputeTime> computeTimes;
  std::vector<std::map<int64_t, ExchangeTime>> exchangeTimes;
  std::vector<int64_t> clocks;                                      // by tile
  std::vector<int64_t> pathBegins;                                  // by IPU
  std::vector<std::vector<uint32_t>> pathSteps;                     // by IPU: compute sets executed since then
  std::map<std::pair<uint32_t, uint32_t>, ByPurpose> knownPurposes; // by compute set and tile
};

// Cycles of the first entry point of a program.
llvm::Expected<int64_t> latencyOf(const program::Program &program, const Architecture &machine,
                                  const CycleModel &cycles);

} // namespace quadrille::ipu
