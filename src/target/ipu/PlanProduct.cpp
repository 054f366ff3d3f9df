// The planner of contractions: what their loops are for, and the cheapest way to share them by the vertices' formulas.
#include "target/ipu/Product.h"

#include "graph/KernelQueries.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <limits>

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

} // namespace

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
  // Windows of one place are none.
  if (!depthwise && llvm::all_of(product.roles.windows, [&](const Contraction::Window &window) {
        return kernel.loops[window.tap].extent == 1 && window.stride == 1 && window.padBefore == 0 &&
               window.padAfter <= 0;
      })) {
    for (const Contraction::Window &window : product.roles.windows)
      product.positions.push_back(shared(window.output));
    product.roles.windows.clear();
  }
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
  // Places of a window are not shared: fewer channels where a tile would sum too many products.
  int64_t taps = 1;
  for (const Contraction::Window &window : product.roles.windows)
    taps *= kernel.loops[window.tap].extent;
  while (product.nx1() && taps * product.inChannels > product.mostProducts &&
         cycles.ampFilterHeight(product.types, product.inChannels / 2) > 0)
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
  for (auto [w, window, split] : llvm::enumerate(product.roles.windows, plan.fieldSplits)) {
    int64_t extent = product.tapsOf(w);
    outField.push_back(split.block);
    kernelExtents.push_back(extent);
    outputs *= split.block;
    taps *= extent;
    inputs *= (split.block - 1) * window.stride + (extent - 1) * window.dilation + 1;
  }
  int64_t summed = product.in ? std::min(plan.inSplit.block * product.inChannels, product.in->extent) : 1;
  if (unitsOf(product.outer) * summed * taps > product.mostProducts)
    return std::nullopt;
  Blocks blocks{groups, inBlocks, outBlocks, ceilDivide(product.outChannels, cycles.ampUnits(product.types))};
  // Weights and parts of sums are taken to lie in interleaved memory.
  int64_t filterHeight = std::max<int64_t>(1, cycles.ampFilterHeight(product.types, product.inChannels));
  auto compute = static_cast<double>(
      product.slimWindow ? cycles.slic(product.types, groups, 1, outputs / outField.back(), outField.back(),
                                       taps / product.slimWindow, product.roles.windows.back().stride)
      : product.together ? cycles.vmac(product.types, Blocks{groups, 1, 1, 1}, product.groupChannels(), outputs,
                                       taps / kernelExtents.back(), kernelExtents.back())
      : product.nx1()    ? cycles.ampNx1(product.types, blocks, positions, outField, kernelExtents, filterHeight, true,
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

std::optional<CompilerState::ProductPlan> CompilerState::planProduct(const Product &product) const {
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
  return best ? best : smallest;
}

std::optional<CompilerState::Product> CompilerState::slimProductOf(const Product &product) const {
  auto isShort = [&](const std::optional<Shared> &channels) {
    return !channels || channels->extent <= machine.slimChannels;
  };
  const Kernel &kernel = *product.kernel;
  if (product.together || !product.nx1() || product.operands != ElementType::f16 ||
      kernel.attributes.contains("largest_product") || !product.outer.empty() || !product.outOuter.empty() ||
      !isShort(product.in) || !isShort(product.out) || product.roles.windows.back().dilation != 1 ||
      !llvm::is_contained(machine.slimStrides, product.roles.windows.back().stride))
    return std::nullopt;
  Product slim = product;
  slim.slimWindow = machine.slimWindow;
  slim.inChannels = slim.outChannels = machine.slimChannels;
  for (std::optional<Shared> *channels : {&slim.in, &slim.out})
    if (*channels)
      (*channels)->unit = machine.slimChannels;
  return slim;
}

} // namespace quadrille::ipu
