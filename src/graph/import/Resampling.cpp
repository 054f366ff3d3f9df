// Resize and Upsample: along one axis after another every result element is a weighted sum of a few operand elements.
// The weights depend on shapes only, so each axis is a gather (nearest) or a product with a constant matrix whose rows
// are gathered as taps.
#include "graph/import/OperatorContext.h"

#include "numerics/Convert.h"

#include <algorithm>
#include <cmath>

namespace quadrille::graph::importer {

namespace {
struct Resampling {
  std::string mode, coordinates, nearest;
  double cubic = -0.75, extrapolation = 0;
  bool excludeOutside = false, antialias = false;
};

// What one result element is made of along an axis.
struct Taps {
  std::vector<int64_t> index;
  std::vector<double> weight;
  bool outside = false; // the extrapolation value takes its place
};
} // namespace

// The position in the operand that element `i` of the result stands for.
static double coordinateOf(const Resampling &r, int64_t i, double scale, int64_t from, int64_t to, double roiStart,
                           double roiEnd) {
  double x = static_cast<double>(i), length = static_cast<double>(from), resized = static_cast<double>(to);
  if (r.coordinates == "asymmetric")
    return x / scale;
  if (r.coordinates == "align_corners")
    return to == 1 ? 0 : x * (length - 1) / (scale * length - 1); // before it was rounded down
  if (r.coordinates == "pytorch_half_pixel")
    return to > 1 ? (x + 0.5) / scale - 0.5 : 0;
  if (r.coordinates == "half_pixel_symmetric") {
    double exact = scale * length, adjustment = resized / exact, center = length / 2;
    return center * (1 - adjustment) + (x + 0.5) / scale - 0.5;
  }
  if (r.coordinates == "tf_half_pixel_for_nn")
    return (x + 0.5) / scale;
  if (r.coordinates == "tf_crop_and_resize")
    return to > 1 ? roiStart * (length - 1) + x * (roiEnd - roiStart) * (length - 1) / (resized - 1)
                  : 0.5 * (roiStart + roiEnd) * (length - 1);
  return (x + 0.5) / scale - 0.5; // half_pixel
}

static int64_t nearestOf(const Resampling &r, double x) {
  if (r.nearest == "floor")
    return static_cast<int64_t>(std::floor(x));
  if (r.nearest == "ceil")
    return static_cast<int64_t>(std::ceil(x));
  if (r.nearest == "round_prefer_ceil")
    return static_cast<int64_t>(std::floor(x + 0.5));
  return static_cast<int64_t>(std::ceil(x - 0.5)); // round_prefer_floor
}

// Keys' cubic convolution kernel (IEEE Trans. ASSP 29(6), 1981) with coefficient a.
static double cubicWeight(double distance, double a) {
  double d = std::fabs(distance);
  if (d <= 1)
    return ((a + 2) * d - (a + 3)) * d * d + 1;
  if (d < 2)
    return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  return 0;
}

static Taps tapsOf(const Resampling &r, double x, double scale, int64_t extent) {
  Taps taps;
  if (r.coordinates == "tf_crop_and_resize" && (x < 0 || x > static_cast<double>(extent - 1))) {
    taps.outside = true;
    taps.index = {0};
    taps.weight = {0};
    return taps;
  }
  auto clamped = [&](int64_t index) { return std::clamp<int64_t>(index, 0, extent - 1); };
  if (r.mode == "nearest") {
    taps.index = {clamped(nearestOf(r, x))};
    taps.weight = {1};
    return taps;
  }
  // When an antialiased result is smaller, the kernel is stretched to cover what one result element stands for.
  double stretch = r.antialias && scale < 1 ? 1 / scale : 1;
  double reach = (r.mode == "linear" ? 1 : 2) * stretch;
  int64_t base = static_cast<int64_t>(std::floor(x));
  int64_t first = stretch == 1 ? base - (r.mode == "linear" ? 0 : 1) : static_cast<int64_t>(std::floor(x - reach)) + 1;
  int64_t last = stretch == 1 ? base + (r.mode == "linear" ? 1 : 2) : static_cast<int64_t>(std::ceil(x + reach)) - 1;
  double total = 0;
  for (int64_t index = first; index <= last; ++index) {
    double distance = (x - static_cast<double>(index)) / stretch;
    double weight = r.mode == "linear" ? std::max(0.0, 1 - std::fabs(distance)) : cubicWeight(distance, r.cubic);
    bool outside = index < 0 || index >= extent;
    if (outside && r.excludeOutside)
      weight = 0;
    taps.index.push_back(clamped(index));
    taps.weight.push_back(weight);
    total += weight;
  }
  if ((r.excludeOutside || stretch != 1) && total != 0)
    for (double &weight : taps.weight)
      weight /= total;
  return taps;
}

static TensorRef resampleAxis(OperatorContext &c, TensorRef x, int64_t axis, const std::vector<Taps> &all,
                              double extrapolation) {
  size_t width = 0;
  bool anyOutside = false;
  for (const Taps &taps : all) {
    width = std::max(width, taps.index.size());
    anyOutside |= taps.outside;
  }
  int64_t extent = static_cast<int64_t>(all.size());
  bool copies = width == 1 && !anyOutside;
  // Gathered: [..., extent * width, ...], then weighted and summed over the taps.
  std::vector<int64_t> indices;
  std::vector<float> weights, outside;
  for (const Taps &taps : all) {
    for (size_t t = 0; t < width; ++t) {
      indices.push_back(t < taps.index.size() ? taps.index[t] : 0);
      weights.push_back(t < taps.index.size() ? static_cast<float>(taps.weight[t]) : 0);
    }
    outside.push_back(taps.outside ? 1 : 0);
  }
  TensorRef gathered = c.gather(x, c.integers(indices), axis);
  if (copies)
    return gathered;
  ElementType type = x.type(), wide = isFloat(type) && bitWidth(type) == 64 ? ElementType::f64 : ElementType::f32;
  Shape apart = gathered.shape();
  apart[axis] = extent;
  apart.insert(apart.begin() + axis + 1, static_cast<int64_t>(width));
  TensorRef taps = c.reshape(gathered, apart);
  Nest nest;
  nest.operation = "resize";
  unsigned tapLoop = static_cast<unsigned>(axis + 1);
  for (size_t d = 0; d < apart.size(); ++d) {
    nest.loops.push_back({apart[d], d == tapLoop});
    if (d != tapLoop)
      nest.write.push_back(at(static_cast<unsigned>(d)));
  }
  TensorRef matrix = c.constant(Tensor::of<float>(ElementType::f32, {extent, static_cast<int64_t>(width)}, weights));
  nest.reads = {{taps, identityAccess(apart.size())}, {matrix, {at(static_cast<unsigned>(axis)), at(tapLoop)}}};
  nest.combiner = Combiner::Sum;
  TensorRef result = c.nest(nest, [&](llvm::ArrayRef<Lane> v) { return v[0].to(wide) * v[1].to(wide); });
  if (!anyOutside)
    return result;
  Shape along(x.rank() - axis, 1);
  along[0] = extent;
  TensorRef flags = c.constant(Tensor::of<float>(ElementType::f32, along, outside));
  return c.map("resize.extrapolate", {result, flags},
               [&](llvm::ArrayRef<Lane> v) { return select(v[1] > 0.0, v[0].constant(extrapolation), v[0]); });
}

// Scales and sizes of every axis; `sizes` win.
static void resizeBy(OperatorContext &c, TensorRef x, const Resampling &r, std::vector<double> scales, Shape sizes,
                     const std::vector<double> &roi) {
  TensorRef value = x;
  for (int64_t axis = 0; axis < x.rank(); ++axis) {
    int64_t from = x.dim(axis), to = sizes[axis];
    if (to < 0 || to > int64_t(1) << 24)
      refuse("axis " + llvm::Twine(axis) + " is resized to " + llvm::Twine(to) + " elements");
    bool crops = r.coordinates == "tf_crop_and_resize" && (roi[axis] != 0 || roi[x.rank() + axis] != 1);
    if (from == to && scales[axis] == 1 && !crops)
      continue;
    if (from == 0)
      refuse("axis " + llvm::Twine(axis) + " is empty");
    std::vector<Taps> taps;
    for (int64_t i = 0; i < to; ++i)
      taps.push_back(tapsOf(r,
                            coordinateOf(r, i, scales[axis], from, to, roi.empty() ? 0 : roi[axis],
                                         roi.empty() ? 1 : roi[x.rank() + axis]),
                            scales[axis], from));
    value = resampleAxis(c, value, axis, taps, r.extrapolation);
  }
  if (value.type() != x.type())
    value = c.map("Cast", {value}, [&](llvm::ArrayRef<Lane> v) {
      return isFloat(x.type()) ? v[0].to(x.type()) : roundEven(v[0]).toSaturating(x.type());
    });
  c.result(value);
}

static Resampling attributesOf(OperatorContext &c) {
  Resampling r;
  r.mode = c.text("mode", "nearest");
  r.coordinates = c.text("coordinate_transformation_mode", c.opset < 11 ? "asymmetric" : "half_pixel");
  r.nearest = c.text("nearest_mode", c.opset < 11 ? "floor" : "round_prefer_floor");
  r.cubic = c.real("cubic_coeff_a", -0.75);
  r.extrapolation = c.real("extrapolation_value", 0.0);
  r.excludeOutside = c.flag("exclude_outside");
  r.antialias = c.flag("antialias");
  if (r.mode == "bilinear" || r.mode == "trilinear")
    r.mode = "linear";
  if (r.mode != "nearest" && r.mode != "linear" && r.mode != "cubic")
    refuse("mode is '" + r.mode + "' instead of nearest, linear or cubic");
  static const char *known[] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
                                "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize"};
  if (!llvm::is_contained(known, r.coordinates))
    refuse("coordinate_transformation_mode is '" + r.coordinates + "'");
  return r;
}

static void resize(OperatorContext &c) {
  Resampling r = attributesOf(c);
  TensorRef x = c.operand(0);
  std::vector<int64_t> axes = c.integerList("axes");
  if (axes.empty())
    for (int64_t axis = 0; axis < x.rank(); ++axis)
      axes.push_back(axis);
  for (int64_t &axis : axes)
    axis = normalAxis(axis, x.rank());
  std::string policy = c.text("keep_aspect_ratio_policy", "stretch");
  unsigned scalesOperand = c.opset < 11 ? 1 : 2;
  std::vector<double> scales(x.rank(), 1), roi(2 * x.rank(), 0);
  std::fill(roi.begin() + x.rank(), roi.end(), 1);
  Shape sizes = x.shape();
  std::vector<double> given;
  if (c.optional(scalesOperand))
    given = valuesOf<double>(c.known(scalesOperand, "scales"));
  if (r.coordinates == "tf_crop_and_resize") {
    std::vector<double> values = valuesOf<double>(c.known(1, "roi"));
    if (values.size() != 2 * axes.size())
      refuse("roi has " + llvm::Twine(values.size()) + " elements for " + llvm::Twine(axes.size()) + " axes");
    for (size_t i = 0; i < axes.size(); ++i) {
      roi[axes[i]] = values[i];
      roi[x.rank() + axes[i]] = values[axes.size() + i];
    }
  }
  if (!given.empty()) {
    if (given.size() != axes.size())
      refuse("scales has " + llvm::Twine(given.size()) + " elements for " + llvm::Twine(axes.size()) + " axes");
    for (size_t i = 0; i < axes.size(); ++i) {
      if (!(given[i] > 0) || given[i] > 1e6)
        refuse("a scale is not a positive number");
      scales[axes[i]] = given[i];
      double region = roi[x.rank() + axes[i]] - roi[axes[i]];
      sizes[axes[i]] = static_cast<int64_t>(std::floor(static_cast<double>(x.dim(axes[i])) * region * given[i]));
    }
    return resizeBy(c, x, r, scales, sizes, roi);
  }
  std::vector<int64_t> wanted = c.knownIntegers(3, "sizes");
  if (wanted.size() != axes.size())
    refuse("sizes has " + llvm::Twine(wanted.size()) + " elements for " + llvm::Twine(axes.size()) + " axes");
  if (policy != "stretch" && policy != "not_larger" && policy != "not_smaller")
    refuse("keep_aspect_ratio_policy is '" + policy + "'");
  double common = policy == "not_larger" ? 1e300 : 0;
  for (size_t i = 0; i < axes.size(); ++i) {
    if (x.dim(axes[i]) == 0)
      refuse("axis " + llvm::Twine(axes[i]) + " is empty");
    double scale = static_cast<double>(wanted[i]) / static_cast<double>(x.dim(axes[i]));
    common = policy == "not_larger" ? std::min(common, scale) : std::max(common, scale);
    scales[axes[i]] = scale;
    sizes[axes[i]] = wanted[i];
  }
  if (policy != "stretch")
    for (int64_t axis : axes) {
      scales[axis] = common;
      sizes[axis] = static_cast<int64_t>(std::floor(common * static_cast<double>(x.dim(axis)) + 0.5));
    }
  resizeBy(c, x, r, scales, sizes, roi);
}

// The older form: element i of the result is element floor(i / scale).
static void upsample(OperatorContext &c) {
  Resampling r;
  r.mode = c.text("mode", "nearest");
  if (r.mode == "bilinear")
    r.mode = "linear";
  if (r.mode != "nearest" && r.mode != "linear")
    refuse("mode is '" + r.mode + "' instead of nearest or linear");
  r.coordinates = "asymmetric";
  r.nearest = "floor";
  TensorRef x = c.operand(0);
  std::vector<double> scales = c.opset < 9 ? c.realList("scales") : valuesOf<double>(c.known(1, "scales"));
  if (static_cast<int64_t>(scales.size()) != x.rank())
    refuse("scales has " + llvm::Twine(scales.size()) + " elements for an operand of rank " + llvm::Twine(x.rank()));
  Shape sizes;
  for (int64_t axis = 0; axis < x.rank(); ++axis) {
    if (!(scales[axis] > 0) || scales[axis] > 1e6)
      refuse("a scale is not a positive number");
    sizes.push_back(static_cast<int64_t>(std::floor(static_cast<double>(x.dim(axis)) * scales[axis])));
  }
  resizeBy(c, x, r, scales, sizes, {});
}

void addResampling(OperatorTable &table) {
  table.add("Resize", resize);
  table.add("Upsample", upsample);
}

} // namespace quadrille::graph::importer
