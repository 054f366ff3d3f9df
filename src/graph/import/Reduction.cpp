// Reductions over axes.
#include "graph/import/OperatorContext.h"

#include <numeric>

namespace quadrille::graph::importer {

namespace {
struct Reduction {
  TensorRef operand;
  std::vector<int64_t> axes;
  bool keep;
  bool nothing; // no axes and noop_with_empty_axes: only the elementwise part is applied
};
} // namespace

// Axes are an attribute, and an operand since operator set 18 (ReduceSum: 13).
static Reduction reductionOf(OperatorContext &c) {
  Reduction r = {c.operand(0), {}, c.flag("keepdims", true), false};
  bool noop = c.flag("noop_with_empty_axes");
  std::optional<std::vector<int64_t>> axes = c.integersFrom("axes", 1);
  if (axes && !axes->empty()) {
    r.axes = normalAxes(*axes, r.operand.rank());
  } else if (noop) {
    r.nothing = true;
  } else {
    r.axes.resize(r.operand.rank());
    std::iota(r.axes.begin(), r.axes.end(), 0);
  }
  if (r.operand.type() == ElementType::boolean && c.operation() != "ReduceMax" && c.operation() != "ReduceMin")
    refuse("elements of type bool");
  return r;
}

// combine over before(x), then after(result); f16 and bf16 sums are kept in f32 until `after` has been applied.
template <typename Before, typename After>
static void reduction(OperatorContext &c, Combiner combiner, Before before, After after, bool identityAfter = false) {
  Reduction r = reductionOf(c);
  ElementType type = r.operand.type();
  bool sums = combiner == Combiner::Sum || combiner == Combiner::Product;
  ElementType wide = sums && isFloat(type) ? Emitter::accumulatorOf(type) : type;
  TensorRef result;
  if (r.nothing)
    result = c.map(c.operation(), {r.operand}, [&](llvm::ArrayRef<Lane> x) { return before(x[0].to(wide)); });
  else
    result = c.reduce(c.operation(), r.operand, r.axes, r.keep, combiner,
                      [&](llvm::ArrayRef<Lane> x) { return before(x[0].to(wide)); });
  if (!identityAfter || wide != type)
    result = c.map(c.operation(), {result}, [&](llvm::ArrayRef<Lane> x) { return after(x[0]).to(type); });
  c.result(result);
}

static Lane same(Lane x) {
  return x;
}

static void sum(OperatorContext &c) {
  reduction(c, Combiner::Sum, same, same, true);
}
static void product(OperatorContext &c) {
  reduction(c, Combiner::Product, same, same, true);
}
static void sumSquare(OperatorContext &c) {
  reduction(c, Combiner::Sum, [](Lane x) { return x * x; }, same, true);
}
static void l1(OperatorContext &c) {
  reduction(c, Combiner::Sum, [](Lane x) { return absolute(x); }, same, true);
}

static Lane rootOf(Lane x) {
  return isFloat(x.type()) ? squareRoot(x) : squareRoot(x.to(ElementType::f64)).to(x.type());
}
static void l2(OperatorContext &c) {
  reduction(c, Combiner::Sum, [](Lane x) { return x * x; }, rootOf);
}

static void logSum(OperatorContext &c) {
  reduction(c, Combiner::Sum, same,
            [](Lane x) { return isFloat(x.type()) ? logarithm(x) : logarithm(x.to(ElementType::f64)).to(x.type()); });
}

static void mean(OperatorContext &c) {
  Reduction r = reductionOf(c); // for the count; asked again within
  int64_t count = 1;
  for (int64_t axis : r.axes)
    count *= r.operand.dim(axis);
  reduction(c, Combiner::Sum, same, [&](Lane x) { return x / static_cast<double>(count); });
}

// Bools are ordered false < true.
static void extreme(OperatorContext &c, bool maximum) {
  bool boolean = c.operand(0).type() == ElementType::boolean;
  Combiner combiner =
      boolean ? (maximum ? Combiner::Or : Combiner::And) : (maximum ? Combiner::Maximum : Combiner::Minimum);
  reduction(c, combiner, same, same, true);
}
static void maximum(OperatorContext &c) {
  extreme(c, true);
}
static void minimum(OperatorContext &c) {
  extreme(c, false);
}

// max + log(sum(exp(x - max))): no overflow. An infinite maximum is subtracted as 0.
static void logSumExp(OperatorContext &c) {
  Reduction r = reductionOf(c);
  c.requireFloat(r.operand);
  if (r.nothing)
    return c.result(r.operand);
  ElementType type = r.operand.type(), wide = Emitter::accumulatorOf(type);
  TensorRef largest = c.reduce("Max", r.operand, r.axes, true, Combiner::Maximum);
  TensorRef shift = c.map("Select", {largest},
                          [&](llvm::ArrayRef<Lane> x) { return select(isInfinite(x[0]), x[0].constant(0), x[0]); });
  TensorRef shifted =
      c.map("Sub", {r.operand, shift}, [&](llvm::ArrayRef<Lane> x) { return x[0].to(wide) - x[1].to(wide); });
  TensorRef sum =
      c.reduce("Sum", shifted, r.axes, true, Combiner::Sum, [](llvm::ArrayRef<Lane> x) { return exponential(x[0]); });
  TensorRef result =
      c.map("Log", {sum, shift}, [&](llvm::ArrayRef<Lane> x) { return (logarithm(x[0]) + x[1].to(wide)).to(type); });
  if (!r.keep) {
    Shape shape;
    for (int64_t axis = 0; axis < r.operand.rank(); ++axis)
      if (!llvm::is_contained(r.axes, axis))
        shape.push_back(r.operand.dim(axis));
    result = c.reshape(result, shape);
  }
  c.result(result);
}

static void argExtreme(OperatorContext &c, bool maximum) {
  TensorRef operand = c.operand(0);
  int64_t axis = normalAxis(c.integer("axis", 0), operand.rank());
  bool keep = c.flag("keepdims", true), last = c.flag("select_last_index");
  TensorRef result = c.argReduce(operand, axis, maximum, last);
  if (!keep) {
    Shape shape = operand.shape();
    shape.erase(shape.begin() + axis);
    result = c.reshape(result, shape);
  }
  c.result(result);
}
static void argMax(OperatorContext &c) {
  argExtreme(c, true);
}
static void argMin(OperatorContext &c) {
  argExtreme(c, false);
}

static void cumulative(OperatorContext &c, Combiner combiner) {
  TensorRef operand = c.operand(0);
  int64_t axis = normalAxis(c.knownInteger(1, "axis"), operand.rank());
  bool exclusive = c.flag("exclusive"), reverse = c.flag("reverse");
  c.result(c.cumulative(operand, axis, combiner, exclusive, reverse));
}
static void cumulativeSum(OperatorContext &c) {
  cumulative(c, Combiner::Sum);
}
static void cumulativeProduct(OperatorContext &c) {
  cumulative(c, Combiner::Product);
}

static void topK(OperatorContext &c) {
  TensorRef operand = c.operand(0);
  int64_t axis = normalAxis(c.integer("axis", -1), operand.rank());
  bool largest = c.flag("largest", true);
  c.flag("sorted", true); // sorted output is a legal unsorted one
  int64_t k = c.opset < 10 ? c.integer("k") : c.knownInteger(1, "k");
  if (k < 0 || k > operand.dim(axis))
    refuse("k is " + llvm::Twine(k) + ", but axis " + llvm::Twine(axis) + " has " + llvm::Twine(operand.dim(axis)) +
           " elements");
  auto [values, indices] = c.topK(operand, k, axis, largest);
  c.result(0, values);
  c.result(1, indices);
}

void addReductions(OperatorTable &table) {
  table.add("ReduceSum", sum);
  table.add("ReduceProd", product);
  table.add("ReduceSumSquare", sumSquare);
  table.add("ReduceL1", l1);
  table.add("ReduceL2", l2);
  table.add("ReduceLogSum", logSum);
  table.add("ReduceLogSumExp", logSumExp);
  table.add("ReduceMean", mean);
  table.add("ReduceMax", maximum);
  table.add("ReduceMin", minimum);
  table.add("ArgMax", argMax);
  table.add("ArgMin", argMin);
  table.add("CumSum", cumulativeSum);
  table.add("CumProd", cumulativeProduct);
  table.add("TopK", topK);
}

} // namespace quadrille::graph::importer
