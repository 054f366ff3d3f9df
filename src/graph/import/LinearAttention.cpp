// Attention as a recurrence, and the convolution in front of it.
#include "graph/import/Product.h"
#include "graph/import/Window.h"

#include <cmath>

namespace quadrille::graph::importer {

// One step: the state S [batch, key heads, size, value size] is multiplied by the decay, the value is corrected by what
// S already gives for the key (the delta rule), its product with the key is added; the query reads the new state.
// Yang et al., arXiv:2412.06464. `in`: S, query, key, value, [decay], [beta]; all of one step.
static std::vector<TensorRef> linearAttentionStep(OperatorContext &c, llvm::ArrayRef<TensorRef> in, bool decays,
                                                  bool corrects) {
  TensorRef state = in[0], query = in[1], key = c.convert(in[2], ElementType::f32), value = in[3];
  int64_t batch = state.dim(0), heads = state.dim(1), size = state.dim(2), valueSize = state.dim(3);
  if (decays) {
    Shape shape = in[4].shape();
    shape.push_back(1);
    state = c.map("linear_attention.decay", {state, c.reshape(in[4], shape)},
                  [](llvm::ArrayRef<Lane> x) { return x[0] * exponential(x[1].to(x[0].type())); });
  }
  if (corrects) {
    Nest nest;
    nest.operation = "linear_attention.retrieve";
    nest.loops = {{batch, false}, {heads, false}, {valueSize, false}, {size, true}};
    nest.reads = {{key, {at(0), at(1), at(3)}}, {state, {at(0), at(1), at(3), at(2)}}};
    nest.write = identityAccess(3);
    value = c.map("linear_attention.correct", {in.back(), value, sumOfProducts(c, nest)},
                  [](llvm::ArrayRef<Lane> x) { return x[0].to(x[2].type()) * (x[1].to(x[2].type()) - x[2]); });
  }
  state = c.map("linear_attention.update",
                {state, c.reshape(key, {batch, heads, size, 1}), c.reshape(value, {batch, heads, 1, valueSize})},
                [](llvm::ArrayRef<Lane> x) { return x[0] + x[1] * x[2].to(x[0].type()); });
  Nest nest; // [batch, key heads, heads of queries for each, value size]
  nest.operation = "linear_attention.read";
  nest.loops = {{batch, false}, {heads, false}, {query.dim(2), false}, {valueSize, false}, {size, true}};
  nest.reads = {{c.convert(query, ElementType::f32), {at(0), at(1), at(2), at(4)}},
                {state, {at(0), at(1), at(4), at(3)}}};
  nest.write = identityAccess(4);
  return {state, sumOfProducts(c, nest)};
}

// Operands: query [batch, steps, heads * size], key, value, past state, decay, beta.
static void linearAttention(OperatorContext &c) {
  TensorRef query = c.operand(0), key = c.operand(1), value = c.operand(2), past = c.optional(3), decay = c.optional(4),
            beta = c.optional(5);
  c.requireFloat(query);
  c.requireSameType({query, key, value});
  c.ignoreAttribute("chunk_size"); // how fast, not what
  int64_t heads = c.integer("q_num_heads"), keyHeads = c.integer("kv_num_heads");
  std::string rule = c.text("update_rule", "gated_delta");
  if (rule != "linear" && rule != "gated" && rule != "delta" && rule != "gated_delta")
    refuse("update_rule is '" + rule + "' instead of linear, gated, delta or gated_delta");
  bool decays = rule == "gated" || rule == "gated_delta", corrects = rule == "delta" || rule == "gated_delta";
  if (decays != static_cast<bool>(decay) || corrects != static_cast<bool>(beta))
    refuse("update_rule '" + rule + "' takes " + (decays ? "a" : "no") + " decay and " + (corrects ? "a" : "no") +
           " beta");
  if (keyHeads < 1 || heads < 1 || heads % keyHeads != 0)
    refuse(llvm::Twine(heads) + " heads of queries are not a multiple of " + llvm::Twine(keyHeads) + " heads of keys");
  auto unpacked = [&](TensorRef packed, llvm::StringRef what, int64_t by) {
    if (packed.rank() != 3 || packed.dim(0) != query.dim(0) || packed.dim(1) != query.dim(1) || packed.dim(2) % by != 0)
      refuse(what + " of shape " + shapeText(packed.shape()) + " with " + llvm::Twine(by) +
             " heads beside a query of " + shapeText(query.shape()));
    return c.reshape(packed, {packed.dim(0), packed.dim(1), by, packed.dim(2) / by});
  };
  query = unpacked(query, "a query", heads);
  key = unpacked(key, "a key", keyHeads);
  value = unpacked(value, "a value", keyHeads);
  int64_t batch = query.dim(0), steps = query.dim(1), size = query.dim(3), valueSize = value.dim(3);
  if (key.dim(3) != size)
    refuse("keys of size " + llvm::Twine(key.dim(3)) + " for queries of size " + llvm::Twine(size));
  query = c.reshape(query, {batch, steps, keyHeads, heads / keyHeads, size});
  if (decay) {
    decay = unpacked(decay, "a decay", keyHeads);
    if (decay.dim(3) != 1 && decay.dim(3) != size)
      refuse("a decay of " + llvm::Twine(decay.dim(3)) + " numbers for keys of size " + llvm::Twine(size));
  }
  if (beta) {
    beta = unpacked(beta, "a beta", beta.rank() == 3 && beta.dim(2) == 1 ? 1 : keyHeads);
    if (beta.dim(3) != 1)
      refuse("a beta of " + llvm::Twine(beta.dim(3)) + " numbers for each head");
  }
  Shape stateShape = {batch, keyHeads, size, valueSize};
  if (past && past.shape() != stateShape)
    refuse("a past state of shape " + shapeText(past.shape()) + " instead of " + shapeText(stateShape));
  if (past)
    c.requireFloat(past);
  double scale = c.real("scale", 0.0);
  if (scale == 0)
    scale = size == 0 ? 1.0 : 1 / std::sqrt(static_cast<double>(size));

  ElementType type = query.type(), stateType = past ? past.type() : type;
  std::vector<TensorRef> operands = {query, key, value};
  for (TensorRef more : {decay, beta, past})
    if (more)
      operands.push_back(more);
  Attributes attributes = {{"update_rule", rule}, {"scale", scale}, {"past", static_cast<int64_t>(bool(past))}};
  std::vector<TensorRef> results =
      c.composite("linear_attention", operands, attributes, [&](llvm::ArrayRef<TensorRef> in) {
        TensorRef initial = past ? c.convert(in.back(), ElementType::f32) : c.fill(ElementType::f32, stateShape, 0);
        llvm::ArrayRef<TensorRef> sequences = past ? in.drop_back() : in;
        Emitter::ScanAxes axes;
        axes.input.assign(sequences.size(), 1);
        axes.inputReversed.assign(sequences.size(), false);
        axes.output = {1};
        axes.outputReversed = {false};
        std::vector<TensorRef> scanned =
            c.scan({initial}, sequences, {}, steps, axes,
                   [&](llvm::ArrayRef<TensorRef> step) { return linearAttentionStep(c, step, decays, corrects); });
        TensorRef output = c.map("linear_attention.scale", {scanned[1]},
                                 [&](llvm::ArrayRef<Lane> x) { return (x[0] * scale).to(type); });
        return std::vector<TensorRef>{output, c.convert(scanned[0], stateType)};
      });
  c.result(0, c.reshape(results[0], {batch, steps, heads * valueSize}));
  c.result(1, results[1]);
}

// A convolution of each channel of [batch, channels, length] with its own taps over the elements up to its own, which
// begin with the past state [batch, channels, taps - 1] or zeros.
static void causalConvolution(OperatorContext &c) {
  TensorRef x = c.operand(0), w = c.operand(1), bias = c.optional(2), past = c.optional(3);
  c.requireFloat(x);
  c.requireSameType({x, w});
  std::string activation = c.text("activation", "none");
  if (activation != "none" && activation != "silu" && activation != "swish")
    refuse("activation is '" + activation + "' instead of none, silu or swish");
  bool silu = activation != "none";
  if (x.rank() != 3 || w.rank() != 3 || w.shape() != Shape{x.dim(1), 1, w.dim(2)} || w.dim(2) < 1)
    refuse("operands of shapes " + shapeText(x.shape()) + " and " + shapeText(w.shape()) +
           " are not [batch, channels, length] and [channels, 1, taps]");
  int64_t batch = x.dim(0), channels = x.dim(1), length = x.dim(2), state = w.dim(2) - 1;
  if (bias)
    c.requireSameType({x, bias});
  if (bias && bias.shape() != Shape{channels})
    refuse("bias of shape " + shapeText(bias.shape()) + " for " + llvm::Twine(channels) + " channels");
  if (past)
    c.requireSameType({x, past});
  if (past && past.shape() != Shape{batch, channels, state})
    refuse("a past state of shape " + shapeText(past.shape()) + " instead of " + shapeText({batch, channels, state}));
  std::vector<TensorRef> operands = {x, w};
  for (TensorRef more : {bias, past})
    if (more)
      operands.push_back(more);
  Attributes attributes = {{"activation", std::string(silu ? "silu" : "none")},
                           {"bias", static_cast<int64_t>(bool(bias))},
                           {"past", static_cast<int64_t>(bool(past))}};
  TensorRef y = c.composite1("causal_convolution", operands, attributes, [&](llvm::ArrayRef<TensorRef> in) {
    Window window;
    window.kernel = {w.dim(2)};
    window.strides = window.dilations = {1};
    window.padBefore = {past ? 0 : state};
    window.padAfter = {0};
    window.result = {length};
    TensorRef all = past ? c.concat({in.back(), in[0]}, 2) : in[0];
    Convolution convolved = convolution(c, all, in[1], channels, window, scalarOf(x.type(), 0));
    if (bias)
      startFromBias(c, convolved, in[2]);
    TensorRef sum = c.reshape(sumOfProducts(c, convolved.nest), convolved.shape);
    if (!silu)
      return sum;
    ElementType wide = Emitter::accumulatorOf(x.type());
    return c.map("silu", {sum}, [&](llvm::ArrayRef<Lane> v) {
      Lane value = v[0].to(wide);
      return (value / (1.0 + exponential(-value))).to(x.type());
    });
  });
  c.result(0, y);
  // The last elements, of the past and the input together.
  int64_t taken = std::min(length, state);
  TensorRef fresh = c.slice(x, {0, 0, length - taken}, {batch, channels, taken});
  TensorRef before = past ? c.slice(past, {0, 0, taken}, {batch, channels, state - taken})
                          : c.fill(x.type(), {batch, channels, state - taken}, 0);
  c.result(1, c.concat({before, fresh}, 2));
}

void addLinearAttention(OperatorTable &table) {
  table.add("LinearAttention", linearAttention);
  table.add("CausalConvWithState", causalConvolution);
}

} // namespace quadrille::graph::importer
