// Models between DequantizeLinear and QuantizeLinear give bit for bit what ONNX's QLinear operators give on the same
// integers, and do so in integers.
#include "TextModel.h"

#include "graph/Contraction.h"
#include "graph/Model.h"

#include <random>

namespace quadrille::graph {
namespace {

KernelGraph load(const std::string &graph) {
  llvm::Expected<KernelGraph> loaded = loadModel(*parse(19, graph), withHost());
  if (!loaded) {
    ADD_FAILURE() << report(loaded.takeError()).message;
    return {};
  }
  EXPECT_EQ(loaded->verify(), "") << loaded->print();
  return std::move(*loaded);
}

// Random integers for every input, the same for models with the same inputs.
std::vector<Tensor> inputsOf(const KernelGraph &graph) {
  std::mt19937 random(7);
  std::vector<Tensor> inputs;
  for (ValueId id : graph.inputs) {
    Tensor tensor = Tensor::uninitialized(graph.values[id].type, graph.values[id].shape);
    for (int64_t i = 0; i < tensor.elements(); ++i)
      tensor.mutableBytes()[i] = static_cast<std::byte>(random());
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

std::vector<int> run(const KernelGraph &graph) {
  Tensor result = llvm::cantFail(host::evaluate(graph, inputsOf(graph)))[0];
  std::vector<int> values;
  for (std::byte byte : result.bytes())
    values.push_back(static_cast<int>(byte));
  return values;
}

int floatKernels(const KernelGraph &graph) {
  return static_cast<int>(llvm::count_if(graph.kernels, [&](const Kernel &kernel) {
    return llvm::any_of(kernel.reads, [&](const Read &read) {
      const Value &value = graph.values[read.value];
      return value.type == ElementType::f32 && value.role != ValueRole::Constant;
    });
  }));
}

struct Pair {
  const char *name, *constants, *ports, *quantized, *linear;
};

class IntegerContractions : public testing::TestWithParam<Pair> {};

TEST_P(IntegerContractions, GiveWhatTheQLinearOperatorGives) {
  const Pair &pair = GetParam();
  auto model = [&](const char *body) {
    return "g " + std::string(pair.ports) + " <" + pair.constants + "> { " + body + " }";
  };
  KernelGraph quantized = load(model(pair.quantized)), linear = load(model(pair.linear));
  EXPECT_EQ(floatKernels(quantized), 0) << quantized.print();
  std::vector<int> expected = run(linear), actual = run(quantized);
  EXPECT_EQ(actual, expected);
  // The data must reach beyond one value and beyond saturation.
  std::set<int> distinct(expected.begin(), expected.end());
  EXPECT_GT(distinct.size(), 20u);
}

constexpr const char *convolutionConstants =
    "float xs = {0.02}, uint8 xz = {131}, float[4] ws = {0.01, 0.02, 0.013, 0.007}, int8[4] wz = {0, 0, 0, 0}, "
    "int32[4] b = {1000, -2000, 3000, 77}, float[4] bs = {0.0002, 0.0004, 0.00026, 0.00014}, float ys = {0.09}, "
    "uint8 yz = {120}";

INSTANTIATE_TEST_SUITE_P(
    Operators, IntegerContractions,
    testing::Values(
        Pair{"Convolution", convolutionConstants, "(uint8[2,3,6,5] x, int8[4,3,3,3] w) => (uint8[2,4,6,5] y)",
             "xd = DequantizeLinear(x, xs, xz)  wd = DequantizeLinear<axis = 0>(w, ws, wz)"
             "bd = DequantizeLinear<axis = 0>(b, bs)  c = Conv<pads = [1, 1, 1, 1]>(xd, wd, bd)"
             "y = QuantizeLinear(c, ys, yz)",
             "y = QLinearConv<pads = [1, 1, 1, 1]>(x, xs, xz, w, ws, wz, ys, yz, b)"},
        Pair{"GroupedConvolution", convolutionConstants, "(uint8[1,6,7,7] x, int8[4,3,3,3] w) => (uint8[1,4,4,4] y)",
             "xd = DequantizeLinear(x, xs, xz)  wd = DequantizeLinear<axis = 0>(w, ws, wz)"
             "c = Conv<pads = [1, 1, 1, 1], strides = [2, 2], group = 2>(xd, wd)  y = QuantizeLinear(c, ys, yz)",
             "y = QLinearConv<pads = [1, 1, 1, 1], strides = [2, 2], group = 2>(x, xs, xz, w, ws, wz, ys, yz)"},
        Pair{"MatrixProduct",
             "float as = {0.03}, int8 az = {-5}, float[6] bs = {0.01, 0.02, 0.013, 0.007, 0.005, 0.009}, "
             "int8[6] bz = {3, -4, 0, 0, 9, 1}, float ys = {0.11}, int8 yz = {-9}",
             "(int8[2,5,9] a, int8[9,6] b) => (int8[2,5,6] y)",
             "ad = DequantizeLinear(a, as, az)  bd = DequantizeLinear<axis = 1>(b, bs, bz)  c = MatMul(ad, bd)"
             "y = QuantizeLinear(c, ys, yz)",
             "y = QLinearMatMul(a, as, az, b, bs, bz, ys, yz)"},
        Pair{"PoolBetweenEqualScales", "float s = {0.02}, uint8 z = {7}", "(uint8[1,3,8,8] x) => (uint8[1,48] y)",
             "d = DequantizeLinear(x, s, z)  p = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, "
             "1]>(d)"
             "t = Transpose<perm = [0, 2, 3, 1]>(p)  f = Flatten(t)  y = QuantizeLinear(f, s, z)",
             "p = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)"
             "t = Transpose<perm = [0, 2, 3, 1]>(p)  y = Flatten(t)"}),
    [](const auto &info) { return info.param.name; });

// A float bias, or a result that something else reads as well, leaves an integer product with a dequantised result.
TEST(IntegerContractions, DequantiseWhereTheResultIsUsedAsFloat) {
  KernelGraph graph = load("g (uint8[3,8] x, int8[8,4] w) => (float[3,4] y) <float xs = {0.5}, uint8 xz = {2}, "
                           "float ws = {0.25}, int8 wz = {-1}, float[4] bias = {1, 2, 3, 4}> {"
                           "  xd = DequantizeLinear(x, xs, xz)  wd = DequantizeLinear(w, ws, wz)"
                           "  y = Gemm(xd, wd, bias) }");
  int products = 0;
  for (const Kernel &kernel : graph.kernels)
    if (inferContraction(graph, kernel)) {
      ++products;
      EXPECT_EQ(graph.values[kernel.writes[0].value].type, ElementType::i32);
    }
  EXPECT_EQ(products, 1) << graph.print();
  std::vector<Tensor> inputs = inputsOf(graph);
  Tensor result = llvm::cantFail(host::evaluate(graph, inputs))[0];
  for (int64_t i = 0; i < 3; ++i)
    for (int64_t j = 0; j < 4; ++j) {
      int sum = 0;
      for (int64_t k = 0; k < 8; ++k)
        sum += (inputs[0].data<uint8_t>()[i * 8 + k] - 2) * (inputs[1].data<int8_t>()[k * 4 + j] + 1);
      EXPECT_EQ(result.data<float>()[i * 4 + j], static_cast<float>(sum) * 0.125F + static_cast<float>(j + 1));
    }
}

// A weight whose scale is not known stays a float product; so do operands of 16 bits.
TEST(IntegerContractions, LeaveWhatTheyCannotExpress) {
  KernelGraph graph = load("g (uint8[3,8] x, int8[8,4] w, float ws) => (float[3,4] y) <float xs = {0.5}> {"
                           "  xd = DequantizeLinear(x, xs)  wd = DequantizeLinear(w, ws)  y = MatMul(xd, wd) }");
  for (const Kernel &kernel : graph.kernels)
    if (inferContraction(graph, kernel)) {
      EXPECT_EQ(graph.values[kernel.writes[0].value].type, ElementType::f32);
    }
}

} // namespace
} // namespace quadrille::graph
