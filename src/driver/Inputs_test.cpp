#include "driver/Inputs.h"

#include "base/Error.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cmath>

namespace quadrille::driver {
namespace {

const Port image{"image", ElementType::f32, {2, 3}};

std::string messageOf(llvm::Expected<NamedTensors> result) {
  return report(result.takeError()).message;
}

TEST(Inputs, WrongInputsAreNamed) {
  EXPECT_EQ(messageOf(bindInputs(image, {}, std::nullopt)),
            "no value for input 'image' (f32[2,3]); give --input FILE.npz or --random SEED");
  EXPECT_EQ(messageOf(bindInputs(image, {{"image", Tensor::zeros(ElementType::f64, {2, 3})}}, 1)),
            "input 'image': wants f32[2,3], found f64[2,3]; NumPy makes float64 by default: use "
            "x.astype(numpy.float32)");
  EXPECT_EQ(messageOf(bindInputs(image, {{"image", Tensor::zeros(ElementType::f32, {3, 2})}}, 1)),
            "input 'image': wants f32[2,3], found f32[3,2]");
  EXPECT_EQ(messageOf(bindInputs(image, {{"imgae", Tensor::zeros(ElementType::f32, {2, 3})}}, 1)),
            "there is no input 'imgae'; the inputs are 'image'");
}

TEST(Inputs, NamelessArrayServesTheOnlyInput) {
  auto bound = bindInputs(image, {{"", Tensor::zeros(ElementType::f32, {2, 3})}}, std::nullopt);
  ASSERT_TRUE(bool(bound));
  EXPECT_EQ(bound->count("image"), 1u);
}

TEST(Inputs, RandomValuesDependOnSeedNameAndIndexAlone) {
  Tensor small = randomTensor({"a", ElementType::f32, {10}}, 1),
         large = randomTensor({"a", ElementType::f32, {1000}}, 1);
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(small.data<float>()[i], large.data<float>()[i]);
  EXPECT_NE(randomTensor({"b", ElementType::f32, {10}}, 1).data<float>()[0], small.data<float>()[0]);
  EXPECT_NE(randomTensor({"a", ElementType::f32, {10}}, 2).data<float>()[0], small.data<float>()[0]);
}

TEST(Inputs, RandomFloatsAreStandardNormal) {
  constexpr int count = 100000;
  Tensor tensor = randomTensor({"a", ElementType::f32, {count}}, 3);
  double sum = 0, squares = 0;
  for (int i = 0; i < count; ++i) {
    double value = tensor.data<float>()[i];
    ASSERT_TRUE(std::isfinite(value));
    sum += value;
    squares += value * value;
  }
  // Standard errors: 1/sqrt(n) = 0.0032 for the mean, sqrt(2/n) = 0.0045 for the mean square.
  EXPECT_NEAR(sum / count, 0, 5 * 0.0032);
  EXPECT_NEAR(squares / count, 1, 5 * 0.0045);
}

TEST(Inputs, RandomIntegersStayInRange) {
  Tensor tensor = randomTensor({"ids", ElementType::i64, {1000}}, 1);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_GE(tensor.data<int64_t>()[i], 0);
    EXPECT_LT(tensor.data<int64_t>()[i], 10);
  }
  Tensor narrow = randomTensor({"x", ElementType::i8, {4000}}, 1);
  auto [least, most] = std::minmax_element(narrow.data<int8_t>(), narrow.data<int8_t>() + 4000);
  EXPECT_EQ(*least, -128); // missed with probability (255/256)^4000 = 1.6e-7
  EXPECT_EQ(*most, 127);
  Tensor flags = randomTensor({"x", ElementType::boolean, {1000}}, 1);
  int trues = 0;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_LE(flags.data<uint8_t>()[i], 1);
    trues += flags.data<uint8_t>()[i];
  }
  EXPECT_NEAR(trues, 500, 5 * 15.8); // standard deviation sqrt(1000 / 4)
}

} // namespace
} // namespace quadrille::driver
