// Questions about kernels that several passes and targets ask.
#pragma once

#include "graph/KernelGraph.h"

namespace quadrille::graph {

bool hasReduction(llvm::ArrayRef<Loop> loops);
int64_t reductionPoints(const Kernel &kernel); // of its reduction loops together
bool hasNoPoints(llvm::ArrayRef<Loop> loops);  // an extent is 0

// A structured kernel without reductions that writes one value.
bool isElementwise(const Kernel &kernel);

// Whether the kernel's body computes with the number of a loop; with that of any.
bool readsLoopNumber(const Kernel &kernel, unsigned loop);
bool readsLoopNumbers(const Kernel &kernel);

// Whether a read of an elementwise kernel takes, of a value of the result's shape, the element that the kernel writes.
bool readsOwnElement(const KernelGraph &graph, const Kernel &kernel, const Read &read);

// A gather of a matrix's rows, from so many that looking them up is cheaper than comparing with each of their numbers.
bool isRowPick(const KernelGraph &graph, const Kernel &kernel);

// Its result is its operand's bytes under another shape.
bool isReshape(const Kernel &kernel);

// The number behind the last kernel of the loop whose loop_begin is kernel `begin`.
size_t endOfLoop(const KernelGraph &graph, size_t begin);

// The values that a kernel reads: its reads, then the `initial` reads of its writes.
std::vector<ValueId> operandsOf(const Kernel &kernel);

// FLOPs of the contractions, those inside composites and scans (each trip counts) included.
double contractionFlops(const KernelGraph &graph);

// Adds ONNX nodes that the kernel does not name yet; all are sorted then.
void addNodes(Kernel &kernel, llvm::ArrayRef<uint32_t> nodes);

// Which kernels write and read each value.
struct Uses {
  std::vector<std::optional<size_t>> producers; // none: inputs and constants
  // A kernel stands here once for each operand that is the value, and the number of kernels once for each output.
  std::vector<std::vector<size_t>> readers;
  explicit Uses(const KernelGraph &graph);
};

// An attribute that is one integer; nullopt when there is none.
std::optional<int64_t> integerAttribute(const Kernel &kernel, const std::string &name);

int64_t coefficientOf(const DimensionAccess &access, unsigned loop); // 0 where the loop does not occur
// Elements between neighbours along a loop, of a value whose dimensions have these strides.
int64_t strideAlong(const AccessMap &map, llvm::ArrayRef<int64_t> strides, unsigned loop);
// The element that the point of all zeros accesses.
int64_t baseOf(const AccessMap &map, llvm::ArrayRef<int64_t> strides);

// A graph of one kernel, whose operands are inputs unless they are constants.
KernelGraph alone(const KernelGraph &graph, const Kernel &kernel);

} // namespace quadrille::graph
