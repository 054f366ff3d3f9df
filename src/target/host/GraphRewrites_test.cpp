// Rewrites of src/graph compute the same as what they rewrite.
#include "graph/FuseKernels.h"
#include "graph/PermuteValues.h"
#include "target/host/RewriteTest.h"

namespace quadrille::host {
namespace {

using namespace graph;
constexpr ElementType f32 = ElementType::f32;

// The tensor with dimension permutation[i] as dimension i, element by element.
std::vector<double> permutedNumbers(const Tensor &tensor, const Permutation &permutation) {
  std::vector<double> values = doubles(tensor), result;
  Shape strides = rowMajorStrides(tensor.shape());
  std::function<void(size_t, int64_t)> walk = [&](size_t d, int64_t offset) {
    if (d == permutation.size()) {
      result.push_back(values[offset]);
      return;
    }
    for (int64_t i = 0; i < tensor.shape()[permutation[d]]; ++i)
      walk(d + 1, offset + i * strides[permutation[d]]);
  };
  walk(0, 0);
  return result;
}

TEST(PermuteValues, ComputesTheSameOnPermutedInputs) {
  GraphBuilder b;
  ValueId x = b.input("x", f32, {2, 3, 4});
  ValueId c = b.constant("c", smallNumbers(f32, {3, 4}, 1)), w = b.constant("w", smallNumbers(f32, {4, 5}, 2));
  ValueId start = b.constant("start", smallNumbers(f32, {5, 2}, 3));
  ValueId sum = elementwise(b, "add", {2, 3, 4}, {{x, loopsMap({0, 1, 2}), {}}, {c, loopsMap({1, 2}), {}}},
                            binary(BlockOpcode::Add));
  ValueId joined = concat(b, {sum, x}, 1);
  ValueId placed = b.value("placed", f32, {2, 6, 4});
  Kernel &insert = b.plain("insert_slice", {x, joined}, {placed});
  insert.attributes["offsets"] = std::vector<int64_t>{0, 2, 0};
  insert.attributes["sizes"] = std::vector<int64_t>{2, 3, 4};
  insert.attributes["strides"] = std::vector<int64_t>{1, 1, 1};
  ValueId y = b.value("y", f32, {2, 6, 5});
  b.contract({{2}, {6}, {5}, {4, true}}, {placed, loopsMap({0, 1, 3}), {}}, {w, loopsMap({3, 2}), {}}, y,
             loopsMap({0, 1, 2}));
  b.graph.kernels.back().writes[0].initialScalar.reset();
  b.graph.kernels.back().writes[0].initial = Read{start, loopsMap({2, 0}), {}};
  b.output(y);
  ASSERT_EQ(b.graph.verify(), "");

  std::vector<Permutation> permutations(b.graph.values.size());
  for (ValueId value : {x, sum, joined, placed})
    permutations[value] = {2, 0, 1};
  permutations[c] = permutations[w] = permutations[start] = {1, 0};
  permutations[y] = {1, 2, 0};
  KernelGraph permuted = b.graph;
  permuteValues(permuted, permutations);
  ASSERT_EQ(permuted.verify(), "");
  EXPECT_EQ(permuted.values[x].shape, (Shape{4, 2, 3}));
  EXPECT_EQ(permuted.values[y].shape, (Shape{6, 5, 2}));

  Tensor input = smallInputs(b.graph)[0];
  std::vector<double> numbers = permutedNumbers(input, permutations[x]);
  Tensor inputPermuted = Tensor::uninitialized(f32, {4, 2, 3});
  convert(ElementType::f64, numbers.data(), f32, inputPermuted.mutableBytes(), numbers.size());
  Tensor right = llvm::cantFail(evaluatePlain(b.graph, {input}))[0];
  Tensor got = llvm::cantFail(evaluatePlain(permuted, {inputPermuted}))[0];
  EXPECT_EQ(doubles(got), permutedNumbers(right, permutations[y]));
}

TEST(FuseElementwise, OneKernelReadsThroughTheOther) {
  GraphBuilder b;
  ValueId x = b.input("x", f32, {4, 3}), z = b.input("z", f32, {6});
  ValueId more = elementwise(b, "add", {4, 3}, {{x, loopsMap({0, 1}), {}}, {x, {{3, {{0, -1}}}, {0, {{1, 1}}}}, {}}},
                             binary(BlockOpcode::Subtract));
  // Every second row, transposed, and elements of z on one of its lines: 2 * column + row.
  ValueId y =
      elementwise(b, "scale", {3, 2}, {{more, {{1, {{1, 2}}}, {0, {{0, 1}}}}, {}}, {z, {{0, {{0, 2}, {1, 1}}}}, {}}},
                  binary(BlockOpcode::Multiply));
  b.output(y);
  KernelGraph fused = b.graph;
  fuseElementwise(fused, 100);
  EXPECT_EQ(operationsOf(fused), "scale");
  EXPECT_EQ(fused.kernels[0].reads.size(), 3u);
  expectTheSame(b.graph, fused);
  // Not where the body would be longer: two inputs and an operation each.
  KernelGraph apart = b.graph;
  fuseElementwise(apart, 5);
  EXPECT_EQ(operationsOf(apart), "add, scale");
}

TEST(FuseElementwise, NotWhereItWouldBeComputedAgainOrOtherwise) {
  auto kernelsOf = [](const std::function<ValueId(GraphBuilder &, ValueId more)> &finish, bool loopIndex = false) {
    GraphBuilder b;
    ValueId x = b.input("x", f32, {4});
    ValueId more = elementwise(b, "more", {4}, {{x, loopsMap({0}), {}}},
                               [&](BlockExpression &body, std::vector<Register> operands) {
                                 if (!loopIndex)
                                   return body.append(BlockOpcode::Add, f32, {operands[0], operands[0]});
                                 Register index = body.append(BlockOpcode::LoopIndex, ElementType::i64, {}, 0);
                                 return body.append(BlockOpcode::Convert, f32, {index});
                               });
    b.output(finish(b, more));
    KernelGraph fused = b.graph;
    fuseElementwise(fused, 100);
    expectTheSame(b.graph, fused);
    return fused.kernels.size();
  };
  auto twice = withNumber(BlockOpcode::Multiply, 2);
  EXPECT_EQ(kernelsOf([&](GraphBuilder &b, ValueId more) {
              return elementwise(b, "y", {4}, {{more, loopsMap({0}), {}}}, twice);
            }),
            1u);
  // For each of three rows.
  EXPECT_EQ(kernelsOf([&](GraphBuilder &b, ValueId more) {
              return elementwise(b, "y", {3, 4}, {{more, loopsMap({1}), {}}}, twice);
            }),
            2u);
  // Beyond its end there is padding, not what would be computed from padding.
  EXPECT_EQ(kernelsOf([&](GraphBuilder &b, ValueId more) {
              return elementwise(b, "y", {4}, {{more, {{2, {{0, 1}}}}, scalarOf(f32, 7)}}, twice);
            }),
            2u);
  // Somebody else wants it.
  EXPECT_EQ(kernelsOf([&](GraphBuilder &b, ValueId more) {
              b.output(more);
              return elementwise(b, "y", {4}, {{more, loopsMap({0}), {}}}, twice);
            }),
            2u);
  // The number of its own loop.
  EXPECT_EQ(kernelsOf([&](GraphBuilder &b,
                          ValueId more) { return elementwise(b, "y", {4}, {{more, {{3, {{0, -1}}}}, {}}}, twice); },
                      /*loopIndex=*/true),
            2u);
}

TEST(FuseBetweenBytes, OnlyWhatLeadsFromBytesToBytes) {
  constexpr ElementType u8 = ElementType::u8;
  GraphBuilder b;
  ValueId x = b.input("x", u8, {5});
  auto convertTo = [](ElementType type) {
    return [=](BlockExpression &body, std::vector<Register> operands) {
      return body.append(BlockOpcode::Convert, type, operands);
    };
  };
  Read own{x, loopsMap({0}), {}};
  ValueId wide = elementwise(b, "wide", {5}, {own}, convertTo(f32));
  own.value = wide;
  ValueId more = elementwise(b, "more", {5}, {own}, withNumber(BlockOpcode::Multiply, 3));
  own.value = more;
  b.output(elementwise(b, "narrow", {5}, {own}, convertTo(u8), u8));
  KernelGraph fused = b.graph;
  fuseBetweenBytes(fused, [](const BlockExpression &body) { return std::optional(body); });
  EXPECT_EQ(operationsOf(fused), "narrow");
  EXPECT_EQ(fused.kernels[0].reads[0].value, x);
  expectTheSame(b.graph, fused);
  // The target has nothing better.
  KernelGraph refused = b.graph;
  fuseBetweenBytes(refused, [](const BlockExpression &) { return std::nullopt; });
  EXPECT_EQ(refused.print(), b.graph.print());
}

TEST(AbsorbMoves, ProductsReadAndWriteThroughTranspositions) {
  GraphBuilder b;
  ValueId x = b.input("x", f32, {3, 2}), w = b.constant("w", smallNumbers(f32, {3, 5}, 4));
  ValueId turned = elementwise(b, "transpose", {2, 3}, {{x, loopsMap({1, 0}), {}}}, firstOperand);
  ValueId made = product(b, turned, w);
  b.output(elementwise(b, "transpose", {5, 2}, {{made, loopsMap({1, 0}), {}}}, firstOperand));
  KernelGraph absorbed = b.graph;
  absorbMoves(absorbed, [](const KernelGraph &, const Kernel &) { return true; });
  EXPECT_EQ(operationsOf(absorbed), "contract");
  expectTheSame(b.graph, absorbed);
  KernelGraph refused = b.graph;
  absorbMoves(refused, [](const KernelGraph &, const Kernel &) { return false; });
  EXPECT_EQ(refused.print(), b.graph.print());
  // Who else reads the product's result needs it as it was.
  b.output(made);
  absorbed = b.graph;
  absorbMoves(absorbed, [](const KernelGraph &, const Kernel &) { return true; });
  EXPECT_EQ(operationsOf(absorbed), "contract, transpose");
  expectTheSame(b.graph, absorbed);
}

} // namespace
} // namespace quadrille::host
