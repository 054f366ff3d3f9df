// A model on several chips: consecutive kernels for each, as a pipeline in which every chip sends to the next what this
// one and later ones need.
#pragma once

#include "graph/KernelGraph.h"
#include "target/tsp/Architecture.h"
#include "target/tsp/Placement.h"

#include <limits>
#include <optional>
#include <vector>

namespace quadrille::tsp {

// What one chip does of a model.
struct ChipPart {
  size_t first = 0, end = 0;           // its kernels
  std::vector<size_t> inputs, outputs; // of the model, that it reads and makes
  // Values that the chip before sends, and those that it sends itself, each once.
  std::vector<graph::ValueId> arriving, leaving;
  bool frugal = false; // it fits only where memory is saved at the cost of time
};

// What kernels take of a chip, measured by compiling them for one with memory enough.
struct KernelCost {
  int64_t residentWords = 0; // of weights that no kernel before has needed
  int64_t liveWords = 0;     // of values that are in memory behind it, but for outputs
  int64_t outputWords = 0;   // of outputs that it makes
  int64_t cycles = 0;        // by which it makes the program longer
  int64_t steps = 0;         // instructions with their repetitions
};
struct Costs {
  std::vector<KernelCost> kernels;
  std::vector<int64_t> valueWords; // by value; 0 of those that were not computed
  // By value, as far as it was computed: how it lay in memory. Values with the same number share their memory.
  std::vector<std::optional<Region>> regions;
};

class Partition {
public:
  Partition(const graph::KernelGraph &graph, const Architecture &machine, Costs costs);

  // All kernels as one part.
  static std::vector<ChipPart> whole(const graph::KernelGraph &graph);
  // Parts that begin with the given kernels, up to the one behind the last.
  static std::vector<ChipPart> between(const graph::KernelGraph &graph, llvm::ArrayRef<size_t> bounds);

  // Of these kernels.
  ChipPart part(size_t first, size_t end) const;
  // At most `chips` parts, of which the slowest, with its transfers, is as fast as can be; nothing when the memories
  // are too small for so few. Parts of several kernels need at most `words`.
  std::optional<std::vector<ChipPart>> parts(int64_t chips, int64_t words) const;
  std::optional<std::vector<ChipPart>> parts(int64_t chips) const { return parts(chips, machine.dataWords()); }
  // The same, of which the one that needs most words needs as few as can be, but for parts of one kernel.
  std::optional<std::vector<ChipPart>> evenParts(int64_t chips) const;
  // Tells that a part has not fit, whatever the costs say: none that has these kernels and those between them, or
  // others that compute the same, will be tried again.
  void forbid(size_t first, size_t kernel);
  // Parts of several kernels, this one and those that compute the same among them, that seem to need more are left out;
  // at first that is all that a chip holds.
  void limitWords(size_t kernel, int64_t words);
  int64_t wordLimit(size_t kernel) const { return mostWords[kernel]; }
  // The same for instructions of any parts; at first any number.
  void limitSteps(int64_t steps) { mostSteps = steps; }
  bool isLimited() const;
  void unlimit();
  // The kernel up to which the part has `share` of its instructions: at least one less than all.
  size_t kernelAt(const ChipPart &part, double share) const;

  llvm::ArrayRef<std::optional<Region>> regions() const { return costs.regions; } // by value
  int64_t valueWords(graph::ValueId value) const { return costs.valueWords[value]; }
  // How many words a part needs, as the costs say.
  int64_t wordsOf(const ChipPart &part) const;
  llvm::ArrayRef<uint64_t> signaturesOf(const ChipPart &part) const {
    return llvm::ArrayRef(signatures).slice(part.first, part.end - part.first);
  }
  int64_t stepsOf(const ChipPart &part) const { return stepsBefore[part.end] - stepsBefore[part.first]; }
  const KernelCost &cost(size_t kernel) const { return costs.kernels[kernel]; }
  // Words of weights and outputs of a part.
  int64_t residentWordsOf(const ChipPart &part) const { return residentBefore[part.end] - residentBefore[part.first]; }
  int64_t weightBytes() const; // of the whole model
  int64_t outputBytes() const;
  int64_t mostLiveBytes() const;

private:
  const graph::KernelGraph &graph;
  const Architecture &machine;
  Costs costs;
  std::vector<uint64_t> signatures; // of the kernels
  std::vector<int64_t> mostWords;   // by kernel
  int64_t mostSteps = std::numeric_limits<int64_t>::max();
  std::vector<size_t> limits;          // by first kernel: a part ends there at the latest
  std::vector<int64_t> residentBefore; // by kernel, and for all: words of weights and outputs
  std::vector<int64_t> cyclesBefore, stepsBefore;
  std::vector<int64_t> crossingWords; // by kernel: of the values that go from those before it to it and later ones
};

} // namespace quadrille::tsp
