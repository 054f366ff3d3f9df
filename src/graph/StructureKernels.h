// Unstructured kernels as structured ones, for targets without instructions for them. Indices become comparisons:
//
//   y[j] = x[index[j]]     becomes   y[j] = or over e of (index[j] == e ? bits of x[e] : 0)
//
// so a gather from n places takes n elementwise steps; ranks for sort and top-k compare every pair; an arg-reduction
// is the extremum and then the smallest or largest index at which it stands; a running sum doubles its reach step by
// step.
#pragma once

#include "graph/KernelGraph.h"

#include "llvm/ADT/STLFunctionalExtras.h"

namespace quadrille::graph {

// The graph with structured kernels (and reshapes) in place of every gather, gather_elements, gather_nd,
// scatter_elements, scatter_nd, arg_reduce, top_k, sort, cumulative and random_bits for which `keep` is false; those in
// the bodies of composites and scans stay. An index outside its extent gives zero bits, or changes nothing, where
// the kernel would be an error. Floating-point running sums of narrow types are taken in f32.
KernelGraph structureKernels(KernelGraph graph, llvm::function_ref<bool(const KernelGraph &, const Kernel &)> keep);

} // namespace quadrille::graph
