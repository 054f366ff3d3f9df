// What figures the machines of an architecture have. The schemas are machines/schema/*.yaml, compiled into the program:
// they are the contract between the C++ code, which reads figures by key, and the machine files.
//
//   architecture: tsp
//   description: Groq's tensor streaming processor
//   figures:
//     clock: {kind: real, unit: Hz, bounds: [1e6, 1e11], meaning: Nominal clock}
//     unary.{exp,log}.{f32,f16}: {kind: reals, unit: "1", ...}     # braces stand for one key per alternative
#pragma once

#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <string>
#include <vector>

namespace quadrille::machine {

enum class FigureKind : uint8_t { Integer, Real, Integers, Reals, Names };
llvm::StringRef nameOf(FigureKind kind);
inline bool isList(FigureKind kind) {
  return kind >= FigureKind::Integers;
}
inline bool isWhole(FigureKind kind) {
  return kind == FigureKind::Integer || kind == FigureKind::Integers;
}

struct SchemaFigure {
  std::string key;
  FigureKind kind = FigureKind::Real;
  std::string unit;                // of numbers
  double minimum = 0, maximum = 0; // of each number
  bool optional = false;
  std::string meaning;             // one line
  std::vector<std::string> oneOf;  // the words that a `names` figure may hold; any when empty
  std::vector<std::string> length; // a list has as many elements as the product of these figures (or numbers)
  std::string below;               // each number is below this figure (indices)
};

struct Schema {
  std::string architecture, description;
  std::vector<SchemaFigure> figures; // in the order of the file
  llvm::StringMap<size_t> index;     // of a key in `figures`

  const SchemaFigure *find(llvm::StringRef key) const;
};

// The schema of an architecture; a user error naming the known ones when there is none.
llvm::Expected<const Schema *> schemaOf(llvm::StringRef architecture);
std::vector<std::string> architectures();

// From text; for the compiled-in schemas and for tests.
llvm::Expected<Schema> parseSchema(llvm::StringRef yaml, llvm::StringRef fileName);

} // namespace quadrille::machine
