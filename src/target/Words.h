// The words of an assembly line: what the text forms of targets share beyond Text.h.
#pragma once

#include "program/Program.h"
#include "target/Text.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Error.h"

#include <map>
#include <string>
#include <vector>

namespace quadrille::target {

// A word of a line: bare, quoted, or name=value.
struct Word {
  std::string text; // unquoted
  bool quoted = false;
  llvm::StringRef raw;
};

// Errors are user errors that say what was expected and found. What follows a '#' outside of a string is left out.
llvm::Error split(llvm::StringRef line, std::vector<Word> &words);
llvm::Error integer(llvm::StringRef text, llvm::StringRef what, int64_t &value);
llvm::Error ranged(llvm::StringRef text, llvm::StringRef what, int64_t lowest, int64_t highest, int64_t &value);

// name=value words; `known` are the names, in any order, each at most once. `of`: whose they are.
llvm::Error pairs(llvm::ArrayRef<Word> words, llvm::ArrayRef<llvm::StringRef> known, const llvm::Twine &of,
                  std::map<llvm::StringRef, llvm::StringRef> &values);

// ROLE "NAME": a variable of the program, and back.
llvm::Error variable(llvm::ArrayRef<Word> words, const VariableNames &names, uint32_t &index);
std::string reference(const program::Variable &variable);

} // namespace quadrille::target
