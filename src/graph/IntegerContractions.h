// Quantised models between QuantizeLinear and DequantizeLinear, computed in integers.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::graph {

// Rewrites what an exporter writes as DequantizeLinear -> float kernel -> QuantizeLinear:
//   - a contraction of two dequantised operands becomes an integer contraction with the zero points in its body; a bias
//     dequantised with the product of their scales is added as an integer. Where its only reader quantises the result
//     (also through a reshape), that becomes the requantisation of ONNX's QLinearConv and QLinearMatMul:
//     saturate(round_even(sum * (scale_a * scale_b / scale_y)) + zero_y), the factors rounded to f32 in this order.
//     Otherwise the result is dequantised: sum * (scale_a * scale_b), plus a float bias.
//   - maxima and minima of windows, transpositions and reshapes between the same scale and zero point work on the
//     integers, which they do not change.
// A dequantisation must have one scale and zero point for the whole operand, the right operand of a contraction also
// one for each result channel; scales must be known. Kernels that nobody reads any more are taken away.
KernelGraph integerContractions(KernelGraph graph);

} // namespace quadrille::graph
