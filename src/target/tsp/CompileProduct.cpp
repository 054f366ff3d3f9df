// Products on the matrix planes: weights loaded and installed, vectors streamed through them, sums taken.
#include "base/Error.h"
#include "graph/KernelQueries.h"
#include "numerics/Convert.h"
#include "target/tsp/CompilerState.h"

#include "llvm/ADT/STLExtras.h"

#include <cstring>

namespace quadrille::tsp {

using graph::Kernel;
using graph::Read;

namespace {

Instruction instructionOf(Opcode opcode, uint8_t small0 = 0, uint8_t small1 = 0, int64_t word0 = 0, int64_t word1 = 0) {
  Instruction instruction;
  instruction.opcode = static_cast<uint8_t>(opcode);
  instruction.small[0] = small0;
  instruction.small[1] = small1;
  instruction.word[0] = static_cast<int32_t>(word0);
  instruction.word[1] = static_cast<int32_t>(word1);
  return instruction;
}

// The loops that index the rows, the columns and the depth of a product, each list in the order of its digits.
struct ProductLoops {
  llvm::SmallVector<unsigned, 4> batch, rows, columns, depth;
};

int64_t extentOf(const Kernel &kernel, llvm::ArrayRef<unsigned> loops) {
  int64_t extent = 1;
  for (unsigned loop : loops)
    extent *= kernel.loops[loop].extent;
  return extent;
}

// Takes a number apart into the loops' values.
void setLoops(const Kernel &kernel, llvm::ArrayRef<unsigned> loops, int64_t number, std::vector<int64_t> &point) {
  for (unsigned loop : llvm::reverse(loops)) {
    point[loop] = number % kernel.loops[loop].extent;
    number /= kernel.loops[loop].extent;
  }
}

// The element that a read reaches at a point; -1 of padding.
int64_t elementAt(const Read &read, const Shape &shape, llvm::ArrayRef<int64_t> point) {
  Shape strides = rowMajorStrides(shape);
  int64_t element = 0;
  for (auto [d, access] : llvm::enumerate(read.map)) {
    int64_t index = access.offset;
    for (auto [loop, coefficient] : access.terms)
      index += coefficient * point[loop];
    if (index < 0 || index >= shape[d])
      return -1;
    element += index * strides[d];
  }
  return element;
}

} // namespace

llvm::Expected<WeightBlocks> CompilerState::weightsOf(const std::string &name, Tensor rows, int64_t height) {
  int64_t lines = machine.installRows, blocks = (height + lines - 1) / lines, vector = machine.vectorBytes();
  Region shape;
  shape.type = ElementType::u8;
  shape.rows = blocks;
  shape.columns = lines * vector;
  shape.pieces = lines; // a slice for each line of a block
  shape.width = vector;
  shape.spread = true;
  auto region = allocate(shape, {}, std::nullopt, /*anywhere=*/true, /*initial=*/true);
  if (!region)
    return region.takeError();
  Tensor data;
  if (rows.valid()) {
    data = Tensor::zeros(ElementType::u8, {blocks, lines, vector});
    std::memcpy(data.mutableBytes(), rows.bytes().data(), rows.byteSize());
  }
  Layout layout;
  layout.variable = addWeight(name, {blocks, lines, vector}, ElementType::u8, std::move(data));
  layout.bank = (*region)->bank;
  layout.address = static_cast<uint32_t>((*region)->address);
  layout.slices = (*region)->slices;
  layout.axes = {{0, AxisTarget::Address, static_cast<uint32_t>(blocks), 1},
                 {1, AxisTarget::Slice, static_cast<uint32_t>(lines), 1},
                 {2, AxisTarget::Lane, static_cast<uint32_t>(vector), 1},
                 {3, AxisTarget::Slice, 1, 1}};
  code.layouts.push_back(std::move(layout));
  resident.push_back(*region);
  return WeightBlocks{*region, 0, height};
}

void CompilerState::install(unsigned hemisphere, llvm::ArrayRef<WeightBlocks> tiles, ProductType type) {
  PlaneState &state = planes[hemisphere];
  int64_t lines = machine.installRows, input = machine.matrixInputCoordinate(), loadable = state.loadable;
  Direction out = machine.outward(hemisphere);
  for (auto [number, tile] : llvm::enumerate(tiles)) {
    auto plane = [&, index = static_cast<uint16_t>(number)](uint8_t port) {
      return QueueName{UnitKind::Matrix, static_cast<uint8_t>(hemisphere), index, port};
    };
    int64_t blocks = (tile.rows + lines - 1) / lines, start = loadable;
    std::vector<Step> group = {
        {plane(0), instructionOf(Opcode::LoadWeights, 0, 0, 0, blocks > 1 ? lines : 0), 0, blocks}};
    for (int64_t line = 0; line < lines; ++line) {
      int64_t cycle = -machine.memoryRead - (input - coordinate(*tile.region, line, 0, out));
      group.push_back(access(Opcode::Read, *tile.region, line, 0, tile.first, 1,
                             streamOf(out, machine.installFirstStream[number] + line), cycle, blocks));
      start = std::max(start, tile.region->ready - cycle);
    }
    start = timetable.earliest(group, start);
    timetable.place(group, start, node);
    for (const Step &step : group)
      tile.region->lastRead = std::max(tile.region->lastRead, start + step.cycle + step.count - 1);
    // Lanes beyond the rows hold anything, also NaN: they take no part. The tile that is in use stays until its last
    // activation has passed.
    int64_t from = std::max({start + blocks - 1, state.lastActivation + 1 - machine.install, state.installed});
    std::vector<Step> one = {
        {plane(1), instructionOf(Opcode::InstallWeights, static_cast<uint8_t>(type), 0, tile.rows), 0, 1}};
    int64_t installed = timetable.earliest(one, from);
    timetable.place(one, installed, node);
    state.installed = installed;
    // One install may be under way for each further set of weights that a plane holds.
    state.loadable = std::max(state.loadable, installed + machine.install + 1);
  }
}

void CompilerState::multiply(unsigned hemisphere, ProductType type, const ProductRun &run) {
  PlaneState &state = planes[hemisphere];
  auto mode = static_cast<AccumulateMode>(run.mode);
  bool emits = mode == AccumulateMode::Pass || mode == AccumulateMode::Finish;
  int64_t input = machine.matrixInputCoordinate();
  Direction out = machine.outward(hemisphere), in = machine.inward(hemisphere);
  auto plane = [&](uint8_t port) { return QueueName{UnitKind::Matrix, static_cast<uint8_t>(hemisphere), 0, port}; };
  std::vector<Step> best;
  int64_t start = std::numeric_limits<int64_t>::max();
  for (int64_t stream = 0; stream < machine.streams; stream += machine.group) {
    std::vector<Step> group;
    int64_t earliest = state.installed + machine.install;
    // A sum is begun before it goes on.
    if (mode == AccumulateMode::Add || mode == AccumulateMode::Finish)
      earliest = std::max(earliest, state.lastActivation + 1);
    int64_t bytes = type == ProductType::F16 ? 2 : 1;
    for (int64_t byte = 0; byte < bytes; ++byte) {
      int64_t of = run.fromByte + byte;
      int64_t cycle = -machine.memoryRead - (input - coordinate(*run.from, run.fromPiece, of, out));
      group.push_back(access(Opcode::Read, *run.from, run.fromPiece, of, run.fromRow, run.fromStep,
                             streamOf(out, stream + byte), cycle, run.count));
      earliest = std::max(earliest, run.from->ready - cycle);
    }
    group.push_back({plane(2),
                     instructionOf(Opcode::Activate, static_cast<uint8_t>(type), streamOf(out, stream).byte()), 0,
                     run.count});
    bool sums = mode != AccumulateMode::Pass;
    group.push_back({plane(1),
                     instructionOf(Opcode::Accumulate, run.mode, 0, sums ? run.sum : 0, sums && run.count > 1 ? 1 : 0),
                     machine.multiply, run.count});
    for (int64_t byte = 0; emits && byte < run.toBytes; ++byte) {
      int64_t driven = machine.multiply + (mode == AccumulateMode::Finish ? machine.accumulate : 0);
      int64_t cycle =
          driven + coordinate(*run.to, run.toPiece, run.toByte + byte, in) - machine.matrixOutputCoordinate();
      group.push_back(access(Opcode::Write, *run.to, run.toPiece, run.toByte + byte, run.toRow, 1,
                             streamOf(in, machine.resultStream(0) + byte), cycle, run.count));
      earliest = std::max(earliest, run.to->writable - cycle);
    }
    int64_t at = timetable.earliest(group, earliest);
    if (at < start) {
      start = at;
      best = std::move(group);
    }
  }
  timetable.place(best, start, node);
  state.lastActivation = std::max(state.lastActivation, start + run.count - 1);
  for (const Step &step : best) {
    int64_t last = start + step.cycle + step.count - 1;
    if (step.instruction.op() == Opcode::Read)
      run.from->lastRead = std::max(run.from->lastRead, last);
    if (step.instruction.op() == Opcode::Write)
      run.to->ready = std::max(run.to->ready, last + machine.memoryWrite);
  }
}

llvm::Error CompilerState::contract(const Kernel &kernel) {
  graph::Contraction contraction = *graph::inferContraction(graph, kernel);
  ProductLoops loops{contraction.batch, contraction.m, contraction.n, contraction.k};
  for (const graph::Contraction::Window &window : contraction.windows) {
    loops.rows.push_back(window.output);
    loops.depth.push_back(window.tap);
  }
  const Read &lhs = kernel.reads[contraction.lhs], &rhs = kernel.reads[contraction.rhs];
  const graph::Value &lhsValue = graph.values[lhs.value], &rhsValue = graph.values[rhs.value];
  const graph::Value &resultValue = graph.values[kernel.writes[0].value];
  bool floats = isFloat(lhsValue.type);
  products = floats ? ElementType::f16 : ElementType::i8;
  ElementType factor = ElementType::f16, sumType = floats ? ElementType::f32 : ElementType::i32;
  auto productType = [&](ElementType type) {
    return floats ? ProductType::F16 : type == ElementType::u8 ? ProductType::U8 : ProductType::I8;
  };
  int64_t batches = extentOf(kernel, loops.batch), rows = extentOf(kernel, loops.rows);
  int64_t columns = extentOf(kernel, loops.columns), depth = extentOf(kernel, loops.depth);
  int64_t tileRows = floats ? machine.f16Rows : machine.rows, vector = machine.vectorBytes();
  int64_t tileColumns = floats ? machine.f16Columns : machine.columns;
  int64_t bytes = floats ? 2 : 1;

  // In the type that the planes multiply, by one unit that passes them on.
  auto inFactors = [&](const graph::Value &value, RegionPointer region) -> llvm::Expected<RegionPointer> {
    if (!floats || value.type == factor)
      return region;
    BlockExpression body;
    body.inputs = {value.type};
    Register wide = body.append(BlockOpcode::Input, value.type, {}, 0);
    body.results = {body.append(BlockOpcode::Convert, factor, {wide})};
    std::vector<int64_t> all(region->rows);
    for (auto [row, index] : llvm::enumerate(all))
      index = static_cast<int64_t>(row);
    auto converted = stream(body, {{region, all}}, region->rows, region->columns);
    if (!converted)
      return converted.takeError();
    return converted->front();
  };

  auto lhsRegion = regionOf(lhs.value);
  if (!lhsRegion)
    return lhsRegion.takeError();
  auto narrowed = inFactors(lhsValue, *lhsRegion);
  if (!narrowed)
    return narrowed.takeError();
  // Rows of all batches, one after the other: the first operand as a matrix, as wide as a tile is high.
  std::vector<int64_t> point(kernel.loops.size());
  auto lhsElement = [&](int64_t row, int64_t k) {
    setLoops(kernel, loops.batch, row / rows, point);
    setLoops(kernel, loops.rows, row % rows, point);
    setLoops(kernel, loops.depth, k, point);
    return elementAt(lhs, lhsValue.shape, point);
  };
  RegionPointer activations = *narrowed;
  bool asItIs = activations->rows == batches * rows && activations->columns == depth && activations->width <= tileRows;
  for (int64_t row = 0; asItIs && row < batches * rows; ++row)
    asItIs = lhsElement(row, 0) == row * depth && lhsElement(row, depth - 1) == row * depth + depth - 1;
  if (!asItIs) {
    auto routed = route({activations}, Region::of(activations->type, batches * rows, depth, tileRows), 0,
                        [&](int64_t element) -> ElementOrigin {
                          int64_t from = lhsElement(element / depth, element % depth);
                          return from < 0 ? ElementOrigin{} : ElementOrigin{0, from};
                        });
    if (!routed)
      return routed.takeError();
    activations = *routed;
  }

  auto sums =
      allocate(Region::of(sumType, batches * rows, columns, std::min(vector, tileColumns)), {activations.get()});
  if (!sums)
    return sums.takeError();
  auto hemisphere = static_cast<unsigned>(matrixTurn++ % machine.hemispheres);
  auto rhsElement = [&](int64_t batch, int64_t k, int64_t n) {
    setLoops(kernel, loops.batch, batch, point);
    setLoops(kernel, loops.columns, n, point);
    setLoops(kernel, loops.depth, k, point);
    return elementAt(rhs, rhsValue.shape, point);
  };
  bool constant = rhsValue.role == graph::ValueRole::Constant;
  RegionPointer rhsRegion;
  Tensor factors;
  if (constant) {
    if (rhsValue.data.valid())
      factors = floats ? quadrille::convert(rhsValue.data, factor) : rhsValue.data;
  } else {
    auto region = regionOf(rhs.value);
    if (!region)
      return region.takeError();
    auto converted = inFactors(rhsValue, *region);
    if (!converted)
      return converted.takeError();
    rhsRegion = *converted;
  }
  for (int64_t batch = 0; batch < batches; ++batch)
    for (int64_t piece = 0; piece < (*sums)->pieces; ++piece)
      for (int64_t firstRow = 0; firstRow < rows; firstRow += machine.accumulators) {
        int64_t count = std::min(rows - firstRow, machine.accumulators), width = (*sums)->width;
        for (int64_t tile = 0; tile < activations->pieces; ++tile) {
          int64_t firstDepth = tile * activations->width;
          int64_t height = std::min(activations->width, depth - firstDepth);
          int64_t across = std::min(width, columns - piece * width);
          std::vector<WeightBlocks> planesOfTile;
          // Both byte planes of a computed operand lie in one matrix: rows of the low bytes, then of the high ones.
          if (constant) {
            auto key = std::tuple(rhs.value, batch, piece, tile);
            for (int64_t byte = 0; byte < bytes; ++byte) {
              auto &known = weightTiles[{key, byte}];
              if (!known.region) {
                Tensor data;
                if (factors.valid()) {
                  data = Tensor::zeros(ElementType::u8, {height, vector});
                  for (int64_t k = 0; k < height; ++k)
                    for (int64_t n = 0; n < across; ++n)
                      data.mutableBytes()[k * vector + n] =
                          factors.bytes()[rhsElement(batch, firstDepth + k, piece * width + n) * bytes + byte];
                }
                auto made = weightsOf(rhsValue.name, data, height);
                if (!made)
                  return made.takeError();
                known = *made;
              }
              planesOfTile.push_back(known);
            }
          } else {
            auto made = routeWeights(rhsRegion, height, [&](int64_t k, int64_t lane) -> ElementOrigin {
              if (lane >= across)
                return {};
              return {0, rhsElement(batch, firstDepth + k, piece * width + lane)};
            });
            if (!made)
              return made.takeError();
            planesOfTile = *made;
          }
          install(hemisphere, planesOfTile, productType(rhsValue.type));
          bool first = tile == 0, last = tile + 1 == activations->pieces;
          AccumulateMode mode = first && last ? AccumulateMode::Pass
                                : first       ? AccumulateMode::Start
                                : last        ? AccumulateMode::Finish
                                              : AccumulateMode::Add;
          ProductRun run{activations.get(),       tile, 0,     batch * rows + firstRow,   1, sums->get(), piece, 0, 4,
                         batch * rows + firstRow, 0,    count, static_cast<uint8_t>(mode)};
          multiply(hemisphere, productType(lhsValue.type), run);
        }
      }
  return finishProduct(kernel, loops.batch, loops.rows, loops.columns, *sums, resultValue);
}

llvm::Error CompilerState::finishProduct(const Kernel &kernel, llvm::ArrayRef<unsigned> batch,
                                         llvm::ArrayRef<unsigned> rowLoops, llvm::ArrayRef<unsigned> columnLoops,
                                         RegionPointer sums, const graph::Value &value) {
  const graph::Write &write = kernel.writes[0];
  const Shape &shape = value.shape;
  int64_t rows = extentOf(kernel, rowLoops), columns = extentOf(kernel, columnLoops);
  Shape strides = rowMajorStrides(shape);
  std::vector<int64_t> dimensions(kernel.loops.size(), -1);
  for (auto [d, access] : llvm::enumerate(write.map))
    if (!access.terms.empty())
      dimensions[access.terms[0].first] = static_cast<int64_t>(d);
  // The element of the product that a result's element is.
  auto numberOf = [&](llvm::ArrayRef<unsigned> loops, int64_t element) {
    int64_t number = 0;
    for (unsigned loop : loops) {
      int64_t at = dimensions[loop] < 0 ? 0 : element / strides[dimensions[loop]] % shape[dimensions[loop]];
      number = number * kernel.loops[loop].extent + at;
    }
    return number;
  };
  auto elementOf = [&](int64_t element) {
    return (numberOf(batch, element) * rows + numberOf(rowLoops, element)) * columns + numberOf(columnLoops, element);
  };
  bool asItIs = columnsOf(shape) == sums->columns && sums->width == std::min(sums->columns, machine.vectorBytes());
  for (int64_t row = 0; asItIs && row < rowsOf(shape); ++row)
    asItIs =
        elementOf(row * columns) == row * columns && elementOf(row * columns + columns - 1) == (row + 1) * columns - 1;
  if (!asItIs) {
    auto routed = route({sums}, Region::of(sums->type, rowsOf(shape), columnsOf(shape), machine.vectorBytes()), 0,
                        [&](int64_t element) -> ElementOrigin { return {0, elementOf(element)}; });
    if (!routed)
      return routed.takeError();
    sums = *routed;
  }
  // What the sums start from, and the type of the result.
  BlockExpression body;
  ElementType type = sums->type;
  body.inputs = {type};
  Register result = body.append(BlockOpcode::Input, type, {}, 0);
  std::vector<int64_t> all(rowsOf(shape));
  for (auto [row, index] : llvm::enumerate(all))
    index = static_cast<int64_t>(row);
  std::vector<Operand> operands = {{sums, all}};
  bool plain = true;
  if (write.initial) {
    auto operand = operandOf(kernel, *write.initial, std::vector<int64_t>(kernel.loops.size()), shape);
    if (!operand)
      return operand.takeError();
    ElementType from = operand->region->type;
    operands.push_back(*operand);
    body.inputs.push_back(from);
    Register start = body.append(BlockOpcode::Input, from, {}, 1);
    if (from != type)
      start = body.append(BlockOpcode::Convert, type, {start});
    result = body.append(BlockOpcode::Add, type, {result, start});
    plain = false;
  } else if (write.initialScalar && write.initialScalar->bits != 0) {
    ElementType from = write.initialScalar->type;
    Register start = body.append(BlockOpcode::Constant, from, {}, write.initialScalar->bits);
    if (from != type)
      start = body.append(BlockOpcode::Convert, type, {start});
    result = body.append(BlockOpcode::Add, type, {result, start});
    plain = false;
  }
  if (value.type != type) {
    result = body.append(BlockOpcode::Convert, value.type, {result});
    plain = false;
  }
  if (plain) {
    regions[write.value] = sums;
    return llvm::Error::success();
  }
  body.results = {result};
  auto finished = stream(body, operands, rowsOf(shape), columnsOf(shape));
  if (!finished)
    return finished.takeError();
  regions[write.value] = finished->front();
  return llvm::Error::success();
}

llvm::Expected<std::vector<WeightBlocks>>
CompilerState::routeWeights(const RegionPointer &from, int64_t height,
                            llvm::function_ref<ElementOrigin(int64_t row, int64_t lane)> originOf) {
  // A matrix of whole blocks: line after line of a block in one row of the region, a slice for each; each byte plane of
  // the elements by itself.
  int64_t lines = machine.installRows, blocks = (height + lines - 1) / lines, vector = machine.vectorBytes();
  Region shape;
  shape.type = ElementType::u8;
  shape.rows = blocks;
  shape.columns = lines * vector;
  shape.pieces = lines;
  shape.width = vector;
  shape.spread = true;
  std::vector<WeightBlocks> result;
  for (int64_t byte = 0; byte < from->bytes(); ++byte) {
    auto routed = routeBytes({from}, shape, 0, byte, /*anywhere=*/true, [&](int64_t element) -> ElementOrigin {
      int64_t row = element / (lines * vector) * lines + element / vector % lines;
      return row < height ? originOf(row, element % vector) : ElementOrigin{};
    });
    if (!routed)
      return routed.takeError();
    result.push_back({*routed, 0, height});
  }
  return result;
}

} // namespace quadrille::tsp
