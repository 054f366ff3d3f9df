// Small programs written by hand: values, cycles and what the checker finds.
#include "target/ipu/CycleModel.h"
#include "target/ipu/Influence.h"
#include "target/ipu/TestProgram.h"

#include "numerics/Convert.h"

namespace quadrille::ipu {
namespace {

// y = x + x on two tiles, half of the elements each; then both halves meet on tile 0.
const char *const doubling = R"(.target ipu
.machine unit-ipu
.precision "f32"
.node "double" "Add"
.input "x" f32[8]
.output "y" f32[8]
.expression
.in f32
.op input f32
.op add f32 0 0
.result 1
.placement input "x" type=f32
.part tiles=0..1 address=8192 begin=[0] extents=[4] shift=[4]
.digit dimension=0 extent=4 stride=4
.placement output "y" type=f32
.part tiles=0 address=12288 begin=[0] extents=[8] shift=[0]
.digit dimension=0 extent=8 stride=4
.compute_set "double"
popops::Map tiles=0 expression=0 extents=[4] in=[8192] in_strides=[1] out=[12288] out_strides=[1]
popops::Map tiles=1 expression=0 extents=[4] in=[8192] in_strides=[1] out=[9216] out_strides=[1]
.exchange "gather"
send from=1 at=9216 to=0 into=12304 bytes=16
.steps "inference"
execute 0 node=0
exchange 0 node=0
)";

Tensor numbers(ElementType type, Shape shape, float first = 1, float step = 1) {
  std::vector<float> values(static_cast<size_t>(elementCount(shape)));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = first + step * static_cast<float>(i);
  return convert(Tensor::of<float>(ElementType::f32, std::move(shape), values), type);
}

TEST(IpuSimulate, computesOnTilesAndExchanges) {
  program::Program program = assembled(doubling);
  EXPECT_EQ(finding(program), "");
  target::RunResult result = ran(program, {{"x", numbers(ElementType::f32, {8})}});
  EXPECT_EQ(valuesOf<float>(result.outputs.at("y")), (std::vector<float>{2, 4, 6, 8, 10, 12, 14, 16}));
  // Tile 1 computes as long as tile 0; then the barrier, then 16 bytes, 4 a cycle or the control of one fragment.
  auto machine = llvm::cantFail(Architecture::from(program.machine));
  auto description = llvm::cantFail(machine::Machine::parse(program.machine, "test"));
  int64_t add = *CycleModel(description).binary("add", ElementType::f32, 4, false);
  int64_t exchange = std::max<int64_t>(16 / machine.receiveBytesPerCycle, machine.exchangeFragment);
  EXPECT_EQ(result.timeline.cycles.value, add + machine.syncInternal + exchange);
  auto estimated = llvm::cantFail(execute(program, nullptr, {}));
  EXPECT_EQ(estimated.timeline.cycles.value, result.timeline.cycles.value);
  EXPECT_TRUE(estimated.outputs.empty());
}

// Tile 0 adds and fills a little, tile 1 adds and fills much: the exchange waits for tile 1, and all cycles are what it
// did.
TEST(IpuSimulate, chargesThePathThatTheExchangeWaitsFor) {
  std::string text = doubling;
  text.insert(text.find(".exchange"), ".compute_set \"little\"\n"
                                      "popops::Fill tiles=0 bytes=4 value=0 count=4 out=13312\n"
                                      ".compute_set \"much\"\n"
                                      "popops::Fill tiles=1 bytes=4 value=0 count=64 out=13312\n");
  program::Program program =
      assembled(replaced(text, "execute 0 node=0\n", "execute 0 node=0\nexecute 1 node=0\nexecute 2\n"));
  ASSERT_EQ(finding(program), "");
  timeline::Timeline timeline = llvm::cantFail(execute(program, nullptr, {})).timeline;
  auto machine = llvm::cantFail(Architecture::from(program.machine));
  CycleModel cycles(llvm::cantFail(machine::Machine::parse(program.machine, "test")));
  int64_t add = *cycles.binary("add", ElementType::f32, 4, false);
  int64_t exchange = std::max<int64_t>(16 / machine.receiveBytesPerCycle, machine.exchangeFragment);
  int64_t fill = machine.workers * cycles.fill(4, 64); // one worker's, which has one slot in as many
  std::map<std::string, int64_t> spent, ofNone;
  for (auto [cause, taken] : llvm::zip_equal(timeline.attribution.causes, timeline.attribution.devices.at(0)))
    spent[cause] = taken.value;
  for (const timeline::Attribution::Share &share : timeline.attribution.kernels)
    if (share.kernel == timeline::noKernel)
      for (auto [cause, taken] : llvm::zip_equal(timeline.attribution.causes, share.cycles))
        ofNone[cause] = taken.value;
  EXPECT_EQ(spent, (std::map<std::string, int64_t>{{"multiply", 0},
                                                   {"reduce", 0},
                                                   {"elementwise", add},
                                                   {"move", fill},
                                                   {"exchange", exchange},
                                                   {"barriers", machine.syncInternal},
                                                   {"idle", 0}}));
  EXPECT_EQ(ofNone["move"], fill); // step 2 has no node
  EXPECT_EQ(timeline.cycles.value, add + fill + machine.syncInternal + exchange);
  const timeline::Table &steps =
      *llvm::find_if(timeline.tables, [](const auto &each) { return each.title == "steps"; });
  auto column = static_cast<size_t>(llvm::find(steps.columns, "on the path") - steps.columns.begin());
  std::vector<std::string> onPath;
  for (const std::vector<std::string> &row : steps.rows)
    onPath.push_back(row.at(column));
  EXPECT_EQ(onPath, (std::vector<std::string>{std::to_string(add), "0", std::to_string(fill),
                                              std::to_string(machine.syncInternal + exchange)}));
}

TEST(IpuSimulate, textAndBack) {
  program::Program program = assembled(doubling);
  std::string text;
  llvm::raw_string_ostream os(text);
  ASSERT_FALSE(llvm::errorToBool(disassemble(program, os)));
  program::Program again = assembled(text);
  EXPECT_TRUE(again.payload() == program.payload()) << text;
}

TEST(IpuCheck, findsWhatIsWrong) {
  auto with = [](llvm::StringRef from, llvm::StringRef to) { return finding(assembled(replaced(doubling, from, to))); };
  // Nobody has written what the exchange sends.
  EXPECT_NE(with("at=9216", "at=9220").find("nothing has been written"), std::string::npos);
  // Half of the output is missing.
  EXPECT_NE(with("into=12304", "into=12400").find("nothing has written"), std::string::npos);
  // Two vertices of a tile write the same bytes.
  EXPECT_NE(with("tiles=1 expression=0 extents=[4] in=[8192] in_strides=[1] out=[9216]",
                 "tiles=0 expression=0 extents=[4] in=[8192] in_strides=[1] out=[12296]")
                .find("at the same time"),
            std::string::npos);
  // Two transfers of an exchange write the same bytes.
  EXPECT_NE(with("into=12304 bytes=16", "into=12304 bytes=16\nsend from=1 at=9216 to=0 into=12316 bytes=16")
                .find("one of them writes it"),
            std::string::npos);
  EXPECT_NE(with("bytes=16", "bytes=15").find("multiples of"), std::string::npos);
  EXPECT_NE(with("from=1 at=9216 to=0", "from=0 at=9216 to=0").find("does not leave the tile"), std::string::npos);
  EXPECT_NE(with("tiles=0..1", "tiles=0..16").find("its tiles are not among"), std::string::npos);
  EXPECT_NE(with("shift=[4]", "shift=[5]").find("leaves the variable"), std::string::npos);
  EXPECT_NE(with("in=[8192] in_strides=[1] out=[9216]", "in=[8194] in_strides=[1] out=[9216]").find("not aligned"),
            std::string::npos);
  // Code lies below the data.
  EXPECT_NE(finding(assembled(replaced(replaced(doubling, "at=9216", "at=64"), "out=[9216]", "out=[64]")))
                .find("reaches into the data"),
            std::string::npos);
}

// Of 64-bit integers those that lie on a tile must be of 32 bits.
TEST(IpuSimulate, integersBeyond32Bits) {
  std::string text = R"(.target ipu
.machine unit-ipu
.precision "f32"
.input "x" i64[4]
.output "y" i64[2]
.placement input "x" type=i32
.part tiles=0 address=8192 begin=[0] extents=[2] shift=[0]
.digit dimension=0 extent=2 stride=4
.placement output "y" type=i32
.part tiles=0 address=12288 begin=[0] extents=[2] shift=[0]
.digit dimension=0 extent=2 stride=4
.compute_set "copy"
poputil::Copy tiles=0 bytes=4 extents=[2] in=8192 in_strides=[4] out=12288 out_strides=[4]
.steps "inference"
execute 0
)";
  auto message = [&](const std::string &of, std::vector<int64_t> values) {
    Tensor x =
        Tensor::of<int64_t>(of.find("u64") == std::string::npos ? ElementType::i64 : ElementType::u64, {4}, values);
    program::Program program = assembled(of);
    EXPECT_EQ(finding(program), "");
    target::NamedTensors inputs = {{"x", x}};
    auto result = execute(program, &inputs, {});
    if (!result)
      return llvm::toString(result.takeError());
    EXPECT_EQ(valuesOf<int64_t>(result->outputs.at("y")), std::vector<int64_t>(values.begin(), values.begin() + 2));
    return std::string();
  };
  constexpr int64_t beyond = int64_t(1) << 32;
  EXPECT_EQ(message(text, {-beyond / 2, beyond / 2 - 1, beyond, -beyond}), "");
  EXPECT_NE(message(text, {0, beyond / 2, 0, 0}).find("2147483648, beyond the 32 bits"), std::string::npos);
  EXPECT_NE(
      message(replaced(text, "begin=[0] extents=[2]", "begin=[2] extents=[2]"), {0, 0, -beyond, 0}).find("beyond"),
      std::string::npos);
  std::string without = text;
  for (const char *type : {"i64", "i64", "=i32", "=i32"})
    without = replaced(without, type, type[0] == '=' ? "=u32" : "u64");
  EXPECT_EQ(message(without, {0, beyond - 1, beyond, -1}), "");
  EXPECT_NE(message(without, {-1, 0, 0, 0}).find("18446744073709551615, beyond the 32 bits"), std::string::npos);
}

// Five rows of a 3 x 3 convolution with padding, on one tile, against the sum written out.
TEST(IpuSimulate, convolution) {
  program::Program program = assembled(R"(.target ipu
.machine unit-ipu
.precision "f16"
.input "x" f16[5,5,16]
.input "w" f16[3,3,16,16]
.output "y" f32[5,5,16]
.placement input "x" type=f16
.part tiles=3 address=8192 begin=[0,0,0] extents=[5,5,16] shift=[0,0,0]
.digit dimension=0 extent=5 stride=160
.digit dimension=1 extent=5 stride=32
.digit dimension=2 extent=16 stride=2
.placement input "w" type=f16
.part tiles=3 address=16384 begin=[0,0,0,0] extents=[3,3,16,16] shift=[0,0,0,0]
.digit dimension=0 extent=3 stride=1536
.digit dimension=1 extent=3 stride=512
.digit dimension=2 extent=16 stride=32
.digit dimension=3 extent=16 stride=2
.placement output "y" type=f32
.part tiles=3 address=32768 begin=[0,0,0] extents=[5,5,16] shift=[0,0,0]
.digit dimension=0 extent=5 stride=320
.digit dimension=1 extent=5 stride=64
.digit dimension=2 extent=16 stride=4
.compute_set "conv"
poplin::ConvPartialnx1 tiles=3 type=f16 partials=f32 groups=1 in_blocks=1 in_channels=16 out_blocks=1 out_channels=16 batch=1 out_field=[5,5] in_field=[5,5] kernel=[3,3] stride=[1,1] dilation=[1,1] padding=[1,1] in=8192 weights=16384 out=32768 zero=yes loads=narrow
.steps "inference"
execute 0
)");
  ASSERT_EQ(finding(program), "");
  Tensor x = numbers(ElementType::f16, {5, 5, 16}, -1, 1 / 64.0F),
         w = numbers(ElementType::f16, {3, 3, 16, 16}, -9, 1 / 128.0F);
  target::RunResult result = ran(program, {{"x", x}, {"w", w}});
  std::vector<double> xs = valuesOf<double>(x), ws = valuesOf<double>(w);
  std::vector<float> y = valuesOf<float>(result.outputs.at("y"));
  for (int row : {0, 2, 4})
    for (int column : {0, 3, 4})
      for (int channel : {0, 7, 15}) {
        double sum = 0;
        for (int ky = 0; ky < 3; ++ky)
          for (int kx = 0; kx < 3; ++kx) {
            int iy = row + ky - 1, ix = column + kx - 1;
            if (iy < 0 || iy > 4 || ix < 0 || ix > 4)
              continue;
            for (int c = 0; c < 16; ++c)
              sum += xs[(iy * 5 + ix) * 16 + c] * ws[((ky * 3 + kx) * 16 + channel) * 16 + c];
          }
        EXPECT_NEAR(y[(row * 5 + column) * 16 + channel], sum, 1e-3 * std::abs(sum)) << row << ' ' << column;
      }
}

// Two groups of 4 channels, each channel by itself: a 2 x 3 kernel with stride 2 over rows and padding of a column
// before and behind, on one tile, against the sum written out.
const char *const depthwise = R"(.target ipu
.machine gc200
.precision "f16"
.input "x" f16[2,4,3,4]
.input "w" f16[2,2,3,4]
.output "y" f16[2,2,3,4]
.placement input "x" type=f16
.part tiles=3 address=65536 begin=[0,0,0,0] extents=[2,4,3,4] shift=[0,0,0,0]
.digit dimension=0 extent=2 stride=96
.digit dimension=1 extent=4 stride=24
.digit dimension=2 extent=3 stride=8
.digit dimension=3 extent=4 stride=2
.placement input "w" type=f16
.part tiles=3 address=73728 begin=[0,0,0,0] extents=[2,2,3,4] shift=[0,0,0,0]
.digit dimension=0 extent=2 stride=48
.digit dimension=1 extent=2 stride=24
.digit dimension=2 extent=3 stride=8
.digit dimension=3 extent=4 stride=2
.placement output "y" type=f16
.part tiles=3 address=81920 begin=[0,0,0,0] extents=[2,2,3,4] shift=[0,0,0,0]
.digit dimension=0 extent=2 stride=48
.digit dimension=1 extent=2 stride=24
.digit dimension=2 extent=3 stride=8
.digit dimension=3 extent=4 stride=2
.compute_set "conv"
poplin::ConvPartialVerticalMac tiles=3 type=f16 partials=f16 groups=2 channels=4 batch=1 out_field=[2,3] in_field=[4,3] kernel=[2,3] stride=[2,1] dilation=[1,1] padding=[0,1] in=65536 weights=73728 out=81920
.steps "inference"
execute 0
)";

TEST(IpuSimulate, depthwiseConvolution) {
  program::Program program = assembled(depthwise);
  ASSERT_EQ(finding(program), "");
  Tensor x = numbers(ElementType::f16, {2, 4, 3, 4}, -5, 0.125F),
         w = numbers(ElementType::f16, {2, 2, 3, 4}, -3, 0.125F);
  target::RunResult result = ran(program, {{"x", x}, {"w", w}});
  std::vector<double> xs = valuesOf<double>(x), ws = valuesOf<double>(w);
  std::vector<double> y = valuesOf<double>(result.outputs.at("y"));
  for (int g = 0; g < 2; ++g)
    for (int row = 0; row < 2; ++row)
      for (int column = 0; column < 3; ++column)
        for (int c = 0; c < 4; ++c) {
          double sum = 0, magnitude = 0;
          for (int ky = 0; ky < 2; ++ky)
            for (int kx = 0; kx < 3; ++kx) {
              int iy = row * 2 + ky, ix = column + kx - 1;
              if (ix < 0 || ix > 2)
                continue;
              double product = xs[((g * 4 + iy) * 3 + ix) * 4 + c] * ws[((g * 2 + ky) * 3 + kx) * 4 + c];
              sum += product;
              magnitude += std::abs(product);
            }
          // Two roundings to 11 bits, of the sums after each row of the kernel.
          EXPECT_NEAR(y[((g * 2 + row) * 3 + column) * 4 + c], sum, magnitude / 1024) << g << row << column << c;
        }
  // The machine takes 4, 8 or 16 channels together; fields have a dimension.
  EXPECT_NE(
      finding(assembled(replaced(depthwise, "channels=4", "channels=5"))).find("channels: the machine takes no 5"),
      std::string::npos);
  // 8 together only with sums in halves; it multiplies halves.
  EXPECT_NE(
      finding(assembled(replaced(depthwise, "partials=f16 groups=2 channels=4", "partials=f32 groups=1 channels=8")))
          .find("channels: the machine takes no 8 together with partial sums in f32"),
      std::string::npos);
  EXPECT_NE(finding(assembled(replaced(depthwise, "type=f16 partials=f16", "type=f32 partials=f32")))
                .find("halves are multiplied"),
            std::string::npos);
  // Sizes whose product wraps around to 0 in 64 bits.
  EXPECT_NE(finding(assembled(replaced(depthwise, "groups=2 channels=4 batch=1",
                                       "groups=2147483648 channels=4 batch=2147483648")))
                .find("the arrays have too many elements"),
            std::string::npos);
  EXPECT_NE(finding(assembled(replaced(depthwise, "in=65536 weights", "in=65538 weights"))).find("not aligned"),
            std::string::npos);
  EXPECT_NE(finding(assembled(replaced(depthwise, "in_field=[4,3]", "in_field=[6,3]"))).find("nothing has"),
            std::string::npos);
}

// The reference's count for 8 channels, 14 x 14 outputs and a kernel of 3 x 3 (its validation table: 19789).
TEST(IpuSimulate, depthwiseConvolutionTakesWhatTheReferenceSays) {
  std::string text = replaced(depthwise, "channels=4 batch=1 out_field=[2,3] in_field=[4,3] kernel=[2,3] stride=[2,1]",
                              "channels=8 batch=1 out_field=[14,14] in_field=[16,16] kernel=[3,3] stride=[1,1]");
  text = replaced(replaced(text, "padding=[0,1]", "padding=[0,0]"), "groups=2", "groups=1");
  EXPECT_EQ(llvm::cantFail(execute(assembled(text), nullptr, {})).timeline.cycles.value, 19789);
}

TEST(IpuMutate, noneIsSilent) {
  program::Program program = assembled(doubling);
  const target::Target *ipu = target::find("ipu");
  target::NamedTensors inputs = {{"x", numbers(ElementType::f32, {8})}};
  std::vector<float> right = valuesOf<float>(ran(program, inputs).outputs.at("y"));
  int checked = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    target::Mutation mutation = llvm::cantFail(ipu->mutate(program, seed));
    auto loaded = llvm::cantFail(Loaded::from(mutation.program));
    if (!check(mutation.program, loaded.code, loaded.machine).legal()) {
      ++checked;
      continue;
    }
    // What is legal has the same cycles with and without values.
    auto estimated = llvm::cantFail(execute(mutation.program, nullptr, {}));
    EXPECT_EQ(estimated.timeline.cycles.value, ran(mutation.program, inputs).timeline.cycles.value)
        << mutation.description;
  }
  EXPECT_GT(checked, 150);
}

// What is proven to be equal is equal in execution, and the other way round. Behind `doubling` tile 1 computes what
// nobody reads.
TEST(IpuInfluence, proofsHold) {
  std::string beyond = doubling;
  beyond.insert(beyond.find(".exchange"),
                ".compute_set \"beyond\"\n"
                "popops::Map tiles=1 expression=0 extents=[4] in=[9216] in_strides=[1] out=[10240] out_strides=[1]\n");
  beyond += "execute 1\n";
  for (const std::string &text : {std::string(doubling), beyond}) {
    program::Program program = assembled(text);
    ASSERT_EQ(finding(program), "");
    auto mutations = llvm::cantFail(target::find("ipu")->mutations(program));
    target::NamedTensors inputs = {{"x", numbers(ElementType::f32, {8}, 1)}};
    std::vector<float> right = valuesOf<float>(ran(program, inputs).outputs.at("y"));
    int proven = 0, beyondProven = 0;
    for (uint64_t seed = 1; seed <= 600; ++seed) {
      target::Mutation mutation = llvm::cantFail(mutations->make(seed));
      if (!finding(mutation.program).empty())
        continue;
      mutations->prove(mutation);
      bool benign = mutation.effect == target::MutationEffect::Benign;
      bool equal = valuesOf<float>(ran(mutation.program, inputs).outputs.at("y")) == right;
      // A compute set that is executed a second time computes the same again, which is not proven.
      bool again = llvm::StringRef(mutation.description).contains("step 2: index 1 -> 0");
      EXPECT_EQ(benign, equal && !again) << mutation.description;
      proven += benign;
      beyondProven += benign && llvm::StringRef(mutation.description).contains("'beyond'");
    }
    EXPECT_GT(proven, 0);
    EXPECT_EQ(beyondProven > 0, text == beyond);
  }
}

} // namespace
} // namespace quadrille::ipu
