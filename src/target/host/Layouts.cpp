#include "target/host/Layouts.h"

#include "base/Parallel.h"
#include "graph/Contraction.h"
#include "graph/KernelQueries.h"
#include "numerics/BlockEvaluator.h"
#include "numerics/Convert.h"
#include "target/host/Convolution.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <cstring>

namespace quadrille::host {

using namespace graph;

namespace {

// Windows over the places of [image, channel, place, place]; images and channels are those of the operand.
struct Window {
  int64_t images = 1, channels = 1;
  struct Dimension {
    int64_t source = 1, result = 1, taps = 1, offset = 0, stride = 1, dilation = 1;
  } rows, columns;
  Combine combine = Combine::Maximum;
  float initial = 0, padding = 0;
  bool padded = false;
};

std::optional<Window> windowOf(const KernelGraph &graph, const Kernel &kernel) {
  if (!kernel.structured() || kernel.reads.size() != 1 || kernel.writes.size() != 1 || !kernel.body.isIdentity())
    return std::nullopt;
  const Read &read = kernel.reads[0];
  const Write &write = kernel.writes[0];
  const Value &source = graph.values[read.value], &result = graph.values[write.value];
  if (source.shape.size() != 4 || result.shape.size() != 4 || source.type != result.type || !write.initialScalar ||
      write.initial || (write.combiner != Combiner::Maximum && write.combiner != Combiner::Minimum))
    return std::nullopt;
  // The loop that a dimension of the result stands for; none where the extent is 1.
  auto resultLoop = [&](size_t d) -> std::optional<unsigned> {
    if (write.map[d].terms.empty())
      return std::nullopt;
    return write.map[d].terms[0].first;
  };
  Window window;
  for (size_t d = 0; d < 2; ++d) { // images and channels go through
    std::optional<unsigned> loop = resultLoop(d);
    const DimensionAccess &access = read.map[d];
    bool same = loop ? access.terms.size() == 1 && access.terms[0] == std::pair<unsigned, int64_t>(*loop, 1)
                     : access.terms.empty();
    if (!same || access.offset != 0 || source.shape[d] != result.shape[d])
      return std::nullopt;
  }
  window.images = source.shape[0];
  window.channels = source.shape[1];
  std::vector<bool> used(kernel.loops.size(), false);
  for (size_t d = 2; d < 4; ++d) {
    Window::Dimension &dimension = d == 2 ? window.rows : window.columns;
    dimension.source = source.shape[d];
    dimension.result = result.shape[d];
    dimension.offset = read.map[d].offset;
    std::optional<unsigned> loop = resultLoop(d);
    bool tapped = false;
    for (auto [term, coefficient] : read.map[d].terms) {
      if (coefficient <= 0)
        return std::nullopt;
      if (loop && term == *loop) {
        dimension.stride = coefficient;
      } else {
        if (!kernel.loops[term].reduction || tapped || used[term])
          return std::nullopt;
        tapped = used[term] = true;
        dimension.taps = kernel.loops[term].extent;
        dimension.dilation = coefficient;
      }
    }
    if (loop && llvm::none_of(read.map[d].terms, [&](auto term) { return term.first == *loop; }))
      return std::nullopt;
  }
  for (auto [l, loop] : llvm::enumerate(kernel.loops))
    if (loop.extent == 0 || (loop.reduction && loop.extent != 1 && !used[l]))
      return std::nullopt;
  window.combine = write.combiner == Combiner::Maximum ? Combine::Maximum : Combine::Minimum;
  window.initial = static_cast<float>(doubleFromBits(write.initialScalar->type, write.initialScalar->bits));
  window.padded = read.padding.has_value();
  if (read.padding)
    window.padding = static_cast<float>(doubleFromBits(read.padding->type, read.padding->bits));
  return window;
}

class WindowOperation final : public Operation {
public:
  explicit WindowOperation(const Window &window) : w(window), outside(static_cast<size_t>(w.channels), w.padding) {}

  llvm::Error run(llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) override {
    auto *source = reinterpret_cast<const float *>(reads[0]);
    auto *result = reinterpret_cast<float *>(writes[0]);
    constexpr int64_t smallest = 1 << 14; // elements read
    int64_t ofRow = w.columns.result * w.channels * w.rows.taps * w.columns.taps;
    parallelFor(w.images * w.rows.result, std::max<int64_t>(1, smallest / ofRow), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        runRow(source + row / w.rows.result * w.rows.source * w.columns.source * w.channels, row % w.rows.result,
               result + row * w.columns.result * w.channels);
    });
    return llvm::Error::success();
  }

private:
  void runRow(const float *image, int64_t row, float *result) const {
    for (int64_t column = 0; column < w.columns.result; ++column, result += w.channels) {
      std::fill_n(result, w.channels, w.initial);
      for (int64_t p = 0; p < w.rows.taps; ++p)
        for (int64_t q = 0; q < w.columns.taps; ++q) {
          int64_t y = w.rows.offset + row * w.rows.stride + p * w.rows.dilation;
          int64_t x = w.columns.offset + column * w.columns.stride + q * w.columns.dilation;
          bool inside = y >= 0 && y < w.rows.source && x >= 0 && x < w.columns.source;
          combineElementwise(w.combine, ElementType::f32, result,
                             inside ? image + (y * w.columns.source + x) * w.channels : outside.data(), w.channels);
        }
    }
  }

  Window w;
  std::vector<float> outside; // one point of padding
};

bool concatenatesChannels(const KernelGraph &graph, const Kernel &kernel) {
  if (kernel.structured() || kernel.operation != "concat" || kernel.writes.size() != 1 || kernel.reads.empty())
    return false;
  if (integerAttribute(kernel, "axis") != 1)
    return false;
  const Value &result = graph.values[kernel.writes[0].value];
  if (!canBeChannelsLast(result))
    return false;
  int64_t channels = 0;
  for (const Read &read : kernel.reads) {
    const Value &part = graph.values[read.value];
    if (part.type != result.type || part.shape.size() != result.shape.size() || part.shape[0] != result.shape[0] ||
        !std::equal(part.shape.begin() + 2, part.shape.end(), result.shape.begin() + 2))
      return false;
    channels += part.shape[1];
  }
  return channels == result.shape[1];
}

class ConcatenateChannels final : public Operation {
public:
  ConcatenateChannels(std::vector<int64_t> channels, int64_t points) : channels(std::move(channels)), points(points) {}

  llvm::Error run(llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) override {
    int64_t all = 0;
    for (int64_t count : channels)
      all += count;
    parallelFor(points, std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(all, 1)), [&](int64_t begin, int64_t end) {
      auto *to = reinterpret_cast<float *>(writes[0]) + begin * all;
      for (int64_t point = begin; point < end; ++point)
        for (auto [from, count] : llvm::zip(reads, channels)) {
          std::memcpy(to, reinterpret_cast<const float *>(from) + point * count,
                      static_cast<size_t>(count) * sizeof(float));
          to += count;
        }
    });
    return llvm::Error::success();
  }

private:
  std::vector<int64_t> channels; // of each part
  int64_t points;                // of all images
};

} // namespace

bool canBeChannelsLast(const Value &value) {
  return value.shape.size() >= 3 && isFloat(value.type) && value.type != ElementType::f64;
}

Shape stridesOf(const Value &value, Layout layout) {
  if (layout == Layout::Plain)
    return rowMajorStrides(value.shape);
  Shape strides(value.shape.size(), 1);
  int64_t step = value.shape[1];
  for (size_t d = value.shape.size(); d-- > 2; step *= value.shape[d])
    strides[d] = step;
  strides[0] = step;
  return strides;
}

void toChannelsLast(ElementType type, const std::byte *from, int64_t channels, int64_t stride, int64_t first,
                    int64_t last, float *to) {
  float buffer[transposedPoints];
  int64_t width = static_cast<int64_t>(byteWidth(type));
  for (int64_t point = first; point < last; point += transposedPoints) {
    int64_t count = std::min(transposedPoints, last - point);
    for (int64_t c = 0; c < channels; ++c) {
      widenToF32(type, from + (c * stride + point) * width, buffer, static_cast<size_t>(count));
      for (int64_t i = 0; i < count; ++i)
        to[(point - first + i) * channels + c] = buffer[i];
    }
  }
}

void fromChannelsLast(const float *from, int64_t channels, int64_t stride, int64_t first, int64_t last,
                      ElementType type, std::byte *to) {
  float buffer[transposedPoints];
  int64_t width = static_cast<int64_t>(byteWidth(type));
  for (int64_t point = first; point < last; point += transposedPoints) {
    int64_t count = std::min(transposedPoints, last - point);
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t i = 0; i < count; ++i)
        buffer[i] = from[(point - first + i) * channels + c];
      std::byte *place = to + (c * stride + point) * width;
      if (type == ElementType::f32)
        std::memcpy(place, buffer, static_cast<size_t>(count) * sizeof(float));
      else
        narrowFromF32(type, buffer, place, static_cast<size_t>(count));
    }
  }
}

// A loop nest in f32 goes by strides, so that its operands may have any layout; an elementwise one keeps the layout
// that all its operands of the result's shape have, where the result may have it.
static void allowLoopNest(const KernelGraph &graph, const Kernel &kernel, LayoutForm &form) {
  auto isF32 = [&](ValueId value) { return graph.values[value].type == ElementType::f32; };
  std::vector<ValueId> operands = operandsOf(kernel);
  for (auto [r, operand] : llvm::enumerate(operands))
    form.reads[r] = isF32(operand);
  if (!isElementwise(kernel) || !isF32(kernel.writes[0].value))
    return;
  for (auto [r, read] : llvm::enumerate(kernel.reads))
    if (form.reads[r] && readsOwnElement(graph, kernel, read))
      form.result = form.leads[r] = true;
}

LayoutForm layoutFormOf(const KernelGraph &graph, llvm::ArrayRef<ValueId> aliases, const Step &step) {
  const Kernel &kernel = graph.kernels[step.kernels.front()];
  size_t reads = stepReads(graph, aliases, step).size(), own = operandsOf(kernel).size();
  LayoutForm form;
  form.reads.assign(reads, false);
  form.alike.assign(reads, false);
  form.leads.assign(reads, false);
  if (std::optional<ConvolutionForm> convolution = convolutionForm(graph, kernel)) {
    form.reads[convolution->source] = convolution->channelsLastSource;
    form.result = convolution->channelsLastResult;
    std::fill(form.reads.begin() + static_cast<std::ptrdiff_t>(own), form.reads.end(), true); // the follower's
  } else if (step.kernels.size() > 1) {
    return form; // rows go by the row-major order
  } else if (concatenatesChannels(graph, kernel) || windowOf(graph, kernel)) {
    form.reads.assign(reads, true);
    form.alike.assign(reads, true);
    form.result = true;
  } else if (kernel.structured() && !inferContraction(graph, kernel)) {
    allowLoopNest(graph, kernel, form);
  }
  return form;
}

std::optional<ValueId> reluOperand(const KernelGraph &graph, const Kernel &kernel) {
  if (!isElementwise(kernel) || kernel.reads.size() != 1 || !readsOwnElement(graph, kernel, kernel.reads[0]))
    return std::nullopt;
  const Value &operand = graph.values[kernel.reads[0].value];
  if (operand.type != graph.values[kernel.writes[0].value].type || !isFloat(operand.type))
    return std::nullopt;
  const BlockExpression &body = kernel.body;
  if (body.results.size() != 1 || body.instructions.size() != 3 || body.results[0] != 2)
    return std::nullopt;
  const BlockInstruction &maximum = body.instructions[2];
  if (maximum.opcode != BlockOpcode::Maximum || maximum.operands[0] + maximum.operands[1] != 1)
    return std::nullopt;
  bool input = false, zero = false;
  for (const BlockInstruction &instruction : llvm::ArrayRef(body.instructions).take_front(2)) {
    if (instruction.type != operand.type)
      return std::nullopt;
    input |= instruction.opcode == BlockOpcode::Input;
    zero |= instruction.opcode == BlockOpcode::Constant && instruction.immediate == 0;
  }
  if (!input || !zero)
    return std::nullopt;
  return kernel.reads[0].value;
}

OperationPointer compileChannelsLast(const KernelGraph &graph, const Kernel &kernel) {
  if (std::optional<Window> window = windowOf(graph, kernel))
    return std::make_unique<WindowOperation>(*window);
  if (!concatenatesChannels(graph, kernel))
    return nullptr;
  std::vector<int64_t> channels;
  for (const Read &read : kernel.reads)
    channels.push_back(graph.values[read.value].shape[1]);
  const Shape &shape = graph.values[kernel.writes[0].value].shape;
  int64_t points = shape[0] * elementCount(llvm::ArrayRef(shape).drop_front(2));
  return std::make_unique<ConcatenateChannels>(std::move(channels), points);
}

} // namespace quadrille::host
