// The values that vertices make.
#include "target/ipu/Vertices.h"

#include "numerics/BlockEvaluator.h"
#include "numerics/Convert.h"
#include "numerics/Gemm.h"

#include "llvm/ADT/STLExtras.h"

#include <cassert>
#include <cstring>
#include <numbers>

namespace quadrille::ipu {

namespace {

// Calls body(index) for all points of the loops, the last one varying fastest.
template <typename Body> void forEachPoint(llvm::ArrayRef<int64_t> extents, Body &&body) {
  std::vector<int64_t> index(extents.size());
  while (true) {
    body(llvm::ArrayRef<int64_t>(index));
    size_t d = extents.size();
    while (d > 0 && ++index[d - 1] == extents[d - 1])
      index[--d] = 0;
    if (d == 0)
      return;
  }
}

int64_t offsetOf(llvm::ArrayRef<int64_t> index, llvm::ArrayRef<int64_t> strides) {
  int64_t offset = 0;
  for (auto [i, stride] : llvm::zip(index, strides))
    offset += i * stride;
  return offset;
}

class MapFunction final : public VertexFunction {
public:
  MapFunction(const Vertex &vertex, const BlockExpression &expression)
      : evaluator(llvm::cantFail(BlockEvaluator::compile(expression))), extents(valuesOf(vertex, "extents")) {
    auto add = [&](std::vector<Array> &arrays, llvm::StringRef addresses, llvm::StringRef strides, size_t i,
                   ElementType type) {
      arrays.push_back({valuesOf(vertex, addresses)[i], static_cast<int64_t>(byteWidth(type)),
                        valuesOf(vertex, strides).slice(i * extents.size(), extents.size()).vec()});
    };
    for (auto [i, type] : llvm::enumerate(expression.inputs))
      add(inputs, "in", "in_strides", i, type);
    for (auto [i, value] : llvm::enumerate(expression.results))
      add(outputs, "out", "out_strides", i, expression.instructions[value].type);
    collapse();
  }

  void execute(std::byte *memory) const override {
    BlockEvaluator::Scratch scratch(evaluator);
    llvm::ArrayRef<int64_t> outer(extents.data(), extents.empty() ? 0 : extents.size() - 1);
    int64_t count = extents.empty() ? 1 : extents.back();
    std::vector<BlockEvaluator::Operand> operands(inputs.size());
    std::vector<BlockEvaluator::Output> results(outputs.size());
    forEachPoint(outer, [&](llvm::ArrayRef<int64_t> index) {
      for (auto [operand, array] : llvm::zip(operands, inputs))
        operand = {memory + array.address + offsetOf(index, array.strides) * array.width, innermost(array)};
      for (auto [result, array] : llvm::zip(results, outputs))
        result = {memory + array.address + offsetOf(index, array.strides) * array.width, innermost(array)};
      evaluator.evaluate(operands, results, count, {}, scratch);
    });
  }

private:
  struct Array {
    int64_t address, width;
    std::vector<int64_t> strides;
  };
  static int64_t innermost(const Array &array) { return array.strides.empty() ? 0 : array.strides.back(); }

  // Two loops that every array goes through as one become one.
  void collapse() {
    for (size_t d = extents.size(); d-- > 1;) {
      auto joins = [&](const Array &array) { return array.strides[d - 1] == array.strides[d] * extents[d]; };
      if (!llvm::all_of(inputs, joins) || !llvm::all_of(outputs, joins))
        continue;
      extents[d - 1] *= extents[d];
      extents.erase(extents.begin() + static_cast<ptrdiff_t>(d));
      for (std::vector<Array> *arrays : {&inputs, &outputs})
        for (Array &array : *arrays)
          array.strides.erase(array.strides.begin() + static_cast<ptrdiff_t>(d) - 1);
    }
  }

  BlockEvaluator evaluator;
  std::vector<int64_t> extents;
  std::vector<Array> inputs, outputs;
};

class ReduceFunction final : public VertexFunction {
public:
  explicit ReduceFunction(const Vertex &vertex)
      : combine(static_cast<Combine>(valueOf(vertex, "combine"))), type(typeOf(vertex, "type")),
        accumulate(typeOf(vertex, "accumulate")), outType(typeOf(vertex, "out_type")),
        extents(valuesOf(vertex, "extents")), reduced(valuesOf(vertex, "reduced")), in(valueOf(vertex, "in")),
        out(valueOf(vertex, "out")), inStrides(valuesOf(vertex, "in_strides")),
        outStrides(valuesOf(vertex, "out_strides")), update(valueOf(vertex, "update") != 0) {}

  void execute(std::byte *memory) const override {
    auto inWidth = static_cast<int64_t>(byteWidth(type)), outWidth = static_cast<int64_t>(byteWidth(outType));
    llvm::ArrayRef<int64_t> strides(inStrides), innerStrides = strides.drop_front(extents.size());
    llvm::ArrayRef<int64_t> outer(reduced.data(), reduced.size() - 1);
    int64_t count = reduced.back(), step = innerStrides.back();
    std::vector<std::byte> row(static_cast<size_t>(count) * byteWidth(accumulate));
    std::vector<std::byte> gathered(static_cast<size_t>(count * inWidth));
    forEachPoint(extents, [&](llvm::ArrayRef<int64_t> point) {
      uint64_t accumulator = neutralBits(combine, accumulate);
      std::byte *result = memory + out + offsetOf(point, outStrides) * outWidth;
      if (update)
        convert(outType, result, accumulate, &accumulator, 1);
      forEachPoint(outer, [&](llvm::ArrayRef<int64_t> index) {
        const std::byte *from = memory + in + (offsetOf(point, strides) + offsetOf(index, innerStrides)) * inWidth;
        if (type == accumulate)
          return combineInto(combine, accumulate, &accumulator, from, step, count);
        for (int64_t i = 0; i < count; ++i)
          std::memcpy(gathered.data() + i * inWidth, from + i * step * inWidth, static_cast<size_t>(inWidth));
        convert(type, gathered.data(), accumulate, row.data(), static_cast<size_t>(count));
        combineInto(combine, accumulate, &accumulator, row.data(), 1, count);
      });
      convert(accumulate, &accumulator, outType, result, 1);
    });
  }

private:
  Combine combine;
  ElementType type, accumulate, outType;
  std::vector<int64_t> extents, reduced;
  int64_t in, out;
  std::vector<int64_t> inStrides, outStrides;
  bool update;
};

class CopyFunction final : public VertexFunction {
public:
  explicit CopyFunction(const Vertex &vertex)
      : bytes(valueOf(vertex, "bytes")), extents(valuesOf(vertex, "extents")), in(valueOf(vertex, "in")),
        out(valueOf(vertex, "out")), inStrides(valuesOf(vertex, "in_strides")),
        outStrides(valuesOf(vertex, "out_strides")) {
    // Runs without gaps are copied at once.
    while (!extents.empty() && inStrides.back() == bytes && outStrides.back() == bytes) {
      bytes *= extents.back();
      extents.pop_back();
      inStrides.pop_back();
      outStrides.pop_back();
    }
  }

  void execute(std::byte *memory) const override {
    forEachPoint(extents, [&](llvm::ArrayRef<int64_t> index) {
      std::memcpy(memory + out + offsetOf(index, outStrides), memory + in + offsetOf(index, inStrides),
                  static_cast<size_t>(bytes));
    });
  }

private:
  int64_t bytes;
  std::vector<int64_t> extents;
  int64_t in, out;
  std::vector<int64_t> inStrides, outStrides;
};

class FillFunction final : public VertexFunction {
public:
  explicit FillFunction(const Vertex &vertex)
      : bytes(valueOf(vertex, "bytes")), count(valueOf(vertex, "count")), value(valueOf(vertex, "value")),
        out(valueOf(vertex, "out")) {}

  void execute(std::byte *memory) const override {
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(memory + out + i * bytes, &value, static_cast<size_t>(bytes));
  }

private:
  int64_t bytes, count, value, out;
};

class MultiSliceFunction final : public VertexFunction {
public:
  explicit MultiSliceFunction(const Vertex &vertex)
      : row(valueOf(vertex, "bytes") * valueOf(vertex, "elements")), rows(valueOf(vertex, "rows")),
        first(valueOf(vertex, "first")), count(valueOf(vertex, "count")), in(valueOf(vertex, "in")),
        indices(valueOf(vertex, "indices")), out(valueOf(vertex, "out")) {}

  void execute(std::byte *memory) const override {
    for (int64_t j = 0; j < count; ++j) {
      int32_t index;
      std::memcpy(&index, memory + indices + j * static_cast<int64_t>(sizeof(index)), sizeof(index));
      std::byte *to = memory + out + j * row;
      if (index >= first && index < first + rows)
        std::memcpy(to, memory + in + (index - first) * row, static_cast<size_t>(row));
      else
        std::memset(to, 0, static_cast<size_t>(row));
    }
  }

private:
  int64_t row, rows, first, count, in, indices, out;
};

class MultiUpdateFunction final : public VertexFunction {
public:
  explicit MultiUpdateFunction(const Vertex &vertex)
      : combine(updateOf(vertex)), type(typeOf(vertex, "type")), elements(valueOf(vertex, "elements")),
        rows(valueOf(vertex, "rows")), first(valueOf(vertex, "first")), count(valueOf(vertex, "count")),
        in(valueOf(vertex, "in")), indices(valueOf(vertex, "indices")), out(valueOf(vertex, "out")) {}

  void execute(std::byte *memory) const override {
    int64_t row = elements * static_cast<int64_t>(byteWidth(type));
    for (int64_t j = 0; j < count; ++j) {
      int32_t index;
      std::memcpy(&index, memory + indices + j * static_cast<int64_t>(sizeof(index)), sizeof(index));
      if (index < first || index >= first + rows)
        continue;
      std::byte *into = memory + out + (index - first) * row;
      const std::byte *update = memory + in + j * row;
      if (combine)
        combineElementwise(*combine, type, into, update, elements);
      else
        std::memcpy(into, update, static_cast<size_t>(row));
    }
  }

private:
  std::optional<Combine> combine;
  ElementType type;
  int64_t elements, rows, first, count, in, indices, out;
};

class RandomFunction final : public VertexFunction {
public:
  explicit RandomFunction(const Vertex &vertex)
      : evaluator(llvm::cantFail(BlockEvaluator::compile(expressionOf(vertex)))), count(valueOf(vertex, "count")),
        seed(static_cast<uint64_t>(valueOf(vertex, "seed"))), out(valueOf(vertex, "out")), words(wordsOf(vertex)),
        first(static_cast<uint64_t>(valueOf(vertex, "first") * words)) {}

  void execute(std::byte *memory) const override {
    std::vector<uint32_t> bits(static_cast<size_t>(count * words));
    randomBits(seed, first, bits.data(), bits.size());
    BlockEvaluator::Scratch scratch(evaluator);
    std::vector<BlockEvaluator::Operand> operands;
    for (int64_t word = 0; word < words; ++word)
      operands.push_back({reinterpret_cast<const std::byte *>(bits.data() + word), words});
    BlockEvaluator::Output result = {memory + out, 1};
    evaluator.evaluate(operands, result, count, {}, scratch);
  }

private:
  static int64_t wordsOf(const Vertex &vertex) { return vertex.kind() == Codelet::Normal ? 2 : 1; }

  static BlockExpression expressionOf(const Vertex &vertex) {
    constexpr auto f32 = ElementType::f32;
    BlockExpression body;
    auto real = [&](double value) { return body.append(BlockOpcode::Constant, f32, {}, bitsFromDouble(f32, value)); };
    auto product = [&](Register a, Register b) { return body.append(BlockOpcode::Multiply, f32, {a, b}); };
    // From 0 up to but not 1, in steps of 2^-24.
    auto uniform = [&](uint64_t word) {
      constexpr auto u32 = ElementType::u32;
      body.inputs.push_back(u32);
      Register input = body.append(BlockOpcode::Input, u32, {}, word);
      Register high =
          body.append(BlockOpcode::ShiftRight, u32, {input, body.append(BlockOpcode::Constant, u32, {}, 8)});
      return product(body.append(BlockOpcode::Convert, f32, {high}), real(0x1p-24));
    };
    Register number = uniform(0);
    if (vertex.kind() == Codelet::Normal) { // Box and Muller (Ann. Math. Stat. 29, 1958)
      Register angle = product(uniform(1), real(2 * std::numbers::pi));
      Register rest = body.append(BlockOpcode::Subtract, f32, {real(1), number}); // never 0
      Register square = product(body.append(BlockOpcode::Log, f32, {rest}), real(-2));
      number =
          product(body.append(BlockOpcode::SquareRoot, f32, {square}), body.append(BlockOpcode::Cos, f32, {angle}));
    }
    auto parameter = [&](llvm::StringRef name) {
      return body.append(BlockOpcode::Constant, f32, {}, static_cast<uint64_t>(valueOf(vertex, name)));
    };
    Register sum = body.append(BlockOpcode::Add, f32, {product(number, parameter("scale")), parameter("offset")});
    ElementType type = typeOf(vertex, "type");
    body.results = {type == f32 ? sum : body.append(BlockOpcode::Convert, type, {sum})};
    return body;
  }

  BlockEvaluator evaluator;
  int64_t count;
  uint64_t seed;
  int64_t out, words;
  uint64_t first;
};

class DotProductFunction final : public VertexFunction {
public:
  explicit DotProductFunction(const Vertex &vertex)
      : type(typeOf(vertex, "type")), count(valueOf(vertex, "count")), a(valueOf(vertex, "a")), b(valueOf(vertex, "b")),
        out(valueOf(vertex, "out")) {}

  void execute(std::byte *memory) const override {
    std::vector<float> left(static_cast<size_t>(count)), right(left.size());
    widenToF32(type, memory + a, left.data(), left.size());
    widenToF32(type, memory + b, right.data(), right.size());
    float sum = 0;
    for (auto [x, y] : llvm::zip_equal(left, right))
      sum += x * y;
    std::memcpy(memory + out, &sum, sizeof(sum));
  }

private:
  ElementType type;
  int64_t count, a, b, out;
};

class OuterProductFunction final : public VertexFunction {
public:
  explicit OuterProductFunction(const Vertex &vertex)
      : type(typeOf(vertex, "type")), groups(valueOf(vertex, "groups")), channels(valueOf(vertex, "channels")),
        positions(valueOf(vertex, "positions")), in(valueOf(vertex, "in")), weights(valueOf(vertex, "weights")),
        out(valueOf(vertex, "out")) {}

  void execute(std::byte *memory) const override {
    std::vector<float> data(static_cast<size_t>(positions)), factors(static_cast<size_t>(groups * channels)), products;
    products.reserve(data.size() * factors.size());
    widenToF32(type, memory + in, data.data(), data.size());
    widenToF32(type, memory + weights, factors.data(), factors.size());
    for (int64_t g = 0; g < groups; ++g)
      for (float value : data)
        for (int64_t c = 0; c < channels; ++c)
          products.push_back(value * factors[static_cast<size_t>(g * channels + c)]);
    narrowFromF32(type, products.data(), memory + out, products.size());
  }

private:
  ElementType type;
  int64_t groups, channels, positions, in, weights, out;
};

// Where the inputs of each kernel position lie in the field of all batches: by output, the input's number or -1
// outside.
struct Field {
  explicit Field(const Vertex &vertex) {
    llvm::ArrayRef<int64_t> outField = valuesOf(vertex, "out_field"), inField = valuesOf(vertex, "in_field");
    inputs = outputs = valueOf(vertex, "batch");
    for (auto [o, i] : llvm::zip(outField, inField)) {
      outputs *= o;
      inputs *= i;
    }
    forEachPoint(valuesOf(vertex, "kernel"), [&](llvm::ArrayRef<int64_t> position) {
      std::vector<int32_t> &source = sources.emplace_back();
      for (int64_t b = 0; b < valueOf(vertex, "batch"); ++b)
        forEachPoint(outField, [&](llvm::ArrayRef<int64_t> y) {
          int64_t number = b;
          bool inside = true;
          for (size_t d = 0; d < outField.size(); ++d) {
            int64_t at = y[d] * valuesOf(vertex, "stride")[d] + position[d] * valuesOf(vertex, "dilation")[d] -
                         valuesOf(vertex, "padding")[d];
            inside &= at >= 0 && at < inField[d];
            number = number * inField[d] + at;
          }
          source.push_back(inside ? static_cast<int32_t>(number) : -1);
        });
    });
  }

  int64_t inputs = 0, outputs = 0;
  std::vector<std::vector<int32_t>> sources; // by kernel position
};

// Sums over blocks of input channels and kernel positions, one after the other.
class ConvolutionFunction final : public VertexFunction {
public:
  explicit ConvolutionFunction(const Vertex &vertex)
      : type(typeOf(vertex, "type")), partials(typeOf(vertex, "partials")), groups(valueOf(vertex, "groups")),
        inBlocks(valueOf(vertex, "in_blocks")), inChannels(valueOf(vertex, "in_channels")),
        outBlocks(valueOf(vertex, "out_blocks")), outChannels(valueOf(vertex, "out_channels")),
        in(valueOf(vertex, "in")), weights(valueOf(vertex, "weights")), out(valueOf(vertex, "out")),
        zero(valueOf(vertex, "zero") != 0) {
    if (vertex.kind() != Codelet::ConvPartialnx1) {
      inputs = outputs = valueOf(vertex, "positions");
      sources.emplace_back();
      return;
    }
    Field field(vertex);
    inputs = field.inputs;
    outputs = field.outputs;
    sources = std::move(field.sources);
  }

  void execute(std::byte *memory) const override {
    auto width = static_cast<int64_t>(byteWidth(type)), partialWidth = static_cast<int64_t>(byteWidth(partials));
    auto kernel = static_cast<int64_t>(sources.size());
    std::vector<float> data(static_cast<size_t>(inputs * inChannels)), moved;
    std::vector<float> tile(static_cast<size_t>(kernel * outChannels * inChannels));
    std::vector<float> sums(static_cast<size_t>(outputs * outChannels));
    if (kernel > 1 || !sources.front().empty())
      moved.resize(static_cast<size_t>(outputs * inChannels));
    GemmShape shape;
    shape.m = outputs;
    shape.n = outChannels;
    shape.k = inChannels;
    shape.transposeB = shape.accumulate = true;
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t o = 0; o < outBlocks; ++o) {
        std::byte *result = memory + out + (g * outBlocks + o) * outputs * outChannels * partialWidth;
        if (zero)
          std::fill(sums.begin(), sums.end(), 0.0F);
        else
          widenToF32(partials, result, sums.data(), sums.size());
        for (int64_t i = 0; i < inBlocks; ++i) {
          widenToF32(type, memory + in + (g * inBlocks + i) * inputs * inChannels * width, data.data(), data.size());
          widenToF32(
              type, memory + weights + ((g * outBlocks + o) * inBlocks + i) * static_cast<int64_t>(tile.size()) * width,
              tile.data(), tile.size());
          for (int64_t k = 0; k < kernel; ++k) {
            const float *from = data.data();
            if (!moved.empty())
              from = gather(sources[static_cast<size_t>(k)], data, moved);
            gemmF32(shape, from, tile.data() + k * outChannels * inChannels, sums.data());
            if (partials != ElementType::f32)
              roundF32To(partials, sums.data(), sums.size());
          }
        }
        narrowFromF32(partials, sums.data(), result, sums.size());
      }
  }

private:
  const float *gather(const std::vector<int32_t> &source, const std::vector<float> &data,
                      std::vector<float> &moved) const {
    auto channels = static_cast<size_t>(inChannels);
    for (size_t p = 0; p < source.size(); ++p)
      if (source[p] < 0)
        std::fill_n(moved.data() + p * channels, channels, 0.0F);
      else
        std::memcpy(moved.data() + p * channels, data.data() + static_cast<size_t>(source[p]) * channels,
                    channels * sizeof(float));
    return moved.data();
  }

  ElementType type, partials;
  int64_t groups, inBlocks, inChannels, outBlocks, outChannels, in, weights, out;
  bool zero;
  int64_t inputs = 0, outputs = 0; // positions of all batches
  std::vector<std::vector<int32_t>> sources;
};

// Groups of channels that lie beside each other and do not mix; sums are rounded after each run of kernel positions.
class GroupedConvolutionFunction final : public VertexFunction {
public:
  explicit GroupedConvolutionFunction(const Vertex &vertex)
      : type(typeOf(vertex, "type")), partials(typeOf(vertex, "partials")), blocks(valueOf(vertex, "groups")),
        in(valueOf(vertex, "in")), weights(valueOf(vertex, "weights")), out(valueOf(vertex, "out")), field(vertex) {
    bool slim = vertex.kind() == Codelet::ConvPartial1x4SLIC;
    // To the depthwise vertex each of its channels is a group.
    together = valueOf(vertex, slim ? "together" : "channels");
    channels = slim ? valueOf(vertex, "channels") : 1;
    run = slim ? valueOf(vertex, "window") : valuesOf(vertex, "kernel").back();
  }

  void execute(std::byte *memory) const override {
    auto width = static_cast<int64_t>(byteWidth(type)), partialWidth = static_cast<int64_t>(byteWidth(partials));
    auto kernel = static_cast<int64_t>(field.sources.size());
    int64_t block = together * channels, tap = block * channels;
    std::vector<float> data(static_cast<size_t>(field.inputs * block)), taps(static_cast<size_t>(kernel * tap));
    std::vector<float> sums(static_cast<size_t>(field.outputs * block));
    for (int64_t g = 0; g < blocks; ++g) {
      widenToF32(type, memory + in + g * field.inputs * block * width, data.data(), data.size());
      widenToF32(type, memory + weights + g * kernel * tap * width, taps.data(), taps.size());
      std::fill(sums.begin(), sums.end(), 0.0F);
      for (int64_t k = 0; k < kernel; ++k) {
        for (auto [p, source] : llvm::enumerate(field.sources[static_cast<size_t>(k)]))
          if (source >= 0)
            add(data.data() + source * block, taps.data() + k * tap, sums.data() + static_cast<int64_t>(p) * block);
        if ((k + 1) % run == 0 && partials != ElementType::f32)
          roundF32To(partials, sums.data(), sums.size());
      }
      narrowFromF32(partials, sums.data(), memory + out + g * field.outputs * block * partialWidth, sums.size());
    }
  }

private:
  void add(const float *from, const float *tap, float *sum) const {
    if (channels == 1) {
      for (int64_t j = 0; j < together; ++j)
        sum[j] += from[j] * tap[j];
      return;
    }
    for (int64_t j = 0; j < together; ++j, from += channels)
      for (int64_t co = 0; co < channels; ++co, ++sum, tap += channels)
        for (int64_t ci = 0; ci < channels; ++ci)
          *sum += from[ci] * tap[ci];
  }

  ElementType type, partials;
  int64_t blocks, together = 0, channels = 0, run = 0, in, weights, out;
  Field field;
};

// Tap after tap; an output's channels together.
class PoolFunction final : public VertexFunction {
public:
  explicit PoolFunction(const Vertex &vertex)
      : combine(vertex.kind() == Codelet::MaxPool ? Combine::Maximum : Combine::Sum), type(typeOf(vertex, "type")),
        channels(valueOf(vertex, "channels")), in(valueOf(vertex, "in")), out(valueOf(vertex, "out")), field(vertex) {}

  void execute(std::byte *memory) const override {
    std::vector<float> data(static_cast<size_t>(field.inputs * channels));
    widenToF32(type, memory + in, data.data(), data.size());
    auto neutral = static_cast<float>(doubleFromBits(ElementType::f32, neutralBits(combine, ElementType::f32)));
    std::vector<float> results(static_cast<size_t>(field.outputs * channels), neutral);
    for (const std::vector<int32_t> &tap : field.sources)
      for (auto [p, source] : llvm::enumerate(tap))
        if (source >= 0)
          combineElementwise(combine, ElementType::f32, results.data() + static_cast<int64_t>(p) * channels,
                             data.data() + source * channels, channels);
    narrowFromF32(type, results.data(), memory + out, results.size());
  }

private:
  Combine combine;
  ElementType type;
  int64_t channels, in, out;
  Field field;
};

} // namespace

std::unique_ptr<VertexFunction> VertexFunction::make(const Vertex &vertex,
                                                     llvm::ArrayRef<BlockExpression> expressions) {
  switch (vertex.kind()) {
  case Codelet::Map:
    return std::make_unique<MapFunction>(vertex, expressions[static_cast<size_t>(valueOf(vertex, "expression"))]);
  case Codelet::Reduce:
    return std::make_unique<ReduceFunction>(vertex);
  case Codelet::Copy:
    return std::make_unique<CopyFunction>(vertex);
  case Codelet::Fill:
    return std::make_unique<FillFunction>(vertex);
  case Codelet::DotProduct:
    return std::make_unique<DotProductFunction>(vertex);
  case Codelet::MultiSlice:
    return std::make_unique<MultiSliceFunction>(vertex);
  case Codelet::OuterProduct:
    return std::make_unique<OuterProductFunction>(vertex);
  case Codelet::ConvPartial1x1Out:
  case Codelet::ConvPartialHorizontalMac:
  case Codelet::ConvPartialnx1:
    return std::make_unique<ConvolutionFunction>(vertex);
  case Codelet::ConvPartial1x4SLIC:
  case Codelet::ConvPartialVerticalMac:
    return std::make_unique<GroupedConvolutionFunction>(vertex);
  case Codelet::Uniform:
  case Codelet::Normal:
    return std::make_unique<RandomFunction>(vertex);
  case Codelet::MaxPool:
  case Codelet::SumPool:
    return std::make_unique<PoolFunction>(vertex);
  case Codelet::MultiUpdate:
    return std::make_unique<MultiUpdateFunction>(vertex);
  }
  return nullptr;
}

} // namespace quadrille::ipu
