// If, Scan and Loop: operators whose attributes are graphs.
#include "graph/import/ModelImporter.h"

#include "base/Error.h"

#include "llvm/ADT/StringSet.h"
#include "llvm/Support/SaveAndRestore.h"

namespace quadrille::graph {

llvm::Error Importer::addSubgraph(const onnx::GraphProto &graph, Scope &inner, const Scope &scope) {
  inner.parent = &scope;
  inner.function = scope.function;
  inner.frame = scope.frame;
  inner.prefix = scope.prefix;
  llvm::SaveAndRestore<mlir::Location> location(state.location);
  if (llvm::Error error = addInitializers(graph, inner))
    return error;
  return addNodes(graph.node(), inner);
}

llvm::Expected<std::vector<TensorRef>> Importer::addBranch(const onnx::NodeProto &node, const onnx::GraphProto &branch,
                                                           const Scope &scope) {
  Scope inner;
  if (llvm::Error error = addSubgraph(branch, inner, scope))
    return std::move(error);
  std::vector<TensorRef> results;
  for (int i = 0; i < node.output_size(); ++i) {
    const TensorRef *result = inner.find(branch.output(i).name());
    if (!result)
      return userError("a branch does not define '" + branch.output(i).name() + "'", where(node, scope));
    results.push_back(*result);
  }
  return results;
}

// Where the condition is known, one branch takes the node's place. Otherwise both are computed and each result
// selected.
llvm::Error Importer::addIf(const onnx::NodeProto &node, const std::vector<TensorRef> &operands, Scope &scope) {
  const onnx::GraphProto *branch = nullptr;
  try {
    OperatorContext context(state, file, node, scope.frame, opsetOf(node, scope), operands, options.batch);
    TensorRef condition = context.operand(0);
    const onnx::AttributeProto *yes = context.graphAttribute("then_branch"),
                               *no = context.graphAttribute("else_branch");
    if (!yes || !no)
      importer::refuse("a branch is missing");
    for (const onnx::AttributeProto *taken : {yes, no})
      if (taken->g().output_size() < node.output_size())
        importer::refuse("a branch gives " + llvm::Twine(taken->g().output_size()) + " results instead of " +
                         llvm::Twine(node.output_size()));
    if (condition.elements() != 1 || condition.type() != ElementType::boolean)
      importer::refuse("the condition has type " + describe(condition.type(), condition.shape()) +
                       " instead of bool[]");
    if (!condition.known())
      return addSelected(node, context.reshape(condition, {}), yes->g(), no->g(), scope);
    branch = &(context.knownInteger(0, "the condition") ? yes : no)->g();
  } catch (const Refusal &refusal) {
    refuseNode(node, scope);
    return failure(refusal, node, scope);
  }
  llvm::Expected<std::vector<TensorRef>> results = addBranch(node, *branch, scope);
  if (!results)
    return results.takeError();
  for (int i = 0; i < node.output_size(); ++i)
    scope.values[node.output(i)] = (*results)[i];
  return llvm::Error::success();
}

llvm::Error Importer::addSelected(const onnx::NodeProto &node, TensorRef condition, const onnx::GraphProto &yes,
                                  const onnx::GraphProto &no, Scope &scope) {
  std::vector<TensorRef> results[2];
  size_t before = unsupported.size();
  for (auto [branch, into] : {std::pair{&yes, &results[0]}, {&no, &results[1]}}) {
    llvm::Expected<std::vector<TensorRef>> ofBranch = addBranch(node, *branch, scope);
    if (!ofBranch)
      return ofBranch.takeError();
    *into = std::move(*ofBranch);
  }
  if (unsupported.size() != before) {
    refuseNode(node, scope);
    return llvm::Error::success();
  }
  for (int i = 0; i < node.output_size(); ++i) {
    TensorRef a = results[0][i], b = results[1][i];
    if (!a || !b) { // depends on a node that was refused before
      scope.values[node.output(i)] = TensorRef();
      continue;
    }
    try {
      if (a.type() != b.type() || a.shape() != b.shape())
        importer::refuse("the condition '" + node.input(0) +
                             "' depends on the values of the model's inputs, and a machine without branches can only "
                             "select between results of one type and shape, but output '" +
                             node.output(i) + "' is " + describe(a.type(), a.shape()) + " or " +
                             describe(b.type(), b.shape()),
                         "bind the input that the condition comes from with --bind NAME=VALUE");
      scope.values[node.output(i)] = Emitter(state).map(
          "If", {condition, a, b}, [](llvm::ArrayRef<importer::Lane> v) { return select(v[0], v[1], v[2]); });
    } catch (const Refusal &refusal) {
      refuseNode(node, scope);
      return failure(refusal, node, scope);
    }
  }
  return llvm::Error::success();
}

// A loop of bounded trip count over a graph.
struct Importer::ScannedBody {
  const onnx::GraphProto *body = nullptr;
  std::vector<TensorRef> states, sequences;
  std::vector<std::string> stateNames, sequenceNames; // of the body's inputs
  std::map<std::string, TensorRef> known;             // body inputs that are the same in every step
  int firstOutput = 0;                                // the body's output that is the first state
  std::string condition;                              // a body output, whether another step follows; may be empty
  int64_t trip = 0;
  Emitter::ScanAxes axes; // output axes count from the end where negative
  // Operator set 8: dimension 0 of all states and sequences is a batch, whose elements are scanned one by one.
  bool batched = false;
  // Once the condition is false the remaining steps keep the states as they are. Whether the first step runs.
  TensorRef masked;
};

// Steps of loops are imported one by one up to this many, and nodes within them altogether up to this many.
constexpr int64_t maximumUnrolledSteps = 4096, maximumLoopNodes = 100000;
// A trip count beyond this is how exporters write "until the condition is false".
constexpr int64_t maximumTrip = int64_t(1) << 24;

// Names that a graph takes from the graphs around it.
static void collectOuterNames(const onnx::GraphProto &graph, llvm::StringSet<> defined, llvm::StringSet<> &outer) {
  for (const onnx::ValueInfoProto &input : graph.input())
    defined.insert(input.name());
  for (const onnx::TensorProto &weight : graph.initializer())
    defined.insert(weight.name());
  auto use = [&](const std::string &name) {
    if (!name.empty() && !defined.contains(name))
      outer.insert(name);
  };
  for (const onnx::NodeProto &node : graph.node()) {
    for (const std::string &name : node.input())
      use(name);
    for (const onnx::AttributeProto &attribute : node.attribute())
      if (attribute.has_g())
        collectOuterNames(attribute.g(), defined, outer);
    for (const std::string &name : node.output())
      defined.insert(name);
  }
  for (const onnx::ValueInfoProto &output : graph.output())
    use(output.name());
}

llvm::Expected<bool> Importer::addScanned(const onnx::NodeProto &node, ScannedBody scanned, Scope &scope) {
  const onnx::GraphProto &body = *scanned.body;
  llvm::StringSet<> outer;
  collectOuterNames(body, {}, outer);
  std::vector<std::string> captureNames;
  std::vector<TensorRef> captures;
  for (const auto &entry : outer)
    if (const TensorRef *tensor = scope.find(entry.getKey())) {
      if (!*tensor) { // depends on a node that was refused
        refuseNode(node, scope);
        return true;
      }
      if (!(*tensor)->isConstant()) {
        captureNames.push_back(entry.getKey().str());
        captures.push_back(*tensor);
      }
    }
  size_t states = scanned.states.size(), before = unsupported.size();
  llvm::Error failed = llvm::Error::success();
  struct Unwind {};
  struct ConditionIsComputed {};
  // The states, the slices, the captures; with a mask, whether the step runs comes first.
  auto emitBody = [&](llvm::ArrayRef<TensorRef> in) {
    llvm::ErrorAsOutParameter failedIsSetHere(&failed);
    loopNodes += 1 + body.node_size();
    if (loopNodes > maximumLoopNodes)
      importer::refuseUnsupported("loops of more than " + llvm::Twine(maximumLoopNodes) + " nodes");
    TensorRef runs;
    if (scanned.masked) {
      runs = in.front();
      in = in.drop_front();
    }
    llvm::ArrayRef<TensorRef> previous = in.take_front(states);
    Scope inner;
    for (const std::vector<std::string> &names : {scanned.stateNames, scanned.sequenceNames, captureNames})
      for (const std::string &name : names) {
        inner.values[name] = in.front();
        in = in.drop_front();
      }
    for (const auto &[name, tensor] : scanned.known)
      inner.values[name] = tensor;
    failed = addSubgraph(body, inner, scope);
    if (failed || unsupported.size() != before)
      throw Unwind();
    TensorRef condition;
    if (!scanned.condition.empty()) {
      const TensorRef *found = inner.find(scanned.condition);
      if (!found || !*found || found->elements() != 1 || found->type() != ElementType::boolean)
        importer::refuse("the body's condition '" + scanned.condition + "' is not one bool");
      condition = *found;
      if (!scanned.masked && !condition.known())
        throw ConditionIsComputed();
      if (!scanned.masked && valuesOf<int64_t>(condition.constant())[0] == 0)
        importer::refuseUnsupported("the loop stops after its first step");
    }
    std::vector<TensorRef> results;
    Emitter emitter(state);
    if (scanned.masked)
      results.push_back(emitter.map("Loop.runs", {runs, emitter.reshape(condition, {})},
                                    [](llvm::ArrayRef<importer::Lane> v) { return v[0] & v[1]; }));
    for (int i = scanned.firstOutput; i < body.output_size(); ++i) {
      const TensorRef *result = inner.find(body.output(i).name());
      if (!result || !*result)
        importer::refuse("the body does not define '" + body.output(i).name() + "'");
      size_t index = static_cast<size_t>(i - scanned.firstOutput);
      TensorRef tensor = *result;
      if (index < states) {
        TensorRef old = previous[index];
        if (tensor.shape() != old.shape() || tensor.type() != old.type())
          importer::refuseUnsupported("state " + llvm::Twine(index) + " changes its shape or type from step to step");
        if (scanned.masked)
          tensor = emitter.map("Loop.keep", {runs, tensor, old},
                               [](llvm::ArrayRef<importer::Lane> v) { return select(v[0], v[1], v[2]); });
      } else {
        if (scanned.masked)
          importer::refuseUnsupported("output " + llvm::Twine(index) +
                                      " has as many slices as the loop has steps, and "
                                      "a condition that depends on the values of the model's inputs ends it");
        size_t stacked = index - states;
        if (stacked >= scanned.axes.output.size()) {
          scanned.axes.output.push_back(0);
          scanned.axes.outputReversed.push_back(false);
        }
        scanned.axes.output[stacked] = importer::normalAxis(scanned.axes.output[stacked], result->rank() + 1);
      }
      results.push_back(tensor);
    }
    return results;
  };
  auto emitScan = [&](llvm::ArrayRef<TensorRef> initial, llvm::ArrayRef<TensorRef> sequences,
                      llvm::ArrayRef<TensorRef> seen) {
    std::vector<TensorRef> all(initial.begin(), initial.end());
    if (scanned.masked)
      all.insert(all.begin(), scanned.masked);
    std::vector<TensorRef> results = Emitter(state).scan(all, sequences, seen, scanned.trip, scanned.axes, emitBody);
    if (scanned.masked)
      results.erase(results.begin());
    return results;
  };
  auto emitBatch = [&] {
    Emitter::ScanAxes axes;
    std::vector<TensorRef> all = scanned.states;
    all.insert(all.end(), scanned.sequences.begin(), scanned.sequences.end());
    size_t results = static_cast<size_t>(body.output_size());
    axes.input.assign(all.size(), 0);
    axes.inputReversed.assign(all.size(), false);
    axes.output.assign(results, 0);
    axes.outputReversed.assign(results, false);
    return Emitter(state).scan({}, all, captures, all[0].dim(0), axes, [&](llvm::ArrayRef<TensorRef> in) {
      return emitScan(in.take_front(states), in.slice(states, scanned.sequences.size()), in.drop_front(all.size()));
    });
  };
  size_t depth = state.isolated.size();
  std::vector<TensorRef> results;
  try {
    results = scanned.batched ? emitBatch() : emitScan(scanned.states, scanned.sequences, captures);
    if (results.size() < static_cast<size_t>(node.output_size()))
      importer::refuse("the body gives " + llvm::Twine(results.size()) + " results");
  } catch (const ConditionIsComputed &) {
    state.isolated.truncate(depth);
    llvm::consumeError(std::move(failed));
    return false;
  } catch (const Unwind &) {
    state.isolated.truncate(depth);
    refuseNode(node, scope);
    if (failed)
      return std::move(failed);
    return true;
  } catch (const Refusal &refusal) {
    state.isolated.truncate(depth);
    llvm::consumeError(std::move(failed));
    refuseNode(node, scope);
    if (llvm::Error error = failure(refusal, node, scope))
      return std::move(error);
    return true;
  }
  llvm::consumeError(std::move(failed));
  for (int i = 0; i < node.output_size(); ++i)
    scope.values[node.output(i)] = results[i];
  return true;
}

llvm::Error Importer::addUnrolled(const onnx::NodeProto &node, const ScannedBody &scanned, Scope &scope) {
  const onnx::GraphProto &body = *scanned.body;
  Emitter emitter(state);
  std::vector<TensorRef> states = scanned.states;
  std::vector<std::vector<TensorRef>> stacked(body.output_size() - scanned.firstOutput - states.size());
  size_t before = unsupported.size();
  bool runs = true;
  try {
    for (int64_t step = 0; runs && step < scanned.trip; ++step) {
      loopNodes += 1 + body.node_size();
      if (step == maximumUnrolledSteps || loopNodes > maximumLoopNodes)
        importer::refuseUnsupported("a loop of more than " + llvm::Twine(step) + " steps that differ in shape");
      Scope inner;
      inner.values[body.input(0).name()] = emitter.reshape(emitter.integers({step}), {});
      for (const auto &[name, tensor] : scanned.known)
        inner.values[name] = tensor;
      for (size_t i = 0; i < states.size(); ++i)
        inner.values[scanned.stateNames[i]] = states[i];
      if (llvm::Error error = addSubgraph(body, inner, scope))
        return error;
      if (unsupported.size() != before) {
        refuseNode(node, scope);
        return llvm::Error::success();
      }
      for (int i = 0; i < body.output_size(); ++i) {
        const TensorRef *result = inner.find(body.output(i).name());
        if (!result || !*result)
          importer::refuse("the body does not define '" + body.output(i).name() + "'");
        size_t index = static_cast<size_t>(i - scanned.firstOutput);
        if (i < scanned.firstOutput) {
          if (!result->known() || result->elements() != 1)
            importer::refuseUnsupported("a condition that depends on the values of the model's inputs ends the loop");
          runs = valuesOf<int64_t>(result->constant())[0] != 0;
        } else if (index < states.size()) {
          states[index] = *result;
        } else {
          Shape shape = result->shape();
          shape.insert(shape.begin(), 1);
          stacked[index - states.size()].push_back(emitter.reshape(*result, shape));
        }
      }
    }
    for (int i = 0; i < node.output_size(); ++i) {
      size_t index = static_cast<size_t>(i);
      if (index < states.size()) {
        scope.values[node.output(i)] = states[index];
        continue;
      }
      const std::vector<TensorRef> &slices = stacked.at(index - states.size());
      if (slices.empty())
        importer::refuseUnsupported("output " + llvm::Twine(i) + " of a loop without steps");
      for (TensorRef slice : slices)
        if (slice.shape() != slices[0].shape() || slice.type() != slices[0].type())
          importer::refuse("output " + llvm::Twine(i) + " changes its shape or type from step to step");
      scope.values[node.output(i)] = emitter.concat(slices, 0);
    }
  } catch (const Refusal &refusal) {
    refuseNode(node, scope);
    return failure(refusal, node, scope);
  }
  return llvm::Error::success();
}

llvm::Error Importer::addScan(const onnx::NodeProto &node, const std::vector<TensorRef> &operands, Scope &scope) {
  ScannedBody scanned;
  try {
    OperatorContext context(state, file, node, scope.frame, opsetOf(node, scope), operands, options.batch);
    std::vector<TensorRef> inputs = operands;
    scanned.batched = context.opset < 9;
    if (scanned.batched) { // an operand that says how long each sequence is comes first
      if (context.optional(0)) {
        int64_t longest = operands.size() > 1 && operands.back() ? operands.back().dim(1) : 0;
        for (int64_t length : context.knownIntegers(0, "sequence_lens"))
          if (length != longest)
            importer::refuseUnsupported("sequences of different lengths");
      }
      if (!inputs.empty())
        inputs.erase(inputs.begin());
    }
    const onnx::AttributeProto *body = context.graphAttribute("body");
    int64_t sequences = context.integer("num_scan_inputs"), states = static_cast<int64_t>(inputs.size()) - sequences;
    if (!body || sequences < 1 || states < 0 || body->g().input_size() != static_cast<int>(inputs.size()) ||
        body->g().output_size() < states)
      importer::refuse("the body does not fit " + llvm::Twine(inputs.size()) + " operands, " + llvm::Twine(sequences) +
                       " of them sequences");
    scanned.body = &body->g();
    std::vector<int64_t> axes = context.integerList("scan_input_axes", std::vector<int64_t>(sequences, 0));
    std::vector<int64_t> reversed = context.integerList(scanned.batched ? "directions" : "scan_input_directions",
                                                        std::vector<int64_t>(sequences, 0));
    size_t stacked = static_cast<size_t>(body->g().output_size() - states);
    std::vector<int64_t> outputAxes = context.integerList("scan_output_axes", std::vector<int64_t>(stacked, 0));
    std::vector<int64_t> outputReversed =
        context.integerList("scan_output_directions", std::vector<int64_t>(stacked, 0));
    if (axes.size() != static_cast<size_t>(sequences) || reversed.size() != axes.size() ||
        outputAxes.size() != stacked || outputReversed.size() != stacked)
      importer::refuse("axes or directions do not fit the body's inputs and outputs");
    scanned.axes.output.assign(outputAxes.begin(), outputAxes.end());
    for (int64_t flag : outputReversed)
      scanned.axes.outputReversed.push_back(flag != 0);
    for (unsigned i = 0; i < inputs.size(); ++i) {
      TensorRef operand = inputs[i];
      if (!operand || (scanned.batched && operand.rank() < (i < states ? 1 : 2)) ||
          (scanned.batched && operand.dim(0) != inputs[0].dim(0)))
        importer::refuse("operand " + llvm::Twine(i) + " is missing or has no batch");
      std::string name = body->g().input(static_cast<int>(i)).name();
      if (i < states) {
        scanned.states.push_back(operand);
        scanned.stateNames.push_back(name);
        continue;
      }
      // Within the slice of one batch element where there is a batch.
      int64_t outer = scanned.batched ? 1 : 0, axis = importer::normalAxis(axes[i - states], operand.rank() - outer);
      if (i > states && operand.dim(axis + outer) != scanned.trip)
        importer::refuse("sequences have " + llvm::Twine(scanned.trip) + " and " +
                         llvm::Twine(operand.dim(axis + outer)) + " elements");
      scanned.trip = operand.dim(axis + outer);
      scanned.sequences.push_back(operand);
      scanned.sequenceNames.push_back(name);
      scanned.axes.input.push_back(axis);
      scanned.axes.inputReversed.push_back(reversed[i - states] != 0);
    }
    context.refuseUnknownAttributes();
  } catch (const Refusal &refusal) {
    refuseNode(node, scope);
    return failure(refusal, node, scope);
  }
  llvm::Expected<bool> added = addScanned(node, std::move(scanned), scope);
  return added ? llvm::Error::success() : added.takeError();
}

// As one region where every step is the same; masked where a computed condition ends a loop of known trip count; step
// by step where shapes change or are computed from the number of the step.
llvm::Error Importer::addLoop(const onnx::NodeProto &node, const std::vector<TensorRef> &operands, Scope &scope) {
  ScannedBody scanned;
  TensorRef firstCondition;
  bool bounded = false;
  try {
    OperatorContext context(state, file, node, scope.frame, opsetOf(node, scope), operands, options.batch);
    const onnx::AttributeProto *body = context.graphAttribute("body");
    if (!body || body->g().input_size() < 2 || body->g().output_size() < 1 ||
        body->g().input_size() != std::max<int>(2, static_cast<int>(operands.size())) ||
        body->g().output_size() + 1 < body->g().input_size())
      importer::refuse("the body does not fit " + llvm::Twine(operands.size()) + " operands");
    scanned.trip = context.optional(0) ? context.knownInteger(0, "the trip count") : INT64_MAX;
    scanned.trip = std::max<int64_t>(scanned.trip, 0);
    bounded = scanned.trip <= maximumTrip;
    firstCondition = context.optional(1);
    if (firstCondition && (firstCondition.elements() != 1 || firstCondition.type() != ElementType::boolean))
      importer::refuse("the condition has type " + describe(firstCondition.type(), firstCondition.shape()) +
                       " instead of bool[]");
    if (firstCondition)
      firstCondition = context.reshape(firstCondition, {});
    else
      firstCondition = context.scalar(ElementType::boolean, 1);
    if (firstCondition.known() && valuesOf<int64_t>(firstCondition.constant())[0] == 0) {
      scanned.trip = 0;
      bounded = true;
    }
    if (!bounded && !firstCondition.known())
      importer::refuseUnsupported("a condition that depends on the values of the model's inputs ends the loop, and "
                                  "nothing bounds its number of steps");
    scanned.body = &body->g();
    scanned.firstOutput = 1;
    scanned.condition = body->g().output(0).name();
    // In every step that counts.
    scanned.known[body->g().input(1).name()] = context.scalar(ElementType::boolean, 1);
    scanned.sequences = {context.range(bounded ? scanned.trip : 0)};
    scanned.sequenceNames = {body->g().input(0).name()};
    scanned.axes.input = {0};
    scanned.axes.inputReversed = {false};
    for (unsigned i = 2; i < operands.size(); ++i) {
      scanned.states.push_back(context.operand(i));
      scanned.stateNames.push_back(body->g().input(static_cast<int>(i)).name());
    }
  } catch (const Refusal &refusal) {
    refuseNode(node, scope);
    return failure(refusal, node, scope);
  }
  size_t before = unsupported.size();
  if (!bounded)
    return addUnrolled(node, scanned, scope);
  if (!firstCondition.known())
    scanned.masked = firstCondition;
  llvm::Expected<bool> added = addScanned(node, scanned, scope);
  if (added && !*added) {
    scanned.masked = firstCondition;
    added = addScanned(node, scanned, scope);
  }
  if (added && unsupported.size() == before)
    return llvm::Error::success();
  if (!firstCondition.known())
    return added ? llvm::Error::success() : added.takeError();
  // Step by step, or else what was wrong with the region.
  std::vector<UnsupportedNode> ofRegion(unsupported.begin() + static_cast<ptrdiff_t>(before), unsupported.end());
  unsupported.resize(before);
  llvm::Error error = addUnrolled(node, scanned, scope);
  if (!error && unsupported.size() == before) {
    llvm::consumeError(added.takeError());
    return llvm::Error::success();
  }
  llvm::consumeError(std::move(error));
  refuseNode(node, scope);
  unsupported.resize(before);
  unsupported.insert(unsupported.end(), ofRegion.begin(), ofRegion.end());
  return added ? llvm::Error::success() : added.takeError();
}

} // namespace quadrille::graph
