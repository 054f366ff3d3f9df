// A small tree read from YAML text, with the line of every node, for data files that may come from anywhere.
//
// Only what data files need: one document of maps, lists and scalars. Anchors, aliases and tags are refused (an alias
// can make a small text enormous), and so are duplicate keys, deep nesting and text that is not UTF-8.
#pragma once

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Error.h"

#include <string>
#include <vector>

namespace quadrille::machine {

struct YamlNode {
  enum class Kind { Scalar, List, Map };
  struct Entry;

  Kind kind = Kind::Scalar;
  unsigned line = 0;           // from 1
  std::string text;            // of a scalar, unescaped
  std::vector<YamlNode> items; // of a list
  std::vector<Entry> entries;  // of a map, in the order of the text, keys distinct

  const YamlNode *find(llvm::StringRef key) const; // in a map; null when absent
};

struct YamlNode::Entry {
  std::string key;
  unsigned line = 0;
  YamlNode value;
};

// The root of the text, which must be a map. User errors name `fileName` and the line.
llvm::Expected<YamlNode> parseYaml(llvm::StringRef text, llvm::StringRef fileName);

// Readers of one node, with the user error of a node of another kind or of a key that `allowed` does not list. `what`
// is the subject of the message ("figure 'clock'").
llvm::Error expectKeys(const YamlNode &node, llvm::ArrayRef<llvm::StringRef> allowed, llvm::StringRef fileName,
                       const llvm::Twine &what);
llvm::Expected<std::string> textOf(const YamlNode &node, llvm::StringRef fileName, const llvm::Twine &what);
llvm::Expected<std::vector<std::string>> textsOf(const YamlNode &node, llvm::StringRef fileName,
                                                 const llvm::Twine &what); // a list, or one scalar

// "FILE:LINE", as every message about a node says where it is.
std::string placeOf(llvm::StringRef fileName, unsigned line);

} // namespace quadrille::machine
