// Every hazard of the vector and switch units, of links, gathers, scatters and queues by a program that has it, as in
// Hazard_test.cpp; and what the digest must tell apart.
#include "target/tsp/Digest.h"
#include "target/tsp/RandomMachine.h"

#include "gtest/gtest.h"

namespace quadrille::tsp {
namespace {

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
  // The second of two is taken, the first is not.
  expectHazard(units(feeds(81), turns + send + "repeat count=1 interval=67\n",
                     ".queue SXM west 0\n" + at(sent - 1 + 71 + 67, "receive link=0 stream=e5"), node),
               "chip 0, queue SXM west 0, instruction 1, cycle 109: no 'receive' takes the vector when it arrives on "
               "link 0");
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
}

// What is wrong before the start comes before all that happens.
TEST(TspHazard, OverlapsComeBeforeFaultsOfQueues) {
  std::string idle;
  for (int i = 0; i < 33; ++i)
    idle += "nop cycles=1\n";
  program::Program program = assembleOrFail(edit(units({}, ".queue VXM 0\n" + idle), ".code",
                                                 ".layout weight \"map\" bank=0 address=3 slices=e0\n"
                                                 ".axis dimension=0 extent=64 to=lane step=1\n.code"));
  std::string message = "variable 'map' overlaps another: MEM east 0, bank 0, address 3";
  EXPECT_EQ(firstFinding(program), "layout of 'map': " + message);
  EXPECT_EQ(simulateError(program), message);
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

} // namespace
} // namespace quadrille::tsp
