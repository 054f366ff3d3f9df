// Which IPU each kernel runs on: consecutive ones share an IPU, as stages of a pipeline.
#include "target/ipu/CompilerState.h"

#include "target/Refusal.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"

#include <algorithm>

namespace quadrille::ipu {

namespace {

class Stages {
public:
  Stages(const Compiled &alone, const Architecture &machine) : needs(alone.needs), machine(machine) {
    // What lies beside constants and code at the same time, at the most.
    temporary = alone.dataBytes - alone.constantBytes;
  }

  // Kernels of `ipus` stages, so that the longest takes as few cycles as can be; nothing where they do not fit.
  std::optional<std::vector<uint16_t>> assign(int64_t ipus) const {
    int64_t low = 0, high = 0;
    for (const KernelNeeds &each : needs)
      high += each.cycles;
    if (!assign(ipus, high))
      return std::nullopt;
    while (low + 1 < high) {
      int64_t middle = low + (high - low) / 2;
      (assign(ipus, middle) ? high : low) = middle;
    }
    return assign(ipus, high);
  }

private:
  std::optional<std::vector<uint16_t>> assign(int64_t ipus, int64_t mostCycles) const {
    std::vector<uint16_t> result;
    int64_t constants = 0, code = 0, cycles = 0;
    int64_t stage = 0;
    for (const KernelNeeds &each : needs) {
      auto fits = [&] {
        int64_t all = code + each.codeBytes;
        return all <= machine.executableBytes &&
               constants + each.constantBytes + temporary + all <= machine.memoryBytes - machine.tailBytes &&
               cycles + each.cycles <= mostCycles;
      };
      if (!fits() && constants + code + cycles > 0) {
        ++stage;
        constants = code = cycles = 0;
      }
      if (stage >= ipus || !fits())
        return std::nullopt;
      constants += each.constantBytes;
      code += each.codeBytes;
      cycles += each.cycles;
      result.push_back(static_cast<uint16_t>(stage));
    }
    return result;
  }

  const std::vector<KernelNeeds> &needs;
  const Architecture &machine;
  int64_t temporary = 0;
};

bool fits(const Compiled &compiled, const Architecture &machine) {
  return compiled.codeBytes <= machine.executableBytes &&
         roundUp(compiled.codeBytes, bufferAlignment) + compiled.dataBytes <= machine.memoryBytes - machine.tailBytes;
}

llvm::Error tooLarge(const Compiled &compiled, const Architecture &machine, int64_t ipus) {
  return target::doesNotFitError(
      "it does not fit " + (ipus == 1 ? std::string("one IPU") : std::to_string(ipus) + " IPUs") +
          ": on one, a tile needs " + llvm::Twine(compiled.dataBytes) + " bytes of data (" + llvm::Twine(compiled.constantBytes) +
          " of weights and constants) and " + llvm::Twine(compiled.codeBytes) + " of code, it has " +
          llvm::Twine(machine.memoryBytes - machine.tailBytes) + ", of which " + llvm::Twine(machine.executableBytes) +
          " can hold code; the largest array is " + compiled.largest + " with " + llvm::Twine(compiled.largestBytes) +
          " bytes",
      {}, "a smaller batch, a shorter sequence or more IPUs may help");
}

} // namespace

llvm::Expected<program::Program> compileGraph(const graph::KernelGraph &graph, const Architecture &machine,
                                              const CycleModel &cycles, const Precision &precision,
                                              program::Program program, int64_t ipus) {
  auto compile = [&](llvm::ArrayRef<uint16_t> ipuOf) {
    return CompilerState(graph, machine, cycles, precision, program, ipuOf).run();
  };
  Compiled alone = compile(std::vector<uint16_t>(graph.kernels.size(), 0));
  if (ipus <= 1 && fits(alone, machine))
    return std::move(alone.program);
  Stages stages(alone, machine);
  for (int64_t count : machine.ipuCounts) {
    if (count == 1 || (ipus > 0 && count != ipus))
      continue;
    auto ipuOf = stages.assign(count);
    if (!ipuOf)
      continue;
    Compiled compiled = compile(*ipuOf);
    if (!fits(compiled, machine))
      continue;
    compiled.program.chips = count;
    return std::move(compiled.program);
  }
  return tooLarge(alone, machine, ipus > 0 ? ipus : 1);
}

} // namespace quadrille::ipu
