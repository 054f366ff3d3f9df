// Fourier transforms, windows and mel filter banks. A transform of n elements is a product with a constant matrix of
// rotations; a long one is cut into transforms of two factors of n (Cooley and Tukey, Math. Comp. 19, 1965), so that
// its work grows with n * (p + q) instead of n * n. Complex numbers are a last dimension of extent 2.
#include "graph/import/Product.h"

#include "numerics/Convert.h"

#include <cmath>
#include <numbers>

namespace quadrille::graph::importer {

// Transforms of at most this many elements are one product.
constexpr int64_t directLength = 128;

// e^(sign * 2 pi i * (row * column) / n) as a 2 x 2 matrix for each row and column: [rows, 2, columns, 2], the second
// dimension the part of the result, the last the part of the operand (only the real part when `parts` is 1).
static TensorRef rotations(OperatorContext &c, ElementType type, int64_t rows, int64_t columns, int64_t n, bool inverse,
                           int64_t parts) {
  if (product({rows, columns, parts}) > int64_t(1) << 26)
    refuseUnsupported("a transform of " + llvm::Twine(n) + " elements, a number without small factors");
  std::vector<double> values(static_cast<size_t>(rows * columns * 2 * parts));
  size_t next = 0;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t part = 0; part < 2; ++part)
      for (int64_t column = 0; column < columns; ++column) {
        double angle =
            (inverse ? 2 : -2) * std::numbers::pi * static_cast<double>(row * column % n) / static_cast<double>(n);
        values[next++] = part == 0 ? std::cos(angle) : std::sin(angle);
        if (parts == 2)
          values[next++] = part == 0 ? -std::sin(angle) : std::cos(angle);
      }
  return c.constant(convert(Tensor::of<double>(ElementType::f64, {rows, 2, columns, parts}, values), type));
}

// Transforms dimension 1 of [outer, n, inner, 1 or 2] into [outer, n, inner, 2]; not scaled.
static TensorRef transformed(OperatorContext &c, TensorRef x, bool inverse) {
  int64_t outer = x.dim(0), n = x.dim(1), inner = x.dim(2), parts = x.dim(3);
  int64_t first = 1;
  if (n > directLength)
    for (int64_t factor = 2; factor * factor <= n; ++factor)
      if (n % factor == 0)
        first = factor;
  if (first == 1) {
    Nest nest;
    nest.operation = "fourier";
    nest.loops = {{outer, false}, {n, false}, {inner, false}, {2, false}, {n, true}, {parts, true}};
    nest.reads = {{x, {at(0), at(4), at(2), at(5)}},
                  {rotations(c, x.type(), n, n, n, inverse, parts), {at(1), at(3), at(4), at(5)}}};
    nest.write = identityAccess(4);
    return sumOfProducts(c, nest);
  }
  // With n = p q, element j = q a + b and result k = r + p s: transforms over a, rotations by b r, transforms over b.
  int64_t p = first, q = n / first;
  TensorRef columns = transformed(c, c.reshape(x, {outer, p, q * inner, parts}), inverse);
  columns = c.reshape(columns, {outer, p, q, inner, 2});
  TensorRef twiddles = rotations(c, x.type(), p, q, n, inverse, 2);
  Nest rotate;
  rotate.operation = "fourier.rotate";
  rotate.loops = {{outer, false}, {p, false}, {q, false}, {inner, false}, {2, false}};
  for (int64_t part = 0; part < 2; ++part) {
    rotate.reads.push_back({columns, {at(0), at(1), at(2), at(3), fixed(part)}});
    rotate.reads.push_back({twiddles, {at(1), at(4), at(2), fixed(part)}});
  }
  rotate.write = identityAccess(5);
  TensorRef rotated = c.nest(rotate, [](llvm::ArrayRef<Lane> v) { return v[0] * v[1] + v[2] * v[3]; });
  TensorRef rows = transformed(c, c.reshape(rotated, {outer * p, q, inner, 2}), inverse);
  rows = c.transpose(c.reshape(rows, {outer, p, q, inner, 2}), {0, 2, 1, 3, 4});
  return c.reshape(rows, {outer, n, inner, 2});
}

// The first `extent` elements along an axis, with zeros where there are fewer.
static TensorRef fitted(OperatorContext &c, TensorRef x, int64_t axis, int64_t extent) {
  std::vector<int64_t> starts(x.rank(), 0), after(x.rank(), 0);
  if (x.dim(axis) > extent) {
    Shape extents = x.shape();
    extents[axis] = extent;
    return c.slice(x, starts, extents);
  }
  after[axis] = extent - x.dim(axis);
  return c.pad(x, starts, after, 0.0);
}

// The whole spectrum of a real signal of n elements from its first n / 2 + 1 elements: X[n - k] is the conjugate of
// X[k]. x is [outer, n / 2 + 1, inner, 2].
static TensorRef mirrored(OperatorContext &c, TensorRef x, int64_t n) {
  int64_t missing = n - x.dim(1);
  if (missing == 0)
    return x;
  Nest nest;
  nest.operation = "fourier.mirror";
  nest.loops = {{x.dim(0), false}, {missing, false}, {x.dim(2), false}, {2, false}};
  nest.reads = {{x, {at(0), at(1, -1, missing), at(2), at(3)}}};
  nest.write = identityAccess(4);
  TensorRef rest = c.nest(nest, [&](llvm::ArrayRef<Lane> v) { return select(loopIndex(c, 3) == 0.0, v[0], -v[0]); });
  return c.concat({x, rest}, 1);
}

// `x` is [..., 1 or 2]; the axis is transformed over `length` elements.
static TensorRef fourier(OperatorContext &c, TensorRef x, int64_t axis, int64_t length, bool inverse, bool oneSided) {
  if (length < 1 || length > int64_t(1) << 24)
    refuse("a transform of " + llvm::Twine(length) + " elements");
  ElementType type = x.type();
  bool fromHalf = inverse && oneSided;
  if (fromHalf && x.dim(-1) != 2)
    refuse("the one-sided inverse needs complex elements");
  Shape shape = x.shape();
  x = fitted(c, c.convert(x, Emitter::accumulatorOf(type)), axis, fromHalf ? length / 2 + 1 : length);
  int64_t outer = product(llvm::ArrayRef(shape).take_front(axis));
  int64_t inner = product(llvm::ArrayRef(shape).slice(axis + 1, shape.size() - axis - 2));
  x = c.reshape(x, {outer, x.dim(axis), inner, shape.back()});
  if (fromHalf)
    x = mirrored(c, x, length);
  TensorRef y = transformed(c, x, inverse);
  shape[axis] = length;
  shape.back() = 2;
  if (inverse)
    y = c.map("fourier.scale", {y}, [&](llvm::ArrayRef<Lane> v) { return v[0] * (1.0 / static_cast<double>(length)); });
  if (oneSided && !inverse) {
    shape[axis] = length / 2 + 1;
    y = c.slice(y, {0, 0, 0, 0}, {outer, shape[axis], inner, 2});
  } else if (fromHalf) {
    shape.back() = 1;
    y = c.slice(y, {0, 0, 0, 0}, {outer, length, inner, 1});
  }
  return c.convert(c.reshape(y, shape), type);
}

static void checkComplex(OperatorContext &c, TensorRef x) {
  c.requireFloat(x);
  if (x.rank() < 2 || (x.dim(-1) != 1 && x.dim(-1) != 2))
    refuse("a tensor of shape " + shapeText(x.shape()) + " does not end in 1 (real) or 2 (complex)");
}

static void dft(OperatorContext &c) {
  TensorRef x = c.operand(0);
  checkComplex(c, x);
  bool inverse = c.flag("inverse"), oneSided = c.flag("onesided");
  int64_t axis = c.opset < 20 ? c.integer("axis", 1) : c.optional(2) ? c.knownInteger(2, "axis") : -2;
  axis = normalAxis(axis, x.rank());
  if (axis == x.rank() - 1)
    refuse("axis " + llvm::Twine(axis) + " holds the parts of complex numbers");
  int64_t length = c.optional(1)         ? c.knownInteger(1, "dft_length")
                   : inverse && oneSided ? 2 * (x.dim(axis) - 1)
                                         : x.dim(axis);
  c.result(fourier(c, x, axis, length, inverse, oneSided));
}

// Frame f holds elements f * step ... of the signal [batch, length, 1 or 2], times the window.
static void stft(OperatorContext &c) {
  TensorRef signal = c.operand(0), window = c.optional(2);
  checkComplex(c, signal);
  if (signal.rank() != 3)
    refuse("a signal of shape " + shapeText(signal.shape()) + " instead of [batch, length, 1 or 2]");
  bool oneSided = c.flag("onesided", true);
  int64_t step = c.knownInteger(1, "frame_step");
  int64_t length = c.optional(3) ? c.knownInteger(3, "frame_length") : window ? window.elements() : signal.dim(1);
  if (step < 1 || length < 1 || length > signal.dim(1))
    refuse("frames of " + llvm::Twine(length) + " elements, " + llvm::Twine(step) + " apart, of a signal of " +
           llvm::Twine(signal.dim(1)) + " elements");
  if (window && window.shape() != Shape{length})
    refuse("a window of shape " + shapeText(window.shape()) + " for frames of " + llvm::Twine(length) + " elements");
  Nest nest;
  nest.operation = "stft.frame";
  nest.loops = {
      {signal.dim(0), false}, {(signal.dim(1) - length) / step + 1, false}, {length, false}, {signal.dim(2), false}};
  nest.reads = {{signal, {at(0), {0, {{1, step}, {2, 1}}}, at(3)}}};
  if (window)
    nest.reads.push_back({window, {at(2)}});
  nest.write = identityAccess(4);
  TensorRef frames = c.nest(nest, [&](llvm::ArrayRef<Lane> v) { return window ? v[0] * v[1].to(v[0].type()) : v[0]; });
  c.result(fourier(c, frames, 2, length, false, oneSided));
}

// sum of coefficients[k] * cos(2 pi k * position), position from 0 to 1 over the window.
static void cosineWindow(OperatorContext &c, llvm::ArrayRef<double> coefficients) {
  int64_t size = c.knownInteger(0, "size");
  bool periodic = c.flag("periodic", true);
  ElementType type = c.elementType("output_datatype").value_or(ElementType::f32);
  if (size < 0 || size > int64_t(1) << 26)
    refuse("a window of " + llvm::Twine(size) + " elements");
  int64_t period = periodic ? size : size - 1;
  std::vector<double> values(static_cast<size_t>(size));
  for (size_t i = 0; i < values.size(); ++i) {
    // A symmetric window of one element is its own middle.
    double position = period == 0 ? 0.5 : static_cast<double>(i) / static_cast<double>(period);
    for (size_t k = 0; k < coefficients.size(); ++k)
      values[i] += coefficients[k] * std::cos(2 * std::numbers::pi * static_cast<double>(k) * position);
  }
  c.result(c.constant(convert(Tensor::of<double>(ElementType::f64, {size}, values), type)));
}

static void hannWindow(OperatorContext &c) {
  cosineWindow(c, {0.5, -0.5});
}

static void hammingWindow(OperatorContext &c) {
  cosineWindow(c, {25.0 / 46, -21.0 / 46});
}

static void blackmanWindow(OperatorContext &c) {
  cosineWindow(c, {0.42, -0.5, 0.08});
}

// Column m is a triangle over the spectrum's bins: its corners are frequencies at equal distances on the mel scale
// (2595 log10(1 + f / 700)), rounded down to bins.
static void melWeightMatrix(OperatorContext &c) {
  int64_t bands = c.knownInteger(0, "num_mel_bins"), length = c.knownInteger(1, "dft_length"),
          rate = c.knownInteger(2, "sample_rate");
  std::vector<double> low = valuesOf<double>(c.known(3, "lower_edge_hertz")),
                      high = valuesOf<double>(c.known(4, "upper_edge_hertz"));
  ElementType type = c.elementType("output_datatype").value_or(ElementType::f32);
  if (bands < 1 || length < 1 || rate < 1 || bands > 1 << 20 || length > 1 << 24 || low.size() != 1 || high.size() != 1)
    refuse(llvm::Twine(bands) + " bands of a transform of " + llvm::Twine(length) + " elements at " +
           llvm::Twine(rate) + " Hz");
  int64_t bins = length / 2 + 1;
  if (product({bins, bands}) > int64_t(1) << 26)
    refuse("a matrix of shape " + shapeText({bins, bands}) + " is too large");
  auto mel = [](double hertz) { return 2595 * std::log10(1 + hertz / 700); };
  double lowest = mel(low[0]), step = (mel(high[0]) - lowest) / static_cast<double>(bands + 2);
  std::vector<int64_t> corners;
  for (int64_t i = 0; i < bands + 2; ++i) {
    double hertz = 700 * (std::pow(10, (lowest + static_cast<double>(i) * step) / 2595) - 1);
    double bin = std::floor(static_cast<double>(length + 1) * hertz / static_cast<double>(rate));
    if (!(bin >= 0 && bin < static_cast<double>(bins)))
      refuse("band edges from " + llvm::Twine(static_cast<int64_t>(low[0])) + " to " +
             llvm::Twine(static_cast<int64_t>(high[0])) + " Hz lie outside the spectrum");
    corners.push_back(static_cast<int64_t>(bin));
  }
  std::vector<double> values(static_cast<size_t>(bins * bands), 0);
  auto element = [&](int64_t bin, int64_t band) -> double & { return values[static_cast<size_t>(bin * bands + band)]; };
  for (int64_t band = 0; band < bands; ++band) {
    int64_t left = corners[band], middle = corners[band + 1], right = corners[band + 2];
    for (int64_t bin = left; bin < middle; ++bin)
      element(bin, band) = static_cast<double>(bin - left) / static_cast<double>(middle - left);
    element(middle, band) = 1;
    for (int64_t bin = middle + 1; bin < right; ++bin)
      element(bin, band) = static_cast<double>(right - bin) / static_cast<double>(right - middle);
  }
  c.result(c.constant(convert(Tensor::of<double>(ElementType::f64, {bins, bands}, values), type)));
}

void addSignal(OperatorTable &table) {
  table.add("DFT", dft);
  table.add("STFT", stft);
  table.add("HannWindow", hannWindow);
  table.add("HammingWindow", hammingWindow);
  table.add("BlackmanWindow", blackmanWindow);
  table.add("MelWeightMatrix", melWeightMatrix);
}

} // namespace quadrille::graph::importer
