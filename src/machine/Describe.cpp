#include "machine/Describe.h"

#include "machine/Schema.h"
#include "machine/Unit.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>

namespace quadrille::machine {

namespace {

// Text from a file on its way to a terminal: control characters become spaces.
std::string printable(llvm::StringRef text) {
  std::string result = text.str();
  for (char &c : result)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      c = ' ';
  return result;
}

// Left-aligned columns, two spaces apart; the last one ragged. Rows of one cell are headings.
class Table {
public:
  void row(std::vector<std::string> cells) { rows.push_back(std::move(cells)); }

  void print(llvm::raw_ostream &os) const {
    std::vector<size_t> widths;
    for (const auto &cells : rows)
      for (size_t i = 0; cells.size() > 1 && i + 1 < cells.size(); ++i) {
        widths.resize(std::max(widths.size(), i + 1));
        widths[i] = std::max(widths[i], cells[i].size());
      }
    for (const auto &cells : rows) {
      std::string line;
      for (size_t i = 0; i < cells.size(); ++i) {
        line += cells[i];
        if (i + 1 < cells.size())
          line.append(widths[i] + 2 - cells[i].size(), ' ');
      }
      os << llvm::StringRef(line).rtrim() << '\n';
    }
  }

private:
  std::vector<std::vector<std::string>> rows;
};

std::string listOf(llvm::ArrayRef<double> values, llvm::StringRef from, llvm::StringRef to) {
  return llvm::join(llvm::map_range(values, [&](double value) { return formatRounded(*convertUnit(value, from, to)); }),
                    " ");
}

const Schema &knownSchema(const Machine &machine) {
  auto schema = schemaOf(machine.architecture());
  if (!schema)
    llvm::report_fatal_error(schema.takeError()); // the machine was checked against it
  return **schema;
}

size_t assumedIn(const Machine &machine) {
  return llvm::count_if(machine.figures(), [](const auto &entry) { return entry.second.status == Status::Assumed; });
}

void describeText(const Machine &machine, llvm::raw_ostream &os) {
  os << machine.name() << " (" << machine.architecture() << ", " << machine.chips()
     << (machine.chips() == 1 ? " chip" : " chips") << "): " << printable(machine.description()) << '\n';
  // Groups in the order in which the schema first names them.
  std::vector<std::string> groups;
  llvm::StringMap<std::vector<const Figure *>> members;
  for (const SchemaFigure &expected : knownSchema(machine).figures) {
    const Figure *figure = machine.find(expected.key);
    if (!figure)
      continue;
    std::string group =
        llvm::StringRef(expected.key).contains('.') ? expected.key.substr(0, expected.key.find('.')) : "general";
    if (!llvm::is_contained(groups, group))
      groups.push_back(group);
    members[group].push_back(figure);
  }

  Table table;
  if (!groups.empty())
    table.row({"  figure", "value", "unit", "status", "range", "source"});
  for (const std::string &group : groups) {
    table.row({group});
    for (const Figure *figure : members[group]) {
      std::string unit = figure->values.size() == 1 ? readableUnit(figure->values.front(), figure->unit) : figure->unit;
      std::string value =
          figure->unit.empty() ? printable(llvm::join(figure->names, " ")) : listOf(figure->values, figure->unit, unit);
      std::string range;
      if (figure->range)
        range = listOf(figure->range->first, figure->unit, unit) + " .. " +
                listOf(figure->range->second, figure->unit, unit);
      std::string source = printable(figure->source);
      if (!figure->measurements.empty())
        source += " [" + printable(llvm::join(figure->measurements, ", ")) + "]";
      if (!figure->note.empty())
        source += " (" + printable(figure->note) + ")";
      table.row({(figure->status == Status::Assumed ? "* " : "  ") + figure->key, value.empty() ? "none" : value,
                 unit == "1" ? "" : unit, nameOf(figure->status).str(), range, source});
    }
  }
  table.print(os);
  os << machine.figures().size() << " figures";
  if (size_t assumed = assumedIn(machine))
    os << ", " << assumed << " of them assumed (*)";
  os << '\n';
}

llvm::json::Object figureJson(const Figure &figure, const SchemaFigure &expected) {
  llvm::json::Object object{{"key", figure.key},
                            {"kind", nameOf(expected.kind)},
                            {"status", nameOf(figure.status)},
                            {"source", llvm::json::fixUTF8(figure.source)},
                            {"meaning", expected.meaning}};
  if (expected.kind == FigureKind::Names)
    object["value"] = llvm::json::Array(figure.names);
  else if (isList(expected.kind))
    object["value"] = llvm::json::Array(figure.values);
  else
    object["value"] = figure.values.front();
  if (expected.kind != FigureKind::Names)
    object["unit"] = figure.unit;
  if (figure.range)
    object["range"] = llvm::json::Array{figure.range->first, figure.range->second};
  if (!figure.measurements.empty())
    object["measurements"] = llvm::json::Array(figure.measurements);
  if (!figure.note.empty())
    object["note"] = figure.note;
  return object;
}

llvm::json::Object headJson(const Machine &machine) {
  return llvm::json::Object{{"name", machine.name()},
                            {"architecture", machine.architecture()},
                            {"description", machine.description()},
                            {"chips", machine.chips()}};
}

} // namespace

void describeMachines(llvm::raw_ostream &os, bool json) {
  Table table;
  table.row({"machine", "architecture", "chips", "figures", "assumed", "description"});
  llvm::json::Array list;
  for (const std::string &name : machineNames()) {
    auto machine = Machine::load(name);
    if (!machine) {
      std::string message = llvm::toString(machine.takeError());
      table.row({name, "?", "?", "?", "?", printable(message)});
      list.push_back(llvm::json::Object{{"name", name}, {"error", llvm::json::fixUTF8(message)}});
      continue;
    }
    size_t figures = machine->figures().size(), assumed = assumedIn(*machine);
    table.row({name, machine->architecture(), std::to_string(machine->chips()), std::to_string(figures),
               std::to_string(assumed), printable(machine->description())});
    llvm::json::Object object = headJson(*machine);
    object["figures"] = figures;
    object["assumed"] = assumed;
    list.push_back(std::move(object));
  }
  if (json)
    os << llvm::formatv("{0:2}", llvm::json::Value(std::move(list))) << '\n';
  else
    table.print(os);
}

void describeMachine(const Machine &machine, llvm::raw_ostream &os, bool json) {
  if (!json)
    return describeText(machine, os);
  llvm::json::Object object = headJson(machine);
  llvm::json::Array figures;
  for (const SchemaFigure &expected : knownSchema(machine).figures)
    if (const Figure *figure = machine.find(expected.key))
      figures.push_back(figureJson(*figure, expected));
  object["figures"] = std::move(figures);
  os << llvm::formatv("{0:2}", llvm::json::Value(std::move(object))) << '\n';
}

} // namespace quadrille::machine
