#include "graph/RecognizeTransformers.h"

#include "graph/CompositeRewriter.h"
#include "graph/Contraction.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <cmath>

namespace quadrille::graph {

namespace {

bool isMap(const Kernel *kernel) {
  return kernel && kernel->structured() && kernel->writes.size() == 1 && kernel->writes[0].combiner == Combiner::None &&
         llvm::none_of(kernel->loops, [](const Loop &loop) { return loop.reduction; });
}

// Whether a read takes the element of the kernel's own result.
bool isOwnElement(const KernelGraph &graph, const Kernel &kernel, const Read &read) {
  return !read.padding && read.map == kernel.writes[0].map &&
         graph.values[read.value].shape == graph.values[kernel.writes[0].value].shape;
}

// A map that applies one instruction to its reads: gives the reads in the instruction's order.
std::optional<llvm::SmallVector<unsigned, 2>> operandsOf(const Kernel *kernel, BlockOpcode opcode) {
  if (!isMap(kernel))
    return std::nullopt;
  const BlockExpression &body = kernel->body;
  const BlockInstruction &result = body.instructions[body.results[0]];
  if (result.opcode != opcode)
    return std::nullopt;
  llvm::SmallVector<unsigned, 2> reads;
  for (unsigned o = 0; o < operandCount(opcode); ++o) {
    const BlockInstruction &operand = body.instructions[result.operands[o]];
    if (operand.opcode != BlockOpcode::Input)
      return std::nullopt;
    reads.push_back(static_cast<unsigned>(operand.immediate));
  }
  return reads;
}

// A product with a constant, or a quotient by one: the factor.
std::optional<double> constantFactor(const Kernel *kernel) {
  if (!isMap(kernel) || kernel->reads.size() != 1)
    return std::nullopt;
  const BlockExpression &body = kernel->body;
  const BlockInstruction &result = body.instructions[body.results[0]];
  bool divides = result.opcode == BlockOpcode::Divide;
  if (!divides && result.opcode != BlockOpcode::Multiply)
    return std::nullopt;
  const BlockInstruction *first = &body.instructions[result.operands[0]],
                         *second = &body.instructions[result.operands[1]];
  if (!divides && first->opcode == BlockOpcode::Constant)
    std::swap(first, second);
  if (first->opcode != BlockOpcode::Input || second->opcode != BlockOpcode::Constant || !isFloat(second->type))
    return std::nullopt;
  double value = doubleFromBits(second->type, second->immediate);
  return divides ? 1 / value : value;
}

// Elements `offset`, `offset` + `step`, ... along the last axis of a value; the other axes as they are.
struct Part {
  ValueId whole = noValue;
  int64_t offset = 0, step = 1;
};

class Recognizer {
public:
  explicit Recognizer(KernelGraph graph) : rewriter(std::move(graph)), graph(rewriter.graph()) {}

  KernelGraph run() {
    for (size_t last = graph.kernels.size(); last-- > 0;) {
      if (rewriter.isReplaced(last) || graph.kernels[last].writes.size() != 1)
        continue;
      if (std::optional<CompositeMatch> match = attention(last))
        rewriter.replace(last, *match);
      else if (std::optional<CompositeMatch> match = rotary(last))
        rewriter.replace(last, *match);
    }
    return std::move(rewriter).finish();
  }

private:
  const Kernel *producerOf(ValueId value) const { return rewriter.producerOf(value); }

  std::optional<Part> partOf(ValueId value) const {
    const Kernel *slice = producerOf(value);
    if (!isMap(slice) || slice->reads.size() != 1 || !slice->body.isIdentity() || slice->reads[0].padding)
      return std::nullopt;
    const Read &read = slice->reads[0];
    const Shape &from = graph.values[read.value].shape, &to = graph.values[value].shape;
    if (from.size() != to.size() || from.empty() || from.back() != 2 * to.back())
      return std::nullopt;
    for (size_t d = 0; d + 1 < to.size(); ++d)
      if (from[d] != to[d] || read.map[d] != slice->writes[0].map[d])
        return std::nullopt;
    const DimensionAccess &last = read.map.back(), &written = slice->writes[0].map.back();
    if (last.terms.size() != 1 || written.terms.size() != 1 || last.terms[0].first != written.terms[0].first)
      return std::nullopt;
    return Part{read.value, last.offset, last.terms[0].second};
  }
  // The two parts of one value, in this order.
  bool areHalves(ValueId first, ValueId second, Part &part) const {
    std::optional<Part> a = partOf(first), b = partOf(second);
    if (!a || !b || a->whole != b->whole || a->step != b->step || a->offset != 0)
      return false;
    part = *a;
    int64_t half = graph.values[first].shape.back();
    return (a->step == 1 && b->offset == half) || (a->step == 2 && b->offset == 1);
  }

  // The two operands of a product or sum as values, in any order that `accept` takes.
  template <typename Accept> bool eitherWay(const Kernel *kernel, BlockOpcode opcode, const Accept &accept) const {
    auto reads = operandsOf(kernel, opcode);
    if (!reads)
      return false;
    ValueId a = kernel->reads[(*reads)[0]].value, b = kernel->reads[(*reads)[1]].value;
    return accept(a, b) || accept(b, a);
  }

  std::optional<CompositeMatch> rotary(size_t last) const {
    const Kernel *kernel = &graph.kernels[last];
    CompositeMatch match{"rotary_embedding", {}, {}};
    if (isMap(kernel) ? rotatedHalf(kernel, match) : rotatedParts(kernel, match))
      return match;
    return std::nullopt;
  }

  // x cos + concat(-second, first) sin.
  bool rotatedHalf(const Kernel *kernel, CompositeMatch &match) const {
    return eitherWay(kernel, BlockOpcode::Add, [&](ValueId plain, ValueId turned) {
      return eitherWay(producerOf(plain), BlockOpcode::Multiply, [&](ValueId x, ValueId cosine) {
        return eitherWay(producerOf(turned), BlockOpcode::Multiply, [&](ValueId joined, ValueId sine) {
          const Kernel *concat = producerOf(joined);
          if (!isConcat(concat, joined) || concat->reads.size() != 2)
            return false;
          auto negated = operandsOf(producerOf(concat->reads[0].value), BlockOpcode::Negate);
          Part part;
          if (!negated ||
              !areHalves(concat->reads[1].value, producerOf(concat->reads[0].value)->reads[(*negated)[0]].value,
                         part) ||
              part.whole != x || part.step != 1)
            return false;
          match.attributes["interleaved"] = int64_t(0);
          match.operands = {x, cosine, sine};
          return cosine != sine;
        });
      });
    });
  }

  // concat(first cos - second sin, second cos + first sin); interleaved parts are joined as pairs and reshaped.
  bool rotatedParts(const Kernel *kernel, CompositeMatch &match) const {
    const Kernel *concat = kernel;
    bool pairs = false;
    if (isReshape(kernel)) {
      concat = producerOf(kernel->reads[0].value);
      pairs = true;
    }
    if (!concat || concat->reads.size() != 2 || !isConcat(concat, concat->writes[0].value))
      return false;
    auto joined = [&](unsigned index) {
      ValueId value = concat->reads[index].value;
      const Kernel *reshape = producerOf(value);
      return pairs && isReshape(reshape) ? reshape->reads[0].value : value;
    };
    const Kernel *left = producerOf(joined(0)), *right = producerOf(joined(1));
    auto difference = operandsOf(left, BlockOpcode::Subtract);
    if (!difference)
      return false;
    return eitherWay(
        producerOf(left->reads[(*difference)[0]].value), BlockOpcode::Multiply, [&](ValueId first, ValueId cosine) {
          return eitherWay(producerOf(left->reads[(*difference)[1]].value), BlockOpcode::Multiply,
                           [&](ValueId second, ValueId sine) {
                             Part part;
                             if (cosine == sine || !areHalves(first, second, part) || (part.step == 2) != pairs)
                               return false;
                             auto isProduct = [&](ValueId product, ValueId a, ValueId b) {
                               return eitherWay(producerOf(product), BlockOpcode::Multiply,
                                                [&](ValueId x, ValueId y) { return x == a && y == b; });
                             };
                             bool sums = eitherWay(right, BlockOpcode::Add, [&](ValueId a, ValueId b) {
                               return isProduct(a, second, cosine) && isProduct(b, first, sine);
                             });
                             match.attributes["interleaved"] = int64_t(pairs);
                             match.operands = {part.whole, cosine, sine};
                             return sums;
                           });
        });
  }

  static bool isReshape(const Kernel *kernel) {
    return kernel && !kernel->structured() && kernel->operation == "reshape";
  }
  // Joins along the last axis.
  bool isConcat(const Kernel *kernel, ValueId result) const {
    if (!kernel || kernel->structured() || kernel->operation != "concat")
      return false;
    auto axis = kernel->attributes.find("axis");
    return axis != kernel->attributes.end() && std::holds_alternative<int64_t>(axis->second) &&
           std::get<int64_t>(axis->second) + 1 == static_cast<int64_t>(graph.values[result].shape.size());
  }

  // The probabilities that a product with the values reads: a softmax over the last axis, whose rows may have been made
  // zero where they are not numbers.
  const Kernel *softmaxBehind(ValueId probabilities) const {
    const Kernel *kernel = producerOf(probabilities);
    for (unsigned guards = 0; kernel && guards < 3; ++guards) {
      if (kernel->kind == KernelKind::Composite && kernel->operation == "softmax") {
        auto axis = kernel->attributes.find("axis");
        bool isLast = axis != kernel->attributes.end() && std::holds_alternative<int64_t>(axis->second) &&
                      std::get<int64_t>(axis->second) + 1 ==
                          static_cast<int64_t>(graph.values[kernel->writes[0].value].shape.size());
        return isLast ? kernel : nullptr;
      }
      if (!isMap(kernel))
        return nullptr;
      const Kernel *next = nullptr; // what the float operand of the guard comes from
      for (const Read &read : kernel->reads)
        if (isOwnElement(graph, *kernel, read) && isFloat(graph.values[read.value].type))
          next = producerOf(read.value);
      kernel = next;
    }
    return nullptr;
  }

  std::optional<CompositeMatch> attention(size_t last) const {
    const Kernel &context = graph.kernels[last];
    std::optional<Contraction> second = inferContraction(graph, context);
    if (!second || second->isConvolution() || context.writes[0].initial)
      return std::nullopt;
    const Kernel *softmax = softmaxBehind(context.reads[second->lhs].value);
    if (!softmax)
      return std::nullopt;
    // From the softmax back to the product of queries and keys, through factors and masks.
    CompositeMatch match{"attention", {}, {}};
    double scale = 1;
    bool causal = false;
    std::vector<ValueId> masks;
    ValueId value = softmax->reads[0].value;
    const Kernel *scores = producerOf(value);
    for (unsigned steps = 0; scores && scores->kind != KernelKind::Contract; ++steps) {
      if (steps == 5 || !isMap(scores))
        return std::nullopt;
      std::optional<ValueId> next;
      if (std::optional<double> factor = constantFactor(scores))
        scale *= *factor;
      for (const Read &read : scores->reads) {
        if (!next && isFloat(graph.values[read.value].type) && isOwnElement(graph, *scores, read) &&
            producerOf(read.value) && !isMaskAlone(read.value)) {
          next = read.value;
          continue;
        }
        masks.push_back(read.value);
        causal |= hidesLaterKeys(*scores, read);
      }
      if (!next)
        return std::nullopt;
      value = *next;
      scores = producerOf(value);
    }
    std::optional<Contraction> first = scores ? inferContraction(graph, *scores) : std::nullopt;
    if (!first || first->isConvolution() || scores->writes[0].initial)
      return std::nullopt;
    auto unscaled = [&](ValueId operand) {
      if (std::optional<double> factor = constantFactor(producerOf(operand))) {
        scale *= *factor;
        return producerOf(operand)->reads[0].value;
      }
      return operand;
    };
    match.operands = {unscaled(scores->reads[first->lhs].value), unscaled(scores->reads[first->rhs].value),
                      context.reads[second->rhs].value};
    for (ValueId mask : masks)
      if (!llvm::is_contained(match.operands, mask) && graph.values[mask].role != ValueRole::Constant)
        match.operands.push_back(mask);
    match.attributes["scale"] = scale;
    match.attributes["causal"] = int64_t(causal);
    return match;
  }

  // A value that no product is behind within a few kernels: a mask and not the scores.
  bool isMaskAlone(ValueId value) const {
    for (unsigned steps = 0; steps < 6; ++steps) {
      const Kernel *kernel = producerOf(value);
      if (!kernel)
        return true;
      if (kernel->kind == KernelKind::Contract)
        return false;
      const Read *float32 = nullptr;
      for (const Read &read : kernel->reads)
        if (isFloat(graph.values[read.value].type) &&
            graph.values[read.value].shape == graph.values[kernel->writes[0].value].shape && producerOf(read.value))
          float32 = &read;
      if (!float32)
        return true;
      value = float32->value;
    }
    return true;
  }

  // A constant [..., queries, keys] that is false, or very negative, exactly where the key comes after the query;
  // queries are the last ones where there are fewer of them than keys.
  bool hidesLaterKeys(const Kernel &scores, const Read &read) const {
    const Value &mask = graph.values[read.value];
    const Shape &shape = graph.values[scores.writes[0].value].shape;
    if (mask.role != ValueRole::Constant || !mask.data.valid() || shape.size() < 2 || mask.shape.size() < 2)
      return false;
    int64_t queries = shape[shape.size() - 2], keys = shape.back();
    if (elementCount(mask.shape) != queries * keys || mask.shape.back() != keys || queries > keys ||
        (mask.type != ElementType::boolean && mask.type != ElementType::f32))
      return false;
    // To f32, true to 1; a copy, as weights that lie in a file are not aligned.
    std::vector<float> elements(static_cast<size_t>(queries * keys));
    convert(mask.type, mask.data.bytes().data(), ElementType::f32, elements.data(), elements.size());
    bool chooses = mask.type == ElementType::boolean;
    for (int64_t q = 0; q < queries; ++q)
      for (int64_t k = 0; k < keys; ++k) {
        float element = elements[static_cast<size_t>(q * keys + k)];
        bool later = k > q + (keys - queries);
        bool hidden = chooses ? element == 0 : element < -1e4F;
        if (hidden != later || (!hidden && !chooses && element != 0))
          return false;
      }
    return true;
  }

  CompositeRewriter rewriter;
  const KernelGraph &graph;
};

} // namespace

KernelGraph recognizeTransformers(KernelGraph graph) {
  return Recognizer(std::move(graph)).run();
}

} // namespace quadrille::graph
