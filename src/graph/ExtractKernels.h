// From the MLIR form of a model to its kernels.
#pragma once

#include "graph/KernelGraph.h"

#include "llvm/Support/Error.h"

namespace mlir::func {
class FuncOp;
} // namespace mlir::func

namespace quadrille::graph {

// The kernels of a function of one block over static tensors: structured operations (linalg, elementwise arith and math
// on tensors), tensor operations, and those of `qd`. Weights are borrowed, never copied, and stay valid when the MLIR
// context is gone. Padding (tensor.pad) and constant initial values (linalg.fill) become attributes of the kernels that
// read them; scalar constants become part of a body. Internal errors name an operation that has no kernel form, and the
// ONNX node that it comes from.
llvm::Expected<KernelGraph> extractKernels(mlir::func::FuncOp function);

} // namespace quadrille::graph
