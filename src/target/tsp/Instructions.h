// The instruction table: for each opcode its number, mnemonic, the unit that has it, and its operands with the member
// of the 16-byte record that holds each and its legal range on a machine. Assembler, disassembler, checker, mutation
// and execution derive from it. Entries are in Control.def, Memory.def and Matrix.def, which define what each does:
//
//   INSTRUCTION(number, enumerator, mnemonic, unit, FIELDS(NUMBER(name, member, minimum, maximum), ...))
//   DEFAULTED(name, member, minimum, maximum, default)     may be left out in text
//   CHOICE(name, member, words...)                         a word; the record holds its index
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

enum class Member : uint8_t { Small0, Small1, Small2, Word0, Word1, Word2 };
int64_t valueOf(const Instruction &instruction, Member member);
// The value must be representable in the member (asserted).
void setValue(Instruction &instruction, Member member, int64_t value);
bool representable(Member member, int64_t value);

enum class UnitKind : uint8_t { Memory, Matrix, Any };

struct Field {
  llvm::StringRef name;
  Member member;
  std::vector<llvm::StringRef> words; // of a choice; empty for numbers
  int64_t (*minimum)(const Architecture &machine) = nullptr;
  int64_t (*maximum)(const Architecture &machine) = nullptr;
  std::optional<int64_t> defaultValue;

  int64_t lowest(const Architecture &machine) const { return words.empty() ? minimum(machine) : 0; }
  int64_t highest(const Architecture &machine) const {
    return words.empty() ? maximum(machine) : static_cast<int64_t>(words.size()) - 1;
  }
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

// "read bank=0 address=3 stream=4 moving=east": the text of an instruction with a known opcode.
std::string print(const Instruction &instruction);

// Empty when the record is well-formed on the machine, else what is wrong: "address=9000 is not in 0..8191".
std::string operandProblem(const Instruction &instruction, UnitKind unit, const Architecture &machine);

} // namespace quadrille::tsp
