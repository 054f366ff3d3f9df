#include "numerics/GemmKernels.h"

#include "numerics/Convert.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>

#include "hwy/cache_control.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "numerics/GemmKernels.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "numerics/Vectorize-inl.h"

#ifndef QUADRILLE_GEMM_BUFFERS
#define QUADRILLE_GEMM_BUFFERS
namespace quadrille {
// Working memory of one thread, kept between calls.
struct AlignedBuffer {
  std::byte *data = nullptr;
  size_t size = 0;
  ~AlignedBuffer() { ::operator delete(data, std::align_val_t{64}); }
  template <typename T> T *get(size_t count) {
    if (size < count * sizeof(T)) {
      ::operator delete(data, std::align_val_t{64});
      data = nullptr;
      size = 0;
      data = static_cast<std::byte *>(::operator new(count * sizeof(T), std::align_val_t{64}));
      size = count * sizeof(T);
    }
    return reinterpret_cast<T *>(data);
  }
};
struct GemmBuffers {
  AlignedBuffer a, b, run, boundsA, boundsB;
};
inline GemmBuffers &gemmBuffers() {
  thread_local GemmBuffers buffers;
  return buffers;
}

// The exact sum of f16 products as an integer multiple of 2^-48 (each f16 is a multiple of 2^-24 below 2^17, so 1024
// products stay below 2^(2 * 41 + 10)), rounded once to f32.
inline float roundOnceExactly(const double *a, size_t strideA, const double *b, size_t strideB, size_t count) {
  __int128 sum = 0;
  for (size_t k = 0; k < count; ++k)
    sum += static_cast<__int128>(static_cast<int64_t>(a[k * strideA] * 0x1p24)) *
           static_cast<int64_t>(b[k * strideB] * 0x1p24);
  bool negative = sum < 0;
  auto magnitude = static_cast<unsigned __int128>(negative ? -sum : sum);
  auto high = static_cast<uint64_t>(magnitude >> 64);
  int length = high != 0 ? 128 - std::countl_zero(high) : 64 - std::countl_zero(static_cast<uint64_t>(magnitude));
  int drop = std::max(0, length - 24);
  auto kept = static_cast<uint32_t>(magnitude >> drop);
  if (drop > 0) {
    unsigned __int128 rest = magnitude - (static_cast<unsigned __int128>(kept) << drop);
    unsigned __int128 half = static_cast<unsigned __int128>(1) << (drop - 1);
    kept += rest > half || (rest == half && (kept & 1)) ? 1 : 0; // 2^24 is exact in f32 too
  }
  float result = std::ldexp(static_cast<float>(kept), drop - 48);
  return negative ? -result : result;
}
} // namespace quadrille
#endif

HWY_BEFORE_NAMESPACE();
namespace quadrille {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Register tile: tileRows x (tileVectors vectors). 32 vector registers hold 24 sums, 16 hold 12.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
constexpr size_t tileRows = 8, tileVectors = 3;
#else
constexpr size_t tileRows = 4, tileVectors = 3;
#endif
template <typename T> constexpr size_t tileColumns = tileVectors * HWY_LANES(T);

// Reading: a run of elements in panel type T, less the zero.

template <typename T, typename S> void loadIntegers(const std::byte *source, T *destination, size_t count, T zero) {
  using U = std::make_unsigned_t<T>;
  QUADRILLE_VECTORIZE
  for (size_t i = 0; i < count; ++i) {
    S value;
    std::memcpy(&value, source + i * sizeof(S), sizeof(S));
    destination[i] = static_cast<T>(static_cast<U>(static_cast<T>(value)) - static_cast<U>(zero));
  }
}

template <typename T> void loadRun(const GemmOperand &operand, const std::byte *source, T *destination, size_t count) {
  if constexpr (std::is_same_v<T, float>) {
    widenToF32(operand.type, source, destination, count);
  } else if constexpr (std::is_same_v<T, double>) {
    convert(operand.type, source, ElementType::f64, destination, count);
  } else {
    auto zero = static_cast<T>(operand.zero);
    switch (operand.type) {
    case ElementType::i8:
      return loadIntegers<T, int8_t>(source, destination, count, zero);
    case ElementType::u8:
      return loadIntegers<T, uint8_t>(source, destination, count, zero);
    case ElementType::i16:
      return loadIntegers<T, int16_t>(source, destination, count, zero);
    case ElementType::i32:
      return loadIntegers<T, int32_t>(source, destination, count, zero);
    default:
      return loadIntegers<T, int64_t>(source, destination, count, zero);
    }
  }
}

// Four lines of `depth` elements to `depth` groups of four that lie `width` apart.
template <typename T> void transposeFourLines(const T *const sources[4], size_t depth, T *to, size_t width) {
  const hn::Full128<T> d;
  const hn::Repartition<uint64_t, decltype(d)> d64;
  size_t k = 0;
  for (; k + 4 <= depth; k += 4) {
    auto a = hn::LoadU(d, sources[0] + k), b = hn::LoadU(d, sources[1] + k);
    auto c = hn::LoadU(d, sources[2] + k), e = hn::LoadU(d, sources[3] + k);
    auto lowAB = hn::BitCast(d64, hn::InterleaveLower(d, a, b)),
         highAB = hn::BitCast(d64, hn::InterleaveUpper(d, a, b));
    auto lowCE = hn::BitCast(d64, hn::InterleaveLower(d, c, e)),
         highCE = hn::BitCast(d64, hn::InterleaveUpper(d, c, e));
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, lowAB, lowCE)), d, to + k * width);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, lowAB, lowCE)), d, to + (k + 1) * width);
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, highAB, highCE)), d, to + (k + 2) * width);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, highAB, highCE)), d, to + (k + 3) * width);
  }
  for (; k < depth; ++k)
    for (size_t line = 0; line < 4; ++line)
      to[k * width + line] = sources[line][k];
}

// Packs lines [first, first + count) over k in [k0, k0 + kc) into tiles of `width` lines: tile, then group of Group
// successive k, then line, then k in the group. Missing lines of the last tile and missing k of the last group are
// zero.
template <typename T, size_t Group>
void pack(const GemmOperand &operand, int64_t first, size_t count, int64_t k0, size_t kc, size_t width, T *panel,
          T *run) {
  size_t element = byteWidth(operand.type);
  size_t groups = (kc + Group - 1) / Group, tileSize = groups * Group * width;
  size_t tiles = (count + width - 1) / width;
  if (count % width != 0)
    std::memset(panel + (tiles - 1) * tileSize, 0, tileSize * sizeof(T));
  auto at = [&](int64_t line, int64_t k) {
    return operand.data + (line * operand.lineStride + k * operand.kStride) * static_cast<int64_t>(element);
  };
  if (operand.kStride == 1) {
    // A transposition: a piece of k is finished for all lines of a tile while its part of the panel is in L1.
    size_t piece = width * sizeof(T) > 64 ? 64 : groups * Group;
    for (size_t t = 0; t < tiles; ++t)
      for (size_t start = 0; start < kc; start += piece) {
        size_t depth = std::min(piece, kc - start), padded = (depth + Group - 1) / Group * Group;
        T *tile = panel + t * tileSize + start * width;
        size_t lines = std::min(width, count - t * width), line = 0;
        if constexpr (Group == 1 && sizeof(T) == 4)
          for (; line + 4 <= lines; line += 4) {
            const T *sources[4];
            for (size_t i = 0; i < 4; ++i) {
              const std::byte *source =
                  at(first + static_cast<int64_t>(t * width + line + i), k0 + static_cast<int64_t>(start));
              bool isOwn = std::is_same_v<T, float> && operand.type == ElementType::f32;
              if (isOwn && reinterpret_cast<uintptr_t>(source) % sizeof(T) == 0) {
                sources[i] = reinterpret_cast<const T *>(source);
                // The next piece of this line: lines lie too far apart for the hardware to see the sequence.
                for (size_t ahead = 0; ahead < piece * sizeof(T); ahead += 64)
                  hwy::Prefetch(source + piece * sizeof(T) + ahead);
              } else {
                loadRun(operand, source, run + i * piece, depth);
                sources[i] = run + i * piece;
              }
            }
            transposeFourLines(sources, depth, tile + line, width);
          }
        for (; line < lines; ++line) {
          loadRun(operand, at(first + static_cast<int64_t>(t * width + line), k0 + static_cast<int64_t>(start)), run,
                  depth);
          for (size_t k = depth; k < padded; ++k)
            run[k] = T(0);
          T *out = tile + line * Group;
          for (size_t g = 0; g < padded / Group; ++g)
            for (size_t k = 0; k < Group; ++k)
              out[g * width * Group + k] = run[g * Group + k];
        }
      }
    return;
  }
  for (size_t k = 0; k < groups * Group; ++k) {
    if (k < kc)
      loadRun(operand, at(first, k0 + static_cast<int64_t>(k)), run, count);
    else
      std::memset(run, 0, count * sizeof(T));
    for (size_t t = 0; t < tiles; ++t) {
      size_t n = std::min(width, count - t * width);
      T *row = panel + t * tileSize + k / Group * width * Group + k % Group;
      if constexpr (Group == 1)
        std::memcpy(row, run + t * width, n * sizeof(T));
      else
        for (size_t line = 0; line < n; ++line)
          row[line * Group] = run[t * width + line];
    }
  }
}

// Register tiles. `a` and `b` are packed tiles, `sums` a tile of C (tileRows x tileColumns, leading dimension given).

template <typename T>
HWY_NOINLINE void multiplyTile(const T *HWY_RESTRICT a, const T *HWY_RESTRICT b, size_t kc, T *sums, size_t leading,
                               bool fromZero) {
  const hn::ScalableTag<T> d;
  constexpr size_t lanes = HWY_LANES(T);
  hn::Vec<decltype(d)> s[tileRows][tileVectors];
  for (size_t r = 0; r < tileRows; ++r)
    for (size_t v = 0; v < tileVectors; ++v)
      s[r][v] = fromZero ? hn::Zero(d) : hn::LoadU(d, sums + r * leading + v * lanes);
  for (size_t k = 0; k < kc; ++k) {
    hn::Vec<decltype(d)> right[tileVectors];
    for (size_t v = 0; v < tileVectors; ++v)
      right[v] = hn::LoadU(d, b + k * tileColumns<T> + v * lanes);
    for (size_t r = 0; r < tileRows; ++r) {
      const auto left = hn::Set(d, a[k * tileRows + r]);
      for (size_t v = 0; v < tileVectors; ++v) {
        if constexpr (std::is_floating_point_v<T>)
          s[r][v] = hn::MulAdd(left, right[v], s[r][v]);
        else
          s[r][v] = hn::Add(s[r][v], hn::Mul(left, right[v]));
      }
    }
  }
  for (size_t r = 0; r < tileRows; ++r)
    for (size_t v = 0; v < tileVectors; ++v)
      hn::StoreU(s[r][v], d, sums + r * leading + v * lanes);
}

// Modulo 2^64; vector sets without a 64-bit multiplication do without.
HWY_NOINLINE void multiplyTileI64(const int64_t *a, const int64_t *b, size_t kc, int64_t *sums, size_t leading,
                                  bool fromZero) {
  for (size_t r = 0; r < tileRows; ++r) {
    uint64_t s[tileColumns<int64_t>];
    for (size_t c = 0; c < tileColumns<int64_t>; ++c)
      s[c] = fromZero ? 0 : static_cast<uint64_t>(sums[r * leading + c]);
    for (size_t k = 0; k < kc; ++k) {
      auto left = static_cast<uint64_t>(a[k * tileRows + r]);
      QUADRILLE_VECTORIZE
      for (size_t c = 0; c < tileColumns<int64_t>; ++c)
        s[c] += left * static_cast<uint64_t>(b[k * tileColumns<int64_t> + c]);
    }
    for (size_t c = 0; c < tileColumns<int64_t>; ++c)
      sums[r * leading + c] = static_cast<int64_t>(s[c]);
  }
}

// Pairs of 16-bit values: each step adds two products to a 32-bit sum.
HWY_NOINLINE void multiplyTilePairs(const int16_t *a, const int16_t *b, size_t kc, int32_t *sums, size_t leading,
                                    bool fromZero) {
  const hn::ScalableTag<int32_t> d;
  const hn::Repartition<int16_t, decltype(d)> d16;
  constexpr size_t lanes = HWY_LANES(int32_t);
  hn::Vec<decltype(d)> s[tileRows][tileVectors], rest[tileRows][tileVectors];
  for (size_t r = 0; r < tileRows; ++r)
    for (size_t v = 0; v < tileVectors; ++v)
      s[r][v] = rest[r][v] = hn::Zero(d);
  for (size_t k = 0; k < kc; k += 2) {
    hn::Vec<decltype(d16)> right[tileVectors];
    for (size_t v = 0; v < tileVectors; ++v)
      right[v] = hn::LoadU(d16, b + k * tileColumns<int32_t> + v * lanes * 2);
    for (size_t r = 0; r < tileRows; ++r) {
      int32_t pair;
      std::memcpy(&pair, a + k * tileRows + r * 2, sizeof(pair));
      const auto left = hn::BitCast(d16, hn::Set(d, pair));
      for (size_t v = 0; v < tileVectors; ++v)
        s[r][v] = hn::ReorderWidenMulAccumulate(d, left, right[v], s[r][v], rest[r][v]);
    }
  }
  for (size_t r = 0; r < tileRows; ++r)
    for (size_t v = 0; v < tileVectors; ++v) {
      auto total = hn::RearrangeToOddPlusEven(s[r][v], rest[r][v]);
      int32_t *target = sums + r * leading + v * lanes;
      hn::StoreU(fromZero ? total : hn::Add(total, hn::LoadU(d, target)), d, target);
    }
}

// Runs tile(tileOfA, tileOfB, target, leading, r, c) over a rectangle of C; tiles that stick out of C go through a
// copy.
template <typename C, size_t Columns, typename Tile>
HWY_INLINE void forTiles(const GemmRectangle &x, const Tile &tile) {
  auto *c = static_cast<C *>(x.c);
  for (int64_t j = 0; j < x.columns; j += Columns)
    for (int64_t i = 0; i < x.rows; i += tileRows) {
      C *target = c + (x.row + i) * x.leadingC + x.column + j;
      size_t rows = static_cast<size_t>(std::min<int64_t>(tileRows, x.rows - i));
      size_t columns = static_cast<size_t>(std::min<int64_t>(Columns, x.columns - j));
      size_t ti = static_cast<size_t>(i) / tileRows, tj = static_cast<size_t>(j) / Columns;
      if (rows == tileRows && columns == Columns) {
        tile.run(ti, tj, target, static_cast<size_t>(x.leadingC));
        continue;
      }
      HWY_ALIGN C copy[tileRows * Columns] = {};
      for (size_t r = 0; r < rows; ++r)
        std::memcpy(copy + r * Columns, target + static_cast<int64_t>(r) * x.leadingC, columns * sizeof(C));
      tile.run(ti, tj, copy, Columns);
      for (size_t r = 0; r < rows; ++r)
        std::memcpy(target + static_cast<int64_t>(r) * x.leadingC, copy + r * Columns, columns * sizeof(C));
    }
}

template <typename T, typename C> struct PlainTile {
  const T *a, *b;
  size_t kc, paddedK;
  bool fromZero;
  void run(size_t i, size_t j, C *target, size_t leading) const {
    const T *left = a + i * tileRows * paddedK, *right = b + j * tileColumns<C> * paddedK;
    if constexpr (std::is_same_v<T, int16_t>)
      multiplyTilePairs(left, right, paddedK, target, leading, fromZero);
    else if constexpr (std::is_same_v<T, int64_t>)
      multiplyTileI64(left, right, kc, target, leading, fromZero);
    else
      multiplyTile(left, right, kc, target, leading, fromZero);
  }
};

// A few rows times columns that lie side by side: packing B would cost more than it saves. The sums of a strip of
// columns stay in L1 while k runs over rows of B, read in place. The same chain of operations for each element of C.
constexpr int64_t fewRows = 3;

inline const std::byte *elementAt(const GemmOperand &operand, int64_t line, int64_t k) {
  return operand.data +
         (line * operand.lineStride + k * operand.kStride) * static_cast<int64_t>(byteWidth(operand.type));
}

// The rows of A, dense, x.k apart.
template <typename T> void loadFewRows(const GemmRectangle &x, T *left) {
  for (int64_t r = 0; r < x.rows; ++r) {
    if (x.a.kStride == 1)
      loadRun(x.a, elementAt(x.a, x.row + r, 0), left + r * x.k, static_cast<size_t>(x.k));
    else
      for (int64_t k = 0; k < x.k; ++k)
        loadRun(x.a, elementAt(x.a, x.row + r, k), left + r * x.k + k, 1);
  }
}

// Rows (at most fewRows) of A, `leading` apart, times a packed panel of tileColumns lines; sums tileColumns apart.
template <typename T, size_t Rows>
void multiplyPanel(const T *left, int64_t leading, const T *panel, size_t kc, T *sums) {
  const hn::ScalableTag<T> d;
  constexpr size_t lanes = HWY_LANES(T);
  hn::Vec<decltype(d)> s[Rows][tileVectors];
  for (size_t r = 0; r < Rows; ++r)
    for (size_t v = 0; v < tileVectors; ++v)
      s[r][v] = hn::LoadU(d, sums + r * tileColumns<T> + v * lanes);
  for (size_t k = 0; k < kc; ++k)
    for (size_t r = 0; r < Rows; ++r) {
      const auto factor = hn::Set(d, left[static_cast<int64_t>(r) * leading + static_cast<int64_t>(k)]);
      for (size_t v = 0; v < tileVectors; ++v)
        s[r][v] = hn::MulAdd(factor, hn::LoadU(d, panel + k * tileColumns<T> + v * lanes), s[r][v]);
    }
  for (size_t r = 0; r < Rows; ++r)
    for (size_t v = 0; v < tileVectors; ++v)
      hn::StoreU(s[r][v], d, sums + r * tileColumns<T> + v * lanes);
}

// A few rows times columns whose elements lie along k: a small panel at a time is transposed and used up in L1.
template <typename T> void multiplyFewRowsTransposed(const GemmRectangle &x) {
  constexpr size_t columns = tileColumns<T>;
  constexpr int64_t depth = 128;
  GemmBuffers &buffers = gemmBuffers();
  T *left = buffers.a.get<T>(static_cast<size_t>(fewRows * x.k));
  T *panel = buffers.b.get<T>(columns * depth);
  T *run = buffers.run.get<T>(4 * depth + columns);
  loadFewRows(x, left);
  auto *c = static_cast<T *>(x.c);
  for (int64_t j = 0; j < x.columns; j += columns) {
    int64_t n = std::min<int64_t>(columns, x.columns - j);
    HWY_ALIGN T sums[fewRows * columns] = {};
    auto result = [&](int64_t r) { return c + (x.row + r) * x.leadingC + x.column + j; };
    for (int64_t r = 0; r < x.rows && x.accumulate; ++r)
      std::copy_n(result(r), n, sums + r * static_cast<int64_t>(columns));
    for (int64_t k = 0; k < x.k; k += depth) {
      auto kc = static_cast<size_t>(std::min(depth, x.k - k));
      pack<T, 1>(x.b, x.column + j, static_cast<size_t>(n), k, kc, columns, panel, run);
      if (x.rows == 1)
        multiplyPanel<T, 1>(left + k, x.k, panel, kc, sums);
      else if (x.rows == 2)
        multiplyPanel<T, 2>(left + k, x.k, panel, kc, sums);
      else
        multiplyPanel<T, 3>(left + k, x.k, panel, kc, sums);
    }
    for (int64_t r = 0; r < x.rows; ++r)
      std::copy_n(sums + r * static_cast<int64_t>(columns), n, result(r));
  }
}

template <typename T> void multiplyFewRows(const GemmRectangle &x) {
  if (x.b.lineStride != 1)
    return multiplyFewRowsTransposed<T>(x);
  constexpr int64_t strip = 512;
  GemmBuffers &buffers = gemmBuffers();
  T *sums = buffers.a.get<T>(fewRows * strip), *run = buffers.run.get<T>(strip);
  T *left = buffers.b.get<T>(static_cast<size_t>(fewRows * x.k));
  loadFewRows(x, left);
  constexpr ElementType own = sizeof(T) == 4 ? ElementType::f32 : ElementType::f64;
  const hn::ScalableTag<T> d;
  constexpr int64_t lanes = HWY_LANES(T);
  auto *c = static_cast<T *>(x.c);
  for (int64_t j = 0; j < x.columns; j += strip) {
    int64_t n = std::min(strip, x.columns - j), whole = n / lanes * lanes;
    for (int64_t r = 0; r < x.rows; ++r)
      if (x.accumulate)
        std::copy_n(c + (x.row + r) * x.leadingC + x.column + j, n, sums + r * strip);
      else
        std::fill_n(sums + r * strip, n, T(0));
    for (int64_t k = 0; k < x.k; ++k) {
      const std::byte *source = elementAt(x.b, x.column + j, k);
      const T *right = run;
      if (x.b.type == own && reinterpret_cast<uintptr_t>(source) % sizeof(T) == 0)
        right = reinterpret_cast<const T *>(source);
      else
        loadRun(x.b, source, run, static_cast<size_t>(n));
      for (int64_t r = 0; r < x.rows; ++r) {
        T *sum = sums + r * strip;
        const T scalar = left[r * x.k + k];
        const auto factor = hn::Set(d, scalar);
        int64_t i = 0;
        for (; i < whole; i += lanes)
          hn::StoreU(hn::MulAdd(factor, hn::LoadU(d, right + i), hn::LoadU(d, sum + i)), d, sum + i);
        const hn::CappedTag<T, 1> one;
        for (; i < n; ++i)
          hn::StoreU(hn::MulAdd(hn::Set(one, scalar), hn::LoadU(one, right + i), hn::LoadU(one, sum + i)), one,
                     sum + i);
      }
    }
    for (int64_t r = 0; r < x.rows; ++r)
      std::copy_n(sums + r * strip, n, c + (x.row + r) * x.leadingC + x.column + j);
  }
}

constexpr int64_t panelDepth = 256; // of k

template <typename T, typename C, size_t Group> void multiplyPlain(const GemmRectangle &x) {
  if constexpr (std::is_floating_point_v<T>)
    if (x.rows <= fewRows && (x.b.lineStride == 1 || x.b.kStride == 1))
      return multiplyFewRows<T>(x);
  GemmBuffers &buffers = gemmBuffers();
  auto up = [](int64_t n, size_t to) { return (static_cast<size_t>(n) + to - 1) / to * to; };
  T *a = buffers.a.get<T>(up(x.rows, tileRows) * panelDepth);
  T *b = buffers.b.get<T>(up(x.columns, tileColumns<C>) * panelDepth);
  T *run = buffers.run.get<T>(static_cast<size_t>(std::max({x.rows, x.columns, 4 * panelDepth})) + Group);
  for (int64_t k = 0; k < x.k; k += panelDepth) {
    auto kc = static_cast<size_t>(std::min(panelDepth, x.k - k));
    pack<T, Group>(x.a, x.row, static_cast<size_t>(x.rows), k, kc, tileRows, a, run);
    pack<T, Group>(x.b, x.column, static_cast<size_t>(x.columns), k, kc, tileColumns<C>, b, run);
    size_t padded = (kc + Group - 1) / Group * Group;
    forTiles<C, tileColumns<C>>(x, PlainTile<T, C>{a, b, kc, padded, k == 0 && !x.accumulate});
  }
}

// The once-rounded form. f64 sums of one block are exact when they fit 53 bits, whatever their order: the values of
// line i are multiples of 2^low and below 2^high, so sums of products fit if
// (high - low)_a + (high - low)_b + log2(block) <= 53. Otherwise the sum s of n steps is off by at most
// n * 2^-53 * sum |a b| (N. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1), which
// Cauchy-Schwarz bounds by the norms of the lines; if s - bound and s + bound round to the same f32, so does the exact
// sum. What remains is computed in integers.
void boundLines(const double *panel, size_t lines, size_t width, size_t kc, double factor, double *span, double *norm) {
  for (size_t t = 0; t * width < lines; ++t) {
    const double *tile = panel + t * width * kc;
    constexpr size_t maxWidth = std::max(tileRows, tileColumns<double>);
    uint64_t seen[maxWidth] = {};
    double squares[maxWidth] = {};
    for (size_t k = 0; k < kc; ++k) {
      QUADRILLE_VECTORIZE
      for (size_t l = 0; l < width; ++l) {
        double value = std::fabs(tile[k * width + l]);
        value = value < 0x1p17 ? value : 0.0; // infinities and NaN come out of s itself
        squares[l] += value * value;
        seen[l] |= static_cast<uint64_t>(static_cast<int64_t>(value * 0x1p24));
      }
    }
    for (size_t l = 0; l < width; ++l) {
      span[t * width + l] = seen[l] == 0 ? 0.0 : 64.0 - std::countl_zero(seen[l]) - std::countr_zero(seen[l]);
      norm[t * width + l] = std::sqrt(squares[l]) * factor;
    }
  }
}

struct OnceRoundedTile {
  const double *a, *b;
  const double *spanA, *normA, *spanB, *normB;
  size_t kc;
  double spanLimit;
  bool overwrite;

  void run(size_t i, size_t j, float *target, size_t leading) const {
    const hn::ScalableTag<double> d;
    const hn::Rebind<float, decltype(d)> df;
    constexpr size_t columns = tileColumns<double>, lanes = HWY_LANES(double);
    const double *left = a + i * tileRows * kc, *right = b + j * columns * kc;
    HWY_ALIGN double sums[tileRows * columns];
    multiplyTile(left, right, kc, sums, columns, /*fromZero=*/true);
    const auto limit = hn::Set(d, spanLimit);
    for (size_t r = 0; r < tileRows; ++r) {
      const auto rowSpan = hn::Set(d, spanA[i * tileRows + r]), rowNorm = hn::Set(d, normA[i * tileRows + r]);
      for (size_t c = 0; c < columns; c += lanes) {
        const auto s = hn::Load(d, sums + r * columns + c);
        const auto exact = hn::Le(hn::Add(rowSpan, hn::LoadU(d, spanB + j * columns + c)), limit);
        const auto error = hn::IfThenZeroElse(exact, hn::Mul(rowNorm, hn::LoadU(d, normB + j * columns + c)));
        const auto low = hn::DemoteTo(df, hn::Sub(s, error)), high = hn::DemoteTo(df, hn::Add(s, error));
        HWY_ALIGN float rounded[HWY_LANES(float)];
        hn::StoreU(low, df, rounded);
        if (HWY_UNLIKELY(!hn::AllTrue(df, hn::Eq(low, high)))) {
          HWY_ALIGN float other[HWY_LANES(float)];
          hn::StoreU(high, df, other);
          for (size_t l = 0; l < lanes; ++l)
            if (!(rounded[l] == other[l])) {
              double sum = sums[r * columns + c + l];
              rounded[l] = std::isfinite(sum) ? roundOnceExactly(left + r, tileRows, right + c + l, columns, kc)
                                              : static_cast<float>(sum);
            }
        }
        float *out = target + r * leading + c;
        auto total = hn::LoadU(df, rounded);
        if (!overwrite)
          total = hn::Add(hn::LoadU(df, out), total);
        hn::StoreU(total, df, out);
      }
    }
  }
};

void multiplyOnceRounded(const GemmRectangle &x, int64_t blockLength) {
  GemmBuffers &buffers = gemmBuffers();
  constexpr size_t columns = tileColumns<double>;
  auto up = [](int64_t n, size_t to) { return (static_cast<size_t>(n) + to - 1) / to * to; };
  size_t rowsUp = up(x.rows, tileRows), columnsUp = up(x.columns, columns);
  auto depth = static_cast<size_t>(std::min(blockLength, x.k));
  double *a = buffers.a.get<double>(rowsUp * depth), *b = buffers.b.get<double>(columnsUp * depth);
  double *run = buffers.run.get<double>(std::max({rowsUp, columnsUp, depth}));
  double *boundsA = buffers.boundsA.get<double>(2 * rowsUp), *boundsB = buffers.boundsB.get<double>(2 * columnsUp);
  for (int64_t k = 0; k < x.k; k += blockLength) {
    auto kc = static_cast<size_t>(std::min(blockLength, x.k - k));
    pack<double, 1>(x.a, x.row, static_cast<size_t>(x.rows), k, kc, tileRows, a, run);
    pack<double, 1>(x.b, x.column, static_cast<size_t>(x.columns), k, kc, columns, b, run);
    // Four steps more than n cover the roundings of s +- bound, the hundredth those of the norms.
    double factor = 1.01 * 0x1p-53 * (static_cast<double>(kc) + 4);
    boundLines(a, rowsUp, tileRows, kc, factor, boundsA, boundsA + rowsUp);
    boundLines(b, columnsUp, columns, kc, 1.0, boundsB, boundsB + columnsUp);
    double spanLimit = 53 - std::bit_width(kc - 1);
    forTiles<float, columns>(x, OnceRoundedTile{a, b, boundsA, boundsA + rowsUp, boundsB, boundsB + columnsUp, kc,
                                                spanLimit, k == 0 && !x.accumulate});
  }
}

void multiply(GemmForm form, const GemmRectangle &x, int64_t blockLength) {
  switch (form) {
  case GemmForm::F32:
    return multiplyPlain<float, float, 1>(x);
  case GemmForm::F64:
    return multiplyPlain<double, double, 1>(x);
  case GemmForm::I32:
    return multiplyPlain<int32_t, int32_t, 1>(x);
  case GemmForm::I64:
    return multiplyPlain<int64_t, int64_t, 1>(x);
  case GemmForm::I16Pairs:
    return multiplyPlain<int16_t, int32_t, 2>(x);
  case GemmForm::OnceRounded:
    return multiplyOnceRounded(x, blockLength);
  }
}

} // namespace HWY_NAMESPACE
} // namespace quadrille
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quadrille {

HWY_EXPORT(multiply);

GemmBlocking blockingOf(GemmForm form) {
  // Multiples of every register tile; the panels of one rectangle take about half a megabyte.
  switch (form) {
  case GemmForm::F64:
  case GemmForm::I64:
  case GemmForm::OnceRounded:
    return {128, 192};
  default:
    return {256, 384};
  }
}

void multiplyRectangle(GemmForm form, const GemmRectangle &rectangle, int64_t blockLength) {
  HWY_DYNAMIC_DISPATCH(multiply)(form, rectangle, blockLength);
}

} // namespace quadrille
#endif
