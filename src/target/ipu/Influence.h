// Whether what two programs do differently can reach an output.
#pragma once

#include "target/ipu/Code.h"

#include "program/Program.h"

namespace quadrille::ipu {

// True: the outputs of all entry points are equal for all inputs. Both programs are legal, and differ in their code
// only. Bytes that may differ are followed through all steps: what only one of the programs does, and what vertices
// make of such bytes. What both write alike over them is equal again.
bool equalOutputs(const program::Program &program, const Code &before, const Code &after, const Architecture &machine);

} // namespace quadrille::ipu
