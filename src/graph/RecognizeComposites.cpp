#include "graph/RecognizeComposites.h"

#include "graph/CompositeRewriter.h"
#include "graph/RecognizeTransformers.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>
#include <cstring>
#include <tuple>

namespace quadrille::graph {

namespace {
using Axes = std::vector<int>; // the axis of the result for each dimension of a value; -1 for extent 1

// A term is a function of the index space of the result whose expression is built. Terms are unique: equal expressions
// have one number.
struct Term {
  enum Kind { Leaf, Constant, Operation, Reduction } kind = Leaf;
  ValueId value = noValue; // Leaf
  Axes axes;               // Leaf: of its dimensions; Reduction: those it runs over
  double constant = 0;
  BlockOpcode opcode = BlockOpcode::Input;
  Combiner combiner = Combiner::None;
  std::vector<unsigned> operands;

  auto key() const { return std::tie(kind, value, axes, constant, opcode, combiner, operands); }
  bool operator<(const Term &other) const { return key() < other.key(); }
};

// The expression of one value in terms of those before it, through elementwise kernels, reductions and reshapes that
// only add or drop extents of 1.
class Expression {
public:
  Expression(const CompositeRewriter &rewriter, const Shape &shape)
      : rewriter(rewriter), graph(rewriter.graph()), shape(shape) {}

  std::optional<unsigned> build(ValueId value) {
    Axes identity(shape.size());
    for (size_t d = 0; d < shape.size(); ++d)
      identity[d] = static_cast<int>(d);
    return termOf(value, identity);
  }

  const Term &operator[](unsigned id) const { return terms[id]; }
  size_t size() const { return terms.size(); }
  // A value that holds the term at every index of the result, if any does.
  std::optional<ValueId> valueOf(unsigned id) const {
    auto found = values.find(id);
    return found == values.end() ? std::nullopt : std::optional(found->second);
  }

  bool isOperation(unsigned id, BlockOpcode opcode) const {
    return terms[id].kind == Term::Operation && terms[id].opcode == opcode;
  }
  std::optional<double> constantOf(unsigned id) const {
    return terms[id].kind == Term::Constant ? std::optional(terms[id].constant) : std::nullopt;
  }
  // The factors of a product, however its multiplications nest; stops beyond `most`.
  void factorsOf(unsigned id, size_t most, std::vector<unsigned> &factors) const {
    if (factors.size() > most)
      return;
    if (!isOperation(id, BlockOpcode::Multiply)) {
      factors.push_back(id);
      return;
    }
    for (unsigned operand : terms[id].operands)
      factorsOf(operand, most, factors);
  }

private:
  // No pattern is deeper; residual sums, which lead from layer to layer, are. Both bound the work for each start.
  static constexpr unsigned deepest = 20, mostKernels = 256;

  unsigned add(Term term) {
    auto [entry, isNew] = numbers.try_emplace(term, static_cast<unsigned>(terms.size()));
    if (isNew)
      terms.push_back(std::move(term));
    return entry->second;
  }

  unsigned constant(double value) {
    Term term;
    term.kind = Term::Constant;
    term.constant = value;
    return add(term);
  }

  unsigned operation(BlockOpcode opcode, std::vector<unsigned> operands) {
    using Op = BlockOpcode;
    // One spelling for what exporters write in several ways.
    if (opcode == Op::Divide)
      return operation(Op::Multiply, {operands[0], operation(Op::Reciprocal, {operands[1]})});
    if (opcode == Op::ReciprocalSquareRoot)
      return operation(Op::Reciprocal, {operation(Op::SquareRoot, operands)});
    if (opcode == Op::Power && constantOf(operands[1]) == 2.0)
      return operation(Op::Multiply, {operands[0], operands[0]});
    if (opcode == Op::Power && constantOf(operands[1]) == 0.5)
      return operation(Op::SquareRoot, {operands[0]});
    if (opcode == Op::Reciprocal)
      if (std::optional<double> value = constantOf(operands[0]))
        return constant(1 / *value);
    if (opcode == Op::Multiply)
      for (unsigned i : {0u, 1u})
        if (constantOf(operands[i]) == 1.0)
          return operands[1 - i];
    if (opcode == Op::Add || opcode == Op::Multiply)
      llvm::sort(operands);
    Term term;
    term.kind = Term::Operation;
    term.opcode = opcode;
    term.operands = std::move(operands);
    return add(std::move(term));
  }

  unsigned leaf(ValueId value, const Axes &axes) {
    Term term;
    term.value = value;
    term.axes = axes;
    return add(std::move(term));
  }

  std::optional<unsigned> termOf(ValueId id, const Axes &axes) {
    auto [memo, isNew] = memoized.try_emplace({id, axes}, 0u);
    if (!isNew)
      return memo->second;
    const Value &value = graph.values[id];
    unsigned term = 0;
    if (value.splat()) {
      uint64_t bits = 0;
      std::memcpy(&bits, value.data.bytes().data(), byteWidth(value.type));
      term = isFloat(value.type) ? constant(doubleFromBits(value.type, bits)) : leaf(id, axes);
    } else {
      std::optional<unsigned> inner;
      const Kernel *producer = rewriter.producerOf(id);
      if (producer && depth < deepest && ++visited <= mostKernels) {
        ++depth;
        inner = producedTerm(*producer, axes);
        --depth;
      }
      term = inner ? *inner : leaf(id, axes);
    }
    memoized[{id, axes}] = term;
    bool whole = value.shape == shape;
    for (size_t d = 0; whole && d < axes.size(); ++d)
      whole = axes[d] == static_cast<int>(d);
    if (whole)
      values.try_emplace(term, id);
    return term;
  }

  std::optional<unsigned> producedTerm(const Kernel &kernel, const Axes &axes) {
    if (kernel.writes.size() != 1)
      return std::nullopt;
    if (!kernel.structured())
      return isReshape(kernel) ? reshapedTerm(kernel, axes) : std::nullopt;
    const Write &write = kernel.writes[0];
    std::vector<int> loopAxes(kernel.loops.size(), -1);
    for (auto [dimension, access] : llvm::enumerate(write.map))
      if (!access.terms.empty())
        loopAxes[access.terms[0].first] = axes[dimension];
    if (write.combiner == Combiner::None)
      return bodyTerm(kernel, loopAxes);

    if (kernel.kind != KernelKind::Reduce || !startsNeutral(write) || !assignReducedAxes(kernel, loopAxes))
      return std::nullopt;
    std::optional<unsigned> element = bodyTerm(kernel, loopAxes);
    if (!element)
      return std::nullopt;
    Term term;
    term.kind = Term::Reduction;
    term.combiner = write.combiner;
    term.operands = {*element};
    for (auto [loop, axis] : llvm::zip(kernel.loops, loopAxes))
      if (loop.reduction)
        term.axes.push_back(axis);
    llvm::sort(term.axes);
    return add(std::move(term));
  }

  static bool startsNeutral(const Write &write) {
    if (!write.initialScalar || !isFloat(write.initialScalar->type))
      return false;
    double initial = doubleFromBits(write.initialScalar->type, write.initialScalar->bits);
    if (write.combiner == Combiner::Sum)
      return initial == 0;
    return (write.combiner == Combiner::Maximum || write.combiner == Combiner::MaximumNumber) &&
           initial == -std::numeric_limits<double>::infinity();
  }

  // A reduction loop runs over the axis of the operand's dimension that it indexes, in operands of the result's rank.
  bool assignReducedAxes(const Kernel &kernel, std::vector<int> &loopAxes) const {
    for (const Read &read : kernel.reads)
      if (graph.values[read.value].shape == shape)
        for (auto [dimension, access] : llvm::enumerate(read.map))
          if (access.terms.size() == 1 && kernel.loops[access.terms[0].first].reduction)
            loopAxes[access.terms[0].first] = static_cast<int>(dimension);
    for (auto [loop, axis] : llvm::zip(kernel.loops, loopAxes))
      if (loop.reduction && axis < 0)
        return false;
    return true;
  }

  std::optional<unsigned> reshapedTerm(const Kernel &kernel, const Axes &axes) {
    ValueId source = kernel.reads[0].value;
    const Shape &from = graph.values[source].shape, &to = graph.values[kernel.writes[0].value].shape;
    std::vector<int> kept;
    Shape keptExtents;
    for (auto [extent, axis] : llvm::zip(to, axes))
      if (extent != 1) {
        kept.push_back(axis);
        keptExtents.push_back(extent);
      }
    Axes inner;
    size_t next = 0;
    for (int64_t extent : from) {
      if (extent != 1 && (next == kept.size() || keptExtents[next] != extent))
        return std::nullopt;
      inner.push_back(extent == 1 ? -1 : kept[next++]);
    }
    return next == kept.size() ? termOf(source, inner) : std::nullopt;
  }

  std::optional<unsigned> bodyTerm(const Kernel &kernel, llvm::ArrayRef<int> loopAxes) {
    std::vector<unsigned> registers;
    for (const BlockInstruction &instruction : kernel.body.instructions) {
      if (!isFloat(instruction.type))
        return std::nullopt;
      if (instruction.opcode == BlockOpcode::Input) {
        const Read &read = kernel.reads[instruction.immediate];
        std::optional<Axes> axes = read.padding ? std::nullopt : axesOf(read, kernel, loopAxes);
        std::optional<unsigned> term = axes ? termOf(read.value, *axes) : std::nullopt;
        if (!term)
          return std::nullopt;
        registers.push_back(*term);
      } else if (instruction.opcode == BlockOpcode::Constant) {
        registers.push_back(constant(doubleFromBits(instruction.type, instruction.immediate)));
      } else if (instruction.opcode == BlockOpcode::Convert) {
        registers.push_back(registers[instruction.operands[0]]);
      } else {
        std::vector<unsigned> operands;
        for (unsigned i = 0; i < operandCount(instruction.opcode); ++i)
          operands.push_back(registers[instruction.operands[i]]);
        if (operands.empty())
          return std::nullopt;
        registers.push_back(operation(instruction.opcode, std::move(operands)));
      }
    }
    return registers[kernel.body.results[0]];
  }

  // The axes that a read's dimensions follow, if each covers its dimension.
  std::optional<Axes> axesOf(const Read &read, const Kernel &kernel, llvm::ArrayRef<int> loopAxes) const {
    Axes axes;
    const Shape &extents = graph.values[read.value].shape;
    for (auto [access, extent] : llvm::zip(read.map, extents)) {
      if (access.offset != 0 || access.terms.size() > 1)
        return std::nullopt;
      if (access.terms.empty() || extent == 1) {
        if (extent != 1)
          return std::nullopt;
        // An extent of 1 is its own axis in a value of the result's shape, and none elsewhere.
        bool own = extents == shape && shape[axes.size()] == 1;
        axes.push_back(own ? static_cast<int>(axes.size()) : -1);
        continue;
      }
      auto [loop, coefficient] = access.terms[0];
      if (coefficient != 1 || kernel.loops[loop].extent != extent || loopAxes[loop] < 0)
        return std::nullopt;
      axes.push_back(loopAxes[loop]);
    }
    return axes;
  }

  const CompositeRewriter &rewriter;
  const KernelGraph &graph;
  const Shape &shape;
  unsigned visited = 0, depth = 0;
  std::vector<Term> terms;
  std::map<Term, unsigned> numbers;
  std::map<std::pair<ValueId, Axes>, unsigned> memoized;
  std::map<unsigned, ValueId> values;
};

class Matcher {
public:
  Matcher(const Expression &expression, unsigned root, const Shape &shape)
      : expression(expression), root(root), shape(shape) {}

  std::optional<CompositeMatch> match() {
    if (std::optional<CompositeMatch> found = softmax())
      return found;
    if (std::optional<CompositeMatch> found = layerNormalization())
      return found;
    if (std::optional<CompositeMatch> found = rmsNormalization())
      return found;
    if (std::optional<CompositeMatch> found = gatedLinearUnit())
      return found;
    return gelu();
  }

private:
  using Op = BlockOpcode;

  // The other operand of a commutative operation or product of two.
  static unsigned other(const Term &term, unsigned operand) { return term.operands[term.operands[0] == operand]; }

  bool isReduction(unsigned id, Combiner combiner) const {
    return expression[id].kind == Term::Reduction && expression[id].combiner == combiner;
  }

  std::optional<CompositeMatch> softmax() const {
    if (!expression.isOperation(root, Op::Multiply))
      return std::nullopt;
    for (unsigned inverse : expression[root].operands) {
      unsigned powers = other(expression[root], inverse);
      if (!expression.isOperation(inverse, Op::Reciprocal) || !expression.isOperation(powers, Op::Exp))
        continue;
      const Term &sum = expression[expression[inverse].operands[0]];
      if (!isReduction(expression[inverse].operands[0], Combiner::Sum) || sum.operands[0] != powers ||
          sum.axes.size() != 1)
        continue;
      unsigned shifted = expression[powers].operands[0];
      if (!expression.isOperation(shifted, Op::Subtract))
        continue;
      unsigned x = expression[shifted].operands[0], largest = expression[shifted].operands[1];
      std::optional<ValueId> operand = expression.valueOf(x);
      if (!operand || expression[largest].kind != Term::Reduction || expression[largest].combiner == Combiner::Sum ||
          expression[largest].operands[0] != x || expression[largest].axes != sum.axes)
        continue;
      return CompositeMatch{"softmax", {{"axis", static_cast<int64_t>(sum.axes[0])}}, {*operand}};
    }
    return std::nullopt;
  }

  // mean(y) = sum(y) * (1 / count); gives y and the axes.
  bool isMean(unsigned id, unsigned &element, Axes &axes) const {
    if (!expression.isOperation(id, Op::Multiply))
      return false;
    for (unsigned sum : expression[id].operands) {
      std::optional<double> scale = expression.constantOf(other(expression[id], sum));
      if (!scale || !isReduction(sum, Combiner::Sum))
        continue;
      double count = 1;
      for (int axis : expression[sum].axes)
        count *= static_cast<double>(shape[axis]);
      if (std::abs(*scale * count - 1) > 1e-3)
        continue;
      element = expression[sum].operands[0];
      axes = expression[sum].axes;
      return true;
    }
    return false;
  }

  // x - mean(x).
  bool isCentered(unsigned id, unsigned &x, Axes &axes) const {
    return expression.isOperation(id, Op::Subtract) && isMean(expression[id].operands[1], x, axes) &&
           x == expression[id].operands[0];
  }

  // 1 / sqrt(mean(x^2) + epsilon); gives the axes.
  bool isInverseRootMeanSquare(unsigned id, unsigned x, Axes &axes, double &epsilon) const {
    if (!expression.isOperation(id, Op::Reciprocal))
      return false;
    unsigned root = expression[id].operands[0];
    if (!expression.isOperation(root, Op::SquareRoot) || !expression.isOperation(expression[root].operands[0], Op::Add))
      return false;
    const Term &sum = expression[expression[root].operands[0]];
    for (unsigned variance : sum.operands) {
      std::optional<double> added = expression.constantOf(other(sum, variance));
      unsigned square = 0;
      Axes over;
      if (!added || !isMean(variance, square, over) || !expression.isOperation(square, Op::Multiply) ||
          expression[square].operands != std::vector<unsigned>{x, x})
        continue;
      epsilon = *added;
      axes = over;
      return true;
    }
    return false;
  }

  // The last axes, all of them from the first on.
  bool areLast(const Axes &axes) const {
    int rank = static_cast<int>(shape.size());
    return axes.back() == rank - 1 && axes.front() == rank - static_cast<int>(axes.size());
  }

  // What `match` finds in the first order of the two or three factors of a product in which it finds anything.
  using MatchFactors = llvm::function_ref<std::optional<CompositeMatch>(llvm::ArrayRef<unsigned>)>;
  std::optional<CompositeMatch> inAnyOrder(unsigned product, MatchFactors match) const {
    std::vector<unsigned> factors;
    expression.factorsOf(product, 3, factors);
    if (factors.size() != 2 && factors.size() != 3)
      return std::nullopt;
    llvm::sort(factors);
    do {
      if (std::optional<CompositeMatch> found = match(factors))
        return found;
    } while (std::next_permutation(factors.begin(), factors.end()));
    return std::nullopt;
  }

  // x / sqrt(mean(x^2) + epsilon) * scale; a scale of ones, as models start from, is no factor of the expression.
  std::optional<CompositeMatch> rmsNormalization() const {
    return inAnyOrder(root, [&](llvm::ArrayRef<unsigned> factors) -> std::optional<CompositeMatch> {
      Axes axes;
      double epsilon = 0;
      if (!isInverseRootMeanSquare(factors[1], factors[0], axes, epsilon) || !areLast(axes))
        return std::nullopt;
      std::optional<ValueId> operand = expression.valueOf(factors[0]), scale;
      if (factors.size() == 3)
        scale = parameter(factors[2], axes);
      if (!operand || (factors.size() == 3 && (!scale || *scale == *operand)))
        return std::nullopt;
      CompositeMatch match{
          "rms_normalization", {{"axis", static_cast<int64_t>(axes.front())}, {"epsilon", epsilon}}, {*operand}};
      if (scale)
        match.operands.push_back(*scale);
      return match;
    });
  }

  // 1 / (1 + exp(-x)).
  bool isSigmoid(unsigned id, unsigned x) const {
    if (!expression.isOperation(id, Op::Reciprocal))
      return false;
    unsigned sum = expression[id].operands[0];
    if (!expression.isOperation(sum, Op::Add))
      return false;
    for (unsigned power : expression[sum].operands)
      if (expression.constantOf(other(expression[sum], power)) == 1.0 && expression.isOperation(power, Op::Exp) &&
          expression.isOperation(expression[power].operands[0], Op::Negate) &&
          expression[expression[power].operands[0]].operands[0] == x)
        return true;
    return false;
  }

  // x sigmoid(x), alone (SiLU) or times something else (SwiGLU; Shazeer, arXiv:2002.05202).
  std::optional<CompositeMatch> gatedLinearUnit() const {
    return inAnyOrder(root, [&](llvm::ArrayRef<unsigned> factors) -> std::optional<CompositeMatch> {
      std::optional<ValueId> gate = expression.valueOf(factors[0]);
      if (!gate || !isSigmoid(factors[1], factors[0]))
        return std::nullopt;
      if (factors.size() == 2)
        return CompositeMatch{"silu", {}, {*gate}};
      if (std::optional<ValueId> up = expression.valueOf(factors[2]); up && *up != *gate)
        return CompositeMatch{"swiglu", {}, {*gate, *up}};
      return std::nullopt;
    });
  }

  // A value over exactly the given axes.
  std::optional<ValueId> parameter(unsigned id, const Axes &axes) const {
    const Term &term = expression[id];
    return term.kind == Term::Leaf && term.axes == axes ? std::optional(term.value) : std::nullopt;
  }

  std::optional<CompositeMatch> layerNormalization() const {
    if (!expression.isOperation(root, Op::Add))
      return std::nullopt;
    for (unsigned product : expression[root].operands) {
      auto match = [&](llvm::ArrayRef<unsigned> factors) -> std::optional<CompositeMatch> {
        unsigned x = 0;
        Axes axes, over;
        double epsilon = 0;
        if (factors.size() != 3 || !isCentered(factors[0], x, axes) ||
            !isInverseRootMeanSquare(factors[1], factors[0], over, epsilon) || over != axes)
          return std::nullopt;
        std::optional<ValueId> scale = parameter(factors[2], axes);
        std::optional<ValueId> shift = parameter(other(expression[root], product), axes);
        std::optional<ValueId> operand = expression.valueOf(x);
        if (areLast(axes) && scale && shift && operand && *scale != *shift && *operand != *scale && *operand != *shift)
          return CompositeMatch{"layer_normalization",
                                {{"axis", static_cast<int64_t>(axes.front())}, {"epsilon", epsilon}},
                                {*operand, *scale, *shift}};
        return std::nullopt;
      };
      if (std::optional<CompositeMatch> found = inAnyOrder(product, match))
        return found;
    }
    return std::nullopt;
  }

  // Evaluates the root with `variable` = x; NaN where it depends on anything else. Operands come before what uses them.
  double evaluate(unsigned variable, double x) const {
    std::vector<double> results(root + 1, std::numeric_limits<double>::quiet_NaN());
    for (unsigned id = 0; id <= root; ++id) {
      const Term &term = expression[id];
      if (id == variable)
        results[id] = x;
      else if (term.kind == Term::Constant)
        results[id] = term.constant;
      if (id == variable || term.kind != Term::Operation)
        continue;
      auto operand = [&](unsigned i) { return results[term.operands[i]]; };
      switch (term.opcode) {
      case Op::Add:
        results[id] = operand(0) + operand(1);
        break;
      case Op::Subtract:
        results[id] = operand(0) - operand(1);
        break;
      case Op::Multiply:
        results[id] = operand(0) * operand(1);
        break;
      case Op::Reciprocal:
        results[id] = 1 / operand(0);
        break;
      case Op::Power:
        results[id] = std::pow(operand(0), operand(1));
        break;
      case Op::Negate:
        results[id] = -operand(0);
        break;
      case Op::Erf:
        results[id] = std::erf(operand(0));
        break;
      case Op::Tanh:
        results[id] = std::tanh(operand(0));
        break;
      default:
        break;
      }
    }
    return results[root];
  }

  // There are many ways to write it, with one variable: what agrees with the function at points all over its range is
  // it. The tolerance allows for constants that were rounded to 16 bits.
  std::optional<CompositeMatch> gelu() const {
    if (!expression.isOperation(root, Op::Multiply))
      return std::nullopt;
    bool hasErf = false, hasTanh = false;
    for (unsigned id = 0; id < expression.size(); ++id) {
      hasErf |= expression.isOperation(id, Op::Erf);
      hasTanh |= expression.isOperation(id, Op::Tanh);
    }
    if (hasErf == hasTanh)
      return std::nullopt;
    for (unsigned variable = 0; variable < expression.size(); ++variable) {
      std::optional<ValueId> operand = expression.valueOf(variable);
      if (!operand || variable == root)
        continue;
      bool agrees = true;
      for (double x : {-5.0, -2.5, -1.3, -0.7, -0.2, 0.1, 0.4, 0.9, 1.7, 2.9, 5.5}) {
        double cubic = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
        double expected = 0.5 * x * (1 + (hasErf ? std::erf(x / std::sqrt(2.0)) : std::tanh(cubic)));
        agrees = agrees && std::abs(evaluate(variable, x) - expected) <= 1e-3 * std::abs(expected) + 1e-5;
      }
      if (agrees)
        return CompositeMatch{"gelu", {{"approximate", std::string(hasErf ? "none" : "tanh")}}, {*operand}};
    }
    return std::nullopt;
  }

  const Expression &expression;
  unsigned root;
  const Shape &shape;
};

} // namespace

KernelGraph recognizeComposites(KernelGraph graph) {
  CompositeRewriter rewriter(std::move(graph));
  const KernelGraph &original = rewriter.graph();
  // From the end, so that the largest expression is seen first.
  for (size_t last = original.kernels.size(); last-- > 0;) {
    const Kernel &kernel = original.kernels[last];
    if (rewriter.isReplaced(last) || kernel.kind != KernelKind::Map || kernel.writes.size() != 1)
      continue;
    ValueId result = kernel.writes[0].value;
    const Shape &shape = original.values[result].shape;
    Expression expression(rewriter, shape);
    std::optional<unsigned> root = expression.build(result);
    if (std::optional<CompositeMatch> match = root ? Matcher(expression, *root, shape).match() : std::nullopt)
      rewriter.replace(last, *match);
  }
  return recognizeTransformers(std::move(rewriter).finish());
}

} // namespace quadrille::graph
