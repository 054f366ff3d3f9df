// The assembler's messages, and the text form of what the examples do not have.
#include "target/tsp/TestProgram.h"

#include "gtest/gtest.h"

namespace quadrille::tsp {
namespace {

const char *const head = R"(.target tsp
.machine unit-tsp
.input "x" i8[4]
.node "n" "MatMul"
.entry "inference" "x" ->
.layout input "x" bank=0 address=0 slices=w0
)"; // six lines

struct Malformed {
  const char *text; // behind `head`, or all when it begins with '!'
  const char *message;
};

TEST(TspAssembly, Messages) {
  const char *code = "\n.code \"inference\"\n.chip 0\n.queue MEM west 0\n"; // the next line is line 11
  const Malformed table[] = {
      {".layuot", "line 7: unknown directive '.layuot'"},
      {".layout input \"z\" bank=0 address=0 slices=w0", "line 7: there is no input variable 'z' above this line"},
      {".layout \"x\" bank=0", "line 7: expected a variable: ROLE \"NAME\", with ROLE input, output, weight or state"},
      {".layout input \"x\" bank=0 slices=w0", "line 7: '.layout' lacks the operand 'address'"},
      {".layout input \"x\" bank=2 address=0 slices=w0", "line 7: bank=2 is not in 0..1"},
      {".layout input \"x\" bank=0 address=9000 slices=w0", "line 7: address=9000 is not in 0..8191"},
      {".layout input \"x\" bank=0 address=0 slices=3", "line 7: expected a slice as w0, e5 or e5-7, found '3'"},
      {".layout input \"x\" bank=0 address=0 slices=w3-1", "line 7: slice=1 is not in 3..15"},
      {".layout input \"x\" bank=0 address=0 slices=w0 size=3",
       "line 7: '.layout' has no operand 'size'; expected chip, bank, address, slices"},
      {".axis dimension=1 extent=1 to=lane step=1", "line 7: dimension=1 is not in 0..0"},
      {".axis dimension=0 extent=0 to=lane step=1", "line 7: extent=0 is not in 1..4294967295"},
      {".axis dimension=0 extent=4 to=word step=1", "line 7: expected to=lane, to=slice or to=address, found 'word'"},
      {".code \"forward\"", "line 7: there is no entry 'forward'"},
      {"read bank=0 address=0 stream=e1", "line 7: expected a .queue above the first instruction"},
      {".queue MEM west 0", "line 7: expected a .code and a .chip above this line"},
      {".code \"inference\"\n.chip 1", "line 8: chip=1 is not in 0..0"},
      {".code \"inference\"\n.chip 0\n.queue MEM west 6", "line 9: the slice is reserved for the system"},
      {".code \"inference\"\n.chip 0\n.queue MEM west 16", "line 9: memory slice 16 is not in 0..15"},
      {".code \"inference\"\n.chip 0\n.queue MXM east 2.0", "line 9: matrix plane 2 is not in 0..1"},
      {".code \"inference\"\n.chip 0\n.queue MXM east 0",
       "line 9: expected '.queue MEM west|east SLICE', '.queue MXM west|east PLANE.QUEUE', '.queue VXM UNIT' or "
       "'.queue SXM west|east QUEUE'"},
      {"+.queue MEM west 0", "line 11: there is already a queue MEM west 0 in this code"},
      {"+raed bank=0", "line 11: unknown instruction 'raed'"},
      {"+read bank=0 address=0", "line 11: 'read' lacks the operand 'stream'"},
      {"+read bank=0 address=0 stream=1", "line 11: expected a stream as e4 or w4 for stream, found '1'"},
      {"+read bank=0 address=0 stream=e32", "line 11: stream=e32 is not in e0..e31, w0..w31"},
      {"+read bank=0 address=x stream=e1", "line 11: expected address (an integer), found 'x'"},
      {"+read bank=0 bank=1 address=0 stream=e1", "line 11: operand 'bank' is given twice"},
      {"+read bank=0 address=0 lane=1", "line 11: 'read' has no operand 'lane'; expected bank, address, step, stream"},
      {"+read 5", "line 11: expected NAME=VALUE, found '5'"},
      {"+lw row=0", "line 11: a MEM queue cannot issue 'lw'"},
      {"+nop cycles=1025", "line 11: cycles=1025 is not in 1..1024"},
      {"+repeat count=1", "line 11: expected an instruction before 'repeat' that it can issue again"},
      {"+sync now=1", "line 11: 'sync' has no operand 'now'; expected none"},
      {"+nop cycles=9\n.at 8", "line 12: the queue is already at cycle 9, expected a later one"},
      {"+.at 99999999999", "line 11: cycle 99999999999 is more than 65536 nops away"},
      {"+.at 0b11", "line 11: expected cycle (an integer), found '0b11'"},
      {"+read bank= address=1 stream=e1", "line 11: expected NAME=VALUE, found 'bank='"},
      {".layout input \"x\" bank=0 address=0 slices=w", "line 7: expected slice (an integer)"},
      {"+.origin 1", "line 11: node=1 is not in 0..0"},
      {"!.target tsp\n.machine unit-tsp\n.entry \"inference\" ->\n.code \"inference\"\n.chip 0\n.queue MEM west 0\n"
       ".origin 0",
       "line 7: no node that .origin could name: expected .node \"NAME\" \"OPERATION\" above the code"},
      {"+.queue MXM west 0.0\nabc stream=w3 type=f16", "line 12: stream=w3 is odd: type=f16 takes an aligned pair"},
      {"+.queue MXM west 0.0\niw rows=33 type=f16", "line 12: rows=33 is not in 1..32 for type=f16"},
      {".layout input \"x bank=0", "line 7: a name: the closing double quote is missing"},
  };
  EXPECT_GE(std::size(table), 20u);
  for (const Malformed &malformed : table) {
    std::string text = malformed.text[0] == '!' ? "" : head;
    text += malformed.text[0] == '!'   ? std::string(malformed.text + 1)
            : malformed.text[0] == '+' ? code + std::string(malformed.text + 1)
                                       : malformed.text;
    auto program = target::find("tsp")->assemble(text, "a.tspasm");
    EXPECT_FALSE(bool(program)) << malformed.text;
    if (program)
      continue;
    Reported reported = report(program.takeError());
    EXPECT_EQ(reported.message, std::string("a.tspasm: ") + malformed.message);
    EXPECT_EQ(reported.exitCode, 2);
  }
}

TEST(TspAssembly, EveryFormSurvivesPrintingAndAssembling) {
  std::string text = head + std::string(R"(.axis dimension=0 extent=4 to=lane step=1
.code "inference"
.chip 0
.queue MEM west 0
.origin 0
notify
sync
read bank=1 address=8191 step=-1 stream=w31   # a comment
repeat count=512 interval=1024
.origin none
nop cycles=1024
.origin 0
write bank=0 address=0 stream=e0
.queue MXM west 1.2
.at 3000
lw row=48 step=-16
iw rows=1 type=u8
iw rows=32 type=f16
abc stream=w30 type=f16
acc mode=pass sum=127
acc mode=add sum=5 step=-5
)");
  program::Program program = assembleOrFail(text);
  std::string printed;
  llvm::raw_string_ostream os(printed);
  ASSERT_FALSE(bool(target::find("tsp")->disassemble(program, os)));
  EXPECT_EQ(bytesOf(assembleOrFail(printed)), bytesOf(program)) << printed;
  // 3000 idle cycles are three instructions of at most 1024.
  EXPECT_NE(printed.find("  nop cycles=1024\n  nop cycles=1024\n  nop cycles=952\n  lw row=48 step=-16"),
            std::string::npos)
      << printed;
  EXPECT_NE(printed.find("# cycle 3000"), std::string::npos);
}

// 16 bytes an instruction, in three slices of 2 banks of 8192 words of 64 bytes.
TEST(TspAssembly, TextThatNoChipHoldsIsRefused) {
  std::string text = head + std::string("\n.code \"inference\"\n.chip 0\n.queue MEM west 0\n");
  for (int i = 0; i < 1000; ++i)
    text += ".at 67108863\nsync\n"; // 65,536 nops
  auto program = target::find("tsp")->assemble(text, "a.tspasm");
  ASSERT_FALSE(bool(program));
  EXPECT_EQ(report(program.takeError()).message,
            "a.tspasm: line 15: the instructions of chip 0 take more than the 3145728 bytes of the slices reserved for "
            "them; use 'repeat' for what recurs and 'sync' instead of long waits");
}

TEST(TspAssembly, NumbersAndNamesAreThoseOfTheCommonDirectives) {
  std::string text = R"(.target tsp
.machine unit-tsp
.input "a # \"b\" \\ \x01" i8[4]
.entry "e" "a # \"b\" \\ \x01" ->
.layout input "a # \"b\" \\ \x01" bank=0 address=0x10 slices=w0 # a comment "with" quotes
.axis dimension=0 extent=04 to=lane step=1#
.code "e" # another
.chip 0
.queue MEM west 0
.at 010#
read bank=0 address=16 stream=e1
)";
  program::Program program = assembleOrFail(text);
  std::string printed;
  llvm::raw_string_ostream os(printed);
  ASSERT_FALSE(bool(target::find("tsp")->disassemble(program, os)));
  EXPECT_NE(printed.find("nop cycles=10\n"), std::string::npos) << printed;
  EXPECT_NE(printed.find("address=16 slices=w0"), std::string::npos) << printed;
  EXPECT_EQ(bytesOf(assembleOrFail(printed)), bytesOf(program));
}

TEST(TspAssembly, ALayoutHasAtMost255Dimensions) {
  auto text = [](int rank) {
    std::string shape = "1";
    for (int i = 1; i < rank; ++i)
      shape += ",1";
    return ".target tsp\n.machine unit-tsp\n.input \"x\" i32[" + shape +
           "]\n.entry \"e\" \"x\" ->\n.layout input \"x\" bank=0 address=0 slices=w0\n"
           ".axis dimension=bytes extent=4 to=lane step=1\n.code \"e\"\n.chip 0\n";
  };
  EXPECT_EQ(firstFinding(assembleOrFail(text(255))), "");
  auto program = target::find("tsp")->assemble(text(256), "a.tspasm");
  ASSERT_FALSE(bool(program));
  EXPECT_EQ(report(program.takeError()).message,
            "a.tspasm: line 5: 'x' has rank 256; a layout has at most 255 dimensions");
}

} // namespace
} // namespace quadrille::tsp
