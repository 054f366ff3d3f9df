// Transpositions: what lies in the lanes of a matrix comes to lie in its rows.
//
// The switch unit turns squares of as many rows as a superlane has lanes, in each superlane by itself. Then row i of
// the g-th square has in superlane s what belongs into superlane g of row i of the s-th: superlanes are exchanged for
// squares. A permuter moves superlanes and memory chooses rows for each superlane, so: the rows of square g are rotated
// by g superlanes, superlane t of a result's row is gathered from square t - s, and the row is rotated back by s.
#include "base/Error.h"
#include "target/tsp/CompilerState.h"

#include "llvm/ADT/STLExtras.h"

#include <cstring>

namespace quadrille::tsp {

std::optional<TransposedRead> transposedRead(const Region &from, int64_t rows, int64_t columns, OriginOf originOf) {
  if (columns < 2)
    return std::nullopt;
  TransposedRead read;
  read.columns = columns;
  auto rowOf = [&](ElementOrigin origin) { return origin.index / from.columns; };
  read.step = rowOf(originOf(1)) - rowOf(originOf(0));
  for (int64_t row = 0; row < rows; ++row) {
    ElementOrigin first = originOf(row * columns);
    read.base.push_back(rowOf(first));
    read.column.push_back(first.index % from.columns);
    for (int64_t lane = 0; lane < columns; ++lane) {
      ElementOrigin origin = originOf(row * columns + lane);
      if (read.step == 0 || origin.source != 0 || rowOf(origin) != read.base[row] + lane * read.step ||
          origin.index % from.columns != read.column[row])
        return std::nullopt;
    }
  }
  return read;
}

llvm::Expected<RegionPointer> CompilerState::superlaneRotations(unsigned hemisphere) {
  RegionPointer &known = rotations[hemisphere];
  if (!known) {
    // Once more the first row at the end, so that rotations in either sense are rows at equal distances.
    int64_t rows = machine.superlanes + 1, vector = machine.vectorBytes();
    Tensor maps = Tensor::uninitialized(ElementType::u16, {rows, vector});
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t lane = 0; lane < vector; ++lane)
        maps.mutableData<uint16_t>()[row * vector + lane] =
            static_cast<uint16_t>((lane + row * machine.lanes) % vector);
    auto made = constantRegion("superlane rotations", ElementType::u16, rows, vector, std::move(maps), {}, hemisphere);
    if (!made)
      return made.takeError();
    known = *made;
  }
  return known;
}

llvm::Expected<RegionPointer> CompilerState::squareNumbers(int64_t columns, int64_t squares, unsigned hemisphere) {
  RegionPointer &known = numbersOfSquares[{columns, squares, hemisphere}];
  if (!known) {
    int64_t vector = machine.vectorBytes(), lanes = machine.lanes, superlanes = machine.superlanes;
    Tensor numbers = Tensor::zeros(ElementType::u8, {columns, vector});
    for (int64_t column = 0; column < columns; ++column)
      for (int64_t superlane = 0; superlane < superlanes; ++superlane) {
        int64_t square = (superlane + superlanes - column / lanes % superlanes) % superlanes;
        int64_t word = column % lanes * squares + (square < squares ? square : 0);
        for (int64_t byte = 0; byte < machine.gatherAddressBytes; ++byte)
          numbers.mutableBytes()[column * vector + superlane * lanes + byte] =
              static_cast<std::byte>(word >> 8 * byte & 0xff);
      }
    auto made = constantRegion("rows of squares", ElementType::u8, columns, vector, std::move(numbers), {}, hemisphere);
    if (!made)
      return made.takeError();
    known = *made;
  }
  return known;
}

llvm::Error CompilerState::transposeBlock(const RegionPointer &from, int64_t fromPiece, int64_t firstRow,
                                          int64_t rowStep, int64_t rows, const RegionPointer &to, int64_t toPiece,
                                          llvm::ArrayRef<std::pair<int64_t, int64_t>> columns) {
  std::vector<RegionPointer> turns; // for the permuters of each hemisphere
  std::vector<const Region *> clear;
  for (unsigned hemisphere = 0; hemisphere < machine.hemispheres; ++hemisphere) {
    auto maps = superlaneRotations(hemisphere);
    if (!maps)
      return maps.takeError();
    turns.push_back(*maps);
    clear.push_back(maps->get());
  }
  auto spread = spreadRows(from, fromPiece, firstRow, rowStep, rows);
  if (!spread)
    return spread.takeError();
  auto turned = transposeLanes(*spread, clear);
  if (!turned)
    return turned.takeError();
  int64_t bytes = from->bytes(), lanes = machine.lanes, vector = machine.vectorBytes();
  int64_t squares = turned->rows / lanes;
  constexpr int64_t runs = 4;
  auto permute = [&](unsigned hemisphere, int64_t base, int64_t count) {
    return Step{
        switchQueue(hemisphere, SwitchPart::Permuter, 0),
        switchInstruction(Opcode::Permute, {{Member::Small0, 0},
                                            {Member::Small1, streamOf(machine.outward(hemisphere), base + 2).byte()},
                                            {Member::Byte0, streamOf(machine.outward(hemisphere), base).byte()},
                                            {Member::Small2, streamOf(machine.inward(hemisphere), base).byte()}}),
        0, count};
  };
  for (int64_t byte = 0; byte < bytes; ++byte) {
    // Row i of square g is word i * squares + g of a slice whose gathers leave for the switch unit of its hemisphere.
    auto side = static_cast<unsigned>(byte % machine.hemispheres);
    auto numbers = squareNumbers(vector, squares, machine.hemispheres == 1 || side == east ? west : east);
    if (!numbers)
      return numbers.takeError();
    clear.push_back(numbers->get());
    std::vector<const Region *> all = clear;
    for (const RegionPointer &half : turned->halves)
      all.push_back(half.get());
    Region shape = Region::of(ElementType::u8, lanes * squares, vector, vector);
    shape.segmentRows = shape.rows; // a gather has one bank
    RegionPointer plane = placement.allocate(shape, all, side);
    if (!plane) {
      auto shared = allocate(shape, clear, side);
      if (!shared)
        return shared.takeError();
      plane = *shared;
    }
    for (int64_t lane = 0; lane < lanes; ++lane) {
      auto [half, slice] = turned->slice(lane, byte, machine);
      Region &source = *turned->halves[half];
      placeInParts(
          squares, squares,
          [&, slice = slice](int64_t variant, int64_t first, int64_t count) {
            auto hemisphere = static_cast<unsigned>(variant % machine.hemispheres);
            int64_t base = variant / machine.hemispheres * machine.streams / runs;
            Direction away = machine.outward(hemisphere);
            SwitchTiming in{hemisphere, 0}, out{hemisphere, machine.switchShiftAcross};
            Group group;
            addRead(group, source, slice, 0, byte * squares + first, 1, streamOf(away, base + 2), in, count);
            for (int64_t part = 0; part < 2; ++part)
              addRead(group, *turns[hemisphere], 0, part, machine.superlanes - first, -1, streamOf(away, base + part),
                      in, count);
            group.steps.push_back(permute(hemisphere, base, count));
            addWrite(group, *plane, 0, 0, lane * squares + first, 1, streamOf(machine.inward(hemisphere), base), out,
                     count);
            return group;
          },
          machine.hemispheres * runs);
    }
    // Rows of the result whose columns and places are at equal distances.
    for (size_t begin = 0; begin < columns.size();) {
      auto [column, row] = columns[begin];
      size_t end = begin + 1;
      int64_t columnStep = 0, rowStep = 0;
      if (end < columns.size()) {
        columnStep = columns[end].first - column;
        rowStep = columns[end].second - row;
        while (end < columns.size() && columns[end].first - columns[end - 1].first == columnStep &&
               columns[end].second - columns[end - 1].second == rowStep)
          ++end;
      }
      // Few rotations at once: each is an instruction, and instructions are fetched between groups.
      constexpr int64_t mostRotations = 4;
      int64_t most = std::max<int64_t>(machine.lanes / std::max<int64_t>(std::abs(columnStep), 1), 1) * mostRotations;
      placeInParts(
          static_cast<int64_t>(end - begin), most,
          [&, column = column, row = row](int64_t variant, int64_t first, int64_t count) {
            int64_t base = variant * machine.streams / runs;
            Direction away = machine.outward(side);
            Source chosen = streamOf(away, base + 3);
            SwitchTiming out{side, machine.switchShiftAcross};
            Group group;
            addGather(group, *plane, 0, 0, chosen, streamOf(away, base + 2), {side, 0}, count);
            addNumbers(group, **numbers, column + first * columnStep, columnStep, chosen, {side, 0}, count);
            // The rotation is the same while the columns are of one square.
            for (int64_t at = 0; at < count;) {
              int64_t square = (column + (first + at) * columnStep) / lanes, more = 1;
              while (at + more < count && (column + (first + at + more) * columnStep) / lanes == square)
                ++more;
              for (int64_t part = 0; part < 2; ++part)
                addRead(group, *turns[side], 0, part, square, 0, streamOf(away, base + part), {side, at}, more);
              at += more;
            }
            group.steps.push_back(permute(side, base, count));
            addWrite(group, *to, toPiece, byte, row + first * rowStep, rowStep, streamOf(machine.inward(side), base),
                     out, count);
            return group;
          },
          runs);
      begin = end;
    }
  }
  return llvm::Error::success();
}

llvm::Expected<RegionPointer> CompilerState::transposed(const RegionPointer &from, const TransposedRead &read) {
  // The rows of the result by the rows of the operand that lie in their lanes, and its piece that has their column.
  auto rows = static_cast<int64_t>(read.base.size());
  std::map<std::pair<int64_t, int64_t>, std::vector<std::pair<int64_t, int64_t>>> blocks;
  for (int64_t row = 0; row < rows; ++row)
    blocks[{read.base[row], read.column[row] / from->width}].emplace_back(read.column[row] % from->width, row);
  constexpr size_t mostBlocks = 256; // each takes some hundred cycles
  if (blocks.size() > mostBlocks)
    return RegionPointer();
  std::vector<const Region *> clear = {from.get()};
  for (unsigned hemisphere = 0; hemisphere < machine.hemispheres; ++hemisphere) {
    auto maps = superlaneRotations(hemisphere);
    if (!maps)
      return maps.takeError();
    clear.push_back(maps->get());
  }
  auto to = allocateInSegments(Region::of(from->type, rows, read.columns, machine.vectorBytes()), clear);
  if (!to)
    return to.takeError();
  for (const auto &[block, columns] : blocks)
    for (int64_t piece = 0; piece < (*to)->pieces; ++piece) {
      int64_t first = piece * (*to)->width, count = std::min((*to)->width, read.columns - first);
      if (llvm::Error error = transposeBlock(from, block.second, block.first + first * read.step, read.step, count, *to,
                                             piece, columns))
        return std::move(error);
    }
  return *to;
}

} // namespace quadrille::tsp
