// Gives rotary embeddings and scaled dot-product attention that an exporter wrote as single operations their names
// back.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::graph {

// As recognizeComposites, which must have found the softmaxes before:
//   rotary_embedding  x cos + rotated(x) sin, where rotated is (-second half, first half) of the last axis, or
//                     (first cos - second sin, second cos + first sin) of the halves or of even and odd elements;
//                     operands x, cosines, sines                                         interleaved
//   attention         softmax(scale q k^T + masks) v; the scale may stand on q, k or the product; masks are added or
//                     chosen by Where, rows without keys may be made zero. Operands q, k, v, and what the scores are
//                     combined with                                                      scale, causal
// `scale` is the product of all constant factors. `causal` is 1 where a constant mask hides exactly the keys behind
// each query, 0 where nothing is known of the mask.
KernelGraph recognizeTransformers(KernelGraph graph);

} // namespace quadrille::graph
