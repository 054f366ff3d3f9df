// Vectors on their way through a switch unit, and rows that are spread over slices so that it can turn them round.
#include "base/Error.h"
#include "target/tsp/CompilerState.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::tsp {

Instruction CompilerState::switchInstruction(Opcode opcode, std::initializer_list<std::pair<Member, int64_t>> values) {
  Instruction instruction;
  instruction.opcode = static_cast<uint8_t>(opcode);
  for (auto [member, value] : values)
    setValue(instruction, member, value);
  return instruction;
}

void CompilerState::addRead(Group &group, const Region &region, int64_t piece, int64_t byte, int64_t row, int64_t step,
                            Source stream, SwitchTiming at, int64_t count) const {
  int64_t place = machine.switchCoordinate(at.hemisphere, stream.direction());
  for (int64_t k = 0; k < count;) {
    int64_t first = row + k * step, together = region.together(first, step, count - k);
    read(group, region, piece, byte, {&region, k, first, step, together}, stream, place, at.cycle);
    k += together;
  }
}

void CompilerState::addWrite(Group &group, Region &region, int64_t piece, int64_t byte, int64_t row, int64_t step,
                             Source stream, SwitchTiming at, int64_t count) const {
  int64_t place = machine.switchCoordinate(at.hemisphere, stream.direction());
  for (int64_t k = 0; k < count;) {
    int64_t first = row + k * step, together = region.together(first, step, count - k);
    write(group, region, piece, byte, {&region, k, first, step, together}, stream, place, at.cycle);
    k += together;
  }
}

void CompilerState::addGather(Group &group, Region &region, int64_t piece, int64_t byte, Source numbers, Source stream,
                              SwitchTiming at, int64_t count) const {
  int64_t place = machine.switchCoordinate(at.hemisphere, stream.direction());
  int64_t cycle = at.cycle - machine.memoryGather - (place - coordinate(region, piece, byte, 0, stream.direction()));
  Step gather = access(Opcode::Gather, region, piece, byte, 0, 0, stream, cycle, count);
  setValue(gather.instruction, Member::Word1, 0);
  setValue(gather.instruction, Member::Word2, region.rows);
  setValue(gather.instruction, Member::Small2, numbers.byte());
  group.from = std::max(group.from, region.ready - cycle);
  group.touches.push_back({group.steps.size(), &region, 0, 0});
  group.steps.push_back(gather);
}

void CompilerState::addNumbers(Group &group, const Region &region, int64_t row, int64_t step, Source stream,
                               SwitchTiming at, int64_t count) const {
  // They pass the slices that gather in the cycle of the capture, whichever these are.
  addRead(group, region, 0, 0, row, step, stream, {at.hemisphere, at.cycle - machine.memoryGather}, count);
}

void CompilerState::addTurn(Group &group, const Region &zero, unsigned hemisphere, int64_t first, int64_t bytes,
                            int64_t unit, int64_t count) const {
  // A distributor that passes all its streams on; it wants a map all the same.
  Direction away = machine.outward(hemisphere), back = machine.inward(hemisphere);
  Source map = streamOf(away, first + bytes);
  addRead(group, zero, 0, 0, 0, 0, map, {hemisphere, 0}, count);
  group.steps.push_back({switchQueue(hemisphere, SwitchPart::Distributor, unit),
                         switchInstruction(Opcode::Distribute, {{Member::Small0, unit},
                                                                {Member::Small1, streamOf(away, first).byte()},
                                                                {Member::Byte0, map.byte()},
                                                                {Member::Byte1, bytes},
                                                                {Member::Byte2, (1 << bytes) - 1},
                                                                {Member::Small2, streamOf(back, first).byte()}}),
                         0, count});
}

void CompilerState::placeFirst(llvm::ArrayRef<Group> variants) {
  const Group *best = nullptr;
  int64_t start = std::numeric_limits<int64_t>::max();
  for (const Group &variant : variants)
    if (int64_t at = timetable.earliest(variant.steps, variant.from); at < start) {
      start = at;
      best = &variant;
    }
  place(*best, start);
}

void CompilerState::placeInParts(int64_t count, int64_t most,
                                 llvm::function_ref<Group(int64_t variant, int64_t first, int64_t count)> make,
                                 int64_t variants) {
  // Two steps of one slice that would run at the same time: fewer at once.
  auto conflicts = [](const Group &group) {
    for (auto [i, a] : llvm::enumerate(group.steps))
      for (const Step &b : llvm::ArrayRef(group.steps).drop_front(i + 1))
        if (a.queue == b.queue && a.cycle < b.cycle + b.count + 1 && b.cycle < a.cycle + a.count + 1)
          return true;
    return false;
  };
  for (int64_t first = 0; first < count;) {
    int64_t each = std::min({count - first, most, machine.repeatMaximum + 1});
    std::vector<Group> made;
    for (int64_t variant = 0; variant < variants; ++variant) {
      Group group = make(variant, first, each);
      while (each > 1 && conflicts(group)) {
        each = (each + 1) / 2;
        made.clear();
        variant = 0;
        group = make(variant, first, each);
      }
      made.push_back(std::move(group));
    }
    placeFirst(made);
    first += each;
  }
}

QueueName CompilerState::switchQueue(unsigned hemisphere, SwitchPart part, int64_t number) const {
  // A queue for each part, so that no part is given two instructions in a cycle.
  int64_t before = 0;
  if (part != SwitchPart::Transposer)
    before += machine.transposers;
  if (part == SwitchPart::Permuter || part == SwitchPart::Shifter)
    before += machine.distributors;
  if (part == SwitchPart::Shifter)
    before += machine.permuters;
  return {UnitKind::Switch, static_cast<uint8_t>(hemisphere),
          static_cast<uint16_t>((before + number) % machine.switchQueues), 0};
}

std::pair<unsigned, int64_t> SpreadRows::slice(int64_t row, int64_t byte, const Architecture &machine) const {
  auto count = static_cast<int64_t>(halves.size());
  int64_t each = machine.lanes / count, in = row % machine.lanes;
  int64_t apart = std::max<int64_t>(each / machine.group, 1);
  return {static_cast<unsigned>(in % count), (in / count + byte * apart) % each};
}

llvm::Expected<SpreadRows> CompilerState::allocateSpread(ElementType type, int64_t rows,
                                                         llvm::ArrayRef<const Region *> avoid,
                                                         llvm::ArrayRef<const Region *> avoidIfPossible) {
  SpreadRows result;
  result.type = type;
  result.rows = rows;
  Region shape;
  shape.type = ElementType::u8;
  shape.pieces = machine.lanes / machine.hemispheres;
  shape.width = machine.vectorBytes();
  shape.columns = shape.pieces * shape.width;
  shape.rows = (rows + machine.lanes - 1) / machine.lanes * static_cast<int64_t>(byteWidth(type));
  shape.spread = true;
  std::vector<const Region *> all(avoid.begin(), avoid.end());
  all.insert(all.end(), avoidIfPossible.begin(), avoidIfPossible.end());
  for (unsigned hemisphere = 0; hemisphere < machine.hemispheres; ++hemisphere) {
    RegionPointer half = placement.allocate(shape, all, hemisphere);
    if (!half) {
      auto shared = allocate(shape, avoid, hemisphere);
      if (!shared)
        return shared.takeError();
      half = *shared;
    }
    result.halves.push_back(std::move(half));
  }
  return result;
}

llvm::Expected<SpreadRows> CompilerState::spreadRows(const RegionPointer &from, int64_t piece, int64_t firstRow,
                                                     int64_t rowStep, int64_t rows, SpreadRows to) {
  auto zero =
      splatRegion(ElementType::u8, 0, {from.get()}, std::nullopt); // the map of a distributor that passes all on
  if (!zero)
    return zero.takeError();
  if (to.halves.empty()) {
    auto made = allocateSpread(from->type, rows, {}, {from.get(), zero->get()});
    if (!made)
      return made.takeError();
    to = std::move(*made);
  }
  int64_t bytes = from->bytes(), lanes = machine.lanes, groups = (rows + lanes - 1) / lanes;
  constexpr int64_t runs = 4;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    int64_t real = (rows - lane + lanes - 1) / lanes; // groups that have this row
    real = std::max<int64_t>(real, 0);
    auto make = [&](int64_t variant, int64_t square, int64_t count, int64_t row) {
      auto hemisphere = static_cast<unsigned>(variant % machine.hemispheres);
      SwitchTiming in{hemisphere, 0}, out{hemisphere, machine.switchDistribute};
      int64_t base = variant / machine.hemispheres * machine.streams / runs;
      Direction away = machine.outward(hemisphere), back = machine.inward(hemisphere);
      Group group;
      for (int64_t byte = 0; byte < bytes; ++byte)
        addRead(group, *from, piece, byte, firstRow + row * rowStep, lanes * rowStep, streamOf(away, base + byte), in,
                count);
      addTurn(group, **zero, hemisphere, base, bytes, variant % machine.distributors, count);
      for (int64_t byte = 0; byte < bytes; ++byte) {
        auto [half, slice] = to.slice(lane, byte, machine);
        addWrite(group, *to.halves[half], slice, 0, byte * groups + square, 1, streamOf(back, base + byte), out, count);
      }
      return group;
    };
    placeInParts(
        real, groups,
        [&](int64_t variant, int64_t first, int64_t count) {
          return make(variant, first, count, first * lanes + lane);
        },
        machine.hemispheres * runs);
    // A word for every row of the last group: no word is read that was never written.
    placeInParts(
        groups - real, 1,
        [&](int64_t variant, int64_t first, int64_t count) { return make(variant, real + first, count, rows - 1); },
        machine.hemispheres * runs);
  }
  return to;
}

llvm::Expected<SpreadRows> CompilerState::transposeLanes(const SpreadRows &from, llvm::ArrayRef<const Region *> avoid) {
  std::vector<const Region *> sources;
  for (const RegionPointer &half : from.halves)
    sources.push_back(half.get());
  int64_t bytes = static_cast<int64_t>(byteWidth(from.type)), lanes = machine.lanes;
  int64_t groups = (from.rows + lanes - 1) / lanes;
  auto to = allocateSpread(from.type, groups * lanes, avoid, sources);
  if (!to)
    return to.takeError();
  int64_t runs = machine.streams / lanes;
  for (int64_t byte = 0; byte < bytes; ++byte)
    placeInParts(
        groups, groups,
        [&](int64_t variant, int64_t first, int64_t count) {
          auto hemisphere = static_cast<unsigned>(variant % machine.hemispheres);
          int64_t number = variant / machine.hemispheres, unit = number % machine.transposers, base = number * lanes;
          Direction away = machine.outward(hemisphere), back = machine.inward(hemisphere);
          SwitchTiming in{hemisphere, 0}, out{hemisphere, machine.switchTranspose};
          Group group;
          for (int64_t lane = 0; lane < lanes; ++lane) {
            auto [half, slice] = from.slice(lane, byte, machine);
            addRead(group, *from.halves[half], slice, 0, byte * groups + first, 1, streamOf(away, base + lane), in,
                    count);
          }
          group.steps.push_back({switchQueue(hemisphere, SwitchPart::Transposer, unit),
                                 switchInstruction(Opcode::Transpose, {{Member::Small0, unit},
                                                                       {Member::Small1, streamOf(away, base).byte()},
                                                                       {Member::Small2, streamOf(back, base).byte()}}),
                                 0, count});
          for (int64_t lane = 0; lane < lanes; ++lane) {
            auto [half, slice] = to->slice(lane, byte, machine);
            addWrite(group, *to->halves[half], slice, 0, byte * groups + first, 1, streamOf(back, base + lane), out,
                     count);
          }
          return group;
        },
        machine.hemispheres * runs);
  return to;
}

} // namespace quadrille::tsp
