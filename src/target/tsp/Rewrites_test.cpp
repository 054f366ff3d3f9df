// Rewrites of a graph before it is compiled: the same values, and the form that each of them promises.
#include "graph/Contraction.h"
#include "graph/KernelQueries.h"
#include "target/host/RewriteTest.h"
#include "target/tsp/ColumnParts.h"
#include "target/tsp/Expand.h"
#include "target/tsp/Lower.h"
#include "target/tsp/Orient.h"
#include "target/tsp/SaveMoves.h"
#include "target/tsp/SplitChains.h"

namespace quadrille::tsp {
namespace {

using namespace graph;
using namespace host;
constexpr ElementType f32 = ElementType::f32;

using Groups = std::vector<std::vector<size_t>>;

TEST(TspSaveMoves, MergedDimensionsByHand) {
  EXPECT_EQ(mergedDimensions({2, 3, 4}, {6, 4}), (Groups{{0, 1}, {2}}));
  EXPECT_EQ(mergedDimensions({1, 5, 1, 7}, {5, 1, 7}), (Groups{{1}, {}, {3}}));
  EXPECT_EQ(mergedDimensions({2, 1, 3}, {6}), (Groups{{0, 2}}));
  EXPECT_EQ(mergedDimensions({6, 4}, {2, 3, 4}), std::nullopt); // one becomes two
  EXPECT_EQ(mergedDimensions({2, 3}, {3, 2}), std::nullopt);
  EXPECT_EQ(mergedDimensions({4, 3}, {4, 3, 1}), (Groups{{0}, {1}, {}}));
  EXPECT_EQ(mergedDimensions({0, 3}, {0}), std::nullopt);
}

TEST(TspSaveMoves, TranspositionsComeBeforeMerging) {
  GraphBuilder b;
  ValueId x = b.input("x", f32, {2, 3, 5});
  ValueId merged = reshape(b, x, {6, 5});
  b.output(elementwise(b, "transpose", {5, 6}, {{merged, loopsMap({1, 0}), {}}}, firstOperand));
  KernelGraph rewritten = b.graph;
  transposeBeforeMerging(rewritten);
  EXPECT_EQ(operationsOf(rewritten), "transpose, reshape");
  expectTheSame(b.graph, rewritten);
  b.output(merged); // is wanted as it is
  rewritten = b.graph;
  transposeBeforeMerging(rewritten);
  EXPECT_EQ(rewritten.print(), b.graph.print());
}

TEST(TspSaveMoves, ComputesBeforeMoving) {
  GraphBuilder b;
  ValueId x = b.input("x", f32, {2, 12});
  ValueId moved = elementwise(b, "move", {3, 2, 4}, {{x, {{0, {{1, 1}}}, {0, {{0, 4}, {2, 1}}}}, {}}}, firstOperand);
  b.output(elementwise(b, "relu", {3, 2, 4}, {{moved, loopsMap({0, 1, 2}), {}}}, withNumber(BlockOpcode::Maximum, 0)));
  KernelGraph rewritten = b.graph;
  computeBeforeMoving(rewritten);
  EXPECT_EQ(operationsOf(rewritten), "relu, move");
  EXPECT_EQ(rewritten.values[rewritten.kernels[0].writes[0].value].shape, (Shape{2, 12}));
  expectTheSame(b.graph, rewritten);
  // A move that repeats elements would have them computed once only, but takes no fewer passes; one that others read
  // stays what it is.
  b.output(moved);
  rewritten = b.graph;
  computeBeforeMoving(rewritten);
  EXPECT_EQ(rewritten.print(), b.graph.print());
}

TEST(TspSaveMoves, PartsAreMultipliedApart) {
  GraphBuilder b;
  ValueId x = b.input("x", f32, {2, 3}), z = b.input("z", f32, {2, 5});
  ValueId w = b.constant("w", smallNumbers(f32, {8, 4}, 1)), joined = concat(b, {x, z}, 1);
  b.output(product(b, joined, w));
  KernelGraph rewritten = b.graph;
  multiplyPartsApart(rewritten);
  EXPECT_EQ(operationsOf(rewritten), "contract, contract");
  EXPECT_EQ(rewritten.kernels[1].writes[0].initial->value, rewritten.kernels[0].writes[0].value);
  expectTheSame(b.graph, rewritten);
  b.output(joined); // is needed as a whole
  rewritten = b.graph;
  multiplyPartsApart(rewritten);
  EXPECT_EQ(rewritten.print(), b.graph.print());
  // Rows that are joined are no parts of the sums.
  GraphBuilder rows;
  ValueId first = rows.input("x", f32, {2, 3}), second = rows.input("z", f32, {5, 3});
  rows.output(product(rows, concat(rows, {first, second}, 0), rows.constant("w", smallNumbers(f32, {3, 4}, 1))));
  rewritten = rows.graph;
  multiplyPartsApart(rewritten);
  EXPECT_EQ(rewritten.print(), rows.graph.print());
}

// Heads: columns 4 h + c of the product are element c of head h.
TEST(TspSaveMoves, ColumnsAreSplit) {
  for (bool ofRows : {false, true}) {
    GraphBuilder b;
    ValueId x = b.input("x", f32, {ofRows ? 12 : 2, 5});
    ValueId w = b.constant("w", smallNumbers(f32, {5, ofRows ? 2 : 12}, 2)), made = product(b, x, w);
    AccessMap map = {{0, {{1, 1}}}, {0, {{0, 4}, {2, 1}}}};
    if (ofRows)
      std::swap(map[0], map[1]);
    b.output(elementwise(b, "heads", {3, 2, 4}, {{made, map, {}}}, firstOperand));
    KernelGraph rewritten = b.graph;
    splitColumns(rewritten);
    // Rows would be in vectors of their own anyway.
    EXPECT_EQ(operationsOf(rewritten), ofRows ? "contract, heads" : "contract");
    EXPECT_EQ(rewritten.kernels[0].loops.size(), ofRows ? 3u : 4u);
    if (!ofRows) {
      EXPECT_EQ(rewritten.kernels[0].loops.back().extent, 4); // what lies side by side
    }
    expectTheSame(b.graph, rewritten);
  }
}

TEST(TspSaveMoves, MaximaOfFewChannelsArePicked) {
  GraphBuilder b;
  ValueId x = b.input("x", f32, {3, 6, 6}), pooled = b.value("pooled", f32, {3, 3, 3}),
          y = b.value("y", f32, {4, 3, 3});
  Kernel &pool = b.kernel(KernelKind::Window, "pool");
  pool.loops = {{3}, {3}, {3}, {2, true}, {2, true}};
  pool.reads = {{x, {{0, {{0, 1}}}, {0, {{1, 2}, {3, 1}}}, {-1, {{2, 2}, {4, 1}}}}, scalarOf(f32, -INFINITY)}};
  pool.writes = {{pooled, loopsMap({0, 1, 2}), Combiner::Maximum, scalarOf(f32, -INFINITY), {}}};
  pool.body.inputs = {f32};
  pool.body.results = {pool.body.append(BlockOpcode::Input, f32, {}, 0)};
  pool.numeric = defaultNumeric(b.graph, pool);
  ValueId w = b.constant("w", smallNumbers(f32, {4, 3}, 3));
  b.contract({{4}, {3}, {3}, {3, true}}, {pooled, loopsMap({3, 1, 2}), {}}, {w, loopsMap({0, 3}), {}}, y,
             loopsMap({0, 1, 2}));
  b.output(y);
  KernelGraph rewritten = b.graph;
  poolByProducts(rewritten, 320);
  EXPECT_EQ(llvm::count_if(rewritten.kernels, [](const Kernel &kernel) { return kernel.operation == "pick"; }), 4);
  for (const Kernel &kernel : rewritten.kernels)
    EXPECT_NE(kernel.kind, KernelKind::Window);
  expectTheSame(b.graph, rewritten);
  // Two places of three channels need six lanes.
  rewritten = b.graph;
  poolByProducts(rewritten, 5);
  EXPECT_EQ(rewritten.print(), b.graph.print());
}

// Scores of 3 heads of 8 by 8, twice their number, and what they weigh.
GraphBuilder attention() {
  GraphBuilder b;
  ValueId q = b.input("q", f32, {3, 8, 2}), k = b.input("k", f32, {3, 8, 2}), v = b.input("v", f32, {3, 8, 2});
  ValueId scores = b.value("scores", f32, {3, 8, 8}), y = b.value("y", f32, {3, 8, 2});
  b.contract({{3}, {8}, {8}, {2, true}}, {q, loopsMap({0, 1, 3}), {}}, {k, loopsMap({0, 2, 3}), {}}, scores,
             loopsMap({0, 1, 2}));
  ValueId twice =
      elementwise(b, "twice", {3, 8, 8}, {{scores, loopsMap({0, 1, 2}), {}}}, withNumber(BlockOpcode::Multiply, 2));
  b.contract({{3}, {8}, {2}, {8, true}}, {twice, loopsMap({0, 1, 3}), {}}, {v, loopsMap({0, 3, 2}), {}}, y,
             loopsMap({0, 1, 2}));
  b.output(y);
  return b;
}

TEST(TspSplitChains, NoValueIsLargerThanAllowed) {
  GraphBuilder b = attention();
  // 3 heads of 8 rows of two vectors, with a word for each of 4 bytes, are 192 words; one is 64, of which 4 rows
  // are 32.
  constexpr int64_t lanes = 4;
  for (int64_t most : {192, 70, 40}) {
    KernelGraph split = b.graph;
    splitChains(split, most, lanes);
    if (most == 192) {
      EXPECT_EQ(split.print(), b.graph.print());
    } else {
      EXPECT_GT(split.kernels.size(), b.graph.kernels.size());
    }
    for (const Kernel &kernel : split.kernels)
      for (const Write &write : kernel.writes)
        if (!llvm::is_contained(split.outputs, write.value)) {
          const Shape &shape = split.values[write.value].shape;
          EXPECT_LE(4 * elementCount(shape) / shape.back() * ((shape.back() + lanes - 1) / lanes), most);
        }
    expectTheSame(b.graph, split);
  }
}

TEST(TspSplitChains, WhatIsWantedAsAWholeStays) {
  GraphBuilder b = attention();
  b.output(b.graph.kernels[0].writes[0].value);
  KernelGraph split = b.graph;
  splitChains(split, 40, 4); // of 192 words
  EXPECT_EQ(split.print(), b.graph.print());
}

// All rows of a value are there only behind the last block.
TEST(TspSplitChains, WhatReadsOtherRowsTooIsNotCut) {
  auto doubled = [](GraphBuilder &b) {
    return elementwise(b, "twice", {8, 4}, {{b.input("x", f32, {8, 4}), loopsMap({0, 1}), {}}},
                       withNumber(BlockOpcode::Multiply, 2));
  };
  constexpr int64_t most = 20, lanes = 4; // `twice` has 32 words
  GraphBuilder square;
  ValueId x = doubled(square), y = square.value("y", f32, {8, 8});
  square.contract({{8}, {8}, {4, true}}, {x, loopsMap({0, 2}), {}}, {x, loopsMap({1, 2}), {}}, y, loopsMap({0, 1}));
  square.output(y);
  GraphBuilder mirror;
  x = doubled(mirror);
  mirror.output(elementwise(mirror, "mirror", {8, 4},
                            {{x, loopsMap({0, 1}), {}}, {x, {{7, {{0, -1}}}, {0, {{1, 1}}}}, {}}},
                            binary(BlockOpcode::Add)));
  for (const GraphBuilder *b : {&square, &mirror}) {
    KernelGraph split = b->graph;
    splitChains(split, most, lanes);
    expectTheSame(b->graph, split);
    EXPECT_EQ(split.print(), b->graph.print());
  }
  // A row of sums that all blocks need.
  GraphBuilder sums;
  x = doubled(sums);
  ValueId first = elementwise(sums, "first", {8}, {{x, {{0, {{0, 1}}}, {}}, {}}}, firstOperand);
  sums.output(elementwise(sums, "each", {8, 4, 8}, {{x, loopsMap({0, 1}), {}}, {first, loopsMap({2}), {}}},
                          binary(BlockOpcode::Add)));
  KernelGraph split = sums.graph;
  splitChains(split, most, lanes);
  expectTheSame(sums.graph, split);
}

// A product of 12 columns through a reshape: what reads columns 0..3 and 4..11 apart gets products of its own.
TEST(TspColumnParts, WhatIsReadApartIsMultipliedApart) {
  auto graphOf = [](int64_t second) {
    GraphBuilder b;
    ValueId x = b.input("x", f32, {5, 3});
    ValueId all = reshape(b, product(b, x, b.constant("w", smallNumbers(f32, {3, 12}, 1))), {1, 5, 12});
    DimensionAccess none{0, {}}, row{0, {{0, 1}}};
    b.output(
        elementwise(b, "first", {5, 4}, {{all, {none, row, {0, {{1, 1}}}}, {}}}, withNumber(BlockOpcode::Multiply, 2)));
    b.output(elementwise(b, "second", {5, 8}, {{all, {none, row, {second, {{1, 1}}}}, {}}},
                         withNumber(BlockOpcode::Multiply, 3)));
    structureReshapes(b.graph);
    return b.graph;
  };
  auto productsOf = [](const KernelGraph &graph) {
    std::vector<int64_t> columns;
    for (const Kernel &kernel : graph.kernels)
      if (kernel.kind == KernelKind::Contract)
        columns.push_back(graph.values[kernel.writes[0].value].shape.back());
    return columns;
  };
  constexpr int64_t lanes = 3;
  KernelGraph graph = graphOf(4), apart = graph;
  multiplyReadColumnsApart(apart, lanes);
  EXPECT_EQ(productsOf(apart), (std::vector<int64_t>{4, 8}));
  expectTheSame(graph, apart);
  // Columns that both read, or that begin with a vector, stay together, and so do those that fill none.
  graph = graphOf(3);
  multiplyReadColumnsApart(graph, lanes);
  EXPECT_EQ(productsOf(graph), std::vector<int64_t>{12});
  graph = graphOf(4);
  multiplyReadColumnsApart(graph, 4);
  EXPECT_EQ(productsOf(graph), std::vector<int64_t>{12});
  multiplyReadColumnsApart(graph, 5);
  EXPECT_EQ(productsOf(graph), std::vector<int64_t>{12});
}

TEST(TspOrient, ReshapesThatSplitDimensionsMoveElements) {
  GraphBuilder b;
  ValueId x = b.input("x", f32, {6, 1, 20});
  b.output(reshape(b, x, {2, 3, 4, 5}));
  b.output(reshape(b, x, {12, 10})); // takes parts of both
  KernelGraph structured = b.graph;
  structureReshapes(structured);
  // 6 = 2 * 3 and 20 = 4 * 5.
  EXPECT_EQ(structured.kernels[0].reads[0].map, (AccessMap{{0, {{0, 3}, {1, 1}}}, {0, {}}, {0, {{2, 5}, {3, 1}}}}));
  EXPECT_FALSE(structured.kernels[1].structured());
  expectTheSame(b.graph, structured);
}

TEST(TspOrient, OperandsOfProductsAreHalves) {
  GraphBuilder b;
  ValueId x = b.input("x", f32, {2, 3});
  ValueId more = elementwise(b, "more", {2, 3}, {{x, loopsMap({0, 1}), {}}}, withNumber(BlockOpcode::Multiply, 3));
  ValueId made = product(b, more, b.constant("w", smallNumbers(f32, {3, 4}, 1)));
  ValueId square = elementwise(b, "square", {2, 3}, {{more, loopsMap({0, 1}), {}}, {more, loopsMap({0, 1}), {}}},
                               binary(BlockOpcode::Multiply));
  b.output(made);
  b.output(square);
  // What comes in, and is read by a product alone, is converted first.
  b.output(product(b, x, b.constant("v", smallNumbers(f32, {3, 2}, 2))));
  KernelGraph narrowed = b.graph;
  narrowProductOperands(narrowed);
  for (const Kernel &kernel : narrowed.kernels)
    if (kernel.kind == KernelKind::Contract) {
      EXPECT_EQ(narrowed.values[kernel.reads[0].value].type, ElementType::f16);
    }
  for (ValueId output : narrowed.outputs)
    EXPECT_EQ(narrowed.values[output].type, f32);
  EXPECT_EQ(operationsOf(narrowed), "convert, more, contract, square, contract");
  expectTheSame(b.graph, narrowed); // the numbers are whole, and below 2048
  // A result of the graph keeps its digits, and is converted for the product.
  b.output(more);
  narrowed = b.graph;
  narrowProductOperands(narrowed);
  EXPECT_EQ(narrowed.values[more].type, f32);
  EXPECT_EQ(operationsOf(narrowed), "convert, more, convert, contract, square, contract");
  expectTheSame(b.graph, narrowed);
}

// A move writes elements as it reads them: both ends of it are halves, or none.
TEST(TspOrient, MovesKeepTheType) {
  enum class Other { Joined, Reshaped, ReshapedForAProduct, Output };
  for (Other other : {Other::Joined, Other::Reshaped, Other::ReshapedForAProduct, Other::Output}) {
    GraphBuilder b;
    ValueId x = b.input("x", f32, {4, 3}), w = b.constant("w", smallNumbers(f32, {3, 2}, 1));
    auto scaled = [&] {
      return elementwise(b, "scale", {4, 3}, {{x, loopsMap({0, 1}), {}}}, withNumber(BlockOpcode::Multiply, 3));
    };
    ValueId made = scaled(), moved = other == Other::Joined ? concat(b, {made, scaled()}, 0) : reshape(b, made, {4, 3});
    b.output(product(b, made, w));
    b.output(other == Other::Output ? moved
             : other == Other::ReshapedForAProduct
                 ? product(b, moved, w)
                 : elementwise(b, "again", b.graph.values[moved].shape, {{moved, loopsMap({0, 1}), {}}},
                               withNumber(BlockOpcode::Multiply, 5)));
    KernelGraph narrowed = b.graph;
    narrowProductOperands(narrowed);
    for (const Kernel &kernel : narrowed.kernels) {
      if (kernel.kind == KernelKind::Contract) {
        EXPECT_EQ(narrowed.values[kernel.reads[0].value].type, ElementType::f16);
      }
      for (const Read &read : kernel.reads)
        if (!kernel.structured()) {
          EXPECT_EQ(narrowed.values[read.value].type, narrowed.values[kernel.writes[0].value].type);
        }
    }
    // What no product reads keeps its digits; the same elements in another shape have no more than before.
    bool whole = other == Other::Joined || other == Other::Output;
    EXPECT_EQ(narrowed.values[moved].type, whole ? f32 : ElementType::f16);
    EXPECT_EQ(operationsOf(narrowed).find("convert") != std::string::npos, whole);
    expectTheSame(b.graph, narrowed);
  }
}

// A convolution as models have it, channels before places: in the lanes are the channels that it sums over, and those
// that it makes.
TEST(TspOrient, ChannelsComeLast) {
  GraphBuilder b;
  ValueId x = b.input("x", f32, {1, 3, 6, 7}), w = b.constant("w", smallNumbers(f32, {5, 3, 2, 2}, 1));
  ValueId y = b.value("y", f32, {1, 5, 5, 6});
  b.contract({{1}, {5}, {5}, {6}, {3, true}, {2, true}, {2, true}},
             {x, {{0, {{0, 1}}}, {0, {{4, 1}}}, {0, {{2, 1}, {5, 1}}}, {0, {{3, 1}, {6, 1}}}}, {}},
             {w, loopsMap({1, 4, 5, 6}), {}}, y, loopsMap({0, 1, 2, 3}));
  b.graph.kernels.back().flops = 1;
  ValueId relu =
      elementwise(b, "relu", {1, 5, 5, 6}, {{y, loopsMap({0, 1, 2, 3}), {}}}, withNumber(BlockOpcode::Maximum, 0));
  b.output(relu);
  KernelGraph oriented = b.graph;
  std::vector<Permutation> ends = orientValues(oriented);
  ASSERT_EQ(oriented.verify(), "");
  EXPECT_EQ(ends, (std::vector<Permutation>{{0, 2, 3, 1}, {0, 2, 3, 1}}));
  EXPECT_EQ(oriented.values[x].shape, (Shape{1, 6, 7, 3}));
  EXPECT_EQ(oriented.values[y].shape, (Shape{1, 5, 6, 5}));
  EXPECT_EQ(oriented.values[w].shape, b.graph.values[w].shape); // becomes tiles
}

TEST(TspLower, IntegerProductsHaveNoZeroPoints) {
  GraphBuilder b;
  ValueId x = b.input("x", ElementType::u8, {3, 4});
  ValueId w = b.constant("w", smallNumbers(ElementType::i8, {4, 2}, 1)), y = b.value("y", ElementType::i32, {3, 2});
  Kernel &kernel =
      b.contract({{3}, {2}, {4, true}}, {x, loopsMap({0, 2}), {}}, {w, loopsMap({2, 1}), {}}, y, loopsMap({0, 1}));
  // (x - 5) * w
  BlockExpression body;
  body.inputs = {ElementType::u8, ElementType::i8};
  Register left = body.append(BlockOpcode::Input, ElementType::u8, {}, 0);
  Register right = body.append(BlockOpcode::Input, ElementType::i8, {}, 1);
  left = body.append(BlockOpcode::Convert, ElementType::i32, {left});
  right = body.append(BlockOpcode::Convert, ElementType::i32, {right});
  Register five = body.append(BlockOpcode::Constant, ElementType::i32, {}, 5);
  left = body.append(BlockOpcode::Subtract, ElementType::i32, {left, five});
  body.results = {body.append(BlockOpcode::Multiply, ElementType::i32, {left, right})};
  kernel.body = body;
  b.output(y);
  EXPECT_FALSE(isMatrixProduct(b.graph, b.graph.kernels[0]));
  KernelGraph lowered = lower(b.graph);
  EXPECT_TRUE(llvm::any_of(lowered.kernels, [&](const Kernel &each) { return isMatrixProduct(lowered, each); }));
  expectTheSame(b.graph, lowered);
}

TEST(TspLower, PicksAndMovesAreKnown) {
  auto gatherOf = [](int64_t rows, bool constant, int64_t axis) {
    GraphBuilder b;
    ValueId table = b.input("table", f32, {rows, 12});
    ValueId indices = constant ? b.constant("indices", Tensor::of<int64_t>(ElementType::i64, {2}, {0, 1}))
                               : b.input("indices", ElementType::i64, {2});
    ValueId y = b.value("y", f32, axis == 0 ? Shape{2, 12} : Shape{rows, 2});
    b.plain("gather", {table, indices}, {y}).attributes["axis"] = axis;
    b.output(y);
    EXPECT_EQ(b.graph.verify(), "");
    return std::pair(isKnownMove(b.graph, b.graph.kernels[0]), isComputedPick(b.graph, b.graph.kernels[0]));
  };
  EXPECT_EQ(gatherOf(20, /*constant=*/true, 0), std::pair(true, false));
  EXPECT_EQ(gatherOf(20, /*constant=*/false, 0), std::pair(false, true));
  EXPECT_EQ(gatherOf(20, /*constant=*/false, 1), std::pair(false, false)); // columns
  EXPECT_EQ(gatherOf(8, /*constant=*/false, 0), std::pair(false, false));  // comparisons are cheaper
}

TEST(TspFoldConstants, OnlyWhatDependsOnInputsIsLeft) {
  // x + (2 * 3 - 1) * 4, and 2 * 3
  BlockExpression expression;
  expression.inputs = {f32};
  Register x = expression.append(BlockOpcode::Input, f32, {}, 0);
  auto number = [&](double value) {
    return expression.append(BlockOpcode::Constant, f32, {}, bitsFromDouble(f32, value));
  };
  Register two = number(2), three = number(3), one = number(1), four = number(4);
  Register six = expression.append(BlockOpcode::Multiply, f32, {two, three});
  Register five = expression.append(BlockOpcode::Subtract, f32, {six, one});
  Register twenty = expression.append(BlockOpcode::Multiply, f32, {five, four});
  expression.results = {expression.append(BlockOpcode::Add, f32, {x, twenty}), six};
  BlockExpression folded = foldConstants(expression);
  EXPECT_EQ(folded.verify(), "");
  EXPECT_EQ(folded.operationsPerElement(), 1u);
  ASSERT_EQ(folded.instructions.size(), 4u); // x, 6, 20, the sum
  const BlockInstruction &sum = folded.instructions[folded.results[0]];
  EXPECT_EQ(sum.opcode, BlockOpcode::Add);
  EXPECT_EQ(doubleFromBits(f32, folded.instructions[sum.operands[1]].immediate), 20);
  EXPECT_EQ(doubleFromBits(f32, folded.instructions[folded.results[1]].immediate), 6);
}

} // namespace
} // namespace quadrille::tsp
