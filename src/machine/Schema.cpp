#include "machine/Schema.h"

#include "base/Error.h"
#include "base/Suggestion.h"
#include "machine/SchemaText.h"
#include "machine/Unit.h"
#include "machine/Yaml.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

#include <map>

namespace quadrille::machine {

llvm::StringRef nameOf(FigureKind kind) {
  switch (kind) {
  case FigureKind::Integer:
    return "integer";
  case FigureKind::Real:
    return "real";
  case FigureKind::Integers:
    return "integers";
  case FigureKind::Reals:
    return "reals";
  case FigureKind::Names:
    return "names";
  }
}

const SchemaFigure *Schema::find(llvm::StringRef key) const {
  auto found = index.find(key);
  return found == index.end() ? nullptr : &figures[found->second];
}

namespace {

constexpr size_t maximumExpansion = 1024;

// "a.{b,c}.{d,e}" -> a.b.d, a.b.e, a.c.d, a.c.e. Empty when the braces do not match or expand too far.
std::vector<std::string> expandBraces(llvm::StringRef pattern) {
  std::vector<std::string> results = {""};
  while (!pattern.empty()) {
    size_t open = std::min(pattern.find('{'), pattern.size());
    for (std::string &result : results)
      result += pattern.substr(0, open);
    pattern = pattern.drop_front(open);
    if (pattern.empty())
      break;
    size_t close = pattern.find('}');
    if (close == llvm::StringRef::npos)
      return {};
    llvm::SmallVector<llvm::StringRef> alternatives;
    pattern.slice(1, close).split(alternatives, ',');
    if (results.size() * alternatives.size() > maximumExpansion)
      return {};
    std::vector<std::string> longer;
    for (const std::string &result : results)
      for (llvm::StringRef alternative : alternatives)
        longer.push_back(result + alternative.trim().str());
    results = std::move(longer);
    pattern = pattern.drop_front(close + 1);
  }
  return results;
}

class SchemaReader {
public:
  explicit SchemaReader(llvm::StringRef fileName) : fileName(fileName) {}

  llvm::Expected<Schema> read(const YamlNode &root) {
    Schema schema;
    if (llvm::Error error = expectKeys(root, {"architecture", "description", "figures"}, fileName, "the schema"))
      return error;
    if (llvm::Error error = required(root, "architecture", "the schema", schema.architecture))
      return error;
    if (llvm::Error error = required(root, "description", "the schema", schema.description))
      return error;
    const YamlNode *figures = root.find("figures");
    if (!figures || figures->kind != YamlNode::Kind::Map)
      return userError("the schema has no map 'figures'", {fileName.str(), ""});
    for (const YamlNode::Entry &entry : figures->entries) {
      SchemaFigure figure;
      if (llvm::Error error = readFigure(entry, figure))
        return error;
      std::vector<std::string> keys = expandBraces(entry.key);
      if (keys.empty())
        return fault("braces do not match or expand too far in '" + entry.key + "'", entry.line);
      for (std::string &key : keys) {
        figure.key = std::move(key);
        if (!schema.index.try_emplace(figure.key, schema.figures.size()).second)
          return fault("figure '" + figure.key + "' is described twice", entry.line);
        schema.figures.push_back(figure);
      }
    }
    if (llvm::Error error = checkReferences(schema))
      return error;
    return schema;
  }

private:
  llvm::Error fault(const llvm::Twine &message, unsigned line) {
    return userError(message, {placeOf(fileName, line), ""});
  }

  llvm::Error required(const YamlNode &map, llvm::StringRef key, const llvm::Twine &what, std::string &result) {
    const YamlNode *node = map.find(key);
    if (!node)
      return fault(what + " has no '" + key + "'", map.line);
    auto text = textOf(*node, fileName, "'" + key + "' of " + what);
    if (!text)
      return text.takeError();
    result = std::move(*text);
    return llvm::Error::success();
  }

  llvm::Error readTexts(const YamlNode &map, llvm::StringRef key, std::vector<std::string> &result) {
    const YamlNode *node = map.find(key);
    if (!node)
      return llvm::Error::success();
    auto texts = textsOf(*node, fileName, key);
    if (!texts)
      return texts.takeError();
    result = std::move(*texts);
    return llvm::Error::success();
  }

  llvm::Error readFigure(const YamlNode::Entry &entry, SchemaFigure &figure) {
    std::string what = "figure '" + entry.key + "'", kind;
    const YamlNode &node = entry.value;
    if (llvm::Error error = expectKeys(
            node, {"kind", "unit", "bounds", "optional", "meaning", "one_of", "length", "below"}, fileName, what))
      return error;
    if (llvm::Error error = required(node, "kind", what, kind))
      return error;
    if (llvm::Error error = required(node, "meaning", what, figure.meaning))
      return error;
    bool known = false;
    for (FigureKind candidate :
         {FigureKind::Integer, FigureKind::Real, FigureKind::Integers, FigureKind::Reals, FigureKind::Names})
      if (kind == nameOf(candidate)) {
        figure.kind = candidate;
        known = true;
      }
    if (!known)
      return fault("kind '" + kind + "' of " + what + " is not integer, real, integers, reals or names", node.line);
    if (const YamlNode *optional = node.find("optional"))
      figure.optional = optional->text == "true";
    if (llvm::Error error = readTexts(node, "one_of", figure.oneOf))
      return error;
    if (llvm::Error error = readTexts(node, "length", figure.length))
      return error;
    if (const YamlNode *below = node.find("below"))
      figure.below = below->text;
    if (figure.kind == FigureKind::Names)
      return llvm::Error::success();

    if (llvm::Error error = required(node, "unit", what, figure.unit))
      return error;
    if (!isUnit(figure.unit))
      return fault("unknown unit '" + figure.unit + "' of " + what, node.line);
    std::vector<std::string> bounds;
    if (llvm::Error error = readTexts(node, "bounds", bounds))
      return error;
    std::optional<double> low, high;
    if (bounds.size() == 2) {
      low = parseNumber(bounds[0]);
      high = parseNumber(bounds[1]);
    }
    if (!low || !high || *low > *high)
      return fault(what + " needs bounds: [LOWEST, HIGHEST]", node.line);
    figure.minimum = *low;
    figure.maximum = *high;
    // Whole numbers are read as doubles and handed out as int64_t; both are exact up to 2^53.
    if (isWhole(figure.kind) && (figure.minimum < -0x1p53 || figure.maximum > 0x1p53))
      return fault("bounds of " + what + " are beyond 2^53", node.line);
    return llvm::Error::success();
  }

  // A length or an upper end may only name a required whole number, so that it can be looked up without asking.
  llvm::Error checkReferences(const Schema &schema) {
    for (const SchemaFigure &figure : schema.figures) {
      std::vector<std::string> references = figure.length;
      if (!figure.below.empty())
        references.push_back(figure.below);
      for (const std::string &reference : references) {
        if (parseNumber(reference))
          continue;
        const SchemaFigure *other = schema.find(reference);
        if (!other || other->optional || other->kind != FigureKind::Integer)
          return fault(
              "figure '" + figure.key + "' refers to '" + reference + "', which is not a required integer figure", 0);
      }
    }
    return llvm::Error::success();
  }

  llvm::StringRef fileName;
};

} // namespace

llvm::Expected<Schema> parseSchema(llvm::StringRef yaml, llvm::StringRef fileName) {
  auto root = parseYaml(yaml, fileName);
  if (!root)
    return root.takeError();
  return SchemaReader(fileName).read(*root);
}

std::vector<std::string> architectures() {
  std::vector<std::string> names;
  for (const SchemaText &text : schemaTexts())
    names.push_back(text.architecture.str());
  return names;
}

llvm::Expected<const Schema *> schemaOf(llvm::StringRef architecture) {
  struct Parsed {
    Schema schema;
    std::string defect; // of the compiled-in text
  };
  static const std::map<std::string, Parsed, std::less<>> all = [] {
    std::map<std::string, Parsed, std::less<>> parsed;
    for (const SchemaText &text : schemaTexts()) {
      Parsed &entry = parsed[text.architecture.str()];
      auto schema = parseSchema(text.yaml, "machines/schema/" + text.architecture.str() + ".yaml");
      if (schema)
        entry.schema = std::move(*schema);
      else
        entry.defect = llvm::toString(schema.takeError());
    }
    return parsed;
  }();

  auto found = all.find(architecture);
  if (found == all.end()) {
    std::vector<std::string> known = architectures();
    std::string near = suggestion(architecture, known);
    return userError("unknown architecture '" + architecture + "'", {},
                     (near.empty() ? "" : near + " ") + ("known: " + llvm::join(known, ", ")));
  }
  if (!found->second.defect.empty())
    return internalError(found->second.defect);
  return &found->second.schema;
}

} // namespace quadrille::machine
