// The window attributes that convolutions and pooling share.
#pragma once

#include "graph/import/OperatorContext.h"

namespace quadrille::graph::importer {

// Sliding windows over the spatial dimensions of [batch, channels, spatial...].
struct Window {
  std::vector<int64_t> kernel, strides, dilations, padBefore, padAfter;
  std::vector<int64_t> result; // extents of the result's spatial dimensions

  size_t rank() const { return kernel.size(); }
  // Number of elements that padding must provide after the operand so that every window lies inside.
  int64_t reach(size_t d) const { return (result[d] - 1) * strides[d] + (kernel[d] - 1) * dilations[d] + 1; }
};

// Reads kernel_shape, strides, dilations, pads, auto_pad and ceil_mode; `kernel` when the operator has no kernel_shape
// or may leave it out.
Window windowOf(OperatorContext &c, llvm::ArrayRef<int64_t> spatial, std::vector<int64_t> kernel = {});

// `operand` with the padding of `window` around its last dimensions; the operand itself when there is none.
TensorRef padFor(OperatorContext &c, TensorRef operand, const Window &window, Scalar value);

// The bits of a number in a type, saturated to its finite range unless infinite.
Scalar scalarOf(ElementType type, double number);
Scalar lowestOf(ElementType type);  // -infinity for floats
Scalar highestOf(ElementType type); // infinity for floats

} // namespace quadrille::graph::importer
