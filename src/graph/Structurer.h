// The parts of structureKernels: each replaces the rewriter's current kernel.
#pragma once

#include "graph/KernelRewriter.h"

namespace quadrille::graph {

// Unsigned integers (or truth values) with a type's bits: what elements that are not computed with are combined as.
ElementType bitsType(ElementType type);
// A register with its bits.
Register bitsOf(BodyBuilder &body, Register value, ElementType type);
// Elements of `bits` as the type of the existing value `to`, which has their shape's elements in their order.
void fromBits(KernelRewriter &rewriter, ValueId bits, ValueId to);

// StructureIndexed.cpp
void structureGather(KernelRewriter &rewriter);
void structureGatherElements(KernelRewriter &rewriter);
void structureGatherNd(KernelRewriter &rewriter);
void structureScatterElements(KernelRewriter &rewriter);
void structureScatterNd(KernelRewriter &rewriter);

// StructureOrder.cpp
void structureArgReduce(KernelRewriter &rewriter);
void structureOrder(KernelRewriter &rewriter); // top_k and sort
void structureCumulative(KernelRewriter &rewriter);

// StructureRandom.cpp
void structureRandomBits(KernelRewriter &rewriter);

} // namespace quadrille::graph
