#include "target/tsp/Digest.h"

#include "base/Mix.h"
#include "target/tsp/Check.h"
#include "target/tsp/Effects.h"
#include "target/tsp/IssueRuns.h"
#include "target/tsp/Layout.h"
#include "target/tsp/VectorUnit.h"
#include "target/tsp/WellFormed.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <map>
#include <tuple>

namespace quadrille::tsp {

namespace {

constexpr uint64_t mostIssues = uint64_t(1) << 26; // held at once
constexpr size_t mostWordUses = size_t(1) << 26;   // likewise
constexpr uint32_t none = ~uint32_t(0);
constexpr int64_t beforeStart = -1;

uint64_t mix(uint64_t a, uint64_t b) {
  return splitMix(a * splitMixIncrement + b + 0x7f4a7c159e3779b9u);
}

// Where a value comes from: one vector of what an event gives.
struct Giver {
  uint32_t event = none;
  uint8_t part = 0;
};

struct ChannelUse {
  uint32_t channel;
  int64_t diagonal, place;
  bool reads;
  uint32_t event;
  uint8_t part; // of a driver; index of the operand of a reader
};

struct WordUse {
  int64_t word, cycle;
  bool reads;
  uint32_t event; // none: there before the start
  uint32_t slot;  // of a write: its contents in `contents`; of a read: where in `readFrom` the answer goes
};

// Every issue of a legal program is an event.
class EntryDigest {
public:
  EntryDigest(const program::Program &program, const Code &code, const Architecture &machine, size_t entry)
      : program(program), code(code), machine(machine), entryPoint(program.entryPoints[entry]),
        queues(code.entries[entry]) {}

  std::optional<Digest> take() {
    if (issueCount(queues) > mostIssues)
      return std::nullopt;
    expand();
    placeVariables();
    collectChannels();
    resolveChannels();
    if (!collectWords())
      return std::nullopt;
    resolveMemory();
    follow();
    return Digest{ofOutputs()};
  }

private:
  const Instruction &instructionOf(uint32_t event) const {
    return queues[events[event].queue].instructions[events[event].instruction];
  }
  const QueueName &nameOf(uint32_t event) const { return queues[events[event].queue].name; }
  int64_t captureOf(uint32_t event) const { return events[event].cycle + machine.skew; }
  Effects effectsOf(uint32_t event) const {
    return tsp::effectsOf(queues.chipOf(events[event].queue), nameOf(event), instructionOf(event), machine);
  }

  // All issues, in the order in which effects of one cycle count.
  void expand() {
    for (const IssueRun &run : issueRuns(queues, machine).runs)
      for (int64_t k = 0; k < run.count(); ++k)
        events.push_back(run.issue(k));
    llvm::sort(events, [&](const Issue &a, const Issue &b) { return momentOf(a, queues) < momentOf(b, queues); });
    hashes.resize(events.size());
    operands.resize(events.size() + 1);
    firstRead.resize(events.size() + 1);
    firstWrite.resize(events.size() + 1);
  }

  int64_t sliceIndex(int64_t chip, SliceName slice) const {
    return (chip * machine.hemispheres + slice.hemisphere) * machine.slices + slice.slice;
  }
  int64_t wordIndex(int64_t slice, uint8_t bank, int64_t address) const {
    return (slice * machine.banks + bank) * machine.words + address;
  }
  int64_t wordIndex(int64_t chip, const WordAddress &word) const {
    return wordIndex(sliceIndex(chip, word.slice), word.bank, word.address);
  }

  // Words of weights, states and inputs exist before the start.
  void placeVariables() {
    for (const Layout &layout : code.layouts) {
      const program::Variable &variable = program.variables[layout.variable];
      bool input = llvm::is_contained(entryPoint.inputs, layout.variable);
      if (variable.role == program::VariableRole::Output || (variable.role == program::VariableRole::Input && !input))
        continue;
      forEachWord(layout, variable, machine, [&](const WordAddress &word, const WordContents &held) {
        words.push_back(
            {wordIndex(layout.chip, word), beforeStart, false, none, static_cast<uint32_t>(contents.size())});
        contents.push_back(mix(mix(layout.variable, held.hash), static_cast<uint64_t>(held.base)));
      });
    }
  }

  void collectChannels() {
    uint32_t operandCount = 0;
    for (uint32_t event = 0; event < events.size(); ++event) {
      operands[event] = operandCount;
      Effects effects = effectsOf(event);
      int64_t cycle = events[event].cycle;
      for (const ChannelEnd &drive : effects.drives)
        channelUses.push_back(
            {drive.channel, cycle + drive.delay - drive.coordinate, drive.place, false, event, drive.part});
      for (auto [index, read] : llvm::enumerate(effects.reads))
        channelUses.push_back(
            {read.channel, cycle + read.delay - read.coordinate, read.place, true, event, static_cast<uint8_t>(index)});
      operandCount += effects.reads.size();
    }
    operands[events.size()] = operandCount;
    sources.resize(operandCount);
  }

  void resolveChannels() {
    llvm::sort(channelUses, [](const ChannelUse &a, const ChannelUse &b) {
      return std::tie(a.channel, a.diagonal, a.place, a.reads, a.event) <
             std::tie(b.channel, b.diagonal, b.place, b.reads, b.event);
    });
    Giver driver;
    for (const ChannelUse &use : channelUses)
      if (use.reads)
        sources[operands[use.event] + use.part] = driver;
      else
        driver = {use.event, use.part};
  }

  // False when there are too many.
  bool collectWords() {
    for (uint32_t event = 0; event < events.size(); ++event) {
      firstRead[event] = static_cast<uint32_t>(readFrom.size());
      firstWrite[event] = static_cast<uint32_t>(contents.size());
      const QueueName &name = nameOf(event);
      if (name.unit != UnitKind::Memory)
        continue;
      const Instruction &instruction = instructionOf(event);
      Opcode opcode = instruction.op();
      bool region = opcode == Opcode::Gather || opcode == Opcode::Scatter;
      bool reads = opcode != Opcode::Write, writes = opcode == Opcode::Write || opcode == Opcode::Scatter;
      int64_t first = region ? instruction.word[0] : stepped(instruction, events[event].iteration);
      int64_t last = region ? first + instruction.word[2] - 1 : first;
      if (words.size() + 2 * (last - first + 1) > mostWordUses)
        return false;
      int64_t slice = sliceIndex(queues.chipOf(events[event].queue), {name.hemisphere, name.index});
      int64_t visible = events[event].cycle + (writes ? effectsOf(event).completion : 0);
      for (int64_t address = first; address <= last; ++address) {
        int64_t word = wordIndex(slice, instruction.small[0], address);
        if (reads) {
          words.push_back({word, captureOf(event), true, event, static_cast<uint32_t>(readFrom.size())});
          readFrom.push_back(none);
        }
        if (writes) {
          words.push_back({word, visible, false, event, static_cast<uint32_t>(contents.size())});
          contents.push_back(0);
        }
      }
    }
    firstRead.back() = static_cast<uint32_t>(readFrom.size());
    firstWrite.back() = static_cast<uint32_t>(contents.size());
    return true;
  }

  void resolveMemory() {
    llvm::sort(words, [](const WordUse &a, const WordUse &b) {
      return std::tie(a.word, a.cycle, a.reads, a.event) < std::tie(b.word, b.cycle, b.reads, b.event);
    });
    replaced.resize(contents.size());
    const WordUse *written = nullptr;
    for (const WordUse &use : words) {
      if (written && written->word != use.word)
        written = nullptr;
      if (use.reads) {
        readFrom[use.slot] = written->slot;
      } else {
        replaced[use.slot] = written ? written->slot : none;
        written = &use;
      }
    }
  }

  uint64_t readContents(uint32_t read) const { return contents[readFrom[read]]; }

  // The hash of one vector that an event gives.
  uint64_t valueOf(Giver origin) const {
    switch (instructionOf(origin.event).op()) {
    case Opcode::Read:
    case Opcode::Gather:
    case Opcode::Send:
    case Opcode::Receive:
      return hashes[origin.event];
    case Opcode::Copy: // unchanged, part by part; but any truth value becomes 0 or 1
      if (instructionOf(origin.event).small[0] != static_cast<uint8_t>(AluType::Bool))
        return valueOf(sources[operands[origin.event] + origin.part]);
      [[fallthrough]];
    default:
      return mix(hashes[origin.event], origin.part);
    }
  }

  // What a vector or switch instruction computes, of which operands: not where.
  uint64_t functionOf(uint32_t event) const {
    Instruction instruction = instructionOf(event);
    if (nameOf(event).unit == UnitKind::Vector)
      instruction.small[0] = static_cast<uint8_t>(sameFunction(instruction));
    uint64_t hash = mix(5, instruction.opcode);
    for (const Field &field : formOf(instruction.opcode)->fields)
      if (!field.isSource() && field.name != "unit" && field.name != "link")
        hash = mix(hash, static_cast<uint64_t>(valueOf(instruction, field)));
    for (uint32_t operand = operands[event]; operand < operands[event + 1]; ++operand)
      hash = mix(hash, valueOf(sources[operand]));
    return hash;
  }
  static int64_t valueOf(const Instruction &instruction, const Field &field) {
    return tsp::valueOf(instruction, field.member);
  }
  // The type for which an arithmetic unit does the same to the bits: the unsigned one where an integer's sign plays no
  // part.
  static AluType sameFunction(const Instruction &instruction) {
    auto type = static_cast<AluType>(instruction.small[0]);
    switch (instruction.op()) {
    case Opcode::Add:
    case Opcode::Subtract:
    case Opcode::Multiply:
      if (!wraps(instruction))
        return type;
      break;
    case Opcode::Not:
    case Opcode::And:
    case Opcode::Or:
    case Opcode::Xor:
    case Opcode::ShiftLeft:
    case Opcode::Mask:
    case Opcode::MaskBar:
    case Opcode::Equal:
    case Opcode::NotEqual:
      break;
    default:
      return type;
    }
    return type == AluType::I8    ? AluType::U8
           : type == AluType::I16 ? AluType::U16
           : type == AluType::I32 ? AluType::U32
                                  : type;
  }

  struct PlaneTile {
    int64_t from = 0;
    uint64_t hash = 0;
  };
  struct PlaneState {
    std::map<int64_t, uint64_t> rows; // loaded, with hash
    std::vector<PlaneTile> tiles;
    std::map<int64_t, uint32_t> products;  // of which event, by arrival
    std::map<int64_t, uint64_t> sumHashes; // started
  };

  // In order of the events: what the planes hold, and the symbolic value that each event emits.
  void follow() {
    planes.resize(queues.chipCount() * machine.hemispheres * machine.planes);
    // What a word holds when a scatter reaches it, a write that began later may have brought.
    std::deque<uint32_t> scatters;
    auto scatterUntil = [&](int64_t cycle) {
      for (; !scatters.empty() && captureOf(scatters.front()) + machine.memoryScatter <= cycle; scatters.pop_front())
        scatter(scatters.front());
    };
    for (uint32_t event = 0; event < events.size(); ++event) {
      scatterUntil(captureOf(event));
      switch (instructionOf(event).op()) {
      case Opcode::Read:
        hashes[event] = readContents(firstRead[event]);
        break;
      case Opcode::Write:
        contents[firstWrite[event]] = valueOf(sources[operands[event]]);
        break;
      case Opcode::Gather:
        hashes[event] = mix(6, valueOf(sources[operands[event]]));
        for (uint32_t read = firstRead[event]; read < firstRead[event + 1]; ++read)
          hashes[event] = mix(hashes[event], readContents(read));
        break;
      case Opcode::Scatter:
        scatters.push_back(event);
        break;
      case Opcode::Send:
      case Opcode::Receive:
        hashes[event] = valueOf(sources[operands[event]]);
        break;
      case Opcode::LoadWeights:
        load(event);
        break;
      case Opcode::InstallWeights:
        install(event);
        break;
      case Opcode::Activate:
        activate(event);
        break;
      case Opcode::Accumulate:
        accumulate(event);
        break;
      default:
        hashes[event] = functionOf(event);
        break;
      }
    }
    scatterUntil(std::numeric_limits<int64_t>::max());
  }

  void scatter(uint32_t event) {
    uint64_t change = mix(mix(7, valueOf(sources[operands[event]])), valueOf(sources[operands[event] + 1]));
    for (uint32_t slot = firstWrite[event]; slot < firstWrite[event + 1]; ++slot)
      contents[slot] = mix(mix(change, slot - firstWrite[event]), contents[replaced[slot]]);
  }

  PlaneState &planeOf(uint32_t event, int64_t offset = 0) {
    int64_t hemisphere = queues.chipOf(events[event].queue) * machine.hemispheres + nameOf(event).hemisphere;
    return planes[hemisphere * machine.planes + nameOf(event).index + offset];
  }

  void load(uint32_t event) {
    int64_t row = stepped(instructionOf(event), events[event].iteration);
    for (int64_t i = 0; i < machine.installRows; ++i)
      planeOf(event).rows[row + i] = valueOf(sources[operands[event] + i]);
  }

  void install(uint32_t event) {
    PlaneState &plane = planeOf(event);
    int64_t rows = instructionOf(event).word[0];
    PlaneTile tile{captureOf(event) + machine.install,
                   mix(mix(static_cast<uint64_t>(instructionOf(event).small[0]), static_cast<uint64_t>(rows)),
                       static_cast<uint64_t>(instructionOf(event).word[2]))};
    for (int64_t row = 0; row < rows; ++row)
      tile.hash = mix(tile.hash, plane.rows[row]);
    plane.tiles.push_back(tile);
    plane.rows.clear();
  }

  void activate(uint32_t event) {
    auto type = static_cast<ProductType>(instructionOf(event).small[0]);
    uint64_t hash = mix(3, static_cast<uint64_t>(type));
    int64_t capture = captureOf(event);
    for (int64_t half = 0; half < (type == ProductType::F16 ? 2 : 1); ++half) {
      auto next = llvm::partition_point(planeOf(event, half).tiles,
                                        [&](const PlaneTile &tile) { return tile.from <= capture; });
      hash = mix(mix(hash, std::prev(next)->hash), valueOf(sources[operands[event] + half]));
    }
    hashes[event] = hash;
    planeOf(event).products[capture + machine.multiply] = event;
  }

  void accumulate(uint32_t event) {
    PlaneState &plane = planeOf(event);
    auto mode = static_cast<AccumulateMode>(instructionOf(event).small[0]);
    int64_t number = stepped(instructionOf(event), events[event].iteration);
    auto arrived = plane.products.find(captureOf(event));
    uint64_t products = hashes[arrived->second];
    plane.products.erase(arrived);
    uint64_t &sum = plane.sumHashes[number];
    if (mode == AccumulateMode::Start)
      sum = products;
    else if (mode == AccumulateMode::Pass)
      hashes[event] = products;
    else
      sum = mix(mix(4, sum), products);
    if (mode == AccumulateMode::Finish)
      hashes[event] = sum;
  }

  uint64_t ofOutputs() const {
    std::map<int64_t, uint64_t> last; // contents of words in the end
    for (const WordUse &use : words)
      if (!use.reads)
        last[use.word] = contents[use.slot];
    uint64_t sum = 0;
    for (uint32_t index : entryPoint.outputs)
      for (const Layout &layout : code.layouts)
        if (layout.variable == index)
          forEachWord(layout, program.variables[index], machine,
                      [&](const WordAddress &word, const WordContents &held) {
                        if (!held.empty)
                          sum += mix(mix(mix(index, held.hash), static_cast<uint64_t>(held.base)),
                                     last[wordIndex(layout.chip, word)]);
                      });
    return sum;
  }

  const program::Program &program;
  const Code &code;
  const Architecture &machine;
  const program::EntryPoint &entryPoint;
  Queues queues;
  std::vector<Issue> events;
  std::vector<uint32_t> operands; // of event e: sources[operands[e] .. operands[e + 1])
  std::vector<Giver> sources;
  std::vector<uint32_t> firstRead, firstWrite; // of event e, in `readFrom` and `contents`, likewise
  std::vector<uint32_t> readFrom;              // by word read: what was written, in `contents`
  std::vector<uint64_t> contents;              // by word written: its hash
  std::vector<uint32_t> replaced;              // by word written: what was there before, in `contents`, or none
  std::vector<uint64_t> hashes;                // by event: of what it gives
  std::vector<ChannelUse> channelUses;
  std::vector<WordUse> words;
  std::vector<PlaneState> planes;
};

} // namespace

std::optional<std::vector<Digest>> digest(const program::Program &program, const Code &code,
                                          const Architecture &machine) {
  if (!check(program, code, machine).legal())
    return std::nullopt;
  std::vector<Digest> digests;
  for (size_t entry = 0; entry < program.entryPoints.size(); ++entry) {
    auto one = EntryDigest(program, code, machine, entry).take();
    if (!one)
      return std::nullopt;
    digests.push_back(*one);
  }
  return digests;
}

} // namespace quadrille::tsp
