#include "machine/Machine.h"

#include "machine/Unit.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/YAMLParser.h"
#include "llvm/Support/raw_ostream.h"

namespace quadrille::machine {

llvm::StringRef nameOf(Status status) {
  switch (status) {
  case Status::Published:
    return "published";
  case Status::Measured:
    return "measured";
  case Status::Derived:
    return "derived";
  case Status::Assumed:
    return "assumed";
  case Status::Calibrated:
    return "calibrated";
  }
}

const Figure *Machine::find(llvm::StringRef key) const {
  auto found = all.find(key);
  return found == all.end() ? nullptr : &found->second;
}

// Loading has checked that every required figure is there and of its kind; what remains is a wrong key in the code.
static const Figure &figureOf(const Machine &machine, llvm::StringRef key, llvm::StringRef unit = "") {
  const Figure *figure = machine.find(key);
  if (!figure)
    llvm::report_fatal_error("machine '" + llvm::Twine(machine.name()) + "' has no figure '" + key + "'");
  if (!unit.empty() && figure->unit != unit)
    llvm::report_fatal_error("figure '" + llvm::Twine(key) + "' is in " + figure->unit + ", not in " + unit);
  return *figure;
}

static double single(const Figure &figure) {
  if (figure.values.size() != 1)
    llvm::report_fatal_error("figure '" + llvm::Twine(figure.key) + "' is not a single number");
  return figure.values.front();
}

int64_t Machine::integer(llvm::StringRef key) const {
  double value = single(figureOf(*this, key));
  auto whole = static_cast<int64_t>(value);
  if (static_cast<double>(whole) != value)
    llvm::report_fatal_error("figure '" + llvm::Twine(key) + "' is not a whole number");
  return whole;
}

double Machine::real(llvm::StringRef key) const {
  return single(figureOf(*this, key));
}

Cycles Machine::cycles(llvm::StringRef key) const {
  figureOf(*this, key, "cycles");
  return Cycles(integer(key));
}

Bytes Machine::bytes(llvm::StringRef key) const {
  figureOf(*this, key, "bytes");
  return Bytes(integer(key));
}

llvm::ArrayRef<double> Machine::list(llvm::StringRef key) const {
  return figureOf(*this, key).values;
}

llvm::ArrayRef<std::string> Machine::names(llvm::StringRef key) const {
  return figureOf(*this, key).names;
}

static std::string quoted(llvm::StringRef text) {
  return "\"" + llvm::yaml::escape(text, false) + "\"";
}

static void printNames(llvm::raw_ostream &os, llvm::ArrayRef<std::string> names) {
  os << '[';
  llvm::interleaveComma(names, os, [&](const std::string &name) { os << quoted(name); });
  os << ']';
}

static void printFigure(llvm::raw_ostream &os, const Figure &figure) {
  os << "  " << figure.key << ": {value: ";
  if (figure.unit.empty()) {
    printNames(os, figure.names);
  } else if (figure.values.size() == 1) {
    os << formatNumber(figure.values.front()) << ", unit: " << quoted(figure.unit);
  } else {
    os << '[';
    llvm::interleaveComma(figure.values, os, [&](double value) { os << formatNumber(value); });
    os << "], unit: " << quoted(figure.unit);
  }
  if (figure.range)
    os << ", range: [" << formatNumber(figure.range->first) << ", " << formatNumber(figure.range->second) << ']';
  os << ", status: " << nameOf(figure.status) << ", source: " << quoted(figure.source);
  if (!figure.measurements.empty()) {
    os << ", measurements: ";
    printNames(os, figure.measurements);
  }
  if (!figure.note.empty())
    os << ", note: " << quoted(figure.note);
  os << "}\n";
}

std::string Machine::print() const {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << "name: " << quoted(machineName) << "\narchitecture: " << machineArchitecture << '\n';
  if (!machineDescription.empty())
    os << "description: " << quoted(machineDescription) << '\n';
  os << "chips: " << chipCount << "\nfigures:\n";
  for (const auto &[key, figure] : all)
    printFigure(os, figure);
  if (all.empty())
    os << "  {}\n";
  return text;
}

} // namespace quadrille::machine
