// Convolutions through oneDNN, which may leave their result in the layout they prefer for the next one to read.
#pragma once

#include "target/host/Operation.h"

namespace quadrille::host {

// The layout of a Blocked value: f32, in an order that only oneDNN knows; opaque outside Convolution.cpp.
struct BlockedLayout;

struct ConvolutionRequest {
  const graph::KernelGraph *graph = nullptr;
  const graph::Kernel *kernel = nullptr;
  bool relu = false;                           // max(result, 0) is applied as well
  std::shared_ptr<const BlockedLayout> source; // of the windowed operand; null: row-major
  bool blockedResult = false;                  // leave the result in the preferred layout
};

struct CompiledConvolution {
  OperationPointer operation; // null when the kernel is none or its form does not fit
  std::shared_ptr<const BlockedLayout> result;
  size_t resultBytes = 0; // of the blocked result
};

CompiledConvolution compileConvolution(const ConvolutionRequest &request);

// A max pooling of a Blocked value that leaves a Blocked result; null when the kernel is none.
CompiledConvolution compileBlockedPooling(const graph::KernelGraph &graph, const graph::Kernel &kernel,
                                          std::shared_ptr<const BlockedLayout> source);

// Concatenation of Blocked values along channels into a Blocked result; null operation when it is none.
CompiledConvolution compileBlockedConcat(const graph::KernelGraph &graph, const graph::Kernel &kernel,
                                         llvm::ArrayRef<std::shared_ptr<const BlockedLayout>> sources);

// Blocked to row-major in the value's type.
OperationPointer compileUnblock(const graph::Value &value, std::shared_ptr<const BlockedLayout> source);

} // namespace quadrille::host
