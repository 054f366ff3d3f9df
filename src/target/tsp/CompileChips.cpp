// From a model to the program of one chip or several: how many, what each does, and one after the other their code.
#include "base/Error.h"
#include "graph/Repetition.h"
#include "target/Refusal.h"
#include "target/Stages.h"
#include "target/tsp/Compiler.h"
#include "target/tsp/CompilerState.h"
#include "target/tsp/Lower.h"
#include "target/tsp/Split.h"

#include "llvm/ADT/Hashing.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/FormatVariadic.h"

#include <cmath>
#include <limits>
#include <map>
#include <memory>

namespace quadrille::tsp {

namespace {

std::string mebibytes(int64_t bytes) {
  return llvm::formatv("{0:F2} MiB", static_cast<double>(bytes) / (1 << 20)).str();
}

// What no way of laying out the products' weights can be below: each element once, in the type that is multiplied. And
// the node that has the most of them.
std::pair<int64_t, std::string> leastWeightBytes(const graph::KernelGraph &graph) {
  std::map<graph::ValueId, int64_t> bytes;
  int64_t most = 0;
  std::string node;
  for (const graph::Kernel &kernel : graph.kernels) {
    auto contraction = isMatrixProduct(graph, kernel) ? graph::inferContraction(graph, kernel) : std::nullopt;
    if (!contraction || contraction->isConvolution())
      continue;
    const graph::Read &read = kernel.reads[contraction->rhs];
    const graph::Value &weights = graph.values[read.value];
    if (weights.role != graph::ValueRole::Constant)
      continue;
    int64_t elements = 1;
    for (const graph::DimensionAccess &access : read.map)
      for (auto [loop, coefficient] : access.terms)
        elements *= kernel.loops[loop].extent;
    elements = std::min(elements, elementCount(weights.shape));
    auto width = static_cast<int64_t>(std::min(byteWidth(weights.type), byteWidth(ElementType::f16)));
    bytes[read.value] = std::max(bytes[read.value], elements * width);
    if (elements * width > most && !kernel.nodes.empty()) {
      most = elements * width;
      node = graph.nodes[kernel.nodes.front()].name;
    }
  }
  int64_t sum = 0;
  for (auto [value, of] : bytes)
    sum += of;
  return {sum, node};
}

// Of the elementwise kernel that needs most: the bytes of what it reads and writes, all of which are in memory at once,
// but for one operand that may be streamed to it from the product that makes it. And its node.
std::pair<int64_t, std::string> mostBytesAtOnce(const graph::KernelGraph &graph) {
  graph::Uses uses(graph);
  auto bytesOf = [&](graph::ValueId value) {
    return elementCount(graph.values[value].shape) * static_cast<int64_t>(byteWidth(graph.values[value].type));
  };
  int64_t most = 0;
  std::string node;
  for (const graph::Kernel &kernel : graph.kernels) {
    if (kernel.kind != graph::KernelKind::Map)
      continue;
    std::vector<graph::ValueId> operands = graph::operandsOf(kernel);
    llvm::sort(operands);
    operands.erase(std::unique(operands.begin(), operands.end()), operands.end());
    int64_t bytes = 0, streamed = 0;
    for (graph::ValueId value : operands) {
      if (graph.values[value].role == graph::ValueRole::Constant)
        continue;
      bytes += bytesOf(value);
      if (uses.readers[value].size() == 1 && uses.producers[value] &&
          isMatrixProduct(graph, graph.kernels[*uses.producers[value]]))
        streamed = std::max(streamed, bytesOf(value));
    }
    for (const graph::Write &write : kernel.writes)
      bytes += bytesOf(write.value);
    if (bytes - streamed > most) {
      most = bytes - streamed;
      node = kernel.nodes.empty() ? "" : graph.nodes[kernel.nodes.front()].name;
    }
  }
  return {most, node};
}

struct Attempt {
  llvm::Expected<program::Program> program;
  // Of an error: the part that did not fit its chip, and what is known of why.
  size_t part = 0;
  std::optional<CompilerState::Misfit> misfit;
};

// `program` runs on `chips` chips; as many as there are parts do something.
Attempt compileParts(const MachineGraph &graph, const Architecture &machine, program::Program program, int64_t chips,
                     llvm::ArrayRef<ChipPart> parts) {
  program.chips = chips;
  Code code;
  code.entries.resize(1);
  code.entries[0].chips.resize(chips);
  auto order = linkedChips(chips, machine);
  if (!order)
    return {order.takeError(), 0, std::nullopt};
  // The chip before is done when it has sent what the next one needs.
  std::unique_ptr<CompilerState> before;
  auto finish = [&](CompilerState &state, size_t number) -> llvm::Error {
    auto made = state.finish();
    if (!made)
      return made.takeError();
    code.entries[0].chips[(*order)[number]] = std::move(*made);
    return llvm::Error::success();
  };
  auto failed = [](llvm::Error error, const CompilerState &state, size_t number) -> Attempt {
    auto misfit = target::saysNoRoom(error) ? state.misfit() : std::nullopt;
    return {std::move(error), number, misfit};
  };
  for (auto [number, part] : llvm::enumerate(parts)) {
    auto state = std::make_unique<CompilerState>(graph, machine, program, code, part, (*order)[number]);
    llvm::Error error = state->begin();
    if (!error && before)
      error = state->receive(*before);
    if (!error)
      error = state->run();
    if (error)
      return failed(std::move(error), *state, number);
    if (before)
      if (llvm::Error last = finish(*before, number - 1))
        return failed(std::move(last), *before, number - 1);
    before = std::move(state);
  }
  if (llvm::Error error = finish(*before, parts.size() - 1))
    return failed(std::move(error), *before, parts.size() - 1);
  program.setPayload(code.encode());
  return {std::move(program), 0, std::nullopt};
}

// The same, frugally for parts that do not fit otherwise.
Attempt compileFrugally(const MachineGraph &graph, const Architecture &machine, const program::Program &program,
                        int64_t chips, std::vector<ChipPart> &parts) {
  while (true) {
    Attempt attempt = compileParts(graph, machine, program, chips, parts);
    if (attempt.program || !attempt.misfit || attempt.misfit->share || parts[attempt.part].frugal)
      return attempt;
    llvm::consumeError(attempt.program.takeError());
    parts[attempt.part].frugal = true;
  }
}

// Without what is in the weights of products, which changes no cost.
MachineGraph withoutWeights(MachineGraph graph) {
  for (const graph::Kernel &kernel : graph.graph.kernels)
    if (kernel.kind == graph::KernelKind::Contract)
      if (auto contraction = graph::inferContraction(graph.graph, kernel))
        graph.graph.values[kernel.reads[contraction->rhs].value].data = Tensor();
  return graph;
}

// Compiles for a chip whose memory has no end; nothing when even that has no room, as there are too few slices.
llvm::Expected<std::optional<Costs>> costsOf(const MachineGraph &graph, const Architecture &machine,
                                             program::Program program) {
  Architecture endless = machine;
  endless.words = std::numeric_limits<int32_t>::max();
  Code code;
  CompilerState state(graph, endless, program, code, Partition::whole(graph.graph).front(), 0);
  if (auto repetition = graph::repetitionOf(graph::signaturesOf(graph.graph)))
    state.measureOnce(*repetition);
  llvm::Error error = state.begin();
  if (!error)
    error = state.run();
  if (error && target::saysNoRoom(error)) {
    llvm::consumeError(std::move(error));
    return std::nullopt;
  }
  if (error)
    return std::move(error);
  return state.costs();
}

// What the kernels of a split graph cost, about, from what those of the whole one do.
Costs costsOfParts(const Costs &whole, const graph::KernelGraph &graph, const SplitGraph &split) {
  auto share = [](int64_t of, double part) { return static_cast<int64_t>(std::ceil(static_cast<double>(of) * part)); };
  Costs costs;
  costs.valueWords = whole.valueWords;
  costs.regions = whole.regions;
  costs.valueWords.resize(split.graph.graph.values.size());
  costs.regions.resize(split.graph.graph.values.size());
  for (auto [kernel, origin] : llvm::zip(split.graph.graph.kernels, split.origins)) {
    auto [number, part] = origin;
    KernelCost cost = whole.kernels[number];
    int64_t result = whole.valueWords[graph.kernels[number].writes[0].value];
    if (part == 0) // parts and the whole are there at once, and each word of it is moved
      cost = {0, cost.liveWords + result, 0, result, result};
    else if (part < 1) {
      cost = {share(cost.residentWords, part), cost.liveWords, share(cost.outputWords, part), share(cost.cycles, part),
              share(cost.steps, part)};
      costs.valueWords[kernel.writes[0].value] = share(result, part);
    }
    costs.kernels.push_back(cost);
  }
  return costs;
}

// The graph with its large products in parts, and how it can be cut.
struct Variant {
  Variant(MachineGraph from, const Architecture &machine, Costs costs)
      : graph(std::move(from)), lean(withoutWeights(graph)), partition(graph.graph, machine, std::move(costs)) {}

  // The same for parts that compute the same from values that lie in memory alike.
  uint64_t signatureOf(const ChipPart &part) const {
    llvm::ArrayRef<uint64_t> kernels = partition.signaturesOf(part);
    llvm::hash_code sum = llvm::hash_combine_range(kernels.begin(), kernels.end());
    for (graph::ValueId value : part.arriving)
      sum = llvm::hash_combine(sum, 'a', partition.valueWords(value));
    for (graph::ValueId value : part.leaving)
      sum = llvm::hash_combine(sum, 'l', partition.valueWords(value));
    return llvm::hash_combine(sum, part.inputs.size(), part.outputs.size());
  }

  MachineGraph graph;
  MachineGraph lean; // without weights
  Partition partition;
  struct Tried {
    std::optional<CompilerState::Misfit> misfit; // its kernel counted from the part's first
    std::string reason;
    bool frugal = false; // as it was compiled last
  };
  std::map<uint64_t, Tried> tried; // parts, by what they compute
};

class Search {
public:
  Search(const MachineGraph &graph, const Architecture &machine, const program::Program &program)
      : whole(graph), machine(machine), program(program) {}

  // The program for so many chips; an error that is `full` is remembered, and nothing returned, when it does not fit.
  std::optional<llvm::Expected<program::Program>> on(int64_t chips) {
    if (chips == 1)
      return attempt(whole, chips, Partition::whole(whole.graph), nullptr);
    if (llvm::Error error = measure())
      return llvm::Expected<program::Program>(std::move(error));
    if (variants.empty())
      return std::nullopt;
    if (variants.front()->partition.weightBytes() + variants.front()->partition.outputBytes() > chips * capacity())
      return std::nullopt;
    for (size_t number = 0; number < variants.size() || addVariant(); ++number) {
      Variant &variant = *variants[number];
      learns = true;
      // What has not fit tells how full a chip can be. But that is not the same for all parts: where none is left that
      // seems to fit, those that need more are tried too: first such that the fullest chip is as empty as can be.
      constexpr int64_t mostTries = 16;
      for (int64_t triesBeyond = 0; triesBeyond < mostTries;) {
        bool even = !learns && triesBeyond < mostTries / 2;
        auto parts = even ? variant.partition.evenParts(chips) : variant.partition.parts(chips);
        if (!parts && !variant.partition.isLimited())
          break;
        if (!parts) {
          variant.partition.unlimit();
          learns = false;
          continue;
        }
        triesBeyond += learns ? 0 : 1;
        auto apart = fitApart(variant, *parts);
        if (!apart)
          return llvm::Expected<program::Program>(apart.takeError());
        if (!*apart && alone)
          break; // only a finer cut helps
        if (!*apart)
          continue;
        if (auto result = attempt(variant.graph, chips, *parts, &variant.partition))
          return result;
      }
    }
    return std::nullopt;
  }

  // Why it does not fit on so many chips.
  llvm::Error doesNotFit(int64_t chips) {
    if (llvm::Error error = measure())
      return error;
    if (variants.empty()) {
      // No number of chips helps; one of them says what there is no room for.
      if (reason.empty())
        if (auto made = attempt(whole, 1, Partition::whole(whole.graph), nullptr))
          return *made ? internalError("it fits a chip, but not one without end") : made->takeError();
      return target::doesNotFitError(reason, {},
                                     "one kernel alone is too large for any chip; a smaller batch needs less");
    }
    const Partition &partition = variants.front()->partition;
    int64_t weights = partition.weightBytes(), live = partition.mostLiveBytes(), outputs = partition.outputBytes();
    // However finely it is cut, a chip holds no more than its memory, and the values besides.
    int64_t room = capacity() - live;
    int64_t least = room > 0 ? std::max((weights + outputs + room - 1) / room, chips + 1) : 0;
    return target::doesNotFitError(
        (reason.empty() ? "" : reason + "; ") + "the weights take " + mebibytes(weights) + ", outputs " +
            mebibytes(outputs) + ", values that are needed at once " + mebibytes(live) + ", " +
            (chips == 1 ? "one chip holds " : std::to_string(chips) + " chips hold ") + mebibytes(chips * capacity()),
        {},
        alone      ? llvm::Twine("one kernel alone is too large for any chip; a smaller batch needs less")
        : room > 0 ? llvm::Twine(least) + " chips or more would do; a smaller batch needs less"
                   : llvm::Twine("values alone are too large for a chip; a smaller batch needs less"));
  }

private:
  int64_t capacity() const { return machine.dataWords() * machine.vectorBytes(); }

  // Remembers why a part does not fit, and has it not tried again.
  void misses(const ChipPart &part, const CompilerState::Misfit &misfit, const std::string &why, Partition *partition) {
    reason = why;
    alone = part.end - part.first == 1;
    if (!partition)
      return;
    // The first kernel may find no room for the sake of those behind it: by itself it is tried again.
    size_t kernel = misfit.share ? partition->kernelAt(part, *misfit.share) : misfit.kernel;
    partition->forbid(part.first, alone ? kernel : std::max(kernel, part.first + 1));
    if (learns && misfit.share)
      partition->limitSteps(static_cast<int64_t>(*misfit.share * static_cast<double>(partition->stepsOf(part))));
    if (learns && !misfit.share && misfit.kernel > part.first && misfit.kernel < part.end)
      partition->limitWords(kernel, std::max(partition->wordsOf(partition->part(part.first, kernel + 1)) - 1,
                                             partition->wordLimit(kernel) - partition->wordLimit(kernel) / 10));
  }

  std::optional<llvm::Expected<program::Program>> attempt(const MachineGraph &graph, int64_t chips,
                                                          std::vector<ChipPart> parts, Partition *partition) {
    Attempt attempt = compileFrugally(graph, machine, program, chips, parts);
    if (attempt.program || !attempt.misfit)
      return std::move(attempt.program);
    misses(parts[attempt.part], *attempt.misfit, report(attempt.program.takeError()).message, partition);
    return std::nullopt;
  }

  // Whether each part, and the kernel at which one is full, fits a chip by itself: much sooner known than whether all
  // of them do, since most parts of one cut are parts of others too. The fullest are tried first.
  llvm::Expected<bool> fitApart(Variant &variant, std::vector<ChipPart> &parts) {
    std::vector<ChipPart *> order;
    for (ChipPart &part : parts)
      order.push_back(&part);
    llvm::stable_sort(order, [&](const ChipPart *a, const ChipPart *b) {
      return variant.partition.wordsOf(*a) > variant.partition.wordsOf(*b);
    });
    for (ChipPart *fullest : order) {
      ChipPart &part = *fullest;
      auto full = fullAt(variant, part);
      if (!full)
        return full.takeError();
      if (!*full)
        continue;
      size_t kernel = **full;
      ChipPart single = variant.partition.part(kernel, kernel + 1);
      if (kernel < part.end && part.end - part.first > 1)
        if (auto of = fullAt(variant, single); !of)
          return of.takeError();
      return false;
    }
    return true;
  }

  // The kernel of a part for which a chip has no room; nothing when all of it fits, if it must then frugally.
  llvm::Expected<std::optional<size_t>> fullAt(Variant &variant, ChipPart &part) {
    auto [known, fresh] = variant.tried.try_emplace(variant.signatureOf(part));
    Variant::Tried &tried = known->second;
    if (fresh) {
      // Of parts that fill most of a chip few fit otherwise.
      tried.frugal = variant.partition.wordsOf(part) > machine.dataWords() / 2;
      if (llvm::Error error = compileApart(variant, part, tried))
        return std::move(error);
      if (tried.misfit && !tried.misfit->share && !tried.frugal) {
        tried.frugal = true;
        if (llvm::Error error = compileApart(variant, part, tried))
          return std::move(error);
      }
    }
    part.frugal = tried.frugal;
    if (!tried.misfit)
      return std::nullopt;
    CompilerState::Misfit misfit{tried.misfit->kernel + part.first, tried.misfit->share};
    misses(part, misfit, tried.reason, &variant.partition);
    return misfit.kernel;
  }

  // Notes why a part does not fit a chip by itself, if it does not.
  llvm::Error compileApart(const Variant &variant, ChipPart part, Variant::Tried &tried) {
    part.frugal = tried.frugal;
    tried.misfit.reset();
    program::Program copy = program;
    Code code;
    CompilerState state(variant.lean, machine, copy, code, part, 0);
    llvm::Error error = state.begin();
    if (!error)
      error = state.assumeArrived(variant.partition.regions());
    if (!error)
      error = state.run();
    if (!error)
      if (auto made = state.finish(); !made)
        error = made.takeError();
    if (!error || !target::saysNoRoom(error) || !state.misfit())
      return error;
    tried.misfit = state.misfit();
    tried.misfit->kernel -= part.first;
    tried.reason = report(std::move(error)).message;
    return llvm::Error::success();
  }

  // The first variant, the graph as it is; none when no chip has room for some kernel.
  llvm::Error measure() {
    if (std::exchange(measured, true))
      return llvm::Error::success();
    auto found = costsOf(withoutWeights(whole), machine, program);
    if (!found)
      return found.takeError();
    if (!*found)
      return llvm::Error::success();
    costs = std::move(**found);
    variants.push_back(std::make_unique<Variant>(whole, machine, costs));
    return llvm::Error::success();
  }

  // Products in parts that take half as much of a chip as before, or less; false when there is no more to cut.
  bool addVariant() {
    constexpr int64_t smallest = 64; // parts of a chip
    while (partsOfChip < smallest) {
      partsOfChip *= 2;
      int64_t largest = machine.dataWords() / partsOfChip;
      std::vector<int64_t> parts;
      for (const KernelCost &cost : costs.kernels)
        parts.push_back((std::max(cost.residentWords, cost.outputWords) + largest - 1) / largest);
      SplitGraph split = splitProducts(whole, parts, machine.f16Columns);
      if (split.graph.graph.kernels.size() == variants.back()->graph.graph.kernels.size())
        continue;
      Costs ofParts = costsOfParts(costs, whole.graph, split);
      variants.push_back(std::make_unique<Variant>(std::move(split.graph), machine, std::move(ofParts)));
      return true;
    }
    return false;
  }

  const MachineGraph &whole;
  const Architecture &machine;
  const program::Program &program;
  bool measured = false;
  Costs costs;                                    // of the whole graph
  std::vector<std::unique_ptr<Variant>> variants; // ever finer
  int64_t partsOfChip = 1;                        // how large products of the last one may be
  std::string reason;                             // of the last attempt's failure
  bool learns = true;                             // how full a chip can be
  bool alone = false;                             // a part of one kernel did not fit
};

// The stages that the user wants, each on a chip.
llvm::Expected<program::Program> compileStages(const MachineGraph &graph, const Architecture &machine,
                                               const program::Program &program, int64_t chips,
                                               const target::GivenStages &given) {
  std::vector<ChipPart> parts = Partition::between(graph.graph, given.bounds);
  Attempt attempt = compileFrugally(graph, machine, program, chips, parts);
  if (attempt.program || !attempt.misfit)
    return std::move(attempt.program);
  std::string reason = report(attempt.program.takeError()).message;
  auto costs = costsOf(withoutWeights(graph), machine, program);
  if (!costs)
    return costs.takeError();
  if (!*costs)
    return target::doesNotFitError(target::nameOfStage(given.cuts, attempt.part) + " does not fit a chip: " + reason,
                                   {}, "a smaller batch needs less");
  Partition partition(graph.graph, machine, std::move(**costs));
  const ChipPart &part = parts[attempt.part];
  int64_t resident = partition.residentWordsOf(part), values = partition.wordsOf(part) - resident;
  auto bytes = [&](int64_t words) { return mebibytes(words * machine.vectorBytes()); };
  return target::doesNotFitError(
      target::nameOfStage(given.cuts, attempt.part) + " does not fit a chip: " + reason +
          "; its weights and outputs take " + bytes(resident) + ", its values that are needed at once " +
          bytes(values) + ", a chip holds " + bytes(machine.dataWords()),
      {},
      part.end - part.first == 1 ? "one kernel alone is too large for a chip: without --stages-at its weights are cut "
                                   "in parts where they can be"
                                 : "name another node in --stages-at, or one more; a smaller batch needs less");
}

} // namespace

llvm::Expected<program::Program> compileGraph(const MachineGraph &graph, const Architecture &machine,
                                              program::Program program, int64_t chips,
                                              const target::GivenStages &given) {
  int64_t most = chips != 0 ? chips : machine.chipCounts.back();
  int64_t capacity = machine.dataWords() * machine.vectorBytes();
  auto [weights, largest] = leastWeightBytes(graph.graph);
  if (weights > most * capacity)
    return target::doesNotFitError(
        "the weights of products alone take " + mebibytes(weights) + ", " +
            (most == 1 ? "one chip holds " : std::to_string(most) + " chips hold ") + mebibytes(most * capacity),
        {"", largest}, llvm::Twine((weights + capacity - 1) / capacity) + " chips at least are needed");
  if (auto [bytes, node] = mostBytesAtOnce(graph.graph); bytes > capacity)
    return target::doesNotFitError("what it reads and writes takes " + mebibytes(bytes) + " at once, one chip holds " +
                                       mebibytes(capacity) + "; the weights of products take " + mebibytes(weights),
                                   {"", node},
                                   llvm::Twine(std::max<int64_t>((weights + capacity - 1) / capacity, 1)) +
                                       " chips at least are needed for weights, but no number of them holds these "
                                       "values; a smaller batch or a shorter sequence needs less");
  if (!given.bounds.empty())
    return compileStages(graph, machine, program, chips, given);
  Search search(graph, machine, program);
  for (int64_t count : machine.chipCounts)
    if ((chips == 0 || count == chips) && weights <= count * capacity)
      if (auto result = search.on(count))
        return std::move(*result);
  return search.doesNotFit(most);
}

} // namespace quadrille::tsp
