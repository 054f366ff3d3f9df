// What contractions share.
#pragma once

#include "graph/import/OperatorContext.h"

namespace quadrille::graph::importer {

Numeric productNumeric(ElementType storage, ElementType accumulate);

// The nest of numpy.matmul(a, b), without a body.
Nest matrixProduct(TensorRef a, TensorRef b, llvm::StringRef operation);

// Sum of the products of the nest's two reads; f16 and bf16 accumulate in f32.
TensorRef sumOfProducts(Emitter &c, Nest nest);

// Operands of an integer contraction and their zero points. Zero points are scalars or have one element for each row of
// the left operand, or each column (output channel) of the right one.
struct QuantizedOperand {
  TensorRef tensor, zeroPoint;
  AccessMap zeroPointMap;
};
// Sum of (a - zero point of a) * (b - zero point of b) in i32 over the nest, whose reads are a and b.
TensorRef sumOfIntegerProducts(Emitter &c, Nest nest, QuantizedOperand a, QuantizedOperand b);

// The nest of a convolution of `x` [N, C, spatial...] with `w` [M, C / group, kernel...], and the shape of the result.
struct Window;
struct Convolution {
  Nest nest;               // reads: x (padded), w
  Shape shape;             // [N, M, spatial...]; the nest's own result may have the groups as a dimension of their own
  AccessMap channelAccess; // of a vector with one element for each result channel
};
Convolution convolution(OperatorContext &c, TensorRef x, TensorRef w, int64_t groups, const Window &window,
                        Scalar padding);

// Lets its sums start from `bias`, one number for each result channel.
void startFromBias(Emitter &c, Convolution &convolution, TensorRef bias);

// ConvInteger of operands with optional zero points, by the node's window attributes.
TensorRef integerConvolution(OperatorContext &c, TensorRef x, TensorRef w, TensorRef zeroX, TensorRef zeroW);

} // namespace quadrille::graph::importer
