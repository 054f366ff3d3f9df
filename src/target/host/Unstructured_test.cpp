// Unstructured kernels; expected values by hand from the definitions in graph/dialect/QdOps.td.
#include "target/host/Evaluate.h"
#include "target/host/GraphBuilder.h"
#include "target/host/Indexed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

using namespace quadrille;
using namespace quadrille::graph;
using namespace quadrille::host;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

Tensor floats(Shape shape, std::vector<float> values) {
  return Tensor::of<float>(ElementType::f32, shape, values);
}
Tensor longs(Shape shape, std::vector<int64_t> values) {
  return Tensor::of<int64_t>(ElementType::i64, shape, values);
}

struct OneKernel {
  GraphBuilder b;
  Kernel *kernel;
  std::vector<Tensor> inputs;

  OneKernel(std::string operation, std::vector<Tensor> inputs, std::vector<std::pair<ElementType, Shape>> results)
      : inputs(inputs) {
    std::vector<ValueId> reads, writes;
    for (const Tensor &input : inputs)
      reads.push_back(b.input("x" + std::to_string(reads.size()), input.type(), input.shape()));
    for (auto &[type, shape] : results)
      writes.push_back(b.value("y" + std::to_string(writes.size()), type, shape));
    kernel = &b.plain(operation, {}, {});
    for (ValueId id : reads)
      kernel->reads.push_back({id, {}, {}});
    for (ValueId id : writes) {
      kernel->writes.push_back({id, {}, Combiner::None, {}, {}});
      b.output(id);
    }
  }
  OneKernel &with(std::string name, Attribute attribute) {
    kernel->attributes[name] = std::move(attribute);
    return *this;
  }
  std::vector<double> operator()(size_t output = 0) {
    llvm::Expected<std::vector<Tensor>> outputs = evaluate(b.graph, inputs);
    if (!outputs) {
      ADD_FAILURE() << llvm::toString(outputs.takeError());
      return {};
    }
    return doubles((*outputs)[output]);
  }
  std::string error() {
    llvm::Expected<std::vector<Tensor>> outputs = evaluate(b.graph, inputs);
    return outputs ? "" : llvm::toString(outputs.takeError());
  }
};

const auto f32 = ElementType::f32;
const auto i64 = ElementType::i64;

TEST(Unstructured, ReshapeSharesTheBytes) {
  OneKernel k("reshape", {floats({2, 3}, {1, 2, 3, 4, 5, 6})}, {{f32, {3, 2}}});
  auto outputs = llvm::cantFail(evaluate(k.b.graph, k.inputs));
  EXPECT_EQ(outputs[0].shape(), (Shape{3, 2}));
  EXPECT_EQ(outputs[0].bytes().data(), k.inputs[0].bytes().data());
}

TEST(Unstructured, ConcatAlongAnInnerAxis) {
  OneKernel k("concat", {floats({2, 1}, {1, 2}), floats({2, 2}, {3, 4, 5, 6})}, {{f32, {2, 3}}});
  EXPECT_THAT(k.with("axis", int64_t(1))(), ElementsAre(1, 3, 4, 2, 5, 6));
}

TEST(Unstructured, InsertSliceWithSteps) {
  // Positions (0, 0), (0, 2) of a 2 x 3 destination.
  OneKernel k("insert_slice", {floats({1, 2}, {8, 9}), floats({2, 3}, {1, 2, 3, 4, 5, 6})}, {{f32, {2, 3}}});
  k.with("offsets", std::vector<int64_t>{0, 0}).with("sizes", std::vector<int64_t>{1, 2});
  EXPECT_THAT(k.with("strides", std::vector<int64_t>{1, 2})(), ElementsAre(8, 2, 9, 4, 5, 6));
}

TEST(Unstructured, InsertSliceStaysInItsOperands) {
  auto errorOf = [](Tensor source, std::vector<int64_t> offsets, std::vector<int64_t> sizes,
                    std::vector<int64_t> strides) {
    OneKernel k("insert_slice", {source, floats({2, 3}, {1, 2, 3, 4, 5, 6})}, {{f32, {2, 3}}});
    return k.with("offsets", offsets).with("sizes", sizes).with("strides", strides).error();
  };
  EXPECT_THAT(errorOf(floats({2}, {8, 9}), {0, 0}, {-1, -2}, {1, 1}), HasSubstr("outside the destination"));
  EXPECT_THAT(errorOf(floats({1, 2}, {8, 9}), {0, 1}, {1, 2}, {1, INT64_MAX}), HasSubstr("outside the destination"));
  EXPECT_THAT(errorOf(floats({1, 2}, {8, 9}), {0, 2}, {1, 2}, {1, 1}), HasSubstr("outside the destination"));
  EXPECT_THAT(errorOf(Tensor::zeros(ElementType::u8, {1, 2}), {0, 0}, {1, 2}, {1, 1}), HasSubstr("does not fit"));
}

TEST(Unstructured, GatherCountsFromTheEnd) {
  OneKernel k("gather", {floats({3, 2}, {1, 2, 3, 4, 5, 6}), longs({2}, {-1, 0})}, {{f32, {2, 2}}});
  EXPECT_THAT(k.with("axis", int64_t(0))(), ElementsAre(5, 6, 1, 2));
  OneKernel outside("gather", {floats({3, 2}, {1, 2, 3, 4, 5, 6}), longs({2}, {0, 3})}, {{f32, {2, 2}}});
  EXPECT_THAT(outside.with("axis", int64_t(0)).error(), HasSubstr("index 3 is outside [-3, 3)"));
}

TEST(Unstructured, GatherElements) {
  OneKernel k("gather_elements", {floats({2, 2}, {1, 2, 3, 4}), longs({2, 2}, {0, 0, 1, 0})}, {{f32, {2, 2}}});
  EXPECT_THAT(k.with("axis", int64_t(1))(), ElementsAre(1, 1, 4, 3)); // the example of ONNX's GatherElements
}

TEST(Unstructured, GatherNd) {
  OneKernel k("gather_nd", {floats({2, 2}, {0, 1, 2, 3}), longs({2, 2}, {0, 0, 1, 1})}, {{f32, {2}}});
  EXPECT_THAT(k.with("batch_dims", int64_t(0))(), ElementsAre(0, 3)); // ONNX's GatherND, example 1
  OneKernel batched("gather_nd", {floats({2, 2, 2}, {0, 1, 2, 3, 4, 5, 6, 7}), longs({2, 1}, {1, 0})}, {{f32, {2, 2}}});
  EXPECT_THAT(batched.with("batch_dims", int64_t(1))(), ElementsAre(2, 3, 4, 5)); // example 5
}

// 2^32 picks from 2^32 rows are 2^64 elements, which are not the none of the result.
TEST(Unstructured, SizesThatWrapAreNoFit) {
  constexpr int64_t many = int64_t(1) << 32;
  auto errorOf = [](Compiled (*compile)(const KernelGraph &, const Kernel &), std::vector<Shape> operands, Shape result,
                    std::map<std::string, Attribute> attributes) {
    GraphBuilder b;
    Kernel &kernel = b.plain("kernel", {}, {});
    for (auto [i, shape] : llvm::enumerate(operands))
      kernel.reads.push_back({b.value("", i == 1 ? i64 : ElementType::u8, shape), {}, {}});
    kernel.writes.push_back({b.value("", ElementType::u8, std::move(result)), {}, Combiner::None, {}, {}});
    kernel.attributes = std::move(attributes);
    Compiled compiled = compile(b.graph, kernel);
    return compiled ? "" : llvm::toString(compiled.takeError());
  };
  EXPECT_THAT(errorOf(compileGather, {{many, 1}, {many}}, {0}, {{"axis", int64_t(1)}}), HasSubstr("does not fit"));
  EXPECT_THAT(errorOf(compileGatherNd, {{1, many}, {many, 1}}, {0}, {}), HasSubstr("does not fit"));
  EXPECT_THAT(errorOf(compileScatterNd, {{1, many}, {many, 1}, {0}}, {1, many}, {}), HasSubstr("do not fit"));
}

TEST(Unstructured, ScatterElementsAppliesInOrder) {
  std::vector<Tensor> in = {floats({1, 5}, {1, 2, 3, 4, 5}), longs({1, 2}, {1, 1}), floats({1, 2}, {1.5, 2.5})};
  OneKernel set("scatter_elements", in, {{f32, {1, 5}}});
  EXPECT_THAT(set.with("axis", int64_t(1)).with("reduction", "none")(), ElementsAre(1, 2.5, 3, 4, 5));
  OneKernel add("scatter_elements", in, {{f32, {1, 5}}});
  EXPECT_THAT(add.with("axis", int64_t(1)).with("reduction", "add")(), ElementsAre(1, 6, 3, 4, 5));
  OneKernel maximum("scatter_elements", in, {{f32, {1, 5}}});
  EXPECT_THAT(maximum.with("axis", int64_t(1)).with("reduction", "max")(), ElementsAre(1, 2.5, 3, 4, 5));
}

TEST(Unstructured, ScatterNd) {
  OneKernel k("scatter_nd", {floats({4}, {1, 2, 3, 4}), longs({2, 1}, {-1, 1}), floats({2}, {9, 10})}, {{f32, {4}}});
  EXPECT_THAT(k.with("reduction", "none")(), ElementsAre(1, 10, 3, 9));
}

TEST(Unstructured, TopKPrefersTheLowerIndex) {
  OneKernel k("top_k", {floats({1, 5}, {3, 1, 3, 7, 2})}, {{f32, {1, 3}}, {i64, {1, 3}}});
  k.with("axis", int64_t(1)).with("largest", int64_t(1)).with("sorted", int64_t(1));
  EXPECT_THAT(k(0), ElementsAre(7, 3, 3));
  EXPECT_THAT(k(1), ElementsAre(3, 0, 2));
}

TEST(Unstructured, SortIsStableAlongAnOuterAxis) {
  OneKernel k("sort", {floats({3, 2}, {2, 1, 1, 1, 2, 0})}, {{f32, {3, 2}}, {i64, {3, 2}}});
  k.with("axis", int64_t(0)).with("descending", int64_t(0));
  EXPECT_THAT(k(0), ElementsAre(1, 0, 2, 1, 2, 1));
  EXPECT_THAT(k(1), ElementsAre(1, 2, 0, 0, 2, 1));
}

TEST(Unstructured, ArgReduce) {
  OneKernel first("arg_reduce", {floats({2, 3}, {1, 5, 5, 4, 4, 2})}, {{i64, {2}}});
  EXPECT_THAT(first.with("axis", int64_t(1)).with("extremum", "maximum").with("select_last", int64_t(0))(),
              ElementsAre(1, 0));
  OneKernel last("arg_reduce", {floats({2, 3}, {1, 5, 5, 4, 4, 2})}, {{i64, {2}}});
  EXPECT_THAT(last.with("axis", int64_t(1)).with("extremum", "maximum").with("select_last", int64_t(1))(),
              ElementsAre(2, 1));
}

TEST(Unstructured, CumulativeExclusiveAndReverse) {
  auto sum = [](bool exclusive, bool reverse) {
    OneKernel k("cumulative", {floats({3}, {1, 2, 3})}, {{f32, {3}}});
    return k.with("axis", int64_t(0))
        .with("accumulation", "sum")
        .with("exclusive", int64_t(exclusive))
        .with("reverse", int64_t(reverse))();
  };
  EXPECT_THAT(sum(false, false), ElementsAre(1, 3, 6));
  EXPECT_THAT(sum(true, false), ElementsAre(0, 1, 3));
  EXPECT_THAT(sum(false, true), ElementsAre(6, 5, 3));
  EXPECT_THAT(sum(true, true), ElementsAre(5, 3, 0));
}

TEST(Unstructured, RandomBitsAreTheStream) {
  OneKernel k("random_bits", {}, {{ElementType::u32, {5}}});
  std::vector<uint32_t> words(5);
  randomBits(42, 3, words.data(), 5);
  EXPECT_EQ(k.with("seed", int64_t(42)).with("offset", int64_t(3))(), std::vector<double>(words.begin(), words.end()));
}

TEST(Unstructured, ScanCarriesStatesAndStacksSlices) {
  // s' = s + x_t, y_t = s' from the last row to the first, stacked along axis 1.
  GraphBuilder body;
  ValueId s = body.input("s", f32, {2}), x = body.input("x", f32, {2}), next = body.value("next", f32, {2});
  Kernel &add = body.kernel(KernelKind::Map, "add");
  add.loops = {{2}};
  add.reads = {{s, loopsMap({0}), {}}, {x, loopsMap({0}), {}}};
  add.writes = {{next, loopsMap({0}), Combiner::None, {}, {}}};
  add.body.inputs = {f32, f32};
  Register p = add.body.append(BlockOpcode::Input, f32, {}, 0), q = add.body.append(BlockOpcode::Input, f32, {}, 1);
  add.body.results = {add.body.append(BlockOpcode::Add, f32, {p, q})};
  body.output(next);
  body.output(next);
  OneKernel k("scan", {floats({2}, {100, 200}), floats({3, 2}, {1, 2, 3, 4, 5, 6})}, {{f32, {2}}, {f32, {2, 3}}});
  k.kernel->region = std::make_shared<const KernelGraph>(body.graph);
  k.with("states", int64_t(1)).with("sequences", int64_t(1)).with("trip_count", int64_t(3));
  k.with("input_axes", std::vector<int64_t>{0}).with("input_reversed", std::vector<int64_t>{1});
  k.with("output_axes", std::vector<int64_t>{1}).with("output_reversed", std::vector<int64_t>{0});
  EXPECT_THAT(k(0), ElementsAre(109, 212));
  EXPECT_THAT(k(1), ElementsAre(105, 108, 109, 206, 210, 212));
}

TEST(Unstructured, CompositeIsItsBody) {
  GraphBuilder body;
  ValueId x = body.input("x", f32, {2}), y = body.value("y", f32, {2});
  Kernel &negate = body.kernel(KernelKind::Map, "negate");
  negate.loops = {{2}};
  negate.reads = {{x, loopsMap({0}), {}}};
  negate.writes = {{y, loopsMap({0}), Combiner::None, {}, {}}};
  negate.body.inputs = {f32};
  Register p = negate.body.append(BlockOpcode::Input, f32, {}, 0);
  negate.body.results = {negate.body.append(BlockOpcode::Negate, f32, {p})};
  body.output(y);
  body.output(x); // passed through
  OneKernel k("minus", {floats({2}, {1, -2})}, {{f32, {2}}, {f32, {2}}});
  k.kernel->region = std::make_shared<const KernelGraph>(body.graph);
  k.kernel->kind = KernelKind::Composite;
  EXPECT_THAT(k(0), ElementsAre(-1, 2));
  EXPECT_THAT(k(1), ElementsAre(1, -2));
}

TEST(Unstructured, UnknownKernelIsRefused) {
  OneKernel k("frobnicate", {floats({1}, {1})}, {{f32, {1}}});
  EXPECT_EQ(k.error(), "frobnicate_0: the host has no kernel 'frobnicate'");
}

} // namespace
