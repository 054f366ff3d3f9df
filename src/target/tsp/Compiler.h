// From kernels to a program: where values lie in memory (Placement.h), what each kernel becomes, and when it runs
// (Timetable.h). An elementwise kernel streams rows through a chain of arithmetic units (Chain.h); a product installs
// one tile of weights after the other and streams rows of its first operand through them; elements move between lanes
// through the switch unit, or by products with tiles of zeros and ones. What is too large for one chip is cut into
// consecutive parts (Partition.h), one for each chip.
#pragma once

#include "graph/PermuteValues.h"
#include "target/Stages.h"
#include "target/Target.h"
#include "target/tsp/Architecture.h"
#include "target/tsp/TapPlan.h"

namespace quadrille::tsp {

// The type in which the machine holds values of a type; nothing when it does not.
std::optional<ElementType> machineType(ElementType type);

// A box of a model's output that an output of a machine graph is.
struct OutputPart {
  size_t output = 0;
  Shape begin; // by the value's dimensions, in the order in which they lie in memory
};

// A graph as the machine is to execute it.
struct MachineGraph {
  graph::KernelGraph graph;
  std::vector<OutputPart> outputs;      // of the graph
  std::vector<graph::Permutation> ends; // orders of the dimensions of the model's inputs, then of its outputs
  std::vector<Packing> packings;        // by value: how it lies in memory
};

// The graph without composites, loops, and kernels with computed indices (Lower.h), with the types in which the machine
// holds values: 64-bit integers as 32-bit ones, what products read as f16; with dimensions in the order in which values
// lie in memory. A mismatch error names a value of a type that the machine does not have.
llvm::Expected<MachineGraph> machineGraph(const graph::KernelGraph &graph, const Architecture &machine);

// Of a kernel of a machine graph: empty when the compiler has what it needs, else the reason.
std::string whyNot(const graph::KernelGraph &graph, const graph::Kernel &kernel, const Architecture &machine);

// The program for a machine graph whose kernels all can be had, on `chips` chips, or for 0 on the fewest on which it
// fits. `program` holds the variables of its inputs and outputs, in that order. Mismatch errors: it does not fit, with
// the memory that it needs (that its stage needs, if they are given) and the chips that would do.
llvm::Expected<program::Program> compileGraph(const MachineGraph &graph, const Architecture &machine,
                                              program::Program program, int64_t chips,
                                              const target::GivenStages &given = {});

} // namespace quadrille::tsp
