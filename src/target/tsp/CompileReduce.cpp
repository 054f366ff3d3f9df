// Reductions over rows: a running result that two arithmetic units pass to and fro while row after row streams by.
#include "base/Error.h"
#include "graph/CombineOf.h"
#include "graph/KernelQueries.h"
#include "target/tsp/CompilerState.h"
#include "target/tsp/VectorUnit.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::tsp {

using graph::Kernel;

namespace {

// A chain for the terms and two units that combine them. Units hold nothing: what the one gives, the other takes the
// latency of an operation later. In the cycles between, other running results follow, `Plan::running` of them, each of
// every so many-th term.
struct Accumulation {
  Chain terms; // its output is what the two units take; no operations: they take the input itself
  Instruction first[2], middle[2], last[2], only; // of either unit
  unsigned units[2] = {};
  Source result[2];  // of `last`
  int64_t taken = 0; // dispatch of a unit that takes the first term, after the chain's start
};

// The pairs of units and streams for a chain of terms: as many as `most`.
class PairSearch {
public:
  PairSearch(Chain chain, BlockOpcode operation, ElementType type, Direction away, const Architecture &machine)
      : chain(std::move(chain)), away(away), machine(machine) {
    BlockExpression both;
    both.inputs = {type, type};
    Register a = both.append(BlockOpcode::Input, type, {}, 0), b = both.append(BlockOpcode::Input, type, {}, 1);
    both.results = {both.append(operation, type, {a, b})};
    // The instruction that the operation is, from a chain of it alone.
    std::string reason;
    if (auto alone = makeChain(both, {Direction::East, Direction::East}, Direction::East, away, 0, machine, reason))
      for (const Chain::Operation &each : alone->operations)
        if (alone->operations.size() == 1)
          combine = each.instruction;
  }

  std::optional<Accumulation> find(unsigned turn) const {
    if (!combine)
      return std::nullopt;
    auto count = static_cast<unsigned>(machine.alus);
    for (unsigned i = 0; i < count; ++i)
      for (unsigned j = 0; j < count; ++j)
        if (auto found = with((i + turn * 4) % count, (j + turn * 4) % count))
          return found;
    return std::nullopt;
  }

private:
  bool free(unsigned alu) const {
    return llvm::none_of(chain.operations, [&](const Chain::Operation &each) { return each.alu == alu; });
  }

  std::optional<Accumulation> with(unsigned a, unsigned b) const {
    if (a == b || !free(a) || !free(b))
      return std::nullopt;
    Accumulation found;
    found.terms = chain;
    found.units[0] = a;
    found.units[1] = b;
    // A chain that only passes its input on is not needed.
    const Chain::Operation &end = chain.operations.back();
    Source term{Source::Alu, static_cast<uint8_t>(end.alu)};
    found.taken = end.cycle + machine.vectorOperation;
    if (chain.operations.size() == 1 && end.instruction.op() == Opcode::Copy && chain.inputs.size() == 1) {
      term = chain.inputs[0].stream;
      found.taken = chain.inputs[0].cycle;
      found.terms.operations.clear();
    } else {
      found.terms.operations.back().instruction.small[2] = noSource;
    }
    for (unsigned side = 0; side < 2; ++side) {
      Source other{Source::Alu, static_cast<uint8_t>(found.units[1 - side])};
      Instruction copy = *combine;
      copy.opcode = static_cast<uint8_t>(Opcode::Copy);
      copy.small[1] = term.byte();
      setValue(copy, Member::Byte0, 0);
      setValue(copy, Member::Byte2, 0);
      copy.small[2] = noSource;
      found.first[side] = copy;
      Instruction middle = *combine;
      middle.small[1] = other.byte();
      setValue(middle, Member::Byte0, term.byte());
      middle.small[2] = noSource;
      found.middle[side] = middle;
      bool reached = false;
      for (int64_t group = 0; group < machine.streams / machine.group && !reached; ++group) {
        Instruction last = middle;
        found.result[side] = {away == Direction::East ? Source::East : Source::West,
                              static_cast<uint8_t>(group * machine.group)};
        // Both results may be on their way at once.
        if (side == 1 && found.result[0].byte() == found.result[1].byte())
          continue;
        last.small[2] = found.result[side].byte();
        found.last[side] = last;
        reached = vectorProblem(copy, found.units[side], machine).empty() &&
                  vectorProblem(middle, found.units[side], machine).empty() &&
                  vectorProblem(last, found.units[side], machine).empty();
      }
      if (!reached)
        return std::nullopt;
    }
    return found;
  }

  Chain chain;
  Direction away;
  const Architecture &machine;
  std::optional<Instruction> combine;
};

// Whether the queues' buffers last while steps follow each other faster than fetches bring their instructions. `ahead`:
// how many steps may.
bool fetchesKeepUp(llvm::ArrayRef<Step> steps, int64_t spacing, int64_t ahead) {
  std::map<QueueName, std::vector<int64_t>> starts;
  for (const Step &step : steps)
    starts[step.queue].push_back(step.cycle);
  for (auto &[queue, cycles] : starts) {
    llvm::sort(cycles);
    int64_t left = ahead * spacing; // cycles' worth of instructions
    for (size_t i = 1; i < cycles.size(); ++i) {
      left = std::min(left + cycles[i] - cycles[i - 1] - spacing, ahead * spacing);
      if (left < 0)
        return false;
    }
  }
  return true;
}

} // namespace

// Inputs combined in pairs, and pairs of pairs.
BlockExpression CompilerState::treeOf(BlockOpcode operation, ElementType type, size_t count) {
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

llvm::Expected<RegionPointer> CompilerState::accumulate(BlockExpression body, std::vector<Operand> operands,
                                                        BlockOpcode operation, int64_t rows, int64_t terms,
                                                        int64_t columns) {
  operands = mergeReads(body, operands);
  std::vector<const Region *> clear; // what is read in the same cycles
  if (llvm::Error error = separate(operands, clear))
    return std::move(error);
  ElementType type = body.instructions[body.results[0]].type;
  // As many running results as an operation takes cycles, if they can be combined in one pass afterwards.
  constexpr int64_t mostRunning = 4;
  int64_t period = machine.vectorOperation, running = std::min(period, mostRunning);
  int64_t widest = machine.vectorBytes();
  std::vector<Direction> directions;
  for (const Operand &operand : operands) {
    directions.push_back(inwardOf(*operand.region));
    if (operand.region->columns == columns && operand.region->pieces > 1)
      widest = operand.region->width;
  }
  std::vector<RegionPointer> partial;
  while (static_cast<int64_t>(partial.size()) < running) {
    Region shape = Region::of(type, rows, columns, widest);
    // Where memory has few slices fewer have to do.
    RegionPointer region = partial.empty() ? nullptr : placement.allocate(shape, clear, partial[0]->hemisphere);
    if (!region && !partial.empty())
      break;
    if (!region) {
      auto made = allocate(shape, clear);
      if (!made)
        return made.takeError();
      region = *made;
    }
    clear.push_back(region.get());
    partial.push_back(std::move(region));
  }
  running = static_cast<int64_t>(partial.size());
  struct Variant {
    Accumulation units;
    std::vector<RegionPointer> constants;
  };
  std::vector<Variant> variants;
  std::string reason;
  constexpr unsigned mostVariants = 4;
  Direction away = outwardOf(*partial[0]);
  for (unsigned first = 0; first < mostVariants; ++first) {
    unsigned side = first % 2 == 0 ? west : east;
    auto chain =
        makeChain(body, directions, side == west ? Direction::East : Direction::West, away, first / 2, machine, reason);
    if (!chain)
      continue;
    auto found = PairSearch(std::move(*chain), operation, type, away, machine).find(first / 2);
    if (!found)
      continue;
    Variant variant{std::move(*found), {}};
    auto constants = constantsOf(variant.units.terms, clear, side);
    if (!constants)
      return constants.takeError();
    variant.constants = std::move(*constants);
    variants.push_back(std::move(variant));
  }
  if (variants.empty())
    return RegionPointer();

  int64_t windows = (terms + running - 1) / running;
  for (int64_t piece = 0; piece < partial[0]->pieces; ++piece)
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<Group> groups;
      for (const Variant &variant : variants) {
        const Accumulation &units = variant.units;
        Group group;
        // In window w the terms w * running and on are taken, one a cycle.
        auto windowCount = [&](int64_t window) { return std::min(running, terms - window * running); };
        auto inWindows = [&](auto add) {
          if (running == period)
            return add(0, terms, 0);
          for (int64_t window = 0; window < windows; ++window)
            add(window * running, windowCount(window), window * period);
        };
        for (auto [input, constant] : llvm::zip(units.terms.inputs, variant.constants)) {
          inWindows([&](int64_t term, int64_t count, int64_t cycle) {
            std::vector<RowRun> runs;
            if (constant)
              runs = {{constant.get(), 0, 0, 0, count}};
            else
              runs = runsOf(operands[*input.read], row * terms + term, count);
            for (RowRun run : runs) {
              run.offset += cycle;
              for (int64_t byte = 0; byte < run.region->bytes(); ++byte)
                read(group, *run.region, run.region->pieces == 1 ? 0 : piece, byte, run,
                     streamOf(input.stream.direction(), input.stream.index + byte), 0, input.cycle);
            }
          });
        }
        for (const Chain::Operation &each : units.terms.operations)
          inWindows([&](int64_t, int64_t count, int64_t cycle) {
            group.steps.push_back({{UnitKind::Vector, 0, static_cast<uint16_t>(each.alu), 0},
                                   each.instruction,
                                   each.cycle + cycle,
                                   count});
          });
        for (int64_t window = 0; window < windows; ++window) {
          auto side = static_cast<unsigned>(window % 2);
          int64_t cycle = units.taken + window * period, count = windowCount(window);
          // The running results that end here: all of the last window, of the one before those that it does not have.
          int64_t goesOn = window + 1 < windows ? windowCount(window + 1) : 0;
          QueueName queue{UnitKind::Vector, 0, static_cast<uint16_t>(units.units[side]), 0};
          if (goesOn > 0)
            group.steps.push_back({queue, window == 0 ? units.first[side] : units.middle[side], cycle, goesOn});
          if (goesOn < count) {
            Instruction last = units.last[side];
            if (window == 0) {
              last = units.first[side];
              last.small[2] = units.result[side].byte();
            }
            group.steps.push_back({queue, last, cycle + goesOn, count - goesOn});
          }
          for (int64_t number = goesOn; number < count; ++number) {
            Effects effects = effectsOf(0, queue, units.last[side], machine);
            for (const ChannelEnd &end : effects.drives)
              if (isStreamChannel(end.channel, machine)) {
                Source stream = streamOf(away, units.result[side].index + end.part);
                write(group, *partial[number], piece, end.part, {nullptr, number, row, 1, 1}, stream, 0,
                      cycle + end.delay - machine.skew);
              }
          }
        }
        groups.push_back(std::move(group));
      }
      if (!fetchesKeepUp(groups[0].steps, timetable.spacing(), /*ahead=*/1))
        return RegionPointer();
      placeFirst(groups);
    }
  std::vector<Operand> ends;
  for (int64_t number = 0; number < std::min(running, terms); ++number) {
    ends.push_back({partial[number], {}});
    for (int64_t row = 0; row < rows; ++row)
      ends.back().rows.push_back(row);
  }
  auto result = stream(treeOf(operation, type, ends.size()), ends, rows, columns);
  if (!result)
    return result.takeError();
  return result->front();
}

llvm::Expected<std::vector<RegionPointer>> CompilerState::reduceByRow(const Kernel &kernel, const Shape &shape) {
  // The reduced loops as dimensions before the last: the terms of a row of the result one after the other.
  Kernel open = kernel;
  Shape wide(shape.begin(), shape.empty() ? shape.end() : shape.end() - 1);
  graph::AccessMap map = kernel.writes.front().map;
  graph::AccessMap last;
  if (!shape.empty()) {
    last.push_back(map.back());
    map.pop_back();
  }
  int64_t terms = 1;
  for (auto [number, loop] : llvm::enumerate(open.loops))
    if (std::exchange(loop.reduction, false)) {
      wide.push_back(loop.extent);
      map.push_back({0, {{static_cast<unsigned>(number), 1}}});
      terms *= loop.extent;
    }
  wide.push_back(columnsOf(shape));
  map.insert(map.end(), last.begin(), last.end());
  if (last.empty())
    map.push_back({});
  for (graph::Write &write : open.writes) {
    write.map = map;
    write.initialScalar.reset();
    write.initial.reset();
  }
  int64_t rows = rowsOf(shape), columns = columnsOf(shape);
  std::vector<int64_t> origin(kernel.loops.size());
  std::vector<Operand> operands;
  for (const graph::Read &read : open.reads) {
    auto operand = operandOf(open, read, origin, wide, /*mayMove=*/false);
    if (!operand)
      return operand.takeError();
    if (!operand->region || llvm::any_of(operand->rows, [](int64_t row) { return row < 0; }))
      return std::vector<RegionPointer>();
    operands.push_back(std::move(*operand));
  }
  auto numbered = withLoopNumbers(open, origin, wide, operands);
  if (!numbered)
    return numbered.takeError();
  BlockExpression body = expand(*numbered);
  std::string reason;
  auto stages = splitIntoStages(body, machine, reason);
  bool oneChain = stages && stages->list.size() == 1 && body.results.size() == 1;
  std::vector<RegionPointer> results;
  if (oneChain) {
    const Stage &stage = stages->list[0];
    std::vector<Operand> given;
    for (const Stage::Input &from : stage.inputs)
      given.push_back(operands[*from.read]);
    auto result = accumulate(stage.body, given, *operationOf(kernel.writes[0].combiner), rows, terms, columns);
    if (!result)
      return result.takeError();
    if (*result)
      return std::vector{*result};
    if (body.isIdentity())
      return results;
  }
  // Very many terms are worth it in several segments of memory.
  constexpr int64_t mostPoints = 1024;
  if (rows * terms > machine.words && terms <= mostPoints)
    return results;
  auto made = stream(*numbered, operands, rows * terms, columns);
  if (!made)
    return made.takeError();
  std::vector<int64_t> all(rows * terms);
  for (auto [row, index] : llvm::enumerate(all))
    index = static_cast<int64_t>(row);
  for (auto [write, region] : llvm::zip(kernel.writes, *made)) {
    BlockExpression as;
    as.inputs = {region->type};
    as.results = {as.append(BlockOpcode::Input, region->type, {}, 0)};
    auto result = accumulate(as, {{region, all}}, *operationOf(write.combiner), rows, terms, columns);
    if (!result)
      return result.takeError();
    if (!*result)
      return std::vector<RegionPointer>();
    results.push_back(*result);
  }
  return results;
}

llvm::Expected<std::vector<RegionPointer>> CompilerState::reduceByPoint(const Kernel &kernel, const Shape &shape) {
  const graph::ValueId written = kernel.writes[0].value;
  int64_t rows = rowsOf(shape), columns = columnsOf(shape), points = graph::reductionPoints(kernel);
  std::vector<int64_t> all(rows);
  for (auto [row, index] : llvm::enumerate(all))
    index = static_cast<int64_t>(row);
  std::vector<RegionPointer> sums(kernel.writes.size());
  // Several points at once: as many rows as can be read in one cycle.
  int64_t most = 1;
  for (const graph::Read &read : kernel.reads)
    if (const RegionPointer &region = regions[read.value])
      most = std::max<int64_t>(most, 1 + static_cast<int64_t>(region->copies.size()));
  for (int64_t number = 0; number < points;) {
    BlockExpression body;
    std::vector<Operand> operands;
    std::vector<std::optional<Register>> results(sums.size());
    auto combine = [&](size_t result, Register with) {
      ElementType type = body.instructions[with].type;
      results[result] = results[result]
                            ? body.append(*operationOf(kernel.writes[result].combiner), type, {*results[result], with})
                            : with;
    };
    for (auto [result, sum] : llvm::enumerate(sums))
      if (sum) {
        results[result] = body.append(BlockOpcode::Input, sum->type, {}, operands.size());
        body.inputs.push_back(sum->type);
        operands.push_back({sum, all});
      }
    for (int64_t end = std::min(points, number + most); number < end; ++number) {
      std::vector<int64_t> point(kernel.loops.size());
      int64_t left = number;
      for (size_t loop = kernel.loops.size(); loop-- > 0;)
        if (kernel.loops[loop].reduction) {
          point[loop] = left % kernel.loops[loop].extent;
          left /= kernel.loops[loop].extent;
        }
      std::vector<Operand> own;
      for (const graph::Read &read : kernel.reads) {
        auto operand = operandOf(kernel, read, point, shape);
        if (!operand)
          return operand.takeError();
        own.push_back(std::move(*operand));
      }
      auto term = withLoopNumbers(kernel, point, shape, own);
      if (!term)
        return term.takeError();
      std::vector<Register> renamed;
      for (const BlockInstruction &instruction : term->instructions) {
        llvm::SmallVector<Register, 3> of;
        for (unsigned i = 0; i < operandCount(instruction.opcode); ++i)
          of.push_back(renamed[instruction.operands[i]]);
        bool input = instruction.opcode == BlockOpcode::Input;
        renamed.push_back(body.append(instruction.opcode, instruction.type, of,
                                      instruction.immediate + (input ? body.inputs.size() : 0)));
      }
      for (auto [type, operand] : llvm::zip(term->inputs, own)) {
        body.inputs.push_back(type);
        operands.push_back(std::move(operand));
      }
      for (auto [result, reg] : llvm::enumerate(term->results))
        combine(result, renamed[reg]);
    }
    for (const std::optional<Register> &result : results)
      body.results.push_back(*result);
    auto made = stream(body, operands, rows, columns, number == points && !isOutput[written] ? copiesOf[written] : 0,
                       /*segments=*/!isOutput[written]);
    if (!made)
      return made.takeError();
    sums = std::move(*made);
  }
  return sums;
}

llvm::Expected<std::vector<RegionPointer>> CompilerState::reduceRows(const Kernel &kernel, const Shape &shape) {
  // By point a pass through memory for each point; by row some cycles between rows, in which instructions are fetched.
  int64_t rows = rowsOf(shape), points = graph::reductionPoints(kernel);
  int64_t pass = 2 * machine.farthest() + machine.vectorEntry + machine.vectorOperation;
  bool byRow = points >= 2 * machine.vectorOperation && rows * 2 * machine.vectorOperation < (points - 2) * pass;
  std::vector<RegionPointer> none;
  llvm::Expected<std::vector<RegionPointer>> results = std::move(none);
  if (byRow)
    results = reduceByRow(kernel, shape);
  if (results && results->empty())
    results = reduceByPoint(kernel, shape);
  if (!results)
    return results;
  int64_t columns = columnsOf(shape);
  std::vector<int64_t> all(rows);
  for (auto [row, index] : llvm::enumerate(all))
    index = static_cast<int64_t>(row);
  for (auto [write, result] : llvm::zip(kernel.writes, *results)) {
    ElementType type = result->type;
    BlockExpression body;
    std::vector<Operand> operands = {{result, all}};
    body.inputs = {type};
    Register sum = body.append(BlockOpcode::Input, type, {}, 0), start = 0;
    if (write.initial) {
      auto initial = operandOf(kernel, *write.initial, std::vector<int64_t>(kernel.loops.size()), shape);
      if (!initial)
        return initial.takeError();
      ElementType from = initial->region->type;
      operands.push_back(std::move(*initial));
      body.inputs.push_back(from);
      start = body.append(BlockOpcode::Input, from, {}, 1);
      if (from != type)
        start = body.append(BlockOpcode::Convert, type, {start});
    } else if (write.initialScalar &&
               write.initialScalar->bits != neutralBits(graph::combineOf(write.combiner), type)) {
      start = body.append(BlockOpcode::Constant, type, {}, write.initialScalar->bits);
    } else if (graph.values[write.value].type == type) {
      continue;
    }
    if (body.instructions.size() > 1)
      sum = body.append(*operationOf(write.combiner), type, {start, sum});
    // A product's result may be rounded for the products that read it.
    if (graph.values[write.value].type != type)
      sum = body.append(BlockOpcode::Convert, graph.values[write.value].type, {sum});
    body.results = {sum};
    auto started = stream(body, operands, rows, columns);
    if (!started)
      return started.takeError();
    result = started->front();
  }
  return results;
}

} // namespace quadrille::tsp
