// Every hazard by a program that has it: the checker's first finding and the simulator's error are the same sentence.
#include "base/File.h"
#include "target/tsp/Code.h"
#include "target/tsp/Simulate.h"
#include "target/tsp/TestProgram.h"

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

std::string example(const char *name) {
  auto file = MappedFile::open(std::string(QUADRILLE_SOURCE_DIR "/examples/tsp/") + name);
  if (file)
    return (*file)->text().str();
  ADD_FAILURE() << report(file.takeError()).message;
  return "";
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
               "entry 'inference': output 'y' has layouts of 0 of its 4 elements");
  // Boxes of an output.
  std::string axis = ".axis dimension=0 extent=4 to=lane step=1\n";
  auto ranged = [&](const std::string &ranges) { return edit(move, axis, ranges + axis, ".layout output"); };
  expectHazard(ranged(".range dimension=0 begin=0 extent=3\n"),
               "entry 'inference': output 'y' has layouts of 3 of its 4 elements");
  expectHazard(ranged(".range dimension=0 begin=0 extent=3\n.range dimension=0 begin=3 extent=1\n"),
               "layout 1 of 'y': it has two ranges of dimension 0");
  expectHazard(edit(move, axis, ".range dimension=0 begin=0 extent=3\n" + axis),
               "weight 'w': layouts of 3 of its 4 elements");
  // An input in parts is whole, each time.
  std::string parts =
      edit(edit(move, ".weight \"w\" i8[4]\n.data 01020304", ".input \"w\" i8[4]"), ".layout weight", ".layout input");
  parts = edit(parts, ".entry \"inference\" ->", ".entry \"inference\" \"w\" ->");
  std::string low = ".range dimension=0 begin=0 extent=3\n.axis dimension=0 extent=3 to=lane step=1\n";
  std::string high = ".range dimension=0 begin=3 extent=1\n.axis dimension=0 extent=1 to=lane step=1\n";
  std::string next = ".layout input \"w\" bank=0 address=4 slices=w0\n",
              third = ".layout input \"w\" bank=0 address=5 slices=w0\n";
  EXPECT_EQ(firstFinding(assembleOrFail(edit(parts, axis, low + next + high))), "");
  EXPECT_EQ(firstFinding(assembleOrFail(edit(parts, axis, axis + next + low + third + high))), "");
  expectHazard(edit(parts, axis, low), "entry 'inference': input 'w' has layouts of 3 of its 4 elements");
  expectHazard(edit(parts, axis, low + next + high + third + low),
               "entry 'inference': input 'w' has layouts of 3 of its 4 elements");
  expectHazard(edit(parts, axis, low + next + low),
               "entry 'inference': input 'w' has two layouts with the same elements");
  std::string other = ".layout output \"y\" bank=1 address=7 slices=e6\n" + axis;
  expectHazard(edit(move, ".layout output", other + ".layout output"),
               "entry 'inference': output 'y' has two layouts with the same elements");
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
  expectHazard(edit(half, "rows=32", "rows=16", "MXM east 1.1"),
               "queue MXM east 0.2, instruction 2, cycle 167: the planes of the pair have f16 tiles of different sizes "
               "or lanes");
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

TEST(TspHazard, Addresses) {
  auto expect = [](const char *instruction, const char *message) {
    std::string text = edit(move, "read bank=0 address=3 stream=e9", instruction);
    expectHazard(text, "queue MEM west 0, instruction 0, cycle " + std::string(message));
  };
  expect("read bank=0 address=3 step=-4 stream=e9\nrepeat count=3", "1: address -1 is not in 0..8191");
  expect("read bank=0 address=3 step=8191 stream=e9\nrepeat count=3", "1: address 8194 is not in 0..8191");
}

TEST(TspHazard, ProductsThatNobodyTookShowInTheEnd) {
  // An ACC comes too late for them. Counted from the barrier's
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

// Loads and installs that alternate eight million times.
TEST(TspHazard, TheCheckOfAHostileProgramEnds) {
  std::string queues;
  for (const char *plane : {"west 0", "west 1", "east 0", "east 1"})
    for (auto [queue, instruction] : {std::pair(0, "lw row=0"), {1, "iw rows=16 type=i8"}}) {
      queues += std::string(".queue MXM ") + plane + "." + std::to_string(queue) + "\n";
      for (int burst = 0; burst < 33; ++burst)
        queues += std::string(instruction) + "\nrepeat count=65536 interval=4\n";
    }
  std::string text = edit(move, ".machine unit-tsp", ".machine groqcard") + queues;
  EXPECT_EQ(firstFinding(assembleOrFail(text)),
            "entry 'inference': its instructions interleave more than the checker follows: about 2^27 changes from one "
            "to another");
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
