// Other element types for values, where machines hold them so.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::graph {

// The body where input `read` comes as `type` and is converted to what it was; `through` may also be Bitcast.
void retypeInput(BlockExpression &body, size_t read, ElementType type, BlockOpcode through = BlockOpcode::Convert);
// The body where result `write` is converted to `type`.
void retypeResult(BlockExpression &body, size_t write, ElementType type, BlockOpcode through = BlockOpcode::Convert);

// Holds 64-bit integers in 32 bits, padding and initial values included; bounds of the wide type become those of the
// narrow one. Empty, or which constant has values beyond 32 bits.
std::string holdIn32Bits(KernelGraph &graph);
// Holds integers of less than 8 bits in 8, and floats of 8 bits as their bits, u8. Kernels compute in the types that
// they had. Scans and composites must be expanded.
void holdInBytes(KernelGraph &graph);
// The type in which holdIn32Bits holds values of a type.
ElementType heldIn32Bits(ElementType type);

} // namespace quadrille::graph
