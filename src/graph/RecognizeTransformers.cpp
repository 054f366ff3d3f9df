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
  return kernel && isElementwise(*kernel);
}

// A map that applies one instruction to its reads: these in the instruction's order.
std::optional<llvm::SmallVector<unsigned, 2>> readsUnder(const Kernel *kernel, BlockOpcode opcode) {
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

// A map that chooses between a read and a constant by another read.
struct Selection {
  const Read *condition, *value;
  double constant;
};
// `constant` is the constant's place among the operands of the select: 1 where the condition is true, 2 elsewhere.
std::optional<Selection> selectionOf(const Kernel &kernel, unsigned constant) {
  const BlockExpression &body = kernel.body;
  const BlockInstruction &select = body.instructions[body.results[0]];
  if (select.opcode != BlockOpcode::Select)
    return std::nullopt;
  auto operand = [&](unsigned o) -> const BlockInstruction & { return body.instructions[select.operands[o]]; };
  const BlockInstruction &condition = operand(0), &value = operand(3 - constant), &other = operand(constant);
  if (condition.opcode != BlockOpcode::Input || value.opcode != BlockOpcode::Input ||
      other.opcode != BlockOpcode::Constant)
    return std::nullopt;
  return Selection{&kernel.reads[condition.immediate], &kernel.reads[value.immediate],
                   doubleFromBits(other.type, other.immediate)};
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
    auto reads = readsUnder(kernel, opcode);
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
          if (!joinsTwo(concat))
            return false;
          auto negated = readsUnder(producerOf(concat->reads[0].value), BlockOpcode::Negate);
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
    if (isReshape(*kernel)) {
      concat = producerOf(kernel->reads[0].value);
      pairs = true;
    }
    if (!joinsTwo(concat))
      return false;
    auto joined = [&](unsigned index) {
      ValueId value = concat->reads[index].value;
      const Kernel *reshape = producerOf(value);
      return pairs && reshape && isReshape(*reshape) ? reshape->reads[0].value : value;
    };
    const Kernel *left = producerOf(joined(0)), *right = producerOf(joined(1));
    auto difference = readsUnder(left, BlockOpcode::Subtract);
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

  bool worksAlongLastAxis(const Kernel &kernel) const {
    std::optional<int64_t> axis = integerAttribute(kernel, "axis");
    return axis && *axis + 1 == static_cast<int64_t>(graph.values[kernel.writes[0].value].shape.size());
  }
  // Joins two values along the last axis.
  bool joinsTwo(const Kernel *kernel) const {
    return kernel && !kernel->structured() && kernel->operation == "concat" && kernel->reads.size() == 2 &&
           worksAlongLastAxis(*kernel);
  }

  // The probabilities that a product with the values reads: a softmax over the last axis, whose rows may have been made
  // zero where they are not numbers.
  const Kernel *softmaxBehind(ValueId probabilities) const {
    const Kernel *kernel = producerOf(probabilities);
    if (isMap(kernel)) {
      std::optional<ValueId> guarded = withoutNans(*kernel);
      kernel = guarded ? producerOf(*guarded) : nullptr;
    }
    bool isSoftmax = kernel && kernel->kind == KernelKind::Composite && kernel->operation == "softmax";
    return isSoftmax && worksAlongLastAxis(*kernel) ? kernel : nullptr;
  }

  // x of where(is_nan(x), 0, x).
  std::optional<ValueId> withoutNans(const Kernel &kernel) const {
    std::optional<Selection> select = selectionOf(kernel, /*constant=*/1);
    if (!select || select->constant != 0 || !readsOwnElement(graph, kernel, *select->condition) ||
        !readsOwnElement(graph, kernel, *select->value))
      return std::nullopt;
    const Kernel *test = producerOf(select->condition->value);
    auto tested = readsUnder(test, BlockOpcode::IsNan);
    if (!tested) // or x != x
      if (tested = readsUnder(test, BlockOpcode::NotEqual); tested && (*tested)[0] != (*tested)[1])
        return std::nullopt;
    ValueId x = select->value->value;
    bool same =
        tested && test->reads[(*tested)[0]].value == x && readsOwnElement(graph, *test, test->reads[(*tested)[0]]);
    return same ? std::optional(x) : std::nullopt;
  }

  // One step from scores that are masked to those that are not yet.
  struct Masking {
    ValueId scores = noValue;
    const Read *mask = nullptr;
    const char *how = "add"; // "keep": scores where the mask is true; "hide": where it is false
  };
  std::optional<Masking> maskingOf(const Kernel &kernel) const {
    if (auto reads = readsUnder(&kernel, BlockOpcode::Add)) {
      for (unsigned own : {0u, 1u}) {
        const Read &scores = kernel.reads[(*reads)[own]], &mask = kernel.reads[(*reads)[1 - own]];
        if (readsOwnElement(graph, kernel, scores) && producerOf(scores.value) && !isMaskAlone(scores.value) &&
            !mask.padding)
          return Masking{scores.value, &mask, "add"};
      }
      return std::nullopt;
    }
    for (unsigned constant : {2u, 1u}) {
      std::optional<Selection> select = selectionOf(kernel, constant);
      if (select && select->constant < veryNegative && readsOwnElement(graph, kernel, *select->value) &&
          !select->condition->padding)
        return Masking{select->value->value, select->condition, constant == 2 ? "keep" : "hide"};
    }
    return std::nullopt;
  }

  std::optional<CompositeMatch> attention(size_t last) const {
    const Kernel &context = graph.kernels[last];
    std::optional<Contraction> second = inferContraction(graph, context);
    if (!second || second->isConvolution() || context.writes[0].initial)
      return std::nullopt;
    const Kernel *softmax = softmaxBehind(context.reads[second->lhs].value);
    if (!softmax)
      return std::nullopt;
    // From the softmax back to the product of queries and keys: masks, then factors. Whatever else is done to the
    // scores, or a factor over a mask, is not what the name says.
    double scale = 1;
    bool causal = false, scaled = false;
    std::vector<ValueId> masks;
    std::vector<std::string> how;
    ValueId value = softmax->reads[0].value;
    const Kernel *scores = producerOf(value);
    for (unsigned steps = 0; scores && scores->kind != KernelKind::Contract; ++steps) {
      if (steps == 5 || !isMap(scores))
        return std::nullopt;
      if (std::optional<double> factor = constantFactor(scores)) {
        if (!readsOwnElement(graph, *scores, scores->reads[0]))
          return std::nullopt;
        scale *= *factor;
        scaled = true;
        value = scores->reads[0].value;
      } else {
        std::optional<Masking> masking = maskingOf(*scores);
        if (!masking || scaled)
          return std::nullopt;
        if (hidesLaterKeys(*scores, *masking)) {
          causal = true;
        } else {
          masks.push_back(masking->mask->value);
          how.push_back(masking->how);
        }
        value = masking->scores;
      }
      scores = producerOf(value);
    }
    std::optional<Contraction> first = scores ? inferContraction(graph, *scores) : std::nullopt;
    if (!first || first->isConvolution() || scores->writes[0].initial)
      return std::nullopt;
    auto unscaled = [&](ValueId operand) {
      const Kernel *kernel = producerOf(operand);
      std::optional<double> factor = constantFactor(kernel);
      if (!factor || !readsOwnElement(graph, *kernel, kernel->reads[0]))
        return operand;
      scale *= *factor;
      return kernel->reads[0].value;
    };
    const Read &keys = scores->reads[first->rhs];
    // The last dimension of the keys is what the product sums over, or the positions.
    bool sumsLast = llvm::any_of(keys.map.back().terms, [&](auto term) { return scores->loops[term.first].reduction; });
    CompositeMatch match{"attention", {}, {}};
    match.operands = {unscaled(scores->reads[first->lhs].value), unscaled(keys.value),
                      context.reads[second->rhs].value};
    for (ValueId mask : masks) {
      if (llvm::is_contained(match.operands, mask))
        return std::nullopt;
      match.operands.push_back(mask);
    }
    match.attributes["scale"] = scale;
    match.attributes["causal"] = int64_t(causal);
    match.attributes["masks"] = std::move(how);
    match.attributes["transposed_keys"] = int64_t(!sumsLast);
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

  // Whether a constant [..., queries, keys] hides exactly the keys that come after each query and changes no other
  // score; queries are the last ones where there are fewer of them than keys.
  bool hidesLaterKeys(const Kernel &scores, const Masking &masking) const {
    const Value &mask = graph.values[masking.mask->value];
    const Shape &shape = graph.values[scores.writes[0].value].shape;
    bool adds = llvm::StringRef(masking.how) == "add", keeps = llvm::StringRef(masking.how) == "keep";
    if (mask.role != ValueRole::Constant || !mask.data.valid() || shape.size() < 2 || mask.shape.size() < 2 ||
        mask.type != (adds ? ElementType::f32 : ElementType::boolean))
      return false;
    int64_t queries = shape[shape.size() - 2], keys = shape.back();
    const AccessMap &map = masking.mask->map, &own = scores.writes[0].map;
    if (elementCount(mask.shape) != queries * keys || mask.shape.back() != keys || queries > keys ||
        map.back() != own.back() || map[map.size() - 2] != own[own.size() - 2])
      return false;
    std::vector<float> elements = valuesOf<float>(mask.data); // true is 1
    for (int64_t q = 0; q < queries; ++q)
      for (int64_t k = 0; k < keys; ++k) {
        float element = elements[static_cast<size_t>(q * keys + k)];
        bool isLater = k > q + (keys - queries);
        bool isHidden = adds ? element < veryNegative : (element != 0) != keeps;
        if (isHidden != isLater || (adds && !isHidden && element != 0))
          return false;
      }
    return true;
  }

  // What is added to a score, or put in its place, to leave nothing of it after the exponential.
  static constexpr double veryNegative = -1e4;

  CompositeRewriter rewriter;
  const KernelGraph &graph;
};

} // namespace

KernelGraph recognizeTransformers(KernelGraph graph) {
  return Recognizer(std::move(graph)).run();
}

} // namespace quadrille::graph
