// Elementwise kernels, and reductions as one elementwise step for each point of the reduced loops.
#include "base/Error.h"
#include "graph/CombineOf.h"
#include "graph/KernelQueries.h"
#include "numerics/Convert.h"
#include "target/tsp/Compiler.h"
#include "target/tsp/CompilerState.h"
#include "target/tsp/Expand.h"
#include "target/tsp/Lower.h"
#include "target/tsp/Pack.h"

#include "llvm/ADT/STLExtras.h"

#include <cstring>

namespace quadrille::tsp {

using graph::Kernel;
using graph::KernelGraph;
using graph::Read;

namespace {

// The result's dimension of each loop; -1 of those that are reduced.
std::vector<int64_t> dimensionsOf(const Kernel &kernel) {
  std::vector<int64_t> dimensions(kernel.loops.size(), -1);
  for (auto [d, access] : llvm::enumerate(kernel.writes.front().map))
    if (!access.terms.empty())
      dimensions[access.terms[0].first] = static_cast<int64_t>(d);
  return dimensions;
}

// Whether the vector unit can do the expression wherever its operands and results lie: they can be moved to where
// this asks for them.
std::string whyNoChain(BlockExpression body, const Architecture &machine) {
  for (BlockInstruction &instruction : body.instructions)
    if (instruction.opcode == BlockOpcode::LoopIndex) { // stored as an operand
      instruction.opcode = BlockOpcode::Input;
      instruction.immediate = body.inputs.size();
      body.inputs.push_back(instruction.type);
    }
  return whyNoStages(foldConstants(expand(body)), machine);
}

BlockExpression combining(BlockOpcode operation, ElementType type) {
  BlockExpression body;
  body.inputs = {type, type};
  Register a = body.append(BlockOpcode::Input, type, {}, 0), b = body.append(BlockOpcode::Input, type, {}, 1);
  body.results = {body.append(operation, type, {a, b})};
  return body;
}

} // namespace

std::optional<BlockOpcode> operationOf(graph::Combiner combiner) {
  switch (combiner) {
  case graph::Combiner::Sum:
    return BlockOpcode::Add;
  case graph::Combiner::Product:
    return BlockOpcode::Multiply;
  case graph::Combiner::Minimum:
    return BlockOpcode::Minimum;
  case graph::Combiner::Maximum:
    return BlockOpcode::Maximum;
  case graph::Combiner::And:
    return BlockOpcode::And;
  case graph::Combiner::Or:
    return BlockOpcode::Or;
  case graph::Combiner::Xor:
    return BlockOpcode::Xor;
  default:
    return std::nullopt;
  }
}

std::string whyNot(const KernelGraph &graph, const Kernel &kernel, const Architecture &machine) {
  if (!kernel.structured()) {
    static const char *const moves[] = {"reshape", "concat", "insert_slice", "reverse"};
    if (isKnownMove(graph, kernel) || isComputedPick(graph, kernel))
      return "";
    return llvm::is_contained(moves, kernel.operation) ? "" : "'" + kernel.operation + "' is not compiled yet";
  }
  if (kernel.writes.empty())
    return "it has no result";
  for (const graph::Write &write : kernel.writes)
    if (write.map != kernel.writes.front().map)
      return "its results lie differently";
  if (isMatrixProduct(graph, kernel))
    return "";
  if (!graph::hasReduction(kernel.loops))
    return whyNoChain(kernel.body, machine);
  for (auto [i, write] : llvm::enumerate(kernel.writes)) {
    auto operation = operationOf(write.combiner);
    if (!operation)
      return "'" + graph::nameOf(write.combiner).str() + "' of elements is not compiled yet";
    if (std::string reason = whyNoChain(combining(*operation, graph.values[write.value].type), machine);
        !reason.empty())
      return reason;
  }
  return whyNoChain(kernel.body, machine);
}

llvm::Expected<Operand> CompilerState::operandOf(const Kernel &kernel, const Read &read, llvm::ArrayRef<int64_t> point,
                                                 const Shape &shape, bool mayMove) {
  const Shape &from = graph.values[read.value].shape;
  std::vector<int64_t> dimensions = dimensionsOf(kernel);
  // Index of each dimension: offset + sum over the result's dimensions.
  struct Linear {
    int64_t offset;
    std::vector<int64_t> steps;
  };
  std::vector<Linear> indices;
  for (const graph::DimensionAccess &access : read.map) {
    Linear index{access.offset, std::vector<int64_t>(shape.size())};
    for (auto [loop, coefficient] : access.terms)
      if (dimensions[loop] >= 0)
        index.steps[dimensions[loop]] += coefficient;
      else
        index.offset += coefficient * point[loop];
    indices.push_back(std::move(index));
  }
  auto reaches = [&](size_t d) { // the smallest and largest index
    int64_t low = indices[d].offset, high = low;
    for (size_t r = 0; r < shape.size(); ++r) {
      int64_t reach = indices[d].steps[r] * (shape[r] - 1);
      (reach < 0 ? low : high) += reach;
    }
    return std::pair(low, high);
  };
  int64_t columns = columnsOf(shape);
  size_t lastFrom = from.size() - 1, last = shape.size() - 1;
  Shape resultStrides = rowMajorStrides(shape), strides = rowMajorStrides(from);
  bool forAllLanes = true; // the same element for all lanes of a row
  for (size_t d = 0; d < from.size(); ++d) {
    auto [low, high] = reaches(d);
    forAllLanes &= low >= 0 && high < from[d] && (columns == 1 || indices[d].steps[last] == 0);
  }
  // To move each of many elements by a tile of its own would cost more than to spread them all.
  const graph::Value &source = graph.values[read.value];
  bool spreads = mayMove && columns > 1 && source.role != graph::ValueRole::Constant &&
                 columnsOf(from) > machine.lanes && columnsOf(from) <= machine.vectorBytes() &&
                 elementCount(from) <= rowsOf(shape);
  if (forAllLanes && (spreads || hasRowwise(read.value, columns))) {
    auto rowwise = rowwiseOf(read.value, columns);
    if (!rowwise)
      return rowwise.takeError();
    Operand operand{*rowwise, std::vector<int64_t>(rowsOf(shape))};
    for (auto [row, index] : llvm::enumerate(operand.rows))
      for (size_t d = 0; d < from.size(); ++d) {
        int64_t at = indices[d].offset;
        for (size_t r = 0; r + 1 < shape.size(); ++r)
          at += indices[d].steps[r] * (static_cast<int64_t>(row) * columns / resultStrides[r] % shape[r]);
        index += at * strides[d];
      }
    return operand;
  }
  auto region = regionOf(read.value);
  if (!region)
    return region.takeError();
  bool byRows = columnsOf(from) == columns;
  for (size_t d = 0; d < from.size(); ++d) {
    auto [low, high] = reaches(d);
    // Rows beyond the value are rows of padding.
    byRows &= (low >= 0 && high < from[d]) || (d != lastFrom && read.padding);
    if (!shape.empty() && columns > 1)
      byRows &= indices[d].steps[last] == (d == lastFrom ? 1 : 0);
    if (d == lastFrom)
      byRows &= indices[d].offset == 0;
  }
  if (!from.empty())
    for (size_t r = 0; r + 1 < shape.size(); ++r)
      byRows &= indices[lastFrom].steps[r] == 0 || shape[r] == 1;
  Operand operand;
  operand.rows.resize(rowsOf(shape));
  if (byRows) {
    for (auto [row, index] : llvm::enumerate(operand.rows)) {
      index = 0;
      bool inside = true;
      for (size_t d = 0; d + 1 < from.size(); ++d) {
        int64_t at = indices[d].offset;
        for (size_t r = 0; r + 1 < shape.size(); ++r)
          at += indices[d].steps[r] * (static_cast<int64_t>(row) * columns / resultStrides[r] % shape[r]);
        inside &= at >= 0 && at < from[d];
        index += at * strides[d] / columns;
      }
      if (!inside)
        index = -1;
    }
    operand.region = *region;
    operand.paddingBits = read.padding ? read.padding->bits : 0;
    return operand;
  }
  auto originIn = [&](const Shape &of, const Shape &stridesOf, int64_t element) -> ElementOrigin {
    int64_t index = 0;
    for (size_t d = 0; d < from.size(); ++d) {
      int64_t at = indices[d].offset;
      for (size_t r = 0; r < shape.size(); ++r)
        at += indices[d].steps[r] * (element / stridesOf[r] % of[r]);
      if (at < 0 || at >= from[d])
        return {};
      index += at * strides[d];
    }
    return {0, index};
  };
  auto originOf = [&](int64_t element) { return originIn(shape, resultStrides, element); };
  uint64_t padding = read.padding ? read.padding->bits : 0;
  // Rows that are the same along a dimension are there once, unless they would be read a few at a time.
  Shape distinct = shape;
  for (size_t r = 0; r + 1 < shape.size(); ++r) {
    int64_t inner = resultStrides[r] / columns;
    if ((inner == 1 ? shape[r] : inner) >= machine.lanes &&
        llvm::all_of(indices, [&](const Linear &index) { return index.steps[r] == 0; }))
      distinct[r] = 1;
  }
  Shape distinctStrides = rowMajorStrides(distinct);
  // A constant is laid out so when the program is made; one row, if it has the same for all.
  if (const graph::Value &value = graph.values[read.value]; value.role == graph::ValueRole::Constant) {
    int64_t rows = rowsOf(shape);
    auto sameRow = [&](int64_t row) {
      for (int64_t column = 0; column < columns; ++column)
        if (originOf(row * columns + column).index != originOf(column).index ||
            originOf(row * columns + column).source != originOf(column).source)
          return false;
      return true;
    };
    bool same = true;
    for (int64_t row = 1; row < rows && same; ++row)
      same = sameRow(row);
    auto made = laidOut(value, same ? 1 : rowsOf(distinct), columns, padding, [&](int64_t row, int64_t column) {
      ElementOrigin origin = originIn(distinct, distinctStrides, row * columns + column);
      return origin.source < 0 ? -1 : origin.index;
    });
    if (!made)
      return made.takeError();
    operand.region = *made;
    if (same)
      return operand;
  } else if (!mayMove) {
    return Operand();
  } else {
    auto routed = route({*region}, Region::of((*region)->type, rowsOf(distinct), columns, machine.vectorBytes()),
                        padding, [&](int64_t element) { return originIn(distinct, distinctStrides, element); });
    if (!routed)
      return routed.takeError();
    operand.region = *routed;
  }
  for (auto [row, index] : llvm::enumerate(operand.rows))
    for (size_t r = 0; r + 1 < shape.size(); ++r)
      if (distinct[r] > 1)
        index += static_cast<int64_t>(row) * columns / resultStrides[r] % shape[r] * distinctStrides[r] / columns;
  return operand;
}

// The numbers of loops, as operands: their values for each element of the result.
llvm::Expected<BlockExpression> CompilerState::withLoopNumbers(const Kernel &kernel, llvm::ArrayRef<int64_t> point,
                                                               const Shape &shape, std::vector<Operand> &operands) {
  BlockExpression body = kernel.body;
  std::vector<int64_t> dimensions = dimensionsOf(kernel);
  Shape strides = rowMajorStrides(shape);
  for (BlockInstruction &instruction : body.instructions) {
    if (instruction.opcode != BlockOpcode::LoopIndex)
      continue;
    auto loop = static_cast<size_t>(instruction.immediate);
    int64_t rows = rowsOf(shape), columns = columnsOf(shape), dimension = dimensions[loop];
    Tensor numbers = Tensor::uninitialized(instruction.type, {rows, columns});
    for (int64_t element = 0; element < rows * columns; ++element)
      numbers.mutableData<int32_t>()[element] =
          static_cast<int32_t>(dimension < 0 ? point[loop] : element / strides[dimension] % shape[dimension]);
    auto region = constantRegion("loop", instruction.type, rows, columns, numbers, {});
    if (!region)
      return region.takeError();
    instruction.opcode = BlockOpcode::Input;
    instruction.immediate = body.inputs.size();
    body.inputs.push_back(instruction.type);
    std::vector<int64_t> all(rows);
    for (auto [row, index] : llvm::enumerate(all))
      index = static_cast<int64_t>(row);
    operands.push_back({*region, std::move(all)});
  }
  return body;
}

llvm::Expected<Operand> CompilerState::packedOperandOf(const Kernel &kernel, const Read &read) {
  const graph::ValueId result = kernel.writes[0].value;
  const Shape &shape = graph.values[result].shape;
  const Packing &packing = packings[result];
  if (packing == plainPacking(shape))
    return operandOf(kernel, read, std::vector<int64_t>(kernel.loops.size()), shape);
  const graph::Value &value = graph.values[read.value];
  if (value.role != graph::ValueRole::Constant) {
    auto shifts = shiftsOf(graph, kernel, read);
    if (!shifts || packings[read.value] != packing)
      return internalError("operands of '" + kernel.operation + "' lie differently");
    auto region = regionOf(read.value);
    if (!region)
      return region.takeError();
    // Rows beyond the value are rows of padding.
    Operand operand = wholeOf(*region);
    operand.paddingBits = read.padding ? read.padding->bits : 0;
    for (int64_t &row : operand.rows) {
      int64_t left = row, stride = 1, from = 0;
      bool inside = true;
      for (size_t d = shape.size(); d-- > 0;) {
        int64_t outer = shape[d] / packing[d], at = left % outer + (*shifts)[d];
        inside &= at >= 0 && at < outer;
        from += at * stride;
        left /= outer;
        stride *= outer;
      }
      row = inside ? from : -1;
    }
    return operand;
  }
  // A constant is laid out as the result lies; one row, if it has the same for all.
  std::vector<int64_t> dimensions = dimensionsOf(kernel);
  Shape strides = rowMajorStrides(value.shape);
  std::vector<int64_t> steps(shape.size()); // elements of the constant
  for (unsigned loop = 0; loop < kernel.loops.size(); ++loop)
    if (dimensions[loop] >= 0)
      steps[dimensions[loop]] += graph::strideAlong(read.map, strides, loop);
  int64_t columns = lanesOf(packing), rows = elementCount(shape) / columns;
  bool same = true;
  for (size_t d = 0; d < shape.size(); ++d)
    same &= steps[d] == 0 || packing[d] == shape[d] || shape[d] == 1;
  auto elementOf = [&](int64_t row, int64_t column) {
    int64_t element = graph::baseOf(read.map, strides);
    for (size_t d = shape.size(); d-- > 0;) {
      int64_t outer = shape[d] / packing[d];
      element += (row % outer * packing[d] + column % packing[d]) * steps[d];
      row /= outer;
      column /= packing[d];
    }
    return element;
  };
  // Or few, where most rows hold the same.
  std::vector<int64_t> numbers(rows), distinct = {0};
  if (!same && value.data.valid()) {
    size_t width = byteWidth(value.type);
    const std::byte *bytes = value.data.bytes().data();
    auto areEqual = [&](int64_t a, int64_t b) {
      for (int64_t column = 0; column < columns; ++column)
        if (std::memcmp(bytes + elementOf(a, column) * width, bytes + elementOf(b, column) * width, width) != 0)
          return false;
      return true;
    };
    constexpr size_t few = 4;
    for (int64_t row = 0; row < rows && distinct.size() <= few; ++row) {
      auto known = llvm::find_if(distinct, [&](int64_t other) { return areEqual(other, row); });
      numbers[row] = known - distinct.begin();
      if (known == distinct.end())
        distinct.push_back(row);
    }
    same = distinct.size() <= few;
  }
  auto region = laidOut(value, same ? static_cast<int64_t>(distinct.size()) : rows, columns, 0,
                        [&](int64_t row, int64_t column) { return elementOf(same ? distinct[row] : row, column); });
  if (!region)
    return region.takeError();
  Operand operand = wholeOf(*region);
  if (same)
    operand.rows = std::move(numbers);
  return operand;
}

llvm::Error CompilerState::map(const Kernel &kernel) {
  // Where several indices of other dimensions share a vector, all operands lie as the result does.
  const graph::ValueId result = kernel.writes[0].value;
  if (const Packing &packing = packings[result]; packing != plainPacking(graph.values[result].shape)) {
    std::vector<Operand> operands;
    for (const Read &read : kernel.reads) {
      auto operand = packedOperandOf(kernel, read);
      if (!operand)
        return operand.takeError();
      operands.push_back(std::move(*operand));
    }
    int64_t rows = elementCount(graph.values[result].shape) / lanesOf(packing);
    auto made = stream(kernel.body, operands, rows, lanesOf(packing), isOutput[result] ? 0 : copiesOf[result],
                       /*segments=*/!isOutput[result], result);
    if (!made)
      return made.takeError();
    regions[result] = made->front();
    return llvm::Error::success();
  }
  auto packed = mapPacked(kernel);
  if (!packed)
    return packed.takeError();
  if (*packed)
    return llvm::Error::success();
  const Shape &shape = graph.values[kernel.writes[0].value].shape;
  std::vector<int64_t> origin(kernel.loops.size());
  std::vector<Operand> operands;
  for (const Read &read : kernel.reads) {
    auto operand = operandOf(kernel, read, origin, shape);
    if (!operand)
      return operand.takeError();
    operands.push_back(std::move(*operand));
  }
  // What only passes on whole rows in their order stays where it is.
  if (kernel.body.isIdentity() && operands.size() == 1) {
    Operand whole = wholeOf(operands[0].region);
    if (operands[0].region->columns == columnsOf(shape) && operands[0].rows == whole.rows) {
      regions[kernel.writes[0].value] = operands[0].region;
      return llvm::Error::success();
    }
  }
  auto body = withLoopNumbers(kernel, origin, shape, operands);
  if (!body)
    return body.takeError();
  const graph::ValueId written = kernel.writes[0].value;
  auto results = stream(*body, operands, rowsOf(shape), columnsOf(shape), isOutput[written] ? 0 : copiesOf[written],
                        /*segments=*/!isOutput[written], written);
  if (!results)
    return results.takeError();
  for (auto [write, region] : llvm::zip(kernel.writes, *results))
    regions[write.value] = region;
  return llvm::Error::success();
}

llvm::Error CompilerState::reduce(const Kernel &kernel) {
  if (auto loop = laneLoopOf(kernel))
    return reduceToForms(kernel, *loop);
  auto results = reduceRows(kernel, graph.values[kernel.writes[0].value].shape);
  if (!results)
    return results.takeError();
  for (auto [write, region] : llvm::zip(kernel.writes, *results))
    regions[write.value] = region;
  return llvm::Error::success();
}

} // namespace quadrille::tsp
