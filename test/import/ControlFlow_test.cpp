// If, Scan and Loop.
#include "TextModel.h"

namespace quadrille::graph {
namespace {

Tensor truth(bool value) {
  return Tensor::of<uint8_t>(ElementType::boolean, {}, {value});
}

Tensor count(int64_t value) {
  return Tensor::of<int64_t>(ElementType::i64, {}, {value});
}

const char *branches = "g (float[2] x, bool c) => (float[2] y) { y = If (c) <"
                       "then_branch = t () => (float[2] a) { a = Neg(x) },"
                       "else_branch = e () => (float[2] b) { b = Relu(x) }> }";

TEST(If, SelectsBetweenBothBranchesAtRunTime) {
  Tensor x = floats({2}, {1, -2});
  EXPECT_THAT(run(13, branches, {x, truth(true)}), ElementsAre(-1, 2));
  EXPECT_THAT(run(13, branches, {x, truth(false)}), ElementsAre(1, 0));
}

TEST(If, OfResultsThatDifferInShapeNeedsAConditionThatIsKnown) {
  const char *model = "g (float[2] x, bool c) => (float[N] y) { y = If (c) <"
                      "then_branch = t () => (float[2] a) { a = Neg(x) },"
                      "else_branch = e () => (float[4] b) { b = Concat<axis = 0>(x, x) }> }";
  EXPECT_EQ(errorOf(13, model),
            "test.onnx: If \"If_0\": the condition 'c' depends on the values of the model's inputs, and a machine "
            "without branches can only select between results of one type and shape, but output 'y' is f32[2] or "
            "f32[4]; bind the input that the condition comes from with --bind NAME=VALUE");
  ImportOptions options = withHost();
  options.bindings["c"] = truth(false);
  EXPECT_THAT(run(13, model, {floats({2}, {1, -2})}, options), ElementsAre(1, -2, 1, -2));
}

TEST(If, BecomesTheBranchThatIsTaken) {
  ImportOptions options = withHost();
  options.bindings["c"] = truth(true);
  EXPECT_THAT(run(13, branches, {floats({2}, {1, -2})}, options), ElementsAre(-1, 2));
  options.bindings["c"] = truth(false);
  EXPECT_THAT(run(13, branches, {floats({2}, {1, -2})}, options), ElementsAre(1, 0));
}

// The running sum of the rows, and one more than each of them: s = 0, 1 + 2, ...
TEST(Scan, CarriesStatesAndStacksResults) {
  const char *model = "g (float[2] s, float[3,2] x, float[2] k) => (float[2] t, float[3,2] y) {"
                      "  t, y = Scan<num_scan_inputs = 1, body = b (float[2] a, float[2] e) => (float[2] c, float[2] d)"
                      "  { c = Add(a, e)  d = Mul(e, k) }>(s, x) }";
  std::vector<Tensor> inputs = {floats({2}, {0, 100}), floats({3, 2}, {1, 2, 3, 4, 5, 6}), floats({2}, {10, 1})};
  EXPECT_THAT(run(13, model, inputs), ElementsAre(9, 112)); // 1 + 3 + 5 and 100 + 2 + 4 + 6
  EXPECT_THAT(run(13, model, inputs, withHost(), 1), ElementsAre(10, 2, 30, 4, 50, 6));
}

TEST(Loop, OfKnownTripCountStacksItsResults) {
  const char *model = "g (int64 m, bool go, float[1] x) => (float[1] t, float[3,1] y) {"
                      "  t, y = Loop<body = b (int64 i, bool c, float[1] a) => (bool d, float[1] n, float[1] o)"
                      "  { d = Identity(c)  n = Add(a, a)  o = Identity(a) }>(m, go, x) }";
  ImportOptions options = withHost();
  EXPECT_THAT(errorOf(13, model, options), HasSubstr("the trip count (operand 0, 'm') must be known at import"));
  options.bindings["m"] = count(3);
  options.bindings["go"] = truth(true);
  EXPECT_THAT(run(13, model, {floats({1}, {5})}, options), ElementsAre(40)); // 5 doubled three times
  EXPECT_THAT(run(13, model, {floats({1}, {5})}, options, 1), ElementsAre(5, 10, 20));
}

// Doubled while it is below 100, at most m times.
const char *doubling = "g (int64 m, bool go, float[1] x) => (float[1] t, float[1] s) {"
                       "  t, s = Loop<body = b (int64 i, bool c, float[1] a, float[1] k) => (bool d, float[1] n, "
                       "float[1] l)"
                       "  <float hundred = {100}, float[1] one = {1}>"
                       "  { n = Add(a, a)  l = Add(k, one)  below = Less(n, hundred)  d = Squeeze(below) }>"
                       "(m, go, x, zero) }";

std::string withZero(std::string model) {
  return model.insert(model.find('{'), "<float[1] zero = {0}>");
}

TEST(Loop, KeepsItsStatesOnceTheConditionIsFalse) {
  ImportOptions options = withHost();
  options.bindings["m"] = count(10);
  for (bool bound : {true, false}) { // the first condition, known or not
    std::vector<Tensor> inputs = {floats({1}, {5})};
    if (bound)
      options.bindings["go"] = truth(true);
    else
      inputs.insert(inputs.begin(), truth(true));
    EXPECT_THAT(run(13, withZero(doubling), inputs, options), ElementsAre(160)); // 10 20 40 80 160
    EXPECT_THAT(run(13, withZero(doubling), inputs, options, 1), ElementsAre(5));
    options.bindings.erase("go");
  }
  EXPECT_THAT(run(13, withZero(doubling), {truth(false), floats({1}, {5})}, options), ElementsAre(5));
  options.bindings["m"] = count(2); // the trip count ends it
  EXPECT_THAT(run(13, withZero(doubling), {truth(true), floats({1}, {5})}, options), ElementsAre(20));
}

TEST(Loop, WithoutAnyBoundIsRefused) {
  ImportOptions options = withHost();
  options.bindings["m"] = count(INT64_MAX); // how exporters write "until the condition is false"
  EXPECT_THAT(errorOf(13, withZero(doubling), options), HasSubstr("nothing bounds its number of steps"));
  options.bindings["go"] = truth(true);
  EXPECT_THAT(errorOf(13, withZero(doubling), options),
              HasSubstr("a condition that depends on the values of the model's inputs ends the loop"));
}

TEST(Loop, OfComputedLengthCannotStackResults) {
  const char *model = "g (bool go, float[1] x) => (float[1] t, float[N,1] y) <int64 m = {3}> {"
                      "  t, y = Loop<body = b (int64 i, bool c, float[1] a) => (bool d, float[1] n, float[1] o)"
                      "  { d = Identity(c)  n = Add(a, a)  o = Identity(a) }>(m, go, x) }";
  EXPECT_THAT(errorOf(13, model), HasSubstr("output 1 has as many slices as the loop has steps"));
}

// What the condition is in each step follows from the step's number: the loop ends long before its bound, and 0, 1, 2,
// 3 are stacked.
TEST(Loop, EndsWhereAKnownConditionSays) {
  const char *model =
      "g (float[1] x) => (float[1] t, int64[N] y) <int64 three = {3}, int64 most = {1000000}, bool go = {1}> {"
      "  t, y = Loop<body = b (int64 i, bool c, float[1] a) => (bool d, float[1] n, int64 o)"
      "  { d = Less(i, three)  n = Add(a, a)  o = Identity(i) }>(most, go, x) }";
  EXPECT_THAT(run(13, model, {floats({1}, {5})}), ElementsAre(80));
  EXPECT_THAT(run<int64_t>(13, model, {floats({1}, {5})}, withHost(), 1), ElementsAre(0, 1, 2, 3));
}

TEST(Loop, StatesMayGrowFromStepToStep) {
  const char *model = "g (float[1] x) => (float[N] t) <int64 m = {3}, bool go = {1}> {"
                      "  t = Loop<body = b (int64 i, bool c, float[M] a) => (bool d, float[K] n)"
                      "  { d = Identity(c)  n = Concat<axis = 0>(a, x) }>(m, go, x) }";
  EXPECT_THAT(run(13, model, {floats({1}, {5})}), ElementsAre(5, 5, 5, 5));
}

// Loops within loops are tried in several forms each; the work of that is bounded.
TEST(Loop, NestedDeeplyIsRefusedInTime) {
  std::string body = "n = UnknownOperator(a0)";
  for (int depth = 0; depth < 24; ++depth)
    body = "n = Loop<body = b (int64 i, bool c, float[1] a" + std::to_string(depth) +
           ") => (bool d, float[1] n) { d = "
           "Identity(c) " +
           body + " }>(m, go, a" + std::to_string(depth + 1) + ")";
  std::string model = "g (float[1] a24) => (float[1] n) <int64 m = {3}, bool go = {1}> {" + body + "}";
  EXPECT_THAT(errorOf(13, model), HasSubstr("not supported"));
}

} // namespace
} // namespace quadrille::graph
