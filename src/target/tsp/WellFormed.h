// What can be said of a program without executing it: records, names and references are in range. The simulator refuses
// a program that is not well-formed; the checker reports the same findings first.
#pragma once

#include "target/Target.h"
#include "target/tsp/Layout.h"

namespace quadrille::tsp {

std::vector<target::Finding> wellFormed(const program::Program &program, const Code &code, const Architecture &machine);

// Dispatches of unit instructions, Repeats included.
uint64_t issueCount(const Queues &queues);

std::string overlapMessage(llvm::StringRef variable, const WordAddress &word);

} // namespace quadrille::tsp
