#include "graph/InlineComposites.h"

#include "graph/KernelQueries.h"
#include "graph/KernelRewriter.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::graph {

namespace {

// What becomes of scans.
enum class Scans : uint8_t { Keep, Unroll, Mark };

// A scan's attributes.
struct ScanForm {
  explicit ScanForm(const Kernel &scan) : scan(scan) {}
  size_t states() const { return static_cast<size_t>(integerAttribute(scan, "states").value_or(0)); }
  size_t sequences() const { return static_cast<size_t>(integerAttribute(scan, "sequences").value_or(0)); }
  int64_t trips() const { return integerAttribute(scan, "trip_count").value_or(0); }
  size_t inputAxis(size_t i, size_t rank) const { return axisOf("input_axes", i, rank); }
  size_t outputAxis(size_t i, size_t rank) const { return axisOf("output_axes", i, rank); }
  bool inputReversed(size_t i) const { return isSet("input_reversed", i); }
  bool outputReversed(size_t i) const { return isSet("output_reversed", i); }

private:
  int64_t entry(const char *name, size_t i) const {
    auto found = scan.attributes.find(name);
    if (found == scan.attributes.end())
      return 0;
    const auto &list = std::get<std::vector<int64_t>>(found->second);
    return i < list.size() ? list[i] : 0;
  }
  size_t axisOf(const char *name, size_t i, size_t rank) const {
    int64_t axis = entry(name, i);
    return static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(rank) : axis);
  }
  bool isSet(const char *name, size_t i) const { return entry(name, i) != 0; }

  const Kernel &scan;
};

// What a scan needs around its body, made in the scan's name.
class ScanFrame {
public:
  ScanFrame(KernelGraph &graph, const Kernel &scan, llvm::ArrayRef<uint32_t> nodes) : rewriter(graph), graph(graph) {
    named.operation = scan.operation;
    named.nodes = nodes;
    rewriter.replaced = &named;
  }
  // Appends the rewriter's kernels to the graph.
  void flush() {
    llvm::move(rewriter.kernels, std::back_inserter(graph.kernels));
    rewriter.kernels.clear();
  }

  KernelRewriter rewriter;

private:
  KernelGraph &graph;
  Kernel named;
};

Shape withoutAxis(Shape shape, size_t axis) {
  shape.erase(shape.begin() + static_cast<int64_t>(axis));
  return shape;
}

class Inliner {
public:
  Inliner(llvm::function_ref<bool(const Kernel &)> keep, Scans scans) : keep(keep), scans(scans) {}

  // Appends the kernels of `source`, whose inputs are bound in `ids`, to the result; fills `ids` with the result's
  // value for each value of `source`; constants that are bound already are not made again.
  void append(const KernelGraph &source, std::vector<ValueId> &ids, llvm::ArrayRef<uint32_t> inheritedNodes) {
    Uses uses(source);
    for (size_t id = 0; id < source.values.size(); ++id)
      if (!uses.readers[id].empty() && source.values[id].role == ValueRole::Constant && ids[id] == noValue)
        ids[id] = addValue(source.values[id]);
    for (const Kernel &original : source.kernels) {
      if (original.kind == KernelKind::Composite && !keep(original)) {
        expand(source, original, ids, inheritedNodes);
        continue;
      }
      if (scans != Scans::Keep && original.operation == "scan") {
        // One iteration is no loop.
        if (scans == Scans::Mark && ScanForm(original).trips() > 1)
          mark(source, original, ids, inheritedNodes);
        else
          unroll(source, original, ids, inheritedNodes);
        continue;
      }
      Kernel kernel = original;
      for (Read &read : kernel.reads)
        read.value = ids[read.value];
      for (Write &write : kernel.writes) {
        if (write.initial)
          write.initial->value = ids[write.initial->value];
        ids[write.value] = addValue(source.values[write.value]);
        write.value = ids[write.value];
      }
      kernel.nodes = translateNodes(source, original, inheritedNodes);
      if (kernel.region && kernel.kind != KernelKind::Composite) {
        kernel.region = std::make_shared<const KernelGraph>(inlineComposites(*kernel.region, keep));
        countWork(result, kernel);
      }
      result.kernels.push_back(std::move(kernel));
    }
  }

  ValueId addValue(const Value &value) {
    result.values.push_back(value);
    return static_cast<ValueId>(result.values.size() - 1);
  }

  KernelGraph result;

private:
  void expand(const KernelGraph &source, const Kernel &composite, std::vector<ValueId> &ids,
              llvm::ArrayRef<uint32_t> inheritedNodes) {
    const KernelGraph &region = *composite.region;
    std::vector<ValueId> inner(region.values.size(), noValue);
    for (auto [input, read] : llvm::zip(region.inputs, composite.reads))
      inner[input] = ids[read.value];
    append(region, inner, translateNodes(source, composite, inheritedNodes));
    for (auto [output, write] : llvm::zip(region.outputs, composite.writes)) {
      ids[write.value] = inner[output];
      Value &value = result.values[inner[output]];
      if (value.name.empty())
        value.name = source.values[write.value].name;
    }
  }

  void unroll(const KernelGraph &source, const Kernel &scan, std::vector<ValueId> &ids,
              llvm::ArrayRef<uint32_t> inheritedNodes) {
    const KernelGraph &body = *scan.region;
    std::vector<uint32_t> nodes = translateNodes(source, scan, inheritedNodes);
    const ScanForm form(scan);
    size_t states = form.states(), sequences = form.sequences();
    int64_t trips = form.trips();

    ScanFrame frame(result, scan, nodes);
    KernelRewriter &rewriter = frame.rewriter;
    std::vector<ValueId> carried;
    for (size_t i = 0; i < states; ++i)
      carried.push_back(ids[scan.reads[i].value]);
    std::vector<std::vector<ValueId>> stacked(scan.writes.size() - states);
    std::vector<ValueId> bound(body.values.size(), noValue); // the body's constants
    for (int64_t trip = 0; trip < trips; ++trip) {
      std::vector<ValueId> inner = bound;
      for (auto [i, input] : llvm::enumerate(body.inputs)) {
        const Shape &shape = body.values[input].shape;
        if (i < states) {
          inner[input] = rewriter.reshape(carried[i], shape);
          continue;
        }
        ValueId whole = ids[scan.reads[i].value];
        if (i < states + sequences) {
          size_t sequence = i - states, axis = form.inputAxis(sequence, rewriter.shapeOf(whole).size());
          Shape of = withoutAxis(rewriter.shapeOf(whole), axis);
          AccessMap map = loopIndices(0, of.size());
          map.insert(map.begin() + static_cast<int64_t>(axis),
                     fixedIndex(form.inputReversed(sequence) ? trips - 1 - trip : trip));
          BodyBuilder identity;
          identity.body.results = {identity.input(rewriter.typeOf(whole))};
          whole = rewriter.map(of, {{whole, std::move(map), std::nullopt}}, std::move(identity.body));
        }
        inner[input] = rewriter.reshape(whole, shape);
      }
      frame.flush();
      append(body, inner, nodes);
      for (size_t i = 0; i < body.values.size(); ++i)
        if (body.values[i].role == ValueRole::Constant)
          bound[i] = inner[i];
      for (auto [i, output] : llvm::enumerate(body.outputs)) {
        if (i < states)
          carried[i] = inner[output];
        else
          stacked[i - states].push_back(inner[output]);
      }
    }
    for (size_t i = 0; i < states; ++i)
      ids[scan.writes[i].value] = rewriter.reshape(carried[i], source.values[scan.writes[i].value].shape);
    for (auto [i, parts] : llvm::enumerate(stacked)) {
      const Value &value = source.values[scan.writes[states + i].value];
      if (parts.empty()) {
        ids[scan.writes[states + i].value] = rewriter.constant(Tensor::zeros(value.type, value.shape));
        continue;
      }
      size_t axis = form.outputAxis(i, value.shape.size());
      Shape shape = value.shape;
      shape[axis] = 1;
      for (ValueId &part : parts)
        part = rewriter.reshape(part, shape);
      if (form.outputReversed(i))
        std::reverse(parts.begin(), parts.end());
      ValueId whole = addValue(value);
      rewriter.plain("concat", parts, whole, {{"axis", static_cast<int64_t>(axis)}});
      ids[scan.writes[states + i].value] = whole;
    }
    frame.flush();
  }

  // The body once, between kernels that say what is done in each iteration.
  void mark(const KernelGraph &source, const Kernel &scan, std::vector<ValueId> &ids,
            llvm::ArrayRef<uint32_t> inheritedNodes) {
    const KernelGraph &body = *scan.region;
    std::vector<uint32_t> nodes = translateNodes(source, scan, inheritedNodes);
    const ScanForm form(scan);
    size_t states = form.states(), sequences = form.sequences();
    ScanFrame frame(result, scan, nodes);
    KernelRewriter &rewriter = frame.rewriter;
    std::vector<ValueId> inner(body.values.size(), noValue), carried;
    for (size_t i = 0; i < states; ++i)
      inner[body.inputs[i]] = rewriter.reshape(ids[scan.reads[i].value], body.values[body.inputs[i]].shape);
    ValueId counter = rewriter.value(ElementType::i32, {1});
    rewriter.plain("loop_begin", {}, counter, {{"trip_count", form.trips()}});
    for (size_t i = 0; i < states; ++i) {
      ValueId &id = inner[body.inputs[i]];
      carried.push_back(rewriter.value(rewriter.typeOf(id), rewriter.shapeOf(id)));
      rewriter.plain("loop_state", {id, counter}, carried.back());
      id = carried.back();
    }
    for (size_t i = states; i < body.inputs.size(); ++i) {
      ValueId whole = ids[scan.reads[i].value];
      if (i < states + sequences) {
        size_t sequence = i - states, axis = form.inputAxis(sequence, rewriter.shapeOf(whole).size());
        Shape of = withoutAxis(rewriter.shapeOf(whole), axis);
        ValueId slice = rewriter.value(rewriter.typeOf(whole), of);
        rewriter.plain("loop_slice", {whole, counter}, slice,
                       {{"axis", static_cast<int64_t>(axis)}, {"reversed", int64_t(form.inputReversed(sequence))}});
        whole = slice;
      }
      inner[body.inputs[i]] = rewriter.reshape(whole, body.values[body.inputs[i]].shape);
    }
    frame.flush();
    append(body, inner, nodes);
    for (size_t i = states; i < body.outputs.size(); ++i) {
      const Value &value = source.values[scan.writes[i].value];
      size_t axis = form.outputAxis(i - states, value.shape.size());
      Shape of = withoutAxis(value.shape, axis);
      ValueId slice = rewriter.reshape(inner[body.outputs[i]], of), whole = addValue(value);
      rewriter.plain("loop_stack", {slice, counter}, whole,
                     {{"axis", static_cast<int64_t>(axis)}, {"reversed", int64_t(form.outputReversed(i - states))}});
      ids[scan.writes[i].value] = whole;
    }
    std::vector<ValueId> last;
    for (size_t i = 0; i < states; ++i) {
      ValueId next = rewriter.reshape(inner[body.outputs[i]], rewriter.shapeOf(carried[i]));
      last.push_back(rewriter.value(rewriter.typeOf(carried[i]), rewriter.shapeOf(carried[i])));
      rewriter.plain("loop_next", {next, carried[i], counter}, last.back());
    }
    for (size_t i = 0; i < states; ++i)
      ids[scan.writes[i].value] = rewriter.reshape(last[i], source.values[scan.writes[i].value].shape);
    frame.flush();
  }

  std::vector<uint32_t> translateNodes(const KernelGraph &source, const Kernel &kernel,
                                       llvm::ArrayRef<uint32_t> inherited) {
    if (kernel.nodes.empty())
      return inherited.vec();
    std::vector<uint32_t> nodes;
    for (uint32_t index : kernel.nodes) {
      const Node &node = source.nodes[index];
      auto [entry, isNew] = nodeIndices.try_emplace({node.name, node.operation}, result.nodes.size());
      if (isNew)
        result.nodes.push_back(node);
      nodes.push_back(entry->second);
    }
    return nodes;
  }

  llvm::function_ref<bool(const Kernel &)> keep;
  Scans scans;
  std::map<std::pair<std::string, std::string>, uint32_t> nodeIndices;
};
} // namespace

static KernelGraph inlined(const KernelGraph &graph, llvm::function_ref<bool(const Kernel &)> keep, Scans scans) {
  Inliner inliner(keep, scans);
  std::vector<ValueId> ids(graph.values.size(), noValue);
  for (ValueId input : graph.inputs) {
    ids[input] = inliner.addValue(graph.values[input]);
    inliner.result.inputs.push_back(ids[input]);
  }
  inliner.append(graph, ids, {});
  inliner.result.name = graph.name;
  for (ValueId output : graph.outputs)
    inliner.result.outputs.push_back(ids[output]);
  inliner.result.outputNames = graph.outputNames;
  return std::move(inliner.result);
}

KernelGraph inlineComposites(const KernelGraph &graph, llvm::function_ref<bool(const Kernel &)> keep) {
  return inlined(graph, keep, Scans::Keep);
}

KernelGraph unrollScans(const KernelGraph &graph) {
  return inlined(graph, [](const Kernel &) { return true; }, Scans::Unroll);
}

KernelGraph markScans(const KernelGraph &graph) {
  return inlined(graph, [](const Kernel &) { return true; }, Scans::Mark);
}

double unrolledKernels(const KernelGraph &graph) {
  double count = 0;
  for (const Kernel &kernel : graph.kernels)
    count += !kernel.region ? 1
                            : unrolledKernels(*kernel.region) *
                                  static_cast<double>(integerAttribute(kernel, "trip_count").value_or(1));
  return count;
}

} // namespace quadrille::graph
