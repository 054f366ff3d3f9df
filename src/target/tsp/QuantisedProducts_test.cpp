// Rewrites of products of bytes: the same values, and the form that each of them promises.
#include "graph/Contraction.h"
#include "target/host/RewriteTest.h"
#include "target/tsp/QuantisedProducts.h"

namespace quadrille::tsp {
namespace {

using namespace graph;
using namespace host;
constexpr ElementType u8 = ElementType::u8, i8 = ElementType::i8, i32 = ElementType::i32, f32 = ElementType::f32;
constexpr int64_t vectorLanes = 320;

Tensor numbers(const Shape &shape, double (*valueOf)(int64_t), ElementType type) {
  std::vector<double> values;
  for (int64_t i = 0; i < elementCount(shape); ++i)
    values.push_back(valueOf(i));
  Tensor tensor = Tensor::uninitialized(type, shape);
  convert(ElementType::f64, values.data(), type, tensor.mutableBytes(), values.size());
  return tensor;
}

// Sums of a convolution that start from `bias`.
ValueId convolution(GraphBuilder &b, ValueId x, int64_t columns, int64_t taps, int64_t stride,
                    double (*bias)(int64_t)) {
  Shape shape = b.graph.values[x].shape;
  int64_t before = taps / 2, out = shape[2] / stride;
  ValueId w = b.constant("w", smallNumbers(i8, {columns, shape[1], taps, taps}, 7));
  ValueId start = b.constant("bias", numbers({columns}, bias, i32));
  ValueId sums = b.value("sums", i32, {1, columns, out, out});
  std::optional<Scalar> padding;
  if (before > 0)
    padding = Scalar{u8, 3};
  Kernel &kernel = b.contract(
      {{1}, {columns}, {out}, {out}, {shape[1], true}, {taps, true}, {taps, true}},
      {x, {{0, {{0, 1}}}, {0, {{4, 1}}}, {-before, {{2, stride}, {5, 1}}}, {-before, {{3, stride}, {6, 1}}}}, padding},
      {w, loopsMap({1, 4, 5, 6}), {}}, sums, loopsMap({0, 1, 2, 3}));
  kernel.writes[0].initial = Read{start, {{0, {{1, 1}}}}, {}};
  kernel.writes[0].initialScalar.reset();
  return sums;
}

// Bytes of sums, with a factor for each channel.
ValueId quantised(GraphBuilder &b, ValueId sums, double zero = 0) {
  Shape shape = b.graph.values[sums].shape;
  ValueId factors =
      b.constant("factors", numbers({shape[1]}, [](int64_t i) { return 0.02 * static_cast<double>(i % 7 + 1); }, f32));
  auto compute = [&](BlockExpression &body, std::vector<Register> operands) {
    Register value = body.append(BlockOpcode::Convert, f32, {operands[0]});
    value = body.append(BlockOpcode::Multiply, f32, {value, operands[1]});
    value = body.append(BlockOpcode::RoundEven, f32, {value});
    value = body.append(BlockOpcode::Add, f32,
                        {value, body.append(BlockOpcode::Constant, f32, {}, bitsFromDouble(f32, zero))});
    return body.append(BlockOpcode::ConvertSaturating, u8, {value});
  };
  return elementwise(b, "requantize", shape, {{sums, loopsMap({0, 1, 2, 3}), {}}, {factors, {{0, {{1, 1}}}}, {}}},
                     compute, u8);
}

// Maxima of three places by three, two apart.
ValueId pooled(GraphBuilder &b, ValueId x) {
  Shape shape = b.graph.values[x].shape;
  int64_t out = shape[2] / 2;
  ValueId y = b.value("pooled", u8, {1, shape[1], out, out});
  Kernel &kernel = b.kernel(KernelKind::Window, "MaxPool");
  kernel.loops = {{1}, {shape[1]}, {out}, {out}, {3, true}, {3, true}};
  kernel.reads = {{x, {{0, {{0, 1}}}, {0, {{1, 1}}}, {-1, {{2, 2}, {4, 1}}}, {-1, {{3, 2}, {5, 1}}}}, Scalar{u8, 0}}};
  kernel.body.inputs = {u8};
  kernel.body.results = {kernel.body.append(BlockOpcode::Input, u8, {}, 0)};
  kernel.writes = {{y, loopsMap({0, 1, 2, 3}), Combiner::Maximum, Scalar{u8, 0}, {}}};
  kernel.numeric = defaultNumeric(b.graph, kernel);
  return y;
}

double smallBias(int64_t i) {
  return static_cast<double>(i % 11 - 5);
}

TEST(TspQuantisedProducts, MaximaOfPhases) {
  GraphBuilder b;
  ValueId image = b.input("image", u8, {1, 3, 32, 32});
  b.output(pooled(b, quantised(b, convolution(b, image, 64, 5, 2, smallBias))));
  KernelGraph rewritten = b.graph;
  poolByPhases(rewritten, vectorLanes);
  std::string each = "contract, requantize, ", three = each + each + each;
  EXPECT_EQ(operationsOf(rewritten), three + three + "maximum, maximum");
  expectTheSame(b.graph, rewritten);
  // Each value has as many places as the maxima, so places down can share a vector.
  for (const Kernel &kernel : rewritten.kernels)
    EXPECT_EQ(rewritten.values[kernel.writes[0].value].shape, (Shape{1, 64, 8, 8}));
  // Rows that are read together come together, once for all of the products.
  KernelGraph together = rewritten;
  bringRowsTogether(together, vectorLanes);
  std::string product = "contract, requantize, reshape, ", products = product + product + product;
  EXPECT_EQ(operationsOf(together), "pick, convert, " + products + products + "maximum, maximum");
  expectTheSame(b.graph, together);
  // Of 4 places, 4 rows apart, each reads 5 rows for each of 3 places of the maxima, 2 rows apart: 12 + 4 + 5 rows.
  const Kernel &picks = together.kernels[0];
  EXPECT_EQ(together.values[picks.writes[0].value].shape, (Shape{2, 21 * 3, 1, 32}));
}

TEST(TspQuantisedProducts, MaximaStayWhereTheyCannotBeHadSo) {
  // A zero point: what lies outside cannot be made by a factor of zero.
  GraphBuilder zero;
  ValueId image = zero.input("image", u8, {1, 3, 32, 32});
  zero.output(pooled(zero, quantised(zero, convolution(zero, image, 64, 5, 2, smallBias), 9)));
  KernelGraph rewritten = zero.graph;
  poolByPhases(rewritten, vectorLanes);
  EXPECT_EQ(rewritten.print(), zero.graph.print());
  // Many channels, of which four places are more than a vector has; and bytes that others read.
  GraphBuilder many;
  image = many.input("image", u8, {1, 3, 32, 32});
  many.output(pooled(many, quantised(many, convolution(many, image, 96, 5, 2, smallBias))));
  rewritten = many.graph;
  poolByPhases(rewritten, vectorLanes);
  EXPECT_EQ(rewritten.print(), many.graph.print());
  GraphBuilder read;
  image = read.input("image", u8, {1, 3, 32, 32});
  ValueId bytes = quantised(read, convolution(read, image, 64, 5, 2, smallBias));
  read.output(pooled(read, bytes));
  read.output(bytes);
  rewritten = read.graph;
  poolByPhases(rewritten, vectorLanes);
  EXPECT_EQ(rewritten.print(), read.graph.print());
}

double largeBias(int64_t i) {
  return static_cast<double>(i % 2 == 0 ? 83'805 - i : -50'003 + i);
}

TEST(TspQuantisedProducts, SumsStartFromChannels) {
  GraphBuilder b;
  ValueId x = b.input("x", u8, {1, 16, 8, 8});
  ValueId bytes = quantised(b, convolution(b, x, 64, 3, 1, smallBias));
  b.output(convolution(b, bytes, 24, 1, 1, largeBias));
  KernelGraph rewritten = b.graph;
  startFromChannels(rewritten, vectorLanes);
  expectTheSame(b.graph, rewritten);
  const Kernel &last = rewritten.kernels.back();
  EXPECT_FALSE(last.writes[0].initial.has_value());
  // 83,805 is 329 times 255 and less than half of that: three weights of at most 127, and one for what is left.
  EXPECT_EQ(rewritten.values[last.reads[0].value].shape, (Shape{1, 68, 8, 8}));
  // Without lanes to spare nothing changes; nor where padding has no such channels.
  rewritten = b.graph;
  startFromChannels(rewritten, 4 * 64);
  EXPECT_EQ(rewritten.print(), b.graph.print());
  GraphBuilder padded;
  x = padded.input("x", u8, {1, 16, 8, 8});
  bytes = quantised(padded, convolution(padded, x, 64, 3, 1, smallBias));
  padded.output(convolution(padded, bytes, 24, 3, 1, largeBias));
  rewritten = padded.graph;
  startFromChannels(rewritten, vectorLanes);
  EXPECT_EQ(rewritten.print(), padded.graph.print());
}

} // namespace
} // namespace quadrille::tsp
