// Convolutions through oneDNN, cut into rows of the result that parallelFor computes side by side. Inside, values are
// channels-last (Plan.h); the operand and the result may be so outside as well.
#pragma once

#include "target/host/Operation.h"
#include "target/host/Plan.h"

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
  const graph::Kernel *follower = nullptr; // an elementwise kernel over the result, applied as well
  llvm::ArrayRef<Layout> layouts;          // of every value; empty: all row-major
};

// Whether `kernel` is a convolution, and `follower` elementwise over its result, so that both can be computed together.
bool canFollow(const graph::KernelGraph &graph, const graph::Kernel &kernel, const graph::Kernel &follower);

// Reads of the operation: the operands of the convolution, then the follower's but for the convolution's result. Null
// when the kernel is no convolution or its form does not fit.
OperationPointer compileConvolution(const ConvolutionRequest &request);

} // namespace quadrille::host
