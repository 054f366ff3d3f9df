#include "graph/StructureKernels.h"

#include "graph/Structurer.h"

namespace quadrille::graph {

ElementType bitsType(ElementType type) {
  if (type == ElementType::boolean)
    return type;
  switch (byteWidth(type)) {
  case 1:
    return ElementType::u8;
  case 2:
    return ElementType::u16;
  case 4:
    return ElementType::u32;
  default:
    return ElementType::u64;
  }
}

Register bitsOf(BodyBuilder &body, Register value, ElementType type) {
  ElementType bits = bitsType(type);
  return bits == type ? value : body.emit(BlockOpcode::Bitcast, bits, {value});
}

void fromBits(KernelRewriter &rewriter, ValueId bits, ValueId to) {
  ElementType type = rewriter.typeOf(to);
  Shape shape = rewriter.shapeOf(bits);
  ValueId typed = bits;
  if (rewriter.typeOf(bits) != type) {
    BodyBuilder body;
    body.body.results = {body.emit(BlockOpcode::Bitcast, type, {body.input(rewriter.typeOf(bits))})};
    typed = rewriter.map(shape, {{bits, loopIndices(0, shape.size()), std::nullopt}}, std::move(body.body));
  }
  rewriter.reshape(typed, rewriter.shapeOf(to), to);
}

KernelGraph structureKernels(KernelGraph graph, llvm::function_ref<bool(const KernelGraph &, const Kernel &)> keep) {
  using Structure = void (*)(KernelRewriter &);
  static constexpr std::pair<llvm::StringLiteral, Structure> table[] = {
      {"gather", structureGather},         {"gather_elements", structureGatherElements},
      {"gather_nd", structureGatherNd},    {"scatter_elements", structureScatterElements},
      {"scatter_nd", structureScatterNd},  {"arg_reduce", structureArgReduce},
      {"top_k", structureOrder},           {"sort", structureOrder},
      {"cumulative", structureCumulative}, {"random_bits", structureRandomBits},
  };
  std::vector<Kernel> original = std::move(graph.kernels);
  graph.kernels.clear();
  KernelRewriter rewriter(graph);
  for (Kernel &kernel : original) {
    auto entry = llvm::find_if(table, [&](auto &e) { return !kernel.structured() && e.first == kernel.operation; });
    if (entry == std::end(table) || keep(graph, kernel)) {
      rewriter.kernels.push_back(std::move(kernel));
      continue;
    }
    rewriter.replaced = &kernel;
    entry->second(rewriter);
  }
  graph.kernels = std::move(rewriter.kernels);
  return graph;
}

} // namespace quadrille::graph
