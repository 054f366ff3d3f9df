#include "target/tsp/Progression.h"

#include "gtest/gtest.h"

#include <vector>

namespace quadrille::tsp {
namespace {

// Against counting: all pairs of small progressions, with coprime, equal and multiple intervals.
TEST(TspProgression, CommonIndicesAreThoseOfEqualValues) {
  int64_t pairs = 0, several = 0;
  for (int64_t interval = 1; interval <= 12; ++interval)
    for (int64_t count = 1; count <= 14; ++count)
      for (int64_t otherFirst = -25; otherFirst <= 60; ++otherFirst)
        for (int64_t otherInterval : {1, 2, 3, 4, 6, 7, 12})
          for (int64_t otherCount : {1, 2, 5, 13}) {
            Progression a{10, interval, count}, b{otherFirst, otherInterval, otherCount};
            std::vector<int64_t> expected, found;
            for (int64_t k = 0; k < count; ++k)
              for (int64_t j = 0; j < otherCount; ++j)
                if (a.at(k) == b.at(j))
                  expected.push_back(k);
            if (auto common = commonIndices(a, b))
              for (int64_t i = 0; i < common->count; ++i)
                found.push_back(common->at(i));
            ASSERT_EQ(found, expected) << interval << " " << count << " " << otherFirst << " " << otherInterval << " "
                                       << otherCount;
            ++pairs;
            several += expected.size() > 1;
          }
  EXPECT_GT(several, pairs / 20);
}

// Cycles up to 2^48, intervals up to 2^31. Both hold 2^48, and after it every multiple of the product of the intervals,
// which are coprime.
TEST(TspProgression, CommonIndicesOfLargeValues) {
  int64_t interval = (int64_t(1) << 31) - 1, other = int64_t(1) << 31, start = int64_t(1) << 48;
  Progression a{start - 5 * interval, interval, 20}, b{start - 3 * other, other, 1000};
  auto common = commonIndices(a, b);
  ASSERT_TRUE(common.has_value());
  EXPECT_EQ(common->first, 5);
  EXPECT_EQ(common->count, 1);
}

} // namespace
} // namespace quadrille::tsp
