// Conversion between element types: one definition of each, for arrays, on the widest vectors that the CPU has.
//
// Rules (those of BlockExpression's `convert`):
//  - to a float: round to nearest, ties to even, once, whatever the source (f64 and i64 to f16 do not pass
//    through f32).
//    Beyond the largest finite value by half an ulp or more: infinity, or NaN where the format has none.
//    Infinity to a format without one is NaN; NaN stays NaN; f8*fnuz has no -0, so -0 becomes 0.
//  - float to integer: truncates toward zero and saturates; NaN gives 0.
//  - integer to integer: wraps modulo 2^bits.
//  - to bool: "not equal to zero" (NaN is true); from bool: 0 or 1.
//  - `saturate` clamps to the result's finite range instead: what overflows (infinities too) becomes the largest finite
//    value of its sign, integers clamp instead of wrapping, NaN stays NaN. For f8 this is ONNX Cast's `saturate`.
// Sources may be arbitrarily aligned (mapped files); destinations are aligned to their element. All functions are
// serial: callers cut large arrays with parallelFor.
#pragma once

#include "numerics/ElementType.h"
#include "numerics/Tensor.h"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace quadrille {

// `count` elements of type `from` at `source` to type `to` at `destination`. The ranges must not overlap, but may be
// the same if from == to.
void convert(ElementType from, const void *source, ElementType to, void *destination, size_t count,
             bool saturate = false);

// A tensor's elements in another type; the tensor itself when it has that type already.
Tensor convert(const Tensor &tensor, ElementType to, bool saturate = false);

// A tensor's elements as float, double or int64_t: a copy, as those of a mapped file are not aligned.
template <typename T> std::vector<T> valuesOf(const Tensor &tensor) {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, int64_t>);
  constexpr ElementType type = std::is_same_v<T, float>    ? ElementType::f32
                               : std::is_same_v<T, double> ? ElementType::f64
                                                           : ElementType::i64;
  std::vector<T> values(static_cast<size_t>(tensor.elements()));
  convert(tensor.type(), tensor.bytes().data(), type, values.data(), values.size());
  return values;
}

// The two hot halves of it.
void widenToF32(ElementType from, const void *source, float *destination, size_t count);
void narrowFromF32(ElementType to, const float *source, void *destination, size_t count, bool saturate = false);

// Rounds each f32 in place to the values that `type` (a float of at most 32 bits) can hold, nearest even.
void roundF32To(ElementType type, float *values, size_t count);

// f32 to a narrower float with stochastic rounding: a value between two neighbours goes up with probability equal to
// its distance from the lower one in ulp (granular to 2^-31 ulp where the target is subnormal, else exact). Element i
// takes word i of the stream of `randomBits(seed)` at firstIndex + i, so the result depends on seed and index alone. A
// value past the largest finite one may round to the next code, infinity or NaN, unless `saturate` is set.
void narrowStochastic(ElementType to, const float *source, void *destination, size_t count, uint64_t seed,
                      uint64_t firstIndex, bool saturate = false);

// Words firstIndex .. firstIndex + count - 1 of the Philox4x32-10 stream of `seed` (J. Salmon et al., "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011): word i is component i mod 4 of Philox(counter = (i / 4, 0), key = seed).
void randomBits(uint64_t seed, uint64_t firstIndex, uint32_t *destination, size_t count);

// One value to and from its bits (zero-extended to 64), by the rules above. For constants; arrays use `convert`.
uint64_t bitsFromDouble(ElementType type, double value, bool saturate = false);
double doubleFromBits(ElementType type, uint64_t bits);

// Sub-byte types packed as ONNX does: element 0 in the low bits of byte 0. `type` is i4, u4, i2 or u2.
size_t packedByteSize(ElementType type, size_t count);
void unpackSubByte(ElementType type, const void *packed, void *destination, size_t count);
// Values outside the type's range wrap; unused high bits of the last byte are zero.
void packSubByte(ElementType type, const void *source, void *packed, size_t count);

} // namespace quadrille
