// Activation functions. Those with a name that targets know arrive as composites.
#include "graph/import/Activation.h"

#include <cmath>

namespace quadrille::graph::importer {

template <typename Body> static void unary(OperatorContext &c, Body body) {
  TensorRef operand = c.operand(0);
  c.requireFloat(operand);
  c.ignoreAttribute("consumed_inputs");
  c.result(c.map(c.operation(), {operand}, [&](llvm::ArrayRef<Lane> x) { return body(x[0]); }));
}

static void relu(OperatorContext &c) {
  c.ignoreAttribute("consumed_inputs");
  TensorRef operand = c.operand(0);
  c.result(c.map("Relu", {operand}, [](llvm::ArrayRef<Lane> x) { return max(x[0], 0.0); }));
}

static void leakyRelu(OperatorContext &c) {
  double alpha = c.real("alpha", 0.01);
  unary(c, [&](Lane x) { return select(x < 0.0, x * alpha, x); });
}

static void elu(OperatorContext &c) {
  double alpha = c.real("alpha", 1.0);
  unary(c, [&](Lane x) { return select(x < 0.0, exponentialMinusOne(x) * alpha, x); });
}

static void celu(OperatorContext &c) {
  double alpha = c.real("alpha", 1.0);
  unary(c, [&](Lane x) { return max(x, 0.0) + min(exponentialMinusOne(x / alpha) * alpha, 0.0); });
}

static void selu(OperatorContext &c) {
  double alpha = c.real("alpha", c.opset < 6 ? 1.6732 : 1.67326319217681884765625);
  double gamma = c.real("gamma", c.opset < 6 ? 1.0507 : 1.05070102214813232421875);
  unary(c, [&](Lane x) { return select(x <= 0.0, exponentialMinusOne(x) * alpha * gamma, x * gamma); });
}

static void thresholdedRelu(OperatorContext &c) {
  double alpha = c.real("alpha", 1.0);
  unary(c, [&](Lane x) { return select(x > alpha, x, x.constant(0)); });
}

static Lane sigmoidOf(Lane x) {
  return 1.0 / (1.0 + exponential(-x));
}

static void sigmoid(OperatorContext &c) {
  unary(c, sigmoidOf);
}

static void hardSigmoid(OperatorContext &c) {
  double alpha = c.real("alpha", 0.2), beta = c.real("beta", 0.5);
  unary(c, [&](Lane x) { return min(max(x * alpha + beta, 0.0), 1.0); });
}

static void hardSwish(OperatorContext &c) {
  unary(c, [&](Lane x) { return x * min(max(x * (1.0 / 6.0) + 0.5, 0.0), 1.0); });
}

static void swish(OperatorContext &c) {
  double alpha = c.real("alpha", 1.0);
  unary(c, [&](Lane x) { return x * sigmoidOf(x * alpha); });
}

// log(1 + exp(x)) without overflow.
static Lane softplusOf(Lane x) {
  return max(x, 0.0) + logarithmOnePlus(exponential(-absolute(x)));
}

static void softplus(OperatorContext &c) {
  unary(c, softplusOf);
}

static void mish(OperatorContext &c) {
  unary(c, [](Lane x) { return x * hyperbolicTangent(softplusOf(x)); });
}

static void softsign(OperatorContext &c) {
  unary(c, [](Lane x) { return x / (1.0 + absolute(x)); });
}

static void shrink(OperatorContext &c) {
  double bias = c.real("bias", 0.0), lambda = c.real("lambd", 0.5);
  TensorRef operand = c.operand(0);
  c.result(c.map("Shrink", {operand}, [&](llvm::ArrayRef<Lane> x) {
    return select(x[0] < -lambda, x[0] + bias, select(x[0] > lambda, x[0] - bias, x[0].constant(0)));
  }));
}

// The slope broadcasts to the operand, not the other way round. Until operator set 6 a rank-1 slope went with axis 1.
static void prelu(OperatorContext &c) {
  TensorRef operand = c.operand(0), slope = c.operand(1);
  c.requireSameType({operand, slope});
  c.ignoreAttribute("consumed_inputs");
  if (c.opset < 7 && slope.rank() == 1 && operand.rank() > 1 && slope.elements() > 1) {
    Shape shape(operand.rank() - 1, 1);
    shape[0] = slope.dim(0);
    slope = c.reshape(slope, shape);
  }
  if (broadcastShapes(operand.shape(), slope.shape()) != operand.shape())
    refuse("slope of shape " + shapeText(slope.shape()) + " does not broadcast to " + shapeText(operand.shape()));
  c.result(
      c.map("PRelu", {operand, slope}, [](llvm::ArrayRef<Lane> x) { return select(x[0] < 0.0, x[0] * x[1], x[0]); }));
}

// Hendrycks and Gimpel, arXiv:1606.08415.
static void gelu(OperatorContext &c) {
  std::string approximate = c.text("approximate", "none");
  if (approximate != "none" && approximate != "tanh")
    refuse("approximate is '" + approximate + "' instead of none or tanh");
  TensorRef operand = c.operand(0);
  c.requireFloat(operand);
  c.result(c.composite1("gelu", {operand}, {{"approximate", approximate}}, [&](llvm::ArrayRef<TensorRef> in) {
    return c.map("Gelu", {in[0]}, [&](llvm::ArrayRef<Lane> x) {
      if (approximate == "none")
        return 0.5 * x[0] * (1.0 + errorFunction(x[0] * std::sqrt(0.5)));
      Lane inner = (x[0] + 0.044715 * x[0] * x[0] * x[0]) * std::sqrt(2.0 / M_PI);
      return 0.5 * x[0] * (1.0 + hyperbolicTangent(inner));
    });
  }));
}

TensorRef softmaxOver(OperatorContext &c, TensorRef operand, int64_t axis, bool logarithmic) {
  Attributes attributes = {{"axis", axis}};
  return c.composite1(
      logarithmic ? "log_softmax" : "softmax", {operand}, attributes, [&](llvm::ArrayRef<TensorRef> in) {
        ElementType wide = Emitter::accumulatorOf(operand.type());
        TensorRef maximum = c.reduce("Max", in[0], {axis}, true, Combiner::Maximum);
        TensorRef shifted =
            c.map("Sub", {in[0], maximum}, [&](llvm::ArrayRef<Lane> x) { return x[0].to(wide) - x[1].to(wide); });
        if (logarithmic) {
          TensorRef sum = c.reduce("Sum", shifted, {axis}, true, Combiner::Sum,
                                   [](llvm::ArrayRef<Lane> x) { return exponential(x[0]); });
          return c.map("Sub", {shifted, sum},
                       [&](llvm::ArrayRef<Lane> x) { return (x[0] - logarithm(x[1])).to(operand.type()); });
        }
        TensorRef powers = c.map("Exp", {shifted}, [](llvm::ArrayRef<Lane> x) { return exponential(x[0]); });
        TensorRef sum = c.reduce("Sum", powers, {axis}, true, Combiner::Sum);
        return c.map("Div", {powers, sum}, [&](llvm::ArrayRef<Lane> x) { return (x[0] / x[1]).to(operand.type()); });
      });
}

// Until operator set 12 the operand was taken as a matrix [dimensions before axis, the others]; since 13 one axis.
static TensorRef softmaxOf(OperatorContext &c, bool logarithmic) {
  TensorRef operand = c.operand(0);
  c.requireFloat(operand);
  int64_t axis = normalAxis(c.integer("axis", c.opset < 13 ? 1 : -1), operand.rank());
  if (c.opset >= 13 || axis == operand.rank() - 1)
    return softmaxOver(c, operand, axis, logarithmic);
  Shape matrix = {product(llvm::ArrayRef(operand.shape()).take_front(axis)),
                  product(llvm::ArrayRef(operand.shape()).drop_front(axis))};
  return c.reshape(softmaxOver(c, c.reshape(operand, matrix), 1, logarithmic), operand.shape());
}

static void softmax(OperatorContext &c) {
  c.result(softmaxOf(c, false));
}
static void logSoftmax(OperatorContext &c) {
  c.result(softmaxOf(c, true));
}

// One at the first maximum along the axis, zero elsewhere.
static void hardmax(OperatorContext &c) {
  TensorRef operand = c.operand(0), matrix = operand;
  int64_t axis = normalAxis(c.integer("axis", c.opset < 13 ? 1 : -1), operand.rank());
  if (c.opset < 13) {
    matrix = c.reshape(operand, {product(llvm::ArrayRef(operand.shape()).take_front(axis)),
                                 product(llvm::ArrayRef(operand.shape()).drop_front(axis))});
    axis = 1;
  }
  Shape positions(matrix.rank(), 1);
  positions[axis] = matrix.dim(axis);
  TensorRef first = c.argReduce(matrix, axis, true, false);
  TensorRef index = c.reshape(c.range(matrix.dim(axis)), positions);
  TensorRef hot =
      c.map("Hardmax", {index, first}, [&](llvm::ArrayRef<Lane> x) { return (x[0] == x[1]).to(operand.type()); });
  c.result(c.reshape(hot, operand.shape()));
}

void addActivations(OperatorTable &table) {
  table.add("Relu", relu);
  table.add("LeakyRelu", leakyRelu);
  table.add("Elu", elu);
  table.add("Celu", celu);
  table.add("Selu", selu);
  table.add("ThresholdedRelu", thresholdedRelu);
  table.add("Sigmoid", sigmoid);
  table.add("HardSigmoid", hardSigmoid);
  table.add("HardSwish", hardSwish);
  table.add("Swish", swish);
  table.add("Softplus", softplus);
  table.add("Mish", mish);
  table.add("Softsign", softsign);
  table.add("Shrink", shrink);
  table.add("PRelu", prelu);
  table.add("Gelu", gelu);
  table.add("Softmax", softmax);
  table.add("LogSoftmax", logSoftmax);
  table.add("Hardmax", hardmax);
}

} // namespace quadrille::graph::importer
