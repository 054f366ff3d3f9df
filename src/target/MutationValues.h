// How mutations choose what they change, and into what.
#pragma once

#include "base/Mix.h"

#include <cstdint>

namespace quadrille::target {

// SplitMix64: the same sequence everywhere.
class Random {
public:
  explicit Random(uint64_t seed) : state(seed) {}
  uint64_t next() { return splitMix(state += splitMixIncrement); }
  uint64_t below(uint64_t count) { return next() % count; }

private:
  uint64_t state;
};

// Another value of a field: a neighbour, one within the range, or (rarely) one just outside.
inline int64_t another(Random &random, int64_t value, int64_t lowest, int64_t highest) {
  int64_t result = value;
  while (result == value)
    switch (random.below(8)) {
    case 0:
    case 1:
      result = value + 1;
      break;
    case 2:
    case 3:
      result = value - 1;
      break;
    case 4:
      result = highest + 1;
      break;
    default:
      result = lowest + static_cast<int64_t>(random.below(static_cast<uint64_t>(highest - lowest) + 1));
      if (lowest == highest)
        result = highest + 1;
    }
  return result;
}

} // namespace quadrille::target
