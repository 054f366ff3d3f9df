#include "machine/Unit.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"

#include <charconv>
#include <cmath>

namespace quadrille::machine {

namespace {

// value in base units = value * numerator / denominator. Kept as a fraction so that "5 us" is the double nearest to
// 5e-6, which 5 * 1e-6 need not be.
struct UnitRow {
  const char *name;
  const char *dimension; // what it measures
  double numerator, denominator;
};

constexpr UnitRow unitTable[] = {
    {"1", "number", 1, 1},
    {"%", "number", 1, 100},
    {"ppm", "number", 1, 1e6},
    {"cycles", "cycles", 1, 1},
    {"cycle", "cycles", 1, 1},
    {"bytes", "data", 1, 1},
    {"byte", "data", 1, 1},
    {"B", "data", 1, 1},
    {"kB", "data", 1e3, 1},
    {"MB", "data", 1e6, 1},
    {"GB", "data", 1e9, 1},
    {"TB", "data", 1e12, 1},
    {"PB", "data", 1e15, 1},
    {"KiB", "data", 1024.0, 1},
    {"MiB", "data", 1048576.0, 1},
    {"GiB", "data", 1073741824.0, 1},
    {"TiB", "data", 1099511627776.0, 1},
    {"bits", "data", 1, 8},
    {"bit", "data", 1, 8},
    {"b", "data", 1, 8},
    {"kb", "data", 1e3, 8},
    {"Mb", "data", 1e6, 8},
    {"Gb", "data", 1e9, 8},
    {"Tb", "data", 1e12, 8},
    {"Pb", "data", 1e15, 8},
    {"Gib", "data", 1073741824.0, 8},
    {"s", "time", 1, 1},
    {"ms", "time", 1, 1e3},
    {"us", "time", 1, 1e6},
    {"ns", "time", 1, 1e9},
    {"ps", "time", 1, 1e12},
    {"Hz", "frequency", 1, 1},
    {"kHz", "frequency", 1e3, 1},
    {"MHz", "frequency", 1e6, 1},
    {"GHz", "frequency", 1e9, 1},
    {"FLOP", "operations", 1, 1},
    {"GFLOP", "operations", 1e9, 1},
    {"TFLOP", "operations", 1e12, 1},
    {"PFLOP", "operations", 1e15, 1},
    {"OP", "integer operations", 1, 1},
    {"TOP", "integer operations", 1e12, 1},
    {"MAC", "multiply-accumulates", 1, 1},
    {"elements", "elements", 1, 1},
    {"element", "elements", 1, 1},
    {"W", "power", 1, 1},
    {"mW", "power", 1, 1e3},
    {"kW", "power", 1e3, 1},
    {"J", "energy", 1, 1},
    {"uJ", "energy", 1, 1e6},
    {"nJ", "energy", 1, 1e9},
    {"pJ", "energy", 1, 1e12},
    {"fJ", "energy", 1, 1e15},
    {"V", "voltage", 1, 1},
    {"mV", "voltage", 1, 1e3},
    {"degC", "temperature", 1, 1},
};

const UnitRow *findUnit(llvm::StringRef name) {
  for (const UnitRow &row : unitTable)
    if (name == row.name)
      return &row;
  return nullptr;
}

// The simple units of a compound one; empty when one of them is unknown.
llvm::SmallVector<const UnitRow *, 4> factorsOf(llvm::StringRef unit) {
  llvm::SmallVector<llvm::StringRef, 4> parts;
  unit.split(parts, '/', /*MaxSplit=*/4);
  llvm::SmallVector<const UnitRow *, 4> factors;
  for (llvm::StringRef part : parts) {
    const UnitRow *row = findUnit(part);
    if (!row)
      return {};
    factors.push_back(row);
  }
  return factors;
}

} // namespace

bool isUnit(llvm::StringRef unit) {
  return !factorsOf(unit).empty();
}

std::optional<double> convertUnit(double value, llvm::StringRef from, llvm::StringRef to) {
  auto source = factorsOf(from), target = factorsOf(to);
  if (source.empty() || source.size() != target.size())
    return std::nullopt;
  double numerator = 1, denominator = 1;
  for (size_t i = 0; i < source.size(); ++i) {
    if (llvm::StringRef(source[i]->dimension) != target[i]->dimension)
      return std::nullopt;
    if (source[i] == target[i])
      continue;
    bool above = i == 0; // "a/b/c" is a per b per c
    (above ? numerator : denominator) *= source[i]->numerator * target[i]->denominator;
    (above ? denominator : numerator) *= source[i]->denominator * target[i]->numerator;
  }
  // One of the two is usually 1, and both are powers of ten or two, so a single rounding happens.
  return value * numerator / denominator;
}

std::string unitsLike(llvm::StringRef unit) {
  llvm::SmallVector<llvm::StringRef, 4> parts;
  unit.split(parts, '/');
  std::string result;
  auto factors = factorsOf(unit);
  if (factors.empty())
    return unit.str();
  llvm::StringRef rest = unit.substr(parts.front().size());
  for (const UnitRow &row : unitTable)
    if (llvm::StringRef(row.dimension) == factors.front()->dimension)
      result += (result.empty() ? "" : ", ") + std::string(row.name) + rest.str();
  return result;
}

std::string readableUnit(double value, llvm::StringRef unit) {
  auto factors = factorsOf(unit);
  if (factors.empty() || value == 0 || factors.front()->dimension == llvm::StringRef("number"))
    return unit.str();
  llvm::StringRef head = unit.split('/').first, rest = unit.substr(head.size());
  // Memory sizes are binary where that is exact; rates and the rest are decimal. Small odd sizes and half volts stay.
  bool binary = head == "bytes" && rest.empty() && std::fmod(value, 1024) == 0;
  if ((head == "bytes" && rest.empty() && !binary && value < 1e6) || (std::abs(value) >= 0.1 && std::abs(value) < 1))
    return unit.str();
  std::string best = unit.str();
  double bestValue = std::abs(value);
  for (const UnitRow &row : unitTable) {
    llvm::StringRef name = row.name;
    bool bits = llvm::StringRef(row.dimension) == "data" && row.denominator == 8;
    if (llvm::StringRef(row.dimension) != factors.front()->dimension || name.contains('i') != binary ||
        bits != (factors.front()->denominator == 8))
      continue;
    double candidate = std::abs(*convertUnit(value, head, name));
    // The smallest number that is at least 1; or, below 1, the largest.
    bool better = bestValue >= 1 ? candidate >= 1 && candidate < bestValue : candidate > bestValue;
    if (better && (!binary || candidate == std::trunc(candidate))) {
      best = (name + rest).str();
      bestValue = candidate;
    }
  }
  return best;
}

std::optional<double> parseNumber(llvm::StringRef text) {
  if (text.starts_with("0x")) {
    uint64_t address = 0;
    if (text.drop_front(2).getAsInteger(16, address) || address >> 53)
      return std::nullopt;
    return static_cast<double>(address);
  }
  double value = 0;
  auto [end, status] = std::from_chars(text.begin(), text.end(), value);
  if (status != std::errc() || end != text.end() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

std::string formatRounded(double value) {
  char buffer[64];
  auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::general, 12).ptr;
  return std::string(buffer, end);
}

std::string formatNumber(double value) {
  char buffer[64];
  bool whole = std::abs(value) < 1e15 && value == std::trunc(value);
  auto end = whole ? std::to_chars(buffer, buffer + sizeof buffer, static_cast<int64_t>(value)).ptr
                   : std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return std::string(buffer, end);
}

} // namespace quadrille::machine
