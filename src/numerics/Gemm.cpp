#include "numerics/Gemm.h"

#include "numerics/GemmKernels.h"
#include "numerics/NarrowFloat.h"

#include "base/Parallel.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace quadrille {

namespace {

struct Operands {
  ElementType typeA;
  const void *a;
  int32_t zeroA;
  ElementType typeB;
  const void *b;
  int32_t zeroB;
  ElementType typeC;
  void *c;
};

void run(GemmForm form, const GemmShape &s, const Operands &operands, int64_t blockLength = 0) {
  assert(s.m >= 0 && s.n >= 0 && s.k >= 0 && s.batch >= 0);
  if (s.m == 0 || s.n == 0 || s.batch == 0)
    return;
  int64_t leadingA = s.leadingA != 0 ? s.leadingA : s.transposeA ? s.m : s.k;
  int64_t leadingB = s.leadingB != 0 ? s.leadingB : s.transposeB ? s.k : s.n;
  int64_t leadingC = s.leadingC != 0 ? s.leadingC : s.n;
  auto widthOf = [](ElementType type) { return static_cast<int64_t>(byteWidth(type)); };
  auto *a = static_cast<const std::byte *>(operands.a), *b = static_cast<const std::byte *>(operands.b);
  auto *c = static_cast<std::byte *>(operands.c);
  int64_t widthC = widthOf(operands.typeC);

  if (s.k == 0) {
    if (!s.accumulate)
      for (int64_t i = 0; i < s.batch * s.m; ++i)
        std::memset(c + (i / s.m * s.batchStrideC + i % s.m * leadingC) * widthC, 0, static_cast<size_t>(s.n * widthC));
    return;
  }

  // Rectangles shrink until every thread has work that is worth waking it for; no result depends on the cut.
  constexpr double productsPerThread = 1 << 17;
  double products =
      static_cast<double>(s.batch) * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
  auto threads = static_cast<int64_t>(std::min<double>(threadCount(), products / productsPerThread));
  GemmBlocking blocking = blockingOf(form);
  auto pieces = [](int64_t n, int64_t size) { return (n + size - 1) / size; };
  auto tasks = [&] { return s.batch * pieces(s.m, blocking.rows) * pieces(s.n, blocking.columns); };
  while (tasks() < threads) {
    if (blocking.columns > 48 && s.n > blocking.columns / 2)
      blocking.columns /= 2;
    else if (blocking.rows > 32 && s.m > blocking.rows / 2)
      blocking.rows /= 2;
    else if (blocking.columns > 48)
      blocking.columns /= 2;
    else
      break;
  }
  int64_t rowPieces = pieces(s.m, blocking.rows), columnPieces = pieces(s.n, blocking.columns);
  parallelFor(tasks(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      int64_t batch = task / (rowPieces * columnPieces);
      int64_t row = task / columnPieces % rowPieces * blocking.rows, column = task % columnPieces * blocking.columns;
      GemmRectangle x;
      x.a = {operands.typeA, a + batch * s.batchStrideA * widthOf(operands.typeA), s.transposeA ? 1 : leadingA,
             s.transposeA ? leadingA : 1, operands.zeroA};
      x.b = {operands.typeB, b + batch * s.batchStrideB * widthOf(operands.typeB), s.transposeB ? leadingB : 1,
             s.transposeB ? 1 : leadingB, operands.zeroB};
      x.c = c + batch * s.batchStrideC * widthC;
      x.leadingC = leadingC;
      x.row = row;
      x.rows = std::min(blocking.rows, s.m - row);
      x.column = column;
      x.columns = std::min(blocking.columns, s.n - column);
      x.k = s.k;
      x.accumulate = s.accumulate;
      multiplyRectangle(form, x, blockLength);
    }
  });
}

[[maybe_unused]] bool fitsF32(ElementType type) {
  return type == ElementType::f32 || isNarrowFloat(type);
}

} // namespace

void gemmF32(const GemmShape &shape, const float *a, const float *b, float *c) {
  run(GemmForm::F32, shape, {ElementType::f32, a, 0, ElementType::f32, b, 0, ElementType::f32, c});
}

void gemmF64(const GemmShape &shape, const double *a, const double *b, double *c) {
  run(GemmForm::F64, shape, {ElementType::f64, a, 0, ElementType::f64, b, 0, ElementType::f64, c});
}

void gemmNarrow(const GemmShape &shape, ElementType typeA, const void *a, ElementType typeB, const void *b, float *c) {
  assert(fitsF32(typeA) && fitsF32(typeB));
  run(GemmForm::F32, shape, {typeA, a, 0, typeB, b, 0, ElementType::f32, c});
}

void gemmInteger8(const GemmShape &shape, ElementType typeA, const void *a, int32_t zeroA, ElementType typeB,
                  const void *b, int32_t zeroB, int32_t *c) {
  assert((typeA == ElementType::i8 || typeA == ElementType::u8) &&
         (typeB == ElementType::i8 || typeB == ElementType::u8));
  // Zero points of 8-bit types leave differences of at most 255: two products fit 32 bits by far. Others go the long
  // way.
  auto small = [](int32_t zero) { return zero >= -30000 && zero <= 30000; };
  GemmForm form = small(zeroA) && small(zeroB) ? GemmForm::I16Pairs : GemmForm::I32;
  run(form, shape, {typeA, a, zeroA, typeB, b, zeroB, ElementType::i32, c});
}

void gemmI16(const GemmShape &shape, const int16_t *a, const int16_t *b, int32_t *c) {
  run(GemmForm::I32, shape, {ElementType::i16, a, 0, ElementType::i16, b, 0, ElementType::i32, c});
}

void gemmI32(const GemmShape &shape, const int32_t *a, const int32_t *b, int32_t *c) {
  run(GemmForm::I32, shape, {ElementType::i32, a, 0, ElementType::i32, b, 0, ElementType::i32, c});
}

void gemmI64(const GemmShape &shape, const int64_t *a, const int64_t *b, int64_t *c) {
  run(GemmForm::I64, shape, {ElementType::i64, a, 0, ElementType::i64, b, 0, ElementType::i64, c});
}

void gemmOnceRounded(const GemmShape &shape, int64_t blockLength, ElementType typeA, const void *a, ElementType typeB,
                     const void *b, float *c) {
  assert(blockLength > 0 && blockLength <= 1024);
  assert((typeA == ElementType::f16 || typeA == ElementType::f32) &&
         (typeB == ElementType::f16 || typeB == ElementType::f32));
  run(GemmForm::OnceRounded, shape, {typeA, a, 0, typeB, b, 0, ElementType::f32, c}, blockLength);
}

} // namespace quadrille
