#include "target/tsp/Record.h"

#include "target/tsp/VectorUnit.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"

#include <numeric>
#include <tuple>

namespace quadrille::tsp {

using timeline::Category;
using timeline::Table;

void Series::add(const Progression &cycles, double each) {
  while (cycles.last() / length >= mostSteps) {
    for (size_t i = 0; 2 * i < steps.size(); ++i)
      steps[i] = steps[2 * i] + (2 * i + 1 < steps.size() ? steps[2 * i + 1] : 0);
    steps.resize((steps.size() + 1) / 2);
    length *= 2;
  }
  auto last = static_cast<size_t>(cycles.last() / length);
  if (steps.size() <= last)
    steps.resize(last + 1);
  for (int64_t k = 0; k < cycles.count;) {
    int64_t step = cycles.at(k) / length;
    int64_t next = std::min(cycles.count, ((step + 1) * length - cycles.first + cycles.interval - 1) / cycles.interval);
    steps[step] += each * static_cast<double>(next - k);
    k = next;
  }
}

double Series::total() const {
  return std::accumulate(steps.begin(), steps.end(), 0.0);
}

static Category categoryOf(const Instruction &instruction, const QueueName &queue) {
  switch (queue.unit) {
  case UnitKind::Memory:
    return Category::Memory;
  case UnitKind::Matrix:
    return instruction.op() == Opcode::Activate || instruction.op() == Opcode::Accumulate ? Category::Compute
                                                                                          : Category::Memory;
  case UnitKind::Switch:
    return Category::Exchange;
  case UnitKind::Vector:
  case UnitKind::Any:
    break;
  }
  return Category::Compute;
}

Recorder::Recorder(const program::Program &program, const Architecture &machine, const Queues &queues)
    : program(program), machine(machine), queues(queues), lastSpan(queues.size()), issued(256), issuedBy(queues.size()),
      drivenTimes(queues.chipCount() * channelCount(machine)) {
  timeline.machine = machine.machineName;
  timeline.model = program.model ? program.model->path : "";
  timeline.clockHertz = machine.clockHertz;
  timeline.assumedFigures = machine.assumedFigures;
  std::map<std::string, timeline::TrackId> parents;
  auto parent = [&](const std::string &name, std::optional<timeline::TrackId> above) {
    auto [position, fresh] = parents.try_emplace((above ? std::to_string(*above) : "") + "/" + name);
    if (fresh)
      position->second = timeline.addTrack(name, above);
    return position->second;
  };
  for (size_t i = 0; i < queues.size(); ++i) {
    const Queue &queue = queues[i];
    std::optional<timeline::TrackId> chip;
    if (queues.chipCount() > 1)
      chip = parent("chip " + std::to_string(queues.chipOf(i)), std::nullopt);
    std::string name = print(queue.name);
    tracks.push_back(timeline.addTrack(name, parent(llvm::StringRef(name).rsplit(' ').first.str(), chip)));
    kernels.emplace_back(queue.instructions.size(), timeline::noKernel);
    for (const Origin &origin : queue.origins)
      for (uint32_t k = 0; k < origin.count; ++k)
        kernels.back()[origin.first + k] = kernelOf(origin.node);
  }
}

timeline::KernelId Recorder::kernelOf(uint32_t node) {
  auto [position, fresh] = byNode.try_emplace(node, static_cast<timeline::KernelId>(timeline.kernels.size()));
  if (fresh) {
    const program::Node &from = program.nodes[node];
    timeline.kernels.push_back({from.name, from.operation, "", {from.name}, 0, 0});
  }
  return position->second;
}

void Recorder::wait(uint32_t queue, int64_t begin, int64_t end) {
  timeline.spans.push_back({tracks[queue], Cycles(begin), Cycles(end), Category::Sync, timeline::noKernel, "sync"});
}

void Recorder::spend(Energy kind, const Progression &cycles, double amount) {
  if (amount > 0)
    energies[kind].add(cycles, amount);
}

void Recorder::begin(const Work &work) {
  const Burst &burst = work.burst;
  timeline::KernelId kernel = kernels[burst.queue][burst.instruction];
  if (burst.first > 0) { // goes on
    timeline.spans[lastSpan[burst.queue]].end = Cycles(burst.cycles.last() + 1);
  } else {
    lastSpan[burst.queue] = timeline.spans.size();
    timeline.spans.push_back({tracks[burst.queue], Cycles(burst.cycles.first), Cycles(burst.cycles.last() + 1),
                              categoryOf(*work.instruction, *work.queue), kernel, print(*work.instruction),
                              burst.cycles.interval});
  }
  auto count = static_cast<double>(burst.cycles.count);
  auto bytes = static_cast<double>(machine.vectorBytes());
  issued[work.instruction->opcode] += burst.cycles.count;
  issuedBy[burst.queue] += burst.cycles.count;
  for (const ChannelEnd &drive : work.effects.drives) {
    drivenTimes[drive.channel] += burst.cycles.count;
    if (isStreamChannel(drive.channel, machine))
      streams[drive.channel % channelCount(machine) / machine.streams].add(burst.cycles.shifted(drive.delay), 1);
  }
  double flops = 0, accessed = 0;
  if (work.queue->unit == UnitKind::Vector) {
    flops = bytes;
    spend(Operations, burst.cycles, bytes);
  } else if (work.queue->unit == UnitKind::Memory) {
    accessed = bytes;
    spend(MemoryBytes, burst.cycles, bytes);
  } else if (work.instruction->op() == Opcode::Send) {
    spend(LinkBytes, burst.cycles, bytes);
  }
  if (kernel == timeline::noKernel)
    return;
  timeline.kernels[kernel].flops += count * flops;
  timeline.kernels[kernel].bytes += count * accessed;
}

void Recorder::multiplied(const Work &work, int64_t from, int64_t count, double products) {
  bool f16 = work.instruction->small[0] == static_cast<uint8_t>(ProductType::F16);
  spend(f16 ? ProductsF16 : ProductsI8, work.burst.cycles.part(from, count), products);
  if (auto kernel = kernels[work.burst.queue][work.burst.instruction]; kernel != timeline::noKernel)
    timeline.kernels[kernel].flops += 2 * products * static_cast<double>(count);
}

void Recorder::travelled(const Work &work, int64_t from, int64_t count, int64_t cycles) {
  double positions = static_cast<double>(cycles) / static_cast<double>(machine.hop);
  spend(StreamBytes, work.burst.cycles.part(from, count), positions * static_cast<double>(machine.vectorBytes()));
}

double Recorder::joulesOf(Energy kind) const {
  const double each[] = {machine.energyProductI8,  machine.energyProductF16, machine.energyOperation,
                         machine.energyMemoryByte, machine.energyStreamByte, machine.energyLinkByte};
  return each[kind];
}

// The mean in each step, per cycle and scaled.
void Recorder::addCounter(const std::string &name, const std::string &unit, const Series &series, double scale) {
  timeline::Counter counter{name, unit, std::nullopt, {}};
  for (auto [i, amount] : llvm::enumerate(series.amounts()))
    counter.samples.push_back(
        {Cycles(static_cast<int64_t>(i) * series.step()), amount * scale / static_cast<double>(series.step())});
  timeline.counters.push_back(std::move(counter));
}

void Recorder::addPower(int64_t cycles) {
  // All kinds in steps of the longest one's length.
  int64_t length = 1;
  for (const Series &series : energies)
    length = std::max(length, series.step());
  std::vector<double> joules(cycles / length + 1);
  for (int kind = 0; kind < energyCount; ++kind)
    for (auto [i, amount] : llvm::enumerate(energies[kind].amounts()))
      joules[std::min<size_t>(i * energies[kind].step() / length, joules.size() - 1)] +=
          amount * joulesOf(static_cast<Energy>(kind));
  timeline::Counter counter{"power (estimate)", "W", std::nullopt, {}};
  double idle = machine.idleWatts * static_cast<double>(queues.chipCount());
  for (auto [i, sum] : llvm::enumerate(joules))
    counter.samples.push_back(
        {Cycles(static_cast<int64_t>(i) * length), idle + sum * machine.clockHertz / static_cast<double>(length)});
  timeline.counters.push_back(std::move(counter));
}

static std::string percent(double part, double whole) {
  return whole > 0 ? llvm::formatv("{0:F1}%", 100 * part / whole).str() : "0.0%";
}
static std::string number(int64_t value) {
  return std::to_string(value);
}

void Recorder::addInstructions() {
  std::map<uint8_t, int64_t> stored;
  int64_t total = 0, longest = 0;
  std::string longestQueue;
  for (size_t i = 0; i < queues.size(); ++i) {
    auto length = static_cast<int64_t>(queues[i].instructions.size());
    total += length;
    if (length > longest) {
      longest = length;
      longestQueue = print(queues[i].name);
    }
    for (const Instruction &instruction : queues[i].instructions)
      ++stored[instruction.opcode];
  }
  int64_t room = machine.textBytes() * queues.chipCount();
  Table table{"instructions", {"instruction", "stored", "issued"}, {}, ""};
  for (auto [opcode, count] : stored)
    table.rows.push_back({formOf(opcode)->mnemonic.str(), number(count),
                          issues(static_cast<Opcode>(opcode)) ? number(issued[opcode]) : ""});
  table.note = llvm::formatv("{0} instructions in {1} queues, {2} bytes of {3} for text; the longest is queue {4} with "
                             "{5}; a queue's buffer holds {6}",
                             total, queues.size(), total * machine.instructionBytes, room, longestQueue, longest,
                             machine.bufferBytes / machine.instructionBytes)
                   .str();
  timeline.tables.push_back(std::move(table));
}

// How much of the time the parts of the machine work: instructions issued, of those that their queues could issue.
void Recorder::addUnits(int64_t cycles) {
  Table table{"functional units", {"unit", "instructions", "of its cycles", "queues used"}, {}, ""};
  struct Use {
    int64_t issued = 0, used = 0;
  };
  std::map<std::tuple<int64_t, UnitKind, unsigned>, Use> uses;
  for (size_t i = 0; i < queues.size(); ++i) {
    const QueueName &name = queues[i].name;
    Use &use = uses[{queues.chipOf(i), name.unit, name.hemisphere}];
    use.issued += issuedBy[i];
    use.used += issuedBy[i] > 0;
  }
  const int64_t counts[] = {machine.slices * machine.queuesPerSlice, machine.planes * machine.queuesPerPlane,
                            machine.alus, machine.switchQueues};
  for (const auto &[key, use] : uses) {
    auto [chip, unit, hemisphere] = key;
    int64_t of = counts[static_cast<unsigned>(unit)];
    std::string name = queues.chipCount() > 1 ? "chip " + number(chip) + " " : "";
    name += nameOf(unit).str();
    if (unit != UnitKind::Vector)
      name += hemisphere == west ? " west" : " east";
    table.rows.push_back({name, number(use.issued),
                          percent(static_cast<double>(use.issued), static_cast<double>(of * cycles)),
                          number(use.used) + " of " + number(of)});
  }
  timeline.tables.push_back(std::move(table));
}

void Recorder::addStreams(int64_t cycles) {
  addCounter("streams eastward", "vectors/cycle", streams[0], 1);
  addCounter("streams westward", "vectors/cycle", streams[1], 1);
  Table table{"streams", {"channel", "vectors", "of its cycles"}, {}, ""};
  double available = static_cast<double>(cycles) * static_cast<double>(machine.streams * queues.chipCount());
  for (int direction = 0; direction < 2; ++direction)
    table.rows.push_back({direction == 0 ? "all eastward" : "all westward",
                          number(static_cast<int64_t>(streams[direction].total())),
                          percent(streams[direction].total(), available)});
  std::vector<std::pair<int64_t, uint32_t>> busiest;
  for (size_t channel = 0; channel < drivenTimes.size(); ++channel)
    if (drivenTimes[channel] > 0 && (isStreamChannel(static_cast<uint32_t>(channel), machine) ||
                                     isLinkChannel(static_cast<uint32_t>(channel), machine)))
      busiest.emplace_back(drivenTimes[channel], static_cast<uint32_t>(channel));
  llvm::sort(busiest, [](const auto &a, const auto &b) {
    return std::tuple(b.first, a.second) < std::tuple(a.first, b.second);
  });
  constexpr size_t shown = 8;
  for (auto [vectors, channel] : llvm::ArrayRef(busiest).take_front(shown)) {
    bool link = isLinkChannel(channel, machine);
    std::string chip = queues.chipCount() > 1 ? "chip " + number(channel / channelCount(machine)) + " " : "";
    table.rows.push_back(
        {chip + channelName(channel, machine), number(vectors),
         percent(static_cast<double>(vectors * (link ? machine.linkInterval : 1)), static_cast<double>(cycles))});
  }
  if (busiest.size() > shown)
    table.note = "and " + number(static_cast<int64_t>(busiest.size() - shown)) + " more streams and links";
  timeline.tables.push_back(std::move(table));
}

void Recorder::addMemory(const Occupancy &occupancy) {
  Table table{"memory", {"slice", "words written", "needed at once", "of its words"}, {}, ""};
  std::vector<Occupancy::SliceUse> slices = occupancy.slices();
  llvm::sort(slices, [](const auto &a, const auto &b) {
    return std::tuple(b.peak, a.chip, a.slice) < std::tuple(a.peak, b.chip, b.slice);
  });
  constexpr size_t shown = 12;
  int64_t words = machine.banks * machine.words;
  for (const Occupancy::SliceUse &use : llvm::ArrayRef(slices).take_front(shown)) {
    std::string chip = queues.chipCount() > 1 ? "chip " + number(use.chip) + " " : "";
    table.rows.push_back({chip + print(QueueName{UnitKind::Memory, use.slice.hemisphere, use.slice.slice, 0}),
                          number(use.touched), number(use.peak),
                          percent(static_cast<double>(use.peak), static_cast<double>(words))});
  }
  if (slices.size() > shown)
    table.note = "and " + number(static_cast<int64_t>(slices.size() - shown)) + " more slices";
  timeline.tables.push_back(std::move(table));
  auto addMap = [&](const std::string &name, const Histogram &histogram) {
    timeline::Counter counter{name, "bytes", std::nullopt, {}};
    for (auto [i, count] : llvm::enumerate(histogram.counts()))
      counter.samples.push_back(
          {Cycles(static_cast<int64_t>(i) * histogram.step()), static_cast<double>(count * machine.vectorBytes())});
    timeline.counters.push_back(std::move(counter));
  };
  auto chipName = [&](int64_t chip) { return queues.chipCount() > 1 ? "chip " + number(chip) + " " : ""; };
  for (int64_t chip = 0; chip < queues.chipCount(); ++chip)
    if (const Histogram *histogram = occupancy.chipWords(chip))
      addMap(chipName(chip) + "memory needed", *histogram);
  for (const Occupancy::SliceUse &use : occupancy.slices())
    addMap(chipName(use.chip) + "memory needed, " +
               print(QueueName{UnitKind::Memory, use.slice.hemisphere, use.slice.slice, 0}),
           *use.words);
}

void Recorder::addEnergy(int64_t cycles) {
  static const char *const names[] = {
      "products i8", "products f16", "vector operations", "memory bytes", "stream bytes x positions", "link bytes"};
  double seconds = static_cast<double>(cycles) / machine.clockHertz;
  double idle = machine.idleWatts * seconds * static_cast<double>(queues.chipCount()), total = idle;
  for (int kind = 0; kind < energyCount; ++kind)
    total += energies[kind].total() * joulesOf(static_cast<Energy>(kind));
  Table table{"energy (estimate)", {"part", "amount", "nJ", "share"}, {}, ""};
  auto row = [&](const char *name, const std::string &amount, double joules) {
    table.rows.push_back({name, amount, llvm::formatv("{0:F3}", joules * 1e9).str(), percent(joules, total)});
  };
  for (int kind = 0; kind < energyCount; ++kind)
    if (double amount = energies[kind].total(); amount > 0)
      row(names[kind], llvm::formatv("{0:F0}", amount).str(), amount * joulesOf(static_cast<Energy>(kind)));
  row("idle", llvm::formatv("{0} cycles", cycles).str(), idle);
  table.note =
      llvm::formatv("mean power {0:F1} W; it depends on assumed figures: {1:$[, ]}", seconds > 0 ? total / seconds : 0,
                    llvm::make_range(machine.assumedEnergies.begin(), machine.assumedEnergies.end()))
          .str();
  timeline.tables.push_back(std::move(table));
}

void Recorder::addHost(const program::EntryPoint &entry) {
  auto bytesOf = [&](llvm::ArrayRef<uint32_t> variables) {
    double bytes = 0;
    for (uint32_t index : variables) {
      const program::Variable &variable = program.variables[index];
      bytes += static_cast<double>(elementCount(variable.shape)) * static_cast<double>(byteWidth(variable.type));
    }
    return bytes;
  };
  double input = bytesOf(entry.inputs), output = bytesOf(entry.outputs), weights = 0;
  for (const program::Variable &variable : program.variables)
    if (variable.role == program::VariableRole::Weight || variable.role == program::VariableRole::State)
      weights += static_cast<double>(elementCount(variable.shape)) * static_cast<double>(byteWidth(variable.type));
  auto transfer = [&](double bytes) { return machine.hostFixedSeconds + bytes / machine.hostBytesPerSecond; };
  auto reorder = [&](double bytes) { return bytes / machine.reorderBytesPerSecond; };
  timeline.hostSeconds = transfer(input) + transfer(output) + reorder(input) + reorder(output);
  Table table{"host link", {"part", "bytes", "us"}, {}, "apart from the cycles on the chip"};
  auto row = [&](const char *name, double bytes, double seconds) {
    table.rows.push_back({name, llvm::formatv("{0:F0}", bytes).str(), llvm::formatv("{0:F3}", seconds * 1e6).str()});
  };
  row("inputs over PCIe", input, transfer(input));
  row("outputs over PCIe", output, transfer(output));
  row("byte planes made and joined by the host", input + output, reorder(input + output));
  row("once: weights over PCIe", weights, transfer(weights) + reorder(weights));
  timeline.tables.push_back(std::move(table));
}

// Assumed figures of what the program does not use.
void Recorder::dropUnusedFigures() {
  bool vector = false, switches = false, links = false, gathers = false, scatters = false, fetches = false;
  bool deskews = false;
  for (size_t i = 0; i < queues.size(); ++i)
    for (const Instruction &instruction : queues[i].instructions) {
      Opcode opcode = instruction.op();
      vector |= queues[i].name.unit == UnitKind::Vector && issues(opcode);
      links |= opcode == Opcode::Send || opcode == Opcode::Receive;
      switches |= queues[i].name.unit == UnitKind::Switch && issues(opcode);
      gathers |= opcode == Opcode::Gather;
      scatters |= opcode == Opcode::Scatter;
      fetches |= opcode == Opcode::Fetch;
      deskews |= opcode == Opcode::Deskew;
    }
  const std::pair<const char *, bool> users[] = {{"vxm.", vector},
                                                 {"timing.vxm_", vector},
                                                 {"sxm.", switches},
                                                 {"icu.queues_vxm", vector},
                                                 {"icu.queues_per_sxm", switches},
                                                 {"timing.sxm_shift", switches},
                                                 {"timing.sxm_distribute", switches},
                                                 {"timing.sxm_transpose", switches},
                                                 {"timing.sxm_rotate", switches},
                                                 {"timing.sxm_boundary", switches},
                                                 {"c2c.counter_period", deskews},
                                                 {"c2c.issue_interval", links},
                                                 {"c2c.latency", links},
                                                 {"c2c.links_used", links},
                                                 {"c2c.ports_local", links},
                                                 {"system.", links},
                                                 {"mem.gather_address_bytes", gathers || scatters},
                                                 {"timing.mem_gather", gathers},
                                                 {"timing.mem_scatter", scatters},
                                                 {"icu.fetch_", fetches}};
  llvm::erase_if(timeline.assumedFigures, [&](llvm::StringRef figure) {
    return llvm::any_of(users, [&](const auto &user) { return !user.second && figure.starts_with(user.first); });
  });
}

timeline::Timeline Recorder::finish(int64_t cycles, const Occupancy &occupancy, const program::EntryPoint &entry) {
  timeline.cycles = Cycles(cycles);
  dropUnusedFigures();
  addUnits(cycles);
  addInstructions();
  addStreams(cycles);
  addMemory(occupancy);
  addEnergy(cycles);
  addHost(entry);
  addPower(cycles);
  return std::move(timeline);
}

} // namespace quadrille::tsp
