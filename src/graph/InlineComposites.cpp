#include "graph/InlineComposites.h"

#include "graph/KernelQueries.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::graph {

namespace {
class Inliner {
public:
  Inliner(llvm::function_ref<bool(const Kernel &)> keep) : keep(keep) {}

  // Appends the kernels of `source`, whose inputs are bound in `ids`, to the result; fills `ids` with the result's
  // value for each value of `source`.
  void append(const KernelGraph &source, std::vector<ValueId> &ids, llvm::ArrayRef<uint32_t> inheritedNodes) {
    Uses uses(source);
    for (size_t id = 0; id < source.values.size(); ++id)
      if (!uses.readers[id].empty() && source.values[id].role == ValueRole::Constant)
        ids[id] = addValue(source.values[id]);
    for (const Kernel &original : source.kernels) {
      if (original.kind == KernelKind::Composite && !keep(original)) {
        expand(source, original, ids, inheritedNodes);
        continue;
      }
      Kernel kernel = original;
      for (Read &read : kernel.reads)
        read.value = ids[read.value];
      for (Write &write : kernel.writes) {
        if (write.initial)
          write.initial->value = ids[write.initial->value];
        ids[write.value] = addValue(source.values[write.value]);
        write.value = ids[write.value];
      }
      kernel.nodes = translateNodes(source, original, inheritedNodes);
      if (kernel.region && kernel.kind != KernelKind::Composite) {
        kernel.region = std::make_shared<const KernelGraph>(inlineComposites(*kernel.region, keep));
        countWork(result, kernel);
      }
      result.kernels.push_back(std::move(kernel));
    }
  }

  ValueId addValue(const Value &value) {
    result.values.push_back(value);
    return static_cast<ValueId>(result.values.size() - 1);
  }

  KernelGraph result;

private:
  void expand(const KernelGraph &source, const Kernel &composite, std::vector<ValueId> &ids,
              llvm::ArrayRef<uint32_t> inheritedNodes) {
    const KernelGraph &region = *composite.region;
    std::vector<ValueId> inner(region.values.size(), noValue);
    for (auto [input, read] : llvm::zip(region.inputs, composite.reads))
      inner[input] = ids[read.value];
    append(region, inner, translateNodes(source, composite, inheritedNodes));
    for (auto [output, write] : llvm::zip(region.outputs, composite.writes)) {
      ids[write.value] = inner[output];
      Value &value = result.values[inner[output]];
      if (value.name.empty())
        value.name = source.values[write.value].name;
    }
  }

  std::vector<uint32_t> translateNodes(const KernelGraph &source, const Kernel &kernel,
                                       llvm::ArrayRef<uint32_t> inherited) {
    if (kernel.nodes.empty())
      return inherited.vec();
    std::vector<uint32_t> nodes;
    for (uint32_t index : kernel.nodes) {
      const Node &node = source.nodes[index];
      auto [entry, isNew] = nodeIndices.try_emplace({node.name, node.operation}, result.nodes.size());
      if (isNew)
        result.nodes.push_back(node);
      nodes.push_back(entry->second);
    }
    return nodes;
  }

  llvm::function_ref<bool(const Kernel &)> keep;
  std::map<std::pair<std::string, std::string>, uint32_t> nodeIndices;
};
} // namespace

KernelGraph inlineComposites(const KernelGraph &graph, llvm::function_ref<bool(const Kernel &)> keep) {
  Inliner inliner(keep);
  std::vector<ValueId> ids(graph.values.size(), noValue);
  for (ValueId input : graph.inputs) {
    ids[input] = inliner.addValue(graph.values[input]);
    inliner.result.inputs.push_back(ids[input]);
  }
  inliner.append(graph, ids, {});
  inliner.result.name = graph.name;
  for (ValueId output : graph.outputs)
    inliner.result.outputs.push_back(ids[output]);
  inliner.result.outputNames = graph.outputNames;
  return std::move(inliner.result);
}

} // namespace quadrille::graph
