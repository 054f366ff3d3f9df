// What a linalg operation says about the kernel that it becomes: access maps, reductions, kind.
#pragma once

#include "graph/KernelGraph.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"

#include "llvm/ADT/SmallPtrSet.h"

namespace quadrille::graph {

// The map that indexes each dimension by the loop of its number.
AccessMap identityMap(size_t rank);

// Accesses from affine expressions. `loops` gives the kernel's loop for each dimension of the map, nullopt where the
// dimension's only index is 0. Nullopt where an expression is not linear.
std::optional<AccessMap> accessMap(mlir::AffineMap map, llvm::ArrayRef<std::optional<unsigned>> loops);

// outer(inner(point)): substitutes the dimensions of `inner` for the loops that `outer` names.
AccessMap compose(const AccessMap &outer, const AccessMap &inner);

// For a broadcast or transpose, each element of whose result is one element of its operand: which one.
std::optional<mlir::AffineMap> copiedThrough(mlir::linalg::LinalgOp op);

// Only initial values of reductions read it, so that it needs no kernel of its own.
bool onlyInitializes(mlir::linalg::LinalgOp op);

// The reduction `yield combine(accumulator, element)`, through bitcasts of the accumulator and of the result.
struct Reduction {
  Combiner combiner = Combiner::None;
  mlir::Value element;
  llvm::SmallPtrSet<mlir::Operation *, 4> skipped; // the combination itself, which the kernel's combiner stands for
};
std::optional<Reduction> matchReduction(mlir::BlockArgument accumulator, mlir::Value yielded, ElementType type);

// Sets kind, operation (where it has none) and numeric of a structured kernel that comes from `op`.
void recognizeKind(const KernelGraph &graph, Kernel &kernel, mlir::Operation &op);

} // namespace quadrille::graph
