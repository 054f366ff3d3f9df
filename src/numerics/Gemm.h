// Matrix products in the arithmetics that the machines have. C = A * B (+ C), row-major, in batches.
//
// All forms: `a` is m x k (k x m if transposeA), `b` is k x n (n x k if transposeB), `c` is m x n; leading dimensions
// and batch strides in elements; a batch stride of 0 shares that operand. `accumulate` adds to what C holds, else C is
// overwritten. k = 0 gives zeros (or C unchanged). Results are the same for every number of threads.
#pragma once

#include "numerics/ElementType.h"

#include <cstdint>

namespace quadrille {

struct GemmShape {
  int64_t m = 0, n = 0, k = 0;
  bool transposeA = false, transposeB = false;
  int64_t leadingA = 0, leadingB = 0, leadingC = 0; // 0: dense
  int64_t batch = 1;
  int64_t batchStrideA = 0, batchStrideB = 0, batchStrideC = 0; // used when batch > 1
  bool accumulate = false;
};

// Every element of C is one chain of fused multiply-adds over ascending k, starting from C or zero: the same bits on
// every CPU with fused multiply-add, whatever the shape of the rest.
void gemmF32(const GemmShape &shape, const float *a, const float *b, float *c);
void gemmF64(const GemmShape &shape, const double *a, const double *b, double *c);

// a and b of type f16, bf16, cb16, an 8-bit float, or f32, each its own; exact products where both have at most 12
// significant bits, accumulated in f32 as gemmF32 does. Operands are widened a panel at a time.
void gemmNarrow(const GemmShape &shape, ElementType typeA, const void *a, ElementType typeB, const void *b, float *c);

// Sums of (a - zeroA) * (b - zeroB) exactly, modulo 2^32. typeA, typeB: i8 or u8, each its own.
void gemmInteger8(const GemmShape &shape, ElementType typeA, const void *a, int32_t zeroA, ElementType typeB,
                  const void *b, int32_t zeroB, int32_t *c);

// Exact modulo 2^32 (i16, i32 operands) and modulo 2^64.
void gemmI16(const GemmShape &shape, const int16_t *a, const int16_t *b, int32_t *c);
void gemmI32(const GemmShape &shape, const int32_t *a, const int32_t *b, int32_t *c);
void gemmI64(const GemmShape &shape, const int64_t *a, const int64_t *b, int64_t *c);

// The once-rounded block form: k is cut into blocks of `blockLength` (the last may be shorter). The dot product of each
// block is the exact sum rounded once to f32 (nearest even); blocks are added in f32 in order, starting from C if
// `accumulate` is set, else from the first block. a and b hold f16 values (type f16, or f32 arrays whose values are f16
// numbers: the caller promises). Infinities and NaN follow IEEE rules: a NaN, inf * 0, or inf - inf gives NaN.
// blockLength is at most 1024.
void gemmOnceRounded(const GemmShape &shape, int64_t blockLength, ElementType typeA, const void *a, ElementType typeB,
                     const void *b, float *c);

} // namespace quadrille
