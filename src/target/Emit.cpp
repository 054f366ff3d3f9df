#include "target/Emit.h"

#include <algorithm>
#include <map>
#include <optional>

namespace quadrille::target {

std::string dominantPrecision(const graph::KernelGraph &graph) {
  std::map<ElementType, double> flops;
  for (const graph::Kernel &kernel : graph.kernels)
    if (kernel.kind == graph::KernelKind::Contract)
      flops[kernel.numeric.storage] += kernel.flops;
  if (flops.empty())
    for (graph::ValueId id : graph.outputs)
      flops[graph.values[id].type] += 1;
  auto most =
      std::max_element(flops.begin(), flops.end(), [](const auto &a, const auto &b) { return a.second < b.second; });
  return most == flops.end() ? "none" : nameOf(most->first).str();
}

int64_t batchOf(const graph::KernelGraph &graph) {
  std::optional<int64_t> batch;
  for (const auto &ids : {graph.inputs, graph.outputs})
    for (graph::ValueId id : ids) {
      const Shape &shape = graph.values[id].shape;
      if (shape.size() < 2)
        continue;
      if (batch && *batch != shape[0])
        return 0;
      batch = shape[0];
    }
  return batch.value_or(0);
}

program::Program beginProgram(llvm::StringRef target, const graph::KernelGraph &graph,
                              const machine::Machine &machine) {
  program::Program program;
  program.target = target.str();
  program.machine = machine.print();
  program.compilerRevision = "quadrille " QUADRILLE_VERSION;
  program.precision = dominantPrecision(graph);
  program.batch = batchOf(graph);
  for (const graph::Node &node : graph.nodes)
    program.nodes.push_back({node.name, node.operation});
  program::EntryPoint inference{"inference", {}, {}};
  auto add = [&](const std::string &name, graph::ValueId id, program::VariableRole role, std::vector<uint32_t> &list) {
    const graph::Value &value = graph.values[id];
    program::Variable variable;
    variable.name = name;
    variable.type = value.type;
    variable.shape = value.shape;
    variable.role = role;
    list.push_back(static_cast<uint32_t>(program.variables.size()));
    program.variables.push_back(std::move(variable));
  };
  for (graph::ValueId id : graph.inputs)
    add(graph.values[id].name, id, program::VariableRole::Input, inference.inputs);
  for (size_t i = 0; i < graph.outputs.size(); ++i)
    add(graph.outputNames[i], graph.outputs[i], program::VariableRole::Output, inference.outputs);
  program.entryPoints.push_back(std::move(inference));
  return program;
}

program::Variable weightOf(const graph::Value &constant) {
  program::Variable variable;
  variable.name = constant.name;
  variable.type = constant.type;
  variable.shape = constant.shape;
  variable.role = program::VariableRole::Weight;
  variable.data = constant.data;
  // A file may hold the values in another form (packed 4-bit integers, lists of numbers): then only the data counts.
  uint64_t bytes = static_cast<uint64_t>(elementCount(constant.shape)) * byteWidth(constant.type);
  if (constant.origin && constant.origin->size == bytes && bytes != 0)
    variable.external =
        program::Variable::External{constant.origin->path, constant.origin->offset, constant.origin->size, {}};
  return variable;
}

} // namespace quadrille::target
