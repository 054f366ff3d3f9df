// Machine descriptions from YAML: the figures of one file, those of the machine it builds on, and the checks against
// the schema.
#include "base/Error.h"
#include "base/File.h"
#include "base/Suggestion.h"
#include "machine/Machine.h"
#include "machine/Schema.h"
#include "machine/Search.h"
#include "machine/Unit.h"
#include "machine/Yaml.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Path.h"

#include <cmath>

namespace quadrille::machine {

namespace {

constexpr size_t maximumListLength = 4096;
constexpr int64_t maximumChips = 1 << 20;
constexpr unsigned maximumChain = 8; // a machine built on a machine built on ...

std::optional<Status> statusOf(llvm::StringRef name) {
  for (Status status : {Status::Published, Status::Measured, Status::Derived, Status::Assumed, Status::Calibrated})
    if (name == nameOf(status))
      return status;
  return std::nullopt;
}

} // namespace

// A friend of Machine: fills one from a parsed file.
class MachineReader {
public:
  MachineReader(llvm::StringRef fileName, std::vector<std::string> chain)
      : fileName(fileName), chain(std::move(chain)) {}

  // `path` is the file on disk, empty for text that must be self-contained.
  llvm::Expected<Machine> read(const YamlNode &root, llvm::StringRef path) {
    if (llvm::Error error =
            expectKeys(root, {"name", "architecture", "description", "chip", "chips", "defaults", "figures"}, fileName,
                       "a machine description"))
      return error;

    Machine machine;
    if (const YamlNode *chip = root.find("chip")) {
      if (path.empty())
        return fault("refers to another machine, but this text must be self-contained", chip->line,
                     "print the machine with all its figures");
      if (llvm::Error error = readChip(*chip, path, machine))
        return error;
    }
    if (llvm::Error error = readHeader(root, path, machine))
      return error;
    auto schemaOrError = schemaOf(machine.machineArchitecture);
    if (!schemaOrError)
      return inFile(schemaOrError.takeError(), fileName);
    schema = *schemaOrError;
    if (const YamlNode *defaults = root.find("defaults"))
      if (llvm::Error error = readDefaults(*defaults))
        return error;
    if (const YamlNode *figures = root.find("figures")) {
      if (figures->kind != YamlNode::Kind::Map)
        return fault("'figures' must be a map", figures->line, "write KEY: {value: ..., source: ..., status: ...}");
      for (const YamlNode::Entry &entry : figures->entries) {
        Figure figure;
        if (llvm::Error error = readFigure(entry, figure))
          return atNode(std::move(error), "figure '" + entry.key + "'");
        lineOfFigure[figure.key] = entry.line;
        std::string key = figure.key;
        machine.all[std::move(key)] = std::move(figure);
      }
    }
    if (llvm::Error error = checkWhole(machine))
      return error;
    return machine;
  }

private:
  llvm::Error fault(const llvm::Twine &message, unsigned line, const llvm::Twine &remedy = "") {
    return userError(message, {placeOf(fileName, line), ""}, remedy);
  }

  llvm::Error readText(const YamlNode &map, llvm::StringRef key, std::string &result) {
    const YamlNode *node = map.find(key);
    if (!node)
      return llvm::Error::success();
    auto text = textOf(*node, fileName, "'" + key + "'");
    if (!text)
      return text.takeError();
    result = std::move(*text);
    return llvm::Error::success();
  }

  llvm::Error readCount(const YamlNode &node, llvm::StringRef key, int64_t &count) {
    if (node.kind != YamlNode::Kind::Scalar || llvm::StringRef(node.text).getAsInteger(10, count) || count < 1 ||
        count > maximumChips)
      return fault("'" + key + "' must be a whole number from 1 to " + llvm::Twine(maximumChips), node.line);
    return llvm::Error::success();
  }

  llvm::Error readChip(const YamlNode &node, llvm::StringRef path, Machine &machine) {
    if (llvm::Error error = expectKeys(node, {"name", "count"}, fileName, "'chip'"))
      return error;
    std::string name;
    if (llvm::Error error = readText(node, "name", name))
      return error;
    if (name.empty())
      return fault("'chip' has no 'name'", node.line, "write chip: {name: MACHINE, count: N}");
    // Only a name: the file that it stands for lies beside this one, or where machines are found.
    if (!isMachineName(name))
      return fault("'" + name + "' is not the name of a machine", node.line,
                   "names are made of letters, digits, '-', '_' and '.'");
    llvm::SmallString<128> beside(llvm::sys::path::parent_path(path));
    llvm::sys::path::append(beside, name + ".yaml");
    std::string found = isRegularFile(beside) ? beside.str().str() : findMachine(name);
    if (found.empty())
      return inFile(unknownMachine(name), placeOf(fileName, node.line));
    if (llvm::is_contained(chain, found) || chain.size() >= maximumChain)
      return fault("'chip' leads back to this machine or through more than " + llvm::Twine(maximumChain) + " files",
                   node.line, "chain: " + llvm::join(chain, " -> ") + " -> " + found);
    std::vector<std::string> longer = chain;
    longer.push_back(found);
    auto chip = loadFile(found, std::move(longer));
    if (!chip)
      return chip.takeError();
    machine = std::move(*chip);
    machine.machineName.clear();
    int64_t count = 1;
    if (const YamlNode *countNode = node.find("count"))
      if (llvm::Error error = readCount(*countNode, "count", count))
        return error;
    if (machine.chipCount * count > maximumChips)
      return fault("more than " + llvm::Twine(maximumChips) + " chips", node.line);
    machine.chipCount *= count;
    return llvm::Error::success();
  }

  llvm::Error readHeader(const YamlNode &root, llvm::StringRef path, Machine &machine) {
    machine.machineName = path.empty() ? "" : llvm::sys::path::stem(path).str();
    if (llvm::Error error = readText(root, "name", machine.machineName))
      return error;
    if (machine.machineName.empty())
      return fault("the machine has no 'name'", root.line);
    if (!isMachineName(machine.machineName))
      return fault("'" + machine.machineName + "' is not a name for a machine", root.line,
                   "names are made of letters, digits, '-', '_' and '.'");
    std::string architecture;
    if (llvm::Error error = readText(root, "architecture", architecture))
      return error;
    if (architecture.empty() && machine.machineArchitecture.empty())
      return fault("the machine has no 'architecture'", root.line, "known: " + llvm::join(architectures(), ", "));
    if (!architecture.empty() && !machine.machineArchitecture.empty() && architecture != machine.machineArchitecture)
      return fault("architecture '" + architecture + "' differs from that of the chip, '" +
                       machine.machineArchitecture + "'",
                   root.find("architecture")->line);
    if (!architecture.empty())
      machine.machineArchitecture = std::move(architecture);
    if (llvm::Error error = readText(root, "description", machine.machineDescription))
      return error;
    if (const YamlNode *chips = root.find("chips")) {
      if (root.find("chip"))
        return fault("both 'chip' and 'chips'", chips->line, "a machine built on another counts chips in 'chip'");
      if (llvm::Error error = readCount(*chips, "chips", machine.chipCount))
        return error;
    }
    return llvm::Error::success();
  }

  llvm::Error readStatus(const YamlNode &map, std::optional<Status> &result) {
    std::string name;
    if (llvm::Error error = readText(map, "status", name))
      return error;
    if (name.empty())
      return llvm::Error::success();
    result = statusOf(name);
    if (!result)
      return fault("unknown status '" + name + "'", map.find("status")->line,
                   "known: published, measured, derived, assumed, calibrated");
    return llvm::Error::success();
  }

  llvm::Error readDefaults(const YamlNode &node) {
    if (llvm::Error error = expectKeys(node, {"source", "status"}, fileName, "'defaults'"))
      return error;
    if (llvm::Error error = readText(node, "source", defaultSource))
      return error;
    return readStatus(node, defaultStatus);
  }

  // "900 MHz", "900" with `unit: MHz`; nothing but a number where the schema's unit is 1.
  llvm::Error readQuantity(const YamlNode &node, const SchemaFigure &expected, llvm::StringRef defaultUnit,
                           double &result, std::string *unitUsed = nullptr) {
    auto text = textOf(node, fileName, "a value");
    if (!text)
      return text.takeError();
    auto [number, unit] = llvm::StringRef(*text).trim().split(' ');
    unit = unit.trim();
    std::optional<double> value = parseNumber(number);
    if (!value)
      return fault("'" + *text + "' is not a number with a unit", node.line, "write for example " + example(expected));
    if (unit.empty())
      unit = defaultUnit;
    if (unit.empty() && expected.unit == "1")
      unit = "1";
    if (unit.empty())
      return fault("'" + *text + "' has no unit", node.line, "write for example " + example(expected));
    std::optional<double> converted = convertUnit(*value, unit, expected.unit);
    if (!converted)
      return fault("unit '" + unit + "' does not measure what this figure is", node.line,
                   "units that do: " + unitsLike(expected.unit));
    result = *converted;
    if (isWhole(expected.kind)) {
      double nearest = std::round(result);
      if (std::abs(result - nearest) > 1e-9 * std::abs(result))
        return fault("'" + *text + "' is not a whole number of " + expected.unit, node.line);
      result = nearest;
    }
    if (!(result >= expected.minimum && result <= expected.maximum))
      return fault("'" + *text + "' is outside the schema's bounds [" + formatNumber(expected.minimum) + ", " +
                       formatNumber(expected.maximum) + "] " + expected.unit,
                   node.line, expected.meaning);
    if (unitUsed)
      *unitUsed = unit.str();
    return llvm::Error::success();
  }

  static std::string example(const SchemaFigure &expected) {
    return "'" + formatNumber(std::max(expected.minimum, 1.0)) + (expected.unit == "1" ? "" : " " + expected.unit) +
           "'";
  }

  llvm::Error readValues(const YamlNode &node, const SchemaFigure &expected, llvm::StringRef defaultUnit,
                         Figure &figure, std::string &unitUsed) {
    if (!isList(expected.kind) || node.kind == YamlNode::Kind::Scalar) // one value stands for a list of one
      return readQuantity(node, expected, defaultUnit, figure.values.emplace_back(), &unitUsed);
    if (node.kind != YamlNode::Kind::List)
      return fault("the value must be a list", node.line, expected.meaning);
    if (node.items.size() > maximumListLength)
      return fault("a list of more than " + llvm::Twine(maximumListLength) + " values", node.line);
    for (const YamlNode &item : node.items)
      if (llvm::Error error = readQuantity(item, expected, defaultUnit, figure.values.emplace_back(), &unitUsed))
        return error;
    return llvm::Error::success();
  }

  llvm::Error readNames(const YamlNode &node, const SchemaFigure &expected, Figure &figure) {
    auto texts = textsOf(node, fileName, "a name");
    if (!texts)
      return texts.takeError();
    if (texts->size() > maximumListLength)
      return fault("a list of more than " + llvm::Twine(maximumListLength) + " names", node.line);
    for (const std::string &text : *texts)
      if (!expected.oneOf.empty() && !llvm::is_contained(expected.oneOf, text))
        return fault("unknown name '" + text + "'", node.line, "known: " + llvm::join(expected.oneOf, ", "));
    figure.names = std::move(*texts);
    return llvm::Error::success();
  }

  llvm::Error readRange(const YamlNode &node, const SchemaFigure &expected, llvm::StringRef unit, Figure &figure) {
    if (expected.kind == FigureKind::Names)
      return fault("names have no range", node.line);
    if (node.kind != YamlNode::Kind::List || node.items.size() != 2)
      return fault("the range must be [LOWEST, HIGHEST]", node.line);
    double low = 0, high = 0;
    if (llvm::Error error = readQuantity(node.items[0], expected, unit, low))
      return error;
    if (llvm::Error error = readQuantity(node.items[1], expected, unit, high))
      return error;
    if (low > high)
      return fault("the range ends below its beginning", node.line);
    for (double value : figure.values)
      if (value < low || value > high)
        return fault("the value " + formatNumber(value) + " is outside its range [" + formatNumber(low) + ", " +
                         formatNumber(high) + "] " + expected.unit,
                     node.line, "widen the range or correct the value");
    figure.range = {low, high};
    return llvm::Error::success();
  }

  llvm::Error readFigure(const YamlNode::Entry &entry, Figure &figure) {
    const SchemaFigure *expected = schema->find(entry.key);
    if (!expected) {
      std::vector<std::string> known;
      for (const SchemaFigure &candidate : schema->figures)
        known.push_back(candidate.key);
      std::string near = suggestion(entry.key, known);
      return fault("the schema of '" + schema->architecture + "' has no such figure", entry.line,
                   near.empty() ? "see machines/schema/" + schema->architecture + ".yaml" : near);
    }
    const YamlNode &node = entry.value;
    figure.key = expected->key;
    figure.unit = expected->unit;
    if (llvm::Error error = expectKeys(node, {"value", "unit", "source", "status", "range", "measurements", "note"},
                                       fileName, "the figure"))
      return error;
    const YamlNode *value = node.find("value");
    if (!value)
      return fault("no value", entry.line);
    std::string unit;
    if (llvm::Error error = readText(node, "unit", unit))
      return error;
    if (expected->kind == FigureKind::Names) {
      if (llvm::Error error = readNames(*value, *expected, figure))
        return error;
    } else if (llvm::Error error = readValues(*value, *expected, unit, figure, unit)) {
      return error;
    }
    if (const YamlNode *range = node.find("range"))
      if (llvm::Error error = readRange(*range, *expected, unit, figure))
        return error;

    figure.source = defaultSource;
    if (llvm::Error error = readText(node, "source", figure.source))
      return error;
    if (figure.source.empty())
      return fault("no source", entry.line, "say where the figure comes from: source: \"paper, section\"");
    std::optional<Status> status = defaultStatus;
    if (llvm::Error error = readStatus(node, status))
      return error;
    if (!status)
      return fault("no status", entry.line, "known: published, measured, derived, assumed, calibrated");
    figure.status = *status;
    if (llvm::Error error = readText(node, "note", figure.note))
      return error;
    if (const YamlNode *measurements = node.find("measurements")) {
      auto ids = textsOf(*measurements, fileName, "a measurement id");
      if (!ids)
        return ids.takeError();
      figure.measurements = std::move(*ids);
    }
    if (figure.status == Status::Calibrated && figure.measurements.empty())
      return fault("a calibrated figure names no measurements", entry.line, "add measurements: [ID, ...]");
    bool number = expected->kind == FigureKind::Integer || expected->kind == FigureKind::Real;
    if (figure.status == Status::Assumed && number && !figure.range)
      return fault("an assumed figure has no range", entry.line, "add range: [LOWEST, HIGHEST] of plausible values");
    return llvm::Error::success();
  }

  std::string placeOfFigure(llvm::StringRef key) const {
    auto line = lineOfFigure.find(key);
    return placeOf(fileName, line == lineOfFigure.end() ? 0 : line->second);
  }

  // The value of a whole number that the schema requires, or a number written in the schema.
  static double referenced(const Machine &machine, llvm::StringRef reference) {
    if (std::optional<double> number = parseNumber(reference))
      return *number;
    return machine.all.find(reference)->second.values.front();
  }

  llvm::Error checkWhole(const Machine &machine) {
    std::vector<std::string> missing;
    for (const SchemaFigure &expected : schema->figures)
      if (!expected.optional && !machine.all.count(expected.key))
        missing.push_back(expected.key);
    if (!missing.empty())
      return userError("machine '" + machine.machineName + "' has no figure " +
                           llvm::join(llvm::ArrayRef(missing).take_front(8), ", ") +
                           (missing.size() > 8 ? " and " + std::to_string(missing.size() - 8) + " more" : ""),
                       {fileName.str(), ""}, "machines/schema/" + schema->architecture + ".yaml says what they mean");
    for (const auto &[key, figure] : machine.all) {
      const SchemaFigure &expected = *schema->find(key);
      if (!expected.length.empty()) {
        double length = 1;
        for (const std::string &reference : expected.length)
          length *= referenced(machine, reference);
        size_t count = expected.kind == FigureKind::Names ? figure.names.size() : figure.values.size();
        if (static_cast<double>(count) != length)
          return userError("a list of " + llvm::Twine(count) + " values; " + formatNumber(length) +
                               " are expected, the product of " + llvm::join(expected.length, ", "),
                           {placeOfFigure(key), "figure '" + key + "'"});
      }
      if (!expected.below.empty()) {
        double limit = referenced(machine, expected.below);
        for (double value : figure.values)
          if (value >= limit)
            return userError("the value " + formatNumber(value) + " is not below " + formatNumber(limit) + ", the " +
                                 expected.below,
                             {placeOfFigure(key), "figure '" + key + "'"});
      }
    }
    return llvm::Error::success();
  }

public:
  static llvm::Expected<Machine> loadFile(llvm::StringRef path, std::vector<std::string> chain) {
    auto file = MappedFile::open(path);
    if (!file)
      return file.takeError();
    auto root = parseYaml((*file)->text(), path);
    if (!root)
      return root.takeError();
    return MachineReader(path, std::move(chain)).read(*root, path);
  }

private:
  llvm::StringRef fileName;
  std::vector<std::string> chain; // files that led here
  const Schema *schema = nullptr;
  std::string defaultSource;
  std::optional<Status> defaultStatus;
  std::map<std::string, unsigned, std::less<>> lineOfFigure;
};

llvm::Expected<Machine> Machine::load(llvm::StringRef nameOrPath) {
  std::string path = nameOrPath.str();
  if (!nameOrPath.contains('/') && !nameOrPath.ends_with(".yaml")) {
    path = isMachineName(nameOrPath) ? findMachine(nameOrPath) : "";
    if (path.empty())
      return unknownMachine(nameOrPath);
  }
  return MachineReader::loadFile(path, {path});
}

llvm::Expected<Machine> Machine::parse(llvm::StringRef yaml, llvm::StringRef fileName) {
  auto root = parseYaml(yaml, fileName);
  if (!root)
    return root.takeError();
  return MachineReader(fileName, {}).read(*root, "");
}

} // namespace quadrille::machine
