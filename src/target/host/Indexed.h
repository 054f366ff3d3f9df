// Compilation of the unstructured kernels, by family; dispatched by compileUnstructured.
#pragma once

#include "target/host/Attributes.h"
#include "target/host/Operation.h"

namespace quadrille::host {

// An operation from a function.
template <typename Function> class FunctionOperation final : public Operation {
public:
  explicit FunctionOperation(Function function) : function(std::move(function)) {}
  llvm::Error run(llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) override {
    return function(reads, writes);
  }

private:
  Function function;
};
template <typename Function> OperationPointer makeOperation(Function function) {
  return std::make_unique<FunctionOperation<Function>>(std::move(function));
}

using Compiled = llvm::Expected<OperationPointer>;

// Moves.cpp
Compiled compileReshape(const graph::KernelGraph &graph, const graph::Kernel &kernel);
Compiled compileConcat(const graph::KernelGraph &graph, const graph::Kernel &kernel);
Compiled compileInsertSlice(const graph::KernelGraph &graph, const graph::Kernel &kernel);
Compiled compileGather(const graph::KernelGraph &graph, const graph::Kernel &kernel);
Compiled compileGatherElements(const graph::KernelGraph &graph, const graph::Kernel &kernel);
Compiled compileGatherNd(const graph::KernelGraph &graph, const graph::Kernel &kernel);
Compiled compileScatterElements(const graph::KernelGraph &graph, const graph::Kernel &kernel);
Compiled compileScatterNd(const graph::KernelGraph &graph, const graph::Kernel &kernel);

// Order.cpp
Compiled compileArgReduce(const graph::KernelGraph &graph, const graph::Kernel &kernel);
Compiled compileTopK(const graph::KernelGraph &graph, const graph::Kernel &kernel);
Compiled compileSort(const graph::KernelGraph &graph, const graph::Kernel &kernel);
Compiled compileCumulative(const graph::KernelGraph &graph, const graph::Kernel &kernel);
Compiled compileRandomBits(const graph::KernelGraph &graph, const graph::Kernel &kernel);

// Scan.cpp
Compiled compileScan(const graph::KernelGraph &graph, const graph::Kernel &kernel);

} // namespace quadrille::host
