#include "target/ipu/Steps.h"

#include "target/ipu/VertexCycles.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <numeric>

namespace quadrille::ipu {

namespace {

// What the vertices of a compute set that are on one tile take.
struct Busy {
  ByPurpose supervisor = {};
  std::vector<ByPurpose> workers;
  size_t next = 0;

  void add(const Form &form, int64_t cycles, int64_t workerCount) {
    auto purpose = static_cast<size_t>(form.purpose);
    if (form.executor == Executor::Supervisor) {
      supervisor[purpose] += cycles;
      return;
    }
    // Worker vertices are dealt out in order.
    workers.resize(static_cast<size_t>(workerCount));
    workers[next++ % workers.size()][purpose] += cycles;
  }

  ByPurpose cycles() const {
    ByPurpose all = supervisor;
    auto busiest = std::max_element(workers.begin(), workers.end(),
                                    [](const ByPurpose &a, const ByPurpose &b) { return sumOf(a) < sumOf(b); });
    // A worker has one issue slot in as many as there are workers.
    for (size_t purpose = 0; purpose < purposes && busiest != workers.end(); ++purpose)
      all[purpose] += static_cast<int64_t>(workers.size()) * (*busiest)[purpose];
    return all;
  }
};

ByPurpose purposesOnTile(const ComputeSet &set, uint32_t tile, llvm::ArrayRef<BlockExpression> expressions,
                         const Architecture &machine, const CycleModel &cycles) {
  Busy busy;
  for (const Vertex &vertex : set.vertices)
    for (const TileRange &range : vertex.tiles)
      if (range.holds(tile))
        for (uint32_t times = range.step == 0 ? range.count : 1; times > 0; --times)
          busy.add(*formOf(vertex.codelet), cyclesOf(vertex, expressions, cycles), machine.workers);
  return busy.cycles();
}

} // namespace

int64_t sumOf(const ByPurpose &cycles) {
  return std::accumulate(cycles.begin(), cycles.end(), int64_t(0));
}

ComputeTime timeOfSet(const ComputeSet &set, llvm::ArrayRef<BlockExpression> expressions, const Architecture &machine,
                      const CycleModel &cycles) {
  llvm::DenseMap<uint32_t, Busy> busy;
  for (const Vertex &vertex : set.vertices) {
    int64_t each = cyclesOf(vertex, expressions, cycles);
    const Form &form = *formOf(vertex.codelet);
    forEachTile(vertex.tiles, [&](uint32_t tile) { busy[tile].add(form, each, machine.workers); });
  }
  ComputeTime time;
  for (auto &[tile, here] : busy)
    time.tiles.emplace_back(tile, sumOf(here.cycles()));
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
    : code(code), steps(code.entries[entry]), machine(machine), model(cycles), ipus(ipus),
      clocks(static_cast<size_t>(ipus * machine.tiles)), pathBegins(static_cast<size_t>(ipus)),
      pathSteps(static_cast<size_t>(ipus)) {
  for (const ComputeSet &set : code.computeSets)
    computeTimes.push_back(timeOfSet(set, code.expressions, machine, cycles));
  for (const Exchange &exchange : code.exchanges)
    exchangeTimes.push_back(timesOf(exchange, machine));
}

int64_t Steps::cycles() const {
  return *std::max_element(clocks.begin(), clocks.end());
}

llvm::MutableArrayRef<int64_t> Steps::clocksOf(int64_t ipu) {
  return llvm::MutableArrayRef(clocks).slice(static_cast<size_t>(ipu * machine.tiles),
                                             static_cast<size_t>(machine.tiles));
}

Path Steps::endPath(int64_t ipu) {
  auto here = clocksOf(ipu);
  auto last = std::max_element(here.begin(), here.end());
  Path path{ipu,
            static_cast<uint32_t>(ipu * machine.tiles + (last - here.begin())),
            pathBegins[static_cast<size_t>(ipu)],
            *last,
            {}};
  for (uint32_t step : pathSteps[static_cast<size_t>(ipu)]) {
    uint32_t set = steps[step].index;
    auto [known, fresh] = knownPurposes.try_emplace({set, path.tile});
    if (fresh)
      known->second = purposesOnTile(code.computeSets[set], path.tile, code.expressions, machine, model);
    if (sumOf(known->second) > 0)
      path.parts.push_back({step, known->second});
  }
  pathSteps[static_cast<size_t>(ipu)].clear();
  return path;
}

llvm::Error Steps::run(llvm::function_ref<llvm::Error(const Step &step)> execute,
                       llvm::function_ref<void(const StepTime &time)> observe,
                       llvm::function_ref<void(const Path &path)> observePath) {
  struct Repeat {
    size_t begin;
    int64_t left;
  };
  std::vector<Repeat> repeats;
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
      for (auto &[ipu, here] : byIpu) {
        pathSteps[static_cast<size_t>(ipu)].push_back(static_cast<uint32_t>(at));
        observe(here);
      }
      break;
    }
    case StepKind::Exchange: {
      const std::map<int64_t, ExchangeTime> &times = exchangeTimes[step.index];
      bool spans = llvm::any_of(times, [](const auto &each) { return each.second.spansIpus; });
      int64_t together = 0;
      for (auto &[ipu, time] : times)
        together = std::max(together, llvm::max_element(clocksOf(ipu))[0]);
      for (auto &[ipu, time] : times) {
        observePath(endPath(ipu));
        auto here = clocksOf(ipu);
        auto [least, most] = std::minmax_element(here.begin(), here.end());
        int64_t begin = spans ? together : *most;
        int64_t sync = spans ? machine.globalSync(ipus) : machine.syncInternal;
        StepTime taken{static_cast<uint32_t>(at), ipu, begin, begin + sync + time.cycles, sync, begin - *least};
        std::fill(here.begin(), here.end(), taken.end);
        pathBegins[static_cast<size_t>(ipu)] = taken.end;
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
  for (int64_t ipu = 0; ipu < ipus; ++ipu)
    observePath(endPath(ipu));
  return llvm::Error::success();
}

llvm::Expected<int64_t> latencyOf(const program::Program &program, const Architecture &machine,
                                  const CycleModel &cycles) {
  auto code = Code::decode(program.payload());
  if (!code)
    return code.takeError();
  Steps steps(*code, 0, machine, cycles, program.chips);
  if (llvm::Error error =
          steps.run([](const Step &) { return llvm::Error::success(); }, [](const StepTime &) {}, [](const Path &) {}))
    return std::move(error);
  return steps.cycles();
}

} // namespace quadrille::ipu
