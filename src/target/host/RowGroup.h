// Elementwise kernels and reductions over the same rows, run one after another for a few rows at a time: what passes
// between them (the maximum and the exponentials of a softmax, the mean of a normalisation) stays in the cache. Each
// element is computed as by the kernel alone, so the results are the same bits.
#pragma once

#include "target/host/Operation.h"
#include "target/host/Plan.h"

namespace quadrille::host {

// The leading extents that the results of all kernels of a group share; a row is one index of them.
struct Rows {
  Shape extents;
  int64_t count = 0;
};

// The rows of a reduction that can stand in a group: all dimensions of its result but the last ones of extent 1.
std::optional<Rows> rowsOf(const graph::KernelGraph &graph, const graph::Kernel &reduction);

// Whether the kernel works row by row on what `produced` (by root value) names, which are the results of the kernels
// before it in the group.
bool fitsRows(const graph::KernelGraph &graph, llvm::ArrayRef<graph::ValueId> aliases, const graph::Kernel &kernel,
              const Rows &rows, const ValueFlags &produced);

// Whether the kernels of a step form such a group: at least two, one of them a reduction.
bool isRowGroup(const graph::KernelGraph &graph, llvm::ArrayRef<graph::ValueId> aliases, const Step &step);

// Reads are stepReads, writes stepWrites; `inside` as of insideSteps. The step must be a row group.
llvm::Expected<OperationPointer> compileRowGroup(const graph::KernelGraph &graph, const Decisions &decisions,
                                                 const Step &step, const ValueFlags &inside);

} // namespace quadrille::host
