// Worst errors in ulp. f32 results are measured on every 1021st bit pattern (all exponents, both signs, subnormals,
// NaN) against the C library's f64 function, whose error is below 2^-28 ulp of f32, and the worst point of each
// function again with MPFR; f64 results against MPFR on random bit patterns and on random values of ordinary size. An
// ulp is that of the exact result's binade, and of the smallest normal for subnormal results.
#include "numerics/BlockKernels.h"

#include "base/Parallel.h"

#include "gtest/gtest.h"
#include <hwy/targets.h>
#include <mpfr.h>

#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

using namespace quadrille;

namespace {

using MpfrUnary = int (*)(mpfr_t, const mpfr_t, mpfr_rnd_t);
using MpfrBinary = int (*)(mpfr_t, const mpfr_t, const mpfr_t, mpfr_rnd_t);

struct UnaryFunction {
  BlockOpcode opcode;
  double (*reference)(double);
  MpfrUnary exact;
  double limitF32, limitF64; // asserted worst error in ulp
};

#define QUADRILLE_REFERENCE(name) [](double x) { return std::name(x); }
#define QUADRILLE_EXACT(name) [](mpfr_t y, const mpfr_t x, mpfr_rnd_t mode) { return mpfr_##name(y, x, mode); }
#define QUADRILLE_UNARY(opcode, name) BlockOpcode::opcode, QUADRILLE_REFERENCE(name), QUADRILLE_EXACT(name)

const UnaryFunction unaryFunctions[] = {
    {QUADRILLE_UNARY(Exp, exp), 1, 1},       {QUADRILLE_UNARY(Exp2, exp2), 1, 1},
    {QUADRILLE_UNARY(Expm1, expm1), 1, 1},   {QUADRILLE_UNARY(Log, log), 1, 1},
    {QUADRILLE_UNARY(Log2, log2), 1, 1},     {QUADRILLE_UNARY(Log1p, log1p), 1, 1},
    {QUADRILLE_UNARY(Sin, sin), 1, 1},       {QUADRILLE_UNARY(Cos, cos), 1, 1},
    {QUADRILLE_UNARY(Tan, tan), 1, 1},       {QUADRILLE_UNARY(Asin, asin), 1, 1},
    {QUADRILLE_UNARY(Acos, acos), 1, 1},     {QUADRILLE_UNARY(Atan, atan), 1, 1},
    {QUADRILLE_UNARY(Sinh, sinh), 1, 2},     {QUADRILLE_UNARY(Cosh, cosh), 1, 2},
    {QUADRILLE_UNARY(Tanh, tanh), 1.01, 1},  {QUADRILLE_UNARY(Asinh, asinh), 1, 1.2},
    {QUADRILLE_UNARY(Acosh, acosh), 1, 1.2}, {QUADRILLE_UNARY(Atanh, atanh), 1.01, 1},
    {QUADRILLE_UNARY(Erf, erf), 1.1, 1},
};

template <typename T> constexpr ElementType typeOf = sizeof(T) == 4 ? ElementType::f32 : ElementType::f64;

template <typename T>
std::vector<T> evaluate(BlockOpcode opcode, const std::vector<T> &x, const std::vector<T> *y = nullptr) {
  BlockKernel kernel = elementaryKernel(opcode, typeOf<T>);
  std::vector<T> out(x.size());
  BlockSource sources[] = {{x.data(), ~size_t(0)}, {y ? y->data() : nullptr, ~size_t(0)}};
  EXPECT_EQ(x.size() % kernelGranule, 0u);
  kernel(out.data(), sources, x.size());
  return out;
}

template <typename T> double ulpOf(double exact) {
  constexpr int digits = std::numeric_limits<T>::digits, lowest = std::numeric_limits<T>::min_exponent - 1;
  int exponent = exact == 0 ? lowest : std::max(std::ilogb(exact), lowest);
  exponent = std::min(exponent, std::numeric_limits<T>::max_exponent - 1);
  return std::ldexp(1.0, exponent - digits + 1);
}

// Error of an f32 result against a wider exact one; infinity stands for the power of two past the largest value.
double errorF32(float got, double exact) {
  if (std::isnan(exact) || std::isnan(got))
    return std::isnan(exact) && std::isnan(got) ? 0 : 1e9;
  double value = std::isinf(got) ? std::copysign(0x1p128, got) : double(got);
  if (std::fabs(exact) >= 0x1p128)
    exact = std::copysign(0x1p128, exact);
  return std::fabs(value - exact) / ulpOf<float>(exact);
}

double errorF64(double got, const mpfr_t exact) {
  if (mpfr_nan_p(exact) || std::isnan(got))
    return mpfr_nan_p(exact) && std::isnan(got) ? 0 : 1e9;
  double nearest = mpfr_get_d(exact, MPFR_RNDN);
  if (std::isinf(nearest) || std::isinf(got)) {
    if (nearest == got)
      return 0;
    return std::fabs(nearest) == std::numeric_limits<double>::max() ||
                   std::fabs(got) == std::numeric_limits<double>::max()
               ? 1
               : 1e9;
  }
  mpfr_t difference;
  mpfr_init2(difference, 200);
  mpfr_sub_d(difference, exact, got, MPFR_RNDN);
  double ulp = ulpOf<double>(mpfr_get_d(exact, MPFR_RNDZ));
  mpfr_div_d(difference, difference, ulp, MPFR_RNDN);
  double error = std::fabs(mpfr_get_d(difference, MPFR_RNDN));
  mpfr_clear(difference);
  return error;
}

struct Worst {
  double error = -1, x = 0, y = 0, got = 0;
  void see(double e, double atX, double atY, double result) {
    if (e > error)
      *this = {e, atX, atY, result};
  }
};

std::vector<float> everyPattern(uint64_t step) {
  std::vector<float> values;
  for (uint64_t bits = 0; bits < (uint64_t(1) << 32); bits += step)
    values.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  values.insert(values.end(), {0.0f, -0.0f, 1.0f, -1.0f, INFINITY, -INFINITY, NAN, FLT_MAX, -FLT_MAX, FLT_MIN,
                               std::numeric_limits<float>::denorm_min()});
  values.resize((values.size() + kernelGranule - 1) / kernelGranule * kernelGranule, 0.5f);
  return values;
}

std::vector<double> randomDoubles(size_t count, unsigned seed) {
  std::mt19937_64 random(seed);
  std::vector<double> values;
  while (values.size() < count) {
    double any = std::bit_cast<double>(random());
    values.push_back(any);
    values.push_back(std::normal_distribution<double>(0, 1)(random));
    values.push_back(std::ldexp(std::uniform_real_distribution<double>(-1, 1)(random), int(random() % 24) - 12));
    values.push_back(std::uniform_real_distribution<double>(-750, 750)(random));
  }
  values.insert(values.end(), {0.0, -0.0, 1.0, -1.0, INFINITY, -INFINITY, NAN, DBL_MAX, -DBL_MAX, DBL_MIN, 5e-324,
                               1e-310, 0.5, -0.5, 710.0, 709.8, -745.0});
  values.resize((values.size() + kernelGranule - 1) / kernelGranule * kernelGranule, 0.5);
  return values;
}

TEST(ElementaryFunctions, UnaryWithinTheStatedUlp) {
  std::vector<float> singles = everyPattern(1021);
  std::vector<double> doubles = randomDoubles(8000, 5);
  std::printf("%-8s %12s %16s %12s %24s\n", "function", "f32 ulp", "at", "f64 ulp", "at");
  mpfr_t x, exact;
  mpfr_inits2(160, x, exact, nullptr);
  for (const UnaryFunction &function : unaryFunctions) {
    std::vector<float> single = evaluate(function.opcode, singles);
    constexpr int64_t pieces = 64;
    std::vector<Worst> worsts(pieces);
    auto length = static_cast<int64_t>(singles.size()) / pieces + 1;
    parallelFor(pieces, 1, [&](int64_t begin, int64_t) {
      for (int64_t i = begin * length; i < std::min<int64_t>((begin + 1) * length, singles.size()); ++i)
        worsts[begin].see(errorF32(single[i], function.reference(singles[i])), singles[i], 0, single[i]);
    });
    Worst worst;
    for (const Worst &w : worsts)
      if (w.error > worst.error)
        worst = w;
    mpfr_set_d(x, worst.x, MPFR_RNDN);
    function.exact(exact, x, MPFR_RNDN);
    if (worst.error < 1e8)
      EXPECT_NEAR(errorF32(static_cast<float>(worst.got), mpfr_get_d(exact, MPFR_RNDN)), worst.error, 1e-6);

    std::vector<double> result = evaluate(function.opcode, doubles);
    Worst worst64;
    for (size_t i = 0; i < doubles.size(); ++i) {
      mpfr_set_d(x, doubles[i], MPFR_RNDN);
      function.exact(exact, x, MPFR_RNDN);
      worst64.see(errorF64(result[i], exact), doubles[i], 0, result[i]);
    }
    std::printf("%-8s %12.4g %16.8g %12.4g %24.17g\n", nameOf(function.opcode).str().c_str(), worst.error, worst.x,
                worst64.error, worst64.x);
    EXPECT_LE(worst.error, function.limitF32) << nameOf(function.opcode).str() << "(" << worst.x << ") f32";
    EXPECT_LE(worst64.error, function.limitF64) << nameOf(function.opcode).str() << "(" << worst64.x << ") f64";
  }
  mpfr_clears(x, exact, nullptr);
}

template <typename T> Worst worstBinary(BlockOpcode opcode, MpfrBinary exactly, std::vector<T> x, std::vector<T> y) {
  std::vector<T> got = evaluate(opcode, x, &y);
  Worst worst;
  mpfr_t a, b, exact;
  mpfr_inits2(160, a, b, exact, nullptr);
  for (size_t i = 0; i < x.size(); ++i) {
    mpfr_set_d(a, x[i], MPFR_RNDN);
    mpfr_set_d(b, y[i], MPFR_RNDN);
    exactly(exact, a, b, MPFR_RNDN);
    double error = sizeof(T) == 4 ? errorF32(static_cast<float>(got[i]), mpfr_get_d(exact, MPFR_RNDN))
                                  : errorF64(static_cast<double>(got[i]), exact);
    worst.see(error, x[i], y[i], got[i]);
  }
  mpfr_clears(a, b, exact, nullptr);
  return worst;
}

TEST(ElementaryFunctions, BinaryWithinTheStatedUlp) {
  struct {
    BlockOpcode opcode;
    MpfrBinary exactly;
  } functions[] = {
      {BlockOpcode::Power, [](mpfr_t z, const mpfr_t x, const mpfr_t y, mpfr_rnd_t m) { return mpfr_pow(z, x, y, m); }},
      {BlockOpcode::Atan2,
       [](mpfr_t z, const mpfr_t x, const mpfr_t y, mpfr_rnd_t m) { return mpfr_atan2(z, x, y, m); }}};
  for (auto [opcode, exactly] : functions) {
    std::vector<double> x = randomDoubles(20000, 7), y = randomDoubles(20000, 8);
    // Moderate powers: bases around 1 and exponents that bring results across the whole range; integer exponents.
    std::mt19937_64 random(9);
    for (size_t i = 0; i < x.size(); i += 3) {
      x[i] = std::ldexp(std::uniform_real_distribution<double>(0.5, 2)(random), int(random() % 9) - 4);
      y[i] = i % 2 ? double(int(random() % 64) - 32) : std::uniform_real_distribution<double>(-60, 60)(random);
    }
    for (size_t i = 1; i < 40; i += 3) // specials against each other
      x[i] = x[x.size() - 1 - i % 20];
    std::vector<float> xs(x.begin(), x.end()), ys(y.begin(), y.end());
    Worst single = worstBinary<float>(opcode, exactly, xs, ys), wide = worstBinary<double>(opcode, exactly, x, y);
    std::printf("%-8s %12.4g  (%.8g, %.8g) %12.4g  (%.17g, %.17g)\n", nameOf(opcode).str().c_str(), single.error,
                single.x, single.y, wide.error, wide.x, wide.y);
    EXPECT_LE(single.error, 1) << nameOf(opcode).str() << '(' << single.x << ", " << single.y << ") f32";
    EXPECT_LE(wide.error, 1) << nameOf(opcode).str() << '(' << wide.x << ", " << wide.y << ") f64";
  }
}

// C99 annex F, table of exact cases.
TEST(ElementaryFunctions, SpecialValues) {
  auto one = [](BlockOpcode opcode, float x) { return evaluate(opcode, std::vector<float>(kernelGranule, x))[0]; };
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (BlockOpcode odd : {BlockOpcode::Expm1, BlockOpcode::Log1p, BlockOpcode::Sin, BlockOpcode::Tan, BlockOpcode::Asin,
                          BlockOpcode::Atan, BlockOpcode::Sinh, BlockOpcode::Tanh, BlockOpcode::Asinh,
                          BlockOpcode::Atanh, BlockOpcode::Erf}) {
    EXPECT_EQ(std::bit_cast<uint32_t>(one(odd, 0.0f)), 0u) << nameOf(odd).str();
    EXPECT_EQ(std::bit_cast<uint32_t>(one(odd, -0.0f)), 0x80000000u) << nameOf(odd).str();
  }
  EXPECT_EQ(one(BlockOpcode::Exp, -infinity), 0.0f);
  EXPECT_EQ(one(BlockOpcode::Exp, infinity), infinity);
  EXPECT_EQ(one(BlockOpcode::Expm1, -infinity), -1.0f);
  EXPECT_EQ(one(BlockOpcode::Log, 0.0f), -infinity);
  EXPECT_EQ(one(BlockOpcode::Log, -0.0f), -infinity);
  EXPECT_TRUE(std::isnan(one(BlockOpcode::Log, -1.0f)));
  EXPECT_TRUE(std::isnan(one(BlockOpcode::Sin, infinity)));
  EXPECT_EQ(one(BlockOpcode::Tanh, infinity), 1.0f);
  EXPECT_EQ(one(BlockOpcode::Erf, -infinity), -1.0f);
  EXPECT_EQ(one(BlockOpcode::Atanh, 1.0f), infinity);
  EXPECT_EQ(one(BlockOpcode::Acosh, 1.0f), 0.0f);
  EXPECT_TRUE(std::isnan(one(BlockOpcode::Acosh, 0.5f)));
  EXPECT_EQ(one(BlockOpcode::Cosh, -infinity), infinity);
}

// AVX2 and AVX-512 give the same bits.
TEST(ElementaryFunctions, SameBitsOnEveryVectorSet) {
  int64_t fused = hwy::SupportedTargets() & (HWY_AVX2 | HWY_AVX3 | HWY_AVX3_DL);
  if (std::popcount(static_cast<uint64_t>(fused)) < 2)
    GTEST_SKIP() << "this CPU has one of the vector sets at most";
  std::vector<float> singles = everyPattern(65537);
  std::vector<double> doubles = randomDoubles(8000, 6);
  auto everything = [&] {
    std::vector<uint64_t> bits;
    for (const UnaryFunction &function : unaryFunctions) {
      for (float value : evaluate(function.opcode, singles))
        bits.push_back(std::isnan(value) ? 1 : std::bit_cast<uint32_t>(value));
      for (double value : evaluate(function.opcode, doubles))
        bits.push_back(std::isnan(value) ? 1 : std::bit_cast<uint64_t>(value));
    }
    return bits;
  };
  std::vector<std::vector<uint64_t>> results;
  std::vector<BlockKernel> kernels;
  for (int64_t target : {HWY_AVX2, HWY_AVX3}) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().DeInit();
    kernels.push_back(elementaryKernel(BlockOpcode::Exp, ElementType::f32));
    results.push_back(everything());
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().DeInit();
  EXPECT_NE(kernels[0], kernels[1]);
  EXPECT_EQ(results[0], results[1]);
}

} // namespace
