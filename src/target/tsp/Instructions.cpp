#include "target/tsp/Instructions.h"

#include "llvm/ADT/Twine.h"
#include "llvm/Support/raw_ostream.h"

#include <cassert>
#include <limits>

namespace quadrille::tsp {

int64_t valueOf(const Instruction &instruction, Member member) {
  auto index = static_cast<unsigned>(member);
  return member < Member::Word0 ? instruction.small[index] : instruction.word[index - 3];
}

bool representable(Member member, int64_t value) {
  return member < Member::Word0
             ? value >= 0 && value <= std::numeric_limits<uint8_t>::max()
             : value >= std::numeric_limits<int32_t>::min() && value <= std::numeric_limits<int32_t>::max();
}

void setValue(Instruction &instruction, Member member, int64_t value) {
  assert(representable(member, value));
  auto index = static_cast<unsigned>(member);
  if (member < Member::Word0)
    instruction.small[index] = static_cast<uint8_t>(value);
  else
    instruction.word[index - 3] = static_cast<int32_t>(value);
}

const std::vector<Form> &forms() {
#define FIELDS(...) {__VA_ARGS__}
#define BOUND(expression)                                                                                              \
  [](const Architecture &machine) -> int64_t {                                                                         \
    (void)machine;                                                                                                     \
    return expression;                                                                                                 \
  }
#define NUMBER(name, member, minimum, maximum)                                                                         \
  Field {                                                                                                              \
    name, Member::member, {}, BOUND(minimum), BOUND(maximum), std::nullopt                                             \
  }
#define DEFAULTED(name, member, minimum, maximum, value)                                                               \
  Field {                                                                                                              \
    name, Member::member, {}, BOUND(minimum), BOUND(maximum), value                                                    \
  }
#define CHOICE(name, member, ...)                                                                                      \
  Field {                                                                                                              \
    name, Member::member, {__VA_ARGS__}, nullptr, nullptr, std::nullopt                                                \
  }
#define INSTRUCTION(number, enumerator, mnemonic, unit, fields) {Opcode::enumerator, mnemonic, UnitKind::unit, fields},
  static const std::vector<Form> table = {
#include "target/tsp/Instructions.def"
  };
#undef INSTRUCTION
#undef CHOICE
#undef DEFAULTED
#undef NUMBER
#undef BOUND
#undef FIELDS
  return table;
}

const Form *formOf(uint8_t opcode) {
  for (const Form &form : forms())
    if (static_cast<uint8_t>(form.opcode) == opcode)
      return &form;
  return nullptr;
}

const Form *formNamed(llvm::StringRef mnemonic) {
  for (const Form &form : forms())
    if (form.mnemonic == mnemonic)
      return &form;
  return nullptr;
}

std::string print(const Instruction &instruction) {
  const Form *form = formOf(instruction.opcode);
  assert(form);
  std::string text;
  llvm::raw_string_ostream os(text);
  os << form->mnemonic;
  for (const Field &field : form->fields) {
    int64_t value = valueOf(instruction, field.member);
    if (field.defaultValue == value)
      continue;
    os << ' ' << field.name << '=';
    if (!field.words.empty() && value < static_cast<int64_t>(field.words.size()))
      os << field.words[value];
    else
      os << value;
  }
  return text;
}

std::string operandProblem(const Instruction &instruction, UnitKind unit, const Architecture &machine) {
  const Form *form = formOf(instruction.opcode);
  if (!form)
    return ("opcode " + llvm::Twine(unsigned(instruction.opcode)) + " is unknown").str();
  if (form->unit != UnitKind::Any && form->unit != unit)
    return ("a " + llvm::Twine(unit == UnitKind::Memory ? "MEM" : "MXM") + " queue cannot issue '" + form->mnemonic +
            "'")
        .str();
  bool used[6] = {};
  for (const Field &field : form->fields) {
    used[static_cast<unsigned>(field.member)] = true;
    int64_t value = valueOf(instruction, field.member);
    int64_t lowest = field.lowest(machine), highest = field.highest(machine);
    if (value < lowest || value > highest)
      return (llvm::Twine(field.name) + "=" + llvm::Twine(value) + " is not in " + llvm::Twine(lowest) + ".." +
              llvm::Twine(highest))
          .str();
  }
  for (unsigned member = 0; member < 6; ++member)
    if (!used[member] && valueOf(instruction, static_cast<Member>(member)) != 0)
      return ("operand bits that '" + form->mnemonic + "' does not have are set").str();
  // What the ranges of single operands cannot say.
  if (form->opcode == Opcode::InstallWeights && instruction.small[0] == static_cast<uint8_t>(ProductType::F16) &&
      instruction.word[0] > machine.f16Rows)
    return ("rows=" + llvm::Twine(instruction.word[0]) + " is not in 1.." + llvm::Twine(machine.f16Rows) +
            " for type=f16")
        .str();
  if (form->opcode == Opcode::Activate && instruction.small[0] == static_cast<uint8_t>(ProductType::F16) &&
      instruction.small[1] % 2 != 0)
    return ("stream=" + llvm::Twine(unsigned(instruction.small[1])) + " is odd: type=f16 takes an aligned pair").str();
  return "";
}

} // namespace quadrille::tsp
