// What ONNX's data of the attention operators does not cover. With queries of zeros every key that a query sees weighs
// the same, so a result is the mean of the values that are seen: with the values 1, 2, 4, 8 it tells which they were.
#include "TextModel.h"

#include "gmock/gmock.h"

#include <limits>

namespace quadrille::graph {
namespace {

using testing::ElementsAre;
using testing::FloatEq;
using testing::HasSubstr;

Tensor longs(Shape shape, std::vector<int64_t> values) {
  return Tensor::of<int64_t>(ElementType::i64, std::move(shape), values);
}
const Tensor three = floats({1, 1, 3, 1}, {0, 0, 0}), keys = floats({1, 1, 4, 1}, {0, 0, 0, 0}),
             values = floats({1, 1, 4, 1}, {1, 2, 4, 8});

// Three queries and four keys.
std::string model(const std::string &attributes, const std::string &more = "", const std::string &operands = "") {
  return "g (float[1,1,3,1] q, float[1,1,4,1] k, float[1,1,4,1] v" + more + ") => (float[1,1,3,1] y) { y = Attention" +
         attributes + "(q, k, v" + operands + ") }";
}

TEST(Attention, CausalQueriesSeeTheKeysUpToTheirOwn) {
  EXPECT_THAT(run(23, model("<is_causal = 1>"), {three, keys, values}),
              ElementsAre(FloatEq(1), FloatEq(3.0f / 2), FloatEq(7.0f / 3)));
}

// Of 4 and of 2 keys that are no padding the three queries are the last: positions 1, 2, 3 and -1, 0, 1. The query
// before all keys sees none and gives zero.
TEST(Attention, QueriesAreTheLastOfTheKeysThatAreNoPadding) {
  std::string text = model("<is_causal = 1>", ", int64[1] n", ", , , , n");
  EXPECT_THAT(run(24, text, {three, keys, values, longs({1}, {4})}),
              ElementsAre(FloatEq(3.0f / 2), FloatEq(7.0f / 3), FloatEq(15.0f / 4)));
  EXPECT_THAT(run(24, text, {three, keys, values, longs({1}, {2})}), ElementsAre(0, FloatEq(1), FloatEq(3.0f / 2)));
  EXPECT_THAT(run(24, model("", ", int64[1] n", ", , , , n"), {three, keys, values, longs({1}, {2})}),
              ElementsAre(FloatEq(3.0f / 2), FloatEq(3.0f / 2), FloatEq(3.0f / 2)));
}

TEST(Attention, WindowsBoundWhatIsSeenSince25) {
  EXPECT_THAT(run(25, model("<left_window_size = 1>"), {three, keys, values}),
              ElementsAre(FloatEq(15.0f / 4), FloatEq(15.0f / 4), FloatEq(14.0f / 3)));
  EXPECT_THAT(run(25, model("<left_window_size = 0, right_window_size = 1>"), {three, keys, values}),
              ElementsAre(FloatEq(3.0f / 2), FloatEq(3), FloatEq(6)));
  // The causal bound stays.
  EXPECT_THAT(run(25, model("<is_causal = 1, left_window_size = 1, right_window_size = 1>"), {three, keys, values}),
              ElementsAre(FloatEq(1), FloatEq(3.0f / 2), FloatEq(3)));
  EXPECT_THAT(errorOf(24, model("<left_window_size = 1>")), HasSubstr("left_window_size"));
}

// Two keys of the past: queries stand at 2, 3, 4 of 6.
TEST(Attention, WindowsCountThePast) {
  std::string text =
      "g (float[1,1,3,1] q, float[1,1,4,1] k, float[1,1,4,1] v, float[1,1,2,1] pk, float[1,1,2,1] pv) => "
      "(float[1,1,3,1] y, float[1,1,6,1] nk, float[1,1,6,1] nv) "
      "{ y, nk, nv = Attention<is_causal = 1, left_window_size = 1>(q, k, v, , pk, pv) }";
  std::vector<Tensor> inputs = {three, keys, values, floats({1, 1, 2, 1}, {5, 6}), floats({1, 1, 2, 1}, {16, 32})};
  EXPECT_THAT(run(25, text, inputs), ElementsAre(FloatEq(33.0f / 2), FloatEq(3.0f / 2), FloatEq(3)));
  EXPECT_THAT(run(25, text, inputs, withHost(), 1), ElementsAre(5, 6, 0, 0, 0, 0));
  EXPECT_THAT(run(25, text, inputs, withHost(), 2), ElementsAre(16, 32, 1, 2, 4, 8));
}

// A window behind the last key: the second and third query see nothing.
TEST(Attention, WithNothingToSeeGivesZero) {
  std::string text = "g (float[1,1,3,1] q, float[1,1,1,1] k, float[1,1,1,1] v) => (float[1,1,3,1] y) "
                     "{ y = Attention<left_window_size = 0>(q, k, v) }";
  EXPECT_THAT(run(25, text, {three, floats({1, 1, 1, 1}, {0}), floats({1, 1, 1, 1}, {3})}), ElementsAre(3, 0, 0));
}

TEST(Attention, MasksHideWhateverTheScoreIs) {
  float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  Tensor wrong = floats({1, 1, 4, 1}, {0, nan, 0, infinity}), ones = floats({1, 1, 3, 1}, {1, 1, 1});
  std::string additive = model("", ", float[1,4] m", ", m");
  EXPECT_THAT(run(23, additive, {ones, wrong, values, floats({1, 4}, {0, -infinity, 0, -infinity})}),
              ElementsAre(FloatEq(2.5), FloatEq(2.5), FloatEq(2.5)));
  // Keys that a shorter mask leaves out are hidden.
  std::string shorter = model("", ", float[3,1] m", ", m");
  EXPECT_THAT(run(23, shorter, {ones, wrong, values, floats({3, 1}, {0, -infinity, 7})}), ElementsAre(1, 0, 1));
  EXPECT_THAT(errorOf(23, model("", ", float[2,4] m", ", m")), HasSubstr("do not broadcast"));
}

// tanh(4 / 2) * 2 = 1.928; the raw scaled product is 4.
TEST(Attention, ShowsTheScoresAtAnyPoint) {
  auto shown = [](int mode) {
    std::string text = "g (float[1,1,1,1] q, float[1,1,2,1] k, float[1,1,2,1] v, float[2] m) => "
                       "(float[1,1,1,1] y, float[1,1,1,2] s) { y, , , s = Attention<softcap = 2.0, scale = 0.5, "
                       "qk_matmul_output_mode = " +
                       std::to_string(mode) + ">(q, k, v, m) }";
    return run(
        23, text,
        {floats({1, 1, 1, 1}, {2}), floats({1, 1, 2, 1}, {4, 0}), floats({1, 1, 2, 1}, {1, 3}), floats({2}, {0, 1})},
        withHost(), 1);
  };
  EXPECT_THAT(shown(0), ElementsAre(FloatEq(4), FloatEq(0)));
  EXPECT_THAT(shown(1), ElementsAre(FloatEq(1.92805516f), FloatEq(0)));
  EXPECT_THAT(shown(2), ElementsAre(FloatEq(1.92805516f), FloatEq(1)));
  EXPECT_THAT(shown(3), ElementsAre(FloatEq(0.71668055f), FloatEq(0.28331945f))); // 1 / (1 + e^(1 - 1.928))
}

TEST(Attention, OperandsThatDoNotFitAreRefused) {
  auto error = [](const std::string &operands, const std::string &call) {
    return errorOf(23, "g (" + operands + ") => (float[1,1] y) { y = " + call + " }");
  };
  EXPECT_THAT(error("float[1,3,2,4] q, float[1,2,2,4] k", "Attention(q, k, k)"),
              HasSubstr("not a multiple of 2 heads"));
  EXPECT_THAT(error("float[1,2,6] q", "Attention<q_num_heads = 4, kv_num_heads = 4>(q, q, q)"), HasSubstr("4 heads"));
  EXPECT_THAT(error("float[1,2,6] q", "Attention(q, q, q)"), HasSubstr("0 heads"));
  EXPECT_THAT(error("float[1,2,2,4] q", "Attention(q, q, q, , q)"), HasSubstr("not given together"));
  EXPECT_THAT(error("float[1,2,2,4] q, float[1,2,2,3] k", "Attention(q, k, k)"), HasSubstr("do not fit"));
  EXPECT_THAT(error("float[1,2,2,4] q", "Attention<qk_matmul_output_mode = 4>(q, q, q)"),
              HasSubstr("qk_matmul_output_mode is 4"));
}

// Products are contractions, the recurrence is a loop: in the kernels that targets see.
TEST(Attention, BodiesAreStructured) {
  llvm::Expected<KernelGraph> graph = import(
      23, "g (float[1,4,8,16] q, float[1,2,8,16] k) => (float[1,4,8,16] y) { y = Attention<is_causal = 1>(q, k, k) }");
  ASSERT_TRUE(bool(graph));
  ASSERT_EQ(graph->kernels.size(), 1u);
  EXPECT_EQ(graph->kernels[0].operation, "attention");
  int contractions = 0;
  for (const Kernel &kernel : graph->kernels[0].region->kernels)
    contractions += kernel.kind == KernelKind::Contract;
  EXPECT_EQ(contractions, 2);
  for (const Value &value : graph->kernels[0].region->values)
    EXPECT_NE(value.role, ValueRole::Constant); // the causal mask is computed
}

// The graph adds a tensor that is computed around it: scores 0 and 1 of two keys, 1 / (1 + e) = 0.26894143.
TEST(FlexAttention, GraphsReadWhatIsAroundThem) {
  std::string text = "g (float[1,1,1,1] q, float[1,1,2,1] k, float[1,1,2,1] v, float[2] a) => (float[1,1,1,1] y) {\n"
                     "  b = Add(a, a)\n"
                     "  y = ai.onnx.preview.FlexAttention<score_mod = s (float[1,1,1,2] x) => (float[1,1,1,2] z) "
                     "{ z = Add(x, b) }>(q, k, v)\n}";
  EXPECT_THAT(run(26, text,
                  {floats({1, 1, 1, 1}, {0}), floats({1, 1, 2, 1}, {0, 0}), floats({1, 1, 2, 1}, {1, 0}),
                   floats({2}, {0, 0.5})}),
              ElementsAre(FloatEq(0.26894143f)));
}

TEST(FlexAttention, GraphsOfOtherShapesAreRefused) {
  std::string text = "g (float[1,1,1,1] q) => (float[1,1,1,1] y) { y = ai.onnx.preview.FlexAttention<score_mod = "
                     "s (float[1,1,1,1] x) => (float[1] z) { z = Flatten(x) }>(q, q, q) }";
  EXPECT_THAT(errorOf(26, text), HasSubstr("something else than one tensor"));
  std::string unknown = "g (float[1,1,1,1] q) => (float[1,1,1,1] y) { y = ai.onnx.preview.FlexAttention<score_mod = "
                        "s (float[1,1,1,1] x) => (float[1,1,1,1] z) { z = Nonsense(x) }>(q, q, q) }";
  EXPECT_THAT(errorOf(26, unknown), HasSubstr("Nonsense"));
}

// S = 1 * 2 after the first step, * e^0 and corrected by 0.5 * (3 - S * 1) after the second: 2, 2.5. The query is 2,
// the scale 1 / sqrt(1). The state keeps its own type.
TEST(LinearAttention, StateKeepsItsType) {
  std::string text = "g (float16[1,2,1] q, float16[1,2,1] k, float16[1,2,1] v, float[1,1,1,1] s, float16[1,2,1] b) => "
                     "(float16[1,2,1] y, float[1,1,1,1] n) { y, n = LinearAttention<q_num_heads = 1, kv_num_heads = 1, "
                     "update_rule = \"delta\">(q, k, v, s, , b) }";
  auto halves = [](std::vector<uint16_t> bits) { return Tensor::of<uint16_t>(ElementType::f16, {1, 2, 1}, bits); };
  std::vector<Tensor> inputs = {halves({0x4000, 0x4000}), halves({0x3c00, 0x3c00}), halves({0x4000, 0x4200}),
                                floats({1, 1, 1, 1}, {0}), halves({0x3c00, 0x3800})};
  EXPECT_THAT(run<uint16_t>(27, text, inputs), ElementsAre(0x4400, 0x4500)); // 4, 5
  EXPECT_THAT(run(27, text, inputs, withHost(), 1), ElementsAre(2.5));
  EXPECT_THAT(errorOf(27, "g (float[1,2,1] q) => (float[1,2,1] y) { y = LinearAttention<q_num_heads = 1, kv_num_heads "
                          "= 1>(q, q, q) }"),
              HasSubstr("takes a decay and a beta"));
}

TEST(TensorScatter, WithoutIndicesWritesAtTheBeginning) {
  std::string text = "g (float[1,4] c, float[1,2] u) => (float[1,4] y) { y = TensorScatter<axis = 1>(c, u) }";
  EXPECT_THAT(run(24, text, {floats({1, 4}, {1, 2, 3, 4}), floats({1, 2}, {8, 9})}), ElementsAre(8, 9, 3, 4));
}

TEST(TensorScatter, WrapsAroundOrRefuses) {
  auto text = [](const std::string &mode) {
    return "g (float[2,3,2] c, float[2,2,2] u, int64[2] i) => (float[2,3,2] y) { y = TensorScatter<mode = \"" + mode +
           "\">(c, u, i) }";
  };
  std::vector<Tensor> inputs = {floats({2, 3, 2}, std::vector<float>(12, 0)),
                                floats({2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8}), longs({2}, {2, 4})};
  EXPECT_THAT(run(24, text("circular"), inputs), ElementsAre(3, 4, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8));
  llvm::Expected<KernelGraph> linear = import(24, text("linear"));
  ASSERT_TRUE(bool(linear));
  llvm::Expected<std::vector<Tensor>> results = host::evaluate(*linear, inputs);
  ASSERT_FALSE(bool(results));
  EXPECT_THAT(report(results.takeError()).message, HasSubstr("index 3 is outside"));
}

} // namespace
} // namespace quadrille::graph
