// Plans of products executed by their definition, row by row and tile by tile, against the reference.
#include "base/Error.h"
#include "target/host/RewriteTest.h"
#include "target/tsp/Pack.h"
#include "target/tsp/TestProgram.h"

namespace quadrille::tsp {
namespace {

using namespace graph;
using namespace host;
constexpr ElementType f32 = ElementType::f32;

// The row and the lane of each element of a value, in row-major order: the definition of a packing.
std::vector<std::pair<int64_t, int64_t>> placesOf(const Shape &shape, const Packing &packing) {
  std::vector<std::pair<int64_t, int64_t>> places;
  for (int64_t element = 0; element < elementCount(shape); ++element) {
    int64_t left = element, row = 0, lane = 0, rows = 1, lanes = 1;
    for (size_t d = shape.size(); d-- > 0; left /= shape[d]) {
      int64_t index = left % shape[d];
      lane += index % packing[d] * lanes;
      row += index / packing[d] * rows;
      lanes *= packing[d];
      rows *= shape[d] / packing[d];
    }
    places.emplace_back(row, lane);
  }
  return places;
}

// A convolution of `channels` into `filters`, with padding of 1, on `rows` x `columns`.
struct Convolution {
  GraphBuilder b;
  ValueId x, w, y;
  Contraction contraction;

  Convolution(int64_t channels, int64_t filters, int64_t rows, int64_t columns, int64_t taps, int64_t stride,
              bool depthwise = false) {
    int64_t outRows = (rows + 2 - taps) / stride + 1, outColumns = (columns + 2 - taps) / stride + 1;
    x = b.input("x", f32, {rows, columns, channels});
    y = b.value("y", f32, {outRows, outColumns, filters});
    AccessMap image = {{-1, {{0, stride}, {3, 1}}}, {-1, {{1, stride}, {4, 1}}}, {0, {{depthwise ? 2U : 5U, 1}}}};
    std::vector<Loop> loops = {{outRows}, {outColumns}, {filters}, {taps, true}, {taps, true}};
    if (!depthwise)
      loops.push_back({channels, true});
    w = b.constant("w",
                   smallNumbers(f32, depthwise ? Shape{filters, taps, taps} : Shape{filters, taps, taps, channels}, 1));
    b.contract(loops, {x, image, scalarOf(f32, 0)}, {w, depthwise ? loopsMap({2, 3, 4}) : loopsMap({2, 3, 4, 5}), {}},
               y, loopsMap({0, 1, 2}));
    b.output(y);
    EXPECT_EQ(b.graph.verify(), "");
    contraction = *inferContraction(b.graph, b.graph.kernels[0]);
  }

  // What the plan's passes add up to, in the result's own order.
  std::vector<double> execute(const TapPlan &plan, const Packing &lhsPacking, const Packing &resultPacking,
                              const TapOptions &options) const {
    Tensor input = smallInputs(b.graph)[0];
    std::vector<double> values = doubles(input), weights = doubles(b.graph.values[w].data);
    std::vector<std::vector<double>> rows(values.size() / static_cast<size_t>(lanesOf(lhsPacking)),
                                          std::vector<double>(lanesOf(lhsPacking)));
    for (auto [value, place] : llvm::zip(values, placesOf(input.shape(), lhsPacking)))
      rows[place.first][place.second] = value;
    std::map<int64_t, std::vector<double>> results;
    for (const TapPlan::Batch &batch : plan.batches) {
      for (int32_t row : batch.resultRows)
        EXPECT_TRUE(results.try_emplace(row, plan.resultColumns).second) << "row " << row << " is made twice";
      for (const TapPlan::Pass &pass : batch.passes) {
        EXPECT_LE(pass.height, options.mostHeight);
        EXPECT_EQ(pass.lane % options.superlane, 0);
        std::vector<int64_t> elements = plan.elementsOf(batch, pass, 0, plan.resultColumns, options.vectorLanes);
        for (auto [result, row] : llvm::zip(batch.resultRows, pass.rows))
          for (int64_t lane = 0; row != TapPlan::padding && lane < pass.height; ++lane)
            for (int64_t column = 0; column < plan.resultColumns; ++column)
              if (int64_t element = elements[lane * plan.resultColumns + column]; element >= 0)
                results[result][column] +=
                    weights[element] * rows[row][pass.piece * options.vectorLanes + pass.lane + lane];
      }
    }
    std::vector<double> ordered;
    for (auto [row, lane] : placesOf(b.graph.values[y].shape, resultPacking))
      ordered.push_back(results.at(row)[lane]);
    return ordered;
  }

  void expectRight(const Packing &lhsPacking, const Packing &resultPacking, const TapOptions &options) const {
    SCOPED_TRACE(testing::PrintToString(lhsPacking) + " to " + testing::PrintToString(resultPacking));
    auto plan = planTaps(b.graph, b.graph.kernels[0], contraction, lhsPacking, resultPacking, options);
    ASSERT_TRUE(plan.has_value());
    Tensor right = llvm::cantFail(evaluatePlain(b.graph, smallInputs(b.graph)))[0];
    EXPECT_EQ(execute(*plan, lhsPacking, resultPacking, options), doubles(right));
  }
};

TEST(TspTapPlan, PassesAddUpToTheConvolution) {
  TapOptions options{64, 4, 32};
  for (int64_t stride : {1, 2}) {
    Convolution plain(5, 6, 8, 8, 3, stride);
    plain.expectRight({1, 1, 5}, {1, 1, 6}, options);
    int64_t out = stride == 1 ? 8 : 4;
    // Several columns, then rows too, share a vector: of the image, of the result, of both.
    plain.expectRight({1, 4, 5}, {1, 1, 6}, options);
    plain.expectRight({1, 1, 5}, {1, 2, 6}, options);
    plain.expectRight({2, 4, 5}, {1, out / 2, 6}, options);
    plain.expectRight({1, 8, 5}, {2, 4, 6}, options);
    plain.expectRight({4, 2, 5}, {4, 1, 6}, options);
  }
  // More lanes than a vector has are pieces of it, more rows of weights than a tile has several passes.
  Convolution(150, 3, 3, 3, 3, 1).expectRight({1, 1, 150}, {1, 1, 3}, options);
  // Channels that do not mix: a tile has their weights on its diagonal.
  Convolution apart(8, 8, 6, 6, 3, 1, /*depthwise=*/true);
  apart.expectRight({1, 1, 8}, {1, 1, 8}, options);
  apart.expectRight({1, 3, 8}, {1, 6, 8}, options);
  // Four columns share a vector, and the result has two: of the four ways in which taps meet vectors two do not occur.
  Convolution(5, 6, 8, 4, 5, 1).expectRight({1, 4, 5}, {1, 1, 6}, options);
}

TEST(TspTapPlan, VectorsAreCountedByHand) {
  // One tap: each of the 8 x 8 places goes through the one tile of the 5 channels, for each piece of columns. The 36
  // results around them are padding alone, for which nothing needs to pass.
  Convolution one(5, 6, 8, 8, 1, 1);
  TapOptions options{64, 4, 32};
  auto plan = planTaps(one.b.graph, one.b.graph.kernels[0], one.contraction, {1, 1, 5}, {1, 1, 6}, options);
  ASSERT_TRUE(plan.has_value());
  EXPECT_EQ(plan->vectors(64), 64);
  EXPECT_EQ(plan->vectors(3), 128); // six columns are two pieces
  // Half of the channels' lanes in a vector cannot be had.
  EXPECT_FALSE(planTaps(one.b.graph, one.b.graph.kernels[0], one.contraction, {1, 1, 5}, {1, 1, 3}, options));
}

// Whatever is chosen divides the extents, fits into a vector, and is right; few channels do share vectors.
TEST(TspPack, PlacesOfFewChannelsShareVectors) {
  Architecture machine = llvm::cantFail(Architecture::from(llvm::cantFail(machine::Machine::load("groqcard"))));
  for (int64_t channels : {3, 16, 320}) {
    int64_t places = channels == 320 ? 4 : 16;
    Convolution first(channels, 16, places, places, 3, 1);
    std::vector<Packing> packings = choosePackings(first.b.graph, machine);
    for (ValueId value : {first.x, first.y}) {
      const Shape &shape = first.b.graph.values[value].shape;
      for (auto [extent, part] : llvm::zip(shape, packings[value]))
        EXPECT_EQ(extent % part, 0);
    }
    EXPECT_LE(lanesOf(packings[first.x]), machine.vectorBytes());
    if (channels == 320) {
      EXPECT_EQ(packings[first.x], (Packing{1, 1, 320}));
    } else {
      EXPECT_GT(lanesOf(packings[first.x]), channels);
    }
    first.expectRight(packings[first.x], packings[first.y], {machine.vectorBytes(), machine.lanes, machine.f16Rows});
  }
  // An input that others read too lies as they expect it.
  Convolution shared(3, 16, 16, 16, 3, 1);
  shared.b.output(shared.x);
  EXPECT_EQ(choosePackings(shared.b.graph, machine)[shared.x], (Packing{1, 1, 3}));
  // So does one of which an output is made, by a kernel that comes first.
  Convolution second(3, 16, 16, 16, 3, 1);
  second.b.output(elementwise(second.b, "again", {16, 16, 3}, {{second.x, loopsMap({0, 1, 2}), {}}},
                              withNumber(BlockOpcode::Multiply, 3)));
  std::swap(second.b.graph.kernels[0], second.b.graph.kernels[1]);
  EXPECT_EQ(choosePackings(second.b.graph, machine)[second.x], (Packing{1, 1, 3}));
}

} // namespace
} // namespace quadrille::tsp
