#include "target/tsp/Expand.h"

#include "numerics/Convert.h"
#include "target/tsp/FunctionBuilder.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>
#include <limits>
#include <map>
#include <set>

namespace quadrille::tsp {

namespace {

class Expander : FunctionBuilder {
public:
  explicit Expander(const BlockExpression &from) : from(from) { to.inputs = from.inputs; }

  BlockExpression run() {
    for (const BlockInstruction &instruction : from.instructions)
      values.push_back(lower(instruction));
    for (Register result : from.results)
      to.results.push_back(values[result]);
    return withoutUnused(to);
  }

private:
  // Whether some instruction rounds the value to a whole number.
  bool isRounded(const BlockInstruction &value) const {
    auto index = static_cast<Register>(&value - from.instructions.data());
    return llvm::any_of(from.instructions, [&](const BlockInstruction &user) {
      bool rounds = user.opcode == BlockOpcode::RoundEven || user.opcode == BlockOpcode::Floor ||
                    user.opcode == BlockOpcode::Ceil || user.opcode == BlockOpcode::Truncate ||
                    ((user.opcode == BlockOpcode::Convert || user.opcode == BlockOpcode::ConvertSaturating) &&
                     isInteger(user.type));
      return rounds && user.operands[0] == index;
    });
  }

  // Whether a function takes the value and nothing else does that is further from exact than a quotient's last digit.
  bool isArgument(const BlockInstruction &value) const {
    auto index = static_cast<Register>(&value - from.instructions.data());
    bool taken = false;
    for (const BlockInstruction &user : from.instructions) {
      if (!llvm::is_contained(llvm::ArrayRef(user.operands).take_front(operandCount(user.opcode)), index))
        continue;
      taken = true;
      if (user.opcode != BlockOpcode::Erf && user.opcode != BlockOpcode::Exp && user.opcode != BlockOpcode::Tanh)
        return false;
    }
    return taken && !llvm::is_contained(from.results, index);
  }

  // Of those whose reciprocal is exact in every type.
  static bool isPowerOfTwo(double value) {
    constexpr int most = 14;
    int exponent = 0;
    return std::frexp(std::abs(value), &exponent) == 0.5 && std::abs(exponent - 1) <= most;
  }

  std::optional<double> constantOf(Register value) const {
    const BlockInstruction &instruction = from.instructions[value];
    if (instruction.opcode != BlockOpcode::Constant)
      return std::nullopt;
    return doubleFromBits(instruction.type, instruction.immediate);
  }

  const BlockInstruction &at(Register value) const { return from.instructions[value]; }

  // Whether a float is always a whole number, or no number at all.
  bool isWhole(Register value) const {
    const BlockInstruction &instruction = at(value);
    switch (instruction.opcode) {
    case BlockOpcode::RoundEven:
    case BlockOpcode::Floor:
    case BlockOpcode::Ceil:
    case BlockOpcode::Truncate:
      return true;
    case BlockOpcode::Constant: {
      double known = doubleFromBits(instruction.type, instruction.immediate);
      return known == std::trunc(known);
    }
    case BlockOpcode::Convert:
      return isInteger(at(instruction.operands[0]).type);
    case BlockOpcode::Add:
    case BlockOpcode::Subtract:
    case BlockOpcode::Minimum:
    case BlockOpcode::Maximum:
      return isWhole(instruction.operands[0]) && isWhole(instruction.operands[1]);
    default:
      return false;
    }
  }

  // A float that is rounded to a whole number and has another one added to it, on the way to an integer of few bits, as
  // quantisations do: what is to be rounded to the nearest integer.
  std::optional<Register> roundedSum(Register value, ElementType into) {
    const BlockInstruction &sum = at(value);
    if (sum.opcode == BlockOpcode::RoundEven)
      return values[sum.operands[0]];
    constexpr double mostOffset = 65536, whole = 12582912; // 3 * 2^22: floats around it are the integers
    if (sum.opcode != BlockOpcode::Add || sum.type != ElementType::f32 || bitWidth(into) > 16)
      return std::nullopt;
    for (unsigned i : {0u, 1u}) {
      const BlockInstruction &rounded = at(sum.operands[i]);
      std::optional<double> offset = constantOf(sum.operands[1 - i]);
      if (rounded.opcode != BlockOpcode::RoundEven || !offset || *offset != std::trunc(*offset) ||
          std::abs(*offset) > mostOffset)
        continue;
      Register x = values[rounded.operands[0]];
      if (*offset == 0)
        return x;
      // Values that are too large for it stay larger than the integers are.
      return subtract(sum.type, add(sum.type, x, constant(sum.type, whole)), constant(sum.type, whole - *offset));
    }
    return std::nullopt;
  }

  // A narrow integer from which a constant is taken away, as dequantisations do: the same in f32, where it is exact.
  std::optional<Register> differenceInFloat(const BlockInstruction &difference) {
    if (difference.opcode != BlockOpcode::Subtract || difference.type != ElementType::i32)
      return std::nullopt;
    const BlockInstruction &wide = at(difference.operands[0]);
    std::optional<double> offset = constantOf(difference.operands[1]);
    constexpr double mostOffset = 65536;
    if (wide.opcode != BlockOpcode::Convert || !isInteger(at(wide.operands[0]).type) ||
        bitWidth(at(wide.operands[0]).type) > 16 || !offset || std::abs(*offset) > mostOffset)
      return std::nullopt;
    Register value = convert(ElementType::f32, values[wide.operands[0]]);
    return *offset == 0 ? value : subtract(ElementType::f32, value, constant(ElementType::f32, *offset));
  }

  // A function of one f32.
  using Function = Register (FunctionBuilder::*)(Register);
  static Function floatFunction(BlockOpcode opcode) {
    switch (opcode) {
    case BlockOpcode::Exp2:
      return &FunctionBuilder::exp2;
    case BlockOpcode::Expm1:
      return &FunctionBuilder::expm1;
    case BlockOpcode::Log:
      return &FunctionBuilder::log;
    case BlockOpcode::Log2:
      return &FunctionBuilder::log2;
    case BlockOpcode::Log1p:
      return &FunctionBuilder::log1p;
    case BlockOpcode::Sin:
      return &FunctionBuilder::sin;
    case BlockOpcode::Cos:
      return &FunctionBuilder::cos;
    case BlockOpcode::Tan:
      return &FunctionBuilder::tan;
    case BlockOpcode::Asin:
      return &FunctionBuilder::asin;
    case BlockOpcode::Acos:
      return &FunctionBuilder::acos;
    case BlockOpcode::Atan:
      return &FunctionBuilder::atan;
    case BlockOpcode::Sinh:
      return &FunctionBuilder::sinh;
    case BlockOpcode::Cosh:
      return &FunctionBuilder::cosh;
    case BlockOpcode::Asinh:
      return &FunctionBuilder::asinh;
    case BlockOpcode::Acosh:
      return &FunctionBuilder::acosh;
    case BlockOpcode::Atanh:
      return &FunctionBuilder::atanh;
    case BlockOpcode::Erf:
      return &FunctionBuilder::errorFunction;
    default:
      return nullptr;
    }
  }

  // Of small whole exponents a product, of 1/2 a root.
  Register floatPower(ElementType t, Register base, Register exponent, std::optional<double> known) {
    constexpr double mostFactors = 8;
    if (known && *known == std::trunc(*known) && *known >= 1 && *known <= mostFactors) {
      Register product = base;
      for (int factor = 1; factor < static_cast<int>(*known); ++factor)
        product = multiply(t, product, base);
      return product;
    }
    if (known && *known == 0.5) { // of -0 it is 0, of -infinity infinity
      Register infinite = constant(t, std::numeric_limits<double>::infinity());
      Register root = absolute(t, squareRoot(t, base));
      return select(t, equal(base, constant(t, -std::numeric_limits<double>::infinity())), infinite, root);
    }
    return inF32(t, base, exponent, [&](Register x, Register y) { return power(x, y); });
  }

  Register withSignOfDivisor(Register rest, Register divisor) {
    constexpr ElementType f32 = ElementType::f32;
    Register zero = constant(f32, 0);
    Register differ = emit(BlockOpcode::NotEqual, ElementType::boolean, {less(rest, zero), less(divisor, zero)});
    Register moved = both(differ, emit(BlockOpcode::NotEqual, ElementType::boolean, {rest, zero}));
    return select(f32, moved, add(f32, rest, divisor), rest);
  }

  Register lower(const BlockInstruction &instruction) {
    ElementType t = instruction.type;
    auto operand = [&](unsigned i) { return values[instruction.operands[i]]; };
    auto operandType = [&](unsigned i) { return at(instruction.operands[i]).type; };
    bool floats = t == ElementType::f32 || t == ElementType::f16;
    bool fromFloats = operandCount(instruction.opcode) > 0 && isFloat(operandType(0));
    switch (instruction.opcode) {
    case BlockOpcode::Divide:
      if (auto divisor = constantOf(instruction.operands[1]); floats && divisor && isPowerOfTwo(*divisor))
        return multiply(t, operand(0), constant(t, 1 / *divisor));
      if (auto divisor = constantOf(instruction.operands[1]);
          floats && divisor && *divisor != 0 && isArgument(instruction))
        return multiply(t, operand(0), constant(t, 1 / *divisor));
      // A constant divisor makes means and scales, which many values then depend on.
      if (floats && !isRounded(instruction) && !constantOf(instruction.operands[1]))
        return multiply(t, operand(0), reciprocal(t, operand(1)));
      if (floats)
        return inF32(t, operand(0), operand(1), [&](Register x, Register y) { return quotientToRound(x, y); });
      return divide(t, operand(0), operand(1));
    case BlockOpcode::Reciprocal:
      return reciprocal(t, operand(0));
    case BlockOpcode::SquareRoot:
      if (floats)
        return squareRoot(t, operand(0));
      break;
    case BlockOpcode::MultiplyAdd:
      return add(t, multiply(t, operand(0), operand(1)), operand(2));
    case BlockOpcode::RoundEven:
      if (floats)
        return roundEven(t, operand(0));
      break;
    case BlockOpcode::Truncate:
      if (floats)
        return truncate(t, operand(0));
      break;
    case BlockOpcode::Floor:
      if (floats)
        return floor(t, operand(0));
      break;
    case BlockOpcode::Ceil:
      if (floats)
        return ceil(t, operand(0));
      break;
    case BlockOpcode::Convert:
    case BlockOpcode::ConvertSaturating:
      if (fromFloats && isInteger(t)) {
        ElementType wide = operandType(0);
        // The unit's conversion rounds to nearest; a truncated value is whole.
        std::optional<Register> whole = roundedSum(instruction.operands[0], t);
        if (!whole)
          whole = isWhole(instruction.operands[0]) ? operand(0) : truncate(wide, operand(0));
        return emit(BlockOpcode::Convert, t, {emit(BlockOpcode::RoundEven, wide, {*whole})});
      }
      if (instruction.opcode == BlockOpcode::ConvertSaturating && fromFloats && floats &&
          bitWidth(t) < bitWidth(operandType(0))) {
        // The unit's conversion makes infinities of what is too large. Constants of the narrow type take fewer streams.
        double most = doubleFromBits(t, bitsFromDouble(t, INFINITY, /*saturate=*/true));
        Register narrow = emit(BlockOpcode::Convert, t, {operand(0)});
        Register least = emit(BlockOpcode::Maximum, t, {narrow, constant(t, -most)});
        return emit(BlockOpcode::Minimum, t, {least, constant(t, most)});
      }
      if (t == ElementType::f32)
        if (std::optional<Register> difference = differenceInFloat(at(instruction.operands[0])))
          return *difference;
      break;
    case BlockOpcode::Sign:
      if (floats || t == ElementType::i32 || t == ElementType::i16 || t == ElementType::i8) {
        Register zero = constant(t, 0);
        Register sign = select(t, less(zero, operand(0)), constant(t, 1), operand(0));
        return select(t, less(operand(0), zero), constant(t, -1), sign);
      }
      break;
    case BlockOpcode::CopySign:
      if (floats)
        return withSign(t, absolute(t, operand(0)), signBit(t, operand(1)));
      break;
    case BlockOpcode::Remainder:
    case BlockOpcode::Modulo: {
      bool ofDivisor = instruction.opcode == BlockOpcode::Modulo;
      if (floats)
        return inF32(t, operand(0), operand(1), [&](Register a, Register b) {
          Register rest = remainder(a, b);
          return ofDivisor ? withSignOfDivisor(rest, b) : rest;
        });
      return remainder(t, operand(0), operand(1), ofDivisor);
    }
    case BlockOpcode::MinimumNumber:
    case BlockOpcode::MaximumNumber: {
      bool low = instruction.opcode == BlockOpcode::MinimumNumber;
      Register best = emit(low ? BlockOpcode::Minimum : BlockOpcode::Maximum, t, {operand(0), operand(1)});
      if (!floats)
        return best;
      Register other = select(t, isNan(operand(1)), operand(0), best);
      return select(t, isNan(operand(0)), operand(1), other);
    }
    case BlockOpcode::IsInfinite:
      if (fromFloats) {
        Register infinite = constant(operandType(0), std::numeric_limits<double>::infinity());
        return equal(absolute(operandType(0), operand(0)), infinite);
      }
      break;
    case BlockOpcode::Power:
      if (!floats)
        return power(t, operand(0), operand(1));
      return floatPower(t, operand(0), operand(1), constantOf(instruction.operands[1]));
    case BlockOpcode::Atan2:
      if (floats)
        return inF32(t, operand(0), operand(1), [&](Register y, Register x) { return atan2(y, x); });
      break;
    default:
      if (auto function = floatFunction(instruction.opcode); floats && function)
        return inF32(t, operand(0), [&](Register x) { return (this->*function)(x); });
      break;
    }
    BlockInstruction same = instruction;
    for (unsigned i = 0; i < operandCount(instruction.opcode); ++i)
      same.operands[i] = operand(i);
    to.instructions.push_back(same);
    return static_cast<Register>(to.instructions.size() - 1);
  }

  const BlockExpression &from;
  std::vector<Register> values;
};

// Instructions [begin, end) of an expression as one of their own. Values from before are inputs, constants are
// repeated.
struct Part {
  BlockExpression body;
  std::vector<Register> inputs, results; // registers of the whole
};
Part partOf(const BlockExpression &whole, size_t begin, size_t end, const std::vector<bool> &needed) {
  Part part;
  std::map<Register, Register> known;
  auto valueOf = [&](auto &self, Register value) -> Register {
    if (auto found = known.find(value); found != known.end())
      return found->second;
    const BlockInstruction &instruction = whole.instructions[value];
    Register here = 0;
    if (instruction.opcode == BlockOpcode::Constant) {
      here = part.body.append(BlockOpcode::Constant, instruction.type, {}, instruction.immediate);
    } else if (value < begin || instruction.opcode == BlockOpcode::Input) {
      here = part.body.append(BlockOpcode::Input, instruction.type, {}, part.body.inputs.size());
      part.body.inputs.push_back(instruction.type);
      part.inputs.push_back(value);
    } else {
      BlockInstruction same = instruction;
      for (unsigned i = 0; i < operandCount(instruction.opcode); ++i)
        same.operands[i] = self(self, instruction.operands[i]);
      part.body.instructions.push_back(same);
      here = static_cast<Register>(part.body.instructions.size() - 1);
    }
    return known[value] = here;
  };
  for (size_t i = begin; i < end; ++i)
    if (needed[i]) {
      part.body.results.push_back(valueOf(valueOf, static_cast<Register>(i)));
      part.results.push_back(static_cast<Register>(i));
    }
  return part;
}

} // namespace

BlockExpression withoutUnused(const BlockExpression &whole) {
  std::vector<bool> needed(whole.instructions.size());
  for (Register result : whole.results)
    needed[result] = true;
  for (size_t i = whole.instructions.size(); i-- > 0;)
    for (unsigned k = 0; needed[i] && k < operandCount(whole.instructions[i].opcode); ++k)
      needed[whole.instructions[i].operands[k]] = true;
  BlockExpression kept;
  kept.inputs = whole.inputs;
  std::vector<Register> place(whole.instructions.size());
  for (auto [i, instruction] : llvm::enumerate(whole.instructions)) {
    if (!needed[i])
      continue;
    place[i] = static_cast<Register>(kept.instructions.size());
    kept.instructions.push_back(instruction);
    for (unsigned k = 0; k < operandCount(instruction.opcode); ++k)
      kept.instructions.back().operands[k] = place[instruction.operands[k]];
  }
  for (Register result : whole.results)
    kept.results.push_back(place[result]);
  return kept;
}

BlockExpression expand(const BlockExpression &expression) {
  return Expander(expression).run();
}

// Whether a part is one chain.
static bool fits(const Part &part, const Architecture &machine, std::string &reason) {
  constexpr size_t mostResults = 4, mostBytes = 16; // that leave one stage; of what comes to it
  size_t bytes = 0;
  for (ElementType type : part.body.inputs)
    bytes += byteWidth(type);
  if (part.results.size() > mostResults || bytes > mostBytes)
    return false;
  // More than there are units need no search.
  auto needsUnit = [](const BlockInstruction &instruction) { return operandCount(instruction.opcode) > 0; };
  if (llvm::count_if(part.body.instructions, needsUnit) > machine.alus)
    return false;
  std::vector<Direction> directions(part.body.inputs.size(), Direction::East);
  auto chain = makeChain(part.body, directions, Direction::East, Direction::East, 0, machine, reason);
  if (!chain)
    return false;
  // What comes at the same time lies in different slices, all of them in the west when nothing else is left.
  int64_t comes = 0, leaves = 0, usable = machine.slices;
  for (const std::vector<bool> &hemisphere : machine.reserved)
    usable = std::min<int64_t>(usable, llvm::count(hemisphere, false));
  for (const Chain::Input &input : chain->inputs)
    comes += static_cast<int64_t>(byteWidth(input.type));
  for (const Chain::Output &output : chain->outputs)
    leaves += static_cast<int64_t>(byteWidth(output.type));
  if (std::max(comes, leaves) > usable)
    reason = "its operands need more memory slices than one hemisphere has";
  return std::max(comes, leaves) <= usable;
}

std::string whyNoStages(const BlockExpression &expression, const Architecture &machine) {
  std::string reason;
  std::set<std::string> known;
  for (size_t i = 0; i < expression.instructions.size(); ++i) {
    const BlockInstruction &instruction = expression.instructions[i];
    if (instruction.opcode == BlockOpcode::RoundEven) // only before a conversion, which does it
      continue;
    size_t begin = i;
    if (operandCount(instruction.opcode) == 1 &&
        expression.instructions[instruction.operands[0]].opcode == BlockOpcode::RoundEven)
      begin = instruction.operands[0];
    std::vector<bool> needed(expression.instructions.size());
    needed[i] = true;
    Part part = partOf(expression, begin, i + 1, needed);
    if (known.insert(part.body.print()).second && !fits(part, machine, reason))
      return reason;
  }
  return "";
}

std::optional<Stages> splitIntoStages(const BlockExpression &expression, const Architecture &machine,
                                      std::string &reason) {
  size_t count = expression.instructions.size();
  Stages stages;
  std::map<Register, std::pair<unsigned, unsigned>> made; // values in memory: stage and result
  size_t begin = 0;
  while (true) {
    // Instructions that need no unit come for free with those that use them.
    auto isFree = [&](size_t i) {
      BlockOpcode opcode = expression.instructions[i].opcode;
      return opcode == BlockOpcode::Constant || opcode == BlockOpcode::Input;
    };
    auto neededBehind = [&](size_t end) {
      std::vector<bool> needed(count);
      for (Register result : expression.results)
        needed[result] = true;
      for (size_t i = end; i < count; ++i)
        for (unsigned k = 0; k < operandCount(expression.instructions[i].opcode); ++k)
          needed[expression.instructions[i].operands[k]] = true;
      for (size_t i = 0; i < count; ++i)
        needed[i] = needed[i] && (end == count || !isFree(i));
      return needed;
    };
    // The longest part that is one chain; every instruction of it takes a unit.
    std::optional<Part> best;
    size_t end = begin;
    for (int64_t units = 0; end < count && units <= machine.alus; ++end)
      units += !isFree(end) && expression.instructions[end].opcode != BlockOpcode::RoundEven;
    for (; end > begin; --end) {
      if (end < count && isFree(end - 1))
        continue;
      Part part = partOf(expression, begin, end, neededBehind(end));
      if (part.results.empty())
        continue;
      if (fits(part, machine, reason)) {
        best = std::move(part);
        break;
      }
    }
    if (!best)
      return std::nullopt;
    Stage stage;
    stage.body = best->body;
    for (Register input : best->inputs) {
      const BlockInstruction &instruction = expression.instructions[input];
      if (instruction.opcode == BlockOpcode::Input)
        stage.inputs.push_back({static_cast<unsigned>(instruction.immediate), 0, 0});
      else
        stage.inputs.push_back({std::nullopt, made.at(input).first, made.at(input).second});
    }
    for (auto [i, result] : llvm::enumerate(best->results))
      made[result] = {static_cast<unsigned>(stages.list.size()), static_cast<unsigned>(i)};
    stages.list.push_back(std::move(stage));
    if (end == count)
      break;
    begin = end;
  }
  for (Register result : expression.results)
    stages.results.push_back(made.at(result));
  return stages;
}

} // namespace quadrille::tsp
