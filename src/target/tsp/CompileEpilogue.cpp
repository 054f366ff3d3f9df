// What becomes of a product's sums: chains of arithmetic units for each plane, several of them beside each other.
#include "base/Error.h"
#include "target/tsp/CompilerState.h"
#include "target/tsp/VectorUnit.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>

namespace quadrille::tsp {

int64_t CompilerState::alusOf(const BlockExpression &body) {
  return llvm::count_if(foldConstants(expand(body)).instructions, [](const BlockInstruction &instruction) {
    return operandCount(instruction.opcode) > 0 && instruction.opcode != BlockOpcode::RoundEven;
  });
}

llvm::Expected<std::optional<CompilerState::Epilogue>> CompilerState::epilogueOf(const TapProduct &product,
                                                                                 MatrixUnit unit,
                                                                                 const RegionPointer &result,
                                                                                 llvm::ArrayRef<Beside> others) {
  Epilogue epilogue;
  if (product.body.isIdentity())
    return epilogue;
  constexpr unsigned mostVariants = 4;
  Source sums = streamOf(machine.inward(unit.hemisphere), machine.resultStream(unit.plane));
  std::vector<Direction> directions = {machine.inward(unit.hemisphere)};
  std::vector<const Region *> clear = {result.get(), product.lhs.get()};
  for (const std::vector<RegionPointer> &copies : {result->copies, product.lhs->copies})
    for (const RegionPointer &copy : copies)
      clear.push_back(copy.get());
  for (const Operand &operand : llvm::drop_begin(product.operandsFor(unit)))
    directions.push_back(inwardOf(*operand.region));
  auto addOperands = [&](llvm::ArrayRef<Operand> operands) {
    for (const Operand &operand : llvm::drop_begin(operands))
      clear.push_back(operand.region.get());
  };
  addOperands(product.operands);
  for (const auto &[other, operands] : product.again)
    addOperands(operands);
  BlockExpression body = foldConstants(expand(product.body));
  std::string text = body.print();
  // A chain of many operands leaves a stream in either half for the vectors that come to the plane.
  ChainLimits kept;
  if (alusOf(body) > machine.alus / 2)
    for (int64_t half : {1, 2})
      kept.add(streamOf(machine.outward(unit.hemisphere), half * machine.streams / 2 - machine.group), machine.group);
  for (unsigned first = 0; first < mostVariants; ++first) {
    // Constants come from the other side than those of the other hemisphere's planes.
    unsigned from = (first + unit.hemisphere) % 2 == 0 ? west : east;
    Direction constants = from == west ? Direction::East : Direction::West;
    const Beside &beside = others[first % others.size()];
    const ChainLimits &taken = beside.limits;
    std::string kind = text + std::to_string(sums.byte());
    for (unsigned alu : taken.alus)
      kind += " " + std::to_string(alu);
    kind += " s" + std::to_string(taken.streams);
    auto key = std::tuple(kind, directions, constants, outwardOf(*result), first);
    auto [known, fresh] = chainOf.try_emplace(key);
    std::string reason;
    for (ChainLimits limits : {taken, ChainLimits()}) {
      limits.add(kept);
      if (fresh && !known->second)
        known->second = makeChain(body, directions, constants, outwardOf(*result), 2 * first + unit.hemisphere, machine,
                                  reason, Chain::Input{body.inputs[0], 0, 0, sums}, limits);
    }
    if (!known->second)
      continue;
    Epilogue::Variant variant{*known->second, {}, 0};
    for (const Chain::Input &input : variant.chain.inputs)
      if (input.read == 0u)
        variant.shift = machine.multiply + machine.accumulate - machine.matrixOutputCoordinate() - input.cycle;
    std::vector<const Region *> apart = clear;
    llvm::append_range(apart, beside.constants);
    auto constantRegions = constantsOf(variant.chain, apart, from);
    if (!constantRegions) { // in the way of others
      llvm::consumeError(constantRegions.takeError());
      noRoom.reset();
      constantRegions = constantsOf(variant.chain, clear, from);
    }
    if (!constantRegions) { // without room another variant has to do
      llvm::consumeError(constantRegions.takeError());
      continue;
    }
    variant.constants = std::move(*constantRegions);
    epilogue.variants.push_back(std::move(variant));
  }
  if (epilogue.variants.empty())
    return std::nullopt;
  return epilogue;
}

llvm::Expected<std::vector<CompilerState::Epilogue>> CompilerState::epiloguesApart(const TapProduct &product,
                                                                                   llvm::ArrayRef<MatrixUnit> units,
                                                                                   const RegionPointer &result,
                                                                                   int64_t sets) {
  // Chains of different planes run at the same time: they leave each other's sums, units and streams alone.
  ChainLimits sums;
  for (MatrixUnit unit : units)
    sums.add(streamOf(machine.inward(unit.hemisphere), machine.resultStream(unit.plane)), machine.group);
  std::vector<std::vector<Beside>> taken(sets); // by set and variant
  std::vector<Epilogue> epilogues;
  for (int64_t number = 0; number < static_cast<int64_t>(units.size()); ++number) {
    std::vector<Beside> others = {{sums, {}}};
    for (int64_t set = 0; set < sets; ++set)
      for (auto [variant, beside] : llvm::enumerate(taken[set])) {
        if (set == number % sets)
          continue;
        if (variant == others.size())
          others.push_back({sums, {}});
        others[variant].limits.add(beside.limits);
        llvm::append_range(others[variant].constants, beside.constants);
      }
    auto epilogue = epilogueOf(product, units[number], result, others);
    if (!epilogue)
      return epilogue.takeError();
    if (!*epilogue)
      return std::vector<Epilogue>();
    for (auto [variant, made] : llvm::enumerate((*epilogue)->variants)) {
      std::vector<Beside> &own = taken[number % sets];
      if (variant == own.size())
        own.emplace_back();
      own[variant].limits.add(made.chain.taken());
      for (const RegionPointer &constant : made.constants)
        if (constant)
          own[variant].constants.push_back(constant.get());
    }
    epilogues.push_back(std::move(**epilogue));
  }
  return epilogues;
}

// Rows of weights, each of which many vectors meet.
static bool isConstantRow(const Operand &operand) {
  constexpr int64_t few = 4;
  return operand.region && operand.region->weight && operand.region->rows <= few &&
         llvm::all_of(operand.rows, [](int64_t row) { return row >= 0; });
}

// The same chain with its first read from another stream; nothing: its units do not reach that.
static std::optional<Chain> withFirst(Chain chain, Source stream, const Architecture &machine) {
  std::optional<Source> before;
  for (Chain::Input &input : chain.inputs)
    if (input.read == 0u)
      before = std::exchange(input.stream, stream);
  for (Chain::Operation &operation : chain.operations) {
    Instruction &instruction = operation.instruction;
    for (const Field &field : formOf(instruction.opcode)->fields)
      if (field.kind == FieldKind::Operand && before && valueOf(instruction, field.member) == before->byte())
        setValue(instruction, field.member, stream.byte());
    if (!vectorProblem(instruction, operation.alu, machine).empty() ||
        !isReachable(instruction, operation.alu, machine))
      return std::nullopt;
  }
  return chain;
}

bool CompilerState::canShareConstants(const TapProduct &product, llvm::ArrayRef<MatrixUnit> units) const {
  // Where a unit is a pair of planes, of which there are two, each finds streams of its own.
  return !product.body.isIdentity() && units.size() > 2 && 2 * alusOf(product.body) <= machine.alus &&
         llvm::all_of(llvm::drop_begin(product.operands), isConstantRow);
}

llvm::Expected<std::vector<CompilerState::Epilogue>>
CompilerState::epiloguesBeside(TapProduct &product, llvm::ArrayRef<MatrixUnit> units, const RegionPointer &result) {
  std::vector<Epilogue> none;
  BlockExpression body = foldConstants(expand(product.body));
  auto most = std::min<int64_t>(machine.alus / std::max<int64_t>(alusOf(body), 1), static_cast<int64_t>(units.size()));
  // The vectors for the other side's planes cross the vector unit: constants come the other way.
  unsigned side = product.lhs->hemisphere == west ? east : west;
  std::vector<const Region *> clear = {result.get(), product.lhs.get()};
  for (const std::vector<RegionPointer> &copies : {result->copies, product.lhs->copies})
    for (const RegionPointer &copy : copies)
      clear.push_back(copy.get());
  for (Operand &operand : llvm::drop_begin(product.operands)) {
    auto isApart = [&](const RegionPointer &region) {
      return llvm::none_of(clear, [&](const Region *other) { return other->sharesSlices(*region); });
    };
    auto suits = [&](const RegionPointer &region) { return region->hemisphere == side && isApart(region); };
    if (!suits(operand.region)) {
      auto copy = llvm::find_if(operand.region->copies, suits);
      RegionPointer moved = copy != operand.region->copies.end() ? *copy : weightCopy(operand.region, clear, side);
      if (moved)
        operand.region = RegionPointer(operand.region, moved.get());
      else if (!isApart(operand.region))
        return none;
    }
    clear.push_back(operand.region.get());
  }
  auto sumsOf = [&](MatrixUnit unit) {
    return Chain::Input{body.inputs[0], 0, 0,
                        streamOf(machine.inward(unit.hemisphere), machine.resultStream(unit.plane))};
  };
  auto directionsOf = [&](MatrixUnit unit) {
    std::vector<Direction> directions = {machine.inward(unit.hemisphere)};
    for (const Operand &operand : llvm::drop_begin(product.operands))
      directions.push_back(inwardOf(*operand.region));
    return directions;
  };
  ChainLimits sums;
  for (MatrixUnit unit : units)
    sums.add(sumsOf(unit).stream, machine.group);
  Direction constants = side == west ? Direction::East : Direction::West;
  std::string reason;
  auto outputsOf = [](const Chain &chain) {
    ChainLimits limits;
    for (const Chain::Output &output : chain.outputs)
      limits.add(output.stream, static_cast<int64_t>(byteWidth(output.type)));
    return limits;
  };
  auto constantsOfChain = [](const Chain &chain) {
    std::vector<Chain::Input> inputs;
    llvm::copy_if(chain.inputs, std::back_inserter(inputs), [](const Chain::Input &input) { return input.read != 0u; });
    return inputs;
  };
  std::string text = body.print() + std::to_string(sumsOf(units[0]).stream.byte());
  auto [known, fresh] = chainsBeside.try_emplace({text, directionsOf(units[0]), constants, outwardOf(*result)});
  constexpr unsigned turns = 8;
  for (int64_t number = most; fresh && known->second.empty() && number >= 2; --number)
    for (unsigned turn = 0; known->second.empty() && turn < turns; ++turn) {
      std::vector<Chain> chains;
      std::vector<Chain::Input> given;
      ChainLimits taken = sums;
      for (int64_t set = 0; set < number && static_cast<int64_t>(chains.size()) == set; ++set)
        for (unsigned other = 0; other < (set == 0 ? 1 : turns); ++other) {
          std::vector<Chain::Input> own = given;
          own.push_back(sumsOf(units[set]));
          auto chain = makeChain(body, directionsOf(units[set]), constants, outwardOf(*result), turn + other, machine,
                                 reason, own, taken);
          if (!chain)
            continue;
          if (set == 0)
            given = constantsOfChain(*chain);
          ChainLimits used = outputsOf(*chain);
          used.alus = chain->taken().alus;
          taken.add(used);
          chains.push_back(std::move(*chain));
          break;
        }
      if (static_cast<int64_t>(chains.size()) == number)
        known->second = std::move(chains);
    }
  const std::vector<Chain> &chains = known->second;
  if (chains.empty())
    return none;
  auto regions = constantsOf(chains[0], clear, side);
  if (!regions) {
    llvm::consumeError(regions.takeError());
    noRoom.reset();
    return none;
  }
  std::vector<Epilogue> epilogues;
  for (auto [number, unit] : llvm::enumerate(units)) {
    Epilogue epilogue;
    for (size_t turn = 0; turn < chains.size(); ++turn) {
      // Its own one first, then those that other units begin with.
      size_t set = (number + turn) % chains.size();
      std::optional<Chain> chain = withFirst(chains[set], sumsOf(unit).stream, machine);
      if (!chain)
        continue;
      Epilogue::Variant variant{*chain, {}, 0};
      for (const Chain::Input &input : chain->inputs) {
        if (input.read == 0u)
          variant.shift = machine.multiply + machine.accumulate - machine.matrixOutputCoordinate() - input.cycle;
        RegionPointer region;
        for (auto [of, constant] : llvm::zip(chains[0].inputs, *regions))
          if (of.isSame(input))
            region = constant;
        variant.constants.push_back(region);
      }
      epilogue.variants.push_back(std::move(variant));
    }
    if (epilogue.variants.empty())
      return none;
    epilogues.push_back(std::move(epilogue));
  }
  return epilogues;
}

} // namespace quadrille::tsp
