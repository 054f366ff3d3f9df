// The legality check: walks a program without executing it and without the simulator's code. It works on runs of
// issues: sorts what the runs do to each channel, memory slice and part of a unit, compares neighbours, and follows the
// matrix planes in order. It shares with the simulator the figures (Architecture), the records (Code, Layout,
// WellFormed), what instructions do to channels (Effects) and the wording (Hazard).
#pragma once

#include "target/Target.h"
#include "target/tsp/Code.h"

namespace quadrille::tsp {

// Findings in order of time, the first ones of each entry point.
target::Verdict check(const program::Program &program, const Code &code, const Architecture &machine);

} // namespace quadrille::tsp
