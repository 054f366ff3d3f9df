// Integers computed in f32, which the tile's vector units take two at a time where integers take several cycles each.
#pragma once

#include "numerics/BlockExpression.h"

#include "llvm/ADT/ArrayRef.h"

#include <optional>
#include <vector>

namespace quadrille::ipu {

// Values that a register takes: finite, and whole numbers if `whole`.
struct Range {
  double low = 0, high = 0;
  bool whole = false;
};

// The expression with integers of up to 24 bits, as far as their ranges are known, held in f32, which holds them
// exactly: the results are the same bits. `inputs`: of each read, if more is known than its type.
BlockExpression integersInF32(const BlockExpression &expression, llvm::ArrayRef<std::optional<Range>> inputs);

} // namespace quadrille::ipu
