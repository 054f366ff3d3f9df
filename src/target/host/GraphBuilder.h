// Kernel graphs by hand, for tests and benchmarks.
#pragma once

#include "graph/Contraction.h"
#include "numerics/Convert.h"

#include <random>

namespace quadrille::host {

// An access map from rows "offset + coefficient * loop + ...", as {{offset, {{loop, coefficient}, ...}}, ...}.
inline graph::AccessMap loopsMap(std::initializer_list<unsigned> loops) {
  graph::AccessMap map;
  for (unsigned loop : loops)
    map.push_back({0, {{loop, 1}}});
  return map;
}

inline graph::Scalar scalarOf(ElementType type, double value) {
  return {type, bitsFromDouble(type, value)};
}

class GraphBuilder {
public:
  graph::KernelGraph graph;

  graph::ValueId value(std::string name, ElementType type, Shape shape,
                       graph::ValueRole role = graph::ValueRole::Intermediate) {
    graph.values.push_back({std::move(name), type, std::move(shape), role, {}, std::nullopt});
    return static_cast<graph::ValueId>(graph.values.size() - 1);
  }
  graph::ValueId input(std::string name, ElementType type, Shape shape) {
    graph::ValueId id = value(std::move(name), type, std::move(shape), graph::ValueRole::Input);
    graph.inputs.push_back(id);
    return id;
  }
  graph::ValueId constant(std::string name, Tensor tensor) {
    graph::ValueId id = value(std::move(name), tensor.type(), tensor.shape(), graph::ValueRole::Constant);
    graph.values[id].data = std::move(tensor);
    return id;
  }
  void output(graph::ValueId id) {
    graph.outputs.push_back(id);
    graph.outputNames.push_back(graph.values[id].name);
  }
  graph::Kernel &kernel(graph::KernelKind kind, std::string operation) {
    graph.nodes.push_back({operation + "_" + std::to_string(graph.nodes.size()), operation});
    graph.kernels.emplace_back();
    graph.kernels.back().kind = kind;
    graph.kernels.back().operation = std::move(operation);
    graph.kernels.back().nodes = {static_cast<uint32_t>(graph.nodes.size() - 1)};
    return graph.kernels.back();
  }
  // An unstructured kernel.
  graph::Kernel &plain(std::string operation, std::initializer_list<graph::ValueId> reads,
                       std::initializer_list<graph::ValueId> writes) {
    graph::Kernel &k = kernel(graph::KernelKind::Other, std::move(operation));
    for (graph::ValueId id : reads)
      k.reads.push_back({id, {}, std::nullopt});
    for (graph::ValueId id : writes)
      k.writes.push_back({id, {}, graph::Combiner::None, std::nullopt, std::nullopt});
    return k;
  }
  // sum over the product of two operands, both converted to the result's type; zero start.
  graph::Kernel &contract(std::vector<graph::Loop> loops, graph::Read lhs, graph::Read rhs, graph::ValueId result,
                          graph::AccessMap map) {
    ElementType to = graph.values[result].type;
    ElementType a = graph.values[lhs.value].type, b = graph.values[rhs.value].type;
    graph::Kernel &k = kernel(graph::KernelKind::Contract, "contract");
    k.loops = std::move(loops);
    k.reads = {std::move(lhs), std::move(rhs)};
    k.body.inputs = {a, b};
    Register x = k.body.append(BlockOpcode::Input, a, {}, 0), y = k.body.append(BlockOpcode::Input, b, {}, 1);
    if (a != to)
      x = k.body.append(BlockOpcode::Convert, to, {x});
    if (b != to)
      y = k.body.append(BlockOpcode::Convert, to, {y});
    k.body.results = {k.body.append(BlockOpcode::Multiply, to, {x, y})};
    k.writes = {{result, std::move(map), graph::Combiner::Sum, scalarOf(to, 0), std::nullopt}};
    k.numeric = graph::defaultNumeric(graph, k);
    return k;
  }
};

// Random values: integers of the type's range (at most +-2^20), floats uniform in [-1, 1).
inline Tensor randomTensor(ElementType type, const Shape &shape, uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<double> values(static_cast<size_t>(elementCount(shape)));
  bool isSigned = kindOf(type) == ElementKind::Signed;
  double limit =
      isFloat(type) ? 1.0 : std::min<double>(1 << 20, std::ldexp(1.0, static_cast<int>(bitWidth(type)) - isSigned));
  std::uniform_real_distribution<double> real(isSigned || isFloat(type) ? -limit : 0, limit);
  for (double &value : values)
    value = isFloat(type) ? real(generator) : std::floor(real(generator));
  Tensor tensor = Tensor::uninitialized(type, shape);
  convert(ElementType::f64, values.data(), type, tensor.mutableBytes(), values.size());
  return tensor;
}

inline std::vector<double> doubles(const Tensor &tensor) {
  std::vector<double> values(static_cast<size_t>(tensor.elements()));
  convert(tensor.type(), tensor.bytes().data(), ElementType::f64, values.data(), values.size());
  return values;
}

} // namespace quadrille::host
