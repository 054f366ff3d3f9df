// Products of matrices and tensors: every one a sum of products over a loop nest.
#include "graph/import/Product.h"

#include "llvm/ADT/StringExtras.h"

namespace quadrille::graph::importer {

Numeric productNumeric(ElementType storage, ElementType accumulate) {
  Numeric numeric;
  numeric.storage = storage;
  numeric.multiply = accumulate;
  numeric.accumulate = accumulate;
  return numeric;
}

TensorRef sumOfProducts(Emitter &c, Nest nest) {
  ElementType type = nest.reads[0].tensor.type();
  nest.combiner = Combiner::Sum;
  nest.numeric = productNumeric(type, Emitter::accumulatorOf(type));
  return c.nest(nest, [](llvm::ArrayRef<Lane> x) { return x[0] * x[1]; });
}

// The maps of numpy.matmul over loops [batch..., m, n, k]; `m` and `n` are absent for vectors.
Nest matrixProduct(TensorRef a, TensorRef b, llvm::StringRef operation) {
  if (a.rank() == 0 || b.rank() == 0)
    refuse("an operand is a scalar");
  int64_t k = a.dim(-1), kOfB = b.rank() == 1 ? b.dim(0) : b.dim(-2);
  if (k != kOfB)
    refuse("operands of shapes " + shapeText(a.shape()) + " and " + shapeText(b.shape()) +
           " do not contract: " + llvm::Twine(k) + " columns meet " + llvm::Twine(kOfB) + " rows");
  llvm::ArrayRef<int64_t> batchOfA = llvm::ArrayRef(a.shape()).drop_back(std::min<int64_t>(a.rank(), 2));
  llvm::ArrayRef<int64_t> batchOfB = llvm::ArrayRef(b.shape()).drop_back(std::min<int64_t>(b.rank(), 2));
  Shape batch = broadcastShapes(batchOfA, batchOfB);
  Nest nest;
  nest.operation = operation.str();
  for (int64_t extent : batch)
    nest.loops.push_back({extent, false});
  AccessMap mapA = broadcastAccess(batchOfA, batch), mapB = broadcastAccess(batchOfB, batch);
  nest.write = identityAccess(batch.size());
  auto loop = [&](int64_t extent, bool reduction = false) {
    nest.loops.push_back({extent, reduction});
    return static_cast<unsigned>(nest.loops.size() - 1);
  };
  if (a.rank() > 1) {
    unsigned m = loop(a.dim(-2));
    mapA.push_back(at(m));
    nest.write.push_back(at(m));
  }
  std::optional<unsigned> n;
  if (b.rank() > 1) {
    n = loop(b.dim(-1));
    nest.write.push_back(at(*n));
  }
  unsigned reduced = loop(k, true);
  mapA.push_back(at(reduced));
  mapB.push_back(at(reduced));
  if (n)
    mapB.push_back(at(*n));
  nest.reads = {{a, mapA}, {b, mapB}};
  return nest;
}

static void matMul(OperatorContext &c) {
  TensorRef a = c.operand(0), b = c.operand(1);
  c.requireSameType({a, b});
  c.result(sumOfProducts(c, matrixProduct(a, b, "matmul")));
}

// alpha * A' B' + beta * C
static void gemm(OperatorContext &c) {
  TensorRef a = c.operand(0), b = c.operand(1), bias = c.optional(2);
  bool transposeA = c.flag("transA"), transposeB = c.flag("transB");
  double alpha = c.real("alpha", 1.0), beta = c.real("beta", 1.0);
  if (c.opset < 7)
    c.ignoreAttribute("broadcast");
  c.requireSameType({a, b});
  if (a.rank() != 2 || b.rank() != 2)
    refuse("operands of shapes " + shapeText(a.shape()) + " and " + shapeText(b.shape()) + " are not matrices");
  int64_t m = a.dim(transposeA ? 1 : 0), k = a.dim(transposeA ? 0 : 1), n = b.dim(transposeB ? 0 : 1);
  if (k != b.dim(transposeB ? 1 : 0))
    refuse("operands of shapes " + shapeText(a.shape()) + " and " + shapeText(b.shape()) + " do not contract");
  Nest nest;
  nest.operation = "gemm";
  nest.loops = {{m, false}, {n, false}, {k, true}};
  nest.reads = {{a, transposeA ? AccessMap{at(2), at(0)} : AccessMap{at(0), at(2)}},
                {b, transposeB ? AccessMap{at(1), at(2)} : AccessMap{at(2), at(1)}}};
  nest.write = identityAccess(2);
  if (bias && beta != 0) {
    c.requireSameType({a, bias});
    if (broadcastShapes(bias.shape(), {m, n}) != Shape{m, n})
      refuse("C of shape " + shapeText(bias.shape()) + " does not broadcast to " + shapeText({m, n}));
    if (alpha == 1 && beta == 1) { // the sum starts from it
      nest.initial = c.broadcast(bias, {m, n});
      return c.result(sumOfProducts(c, nest));
    }
    return c.result(c.map("gemm.bias", {sumOfProducts(c, nest), bias},
                          [&](llvm::ArrayRef<Lane> x) { return x[0] * alpha + x[1] * beta; }));
  }
  TensorRef result = sumOfProducts(c, nest);
  if (alpha != 1)
    result = c.map("gemm.scale", {result}, [&](llvm::ArrayRef<Lane> x) { return x[0] * alpha; });
  c.result(result);
}

namespace {
struct Equation {
  std::vector<std::string> operands;
  std::string result;
};
} // namespace

// Labels of each operand; an ellipsis becomes the digits 0.. of its broadcast dimensions, aligned at the end.
static Equation parseEquation(llvm::StringRef text, llvm::ArrayRef<TensorRef> operands) {
  std::string dense;
  for (char ch : text)
    if (ch != ' ')
      dense += ch;
  auto [left, right] = llvm::StringRef(dense).split("->");
  bool explicitResult = dense.find("->") != std::string::npos;
  llvm::SmallVector<llvm::StringRef> terms;
  left.split(terms, ',');
  if (terms.size() != operands.size())
    refuse("the equation '" + text + "' has " + llvm::Twine(terms.size()) + " terms for " +
           llvm::Twine(operands.size()) + " operands");
  Equation equation;
  size_t widest = 0;
  auto expand = [&](llvm::StringRef term, size_t ellipsis) {
    std::string labels;
    size_t dots = term.find("...");
    for (size_t i = 0; i < term.size(); ++i) {
      if (i == dots) {
        for (size_t d = widest - ellipsis; d < widest; ++d)
          labels += static_cast<char>('0' + d);
        i += 2;
      } else if (llvm::isAlpha(term[i])) {
        labels += term[i];
      } else {
        refuse("the equation '" + text + "' holds the character '" + llvm::Twine(term[i]) + "'");
      }
    }
    return labels;
  };
  std::vector<size_t> ellipses;
  for (size_t i = 0; i < terms.size(); ++i) {
    bool dots = terms[i].contains("...");
    size_t letters = terms[i].size() - (dots ? 3 : 0);
    if (letters > static_cast<size_t>(operands[i].rank()) || (!dots && letters != (size_t)operands[i].rank()))
      refuse("term '" + terms[i] + "' of the equation does not fit the operand of shape " +
             shapeText(operands[i].shape()));
    ellipses.push_back(operands[i].rank() - letters);
    widest = std::max(widest, ellipses.back());
  }
  if (widest > 10)
    refuseUnsupported("an ellipsis of more than 10 dimensions");
  for (size_t i = 0; i < terms.size(); ++i)
    equation.operands.push_back(expand(terms[i], ellipses[i]));
  if (explicitResult) {
    equation.result = expand(right, widest);
  } else { // numpy's rule: the ellipsis, then the labels that occur once, in alphabetical order
    std::map<char, int> count;
    for (const std::string &labels : equation.operands)
      for (char label : labels)
        ++count[label];
    for (auto [label, times] : count)
      if (times == 1 || llvm::isDigit(label))
        equation.result += label;
  }
  return equation;
}

// Two operands at a time from the left; labels that no later operand and not the result has are summed at once.
static void einsum(OperatorContext &c) {
  std::vector<TensorRef> operands = c.allOperands();
  c.requireSameType(operands);
  Equation equation = parseEquation(c.text("equation"), operands);

  // Extents; those of an ellipsis may be 1 in one operand and not in another.
  std::map<char, int64_t> extents;
  for (size_t i = 0; i < operands.size(); ++i)
    for (size_t d = 0; d < equation.operands[i].size(); ++d) {
      int64_t &extent = extents.emplace(equation.operands[i][d], 1).first->second;
      int64_t here = operands[i].shape()[d];
      if (extent != 1 && here != 1 && extent != here)
        refuse("label '" + llvm::Twine(equation.operands[i][d]) + "' stands for extents " + llvm::Twine(extent) +
               " and " + llvm::Twine(here));
      extent = here == 1 ? extent : here;
    }
  for (char label : equation.result)
    if (!extents.count(label))
      refuse("label '" + llvm::Twine(label) + "' of the result occurs in no operand");

  auto step = [&](TensorRef a, const std::string &labelsA, TensorRef b, const std::string &labelsB,
                  const std::string &keep) {
    Nest nest;
    nest.operation = "einsum";
    std::map<char, unsigned> loops;
    for (char label : keep) {
      loops[label] = static_cast<unsigned>(nest.loops.size());
      nest.loops.push_back({extents[label], false});
    }
    for (char label : labelsA + labelsB)
      if (loops.emplace(label, nest.loops.size()).second)
        nest.loops.push_back({extents[label], true});
    auto access = [&](TensorRef tensor, const std::string &labels) {
      AccessMap map;
      for (size_t d = 0; d < labels.size(); ++d)
        map.push_back(tensor.shape()[d] == 1 && extents[labels[d]] != 1 ? fixed(0) : at(loops[labels[d]]));
      return map;
    };
    nest.write = identityAccess(keep.size());
    nest.reads.push_back({a, access(a, labelsA)});
    if (b) {
      nest.reads.push_back({b, access(b, labelsB)});
      bool reduces = nest.loops.size() > keep.size();
      if (reduces)
        return sumOfProducts(c, nest);
      return c.nest(nest, [](llvm::ArrayRef<Lane> x) { return x[0] * x[1]; });
    }
    if (nest.loops.size() > keep.size())
      nest.combiner = Combiner::Sum;
    return c.nest(nest, [](llvm::ArrayRef<Lane> x) { return x[0]; });
  };

  TensorRef value = operands[0];
  std::string labels = equation.operands[0];
  if (operands.size() == 1)
    return c.result(step(value, labels, {}, "", equation.result));
  for (size_t i = 1; i < operands.size(); ++i) {
    std::string keep;
    if (i + 1 == operands.size()) {
      keep = equation.result;
    } else {
      std::string later = equation.result;
      for (size_t j = i + 1; j < operands.size(); ++j)
        later += equation.operands[j];
      for (char label : labels + equation.operands[i])
        if (later.find(label) != std::string::npos && keep.find(label) == std::string::npos)
          keep += label;
    }
    value = step(value, labels, operands[i], equation.operands[i], keep);
    labels = keep;
  }
  c.result(value);
}

void addMatrixProducts(OperatorTable &table) {
  table.add("MatMul", matMul);
  table.add("Gemm", gemm);
  table.add("Einsum", einsum);
}

} // namespace quadrille::graph::importer
