#include "target/tsp/DivideLater.h"

#include "graph/Contraction.h"
#include "graph/DropUnused.h"
#include "graph/KernelQueries.h"
#include "numerics/Convert.h"
#include "target/tsp/Lower.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::tsp {

using namespace graph;

namespace {

class Divider {
public:
  explicit Divider(KernelGraph &graph) : graph(graph), uses(graph) {}

  void run() {
    std::vector<std::optional<Division>> divisions;
    for (Kernel &kernel : graph.kernels)
      divisions.push_back(divisionBehind(kernel));
    std::vector<Kernel> kernels;
    for (auto [kernel, division] : llvm::zip(graph.kernels, divisions)) {
      if (division)
        kernels.push_back(std::move(division->inverts));
      kernels.push_back(std::move(kernel));
      if (division)
        kernels.push_back(std::move(division->multiplies));
    }
    graph.kernels = std::move(kernels);
    dropUnused(graph);
  }

private:
  // Kernels before and behind a product.
  struct Division {
    Kernel inverts, multiplies;
  };

  const Kernel *elementwiseProducer(ValueId value) const {
    std::optional<size_t> producer = uses.producers[value];
    const Kernel *kernel = producer ? &graph.kernels[*producer] : nullptr;
    return kernel && kernel->structured() && isElementwise(*kernel) ? kernel : nullptr;
  }

  // What alone is read by `count` operands.
  bool readBy(ValueId value, size_t count) const { return uses.readers[value].size() == count; }

  // `body` is one instruction of inputs 0 and 1, in this order.
  static bool isBinary(const BlockExpression &body, BlockOpcode opcode) {
    const BlockInstruction &last = body.instructions[body.results[0]];
    auto isInput = [&](unsigned i) {
      const BlockInstruction &operand = body.instructions[last.operands[i]];
      return operand.opcode == BlockOpcode::Input && operand.immediate == i;
    };
    return body.results.size() == 1 && last.opcode == opcode && isInput(0) && isInput(1);
  }

  // The value in which a kernel replaces what is no number by zero; nothing: the kernel does something else.
  std::optional<ValueId> cleanedBy(const Kernel &kernel) const {
    if (kernel.reads.size() != 2 || !readsOwnElement(graph, kernel, kernel.reads[0]) ||
        !readsOwnElement(graph, kernel, kernel.reads[1]))
      return std::nullopt;
    const BlockExpression &body = kernel.body;
    const BlockInstruction &last = body.instructions[body.results[0]];
    if (last.opcode != BlockOpcode::Select)
      return std::nullopt;
    const BlockInstruction &condition = body.instructions[last.operands[0]];
    const BlockInstruction &zero = body.instructions[last.operands[1]], &other = body.instructions[last.operands[2]];
    if (condition.opcode != BlockOpcode::Input || condition.immediate != 0 || zero.opcode != BlockOpcode::Constant ||
        zero.immediate != 0 || other.opcode != BlockOpcode::Input || other.immediate != 1)
      return std::nullopt;
    const Kernel *test = elementwiseProducer(kernel.reads[0].value);
    ValueId value = kernel.reads[1].value;
    if (!test || test->reads.size() != 1 || test->reads[0].value != value || !readBy(kernel.reads[0].value, 1) ||
        !readsOwnElement(graph, *test, test->reads[0]))
      return std::nullopt;
    const BlockInstruction &compares = test->body.instructions[test->body.results[0]];
    bool isNan = compares.opcode == BlockOpcode::NotEqual && compares.operands[0] == compares.operands[1] &&
                 test->body.instructions[compares.operands[0]].opcode == BlockOpcode::Input;
    return isNan ? std::optional(value) : std::nullopt;
  }

  // Whether a value is a softmax's sum of the exponentials `terms`, perhaps in another shape.
  bool isSumOf(ValueId value, ValueId terms) const {
    std::optional<size_t> producer = uses.producers[value];
    while (producer) {
      const Kernel &kernel = graph.kernels[*producer];
      bool moves = isReshape(kernel) || (kernel.structured() && isElementwise(kernel) && kernel.body.isIdentity());
      if (!moves)
        return kernel.kind == KernelKind::Reduce && integerAttribute(kernel, termsOfSum) == 0 &&
               kernel.reads.size() == 1 && kernel.reads[0].value == terms;
      producer = uses.producers[kernel.reads[0].value];
    }
    return false;
  }

  // Makes the product read the exponentials; returns the division of what it makes.
  std::optional<Division> divisionBehind(Kernel &product) {
    auto contraction = isMatrixProduct(graph, product) ? inferContraction(graph, product) : std::nullopt;
    if (!contraction || !isFloat(graph.values[product.writes[0].value].type) || product.writes[0].initial ||
        (product.writes[0].initialScalar && product.writes[0].initialScalar->bits != 0))
      return std::nullopt;
    Read &lhs = product.reads[contraction->lhs];
    ValueId quotients = lhs.value;
    const Kernel *divides = elementwiseProducer(quotients);
    if (lhs.padding || !divides || !readBy(quotients, 1))
      return std::nullopt;
    bool cleans = false;
    if (auto value = cleanedBy(*divides)) {
      cleans = true;
      quotients = *value;
      divides = elementwiseProducer(quotients);
      if (!divides || !readBy(quotients, 2))
        return std::nullopt;
    }
    if (divides->reads.size() != 2 || !isBinary(divides->body, BlockOpcode::Divide) ||
        !readsOwnElement(graph, *divides, divides->reads[0]) || divides->reads[1].padding ||
        !isSumOf(divides->reads[1].value, divides->reads[0].value))
      return std::nullopt;
    // Where the sum of each element of the product's result is: from the loops of the division to dimensions of what
    // it makes, to the product's loops, to dimensions of its result.
    const Write &write = product.writes[0];
    std::vector<std::optional<size_t>> dimensionOf(product.loops.size());
    for (auto [d, access] : llvm::enumerate(write.map))
      if (access.offset == 0 && access.terms.size() == 1 && access.terms[0].second == 1)
        dimensionOf[access.terms[0].first] = d;
    std::map<unsigned, const DimensionAccess *> readAt; // by loop of the division
    for (auto [d, access] : llvm::enumerate(divides->writes[0].map))
      if (!access.terms.empty())
        readAt[access.terms[0].first] = &lhs.map[d];
    AccessMap sums;
    for (const DimensionAccess &access : divides->reads[1].map) {
      DimensionAccess made{access.offset, {}};
      for (auto [loop, coefficient] : access.terms) {
        auto at = readAt.find(loop);
        if (at == readAt.end()) {
          if (divides->loops[loop].extent != 1)
            return std::nullopt;
          continue;
        }
        made.offset += coefficient * at->second->offset;
        for (auto [productLoop, factor] : at->second->terms) {
          if (product.loops[productLoop].extent == 1)
            continue;
          if (!dimensionOf[productLoop])
            return std::nullopt; // one for each of what is summed up
          made.terms.emplace_back(static_cast<unsigned>(*dimensionOf[productLoop]), coefficient * factor);
        }
      }
      llvm::sort(made.terms);
      for (size_t i = 1; i < made.terms.size(); ++i)
        if (made.terms[i].first == made.terms[i - 1].first)
          return std::nullopt;
      sums.push_back(std::move(made));
    }

    // The sums' reciprocals, which are few; then products with them.
    auto elementwise = [&](const Shape &shape) {
      Kernel kernel;
      kernel.kind = KernelKind::Map;
      kernel.operation = divides->operation;
      kernel.nodes = divides->nodes;
      AccessMap own;
      for (auto [d, extent] : llvm::enumerate(shape)) {
        kernel.loops.push_back({extent});
        own.push_back({0, {{static_cast<unsigned>(d), 1}}});
      }
      kernel.reads = {{noValue, own, std::nullopt}};
      kernel.writes = {{noValue, own, Combiner::None, {}, {}}};
      return kernel;
    };
    auto newValue = [&](Value value) {
      value.name.clear();
      graph.values.push_back(std::move(value));
      return static_cast<ValueId>(graph.values.size() - 1);
    };
    ValueId result = write.value, sum = divides->reads[1].value;
    ElementType type = graph.values[result].type, sumType = graph.values[sum].type;
    ValueId inverse = newValue(graph.values[sum]), undivided = newValue(graph.values[result]);
    Division division{elementwise(graph.values[sum].shape), elementwise(graph.values[result].shape)};
    Kernel &inverts = division.inverts, &multiplies = division.multiplies;
    inverts.reads[0].value = sum;
    inverts.writes[0].value = inverse;
    inverts.body.inputs = {sumType};
    Register divisor = inverts.body.append(BlockOpcode::Input, sumType, {}, 0);
    Register one = inverts.body.append(BlockOpcode::Constant, sumType, {}, bitsFromDouble(sumType, 1));
    inverts.body.results = {inverts.body.append(BlockOpcode::Divide, sumType, {one, divisor})};
    inverts.numeric = defaultNumeric(graph, inverts);
    multiplies.reads[0].value = undivided;
    multiplies.reads.push_back({inverse, sums, std::nullopt});
    multiplies.writes[0].value = result;
    BlockExpression &body = multiplies.body;
    body.inputs = {type, sumType};
    Register value = body.append(BlockOpcode::Input, type, {}, 0);
    Register given = body.append(BlockOpcode::Input, sumType, {}, 1);
    Register factor = sumType == type ? given : body.append(BlockOpcode::Convert, type, {given});
    Register quotient = body.append(BlockOpcode::Multiply, type, {value, factor});
    if (cleans) {
      Register none = body.append(BlockOpcode::NotEqual, ElementType::boolean, {given, given});
      Register zero = body.append(BlockOpcode::Constant, type, {}, 0);
      quotient = body.append(BlockOpcode::Select, type, {none, zero, quotient});
    }
    body.results = {quotient};
    multiplies.numeric = defaultNumeric(graph, multiplies);
    product.reads[contraction->lhs].value = divides->reads[0].value;
    product.writes[0].value = undivided;
    return division;
  }

  KernelGraph &graph;
  Uses uses;
};

} // namespace

void divideAfterProducts(KernelGraph &graph) {
  Divider(graph).run();
}

} // namespace quadrille::tsp
