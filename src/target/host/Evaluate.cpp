#include "target/host/Evaluate.h"

#include "base/Error.h"
#include "target/host/Executor.h"

namespace quadrille::host {

llvm::Expected<std::vector<Tensor>> evaluate(const graph::KernelGraph &graph, llvm::ArrayRef<Tensor> inputs) {
  llvm::Expected<std::unique_ptr<Executor>> executor = Executor::create(makePlan(graph));
  if (!executor)
    return executor.takeError();
  return (*executor)->run(inputs);
}

} // namespace quadrille::host
