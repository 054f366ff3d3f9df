// Forms of values besides their matrix: elements of which each has a row, and results of reductions over lanes as they
// come.
#include "base/Error.h"
#include "graph/KernelQueries.h"
#include "target/tsp/CompilerState.h"

#include "llvm/ADT/STLExtras.h"

#include <cstring>

namespace quadrille::tsp {

using graph::Kernel;

llvm::Expected<RegionPointer> CompilerState::unpackRows(const RegionPointer &packed, int64_t rows, int64_t superlanes,
                                                        llvm::ArrayRef<const Region *> apart) {
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
  shape.uniformLanes = superlanes * lanes;
  std::vector<const Region *> wished(apart.begin(), apart.end());
  wished.insert(wished.end(), {source.get(), laneChoices.get()});
  llvm::Expected<RegionPointer> to = rows <= machine.words ? placement.allocate(shape, wished) : nullptr;
  if (!*to)
    to = allocate(shape, {source.get(), laneChoices.get()});
  if (!to)
    return to.takeError();
  constexpr int64_t runs = 4;
  // Row after row, so that the first are soon there.
  for (int64_t square = 0; square * lanes < rows; ++square)
    placeInParts(
        std::min(lanes, rows - square * lanes), lanes,
        [&](int64_t variant, int64_t first, int64_t count) {
          auto hemisphere = static_cast<unsigned>(variant % machine.hemispheres);
          int64_t base = variant / machine.hemispheres * machine.streams / runs, unit = variant % machine.distributors;
          Direction away = machine.outward(hemisphere), back = machine.inward(hemisphere);
          SwitchTiming in{hemisphere, 0}, out{hemisphere, machine.switchDistribute};
          Group group;
          for (int64_t byte = 0; byte < bytes; ++byte)
            addRead(group, *source, 0, byte, square, 0, streamOf(away, base + byte), in, count);
          addRead(group, *laneChoices, 0, 0, first, 1, streamOf(away, base + bytes), in, count);
          group.steps.push_back(
              {switchQueue(hemisphere, SwitchPart::Distributor, unit),
               switchInstruction(Opcode::Distribute, {{Member::Small0, unit},
                                                      {Member::Small1, streamOf(away, base).byte()},
                                                      {Member::Byte0, streamOf(away, base + bytes).byte()},
                                                      {Member::Byte1, bytes},
                                                      {Member::Small2, streamOf(back, base).byte()}}),
               0, count});
          for (int64_t byte = 0; byte < bytes; ++byte)
            addWrite(group, **to, 0, byte, square * lanes + first, 1, streamOf(back, base + byte), out, count);
          return group;
        },
        machine.hemispheres * runs);
  return *to;
}

bool CompilerState::hasRowwise(graph::ValueId id, int64_t columns) const {
  const graph::Value &value = graph.values[id];
  if (forms[id].packed || (forms[id].rowwise && forms[id].rowwise->uniformLanes >= columns) ||
      (regions[id] && regions[id]->uniformLanes >= columns))
    return true;
  return columnsOf(value.shape) == 1 && columns > 1;
}

llvm::Expected<RegionPointer> CompilerState::rowwiseOf(graph::ValueId id, int64_t columns) {
  LaneForms &known = forms[id];
  const graph::Value &value = graph.values[id];
  int64_t rows = elementCount(value.shape);
  columns = std::min(columns, machine.vectorBytes());
  if (known.rowwise && known.rowwise->uniformLanes >= columns)
    return known.rowwise;
  if (regions[id] && regions[id]->uniformLanes >= columns)
    return known.rowwise = regions[id];
  if (known.packed) {
    if (columns > known.superlanes * machine.lanes)
      if (llvm::Error error = widen(known))
        return std::move(error);
    auto unpacked = unpackRows(known.packed, rows, known.superlanes, companionsOf(id));
    if (unpacked)
      known.rowwise = *unpacked;
    return unpacked;
  }
  int64_t vector = machine.vectorBytes();
  if (value.role == graph::ValueRole::Constant) {
    auto made = laidOut(value, rows, vector, 0, [](int64_t row, int64_t) { return row; });
    if (made) {
      (*made)->uniformLanes = vector;
      known.rowwise = *made;
    }
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
  (*made)->uniformLanes = vector;
  return known.rowwise = *made;
}

llvm::Error CompilerState::widen(LaneForms &known) {
  auto wide = widenPacked(known.packed, known.superlanes);
  if (!wide)
    return wide.takeError();
  known.packed = *wide;
  known.superlanes = machine.superlanes;
  return llvm::Error::success();
}

llvm::Expected<RegionPointer> CompilerState::matrixOfForms(graph::ValueId id) {
  const graph::Value &value = graph.values[id];
  // Of rows that products have made, whole vectors, each element is the first one.
  auto elementsInRows = [&]() -> llvm::Expected<RegionPointer> {
    auto rowwise = rowwiseOf(id, 1);
    return rowwise ? llvm::Expected<RegionPointer>(firstColumnOf(*rowwise)) : rowwise.takeError();
  };
  if (columnsOf(value.shape) == 1)
    return elementsInRows();
  int64_t rows = rowsOf(value.shape), columns = columnsOf(value.shape), lanes = machine.lanes;
  Region shape = Region::of(value.type, rows, columns, machine.vectorBytes());
  bool oneBank = forms[id].packed && forms[id].packed->segments() == 1 && rows * shape.pieces <= machine.words;
  if (!oneBank || (rows > 1 && columns % lanes != 0)) {
    auto elements = elementsInRows();
    if (!elements)
      return elements.takeError();
    return route({*elements}, shape, 0, [](int64_t element) -> ElementOrigin { return {0, element}; });
  }
  if (columns > forms[id].superlanes * lanes)
    if (llvm::Error error = widen(forms[id]))
      return std::move(error);
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
  auto to = allocateInSegments(shape, {forms[id].packed.get()});
  if (!to)
    return to.takeError();
  if (llvm::Error error = gatherSuperlanes(forms[id].packed, std::move(map), *to, 0))
    return std::move(error);
  return *to;
}

llvm::Error CompilerState::gatherSuperlanes(const RegionPointer &from, Tensor map, const RegionPointer &to,
                                            int64_t firstWord) {
  int64_t end = firstWord + map.shape()[0], vector = machine.vectorBytes();
  auto zero = splatRegion(ElementType::u8, 0, {from.get(), to.get()}, std::nullopt);
  if (!zero)
    return zero.takeError();
  for (int64_t word = firstWord; word < end;) {
    int64_t count = std::min(end, (word / to->rows + 1) * to->rows) - word;
    Tensor part = Tensor::uninitialized(ElementType::u8, {count, vector});
    std::memcpy(part.mutableBytes(), map.bytes().data() + (word - firstWord) * vector, count * vector);
    auto numbers = constantRegion("numbers of rows", ElementType::u8, count, vector, std::move(part),
                                  {from.get(), to.get(), zero->get()}, from->hemisphere == west ? east : west);
    if (!numbers)
      return numbers.takeError();
    gatherRows(GatheredRows{from.get(), 0, to.get(), word / to->rows}, **numbers, **zero, word % to->rows);
    word += count;
  }
  return llvm::Error::success();
}

void CompilerState::gatherRows(llvm::ArrayRef<GatheredRows> gathered, Region &numbers, Region &zero, int64_t toRow) {
  // The numbers come from the other hemisphere; what they gather goes on outward and is turned round by the switch
  // unit.
  unsigned hemisphere = gathered[0].from->hemisphere;
  Direction away = machine.outward(hemisphere), back = machine.inward(hemisphere);
  SwitchTiming in{hemisphere, 0}, out{hemisphere, machine.switchDistribute};
  int64_t bytes = gathered[0].from->bytes(), streams = bytes * static_cast<int64_t>(gathered.size());
  int64_t runs = std::min<int64_t>(machine.streams / (streams + 2), 4); // with the maps of what turns and of rows
  placeInParts(
      numbers.rows, numbers.rows,
      [&](int64_t variant, int64_t first, int64_t count) {
        int64_t base = variant * machine.streams / runs;
        Source map = streamOf(away, base + streams + 1);
        Group group;
        addTurn(group, zero, hemisphere, base, streams, variant % machine.distributors, count);
        for (auto [number, each] : llvm::enumerate(gathered))
          for (int64_t byte = 0; byte < bytes; ++byte) {
            int64_t stream = base + static_cast<int64_t>(number) * bytes + byte;
            addGather(group, *each.from, each.fromPiece, byte, map, streamOf(away, stream), in, count);
            addWrite(group, *each.to, each.toPiece, byte, toRow + first, 1, streamOf(back, stream), out, count);
          }
        addNumbers(group, numbers, first, 1, map, in, count);
        return group;
      },
      runs);
}

llvm::Expected<RegionPointer> CompilerState::packedOf(graph::ValueId id) {
  const graph::Value &value = graph.values[id];
  if (forms[id].packed || value.role != graph::ValueRole::Constant)
    return forms[id].packed;
  int64_t elements = elementCount(value.shape), lanes = machine.lanes, rows = (elements + lanes - 1) / lanes;
  int64_t vector = machine.vectorBytes();
  auto made = laidOut(value, rows, vector, 0, [&](int64_t row, int64_t lane) {
    int64_t element = row * lanes + lane % lanes;
    return element < elements ? element : -1;
  });
  if (made)
    forms[id] = {*made, forms[id].rowwise, machine.superlanes};
  return made;
}

llvm::Expected<bool> CompilerState::mapPacked(const Kernel &kernel) {
  if (!graph::isElementwise(kernel) || graph::readsLoopNumbers(kernel))
    return false;
  const graph::Write &write = kernel.writes[0];
  const Shape &shape = graph.values[write.value].shape;
  int64_t elements = elementCount(shape);
  // Whether elements are read in the order in which they are written, whatever the shapes.
  auto inOrder = [&](const graph::Read &read) {
    const Shape &from = graph.values[read.value].shape;
    Shape strides = rowMajorStrides(from), resultStrides = rowMajorStrides(shape);
    bool same = elementCount(from) == elements && graph::baseOf(read.map, strides) == 0;
    for (unsigned loop = 0; loop < kernel.loops.size(); ++loop)
      same &= kernel.loops[loop].extent == 1 ||
              graph::strideAlong(read.map, strides, loop) == graph::strideAlong(write.map, resultStrides, loop);
    return same;
  };
  if (kernel.body.isIdentity() && inOrder(kernel.reads[0]) &&
      (forms[kernel.reads[0].value].packed || forms[kernel.reads[0].value].rowwise)) {
    forms[write.value] = forms[kernel.reads[0].value];
    return true;
  }
  bool any = false, packed = true, rowwise = true;
  for (const graph::Read &read : kernel.reads) {
    const graph::Value &value = graph.values[read.value];
    bool constant = value.role == graph::ValueRole::Constant;
    if (constant && elementCount(value.shape) == 1)
      continue;
    if (!inOrder(read))
      return false;
    packed &= constant || forms[read.value].packed;
    rowwise &= constant || (forms[read.value].rowwise && forms[read.value].rowwise->uniformLanes > 1);
    any |= !constant;
  }
  if (!any || !(packed || rowwise))
    return false;
  if (!packed) {
    std::vector<Operand> operands;
    int64_t lanes = machine.vectorBytes();
    for (const graph::Read &read : kernel.reads) {
      auto region = rowwiseOf(read.value, 1);
      if (!region)
        return region.takeError();
      bool one = elementCount(graph.values[read.value].shape) == 1 && elements > 1;
      operands.push_back(one ? Operand{*region, std::vector<int64_t>(elements), nullptr} : wholeOf(*region));
      lanes = std::min(lanes, (*region)->uniformLanes);
    }
    auto results = stream(kernel.body, operands, elements, machine.vectorBytes());
    if (!results)
      return results.takeError();
    results->front()->uniformLanes = lanes;
    forms[write.value] = {nullptr, results->front(), 0};
    return true;
  }
  int64_t rows = (elements + machine.lanes - 1) / machine.lanes;
  std::vector<Operand> operands;
  int64_t superlanes = machine.superlanes;
  for (const graph::Read &read : kernel.reads) {
    bool one = elementCount(graph.values[read.value].shape) == 1 && elements > 1;
    auto region = one ? rowwiseOf(read.value, machine.vectorBytes()) : packedOf(read.value);
    if (!region)
      return region.takeError();
    if (!one)
      superlanes = std::min(superlanes, forms[read.value].superlanes);
    operands.push_back(one ? Operand{*region, std::vector<int64_t>(rows), nullptr} : wholeOf(*region));
  }
  auto results = stream(kernel.body, operands, rows, machine.vectorBytes());
  if (!results)
    return results.takeError();
  forms[write.value] = {results->front(), nullptr, superlanes};
  return true;
}

} // namespace quadrille::tsp
