// The legality of a host program, independent of what made it.
#include "target/host/Check.h"

#include "graph/KernelQueries.h"
#include "target/host/Convolution.h"
#include "target/host/Layouts.h"
#include "target/host/RowGroup.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::host {

using namespace graph;

std::vector<target::Finding> findingsOf(const program::Program &program, const HostPlan &plan) {
  std::vector<target::Finding> findings;
  auto report = [&](std::string where, std::string what) { findings.push_back({std::move(where), std::move(what)}); };
  const KernelGraph &graph = plan.graph;
  const Decisions &decisions = plan.decisions;
  auto valueText = [](size_t id) { return "value " + std::to_string(id); };

  // The entry point's variables are the graph's inputs and outputs.
  if (program.entryPoints.size() != 1 || program.entryPoints[0].name != "inference") {
    report("entry points", "a host program has exactly one, 'inference'");
    return findings;
  }
  auto checkPorts = [&](llvm::ArrayRef<uint32_t> variables, llvm::ArrayRef<ValueId> values, const char *what) {
    if (variables.size() != values.size())
      return report(what,
                    std::to_string(values.size()) + " values for " + std::to_string(variables.size()) + " variables");
    for (auto [variable, id] : llvm::zip(variables, values)) {
      const Value &value = graph.values[id];
      if (variable >= program.variables.size() || program.variables[variable].type != value.type ||
          program.variables[variable].shape != value.shape)
        report(what, valueText(id) + " differs from its variable in type or shape");
    }
  };
  checkPorts(program.entryPoints[0].inputs, graph.inputs, "inputs");
  checkPorts(program.entryPoints[0].outputs, graph.outputs, "outputs");

  // Every kernel that is no alias runs once, in order; what it reads has been produced.
  std::vector<bool> available(graph.values.size(), false), isOutput(graph.values.size(), false);
  for (auto [id, value] : llvm::enumerate(graph.values))
    available[id] = value.role != ValueRole::Intermediate;
  for (ValueId output : graph.outputs)
    isOutput[decisions.aliases[output]] = true;
  // Channels-last values are produced and read by kernels that can.
  std::vector<bool> producedChannelsLast(graph.values.size(), false);
  auto isChannelsLast = [&](ValueId id) { return decisions.layouts[id] == Layout::ChannelsLast; };
  auto checkLayouts = [&](const std::string &where, const Step &step) {
    const Kernel &last = graph.kernels[step.kernels.back()];
    LayoutForm form = layoutFormOf(graph, decisions.aliases, step);
    bool isResult = isChannelsLast(last.writes[0].value);
    for (auto [r, read] : llvm::enumerate(stepReads(graph, decisions.aliases, step))) {
      if (isChannelsLast(read) && !form.reads[r])
        report(where, "reads " + valueText(read) + " channels-last, which its kernel cannot");
      if ((form.alike[r] && isChannelsLast(read) != isResult) || (form.leads[r] && isResult && !isChannelsLast(read)))
        report(where, "mixes channels-last and row-major values");
    }
    for (auto [w, write] : llvm::enumerate(last.writes)) {
      if (!isChannelsLast(write.value))
        continue;
      producedChannelsLast[write.value] = true;
      if (w != 0 || !form.result)
        report(where, "writes " + valueText(write.value) + " channels-last, which its kernel cannot");
    }
  };
  std::vector<size_t> stepOf(graph.kernels.size(), ~size_t(0));
  std::vector<size_t> produced(graph.values.size(), 0), lastRead(graph.values.size(), 0);
  for (auto [s, step] : llvm::enumerate(decisions.steps)) {
    std::string where = "step " + std::to_string(s);
    if (step.kernels.empty() || llvm::any_of(step.kernels, [&](uint32_t k) { return k >= graph.kernels.size(); })) {
      report(where, "holds no kernel or one that does not exist");
      return findings;
    }
    if (step.kernels.size() > 1) {
      bool follows =
          step.kernels.size() == 2 && canFollow(graph, graph.kernels[step.kernels[0]], graph.kernels[step.kernels[1]]);
      if (!follows && !isRowGroup(graph, decisions.aliases, step)) {
        report(where, "kernels run as one only as a convolution and an elementwise kernel over its result, or over the "
                      "same rows");
        return findings;
      }
    }
    checkLayouts(where, step);
    for (uint32_t k : step.kernels) {
      if (stepOf[k] != ~size_t(0))
        report(where, "kernel " + std::to_string(k) + " runs a second time");
      stepOf[k] = s;
      const Kernel &kernel = graph.kernels[k];
      if (isReshape(kernel))
        report(where, "runs kernel " + std::to_string(k) + ", a reshape, whose result has no memory of its own");
      for (ValueId operand : operandsOf(kernel)) {
        ValueId root = decisions.aliases[operand];
        if (!available[root])
          report(where, "reads " + valueText(operand) + ", which nothing has produced");
        lastRead[root] = s;
      }
      for (const Write &write : kernel.writes)
        if (available[write.value])
          report(where, "writes " + valueText(write.value) + ", which exists already");
      for (const Write &write : kernel.writes) {
        available[write.value] = true;
        produced[write.value] = s;
        lastRead[write.value] = std::max(lastRead[write.value], s);
      }
    }
  }
  for (auto [k, kernel] : llvm::enumerate(graph.kernels))
    if (stepOf[k] == ~size_t(0) && !isReshape(kernel))
      report("kernel " + std::to_string(k), "is in no step");
  for (ValueId output : graph.outputs)
    if (!available[decisions.aliases[output]])
      report("outputs", valueText(output) + " is never produced");

  // Values in one slot are never alive together; those inside a step need none. A convolution keeps no result of its
  // own beside its follower's.
  ValueFlags inside = insideSteps(graph, decisions);
  for (auto [s, step] : llvm::enumerate(decisions.steps))
    if (const Kernel &first = graph.kernels[step.kernels[0]];
        step.kernels.size() == 2 && convolutionForm(graph, first) && !inside[first.writes[0].value])
      report("step " + std::to_string(s), "something else reads the convolution's own result");
  struct Interval {
    ValueId value;
    size_t begin, end;
  };
  std::vector<std::vector<Interval>> perSlot(std::min<size_t>(decisions.slotCount, graph.values.size()));
  if (decisions.slotCount > graph.values.size())
    report("slots", "more slots than values");
  for (size_t id = 0; id < graph.values.size(); ++id) {
    bool needs = graph.values[id].role == ValueRole::Intermediate && available[id] && !isOutput[id] &&
                 decisions.aliases[id] == id && !inside[id];
    uint32_t slot = decisions.slots[id];
    if (isChannelsLast(static_cast<ValueId>(id)) &&
        (!needs || !producedChannelsLast[id] || !canBeChannelsLast(graph.values[id])))
      report(valueText(id), "cannot be channels-last");
    if (isChannelsLast(decisions.aliases[id]) && decisions.aliases[id] != id)
      report(valueText(id), "is another view of a channels-last value");
    if (needs != (slot != noSlot)) {
      report(valueText(id), needs ? "has no slot" : "has a slot that it does not need");
      continue;
    }
    if (!needs)
      continue;
    if (slot >= perSlot.size()) {
      report(valueText(id), "slot " + std::to_string(slot) + " does not exist");
      continue;
    }
    for (const Interval &other : perSlot[slot])
      if (produced[id] <= other.end && other.begin <= lastRead[id])
        report(valueText(id), "shares slot " + std::to_string(slot) + " with " + valueText(other.value) +
                                  ", which is alive at the same time");
    perSlot[slot].push_back({static_cast<ValueId>(id), produced[id], lastRead[id]});
  }
  return findings;
}

} // namespace quadrille::host
