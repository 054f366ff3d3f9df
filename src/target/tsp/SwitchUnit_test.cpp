// The switch unit's functions against formulas over lanes that are written here, and the cables of a node.
#include "target/tsp/SwitchUnit.h"

#include "base/Error.h"

#include "llvm/ADT/StringExtras.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <set>

namespace quadrille::tsp {
namespace {

Architecture architecture(const char *name) {
  auto machine = machine::Machine::load(name);
  auto architecture = machine ? Architecture::from(*machine) : machine.takeError();
  if (architecture)
    return *architecture;
  ADD_FAILURE() << report(architecture.takeError()).message;
  return {};
}
const Architecture &card() { // 20 superlanes of 16 lanes
  static const Architecture machine = architecture("groqcard");
  return machine;
}
const Architecture &bench() { // 4 superlanes of 16 lanes, all latencies different
  static const Architecture machine = architecture("unit-tsp");
  return machine;
}
// No product: 3 superlanes of 9 lanes.
Architecture narrow() {
  Architecture machine = bench();
  machine.superlanes = 3;
  machine.lanes = 9;
  return machine;
}

// "shift unit=0 lanes=4 from=e1 to=e2", by the instruction table.
Instruction instruction(llvm::StringRef text) {
  auto [mnemonic, rest] = text.split(' ');
  const Form *form = formNamed(mnemonic);
  Instruction result;
  if (!form) {
    ADD_FAILURE() << text.str();
    return result;
  }
  result.opcode = static_cast<uint8_t>(form->opcode);
  std::map<std::string, std::string> operands;
  for (llvm::StringRef word : llvm::split(rest, ' '))
    operands[word.split('=').first.str()] = word.split('=').second.str();
  for (const Field &field : form->fields) {
    auto operand = operands.find(field.name.str());
    int64_t value = field.defaultValue.value_or(0);
    if (operand == operands.end())
      EXPECT_TRUE(field.defaultValue.has_value()) << text.str() << " lacks " << field.name.str();
    else if (field.isSource())
      value = sourceNamed(operand->second).value_or(Source{}).byte();
    else
      EXPECT_TRUE(llvm::to_integer(operand->second, value)) << text.str();
    setValue(result, field.member, value);
    if (operand != operands.end())
      operands.erase(operand);
  }
  EXPECT_TRUE(operands.empty()) << text.str();
  return result;
}

using Vector = std::vector<int>; // one entry a lane, 0..255
using Vectors = std::vector<Vector>;

Vector noise(const Architecture &machine, uint32_t seed) {
  uint32_t state = seed * 2654435761u + 12345;
  Vector result(machine.vectorBytes());
  for (int &value : result) {
    state = state * 1664525 + 1013904223; // Numerical Recipes' generator
    value = static_cast<int>(state >> 24);
  }
  return result;
}
Vectors noises(const Architecture &machine, size_t count) {
  Vectors result;
  for (size_t i = 0; i < count; ++i)
    result.push_back(noise(machine, static_cast<uint32_t>(i)));
  return result;
}

struct Outcome {
  Vectors vectors;
  std::string problem;
};
// Outputs start as 0xee, so that a lane that nothing writes is seen.
Outcome execute(const Architecture &machine, llvm::StringRef text, const Vectors &inputs) {
  Instruction decoded = instruction(text);
  std::vector<std::vector<std::byte>> in, out;
  for (const Vector &vector : inputs) {
    in.emplace_back();
    for (int value : vector)
      in.back().push_back(static_cast<std::byte>(value));
  }
  int64_t wanted = 0;
  for (const StreamRun &run : switchInputs(decoded, machine))
    wanted += run.count;
  EXPECT_EQ(static_cast<int64_t>(in.size()), wanted) << text.str();
  out.assign(switchOutput(decoded, machine)->count, std::vector<std::byte>(machine.vectorBytes(), std::byte(0xee)));
  std::vector<const std::byte *> sources;
  std::vector<std::byte *> targets;
  for (auto &vector : in)
    sources.push_back(vector.data());
  for (auto &vector : out)
    targets.push_back(vector.data());
  Outcome result;
  result.problem = switchVector(decoded, sources, targets, machine);
  for (auto &vector : out) {
    result.vectors.emplace_back();
    for (std::byte value : vector)
      result.vectors.back().push_back(std::to_integer<int>(value));
  }
  return result;
}
Vectors results(const Architecture &machine, llvm::StringRef text, const Vectors &inputs) {
  Outcome outcome = execute(machine, text, inputs);
  EXPECT_EQ(outcome.problem, "") << text.str();
  return outcome.vectors;
}

// A vector from a formula over superlane and lane within it, or over the lane of the vector.
Vector byLane(const Architecture &machine, std::function<int(int)> value) {
  Vector result(machine.vectorBytes());
  for (size_t lane = 0; lane < result.size(); ++lane)
    result[lane] = value(static_cast<int>(lane));
  return result;
}
// The two streams that carry a map of Permute.
Vectors mapPair(const Vector &map) {
  Vectors result(2);
  for (int source : map) {
    result[0].push_back(source % 256);
    result[1].push_back(source / 256);
  }
  return result;
}
std::string shiftBy(int lanes) {
  return "shift unit=0 lanes=" + std::to_string(lanes) + " from=e1 to=w2";
}
const char *const permuteText = "permute unit=0 from=e1 map=e2 to=w4";

TEST(TspSwitch, ShiftMovesLanesAndFillsWithZero) {
  for (const Architecture &machine : {card(), bench(), narrow()}) {
    int bytes = static_cast<int>(machine.vectorBytes());
    Vector in = noise(machine, 1);
    for (int lanes : {0, 1, -1, 16, -16, 17, bytes - 1, 1 - bytes})
      EXPECT_EQ(results(machine, shiftBy(lanes), {in})[0], byLane(machine,
                                                                  [&](int lane) {
                                                                    int source = lane - lanes;
                                                                    return source < 0 || source >= bytes ? 0
                                                                                                         : in[source];
                                                                  }))
          << lanes;
  }
}

TEST(TspSwitch, ShiftAndBackKeepsAllButTheLanesThatLeft) {
  Vector in = noise(card(), 2);
  for (int lanes : {5, 16, 300}) {
    Vector there = results(card(), shiftBy(lanes), {in})[0], kept = in;
    std::fill(kept.end() - lanes, kept.end(), 0);
    EXPECT_EQ(results(card(), shiftBy(-lanes), {there})[0], kept);
  }
}

TEST(TspSwitch, SelectTakesAWhereTheMaskIsNotZero) {
  Vector a = noise(card(), 3), b = noise(card(), 4);
  // Every value of the mask occurs, zero at each seventh lane.
  Vector mask = byLane(card(), [](int lane) { return lane % 7 == 0 ? 0 : lane % 256 == 0 ? 1 : lane % 256; });
  EXPECT_EQ(results(card(), "select unit=0 a=e1 b=e2 mask=e3 to=w4", {a, b, mask})[0],
            byLane(card(), [&](int lane) { return lane % 7 == 0 ? b[lane] : a[lane]; }));
}

// North- and south-shifted copies joined: a rotation of the whole vector.
TEST(TspSwitch, TwoShiftsAndASelectRotateTheVector) {
  Vector in = noise(card(), 5);
  Vector north = results(card(), shiftBy(24), {in})[0], south = results(card(), shiftBy(24 - 320), {in})[0];
  Vector mask = byLane(card(), [](int lane) { return lane >= 24; });
  EXPECT_EQ(results(card(), "select unit=0 a=e1 b=e2 mask=e3 to=w4", {north, south, mask})[0],
            byLane(card(), [&](int lane) { return in[(lane + 320 - 24) % 320]; }));
}

TEST(TspSwitch, PermuteTakesTheLaneThatTheMapNames) {
  Vector in = noise(card(), 6);
  // 7 and 320 have no common divisor, so this is a bijection; it uses both bytes of the map.
  Vector map = byLane(card(), [](int lane) { return (lane * 7 + 300) % 320; });
  Vectors pair = mapPair(map);
  Vector out = results(card(), permuteText, {in, pair[0], pair[1]})[0];
  EXPECT_EQ(out, byLane(card(), [&](int lane) { return in[(lane * 7 + 300) % 320]; }));
  Vector inverse(320);
  for (int lane = 0; lane < 320; ++lane)
    inverse[map[lane]] = lane;
  Vectors back = mapPair(inverse);
  EXPECT_EQ(results(card(), permuteText, {out, back[0], back[1]})[0], in);
}

TEST(TspSwitch, PermuteRefusesWhatIsNoBijection) {
  auto problem = [](Vector map) {
    Vectors pair = mapPair(map);
    return execute(card(), permuteText, {noise(card(), 7), pair[0], pair[1]}).problem;
  };
  Vector map(320);
  std::iota(map.begin(), map.end(), 0);
  EXPECT_EQ(problem(map), "");
  Vector broken = map;
  broken[319] = 320;
  EXPECT_EQ(problem(broken), "map: lane 319 takes lane 320, the last is 319");
  broken[319] = 65535;
  EXPECT_EQ(problem(broken), "map: lane 319 takes lane 65535, the last is 319");
  broken[319] = 17;
  EXPECT_EQ(problem(broken), "map: lanes 17 and 319 both take lane 17");
}

TEST(TspSwitch, DistributeTakesLanesOfTheSuperlane) {
  for (const Architecture &machine : {card(), narrow()}) {
    int lanes = static_cast<int>(machine.lanes);
    Vectors in = noises(machine, 8);
    // Another map in each superlane, with repeated lanes and zeros.
    Vector map = byLane(machine, [&](int lane) { return (lane / lanes + lane % lanes * 3) % (lanes + 1); });
    Vectors inputs = in;
    inputs.push_back(map);
    Vectors out = results(machine, "distribute unit=0 from=e0 map=e8 streams=8 bypass=130 to=w0", inputs);
    ASSERT_EQ(out.size(), 8u);
    for (int stream = 0; stream < 8; ++stream) {
      Vector expected = in[stream]; // 130 = 2^7 + 2^1
      if (stream != 1 && stream != 7)
        expected = byLane(
            machine, [&](int lane) { return map[lane] == lanes ? 0 : in[stream][lane / lanes * lanes + map[lane]]; });
      EXPECT_EQ(out[stream], expected) << stream;
    }
  }
}

TEST(TspSwitch, DistributeWithSimpleMaps) {
  const char *const text = "distribute unit=3 from=e0 map=e8 to=w0";
  Vector in = noise(card(), 9);
  EXPECT_EQ(results(card(), text, {in, byLane(card(), [](int lane) { return lane % 16; })})[0], in);
  EXPECT_EQ(results(card(), text, {in, Vector(320, 16)})[0], Vector(320, 0));
  // Lane 5 of each superlane to all of it.
  EXPECT_EQ(results(card(), text, {in, Vector(320, 5)})[0],
            byLane(card(), [&](int lane) { return in[lane / 16 * 16 + 5]; }));
}

TEST(TspSwitch, DistributeRefusesLanesBeyondTheSuperlane) {
  Vector map(320, 16);
  for (int value : {17, 255}) {
    map[40] = value;
    for (const char *bypass : {"0", "1"})
      EXPECT_EQ(execute(card(), std::string("distribute unit=0 from=e0 map=e8 to=w0 bypass=") + bypass,
                        {noise(card(), 10), map})
                    .problem,
                "map: lane 40 takes lane " + std::to_string(value) +
                    " of its superlane, the last is 15 and 16 gives zero");
  }
}

TEST(TspSwitch, RotateOfAHandMadeBlock) {
  // The block 1 2 3 / 4 5 6 / 7 8 9 in superlane 1, with other bytes behind it that must not pass.
  Vector in(64, 0);
  for (int lane = 0; lane < 16; ++lane)
    in[16 + lane] = lane + 1;
  Vectors out = results(bench(), "rotate unit=0 size=3 from=e0 to=w0", {in});
  ASSERT_EQ(out.size(), 9u);
  auto expect = [&](size_t stream, Vector block) {
    Vector expected(64, 0);
    std::copy(block.begin(), block.end(), expected.begin() + 16);
    EXPECT_EQ(out[stream], expected) << stream;
  };
  expect(0, {1, 2, 3, 4, 5, 6, 7, 8, 9});
  expect(1, {2, 3, 1, 5, 6, 4, 8, 9, 7}); // columns by one
  expect(3, {4, 5, 6, 7, 8, 9, 1, 2, 3}); // rows by one
  expect(5, {6, 4, 5, 9, 7, 8, 3, 1, 2}); // rows by one, columns by two
}

TEST(TspSwitch, RotateGivesEveryRotationOfTheBlock) {
  for (const Architecture &machine : {card(), narrow()})
    for (int size : {3, 4}) {
      int lanes = static_cast<int>(machine.lanes), entries = size * size;
      if (entries > lanes)
        continue;
      Vector in = byLane(machine, [](int lane) { return (lane * 37 + 11) % 256; }); // all of a superlane different
      Vectors out = results(machine, "rotate unit=0 size=" + std::to_string(size) + " from=e0 to=w0", {in});
      ASSERT_EQ(out.size(), static_cast<size_t>(entries));
      EXPECT_EQ(std::set<Vector>(out.begin(), out.end()).size(), out.size());
      for (int stream = 0; stream < entries; ++stream) {
        int r = stream / size, c = stream % size;
        EXPECT_EQ(out[stream],
                  byLane(machine,
                         [&](int lane) {
                           int base = lane / lanes * lanes, i = lane % lanes / size, j = lane % lanes % size;
                           return lane - base < entries ? in[base + (i + r) % size * size + (j + c) % size] : 0;
                         }))
            << stream;
        for (int base = 0; base < machine.vectorBytes(); base += lanes)
          EXPECT_TRUE(std::is_permutation(in.begin() + base, in.begin() + base + entries, out[stream].begin() + base,
                                          out[stream].begin() + base + entries))
              << stream;
      }
    }
}

TEST(TspSwitch, TransposeExchangesStreamAndLane) {
  for (const Architecture &machine : {card(), narrow()}) {
    int lanes = static_cast<int>(machine.lanes);
    Vectors in = noises(machine, machine.lanes);
    const char *const text = "transpose unit=1 from=e0 to=w0";
    Vectors out = results(machine, text, in);
    ASSERT_EQ(out.size(), in.size());
    for (int stream = 0; stream < lanes; ++stream)
      EXPECT_EQ(out[stream], byLane(machine, [&](int lane) { return in[lane % lanes][lane / lanes * lanes + stream]; }))
          << stream;
    EXPECT_EQ(results(machine, text, out), in);
  }
}

TEST(TspSwitch, TransposeOfOneStreamSpreadsItOverLaneZero) {
  Vectors in(16, Vector(64, 0));
  for (int lane = 0; lane < 64; ++lane)
    in[0][lane] = lane + 1;
  Vectors out = results(bench(), "transpose unit=0 from=e16 to=e16", in);
  for (int stream = 0; stream < 16; ++stream)
    for (int lane = 0; lane < 64; ++lane)
      EXPECT_EQ(out[stream][lane], lane % 16 == 0 ? lane + stream + 1 : 0) << stream << ' ' << lane;
}

std::string runText(const StreamRun &run) {
  return print(run.first) + (run.count == 1 ? "" : "x" + std::to_string(run.count));
}

TEST(TspSwitch, StreamsPartsAndLatencies) {
  // Latencies as machines/unit-tsp.yaml has them.
  struct Case {
    const char *text, *inputs, *output;
    std::optional<SwitchPart> part;
    int64_t latency;
  };
  for (const Case &c : std::initializer_list<Case>{
           {"shift unit=0 lanes=0 from=e1 to=w2", "e1", "w2", SwitchPart::Shifter, 31},
           {"shift unit=0 lanes=1 from=e1 to=w2", "e1", "w2", SwitchPart::Shifter, 37},
           {"shift unit=0 lanes=-16 from=e1 to=w2", "e1", "w2", SwitchPart::Shifter, 37},
           {"select unit=0 a=e1 b=w2 mask=e3 to=w4", "e1 w2 e3", "w4", SwitchPart::Shifter, 31},
           {"permute unit=0 from=w1 map=e2 to=w5", "w1 e2x2", "w5", SwitchPart::Permuter, 37},
           {"distribute unit=0 from=w1 map=e2 to=w5", "w1 e2", "w5", SwitchPart::Distributor, 41},
           {"distribute unit=0 from=w1 map=e2 streams=5 to=e7", "w1x5 e2", "e7x5", SwitchPart::Distributor, 41},
           {"rotate unit=0 size=3 from=w31 to=e7", "w31", "e7x9", SwitchPart::Permuter, 47},
           {"rotate unit=0 size=4 from=w1 to=e0", "w1", "e0x16", SwitchPart::Permuter, 47},
           {"transpose unit=0 from=w16 to=e0", "w16x16", "e0x16", SwitchPart::Transposer, 43},
           {"send link=2 stream=w6", "w6", "none", std::nullopt, 0},
           {"receive link=2 stream=e6", "", "e6", std::nullopt, 0},
       }) {
    Instruction decoded = instruction(c.text);
    std::string inputs;
    for (const StreamRun &run : switchInputs(decoded, bench()))
      inputs += (inputs.empty() ? "" : " ") + runText(run);
    EXPECT_EQ(inputs, c.inputs) << c.text;
    auto output = switchOutput(decoded, bench());
    EXPECT_EQ(output ? runText(*output) : "none", c.output) << c.text;
    EXPECT_EQ(switchPart(decoded.op()), c.part) << c.text;
    EXPECT_EQ(switchLatency(decoded, bench()), c.latency) << c.text;
  }
}

TEST(TspSwitch, Problems) {
  struct Case {
    const char *text;
    unsigned hemisphere;
    const char *problem;
  };
  for (const Case &c : std::initializer_list<Case>{
           {"shift unit=0 lanes=-319 from=e31 to=w31", west, ""},
           {"select unit=0 a=e31 b=w31 mask=e30 to=w4", east, ""},
           {"permute unit=0 from=e31 map=w30 to=w31", west, ""},
           {"permute unit=0 from=e1 map=w31 to=w31", west,
            "map=w31: permute takes 2 consecutive streams that start at a multiple of 2"},
           {"permute unit=0 from=e1 map=e3 to=w31", east,
            "map=e3: permute takes 2 consecutive streams that start at a multiple of 2"},
           {"distribute unit=0 from=e31 map=e31 to=e31", west, ""},
           {"distribute unit=0 from=e24 map=e31 streams=8 to=w24", west, ""},
           {"distribute unit=0 from=e25 map=e31 streams=8 to=w24", west,
            "from=e25: distribute takes 8 consecutive streams, the last of this direction is e31"},
           {"distribute unit=0 from=e24 map=e31 streams=8 to=w25", west,
            "to=w25: distribute gives 8 consecutive streams, the last of this direction is w31"},
           {"rotate unit=0 size=3 from=e31 to=w23", west, ""},
           {"rotate unit=0 size=3 from=e31 to=w24", west,
            "to=w24: rotate gives 9 consecutive streams, the last of this direction is w31"},
           {"rotate unit=0 size=4 from=e31 to=e16", west, ""},
           {"rotate unit=0 size=4 from=e31 to=e17", west,
            "to=e17: rotate gives 16 consecutive streams, the last of this direction is e31"},
           {"rotate unit=0 size=2 from=e0 to=e0", west, "size=2: rotate has the block sizes 3, 4"},
           {"rotate unit=0 size=5 from=e0 to=e0", west, "size=5: rotate has the block sizes 3, 4"},
           {"transpose unit=1 from=e16 to=w0", east, ""},
           {"transpose unit=1 from=e20 to=w0", east,
            "from=e20: transpose takes 16 consecutive streams that start at a multiple of 16"},
           {"transpose unit=1 from=e0 to=w8", east,
            "to=w8: transpose gives 16 consecutive streams that start at a multiple of 16"},
           {"send link=0 stream=e4", west, ""},
           {"send link=9 stream=e4", east, ""},
           {"receive link=10 stream=w4", west, ""},
           {"send link=4 stream=e4", east, "link=4: even links belong to the switch unit west"},
           {"send link=3 stream=e4", west, "link=3: odd links belong to the switch unit east"},
           {"receive link=7 stream=e4", west, "link=7: odd links belong to the switch unit east"},
       }) {
    Instruction decoded = instruction(c.text);
    EXPECT_EQ(switchProblem(decoded, c.hemisphere, card()), c.problem) << c.text;
    // The same by way of the instruction table: the ranges of the single operands refuse none of these.
    QueueName queue{UnitKind::Switch, static_cast<uint8_t>(c.hemisphere), 0, 0};
    EXPECT_EQ(operandProblem(decoded, queue, card()), c.problem) << c.text;
  }
}

TEST(TspSwitch, ProblemsOfSmallMachines) {
  EXPECT_EQ(switchProblem(instruction("rotate unit=0 size=3 from=e0 to=e0"), west, narrow()), "");
  EXPECT_EQ(switchProblem(instruction("rotate unit=0 size=4 from=e0 to=e0"), west, narrow()),
            "size=4: rotate takes 16 lanes, a superlane has 9");
  Architecture machine = bench();
  machine.streams = 12;
  EXPECT_EQ(switchProblem(instruction("rotate unit=0 size=4 from=e0 to=e0"), west, machine),
            "size=4: rotate gives 16 streams, a direction has 12");
  // Runs of 9 in 32 streams: 0, 9 and 18; 27 is aligned but too late.
  EXPECT_EQ(switchProblem(instruction("transpose unit=0 from=e18 to=e9"), west, narrow()), "");
  EXPECT_EQ(switchProblem(instruction("transpose unit=0 from=e18 to=e27"), west, narrow()),
            "to=e27: transpose gives 9 consecutive streams, the last of this direction is e31");
}

TEST(TspSwitch, LinksOfANodeByHand) {
  Architecture node = architecture("groqnode");
  auto expect = [&](LinkEnd end, LinkEnd far) {
    auto found = farEnd(end, node);
    ASSERT_TRUE(found) << end.chip << '.' << end.link;
    EXPECT_EQ(*found, far) << end.chip << '.' << end.link << " to " << found->chip << '.' << found->link;
  };
  expect({0, 0}, {1, 0});
  expect({0, 6}, {7, 0});
  expect({3, 2}, {2, 2}); // the others of 3 are 0, 1, 2, 4, ...; those of 2 are 0, 1, 3, ...
  expect({3, 3}, {4, 3});
  expect({5, 1}, {1, 4});
  expect({7, 6}, {6, 6});
  // The global ports, and what does not exist.
  for (LinkEnd end : {LinkEnd{0, 7}, {0, 10}, {0, 11}, {8, 0}, {-1, 0}, {0, -1}})
    EXPECT_FALSE(farEnd(end, node)) << end.chip << '.' << end.link;
}

TEST(TspSwitch, EveryTwoChipsOfANodeShareOneCable) {
  for (const char *name : {"groqnode", "unit-tsp-node", "groqrack"}) {
    Architecture machine = architecture(name);
    std::map<std::pair<int64_t, int64_t>, int> ends; // of the cables between two chips
    for (int64_t chip = 0; chip < machine.chips; ++chip)
      for (int64_t link = 0; link < machine.linksUsed; ++link) {
        auto far = farEnd({chip, link}, machine);
        if (link >= machine.localLinks)
          continue;
        ASSERT_EQ(far.has_value(), link < machine.chipsPerNode - 1) << name << ' ' << chip << '.' << link;
        if (!far)
          continue;
        ASSERT_GE(far->chip, 0);
        ASSERT_LT(far->chip, machine.chips);
        EXPECT_NE(far->chip, chip);
        EXPECT_EQ(far->chip / machine.chipsPerNode, chip / machine.chipsPerNode);
        EXPECT_EQ(farEnd(*far, machine), (LinkEnd{chip, link})) << name << ' ' << chip << '.' << link;
        ++ends[std::minmax(chip, far->chip)];
      }
    int64_t perNode = machine.chipsPerNode;
    EXPECT_EQ(static_cast<int64_t>(ends.size()), machine.chips / perNode * perNode * (perNode - 1) / 2) << name;
    for (auto [pair, count] : ends)
      EXPECT_EQ(count, 2) << name << ' ' << pair.first << ' ' << pair.second;
  }
  // A part of a node: a link to a chip that is not there has no far end.
  Architecture part = architecture("groqnode");
  part.chips = 4;
  EXPECT_EQ(farEnd({3, 0}, part), (LinkEnd{0, 2}));
  EXPECT_FALSE(farEnd({3, 3}, part));
  EXPECT_FALSE(farEnd({5, 0}, part));
  part.meshed = false;
  EXPECT_FALSE(farEnd({3, 0}, part));
}

// Four cables between every two nodes, of 32 ports to 8 other nodes; each end is the other's far end.
TEST(TspSwitch, EveryTwoNodesShareCables) {
  for (auto [name, cables] : {std::pair("groqrack", 4), std::pair("unit-tsp-rack", 2)}) {
    Architecture machine = architecture(name);
    std::map<std::pair<int64_t, int64_t>, int> ends;
    for (int64_t chip = 0; chip < machine.chips; ++chip)
      for (int64_t link = machine.localLinks; link < machine.linksUsed; ++link) {
        auto far = farEnd({chip, link}, machine);
        ASSERT_TRUE(far.has_value()) << name << ' ' << chip << '.' << link;
        EXPECT_EQ(farEnd(*far, machine), (LinkEnd{chip, link})) << name << ' ' << chip << '.' << link;
        int64_t node = chip / machine.chipsPerNode, other = far->chip / machine.chipsPerNode;
        EXPECT_NE(node, other);
        ++ends[std::minmax(node, other)];
      }
    int64_t nodes = machine.chips / machine.chipsPerNode;
    EXPECT_EQ(static_cast<int64_t>(ends.size()), nodes * (nodes - 1) / 2) << name;
    for (auto [pair, count] : ends)
      EXPECT_EQ(count, 2 * cables) << name << ' ' << pair.first << ' ' << pair.second;
  }
}

// Chip 2 of node 1 of the rack: its first global link is port 2 of the node, which goes to the node 3 (the others are
// 0, 2, 3, ...). There node 1 is the second other, whose first port is port 1: chip 1. Its second one is port 10, the
// second port to node 3, whose second port to node 1 is 9: chip 1 again.
TEST(TspSwitch, LinksBetweenNodesByHand) {
  Architecture rack = architecture("groqrack");
  EXPECT_EQ(farEnd({8 + 2, 7}, rack), (LinkEnd{3 * 8 + 1, 7}));
  EXPECT_EQ(farEnd({8 + 2, 8}, rack), (LinkEnd{3 * 8 + 1, 8}));
  EXPECT_EQ(farEnd({0, 7}, rack), (LinkEnd{8, 7}));
  EXPECT_FALSE(farEnd({0, 11}, rack));
  // Two nodes' ports to the third: of chips 0 and 2 to the first other, of 1 and 3 to the second.
  Architecture bench = architecture("unit-tsp-rack");
  EXPECT_EQ(farEnd({4 + 3, 3}, bench), (LinkEnd{8 + 3, 3}));
  EXPECT_EQ(farEnd({4 + 2, 3}, bench), (LinkEnd{2, 3}));
}

TEST(TspSwitch, ASingleChipHasNoCables) {
  for (const Architecture &machine : {card(), bench()})
    for (int64_t link = 0; link < machine.linksUsed; ++link)
      EXPECT_FALSE(farEnd({0, link}, machine)) << link;
}

} // namespace
} // namespace quadrille::tsp
