// Rewrites of a kernel graph by which fewer elements change their lanes.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::tsp {

// Which neighbouring dimensions of `from` become each dimension of `to`, those of extent 1 left out; nothing when it is
// another reshape.
std::optional<std::vector<std::vector<size_t>>> mergedDimensions(llvm::ArrayRef<int64_t> from,
                                                                 llvm::ArrayRef<int64_t> to);

// A kernel that computes each element from one, and alone reads what a move gives, comes before the move: what makes
// the elements can then compute it too, and what reads them may find them without a move.
void computeBeforeMoving(graph::KernelGraph &graph);

// A product whose first operand has been put together from neighbouring dimensions, as heads are, sums over each of
// them instead.
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

// Maxima over windows, one window after the other in each dimension.
struct Windows {
  struct Window {
    size_t dimension;
    unsigned output, tap;
    int64_t stride, count, dilation; // between windows; places of a window, and between two of them
  };
  std::vector<Window> list;
  size_t channels = 0; // the dimension
  bool overlap = false;
};
std::optional<Windows> windowsOf(const graph::KernelGraph &graph, const graph::Kernel &kernel);

// Maxima over windows of few channels for a product (which has them rounded to f16): each place of the windows is
// picked by a product with ones, so that several places of an image can lie in one vector. Maxima of what is rounded
// are rounded maxima. Where windows overlap only for channels of which four places share a vector: there are more
// places to pick.
void poolByProducts(graph::KernelGraph &graph, int64_t vectorLanes);

} // namespace quadrille::tsp
