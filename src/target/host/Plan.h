// The host's plan: what runs as one step, and where values live. Kernels are first rewritten (composites inlined,
// chains of elementwise kernels composed into one body), so that the decisions are visible in the kernel list itself.
#pragma once

#include "graph/KernelGraph.h"
#include "target/Target.h"

#include <vector>

namespace quadrille::host {

constexpr uint32_t noSlot = ~uint32_t(0);

// How a value's elements lie in memory.
enum class Layout : uint8_t {
  Plain,       // row-major, in the value's type
  ChannelsLast // [image, place..., channel] instead of [image, channel, place...]; f32 holding values of the type
};

// Kernels that run as one: a convolution and an elementwise kernel over its result (Convolution.h), kernels over the
// same rows (RowGroup.h), or a single kernel.
struct Step {
  std::vector<uint32_t> kernels;
};

struct Decisions {
  std::vector<Step> steps;
  std::vector<uint32_t> slots; // for each value: the buffer it lives in; noSlot: an input, constant, output, alias, or
                               // a value inside a step
  std::vector<graph::ValueId> aliases; // for each value: the value whose bytes it shares (reshape); itself otherwise
  std::vector<Layout> layouts;         // for each value
  uint32_t slotCount = 0;
};

// A flag for each value.
using ValueFlags = std::vector<uint8_t>;

// A kernel list and the decisions over it.
class HostPlan final : public target::Plan {
public:
  graph::KernelGraph graph;
  Decisions decisions;
};

// For each value the value whose bytes it shares: a reshape's operand for its result, itself for most. Reshapes are
// never executed.
std::vector<graph::ValueId> aliasesOf(const graph::KernelGraph &graph);

// The values that a step reads: those of its kernels in order but for their own results (under whatever alias).
std::vector<graph::ValueId> stepReads(const graph::KernelGraph &graph, llvm::ArrayRef<graph::ValueId> aliases,
                                      const Step &step);
// For each value whether it lives inside a step: no other step and no output sees it.
ValueFlags insideSteps(const graph::KernelGraph &graph, const Decisions &decisions);
// The values that a step writes for others.
std::vector<graph::ValueId> stepWrites(const graph::KernelGraph &graph, const Step &step, const ValueFlags &inside);

// Empty when the host computes in the kernel's arithmetic (KernelGraph.h: Numeric), else why not. The host computes in
// the types of the values and accumulates floats in f32 or wider; kernels of regions are looked into.
std::string refusedNumeric(const graph::KernelGraph &graph, const graph::Kernel &kernel);
// Mismatch error for the first kernel whose arithmetic the host does not have.
llvm::Error requireNumerics(const graph::KernelGraph &graph);

// Rewrites and decides. Never fails: what cannot be executed is found when it is compiled.
HostPlan makePlan(const graph::KernelGraph &graph);

} // namespace quadrille::host
