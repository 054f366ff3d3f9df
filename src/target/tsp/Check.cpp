#include "target/tsp/Check.h"

#include "base/Mix.h"
#include "target/tsp/Hazard.h"
#include "target/tsp/WellFormed.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace quadrille::tsp {

namespace {

constexpr size_t mostFindings = 64;                // of one entry point
constexpr uint64_t mostIssues = uint64_t(1) << 26; // held at once: bounds memory for a hostile program
constexpr uint32_t none = ~uint32_t(0);
constexpr int64_t beforeStart = -1;

uint64_t mix(uint64_t a, uint64_t b) {
  return splitMix(a * splitMixIncrement + b + 0x7f4a7c159e3779b9u);
}

// Where a value comes from: byte plane `part` of what an event emits.
struct Source {
  uint32_t event = none;
  uint8_t part = 0;
};

struct StreamUse {
  int64_t stream; // of both directions
  int64_t diagonal, coordinate;
  bool reads;
  uint32_t event;
  uint8_t part; // of a driver; index of the operand of a reader
};

struct WordUse {
  int64_t word, cycle;
  bool reads;
  uint32_t event; // none: there before the start
  uint64_t contents;
};

struct PortUse {
  int64_t slice, cycle;
  uint32_t event;
  uint8_t bank;
  bool reads;
};

class EntryCheck {
public:
  EntryCheck(const program::Program &program, const Code &code, const Architecture &machine, size_t entry)
      : program(program), code(code), machine(machine), entryPoint(program.entryPoints[entry]),
        queues(code.entries[entry].chips[0].queues) {}

  std::vector<target::Finding> run() {
    if (issueCount(queues) > mostIssues)
      return {
          {"entry '" + entryPoint.name + "'", "it issues more than 2^26 instructions, more than the checker holds"}};
    expand();
    placeVariables();
    collect();
    resolveStreams();
    resolveMemory();
    checkPorts();
    followPlanes();
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
  void find(uint32_t event, std::string message, Stage stage = Operands) {
    findings.push_back({uint64_t(event) * 8 + stage, {print(events[event], queues), std::move(message)}});
  }
  // What shows only when the program has ended comes behind all that happens while it runs.
  static constexpr uint64_t ended = uint64_t(1) << 62;
  void findInTheEnd(uint32_t event, std::string message) {
    findings.push_back({ended + event, {print(events[event], queues), std::move(message)}});
  }
  void findAt(const Issue &issue, std::string message) {
    findings.push_back({0, {print(issue, queues), std::move(message)}});
  }

  // All dispatches, in the order in which effects of one cycle count: queue by queue up to the next sync; then, as long
  // as notifications arrive, in the order of their arrival, the queues that wait for them.
  void expand() {
    struct Progress {
      size_t next = 0;
      int64_t clock = 0;
    };
    std::vector<Progress> progress(queues.size());
    std::vector<uint32_t> waiting;
    std::multimap<int64_t, bool> arrivals;
    auto walk = [&](uint32_t queue) {
      Progress &at = progress[queue];
      const Issue *last = nullptr;
      Issue issue;
      for (; at.next < queues[queue].instructions.size(); ++at.next) {
        const Instruction &instruction = queues[queue].instructions[at.next];
        auto index = static_cast<uint32_t>(at.next);
        if (at.clock > hazard::longest)
          return findAt({at.clock, queue, index, 0}, hazard::tooLong());
        const Issue *before = std::exchange(last, nullptr);
        if (instruction.op() == Opcode::Nop) {
          at.clock += instruction.word[0];
        } else if (instruction.op() == Opcode::Notify) {
          arrivals.emplace(at.clock + machine.barrier, true);
          at.clock += 1;
        } else if (instruction.op() == Opcode::Sync) {
          waiting.push_back(queue);
          return;
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
      int64_t arrival = arrivals.begin()->first;
      arrivals.erase(arrivals.begin());
      for (uint32_t queue : std::exchange(waiting, {})) {
        if (progress[queue].clock >= arrival) {
          waiting.push_back(queue);
          continue;
        }
        progress[queue].clock = arrival;
        progress[queue].next += 1;
        walk(queue);
      }
    }
    for (uint32_t queue : waiting)
      findings.push_back(
          {~uint64_t(0) - 1,
           {print(Issue{progress[queue].clock, queue, static_cast<uint32_t>(progress[queue].next), 0}, queues),
            hazard::neverReleased()}});
    auto rank = [&](const Issue &issue) {
      uint8_t opcode = queues[issue.queue].instructions[issue.instruction].opcode;
      bool matrix = opcode >= static_cast<uint8_t>(Opcode::LoadWeights);
      return std::tuple(issue.cycle, !matrix, opcode, issue.queue);
    };
    std::sort(events.begin(), events.end(), [&](const Issue &a, const Issue &b) { return rank(a) < rank(b); });
    hashes.resize(events.size());
    operands.resize(events.size() + 1);
  }

  int64_t wordIndex(const WordAddress &word) const {
    return ((int64_t(word.slice.hemisphere) * machine.slices + word.slice.slice) * machine.banks + word.bank) *
               machine.words +
           word.address;
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
      forEachWord(layout, variable, machine, [&](const WordAddress &word, LaneContents lanes) {
        if (!taken.emplace(wordIndex(word), true).second && !std::exchange(reported, true))
          findings.push_back({0, {"layout of '" + variable.name + "'", overlapMessage(variable.name, word)}});
        uint64_t contents = mix(layout.variable, 1);
        for (int64_t lane : lanes)
          contents = mix(contents, static_cast<uint64_t>(lane));
        words.push_back({wordIndex(word), beforeStart, false, none, contents});
      });
    }
  }

  // What each event does to streams, memory words and memory ports.
  void collect() {
    uint32_t operandCount = 0;
    for (uint32_t event = 0; event < events.size(); ++event) {
      operands[event] = operandCount;
      const Instruction &instruction = instructionOf(event);
      const QueueName &name = nameOf(event);
      int64_t capture = captureOf(event);
      auto drive = [&](Direction direction, int64_t stream, int64_t coordinate, int64_t cycle, uint8_t part) {
        streamUses.push_back(
            {int64_t(direction) * machine.streams + stream, cycle - coordinate, coordinate, false, event, part});
      };
      auto tap = [&](Direction direction, int64_t stream, int64_t coordinate) {
        streamUses.push_back({int64_t(direction) * machine.streams + stream, capture - coordinate, coordinate, true,
                              event, static_cast<uint8_t>(operandCount - operands[event])});
        ++operandCount;
      };
      switch (instruction.op()) {
      case Opcode::Read:
      case Opcode::Write: {
        int64_t address = stepped(instruction, events[event].iteration);
        if (address < 0 || address >= machine.words) {
          find(event, hazard::outOfRange("address", address, machine.words - 1));
          break;
        }
        auto direction = static_cast<Direction>(instruction.small[2]);
        int64_t coordinate = machine.sliceCoordinate(name.hemisphere, name.index, direction);
        int64_t slice = int64_t(name.hemisphere) * machine.slices + name.index;
        int64_t word = wordIndex({{name.hemisphere, name.index}, instruction.small[0], static_cast<uint32_t>(address)});
        if (instruction.op() == Opcode::Read) {
          words.push_back({word, capture, true, event, 0});
          ports.push_back({slice, capture, event, instruction.small[0], true});
          drive(direction, instruction.small[1], coordinate, capture + machine.memoryRead, 0);
        } else {
          words.push_back({word, capture + machine.memoryWrite, false, event, 0});
          ports.push_back({slice, capture + machine.memoryWrite - 1, event, instruction.small[0], false});
          tap(direction, instruction.small[1], coordinate);
        }
        break;
      }
      case Opcode::LoadWeights:
        for (int64_t i = 0; i < machine.installRows; ++i)
          tap(machine.outward(name.hemisphere), machine.installFirstStream[name.index] + i,
              machine.matrixInputCoordinate());
        break;
      case Opcode::Activate:
        for (int64_t i = 0; i < (instruction.small[0] == uint8_t(ProductType::F16) ? 2 : 1); ++i)
          tap(machine.outward(name.hemisphere), instruction.small[1] + i, machine.matrixInputCoordinate());
        break;
      case Opcode::Accumulate: {
        auto mode = static_cast<AccumulateMode>(instruction.small[0]);
        if (mode == AccumulateMode::Finish || mode == AccumulateMode::Pass)
          for (int64_t i = 0; i < 4; ++i)
            drive(machine.inward(name.hemisphere), machine.resultStream(name.index) + i,
                  machine.matrixOutputCoordinate(), capture + (mode == AccumulateMode::Finish ? machine.accumulate : 0),
                  static_cast<uint8_t>(i));
        break;
      }
      default:
        break;
      }
    }
    operands[events.size()] = operandCount;
    sources.resize(operandCount);
  }

  void resolveStreams() {
    std::sort(streamUses.begin(), streamUses.end(), [](const StreamUse &a, const StreamUse &b) {
      return std::tie(a.stream, a.diagonal, a.coordinate, a.reads, a.event) <
             std::tie(b.stream, b.diagonal, b.coordinate, b.reads, b.event);
    });
    const StreamUse *driver = nullptr;
    for (const StreamUse &use : streamUses) {
      if (driver && (driver->stream != use.stream || driver->diagonal != use.diagonal))
        driver = nullptr;
      auto direction = static_cast<Direction>(use.stream / machine.streams);
      if (!use.reads) {
        if (driver && driver->coordinate == use.coordinate)
          find(use.event,
               hazard::twoDrivers(direction, use.stream % machine.streams, print(events[driver->event], queues)),
               Driver);
        driver = &use;
      } else if (!driver) {
        find(use.event, hazard::undriven(direction, use.stream % machine.streams), Undriven);
      } else {
        sources[operands[use.event] + use.part] = {driver->event, driver->part};
      }
    }
  }

  void resolveMemory() {
    std::sort(words.begin(), words.end(), [](const WordUse &a, const WordUse &b) {
      return std::tie(a.word, a.cycle, a.reads, a.event) < std::tie(b.word, b.cycle, b.reads, b.event);
    });
    readSources.resize(events.size());
    const WordUse *written = nullptr;
    for (const WordUse &use : words) {
      if (written && written->word != use.word)
        written = nullptr;
      if (!use.reads)
        written = &use;
      else if (!written)
        find(use.event, hazard::neverWritten(use.word / machine.words % machine.banks, use.word % machine.words),
             Contents);
      else
        readSources[use.event] = written;
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

  uint64_t valueOf(Source source) const {
    if (source.event == none)
      return 0;
    return instructionOf(source.event).op() == Opcode::Read ? hashes[source.event]
                                                            : mix(hashes[source.event], source.part);
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
  void followPlanes() {
    planes.resize(machine.hemispheres * machine.planes);
    for (uint32_t event = 0; event < events.size(); ++event) {
      switch (instructionOf(event).op()) {
      case Opcode::Read:
        if (const WordUse *from = readSources[event])
          hashes[event] = from->event == none ? from->contents : hashes[from->event];
        break;
      case Opcode::Write:
        hashes[event] = operands[event] < operands[event + 1] ? valueOf(sources[operands[event]]) : 0;
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
        break;
      }
    }
    for (const PlaneState &plane : planes) {
      for (const auto &[arrival, products] : plane.products)
        findInTheEnd(products.event, hazard::productsLost());
      for (const auto &[number, sum] : plane.sums)
        findInTheEnd(sum.event, hazard::sumNotFinished(number));
    }
  }

  PlaneState &planeOf(uint32_t event, int64_t offset = 0) {
    return planes[nameOf(event).hemisphere * machine.planes + nameOf(event).index + offset];
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
        last[use.word] = use.event == none ? use.contents : hashes[use.event];
    for (uint32_t index : entryPoint.outputs)
      for (const Layout &layout : code.layouts) {
        if (layout.variable != index)
          continue;
        const program::Variable &variable = program.variables[index];
        bool reported = false;
        forEachWord(layout, variable, machine, [&](const WordAddress &word, LaneContents lanes) {
          auto contents = last.find(wordIndex(word));
          for (size_t lane = 0; lane < lanes.size(); ++lane) {
            if (lanes[lane] < 0)
              continue;
            if (contents == last.end()) {
              if (!std::exchange(reported, true))
                findings.push_back(
                    {~uint64_t(0),
                     {"layout of '" + variable.name + "'", hazard::outputNeverWritten(variable.name, print(word))}});
              return;
            }
            digestSum += mix(mix(index, static_cast<uint64_t>(lanes[lane])), mix(contents->second, lane));
          }
        });
      }
  }

  const program::Program &program;
  const Code &code;
  const Architecture &machine;
  const program::EntryPoint &entryPoint;
  const std::vector<Queue> &queues;
  std::vector<Issue> events;
  std::vector<uint32_t> operands; // of event e: sources[operands[e] .. operands[e + 1])
  std::vector<Source> sources;
  std::vector<const WordUse *> readSources; // by event
  std::vector<uint64_t> hashes;             // by event: what it emits
  std::vector<StreamUse> streamUses;
  std::vector<WordUse> words;
  std::vector<PortUse> ports;
  std::vector<PlaneState> planes;
  std::vector<Found> findings;
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
