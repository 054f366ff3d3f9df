// What an entry point computes, symbolically: a hash of which bytes of which variables go through which operations into
// which byte of which output. Two programs with equal digests give equal outputs for all inputs (up to collisions of 64
// bits).
#pragma once

#include "target/tsp/Code.h"

#include <optional>

namespace quadrille::tsp {

struct Digest {
  uint64_t outputs = 0;
  bool operator==(const Digest &) const = default;
};

// Of each entry point; nothing when the program is not legal, or larger than what is followed issue by issue: 2^26
// issues, and as many words that they reach.
std::optional<std::vector<Digest>> digest(const program::Program &program, const Code &code,
                                          const Architecture &machine);

} // namespace quadrille::tsp
