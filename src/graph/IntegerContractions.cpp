#include "graph/IntegerContractions.h"

#include "graph/Contraction.h"
#include "graph/DropUnused.h"
#include "graph/KernelQueries.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>
#include <limits>

namespace quadrille::graph {

namespace {

float floatOf(const BlockInstruction &constant) {
  return static_cast<float>(doubleFromBits(constant.type, constant.immediate));
}

// The dimension of a tensor that has more than one element, if exactly one has.
std::optional<size_t> onlyDimension(const Shape &shape) {
  std::optional<size_t> found;
  for (auto [d, extent] : llvm::enumerate(shape))
    if (extent != 1) {
      if (found)
        return std::nullopt;
      found = d;
    }
  return found;
}

// f32 = (integer - zero) * scale. Scale and zero are one number, or elements along `axis` of the operand.
struct Dequantization {
  ValueId source = noValue;
  float scale = 1;
  int64_t zero = 0;
  std::optional<ValueId> scales, zeros; // constants whose onlyDimension runs along `axis`
  size_t axis = 0;
  bool whole() const { return !scales && !zeros; }
};

// integer = saturate(round_even(f32 / scale) + zero).
struct Quantization {
  ValueId result = noValue;
  ElementType type = ElementType::u8;
  float scale = 1;
  float zero = 0;
};

// A contraction of dequantised operands.
struct QuantizedContraction {
  Contraction contraction;
  const Dequantization *left = nullptr, *right = nullptr;
  std::vector<float> factors;      // products of the operands' scales: one, or one for each channel
  DimensionAccess channel;         // which of them, over the dimensions of the result
  std::optional<Read> integerBias; // in units of the factors
  std::optional<Read> floatBias;   // over the dimensions of the result
};

// An elementwise kernel of one operand of the result's shape, read 0, and perhaps constants along one axis.
bool isElementwiseOf(const KernelGraph &graph, const Kernel &kernel) {
  return isElementwise(kernel) && !kernel.reads.empty() && readsOwnElement(graph, kernel, kernel.reads[0]);
}

class Body {
public:
  explicit Body(const BlockExpression &body) : body(body) {}

  const BlockInstruction &result() const { return body.instructions[body.results[0]]; }
  const BlockInstruction &operand(const BlockInstruction &instruction, unsigned index) const {
    return body.instructions[instruction.operands[index]];
  }
  // Looks through conversions.
  const BlockInstruction &source(const BlockInstruction &instruction) const {
    const BlockInstruction *at = &instruction;
    while (at->opcode == BlockOpcode::Convert)
      at = &operand(*at, 0);
    return *at;
  }

private:
  const BlockExpression &body;
};

std::optional<Dequantization> matchDequantization(const KernelGraph &graph, const Kernel &kernel) {
  if (!isElementwiseOf(graph, kernel) || graph.values[kernel.writes[0].value].type != ElementType::f32 ||
      !isInteger(graph.values[kernel.reads[0].value].type))
    return std::nullopt;
  Dequantization found;
  found.source = kernel.reads[0].value;
  // The constant that a read takes along one axis of the operand.
  auto along = [&](uint64_t read, size_t &axis) -> std::optional<ValueId> {
    const Read &constant = kernel.reads[read];
    const Value &value = graph.values[constant.value];
    if (value.role != ValueRole::Constant || !value.data.valid() || constant.padding)
      return std::nullopt;
    std::optional<size_t> dimension = onlyDimension(value.shape);
    if (!dimension)
      return std::nullopt;
    for (auto [d, access] : llvm::enumerate(kernel.writes[0].map))
      if (access == constant.map[*dimension] && value.shape[*dimension] == graph.values[found.source].shape[d]) {
        axis = d;
        return constant.value;
      }
    return std::nullopt;
  };

  Body body(kernel.body);
  const BlockInstruction &product = body.result();
  if (product.opcode != BlockOpcode::Multiply || product.type != ElementType::f32)
    return std::nullopt;
  const BlockInstruction *scale = &body.operand(product, 1), *difference = &body.operand(product, 0);
  if (scale->opcode == BlockOpcode::Convert)
    std::swap(scale, difference);
  if (scale->opcode == BlockOpcode::Constant) {
    found.scale = floatOf(*scale);
  } else if (scale->opcode == BlockOpcode::Input && scale->type == ElementType::f32) {
    found.scales = along(scale->immediate, found.axis);
    if (!found.scales)
      return std::nullopt;
  } else {
    return std::nullopt;
  }
  const BlockInstruction *integer = &body.source(*difference);
  if (integer->opcode == BlockOpcode::Subtract) {
    const BlockInstruction &zero = body.source(body.operand(*integer, 1));
    if (zero.opcode == BlockOpcode::Constant) {
      convert(zero.type, &zero.immediate, ElementType::i64, &found.zero, 1);
    } else if (zero.opcode == BlockOpcode::Input) {
      size_t axis = found.axis;
      found.zeros = along(zero.immediate, axis);
      if (!found.zeros || (found.scales && axis != found.axis))
        return std::nullopt;
      found.axis = axis;
      if (const Value &zeros = graph.values[*found.zeros]; zeros.splat()) {
        convert(zeros.type, zeros.data.bytes().data(), ElementType::i64, &found.zero, 1);
        found.zeros.reset();
      }
    } else {
      return std::nullopt;
    }
    integer = &body.source(body.operand(*integer, 0));
  }
  if (integer->opcode != BlockOpcode::Input || integer->immediate != 0 || !(found.scale > 0))
    return std::nullopt;
  return found;
}

std::optional<Quantization> matchQuantization(const KernelGraph &graph, const Kernel &kernel) {
  if (!isElementwiseOf(graph, kernel) || kernel.reads.size() != 1 ||
      graph.values[kernel.reads[0].value].type != ElementType::f32)
    return std::nullopt;
  Quantization found;
  found.result = kernel.writes[0].value;
  found.type = graph.values[found.result].type;
  if (found.type != ElementType::u8 && found.type != ElementType::i8)
    return std::nullopt;
  Body body(kernel.body);
  const BlockInstruction &result = body.result();
  if (result.opcode != BlockOpcode::Convert && result.opcode != BlockOpcode::ConvertSaturating)
    return std::nullopt;
  const BlockInstruction *rounded = &body.operand(result, 0);
  if (rounded->opcode == BlockOpcode::Add) {
    const BlockInstruction &zero = body.operand(*rounded, 1);
    if (zero.opcode != BlockOpcode::Constant || zero.type != ElementType::f32)
      return std::nullopt;
    found.zero = floatOf(zero);
    rounded = &body.operand(*rounded, 0);
  }
  if (rounded->opcode != BlockOpcode::RoundEven)
    return std::nullopt;
  const BlockInstruction &quotient = body.operand(*rounded, 0);
  if (quotient.opcode != BlockOpcode::Divide || quotient.type != ElementType::f32)
    return std::nullopt;
  const BlockInstruction &value = body.operand(quotient, 0), &scale = body.operand(quotient, 1);
  if (value.opcode != BlockOpcode::Input || scale.opcode != BlockOpcode::Constant)
    return std::nullopt;
  found.scale = floatOf(scale);
  return found.scale > 0 ? std::optional(found) : std::nullopt;
}

class Rewriter {
public:
  explicit Rewriter(KernelGraph given) : graph(std::move(given)), uses(graph) {}
  KernelGraph run();

private:
  // The kernel that alone reads the value, unless it is an output.
  std::optional<size_t> onlyReader(ValueId value) const {
    const std::vector<size_t> &readers = uses.readers[value];
    return readers.size() == 1 && readers[0] < graph.kernels.size() ? std::optional(readers[0]) : std::nullopt;
  }
  const Dequantization *dequantized(ValueId value) const {
    auto found = dequantizations.find(value);
    return found == dequantizations.end() ? nullptr : &found->second;
  }
  ValueId addValue(const std::string &name, ElementType type, Shape shape) {
    graph.values.push_back({name, type, std::move(shape), ValueRole::Intermediate, {}, std::nullopt});
    return static_cast<ValueId>(graph.values.size() - 1);
  }
  ValueId addConstant(llvm::ArrayRef<float> elements) {
    ValueId id = addValue("", ElementType::f32, {static_cast<int64_t>(elements.size())});
    graph.values[id].role = ValueRole::Constant;
    graph.values[id].data = Tensor::of<float>(ElementType::f32, graph.values[id].shape, elements);
    return id;
  }

  std::optional<QuantizedContraction> matchContraction(const Kernel &kernel) const;
  bool matchBias(const Write &write, QuantizedContraction &match) const;
  Kernel integerProduct(const Kernel &kernel, const QuantizedContraction &match, ValueId sum) const;
  Kernel scaledSum(const QuantizedContraction &match, ValueId sum, ValueId result,
                   const std::optional<Quantization> &quantization);
  bool rewriteContraction(size_t index);
  bool rewritePassage(size_t index);
  Kernel elementwiseOver(ValueId operand, ValueId result) const;

  KernelGraph graph;
  std::map<ValueId, Dequantization> dequantizations; // by result
  Uses uses;
  std::map<size_t, std::vector<Kernel>> replacements; // of the kernel with that index
};

} // namespace

// A map with the loops of the result's dimensions and `operand` as read 0.
Kernel Rewriter::elementwiseOver(ValueId operand, ValueId result) const {
  Kernel kernel;
  kernel.kind = KernelKind::Map;
  AccessMap map;
  for (auto [d, extent] : llvm::enumerate(graph.values[result].shape)) {
    kernel.loops.push_back({extent, false});
    map.push_back({0, {{static_cast<unsigned>(d), 1}}});
  }
  kernel.reads = {{operand, map, std::nullopt}};
  kernel.writes = {{result, map, Combiner::None, std::nullopt, std::nullopt}};
  return kernel;
}

// An access over the dimensions of the result instead of the loops that index them; nullopt where it needs others.
static std::optional<DimensionAccess> overResult(const Write &write, DimensionAccess access) {
  for (auto &[loop, coefficient] : access.terms) {
    auto written = llvm::find_if(write.map, [&](const DimensionAccess &dimension) {
      return !dimension.terms.empty() && dimension.terms[0].first == loop;
    });
    if (written == write.map.end())
      return std::nullopt;
    loop = static_cast<unsigned>(written - write.map.begin());
  }
  llvm::sort(access.terms);
  return access;
}

std::optional<QuantizedContraction> Rewriter::matchContraction(const Kernel &kernel) const {
  std::optional<Contraction> contraction = inferContraction(graph, kernel);
  if (!contraction || kernel.reads.size() != 2 || graph.values[kernel.writes[0].value].type != ElementType::f32)
    return std::nullopt;
  const Read &lhs = kernel.reads[contraction->lhs], &rhs = kernel.reads[contraction->rhs];
  const Dequantization *left = dequantized(lhs.value), *right = dequantized(rhs.value);
  if (!left || !right || !left->whole() || rhs.padding || bitWidth(graph.values[left->source].type) != 8 ||
      bitWidth(graph.values[right->source].type) != 8)
    return std::nullopt;
  if (lhs.padding && doubleFromBits(lhs.padding->type, lhs.padding->bits) != 0)
    return std::nullopt;
  QuantizedContraction match{*contraction, left, right, {right->scale}, {}, std::nullopt, std::nullopt};
  // The channel of the right operand must be one of the result: its scale stands before the sum.
  if (!right->whole()) {
    std::optional<DimensionAccess> channel = overResult(kernel.writes[0], rhs.map[right->axis]);
    if (!channel)
      return std::nullopt;
    match.channel = *channel;
  }
  if (right->scales)
    match.factors = valuesOf<float>(graph.values[*right->scales].data);
  for (float &factor : match.factors)
    factor = left->scale * factor;
  return matchBias(kernel.writes[0], match) ? std::optional(std::move(match)) : std::nullopt;
}

// The sum starts from zero, from an integer bias in units of the product of the scales, or a float bias is added.
bool Rewriter::matchBias(const Write &write, QuantizedContraction &match) const {
  if (!write.initial)
    return startsFromZero(write);
  const std::vector<float> &factors = match.factors;
  const Dequantization *bias = dequantized(write.initial->value);
  bool inUnits = bias && !write.initial->padding && graph.values[bias->source].type == ElementType::i32 &&
                 bias->zero == 0 && !bias->zeros && graph.values[bias->source].shape.size() == 1;
  if (inUnits) {
    std::vector<float> scales = {bias->scale};
    if (bias->scales)
      scales = valuesOf<float>(graph.values[*bias->scales].data);
    inUnits = scales.size() == factors.size() || scales.size() == 1 || factors.size() == 1;
    for (size_t i = 0; inUnits && i < std::max(scales.size(), factors.size()); ++i) {
      float unit = factors[factors.size() == 1 ? 0 : i], scale = scales[scales.size() == 1 ? 0 : i];
      inUnits = std::abs(scale - unit) <= 4 * std::numeric_limits<float>::epsilon() * unit;
    }
  }
  if (inUnits) {
    match.integerBias = *write.initial;
    match.integerBias->value = bias->source;
    return true;
  }
  match.floatBias = *write.initial;
  for (DimensionAccess &access : match.floatBias->map) {
    std::optional<DimensionAccess> dimension = overResult(write, access);
    if (!dimension)
      return false;
    access = *dimension;
  }
  return true;
}

// The contraction itself, of (operand - zero point) for each operand, into `sum`.
Kernel Rewriter::integerProduct(const Kernel &kernel, const QuantizedContraction &match, ValueId sum) const {
  constexpr ElementType i32 = ElementType::i32;
  unsigned lhs = match.contraction.lhs, rhs = match.contraction.rhs;
  ElementType leftType = graph.values[match.left->source].type, rightType = graph.values[match.right->source].type;
  Kernel product = kernel;
  product.reads[lhs].value = match.left->source;
  product.reads[rhs].value = match.right->source;
  if (product.reads[lhs].padding)
    product.reads[lhs].padding = Scalar{leftType, static_cast<uint64_t>(match.left->zero) & 0xff};
  product.writes[0].value = sum;
  product.writes[0].initial = match.integerBias;
  product.writes[0].initialScalar = match.integerBias ? std::nullopt : std::optional(Scalar{i32, 0});
  product.numeric = {leftType, i32, i32, Rounding::NearestEven};
  BlockExpression body;
  body.inputs.resize(2);
  body.inputs[lhs] = leftType;
  body.inputs[rhs] = rightType;
  auto factor = [&](unsigned read, const Dequantization &of) {
    Register value = body.append(BlockOpcode::Input, body.inputs[read], {}, read);
    value = body.append(BlockOpcode::Convert, i32, {value});
    if (of.zeros) {
      const Shape &shape = graph.values[*of.zeros].shape;
      AccessMap map(shape.size());
      map[*onlyDimension(shape)] = kernel.reads[rhs].map[of.axis];
      product.reads.push_back({*of.zeros, std::move(map), std::nullopt});
      body.inputs.push_back(graph.values[*of.zeros].type);
      Register zero = body.append(BlockOpcode::Input, body.inputs.back(), {}, body.inputs.size() - 1);
      return body.append(BlockOpcode::Subtract, i32, {value, body.append(BlockOpcode::Convert, i32, {zero})});
    }
    if (of.zero == 0)
      return value;
    Register zero = body.append(BlockOpcode::Constant, i32, {}, static_cast<uint32_t>(of.zero));
    return body.append(BlockOpcode::Subtract, i32, {value, zero});
  };
  Register a = factor(lhs, *match.left), b = factor(rhs, *match.right);
  body.results = {body.append(BlockOpcode::Multiply, i32, {a, b})};
  product.body = std::move(body);
  for (const Read &read : kernel.reads)
    addNodes(product, graph.kernels[*uses.producers[read.value]].nodes);
  if (match.integerBias)
    addNodes(product, graph.kernels[*uses.producers[kernel.writes[0].initial->value]].nodes);
  countWork(graph, product);
  return product;
}

// sum * factor + bias, or sum * factor quantised.
Kernel Rewriter::scaledSum(const QuantizedContraction &match, ValueId sum, ValueId result,
                           const std::optional<Quantization> &quantization) {
  constexpr ElementType i32 = ElementType::i32, f32 = ElementType::f32;
  Kernel scaled = elementwiseOver(sum, result);
  scaled.operation = quantization ? "requantize" : "dequantize";
  BlockExpression &body = scaled.body;
  body.inputs = {i32};
  auto constant = [&](float value) { return body.append(BlockOpcode::Constant, f32, {}, bitsFromDouble(f32, value)); };
  auto input = [&](Read read) {
    scaled.reads.push_back(std::move(read));
    body.inputs.push_back(f32);
    return body.append(BlockOpcode::Input, f32, {}, scaled.reads.size() - 1);
  };
  Register value = body.append(BlockOpcode::Input, i32, {}, 0);
  value = body.append(BlockOpcode::Convert, f32, {value});
  Register unit = match.right->scales ? input({addConstant(match.factors), {match.channel}, std::nullopt})
                                      : constant(match.factors[0]);
  value = body.append(BlockOpcode::Multiply, f32, {value, unit});
  if (match.floatBias)
    value = body.append(BlockOpcode::Add, f32, {value, input(*match.floatBias)});
  if (quantization) {
    value = body.append(BlockOpcode::RoundEven, f32, {value});
    value = body.append(BlockOpcode::Add, f32, {value, constant(quantization->zero)});
    value = body.append(BlockOpcode::ConvertSaturating, quantization->type, {value});
  }
  body.results = {value};
  scaled.numeric = defaultNumeric(graph, scaled);
  countWork(graph, scaled);
  return scaled;
}

bool Rewriter::rewriteContraction(size_t index) {
  const Kernel &kernel = graph.kernels[index];
  std::optional<QuantizedContraction> match = matchContraction(kernel);
  if (!match)
    return false;
  ValueId written = kernel.writes[0].value;
  const Value result = graph.values[written];
  ValueId sum = addValue(result.name.empty() ? "" : result.name + ".sum", ElementType::i32, result.shape);
  Kernel product = integerProduct(kernel, *match, sum);

  // Who quantises the result, directly or behind a reshape.
  std::optional<size_t> reader = onlyReader(written), reshape;
  if (reader && isReshape(graph.kernels[*reader])) {
    reshape = reader;
    reader = onlyReader(graph.kernels[*reshape].writes[0].value);
  }
  std::optional<Quantization> quantization =
      reader && !match->floatBias ? matchQuantization(graph, graph.kernels[*reader]) : std::nullopt;
  ValueId finished = written;
  if (quantization) {
    for (float &unit : match->factors)
      unit = unit / quantization->scale;
    finished = reshape ? addValue(result.name, quantization->type, result.shape) : quantization->result;
  }
  Kernel scaled = scaledSum(*match, sum, finished, quantization);
  scaled.nodes = quantization ? graph.kernels[*reader].nodes : kernel.nodes;
  replacements[index] = {std::move(product), std::move(scaled)};
  if (quantization && reshape) {
    Kernel moved = graph.kernels[*reshape];
    moved.reads[0].value = finished;
    moved.writes[0].value = quantization->result;
    moved.numeric.storage = moved.numeric.multiply = moved.numeric.accumulate = quantization->type;
    countWork(graph, moved);
    replacements[*reshape] = {std::move(moved)};
  }
  if (quantization)
    replacements[*reader] = {};
  return true;
}

// A quantisation whose operand comes from a dequantisation with the same scale and zero point through kernels that only
// choose among the elements.
bool Rewriter::rewritePassage(size_t index) {
  std::optional<Quantization> quantization = matchQuantization(graph, graph.kernels[index]);
  if (!quantization)
    return false;
  auto isPassage = [&](const Kernel &kernel) {
    if (isReshape(kernel))
      return true;
    if (!kernel.structured() || kernel.reads.size() != 1 || kernel.writes.size() != 1 || !kernel.body.isIdentity() ||
        kernel.writes[0].initial)
      return false;
    double infinity = std::numeric_limits<double>::infinity();
    auto is = [](const std::optional<Scalar> &scalar, double value) {
      return scalar && doubleFromBits(scalar->type, scalar->bits) == value;
    };
    const std::optional<Scalar> &padding = kernel.reads[0].padding, &initial = kernel.writes[0].initialScalar;
    switch (kernel.writes[0].combiner) {
    case Combiner::None:
      return !padding;
    case Combiner::Maximum:
      return is(initial, -infinity) && (!padding || is(padding, -infinity));
    case Combiner::Minimum:
      return is(initial, infinity) && (!padding || is(padding, infinity));
    default:
      return false;
    }
  };
  std::vector<size_t> chain; // from the quantisation to the dequantisation
  ValueId value = graph.kernels[index].reads[0].value;
  while (!dequantized(value)) {
    std::optional<size_t> producer = uses.producers[value];
    if (!producer || !onlyReader(value) || replacements.count(*producer) || !isPassage(graph.kernels[*producer]))
      return false;
    chain.push_back(*producer);
    value = graph.kernels[*producer].reads[0].value;
  }
  const Dequantization &source = *dequantized(value);
  ElementType type = quantization->type;
  if (chain.empty() || !source.whole() || graph.values[source.source].type != type ||
      source.scale != quantization->scale || static_cast<double>(source.zero) != quantization->zero)
    return false;
  ValueId from = source.source;
  bool isSigned = type == ElementType::i8;
  for (size_t c = chain.size(); c-- > 0;) {
    Kernel kernel = graph.kernels[chain[c]];
    const Value before = graph.values[kernel.writes[0].value];
    kernel.reads[0].value = from;
    from = c == 0 ? quantization->result : addValue(before.name, type, before.shape);
    kernel.writes[0].value = from;
    Scalar extreme{type, kernel.writes[0].combiner == Combiner::Maximum ? (isSigned ? 0x80u : 0u)
                                                                        : (isSigned ? 0x7fu : 0xffu)};
    if (kernel.reads[0].padding)
      kernel.reads[0].padding = extreme;
    if (kernel.writes[0].initialScalar)
      kernel.writes[0].initialScalar = extreme;
    if (kernel.structured()) {
      BlockExpression body;
      body.inputs = {type};
      body.results = {body.append(BlockOpcode::Input, type, {}, 0)};
      kernel.body = std::move(body);
    }
    kernel.numeric = {type, type, type, Rounding::NearestEven};
    countWork(graph, kernel);
    replacements[chain[c]] = {std::move(kernel)};
  }
  replacements[index] = {};
  return true;
}

KernelGraph Rewriter::run() {
  for (const Kernel &kernel : graph.kernels)
    if (std::optional<Dequantization> found = matchDequantization(graph, kernel))
      dequantizations.emplace(kernel.writes[0].value, *found);
  if (dequantizations.empty())
    return std::move(graph);
  size_t count = graph.kernels.size();
  for (size_t k = 0; k < count; ++k)
    if (!rewriteContraction(k) && !replacements.count(k))
      rewritePassage(k);
  std::vector<Kernel> kernels;
  for (size_t k = 0; k < count; ++k) {
    auto replaced = replacements.find(k);
    if (replaced == replacements.end())
      kernels.push_back(std::move(graph.kernels[k]));
    else
      llvm::append_range(kernels, replaced->second);
  }
  graph.kernels = std::move(kernels);
  dropUnused(graph);
  return std::move(graph);
}

KernelGraph integerContractions(KernelGraph graph) {
  return Rewriter(std::move(graph)).run();
}

} // namespace quadrille::graph
