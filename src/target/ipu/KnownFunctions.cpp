#include "target/ipu/KnownFunctions.h"

#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>
#include <limits>
#include <numbers>

namespace quadrille::ipu {

namespace {

double gelu(KnownFunction::Name name, double x) {
  constexpr double cubic = 0.044715;
  return name == KnownFunction::Name::GeluErf
             ? x / 2 * (1 + std::erf(x / std::numbers::sqrt2))
             : x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + cubic * x * x * x)));
}

class Finder {
public:
  explicit Finder(const BlockExpression &expression)
      : expression(expression), count(expression.instructions.size()), readers(count) {
    for (auto [i, each] : llvm::enumerate(expression.instructions))
      for (unsigned o = 0; o < operandCount(each.opcode); ++o)
        readers[each.operands[o]].push_back(static_cast<Register>(i));
  }

  // The function that the operation `inner` (erf, tanh) belongs to.
  std::optional<KnownFunction> around(Register inner, KnownFunction::Name name) const {
    // It ends with a product of what reads it; its variable is something that `inner` depends on.
    for (size_t root = inner + 1; root < count; ++root) {
      if (expression.instructions[root].opcode != BlockOpcode::Multiply)
        continue;
      for (size_t variable = 0; variable < inner; ++variable)
        if (auto found = between(static_cast<Register>(variable), inner, static_cast<Register>(root), name))
          return found;
    }
    return std::nullopt;
  }

private:
  std::optional<KnownFunction> between(Register variable, Register inner, Register root,
                                       KnownFunction::Name name) const {
    if (expression.instructions[variable].opcode == BlockOpcode::Constant)
      return std::nullopt;
    // All that the root is computed from but the variable.
    std::vector<bool> inside(count);
    inside[root] = true;
    for (size_t i = root + 1; i-- > 0;)
      if (inside[i])
        for (unsigned o = 0; o < operandCount(expression.instructions[i].opcode); ++o)
          if (Register operand = expression.instructions[i].operands[o]; operand != variable)
            inside[operand] = true;
    if (!inside[inner])
      return std::nullopt;
    for (size_t i = 0; i < root; ++i) {
      if (!inside[i] || expression.instructions[i].opcode == BlockOpcode::Constant)
        continue;
      if (operandCount(expression.instructions[i].opcode) == 0 ||
          llvm::is_contained(expression.results, static_cast<Register>(i)) ||
          llvm::any_of(readers[i], [&](Register reader) { return !inside[reader]; }))
        return std::nullopt;
    }
    // The tolerance allows for constants that were rounded to 16 bits.
    for (double x : {-5.0, -2.5, -1.3, -0.7, -0.2, 0.1, 0.4, 0.9, 1.7, 2.9, 5.5})
      if (double expected = gelu(name, x);
          !(std::abs(valueAt(variable, root, inside, x) - expected) <= 1e-3 * std::abs(expected) + 1e-5))
        return std::nullopt;
    for (size_t i = 0; i < root; ++i)
      inside[i] = inside[i] && expression.instructions[i].opcode != BlockOpcode::Constant;
    return KnownFunction{name, root, std::move(inside)};
  }

  double valueAt(Register variable, Register root, const std::vector<bool> &inside, double x) const {
    std::vector<double> values(count, std::numeric_limits<double>::quiet_NaN());
    values[variable] = x;
    for (size_t i = 0; i <= root; ++i) {
      if (!inside[i])
        continue;
      const BlockInstruction &each = expression.instructions[i];
      auto operand = [&](unsigned o) { return values[each.operands[o]]; };
      switch (each.opcode) {
      case BlockOpcode::Constant:
        values[i] = doubleFromBits(each.type, each.immediate);
        break;
      case BlockOpcode::Add:
        values[i] = operand(0) + operand(1);
        break;
      case BlockOpcode::Subtract:
        values[i] = operand(0) - operand(1);
        break;
      case BlockOpcode::Multiply:
        values[i] = operand(0) * operand(1);
        break;
      case BlockOpcode::MultiplyAdd:
        values[i] = operand(0) * operand(1) + operand(2);
        break;
      case BlockOpcode::Divide:
        values[i] = operand(0) / operand(1);
        break;
      case BlockOpcode::Reciprocal:
        values[i] = 1 / operand(0);
        break;
      case BlockOpcode::Power:
        values[i] = std::pow(operand(0), operand(1));
        break;
      case BlockOpcode::Negate:
        values[i] = -operand(0);
        break;
      case BlockOpcode::Erf:
        values[i] = std::erf(operand(0));
        break;
      case BlockOpcode::Tanh:
        values[i] = std::tanh(operand(0));
        break;
      default: // stays NaN
        break;
      }
    }
    return values[root];
  }

  const BlockExpression &expression;
  size_t count;
  std::vector<std::vector<Register>> readers;
};

} // namespace

std::vector<KnownFunction> knownFunctions(const BlockExpression &expression) {
  std::vector<KnownFunction> functions;
  std::optional<Finder> finder;
  for (auto [i, each] : llvm::enumerate(expression.instructions)) {
    if (each.opcode != BlockOpcode::Erf && each.opcode != BlockOpcode::Tanh)
      continue;
    if (!finder)
      finder.emplace(expression);
    if (auto found =
            finder->around(static_cast<Register>(i), each.opcode == BlockOpcode::Erf ? KnownFunction::Name::GeluErf
                                                                                     : KnownFunction::Name::GeluTanh))
      functions.push_back(std::move(*found));
  }
  return functions;
}

} // namespace quadrille::ipu
