#include "graph/SplitZeroPoints.h"

#include "graph/Contraction.h"
#include "graph/KernelQueries.h"
#include "graph/KernelRewriter.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>

namespace quadrille::graph {

namespace {

// A zero point: read, or known.
struct ZeroPoint {
  std::optional<unsigned> read;
  int64_t known = 0;
  bool isZero() const { return !read && known == 0; }
};

class Splitter {
public:
  Splitter(KernelRewriter &rewriter, const Contraction &contraction)
      : rewriter(rewriter), kernel(*rewriter.replaced), contraction(contraction),
        type(rewriter.typeOf(kernel.writes[0].value)) {}

  void run() {
    ZeroPoint p = zeroPoint(contraction.lhsZeroPoint, contraction.lhsZeroConstant);
    ZeroPoint q = zeroPoint(contraction.rhsZeroPoint, contraction.rhsZeroConstant);
    const Write &write = kernel.writes[0];
    const Read &lhs = kernel.reads[contraction.lhs];
    Read rhs = kernel.reads[contraction.rhs];
    std::vector<Read> parts = {rhs};
    if (!q.read && q.known != 0 && isKnown(rhs.value) && !rhs.padding) {
      parts = differences(rhs, q.known);
      q.known = 0;
    }
    if (p.isZero() && q.isZero()) { // zero points that are 0
      productsOfParts(lhs, parts, write);
      return;
    }
    if (!p.read && q.isZero())
      if (std::optional<Write> corrected = startingFromCorrection(p.known, rhs, write)) {
        productsOfParts(lhs, parts, std::move(*corrected));
        return;
      }
    ValueId plain = rewriter.value(type, rewriter.shapeOf(write.value));
    Write toPlain = write;
    toPlain.value = plain;
    productsOfParts(lhs, parts, toPlain);

    std::vector<Loop> nest;
    std::vector<int64_t> place = renumbered([&](unsigned loop) { return !kernel.loops[loop].reduction; }, &nest);
    BodyBuilder body;
    std::vector<Read> reads;
    auto input = [&](ValueId value, AccessMap map) {
      reads.push_back({value, renumber(std::move(map), place), std::nullopt});
      Register read = body.input(rewriter.typeOf(value));
      return rewriter.typeOf(value) == type ? read : body.emit(BlockOpcode::Convert, type, {read});
    };
    auto pointOf = [&](const ZeroPoint &point) {
      if (point.read)
        return input(kernel.reads[*point.read].value, kernel.reads[*point.read].map);
      return body.constant(type, static_cast<double>(point.known));
    };
    auto times = [&](Register a, Register b) { return body.emit(BlockOpcode::Multiply, type, {a, b}); };
    auto minus = [&](Register a, Register b) { return body.emit(BlockOpcode::Subtract, type, {a, b}); };
    Register result = input(plain, write.map);
    Register left = p.isZero() ? 0 : pointOf(p), right = q.isZero() ? 0 : pointOf(q);
    if (!p.isZero()) {
      auto [sum, map] = sumOf(rhs, rewriter.typeOf(lhs.value));
      result = minus(result, times(left, input(sum, std::move(map))));
    }
    if (!q.isZero()) {
      auto [sum, map] = sumOf(lhs, rewriter.typeOf(rhs.value));
      result = minus(result, times(right, input(sum, std::move(map))));
    }
    if (!p.isZero() && !q.isZero()) {
      int64_t points = 1;
      for (const Loop &loop : kernel.loops)
        points *= loop.reduction ? loop.extent : 1;
      result = body.add(type, result, times(times(left, right), body.constant(type, static_cast<double>(points))));
    }
    body.body.results = {result};
    Write last;
    last.value = write.value;
    last.map = renumber(write.map, place);
    rewriter.structured(std::move(nest), std::move(reads), {std::move(last)}, std::move(body.body));
  }

private:
  ZeroPoint zeroPoint(std::optional<unsigned> read, int64_t known) const {
    if (read) {
      const Value &value = rewriter.graph.values[kernel.reads[*read].value];
      if (value.splat()) {
        int64_t element = 0;
        convert(value.type, value.data.bytes().data(), ElementType::i64, &element, 1);
        return {std::nullopt, element};
      }
    }
    return {read, known};
  }

  // New numbers of the loops that are kept, -1 of others.
  std::vector<int64_t> renumbered(llvm::function_ref<bool(unsigned)> keep, std::vector<Loop> *nest) const {
    std::vector<int64_t> place(kernel.loops.size(), -1);
    for (unsigned loop = 0; loop < kernel.loops.size(); ++loop)
      if (keep(loop)) {
        place[loop] = static_cast<int64_t>(nest->size());
        nest->push_back(kernel.loops[loop]);
      }
    return place;
  }
  static AccessMap renumber(AccessMap map, const std::vector<int64_t> &place) {
    for (DimensionAccess &access : map)
      for (auto &[loop, coefficient] : access.terms)
        loop = static_cast<unsigned>(place[loop]);
    return map;
  }

  void products(Read lhs, Read rhs, std::vector<Loop> nest, Write write) {
    BodyBuilder body;
    auto factor = [&](const Read &read) {
      Register value = body.input(rewriter.typeOf(read.value));
      return rewriter.typeOf(read.value) == type ? value : body.emit(BlockOpcode::Convert, type, {value});
    };
    Register a = factor(lhs), b = factor(rhs);
    body.body.results = {body.emit(BlockOpcode::Multiply, type, {a, b})};
    rewriter.structured(std::move(nest), {std::move(lhs), std::move(rhs)}, {std::move(write)}, std::move(body.body),
                        KernelKind::Contract);
  }

  // Known factors less their zero point: bytes, or bytes and what is left where they are not enough. The read becomes
  // one of the differences themselves.
  std::vector<Read> differences(Read &rhs, int64_t zero) {
    const Value &value = rewriter.graph.values[rhs.value];
    Shape shape = value.shape;
    std::vector<int64_t> elements = valuesOf<int64_t>(value.data);
    for (int64_t &element : elements)
      element -= zero;
    auto [low, high] = std::minmax_element(elements.begin(), elements.end());
    bool fits = low == elements.end() || (*low >= -128 && *high <= 127);
    auto read = [&](ElementType as, llvm::ArrayRef<int64_t> of) {
      Tensor wide = Tensor::of<int64_t>(ElementType::i64, shape, of);
      return Read{rewriter.constant(convert(wide, as)), rhs.map, std::nullopt};
    };
    std::vector<Read> parts;
    if (fits) {
      parts.push_back(read(ElementType::i8, elements));
    } else if (*low >= 0) {
      parts.push_back(read(ElementType::u8, elements));
    } else {
      std::vector<int64_t> first = elements, rest = elements;
      for (auto [element, kept, left] : llvm::zip(elements, first, rest)) {
        kept = std::clamp<int64_t>(element, -128, 127);
        left = element - kept;
      }
      parts = {read(ElementType::i8, first), read(ElementType::i8, rest)};
    }
    rhs = read(ElementType::i32, elements);
    return parts;
  }

  // The sum of the products with each of the parts of the second operand.
  void productsOfParts(const Read &lhs, llvm::ArrayRef<Read> parts, Write write) {
    for (const Read &part : parts.drop_back()) {
      Write sum = write;
      sum.value = rewriter.value(type, rewriter.shapeOf(write.value));
      write.initialScalar.reset();
      write.initial = Read{sum.value, write.map, std::nullopt};
      products(lhs, part, kernel.loops, std::move(sum));
    }
    products(lhs, parts.back(), kernel.loops, std::move(write));
  }

  // A read's sums over the reduction, one for each point of the parallel loops that index it.
  struct Sums {
    std::vector<Loop> nest; // these loops and the reductions
    Read summed;            // over the nest
    AccessMap inner;        // where the nest writes them
    AccessMap map;          // how the kernel's loops index them
    AccessMap reduced;      // the nest's reductions
    Shape shape, depth;     // of the sums, of the reductions
  };
  Sums sumsOver(const Read &read) const {
    Sums sums;
    std::vector<int64_t> place = renumbered(
        [&](unsigned loop) {
          return kernel.loops[loop].reduction || llvm::any_of(read.map, [&](const DimensionAccess &access) {
                   return coefficientOf(access, loop) != 0;
                 });
        },
        &sums.nest);
    for (unsigned loop = 0; loop < kernel.loops.size(); ++loop) {
      if (place[loop] < 0)
        continue;
      auto number = static_cast<unsigned>(place[loop]);
      if (kernel.loops[loop].reduction) {
        sums.depth.push_back(kernel.loops[loop].extent);
        sums.reduced.push_back(loopIndex(number));
        continue;
      }
      sums.shape.push_back(kernel.loops[loop].extent);
      sums.map.push_back(loopIndex(loop));
      sums.inner.push_back(loopIndex(number));
    }
    sums.summed = read;
    sums.summed.map = renumber(read.map, place);
    return sums;
  }

  // The sums of one operand, and how the kernel's loops index them. `ones`: in which type the other operand is.
  std::pair<ValueId, AccessMap> sumOf(const Read &read, ElementType ones) {
    Sums sums = sumsOver(read);
    if (isKnown(read.value))
      return {rewriter.constant(constantOf(sums.shape, constantSums(sums))), std::move(sums.map)};
    ValueId sum = rewriter.value(type, sums.shape);
    Tensor one = Tensor::uninitialized(ones, sums.depth);
    std::vector<int64_t> values(static_cast<size_t>(one.elements()), 1);
    convert(ElementType::i64, values.data(), ones, one.mutableBytes(), values.size());
    Write write;
    write.value = sum;
    write.map = sums.inner;
    write.combiner = Combiner::Sum;
    write.initialScalar = Scalar{type, 0};
    products(std::move(sums.summed), {rewriter.constant(std::move(one)), std::move(sums.reduced), std::nullopt},
             std::move(sums.nest), std::move(write));
    return {sum, std::move(sums.map)};
  }

  bool isKnown(ValueId id) const {
    const Value &value = rewriter.graph.values[id];
    return value.role == ValueRole::Constant && value.data.valid();
  }
  Tensor constantOf(const Shape &shape, llvm::ArrayRef<int64_t> elements) const {
    return convert(Tensor::of<int64_t>(ElementType::i64, shape, elements), type);
  }

  // Of a known zero point of the first operand, and a second one that is known, the correction is a constant, from
  // which the sums can start. Nothing when something is not known, or when they start from more than has one
  // correction.
  std::optional<Write> startingFromCorrection(int64_t zero, const Read &rhs, const Write &write) {
    if (!isKnown(rhs.value) || (write.initial && (!isKnown(write.initial->value) || write.initial->padding)))
      return std::nullopt;
    Sums sums = sumsOver(rhs);
    std::vector<int64_t> place(kernel.loops.size(), -1); // the kernel's loops that index the sums
    for (auto [d, access] : llvm::enumerate(sums.map))
      place[access.terms[0].first] = static_cast<int64_t>(d);
    int64_t initial = 0;
    if (write.initialScalar)
      convert(write.initialScalar->type, &write.initialScalar->bits, ElementType::i64, &initial, 1);
    std::vector<int64_t> start = constantSums(sums), before;
    AccessMap beforeMap;
    if (write.initial) {
      for (const DimensionAccess &access : write.initial->map)
        for (auto [loop, coefficient] : access.terms)
          if (place[loop] < 0)
            return std::nullopt;
      before = valuesOf<int64_t>(rewriter.graph.values[write.initial->value].data);
      beforeMap = renumber(write.initial->map, place);
    }
    std::vector<int64_t> point(sums.shape.size());
    for (auto [number, element] : llvm::enumerate(start)) {
      auto rest = static_cast<int64_t>(number);
      for (size_t d = sums.shape.size(); d-- > 0;) {
        point[d] = rest % sums.shape[d];
        rest /= sums.shape[d];
      }
      int64_t from = initial;
      if (write.initial)
        from = before[indexAt(beforeMap, rewriter.graph.values[write.initial->value].shape, point)];
      element = from - zero * element;
    }
    Write corrected = write;
    corrected.initialScalar.reset();
    corrected.initial = Read{rewriter.constant(constantOf(sums.shape, start)), sums.map, std::nullopt};
    return corrected;
  }

  // The element's index at a point of the loops, -1 outside.
  static int64_t indexAt(const AccessMap &access, const Shape &extents, llvm::ArrayRef<int64_t> point) {
    int64_t index = 0;
    for (auto [dimension, extent] : llvm::zip(access, extents)) {
      int64_t at = dimension.offset;
      for (auto [loop, coefficient] : dimension.terms)
        at += coefficient * point[loop];
      if (at < 0 || at >= extent)
        return -1;
      index = index * extent + at;
    }
    return index;
  }

  std::vector<int64_t> constantSums(const Sums &of) const {
    const Read &read = of.summed;
    const Value &value = rewriter.graph.values[read.value];
    std::vector<int64_t> elements = valuesOf<int64_t>(value.data), sums(static_cast<size_t>(elementCount(of.shape)));
    int64_t padding = 0, points = 1;
    if (read.padding)
      convert(read.padding->type, &read.padding->bits, ElementType::i64, &padding, 1);
    for (const Loop &loop : of.nest)
      points *= loop.extent;
    std::vector<int64_t> point(of.nest.size());
    for (int64_t number = 0; number < points; ++number) {
      int64_t rest = number;
      for (size_t loop = of.nest.size(); loop-- > 0;) {
        point[loop] = rest % of.nest[loop].extent;
        rest /= of.nest[loop].extent;
      }
      int64_t from = indexAt(read.map, value.shape, point);
      sums[indexAt(of.inner, of.shape, point)] += from < 0 ? padding : elements[from];
    }
    return sums;
  }

  KernelRewriter &rewriter;
  const Kernel &kernel;
  const Contraction &contraction;
  ElementType type;
};

} // namespace

KernelGraph splitZeroPoints(KernelGraph graph) {
  std::vector<Kernel> original = std::move(graph.kernels);
  graph.kernels.clear();
  KernelRewriter rewriter(graph);
  for (Kernel &kernel : original) {
    auto contraction = kernel.kind == KernelKind::Contract ? inferContraction(graph, kernel) : std::nullopt;
    if (!contraction || (!contraction->lhsZeroPoint && !contraction->rhsZeroPoint &&
                         contraction->lhsZeroConstant == 0 && contraction->rhsZeroConstant == 0)) {
      rewriter.kernels.push_back(std::move(kernel));
      continue;
    }
    rewriter.replaced = &kernel;
    Splitter(rewriter, *contraction).run();
  }
  graph.kernels = std::move(rewriter.kernels);
  return graph;
}

} // namespace quadrille::graph
