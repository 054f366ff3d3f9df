// The instruction table: for each opcode its number, mnemonic, the unit that has it, and its operands with the member
// of the 16-byte record that holds each and its legal range on a machine. Assembler, disassembler, checker, mutation
// and execution derive from it. Entries are in Control.def, Memory.def, Matrix.def, Vector.def and Switch.def, which
// define what each does:
//
//   INSTRUCTION(number, enumerator, mnemonic, unit, FIELDS(NUMBER(name, member, minimum, maximum), ...))
//   DEFAULTED(name, member, minimum, maximum, default)     may be left out in text
//   CHOICE(name, member, words...)                         a word; the record holds its index
//   CHOICE_OR_FIRST(...)                                   the same; the first may be left out in text
//   STREAM(name, member)                                   e4, w31: a stream and its direction
//   OPERAND(name, member)                                  a stream, or a7: the result of arithmetic unit 7
//   TARGET(name, member)                                   a stream, or none (the default)
//
// Bounds are expressions over `machine`, an Architecture. Numbers are part of the file format and never change.
#pragma once

#include "target/tsp/Architecture.h"

#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace quadrille::tsp {

enum class Opcode : uint8_t {
#define INSTRUCTION(number, enumerator, ...) enumerator = number,
#include "target/tsp/Instructions.def"
#undef INSTRUCTION
};

enum class ProductType : uint8_t { I8, U8, F16 };
enum class AccumulateMode : uint8_t { Start, Add, Finish, Pass };

// The same bytes as fbs::Instruction.
struct Instruction {
  uint8_t opcode = 0;
  uint8_t small[3] = {};
  int32_t word[3] = {};

  Opcode op() const { return static_cast<Opcode>(opcode); }
  bool operator==(const Instruction &) const = default;
};

// Where an operand is in the record: a small, a whole word (signed), or byte k % 4 of word k / 4, counted from the
// least significant.
enum class Member : uint8_t {
  Small0,
  Small1,
  Small2,
  Word0,
  Word1,
  Word2,
  Byte0,
  Byte1,
  Byte2,
  Byte3,
  Byte4,
  Byte5,
  Byte6,
  Byte7,
  Byte8,
  Byte9,
  Byte10,
  Byte11
};
int64_t valueOf(const Instruction &instruction, Member member);
// The value must be representable in the member (asserted).
void setValue(Instruction &instruction, Member member, int64_t value);
bool representable(Member member, int64_t value);

enum class UnitKind : uint8_t { Memory, Matrix, Vector, Switch, Any };
llvm::StringRef nameOf(UnitKind unit); // "MEM"

// Whose queue it is; see Program.fbs.
struct QueueName {
  UnitKind unit = UnitKind::Memory; // never Any
  uint8_t hemisphere = 0;
  uint16_t index = 0;
  uint8_t port = 0;
  auto operator<=>(const QueueName &) const = default;
};

// From where an operand comes or to where a result goes, as one byte of the record.
struct Source {
  enum Kind : uint8_t { East, West, Alu, None };
  Kind kind = None;
  uint8_t index = 0; // of the stream or the arithmetic unit; 63 for None

  static Source of(uint8_t byte) { return {static_cast<Kind>(byte >> 6), static_cast<uint8_t>(byte & 63)}; }
  uint8_t byte() const { return static_cast<uint8_t>(kind << 6 | index); }
  bool isStream() const { return kind == East || kind == West; }
  Direction direction() const { return kind == East ? Direction::East : Direction::West; }
};
constexpr uint8_t noSource = 255;
std::string print(Source source); // "e4", "w31", "a7", "none"
std::optional<Source> sourceNamed(llvm::StringRef text);

enum class FieldKind : uint8_t { Number, Choice, Stream, Operand, Target };

struct Field {
  llvm::StringRef name;
  Member member;
  FieldKind kind = FieldKind::Number;
  std::vector<llvm::StringRef> words; // of a choice; empty for the others
  int64_t (*minimum)(const Architecture &machine) = nullptr;
  int64_t (*maximum)(const Architecture &machine) = nullptr;
  std::optional<int64_t> defaultValue;

  bool isSource() const { return kind >= FieldKind::Stream; }
  int64_t lowest(const Architecture &machine) const { return minimum ? minimum(machine) : 0; }
  int64_t highest(const Architecture &machine) const {
    return maximum ? maximum(machine) : isSource() ? noSource : static_cast<int64_t>(words.size()) - 1;
  }
  std::string print(int64_t value) const; // "12", "east", "w4"
  // Empty when the value is legal on the machine, else "bank=2 is not in 0..1".
  std::string problem(int64_t value, const Architecture &machine) const;
};

struct Form {
  Opcode opcode;
  llvm::StringRef mnemonic;
  UnitKind unit;
  std::vector<Field> fields;
};

const std::vector<Form> &forms();
const Form *formOf(uint8_t opcode); // null for an unknown opcode
const Form *formNamed(llvm::StringRef mnemonic);

// Whether the instruction is issued to its unit, rather than executed by the queue.
constexpr bool issues(Opcode opcode) {
  return static_cast<uint8_t>(opcode) >= 16;
}

// "read bank=0 address=3 stream=e4": the text of an instruction with a known opcode.
std::string print(const Instruction &instruction);

// Empty when the queue can issue the record on the machine, else what is wrong: "address=9000 is not in 0..8191".
std::string operandProblem(const Instruction &instruction, const QueueName &queue, const Architecture &machine);

} // namespace quadrille::tsp
