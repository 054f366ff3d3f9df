// What ONNX's own data does not show of single operators.
#include "TextModel.h"

#include "numerics/Convert.h"

#include <cmath>
#include <complex>
#include <numbers>
#include <set>

namespace quadrille::graph {
namespace {

using testing::Each;
using testing::FloatNear;
using testing::Pointwise;

std::vector<float> numbered(int64_t count) {
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(static_cast<float>(std::sin(static_cast<double>(i * i % 97))));
  return values;
}

//===--------------------------------------------------------------------------------------------------------------===//
// Fourier transforms, against the definition in doubles
//===--------------------------------------------------------------------------------------------------------------===//

std::vector<float> transformOf(const std::vector<float> &x, int64_t n) { // of real numbers
  std::vector<float> result;
  for (int64_t k = 0; k < n; ++k) {
    std::complex<double> sum = 0;
    for (int64_t j = 0; j < n; ++j)
      sum += static_cast<double>(x[j]) *
             std::polar(1.0, -2 * std::numbers::pi * static_cast<double>(k * j % n) / static_cast<double>(n));
    result.push_back(static_cast<float>(sum.real()));
    result.push_back(static_cast<float>(sum.imag()));
  }
  return result;
}

// 127 and 131 are one product, 1000 is cut into 25 * 40, 2048 into 32 * 64.
TEST(Dft, OfLongSignalsIsCutIntoFactors) {
  for (int64_t n : {127, 131, 1000, 2048}) {
    std::string extent = std::to_string(n);
    std::vector<float> x = numbered(n), expected = transformOf(x, n);
    EXPECT_THAT(run(17, "g (float[1," + extent + ",1] x) => (float[1," + extent + ",2] y) { y = DFT<axis = 1>(x) }",
                    {floats({1, n, 1}, x)}),
                Pointwise(FloatNear(2e-4f), expected))
        << n;
    int64_t half = n / 2 + 1;
    std::vector<float> spectrum(expected.begin(), expected.begin() + 2 * half);
    EXPECT_THAT(run(17,
                    "g (float[1,H,2] x) => (float[1,N,1] y) <int64 n = {" + extent +
                        "}> { y = DFT<axis = 1, inverse = 1, onesided = 1>(x, n) }",
                    {floats({1, half, 2}, spectrum)}, withShape("x", {1, half, 2})),
                Pointwise(FloatNear(1e-5f), x))
        << n;
  }
}

// The work of a product with a 2048 x 2048 matrix of complex numbers would be 2048 * 2048 * 4 steps.
TEST(Dft, OfLongSignalsTakesLittleWork) {
  auto graph = import(17, "g (float[1,2048,1] x) => (float[1,2048,2] y) { y = DFT<axis = 1>(x) }");
  ASSERT_TRUE(static_cast<bool>(graph)) << report(graph.takeError()).message;
  double flops = 0;
  for (const Kernel &kernel : graph->kernels)
    flops += kernel.flops;
  EXPECT_LT(flops, 2048 * (32 + 64 + 8) * 8);
}

// SciPy's and PyTorch's windows of one element.
TEST(Windows, OfOneElementAreOne) {
  for (const char *name : {"HannWindow", "HammingWindow", "BlackmanWindow"})
    EXPECT_THAT(run(17, std::string("g () => (float[1] y) <int64 n = {1}> { y = ") + name + "<periodic = 0>(n) }", {}),
                ElementsAre(FloatNear(1, 1e-6f)))
        << name;
}

//===--------------------------------------------------------------------------------------------------------------===//
// Sampling
//===--------------------------------------------------------------------------------------------------------------===//

// Far outside nothing is read, not even an infinity at the edge times a weight of zero; the middle of 1, 2, 3, 4 and
// the middle of the right edge (half of it outside) are interpolated.
TEST(GridSample, ReadsZeroOutside) {
  float infinite = std::numeric_limits<float>::infinity();
  const char *model = "g (float[1,1,2,2] x, float[1,1,2,2] at) => (float[1,1,1,2] y) { y = GridSample(x, at) }";
  EXPECT_THAT(run(20, model, {floats({1, 1, 2, 2}, {infinite, 2, 3, infinite}), floats({1, 1, 2, 2}, {-9, -9, 9, 9})}),
              ElementsAre(0, 0));
  EXPECT_THAT(run(20, model, {floats({1, 1, 2, 2}, {1, 2, 3, 4}), floats({1, 1, 2, 2}, {0, 0, 1, 0})}),
              ElementsAre(2.5, 1.5));
}

const char *aligned = "g (float[1,1,8,8] x) => (float[1,1,2,2] y) <float[1,4] r = {REGION}, int64[1] b = {0}> "
                      "{ y = RoiAlign<output_height = 2, output_width = 2, sampling_ratio = RATIO>(x, r, b) }";

std::string with(std::string text, const std::string &name, const std::string &value) {
  return text.replace(text.find(name), name.size(), value);
}

// A region of 4 x 6 elements has ceil(4 / 2) = 2 and ceil(6 / 2) = 3 samples along the sides of its bins; one of 4 x 4
// has 2 and 2. Together the larger numbers of samples are laid out, and the smaller region uses fewer of them.
TEST(RoiAlign, TakesAsManySamplesAsARegionIsLarge) {
  Tensor x = floats({1, 1, 8, 8}, numbered(64));
  const char *both = "g (float[1,1,8,8] x) => (float[2,1,2,2] y) "
                     "<float[2,4] r = {1, 2, 5, 6, 1, 1, 5, 7}, int64[2] b = {0, 0}> "
                     "{ y = RoiAlign<output_height = 2, output_width = 2>(x, r, b) }";
  std::vector<float> values = run(16, both, {x});
  ASSERT_EQ(values.size(), 8u);
  EXPECT_THAT(std::vector<float>(values.begin(), values.begin() + 4),
              Pointwise(FloatNear(1e-6f), run(16, with(with(aligned, "REGION", "1, 2, 5, 6"), "RATIO", "2"), {x})));
  EXPECT_THAT(std::vector<float>(values.begin() + 4, values.end()),
              Pointwise(FloatNear(1e-6f), run(16, with(with(aligned, "REGION", "1, 1, 5, 7"), "RATIO", "0"), {x})));
  EXPECT_THAT(errorOf(16, "g (float[1,1,8,8] x, float[1,4] r, int64[1] b) => (float[1,1,1,1] y) "
                          "{ y = RoiAlign(x, r, b) }"),
              HasSubstr("takes as many samples as a region is large, and the regions depend on the values"));
}

// The worked example of caffe's ROI pooling: the region of columns 1..3 and rows 0..2 in bins of 1.5 elements, so that
// rows and columns {0, 1} and {1, 2} of the region; the second region lies right of the image.
TEST(MaxRoiPool, TakesTheMaximumOfEveryBin) {
  Tensor x = floats({1, 1, 4, 4}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15});
  EXPECT_THAT(run(1,
                  "g (float[1,1,4,4] x, float[2,5] r) => (float[2,1,2,2] y) "
                  "{ y = MaxRoiPool<pooled_shape = [2, 2]>(x, r) }",
                  {x, floats({2, 5}, {0, 1, 0, 3, 2, 0, 8, 0, 9, 1})}),
              ElementsAre(6, 7, 10, 11, 0, 0, 0, 0));
}

TEST(ReverseSequence, OfALengthThatIsNotThereIsAnError) {
  auto graph = import(10, "g (float[3,1] x, int64[1] n) => (float[3,1] y) { y = ReverseSequence(x, n) }");
  ASSERT_TRUE(static_cast<bool>(graph)) << report(graph.takeError()).message;
  for (int64_t length : {-1, 4}) {
    auto result =
        host::evaluate(*graph, {floats({3, 1}, {1, 2, 3}), Tensor::of<int64_t>(ElementType::i64, {1}, {length})});
    ASSERT_FALSE(static_cast<bool>(result)) << length;
    EXPECT_THAT(report(result.takeError()).message, HasSubstr("index"));
  }
}

//===--------------------------------------------------------------------------------------------------------------===//
// Determinants
//===--------------------------------------------------------------------------------------------------------------===//

TEST(Det, ExchangesRowsForPivots) {
  // A cyclic permutation of three is even; a swap is odd; equal rows are singular.
  EXPECT_THAT(
      run(11, "g (float[3,3,3] x) => (float[3] y) { y = Det(x) }",
          {floats({3, 3, 3}, {0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 1, 2, 3, 1, 2, 3, 4, 5, 6})}),
      ElementsAre(1, -1, 0));
}

//===--------------------------------------------------------------------------------------------------------------===//
// Random numbers
//===--------------------------------------------------------------------------------------------------------------===//

struct Moments {
  double mean = 0, deviation = 0;
  explicit Moments(const std::vector<float> &values) {
    for (float value : values)
      mean += value / static_cast<double>(values.size());
    for (float value : values)
      deviation += (value - mean) * (value - mean) / static_cast<double>(values.size());
    deviation = std::sqrt(deviation);
  }
};

// Numbers of the documented stream: the upper 24 bits of each word as a fraction, between -2 and 4.
TEST(Random, UniformNumbersAreTheStreamOfTheSeed) {
  std::vector<float> drawn = run(
      22, "g () => (float[1000] y) { y = RandomUniform<shape = [1000], low = -2.0, high = 4.0, seed = 7.0>() }", {});
  std::vector<uint32_t> words(1000);
  randomBits(std::bit_cast<uint32_t>(7.0f), 0, words.data(), words.size());
  for (size_t i = 0; i < words.size(); ++i)
    ASSERT_FLOAT_EQ(drawn[i], static_cast<float>(words[i] >> 8) * 0x1p-24f * 6 - 2);
}

TEST(Random, SeedsComeFromTheAttributeOrTheName) {
  const char *model = "g () => (float[4] y) { y = RandomNormal<shape = [4]>()  z = RandomNormal<shape = [4]>() }";
  EXPECT_EQ(run(22, model, {}), run(22, model, {}));
  const char *both = "g () => (bool[4] y) { a = RandomNormal<shape = [4]SEED>()  b = RandomNormal<shape = [4]SEED>() "
                     "y = Equal(a, b) }";
  EXPECT_THAT(run<uint8_t>(22, with(with(both, "SEED", ""), "SEED", ""), {}), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(run<uint8_t>(22, with(with(both, "SEED", ", seed = 1.0"), "SEED", ", seed = 1.0"), {}),
              ElementsAre(1, 1, 1, 1));
}

// Of n draws the mean lies within 5 deviations / sqrt(n) of the true one (1 in a million), here 0.016 of 100,000.
TEST(Random, NormalNumbersHaveTheMomentsAskedFor) {
  for (const char *type : {"1", "10", "11"}) {
    Moments moments(
        run(22,
            std::string("g () => (float[100000] y) { r = RandomNormal<shape = [100000], mean = 3.0, scale = "
                        "2.0, seed = 1.0, dtype = ") +
                type + ">() y = Cast<to = 1>(r) }",
            {}));
    EXPECT_NEAR(moments.mean, 3, 0.032) << type;
    EXPECT_NEAR(moments.deviation, 2, 0.032) << type;
  }
}

TEST(Random, BernoulliAndMultinomialFollowTheirProbabilities) {
  Tensor quarter = floats({40000}, std::vector<float>(40000, 0.25f));
  EXPECT_NEAR(Moments(run(15, "g (float[40000] p) => (float[40000] y) { y = Bernoulli(p) }", {quarter})).mean, 0.25,
              0.011);
  // e^x = 1, 3, 0, 4: probabilities 1/8, 3/8, 0, 1/2, and in the second row the last class alone.
  float none = -std::numeric_limits<float>::infinity();
  std::vector<int32_t> drawn =
      run<int32_t>(7, "g (float[2,4] x) => (int32[2,40000] y) { y = Multinomial<sample_size = 40000>(x) }",
                   {floats({2, 4}, {0, std::log(3.0f), none, std::log(4.0f), none, none, none, 2})});
  std::map<int32_t, double> share;
  for (int i = 0; i < 40000; ++i)
    share[drawn[i]] += 1.0 / 40000;
  EXPECT_NEAR(share[0], 0.125, 0.0125);
  EXPECT_NEAR(share[1], 0.375, 0.0125);
  EXPECT_EQ(share.count(2), 0u);
  EXPECT_NEAR(share[3], 0.5, 0.0125);
  EXPECT_THAT(std::vector<int32_t>(drawn.begin() + 40000, drawn.end()), Each(3));
}

// What is kept is scaled by 1 / (1 - 0.75), the rest is zero, as the mask says.
TEST(Random, DropoutInTrainingKeepsTheMean) {
  const char *model = "g (float[40000] x) => (float[40000] y, bool[40000] m) <float r = {0.75}, bool t = {1}> "
                      "{ y, m = Dropout<seed = 3>(x, r, t) }";
  Tensor ones = floats({40000}, std::vector<float>(40000, 1));
  std::vector<float> y = run(13, model, {ones});
  std::vector<uint8_t> mask = run<uint8_t>(13, model, {ones}, withHost(), 1);
  for (size_t i = 0; i < y.size(); ++i)
    ASSERT_EQ(y[i], mask[i] ? 4 : 0);
  EXPECT_NEAR(Moments(y).mean, 1, 0.05);
}

TEST(Random, NumbersInALoopAreRefused) {
  EXPECT_THAT(errorOf(22, "g (float[3,2] x) => (float[3,2] y) { y = Scan<num_scan_inputs = 1, body = b (float[2] a) => "
                          "(float[2] c) { c = RandomNormalLike(a) }>(x) }"),
              HasSubstr("random numbers in the body of a loop"));
}

//===--------------------------------------------------------------------------------------------------------------===//
// Results whose shape depends on values
//===--------------------------------------------------------------------------------------------------------------===//

// As exporters write it: the dimensions that are not 1.
TEST(Selection, IsComputedInShapeArithmetic) {
  const char *model =
      "g (float[3,1,2] x) => (float[3,2] y) <int64 one = {1}> { s = Shape(x)  e = Equal(s, one)  "
      "n = Not(e)  i = NonZero(n)  k = Gather(s, i)  y = Reshape(x, f)  a = Constant<value_ints = [0]>() "
      " f = Squeeze(k, a) }";
  std::string ordered = model;
  size_t late = ordered.find("  y = Reshape(x, f)");
  ordered.erase(late, 19);
  ordered.insert(ordered.rfind('}'), " y = Reshape(x, f) ");
  EXPECT_THAT(run(13, ordered, {floats({3, 1, 2}, {1, 2, 3, 4, 5, 6})}), ElementsAre(1, 2, 3, 4, 5, 6));
}

TEST(Selection, OfValuesAtRunTimeIsRefusedWithTheReason) {
  EXPECT_EQ(
      errorOf(13, "g (float[3] x) => (int64[1,N] y) { y = NonZero(x) }"),
      "test.onnx: 1 node is not supported\n  NonZero \"NonZero_0\": the shape of the result depends on the values "
      "of operand 0, which are not known before the program runs");
}

// With a condition that is known the selected elements may be anything.
TEST(Selection, ByAKnownConditionIsAGather) {
  EXPECT_THAT(run(11, "g (float[2,3] x) => (float[2,2] y) <bool[3] c = {1, 0, 1}> { y = Compress<axis = 1>(x, c) }",
                  {floats({2, 3}, {1, 2, 3, 4, 5, 6})}),
              ElementsAre(1, 3, 4, 6));
}

//===--------------------------------------------------------------------------------------------------------------===//
// Batch normalisation in training
//===--------------------------------------------------------------------------------------------------------------===//

// Mean 2 and variance 1 of 1, 3; the running mean moves from 10 by a tenth.
TEST(BatchNormalization, OfOldOperatorSetsTrainsWhereItHasTheResults) {
  const char *model = "g (float[2,1] x) => (float[2,1] y, float[1] m, float[1] v, float[1] sm, float[1] sv) "
                      "<float[1] one = {1}, float[1] zero = {0}, float[1] ten = {10}> "
                      "{ y, m, v, sm, sv = BatchNormalization<epsilon = 0.0>(x, one, zero, ten, one) }";
  auto near = [](float value) { return ElementsAre(FloatNear(value, 1e-5f)); };
  Tensor x = floats({2, 1}, {1, 3});
  EXPECT_THAT(run(9, model, {x}), ElementsAre(-1, 1));
  EXPECT_THAT(run(9, model, {x}, withHost(), 1), near(9.2f));
  EXPECT_THAT(run(9, model, {x}, withHost(), 2), near(1));
  EXPECT_THAT(run(9, model, {x}, withHost(), 3), near(2));
  EXPECT_THAT(run(9, model, {x}, withHost(), 4), near(1));
}

} // namespace
} // namespace quadrille::graph
