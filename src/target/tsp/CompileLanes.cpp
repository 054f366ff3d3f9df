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

llvm::Error CompilerState::combineLanes(const SpreadRows &from, BlockOpcode operation, int64_t firstRow, int64_t rows,
                                        std::vector<RegionPointer> &results) {
  int64_t bytes = static_cast<int64_t>(byteWidth(from.type)), lanes = machine.lanes;
  int64_t groups = from.rows / lanes, together = lanes / machine.group;
  BlockExpression body = treeOf(operation, from.type, together);
  std::vector<Direction> directions;
  for (int64_t row = 0; row < together; ++row)
    directions.push_back(machine.inward(from.slice(row, 0, machine).first));
  std::vector<Operand> onStreams(together); // read here, from slices of both hemispheres
  std::vector<const Region *> made, sources;
  for (const RegionPointer &half : from.halves)
    sources.push_back(half.get());
  for (int64_t quarter = 0; quarter < machine.group; ++quarter) {
    if (firstRow == 0) {
      Region shape = Region::of(from.type, rows, machine.vectorBytes(), machine.vectorBytes());
      std::vector<const Region *> clear = made;
      clear.insert(clear.end(), sources.begin(), sources.end());
      RegionPointer to = placement.allocate(shape, clear);
      if (!to) {
        auto shared = allocate(shape, made);
        if (!shared)
          return shared.takeError();
        to = *shared;
      }
      made.push_back(to.get());
      results.push_back(std::move(to));
    }
    const RegionPointer &to = results[quarter];
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
          Group group;
          for (const Chain::Input &input : chain.inputs)
            for (int64_t byte = 0; byte < bytes; ++byte) {
              auto [half, slice] = from.slice(quarter * together + *input.read, byte, machine);
              Source stream = streamOf(input.stream.direction(), input.stream.index + byte);
              read(group, *from.halves[half], slice, 0, {nullptr, 0, byte * groups + first, 1, count}, stream, 0,
                   input.cycle);
            }
          addChain(group, chain, std::vector<RegionPointer>(chain.inputs.size()), onStreams, wholeOf(to), 0,
                   firstRow + first, count, 0);
          return group;
        },
        static_cast<int64_t>(chains.size()));
  }
  return llvm::Error::success();
}

llvm::Expected<RegionPointer> CompilerState::rotateSuperlanes(const RegionPointer &from, int64_t superlanes,
                                                              int64_t among, llvm::ArrayRef<const Region *> avoid) {
  std::vector<int64_t> order;
  for (int64_t lane = 0; lane < machine.vectorBytes(); ++lane)
    order.push_back(lane < among * machine.lanes ? (lane + superlanes * machine.lanes) % (among * machine.lanes)
                                                 : lane);
  std::vector<const Region *> clear(avoid.begin(), avoid.end());
  clear.push_back(from.get());
  auto to = allocate(Region::of(from->type, from->rows, machine.vectorBytes(), machine.vectorBytes()), clear);
  if (!to)
    return to.takeError();
  std::vector<PermutedVector> vectors;
  for (int64_t row = 0; row < from->rows; ++row)
    vectors.push_back({0, row, 0, row, 0, &order});
  if (llvm::Error error = permuteVectors({from}, *to, vectors))
    return std::move(error);
  return *to;
}

std::vector<int64_t> CompilerState::rotationRadices(int64_t superlanes) {
  constexpr int64_t largest = 8;
  std::vector<int64_t> radices;
  for (int64_t left = superlanes, prime = 2; left > 1;)
    if (left % prime == 0) {
      left /= prime;
      if (!radices.empty() && radices.back() * prime <= largest)
        radices.back() *= prime;
      else
        radices.push_back(prime);
    } else {
      ++prime;
    }
  return radices;
}

int64_t CompilerState::superlanesFor(int64_t columns) const {
  // A few more than have columns, if that saves rotations.
  auto cost = [](int64_t superlanes) {
    int64_t rotations = 0;
    for (int64_t radix : rotationRadices(superlanes))
      rotations += radix;
    return rotations;
  };
  int64_t best = machine.superlanes;
  for (int64_t superlanes = std::min((columns + machine.lanes - 1) / machine.lanes, best); superlanes < best;
       ++superlanes)
    if (cost(superlanes) < cost(best))
      best = superlanes;
  return best;
}

llvm::Expected<RegionPointer> CompilerState::combineSuperlanes(RegionPointer from, BlockOpcode operation,
                                                               int64_t superlanes) {
  // Rotations by multiples of `apart`: then every superlane has what lies in each `apart`-th.
  int64_t apart = superlanes;
  for (int64_t radix : rotationRadices(superlanes)) {
    apart /= radix;
    std::vector<Operand> operands = {wholeOf(from)};
    std::vector<const Region *> clear = {from.get()};
    for (int64_t turn = 1; turn < radix; ++turn) {
      auto turned = rotateSuperlanes(from, turn * apart, superlanes, clear);
      if (!turned)
        return turned.takeError();
      clear.push_back(turned->get());
      operands.push_back(wholeOf(*turned));
    }
    auto combined = stream(treeOf(operation, from->type, operands.size()), operands, from->rows, from->columns);
    if (!combined)
      return combined.takeError();
    from = combined->front();
  }
  return from;
}

llvm::Expected<RegionPointer> CompilerState::widenPacked(RegionPointer packed, int64_t superlanes) {
  // Twice as many superlanes each time: the upper ones from the lower ones.
  for (; superlanes < machine.superlanes; superlanes *= 2) {
    auto turned = rotateSuperlanes(packed, machine.superlanes - superlanes, machine.superlanes, {});
    if (!turned)
      return turned.takeError();
    Tensor lower = Tensor::zeros(ElementType::boolean, {1, machine.vectorBytes()});
    std::memset(lower.mutableBytes(), 1, superlanes * machine.lanes);
    auto mask =
        constantRegion("lower superlanes", ElementType::boolean, 1, machine.vectorBytes(), std::move(lower), {});
    if (!mask)
      return mask.takeError();
    BlockExpression body;
    body.inputs = {packed->type, packed->type, ElementType::boolean};
    Register below = body.append(BlockOpcode::Input, packed->type, {}, 0);
    Register above = body.append(BlockOpcode::Input, packed->type, {}, 1);
    Register isLower = body.append(BlockOpcode::Input, ElementType::boolean, {}, 2);
    body.results = {body.append(BlockOpcode::Select, packed->type, {isLower, below, above})};
    auto both = stream(body, {wholeOf(packed), wholeOf(*turned), {*mask, std::vector<int64_t>(packed->rows), nullptr}},
                       packed->rows, packed->columns);
    if (!both)
      return both.takeError();
    packed = both->front();
  }
  return packed;
}

llvm::Expected<std::vector<RegionPointer>> CompilerState::reduceLanes(llvm::ArrayRef<BlockOpcode> operations,
                                                                      llvm::ArrayRef<ElementType> types, int64_t rows,
                                                                      int64_t superlanes, TermsOf termsOf) {
  // As many rows at once as a bank has words for in each slice.
  int64_t lanes = machine.lanes, groups = (rows + lanes - 1) / lanes, bytes = 0;
  for (ElementType type : types)
    bytes = std::max(bytes, static_cast<int64_t>(byteWidth(type)));
  int64_t blocks = (groups * bytes + machine.words - 1) / machine.words, each = (groups + blocks - 1) / blocks;
  std::vector<std::vector<RegionPointer>> combined(operations.size());
  std::vector<SpreadRows> held; // what comes next would wait for their memory
  for (int64_t first = 0; first < groups; first += each) {
    int64_t count = std::min(each * lanes, rows - first * lanes);
    auto terms = termsOf(first * lanes, count);
    if (!terms)
      return terms.takeError();
    for (auto [term, operation, parts] : llvm::zip(*terms, operations, combined)) {
      held.clear();
      auto spread = spreadRows(term.region, 0, term.rows.front(), 1, count);
      if (!spread)
        return spread.takeError();
      held.push_back(std::move(*spread));
      auto turned = transposeLanes(held.back(), {});
      if (!turned)
        return turned.takeError();
      held.push_back(std::move(*turned));
      if (llvm::Error error = combineLanes(held.back(), operation, first, groups, parts))
        return std::move(error);
    }
  }
  std::vector<RegionPointer> results;
  for (auto [operation, type, parts] : llvm::zip(operations, types, combined)) {
    std::vector<Operand> operands;
    for (const RegionPointer &quarter : parts)
      operands.push_back(wholeOf(quarter));
    auto joined = stream(treeOf(operation, type, operands.size()), operands, groups, machine.vectorBytes());
    if (!joined)
      return joined.takeError();
    auto all = combineSuperlanes(joined->front(), operation, superlanes);
    if (!all)
      return all.takeError();
    results.push_back(*all);
  }
  return results;
}

// Lanes beyond the columns take part with what changes nothing.
llvm::Error CompilerState::maskTerms(const Kernel &kernel, BlockExpression &body, std::vector<Operand> &operands,
                                     int64_t rows, int64_t columns, int64_t lanes) {
  Tensor inside = Tensor::zeros(ElementType::boolean, {1, lanes});
  std::memset(inside.mutableBytes(), 1, columns);
  auto mask = constantRegion("columns", ElementType::boolean, 1, lanes, std::move(inside), {});
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
  return llvm::Error::success();
}

RegionPointer CompilerState::partOf(const RegionPointer &whole, Region part) {
  // What reads the part has read the whole.
  RegionPointer made(new Region(std::move(part)), [whole](Region *region) {
    whole->lastRead = std::max(whole->lastRead, region->lastRead);
    delete region;
  });
  return made;
}

RegionPointer CompilerState::pieceOf(const RegionPointer &whole, int64_t piece) {
  if (whole->pieces == 1)
    return whole;
  Region part = *whole;
  part.copies.clear();
  part.pieces = 1;
  part.columns = part.width;
  if (whole->spread) {
    part.slices.clear();
    for (int64_t segment = 0; segment < whole->segments(); ++segment)
      for (int64_t byte = 0; byte < whole->bytes(); ++byte)
        part.slices.push_back(whole->slices[(segment * whole->pieces + piece) * whole->bytes() + byte]);
    part.spread = false;
  } else {
    part.starts[0].address += piece * whole->rowsOfSegment();
  }
  RegionPointer made = partOf(whole, std::move(part));
  for (const RegionPointer &copy : whole->copies)
    made->copies.push_back(pieceOf(copy, piece));
  return made;
}

RegionPointer CompilerState::firstColumnOf(const RegionPointer &whole) {
  if (whole->columns == 1)
    return whole;
  RegionPointer piece = pieceOf(whole, 0);
  Region part = *piece;
  part.copies.clear();
  part.columns = part.width = 1;
  RegionPointer made = partOf(piece, std::move(part));
  for (const RegionPointer &copy : piece->copies)
    made->copies.push_back(firstColumnOf(copy));
  return made;
}

RegionPointer CompilerState::segmentsOf(const RegionPointer &whole, int64_t first, int64_t count) {
  Region part = *whole;
  part.copies.clear();
  if (whole->segmentRows) {
    int64_t row = first * whole->segmentRows, slices = (whole->spread ? whole->pieces : 1) * whole->bytes();
    part.slices.assign(whole->slices.begin() + first * slices, whole->slices.begin() + (first + count) * slices);
    part.rows = std::min(count * whole->segmentRows, whole->rows - row);
    if (count == 1)
      part.segmentRows = 0;
    if (!part.rowReady.empty())
      part.rowReady.assign(whole->rowReady.begin() + row, whole->rowReady.begin() + row + part.rows);
  }
  part.hemisphere = part.slices[0].hemisphere;
  RegionPointer made = partOf(whole, std::move(part));
  for (const RegionPointer &copy : whole->copies)
    made->copies.push_back(segmentsOf(copy, first, count));
  return made;
}

llvm::Expected<std::vector<RegionPointer>> CompilerState::combinePieces(const Kernel &kernel, BlockExpression body,
                                                                        std::vector<Operand> operands, int64_t rows,
                                                                        int64_t columns) {
  int64_t vector = machine.vectorBytes(), pieces = (columns + vector - 1) / vector;
  // As many sums as rows of other sums are on their way through the vector unit.
  int64_t pass = 2 * machine.farthest() + machine.vectorEntry + machine.vectorOperation;
  int64_t sums = std::clamp<int64_t>(pass / rows, 1, (pieces + 1) / 2);
  std::vector<std::vector<RegionPointer>> made; // by sum and write
  for (int64_t piece = 0; piece < pieces; ++piece) {
    BlockExpression term = body;
    std::vector<Operand> given = operands;
    for (Operand &operand : given)
      operand.region = pieceOf(operand.region, piece);
    if (int64_t left = columns - piece * vector; left < vector)
      if (llvm::Error error = maskTerms(kernel, term, given, rows, left, vector))
        return std::move(error);
    std::vector<RegionPointer> *sum = piece < sums ? nullptr : &made[piece % sums];
    if (sum)
      for (auto [write, before, result] : llvm::zip(kernel.writes, *sum, term.results)) {
        given.push_back(wholeOf(before));
        term.inputs.push_back(before->type);
        Register so = term.append(BlockOpcode::Input, before->type, {}, term.inputs.size() - 1);
        result = term.append(*operationOf(write.combiner), before->type, {so, result});
      }
    auto results = stream(term, given, rows, vector);
    if (!results)
      return results.takeError();
    if (sum)
      *sum = std::move(*results);
    else
      made.push_back(std::move(*results));
  }
  if (made.size() == 1)
    return made.front();
  std::vector<RegionPointer> results;
  for (auto [number, write] : llvm::enumerate(kernel.writes)) {
    std::vector<Operand> parts;
    for (const std::vector<RegionPointer> &sum : made)
      parts.push_back(wholeOf(sum[number]));
    auto all = stream(treeOf(*operationOf(write.combiner), parts[0].region->type, parts.size()), parts, rows, vector);
    if (!all)
      return all.takeError();
    results.push_back(all->front());
  }
  return results;
}

// The reduction loop that runs over the lanes of what is read, if reducing it among lanes is cheaper than one element
// after the other.
std::optional<unsigned> CompilerState::laneLoopOf(const Kernel &kernel) const {
  // A few of a few rows, each of which is moved by itself; with many of other loops these are reduced first, side by
  // side.
  constexpr int64_t mostByElement = 4, fewRows = 256, mostPoints = 64;
  bool few = graph::reductionPoints(kernel) <= mostPoints;
  for (const graph::Read &read : kernel.reads) {
    const Shape &shape = graph.values[read.value].shape;
    if (shape.empty() || shape.back() <= (few && rowsOf(shape) <= fewRows ? mostByElement : 1) ||
        read.map.back().offset != 0 || read.map.back().terms.size() != 1)
      continue;
    auto [loop, coefficient] = read.map.back().terms[0];
    if (kernel.loops[loop].reduction && coefficient == 1 && kernel.loops[loop].extent == shape.back())
      return loop;
  }
  return std::nullopt;
}

llvm::Expected<std::vector<LaneForms>> CompilerState::reduceLastLanes(const Kernel &kernel, unsigned loop) {
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
      operands.push_back(wholeOf(term));
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
  // Superlanes that take part.
  int64_t superlanes = pieces == 1 ? superlanesFor(columns) : machine.superlanes;
  std::vector<RegionPointer> terms; // none: they are still to be made
  if (pieces > 1) {
    auto combined = combinePieces(kernel, std::move(body), std::move(operands), rows, columns);
    if (!combined)
      return combined.takeError();
    terms = std::move(*combined);
    BlockExpression term;
    term.inputs = {terms.front()->type};
    term.results = {term.append(BlockOpcode::Input, term.inputs[0], {}, 0)};
    auto summed = sumByProduct(kernel, std::move(term), {wholeOf(terms.front())}, rows, vector);
    if (!summed || *summed)
      return summed ? llvm::Expected<std::vector<LaneForms>>(std::vector<LaneForms>()) : summed.takeError();
  } else {
    auto summed = sumByProduct(kernel, body, operands, rows, columns);
    if (!summed || *summed)
      return summed ? llvm::Expected<std::vector<LaneForms>>(std::vector<LaneForms>()) : summed.takeError();
    if (int64_t lanes = superlanes * machine.lanes; columns != lanes)
      if (llvm::Error error = maskTerms(kernel, body, operands, rows, columns, lanes))
        return std::move(error);
    if (body.isIdentity() && operands[0].region->columns == columns &&
        operands[0].rows == wholeOf(operands[0].region).rows)
      terms = {operands[0].region};
  }
  auto rowsFrom = [](Operand operand, int64_t first, int64_t count) {
    operand.rows = std::vector(operand.rows.begin() + first, operand.rows.begin() + first + count);
    return operand;
  };
  auto termsOf = [&](int64_t first, int64_t count) -> llvm::Expected<std::vector<Operand>> {
    std::vector<Operand> found, given;
    for (const RegionPointer &term : terms)
      found.push_back(rowsFrom(wholeOf(term), first, count));
    if (!found.empty())
      return found;
    for (const Operand &operand : operands)
      given.push_back(rowsFrom(operand, first, count));
    auto made = stream(body, given, count, columns);
    if (!made)
      return made.takeError();
    for (const RegionPointer &term : *made)
      found.push_back(wholeOf(term));
    if (count == rows) // what comes next would wait for their memory
      terms = std::move(*made);
    return found;
  };
  std::vector<BlockOpcode> operations;
  std::vector<ElementType> types;
  for (auto [number, write] : llvm::enumerate(kernel.writes)) {
    operations.push_back(*operationOf(write.combiner));
    types.push_back(terms.empty() ? body.instructions[body.results[number]].type : terms[number]->type);
  }
  auto packed = reduceLanes(operations, types, rows, superlanes, termsOf);
  if (!packed)
    return packed.takeError();
  std::vector<LaneForms> results;
  for (RegionPointer &each : *packed)
    results.push_back({std::move(each), nullptr, superlanes});
  return results;
}

llvm::Error CompilerState::reduceToForms(const Kernel &kernel, unsigned loop) {
  auto packed = reduceLastLanes(kernel, loop);
  if (!packed)
    return packed.takeError();
  if (packed->empty()) // products have done it
    return llvm::Error::success();
  for (auto [write, made] : llvm::zip(kernel.writes, *packed)) {
    RegionPointer &result = made.packed;
    ElementType type = result->type;
    BlockOpcode operation = *operationOf(write.combiner);
    if (write.initialScalar && write.initialScalar->bits != neutralBits(graph::combineOf(write.combiner), type)) {
      BlockExpression body;
      body.inputs = {type};
      Register sum = body.append(BlockOpcode::Input, type, {}, 0);
      Register start = body.append(BlockOpcode::Constant, type, {}, write.initialScalar->bits);
      body.results = {body.append(operation, type, {sum, start})};
      auto started = stream(body, {wholeOf(result)}, result->rows, result->columns);
      if (!started)
        return started.takeError();
      result = started->front();
    }
    forms[write.value] = made;
    if (!write.initial)
      continue;
    const Shape &shape = graph.values[write.value].shape;
    auto start = operandOf(kernel, *write.initial, std::vector<int64_t>(kernel.loops.size()), shape);
    if (!start)
      return start.takeError();
    auto matrix = matrixOfForms(write.value);
    if (!matrix)
      return matrix.takeError();
    auto started = stream(treeOf(operation, type, 2), {wholeOf(*matrix), *start}, rowsOf(shape), columnsOf(shape));
    if (!started)
      return started.takeError();
    forms[write.value] = {};
    regions[write.value] = started->front();
  }
  return llvm::Error::success();
}

} // namespace quadrille::tsp
