// How numerics folds what a kernel's combiner says.
#pragma once

#include "graph/KernelGraph.h"
#include "numerics/BlockEvaluator.h"

namespace quadrille::graph {

// The fold of a combiner; Sum for None, which combines nothing.
constexpr Combine combineOf(Combiner combiner) {
  switch (combiner) {
  case Combiner::None:
  case Combiner::Sum:
    return Combine::Sum;
  case Combiner::Product:
    return Combine::Product;
  case Combiner::Minimum:
    return Combine::Minimum;
  case Combiner::Maximum:
    return Combine::Maximum;
  case Combiner::MinimumNumber:
    return Combine::MinimumNumber;
  case Combiner::MaximumNumber:
    return Combine::MaximumNumber;
  case Combiner::And:
    return Combine::And;
  case Combiner::Or:
    return Combine::Or;
  case Combiner::Xor:
    return Combine::Xor;
  }
  return Combine::Sum;
}

} // namespace quadrille::graph
