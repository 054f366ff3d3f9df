// Convolutions through oneDNN, cut into rows of the result that parallelFor computes side by side. Inside, values are
// channels-last (Plan.h); the operand and the result may be so outside as well.
#pragma once

#include "target/host/Operation.h"

#include <optional>

namespace quadrille::host {

// What the fast path of convolutions can do with a kernel.
struct ConvolutionForm {
  unsigned source = 0;             // the read that may be channels-last
  bool channelsLastSource = false; // its value may be
  bool channelsLastResult = false; // so may the result
};
std::optional<ConvolutionForm> convolutionForm(const graph::KernelGraph &graph, const graph::Kernel &kernel);

struct ConvolutionRequest {
  const graph::KernelGraph *graph = nullptr;
  const graph::Kernel *kernel = nullptr;
  bool relu = false; // max(result, 0) is applied as well
  bool channelsLastSource = false, channelsLastResult = false;
};

// Null when the kernel is none or its form does not fit.
OperationPointer compileConvolution(const ConvolutionRequest &request);

} // namespace quadrille::host
