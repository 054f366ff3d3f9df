// Contractions on the matrix units. Each tile has blocks of groups, of result positions, of the channels of the result
// and of those that are summed; where several tiles sum for the same results, a reduction follows.
#include "target/ipu/CompilerState.h"

#include "graph/KernelQueries.h"
#include "graph/RetypeValues.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace quadrille::ipu {

using graph::AccessMap;
using graph::Contraction;
using graph::Kernel;
using graph::ValueId;

namespace {

AmpTypes ampTypes(ElementType operands, ElementType partials) {
  if (operands == ElementType::f32)
    return AmpTypes::F32F32;
  return partials == ElementType::f32 ? AmpTypes::F16F32 : AmpTypes::F16F16;
}

// A loop as it is shared: blocks in units of `unit` points.
struct Shared {
  unsigned loop;
  int64_t extent, unit = 1;
  int64_t units() const { return ceilDivide(extent, unit); }
};

} // namespace

// What the loops of a contraction are for, and the sizes of the matrix unit's blocks.
struct CompilerState::Product {
  const Kernel *kernel;
  Contraction roles;
  std::vector<Shared> groups, positions, fields, outer; // batch, m, outputs of windows, k but for the channels
  std::vector<Shared> outOuter;                         // n but for the channels
  std::optional<Shared> in, out;                        // channels
  int64_t inChannels, outChannels;                      // of a block
  std::optional<Shared> together; // of `groups` the one of channels that do not mix; a block lies beside each other
  ElementType operands, partials;
  AmpTypes types;
  int64_t mostProducts; // that a tile may sum
  bool nx1() const { return !fields.empty(); }
  int64_t groupChannels() const { return together ? together->unit : 1; }
};

// How a product is shared: parts of each loop, and rounds in which a tile's channels come one after the other.
struct CompilerState::ProductPlan {
  int64_t groups = 1, positions = 1, outBlocks = 1, inBlocks = 1; // parts
  bool evenPlaces = false; // positions in blocks as small as can be, else parts of the first loops
  int64_t rounds = 1;
  bool bringsWeights = false; // though they are constant: they lie on one tile each, and come in every round
  double cycles = 0;
  int64_t bytes = 0, weightBytes = 0; // of all, and of weights that stay
  // Blocks, in units, by list of the product.
  std::vector<Split> groupSplits, positionSplits, fieldSplits, outOuterSplits;
  Split outSplit, inSplit;
};

CompilerState::Product CompilerState::productOf(const Kernel &kernel) {
  Product product;
  product.kernel = &kernel;
  product.roles = *graph::inferContraction(graph, kernel);
  // Sums of one channel each lie apart, where halves of words cannot be sent.
  auto isLong = [&](unsigned loop) { return kernel.loops[loop].extent > 1; };
  product.operands = multipliedType(kernel, precision);
  bool depthwise = isDepthwise(kernel, product.roles);
  product.partials = depthwise || llvm::any_of(product.roles.n, isLong) ? precision.partials : ElementType::f32;
  product.mostProducts = std::numeric_limits<int64_t>::max();
  if (std::optional<int64_t> largest = graph::integerAttribute(kernel, "largest_product")) {
    constexpr int64_t exactInF32 = int64_t(1) << 24;
    product.partials = ElementType::f32;
    if (!kernel.attributes.contains(largestSumName))
      product.mostProducts = exactInF32 / *largest;
  }
  product.types = ampTypes(product.operands, product.partials);
  auto shared = [&](unsigned loop) { return Shared{loop, kernel.loops[loop].extent}; };
  for (unsigned loop : product.roles.batch)
    product.groups.push_back(shared(loop));
  for (unsigned loop : product.roles.m)
    product.positions.push_back(shared(loop));
  for (const Contraction::Window &window : product.roles.windows)
    product.fields.push_back(shared(window.output));
  // Positions lie in the order of the first operand's dimensions, which is mostly that of its memory.
  const graph::Read &lhs = kernel.reads[product.roles.lhs];
  auto dimensionOf = [&](const AccessMap &map, unsigned loop) {
    for (auto [d, access] : llvm::enumerate(map))
      if (graph::coefficientOf(access, loop) != 0)
        return static_cast<int64_t>(d);
    return int64_t(-1);
  };
  llvm::stable_sort(product.positions, [&](const Shared &a, const Shared &b) {
    return dimensionOf(lhs.map, a.loop) < dimensionOf(lhs.map, b.loop);
  });
  if (depthwise) {
    // The longest loop of channels lies beside each other, in the fastest place.
    auto channels =
        llvm::max_element(product.groups, [](const Shared &a, const Shared &b) { return a.extent < b.extent; });
    std::rotate(channels, channels + 1, product.groups.end());
    product.together = product.groups.back();
    product.inChannels = product.outChannels = 1;
    return product;
  }
  // The channels that lie beside each other.
  std::optional<unsigned> in, out;
  const auto &home = homes[lhs.value];
  for (unsigned loop : product.roles.k) {
    if (kernel.loops[loop].extent == 1)
      continue;
    auto grouped = home ? home->layout.order.grouped : std::nullopt;
    if (grouped && dimensionOf(lhs.map, loop) == static_cast<int64_t>(*grouped)) {
      in = loop;
      break;
    }
    if (!in || dimensionOf(lhs.map, loop) > dimensionOf(lhs.map, *in))
      in = loop;
  }
  for (unsigned loop : product.roles.n)
    if (kernel.loops[loop].extent > 1 &&
        (!out || dimensionOf(kernel.writes[0].map, loop) > dimensionOf(kernel.writes[0].map, *out)))
      out = loop;
  int64_t width = cycles.ampUnitWeights(product.types);
  product.inChannels = width;
  // As the next product reads them, if the units do not make more at once.
  product.outChannels = std::max(width, cycles.ampUnits(product.types));
  if (in) {
    product.in = shared(*in);
    // Kernel rows share the unit where there are few channels.
  }
  if (product.nx1())
    while (product.inChannels / 2 >= (in ? product.in->extent : 1) &&
           cycles.ampFilterHeight(product.types, product.inChannels / 2) > 0 &&
           product.inChannels / 2 * static_cast<int64_t>(byteWidth(product.operands)) >= machine.loadBytes)
      product.inChannels /= 2;
  if (in)
    product.in->unit = product.inChannels;
  if (out) {
    product.out = shared(*out);
    if (product.out->extent <= cycles.ampUnits(product.types))
      product.outChannels = cycles.ampUnits(product.types);
    product.out->unit = product.outChannels;
  }
  for (unsigned loop : product.roles.k)
    if (in != loop && kernel.loops[loop].extent > 1)
      product.outer.push_back(shared(loop));
  for (unsigned loop : product.roles.n)
    if (out != loop && kernel.loops[loop].extent > 1)
      product.outOuter.push_back(shared(loop));
  return product;
}

namespace {

// Parts of loops, the first one first, as many as `parts` in all.
std::vector<Split> distribute(llvm::ArrayRef<Shared> loops, int64_t &parts) {
  std::vector<Split> splits;
  int64_t left = parts;
  for (const Shared &loop : loops) {
    int64_t count = std::max<int64_t>(1, std::min(loop.units(), left));
    int64_t block = ceilDivide(loop.units(), count);
    splits.push_back({ceilDivide(loop.units(), block), block, 0});
    left /= splits.back().parts;
  }
  parts = 1;
  for (const Split &split : splits)
    parts *= split.parts;
  return splits;
}

int64_t blockOf(llvm::ArrayRef<Split> splits) {
  int64_t block = 1;
  for (const Split &split : splits)
    block *= split.block;
  return block;
}

int64_t unitsOf(llvm::ArrayRef<Shared> loops) {
  int64_t units = 1;
  for (const Shared &loop : loops)
    units *= loop.units();
  return units;
}

} // namespace

std::optional<CompilerState::ProductPlan> CompilerState::planProduct(const Product &product, ProductPlan plan) const {
  const Kernel &kernel = *product.kernel;
  plan.groupSplits = distribute(product.groups, plan.groups);
  // Rows of fields, and positions before them.
  std::vector<Shared> places(product.positions);
  llvm::append_range(places, product.fields);
  std::vector<Split> placeSplits;
  if (plan.evenPlaces) {
    llvm::SmallVector<int64_t, 6> extents;
    for (const Shared &place : places)
      extents.push_back(place.units());
    placeSplits = evenSplits(extents, plan.positions, 0); // whose vertices take what runs cost
    plan.positions = 1;
    for (const Split &split : placeSplits)
      plan.positions *= split.parts;
  } else {
    placeSplits = distribute(places, plan.positions);
  }
  plan.positionSplits.assign(placeSplits.begin(),
                             placeSplits.begin() + static_cast<ptrdiff_t>(product.positions.size()));
  plan.fieldSplits.assign(placeSplits.begin() + static_cast<ptrdiff_t>(product.positions.size()), placeSplits.end());
  // Channels of the result: outer loops first.
  std::vector<Shared> channels(product.outOuter);
  if (product.out)
    channels.push_back(*product.out);
  std::vector<Split> outSplits = distribute(channels, plan.outBlocks);
  plan.outSplit = product.out ? outSplits.back() : Split();
  plan.outOuterSplits.assign(outSplits.begin(), outSplits.begin() + static_cast<ptrdiff_t>(product.outOuter.size()));
  std::vector<Shared> in;
  if (product.in)
    in.push_back(*product.in);
  std::vector<Split> inSplits = distribute(in, plan.inBlocks);
  plan.inSplit = product.in ? inSplits.front() : Split();
  if (plan.groups * plan.positions * plan.outBlocks * plan.inBlocks > machine.tiles)
    return std::nullopt;
  if (plan.rounds > plan.inSplit.block)
    return std::nullopt;
  if (product.in) { // whole rounds
    plan.inSplit.block = roundUp(plan.inSplit.block, plan.rounds);
    plan.inSplit.parts = plan.inBlocks = ceilDivide(product.in->units(), plan.inSplit.block);
  }

  int64_t width = static_cast<int64_t>(byteWidth(product.operands));
  int64_t partialWidth = static_cast<int64_t>(byteWidth(product.partials));
  int64_t groups = blockOf(plan.groupSplits), positions = blockOf(plan.positionSplits);
  int64_t inBlocks = unitsOf(product.outer) * ceilDivide(plan.inSplit.block, plan.rounds);
  int64_t outBlocks = blockOf(plan.outOuterSplits) * plan.outSplit.block;
  int64_t inputs = positions, outputs = positions, taps = 1;
  std::vector<int64_t> outField, kernelExtents;
  for (auto [window, split] : llvm::zip_equal(product.roles.windows, plan.fieldSplits)) {
    int64_t extent = kernel.loops[window.tap].extent;
    outField.push_back(split.block);
    kernelExtents.push_back(extent);
    outputs *= split.block;
    taps *= extent;
    inputs *= (split.block - 1) * window.stride + (extent - 1) * window.dilation + 1;
  }
  if (unitsOf(product.outer) * plan.inSplit.block * product.inChannels * taps > product.mostProducts)
    return std::nullopt;
  Blocks blocks{groups, inBlocks, outBlocks, ceilDivide(product.outChannels, cycles.ampUnits(product.types))};
  // Weights and parts of sums are taken to lie in interleaved memory.
  int64_t filterHeight = std::max<int64_t>(1, cycles.ampFilterHeight(product.types, product.inChannels));
  auto compute = static_cast<double>(
      product.together ? cycles.vmac(product.types, Blocks{groups, 1, 1, 1}, product.groupChannels(), outputs,
                                     taps / kernelExtents.back(), kernelExtents.back())
      : product.nx1()  ? cycles.ampNx1(product.types, blocks, positions, outField, kernelExtents, filterHeight, true,
                                       CycleModel::mayLoadWide(filterHeight))
                       : cycles.amp1x1(product.types, blocks, positions, true, true));
  groups *= product.groupChannels();
  int64_t lhsBytes = groups * inBlocks * product.inChannels * inputs * width;
  int64_t rhsBytes = groups * inBlocks * product.inChannels * outBlocks * product.outChannels * taps * width;
  int64_t outElements = groups * outBlocks * product.outChannels * outputs;
  bool stays = isConstant(kernel.reads[product.roles.rhs].value) && !plan.bringsWeights;
  // Operands of neighbouring tiles that are the same come at twice the rate.
  auto rate = static_cast<double>(machine.receiveBytesPerCycle);
  double lhsRate = plan.outBlocks % machine.tilesPerBus == 0 ? rate * machine.sharedFactor : rate;
  double exchange = static_cast<double>(lhsBytes) / lhsRate;
  if (product.together) { // where the operand lies in other groups every place is a fragment
    const auto &home = homes[kernel.reads[product.roles.lhs].value];
    if (!home || !home->layout.order.grouped || home->layout.order.group != product.groupChannels())
      exchange = std::max(exchange, static_cast<double>(blocks.groups * inputs * machine.exchangeFragment));
  }
  if (!stays)
    exchange += static_cast<double>(rhsBytes) / rate * 2 + static_cast<double>(cycles.copy(rhsBytes));
  auto sync = static_cast<double>(machine.syncInternal);
  plan.cycles = static_cast<double>(plan.rounds) * (compute + exchange + sync);
  constexpr double behind = 3; // of each sum: a bias, a bound and narrowing
  if (plan.inBlocks > 1) {
    double results =
        static_cast<double>(outElements) * static_cast<double>(plan.groups * plan.positions * plan.outBlocks);
    double each = results / static_cast<double>(machine.tiles);
    constexpr double beginning = 500; // copies of the tile's own parts
    int64_t reduction =
        cycles.sumOfParts(product.partials, ElementType::f32,
                          roundUp(static_cast<int64_t>(each) + 1, product.outChannels), plan.inBlocks, true);
    plan.cycles += each * static_cast<double>(plan.inBlocks * partialWidth) / rate + sync + beginning +
                   static_cast<double>(reduction) + behind * each;
  } else {
    // Elementwise work behind it has as many elements on its tiles.
    plan.cycles += behind * static_cast<double>(outElements);
  }
  int64_t resident = stays ? rhsBytes * plan.rounds : rhsBytes * 2;
  plan.bytes = lhsBytes + resident + outElements * partialWidth;
  plan.weightBytes = stays ? resident : 0;
  return plan;
}

CompilerState::ProductPlan CompilerState::planProduct(const Product &product) const {
  std::optional<ProductPlan> best;
  int64_t channelParts = 1;
  std::vector<Shared> channels(product.outOuter);
  if (product.out)
    channels.push_back(*product.out);
  channelParts = unitsOf(channels);
  std::vector<Shared> places(product.positions);
  llvm::append_range(places, product.fields);
  auto most =
      static_cast<int64_t>(static_cast<double>(machine.memoryBytes) * machine.planProportion * frugality.proportion);
  // Few copies of weights are no fewer than two.
  const graph::Value &weights = graph.values[product.kernel->reads[product.roles.rhs].value];
  auto width = static_cast<int64_t>(byteWidth(product.operands));
  int64_t mostWeights =
      std::max(frugality.weightBytes, 2 * ceilDivide(elementCount(weights.shape) * width, machine.tiles));
  std::optional<ProductPlan> smallest;
  auto search = [&](bool bringsWeights) {
    for (int64_t rounds = 1; rounds <= 64 && !best; rounds *= 2)
      for (int64_t groups : partsOf(unitsOf(product.groups), machine.tiles))
        for (int64_t out : partsOf(channelParts, machine.tiles / groups))
          for (int64_t in : partsOf(product.in ? product.in->units() : 1, machine.tiles / groups / out)) {
            ProductPlan plan;
            plan.groups = groups;
            plan.outBlocks = out;
            plan.inBlocks = in;
            plan.rounds = rounds;
            plan.bringsWeights = bringsWeights;
            for (int64_t positions : partsOf(unitsOf(places), machine.tiles / groups / out / in)) {
              plan.positions = positions;
              for (bool even : {false, true}) {
                plan.evenPlaces = even;
                std::optional<ProductPlan> made = planProduct(product, plan);
                if (!made)
                  continue;
                if (!smallest || made->bytes < smallest->bytes)
                  smallest = made;
                if (made->bytes <= most && made->weightBytes <= mostWeights && (!best || made->cycles < best->cycles))
                  best = made;
                if (places.size() < 2 || !frugality.sharesEvenly())
                  break;
              }
            }
          }
  };
  search(false);
  if (!best && !product.nx1() && isConstant(product.kernel->reads[product.roles.rhs].value))
    search(true);
  return best ? *best : *smallest;
}

void CompilerState::product(const Kernel &kernel) {
  Product product = productOf(kernel);
  if (!product.together)
    return multiply(product, planProduct(product));
  // As many channels beside each other as is best. The vertex multiplies halves.
  std::optional<std::pair<Product, ProductPlan>> best;
  for (int64_t channels : machine.verticalMacChannels(product.partials)) {
    if (product.operands != ElementType::f16)
      break;
    product.together->unit = product.groups.back().unit = channels;
    if (ProductPlan plan = planProduct(product); !best || plan.cycles < best->second.cycles)
      best = {product, plan};
  }
  // A few channels leave most of the vertex idle.
  if (best && 2 * best->first.together->extent > best->first.groupChannels())
    return multiply(best->first, best->second);
  Task task{kernel.loops, kernel.reads, kernel.writes, kernel.body, kernel.numeric.accumulate, std::nullopt};
  for (auto [number, read] : llvm::enumerate(task.reads))
    if (ElementType type = graph.values[read.value].type; type != task.body.inputs[number])
      graph::retypeInput(task.body, number, type);
  this->task(std::move(task));
}

void CompilerState::multiply(const Product &product, const ProductPlan &plan) {
  const Kernel &kernel = *product.kernel;
  const graph::Read &lhs = kernel.reads[product.roles.lhs], &rhs = kernel.reads[product.roles.rhs];
  const graph::Write &write = kernel.writes[0];
  size_t rank = kernel.loops.size();

  // Blocks of the loops in points, and the distance of tiles: neighbours share what is brought of the first operand.
  std::vector<Split> splits(rank);
  for (size_t l = 0; l < rank; ++l)
    splits[l] = {1, kernel.loops[l].extent, 0};
  int64_t stride = 1;
  auto set = [&](const Shared &loop, const Split &split) {
    splits[loop.loop] = {split.parts, split.block * loop.unit, stride};
    stride *= split.parts;
  };
  auto setAll = [&](llvm::ArrayRef<Shared> loops, llvm::ArrayRef<Split> of) {
    for (size_t i = loops.size(); i-- > 0;)
      set(loops[i], of[i]);
  };
  if (product.out)
    set(*product.out, plan.outSplit);
  setAll(product.outOuter, plan.outOuterSplits);
  int64_t inStride = stride;
  if (product.in)
    set(*product.in, plan.inSplit);
  setAll(product.fields, plan.fieldSplits);
  setAll(product.positions, plan.positionSplits);
  setAll(product.groups, plan.groupSplits);

  // The tiles and their loops. All have whole blocks, so that all vertices are alike; what is beyond the operands is 0.
  std::vector<uint32_t> tiles;
  std::vector<LoopBox> boxes;
  std::vector<int64_t> at(rank);
  while (true) {
    int64_t tile = firstTile();
    LoopBox box;
    for (size_t l = 0; l < rank; ++l) {
      tile += at[l] * splits[l].tileStride;
      box.push_back({at[l] * splits[l].block, (at[l] + 1) * splits[l].block});
    }
    tiles.push_back(static_cast<uint32_t>(tile));
    boxes.push_back(box);
    size_t l = rank;
    while (l > 0 && ++at[l - 1] == splits[l - 1].parts)
      at[--l] = 0;
    if (l == 0)
      break;
  }
  // Arrangements that the vertices want.
  auto dimensionOf = [&](const AccessMap &map, unsigned loop) -> std::optional<size_t> {
    for (auto [d, access] : llvm::enumerate(map))
      if (graph::coefficientOf(access, loop) != 0)
        return d;
    return std::nullopt;
  };
  struct Builder {
    Arrangement arrangement;
    int64_t stride = 1;
    void group(std::optional<size_t> dimension, int64_t channels) {
      if (dimension) {
        arrangement.dimensions[*dimension].group = channels;
        arrangement.dimensions[*dimension].inner = stride;
      } else {
        arrangement.holes.push_back({channels, stride});
      }
      stride *= channels;
    }
    void outer(std::optional<size_t> dimension, int64_t extent, int64_t group = 1) {
      if (!dimension)
        return;
      Arrangement::Dimension &to = arrangement.dimensions[*dimension];
      to.extent = extent;
      to.outer = stride;
      if (to.group == 1)
        to.inner = stride;
      stride *= ceilDivide(extent, group);
    }
  };
  int64_t roundBlocks = ceilDivide(plan.inSplit.block, plan.rounds); // blocks of channels in a round
  int64_t roundChannels = roundBlocks * product.inChannels;
  Builder in;
  in.arrangement.dimensions.resize(lhs.map.size());
  auto inDimension = product.in ? dimensionOf(lhs.map, product.in->loop) : std::nullopt;
  if (product.together)
    in.group(dimensionOf(lhs.map, product.together->loop), product.groupChannels());
  else
    in.group(inDimension, product.inChannels);
  std::vector<int64_t> inField, outField, kernelExtents, strides, dilations;
  for (auto [window, split] : llvm::zip_equal(product.roles.windows, plan.fieldSplits)) {
    int64_t extent = kernel.loops[window.tap].extent;
    outField.push_back(split.block);
    kernelExtents.push_back(extent);
    strides.push_back(window.stride);
    dilations.push_back(window.dilation);
    inField.push_back((split.block - 1) * window.stride + (extent - 1) * window.dilation + 1);
  }
  for (size_t w = product.fields.size(); w-- > 0;)
    in.outer(product.roles.windows[w].dimension, inField[w]);
  for (const Shared &loop : llvm::reverse(product.positions))
    in.outer(dimensionOf(lhs.map, loop.loop), splits[loop.loop].block);
  in.outer(inDimension, roundChannels, product.inChannels);
  for (const Shared &loop : llvm::reverse(product.outer))
    in.outer(dimensionOf(lhs.map, loop.loop), splits[loop.loop].block);
  for (const Shared &loop : llvm::reverse(product.groups))
    in.outer(dimensionOf(lhs.map, loop.loop), splits[loop.loop].block, loop.unit);
  in.arrangement.elements = in.stride;

  Builder weights;
  weights.arrangement.dimensions.resize(rhs.map.size());
  auto inOfWeights = product.in ? dimensionOf(rhs.map, product.in->loop) : std::nullopt;
  auto outOfWeights = product.out ? dimensionOf(rhs.map, product.out->loop) : std::nullopt;
  if (product.together) {
    weights.group(dimensionOf(rhs.map, product.together->loop), product.groupChannels());
  } else {
    weights.group(inOfWeights, product.inChannels);
    weights.group(outOfWeights, product.outChannels);
  }
  for (size_t w = product.fields.size(); w-- > 0;)
    weights.outer(dimensionOf(rhs.map, product.roles.windows[w].tap), kernelExtents[w]);
  weights.outer(inOfWeights, roundChannels, product.inChannels);
  for (const Shared &loop : llvm::reverse(product.outer))
    weights.outer(dimensionOf(rhs.map, loop.loop), splits[loop.loop].block);
  if (product.out)
    weights.outer(outOfWeights, splits[product.out->loop].block, product.outChannels);
  for (const Shared &loop : llvm::reverse(product.outOuter))
    weights.outer(dimensionOf(rhs.map, loop.loop), splits[loop.loop].block);
  for (const Shared &loop : llvm::reverse(product.groups))
    weights.outer(dimensionOf(rhs.map, loop.loop), splits[loop.loop].block, loop.unit);
  weights.arrangement.elements = weights.stride;

  // What has no place yet lies as it is wanted.
  if (!product.nx1()) {
    if (!isConstant(lhs.value))
      placeForProduct(lhs, splits, in.arrangement);
    if (!isConstant(rhs.value) || plan.bringsWeights)
      placeForProduct(rhs, splits, weights.arrangement);
  }

  std::vector<Reading> readings;
  for (auto [tile, box] : llvm::zip_equal(tiles, boxes)) {
    Reading &reading = readings.emplace_back(Reading{tile, {}});
    for (const graph::Read *read : {&lhs, &rhs})
      if (homes[read->value] && !isConstant(read->value))
        reading.boxes.emplace_back(read->value, boxOf(read->map, box));
  }
  uint32_t first = firstTile() + shiftAwayFromParts(readings, false).tiles, lastTile = 0;
  for (uint32_t &tile : tiles) {
    tile += first - firstTile();
    lastTile = std::max(lastTile, tile);
  }

  // The sums: of the tiles that share the channels, then as the result.
  const graph::Value result = graph.values[write.value];
  Shape shape = {plan.inSplit.parts};
  llvm::append_range(shape, result.shape);
  ValueId partial = temporary(product.partials, shape, result.name);
  Layout layout = layoutFor(product.partials, shape);
  layout.firstTile = first;
  layout.splits.push_back({plan.inSplit.parts, 1, inStride});
  Builder out;
  out.arrangement.dimensions.resize(shape.size());
  auto outDimension = [&](unsigned loop) -> std::optional<size_t> {
    auto d = dimensionOf(write.map, loop);
    return d ? std::optional(*d + 1) : std::nullopt;
  };
  const std::optional<Shared> &channel = product.together ? product.together : product.out;
  int64_t groupOfOut = product.together ? product.groupChannels() : product.outChannels;
  auto channelDimension = channel ? outDimension(channel->loop) : std::nullopt;
  out.group(channelDimension, groupOfOut);
  llvm::SmallVector<unsigned, 6> order; // from the fastest
  auto outer = [&](const Shared &loop) {
    if (auto d = outDimension(loop.loop)) {
      out.outer(d, splits[loop.loop].block, loop.unit);
      order.push_back(static_cast<unsigned>(*d));
    }
  };
  for (const Shared &loop : llvm::reverse(product.fields))
    outer(loop);
  for (const Shared &loop : llvm::reverse(product.positions))
    outer(loop);
  if (product.out) {
    out.outer(channelDimension, splits[product.out->loop].block, product.outChannels);
    order.push_back(static_cast<unsigned>(*channelDimension));
  }
  for (const Shared &loop : llvm::reverse(product.outOuter))
    outer(loop);
  for (const Shared &loop : llvm::reverse(product.groups))
    outer(loop);
  for (unsigned d = 0; d < shape.size(); ++d)
    if (!llvm::is_contained(order, d))
      order.push_back(d);
  layout.order.dimensions.assign(order.rbegin(), order.rend());
  layout.order.grouped = channelDimension ? std::optional(static_cast<unsigned>(*channelDimension)) : std::nullopt;
  layout.order.group = channelDimension ? groupOfOut : 1;
  for (const graph::DimensionAccess &access : write.map)
    layout.splits.push_back(access.terms.empty() ? Split() : splits[access.terms[0].first]);
  out.arrangement.elements = out.stride;
  out.arrangement.holes.clear();
  layout.arrangement = out.arrangement;
  BufferId outBuffer = buffer(out.stride * layout.width(), first, lastTile, result.name + " (sums)");

  ElementType operands = product.operands;
  auto blocksOf = [&](llvm::ArrayRef<Shared> loops) {
    int64_t points = 1;
    for (const Shared &loop : loops)
      points *= splits[loop.loop].block;
    return points;
  };
  for (int64_t round = 0; round < plan.rounds; ++round) {
    std::vector<Wanted> lhsWanted, rhsWanted;
    for (auto [tile, whole] : llvm::zip_equal(tiles, boxes)) {
      LoopBox box = whole;
      if (product.in) {
        Interval &range = box[product.in->loop];
        range = {range.begin + round * roundChannels, range.begin + (round + 1) * roundChannels};
      }
      lhsWanted.push_back({tile, boxOf(lhs.map, box)});
      rhsWanted.push_back({tile, boxOf(rhs.map, box)});
    }
    BufferId inBuffer = operandOf(lhs.value, lhsWanted, in.arrangement, lastTile);
    BufferId weightBuffer = operandOf(rhs.value, rhsWanted, weights.arrangement, lastTile, plan.bringsWeights);
    buffers[weightBuffer].interleaved = !product.together;
    flush();
    std::vector<std::vector<int64_t>> values = {{numberOf(operands)}, {numberOf(product.partials)}};
    values.push_back({blocksOf(product.groups) / product.groupChannels()});
    if (product.together)
      values.push_back({product.groupChannels()});
    else
      values.insert(values.end(), {{blocksOf(product.outer) * roundBlocks},
                                   {product.inChannels},
                                   {blocksOf(product.outOuter) * (product.out ? plan.outSplit.block : 1)},
                                   {product.outChannels}});
    values.push_back({blocksOf(product.positions)});
    if (product.nx1())
      values.insert(values.end(),
                    {outField, inField, kernelExtents, strides, dilations, std::vector<int64_t>(outField.size())});
    values.insert(values.end(), {{addressIn(inBuffer, 0)}, {addressIn(weightBuffer, 0)}, {addressIn(outBuffer, 0)}});
    if (!product.together)
      values.insert(values.end(), {{round == 0}, {0}}); // sums begin; loads are chosen when addresses are known
    VertexSet vertices(*this);
    for (uint32_t tile : tiles)
      vertices.add(product.together ? Codelet::ConvPartialVerticalMac
                   : product.nx1()  ? Codelet::ConvPartialnx1
                                    : Codelet::ConvPartial1x1Out,
                   tile, values);
    vertices.execute("multiply");
  }
  homes[partial] = Home{layout, outBuffer};

  // The result, from one part or the sum of several.
  bool several = plan.inSplit.parts > 1;
  bool starts = write.initial || (write.initialScalar && !graph::startsFromZero(write));
  if (!several && !starts && (result.type == product.partials || readAs(write.value, product.partials))) {
    Layout same = layout;
    same.shape = result.shape;
    same.splits.erase(same.splits.begin());
    same.arrangement.dimensions.erase(same.arrangement.dimensions.begin());
    same.order.dimensions.clear();
    for (unsigned d : layout.order.dimensions)
      if (d > 0)
        same.order.dimensions.push_back(d - 1);
    if (same.order.grouped)
      same.order.grouped = *same.order.grouped - 1;
    homes[write.value] = Home{std::move(same), outBuffer};
    return;
  }
  Task task;
  task.accumulate = ElementType::f32;
  AccessMap read, map;
  if (several) {
    task.loops.push_back({plan.inSplit.parts, true});
    read.push_back({0, {{0, 1}}});
  } else {
    read.push_back({0, {}});
  }
  std::map<unsigned, unsigned> renamed;
  for (auto [extent, access] : llvm::zip_equal(result.shape, write.map)) {
    auto loop = static_cast<unsigned>(task.loops.size());
    task.loops.push_back({extent, false});
    read.push_back({0, {{loop, 1}}});
    map.push_back({0, {{loop, 1}}});
    if (!access.terms.empty())
      renamed[access.terms[0].first] = loop;
  }
  task.reads.push_back({partial, read, std::nullopt});
  graph::Write to = write;
  to.map = map;
  if (to.initial)
    for (graph::DimensionAccess &access : to.initial->map)
      for (auto &[loop, coefficient] : access.terms)
        loop = renamed.at(loop);
  task.body.inputs = {product.partials};
  Register sum = task.body.append(BlockOpcode::Input, product.partials);
  // Exact sums of integers are integers again.
  ElementType arithmetic = ElementType::f32;
  if (isInteger(result.type)) {
    arithmetic = task.accumulate = result.type;
    sum = task.body.append(BlockOpcode::Convert, arithmetic, {sum});
  }
  if (several) {
    task.body.results = {sum};
  } else {
    auto widened = [&](Register value) {
      return task.body.instructions[value].type == arithmetic
                 ? value
                 : task.body.append(BlockOpcode::Convert, arithmetic, {value});
    };
    if (starts) {
      Register start;
      if (to.initial) {
        ElementType type = graph.values[to.initial->value].type;
        task.body.inputs.push_back(type);
        start = widened(task.body.append(BlockOpcode::Input, type, {}, 1));
        task.reads.push_back(*to.initial);
      } else {
        start = widened(task.body.append(BlockOpcode::Constant, to.initialScalar->type, {}, to.initialScalar->bits));
      }
      sum = task.body.append(BlockOpcode::Add, arithmetic, {widened(sum), start});
    }
    task.body.results = {sum};
    ElementType made = task.body.instructions[sum].type;
    if (made != result.type)
      task.body.results = {task.body.append(BlockOpcode::Convert, result.type, {sum})};
    to.initial.reset();
    to.initialScalar.reset();
    to.combiner = graph::Combiner::None;
  }
  task.writes.push_back(std::move(to));
  this->task(std::move(task));
}

bool CompilerState::readAs(ValueId id, ElementType type) {
  if (!isFloat(graph.values[id].type) || llvm::is_contained(graph.outputs, id))
    return false;
  std::vector<std::pair<Kernel *, size_t>> readers;
  for (Kernel &kernel : graph.kernels)
    for (auto [number, read] : llvm::enumerate(kernel.reads))
      if (read.value == id) {
        if (!kernel.structured() || read.padding || isMatrixProduct(graph, kernel))
          return false;
        readers.emplace_back(&kernel, number);
      }
  for (const Kernel &kernel : graph.kernels)
    for (const graph::Write &write : kernel.writes)
      if (write.initial && write.initial->value == id)
        return false;
  for (auto [kernel, number] : readers)
    graph::retypeInput(kernel->body, number, type);
  graph.values[id].type = type;
  return true;
}

void CompilerState::placeForProduct(const graph::Read &read, llvm::ArrayRef<Split> loops, const Arrangement &wanted) {
  const graph::Value &value = graph.values[read.value];
  if (homes[read.value])
    return;
  Layout layout = layoutFor(value.type, value.shape);
  // Dimensions in the order of the distances of their elements; groups of the fastest one.
  auto distance = [&](unsigned d) {
    const Arrangement::Dimension &dimension = wanted.dimensions[d];
    return value.shape[d] == 1 ? std::numeric_limits<int64_t>::max()
                               : std::max(dimension.inner, dimension.outer / dimension.group);
  };
  llvm::stable_sort(layout.order.dimensions, [&](unsigned a, unsigned b) { return distance(a) > distance(b); });
  for (auto [d, dimension] : llvm::enumerate(wanted.dimensions))
    if (dimension.group > 1 && dimension.inner == 1) {
      layout.order.grouped = static_cast<unsigned>(d);
      layout.order.group = dimension.group;
    }
  auto grains = layout.grains();
  int64_t left = machine.tiles;
  for (auto [extent, access, grain] : llvm::zip_equal(value.shape, read.map, grains)) {
    int64_t block = access.terms.empty() ? extent : std::min(loops[access.terms[0].first].block, extent);
    block = roundUp(std::max<int64_t>(block, 1), grain);
    layout.splits.push_back({ceilDivide(std::max<int64_t>(extent, 1), block), block, 0});
    left /= layout.splits.back().parts;
  }
  // Blocks evenly over the tiles that are left; of groups within groups one to a tile, whose elements are one run. What
  // neighbours receive comes at the higher rate but where one of them sends it, so that several tiles send a row of
  // groups; more of them would make short runs.
  auto share = [&](unsigned d, int64_t most) {
    Split &split = layout.splits[d];
    int64_t grain = std::max(grains[d], wanted.dimensions[d].group), before = split.parts;
    int64_t count = std::max<int64_t>(1, std::min(most, split.block / grain)), parts = count;
    while (parts > 1 && split.block % (parts * grain) != 0)
      --parts;
    // Whole parts of a block, unless that is far fewer.
    int64_t block =
        4 * parts >= 3 * count ? split.block / parts : roundUp(ceilDivide(value.shape[d], before * count), grain);
    split = {ceilDivide(value.shape[d], block), block, 0};
    left /= ceilDivide(split.parts, before);
  };
  constexpr int64_t senders = 16;
  for (int64_t most : {senders, machine.tiles}) {
    for (unsigned d : layout.order.dimensions)
      if (layout.order.grouped != d)
        share(d, wanted.dimensions[d].group > 1 ? left : std::min(left, most));
    if (layout.order.grouped)
      share(*layout.order.grouped, left);
  }
  layout.setStrides();
  layout.arrange();
  place(read.value, std::move(layout));
  startsThere(read.value);
}

BufferId CompilerState::operandOf(ValueId id, llvm::ArrayRef<Wanted> wanted, const Arrangement &arrangement,
                                  uint32_t lastTile, bool brings) {
  if (isConstant(id) && !brings) {
    BufferId at = placeConstant(id, wanted, arrangement);
    for (const Wanted &each : wanted)
      if (llvm::any_of(llvm::zip_equal(each.box, graph.values[id].shape),
                       [](auto pair) { return std::get<0>(pair).begin >= std::get<1>(pair); }))
        fills.fill(each.tile, at, 0, widthOf(id), 0, arrangement.elements);
    return at;
  }
  BufferId at =
      buffer(arrangement.elements * widthOf(id), wanted.front().tile, lastTile, nameOf(id) + " (for a product)");
  bringInto(id, wanted, at, arrangement, graph::Scalar{graph.values[id].type, 0});
  return at;
}

} // namespace quadrille::ipu
