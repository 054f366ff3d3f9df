#include "target/Compare.h"

#include "base/Parallel.h"

#include "gtest/gtest.h"

#include <cmath>
#include <limits>

namespace quadrille::target {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

Comparison compareFloats(std::vector<float> actual, std::vector<float> reference) {
  Shape shape{static_cast<int64_t>(actual.size())};
  return compare(Tensor::of<float>(ElementType::f32, shape, actual),
                 Tensor::of<float>(ElementType::f32, shape, reference));
}

TEST(Compare, FiguresByHand) {
  // Errors 0, 3, -4; reference 3, 4, 0: sqrt(25) / sqrt(25).
  Comparison result = compareFloats({3, 7, -4}, {3, 4, 0});
  EXPECT_EQ(result.relativeL2, 1);
  EXPECT_EQ(result.maxAbs, 4);
  EXPECT_EQ(result.worstElement, 2);
  // A reference of zeros: the norm of the error itself.
  EXPECT_EQ(compareFloats({3, 4}, {0, 0}).relativeL2, 5);
  EXPECT_EQ(compareFloats({1, 2}, {1, 2}).worstElement, -1);
  EXPECT_EQ(compareFloats({}, {}).relativeL2, 0);
}

TEST(Compare, NanAndInfinity) {
  // Equal NaNs and infinities count in neither sum: error 1 over reference 2.
  Comparison result = compareFloats({nan, infinity, -infinity, 3}, {nan, infinity, -infinity, 2});
  EXPECT_EQ(result.relativeL2, 0.5);
  EXPECT_EQ(result.maxAbs, 1);
  EXPECT_EQ(result.nonFiniteMismatches, 0);
  for (auto [actual, reference] :
       {std::pair(nan, 1.0f), {1.0f, nan}, {infinity, -infinity}, {infinity, 1.0f}, {nan, infinity}}) {
    result = compareFloats({0, actual}, {0, reference});
    EXPECT_EQ(result.relativeL2, infinity);
    EXPECT_EQ(result.maxAbs, infinity);
    EXPECT_EQ(result.nonFiniteMismatches, 1);
    EXPECT_EQ(result.worstElement, 1);
  }
}

TEST(Compare, OtherTypes) {
  int64_t large = (int64_t(1) << 60) + 1;
  Comparison result = compare(Tensor::of<int64_t>(ElementType::i64, {1}, {large}),
                              Tensor::of<int64_t>(ElementType::i64, {1}, {large - 1}));
  EXPECT_EQ(result.maxAbs, 1);
  result = compare(Tensor::of<uint8_t>(ElementType::boolean, {2}, {1, 0}),
                   Tensor::of<uint8_t>(ElementType::boolean, {2}, {1, 1}));
  EXPECT_EQ(result.maxAbs, 1);
  EXPECT_DOUBLE_EQ(result.relativeL2, std::sqrt(0.5));
  // f16 0x3c00 = 1, 0x4000 = 2.
  result = compare(Tensor::of<uint16_t>(ElementType::f16, {1}, {0x3c00}),
                   Tensor::of<uint16_t>(ElementType::f16, {1}, {0x4000}));
  EXPECT_EQ(result.relativeL2, 0.5);
  // Squares that leave f64's range.
  result =
      compare(Tensor::of<double>(ElementType::f64, {1}, {3e200}), Tensor::of<double>(ElementType::f64, {1}, {2e200}));
  EXPECT_DOUBLE_EQ(result.relativeL2, 0.5);
}

TEST(Compare, BlocksAddUp) {
  // 10,000 elements with error 1 against 2: 0.5 however they are cut, and the first of the worst is named.
  std::vector<float> actual(10000, 3), reference(10000, 2);
  actual[5000] = actual[9999] = 4;
  Comparison result = compareFloats(actual, reference);
  EXPECT_DOUBLE_EQ(result.relativeL2, std::sqrt((9998.0 + 2 * 4) / (4 * 10000)));
  EXPECT_EQ(result.worstElement, 5000);
}

TEST(Compare, BitwiseEqualTellsSignsOfZero) {
  Tensor zero = Tensor::of<float>(ElementType::f32, {1}, {0.0f}),
         minus = Tensor::of<float>(ElementType::f32, {1}, {-0.0f});
  EXPECT_TRUE(bitwiseEqual(zero, zero));
  EXPECT_FALSE(bitwiseEqual(zero, minus));
  EXPECT_FALSE(bitwiseEqual(zero, zero.reshaped({1, 1})));
  EXPECT_EQ(compare(zero, minus).maxAbs, 0);
}

} // namespace
} // namespace quadrille::target
