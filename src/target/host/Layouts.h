// Which kernels can read and write channels-last values, and the operations that only they have.
#pragma once

#include "target/host/Operation.h"
#include "target/host/Plan.h"

#include <optional>

namespace quadrille::host {

// A value of [image, channel, place...] of a float type that f32 holds exactly.
bool canBeChannelsLast(const graph::Value &value);

// What a kernel can do with channels-last values: each of these reads or writes may be one.
struct LayoutForm {
  bool anyRead = false;             // every read
  std::optional<unsigned> onlyRead; // or this one
  bool result = false;              // the first write
  bool allAlike = false;            // reads and result only together
};
LayoutForm layoutFormOf(const graph::KernelGraph &graph, const graph::Kernel &kernel);

// The value of a kernel max(x, 0), elementwise over x, which is all that it reads.
std::optional<graph::ValueId> reluOperand(const graph::KernelGraph &graph, const graph::Kernel &kernel);

// Minima and maxima of windows, and concatenation of channels, of channels-last values; null when the kernel is none.
OperationPointer compileChannelsLast(const graph::KernelGraph &graph, const graph::Kernel &kernel);

} // namespace quadrille::host
