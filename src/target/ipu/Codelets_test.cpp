// Programs of one vertex: the values of codelets against loops written out, their cycles against the reference's
// formulas and what the checker finds.
#include "target/ipu/Influence.h"
#include "target/ipu/Liveness.h"
#include "target/ipu/MemoryUse.h"
#include "target/ipu/TestProgram.h"

#include "numerics/Convert.h"

#include <cmath>
#include <limits>

namespace quadrille::ipu {
namespace {

constexpr auto f32 = ElementType::f32, f16 = ElementType::f16, i32 = ElementType::i32;

// A dense variable on tile 3.
struct Variable {
  std::string name;
  ElementType type;
  Shape shape;
  int64_t address;
};

std::string listOf(llvm::ArrayRef<int64_t> numbers) {
  std::string text = "[";
  for (int64_t number : numbers)
    text += (text.size() > 1 ? "," : "") + std::to_string(number);
  return text + "]";
}

std::string placementOf(llvm::StringRef kind, const Variable &variable) {
  std::string text = (".placement " + kind + " \"" + variable.name + "\" type=" + nameOf(variable.type) + "\n").str();
  text += ".part tiles=3 address=" + std::to_string(variable.address) +
          " begin=" + listOf(Shape(variable.shape.size(), 0)) + " extents=" + listOf(variable.shape) +
          " shift=" + listOf(Shape(variable.shape.size(), 0)) + "\n";
  auto stride = static_cast<int64_t>(byteWidth(variable.type));
  for (size_t d = variable.shape.size(); d-- > 0; stride *= variable.shape[d])
    text += ".digit dimension=" + std::to_string(d) + " extent=" + std::to_string(variable.shape[d]) +
            " stride=" + std::to_string(stride) + "\n";
  return text;
}

// The program of one vertex, or of one on each line, on tile 3 of a gc200.
std::string programOf(llvm::ArrayRef<Variable> inputs, const Variable &output, const std::string &vertices) {
  std::string text = ".target ipu\n.machine gc200\n.precision \"f16\"\n", placements;
  auto add = [&](llvm::StringRef kind, const Variable &variable) {
    text += ("." + kind + " \"" + variable.name + "\" " + nameOf(variable.type)).str() + listOf(variable.shape) + "\n";
    placements += placementOf(kind, variable);
  };
  for (const Variable &input : inputs)
    add("input", input);
  add("output", output);
  return text + placements + ".compute_set \"test\"\n" + vertices + "\n.steps \"inference\"\nexecute 0\n";
}

Tensor numbers(const Variable &variable, float first, float step) {
  std::vector<float> values(static_cast<size_t>(elementCount(variable.shape)));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = first + step * static_cast<float>(i);
  return convert(Tensor::of<float>(f32, variable.shape, values), variable.type);
}

int64_t cyclesOf(const std::string &text) {
  return llvm::cantFail(execute(assembled(text), nullptr, {})).timeline.cycles.value;
}

void finds(const std::string &text, llvm::StringRef message) {
  std::string found = finding(assembled(text));
  EXPECT_NE(found.find(message.str()), std::string::npos) << message.str() << " in: " << found;
}

// What is legal among single changes of the program takes the same cycles with values as without, and what is proven to
// change nothing changes nothing.
void mutationsAreExecuted(const std::string &text, const target::NamedTensors &inputs) {
  program::Program program = assembled(text);
  auto mutations = llvm::cantFail(target::find("ipu")->mutations(program));
  std::vector<double> right = valuesOf<double>(ran(program, inputs).outputs.at("y"));
  int found = 0;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    target::Mutation mutation = llvm::cantFail(mutations->make(seed));
    if (!finding(mutation.program).empty()) {
      ++found;
      continue;
    }
    int64_t estimated = llvm::cantFail(execute(mutation.program, nullptr, {})).timeline.cycles.value;
    target::RunResult result = ran(mutation.program, inputs);
    EXPECT_EQ(estimated, result.timeline.cycles.value) << mutation.description;
    mutations->prove(mutation);
    if (mutation.effect == target::MutationEffect::Benign)
      EXPECT_EQ(valuesOf<double>(result.outputs.at("y")), right) << mutation.description;
  }
  EXPECT_GT(found, 20);
}

// The field lies so far from all outputs that they are sums over none.
void reachesNothingFarAway(const std::string &text, const target::NamedTensors &inputs) {
  ASSERT_EQ(finding(assembled(text)), "");
  for (double value : valuesOf<double>(ran(assembled(text), inputs).outputs.at("y")))
    EXPECT_EQ(value, 0);
}

// The program on a machine with another figure.
program::Program onMachine(const std::string &text, llvm::StringRef figure, int64_t before, int64_t after) {
  program::Program program = assembled(text);
  auto line = [&](int64_t value) { return (figure + ": {value: " + llvm::Twine(value) + ",").str(); };
  program.machine = replaced(program.machine, line(before), line(after));
  return program;
}

// How long words are stands in the machine's file.
TEST(IpuCodelets, wordsAreThoseOfTheMachine) {
  // Loads of 64 and 128 bits.
  Variable x{"x", f16, {2, 4}, 65544}, w{"w", f16, {4}, 73728}, y{"y", f32, {2}, 81920};
  std::string product =
      programOf({x, w}, y,
                "poplin::ConvPartialHorizontalMac tiles=3 type=f16 partials=f32 groups=1 in_blocks=1 in_channels=4 "
                "out_blocks=1 out_channels=1 positions=2 in=65544 weights=73728 out=81920 zero=yes");
  EXPECT_EQ(finding(assembled(product)), "");
  EXPECT_NE(finding(onMachine(product, "mem.load_bytes", 8, 16)).find("65544 is not aligned to 16 bytes"),
            std::string::npos);
  Variable field{"x", f16, {2, 4}, 65536}, pooled{"y", f16, {1, 4}, 81920};
  std::string pool = programOf({field}, pooled,
                               "popnn::MaxPool tiles=3 type=f16 channels=4 batch=1 out_field=[1] in_field=[2] "
                               "kernel=[2] stride=[1] dilation=[1] padding=[0] in=65536 out=81920");
  EXPECT_EQ(finding(assembled(pool)), "");
  EXPECT_NE(finding(onMachine(pool, "mem.load_bytes", 8, 16)).find("not whole words of 16 bytes"), std::string::npos);

  // Three f32 in words of 4 bytes and of 8.
  std::string fill = programOf({}, {"y", f32, {3}, 65536}, "popops::Fill tiles=3 bytes=4 value=1 count=3 out=65536");
  for (int64_t word : {4, 8}) {
    program::Program program = onMachine(fill, "mem.store_granularity", 4, word);
    auto loaded = llvm::cantFail(Loaded::from(program));
    EXPECT_EQ(memoryUse(program, loaded.code, loaded.machine)[3].bytes[Variables], word == 4 ? 12 : 16);
    EXPECT_EQ(livenessOf(3, program, loaded.code, loaded.machine, 0).temporary,
              std::vector<int64_t>{word == 4 ? 12 : 16});
  }

  // A transfer of one half leaves the other half of an f32 as it was, which differs between the programs.
  auto half = [&](const std::string &value, const std::string &more) {
    return ".target ipu\n.machine gc200\n.precision \"f16\"\n.input \"x\" f16[2]\n.output \"y\" f16[2]\n" +
           placementOf("input", {"x", f16, {2}, 65536}) + placementOf("output", {"y", f16, {2}, 81920}) +
           ".compute_set \"fill\"\npopops::Fill tiles=3 bytes=4 value=" + value +
           " count=1 out=81920\npoputil::Copy tiles=4 bytes=2 extents=[2] in=65536 in_strides=[2] out=73728 "
           "out_strides=[2]\n.exchange \"half\"\nsend from=4 at=73728 to=3 into=81920 bytes=2\n" +
           more + ".steps \"inference\"\nexecute 0\nexchange 0\n";
  };
  std::string more = "send from=4 at=73728 to=5 into=81920 bytes=2\n";
  program::Program before = onMachine(half("0", ""), "exchange.granularity", 4, 2);
  auto old = llvm::cantFail(Loaded::from(before));
  auto influences = [&](const std::string &text) {
    auto changed = llvm::cantFail(Loaded::from(onMachine(text, "exchange.granularity", 4, 2)));
    return !equalOutputs(before, old.code, changed.code, old.machine);
  };
  EXPECT_FALSE(influences(half("0", more)));
  EXPECT_TRUE(influences(half("65536", more)));
}

// Two groups, two blocks of 5 input channels, two blocks of 2 output channels, 3 positions. Values are whole numbers of
// which f32 holds all sums exactly.
TEST(IpuCodelets, dotProductsOverChannels) {
  Variable x{"x", f16, {2, 2, 3, 5}, 65536}, w{"w", f16, {2, 2, 2, 2, 5}, 73728}, y{"y", f32, {2, 2, 3, 2}, 81920};
  std::string text = programOf(
      {x, w}, y,
      "poplin::ConvPartialHorizontalMac tiles=3 type=f16 partials=f32 groups=2 in_blocks=2 in_channels=5 out_blocks=2 "
      "out_channels=2 positions=3 in=65536 weights=73728 out=81920 zero=yes");
  ASSERT_EQ(finding(assembled(text)), "");
  target::NamedTensors inputs = {{"x", numbers(x, -20, 1)}, {"w", numbers(w, -50, 1)}};
  target::RunResult result = ran(assembled(text), inputs);
  std::vector<float> values = valuesOf<float>(result.outputs.at("y"));
  // Element i of x is i - 20, of w i - 50.
  for (int g = 0; g < 2; ++g)
    for (int o = 0; o < 2; ++o)
      for (int p = 0; p < 3; ++p)
        for (int co = 0; co < 2; ++co) {
          int sum = 0;
          for (int i = 0; i < 2; ++i)
            for (int ci = 0; ci < 5; ++ci)
              sum += (((g * 2 + i) * 3 + p) * 5 + ci - 20) * ((((g * 2 + o) * 2 + i) * 2 + co) * 5 + ci - 50);
          EXPECT_EQ(values[static_cast<size_t>(((g * 2 + o) * 3 + p) * 2 + co)], static_cast<float>(sum))
              << g << o << p << co;
        }
  // A dot product over 5 halves, which are taken one by one: 3 + 4 + 1 + 5 * 2 - 1 = 17; a worker with one of the 3
  // positions: 16 - 15 + 13 + (7 + 2 * 17) + 16 = 71; 65 - 10 + 6 * (9 + 15) + 2 * (23 + 2 * (15 + 2 * (10 + 6 * 71)))
  // = 3793. Zeroing 6 sums of each of 2 output blocks in 2 groups: 2 * 6 * 2 * (ceil(1/2) + zeroing's 5) = 144.
  EXPECT_EQ(result.timeline.cycles.value, 3793 + 144);
  // Sums go on from what is there: nothing is.
  finds(replaced(text, "zero=yes", "zero=no"), "nothing has");
  finds(replaced(text, "in=65536", "in=65540"), "not aligned");
  finds(replaced(text, "positions=3 in", "positions=4 in"), "nothing has");
  finds(replaced(text, "type=f16 partials=f32 groups", "type=i32 partials=f32 groups"), "products are of floats");
  finds(replaced(text, "type=f16 partials=f32 groups", "type=f32 partials=f16 groups"), "narrower");
  mutationsAreExecuted(text, inputs);
}

// Two blocks of 16 input channels, 8 output channels, 3 positions, by the units with a kernel of one place and with one
// of several. Values are whole numbers of which f32 holds all sums exactly.
TEST(IpuCodelets, matrixUnits) {
  Variable x{"x", f16, {2, 3, 16}, 65536}, w{"w", f16, {2, 8, 16}, 73728}, y{"y", f32, {3, 8}, 81920};
  std::string one = programOf(
      {x, w}, y,
      "poplin::ConvPartial1x1Out tiles=3 type=f16 partials=f32 groups=1 in_blocks=2 in_channels=16 out_blocks=1 "
      "out_channels=8 positions=3 in=65536 weights=73728 out=81920 zero=yes loads=narrow");
  std::string several = replaced(
      replaced(one, "1x1Out", "nx1"),
      "positions=3 in=", "batch=1 out_field=[3] in_field=[3] kernel=[1] stride=[1] dilation=[1] padding=[0] in=");
  target::NamedTensors inputs = {{"x", numbers(x, -40, 1)}, {"w", numbers(w, -100, 1)}};
  // Element i of x is i - 40, of w i - 100.
  std::vector<float> sums;
  for (int p = 0; p < 3; ++p)
    for (int co = 0; co < 8; ++co) {
      int sum = 0;
      for (int i = 0; i < 2; ++i)
        for (int ci = 0; ci < 16; ++ci)
          sum += ((i * 3 + p) * 16 + ci - 40) * ((i * 8 + co) * 16 + ci - 100);
      sums.push_back(static_cast<float>(sum));
    }
  for (const std::string &text : {one, several}) {
    ASSERT_EQ(finding(assembled(text)), "");
    EXPECT_EQ(valuesOf<float>(ran(assembled(text), inputs).outputs.at("y")), sums);
    for (llvm::StringRef type : {"i32", "i8", "bool"}) {
      finds(replaced(text, "type=f16 partials", ("type=" + type + " partials").str()), "type: products are of floats");
      finds(replaced(text, "partials=f32", ("partials=" + type).str()), "partials: products are of floats");
    }
    finds(replaced(text, "type=f16 partials=f32 groups", "type=f32 partials=f16 groups"), "narrower");
    // A unit holds the weights of 16 halves or 8 f32; 4 rows of a kernel share it with 4 channels each, not 8 with 2.
    finds(replaced(text, "in_channels=16", "in_channels=32"), "in_channels: a unit of the machine takes 16");
    finds(replaced(text, "in_channels=16", "in_channels=2"), "in_channels: a unit of the machine takes 16");
    finds(replaced(text, "type=f16 partials=f32 groups", "type=f32 partials=f32 groups"),
          "takes 8 of these types, not 16");
    bool shares = finding(assembled(replaced(text, "in_channels=16", "in_channels=4"))).empty();
    EXPECT_EQ(shares, text == several);
    mutationsAreExecuted(text, inputs);
    // From interleaved memory, which begins at 208 KiB, 256 bytes of weights come in 16 cycles instead of 32, twice.
    std::string wide = replaced(text, "loads=narrow", "loads=wide");
    finds(wide, "loads: what is read so must lie in the interleaved memory, which begins at 212992");
    for (const char *address : {"address=73728", "weights=73728"})
      wide = replaced(wide, address, llvm::StringRef(address).split('=').first.str() + "=212992");
    ASSERT_EQ(finding(assembled(wide)), "");
    target::RunResult result = ran(assembled(wide), inputs);
    EXPECT_EQ(valuesOf<float>(result.outputs.at("y")), sums);
    EXPECT_EQ(result.timeline.cycles.value, cyclesOf(text) - 2 * 16);
    finds(replaced(wide, "weights=212992", "weights=213000"), "loads: what is read so must be aligned to 16 bytes");
    if (text == several)
      finds(replaced(wide, "in_channels=16", "in_channels=4"), "loads: weights of so many rows");
    mutationsAreExecuted(wide, inputs);
  }
}

// The reference's validation table, which leaves zeroing out: 1585 and 3502.
TEST(IpuCodelets, dotProductsOverChannelsTakeWhatTheReferenceSays) {
  Variable x{"x", f16, {96, 16}, 65536}, w{"w", f16, {16}, 73728}, y{"y", f32, {96}, 81920};
  std::string text = programOf(
      {x, w}, y,
      "poplin::ConvPartialHorizontalMac tiles=3 type=f16 partials=f32 groups=1 in_blocks=1 in_channels=16 out_blocks=1 "
      "out_channels=1 positions=96 in=65536 weights=73728 out=81920 zero=no");
  EXPECT_EQ(cyclesOf(text), 1585);
  text = replaced(text, "type=f16 partials=f32 groups=1 in_blocks=1 in_channels=16",
                  "type=f32 partials=f32 groups=1 in_blocks=1 in_channels=64");
  EXPECT_EQ(cyclesOf(replaced(text, "positions=96", "positions=64")), 3502);
}

// Two groups of 3 channels, 4 positions: x[y] is 1 .. 4, w[c] 10 .. 15.
TEST(IpuCodelets, outerProduct) {
  Variable x{"x", f32, {4}, 65536}, w{"w", f32, {2, 3}, 73728}, y{"y", f32, {2, 4, 3}, 81920};
  std::string text = programOf(
      {x, w}, y,
      "poplin::OuterProduct tiles=3 type=f32 groups=2 channels=3 positions=4 in=65536 weights=73728 out=81920");
  ASSERT_EQ(finding(assembled(text)), "");
  target::NamedTensors inputs = {{"x", numbers(x, 1, 1)}, {"w", numbers(w, 10, 1)}};
  target::RunResult result = ran(assembled(text), inputs);
  EXPECT_EQ(valuesOf<float>(result.outputs.at("y")),
            (std::vector<float>{10, 11, 12, 20, 22, 24, 30, 33, 36, 40, 44, 48,
                                13, 14, 15, 26, 28, 30, 39, 42, 45, 52, 56, 60}));
  // Few channels take the slow form: a worker's 25 + 2 * (11 + 4 * (10 + 2 * 3)) = 175, in every sixth cycle.
  EXPECT_EQ(result.timeline.cycles.value, 6 * 175);
  finds(replaced(text, "groups=2", "groups=3"), "nothing has");
  finds(replaced(text, "weights=73728", "weights=73732"), "not aligned");
  finds(replaced(text, "type=f32 groups", "type=i32 groups"), "products are of floats");
  mutationsAreExecuted(text, inputs);
  // 0.1 * 3 in halves: 0.1 is held as 0.0999755859375, three times it is 0.2999267578125, which lies between
  // 0.2998046875 and 0.300048828125, nearer to the first.
  for (Variable *each : {&x, &w, &y})
    each->type = f16;
  text = replaced(programOf({x, w}, y, text.substr(text.find("poplin::"), text.find(".steps") - text.find("poplin::"))),
                  "type=f32 groups", "type=f16 groups");
  result = ran(assembled(text), {{"x", numbers(x, 0.1F, 0)}, {"w", numbers(w, 3, 0)}});
  EXPECT_EQ(valuesOf<double>(result.outputs.at("y")), std::vector<double>(24, 0.2998046875));
}

// The reference's validation table: a worker's 2276 and 1251.
TEST(IpuCodelets, outerProductTakesWhatTheReferenceSays) {
  Variable x{"x", f32, {64}, 65536}, w{"w", f32, {64}, 73728}, y{"y", f32, {64, 64}, 81920};
  std::string text = programOf(
      {x, w}, y,
      "poplin::OuterProduct tiles=3 type=f32 groups=1 channels=64 positions=64 in=65536 weights=73728 out=81920");
  EXPECT_EQ(cyclesOf(text), 6 * 2276);
  EXPECT_EQ(cyclesOf(replaced(text, "type=f32 groups", "type=f16 groups")), 6 * 1251);
}

// Two blocks of two groups of 2 channels, a kernel of two windows below each other, every second column, a column of
// padding. Values are whole numbers of which f32 holds all sums exactly.
TEST(IpuCodelets, slimConvolution) {
  Variable x{"x", f16, {2, 3, 5, 2, 2}, 65536}, w{"w", f16, {2, 2, 4, 2, 2, 2}, 73728};
  Variable y{"y", f32, {2, 2, 2, 2, 2}, 81920};
  std::string text = programOf(
      {x, w}, y,
      "poplin::ConvPartial1x4SLIC tiles=3 type=f16 partials=f32 groups=2 together=2 channels=2 batch=1 "
      "out_field=[2,2] in_field=[3,5] kernel=[2,4] stride=[1,2] dilation=[1,1] padding=[0,1] window=4 in=65536 "
      "weights=73728 out=81920");
  ASSERT_EQ(finding(assembled(text)), "");
  target::NamedTensors inputs = {{"x", numbers(x, -60, 1)}, {"w", numbers(w, -64, 1)}};
  target::RunResult result = ran(assembled(text), inputs);
  std::vector<float> values = valuesOf<float>(result.outputs.at("y"));
  size_t at = 0;
  for (int g = 0; g < 2; ++g)
    for (int row = 0; row < 2; ++row)
      for (int column = 0; column < 2; ++column)
        for (int j = 0; j < 2; ++j)
          for (int co = 0; co < 2; ++co, ++at) {
            int sum = 0;
            for (int ky = 0; ky < 2; ++ky)
              for (int kx = 0; kx < 4; ++kx)
                for (int ci = 0; ci < 2; ++ci)
                  if (int iy = row + ky, ix = 2 * column + kx - 1; ix >= 0)
                    sum += ((((g * 3 + iy) * 5 + ix) * 2 + j) * 2 + ci - 60) *
                           (((((g * 2 + ky) * 4 + kx) * 2 + j) * 2 + co) * 2 + ci - 64);
            EXPECT_EQ(values[at], static_cast<float>(sum)) << g << row << column << j << co;
          }
  // A worker with one output of a row in the first window: 17 + 10 + 1 + 3 + 2 * (13 - 1) = 55, in the second one 54.
  // For each of two windows 20 + 37 + 6 * 12 = 129: 28 + 15 * 2 + 7 + 2 * 129 + 7 + 2 * 6 * (55 + 54) = 1638.
  EXPECT_EQ(result.timeline.cycles.value, 1638);
  finds(replaced(text, "together=2", "together=4"), "channels: the machine takes 4 together, not 8");
  finds(replaced(text, "stride=[1,2]", "stride=[1,3]"), "stride: the machine takes no 3");
  finds(replaced(text, "kernel=[2,4]", "kernel=[4,2]"), "not whole windows");
  finds(replaced(replaced(text, "kernel=[2,4]", "kernel=[4,2]"), "window=4", "window=2"), "window: the machine's is 4");
  finds(replaced(text, "dilation=[1,1]", "dilation=[1,2]"), "rows are not dilated");
  finds(replaced(text, "type=f16 partials=f32 groups", "type=f32 partials=f32 groups"), "halves are multiplied");
  finds(replaced(text, "padding=[0,1]", "padding=[0]"), "padding has 1 numbers, not 2");
  finds(replaced(text, "weights=73728", "weights=73736"), "nothing has");
  // Sizes whose products wrap around in 64 bits.
  for (auto [from, to] :
       {std::pair("groups=2 together=2 channels=2 batch=1", "groups=2147483648 together=2 channels=2 batch=2147483648"),
        std::pair("out_field=[2,2]", "out_field=[2147483648,2147483648]"),
        std::pair("in_field=[3,5]", "in_field=[2147483648,2147483648]"),
        std::pair("kernel=[2,4]", "kernel=[2147483648,2147483648]")})
    finds(replaced(text, from, to), "too many elements");
  finds(replaced(text, "groups=2 ", "groups=2097152 "), "not within the tile's memory");
  mutationsAreExecuted(text, inputs);
  reachesNothingFarAway(replaced(text, "padding=[0,1]", "padding=[0,2147483648]"), inputs);
  reachesNothingFarAway(replaced(text, "padding=[0,1]", "padding=[-2147483648,0]"), inputs);
  // The second row of outputs and the second one of windows, which are as far away as can be.
  std::string far =
      replaced(replaced(text, "stride=[1,2]", "stride=[33554432,2]"), "dilation=[1,1]", "dilation=[67108864,1]");
  ASSERT_EQ(finding(assembled(far)), "");
  values = valuesOf<float>(ran(assembled(far), inputs).outputs.at("y"));
  EXPECT_NE(values[0], 0);
  EXPECT_EQ(std::vector<float>(values.begin() + 8, values.begin() + 16), std::vector<float>(8, 0));
}

// Sums are rounded between windows: 2048 + 1 in the first, 1 in the second one. Halves hold no odd numbers there, and
// 2049 is as far from 2048 as from 2050, so that the even significand is taken both times.
TEST(IpuCodelets, slimConvolutionRoundsAfterEachWindow) {
  Variable x{"x", f16, {8, 4}, 65536}, w{"w", f16, {8, 4, 4}, 73728}, y{"y", f16, {4}, 81920};
  std::string text =
      programOf({x, w}, y,
                "poplin::ConvPartial1x4SLIC tiles=3 type=f16 partials=f16 groups=1 together=1 channels=4 "
                "batch=1 out_field=[1] in_field=[8] kernel=[8] stride=[1] dilation=[1] padding=[0] "
                "window=4 in=65536 weights=73728 out=81920");
  std::vector<float> weights(8 * 4 * 4, 0);
  weights[0] = 2048;
  weights[16] = weights[64] = 1; // of kernel positions 1 and 4, output channel 0
  target::NamedTensors inputs = {{"x", numbers(x, 1, 0)},
                                 {"w", convert(Tensor::of<float>(f32, w.shape, weights), f16)}};
  EXPECT_EQ(valuesOf<float>(convert(ran(assembled(text), inputs).outputs.at("y"), f32)),
            (std::vector<float>{2048, 0, 0, 0}));
}

// The reference's validation table.
TEST(IpuCodelets, slimConvolutionTakesWhatTheReferenceSays) {
  Variable x{"x", f16, {17, 17, 4}, 65536}, w{"w", f16, {16, 4, 4}, 73728}, y{"y", f16, {14, 14, 4}, 81920};
  std::string text =
      programOf({x, w}, y,
                "poplin::ConvPartial1x4SLIC tiles=3 type=f16 partials=f16 groups=1 together=1 channels=4 "
                "batch=1 out_field=[14,14] in_field=[17,17] kernel=[4,4] stride=[1,1] dilation=[1,1] "
                "padding=[0,0] window=4 in=65536 weights=73728 out=81920");
  EXPECT_EQ(cyclesOf(text), 3057);
  EXPECT_EQ(cyclesOf(replaced(text, "partials=f16", "partials=f32")), 4761);
}

// Rows 10 .. 13 of 3 elements lie here; row 11 is updated twice, 13 once, others are elsewhere or nowhere.
TEST(IpuCodelets, rowsAreUpdated) {
  Variable rows{"rows", f32, {4, 3}, 81920}, x{"x", f32, {6, 3}, 65536}, at{"at", i32, {6}, 73728};
  Variable y{"y", f32, {4, 3}, 81920};
  std::string text = programOf({rows, x, at}, y,
                               "popops::MultiUpdate tiles=3 combine=sum type=f32 elements=3 rows=4 first=10 count=6 "
                               "in=65536 indices=73728 out=81920");
  ASSERT_EQ(finding(assembled(text)), "");
  target::NamedTensors inputs = {{"rows", numbers(rows, 100, 1)},
                                 {"x", numbers(x, 1, 1)},
                                 {"at", Tensor::of<int32_t>(i32, {6}, {11, 9, 13, 11, 14, -1})}};
  target::RunResult result = ran(assembled(text), inputs);
  // Row 11 is 103, 104, 105, and gets 1, 2, 3 and 10, 11, 12; row 13 is 109, 110, 111 and gets 7, 8, 9.
  EXPECT_EQ(valuesOf<float>(result.outputs.at("y")),
            (std::vector<float>{100, 101, 102, 114, 117, 120, 106, 107, 108, 116, 118, 120}));
  // A worker finds one of the 6: 6 * (38 + 11 + 3 * 2 + 5 * 5).
  EXPECT_EQ(result.timeline.cycles.value, 480);
  // The last one of an index stays.
  result = ran(assembled(replaced(text, "combine=sum", "combine=replace")), inputs);
  EXPECT_EQ(valuesOf<float>(result.outputs.at("y")),
            (std::vector<float>{100, 101, 102, 10, 11, 12, 106, 107, 108, 7, 8, 9}));
  // As a slice of three words: 6 * (29 + 19 + 2 * 2 + 8 * 5).
  EXPECT_EQ(result.timeline.cycles.value, 552);
  EXPECT_EQ(valuesOf<float>(ran(assembled(replaced(text, "combine=sum", "combine=minimum")), inputs).outputs.at("y")),
            (std::vector<float>{100, 101, 102, 1, 2, 3, 106, 107, 108, 7, 8, 9}));
  finds(replaced(text, "rows=4 first", "rows=5 first"), "nothing has");
  finds(replaced(text, "indices=73728", "indices=73732"), "nothing has");
  finds(replaced(text, "in=65536", "in=65538"), "not aligned");
  finds(replaced(text, "combine=sum", "combine=xor"), "cannot be combined so");
  mutationsAreExecuted(text, inputs);
}

// Halves are rounded after each update: 2048 + 1 stays 2048, twice.
TEST(IpuCodelets, updatesAreRoundedEachTime) {
  Variable rows{"rows", f16, {1, 2}, 81920}, x{"x", f16, {2, 2}, 65536}, at{"at", i32, {2}, 73728};
  Variable y{"y", f16, {1, 2}, 81920};
  std::string text = programOf({rows, x, at}, y,
                               "popops::MultiUpdate tiles=3 combine=sum type=f16 elements=2 rows=1 first=0 count=2 "
                               "in=65536 indices=73728 out=81920");
  target::NamedTensors inputs = {
      {"rows", numbers(rows, 2048, 0)}, {"x", numbers(x, 1, 0)}, {"at", Tensor::of<int32_t>(i32, {2}, {0, 0})}};
  EXPECT_EQ(valuesOf<double>(ran(assembled(text), inputs).outputs.at("y")), (std::vector<double>{2048, 2048}));
}

// The reference's validation table: 96 indices, of which each worker has 16, of 64 elements.
TEST(IpuCodelets, updatesTakeWhatTheReferenceSays) {
  Variable x{"x", f32, {96, 64}, 65536}, at{"at", i32, {96}, 131072}, y{"y", f32, {8, 64}, 196608};
  std::string text = programOf({x, at}, y,
                               "popops::MultiUpdate tiles=3 combine=sum type=f32 elements=64 rows=8 first=0 count=96 "
                               "in=65536 indices=131072 out=196608");
  EXPECT_EQ(cyclesOf(text), 21828);
  EXPECT_EQ(cyclesOf(replaced(text, "type=f32 elements", "type=f16 elements")), 12798);
}

// A batch of two, 3 x 4 positions of 4 channels, windows of 2 x 3 with a column of padding before each row, every
// second column: of the first output of a row the first tap is outside. The third row of outputs lies outside
// altogether.
TEST(IpuCodelets, pools) {
  Variable x{"x", f16, {2, 3, 4, 4}, 65536}, y{"y", f16, {2, 3, 2, 4}, 81920};
  std::string text = programOf({x}, y,
                               "popnn::MaxPool tiles=3 type=f16 channels=4 batch=2 out_field=[3,2] in_field=[3,4] "
                               "kernel=[2,3] stride=[2,2] dilation=[1,1] padding=[0,1] in=65536 out=81920");
  ASSERT_EQ(finding(assembled(text)), "");
  // Whole numbers in no order.
  std::vector<float> given(2 * 3 * 4 * 4);
  for (size_t i = 0; i < given.size(); ++i)
    given[i] = static_cast<float>(static_cast<int>(i * 37 % 96) - 60);
  target::NamedTensors inputs = {{"x", convert(Tensor::of<float>(f32, x.shape, given), f16)}};
  target::RunResult maximum = ran(assembled(text), inputs);
  std::string sums = replaced(text, "MaxPool", "SumPool");
  target::RunResult sum = ran(assembled(sums), inputs);
  std::vector<float> maxima, totals;
  for (int b = 0; b < 2; ++b)
    for (int row = 0; row < 3; ++row)
      for (int column = 0; column < 2; ++column)
        for (int c = 0; c < 4; ++c) {
          maxima.push_back(-std::numeric_limits<float>::infinity());
          totals.push_back(0);
          for (int ky = 0; ky < 2; ++ky)
            for (int kx = 0; kx < 3; ++kx)
              if (int iy = 2 * row + ky, ix = 2 * column + kx - 1; iy < 3 && ix >= 0) {
                float value = given[((b * 3 + iy) * 4 + ix) * 4 + c];
                maxima.back() = std::max(maxima.back(), value);
                totals.back() += value;
              }
        }
  EXPECT_EQ(valuesOf<float>(convert(maximum.outputs.at("y"), f32)), maxima);
  EXPECT_EQ(valuesOf<float>(convert(sum.outputs.at("y"), f32)), totals);
  // Six rows of 2 outputs, one for each worker, one vector of channels, 6 taps. A tap of a maximum takes
  // 15 + 23 + 2 + (3 + 4 + 3 * 2) = 53, of a sum one more: 13 + 6 * (40 + 4 + 2 + 6 * 53 + 1), and 6 * (1 + 6) more.
  EXPECT_EQ(maximum.timeline.cycles.value, 2203);
  EXPECT_EQ(sum.timeline.cycles.value, 2203 + 42);
  finds(replaced(text, "channels=4", "channels=3"), "not whole words");
  finds(replaced(text, "batch=2", "batch=3"), "nothing has");
  finds(replaced(text, "in=65536", "in=65540"), "not aligned");
  finds(replaced(text, "kernel=[2,3]", "kernel=[2]"), "kernel has 1 numbers, not 2");
  finds(replaced(text, "type=f16 channels", "type=i16 channels"), "floats are pooled");
  // Sizes whose products wrap around in 64 bits.
  for (auto [from, to] : {std::pair("channels=4 batch=2", "channels=2147483648 batch=2147483648"),
                          std::pair("out_field=[3,2]", "out_field=[2147483648,2147483648]"),
                          std::pair("in_field=[3,4]", "in_field=[2147483648,2147483648]"),
                          std::pair("kernel=[2,3]", "kernel=[2147483648,2147483648]")})
    finds(replaced(text, from, to), "too many elements");
  finds(replaced(text, "batch=2", "batch=2097152"), "not within the tile's memory");
  mutationsAreExecuted(text, inputs);
  mutationsAreExecuted(sums, inputs);
  reachesNothingFarAway(replaced(sums, "padding=[0,1]", "padding=[0,2147483648]"), inputs);
  reachesNothingFarAway(replaced(sums, "padding=[0,1]", "padding=[-2147483648,1]"), inputs);
  // The second and third row of outputs, and the second one of the kernel, which are as far away as can be.
  std::string far =
      replaced(replaced(sums, "stride=[2,2]", "stride=[134217728,2]"), "dilation=[1,1]", "dilation=[268435456,1]");
  ASSERT_EQ(finding(assembled(far)), "");
  std::vector<double> values = valuesOf<double>(ran(assembled(far), inputs).outputs.at("y"));
  EXPECT_NE(values[0], 0);
  EXPECT_EQ(std::vector<double>(values.begin() + 8, values.begin() + 24), std::vector<double>(16, 0));
}

// 2048 + 1 + 1 is 2050, which halves hold; rounded after each tap it would stay 2048. A NaN is a maximum.
TEST(IpuCodelets, sumsOfPoolsAreRoundedOnce) {
  Variable x{"x", f16, {3, 4}, 65536}, y{"y", f16, {1, 4}, 81920};
  std::string text = programOf({x}, y,
                               "popnn::SumPool tiles=3 type=f16 channels=4 batch=1 out_field=[1] in_field=[3] "
                               "kernel=[3] stride=[1] dilation=[1] padding=[0] in=65536 out=81920");
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> given = {2048, 0, 0, 0, 1, 0, 0, nan, 1, 0, 0, 0};
  target::NamedTensors inputs = {{"x", convert(Tensor::of<float>(f32, x.shape, given), f16)}};
  EXPECT_EQ(valuesOf<double>(ran(assembled(text), inputs).outputs.at("y"))[0], 2050);
  std::vector<double> maxima =
      valuesOf<double>(ran(assembled(replaced(text, "SumPool", "MaxPool")), inputs).outputs.at("y"));
  EXPECT_EQ(maxima[0], 2048);
  EXPECT_TRUE(std::isnan(maxima[3]));
}

// 0.5 and -0.25 as bits of f32 are 1056964608 and 3196059648.
const char *const uniform = "poprand::Uniform tiles=3 type=f32 count=4096 seed=7 first=0 scale=1056964608 "
                            "offset=3196059648 out=65536";

// Numbers of the two vertices are those of their words, wherever the vertex begins.
TEST(IpuCodelets, randomNumbers) {
  Variable y{"y", f32, {4096}, 65536};
  std::string text = programOf({}, y, uniform), gaussian = replaced(text, "Uniform", "Normal");
  ASSERT_EQ(finding(assembled(text)), "");
  std::vector<uint32_t> words(2 * 4096);
  randomBits(7, 0, words.data(), words.size());
  auto unit = [&](size_t i) { return static_cast<double>(words[i] >> 8) / 16777216; };
  target::RunResult result = ran(assembled(text), {}), normal = ran(assembled(gaussian), {});
  std::vector<double> drawn = valuesOf<double>(result.outputs.at("y"));
  std::vector<double> normals = valuesOf<double>(normal.outputs.at("y"));
  double sum = 0, squares = 0;
  for (size_t i = 0; i < 4096; ++i) {
    EXPECT_NEAR(drawn[i], unit(i) / 2 - 0.25, 1e-7);
    double number = std::sqrt(-2 * std::log(1 - unit(2 * i))) * std::cos(2 * std::acos(-1) * unit(2 * i + 1));
    EXPECT_NEAR(normals[i], number / 2 - 0.25, 1e-5);
    sum += normals[i];
    squares += (normals[i] + 0.25) * (normals[i] + 0.25);
  }
  // Mean -1/4 and deviation 1/2: within four standard errors, of 1/2 / 64 and of 1/4 * sqrt(2) / 64.
  EXPECT_NEAR(sum / 4096, -0.25, 4 * 0.5 / 64);
  EXPECT_NEAR(squares / 4096, 0.25, 4 * 0.25 * std::sqrt(2) / 64);
  // The reference's formula for normal numbers: 138 + 4 * 4096 / 2.
  EXPECT_EQ(normal.timeline.cycles.value, 8330);
  EXPECT_EQ(result.timeline.cycles.value, 8330);
  // Another tile goes on where this one stops.
  for (const std::string &each : {text, gaussian}) {
    y.shape = {4096 - 100};
    std::string vertex = each.substr(each.find("poprand::"), each.find(".steps") - each.find("poprand::") - 1);
    vertex = replaced(replaced(vertex, "first=0", "first=100"), "count=4096", "count=3996");
    std::vector<double> rest = valuesOf<double>(ran(assembled(programOf({}, y, vertex)), {}).outputs.at("y"));
    std::vector<double> all = each == text ? drawn : normals;
    EXPECT_EQ(rest, std::vector<double>(all.begin() + 100, all.end()));
  }
  finds(replaced(text, "count=4096", "count=4095"), "nothing has");
  finds(replaced(text, "out=65536", "out=65540"), "not aligned");
  finds(replaced(text, "type=f32 count", "type=i32 count"), "random numbers are floats");
  mutationsAreExecuted(gaussian, {});
}

TEST(IpuCodelets, sumsOfParts) {
  Variable x{"x", f32, {4, 96}, 65536}, y{"y", f32, {96}, 81920};
  std::string text =
      programOf({x}, y,
                "popops::Reduce tiles=3 combine=sum type=f32 accumulate=f32 out_type=f32 extents=[6,16] "
                "reduced=[4] in=65536 in_strides=[16,1,96] out=81920 out_strides=[16,1] update=no loads=narrow");
  ASSERT_EQ(finding(assembled(text)), "");
  target::NamedTensors inputs = {{"x", numbers(x, -20, 1)}};
  target::RunResult result = ran(assembled(text), inputs);
  // Element d, i of x is 96 d + i - 20.
  std::vector<float> sums;
  for (int i = 0; i < 96; ++i)
    sums.push_back(static_cast<float>(96 * (0 + 1 + 2 + 3) + 4 * (i - 20)));
  EXPECT_EQ(valuesOf<float>(result.outputs.at("y")), sums);
  // The reference's table has 537 for 96 sums of 4 in one array.
  EXPECT_EQ(result.timeline.cycles.value, 537);
  // Of what does not lie in one array a worker makes 16 sums, two at a time: 6 * (16 + 8 * (3 + 5 + 3 + 4 - 1)). So
  // it does for what is no sum.
  EXPECT_EQ(cyclesOf(replaced(text, "reduced=[4] in=65536 in_strides=[16,1,96]",
                              "reduced=[4] in=65536 in_strides=[16,1,32]")),
            768);
  EXPECT_EQ(cyclesOf(replaced(text, "combine=sum", "combine=maximum")), 768);
  // Six vectors of four are one for each worker: 33 + 6 * (20 + 2 * 4 + 8), against 6 * (16 + 2 * 14).
  EXPECT_EQ(cyclesOf(replaced(replaced(text, "extents=[6,16]", "extents=[24]"),
                              "in_strides=[16,1,96] out=81920 out_strides=[16,1]",
                              "in_strides=[1,24] out=81920 out_strides=[1]")),
            249);
  // Three sums of 4 take a worker less than the array's vertex takes to begin, and are no whole vector.
  EXPECT_EQ(cyclesOf(replaced(replaced(text, "extents=[6,16]", "extents=[3]"),
                              "in_strides=[16,1,96] out=81920 out_strides=[16,1]",
                              "in_strides=[1,3] out=81920 out_strides=[1]")),
            6 * (16 + 14));
  mutationsAreExecuted(text, inputs);
  // From interleaved memory the table has 441.
  std::string wide = replaced(text, "loads=narrow", "loads=wide");
  finds(wide, "loads: what is read so must lie in the interleaved memory");
  wide = replaced(replaced(wide, "address=65536", "address=212992"), "in=65536", "in=212992");
  ASSERT_EQ(finding(assembled(wide)), "");
  result = ran(assembled(wide), inputs);
  EXPECT_EQ(valuesOf<float>(result.outputs.at("y")), sums);
  EXPECT_EQ(result.timeline.cycles.value, 441);
  finds(replaced(wide, "combine=sum", "combine=maximum"), "loads: only sums of parts");
  program::Program program = assembled(wide);
  auto loaded = llvm::cantFail(Loaded::from(program));
  TileUse use = memoryUse(program, loaded.code, loaded.machine)[3];
  EXPECT_EQ(use.bytes[Variables], 4 * 96 * 4 + 96 * 4);
  EXPECT_EQ(use.interleaved, 4 * 96 * 4); // the parts
  mutationsAreExecuted(wide, inputs);
}

} // namespace
} // namespace quadrille::ipu
