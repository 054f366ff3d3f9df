// Where the cycles went, against programs whose cycles are derived here by hand. The figures of groqcard in cycles:
// dispatch to capture 1; read 1; write 2; a position 1; slices 0..3 at position 1, slice s at 1 + s div 4; the matrix
// unit takes at 20 and gives at 15; install 3; products after 13; 20 superlanes.
#include "base/File.h"
#include "target/tsp/TestProgram.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

#include "gtest/gtest.h"

namespace quadrille::tsp {
namespace {

using timeline::Attribution;
using timeline::Timeline;

// "fill 3, drain 20": causes with cycles.
std::string print(const Timeline &timeline, const std::vector<Cycles> &cycles) {
  std::vector<std::string> parts;
  for (auto [cause, count] : llvm::zip(timeline.attribution.causes, cycles))
    if (count.value > 0)
      parts.push_back(cause + " " + std::to_string(count.value));
  return llvm::join(parts, ", ");
}
std::string device(const Timeline &timeline, size_t number = 0) {
  return print(timeline, timeline.attribution.devices.at(number));
}
const Attribution::Share *shareOf(const Timeline &timeline, const std::string &name) {
  for (const Attribution::Share &share : timeline.attribution.kernels)
    if (name == (share.kernel == timeline::noKernel ? "" : timeline.kernels[share.kernel].name))
      return &share;
  return nullptr;
}
std::string node(const Timeline &timeline, const std::string &name) {
  const Attribution::Share *share = shareOf(timeline, name);
  return share ? print(timeline, share->cycles) : "";
}
// A word of x to y: read in 0, written by a dispatch in 3, there in 6.
const std::string copy = ".queue MEM west 0\n.origin 0\nread bank=0 address=0 stream=e0\n"
                         ".queue MEM east 0\n.origin 0\n.at 3\nwrite bank=0 address=0 stream=e0\n",
                  nodes = ".node \"first\" \"Identity\"\n.node \"second\" \"Identity\"\n";

TEST(TspCauses, ACopyFillsMovesAndDrains) {
  // The write is the movement; before it the word flies, behind it 3 + 20 cycles less its own.
  Timeline timeline = estimateOf(copyProgram(copy, nodes));
  EXPECT_EQ(device(timeline), "movement 1, fill 3, drain 22");
  EXPECT_EQ(node(timeline, "first"), device(timeline));
}

TEST(TspCauses, WorkThatComesLaterThanItsOperandsIsHeld) {
  // x is read again in 40. It was there all the time, so the second write could have been right behind the first.
  Timeline timeline = estimateOf(
      copyProgram(".queue MEM west 0\n.origin 0\nread bank=0 address=0 stream=e0\n.origin 1\n.at 40\n"
                  "read bank=0 address=0 stream=e0\n.queue MEM east 0\n.origin 0\n.at 3\nwrite bank=0 address=0 "
                  "stream=e0\n.origin 1\n.at 43\nwrite bank=1 address=0 stream=e0\n",
                  nodes));
  EXPECT_EQ(timeline.cycles.value, 43 + 3 + 20);
  EXPECT_EQ(node(timeline, "first"), "movement 1, fill 3");
  EXPECT_EQ(node(timeline, "second"), "movement 1, held 39, drain 22");
}

TEST(TspCauses, ANodeDrainsUntilTheNextFills) {
  // y, written by a dispatch in 3, can be read by one in 5 and then be written one position on, in east 4, by one in 7.
  // It is read in 10 and written by the dispatch in 12. So cycle 4 is the first node's, 5 and 6 are the flight that the
  // second cannot do without, and it is held in 7..11.
  Timeline timeline = estimateOf(copyProgram(
      ".queue MEM west 0\n.origin 0\nread bank=0 address=0 stream=e0\n.queue MEM east 0\n.origin 0\n.at 3\n"
      "write bank=0 address=0 stream=e0\n.origin 1\n.at 10\nread bank=0 address=0 stream=e1\n.queue MEM east 4\n"
      ".origin 1\n.at 12\nwrite bank=0 address=0 stream=e1\n",
      nodes));
  EXPECT_EQ(timeline.cycles.value, 12 + 3 + 20);
  EXPECT_EQ(node(timeline, "first"), "movement 1, fill 3, drain 1");
  EXPECT_EQ(node(timeline, "second"), "movement 1, held 5, fill 2, drain 22");
}

TEST(TspCauses, GapsOfARepeatAreItsOwn) {
  // Ten words, 24 cycles apart: nine gaps of 23.
  Timeline timeline = estimateOf(copyProgram(".queue MEM west 0\nread bank=0 address=0 stream=e0\nrepeat count=9 "
                                             "interval=24\n.queue MEM east 0\n.at 3\nwrite bank=0 address=0 stream=e0\n"
                                             "repeat count=9 interval=24\n"));
  EXPECT_EQ(device(timeline), "movement 10, fill 210, drain 22");
  EXPECT_EQ(node(timeline, ""), device(timeline)); // of no node
}

TEST(TspCauses, LongIdleTimesAndManyWindows) {
  // Words in 0, 1 and, three times the longest idle time later, in 196609; each is held until its queue is.
  Timeline timeline = estimateOf(copyProgram(
      ".queue MEM west 0\nread bank=0 address=0 stream=e0\nrepeat count=1\nnop cycles=65536\nnop cycles=65536\n"
      "nop cycles=65535\nread bank=0 address=0 stream=e0\n.queue MEM east 0\n.at 3\nwrite bank=0 address=0 stream=e0\n"
      "repeat count=1\nnop cycles=65536\nnop cycles=65536\nnop cycles=65535\nwrite bank=0 address=0 stream=e0\n"));
  EXPECT_EQ(timeline.cycles.value, 196609 + 3 + 3 + 20);
  EXPECT_EQ(device(timeline), "movement 3, held 196607, fill 3, drain 22");
}

TEST(TspCauses, VectorWorkComesBeforeMovementAndCopiesAreMovement) {
  // x passes the vector unit, one position on, in 3: dispatched in 2, the result is there 4 + 3 later, in east 0 in 11.
  // A copy to another word is written in 4 and in 2, in the very cycle of the operation.
  auto program = [](const std::string &operation) {
    return copyProgram(".queue MEM west 0\nread bank=0 address=0 stream=e0\n.queue VXM 0\n.at 2\n" + operation +
                       " type=i8 a=e0 to=e1\n.queue MEM east 0\n.at 10\nwrite bank=0 address=0 stream=e1\n"
                       ".queue MEM west 1\n.at 2\nwrite bank=0 address=0 stream=e0\n");
  };
  // West 1 is at the same position as west 0: it sees what that drives, in the very cycle, on dispatches from 1 on.
  std::string text = program("relu");
  text = edit(text, ".at 2", ".at 1", "MEM west 1");
  EXPECT_EQ(device(estimateOf(text)), "vector 1, movement 1, fill 1, drain 30");
  // The same in the cycle of the operation, by a second word.
  text = edit(program("relu"), "stream=e0", "stream=e0\nread bank=0 address=0 stream=e0", "MEM west 0");
  EXPECT_EQ(device(estimateOf(text)), "vector 1, fill 2, drain 30");
  EXPECT_EQ(device(estimateOf(edit(text, "relu", "copy"))), "movement 1, fill 2, drain 30");
}

// Sixteen rows of weights for a plane: read so that all are there in cycle 30, loaded and installed by dispatches in
// 29, in use by one of 32; x meets them in 32, and what they give is there for dispatches from 59 on in east 0.
std::string product(const std::string &rows, const std::string &type = "i8") {
  std::string queues = ".queue MEM west 0\n.at 10\nread bank=0 address=0 stream=e16\n"
                       ".queue MEM east 0\n.at 59\nwrite bank=0 address=0 stream=w16\n";
  std::vector<int> slices = {4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 29, 30, 31, 32};
  for (auto [stream, slice] : llvm::enumerate(slices))
    queues += ".queue MEM east " + std::to_string(slice) + "\n.at " + std::to_string(9 + slice / 4) +
              "\nread bank=0 address=0 stream=e" + std::to_string(stream) + "\n";
  queues += ".queue MXM east 0.0\n.at 29\nlw row=0\n.queue MXM east 0.1\n.at 29\niw rows=16 type=" + type +
            "\n.at 45\nacc mode=pass sum=0\n.queue MXM east 0.2\n.at 32\nabc stream=e16 type=" + type + "\n";
  return copyProgram(queues, ".weight \"w\" i8[16,320]\n.data " + rows +
                                 "\n.layout weight \"w\" bank=0 address=0 slices=e4-15,e29-32\n"
                                 ".axis dimension=0 extent=16 to=slice step=1\n"
                                 ".axis dimension=1 extent=320 to=lane step=1\n");
}
// Rows of zeros, with a byte in the lane `lane(row)`.
template <typename Lane> std::string rowsWith(const std::string &byte, Lane lane) {
  std::string rows;
  for (int row = 0; row < 16; ++row)
    for (int i = 0; i < 320; ++i)
      rows += i == lane(row) ? byte : "00";
  return rows;
}

TEST(TspCauses, InstallsAndProducts) {
  // The weights that take longest to come are read in 10, nothing keeps them from 0: in 19 they could be loaded. In
  // 29, 30 and 31 they are installed, and x is met in 32; 3 cycles behind the write and 20 more it is over.
  Timeline timeline = estimateOf(product(rowsWith("02", [](int row) { return row; })));
  EXPECT_EQ(timeline.cycles.value, 59 + 3 + 20);
  EXPECT_EQ(device(timeline), "matrix 1, install 3, held 10, fill 19, drain 49");
  // 16 x 320 products, of 4 planes x 320 x 320 in a cycle.
  ASSERT_TRUE(shareOf(timeline, ""));
  EXPECT_DOUBLE_EQ(shareOf(timeline, "")->peakCycles, 16.0 / (4 * 320));
}

TEST(TspCauses, ProductsThatPickLanesAreMovement) {
  auto device = [](const std::string &rows, const std::string &type = "i8") {
    return tsp::device(estimateOf(product(rows, type)));
  };
  const char *moves = "install 3, movement 1, held 10, fill 19, drain 49",
             *multiplies = "matrix 1, install 3, held 10, fill 19, drain 49";
  EXPECT_EQ(device(rowsWith("01", [](int row) { return 319 - row; })), moves);
  EXPECT_EQ(device(rowsWith("01", [](int row) { return row; }), "u8"), moves);
  EXPECT_EQ(device(rowsWith("01", [](int) { return -1; })), moves); // zeros
  // Two rows in a column are a sum. 1 in f16 has this high byte, which means nothing for integers.
  EXPECT_EQ(device(rowsWith("01", [](int row) { return row % 15; })), multiplies);
  EXPECT_EQ(device(rowsWith("3c", [](int row) { return row; })), multiplies);
  EXPECT_EQ(shareOf(estimateOf(product(rowsWith("01", [](int row) { return row; }))), "")->peakCycles, 0);
}

TEST(TspCauses, WhatTheProgramWritesIsNotKnown) {
  // A row of the tile is overwritten, by x that is read again in 60: the last cycles are those of this copy, which
  // could have been all over in 4.
  std::string text = product(rowsWith("01", [](int row) { return row; }));
  text = edit(text, "stream=e16", "stream=e16\n.at 60\nread bank=0 address=0 stream=e0", "MEM west 0");
  text = edit(text, "stream=e0", "stream=e0\n.at 64\nwrite bank=0 address=0 stream=e0", "MEM east 4");
  EXPECT_EQ(device(estimateOf(text)), "matrix 1, install 3, movement 1, held 41, fill 19, drain 22");
}

TEST(TspCauses, HalvesPickLanesByTheirHighBytes) {
  // Two tiles of 32 rows meet 20 activations each, dispatched from 88 and from 141 on. Weights are loaded from 32 on
  // and installed from 35 to 88, and the second tile on to 141, which comes before movement.
  std::string text = example("matmul_f16"), data;
  auto withWeights = [&](const std::string &diagonal) {
    data = "";
    for (int row = 0; row < 64; ++row)
      for (int column = 0; column < 64; ++column)
        data += row == column ? diagonal : "0000";
    return edit(edit(edit(text, ".input \"B\" f16[64,64]", ".weight \"B\" f16[64,64]\n.data " + data),
                     ".entry \"inference\" \"A\" \"B\"", ".entry \"inference\" \"A\""),
                ".layout input", ".layout weight", ".axis");
  };
  const char *multiplies = "matrix 40, install 89, fill 32, drain 156, idle 79";
  EXPECT_EQ(device(estimateOf(text)), multiplies);
  EXPECT_EQ(device(estimateOf(withWeights("0040"))), multiplies); // 2
  EXPECT_EQ(device(estimateOf(withWeights("003c"))),              // 1
            "install 109, movement 20, fill 32, drain 156, idle 79");
}

TEST(TspCauses, OfTheExamples) {
  // The barrier; reads from its end on; eight additions from 3 later on; the last word is there 11 later.
  EXPECT_EQ(device(estimateOf(example("vector_add"))), "vector 8, fill 3, drain 30, idle 35");
  // Weights are loaded in 32..39 and installed from 35 to 88 and on to 142, behind the activations of 88..193.
  EXPECT_EQ(device(estimateOf(example("matmul"))), "matrix 106, install 56, fill 32, drain 156, idle 79");
  // All chips have all cycles.
  Timeline chips = estimateOf(example("two_chips"));
  ASSERT_EQ(chips.attribution.devices.size(), 2u);
  std::vector<Cycles> sums(chips.attribution.causes.size());
  for (const std::vector<Cycles> &cycles : chips.attribution.devices) {
    Cycles all;
    for (auto [sum, count] : llvm::zip(sums, cycles)) {
      all += count;
      sum += count;
    }
    EXPECT_EQ(all, chips.cycles);
  }
  for (const Attribution::Share &share : chips.attribution.kernels)
    for (auto [sum, count] : llvm::zip(sums, share.cycles))
      sum -= count;
  EXPECT_EQ(sums, std::vector<Cycles>(sums.size()));
}

} // namespace
} // namespace quadrille::tsp
