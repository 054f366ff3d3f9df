// Which operands of an operator say how and not what: they are bound as constants from the test's data.
#pragma once

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

namespace quadrille::conformance {

// Operand positions of `operation` (ONNX's default domain) that hold shapes, axes, pads, starts, ends, steps, repeats,
// k, splits, sizes, scales, regions of interest, trip counts and the like. Empty for all other operators.
llvm::ArrayRef<unsigned> howOperands(llvm::StringRef operation);

} // namespace quadrille::conformance
