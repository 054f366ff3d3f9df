// Operators of transformers: softmax attention, rotary embedding, the cache of keys and values. LinearAttention.cpp has
// the recurrent ones.
#include "graph/import/Activation.h"
#include "graph/import/Product.h"
#include "graph/import/Window.h"

#include <cmath>
#include <limits>

namespace quadrille::graph::importer {

namespace {
// Attention of queries [batch, heads, queries, size] to keys [batch, key heads, keys, size]; each key head serves
// heads / key heads consecutive heads. Query i stands at position `past` + i among the keys, or, where the batch has
// `lengths`, at lengths[b] - queries + i.
struct AttentionForm {
  double scale = 1;
  double softcap = 0; // 0: none
  bool causal = false;
  int64_t leftWindow = -1, rightWindow = -1; // -1: unbounded
  int64_t past = 0;
  ElementType precision = ElementType::f32; // of the softmax
};

constexpr double infinity = std::numeric_limits<double>::infinity();
} // namespace

static ElementType commonAccumulator(ElementType a, ElementType b) {
  return a == ElementType::f64 || b == ElementType::f64 ? ElementType::f64 : ElementType::f32;
}

// The sum of the products of the nest's two reads in the type that it is accumulated in.
static TensorRef sumOfWideProducts(OperatorContext &c, Nest nest) {
  ElementType left = nest.reads[0].tensor.type(), wide = commonAccumulator(left, nest.reads[1].tensor.type());
  nest.combiner = Combiner::Sum;
  nest.numeric = productNumeric(left, wide);
  return c.nest(nest, [&](llvm::ArrayRef<Lane> x) { return x[0].to(wide) * x[1].to(wide); });
}

// The nest over [batch, heads, queries, columns, k] of left [batch, heads, queries, k] with right [batch, key heads,
// ...], whose last two dimensions are [columns, k] if transposed, else [k, columns]. Where heads share key heads, they
// are two loops.
static Nest headwiseProduct(OperatorContext &c, TensorRef left, TensorRef right, bool transposed,
                            llvm::StringRef operation) {
  int64_t heads = left.dim(1), keyHeads = right.dim(1), columns = right.dim(transposed ? 2 : 3);
  bool grouped = heads != keyHeads;
  Nest nest;
  nest.operation = operation.str();
  nest.loops = {{left.dim(0), false}, {keyHeads, false}};
  Shape shape = {left.dim(0), keyHeads};
  if (grouped) {
    nest.loops.push_back({heads / keyHeads, false});
    shape.push_back(heads / keyHeads);
  }
  nest.loops.insert(nest.loops.end(), {{left.dim(2), false}, {columns, false}, {left.dim(3), true}});
  shape.insert(shape.end(), {left.dim(2), left.dim(3)});
  unsigned k = static_cast<unsigned>(nest.loops.size()) - 1, column = k - 1;
  AccessMap leftMap = identityAccess(column);
  leftMap.push_back(at(k));
  nest.reads = {{c.reshape(left, shape), leftMap},
                {right, {at(0), at(1), at(transposed ? column : k), at(transposed ? k : column)}}};
  nest.write = identityAccess(k);
  return nest;
}

// q * k^T, before it is scaled: [batch, heads, queries, keys].
static TensorRef attentionProduct(OperatorContext &c, TensorRef q, TensorRef k) {
  TensorRef product = sumOfWideProducts(c, headwiseProduct(c, q, k, true, "attention.product"));
  return c.reshape(product, {q.dim(0), q.dim(1), q.dim(2), k.dim(2)});
}

static TensorRef attentionContext(OperatorContext &c, TensorRef probabilities, TensorRef v, ElementType type) {
  Nest nest = headwiseProduct(c, probabilities, v, false, "attention.context");
  bool plain = probabilities.type() == type && v.type() == type;
  TensorRef context = plain ? sumOfProducts(c, nest) : c.convert(sumOfWideProducts(c, nest), type);
  return c.reshape(context, {probabilities.dim(0), probabilities.dim(1), probabilities.dim(2), v.dim(3)});
}

static Lane scaledScore(const AttentionForm &form, Lane product) {
  Lane score = form.scale == 1 ? product : product * form.scale;
  return form.softcap > 0 ? hyperbolicTangent(score / form.softcap) * form.softcap : score;
}

// Scores of the keys that a query does not see become -infinity. A mask of numbers is added, one of booleans selects.
// Which keys are seen by position is computed from the loops' indices.
static TensorRef maskedScores(OperatorContext &c, const AttentionForm &form, TensorRef product, TensorRef mask,
                              TensorRef lengths) {
  int64_t queries = product.dim(2);
  Nest nest;
  nest.operation = "attention.scores";
  for (int64_t extent : product.shape())
    nest.loops.push_back({extent, false});
  nest.write = identityAccess(4);
  nest.reads = {{product, nest.write}};
  if (mask)
    nest.reads.push_back({mask, broadcastAccess(mask.shape(), product.shape())});
  if (lengths)
    nest.reads.push_back({lengths, {at(0)}});
  return c.nest(nest, [&](llvm::ArrayRef<Lane> x) {
    Lane score = scaledScore(form, x[0]), hidden = score.constant(-infinity);
    if (mask && mask.type() == ElementType::boolean) {
      score = select(x[1], score, hidden);
    } else if (mask) {
      // -infinity hides whatever the score is, NaN too.
      Lane bias = x[1].to(score.type());
      score = select(bias == -infinity, hidden, score + bias);
    }
    auto see = [&](Lane condition) { score = select(condition, score, hidden); };
    if (form.causal || form.leftWindow >= 0 || form.rightWindow >= 0) {
      Lane query = loopIndex(c, 2), key = loopIndex(c, 3);
      Lane before = lengths ? x.back() - query.constantInteger(queries) : query.constantInteger(form.past);
      Lane position = query + before;
      int64_t right = form.causal && form.rightWindow < 0 ? 0 : form.rightWindow;
      right = form.causal ? std::min<int64_t>(right, 0) : right;
      if (right >= 0)
        see(key <= (right == 0 ? position : position + key.constantInteger(right)));
      if (form.leftWindow >= 0)
        see(position - key <= key.constantInteger(form.leftWindow));
    }
    if (lengths)
      see(loopIndex(c, 3) < x.back());
    return score.to(form.precision);
  });
}

// Softmax over the last axis in which a row of nothing but -infinity gives zeros.
static TensorRef softmaxOfMasked(OperatorContext &c, TensorRef scores) {
  ElementType wide = Emitter::accumulatorOf(scores.type());
  TensorRef maximum = c.reduce("Max", scores, {3}, true, Combiner::Maximum);
  TensorRef powers = c.map("Exp", {scores, maximum}, [&](llvm::ArrayRef<Lane> x) {
    Lane score = x[0].to(wide), largest = x[1].to(wide);
    return select(largest == -infinity, score.constant(0), exponential(score - largest));
  });
  TensorRef sum = c.reduce("Sum", powers, {3}, true, Combiner::Sum);
  return c.map("Div", {powers, sum},
               [&](llvm::ArrayRef<Lane> x) { return select(x[1] == 0.0, x[0], x[0] / x[1]).to(scores.type()); });
}

// Whether some query may see no key at all.
static bool mayHideAll(const AttentionForm &form, int64_t queries, int64_t keys) {
  return form.leftWindow >= 0 && form.past + queries - 1 - form.leftWindow > keys - 1;
}

// The scaled score that the operator gives when nothing is specified: 1 / sqrt(size).
static double attentionScale(OperatorContext &c, TensorRef q) {
  return c.real("scale", q.dim(3) == 0 ? 1.0 : 1 / std::sqrt(static_cast<double>(q.dim(3))));
}

static void checkHeads(TensorRef q, TensorRef k, TensorRef v) {
  for (TensorRef tensor : {q, k, v})
    if (tensor.rank() != 4)
      refuse("operands of shapes " + shapeText(q.shape()) + ", " + shapeText(k.shape()) + " and " +
             shapeText(v.shape()) + " are not [batch, heads, positions, size]");
  if (k.dim(0) != q.dim(0) || v.dim(0) != q.dim(0) || k.dim(3) != q.dim(3) || v.dim(1) != k.dim(1) ||
      v.dim(2) != k.dim(2))
    refuse("queries, keys and values of shapes " + shapeText(q.shape()) + ", " + shapeText(k.shape()) + " and " +
           shapeText(v.shape()) + " do not fit");
  if (q.dim(1) != k.dim(1) && (k.dim(1) == 0 || q.dim(1) % k.dim(1) != 0))
    refuse(llvm::Twine(q.dim(1)) + " heads of queries are not a multiple of " + llvm::Twine(k.dim(1)) +
           " heads of keys");
}

static void checkPrecision(ElementType type) {
  if (type != ElementType::f16 && type != ElementType::bf16 && type != ElementType::f32 && type != ElementType::f64)
    refuse("softmax_precision is " + nameOf(type));
}

// What the composite says besides its operands q, k, v, the mask and the lengths. What is absent is not in effect.
static Attributes attentionAttributes(const AttentionForm &form, TensorRef mask, TensorRef lengths) {
  Attributes attributes = {{"scale", form.scale}, {"causal", static_cast<int64_t>(form.causal)}};
  attributes["mask"] = std::string(!mask ? "none" : mask.type() == ElementType::boolean ? "boolean" : "additive");
  if (form.softcap > 0)
    attributes["softcap"] = form.softcap;
  if (form.leftWindow >= 0)
    attributes["left_window"] = form.leftWindow;
  if (form.rightWindow >= 0)
    attributes["right_window"] = form.rightWindow;
  if (form.past != 0 && (form.causal || form.leftWindow >= 0 || form.rightWindow >= 0))
    attributes["past"] = form.past;
  if (lengths)
    attributes["lengths"] = int64_t(1);
  return attributes;
}

// [batch, positions, heads * size] as [batch, heads, positions, size].
static TensorRef splitHeads(OperatorContext &c, TensorRef packed, int64_t heads) {
  if (heads < 1 || packed.dim(2) % heads != 0)
    refuse("operand of shape " + shapeText(packed.shape()) + " with " + llvm::Twine(heads) + " heads");
  return c.transpose(c.reshape(packed, {packed.dim(0), packed.dim(1), heads, packed.dim(2) / heads}), {0, 2, 1, 3});
}

// The mask over all keys: what it leaves out at the end is hidden.
static TensorRef completeMask(OperatorContext &c, TensorRef mask, const Shape &scores) {
  std::string text = shapeText(mask.shape());
  if (mask.rank() > 0 && mask.dim(-1) < scores[3]) {
    std::vector<int64_t> before(mask.rank(), 0), after(mask.rank(), 0);
    after.back() = scores[3] - mask.dim(-1);
    if (isInteger(mask.type()))
      mask = c.convert(mask, ElementType::f32); // has -infinity
    mask = c.pad(mask, before, after,
                 mask.type() == ElementType::boolean ? Scalar{mask.type(), 0} : scalarOf(mask.type(), -infinity));
  }
  if (broadcastShapes(mask.shape(), scores) != scores)
    refuse("the mask of shape " + text + " does not broadcast to scores of shape " + shapeText(scores));
  return mask;
}

// Scaled dot product attention (Vaswani et al., arXiv:1706.03762). Operands: Q, K, V, mask, past keys, past values,
// numbers of keys that are no padding; results: Y, present keys, present values, scores.
static void attention(OperatorContext &c) {
  TensorRef q = c.operand(0), k = c.operand(1), v = c.operand(2), mask = c.optional(3), pastKey = c.optional(4),
            pastValue = c.optional(5), lengths = c.optional(6);
  c.requireFloat(q);
  c.requireFloat(v);
  c.requireSameType({q, k});
  int64_t heads = c.integer("q_num_heads", 0), keyHeads = c.integer("kv_num_heads", 0);
  bool packed = q.rank() == 3;
  if (packed) {
    if (k.rank() != 3 || v.rank() != 3)
      refuse("operands of shapes " + shapeText(q.shape()) + ", " + shapeText(k.shape()) + " and " +
             shapeText(v.shape()) + " do not have one rank");
    q = splitHeads(c, q, heads);
    k = splitHeads(c, k, keyHeads);
    v = splitHeads(c, v, keyHeads);
  }
  checkHeads(q, k, v);
  if ((heads != 0 && heads != q.dim(1)) || (keyHeads != 0 && keyHeads != k.dim(1)))
    refuse(llvm::Twine(heads) + " and " + llvm::Twine(keyHeads) + " heads for operands of shapes " +
           shapeText(q.shape()) + " and " + shapeText(k.shape()));

  AttentionForm form;
  form.scale = attentionScale(c, q);
  form.softcap = c.real("softcap", 0.0);
  form.causal = c.flag("is_causal");
  if (c.opset >= 25) {
    form.leftWindow = c.integer("left_window_size", -1);
    form.rightWindow = c.integer("right_window_size", -1);
  }
  if (form.softcap < 0 || form.leftWindow < -1 || form.rightWindow < -1)
    refuse("softcap or a window is negative");
  std::optional<ElementType> precision = c.elementType("softmax_precision");
  form.precision = precision.value_or(Emitter::accumulatorOf(q.type()));
  checkPrecision(form.precision);

  if (!pastKey != !pastValue)
    refuse("past keys and past values are not given together");
  if (pastKey) {
    if (lengths)
      refuse("both past keys and nonpad_kv_seqlen are given");
    c.requireSameType({k, pastKey});
    c.requireSameType({v, pastValue});
    if (pastKey.rank() != 4 || pastKey.shape() != Shape{k.dim(0), k.dim(1), pastKey.dim(2), k.dim(3)} ||
        pastValue.shape() != Shape{v.dim(0), v.dim(1), pastKey.dim(2), v.dim(3)})
      refuse("past keys and values of shapes " + shapeText(pastKey.shape()) + " and " + shapeText(pastValue.shape()) +
             " do not fit those of shapes " + shapeText(k.shape()) + " and " + shapeText(v.shape()));
    form.past = pastKey.dim(2);
    k = c.concat({pastKey, k}, 2);
    v = c.concat({pastValue, v}, 2);
  }
  if (lengths && (lengths.shape() != Shape{q.dim(0)} || lengths.type() != ElementType::i64))
    refuse("nonpad_kv_seqlen is " + nameOf(lengths.type()) + shapeText(lengths.shape()) + " instead of i64" +
           shapeText({q.dim(0)}));
  if (mask)
    mask = completeMask(c, mask, {q.dim(0), q.dim(1), q.dim(2), k.dim(2)});

  // The optional fourth result: the scores at one of four points.
  static const char *const points[] = {"product", "softcapped", "masked", "probabilities"};
  int64_t point = c.integer("qk_matmul_output_mode", 0);
  if (point < 0 || point > 3)
    refuse("qk_matmul_output_mode is " + llvm::Twine(point));
  Attributes attributes = attentionAttributes(form, mask, lengths);
  if (c.wants(3))
    attributes["scores"] = std::string(points[point]);

  std::vector<TensorRef> operands = {q, k, v};
  for (TensorRef more : {mask, lengths})
    if (more)
      operands.push_back(more);
  std::vector<TensorRef> results = c.composite("attention", operands, attributes, [&](llvm::ArrayRef<TensorRef> in) {
    TensorRef maskInside = mask ? in[3] : TensorRef(), lengthsInside = lengths ? in.back() : TensorRef();
    ElementType type = q.type();
    TensorRef product = attentionProduct(c, in[0], in[1]);
    TensorRef scores = maskedScores(c, form, product, maskInside, lengthsInside);
    bool guarded = mask || lengths || mayHideAll(form, q.dim(2), k.dim(2));
    TensorRef probabilities = c.convert(guarded ? softmaxOfMasked(c, scores) : softmaxOver(c, scores, 3, false), type);
    std::vector<TensorRef> inside = {attentionContext(c, probabilities, in[2], type)};
    if (!c.wants(3))
      return inside;
    AttentionForm shown = form;
    if (point == 0)
      shown.softcap = 0;
    if (point < 2)
      inside.push_back(c.map("attention.scores", {product},
                             [&](llvm::ArrayRef<Lane> x) { return scaledScore(shown, x[0]).to(type); }));
    else
      inside.push_back(point == 2 ? c.convert(scores, type) : probabilities);
    return inside;
  });
  TensorRef y = results[0];
  c.result(0, packed ? c.reshape(c.transpose(y, {0, 2, 1, 3}), {y.dim(0), y.dim(2), y.dim(1) * y.dim(3)}) : y);
  c.result(1, k);
  c.result(2, v);
  if (c.wants(3))
    c.result(3, results[1]);
}

// Attention whose scores and probabilities the model changes by graphs of its own (Dong et al., arXiv:2412.05496).
static void flexAttention(OperatorContext &c) {
  TensorRef q = c.operand(0), k = c.operand(1), v = c.operand(2);
  c.requireFloat(q);
  c.requireSameType({q, k, v});
  checkHeads(q, k, v);
  AttentionForm form;
  form.scale = attentionScale(c, q);
  form.precision = c.elementType("softmax_precision").value_or(Emitter::accumulatorOf(q.type()));
  checkPrecision(form.precision);
  const onnx::AttributeProto *scoreGraph = c.graphAttribute("score_mod"), *graph = c.graphAttribute("prob_mod");
  auto modified = [&](const onnx::AttributeProto *by, TensorRef tensor) {
    if (!by)
      return tensor;
    std::vector<TensorRef> results = c.importGraph(*by, {tensor});
    if (results.size() != 1 || results[0].shape() != tensor.shape() || results[0].type() != tensor.type())
      refuse("a graph gives something else than one tensor of its operand's shape and type");
    return results[0];
  };
  auto attend = [&](TensorRef q, TensorRef k, TensorRef v) {
    TensorRef scores = modified(scoreGraph, maskedScores(c, form, attentionProduct(c, q, k), {}, {}));
    TensorRef probabilities = modified(graph, softmaxOver(c, scores, 3, false));
    return attentionContext(c, probabilities, v, v.type());
  };
  // A graph may read tensors around it, which a composite's body does not see; and with it the name says too little.
  if (scoreGraph || graph)
    return c.result(attend(q, k, v));
  c.result(c.composite1("attention", {q, k, v}, attentionAttributes(form, {}, {}),
                        [&](llvm::ArrayRef<TensorRef> in) { return attend(in[0], in[1], in[2]); }));
}

// A copy of the cache in which the update takes the place of the elements from each sample's write index on.
static void tensorScatter(OperatorContext &c) {
  TensorRef cache = c.operand(0), update = c.operand(1), start = c.optional(2);
  c.requireSameType({cache, update});
  std::string mode = c.text("mode", "linear");
  if (mode != "linear" && mode != "circular")
    refuse("mode is '" + mode + "' instead of linear or circular");
  int64_t axis = normalAxis(c.integer("axis", -2), cache.rank());
  if (axis == 0)
    refuse("axis is that of the batch");
  Shape expected = cache.shape();
  expected[axis] = update.rank() == cache.rank() ? update.dim(axis) : 0;
  if (update.shape() != expected || update.dim(axis) > cache.dim(axis))
    refuse("an update of shape " + shapeText(update.shape()) + " for a cache of shape " + shapeText(cache.shape()));
  if (start && start.shape() != Shape{cache.dim(0)})
    refuse("write_indices of shape " + shapeText(start.shape()) + " for a batch of " + llvm::Twine(cache.dim(0)));
  int64_t length = update.dim(axis), most = cache.dim(axis);
  if (!start) {
    Shape rest = cache.shape();
    std::vector<int64_t> offsets(cache.rank(), 0);
    offsets[axis] = length;
    rest[axis] = most - length;
    return c.result(c.concat({update, c.slice(cache, offsets, rest)}, axis));
  }
  // As [batch, before the axis, axis, after it].
  auto dimensions = llvm::ArrayRef(cache.shape());
  int64_t batch = cache.dim(0), before = product(dimensions.slice(1, axis - 1)),
          after = product(dimensions.drop_front(axis + 1));
  Nest nest; // where each slice goes: (sample, before, position)
  nest.operation = "tensor_scatter.indices";
  nest.loops = {{batch, false}, {before, false}, {length, false}, {3, false}};
  nest.reads = {{c.convert(start, ElementType::i64), {at(0)}}};
  nest.write = identityAccess(4);
  TensorRef indices = c.nest(nest, [&](llvm::ArrayRef<Lane> x) {
    Lane position = x[0] + loopIndex(c, 2), part = loopIndex(c, 3);
    if (mode == "circular")
      position = apply(BlockOpcode::Modulo, {position, position.constantInteger(most)});
    return select(part == part.constantInteger(0), loopIndex(c, 0),
                  select(part == part.constantInteger(1), loopIndex(c, 1), position));
  });
  TensorRef result = c.scatterNd(c.reshape(cache, {batch, before, most, after}), indices,
                                 c.reshape(update, {batch, before, length, after}), Combiner::None);
  c.result(c.reshape(result, cache.shape()));
}

// Rotates pairs of elements by an angle that depends on the position (Su et al., arXiv:2104.09864): neighbours if
// interleaved, else the two halves. X is [batch, heads, positions, size] or [batch, positions, heads * size].
static void rotaryEmbedding(OperatorContext &c) {
  TensorRef x = c.operand(0), cosine = c.operand(1), sine = c.operand(2), positions = c.optional(3);
  c.requireFloat(x);
  c.requireSameType({x, cosine, sine});
  bool interleaved = c.flag("interleaved");
  int64_t heads = c.integer("num_heads", 0), rotated = c.integer("rotary_embedding_dim", 0);
  if (x.rank() != 4 && (x.rank() != 3 || heads < 1 || x.dim(2) % heads != 0))
    refuse("operand of shape " + shapeText(x.shape()) + " with " + llvm::Twine(heads) + " heads");
  TensorRef apart = x.rank() == 3 ? c.reshape(x, {x.dim(0), x.dim(1), heads, x.dim(2) / heads})
                                  : c.transpose(x, {0, 2, 1, 3}); // [batch, positions, heads, size]
  int64_t size = apart.dim(3);
  rotated = rotated == 0 ? size : rotated;
  if (rotated < 0 || rotated > size || rotated % 2 != 0)
    refuse("rotary_embedding_dim is " + llvm::Twine(rotated) + " of " + llvm::Twine(size));
  auto angles = [&](TensorRef cache) {
    TensorRef each = positions ? c.gather(cache, positions, 0) : cache;
    if (each.shape() != Shape{apart.dim(0), apart.dim(1), rotated / 2})
      refuse("angles of shape " + shapeText(each.shape()) + " instead of " +
             shapeText({apart.dim(0), apart.dim(1), rotated / 2}));
    return c.reshape(each, {apart.dim(0), apart.dim(1), 1, rotated / 2});
  };
  TensorRef result =
      c.composite1("rotary_embedding", {apart, angles(cosine), angles(sine)},
                   {{"interleaved", static_cast<int64_t>(interleaved)}}, [&](llvm::ArrayRef<TensorRef> in) {
                     Shape half = apart.shape();
                     half[3] = rotated / 2;
                     int64_t step = interleaved ? 2 : 1;
                     TensorRef first = c.slice(in[0], {0, 0, 0, 0}, half, {1, 1, 1, step});
                     TensorRef second = c.slice(in[0], {0, 0, 0, interleaved ? 1 : rotated / 2}, half, {1, 1, 1, step});
                     TensorRef left = c.map("rotate", {first, second, in[1], in[2]},
                                            [](llvm::ArrayRef<Lane> v) { return v[0] * v[2] - v[1] * v[3]; });
                     TensorRef right = c.map("rotate", {first, second, in[1], in[2]},
                                             [](llvm::ArrayRef<Lane> v) { return v[0] * v[3] + v[1] * v[2]; });
                     Shape pair = half, joined = half;
                     joined[3] = rotated;
                     pair.push_back(1);
                     TensorRef turned =
                         interleaved ? c.reshape(c.concat({c.reshape(left, pair), c.reshape(right, pair)}, 4), joined)
                                     : c.concat({left, right}, 3);
                     if (rotated == size)
                       return turned;
                     Shape rest = apart.shape();
                     rest[3] = size - rotated;
                     return c.concat({turned, c.slice(in[0], {0, 0, 0, rotated}, rest)}, 3);
                   });
  c.result(x.rank() == 3 ? c.reshape(result, x.shape()) : c.transpose(result, {0, 2, 1, 3}));
}

void addAttention(OperatorTable &table) {
  table.add("RotaryEmbedding", rotaryEmbedding);
  table.add("Attention", attention);
  table.add("ai.onnx.preview::FlexAttention", flexAttention);
  table.add("TensorScatter", tensorScatter);
}

} // namespace quadrille::graph::importer
