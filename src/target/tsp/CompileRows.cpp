// Rows of a matrix picked by computed numbers (embeddings), by the memory's own gathers; and the way of a vector's
// elements from lanes into rows.
#include "base/Error.h"
#include "graph/KernelQueries.h"
#include "target/tsp/CompilerState.h"
#include "target/tsp/Lower.h"

#include "llvm/ADT/STLExtras.h"

#include <cstring>

namespace quadrille::tsp {

using graph::Kernel;

// Each element alone in a row, all other lanes zero, times a tile of ones: a byte is the sum of itself and zeros, in
// every lane.
llvm::Expected<RegionPointer> CompilerState::spreadElements(const RegionPointer &matrix) {
  int64_t vector = machine.vectorBytes(), rows = matrix->rows * matrix->columns, columns = matrix->columns;
  RegionPointer &choices = ownLanes[columns];
  if (!choices) {
    Tensor own = Tensor::zeros(ElementType::boolean, {columns, columns});
    for (int64_t lane = 0; lane < columns; ++lane)
      own.mutableBytes()[lane * columns + lane] = std::byte(1);
    auto made = constantRegion("own lane", ElementType::boolean, columns, columns, std::move(own), {matrix.get()});
    if (!made)
      return made.takeError();
    choices = *made;
  }
  WeightBlocks &ones = onesTiles[columns];
  if (!ones.region) {
    Tensor tile = Tensor::uninitialized(ElementType::u8, {columns, vector});
    std::memset(tile.mutableBytes(), 1, tile.byteSize());
    auto made = weightsOf("ones", std::move(tile), columns);
    if (!made)
      return made.takeError();
    ones = *made;
  }
  Operand elements{matrix, std::vector<int64_t>(rows)}, lanes{choices, std::vector<int64_t>(rows)};
  for (int64_t row = 0; row < rows; ++row) {
    elements.rows[row] = row / columns;
    lanes.rows[row] = row % columns;
  }
  BlockExpression body;
  body.inputs = {matrix->type, ElementType::boolean};
  Register value = body.append(BlockOpcode::Input, matrix->type, {}, 0);
  Register own = body.append(BlockOpcode::Input, ElementType::boolean, {}, 1);
  Register zero = body.append(BlockOpcode::Constant, matrix->type, {}, 0);
  body.results = {body.append(BlockOpcode::Select, matrix->type, {own, value, zero})};
  auto alone = stream(body, {elements, lanes}, rows, columns);
  if (!alone)
    return alone.takeError();
  Region &from = *alone->front();
  Region shape = Region::of(matrix->type, rows, 1, vector);
  shape.uniformLanes = vector;
  auto to = allocate(shape, {&from});
  if (!to)
    return to.takeError();
  MatrixUnit unit{static_cast<unsigned>(matrixTurn++ % machine.hemispheres), 0};
  install(unit, ones, ProductType::U8);
  for (int64_t byte = 0; byte < from.bytes(); ++byte)
    for (int64_t row = 0; row < rows;) {
      int64_t count = std::min(rows - row, machine.repeatMaximum + 1);
      count = std::min(from.together(row, 1, count), (*to)->together(row, 1, count));
      ProductRun run;
      run.from = &from;
      run.fromByte = byte;
      run.fromRow = row;
      run.to = to->get();
      run.toByte = byte;
      run.toRow = row;
      run.count = count;
      run.mode = static_cast<uint8_t>(AccumulateMode::Pass);
      multiply(unit, run);
      row += count;
    }
  return *to;
}

// Word numbers as memory takes them: for each index the row counted from `base`, below `rows`, in the lanes that hold a
// number's bytes.
llvm::Expected<RegionPointer> CompilerState::wordNumbers(const RegionPointer &indices, int64_t extent, int64_t base,
                                                         int64_t rows) {
  constexpr ElementType i32 = ElementType::i32;
  int64_t vector = machine.vectorBytes();
  // Where in its number each lane's byte stands, in bits.
  Tensor shifts = Tensor::zeros(i32, {1, vector});
  for (int64_t lane = 0; lane < vector; ++lane)
    shifts.mutableData<int32_t>()[lane] = static_cast<int32_t>(lane % machine.lanes % machine.gatherAddressBytes * 8);
  auto shift = constantRegion("byte of a number", i32, 1, vector, std::move(shifts), {indices.get()});
  if (!shift)
    return shift.takeError();
  Operand bits{*shift, std::vector<int64_t>(indices->rows)};
  BlockExpression body;
  body.inputs = {i32, i32};
  Register given = body.append(BlockOpcode::Input, i32, {}, 0), places = body.append(BlockOpcode::Input, i32, {}, 1);
  auto constant = [&](int64_t value) {
    return body.append(BlockOpcode::Constant, i32, {}, static_cast<uint32_t>(value));
  };
  Register number = wrappedIndex(body, given, extent);
  number = body.append(BlockOpcode::Subtract, i32, {number, constant(base)});
  number = body.append(BlockOpcode::Maximum, i32, {number, constant(0)});
  number = body.append(BlockOpcode::Minimum, i32, {number, constant(rows - 1)});
  number = body.append(BlockOpcode::ShiftRight, i32, {number, places});
  body.results = {body.append(BlockOpcode::Convert, ElementType::u8, {number})};
  auto made = stream(body, {wholeOf(indices), bits}, indices->rows, vector);
  if (!made)
    return made.takeError();
  return made->front();
}

Register CompilerState::wrappedIndex(BlockExpression &body, Register index, int64_t extent) {
  ElementType i32 = ElementType::i32;
  Register zero = body.append(BlockOpcode::Constant, i32, {}, 0);
  Register whole = body.append(BlockOpcode::Constant, i32, {}, static_cast<uint32_t>(extent));
  Register fromEnd = body.append(BlockOpcode::Less, ElementType::boolean, {index, zero});
  Register added = body.append(BlockOpcode::Select, i32, {fromEnd, whole, zero});
  return body.append(BlockOpcode::Add, i32, {index, added});
}

llvm::Error CompilerState::pickRows(const Kernel &kernel) {
  graph::ValueId table = kernel.reads[0].value, to = kernel.writes[0].value;
  const graph::Value &data = graph.values[table];
  int64_t extent = data.shape[0], columns = columnsOf(data.shape),
          count = elementCount(graph.values[kernel.reads[1].value].shape);
  auto indices = rowwiseOf(kernel.reads[1].value, machine.vectorBytes());
  if (!indices)
    return indices.takeError();
  // A table that no bank holds is cut into parts of its rows, which lie in either hemisphere.
  std::vector<std::pair<int64_t, RegionPointer>> tables; // by first row
  int64_t most = machine.words / Region::of(data.type, extent, columns, machine.vectorBytes()).pieces;
  if (regions[table] || data.role != graph::ValueRole::Constant || extent <= most) {
    auto whole = regionOf(table);
    if (!whole)
      return whole.takeError();
    tables.emplace_back(0, *whole);
  } else {
    for (int64_t base = 0; base < extent; base += most) {
      int64_t rows = std::min(most, extent - base);
      size_t width = byteWidth(data.type) * static_cast<size_t>(columns);
      Tensor part;
      if (data.data.valid())
        part = Tensor::borrow(
            data.type, {rows, columns},
            data.data.bytes().slice(static_cast<size_t>(base) * width, static_cast<size_t>(rows) * width),
            std::make_shared<Tensor>(data.data));
      auto region = constantRegion(data.name, data.type, rows, columns, std::move(part), {indices->get()});
      if (!region)
        return region.takeError();
      tables.emplace_back(base, *region);
    }
  }
  // Each segment is asked for every index, and gives some row where another one has it.
  struct Part {
    int64_t base;
    RegionPointer picked;
  };
  std::vector<Part> parts;
  auto pick = [&](int64_t first, const RegionPointer &whole, int64_t segment) -> llvm::Error {
    Region from = *whole;
    int64_t base = first + segment * from.rowsOfSegment(), slices = from.bytes();
    if (from.segmentRows) {
      from.slices.assign(whole->slices.begin() + segment * slices, whole->slices.begin() + (segment + 1) * slices);
      from.rows = std::min(from.segmentRows, from.rows - segment * from.segmentRows);
    }
    from.hemisphere = from.slices[0].hemisphere;
    auto numbers = wordNumbers(*indices, extent, base, from.rows);
    if (!numbers)
      return numbers.takeError();
    unsigned opposite = from.hemisphere == west ? east : west;
    if ((*numbers)->hemisphere != opposite) {
      auto copy = copyOf(*numbers, {&from}, opposite);
      if (!copy)
        return copy.takeError();
      numbers = *copy;
    }
    auto picked = allocate(Region::of(data.type, count, columns, machine.vectorBytes()), {&from, numbers->get()});
    if (!picked)
      return picked.takeError();
    auto zero = splatRegion(ElementType::u8, 0, {&from, numbers->get(), picked->get()}, std::nullopt);
    if (!zero)
      return zero.takeError();
    for (int64_t piece = 0; piece < from.pieces; ++piece)
      gatherRows(from, piece, **numbers, **zero, **picked, piece, 0);
    whole->lastRead = std::max(whole->lastRead, from.lastRead);
    parts.push_back({base, *picked});
    return llvm::Error::success();
  };
  for (const auto &[first, whole] : tables)
    for (int64_t segment = 0; segment < whole->segments(); ++segment)
      if (llvm::Error error = pick(first, whole, segment))
        return error;
  if (parts.size() == 1) {
    regions[to] = parts[0].picked;
    return llvm::Error::success();
  }
  // Of parts that begin at or below the index the last one has it.
  BlockExpression body;
  Register number = 0, result = 0;
  std::vector<Operand> operands = {wholeOf(*indices)};
  body.inputs = {ElementType::i32};
  number = wrappedIndex(body, body.append(BlockOpcode::Input, ElementType::i32, {}, 0), extent);
  for (const Part &part : parts) {
    operands.push_back(wholeOf(part.picked));
    body.inputs.push_back(data.type);
    Register picked = body.append(BlockOpcode::Input, data.type, {}, body.inputs.size() - 1);
    if (part.base == 0) {
      result = picked;
      continue;
    }
    Register base = body.append(BlockOpcode::Constant, ElementType::i32, {}, static_cast<uint32_t>(part.base));
    Register before = body.append(BlockOpcode::Less, ElementType::boolean, {number, base});
    result = body.append(BlockOpcode::Select, data.type, {before, result, picked});
  }
  body.results = {result};
  auto made = stream(body, operands, count, columns);
  if (!made)
    return made.takeError();
  regions[to] = made->front();
  return llvm::Error::success();
}

} // namespace quadrille::tsp
