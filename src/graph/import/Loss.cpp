// Losses of classification.
#include "graph/import/Activation.h"

namespace quadrille::graph::importer {

// From logarithms of probabilities [N, C, d...] and classes [N, d...]. The element of the right class is picked by
// comparing with the loop over the classes, which reduces and differentiates like any other sum.
static TensorRef negativeLogLikelihood(OperatorContext &c, TensorRef logarithms, TensorRef classes, TensorRef weights,
                                       std::optional<int64_t> ignored, const std::string &reduction) {
  Shape expected = logarithms.shape();
  if (expected.size() >= 2)
    expected.erase(expected.begin() + 1);
  if (logarithms.rank() < 2 || classes.shape() != expected)
    refuse("classes of shape " + shapeText(classes.shape()) + " for scores of shape " + shapeText(logarithms.shape()));
  if (classes.type() != ElementType::i32 && classes.type() != ElementType::i64)
    refuse("classes of type " + nameOf(classes.type()) + " instead of i32 or i64");
  if (weights && weights.shape() != Shape{logarithms.dim(1)})
    refuse("weights of shape " + shapeText(weights.shape()) + " for " + llvm::Twine(logarithms.dim(1)) + " classes");
  if (reduction != "none" && reduction != "sum" && reduction != "mean")
    refuse("reduction is '" + reduction + "' instead of none, sum or mean");
  ElementType wide = Emitter::accumulatorOf(logarithms.type());
  // Sum over the classes of what `value` gives for the right one.
  auto pick = [&](llvm::StringRef operation, llvm::function_ref<Lane(Lane, Lane)> value) {
    Nest nest;
    nest.operation = operation.str();
    AccessMap positions;
    for (int64_t d = 0; d < logarithms.rank(); ++d) {
      nest.loops.push_back({logarithms.dim(d), d == 1});
      if (d != 1)
        positions.push_back(at(static_cast<unsigned>(d)));
    }
    nest.write = positions;
    nest.combiner = Combiner::Sum;
    nest.reads = {{logarithms, identityAccess(logarithms.rank())}, {classes, positions}};
    if (weights)
      nest.reads.push_back({weights, {at(1)}});
    return c.nest(nest, [&](llvm::ArrayRef<Lane> v) {
      Lane wanted = v[1].to(ElementType::i64), right = wanted == loopIndex(c, 1);
      if (ignored)
        right = right & (wanted != wanted.constantInteger(*ignored));
      Lane x = v[0].to(wide);
      return select(right, value(x, weights ? v[2].to(wide) : x.constant(1)), x.constant(0));
    });
  };
  TensorRef losses = pick("nll", [](Lane x, Lane weight) { return -(x * weight); });
  std::vector<int64_t> axes;
  for (int64_t axis = 0; axis < losses.rank(); ++axis)
    axes.push_back(axis);
  TensorRef result = losses;
  if (reduction != "none")
    result = c.reduce("nll.sum", losses, axes, false, Combiner::Sum);
  if (reduction == "mean" && !weights && !ignored) {
    double count = static_cast<double>(losses.elements());
    result = c.map("nll.mean", {result}, [&](llvm::ArrayRef<Lane> v) { return v[0] / count; });
  } else if (reduction == "mean") { // by the weight of the classes that occur
    TensorRef weight = c.reduce("nll.weight", pick("nll.weight", [](Lane, Lane weight) { return weight; }), axes, false,
                                Combiner::Sum);
    result = c.map("nll.mean", {result, weight}, [](llvm::ArrayRef<Lane> v) { return v[0] / v[1]; });
  }
  return c.convert(result, logarithms.type());
}

static std::optional<int64_t> ignoredClass(OperatorContext &c) {
  if (!c.has("ignore_index"))
    return std::nullopt;
  return c.integer("ignore_index");
}

static void negativeLogLikelihoodLoss(OperatorContext &c) {
  TensorRef x = c.operand(0);
  c.requireFloat(x);
  std::string reduction = c.text("reduction", "mean");
  c.result(negativeLogLikelihood(c, x, c.operand(1), c.optional(2), ignoredClass(c), reduction));
}

static void softmaxCrossEntropyLoss(OperatorContext &c) {
  TensorRef x = c.operand(0);
  c.requireFloat(x);
  if (x.rank() < 2)
    refuse("scores of shape " + shapeText(x.shape()) + " have no classes");
  std::string reduction = c.text("reduction", "mean");
  TensorRef logarithms = softmaxOver(c, x, 1, true);
  c.result(0, negativeLogLikelihood(c, logarithms, c.operand(1), c.optional(2), ignoredClass(c), reduction));
  c.result(1, logarithms);
}

void addLosses(OperatorTable &table) {
  table.add("NegativeLogLikelihoodLoss", negativeLogLikelihoodLoss);
  table.add("SoftmaxCrossEntropyLoss", softmaxCrossEntropyLoss);
}

} // namespace quadrille::graph::importer
