// Pooling over windows and over whole channels.
#include "graph/import/Window.h"

#include "numerics/Convert.h"

namespace quadrille::graph::importer {

static std::vector<int64_t> spatialOf(TensorRef tensor) {
  if (tensor.rank() < 3)
    refuse("operand of shape " + shapeText(tensor.shape()) + " has no spatial dimensions");
  return {tensor.shape().begin() + 2, tensor.shape().end()};
}

// Loops: n, channel, positions..., taps...
static Nest windowNest(OperatorContext &c, TensorRef x, const Window &window, Scalar padding) {
  Nest nest;
  nest.operation = c.operation();
  nest.loops = {{x.dim(0), false}, {x.dim(1), false}};
  for (int64_t extent : window.result)
    nest.loops.push_back({extent, false});
  nest.write = identityAccess(nest.loops.size());
  AccessMap map = {at(0), at(1)};
  for (size_t d = 0; d < window.rank(); ++d) {
    unsigned tap = static_cast<unsigned>(nest.loops.size());
    nest.loops.push_back({window.kernel[d], true});
    map.push_back({0, {{static_cast<unsigned>(2 + d), window.strides[d]}, {tap, window.dilations[d]}}});
  }
  nest.reads = {{padFor(c, x, window, padding), map}};
  return nest;
}

// The position of each maximum in the flattened operand: the smallest one where the window holds it several times.
static TensorRef maximumPositions(OperatorContext &c, TensorRef x, TensorRef maximum, const Window &window,
                                  bool columnMajor) {
  Nest nest = windowNest(c, x, window, lowestOf(x.type()));
  size_t rank = window.rank();
  nest.reads.push_back({maximum, identityAccess(2 + rank)});
  nest.combiner = Combiner::Minimum;
  return c.nest(nest, [&](llvm::ArrayRef<Lane> in) {
    Lane channel = loopIndex(c, 0) * static_cast<double>(x.dim(1)) + loopIndex(c, 1);
    Lane inside = in[0] == in[1], offset = channel.constant(0);
    std::vector<Lane> position;
    int64_t size = 1;
    for (size_t d = 0; d < rank; ++d) {
      Lane p = loopIndex(c, static_cast<unsigned>(2 + d)) * static_cast<double>(window.strides[d]) +
               loopIndex(c, static_cast<unsigned>(2 + rank + d)) * static_cast<double>(window.dilations[d]) -
               static_cast<double>(window.padBefore[d]);
      inside = inside & (p >= 0.0) & (p < static_cast<double>(x.dim(2 + d)));
      position.push_back(p);
      size *= x.dim(2 + d);
    }
    for (size_t i = 0; i < rank; ++i) {
      size_t d = columnMajor ? rank - 1 - i : i;
      offset = offset * static_cast<double>(x.dim(2 + d)) + position[d];
    }
    Lane flat = channel * static_cast<double>(size) + offset;
    return select(inside, flat, flat.constantInteger(INT64_MAX));
  });
}

static void maxPool(OperatorContext &c) {
  TensorRef x = c.operand(0);
  bool columnMajor = c.flag("storage_order");
  Window window = windowOf(c, spatialOf(x));
  Nest nest = windowNest(c, x, window, lowestOf(x.type()));
  nest.combiner = Combiner::Maximum;
  TensorRef maximum = c.nest(nest, [](llvm::ArrayRef<Lane> in) { return in[0]; });
  c.result(0, maximum);
  if (c.wants(1))
    c.result(1, maximumPositions(c, x, maximum, window, columnMajor));
}

// Every element of X goes where its maximum was found; the rest is zero. Positions count in the shape that the window
// implies; a larger output_shape has more elements after it along each axis.
static void maxUnpool(OperatorContext &c) {
  TensorRef x = c.operand(0), positions = c.operand(1);
  std::vector<int64_t> spatial = spatialOf(x), kernel = c.integerList("kernel_shape");
  size_t rank = spatial.size();
  std::vector<int64_t> strides = c.integerList("strides", std::vector<int64_t>(rank, 1)),
                       pads = c.integerList("pads", std::vector<int64_t>(2 * rank, 0));
  if (kernel.size() != rank || strides.size() != rank || pads.size() != 2 * rank || positions.shape() != x.shape() ||
      positions.type() != ElementType::i64)
    refuse("positions of shape " + shapeText(positions.shape()) + " and a window of rank " +
           llvm::Twine(kernel.size()) + " do not fit an operand of shape " + shapeText(x.shape()));
  constexpr int64_t most = int64_t(1) << 40;
  Shape shape = {x.dim(0), x.dim(1)};
  for (size_t d = 0; d < rank; ++d) {
    for (int64_t number : {kernel[d], strides[d], pads[d], pads[rank + d]})
      if (number < 0 || number > most / std::max<int64_t>(spatial[d], 1))
        refuse("a window's attribute is " + llvm::Twine(number));
    shape.push_back((spatial[d] - 1) * strides[d] - pads[d] - pads[rank + d] + kernel[d]);
    if (shape.back() < 0)
      refuse("the padding leaves a negative extent");
  }
  int64_t elements = product(shape);
  TensorRef flat = c.scatterElements(c.fill(x.type(), {elements}, 0), c.reshape(positions, {x.elements()}),
                                     c.reshape(x, {x.elements()}), 0, Combiner::None);
  TensorRef result = c.reshape(flat, shape);
  if (c.optional(2)) {
    Shape wanted = c.knownIntegers(2, "output_shape");
    std::vector<int64_t> before(shape.size(), 0), after(shape.size(), 0);
    if (wanted.size() != shape.size())
      refuse("output_shape is " + shapeText(wanted));
    for (size_t d = 0; d < shape.size(); ++d) {
      after[d] = wanted[d] - shape[d];
      if (after[d] < 0 || wanted[d] > most)
        refuse("output_shape is " + shapeText(wanted) + ", smaller than the " + shapeText(shape) +
               " that the window implies");
    }
    result = c.pad(result, before, after, 0.0);
  }
  c.result(result);
}

// How many elements each window averages: those inside the operand, with `includePadding` those inside the padded
// operand. A window that ceil_mode lets reach past the padding counts no element there.
static TensorRef windowCounts(OperatorContext &c, TensorRef x, const Window &window, bool includePadding,
                              ElementType type) {
  std::vector<std::vector<int64_t>> counts(window.rank());
  for (size_t d = 0; d < window.rank(); ++d)
    for (int64_t position = 0; position < window.result[d]; ++position) {
      int64_t count = 0;
      for (int64_t tap = 0; tap < window.kernel[d]; ++tap) {
        int64_t at = position * window.strides[d] - window.padBefore[d] + tap * window.dilations[d];
        int64_t low = includePadding ? -window.padBefore[d] : 0;
        int64_t high = x.dim(2 + d) + (includePadding ? window.padAfter[d] : 0);
        count += at >= low && at < high;
      }
      counts[d].push_back(count);
    }
  bool uniform = llvm::all_of(counts, [](const std::vector<int64_t> &dimension) { return llvm::all_equal(dimension); });
  if (uniform) {
    int64_t total = 1;
    for (const std::vector<int64_t> &dimension : counts)
      total *= dimension.empty() ? 1 : dimension[0];
    return c.scalar(type, static_cast<double>(total));
  }
  int64_t elements = product(window.result);
  if (elements > int64_t(1) << 26)
    refuse("an average over " + llvm::Twine(elements) + " positions");
  std::vector<double> values;
  for (int64_t i = 0; i < elements; ++i) {
    double value = 1;
    int64_t rest = i;
    for (size_t d = window.rank(); d-- > 0;) {
      value *= static_cast<double>(counts[d][rest % window.result[d]]);
      rest /= window.result[d];
    }
    values.push_back(value);
  }
  return c.constant(convert(Tensor::of<double>(ElementType::f64, window.result, values), type));
}

static void averagePool(OperatorContext &c) {
  TensorRef x = c.operand(0);
  c.requireFloat(x);
  bool includePadding = c.flag("count_include_pad");
  Window window = windowOf(c, spatialOf(x));
  ElementType wide = Emitter::accumulatorOf(x.type());
  Nest nest = windowNest(c, x, window, scalarOf(x.type(), 0));
  nest.combiner = Combiner::Sum;
  TensorRef sum = c.nest(nest, [&](llvm::ArrayRef<Lane> in) { return in[0].to(wide); });
  TensorRef counts = windowCounts(c, x, window, includePadding, wide);
  c.result(c.map("AveragePool.divide", {sum, counts},
                 [&](llvm::ArrayRef<Lane> in) { return (in[0] / in[1]).to(x.type()); }));
}

// (sum |x|^p)^(1/p)
static TensorRef rootOfSum(OperatorContext &c, TensorRef sum, double p, ElementType type) {
  return c.map(llvm::Twine(c.operation() + ".root").str(), {sum}, [&](llvm::ArrayRef<Lane> in) {
    return (p == 1 ? in[0] : p == 2 ? squareRoot(in[0]) : power(in[0], 1.0 / p)).to(type);
  });
}

static Lane powered(Lane x, double p) {
  return p == 1 ? absolute(x) : p == 2 ? x * x : power(absolute(x), p);
}

// p was a float in operator set 1.
static double normOrder(OperatorContext &c) {
  double p = c.opset < 2 ? c.real("p", 2.0) : static_cast<double>(c.integer("p", 2));
  if (!(p >= 1))
    refuse("p is " + llvm::Twine(static_cast<int64_t>(p)) + " instead of at least 1");
  return p;
}

static void lpPool(OperatorContext &c) {
  TensorRef x = c.operand(0);
  c.requireFloat(x);
  double p = normOrder(c);
  Window window = windowOf(c, spatialOf(x));
  ElementType wide = Emitter::accumulatorOf(x.type());
  Nest nest = windowNest(c, x, window, scalarOf(x.type(), 0));
  nest.combiner = Combiner::Sum;
  TensorRef sum = c.nest(nest, [&](llvm::ArrayRef<Lane> in) { return powered(in[0].to(wide), p); });
  c.result(rootOfSum(c, sum, p, x.type()));
}

static std::vector<int64_t> spatialAxes(TensorRef x) {
  std::vector<int64_t> axes;
  for (int64_t axis = 2; axis < x.rank(); ++axis)
    axes.push_back(axis);
  if (axes.empty())
    refuse("operand of shape " + shapeText(x.shape()) + " has no spatial dimensions");
  return axes;
}

static void globalAveragePool(OperatorContext &c) {
  TensorRef x = c.operand(0);
  c.requireFloat(x);
  ElementType wide = Emitter::accumulatorOf(x.type());
  std::vector<int64_t> axes = spatialAxes(x);
  int64_t count = product(llvm::ArrayRef(x.shape()).drop_front(2));
  TensorRef sum = c.reduce("GlobalAveragePool", x, axes, true, Combiner::Sum,
                           [&](llvm::ArrayRef<Lane> in) { return in[0].to(wide); });
  c.result(c.map("GlobalAveragePool.divide", {sum},
                 [&](llvm::ArrayRef<Lane> in) { return (in[0] / static_cast<double>(count)).to(x.type()); }));
}

static void globalMaxPool(OperatorContext &c) {
  TensorRef x = c.operand(0);
  c.result(c.reduce("GlobalMaxPool", x, spatialAxes(x), true, Combiner::Maximum));
}

static void globalLpPool(OperatorContext &c) {
  TensorRef x = c.operand(0);
  c.requireFloat(x);
  double p = normOrder(c);
  ElementType wide = Emitter::accumulatorOf(x.type());
  TensorRef sum = c.reduce("GlobalLpPool", x, spatialAxes(x), true, Combiner::Sum,
                           [&](llvm::ArrayRef<Lane> in) { return powered(in[0].to(wide), p); });
  c.result(rootOfSum(c, sum, p, x.type()));
}

void addPooling(OperatorTable &table) {
  table.add("MaxPool", maxPool);
  table.add("MaxUnpool", maxUnpool);
  table.add("AveragePool", averagePool);
  table.add("LpPool", lpPool);
  table.add("GlobalAveragePool", globalAveragePool);
  table.add("GlobalMaxPool", globalMaxPool);
  table.add("GlobalLpPool", globalLpPool);
}

} // namespace quadrille::graph::importer
