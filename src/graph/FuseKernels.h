// Rewrites of the kernel list before a target plans: fewer passes over memory, the same arithmetic.
#pragma once

#include "graph/KernelGraph.h"

#include "llvm/ADT/STLFunctionalExtras.h"

namespace quadrille::graph {

// A read of what `move`, a structured kernel that only moves elements, makes as a read of what it moves; nothing when
// the kernel is another or no map says it.
std::optional<Read> readThrough(const KernelGraph &graph, const Kernel &move, const Read &read);

// Puts an elementwise kernel into the one elementwise kernel that reads its result, while the body has at most
// `longestBody` instructions.
void fuseElementwise(KernelGraph &graph, size_t longestBody);

// A body in place of another one with the same inputs and results, if the target has a better one.
using RewriteBody = llvm::function_ref<std::optional<BlockExpression>(const BlockExpression &body)>;

// Puts the elementwise kernels that lead from bytes to a kernel with a result of bytes into that one, where `rewrite`
// has a body for all of it.
void fuseBetweenBytes(KernelGraph &graph, RewriteBody rewrite);

// Whether the target can execute a contraction with the reads and the write that it now has.
using CanHave = llvm::function_ref<bool(const KernelGraph &graph, const Kernel &kernel)>;

// Contractions read through kernels that only move elements, and write where a permutation of their result would, where
// the target can have that.
void absorbMoves(KernelGraph &graph, CanHave canHave);

} // namespace quadrille::graph
