// How far two tensors are apart.
#pragma once

#include "numerics/Tensor.h"

#include <cstdint>
#include <string>

namespace quadrille::target {

// Elements count as f64 (integers above 2^53 are compared exactly first; their difference is taken in f64). With error
// e_i = actual_i - reference_i:
//   relativeL2 = sqrt(sum e_i^2) / sqrt(sum reference_i^2); the numerator alone where the reference is all zero
//   maxAbs     = max |e_i|
// NaN and infinity: a NaN matches a NaN and an infinity the same infinity, with error 0, and such elements count in
// neither sum. Where only one side is NaN, infinite, or they are infinities of opposite sign, the element is a
// mismatch: both figures are then infinite. Neither figure is ever NaN. Empty tensors agree: 0 and 0.
struct Comparison {
  double relativeL2 = 0, maxAbs = 0;
  int64_t nonFiniteMismatches = 0; // elements where NaN or infinity stands against something else
  int64_t worstElement = -1;       // index of the first element with the largest |e_i|; -1 when all are equal
};

// Types and shapes must be equal (asserted). Sums are pairwise in a fixed order: the result does not depend on the
// number of threads.
Comparison compare(const Tensor &actual, const Tensor &reference);

// A figure of a comparison for a message, with so many significant digits ("1.03", "1e-04").
std::string significant(double value, int digits);

// The same bytes. Tells -0 from 0 and one NaN from another.
bool bitwiseEqual(const Tensor &a, const Tensor &b);

} // namespace quadrille::target
