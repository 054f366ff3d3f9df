// Which kernels can read and write channels-last values, and the operations that only they have.
#pragma once

#include "target/host/Operation.h"
#include "target/host/Plan.h"

#include <optional>

namespace quadrille::host {

// A value of [image, channel, place...] of a float type that f32 holds exactly.
bool canBeChannelsLast(const graph::Value &value);

// Elements between neighbours along each dimension.
Shape stridesOf(const graph::Value &value, Layout layout);

constexpr int64_t transposedPoints = 32; // together

// Points [first, last) of one image, whose channels lie `stride` points apart, to f32 with the channels of a point
// together; `to` receives point `first` first. And back.
void toChannelsLast(ElementType type, const std::byte *from, int64_t channels, int64_t stride, int64_t first,
                    int64_t last, float *to);
void fromChannelsLast(const float *from, int64_t channels, int64_t stride, int64_t first, int64_t last,
                      ElementType type, std::byte *to);

// What a step can do with channels-last values.
struct LayoutForm {
  std::vector<bool> reads; // for each read of the step (stepReads): it may be one
  bool result = false;     // so may the first write
  std::vector<bool> alike; // reads that are channels-last exactly when the result is
  std::vector<bool> leads; // reads without which the result is not channels-last
};
LayoutForm layoutFormOf(const graph::KernelGraph &graph, llvm::ArrayRef<graph::ValueId> aliases, const Step &step);

// The value of a kernel max(x, 0), elementwise over x, which is all that it reads.
std::optional<graph::ValueId> reluOperand(const graph::KernelGraph &graph, const graph::Kernel &kernel);

// Minima and maxima of windows, and concatenation of channels, of channels-last values; null when the kernel is none.
OperationPointer compileChannelsLast(const graph::KernelGraph &graph, const graph::Kernel &kernel);

} // namespace quadrille::host
