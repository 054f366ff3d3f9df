#include "numerics/BlockExpression.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>
#include <cassert>
#include <limits>

namespace quadrille {

llvm::StringRef nameOf(BlockOpcode opcode) {
  switch (opcode) {
#define QUADRILLE_CASE(text, name, operands)                                                                           \
  case BlockOpcode::name:                                                                                              \
    return text;
    QUADRILLE_BLOCK_OPCODES(QUADRILLE_CASE)
#undef QUADRILLE_CASE
  }
  return "";
}

std::optional<BlockOpcode> blockOpcodeNamed(llvm::StringRef text) {
#define QUADRILLE_MATCH(text_, name, operands)                                                                         \
  if (text == text_)                                                                                                   \
    return BlockOpcode::name;
  QUADRILLE_BLOCK_OPCODES(QUADRILLE_MATCH)
#undef QUADRILLE_MATCH
  return std::nullopt;
}

unsigned operandCount(BlockOpcode opcode) {
  switch (opcode) {
#define QUADRILLE_CASE(text, name, operands)                                                                           \
  case BlockOpcode::name:                                                                                              \
    return operands;
    QUADRILLE_BLOCK_OPCODES(QUADRILLE_CASE)
#undef QUADRILLE_CASE
  }
  return 0;
}

Register BlockExpression::append(BlockOpcode opcode, ElementType type, llvm::ArrayRef<Register> operands,
                                 uint64_t immediate) {
  assert(operands.size() == operandCount(opcode));
  assert(instructions.size() < std::numeric_limits<Register>::max());
  BlockInstruction instruction{opcode, type, {}, immediate};
  std::copy(operands.begin(), operands.end(), instruction.operands.begin());
  instructions.push_back(instruction);
  return static_cast<Register>(instructions.size() - 1);
}

std::vector<Register> BlockExpression::append(const BlockExpression &other, llvm::ArrayRef<Register> given) {
  assert(given.size() == other.inputs.size());
  std::vector<Register> renamed, made;
  for (const BlockInstruction &instruction : other.instructions) {
    if (instruction.opcode == BlockOpcode::Input) {
      renamed.push_back(given[instruction.immediate]);
      continue;
    }
    std::array<Register, 3> operands = {};
    for (unsigned i = 0; i < operandCount(instruction.opcode); ++i)
      operands[i] = renamed[instruction.operands[i]];
    renamed.push_back(append(instruction.opcode, instruction.type,
                             llvm::ArrayRef(operands).take_front(operandCount(instruction.opcode)),
                             instruction.immediate));
  }
  for (Register result : other.results)
    made.push_back(renamed[result]);
  return made;
}

namespace {

// What is wrong with the types of one instruction whose operands are known to be defined before it; empty if nothing.
std::string typeFault(const BlockExpression &expression, const BlockInstruction &instruction) {
  ElementType result = instruction.type;
  auto operand = [&](unsigned i) { return expression.instructions[instruction.operands[i]].type; };
  auto operandsHaveResultType = [&]() -> std::string {
    for (unsigned i = 0; i < operandCount(instruction.opcode); ++i)
      if (operand(i) != result)
        return ("operand " + llvm::Twine(i) + " has type " + nameOf(operand(i)) + " where the result has " +
                nameOf(result))
            .str();
    return "";
  };
  auto needs = [&](bool holds, llvm::StringRef kinds) -> std::string {
    return holds ? operandsHaveResultType() : ("takes " + kinds + ", not " + nameOf(result)).str();
  };
  bool number = result != ElementType::boolean;

  switch (instruction.opcode) {
  case BlockOpcode::Input:
    if (instruction.immediate >= expression.inputs.size())
      return ("there is no read " + llvm::Twine(instruction.immediate)).str();
    if (expression.inputs[instruction.immediate] != result)
      return ("read " + llvm::Twine(instruction.immediate) + " has type " +
              nameOf(expression.inputs[instruction.immediate]))
          .str();
    return "";
  case BlockOpcode::Constant:
    if (size_t bits = byteWidth(result) * 8; bits < 64 && instruction.immediate >> bits != 0)
      return "the immediate has bits beyond its type";
    return "";
  case BlockOpcode::LoopIndex:
    return result == ElementType::i64 ? "" : "gives i64";
  case BlockOpcode::Add:
  case BlockOpcode::Subtract:
  case BlockOpcode::Multiply:
  case BlockOpcode::Divide:
  case BlockOpcode::Remainder:
  case BlockOpcode::Modulo:
  case BlockOpcode::Power:
  case BlockOpcode::MultiplyAdd:
  case BlockOpcode::Negate:
  case BlockOpcode::Absolute:
  case BlockOpcode::Sign:
    return needs(number, "numbers");
  case BlockOpcode::Minimum:
  case BlockOpcode::Maximum:
  case BlockOpcode::MinimumNumber:
  case BlockOpcode::MaximumNumber:
    return operandsHaveResultType();
  case BlockOpcode::And:
  case BlockOpcode::Or:
  case BlockOpcode::Xor:
  case BlockOpcode::Not:
    return needs(!isFloat(result), "integers or bool");
  case BlockOpcode::ShiftLeft:
  case BlockOpcode::ShiftRight:
    return needs(isInteger(result), "integers");
  case BlockOpcode::Equal:
  case BlockOpcode::NotEqual:
  case BlockOpcode::Less:
  case BlockOpcode::LessEqual:
    if (result != ElementType::boolean)
      return "gives bool";
    return operand(0) == operand(1)
               ? ""
               : (llvm::Twine("compares ") + nameOf(operand(0)) + " with " + nameOf(operand(1))).str();
  case BlockOpcode::IsNan:
  case BlockOpcode::IsInfinite:
    if (result != ElementType::boolean)
      return "gives bool";
    return isFloat(operand(0)) ? "" : (llvm::Twine("takes a float, not ") + nameOf(operand(0))).str();
  case BlockOpcode::Select:
    if (operand(0) != ElementType::boolean)
      return (llvm::Twine("selects by bool, not ") + nameOf(operand(0))).str();
    if (operand(1) != result || operand(2) != result)
      return (llvm::Twine("selects from ") + nameOf(operand(1)) + " and " + nameOf(operand(2)) +
              " where the result has " + nameOf(result))
          .str();
    return "";
  case BlockOpcode::Convert:
  case BlockOpcode::ConvertSaturating:
    return "";
  case BlockOpcode::Bitcast:
    return bitWidth(operand(0)) == bitWidth(result)
               ? ""
               : (llvm::Twine("casts ") + nameOf(operand(0)) + " to a type of another width").str();
  default:
    return needs(isFloat(result), "floats"); // square roots, transcendentals, roundings, copy_sign
  }
}

} // namespace

std::string BlockExpression::verify() const {
  auto at = [&](size_t index, const llvm::Twine &message) {
    return ("%" + llvm::Twine(index) + " (" + nameOf(instructions[index].opcode) + "): " + message).str();
  };
  if (instructions.size() > std::numeric_limits<Register>::max())
    return "more instructions than registers can be named";
  for (size_t i = 0; i < instructions.size(); ++i) {
    if (nameOf(instructions[i].opcode).empty() || nameOf(instructions[i].type).empty())
      return ("%" + llvm::Twine(i) + ": unknown opcode or type").str();
    for (unsigned j = 0; j < operandCount(instructions[i].opcode); ++j)
      if (instructions[i].operands[j] >= i)
        return at(i, "operand %" + llvm::Twine(instructions[i].operands[j]) + " is not defined before");
    if (std::string fault = typeFault(*this, instructions[i]); !fault.empty())
      return at(i, fault);
  }
  for (size_t i = 0; i < results.size(); ++i)
    if (results[i] >= instructions.size())
      return ("result " + llvm::Twine(i) + ": there is no register %" + llvm::Twine(results[i])).str();
  return "";
}

std::string BlockExpression::print() const {
  std::string text;
  llvm::raw_string_ostream os(text);
  for (size_t i = 0; i < instructions.size(); ++i) {
    const BlockInstruction &instruction = instructions[i];
    os << '%' << i << ':' << nameOf(instruction.type) << " = " << nameOf(instruction.opcode);
    for (unsigned j = 0; j < operandCount(instruction.opcode); ++j)
      os << (j == 0 ? " %" : ", %") << instruction.operands[j];
    if (instruction.opcode == BlockOpcode::Constant)
      os << " 0x" << llvm::utohexstr(instruction.immediate, /*LowerCase=*/true);
    else if (operandCount(instruction.opcode) == 0)
      os << ' ' << instruction.immediate;
    os << '\n';
  }
  os << "return";
  for (size_t i = 0; i < results.size(); ++i)
    os << (i == 0 ? " %" : ", %") << results[i];
  os << '\n';
  return text;
}

unsigned BlockExpression::operationsPerElement() const {
  return static_cast<unsigned>(std::count_if(instructions.begin(), instructions.end(), [](const auto &instruction) {
    switch (instruction.opcode) {
    case BlockOpcode::Input:
    case BlockOpcode::Constant:
    case BlockOpcode::LoopIndex:
    case BlockOpcode::Convert:
    case BlockOpcode::ConvertSaturating:
    case BlockOpcode::Bitcast:
      return false;
    default:
      return true;
    }
  }));
}

bool BlockExpression::isIdentity() const {
  return results.size() == 1 && results[0] < instructions.size() &&
         instructions[results[0]].opcode == BlockOpcode::Input && instructions[results[0]].immediate == 0;
}

} // namespace quadrille
