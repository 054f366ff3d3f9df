// Mixing of bits, for hashes and counter-based random values. Not for cryptography.
#pragma once

#include <cstdint>

namespace quadrille {

// Steele, Lea and Flood's SplitMix64 (OOPSLA 2014): the increment of its state, and the bijection that turns a state
// into an output.
constexpr uint64_t splitMixIncrement = 0x9e3779b97f4a7c15;

constexpr uint64_t splitMix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

} // namespace quadrille
