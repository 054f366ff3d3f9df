// LSTM, GRU and RNN: the projection of all inputs is one contraction before the loop, the recurrence a scan.
#include "graph/import/Product.h"

#include <algorithm>

namespace quadrille::graph::importer {

namespace {
// One activation function with its parameters, as the attributes `activations`, `activation_alpha` and
// `activation_beta` name them.
struct ActivationFunction {
  std::string name;
  double alpha = 0, beta = 0;

  Lane operator()(Lane x) const {
    if (name == "sigmoid")
      return 1.0 / (1.0 + exponential(-x));
    if (name == "tanh")
      return hyperbolicTangent(x);
    if (name == "relu")
      return max(x, 0.0);
    if (name == "affine")
      return x * alpha + beta;
    if (name == "leakyrelu")
      return select(x < 0.0, x * alpha, x);
    if (name == "thresholdedrelu")
      return select(x > alpha, x, x.constant(0));
    if (name == "scaledtanh")
      return hyperbolicTangent(x * beta) * alpha;
    if (name == "hardsigmoid")
      return min(max(x * alpha + beta, 0.0), 1.0);
    if (name == "elu")
      return select(x < 0.0, exponentialMinusOne(x) * alpha, x);
    if (name == "softsign")
      return x / (1.0 + absolute(x));
    return max(x, 0.0) + logarithmOnePlus(exponential(-absolute(x))); // softplus
  }
};

// What the three operators have in common. Extents: s steps, b batch, i inputs, h hidden units.
struct Recurrence {
  OperatorContext &c;
  unsigned gates;          // rows of W and R are gates * h
  TensorRef x, w, r, b;    // [s, b, i], [directions, gates * h, i], [directions, gates * h, h], [directions, 2 gates h]
  TensorRef lengths;       // i64 [batch, 1]; null when every sequence has s steps
  TensorRef initialHidden; // [directions, b, h] or null
  int64_t steps, batch, hidden, directions;
  std::string direction;
  bool batchFirst; // layout = 1
  double clip;     // 0: none
  std::vector<ActivationFunction> activations;

  Recurrence(OperatorContext &c, unsigned gates, std::vector<std::string> defaults);

  bool reversed(int64_t d) const { return direction == "reverse" || d == 1; }
  ActivationFunction activation(int64_t d, size_t which) const {
    return activations[static_cast<size_t>(d) * (activations.size() / directions) + which];
  }
  // One direction's part of a tensor whose first dimension is the direction.
  TensorRef part(TensorRef tensor, int64_t d, int64_t start, int64_t count) const;
  TensorRef part(TensorRef tensor, int64_t d) const;
  TensorRef state(TensorRef initial, int64_t d) const; // [b, h]
  // x * W^T + bias for the rows of all gates: [s, b, gates * h].
  TensorRef project(int64_t d, TensorRef bias) const;
  // h * R^T for rows [start, start + count) of R.
  TensorRef recur(TensorRef hidden, TensorRef weights) const;
  Lane clipped(Lane value) const { return clip > 0 ? min(max(value, -clip), clip) : value; }
  // The columns of one gate.
  TensorRef gate(TensorRef all, unsigned index) const {
    return c.slice(all, {0, static_cast<int64_t>(index) * hidden}, {batch, hidden});
  }
  // Y and the final states, from what each direction gives: [s, b, h] and [b, h].
  void finish(const std::vector<TensorRef> &all, const std::vector<std::vector<TensorRef>> &finals) const;
  Attributes attributes() const;
};
} // namespace

static std::vector<ActivationFunction> activationsOf(OperatorContext &c, std::vector<std::string> names) {
  static const struct {
    const char *name;
    double alpha, beta;
    int parameters;
  } known[] = {{"sigmoid", 0, 0, 0},      {"tanh", 0, 0, 0},
               {"relu", 0, 0, 0},         {"affine", 1, 0, 2},
               {"leakyrelu", 0.01, 0, 1}, {"thresholdedrelu", 1, 0, 1},
               {"scaledtanh", 1, 1, 2},   {"hardsigmoid", 0.2, 0.5, 2},
               {"elu", 1, 0, 1},          {"softsign", 0, 0, 0},
               {"softplus", 0, 0, 0}};
  // Values are consumed in order by the functions that have the parameter.
  std::vector<double> alphas = c.realList("activation_alpha"), betas = c.realList("activation_beta");
  size_t nextAlpha = 0, nextBeta = 0;
  std::vector<ActivationFunction> result;
  for (const std::string &name : names) {
    std::string lower = llvm::StringRef(name).lower();
    const auto *entry = llvm::find_if(known, [&](const auto &candidate) { return lower == candidate.name; });
    if (entry == std::end(known))
      refuseUnsupported("activation '" + name + "'");
    ActivationFunction function = {lower, entry->alpha, entry->beta};
    if (entry->parameters >= 1 && nextAlpha < alphas.size())
      function.alpha = alphas[nextAlpha++];
    if (entry->parameters >= 2 && nextBeta < betas.size())
      function.beta = betas[nextBeta++];
    result.push_back(function);
  }
  return result;
}

Recurrence::Recurrence(OperatorContext &c, unsigned gates, std::vector<std::string> defaults) : c(c), gates(gates) {
  direction = c.text("direction", "forward");
  if (direction != "forward" && direction != "reverse" && direction != "bidirectional")
    refuse("direction is '" + direction + "' instead of forward, reverse or bidirectional");
  directions = direction == "bidirectional" ? 2 : 1;
  batchFirst = c.flag("layout");
  clip = c.real("clip", 0.0);
  if (clip < 0)
    refuse("clip is negative");
  if (c.opset < 7)
    c.ignoreAttribute("output_sequence");
  std::vector<std::string> names = c.textList("activations");
  if (names.empty())
    for (int64_t d = 0; d < directions; ++d)
      names.insert(names.end(), defaults.begin(), defaults.end());
  if (names.size() != defaults.size() * directions)
    refuse(llvm::Twine(names.size()) + " activations instead of " + llvm::Twine(defaults.size() * directions));
  activations = activationsOf(c, names);

  x = c.operand(0);
  w = c.operand(1);
  r = c.operand(2);
  b = c.optional(3);
  c.requireSameType({x, w, r});
  c.requireFloat(x);
  if (x.rank() != 3 || w.rank() != 3 || r.rank() != 3)
    refuse("X, W and R of shapes " + shapeText(x.shape()) + ", " + shapeText(w.shape()) + " and " +
           shapeText(r.shape()) + " do not have rank 3");
  hidden = c.integer("hidden_size", r.dim(2));
  if (batchFirst)
    x = c.transpose(x, {1, 0, 2});
  steps = x.dim(0);
  batch = x.dim(1);
  if (w.shape() != Shape{directions, gates * hidden, x.dim(2)} ||
      r.shape() != Shape{directions, gates * hidden, hidden} ||
      (b && b.shape() != Shape{directions, 2 * gates * hidden}))
    refuse("W, R or B of shapes " + shapeText(w.shape()) + ", " + shapeText(r.shape()) +
           (b ? ", " + shapeText(b.shape()) : std::string()) + " do not fit " + llvm::Twine(directions) +
           " directions of " + llvm::Twine(hidden) + " hidden units");
  if (TensorRef given = c.optional(4)) {
    if (given.shape() != Shape{batch})
      refuse("sequence_lens of shape " + shapeText(given.shape()) + " for a batch of " + llvm::Twine(batch));
    bool full =
        given.known() && llvm::all_of(valuesOf<int64_t>(given.constant()), [&](int64_t n) { return n == steps; });
    if (!full)
      lengths = c.reshape(c.convert(given, ElementType::i64), {batch, 1});
  }
  initialHidden = c.optional(5);
}

TensorRef Recurrence::part(TensorRef tensor, int64_t d, int64_t start, int64_t count) const {
  std::vector<int64_t> starts(tensor.rank(), 0);
  Shape extents = tensor.shape(), shape(tensor.shape().begin() + 1, tensor.shape().end());
  starts[0] = d;
  starts[1] = start;
  extents[0] = 1;
  extents[1] = shape[0] = count;
  return c.reshape(c.slice(tensor, starts, extents), shape);
}

TensorRef Recurrence::part(TensorRef tensor, int64_t d) const {
  return part(tensor, d, 0, tensor.dim(1));
}

TensorRef Recurrence::state(TensorRef initial, int64_t d) const {
  if (!initial)
    return c.fill(x.type(), {batch, hidden}, 0);
  if (batchFirst && initial.rank() == 3)
    initial = c.transpose(initial, {1, 0, 2});
  if (initial.shape() != Shape{directions, batch, hidden})
    refuse("initial state of shape " + shapeText(initial.shape()) + " instead of " +
           shapeText({directions, batch, hidden}));
  return part(initial, d);
}

TensorRef Recurrence::project(int64_t d, TensorRef bias) const {
  Nest nest;
  nest.operation = "rnn.project";
  nest.loops = {{steps, false}, {batch, false}, {gates * hidden, false}, {x.dim(2), true}};
  nest.reads = {{x, {at(0), at(1), at(3)}}, {part(w, d), {at(2), at(3)}}};
  nest.write = identityAccess(3);
  if (bias)
    nest.initial = c.broadcast(bias, {steps, batch, gates * hidden});
  return sumOfProducts(c, nest);
}

TensorRef Recurrence::recur(TensorRef state, TensorRef weights) const {
  Nest nest;
  nest.operation = "rnn.recur";
  nest.loops = {{batch, false}, {weights.dim(0), false}, {hidden, true}};
  nest.reads = {{state, {at(0), at(2)}}, {weights, {at(1), at(2)}}};
  nest.write = identityAccess(2);
  return sumOfProducts(c, nest);
}

void Recurrence::finish(const std::vector<TensorRef> &all, const std::vector<std::vector<TensorRef>> &finals) const {
  auto join = [&](std::vector<TensorRef> parts, int64_t axis) {
    for (TensorRef &tensor : parts) {
      Shape shape = tensor.shape();
      shape.insert(shape.begin() + axis, 1);
      tensor = c.reshape(tensor, shape);
    }
    return parts.size() == 1 ? parts[0] : c.concat(parts, axis);
  };
  if (c.wants(0)) {
    TensorRef y = join(all, 1); // [s, directions, b, h]
    c.result(0, batchFirst ? c.transpose(y, {2, 0, 1, 3}) : y);
  }
  for (unsigned i = 0; i < finals[0].size(); ++i) {
    if (!c.wants(1 + i))
      continue;
    std::vector<TensorRef> parts;
    for (const std::vector<TensorRef> &states : finals)
      parts.push_back(states[i]);
    TensorRef last = join(parts, 0); // [directions, b, h]
    c.result(1 + i, batchFirst ? c.transpose(last, {1, 0, 2}) : last);
  }
}

Attributes Recurrence::attributes() const {
  std::vector<std::string> names;
  for (const ActivationFunction &function : activations)
    names.push_back(function.name);
  return {{"direction", direction}, {"hidden_size", hidden}, {"clip", clip}, {"activations", names}};
}

// Runs the recurrence of every direction within one composite. `step` gets the direction, the step's projection
// [b, gates * h], the states [b, h] (hidden first) and the captured tensors, and returns the new states.
// `captures` are the tensors of one direction that every step reads.
template <typename Bias, typename Captures, typename Step>
static void runRecurrence(Recurrence &rnn, llvm::StringRef name, llvm::ArrayRef<TensorRef> initialStates, Bias biasOf,
                          Captures capturesOf, Step step) {
  OperatorContext &c = rnn.c;
  size_t states = initialStates.size();
  std::vector<TensorRef> all;
  std::vector<std::vector<TensorRef>> finals;
  for (int64_t d = 0; d < rnn.directions; ++d) {
    bool reversed = rnn.reversed(d);
    std::vector<TensorRef> operands = {rnn.project(d, biasOf(d))};
    for (TensorRef initial : initialStates)
      operands.push_back(rnn.state(initial, d));
    std::vector<TensorRef> captures = capturesOf(d);
    operands.insert(operands.end(), captures.begin(), captures.end());
    if (rnn.lengths)
      operands.push_back(rnn.lengths);
    Attributes attributes = rnn.attributes();
    attributes["reversed"] = static_cast<int64_t>(reversed);
    std::vector<TensorRef> results = c.composite(name, operands, attributes, [&](llvm::ArrayRef<TensorRef> in) {
      std::vector<TensorRef> sequences = {in[0]};
      Emitter::ScanAxes axes;
      axes.input = {0};
      axes.inputReversed = {reversed};
      axes.output = {0};
      axes.outputReversed = {reversed};
      if (rnn.lengths) { // the step's number, to compare with each sequence's length
        std::vector<int64_t> numbers(rnn.steps);
        for (int64_t t = 0; t < rnn.steps; ++t)
          numbers[t] = t;
        sequences.push_back(c.integers(numbers));
        axes.input.push_back(0);
        axes.inputReversed.push_back(reversed);
      }
      llvm::ArrayRef<TensorRef> captured = in.drop_front(1 + states);
      return c.scan(in.slice(1, states), sequences, captured, rnn.steps, axes, [&](llvm::ArrayRef<TensorRef> at) {
        llvm::ArrayRef<TensorRef> before = at.take_front(states);
        llvm::ArrayRef<TensorRef> inner = at.drop_front(states + sequences.size());
        std::vector<TensorRef> after = step(d, at[states], before, inner);
        TensorRef output = after[0];
        if (rnn.lengths) { // past its end a sequence keeps its states and gives zeros
          TensorRef number = at[states + 1], lengths = inner.back();
          for (size_t i = 0; i < states; ++i)
            after[i] = c.map("rnn.mask", {number, lengths, after[i], before[i]},
                             [](llvm::ArrayRef<Lane> v) { return select(v[0] < v[1], v[2], v[3]); });
          output = c.map("rnn.mask", {number, lengths, output},
                         [](llvm::ArrayRef<Lane> v) { return select(v[0] < v[1], v[2], v[2].constant(0)); });
        }
        after.push_back(output);
        return after;
      });
    });
    all.push_back(results.back());
    results.pop_back();
    finals.push_back(results);
  }
  rnn.finish(all, finals);
}

// Wb + Rb, one number for each row of W.
static TensorRef bothBiases(Recurrence &rnn, int64_t d) {
  if (!rnn.b)
    return {};
  int64_t rows = rnn.gates * rnn.hidden;
  return rnn.c.map("rnn.bias", {rnn.part(rnn.b, d, 0, rows), rnn.part(rnn.b, d, rows, rows)},
                   [](llvm::ArrayRef<Lane> v) { return v[0] + v[1]; });
}

// Gates in the order i, o, f, c. Ct = f * Ct-1 + i * g(c), Ht = o * h(Ct); peepholes add P * C.
static void lstm(OperatorContext &c) {
  Recurrence rnn(c, 4, {"Sigmoid", "Tanh", "Tanh"});
  bool coupled = c.flag("input_forget");
  TensorRef peepholes = c.optional(7);
  if (peepholes && peepholes.shape() != Shape{rnn.directions, 3 * rnn.hidden})
    refuse("P of shape " + shapeText(peepholes.shape()));
  runRecurrence(
      rnn, "lstm", {rnn.initialHidden, c.optional(6)}, [&](int64_t d) { return bothBiases(rnn, d); },
      [&](int64_t d) {
        std::vector<TensorRef> captures = {rnn.part(rnn.r, d)};
        if (peepholes)
          for (int64_t gate = 0; gate < 3; ++gate) // i, o, f
            captures.push_back(rnn.part(peepholes, d, gate * rnn.hidden, rnn.hidden));
        return captures;
      },
      [&](int64_t d, TensorRef projected, llvm::ArrayRef<TensorRef> states, llvm::ArrayRef<TensorRef> captures) {
        ActivationFunction f = rnn.activation(d, 0), g = rnn.activation(d, 1), h = rnn.activation(d, 2);
        TensorRef all = c.map("lstm.gates", {projected, rnn.recur(states[0], captures[0])},
                              [](llvm::ArrayRef<Lane> v) { return v[0] + v[1]; });
        std::vector<TensorRef> operands = {rnn.gate(all, 0), rnn.gate(all, 2), rnn.gate(all, 3), states[1]};
        if (peepholes)
          operands.insert(operands.end(), {captures[1], captures[3]});
        TensorRef cell = c.map("lstm.cell", operands, [&](llvm::ArrayRef<Lane> v) {
          Lane input = f(rnn.clipped(peepholes ? v[0] + v[4] * v[3] : v[0]));
          Lane forget = coupled ? 1.0 - input : f(rnn.clipped(peepholes ? v[1] + v[5] * v[3] : v[1]));
          return forget * v[3] + input * g(rnn.clipped(v[2]));
        });
        std::vector<TensorRef> last = {rnn.gate(all, 1), cell};
        if (peepholes)
          last.push_back(captures[2]);
        TensorRef hidden = c.map("lstm.hidden", last, [&](llvm::ArrayRef<Lane> v) {
          Lane output = f(rnn.clipped(peepholes ? v[0] + v[2] * v[1] : v[0]));
          return output * h(v[1]);
        });
        return std::vector<TensorRef>{hidden, cell};
      });
}

// Gates in the order z, r, h. Ht = (1 - z) * h + z * Ht-1.
static void gru(OperatorContext &c) {
  Recurrence rnn(c, 3, {"Sigmoid", "Tanh"});
  bool linearBeforeReset = c.opset >= 3 && c.flag("linear_before_reset");
  int64_t h = rnn.hidden, rows = 3 * h;
  // The recurrent bias of the hidden gate stays inside the reset when the product comes first.
  auto bias = [&](int64_t d) -> TensorRef {
    if (!rnn.b)
      return {};
    if (!linearBeforeReset)
      return bothBiases(rnn, d);
    TensorRef gates = c.map("gru.bias", {rnn.part(rnn.b, d, 0, 2 * h), rnn.part(rnn.b, d, rows, 2 * h)},
                            [](llvm::ArrayRef<Lane> v) { return v[0] + v[1]; });
    return c.concat({gates, rnn.part(rnn.b, d, 2 * h, h)}, 0);
  };
  runRecurrence(
      rnn, "gru", {rnn.initialHidden}, bias,
      [&](int64_t d) {
        std::vector<TensorRef> captures = {rnn.part(rnn.r, d, 0, 2 * h), rnn.part(rnn.r, d, 2 * h, h)};
        if (rnn.b && linearBeforeReset)
          captures.push_back(rnn.part(rnn.b, d, rows + 2 * h, h));
        return captures;
      },
      [&](int64_t d, TensorRef projected, llvm::ArrayRef<TensorRef> states, llvm::ArrayRef<TensorRef> captures) {
        ActivationFunction f = rnn.activation(d, 0), g = rnn.activation(d, 1);
        TensorRef recurrent = rnn.recur(states[0], captures[0]);
        auto gate = [&](unsigned index) {
          return c.map("gru.gate", {rnn.gate(projected, index), rnn.gate(recurrent, index)},
                       [&](llvm::ArrayRef<Lane> v) { return f(rnn.clipped(v[0] + v[1])); });
        };
        TensorRef update = gate(0), reset = gate(1), candidate;
        if (linearBeforeReset) {
          std::vector<TensorRef> operands = {rnn.gate(projected, 2), reset, rnn.recur(states[0], captures[1])};
          if (rnn.b)
            operands.push_back(captures[2]);
          candidate = c.map("gru.candidate", operands, [&](llvm::ArrayRef<Lane> v) {
            Lane inner = rnn.b ? v[2] + v[3] : v[2];
            return g(rnn.clipped(v[0] + v[1] * inner));
          });
        } else {
          TensorRef kept = c.map("gru.reset", {reset, states[0]}, [](llvm::ArrayRef<Lane> v) { return v[0] * v[1]; });
          candidate = c.map("gru.candidate", {rnn.gate(projected, 2), rnn.recur(kept, captures[1])},
                            [&](llvm::ArrayRef<Lane> v) { return g(rnn.clipped(v[0] + v[1])); });
        }
        return std::vector<TensorRef>{c.map("gru.hidden", {update, candidate, states[0]},
                                            [](llvm::ArrayRef<Lane> v) { return (1.0 - v[0]) * v[1] + v[0] * v[2]; })};
      });
}

static void rnn(OperatorContext &c) {
  Recurrence rnn(c, 1, {"Tanh"});
  runRecurrence(
      rnn, "rnn", {rnn.initialHidden}, [&](int64_t d) { return bothBiases(rnn, d); },
      [&](int64_t d) { return std::vector<TensorRef>{rnn.part(rnn.r, d)}; },
      [&](int64_t d, TensorRef projected, llvm::ArrayRef<TensorRef> states, llvm::ArrayRef<TensorRef> captures) {
        ActivationFunction f = rnn.activation(d, 0);
        return std::vector<TensorRef>{c.map("rnn.hidden", {projected, rnn.recur(states[0], captures[0])},
                                            [&](llvm::ArrayRef<Lane> v) { return f(rnn.clipped(v[0] + v[1])); })};
      });
}

void addRecurrent(OperatorTable &table) {
  table.add("LSTM", lstm);
  table.add("GRU", gru);
  table.add("RNN", rnn);
}

} // namespace quadrille::graph::importer
