// Which IPU each kernel runs on: consecutive ones share an IPU, as stages of a pipeline.
#include "target/ipu/CompilerState.h"

#include "graph/KernelQueries.h"
#include "target/Refusal.h"
#include "target/Stages.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"

#include <algorithm>

namespace quadrille::ipu {

namespace {

class Stages {
public:
  Stages(const Compiled &alone, const graph::KernelGraph &graph, const Architecture &machine)
      : needs(alone.needs), machine(machine) {
    // A loop runs on one IPU: its first kernel has the needs of all.
    for (size_t begin = 0; begin < graph.kernels.size(); ++begin) {
      if (graph.kernels[begin].operation != "loop_begin")
        continue;
      size_t end = graph::endOfLoop(graph, begin);
      for (size_t inner = begin + 1; inner < end; ++inner) {
        needs[begin].constantBytes += needs[inner].constantBytes;
        needs[begin].codeBytes += needs[inner].codeBytes;
        needs[begin].valueBytes = std::max(needs[begin].valueBytes, needs[inner].valueBytes);
        needs[begin].cycles += needs[inner].cycles;
        needs[inner] = {};
      }
      begin = end - 1;
    }
  }

  // Kernels of `ipus` stages, so that the longest takes as few cycles as can be; nothing where they do not fit beside
  // the given bytes of a tile, as many of them for code.
  std::optional<std::vector<uint16_t>> assign(int64_t ipus, int64_t kept = 0, int64_t keptForCode = 0) {
    executable = machine.executableBytes - keptForCode;
    usable = machine.memoryBytes - machine.tailBytes - kept;
    int64_t low = 0, high = 0;
    for (const KernelNeeds &each : needs)
      high += each.cycles;
    if (!assignWithin(ipus, high))
      return std::nullopt;
    while (low + 1 < high) {
      int64_t middle = low + (high - low) / 2;
      (assignWithin(ipus, middle) ? high : low) = middle;
    }
    return assignWithin(ipus, high);
  }

private:
  std::optional<std::vector<uint16_t>> assignWithin(int64_t ipus, int64_t mostCycles) const {
    std::vector<uint16_t> result;
    int64_t constants = 0, code = 0, values = 0, cycles = 0; // of values the most that are live at the same time
    int64_t stage = 0;
    for (const KernelNeeds &each : needs) {
      auto fits = [&] {
        int64_t all = code + each.codeBytes;
        return all <= executable &&
               constants + each.constantBytes + std::max(values, each.valueBytes) + all <= usable &&
               cycles + each.cycles <= mostCycles;
      };
      if (!fits() && constants + code + cycles > 0) {
        ++stage;
        constants = code = values = cycles = 0;
      }
      if (stage >= ipus || !fits())
        return std::nullopt;
      constants += each.constantBytes;
      code += each.codeBytes;
      values = std::max(values, each.valueBytes);
      cycles += each.cycles;
      result.push_back(static_cast<uint16_t>(stage));
    }
    return result;
  }

  std::vector<KernelNeeds> needs;
  const Architecture &machine;
  int64_t executable = 0, usable = 0;
};

// "node_Conv_1 (12,345 bytes)": those that need most.
std::string largestNodes(const Compiled &compiled, const graph::KernelGraph &graph) {
  constexpr size_t few = 3;
  std::map<uint32_t, int64_t> bytes;
  for (auto [needs, kernel] : llvm::zip(compiled.needs, graph.kernels))
    if (!kernel.nodes.empty())
      bytes[kernel.nodes.front()] += needs.constantBytes + needs.codeBytes;
  std::vector<std::pair<int64_t, uint32_t>> order;
  for (auto [node, count] : bytes)
    order.emplace_back(count, node);
  llvm::sort(order, std::greater<>());
  std::string text;
  for (auto [count, node] : llvm::ArrayRef(order).take_front(few))
    text += (text.empty() ? "" : ", ") + graph.nodes[node].name + " (" + std::to_string(count) + ")";
  return text;
}

llvm::Error tooLarge(const Compiled &compiled, const graph::KernelGraph &graph, const Architecture &machine,
                     int64_t ipus) {
  // The fewest that would do, if not this machine's.
  constexpr int64_t mostIpus = 1024;
  Stages stages(compiled, graph, machine);
  std::string remedy = "a smaller batch or a shorter sequence needs less; one kernel alone is too large for an IPU";
  for (int64_t count = 2 * ipus; count <= mostIpus; count *= 2)
    if (stages.assign(count)) {
      remedy = "about " + std::to_string(count) + " IPUs would do, this machine's programs have at most " +
               std::to_string(machine.ipuCounts.back()) + "; a smaller batch or a shorter sequence needs less";
      break;
    }
  return target::doesNotFitError(
      "it does not fit " + (ipus == 1 ? std::string("one IPU") : std::to_string(ipus) + " IPUs") +
          ": if it ran on one, the fullest tile would need " + llvm::Twine(compiled.constantBytes) +
          " bytes that are always live (weights and constants), " +
          llvm::Twine(compiled.dataBytes - compiled.constantBytes) + " for values and " +
          llvm::Twine(compiled.codeBytes) + " for code; a tile has " +
          llvm::Twine(machine.memoryBytes - machine.tailBytes) + ", of which " + llvm::Twine(machine.executableBytes) +
          " can hold code. The largest array is " + compiled.largest + " (" + llvm::Twine(compiled.largestBytes) +
          " bytes), the nodes with most always live bytes are " + largestNodes(compiled, graph),
      {}, remedy);
}

llvm::Error stageTooLarge(const Compiled &compiled, const target::StageCuts &cuts, const Architecture &machine) {
  using Needs = Compiled::TileNeeds;
  bool ofCode = compiled.codeBytes > machine.executableBytes;
  const Needs &needs = *llvm::max_element(compiled.ipus, [&](const Needs &a, const Needs &b) {
    return ofCode ? a.codeBytes < b.codeBytes : a.codeBytes + a.dataBytes < b.codeBytes + b.dataBytes;
  });
  auto stage = static_cast<size_t>(&needs - compiled.ipus.data());
  return target::doesNotFitError(
      target::nameOfStage(cuts, stage) + " does not fit an IPU: its fullest tile would need " +
          llvm::Twine(needs.constantBytes) + " bytes that are always live (weights and constants), " +
          llvm::Twine(needs.dataBytes - needs.constantBytes) + " for values and " + llvm::Twine(needs.codeBytes) +
          " for code; a tile has " + llvm::Twine(machine.memoryBytes - machine.tailBytes) + ", of which " +
          llvm::Twine(machine.executableBytes) + " can hold code",
      {}, "name another node in --stages-at, or one more; a smaller batch or a shorter sequence needs less");
}

} // namespace

llvm::Expected<program::Program> compileGraph(const graph::KernelGraph &graph, const Architecture &machine,
                                              const CycleModel &cycles, const Precision &precision,
                                              program::Program program, int64_t ipus,
                                              const target::GivenStages &given) {
  auto compile = [&](llvm::ArrayRef<uint16_t> ipuOf, const Frugality &frugality, bool measures = false) {
    return CompilerState(graph, machine, cycles, precision, program, ipuOf, frugality).run(measures);
  };
  // Fewer copies of weights and contractions in more rounds need less memory: on one IPU, as long as there is room for
  // the code, before others are asked for; on several where nothing else does.
  Frugality less[] = {{1, machine.memoryBytes / 64}, {0.25, machine.memoryBytes / 128}};
  for (Frugality &each : less)
    each.movesAway = false;
  if (!given.bounds.empty()) {
    std::vector<uint16_t> ipuOf;
    for (size_t stage = 0; stage + 1 < given.bounds.size(); ++stage)
      ipuOf.insert(ipuOf.end(), given.bounds[stage + 1] - given.bounds[stage], static_cast<uint16_t>(stage));
    std::optional<Compiled> smallest;
    for (const Frugality &frugality : {Frugality(), less[0], less[1]}) {
      Compiled compiled = compile(ipuOf, frugality);
      if (compiled.fits(machine)) {
        compiled.program.chips = ipus;
        return std::move(compiled.program);
      }
      if (!smallest || compiled.codeBytes + compiled.dataBytes < smallest->codeBytes + smallest->dataBytes)
        smallest = std::move(compiled);
    }
    return stageTooLarge(*smallest, given.cuts, machine);
  }
  std::vector<uint16_t> one(graph.kernels.size(), 0);
  Compiled alone = compile(one, {}, ipus > 1);
  if (ipus <= 1 && alone.fits(machine))
    return std::move(alone.program);
  auto inStages = [&](const Compiled &measured, const Frugality &frugality) -> std::optional<program::Program> {
    Stages stages(measured, graph, machine);
    for (int64_t count : machine.ipuCounts) {
      if (count == 1 || (ipus > 0 && count != ipus))
        continue;
      // What stages hand on takes code and room that a program for one IPU does not have: as much as is missing.
      constexpr int attempts = 3;
      int64_t kept = 0, keptForCode = 0;
      for (int attempt = 0; attempt < attempts; ++attempt) {
        auto ipuOf = stages.assign(count, kept, keptForCode);
        if (!ipuOf)
          break;
        Compiled compiled = compile(*ipuOf, frugality);
        if (compiled.fits(machine)) {
          compiled.program.chips = count;
          return std::move(compiled.program);
        }
        Compiled::Missing missing = compiled.missing(machine);
        kept += missing.bytes;
        keptForCode += missing.codeBytes;
      }
    }
    return std::nullopt;
  };
  // Where little is missing, less code will do: of copies instead of transfers, or of tables with more copies.
  Compiled::Missing missing = alone.missing(machine);
  if (ipus <= 1 && std::max(missing.bytes, missing.codeBytes) <= machine.memoryBytes / 8) {
    Frugality stays, copies;
    stays.movesAway = false;
    copies.tables = 1;
    for (const Frugality &frugality : {stays, copies})
      if (Compiled compiled = compile(one, frugality); compiled.fits(machine))
        return std::move(compiled.program);
  }
  constexpr double muchCode = 1.25; // that blocks of long rows may get rid of
  if (ipus <= 1 && static_cast<double>(alone.codeBytes) <= muchCode * static_cast<double>(machine.executableBytes))
    for (const Frugality &frugality : less)
      if (Compiled compiled = compile(one, frugality); compiled.fits(machine))
        return std::move(compiled.program);
  if (auto made = inStages(alone, {}))
    return std::move(*made);
  if (ipus != 1 && machine.ipuCounts.back() > 1)
    for (const Frugality &frugality : less)
      if (auto made = inStages(compile(one, frugality, true), frugality))
        return std::move(*made);
  return tooLarge(alone, graph, machine, ipus > 0 ? ipus : machine.ipuCounts.back());
}

} // namespace quadrille::ipu
