// The legality check: walks a program without executing it and without the simulator's code. It expands the queues,
// resolves every stream read to its driver and every memory read to its write by sorting, and follows the matrix planes
// in order. It shares with the simulator the figures (Architecture), the records (Code, Layout, WellFormed) and the
// wording (Hazard).
#pragma once

#include "target/Target.h"
#include "target/tsp/Code.h"

#include <optional>

namespace quadrille::tsp {

// Findings in order of time, the first ones of each entry point.
target::Verdict check(const program::Program &program, const Code &code, const Architecture &machine);

// What an entry point computes, symbolically: a hash of which bytes of which variables go through which operations into
// which byte of which output. Two programs with equal digests give equal outputs for all inputs (up to collisions of 64
// bits). Nothing when the program is not legal.
struct Digest {
  uint64_t outputs = 0;
  bool operator==(const Digest &) const = default;
};
std::optional<std::vector<Digest>> digest(const program::Program &program, const Code &code,
                                          const Architecture &machine);

} // namespace quadrille::tsp
