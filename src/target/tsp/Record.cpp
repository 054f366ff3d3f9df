#include "target/tsp/Record.h"

#include "target/Replicas.h"
#include "target/Stages.h"
#include "target/tsp/VectorUnit.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"

#include <numeric>
#include <set>
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

Recorder::Recorder(const program::Program &program, llvm::ArrayRef<Layout> layouts, const Architecture &machine,
                   const Queues &queues, const Occupancy &occupancy)
    : program(program), machine(machine), queues(queues), occupancy(occupancy),
      causes(program, layouts, machine, queues, occupancy), lastSpan(queues.size()), issued(256),
      issuedBy(queues.size()), windows(queues.chipCount()), drivenTimes(queues.chipCount() * channelCount(machine)),
      streams(queues.chipCount()), nodes(queues.chipCount()) {
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
    for (const Origin &origin : queue.origins) {
      nodes[queues.chipOf(i)].insert(origin.node);
      for (uint32_t k = 0; k < origin.count; ++k)
        kernels.back()[origin.first + k] = kernelOf(origin.node);
    }
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
  causes.wait(queue, end);
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
  Window &window = windows[work.chip];
  window.begin = window.end == 0 ? burst.cycles.first : std::min(window.begin, burst.cycles.first);
  window.end =
      std::max(window.end, burst.cycles.last() + work.effects.completion + machine.superlanes * machine.superlaneSkew);
  window.sent += work.instruction->op() == Opcode::Send ? burst.cycles.count : 0;
  auto count = static_cast<double>(burst.cycles.count);
  auto bytes = static_cast<double>(machine.vectorBytes());
  issued[work.instruction->opcode] += burst.cycles.count;
  issuedBy[burst.queue] += burst.cycles.count;
  unitIssues[{work.chip, work.queue->unit, work.queue->hemisphere}].add(burst.cycles, 1);
  // Streams that an instruction drives, it drives in the same cycle.
  int64_t delay = 0, driven[2] = {}, hops = 0;
  for (const ChannelEnd &drive : work.effects.drives) {
    drivenTimes[drive.channel] += burst.cycles.count;
    if (!isStreamChannel(drive.channel, machine))
      continue;
    int64_t direction = drive.channel % channelCount(machine) / machine.streams;
    delay = drive.delay;
    ++driven[direction];
    hops += (machine.streamEnd(static_cast<Direction>(direction)) - drive.coordinate) / machine.hop;
  }
  for (int direction = 0; direction < 2; ++direction)
    if (driven[direction] > 0)
      streams[work.chip][direction].add(burst.cycles.shifted(delay), static_cast<double>(driven[direction]));
  spend(StreamBytes, burst.cycles.shifted(delay), static_cast<double>(hops) * bytes);
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

void Recorder::multiplied(const Work &work, int64_t from, int64_t count, double products,
                          llvm::ArrayRef<Channels::Found> operands, const Issue &tile, const Issue *oddTile) {
  causes.multiplied(work, from, count, products, operands, tile, oddTile);
  bool f16 = work.instruction->small[0] == static_cast<uint8_t>(ProductType::F16);
  spend(f16 ? ProductsF16 : ProductsI8, work.burst.cycles.part(from, count), products);
  if (auto kernel = kernels[work.burst.queue][work.burst.instruction]; kernel != timeline::noKernel)
    timeline.kernels[kernel].flops += 2 * products * static_cast<double>(count);
}

double Recorder::joulesOf(Energy kind) const {
  const double each[] = {machine.energyProductI8,  machine.energyProductF16, machine.energyOperation,
                         machine.energyMemoryByte, machine.energyStreamByte, machine.energyLinkByte};
  return each[kind];
}

// Only where the value changes.
static void addSample(timeline::Counter &counter, int64_t cycle, double value) {
  if (counter.samples.empty() || counter.samples.back().value != value)
    counter.samples.push_back({Cycles(cycle), value});
}

// "chip 3 ", or nothing when there is one.
std::string Recorder::chipName(int64_t chip) const {
  return queues.chipCount() > 1 ? "chip " + std::to_string(chip) + " " : "";
}

// The mean in each step, per cycle.
void Recorder::addCounter(const std::string &name, const std::string &unit, const Series &series, int64_t cycles) {
  timeline::Counter counter{name, unit, std::nullopt, {}};
  int64_t begin = 0;
  for (double amount : series.amounts()) {
    addSample(counter, begin, amount / static_cast<double>(std::clamp<int64_t>(cycles - begin, 1, series.step())));
    begin += series.step();
  }
  if (begin < cycles)
    addSample(counter, begin, 0);
  timeline.counters.push_back(std::move(counter));
}

void Recorder::addPower(int64_t cycles) {
  // All kinds in steps of the longest one's length, and no more steps than a series has.
  int64_t length = 1;
  while ((cycles - 1) / length >= Series::mostSteps)
    length *= 2;
  for (const Series &series : energies)
    length = std::max(length, series.step());
  std::vector<double> joules((std::max<int64_t>(cycles, 1) - 1) / length + 1);
  for (int kind = 0; kind < energyCount; ++kind)
    for (auto [i, amount] : llvm::enumerate(energies[kind].amounts()))
      joules[std::min<size_t>(i * energies[kind].step() / length, joules.size() - 1)] +=
          amount * joulesOf(static_cast<Energy>(kind));
  timeline::Counter counter{"power (estimate)", "W", std::nullopt, {}};
  double idle = machine.idleWatts * static_cast<double>(queues.chipCount());
  int64_t begin = 0;
  for (double sum : joules) {
    auto covered = static_cast<double>(std::clamp<int64_t>(cycles - begin, 1, length));
    addSample(counter, begin, idle + sum * machine.clockHertz / covered);
    begin += length;
  }
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

// A chip's window of time is all that a run takes of it, so the next run can follow as soon as that on the chip where
// it is longest: every chip then does what it does for one run, so much later.
void Recorder::addChips() {
  if (windows.size() == 1)
    return;
  Table table{
      "chips", {"chip", "begins", "ends", "cycles", "vectors sent", "MiB needed at once", "MiB of text"}, {}, ""};
  std::vector<int64_t> instructions(windows.size());
  for (size_t i = 0; i < queues.size(); ++i)
    instructions[queues.chipOf(i)] += static_cast<int64_t>(queues[i].instructions.size());
  auto mebibytes = [](int64_t bytes) { return llvm::formatv("{0:F2}", static_cast<double>(bytes) / (1 << 20)).str(); };
  int64_t longest = 0, idle = 0;
  for (auto [chip, window] : llvm::enumerate(windows)) {
    if (window.end == 0) {
      ++idle;
      continue;
    }
    int64_t needed = 0;
    if (auto found = occupancy.chips().find(static_cast<int64_t>(chip)); found != occupancy.chips().end())
      needed = *llvm::max_element(found->second.counts) * machine.vectorBytes();
    table.rows.push_back({number(static_cast<int64_t>(chip)), number(window.begin), number(window.end),
                          number(window.end - window.begin), number(window.sent), mebibytes(needed),
                          mebibytes(instructions[chip] * machine.instructionBytes)});
    longest = std::max(longest, window.end - window.begin);
  }
  timeline.figures.interval = Cycles(longest);
  table.note = "a chip has " + mebibytes(machine.dataWords() * machine.vectorBytes()) + " MiB for data and " +
               mebibytes(machine.textBytes()) + " MiB for text; runs can follow each other " + number(longest) +
               " cycles apart";
  if (idle > 0)
    table.note += "; " + number(idle) + (idle == 1 ? " chip does" : " chips do") + " nothing";
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
    std::string name = chipName(chip) + nameOf(unit).str();
    if (unit != UnitKind::Vector)
      name += hemisphere == west ? " west" : " east";
    table.rows.push_back({name, number(use.issued),
                          percent(static_cast<double>(use.issued), static_cast<double>(of * cycles)),
                          number(use.used) + " of " + number(of)});
    if (auto found = unitIssues.find(key); found != unitIssues.end())
      addCounter(name, "instructions/cycle", found->second, cycles);
  }
  timeline.tables.push_back(std::move(table));
}

void Recorder::addStreams(int64_t cycles) {
  static const char *const names[] = {"eastward", "westward"};
  Table table{"streams", {"channel", "vectors driven", "per cycle"}, {}, ""};
  auto row = [&](const std::string &name, int64_t vectors) {
    double perCycle = cycles > 0 ? static_cast<double>(vectors) / static_cast<double>(cycles) : 0;
    table.rows.push_back({name, number(vectors), llvm::formatv("{0:F2}", perCycle).str()});
  };
  for (int direction = 0; direction < 2; ++direction) {
    double vectors = 0;
    for (int64_t chip = 0; chip < queues.chipCount(); ++chip) {
      vectors += streams[chip][direction].total();
      addCounter(chipName(chip) + "streams " + names[direction], "vectors/cycle", streams[chip][direction], cycles);
    }
    row(std::string("all ") + names[direction], static_cast<int64_t>(vectors));
  }
  std::vector<std::pair<int64_t, uint32_t>> busiest;
  for (size_t channel = 0; channel < drivenTimes.size(); ++channel)
    if (drivenTimes[channel] > 0 && (isStreamChannel(static_cast<uint32_t>(channel), machine) ||
                                     isLinkChannel(static_cast<uint32_t>(channel), machine)))
      busiest.emplace_back(drivenTimes[channel], static_cast<uint32_t>(channel));
  llvm::sort(busiest, [](const auto &a, const auto &b) {
    return std::tuple(b.first, a.second) < std::tuple(a.first, b.second);
  });
  constexpr size_t shown = 8;
  bool links = false;
  for (auto [vectors, channel] : llvm::ArrayRef(busiest).take_front(shown)) {
    row(chipName(channel / channelCount(machine)) + channelName(channel, machine), vectors);
    links |= isLinkChannel(channel, machine);
  }
  table.note = "several units may drive a stream in one cycle, at different places";
  if (links)
    table.note += "; a link takes a vector every " + number(machine.linkInterval) + " cycles";
  if (busiest.size() > shown)
    table.note += "; and " + number(static_cast<int64_t>(busiest.size() - shown)) + " more streams and links";
  timeline.tables.push_back(std::move(table));
}

void Recorder::addMemory() {
  Table table{"memory", {"slice", "words written", "needed at once", "of its words"}, {}, ""};
  std::vector<const Occupancy::SliceUse *> slices;
  for (const Occupancy::SliceUse &use : occupancy.slices())
    slices.push_back(&use);
  llvm::sort(slices, [](const auto *a, const auto *b) {
    return std::tuple(b->peak, a->chip, a->slice) < std::tuple(a->peak, b->chip, b->slice);
  });
  constexpr size_t shown = 12;
  int64_t words = machine.banks * machine.words;
  for (const Occupancy::SliceUse *use : llvm::ArrayRef(slices).take_front(shown))
    table.rows.push_back(
        {chipName(use->chip) + print(QueueName{UnitKind::Memory, use->slice.hemisphere, use->slice.slice, 0}),
         number(use->touched), number(use->peak), percent(static_cast<double>(use->peak), static_cast<double>(words))});
  if (slices.size() > shown)
    table.note = "and " + number(static_cast<int64_t>(slices.size() - shown)) + " more slices";
  timeline.tables.push_back(std::move(table));
  auto addNeeded = [&](const std::string &name, const Highest &needed) {
    timeline::Counter counter{name, "bytes", std::nullopt, {}};
    for (auto [i, count] : llvm::enumerate(needed.counts))
      addSample(counter, static_cast<int64_t>(i) * needed.step, static_cast<double>(count * machine.vectorBytes()));
    timeline.counters.push_back(std::move(counter));
  };
  for (const auto &[chip, needed] : occupancy.chips())
    addNeeded(chipName(chip) + "memory needed, highest", needed);
  for (const Occupancy::SliceUse &use : occupancy.slices())
    addNeeded(chipName(use.chip) + "memory needed, highest, " +
                  print(QueueName{UnitKind::Memory, use.slice.hemisphere, use.slice.slice, 0}),
              use.needed);
}

double Recorder::idleJoules(int64_t cycles) const {
  return machine.idleWatts * static_cast<double>(cycles) / machine.clockHertz * static_cast<double>(queues.chipCount());
}

double Recorder::totalJoules(int64_t cycles) const {
  double total = idleJoules(cycles);
  for (int kind = 0; kind < energyCount; ++kind)
    total += energies[kind].total() * joulesOf(static_cast<Energy>(kind));
  return total;
}

void Recorder::addEnergy(int64_t cycles) {
  static const char *const names[] = {
      "products i8", "products f16", "vector operations", "memory bytes", "stream bytes x positions", "link bytes"};
  double seconds = static_cast<double>(cycles) / machine.clockHertz;
  double idle = idleJoules(cycles), total = totalJoules(cycles);
  Table table{"energy (estimate)", {"part", "amount", "nJ", "share"}, {}, ""};
  auto row = [&](const char *name, const std::string &amount, double joules) {
    table.rows.push_back({name, amount, llvm::formatv("{0:F3}", joules * 1e9).str(), percent(joules, total)});
  };
  static const char *const figures[] = {"energy.mac_i8",   "energy.mac_f16",     "energy.vxm_op",
                                        "energy.mem_byte", "energy.stream_byte", "energy.c2c_byte"};
  std::vector<std::string> assumed;
  auto noteIfAssumed = [&](const char *figure) {
    if (llvm::is_contained(machine.assumedEnergies, figure))
      assumed.push_back(figure);
  };
  for (int kind = 0; kind < energyCount; ++kind)
    if (double amount = energies[kind].total(); amount > 0) {
      row(names[kind], llvm::formatv("{0:F0}", amount).str(), amount * joulesOf(static_cast<Energy>(kind)));
      noteIfAssumed(figures[kind]);
    }
  noteIfAssumed("power.idle");
  row("idle", llvm::formatv("{0} cycles", cycles).str(), idle);
  table.note = llvm::formatv("mean power {0:F1} W", seconds > 0 ? total / seconds : 0).str();
  if (!assumed.empty())
    table.note += "; it depends on assumed figures: " + llvm::join(assumed, ", ");
  timeline.tables.push_back(std::move(table));
}

double Recorder::bytesOf(llvm::ArrayRef<uint32_t> variables) const {
  double bytes = 0;
  for (uint32_t index : variables) {
    const program::Variable &variable = program.variables[index];
    bytes += static_cast<double>(elementCount(variable.shape)) * static_cast<double>(byteWidth(variable.type));
  }
  return bytes;
}

void Recorder::addHost(const program::EntryPoint &entry) {
  double input = bytesOf(entry.inputs), output = bytesOf(entry.outputs), weights = 0;
  for (const program::Variable &variable : program.variables)
    if (variable.role == program::VariableRole::Weight || variable.role == program::VariableRole::State)
      weights += static_cast<double>(elementCount(variable.shape)) * static_cast<double>(byteWidth(variable.type));
  auto transfer = [&](double bytes) {
    return bytes > 0 ? machine.hostFixedSeconds + bytes / machine.hostBytesPerSecond : 0;
  };
  auto reorder = [&](double bytes) { return bytes / machine.reorderBytesPerSecond; };
  timeline.hostSeconds = transfer(input) + transfer(output) + reorder(input) + reorder(output);
  Table table{"host link", {"part", "bytes", "us"}, {}, "apart from the cycles on the chip"};
  auto row = [&](const char *name, double bytes, double seconds) {
    table.rows.push_back({name, llvm::formatv("{0:F0}", bytes).str(), llvm::formatv("{0:F3}", seconds * 1e6).str()});
  };
  row("inputs over PCIe", input, transfer(input));
  row("outputs over PCIe", output, transfer(output));
  row("byte planes made and joined by the host", input + output, reorder(input + output));
  if (weights > 0)
    row("once: weights over PCIe", weights, transfer(weights) + reorder(weights));
  timeline.tables.push_back(std::move(table));
}

// Each card has a port of its own to the host; what the host does to values, it does for a few replicas at a time.
void Recorder::addReplicas(const program::EntryPoint &entry) {
  int64_t beside = target::replicasOfHost(program, machine.chipsPerNode);
  double reorder = (bytesOf(entry.inputs) + bytesOf(entry.outputs)) / machine.reorderBytesPerSecond;
  timeline.replicate(program.replicas, std::max(timeline.hostSeconds, static_cast<double>(beside) * reorder /
                                                                          static_cast<double>(machine.reorderThreads)));
}

void Recorder::addFigures(int64_t cycles) {
  auto chips = static_cast<double>(queues.chipCount());
  timeline::Figures &figures = timeline.figures;
  auto hemispheres = static_cast<double>(machine.hemispheres);
  bool f16 = program.precision == "f16";
  if (f16 || program.precision == "i8" || program.precision == "u8")
    figures.peakOperations = 2 * static_cast<double>(machine.productsPerCycle(f16)) * machine.clockHertz * chips;
  figures.memoryBytes = chips * hemispheres * static_cast<double>(machine.slices * machine.banks * machine.words) *
                        static_cast<double>(machine.vectorBytes());
  int64_t instructions = 0;
  for (size_t i = 0; i < queues.size(); ++i)
    instructions += static_cast<int64_t>(queues[i].instructions.size());
  figures.instructions = instructions;
  int64_t peak = instructions * machine.instructionBytes;
  for (const auto &[chip, needed] : occupancy.chips())
    peak += *llvm::max_element(needed.counts) * machine.vectorBytes();
  figures.memoryPeakBytes = static_cast<double>(peak);
  figures.energyJoules = totalJoules(cycles);
  figures.limitedBy = largestCause();
}

// The cause of most of the cycles of all chips; of several the first. Empty without cycles.
std::string Recorder::largestCause() const {
  const timeline::Attribution &attribution = timeline.attribution;
  std::vector<Cycles> sums(attribution.causes.size());
  for (const std::vector<Cycles> &chip : attribution.devices)
    for (auto [sum, cycles] : llvm::zip(sums, chip))
      sum += cycles;
  auto largest = llvm::max_element(sums);
  return largest == sums.end() || largest->value == 0 ? "" : attribution.causes[largest - sums.begin()];
}

// Assumed figures of what the program does not use.
void Recorder::dropUnusedFigures() {
  bool byUnit[] = {false, false, false, false}; // UnitKind
  std::set<Opcode> opcodes;
  bool shifts = false, shiftsAcross = false, large = false;
  for (size_t i = 0; i < queues.size(); ++i)
    for (const Instruction &instruction : queues[i].instructions) {
      Opcode opcode = instruction.op();
      opcodes.insert(opcode);
      if (!issues(opcode))
        continue;
      byUnit[static_cast<unsigned>(queues[i].name.unit)] = true;
      shifts |= opcode == Opcode::Select || (opcode == Opcode::Shift && instruction.word[0] == 0);
      shiftsAcross |= opcode == Opcode::Permute || (opcode == Opcode::Shift && instruction.word[0] != 0);
      large |= queues[i].name.unit == UnitKind::Vector && needsLargeUnit(instruction);
    }
  auto any = [&](std::initializer_list<Opcode> wanted) {
    return llvm::any_of(wanted, [&](Opcode opcode) { return opcodes.count(opcode) > 0; });
  };
  bool matrix = byUnit[static_cast<unsigned>(UnitKind::Matrix)];
  bool vector = byUnit[static_cast<unsigned>(UnitKind::Vector)];
  bool switches = byUnit[static_cast<unsigned>(UnitKind::Switch)];
  bool links = any({Opcode::Send, Opcode::Receive});
  bool transcendental = llvm::any_of(opcodes, isTranscendental);
  // The first that fits decides.
  const std::pair<const char *, bool> users[] = {
      {"icu.repeat_maximum", any({Opcode::Repeat})},
      {"icu.fetch_", any({Opcode::Fetch})},
      {"icu.queues_vxm", vector},
      {"icu.queues_per_sxm", switches},
      {"icu.queues_per_mxm", matrix},
      {"icu.barrier", any({Opcode::Sync})},
      {"mem.gather_address_bytes", any({Opcode::Gather, Opcode::Scatter})},
      {"timing.mem_gather", any({Opcode::Gather})},
      {"timing.mem_scatter", any({Opcode::Scatter})},
      {"mxm.result_group", any({Opcode::Accumulate})},
      {"mxm.accumulator_vectors", any({Opcode::Accumulate})},
      {"mxm.", matrix},
      {"timing.mxm_", matrix},
      {"timing.sxm_to_mxm", matrix},
      {"vxm.large_alus", large},
      {"vxm.", vector},
      {"timing.vxm_transcendental", transcendental},
      {"timing.vxm_", vector},
      {"sxm.shifters", any({Opcode::Shift, Opcode::Select})},
      {"sxm.permuters", any({Opcode::Permute, Opcode::Rotate})},
      {"sxm.transposers", any({Opcode::Transpose})},
      {"sxm.distribut", any({Opcode::Distribute})},
      {"sxm.rotate_sizes", any({Opcode::Rotate})},
      {"timing.sxm_shift_across", shiftsAcross},
      {"timing.sxm_shift", shifts},
      {"timing.sxm_distribute", any({Opcode::Distribute})},
      {"timing.sxm_transpose", any({Opcode::Transpose})},
      {"timing.sxm_rotate", any({Opcode::Rotate})},
      {"timing.sxm_boundary", switches},
      {"c2c.counter_period", any({Opcode::Deskew})},
      {"c2c.", links},
      {"system.", links},
  };
  llvm::erase_if(timeline.assumedFigures, [&](llvm::StringRef figure) {
    auto user = llvm::find_if(users, [&](const auto &each) { return figure.starts_with(each.first); });
    return user != std::end(users) && !user->second;
  });
}

timeline::Timeline Recorder::finish(int64_t cycles, const program::EntryPoint &entry) {
  timeline.cycles = Cycles(cycles);
  dropUnusedFigures();
  timeline.attribution =
      causes.finish(cycles, [&](uint32_t queue, uint32_t instruction) { return kernels[queue][instruction]; });
  target::addStages(timeline, program, nodes, byNode, "chip");
  addChips();
  addUnits(cycles);
  addInstructions();
  addStreams(cycles);
  addMemory();
  addEnergy(cycles);
  addFigures(cycles);
  addHost(entry);
  addPower(cycles);
  addReplicas(entry);
  return std::move(timeline);
}

} // namespace quadrille::tsp
