// What the executor runs: one kernel, or a group of fused kernels, compiled for given shapes. Compiled once, run many
// times; `run` may be called for one execution at a time.
#pragma once

#include "graph/KernelGraph.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"

#include <cstddef>
#include <memory>

namespace quadrille::host {

enum class Layout : uint8_t; // Plan.h

class Operation {
public:
  virtual ~Operation() = default;

  // `reads` and `writes` point to dense elements, row-major unless compiled for another layout, in the order of the
  // kernel's operands (operandsOf); its writes. No write overlaps another operand.
  virtual llvm::Error run(llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) = 0;
};

using OperationPointer = std::unique_ptr<Operation>;

// An operation whose points, in the order of its (first) result, can be computed in any parts.
class RangedOperation : public Operation {
public:
  virtual void runRange(int64_t begin, int64_t end, llvm::ArrayRef<const std::byte *> reads,
                        llvm::ArrayRef<std::byte *> writes) const = 0;
};

// A loop nest with any access maps, padding, body and combiner. `layouts` of every value; empty: all row-major.
llvm::Expected<std::unique_ptr<RangedOperation>>
compileStructured(const graph::KernelGraph &graph, const graph::Kernel &kernel, llvm::ArrayRef<Layout> layouts = {});

// A contraction without windows as a (batched) matrix product; null when the kernel is none or its strides do not fit.
OperationPointer compileMatrixProduct(const graph::KernelGraph &graph, const graph::Kernel &kernel);

// Kernels without loops: moves by index, order, cumulative, random bits, scan. User error for an unknown operation.
llvm::Expected<OperationPointer> compileUnstructured(const graph::KernelGraph &graph, const graph::Kernel &kernel);

} // namespace quadrille::host
