// Expressions for every row of their operands: stages of chains, where their results lie, and when rows stream through
// them.
#include "base/Error.h"
#include "target/Refusal.h"
#include "target/tsp/CompilerState.h"
#include "target/tsp/Expand.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::tsp {

llvm::Expected<RegionPointer> CompilerState::copyOf(const RegionPointer &from, llvm::ArrayRef<const Region *> avoid,
                                                    std::optional<unsigned> hemisphere) {
  std::vector<const Region *> clear(avoid.begin(), avoid.end());
  clear.push_back(from.get());
  Region shape = Region::of(from->type, from->rows, from->columns, from->width);
  auto to = allocate(shape, clear, hemisphere);
  if (!to)
    return to.takeError();
  // One unit passes the values on, in whichever direction.
  BlockExpression body;
  body.inputs = {from->type};
  body.results = {body.append(BlockOpcode::Input, from->type, {}, 0)};
  std::string reason;
  auto chain = makeChain(body, {inwardOf(*from)}, Direction::East, outwardOf(**to),
                         static_cast<unsigned>(matrixTurn++ % 4), machine, reason);
  if (!chain)
    return internalError("no arithmetic unit passes a value on: " + reason);
  std::vector<int64_t> rows(from->rows);
  for (auto [row, index] : llvm::enumerate(rows))
    index = static_cast<int64_t>(row);
  Operand operand{from, rows, nullptr};
  for (int64_t piece = 0; piece < from->pieces; ++piece)
    for (int64_t row = 0; row < from->rows;) {
      Operand written = wholeOf(*to);
      int64_t count = rowsTogether({operand, written}, row, from->rows - row);
      Group group;
      addChain(group, *chain, {nullptr}, operand, written, piece, row, count, 0);
      place(group, timetable.earliest(group.steps, group.from));
      row += count;
    }
  return *to;
}

llvm::Expected<std::vector<RegionPointer>> CompilerState::stream(const BlockExpression &body,
                                                                 const std::vector<Operand> &operands, int64_t rows,
                                                                 int64_t columns, int64_t copies, bool segments,
                                                                 std::optional<graph::ValueId> value) {
  // What comes once is there at one time: to have it again later takes units, so stages are cut knowing that.
  BlockExpression merged = body;
  std::vector<Operand> kept = mergeReads(merged, operands);
  // The same expression comes again for each point of a reduction.
  auto [known, fresh] = stagesOf.try_emplace(merged.print());
  std::string reason;
  if (fresh)
    known->second = splitIntoStages(foldConstants(expand(merged)), machine, reason);
  const std::optional<Stages> &stages = known->second;
  if (!stages)
    return internalError("no chain for an expression that had one: " + reason);
  std::vector<int64_t> all(rows);
  for (auto [row, index] : llvm::enumerate(all))
    index = static_cast<int64_t>(row);
  std::vector<std::vector<RegionPointer>> made;
  for (const Stage &stage : stages->list) {
    std::vector<Operand> given;
    for (const Stage::Input &from : stage.inputs)
      given.push_back(from.read ? kept[*from.read] : Operand{made[from.stage][from.result], all, nullptr});
    // What a stage makes is read with what others have made, and with what all have.
    bool last = &stage == &stages->list.back();
    std::vector<const Region *> apart;
    // Many single rows would fill all slices, with nothing left for what is put together from them.
    bool many = rows >= machine.lanes;
    if (many && last && value)
      apart = companionsOf(*value);
    if (many && !last) {
      for (const Operand &operand : kept)
        apart.push_back(operand.region.get());
      for (const auto &results : made)
        for (const RegionPointer &result : results)
          apart.push_back(result.get());
    }
    auto results = streamStage(stage.body, std::move(given), rows, columns, last ? copies : 0, segments, apart);
    if (!results)
      return results.takeError();
    made.push_back(std::move(*results));
  }
  std::vector<RegionPointer> results;
  for (auto [stage, result] : stages->results)
    results.push_back(made[stage][result]);
  return results;
}

std::vector<Operand> CompilerState::mergeReads(BlockExpression &body, llvm::ArrayRef<Operand> operands) {
  std::vector<Operand> kept;
  std::vector<unsigned> numbers;
  std::vector<ElementType> types;
  for (auto [i, operand] : llvm::enumerate(operands)) {
    auto same = llvm::find_if(kept, [&, &operand = operand](const Operand &o) {
      return o.region == operand.region && o.rows == operand.rows && o.paddingBits == operand.paddingBits;
    });
    numbers.push_back(static_cast<unsigned>(same - kept.begin()));
    if (same == kept.end()) {
      kept.push_back(operand);
      types.push_back(body.inputs[i]);
    }
  }
  body.inputs = types;
  // Whoever has used another read of the same rows uses the first one: a second stream could not come from their
  // slices.
  std::vector<std::optional<Register>> first(kept.size());
  std::vector<Register> same;
  for (BlockInstruction &instruction : body.instructions) {
    auto number = static_cast<Register>(same.size());
    same.push_back(number);
    for (Register &operand : instruction.operands)
      operand = same[operand];
    if (instruction.opcode != BlockOpcode::Input)
      continue;
    instruction.immediate = numbers[instruction.immediate];
    std::optional<Register> &known = first[instruction.immediate];
    same.back() = known.value_or(number);
    known = same.back();
  }
  for (Register &result : body.results)
    result = same[result];
  return kept;
}

llvm::Error CompilerState::separate(llvm::MutableArrayRef<Operand> operands, std::vector<const Region *> &together) {
  auto shares = [&](const Region &region) {
    return llvm::any_of(together, [&](const Region *other) { return other->sharesSlices(region); });
  };
  // What is small makes room for what is large.
  std::vector<Operand *> order;
  for (Operand &operand : operands)
    if (operand.region)
      order.push_back(&operand);
  llvm::stable_sort(order, [](const Operand *a, const Operand *b) { return a->region->rows > b->region->rows; });
  for (Operand *each : order) {
    Operand &operand = *each;
    if (shares(*operand.region)) {
      // A copy that there is already, or one more.
      const std::vector<RegionPointer> &copies = operand.region->copies;
      auto other = llvm::find_if(copies, [&](const RegionPointer &copy) { return !shares(*copy); });
      if (other != copies.end()) {
        operand.region = RegionPointer(operand.region, other->get());
      } else if (RegionPointer again = weightCopy(operand.region, together)) {
        operand.region = RegionPointer(operand.region, again.get());
      } else {
        auto copy = copyOf(operand.region, together, std::nullopt);
        if (!copy)
          return copy.takeError();
        operand.region = *copy;
      }
    }
    together.push_back(operand.region.get());
  }
  for (Operand &operand : operands)
    if (operand.region && llvm::is_contained(operand.rows, -1)) {
      auto splat = splatRegion(operand.region->type, operand.paddingBits, together, operand.region->hemisphere);
      if (!splat)
        return splat.takeError();
      operand.padding = *splat;
      together.push_back(splat->get());
    }
  return llvm::Error::success();
}

llvm::Expected<std::vector<RegionPointer>>
CompilerState::constantsOf(const Chain &chain, std::vector<const Region *> avoid, unsigned hemisphere) {
  std::vector<RegionPointer> constants;
  for (const Chain::Input &input : chain.inputs) {
    if (input.read) {
      constants.push_back(nullptr);
      continue;
    }
    auto splat = splatRegion(input.type, input.constant, avoid, hemisphere);
    if (!splat)
      return splat.takeError();
    avoid.push_back(splat->get());
    constants.push_back(*splat);
  }
  return constants;
}

llvm::Expected<std::vector<RegionPointer>>
CompilerState::streamStage(BlockExpression body, std::vector<Operand> kept, int64_t rows, int64_t columns,
                           int64_t copies, bool segments, llvm::ArrayRef<const Region *> apart, RegionPointer *joined) {
  std::vector<const Region *> together;
  if (llvm::Error error = separate(kept, together))
    return std::move(error);
  int64_t widest = machine.vectorBytes();
  for (const Operand &operand : kept)
    if (operand.region->columns == columns && operand.region->pieces > 1)
      widest = operand.region->width;

  // Operands that lie in segments, and pieces in slices of their own: a chain for each can go through them at the same
  // time, where their rows are in the order of those of the result.
  int64_t parts = 1, pieces = 1;
  for (const Operand &operand : kept) {
    const Region &region = *operand.region;
    if (region.spread || region.pieces == 1)
      parts = std::max(parts, region.segments());
    if (region.spread && region.rows == rows)
      pieces = std::max(pieces, region.pieces);
  }
  constexpr int64_t fewRows = 256, mostSlices = 16; // vectors that are not worth more slices
  if (rows * pieces < fewRows || !segments)
    parts = pieces = 1;
  // A slice that is written is not read: what comes next begins with one half of the rows while the other is made.
  constexpr int64_t shortPass = 64, longPass = 512;
  int64_t bytes = 0;
  for (Register result : body.results)
    bytes += static_cast<int64_t>(byteWidth(body.instructions[result].type));
  if (parts == 1 && segments && rows >= shortPass && rows <= longPass && 2 * bytes <= machine.slices / 4)
    parts = 2;
  if (joined)
    parts = rows % 2 == 0 ? std::min<int64_t>(parts, 2) : 1;
  int64_t segmentRows = parts > 1 ? (rows + parts - 1) / parts : 0;
  // Of bytes each plane reads a copy of its own, unless several planes find their part in segments.
  if (parts == 1 && copies > 0 && rows >= fewRows && segments && columns <= widest &&
      bitWidth(body.instructions[body.results[0]].type) == 8)
    copies = std::max(copies, machine.hemispheres * machine.planes - 1);
  // Several chains that do the same with other units and streams: the one that is free first is taken.
  struct Variant {
    Chain chain;
    std::vector<RegionPointer> constants; // by input of the chain; null: a read
  };
  std::vector<RegionPointer> results;
  std::vector<Variant> variants;
  std::string reason;
  bool full = false; // what the reason is
  auto prepare = [&](std::optional<unsigned> side) -> llvm::Error {
    std::vector<const Region *> clear = together;
    if (joined) {
      auto count = static_cast<int64_t>(body.results.size());
      Region shape = Region::of(body.instructions[body.results[0]].type, count * rows, columns, widest);
      shape.segmentRows = segmentRows ? segmentRows : rows;
      auto region = allocate(shape, clear, side);
      if (!region && segmentRows) {
        llvm::consumeError(region.takeError());
        noRoom.reset();
        segmentRows = 0;
        shape.segmentRows = rows;
        region = allocate(shape, clear, side);
      }
      if (!region) {
        reason = report(region.takeError()).message;
        noRoom.reset();
        return llvm::Error::success();
      }
      if (!segmentRows) // whoever reads different rows finds them in different slices
        addCopies(*region, clear, copies);
      *joined = *region;
      for (const RegionPointer &copy : (*region)->copies)
        clear.push_back(copy.get());
      clear.push_back(region->get());
      int64_t each = rows / shape.segmentRows;
      for (int64_t number = 0; number < count; ++number)
        results.push_back(segmentsOf(*region, number * each, each));
    }
    for (Register result : joined ? llvm::ArrayRef<Register>() : llvm::ArrayRef(body.results)) {
      Region shape = Region::of(body.instructions[result].type, rows, columns, widest);
      shape.spread = pieces > 1 && shape.pieces == pieces && shape.slicesNeeded() * pieces <= mostSlices;
      if (shape.pieces == 1 || shape.spread)
        shape.segmentRows = segmentRows;
      if (shape.slicesNeeded() > mostSlices)
        shape.segmentRows = 0;
      auto beside = results.empty() ? side : std::optional(results[0]->hemisphere);
      std::vector<const Region *> wished = clear;
      llvm::append_range(wished, apart);
      llvm::Expected<RegionPointer> region = nullptr;
      if (shape.segmentRows || shape.wordsNeeded() <= machine.words)
        region = placement.allocate(shape, wished, beside);
      if (!*region)
        region = allocateInSegments(shape, clear, beside);
      if (!region && (shape.segmentRows || shape.spread)) {
        llvm::consumeError(region.takeError());
        noRoom.reset();
        shape.segmentRows = 0;
        shape.spread = false;
        region = allocateInSegments(shape, clear, beside);
      }
      if (!region && !side) { // perhaps when everything has moved
        reason = report(region.takeError()).message;
        return llvm::Error::success();
      }
      if (!region)
        return region.takeError();
      if (!side) { // there may be no room for copies besides
        addCopies(*region, wished, copies);
        addCopies(*region, clear, copies - static_cast<int64_t>((*region)->copies.size()));
      }
      for (const RegionPointer &copy : (*region)->copies)
        clear.push_back(copy.get());
      clear.push_back(region->get());
      results.push_back(*region);
    }
    std::vector<Direction> directions;
    for (const Operand &operand : kept)
      directions.push_back(inwardOf(*operand.region));
    constexpr unsigned mostVariants = 4;
    for (unsigned first = 0; first < mostVariants; ++first) {
      // Constants come from the west, or from the east.
      unsigned from = first % 2 == 0 ? west : east;
      Direction constants = from == west ? Direction::East : Direction::West, away = outwardOf(*results[0]);
      // With segments each leaves the units, streams and constants of the others alone, or of the first one, if that is
      // possible.
      ChainLimits all, ofFirst;
      std::vector<const Region *> apart = clear;
      if (segmentRows || pieces > 1)
        for (const Variant &other : variants) {
          all.add(other.chain.taken());
          if (ofFirst.alus.empty() && first >= 2)
            ofFirst = all;
          for (const RegionPointer &constant : other.constants)
            apart.push_back(constant.get());
        }
      std::string kind = body.print() + " " + std::to_string(all.streams);
      for (unsigned alu : all.alus)
        kind += " " + std::to_string(alu);
      auto [known, fresh] = chainOf.try_emplace(std::tuple(kind, directions, constants, away, first / 2));
      for (const ChainLimits &limits : {all, ofFirst, ChainLimits()})
        if (fresh && !known->second)
          known->second = makeChain(body, directions, constants, away, first / 2, machine, reason, {}, limits);
      std::optional<Chain> chain = known->second;
      if (!chain)
        continue;
      Variant variant{std::move(*chain), {}};
      auto constantRegions = constantsOf(variant.chain, apart, from);
      if (!constantRegions) {
        llvm::consumeError(constantRegions.takeError());
        noRoom.reset();
        constantRegions = constantsOf(variant.chain, clear, from);
      }
      if (!constantRegions) {
        reason = report(constantRegions.takeError()).message;
        full = true;
        continue;
      }
      variant.constants = std::move(*constantRegions);
      variants.push_back(std::move(variant));
    }
    return llvm::Error::success();
  };
  if (llvm::Error error = prepare(std::nullopt))
    return std::move(error);
  if (variants.empty() && joined)
    return std::vector<RegionPointer>();
  if (variants.empty()) {
    // Where operands and results happen to lie no units reach them: they move to where whyNot has asked.
    results.clear();
    together.clear();
    segmentRows = 0;
    full = false;
    for (Operand &operand : kept) {
      // In as few slices as can be.
      if (operand.region->hemisphere != west ||
          static_cast<int64_t>(operand.region->slices.size()) > operand.region->bytes()) {
        std::vector<const Region *> clear;
        for (const Operand &other : kept)
          clear.push_back(other.region.get());
        auto copy = copyOf(operand.region, clear, west);
        if (!copy)
          return copy.takeError();
        operand.region = *copy;
      }
      together.push_back(operand.region.get());
    }
    if (llvm::Error error = prepare(east))
      return std::move(error);
    if (variants.empty())
      return full ? target::doesNotFitError(reason)
                  : internalError("no chain for an expression that had one: " + reason);
  }

  std::vector<Operand> written, accessed = kept;
  for (const RegionPointer &result : results) {
    written.push_back(wholeOf(result));
    accessed.push_back(written.back());
  }
  for (int64_t piece = 0; piece < results[0]->pieces; ++piece)
    for (int64_t row = 0; row < rows;) {
      int64_t end = segmentRows ? std::min(rows, (row / segmentRows + 1) * segmentRows) : rows;
      int64_t count = rowsTogether(accessed, row, end - row);
      Group best;
      int64_t start = std::numeric_limits<int64_t>::max();
      for (const Variant &variant : variants) {
        Group group;
        addChain(group, variant.chain, variant.constants, kept, written, piece, row, count, 0);
        int64_t at = timetable.earliest(group.steps, group.from);
        if (at < start) {
          start = at;
          best = std::move(group);
        }
      }
      place(best, start);
      row += count;
    }
  // What the parts know is known of the whole and its copies.
  if (joined)
    for (size_t copy = 0; copy <= (*joined)->copies.size(); ++copy) {
      Region &whole = copy == 0 ? **joined : *(*joined)->copies[copy - 1];
      for (auto [segment, result] : llvm::enumerate(results)) {
        const Region &part = copy == 0 ? *result : *result->copies[copy - 1];
        for (int64_t row = 0; row < rows; ++row)
          whole.wrote(static_cast<int64_t>(segment) * rows + row,
                      part.rowReady.empty() ? part.ready : part.rowReady[row]);
      }
    }
  return results;
}

std::vector<RowRun> CompilerState::runsOf(const Operand &operand, int64_t row, int64_t count) const {
  std::vector<RowRun> runs;
  for (int64_t k = 0; k < count;) {
    int64_t first = operand.rows[row + k];
    const Region *region = first < 0 ? operand.padding.get() : operand.region.get();
    int64_t length = 1, step = 0;
    if (first < 0) {
      while (k + length < count && operand.rows[row + k + length] < 0)
        ++length;
      first = 0;
    } else if (k + 1 < count && operand.rows[row + k + 1] >= 0) {
      step = operand.rows[row + k + 1] - first;
      while (k + length < count && operand.rows[row + k + length] >= 0 &&
             operand.rows[row + k + length] == first + length * step)
        ++length;
      length = region->together(first, step, length);
    }
    length = std::min(length, machine.repeatMaximum + 1);
    runs.push_back({region, k, first, step, length});
    k += length;
  }
  return runs;
}

int64_t CompilerState::rowsTogether(llvm::ArrayRef<Operand> operands, int64_t row, int64_t count) const {
  // An instruction, its Repeat, perhaps an idle time: less than half of what a buffer holds, which may not be full.
  int64_t most = std::min(machine.bufferBytes / machine.instructionBytes / 6, timetable.stepsTogether());
  count = std::min(count, machine.repeatMaximum + 1);
  for (const Operand &operand : operands)
    if (operand.region)
      if (std::vector<RowRun> runs = runsOf(operand, row, count); static_cast<int64_t>(runs.size()) > most)
        count = runs[most].offset;
  return count;
}

void CompilerState::addChain(Group &group, const Chain &chain, llvm::ArrayRef<RegionPointer> constants,
                             llvm::ArrayRef<Operand> operands, llvm::ArrayRef<Operand> results, int64_t piece,
                             int64_t row, int64_t count, int64_t shift) const {
  auto stream = [](Source first, int64_t byte) {
    first.index += static_cast<uint8_t>(byte);
    return first;
  };
  for (auto [input, constant] : llvm::zip(chain.inputs, constants)) {
    std::vector<RowRun> runs;
    if (constant)
      runs = {{constant.get(), 0, 0, 0, count}};
    else if (operands[*input.read].region)
      runs = runsOf(operands[*input.read], row, count);
    // Captured at the vector unit's edge in the cycle in which the word passes it.
    for (const RowRun &run : runs)
      for (int64_t byte = 0; byte < run.region->bytes(); ++byte)
        read(group, *run.region, run.region->pieces == 1 ? 0 : piece, byte, run, stream(input.stream, byte), 0,
             input.cycle + shift);
  }
  for (const Chain::Operation &operation : chain.operations)
    group.steps.push_back({{UnitKind::Vector, 0, static_cast<uint16_t>(operation.alu), 0},
                           operation.instruction,
                           operation.cycle + shift,
                           count});
  for (auto [output, result] : llvm::zip(chain.outputs, results)) {
    const Chain::Operation &last = chain.operations[output.operation];
    Effects effects =
        effectsOf(0, {UnitKind::Vector, 0, static_cast<uint16_t>(last.alu), 0}, last.instruction, machine);
    int64_t driven = last.cycle + shift + effects.drives.front().delay - machine.skew; // at the vector unit
    store(group, result, piece, row, count, output.stream, 0, driven);
  }
}

void CompilerState::store(Group &group, const Operand &result, int64_t piece, int64_t row, int64_t count, Source first,
                          int64_t origin, int64_t cycle) const {
  std::vector<Region *> targets = {result.region.get()};
  for (const RegionPointer &copy : result.region->copies)
    targets.push_back(copy.get());
  for (const RowRun &run : runsOf(result, row, count))
    for (int64_t byte = 0; byte < result.region->bytes(); ++byte)
      for (Region *to : targets)
        write(group, *to, piece, byte, run, {first.kind, static_cast<uint8_t>(first.index + byte)}, origin, cycle);
}

} // namespace quadrille::tsp
