// Images that products read in more digits than one operand of a product has.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::tsp {

// A convolution of few channels (colours) that reads a graph's input of f32, and whose result a depthwise convolution
// reads, becomes two: of the input rounded to f16, and of what the rounding left, also in f16. The first layer is a
// small part of the work; of its rounding errors, which are those of neighbouring places, a layer that sums over many
// channels averages most, one that does not passes them on to all layers.
void splitInputs(graph::KernelGraph &graph);

} // namespace quadrille::tsp
