#include "target/host/Evaluate.h"

#include "base/Error.h"
#include "graph/InlineComposites.h"
#include "graph/KernelQueries.h"
#include "target/host/Executor.h"
#include "target/host/Operation.h"
#include "target/host/Plan.h"

#include "llvm/ADT/Twine.h"

namespace quadrille::host {

llvm::Expected<std::vector<Tensor>> evaluate(const graph::KernelGraph &graph, llvm::ArrayRef<Tensor> inputs) {
  if (llvm::Error error = requireNumerics(graph))
    return std::move(error);
  llvm::Expected<std::unique_ptr<Executor>> executor = Executor::create(makePlan(graph));
  if (!executor)
    return executor.takeError();
  return (*executor)->run(inputs);
}

llvm::Expected<std::vector<Tensor>> evaluatePlain(const graph::KernelGraph &original, llvm::ArrayRef<Tensor> inputs) {
  if (llvm::Error error = requireNumerics(original))
    return std::move(error);
  const graph::KernelGraph graph = graph::inlineComposites(original, [](const graph::Kernel &) { return false; });
  if (inputs.size() != graph.inputs.size())
    return userError("the model takes " + llvm::Twine(graph.inputs.size()) + " inputs, found " +
                     llvm::Twine(inputs.size()));
  std::vector<Tensor> values(graph.values.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const graph::Value &value = graph.values[graph.inputs[i]];
    if (inputs[i].type() != value.type || inputs[i].shape() != value.shape)
      return userError("wants " + describe(value.type, value.shape) + ", found " +
                           describe(inputs[i].type(), inputs[i].shape()),
                       {"", "input '" + value.name + "'"});
    values[graph.inputs[i]] = inputs[i];
  }
  auto bytesOf = [&](graph::ValueId id) -> llvm::Expected<const std::byte *> {
    if (graph.values[id].role == graph::ValueRole::Constant && !values[id].valid())
      values[id] = graph.values[id].data;
    if (!values[id].valid())
      return userError("weights of '" + graph.values[id].name +
                       "' are missing; plan and estimate work, execution does "
                       "not");
    return values[id].bytes().data();
  };
  for (const graph::Kernel &kernel : graph.kernels) {
    llvm::SmallVector<const std::byte *> reads;
    for (graph::ValueId id : operandsOf(kernel)) {
      auto bytes = bytesOf(id);
      if (!bytes)
        return bytes.takeError();
      reads.push_back(*bytes);
    }
    llvm::SmallVector<std::byte *> writes;
    if (isReshape(kernel)) {
      values[kernel.writes[0].value] =
          values[kernel.reads[0].value].reshaped(graph.values[kernel.writes[0].value].shape);
      continue;
    }
    for (const graph::Write &write : kernel.writes) {
      Tensor &result = values[write.value];
      result = Tensor::uninitialized(graph.values[write.value].type, graph.values[write.value].shape);
      writes.push_back(result.mutableBytes());
    }
    auto operation = kernel.structured() ? compileStructured(graph, kernel) : compileUnstructured(graph, kernel);
    if (!operation)
      return operation.takeError();
    if (llvm::Error error = (*operation)->run(reads, writes))
      return error;
  }
  std::vector<Tensor> outputs;
  for (graph::ValueId id : graph.outputs) {
    auto bytes = bytesOf(id);
    if (!bytes)
      return bytes.takeError();
    outputs.push_back(values[id]);
  }
  return outputs;
}

} // namespace quadrille::host
