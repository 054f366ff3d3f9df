// Oracles: a scalar loop of std::fma over ascending k (the stated order), 128-bit integers, and MPFR with more bits
// than any sum of f16 products needs.
#include "numerics/Gemm.h"

#include "base/Parallel.h"
#include "numerics/Convert.h"

#include "gtest/gtest.h"
#include <mpfr.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

using namespace quadrille;

namespace {

// Where element (i, k) of A, (k, j) of B and (i, j) of C lie.
struct Layout {
  GemmShape s;
  int64_t lda, ldb, ldc;
  explicit Layout(const GemmShape &shape) : s(shape) {
    lda = s.leadingA ? s.leadingA : s.transposeA ? s.m : s.k;
    ldb = s.leadingB ? s.leadingB : s.transposeB ? s.k : s.n;
    ldc = s.leadingC ? s.leadingC : s.n;
  }
  int64_t a(int64_t p, int64_t i, int64_t k) const {
    return p * s.batchStrideA + (s.transposeA ? k * lda + i : i * lda + k);
  }
  int64_t b(int64_t p, int64_t k, int64_t j) const {
    return p * s.batchStrideB + (s.transposeB ? j * ldb + k : k * ldb + j);
  }
  int64_t c(int64_t p, int64_t i, int64_t j) const { return p * s.batchStrideC + i * ldc + j; }
  size_t sizeA() const {
    return static_cast<size_t>((s.batch - 1) * s.batchStrideA + (s.transposeA ? s.k : s.m) * lda);
  }
  size_t sizeB() const {
    return static_cast<size_t>((s.batch - 1) * s.batchStrideB + (s.transposeB ? s.n : s.k) * ldb);
  }
  size_t sizeC() const { return static_cast<size_t>((s.batch - 1) * s.batchStrideC + s.m * ldc); }
};

GemmShape shapeOf(int64_t m, int64_t n, int64_t k) {
  GemmShape s;
  s.m = m, s.n = n, s.k = k;
  return s;
}

// Every combination of transposition, accumulation, padding and batches on sizes around the register tiles and panels.
std::vector<GemmShape> shapes() {
  std::vector<GemmShape> all;
  const int64_t sizes[][3] = {{1, 1, 1},    {8, 48, 16},     {7, 47, 3},    {9, 49, 257},  {1, 130, 300},
                              {130, 1, 64}, {260, 390, 259}, {3, 1100, 40}, {33, 100, 512}};
  unsigned count = 0;
  for (auto [m, n, k] : sizes)
    for (int flags = 0; flags < 8; ++flags) {
      if (m == 260 && flags % 3 != 0)
        continue;
      GemmShape s = shapeOf(m, n, k);
      s.transposeA = flags & 1;
      s.transposeB = flags & 2;
      s.accumulate = flags & 4;
      if (count++ % 3 == 1) {
        s.leadingA = std::max(m, k) + 5;
        s.leadingB = std::max(n, k) + 3;
        s.leadingC = n + 7;
      }
      if (count % 4 == 2 && m * n * k < 1000000) {
        s.batch = 3;
        s.batchStrideA = count % 8 == 2 ? 0 : m * k + (s.leadingA ? m * k + 5 * (m + k) : 0);
        s.batchStrideB = n * k + (s.leadingB ? n * k + 3 * (n + k) : 0);
        s.batchStrideC = m * (n + 7);
      }
      all.push_back(s);
    }
  GemmShape empty = shapeOf(3, 5, 0);
  all.push_back(empty);
  empty.accumulate = true;
  all.push_back(empty);
  return all;
}

template <typename T> std::vector<T> randomValues(size_t count, unsigned seed) {
  std::mt19937_64 random(seed);
  std::vector<T> values(count);
  for (T &value : values) {
    if constexpr (std::is_floating_point_v<T>)
      value = static_cast<T>(std::normal_distribution<double>()(random));
    else
      value = static_cast<T>(random());
  }
  return values;
}

template <typename C>
void forEachElement(const Layout &at, const std::function<void(int64_t p, int64_t i, int64_t j, int64_t c)> &body) {
  for (int64_t p = 0; p < at.s.batch; ++p)
    for (int64_t i = 0; i < at.s.m; ++i)
      for (int64_t j = 0; j < at.s.n; ++j)
        body(p, i, j, at.c(p, i, j));
}

// Runs `gemm` and compares with C(start) combined over ascending k by `step`.
template <typename A, typename C, typename Gemm, typename Step>
void expectSequential(const GemmShape &s, const std::vector<A> &a, const std::vector<A> &b, Gemm gemm, Step step) {
  Layout at(s);
  std::vector<C> c = randomValues<C>(at.sizeC(), 3), want = c;
  gemm(a.data(), b.data(), c.data());
  forEachElement<C>(at, [&](int64_t p, int64_t i, int64_t j, int64_t out) {
    C sum = s.accumulate ? want[out] : C(0);
    for (int64_t k = 0; k < s.k; ++k)
      sum = step(a[at.a(p, i, k)], b[at.b(p, k, j)], sum);
    want[out] = sum;
  });
  ASSERT_EQ(c, want) << s.m << 'x' << s.n << 'x' << s.k << (s.transposeA ? " A^T" : "") << (s.transposeB ? " B^T" : "")
                     << " batch " << s.batch; // padding of C untouched too
}

TEST(Gemm, F32IsAChainOfFusedMultiplyAdds) {
  for (const GemmShape &s : shapes()) {
    Layout at(s);
    expectSequential<float, float>(
        s, randomValues<float>(at.sizeA(), 1), randomValues<float>(at.sizeB(), 2),
        [&](auto *a, auto *b, auto *c) { gemmF32(s, a, b, c); },
        [](float a, float b, float c) { return std::fma(a, b, c); });
  }
}

TEST(Gemm, F64IsAChainOfFusedMultiplyAdds) {
  for (const GemmShape &s : shapes()) {
    Layout at(s);
    expectSequential<double, double>(
        s, randomValues<double>(at.sizeA(), 1), randomValues<double>(at.sizeB(), 2),
        [&](auto *a, auto *b, auto *c) { gemmF64(s, a, b, c); },
        [](double a, double b, double c) { return std::fma(a, b, c); });
  }
}

TEST(Gemm, NarrowOperandsEqualWidenedOnes) {
  unsigned turn = 0;
  const ElementType types[] = {ElementType::f16, ElementType::bf16, ElementType::cb16, ElementType::f8e4m3fn,
                               ElementType::f32};
  for (const GemmShape &s : shapes()) {
    Layout at(s);
    ElementType typeA = types[turn % 5], typeB = types[(turn * 2 + 1) % 5];
    ++turn;
    std::vector<float> a = randomValues<float>(at.sizeA(), 1), b = randomValues<float>(at.sizeB(), 2);
    std::vector<float> c = randomValues<float>(at.sizeC(), 3), want = c;
    std::vector<std::byte> narrowA(a.size() * 4), narrowB(b.size() * 4);
    narrowFromF32(typeA, a.data(), narrowA.data(), a.size());
    narrowFromF32(typeB, b.data(), narrowB.data(), b.size());
    widenToF32(typeA, narrowA.data(), a.data(), a.size());
    widenToF32(typeB, narrowB.data(), b.data(), b.size());
    gemmNarrow(s, typeA, narrowA.data(), typeB, narrowB.data(), c.data());
    gemmF32(s, a.data(), b.data(), want.data());
    ASSERT_EQ(c, want);
  }
}

TEST(Gemm, IntegersWrap) {
  for (const GemmShape &s : shapes()) {
    Layout at(s);
    auto wrap32 = [](auto a, auto b, int32_t c) {
      return static_cast<int32_t>(static_cast<uint32_t>(c) + static_cast<uint32_t>(a) * static_cast<uint32_t>(b));
    };
    expectSequential<int32_t, int32_t>(
        s, randomValues<int32_t>(at.sizeA(), 1), randomValues<int32_t>(at.sizeB(), 2),
        [&](auto *a, auto *b, auto *c) { gemmI32(s, a, b, c); }, wrap32);
    expectSequential<int16_t, int32_t>(
        s, randomValues<int16_t>(at.sizeA(), 1), randomValues<int16_t>(at.sizeB(), 2),
        [&](auto *a, auto *b, auto *c) { gemmI16(s, a, b, c); }, wrap32);
    expectSequential<int64_t, int64_t>(
        s, randomValues<int64_t>(at.sizeA(), 1), randomValues<int64_t>(at.sizeB(), 2),
        [&](auto *a, auto *b, auto *c) { gemmI64(s, a, b, c); },
        [](int64_t a, int64_t b, int64_t c) {
          return static_cast<int64_t>(static_cast<uint64_t>(c) + static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
        });
  }
}

// All four sign combinations; the extreme fill makes any 16-bit saturation of adjacent products visible (255 * 127 * 2
// and 255 * -128 * 2 exceed 16 bits).
TEST(Gemm, Integer8IsExact) {
  for (ElementType typeA : {ElementType::i8, ElementType::u8})
    for (ElementType typeB : {ElementType::i8, ElementType::u8})
      for (int fill = 0; fill < 4; ++fill)
        for (const GemmShape &s : shapes()) {
          if (fill > 0 && (s.batch > 1 || s.m == 260))
            continue;
          Layout at(s);
          std::vector<uint8_t> a = randomValues<uint8_t>(at.sizeA(), 1), b = randomValues<uint8_t>(at.sizeB(), 2);
          if (fill > 0) {
            std::fill(a.begin(), a.end(), typeA == ElementType::u8 ? 255 : fill == 1 ? 128 : 127); // 128: -128 as i8
            std::fill(b.begin(), b.end(), typeB == ElementType::u8 ? 255 : fill == 2 ? 127 : 128);
          }
          int32_t zeroA = fill == 1 ? 0 : typeA == ElementType::u8 ? 255 : -128;
          int32_t zeroB = fill == 1 ? 0 : fill == 3 ? 1000000 : typeB == ElementType::u8 ? 0 : 127;
          auto value = [](ElementType type, uint8_t bits) {
            return type == ElementType::u8 ? int64_t(bits) : int64_t(static_cast<int8_t>(bits));
          };
          expectSequential<uint8_t, int32_t>(
              s, a, b, [&](auto *x, auto *y, auto *c) { gemmInteger8(s, typeA, x, zeroA, typeB, y, zeroB, c); },
              [&](uint8_t x, uint8_t y, int32_t c) {
                return static_cast<int32_t>(c + (value(typeA, x) - zeroA) * (value(typeB, y) - zeroB));
              });
        }
}

// The once-rounded form.

// The exact dot product of f16 values over [begin, end), rounded once to f32; MPFR's 400 bits hold every bit of it.
class ExactDot {
public:
  ExactDot() { mpfr_inits2(400, sum, x, nullptr); }
  ~ExactDot() { mpfr_clears(sum, x, nullptr); }
  float operator()(const std::function<std::pair<double, double>(int64_t)> &factors, int64_t begin, int64_t end) {
    mpfr_set_zero(sum, 1);
    for (int64_t k = begin; k < end; ++k) {
      auto [a, b] = factors(k);
      mpfr_set_d(x, a, MPFR_RNDN);
      mpfr_mul_d(x, x, b, MPFR_RNDN);
      mpfr_add(sum, sum, x, MPFR_RNDN);
    }
    return mpfr_get_flt(sum, MPFR_RNDN);
  }

private:
  mpfr_t sum, x;
};

void expectOnceRounded(const GemmShape &s, int64_t block, const std::vector<float> &a, const std::vector<float> &b,
                       const char *what) {
  Layout at(s);
  std::vector<uint16_t> halfA(a.size()), halfB(b.size());
  narrowFromF32(ElementType::f16, a.data(), halfA.data(), a.size());
  narrowFromF32(ElementType::f16, b.data(), halfB.data(), b.size());
  std::vector<float> exactA(a.size()), exactB(b.size());
  widenToF32(ElementType::f16, halfA.data(), exactA.data(), a.size());
  widenToF32(ElementType::f16, halfB.data(), exactB.data(), b.size());
  std::vector<float> c = randomValues<float>(at.sizeC(), 9), fromF32 = c, start = c;
  gemmOnceRounded(s, block, ElementType::f16, halfA.data(), ElementType::f16, halfB.data(), c.data());
  gemmOnceRounded(s, block, ElementType::f32, exactA.data(), ElementType::f32, exactB.data(), fromF32.data());
  ExactDot dot;
  forEachElement<float>(at, [&](int64_t p, int64_t i, int64_t j, int64_t out) {
    auto factors = [&](int64_t k) -> std::pair<double, double> {
      return {exactA[at.a(p, i, k)], exactB[at.b(p, k, j)]};
    };
    float want = start[out];
    for (int64_t k = 0; k < s.k; k += block) {
      float part = dot(factors, k, std::min(s.k, k + block));
      want = k == 0 && !s.accumulate ? part : want + part;
    }
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(c[out]) && std::isnan(fromF32[out])) << what;
      return;
    }
    ASSERT_EQ(std::bit_cast<uint32_t>(c[out]), std::bit_cast<uint32_t>(want))
        << what << " block " << block << " at " << i << ',' << j << ": " << std::hexfloat << c[out] << " not " << want;
    ASSERT_EQ(std::bit_cast<uint32_t>(fromF32[out]), std::bit_cast<uint32_t>(want));
  });
}

using Fill = std::function<float(std::mt19937_64 &, int64_t line, int64_t k)>;

void expectOnceRoundedFor(const char *what, const Fill &fillA, const Fill &fillB,
                          std::initializer_list<int64_t> blocks = {160, 320, 7, 1, 1024}) {
  for (int64_t block : blocks)
    for (bool transposed : {false, true}) {
      GemmShape s = shapeOf(11, 27, block == 1 ? 5 : 2 * block + 3);
      s.transposeB = transposed;
      s.accumulate = transposed;
      Layout at(s);
      std::mt19937_64 random(static_cast<uint64_t>(block));
      std::vector<float> a(at.sizeA()), b(at.sizeB());
      for (int64_t k = 0; k < s.k; ++k) {
        for (int64_t i = 0; i < s.m; ++i)
          a[at.a(0, i, k)] = fillA(random, i, k);
        for (int64_t j = 0; j < s.n; ++j)
          b[at.b(0, k, j)] = fillB(random, j, k);
      }
      expectOnceRounded(s, block, a, b, what);
    }
}

float normal(std::mt19937_64 &random) {
  return std::normal_distribution<float>()(random);
}

TEST(GemmOnceRounded, OrdinaryData) {
  auto gaussian = [](auto &random, int64_t, int64_t) { return normal(random); };
  expectOnceRoundedFor("gaussian", gaussian, gaussian);
  auto small = [](auto &random, int64_t, int64_t) { return normal(random) * 1e-4f; }; // f16 subnormals among them
  expectOnceRoundedFor("small", small, gaussian);
  auto integers = [](auto &random, int64_t, int64_t) { return float(int(random() % 4097) - 2048); };
  expectOnceRoundedFor("integers", integers, integers);
  auto zeros = [](auto &random, int64_t, int64_t) { return random() % 2 ? 0.0f : -0.0f; };
  expectOnceRoundedFor("zeros", zeros, gaussian);
}

TEST(GemmOnceRounded, AnyBitPattern) {
  auto anything = [](auto &random, int64_t, int64_t) {
    return float(doubleFromBits(ElementType::f16, (random() & 0x83ff) | ((random() % 31) << 10))); // finite
  };
  expectOnceRoundedFor("any finite", anything, anything);
}

TEST(GemmOnceRounded, Cancellation) {
  // Pairs of huge products cancel and leave products near the smallest there are.
  auto left = [](auto &random, int64_t, int64_t k) {
    return k % 3 == 2 ? std::ldexp(float(1 + random() % 2047), -24) : (k % 3 == 0 ? 65504.0f : -65504.0f);
  };
  auto right = [](auto &random, int64_t, int64_t k) {
    return k % 3 == 2 ? std::ldexp(float(1 + random() % 2047), -24) : 65504.0f;
  };
  expectOnceRoundedFor("cancellation", left, right);
  // The same with gaussian values, each followed by its negative and a leftover.
  float last = 0;
  auto paired = [&last](auto &random, int64_t, int64_t k) {
    return k % 4 == 3 ? std::ldexp(normal(random), -10) : k % 4 == 0 ? (last = normal(random)) : -last;
  };
  auto constant = [](auto &, int64_t, int64_t k) { return k % 4 == 3 ? 0x1p-10f : 1.0f; };
  expectOnceRoundedFor("paired", paired, constant);
}

TEST(GemmOnceRounded, HalfwayCases) {
  // 2^e + half an ulp of f32, exactly, or with the smallest product added or taken away: 1 * 1 + 2^-12 * 2^-12 +-
  // 2^-24 * 2^-24. Rounding an f64 sum of these (which cannot hold 2^-48 beside 2^14) goes wrong in the last case.
  for (float top : {1.0f, 128.0f, 1024.0f, 32768.0f})
    for (int nudge : {-1, 0, 1})
      for (int odd : {0, 1}) {
        auto left = [=](auto &, int64_t line, int64_t k) {
          switch ((k + line) % 7) {
          case 0:
            return k < 7 ? top : 0.0f;
          case 1:
            return k < 7 ? top * 0x1p-12f : 0.0f;
          case 2:
            return k < 7 ? float(nudge) * 0x1p-24f : 0.0f;
          case 3:
            return k < 7 && odd ? top * 0x1p-11f : 0.0f; // makes the f32 significand odd: the tie goes up
          default:
            return 0.0f;
          }
        };
        auto right = [=](auto &, int64_t /*line*/, int64_t k) {
          switch (k % 7) {
          case 0:
            return 1.0f;
          case 1:
            return 0x1p-12f;
          case 2:
            return 0x1p-24f;
          default:
            return 0x1p-12f;
          }
        };
        expectOnceRoundedFor("halfway", left, right, {160, 7});
      }
}

TEST(GemmOnceRounded, HugeBesideSmall) {
  auto mixed = [](auto &random, int64_t, int64_t) {
    switch (random() % 4) {
    case 0:
      return 65504.0f * (random() % 2 ? 1 : -1);
    case 1:
      return 0x1p-24f * float(random() % 5);
    default:
      return std::ldexp(normal(random), int(random() % 24) - 14);
    }
  };
  expectOnceRoundedFor("mixed", mixed, mixed);
}

TEST(GemmOnceRounded, InfinitiesAndNan) {
  auto special = [](auto &random, int64_t line, int64_t /*k*/) {
    if (random() % 40 != 0 || line % 2)
      return normal(random);
    return line % 3 ? INFINITY : random() % 2 ? -INFINITY : NAN;
  };
  auto zeros = [](auto &random, int64_t, int64_t) { return random() % 3 ? normal(random) : 0.0f; };
  expectOnceRoundedFor("specials", special, zeros);
}

TEST(Gemm, ThreadsDoNotChangeAnyBit) {
  GemmShape s = shapeOf(300, 500, 700);
  std::vector<float> a = randomValues<float>(300 * 700, 1), b = randomValues<float>(700 * 500, 2);
  std::vector<uint16_t> halfA(a.size()), halfB(b.size());
  narrowFromF32(ElementType::f16, a.data(), halfA.data(), a.size());
  narrowFromF32(ElementType::f16, b.data(), halfB.data(), b.size());
  auto results = [&] {
    std::vector<float> c(300 * 500), d(300 * 500);
    gemmF32(s, a.data(), b.data(), c.data());
    gemmOnceRounded(s, 160, ElementType::f16, halfA.data(), ElementType::f16, halfB.data(), d.data());
    c.insert(c.end(), d.begin(), d.end());
    return c;
  };
  std::vector<float> threaded = results();
  setThreadCount(1);
  std::vector<float> serial = results();
  setThreadCount(0);
  EXPECT_EQ(threaded, serial);
}

} // namespace
