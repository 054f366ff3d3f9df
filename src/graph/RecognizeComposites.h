// Gives softmax, normalisations, GELU and SwiGLU that an exporter wrote as single operations their names back.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::graph {

// The graph with groups of kernels that compute one of these, and whose intermediate values nobody else uses, replaced
// by a composite of the same body:
//   softmax              exp(x - max(x)) / sum(exp(x - max(x)))                              axis
//   layer_normalization  (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * scale + shift
//                        over the axes from `axis` on; operands x, scale, shift              axis, epsilon
//   rms_normalization    x / sqrt(mean(x^2) + epsilon) * scale over the axes from `axis` on; operands x, scale
//                        (left out where it is all ones)                                    axis, epsilon
//   silu                 x sigmoid(x)
//   swiglu               x sigmoid(x) y; operands x, y
//   gelu                 0.5 x (1 + erf(x / sqrt 2)), or with tanh               approximate ("none", "tanh")
// and those of RecognizeTransformers.h. Expressions are compared up to the order of factors and summands and the
// spelling of division, powers and roots.
KernelGraph recognizeComposites(KernelGraph graph);

} // namespace quadrille::graph
