// The codelet table: for each kind of vertex its number, its name, who executes it, what for, and its parameters.
// Assembler, disassembler, checker, mutation and execution derive from it. Entries are in Codelets.def, which says what
// each computes:
//
//   CODELET(number, enumerator, name, executor, purpose, PARAMETERS(COUNT(name, minimum, maximum), ...))
//
// A parameter is a list of integers; kinds that are single numbers are lists of one.
//   COUNT(name, minimum, maximum)      a number
//   COUNTS(name, minimum, maximum)     a list of numbers
//   ADDRESS(name), ADDRESSES(name)     bytes from the start of the tile's memory
//   WORD(name, words...)               one of the words; the record holds its index
//   TYPE(name)                         an element type that tiles have
//   EXPRESSION(name)                   index of one of the program's expressions
//
// Numbers are part of the file format and never change.
#pragma once

#include "numerics/ElementType.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace quadrille::ipu {

enum class Codelet : uint16_t {
#define CODELET(number, enumerator, ...) enumerator = number,
#include "target/ipu/Codelets.def"
#undef CODELET
};

// Who executes a vertex: one worker context, or the supervisor with all of them.
enum class Executor : uint8_t { Worker, Supervisor };

// What the time that a vertex takes is counted as.
enum class Purpose : uint8_t { Multiply, Reduce, Elementwise, Move };
constexpr size_t purposes = 4;

enum class ParameterKind : uint8_t { Count, Counts, Address, Addresses, Word, Type, Expression };

struct Parameter {
  llvm::StringRef name;
  ParameterKind kind = ParameterKind::Count;
  int64_t minimum = 0, maximum = 0;
  std::vector<llvm::StringRef> words; // of a word or type
  bool isList() const { return kind == ParameterKind::Counts || kind == ParameterKind::Addresses; }
};

struct Form {
  Codelet codelet;
  llvm::StringRef name;
  Executor executor;
  Purpose purpose;
  std::vector<Parameter> parameters;

  // Index of the parameter; asserted.
  size_t parameter(llvm::StringRef name) const;
};

// The element types that tiles hold, in the order of their numbers in the file.
llvm::ArrayRef<ElementType> tileTypes();
int64_t numberOf(ElementType type); // among them

const std::vector<Form> &forms();
const Form *formOf(uint16_t codelet); // null for an unknown codelet
const Form *formNamed(llvm::StringRef name);

} // namespace quadrille::ipu
