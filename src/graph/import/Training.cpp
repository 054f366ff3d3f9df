// One step of an optimizer (ai.onnx.preview.training): operands are the learning rate, the number of updates so far,
// then all tensors, all gradients and the states of the optimizer; results are the new tensors and states.
#include "graph/import/OperatorContext.h"

namespace quadrille::graph::importer {

namespace {
struct OptimizerStep {
  TensorRef rate, count;
  size_t tensors;
  std::vector<TensorRef> operands; // group by group

  // Operand `group` of tensor i: 0 the tensor, 1 its gradient, then its states.
  TensorRef operator()(size_t group, size_t i) const { return operands[group * tensors + i]; }
};
} // namespace

static OptimizerStep operandsOf(OperatorContext &c, size_t groups) {
  std::vector<TensorRef> all = c.allOperands();
  if (all.size() < 2 + groups || (all.size() - 2) % groups != 0)
    refuse(llvm::Twine(all.size()) + " operands instead of 2 and " + llvm::Twine(groups) + " for each tensor");
  OptimizerStep step = {all[0], all[1], (all.size() - 2) / groups, {all.begin() + 2, all.end()}};
  if (step.rate.elements() != 1 || step.count.elements() != 1)
    refuse("the learning rate and the number of updates are not scalars");
  step.rate = c.reshape(step.rate, {});
  step.count = c.reshape(step.count, {});
  c.requireFloat(step.rate);
  for (size_t i = 0; i < step.tensors; ++i)
    for (size_t group = 0; group < groups; ++group) {
      c.requireFloat(step(group, i));
      c.requireSameType({step(0, i), step(group, i)});
      if (step(group, i).shape() != step(0, i).shape())
        refuse("shapes " + shapeText(step(0, i).shape()) + " and " + shapeText(step(group, i).shape()) + " differ");
    }
  return step;
}

// The gradient of the loss with the penalty norm_coefficient / 2 * |x|^2.
static TensorRef regularized(OperatorContext &c, TensorRef x, TensorRef gradient, double coefficient) {
  return c.map("optimizer.regularize", {x, gradient},
               [&](llvm::ArrayRef<Lane> v) { return v[0] * coefficient + v[1]; });
}

// Duchi, Hazan, Singer: Adaptive subgradient methods (JMLR 12, 2011).
static void adagrad(OperatorContext &c) {
  double decay = c.real("decay_factor", 0.0), epsilon = c.real("epsilon", 0.0), norm = c.real("norm_coefficient", 0.0);
  OptimizerStep step = operandsOf(c, 3);
  for (size_t i = 0; i < step.tensors; ++i) {
    TensorRef gradient = regularized(c, step(0, i), step(1, i), norm);
    TensorRef squares =
        c.map("adagrad.accumulate", {step(2, i), gradient}, [](llvm::ArrayRef<Lane> v) { return v[0] + v[1] * v[1]; });
    TensorRef updated =
        c.map("adagrad.update", {step(0, i), gradient, squares, step.rate, step.count}, [&](llvm::ArrayRef<Lane> v) {
          ElementType type = v[0].type();
          Lane rate = v[3].to(type) / (1.0 + v[4].to(type) * decay);
          return v[0] - rate * v[1] / (squareRoot(v[2]) + epsilon);
        });
    c.result(static_cast<unsigned>(i), updated);
    c.result(static_cast<unsigned>(step.tensors + i), squares);
  }
}

// Kingma, Ba: Adam (arXiv:1412.6980). The correction of the bias begins with the second update.
static void adam(OperatorContext &c) {
  double alpha = c.real("alpha", 0.9), beta = c.real("beta", 0.999), epsilon = c.real("epsilon", 0.0);
  double norm = c.real("norm_coefficient", 0.0), normAfter = c.real("norm_coefficient_post", 0.0);
  OptimizerStep step = operandsOf(c, 4);
  for (size_t i = 0; i < step.tensors; ++i) {
    TensorRef gradient = regularized(c, step(0, i), step(1, i), norm);
    TensorRef momentum = c.map("adam.momentum", {step(2, i), gradient},
                               [&](llvm::ArrayRef<Lane> v) { return v[0] * alpha + v[1] * (1 - alpha); });
    TensorRef squares = c.map("adam.squares", {step(3, i), gradient},
                              [&](llvm::ArrayRef<Lane> v) { return v[0] * beta + v[1] * v[1] * (1 - beta); });
    // One number for all elements. Powers of the decay need f32 even where the tensors are narrower.
    TensorRef rate = c.map("adam.rate", {step.rate, step.count}, [&](llvm::ArrayRef<Lane> v) {
      ElementType wide = Emitter::accumulatorOf(v[0].type());
      Lane rate = v[0].to(wide), count = v[1].to(wide);
      Lane corrected =
          rate * squareRoot(1.0 - power(rate.constant(beta), count)) / (1.0 - power(rate.constant(alpha), count));
      return select(count > 0.0, corrected, rate);
    });
    TensorRef updated = c.map("adam.update", {step(0, i), momentum, squares, rate}, [&](llvm::ArrayRef<Lane> v) {
      Lane moved = v[0] - v[3].to(v[0].type()) * (v[1] / (squareRoot(v[2]) + epsilon));
      return normAfter == 0 ? moved : moved * (1 - normAfter);
    });
    c.result(static_cast<unsigned>(i), updated);
    c.result(static_cast<unsigned>(step.tensors + i), momentum);
    c.result(static_cast<unsigned>(2 * step.tensors + i), squares);
  }
}

// Sutskever et al.: On the importance of initialization and momentum (ICML 2013), with Nesterov's form.
static void momentum(OperatorContext &c) {
  double alpha = c.real("alpha"), beta = c.real("beta"), norm = c.real("norm_coefficient");
  std::string mode = c.text("mode");
  if (mode != "standard" && mode != "nesterov")
    refuse("mode is '" + mode + "' instead of standard or nesterov");
  OptimizerStep step = operandsOf(c, 3);
  for (size_t i = 0; i < step.tensors; ++i) {
    TensorRef gradient = regularized(c, step(0, i), step(1, i), norm);
    TensorRef velocity = // the first gradient counts whole
        c.map("momentum.accumulate", {step(2, i), gradient, step.count}, [&](llvm::ArrayRef<Lane> v) {
          return v[0] * alpha + v[1] * select(v[2] > 0.0, v[0].constant(beta), v[0].constant(1));
        });
    TensorRef updated =
        c.map("momentum.update", {step(0, i), gradient, velocity, step.rate}, [&](llvm::ArrayRef<Lane> v) {
          return v[0] - v[3].to(v[0].type()) * (mode == "standard" ? v[2] : v[1] + v[2] * alpha);
        });
    c.result(static_cast<unsigned>(i), updated);
    c.result(static_cast<unsigned>(step.tensors + i), velocity);
  }
}

void addTraining(OperatorTable &table) {
  table.add("ai.onnx.preview.training::Adagrad", adagrad);
  table.add("ai.onnx.preview.training::Adam", adam);
  table.add("ai.onnx.preview.training::Momentum", momentum);
}

} // namespace quadrille::graph::importer
