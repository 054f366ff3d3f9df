// Kernels that the compiler has no program for, in terms of those that it has.
#pragma once

#include "graph/Contraction.h"

namespace quadrille::tsp {

// A gather or scatter whose indices are known: it only moves elements.
bool isKnownMove(const graph::KernelGraph &graph, const graph::Kernel &kernel);

// A pick of rows by computed indices: memory's own gathers do it.
bool isComputedPick(const graph::KernelGraph &graph, const graph::Kernel &kernel);

// Of a convolution of floats: each channel of the result comes from one of the operand's (depthwise).
bool channelsApart(const graph::KernelGraph &graph, const graph::Kernel &kernel, const graph::Contraction &contraction);

// A contraction that the matrix unit has: of floats, or of 8-bit integers without zero points. Other contractions are
// reductions like any other.
bool isMatrixProduct(const graph::KernelGraph &graph, const graph::Kernel &kernel);

// An attribute of sums in normalizations, by how many bits their terms may exceed f16: those of a softmax are at most
// 1, those of a layer's squares at most what the squares of f16 can be. Of values of f32
// they are taken for at most 2^31, of values up to 46,328; where one is larger, its row's results are no numbers.
inline constexpr char termsOfSum[] = "terms";

// The graph, which still has its composites, with that attribute.
graph::KernelGraph boundSums(const graph::KernelGraph &graph);

// The graph, which has no composites: with loops unrolled, without kernels that write no element, with structured
// kernels in the place of those with other indices that are computed, with f32 in the place of bf16, and with integer
// products without zero points.
graph::KernelGraph lower(const graph::KernelGraph &graph);

} // namespace quadrille::tsp
