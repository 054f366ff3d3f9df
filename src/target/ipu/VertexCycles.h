// The cycles of vertices, by the formulas of their codelets.
#pragma once

#include "target/ipu/Code.h"
#include "target/ipu/CycleModel.h"

namespace quadrille::ipu {

// Tile cycles of a supervisor vertex, worker cycles of a worker vertex. The vertex must have no parameterProblem.
int64_t cyclesOf(const Vertex &vertex, llvm::ArrayRef<BlockExpression> expressions, const CycleModel &cycles);

} // namespace quadrille::ipu
