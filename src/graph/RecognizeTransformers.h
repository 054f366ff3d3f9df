// Gives rotary embeddings and scaled dot-product attention that an exporter wrote as single operations their names
// back.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::graph {

// As recognizeComposites, which must have found the softmaxes before:
//   rotary_embedding  x cos + rotated(x) sin, where rotated is (-second half, first half) of the last axis, or
//                     (first cos - second sin, second cos + first sin) of the halves or of even and odd elements;
//                     operands x, cosines, sines                                         interleaved
//   attention         softmax(scale q k^T, masked) v; rows without keys may be made zero. Operands q, k, v and the
//                     masks, the last applied first                       scale, causal, masks, transposed_keys
// `scale` is the product of all constant factors, on q, k or the product. `causal` is 1 where a constant mask hides
// exactly the keys behind each query; it is then no operand. `masks` says of each mask how it acts: "add"; "keep" and
// "hide": scores stay where it is true, or false, and are very negative elsewhere. `transposed_keys` is 1 where keys
// are [..., size, keys]. Scores on which anything else is done (a cap, a factor over a mask) are left as they are.
KernelGraph recognizeTransformers(KernelGraph graph);

} // namespace quadrille::graph
