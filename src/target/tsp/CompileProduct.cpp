// Products on the matrix planes: weights loaded and installed, vectors streamed through them, sums taken.
#include "base/Error.h"
#include "graph/KernelQueries.h"
#include "numerics/Convert.h"
#include "target/tsp/CompilerState.h"
#include "target/tsp/Lower.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/xxhash.h"

#include <cstring>

namespace quadrille::tsp {

using graph::Kernel;
using graph::Read;

namespace {

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

// Of a product's second operand: the extent of its columns' loop, when that walks the last dimension that is in rows
// and the tiles' rows lie in the lanes.
std::optional<int64_t> columnsInRows(const graph::KernelGraph &graph, const Kernel &kernel,
                                     const graph::Contraction &contraction) {
  const Read &rhs = kernel.reads[contraction.rhs];
  const Shape &shape = graph.values[rhs.value].shape;
  bool rows = llvm::any_of(rhs.map.back().terms, [&](const auto &term) {
    return llvm::is_contained(contraction.k, term.first) && kernel.loops[term.first].extent > 1;
  });
  rows &= llvm::none_of(rhs.map.back().terms,
                        [&](const auto &term) { return llvm::is_contained(contraction.n, term.first); });
  for (size_t d = shape.size() - 1; rows && d-- > 0;) {
    if (shape[d] == 1)
      continue;
    const graph::DimensionAccess &access = rhs.map[d];
    bool walks = access.offset == 0 && access.terms.size() == 1 && access.terms[0].second == 1 &&
                 llvm::is_contained(contraction.n, access.terms[0].first) &&
                 kernel.loops[access.terms[0].first].extent == shape[d];
    return walks ? std::optional(shape[d]) : std::nullopt;
  }
  return std::nullopt;
}

} // namespace

Instruction CompilerState::instructionOf(Opcode opcode, uint8_t small0, uint8_t small1, int64_t word0, int64_t word1) {
  Instruction instruction;
  instruction.opcode = static_cast<uint8_t>(opcode);
  instruction.small[0] = small0;
  instruction.small[1] = small1;
  instruction.word[0] = static_cast<int32_t>(word0);
  instruction.word[1] = static_cast<int32_t>(word1);
  return instruction;
}

llvm::Expected<WeightBlocks> CompilerState::weightsOf(const std::string &name, Tensor rows, int64_t height,
                                                      std::optional<unsigned> hemisphere) {
  int64_t lines = machine.installRows, blocks = (height + lines - 1) / lines, vector = machine.vectorBytes();
  Region shape;
  shape.type = ElementType::u8;
  shape.rows = blocks;
  shape.columns = lines * vector;
  shape.pieces = lines; // a slice for each line of a block
  shape.width = vector;
  shape.spread = true;
  // All in one hemisphere, if it has so many slices.
  bool fits = llvm::any_of(machine.reserved,
                           [&](const std::vector<bool> &reserved) { return llvm::count(reserved, false) >= lines; });
  auto region = allocate(shape, {}, hemisphere, /*anywhere=*/!fits, /*initial=*/true, Placement::Pool::Weights);
  if (!region && hemisphere) {
    llvm::consumeError(region.takeError());
    noRoom.reset();
    region = allocate(shape, {}, std::nullopt, /*anywhere=*/!fits, /*initial=*/true, Placement::Pool::Weights);
  }
  if (!region)
    return region.takeError();
  Tensor data;
  if (rows.valid()) {
    data = Tensor::zeros(ElementType::u8, {blocks, lines, vector});
    std::memcpy(data.mutableBytes(), rows.bytes().data(), rows.byteSize());
  }
  uint32_t variable = addWeight(name, {blocks, lines, vector}, ElementType::u8, std::move(data));
  // Lines that begin at the same address are one layout.
  for (int64_t first = 0, end = 0; first < lines; first = end) {
    const Region::Start &start = (*region)->start(first);
    while (end < lines && (*region)->start(end) == start)
      ++end;
    int64_t count = end - first;
    Layout layout;
    layout.variable = variable;
    layout.bank = start.bank;
    layout.address = static_cast<uint32_t>(start.address);
    layout.slices = llvm::ArrayRef((*region)->slices).slice(first, count).vec();
    layout.axes = {{0, AxisTarget::Address, static_cast<uint32_t>(blocks), 1},
                   {1, AxisTarget::Slice, static_cast<uint32_t>(count), 1},
                   {2, AxisTarget::Lane, static_cast<uint32_t>(vector), 1},
                   {3, AxisTarget::Slice, 1, 1}};
    if (count < lines)
      layout.ranges = {{1, static_cast<uint32_t>(first), static_cast<uint32_t>(count)}};
    code.layouts.push_back(std::move(layout));
  }
  resident.push_back(*region);
  return WeightBlocks{*region, 0, height};
}

void CompilerState::load(MatrixUnit unit, llvm::ArrayRef<WeightBlocks> tiles, size_t number) {
  const WeightBlocks &tile = tiles[number];
  int64_t lines = machine.installRows, index = unit.plane + static_cast<int64_t>(number);
  int64_t blocks = (tile.rows + lines - 1) / lines;
  PlaneState &state = planes[{unit.hemisphere, index}];
  Group group;
  group.from = state.loadable;
  group.steps.push_back(
      {{UnitKind::Matrix, static_cast<uint8_t>(unit.hemisphere), static_cast<uint16_t>(index), loadPort},
       instructionOf(Opcode::LoadWeights, 0, 0, 0, blocks > 1 ? lines : 0),
       0,
       blocks});
  for (int64_t line = 0; line < lines; ++line)
    read(group, *tile.region, line, 0, {tile.region.get(), 0, tile.first, 1, blocks},
         streamOf(machine.outward(unit.hemisphere), machine.installFirstStream[index] + line),
         machine.matrixInputCoordinate(), 0);
  int64_t start = timetable.earliest(group.steps, group.from);
  place(group, start);
  state.loaded = start + blocks - 1;
}

void CompilerState::use(MatrixUnit unit, llvm::ArrayRef<WeightBlocks> tiles, ProductType type, int64_t lane) {
  // The tile that is in use stays until its last activation has passed, which a pair of planes takes together.
  int64_t last = 0;
  for (size_t each = 0; each < tiles.size(); ++each)
    last = std::max(last, planes[{unit.hemisphere, unit.plane + static_cast<int64_t>(each)}].lastActivation);
  for (auto [number, tile] : llvm::enumerate(tiles)) {
    int64_t index = unit.plane + static_cast<int64_t>(number);
    PlaneState &state = planes[{unit.hemisphere, index}];
    // Lanes beyond the rows hold anything, also NaN: they take no part.
    Instruction instruction = instructionOf(Opcode::InstallWeights, static_cast<uint8_t>(type), 0, tile.rows);
    instruction.word[2] = static_cast<int32_t>(lane);
    // The queue of the sums is busy until the last products have been added: that of the loads, which are done, is free
    // earlier.
    int64_t from = std::max({state.loaded, last + 1 - machine.install, state.installed});
    Group chosen;
    for (uint8_t port : {sumPort, loadPort}) {
      Group one;
      one.steps = {{{UnitKind::Matrix, static_cast<uint8_t>(unit.hemisphere), static_cast<uint16_t>(index), port},
                    instruction,
                    0,
                    1}};
      int64_t start = timetable.earliest(one.steps, from);
      if (port == sumPort || start < state.installed) {
        state.installed = start;
        chosen = std::move(one);
      }
    }
    place(chosen, state.installed);
    // One install may be under way for each further set of weights that a plane holds.
    state.loadable = std::max(state.loadable, state.installed + machine.install + 1);
  }
}

void CompilerState::install(MatrixUnit unit, llvm::ArrayRef<WeightBlocks> tiles, ProductType type, int64_t lane) {
  for (size_t number = 0; number < tiles.size(); ++number)
    load(unit, tiles, number);
  use(unit, tiles, type, lane);
}

void CompilerState::multiply(MatrixUnit unit, const ProductRun &run) {
  PlaneState &state = planes[{unit.hemisphere, unit.plane}];
  auto mode = static_cast<AccumulateMode>(run.mode);
  bool emits = mode == AccumulateMode::Pass || mode == AccumulateMode::Finish;
  Direction out = machine.outward(unit.hemisphere), in = machine.inward(unit.hemisphere);
  auto plane = [&](uint8_t port) {
    return QueueName{UnitKind::Matrix, static_cast<uint8_t>(unit.hemisphere), static_cast<uint16_t>(unit.plane), port};
  };
  Group best;
  int64_t start = std::numeric_limits<int64_t>::max();
  for (int64_t stream = 0; stream < machine.streams; stream += machine.group) {
    Group group;
    group.from = state.installed + machine.install;
    // A sum is begun before it goes on.
    if (mode == AccumulateMode::Add || mode == AccumulateMode::Finish)
      group.from = std::max(group.from, state.lastActivation + 1);
    read(group, *run.from, run.fromPiece, run.fromByte, {run.from, 0, run.fromRow, run.fromStep, run.count},
         streamOf(out, stream), machine.matrixInputCoordinate(), 0);
    group.steps.push_back(
        {plane(activationPort),
         instructionOf(Opcode::Activate, static_cast<uint8_t>(ProductType::U8), streamOf(out, stream).byte()), 0,
         run.count});
    bool sums = mode != AccumulateMode::Pass;
    group.steps.push_back(
        {plane(sumPort),
         instructionOf(Opcode::Accumulate, run.mode, 0, sums ? run.sum : 0, sums && run.count > 1 ? 1 : 0),
         machine.multiply, run.count});
    if (emits)
      write(group, *run.to, run.toPiece, run.toByte, {run.to, 0, run.toRow, 1, run.count},
            streamOf(in, machine.resultStream(unit.plane)), machine.matrixOutputCoordinate(),
            machine.multiply + (mode == AccumulateMode::Finish ? machine.accumulate : 0));
    int64_t at = timetable.earliest(group.steps, group.from);
    if (at < start) {
      start = at;
      best = std::move(group);
    }
  }
  place(best, start);
  state.lastActivation = std::max(state.lastActivation, start + run.count - 1);
}

llvm::Error CompilerState::contract(const Kernel &kernel) {
  graph::Contraction contraction = *graph::inferContraction(graph, kernel);
  const Read &lhs = kernel.reads[contraction.lhs], &rhs = kernel.reads[contraction.rhs];
  const graph::Value &lhsValue = graph.values[lhs.value], &rhsValue = graph.values[rhs.value];
  const graph::ValueId result = kernel.writes[0].value;
  bool floats = isFloat(lhsValue.type);
  // Channels that do not mix, whose values lie so that each would have a tile of its own: side by side instead.
  if (channelsApart(graph, kernel, contraction) &&
      !planTaps(graph, kernel, contraction, packings[lhs.value], packings[result],
                {machine.vectorBytes(), machine.lanes, machine.f16Rows}))
    return reduce(kernel);
  products = floats ? ElementType::f16 : ElementType::i8;
  ElementType factor = ElementType::f16, sumType = floats ? ElementType::f32 : ElementType::i32;
  auto typeOf = [&](ElementType type) {
    return floats ? ProductType::F16 : type == ElementType::u8 ? ProductType::U8 : ProductType::I8;
  };

  // In the type that the planes multiply, by one unit that passes them on.
  auto inFactors = [&](graph::ValueId id) -> llvm::Expected<RegionPointer> {
    auto region = regionOf(id);
    if (!region || !floats || (*region)->type == factor)
      return region;
    BlockExpression body;
    body.inputs = {(*region)->type};
    Register wide = body.append(BlockOpcode::Input, (*region)->type, {}, 0);
    body.results = {body.append(BlockOpcode::Convert, factor, {wide})};
    auto converted = stream(body, {wholeOf(*region)}, (*region)->rows, (*region)->columns);
    if (!converted)
      return converted.takeError();
    return converted->front();
  };
  auto activations = inFactors(lhs.value);
  if (!activations)
    return activations.takeError();

  TapOptions options{(*activations)->width, machine.lanes, floats ? machine.f16Rows : machine.rows};
  std::optional<TapPlan> plan;
  // Vectors of the result hold as many columns as a tile.
  if (int64_t columns = lanesOf(packings[result]), most = floats ? machine.f16Columns : machine.columns;
      most == machine.vectorBytes() || columns <= most)
    plan = planTaps(graph, kernel, contraction, packings[lhs.value], packings[result], options);
  // Where rows of a matrix lie in the lanes, each row of the result would have tiles of its own: sooner the matrix
  // moves.
  constexpr size_t mostTiles = 4; // times as many as without
  bool plain = packings[lhs.value] == plainPacking(lhsValue.shape) &&
               packings[result] == plainPacking(graph.values[result].shape);
  bool rowsInLanes = plain && llvm::any_of(contraction.m, [&](unsigned loop) {
                       return kernel.loops[loop].extent > 1 && graph::coefficientOf(lhs.map.back(), loop) != 0;
                     });
  bool direct = plan && (!rowsInLanes ||
                         plan->tiles() <= mostTiles * planMatrixTaps(graph, kernel, contraction, options).tiles());
  llvm::SmallVector<unsigned, 4> rowLoops = contraction.m, depthLoops = contraction.k;
  for (const graph::Contraction::Window &window : contraction.windows) {
    rowLoops.push_back(window.output);
    depthLoops.push_back(window.tap);
  }
  const std::optional<graph::Scalar> &padding = lhs.padding;
  uint64_t outside = padding ? bitsFromDouble((*activations)->type, doubleFromBits(padding->type, padding->bits)) : 0;
  if (!direct) {
    // The first operand as a matrix: rows of all batches, one after the other.
    int64_t rows = extentOf(kernel, rowLoops), depth = extentOf(kernel, depthLoops);
    std::vector<int64_t> point(kernel.loops.size());
    auto routed = route(
        {*activations},
        Region::of((*activations)->type, extentOf(kernel, contraction.batch) * rows, depth, machine.vectorBytes()),
        outside, [&](int64_t element) -> ElementOrigin {
          int64_t row = element / depth;
          setLoops(kernel, contraction.batch, row / rows, point);
          setLoops(kernel, rowLoops, row % rows, point);
          setLoops(kernel, depthLoops, element % depth, point);
          int64_t from = elementAt(lhs, lhsValue.shape, point);
          return from < 0 ? ElementOrigin{} : ElementOrigin{0, from};
        });
    if (!routed)
      return routed.takeError();
    activations = *routed;
    options.vectorLanes = (*activations)->width;
    plan = planMatrixTaps(graph, kernel, contraction, options);
  }

  TapProduct product;
  product.plan = &*plan;
  product.lhs = *activations;
  product.padding = direct ? outside : 0;
  product.lhsType = typeOf(lhsValue.type);
  product.rhsType = typeOf(rhsValue.type);
  product.isOutput = direct && isOutput[result];
  product.copies = direct ? copiesOf[result] : 0;
  if (direct)
    product.value = result;
  // Tiles of a constant are made once; those of computed values for every use.
  RegionPointer computed;
  if (rhsValue.role != graph::ValueRole::Constant) {
    auto region = inFactors(rhs.value);
    if (!region)
      return region.takeError();
    computed = *region;
  }
  // Tiles whose rows lie in the lanes of computed values: all of them are turned at once.
  RegionPointer turned;
  int64_t turnedColumns = 0;
  if (computed && rhsValue.shape.size() >= 2 && packings[rhs.value] == plainPacking(rhsValue.shape))
    if (auto columns = columnsInRows(graph, kernel, contraction); columns && computed->columns > plan->mostHeight()) {
      TransposedRead read;
      read.columns = turnedColumns = *columns;
      for (int64_t outer = 0; outer < computed->rows; outer += turnedColumns)
        for (int64_t column = 0; column < computed->columns; ++column) {
          read.base.push_back(outer);
          read.column.push_back(column);
        }
      auto made = transposed(computed, read);
      if (!made)
        return made.takeError();
      turned = *made;
    }
  product.tilesAreThere = !computed;
  std::map<std::tuple<const TapPlan::Batch *, const TapPlan::Pass *, int64_t, unsigned>, std::vector<WeightBlocks>>
      constants;
  product.tilesOf = [&](const TapPlan::Batch &batch, const TapPlan::Pass &pass, int64_t firstColumn, int64_t width,
                        MatrixUnit unit) -> llvm::Expected<std::vector<WeightBlocks>> {
    std::vector<WeightBlocks> &known = constants[{&batch, &pass, firstColumn, unit.hemisphere}];
    if (!known.empty())
      return known;
    std::vector<int64_t> elements = plan->elementsOf(batch, pass, firstColumn, width, options.vectorLanes);
    if (computed)
      return routeWeights(turned ? turned : computed, pass.height, width,
                          [&](int64_t row, int64_t lane) -> ElementOrigin {
                            int64_t element = lane < width ? elements[row * width + lane] : -1;
                            if (element < 0)
                              return {};
                            if (turned) {
                              int64_t from = element / computed->columns, column = element % computed->columns;
                              int64_t to = from / turnedColumns * computed->columns + column;
                              element = to * turnedColumns + from % turnedColumns;
                            }
                            return {0, element};
                          });
    auto made =
        constantTiles(rhs.value, floats ? factor : rhsValue.type, elements, pass.height, width, unit.hemisphere);
    if (made)
      known = *made;
    return made;
  };
  product.body.inputs = {sumType};
  Register value = product.body.append(BlockOpcode::Input, sumType, {}, 0);
  product.operands.push_back({});
  if (!direct) {
    product.body.results = {value};
    auto sums = streamTaps(product);
    if (!sums)
      return sums.takeError();
    return finishProduct(kernel, contraction.batch, rowLoops, contraction.n, *sums, graph.values[result]);
  }
  auto started = addStart(kernel, product, value);
  if (!started)
    return started.takeError();
  value = *started;
  // An elementwise kernel that reads nothing else that is yet to come works on the sums while they are on their way.
  if (const Kernel *follower = followerOf(kernel)) {
    TapProduct together = product;
    if (llvm::Error error = follow(*follower, result, together, value))
      return error;
    auto made = streamTaps(together);
    if (!made)
      return made.takeError();
    if (*made) {
      regions[follower->writes[0].value] = *made;
      done.push_back(follower);
      return llvm::Error::success();
    }
  }
  if (graph.values[result].type != sumType)
    value = product.body.append(BlockOpcode::Convert, graph.values[result].type, {value});
  product.body.results = {value};
  auto made = streamTaps(product);
  if (!made)
    return made.takeError();
  if (!*made)
    return internalError("no chain for the sums of a product");
  regions[result] = *made;
  return llvm::Error::success();
}

llvm::Expected<Register> CompilerState::addStart(const Kernel &kernel, TapProduct &product, Register value) {
  const graph::Write &write = kernel.writes[0];
  ElementType type = product.body.instructions[value].type, from;
  Register start;
  if (write.initial) {
    auto operand = packedOperandOf(kernel, *write.initial);
    if (!operand)
      return operand.takeError();
    from = operand->region->type;
    start = product.body.append(BlockOpcode::Input, from, {}, product.body.inputs.size());
    product.body.inputs.push_back(from);
    product.operands.push_back(std::move(*operand));
  } else if (write.initialScalar && write.initialScalar->bits != 0) {
    from = write.initialScalar->type;
    start = product.body.append(BlockOpcode::Constant, from, {}, write.initialScalar->bits);
  } else {
    return value;
  }
  if (from != type)
    start = product.body.append(BlockOpcode::Convert, type, {start});
  return product.body.append(BlockOpcode::Add, type, {value, start});
}

const Kernel *CompilerState::followerOf(const Kernel &kernel) const {
  graph::ValueId result = kernel.writes[0].value;
  if (isOutput[result] || readers[result] != 1)
    return nullptr;
  auto found = llvm::find_if(graph.kernels,
                             [&](const Kernel &other) { return llvm::is_contained(graph::operandsOf(other), result); });
  // Another chip's kernels are not this one's.
  if (found - graph.kernels.begin() >= static_cast<ptrdiff_t>(part.end) || !graph::isElementwise(*found))
    return nullptr;
  for (const Read &read : found->reads) {
    bool there = regions[read.value] || forms[read.value].rowwise || forms[read.value].packed ||
                 graph.values[read.value].role == graph::ValueRole::Constant;
    if (read.value == result
            ? !graph::readsOwnElement(graph, *found, read) || packings[result] != packings[found->writes[0].value]
            : !there)
      return nullptr;
  }
  return graph::readsLoopNumbers(*found) ? nullptr : &*found;
}

llvm::Error CompilerState::follow(const Kernel &follower, graph::ValueId result, TapProduct &product, Register value) {
  ElementType stored = graph.values[result].type;
  if (product.body.instructions[value].type != stored)
    value = product.body.append(BlockOpcode::Convert, stored, {value});
  graph::ValueId written = follower.writes[0].value;
  std::vector<Register> inputs;
  for (const Read &read : follower.reads) {
    if (read.value == result) {
      inputs.push_back(value);
      continue;
    }
    auto operand = packedOperandOf(follower, read);
    if (!operand)
      return operand.takeError();
    ElementType type = operand->region->type;
    inputs.push_back(product.body.append(BlockOpcode::Input, type, {}, product.body.inputs.size()));
    product.body.inputs.push_back(type);
    product.operands.push_back(std::move(*operand));
  }
  product.body.results = product.body.append(follower.body, inputs);
  product.isOutput = isOutput[written];
  product.copies = copiesOf[written];
  product.value = written;
  return llvm::Error::success();
}

llvm::Expected<std::vector<WeightBlocks>> CompilerState::constantTiles(graph::ValueId id, ElementType factor,
                                                                       llvm::ArrayRef<int64_t> elements, int64_t height,
                                                                       int64_t width, unsigned hemisphere) {
  auto digest = llvm::xxh3_128bits({reinterpret_cast<const uint8_t *>(elements.data()), elements.size() * 8});
  auto keyIn = [&](unsigned side) { return std::tuple(id, width, digest.low64, digest.high64, side); };
  if (auto known = weightTiles.find(keyIn(hemisphere)); known != weightTiles.end())
    return known->second;
  for (unsigned side = 0; side < machine.hemispheres; ++side)
    if (auto other = weightTiles.find(keyIn(side)); other != weightTiles.end()) {
      int64_t words = 0;
      for (const WeightBlocks &tile : other->second)
        words += tile.region->slicesNeeded() * tile.region->wordsNeeded();
      if (words > wordsForSeconds)
        return other->second;
      wordsForSeconds -= words;
      residentWords -= words; // which counts what there must be
    }
  std::vector<WeightBlocks> &made = weightTiles[keyIn(hemisphere)];
  const graph::Value &value = graph.values[id];
  Tensor factors;
  if (value.data.valid()) {
    Tensor chosen = Tensor::zeros(value.type, {height, width});
    size_t each = byteWidth(value.type);
    std::byte *to = chosen.mutableBytes();
    const std::byte *from = value.data.bytes().data();
    for (auto [i, element] : llvm::enumerate(elements))
      if (element >= 0)
        std::memcpy(to + i * each, from + element * each, each);
    factors = quadrille::convert(chosen, factor);
  }
  int64_t vector = machine.vectorBytes();
  auto bytes = static_cast<int64_t>(byteWidth(factor));
  for (int64_t byte = 0; byte < bytes; ++byte) {
    Tensor data;
    if (factors.valid()) {
      data = Tensor::zeros(ElementType::u8, {height, vector});
      std::byte *to = data.mutableBytes();
      const std::byte *from = factors.bytes().data() + byte;
      for (int64_t row = 0; row < height; ++row)
        for (int64_t column = 0; column < width; ++column)
          to[row * vector + column] = from[(row * width + column) * bytes];
    }
    auto tile = weightsOf(value.name, data, height, hemisphere);
    if (!tile)
      return tile.takeError();
    made.push_back(*tile);
  }
  return made;
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
CompilerState::routeWeights(const RegionPointer &from, int64_t height, int64_t columns,
                            llvm::function_ref<ElementOrigin(int64_t row, int64_t lane)> originOf) {
  auto spread = spreadWeights(from, height, columns, originOf);
  if (!spread || !spread->empty())
    return spread;
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
