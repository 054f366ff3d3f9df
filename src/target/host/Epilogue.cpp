#include "target/host/Epilogue.h"

#include "graph/KernelQueries.h"
#include "numerics/Strided.h"
#include "target/host/Layouts.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <vector>

namespace quadrille::host {

using namespace graph;

namespace {

// The loop that each dimension of an elementwise kernel's result stands for; none where the extent is 1.
std::optional<unsigned> loopOf(const Kernel &kernel, size_t dimension) {
  const DimensionAccess &access = kernel.writes[0].map[dimension];
  return access.terms.empty() ? std::nullopt : std::optional(access.terms[0].first);
}

bool dependsOnPlaces(const Kernel &kernel, const Read &read) {
  std::optional<unsigned> image = loopOf(kernel, 0), channel = loopOf(kernel, 1);
  return llvm::any_of(read.map, [&](const DimensionAccess &access) {
    return llvm::any_of(access.terms, [&](auto term) {
      return kernel.loops[term.first].extent != 1 && term.first != image && term.first != channel;
    });
  });
}

} // namespace

std::optional<unsigned> epilogueRead(const KernelGraph &graph, const Kernel &kernel, ValueId result) {
  if (!isElementwise(kernel) || hasNoPoints(kernel.loops))
    return std::nullopt;
  const Value &written = graph.values[kernel.writes[0].value];
  if (written.type != ElementType::f32 || written.shape.size() < 3 || written.shape != graph.values[result].shape)
    return std::nullopt;
  if (readsLoopNumbers(kernel))
    return std::nullopt;
  if (kernel.body.instructions[kernel.body.results[0]].type != ElementType::f32)
    return std::nullopt;
  std::optional<unsigned> found;
  for (auto [r, read] : llvm::enumerate(kernel.reads)) {
    if (graph.values[read.value].type != ElementType::f32)
      return std::nullopt;
    bool alike = readsOwnElement(graph, kernel, read);
    if (read.value == result) {
      if (found || !alike)
        return std::nullopt;
      found = static_cast<unsigned>(r);
    } else if (!alike && (read.padding || dependsOnPlaces(kernel, read))) {
      return std::nullopt;
    }
  }
  return found;
}

llvm::Expected<Epilogue> Epilogue::compile(const KernelGraph &graph, const Kernel &kernel, ValueId result,
                                           llvm::ArrayRef<Layout> layouts) {
  llvm::Expected<BlockEvaluator> evaluator = BlockEvaluator::compile(kernel.body);
  if (!evaluator)
    return evaluator.takeError();
  Epilogue epilogue(std::move(*evaluator));
  const Shape &shape = graph.values[result].shape;
  epilogue.channels = shape[1];
  epilogue.points = elementCount(llvm::ArrayRef(shape).drop_front(2));
  for (const Read &read : kernel.reads) {
    Source source;
    if (read.value != result) {
      Shape strides = stridesOf(graph.values[read.value], layouts[read.value]);
      if (readsOwnElement(graph, kernel, read)) {
        source.kind = layouts[read.value] == Layout::ChannelsLast ? Kind::Alike : Kind::AlikePlain;
      } else {
        source.base = baseOf(read.map, strides);
        if (std::optional<unsigned> image = loopOf(kernel, 0))
          source.imageStride = strideAlong(read.map, strides, *image);
        if (std::optional<unsigned> channel = loopOf(kernel, 1))
          source.channelStride = strideAlong(read.map, strides, *channel);
        source.kind = source.channelStride != 0 ? Kind::Channels : Kind::Scalar;
      }
    }
    epilogue.sources.push_back(source);
  }
  return std::move(epilogue);
}

void Epilogue::apply(int64_t image, int64_t first, int64_t last, float *elements,
                     llvm::ArrayRef<const std::byte *> reads) const {
  // Channel values are repeated for the points of a block, so that a block is one run of elements for every operand.
  constexpr int64_t blockElements = 1024;
  int64_t blockPoints = std::min(std::max<int64_t>(1, blockElements / channels), last - first);
  size_t alike = static_cast<size_t>(points * channels);
  BlockEvaluator::Scratch scratch(evaluator);
  std::vector<float> repeated, transposed;
  llvm::SmallVector<size_t, 4> places(sources.size(), 0); // in `repeated` or `transposed`
  size_t next = 0, plain = 0;
  for (auto [s, source] : llvm::enumerate(sources)) {
    if (source.kind == Kind::Channels) {
      places[s] = next;
      next += static_cast<size_t>(blockPoints * channels);
    } else if (source.kind == Kind::AlikePlain) {
      places[s] = plain;
      plain += static_cast<size_t>((last - first) * channels);
    }
  }
  repeated.resize(next);
  transposed.resize(plain);
  llvm::SmallVector<const float *, 4> data; // one for each source
  for (size_t s = 0, r = 0; s < sources.size(); ++s)
    data.push_back(sources[s].kind == Kind::Result ? elements : reinterpret_cast<const float *>(reads[r++]));
  for (auto [s, source] : llvm::enumerate(sources)) {
    const float *from = data[s] + source.base + image * source.imageStride;
    if (source.kind == Kind::Channels) {
      float *to = repeated.data() + places[s];
      gatherStrided(reinterpret_cast<std::byte *>(to), reinterpret_cast<const std::byte *>(from), source.channelStride,
                    sizeof(float), channels);
      for (int64_t point = 1; point < blockPoints; ++point)
        std::copy_n(to, channels, to + point * channels);
    } else if (source.kind == Kind::AlikePlain) {
      toChannelsLast(ElementType::f32,
                     reinterpret_cast<const std::byte *>(data[s] + image * static_cast<int64_t>(alike)), channels,
                     points, first, last, transposed.data() + places[s]);
    }
  }
  llvm::SmallVector<BlockEvaluator::Operand, 4> operands(sources.size());
  for (int64_t point = first; point < last; point += blockPoints) {
    int64_t count = std::min(blockPoints, last - point) * channels, done = (point - first) * channels;
    for (auto [s, source] : llvm::enumerate(sources))
      switch (source.kind) {
      case Kind::Result:
        operands[s] = {elements + done, 1};
        break;
      case Kind::Alike:
        operands[s] = {data[s] + (image * points + point) * channels, 1};
        break;
      case Kind::AlikePlain:
        operands[s] = {transposed.data() + places[s] + done, 1};
        break;
      case Kind::Channels:
        operands[s] = {repeated.data() + places[s], 1};
        break;
      case Kind::Scalar:
        operands[s] = {data[s] + source.base + image * source.imageStride, 0};
        break;
      }
    evaluator.evaluate(operands, {{elements + done, 1}}, count, {}, scratch);
  }
}

} // namespace quadrille::host
