#include "target/tsp/SaveMoves.h"

#include "graph/Contraction.h"
#include "graph/DropUnused.h"
#include "graph/KernelQueries.h"
#include "numerics/Convert.h"
#include "target/tsp/ColumnParts.h"
#include "target/tsp/Lower.h"

#include "llvm/ADT/STLExtras.h"

#include <map>

namespace quadrille::tsp {

using namespace graph;

namespace {

// The loop of each dimension of a value that a transposition reads or writes; nothing where it has no loop or another
// access.
std::optional<unsigned> loopOf(const DimensionAccess &access) {
  bool single = access.offset == 0 && access.terms.size() == 1 && access.terms[0].second == 1;
  return single ? std::optional(access.terms[0].first) : std::nullopt;
}

bool isTransposition(const KernelGraph &graph, const Kernel &kernel) {
  if (!kernel.structured() || kernel.reads.size() != 1 || !isElementwise(kernel) || !kernel.body.isIdentity() ||
      kernel.reads[0].padding)
    return false;
  const Shape &from = graph.values[kernel.reads[0].value].shape, &to = graph.values[kernel.writes[0].value].shape;
  std::vector<bool> read(kernel.loops.size());
  for (auto [extent, access] : llvm::zip(from, kernel.reads[0].map)) {
    std::optional<unsigned> loop = loopOf(access);
    if (!loop && extent != 1)
      return false;
    if (loop && (read[*loop] || kernel.loops[*loop].extent != extent))
      return false;
    if (loop)
      read[*loop] = true;
  }
  for (auto [loop, isRead] : llvm::zip(kernel.loops, read))
    if (loop.extent != 1 && !isRead)
      return false;
  return elementCount(from) == elementCount(to);
}

} // namespace

std::optional<std::vector<std::vector<size_t>>> mergedDimensions(llvm::ArrayRef<int64_t> from,
                                                                 llvm::ArrayRef<int64_t> to) {
  std::vector<std::vector<size_t>> groups(to.size());
  size_t next = 0;
  for (auto [d, extent] : llvm::enumerate(to))
    for (int64_t product = 1; product < extent; ++next) {
      if (next == from.size() || from[next] == 0)
        return std::nullopt;
      product *= from[next];
      if (product > extent || extent % product != 0)
        return std::nullopt;
      if (from[next] != 1)
        groups[d].push_back(next);
    }
  for (; next < from.size(); ++next)
    if (from[next] != 1)
      return std::nullopt;
  return groups;
}

void computeBeforeMoving(KernelGraph &graph) {
  // Kernel by kernel: what is moved before is computed before that too.
  std::vector<bool> isOutput(graph.values.size());
  for (ValueId output : graph.outputs)
    isOutput[output] = true;
  Uses uses(graph);
  for (size_t number = 0; number < graph.kernels.size(); ++number) {
    for (size_t here = number;;) {
      Kernel &kernel = graph.kernels[here];
      if (!kernel.structured() || !isElementwise(kernel) || kernel.body.isIdentity() || kernel.reads.size() != 1 ||
          !readsOwnElement(graph, kernel, kernel.reads[0]) || readsLoopNumbers(kernel))
        break;
      ValueId between = kernel.reads[0].value, result = kernel.writes[0].value;
      std::optional<size_t> producer = uses.producers[between];
      if (!producer || isOutput[between] || uses.readers[between].size() != 1)
        break;
      Kernel &move = graph.kernels[*producer];
      if (!move.structured() || !isElementwise(move) || move.reads.size() != 1 || !move.body.isIdentity() ||
          move.reads[0].padding)
        break;
      const Value &source = graph.values[move.reads[0].value];
      if (elementCount(source.shape) != elementCount(graph.values[between].shape))
        break;
      // The value between has the source's shape and the result's type from now on.
      Kernel computes = kernel, moves = move;
      computes.loops.clear();
      AccessMap own;
      for (auto [d, extent] : llvm::enumerate(source.shape)) {
        computes.loops.push_back({extent});
        own.push_back({0, {{static_cast<unsigned>(d), 1}}});
      }
      computes.reads[0] = {move.reads[0].value, own, std::nullopt};
      computes.writes[0].value = between;
      computes.writes[0].map = own;
      graph.values[between].shape = source.shape;
      graph.values[between].type = graph.values[result].type;
      moves.reads[0].value = between;
      moves.writes[0].value = result;
      moves.body = {};
      ElementType type = graph.values[result].type;
      moves.body.inputs = {type};
      moves.body.results = {moves.body.append(BlockOpcode::Input, type, {}, 0)};
      moves.numeric = defaultNumeric(graph, moves);
      size_t earlier = *producer;
      graph.kernels[here] = std::move(moves);
      graph.kernels[earlier] = std::move(computes);
      uses = Uses(graph);
      here = earlier;
    }
  }
}

void sumBeforeMerging(KernelGraph &graph) {
  Uses uses(graph);
  for (Kernel &kernel : graph.kernels) {
    auto contraction = isMatrixProduct(graph, kernel) ? inferContraction(graph, kernel) : std::nullopt;
    if (!contraction || contraction->isConvolution())
      continue;
    const Read lhs = kernel.reads[contraction->lhs];
    std::optional<size_t> producer = uses.producers[lhs.value];
    if (!producer || !isReshape(graph.kernels[*producer]) || lhs.padding || uses.readers[lhs.value].size() != 1)
      continue;
    ValueId from = graph.kernels[*producer].reads[0].value;
    const Shape &shape = graph.values[from].shape;
    auto groups = mergedDimensions(shape, graph.values[lhs.value].shape);
    if (!groups)
      continue;
    // The last dimension is merged from those that are summed up one after the other; others are what they were.
    const std::vector<size_t> &parts = groups->back();
    std::optional<unsigned> depth = loopOf(lhs.map.back());
    if (parts.size() < 2 || !depth || !llvm::is_contained(contraction->k, *depth) ||
        kernel.loops[*depth].extent != graph.values[lhs.value].shape.back() ||
        llvm::any_of(llvm::drop_end(*groups), [](const auto &group) { return group.size() > 1; }))
      continue;
    Kernel split = kernel;
    std::map<size_t, unsigned> loops; // by dimension
    std::vector<std::pair<unsigned, int64_t>> strides;
    int64_t stride = 1;
    for (size_t dimension : llvm::reverse(parts)) {
      unsigned loop = *depth;
      if (dimension != parts.back()) {
        loop = static_cast<unsigned>(split.loops.size());
        split.loops.push_back({shape[dimension], /*reduction=*/true});
      }
      split.loops[loop].extent = shape[dimension];
      loops[dimension] = loop;
      strides.emplace_back(loop, stride);
      stride *= shape[dimension];
    }
    for (Read &read : split.reads)
      for (DimensionAccess &access : read.map) {
        DimensionAccess made{access.offset, {}};
        for (auto [loop, coefficient] : access.terms)
          if (loop == *depth)
            for (auto [part, apart] : strides)
              made.terms.emplace_back(part, coefficient * apart);
          else
            made.terms.emplace_back(loop, coefficient);
        llvm::sort(made.terms);
        access = std::move(made);
      }
    AccessMap map(shape.size());
    for (auto [d, group] : llvm::enumerate(*groups))
      if (d + 1 < groups->size() && !group.empty())
        map[group[0]] = lhs.map[d];
    for (auto [dimension, loop] : loops)
      map[dimension] = {0, {{loop, 1}}};
    split.reads[contraction->lhs] = {from, map, std::nullopt};
    if (!isMatrixProduct(graph, split))
      continue;
    addNodes(split, graph.kernels[*producer].nodes);
    kernel = std::move(split);
  }
  dropUnused(graph);
}

void transposeBeforeMerging(KernelGraph &graph) {
  Uses uses(graph);
  for (size_t number = 0; number < graph.kernels.size(); ++number) {
    if (!isReshape(graph.kernels[number]))
      continue;
    ValueId from = graph.kernels[number].reads[0].value, merged = graph.kernels[number].writes[0].value;
    llvm::ArrayRef<size_t> readers = uses.readers[merged];
    if (readers.size() != 1 || readers[0] == graph.kernels.size() || !isTransposition(graph, graph.kernels[readers[0]]))
      continue;
    auto groups = mergedDimensions(graph.values[from].shape, graph.values[merged].shape);
    if (!groups || llvm::all_of(*groups, [](const auto &group) { return group.size() < 2; }))
      continue;
    Kernel &reshape = graph.kernels[number], &transposition = graph.kernels[readers[0]];
    // The transposition of the dimensions before they are merged: a loop for each, in the order of the result.
    Value between = graph.values[merged];
    between.shape.clear();
    Kernel before = transposition;
    before.loops.clear();
    before.reads[0].value = from;
    before.reads[0].map.assign(graph.values[from].shape.size(), {});
    before.writes[0].map.clear();
    for (const DimensionAccess &access : transposition.writes[0].map) {
      std::optional<unsigned> loop = loopOf(access);
      if (!loop)
        continue;
      for (auto [d, of] : llvm::enumerate(transposition.reads[0].map))
        if (loopOf(of) == loop)
          for (size_t dimension : (*groups)[d]) {
            auto fresh = static_cast<unsigned>(before.loops.size());
            int64_t extent = graph.values[from].shape[dimension];
            before.loops.push_back({extent});
            before.reads[0].map[dimension] = {0, {{fresh, 1}}};
            before.writes[0].map.push_back({0, {{fresh, 1}}});
            between.shape.push_back(extent);
          }
    }
    auto made = static_cast<ValueId>(graph.values.size());
    before.writes[0].value = made;
    Kernel after = reshape;
    after.reads[0].value = made;
    after.writes[0].value = transposition.writes[0].value;
    graph.values.push_back(std::move(between));
    reshape = std::move(before);
    transposition = std::move(after);
    // What was read is what is read now, and nothing reads what was merged.
    uses = Uses(graph);
  }
}

void multiplyPartsApart(KernelGraph &graph) {
  Uses uses(graph);
  struct Split {
    size_t kernel, concat;
    unsigned lhs, rhs, loop;
    size_t channels; // dimension of the weights
  };
  std::vector<Split> splits;
  auto splitOf = [&](size_t reader, size_t concat) -> std::optional<Split> {
    if (reader == graph.kernels.size())
      return std::nullopt;
    const Kernel &kernel = graph.kernels[reader], &joins = graph.kernels[concat];
    auto contraction = isMatrixProduct(graph, kernel) ? inferContraction(graph, kernel) : std::nullopt;
    if (!contraction || !isFloat(graph.values[kernel.writes[0].value].type))
      return std::nullopt;
    const Read &lhs = kernel.reads[contraction->lhs], &rhs = kernel.reads[contraction->rhs];
    const Value &weights = graph.values[rhs.value];
    auto axis = static_cast<size_t>(integerAttribute(joins, "axis").value_or(0));
    if (lhs.value != joins.writes[0].value || weights.role != ValueRole::Constant || kernel.reads.size() != 2)
      return std::nullopt;
    std::optional<unsigned> loop = loopOf(lhs.map[axis]);
    if (!loop || !llvm::is_contained(contraction->k, *loop))
      return std::nullopt;
    for (auto [d, access] : llvm::enumerate(lhs.map))
      if (d != axis && coefficientOf(access, *loop) != 0)
        return std::nullopt;
    std::optional<size_t> channels;
    for (auto [d, access] : llvm::enumerate(rhs.map))
      if (coefficientOf(access, *loop) != 0) {
        if (channels || loopOf(access) != loop)
          return std::nullopt;
        channels = d;
      }
    if (!channels || weights.shape[*channels] != kernel.loops[*loop].extent)
      return std::nullopt;
    return Split{reader, concat, contraction->lhs, contraction->rhs, *loop, *channels};
  };
  for (auto [number, kernel] : llvm::enumerate(graph.kernels)) {
    if (kernel.operation != "concat" || kernel.structured())
      continue;
    std::vector<Split> found;
    for (size_t reader : uses.readers[kernel.writes[0].value]) {
      auto split = splitOf(reader, number);
      if (!split) {
        found.clear();
        break;
      }
      found.push_back(*split);
    }
    splits.insert(splits.end(), found.begin(), found.end());
  }
  if (splits.empty())
    return;
  std::vector<Kernel> kernels;
  for (auto [number, kernel] : llvm::enumerate(graph.kernels)) {
    auto split = llvm::find_if(splits, [&, number = number](const Split &each) { return each.kernel == number; });
    if (split == splits.end()) {
      if (llvm::none_of(splits, [&, number = number](const Split &each) { return each.concat == number; }))
        kernels.push_back(kernel);
      continue;
    }
    std::vector<Read> parts = graph.kernels[split->concat].reads;
    auto axis = static_cast<size_t>(integerAttribute(graph.kernels[split->concat], "axis").value_or(0));
    int64_t first = 0;
    ValueId sums = noValue;
    for (auto [p, part] : llvm::enumerate(parts)) {
      Kernel product = kernel;
      int64_t count = graph.values[part.value].shape[axis];
      Value weights = sliceOf(graph.values[kernel.reads[split->rhs].value], split->channels, first, count);
      first += count;
      product.loops[split->loop].extent = count;
      product.reads[split->lhs].value = part.value;
      product.reads[split->rhs].value = static_cast<ValueId>(graph.values.size());
      graph.values.push_back(std::move(weights));
      if (p > 0) {
        product.writes[0].initialScalar.reset();
        product.writes[0].initial = Read{sums, kernel.writes[0].map, std::nullopt};
      }
      if (p + 1 < parts.size()) {
        sums = static_cast<ValueId>(graph.values.size());
        product.writes[0].value = sums;
        graph.values.push_back(graph.values[kernel.writes[0].value]);
        graph.values.back().type = ElementType::f32; // rounded only once
      }
      countWork(graph, product);
      kernels.push_back(std::move(product));
    }
  }
  graph.kernels = std::move(kernels);
}

void splitColumns(KernelGraph &graph) {
  Uses uses(graph);
  std::vector<bool> gone(graph.kernels.size());
  for (auto [number, move] : llvm::enumerate(graph.kernels)) {
    if (!isElementwise(move) || move.reads.size() != 1 || move.reads[0].padding || !move.body.isIdentity())
      continue;
    ValueId value = move.reads[0].value;
    std::optional<size_t> from = uses.producers[value];
    if (!from || uses.readers[value].size() != 1 || gone[*from] ||
        graph.values[value].type != graph.values[move.writes[0].value].type ||
        elementCount(graph.values[value].shape) != elementCount(graph.values[move.writes[0].value].shape))
      continue;
    Kernel product = graph.kernels[*from];
    auto contraction = isMatrixProduct(graph, product) ? inferContraction(graph, product) : std::nullopt;
    if (!contraction || product.reads.size() != 2)
      continue;
    // The product's loops that are the move's; several for one that is split.
    std::vector<std::optional<unsigned>> loopFor(move.loops.size());
    std::vector<std::vector<std::pair<unsigned, int64_t>>> splitInto(product.loops.size());
    bool splits = false, fits = true;
    for (auto [d, access] : llvm::enumerate(move.reads[0].map)) {
      auto terms = access.terms;
      llvm::sort(terms, [](const auto &a, const auto &b) { return a.second < b.second; });
      int64_t extent = 1;
      for (auto [loop, coefficient] : terms) {
        fits = fits && coefficient == extent && !loopFor[loop];
        extent *= move.loops[loop].extent;
        loopFor[loop] = 0;
      }
      fits = fits && access.offset == 0 && extent == graph.values[value].shape[d];
      const DimensionAccess &written = graph.kernels[*from].writes[0].map[d];
      if (!fits || terms.empty())
        continue;
      if (written.terms.empty()) { // of extent 1
        for (auto [loop, coefficient] : terms)
          loopFor[loop].reset();
        continue;
      }
      unsigned whole = written.terms[0].first;
      if (terms.size() > 1) {
        fits = llvm::is_contained(contraction->n, whole);
        splits = true;
      }
      // The innermost part is the last loop.
      for (auto [loop, coefficient] : llvm::reverse(terms)) {
        bool first = loop == terms.back().first;
        loopFor[loop] = first ? whole : static_cast<unsigned>(product.loops.size());
        if (!first)
          product.loops.push_back({0, false});
        product.loops[*loopFor[loop]].extent = move.loops[loop].extent;
        splitInto[whole].emplace_back(*loopFor[loop], coefficient);
      }
    }
    for (auto [loop, of] : llvm::zip(move.loops, loopFor))
      fits = fits && (of || loop.extent == 1);
    if (!fits || !splits)
      continue;
    auto divide = [&](AccessMap &map) {
      for (DimensionAccess &access : map) {
        std::vector<std::pair<unsigned, int64_t>> terms;
        for (auto [loop, coefficient] : access.terms)
          if (splitInto[loop].size() > 1)
            for (auto [part, factor] : splitInto[loop])
              terms.emplace_back(part, coefficient * factor);
          else
            terms.emplace_back(loop, coefficient);
        llvm::sort(terms);
        access.terms = std::move(terms);
      }
    };
    for (Read &read : product.reads)
      divide(read.map);
    Write &write = product.writes[0];
    if (write.initial)
      divide(write.initial->map);
    write.value = move.writes[0].value;
    write.map.clear();
    for (const DimensionAccess &access : move.writes[0].map) {
      std::optional<unsigned> loop = access.terms.empty() ? std::nullopt : loopFor[access.terms[0].first];
      write.map.push_back(loop ? DimensionAccess{0, {{*loop, 1}}} : DimensionAccess{});
    }
    if (!isMatrixProduct(graph, product) || !inferContraction(graph, product))
      continue;
    addNodes(product, move.nodes);
    graph.kernels[*from] = std::move(product);
    gone[number] = true;
    uses.producers[move.writes[0].value] = from;
  }
  size_t kept = 0;
  for (size_t number = 0; number < gone.size(); ++number)
    if (!gone[number]) {
      if (kept != number)
        graph.kernels[kept] = std::move(graph.kernels[number]);
      ++kept;
    }
  graph.kernels.resize(kept);
}

namespace {

constexpr double lowestHalf = -65504; // the lowest number of f16

} // namespace

std::optional<Windows> windowsOf(const KernelGraph &graph, const Kernel &kernel) {
  if (!kernel.structured() || kernel.reads.size() != 1 || kernel.writes.size() != 1 ||
      kernel.writes[0].combiner != Combiner::Maximum || kernel.writes[0].initial || !kernel.body.isIdentity())
    return std::nullopt;
  const Read &read = kernel.reads[0];
  const Shape &shape = graph.values[read.value].shape;
  Windows windows;
  bool found = false;
  for (auto [d, access] : llvm::enumerate(read.map)) {
    if (access.terms.size() == 1 && access.offset == 0) {
      auto [loop, coefficient] = access.terms[0];
      if (coefficient != 1 || kernel.loops[loop].reduction)
        return std::nullopt;
      if (!found || shape[d] > shape[windows.channels])
        windows.channels = d;
      found = true;
      continue;
    }
    if (access.terms.size() != 2)
      return std::nullopt;
    auto [output, stride] = access.terms[0];
    auto [tap, dilation] = access.terms[1];
    if (kernel.loops[output].reduction || !kernel.loops[tap].reduction || stride < 1 || dilation < 1)
      return std::nullopt;
    windows.overlap |= stride < kernel.loops[tap].extent;
    windows.list.push_back({d, output, tap, stride, kernel.loops[tap].extent, dilation});
  }
  if (!found || windows.list.empty())
    return std::nullopt;
  return windows;
}

void poolByProducts(KernelGraph &graph, int64_t vectorLanes) {
  constexpr int64_t mostPlaces = 9;
  Uses uses(graph);
  std::vector<Kernel> kernels;
  for (Kernel &kernel : graph.kernels) {
    auto windows = windowsOf(graph, kernel);
    ValueId pooled = kernel.writes.empty() ? noValue : kernel.writes[0].value;
    auto isProductOperand = [&](size_t reader) {
      if (reader == graph.kernels.size())
        return false;
      const Kernel &product = graph.kernels[reader];
      auto contraction = isMatrixProduct(graph, product) ? inferContraction(graph, product) : std::nullopt;
      return contraction && product.reads[contraction->lhs].value == pooled;
    };
    int64_t places = windows ? reductionPoints(kernel) : 0;
    if (!windows || graph.values[pooled].type != ElementType::f32 || places > mostPlaces ||
        (kernel.reads[0].padding &&
         doubleFromBits(kernel.reads[0].padding->type, kernel.reads[0].padding->bits) > lowestHalf) ||
        graph.values[pooled].shape[windows->channels] * (windows->overlap ? 4 : 2) > vectorLanes ||
        llvm::is_contained(uses.readers[pooled], graph.kernels.size()) ||
        llvm::none_of(uses.readers[pooled], isProductOperand)) {
      kernels.push_back(std::move(kernel));
      continue;
    }
    auto addValue = [&](Value value) {
      graph.values.push_back(std::move(value));
      return static_cast<ValueId>(graph.values.size() - 1);
    };
    // A factor of one for each channel; the taps are there for the form.
    Value one;
    one.name = "one";
    one.role = ValueRole::Constant;
    one.shape.assign(windows->list.size() + 1, 1);
    one.shape[0] = graph.values[pooled].shape[windows->channels];
    std::vector<float> ones(one.shape[0], 1.0f);
    one.data = Tensor::of<float>(ElementType::f32, one.shape, llvm::ArrayRef(ones));
    ValueId factor = addValue(std::move(one)), before = noValue;
    unsigned channel = kernel.reads[0].map[windows->channels].terms[0].first;
    for (int64_t place = 0; place < places; ++place) {
      Kernel pick = kernel;
      pick.kind = KernelKind::Contract;
      pick.operation = "pick";
      pick.attributes.clear();
      Read factors{factor, {{0, {{channel, 1}}}}, std::nullopt};
      int64_t left = place;
      for (const Windows::Window &window : windows->list) {
        pick.loops[window.tap].extent = 1;
        pick.reads[0].map[window.dimension].offset += left % window.count * window.dilation;
        left /= window.count;
        factors.map.push_back({0, {{window.tap, 1}}});
      }
      // Padding is a number, which times zero is zero.
      bool inside = true;
      for (auto [extent, access] : llvm::zip(graph.values[pick.reads[0].value].shape, pick.reads[0].map)) {
        IndexRange range = indexRange(access, pick.loops);
        inside &= range.first >= 0 && range.last < extent;
      }
      pick.reads[0].padding.reset();
      if (!inside)
        pick.reads[0].padding = Scalar{ElementType::f32, bitsFromDouble(ElementType::f32, lowestHalf)};
      pick.reads.push_back(std::move(factors));
      pick.body = BlockExpression();
      pick.body.inputs = {ElementType::f32, ElementType::f32};
      Register a = pick.body.append(BlockOpcode::Input, ElementType::f32, {}, 0),
               b = pick.body.append(BlockOpcode::Input, ElementType::f32, {}, 1);
      pick.body.results = {pick.body.append(BlockOpcode::Multiply, ElementType::f32, {a, b})};
      pick.writes[0].combiner = Combiner::Sum;
      pick.writes[0].initialScalar = Scalar{ElementType::f32, 0};
      ValueId picked = addValue(graph.values[pooled]);
      pick.writes[0].value = picked;
      pick.numeric = defaultNumeric(graph, pick);
      countWork(graph, pick);
      kernels.push_back(std::move(pick));
      if (place == 0) {
        before = picked;
        continue;
      }
      Kernel larger;
      larger.kind = KernelKind::Map;
      larger.operation = "maximum";
      larger.nodes = kernel.nodes;
      AccessMap own;
      for (auto [d, extent] : llvm::enumerate(graph.values[pooled].shape)) {
        larger.loops.push_back({extent});
        own.push_back({0, {{static_cast<unsigned>(d), 1}}});
      }
      larger.reads = {{picked, own, {}}, {before, own, {}}};
      before = place + 1 == places ? pooled : addValue(graph.values[pooled]);
      larger.writes = {{before, own, Combiner::None, {}, {}}};
      larger.body.inputs = {ElementType::f32, ElementType::f32};
      Register x = larger.body.append(BlockOpcode::Input, ElementType::f32, {}, 0),
               y = larger.body.append(BlockOpcode::Input, ElementType::f32, {}, 1);
      larger.body.results = {larger.body.append(BlockOpcode::Maximum, ElementType::f32, {x, y})};
      larger.numeric = defaultNumeric(graph, larger);
      countWork(graph, larger);
      kernels.push_back(std::move(larger));
    }
  }
  graph.kernels = std::move(kernels);
}

} // namespace quadrille::tsp
