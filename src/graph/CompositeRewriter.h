// Replaces groups of kernels by composites that hold them as their body.
#pragma once

#include "graph/KernelQueries.h"

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace quadrille::graph {

// What a group of kernels computes.
struct CompositeMatch {
  std::string operation;
  std::map<std::string, Attribute> attributes;
  std::vector<ValueId> operands;
};

class CompositeRewriter {
public:
  explicit CompositeRewriter(KernelGraph graph);

  const KernelGraph &graph() const { return original; }
  // The kernel that writes the value; null for inputs and constants.
  const Kernel *producerOf(ValueId value) const {
    return uses.producers[value] ? &original.kernels[*uses.producers[value]] : nullptr;
  }
  bool isReplaced(size_t kernel) const { return replaced.count(kernel) != 0; }

  // Puts a composite in the place of kernel `last`, which alone writes the result, and of the kernels between the
  // operands and it. False, and nothing changes, when these are fewer than two, when somebody else uses what one of
  // them computes, or when one of them is in a composite already.
  bool replace(size_t last, const CompositeMatch &match);

  // The graph with all replacements made; values that exist only inside composites are left out.
  KernelGraph finish() &&;

private:
  std::optional<std::set<size_t>> groupOf(size_t last, llvm::ArrayRef<ValueId> operands) const;
  Kernel makeComposite(const CompositeMatch &match, const std::set<size_t> &group, ValueId result) const;

  KernelGraph original;
  Uses uses;
  std::vector<std::optional<Kernel>> composites;
  std::set<size_t> replaced;
};

} // namespace quadrille::graph
