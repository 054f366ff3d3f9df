#include "target/host/Executor.h"

#include "base/Error.h"
#include "target/Refusal.h"
#include "target/host/Convolution.h"
#include "target/host/Layouts.h"
#include "target/host/Product.h"
#include "target/host/RowGroup.h"

#include "llvm/ADT/STLExtras.h"

#include <chrono>
#include <cstring>

#include <unistd.h>

namespace quadrille::host {

using namespace graph;

struct Executor::Compiled {
  OperationPointer operation;
  std::vector<ValueId> reads, writes; // aliases resolved
  std::string node;                   // for messages
};

Executor::Executor(HostPlan plan) : plan(std::move(plan)) {}
Executor::~Executor() = default;

size_t Executor::bytesOf(ValueId value) const {
  const Value &v = plan.graph.values[value];
  size_t width = plan.decisions.layouts[value] == Layout::ChannelsLast ? sizeof(float) : byteWidth(v.type);
  return static_cast<size_t>(elementCount(v.shape)) * width;
}

llvm::Expected<OperationPointer> Executor::compileStep(const Step &step, const ValueFlags &inside) const {
  const KernelGraph &graph = plan.graph;
  const std::vector<Layout> &layouts = plan.decisions.layouts;
  const Kernel &kernel = graph.kernels[step.kernels.front()];
  ConvolutionRequest request{&graph, &kernel, nullptr, layouts};
  if (step.kernels.size() == 2 && canFollow(graph, kernel, graph.kernels[step.kernels[1]]))
    request.follower = &graph.kernels[step.kernels[1]];
  if (OperationPointer operation = compileConvolution(request))
    return std::move(operation);
  if (isRowGroup(graph, plan.decisions.aliases, step))
    return compileRowGroup(graph, plan.decisions, step, inside);
  if (step.kernels.size() > 1)
    return internalError("kernel '" + kernel.operation + "' cannot be executed as the program has it");
  if (layouts[kernel.writes[0].value] == Layout::ChannelsLast)
    if (OperationPointer operation = compileChannelsLast(graph, kernel))
      return std::move(operation);
  if (!kernel.structured())
    return compileUnstructured(graph, kernel);
  if (OperationPointer operation = compileMatrixProduct(graph, kernel))
    return std::move(operation);
  if (OperationPointer operation = compileWindowedProduct(graph, kernel))
    return std::move(operation);
  return compileStructured(graph, kernel, layouts);
}

llvm::Error Executor::compile() {
  const KernelGraph &graph = plan.graph;
  const Decisions &decisions = plan.decisions;
  std::vector<size_t> slotBytes(decisions.slotCount, 0);
  ValueFlags inside = insideSteps(graph, decisions);
  auto checkWeight = [&](ValueId value) -> llvm::Error {
    const Value &v = graph.values[value];
    if (v.role != ValueRole::Constant || v.data.valid() || elementCount(v.shape) == 0)
      return llvm::Error::success();
    return userError("weights of '" + v.name + "' are missing; plan and estimate work, execution does not");
  };
  for (const Step &step : decisions.steps) {
    Compiled compiled;
    const Kernel &kernel = graph.kernels[step.kernels.front()];
    if (!kernel.nodes.empty() && kernel.nodes[0] < graph.nodes.size())
      compiled.node = graph.nodes[kernel.nodes[0]].name;
    for (ValueId value : stepReads(graph, decisions.aliases, step)) {
      if (llvm::Error error = checkWeight(decisions.aliases[value]))
        return atNode(std::move(error), compiled.node);
      compiled.reads.push_back(decisions.aliases[value]);
    }
    for (ValueId value : stepWrites(graph, step, inside)) {
      compiled.writes.push_back(value);
      if (uint32_t slot = decisions.slots[value]; slot != noSlot)
        slotBytes[slot] = std::max(slotBytes[slot], bytesOf(value));
    }
    llvm::Expected<OperationPointer> operation = compileStep(step, inside);
    if (!operation)
      return atNode(operation.takeError(), compiled.node);
    compiled.operation = std::move(*operation);
    steps.push_back(std::move(compiled));
  }
  for (ValueId output : graph.outputs)
    if (llvm::Error error = checkWeight(decisions.aliases[output]))
      return error;
  double needed = 0;
  for (size_t bytes : slotBytes)
    needed += static_cast<double>(bytes);
  for (ValueId output : graph.outputs)
    needed += static_cast<double>(bytesOf(output));
  double available = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  if (needed > available)
    return target::doesNotFitError("execution needs " + llvm::Twine(static_cast<uint64_t>(needed)) +
                                   " bytes for values, this machine has " +
                                   llvm::Twine(static_cast<uint64_t>(available)));
  for (size_t bytes : slotBytes)
    slots.push_back(Tensor::uninitialized(ElementType::u8, {static_cast<int64_t>(bytes)}));

  outputOf.assign(graph.values.size(), noSlot);
  for (auto [i, output] : llvm::enumerate(graph.outputs)) {
    ValueId root = decisions.aliases[output];
    if (graph.values[root].role == ValueRole::Intermediate && outputOf[root] == noSlot)
      outputOf[root] = static_cast<uint32_t>(i);
  }
  return llvm::Error::success();
}

llvm::Expected<std::unique_ptr<Executor>> Executor::create(HostPlan plan) {
  std::unique_ptr<Executor> executor(new Executor(std::move(plan)));
  if (llvm::Error error = executor->compile())
    return std::move(error);
  return std::move(executor);
}

llvm::Error Executor::execute(llvm::ArrayRef<const std::byte *> inputs, llvm::ArrayRef<std::byte *> outputs,
                              const Observer &observer) {
  const KernelGraph &graph = plan.graph;
  const Decisions &decisions = plan.decisions;
  std::vector<std::byte *> place(graph.values.size(), nullptr);
  for (size_t v = 0; v < place.size(); ++v) {
    if (outputOf[v] != noSlot)
      place[v] = outputs[outputOf[v]];
    else if (decisions.slots[v] != noSlot)
      place[v] = slots[decisions.slots[v]].mutableBytes();
    else if (graph.values[v].role == ValueRole::Constant && graph.values[v].data.valid())
      place[v] = const_cast<std::byte *>(graph.values[v].data.bytes().data()); // only ever read
  }
  for (auto [value, bytes] : llvm::zip(graph.inputs, inputs))
    place[value] = const_cast<std::byte *>(bytes); // only ever read

  auto start = std::chrono::steady_clock::now();
  auto now = [&] {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start).count();
  };
  llvm::SmallVector<const std::byte *, 8> reads;
  llvm::SmallVector<std::byte *, 4> writes;
  for (auto [s, step] : llvm::enumerate(steps)) {
    int64_t begin = observer ? now() : 0;
    reads.clear();
    writes.clear();
    for (ValueId value : step.reads)
      reads.push_back(place[value]);
    for (ValueId value : step.writes)
      writes.push_back(place[value]);
    if (llvm::Error error = step.operation->run(reads, writes))
      return atNode(std::move(error), step.node);
    if (observer && !observer(s, begin, now()))
      return userError("interrupted");
  }
  for (auto [i, output] : llvm::enumerate(graph.outputs)) {
    ValueId root = decisions.aliases[output];
    if (outputs[i] && place[root] != outputs[i] && bytesOf(output) != 0)
      std::memcpy(outputs[i], place[root], bytesOf(output));
  }
  return llvm::Error::success();
}

llvm::Expected<std::vector<Tensor>> Executor::run(llvm::ArrayRef<Tensor> inputs, const Observer &observer) {
  const KernelGraph &graph = plan.graph;
  if (inputs.size() != graph.inputs.size())
    return userError("the model has " + llvm::Twine(graph.inputs.size()) + " inputs, " + llvm::Twine(inputs.size()) +
                     " were given");
  std::vector<const std::byte *> given;
  for (auto [id, input] : llvm::zip(graph.inputs, inputs)) {
    const Value &value = graph.values[id];
    if (input.type() != value.type || input.shape() != value.shape)
      return userError("input '" + value.name + "' must be " + describe(value.type, value.shape) + ", " +
                       describe(input.type(), input.shape()) + " was given");
    given.push_back(input.bytes().data());
  }
  std::vector<Tensor> outputs;
  std::vector<std::byte *> places;
  for (auto [i, output] : llvm::enumerate(graph.outputs)) {
    ValueId root = plan.decisions.aliases[output];
    const Value &value = graph.values[output];
    // What is not computed is passed on without a copy.
    const Value &source = graph.values[root];
    auto input = llvm::find(graph.inputs, root);
    if (source.role == ValueRole::Constant && source.data.valid())
      outputs.push_back(source.data.reshaped(value.shape));
    else if (input != graph.inputs.end())
      outputs.push_back(inputs[input - graph.inputs.begin()].reshaped(value.shape));
    else if (outputOf[root] != i && outputOf[root] != noSlot)
      outputs.push_back(outputs[outputOf[root]].reshaped(value.shape));
    else {
      outputs.push_back(Tensor::uninitialized(value.type, value.shape));
      places.push_back(outputs.back().mutableBytes());
      continue;
    }
    places.push_back(nullptr);
  }
  if (llvm::Error error = execute(given, places, observer))
    return std::move(error);
  return outputs;
}

} // namespace quadrille::host
