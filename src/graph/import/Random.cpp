// Operators that draw random numbers. All draw from the counter-based stream of their seed (`random_bits`), so that a
// program gives the same numbers wherever and however often it runs. A node without the attribute `seed` takes one from
// its name: nodes differ, runs do not.
#include "graph/import/OperatorContext.h"

#include "llvm/Support/xxhash.h"

#include <bit>
#include <numbers>

namespace quadrille::graph::importer {

static int64_t seedOf(OperatorContext &c) {
  if (!c.has("seed"))
    return static_cast<int64_t>(llvm::xxh3_64bits(c.name()));
  if (c.operation() == "Dropout")
    return c.integer("seed");
  return std::bit_cast<int32_t>(static_cast<float>(c.real("seed")));
}

// A nest over `shape` whose first `words` reads are random words of their own.
static Nest drawing(OperatorContext &c, const Shape &shape, int64_t words, llvm::StringRef operation) {
  Shape all = shape;
  all.insert(all.begin(), words);
  TensorRef bits = c.randomBits(all, seedOf(c));
  Nest nest;
  nest.operation = operation.str();
  for (int64_t extent : shape)
    nest.loops.push_back({extent, false});
  nest.write = identityAccess(shape.size());
  for (int64_t word = 0; word < words; ++word) {
    AccessMap map = nest.write;
    map.insert(map.begin(), fixed(word));
    nest.reads.push_back({bits, map});
  }
  return nest;
}

static Lane shiftedRight(const Lane &word, int64_t count) {
  return apply(BlockOpcode::ShiftRight, {word, word.constantInteger(count)});
}

// From 0 up to but not 1, in steps of 2^-24.
static Lane uniform(const Lane &word) {
  return shiftedRight(word, 8).to(ElementType::f32) * 0x1p-24;
}

// The same in steps of 2^-53.
static Lane uniform(const Lane &high, const Lane &low) {
  ElementType wide = ElementType::f64;
  return (shiftedRight(high, 5).to(wide) * 0x1p26 + shiftedRight(low, 6).to(wide)) * 0x1p-53;
}

static ElementType floatTypeOf(OperatorContext &c, ElementType otherwise) {
  ElementType type = c.elementType("dtype").value_or(otherwise);
  if (!isFloat(type))
    refuse("random numbers of type " + nameOf(type));
  return type;
}

static void drawUniform(OperatorContext &c, const Shape &shape, ElementType type) {
  double low = c.real("low", 0.0), high = c.real("high", 1.0);
  bool isDouble = type == ElementType::f64;
  c.result(c.nest(drawing(c, shape, isDouble ? 2 : 1, "random_uniform"), [&](llvm::ArrayRef<Lane> v) {
    Lane u = isDouble ? uniform(v[0], v[1]) : uniform(v[0]);
    return (u * (high - low) + low).to(type);
  }));
}

// Box and Muller (Ann. Math. Stat. 29, 1958).
static void drawNormal(OperatorContext &c, const Shape &shape, ElementType type) {
  double mean = c.real("mean", 0.0), scale = c.real("scale", 1.0);
  bool isDouble = type == ElementType::f64;
  c.result(c.nest(drawing(c, shape, isDouble ? 4 : 2, "random_normal"), [&](llvm::ArrayRef<Lane> v) {
    Lane u = isDouble ? uniform(v[0], v[1]) : uniform(v[0]), angle = isDouble ? uniform(v[2], v[3]) : uniform(v[1]);
    Lane radius = squareRoot(logarithm(1.0 - u) * -2.0); // 1 - u is never 0
    Lane normal = radius * apply(BlockOpcode::Cos, {angle * (2 * std::numbers::pi)});
    return (normal * scale + mean).to(type);
  }));
}

static Shape shapeAttribute(OperatorContext &c) {
  Shape shape = c.integerList("shape");
  if (!c.has("shape") || llvm::any_of(shape, [](int64_t extent) { return extent < 0; }))
    refuse("attribute 'shape' is missing or negative");
  return shape;
}

static void randomUniform(OperatorContext &c) {
  drawUniform(c, shapeAttribute(c), floatTypeOf(c, ElementType::f32));
}

static void randomNormal(OperatorContext &c) {
  drawNormal(c, shapeAttribute(c), floatTypeOf(c, ElementType::f32));
}

static void randomUniformLike(OperatorContext &c) {
  drawUniform(c, c.operand(0).shape(), floatTypeOf(c, c.operand(0).type()));
}

static void randomNormalLike(OperatorContext &c) {
  drawNormal(c, c.operand(0).shape(), floatTypeOf(c, c.operand(0).type()));
}

// One with the probability that the operand gives.
static void bernoulli(OperatorContext &c) {
  TensorRef p = c.operand(0);
  c.requireFloat(p);
  ElementType type = c.elementType("dtype").value_or(p.type());
  Nest nest = drawing(c, p.shape(), 1, "bernoulli");
  nest.reads.push_back({p, nest.write});
  c.result(c.nest(nest, [&](llvm::ArrayRef<Lane> v) { return (uniform(v[0]) < v[1].to(ElementType::f32)).to(type); }));
}

// Classes drawn with probabilities proportional to e^x: the number of partial sums of the probabilities, all but the
// last, that a uniform number reaches.
static void multinomial(OperatorContext &c) {
  TensorRef x = c.operand(0);
  c.requireFloat(x);
  ElementType type = c.elementType("dtype").value_or(ElementType::i32);
  int64_t samples = c.integer("sample_size", 1);
  if (x.rank() != 2 || x.dim(1) < 1 || samples < 0)
    refuse("operand of shape " + shapeText(x.shape()) + " instead of [batch, classes], " + llvm::Twine(samples) +
           " samples");
  if (type != ElementType::i32 && type != ElementType::i64)
    refuse("dtype " + nameOf(type) + " instead of i32 or i64");
  int64_t batch = x.dim(0), classes = x.dim(1);
  ElementType wide = x.type() == ElementType::f64 ? x.type() : ElementType::f32;
  TensorRef largest = c.reduce("multinomial.max", x, {1}, true, Combiner::Maximum);
  TensorRef weights = c.map("multinomial.exp", {x, largest},
                            [&](llvm::ArrayRef<Lane> v) { return exponential(v[0].to(wide) - v[1].to(wide)); });
  TensorRef sums = c.cumulative(weights, 1, Combiner::Sum, false, false);
  TensorRef total = c.slice(sums, {0, classes - 1}, {batch, 1});
  Nest draw = drawing(c, {batch, samples}, 1, "multinomial.draw");
  draw.reads.push_back({total, {at(0), fixed(0)}});
  TensorRef drawn = c.nest(draw, [&](llvm::ArrayRef<Lane> v) { return uniform(v[0]).to(wide) * v[1]; });
  if (classes == 1)
    return c.result(c.fill(type, {batch, samples}, 0));
  Nest count;
  count.operation = "multinomial";
  count.loops = {{batch, false}, {samples, false}, {classes - 1, true}};
  count.reads = {{drawn, {at(0), at(1)}}, {c.slice(sums, {0, 0}, {batch, classes - 1}), {at(0), at(2)}}};
  count.write = identityAccess(2);
  count.combiner = Combiner::Sum;
  c.result(c.nest(count, [&](llvm::ArrayRef<Lane> v) { return (v[1] <= v[0]).to(type); }));
}

// Training: every element is dropped with probability `ratio`, what stays is scaled so that the mean stays too.
static void dropInTraining(OperatorContext &c, TensorRef x, TensorRef ratio) {
  c.requireFloat(x);
  Nest nest = drawing(c, x.shape(), 1, "dropout.mask");
  nest.reads.push_back({ratio, {}});
  TensorRef mask = c.nest(nest, [](llvm::ArrayRef<Lane> v) { return uniform(v[0]) >= v[1].to(ElementType::f32); });
  ElementType wide = Emitter::accumulatorOf(x.type());
  c.result(0, c.map("dropout", {x, mask, ratio}, [&](llvm::ArrayRef<Lane> v) {
    Lane kept = v[0].to(wide) / (1.0 - v[2].to(wide));
    return select(v[1], kept, kept.constant(0)).to(x.type());
  }));
  if (c.wants(1))
    c.result(1, c.opset < 10 ? c.convert(mask, x.type()) : mask);
}

// Inference: the identity; the mask is all true.
static void dropout(OperatorContext &c) {
  TensorRef x = c.operand(0), ratio;
  c.ignoreAttribute("seed");
  c.ignoreAttribute("consumed_inputs");
  bool training = false;
  if (c.opset < 12) {
    ratio = c.scalar(ElementType::f32, c.real("ratio", 0.5));
    training = c.opset < 7 && !c.flag("is_test");
  } else {
    training = c.optional(2) && c.knownInteger(2, "training_mode") != 0;
    ratio = c.optional(1) ? c.reshape(c.optional(1), {}) : c.scalar(ElementType::f32, 0.5);
  }
  if (training && !(ratio.known() && valuesOf<double>(ratio.constant())[0] == 0))
    return dropInTraining(c, x, ratio);
  c.result(0, x);
  if (c.wants(1))
    c.result(1, c.fill(c.opset < 10 ? x.type() : ElementType::boolean, x.shape(), 1));
}

void addRandom(OperatorTable &table) {
  table.add("RandomUniform", randomUniform);
  table.add("RandomNormal", randomNormal);
  table.add("RandomUniformLike", randomUniformLike);
  table.add("RandomNormalLike", randomNormalLike);
  table.add("Bernoulli", bernoulli);
  table.add("Multinomial", multinomial);
  table.add("Dropout", dropout);
}

} // namespace quadrille::graph::importer
