#include "graph/InlineComposites.h"

#include "graph/KernelQueries.h"
#include "graph/KernelRewriter.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::graph {

namespace {
class Inliner {
public:
  Inliner(llvm::function_ref<bool(const Kernel &)> keep, bool unrolls) : keep(keep), unrolls(unrolls) {}

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
      if (unrolls && original.operation == "scan") {
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
    auto listOf = [&](const char *name) {
      auto found = scan.attributes.find(name);
      return found == scan.attributes.end() ? std::vector<int64_t>() : std::get<std::vector<int64_t>>(found->second);
    };
    auto axisOf = [](const std::vector<int64_t> &axes, size_t i, size_t rank) {
      int64_t axis = i < axes.size() ? axes[i] : 0;
      return static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(rank) : axis);
    };
    auto isSet = [](const std::vector<int64_t> &flags, size_t i) { return i < flags.size() && flags[i] != 0; };
    std::vector<int64_t> inputAxes = listOf("input_axes"), inputReversed = listOf("input_reversed");
    std::vector<int64_t> outputAxes = listOf("output_axes"), outputReversed = listOf("output_reversed");
    auto states = static_cast<size_t>(integerAttribute(scan, "states").value_or(0));
    auto sequences = static_cast<size_t>(integerAttribute(scan, "sequences").value_or(0));
    int64_t trips = integerAttribute(scan, "trip_count").value_or(0);

    KernelRewriter rewriter(result);
    Kernel slices;
    slices.operation = scan.operation;
    slices.nodes = nodes;
    rewriter.replaced = &slices;
    auto flush = [&] {
      llvm::move(rewriter.kernels, std::back_inserter(result.kernels));
      rewriter.kernels.clear();
    };
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
          size_t sequence = i - states, axis = axisOf(inputAxes, sequence, rewriter.shapeOf(whole).size());
          Shape of = rewriter.shapeOf(whole);
          of.erase(of.begin() + static_cast<int64_t>(axis));
          AccessMap map = loopIndices(0, of.size());
          map.insert(map.begin() + static_cast<int64_t>(axis),
                     fixedIndex(isSet(inputReversed, sequence) ? trips - 1 - trip : trip));
          BodyBuilder identity;
          identity.body.results = {identity.input(rewriter.typeOf(whole))};
          whole = rewriter.map(of, {{whole, std::move(map), std::nullopt}}, std::move(identity.body));
        }
        inner[input] = rewriter.reshape(whole, shape);
      }
      flush();
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
      size_t axis = axisOf(outputAxes, i, value.shape.size());
      Shape shape = value.shape;
      shape[axis] = 1;
      for (ValueId &part : parts)
        part = rewriter.reshape(part, shape);
      if (isSet(outputReversed, i))
        std::reverse(parts.begin(), parts.end());
      ValueId whole = addValue(value);
      rewriter.plain("concat", parts, whole, {{"axis", static_cast<int64_t>(axis)}});
      ids[scan.writes[states + i].value] = whole;
    }
    flush();
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
  bool unrolls;
  std::map<std::pair<std::string, std::string>, uint32_t> nodeIndices;
};
} // namespace

static KernelGraph inlined(const KernelGraph &graph, llvm::function_ref<bool(const Kernel &)> keep, bool unrolls) {
  Inliner inliner(keep, unrolls);
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
  return inlined(graph, keep, false);
}

KernelGraph unrollScans(const KernelGraph &graph) {
  return inlined(graph, [](const Kernel &) { return true; }, true);
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
