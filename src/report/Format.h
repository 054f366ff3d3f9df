// Numbers and tables as all text reports write them.
#pragma once

#include "timeline/Timeline.h"

namespace llvm {
class raw_ostream;
} // namespace llvm

namespace quadrille::reports {

// "12.345 us", in the largest of s, ms, us and ns of which there is at least one.
std::string duration(double seconds);

// "1.23 G" of a count, by powers of 1000.
std::string scaled(double value);

// "2 chips", "4 replicas of 2 chips"
std::string chipsText(int64_t chips, int64_t replicas);

// "a run every 34 cycles, 26470588 a second": how closely runs can follow each other on the device; of several replicas
// the runs of all are counted. Empty where a run is done before the next one begins.
std::string steadyState(const timeline::Timeline &timeline);

// Columns as wide as their widest cell; the first to the left, the others to the right. The title above and the note
// below it where there is one.
void printTable(const timeline::Table &table, llvm::raw_ostream &os);

} // namespace quadrille::reports
