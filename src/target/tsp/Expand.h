// Elementwise expressions in what the vector unit has: functions that it lacks become operations and constants, and an
// expression that does not fit into one chain of arithmetic units becomes several, with values in memory between them.
#pragma once

#include "target/tsp/Chain.h"

namespace quadrille::tsp {

// The same function of the same inputs, with fewer kinds of instructions: no divisions and roots, no rounding,
// logarithms and error functions; what cannot be expanded stays. Divisions and square roots are within 4 units in the
// last place, the logarithm within 4, the error function within 2e-7.
BlockExpression expand(const BlockExpression &expression);

// The same without instructions whose operands are all constants.
BlockExpression foldConstants(const BlockExpression &expression);

// One chain: its inputs are reads of the whole expression, or results of earlier stages.
struct Stage {
  BlockExpression body;
  struct Input {
    std::optional<unsigned> read;   // of the whole expression
    unsigned stage = 0, result = 0; // else
  };
  std::vector<Input> inputs; // parallel to body.inputs
};
struct Stages {
  std::vector<Stage> list;
  // For each result of the whole expression: which stage gives it, and as which of its results.
  std::vector<std::pair<unsigned, unsigned>> results;
};
// Nothing, and `reason`, when some instruction cannot be had at all.
std::optional<Stages> splitIntoStages(const BlockExpression &expression, const Architecture &machine,
                                      std::string &reason);

} // namespace quadrille::tsp
