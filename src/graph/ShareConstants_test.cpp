#include "graph/ShareConstants.h"

#include <gtest/gtest.h>

namespace quadrille::graph {
namespace {

TEST(ShareConstants, equalOnesBecomeOne) {
  KernelGraph graph;
  auto constant = [&](std::vector<float> values, Shape shape) {
    Value value;
    value.role = ValueRole::Constant;
    value.shape = shape;
    if (!values.empty())
      value.data = Tensor::of<float>(ElementType::f32, shape, values);
    graph.values.push_back(value);
    return static_cast<ValueId>(graph.values.size() - 1);
  };
  ValueId table = constant({1, 2, 3, 4}, {4}), same = constant({1, 2, 3, 4}, {4}), other = constant({1, 2, 3, 5}, {4});
  ValueId shaped = constant({1, 2, 3, 4}, {2, 2}), absent = constant({}, {4}), absentToo = constant({}, {4});
  // -0 is not 0: bytes count, not values.
  ValueId zero = constant({0}, {1}), negative = constant({-0.0F}, {1});
  graph.kernels.emplace_back();
  for (ValueId id : {same, table, other, shaped, absent, absentToo, zero, negative})
    graph.kernels[0].reads.push_back({id, {}, {}});
  graph.kernels[0].writes.emplace_back();
  graph.kernels[0].writes[0].initial = Read{same, {}, {}};
  graph.outputs = {same, other};
  shareConstants(graph);
  std::vector<ValueId> read;
  for (const Read &each : graph.kernels[0].reads)
    read.push_back(each.value);
  EXPECT_EQ(read, (std::vector<ValueId>{table, table, other, shaped, absent, absentToo, zero, negative}));
  EXPECT_EQ(graph.kernels[0].writes[0].initial->value, table);
  EXPECT_EQ(graph.outputs, (std::vector<ValueId>{table, other}));
}

} // namespace
} // namespace quadrille::graph
