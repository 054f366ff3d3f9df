#include "target/tsp/ByteFunctions.h"

#include "numerics/BlockEvaluator.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <tuple>

namespace quadrille::tsp {

namespace {

bool isByte(ElementType type) {
  return type == ElementType::i8 || type == ElementType::u8;
}
double lowestOf(ElementType type) {
  return type == ElementType::i8 ? -128 : 0;
}
double highestOf(ElementType type) {
  return type == ElementType::i8 ? 127 : 255;
}

// A value in terms of the operands: the sum of each times a factor, and an offset, within bounds.
struct Affine {
  std::array<double, 2> factors = {};
  double offset = 0;
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
  bool rounded = false; // to whole numbers, before the last offsets

  bool isConstant() const { return factors[0] == 0 && factors[1] == 0; }
  bool isBounded() const { return std::isfinite(low) || std::isfinite(high); }
  double of(double a, double b) const { return std::clamp(factors[0] * a + factors[1] * b + offset, low, high); }
};

// Register after register what it is; what it would be without the roundings of floats on the way.
std::optional<Affine> affineOf(const BlockExpression &expression) {
  std::vector<std::optional<Affine>> values;
  auto scaled = [](Affine value, double factor) -> std::optional<Affine> {
    if (value.rounded || factor == 0 || !std::isfinite(factor))
      return std::nullopt;
    for (double &each : value.factors)
      each *= factor;
    value.offset *= factor;
    value.low *= factor;
    value.high *= factor;
    if (factor < 0)
      std::swap(value.low, value.high);
    return value;
  };
  auto sum = [](Affine a, Affine b) -> std::optional<Affine> {
    if (a.isConstant() && !b.isConstant())
      std::swap(a, b);
    bool whole = b.isConstant() && b.offset == std::trunc(b.offset);
    if ((a.rounded && !whole) || b.rounded || b.isBounded() || (a.isBounded() && !b.isConstant()))
      return std::nullopt;
    for (unsigned i : {0u, 1u})
      a.factors[i] += b.factors[i];
    a.offset += b.offset;
    a.low += b.offset;
    a.high += b.offset;
    return a;
  };
  auto valueOf = [&](const BlockInstruction &instruction) -> std::optional<Affine> {
    std::array<Affine, 3> operands;
    for (unsigned i = 0; i < operandCount(instruction.opcode); ++i) {
      if (!values[instruction.operands[i]])
        return std::nullopt;
      operands[i] = *values[instruction.operands[i]];
    }
    auto &[a, b, c] = operands;
    switch (instruction.opcode) {
    case BlockOpcode::Input: {
      Affine input;
      input.factors[instruction.immediate] = 1;
      return input;
    }
    case BlockOpcode::Constant:
      a.offset = doubleFromBits(instruction.type, instruction.immediate);
      return std::isfinite(a.offset) ? std::optional(a) : std::nullopt;
    case BlockOpcode::Add:
      return sum(a, b);
    case BlockOpcode::Subtract:
      if (b.isConstant())
        b.offset = -b.offset;
      else if (auto negative = scaled(b, -1))
        b = *negative;
      else
        return std::nullopt;
      return sum(a, b);
    case BlockOpcode::Negate:
      return scaled(a, -1);
    case BlockOpcode::Multiply:
      if (a.isConstant())
        return scaled(b, a.offset);
      return b.isConstant() ? scaled(a, b.offset) : std::nullopt;
    case BlockOpcode::Divide:
      return b.isConstant() ? scaled(a, 1 / b.offset) : std::nullopt;
    case BlockOpcode::Minimum:
    case BlockOpcode::Maximum:
      if (a.isConstant())
        std::swap(a, b);
      if (!b.isConstant())
        return std::nullopt;
      if (instruction.opcode == BlockOpcode::Minimum) {
        a.low = std::min(a.low, b.offset);
        a.high = std::min(a.high, b.offset);
      } else {
        a.low = std::max(a.low, b.offset);
        a.high = std::max(a.high, b.offset);
      }
      return a;
    case BlockOpcode::RoundEven:
      a.rounded = true;
      return a;
    case BlockOpcode::Convert:
    case BlockOpcode::ConvertSaturating:
      return a;
    default:
      return std::nullopt;
    }
  };
  for (const BlockInstruction &instruction : expression.instructions)
    values.push_back(valueOf(instruction));
  return values[expression.results[0]];
}

// A float so many units in the last place further; of zero, of what is added to numbers around 10.
float moved(double value, int steps) {
  auto number = static_cast<float>(value);
  if (number == 0)
    return static_cast<float>(8 * steps) * std::numeric_limits<float>::epsilon();
  return std::bit_cast<float>(std::bit_cast<uint32_t>(number) + static_cast<uint32_t>(number < 0 ? -steps : steps));
}

// All values of the operands, and what the expression makes of them.
class Trial {
public:
  explicit Trial(const BlockExpression &expression) : type(expression.instructions[expression.results[0]].type) {
    for (ElementType each : expression.inputs)
      types.push_back(each);
    int64_t pairs = types.size() == 2 ? 65536 : 256;
    for (int64_t pair = 0; pair < pairs; ++pair) {
      operands[0].push_back(static_cast<uint8_t>(pair));
      operands[1].push_back(static_cast<uint8_t>(pair >> 8));
    }
    right = resultsOf(expression, operands);
  }

  size_t size() const { return right.size(); }
  double valueOf(unsigned operand, size_t pair) const { return number(types[operand], operands[operand][pair]); }
  double rightOf(size_t pair) const { return number(type, right[pair]); }

  // Pairs on which it is decided soonest whether another expression is the same.
  void look(llvm::ArrayRef<size_t> pairs) {
    for (size_t pair : pairs) {
      for (unsigned i : {0u, 1u})
        hard[i].push_back(operands[i][pair]);
      rightOfHard.push_back(right[pair]);
    }
  }
  bool agrees(const BlockExpression &other) const {
    return resultsOf(other, hard) == rightOfHard && resultsOf(other, operands) == right;
  }

private:
  using Operands = std::array<std::vector<uint8_t>, 2>;

  static double number(ElementType type, uint8_t bits) {
    return type == ElementType::i8 ? static_cast<double>(static_cast<int8_t>(bits)) : static_cast<double>(bits);
  }
  std::vector<uint8_t> resultsOf(const BlockExpression &expression, const Operands &given) const {
    BlockEvaluator evaluator = llvm::cantFail(BlockEvaluator::compile(expression));
    BlockEvaluator::Scratch scratch(evaluator);
    std::vector<uint8_t> results(given[0].size());
    std::vector<BlockEvaluator::Operand> inputs;
    for (size_t i = 0; i < types.size(); ++i)
      inputs.push_back({given[i].data(), 1});
    evaluator.evaluate(inputs, {{results.data(), 1}}, static_cast<int64_t>(results.size()), {}, scratch);
    return results;
  }

  std::vector<ElementType> types;
  ElementType type;
  Operands operands, hard;
  std::vector<uint8_t> right, rightOfHard;
};

// Each operand times its factor, and the offset unless it is none; bounded, rounded, as a byte.
BlockExpression sumWith(llvm::ArrayRef<ElementType> types, llvm::ArrayRef<float> factors, float offset,
                        const Affine &affine, ElementType type) {
  constexpr ElementType f32 = ElementType::f32;
  BlockExpression body;
  body.inputs.assign(types.begin(), types.end());
  auto constant = [&](double value) { return body.append(BlockOpcode::Constant, f32, {}, bitsFromDouble(f32, value)); };
  std::optional<Register> sum;
  for (auto [i, factor] : llvm::enumerate(factors)) {
    Register term = body.append(BlockOpcode::Input, types[i], {}, i);
    term = body.append(BlockOpcode::Convert, f32, {term});
    if (factor != 1)
      term = body.append(BlockOpcode::Multiply, f32, {term, constant(static_cast<double>(factor))});
    sum = sum ? body.append(BlockOpcode::Add, f32, {*sum, term}) : term;
  }
  if (offset != 0)
    sum = body.append(BlockOpcode::Add, f32, {*sum, constant(static_cast<double>(offset))});
  if (affine.low > lowestOf(type))
    sum = body.append(BlockOpcode::Maximum, f32, {*sum, constant(affine.low)});
  if (affine.high < highestOf(type))
    sum = body.append(BlockOpcode::Minimum, f32, {*sum, constant(affine.high)});
  Register whole = body.append(BlockOpcode::RoundEven, f32, {*sum});
  body.results = {body.append(BlockOpcode::ConvertSaturating, type, {whole})};
  return body;
}

// The same with divisions by constants as multiplications by the reciprocal, a float so many steps further.
std::optional<BlockExpression> multiplied(const BlockExpression &expression, int steps) {
  BlockExpression result;
  result.inputs = expression.inputs;
  std::vector<Register> renamed;
  for (const BlockInstruction &instruction : expression.instructions) {
    llvm::SmallVector<Register, 3> operands;
    for (unsigned i = 0; i < operandCount(instruction.opcode); ++i)
      operands.push_back(renamed[instruction.operands[i]]);
    if (instruction.opcode == BlockOpcode::Divide) {
      const BlockInstruction &divisor = expression.instructions[instruction.operands[1]];
      if (instruction.type != ElementType::f32 || divisor.opcode != BlockOpcode::Constant)
        return std::nullopt;
      float reciprocal = moved(1 / doubleFromBits(divisor.type, divisor.immediate), steps);
      operands[1] = result.append(BlockOpcode::Constant, instruction.type, {}, std::bit_cast<uint32_t>(reciprocal));
      renamed.push_back(result.append(BlockOpcode::Multiply, instruction.type, operands));
      continue;
    }
    renamed.push_back(result.append(instruction.opcode, instruction.type, operands, instruction.immediate));
  }
  for (Register value : expression.results)
    result.results.push_back(renamed[value]);
  return result;
}

} // namespace

std::optional<BlockExpression> sumOfBytes(const BlockExpression &expression) {
  if (expression.results.size() != 1 || expression.inputs.empty() || expression.inputs.size() > 2 ||
      !llvm::all_of(expression.inputs, isByte) || !isByte(expression.instructions[expression.results[0]].type))
    return std::nullopt;
  ElementType type = expression.instructions[expression.results[0]].type;
  std::optional<Affine> affine = affineOf(expression);
  if (!affine || !affine->rounded || affine->isConstant())
    return std::nullopt;
  affine->low = std::clamp(affine->low, lowestOf(type), highestOf(type));
  affine->high = std::clamp(affine->high, lowestOf(type), highestOf(type));
  // Bounds are put in behind the rounding, where they have to be whole numbers.
  affine->low = std::nearbyint(affine->low);
  affine->high = std::nearbyint(affine->high);

  Trial trial(expression);
  std::vector<size_t> hard;
  constexpr double near = 1e-3; // to the middle between two integers, much more than floats are inexact
  for (size_t pair = 0; pair < trial.size(); ++pair) {
    double value = affine->of(trial.valueOf(0, pair), expression.inputs.size() > 1 ? trial.valueOf(1, pair) : 0);
    double off = std::abs(value - trial.rightOf(pair));
    if (off > 0.5 + near) // something that this does not see
      return std::nullopt;
    if (off > 0.5 - near)
      hard.push_back(pair);
  }
  trial.look(hard);

  // Factors as they are, then floats beside them, the nearest ones first.
  constexpr int mostSteps = 4, mostOfOffset = 12;
  struct Choice {
    int first, second, offset; // steps
  };
  std::vector<Choice> choices;
  bool two = expression.inputs.size() == 2;
  for (int first = -mostSteps; first <= mostSteps; ++first)
    for (int second = two ? -mostSteps : 0; second <= (two ? mostSteps : 0); ++second)
      for (int offset = -mostOfOffset; offset <= mostOfOffset; ++offset)
        choices.push_back({first, second, offset});
  // An offset that would be none takes an instruction.
  llvm::sort(choices, [&](const Choice &a, const Choice &b) {
    auto key = [&](const Choice &choice) {
      bool extra = affine->offset == 0 && choice.offset != 0;
      int distance = std::abs(choice.first) + std::abs(choice.second) + std::abs(choice.offset);
      return std::tuple(extra, distance, choice.first, choice.second, choice.offset);
    };
    return key(a) < key(b);
  });
  for (const Choice &choice : choices) {
    std::vector<float> factors = {moved(affine->factors[0], choice.first)};
    if (two)
      factors.push_back(moved(affine->factors[1], choice.second));
    BlockExpression sum = sumWith(expression.inputs, factors, moved(affine->offset, choice.offset), *affine, type);
    if (trial.agrees(sum))
      return sum;
  }
  for (int distance = 0; distance <= mostSteps; ++distance)
    for (int steps : {distance, -distance})
      if (auto other = multiplied(expression, steps); other && trial.agrees(*other))
        return other;
  return std::nullopt;
}

} // namespace quadrille::tsp
