#include "target/tsp/Expand.h"

#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>
#include <limits>
#include <map>
#include <set>

namespace quadrille::tsp {

namespace {

class Expander {
public:
  explicit Expander(const BlockExpression &from) : from(from) { to.inputs = from.inputs; }

  BlockExpression run() {
    for (const BlockInstruction &instruction : from.instructions)
      values.push_back(lower(instruction));
    for (Register result : from.results)
      to.results.push_back(values[result]);
    return std::move(to);
  }

private:
  Register emit(BlockOpcode opcode, ElementType type, llvm::ArrayRef<Register> operands, uint64_t immediate = 0) {
    return to.append(opcode, type, operands, immediate);
  }
  Register constant(ElementType type, double value) {
    return emit(BlockOpcode::Constant, type, {}, bitsFromDouble(type, value));
  }
  Register add(ElementType t, Register a, Register b) { return emit(BlockOpcode::Add, t, {a, b}); }
  Register subtract(ElementType t, Register a, Register b) { return emit(BlockOpcode::Subtract, t, {a, b}); }
  Register multiply(ElementType t, Register a, Register b) { return emit(BlockOpcode::Multiply, t, {a, b}); }
  Register select(ElementType t, Register condition, Register yes, Register no) {
    return emit(BlockOpcode::Select, t, {condition, yes, no});
  }
  Register less(Register a, Register b) { return emit(BlockOpcode::Less, ElementType::boolean, {a, b}); }
  Register asFloat(ElementType t, Register condition) { return emit(BlockOpcode::Convert, t, {condition}); }

  static ElementType bitsOf(ElementType type) { return bitWidth(type) == 16 ? ElementType::u16 : ElementType::u32; }
  Register signBit(ElementType t, Register x) {
    ElementType bits = bitsOf(t);
    Register mask = emit(BlockOpcode::Constant, bits, {}, uint64_t(1) << (bitWidth(t) - 1));
    return emit(BlockOpcode::And, bits, {emit(BlockOpcode::Bitcast, bits, {x}), mask});
  }
  Register withSign(ElementType t, Register magnitude, Register sign) {
    ElementType bits = bitsOf(t);
    return emit(BlockOpcode::Bitcast, t,
                {emit(BlockOpcode::Or, bits, {emit(BlockOpcode::Bitcast, bits, {magnitude}), sign})});
  }
  Register absolute(ElementType t, Register x) { return emit(BlockOpcode::Absolute, t, {x}); }

  // The reciprocal root squared, with the sign: within 2.5 units in the last place, right for zeros and infinities.
  Register reciprocal(ElementType t, Register x) {
    Register root = emit(BlockOpcode::ReciprocalSquareRoot, t, {absolute(t, x)});
    return withSign(t, multiply(t, root, root), signBit(t, x));
  }

  // The upper 12 bits of the fraction: products of two such numbers are exact.
  Register upperHalf(Register x) {
    ElementType bits = ElementType::u32;
    Register mask = emit(BlockOpcode::Constant, bits, {}, 0xfffff000u);
    return emit(BlockOpcode::Bitcast, ElementType::f32,
                {emit(BlockOpcode::And, bits, {emit(BlockOpcode::Bitcast, bits, {x}), mask})});
  }
  // a / b in f32 for a result that is rounded to a whole number: a times the reciprocal, corrected by what is exactly
  // left over, so that whole and half quotients come out as they are. Where the correction is no number (infinities,
  // divisions by zero) it is left out.
  Register quotientToRound(Register a, Register b) {
    ElementType t = ElementType::f32;
    Register inverse = reciprocal(t, b), first = multiply(t, a, inverse);
    Register q1 = upperHalf(first), q2 = subtract(t, first, q1), b1 = upperHalf(b), b2 = subtract(t, b, b1);
    Register rest = subtract(t, a, multiply(t, q1, b1));
    rest = subtract(t, rest, multiply(t, q1, b2));
    rest = subtract(t, rest, multiply(t, q2, b1));
    rest = subtract(t, rest, multiply(t, q2, b2));
    Register corrected = add(t, first, multiply(t, rest, inverse));
    Register isNan = emit(BlockOpcode::NotEqual, ElementType::boolean, {corrected, corrected});
    return select(t, isNan, first, corrected);
  }

  // Adding and taking away a number whose unit in the last place is 1 rounds to it, ties to even. Larger numbers are
  // whole already.
  Register roundMagnitude(ElementType t, Register magnitude) {
    Register whole = constant(t, t == ElementType::f16 ? 1024 : 8388608);
    Register rounded = subtract(t, add(t, magnitude, whole), whole);
    return select(t, less(magnitude, whole), rounded, magnitude);
  }
  Register roundEven(ElementType t, Register x) {
    return withSign(t, roundMagnitude(t, absolute(t, x)), signBit(t, x));
  }
  Register truncate(ElementType t, Register x) {
    Register magnitude = absolute(t, x), rounded = roundMagnitude(t, magnitude);
    Register down = subtract(t, rounded, asFloat(t, less(magnitude, rounded)));
    return withSign(t, down, signBit(t, x));
  }

  // FreeBSD's logf: x = 2^k * (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), a polynomial in s = f / (2 + f).
  Register logarithm(Register x) {
    ElementType f32 = ElementType::f32, i32 = ElementType::i32, u32 = ElementType::u32;
    auto bitsConstant = [&](uint32_t value) { return emit(BlockOpcode::Constant, i32, {}, value); };
    // Subnormal numbers are scaled by 2^25.
    Register small = less(x, constant(f32, 1.17549435e-38));
    Register scaled = select(f32, small, multiply(f32, x, constant(f32, 33554432)), x);
    Register bits = add(i32, emit(BlockOpcode::Bitcast, i32, {scaled}), bitsConstant(0x3f800000 - 0x3f3504f3));
    Register k = subtract(i32, emit(BlockOpcode::ShiftRight, i32, {bits, bitsConstant(23)}), bitsConstant(127));
    Register fraction = add(i32, emit(BlockOpcode::And, i32, {bits, bitsConstant(0x7fffff)}), bitsConstant(0x3f3504f3));
    (void)u32;
    Register exponent =
        subtract(f32, emit(BlockOpcode::Convert, f32, {k}), multiply(f32, asFloat(f32, small), constant(f32, 25)));
    Register f = subtract(f32, emit(BlockOpcode::Bitcast, f32, {fraction}), constant(f32, 1));
    Register s = multiply(f32, f, reciprocal(f32, add(f32, constant(f32, 2), f)));
    Register z = multiply(f32, s, s), w = multiply(f32, z, z);
    auto line = [&](double a, double b) { return add(f32, constant(f32, a), multiply(f32, w, constant(f32, b))); };
    Register even = multiply(f32, w, line(0.40000972152, 0.24279078841));
    Register odd = multiply(f32, z, line(0.66666662693, 0.28498786688));
    Register half = multiply(f32, multiply(f32, constant(f32, 0.5), f), f);
    Register inner = multiply(f32, s, add(f32, half, add(f32, odd, even)));
    Register low = multiply(f32, exponent, constant(f32, 9.0580006145e-06));
    Register high = multiply(f32, exponent, constant(f32, 6.9313812256e-01));
    Register result = add(f32, add(f32, subtract(f32, add(f32, inner, low), half), f), high);
    // Zero, negative numbers, infinity, NaN.
    Register zero = constant(f32, 0);
    Register isZero = emit(BlockOpcode::Equal, ElementType::boolean, {x, zero});
    double infinity = std::numeric_limits<double>::infinity();
    result = select(f32, isZero, constant(f32, -infinity), result);
    result = select(f32, less(x, zero), constant(f32, std::numeric_limits<double>::quiet_NaN()), result);
    Register finite = less(x, constant(f32, infinity));
    return select(f32, finite, result, x);
  }

  // Abramowitz and Stegun 7.1.26: absolute error at most 1.5e-7.
  Register errorFunction(ElementType t, Register x) {
    Register magnitude = absolute(t, x);
    Register u = reciprocal(t, add(t, constant(t, 1), multiply(t, constant(t, 0.3275911), magnitude)));
    Register sum = constant(t, 1.061405429);
    for (double coefficient : {-1.453152027, 1.421413741, -0.284496736, 0.254829592})
      sum = add(t, constant(t, coefficient), multiply(t, sum, u));
    Register square = emit(BlockOpcode::Negate, t, {multiply(t, magnitude, magnitude)});
    Register tail = multiply(t, multiply(t, sum, u), emit(BlockOpcode::Exp, t, {square}));
    return withSign(t, subtract(t, constant(t, 1), tail), signBit(t, x));
  }

  // In f32, for a function of narrower floats.
  template <typename Function> Register inF32(ElementType t, Register x, const Function &function) {
    if (t == ElementType::f32)
      return function(x);
    return emit(BlockOpcode::Convert, t, {function(emit(BlockOpcode::Convert, ElementType::f32, {x}))});
  }

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

  Register lower(const BlockInstruction &instruction) {
    ElementType t = instruction.type;
    auto operand = [&](unsigned i) { return values[instruction.operands[i]]; };
    auto operandType = [&](unsigned i) { return from.instructions[instruction.operands[i]].type; };
    bool floats = t == ElementType::f32 || t == ElementType::f16;
    bool fromFloats = operandCount(instruction.opcode) > 0 && isFloat(operandType(0));
    switch (instruction.opcode) {
    case BlockOpcode::Divide:
      if (auto divisor = constantOf(instruction.operands[1]); floats && divisor && isPowerOfTwo(*divisor))
        return multiply(t, operand(0), constant(t, 1 / *divisor));
      // A constant divisor makes means and scales, which many values then depend on.
      if (floats && !isRounded(instruction) && !constantOf(instruction.operands[1]))
        return multiply(t, operand(0), reciprocal(t, operand(1)));
      if (floats)
        return inF32(t, operand(0), [&](Register x) {
          Register y = t == ElementType::f32 ? operand(1) : emit(BlockOpcode::Convert, ElementType::f32, {operand(1)});
          return quotientToRound(x, y);
        });
      break;
    case BlockOpcode::Reciprocal:
      return reciprocal(t, operand(0));
    case BlockOpcode::SquareRoot:
      if (floats) { // the reciprocal root of the reciprocal, which is the reciprocal root squared
        Register root = emit(BlockOpcode::ReciprocalSquareRoot, t, {operand(0)});
        return emit(BlockOpcode::ReciprocalSquareRoot, t, {multiply(t, root, root)});
      }
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
      if (floats) {
        Register rounded = roundEven(t, operand(0));
        return subtract(t, rounded, asFloat(t, less(operand(0), rounded)));
      }
      break;
    case BlockOpcode::Ceil:
      if (floats) { // as floor of the negative, so that -0 comes out where it should
        Register rounded = roundEven(t, operand(0));
        Register up = add(t, rounded, asFloat(t, less(rounded, operand(0))));
        return withSign(t, absolute(t, up), signBit(t, operand(0)));
      }
      break;
    case BlockOpcode::Convert:
    case BlockOpcode::ConvertSaturating:
      if (fromFloats && isInteger(t)) {
        ElementType wide = operandType(0);
        // The unit's conversion rounds to nearest; a truncated value is whole.
        Register whole = from.instructions[instruction.operands[0]].opcode == BlockOpcode::RoundEven
                             ? operand(0)
                             : truncate(wide, operand(0));
        return emit(BlockOpcode::Convert, t, {emit(BlockOpcode::RoundEven, wide, {whole})});
      }
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
    case BlockOpcode::Log:
      if (floats)
        return inF32(t, operand(0), [&](Register x) { return logarithm(x); });
      break;
    case BlockOpcode::Erf:
      if (floats)
        return inF32(t, operand(0), [&](Register x) { return errorFunction(ElementType::f32, x); });
      break;
    case BlockOpcode::Power: {
      constexpr double mostFactors = 8;
      auto exponent = constantOf(instruction.operands[1]);
      if (!floats || !exponent || *exponent != static_cast<int>(*exponent) || *exponent < 1 || *exponent > mostFactors)
        break;
      Register product = operand(0);
      for (int factor = 1; factor < static_cast<int>(*exponent); ++factor)
        product = multiply(t, product, operand(0));
      return product;
    }
    default:
      break;
    }
    BlockInstruction same = instruction;
    for (unsigned i = 0; i < operandCount(instruction.opcode); ++i)
      same.operands[i] = operand(i);
    to.instructions.push_back(same);
    return static_cast<Register>(to.instructions.size() - 1);
  }

  const BlockExpression &from;
  BlockExpression to;
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

BlockExpression expand(const BlockExpression &expression) {
  return Expander(expression).run();
}

std::optional<Stages> splitIntoStages(const BlockExpression &expression, const Architecture &machine,
                                      std::string &reason) {
  constexpr size_t mostResults = 4; // that leave one stage, and streams that they take
  size_t count = expression.instructions.size();
  Stages stages;
  std::map<Register, std::pair<unsigned, unsigned>> made; // values in memory: stage and result
  auto fits = [&](const Part &part) {
    if (part.results.size() > mostResults || part.body.inputs.size() > mostResults)
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
  };
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
    // The longest part that is one chain.
    std::optional<Part> best;
    size_t end = count;
    for (; end > begin; --end) {
      if (end < count && isFree(end - 1))
        continue;
      Part part = partOf(expression, begin, end, neededBehind(end));
      if (part.results.empty())
        continue;
      if (fits(part)) {
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
