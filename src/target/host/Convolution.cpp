#include "target/host/Convolution.h"

#include "base/Parallel.h"
#include "graph/Contraction.h"
#include "graph/KernelQueries.h"
#include "numerics/Convert.h"
#include "target/host/Epilogue.h"
#include "target/host/Layouts.h"
#include "target/host/Product.h"

#include "llvm/ADT/STLExtras.h"

#include <oneapi/dnnl/dnnl.hpp>

#include <cmath>
#include <cstring>
#include <unordered_map>

extern "C" void omp_set_num_threads(int); // of OpenMP; clang's search path lacks GCC's omp.h

namespace quadrille::host {

using namespace graph;

namespace {

using Dims = dnnl::memory::dims;
using Type = dnnl::memory::data_type;

// oneDNN runs each piece of a convolution on the thread that asks for it: its own OpenMP threads would spin after every
// call and take the cores from those of parallelFor. The number of OpenMP threads belongs to the calling thread.
void useOneOpenMpThread() {
  omp_set_num_threads(1);
}

dnnl::engine &engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}
dnnl::stream &stream() {
  static thread_local dnnl::stream queue(engine());
  return queue;
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

bool geometryOf(const KernelGraph &graph, const Kernel &kernel, const Contraction &contraction, Geometry &g) {
  if (contraction.windows.empty() || contraction.windows.size() > 3)
    return false;
  const Read &source = kernel.reads[contraction.lhs], &weights = kernel.reads[contraction.rhs];
  const Write &write = kernel.writes[0];
  if (weights.padding || hasNoPoints(kernel.loops))
    return false;
  const Shape &sourceShape = graph.values[source.value].shape;
  Shape sourceSteps = rowMajorStrides(sourceShape), weightSteps = rowMajorStrides(graph.values[weights.value].shape),
        resultSteps = rowMajorStrides(graph.values[write.value].shape);
  struct Role {
    int64_t extent = 1, source = 0, weights = 0, result = 0, initial = 0;
  };
  auto strides = [&](unsigned l) {
    Role role;
    role.extent = kernel.loops[l].extent;
    role.source = strideAlong(source.map, sourceSteps, l);
    role.weights = strideAlong(weights.map, weightSteps, l);
    role.result = strideAlong(write.map, resultSteps, l);
    if (write.initial)
      role.initial = strideAlong(write.initial->map, rowMajorStrides(graph.values[write.initial->value].shape), l);
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
  // oneDNN pads windows; elsewhere a padded read that leaves the operand would read other memory.
  if (!onlyWindowsLeave(graph, kernel, contraction))
    return false;
  g.sourceBase = baseOf(source.map, sourceSteps);
  g.weightBase = baseOf(weights.map, weightSteps);
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
    // Elements that no window reaches stay where there are too few for one window more: nothing is cropped then.
    int64_t reach = (tap.extent - 1) * window.dilation + 1;
    if (offset <= 0 && (sourceShape[window.dimension] - offset - reach) / window.stride + 1 == output.extent)
      end = sourceShape[window.dimension];
    if (end <= first)
      return false;
    g.sourceBase += (first - offset) * step;
    g.sourceDims.push_back(end - first);
    g.sourceStrides.push_back(step);
    g.weightDims.push_back(tap.extent);
    g.weightStrides.push_back(tap.weights);
    g.resultDims.push_back(output.extent);
    g.resultStrides.push_back(output.result);
    g.strides.push_back(window.stride);
    g.dilations.push_back(window.dilation - 1);
    g.padBefore.push_back(first - offset);
    g.padAfter.push_back(std::max<int64_t>(last + 1 - end, 0));
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
  } else if (!startsFromZero(write)) {
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

// Images after each other, in each the channels of a point after each other.
dnnl::memory::desc channelsLast(const Dims &dims) {
  Dims strides(dims.size(), 1);
  int64_t step = dims[1];
  for (size_t d = dims.size(); d-- > 2;) {
    strides[d] = step;
    step *= dims[d];
  }
  strides[0] = step;
  return dnnl::memory::desc(dims, Type::f32, strides);
}

bool isRowMajor(const Dims &dims, const Dims &strides) {
  int64_t step = 1;
  for (size_t d = dims.size(); d-- > 0;) {
    if (dims[d] != 1 && strides[d] != step)
      return false;
    step *= dims[d];
  }
  return true;
}

int64_t pointsOf(const Dims &dims) {
  return elementCount(llvm::ArrayRef(dims).drop_front(2));
}

// What the convolution's kernel says, in oneDNN's terms.
struct Form {
  Geometry g;
  unsigned source = 0, weights = 1;
  ElementType sourceType, weightType, resultType, biasType = ElementType::f32;
  // The operand and the result are whole row-major values of [image, channel, place...]: they may be channels-last.
  bool plainSource = false, plainResult = false;
};

std::optional<Form> formOf(const KernelGraph &graph, const Kernel &kernel) {
  std::optional<Contraction> contraction = inferContraction(graph, kernel);
  if (!contraction || contraction->lhsZeroPoint || contraction->rhsZeroPoint)
    return std::nullopt;
  Form form;
  form.source = contraction->lhs;
  form.weights = contraction->rhs;
  const Read &read = kernel.reads[form.source];
  const Value &source = graph.values[read.value], &result = graph.values[kernel.writes[0].value];
  form.sourceType = source.type;
  form.weightType = graph.values[kernel.reads[form.weights].value].type;
  form.resultType = result.type;
  if (!widensToF32(form.sourceType) || !widensToF32(form.weightType) || !widensToF32(form.resultType))
    return std::nullopt;
  if (read.padding && doubleFromBits(read.padding->type, read.padding->bits) != 0)
    return std::nullopt;
  if (!geometryOf(graph, kernel, *contraction, form.g))
    return std::nullopt;
  if (form.g.biased)
    form.biasType = graph.values[kernel.writes[0].initial->value].type;
  const Geometry &g = form.g;
  form.plainSource = g.sourceBase == 0 && elementCount(source.shape) == elementCount(g.sourceDims) &&
                     isRowMajor(g.sourceDims, g.sourceStrides);
  form.plainResult =
      elementCount(result.shape) == elementCount(g.resultDims) && isRowMajor(g.resultDims, g.resultStrides);
  return form;
}

// The rows of every image are cut into pieces by the shapes alone, so that the result is the same for any number of
// threads: enough multiplications to outweigh a call, and pieces for several threads.
int64_t rowsOfPiece(const Geometry &g) {
  constexpr double smallestPiece = 1 << 20; // multiplications
  constexpr int64_t piecesOfImage = 8;
  int64_t rows = g.resultDims[2];
  double ofRow = static_cast<double>(elementCount(g.resultDims)) / static_cast<double>(g.batch * rows) *
                 static_cast<double>(g.inputs * g.taps);
  auto least = static_cast<int64_t>(std::min(std::ceil(smallestPiece / ofRow), static_cast<double>(rows)));
  return std::max({least, (rows + piecesOfImage - 1) / piecesOfImage, int64_t(1)});
}

class ConvolutionOperation final : public Operation {
public:
  // Leaves the operation not ready when the form does not fit.
  void prepare(const ConvolutionRequest &request);
  bool ready() const { return isReady; }
  llvm::Error run(llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) override;

private:
  // Rows of an image's result, computed by one call.
  struct Piece {
    int64_t firstRow = 0, lastRow = 0;
    int64_t firstSourceRow = 0;
    size_t primitive = 0;
  };
  struct Primitive {
    int64_t sourceRows = 0, resultRows = 0, padBefore = 0, padAfter = 0;
    dnnl::convolution_forward::primitive_desc description;
    dnnl::convolution_forward execute;
  };
  // False when the pieces cannot share fast code; larger ones may.
  bool makePieces();
  static bool isReference(const Primitive &primitive) {
    return llvm::StringRef(primitive.description.impl_info_str()).starts_with("ref");
  }
  dnnl::memory prepareWeights(const std::byte *weights);
  void runPiece(int64_t image, const Piece &piece, const float *from, float *to, std::byte *plain,
                llvm::ArrayRef<const std::byte *> epilogueReads);

  Form form;
  size_t bias = 0, ownReads = 0; // those of the convolution come before those of the epilogue
  std::optional<Epilogue> epilogue;
  int64_t sourceElements = 0, weightElements = 0, resultElements = 0;
  bool relu = false, channelsLastSource = false, channelsLastResult = false, isReady = false;
  int64_t pieceRows = 1;
  std::vector<Piece> pieces; // of one image
  std::vector<Primitive> primitives;
  dnnl::memory::desc sourceLayout, resultLayout, plainWeights, weightLayout, biasLayout;
  dnnl::reorder sourceReorder, weightReorder, resultReorder;
  bool reordersWeights = false, constantWeights = false;
  // Reused between runs.
  std::vector<float> widenedWeights, widenedBias, widenedSource, narrowedResult, sourceBuffer, resultBuffer;
  dnnl::memory weightMemory;
  bool haveWeights = false;
};

bool ConvolutionOperation::makePieces() {
  const Geometry &g = form.g;
  pieces.clear();
  primitives.clear();
  int64_t reach = (g.weightDims[g.weightDims.size() - g.strides.size()] - 1) * (g.dilations[0] + 1) + 1;
  for (int64_t row = 0; row < g.resultDims[2]; row += pieceRows) {
    Piece piece;
    piece.firstRow = row;
    piece.lastRow = std::min(row + pieceRows, g.resultDims[2]);
    int64_t begin = row * g.strides[0] - g.padBefore[0];
    int64_t end = (piece.lastRow - 1) * g.strides[0] - g.padBefore[0] + reach;
    piece.firstSourceRow = std::max<int64_t>(begin, 0);
    Primitive wanted;
    wanted.resultRows = piece.lastRow - row;
    wanted.padBefore = piece.firstSourceRow - begin;
    wanted.padAfter = std::max<int64_t>(end - g.sourceDims[2], 0);
    wanted.sourceRows = std::min(end, g.sourceDims[2]) - piece.firstSourceRow;
    if (wanted.sourceRows <= 0)
      return false;
    auto found = llvm::find_if(primitives, [&](const Primitive &other) {
      return other.resultRows == wanted.resultRows && other.padBefore == wanted.padBefore &&
             other.padAfter == wanted.padAfter && other.sourceRows == wanted.sourceRows;
    });
    piece.primitive = static_cast<size_t>(found - primitives.begin());
    if (found == primitives.end())
      primitives.push_back(wanted);
    pieces.push_back(piece);
  }
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  weightLayout = anyLayout(g.weightDims);
  // The piece in the middle decides the layout of the weights, which all share.
  size_t middle = pieces[pieces.size() / 2].primitive;
  for (size_t i = 0; i < primitives.size(); ++i) {
    Primitive &primitive = primitives[i == 0 ? middle : i <= middle ? i - 1 : i];
    Dims source = g.sourceDims, result = g.resultDims, padBefore = g.padBefore, padAfter = g.padAfter;
    source[0] = result[0] = 1;
    source[2] = primitive.sourceRows;
    result[2] = primitive.resultRows;
    padBefore[0] = primitive.padBefore;
    padAfter[0] = primitive.padAfter;
    primitive.description = dnnl::convolution_forward::primitive_desc(
        dnnl::convolution_forward::desc(dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
                                        channelsLast(source), weightLayout, biasLayout, channelsLast(result), g.strides,
                                        g.dilations, padBefore, padAfter),
        attributes, engine());
    weightLayout = primitive.description.weights_desc();
    // A piece of another height may have no fast implementation for the layout that suits the middle one.
    if (i > 0 && isReference(primitive) && !isReference(primitives[middle]))
      return false;
    primitive.execute = dnnl::convolution_forward(primitive.description);
  }
  return true;
}

void ConvolutionOperation::prepare(const ConvolutionRequest &request) {
  const KernelGraph &graph = *request.graph;
  const Kernel &kernel = *request.kernel;
  std::optional<Form> found = formOf(graph, kernel);
  if (!found)
    return;
  form = *found;
  const Geometry &g = form.g;
  if (request.follower) {
    relu = reluOperand(graph, *request.follower) == kernel.writes[0].value;
    if (!relu) {
      if (!epilogueRead(graph, *request.follower, kernel.writes[0].value) || form.resultType != ElementType::f32)
        return;
      llvm::Expected<Epilogue> compiled =
          Epilogue::compile(graph, *request.follower, kernel.writes[0].value, request.layouts);
      if (!compiled)
        return llvm::consumeError(compiled.takeError());
      epilogue.emplace(std::move(*compiled));
    }
  }
  auto isChannelsLast = [&](ValueId value) {
    return !request.layouts.empty() && request.layouts[value] == Layout::ChannelsLast;
  };
  channelsLastSource = isChannelsLast(kernel.reads[form.source].value);
  channelsLastResult = isChannelsLast((request.follower ? request.follower : &kernel)->writes[0].value);
  if ((channelsLastSource && !form.plainSource) || (channelsLastResult && !form.plainResult))
    return;
  bias = kernel.reads.size();
  ownReads = operandsOf(kernel).size();
  sourceElements = elementCount(graph.values[kernel.reads[form.source].value].shape);
  weightElements = elementCount(graph.values[kernel.reads[form.weights].value].shape);
  resultElements = elementCount(graph.values[kernel.writes[0].value].shape);
  constantWeights = graph.values[kernel.reads[form.weights].value].role == ValueRole::Constant;
  if (g.biased)
    widenedBias.resize(static_cast<size_t>(g.groups * g.outputs));
  useOneOpenMpThread();
  try {
    sourceLayout = describePlain(g.sourceDims, g.sourceStrides);
    plainWeights = describePlain(g.weightDims, g.weightStrides);
    resultLayout = describePlain(g.resultDims, g.resultStrides);
    biasLayout = g.biased ? dnnl::memory::desc({g.groups * g.outputs}, Type::f32, dnnl::memory::format_tag::a)
                          : dnnl::memory::desc();
    pieceRows = rowsOfPiece(g);
    while (!makePieces()) {
      if (pieceRows >= g.resultDims[2])
        return;
      pieceRows = std::min(2 * pieceRows, g.resultDims[2]);
    }
    auto reorder = [&](const dnnl::memory::desc &from, const dnnl::memory::desc &to) {
      return dnnl::reorder(dnnl::reorder::primitive_desc(engine(), from, engine(), to));
    };
    reordersWeights = plainWeights != weightLayout;
    if (reordersWeights)
      weightReorder = reorder(plainWeights, weightLayout);
    if (!form.plainSource)
      sourceReorder = reorder(sourceLayout, channelsLast(g.sourceDims));
    if (!form.plainResult)
      resultReorder = reorder(channelsLast(g.resultDims), resultLayout);
    if (reordersWeights && !constantWeights)
      weightMemory = dnnl::memory(weightLayout, engine());
  } catch (const dnnl::error &) {
    return; // a form that this oneDNN lacks: the generic path has it
  }
  if (!channelsLastSource)
    sourceBuffer.resize(static_cast<size_t>(elementCount(g.sourceDims)));
  if (!channelsLastResult)
    resultBuffer.resize(static_cast<size_t>(elementCount(g.resultDims)));
  if (!form.plainSource && form.sourceType != ElementType::f32)
    widenedSource.resize(static_cast<size_t>(sourceElements));
  if (!form.plainResult && form.resultType != ElementType::f32)
    narrowedResult.resize(static_cast<size_t>(resultElements));
  isReady = true;
}

dnnl::memory ConvolutionOperation::prepareWeights(const std::byte *from) {
  const float *values = reinterpret_cast<const float *>(from);
  if (form.weightType != ElementType::f32) {
    widenedWeights.resize(static_cast<size_t>(weightElements));
    convertInParallel(form.weightType, from, ElementType::f32, reinterpret_cast<std::byte *>(widenedWeights.data()),
                      weightElements);
    values = widenedWeights.data();
  }
  dnnl::memory plain(plainWeights, engine(), const_cast<float *>(values + form.g.weightBase)); // only ever read
  if (!reordersWeights)
    return plain;
  dnnl::memory to = constantWeights ? dnnl::memory(weightLayout, engine()) : weightMemory;
  weightReorder.execute(stream(), plain, to);
  if (constantWeights)
    std::vector<float>().swap(widenedWeights);
  return to;
}

// `from` and `to` are channels-last values of all images; `plain`, if any, is where the result is put row-major.
void ConvolutionOperation::runPiece(int64_t image, const Piece &piece, const float *from, float *to, std::byte *plain,
                                    llvm::ArrayRef<const std::byte *> epilogueReads) {
  const Geometry &g = form.g;
  const Primitive &primitive = primitives[piece.primitive];
  int64_t sourcePoints = pointsOf(g.sourceDims), resultPoints = pointsOf(g.resultDims);
  int64_t channels = g.resultDims[1];
  from += (image * sourcePoints + piece.firstSourceRow * (sourcePoints / g.sourceDims[2])) * g.sourceDims[1];
  int64_t firstPoint = piece.firstRow * (resultPoints / g.resultDims[2]);
  int64_t lastPoint = piece.lastRow * (resultPoints / g.resultDims[2]);
  float *result = to + (image * resultPoints + firstPoint) * channels;
  static thread_local std::vector<float> scratch;
  dnnl::memory::desc scratchLayout = primitive.description.scratchpad_desc();
  constexpr size_t alignment = 64;
  scratch.resize(std::max(scratch.size(), (scratchLayout.get_size() + alignment) / sizeof(float) + 1));
  void *aligned =
      reinterpret_cast<void *>((reinterpret_cast<uintptr_t>(scratch.data()) + alignment - 1) / alignment * alignment);
  std::unordered_map<int, dnnl::memory> arguments = {
      {DNNL_ARG_SRC, dnnl::memory(primitive.description.src_desc(), engine(), const_cast<float *>(from))},
      {DNNL_ARG_WEIGHTS, weightMemory},
      {DNNL_ARG_DST, dnnl::memory(primitive.description.dst_desc(), engine(), result)},
      {DNNL_ARG_SCRATCHPAD, dnnl::memory(scratchLayout, engine(), aligned)}};
  if (g.biased)
    arguments[DNNL_ARG_BIAS] = dnnl::memory(biasLayout, engine(), widenedBias.data());
  useOneOpenMpThread();
  primitive.execute.execute(stream(), arguments);
  int64_t count = (lastPoint - firstPoint) * channels;
  if (epilogue)
    epilogue->apply(image, firstPoint, lastPoint, result, epilogueReads);
  else if (relu) // not oneDNN's, which makes zeros of NaNs
    for (int64_t i = 0; i < count; ++i)
      result[i] = result[i] > 0 || result[i] != result[i] ? result[i] : 0;
  if (plain)
    fromChannelsLast(result, channels, resultPoints, firstPoint, lastPoint, form.resultType,
                     plain + image * resultPoints * channels * static_cast<int64_t>(byteWidth(form.resultType)));
  else if (form.resultType != ElementType::f32)
    roundF32To(form.resultType, result, static_cast<size_t>(count));
}

llvm::Error ConvolutionOperation::run(llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) {
  const Geometry &g = form.g;
  useOneOpenMpThread();
  const float *from = sourceBuffer.data();
  int64_t sourcePoints = pointsOf(g.sourceDims), channels = g.sourceDims[1];
  if (channelsLastSource) {
    from = reinterpret_cast<const float *>(reads[form.source]);
  } else if (form.plainSource) {
    constexpr int64_t grain = 1 << 15; // elements
    int64_t pieceOfImage = std::max(transposedPoints, grain / channels);
    int64_t count = (sourcePoints + pieceOfImage - 1) / pieceOfImage;
    parallelFor(g.batch * count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t start = i / count * sourcePoints * channels, first = i % count * pieceOfImage;
        toChannelsLast(form.sourceType, reads[form.source] + start * static_cast<int64_t>(byteWidth(form.sourceType)),
                       channels, sourcePoints, first, std::min(first + pieceOfImage, sourcePoints),
                       sourceBuffer.data() + start + first * channels);
      }
    });
  } else {
    const float *values = reinterpret_cast<const float *>(reads[form.source]);
    if (!widenedSource.empty()) {
      convertInParallel(form.sourceType, reads[form.source], ElementType::f32,
                        reinterpret_cast<std::byte *>(widenedSource.data()), sourceElements);
      values = widenedSource.data();
    }
    dnnl::memory source(sourceLayout, engine(), const_cast<float *>(values + g.sourceBase)); // only ever read
    dnnl::memory target(channelsLast(g.sourceDims), engine(), sourceBuffer.data());
    sourceReorder.execute(stream(), source, target);
  }
  if (!haveWeights)
    weightMemory = prepareWeights(reads[form.weights]);
  haveWeights = constantWeights;
  if (g.biased)
    convert(form.biasType, reads[bias], ElementType::f32, widenedBias.data(), widenedBias.size());

  float *to = channelsLastResult ? reinterpret_cast<float *>(writes[0]) : resultBuffer.data();
  std::byte *plain = !channelsLastResult && form.plainResult ? writes[0] : nullptr;
  auto piecesOfImage = static_cast<int64_t>(pieces.size());
  parallelFor(g.batch * piecesOfImage, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      runPiece(i / piecesOfImage, pieces[static_cast<size_t>(i % piecesOfImage)], from, to, plain,
               reads.drop_front(ownReads));
  });
  if (!form.plainResult) {
    float *values = narrowedResult.empty() ? reinterpret_cast<float *>(writes[0]) : narrowedResult.data();
    dnnl::memory source(channelsLast(g.resultDims), engine(), to), target(resultLayout, engine(), values);
    resultReorder.execute(stream(), source, target);
    if (!narrowedResult.empty())
      convertInParallel(ElementType::f32, reinterpret_cast<const std::byte *>(values), form.resultType, writes[0],
                        resultElements);
  }
  return llvm::Error::success();
}

} // namespace

std::optional<ConvolutionForm> convolutionForm(const KernelGraph &graph, const Kernel &kernel) {
  std::optional<Form> form = kernel.structured() ? formOf(graph, kernel) : std::nullopt;
  if (!form)
    return std::nullopt;
  return ConvolutionForm{form->source, form->plainSource, form->plainResult};
}

bool canFollow(const KernelGraph &graph, const Kernel &kernel, const Kernel &follower) {
  ValueId result = kernel.writes[0].value;
  std::optional<Form> form = kernel.structured() ? formOf(graph, kernel) : std::nullopt;
  return form &&
         (reluOperand(graph, follower) == result || (form->plainResult && epilogueRead(graph, follower, result)));
}

OperationPointer compileConvolution(const ConvolutionRequest &request) {
  auto operation = std::make_unique<ConvolutionOperation>();
  operation->prepare(request);
  if (!operation->ready())
    return nullptr;
  return operation;
}

} // namespace quadrille::host
