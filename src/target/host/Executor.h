// Executes a kernel list under a plan's decisions. Compiled once (weights reordered, primitives made), run many times.
#pragma once

#include "target/host/Operation.h"
#include "target/host/Plan.h"

#include <functional>

namespace quadrille::host {

class Executor {
public:
  // User errors name the node: an absent weight that is needed, an unknown kernel, shapes that do not fit.
  static llvm::Expected<std::unique_ptr<Executor>> create(HostPlan plan);
  ~Executor();

  // Called after every step with its index and its time in nanoseconds since the start of the run; false stops.
  using Observer = std::function<bool(size_t step, int64_t begin, int64_t end)>;

  // User errors: wrong number, shape or type of inputs; an index out of range; stopped by the observer.
  llvm::Expected<std::vector<Tensor>> run(llvm::ArrayRef<Tensor> inputs, const Observer &observer = {});

  // The same on bare memory. Outputs do not overlap inputs.
  llvm::Error execute(llvm::ArrayRef<const std::byte *> inputs, llvm::ArrayRef<std::byte *> outputs,
                      const Observer &observer = {});

  const graph::KernelGraph &graph() const { return plan.graph; }
  const Decisions &decisions() const { return plan.decisions; }

private:
  struct Compiled;
  explicit Executor(HostPlan plan);
  llvm::Error compile();
  size_t bytesOf(graph::ValueId value) const;
  llvm::Expected<OperationPointer> compileStep(const Step &step, const ValueFlags &inside) const;

  HostPlan plan;
  std::vector<Compiled> steps;
  std::vector<Tensor> slots;
  std::vector<uint32_t> outputOf; // for each value: the output that it is written to directly, or noSlot
};

} // namespace quadrille::host
