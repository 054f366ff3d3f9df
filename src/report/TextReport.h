// Profiles as text.
#pragma once

#include "timeline/Timeline.h"

namespace llvm {
class raw_ostream;
} // namespace llvm

namespace quadrille::reports {

// Totals, the categories, the tracks used most and the kernels that took longest (at most `rows` of each), and the
// assumed machine figures behind the cycles.
void printProfile(const timeline::Timeline &timeline, llvm::raw_ostream &os, size_t rows = 20);

} // namespace quadrille::reports
