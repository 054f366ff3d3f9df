// When groups of instructions start, and the queues' code.
#include "target/tsp/TestProgram.h"
#include "target/tsp/Timetable.h"

#include "gtest/gtest.h"

#include <set>

namespace quadrille::tsp {
namespace {

Architecture machineNamed(const char *name) {
  return llvm::cantFail(Architecture::from(llvm::cantFail(machine::Machine::load(name))));
}

// A word of MEM west 0, again and again.
Step reading(int32_t address, int64_t count) {
  Instruction read;
  read.opcode = static_cast<uint8_t>(Opcode::Read);
  read.small[1] = Source{Source::East, 4}.byte();
  read.word[0] = address;
  return {{UnitKind::Memory, west, 0, 0}, read, 0, count, 1};
}

// In which cycles the only queue issues which address.
std::multiset<std::pair<int64_t, int64_t>> readsOf(const Timetable &timetable) {
  std::multiset<std::pair<int64_t, int64_t>> reads;
  std::vector<Queue> queues = timetable.queues();
  EXPECT_EQ(queues.size(), 1u);
  int64_t cycle = 0, address = 0, step = 0;
  for (const Instruction &instruction : queues[0].instructions)
    switch (instruction.op()) {
    case Opcode::Nop:
      cycle += instruction.word[0];
      break;
    case Opcode::Fetch:
      ++cycle;
      break;
    case Opcode::Repeat:
      for (int64_t k = 0; k < instruction.word[0]; ++k, cycle += instruction.word[1])
        reads.emplace(cycle, address += step);
      break;
    default:
      address = instruction.word[0];
      step = instruction.word[1];
      reads.emplace(cycle++, address);
    }
  return reads;
}

// Three groups want the same constant, two of them at the same time and one right behind; it is read once in a cycle.
TEST(TspTimetable, OneInstructionReadsAConstantForAll) {
  Architecture machine = machineNamed("groqcard");
  Timetable timetable(machine);
  EXPECT_EQ(timetable.earliest(reading(7, 10), 0), 0);
  timetable.place(reading(7, 10), 0, 0);
  EXPECT_EQ(timetable.earliest(reading(7, 10), 4), 4);
  timetable.place(reading(7, 10), 4, 0);
  EXPECT_EQ(timetable.earliest(reading(7, 10), 14), 14);
  timetable.place(reading(7, 10), 14, 0);
  std::multiset<std::pair<int64_t, int64_t>> expected;
  for (int64_t cycle = 0; cycle < 24; ++cycle)
    expected.emplace(cycle, 7);
  EXPECT_EQ(readsOf(timetable), expected);
  // One in front of them, which they have begun before it was known.
  Timetable late(machine);
  late.place(reading(7, 10), 40, 0);
  late.place(reading(7, 10), 20, 0);
  EXPECT_EQ(late.earliest(reading(7, 20), 25), 25);
  late.place(reading(7, 20), 25, 0);
  expected.clear();
  for (int64_t cycle = 20; cycle < 50; ++cycle)
    expected.emplace(cycle, 7);
  EXPECT_EQ(readsOf(late), expected);
  EXPECT_EQ(late.misread({1}), "");
}

TEST(TspTimetable, OtherWordsHaveTheStreamForThemselves) {
  Architecture machine = machineNamed("groqcard");
  Timetable timetable(machine);
  timetable.place(reading(7, 10), 0, 0);
  EXPECT_GE(timetable.earliest(reading(8, 10), 4), 10);
  Step other = reading(7, 10); // of the same word into another stream, which one queue cannot do at the same time
  other.instruction.small[1] = Source{Source::East, 5}.byte();
  EXPECT_GE(timetable.earliest(other, 4), 10);
  Step rows = reading(7, 10); // and rows from it on
  rows.instruction.word[1] = 1;
  EXPECT_GE(timetable.earliest(rows, 4), 10);
}

// No Repeat is longer than the machine's, so what would need one waits until a fetch has found a cycle.
TEST(TspTimetable, ReadsThatJoinStayOneInstruction) {
  Architecture machine = machineNamed("unit-tsp");
  Timetable timetable(machine);
  int64_t most = machine.repeatMaximum + 1;
  timetable.place(reading(7, most), 0, 0);
  EXPECT_EQ(timetable.earliest(reading(7, 10), most - 10), most - 10);
  EXPECT_GT(timetable.earliest(reading(7, 10), most - 9), most);
  // What lies between two joins both.
  int64_t half = most / 2;
  Timetable between(machine);
  between.place(reading(7, half), 0, 0);
  between.place(reading(7, half), half + 10, 0);
  EXPECT_GT(between.earliest(reading(7, 10), half), half);
  Timetable shorter(machine);
  shorter.place(reading(7, half - 10), 0, 0);
  shorter.place(reading(7, half), half, 0);
  EXPECT_EQ(shorter.earliest(reading(7, 10), half - 10), half - 10);
}

// Vectors from MEM west 4 fly past MEM west 0 to MEM east 0. There another vector of the same group takes the place of
// each: all that is written is what comes from west 0.
TEST(TspTimetable, FindsVectorsThatTheirOwnGroupReplaces) {
  Architecture machine = machineNamed("groqcard");
  Timetable timetable(machine);
  constexpr int64_t count = 10;
  auto at = [&](unsigned hemisphere, uint16_t slice, Opcode opcode, int64_t diagonal) {
    Step step = reading(slice, count);
    step.queue = {UnitKind::Memory, static_cast<uint8_t>(hemisphere), slice, 0};
    step.instruction.opcode = static_cast<uint8_t>(opcode);
    // Of a read the vector is on its stream memoryRead after the capture.
    step.cycle = diagonal + machine.sliceCoordinate(hemisphere, slice, Direction::East) - machine.skew -
                 (opcode == Opcode::Read ? machine.memoryRead : 0);
    return step;
  };
  Step from = at(west, 4, Opcode::Read, 100), to = at(east, 0, Opcode::Write, 100);
  EXPECT_FALSE(timetable.meetsItself({from, to}));
  EXPECT_TRUE(timetable.meetsItself({from, at(west, 0, Opcode::Read, 100), to}));
  EXPECT_TRUE(timetable.meetsItself({from, at(west, 0, Opcode::Read, 95), to})); // of half of them
  Step other = at(west, 0, Opcode::Read, 100 + count);                           // behind them
  EXPECT_FALSE(timetable.meetsItself({from, other, to, at(east, 4, Opcode::Write, 100 + count)}));
  // A queue may come to its turn often: five vectors of west 4, then one of west 0 and one of west 4, and again.
  auto some = [](Step step, int64_t of) {
    step.count = of;
    return step;
  };
  std::vector<Step> turns = {some(at(west, 4, Opcode::Read, 100), 5), some(to, 13)};
  for (int64_t diagonal = 105; diagonal < 113; diagonal += 2) {
    turns.push_back(some(at(west, 0, Opcode::Read, diagonal), 1));
    turns.push_back(some(at(west, 4, Opcode::Read, diagonal + 1), 1));
  }
  EXPECT_FALSE(timetable.meetsItself(turns));
}

} // namespace
} // namespace quadrille::tsp
