// Every hazard by a program that has it: the checker's first finding and the simulator's error are the same sentence.
#include "base/File.h"
#include "target/tsp/Check.h"
#include "target/tsp/Code.h"
#include "target/tsp/RandomProgram.h"
#include "target/tsp/Simulate.h"

#include "gtest/gtest.h"

namespace quadrille::tsp {
namespace {

// A program that moves one word from MEM west 0 to MEM east 5. West 0 is at coordinate -1, east 5 at 2. Dispatched at
// 0, the read is on its stream at 0 + 1 + 2 = 3 and passes east 5 at 3 + 3 = 6: the write is dispatched at 5.
const char *const move = R"(.target tsp
.machine unit-tsp
.weight "w" i8[4]
.data 01020304
.output "y" i8[4]
.entry "inference" -> "y"
.layout weight "w" bank=0 address=3 slices=w0
.axis dimension=0 extent=4 to=lane step=1
.layout output "y" bank=1 address=7 slices=e5
.axis dimension=0 extent=4 to=lane step=1
.code "inference"
.chip 0
.queue MEM west 0
read bank=0 address=3 stream=e9
.queue MEM east 5
.at 5
write bank=1 address=7 stream=e9
)";

// `text` with the first `from` behind the first `after` replaced.
std::string edit(std::string text, const std::string &from, const std::string &to, const std::string &after = "") {
  size_t at = text.find(after);
  at = at == std::string::npos ? at : text.find(from, at);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

std::string example(const char *name) {
  auto file = MappedFile::open(std::string(QUADRILLE_SOURCE_DIR "/examples/tsp/") + name);
  if (file)
    return (*file)->text().str();
  ADD_FAILURE() << report(file.takeError()).message;
  return "";
}

std::string simulateError(const program::Program &program) {
  target::NamedTensors inputs;
  for (const program::Variable &variable : program.variables)
    if (variable.role == program::VariableRole::Input)
      inputs[variable.name] = Tensor::zeros(variable.type, variable.shape);
  auto result = target::find("tsp")->simulate(program, inputs, {});
  return result ? "" : report(result.takeError()).message;
}

void expectHazard(const program::Program &program, const std::string &message) {
  EXPECT_EQ(firstFinding(program), message);
  EXPECT_EQ(simulateError(program), message);
  auto estimate = target::find("tsp")->estimate(program);
  EXPECT_FALSE(bool(estimate));
  if (!estimate)
    EXPECT_EQ(report(estimate.takeError()).message, message);
}
void expectHazard(const std::string &text, const std::string &message) {
  expectHazard(assembleOrFail(text), message);
}

TEST(TspHazard, TheUnbrokenProgramMovesTheWord) {
  program::Program program = assembleOrFail(move);
  EXPECT_EQ(firstFinding(program), "");
  auto result = target::find("tsp")->simulate(program, {}, {});
  ASSERT_TRUE(bool(result)) << report(result.takeError()).message;
  const auto *y = result->outputs.at("y").data<int8_t>();
  EXPECT_EQ(std::vector<int>(y, y + 4), (std::vector<int>{1, 2, 3, 4}));
  // Visible at 6 + 3, four superlanes.
  EXPECT_EQ(result->timeline.cycles.value, 13);
}

TEST(TspHazard, UndrivenStream) {
  const char *message = "queue MEM east 5, instruction 1, cycle 6: stream e9 is not driven where it is read";
  expectHazard(edit(move, ".at 5", ".at 6"), message);
  expectHazard(edit(move, "stream=e9", "stream=w9", ".at"),
               "queue MEM east 5, instruction 1, cycle 5: stream w9 is not driven where it is read");
  expectHazard(edit(move, "stream=e9", "stream=e8"),
               "queue MEM east 5, instruction 1, cycle 5: stream e9 is not driven where it is read");
}

TEST(TspHazard, ADriverIsNotSeenBeforeIt) {
  // Slice west 4 is one position before west 0: what passes there in cycle 2 would be where the read puts its word
  // in 3.
  expectHazard(std::string(move) + ".queue MEM west 4\n.at 1\nwrite bank=1 address=7 stream=e9\n",
               "queue MEM west 4, instruction 1, cycle 1: stream e9 is not driven where it is read");
}

TEST(TspHazard, TwoDrivers) {
  std::string text =
      edit(move, "slices=w0\n.axis dimension=0 extent=4 to=lane",
           "slices=w0-1\n.axis dimension=0 extent=2 to=slice step=1\n.axis dimension=0 extent=2 to=lane");
  expectHazard(text + ".queue MEM west 1\nread bank=0 address=3 stream=e9\n",
               "queue MEM west 1, instruction 0, cycle 0: stream e9 is driven twice at this place and cycle, "
               "also by queue MEM west 0, instruction 0, cycle 0");
}

TEST(TspHazard, BankBusy) {
  // The write of cycle 5 reaches its bank at 5 + 1 + 3 - 1 = 8; the read of cycle 7 captures at 8.
  std::string text = edit(move, ".layout output", R"(.layout weight "w" bank=1 address=3 slices=e5
.axis dimension=0 extent=4 to=lane step=1
.layout output)");
  expectHazard(text + ".at 7\nread bank=1 address=3 stream=e1\n",
               "queue MEM east 5, instruction 3, cycle 7: bank 1 is also accessed in this cycle by queue MEM east 5, "
               "instruction 1, cycle 5");
  EXPECT_EQ(firstFinding(assembleOrFail(text + ".at 8\nread bank=1 address=3 stream=e1\n")), "");
}

TEST(TspHazard, Memory) {
  expectHazard(edit(move, "read bank=0 address=3", "read bank=0 address=4"),
               "queue MEM west 0, instruction 0, cycle 0: bank 0, address 4 is read and was never written");
  expectHazard(edit(edit(move, "bank=0 address=3", "bank=0 address=8191"), "read bank=0 address=3 stream=e9",
                    "read bank=0 address=8191 step=1 stream=e9\nrepeat count=1"),
               "queue MEM west 0, instruction 0, cycle 1: address 8192 is not in 0..8191");
}

TEST(TspHazard, AWriteIsVisibleAfterItsLatency) {
  // Written at capture 6, visible to captures from 9 on: a read dispatched at 8 sees it, one at 7 does not.
  std::string tail = "read bank=1 address=7 stream=e1\n";
  program::Program visible = assembleOrFail(std::string(move) + ".at 8\n" + tail);
  EXPECT_EQ(firstFinding(visible), "");
  EXPECT_EQ(simulateError(visible), "");
  expectHazard(std::string(move) + tail,
               "queue MEM east 5, instruction 2, cycle 6: bank 1, address 7 is read and was never written");
}

TEST(TspHazard, Layouts) {
  std::string second = ".weight \"v\" i8[4]\n.data 05060708\n.output";
  std::string layout = ".layout weight \"v\" bank=0 address=3 slices=w0\n.axis dimension=0 extent=4 to=lane step=1\n"
                       ".layout output";
  std::string text = edit(edit(move, ".output", second), ".layout output", layout);
  program::Program program = assembleOrFail(text);
  EXPECT_EQ(firstFinding(program), "layout of 'v': variable 'v' overlaps another: MEM west 0, bank 0, address 3");
  EXPECT_EQ(simulateError(program), "variable 'v' overlaps another: MEM west 0, bank 0, address 3");
  program = assembleOrFail(edit(move, "write bank=1 address=7", "write bank=1 address=8"));
  EXPECT_EQ(firstFinding(program), "layout of 'y': output 'y': MEM east 5, bank 1, address 7 is never written");
  EXPECT_EQ(simulateError(program), "output 'y': MEM east 5, bank 1, address 7 is never written");

  expectHazard(edit(move, "extent=4", "extent=3"), "layout 0 of 'w': its axes cover 3 of the 4 indices of dimension 0");
  expectHazard(edit(move, "to=lane step=1", "to=lane step=0"),
               "layout 0 of 'w': two of its elements lie in the same place");
  expectHazard(edit(move, "to=lane step=1", "to=lane step=30"), "layout 0 of 'w': lane 90 is not in 0..63");
  expectHazard(edit(move, "to=lane step=1", "to=address step=4000"),
               "layout 0 of 'w': address 12003 is not in 0..8191");
  expectHazard(edit(move, "to=lane step=1", "to=slice step=1"), "layout 0 of 'w': it uses 4 slices and lists 1");
  expectHazard(edit(move, "slices=w0", "slices=w6"),
               "layout 0 of 'w': MEM west 6: the slice is reserved for the system");
  expectHazard(edit(move, "slices=w0", "slices=w0,w0"), "layout 0 of 'w': MEM west 0 is listed twice");
  expectHazard(edit(edit(move, ".layout output \"y\" bank=1 address=7 slices=e5\n", ""),
                    ".axis dimension=0 extent=4 to=lane step=1\n", ""),
               "entry 'inference': output 'y' has 0 layouts, expected 1");
}

TEST(TspHazard, Queues) {
  std::string reader = std::string(move).substr(0, std::string(move).find(".queue MEM east 5"));
  expectHazard(edit(reader, "read", "sync\nread"),
               "queue MEM west 0, instruction 0, cycle 0: no notification releases the 'sync'");

  // What the assembler refuses, in a program that did not come from it.
  auto changed = [](auto change) {
    program::Program program = assembleOrFail(move);
    auto code = Code::decode(program.payload());
    EXPECT_TRUE(bool(code));
    change(*code, code->entries[0].chips[0].queues);
    program.setPayload(code->encode());
    return program;
  };
  using Queues = std::vector<Queue>;
  expectHazard(
      changed([](Code &, Queues &queues) { queues[1].instructions[0] = {uint8_t(Opcode::Repeat), {}, {1, 1, 0}}; }),
      "queue MEM east 5, instruction 0, cycle 0: 'repeat' does not follow an instruction that it can issue again");
  expectHazard(changed([](Code &, Queues &queues) { queues[0].instructions[0].small[1] = 40; }),
               "queue MEM west 0, instruction 0: stream=e40 is not in e0..e31, w0..w31");
  expectHazard(changed([](Code &, Queues &queues) { queues[0].instructions[0].word[2] = 1; }),
               "queue MEM west 0, instruction 0: operand bits that 'read' does not have are set");
  expectHazard(changed([](Code &, Queues &queues) { queues[0].instructions[0].opcode = 200; }),
               "queue MEM west 0, instruction 0: opcode 200 is unknown");
  expectHazard(
      changed([](Code &, Queues &queues) { queues[0].instructions[0] = {uint8_t(Opcode::Accumulate), {}, {}}; }),
      "queue MEM west 0, instruction 0: a MEM queue cannot issue 'acc'");
  expectHazard(changed([](Code &, Queues &queues) { queues[0].name.index = 14; }),
               "queue MEM west 14: the slice is reserved for the system");
  expectHazard(changed([](Code &, Queues &queues) { queues[0].name = queues[1].name; }),
               "queue MEM east 5: there are two queues of this name");
  expectHazard(changed([](Code &code, Queues &) { code.entries[0].chips.emplace_back(); }),
               "entry 'inference': code for 2 chips in a program for 1 on a machine of 1");
  expectHazard(changed([](Code &code, Queues &) { code.layouts[0].variable = 7; }),
               "layout 0: variable 7 does not exist");
  expectHazard(changed([](Code &, Queues &queues) { queues[0].origins.push_back({0, 1, 5}); }),
               "queue MEM west 0: the ranges that name the nodes behind its instructions are damaged");
}

// Cycles of the examples count from the barrier's end at 79.
TEST(TspHazard, Weights) {
  std::string text = example("matmul.tspasm");
  expectHazard(
      edit(text, "repeat count=3", "repeat count=2", ".at 32"),
      "queue MXM east 0.1, instruction 2, cycle 114: weights not loaded: row 48 of the tile is not in the load "
      "buffer");
  expectHazard(edit(text, "repeat count=3", "repeat count=4", ".at 32"),
               "queue MXM east 0.0, instruction 2, cycle 115: row 64 is not in 0..48");
  expectHazard(edit(text, ".at 35", ".at 32\n  lw row=0\n  .at 35"),
               "queue MXM east 0.1, instruction 2, cycle 111: the plane already loads weights in this cycle");
  // An install leaves nothing in the buffer.
  std::string twice = "  lw row=0 step=16\n  repeat count=3\n";
  expectHazard(edit(text, twice + twice, twice),
               "queue MXM east 0.1, instruction 4, cycle 167: weights not loaded: row 0 of the tile is not in the load "
               "buffer");
  // The second install one cycle before the first is over.
  expectHazard(edit(text, ".at 88\n  iw", ".at 87\n  iw"),
               "queue MXM east 0.1, instruction 4, cycle 166: the plane can have at most 1 installs under way");
  // The first activation one cycle before the tile is in use.
  expectHazard(
      edit(text, ".at 88\n  abc", ".at 87\n  abc"),
      "queue MXM east 0.2, instruction 2, cycle 166: weights not installed: the plane has no tile in this cycle");
  expectHazard(edit(text, "rows=64 type=i8", "rows=32 type=f16"),
               "queue MXM east 0.2, instruction 2, cycle 167: the type of the activations does not suit the installed "
               "tile");
}

TEST(TspHazard, Activations) {
  std::string text = example("matmul.tspasm");
  expectHazard(edit(text, "# Installs", "  .at 88\n  abc stream=e20 type=i8\n# Installs"),
               "queue MXM east 0.2, instruction 2, cycle 167: the plane already takes activations in this cycle");
  expectHazard(std::string(move) + ".queue MXM east 1.0\nabc stream=e2 type=f16\n",
               "queue MXM east 1.0, instruction 0, cycle 0: f16 activations go to the even plane of a pair");
  std::string half = example("matmul_f16.tspasm");
  expectHazard(
      edit(half, "rows=32", "rows=16", "MXM east 1.1"),
      "queue MXM east 0.2, instruction 2, cycle 167: the planes of the pair have f16 tiles of different sizes");
}

TEST(TspHazard, Sums) {
  std::string text = example("matmul.tspasm");
  expectHazard(edit(text, ".at 147", ".at 146"),
               "queue MXM east 0.1, instruction 6, cycle 225: no products arrive at the accumulators in this cycle");
  expectHazard(edit(text, "mode=start", "mode=add"),
               "queue MXM east 0.1, instruction 6, cycle 226: sum 0 holds nothing to add to");
  expectHazard(edit(text, "mode=finish", "mode=start"),
               "queue MXM east 0.1, instruction 8, cycle 279: sum 0 is started again before it is finished");
  expectHazard(edit(text, "mode=start sum=0", "mode=start sum=100"),
               "queue MXM east 0.1, instruction 6, cycle 254: sum 128 is not in 0..127");
  std::string noWrites = text.substr(0, text.find("# Results:"));
  expectHazard(edit(noWrites, "mode=finish", "mode=add"),
               "queue MXM east 0.1, instruction 6, cycle 226: sum 0 is started and never finished");
  std::string noSums = edit(noWrites,
                            "  .at 147\n  acc mode=start sum=0 step=1\n  repeat count=52\n  acc mode=finish "
                            "sum=0 step=1\n  repeat count=52\n",
                            "");
  expectHazard(noSums,
               "queue MXM east 0.2, instruction 2, cycle 167: no 'acc' takes the products of these activations");
}

TEST(TspHazard, Inputs) {
  program::Program program = assembleOrFail(example("matmul.tspasm"));
  auto result = target::find("tsp")->simulate(program, {}, {});
  ASSERT_FALSE(bool(result));
  EXPECT_EQ(report(result.takeError()).message, "input 'A' is missing; give it as i8[53,128]");
  target::NamedTensors wrong = {{"A", Tensor::zeros(ElementType::f32, {53, 128})}};
  result = target::find("tsp")->simulate(program, wrong, {});
  ASSERT_FALSE(bool(result));
  EXPECT_EQ(report(result.takeError()).message, "input 'A' is f32[53,128]; give it as i8[53,128]");
  target::RunOptions options;
  options.entryPoint = "forward";
  result = target::find("tsp")->simulate(program, wrong, options);
  ASSERT_FALSE(bool(result));
  EXPECT_EQ(report(result.takeError()).message, "the program has no entry point 'forward'; choose one of: inference");
}

// Programs for the other units. A word of `w`, or of `map` with `mapped`, is read onto each stream so that it is
// captured in `cycle` at the given coordinate (eastward), `count` times. There is no need to write anything: the output
// is where `w` is. Slices 0..3 are at position 1, 4..7 at 2, 8..11 at 3, 12..15 at 4; west 6 and 14 are reserved.
struct Feed {
  int coordinate, cycle;
  std::vector<int> streams;
  int count = 1, chip = 0;
  bool mapped = false;
};
std::string units(const std::vector<Feed> &feeds, const std::string &chip0, const std::string &chip1 = "",
                  const char *machine = "unit-tsp", const std::string &map = "0") {
  bool two = machine == std::string("unit-tsp-node");
  std::string text = ".target tsp\n.machine " + std::string(machine) + "\n.chips " + (two ? "2" : "1") +
                     "\n.weight \"w\" i8[4]\n.data 01020304\n.weight \"map\" u8[64]\n.values";
  for (int lane = 0; lane < 64; ++lane)
    text += " " + (lane == 16 ? map : "0");
  text += "\n.output \"y\" i8[4]\n.entry \"inference\" -> \"y\"\n";
  auto place = [&](const std::string &variable, const std::string &slice, int number, int extent) {
    text += ".layout " + variable + " chip=" + std::to_string(number) + " bank=0 address=3 slices=" + slice +
            "\n.axis dimension=0 extent=" + std::to_string(extent) + " to=lane step=1\n";
  };
  std::string queues[2];
  int next[2] = {0, 0};
  for (const Feed &feed : feeds)
    for (int stream : feed.streams) {
      int &slice = next[feed.chip];
      slice += slice == 6 || slice == 14;
      place(feed.mapped ? "weight \"map\"" : "weight \"w\"", "w" + std::to_string(slice), feed.chip,
            feed.mapped ? 64 : 4);
      // Dispatched 1 + 2 and the way before.
      int dispatch = feed.cycle - 3 - (feed.coordinate + 1 + slice / 4);
      queues[feed.chip] += ".queue MEM west " + std::to_string(slice) + "\n.at " + std::to_string(dispatch) +
                           "\nread bank=0 address=3 stream=e" + std::to_string(stream) + "\n" +
                           (feed.count > 1 ? "repeat count=" + std::to_string(feed.count - 1) + "\n" : "");
      ++slice;
    }
  place("weight \"w\"", "e0", 0, 4);
  place("output \"y\"", "e0", 0, 4);
  text += ".code \"inference\"\n.chip 0\n" + queues[0] + chip0;
  return two ? text + ".chip 1\n" + queues[1] + chip1 : text;
}
void expectLegal(const std::string &text) {
  program::Program program = assembleOrFail(text);
  EXPECT_EQ(firstFinding(program), "") << text;
  EXPECT_EQ(simulateError(program), "") << text;
}
std::string at(int cycle, const std::string &instruction) {
  return ".at " + std::to_string(cycle) + "\n" + instruction + "\n";
}

TEST(TspHazard, ArithmeticOperands) {
  // Captured at the vector unit's edge in cycle 20: dispatched at 19. Unit 1 gives its result to unit 0 13 cycles
  // later.
  std::vector<Feed> feeds = {{0, 20, {4, 8}}};
  std::string one = ".queue VXM 1\n.at 19\nneg type=i8 a=e8\n";
  expectLegal(units(feeds, one + ".queue VXM 0\n" + at(19, "add type=i8 a=e8 b=e4")));
  expectHazard(units(feeds, ".queue VXM 0\n" + at(18, "add type=i8 a=e8 b=e4")),
               "queue VXM 0, instruction 1, cycle 18: stream e8 is not driven where it is read");
  expectHazard(units(feeds, ".queue VXM 0\n" + at(20, "add type=i8 a=e8 b=e4")),
               "queue VXM 0, instruction 1, cycle 20: stream e8 is not driven where it is read");
  // i16 takes two streams, of which the second is missing.
  expectHazard(units(feeds, ".queue VXM 0\n" + at(19, "neg type=i16 a=e8")),
               "queue VXM 0, instruction 1, cycle 19: stream e9 is not driven where it is read");
  expectLegal(units(feeds, one + ".queue VXM 0\n" + at(32, "neg type=i8 a=a1")));
  for (int cycle : {31, 33})
    expectHazard(units(feeds, one + ".queue VXM 0\n" + at(cycle, "neg type=i8 a=a1")),
                 "queue VXM 0, instruction 1, cycle " + std::to_string(cycle) +
                     ": the result of arithmetic unit 1 is not driven where it is read");
}

TEST(TspHazard, TheFirstOperandIsNamedFirst) {
  expectHazard(units({}, ".queue VXM 0\nadd type=i8 a=e8 b=e4\n"),
               "queue VXM 0, instruction 0, cycle 0: stream e8 is not driven where it is read");
}

TEST(TspHazard, TwoDriversOfEveryUnit) {
  std::vector<Feed> feeds = {{0, 20, {4, 5}, 8}};
  expectHazard(units(feeds, ".queue VXM 1\n" + at(19, "abs type=i8 a=e4 to=e0") + ".queue VXM 0\n" +
                                at(19, "neg type=i8 a=e4 to=e0")),
               "queue VXM 1, instruction 1, cycle 19: stream e0 is driven twice at this place and cycle, also by queue "
               "VXM 0, instruction 1, cycle 19");
  // exp takes 17 cycles, neg 13: the same unit gives two results in one cycle.
  std::string exponential = ".queue VXM 0\n" + at(19, "exp type=f16 a=e4 to=e0");
  expectLegal(units(feeds, exponential + at(22, "neg type=f16 a=e4 to=e0")));
  expectHazard(units(feeds, exponential + at(23, "neg type=f16 a=e4 to=e0")),
               "queue VXM 0, instruction 3, cycle 23: the result of arithmetic unit 0 is driven twice at this place "
               "and cycle, also by queue VXM 0, instruction 1, cycle 19");
  // The switch unit east takes at 23, captured in 50: shift over superlanes 37, within them 31.
  std::string shift = ".queue SXM east 0\n" + at(49, "shift unit=0 lanes=1 from=e4 to=w7");
  feeds = {{23, 50, {4}, 8}};
  expectLegal(units(feeds, shift + at(54, "shift unit=0 lanes=0 from=e4 to=w7")));
  expectHazard(units(feeds, shift + at(55, "shift unit=0 lanes=0 from=e4 to=w7")),
               "queue SXM east 0, instruction 3, cycle 55: stream w7 is driven twice at this place and cycle, also by "
               "queue SXM east 0, instruction 1, cycle 49");
}

// Neither the vector unit nor a switch unit takes what it gives in that very cycle.
TEST(TspHazard, AUnitDoesNotSeeItsOwnResults) {
  // Captured in 20, inside 11 later, the result 13 later: in 44.
  std::string first = ".queue VXM 0\n" + at(19, "neg type=i8 a=e4 to=e8");
  expectHazard(units({{0, 20, {4}}}, first + ".queue VXM 1\n" + at(43, "neg type=i8 a=e8")),
               "queue VXM 1, instruction 1, cycle 43: stream e8 is not driven where it is read");
  expectHazard(units({{23, 50, {4}}}, ".queue SXM east 0\n" + at(49, "shift unit=0 lanes=0 from=e4 to=e7") +
                                          at(80, "shift unit=0 lanes=0 from=e7 to=w0")),
               "queue SXM east 0, instruction 3, cycle 80: stream e7 is not driven where it is read");
}

TEST(TspHazard, PartsOfTheSwitchUnit) {
  // Two queues, one cycle, one part; with the other part, or one cycle later, it is legal.
  struct {
    const char *part;
    std::string first, second, legal;
    std::vector<int> streams;
  } cases[] = {
      {"shifter", "shift unit=0 lanes=1 from=e0 to=w0", "select unit=0 a=e0 b=e1 mask=e2 to=w9", "", {0, 1, 2}},
      {"permuter", "rotate unit=0 size=3 from=e0 to=w0", "rotate unit=0 size=4 from=e0 to=w16", "", {0}},
      {"distributor",
       "distribute unit=0 from=e0 map=e1 to=w0",
       "distribute unit=0 from=e0 map=e1 to=w9",
       "distribute unit=3 from=e0 map=e1 to=w9",
       {0, 1}},
      {"transposer",
       "transpose unit=0 from=e0 to=w0",
       "transpose unit=0 from=e0 to=w16",
       "transpose unit=1 from=e0 to=w16",
       {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}},
  };
  for (auto &[part, first, second, legal, streams] : cases) {
    std::vector<Feed> feeds = {{23, 60, streams, 3}};
    std::string head = ".queue SXM east 3\n" + at(59, first);
    std::string rest; // 14 slices in the west; two more
    if (streams.size() == 14)
      for (int stream : {14, 15}) {
        rest += ".queue MEM east " + std::to_string(stream - 14) + "\n" +
                at(60 - 3 - 22, "read bank=0 address=3 stream=e" + std::to_string(stream)) + "repeat count=2\n";
      }
    auto program = [&](const std::string &other) {
      std::string text = units(feeds, rest + head + other);
      return rest.empty() ? text
                          : edit(text, ".code",
                                 ".layout weight \"w\" bank=0 address=3 slices=e1\n"
                                 ".axis dimension=0 extent=4 to=lane step=1\n.code");
    };
    expectHazard(program(".queue SXM east 5\n" + at(59, second)),
                 "queue SXM east 5, instruction 1, cycle 59: " + std::string(part) +
                     " 0 also takes an instruction in this cycle from queue SXM east 3, instruction 1, cycle 59");
    if (!legal.empty())
      expectLegal(program(".queue SXM east 5\n" + at(59, legal)));
    // In a burst's middle.
    expectHazard(program("repeat count=2\n.queue SXM east 5\n" + at(60, second)),
                 "queue SXM east 5, instruction 1, cycle 60: " + std::string(part) +
                     " 0 also takes an instruction in this cycle from queue SXM east 3, instruction 1, cycle 60");
  }
}

// Link 0 of chip 0 goes to link 0 of chip 1; the switch unit west takes eastward streams at -23. Captured in 40, sent
// from there, received 71 later.
const char *const node = "unit-tsp-node";
TEST(TspHazard, Links) {
  auto feeds = [](int count) { return std::vector<Feed>{{0, 63, {3}, count}}; };
  // Westward streams reach the switch unit west; the arithmetic unit turns the vector around: inside 11 later, 13, and
  // 23 to the switch unit.
  std::string turn = ".queue VXM 0\n" + at(62, "copy type=i8 a=e3 to=w3"), turns = turn + "repeat count=80\n";
  int sent = 63 + 11 + 13 + 23; // captured
  std::string send = ".queue SXM west 0\n" + at(sent - 1, "send link=0 stream=w3");
  std::string receive = ".queue SXM west 0\n" + at(sent - 1 + 71, "receive link=0 stream=e5");
  expectLegal(units(feeds(1), turn + send, receive, node));
  expectHazard(units(feeds(1), turn + send, "", node),
               "chip 0, queue SXM west 0, instruction 1, cycle 109: no 'receive' takes the vector when it arrives on "
               "link 0");
  for (int late : {-1, 1})
    expectHazard(units(feeds(1), turn + send,
                       ".queue SXM west 0\n" + at(sent - 1 + 71 + late, "receive link=0 stream=e5"), node),
                 "chip 1, queue SXM west 0, instruction 1, cycle " + std::to_string(180 + late) +
                     ": link 0 is not driven where it is read");
  expectHazard(
      units(feeds(1), turn + send, receive + ".queue SXM west 1\n" + at(180, "receive link=0 stream=e6"), node),
      "chip 1, queue SXM west 1, instruction 1, cycle 180: link 0 also takes an instruction in this cycle from "
      "chip 1, queue SXM west 0, instruction 1, cycle 180");
  // A vector every 67 cycles.
  std::string receiveTwo = receive + "repeat count=1 interval=67\n";
  expectLegal(units(feeds(81), turns + send + "repeat count=1 interval=67\n", receiveTwo, node));
  std::string busy = "chip 0, queue SXM west 0, instruction 1, cycle 175: link 0 takes a vector every 67 cycles, also "
                     "one by chip 0, queue SXM west 0, instruction 1, cycle 109";
  expectHazard(units(feeds(81), turns + send + "repeat count=1 interval=66\n", receiveTwo, node), busy);
  expectHazard(
      units(feeds(81), turns + send + "repeat count=1 interval=66\n", receive + "repeat count=1 interval=66\n", node),
      busy);
  expectHazard(units(feeds(81), turns + send + ".queue SXM west 1\n" + at(175, "send link=0 stream=w3"), receive, node),
               edit(busy, "west 0", "west 1"));
  // A vector that arrives and another that is put on the same stream.
  expectHazard(units({{0, 63, {3}, 1}, {0, 103, {6}, 1, 1}}, turn + send,
                     receive + ".queue VXM 1\n" + at(102, "copy type=i8 a=e6 to=w6") + ".queue SXM west 1\n" +
                         at(149, "shift unit=0 lanes=0 from=w6 to=e5"),
                     node),
               "chip 1, queue SXM west 0, instruction 1, cycle 180: stream e5 is driven twice at this place and cycle, "
               "also by chip 1, queue SXM west 1, instruction 1, cycle 149");
}

TEST(TspHazard, LinksAndLayoutsThatLeadNowhere) {
  // On four chips link 1 belongs to the switch unit east and goes from chip 0 to chip 2, which two chips do not have.
  std::string far = ".queue SXM east 0\nsend link=1 stream=e3\n";
  expectHazard(units({}, far, "", node),
               "chip 0, queue SXM east 0, instruction 0: link 1 leads to no chip of the program");
  expectHazard(units({}, ".queue SXM west 0\nreceive link=2 stream=e3\n", "", node),
               "chip 0, queue SXM west 0, instruction 0: link 2 leads to no chip of the program");
  expectHazard(units({}, ".queue SXM west 0\nsend link=0 stream=e3\n"),
               "queue SXM west 0, instruction 0: link 0 leads to no chip of the program");
  expectHazard(units({}, ".queue SXM west 0\nreceive link=0 stream=e3\n"),
               "queue SXM west 0, instruction 0: link 0 leads to no chip of the program");
  program::Program program = assembleOrFail(units({}, "", "", node));
  auto code = Code::decode(program.payload());
  ASSERT_TRUE(bool(code));
  code->layouts[0].chip = 2;
  program.setPayload(code->encode());
  expectHazard(program, "layout 0 of 'w': chip 2 is not in 0..1");
}

TEST(TspHazard, GatherAndScatter) {
  // Slice east 4 is at position 2. Captured in 20: dispatched at 19.
  auto program = [](const std::string &instruction, const std::string &map, int written = 2) {
    std::string text = units({{2, 20, {7}}, {2, 20, {8}, 1, 0, true}}, ".queue MEM east 4\n" + at(19, instruction), "",
                             "unit-tsp", map);
    for (int word = 0; word < written; ++word)
      text = edit(text, ".code",
                  ".layout weight \"w\" bank=1 address=" + std::to_string(40 + word) +
                      " slices=e4\n.axis dimension=0 extent=4 to=lane step=1\n.code");
    return text;
  };
  for (bool gathers : {true, false}) {
    std::string name = gathers ? "gather" : "scatter", rest = " map=e8 stream=" + std::string(gathers ? "e3" : "e7");
    std::string where = "queue MEM east 4, instruction 1, cycle 19: ";
    std::string instruction = name + " bank=1 address=40 rows=2" + rest;
    expectLegal(program(instruction, "1"));
    // Superlane 1 begins at lane 16. What the map holds, only execution with values can say.
    program::Program wrong = assembleOrFail(program(instruction, "2"));
    EXPECT_EQ(firstFinding(wrong), "");
    EXPECT_TRUE(bool(target::find("tsp")->estimate(wrong)));
    EXPECT_EQ(simulateError(wrong), where + "superlane 1 asks for word 2 of 2");
    expectHazard(program(instruction, "0", 1), where + "bank 1, address 41 is read and was never written");
    expectHazard(program(name + " bank=1 address=39 rows=2" + rest, "0"),
                 where + "bank 1, address 39 is read and was never written");
    expectHazard(program(name + " bank=1 address=8191 rows=2" + rest, "0"), where + "address 8192 is not in 0..8191");
    expectHazard(program(name + " bank=1 address=40 rows=2 map=e9 stream=" + (gathers ? "e3" : "e7"), "0"),
                 where + "stream e9 is not driven where it is read");
  }
  expectHazard(program("scatter bank=1 address=40 rows=2 map=e8 stream=e6", "0"),
               "queue MEM east 4, instruction 1, cycle 19: stream e6 is not driven where it is read");
}

TEST(TspHazard, AccessesOfOneCycle) {
  // Captured in 20; a gather's access is 5 - 2 later, a scatter's 7 - 1, a write's 3 - 1.
  auto program = [](const std::string &instructions) {
    std::string text = units({{2, 20, {7}, 8}, {2, 20, {8}, 8, 0, true}}, ".queue MEM east 4\n" + instructions);
    for (int bank = 0; bank < 2; ++bank)
      text = edit(text, ".code",
                  ".layout weight \"w\" bank=" + std::to_string(bank) +
                      " address=40 slices=e4\n.axis dimension=0 extent=4 to=lane step=1\n.code");
    return text;
  };
  std::string gather = at(19, "gather bank=1 address=40 rows=1 map=e8 stream=e3");
  std::string scatter = at(19, "scatter bank=1 address=40 rows=1 map=e8 stream=e7");
  auto busy = [](int instruction, int cycle, int by = 19, int byInstruction = 1) {
    return "queue MEM east 4, instruction " + std::to_string(instruction) + ", cycle " + std::to_string(cycle) +
           ": bank 1 is also accessed in this cycle by queue MEM east 4, instruction " + std::to_string(byInstruction) +
           ", cycle " + std::to_string(by);
  };
  expectHazard(program(gather + at(22, "read bank=1 address=40 stream=e1")), busy(3, 22));
  expectLegal(program(gather + at(21, "read bank=1 address=40 stream=e1")));
  expectLegal(program(gather + at(23, "read bank=1 address=40 stream=e1")));
  expectHazard(program(gather + at(22, "read bank=0 address=40 stream=e1")),
               "queue MEM east 4, instruction 3, cycle 22: the slice serves at most 1 read in a cycle");
  expectLegal(program(gather + at(20, "write bank=0 address=40 stream=e7")));
  expectHazard(program(gather + "write bank=1 address=40 stream=e7\n"), busy(2, 20));
  expectHazard(program(scatter + at(23, "write bank=1 address=40 stream=e7")), busy(3, 23));
  expectHazard(program(scatter + at(23, "write bank=0 address=40 stream=e7")),
               "queue MEM east 4, instruction 3, cycle 23: the slice serves at most 1 write in a cycle");
  expectLegal(program(scatter + at(22, "write bank=0 address=40 stream=e7")));
  expectHazard(program(scatter + at(25, "read bank=1 address=40 stream=e1")), busy(3, 25));
  // Tails of bursts: the third gather, of cycle 21, meets the second reading; in the other bank too.
  std::string gathers = gather + "repeat count=2\n";
  expectHazard(program(gathers + at(23, "read bank=1 address=40 stream=e1") + "repeat count=1\n"), busy(4, 23, 20));
  expectHazard(program(gathers + at(22, "read bank=0 address=40 stream=e1")),
               "queue MEM east 4, instruction 3, cycle 22: the slice serves at most 1 read in a cycle");
  expectLegal(program(gathers + at(25, "read bank=1 address=40 stream=e1") + "repeat count=1\n"));
  // A write is visible before a scatter that began earlier.
  std::string fresh = scatter + "write bank=0 address=41 stream=e7\n";
  expectLegal(program(fresh + at(23, "read bank=0 address=41 stream=e1")));
  expectHazard(program(fresh + at(22, "read bank=1 address=40 stream=e1") + "read bank=0 address=42 stream=e2\n"),
               "queue MEM east 4, instruction 5, cycle 23: bank 0, address 42 is read and was never written");
  // A bank that is busy is named rather than the number of readings, whichever began first.
  expectHazard(program(edit(gather, "bank=1", "bank=0") + "write bank=1 address=40 stream=e7\n" +
                       at(22, "read bank=1 address=40 stream=e1")),
               busy(4, 22, 20, 2));
}

// Two readings a cycle: a burst that meets one other in each of two cycles has not met two in one.
TEST(TspHazard, SeveralAccessesOfOneCycle) {
  std::string yaml = machineText(
      "unit-tsp",
      {{"mem.reads_per_cycle", "2"}, {"mem.banks", "4"}, {"icu.queues_per_mem_slice", "3"}, {"icu.queues", "200"}});
  auto program = [&](const std::string &queues) {
    std::string text = units({{2, 20, {7}, 8}, {2, 20, {8}, 8, 0, true}}, queues);
    for (int bank = 0; bank < 4; ++bank)
      text = edit(text, ".code",
                  ".layout weight \"w\" bank=" + std::to_string(bank) +
                      " address=40 slices=e4\n.axis dimension=0 extent=4 to=lane step=1\n.code");
    return edit(text, ".machine unit-tsp\n", machineLines(yaml));
  };
  auto gather = [](int queue, int cycle, int bank) {
    return ".queue MEM east 4." + std::to_string(queue) + "\n" +
           at(cycle,
              "gather bank=" + std::to_string(bank) + " address=40 rows=1 map=e8 stream=e" + std::to_string(queue + 1));
  };
  std::string read = ".queue MEM east 4.2\n" + at(22, "read bank=0 address=40 stream=e5") + "repeat count=1\n";
  expectLegal(program(gather(0, 19, 1) + gather(1, 20, 2) + read));
  expectHazard(program(gather(0, 20, 1) + gather(1, 20, 2) + read),
               "queue MEM east 4.2, instruction 1, cycle 23: the slice serves at most 2 read in a cycle");
}

// A gather that is faster than a read accesses its bank before it captures: here in 1 + 1 - 3 after the dispatch.
TEST(TspHazard, AGatherThatIsFasterThanARead) {
  std::string yaml = machineText("unit-tsp", {{"timing.mem_gather", "1"}, {"timing.mem_read", "3"}});
  // One cycle later than with a read of 2: captured in 21.
  auto program = [&](int cycle) {
    std::string text =
        units({{2, 20, {8}, 1, 0, true}}, ".queue MEM east 4\n" + at(cycle, "read bank=1 address=40 stream=e1") +
                                              at(20, "gather bank=1 address=40 rows=1 map=e8 stream=e2"));
    text = edit(text, ".code",
                ".layout weight \"w\" bank=1 address=40 slices=e4\n"
                ".axis dimension=0 extent=4 to=lane step=1\n.code");
    return edit(text, ".machine unit-tsp\n", machineLines(yaml));
  };
  expectLegal(program(17));
  expectHazard(program(18), "queue MEM east 4, instruction 3, cycle 20: bank 1 is also accessed in this cycle by queue "
                            "MEM east 4, instruction 1, cycle 18");
}

// Of two queues of a slice one writes words that the other one reads just before.
TEST(TspHazard, QueuesOfASliceTakeTurns) {
  std::string yaml = machineText("unit-tsp", {{"icu.queues_per_mem_slice", "2"}, {"icu.queues", "200"}});
  // Word 41 is overwritten, with zeros, by a dispatch in 23, visible to captures from 27 on, and read by one in 20.
  std::string text =
      units({{2, 20, {8}, 13, 0, true}}, ".queue MEM east 4.0\n" + at(19, "write bank=1 address=40 step=1 stream=e8") +
                                             "repeat count=3 interval=4\n.queue MEM east 4.1\n" +
                                             at(20, "read bank=1 address=41 stream=e1") + ".queue MEM east 5\n" +
                                             at(22, "write bank=1 address=7 stream=e1"));
  text = edit(text, ".code",
              ".layout weight \"w\" bank=1 address=41 slices=e4\n"
              ".axis dimension=0 extent=4 to=lane step=1\n.code");
  text = edit(text, "\"y\" chip=0 bank=0 address=3 slices=e0", "\"y\" chip=0 bank=1 address=7 slices=e5");
  program::Program program = assembleOrFail(edit(text, ".machine unit-tsp\n", machineLines(yaml)));
  EXPECT_EQ(firstFinding(program), "");
  auto result = target::find("tsp")->simulate(program, {}, {});
  ASSERT_TRUE(bool(result)) << report(result.takeError()).message;
  const auto *y = result->outputs.at("y").data<int8_t>();
  EXPECT_EQ(std::vector<int>(y, y + 4), (std::vector<int>{1, 2, 3, 4}));
}

// A buffer holds 512 / 16 = 32 instructions, a fetch brings 8 of them 83 cycles later.
TEST(TspHazard, Fetch) {
  auto idle = [](int count) {
    std::string text;
    for (int i = 0; i < count; ++i)
      text += "nop cycles=1\n";
    return text;
  };
  std::string queue = ".queue VXM 0\n";
  expectLegal(units({}, queue + idle(32)));
  expectHazard(units({}, queue + idle(33)), "queue VXM 0, instruction 32, cycle 32: the queue's buffer is empty: this "
                                            "instruction has not been fetched yet");
  // Dispatched at 7 as the eighth, so that eight have left; there at 90.
  expectLegal(units({}, queue + idle(7) + "ifetch\n" + idle(23) + "nop cycles=59\n" + idle(8)));
  expectHazard(units({}, queue + idle(7) + "ifetch\n" + idle(23) + "nop cycles=58\n" + idle(8)),
               "queue VXM 0, instruction 32, cycle 89: the queue's buffer is empty: this instruction has not been "
               "fetched yet");
  expectHazard(units({}, queue + idle(6) + "ifetch\n" + idle(60)),
               "queue VXM 0, instruction 6, cycle 6: the queue's buffer has no room: it holds 32 instructions");
  expectHazard(units({}, queue + idle(10) + "ifetch\n" + idle(5)),
               "queue VXM 0, instruction 10, cycle 10: there is nothing left to fetch");
  expectHazard(units({}, queue + idle(15) + "ifetch\nifetch\n" + idle(20)),
               "queue VXM 0, instruction 16, cycle 16: there is nothing left to fetch");
  // A Repeat is taken in the cycle after its instruction, however long it goes on.
  std::string full = queue + idle(31);
  expectHazard(units({{0, 32, {4}, 9}}, full + "neg type=i8 a=e4\nrepeat count=8\n"),
               "queue VXM 0, instruction 32, cycle 32: the queue's buffer is empty: this instruction has not been "
               "fetched yet");
}

TEST(TspHazard, Deskew) {
  // The counter's period is 73: a queue goes on at 73, and at once when it is there in a multiple.
  auto undriven = [](int instruction, int cycle) {
    return "queue SXM east 2, instruction " + std::to_string(instruction) + ", cycle " + std::to_string(cycle) +
           ": stream e4 is not driven where it is read";
  };
  std::string shift = "shift unit=0 lanes=0 from=e4 to=w0\n", queue = ".queue SXM east 2\n";
  expectHazard(units({}, queue + "deskew\n" + shift), undriven(1, 0));
  expectHazard(units({}, queue + "nop cycles=1\ndeskew\n" + shift), undriven(2, 73));
  expectHazard(units({}, queue + "nop cycles=73\ndeskew\n" + shift), undriven(2, 73));
  expectHazard(units({}, queue + "nop cycles=74\ndeskew\n" + shift), undriven(2, 146));
  expectLegal(units({{23, 74, {4}}}, queue + "nop cycles=2\ndeskew\n" + shift));
  // Counted from the start of the program, not from the barrier's end at 79.
  expectHazard(units({}, ".queue SXM east 3\nnotify\n" + queue + "sync\ndeskew\n" + shift), undriven(2, 146));
}

TEST(TspHazard, ANotificationStaysOnItsChip) {
  std::string sync = ".queue VXM 3\nsync\n", notify = ".queue VXM 4\nnotify\n";
  expectLegal(units({}, sync + notify, sync + notify, node));
  expectHazard(units({}, sync + notify, sync, node),
               "chip 1, queue VXM 3, instruction 0, cycle 0: no notification releases the 'sync'");
  expectHazard(units({}, sync, notify, node),
               "chip 0, queue VXM 3, instruction 0, cycle 0: no notification releases the 'sync'");
  // Sent at 0, it arrives at 79: later than a sync of 78, but not than one of 79.
  expectLegal(units({}, ".queue VXM 3\n" + at(78, "sync") + notify));
  expectHazard(units({}, ".queue VXM 3\n" + at(79, "sync") + notify),
               "queue VXM 3, instruction 1, cycle 79: no notification releases the 'sync'");
}

TEST(TspHazard, Routing) {
  // Row 0 reads stream groups 0 to 3; e16 is in group 4. Unit 1 is small.
  std::string queues = ".queue VXM 0\n" + at(19, "neg type=i8 a=e16 to=e20");
  std::string text = units({{0, 20, {16}}}, queues);
  auto refused = target::find("tsp")->assemble(text, "test.tspasm");
  ASSERT_FALSE(bool(refused));
  std::string message = "a=e16 does not reach unit 0: its row reads the stream groups 0, 1, 2, 3 eastward and westward";
  EXPECT_NE(report(refused.takeError()).message.find(message), std::string::npos);
  std::string yaml = machineText("unit-tsp", {{"vxm.routing", "[\"relaxed\"]"}});
  text = edit(text, ".machine unit-tsp\n", machineLines(yaml));
  expectLegal(text);
  // A program that comes with the machine on which it is illegal.
  program::Program program = assembleOrFail(text);
  program.machine = machineText("unit-tsp", {});
  expectHazard(program, "queue VXM 0, instruction 1: " + message);
}

TEST(TspHazard, Addresses) {
  auto expect = [](const char *instruction, const char *message) {
    std::string text = edit(move, "read bank=0 address=3 stream=e9", instruction);
    expectHazard(text, "queue MEM west 0, instruction 0, cycle " + std::string(message));
  };
  expect("read bank=0 address=3 step=-4 stream=e9\nrepeat count=3", "1: address -1 is not in 0..8191");
  expect("read bank=0 address=3 step=8191 stream=e9\nrepeat count=3", "1: address 8194 is not in 0..8191");
}

// Of several faults the first in time is told, by the checker and by each way of executing.
TEST(TspHazard, SeveralFaultsComeInTheOrderOfTime) {
  auto program = [](int faultyQueue, int undriven) {
    program::Program program =
        assembleOrFail(units({}, ".queue VXM 0\n" + at(undriven, "neg type=i8 a=e4") + ".queue VXM 1\n" +
                                     at(faultyQueue, "sync") + ".queue VXM 2\nnotify\n"));
    auto code = Code::decode(program.payload());
    EXPECT_TRUE(bool(code));
    Instruction repeat;
    repeat.opcode = static_cast<uint8_t>(Opcode::Repeat);
    repeat.word[0] = repeat.word[1] = 1;
    code->entries[0].chips[0].queues[1].instructions[1] = repeat;
    program.setPayload(code->encode());
    return program;
  };
  std::string repeats =
      "queue VXM 1, instruction 1, cycle 30: 'repeat' does not follow an instruction that it can issue "
      "again";
  expectHazard(program(30, 29), "queue VXM 0, instruction 1, cycle 29: stream e4 is not driven where it is read");
  expectHazard(program(30, 30), repeats);
  expectHazard(program(30, 31), repeats);
  // Products that nobody took show in the end, after an ACC that comes too late for them. Counted from the barrier's
  // end at 79, the first products arrive in 148; the second tile's come right behind, one too few.
  std::string late = edit(example("matmul.tspasm"), ".at 147", ".at 148");
  expectHazard(late,
               "queue MXM east 0.1, instruction 8, cycle 332: no products arrive at the accumulators in this cycle");
}

// The second tile of the example is in use from 142 on, after the barrier. Another instruction that is dispatched with
// the last activations of the first tile, and before them in the order of one cycle, does not take that tile away.
TEST(TspHazard, ATileIsInUseUntilTheNextOneIs) {
  std::string text = example("matmul.tspasm"), changed;
  llvm::StringRef rest = text;
  int stream = 0, start = 0;
  while (!rest.empty()) {
    auto [line, after] = rest.split('\n');
    rest = after;
    changed += line.str() + "\n";
    if (line.trim().consume_front(".at "))
      start = std::stoi(line.trim().drop_front(4).str());
    size_t at = line.find("step=1 stream=e");
    if (at != llvm::StringRef::npos)
      stream = std::stoi(line.drop_front(at + 15).str());
    // Row blocks are captured from 33 on: the same 108 cycles later.
    if (line.trim() == "repeat count=7")
      changed +=
          "  .at " + std::to_string(start + 108) + "\n  read bank=0 address=0 stream=e" + std::to_string(stream) + "\n";
  }
  changed = edit(changed, "lw row=0 step=16\n  repeat count=3\n  lw row=0 step=16\n  repeat count=3\n",
                 "lw row=0 step=16\n  repeat count=3\n  lw row=0 step=16\n  repeat count=3\n  .at 140\n  lw row=0\n");
  program::Program program = assembleOrFail(changed);
  EXPECT_EQ(firstFinding(program), "");
  for (bool oneByOne : {false, true}) {
    auto result = execute(program, nullptr, {}, oneByOne);
    ASSERT_TRUE(bool(result)) << oneByOne << report(result.takeError()).message;
    EXPECT_EQ(result->timeline.cycles.value, 429);
  }
}

std::vector<Digest> digestOf(const std::string &text) {
  program::Program program = assembleOrFail(text);
  auto loaded = Loaded::from(program);
  EXPECT_TRUE(bool(loaded));
  auto result = digest(program, loaded->code, loaded->machine);
  EXPECT_TRUE(result.has_value()) << firstFinding(program);
  return result.value_or(std::vector<Digest>());
}

// What proves a mutation benign must tell apart what gives other outputs.
TEST(TspDigest, ACopyOfTruthValuesIsNotTheValue) {
  auto program = [](const char *type) {
    std::string text =
        units({{0, 20, {4}}}, ".queue VXM 0\n" + at(19, "copy type=" + std::string(type) + " a=e4 to=e5") +
                                  ".queue MEM east 7\n" + at(19 + 24 + 2, "write bank=1 address=7 stream=e5"));
    return edit(text, "\"y\" chip=0 bank=0 address=3 slices=e0", "\"y\" chip=0 bank=1 address=7 slices=e7");
  };
  EXPECT_EQ(digestOf(program("i8")), digestOf(program("u8")));
  EXPECT_NE(digestOf(program("i8")), digestOf(program("bool")));
}

// A scatter is visible 7 cycles after its capture, a write 3: what the write brings in between, the scatter changes in
// some superlanes only.
TEST(TspDigest, AScatterKeepsWhatAWriteBringsMeanwhile) {
  auto program = [](int stream) {
    std::string text = units({{2, 20, {7}, 8}, {2, 20, {8}, 8, 0, true}},
                             ".queue MEM east 4\n" + at(19, "scatter bank=1 address=40 rows=1 map=e8 stream=e7") +
                                 "write bank=1 address=40 stream=e" + std::to_string(stream) + "\n");
    text = edit(text, ".code",
                ".layout weight \"w\" bank=1 address=40 slices=e4\n"
                ".axis dimension=0 extent=4 to=lane step=1\n.code");
    return edit(text, "\"y\" chip=0 bank=0 address=3 slices=e0", "\"y\" chip=0 bank=1 address=40 slices=e4");
  };
  EXPECT_NE(digestOf(program(7)), digestOf(program(8)));
}

TEST(TspHazard, DamagedPayload) {
  program::Program program = assembleOrFail(move);
  std::vector<std::byte> bytes(program.payload().begin(), program.payload().end());
  bytes.resize(bytes.size() / 2);
  program.setPayload(bytes);
  auto verdict = target::find("tsp")->check(program);
  ASSERT_FALSE(bool(verdict));
  EXPECT_EQ(report(verdict.takeError()).message,
            "the program's tsp section is damaged: it is not a valid FlatBuffer with the identifier QTSP; compile or "
            "assemble it again");
}

} // namespace
} // namespace quadrille::tsp
