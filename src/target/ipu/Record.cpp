#include "target/ipu/Record.h"

#include "target/Replicas.h"
#include "target/Stages.h"
#include "target/ipu/Liveness.h"
#include "target/ipu/Vertices.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <cmath>

namespace quadrille::ipu {

using timeline::Category;

Recorder::Recorder(const program::Program &program, const Code &code, size_t entry, const Architecture &machine,
                   const Steps &steps)
    : program(program), code(code), list(code.entries[entry]), entry(entry), machine(machine), steps(steps),
      chargedUntil(static_cast<size_t>(program.chips)), byIpu(static_cast<size_t>(program.chips)), totals(list.size()),
      begins(list.size(), -1), nodes(static_cast<size_t>(program.chips)) {
  timeline.machine = machine.machineName;
  timeline.clockHertz = machine.clockHertz;
  timeline.assumedFigures = machine.assumedFigures;
  for (int64_t ipu = 0; ipu < program.chips; ++ipu) {
    timeline::TrackId parent = timeline.addTrack("IPU " + std::to_string(ipu));
    tracks.push_back({timeline.addTrack("compute", parent), timeline.addTrack("exchange", parent)});
  }
}

timeline::KernelId Recorder::kernelOf(uint32_t node) {
  if (node == noNode)
    return timeline::noKernel;
  auto [known, fresh] = byNode.try_emplace(node, static_cast<timeline::KernelId>(timeline.kernels.size()));
  if (fresh) {
    timeline::KernelRecord record;
    record.name = program.nodes[node].name;
    record.kind = program.nodes[node].operation;
    record.nodes = {program.nodes[node].name};
    timeline.kernels.push_back(std::move(record));
  }
  return known->second;
}

std::string Recorder::nameOfStep(const Step &step) const {
  return step.kind == StepKind::Execute ? code.computeSets[step.index].name : code.exchanges[step.index].name;
}

void Recorder::charge(int64_t ipu, timeline::KernelId kernel, unsigned cause, int64_t cycles) {
  charged[kernel][cause] += cycles;
  byIpu[static_cast<size_t>(ipu)][cause] += cycles;
  chargedUntil[static_cast<size_t>(ipu)] += cycles;
}

void Recorder::add(const StepTime &time) {
  const Step &step = list[time.step];
  timeline::KernelId kernel = kernelOf(step.node);
  Total &total = totals[time.step];
  if (++total.executions == 1)
    begins[time.step] = time.begin;
  if (step.kind == StepKind::Execute) {
    if (step.node != noNode)
      nodes[static_cast<size_t>(time.ipu)].insert(step.node);
    total.cycles += time.end - time.begin;
    timeline.spans.push_back(
        {tracks[time.ipu][0], Cycles{time.begin}, Cycles{time.end}, Category::Compute, kernel, nameOfStep(step)});
    return;
  }
  total.cycles += time.end - time.begin - time.sync;
  total.sync += time.sync;
  total.onPath += time.end - time.begin;
  if (int64_t until = chargedUntil[static_cast<size_t>(time.ipu)]; time.begin > until) // for other IPUs
    charge(time.ipu, kernel, Idle, time.begin - until);
  charge(time.ipu, kernel, Sync, time.sync);
  charge(time.ipu, kernel, Exchanging, time.end - time.begin - time.sync);
  Cycles between{time.begin + time.sync};
  timeline.spans.push_back({tracks[time.ipu][1], Cycles{time.begin}, between, Category::Sync, kernel, "sync"});
  timeline.spans.push_back(
      {tracks[time.ipu][1], between, Cycles{time.end}, Category::Exchange, kernel, nameOfStep(step)});
}

void Recorder::add(const Path &path) {
  for (const Path::Part &part : path.parts) {
    totals[part.step].onPath += sumOf(part.cycles);
    for (unsigned purpose = 0; purpose < purposes; ++purpose)
      charge(path.ipu, kernelOf(list[part.step].node), purpose, part.cycles[purpose]);
  }
}

void Recorder::addSteps() {
  timeline::Table table{
      "steps",
      {"step", "kind", "name", "times", "cycles", "sync", "on the path", "tiles", "mean of the tiles", "worst tile"},
      {},
      "cycles of all executions together, from the first tile's begin to the last one's end; on the "
      "path: of the tile that is the last to come to the next exchange; mean and worst tile of one"};
  for (auto [i, total] : llvm::enumerate(totals)) {
    const Step &step = list[i];
    if (total.executions == 0)
      continue;
    std::vector<std::string> row = {std::to_string(i),
                                    step.kind == StepKind::Execute ? "compute" : "exchange",
                                    nameOfStep(step),
                                    std::to_string(total.executions),
                                    std::to_string(total.cycles),
                                    std::to_string(total.sync),
                                    std::to_string(total.onPath)};
    if (step.kind == StepKind::Execute) {
      const ComputeTime &time = steps.timeOf(step.index);
      llvm::append_range(row, std::vector<std::string>{std::to_string(time.tiles.size()),
                                                       std::to_string(std::llround(time.mean)),
                                                       std::to_string(time.worstTile)});
    } else {
      double mean = 0;
      int64_t most = -1;
      uint32_t worst = 0;
      for (const auto &[ipu, time] : steps.exchangeTimeOf(step.index)) {
        mean = std::max(mean, time.meanCycles);
        if (time.cycles > most) {
          most = time.cycles;
          worst = time.worstTile;
        }
      }
      llvm::append_range(row, std::vector<std::string>{std::to_string(machine.tiles),
                                                       std::to_string(std::llround(mean)), std::to_string(worst)});
    }
    table.rows.push_back(std::move(row));
  }
  timeline.tables.push_back(std::move(table));
}

void Recorder::addMemory() {
  std::vector<TileUse> uses = memoryUse(program, code, machine);
  timeline::Table table{"memory of a tile in bytes", {"what", "mean", "most", "on tile"}, {}, ""};
  auto addRow = [&](const std::string &name, auto &&amount) {
    double sum = 0;
    int64_t most = -1;
    size_t tile = 0;
    for (size_t i = 0; i < uses.size(); ++i) {
      int64_t bytes = amount(uses[i]);
      sum += static_cast<double>(bytes);
      if (bytes > most) {
        most = bytes;
        tile = i;
      }
    }
    table.rows.push_back({name, std::to_string(std::llround(sum / static_cast<double>(uses.size()))),
                          std::to_string(most), std::to_string(tile)});
    return std::pair(sum, most);
  };
  for (unsigned kind = 0; kind < memoryKinds; ++kind)
    addRow(nameOf(static_cast<MemoryKind>(kind)), [&](const TileUse &use) { return use.bytes[kind]; });
  addRow("of them interleaved", [](const TileUse &use) { return use.interleaved; });
  auto [sum, most] = addRow("all", [](const TileUse &use) { return use.total(); });
  table.note = "a tile has " + std::to_string(machine.memoryBytes) + " bytes, of which the first " +
               std::to_string(machine.executableBytes) + " can hold code and the last " +
               std::to_string(machine.interleavedBytes) + " are interleaved";
  timeline.tables.push_back(std::move(table));
  auto fullest = llvm::max_element(uses, [](const TileUse &a, const TileUse &b) { return a.total() < b.total(); });
  addLiveness(static_cast<uint32_t>(fullest - uses.begin()));
  timeline.figures.memoryBytes = static_cast<double>(machine.memoryBytes * static_cast<int64_t>(uses.size()));
  timeline.figures.memoryPeakBytes = sum;
}

void Recorder::addLiveness(uint32_t tile) {
  if (list.empty())
    return;
  Liveness liveness = livenessOf(tile, program, code, machine, entry);
  timeline::Counter counter{"live bytes of tile " + std::to_string(tile), "bytes", std::nullopt, {}};
  for (auto [step, bytes] : llvm::enumerate(liveness.temporary))
    if (begins[step] >= 0 && (counter.samples.empty() || counter.samples.back().at.value < begins[step]))
      counter.samples.push_back({Cycles{begins[step]}, static_cast<double>(liveness.alwaysLive + bytes)});
  timeline.counters.push_back(std::move(counter));
  size_t peak = liveness.peakStep();
  std::string node = list[peak].node == noNode ? "" : program.nodes[list[peak].node].name;
  timeline.tables.push_back({"liveness of the fullest tile",
                             {"tile", "always live bytes", "others at once", "at step", "node"},
                             {{std::to_string(tile), std::to_string(liveness.alwaysLive),
                               std::to_string(liveness.temporary[peak]), std::to_string(peak), node}},
                             "data alone; code stands above"});
}

void Recorder::addWork() {
  double perCycle = static_cast<double>(machine.tiles);
  for (auto [i, total] : llvm::enumerate(totals)) {
    const Step &step = list[i];
    timeline::KernelId kernel = kernelOf(step.node);
    if (total.executions == 0 || kernel == timeline::noKernel)
      continue;
    auto times = static_cast<double>(total.executions);
    timeline::KernelRecord &record = timeline.kernels[kernel];
    if (step.kind == StepKind::Exchange) {
      for (const auto &[ipu, time] : steps.exchangeTimeOf(step.index))
        record.bytes += times * static_cast<double>(time.bytesReceived);
      continue;
    }
    for (const Vertex &vertex : code.computeSets[step.index].vertices) {
      VertexWork work = workOf(vertex, code.expressions);
      double vertices = times * static_cast<double>(tileCount(vertex.tiles));
      record.flops += vertices * work.operations;
      if (work.products == 0)
        continue;
      bool f16 = typeOf(vertex, "type") == ElementType::f16;
      double products = !f16                                             ? machine.productsF32F32
                        : typeOf(vertex, "partials") == ElementType::f32 ? machine.productsF16F32
                                                                         : machine.productsF16F16;
      peakCycles[kernel] += vertices * work.products / products / perCycle;
    }
  }
}

void Recorder::addFigures() {
  int64_t ipus = program.chips;
  double products = program.precision == "f32" ? machine.productsF32F32 : machine.productsF16F16;
  timeline.figures.peakOperations = 2 * products * static_cast<double>(machine.tiles * ipus) * machine.clockHertz;
  std::array<int64_t, causeCount> sums = {};
  for (const auto &causes : byIpu)
    for (unsigned cause = 0; cause < causeCount; ++cause)
      sums[cause] += causes[cause];
  // IPUs of a pipeline work on the next run as soon as they have done this one.
  if (ipus > 1) {
    int64_t busiest = 0;
    for (const auto &causes : byIpu) {
      int64_t busy = 0;
      for (unsigned cause = 0; cause < causeCount; ++cause)
        busy += cause == Idle ? 0 : causes[cause];
      busiest = std::max(busiest, busy);
    }
    timeline.figures.interval = Cycles{busiest};
  }
  if (timeline.cycles.value > 0)
    timeline.figures.limitedBy = causeNames[std::max_element(sums.begin(), sums.end()) - sums.begin()];
}

timeline::Timeline Recorder::finish() {
  timeline.cycles = Cycles{steps.cycles()};
  for (int64_t ipu = 0; ipu < program.chips; ++ipu)
    if (int64_t rest = timeline.cycles.value - chargedUntil[ipu]; rest > 0)
      charge(ipu, timeline::noKernel, Idle, rest);
  timeline::Attribution &attribution = timeline.attribution;
  for (const char *name : causeNames)
    attribution.causes.push_back(name);
  attribution.peakName = "AMP";
  auto cyclesOf = [](const std::array<int64_t, causeCount> &causes) {
    std::vector<Cycles> list;
    for (int64_t cycles : causes)
      list.push_back(Cycles{cycles});
    return list;
  };
  for (const auto &causes : byIpu)
    attribution.devices.push_back(cyclesOf(causes));
  addWork();
  for (const auto &[kernel, causes] : charged)
    attribution.kernels.push_back({kernel, cyclesOf(causes), peakCycles.contains(kernel) ? peakCycles[kernel] : 0});
  target::addStages(timeline, program, nodes, byNode, "IPU");
  addSteps();
  addMemory();
  addFigures();
  double bytes = 0;
  const program::EntryPoint &ports = program.entryPoints[entry];
  for (auto *variables : {&ports.inputs, &ports.outputs})
    for (uint32_t variable : *variables)
      bytes += static_cast<double>(elementCount(program.variables[variable].shape)) *
               static_cast<double>(byteWidth(program.variables[variable].type));
  timeline.hostSeconds = bytes / machine.hostBytesPerSecond;
  // The IPUs of a machine share its link to the host.
  auto sharers = static_cast<double>(target::replicasOfHost(program, machine.ipusPerMachine));
  timeline.replicate(program.replicas, sharers * timeline.hostSeconds);
  return std::move(timeline);
}

} // namespace quadrille::ipu
