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

namespace quadrille::ipu {

// What one execution of a compute set takes.
struct ComputeTime {
  std::vector<std::pair<uint32_t, int64_t>> tiles; // those with vertices, and their cycles
  int64_t maximum = 0;
  uint32_t worstTile = 0;
  double mean = 0; // over those tiles
};

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

class Steps {
public:
  Steps(const Code &code, size_t entry, const Architecture &machine, const CycleModel &cycles, int64_t ipus);

  // Calls `execute` for every step in the order of execution, Repeats unrolled. Stops with its error.
  llvm::Error run(llvm::function_ref<llvm::Error(const Step &step)> execute,
                  llvm::function_ref<void(const StepTime &time)> observe);

  int64_t cycles() const; // so far
  const ComputeTime &timeOf(uint32_t computeSet) const { return computeTimes[computeSet]; }
  const std::map<int64_t, ExchangeTime> &exchangeTimeOf(uint32_t exchange) const { return exchangeTimes[exchange]; }

private:
  const std::vector<Step> &steps;
  const Architecture &machine;
  int64_t ipus;
  std::vector<ComputeTime> computeTimes;
  std::vector<std::map<int64_t, ExchangeTime>> exchangeTimes;
  std::vector<int64_t> clocks; // by tile
};

// Cycles of the first entry point of a program.
llvm::Expected<int64_t> latencyOf(const program::Program &program, const Architecture &machine,
                                  const CycleModel &cycles);

} // namespace quadrille::ipu
