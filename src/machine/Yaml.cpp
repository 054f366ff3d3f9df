#include "machine/Yaml.h"

#include "base/Error.h"
#include "base/Suggestion.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/ConvertUTF.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/YAMLParser.h"

namespace quadrille::machine {

namespace {

// Generous for hand-written files (the largest has a few hundred figures), small enough for a hostile one.
constexpr size_t maximumTextBytes = 4 << 20;
constexpr size_t maximumNodes = 200'000;
constexpr unsigned maximumDepth = 8;
constexpr unsigned maximumCommas = 500;

class TreeReader {
public:
  TreeReader(llvm::StringRef text, llvm::StringRef fileName)
      : text(text), fileName(fileName), stream(text, source, false) {
    for (const char &c : text)
      if (c == '\n')
        newlines.push_back(&c + 1); // where the next line begins
    source.setDiagHandler(
        [](const llvm::SMDiagnostic &diagnostic, void *self) {
          auto &reader = *static_cast<TreeReader *>(self);
          if (!reader.syntaxMessage.empty())
            return; // the first is the cause of the others
          reader.syntaxMessage = diagnostic.getMessage().str();
          reader.syntaxLine = diagnostic.getLineNo() > 0 ? diagnostic.getLineNo() : 0;
        },
        this);
  }

  llvm::Expected<YamlNode> read() {
    auto document = stream.begin();
    if (document == stream.end())
      return syntaxError("the text holds no YAML document", 1);
    llvm::yaml::Node *root = document->getRoot();
    if (!root || stream.failed())
      return syntaxError("not YAML", 1);
    if (!llvm::isa<llvm::yaml::MappingNode>(root))
      return syntaxError("a map of keys and values is expected", lineOf(*root));
    YamlNode tree;
    if (llvm::Error error = convert(*root, tree, 0))
      return error;
    if (++document != stream.end())
      return syntaxError("more than one YAML document", 1);
    if (stream.failed())
      return syntaxError("not YAML", 1);
    return tree;
  }

private:
  // Not SourceMgr's, which walks the line for the column: a list of one long line would take quadratic time.
  unsigned lineOf(const llvm::yaml::Node &node) const {
    const char *start = node.getSourceRange().Start.getPointer();
    if (!start || start < text.begin() || start > text.end())
      return 0;
    return llvm::upper_bound(newlines, start) - newlines.begin() + 1;
  }

  llvm::Error syntaxError(const llvm::Twine &message, unsigned line) {
    if (!syntaxMessage.empty())
      return userError("not YAML: " + syntaxMessage, {placeOf(fileName, syntaxLine), ""});
    return userError(message, {placeOf(fileName, line), ""});
  }

  // The children of a node are parsed while they are walked, so stopping at the depth limit also bounds the parser's
  // own recursion.
  llvm::Error convert(llvm::yaml::Node &node, YamlNode &result, unsigned depth) {
    result.line = lineOf(node);
    if (depth > maximumDepth)
      return syntaxError("nested more than " + llvm::Twine(maximumDepth) + " levels deep", result.line);
    if (++nodes > maximumNodes)
      return syntaxError("more than " + llvm::Twine(maximumNodes) + " values", result.line);
    if (!node.getAnchor().empty() || llvm::isa<llvm::yaml::AliasNode>(node))
      return syntaxError("anchors and aliases are not supported", result.line);
    if (!node.getRawTag().empty())
      return syntaxError("tags are not supported", result.line);

    if (auto *scalar = llvm::dyn_cast<llvm::yaml::ScalarNode>(&node)) {
      llvm::SmallString<64> storage;
      result.text = scalar->getValue(storage).str();
    } else if (auto *block = llvm::dyn_cast<llvm::yaml::BlockScalarNode>(&node)) {
      result.text = block->getValue().str();
    } else if (auto *sequence = llvm::dyn_cast<llvm::yaml::SequenceNode>(&node)) {
      result.kind = YamlNode::Kind::List;
      for (llvm::yaml::Node &item : *sequence)
        if (llvm::Error error = convert(item, result.items.emplace_back(), depth + 1))
          return error;
    } else if (auto *map = llvm::dyn_cast<llvm::yaml::MappingNode>(&node)) {
      result.kind = YamlNode::Kind::Map;
      if (llvm::Error error = convertMap(*map, result, depth))
        return error;
    } else {
      return syntaxError("a value is missing", result.line);
    }
    if (stream.failed())
      return syntaxError("not YAML", result.line);
    return llvm::Error::success();
  }

  llvm::Error convertMap(llvm::yaml::MappingNode &map, YamlNode &result, unsigned depth) {
    llvm::StringSet<> keys;
    for (llvm::yaml::KeyValueNode &pair : map) {
      llvm::yaml::Node *key = pair.getKey();
      if (!key || stream.failed())
        return syntaxError("not YAML", result.line);
      if (!llvm::isa<llvm::yaml::ScalarNode>(key))
        return syntaxError("a key must be a plain word", lineOf(*key));
      YamlNode keyNode;
      if (llvm::Error error = convert(*key, keyNode, depth + 1))
        return error;
      YamlNode::Entry &entry = result.entries.emplace_back();
      entry.key = std::move(keyNode.text);
      entry.line = keyNode.line;
      if (!keys.insert(entry.key).second)
        return syntaxError("'" + entry.key + "' is given twice", entry.line);
      llvm::yaml::Node *value = pair.getValue();
      if (!value || stream.failed() || llvm::isa<llvm::yaml::NullNode>(value))
        return syntaxError("'" + entry.key + "' has no value", entry.line);
      if (llvm::Error error = convert(*value, entry.value, depth + 1))
        return error;
    }
    return llvm::Error::success();
  }

  llvm::StringRef text, fileName;
  std::vector<const char *> newlines;
  llvm::SourceMgr source;
  std::string syntaxMessage;
  unsigned syntaxLine = 0;
  size_t nodes = 0;
  llvm::yaml::Stream stream; // last: it reports into the members above
};

} // namespace

const YamlNode *YamlNode::find(llvm::StringRef key) const {
  auto found = llvm::find_if(entries, [&](const Entry &entry) { return entry.key == key; });
  return found == entries.end() ? nullptr : &found->value;
}

// LLVM's parser skips an empty item of a flow list by calling itself, so a long run of commas exhausts the stack. The
// scan does not know quotes; where a '#' may begin a comment it counts commas and lets nothing else end the run.
static bool hasLongRunOfCommas(llvm::StringRef text) {
  unsigned commas = 0;
  bool comment = false;
  for (char c : text) {
    if (c == '\n')
      comment = false;
    else if (c == ',' && ++commas > maximumCommas)
      return true;
    else if (c == '#')
      comment = true;
    else if (c != ',' && c != ' ' && c != '\t' && c != '\r' && !comment)
      commas = 0;
  }
  return false;
}

std::string placeOf(llvm::StringRef fileName, unsigned line) {
  std::string place = fileName.str();
  if (line)
    place += ":" + std::to_string(line);
  return place;
}

llvm::Error expectKeys(const YamlNode &node, llvm::ArrayRef<llvm::StringRef> allowed, llvm::StringRef fileName,
                       const llvm::Twine &what) {
  if (node.kind != YamlNode::Kind::Map)
    return userError(what + " must be a map", {placeOf(fileName, node.line), ""},
                     "write {" + allowed.front() + ": ...}");
  for (const YamlNode::Entry &entry : node.entries) {
    if (llvm::is_contained(allowed, entry.key))
      continue;
    std::vector<std::string> known(allowed.begin(), allowed.end());
    std::string near = suggestion(entry.key, known);
    return userError("unknown key '" + entry.key + "' in " + what, {placeOf(fileName, entry.line), ""},
                     (near.empty() ? "" : near + " ") + ("known: " + llvm::join(allowed, ", ")));
  }
  return llvm::Error::success();
}

llvm::Expected<std::string> textOf(const YamlNode &node, llvm::StringRef fileName, const llvm::Twine &what) {
  if (node.kind != YamlNode::Kind::Scalar)
    return userError(what + " must be a single value", {placeOf(fileName, node.line), ""});
  if (llvm::StringRef(node.text).trim().empty())
    return userError(what + " is empty", {placeOf(fileName, node.line), ""});
  return node.text;
}

llvm::Expected<std::vector<std::string>> textsOf(const YamlNode &node, llvm::StringRef fileName,
                                                 const llvm::Twine &what) {
  std::vector<std::string> texts;
  if (node.kind != YamlNode::Kind::List) {
    auto text = textOf(node, fileName, what);
    if (!text)
      return text.takeError();
    texts.push_back(std::move(*text));
    return texts;
  }
  for (const YamlNode &item : node.items) {
    auto text = textOf(item, fileName, what);
    if (!text)
      return text.takeError();
    texts.push_back(std::move(*text));
  }
  return texts;
}

llvm::Expected<YamlNode> parseYaml(llvm::StringRef text, llvm::StringRef fileName) {
  if (text.size() > maximumTextBytes)
    return userError("a description of " + llvm::Twine(text.size()) + " bytes; the limit is " +
                         llvm::Twine(maximumTextBytes),
                     {fileName.str(), ""});
  // The scanner takes NUL for the end and has its own ideas about other encodings.
  const auto *begin = reinterpret_cast<const llvm::UTF8 *>(text.begin());
  if (!llvm::isLegalUTF8String(&begin, reinterpret_cast<const llvm::UTF8 *>(text.end())))
    return userError("not UTF-8 text", {fileName.str(), ""});
  for (char c : text)
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' && c != '\r')
      return userError("a control character in the text", {fileName.str(), ""});
  if (hasLongRunOfCommas(text))
    return userError("not YAML: more than " + llvm::Twine(maximumCommas) + " commas without anything between them",
                     {fileName.str(), ""});
  return TreeReader(text, fileName).read();
}

} // namespace quadrille::machine
