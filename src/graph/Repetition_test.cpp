#include "graph/Repetition.h"

#include <gtest/gtest.h>

namespace quadrille::graph {
namespace {

TEST(Repetition, theLayersOfAModel) {
  // 9, three times 1 2 3 2 3, 1 8: behind the first of period 5 are 10 kernels, and 1 more that makes no whole one.
  std::vector<uint64_t> signatures = {9, 1, 2, 3, 2, 3, 1, 2, 3, 2, 3, 1, 2, 3, 2, 3, 1, 8};
  auto found = repetitionOf(signatures);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->first, 1u);
  EXPECT_EQ(found->period, 5u);
  EXPECT_EQ(found->count, 3u);
  EXPECT_EQ(found->end(), 16u);
  EXPECT_FALSE(repetitionOf({1, 2, 3, 4}).has_value());
  EXPECT_FALSE(repetitionOf({}).has_value());
  // To the very end, and nothing else.
  found = repetitionOf({5, 5, 5});
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->period, 1u);
  EXPECT_EQ(found->count, 3u);
}

// x + x, on other values; of other shapes, types and constants; with another attribute.
TEST(Repetition, whatTheyComputeIsTheSame) {
  KernelGraph graph;
  auto value = [&](ElementType type, Shape shape, ValueRole role) {
    Value made;
    made.type = type;
    made.shape = std::move(shape);
    made.role = role;
    graph.values.push_back(made);
    return static_cast<ValueId>(graph.values.size() - 1);
  };
  auto twice = [&](ValueId of, ValueId into) -> Kernel & {
    Kernel &kernel = graph.kernels.emplace_back();
    kernel.operation = "add";
    kernel.loops = {{graph.values[of].shape[0], false}};
    kernel.reads = {{of, {{0, {{0, 1}}}}, {}}};
    kernel.writes.push_back({into, {{0, {{0, 1}}}}, Combiner::None, {}, {}});
    kernel.body.inputs = {ElementType::f32};
    Register x = kernel.body.append(BlockOpcode::Input, ElementType::f32, {}, 0);
    kernel.body.results = {kernel.body.append(BlockOpcode::Add, ElementType::f32, {x, x})};
    return kernel;
  };
  auto some = [&](int64_t extent) { return value(ElementType::f32, {extent}, ValueRole::Intermediate); };
  twice(some(4), some(4));
  twice(some(4), some(4));
  twice(some(5), some(5));
  twice(value(ElementType::f32, {4}, ValueRole::Constant), some(4));
  twice(value(ElementType::f16, {4}, ValueRole::Intermediate), some(4));
  twice(some(4), some(4)).attributes["axis"] = int64_t(1);
  twice(some(4), some(4)).body.instructions[1].opcode = BlockOpcode::Multiply;
  std::vector<uint64_t> signatures = signaturesOf(graph);
  EXPECT_EQ(signatures[0], signatures[1]);
  for (size_t i = 1; i < signatures.size(); ++i)
    for (size_t j = i + 1; j < signatures.size(); ++j)
      EXPECT_NE(signatures[i], signatures[j]) << i << " " << j;
}

} // namespace
} // namespace quadrille::graph
