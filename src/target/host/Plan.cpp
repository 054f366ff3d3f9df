#include "target/host/Plan.h"

#include "base/Error.h"
#include "graph/DropUnused.h"
#include "graph/FuseKernels.h"
#include "graph/InlineComposites.h"
#include "graph/KernelQueries.h"
#include "target/Refusal.h"
#include "target/host/Convolution.h"
#include "target/host/Layouts.h"
#include "target/host/RowGroup.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>

namespace quadrille::host {

using namespace graph;

namespace {

// Buffers by liveness: a value takes the free buffer that is nearest in size, or a new one.
void assignSlots(const KernelGraph &graph, Decisions &decisions) {
  const std::vector<ValueId> &aliases = decisions.aliases;
  std::vector<size_t> lastUse(graph.values.size(), 0);
  std::vector<bool> isOutput(graph.values.size(), false);
  ValueFlags inside = insideSteps(graph, decisions);
  for (ValueId output : graph.outputs)
    isOutput[aliases[output]] = true;
  for (auto [s, step] : llvm::enumerate(decisions.steps))
    for (uint32_t k : step.kernels) {
      for (ValueId operand : operandsOf(graph.kernels[k]))
        lastUse[aliases[operand]] = s;
      for (const Write &write : graph.kernels[k].writes)
        lastUse[aliases[write.value]] = std::max<size_t>(lastUse[aliases[write.value]], s);
    }
  struct Slot {
    int64_t bytes;
    size_t freeFrom; // step
  };
  std::vector<Slot> slots;
  for (auto [s, step] : llvm::enumerate(decisions.steps))
    for (ValueId value : stepWrites(graph, step, inside)) {
      if (isOutput[value] || aliases[value] != value)
        continue;
      int64_t bytes = elementCount(graph.values[value].shape) *
                      static_cast<int64_t>(
                          decisions.layouts[value] == Layout::ChannelsLast ? 4 : byteWidth(graph.values[value].type));
      Slot *best = nullptr;
      for (Slot &slot : slots)
        if (slot.freeFrom <= s && (!best || std::abs(slot.bytes - bytes) < std::abs(best->bytes - bytes)))
          best = &slot;
      if (!best) {
        slots.push_back({0, 0});
        best = &slots.back();
      }
      best->bytes = std::max(best->bytes, bytes);
      best->freeFrom = lastUse[value] + 1;
      decisions.slots[value] = static_cast<uint32_t>(best - slots.data());
    }
  decisions.slotCount = static_cast<uint32_t>(slots.size());
}

// One step for each kernel, or for a convolution and the elementwise kernel that alone reads its result. Such a step
// runs where the second kernel stood: what else that reads has been computed by then.
void makeSteps(const KernelGraph &graph, Decisions &decisions) {
  Uses uses(graph);
  std::vector<std::optional<uint32_t>> producers(graph.values.size()), leader(graph.kernels.size());
  std::vector<bool> leads(graph.kernels.size(), false);
  for (auto [k, kernel] : llvm::enumerate(graph.kernels)) {
    if (kernel.writes.size() == 1)
      producers[kernel.writes[0].value] = static_cast<uint32_t>(k);
    if (!kernel.structured())
      continue;
    // The last convolution among the operands: its result would wait longest.
    for (const Read &read : kernel.reads) {
      std::optional<uint32_t> producer = producers[read.value];
      if (producer && uses.readers[read.value].size() == 1 && (!leader[k] || *leader[k] < *producer) &&
          canFollow(graph, graph.kernels[*producer], kernel))
        leader[k] = producer;
    }
    if (leader[k])
      leads[*leader[k]] = true;
  }
  for (auto [k, kernel] : llvm::enumerate(graph.kernels)) {
    if (isReshape(kernel) || leads[k])
      continue;
    decisions.steps.emplace_back();
    if (leader[k])
      decisions.steps.back().kernels.push_back(*leader[k]);
    decisions.steps.back().kernels.push_back(static_cast<uint32_t>(k));
  }
}

// Joins neighbouring steps of single kernels over the same rows, around each reduction.
void groupRows(const KernelGraph &graph, Decisions &decisions) {
  std::vector<Step> &steps = decisions.steps;
  ValueFlags produced(graph.values.size(), false);
  auto kernelOf = [&](size_t s) -> const Kernel & { return graph.kernels[steps[s].kernels[0]]; };
  auto isPlain = [&](const Kernel &kernel) {
    return decisions.layouts[kernel.writes[0].value] == Layout::Plain &&
           llvm::all_of(operandsOf(kernel), [&](ValueId value) { return decisions.layouts[value] == Layout::Plain; });
  };
  auto readsFrom = [&](const Kernel &reader, const Kernel &producer) {
    return llvm::any_of(operandsOf(reader),
                        [&](ValueId operand) { return decisions.aliases[operand] == producer.writes[0].value; });
  };
  std::vector<Step> grouped;
  size_t s = 0;
  while (s < steps.size()) {
    size_t end = s + 1;
    // A group begins with an elementwise kernel that the reduction reads, or with the reduction.
    for (size_t r : {s, s + 1}) {
      if (r >= steps.size() || steps[s].kernels.size() != 1 || steps[r].kernels.size() != 1)
        continue;
      std::optional<Rows> rows = rowsOf(graph, kernelOf(r));
      if (!rows || (r != s && !readsFrom(kernelOf(r), kernelOf(s))))
        continue;
      size_t member = s;
      while (member < steps.size() && steps[member].kernels.size() == 1 &&
             fitsRows(graph, decisions.aliases, kernelOf(member), *rows, produced) && isPlain(kernelOf(member))) {
        bool joins = member == s;
        for (size_t before = s; before < member && !joins; ++before)
          joins = readsFrom(kernelOf(member), kernelOf(before));
        if (!joins)
          break;
        produced[kernelOf(member).writes[0].value] = true;
        ++member;
      }
      for (size_t m = s; m < member; ++m)
        produced[kernelOf(m).writes[0].value] = false;
      if (member > r + 1 || (member == r + 1 && r != s)) {
        end = member;
        break;
      }
    }
    Step step;
    for (; s < end; ++s)
      llvm::append_range(step.kernels, steps[s].kernels);
    grouped.push_back(std::move(step));
  }
  steps = std::move(grouped);
}

// Channels-last wherever the producer and every reader can have it.
void chooseLayouts(const KernelGraph &graph, Decisions &decisions) {
  std::vector<bool> produced(graph.values.size(), false), refused(graph.values.size(), false);
  for (ValueId output : graph.outputs)
    refused[decisions.aliases[output]] = true;
  for (auto [id, root] : llvm::enumerate(decisions.aliases))
    if (root != id)
      refused[root] = refused[id] = true;
  // Values of one kernel that must have the same layout, and those without which the result is row-major.
  struct Constraint {
    ValueId result;
    llvm::SmallVector<ValueId, 4> alike, leads;
  };
  std::vector<Constraint> constraints;
  for (const Step &step : decisions.steps) {
    LayoutForm form = layoutFormOf(graph, decisions.aliases, step);
    ValueId result = graph.kernels[step.kernels.back()].writes[0].value;
    produced[result] = form.result;
    constraints.push_back({result, {result}, {}});
    for (auto [r, read] : llvm::enumerate(stepReads(graph, decisions.aliases, step))) {
      if (!form.reads[r])
        refused[read] = true;
      if (form.alike[r])
        constraints.back().alike.push_back(read);
      if (form.leads[r])
        constraints.back().leads.push_back(read);
    }
  }
  for (auto [id, value] : llvm::enumerate(graph.values))
    if (produced[id] && !refused[id] && canBeChannelsLast(value))
      decisions.layouts[id] = Layout::ChannelsLast;
  for (bool changed = true; changed;) {
    changed = false;
    auto isPlain = [&](ValueId value) { return decisions.layouts[value] == Layout::Plain; };
    for (const Constraint &constraint : constraints) {
      if (!isPlain(constraint.result) && llvm::any_of(constraint.leads, isPlain)) {
        decisions.layouts[constraint.result] = Layout::Plain;
        changed = true;
      }
      if (!llvm::any_of(constraint.alike, isPlain) || llvm::all_of(constraint.alike, isPlain))
        continue;
      for (ValueId value : constraint.alike)
        decisions.layouts[value] = Layout::Plain;
      changed = true;
    }
  }
}

} // namespace

std::string refusedNumeric(const KernelGraph &graph, const Kernel &kernel) {
  if (kernel.region)
    for (const Kernel &inner : kernel.region->kernels)
      if (std::string reason = refusedNumeric(*kernel.region, inner); !reason.empty())
        return reason;
  const Numeric &numeric = kernel.numeric;
  if (numeric.rounding == Rounding::Stochastic)
    return "the host does not round stochastically";
  if (!kernel.structured())
    return "";
  unsigned narrowest = 64; // bits of the floats that the kernel reads
  for (const Read &read : kernel.reads)
    if (ElementType type = graph.values[read.value].type; isFloat(type))
      narrowest = std::min(narrowest, bitWidth(type));
  Combiner combiner = kernel.writes[0].combiner;
  bool accumulates = combiner == Combiner::Sum || combiner == Combiner::Product;
  bool isRead = llvm::any_of(kernel.reads, [&](const Read &read) { return isFloat(graph.values[read.value].type); });
  auto isNarrower = [&](ElementType type, unsigned bits) { return isFloat(type) && bitWidth(type) < bits; };
  auto refused = [](ElementType type, llvm::StringRef what) {
    return ("the host " + what + ", not in " + nameOf(type)).str();
  };
  if (isRead && isNarrower(numeric.storage, narrowest))
    return refused(numeric.storage, "stores values in their own types");
  if (isRead && isNarrower(numeric.multiply, narrowest))
    return refused(numeric.multiply, "computes in the types of the values");
  if (accumulates && isFloat(graph.values[kernel.writes[0].value].type) && isNarrower(numeric.accumulate, 32))
    return refused(numeric.accumulate, "accumulates in f32 or wider");
  return "";
}

llvm::Error requireNumerics(const KernelGraph &graph) {
  for (const Kernel &kernel : graph.kernels)
    if (std::string reason = refusedNumeric(graph, kernel); !reason.empty())
      return target::unsupportedError("kernel '" + kernel.operation + "': " + reason);
  return llvm::Error::success();
}

std::vector<ValueId> aliasesOf(const KernelGraph &graph) {
  std::vector<ValueId> aliases(graph.values.size());
  for (size_t value = 0; value < aliases.size(); ++value)
    aliases[value] = static_cast<ValueId>(value);
  for (const Kernel &kernel : graph.kernels)
    if (isReshape(kernel))
      aliases[kernel.writes[0].value] = aliases[kernel.reads[0].value];
  return aliases;
}

std::vector<ValueId> stepReads(const KernelGraph &graph, llvm::ArrayRef<ValueId> aliases, const Step &step) {
  std::vector<ValueId> reads;
  llvm::SmallVector<ValueId, 4> own;
  for (uint32_t k : step.kernels) {
    for (ValueId operand : operandsOf(graph.kernels[k]))
      if (!llvm::is_contained(own, aliases[operand]))
        reads.push_back(operand);
    for (const Write &write : graph.kernels[k].writes)
      own.push_back(write.value);
  }
  return reads;
}

ValueFlags insideSteps(const KernelGraph &graph, const Decisions &decisions) {
  constexpr uint32_t none = ~uint32_t(0);
  std::vector<uint32_t> stepOf(graph.values.size(), none); // that writes a value
  ValueFlags inside(graph.values.size(), false);
  for (auto [s, step] : llvm::enumerate(decisions.steps))
    for (uint32_t k : step.kernels)
      for (const Write &write : graph.kernels[k].writes) {
        stepOf[write.value] = static_cast<uint32_t>(s);
        inside[write.value] = step.kernels.size() > 1;
      }
  for (auto [s, step] : llvm::enumerate(decisions.steps))
    for (uint32_t k : step.kernels)
      for (ValueId operand : operandsOf(graph.kernels[k]))
        if (ValueId root = decisions.aliases[operand]; stepOf[root] != static_cast<uint32_t>(s))
          inside[root] = false;
  for (ValueId output : graph.outputs)
    inside[decisions.aliases[output]] = false;
  return inside;
}

std::vector<ValueId> stepWrites(const KernelGraph &graph, const Step &step, const ValueFlags &inside) {
  std::vector<ValueId> writes;
  for (uint32_t k : step.kernels)
    for (const Write &write : graph.kernels[k].writes)
      if (!inside[write.value])
        writes.push_back(write.value);
  return writes;
}

// Region kernels name nodes of their own graph; here they get the indices of `nodes`, to which missing ones are added,
// so that one table serves the whole program.
static std::shared_ptr<const KernelGraph> withNodesOf(std::vector<Node> &nodes, const KernelGraph &region) {
  auto result = std::make_shared<KernelGraph>(region);
  for (Kernel &kernel : result->kernels) {
    for (uint32_t &index : kernel.nodes) {
      const Node &node = region.nodes[index];
      auto same = [&](const Node &other) { return other.name == node.name && other.operation == node.operation; };
      index = static_cast<uint32_t>(std::distance(nodes.begin(), llvm::find_if(nodes, same)));
      if (index == nodes.size())
        nodes.push_back(node);
    }
    if (kernel.region)
      kernel.region = withNodesOf(nodes, *kernel.region);
  }
  result->nodes = nodes;
  return result;
}

HostPlan makePlan(const KernelGraph &graph) {
  HostPlan plan;
  plan.graph = inlineComposites(graph, [](const Kernel &) { return false; });
  for (Kernel &kernel : plan.graph.kernels)
    if (kernel.region)
      kernel.region = withNodesOf(plan.graph.nodes, *kernel.region);
  dropUnused(plan.graph);
  absorbMoves(plan.graph, [](const KernelGraph &graph, const Kernel &kernel) {
    return kernel.kind == KernelKind::Contract && compileMatrixProduct(graph, kernel) != nullptr;
  });
  constexpr size_t longestBody = 64; // beyond that, registers no longer stay in L1
  fuseElementwise(plan.graph, longestBody);
  Decisions &decisions = plan.decisions;
  size_t count = plan.graph.values.size();
  decisions.slots.assign(count, noSlot);
  decisions.layouts.assign(count, Layout::Plain);
  decisions.aliases = aliasesOf(plan.graph);
  makeSteps(plan.graph, decisions);
  chooseLayouts(plan.graph, decisions);
  groupRows(plan.graph, decisions);
  assignSlots(plan.graph, decisions);
  return plan;
}

} // namespace quadrille::host
