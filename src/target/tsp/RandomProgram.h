// Programs at random for the tests: built backwards from what is stored, so that every vector comes from where and when
// it is needed. Most are legal; what collides by chance, and `disturb`, makes the others.
#pragma once

#include "target/tsp/Code.h"
#include "target/tsp/Layout.h"
#include "target/tsp/Progression.h"
#include "target/tsp/RandomMachine.h"
#include "target/tsp/SwitchUnit.h"
#include "target/tsp/VectorUnit.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <map>
#include <set>

namespace quadrille::tsp {

class RandomCode {
public:
  RandomCode(const program::Program &program, const Architecture &machine, uint64_t seed)
      : program(program), machine(machine), chance(seed) {}

  Code take() {
    int64_t stores = chance.between(1, 4);
    for (int64_t i = 0, tries = 0; i < stores && tries < 20; ++tries) {
      State before = state;
      if (store())
        ++i;
      else
        state = std::move(before);
    }
    return finish();
  }

  // One or two fields, instructions or queues changed.
  void disturb(Code &code) {
    for (int64_t changes = chance.percent(25) ? 2 : 1; changes > 0; --changes) {
      std::vector<std::pair<Queue *, int64_t>> places; // queue and its chip
      for (auto [chip, chipCode] : llvm::enumerate(code.entries[0].chips))
        for (Queue &queue : chipCode.queues)
          places.emplace_back(&queue, static_cast<int64_t>(chip));
      if (places.empty())
        return;
      auto [queue, chip] = places[chance.below(static_cast<int64_t>(places.size()))];
      if (queue->instructions.empty())
        continue;
      if (chance.percent(5)) {
        queue->name.index = static_cast<uint16_t>(chance.below(machine.slices));
        continue;
      }
      auto &list = queue->instructions;
      int64_t index = chance.below(static_cast<int64_t>(list.size()));
      if (chance.percent(6)) {
        list.erase(list.begin() + index);
      } else if (chance.percent(6)) {
        Instruction copy = list[index];
        list.insert(list.begin() + index, copy);
      } else {
        changeField(list[index], queue->name);
      }
    }
  }

private:
  struct Item {
    Progression cycles;
    Instruction instruction;
  };
  using Key = std::pair<int64_t, QueueName>; // chip and queue
  struct Access {
    Progression cycles;
    int64_t bank;
    bool reads;
  };
  struct State {
    std::map<std::tuple<int64_t, int, int64_t>, std::vector<Access>> accesses; // by chip, hemisphere, slice
    std::map<Key, std::vector<Item>> queues;
    std::map<std::tuple<int64_t, int, int64_t, int64_t>, int64_t> used; // words by chip, hemisphere, slice, bank
    std::map<std::tuple<int64_t, int, int, int64_t>, std::vector<Progression>> parts;
    std::set<std::tuple<int64_t, int, int64_t>> planes; // taken
    std::vector<Layout> layouts;
    std::vector<std::pair<int64_t, WordAddress>> written;
  };
  enum Contents { Data, Rows, LanesLow, LanesHigh, Lanes };

  // Vectors that must pass `coordinate` in `cycles`, on `width` streams from `first`.
  struct Need {
    int64_t chip;
    Source first;
    int64_t width, coordinate;
    Progression cycles;
    int depth;
    Contents contents = Data;
  };

  Source anyStream(int64_t width = 1) {
    auto kind = static_cast<Source::Kind>(chance.below(2));
    return {kind, static_cast<uint8_t>(chance.below(machine.streams / width) * width)};
  }

  bool isFree(const Key &key, const Progression &cycles) {
    auto found = state.queues.find(key);
    if (found == state.queues.end())
      return true;
    bool mayInterleave = chance.percent(10);
    return llvm::none_of(found->second, [&](const Item &item) {
      return mayInterleave ? firstCommon(cycles, item.cycles).has_value() : cycles.meets(item.cycles);
    });
  }
  Key queueOf(int64_t chip, UnitKind unit, int hemisphere, int64_t index, int64_t port) const {
    return {chip, {unit, static_cast<uint8_t>(hemisphere), static_cast<uint16_t>(index), static_cast<uint8_t>(port)}};
  }
  // On one of the queues, or every other issue on another one; false when they are occupied or cannot do it.
  bool issue(std::vector<Key> keys, const Instruction &instruction, Progression cycles) {
    if (!operandProblem(instruction, keys[0].second, machine).empty())
      return false;
    std::swap(keys[0], keys[chance.below(static_cast<int64_t>(keys.size()))]);
    if (cycles.count > 1 && keys.size() > 1 && chance.percent(30)) {
      std::swap(keys[1], keys[chance.between(1, static_cast<int64_t>(keys.size()) - 1)]);
      Instruction odd = instruction;
      Progression evens{cycles.first, 2 * cycles.interval, (cycles.count + 1) / 2};
      Progression odds{cycles.at(1), 2 * cycles.interval, cycles.count / 2};
      if (stepOf(instruction) != 0)
        odd.word[0] += odd.word[1];
      Instruction even = instruction;
      if (stepOf(instruction) != 0) {
        even.word[1] *= 2;
        odd.word[1] *= 2;
      }
      if (operandProblem(even, keys[0].second, machine).empty() &&
          operandProblem(odd, keys[0].second, machine).empty() && isFree(keys[0], evens) && isFree(keys[1], odds)) {
        state.queues[keys[0]].push_back({evens, even});
        state.queues[keys[1]].push_back({odds, odd});
        return true;
      }
    }
    for (const Key &key : keys)
      if (isFree(key, cycles)) {
        state.queues[key].push_back({cycles, instruction});
        return true;
      }
    return false;
  }
  static int64_t stepOf(const Instruction &instruction) {
    switch (instruction.op()) {
    case Opcode::Read:
    case Opcode::Write:
    case Opcode::LoadWeights:
    case Opcode::Accumulate:
      return instruction.word[1];
    default:
      return 0;
    }
  }
  bool issueMemory(int64_t chip, int hemisphere, int64_t slice, const Instruction &instruction, Progression cycles) {
    bool reads = instruction.op() == Opcode::Read || instruction.op() == Opcode::Gather;
    int64_t delay = instruction.op() == Opcode::Read      ? 0
                    : instruction.op() == Opcode::Gather  ? machine.memoryGather - machine.memoryRead
                    : instruction.op() == Opcode::Scatter ? machine.memoryScatter - 1
                                                          : machine.memoryWrite - 1;
    auto &accesses = state.accesses[{chip, hemisphere, slice}];
    Access access{cycles.shifted(delay), instruction.small[0], reads};
    if (chance.percent(95) && llvm::any_of(accesses, [&](const Access &other) {
          return (other.bank == access.bank || other.reads == reads) && other.cycles.meets(access.cycles);
        }))
      return false;
    accesses.push_back(access);
    std::vector<Key> keys;
    for (int64_t port = 0; port < machine.queuesPerSlice; ++port)
      keys.push_back(queueOf(chip, UnitKind::Memory, hemisphere, slice, port));
    return issue(std::move(keys), instruction, cycles);
  }
  bool issueMatrix(int64_t chip, int hemisphere, int64_t plane, const Instruction &instruction, Progression cycles) {
    std::vector<Key> keys;
    for (int64_t port = 0; port < machine.queuesPerPlane; ++port)
      keys.push_back(queueOf(chip, UnitKind::Matrix, hemisphere, plane, port));
    return issue(std::move(keys), instruction, cycles);
  }
  bool issueSwitch(int64_t chip, int hemisphere, const Instruction &instruction, Progression cycles) {
    auto part = switchPart(instruction.op());
    int kind = part ? static_cast<int>(*part) : instruction.op() == Opcode::Send ? 100 : 101;
    auto &taken = state.parts[{chip, hemisphere, kind, instruction.small[0]}];
    if (llvm::any_of(taken, [&](const Progression &other) { return cycles.meets(other); }))
      return false;
    taken.push_back(cycles);
    std::vector<Key> keys;
    for (int64_t queue = chance.below(10); keys.size() < 3; ++queue)
      keys.push_back(queueOf(chip, UnitKind::Switch, hemisphere, queue, 0));
    return issue(std::move(keys), instruction, cycles);
  }

  // Words of a bank that nothing else uses; the first one, or -1.
  int64_t reserve(int64_t chip, int hemisphere, int64_t slice, int64_t bank, int64_t count) {
    int64_t &used = state.used[{chip, hemisphere, slice, bank}];
    int64_t at = used + chance.below(3);
    if (at + count > machine.words)
      return -1;
    used = at + count;
    return at;
  }
  void place(int64_t chip, int hemisphere, int64_t slice, int64_t bank, int64_t address, uint32_t variable) {
    const auto &shape = program.variables[variable].shape;
    Layout layout;
    layout.variable = variable;
    layout.chip = static_cast<uint16_t>(chip);
    layout.bank = static_cast<uint8_t>(bank);
    layout.address = static_cast<uint32_t>(address);
    layout.slices = {{static_cast<uint8_t>(hemisphere), static_cast<uint16_t>(slice)}};
    layout.axes = {{0, AxisTarget::Address, static_cast<uint32_t>(shape[0]), 1},
                   {1, AxisTarget::Lane, static_cast<uint32_t>(shape[1]), 1}};
    state.layouts.push_back(layout);
  }

  Instruction make(Opcode opcode, std::initializer_list<std::pair<const char *, int64_t>> fields) const {
    Instruction instruction;
    instruction.opcode = static_cast<uint8_t>(opcode);
    for (const Field &field : formOf(instruction.opcode)->fields)
      setValue(instruction, field.member, field.defaultValue.value_or(0));
    for (auto [name, value] : fields) {
      const auto &all = formOf(instruction.opcode)->fields;
      setValue(instruction, llvm::find_if(all, [&](const Field &f) { return f.name == name; })->member, value);
    }
    return instruction;
  }

  // Address and step of `count` issues within rows from `address`.
  std::pair<int64_t, int64_t> walk(int64_t address, int64_t rows, int64_t count) {
    int64_t most = count > 1 ? (rows - 1) / (count - 1) : 2;
    int64_t step = std::min<int64_t>(most, chance.below(3));
    if (count > rows)
      step = 0;
    return chance.percent(30) ? std::pair(address + step * (count - 1), -step) : std::pair(address, step);
  }

  // A slice that streams pass before they reach `coordinate`; {-1, 0} when there is none.
  std::pair<int, int64_t> sliceBefore(Direction direction, int64_t coordinate) {
    for (int tries = 0; tries < 30; ++tries) {
      auto hemisphere = static_cast<int>(chance.below(2));
      int64_t slice = chance.below(machine.slices);
      if (!machine.reserved[hemisphere][slice] && machine.sliceCoordinate(hemisphere, slice, direction) <= coordinate)
        return {hemisphere, slice};
    }
    return {-1, 0};
  }

  bool drive(Need need) {
    // Sometimes more comes than is taken.
    if (need.cycles.count > 1 && need.cycles.interval > 1 && need.cycles.interval < 5 && chance.percent(30))
      need.cycles = {need.cycles.first, 1, need.cycles.last() - need.cycles.first + 1};
    if (need.contents == Data && need.depth > 0)
      for (int tries = 0; tries < 3; ++tries) {
        State before = state;
        bool done = false;
        switch (chance.below(7)) {
        case 0:
        case 1:
          done = need.coordinate > 0 &&
                 arithmetic(need.chip, need.first, need.width, need.cycles.shifted(-need.coordinate), need.depth - 1);
          break;
        case 2:
        case 3:
          done = switched(need);
          break;
        case 4:
          done = multiplied(need);
          break;
        case 5:
          done = received(need);
          break;
        default:
          break;
        }
        if (done)
          return true;
        state = std::move(before);
      }
    for (int64_t i = 0; i < need.width; ++i) {
      Need one = need;
      one.first.index = static_cast<uint8_t>(need.first.index + i);
      one.width = 1;
      bool done = false;
      for (int tries = 0; tries < 20 && !done; ++tries) {
        State before = state;
        done = readOne(one);
        if (!done)
          state = std::move(before);
      }
      if (!done)
        return false;
    }
    return true;
  }

  bool readOne(const Need &need) {
    auto [hemisphere, slice] = sliceBefore(need.first.direction(), need.coordinate);
    if (hemisphere < 0)
      return false;
    int64_t here = machine.sliceCoordinate(hemisphere, slice, need.first.direction());
    Progression passing = need.cycles.shifted(here - need.coordinate);
    int64_t bank = chance.below(machine.banks), count = passing.count;
    Progression dispatch = passing.shifted(-machine.skew - machine.memoryRead);
    if (need.contents != Data) {
      int64_t address = reserve(need.chip, hemisphere, slice, bank, 1);
      if (address < 0)
        return false;
      place(need.chip, hemisphere, slice, bank, address, static_cast<uint32_t>(3 + need.contents));
      return issueMemory(need.chip, hemisphere, slice,
                         make(Opcode::Read, {{"bank", bank}, {"address", address}, {"stream", need.first.byte()}}),
                         dispatch);
    }
    int64_t rows = dataRows, address = reserve(need.chip, hemisphere, slice, bank, rows);
    if (address < 0)
      return false;
    bool gathers = need.depth > 0 && chance.percent(20), rewritten = need.depth > 0 && chance.percent(20);
    if (gathers || !rewritten || chance.percent(50)) // the other half is never there before
      place(need.chip, hemisphere, slice, bank, address, static_cast<uint32_t>(chance.below(4)));
    if (gathers) {
      dispatch = passing.shifted(-machine.skew - machine.memoryGather);
      Source map = anyStream();
      if (!issueMemory(need.chip, hemisphere, slice,
                       make(Opcode::Gather, {{"bank", bank},
                                             {"address", address},
                                             {"rows", chance.between(4, rows)},
                                             {"map", map.byte()},
                                             {"stream", need.first.byte()}}),
                       dispatch))
        return false;
      return drive({need.chip, map, 1, machine.sliceCoordinate(hemisphere, slice, map.direction()),
                    dispatch.shifted(machine.skew), need.depth - 1, Rows});
    }
    auto [first, step] = walk(address, rows, count);
    if (!issueMemory(
            need.chip, hemisphere, slice,
            make(Opcode::Read, {{"bank", bank}, {"address", first}, {"step", step}, {"stream", need.first.byte()}}),
            dispatch))
      return false;
    if (!rewritten)
      return true;
    // Written by a burst that ends before the reading begins, or runs ahead of it on another queue.
    Source from = anyStream();
    int64_t ahead = chance.percent(40) && machine.queuesPerSlice > 1 ? 0 : (count - 1) * dispatch.interval + 1;
    Progression writes = dispatch.shifted(-ahead - machine.memoryWrite - chance.below(4));
    if (!issueMemory(need.chip, hemisphere, slice,
                     make(Opcode::Write, {{"bank", bank}, {"address", first}, {"step", step}, {"stream", from.byte()}}),
                     writes))
      return false;
    return drive({need.chip, from, 1, machine.sliceCoordinate(hemisphere, slice, from.direction()),
                  writes.shifted(machine.skew), need.depth - 1});
  }

  // An arithmetic unit whose result of `width` bytes is ready in `ready`, on stream `to` and for others.
  bool arithmetic(int64_t chip, Source to, int64_t width, Progression ready, int depth, int64_t unit = -1) {
    static const std::vector<const Form *> vectorForms = [] {
      std::vector<const Form *> list;
      for (const Form &form : forms())
        if (form.unit == UnitKind::Vector)
          list.push_back(&form);
      return list;
    }();
    for (int tries = 0; tries < 200; ++tries) {
      const Form &form = *vectorForms[chance.below(static_cast<int64_t>(vectorForms.size()))];
      Instruction instruction;
      instruction.opcode = static_cast<uint8_t>(form.opcode);
      int64_t alu = unit >= 0 ? unit : chance.below(machine.alus);
      for (const Field &field : form.fields) {
        int64_t value = field.words.empty() ? 0 : chance.below(static_cast<int64_t>(field.words.size()));
        if (field.name == "overflow")
          value = chance.percent(20);
        if (field.kind == FieldKind::Operand)
          value = depth > 0 && chance.percent(25) ? Source{Source::Alu, static_cast<uint8_t>(chance.below(16))}.byte()
                                                  : anyStream(4).byte();
        if (field.kind == FieldKind::Target)
          value = to.byte();
        setValue(instruction, field.member, value);
      }
      Key key = queueOf(chip, UnitKind::Vector, 0, alu, 0);
      if (!operandProblem(instruction, key.second, machine).empty() || resultBytes(instruction) != width)
        continue;
      int64_t latency = isTranscendental(instruction.op()) ? machine.vectorTranscendental : machine.vectorOperation;
      Progression inside = ready.shifted(-latency);
      if (!issue({key}, instruction, inside.shifted(-machine.vectorEntry - machine.skew)))
        return false;
      for (int64_t operand = 0; operand < operandCount(instruction); ++operand) {
        Source source = operandSource(instruction, operand);
        int64_t bytes = operandBytes(instruction, operand);
        if (source.isStream()) {
          // The same streams twice are driven once.
          if (operand == 1 && operandSource(instruction, 0).byte() == source.byte() &&
              operandBytes(instruction, 0) >= bytes)
            continue;
          if (!drive({chip, source, bytes, 0, inside.shifted(-machine.vectorEntry), depth}))
            return false;
        } else if (operand == 1 && operandSource(instruction, 0).byte() == source.byte()) {
          if (operandBytes(instruction, 0) < bytes)
            return false;
        } else if (!arithmetic(chip, Source::of(noSource), bytes, inside, depth - 1, source.index)) {
          return false;
        }
      }
      return true;
    }
    return false;
  }

  bool switched(const Need &need) {
    auto hemisphere = static_cast<int>(chance.below(2));
    Direction direction = need.first.direction();
    int64_t here = machine.switchCoordinate(hemisphere, direction);
    if (here >= need.coordinate)
      return false;
    Progression given = need.cycles.shifted(here - need.coordinate);
    Source from = anyStream(), map = anyStream(2), to = need.first;
    int64_t streams = 1;
    Opcode opcode = need.width > 1 ? Opcode::Distribute : Opcode::Shift;
    constexpr Opcode some[] = {Opcode::Shift,      Opcode::Select, Opcode::Permute,
                               Opcode::Distribute, Opcode::Rotate, Opcode::Transpose};
    opcode = need.width == 1                        ? some[chance.below(6)]
             : need.width > 8 || chance.percent(50) ? Opcode::Transpose
                                                    : opcode;
    Instruction instruction;
    std::vector<std::tuple<Source, int64_t, Contents>> inputs;
    switch (opcode) {
    case Opcode::Shift:
      instruction = make(opcode, {{"lanes", chance.percent(30) ? 0 : chance.between(-20, 20)}});
      inputs = {{from, 1, Data}};
      break;
    case Opcode::Select: {
      Source other = anyStream(), mask = anyStream();
      instruction = make(opcode, {{"a", from.byte()}, {"b", other.byte()}, {"mask", mask.byte()}});
      inputs = {{from, 1, Data}, {other, 1, Data}, {mask, 1, Data}};
      break;
    }
    case Opcode::Permute:
      instruction = make(opcode, {{"map", map.byte()}});
      inputs = {{from, 1, Data}, {map, 1, LanesLow}, {Source{map.kind, uint8_t(map.index + 1)}, 1, LanesHigh}};
      break;
    case Opcode::Distribute:
      streams = std::max(need.width, chance.percent(50) ? 1 : chance.between(1, machine.distributeStreams));
      instruction = make(opcode, {{"unit", chance.below(machine.distributors)},
                                  {"map", map.byte()},
                                  {"streams", streams},
                                  {"bypass", chance.below(1 << streams)}});
      inputs = {{from, streams, Data}, {map, 1, Lanes}};
      break;
    case Opcode::Rotate: {
      int64_t size = chance.between(3, 4);
      to.index = static_cast<uint8_t>(std::max<int64_t>(0, to.index - chance.below(size * size)));
      instruction = make(opcode, {{"size", size}});
      inputs = {{from, 1, Data}};
      break;
    }
    default:
      from.index = static_cast<uint8_t>(chance.below(2) * machine.lanes);
      to.index = static_cast<uint8_t>(to.index / machine.lanes * machine.lanes);
      instruction = make(opcode, {{"unit", chance.below(machine.transposers)}});
      inputs = {{from, machine.lanes, Data}};
      break;
    }
    for (const Field &field : formOf(instruction.opcode)->fields)
      if (field.name == "from" || field.name == "to")
        setValue(instruction, field.member, field.name == "from" ? from.byte() : to.byte());
    Progression dispatch = given.shifted(-machine.skew - switchLatency(instruction, machine));
    if (!issueSwitch(need.chip, hemisphere, instruction, dispatch))
      return false;
    std::set<uint8_t> driven;
    for (auto [source, width, contents] : inputs) {
      if (width == 1 && contents == Data && !driven.insert(source.byte()).second)
        continue;
      if (!drive({need.chip, source, width, machine.switchCoordinate(hemisphere, source.direction()),
                  dispatch.shifted(machine.skew), need.depth - 1, contents}))
        return false;
    }
    return true;
  }

  bool received(const Need &need) {
    int64_t link = chance.below(machine.linksUsed);
    auto hemisphere = static_cast<int>(link % 2);
    auto end = farEnd({need.chip, link}, machine);
    int64_t here = machine.switchCoordinate(hemisphere, need.first.direction());
    if (!end || end->chip >= program.chips || need.width != 1 || here >= need.coordinate ||
        (need.cycles.count > 1 && need.cycles.interval < machine.linkInterval))
      return false;
    Progression receive = need.cycles.shifted(here - need.coordinate - machine.skew);
    Progression send = receive.shifted(-machine.linkLatency);
    Source from = anyStream();
    auto other = static_cast<int>(end->link % 2);
    return issueSwitch(need.chip, hemisphere, make(Opcode::Receive, {{"link", link}, {"stream", need.first.byte()}}),
                       receive) &&
           issueSwitch(end->chip, other, make(Opcode::Send, {{"link", end->link}, {"stream", from.byte()}}), send) &&
           drive({end->chip, from, 1, machine.switchCoordinate(other, from.direction()), send.shifted(machine.skew),
                  need.depth - 1});
  }

  // Sums of a plane; sometimes the tile changes while the activations pass.
  bool multiplied(const Need &need) {
    auto hemisphere = static_cast<int>(chance.below(2));
    if (machine.inward(hemisphere) != need.first.direction() || machine.matrixOutputCoordinate() > need.coordinate)
      return false;
    int64_t plane = -1;
    for (int64_t i = 0; i < machine.planes; ++i)
      if (need.first.index >= machine.resultStream(i) &&
          need.first.index + need.width <= machine.resultStream(i) + machine.group)
        plane = i;
    if (plane < 0)
      return false;
    bool f16 = plane % 2 == 0 && chance.percent(30);
    for (int64_t each = plane; each <= plane + (f16 ? 1 : 0); ++each)
      if (!state.planes.insert({need.chip, hemisphere, each}).second)
        return false;
    Progression out = need.cycles.shifted(machine.matrixOutputCoordinate() - need.coordinate - machine.skew);
    bool sums = chance.percent(60);
    Progression finish = sums ? out.shifted(-machine.accumulate) : out, start = finish;
    int64_t number = chance.below(machine.accumulators - out.count), step = chance.below(2);
    if (out.count > 1)
      step = 1;
    if (!issueMatrix(need.chip, hemisphere, plane,
                     make(Opcode::Accumulate, {{"mode", sums ? 2 : 3}, {"sum", number}, {"step", step}}), finish))
      return false;
    int64_t type = f16 ? 2 : chance.below(2);
    auto activate = [&](Progression products) {
      Progression dispatch = products.shifted(-machine.multiply);
      auto stream = static_cast<uint8_t>(chance.below(machine.streams / 2) * 2);
      Source source{machine.outward(hemisphere) == Direction::East ? Source::East : Source::West, stream};
      return issueMatrix(need.chip, hemisphere, plane,
                         make(Opcode::Activate, {{"stream", source.byte()}, {"type", type}}), dispatch) &&
             drive({need.chip, source, f16 ? 2 : 1, machine.matrixInputCoordinate(), dispatch.shifted(machine.skew),
                    need.depth - 1});
    };
    if (!activate(finish))
      return false;
    if (sums) {
      start = finish.shifted(-(out.last() - out.first) - 1 - chance.below(5));
      if (!issueMatrix(need.chip, hemisphere, plane,
                       make(Opcode::Accumulate, {{"mode", 0}, {"sum", number}, {"step", step}}), start) ||
          !activate(start))
        return false;
    }
    int64_t firstUse = start.first - machine.multiply, lastUse = finish.last() - machine.multiply;
    int64_t rows = f16 ? machine.f16Rows : machine.rows;
    for (int64_t each = plane; each <= plane + (f16 ? 1 : 0); ++each) {
      // Both planes of a pair change at once, or the pair would not fit.
      int64_t before = firstUse - machine.install - chance.below(3);
      bool changes = lastUse > firstUse && chance.percent(40);
      if (changes) {
        int64_t at = chance.between(firstUse + 1, lastUse) - machine.install;
        before = std::min(before, at - machine.install - chance.below(3));
        if (!install(need, hemisphere, each, rows, f16, at, before))
          return false;
      }
      if (!install(need, hemisphere, each, rows, f16, before, before - 40))
        return false;
    }
    return true;
  }
  // Loaded after cycle `after`, installed in `at`.
  bool install(const Need &need, int hemisphere, int64_t plane, int64_t rows, bool f16, int64_t at, int64_t after) {
    int64_t used = chance.between(1, rows), loads = (used + machine.installRows - 1) / machine.installRows;
    int64_t type = f16 ? 2 : chance.below(2);
    if (f16) // of the same size in both planes
      used = machine.f16Rows, loads = used / machine.installRows;
    // Both planes of a pair have the same lane without knowing of each other.
    int64_t free = (machine.vectorBytes() - used) / machine.lanes, lane = f16 ? free / 2 : chance.between(0, free);
    Progression cycles{at - loads + 1 - chance.below(2), 1, loads};
    if (cycles.first <= after)
      return false;
    Source first{machine.outward(hemisphere) == Direction::East ? Source::East : Source::West,
                 static_cast<uint8_t>(machine.installFirstStream[plane])};
    return issueMatrix(need.chip, hemisphere, plane,
                       make(Opcode::InstallWeights, {{"rows", used}, {"type", type}, {"lane", lane * machine.lanes}}),
                       {at, 1, 1}) &&
           issueMatrix(need.chip, hemisphere, plane,
                       make(Opcode::LoadWeights, {{"row", 0}, {"step", machine.installRows}}), cycles) &&
           drive({need.chip, first, machine.installRows, machine.matrixInputCoordinate(), cycles.shifted(machine.skew),
                  chance.percent(20) ? 1 : 0});
  }

  bool store() {
    int64_t chip = chance.below(program.chips);
    Source stream = anyStream();
    auto hemisphere = static_cast<int>(chance.below(2));
    int64_t slice = chance.below(machine.slices), bank = chance.below(machine.banks);
    if (machine.reserved[hemisphere][slice])
      return false;
    if (chance.percent(25)) { // where a plane's sums pass
      hemisphere = static_cast<int>(chance.below(2));
      stream = {machine.inward(hemisphere) == Direction::East ? Source::East : Source::West,
                static_cast<uint8_t>(machine.resultStream(chance.below(machine.planes)) + chance.below(machine.group))};
    }
    int64_t interval = chance.percent(60) ? 1 : chance.percent(20) ? machine.linkInterval : chance.between(1, 4);
    Progression dispatch{chance.between(0, 60), interval, chance.between(1, dataRows)};
    int64_t rows = dataRows, address = reserve(chip, hemisphere, slice, bank, rows);
    if (address < 0)
      return false;
    Need need{chip,
              stream,
              1,
              machine.sliceCoordinate(hemisphere, slice, stream.direction()),
              dispatch.shifted(machine.skew),
              static_cast<int>(chance.between(1, 4))};
    auto word = [&](int64_t at) {
      return WordAddress{{static_cast<uint8_t>(hemisphere), static_cast<uint16_t>(slice)},
                         static_cast<uint8_t>(bank),
                         static_cast<uint32_t>(at)};
    };
    if (chance.percent(20)) {
      place(chip, hemisphere, slice, bank, address, static_cast<uint32_t>(chance.below(4)));
      Source map = anyStream();
      for (int64_t row = 0; row < 4; ++row)
        state.written.emplace_back(chip, word(address + row));
      return issueMemory(chip, hemisphere, slice,
                         make(Opcode::Scatter, {{"bank", bank},
                                                {"address", address},
                                                {"rows", chance.between(4, rows)},
                                                {"map", map.byte()},
                                                {"stream", stream.byte()}}),
                         dispatch) &&
             drive(need) &&
             drive({chip, map, 1, machine.sliceCoordinate(hemisphere, slice, map.direction()), need.cycles, 0, Rows});
    }
    auto [first, step] = walk(address, rows, dispatch.count);
    for (int64_t k = 0; k < dispatch.count; ++k)
      state.written.emplace_back(chip, word(first + k * step));
    return issueMemory(
               chip, hemisphere, slice,
               make(Opcode::Write, {{"bank", bank}, {"address", first}, {"step", step}, {"stream", stream.byte()}}),
               dispatch) &&
           drive(need);
  }

  // Queues with their idle times, layouts of the outputs.
  Code finish() {
    Code code;
    code.layouts = state.layouts;
    for (uint32_t input = 0; input < 4; ++input)
      if (llvm::none_of(code.layouts, [&](const Layout &layout) { return layout.variable == input; })) {
        int64_t address = reserve(0, 0, 0, 0, dataRows);
        if (address >= 0) {
          place(0, 0, 0, 0, address, input);
          code.layouts.push_back(state.layouts.back());
        }
      }
    for (uint32_t output = 8; output < 16; ++output) {
      auto [chip, word] = state.written.empty()
                              ? std::pair(int64_t(0), WordAddress{{0, 0}, 0, 0})
                              : state.written[chance.below(static_cast<int64_t>(state.written.size()))];
      place(chip, word.slice.hemisphere, word.slice.slice, word.bank, word.address, output);
      code.layouts.push_back(state.layouts.back());
    }
    bool fetches = chance.percent(10) && machine.barrier > 1;
    bool synchronised = fetches || (machine.barrier > 1 && chance.percent(50));
    int64_t first = 0;
    for (const auto &[key, items] : state.queues)
      for (const Item &item : items)
        first = std::min(first, item.cycles.first);
    int64_t origin = (fetches ? 260 : synchronised ? machine.barrier : 0) + chance.below(4) - first;
    code.entries.resize(1);
    code.entries[0].chips.resize(program.chips);
    std::vector<bool> notified(program.chips);
    for (auto &[key, items] : state.queues) {
      Queue queue;
      queue.name = key.second;
      int64_t clock = 0;
      if (synchronised) {
        if (!notified[key.first])
          queue.instructions.push_back(make(Opcode::Notify, {}));
        notified[key.first] = true;
        queue.instructions.push_back(make(Opcode::Sync, {}));
        clock = machine.barrier;
      }
      if (fetches && chance.percent(30)) {
        // Instructions that do nothing, fetched while the queue works on those that were there.
        int64_t idle = chance.between(25, 40), most = chance.between(1, 3);
        for (int64_t i = 0; i < idle; ++i) {
          bool fetch = i % 8 == 7 && i / 8 < most;
          int64_t cycles = fetch ? 1 : chance.between(1, i % 8 == 0 ? 30 : 3);
          queue.instructions.push_back(fetch ? make(Opcode::Fetch, {}) : make(Opcode::Nop, {{"cycles", cycles}}));
          clock += cycles;
        }
      }
      std::sort(items.begin(), items.end(), [](auto &a, auto &b) { return a.cycles.first < b.cycles.first; });
      std::vector<Item> single; // where bursts are interleaved, issue by issue
      for (size_t i = 0; i < items.size(); ++i) {
        bool meets = false;
        for (size_t j = 0; j < items.size(); ++j)
          meets |= i != j && items[i].cycles.meets(items[j].cycles);
        if (!meets) {
          single.push_back(items[i]);
          continue;
        }
        for (int64_t k = 0; k < items[i].cycles.count; ++k) {
          single.push_back({{items[i].cycles.at(k), 1, 1}, items[i].instruction});
          if (stepOf(items[i].instruction) != 0)
            single.back().instruction.word[0] += static_cast<int32_t>(k * items[i].instruction.word[1]);
        }
      }
      std::sort(single.begin(), single.end(), [](auto &a, auto &b) { return a.cycles.first < b.cycles.first; });
      for (const Item &item : single) {
        int64_t at = item.cycles.first + origin;
        if (at < clock)
          continue;
        int64_t period = machine.counterPeriod, aligned = (clock + period - 1) / period * period;
        if (queue.name.unit == UnitKind::Switch && aligned <= at && chance.percent(30)) {
          queue.instructions.push_back(make(Opcode::Deskew, {}));
          clock = aligned;
        }
        while (clock < at) {
          int64_t idle = std::min({at - clock, machine.nopMaximum, chance.percent(20) ? chance.between(1, 50) : at});
          queue.instructions.push_back(make(Opcode::Nop, {{"cycles", idle}}));
          clock += idle;
        }
        queue.instructions.push_back(item.instruction);
        if (item.cycles.count > 1)
          queue.instructions.push_back(
              make(Opcode::Repeat, {{"count", item.cycles.count - 1}, {"interval", item.cycles.interval}}));
        clock = item.cycles.last() + origin + 1;
      }
      code.entries[0].chips[key.first].queues.push_back(std::move(queue));
    }
    return code;
  }

  void changeField(Instruction &instruction, const QueueName &queue) {
    const auto &fields = formOf(instruction.opcode)->fields;
    if (fields.empty())
      return;
    for (int tries = 0; tries < 10; ++tries) {
      const Field &field = fields[chance.below(static_cast<int64_t>(fields.size()))];
      int64_t old = valueOf(instruction, field.member);
      int64_t low = field.lowest(machine), high = std::min<int64_t>(field.highest(machine), 300);
      int64_t value = chance.percent(50) ? old + chance.between(-2, 2) : chance.between(std::min(low, high), high);
      if (value == old || !representable(field.member, value))
        continue;
      setValue(instruction, field.member, value);
      if (operandProblem(instruction, queue, machine).empty())
        return;
      setValue(instruction, field.member, old);
    }
  }

  const program::Program &program;
  const Architecture &machine;
  Chance chance;
  State state;
};

} // namespace quadrille::tsp
