#include "target/tsp/SplitInputs.h"

#include "graph/Contraction.h"
#include "graph/KernelQueries.h"
#include "target/tsp/Lower.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::tsp {

using namespace graph;

namespace {

// Whether a depthwise convolution reads the value, or what is made of its elements.
bool staysApart(const KernelGraph &graph, const Uses &uses, ValueId value) {
  return llvm::any_of(uses.readers[value], [&](size_t number) {
    if (number == graph.kernels.size())
      return false;
    const Kernel &reader = graph.kernels[number];
    if (isElementwise(reader))
      return staysApart(graph, uses, reader.writes[0].value);
    auto contraction = isMatrixProduct(graph, reader) ? inferContraction(graph, reader) : std::nullopt;
    return contraction && channelsApart(graph, reader, *contraction);
  });
}

} // namespace

void splitInputs(KernelGraph &graph) {
  constexpr int64_t mostChannels = 4;
  Uses uses(graph);
  std::vector<Kernel> kernels;
  for (const Kernel &kernel : graph.kernels) {
    auto contraction = isMatrixProduct(graph, kernel) ? inferContraction(graph, kernel) : std::nullopt;
    int64_t channels = 1;
    if (contraction)
      for (unsigned loop : contraction->k)
        channels *= kernel.loops[loop].extent;
    ValueId input = contraction ? kernel.reads[contraction->lhs].value : noValue;
    if (!contraction || !contraction->isConvolution() || channels > mostChannels || kernel.reads.size() != 2 ||
        graph.values[input].role != ValueRole::Input || graph.values[input].type != ElementType::f32 ||
        graph.values[kernel.writes[0].value].type != ElementType::f32 ||
        graph.values[kernel.reads[contraction->rhs].value].role != ValueRole::Constant ||
        uses.readers[input].size() != 1 || channelsApart(graph, kernel, *contraction) ||
        !staysApart(graph, uses, kernel.writes[0].value)) {
      kernels.push_back(kernel);
      continue;
    }
    auto addValue = [&](ValueId like) {
      Value value = graph.values[like];
      value.role = ValueRole::Intermediate;
      graph.values.push_back(std::move(value));
      return static_cast<ValueId>(graph.values.size() - 1);
    };
    // The smaller part first: the larger one is added to its sums.
    ValueId sums = noValue;
    for (bool rounded : {false, true}) {
      Kernel part;
      part.kind = KernelKind::Map;
      part.operation = "convert";
      part.nodes = kernel.nodes;
      AccessMap own;
      for (auto [d, extent] : llvm::enumerate(graph.values[input].shape)) {
        part.loops.push_back({extent});
        own.push_back({0, {{static_cast<unsigned>(d), 1}}});
      }
      ValueId made = addValue(input);
      part.reads = {{input, own, {}}};
      part.writes = {{made, own, Combiner::None, {}, {}}};
      part.body.inputs = {ElementType::f32};
      Register whole = part.body.append(BlockOpcode::Input, ElementType::f32, {}, 0);
      // What is beyond f16's largest value is left to the other part, which has as much again; were it infinite here,
      // the parts' sum would be no number.
      Register half = part.body.append(BlockOpcode::ConvertSaturating, ElementType::f16, {whole});
      Register wide = part.body.append(BlockOpcode::Convert, ElementType::f32, {half});
      part.body.results = {rounded ? wide : part.body.append(BlockOpcode::Subtract, ElementType::f32, {whole, wide})};
      part.numeric = defaultNumeric(graph, part);
      kernels.push_back(std::move(part));
      Kernel product = kernel;
      product.reads[contraction->lhs].value = made;
      if (rounded) {
        product.writes[0].initialScalar.reset();
        product.writes[0].initial = Read{sums, kernel.writes[0].map, std::nullopt};
      } else {
        sums = addValue(kernel.writes[0].value);
        product.writes[0].value = sums;
      }
      kernels.push_back(std::move(product));
    }
  }
  graph.kernels = std::move(kernels);
}

} // namespace quadrille::tsp
