// The validation table of the reference (poplibs' estimators evaluated with the figures of Mk2, 6 workers, weights
// loaded at 8 bytes a cycle), row by row, and what the formulas must do beyond it.
#include "target/ipu/CycleModel.h"

#include <gtest/gtest.h>

namespace quadrille::ipu {
namespace {

constexpr auto f32 = ElementType::f32, f16 = ElementType::f16, i32 = ElementType::i32, u8 = ElementType::u8;
using Types = AmpTypes;

class CycleModelTest : public ::testing::Test {
protected:
  static CycleModel load(llvm::StringRef name) { return CycleModel(llvm::cantFail(machine::Machine::load(name))); }
  CycleModel cycles = load("gc200");
};

TEST_F(CycleModelTest, fieldIsSharedInRunsOfParts) {
  // 7 rows of 7 in sixths of rows, 7 parts for each worker: the first has row 0 and the first part of row 1, one
  // column.
  std::vector<WorkerRows> shares = shareField(7, 7, 6);
  EXPECT_EQ(shares[0], (WorkerRows{7, 1}));
  EXPECT_EQ(shares[1], (WorkerRows{6, 2}));
  EXPECT_EQ(shares[5], (WorkerRows{2, 7}));
  // 16 rows of 16 in thirds, 8 parts each: worker 1 ends row 2 and begins row 5.
  EXPECT_EQ(shareField(16, 16, 6)[1], (WorkerRows{6, 16, 16, 5}));
  for (int64_t rows : {1, 2, 5, 6, 14, 97})
    for (int64_t columns : {1, 3, 14, 224}) {
      int64_t all = 0;
      for (const WorkerRows &share : shareField(rows, columns, 6))
        for (int64_t n : share)
          all += n;
      EXPECT_EQ(all, rows * columns) << rows << ' ' << columns;
    }
}

TEST_F(CycleModelTest, amp1x1) {
  struct {
    Types types;
    int64_t field, in, out, cycles;
  } rows[] = {
      {Types::F16F16, 6, 1, 1, 369},     {Types::F16F16, 96, 1, 1, 711},    {Types::F16F16, 96, 4, 1, 2613},
      {Types::F16F16, 96, 4, 4, 9807},   {Types::F16F16, 384, 4, 4, 28239}, {Types::F16F16, 384, 16, 4, 112779},
      {Types::F16F32, 96, 4, 4, 9295},   {Types::F16F32, 384, 4, 4, 27727}, {Types::F32F32, 96, 4, 4, 19287},
      {Types::F32F32, 384, 4, 4, 65367},
  };
  for (auto &row : rows)
    EXPECT_EQ(cycles.amp1x1(row.types, {1, row.in, row.out, 1}, row.field), row.cycles)
        << row.field << ' ' << row.in << ' ' << row.out;
}

TEST_F(CycleModelTest, ampNx1) {
  struct {
    Types types;
    int64_t side, in, out, cycles;
  } rows[] = {{Types::F16F16, 14, 1, 1, 12682},
              {Types::F16F16, 14, 2, 2, 48317},
              {Types::F16F16, 7, 2, 2, 23813},
              {Types::F16F32, 14, 2, 2, 46943},
              {Types::F32F32, 14, 2, 2, 77531}};
  for (auto &row : rows)
    EXPECT_EQ(cycles.ampNx1(row.types, {1, row.in, row.out, 1}, 1, {row.side, row.side}, {3, 3}, 1), row.cycles)
        << row.side << ' ' << row.in;
  EXPECT_EQ(cycles.ampNx1(Types::F16F16, {}, 1, {16, 16}, {8, 7}, 4), 24652);
  // 16 weights of a unit are 4 rows of 4 channels.
  EXPECT_EQ(cycles.ampFilterHeight(Types::F16F16, 16), 1);
  EXPECT_EQ(cycles.ampFilterHeight(Types::F16F16, 4), 4);
  EXPECT_EQ(cycles.ampFilterHeight(Types::F16F16, 3), 0);
}

TEST_F(CycleModelTest, slic) {
  EXPECT_EQ(cycles.slic(Types::F16F16, 1, 1, 14, 14, 4, 1), 3057);
  EXPECT_EQ(cycles.slic(Types::F16F16, 1, 1, 28, 28, 4, 1), 6747);
  EXPECT_EQ(cycles.slic(Types::F16F32, 1, 1, 14, 14, 4, 1), 4761);
  // Weights of several groups: 37 + 6 * 12 or 10 in place of 34 for each of the 4 windows.
  EXPECT_EQ(cycles.slic(Types::F16F16, 1, 2, 14, 14, 4, 1), 3057 + 4 * 75);
  EXPECT_EQ(cycles.slic(Types::F16F16, 1, 4, 14, 14, 4, 1), 3057 + 4 * 63);
}

TEST_F(CycleModelTest, dotProductsAndDepthwise) {
  EXPECT_EQ(cycles.hmac(Types::F16F32, {}, 1, 96, 16, 1, 1, true), 1585);
  EXPECT_EQ(cycles.hmac(Types::F32F32, {}, 1, 64, 64, 1, 1, true), 3502);
  EXPECT_EQ(cycles.vmac(Types::F16F16, {}, 8, 14 * 14, 3, 3), 19789);
}

TEST_F(CycleModelTest, outerProduct) {
  EXPECT_EQ(cycles.outerProduct(f32, 64, 1, 64), 2276);
  EXPECT_EQ(cycles.outerProduct(f16, 64, 1, 64), 1251);
}

TEST_F(CycleModelTest, elementwise) {
  struct {
    const char *operation;
    ElementType type;
    int64_t small, smallInPlace, large, largeInPlace; // 96 and 1536 elements; 0: not in the table
  } binary[] = {{"add", f32, 329, 503, 2489, 2663},    {"multiply", f32, 329, 503, 2489, 2663},
                {"add", f16, 239, 431, 1319, 1511},    {"multiply", f16, 239, 431, 1319, 1511},
                {"add", i32, 839, 1031, 10919, 11111}, {"divide", f32, 665, 0, 7865, 0},
                {"divide", f16, 671, 0, 8231, 0},      {"maximum", f32, 329, 0, 2489, 0},
                {"maximum", f16, 263, 0, 1703, 0}},
    unary[] = {{"exp", f32, 506, 638, 4826, 4958},   {"exp", f16, 314, 446, 1754, 1886},
               {"log", f32, 698, 1022, 9338, 11102}, {"tanh", f32, 698, 830, 9338, 8030},
               {"tanh", f16, 218, 398, 1658, 1118},  {"sigmoid", f16, 266, 446, 2426, 1886},
               {"relu", f32, 266, 0, 2426, 0},       {"relu", f16, 194, 0, 1274, 0},
               {"sqrt", f32, 602, 0, 7802, 0},       {"sqrt", f16, 674, 0, 8954, 0},
               {"rsqrt", f32, 506, 0, 6266, 0},      {"rsqrt", f16, 578, 0, 7418, 0},
               {"inverse", f32, 410, 0, 4730, 0},    {"inverse", f16, 482, 0, 5882, 0},
               {"gelu_erf", f32, 2234, 0, 33914, 0}, {"gelu_erf", f16, 1658, 0, 24698, 0}};
  auto expect = [](auto &&row, auto &&of) {
    EXPECT_EQ(of(96, false), row.small) << row.operation;
    EXPECT_EQ(of(1536, false), row.large) << row.operation;
    if (row.smallInPlace) {
      EXPECT_EQ(of(96, true), row.smallInPlace) << row.operation;
      EXPECT_EQ(of(1536, true), row.largeInPlace) << row.operation;
    }
  };
  for (auto &row : binary)
    expect(row, [&](int64_t count, bool inPlace) { return *cycles.binary(row.operation, row.type, count, inPlace); });
  for (auto &row : unary)
    expect(row, [&](int64_t count, bool inPlace) { return *cycles.unary(row.operation, row.type, count, inPlace); });
  EXPECT_EQ(*cycles.scalarBroadcast("add", f32, 1536), 1667);
  EXPECT_EQ(*cycles.scalarBroadcast("add", f16, 1536), 899);
  EXPECT_FALSE(cycles.unary("erfc", f32, 1, false));
}

TEST_F(CycleModelTest, nonlinearities) {
  struct {
    const char *operation;
    ElementType type;
    int64_t small, large;
  } rows[] = {{"gelu", f32, 705, 7905}, {"gelu", f16, 321, 2121}, {"swish", f32, 705, 8625}, {"swish", f16, 303, 2103}};
  for (auto &row : rows) {
    EXPECT_EQ(*cycles.nonlinearity(row.operation, row.type, 96), row.small) << row.operation;
    EXPECT_EQ(*cycles.nonlinearity(row.operation, row.type, 1536), row.large) << row.operation;
  }
  for (auto operation : {CycleModel::Gradient::Relu, CycleModel::Gradient::Sigmoid, CycleModel::Gradient::Tanh}) {
    EXPECT_EQ(cycles.nonlinearityGradient(operation, f32, 96), 309);
    EXPECT_EQ(cycles.nonlinearityGradient(operation, f16, 96), 249);
    EXPECT_EQ(cycles.nonlinearityGradient(operation, f32, 1536), 2469);
    EXPECT_EQ(cycles.nonlinearityGradient(operation, f16, 1536), 1329);
  }
  EXPECT_EQ(cycles.nonlinearityGradient(CycleModel::Gradient::Gelu, f32, 96), 603);
  EXPECT_EQ(cycles.nonlinearityGradient(CycleModel::Gradient::Gelu, f16, 96), 285);
  EXPECT_EQ(cycles.nonlinearityGradient(CycleModel::Gradient::Gelu, f32, 1536), 7803);
  EXPECT_EQ(cycles.nonlinearityGradient(CycleModel::Gradient::Gelu, f16, 1536), 2085);
}

TEST_F(CycleModelTest, castsAndScaledAdditions) {
  EXPECT_EQ(cycles.cast(f32, f16, 96), 294);
  EXPECT_EQ(cycles.cast(f32, f16, 1536), 1014);
  EXPECT_EQ(cycles.cast(f16, f32, 96), 288);
  EXPECT_EQ(cycles.cast(f16, f32, 1536), 1008);
  EXPECT_EQ(cycles.cast(i32, f32, 96), 426);
  EXPECT_EQ(cycles.cast(i32, f32, 1536), 3306);
  EXPECT_EQ(cycles.scaledAdd(f32, 96, false), 333);
  EXPECT_EQ(cycles.scaledAdd(f32, 96, true), 291);
  EXPECT_EQ(cycles.scaledAdd(f32, 1536, false), 2493);
  EXPECT_EQ(cycles.scaledAdd(f32, 1536, true), 969);
  EXPECT_EQ(cycles.scaledAdd(f16, 96, false), 261);
  EXPECT_EQ(cycles.scaledAdd(f16, 96, true), 243);
  EXPECT_EQ(cycles.scaledAdd(f16, 1536, false), 1341);
  EXPECT_EQ(cycles.scaledAdd(f16, 1536, true), 585);
  EXPECT_EQ(cycles.cast(u8, f16, 96), 402);
  EXPECT_EQ(cycles.cast(u8, f16, 1536), 3642);
}

TEST_F(CycleModelTest, randomNumbers) {
  EXPECT_EQ(cycles.dropout(f32, 96), 247);
  EXPECT_EQ(cycles.dropout(f16, 96), 199);
  EXPECT_EQ(cycles.dropout(f32, 1536), 1687);
  EXPECT_EQ(cycles.dropout(f16, 1536), 919);
  EXPECT_EQ(cycles.normal(f32, 96), 330);
  EXPECT_EQ(cycles.normal(f16, 96), 247);
  EXPECT_EQ(cycles.normal(f32, 1536), 3210);
  EXPECT_EQ(cycles.normal(f16, 1536), 1687);
}

TEST_F(CycleModelTest, fillsAndReductions) {
  EXPECT_EQ(cycles.fill(4, 96), 71);
  EXPECT_EQ(cycles.fill(2, 96), 50);
  EXPECT_EQ(cycles.fill(4, 1536), 791);
  EXPECT_EQ(cycles.fill(2, 1536), 410);
  EXPECT_EQ(cycles.reduceToScalar(f32, 96, false), 65);
  EXPECT_EQ(cycles.reduceToScalar(f16, 96, false), 41);
  EXPECT_EQ(cycles.reduceToScalar(f32, 1536, false), 785);
  EXPECT_EQ(cycles.reduceToScalar(f16, 1536, false), 401);
  EXPECT_EQ(cycles.reduceStrided(f32, f32, 64, 16, 1), 848);
  EXPECT_EQ(cycles.reduceStrided(f16, f16, 64, 16, 1), 480);
  EXPECT_EQ(cycles.reduceStrided(f32, f32, 64, 64, 1), 2384);
  EXPECT_EQ(cycles.reduceStrided(f16, f16, 64, 64, 1), 1248);
  EXPECT_EQ(cycles.reduceContiguous(f32, 16, 64), 721);
  EXPECT_EQ(cycles.reduceContiguous(f16, 16, 64), 465);
  EXPECT_EQ(cycles.reduceContiguous(f32, 8, 512), 2161);
  EXPECT_EQ(cycles.reduceContiguous(f16, 8, 512), 1137);
  EXPECT_EQ(cycles.reducePartials(f32, f32, 96, 4, false), 537);
  EXPECT_EQ(cycles.reducePartials(f32, f32, 96, 4, true), 441);
  EXPECT_EQ(cycles.reducePartials(f16, f16, 96, 4, false), 357);
  EXPECT_EQ(cycles.reducePartials(f32, f16, 768, 8, true), 3033);
  EXPECT_EQ(cycles.reducePartialsSeparate(f32, f32, 96, 4), 648);
  EXPECT_EQ(cycles.reducePartialsSeparate(f16, f16, 96, 4), 432);
}

TEST_F(CycleModelTest, slicesBiasesPools) {
  EXPECT_EQ(cycles.multiSlice(64, 6, 6), 3168);
  EXPECT_EQ(cycles.multiSlice(64, 96, 96), 47988);
  EXPECT_EQ(cycles.multiSlice(64, 6, 6, true), 3168 - 6);
  EXPECT_EQ(cycles.multiUpdateAdd(f32, 64, 96, 16), 21828);
  EXPECT_EQ(cycles.multiUpdateAdd(f16, 64, 96, 16), 12798);
  EXPECT_EQ(cycles.dynamicSlice(f32, 64, 4), 1075);
  EXPECT_EQ(cycles.dynamicSlice(f16, 64, 4), 931);
  EXPECT_EQ(cycles.dynamicSlice(f32, 1024, 1), 1423);
  EXPECT_EQ(cycles.dynamicSlice(f16, 1024, 1), 907);
  EXPECT_EQ(cycles.biasAdd(f32, 16, 96), 4021);
  EXPECT_EQ(cycles.biasAdd(f16, 16, 96), 763);
  EXPECT_EQ(cycles.biasAdd(f32, 64, 96), 15541);
  EXPECT_EQ(cycles.biasAdd(f16, 64, 96), 2383);
  // 7 outputs of each worker.
  EXPECT_EQ(cycles.pool(true, f16, 16, 6, 7, 1), 1363);
  EXPECT_EQ(cycles.pool(true, f16, 16, 6, 7, 4), 4099);
  // 41 for 40, and for each of 4 vectors 5 + 3 m for 4 + 3 m.
  EXPECT_EQ(cycles.pool(false, f16, 16, 6, 7, 1), 1363 + 6 * (1 + 4));
}

// The test bench has other coefficients and the same formulas: more work never takes less time, and none is negative.
TEST_F(CycleModelTest, growWithTheWork) {
  for (const char *name : {"gc200", "unit-ipu"}) {
    CycleModel of = load(name);
    for (ElementType type : {f32, f16}) {
      int64_t last = 0;
      for (int64_t count = 0; count < 200; ++count) {
        int64_t now = *of.binary("add", type, count, false);
        EXPECT_GE(now, last) << name << ' ' << count;
        last = now;
      }
    }
    int64_t last = 0;
    for (int64_t field : {1, 2, 5, 6, 12, 18, 96, 1000}) {
      int64_t now = of.amp1x1(Types::F16F16, {}, field);
      EXPECT_GT(now, 0);
      if (field > 18) // workers with one or two take other ways
        EXPECT_GE(now, last);
      last = now;
    }
  }
}

} // namespace
} // namespace quadrille::ipu
