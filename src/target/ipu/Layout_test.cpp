// How boxes lie in buffers, and what is moved between two of them.
#include "target/ipu/Layout.h"

#include "llvm/ADT/STLExtras.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace quadrille::ipu {
namespace {

// Every element of the box, with its places in both buffers, as the walks go through them.
std::map<int64_t, int64_t> placesOf(llvm::ArrayRef<Walk> walks) {
  std::map<int64_t, int64_t> places; // from -> to
  for (const Walk &walk : walks) {
    std::vector<std::pair<int64_t, int64_t>> at = {{walk.from, walk.to}};
    std::vector<Walk::Loop> loops(walk.loops.begin(), walk.loops.end());
    loops.push_back({walk.run, 1, 1});
    for (const Walk::Loop &loop : loops) {
      std::vector<std::pair<int64_t, int64_t>> next;
      for (auto [from, to] : at)
        for (int64_t i = 0; i < loop.extent; ++i)
          next.emplace_back(from + i * loop.from, to + i * loop.to);
      at = next;
    }
    for (auto [from, to] : at)
      EXPECT_TRUE(places.try_emplace(from, to).second) << "an element is moved twice";
  }
  return places;
}

TEST(IpuLayout, rowsAreWholeWords) {
  // 3 x 5 halves: rows of 6. In groups of 4 of the first dimension: one group, four for each of 5 columns.
  Order rows = Order::rowMajor(2);
  Arrangement plain = rows.arrange({3, 5}, {3, 5}, 2);
  EXPECT_EQ(plain.elements, 18);
  EXPECT_EQ(plain.offsetOf(0, 2) + plain.offsetOf(1, 4), 16);
  Order grouped{{0, 1}, 0u, 4};
  Arrangement channels = grouped.arrange({3, 5}, {3, 5}, 2);
  EXPECT_EQ(channels.elements, 20);
  EXPECT_EQ(channels.offsetOf(0, 2) + channels.offsetOf(1, 4), 4 * 4 + 2);
}

TEST(IpuLayout, walksMoveEveryElementOnce) {
  // Channels 5 to 13 of 16, rows 1 and 2, all 3 columns: from groups of 4 to rows, and back.
  Arrangement grouped = Order{{0, 1, 2}, 0u, 4}.arrange({16, 4, 3}, {16, 4, 3}, 1);
  Arrangement plain = Order::rowMajor(3).arrange({9, 2, 3}, {16, 4, 3}, 1);
  Box common = {{5, 14}, {1, 3}, {0, 3}}, whole = {{0, 16}, {0, 4}, {0, 3}};
  std::map<int64_t, int64_t> expected;
  for (int64_t c = 5; c < 14; ++c)
    for (int64_t y = 1; y < 3; ++y)
      for (int64_t x = 0; x < 3; ++x)
        expected[c / 4 * 48 + y * 12 + x * 4 + c % 4] = (c - 5) * 6 + (y - 1) * 3 + x;
  EXPECT_EQ(placesOf(walksOf(common, grouped, whole, plain, common)), expected);
  std::map<int64_t, int64_t> back;
  for (auto [from, to] : expected)
    back[to] = from;
  EXPECT_EQ(placesOf(walksOf(common, plain, common, grouped, whole)), back);
}

// Channels 4 to 28 of 32, two places: from groups of 16 to groups of 4, and back.
TEST(IpuLayout, groupsWithinGroups) {
  Arrangement wide = Order{{0, 1}, 0u, 16}.arrange({32, 2}, {32, 2}, 2);
  Arrangement narrow = Order{{0, 1}, 0u, 4}.arrange({24, 2}, {32, 2}, 2);
  Box common = {{4, 28}, {0, 2}}, whole = {{0, 32}, {0, 2}};
  std::map<int64_t, int64_t> expected, back;
  for (int64_t c = 4; c < 28; ++c)
    for (int64_t x = 0; x < 2; ++x) {
      int64_t from = c / 16 * 32 + x * 16 + c % 16, to = (c - 4) / 4 * 8 + x * 4 + c % 4;
      expected[from] = to;
      back[to] = from;
    }
  auto walks = walksOf(common, wide, whole, narrow, common);
  EXPECT_EQ(placesOf(walks), expected);
  for (const Walk &walk : walks)
    EXPECT_EQ(walk.run, 4);
  EXPECT_EQ(placesOf(walksOf(common, narrow, common, wide, whole)), back);
}

// Channels 4 to 28 of 32, two places: from groups of 4 to groups of 6, and to groups of 4 that begin elsewhere, and
// back.
TEST(IpuLayout, groupsBesideGroups) {
  Box whole = {{0, 32}, {0, 2}}, common = {{4, 28}, {0, 2}}, shifted = {{2, 30}, {0, 2}};
  Arrangement wide = Order{{0, 1}, 0u, 4}.arrange({32, 2}, {32, 2}, 2);
  for (auto [group, begin] : {std::pair(6, 4), std::pair(6, 2), std::pair(4, 2)}) {
    const Box &box = begin == 4 ? common : shifted;
    Arrangement other = Order{{0, 1}, 0u, group}.arrange({box[0].count(), 2}, {32, 2}, 2);
    std::map<int64_t, int64_t> expected, back;
    for (int64_t c = 4; c < 28; ++c)
      for (int64_t x = 0; x < 2; ++x) {
        int64_t from = c / 4 * 8 + x * 4 + c % 4,
                to = (c - begin) / group * 2 * group + x * group + (c - begin) % group;
        expected[from] = to;
        back[to] = from;
      }
    EXPECT_EQ(placesOf(walksOf(common, wide, whole, other, box)), expected) << group << ' ' << begin;
    EXPECT_EQ(placesOf(walksOf(common, other, box, wide, whole)), back) << group << ' ' << begin;
  }
}

// Of 8 channels in groups of 4, rows -1 to 3 and columns -1 to 2: all places but those of rows 0 to 2, columns 0 and 1
// of the first 6 channels; and none where there is a place beside each element.
TEST(IpuLayout, placesAroundAPart) {
  Arrangement arrangement = Order{{0, 1, 2}, 0u, 4}.arrange({8, 4, 3}, {6, 3, 2}, 2);
  Box box = {{0, 8}, {-1, 3}, {-1, 2}}, inside = {{0, 6}, {0, 3}, {0, 2}};
  std::set<int64_t> expected, filled;
  for (int64_t c = 0; c < 8; ++c)
    for (int64_t y = 0; y < 4; ++y)
      for (int64_t x = 0; x < 3; ++x)
        if (c >= 6 || y < 1 || x < 1)
          expected.insert(c / 4 * 48 + y * 12 + x * 4 + c % 4);
  auto walks = placesAround(inside, arrangement, box);
  ASSERT_TRUE(walks);
  for (auto [from, to] : placesOf(*walks)) {
    EXPECT_EQ(from, to);
    filled.insert(to);
  }
  EXPECT_EQ(filled, expected);
  walks = placesAround({{0, 0}, {0, 0}, {0, 0}}, arrangement, box);
  ASSERT_TRUE(walks);
  EXPECT_EQ(placesOf(*walks).size(), 96u);
  arrangement.holes.push_back({2, 96});
  arrangement.elements *= 2;
  EXPECT_FALSE(placesAround(inside, arrangement, box));
}

TEST(IpuLayout, contiguousRowsAreOneRun) {
  Arrangement plain = Order::rowMajor(2).arrange({4, 8}, {4, 8}, 2);
  Box all = {{0, 4}, {0, 8}};
  auto walks = walksOf(all, plain, all, plain, all);
  ASSERT_EQ(walks.size(), 1u);
  EXPECT_EQ(walks[0].run, 32);
  EXPECT_TRUE(walks[0].loops.empty());
}

// Against all blocks of 32 x 28 x 28 points that 1,472 tiles can have.
TEST(IpuLayout, evenSplitsAreTheSmallest) {
  int64_t fewest = 32 * 28 * 28;
  for (int64_t a = 1; a <= 32; ++a)
    for (int64_t b = 1; b <= 28; ++b)
      for (int64_t c = 1; c <= 28; ++c)
        if (ceilDivide(32, a) * ceilDivide(28, b) * ceilDivide(28, c) <= 1472)
          fewest = std::min(fewest, a * b * c);
  const std::vector<int64_t> extents = {32, 28, 28};
  std::vector<Split> splits = evenSplits(extents, 1472, 0);
  ASSERT_EQ(splits.size(), 3u);
  int64_t points = 1, parts = 1;
  for (auto [split, extent] : llvm::zip_equal(splits, extents)) {
    EXPECT_EQ(split.parts, ceilDivide(extent, split.block));
    points *= split.block;
    parts *= split.parts;
  }
  EXPECT_EQ(points, fewest);
  EXPECT_LE(parts, 1472);
  EXPECT_EQ(evenSplits({5}, 1, 1), (std::vector<Split>{{1, 5, 0}}));
  // Four parts of 4 x 4 are rows of 4, or as many squares of two runs each.
  EXPECT_EQ(evenSplits({4, 4}, 4, 1), (std::vector<Split>{{4, 1, 0}, {1, 4, 0}}));
}

TEST(IpuLayout, partsCoverTheValueOnce) {
  Layout layout;
  layout.type = ElementType::f16;
  layout.wordBytes = 4;
  layout.shape = {7, 10};
  layout.order = Order::rowMajor(2);
  layout.splits = {{4, 2, 3}, {3, 4, 1}};
  layout.arrange();
  std::set<std::pair<int64_t, int64_t>> seen;
  std::set<uint32_t> tiles;
  layout.forEachPart([&](uint32_t tile, const Box &box) {
    EXPECT_TRUE(tiles.insert(tile).second);
    EXPECT_EQ(layout.boxOf(tile), box);
    for (int64_t i = box[0].begin; i < box[0].end; ++i)
      for (int64_t k = box[1].begin; k < box[1].end; ++k)
        EXPECT_TRUE(seen.insert({i, k}).second);
  });
  EXPECT_EQ(seen.size(), 70u);
  EXPECT_EQ(tiles.size(), 12u);
  EXPECT_EQ(layout.lastTile(), 11u);
  // Columns 3 and 4 of row 6: those of two tiles, of the last row of parts.
  std::vector<uint32_t> found;
  layout.forEachMeeting({{6, 7}, {3, 5}}, [&](uint32_t tile, const Box &, const Box &) { found.push_back(tile); });
  EXPECT_EQ(found, (std::vector<uint32_t>{9, 10}));
}

} // namespace
} // namespace quadrille::ipu
