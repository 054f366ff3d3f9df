#include "target/tsp/Instructions.h"

#include "target/tsp/SwitchUnit.h"
#include "target/tsp/VectorUnit.h"

#include "llvm/ADT/Twine.h"
#include "llvm/Support/raw_ostream.h"

#include <array>
#include <cassert>
#include <limits>

namespace quadrille::tsp {

namespace {

std::string matrixProblem(const Instruction &instruction, unsigned hemisphere, const Architecture &machine) {
  bool f16 = instruction.small[0] == static_cast<uint8_t>(ProductType::F16);
  if (instruction.op() == Opcode::InstallWeights && f16 && instruction.word[0] > machine.f16Rows)
    return ("rows=" + llvm::Twine(instruction.word[0]) + " is not in 1.." + llvm::Twine(machine.f16Rows) +
            " for type=f16")
        .str();
  if (instruction.op() == Opcode::InstallWeights) {
    int64_t rows = instruction.word[0], lane = instruction.word[2];
    if (lane % machine.lanes != 0)
      return ("lane=" + llvm::Twine(lane) + " is not the first of a superlane's " + llvm::Twine(machine.lanes)).str();
    if (lane + rows > machine.vectorBytes())
      return ("lane=" + llvm::Twine(lane) + " leaves no lanes for rows=" + llvm::Twine(rows)).str();
  }
  if (instruction.op() != Opcode::Activate)
    return "";
  Source stream = Source::of(instruction.small[1]);
  if (stream.direction() != machine.outward(hemisphere))
    return "stream=" + print(stream) + " does not come from memory: a matrix plane takes streams that move outward";
  if (f16 && stream.index % 2 != 0)
    return "stream=" + print(stream) + " is odd: type=f16 takes an aligned pair";
  return "";
}

// Bytes of the record behind the opcode that a member takes: [first, first + count).
struct Extent {
  unsigned first, count;
};
Extent extentOf(Member member) {
  auto index = static_cast<unsigned>(member);
  if (member < Member::Word0)
    return {index, 1};
  if (member < Member::Byte0)
    return {3 + 4 * (index - static_cast<unsigned>(Member::Word0)), 4};
  return {3 + index - static_cast<unsigned>(Member::Byte0), 1};
}

} // namespace

llvm::StringRef nameOf(UnitKind unit) {
  static const char *const names[] = {"MEM", "MXM", "VXM", "SXM", "ICU"};
  return names[static_cast<unsigned>(unit)];
}

std::string print(Source source) {
  return source.kind == Source::None ? "none" : "ewa"[source.kind] + std::to_string(source.index);
}

std::optional<Source> sourceNamed(llvm::StringRef text) {
  if (text == "none")
    return Source::of(noSource);
  size_t kind = llvm::StringRef("ewa").find(text.take_front(1));
  unsigned index = 0;
  if (text.size() < 2 || kind == llvm::StringRef::npos || text.drop_front().getAsInteger(10, index) || index > 62)
    return std::nullopt;
  return Source{static_cast<Source::Kind>(kind), static_cast<uint8_t>(index)};
}

int64_t valueOf(const Instruction &instruction, Member member) {
  auto [first, count] = extentOf(member);
  if (first < 3)
    return instruction.small[first];
  int32_t word = instruction.word[(first - 3) / 4];
  return count == 4 ? int64_t(word) : static_cast<uint32_t>(word) >> (first - 3) % 4 * 8 & 255;
}

bool representable(Member member, int64_t value) {
  return extentOf(member).count == 1
             ? value >= 0 && value <= std::numeric_limits<uint8_t>::max()
             : value >= std::numeric_limits<int32_t>::min() && value <= std::numeric_limits<int32_t>::max();
}

void setValue(Instruction &instruction, Member member, int64_t value) {
  assert(representable(member, value));
  auto [first, count] = extentOf(member);
  if (first < 3) {
    instruction.small[first] = static_cast<uint8_t>(value);
    return;
  }
  int32_t &word = instruction.word[(first - 3) / 4];
  unsigned shift = (first - 3) % 4 * 8;
  word = count == 4 ? static_cast<int32_t>(value)
                    : static_cast<int32_t>((static_cast<uint32_t>(word) & ~(255u << shift)) |
                                           static_cast<uint32_t>(value) << shift);
}

std::string Field::print(int64_t value) const {
  if (isSource())
    return tsp::print(Source::of(static_cast<uint8_t>(value)));
  return value >= 0 && value < static_cast<int64_t>(words.size()) ? words[value].str() : std::to_string(value);
}

std::string Field::problem(int64_t value, const Architecture &machine) const {
  if (isSource()) {
    Source source = Source::of(static_cast<uint8_t>(value));
    bool legal = source.isStream()            ? source.index < machine.streams
                 : source.kind == Source::Alu ? kind == FieldKind::Operand && source.index < machine.alus
                                              : kind == FieldKind::Target && value == noSource;
    if (legal)
      return "";
    std::string streams = std::to_string(machine.streams - 1);
    return name.str() + "=" + print(value) + " is not in e0..e" + streams + ", w0..w" + streams +
           (kind == FieldKind::Operand  ? ", a0..a" + std::to_string(machine.alus - 1)
            : kind == FieldKind::Target ? ", none"
                                        : "");
  }
  int64_t low = lowest(machine), high = highest(machine);
  if (value >= low && value <= high)
    return "";
  return (name + "=" + llvm::Twine(value) + " is not in " + llvm::Twine(low) + ".." + llvm::Twine(high)).str();
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
    name, Member::member, FieldKind::Number, {}, BOUND(minimum), BOUND(maximum), std::nullopt                          \
  }
#define DEFAULTED(name, member, minimum, maximum, value)                                                               \
  Field {                                                                                                              \
    name, Member::member, FieldKind::Number, {}, BOUND(minimum), BOUND(maximum), value                                 \
  }
#define CHOICE(name, member, ...)                                                                                      \
  Field {                                                                                                              \
    name, Member::member, FieldKind::Choice, {__VA_ARGS__}, nullptr, nullptr, std::nullopt                             \
  }
#define CHOICE_OR_FIRST(name, member, ...)                                                                             \
  Field{name, Member::member, FieldKind::Choice, {__VA_ARGS__}, nullptr, nullptr, 0}
#define SOURCE(name, member, kind, value)                                                                              \
  Field {                                                                                                              \
    name, Member::member, FieldKind::kind, {}, nullptr, nullptr, value                                                 \
  }
#define STREAM(name, member) SOURCE(name, member, Stream, std::nullopt)
#define OPERAND(name, member) SOURCE(name, member, Operand, std::nullopt)
#define TARGET(name, member) SOURCE(name, member, Target, noSource)
#define INSTRUCTION(number, enumerator, mnemonic, unit, fields) {Opcode::enumerator, mnemonic, UnitKind::unit, fields},
  static const std::vector<Form> table = {
#include "target/tsp/Instructions.def"
  };
#undef INSTRUCTION
#undef TARGET
#undef OPERAND
#undef STREAM
#undef SOURCE
#undef CHOICE_OR_FIRST
#undef CHOICE
#undef DEFAULTED
#undef NUMBER
#undef BOUND
#undef FIELDS
  return table;
}

const Form *formOf(uint8_t opcode) {
  static const std::array<const Form *, 256> byOpcode = [] {
    std::array<const Form *, 256> table{};
    for (const Form &form : forms())
      table[static_cast<uint8_t>(form.opcode)] = &form;
    return table;
  }();
  return byOpcode[opcode];
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
    os << ' ' << field.name << '=' << field.print(value);
  }
  return text;
}

std::string operandProblem(const Instruction &instruction, const QueueName &queue, const Architecture &machine) {
  const Form *form = formOf(instruction.opcode);
  if (!form)
    return ("opcode " + llvm::Twine(unsigned(instruction.opcode)) + " is unknown").str();
  if (form->unit != UnitKind::Any && form->unit != queue.unit)
    return ("a " + nameOf(queue.unit) + " queue cannot issue '" + form->mnemonic + "'").str();
  uint32_t used = 0; // bytes behind the opcode
  for (const Field &field : form->fields) {
    auto [first, count] = extentOf(field.member);
    used |= ((1u << count) - 1) << first;
    if (std::string problem = field.problem(valueOf(instruction, field.member), machine); !problem.empty())
      return problem;
  }
  for (unsigned byte = 0; byte < 15; ++byte) {
    Member member = static_cast<Member>(byte < 3 ? byte : byte - 3 + static_cast<unsigned>(Member::Byte0));
    if (!(used >> byte & 1) && valueOf(instruction, member) != 0)
      return ("operand bits that '" + form->mnemonic + "' does not have are set").str();
  }
  // What the ranges of single operands cannot say.
  switch (queue.unit) {
  case UnitKind::Matrix:
    return matrixProblem(instruction, queue.hemisphere, machine);
  case UnitKind::Vector:
    return vectorProblem(instruction, queue.index, machine);
  case UnitKind::Switch:
    return switchProblem(instruction, queue.hemisphere, machine);
  case UnitKind::Memory:
  case UnitKind::Any:
    break;
  }
  return "";
}

} // namespace quadrille::tsp
