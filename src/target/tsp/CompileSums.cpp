// Sums over lanes as products with ones. The matrix unit multiplies f16, so each term is cut into two of them: a
// multiple of a power of two, and what is left of it. Both go through tiles of ones in the same sums, which then are in
// every lane of a row of their own, and the next kernels' arithmetic can follow at once.
#include "base/Error.h"
#include "graph/KernelQueries.h"
#include "numerics/Convert.h"
#include "target/tsp/CompilerState.h"
#include "target/tsp/Lower.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>
#include <cstring>

namespace quadrille::tsp {

using graph::Kernel;

namespace {
constexpr ElementType f32 = ElementType::f32, f16 = ElementType::f16;
constexpr double largestHalf = 65504;
// What is left is taken so many times, which keeps small terms from being subnormal.
constexpr int lowerShift = 10;

// Whether the body only widens an f16.
bool isHalf(const BlockExpression &body) {
  const BlockInstruction &result = body.instructions[body.results[0]];
  return result.opcode == BlockOpcode::Convert && result.type == f32 &&
         body.instructions[result.operands[0]].opcode == BlockOpcode::Input &&
         body.instructions[result.operands[0]].type == f16;
}
} // namespace

// The upper part in multiples of 2^shift, and what is left. Of terms beyond 2^17 that is more than f16 holds: they have
// the upper part's 11 bits, as those that are too small for it have the lower part's. Terms beyond what the upper part
// can be are infinite there; `marked`: and no number in the lower one.
BlockExpression CompilerState::halvesOf(BlockExpression body, int64_t shift, bool marked) {
  Register term = body.results[0];
  auto constant = [&](double value) { return body.append(BlockOpcode::Constant, f32, {}, bitsFromDouble(f32, value)); };
  auto power = [&](int64_t exponent) { return constant(std::ldexp(1.0, static_cast<int>(exponent))); };
  Register scaled = shift == 0 ? term : body.append(BlockOpcode::Multiply, f32, {term, power(-shift)});
  Register upper = body.append(BlockOpcode::Convert, f16, {scaled});
  Register whole = body.append(BlockOpcode::Convert, f32, {upper});
  Register rest = body.append(BlockOpcode::Subtract, f32, {scaled, whole});
  rest = body.append(BlockOpcode::Multiply, f32, {rest, power(shift + lowerShift)});
  if (shift != 0) {
    rest = body.append(BlockOpcode::Minimum, f32, {rest, constant(largestHalf)});
    rest = body.append(BlockOpcode::Maximum, f32, {rest, constant(-largestHalf)});
  }
  if (shift != 0 && marked)
    rest = body.append(BlockOpcode::Add, f32, {rest, body.append(BlockOpcode::Multiply, f32, {whole, constant(0)})});
  body.results = {upper, body.append(BlockOpcode::Convert, f16, {rest})};
  return body;
}

llvm::Expected<std::vector<WeightBlocks>> CompilerState::equalTile(double weight, int64_t height, unsigned hemisphere) {
  uint64_t bits = bitsFromDouble(f16, weight);
  std::vector<WeightBlocks> &known = equalTiles[{bits, height, hemisphere}];
  for (int64_t byte = static_cast<int64_t>(known.size()); byte < static_cast<int64_t>(byteWidth(f16)); ++byte) {
    Tensor rows = Tensor::uninitialized(ElementType::u8, {height, machine.vectorBytes()});
    std::memset(rows.mutableBytes(), static_cast<int>(bits >> 8 * byte & 0xff), rows.byteSize());
    auto tile = weightsOf("ones", std::move(rows), height, hemisphere);
    if (!tile)
      return tile.takeError();
    known.push_back(*tile);
  }
  return known;
}

// The elementwise kernels that alone read a sum, and nothing else but scalars that are known: the product's body does
// what they do. Returns the value that then is its result.
graph::ValueId CompilerState::followSum(const Kernel &kernel, TapProduct &product,
                                        std::vector<const Kernel *> &followers) {
  graph::ValueId value = kernel.writes[0].value;
  while (readers[value] == 1 && !isOutput[value]) {
    size_t number = uses.readers[value][0];
    if (number >= part.end || !graph::isElementwise(graph.kernels[number]))
      break;
    const Kernel &next = graph.kernels[number];
    const graph::Write &write = next.writes[0];
    bool can = elementCount(graph.values[write.value].shape) == elementCount(graph.values[value].shape);
    std::vector<Register> inputs;
    for (const graph::Read &read : next.reads) {
      const graph::Value &of = graph.values[read.value];
      if (read.value == value) {
        Shape strides = rowMajorStrides(of.shape), written = rowMajorStrides(graph.values[write.value].shape);
        can &= !read.padding && graph::baseOf(read.map, strides) == 0;
        for (unsigned loop = 0; loop < next.loops.size(); ++loop)
          can &= next.loops[loop].extent == 1 ||
                 graph::strideAlong(read.map, strides, loop) == graph::strideAlong(write.map, written, loop);
        inputs.push_back(product.body.results[0]);
      } else if (of.role == graph::ValueRole::Constant && of.data.valid() && elementCount(of.shape) == 1 &&
                 of.type == f32) {
        uint32_t bits = 0;
        std::memcpy(&bits, of.data.bytes().data(), sizeof(bits));
        inputs.push_back(product.body.append(BlockOpcode::Constant, f32, {}, bits));
      } else {
        can = false;
      }
    }
    if (!can || graph::readsLoopNumbers(next))
      break;
    product.body.results = product.body.append(next.body, inputs);
    followers.push_back(&next);
    value = write.value;
  }
  return value;
}

// The elementwise kernel that alone reads such a value, in all lanes of each row, and nothing that is not there: the
// product's body does what it does. Null: there is none.
llvm::Expected<const Kernel *> CompilerState::followInRows(graph::ValueId value, TapProduct &product, int64_t rows) {
  const Kernel *none = nullptr;
  if (readers[value] != 1 || isOutput[value] || uses.readers[value][0] >= part.end)
    return none;
  const Kernel &next = graph.kernels[uses.readers[value][0]];
  if (!graph::isElementwise(next) || graph::readsLoopNumbers(next))
    return none;
  const graph::Write &write = next.writes[0];
  const Shape &shape = graph.values[write.value].shape;
  if (columnsOf(shape) > machine.vectorBytes() || columnsOf(shape) < 2 || rowsOf(shape) != rows ||
      packings[write.value] != plainPacking(shape))
    return none;
  std::vector<Register> inputs;
  std::vector<int64_t> origin(next.loops.size());
  for (const graph::Read &read : next.reads) {
    if (read.value == value) {
      // The element of each row.
      Shape strides = rowMajorStrides(graph.values[value].shape), written = rowMajorStrides(shape);
      bool own = !read.padding && graph::baseOf(read.map, strides) == 0;
      for (unsigned loop = 0; loop < next.loops.size(); ++loop)
        own &= next.loops[loop].extent == 1 || graph::strideAlong(read.map, strides, loop) ==
                                                   graph::strideAlong(write.map, written, loop) / columnsOf(shape);
      if (!own)
        return none;
      inputs.push_back(product.body.results[0]);
      continue;
    }
    bool there = regions[read.value] || graph.values[read.value].role == graph::ValueRole::Constant;
    auto operand = there ? operandOf(next, read, origin, shape, /*mayMove=*/false) : llvm::Expected<Operand>(Operand());
    if (!operand)
      return operand.takeError();
    if (!operand->region)
      return none;
    ElementType type = operand->region->type;
    inputs.push_back(product.body.append(BlockOpcode::Input, type, {}, product.body.inputs.size()));
    product.body.inputs.push_back(type);
    product.operands.push_back(std::move(*operand));
  }
  product.body.results = product.body.append(next.body, inputs);
  return &next;
}

// Both parts of all terms, those of the upper one first; null: there is no room.
llvm::Expected<RegionPointer> CompilerState::cutTerms(BlockExpression body, const std::vector<Operand> &operands,
                                                      int64_t shift, int64_t rows, int64_t columns, bool &marked) {
  // How many chains find units beside each other; none if it is not one chain.
  auto chainsOf = [&](bool marked) -> int64_t {
    std::string reason;
    BlockExpression halves = halvesOf(body, shift, marked);
    auto stages = splitIntoStages(foldConstants(expand(halves)), machine, reason);
    return stages && stages->list.size() == 1 ? machine.alus / std::max<int64_t>(alusOf(halves), 1) : 0;
  };
  BlockExpression halves;
  std::vector<Operand> given = operands;
  int64_t chains = chainsOf(false);
  marked = chains == 0 || chainsOf(true) == chains;
  if (chains == 0) {
    auto terms = stream(body, operands, rows, columns);
    if (!terms)
      return terms.takeError();
    BlockExpression term;
    term.inputs = {f32};
    term.results = {term.append(BlockOpcode::Input, f32, {}, 0)};
    halves = foldConstants(expand(halvesOf(std::move(term), shift, marked)));
    given = {wholeOf(terms->front())};
  } else {
    halves = halvesOf(std::move(body), shift, marked);
    given = mergeReads(halves, operands);
    halves = foldConstants(expand(halves));
  }
  // Twice for planes that read them at the same time, if there is room.
  RegionPointer both;
  for (int64_t copies : {1, 0}) {
    auto parts = streamStage(halves, given, rows, columns, copies, /*segments=*/true, {}, &both);
    if (!parts)
      return parts.takeError();
    if (!parts->empty())
      break;
    both = nullptr;
  }
  return both;
}

llvm::Expected<bool> CompilerState::sumByProduct(const Kernel &kernel, BlockExpression body,
                                                 const std::vector<Operand> &operands, int64_t rows, int64_t columns) {
  // Few rows go through the switch unit sooner.
  constexpr int64_t fewRows = 32;
  auto shift = graph::integerAttribute(kernel, termsOfSum);
  const graph::Write &write = kernel.writes[0];
  if (!shift || kernel.writes.size() != 1 || write.combiner != graph::Combiner::Sum || write.initial ||
      (write.initialScalar && write.initialScalar->bits != 0) || body.instructions[body.results[0]].type != f32 ||
      rows < fewRows || columns > machine.vectorBytes() || machine.f16Columns < machine.vectorBytes() ||
      2 * rows > machine.words)
    return false;
  // Terms of f16 are multiplied as they are.
  bool already = *shift == 0 && operands.size() == 1 && isHalf(body) && operands[0].region->type == f16 &&
                 operands[0].region->pieces == 1 && operands[0].region->columns == columns &&
                 operands[0].rows == wholeOf(operands[0].region).rows;
  bool marked = already;
  auto terms = already ? llvm::Expected<RegionPointer>(operands[0].region)
                       : cutTerms(std::move(body), operands, *shift, rows, columns, marked);
  if (!terms || !*terms)
    return terms ? llvm::Expected<bool>(false) : terms.takeError();

  TapPlan plan;
  plan.taps = {{TapPlan::Taps()}};
  plan.resultColumns = machine.vectorBytes();
  TapPlan::Batch &batch = plan.batches.emplace_back();
  for (int64_t row = 0; row < rows; ++row)
    batch.resultRows.push_back(static_cast<int32_t>(row));
  for (int64_t half = 0; half < (already ? 1 : 2); ++half)
    for (int64_t lane = 0; lane < columns; lane += machine.f16Rows) {
      TapPlan::Pass &pass = batch.passes.emplace_back();
      pass.lane = lane;
      pass.height = std::min(machine.f16Rows, columns - lane);
      for (int64_t row = 0; row < rows; ++row)
        pass.rows.push_back(static_cast<int32_t>(half * rows + row));
    }
  TapProduct product;
  product.plan = &plan;
  product.lhs = *terms;
  product.tilesAreThere = true;
  // What a weight of f16 cannot be the sums are multiplied by.
  constexpr int64_t mostShift = 15;
  int64_t behind = std::max<int64_t>(*shift - mostShift, 0);
  product.tilesOf = [&](const TapPlan::Batch &, const TapPlan::Pass &pass, int64_t, int64_t, MatrixUnit unit) {
    int64_t exponent = (pass.rows[0] < rows ? *shift : -lowerShift) - behind;
    return equalTile(std::ldexp(1.0, static_cast<int>(exponent)), pass.height, unit.hemisphere);
  };
  product.body.inputs = {f32};
  Register sum = product.body.append(BlockOpcode::Input, f32, {}, 0);
  if (behind != 0) {
    uint64_t factor = bitsFromDouble(f32, std::ldexp(1.0, static_cast<int>(behind)));
    sum = product.body.append(BlockOpcode::Multiply, f32,
                              {sum, product.body.append(BlockOpcode::Constant, f32, {}, factor)});
  }
  // Infinity comes of terms that the parts cannot have. The inverse of its root, 0, would be taken for a result.
  if (*shift != 0 && !marked)
    sum =
        product.body.append(BlockOpcode::Add, f32, {sum, product.body.append(BlockOpcode::Subtract, f32, {sum, sum})});
  product.body.results = {sum};
  product.operands.push_back({});
  products = ElementType::f16;
  auto finish = [&](TapProduct with, graph::ValueId value) -> llvm::Expected<bool> {
    with.value = value;
    auto made = streamTaps(with);
    if (!made || !*made)
      return made ? llvm::Expected<bool>(false) : made.takeError();
    (*made)->uniformLanes = machine.vectorBytes();
    forms[value] = {nullptr, *made, 0};
    return true;
  };
  TapProduct longer = product;
  std::vector<const Kernel *> followers;
  graph::ValueId last = followSum(kernel, longer, followers);
  TapProduct inRows = longer;
  auto next = followInRows(last, inRows, rows);
  if (!next)
    return next.takeError();
  if (*next) {
    TapPlan narrow = plan;
    graph::ValueId written = (*next)->writes[0].value;
    narrow.resultColumns = columnsOf(graph.values[written].shape);
    inRows.plan = &narrow;
    inRows.value = written;
    inRows.isOutput = isOutput[written];
    inRows.copies = isOutput[written] ? 0 : copiesOf[written];
    auto made = streamTaps(inRows);
    if (!made)
      return made.takeError();
    if (*made) {
      regions[written] = *made;
      llvm::append_range(done, followers);
      done.push_back(*next);
      return true;
    }
  }
  if (!followers.empty()) {
    auto made = finish(std::move(longer), last);
    if (!made || *made) {
      llvm::append_range(done, followers);
      return made;
    }
  }
  return finish(std::move(product), write.value);
}

} // namespace quadrille::tsp
