// Convolutions as products that the matrix unit has.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::ipu {

// Where windows are beside each other (patches of a picture, whose kernel is as long as its stride) and there are few
// channels, the elements of a window are put beside each other, and the convolution is a product over them: the matrix
// unit is filled with places where it would be with channels that there are not.
void multiplyPatches(graph::KernelGraph &graph);

// Of convolutions in groups of channels the dimensions that a group and a channel of it index together become two, so
// that groups are a loop of their own. Elementwise kernels split and join the dimensions.
void splitGroups(graph::KernelGraph &graph);

} // namespace quadrille::ipu
