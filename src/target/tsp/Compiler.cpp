#include "target/tsp/Compiler.h"

#include "base/Error.h"
#include "graph/DropUnused.h"
#include "graph/FuseKernels.h"
#include "graph/InlineComposites.h"
#include "graph/KernelQueries.h"
#include "graph/RetypeValues.h"
#include "graph/ShareConstants.h"
#include "target/Refusal.h"
#include "target/tsp/ByteFunctions.h"
#include "target/tsp/ColumnParts.h"
#include "target/tsp/CompilerState.h"
#include "target/tsp/DivideLater.h"
#include "target/tsp/Lower.h"
#include "target/tsp/Orient.h"
#include "target/tsp/Pack.h"
#include "target/tsp/QuantisedProducts.h"
#include "target/tsp/SaveMoves.h"
#include "target/tsp/SplitChains.h"
#include "target/tsp/SplitInputs.h"

#include "llvm/ADT/STLExtras.h"

#include <cstring>
#include <set>

namespace quadrille::tsp {

using graph::Kernel;
using graph::KernelGraph;
using graph::ValueId;

std::optional<ElementType> machineType(ElementType type) {
  ElementType held = graph::heldIn32Bits(type);
  return hasType(held) ? std::optional(held) : std::nullopt;
}

llvm::Expected<MachineGraph> machineGraph(const KernelGraph &original, const Architecture &machine) {
  MachineGraph result;
  KernelGraph &graph = result.graph;
  graph = lower(graph::inlineComposites(boundSums(original), [](const Kernel &) { return false; }));
  for (const graph::Value &value : graph.values)
    if (!machineType(value.type))
      return target::unsupportedError("value '" + value.name + "': the machine has no type " + nameOf(value.type));
  if (std::string wrong = graph::holdIn32Bits(graph); !wrong.empty())
    return target::unsupportedError(wrong);
  graph::shareConstants(graph);
  transposeBeforeMerging(graph);
  structureReshapes(graph);
  computeBeforeMoving(graph);
  multiplyPartsApart(graph);
  graph::dropUnused(graph);
  graph::absorbMoves(graph, isMatrixProduct);
  multiplyReadColumnsApart(graph, machine.vectorBytes());
  divideAfterProducts(graph);
  sumBeforeMerging(graph);
  graph::fuseBetweenBytes(graph, sumOfBytes);
  // Longer ones seldom find units.
  graph::fuseElementwise(graph, static_cast<size_t>(machine.alus) / 2);
  splitColumns(graph);
  splitInputs(graph);
  poolByProducts(graph, machine.vectorBytes());
  poolByPhases(graph, machine.vectorBytes());
  bringRowsTogether(graph, machine.vectorBytes());
  startFromChannels(graph, machine.vectorBytes());
  narrowProductOperands(graph);
  result.ends = orientValues(graph);
  // Values that leave little of a chip for others.
  constexpr int64_t mostOfChip = 9;
  splitChains(graph, machine.dataWords() / mostOfChip, machine.vectorBytes());
  for (auto [number, value] : llvm::enumerate(graph.outputs))
    result.outputs.push_back({number, Shape(graph.values[value].shape.size(), 0)});
  result.packings = choosePackings(graph, machine);
  return result;
}

llvm::Error CompilerState::begin() {
  firstLayout = code.layouts.size();
  if (part.frugal)
    placement.beFrugal();
  measured.valueWords.resize(graph.values.size());
  measured.regions.resize(graph.values.size());
  int64_t constants = 0; // bytes, in the types that are multiplied
  for (size_t number = part.first; number < part.end; ++number)
    for (ValueId value : graph::operandsOf(graph.kernels[number]))
      if (++readers[value] == 1 && graph.values[value].role == graph::ValueRole::Constant)
        constants += elementCount(graph.values[value].shape) *
                     static_cast<int64_t>(std::min(byteWidth(graph.values[value].type), byteWidth(ElementType::f16)));
  placement.expect(constants / machine.vectorBytes());
  for (ValueId value : part.leaving)
    ++readers[value];
  for (size_t number : part.outputs)
    ++readers[graph.outputs[number]];
  for (ValueId value : graph.outputs)
    isOutput[value] = true;
  for (const Kernel &each : graph.kernels) {
    // Two planes read the operands of a product at the same time, unless they find their rows of bytes in segments of
    // their own; of windows several rows are combined at once.
    constexpr int64_t windowCopies = 2;
    bool product = isMatrixProduct(graph, each);
    if (each.kind == graph::KernelKind::Window || (each.kind == graph::KernelKind::Contract && !product))
      for (const graph::Read &read : each.reads)
        copiesOf[read.value] = std::max(copiesOf[read.value], windowCopies);
    if (graph::isElementwise(each))
      for (const graph::Read &read : each.reads) {
        auto again =
            llvm::count_if(each.reads, [&](const graph::Read &other) { return other.value == read.value; }) - 1;
        copiesOf[read.value] = std::max<int64_t>(copiesOf[read.value], again);
      }
    if (auto contraction = product ? graph::inferContraction(graph, each) : std::nullopt)
      for (unsigned read : {contraction->lhs, contraction->rhs})
        if (bitWidth(graph.values[each.reads[read].value].type) > 8 ||
            llvm::any_of(contraction->windows,
                         [&](const graph::Contraction::Window &window) { return each.loops[window.tap].extent > 1; }))
          copiesOf[each.reads[read].value] = std::max<int64_t>(copiesOf[each.reads[read].value], 1);
  }
  std::set<ValueId> factors; // constants that become tiles
  for (size_t number = part.first; number < part.end; ++number)
    if (isMatrixProduct(graph, graph.kernels[number]))
      if (auto contraction = graph::inferContraction(graph, graph.kernels[number]))
        factors.insert(graph.kernels[number].reads[contraction->rhs].value);
  int64_t bytes = 0,
          capacity = machine.hemispheres * machine.slices * machine.banks * machine.words * machine.vectorBytes();
  for (ValueId value : factors)
    if (graph.values[value].role == graph::ValueRole::Constant)
      bytes += elementCount(graph.values[value].shape) *
               static_cast<int64_t>(
                   byteWidth(isFloat(graph.values[value].type) ? ElementType::f16 : graph.values[value].type));
  // Tiles that planes of both hemispheres use lie in both, as far as half of the memory, less what the others fill
  // beyond their elements, has room.
  constexpr int64_t tilesPerElements = 2;
  wordsForSeconds = (capacity / 2 - tilesPerElements * bytes) / machine.vectorBytes();
  node = nodeOf(part.first);
  current = part.first;
  for (size_t number : part.inputs)
    if (llvm::Error error = input(static_cast<uint32_t>(number), graph.inputs[number]))
      return error;
  return llvm::Error::success();
}

llvm::Error CompilerState::run() {
  for (size_t number = part.first; number < part.end; ++number) {
    node = nodeOf(number);
    current = number;
    constexpr size_t compiled = 2; // periods
    if (repeated && number >= repeated->first + compiled * repeated->period && number < repeated->end()) {
      if (llvm::Error error = repeatCost(number))
        return error;
      continue;
    }
    int64_t resident = residentWords, end = timetable.end(), steps = timetable.steps();
    if (!llvm::is_contained(done, &graph.kernels[number]))
      if (llvm::Error error = kernel(graph.kernels[number]))
        return error;
    release(graph.kernels[number]);
    measure(number, {residentWords - resident, 0, 0, timetable.end() - end, timetable.steps() - steps});
  }
  for (size_t number : part.outputs)
    if (llvm::Error error = output(outputs[number], graph.outputs[number]))
      return error;
  // Values that are there in other forms only become what the next chip is sent.
  for (ValueId value : part.leaving)
    if (auto region = regionOf(value); !region)
      return region.takeError();
  for (Layout &layout : llvm::MutableArrayRef(code.layouts).drop_front(firstLayout))
    layout.chip = static_cast<uint16_t>(chip);
  return llvm::Error::success();
}

void CompilerState::release(const Kernel &kernel) {
  for (ValueId value : graph::operandsOf(kernel))
    if (--readers[value] == 0 && graph.values[value].role == graph::ValueRole::Intermediate)
      regions[value] = nullptr, forms[value] = LaneForms();
}

llvm::Error CompilerState::repeatCost(size_t number) {
  const Kernel &kernel = graph.kernels[number], &before = graph.kernels[number - repeated->period];
  for (auto [write, like] : llvm::zip(kernel.writes, before.writes)) {
    measured.valueWords[write.value] = measured.valueWords[like.value];
    measured.regions[write.value] = measured.regions[like.value];
    // What kernels behind the repetition read.
    bool staysLong = llvm::any_of(uses.readers[write.value], [&](size_t reader) { return reader >= repeated->end(); });
    if (!staysLong || regions[write.value])
      continue;
    const graph::Value &value = graph.values[write.value];
    const std::optional<Region> &shape = measured.regions[like.value];
    auto region =
        allocate(shape ? shape->shape()
                       : Region::of(value.type, rowsOf(value.shape), columnsOf(value.shape), machine.vectorBytes()),
                 {});
    if (!region)
      return region.takeError();
    regions[write.value] = *region;
  }
  release(kernel);
  measured.kernels.push_back(measured.kernels[number - repeated->period]);
  return llvm::Error::success();
}

void CompilerState::measure(size_t number, KernelCost cost) {
  // Outputs stay on the chip that makes them, with all that comes after them there.
  std::set<const Region *> live;
  for (auto [id, region] : llvm::enumerate(regions))
    if (region && graph.values[id].role != graph::ValueRole::Constant && !isOutput[id] &&
        live.insert(region.get()).second)
      cost.liveWords += region->slicesNeeded() * region->wordsNeeded();
  for (const graph::Write &write : graph.kernels[number].writes) {
    const graph::Value &value = graph.values[write.value];
    Region plain = Region::of(value.type, rowsOf(value.shape), columnsOf(value.shape), machine.vectorBytes());
    const Region &region = regions[write.value] ? *regions[write.value] : plain;
    measured.valueWords[write.value] = region.slicesNeeded() * region.wordsNeeded();
    if (regions[write.value])
      measured.regions[write.value] = region.shape();
    if (isOutput[write.value])
      cost.outputWords += measured.valueWords[write.value];
  }
  measured.kernels.push_back(cost);
}

llvm::Expected<ChipCode> CompilerState::finish() {
  std::vector<uint32_t> initial;
  for (size_t number : part.inputs)
    initial.push_back(inputNumbers[graph.inputs[number]]);
  for (const RegionPointer &region : resident)
    initial.push_back(region->number);
  llvm::append_range(initial, assumedThere);
  if (std::string wrong = timetable.misread(initial); !wrong.empty())
    return internalError(wrong);
  ChipCode result{timetable.queues()};
  int64_t text = 0;
  for (const Queue &queue : result.queues)
    text += static_cast<int64_t>(queue.instructions.size()) * machine.instructionBytes;
  if (text > machine.textBytes()) {
    noRoom = Misfit{part.end, static_cast<double>(machine.textBytes()) / static_cast<double>(text)};
    return target::doesNotFitError("the program has " + llvm::Twine(text) + " bytes of instructions, one chip holds " +
                                   llvm::Twine(machine.textBytes()));
  }
  if (products)
    program.precision = nameOf(*products).str();
  return result;
}

uint32_t CompilerState::nodeOf(size_t kernel) const {
  bool hasNode = kernel < graph.kernels.size() && !graph.kernels[kernel].nodes.empty();
  return hasNode ? graph.kernels[kernel].nodes.front() : 0;
}

llvm::Error CompilerState::kernel(const Kernel &kernel) {
  if (isComputedPick(graph, kernel))
    return pickRows(kernel);
  if (!kernel.structured())
    return isKnownMove(graph, kernel) ? moveKnown(kernel) : move(kernel);
  if (isMatrixProduct(graph, kernel))
    return contract(kernel);
  return graph::hasReduction(kernel.loops) ? reduce(kernel) : map(kernel);
}

llvm::Expected<RegionPointer> CompilerState::allocate(Region region, llvm::ArrayRef<const Region *> avoid,
                                                      std::optional<unsigned> hemisphere, bool anywhere, bool initial,
                                                      Placement::Pool pool) {
  if (!region.segmentRows && region.wordsNeeded() > machine.words) {
    // As few as there can be, of the same size: small ones find room where a whole bank is not free.
    int64_t most = std::max<int64_t>(machine.words / (region.spread ? 1 : region.pieces), 1);
    int64_t segments = (region.rows + most - 1) / most;
    region.segmentRows = (region.rows + segments - 1) / segments;
  }
  if (RegionPointer found = placement.allocate(region, avoid, hemisphere, anywhere, initial, pool)) {
    residentWords += initial ? region.slicesNeeded() * region.wordsNeeded() : 0;
    return found;
  }
  noRoom = Misfit{current, std::nullopt};
  std::string name = node < graph.nodes.size() ? graph.nodes[node].name : "";
  return target::doesNotFitError("no room in the memory of one chip for " + llvm::Twine(region.rows) + " x " +
                                     llvm::Twine(region.columns) + " values of " + nameOf(region.type) +
                                     ": they need " + llvm::Twine(region.wordsNeeded()) + " words in each of " +
                                     llvm::Twine(region.slicesNeeded()) + " slices, a bank has " +
                                     llvm::Twine(machine.words),
                                 {"", name});
}

llvm::Expected<RegionPointer> CompilerState::allocateInSegments(Region region, llvm::ArrayRef<const Region *> avoid,
                                                                std::optional<unsigned> hemisphere) {
  auto found = allocate(region, avoid, hemisphere);
  if (found || region.segmentRows || region.spread)
    return found;
  int64_t shortest = machine.words / 8; // so that there is an end
  int64_t segments = (region.wordsNeeded() + machine.words - 1) / machine.words;
  while (true) {
    segments += std::max<int64_t>(segments / 4, 1);
    if (segments > region.rows)
      return found;
    region.segmentRows = (region.rows + segments - 1) / segments;
    if (region.wordsNeeded() < shortest || region.slicesNeeded() > machine.slices)
      return found;
    if (RegionPointer made = placement.allocate(region, avoid, hemisphere)) {
      llvm::consumeError(found.takeError());
      noRoom.reset();
      return made;
    }
  }
}

void CompilerState::addLayout(uint32_t variable, const Region &region, const graph::Permutation &order,
                              const Packing &packing, llvm::ArrayRef<DimensionRange> ranges) {
  for (const RegionPointer &copy : region.copies)
    addLayout(variable, *copy, order, packing, ranges);
  // The region's dimensions, in rows.
  const Shape &whole = program.variables[variable].shape;
  size_t rank = whole.size();
  auto numberOf = [&](size_t d) { return static_cast<uint8_t>(order.empty() ? d : order[d]); };
  Shape begin(rank, 0), rows(rank), strides(rank);
  for (size_t d = 0; d < rank; ++d) {
    rows[d] = whole[numberOf(d)];
    for (const DimensionRange &range : ranges)
      if (range.dimension == numberOf(d)) {
        begin[d] = range.begin;
        rows[d] = range.extent;
      }
    rows[d] /= packing[d];
  }
  strides = rowMajorStrides(rows);
  int64_t slicesOfSegment = (region.spread ? region.pieces : 1) * region.bytes(), near = region.rowsOfSegment();
  // Rows [first, first + extents[d]) of each dimension, which begin in the given word and slice.
  auto add = [&](llvm::ArrayRef<int64_t> first, llvm::ArrayRef<int64_t> extents, int64_t address,
                 llvm::ArrayRef<SliceName> slices) {
    Layout layout;
    layout.variable = variable;
    layout.bank = region.starts[0].bank;
    layout.address = static_cast<uint32_t>(address);
    layout.slices = slices;
    auto addAxis = [&](size_t d, AxisTarget target, int64_t extent, int64_t step) {
      layout.axes.push_back({numberOf(d), target, static_cast<uint32_t>(extent), static_cast<uint32_t>(step)});
    };
    int64_t lanes = region.columns;
    for (size_t d = 0; d < rank; ++d) {
      if (int64_t extent = extents[d] * packing[d]; extent != whole[numberOf(d)])
        layout.ranges.push_back(
            {numberOf(d), static_cast<uint32_t>(begin[d] + first[d] * packing[d]), static_cast<uint32_t>(extent)});
      int64_t together = std::clamp<int64_t>(near / strides[d], 1, extents[d]);
      if (extents[d] > together)
        addAxis(d, AxisTarget::Slice, (extents[d] + together - 1) / together,
                together * strides[d] / near * slicesOfSegment);
      if (together > 1 || extents[d] == 1)
        addAxis(d, AxisTarget::Address, together, strides[d]);
      if (packing[d] == 1 && d + 1 < rank)
        continue;
      lanes /= packing[d];
      if (region.pieces > 1) {
        addAxis(d, region.spread ? AxisTarget::Slice : AxisTarget::Address, region.pieces,
                region.spread ? region.bytes() : near);
        addAxis(d, AxisTarget::Lane, region.width, 1);
      } else {
        addAxis(d, AxisTarget::Lane, packing[d], lanes);
      }
    }
    layout.axes.push_back({static_cast<uint8_t>(rank), AxisTarget::Slice, static_cast<uint32_t>(region.bytes()), 1});
    code.layouts.push_back(std::move(layout));
  };
  // One layout has all of them where a segment is a number of a dimension's rows; of the outermost one the last segment
  // may be shorter.
  bool alike = region.segments() == 1;
  for (size_t d = 0; d < rank && !alike; ++d) {
    bool outermost = llvm::all_of(llvm::ArrayRef(rows).take_front(d), [](int64_t extent) { return extent == 1; });
    alike = near % strides[d] == 0 && near / strides[d] <= rows[d] && (outermost || rows[d] % (near / strides[d]) == 0);
  }
  if (alike)
    return add(Shape(rank, 0), rows, region.starts[0].address, region.slices);
  // Else each segment is cut into boxes: from its first row on as many rows of the outermost dimension as it has.
  for (int64_t row = 0; row < region.rows;) {
    int64_t segment = row / near, left = std::min((segment + 1) * near, region.rows) - row;
    Shape first(rank), extents(rank, 1);
    for (size_t d = 0; d < rank; ++d)
      first[d] = row / strides[d] % rows[d];
    for (size_t d = 0; d < rank; ++d)
      if (row % strides[d] == 0 && strides[d] <= left) {
        extents[d] = std::min(left / strides[d], rows[d] - first[d]);
        std::copy(rows.begin() + static_cast<ptrdiff_t>(d) + 1, rows.end(),
                  extents.begin() + static_cast<ptrdiff_t>(d) + 1);
        add(first, extents, region.word(0, row),
            llvm::ArrayRef(region.slices).slice(segment * slicesOfSegment, slicesOfSegment));
        row += extents[d] * strides[d];
        break;
      }
  }
}

llvm::Error CompilerState::input(uint32_t variable, ValueId id) {
  const graph::Value &value = graph.values[id];
  if (elementCount(value.shape) == 0)
    return llvm::Error::success();
  Region shape = Region::of(value.type, elementCount(value.shape) / lanesOf(packings[id]), lanesOf(packings[id]),
                            machine.vectorBytes());
  auto region = allocate(shape, {});
  if (!region)
    return region.takeError();
  addLayout(variable, **region, ends[variable], packings[id]);
  regions[id] = *region;
  inputNumbers[id] = (*region)->number;
  return llvm::Error::success();
}

llvm::Error CompilerState::output(const OutputPart &of, ValueId id) {
  if (elementCount(graph.values[id].shape) == 0)
    return llvm::Error::success();
  auto region = regionOf(id);
  if (!region)
    return region.takeError();
  // The copies are the compiler's own.
  Region first = **region;
  first.copies.clear();
  auto variable = static_cast<uint32_t>(graph.inputs.size() + of.output);
  const graph::Permutation &order = ends[variable];
  std::vector<DimensionRange> ranges;
  for (auto [d, extent] : llvm::enumerate(graph.values[id].shape)) {
    auto dimension = static_cast<uint8_t>(order.empty() ? d : order[d]);
    if (extent != program.variables[variable].shape[dimension])
      ranges.push_back({dimension, static_cast<uint32_t>(of.begin[d]), static_cast<uint32_t>(extent)});
  }
  addLayout(variable, first, order, packings[id], ranges);
  return llvm::Error::success();
}

uint32_t CompilerState::addWeight(const std::string &name, Shape shape, ElementType type, Tensor data) {
  program::Variable variable;
  variable.name = name + " #" + std::to_string(program.variables.size());
  variable.type = type;
  variable.shape = std::move(shape);
  variable.role = program::VariableRole::Weight;
  variable.data = std::move(data);
  program.variables.push_back(std::move(variable));
  return static_cast<uint32_t>(program.variables.size() - 1);
}

llvm::Expected<RegionPointer> CompilerState::constantRegion(const std::string &name, ElementType type, int64_t rows,
                                                            int64_t columns, Tensor data,
                                                            llvm::ArrayRef<const Region *> avoid,
                                                            std::optional<unsigned> hemisphere) {
  auto region = allocate(Region::of(type, rows, columns, machine.vectorBytes()), avoid, hemisphere, false,
                         /*initial=*/true);
  if (!region)
    return region.takeError();
  (*region)->weight = addWeight(name, {rows, columns}, type, std::move(data));
  addLayout(*(*region)->weight, **region, {}, {1, columns});
  resident.push_back(*region);
  return *region;
}

RegionPointer CompilerState::weightCopy(const RegionPointer &of, llvm::ArrayRef<const Region *> avoid,
                                        std::optional<unsigned> hemisphere) {
  // Rows that many vectors meet, as a bias: other weights, and what is a piece of one, are moved when they are needed.
  const int64_t most = hemisphere ? 4 : 1; // where it is wanted somewhere, a few
  if (!of->weight || of->rows > most || program.variables[*of->weight].shape != Shape{of->rows, of->columns})
    return nullptr;
  Region shape = Region::of(of->type, of->rows, of->columns, of->width);
  RegionPointer copy = placement.allocate(shape, avoid, hemisphere, false, /*initial=*/true);
  if (!copy)
    return nullptr;
  residentWords += shape.slicesNeeded() * shape.wordsNeeded();
  addLayout(*of->weight, *copy, {}, {1, of->columns});
  resident.push_back(copy);
  of->copies.push_back(copy);
  return copy;
}

llvm::Expected<RegionPointer>
CompilerState::laidOut(const graph::Value &value, int64_t rows, int64_t columns, uint64_t padding,
                       llvm::function_ref<int64_t(int64_t row, int64_t column)> elementOf) {
  Tensor data;
  if (value.data.valid()) {
    data = Tensor::uninitialized(value.type, {rows, columns});
    size_t width = byteWidth(value.type);
    std::byte *to = data.mutableBytes();
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t column = 0; column < columns; ++column, to += width) {
        int64_t element = elementOf(row, column);
        const std::byte *from = element < 0 ? reinterpret_cast<const std::byte *>(&padding)
                                            : value.data.bytes().data() + static_cast<size_t>(element) * width;
        std::memcpy(to, from, width);
      }
  }
  return constantRegion(value.name, value.type, rows, columns, std::move(data), {});
}

llvm::Expected<RegionPointer> CompilerState::splatRegion(ElementType type, uint64_t bits,
                                                         llvm::ArrayRef<const Region *> avoid,
                                                         std::optional<unsigned> hemisphere) {
  for (auto &[key, region] : splats)
    if (key == std::pair(type, bits) && (!hemisphere || region->hemisphere == *hemisphere) &&
        llvm::none_of(avoid, [&](const Region *other) { return other && other->sharesSlices(*region); }))
      return region;
  Tensor data = Tensor::uninitialized(type, {1, machine.vectorBytes()});
  size_t width = byteWidth(type);
  for (int64_t lane = 0; lane < machine.vectorBytes(); ++lane)
    std::memcpy(data.mutableBytes() + lane * width, &bits, width);
  auto region = constantRegion("constant", type, 1, machine.vectorBytes(), data, avoid, hemisphere);
  if (region)
    splats.emplace_back(std::pair(type, bits), *region);
  return region;
}

llvm::Expected<RegionPointer> CompilerState::regionOf(ValueId id) {
  if (regions[id])
    return regions[id];
  const graph::Value &value = graph.values[id];
  if (value.role != graph::ValueRole::Constant && (forms[id].packed || forms[id].rowwise)) {
    auto region = matrixOfForms(id);
    if (region)
      regions[id] = *region;
    return region;
  }
  if (value.role != graph::ValueRole::Constant)
    return internalError("value '" + value.name + "' is read before it is computed");
  int64_t rows = rowsOf(value.shape), columns = columnsOf(value.shape);
  Tensor data = value.data.valid() ? value.data.reshaped({rows, columns}) : Tensor();
  auto region = constantRegion(value.name, value.type, rows, columns, std::move(data), {});
  if (region)
    regions[id] = *region;
  return region;
}

Step CompilerState::access(Opcode opcode, const Region &region, int64_t piece, int64_t byte, int64_t row, int64_t step,
                           Source stream, int64_t cycle, int64_t count) const {
  Step result;
  SliceName slice = region.slice(piece, byte, row);
  result.queue = {UnitKind::Memory, slice.hemisphere, slice.slice, 0};
  result.instruction.opcode = static_cast<uint8_t>(opcode);
  result.instruction.small[0] = region.start(piece).bank;
  result.instruction.small[1] = stream.byte();
  result.instruction.word[0] = static_cast<int32_t>(region.word(piece, row));
  result.instruction.word[1] = static_cast<int32_t>(count > 1 ? step : 0);
  result.cycle = cycle;
  result.count = count;
  result.value = region.number;
  return result;
}

void CompilerState::read(Group &group, const Region &region, int64_t piece, int64_t byte, const RowRun &run,
                         Source stream, int64_t target, int64_t cycle) const {
  cycle += run.offset - machine.memoryRead - (target - coordinate(region, piece, byte, run.row, stream.direction()));
  group.from = std::max(group.from, region.readableFrom(run.row, run.step, run.count) - cycle);
  group.touches.push_back({group.steps.size(), const_cast<Region *>(&region), run.row, run.step});
  group.steps.push_back(access(Opcode::Read, region, piece, byte, run.row, run.step, stream, cycle, run.count));
}

void CompilerState::write(Group &group, Region &region, int64_t piece, int64_t byte, const RowRun &run, Source stream,
                          int64_t origin, int64_t cycle) const {
  cycle += run.offset + coordinate(region, piece, byte, run.row, stream.direction()) - origin;
  group.from = std::max(group.from, region.writable - cycle);
  group.touches.push_back({group.steps.size(), &region, run.row, run.step});
  group.steps.push_back(access(Opcode::Write, region, piece, byte, run.row, run.step, stream, cycle, run.count));
}

void CompilerState::place(const Group &group, int64_t start) {
  timetable.place(group.steps, start, node);
  for (const Group::Touch &touch : group.touches) {
    const Step &step = group.steps[touch.step];
    int64_t first = start + step.cycle;
    if (step.instruction.op() != Opcode::Write)
      touch.region->lastRead = std::max(touch.region->lastRead, first + step.count - 1);
    else
      for (int64_t k = 0; k < step.count; ++k)
        touch.region->wrote(touch.row + k * touch.rowStep, first + k + machine.memoryWrite);
  }
}

} // namespace quadrille::tsp
