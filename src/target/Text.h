// The part of a program's text form that is the same for every target, and what reading such a form line by line needs.
// Directives, one a line; strings in double quotes with \" \\ \n and \xHH; blank lines and lines that begin with '#',
// ';' or "//" are skipped:
//
//   .target tsp                              first
//   .machine groqcard                        by name, or self-contained:
//   .machine-description
//   | name: groqcard                         its YAML, each line after "| "
//   .compiler "quadrille 0.1.0"
//   .precision "f16"
//   .chips 1
//   .replicas 1                              may be left out
//   .batch 1
//   .model "m.onnx" 0x0123456789abcdef       path and hash
//   .dimension "N" 3                         value given to a symbolic dimension
//   .binding "sr" "16000"                    input bound to a constant
//   .node "conv1" "Conv"
//   .input "x" f32[1,3]                      variables in order: input, output, weight, state
//   .output "y" f32[1,4]
//   .weight "w" f16[2,2]                     absent, unless one of these follows:
//   .data 003c00bc 0040 00c0                 its bytes in hexadecimal, on any number of lines
//   .values 1 -1 2 -2                        or its elements as numbers, rounded to its type
//   .external "m.onnx" 4096 8 0x0123456789abcdef   or a span of a file: path seen from the current directory, offset,
//                                            size and, if known, hash
//   .entry "inference" "x" -> "y"            without any: "inference" of all inputs and outputs
//
// Everything else is the target's own.
#pragma once

#include "program/Program.h"

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringMap.h"

#include <map>
#include <optional>

namespace llvm {
class raw_ostream;
} // namespace llvm

namespace quadrille::target {

// Writes the directives for everything but the payload. Data is read, so this fails like Program::dataOf.
llvm::Error printCommon(const program::Program &program, llvm::raw_ostream &os);

void printQuoted(llvm::StringRef string, llvm::raw_ostream &os);

// Calls `line` for every line that is not blank or a comment, without leading blanks. A user error that it returns
// gets file and "line N".
llvm::Error forEachLine(llvm::StringRef text, llvm::StringRef fileName,
                        llvm::function_ref<llvm::Error(llvm::StringRef line)> line);

// Takes a line apart. Errors are user errors that say what was expected and found.
class LineReader {
public:
  explicit LineReader(llvm::StringRef line) : rest(line.trim()) {}

  bool atEnd() const { return rest.empty(); }
  llvm::StringRef remaining() const { return rest; }
  // The next run of characters that are not blank; empty at the end.
  llvm::StringRef word();
  // Takes the next word if it is this one.
  bool consume(llvm::StringRef expected);
  llvm::Expected<std::string> quoted(llvm::StringRef what);
  llvm::Expected<int64_t> integer(llvm::StringRef what);          // decimal, or hexadecimal after 0x
  llvm::Expected<uint64_t> unsignedInteger(llvm::StringRef what); // the same
  llvm::Expected<double> real(llvm::StringRef what);              // what llvm::APFloat reads: 1.5, -inf, nan, 0x1p-3
  llvm::Error end();                                              // nothing may follow

private:
  llvm::StringRef rest;
};

// The variables of a program by role and name; of several alike the first one.
class VariableNames {
public:
  VariableNames() = default;
  explicit VariableNames(const program::Program &program);
  void add(const program::Variable &variable, uint32_t index);
  std::optional<uint32_t> find(program::VariableRole role, llvm::StringRef name) const;

private:
  std::map<program::VariableRole, llvm::StringMap<uint32_t>> byRole;
};

// Collects the directives above.
class CommonReader {
public:
  explicit CommonReader(llvm::StringRef target) { program.target = target.str(); }

  // Takes a line that holds one of the directives; false when the line is not one of them.
  llvm::Expected<bool> take(llvm::StringRef line);
  // When all lines are read: the program without payload. A user error when something is missing or inconsistent.
  llvm::Expected<program::Program> finish();

private:
  llvm::Error takeVariable(program::VariableRole role, LineReader &line);
  llvm::Error takeData(LineReader &line);
  llvm::Error takeValues(LineReader &line);
  llvm::Error takeExternal(LineReader &line);
  llvm::Error takeEntry(LineReader &line);
  llvm::Expected<program::Variable *> variableForData();

  program::Program program;
  VariableNames names;
  bool sawTarget = false, inDescription = false;
  std::vector<std::byte> data; // of the last variable, as far as it has been read
};

} // namespace quadrille::target
