#include "target/tsp/QuantisedProducts.h"

#include "graph/Contraction.h"
#include "graph/DropUnused.h"
#include "graph/KernelQueries.h"
#include "numerics/BlockEvaluator.h"
#include "numerics/Convert.h"
#include "target/tsp/Lower.h"
#include "target/tsp/SaveMoves.h"

#include "llvm/ADT/STLExtras.h"

#include <cstring>
#include <map>
#include <set>

namespace quadrille::tsp {

using namespace graph;

namespace {

// A product of bytes, and what makes a byte of each of its sums with a factor for each channel; nothing else reads the
// sums.
struct QuantisedProduct {
  const Kernel *product, *quantises;
  Contraction contraction;
  unsigned factor; // of the reads of `quantises`
  size_t channels; // dimension of the sums

  // The byte that is made.
  std::optional<int64_t> byteOf(int32_t sum, float factorOfChannel) const {
    auto evaluator = BlockEvaluator::compile(quantises->body);
    if (!evaluator) {
      llvm::consumeError(evaluator.takeError());
      return std::nullopt;
    }
    BlockEvaluator::Scratch scratch(*evaluator);
    std::vector<BlockEvaluator::Operand> operands(2);
    operands[1 - factor] = {reinterpret_cast<const uint8_t *>(&sum), 1};
    operands[factor] = {reinterpret_cast<const uint8_t *>(&factorOfChannel), 1};
    uint8_t result = 0;
    evaluator->evaluate(operands, {{&result, 1}}, 1, {}, scratch);
    return isSigned() ? static_cast<int64_t>(static_cast<int8_t>(result)) : static_cast<int64_t>(result);
  }
  bool isSigned() const { return quantises->body.instructions[quantises->body.results[0]].type == ElementType::i8; }
};

std::optional<QuantisedProduct> quantisedProduct(const KernelGraph &graph, const Uses &uses, ValueId bytes) {
  auto onlyProducer = [&](ValueId value) -> const Kernel * {
    return uses.producers[value] && uses.readers[value].size() == 1 ? &graph.kernels[*uses.producers[value]] : nullptr;
  };
  const Kernel *quantises = onlyProducer(bytes);
  ElementType type = graph.values[bytes].type;
  if (!quantises || !isElementwise(*quantises) || quantises->reads.size() != 2 ||
      (type != ElementType::u8 && type != ElementType::i8))
    return std::nullopt;
  for (unsigned factor : {0u, 1u}) {
    const Read &sums = quantises->reads[1 - factor], &factors = quantises->reads[factor];
    const Kernel *product = onlyProducer(sums.value);
    const Value &constant = graph.values[factors.value];
    auto contraction = product && isMatrixProduct(graph, *product) ? inferContraction(graph, *product) : std::nullopt;
    if (!contraction || graph.values[sums.value].type != ElementType::i32 ||
        !readsOwnElement(graph, *quantises, sums) || constant.role != ValueRole::Constant ||
        constant.type != ElementType::f32 || factors.map.size() != 1)
      continue;
    for (auto [d, access] : llvm::enumerate(quantises->writes[0].map))
      if (!access.terms.empty() && access.terms == factors.map[0].terms &&
          constant.shape[0] == graph.values[bytes].shape[d])
        return QuantisedProduct{product, quantises, *contraction, factor, d};
  }
  return std::nullopt;
}

// And windows over these bytes.
struct PooledProduct {
  QuantisedProduct of;
  Windows windows;
};
std::optional<PooledProduct> pooledProduct(const KernelGraph &graph, const Uses &uses, const Kernel &pools) {
  auto windows = windowsOf(graph, pools);
  auto of = windows && windows->list.size() == 2 ? quantisedProduct(graph, uses, pools.reads[0].value) : std::nullopt;
  if (!of || of->channels != windows->channels)
    return std::nullopt;
  // A factor of zero makes the lowest byte, whatever the sum.
  constexpr int32_t large = 1 << 24;
  for (int32_t sum : {-large, 0, large})
    if (of->byteOf(sum, 0) != (of->isSigned() ? -128 : 0))
      return std::nullopt;
  return PooledProduct{std::move(*of), std::move(*windows)};
}

// One of the maxima's operands for every window: the product's results at places `stride` apart, from `first` on.
struct Phase {
  int64_t first, shift; // shift: which of them a window has, from its own on
};
std::vector<Phase> phasesOf(const Windows::Window &window, int64_t offset) {
  std::vector<Phase> phases;
  for (int64_t place = 0; place < window.count; ++place) {
    int64_t index = offset + place * window.dilation, first = index % window.stride;
    first += first < 0 ? window.stride : 0;
    phases.push_back({first, (index - first) / window.stride});
  }
  return phases;
}

} // namespace

void poolByPhases(KernelGraph &graph, int64_t vectorLanes) {
  constexpr int64_t places = 4; // of an image that are to share a vector
  Uses uses(graph);
  std::map<const Kernel *, PooledProduct> found; // by the kernel with the windows
  std::set<const Kernel *> replaced;
  for (const Kernel &kernel : graph.kernels)
    if (auto pooled = pooledProduct(graph, uses, kernel)) {
      const Shape &shape = graph.values[kernel.writes[0].value].shape,
                  &whole = graph.values[kernel.reads[0].value].shape;
      const Windows::Window &down = pooled->windows.list[0], &across = pooled->windows.list[1];
      int64_t across1 = std::min(across.stride, across.count);
      bool fits = shape[pooled->windows.channels] * places <= vectorLanes && shape[down.dimension] % places == 0 &&
                  across.dilation == 1 &&
                  // Fewer vectors than one for each place.
                  down.count * across1 * elementCount(shape) < places * elementCount(whole) &&
                  shape[across.dimension] * across.stride == whole[across.dimension];
      for (unsigned spatial : {0u, 1u}) {
        // The loop of the product that walks the windows' dimension, in its first operand too.
        const Kernel &product = *pooled->of.product;
        const DimensionAccess &written = product.writes[0].map[pooled->windows.list[spatial].dimension];
        fits &= written.terms.size() == 1;
        if (fits && product.writes[0].initial)
          for (const DimensionAccess &access : product.writes[0].initial->map)
            fits &= coefficientOf(access, written.terms[0].first) == 0;
      }
      if (!fits || !pooled->of.product->reads[pooled->of.contraction.lhs].padding)
        continue;
      replaced.insert(pooled->of.product);
      replaced.insert(pooled->of.quantises);
      found.emplace(&kernel, std::move(*pooled));
    }
  if (found.empty())
    return;
  std::vector<Kernel> kernels;
  for (Kernel &kernel : graph.kernels) {
    auto entry = found.find(&kernel);
    if (entry == found.end()) {
      if (!replaced.contains(&kernel))
        kernels.push_back(kernel);
      continue;
    }
    const PooledProduct &pooled = entry->second;
    const Windows::Window &down = pooled.windows.list[0], &across = pooled.windows.list[1];
    const ValueId result = kernel.writes[0].value;
    const Shape shape = graph.values[result].shape;
    const int64_t height = graph.values[kernel.reads[0].value].shape[down.dimension],
                  channels = shape[pooled.windows.channels];
    const int64_t offsetDown = kernel.reads[0].map[down.dimension].offset,
                  offsetAcross = kernel.reads[0].map[across.dimension].offset;
    auto addValue = [&](Value value) {
      graph.values.push_back(std::move(value));
      return static_cast<ValueId>(graph.values.size() - 1);
    };
    AccessMap own;
    std::vector<Loop> loops;
    for (auto [d, extent] : llvm::enumerate(shape)) {
      loops.push_back({extent});
      own.push_back({0, {{static_cast<unsigned>(d), 1}}});
    }
    // The product's results where windows have their place `place` down, at places of one phase across; the lowest byte
    // where that is outside.
    auto phase = [&](int64_t place, int64_t first) {
      Kernel product = *pooled.of.product;
      auto stretch = [&](const Windows::Window &window, int64_t stride, int64_t offset) {
        unsigned loop = product.writes[0].map[window.dimension].terms[0].first;
        product.loops[loop].extent = shape[window.dimension];
        for (Read &read : product.reads)
          for (DimensionAccess &access : read.map)
            for (auto &[of, coefficient] : access.terms)
              if (of == loop) {
                access.offset += coefficient * offset;
                coefficient *= stride;
              }
      };
      stretch(down, down.stride, offsetDown + place * down.dilation);
      stretch(across, across.stride, first);
      Value sums = graph.values[pooled.of.product->writes[0].value], bytes = graph.values[kernel.reads[0].value];
      sums.shape = bytes.shape = shape;
      product.writes[0].value = addValue(std::move(sums));
      countWork(graph, product);
      Kernel quantises = *pooled.of.quantises;
      quantises.loops = loops;
      quantises.writes[0].value = addValue(std::move(bytes));
      Read &sum = quantises.reads[1 - pooled.of.factor], &factor = quantises.reads[pooled.of.factor];
      quantises.writes[0].map = sum.map = own;
      sum.value = product.writes[0].value;
      factor.map = {{0, {{static_cast<unsigned>(pooled.windows.channels), 1}}}};
      auto isInside = [&](int64_t y) {
        int64_t index = y * down.stride + offsetDown + place * down.dilation;
        return index >= 0 && index < height;
      };
      if (!isInside(0) || !isInside(shape[down.dimension] - 1)) {
        const Value before = graph.values[factor.value];
        Value constant = before;
        constant.origin.reset();
        constant.shape = {shape[down.dimension], channels};
        if (before.data.valid()) {
          std::vector<float> factors;
          for (int64_t y = 0; y < shape[down.dimension]; ++y)
            for (float each : valuesOf<float>(before.data))
              factors.push_back(isInside(y) ? each : 0);
          constant.data = Tensor::of<float>(ElementType::f32, constant.shape, llvm::ArrayRef(factors));
        }
        factor.value = addValue(std::move(constant));
        factor.map.insert(factor.map.begin(), {0, {{static_cast<unsigned>(down.dimension), 1}}});
      }
      countWork(graph, quantises);
      kernels.push_back(std::move(product));
      kernels.push_back(std::move(quantises));
      return kernels.back().writes[0].value;
    };
    auto maximum = [&](llvm::ArrayRef<std::pair<ValueId, int64_t>> operands, ValueId into) {
      Kernel larger;
      larger.kind = KernelKind::Map;
      larger.operation = "maximum";
      larger.nodes = kernel.nodes;
      larger.loops = loops;
      ElementType type = graph.values[result].type;
      std::optional<Register> most;
      for (auto [value, shift] : operands) {
        AccessMap map = own;
        map[across.dimension].offset = shift;
        std::optional<Scalar> lowest;
        if (shift != 0)
          lowest = Scalar{type, type == ElementType::i8 ? uint64_t(0x80) : 0};
        larger.reads.push_back({value, map, lowest});
        Register each = larger.body.append(BlockOpcode::Input, type, {}, larger.body.inputs.size());
        larger.body.inputs.push_back(type);
        most = most ? larger.body.append(BlockOpcode::Maximum, type, {*most, each}) : each;
      }
      larger.body.results = {*most};
      larger.writes = {{into, own, Combiner::None, {}, {}}};
      larger.numeric = defaultNumeric(graph, larger);
      countWork(graph, larger);
      kernels.push_back(std::move(larger));
    };
    // Phases across that several windows have are put together first.
    std::map<int64_t, std::vector<int64_t>> shifts; // by first place
    for (Phase each : phasesOf(across, offsetAcross))
      shifts[each.first].push_back(each.shift);
    std::vector<std::pair<ValueId, int64_t>> operands;
    for (const auto &[first, shiftsOf] : shifts) {
      std::vector<std::pair<ValueId, int64_t>> parts;
      for (int64_t place = 0; place < down.count; ++place)
        parts.emplace_back(phase(place, first), 0);
      if (shiftsOf.size() == 1) {
        for (auto [value, none] : parts)
          operands.emplace_back(value, shiftsOf[0]);
        continue;
      }
      ValueId together = addValue(graph.values[parts[0].first]);
      maximum(parts, together);
      for (int64_t shift : shiftsOf)
        operands.emplace_back(together, shift);
    }
    maximum(operands, result);
  }
  graph.kernels = std::move(kernels);
  dropUnused(graph);
}

namespace {

// With more indices of a dimension, which hold zeros.
Value extended(const Value &constant, size_t dimension, int64_t more) {
  Value result = constant;
  result.origin.reset();
  result.shape[dimension] += more;
  result.data = Tensor::zeros(constant.type, result.shape);
  size_t inner = byteWidth(constant.type);
  for (size_t d = dimension + 1; d < constant.shape.size(); ++d)
    inner *= static_cast<size_t>(constant.shape[d]);
  size_t from = inner * static_cast<size_t>(constant.shape[dimension]),
         to = inner * static_cast<size_t>(result.shape[dimension]);
  for (size_t outer = 0; from > 0 && outer < constant.data.bytes().size() / from; ++outer)
    std::memcpy(result.data.mutableBytes() + outer * to, constant.data.bytes().data() + outer * from, from);
  return result;
}

// The dimension of a read that a loop alone walks, element by element.
std::optional<size_t> dimensionOf(const Read &read, unsigned loop) {
  std::optional<size_t> found;
  for (auto [d, access] : llvm::enumerate(read.map)) {
    if (coefficientOf(access, loop) == 0)
      continue;
    if (found || access.offset != 0 || access.terms.size() != 1 || access.terms[0].second != 1)
      return std::nullopt;
    found = d;
  }
  return found;
}

// A product whose sums start from a constant for each channel, and the product whose bytes it reads.
struct Started {
  QuantisedProduct before;
  Contraction contraction;
  unsigned channelsBefore, channels; // loops: columns of the one, what the other sums over
  size_t biasBefore, weightsBefore;  // dimensions
  size_t weights, columns;
};
std::optional<Started> startedProduct(const KernelGraph &graph, const Uses &uses, const Kernel &kernel) {
  auto contraction = isMatrixProduct(graph, kernel) ? inferContraction(graph, kernel) : std::nullopt;
  auto isKnown = [&](ValueId id) {
    return graph.values[id].role == ValueRole::Constant && graph.values[id].data.valid();
  };
  // Sums that each index of one loop of columns starts from its constant.
  auto biasDimension = [&](const Kernel &product, const Contraction &of) -> std::optional<size_t> {
    const std::optional<Read> &bias = product.writes[0].initial;
    if (!bias || !isKnown(bias->value) || graph.values[bias->value].type != ElementType::i32 || of.n.size() != 1 ||
        elementCount(graph.values[bias->value].shape) != product.loops[of.n[0]].extent)
      return std::nullopt;
    return dimensionOf(*bias, of.n[0]);
  };
  if (!contraction || contraction->k.size() != 1 || !biasDimension(kernel, *contraction))
    return std::nullopt;
  const Read &lhs = kernel.reads[contraction->lhs], &rhs = kernel.reads[contraction->rhs];
  for (const Contraction::Window &window : contraction->windows)
    if (kernel.loops[window.tap].extent != 1)
      return std::nullopt;
  for (auto [extent, access] : llvm::zip(graph.values[lhs.value].shape, lhs.map)) {
    IndexRange range = indexRange(access, kernel.loops);
    if (range.first < 0 || range.last >= extent)
      return std::nullopt;
  }
  auto before = quantisedProduct(graph, uses, lhs.value);
  auto weights = dimensionOf(rhs, contraction->k[0]), columns = dimensionOf(rhs, contraction->n[0]);
  if (!before || !weights || !columns || !isKnown(rhs.value) || graph.values[rhs.value].type != ElementType::i8 ||
      dimensionOf(lhs, contraction->k[0]) != before->channels)
    return std::nullopt;
  const Kernel &product = *before->product;
  const Read &rhsBefore = product.reads[before->contraction.rhs];
  auto bias = biasDimension(product, before->contraction);
  if (!bias || !isKnown(rhsBefore.value) || !isKnown(before->quantises->reads[before->factor].value))
    return std::nullopt;
  unsigned loop = before->contraction.n[0];
  auto weightsBefore = dimensionOf(rhsBefore, loop);
  const DimensionAccess &written = product.writes[0].map[before->channels];
  if (!weightsBefore || written.terms.size() != 1 || written.terms[0].first != loop)
    return std::nullopt;
  return Started{std::move(*before), *contraction, loop, contraction->k[0], *bias, *weightsBefore, *weights, *columns};
}

} // namespace

void startFromChannels(KernelGraph &graph, int64_t vectorLanes) {
  Uses uses(graph);
  for (Kernel &kernel : graph.kernels) {
    auto started = startedProduct(graph, uses, kernel);
    if (!started)
      continue;
    const QuantisedProduct &before = started->before;
    // Channels that are always the largest byte, as many as the constants need, and one that is always 1.
    const int64_t most = before.isSigned() ? 127 : 255, mostWeight = 127;
    std::vector<int64_t> bias = valuesOf<int64_t>(graph.values[kernel.writes[0].initial->value].data);
    auto timesOf = [&](int64_t value) { return (std::abs(value) + most / 2) / most * (value < 0 ? -1 : 1); };
    int64_t times = 0;
    for (int32_t each : bias)
      times = std::max(times, std::abs(timesOf(each)));
    const int64_t more = (times + mostWeight - 1) / mostWeight + 1, channels = kernel.loops[started->channels].extent;
    // No more vectors, also where several places share one.
    constexpr int64_t mostPlaces = 4;
    auto vectorsOf = [&](int64_t of) {
      int64_t places = mostPlaces;
      while (places > 1 && places * of > vectorLanes)
        --places;
      return std::pair((of + vectorLanes - 1) / vectorLanes, -places);
    };
    auto zero = before.byteOf(0, 1);
    auto makes = [&](int64_t byte) { return zero && before.byteOf(static_cast<int32_t>(byte - *zero), 1) == byte; };
    if (vectorsOf(channels) != vectorsOf(channels + more) || !makes(most) || !makes(1))
      continue;
    auto addValue = [&](Value value) {
      graph.values.push_back(std::move(value));
      return static_cast<ValueId>(graph.values.size() - 1);
    };
    auto &product = const_cast<Kernel &>(*before.product), &quantises = const_cast<Kernel &>(*before.quantises);
    Read &weightsBefore = product.reads[before.contraction.rhs], &biasBefore = *product.writes[0].initial,
         &factor = quantises.reads[before.factor], &weights = kernel.reads[started->contraction.rhs];
    weightsBefore.value = addValue(extended(graph.values[weightsBefore.value], started->weightsBefore, more));
    biasBefore.value = addValue(extended(graph.values[biasBefore.value], started->biasBefore, more));
    factor.value = addValue(extended(graph.values[factor.value], 0, more));
    weights.value = addValue(extended(graph.values[weights.value], started->weights, more));
    for (int64_t lane = 0; lane < more; ++lane) {
      int64_t byte = lane + 1 < more ? most : 1;
      graph.values[biasBefore.value].data.mutableData<int32_t>()[channels + lane] = static_cast<int32_t>(byte - *zero);
      graph.values[factor.value].data.mutableData<float>()[channels + lane] = 1;
    }
    Value &changed = graph.values[weights.value];
    Shape strides = rowMajorStrides(changed.shape);
    for (auto [column, value] : llvm::enumerate(bias)) {
      int64_t left = timesOf(value), rest = value - left * most;
      for (int64_t lane = 0; lane < more; ++lane) {
        int64_t weight = lane + 1 < more ? std::clamp(left, -mostWeight, mostWeight) : rest;
        left -= lane + 1 < more ? weight : 0;
        changed.data.mutableData<int8_t>()[static_cast<int64_t>(column) * strides[started->columns] +
                                           (channels + lane) * strides[started->weights]] = static_cast<int8_t>(weight);
      }
    }
    product.loops[started->channelsBefore].extent += more;
    quantises.loops[quantises.writes[0].map[before.channels].terms[0].first].extent += more;
    kernel.loops[started->channels].extent += more;
    for (ValueId value : {product.writes[0].value, quantises.writes[0].value})
      graph.values[value].shape[before.channels] += more;
    kernel.writes[0].initial.reset();
    kernel.writes[0].initialScalar = Scalar{ElementType::i32, 0};
    for (Kernel *each : {&product, &quantises, &kernel})
      countWork(graph, *each);
  }
  dropUnused(graph);
}

namespace {

// A convolution of bytes of few channels, and the elementwise kernel that alone reads its sums.
struct ImageProduct {
  size_t product, follows; // kernels
  Contraction contraction;
  Contraction::Window down, across;
};

std::optional<ImageProduct> imageProduct(const KernelGraph &graph, const Uses &uses, size_t number, ValueId image) {
  if (number >= graph.kernels.size())
    return std::nullopt;
  const Kernel &kernel = graph.kernels[number];
  auto contraction = isMatrixProduct(graph, kernel) ? inferContraction(graph, kernel) : std::nullopt;
  if (!contraction || contraction->windows.size() != 2 || contraction->k.size() != 1 || contraction->n.size() != 1 ||
      llvm::any_of(contraction->m, [&](unsigned loop) { return kernel.loops[loop].extent > 1; }) ||
      kernel.reads.size() != 2 || kernel.reads[contraction->lhs].value != image)
    return std::nullopt;
  const Read &lhs = kernel.reads[contraction->lhs], &rhs = kernel.reads[contraction->rhs];
  const Value &weights = graph.values[rhs.value];
  const Shape &shape = graph.values[kernel.writes[0].value].shape;
  const auto &[down, across] = std::pair(contraction->windows[0], contraction->windows[1]);
  // [1, columns, down, across], and of the weights [columns, channels, taps down, taps across].
  auto walks = [](const DimensionAccess &access, unsigned loop) {
    return access.offset == 0 && access.terms == std::vector<std::pair<unsigned, int64_t>>{{loop, 1}};
  };
  bool plain = shape.size() == 4 && shape[0] == 1 && walks(kernel.writes[0].map[1], contraction->n[0]) &&
               walks(kernel.writes[0].map[2], down.output) && walks(kernel.writes[0].map[3], across.output) &&
               weights.role == ValueRole::Constant && weights.data.valid() && weights.shape.size() == 4 &&
               walks(rhs.map[0], contraction->n[0]) && walks(rhs.map[1], contraction->k[0]) &&
               walks(rhs.map[2], down.tap) && walks(rhs.map[3], across.tap) && lhs.padding &&
               walks(lhs.map[1], contraction->k[0]) && down.dimension == 2 && across.dimension == 3 &&
               down.dilation == 1;
  const auto &readers = uses.readers[kernel.writes[0].value];
  if (!plain || readers.size() != 1 || readers[0] >= graph.kernels.size())
    return std::nullopt;
  const std::optional<Read> &bias = kernel.writes[0].initial;
  if (bias && !(graph.values[bias->value].shape.size() == 1 && walks(bias->map[0], contraction->n[0])))
    return std::nullopt;
  const Kernel &follows = graph.kernels[readers[0]];
  if (!isElementwise(follows) || follows.writes[0].map.size() != shape.size())
    return std::nullopt;
  for (const Read &read : follows.reads)
    if (read.value == kernel.writes[0].value ? !readsOwnElement(graph, follows, read)
                                             : graph.values[read.value].role != ValueRole::Constant || read.padding)
      return std::nullopt;
  return ImageProduct{number, readers[0], *contraction, down, across};
}

} // namespace

void bringRowsTogether(KernelGraph &graph, int64_t vectorLanes) {
  constexpr int64_t places = 4; // down, that share a vector of the results
  constexpr int64_t mostChannels = 4;
  Uses uses(graph);
  std::map<size_t, std::vector<Kernel>> instead;
  auto addValue = [&](Value value) {
    graph.values.push_back(std::move(value));
    return static_cast<ValueId>(graph.values.size() - 1);
  };
  const auto count = static_cast<ValueId>(graph.values.size());
  for (ValueId image = 0; image < count; ++image) {
    const Shape shape = graph.values[image].shape;
    ElementType type = graph.values[image].type;
    if ((type != ElementType::u8 && type != ElementType::i8) || shape.size() != 4 || shape[0] != 1 ||
        shape[1] > mostChannels || uses.readers[image].size() < 2)
      continue;
    std::vector<ImageProduct> products;
    for (size_t number : uses.readers[image])
      if (auto product = imageProduct(graph, uses, number, image))
        products.push_back(std::move(*product));
    if (products.size() != uses.readers[image].size())
      continue;
    auto offsetOf = [&](const ImageProduct &each) {
      return graph.kernels[each.product].reads[each.contraction.lhs].map[2].offset;
    };
    auto resultOf = [&](const ImageProduct &each) -> const Shape & {
      return graph.values[graph.kernels[each.product].writes[0].value].shape;
    };
    const ImageProduct &one = products[0];
    auto byOffset = [&](const auto &a, const auto &b) { return offsetOf(a) < offsetOf(b); };
    const int64_t channels = shape[1], stride = one.down.stride,
                  taps = graph.kernels[one.product].loops[one.down.tap].extent,
                  firstRow = offsetOf(*llvm::min_element(products, byOffset)),
                  lastOffset = offsetOf(*llvm::max_element(products, byOffset)),
                  rows = (places - 1) * stride + lastOffset - firstRow + taps;
    bool alike = llvm::all_of(products, [&](const ImageProduct &each) {
      return resultOf(each) == resultOf(one) && each.down.stride == stride && each.across.stride == one.across.stride &&
             graph.kernels[each.product].loops[each.down.tap].extent == taps &&
             graph.kernels[each.product].reads[each.contraction.lhs].padding ==
                 graph.kernels[one.product].reads[one.contraction.lhs].padding;
    });
    const int64_t height = resultOf(one)[2], width = resultOf(one)[3], groups = height / places;
    if (!alike || height % places != 0 || rows * channels * one.across.stride > vectorLanes)
      continue;

    // For each group of places the rows that any of them reads, side by side with their channels.
    std::vector<Kernel> first;
    const Scalar padding = *graph.kernels[one.product].reads[one.contraction.lhs].padding;
    Value ones;
    ones.name = "one";
    ones.role = ValueRole::Constant;
    ones.type = ElementType::i8;
    ones.shape = {rows * channels, channels, rows, 1};
    ones.data = Tensor::zeros(ElementType::i8, ones.shape);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t channel = 0; channel < channels; ++channel)
        ones.data.mutableData<int8_t>()[((row * channels + channel) * channels + channel) * rows + row] = 1;
    Value picked;
    picked.type = ElementType::i32;
    picked.shape = {groups, rows * channels, 1, shape[3]}; // vectors hold rows of one group
    Value band = picked;
    band.type = type;
    Kernel picks;
    picks.kind = KernelKind::Contract;
    picks.operation = "pick";
    picks.nodes = graph.kernels[one.product].nodes;
    picks.loops = {{rows * channels}, {groups}, {shape[3]}, {channels, true}, {rows, true}, {1, true}};
    picks.reads = {
        {image, {{}, {0, {{3, 1}}}, {firstRow, {{1, places * stride}, {4, 1}}}, {0, {{2, 1}, {5, 1}}}}, padding},
        {addValue(std::move(ones)), {{0, {{0, 1}}}, {0, {{3, 1}}}, {0, {{4, 1}}}, {0, {{5, 1}}}}, {}}};
    picks.writes = {{addValue(std::move(picked)),
                     {{0, {{1, 1}}}, {0, {{0, 1}}}, {}, {0, {{2, 1}}}},
                     Combiner::Sum,
                     Scalar{ElementType::i32, 0},
                     {}}};
    auto multiplied = [](ElementType a, ElementType b) {
      BlockExpression body;
      body.inputs = {a, b};
      Register x = body.append(BlockOpcode::Input, a, {}, 0), y = body.append(BlockOpcode::Input, b, {}, 1);
      x = body.append(BlockOpcode::Convert, ElementType::i32, {x});
      y = body.append(BlockOpcode::Convert, ElementType::i32, {y});
      body.results = {body.append(BlockOpcode::Multiply, ElementType::i32, {x, y})};
      return body;
    };
    picks.body = multiplied(type, ElementType::i8);
    picks.numeric = graph.kernels[one.product].numeric;
    countWork(graph, picks);
    Kernel narrows;
    narrows.kind = KernelKind::Map;
    narrows.operation = "convert";
    narrows.nodes = picks.nodes;
    AccessMap own;
    for (auto [d, extent] : llvm::enumerate(band.shape)) {
      narrows.loops.push_back({extent});
      own.push_back({0, {{static_cast<unsigned>(d), 1}}});
    }
    narrows.reads = {{picks.writes[0].value, own, {}}};
    narrows.body.inputs = {ElementType::i32};
    Register wide = narrows.body.append(BlockOpcode::Input, ElementType::i32, {}, 0);
    narrows.body.results = {narrows.body.append(BlockOpcode::ConvertSaturating, type, {wide})};
    const ValueId together = addValue(std::move(band));
    narrows.writes = {{together, own, Combiner::None, {}, {}}};
    narrows.numeric = defaultNumeric(graph, narrows);
    countWork(graph, narrows);
    first.push_back(std::move(picks));
    first.push_back(std::move(narrows));

    instead[one.product] = std::move(first);
    for (const ImageProduct &each : products) {
      const Kernel &before = graph.kernels[each.product];
      const Read &lhs = before.reads[each.contraction.lhs], &rhs = before.reads[each.contraction.rhs];
      const int64_t columns = resultOf(each)[1], tapsAcross = before.loops[each.across.tap].extent;
      // Columns, groups, places, across; rows with channels, taps across.
      Kernel product = before;
      product.loops = {{columns}, {groups}, {places}, {width}, {taps * channels, true}, {tapsAcross, true}};
      const Value whole = graph.values[rhs.value];
      Value weights = whole;
      weights.origin.reset();
      weights.shape = {columns, taps * channels, tapsAcross};
      weights.data = Tensor::zeros(whole.type, weights.shape);
      for (int64_t column = 0; column < columns; ++column)
        for (int64_t channel = 0; channel < channels; ++channel)
          for (int64_t tap = 0; tap < taps; ++tap)
            std::memcpy(weights.data.mutableBytes() + ((column * taps + tap) * channels + channel) * tapsAcross,
                        whole.data.bytes().data() + ((column * channels + channel) * taps + tap) * tapsAcross,
                        tapsAcross);
      Read vectors{together,
                   {{0, {{1, 1}}},
                    {(lhs.map[2].offset - firstRow) * channels, {{2, stride * channels}, {4, 1}}},
                    {},
                    {lhs.map[3].offset, {{3, each.across.stride}, {5, each.across.dilation}}}},
                   lhs.padding};
      Read factors{addValue(std::move(weights)), {{0, {{0, 1}}}, {0, {{4, 1}}}, {0, {{5, 1}}}}, {}};
      product.body = multiplied(type, whole.type);
      product.reads = {std::move(vectors), std::move(factors)};
      Value sums = graph.values[before.writes[0].value];
      sums.shape = {1, columns, groups, places, width};
      Value made = graph.values[graph.kernels[each.follows].writes[0].value];
      made.shape = sums.shape;
      product.writes[0].value = addValue(std::move(sums));
      product.writes[0].map = {{}, {0, {{0, 1}}}, {0, {{1, 1}}}, {0, {{2, 1}}}, {0, {{3, 1}}}};
      if (product.writes[0].initial)
        product.writes[0].initial->map = {{0, {{0, 1}}}};
      countWork(graph, product);
      Kernel follows = graph.kernels[each.follows];
      const ValueId result = follows.writes[0].value;
      // Its loops by dimension; that of the rows becomes two.
      std::map<unsigned, std::vector<std::pair<unsigned, int64_t>>> loopsFor;
      constexpr unsigned firstOf[] = {0, 1, 2, 4};
      for (auto [d, access] : llvm::enumerate(follows.writes[0].map))
        if (!access.terms.empty()) {
          auto &terms = loopsFor[access.terms[0].first];
          terms = {{firstOf[d], d == 2 ? places : 1}};
          if (d == 2)
            terms.emplace_back(firstOf[d] + 1, 1);
        }
      AccessMap ownOf;
      follows.loops.clear();
      for (auto [d, extent] : llvm::enumerate(made.shape)) {
        follows.loops.push_back({extent});
        ownOf.push_back({0, {{static_cast<unsigned>(d), 1}}});
      }
      for (Read &read : follows.reads) {
        if (read.value == before.writes[0].value) {
          read.value = product.writes[0].value;
          read.map = ownOf;
          continue;
        }
        for (DimensionAccess &access : read.map) {
          std::vector<std::pair<unsigned, int64_t>> terms;
          for (auto [loop, coefficient] : access.terms)
            for (auto [of, times] : loopsFor[loop])
              terms.emplace_back(of, coefficient * times);
          llvm::sort(terms);
          access.terms = std::move(terms);
        }
      }
      follows.writes[0].map = ownOf;
      follows.writes[0].value = addValue(std::move(made));
      countWork(graph, follows);
      Kernel merges;
      merges.kind = KernelKind::Move;
      merges.operation = "reshape";
      merges.nodes = follows.nodes;
      merges.reads = {{follows.writes[0].value, {}, {}}};
      merges.writes = {{result, {}, Combiner::None, {}, {}}};
      instead[each.product].push_back(std::move(product));
      instead[each.follows] = {std::move(follows), std::move(merges)};
    }
  }
  if (instead.empty())
    return;
  std::vector<Kernel> kernels;
  for (auto [number, kernel] : llvm::enumerate(graph.kernels))
    if (auto found = instead.find(number); found != instead.end())
      llvm::move(found->second, std::back_inserter(kernels));
    else
      kernels.push_back(std::move(kernel));
  graph.kernels = std::move(kernels);
  dropUnused(graph);
}

} // namespace quadrille::tsp
