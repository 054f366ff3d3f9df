// From kernels to a program. Each value lies on a grid of boxes over the tiles (Layout.h). For every kernel the
// compiler chooses how its loops are shared by the tiles; what a tile needs of an operand and has not comes in an
// exchange before the vertices run. A contraction runs on the matrix units, its sums split among tiles where that is
// quicker.
#pragma once

#include "target/Stages.h"
#include "target/Target.h"
#include "target/ipu/Architecture.h"
#include "target/ipu/CycleModel.h"
#include "target/ipu/Lower.h"

namespace quadrille::ipu {

// Of a kernel of a machine graph: empty when the compiler has what it needs, else the reason.
std::string whyNot(const graph::KernelGraph &graph, const graph::Kernel &kernel);

// Whether the compiler has the loops of a machine graph repeated: slices that are stacked are whole words.
bool canRepeat(const graph::KernelGraph &graph);

// The program for a machine graph whose kernels all can be had. `program` holds the variables of its inputs and
// outputs, in that order. `ipus` 0: the fewest that do. Mismatch errors: it does not fit, with the worst tile (of the
// stage that does not, if they are given), what fills it and what would help.
llvm::Expected<program::Program> compileGraph(const graph::KernelGraph &graph, const Architecture &machine,
                                              const CycleModel &cycles, const Precision &precision,
                                              program::Program program, int64_t ipus,
                                              const target::GivenStages &given = {});

} // namespace quadrille::ipu
