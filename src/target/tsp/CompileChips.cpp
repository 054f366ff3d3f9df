// From a model to the program of one chip or several: how many, what each does, and one after the other their code.
#include "base/Error.h"
#include "target/Refusal.h"
#include "target/tsp/Compiler.h"
#include "target/tsp/CompilerState.h"
#include "target/tsp/Lower.h"
#include "target/tsp/Split.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/FormatVariadic.h"

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
    return {std::move(error), number, state.misfit()};
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

// Compiles for a chip whose memory has no end.
llvm::Expected<Costs> costsOf(const MachineGraph &graph, const Architecture &machine, program::Program program) {
  Architecture endless = machine;
  endless.words = std::numeric_limits<int32_t>::max();
  // What is in the weights of products changes no cost.
  MachineGraph lean = graph;
  for (const graph::Kernel &kernel : graph.graph.kernels)
    if (kernel.kind == graph::KernelKind::Contract)
      if (auto contraction = graph::inferContraction(graph.graph, kernel))
        lean.graph.values[kernel.reads[contraction->rhs].value].data = Tensor();
  Code code;
  CompilerState state(lean, endless, program, code, Partition::whole(graph.graph).front(), 0);
  if (llvm::Error error = state.begin())
    return std::move(error);
  if (llvm::Error error = state.run())
    return std::move(error);
  return state.costs();
}

// The graph with its large products in parts, and how it can be cut.
struct Variant {
  MachineGraph graph;
  std::optional<Partition> partition;
};

class Search {
public:
  Search(const MachineGraph &graph, const Architecture &machine, const program::Program &program)
      : machine(machine), program(program) {
    variants.push_back(std::make_unique<Variant>(Variant{graph, std::nullopt}));
  }

  // The program for so many chips; an error that is `full` is remembered, and nothing returned, when it does not fit.
  std::optional<llvm::Expected<program::Program>> on(int64_t chips) {
    const MachineGraph &whole = variants.front()->graph;
    if (chips == 1)
      return attempt(whole, chips, Partition::whole(whole.graph), nullptr);
    for (size_t number = 0;; ++number) {
      if (number == variants.size() && !addVariant())
        return std::nullopt;
      Variant &variant = *variants[number];
      if (llvm::Error error = measure(variant))
        return llvm::Expected<program::Program>(std::move(error));
      while (auto parts = variant.partition->parts(chips))
        if (auto result = attempt(variant.graph, chips, *parts, &*variant.partition))
          return result;
      if (variant.partition->weightBytes() + variant.partition->outputBytes() > chips * capacity())
        return std::nullopt;
    }
  }

  // Why it does not fit on so many chips.
  llvm::Error doesNotFit(int64_t chips) {
    if (llvm::Error error = measure(*variants.front()))
      return error;
    const Partition &partition = *variants.front()->partition;
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

  std::optional<llvm::Expected<program::Program>> attempt(const MachineGraph &graph, int64_t chips,
                                                          const std::vector<ChipPart> &parts, Partition *partition) {
    Attempt attempt = compileParts(graph, machine, program, chips, parts);
    if (attempt.program || !attempt.misfit)
      return std::move(attempt.program);
    reason = report(attempt.program.takeError()).message;
    const ChipPart &part = parts[attempt.part];
    alone = part.end - part.first == 1 || (!attempt.misfit->share && attempt.misfit->kernel == part.first);
    if (partition)
      partition->forbid(part.first, attempt.misfit->share ? partition->kernelAt(part, *attempt.misfit->share)
                                                          : attempt.misfit->kernel);
    return std::nullopt;
  }

  llvm::Error measure(Variant &variant) {
    if (variant.partition)
      return llvm::Error::success();
    auto costs = costsOf(variant.graph, machine, program);
    if (!costs)
      return costs.takeError();
    variant.partition.emplace(variant.graph.graph, machine, std::move(*costs));
    return llvm::Error::success();
  }

  // Products in parts that take half as much of a chip as before, or less; false when there is no more to cut.
  bool addVariant() {
    constexpr int64_t smallest = 16; // parts of a chip
    const Variant &whole = *variants.front();
    while (partsOfChip < smallest) {
      partsOfChip *= 2;
      int64_t largest = machine.dataWords() / partsOfChip;
      std::vector<int64_t> parts;
      for (size_t kernel = 0; kernel < whole.graph.graph.kernels.size(); ++kernel) {
        const KernelCost &cost = whole.partition->cost(kernel);
        parts.push_back((std::max(cost.residentWords, cost.outputWords) + largest - 1) / largest);
      }
      MachineGraph graph = splitProducts(whole.graph, parts, machine.f16Columns);
      if (graph.graph.kernels.size() == variants.back()->graph.graph.kernels.size())
        continue;
      variants.push_back(std::make_unique<Variant>(Variant{std::move(graph), std::nullopt}));
      return true;
    }
    return false;
  }

  const Architecture &machine;
  const program::Program &program;
  std::vector<std::unique_ptr<Variant>> variants; // ever finer
  int64_t partsOfChip = 1;                        // how large products of the last one may be
  std::string reason;                             // of the last attempt's failure
  bool alone = false;                             // a part of one kernel did not fit
};

} // namespace

llvm::Expected<program::Program> compileGraph(const MachineGraph &graph, const Architecture &machine,
                                              program::Program program, int64_t chips) {
  int64_t most = chips != 0 ? chips : machine.chipCounts.back();
  int64_t capacity = machine.dataWords() * machine.vectorBytes();
  auto [weights, largest] = leastWeightBytes(graph.graph);
  if (weights > most * capacity)
    return target::doesNotFitError(
        "the weights of products alone take " + mebibytes(weights) + ", " +
            (most == 1 ? "one chip holds " : std::to_string(most) + " chips hold ") + mebibytes(most * capacity),
        {"", largest}, llvm::Twine((weights + capacity - 1) / capacity) + " chips at least are needed");
  Search search(graph, machine, program);
  for (int64_t count : machine.chipCounts)
    if ((chips == 0 || count == chips) && weights <= count * capacity)
      if (auto result = search.on(count))
        return std::move(*result);
  return search.doesNotFit(most);
}

} // namespace quadrille::tsp
