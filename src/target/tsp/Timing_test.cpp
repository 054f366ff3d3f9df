// The timing of a GroqCard, against the figures of the published user code (machines/groqcard.yaml, SQ and VM), and the
// arithmetic of the matrix unit against values computed by hand.
#include "numerics/Gemm.h"
#include "target/tsp/Products.h"
#include "target/tsp/TestProgram.h"

#include "gtest/gtest.h"

#include <bit>
#include <cmath>

namespace quadrille::tsp {
namespace {

// One full tile of 320 x 320 and `vectors` activation vectors on one plane of a GroqCard.
//
// Weights come from 16 slices at positions 7..11, the matrix unit lies 9 beyond position 11, at 20. Dispatch to capture
// 1, read 1: a read dispatched at p - 7 from position p is captured by lw at p - 7 + 2 + (20 - p) = 15.
// 320 rows, 16 a cycle: 20 cycles, captured at 15..34. Installed with the last rows, 3 later: in use from 37.
std::string groqMatmul(int vectors, int activationCycle, const std::string &sums, int writeCycle) {
  std::string text = R"(.target tsp
.machine groqcard
.input "A" i8[)" + std::to_string(vectors) +
                     R"(,320]
.input "B" i8[320,320]
.output "C" i32[1,320]
.entry "inference" "A" "B" -> "C"
.layout input "A" bank=0 address=0 slices=e26
.axis dimension=0 extent=)" +
                     std::to_string(vectors) +
                     R"( to=address step=1
.axis dimension=1 extent=320 to=lane step=1
.layout input "B" bank=0 address=0 slices=e27,e29-43
.axis dimension=0 extent=20 to=address step=1
.axis dimension=0 extent=16 to=slice step=1
.axis dimension=1 extent=320 to=lane step=1
.layout output "C" bank=0 address=0 slices=e0-3
.axis dimension=1 extent=320 to=lane step=1
.axis dimension=bytes extent=4 to=slice step=1
.code "inference"
.chip 0
)";
  int stream = 0;
  for (int slice = 27; slice < 44; ++slice) {
    if (slice == 28)
      continue; // reserved
    text += ".queue MEM east " + std::to_string(slice) + "\n.at " + std::to_string(1 + slice / 4 - 7) +
            "\nread bank=0 address=0 step=1 stream=e" + std::to_string(stream++) + "\nrepeat count=19\n";
  }
  text += ".queue MXM east 0.0\n.at 14\nlw row=0 step=16\nrepeat count=19\n"
          ".queue MXM east 0.1\n.at 33\niw rows=320 type=i8\n";
  // Slice 26 is at position 7: on the matrix unit 2 + 13 cycles after dispatch.
  std::string repeat = vectors > 1 ? "repeat count=" + std::to_string(vectors - 1) + "\n" : "";
  text += ".queue MEM east 26\n.at " + std::to_string(activationCycle - 15) +
          "\nread bank=0 address=0 step=1 stream=e20\n" + repeat;
  text +=
      ".queue MXM east 0.2\n.at " + std::to_string(activationCycle - 1) + "\nabc stream=e20 type=i8\n" + repeat + sums;
  for (int i = 0; i < 4; ++i)
    text += ".queue MEM east " + std::to_string(i) + "\n.at " + std::to_string(writeCycle - 1) +
            "\nwrite bank=0 address=0 stream=w" + std::to_string(16 + i) + "\n";
  return text;
}

int64_t run(const std::string &text, int vectors) {
  program::Program program = assembleOrFail(text);
  EXPECT_EQ(firstFinding(program), "");
  Tensor a = Tensor::uninitialized(ElementType::i8, {vectors, 320});
  Tensor b = Tensor::uninitialized(ElementType::i8, {320, 320});
  for (int64_t i = 0; i < a.elements(); ++i)
    a.mutableData<int8_t>()[i] = static_cast<int8_t>(i * 37 + 11);
  for (int64_t i = 0; i < b.elements(); ++i)
    b.mutableData<int8_t>()[i] = static_cast<int8_t>(i * 101 + i / 320);
  auto result = target::find("tsp")->simulate(program, {{"A", a}, {"B", b}}, {});
  if (!result) {
    ADD_FAILURE() << report(result.takeError()).message;
    return 0;
  }
  for (int n = 0; n < 320; ++n) {
    int64_t sum = 0;
    for (int v = 0; v < vectors; ++v)
      for (int k = 0; k < 320; ++k)
        sum += a.data<int8_t>()[v * 320 + k] * b.data<int8_t>()[k * 320 + n];
    EXPECT_EQ(result->outputs["C"].data<int32_t>()[n], sum) << n;
  }
  return result->timeline.cycles.value;
}

TEST(TspTiming, InstallTakes20CyclesAnd3) {
  // Activations at 37 = 15 + 20 - 1 + 3 meet the tile, at 36 they do not.
  EXPECT_EQ(firstFinding(assembleOrFail(groqMatmul(1, 36, ".at 48\nacc mode=pass sum=0\n", 63))),
            "queue MXM east 0.2, instruction 1, cycle 35: weights not installed: the plane has no tile in this cycle");
}

TEST(TspTiming, MultiplyWithoutAccumulationTakes13) {
  // Captured at 37, products at 50, 4 to position 11 and 10 hops to position 1: 64. Visible 2 later; 20 superlanes.
  EXPECT_EQ(run(groqMatmul(1, 37, ".at 49\nacc mode=pass sum=0\n", 64), 1), 64 + 2 + 20);
}

TEST(TspTiming, AccumulationTakes34More) {
  // Two vectors into one sum: products at 50 and 51, out at 51 + 34 = 85, at position 1 at 99.
  EXPECT_EQ(run(groqMatmul(2, 37, ".at 49\nacc mode=start sum=0\nacc mode=finish sum=0\n", 99), 2), 99 + 2 + 20);
}

Tile tile(const std::vector<std::byte> &bytes, int64_t rows, ProductType type = ProductType::F16) {
  Tile tile{type, rows, std::make_shared<std::byte[]>(bytes.size())};
  std::copy(bytes.begin(), bytes.end(), tile.weights.get());
  return tile;
}

// The dot product of two short columns of f16 values, as a tile of one column.
float dot(std::vector<float> a, std::vector<float> b) {
  std::vector<std::byte> low[2], high[2];
  for (int side = 0; side < 2; ++side)
    for (float value : side ? b : a) {
      auto bits = std::bit_cast<uint16_t>(static_cast<_Float16>(value));
      low[side].push_back(static_cast<std::byte>(bits & 255));
      high[side].push_back(static_cast<std::byte>(bits >> 8));
    }
  auto rows = static_cast<int64_t>(b.size());
  std::vector<uint16_t> weights = joinTiles(tile(low[1], rows), tile(high[1], rows), 1, 1);
  uint32_t sum = 0;
  multiplyF16({low[0].data(), rows}, {high[0].data(), rows}, 1, weights, rows, 1, &sum);
  return std::bit_cast<float>(sum);
}

TEST(TspProducts, HalfDotProductsAreExactAndRoundedOnce) {
  float tiny = std::ldexp(1.0f, -24), big = 65504; // smallest subnormal and largest f16
  // Cancellation leaves exactly 2^-48.
  EXPECT_EQ(dot({big, tiny, -big}, {big, tiny, big}), std::ldexp(1.0f, -48));
  // 1 + 2^-24 is halfway between 1 and 1 + 2^-23: to even. Anything more rounds up.
  EXPECT_EQ(dot({1, std::ldexp(1.0f, -12)}, {1, std::ldexp(1.0f, -12)}), 1.0f);
  EXPECT_EQ(dot({1, std::ldexp(1.0f, -12), tiny}, {1, std::ldexp(1.0f, -12), tiny}), 1.0f + std::ldexp(1.0f, -23));
  EXPECT_EQ(dot({1, std::ldexp(3.0f, -12)}, {1, std::ldexp(1.0f, -12)}), 1.0f + std::ldexp(2.0f, -23)); // odd: away
  EXPECT_EQ(dot({-1, -std::ldexp(1.0f, -12), -tiny}, {1, std::ldexp(1.0f, -12), tiny}), -1.0f - std::ldexp(1.0f, -23));
  EXPECT_EQ(std::bit_cast<uint32_t>(dot({INFINITY, 1}, {0, 1})), 0x7fc00000u);
  EXPECT_EQ(std::bit_cast<uint32_t>(dot({INFINITY, INFINITY}, {1, -1})), 0x7fc00000u);
  EXPECT_EQ(std::bit_cast<uint32_t>(dot({1, 1}, {NAN, 1})), 0x7fc00000u);
  EXPECT_EQ(dot({1, big}, {-INFINITY, big}), -INFINITY);
}

// The same product by numerics' own once-rounded form, over values of all magnitudes that cancel.
TEST(TspProducts, AgreeWithTheOnceRoundedGemm) {
  constexpr int64_t rows = 160, columns = 96;
  std::vector<uint16_t> a(rows), b(rows * columns);
  uint32_t state = 99;
  auto next = [&] {
    state = state * 1664525 + 1013904223;
    auto bits = static_cast<uint16_t>(state >> 16);
    return static_cast<uint16_t>((bits & 0x7c00) == 0x7c00 ? bits & 0x83ff : bits); // finite
  };
  for (uint16_t &value : a)
    value = next();
  for (uint16_t &value : b)
    value = next();
  for (int64_t k = 1; k < rows; k += 2) { // most of each pair of rows cancels
    a[k] = a[k - 1] ^ 0x8000;
    for (int64_t n = 0; n < columns; ++n)
      b[k * columns + n] = b[(k - 1) * columns + n] ^ (n % 3 == 0);
  }
  std::vector<std::byte> lowA, highA, lowB, highB;
  for (uint16_t value : a) {
    lowA.push_back(static_cast<std::byte>(value & 255));
    highA.push_back(static_cast<std::byte>(value >> 8));
  }
  for (uint16_t value : b) {
    lowB.push_back(static_cast<std::byte>(value & 255));
    highB.push_back(static_cast<std::byte>(value >> 8));
  }
  std::vector<uint32_t> sums(columns);
  multiplyF16({lowA.data(), rows}, {highA.data(), rows}, 1,
              joinTiles(tile(lowB, rows), tile(highB, rows), columns, columns), rows, columns, sums.data());
  std::vector<float> expected(columns);
  GemmShape shape;
  shape.m = 1;
  shape.n = columns;
  shape.k = rows;
  gemmOnceRounded(shape, rows, ElementType::f16, a.data(), ElementType::f16, b.data(), expected.data());
  for (int64_t n = 0; n < columns; ++n)
    EXPECT_EQ(std::bit_cast<float>(sums[n]), expected[n]) << n;
}

TEST(TspProducts, IntegersOfBothSigns) {
  std::byte activation = std::byte(0xff), weight = std::byte(0x80);
  auto product = [&](ProductType a, ProductType w) {
    uint32_t sum = 0;
    multiplyInteger(a, {&activation, 1}, 1, tile({weight}, 1, w), 1, 1, &sum);
    return static_cast<int32_t>(sum);
  };
  EXPECT_EQ(product(ProductType::I8, ProductType::I8), 128);
  EXPECT_EQ(product(ProductType::U8, ProductType::I8), 255 * -128);
  EXPECT_EQ(product(ProductType::I8, ProductType::U8), -128);
  EXPECT_EQ(product(ProductType::U8, ProductType::U8), 255 * 128);
}

} // namespace
} // namespace quadrille::tsp
