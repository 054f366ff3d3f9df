#include "target/ipu/Steps.h"

#include "target/ipu/VertexCycles.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/STLExtras.h"

#include <algorithm>

namespace quadrille::ipu {

ComputeTime timeOfSet(const ComputeSet &set, llvm::ArrayRef<BlockExpression> expressions, const Architecture &machine,
                      const CycleModel &cycles) {
  struct Busy {
    int64_t supervisor = 0;
    std::vector<int64_t> workers;
    size_t next = 0;
  };
  llvm::DenseMap<uint32_t, Busy> busy;
  for (const Vertex &vertex : set.vertices) {
    int64_t each = cyclesOf(vertex, expressions, cycles);
    bool isSupervisor = formOf(vertex.codelet)->executor == Executor::Supervisor;
    forEachTile(vertex.tiles, [&](uint32_t tile) {
      Busy &here = busy[tile];
      if (isSupervisor) {
        here.supervisor += each;
        return;
      }
      // Worker vertices are dealt out in order.
      here.workers.resize(static_cast<size_t>(machine.workers));
      here.workers[here.next++ % here.workers.size()] += each;
    });
  }
  ComputeTime time;
  for (auto &[tile, here] : busy) {
    // A worker has one issue slot in as many as there are workers.
    int64_t most = here.workers.empty() ? 0 : *std::max_element(here.workers.begin(), here.workers.end());
    time.tiles.emplace_back(tile, here.supervisor + machine.workers * most);
  }
  llvm::sort(time.tiles);
  for (auto [tile, taken] : time.tiles) {
    time.mean += static_cast<double>(taken) / static_cast<double>(time.tiles.size());
    if (taken > time.maximum) {
      time.maximum = taken;
      time.worstTile = tile;
    }
  }
  return time;
}

Steps::Steps(const Code &code, size_t entry, const Architecture &machine, const CycleModel &cycles, int64_t ipus)
    : steps(code.entries[entry]), machine(machine), ipus(ipus), clocks(static_cast<size_t>(ipus * machine.tiles)) {
  for (const ComputeSet &set : code.computeSets)
    computeTimes.push_back(timeOfSet(set, code.expressions, machine, cycles));
  for (const Exchange &exchange : code.exchanges)
    exchangeTimes.push_back(timesOf(exchange, machine));
}

int64_t Steps::cycles() const {
  return *std::max_element(clocks.begin(), clocks.end());
}

llvm::Error Steps::run(llvm::function_ref<llvm::Error(const Step &step)> execute,
                       llvm::function_ref<void(const StepTime &time)> observe) {
  struct Repeat {
    size_t begin;
    int64_t left;
  };
  std::vector<Repeat> repeats;
  auto clockOf = [&](int64_t ipu) {
    return llvm::MutableArrayRef(clocks).slice(static_cast<size_t>(ipu * machine.tiles),
                                               static_cast<size_t>(machine.tiles));
  };
  for (size_t at = 0; at < steps.size(); ++at) {
    const Step &step = steps[at];
    if (llvm::Error error = execute(step))
      return error;
    switch (step.kind) {
    case StepKind::Execute: {
      const ComputeTime &time = computeTimes[step.index];
      std::map<int64_t, StepTime> byIpu;
      for (auto [tile, taken] : time.tiles) {
        int64_t &clock = clocks[tile];
        auto [known, fresh] = byIpu.try_emplace(machine.ipuOf(tile),
                                                StepTime{static_cast<uint32_t>(at), machine.ipuOf(tile), clock, clock});
        known->second.begin = std::min(known->second.begin, clock);
        clock += taken;
        known->second.end = std::max(known->second.end, clock);
      }
      for (auto &[ipu, here] : byIpu)
        observe(here);
      break;
    }
    case StepKind::Exchange: {
      const std::map<int64_t, ExchangeTime> &times = exchangeTimes[step.index];
      bool spans = llvm::any_of(times, [](const auto &each) { return each.second.spansIpus; });
      int64_t together = 0;
      for (auto &[ipu, time] : times)
        together = std::max(together, llvm::max_element(clockOf(ipu))[0]);
      for (auto &[ipu, time] : times) {
        auto here = clockOf(ipu);
        auto [least, most] = std::minmax_element(here.begin(), here.end());
        int64_t begin = spans ? together : *most;
        int64_t sync = spans ? machine.globalSync(ipus) : machine.syncInternal;
        StepTime taken{static_cast<uint32_t>(at), ipu, begin, begin + sync + time.cycles, sync, begin - *least};
        std::fill(here.begin(), here.end(), taken.end);
        observe(taken);
      }
      break;
    }
    case StepKind::Repeat:
      repeats.push_back({at, step.index});
      break;
    case StepKind::End:
      if (--repeats.back().left > 0)
        at = repeats.back().begin;
      else
        repeats.pop_back();
      break;
    case StepKind::Read:
    case StepKind::Write:
      break; // the host's time
    }
  }
  return llvm::Error::success();
}

llvm::Expected<int64_t> latencyOf(const program::Program &program, const Architecture &machine,
                                  const CycleModel &cycles) {
  auto code = Code::decode(program.payload());
  if (!code)
    return code.takeError();
  Steps steps(*code, 0, machine, cycles, program.chips);
  if (llvm::Error error = steps.run([](const Step &) { return llvm::Error::success(); }, [](const StepTime &) {}))
    return std::move(error);
  return steps.cycles();
}

} // namespace quadrille::ipu
