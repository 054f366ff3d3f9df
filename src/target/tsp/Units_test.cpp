// Every row of the timing tables of machines/groqcard.yaml as a small program: it is legal exactly when each
// instruction is dispatched in the cycle that is derived here by hand, and a reader one cycle earlier or later finds
// nothing.
//
// Memory slices 0..3 of a hemisphere are at position 1, 4..7 at 2, ... 40..43 at 11; the vector unit at 0. Dispatch to
// capture takes 1 everywhere, so times from capture to capture are also those from dispatch to dispatch. A program ends
// with its last completion and 20 superlanes.
#include "target/tsp/TestProgram.h"

#include "gtest/gtest.h"

namespace quadrille::tsp {
namespace {

std::string at(int cycle, const std::string &instruction) {
  return ".at " + std::to_string(cycle) + "\n" + instruction + "\n";
}
std::string queue(const std::string &name, const std::string &instructions) {
  return ".queue " + name + "\n" + instructions;
}
std::string read(const std::string &slice, int cycle, const std::string &stream, const std::string &more = "") {
  return queue("MEM " + slice, at(cycle, "read bank=0 address=0 stream=" + stream) + more);
}
std::string write(const std::string &slice, int cycle, const std::string &stream) {
  return queue("MEM " + slice, at(cycle, "write bank=1 address=0 stream=" + stream));
}
std::string shortName(const std::string &slice) {
  return slice.substr(0, 1) + slice.substr(5);
}

// `w` is in bank 0 of every slice of the list ("east 3", on chip 0), `y` in bank 1 of `output` or, if that is empty,
// nobody writes.
std::string card(const std::vector<std::string> &slices, const std::string &output, const std::string &chip0,
                 const std::string &chip1 = "", bool node = false) {
  std::string text = std::string(".target tsp\n.machine ") + (node ? "groqnode\n.chips 2" : "groqcard\n.chips 1") +
                     "\n.weight \"w\" i8[4]\n.data 01020304\n.output \"y\" i8[4]\n.entry \"inference\" -> \"y\"\n";
  for (const std::string &slice : slices)
    text += ".layout weight \"w\" bank=0 address=0 slices=" + shortName(slice) +
            "\n.axis dimension=0 extent=4 to=lane step=1\n";
  std::string place = output.empty() ? "bank=0 address=0 slices=" + shortName(slices[0])
                                     : "bank=1 address=0 slices=" + shortName(output);
  text += ".layout output \"y\" chip=" + std::string(node && !output.empty() ? "1 " : "0 ") + place +
          "\n.axis dimension=0 extent=4 to=lane step=1\n.code \"inference\"\n.chip 0\n" + chip0;
  return node ? text + ".chip 1\n" + chip1 : text;
}

// Total cycles.
int64_t run(const std::string &text) {
  program::Program program = assembleOrFail(text);
  EXPECT_EQ(firstFinding(program), "") << text;
  auto result = target::find("tsp")->simulate(program, {}, {});
  if (result)
    return result->timeline.cycles.value;
  ADD_FAILURE() << report(result.takeError()).message;
  return 0;
}
void expectUndriven(const std::string &text) {
  std::string finding = firstFinding(assembleOrFail(text));
  EXPECT_NE(finding.find("is not driven where it is read"), std::string::npos) << finding << "\n" << text;
}
// `program` of a cycle is legal in `cycle` only.
template <typename Program> int64_t expectOnly(int cycle, const Program &program) {
  for (int other : {cycle - 1, cycle + 1})
    expectUndriven(program(other));
  return run(program(cycle));
}

TEST(TspLatency, Read1) {
  EXPECT_EQ(expectOnly(1,
                       [](int cycle) {
                         return card({"east 0"}, "east 1", read("east 0", 0, "e0") + write("east 1", cycle, "e0"));
                       }),
            1 + 1 + 2 + 20);
}

TEST(TspLatency, AWriteIsVisible2Later) {
  // Written by a dispatch in 1; read from there by one in 3, and not before. (In 2 the bank itself is busy.)
  auto program = [](int cycle) {
    return card({"east 0"}, "east 2",
                read("east 0", 0, "e0") +
                    queue("MEM east 1",
                          at(1, "write bank=1 address=9 stream=e0") + at(cycle, "read bank=1 address=9 stream=e1")) +
                    write("east 2", cycle + 1, "e1"));
  };
  EXPECT_EQ(run(program(3)), 3 + 1 + 1 + 2 + 20);
  EXPECT_EQ(firstFinding(assembleOrFail(program(2))),
            "queue MEM east 1, instruction 2, cycle 2: bank 1 is also accessed in this cycle by queue MEM east 1, "
            "instruction 1, cycle 1");
}

TEST(TspLatency, OnePositionForEveryFourSlices) {
  // Slice 14 to slice 40 takes 40 div 4 - 14 div 4 = 7 cycles, slice 0 to slice 43 takes 10; the read itself 1.
  expectOnly(1 + 7, [](int cycle) {
    return card({"east 14"}, "east 40", read("east 14", 0, "e3") + write("east 40", cycle, "e3"));
  });
  expectOnly(1 + 10, [](int cycle) {
    return card({"east 0"}, "east 43", read("east 0", 0, "e3") + write("east 43", cycle, "e3"));
  });
  expectOnly(1 + 10, [](int cycle) {
    return card({"west 43"}, "west 0", read("west 43", 0, "e3") + write("west 0", cycle, "e3"));
  });
}

TEST(TspLatency, ReadOperateWriteBack) {
  // VM: d = 1 + 9 + 2 + 2 floor(s / 4). Here: read 1, to the vector unit's edge 1 + s div 4, entry 4, operation 3, back
  // 1 + s div 4, write 2. The write is dispatched d - 2 after the read.
  for (int slice : {0, 3, 4, 17, 43}) {
    int toEdge = 1 + slice / 4, d = 1 + 9 + 2 + 2 * (slice / 4);
    std::string name = "east " + std::to_string(slice);
    auto program = [&](int operate, int cycle) {
      return card({name}, name,
                  read(name, 0, "w0", at(cycle, "write bank=1 address=0 stream=e0")) +
                      queue("VXM 0", at(operate, "copy type=i8 a=w0 to=e0")));
    };
    int operate = 1 + toEdge;
    EXPECT_EQ(expectOnly(d - 2, [&](int cycle) { return program(operate, cycle); }), 1 + d + 20) << slice;
    expectOnly(operate, [&](int cycle) { return program(cycle, cycle - operate + d - 2); });
  }
}

TEST(TspLatency, FromTheVectorUnitToTheLastSlice) {
  // VM has 19 from the vector unit to slice 43 including the write. Here the way from the edge is entry 4, operation 3,
  // 11 positions and write 2: 20, since the 9 that VM counts for the unit holds one position on either side of it.
  EXPECT_EQ(expectOnly(2 + 4 + 3 + 11,
                       [](int cycle) { // captured in the edge 2 after the read's capture
                         return card({"east 0"}, "east 43",
                                     read("east 0", 0, "w0") + queue("VXM 0", at(2, "copy type=i8 a=w0 to=e0")) +
                                         write("east 43", cycle, "e0"));
                       }),
            1 + 2 + 20 + 20);
}

TEST(TspLatency, AChainTakes3ForEachOperation) {
  // Units 0 to 3 of one row, eastward. The first takes the stream 2 after the read; each other is dispatched 3 later.
  for (int length : {1, 2, 3, 4}) {
    auto program = [&](int late, int last) {
      std::string text = read("east 0", 0, "w0");
      for (int unit = 0; unit < length; ++unit)
        text += queue("VXM " + std::to_string(unit),
                      at(2 + 3 * unit + (unit == length - 1 ? late : 0),
                         "neg type=i8 a=" + std::string(unit == 0 ? "w0" : "a" + std::to_string(unit - 1)) +
                             (unit == length - 1 ? " to=e0" : "")));
      return card({"east 0"}, "east 0",
                  text.insert(text.find(".queue VXM 0"), at(last, "write bank=1 address=0 stream=e0")));
    };
    int last = 2 + 4 + 3 * length + 1; // of the write: entry, operations, one position
    EXPECT_EQ(expectOnly(last, [&](int cycle) { return program(0, cycle); }), last + 1 + 2 + 20);
    expectOnly(0, [&](int late) { return program(late, last + late); });
  }
}

TEST(TspLatency, TranscendentalFunctionsTake3) {
  for (const char *operation : {"exp", "tanh", "rsqrt"})
    EXPECT_EQ(expectOnly(2 + 4 + 3 + 1,
                         [&](int cycle) {
                           return card({"east 0", "east 1"}, "east 2",
                                       read("east 0", 0, "w0") + read("east 1", 0, "w1") +
                                           queue("VXM 0", at(2, std::string(operation) + " type=f16 a=w0 to=e0")) +
                                           write("east 2", cycle, "e0"));
                         }),
              1 + 10 + 2 + 20);
}

TEST(TspLatency, SwitchUnit) {
  // Outward from slice 43: read 1, boundary 4. Back: latency, boundary 4. Streams e0 and so on come from slices 40..43,
  // 36..39, ... one position further in each, whose reads are dispatched that much earlier.
  struct {
    std::string instruction;
    int latency, streams;
  } rows[] = {
      {"shift unit=0 lanes=0 from=e0 to=w0", 4, 1},    {"shift unit=0 lanes=1 from=e0 to=w0", 20, 1},
      {"shift unit=0 lanes=-16 from=e0 to=w0", 20, 1}, {"select unit=0 a=e0 b=e1 mask=e2 to=w0", 4, 3},
      {"permute unit=0 from=e2 map=e0 to=w0", 20, 3},  {"distribute unit=0 from=e0 map=e1 to=w0", 2, 2},
      {"rotate unit=0 size=3 from=e0 to=w0", 4, 1},    {"transpose unit=0 from=e0 to=w0", 4, 16},
  };
  for (const auto &[instruction, latency, streams] : rows) {
    std::vector<std::string> slices;
    for (int slice = 43; static_cast<int>(slices.size()) < streams; --slice)
      if (slice != 28)
        slices.push_back("east " + std::to_string(slice));
    constexpr int start = 20; // dispatch of the reads of slices 40..43
    auto program = [&](int operate, int cycle) {
      std::string text;
      for (int stream = 0; stream < streams; ++stream)
        text +=
            read(slices[stream], start - (10 - std::stoi(slices[stream].substr(5)) / 4), "e" + std::to_string(stream));
      return card(slices, "east 26",
                  text + queue("SXM east 0", at(operate, instruction)) + write("east 26", cycle, "w0"));
    };
    // Slice 26 is at position 7, 4 within position 11.
    int operate = start + 1 + 4, end = operate + latency + 4 + 4;
    for (int cycle : {end - 1, end + 1})
      expectUndriven(program(operate, cycle));
    for (int late : {-1, 1})
      expectUndriven(program(operate + late, end + late));
    program::Program legal = assembleOrFail(program(operate, end));
    EXPECT_EQ(firstFinding(legal), "") << instruction; // `w` is no map: nothing but times
    auto estimate = target::find("tsp")->estimate(legal);
    ASSERT_TRUE(bool(estimate));
    EXPECT_EQ(estimate->cycles.value, end + 1 + 2 + 20) << instruction;
  }
}

TEST(TspLatency, The50CyclesFromTransposerToDistributor) {
  // SQ: transposer 4, boundary 4, 11 positions, 5 into the arithmetic unit, 3 operations of 3, 11 positions, boundary
  // 4, distributor 2: 50. Here the entry is 4, and the fifth cycle is that from dispatch to capture: 49 from the
  // capture of the transpose to the distributed result, 50 from its dispatch.
  constexpr int start = 20;
  std::vector<std::string> slices;
  std::string reads;
  for (int slice = 43; slices.size() < 16; --slice)
    if (slice != 28) {
      slices.push_back("east " + std::to_string(slice));
      reads += read(slices.back(), start - (10 - slice / 4), "e" + std::to_string(slices.size() - 1));
    }
  slices.push_back("east 26"); // the map, at position 7
  int transpose = start + 1 + 4, chain = transpose + 4 + 4 + 11, distribute = chain + 4 + 3 * 3 + 11 + 4;
  reads += read("east 26", distribute - 1 - 4 - 4, "e20");
  EXPECT_EQ(distribute + 2 - transpose, 49);
  auto program = [&](int first, int second, int cycle) {
    return card(slices, "east 25",
                reads + queue("SXM east 0", at(transpose, "transpose unit=0 from=e0 to=w0")) +
                    queue("VXM 0", at(first, "neg type=i8 a=w0")) + queue("VXM 1", at(first + 3, "neg type=i8 a=a0")) +
                    queue("VXM 2", at(first + 6, "neg type=i8 a=a1 to=e0")) +
                    queue("SXM east 1", at(second, "distribute unit=0 from=e0 map=e20 to=w5")) +
                    write("east 25", cycle, "w5"));
  };
  int end = distribute + 2 + 4 + 4;
  EXPECT_EQ(expectOnly(chain, [&](int cycle) { return program(cycle, distribute, end); }), end + 1 + 2 + 20);
  expectOnly(distribute, [&](int cycle) { return program(chain, cycle, end + cycle - distribute); });
  expectOnly(end, [&](int cycle) { return program(chain, distribute, cycle); });
}

// C = A[0] x B[0] + A[1] x B[1] + D, with 16 rows a tile: the second tile is in use for the very activation that
// finishes the sum.
//
// VM's 82 cycles from the first read of weights to the arithmetic unit: 4 (read 1, and 3 positions from slices 29..31
// to the outermost), 9 to the plane, install 3, multiply 13, accumulate 34, and 19 (4 from the plane to position 11, 11
// positions, entry 4). A sum needs two activations; the count holds for the one that finishes it, with the weights that
// it meets. The other meets the tile before, one cycle earlier. (Slice 28 is reserved: a stream comes from slice 27,
// one position further in.)
//
// VM's 76: an operand from slices 0..3 takes read 1, 1 position and entry 4 = 6, so it is read 76 after those weights.
std::string finish(int weights, int install, int activation, int operand, int add) {
  std::string text = R"(.target tsp
.machine groqcard
.input "A" i8[2,16]
.input "B" i8[2,16,320]
.input "D" i32[320]
.output "C" i32[320]
.entry "inference" "A" "B" "D" -> "C"
.layout input "A" bank=0 address=0 slices=e26
.axis dimension=0 extent=2 to=address step=1
.axis dimension=1 extent=16 to=lane step=1
.layout input "B" bank=0 address=0 slices=e27,e29-43
.axis dimension=0 extent=2 to=address step=1
.axis dimension=1 extent=16 to=slice step=1
.axis dimension=2 extent=320 to=lane step=1
.layout input "D" bank=0 address=0 slices=e0-3
.axis dimension=0 extent=320 to=lane step=1
.axis dimension=bytes extent=4 to=slice step=1
.layout output "C" bank=0 address=0 slices=e4-7
.axis dimension=0 extent=320 to=lane step=1
.axis dimension=bytes extent=4 to=slice step=1
.code "inference"
.chip 0
)";
  int stream = 0;
  for (int slice = 27; slice < 44; ++slice) {
    if (slice == 28)
      continue;
    int cycle = weights + (1 + slice / 4 - 8);
    text += queue("MEM east " + std::to_string(slice),
                  at(cycle - 20, "read bank=0 address=0 stream=e" + std::to_string(stream)) +
                      at(cycle, "read bank=0 address=1 stream=e" + std::to_string(stream)));
    ++stream;
  }
  int load = weights + 1 + 3 + 9;
  text += queue("MXM east 0.0", at(load - 20, "lw row=0") + at(load, "lw row=0"));
  text += queue("MXM east 0.1", at(load - 20, "iw rows=16 type=i8") + at(install, "iw rows=16 type=i8") +
                                    at(activation + 12, "acc mode=start sum=0") + "acc mode=finish sum=0\n");
  // Slice 26 is at position 7: read 1, 4 positions, 9.
  text += queue("MEM east 26", at(activation - 15, "read bank=0 address=0 step=1 stream=e20\nrepeat count=1"));
  text += queue("MXM east 0.2", at(activation - 1, "abc stream=e20 type=i8\nrepeat count=1"));
  for (int i = 0; i < 4; ++i)
    text += read("east " + std::to_string(i), operand, "w" + std::to_string(20 + i));
  text += queue("VXM 8", at(add, "add type=i32 a=w16 b=w20 to=e16"));
  for (int i = 0; i < 4; ++i)
    text += queue("MEM east " + std::to_string(4 + i),
                  at(add + 4 + 3 + 2, "write bank=0 address=0 stream=e" + std::to_string(16 + i)));
  return text;
}

TEST(TspLatency, The82And76CyclesOfAMatrixProduct) {
  constexpr int weights = 30, load = weights + 1 + 3 + 9, activation = load + 3;
  constexpr int inside = weights + 82, add = inside - 4, operand = weights + 76;
  Tensor a = Tensor::uninitialized(ElementType::i8, {2, 16}), b = Tensor::uninitialized(ElementType::i8, {2, 16, 320});
  Tensor d = Tensor::uninitialized(ElementType::i32, {320});
  for (int64_t i = 0; i < a.elements(); ++i)
    a.mutableData<int8_t>()[i] = static_cast<int8_t>(i * 37 + 11);
  for (int64_t i = 0; i < b.elements(); ++i)
    b.mutableData<int8_t>()[i] = static_cast<int8_t>(i * 101 + i / 320);
  for (int64_t i = 0; i < d.elements(); ++i)
    d.mutableData<int32_t>()[i] = static_cast<int32_t>(i * 1234567);
  auto value = [&](int tileOfSecond, int n) {
    int64_t sum = d.data<int32_t>()[n];
    for (int row = 0; row < 2; ++row)
      for (int k = 0; k < 16; ++k)
        sum += a.data<int8_t>()[row * 16 + k] * b.data<int8_t>()[((row == 0 ? 0 : tileOfSecond) * 16 + k) * 320 + n];
    return sum;
  };
  // Installed one cycle later, the second tile misses the activation.
  for (int late : {0, 1}) {
    program::Program program = assembleOrFail(finish(weights, load + late, activation, operand, add));
    EXPECT_EQ(firstFinding(program), "");
    auto result = target::find("tsp")->simulate(program, {{"A", a}, {"B", b}, {"D", d}}, {});
    ASSERT_TRUE(bool(result)) << report(result.takeError()).message;
    for (int n = 0; n < 320; ++n)
      ASSERT_EQ(result->outputs["C"].data<int32_t>()[n], value(1 - late, n)) << n;
    EXPECT_EQ(result->timeline.cycles.value, 1 + inside + 3 + 2 + 2 + 20);
  }
  for (int late : {-1, 1}) {
    expectUndriven(finish(weights, load, activation, operand + late, add));
    expectUndriven(finish(weights, load, activation, operand, add + late));
    expectUndriven(finish(weights, load, activation, operand + late, add + late)); // the sum is not there
  }
}

// Superlane s of the map, lanes 16 s and 16 s + 1, names a word, little-endian; every byte of the words says where it
// was.
TEST(TspUnits, GatherAndScatterMoveSuperlanes) {
  Tensor table = Tensor::uninitialized(ElementType::u8, {400, 320}),
         map = Tensor::uninitialized(ElementType::u8, {320});
  Tensor data = Tensor::uninitialized(ElementType::u8, {320});
  auto contents = [](int word, int lane) { return static_cast<uint8_t>(word * 7 + lane * 3 + word / 256); };
  auto wordOf = [](int superlane) { return (superlane * 131 + 5) % 400; };
  for (int word = 0; word < 400; ++word)
    for (int lane = 0; lane < 320; ++lane)
      table.mutableData<uint8_t>()[word * 320 + lane] = contents(word, lane);
  for (int lane = 0; lane < 320; ++lane) {
    map.mutableData<uint8_t>()[lane] = static_cast<uint8_t>(lane % 16 == 0   ? wordOf(lane / 16) % 256
                                                            : lane % 16 == 1 ? wordOf(lane / 16) / 256
                                                                             : 255);
    data.mutableData<uint8_t>()[lane] = static_cast<uint8_t>(255 - lane);
  }
  std::string head = R"(.target tsp
.machine groqcard
.input "table" u8[400,320]
.input "map" u8[320]
.input "data" u8[320]
)";
  std::string layouts = R"(
.layout input "table" bank=0 address=100 slices=e1
.axis dimension=0 extent=400 to=address step=1
.axis dimension=1 extent=320 to=lane step=1
.layout input "map" bank=0 address=0 slices=e0
.axis dimension=0 extent=320 to=lane step=1
.layout input "data" bank=0 address=0 slices=e3
.axis dimension=0 extent=320 to=lane step=1
)";
  auto outputs = [&](const std::string &text) -> std::vector<uint8_t> {
    auto result =
        target::find("tsp")->simulate(assembleOrFail(text), {{"table", table}, {"map", map}, {"data", data}}, {});
    if (result) {
      auto bytes = result->outputs["y"].bytes();
      std::vector<uint8_t> values;
      for (std::byte byte : bytes)
        values.push_back(std::to_integer<uint8_t>(byte));
      return values;
    }
    ADD_FAILURE() << report(result.takeError()).message;
    return std::vector<uint8_t>(400 * 320);
  };
  std::vector<uint8_t> gathered = outputs(
      head + ".output \"y\" u8[320]\n.entry \"inference\" \"table\" \"map\" \"data\" -> \"y\"" + layouts +
      ".layout output \"y\" bank=1 address=0 slices=e2\n.axis dimension=0 extent=320 to=lane step=1\n"
      ".code \"inference\"\n.chip 0\n" +
      read("east 0", 0, "e0") + queue("MEM east 1", at(1, "gather bank=0 address=100 rows=400 map=e0 stream=e1")) +
      write("east 2", 3, "e1"));
  for (int lane = 0; lane < 320; ++lane)
    ASSERT_EQ(gathered[lane], contents(wordOf(lane / 16), lane)) << lane;
  // The output lies where the table was.
  std::vector<uint8_t> scattered =
      outputs(head + ".output \"y\" u8[400,320]\n.entry \"inference\" \"table\" \"map\" \"data\" -> \"y\"" + layouts +
              ".layout output \"y\" bank=0 address=100 slices=e1\n.axis dimension=0 extent=400 to=address step=1\n"
              ".axis dimension=1 extent=320 to=lane step=1\n.code \"inference\"\n.chip 0\n" +
              read("east 0", 0, "e0") + read("east 3", 0, "e7") +
              queue("MEM east 1", at(1, "scatter bank=0 address=100 rows=400 map=e0 stream=e7")));
  for (int word = 0; word < 400; ++word)
    for (int lane = 0; lane < 320; ++lane)
      ASSERT_EQ(scattered[word * 320 + lane],
                word == wordOf(lane / 16) ? data.data<uint8_t>()[lane] : contents(word, lane))
          << word << ',' << lane;
}

TEST(TspLatency, Barrier35) {
  expectOnly(35 + 1, [](int cycle) {
    return card({"east 0"}, "east 1",
                queue("MEM east 0", "sync\nread bank=0 address=0 stream=e0\n") + queue("MXM east 0.0", "notify\n") +
                    write("east 1", cycle, "e0"));
  });
}

TEST(TspLatency, Gather2) {
  // The word that is gathered is word 0 in every superlane but the first, which asks for word 2 * 256 + 1: that is what
  // `w` says, so only times are looked at.
  auto program = [](int gather, int cycle) {
    std::string text = card({"east 0", "east 1"}, "east 2",
                            read("east 0", 0, "e0") +
                                queue("MEM east 1", at(gather, "gather bank=0 address=0 rows=1 map=e0 stream=e1")) +
                                write("east 2", cycle, "e1"));
    return text;
  };
  for (auto [gather, cycle] : {std::pair(1, 2), {1, 4}, {0, 2}, {2, 4}})
    expectUndriven(program(gather, cycle));
  program::Program legal = assembleOrFail(program(1, 1 + 2));
  EXPECT_EQ(firstFinding(legal), "");
  auto estimate = target::find("tsp")->estimate(legal);
  ASSERT_TRUE(bool(estimate));
  EXPECT_EQ(estimate->cycles.value, 3 + 1 + 2 + 20);
}

TEST(TspLatency, AScatterIsVisible2Later) {
  auto program = [](int cycle) {
    return card({"east 0", "east 1"}, "east 2",
                read("east 0", 0, "e0", "read bank=0 address=0 stream=e0\n") +
                    queue("MEM east 1", at(1, "scatter bank=0 address=0 rows=1 map=e0 stream=e0") +
                                            at(cycle, "read bank=0 address=0 stream=e1")) +
                    write("east 2", cycle + 1, "e1"));
  };
  EXPECT_EQ(firstFinding(assembleOrFail(program(3))), "");
  EXPECT_EQ(firstFinding(assembleOrFail(program(2))),
            "queue MEM east 1, instruction 2, cycle 2: bank 0 is also accessed in this cycle by queue MEM east 1, "
            "instruction 1, cycle 1");
}

TEST(TspLatency, Links217AndAVectorEvery24) {
  // Slice east 0 is at position 1: westward 1 to the vector unit, 11 and 4 to the switch unit west. Link 0 joins chips
  // 0 and 1. From the switch unit 4 to slice west 43, eastward.
  int sent = 1 + 1 + 11 + 4;
  std::string reads = read("east 0", 0, "w0", "repeat count=40\n");
  auto program = [&](const std::string &more, int received, int cycle) {
    return card({"east 0"}, "west 43", reads + queue("SXM west 0", at(sent, "send link=0 stream=w0") + more),
                queue("SXM west 0", at(received, "receive link=0 stream=e0") + (more.empty() ? ""
                                                                                             : "repeat count=1 "
                                                                                               "interval=24\n")) +
                    write("west 43", cycle, "e0"),
                true);
  };
  EXPECT_EQ(run(program("", sent + 217, sent + 217 + 4)), sent + 217 + 4 + 1 + 2 + 20);
  for (int late : {-1, 1}) {
    expectUndriven(program("", sent + 217 + late, sent + 217 + 4 + late));
    expectUndriven(program("", sent + 217, sent + 217 + 4 + late));
  }
  run(program("repeat count=1 interval=24\n", sent + 217, sent + 217 + 4));
  EXPECT_EQ(firstFinding(assembleOrFail(program("repeat count=1 interval=23\n", sent + 217, sent + 217 + 4))),
            "chip 0, queue SXM west 0, instruction 1, cycle 40: link 0 takes a vector every 24 cycles, also one by "
            "chip 0, queue SXM west 0, instruction 1, cycle 17");
}

TEST(TspLatency, Deskew252) {
  for (int periods : {1, 2}) {
    int start = (periods - 1) * 252 + 1;
    expectOnly(periods * 252 - 5, [&](int cycle) { // read 1, boundary 4
      return card({"east 43"}, "",
                  read("east 43", cycle, "e0") +
                      queue("SXM east 0", at(start, "deskew") + "shift unit=0 lanes=0 from=e0 to=w0\n"));
    });
  }
}

TEST(TspLatency, Fetch20) {
  // The buffer holds 1280 / 16 = 80 instructions. Fetched as number 70 in cycle 70, the next are there in 90: numbers
  // 71 to 79 must last until then.
  auto program = [](int idle) {
    std::string text;
    for (int i = 0; i < 100; ++i)
      text += i == 70 ? "ifetch\n" : i == 79 ? "nop cycles=" + std::to_string(idle) + "\n" : "nop cycles=1\n";
    return card({"east 0"}, "", queue("VXM 0", text));
  };
  EXPECT_EQ(firstFinding(assembleOrFail(program(90 - 79))), "");
  EXPECT_EQ(firstFinding(assembleOrFail(program(90 - 79 - 1))),
            "queue VXM 0, instruction 80, cycle 89: the queue's buffer is empty: this instruction has not been fetched "
            "yet");
}

} // namespace
} // namespace quadrille::tsp
