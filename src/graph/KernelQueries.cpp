#include "graph/KernelQueries.h"

#include "llvm/ADT/STLExtras.h"

#include <map>

namespace quadrille::graph {

bool hasReduction(llvm::ArrayRef<Loop> loops) {
  return llvm::any_of(loops, [](const Loop &loop) { return loop.reduction; });
}

int64_t reductionPoints(const Kernel &kernel) {
  int64_t points = 1;
  for (const Loop &loop : kernel.loops)
    if (loop.reduction)
      points *= loop.extent;
  return points;
}

bool hasNoPoints(llvm::ArrayRef<Loop> loops) {
  return llvm::any_of(loops, [](const Loop &loop) { return loop.extent == 0; });
}

bool isElementwise(const Kernel &kernel) {
  return kernel.structured() && kernel.writes.size() == 1 && kernel.writes[0].combiner == Combiner::None &&
         !hasReduction(kernel.loops);
}

bool readsLoopNumber(const Kernel &kernel, unsigned loop) {
  return llvm::any_of(kernel.body.instructions, [&](const BlockInstruction &instruction) {
    return instruction.opcode == BlockOpcode::LoopIndex && instruction.immediate == loop;
  });
}

bool readsLoopNumbers(const Kernel &kernel) {
  return llvm::any_of(kernel.body.instructions,
                      [](const BlockInstruction &instruction) { return instruction.opcode == BlockOpcode::LoopIndex; });
}

bool readsOwnElement(const KernelGraph &graph, const Kernel &kernel, const Read &read) {
  const Write &write = kernel.writes[0];
  return !read.padding && read.map == write.map && graph.values[read.value].shape == graph.values[write.value].shape;
}

bool isRowPick(const KernelGraph &graph, const Kernel &kernel) {
  constexpr int64_t fewRows = 8;
  if (kernel.structured() || kernel.operation != "gather")
    return false;
  const Shape &data = graph.values[kernel.reads[0].value].shape;
  return data.size() == 2 && integerAttribute(kernel, "axis").value_or(0) == 0 && data[0] > fewRows;
}

bool isReshape(const Kernel &kernel) {
  return kernel.operation == "reshape" && !kernel.structured() && kernel.reads.size() == 1 && kernel.writes.size() == 1;
}

size_t endOfLoop(const KernelGraph &graph, size_t begin) {
  ValueId counter = graph.kernels[begin].writes[0].value;
  size_t end = begin + 1;
  for (size_t number = end; number < graph.kernels.size(); ++number)
    if (llvm::any_of(graph.kernels[number].reads, [&](const Read &read) { return read.value == counter; }))
      end = number + 1;
  return end;
}

std::vector<ValueId> operandsOf(const Kernel &kernel) {
  std::vector<ValueId> operands;
  for (const Read &read : kernel.reads)
    operands.push_back(read.value);
  for (const Write &write : kernel.writes)
    if (write.initial)
      operands.push_back(write.initial->value);
  return operands;
}

void addNodes(Kernel &kernel, llvm::ArrayRef<uint32_t> nodes) {
  for (uint32_t node : nodes)
    if (!llvm::is_contained(kernel.nodes, node))
      kernel.nodes.push_back(node);
  llvm::sort(kernel.nodes);
}

Uses::Uses(const KernelGraph &graph) : producers(graph.values.size()), readers(graph.values.size()) {
  for (auto [k, kernel] : llvm::enumerate(graph.kernels)) {
    for (const Write &write : kernel.writes)
      producers[write.value] = k;
    for (ValueId operand : operandsOf(kernel))
      readers[operand].push_back(k);
  }
  for (ValueId output : graph.outputs)
    readers[output].push_back(graph.kernels.size());
}

double contractionFlops(const KernelGraph &graph) {
  double flops = 0;
  for (const Kernel &kernel : graph.kernels)
    if (kernel.region)
      flops +=
          contractionFlops(*kernel.region) * static_cast<double>(integerAttribute(kernel, "trip_count").value_or(1));
    else if (kernel.kind == KernelKind::Contract)
      flops += kernel.flops;
  return flops;
}

std::optional<int64_t> integerAttribute(const Kernel &kernel, const std::string &name) {
  auto found = kernel.attributes.find(name);
  const int64_t *value = found == kernel.attributes.end() ? nullptr : std::get_if<int64_t>(&found->second);
  return value ? std::optional(*value) : std::nullopt;
}

int64_t coefficientOf(const DimensionAccess &access, unsigned loop) {
  auto term = llvm::find_if(access.terms, [&](auto term) { return term.first == loop; });
  return term == access.terms.end() ? 0 : term->second;
}

int64_t strideAlong(const AccessMap &map, llvm::ArrayRef<int64_t> strides, unsigned loop) {
  int64_t stride = 0;
  for (auto [access, step] : llvm::zip(map, strides))
    stride += coefficientOf(access, loop) * step;
  return stride;
}

int64_t baseOf(const AccessMap &map, llvm::ArrayRef<int64_t> strides) {
  int64_t base = 0;
  for (auto [access, step] : llvm::zip(map, strides))
    base += access.offset * step;
  return base;
}

KernelGraph alone(const KernelGraph &graph, const Kernel &kernel) {
  KernelGraph result;
  result.nodes = graph.nodes;
  std::map<ValueId, ValueId> ids;
  auto idOf = [&](ValueId id, ValueRole role) {
    auto [known, fresh] = ids.try_emplace(id, static_cast<ValueId>(result.values.size()));
    if (fresh) {
      result.values.push_back(graph.values[id]);
      Value &value = result.values.back();
      if (value.role != ValueRole::Constant)
        value.role = role;
      if (value.role == ValueRole::Input)
        result.inputs.push_back(known->second);
    }
    return known->second;
  };
  Kernel same = kernel;
  for (Read &read : same.reads)
    read.value = idOf(read.value, ValueRole::Input);
  for (Write &write : same.writes) {
    if (write.initial)
      write.initial->value = idOf(write.initial->value, ValueRole::Input);
    write.value = idOf(write.value, ValueRole::Intermediate);
    result.outputs.push_back(write.value);
    result.outputNames.push_back(result.values[write.value].name);
  }
  result.kernels.push_back(std::move(same));
  return result;
}

} // namespace quadrille::graph
