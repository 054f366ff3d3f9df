// Machines as text for people and as JSON for programs.
#pragma once

#include "machine/Machine.h"

namespace llvm {
class raw_ostream;
} // namespace llvm

namespace quadrille::machine {

// One row per machine found: name, architecture, chips, figures, how many of them are assumed, description. A file that
// does not load is listed with its error.
void describeMachines(llvm::raw_ostream &os, bool json);

// Every figure with value, unit, status, range and source, in the order of the schema and grouped by the first word of
// its key; assumed ones are marked. JSON gives values in the schema's units and adds the meaning of each figure.
void describeMachine(const Machine &machine, llvm::raw_ostream &os, bool json);

} // namespace quadrille::machine
