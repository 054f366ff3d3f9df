// The cycles of vertices, by the formulas of their codelets.
#pragma once

#include "target/ipu/Code.h"
#include "target/ipu/CycleModel.h"

namespace quadrille::ipu {

// Tile cycles of a supervisor vertex, worker cycles of a worker vertex. The vertex must have no parameterProblem.
int64_t cyclesOf(const Vertex &vertex, llvm::ArrayRef<BlockExpression> expressions, const CycleModel &cycles);

// Tile cycles of an elementwise vertex for `count` elements: the prologue of the formulas once, and the loops of all
// operations one after the other, since a fused expression has each of its instructions for every element too. Where
// operations spell out a function that has a loop of its own, that one stands for them.
int64_t cyclesOfMap(const BlockExpression &expression, int64_t count, bool inPlace, const CycleModel &cycles);

} // namespace quadrille::ipu
