// Elements read at positions that are computed: GridSample, RoiAlign, MaxRoiPool, deformable convolution. Each is a
// gather of the elements around every position, then their weighted sum. Indices and weights are loop nests over the
// positions.
#include "graph/import/Product.h"
#include "graph/import/Window.h"

#include "numerics/Convert.h"

#include <algorithm>
#include <cmath>

namespace quadrille::graph::importer {

static Lane remainder(const Lane &a, int64_t divisor) {
  return apply(BlockOpcode::Remainder, {a, a.constantInteger(divisor)});
}

// Nearby elements along one axis and what a position outside the axis reads.
namespace {
enum class Outside : uint8_t { Zeros, Border, Reflection };

struct Sampler {
  Outside outside = Outside::Zeros;
  bool alignCorners = false; // the borders are the outermost elements' middles and not their edges
  int64_t taps = 2;          // along each axis: 1 nearest, 2 linear, 4 cubic

  double low() const { return alignCorners ? 0 : -0.5; }
  double high(int64_t extent) const { return static_cast<double>(extent) - (alignCorners ? 1 : 0.5); }
  Lane reflected(const Lane &x, int64_t extent) const;
  Lane placed(const Lane &x, int64_t extent) const;
  // The position of tap `number` (i64) along an axis, as a number without fraction.
  Lane tapOf(const Lane &x, const Lane &number) const {
    return taps == 1 ? x : floorOf(x) + number.to(x.type()) - (taps == 4 ? 1.0 : 0.0);
  }
  Lane weightOf(const Lane &x, const Lane &tap) const;
  // Index of a tap within the axis; `inside` is cleared where nothing is read.
  Lane indexOf(const Lane &tap, int64_t extent, Lane &inside) const;
};
} // namespace

// Mirrored at the borders as often as it takes to lie between them.
Lane Sampler::reflected(const Lane &x, int64_t extent) const {
  double range = high(extent) - low();
  if (range <= 0)
    return x.constant(low());
  Lane below = x < low(), distance = select(below, low() - x, x - high(extent));
  Lane turns = floorOf(distance / range), rest = distance - turns * range;
  Lane odd = turns - floorOf(turns * 0.5) * 2.0 != 0.0;
  Lane inside = (x >= low()) & (x <= high(extent));
  return select(inside, x, select(below ^ odd, rest + low(), high(extent) - rest));
}

Lane Sampler::placed(const Lane &x, int64_t extent) const {
  if (outside == Outside::Reflection)
    return reflected(x, extent);
  if (outside == Outside::Zeros)
    return x;
  Lane inside = (x >= low()) & (x <= high(extent));
  return select(inside, x, min(max(x, 0.0), static_cast<double>(extent - 1)));
}

Lane Sampler::weightOf(const Lane &x, const Lane &tap) const {
  if (taps == 1)
    return x.constant(1);
  Lane distance = absolute(x - tap);
  if (taps == 2)
    return 1.0 - distance;
  constexpr double a = -0.75; // Keys' kernel, as in Resampling.cpp
  Lane near = ((distance * (a + 2) - (a + 3)) * distance) * distance + 1.0;
  Lane far = ((distance * a - 5 * a) * distance + 8 * a) * distance - 4 * a;
  return select(distance <= 1.0, near, far);
}

Lane Sampler::indexOf(const Lane &tap, int64_t extent, Lane &inside) const {
  double last = static_cast<double>(extent - 1);
  if (outside == Outside::Zeros)
    inside = inside & (tap >= 0.0) & (tap <= last);
  Lane within = outside == Outside::Reflection ? reflected(tap, extent) : tap;
  return min(max(within, 0.0), last).to(ElementType::i64);
}

static int64_t power(int64_t base, size_t exponent) {
  int64_t result = 1;
  for (size_t i = 0; i < exponent; ++i)
    result *= base;
  return result;
}

// The tap numbers along each axis of the combined tap `number`, the last axis fastest.
static std::vector<Lane> tapNumbers(const Lane &number, int64_t taps, size_t rank) {
  std::vector<Lane> numbers;
  for (size_t d = 0; d < rank; ++d)
    numbers.push_back(remainder(number / static_cast<double>(power(taps, rank - 1 - d)), taps));
  return numbers;
}

namespace {
// Indices and weights over a nest whose last loop counts the combined taps. `positionOf` gives the position along every
// axis from the elements read.
struct Taps {
  TensorRef indices, weights; // weights are null with one tap along each axis
};
using Positions = llvm::function_ref<std::vector<Lane>(llvm::ArrayRef<Lane>)>;
} // namespace

// An index is a row of [extents...] flattened, or the one after the last for what is read as zero.
static Taps tapsOf(OperatorContext &c, Nest nest, const Sampler &sampler, llvm::ArrayRef<int64_t> extents,
                   Positions positionOf) {
  unsigned tapLoop = static_cast<unsigned>(nest.loops.size() - 1);
  nest.write = identityAccess(nest.loops.size());
  auto each = [&](llvm::ArrayRef<Lane> in, llvm::function_ref<void(size_t, const Lane &, const Lane &)> body) {
    std::vector<Lane> positions = positionOf(in);
    std::vector<Lane> numbers = tapNumbers(loopIndex(c, tapLoop), sampler.taps, extents.size());
    for (size_t d = 0; d < extents.size(); ++d) {
      Lane x = sampler.placed(positions[d], extents[d]);
      body(d, x, sampler.tapOf(x, numbers[d]));
    }
  };
  Taps taps;
  nest.operation = "sample.index";
  taps.indices = c.nest(nest, [&](llvm::ArrayRef<Lane> in) {
    Lane flat = loopIndex(c, tapLoop).constantInteger(0);
    Lane inside = flat == 0.0;
    each(in, [&](size_t d, const Lane &, const Lane &tap) {
      flat = flat * flat.constantInteger(extents[d]) + sampler.indexOf(tap, extents[d], inside);
    });
    return sampler.outside == Outside::Zeros ? select(inside, flat, flat.constantInteger(product(extents))) : flat;
  });
  if (sampler.taps == 1)
    return taps;
  nest.operation = "sample.weight";
  taps.weights = c.nest(nest, [&](llvm::ArrayRef<Lane> in) {
    Lane weight;
    each(in, [&](size_t d, const Lane &x, const Lane &tap) {
      Lane along = sampler.weightOf(x, tap);
      weight = d == 0 ? along : weight * along;
    });
    return weight;
  });
  return taps;
}

// [batch..., channels, positions] as [batch..., positions, channels], with a row of zeros at the end where asked.
static TensorRef channelsLast(OperatorContext &c, TensorRef x, bool withZeros) {
  std::vector<int64_t> order, before(x.rank(), 0), after(x.rank(), 0);
  for (int64_t d = 0; d < x.rank(); ++d)
    order.push_back(d);
  std::swap(order[x.rank() - 1], order[x.rank() - 2]);
  after[x.rank() - 2] = withZeros;
  return c.pad(c.transpose(x, order), before, after, 0.0);
}

static void gridSample(OperatorContext &c) {
  TensorRef x = c.operand(0), grid = c.operand(1);
  c.requireFloat(grid);
  std::string mode = c.text("mode", c.opset < 20 ? "bilinear" : "linear"), padding = c.text("padding_mode", "zeros");
  Sampler sampler;
  sampler.alignCorners = c.flag("align_corners");
  if (mode == "nearest")
    sampler.taps = 1;
  else if (mode == "cubic" || mode == "bicubic")
    sampler.taps = 4;
  else if (mode != "linear" && mode != "bilinear")
    refuse("mode is '" + mode + "' instead of nearest, linear or cubic");
  if (padding == "border")
    sampler.outside = Outside::Border;
  else if (padding == "reflection")
    sampler.outside = Outside::Reflection;
  else if (padding != "zeros")
    refuse("padding_mode is '" + padding + "' instead of zeros, border or reflection");
  size_t rank = static_cast<size_t>(std::max<int64_t>(x.rank() - 2, 0));
  if (rank < 1 || rank > 3 || grid.rank() != x.rank() || grid.dim(0) != x.dim(0) ||
      grid.dim(-1) != static_cast<int64_t>(rank))
    refuse("a grid of shape " + shapeText(grid.shape()) + " does not fit an operand of shape " + shapeText(x.shape()));
  Shape extents(x.shape().begin() + 2, x.shape().end());
  int64_t batch = x.dim(0), channels = x.dim(1), positions = product(llvm::ArrayRef(grid.shape()).slice(1, rank));
  if (product(extents) == 0)
    refuse("an operand of shape " + shapeText(x.shape()) + " has nothing to sample");
  ElementType wide = Emitter::accumulatorOf(isFloat(x.type()) ? x.type() : grid.type());
  grid = c.reshape(grid, {batch, positions, static_cast<int64_t>(rank)});
  int64_t taps = power(sampler.taps, rank);
  Nest nest;
  nest.loops = {{batch, false}, {positions, false}, {taps, false}};
  for (size_t d = 0; d < rank; ++d) // the grid's last dimension names the axes from the last to the first
    nest.reads.push_back({grid, {at(0), at(1), fixed(static_cast<int64_t>(rank - 1 - d))}});
  Taps corners = tapsOf(c, nest, sampler, extents, [&](llvm::ArrayRef<Lane> in) {
    std::vector<Lane> result;
    for (size_t d = 0; d < rank; ++d) {
      Lane g = in[d].to(wide) + 1.0;
      double extent = static_cast<double>(extents[d]);
      Lane position = sampler.alignCorners ? g * 0.5 * (extent - 1) : (g * extent - 1.0) * 0.5;
      result.push_back(sampler.taps == 1 ? roundEven(position) : position);
    }
    return result;
  });
  TensorRef data =
      channelsLast(c, c.reshape(x, {batch, channels, product(extents)}), sampler.outside == Outside::Zeros);
  TensorRef gathered = c.gatherNd(data, c.reshape(corners.indices, {batch, positions * taps, 1}), 1);
  Shape shape = {batch, channels};
  shape.insert(shape.end(), c.operand(1).shape().begin() + 1, c.operand(1).shape().end() - 1);
  if (!corners.weights)
    return c.result(c.reshape(c.transpose(gathered, {0, 2, 1}), shape));
  Nest sum;
  sum.operation = "sample";
  sum.loops = {{batch, false}, {channels, false}, {positions, false}, {taps, true}};
  sum.reads = {{c.reshape(gathered, {batch, positions, taps, channels}), {at(0), at(2), at(3), at(1)}},
               {corners.weights, {at(0), at(2), at(3)}}};
  sum.write = identityAccess(3);
  sum.combiner = Combiner::Sum;
  TensorRef result = c.nest(sum, [&](llvm::ArrayRef<Lane> v) { return v[0].to(wide) * v[1]; });
  c.result(c.reshape(c.convert(result, x.type()), shape));
}

// theta [N, r, r + 1] times the homogeneous position of every element of an image, from -1 to 1 along each axis.
static void affineGrid(OperatorContext &c) {
  TensorRef theta = c.operand(0);
  c.requireFloat(theta);
  std::vector<int64_t> size = c.knownIntegers(1, "size");
  bool alignCorners = c.flag("align_corners");
  int64_t rank = static_cast<int64_t>(size.size()) - 2;
  if ((rank != 2 && rank != 3) || llvm::any_of(size, [](int64_t extent) { return extent < 1; }) ||
      theta.shape() != Shape{size[0], rank, rank + 1})
    refuse("theta of shape " + shapeText(theta.shape()) + " does not fit the size " + shapeText(size));
  Nest nest;
  nest.operation = "affine_grid";
  nest.loops = {{size[0], false}};
  for (int64_t d = 0; d < rank; ++d)
    nest.loops.push_back({size[2 + d], false});
  nest.loops.push_back({rank, false});
  nest.write = identityAccess(nest.loops.size());
  for (int64_t column = 0; column <= rank; ++column)
    nest.reads.push_back({theta, {at(0), at(static_cast<unsigned>(rank + 1)), fixed(column)}});
  ElementType wide = Emitter::accumulatorOf(theta.type());
  c.result(c.nest(nest, [&](llvm::ArrayRef<Lane> v) {
    Lane sum = v[rank].to(wide);
    for (int64_t column = 0; column < rank; ++column) {
      unsigned axis = static_cast<unsigned>(rank - column); // column 0 belongs to the last axis
      double extent = static_cast<double>(nest.loops[axis].extent);
      double step = !alignCorners ? 2 / extent : extent > 1 ? 2 / (extent - 1) : 0;
      double start = alignCorners ? (extent > 1 ? -1 : 0) : -1 + step / 2;
      sum = sum + v[column].to(wide) * (loopIndex(c, axis).to(wide) * step + start);
    }
    return sum.to(theta.type());
  }));
}

// The number of samples along one side of a bin where it follows from the region's extent: at most over all regions.
static int64_t mostSamples(OperatorContext &c, double scale, double offset, bool alignedToHalf, int64_t bins,
                           int64_t side) {
  TensorRef regions = c.operand(1);
  if (!regions.known())
    refuseUnsupported("sampling_ratio 0 takes as many samples as a region is large, and the regions depend on the "
                      "values of the model's inputs");
  std::vector<double> values = valuesOf<double>(regions.constant());
  double most = 1;
  for (size_t i = 0; i + 3 < values.size(); i += 4) {
    double extent = (values[i + 2 + side] * scale - offset) - (values[i + side] * scale - offset);
    most = std::max(most, std::ceil((alignedToHalf ? extent : std::max(extent, 1.0)) / static_cast<double>(bins)));
  }
  if (!(most <= 4096))
    refuse("a region takes more than 4096 samples along a side of a bin");
  return static_cast<int64_t>(most);
}

// Regions [x1, y1, x2, y2] are cut into bins, each bin is the mean (or maximum) of samples inside it, each sample is
// interpolated between the four elements around it. Beyond one element outside the image a sample is zero.
static void roiAlign(OperatorContext &c) {
  TensorRef x = c.operand(0), regions = c.operand(1), batchIndices = c.operand(2);
  c.requireFloat(x);
  std::string mode = c.text("mode", "avg");
  bool halfPixel =
      c.text("coordinate_transformation_mode", c.opset < 16 ? "output_half_pixel" : "half_pixel") == "half_pixel";
  double scale = c.real("spatial_scale", 1.0), offset = halfPixel ? 0.5 : 0;
  int64_t rows = c.integer("output_height", 1), columns = c.integer("output_width", 1),
          ratio = c.integer("sampling_ratio", 0);
  if (mode != "avg" && mode != "max")
    refuse("mode is '" + mode + "' instead of avg or max");
  if (x.rank() != 4 || regions.rank() != 2 || regions.dim(1) != 4 || batchIndices.shape() != Shape{regions.dim(0)} ||
      rows < 1 || columns < 1 || ratio < 0 || ratio > 4096 || x.elements() == 0)
    refuse("regions of shape " + shapeText(regions.shape()) + " of an operand of shape " + shapeText(x.shape()) +
           " into " + llvm::Twine(rows) + " x " + llvm::Twine(columns) + " bins");
  int64_t count = regions.dim(0), channels = x.dim(1), height = x.dim(2), width = x.dim(3);
  int64_t samples[2] = {ratio, ratio};
  if (ratio == 0) {
    samples[0] = mostSamples(c, scale, offset, halfPixel, rows, 1);
    samples[1] = mostSamples(c, scale, offset, halfPixel, columns, 0);
  }
  ElementType wide = Emitter::accumulatorOf(x.type());
  int64_t extents[2] = {height, width}, bins[2] = {rows, columns};
  // Loops: region, bin row, bin column, sample row, sample column, tap.
  Nest nest;
  nest.loops = {{count, false}, {rows, false}, {columns, false}, {samples[0], false}, {samples[1], false}, {4, false}};
  nest.write = identityAccess(6);
  for (int64_t side = 0; side < 4; ++side)
    nest.reads.push_back({regions, {at(0), fixed(side)}});
  nest.reads.push_back({batchIndices, {at(0)}});
  struct Along {
    Lane index, weight, number, valid; // of the tap; the samples of the bin, whether this one counts
  };
  auto along = [&](llvm::ArrayRef<Lane> in, unsigned d) { // 0: rows, 1: columns
    Lane start = in[1 - d].to(wide) * scale - offset, end = in[3 - d].to(wide) * scale - offset;
    Lane extent = halfPixel ? end - start : max(end - start, 1.0);
    Lane bin = extent / static_cast<double>(bins[d]);
    Lane number = ratio > 0 ? bin.constant(static_cast<double>(ratio)) : ceilingOf(bin);
    Lane sample = loopIndex(c, 3 + d).to(wide);
    Lane position = start + loopIndex(c, 1 + d).to(wide) * bin + (sample + 0.5) * bin / number;
    double last = static_cast<double>(extents[d] - 1);
    Lane inside = (position >= -1.0 * bin.constant(1)) & (position <= static_cast<double>(extents[d]));
    Lane clamped = min(max(position, 0.0), last), low = floorOf(clamped), rest = clamped - low;
    Lane tap = tapNumbers(loopIndex(c, 5), 2, 2)[d];
    Along result;
    result.index = min(low + tap.to(wide), last).to(ElementType::i64);
    result.weight = select(inside, select(tap == 0.0, 1.0 - rest, rest), rest.constant(0));
    result.number = number;
    result.valid = sample < number;
    return result;
  };
  nest.operation = "sample.index";
  TensorRef indices = c.nest(nest, [&](llvm::ArrayRef<Lane> in) {
    Lane image = in[4].to(ElementType::i64);
    return (image * static_cast<double>(height) + along(in, 0).index) * static_cast<double>(width) + along(in, 1).index;
  });
  nest.operation = "sample.weight";
  TensorRef weights = c.nest(nest, [&](llvm::ArrayRef<Lane> in) {
    Along y = along(in, 0), x = along(in, 1);
    Lane weight = y.weight * x.weight;
    if (mode == "avg")
      weight = weight / max(y.number * x.number, 1.0);
    return ratio > 0 ? weight : select(y.valid & x.valid, weight, weight.constant(0));
  });
  TensorRef data = channelsLast(c, c.reshape(x, {x.dim(0), channels, height * width}), false);
  TensorRef gathered = c.gather(c.reshape(data, {x.dim(0) * height * width, channels}), indices, 0);
  Nest combine;
  combine.operation = "roi_align";
  combine.loops = {{count, false},     {channels, false},  {rows, false}, {columns, false},
                   {samples[0], true}, {samples[1], true}, {4, true}};
  combine.reads = {{gathered, {at(0), at(2), at(3), at(4), at(5), at(6), at(1)}},
                   {weights, {at(0), at(2), at(3), at(4), at(5), at(6)}}};
  combine.write = identityAccess(4);
  combine.combiner = mode == "avg" ? Combiner::Sum : Combiner::Maximum;
  // The maximum is over the products, as ONNX defines it. Samples that a region does not have give zero.
  c.result(c.convert(c.nest(combine, [&](llvm::ArrayRef<Lane> v) { return v[0].to(wide) * v[1]; }), x.type()));
}

// Regions [image, x1, y1, x2, y2], rounded to elements, are cut into bins of about equal extent; each result is the
// maximum of its bin, 0 where the bin lies outside the image. First along rows, then along columns, with elements
// outside the bin left out by their position.
static void maxRoiPool(OperatorContext &c) {
  TensorRef x = c.operand(0), regions = c.operand(1);
  c.requireFloat(x);
  c.requireSameType({x, regions});
  std::vector<int64_t> bins = c.integerList("pooled_shape");
  double scale = c.real("spatial_scale", 1.0);
  if (x.rank() != 4 || regions.rank() != 2 || regions.dim(1) != 5 || bins.size() != 2 || bins[0] < 1 || bins[1] < 1 ||
      x.elements() == 0)
    refuse("regions of shape " + shapeText(regions.shape()) + " of an operand of shape " + shapeText(x.shape()) +
           " into bins " + shapeText(bins));
  ElementType wide = Emitter::accumulatorOf(x.type());
  int64_t count = regions.dim(0), channels = x.dim(1);
  // First and last + 1 element of bin `number` along axis d (0: rows, 1: columns), from both sides of the region.
  auto range = [&](unsigned d, Lane first, Lane last, const Lane &number) {
    auto rounded = [&](Lane corner) { // halves away from zero
      Lane scaled = corner.to(wide) * scale;
      return apply(BlockOpcode::CopySign, {floorOf(absolute(scaled) + 0.5), scaled});
    };
    Lane start = rounded(first), extent = max(rounded(last) - start + 1.0, 1.0);
    Lane bin = extent / static_cast<double>(bins[d]), n = number.to(wide);
    double limit = static_cast<double>(x.dim(2 + d));
    return std::pair{min(max(floorOf(n * bin) + start, 0.0), limit),
                     min(max(ceilingOf((n + 1.0) * bin) + start, 0.0), limit)};
  };
  auto pooled = [&](TensorRef from, unsigned d) { // [regions, channels, rows, columns] with axis d cut into bins
    Nest nest;
    nest.operation = "max_roi_pool";
    nest.loops = {{count, false}, {channels, false}, {from.dim(2), false}, {from.dim(3), false}, {bins[d], false}};
    nest.loops[2 + d].reduction = true;
    nest.reads = {{from, identityAccess(4)}, {regions, {at(0), fixed(2 - d)}}, {regions, {at(0), fixed(4 - d)}}};
    nest.write = {at(0), at(1), d == 0 ? at(4) : at(2), d == 0 ? at(3) : at(4)};
    nest.combiner = Combiner::Maximum;
    return c.nest(nest, [&](llvm::ArrayRef<Lane> v) {
      auto [first, end] = range(d, v[1], v[2], loopIndex(c, 4));
      Lane position = loopIndex(c, 2 + d).to(wide);
      return select((position >= first) & (position < end), v[0], v[0].constant(-HUGE_VAL));
    });
  };
  TensorRef images =
      c.gather(x, c.convert(c.reshape(c.slice(regions, {0, 0}, {count, 1}), {count}), ElementType::i64), 0);
  TensorRef maxima = pooled(pooled(images, 1), 0);
  Nest fill;
  fill.operation = "max_roi_pool.empty";
  fill.loops = {{count, false}, {channels, false}, {bins[0], false}, {bins[1], false}};
  fill.reads = {{maxima, identityAccess(4)}};
  for (int64_t side = 1; side < 5; ++side)
    fill.reads.push_back({regions, {at(0), fixed(side)}});
  fill.write = identityAccess(4);
  c.result(c.nest(fill, [&](llvm::ArrayRef<Lane> v) {
    auto [top, bottom] = range(0, v[2], v[4], loopIndex(c, 2));
    auto [left, right] = range(1, v[1], v[3], loopIndex(c, 3));
    return select((bottom <= top) | (right <= left), v[0].constant(0), v[0]);
  }));
}

// A convolution whose every tap is moved by an offset of its own: samples are gathered into columns
// [N, channels, taps, positions], the rest is a product with the weights.
static void deformConv(OperatorContext &c) {
  TensorRef x = c.operand(0), w = c.operand(1), offset = c.operand(2), bias = c.optional(3), mask = c.optional(4);
  c.requireFloat(x);
  c.requireSameType({x, w, offset});
  int64_t groups = c.integer("group", 1), offsetGroups = c.integer("offset_group", 1);
  if (x.rank() < 3 || w.rank() != x.rank() || offset.rank() != x.rank() || groups < 1 || offsetGroups < 1 ||
      w.dim(1) * groups != x.dim(1) || w.dim(0) % groups != 0 || x.dim(1) % offsetGroups != 0)
    refuse("operands of shapes " + shapeText(x.shape()) + ", " + shapeText(w.shape()) + " and " +
           shapeText(offset.shape()) + " with group " + llvm::Twine(groups) + " and offset_group " +
           llvm::Twine(offsetGroups) + " do not fit");
  Shape extents(x.shape().begin() + 2, x.shape().end());
  Window window = windowOf(c, extents, {w.shape().begin() + 2, w.shape().end()});
  size_t rank = window.rank();
  int64_t batch = x.dim(0), channels = x.dim(1) / offsetGroups, taps = product(window.kernel),
          positions = product(window.result), corners = power(2, rank);
  Shape expected = {batch, offsetGroups * taps * static_cast<int64_t>(rank)}, maskShape = {batch, offsetGroups * taps};
  expected.insert(expected.end(), window.result.begin(), window.result.end());
  maskShape.insert(maskShape.end(), window.result.begin(), window.result.end());
  if (rank > 3 || offset.shape() != expected || (mask && mask.shape() != maskShape) || x.elements() == 0)
    refuse("an offset of shape " + shapeText(offset.shape()) + (mask ? " or mask of " + shapeText(mask.shape()) : "") +
           " instead of " + shapeText(expected));
  if (bias && bias.shape() != Shape{w.dim(0)})
    refuse("bias of shape " + shapeText(bias.shape()) + " for " + llvm::Twine(w.dim(0)) + " output channels");
  // Loops: image, offset group, taps..., positions..., corner.
  Shape split = {batch, offsetGroups};
  split.insert(split.end(), window.kernel.begin(), window.kernel.end());
  split.push_back(static_cast<int64_t>(rank));
  split.insert(split.end(), window.result.begin(), window.result.end());
  offset = c.reshape(offset, split);
  Nest nest;
  for (size_t d = 0; d < split.size(); ++d)
    if (d != 2 + rank)
      nest.loops.push_back({split[d], false});
  for (size_t axis = 0; axis < rank; ++axis) {
    AccessMap map = identityAccess(2 + rank);
    map.push_back(fixed(static_cast<int64_t>(axis)));
    for (size_t d = 0; d < rank; ++d)
      map.push_back(at(static_cast<unsigned>(2 + rank + d)));
    nest.reads.push_back({offset, map});
  }
  nest.loops.push_back({corners, false});
  ElementType wide = Emitter::accumulatorOf(x.type());
  Taps sampled = tapsOf(c, nest, Sampler(), extents, [&](llvm::ArrayRef<Lane> in) {
    std::vector<Lane> result;
    for (size_t d = 0; d < rank; ++d) {
      Lane tap = loopIndex(c, static_cast<unsigned>(2 + d)),
           position = loopIndex(c, static_cast<unsigned>(2 + rank + d));
      Lane base = position * static_cast<double>(window.strides[d]) + tap * static_cast<double>(window.dilations[d]);
      result.push_back((base - static_cast<double>(window.padBefore[d])).to(wide) + in[d].to(wide));
    }
    return result;
  });
  TensorRef data = channelsLast(c, c.reshape(x, {batch, offsetGroups, channels, product(extents)}), true);
  TensorRef gathered =
      c.gatherNd(data, c.reshape(sampled.indices, {batch, offsetGroups, taps * positions * corners, 1}), 2);
  Nest sum;
  sum.operation = "deform_conv.columns";
  sum.loops = {{batch, false}, {offsetGroups, false}, {channels, false},
               {taps, false},  {positions, false},    {corners, true}};
  sum.reads = {{c.reshape(gathered, {batch, offsetGroups, taps, positions, corners, channels}),
                {at(0), at(1), at(3), at(4), at(5), at(2)}},
               {c.reshape(sampled.weights, {batch, offsetGroups, taps, positions, corners}),
                {at(0), at(1), at(3), at(4), at(5)}}};
  sum.write = identityAccess(5);
  sum.combiner = Combiner::Sum;
  TensorRef columns = c.nest(sum, [&](llvm::ArrayRef<Lane> v) { return v[0].to(wide) * v[1]; });
  if (mask)
    columns = c.map("deform_conv.mask", {columns, c.reshape(mask, {batch, offsetGroups, 1, taps, positions})},
                    [](llvm::ArrayRef<Lane> v) { return v[0] * v[1].to(v[0].type()); });
  columns = c.reshape(c.convert(columns, x.type()), {batch, x.dim(1), taps, positions});
  int64_t inputs = w.dim(1), outputs = w.dim(0) / groups;
  Nest contract;
  contract.operation = "deform_conv";
  contract.loops = {{batch, false},     {groups, false}, {outputs, false},
                    {positions, false}, {inputs, true},  {taps, true}};
  contract.reads = {{columns, {at(0), {0, {{1, inputs}, {4, 1}}}, at(5), at(3)}},
                    {c.reshape(w, {w.dim(0), inputs, taps}), {{0, {{1, outputs}, {2, 1}}}, at(4), at(5)}}};
  contract.write = identityAccess(4);
  TensorRef result = c.reshape(sumOfProducts(c, contract), {batch, w.dim(0), positions});
  if (bias)
    result = c.map("deform_conv.bias", {result, c.reshape(bias, {w.dim(0), 1})},
                   [](llvm::ArrayRef<Lane> v) { return v[0] + v[1]; });
  Shape shape = {batch, w.dim(0)};
  shape.insert(shape.end(), window.result.begin(), window.result.end());
  c.result(c.reshape(result, shape));
}

void addSampling(OperatorTable &table) {
  table.add("GridSample", gridSample);
  table.add("AffineGrid", affineGrid);
  table.add("RoiAlign", roiAlign);
  table.add("MaxRoiPool", maxRoiPool);
  table.add("DeformConv", deformConv);
}

} // namespace quadrille::graph::importer
