#include "target/tsp/Check.h"

#include "base/Mix.h"
#include "target/tsp/Effects.h"
#include "target/tsp/Hazard.h"
#include "target/tsp/SwitchUnit.h"
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

constexpr size_t mostFindings = 64;                // of one entry point
constexpr uint64_t mostIssues = uint64_t(1) << 26; // held at once: bounds memory for a hostile program
constexpr size_t mostWordUses = size_t(1) << 26;   // likewise
constexpr uint32_t none = ~uint32_t(0);
constexpr int64_t beforeStart = -1;
constexpr int64_t sendingKind = 100, receivingKind = 101; // beyond every SwitchPart

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
  uint8_t part;  // of a driver; index of the operand of a reader
  uint8_t index; // among the ends of the event
};

struct WordUse {
  int64_t word, cycle;
  bool reads;
  uint32_t event; // none: there before the start
  uint32_t slot;  // of a write: its contents in `contents`; of a read: where in `readFrom` the answer goes
};

// An access to a slice.
struct PortUse {
  int64_t slice, cycle;
  uint32_t event;
  uint8_t bank;
  bool reads;
};

// A part of a switch unit, or an end of a link, that an event occupies.
struct PartUse {
  int64_t part, cycle;
  uint32_t event;
};

class EntryCheck {
public:
  EntryCheck(const program::Program &program, const Code &code, const Architecture &machine, size_t entry)
      : program(program), code(code), machine(machine), entryPoint(program.entryPoints[entry]),
        queues(code.entries[entry]) {}

  std::vector<target::Finding> run() {
    if (issueCount(queues) > mostIssues)
      return {
          {"entry '" + entryPoint.name + "'", "it issues more than 2^26 instructions, more than the checker holds"}};
    placeVariables();
    expand();
    collect();
    resolveChannels();
    collectWords();
    resolveMemory();
    checkPorts();
    checkParts();
    follow();
    checkOutputs();
    std::multimap<uint64_t, target::Finding> ordered; // equal keys stay in the order in which they were found
    for (Found &found : findings)
      ordered.emplace(found.order, std::move(found.finding));
    std::vector<target::Finding> result;
    for (auto &[order, finding] : ordered)
      if (result.size() < mostFindings)
        result.push_back(std::move(finding));
    return result;
  }

  uint64_t outputDigest() const { return digestSum; }

private:
  struct Found {
    uint64_t order;
    target::Finding finding;
  };
  const Instruction &instructionOf(uint32_t event) const {
    return queues[events[event].queue].instructions[events[event].instruction];
  }
  const QueueName &nameOf(uint32_t event) const { return queues[events[event].queue].name; }
  int64_t captureOf(uint32_t event) const { return events[event].cycle + machine.skew; }
  // Of several findings about one event, the one that the hardware would meet first comes first.
  enum Stage : uint64_t { Operands, Undriven, Port, Contents, Driver };
  // `index` tells apart what one event does at that stage.
  void find(uint32_t event, std::string message, Stage stage = Operands, uint8_t index = 0) {
    uint64_t order = (uint64_t(event) * 8 + stage) * 64 + index;
    findings.push_back({order, {print(events[event], queues), std::move(message)}});
  }
  // What shows only when the program has ended comes behind all that happens while it runs.
  static constexpr uint64_t ended = uint64_t(1) << 62;
  void findInTheEnd(uint32_t event, std::string message) {
    findings.push_back({ended + event, {print(events[event], queues), std::move(message)}});
  }
  // Of the queue itself, before all that is issued in that cycle.
  void findAt(const Issue &issue, std::string message) { ofQueues.emplace_back(issue, std::move(message)); }

  // All dispatches, in the order in which effects of one cycle count: queue by queue up to the next sync; then, as long
  // as notifications arrive, in the order of their arrival, the queues that wait for them.
  void expand() {
    struct Progress {
      size_t next = 0;
      int64_t clock = 0;
      std::vector<int64_t> fetched; // arrivals, ascending
      size_t arrived = 0;           // of them
    };
    std::vector<Progress> progress(queues.size());
    std::vector<uint32_t> waiting;
    std::multimap<int64_t, int64_t> arrivals; // of notifications, with their chips
    int64_t capacity = machine.bufferBytes / machine.instructionBytes;
    int64_t perFetch = machine.fetchBytes / machine.instructionBytes;
    // Empty when the instruction is in the queue's buffer; a fetch also needs something to fetch, and room for it.
    auto bufferProblem = [&](Progress &at, uint32_t queue, bool fetches) -> std::string {
      auto index = static_cast<int64_t>(at.next), total = static_cast<int64_t>(queues[queue].instructions.size());
      while (at.arrived < at.fetched.size() && at.fetched[at.arrived] <= at.clock)
        ++at.arrived;
      if (index >= capacity + static_cast<int64_t>(at.arrived) * perFetch)
        return hazard::fetchUnderrun();
      int64_t ordered = capacity + static_cast<int64_t>(at.fetched.size()) * perFetch;
      if (fetches && ordered >= total)
        return hazard::fetchBeyond();
      if (fetches && ordered + perFetch - index - 1 > capacity)
        return hazard::fetchOverrun(capacity);
      return "";
    };
    auto walk = [&](uint32_t queue) {
      Progress &at = progress[queue];
      const Issue *last = nullptr;
      Issue issue;
      for (; at.next < queues[queue].instructions.size(); ++at.next) {
        const Instruction &instruction = queues[queue].instructions[at.next];
        auto index = static_cast<uint32_t>(at.next);
        if (at.clock > hazard::longest)
          return findAt({at.clock, queue, index, 0}, hazard::tooLong());
        if (std::string problem = bufferProblem(at, queue, instruction.op() == Opcode::Fetch); !problem.empty())
          return findAt({at.clock, queue, index, 0}, problem);
        const Issue *before = std::exchange(last, nullptr);
        if (instruction.op() == Opcode::Nop) {
          at.clock += instruction.word[0];
        } else if (instruction.op() == Opcode::Notify) {
          arrivals.emplace(at.clock + machine.barrier, queues.chipOf(queue));
          at.clock += 1;
        } else if (instruction.op() == Opcode::Sync) {
          waiting.push_back(queue);
          return;
        } else if (instruction.op() == Opcode::Fetch) {
          at.fetched.push_back(at.clock + machine.fetchLatency);
          at.clock += 1;
        } else if (instruction.op() == Opcode::Deskew) {
          while (at.clock % machine.counterPeriod != 0)
            at.clock += machine.counterPeriod - at.clock % machine.counterPeriod;
        } else if (instruction.op() == Opcode::Repeat) {
          if (!before)
            return findAt({at.clock, queue, index, 0}, hazard::nothingToRepeat());
          for (int32_t i = 1; i <= instruction.word[0]; ++i)
            events.push_back({issue.cycle + int64_t(i) * instruction.word[1], queue, issue.instruction, i});
          at.clock = events.back().cycle + 1;
        } else {
          issue = {at.clock, queue, index, 0};
          last = &issue;
          events.push_back(issue);
          at.clock += 1;
        }
      }
    };
    for (uint32_t queue = 0; queue < queues.size(); ++queue)
      walk(queue);
    while (!waiting.empty() && !arrivals.empty()) {
      auto [arrival, chip] = *arrivals.begin();
      arrivals.erase(arrivals.begin());
      for (uint32_t queue : std::exchange(waiting, {})) {
        if (progress[queue].clock >= arrival || queues.chipOf(queue) != chip) {
          waiting.push_back(queue);
          continue;
        }
        progress[queue].clock = arrival;
        progress[queue].next += 1;
        walk(queue);
      }
    }
    llvm::sort(waiting);
    for (uint32_t queue : waiting)
      findings.push_back(
          {ended - 1,
           {print(Issue{progress[queue].clock, queue, static_cast<uint32_t>(progress[queue].next), 0}, queues),
            hazard::neverReleased()}});
    auto rank = [&](const Issue &issue) {
      uint8_t opcode = queues[issue.queue].instructions[issue.instruction].opcode;
      bool matrix = opcode >= static_cast<uint8_t>(Opcode::LoadWeights);
      return std::tuple(issue.cycle, !matrix, opcode, issue.queue);
    };
    std::sort(events.begin(), events.end(), [&](const Issue &a, const Issue &b) { return rank(a) < rank(b); });
    llvm::sort(ofQueues, [](const auto &a, const auto &b) {
      return std::tie(a.first.cycle, a.first.queue) < std::tie(b.first.cycle, b.first.queue);
    });
    for (auto &[issue, message] : ofQueues) {
      auto next = llvm::partition_point(events, [&, cycle = issue.cycle](const Issue &e) { return e.cycle < cycle; });
      findings.push_back({uint64_t(next - events.begin()) * 8 * 64, {print(issue, queues), std::move(message)}});
    }
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

  // Words of weights, states and inputs exist before the start; no two variables may share one. An output may take the
  // place of an input that is no longer needed.
  void placeVariables() {
    std::map<int64_t, bool> taken;
    for (const Layout &layout : code.layouts) {
      const program::Variable &variable = program.variables[layout.variable];
      bool input = llvm::is_contained(entryPoint.inputs, layout.variable);
      if (variable.role == program::VariableRole::Output || (variable.role == program::VariableRole::Input && !input))
        continue;
      bool reported = false;
      forEachWord(layout, variable, machine, [&](const WordAddress &word, const WordContents &held) {
        int64_t index = wordIndex(layout.chip, word);
        if (!taken.emplace(index, true).second && !std::exchange(reported, true))
          findings.push_back({0, {"layout of '" + variable.name + "'", overlapMessage(variable.name, word)}});
        words.push_back({index, beforeStart, false, none, static_cast<uint32_t>(contents.size())});
        contents.push_back(mix(mix(layout.variable, held.hash), static_cast<uint64_t>(held.base)));
      });
    }
  }

  // What each event does to channels, memory ports and the parts of switch units.
  void collect() {
    uint32_t operandCount = 0;
    for (uint32_t event = 0; event < events.size(); ++event) {
      operands[event] = operandCount;
      const Instruction &instruction = instructionOf(event);
      const QueueName &name = nameOf(event);
      Effects effects = effectsOf(queues.chipOf(events[event].queue), name, instruction, machine);
      if (name.unit == UnitKind::Memory && !collectMemory(event, effects))
        continue;
      if (name.unit == UnitKind::Switch)
        collectParts(event);
      int64_t cycle = events[event].cycle;
      for (auto [index, drive] : llvm::enumerate(effects.drives))
        channelUses.push_back({drive.channel, cycle + drive.delay - drive.coordinate, drive.place, false, event,
                               drive.part, static_cast<uint8_t>(index)});
      for (auto [index, read] : llvm::enumerate(effects.reads))
        channelUses.push_back({read.channel, cycle + read.delay - read.coordinate, read.place, true, event,
                               static_cast<uint8_t>(index), static_cast<uint8_t>(index)});
      operandCount += effects.reads.size();
    }
    operands[events.size()] = operandCount;
    sources.resize(operandCount);
  }

  struct Region {
    int64_t first, last;
  };
  Region regionOf(uint32_t event) const {
    const Instruction &instruction = instructionOf(event);
    if (instruction.op() == Opcode::Gather || instruction.op() == Opcode::Scatter)
      return {instruction.word[0], int64_t(instruction.word[0]) + instruction.word[2] - 1};
    int64_t address = stepped(instruction, events[event].iteration);
    return {address, address};
  }

  // False when it has no address.
  bool collectMemory(uint32_t event, const Effects &effects) {
    const Instruction &instruction = instructionOf(event);
    const QueueName &name = nameOf(event);
    Opcode opcode = instruction.op();
    bool reads = opcode == Opcode::Read || opcode == Opcode::Gather;
    auto [first, last] = regionOf(event);
    int64_t outside = first < 0 || first >= machine.words ? first : last;
    if (outside < 0 || outside >= machine.words) {
      find(event, hazard::outOfRange("address", outside, machine.words - 1));
      return false;
    }
    int64_t capture = captureOf(event), end = events[event].cycle + effects.completion;
    ports.push_back({sliceIndex(queues.chipOf(events[event].queue), {name.hemisphere, name.index}),
                     opcode == Opcode::Read     ? capture
                     : opcode == Opcode::Gather ? end - machine.memoryRead
                                                : end - 1,
                     event, instruction.small[0], reads});
    return true;
  }

  // What each event does to memory words. A gather or scatter without operands does nothing: how many words it might
  // have touched is then no matter of how long the check takes.
  void collectWords() {
    bool tooMany = false;
    for (uint32_t event = 0; event < events.size(); ++event) {
      firstRead[event] = static_cast<uint32_t>(readFrom.size());
      firstWrite[event] = static_cast<uint32_t>(contents.size());
      const QueueName &name = nameOf(event);
      auto [first, last] = regionOf(event);
      if (name.unit != UnitKind::Memory || first < 0 || last >= machine.words)
        continue;
      const Instruction &instruction = instructionOf(event);
      Opcode opcode = instruction.op();
      bool region = opcode == Opcode::Gather || opcode == Opcode::Scatter;
      auto given = llvm::ArrayRef(sources).slice(operands[event], operands[event + 1] - operands[event]);
      if (region && llvm::any_of(given, [](const Giver &giver) { return giver.event == none; }))
        continue;
      if (words.size() + 2 * (last - first + 1) > mostWordUses) {
        if (!std::exchange(tooMany, true))
          findings.push_back(
              {0,
               {"entry '" + entryPoint.name + "'", "its gathers and scatters reach more than 2^26 words, "
                                                   "more than the checker holds"}});
        continue;
      }
      int64_t slice = sliceIndex(queues.chipOf(events[event].queue), {name.hemisphere, name.index});
      int64_t end = events[event].cycle;
      if (opcode == Opcode::Write || opcode == Opcode::Scatter)
        end += effectsOf(queues.chipOf(events[event].queue), name, instruction, machine).completion;
      for (int64_t address = first; address <= last; ++address) {
        int64_t word = wordIndex(slice, instruction.small[0], address);
        if (opcode != Opcode::Write) {
          words.push_back({word, captureOf(event), true, event, static_cast<uint32_t>(readFrom.size())});
          readFrom.push_back(none);
        }
        if (opcode == Opcode::Write || opcode == Opcode::Scatter) {
          words.push_back({word, end, false, event, static_cast<uint32_t>(contents.size())});
          contents.push_back(0);
        }
      }
    }
    firstRead.back() = static_cast<uint32_t>(readFrom.size());
    firstWrite.back() = static_cast<uint32_t>(contents.size());
  }

  void collectParts(uint32_t event) {
    const Instruction &instruction = instructionOf(event);
    auto part = switchPart(instruction.op());
    int64_t kind = part ? static_cast<int64_t>(*part) : instruction.op() == Opcode::Send ? sendingKind : receivingKind;
    int64_t unit = (queues.chipOf(events[event].queue) * machine.hemispheres + nameOf(event).hemisphere) * 256;
    parts.push_back({(unit + kind) * 256 + instruction.small[0], captureOf(event), event});
  }

  void checkParts() {
    std::sort(parts.begin(), parts.end(), [](const PartUse &a, const PartUse &b) {
      return std::tie(a.part, a.cycle, a.event) < std::tie(b.part, b.cycle, b.event);
    });
    for (size_t i = 1; i < parts.size(); ++i) {
      if (parts[i].part != parts[i - 1].part)
        continue;
      const Instruction &instruction = instructionOf(parts[i].event);
      bool sends = instruction.op() == Opcode::Send;
      if (parts[i].cycle - parts[i - 1].cycle >= (sends ? machine.linkInterval : 1))
        continue;
      auto part = switchPart(instruction.op());
      std::string other = print(events[parts[i - 1].event], queues);
      find(parts[i].event,
           sends ? hazard::linkBusy(instruction.small[0], machine.linkInterval, other)
                 : hazard::partBusy(part ? tsp::nameOf(*part) : llvm::StringRef("link"), instruction.small[0], other));
    }
  }

  void resolveChannels() {
    std::sort(channelUses.begin(), channelUses.end(), [](const ChannelUse &a, const ChannelUse &b) {
      return std::tie(a.channel, a.diagonal, a.place, a.reads, a.event) <
             std::tie(b.channel, b.diagonal, b.place, b.reads, b.event);
    });
    const ChannelUse *driver = nullptr;
    bool taken = true; // what the driver put on a link
    auto leave = [&] {
      if (driver && !taken && isLinkChannel(driver->channel, machine))
        findInTheEnd(driver->event, hazard::neverTaken(channelName(driver->channel, machine)));
    };
    for (const ChannelUse &use : channelUses) {
      if (driver && (driver->channel != use.channel || driver->diagonal != use.diagonal)) {
        leave();
        driver = nullptr;
      }
      if (!use.reads) {
        if (driver && driver->place == use.place)
          find(use.event, hazard::twoDrivers(channelName(use.channel, machine), print(events[driver->event], queues)),
               Driver, use.index);
        leave();
        driver = &use;
        taken = false;
      } else if (!driver) {
        find(use.event, hazard::undriven(channelName(use.channel, machine)), Undriven, use.index);
      } else {
        sources[operands[use.event] + use.part] = {driver->event, driver->part};
        taken = true;
      }
    }
    leave();
  }

  void resolveMemory() {
    std::sort(words.begin(), words.end(), [](const WordUse &a, const WordUse &b) {
      return std::tie(a.word, a.cycle, a.reads, a.event) < std::tie(b.word, b.cycle, b.reads, b.event);
    });
    replaced.resize(contents.size());
    const WordUse *written = nullptr;
    for (const WordUse &use : words) {
      if (written && written->word != use.word)
        written = nullptr;
      if (!use.reads) {
        replaced[use.slot] = written ? written->slot : none;
        written = &use;
      } else if (!written)
        find(use.event, hazard::neverWritten(use.word / machine.words % machine.banks, use.word % machine.words),
             Contents);
      else
        readFrom[use.slot] = written->slot;
    }
  }

  void checkPorts() {
    std::sort(ports.begin(), ports.end(), [](const PortUse &a, const PortUse &b) {
      return std::tie(a.slice, a.cycle, a.event) < std::tie(b.slice, b.cycle, b.event);
    });
    for (size_t begin = 0, end = 0; begin < ports.size(); begin = end) {
      for (end = begin;
           end < ports.size() && ports[end].slice == ports[begin].slice && ports[end].cycle == ports[begin].cycle;)
        ++end;
      int64_t served[2] = {};
      for (size_t i = begin; i < end; ++i) {
        auto *same = std::find_if(&ports[begin], &ports[i], [&](const PortUse &o) { return o.bank == ports[i].bank; });
        int64_t most = ports[i].reads ? machine.readsPerCycle : machine.writesPerCycle;
        if (same != &ports[i])
          find(ports[i].event, hazard::bankBusy(ports[i].bank, print(events[same->event], queues)), Port);
        else if (++served[ports[i].reads] > most)
          find(ports[i].event, hazard::tooManyAccesses(ports[i].reads, most), Port);
      }
    }
  }

  uint64_t readContents(uint32_t read) const { return readFrom[read] == none ? 0 : contents[readFrom[read]]; }

  // The hash of one vector that an event gives.
  uint64_t valueOf(Giver origin) const {
    if (origin.event == none)
      return 0;
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
    ProductType type = ProductType::I8;
    int64_t rows = 0;
    uint64_t hash = 0;
  };
  struct PlaneProducts {
    bool f16 = false;
    uint32_t event = none;
  };
  struct PlaneState {
    std::map<int64_t, uint64_t> rows; // loaded, with hash
    std::vector<PlaneTile> tiles;
    std::map<int64_t, PlaneProducts> products; // by arrival
    std::map<int64_t, PlaneProducts> sums;     // started
    std::map<int64_t, uint64_t> sumHashes;
    std::map<int64_t, bool> loads, takes; // cycles in which the ports are used
  };

  // The latest tile that is in use in `cycle`.
  static const PlaneTile *tileIn(const PlaneState &plane, int64_t cycle) {
    for (const PlaneTile &tile : llvm::reverse(plane.tiles))
      if (tile.from <= cycle)
        return &tile;
    return nullptr;
  }

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
        if (firstRead[event] < firstRead[event + 1])
          hashes[event] = readContents(firstRead[event]);
        break;
      case Opcode::Write:
        if (firstWrite[event] < firstWrite[event + 1])
          contents[firstWrite[event]] = valueOf(sources[operands[event]]);
        break;
      case Opcode::Gather:
        hashes[event] = mix(6, operands[event] < operands[event + 1] ? valueOf(sources[operands[event]]) : 0);
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
    for (const PlaneState &plane : planes) {
      for (const auto &[arrival, products] : plane.products)
        findInTheEnd(products.event, hazard::productsLost());
      for (const auto &[number, sum] : plane.sums)
        findInTheEnd(sum.event, hazard::sumNotFinished(number));
    }
  }

  void scatter(uint32_t event) {
    if (firstWrite[event] == firstWrite[event + 1])
      return;
    uint64_t change = mix(mix(7, valueOf(sources[operands[event]])), valueOf(sources[operands[event] + 1]));
    for (uint32_t slot = firstWrite[event]; slot < firstWrite[event + 1]; ++slot) {
      uint64_t before = replaced[slot] == none ? 0 : contents[replaced[slot]];
      contents[slot] = mix(mix(change, slot - firstWrite[event]), before);
    }
  }

  PlaneState &planeOf(uint32_t event, int64_t offset = 0) {
    int64_t hemisphere = queues.chipOf(events[event].queue) * machine.hemispheres + nameOf(event).hemisphere;
    return planes[hemisphere * machine.planes + nameOf(event).index + offset];
  }

  void load(uint32_t event) {
    PlaneState &plane = planeOf(event);
    int64_t row = stepped(instructionOf(event), events[event].iteration);
    if (row < 0 || row > machine.rows - machine.installRows)
      return find(event, hazard::outOfRange("row", row, machine.rows - machine.installRows));
    if (!plane.loads.emplace(captureOf(event), true).second)
      return find(event, hazard::loadBusy());
    for (int64_t i = 0; i < machine.installRows; ++i)
      plane.rows[row + i] = valueOf(sources[operands[event] + i]);
  }

  void install(uint32_t event) {
    PlaneState &plane = planeOf(event);
    int64_t capture = captureOf(event);
    PlaneTile tile{capture + machine.install, static_cast<ProductType>(instructionOf(event).small[0]),
                   instructionOf(event).word[0], 0};
    tile.hash = mix(static_cast<uint64_t>(tile.type), static_cast<uint64_t>(tile.rows));
    for (int64_t row = 0; row < tile.rows; ++row) {
      auto loaded = plane.rows.find(row);
      if (loaded == plane.rows.end())
        return find(event, hazard::rowsMissing(row));
      tile.hash = mix(tile.hash, loaded->second);
    }
    if (llvm::count_if(plane.tiles, [&](const PlaneTile &other) { return other.from > capture; }) >=
        machine.weightBuffers - 1)
      return find(event, hazard::installing(machine.weightBuffers - 1));
    llvm::erase_if(plane.tiles,
                   [&](const PlaneTile &other) { return other.from <= capture && &other != tileIn(plane, capture); });
    plane.tiles.push_back(tile);
    plane.rows.clear();
  }

  void activate(uint32_t event) {
    const Instruction &instruction = instructionOf(event);
    auto type = static_cast<ProductType>(instruction.small[0]);
    bool f16 = type == ProductType::F16;
    int64_t capture = captureOf(event), halves = f16 ? 2 : 1;
    if (f16 && nameOf(event).index % 2 != 0)
      return find(event, hazard::oddPlane());
    uint64_t hash = mix(3, static_cast<uint64_t>(type));
    for (int64_t half = 0; half < halves; ++half)
      if (!tileIn(planeOf(event, half), capture))
        return find(event, hazard::notInstalled());
    for (int64_t half = 0; half < halves; ++half)
      if ((tileIn(planeOf(event, half), capture)->type == ProductType::F16) != f16)
        return find(event, hazard::wrongTile());
    if (f16 && tileIn(planeOf(event), capture)->rows != tileIn(planeOf(event, 1), capture)->rows)
      return find(event, hazard::tandemTiles());
    for (int64_t half = 0; half < halves; ++half) {
      if (!planeOf(event, half).takes.emplace(capture, true).second)
        return find(event, hazard::planeBusy());
      hash = mix(mix(hash, tileIn(planeOf(event, half), capture)->hash), valueOf(sources[operands[event] + half]));
    }
    hashes[event] = hash;
    planeOf(event).products[capture + machine.multiply] = {f16, event};
  }

  void accumulate(uint32_t event) {
    const Instruction &instruction = instructionOf(event);
    PlaneState &plane = planeOf(event);
    auto mode = static_cast<AccumulateMode>(instruction.small[0]);
    int64_t number = stepped(instruction, events[event].iteration);
    if (number < 0 || number >= machine.accumulators)
      return find(event, hazard::outOfRange("sum", number, machine.accumulators - 1));
    auto arrived = plane.products.find(captureOf(event));
    if (arrived == plane.products.end())
      return find(event, hazard::noProducts());
    PlaneProducts products = arrived->second;
    plane.products.erase(arrived);
    auto sum = plane.sums.find(number);
    if (mode == AccumulateMode::Pass) {
      hashes[event] = hashes[products.event];
      return;
    }
    if (mode == AccumulateMode::Start) {
      if (sum != plane.sums.end())
        return find(event, hazard::sumOverwritten(number));
      plane.sums[number] = {products.f16, event};
      plane.sumHashes[number] = hashes[products.event];
      return;
    }
    if (sum == plane.sums.end())
      return find(event, hazard::sumNotStarted(number));
    if (sum->second.f16 != products.f16)
      return find(event, hazard::sumType(number));
    uint64_t total = mix(mix(4, plane.sumHashes[number]), hashes[products.event]);
    plane.sumHashes[number] = total;
    if (mode == AccumulateMode::Finish) {
      hashes[event] = total;
      plane.sums.erase(sum);
    }
  }

  void checkOutputs() {
    std::map<int64_t, uint64_t> last; // contents of words in the end
    for (const WordUse &use : words)
      if (!use.reads)
        last[use.word] = contents[use.slot];
    for (uint32_t index : entryPoint.outputs)
      for (const Layout &layout : code.layouts) {
        if (layout.variable != index)
          continue;
        const program::Variable &variable = program.variables[index];
        bool reported = false;
        forEachWord(layout, variable, machine, [&](const WordAddress &word, const WordContents &held) {
          if (held.empty)
            return;
          auto end = last.find(wordIndex(layout.chip, word));
          if (end != last.end())
            digestSum += mix(mix(mix(index, held.hash), static_cast<uint64_t>(held.base)), end->second);
          else if (!std::exchange(reported, true))
            findings.push_back(
                {~uint64_t(0),
                 {"layout of '" + variable.name + "'", hazard::outputNeverWritten(variable.name, print(word))}});
        });
      }
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
  std::vector<uint32_t> readFrom;              // by word read: what was written, in `contents`, or none
  std::vector<uint64_t> contents;              // by word written: its hash
  std::vector<uint32_t> replaced;              // by word written: what was there before, in `contents`, or none
  std::vector<uint64_t> hashes;                // by event: of what it gives
  std::vector<ChannelUse> channelUses;
  std::vector<WordUse> words;
  std::vector<PartUse> parts;
  std::vector<PortUse> ports;
  std::vector<PlaneState> planes;
  std::vector<Found> findings;
  std::vector<std::pair<Issue, std::string>> ofQueues;
  uint64_t digestSum = 0;
};

} // namespace

target::Verdict check(const program::Program &program, const Code &code, const Architecture &machine) {
  target::Verdict verdict;
  verdict.findings = wellFormed(program, code, machine);
  if (!verdict.legal())
    return verdict;
  for (size_t entry = 0; entry < program.entryPoints.size(); ++entry)
    llvm::append_range(verdict.findings, EntryCheck(program, code, machine, entry).run());
  return verdict;
}

std::optional<std::vector<Digest>> digest(const program::Program &program, const Code &code,
                                          const Architecture &machine) {
  if (!wellFormed(program, code, machine).empty())
    return std::nullopt;
  std::vector<Digest> digests;
  for (size_t entry = 0; entry < program.entryPoints.size(); ++entry) {
    EntryCheck walk(program, code, machine, entry);
    if (!walk.run().empty())
      return std::nullopt;
    digests.push_back({walk.outputDigest()});
  }
  return digests;
}

} // namespace quadrille::tsp
