// Reductions over lanes, and the forms of their results.
//
// The rows of a matrix are spread over the slices of both hemispheres, so that as many as a superlane has lanes stand
// on streams in the same cycle; the switch unit turns each such square round, in all superlanes at once. What lay in
// the lanes of a superlane then lies in different vectors, which the vector unit combines; then superlanes are rotated
// against each other until every superlane has the result of all. So `lanes` rows of the matrix become one row that has
// a result in each lane: the packed form.
#include "base/Error.h"
#include "graph/CombineOf.h"
#include "graph/KernelQueries.h"
#include "target/tsp/CompilerState.h"

#include "llvm/ADT/STLExtras.h"

#include <cstring>

namespace quadrille::tsp {

using graph::Kernel;

namespace {

Instruction instructionWith(Opcode opcode, std::initializer_list<std::pair<Member, int64_t>> values) {
  Instruction instruction;
  instruction.opcode = static_cast<uint8_t>(opcode);
  for (auto [member, value] : values)
    setValue(instruction, member, value);
  return instruction;
}

std::vector<int64_t> numbersTo(int64_t count) {
  std::vector<int64_t> numbers(count);
  for (auto [i, number] : llvm::enumerate(numbers))
    number = static_cast<int64_t>(i);
  return numbers;
}

// Inputs combined in pairs, and pairs of pairs.
BlockExpression treeOf(BlockOpcode operation, ElementType type, size_t count) {
  BlockExpression body;
  std::vector<Register> level;
  for (size_t i = 0; i < count; ++i) {
    body.inputs.push_back(type);
    level.push_back(body.append(BlockOpcode::Input, type, {}, i));
  }
  while (level.size() > 1) {
    std::vector<Register> next;
    for (size_t i = 0; i + 1 < level.size(); i += 2)
      next.push_back(body.append(operation, type, {level[i], level[i + 1]}));
    if (level.size() % 2 != 0)
      next.push_back(level.back());
    level = std::move(next);
  }
  body.results = level;
  return body;
}

} // namespace

// --- Movements ---

void CompilerState::addRead(Movement &movement, Region &region, int64_t piece, int64_t byte, int64_t row, int64_t step,
                            Source stream, SwitchTiming at, int64_t count) const {
  int64_t place = machine.switchCoordinate(at.hemisphere, stream.direction());
  for (int64_t k = 0; k < count;) {
    int64_t first = row + k * step, together = region.together(first, step, count - k);
    int64_t cycle =
        at.cycle + k - machine.memoryRead - (place - coordinate(region, piece, byte, first, stream.direction()));
    movement.steps.push_back(access(Opcode::Read, region, piece, byte, first, step, stream, cycle, together));
    movement.regions.push_back(&region);
    k += together;
  }
}

void CompilerState::addWrite(Movement &movement, Region &region, int64_t piece, int64_t byte, int64_t row, int64_t step,
                             Source stream, SwitchTiming at, int64_t count) const {
  int64_t place = machine.switchCoordinate(at.hemisphere, stream.direction());
  for (int64_t k = 0; k < count;) {
    int64_t first = row + k * step, together = region.together(first, step, count - k);
    int64_t cycle = at.cycle + k + coordinate(region, piece, byte, first, stream.direction()) - place;
    movement.steps.push_back(access(Opcode::Write, region, piece, byte, first, step, stream, cycle, together));
    movement.regions.push_back(&region);
    k += together;
  }
}

void CompilerState::addUnit(Movement &movement, Step step) const {
  movement.steps.push_back(std::move(step));
  movement.regions.push_back(nullptr);
}

void CompilerState::placeMovement(llvm::ArrayRef<Movement> variants) {
  const Movement *best = nullptr;
  int64_t start = std::numeric_limits<int64_t>::max();
  for (const Movement &variant : variants) {
    int64_t from = 0;
    for (auto [step, region] : llvm::zip(variant.steps, variant.regions))
      if (region)
        from = std::max(from, (step.instruction.op() == Opcode::Write ? region->writable : region->ready) - step.cycle);
    int64_t at = timetable.earliest(variant.steps, from);
    if (at < start) {
      start = at;
      best = &variant;
    }
  }
  timetable.place(best->steps, start, node);
  for (auto [step, region] : llvm::zip(best->steps, best->regions)) {
    if (!region)
      continue;
    int64_t last = start + step.cycle + step.count - 1;
    if (step.instruction.op() == Opcode::Write) {
      region->ready = std::max(region->ready, last + machine.memoryWrite);
      region->rowReady.clear();
    } else {
      region->lastRead = std::max(region->lastRead, last);
    }
  }
}

void CompilerState::placeInParts(int64_t count, int64_t most,
                                 llvm::function_ref<Movement(int64_t variant, int64_t first, int64_t count)> make,
                                 int64_t variants) {
  // Two steps of one slice that would run at the same time: fewer at once.
  auto conflicts = [](const Movement &movement) {
    for (auto [i, a] : llvm::enumerate(movement.steps))
      for (const Step &b : llvm::ArrayRef(movement.steps).drop_front(i + 1))
        if (a.queue == b.queue && a.cycle < b.cycle + b.count + 1 && b.cycle < a.cycle + a.count + 1)
          return true;
    return false;
  };
  for (int64_t first = 0; first < count;) {
    int64_t each = std::min({count - first, most, machine.repeatMaximum + 1});
    std::vector<Movement> made;
    for (int64_t variant = 0; variant < variants; ++variant) {
      Movement movement = make(variant, first, each);
      while (each > 1 && conflicts(movement)) {
        each = (each + 1) / 2;
        made.clear();
        variant = 0;
        movement = make(variant, first, each);
      }
      made.push_back(std::move(movement));
    }
    placeMovement(made);
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

// --- Rows spread over slices ---

std::pair<unsigned, int64_t> SpreadRows::slice(int64_t row, int64_t byte, const Architecture &machine) const {
  int64_t each = machine.lanes / machine.hemispheres, in = row % machine.lanes;
  int64_t apart = std::max<int64_t>(each / machine.group, 1);
  return {static_cast<unsigned>(in % machine.hemispheres), (in / machine.hemispheres + byte * apart) % each};
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

llvm::Expected<SpreadRows> CompilerState::spreadRows(const RegionPointer &from, int64_t piece) {
  auto zero =
      splatRegion(ElementType::u8, 0, {from.get()}, std::nullopt); // the map of a distributor that passes all on
  if (!zero)
    return zero.takeError();
  auto to = allocateSpread(from->type, from->rows, {from.get(), zero->get()}, {});
  if (!to)
    return to.takeError();
  int64_t bytes = from->bytes(), lanes = machine.lanes, groups = (from->rows + lanes - 1) / lanes;
  constexpr int64_t runs = 4;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    int64_t real = (from->rows - lane + lanes - 1) / lanes; // groups that have this row
    real = std::max<int64_t>(real, 0);
    auto make = [&](int64_t variant, int64_t group, int64_t count, int64_t row) {
      auto hemisphere = static_cast<unsigned>(variant % machine.hemispheres);
      SwitchTiming in{hemisphere, 0}, out{hemisphere, machine.switchDistribute};
      int64_t base = variant / machine.hemispheres * machine.streams / runs;
      Direction away = machine.outward(hemisphere), back = machine.inward(hemisphere);
      Movement movement;
      for (int64_t byte = 0; byte < bytes; ++byte)
        addRead(movement, *from, piece, byte, row, lanes, streamOf(away, base + byte), in, count);
      addRead(movement, **zero, 0, 0, 0, 0, streamOf(away, base + bytes), in, count);
      int64_t unit = variant % machine.distributors;
      addUnit(movement, {switchQueue(hemisphere, SwitchPart::Distributor, unit),
                         instructionWith(Opcode::Distribute, {{Member::Small0, unit},
                                                              {Member::Small1, streamOf(away, base).byte()},
                                                              {Member::Byte0, streamOf(away, base + bytes).byte()},
                                                              {Member::Byte1, bytes},
                                                              {Member::Byte2, (1 << bytes) - 1},
                                                              {Member::Small2, streamOf(back, base).byte()}}),
                         0, count});
      for (int64_t byte = 0; byte < bytes; ++byte) {
        auto [half, slice] = to->slice(lane, byte, machine);
        addWrite(movement, *to->halves[half], slice, 0, group * bytes + byte, bytes, streamOf(back, base + byte), out,
                 count);
      }
      return movement;
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
        [&](int64_t variant, int64_t first, int64_t count) {
          return make(variant, real + first, count, from->rows - 1);
        },
        machine.hemispheres * runs);
  }
  return to;
}

llvm::Expected<SpreadRows> CompilerState::transposeLanes(const SpreadRows &from) {
  std::vector<const Region *> sources;
  for (const RegionPointer &half : from.halves)
    sources.push_back(half.get());
  int64_t bytes = static_cast<int64_t>(byteWidth(from.type)), lanes = machine.lanes;
  int64_t groups = (from.rows + lanes - 1) / lanes;
  auto to = allocateSpread(from.type, groups * lanes, {}, sources);
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
          Movement movement;
          for (int64_t lane = 0; lane < lanes; ++lane) {
            auto [half, slice] = from.slice(lane, byte, machine);
            addRead(movement, *from.halves[half], slice, 0, first * bytes + byte, bytes, streamOf(away, base + lane),
                    in, count);
          }
          addUnit(movement, {switchQueue(hemisphere, SwitchPart::Transposer, unit),
                             instructionWith(Opcode::Transpose, {{Member::Small0, unit},
                                                                 {Member::Small1, streamOf(away, base).byte()},
                                                                 {Member::Small2, streamOf(back, base).byte()}}),
                             0, count});
          for (int64_t lane = 0; lane < lanes; ++lane) {
            auto [half, slice] = to->slice(lane, byte, machine);
            addWrite(movement, *to->halves[half], slice, 0, first * bytes + byte, bytes, streamOf(back, base + lane),
                     out, count);
          }
          return movement;
        },
        machine.hemispheres * runs);
  return to;
}

llvm::Expected<std::vector<RegionPointer>> CompilerState::combineLanes(const SpreadRows &from, BlockOpcode operation) {
  int64_t bytes = static_cast<int64_t>(byteWidth(from.type)), lanes = machine.lanes;
  int64_t groups = from.rows / lanes, together = lanes / machine.group;
  BlockExpression body = treeOf(operation, from.type, together);
  std::vector<Direction> directions;
  for (int64_t row = 0; row < together; ++row)
    directions.push_back(machine.inward(from.slice(row, 0, machine).first));
  std::vector<RegionPointer> results;
  std::vector<const Region *> made, sources;
  for (const RegionPointer &half : from.halves)
    sources.push_back(half.get());
  for (int64_t quarter = 0; quarter < machine.group; ++quarter) {
    Region shape = Region::of(from.type, groups, machine.vectorBytes(), machine.vectorBytes());
    std::vector<const Region *> clear = made;
    clear.insert(clear.end(), sources.begin(), sources.end());
    RegionPointer to = placement.allocate(shape, clear);
    if (!to) {
      auto shared = allocate(shape, made);
      if (!shared)
        return shared.takeError();
      to = *shared;
    }
    std::vector<Chain> chains;
    std::string reason;
    constexpr unsigned mostVariants = 4;
    for (unsigned first = 0; first < mostVariants; ++first)
      if (auto chain = makeChain(body, directions, Direction::East, outwardOf(*to), first, machine, reason))
        chains.push_back(std::move(*chain));
    if (chains.empty())
      return internalError("no chain combines rows of both hemispheres: " + reason);
    placeInParts(
        groups, groups,
        [&](int64_t variant, int64_t first, int64_t count) {
          const Chain &chain = chains[variant];
          Movement movement;
          for (const Chain::Input &input : chain.inputs)
            for (int64_t byte = 0; byte < bytes; ++byte) {
              auto [half, slice] = from.slice(quarter * together + *input.read, byte, machine);
              Source stream = streamOf(input.stream.direction(), input.stream.index + byte);
              int64_t cycle = input.cycle - machine.memoryRead +
                              coordinate(*from.halves[half], slice, 0, first, stream.direction());
              movement.steps.push_back(access(Opcode::Read, *from.halves[half], slice, 0, first * bytes + byte, bytes,
                                              stream, cycle, count));
              movement.regions.push_back(from.halves[half].get());
            }
          addChain(movement, chain, {to}, first, count);
          return movement;
        },
        static_cast<int64_t>(chains.size()));
    made.push_back(to.get());
    results.push_back(std::move(to));
  }
  return results;
}

void CompilerState::addChain(Movement &movement, const Chain &chain, llvm::ArrayRef<RegionPointer> results, int64_t row,
                             int64_t count) const {
  for (const Chain::Operation &operation : chain.operations)
    addUnit(movement, {{UnitKind::Vector, 0, static_cast<uint16_t>(operation.alu), 0},
                       operation.instruction,
                       operation.cycle,
                       count});
  for (auto [output, region] : llvm::zip(chain.outputs, results)) {
    const Chain::Operation &last = chain.operations[output.operation];
    Effects effects =
        effectsOf(0, {UnitKind::Vector, 0, static_cast<uint16_t>(last.alu), 0}, last.instruction, machine);
    int64_t driven = last.cycle + effects.drives.front().delay; // at the vector unit
    for (int64_t byte = 0; byte < region->bytes(); ++byte) {
      Source stream = streamOf(output.stream.direction(), output.stream.index + byte);
      int64_t cycle = driven + coordinate(*region, 0, byte, row, stream.direction()) - machine.skew;
      movement.steps.push_back(access(Opcode::Write, *region, 0, byte, row, 1, stream, cycle, count));
      movement.regions.push_back(region.get());
    }
  }
}

llvm::Expected<RegionPointer> CompilerState::laneOrder(const std::vector<int64_t> &from) {
  RegionPointer &known = laneOrders[from];
  if (!known) {
    Tensor map = Tensor::uninitialized(ElementType::u16, {1, machine.vectorBytes()});
    for (auto [lane, source] : llvm::enumerate(from))
      map.mutableData<uint16_t>()[lane] = static_cast<uint16_t>(source);
    auto made = constantRegion("lane order", ElementType::u16, 1, machine.vectorBytes(), std::move(map), {});
    if (!made)
      return made.takeError();
    known = *made;
  }
  return known;
}

llvm::Expected<RegionPointer> CompilerState::rotateSuperlanes(const RegionPointer &from, int64_t superlanes,
                                                              llvm::ArrayRef<const Region *> avoid) {
  std::vector<int64_t> sources;
  for (int64_t lane = 0; lane < machine.vectorBytes(); ++lane)
    sources.push_back((lane + superlanes * machine.lanes) % machine.vectorBytes());
  auto order = laneOrder(sources);
  if (!order)
    return order.takeError();
  std::vector<const Region *> clear(avoid.begin(), avoid.end());
  clear.push_back(from.get());
  clear.push_back(order->get());
  auto to = allocate(Region::of(from->type, from->rows, machine.vectorBytes(), machine.vectorBytes()), clear);
  if (!to)
    return to.takeError();
  RegionPointer source = from;
  if (source->sharesSlices(**order)) {
    auto copy = copyOf(source, clear, std::nullopt);
    if (!copy)
      return copy.takeError();
    source = *copy;
  }
  constexpr int64_t runs = 4;
  for (int64_t byte = 0; byte < from->bytes(); ++byte)
    placeInParts(
        from->rows, from->rows,
        [&](int64_t variant, int64_t first, int64_t count) {
          auto hemisphere = static_cast<unsigned>(variant % machine.hemispheres);
          int64_t base = variant / machine.hemispheres * machine.streams / runs, unit = 0;
          Direction away = machine.outward(hemisphere), back = machine.inward(hemisphere);
          SwitchTiming in{hemisphere, 0}, out{hemisphere, machine.switchShiftAcross};
          Movement movement;
          addRead(movement, *source, 0, byte, first, 1, streamOf(away, base + 2), in, count);
          for (int64_t half = 0; half < 2; ++half)
            addRead(movement, **order, 0, half, 0, 0, streamOf(away, base + half), in, count);
          addUnit(movement, {switchQueue(hemisphere, SwitchPart::Permuter, unit),
                             instructionWith(Opcode::Permute, {{Member::Small0, unit},
                                                               {Member::Small1, streamOf(away, base + 2).byte()},
                                                               {Member::Byte0, streamOf(away, base).byte()},
                                                               {Member::Small2, streamOf(back, base).byte()}}),
                             0, count});
          addWrite(movement, **to, 0, byte, first, 1, streamOf(back, base), out, count);
          return movement;
        },
        machine.hemispheres * runs);
  return *to;
}

llvm::Expected<RegionPointer> CompilerState::combineSuperlanes(RegionPointer from, BlockOpcode operation) {
  // Rotations by multiples of `apart`, `radix` of them: then every superlane has what lies in each `apart`-th. The
  // superlanes are taken apart into factors, small ones together.
  constexpr int64_t largestRadix = 5;
  std::vector<int64_t> factors;
  for (int64_t left = machine.superlanes, prime = 2; left > 1;)
    if (left % prime == 0) {
      left /= prime;
      if (!factors.empty() && factors.back() * prime <= largestRadix)
        factors.back() *= prime;
      else
        factors.push_back(prime);
    } else {
      ++prime;
    }
  int64_t apart = machine.superlanes;
  for (int64_t radix : factors) {
    apart /= radix;
    std::vector<Operand> operands = {{from, numbersTo(from->rows)}};
    std::vector<const Region *> clear = {from.get()};
    for (int64_t turn = 1; turn < radix; ++turn) {
      auto turned = rotateSuperlanes(from, turn * apart, clear);
      if (!turned)
        return turned.takeError();
      clear.push_back(turned->get());
      operands.push_back({*turned, numbersTo(from->rows)});
    }
    auto combined = stream(treeOf(operation, from->type, operands.size()), operands, from->rows, from->columns);
    if (!combined)
      return combined.takeError();
    from = combined->front();
  }
  return from;
}

llvm::Expected<RegionPointer> CompilerState::reduceLanes(const RegionPointer &terms, BlockOpcode operation) {
  std::vector<Operand> parts;
  for (int64_t piece = 0; piece < terms->pieces; ++piece) {
    auto spread = spreadRows(terms, piece);
    if (!spread)
      return spread.takeError();
    auto turned = transposeLanes(*spread);
    if (!turned)
      return turned.takeError();
    auto combined = combineLanes(*turned, operation);
    if (!combined)
      return combined.takeError();
    std::vector<Operand> operands;
    for (const RegionPointer &quarter : *combined)
      operands.push_back({quarter, numbersTo(quarter->rows)});
    int64_t rows = combined->front()->rows;
    auto joined = stream(treeOf(operation, terms->type, operands.size()), operands, rows, machine.vectorBytes());
    if (!joined)
      return joined.takeError();
    parts.push_back({joined->front(), numbersTo(rows)});
    if (parts.size() == 1)
      continue;
    auto both = stream(treeOf(operation, terms->type, parts.size()), parts, rows, machine.vectorBytes());
    if (!both)
      return both.takeError();
    parts = {{both->front(), numbersTo(rows)}};
  }
  return combineSuperlanes(parts[0].region, operation);
}

// --- Forms of values ---

llvm::Expected<RegionPointer> CompilerState::unpackRows(const RegionPointer &packed, int64_t rows) {
  int64_t lanes = machine.lanes, bytes = packed->bytes();
  if (!laneChoices) {
    Tensor choices = Tensor::uninitialized(ElementType::u8, {lanes, machine.vectorBytes()});
    for (int64_t row = 0; row < lanes; ++row)
      std::memset(choices.mutableBytes() + row * machine.vectorBytes(), static_cast<int>(row), machine.vectorBytes());
    auto made = constantRegion("lane choice", ElementType::u8, lanes, machine.vectorBytes(), std::move(choices), {});
    if (!made)
      return made.takeError();
    laneChoices = *made;
  }
  RegionPointer source = packed;
  if (source->sharesSlices(*laneChoices)) {
    auto copy = copyOf(source, {laneChoices.get()}, std::nullopt);
    if (!copy)
      return copy.takeError();
    source = *copy;
  }
  Region shape = Region::of(packed->type, rows, 1, machine.vectorBytes());
  shape.uniform = true;
  auto to = allocate(shape, {source.get(), laneChoices.get()});
  if (!to)
    return to.takeError();
  constexpr int64_t runs = 4;
  for (int64_t lane = 0; lane < std::min(lanes, rows); ++lane)
    placeInParts(
        (rows - lane + lanes - 1) / lanes, rows,
        [&](int64_t variant, int64_t first, int64_t count) {
          auto hemisphere = static_cast<unsigned>(variant % machine.hemispheres);
          int64_t base = variant / machine.hemispheres * machine.streams / runs, unit = variant % machine.distributors;
          Direction away = machine.outward(hemisphere), back = machine.inward(hemisphere);
          SwitchTiming in{hemisphere, 0}, out{hemisphere, machine.switchDistribute};
          Movement movement;
          for (int64_t byte = 0; byte < bytes; ++byte)
            addRead(movement, *source, 0, byte, first, 1, streamOf(away, base + byte), in, count);
          addRead(movement, *laneChoices, 0, 0, lane, 0, streamOf(away, base + bytes), in, count);
          addUnit(movement, {switchQueue(hemisphere, SwitchPart::Distributor, unit),
                             instructionWith(Opcode::Distribute, {{Member::Small0, unit},
                                                                  {Member::Small1, streamOf(away, base).byte()},
                                                                  {Member::Byte0, streamOf(away, base + bytes).byte()},
                                                                  {Member::Byte1, bytes},
                                                                  {Member::Small2, streamOf(back, base).byte()}}),
                             0, count});
          for (int64_t byte = 0; byte < bytes; ++byte)
            addWrite(movement, **to, 0, byte, first * lanes + lane, lanes, streamOf(back, base + byte), out, count);
          return movement;
        },
        machine.hemispheres * runs);
  return *to;
}

bool CompilerState::hasRowwise(graph::ValueId id, int64_t columns) const {
  const graph::Value &value = graph.values[id];
  if (forms[id].packed || forms[id].rowwise || (regions[id] && regions[id]->uniform))
    return true;
  return columnsOf(value.shape) == 1 && columns > 1;
}

llvm::Expected<RegionPointer> CompilerState::rowwiseOf(graph::ValueId id) {
  LaneForms &known = forms[id];
  const graph::Value &value = graph.values[id];
  int64_t rows = elementCount(value.shape);
  if (known.rowwise)
    return known.rowwise;
  if (regions[id] && regions[id]->uniform)
    return known.rowwise = regions[id];
  if (known.packed) {
    auto unpacked = unpackRows(known.packed, rows);
    if (unpacked)
      known.rowwise = *unpacked;
    return unpacked;
  }
  int64_t vector = machine.vectorBytes();
  if (value.role == graph::ValueRole::Constant) {
    Tensor data;
    if (value.data.valid()) {
      data = Tensor::uninitialized(value.type, {rows, vector});
      size_t width = byteWidth(value.type);
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t lane = 0; lane < vector; ++lane)
          std::memcpy(data.mutableBytes() + (row * vector + lane) * width, value.data.bytes().data() + row * width,
                      width);
    }
    auto made = constantRegion(value.name, value.type, rows, vector, std::move(data), {});
    if (made)
      known.rowwise = *made;
    return made;
  }
  auto matrix = regionOf(id);
  if (!matrix)
    return matrix.takeError();
  constexpr int64_t fewColumns = 4; // of which each has a tile of its own
  auto made = (*matrix)->pieces == 1 && (*matrix)->columns > fewColumns
                  ? spreadElements(*matrix)
                  : route({*matrix}, Region::of(value.type, rows, vector, vector), 0,
                          [&](int64_t element) -> ElementOrigin { return {0, element / vector}; });
  if (!made)
    return made.takeError();
  return known.rowwise = *made;
}

llvm::Expected<RegionPointer> CompilerState::matrixOfForms(graph::ValueId id) {
  const graph::Value &value = graph.values[id];
  if (columnsOf(value.shape) == 1)
    return rowwiseOf(id);
  int64_t rows = rowsOf(value.shape), columns = columnsOf(value.shape), lanes = machine.lanes;
  Region shape = Region::of(value.type, rows, columns, machine.vectorBytes());
  const RegionPointer &packed = forms[id].packed;
  if (!packed || (rows > 1 && columns % lanes != 0)) {
    auto rowwise = rowwiseOf(id);
    if (!rowwise)
      return rowwise.takeError();
    return route({*rowwise}, shape, 0, [](int64_t element) -> ElementOrigin { return {0, element}; });
  }
  // Each superlane has its own row of the packed form: a memory slice gathers them.
  Tensor map = Tensor::zeros(ElementType::u8, {rows * shape.pieces, machine.vectorBytes()});
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t piece = 0; piece < shape.pieces; ++piece)
      for (int64_t superlane = 0; superlane < machine.superlanes; ++superlane) {
        int64_t column = piece * shape.width + superlane * lanes;
        int64_t from = column < columns ? (row * columns + column) / lanes : 0;
        std::byte *to = map.mutableBytes() + (piece * rows + row) * machine.vectorBytes() + superlane * lanes;
        for (int64_t byte = 0; byte < machine.gatherAddressBytes; ++byte)
          to[byte] = static_cast<std::byte>(from >> 8 * byte & 0xff);
      }
  auto numbers = constantRegion("packed rows", ElementType::u8, rows * shape.pieces, machine.vectorBytes(),
                                std::move(map), {packed.get()}, packed->hemisphere == west ? east : west);
  if (!numbers)
    return numbers.takeError();
  auto to = allocate(shape, {packed.get(), numbers->get()});
  if (!to)
    return to.takeError();
  auto zero = splatRegion(ElementType::u8, 0, {packed.get(), numbers->get(), to->get()}, std::nullopt);
  if (!zero)
    return zero.takeError();
  gatherRows(*packed, 0, **numbers, **zero, **to, 0, (*to)->rows * (*to)->pieces);
  return *to;
}

void CompilerState::gatherRows(Region &from, int64_t fromPiece, Region &numbers, Region &zero, Region &to,
                               int64_t toPiece, int64_t vectors) {
  // The numbers come from the other hemisphere; what they gather goes on outward and is turned round by the switch
  // unit.
  unsigned hemisphere = from.hemisphere;
  Direction away = machine.outward(hemisphere), back = machine.inward(hemisphere);
  SwitchTiming in{hemisphere, 0}, out{hemisphere, machine.switchDistribute};
  int64_t bytes = from.bytes(), place = machine.switchCoordinate(hemisphere, away);
  constexpr int64_t runs = 4;
  placeInParts(
      vectors, vectors,
      [&](int64_t variant, int64_t first, int64_t count) {
        int64_t base = variant * machine.streams / runs, unit = variant % machine.distributors;
        Source map = streamOf(away, base + bytes);
        Movement movement;
        addRead(movement, zero, 0, 0, 0, 0, streamOf(away, base + bytes + 1), in, count);
        for (int64_t byte = 0; byte < bytes; ++byte) {
          // Captured where the numbers pass, and at the switch unit in its cycle.
          int64_t cycle = -machine.memoryGather - (place - coordinate(from, fromPiece, byte, 0, away));
          Step gather = access(Opcode::Gather, from, fromPiece, byte, 0, 0, streamOf(away, base + byte), cycle, count);
          setValue(gather.instruction, Member::Word2, from.rows);
          setValue(gather.instruction, Member::Small2, map.byte());
          movement.steps.push_back(std::move(gather));
          movement.regions.push_back(&from);
        }
        int64_t seen = -machine.memoryGather - place; // of the numbers, at the vector unit
        movement.steps.push_back(access(Opcode::Read, numbers, 0, 0, first, 1, map,
                                        seen - machine.memoryRead + coordinate(numbers, 0, 0, first, away), count));
        movement.regions.push_back(&numbers);
        addUnit(movement,
                {switchQueue(hemisphere, SwitchPart::Distributor, unit),
                 instructionWith(Opcode::Distribute, {{Member::Small0, unit},
                                                      {Member::Small1, streamOf(away, base).byte()},
                                                      {Member::Byte0, streamOf(away, base + bytes + 1).byte()},
                                                      {Member::Byte1, bytes},
                                                      {Member::Byte2, (1 << bytes) - 1},
                                                      {Member::Small2, streamOf(back, base).byte()}}),
                 0, count});
        for (int64_t byte = 0; byte < bytes; ++byte)
          addWrite(movement, to, toPiece, byte, first, 1, streamOf(back, base + byte), out, count);
        return movement;
      },
      runs);
}

// The reduction loop that runs over the lanes of what is read, if reducing it among lanes is cheaper than one element
// after the other.
std::optional<unsigned> CompilerState::laneLoopOf(const Kernel &kernel) const {
  constexpr int64_t mostByElement = 4;
  for (const graph::Read &read : kernel.reads) {
    const Shape &shape = graph.values[read.value].shape;
    if (shape.empty() || shape.back() <= mostByElement || read.map.back().offset != 0 ||
        read.map.back().terms.size() != 1)
      continue;
    auto [loop, coefficient] = read.map.back().terms[0];
    if (kernel.loops[loop].reduction && coefficient == 1 && kernel.loops[loop].extent == shape.back())
      return loop;
  }
  return std::nullopt;
}

llvm::Expected<std::vector<RegionPointer>> CompilerState::reduceLastLanes(const Kernel &kernel, unsigned loop) {
  // The reduced loop as a further dimension of the result.
  Kernel open = kernel;
  open.loops[loop].reduction = false;
  for (graph::Write &write : open.writes) {
    write.map.push_back({0, {{loop, 1}}});
    write.initialScalar.reset();
    write.initial.reset();
  }
  Shape shape = graph.values[kernel.writes[0].value].shape;
  int64_t rows = elementCount(shape), columns = kernel.loops[loop].extent, vector = machine.vectorBytes();
  shape.push_back(columns);
  std::vector<Operand> operands;
  BlockExpression body;
  if (graph::hasReduction(open.loops)) {
    auto terms = reduceRows(open, shape);
    if (!terms)
      return terms.takeError();
    for (auto [term, write] : llvm::zip(*terms, kernel.writes)) {
      operands.push_back({term, numbersTo(rows)});
      body.inputs.push_back(graph.values[write.value].type);
      body.results.push_back(body.append(BlockOpcode::Input, body.inputs.back(), {}, body.inputs.size() - 1));
    }
  } else {
    std::vector<int64_t> origin(kernel.loops.size());
    for (const graph::Read &read : open.reads) {
      auto operand = operandOf(open, read, origin, shape);
      if (!operand)
        return operand.takeError();
      operands.push_back(std::move(*operand));
    }
    auto numbered = withLoopNumbers(open, origin, shape, operands);
    if (!numbered)
      return numbered.takeError();
    body = std::move(*numbered);
  }
  int64_t pieces = (columns + vector - 1) / vector;
  if (columns % vector != 0) {
    // Lanes beyond the columns take part as well, with what changes nothing.
    Tensor inside = Tensor::zeros(ElementType::boolean, {1, pieces * vector});
    std::memset(inside.mutableBytes(), 1, columns);
    auto mask = constantRegion("columns", ElementType::boolean, 1, pieces * vector, std::move(inside), {});
    if (!mask)
      return mask.takeError();
    operands.push_back({*mask, std::vector<int64_t>(rows)});
    body.inputs.push_back(ElementType::boolean);
    Register taken = body.append(BlockOpcode::Input, ElementType::boolean, {}, body.inputs.size() - 1);
    for (auto [result, write] : llvm::zip(body.results, kernel.writes)) {
      ElementType type = body.instructions[result].type;
      Register neutral =
          body.append(BlockOpcode::Constant, type, {}, neutralBits(graph::combineOf(write.combiner), type));
      result = body.append(BlockOpcode::Select, type, {taken, result, neutral});
    }
  }
  auto terms = stream(body, operands, rows, columns);
  if (!terms)
    return terms.takeError();
  std::vector<RegionPointer> results;
  for (auto [write, term] : llvm::zip(kernel.writes, *terms)) {
    auto packed = reduceLanes(term, *operationOf(write.combiner));
    if (!packed)
      return packed.takeError();
    results.push_back(*packed);
  }
  return results;
}

llvm::Error CompilerState::reduceToForms(const Kernel &kernel, unsigned loop) {
  auto packed = reduceLastLanes(kernel, loop);
  if (!packed)
    return packed.takeError();
  for (auto [write, result] : llvm::zip(kernel.writes, *packed)) {
    ElementType type = result->type;
    BlockOpcode operation = *operationOf(write.combiner);
    if (write.initialScalar && write.initialScalar->bits != neutralBits(graph::combineOf(write.combiner), type)) {
      BlockExpression body;
      body.inputs = {type};
      Register sum = body.append(BlockOpcode::Input, type, {}, 0);
      Register start = body.append(BlockOpcode::Constant, type, {}, write.initialScalar->bits);
      body.results = {body.append(operation, type, {sum, start})};
      auto started = stream(body, {{result, numbersTo(result->rows)}}, result->rows, result->columns);
      if (!started)
        return started.takeError();
      result = started->front();
    }
    forms[write.value].packed = result;
    if (!write.initial)
      continue;
    const Shape &shape = graph.values[write.value].shape;
    auto start = operandOf(kernel, *write.initial, std::vector<int64_t>(kernel.loops.size()), shape);
    if (!start)
      return start.takeError();
    auto matrix = matrixOfForms(write.value);
    if (!matrix)
      return matrix.takeError();
    auto started = stream(treeOf(operation, type, 2), {{*matrix, numbersTo(rowsOf(shape))}, *start}, rowsOf(shape),
                          columnsOf(shape));
    if (!started)
      return started.takeError();
    forms[write.value] = {};
    regions[write.value] = started->front();
  }
  return llvm::Error::success();
}

llvm::Expected<RegionPointer> CompilerState::packedOf(graph::ValueId id) {
  const graph::Value &value = graph.values[id];
  if (forms[id].packed || value.role != graph::ValueRole::Constant)
    return forms[id].packed;
  int64_t elements = elementCount(value.shape), lanes = machine.lanes, rows = (elements + lanes - 1) / lanes;
  int64_t vector = machine.vectorBytes();
  Tensor data;
  if (value.data.valid()) {
    data = Tensor::zeros(value.type, {rows, vector});
    size_t width = byteWidth(value.type);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t lane = 0; lane < vector; ++lane)
        if (int64_t element = row * lanes + lane % lanes; element < elements)
          std::memcpy(data.mutableBytes() + (row * vector + lane) * width, value.data.bytes().data() + element * width,
                      width);
  }
  auto made = constantRegion(value.name, value.type, rows, vector, std::move(data), {});
  if (made)
    forms[id].packed = *made;
  return made;
}

llvm::Expected<bool> CompilerState::mapPacked(const Kernel &kernel) {
  if (!graph::isElementwise(kernel) || llvm::any_of(kernel.body.instructions, [](const BlockInstruction &instruction) {
        return instruction.opcode == BlockOpcode::LoopIndex;
      }))
    return false;
  int64_t elements = elementCount(graph.values[kernel.writes[0].value].shape);
  bool any = false;
  for (const graph::Read &read : kernel.reads) {
    const graph::Value &value = graph.values[read.value];
    bool constant = value.role == graph::ValueRole::Constant;
    if (constant && elementCount(value.shape) == 1)
      continue;
    if (!graph::readsOwnElement(graph, kernel, read) || !(constant || forms[read.value].packed))
      return false;
    any |= !constant;
  }
  if (!any)
    return false;
  int64_t rows = (elements + machine.lanes - 1) / machine.lanes;
  std::vector<Operand> operands;
  for (const graph::Read &read : kernel.reads) {
    bool one = elementCount(graph.values[read.value].shape) == 1 && elements > 1;
    auto region = one ? rowwiseOf(read.value) : packedOf(read.value);
    if (!region)
      return region.takeError();
    operands.push_back({*region, one ? std::vector<int64_t>(rows) : numbersTo(rows)});
  }
  auto results = stream(kernel.body, operands, rows, machine.vectorBytes());
  if (!results)
    return results.takeError();
  forms[kernel.writes[0].value].packed = results->front();
  return true;
}

} // namespace quadrille::tsp
