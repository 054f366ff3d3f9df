// The loops behind BlockEvaluator: one function for each opcode and host type, for the best vector set of this CPU.
#pragma once

#include "numerics/BlockExpression.h"

#include <cstddef>

namespace quadrille {

// An operand of a kernel: `mask` is all ones for an array, 0 for one value that is repeated kernelGranule times.
struct BlockSource {
  const void *data;
  size_t mask;
};

// Kernels work on whole groups of this many elements: arrays are readable and writable up to the next multiple.
constexpr size_t kernelGranule = 64;

// destination[i] = op(sources[0][i & mask], ...) for i < count. The destination may be one of the sources.
using BlockKernel = void (*)(void *destination, const BlockSource *sources, size_t count);

// Kernel of an arithmetic opcode on operands of a host type (f32, f64, i8..i64, u8..u64, bool); null when there is
// none.
BlockKernel arithmeticKernel(BlockOpcode opcode, ElementType type);

// Kernel of an elementary function (exp .. erf, power, atan2) for f32 or f64; null for other opcodes.
BlockKernel elementaryKernel(BlockOpcode opcode, ElementType type);

// Folding with an associative opcode: lanes[i mod foldLanes] = op(lanes[i mod foldLanes], values[i]) for i < count, in
// order. Both are aligned arrays of the host type and do not overlap. Null for opcodes that cannot fold.
constexpr size_t foldLanes = 16;
using FoldKernel = void (*)(void *lanes, const void *values, size_t count);
FoldKernel foldKernel(BlockOpcode opcode, ElementType type);

} // namespace quadrille
