// Elementwise expressions in what the vector unit has: functions that it lacks become operations and constants, and an
// expression that does not fit into one chain of arithmetic units becomes several, with values in memory between them.
#pragma once

#include "target/tsp/Chain.h"

namespace quadrille::tsp {

// The same function of the same inputs in the instructions that the vector unit has: divisions and roots, rounding,
// logarithms, powers, trigonometry and so on are expanded (FunctionBuilder.h says how exactly).
BlockExpression expand(const BlockExpression &expression);

// The same without instructions on which no result depends.
BlockExpression withoutUnused(const BlockExpression &expression);

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
// Empty when every instruction can be had by itself, so that stages are found; else why not.
std::string whyNoStages(const BlockExpression &expression, const Architecture &machine);
// Nothing, and `reason`, when some instruction cannot be had at all.
std::optional<Stages> splitIntoStages(const BlockExpression &expression, const Architecture &machine,
                                      std::string &reason);

} // namespace quadrille::tsp
