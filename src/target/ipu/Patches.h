// Convolutions whose windows do not overlap, as products.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::ipu {

// Where windows are beside each other (patches of a picture, whose kernel is as long as its stride) and there are few
// channels, the elements of a window are put beside each other, and the convolution is a product over them: the matrix
// unit is filled with places where it would be with channels that there are not.
void multiplyPatches(graph::KernelGraph &graph);

} // namespace quadrille::ipu
