#include "graph/Contraction.h"
#include "graph/InlineComposites.h"
#include "graph/KernelGraph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace quadrille;
using namespace quadrille::graph;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

// Builds graphs by hand.
struct Builder {
  KernelGraph graph;

  ValueId value(ElementType type, Shape shape, ValueRole role = ValueRole::Intermediate) {
    Value value;
    value.type = type;
    value.shape = std::move(shape);
    value.role = role;
    graph.values.push_back(std::move(value));
    ValueId id = static_cast<ValueId>(graph.values.size() - 1);
    if (role == ValueRole::Input)
      graph.inputs.push_back(id);
    return id;
  }
  ValueId input(ElementType type, Shape shape) { return value(type, std::move(shape), ValueRole::Input); }

  void output(ValueId id) {
    graph.outputs.push_back(id);
    graph.outputNames.push_back("out");
  }

  Kernel &last() { return graph.kernels.back(); }
};

DimensionAccess at(std::vector<std::pair<unsigned, int64_t>> terms, int64_t offset = 0) {
  return {offset, terms};
}
DimensionAccess at(unsigned loop) {
  return {0, {{loop, 1}}};
}

// result = sum over the reductions of read 0 times read 1.
Kernel product(std::vector<Loop> loops, std::vector<Read> reads, Write write, ElementType type = ElementType::f32) {
  Kernel kernel;
  kernel.kind = KernelKind::Contract;
  kernel.operation = "product";
  kernel.loops = std::move(loops);
  kernel.reads = std::move(reads);
  BlockExpression &body = kernel.body;
  for (size_t i = 0; i < kernel.reads.size(); ++i) {
    body.inputs.push_back(type);
    body.append(BlockOpcode::Input, type, {}, i);
  }
  body.results = {body.append(BlockOpcode::Multiply, type, {0, 1})};
  write.combiner = Combiner::Sum;
  write.initialScalar = Scalar{type, 0};
  kernel.writes = {std::move(write)};
  return kernel;
}

// C[m,n] = sum_k A[m,k] B[k,n] with m 4, n 8, k 16.
Builder matmul() {
  Builder b;
  ValueId lhs = b.input(ElementType::f32, {4, 16}), rhs = b.input(ElementType::f32, {16, 8});
  ValueId result = b.value(ElementType::f32, {4, 8});
  b.graph.kernels.push_back(product({{4, false}, {8, false}, {16, true}},
                                    {{lhs, {at(0), at(2)}, {}}, {rhs, {at(2), at(1)}, {}}},
                                    {result, {at(0), at(1)}, {}, {}, {}}));
  b.output(result);
  return b;
}

// Y[n,f,h] = sum_{c,r} X[n,c,2h+r-1] W[f,c,r], padded with 0: 6 elements and 3 taps give 3 results.
Builder convolution() {
  Builder b;
  ValueId x = b.input(ElementType::f32, {1, 3, 6}), w = b.input(ElementType::f32, {5, 3, 3});
  ValueId y = b.value(ElementType::f32, {1, 5, 3});
  b.graph.kernels.push_back(product(
      {{1, false}, {5, false}, {3, false}, {3, true}, {3, true}},
      {{x, {at(0), at(3), at({{2, 2}, {4, 1}}, -1)}, Scalar{ElementType::f32, 0}}, {w, {at(1), at(3), at(4)}, {}}},
      {y, {at(0), at(1), at(2)}, {}, {}, {}}));
  b.output(y);
  return b;
}

TEST(KernelGraph, VerifiesAMatrixProduct) {
  EXPECT_EQ(matmul().graph.verify(), "");
}

TEST(KernelGraph, NamesWhatIsWrong) {
  auto broken = [](auto change) {
    Builder b = matmul();
    change(b);
    return b.graph.verify();
  };
  EXPECT_THAT(broken([](Builder &b) { b.last().reads[0].value = 9; }), HasSubstr("value 9 is not defined"));
  EXPECT_THAT(broken([](Builder &b) { b.last().reads[0].value = 2; }), HasSubstr("value 2 is not defined yet"));
  EXPECT_THAT(broken([](Builder &b) { b.last().writes[0].value = 0; }), HasSubstr("is an input or a constant"));
  EXPECT_THAT(broken([](Builder &b) { b.graph.kernels.push_back(b.last()); }), HasSubstr("already defined"));
  EXPECT_THAT(broken([](Builder &b) { b.last().reads[0].map.pop_back(); }), HasSubstr("map has 1 dimensions"));
  EXPECT_THAT(broken([](Builder &b) { b.last().reads[0].map[0].terms[0].first = 3; }), HasSubstr("no loop 3"));
  EXPECT_THAT(broken([](Builder &b) { b.last().reads[0].map[0].terms[0].second = 0; }), HasSubstr("coefficient 0"));
  // 1 + d0 reaches index 4 of extent 4.
  EXPECT_THAT(broken([](Builder &b) { b.last().reads[0].map[0].offset = 1; }),
              HasSubstr("indices 1 to 4 leave the extent 4"));
  EXPECT_THAT(broken([](Builder &b) { b.last().loops[2].extent = 17; }), HasSubstr("leave the extent 16"));
  EXPECT_THAT(broken([](Builder &b) { b.last().loops[0].extent = 3; }), HasSubstr("writes 3 of 4 elements"));
  EXPECT_THAT(broken([](Builder &b) { b.last().writes[0].map[0] = b.last().writes[0].map[1]; }),
              HasSubstr("writes 8 of 4 elements"));
  EXPECT_THAT(broken([](Builder &b) { b.last().loops[2].reduction = false; }),
              HasSubstr("parallel but does not index the result"));
  EXPECT_THAT(broken([](Builder &b) { b.last().loops[0].reduction = true; }),
              HasSubstr("is a reduction but indexes the result"));
  EXPECT_THAT(broken([](Builder &b) { b.last().writes[0].combiner = Combiner::None; }),
              HasSubstr("initial value without a combiner"));
  EXPECT_THAT(broken([](Builder &b) { b.last().writes[0].combiner = Combiner::And; }),
              HasSubstr("elements of type f32 cannot be combined by and"));
  EXPECT_THAT(broken([](Builder &b) { b.last().writes[0].initialScalar.reset(); }),
              HasSubstr("exactly one of a scalar and a tensor"));
  EXPECT_THAT(broken([](Builder &b) { b.last().writes[0].initialScalar->type = ElementType::f16; }),
              HasSubstr("another type than the value"));
  EXPECT_THAT(broken([](Builder &b) { b.last().body.inputs.pop_back(); }), HasSubstr("body"));
  EXPECT_THAT(broken([](Builder &b) { b.graph.values[0].type = ElementType::f16; }),
              HasSubstr("the body takes f32, the value is f16[4,16]"));
  EXPECT_THAT(broken([](Builder &b) { b.last().nodes = {0}; }), HasSubstr("no node 0"));
  EXPECT_THAT(broken([](Builder &b) { b.graph.outputs[0] = 7; }), HasSubstr("value 7 is never defined"));
  EXPECT_THAT(broken([](Builder &b) { b.graph.outputNames.clear(); }), HasSubstr("0 output names"));
  EXPECT_THAT(broken([](Builder &b) { b.graph.inputs.pop_back(); }), HasSubstr("does not list"));
  EXPECT_THAT(broken([](Builder &b) { b.graph.values[0].shape[0] = -1; }), HasSubstr("extents"));
  EXPECT_THAT(broken([](Builder &b) { b.graph.values[0].shape = Shape(4, int64_t(1) << 39); }), HasSubstr("extents"));
}

TEST(KernelGraph, AllowsReadsBeyondTheValueWithPaddingOnly) {
  Builder b = convolution();
  EXPECT_EQ(b.graph.verify(), "");
  b.last().reads[0].padding.reset();
  EXPECT_THAT(b.graph.verify(), HasSubstr("indices -1 to 5 leave the extent 6"));
}

TEST(KernelGraph, FollowsNegativeCoefficients) {
  // 5 - 2 d0 + d1 with d0 < 3 and d1 < 2: from 5 - 4 to 5 + 1.
  IndexRange range = indexRange(at({{0, -2}, {1, 1}}, 5), {{3, false}, {2, true}});
  EXPECT_EQ(range.first, 1);
  EXPECT_EQ(range.last, 6);
}

TEST(KernelGraph, CountsWork) {
  Builder b = matmul();
  countWork(b.graph, b.last());
  EXPECT_EQ(b.last().flops, 2 * 4 * 8 * 16);
  EXPECT_EQ(b.last().bytes, 4 * (4 * 16 + 16 * 8 + 4 * 8));
  // Half the storage, half the bytes.
  b.last().numeric.storage = ElementType::f16;
  countWork(b.graph, b.last());
  EXPECT_EQ(b.last().bytes, 2 * (4 * 16 + 16 * 8 + 4 * 8));
}

TEST(KernelGraph, CountsAnOperandThatIsReadTwiceOnce) {
  // y[i] = x[i] * x[i + 1]: 7 products, 8 elements read, of which each read touches 7.
  Builder b;
  ValueId x = b.input(ElementType::f32, {8}), y = b.value(ElementType::f32, {7});
  Kernel kernel = product({{7, false}}, {{x, {at(0)}, {}}, {x, {at({{0, 1}}, 1)}, {}}}, {y, {at(0)}, {}, {}, {}});
  kernel.kind = KernelKind::Map;
  kernel.writes[0].combiner = Combiner::None;
  kernel.writes[0].initialScalar.reset();
  b.graph.kernels.push_back(kernel);
  b.output(y);
  EXPECT_EQ(b.graph.verify(), "");
  countWork(b.graph, b.last());
  EXPECT_EQ(b.last().flops, 7);
  EXPECT_EQ(b.last().bytes, 4 * (7 + 7));
}

TEST(KernelGraph, DescribesScalars) {
  EXPECT_EQ(describe(Scalar{ElementType::f32, 0x3fc00000}), "1.5");
  EXPECT_EQ(describe(Scalar{ElementType::i8, 0xff}), "-1");
  EXPECT_EQ(describe(Scalar{ElementType::u8, 0xff}), "255");
  EXPECT_EQ(describe(Scalar{ElementType::boolean, 1}), "true");
  EXPECT_EQ(describe(Scalar{ElementType::bf16, 0x4040}), "3");
}

TEST(KernelGraph, KnowsSplats) {
  Value value;
  value.role = ValueRole::Constant;
  value.type = ElementType::i16;
  value.shape = {3};
  EXPECT_FALSE(value.splat()) << "absent";
  value.data = Tensor::of<int16_t>(ElementType::i16, {3}, {0x1212, 0x1212, 0x1212});
  EXPECT_TRUE(value.splat());
  value.data = Tensor::of<int16_t>(ElementType::i16, {3}, {0x1212, 0x1212, 0x1213});
  EXPECT_FALSE(value.splat());
}

TEST(Contraction, OfAMatrixProduct) {
  Builder b = matmul();
  std::optional<Contraction> c = inferContraction(b.graph, b.last());
  ASSERT_TRUE(c);
  EXPECT_THAT(c->m, ElementsAre(0));
  EXPECT_THAT(c->n, ElementsAre(1));
  EXPECT_THAT(c->k, ElementsAre(2));
  EXPECT_THAT(c->batch, IsEmpty());
  EXPECT_FALSE(c->isConvolution());
}

TEST(Contraction, OfAConvolution) {
  Builder b = convolution();
  std::optional<Contraction> c = inferContraction(b.graph, b.last());
  ASSERT_TRUE(c);
  ASSERT_EQ(c->windows.size(), 1u);
  const Contraction::Window &window = c->windows[0];
  EXPECT_EQ(window.output, 2u);
  EXPECT_EQ(window.tap, 4u);
  EXPECT_EQ(window.dimension, 2u);
  EXPECT_EQ(window.stride, 2);
  EXPECT_EQ(window.dilation, 1);
  EXPECT_EQ(window.padBefore, 1);
  EXPECT_EQ(window.padAfter, 0); // the last index is 2 * 2 + 2 - 1 = 5
  EXPECT_THAT(c->m, ElementsAre(0));
  EXPECT_THAT(c->n, ElementsAre(1));
  EXPECT_THAT(c->k, ElementsAre(3));
}

TEST(Contraction, FindsTheWindowedOperandInEitherOrder) {
  Builder b = convolution();
  std::swap(b.last().reads[0], b.last().reads[1]);
  std::optional<Contraction> c = inferContraction(b.graph, b.last());
  ASSERT_TRUE(c);
  EXPECT_EQ(c->lhs, 1u);
  EXPECT_EQ(c->rhs, 0u);
  EXPECT_EQ(c->windows.size(), 1u);
}

TEST(Contraction, TakesAGroupLoopAsBatch) {
  // Y[g,f,h] = sum_{c,r} X[2g+c, h+r] W[g,f,c,r]: two channels of each of three groups lie in one dimension.
  Builder b;
  ValueId x = b.input(ElementType::f32, {6, 5}), w = b.input(ElementType::f32, {3, 4, 2, 2});
  ValueId y = b.value(ElementType::f32, {3, 4, 4});
  b.graph.kernels.push_back(
      product({{3, false}, {4, false}, {4, false}, {2, true}, {2, true}},
              {{x, {at({{0, 2}, {3, 1}}), at({{2, 1}, {4, 1}})}, {}}, {w, {at(0), at(1), at(3), at(4)}, {}}},
              {y, {at(0), at(1), at(2)}, {}, {}, {}}));
  b.output(y);
  ASSERT_EQ(b.graph.verify(), "");
  std::optional<Contraction> c = inferContraction(b.graph, b.last());
  ASSERT_TRUE(c);
  EXPECT_THAT(c->batch, ElementsAre(0));
  EXPECT_THAT(c->n, ElementsAre(1));
  EXPECT_THAT(c->k, ElementsAre(3));
  EXPECT_THAT(c->m, IsEmpty());
  ASSERT_EQ(c->windows.size(), 1u);
  EXPECT_EQ(c->windows[0].output, 2u);
}

TEST(Contraction, IsNoneWhereALoopHasNoRole) {
  // A reduction loop that only the first operand knows: sum_k sum_l A[m,k,l] B[k].
  Builder b;
  ValueId lhs = b.input(ElementType::f32, {2, 3, 4}), rhs = b.input(ElementType::f32, {3});
  ValueId result = b.value(ElementType::f32, {2});
  b.graph.kernels.push_back(product({{2, false}, {3, true}, {4, true}},
                                    {{lhs, {at(0), at(1), at(2)}, {}}, {rhs, {at(1)}, {}}},
                                    {result, {at(0)}, {}, {}, {}}));
  EXPECT_EQ(b.graph.verify(), "");
  EXPECT_FALSE(inferContraction(b.graph, b.last()));
}

TEST(Contraction, IsNoneForASumOfSquares) {
  Builder b;
  ValueId x = b.input(ElementType::f32, {2, 3}), y = b.value(ElementType::f32, {2});
  b.graph.kernels.push_back(
      product({{2, false}, {3, true}}, {{x, {at(0), at(1)}, {}}, {x, {at(0), at(1)}, {}}}, {y, {at(0)}, {}, {}, {}}));
  EXPECT_EQ(b.graph.verify(), "");
  EXPECT_FALSE(inferContraction(b.graph, b.last()));
}

TEST(Contraction, IsNoneForAMaximumOfProducts) {
  Builder b = matmul();
  b.last().writes[0].combiner = Combiner::Maximum;
  EXPECT_FALSE(inferContraction(b.graph, b.last()));
}

TEST(Contraction, LooksThroughWideningOnly) {
  auto converted = [](ElementType from, ElementType to) {
    Builder b = matmul();
    for (ValueId id : b.graph.inputs)
      b.graph.values[id].type = from;
    b.graph.values[2].type = to;
    Kernel &kernel = b.last();
    kernel.writes[0].initialScalar = Scalar{to, 0};
    kernel.body = {};
    kernel.body.inputs = {from, from};
    Register first = kernel.body.append(BlockOpcode::Input, from, {}, 0);
    Register second = kernel.body.append(BlockOpcode::Input, from, {}, 1);
    first = kernel.body.append(BlockOpcode::Convert, to, {first});
    second = kernel.body.append(BlockOpcode::Convert, to, {second});
    kernel.body.results = {kernel.body.append(BlockOpcode::Multiply, to, {first, second})};
    EXPECT_EQ(b.graph.verify(), "");
    return inferContraction(b.graph, kernel).has_value();
  };
  EXPECT_TRUE(converted(ElementType::f16, ElementType::f32));
  EXPECT_TRUE(converted(ElementType::u8, ElementType::i32));
  EXPECT_TRUE(converted(ElementType::i8, ElementType::f16));
  EXPECT_FALSE(converted(ElementType::f32, ElementType::f16));
  EXPECT_FALSE(converted(ElementType::i8, ElementType::u32));
  EXPECT_FALSE(converted(ElementType::i32, ElementType::f32)) << "24 significant bits";
  EXPECT_FALSE(converted(ElementType::f16, ElementType::bf16)) << "equal width";
}

// Region: out = in + in; used as composite and, nested, inside a second composite.
std::shared_ptr<const KernelGraph> twice(bool nested) {
  Builder b;
  ValueId x = b.input(ElementType::f32, {4}), y = b.value(ElementType::f32, {4});
  Kernel kernel;
  if (nested) {
    kernel.kind = KernelKind::Composite;
    kernel.operation = "inner";
    kernel.region = twice(false);
    kernel.reads = {{x, {}, {}}};
    kernel.writes = {{y, {}, {}, {}, {}}};
  } else {
    kernel.kind = KernelKind::Map;
    kernel.operation = "add";
    kernel.loops = {{4, false}};
    kernel.reads = {{x, {at(0)}, {}}};
    kernel.writes = {{y, {at(0)}, {}, {}, {}}};
    kernel.body.inputs = {ElementType::f32};
    Register in = kernel.body.append(BlockOpcode::Input, ElementType::f32);
    kernel.body.results = {kernel.body.append(BlockOpcode::Add, ElementType::f32, {in, in})};
  }
  countWork(b.graph, kernel);
  b.graph.kernels.push_back(kernel);
  b.output(y);
  return std::make_shared<const KernelGraph>(b.graph);
}

TEST(InlineComposites, ExpandsNestedBodiesAndKeepsWhatIsWanted) {
  Builder b;
  ValueId x = b.input(ElementType::f32, {4});
  ValueId y = b.value(ElementType::f32, {4}), z = b.value(ElementType::f32, {4});
  b.graph.nodes = {{"node", "Twice"}};
  Kernel outer;
  outer.kind = KernelKind::Composite;
  outer.operation = "outer";
  outer.region = twice(true);
  outer.nodes = {0};
  outer.reads = {{x, {}, {}}};
  outer.writes = {{y, {}, {}, {}, {}}};
  b.graph.kernels.push_back(outer);
  outer.reads[0].value = y;
  outer.writes[0].value = z;
  b.graph.kernels.push_back(outer);
  b.output(z);
  b.output(x);
  ASSERT_EQ(b.graph.verify(), "");

  KernelGraph flat = inlineComposites(b.graph, [](const Kernel &) { return false; });
  EXPECT_EQ(flat.verify(), "");
  ASSERT_EQ(flat.kernels.size(), 2u);
  EXPECT_EQ(flat.kernels[0].operation, "add");
  EXPECT_EQ(flat.kernels[1].reads[0].value, flat.kernels[0].writes[0].value);
  EXPECT_EQ(flat.outputs[0], flat.kernels[1].writes[0].value);
  EXPECT_EQ(flat.outputs[1], flat.inputs[0]);
  EXPECT_THAT(flat.kernels[1].nodes, ElementsAre(0));
  EXPECT_EQ(flat.nodes.size(), 1u);

  KernelGraph kept = inlineComposites(b.graph, [](const Kernel &kernel) { return kernel.operation == "inner"; });
  EXPECT_EQ(kept.verify(), "");
  ASSERT_EQ(kept.kernels.size(), 2u);
  EXPECT_EQ(kept.kernels[0].operation, "inner");
  EXPECT_EQ(kept.kernels[0].flops, 4);
}

TEST(InlineComposites, PassesInputsThrough) {
  // A composite whose result is its operand: the consumer reads the operand.
  Builder body;
  ValueId in = body.input(ElementType::f32, {4});
  body.output(in);
  Builder b;
  ValueId x = b.input(ElementType::f32, {4}), y = b.value(ElementType::f32, {4});
  Kernel identity;
  identity.kind = KernelKind::Composite;
  identity.operation = "identity";
  identity.region = std::make_shared<const KernelGraph>(body.graph);
  identity.reads = {{x, {}, {}}};
  identity.writes = {{y, {}, {}, {}, {}}};
  b.graph.kernels.push_back(identity);
  b.output(y);
  ASSERT_EQ(b.graph.verify(), "");
  KernelGraph flat = inlineComposites(b.graph, [](const Kernel &) { return false; });
  EXPECT_EQ(flat.verify(), "");
  EXPECT_TRUE(flat.kernels.empty());
  EXPECT_THAT(flat.outputs, ElementsAre(flat.inputs[0]));
}

TEST(KernelGraph, ChecksTheRegionOfAComposite) {
  Builder b;
  ValueId x = b.input(ElementType::f32, {4}), y = b.value(ElementType::f32, {5});
  Kernel composite;
  composite.kind = KernelKind::Composite;
  composite.operation = "twice";
  composite.reads = {{x, {}, {}}};
  composite.writes = {{y, {}, {}, {}, {}}};
  b.graph.kernels.push_back(composite);
  EXPECT_THAT(b.graph.verify(), HasSubstr("a composite needs a region"));
  b.last().region = twice(false);
  EXPECT_THAT(b.graph.verify(), HasSubstr("the region gives f32[4], the result is f32[5]"));
  b.graph.values[y].shape = {4};
  EXPECT_EQ(b.graph.verify(), "");
}

} // namespace
