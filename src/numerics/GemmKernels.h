// The inner part of Gemm.h: one rectangle of C at a time, operands packed into panels that stay in L2, a register tile
// at the centre. Every element of C is summed over k in ascending order, one fused multiply-add for each step (f32,
// f64) or exactly (integers, the once-rounded form), so results depend neither on the cut into rectangles nor on
// threads.
#pragma once

#include "numerics/ElementType.h"

#include <cstddef>
#include <cstdint>

namespace quadrille {

// A matrix seen as lines (rows of A, columns of B) along k.
struct GemmOperand {
  ElementType type;
  const std::byte *data;
  int64_t lineStride, kStride; // in elements; one of them is 1
  int32_t zero = 0;            // subtracted from every element (integer forms)
};

struct GemmRectangle {
  GemmOperand a, b;
  void *c;
  int64_t leadingC;
  int64_t row, rows, column, columns, k;
  bool accumulate;
};

// What the panels hold and the sums are kept in.
enum class GemmForm : uint8_t {
  F32,         // C is f32
  F64,         // C is f64
  I32,         // C is i32, products of 32-bit operands, modulo 2^32
  I64,         // C is i64, modulo 2^64
  I16Pairs,    // C is i32, operands (less their zeros) fit 16 bits and the sum of two products fits 32
  OnceRounded, // C is f32, exact sums of blocks of k
};

// Rectangles of at most this many rows and columns make good use of the caches.
struct GemmBlocking {
  int64_t rows, columns;
};
GemmBlocking blockingOf(GemmForm form);

// blockLength: of OnceRounded (at most 1024); ignored by the others.
void multiplyRectangle(GemmForm form, const GemmRectangle &rectangle, int64_t blockLength);

} // namespace quadrille
