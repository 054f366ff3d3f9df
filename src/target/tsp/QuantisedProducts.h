// Rewrites of products of bytes and of what makes bytes of their sums.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::tsp {

// Maxima over windows of two dimensions of a product's results that have been made bytes: the product is computed for
// each place that windows have down, and for each of the phases across, so that the maxima are those of whole values,
// at most shifted across. Then several places down can share a vector, where channels are few and that makes fewer
// vectors. Some results are computed twice.
void poolByPhases(graph::KernelGraph &graph, int64_t vectorLanes);

// A product whose sums start from constants, and whose first operand is bytes that were made for it alone: these get
// channels that hold the same in all places, as the product before has zeros for weights there, and the constants
// become weights of them. So the sums start in the planes, and no arithmetic unit has to add to them. Only where the
// vectors have lanes to spare.
void startFromChannels(graph::KernelGraph &graph, int64_t vectorLanes);

// Convolutions of one image of few channels, which read rows that overlap: a product with ones first puts the rows that
// a few neighbouring places down need side by side in the lanes, where one pass then finds them.
void bringRowsTogether(graph::KernelGraph &graph, int64_t vectorLanes);

} // namespace quadrille::tsp
