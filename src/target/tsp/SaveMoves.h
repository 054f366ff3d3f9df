// Rewrites of a kernel graph by which fewer elements change their lanes.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::tsp {

// Which neighbouring dimensions of `from` become each dimension of `to`, those of extent 1 left out; nothing when it is
// another reshape.
std::optional<std::vector<std::vector<size_t>>> mergedDimensions(llvm::ArrayRef<int64_t> from,
                                                                 llvm::ArrayRef<int64_t> to);

// A kernel that computes each element from one, and alone reads what a move gives, comes before the move: what makes the
// elements can then compute it too, and what reads them may find them without a move.
void computeBeforeMoving(graph::KernelGraph &graph);

// A product whose first operand has been put together from neighbouring dimensions, as heads are, sums over each of them
// instead.
void sumBeforeMerging(graph::KernelGraph &graph);

// A transposition that alone reads a reshape by which dimensions become one comes before it: what makes the elements
// can then write them in the order that is wanted, and the reshape behind seldom moves any.
void transposeBeforeMerging(graph::KernelGraph &graph);

// A product with constant weights that reads a concatenation along its channels becomes a product for each of the
// parts, which starts from the sums of the one before.
void multiplyPartsApart(graph::KernelGraph &graph);

// A move that alone reads a product's result, and splits its columns: the product has a loop for each part and writes
// where the move would.
void splitColumns(graph::KernelGraph &graph);

// Maxima over windows of few channels for a product (which has them rounded to f16): each place of the windows is
// picked by a product with ones, so that several places of an image can lie in one vector. Maxima of what is rounded
// are rounded maxima. Where windows overlap only for channels of which four places share a vector: there are more
// places to pick.
void poolByProducts(graph::KernelGraph &graph, int64_t vectorLanes);

// Maxima over windows of two dimensions of a product's results that have been made bytes: the product is computed for
// each place that windows have down, and for each of the phases across, so that the maxima are those of whole values, at
// most shifted across. Then several places down can share a vector, where channels are few and that makes fewer vectors.
// Some results are computed twice.
void poolByPhases(graph::KernelGraph &graph, int64_t vectorLanes);

} // namespace quadrille::tsp
