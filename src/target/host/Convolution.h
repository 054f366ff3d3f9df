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

} // namespace quadrille::host
