// Contractions on the matrix units. Each tile has blocks of groups, of result positions, of the channels of the result
// and of those that are summed; where several tiles sum for the same results, a reduction follows.
#include "target/ipu/Product.h"

#include "graph/KernelQueries.h"
#include "graph/RetypeValues.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <limits>

namespace quadrille::ipu {

using graph::AccessMap;
using graph::Kernel;
using graph::ValueId;

namespace {

// A contraction of integers in halves with products and sums of integers.
Task inIntegers(const Kernel &kernel) {
  constexpr auto i32 = ElementType::i32;
  Task task{kernel.loops, kernel.reads, kernel.writes, {}, i32, std::nullopt};
  task.body.inputs = kernel.body.inputs;
  std::vector<Register> factors;
  for (auto [number, type] : llvm::enumerate(task.body.inputs))
    factors.push_back(task.body.append(
        BlockOpcode::Convert, i32, {task.body.append(BlockOpcode::Input, type, {}, static_cast<uint64_t>(number))}));
  task.body.results = {task.body.append(BlockOpcode::Multiply, i32, factors)};
  return task;
}

} // namespace

void CompilerState::product(const Kernel &kernel) {
  Product product = productOf(kernel);
  if (!product.together) {
    std::optional<ProductPlan> plan = planProduct(product);
    if (!plan)
      return this->task(inIntegers(kernel));
    if (std::optional<Product> slim = slimProductOf(product))
      if (auto slimPlan = planProduct(*slim); slimPlan && slimPlan->rounds == 1 && slimPlan->cycles < plan->cycles)
        return multiply(*slim, *slimPlan);
    return multiply(product, *plan);
  }
  // As many channels beside each other as is best. The vertex multiplies halves.
  std::optional<std::pair<Product, ProductPlan>> best;
  for (int64_t channels : machine.verticalMacChannels(product.partials)) {
    if (product.operands != ElementType::f16)
      break;
    product.together->unit = product.groups.back().unit = channels;
    if (auto plan = planProduct(product); plan && (!best || plan->cycles < best->second.cycles))
      best = {product, *plan};
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
  for (auto [w, window] : llvm::enumerate(product.roles.windows))
    splits[window.tap].block = product.tapsOf(w);
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
  for (auto [w, window, split] : llvm::enumerate(product.roles.windows, plan.fieldSplits)) {
    int64_t extent = product.tapsOf(w);
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
    buffers[weightBuffer].interleaved = !product.together && !product.slimWindow;
    flush();
    std::vector<std::vector<int64_t>> values = {{numberOf(operands)}, {numberOf(product.partials)}};
    values.push_back({blocksOf(product.groups) / product.groupChannels()});
    if (product.together)
      values.push_back({product.groupChannels()});
    else if (product.slimWindow)
      values.insert(values.end(), {{1}, {product.inChannels}});
    else
      values.insert(values.end(), {{blocksOf(product.outer) * roundBlocks},
                                   {product.inChannels},
                                   {blocksOf(product.outOuter) * (product.out ? plan.outSplit.block : 1)},
                                   {product.outChannels}});
    values.push_back({blocksOf(product.positions)});
    if (product.nx1())
      values.insert(values.end(),
                    {outField, inField, kernelExtents, strides, dilations, std::vector<int64_t>(outField.size())});
    if (product.slimWindow)
      values.push_back({product.slimWindow});
    values.insert(values.end(), {{addressIn(inBuffer, 0)}, {addressIn(weightBuffer, 0)}, {addressIn(outBuffer, 0)}});
    if (!product.together && !product.slimWindow)
      values.insert(values.end(), {{round == 0}, {0}}); // sums begin; loads are chosen when addresses are known
    VertexSet vertices(*this);
    for (uint32_t tile : tiles)
      vertices.add(product.slimWindow ? Codelet::ConvPartial1x4SLIC
                   : product.together ? Codelet::ConvPartialVerticalMac
                   : product.nx1()    ? Codelet::ConvPartialnx1
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
