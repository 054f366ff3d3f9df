#include "graph/KernelRewriter.h"

#include "graph/Contraction.h"
#include "graph/KernelQueries.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

#include <numeric>

namespace quadrille::graph {

Register BodyBuilder::constant(ElementType type, double value) {
  return emit(BlockOpcode::Constant, type, {}, bitsFromDouble(type, value));
}

AccessMap loopIndices(unsigned first, size_t count) {
  AccessMap map;
  for (unsigned i = 0; i < count; ++i)
    map.push_back(loopIndex(first + i));
  return map;
}

AccessMap joinedMaps(std::initializer_list<AccessMap> parts) {
  AccessMap map;
  for (const AccessMap &part : parts)
    map.insert(map.end(), part.begin(), part.end());
  return map;
}

ValueId KernelRewriter::value(ElementType type, Shape shape) {
  Value value;
  value.type = type;
  value.shape = std::move(shape);
  graph.values.push_back(std::move(value));
  return static_cast<ValueId>(graph.values.size() - 1);
}

ValueId KernelRewriter::constant(Tensor data) {
  ValueId id = value(data.type(), data.shape());
  graph.values[id].role = ValueRole::Constant;
  graph.values[id].data = std::move(data);
  return id;
}

ValueId KernelRewriter::numbers(int64_t count, int64_t width, ElementType type) {
  auto [known, fresh] = numbersOf.try_emplace({count, width, type});
  if (fresh) {
    std::vector<int64_t> values;
    for (int64_t i = 0; i < count; ++i)
      values.insert(values.end(), width, i);
    known->second = constant(convert(Tensor::of<int64_t>(ElementType::i64, {count, width}, values), type));
  }
  return known->second;
}

ValueId KernelRewriter::numbersInRow(int64_t count, ElementType type) {
  std::vector<int64_t> values(count);
  std::iota(values.begin(), values.end(), 0);
  return constant(convert(Tensor::of<int64_t>(ElementType::i64, {count}, values), type));
}

void KernelRewriter::append(Kernel kernel) {
  kernel.nodes = replaced->nodes;
  countWork(graph, kernel);
  kernels.push_back(std::move(kernel));
}

void KernelRewriter::structured(std::vector<Loop> loops, std::vector<Read> reads, std::vector<Write> writes,
                                BlockExpression body, std::optional<KernelKind> kind) {
  Kernel kernel;
  kernel.operation = replaced->operation;
  KernelKind plain = hasReduction(loops) ? KernelKind::Reduce : body.isIdentity() ? KernelKind::Move : KernelKind::Map;
  kernel.kind = kind.value_or(plain);
  kernel.loops = std::move(loops);
  kernel.reads = std::move(reads);
  kernel.writes = std::move(writes);
  kernel.body = std::move(body);
  kernel.numeric = defaultNumeric(graph, kernel);
  append(std::move(kernel));
}

ValueId KernelRewriter::map(Shape shape, std::vector<Read> reads, BlockExpression body) {
  std::vector<Loop> nest;
  for (int64_t extent : shape)
    nest.push_back({extent, false});
  ValueId to = value(body.instructions[body.results[0]].type, shape);
  Write write;
  write.value = to;
  write.map = loopIndices(0, shape.size());
  structured(std::move(nest), std::move(reads), {std::move(write)}, std::move(body));
  return to;
}

void KernelRewriter::plain(std::string operation, llvm::ArrayRef<ValueId> reads, ValueId to,
                           std::map<std::string, Attribute> attributes) {
  Kernel kernel;
  kernel.kind = KernelKind::Move;
  kernel.operation = std::move(operation);
  kernel.attributes = std::move(attributes);
  for (ValueId read : reads)
    kernel.reads.push_back({read, {}, std::nullopt});
  kernel.writes.emplace_back().value = to;
  append(std::move(kernel));
}

ValueId KernelRewriter::reshape(ValueId from, Shape shape, std::optional<ValueId> to) {
  if (!to && shapeOf(from) == shape)
    return from;
  if (!to)
    to = value(typeOf(from), std::move(shape));
  plain("reshape", from, *to);
  return *to;
}

} // namespace quadrille::graph
