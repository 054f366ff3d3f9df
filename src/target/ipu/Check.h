// Whether a program is legal. What can be said without following it is said first (wellFormed); the simulator refuses
// what is not well-formed, and the checker finds the rest.
#pragma once

#include "target/Target.h"
#include "target/ipu/Code.h"

namespace quadrille::ipu {

// Records and references are in range, addresses within the memory of their tiles, Repeats are closed.
std::vector<target::Finding> wellFormed(const program::Program &program, const Code &code, const Architecture &machine);

// All of that, and:
// - vertices that run at the same time on a tile: none writes what another reads or writes, and none overlaps itself
//   but in place;
// - transfers of an exchange go from tile to tile in whole words, none writes what another transfer reads or writes;
// - nothing is read that has not been written;
// - code, vertices' state and data of each tile fit into its memory, code into the part that can be executed.
target::Verdict check(const program::Program &program, const Code &code, const Architecture &machine);

} // namespace quadrille::ipu
