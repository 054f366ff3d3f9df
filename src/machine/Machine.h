// Machine descriptions: YAML files in which every figure has a unit, a source and a status, checked against the schema
// of its architecture (machines/schema/ARCHITECTURE.yaml: key, unit, integer or real, bounds, meaning).
//
//   architecture: tsp                            # the name is the file's, unless `name:` says otherwise
//   description: One GroqChip1 on a PCIe card
//   chip: {name: groqcard, count: 8}             # systems build on another machine and add, or replace, figures
//   figures:
//     clock: {value: 900 MHz, source: "ISCA20 abstract", status: published}
//     timing.mem_read: {value: 1 cycles, source: "SQ", status: measured}
//     c2c.latency: {value: 217 cycles, source: "survey of ISCA22", status: published, range: [209, 228]}
//
// A figure may be a list of values or a list of names where the schema says so. docs/machine-files.md has the rest.
#pragma once

#include "base/Units.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace quadrille::machine {

enum class Status : uint8_t { Published, Measured, Derived, Assumed, Calibrated };
llvm::StringRef nameOf(Status status);

struct Figure {
  std::string key;                // "timing.mem_read"
  std::vector<double> values;     // in the schema's unit; one unless the schema says list
  std::vector<std::string> names; // figures whose schema kind is `names`
  std::string unit;               // the schema's unit: "cycles", "bytes", "bytes/cycle", "Hz", "1", ...
  std::string source;
  Status status = Status::Assumed;
  std::optional<std::pair<double, double>> range; // plausible values, in the schema's unit
  std::vector<std::string> measurements;          // ids behind a calibrated figure
  std::string note;

  bool operator==(const Figure &) const = default;
};

class Machine {
public:
  // A name ("groqcard") is looked up in the machine directories, anything with a '/' or ending in .yaml is a path.
  // User errors name file, line, key and remedy: unknown machine (with the known names), unknown key, missing key,
  // wrong unit, value outside its bounds or range, unknown status.
  static llvm::Expected<Machine> load(llvm::StringRef nameOrPath);
  // The same from text that is complete in itself, as `print` writes it (a program file carries the description it was
  // compiled for). It is checked like a file, and opens no other.
  static llvm::Expected<Machine> parse(llvm::StringRef yaml, llvm::StringRef fileName);

  const std::string &name() const { return machineName; }
  const std::string &architecture() const { return machineArchitecture; }
  const std::string &description() const { return machineDescription; }
  int64_t chips() const { return chipCount; }

  // Figures by key. A key that the schema does not have, or a figure of another kind or unit, is a programmer's error
  // and ends the program: loading has checked that every required figure is there. Optional ones are asked for by find.
  int64_t integer(llvm::StringRef key) const;
  double real(llvm::StringRef key) const;
  Cycles cycles(llvm::StringRef key) const;
  Bytes bytes(llvm::StringRef key) const;
  llvm::ArrayRef<double> list(llvm::StringRef key) const;
  llvm::ArrayRef<std::string> names(llvm::StringRef key) const;
  const Figure *find(llvm::StringRef key) const; // null when the (optional) figure is absent

  const std::map<std::string, Figure, std::less<>> &figures() const { return all; }

  // Self-contained YAML that `parse` reads back to an equal machine.
  std::string print() const;

  bool operator==(const Machine &) const = default;

private:
  friend class MachineReader;
  std::string machineName, machineArchitecture, machineDescription;
  int64_t chipCount = 1;
  std::map<std::string, Figure, std::less<>> all;
};

// Directories searched for machine files: $QUADRILLE_MACHINES (several are separated by ':'), then
// ../share/quadrille/machines beside the executable, then the source tree's machines/.
std::vector<std::string> machineDirectories();
// Names of all machines found there, sorted.
std::vector<std::string> machineNames();

} // namespace quadrille::machine
