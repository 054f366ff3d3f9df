// Functions that poplibs has a loop of its own for, found in expressions that spell them out.
#pragma once

#include "numerics/BlockExpression.h"

#include <vector>

namespace quadrille::ipu {

struct KnownFunction {
  enum class Name : uint8_t { GeluErf, GeluTanh } name;
  Register result;
  std::vector<bool> operations; // by register: it belongs to the function, and nothing else reads it but the result
};

// GELU, 0.5 x (1 + erf(x / sqrt 2)) or the form with tanh, however it is written: what agrees at points all over its
// range is it. Functions have no operation in common. The expression verifies.
std::vector<KnownFunction> knownFunctions(const BlockExpression &expression);

} // namespace quadrille::ipu
