// Expressions from bytes to a byte, as sums of quantised values are: few enough pairs of operands that all of them can
// be tried.
#pragma once

#include "numerics/BlockExpression.h"

#include <optional>

namespace quadrille::tsp {

// The same function of one or two bytes, for every value that they can have, in few instructions: each operand times a
// factor, their sum rounded to the nearest integer. Where rounding on the way makes that another function whatever
// the factors, the given expression with its divisions by constants as multiplications. Nothing when the expression
// does something else, or when no factors were found with which all results are the same.
std::optional<BlockExpression> sumOfBytes(const BlockExpression &expression);

} // namespace quadrille::tsp
