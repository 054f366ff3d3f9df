// Softmax for operators that contain one.
#pragma once

#include "graph/import/OperatorContext.h"

namespace quadrille::graph::importer {

// The composite "softmax" or "log_softmax" along one axis; f16 and bf16 are normalised in f32.
TensorRef softmaxOver(OperatorContext &c, TensorRef operand, int64_t axis, bool logarithmic);

} // namespace quadrille::graph::importer
