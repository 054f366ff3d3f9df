// Convolutions through numerics/Gemm.h: result[channel, point] = sum over depth of weights[channel, depth] *
// patches[depth, point], where depth runs over input channels and taps. Patches are gathered for a block of points at a
// time, a row of them for each depth: its elements lie side by side in the operand where the stride is 1.
#include "base/Parallel.h"
#include "graph/Contraction.h"
#include "graph/KernelQueries.h"
#include "numerics/Convert.h"
#include "numerics/Strided.h"
#include "target/host/Product.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"

#include <algorithm>
#include <vector>

namespace quadrille::host {

using namespace graph;

namespace {

// A dimension of the operand that a result loop and a tap index together.
struct WindowAxis {
  int64_t outputs = 1, taps = 1;
  int64_t offset = 0, stride = 1, dilation = 1; // index = offset + output * stride + tap * dilation
  int64_t extent = 1, step = 0;                 // of the operand's dimension; step in elements
  int64_t tapStride = 0;                        // of the weights
};

// A loop that only moves the operands.
struct PlainLoop {
  int64_t extent = 1, source = 0, weights = 0, result = 0;
};

class WindowedProduct final : public Operation {
public:
  bool prepare(const KernelGraph &graph, const Kernel &kernel);
  llvm::Error run(llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) override;

private:
  bool assignLoops(const KernelGraph &graph, const Kernel &kernel, const Contraction &contraction);
  void packWeights(const std::byte *from);
  void gatherPatches(const std::byte *source, int64_t base, int64_t first, int64_t last, std::byte *patches) const;

  ProductForm form = ProductForm::F32;
  ElementType sourceType = ElementType::f32, weightType = ElementType::f32;
  unsigned source = 0, weights = 1;
  ScalarZeroPoint sourceZero, weightZero;
  int64_t sourceBase = 0, weightBase = 0;
  uint64_t paddingBits = 0;
  llvm::SmallVector<PlainLoop, 4> outer;    // groups and images
  llvm::SmallVector<PlainLoop, 2> channels; // input channels
  PlainLoop outputs;                        // channels
  llvm::SmallVector<WindowAxis, 3> axes;    // in the order of the result
  int64_t points = 1, depth = 1;            // of an image
  bool isDirect = false;                    // the operand itself is its patches
  bool packsWeights = false, constantWeights = false, haveWeights = false;
  std::vector<std::byte> packed; // weights of all groups
  int64_t weightGroups = 1;
  ProductSums sums;
};

} // namespace

bool WindowedProduct::assignLoops(const KernelGraph &graph, const Kernel &kernel, const Contraction &contraction) {
  const Read &read = kernel.reads[source], &filter = kernel.reads[weights];
  const Write &write = kernel.writes[0];
  const Shape &shape = graph.values[read.value].shape;
  Shape steps = rowMajorStrides(shape), filterSteps = rowMajorStrides(graph.values[filter.value].shape),
        resultSteps = rowMajorStrides(graph.values[write.value].shape);
  auto plain = [&](unsigned loop) {
    return PlainLoop{kernel.loops[loop].extent, strideAlong(read.map, steps, loop),
                     strideAlong(filter.map, filterSteps, loop), strideAlong(write.map, resultSteps, loop)};
  };
  auto add = [&](llvm::ArrayRef<unsigned> loops, auto &list) {
    for (unsigned loop : loops)
      if (kernel.loops[loop].extent != 1)
        list.push_back(plain(loop));
  };
  add(contraction.batch, outer);
  weightGroups = 1;
  for (const PlainLoop &loop : outer)
    weightGroups *= loop.extent;
  add(contraction.m, outer);
  add(contraction.k, channels);
  llvm::SmallVector<PlainLoop, 2> columns;
  add(contraction.n, columns);
  if (columns.size() > 1)
    return false;
  if (columns.size() == 1)
    outputs = columns[0];

  if (!onlyWindowsLeave(graph, kernel, contraction))
    return false;
  // Offsets of windows are theirs; those of the other dimensions move the operand as a whole.
  for (auto [dimension, access] : llvm::enumerate(read.map))
    if (!contraction.isWindowed(dimension))
      sourceBase += access.offset * steps[dimension];
  weightBase = baseOf(filter.map, filterSteps);
  llvm::SmallVector<std::pair<int64_t, WindowAxis>, 3> sorted; // by stride of the result
  for (const Contraction::Window &window : contraction.windows) {
    WindowAxis axis;
    PlainLoop output = plain(window.output);
    axis.outputs = output.extent;
    axis.taps = kernel.loops[window.tap].extent;
    axis.offset = read.map[window.dimension].offset;
    axis.stride = window.stride;
    axis.dilation = window.dilation;
    axis.extent = shape[window.dimension];
    axis.step = steps[window.dimension];
    axis.tapStride = plain(window.tap).weights;
    sorted.push_back({output.result, axis});
    depth *= axis.taps;
  }
  for (const PlainLoop &loop : channels)
    depth *= loop.extent;
  llvm::stable_sort(sorted, [](const auto &a, const auto &b) {
    return std::make_pair(a.first, a.second.outputs) > std::make_pair(b.first, b.second.outputs);
  });
  // Points follow each other in the result.
  for (auto &[stride, axis] : llvm::reverse(sorted)) {
    if (axis.outputs != 1 && stride != points)
      return false;
    points *= axis.outputs;
  }
  for (auto &[stride, axis] : sorted)
    axes.push_back(axis);
  return outputs.extent == 1 || outputs.result >= points;
}

bool WindowedProduct::prepare(const KernelGraph &graph, const Kernel &kernel) {
  std::optional<Contraction> contraction = inferContraction(graph, kernel);
  if (!contraction || !contraction->isConvolution() || contraction->windows.size() > 3 || hasNoPoints(kernel.loops))
    return false;
  source = contraction->lhs;
  weights = contraction->rhs;
  const Read &read = kernel.reads[source], &filter = kernel.reads[weights];
  if (filter.padding)
    return false;
  sourceType = graph.values[read.value].type;
  weightType = graph.values[filter.value].type;
  std::optional<ProductForm> found = productFormOf(weightType, sourceType, graph.values[kernel.writes[0].value].type);
  if (!found || !sourceZero.assign(graph, kernel, contraction->lhsZeroPoint, contraction->lhsZeroConstant, *found) ||
      !weightZero.assign(graph, kernel, contraction->rhsZeroPoint, contraction->rhsZeroConstant, *found) ||
      !assignLoops(graph, kernel, *contraction))
    return false;
  form = *found;
  if (read.padding)
    convert(read.padding->type, &read.padding->bits, sourceType, &paddingBits, 1);

  // Weights are used in place if their elements lie in the order of depth.
  int64_t step = 1;
  bool dense = true;
  for (const WindowAxis &axis : llvm::reverse(axes)) {
    dense &= axis.taps == 1 || axis.tapStride == step;
    step *= axis.taps;
  }
  for (const PlainLoop &loop : llvm::reverse(channels)) {
    dense &= loop.weights == step;
    step *= loop.extent;
  }
  packsWeights = !dense || (outputs.extent != 1 && outputs.weights < depth);
  constantWeights = graph.values[filter.value].role == ValueRole::Constant;

  isDirect = channels.size() <= 1 && (channels.empty() || channels[0].source >= points);
  int64_t denseStep = 1;
  for (const WindowAxis &axis : llvm::reverse(axes)) {
    isDirect &= axis.taps == 1 && axis.offset == 0 && (axis.outputs == 1 || axis.stride == 1) &&
                (axis.outputs == 1 || axis.step == denseStep);
    denseStep *= axis.outputs;
    isDirect &= axis.outputs <= axis.extent;
  }
  return sums.prepare(graph, kernel, form, /*inParts=*/false);
}

// To [group, output channel, depth].
void WindowedProduct::packWeights(const std::byte *from) {
  size_t width = byteWidth(weightType);
  packed.resize(static_cast<size_t>(weightGroups * outputs.extent * depth) * width);
  std::byte *to = packed.data();
  for (int64_t group = 0; group < weightGroups; ++group)
    for (int64_t channel = 0; channel < outputs.extent; ++channel) {
      int64_t row = weightBase + channel * outputs.weights;
      int64_t rest = group;
      int64_t groups = weightGroups;
      for (const PlainLoop &loop : outer) {
        if (groups == 1)
          break;
        groups /= loop.extent;
        row += rest / groups * loop.weights;
        rest %= groups;
      }
      for (int64_t d = 0; d < depth; ++d, to += width) {
        int64_t offset = row, left = d;
        for (const WindowAxis &axis : llvm::reverse(axes)) {
          offset += left % axis.taps * axis.tapStride;
          left /= axis.taps;
        }
        for (const PlainLoop &loop : llvm::reverse(channels)) {
          offset += left % loop.extent * loop.weights;
          left /= loop.extent;
        }
        std::memcpy(to, from + offset * static_cast<int64_t>(width), width);
      }
    }
}

// Points [first, last) of one image, which begins at `base`, a row for each depth.
void WindowedProduct::gatherPatches(const std::byte *data, int64_t base, int64_t first, int64_t last,
                                    std::byte *patches) const {
  size_t width = byteWidth(sourceType);
  const WindowAxis &inner = axes.back();
  for (int64_t d = 0; d < depth; ++d) {
    int64_t offset = base, left = d;
    llvm::SmallVector<int64_t, 3> taps(axes.size());
    for (size_t a = axes.size(); a-- > 0;) {
      taps[a] = left % axes[a].taps;
      left /= axes[a].taps;
    }
    for (const PlainLoop &loop : llvm::reverse(channels)) {
      offset += left % loop.extent * loop.source;
      left /= loop.extent;
    }
    for (int64_t point = first; point < last;) {
      int64_t column = point % inner.outputs, run = std::min(inner.outputs - column, last - point);
      int64_t place = offset, rest = point / inner.outputs;
      bool inside = true;
      for (size_t a = axes.size() - 1; a-- > 0;) {
        int64_t index = axes[a].offset + rest % axes[a].outputs * axes[a].stride + taps[a] * axes[a].dilation;
        rest /= axes[a].outputs;
        inside &= index >= 0 && index < axes[a].extent;
        place += index * axes[a].step;
      }
      // The part [low, high) of the run whose indices lie inside: 0 <= start + i * stride < extent.
      int64_t start = inner.offset + column * inner.stride + taps.back() * inner.dilation;
      int64_t low = 0, high = 0;
      if (inside && inner.stride > 0) {
        low = start >= 0 ? 0 : (-start + inner.stride - 1) / inner.stride;
        high = start >= inner.extent ? 0 : (inner.extent - start + inner.stride - 1) / inner.stride;
        low = std::min(low, run);
        high = std::clamp(high, low, run);
      }
      fillElements(patches, paddingBits, width, low);
      if (high > low)
        gatherStrided(patches + static_cast<size_t>(low) * width,
                      data + (place + (start + low * inner.stride) * inner.step) * static_cast<int64_t>(width),
                      inner.stride * inner.step, width, high - low);
      fillElements(patches + static_cast<size_t>(high) * width, paddingBits, width, run - high);
      patches += static_cast<size_t>(run) * width;
      point += run;
    }
  }
}

llvm::Error WindowedProduct::run(llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) {
  llvm::Expected<std::byte *> to = sums.begin(reads, writes[0]);
  if (!to)
    return to.takeError();
  if (packsWeights && !haveWeights) {
    packWeights(reads[weights]);
    haveWeights = constantWeights;
  }
  auto widthOf = [](ElementType type) { return static_cast<int64_t>(byteWidth(type)); };
  int32_t sourceZeroValue = sourceZero.value(reads), weightZeroValue = weightZero.value(reads);
  int64_t images = 1;
  for (const PlainLoop &loop : outer)
    images *= loop.extent;

  // Blocks of points whose patches stay in the cache; where there are few, blocks of channels as well. No result
  // depends on the cut: every element is one product.
  constexpr int64_t patchBytes = 1 << 19, smallestBlock = 48, directBlock = 384, smallestChannels = 64;
  int64_t blockPoints =
      isDirect ? directBlock
               : std::max(patchBytes / (depth * widthOf(sourceType)) / smallestBlock, int64_t(1)) * smallestBlock;
  blockPoints = std::min(blockPoints, points);
  int64_t pointBlocks = (points + blockPoints - 1) / blockPoints;
  int64_t blockChannels = outputs.extent;
  if (images * pointBlocks < threadCount() && outputs.extent >= 2 * smallestChannels)
    blockChannels = std::max<int64_t>(smallestChannels, (outputs.extent + threadCount() - 1) / threadCount());
  int64_t channelBlocks = (outputs.extent + blockChannels - 1) / blockChannels;
  int64_t tasks = images * pointBlocks * channelBlocks;
  constexpr int64_t smallestTask = 1 << 17; // multiplications
  int64_t grain = std::max<int64_t>(1, smallestTask / std::max<int64_t>(1, blockPoints * blockChannels * depth));
  parallelFor(tasks, grain, [&](int64_t begin, int64_t end) {
    std::unique_ptr<std::byte[]> patches;
    if (!isDirect)
      patches =
          std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(depth * blockPoints * widthOf(sourceType)));
    for (int64_t task = begin; task < end; ++task) {
      int64_t channel = task % channelBlocks * blockChannels;
      int64_t first = task / channelBlocks % pointBlocks * blockPoints, last = std::min(first + blockPoints, points);
      int64_t sourceOffset = sourceBase, weightOffset = weightBase, resultOffset = first;
      int64_t rest = task / (channelBlocks * pointBlocks), group = rest;
      for (const PlainLoop &loop : llvm::reverse(outer)) {
        int64_t i = rest % loop.extent;
        rest /= loop.extent;
        sourceOffset += i * loop.source;
        weightOffset += i * loop.weights;
        resultOffset += i * loop.result;
      }
      group /= images / weightGroups;
      GemmShape shape;
      shape.m = std::min(blockChannels, outputs.extent - channel);
      shape.n = last - first;
      shape.k = depth;
      shape.leadingA = packsWeights || outputs.extent == 1 ? depth : outputs.weights;
      shape.leadingC = outputs.extent == 1 ? shape.n : outputs.result;
      shape.accumulate = sums.accumulate();
      ProductOperand filter = {weightType,
                               packsWeights
                                   ? packed.data() + (group * outputs.extent + channel) * depth * widthOf(weightType)
                                   : reads[weights] + (weightOffset + channel * outputs.weights) * widthOf(weightType),
                               weightZeroValue};
      ProductOperand patch = {sourceType, nullptr, sourceZeroValue};
      if (isDirect) {
        patch.data = reads[source] + (sourceOffset + first) * widthOf(sourceType);
        shape.leadingB = channels.empty() ? shape.n : channels[0].source;
      } else {
        gatherPatches(reads[source], sourceOffset, first, last, patches.get());
        patch.data = patches.get();
        shape.leadingB = shape.n;
      }
      multiply(form, shape, filter, patch, *to + (resultOffset + channel * outputs.result) * widthOf(sums.type()));
    }
  });
  sums.finish(writes[0]);
  return llvm::Error::success();
}

OperationPointer compileWindowedProduct(const KernelGraph &graph, const Kernel &kernel) {
  auto operation = std::make_unique<WindowedProduct>();
  if (!operation->prepare(graph, kernel))
    return nullptr;
  return operation;
}

} // namespace quadrille::host
