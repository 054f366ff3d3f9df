// Rows of a matrix picked by computed numbers (embeddings), by the memory's own gathers; and the way of a vector's
// elements from lanes into rows.
#include "base/Error.h"
#include "graph/KernelQueries.h"
#include "target/tsp/CompilerState.h"
#include "target/tsp/Lower.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/MathExtras.h"

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
  auto alone = stream(body, {elements, lanes}, rows, columns, 0, /*segments=*/true);
  if (!alone)
    return alone.takeError();
  Region &from = *alone->front();
  Region shape = Region::of(matrix->type, rows, 1, vector);
  shape.uniformLanes = vector;
  auto to = allocate(shape, {&from});
  if (!to)
    return to.takeError();
  // Each byte through a plane of its own, as far as there are any.
  std::vector<MatrixUnit> units;
  for (int64_t plane = 0; plane < machine.planes; ++plane)
    for (unsigned side = 0; side < machine.hemispheres; ++side)
      units.push_back({static_cast<unsigned>((matrixTurn + side) % machine.hemispheres), plane});
  units.resize(std::min<size_t>(units.size(), from.bytes()));
  ++matrixTurn;
  for (MatrixUnit unit : units)
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
      multiply(units[byte % units.size()], run);
      row += count;
    }
  return *to;
}

// Word numbers as memory takes them: for each index the row counted from `base`, below `rows`, in the lanes that hold a
// number's bytes. Without a base they are counted from the next lower multiple of `rows`.
llvm::Expected<RegionPointer> CompilerState::wordNumbers(const RegionPointer &indices, int64_t extent,
                                                         std::optional<int64_t> base, int64_t rows) {
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
  if (base) {
    number = body.append(BlockOpcode::Subtract, i32, {number, constant(*base)});
    number = body.append(BlockOpcode::Maximum, i32, {number, constant(0)});
    number = body.append(BlockOpcode::Minimum, i32, {number, constant(rows - 1)});
  } else {
    number = body.append(BlockOpcode::And, i32, {number, constant(rows - 1)});
  }
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
  int64_t extent = data.shape[0], columns = columnsOf(data.shape);
  auto indices = rowwiseOf(kernel.reads[1].value, machine.vectorBytes());
  if (!indices)
    return indices.takeError();
  // Each part is asked for every index, and gives some row where another one has it.
  auto parts = tableParts(table, **indices);
  if (!parts)
    return parts.takeError();
  if (llvm::Error error = gatherParts(*parts, *indices, extent))
    return error;
  auto chosen = choosePart(*parts, *indices, extent, columns);
  if (!chosen)
    return chosen.takeError();
  regions[to] = *chosen;
  return llvm::Error::success();
}

// What each memory bank can be asked for: all rows, or parts of them that lie in either hemisphere.
llvm::Expected<std::vector<CompilerState::TablePart>> CompilerState::tableParts(graph::ValueId table,
                                                                                const Region &indices) {
  const graph::Value &data = graph.values[table];
  int64_t extent = data.shape[0], columns = columnsOf(data.shape);
  int64_t most =
      std::max<int64_t>(machine.words / Region::of(data.type, extent, columns, machine.vectorBytes()).pieces, 1);
  std::vector<TablePart> parts;
  auto addSegments = [&](int64_t base, const RegionPointer &whole) {
    for (int64_t segment = 0; segment < whole->segments(); ++segment)
      parts.push_back({base + segment * whole->rowsOfSegment(), segmentsOf(whole, segment, 1), nullptr, nullptr});
  };
  if (regions[table] || data.role != graph::ValueRole::Constant || extent <= most) {
    auto whole = regionOf(table);
    if (!whole)
      return whole.takeError();
    addSegments(0, *whole);
    return parts;
  }
  // Those that are gathered from at the same time lie in slices of their own, where there is room.
  std::vector<const Region *> others = {&indices};
  size_t together = machine.hemispheres * gatheredTogether(data.type);
  auto apartFrom = [&](llvm::ArrayRef<RegionPointer> before) {
    std::vector<const Region *> clear = others;
    for (const RegionPointer &part : before.take_back(std::min(before.size(), together - 1)))
      clear.push_back(part.get());
    return clear;
  };
  // A word that something else has used in each bank leaves room for shorter parts.
  auto fit = [&](int64_t rows) {
    Placement trial = placement;
    std::vector<RegionPointer> made;
    for (int64_t base = 0; base < extent; base += rows) {
      Region shape = Region::of(data.type, rows, columns, machine.vectorBytes());
      RegionPointer part = trial.allocate(shape, apartFrom(made), std::nullopt, false, /*initial=*/true);
      if (!part)
        part = trial.allocate(shape, others, std::nullopt, false, /*initial=*/true);
      if (!part)
        return false;
      made.push_back(std::move(part));
    }
    return true;
  };
  constexpr int64_t mostCuts = 8; // of a bank: each part takes a gather and a choice for every index
  for (int64_t rows = most; rows >= std::max<int64_t>(most / mostCuts, 1); rows /= 2)
    if (fit(rows)) {
      most = rows;
      break;
    }
  std::vector<RegionPointer> made;
  for (int64_t base = 0; base < extent; base += most) {
    int64_t rows = std::min(most, extent - base);
    size_t width = byteWidth(data.type) * static_cast<size_t>(columns);
    Tensor part;
    llvm::ArrayRef<std::byte> bytes;
    if (data.data.valid()) {
      bytes = data.data.bytes().slice(static_cast<size_t>(base) * width, static_cast<size_t>(rows) * width);
      part = Tensor::borrow(data.type, {rows, columns}, bytes, std::make_shared<Tensor>(data.data));
    }
    // The last part is as long as the others, where that saves numbers of its own for it.
    if (rows < most && llvm::isPowerOf2_64(static_cast<uint64_t>(most))) {
      if (part.valid()) {
        part = Tensor::zeros(data.type, {most, columns});
        std::memcpy(part.mutableBytes(), bytes.data(), bytes.size());
      }
      rows = most;
    }
    auto region = constantRegion(data.name, data.type, rows, columns, part, apartFrom(made));
    if (!region) {
      llvm::consumeError(region.takeError());
      noRoom.reset();
      region = constantRegion(data.name, data.type, rows, columns, part, others);
    }
    if (!region)
      return region.takeError();
    addSegments(base, *region);
    made.push_back(*region);
  }
  return parts;
}

size_t CompilerState::gatheredTogether(ElementType type) const {
  return static_cast<size_t>(std::max<int64_t>(machine.distributeStreams / static_cast<int64_t>(byteWidth(type)), 1));
}

llvm::Error CompilerState::gatherParts(llvm::MutableArrayRef<TablePart> parts, const RegionPointer &indices,
                                       int64_t extent) {
  // Parts of 2^n rows each want the same numbers.
  int64_t rows = parts[0].table->rows;
  bool alike = parts.size() > 1 && llvm::isPowerOf2_64(static_cast<uint64_t>(rows));
  for (auto [number, part] : llvm::enumerate(parts))
    alike &= part.base == static_cast<int64_t>(number) * rows;
  std::map<std::pair<int64_t, unsigned>, RegionPointer> known; // by base, -1 for all, and hemisphere
  auto numbersFor = [&](const TablePart &part) -> llvm::Expected<RegionPointer> {
    const Region &from = *part.table;
    unsigned opposite = from.hemisphere == west ? east : west;
    int64_t key = alike && from.rows == rows ? -1 : part.base;
    RegionPointer &here = known[{key, opposite}], &there = known[{key, from.hemisphere}];
    if (here && !here->sharesSlices(from))
      return here;
    if (!there) {
      auto made = wordNumbers(indices, extent, key < 0 ? std::nullopt : std::optional(part.base), from.rows);
      if (!made)
        return made.takeError();
      RegionPointer &place = (*made)->hemisphere == opposite ? here : there;
      place = *made;
      if (here)
        return here;
    }
    auto copy = copyOf(there, {&from}, opposite);
    if (copy)
      here = *copy;
    return copy;
  };
  for (TablePart &part : parts) {
    auto numbers = numbersFor(part);
    if (!numbers)
      return numbers.takeError();
    part.numbers = *numbers;
  }
  // Parts with the same numbers at the same time, each in slices of its own.
  std::vector<bool> done(parts.size());
  std::vector<const Region *> results; // that are read together
  for (size_t first = 0; first < parts.size(); ++first) {
    if (done[first])
      continue;
    std::vector<size_t> group = {first};
    for (size_t other = first + 1; other < parts.size() && group.size() < gatheredTogether(parts[first].table->type);
         ++other)
      if (!done[other] && parts[other].numbers == parts[first].numbers &&
          llvm::none_of(group, [&](size_t each) { return parts[each].table->sharesSlices(*parts[other].table); }))
        group.push_back(other);
    std::vector<const Region *> clear = {parts[first].numbers.get()};
    for (size_t each : group)
      clear.push_back(parts[each].table.get());
    std::vector<GatheredRows> gathered;
    for (size_t each : group) {
      const Region &from = *parts[each].table;
      Region shape = Region::of(from.type, indices->rows, from.columns, machine.vectorBytes());
      std::vector<const Region *> apart = clear;
      apart.insert(apart.end(), results.begin(), results.end());
      RegionPointer picked = placement.allocate(shape, apart);
      if (!picked) {
        auto near = allocate(shape, clear);
        if (!near)
          return near.takeError();
        picked = *near;
      }
      parts[each].picked = picked;
      clear.push_back(picked.get());
      results.push_back(picked.get());
      done[each] = true;
      gathered.push_back({parts[each].table.get(), 0, picked.get(), 0});
    }
    auto zero = splatRegion(ElementType::u8, 0, clear, std::nullopt);
    if (!zero)
      return zero.takeError();
    for (int64_t piece = 0; piece < parts[first].table->pieces; ++piece) {
      for (GatheredRows &each : gathered)
        each.fromPiece = each.toPiece = piece;
      gatherRows(gathered, *parts[first].numbers, **zero, 0);
    }
  }
  return llvm::Error::success();
}

// Of parts that begin at or below the index the last one has it.
llvm::Expected<RegionPointer> CompilerState::choosePart(llvm::ArrayRef<TablePart> parts, const RegionPointer &indices,
                                                        int64_t extent, int64_t columns) {
  if (parts.size() == 1)
    return parts[0].picked;
  ElementType type = parts[0].table->type;
  BlockExpression body;
  std::vector<Operand> operands = {wholeOf(indices)};
  body.inputs = {ElementType::i32};
  Register number = wrappedIndex(body, body.append(BlockOpcode::Input, ElementType::i32, {}, 0), extent);
  std::vector<std::pair<int64_t, Register>> left; // by first row
  for (const TablePart &part : parts) {
    operands.push_back(wholeOf(part.picked));
    body.inputs.push_back(type);
    left.emplace_back(part.base, body.append(BlockOpcode::Input, type, {}, body.inputs.size() - 1));
  }
  // Neighbours in pairs, and pairs of pairs.
  while (left.size() > 1) {
    std::vector<std::pair<int64_t, Register>> joined;
    for (size_t i = 0; i < left.size(); i += 2) {
      if (i + 1 == left.size()) {
        joined.push_back(left[i]);
        continue;
      }
      Register base =
          body.append(BlockOpcode::Constant, ElementType::i32, {}, static_cast<uint32_t>(left[i + 1].first));
      Register before = body.append(BlockOpcode::Less, ElementType::boolean, {number, base});
      joined.emplace_back(left[i].first,
                          body.append(BlockOpcode::Select, type, {before, left[i].second, left[i + 1].second}));
    }
    left = std::move(joined);
  }
  body.results = {left[0].second};
  auto made = stream(body, operands, indices->rows, columns, 0, /*segments=*/true);
  if (!made)
    return made.takeError();
  return made->front();
}

} // namespace quadrille::tsp
