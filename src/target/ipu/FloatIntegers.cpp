#include "target/ipu/FloatIntegers.h"

#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace quadrille::ipu {

namespace {

constexpr auto f32 = ElementType::f32;
constexpr double exactInF32 = 1 << 24;

// All values of an integer type of up to 32 bits; u32 and i32 too, though f32 does not hold them.
std::optional<Range> rangeOf(ElementType type) {
  if (!isInteger(type) || bitWidth(type) > 32)
    return std::nullopt;
  auto bits = static_cast<int>(bitWidth(type));
  return kindOf(type) == ElementKind::Signed ? Range{-std::ldexp(1, bits - 1), std::ldexp(1, bits - 1) - 1, true}
                                             : Range{0, std::ldexp(1, bits) - 1, true};
}

bool contains(const Range &outer, const Range &inner) {
  return outer.low <= inner.low && inner.high <= outer.high;
}

class Rewriter {
public:
  Rewriter(const BlockExpression &expression, llvm::ArrayRef<std::optional<Range>> inputs)
      : old(expression), inputs(inputs), held(expression.instructions.size()) {}

  BlockExpression run() {
    made.inputs = old.inputs;
    for (size_t i = 0; i < old.instructions.size(); ++i)
      rewrite(i);
    for (Register result : old.results)
      made.results.push_back(native(result));
    return std::move(made);
  }

private:
  // What the new expression has of an old register: its value, and the same number in f32.
  struct Held {
    std::optional<Register> native, inF32;
    std::optional<Range> range;
    bool negativeZero = false; // what is held in f32 may be -0 where the integer is 0
  };

  ElementType typeOf(Register id) const { return old.instructions[id].type; }
  bool isHeldInteger(Register id) const { return isInteger(typeOf(id)) && typeOf(id) != ElementType::boolean; }
  bool fitsF32(const std::optional<Range> &range) const {
    return range && range->whole && range->low >= -exactInF32 && range->high <= exactInF32;
  }
  bool canBeF32(Register id) const { return isHeldInteger(id) && fitsF32(held[id].range); }

  Register native(Register id) {
    Held &it = held[id];
    const BlockInstruction &of = old.instructions[id];
    if (!it.native)
      it.native = of.opcode == BlockOpcode::Constant ? made.append(of.opcode, of.type, {}, of.immediate)
                                                     : made.append(BlockOpcode::Convert, of.type, {*it.inF32});
    return *it.native;
  }
  Register inF32(Register id) {
    Held &it = held[id];
    if (it.inF32)
      return *it.inF32;
    const BlockInstruction &of = old.instructions[id];
    it.inF32 = of.opcode == BlockOpcode::Constant ? constant(doubleFromBits(of.type, of.immediate))
                                                  : made.append(BlockOpcode::Convert, f32, {native(id)});
    return *it.inF32;
  }
  Register constant(double value) {
    return made.append(BlockOpcode::Constant, f32, {}, std::bit_cast<uint32_t>(static_cast<float>(value)));
  }

  void keep(size_t i) {
    const BlockInstruction &each = old.instructions[i];
    llvm::SmallVector<Register, 3> operands;
    for (unsigned o = 0; o < operandCount(each.opcode); ++o)
      operands.push_back(native(each.operands[o]));
    held[i].native = made.append(each.opcode, each.type, operands, each.immediate);
  }

  void rewrite(size_t i) {
    const BlockInstruction &each = old.instructions[i];
    wraps = false;
    held[i].range = rangeOf(each);
    if (each.opcode == BlockOpcode::Constant) // made where it is read
      return;
    if (each.opcode == BlockOpcode::Convert || each.opcode == BlockOpcode::ConvertSaturating) {
      convert(i);
      return;
    }
    auto arithmetic = [&] {
      switch (each.opcode) {
      case BlockOpcode::Add:
      case BlockOpcode::Subtract:
      case BlockOpcode::Multiply:
      case BlockOpcode::Minimum:
      case BlockOpcode::Maximum:
      case BlockOpcode::Negate:
      case BlockOpcode::Absolute:
      case BlockOpcode::Equal:
      case BlockOpcode::NotEqual:
      case BlockOpcode::Less:
      case BlockOpcode::LessEqual:
        return true;
      default:
        return false;
      }
    }();
    bool compares = each.type == ElementType::boolean;
    bool can = arithmetic && !wraps && (compares || canBeF32(static_cast<Register>(i)));
    for (unsigned o = 0; o < operandCount(each.opcode); ++o)
      can = can && canBeF32(each.operands[o]);
    if (!can)
      return keep(i);
    llvm::SmallVector<Register, 3> operands;
    for (unsigned o = 0; o < operandCount(each.opcode); ++o)
      operands.push_back(inF32(each.operands[o]));
    (compares ? held[i].native : held[i].inF32) = made.append(each.opcode, compares ? each.type : f32, operands);
    const Held &a = held[each.operands[0]], &b = held[each.operands[operandCount(each.opcode) - 1]];
    held[i].negativeZero = each.opcode == BlockOpcode::Add        ? a.negativeZero && b.negativeZero
                           : each.opcode == BlockOpcode::Subtract ? a.negativeZero && contains(*b.range, {0, 0})
                           : each.opcode == BlockOpcode::Minimum || each.opcode == BlockOpcode::Maximum
                               ? a.negativeZero || b.negativeZero
                               : each.opcode != BlockOpcode::Absolute;
  }

  void convert(size_t i) {
    const BlockInstruction &each = old.instructions[i];
    Register from = each.operands[0];
    ElementType source = typeOf(from), to = each.type;
    Held &it = held[i];
    bool toInteger = isInteger(to) && to != ElementType::boolean;
    if (canBeF32(from) && toInteger && it.range && contains(*it.range, *held[from].range)) {
      it.inF32 = inF32(from); // the same number
      it.negativeZero = held[from].negativeZero;
      return;
    }
    if (canBeF32(from) && isFloat(to)) {
      // Rounding an exact number is what converting the integer does, but for the sign of a zero.
      Register number = inF32(from);
      if (held[from].negativeZero)
        number = made.append(BlockOpcode::Add, f32, {number, constant(0)});
      it.native = to == f32 ? number : made.append(each.opcode, to, {number});
      return;
    }
    std::optional<Range> all = toInteger ? quadrille::ipu::rangeOf(to) : std::nullopt;
    const std::optional<Range> &known = held[from].range;
    // What is no number becomes 0, which the bounds give where they begin there.
    if (source == f32 && all && fitsF32(all) && (known || all->low == 0)) {
      Register number = native(from);
      if (!known || !known->whole)
        number = made.append(BlockOpcode::Truncate, f32, {number});
      if (!known || known->low < all->low)
        number = made.append(BlockOpcode::MaximumNumber, f32, {number, constant(all->low)});
      if (!known || known->high > all->high)
        number = made.append(BlockOpcode::MinimumNumber, f32, {number, constant(all->high)});
      it.inF32 = number;
      it.negativeZero = true;
      return;
    }
    if (source == f32 && toInteger && fitsF32(known) && contains(*all, *known)) {
      it.inF32 = native(from);
      it.negativeZero = true;
      return;
    }
    keep(i);
  }

  // Bounds of an old instruction's values. Those of floats leave room for rounding.
  std::optional<Range> rangeOf(const BlockInstruction &each) {
    auto operand = [&](unsigned o) -> const std::optional<Range> & { return held[each.operands[o]].range; };
    bool whole = isInteger(each.type), known = true;
    for (unsigned o = 0; o < operandCount(each.opcode); ++o)
      known = known && operand(o);
    std::optional<Range> all = quadrille::ipu::rangeOf(each.type);
    if (each.type == ElementType::boolean)
      return std::nullopt;
    auto bounded = [&](Range range) -> std::optional<Range> {
      if (all) { // integers wrap
        wraps = !contains(*all, range);
        return wraps ? all : std::optional(range);
      }
      constexpr double rounding = 1e-3, largest = 6e4; // of f16
      if (!isFloat(each.type) || std::max(-range.low, range.high) > largest * (each.type == f32 ? 1e30 : 1))
        return std::nullopt;
      if (!(range.whole && std::max(-range.low, range.high) <= (each.type == f32 ? exactInF32 : 2048))) {
        range.low -= std::abs(range.low) * rounding;
        range.high += std::abs(range.high) * rounding;
      }
      return range;
    };
    switch (each.opcode) {
    case BlockOpcode::Input:
      if (each.immediate < inputs.size() && inputs[each.immediate])
        return inputs[each.immediate];
      return all;
    case BlockOpcode::Constant: {
      double value = doubleFromBits(each.type, each.immediate);
      return std::isfinite(value) ? std::optional(Range{value, value, value == std::rint(value)}) : std::nullopt;
    }
    case BlockOpcode::Convert:
    case BlockOpcode::ConvertSaturating: {
      if (!known)
        return all;
      Range range = *operand(0);
      if (all) { // of floats truncated and limited, of integers wrapped
        if (isFloat(typeOf(each.operands[0])))
          return Range{std::clamp(std::trunc(range.low), all->low, all->high),
                       std::clamp(std::trunc(range.high), all->low, all->high), true};
        return contains(*all, range) ? std::optional(range) : all;
      }
      return bounded(range);
    }
    case BlockOpcode::Add:
      return !known ? all
                    : bounded({operand(0)->low + operand(1)->low, operand(0)->high + operand(1)->high,
                               whole || (operand(0)->whole && operand(1)->whole)});
    case BlockOpcode::Subtract:
      return !known ? all
                    : bounded({operand(0)->low - operand(1)->high, operand(0)->high - operand(1)->low,
                               whole || (operand(0)->whole && operand(1)->whole)});
    case BlockOpcode::Multiply: {
      if (!known)
        return all;
      auto [low, high] = std::minmax({operand(0)->low * operand(1)->low, operand(0)->low * operand(1)->high,
                                      operand(0)->high * operand(1)->low, operand(0)->high * operand(1)->high});
      return bounded({low, high, whole || (operand(0)->whole && operand(1)->whole)});
    }
    case BlockOpcode::Divide: { // by a number
      if (!known || all || operand(1)->low != operand(1)->high || operand(1)->low == 0)
        return all;
      auto [low, high] = std::minmax({operand(0)->low / operand(1)->low, operand(0)->high / operand(1)->low});
      return bounded({low, high, false});
    }
    case BlockOpcode::Negate:
      return !known ? all : bounded({-operand(0)->high, -operand(0)->low, operand(0)->whole});
    case BlockOpcode::Absolute:
      return !known ? all : bounded({0, std::max(-operand(0)->low, operand(0)->high), operand(0)->whole});
    case BlockOpcode::Minimum:
      return !known ? all
                    : bounded({std::min(operand(0)->low, operand(1)->low), std::min(operand(0)->high, operand(1)->high),
                               operand(0)->whole && operand(1)->whole});
    case BlockOpcode::Maximum:
      return !known ? all
                    : bounded({std::max(operand(0)->low, operand(1)->low), std::max(operand(0)->high, operand(1)->high),
                               operand(0)->whole && operand(1)->whole});
    case BlockOpcode::RoundEven:
    case BlockOpcode::Truncate:
    case BlockOpcode::Floor:
    case BlockOpcode::Ceil:
      if (known && isFloat(each.type))
        return bounded({std::floor(operand(0)->low), std::ceil(operand(0)->high), true});
      return all;
    default:
      return all;
    }
  }

  const BlockExpression &old;
  llvm::ArrayRef<std::optional<Range>> inputs;
  std::vector<Held> held; // by old register
  bool wraps = false;     // the integer that is looked at
  BlockExpression made;
};

} // namespace

BlockExpression integersInF32(const BlockExpression &expression, llvm::ArrayRef<std::optional<Range>> inputs) {
  return Rewriter(expression, inputs).run();
}

} // namespace quadrille::ipu
