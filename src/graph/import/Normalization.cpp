// Normalisations. Statistics are computed in f32 where the elements are narrower (`stash_type`).
#include "graph/import/OperatorContext.h"

#include <numeric>

namespace quadrille::graph::importer {

// One number for each channel, read along axis 1.
static TensorRef channelwise(OperatorContext &c, TensorRef parameter, TensorRef x, llvm::StringRef what) {
  int64_t channels = x.rank() > 1 ? x.dim(1) : 1;
  if (parameter.elements() != channels)
    refuse(what + " of shape " + shapeText(parameter.shape()) + " for " + llvm::Twine(channels) + " channels");
  Shape shape(std::max<int64_t>(x.rank() - 1, 1), 1);
  shape[0] = channels;
  return c.reshape(parameter, shape);
}

// (x - mean) / sqrt(variance + epsilon) * scale + shift, one number for each channel.
static TensorRef normalizedByChannel(OperatorContext &c, llvm::ArrayRef<TensorRef> operands, double epsilon) {
  ElementType type = operands[0].type(), wide = Emitter::accumulatorOf(type);
  return c.map("BatchNormalization", operands, [&](llvm::ArrayRef<Lane> v) {
    Lane x = v[0].to(wide), s = v[1].to(wide), b = v[2].to(wide), m = v[3].to(wide), var = v[4].to(wide);
    return (s * ((x - m) / squareRoot(var + epsilon)) + b).to(type);
  });
}

// Statistics of the batch take the place of the given ones, which move towards them.
static void batchNormalizationInTraining(OperatorContext &c, TensorRef x, TensorRef scale, TensorRef shift,
                                         double epsilon, double momentum) {
  std::vector<int64_t> axes;
  double count = 1;
  for (int64_t axis = 0; axis < x.rank(); ++axis)
    if (axis != 1) {
      axes.push_back(axis);
      count *= static_cast<double>(x.dim(axis));
    }
  if (x.rank() < 2 || count == 0)
    refuse("an operand of shape " + shapeText(x.shape()) + " has no statistics");
  ElementType wide = Emitter::accumulatorOf(x.type());
  auto mean = [&](TensorRef tensor, LaneBody body) {
    TensorRef sum = c.reduce("BatchNormalization.statistics", tensor, axes, true, Combiner::Sum, body);
    return c.map("BatchNormalization.statistics", {sum}, [&](llvm::ArrayRef<Lane> v) { return v[0] / count; });
  };
  TensorRef average = mean(x, [&](llvm::ArrayRef<Lane> v) { return v[0].to(wide); });
  TensorRef centered =
      c.map("BatchNormalization.center", {x, average}, [&](llvm::ArrayRef<Lane> v) { return v[0].to(wide) - v[1]; });
  TensorRef variance = mean(centered, [](llvm::ArrayRef<Lane> v) { return v[0] * v[0]; });
  c.result(0, normalizedByChannel(c, {x, scale, shift, average, variance}, epsilon));
  for (unsigned i = 0; i < 2; ++i) {
    TensorRef current = c.reshape(i == 0 ? average : variance, {x.dim(1)}), running = c.operand(3 + i);
    if (c.wants(1 + i))
      c.result(1 + i, c.map("BatchNormalization.running", {running, current}, [&](llvm::ArrayRef<Lane> v) {
        return (v[0].to(wide) * momentum + v[1] * (1 - momentum)).to(running.type());
      }));
    if (c.opset < 14 && c.wants(3 + i)) // what the gradient needs
      c.result(3 + i, c.convert(current, running.type()));
  }
}

static void batchNormalization(OperatorContext &c) {
  TensorRef x = c.operand(0);
  c.requireFloat(x);
  double epsilon = c.real("epsilon", 1e-5), momentum = c.real("momentum", 0.9);
  c.ignoreAttribute("consumed_inputs");
  if (c.opset < 9 && !c.flag("spatial", true))
    refuseUnsupported("spatial = 0: statistics for each position");
  // From operator set 7 to 13 a node that has results for training was exported in training.
  bool training = c.opset >= 14  ? c.flag("training_mode")
                  : c.opset >= 7 ? c.wants(1) || c.wants(2) || c.wants(3) || c.wants(4)
                                 : !c.flag("is_test");
  TensorRef scale = channelwise(c, c.operand(1), x, "scale"), shift = channelwise(c, c.operand(2), x, "B"),
            mean = channelwise(c, c.operand(3), x, "mean"), variance = channelwise(c, c.operand(4), x, "var");
  if (training)
    return batchNormalizationInTraining(c, x, scale, shift, epsilon, momentum);
  c.result(c.composite1("batch_normalization", {x, scale, shift, mean, variance}, {{"epsilon", epsilon}},
                        [&](llvm::ArrayRef<TensorRef> in) { return normalizedByChannel(c, in, epsilon); }));
}

namespace {
struct Normalized {
  TensorRef result, mean, inverseDeviation;
};
} // namespace

// (x - mean) / sqrt(variance + epsilon) over `axes`, in the wide type.
static Normalized standardize(OperatorContext &c, TensorRef x, llvm::ArrayRef<int64_t> axes, double epsilon,
                              bool subtractMean = true) {
  ElementType wide = Emitter::accumulatorOf(x.type());
  double count = 1;
  for (int64_t axis : axes)
    count *= static_cast<double>(x.dim(axis));
  Normalized n;
  TensorRef centered = x;
  if (subtractMean) {
    TensorRef sum =
        c.reduce("Mean", x, axes, true, Combiner::Sum, [&](llvm::ArrayRef<Lane> v) { return v[0].to(wide); });
    n.mean = c.map("Mean", {sum}, [&](llvm::ArrayRef<Lane> v) { return v[0] / count; });
    centered = c.map("Sub", {x, n.mean}, [&](llvm::ArrayRef<Lane> v) { return v[0].to(wide) - v[1]; });
  }
  TensorRef squares = c.reduce("Variance", centered, axes, true, Combiner::Sum, [&](llvm::ArrayRef<Lane> v) {
    Lane value = v[0].to(wide);
    return value * value;
  });
  n.inverseDeviation =
      c.map("InvStdDev", {squares}, [&](llvm::ArrayRef<Lane> v) { return 1.0 / squareRoot(v[0] / count + epsilon); });
  n.result = c.map("Mul", {centered, n.inverseDeviation}, [&](llvm::ArrayRef<Lane> v) { return v[0].to(wide) * v[1]; });
  return n;
}

static std::vector<int64_t> axesFrom(int64_t first, int64_t rank) {
  std::vector<int64_t> axes(rank - first);
  std::iota(axes.begin(), axes.end(), first);
  return axes;
}

static void instanceNormalization(OperatorContext &c) {
  TensorRef x = c.operand(0);
  c.requireFloat(x);
  c.ignoreAttribute("consumed_inputs");
  if (x.rank() < 3)
    refuse("operand of shape " + shapeText(x.shape()) + " has no spatial dimensions");
  double epsilon = c.real("epsilon", 1e-5);
  TensorRef scale = channelwise(c, c.operand(1), x, "scale"), shift = channelwise(c, c.operand(2), x, "B");
  c.result(c.composite1("instance_normalization", {x, scale, shift}, {{"epsilon", epsilon}},
                        [&](llvm::ArrayRef<TensorRef> in) {
                          Normalized n = standardize(c, in[0], axesFrom(2, x.rank()), epsilon);
                          return c.map("InstanceNormalization", {n.result, in[1], in[2]}, [&](llvm::ArrayRef<Lane> v) {
                            return (v[0] * v[1].to(v[0].type()) + v[2].to(v[0].type())).to(x.type());
                          });
                        }));
}

static void layerNormalization(OperatorContext &c) {
  TensorRef x = c.operand(0), scale = c.operand(1), shift = c.optional(2);
  c.requireFloat(x);
  int64_t axis = normalAxis(c.integer("axis", -1), x.rank());
  double epsilon = c.real("epsilon", 1e-5);
  std::optional<ElementType> stash = c.elementType("stash_type");
  if (stash && *stash != ElementType::f32 && *stash != Emitter::accumulatorOf(x.type()))
    refuseUnsupported("stash_type " + nameOf(*stash));
  std::vector<TensorRef> operands = {x, scale};
  if (shift)
    operands.push_back(shift);
  std::vector<TensorRef> results = c.composite(
      "layer_normalization", operands, {{"axis", axis}, {"epsilon", epsilon}}, [&](llvm::ArrayRef<TensorRef> in) {
        Normalized n = standardize(c, in[0], axesFrom(axis, x.rank()), epsilon);
        std::vector<TensorRef> last = {n.result, in[1]};
        if (shift)
          last.push_back(in[2]);
        std::vector<TensorRef> out = {c.map("LayerNormalization", last, [&](llvm::ArrayRef<Lane> v) {
          Lane y = (v[0].to(x.type()) * v[1]);
          return shift ? y + v[2] : y;
        })};
        if (c.wants(1))
          out.push_back(n.mean);
        if (c.wants(2))
          out.push_back(n.inverseDeviation);
        return out;
      });
  size_t next = 0;
  c.result(0, results[next++]);
  if (c.wants(1))
    c.result(1, results[next++]);
  if (c.wants(2))
    c.result(2, results[next++]);
}

static void rmsNormalization(OperatorContext &c) {
  TensorRef x = c.operand(0), scale = c.operand(1);
  c.requireFloat(x);
  int64_t axis = normalAxis(c.integer("axis", -1), x.rank());
  double epsilon = c.real("epsilon", 1e-5);
  c.elementType("stash_type");
  c.result(c.composite1("rms_normalization", {x, scale}, {{"axis", axis}, {"epsilon", epsilon}},
                        [&](llvm::ArrayRef<TensorRef> in) {
                          Normalized n = standardize(c, in[0], axesFrom(axis, x.rank()), epsilon, false);
                          return c.map("RMSNormalization", {n.result, in[1]},
                                       [&](llvm::ArrayRef<Lane> v) { return v[0].to(v[1].type()) * v[1]; });
                        }));
}

// Channels in groups share their statistics. Scale and bias were one for each group in operator set 18, one for each
// channel since 21.
static void groupNormalization(OperatorContext &c) {
  TensorRef x = c.operand(0), scale = c.operand(1), shift = c.operand(2);
  c.requireFloat(x);
  double epsilon = c.real("epsilon", 1e-5);
  int64_t groups = c.integer("num_groups");
  c.elementType("stash_type");
  if (x.rank() < 2 || groups < 1 || x.dim(1) % groups != 0)
    refuse("operand of shape " + shapeText(x.shape()) + " does not divide into " + llvm::Twine(groups) + " groups");
  int64_t each = x.dim(1) / groups;
  Shape grouped = {x.dim(0), groups, each};
  grouped.insert(grouped.end(), x.shape().begin() + 2, x.shape().end());
  auto parameter = [&](TensorRef tensor) {
    Shape shape(grouped.size() - 1, 1);
    shape[0] = groups;
    if (tensor.elements() == x.dim(1))
      shape[1] = each;
    else if (tensor.elements() != groups)
      refuse("parameter of shape " + shapeText(tensor.shape()) + " for " + llvm::Twine(x.dim(1)) + " channels");
    return c.reshape(tensor, shape);
  };
  TensorRef s = parameter(scale), b = parameter(shift);
  c.result(c.composite1("group_normalization", {x, s, b}, {{"epsilon", epsilon}, {"num_groups", groups}},
                        [&](llvm::ArrayRef<TensorRef> in) {
                          TensorRef g = c.reshape(in[0], grouped);
                          Normalized n = standardize(c, g, axesFrom(2, g.rank()), epsilon);
                          TensorRef y =
                              c.map("GroupNormalization", {n.result, in[1], in[2]}, [&](llvm::ArrayRef<Lane> v) {
                                return (v[0] * v[1].to(v[0].type()) + v[2].to(v[0].type())).to(x.type());
                              });
                          return c.reshape(y, x.shape());
                        }));
}

// x / (bias + alpha / size * sum of squares over `size` neighbouring channels)^beta
static void localResponseNormalization(OperatorContext &c) {
  TensorRef x = c.operand(0);
  c.requireFloat(x);
  double alpha = c.real("alpha", 1e-4), beta = c.real("beta", 0.75), bias = c.real("bias", 1.0);
  int64_t size = c.integer("size");
  if (x.rank() < 2 || size < 1 || size > int64_t(1) << 20)
    refuse("operand of shape " + shapeText(x.shape()) + ", size " + llvm::Twine(size));
  c.result(c.composite1(
      "lrn", {x}, {{"alpha", alpha}, {"beta", beta}, {"bias", bias}, {"size", size}},
      [&](llvm::ArrayRef<TensorRef> in) {
        std::vector<int64_t> before(x.rank(), 0), after(x.rank(), 0);
        before[1] = (size - 1) / 2;
        after[1] = size - 1 - before[1];
        Nest nest;
        nest.operation = "lrn";
        for (int64_t extent : x.shape())
          nest.loops.push_back({extent, false});
        nest.write = identityAccess(x.rank());
        AccessMap map = nest.write;
        map[1].terms.push_back({static_cast<unsigned>(x.rank()), 1});
        nest.loops.push_back({size, true});
        nest.reads = {{size > 1 ? c.pad(in[0], before, after, 0.0) : in[0], map}};
        nest.combiner = Combiner::Sum;
        ElementType wide = Emitter::accumulatorOf(x.type());
        TensorRef sum = c.nest(nest, [&](llvm::ArrayRef<Lane> v) {
          Lane value = v[0].to(wide);
          return value * value;
        });
        return c.map("LRN", {in[0], sum}, [&](llvm::ArrayRef<Lane> v) {
          return (v[0].to(wide) / power(v[1] * (alpha / static_cast<double>(size)) + bias, beta)).to(x.type());
        });
      }));
}

static void meanVarianceNormalization(OperatorContext &c) {
  TensorRef x = c.operand(0);
  c.requireFloat(x);
  std::vector<int64_t> axes = normalAxes(c.integerList("axes", {0, 2, 3}), x.rank());
  c.result(c.composite1("mean_variance_normalization", {x}, {{"axes", axes}}, [&](llvm::ArrayRef<TensorRef> in) {
    // The specification adds 1e-9 to the standard deviation instead of an epsilon to the variance.
    ElementType wide = Emitter::accumulatorOf(x.type());
    double count = 1;
    for (int64_t axis : axes)
      count *= static_cast<double>(x.dim(axis));
    auto mean = [&](TensorRef tensor, LaneBody body) {
      TensorRef sum = c.reduce("Mean", tensor, axes, true, Combiner::Sum, body);
      return c.map("Mean", {sum}, [&](llvm::ArrayRef<Lane> v) { return v[0] / count; });
    };
    TensorRef average = mean(in[0], [&](llvm::ArrayRef<Lane> v) { return v[0].to(wide); });
    TensorRef centered = c.map("Sub", {in[0], average}, [&](llvm::ArrayRef<Lane> v) { return v[0].to(wide) - v[1]; });
    TensorRef variance = mean(centered, [](llvm::ArrayRef<Lane> v) { return v[0] * v[0]; });
    return c.map("Div", {centered, variance},
                 [&](llvm::ArrayRef<Lane> v) { return (v[0] / (squareRoot(v[1]) + 1e-9)).to(x.type()); });
  }));
}

static void lpNormalization(OperatorContext &c) {
  TensorRef x = c.operand(0);
  c.requireFloat(x);
  int64_t axis = normalAxis(c.integer("axis", -1), x.rank()), p = c.integer("p", 2);
  if (p != 1 && p != 2)
    refuse("p is " + llvm::Twine(p) + " instead of 1 or 2");
  ElementType wide = Emitter::accumulatorOf(x.type());
  TensorRef sum = c.reduce("LpNormalization", x, {axis}, true, Combiner::Sum, [&](llvm::ArrayRef<Lane> v) {
    Lane value = v[0].to(wide);
    return p == 1 ? absolute(value) : value * value;
  });
  // A norm of zero gives zeros.
  c.result(c.map("LpNormalization", {x, sum}, [&](llvm::ArrayRef<Lane> v) {
    Lane norm = p == 1 ? v[1] : squareRoot(v[1]);
    return select(norm == 0.0, norm.constant(0), v[0].to(wide) / norm).to(x.type());
  }));
}

void addNormalizations(OperatorTable &table) {
  table.add("BatchNormalization", batchNormalization);
  table.add("InstanceNormalization", instanceNormalization);
  table.add("LayerNormalization", layerNormalization);
  table.add("RMSNormalization", rmsNormalization);
  table.add("GroupNormalization", groupNormalization);
  table.add("LRN", localResponseNormalization);
  table.add("MeanVarianceNormalization", meanVarianceNormalization);
  table.add("LpNormalization", lpNormalization);
}

} // namespace quadrille::graph::importer
