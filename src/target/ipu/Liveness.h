// Which memory of a tile holds what is still needed, step by step.
#pragma once

#include "program/Program.h"
#include "target/ipu/Code.h"

#include <vector>

namespace quadrille::ipu {

struct Liveness {
  uint32_t tile = 0;
  int64_t alwaysLive = 0; // bytes that hold weights, states or nothing that any step writes
  std::vector<int64_t>
      temporary; // by step: other bytes that have been written, and that a later step or the host reads
  // The step with most temporary bytes.
  size_t peakStep() const;
};

// Of one tile in one entry point; of a step that is repeated the most bytes. The program must be well-formed.
Liveness livenessOf(uint32_t tile, const program::Program &program, const Code &code, const Architecture &machine,
                    size_t entry);

} // namespace quadrille::ipu
