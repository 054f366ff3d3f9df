// Convolutions with groups, strides, dilations and padding in any number of spatial dimensions.
#include "graph/import/Product.h"
#include "graph/import/Window.h"

#include <algorithm>

namespace quadrille::graph::importer {

// Loops: n, [group], [channel in group], spatial..., [input channel in group], taps... Loops of extent 1 that only the
// grouping would need are left out, so that a depthwise convolution is one over [n, channel, spatial..., taps...].
Convolution convolution(OperatorContext &c, TensorRef x, TensorRef w, int64_t groups, const Window &window,
                        Scalar padding) {
  size_t spatial = window.rank();
  int64_t channels = x.dim(1) / groups, filters = w.dim(0) / groups;
  Convolution result;
  Nest &nest = result.nest;
  nest.operation = "conv";
  auto loop = [&](int64_t extent, bool reduction = false) {
    nest.loops.push_back({extent, reduction});
    return static_cast<unsigned>(nest.loops.size() - 1);
  };
  TensorRef padded = padFor(c, x, window, padding);
  AccessMap mapX, mapW;
  DimensionAccess inputChannel = fixed(0), outputChannel = fixed(0);
  unsigned n = loop(x.dim(0));
  nest.write.push_back(at(n));
  if (groups > 1) {
    unsigned g = loop(groups);
    nest.write.push_back(at(g));
    inputChannel.terms.push_back({g, channels});
    outputChannel.terms.push_back({g, filters});
  }
  if (filters > 1 || groups == 1) {
    unsigned m = loop(filters);
    nest.write.push_back(at(m));
    outputChannel.terms.push_back({m, 1});
  }
  std::vector<unsigned> positions;
  for (size_t d = 0; d < spatial; ++d) {
    positions.push_back(loop(window.result[d]));
    nest.write.push_back(at(positions.back()));
  }
  DimensionAccess weightChannel = fixed(0);
  if (channels > 1 || groups == 1) {
    unsigned k = loop(channels, true);
    inputChannel.terms.push_back({k, 1});
    weightChannel = at(k);
  }
  mapX = {at(n), inputChannel};
  mapW = {outputChannel, weightChannel};
  for (size_t d = 0; d < spatial; ++d) {
    unsigned tap = loop(window.kernel[d], true);
    mapX.push_back({0, {{positions[d], window.strides[d]}, {tap, window.dilations[d]}}});
    mapW.push_back(at(tap));
  }
  nest.reads = {{padded, mapX}, {w, mapW}};
  result.channelAccess = {outputChannel};
  result.shape = {x.dim(0), w.dim(0)};
  result.shape.insert(result.shape.end(), window.result.begin(), window.result.end());
  return result;
}

static void checkShapes(TensorRef x, TensorRef w, int64_t groups) {
  if (x.rank() < 2 || w.rank() != x.rank())
    refuse("operands of shapes " + shapeText(x.shape()) + " and " + shapeText(w.shape()) +
           " do not have one rank of at least 2");
  if (groups < 1 || x.dim(1) % groups != 0 || w.dim(0) % groups != 0)
    refuse("group is " + llvm::Twine(groups) + " for " + llvm::Twine(x.dim(1)) + " input and " + llvm::Twine(w.dim(0)) +
           " output channels");
  if (w.dim(1) * groups != x.dim(1))
    refuse("the weight of shape " + shapeText(w.shape()) + " expects " + llvm::Twine(w.dim(1) * groups) +
           " input channels, but the input has " + llvm::Twine(x.dim(1)));
}

static std::vector<int64_t> spatialOf(TensorRef tensor) {
  return {tensor.shape().begin() + 2, tensor.shape().end()};
}

// Adds one number for each channel of [N, C, spatial...].
static TensorRef addBias(OperatorContext &c, TensorRef result, TensorRef bias, llvm::StringRef operation) {
  if (bias.rank() != 1 || bias.dim(0) != result.dim(1))
    refuse("bias of shape " + shapeText(bias.shape()) + " for " + llvm::Twine(result.dim(1)) + " output channels");
  Nest nest;
  nest.operation = operation.str();
  for (int64_t extent : result.shape())
    nest.loops.push_back({extent, false});
  nest.write = identityAccess(result.rank());
  nest.reads = {{result, nest.write}, {bias, {at(1)}}};
  return c.nest(nest, [](llvm::ArrayRef<Lane> x) { return x[0] + x[1]; });
}

void startFromBias(Emitter &c, Convolution &convolution, TensorRef bias) {
  if (int64_t channels = convolution.shape[1]; bias.rank() != 1 || bias.dim(0) != channels)
    refuse("bias of shape " + shapeText(bias.shape()) + " for " + llvm::Twine(channels) + " output channels");
  Nest &nest = convolution.nest;
  Nest copy;
  copy.operation = "broadcast";
  for (const DimensionAccess &access : nest.write)
    copy.loops.push_back({nest.loops[access.terms[0].first].extent, false});
  copy.write = identityAccess(nest.write.size());
  copy.reads = {{bias, convolution.channelAccess}};
  nest.initial = c.nest(copy, [](llvm::ArrayRef<Lane> x) { return x[0]; });
}

static void conv(OperatorContext &c) {
  TensorRef x = c.operand(0), w = c.operand(1), bias = c.optional(2);
  c.requireFloat(x);
  c.requireSameType({x, w});
  int64_t groups = c.integer("group", 1);
  checkShapes(x, w, groups);
  Window window = windowOf(c, spatialOf(x), spatialOf(w));
  Convolution convolved = convolution(c, x, w, groups, window, scalarOf(x.type(), 0));
  if (bias)
    startFromBias(c, convolved, bias);
  c.result(c.reshape(sumOfProducts(c, convolved.nest), convolved.shape));
}

// Zero point of the weights: a scalar or one for each output channel.
static QuantizedOperand zeroPointOf(OperatorContext &c, TensorRef tensor, TensorRef zeroPoint,
                                    const AccessMap &perChannel, int64_t channels) {
  if (!zeroPoint)
    return {tensor, {}, {}};
  if (zeroPoint.elements() == 1)
    return {tensor, c.reshape(zeroPoint, {}), {}};
  if (zeroPoint.rank() != 1 || zeroPoint.dim(0) != channels)
    refuse("zero point of shape " + shapeText(zeroPoint.shape()) + " for " + llvm::Twine(channels) + " channels");
  return {tensor, zeroPoint, perChannel};
}

TensorRef integerConvolution(OperatorContext &c, TensorRef x, TensorRef w, TensorRef zeroX, TensorRef zeroW) {
  int64_t groups = c.integer("group", 1);
  checkShapes(x, w, groups);
  Window window = windowOf(c, spatialOf(x), spatialOf(w));
  bool padded = llvm::any_of(window.padBefore, [](int64_t p) { return p != 0; }) ||
                llvm::any_of(window.padAfter, [](int64_t p) { return p != 0; });
  // Padding stands for the real number 0, which the zero point encodes; where that is computed at run time it is
  // subtracted before.
  Scalar padding = scalarOf(x.type(), 0);
  if (padded && zeroX && zeroX.known()) {
    padding = scalarOf(x.type(), static_cast<double>(valuesOf<int64_t>(zeroX.constant())[0]));
  } else if (padded && zeroX) {
    x = c.map("subtract_zero_point", {x, c.reshape(zeroX, {})},
              [](llvm::ArrayRef<Lane> v) { return v[0].to(ElementType::i32) - v[1].to(ElementType::i32); });
    zeroX = {};
    padding = scalarOf(ElementType::i32, 0);
  }
  Convolution convolved = convolution(c, x, w, groups, window, padding);
  TensorRef sum = sumOfIntegerProducts(c, convolved.nest, zeroPointOf(c, x, zeroX, {}, -1),
                                       zeroPointOf(c, w, zeroW, convolved.channelAccess, w.dim(0)));
  return c.reshape(sum, convolved.shape);
}

static void convInteger(OperatorContext &c) {
  c.result(integerConvolution(c, c.operand(0), c.operand(1), c.optional(2), c.optional(3)));
}

// out[o] sums x[i] * w[k] over o = i * stride - pad + k * dilation. Seen from the result: with phase r = (o + pad) mod
// stride only the taps whose k * dilation mod stride is r contribute, and for those the operation is an ordinary
// convolution over x. One convolution for each phase; their results are interleaved. No zeros are inserted.
static void convTranspose(OperatorContext &c) {
  TensorRef x = c.operand(0), w = c.operand(1), bias = c.optional(2);
  c.requireFloat(x);
  c.requireSameType({x, w});
  int64_t groups = c.integer("group", 1);
  if (x.rank() < 3 || w.rank() != x.rank() || x.dim(1) != w.dim(0) || groups < 1 || x.dim(1) % groups != 0)
    refuse("operands of shapes " + shapeText(x.shape()) + " and " + shapeText(w.shape()) + " with " +
           llvm::Twine(groups) + " groups do not fit");
  size_t rank = x.rank() - 2;
  std::vector<int64_t> kernel = c.integerList("kernel_shape", spatialOf(w));
  if (kernel != spatialOf(w))
    refuse("attribute 'kernel_shape' is " + shapeText(kernel) + ", but the weight's is " + shapeText(spatialOf(w)));
  std::vector<int64_t> strides = c.integerList("strides", std::vector<int64_t>(rank, 1));
  std::vector<int64_t> dilations = c.integerList("dilations", std::vector<int64_t>(rank, 1));
  std::vector<int64_t> outputPadding = c.integerList("output_padding", std::vector<int64_t>(rank, 0));
  std::vector<int64_t> pads = c.integerList("pads", std::vector<int64_t>(2 * rank, 0));
  std::vector<int64_t> outputShape = c.integerList("output_shape");
  std::string automatic = c.text("auto_pad", "NOTSET");
  if (strides.size() != rank || dilations.size() != rank || outputPadding.size() != rank || pads.size() != 2 * rank ||
      (!outputShape.empty() && outputShape.size() != rank))
    refuse("an attribute's length does not fit " + llvm::Twine(rank) + " spatial dimensions");
  Shape extents;
  for (size_t d = 0; d < rank; ++d) {
    if (strides[d] < 1 || dilations[d] < 1 || strides[d] > 4096)
      refuse("stride " + llvm::Twine(strides[d]) + ", dilation " + llvm::Twine(dilations[d]));
    int64_t full = strides[d] * (x.dim(2 + d) - 1) + outputPadding[d] + (kernel[d] - 1) * dilations[d] + 1;
    if (!outputShape.empty() || automatic == "SAME_UPPER" || automatic == "SAME_LOWER") {
      int64_t wanted = outputShape.empty() ? x.dim(2 + d) * strides[d] : outputShape[d];
      int64_t total = full - wanted;
      // The specification gives the odd element to the end for SAME_UPPER, else to the beginning.
      // A wanted extent beyond the full one is filled with zeros at the end.
      pads[d] = total < 0 ? 0 : automatic == "SAME_UPPER" ? total / 2 : total - total / 2;
      pads[rank + d] = total - pads[d];
    }
    extents.push_back(full - pads[d] - pads[rank + d]);
    if (extents[d] < 0)
      refuse("the padding leaves a negative extent");
  }

  // Blocks that do not overlap: one product, whose columns are the block's elements too.
  bool blocks = groups == 1 && llvm::all_of(pads, [](int64_t pad) { return pad == 0; });
  for (size_t d = 0; d < rank; ++d)
    blocks &=
        kernel[d] == strides[d] && (dilations[d] == 1 || kernel[d] == 1) && extents[d] == x.dim(2 + d) * strides[d];
  if (blocks && product(strides) > 1) {
    Nest nest;
    nest.operation = "conv_transpose";
    auto loop = [&](int64_t extent, bool reduction = false) {
      nest.loops.push_back({extent, reduction});
      return static_cast<unsigned>(nest.loops.size() - 1);
    };
    unsigned n = loop(x.dim(0)), m = loop(w.dim(1));
    nest.write = {at(n), at(m)};
    AccessMap mapX = {at(n), {}}, mapW = {{}, at(m)};
    Shape merged = {x.dim(0), w.dim(1)};
    for (size_t d = 0; d < rank; ++d) {
      unsigned position = loop(x.dim(2 + d));
      mapX.push_back(at(position));
      nest.write.push_back(at(position));
      if (strides[d] > 1)
        nest.write.push_back(at(loop(strides[d])));
      mapW.push_back(strides[d] > 1 ? nest.write.back() : DimensionAccess{});
      merged.push_back(extents[d]);
    }
    mapX[1] = mapW[0] = at(loop(x.dim(1), true));
    nest.reads = {{x, mapX}, {w, mapW}};
    TensorRef result = sumOfProducts(c, nest);
    c.result(c.reshape(bias ? addBias(c, result, bias, "conv_transpose.bias") : result, merged));
    return;
  }

  // One phase for each residue of every spatial dimension, the last dimension fastest; results interleave innermost
  // dimension first.
  int64_t filters = w.dim(1) * groups;
  int64_t phases = product(strides);
  if (phases > 4096)
    refuseUnsupported("more than 4096 phases of strides " + shapeText(strides));
  int64_t channels = x.dim(1) / groups;
  std::vector<int64_t> steps(rank); // result elements of every phase along each dimension
  for (size_t d = 0; d < rank; ++d)
    steps[d] = (extents[d] + strides[d] - 1) / strides[d];
  std::vector<TensorRef> parts;
  for (int64_t phase = 0; phase < phases; ++phase) {
    std::vector<int64_t> residue(rank);
    for (int64_t d = static_cast<int64_t>(rank) - 1, rest = phase; d >= 0; --d) {
      residue[d] = rest % strides[d];
      rest /= strides[d];
    }
    // For result o = stride * q + residue: taps k with (o + pad - k * dilation) divisible by the stride.
    std::vector<int64_t> firstTap(rank), tapStep(rank), taps(rank), offset(rank), step(rank);
    bool empty = false;
    for (size_t d = 0; d < rank; ++d) {
      firstTap[d] = -1;
      int64_t period = 0;
      for (int64_t k = 0; k < std::min(kernel[d], 2 * strides[d]); ++k)
        if ((residue[d] + pads[d] - k * dilations[d]) % strides[d] == 0) {
          if (firstTap[d] < 0)
            firstTap[d] = k;
          else if (!period)
            period = k - firstTap[d];
        }
      if (firstTap[d] < 0) {
        empty = true;
        break;
      }
      tapStep[d] = period ? period : kernel[d];
      taps[d] = (kernel[d] - firstTap[d] + tapStep[d] - 1) / tapStep[d];
      // Input index: q + offset - j * step for the j-th tap.
      offset[d] = (residue[d] + pads[d] - firstTap[d] * dilations[d]) / strides[d];
      step[d] = tapStep[d] * dilations[d] / strides[d];
    }
    Shape partShape = {x.dim(0), filters};
    partShape.insert(partShape.end(), steps.begin(), steps.end());
    if (empty) {
      parts.push_back(c.fill(x.type(), partShape, 0));
      continue;
    }
    // Taps reversed, the window starts at q + offset - (taps - 1) * step.
    Nest nest;
    nest.operation = "conv_transpose";
    auto loop = [&](int64_t extent, bool reduction = false) {
      nest.loops.push_back({extent, reduction});
      return static_cast<unsigned>(nest.loops.size() - 1);
    };
    std::vector<int64_t> before(x.rank(), 0), after(x.rank(), 0), start(rank, 0);
    for (size_t d = 0; d < rank; ++d) {
      int64_t first = offset[d] - (taps[d] - 1) * step[d], last = steps[d] - 1 + offset[d];
      before[2 + d] = std::max<int64_t>(-first, 0);
      after[2 + d] = std::max<int64_t>(last - (x.dim(2 + d) - 1), 0);
      start[d] = first + before[2 + d];
    }
    bool anyPadding =
        llvm::any_of(before, [](int64_t p) { return p; }) || llvm::any_of(after, [](int64_t p) { return p; });
    TensorRef padded = anyPadding ? c.pad(x, before, after, scalarOf(x.type(), 0)) : x;
    unsigned n = loop(x.dim(0)), g = groups > 1 ? loop(groups) : 0, m = loop(w.dim(1));
    nest.write.push_back(at(n));
    if (groups > 1)
      nest.write.push_back(at(g));
    nest.write.push_back(at(m));
    std::vector<unsigned> positions;
    for (size_t d = 0; d < rank; ++d) {
      positions.push_back(loop(steps[d]));
      nest.write.push_back(at(positions[d]));
    }
    unsigned k = loop(channels, true);
    DimensionAccess channel = groups > 1 ? DimensionAccess{0, {{g, channels}, {k, 1}}} : at(k);
    AccessMap mapX = {at(n), channel}, mapW = {channel, at(m)};
    for (size_t d = 0; d < rank; ++d) {
      unsigned tap = loop(taps[d], true);
      mapX.push_back({start[d], {{positions[d], 1}, {tap, step[d]}}});
      mapW.push_back(at(tap, -tapStep[d], firstTap[d] + (taps[d] - 1) * tapStep[d]));
    }
    nest.reads = {{padded, mapX}, {w, mapW}};
    parts.push_back(c.reshape(sumOfProducts(c, nest), partShape));
  }
  // Interleave: stack the phases of the last dimension behind it, merge, then the dimension before, ...
  for (size_t d = rank; d-- > 0;) {
    std::vector<TensorRef> merged;
    for (size_t first = 0; first < parts.size(); first += strides[d]) {
      if (strides[d] == 1) {
        merged.push_back(parts[first]);
        continue;
      }
      Shape stacked = parts[first].shape();
      stacked.insert(stacked.begin() + 2 + d + 1, 1);
      std::vector<TensorRef> group;
      for (int64_t i = 0; i < strides[d]; ++i)
        group.push_back(c.reshape(parts[first + i], stacked));
      Shape joined = parts[first].shape();
      joined[2 + d] *= strides[d];
      merged.push_back(c.reshape(c.concat(group, 2 + d + 1), joined));
    }
    parts = std::move(merged);
  }
  Shape shape = {x.dim(0), filters};
  shape.insert(shape.end(), extents.begin(), extents.end());
  TensorRef result = parts[0];
  if (result.shape() != shape)
    result = c.slice(result, std::vector<int64_t>(shape.size(), 0), shape);
  c.result(bias ? addBias(c, result, bias, "conv_transpose.bias") : result);
}

// The sum of overlapping blocks: [N, C * taps, blocks] to [N, C, image...]. Each element of the image sums the elements
// of the blocks that cover it, gathered by indices that shapes alone decide; index taps * blocks reads zero.
static void col2Im(OperatorContext &c) {
  TensorRef x = c.operand(0);
  std::vector<int64_t> image = c.knownIntegers(1, "image_shape"), block = c.knownIntegers(2, "block_shape");
  size_t rank = image.size();
  std::vector<int64_t> dilations = c.integerList("dilations", std::vector<int64_t>(rank, 1)),
                       strides = c.integerList("strides", std::vector<int64_t>(rank, 1)),
                       pads = c.integerList("pads", std::vector<int64_t>(2 * rank, 0));
  if (x.rank() != 3 || rank < 1 || block.size() != rank || dilations.size() != rank || strides.size() != rank ||
      pads.size() != 2 * rank)
    refuse("an operand of shape " + shapeText(x.shape()) + " with image_shape " + shapeText(image) +
           " and block_shape " + shapeText(block));
  constexpr int64_t most = int64_t(1) << 31;
  std::vector<int64_t> counts;
  for (size_t d = 0; d < rank; ++d) {
    for (int64_t number : {image[d], block[d], dilations[d], strides[d]})
      if (number < 1 || number > most)
        refuse("an extent, dilation or stride is " + llvm::Twine(number));
    if (pads[d] < 0 || pads[rank + d] < 0 || pads[d] > most || pads[rank + d] > most)
      refuse("a negative padding");
    int64_t slack = image[d] + pads[d] + pads[rank + d] - (block[d] - 1) * dilations[d] - 1;
    counts.push_back(slack < 0 ? 0 : slack / strides[d] + 1);
  }
  int64_t taps = product(block), blocks = product(counts), elements = product(image);
  if (x.dim(1) % taps != 0 || x.dim(2) != blocks)
    refuse("an operand of shape " + shapeText(x.shape()) + " instead of [N, C * " + llvm::Twine(taps) + ", " +
           llvm::Twine(blocks) + "]");
  if (product({taps, blocks}) > int64_t(1) << 26)
    refuseUnsupported(llvm::Twine(blocks) + " blocks of " + llvm::Twine(taps) + " elements");
  // For every element of the image, where its addends lie.
  std::vector<llvm::SmallVector<int64_t, 4>> sources(static_cast<size_t>(elements));
  size_t width = 1;
  for (int64_t tap = 0; tap < taps; ++tap)
    for (int64_t number = 0; number < blocks; ++number) {
      int64_t position = 0, extent = 1, tapRest = tap, blockRest = number;
      bool inside = true;
      for (size_t d = rank; d-- > 0;) {
        int64_t at = blockRest % counts[d] * strides[d] + tapRest % block[d] * dilations[d] - pads[d];
        inside &= at >= 0 && at < image[d];
        position += at * extent;
        extent *= image[d];
        tapRest /= block[d];
        blockRest /= counts[d];
      }
      if (!inside)
        continue;
      sources[position].push_back(tap * blocks + number);
      width = std::max(width, sources[position].size());
    }
  std::vector<int64_t> indices;
  indices.reserve(sources.size() * width);
  for (const auto &addends : sources) {
    indices.insert(indices.end(), addends.begin(), addends.end());
    indices.insert(indices.end(), width - addends.size(), taps * blocks);
  }
  int64_t rows = product({x.dim(0), x.dim(1) / taps}), addends = static_cast<int64_t>(width);
  TensorRef columns = c.pad(c.reshape(x, {rows, taps * blocks}), {0, 0}, {0, 1}, 0.0);
  TensorRef gathered = c.reshape(c.gather(columns, c.integers(indices), 1), {rows, elements, addends});
  ElementType wide = isFloat(x.type()) ? Emitter::accumulatorOf(x.type()) : x.type();
  TensorRef sum =
      c.reduce("col2im", gathered, {2}, false, Combiner::Sum, [&](llvm::ArrayRef<Lane> v) { return v[0].to(wide); });
  Shape shape = {x.dim(0), x.dim(1) / taps};
  shape.insert(shape.end(), image.begin(), image.end());
  c.result(c.reshape(c.convert(sum, x.type()), shape));
}

void addConvolutions(OperatorTable &table) {
  table.add("Col2Im", col2Im);
  table.add("Conv", conv);
  table.add("ConvInteger", convInteger);
  table.add("ConvTranspose", convTranspose);
}

} // namespace quadrille::graph::importer
