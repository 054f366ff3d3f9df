// Products by the planes of TapPlan.h: every plane works through its share of the result, a block of rows at a time;
// tile after tile is installed and vectors of the first operand stream through it into the block's sums. As the last
// tile finishes them they stream on through a chain of arithmetic units to memory.
#include "base/Error.h"
#include "graph/KernelQueries.h"
#include "target/tsp/CompilerState.h"
#include "target/tsp/Lower.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>

namespace quadrille::tsp {

std::vector<Operand> CompilerState::readAgain(llvm::ArrayRef<Operand> operands, llvm::ArrayRef<Operand> separated,
                                              std::vector<const Region *> &together) {
  std::vector<Operand> again(separated.begin(), separated.end());
  for (auto [operand, other] : llvm::zip(operands, again)) {
    if (!operand.region)
      continue;
    RegionPointer found;
    for (const RegionPointer &copy : operand.region->copies)
      if (!found && llvm::none_of(together, [&](const Region *region) { return region->sharesSlices(*copy); }))
        found = RegionPointer(operand.region, copy.get());
    if (!found)
      found = weightCopy(operand.region, together);
    if (!found)
      continue;
    other.region = found;
    together.push_back(found.get());
  }
  return again;
}

std::vector<const Region *> CompilerState::companionsOf(graph::ValueId value) const {
  std::vector<const Region *> companions;
  auto add = [&](graph::ValueId other) {
    if (other == value || graph.values[other].role == graph::ValueRole::Constant)
      return;
    for (const RegionPointer &region : {regions[other], forms[other].rowwise}) {
      if (!region)
        continue;
      companions.push_back(region.get());
      for (const RegionPointer &copy : region->copies)
        companions.push_back(copy.get());
    }
  };
  for (size_t number : uses.readers[value]) {
    if (number >= part.end)
      continue;
    const graph::Kernel &reader = graph.kernels[number];
    if (graph::isReshape(reader)) // the same words by another name
      llvm::append_range(companions, companionsOf(reader.writes[0].value));
    for (const graph::Read &read : reader.reads) {
      add(read.value);
      // A sum that goes on into this kernel is read as the vectors from which it is made.
      std::optional<size_t> producer = uses.producers[read.value];
      if (read.value != value && !regions[read.value] && producer && isMatrixProduct(graph, graph.kernels[*producer]))
        for (const graph::Read &from : graph.kernels[*producer].reads)
          add(from.value);
    }
    // What works on the sums of a product that reads it, and on what becomes of them.
    if (isMatrixProduct(graph, reader))
      for (size_t next : uses.readers[reader.writes[0].value])
        if (next < part.end) {
          const graph::Kernel &follower = graph.kernels[next];
          for (const graph::Read &read : follower.reads)
            add(read.value);
          if (graph::isElementwise(follower))
            for (size_t last : uses.readers[follower.writes[0].value])
              if (last < part.end)
                for (const graph::Read &read : graph.kernels[last].reads)
                  add(read.value);
        }
  }
  return companions;
}

void CompilerState::addCopies(const RegionPointer &region, llvm::ArrayRef<const Region *> avoid, int64_t count) {
  std::vector<const Region *> clear(avoid.begin(), avoid.end());
  clear.push_back(region.get());
  for (const RegionPointer &copy : region->copies)
    clear.push_back(copy.get());
  Region shape = Region::of(region->type, region->rows, region->columns, region->width);
  shape.spread = region->spread;
  shape.segmentRows = region->segmentRows;
  for (int64_t number = 0; number < count; ++number)
    if (RegionPointer copy = placement.allocate(shape, clear, region->hemisphere)) {
      clear.push_back(copy.get());
      region->copies.push_back(copy);
    }
}

llvm::Error CompilerState::readApart(TapProduct &product, llvm::ArrayRef<MatrixUnit> units, const Region &result) {
  std::vector<RegionPointer> regions = {product.lhs};
  for (const RegionPointer &copy : product.lhs->copies)
    regions.push_back(RegionPointer(product.lhs, copy.get()));
  bool padded = false;
  for (const TapPlan::Batch &batch : product.plan->batches)
    for (const TapPlan::Pass &pass : batch.passes)
      padded |= llvm::is_contained(pass.rows, TapPlan::padding);
  std::vector<const Region *> clear = {&result};
  for (const RegionPointer &copy : result.copies)
    clear.push_back(copy.get());
  auto addOperands = [&](llvm::ArrayRef<Operand> operands) {
    for (const Operand &operand : operands) {
      clear.push_back(operand.region.get());
      clear.push_back(operand.padding.get());
    }
  };
  addOperands(product.operands);
  for (const auto &[unit, operands] : product.again)
    addOperands(operands);
  for (auto [number, unit] : llvm::enumerate(units)) {
    Operand own{regions[number % regions.size()], {}, nullptr};
    if (padded) {
      // Where others read neither their vectors nor their padding, if there is room.
      std::vector<const Region *> apart = clear;
      for (const RegionPointer &other : regions)
        if (other != own.region)
          apart.push_back(other.get());
      for (const auto &[of, read] : product.reads)
        apart.push_back(read.padding.get());
      auto splat = splatRegion(own.region->type, product.padding, apart, own.region->hemisphere);
      if (!splat) {
        llvm::consumeError(splat.takeError());
        noRoom.reset();
        splat = splatRegion(own.region->type, product.padding, clear, own.region->hemisphere);
      }
      if (!splat)
        return splat.takeError();
      own.padding = *splat;
    }
    product.reads.emplace_back(unit, std::move(own));
  }
  return llvm::Error::success();
}

llvm::Expected<RegionPointer> CompilerState::streamTaps(TapProduct &product) {
  const TapPlan &plan = *product.plan;
  bool pairs = product.lhsType == ProductType::F16;
  std::vector<MatrixUnit> units;
  for (int64_t plane = 0; plane < machine.planes; plane += pairs ? machine.tandem : 1)
    for (int64_t side = 0; side < machine.hemispheres; ++side)
      units.push_back({static_cast<unsigned>(side), plane});
  int64_t rows = 0;
  for (const TapPlan::Batch &batch : plan.batches)
    rows += static_cast<int64_t>(batch.resultRows.size());

  // Where the result lies: parts of it in slices of their own for planes that write at the same time, and twice when
  // other products read it, which planes do at the same time too.
  ElementType type = product.body.instructions[product.body.results[0]].type;
  Region shape = Region::of(type, rows, plan.resultColumns, machine.vectorBytes());
  constexpr int64_t mostSpread = 8, fewRows = 64; // slices; rows that are not worth it
  shape.spread = shape.pieces > 1 && shape.pieces * shape.bytes() <= mostSpread;
  // As many segments as there are planes that write at once, or two of what has many bytes.
  for (auto segments = static_cast<int64_t>(units.size()); segments > 1 && !shape.segmentRows; segments /= 2)
    if (!product.isOutput && rows >= fewRows && shape.slicesNeeded() <= mostSpread &&
        shape.slicesNeeded() * segments <= std::max(mostSpread, 2 * shape.slicesNeeded()))
      shape.segmentRows = (rows + segments - 1) / segments;
  if (shape.segmentRows && shape.wordsNeeded() > machine.words)
    shape.segmentRows = 0; // as many as it needs
  if (product.isOutput)
    shape.spread = false;
  std::vector<const Region *> avoid = {product.lhs.get()};
  for (const RegionPointer &copy : product.lhs->copies)
    avoid.push_back(copy.get());
  std::vector<Operand> operands = product.operands;
  auto unitCount = static_cast<int64_t>(units.size());
  auto allocateResult = [&]() -> llvm::Expected<RegionPointer> {
    // If there is room, apart from what will be read together with it.
    std::vector<const Region *> apart = avoid, clear = avoid;
    if (product.value)
      llvm::append_range(apart, companionsOf(*product.value));
    auto region = allocate(shape, apart);
    if (region) {
      clear = std::move(apart);
    } else {
      llvm::consumeError(region.takeError());
      noRoom.reset();
      region = product.isOutput ? allocate(shape, avoid) : allocateInSegments(shape, avoid);
    }
    if (!region && shape.segmentRows && shape.wordsNeeded() * shape.segments() <= machine.words) { // in fewer slices
      llvm::consumeError(region.takeError());
      noRoom.reset();
      Region whole = shape;
      whole.segmentRows = 0;
      region = allocateInSegments(whole, avoid);
    }
    if (region && !product.isOutput)
      addCopies(*region, clear, product.copies);
    return region;
  };
  llvm::Expected<RegionPointer> result = nullptr;
  std::vector<Epilogue> epilogues;
  if (canShareConstants(product, units)) {
    result = allocateResult();
    if (!result)
      return result.takeError();
    auto beside = epiloguesBeside(product, units, *result);
    if (!beside)
      return beside.takeError();
    epilogues = std::move(*beside);
  }
  bool shared = !epilogues.empty();
  if (epilogues.empty()) {
    *result = nullptr;
    product.operands = operands;
    if (llvm::Error error = separate(product.operands, avoid))
      return std::move(error);
    // So many chains find units beside each other and are of use, where few of the passes finish sums; the planes take
    // turns with them.
    int64_t most = machine.alus / std::max<int64_t>(alusOf(product.body), 1);
    int64_t through = std::max<int64_t>(plan.vectors(machine.vectorBytes()), 1);
    int64_t useful = (unitCount * rows * shape.pieces + through - 1) / through;
    int64_t sets = std::clamp<int64_t>(std::min(most, useful), 2, unitCount);
    for (int64_t number = 1; number < unitCount; ++number)
      if (int64_t set = number % sets; set == number)
        product.again.emplace_back(units[number], readAgain(operands, product.operands, avoid));
      else if (set > 0)
        product.again.emplace_back(units[number], product.operandsFor(units[set]));
    result = allocateResult();
    if (!result)
      return result.takeError();
    auto apart = epiloguesApart(product, units, *result, sets);
    if (!apart)
      return apart.takeError();
    epilogues = std::move(*apart);
    if (epilogues.empty())
      return RegionPointer();
  }
  // Blocks of rows: as many as give all planes the same work, and no more sums than there are.
  std::vector<Block> items;
  int64_t sides = static_cast<int64_t>(plan.batches.size()) * (*result)->pieces;
  bool between = plan.batches.size() > 1 && plan.batches[1].resultRows.front() < plan.batches[0].resultRows.back();
  // Where the constants of pieces differ, units work on the same piece at the same time.
  auto batchCount = static_cast<int64_t>(plan.batches.size());
  bool inTurn = false, pieceByPiece = shared && (*result)->pieces > 1;
  for (const TapPlan::Batch &batch : plan.batches) {
    auto count = static_cast<int64_t>(batch.resultRows.size());
    int64_t least = (count + machine.accumulators - 1) / machine.accumulators, blocks = least;
    int64_t installing = (pairs ? machine.tandem * machine.f16Rows : machine.rows) / machine.installRows;
    auto cyclesWith = [&](int64_t number) {
      int64_t each = (count + number - 1) / number;
      return (sides * number + unitCount - 1) / unitCount * std::max(each, installing);
    };
    for (int64_t number = least; number < least + 2 * unitCount; ++number)
      if (cyclesWith(number) < cyclesWith(blocks))
        blocks = number;
    // Units that have whole batches, whose rows lie between each other's, write to different segments in turn.
    if (between && !pairs && sides % unitCount == 0 && (*result)->segments() % unitCount == 0 && blocks <= unitCount &&
        count / unitCount >= installing) {
      blocks = unitCount;
      inTurn = true;
    }
    int64_t inAll = blocks;
    while (pieceByPiece && batchCount * inAll % unitCount != 0)
      ++inAll;
    pieceByPiece &= count / inAll >= installing;
    blocks = pieceByPiece ? inAll : blocks;
    for (int64_t piece = 0; piece < (*result)->pieces; ++piece)
      for (int64_t block = 0; block < blocks; ++block) {
        int64_t first = block * count / blocks;
        items.push_back({&batch, piece, first, (block + 1) * count / blocks - first, {}, {}, false, {}, 0});
      }
  }
  auto itemCount = static_cast<int64_t>(items.size());
  if (pieceByPiece && itemCount % ((*result)->pieces * unitCount) == 0) {
    int64_t ofUnit = itemCount / (*result)->pieces / unitCount;
    std::vector<std::tuple<int64_t, int64_t, int64_t>> order; // unit, piece, number
    std::vector<int64_t> before((*result)->pieces);
    for (auto [number, item] : llvm::enumerate(items))
      order.emplace_back(before[item.piece]++ / ofUnit, item.piece, static_cast<int64_t>(number));
    llvm::sort(order);
    std::vector<Block> sorted;
    for (auto [unit, piece, number] : order)
      sorted.push_back(std::move(items[number]));
    items = std::move(sorted);
  } else {
    pieceByPiece = false;
  }
  // Neighbouring blocks share a unit, so that each stays within its part of the values. Which unit is first changes,
  // for products that do not fill all of them.
  std::vector<std::vector<Block>> blocks(units.size());
  for (int64_t number = 0; number < unitCount; ++number) {
    // Planes of one hemisphere, which read the same copies, are neighbours.
    int64_t place = (number + (itemCount < unitCount ? matrixTurn : 0)) % unitCount,
            each = unitCount / machine.hemispheres;
    auto of = static_cast<size_t>(place % each * machine.hemispheres + place / each);
    for (int64_t item = number * itemCount / unitCount; item < (number + 1) * itemCount / unitCount; ++item)
      blocks[of].push_back(std::move(items[item]));
    // Units that have whole pieces of the result would all stream the same rows at the same time, which lie in the same
    // slices: each begins with others.
    int64_t perPiece = itemCount / sides;
    if (!pieceByPiece && static_cast<int64_t>(blocks[of].size()) % perPiece == 0) {
      if (plan.batches.size() == 1 && !blocks[of].empty())
        std::rotate(blocks[of].begin(), blocks[of].begin() + number * perPiece / unitCount, blocks[of].end());
      else if (inTurn)
        for (auto side = blocks[of].begin(); side != blocks[of].end(); side += perPiece)
          std::rotate(side, side + number * perPiece / unitCount, side + perPiece);
    }
  }
  ++matrixTurn;
  if (llvm::Error error = readApart(product, units, **result))
    return std::move(error);
  if (product.tilesAreThere) {
    if (llvm::Error error = streamBlocks(product, units, epilogues, *result, blocks))
      return std::move(error);
    return *result;
  }
  // Tiles of computed values are made by products too, which must not come between those that share sums: those of one
  // block of each unit, then the blocks.
  for (size_t turn = 0; llvm::any_of(blocks, [&](const auto &list) { return turn < list.size(); }); ++turn) {
    std::vector<std::vector<Block>> now(units.size());
    for (size_t of = 0; of < units.size(); ++of)
      if (turn < blocks[of].size()) {
        now[of].push_back(std::move(blocks[of][turn]));
        if (llvm::Error error = prepare(product, units[of], *result, now[of].front()))
          return std::move(error);
      }
    if (llvm::Error error = streamBlocks(product, units, epilogues, *result, now))
      return std::move(error);
  }
  return *result;
}

llvm::Error CompilerState::prepare(const TapProduct &product, MatrixUnit unit, const RegionPointer &result,
                                   Block &block) {
  if (!block.order.empty())
    return llvm::Error::success();
  // Rows of padding that is zero add nothing: they take no part, except in the last pass, where all sums are finished.
  // That is one without padding, if there is one.
  auto rowsOf = [&](const TapPlan::Pass &pass) { return llvm::ArrayRef(pass.rows).slice(block.first, block.count); };
  auto paddingOf = [&](const TapPlan::Pass &pass) { return llvm::count(rowsOf(pass), TapPlan::padding); };
  int64_t width = std::min(result->width, result->columns - block.piece * result->width);
  std::vector<const TapPlan::Pass *> &order = block.order;
  for (const TapPlan::Pass &pass : block.batch->passes)
    if ((product.padding != 0 || paddingOf(pass) < block.count) &&
        product.plan->reaches(pass, block.piece * result->width, width, product.lhs->width))
      order.push_back(&pass);
  if (order.empty())
    order.push_back(&block.batch->passes.front());
  auto last = llvm::min_element(order, [&](const auto *a, const auto *b) { return paddingOf(*a) < paddingOf(*b); });
  std::rotate(last, last + 1, order.end());
  std::vector<bool> covered(block.count);
  for (const TapPlan::Pass *pass : llvm::drop_end(order))
    for (int64_t i = 0; i < block.count; ++i)
      if (product.padding != 0 || rowsOf(*pass)[i] != TapPlan::padding)
        covered[i] = true;
  block.fillFirst = order.size() > 1 && llvm::is_contained(covered, false);
  block.started.resize(block.count);
  for (const TapPlan::Pass *pass : order) {
    auto made = product.tilesOf(*block.batch, *pass, block.piece * result->width, width, unit);
    if (!made)
      return made.takeError();
    block.tiles.push_back(std::move(*made));
  }
  return llvm::Error::success();
}

llvm::Error CompilerState::streamBlocks(const TapProduct &product, llvm::ArrayRef<MatrixUnit> units,
                                        llvm::ArrayRef<Epilogue> epilogues, const RegionPointer &result,
                                        std::vector<std::vector<Block>> &blocks) {
  std::vector<size_t> current(units.size()); // of a unit's blocks
  std::vector<bool> loaded(units.size());    // the tile of the unit's next pass
  while (true) {
    // The unit that is free first goes on.
    std::optional<size_t> chosen;
    auto freeAt = [&](size_t of) { return planes[{units[of].hemisphere, units[of].plane}].lastActivation; };
    for (size_t of = 0; of < units.size(); ++of)
      if (current[of] < blocks[of].size() && (!chosen || freeAt(of) < freeAt(*chosen)))
        chosen = of;
    if (!chosen)
      return llvm::Error::success();
    MatrixUnit unit = units[*chosen];
    Block &block = blocks[*chosen][current[*chosen]];
    if (llvm::Error error = prepare(product, unit, result, block))
      return error;
    const std::vector<WeightBlocks> &tiles = block.tiles[block.done];
    for (size_t number = 0; !loaded[*chosen] && number < tiles.size(); ++number)
      load(unit, tiles, number);
    use(unit, tiles, product.rhsType, block.order[block.done]->lane);
    // The next tile is loaded while vectors stream through this one.
    const std::vector<WeightBlocks> *next = nullptr;
    if (block.done + 1 < block.order.size()) {
      next = &block.tiles[block.done + 1];
    } else if (current[*chosen] + 1 < blocks[*chosen].size()) {
      Block &following = blocks[*chosen][current[*chosen] + 1];
      if (llvm::Error error = prepare(product, unit, result, following))
        return error;
      next = &following.tiles.front();
    }
    loaded[*chosen] = next != nullptr;
    int64_t half = machine.streams / 2;
    auto prefetch = [&](int64_t of) {
      for (size_t number = 0; next && number < next->size(); ++number)
        if (machine.installFirstStream[unit.plane + static_cast<int64_t>(number)] / half == of)
          load(unit, *next, number);
    };
    if (llvm::Error error = streamPass(product, unit, epilogues[*chosen], result, block, prefetch))
      return error;
    if (block.done == block.order.size())
      ++current[*chosen];
  }
}

llvm::Error CompilerState::streamPass(const TapProduct &product, MatrixUnit unit, const Epilogue &finish,
                                      const RegionPointer &result, Block &block,
                                      llvm::function_ref<void(int64_t half)> prefetch) {
  const TapPlan::Batch &batch = *block.batch;
  const TapPlan::Pass &pass = *block.order[block.done];
  const int64_t piece = block.piece, first = block.first;
  std::vector<bool> &started = block.started;
  bool finishes = block.done + 1 == block.order.size();
  const Epilogue *epilogue = finishes ? &finish : nullptr;
  std::vector<int32_t> rows; // what takes no part is `absent`
  for (int32_t row : llvm::ArrayRef(pass.rows).slice(first, block.count))
    rows.push_back(row == TapPlan::padding && product.padding == 0 && !finishes && !(block.done == 0 && block.fillFirst)
                       ? absent
                       : row);
  ++block.done;
  // Both planes of a pair are busy.
  std::vector<PlaneState *> states;
  for (int64_t plane = 0; plane < (product.lhsType == ProductType::F16 ? machine.tandem : 1); ++plane)
    states.push_back(&planes[{unit.hemisphere, unit.plane + plane}]);
  int64_t installed = 0;
  for (const PlaneState *state : states)
    installed = std::max(installed, state->installed + machine.install);
  bool single = epilogue && !llvm::is_contained(started, true);
  Direction out = machine.outward(unit.hemisphere), in = machine.inward(unit.hemisphere);
  auto plane = [&](uint8_t port) {
    return QueueName{UnitKind::Matrix, static_cast<uint8_t>(unit.hemisphere), static_cast<uint16_t>(unit.plane), port};
  };
  auto own = llvm::find_if(product.reads, [&](const auto &each) { return each.first == unit; });
  Operand activations{own->second.region, {}, own->second.padding};
  std::vector<int64_t> sums; // of the rows that take part
  for (auto [i, row] : llvm::enumerate(rows))
    if (row != absent) {
      activations.rows.push_back(row);
      sums.push_back(static_cast<int64_t>(i));
    }
  auto total = static_cast<int64_t>(sums.size());
  // The result's rows, as an operand, so that runs of them can be asked for.
  Operand written{result, {}, nullptr};
  for (int64_t sum : sums)
    written.rows.push_back(batch.resultRows[first + sum]);
  std::vector<Operand> operands;
  if (epilogue)
    for (const Operand &operand : product.operandsFor(unit)) {
      Operand own{operand.region, {}, operand.padding};
      if (own.region)
        for (int64_t row : written.rows)
          own.rows.push_back(operand.rows[row]);
      operands.push_back(std::move(own));
    }
  // While the first half of the streams brings weights for one plane, vectors come on the other, and the other way
  // round.
  int64_t most = timetable.stepsTogether(), half = (total + 1) / 2;
  prefetch(0);
  int64_t prefetched = 0;
  for (int64_t done = 0; done < total;) {
    if (done >= half && prefetched == 0)
      prefetch(++prefetched);
    int64_t upper = done < half ? 1 : 0, count = std::min((upper ? half : total) - done, machine.repeatMaximum + 1);
    auto limit = [&](const Operand &operand) {
      if (std::vector<RowRun> runs = runsOf(operand, done, count); static_cast<int64_t>(runs.size()) > most)
        count = runs[most].offset;
    };
    limit(activations);
    // Sums that are begun and sums that go on, neighbours.
    struct SumRun {
      int64_t offset, sum, count;
      bool begun;
    };
    std::vector<SumRun> sumRuns;
    for (int64_t k = 0; k < count; ++k) {
      int64_t sum = sums[done + k];
      if (!sumRuns.empty() && sumRuns.back().sum + sumRuns.back().count == sum && sumRuns.back().begun == started[sum])
        ++sumRuns.back().count;
      else if (static_cast<int64_t>(sumRuns.size()) == most)
        count = k;
      else
        sumRuns.push_back({k, sum, 1, started[sum]});
    }
    if (epilogue) {
      for (const Operand &operand : operands)
        if (operand.region)
          limit(operand);
      limit(written);
      for (SumRun &run : sumRuns)
        run.count = std::clamp<int64_t>(count - run.offset, 0, run.count);
      std::erase_if(sumRuns, [](const SumRun &run) { return run.count == 0; });
    }
    Group best;
    int64_t start = std::numeric_limits<int64_t>::max();
    size_t variants = epilogue ? std::max<size_t>(epilogue->variants.size(), 1) : 1;
    int64_t halves = machine.streams / machine.group / 2;
    for (size_t v = 0; v < variants; ++v) {
      for (int64_t choice = 0; choice < halves; ++choice) {
        int64_t stream = (upper * halves + (choice + static_cast<int64_t>(v)) % halves) * machine.group;
        // What the chain drives or reads on the vectors' own stream would take their place, or they its.
        ChainLimits vectors, ofChain;
        vectors.add(streamOf(out, stream), activations.region->bytes());
        if (epilogue && !epilogue->variants.empty())
          ofChain = epilogue->variants[v].chain.taken();
        if ((vectors.streams & ofChain.streams) != 0)
          continue;
        Group group;
        group.from = installed;
        for (const RowRun &run : runsOf(activations, done, count))
          for (int64_t byte = 0; byte < run.region->bytes(); ++byte)
            read(group, *run.region, run.region->pieces == 1 ? 0 : pass.piece, byte, run, streamOf(out, stream + byte),
                 machine.matrixInputCoordinate(), 0);
        group.steps.push_back(
            {plane(activationPort),
             instructionOf(Opcode::Activate, static_cast<uint8_t>(product.lhsType), streamOf(out, stream).byte()), 0,
             count});
        for (const SumRun &run : sumRuns) {
          AccumulateMode mode = epilogue    ? (single ? AccumulateMode::Pass : AccumulateMode::Finish)
                                : run.begun ? AccumulateMode::Add
                                            : AccumulateMode::Start;
          // A sum is begun before it goes on.
          if (run.begun)
            group.from = std::max(group.from, states.front()->lastActivation + 1);
          group.steps.push_back({plane(sumPort),
                                 instructionOf(Opcode::Accumulate, static_cast<uint8_t>(mode), 0, single ? 0 : run.sum,
                                               !single && run.count > 1 ? 1 : 0),
                                 machine.multiply + run.offset, run.count});
        }
        int64_t early = single ? machine.accumulate : 0;
        if (epilogue && epilogue->variants.empty()) {
          store(group, written, piece, done, count, streamOf(in, machine.resultStream(unit.plane)),
                machine.matrixOutputCoordinate(), machine.multiply + machine.accumulate - early);
        } else if (epilogue) {
          const Epilogue::Variant &variant = epilogue->variants[v];
          addChain(group, variant.chain, variant.constants, operands, written, piece, done, count,
                   variant.shift - early);
        }
        if (variants > 1 && timetable.meetsItself(group.steps))
          continue;
        int64_t at = timetable.earliest(group.steps, group.from);
        if (at < start) {
          start = at;
          best = std::move(group);
        }
      }
    }
    if (best.steps.empty())
      return internalError("no streams and units for the sums of a product");
    place(best, start);
    for (PlaneState *state : states)
      state->lastActivation = std::max(state->lastActivation, start + count - 1);
    for (int64_t k = 0; k < count; ++k)
      started[sums[done + k]] = true;
    done += count;
  }
  if (prefetched == 0)
    prefetch(1);
  return llvm::Error::success();
}

} // namespace quadrille::tsp
