#include "graph/CompositeRewriter.h"

#include "graph/InlineComposites.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::graph {

CompositeRewriter::CompositeRewriter(KernelGraph given)
    : original(std::move(given)), uses(original), composites(original.kernels.size()) {}

// The kernels between the operands and the last one; nullopt when somebody else uses what one of them computes.
std::optional<std::set<size_t>> CompositeRewriter::groupOf(size_t last, llvm::ArrayRef<ValueId> operands) const {
  std::set<size_t> group = {last};
  std::vector<size_t> pending = {last};
  while (!pending.empty()) {
    const Kernel &kernel = original.kernels[pending.back()];
    pending.pop_back();
    for (const Read &read : kernel.reads) {
      if (llvm::is_contained(operands, read.value) || original.values[read.value].role == ValueRole::Constant)
        continue;
      std::optional<size_t> producer = uses.producers[read.value];
      if (!producer)
        return std::nullopt;
      if (group.insert(*producer).second)
        pending.push_back(*producer);
    }
  }
  for (size_t member : group)
    for (const Write &write : original.kernels[member].writes)
      if (write.initial ||
          (member != last && !llvm::all_of(uses.readers[write.value], [&](size_t user) { return group.count(user); })))
        return std::nullopt;
  return group;
}

Kernel CompositeRewriter::makeComposite(const CompositeMatch &match, const std::set<size_t> &group,
                                        ValueId result) const {
  KernelGraph body;
  body.name = match.operation;
  std::map<ValueId, ValueId> inner;
  auto idOf = [&](ValueId id, ValueRole role) {
    auto [entry, isNew] = inner.try_emplace(id, static_cast<ValueId>(body.values.size()));
    if (isNew) {
      body.values.push_back(original.values[id]);
      body.values.back().role = role;
      if (role == ValueRole::Input) {
        body.values.back().data = {};
        body.values.back().origin.reset();
        body.inputs.push_back(entry->second);
      }
    }
    return entry->second;
  };
  Kernel composite;
  composite.kind = KernelKind::Composite;
  composite.operation = match.operation;
  composite.attributes = match.attributes;
  for (ValueId operand : match.operands) {
    composite.reads.push_back({operand, {}, {}});
    idOf(operand, ValueRole::Input);
  }
  composite.writes.push_back({result, {}, Combiner::None, {}, {}});
  body.nodes = original.nodes;
  for (size_t member : group) {
    Kernel kernel = original.kernels[member];
    for (Read &read : kernel.reads)
      read.value = idOf(read.value, ValueRole::Constant); // or one that a kernel before it wrote
    for (Write &write : kernel.writes)
      write.value = idOf(write.value, ValueRole::Intermediate);
    addNodes(composite, kernel.nodes);
    body.kernels.push_back(std::move(kernel));
  }
  body.outputs = {inner.at(result)};
  body.outputNames = {""};
  // A graph of its own, with the nodes that it needs.
  composite.region = std::make_shared<const KernelGraph>(inlineComposites(body, [](const Kernel &) { return true; }));
  countWork(original, composite);
  return composite;
}

bool CompositeRewriter::replace(size_t last, const CompositeMatch &match) {
  std::optional<std::set<size_t>> group = groupOf(last, match.operands);
  if (!group || group->size() < 2 || llvm::any_of(*group, [&](size_t member) { return isReplaced(member); }))
    return false;
  composites[last] = makeComposite(match, *group, original.kernels[last].writes[0].value);
  replaced.insert(group->begin(), group->end());
  return true;
}

KernelGraph CompositeRewriter::finish() && {
  if (replaced.empty())
    return std::move(original);
  std::vector<Kernel> kernels;
  for (auto [position, kernel] : llvm::enumerate(original.kernels)) {
    if (composites[position])
      kernels.push_back(std::move(*composites[position]));
    else if (!isReplaced(position))
      kernels.push_back(std::move(kernel));
  }
  original.kernels = std::move(kernels);
  return inlineComposites(original, [](const Kernel &) { return true; });
}

} // namespace quadrille::graph
