#include "target/host/Convolution.h"

#include "base/Parallel.h"
#include "graph/Contraction.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

#include <oneapi/dnnl/dnnl.hpp>

#include <cmath>
#include <cstring>
#include <unordered_map>

extern "C" void omp_set_num_threads(int); // of OpenMP; clang's search path lacks GCC's omp.h

namespace quadrille::host {

using namespace graph;

struct BlockedLayout {
  dnnl::memory::desc description;
};

namespace {

using Dims = dnnl::memory::dims;
using Type = dnnl::memory::data_type;

// oneDNN runs on OpenMP threads, as many as when the primitive was made: they follow setThreadCount. A team's start and
// end cost more than a small convolution, which therefore runs on one thread.
int threadsFor(double multiplications) {
  constexpr double smallest = 1 << 21;
  return multiplications < smallest ? 1 : static_cast<int>(threadCount());
}

dnnl::engine &engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}
dnnl::stream &stream() {
  static dnnl::stream queue(engine());
  return queue;
}

void convertInParallel(ElementType from, const std::byte *source, ElementType to, std::byte *destination,
                       int64_t count) {
  parallelFor(count, 1 << 15, [&](int64_t begin, int64_t end) {
    convert(from, source + begin * static_cast<int64_t>(byteWidth(from)), to,
            destination + begin * static_cast<int64_t>(byteWidth(to)), static_cast<size_t>(end - begin));
  });
}

void roundInParallel(ElementType type, float *values, int64_t count) {
  parallelFor(count, 1 << 15,
              [&](int64_t begin, int64_t end) { roundF32To(type, values + begin, static_cast<size_t>(end - begin)); });
}

bool widensToF32(ElementType type) {
  return isFloat(type) && type != ElementType::f64;
}

// The geometry of a convolution in oneDNN's terms; strides in elements of the row-major values.
struct Geometry {
  int64_t batch = 1, groups = 1, inputs = 1, outputs = 1; // channels of each group
  Dims sourceDims, sourceStrides, weightDims, weightStrides, resultDims, resultStrides;
  Dims strides, dilations, padBefore, padAfter;
  int64_t sourceBase = 0, weightBase = 0;
  int64_t taps = 1;
  bool biased = false;
};

int64_t strideAlong(const KernelGraph &graph, ValueId value, const AccessMap &map, unsigned loop) {
  int64_t sum = 0;
  for (auto [access, step] : llvm::zip(map, rowMajorStrides(graph.values[value].shape)))
    for (auto [term, coefficient] : access.terms)
      if (term == loop)
        sum += coefficient * step;
  return sum;
}

bool geometryOf(const KernelGraph &graph, const Kernel &kernel, const Contraction &contraction, Geometry &g) {
  if (contraction.windows.empty() || contraction.windows.size() > 3)
    return false;
  const Read &source = kernel.reads[contraction.lhs], &weights = kernel.reads[contraction.rhs];
  const Write &write = kernel.writes[0];
  if (weights.padding || llvm::any_of(kernel.loops, [](const Loop &loop) { return loop.extent == 0; }))
    return false;
  struct Role {
    int64_t extent = 1, source = 0, weights = 0, result = 0, initial = 0;
  };
  auto strides = [&](unsigned l) {
    Role role;
    role.extent = kernel.loops[l].extent;
    role.source = strideAlong(graph, source.value, source.map, l);
    role.weights = strideAlong(graph, weights.value, weights.map, l);
    role.result = strideAlong(graph, write.value, write.map, l);
    if (write.initial)
      role.initial = strideAlong(graph, write.initial->value, write.initial->map, l);
    return role;
  };
  auto single = [&](llvm::ArrayRef<unsigned> loops, Role &role) {
    llvm::SmallVector<unsigned> used;
    for (unsigned l : loops)
      if (kernel.loops[l].extent != 1)
        used.push_back(l);
    if (used.size() > 1)
      return false;
    if (used.size() == 1)
      role = strides(used[0]);
    return true;
  };
  Role batch, group, in, out;
  if (!single(contraction.m, batch) || !single(contraction.batch, group) || !single(contraction.k, in) ||
      !single(contraction.n, out))
    return false;
  g.batch = batch.extent;
  g.groups = group.extent;
  g.inputs = in.extent;
  g.outputs = out.extent;
  // Channels of the groups follow each other. A single channel takes the stride of its group.
  int64_t channelStride = in.extent > 1 ? in.source : group.source;
  int64_t resultChannelStride = out.extent > 1 ? out.result : group.result;
  if (group.extent > 1 &&
      (group.source != channelStride * in.extent || group.result != resultChannelStride * out.extent))
    return false;
  if (channelStride < 0 || batch.source < 0)
    return false;
  g.sourceDims = {g.batch, g.groups * g.inputs};
  g.sourceStrides = {batch.source, channelStride};
  g.resultDims = {g.batch, g.groups * g.outputs};
  g.resultStrides = {batch.result, resultChannelStride};
  if (g.groups > 1) {
    g.weightDims = {g.groups, g.outputs, g.inputs};
    g.weightStrides = {group.weights, out.weights, in.weights};
  } else {
    g.weightDims = {g.outputs, g.inputs};
    g.weightStrides = {out.weights, in.weights};
  }
  const Shape &sourceShape = graph.values[source.value].shape;
  Shape sourceSteps = rowMajorStrides(sourceShape);
  for (auto [access, step] : llvm::zip(source.map, sourceSteps))
    g.sourceBase += access.offset * step;
  for (auto [access, step] : llvm::zip(weights.map, rowMajorStrides(graph.values[weights.value].shape)))
    g.weightBase += access.offset * step;
  llvm::SmallVector<Contraction::Window, 3> windows = contraction.windows;
  llvm::sort(windows, [](const auto &a, const auto &b) { return a.dimension < b.dimension; });
  for (const Contraction::Window &window : windows) {
    if (window.stride <= 0 || window.dilation <= 0)
      return false;
    Role output = strides(window.output), tap = strides(window.tap);
    if (output.initial != 0 || tap.weights < 0)
      return false;
    int64_t offset = source.map[window.dimension].offset, step = sourceSteps[window.dimension];
    int64_t first = std::max<int64_t>(offset, 0); // where the operand begins to be read
    int64_t last = offset + (output.extent - 1) * window.stride + (tap.extent - 1) * window.dilation;
    int64_t end = std::min(sourceShape[window.dimension], last + 1);
    if (end <= first)
      return false;
    g.sourceBase -= offset * step;
    g.sourceBase += first * step;
    g.sourceDims.push_back(end - first);
    g.sourceStrides.push_back(step);
    g.weightDims.push_back(tap.extent);
    g.weightStrides.push_back(tap.weights);
    g.resultDims.push_back(output.extent);
    g.resultStrides.push_back(output.result);
    g.strides.push_back(window.stride);
    g.dilations.push_back(window.dilation - 1);
    g.padBefore.push_back(first - offset);
    g.padAfter.push_back(last + 1 - end);
    g.taps *= tap.extent;
    if (g.padBefore.back() >= (tap.extent - 1) * window.dilation + 1 ||
        g.padAfter.back() >= (tap.extent - 1) * window.dilation + 1)
      return false; // windows that lie wholly outside: not every implementation has them
  }
  // Other dimensions of the operands are plain; the bias runs along the result's channels.
  if (write.initial) {
    int64_t along = out.extent > 1 ? out.initial : group.initial;
    if (write.initial->padding || batch.initial != 0 || (g.groups * g.outputs > 1 && along != 1) ||
        (group.extent > 1 && group.initial != along * out.extent) ||
        elementCount(graph.values[write.initial->value].shape) != g.groups * g.outputs)
      return false;
    g.biased = true;
  } else if (write.initialScalar && doubleFromBits(write.initialScalar->type, write.initialScalar->bits) != 0) {
    return false;
  }
  return true;
}

// Strides of extents of 1 may be anything; oneDNN wants them to be plausible.
dnnl::memory::desc describePlain(Dims dims, Dims strides) {
  int64_t dense = 1;
  for (size_t d = dims.size(); d-- > 0;) {
    if (dims[d] == 1)
      strides[d] = dense;
    dense = std::max(dense, dims[d] * strides[d]);
  }
  return dnnl::memory::desc(dims, Type::f32, strides);
}

dnnl::memory::desc anyLayout(const Dims &dims) {
  return dnnl::memory::desc(dims, Type::f32, dnnl::memory::format_tag::any);
}

class ConvolutionOperation final : public Operation {
public:
  // Leaves the operation not ready when the form does not fit.
  CompiledConvolution prepare(const ConvolutionRequest &request);
  bool ready() const { return isReady; }
  llvm::Error run(llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) override;

private:
  dnnl::memory prepareWeights(const std::byte *weights);

  Geometry g;
  ElementType sourceType, weightType, resultType, biasType = ElementType::f32;
  unsigned source = 0, weights = 1;
  size_t bias = 0;
  int64_t sourceElements = 0, weightElements = 0, resultElements = 0;
  bool blockedSource = false, blockedResult = false, isReady = false;
  dnnl::memory::desc plainSource, plainWeights, plainResult;
  dnnl::convolution_forward::primitive_desc description;
  dnnl::convolution_forward primitive;
  dnnl::reorder sourceReorder, weightReorder, resultReorder;
  bool reordersSource = false, reordersWeights = false, reordersResult = false;
  // Reused between runs.
  std::vector<float> widenedSource, widenedWeights, widenedResult, widenedBias;
  dnnl::memory reorderedSource, reorderedWeights, reorderedResult;
  bool constantWeights = false;
  int threads = 1; // of OpenMP
  dnnl::memory cachedWeights;
};

CompiledConvolution ConvolutionOperation::prepare(const ConvolutionRequest &request) {
  const KernelGraph &graph = *request.graph;
  const Kernel &kernel = *request.kernel;
  std::optional<Contraction> contraction = inferContraction(graph, kernel);
  if (!contraction || contraction->lhsZeroPoint || contraction->rhsZeroPoint)
    return {};
  source = contraction->lhs;
  weights = contraction->rhs;
  bias = kernel.reads.size();
  const Read &read = kernel.reads[source];
  sourceType = graph.values[read.value].type;
  weightType = graph.values[kernel.reads[weights].value].type;
  resultType = graph.values[kernel.writes[0].value].type;
  if (!widensToF32(sourceType) || !widensToF32(weightType) || !widensToF32(resultType))
    return {};
  if (read.padding && doubleFromBits(read.padding->type, read.padding->bits) != 0)
    return {};
  if (!geometryOf(graph, kernel, *contraction, g))
    return {};
  if (g.biased) {
    const Value &value = graph.values[kernel.writes[0].initial->value];
    biasType = value.type;
    widenedBias.resize(static_cast<size_t>(g.groups * g.outputs));
  }
  sourceElements = elementCount(graph.values[read.value].shape);
  weightElements = elementCount(graph.values[kernel.reads[weights].value].shape);
  resultElements = elementCount(graph.values[kernel.writes[0].value].shape);
  constantWeights = graph.values[kernel.reads[weights].value].role == ValueRole::Constant;
  blockedSource = request.source != nullptr;
  blockedResult = request.blockedResult;
  double multiplications = static_cast<double>(resultElements) * static_cast<double>(g.inputs * g.taps);
  threads = threadsFor(multiplications);
  omp_set_num_threads(threads);
  try {
    plainSource = blockedSource ? request.source->description : describePlain(g.sourceDims, g.sourceStrides);
    plainWeights = describePlain(g.weightDims, g.weightStrides);
    plainResult = describePlain(g.resultDims, g.resultStrides);
    if (blockedSource && plainSource.dims() != g.sourceDims)
      return {};
    dnnl::primitive_attr attributes;
    if (request.relu) {
      dnnl::post_ops operations;
      operations.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
      attributes.set_post_ops(operations);
    }
    auto describe = [&](const dnnl::memory::desc &biasDescription) {
      return dnnl::convolution_forward::primitive_desc(
          dnnl::convolution_forward::desc(dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
                                          anyLayout(g.sourceDims), anyLayout(g.weightDims), biasDescription,
                                          anyLayout(g.resultDims), g.strides, g.dilations, g.padBefore, g.padAfter),
          attributes, engine());
    };
    description = describe(g.biased ? dnnl::memory::desc({g.groups * g.outputs}, Type::f32, dnnl::memory::format_tag::a)
                                    : dnnl::memory::desc());
    primitive = dnnl::convolution_forward(description);
    auto make = [&](const dnnl::memory::desc &from, const dnnl::memory::desc &to, bool &needed) {
      needed = from != to;
      return needed ? dnnl::reorder(dnnl::reorder::primitive_desc(engine(), from, engine(), to)) : dnnl::reorder();
    };
    sourceReorder = make(plainSource, description.src_desc(), reordersSource);
    weightReorder = make(plainWeights, description.weights_desc(), reordersWeights);
    if (!blockedResult)
      resultReorder = make(description.dst_desc(), plainResult, reordersResult);
    if (reordersSource)
      reorderedSource = dnnl::memory(description.src_desc(), engine());
    if (reordersWeights && !constantWeights)
      reorderedWeights = dnnl::memory(description.weights_desc(), engine());
    if (reordersResult)
      reorderedResult = dnnl::memory(description.dst_desc(), engine());
  } catch (const dnnl::error &) {
    return {}; // a form that this oneDNN lacks: the generic path has it
  }
  if (!blockedSource && sourceType != ElementType::f32)
    widenedSource.resize(static_cast<size_t>(sourceElements));
  if (!blockedResult && resultType != ElementType::f32)
    widenedResult.resize(static_cast<size_t>(resultElements));
  isReady = true;
  CompiledConvolution compiled;
  if (blockedResult) {
    compiled.result = std::make_shared<BlockedLayout>(BlockedLayout{description.dst_desc()});
    compiled.resultBytes = description.dst_desc().get_size();
  }
  return compiled;
}

dnnl::memory ConvolutionOperation::prepareWeights(const std::byte *from) {
  const float *values = reinterpret_cast<const float *>(from);
  if (weightType != ElementType::f32) {
    widenedWeights.resize(static_cast<size_t>(weightElements));
    convertInParallel(weightType, from, ElementType::f32, reinterpret_cast<std::byte *>(widenedWeights.data()),
                      weightElements);
    values = widenedWeights.data();
  }
  dnnl::memory plain(plainWeights, engine(), const_cast<float *>(values + g.weightBase)); // only ever read
  if (!reordersWeights)
    return plain;
  dnnl::memory to = constantWeights ? dnnl::memory(description.weights_desc(), engine()) : reorderedWeights;
  weightReorder.execute(stream(), plain, to);
  if (constantWeights)
    std::vector<float>().swap(widenedWeights);
  return to;
}

llvm::Error ConvolutionOperation::run(llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) {
  omp_set_num_threads(threads);
  dnnl::stream &queue = stream();
  const float *sourceValues = reinterpret_cast<const float *>(reads[source]);
  if (!widenedSource.empty()) {
    convertInParallel(sourceType, reads[source], ElementType::f32, reinterpret_cast<std::byte *>(widenedSource.data()),
                      sourceElements);
    sourceValues = widenedSource.data();
  }
  dnnl::memory sourceMemory(plainSource, engine(),
                            const_cast<float *>(sourceValues + (blockedSource ? 0 : g.sourceBase)));
  if (reordersSource) {
    sourceReorder.execute(queue, sourceMemory, reorderedSource);
    sourceMemory = reorderedSource;
  }
  dnnl::memory weightMemory = cachedWeights;
  if (!weightMemory)
    weightMemory = prepareWeights(reads[weights]);
  if (constantWeights)
    cachedWeights = weightMemory;

  float *resultValues = widenedResult.empty() ? reinterpret_cast<float *>(writes[0]) : widenedResult.data();
  dnnl::memory resultMemory =
      reordersResult ? reorderedResult : dnnl::memory(description.dst_desc(), engine(), resultValues);
  std::unordered_map<int, dnnl::memory> arguments = {
      {DNNL_ARG_SRC, sourceMemory}, {DNNL_ARG_WEIGHTS, weightMemory}, {DNNL_ARG_DST, resultMemory}};
  if (g.biased) {
    convert(biasType, reads[bias], ElementType::f32, widenedBias.data(), widenedBias.size());
    arguments[DNNL_ARG_BIAS] = dnnl::memory(description.bias_desc(), engine(), widenedBias.data());
  }
  primitive.execute(queue, arguments);
  if (reordersResult) {
    dnnl::memory to(plainResult, engine(), resultValues);
    resultReorder.execute(queue, resultMemory, to);
  }
  queue.wait();
  if (blockedResult) {
    if (resultType != ElementType::f32)
      roundInParallel(resultType, reinterpret_cast<float *>(writes[0]),
                      static_cast<int64_t>(description.dst_desc().get_size() / sizeof(float)));
  } else if (!widenedResult.empty()) {
    convertInParallel(ElementType::f32, reinterpret_cast<const std::byte *>(widenedResult.data()), resultType,
                      writes[0], resultElements);
  }
  return llvm::Error::success();
}

} // namespace

CompiledConvolution compileConvolution(const ConvolutionRequest &request) {
  auto operation = std::make_unique<ConvolutionOperation>();
  CompiledConvolution compiled = operation->prepare(request);
  if (!operation->ready())
    return {};
  compiled.operation = std::move(operation);
  return compiled;
}

OperationPointer compileConvolution(const KernelGraph &graph, const Kernel &kernel) {
  ConvolutionRequest request;
  request.graph = &graph;
  request.kernel = &kernel;
  return compileConvolution(request).operation;
}

} // namespace quadrille::host
