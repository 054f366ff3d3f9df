#include "report/Format.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>

namespace quadrille::reports {

std::string duration(double seconds) {
  static constexpr std::pair<double, const char *> units[] = {{1, "s"}, {1e-3, "ms"}, {1e-6, "us"}, {1e-9, "ns"}};
  for (auto [size, unit] : units)
    if (seconds >= size || size == 1e-9) {
      std::string text;
      llvm::raw_string_ostream(text) << llvm::format("%.3f ", seconds / size) << unit;
      return text;
    }
  return "";
}

std::string scaled(double value) {
  static constexpr std::pair<double, const char *> units[] = {
      {1e15, "P"}, {1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
  std::string text;
  for (auto [size, unit] : units)
    if (value >= size) {
      llvm::raw_string_ostream(text) << llvm::format("%.2f ", value / size) << unit;
      return text;
    }
  llvm::raw_string_ostream(text) << llvm::format("%.0f ", value);
  return text;
}

std::string chipsText(int64_t chips, int64_t replicas) {
  std::string text = std::to_string(chips) + (chips == 1 ? " chip" : " chips");
  return replicas == 1 ? text : std::to_string(replicas) + " replicas of " + text;
}

std::string steadyState(const timeline::Timeline &timeline) {
  int64_t replicas = timeline.figures.replicas;
  std::optional<Cycles> interval = timeline.figures.interval;
  if (!interval && replicas > 1)
    interval = timeline.cycles;
  if (!interval || interval->value == 0 || timeline.clockHertz == 0)
    return "";
  double perSecond = timeline.clockHertz / static_cast<double>(interval->value) * static_cast<double>(replicas);
  std::string text;
  llvm::raw_string_ostream(text) << "a run every " << interval->value << " cycles"
                                 << (replicas > 1 ? " in each of " + std::to_string(replicas) + " replicas, " : ", ")
                                 << llvm::format(perSecond < 100 ? "%.1f a second" : "%.0f a second", perSecond);
  return text;
}

void printTable(const timeline::Table &table, llvm::raw_ostream &os) {
  std::vector<size_t> widths;
  for (size_t column = 0; column < table.columns.size(); ++column) {
    widths.push_back(table.columns[column].size());
    for (const std::vector<std::string> &row : table.rows)
      widths.back() = std::max(widths.back(), row[column].size());
  }
  auto line = [&](llvm::ArrayRef<std::string> cells) {
    os << "  " << llvm::left_justify(cells[0], widths[0]);
    for (size_t column = 1; column < cells.size(); ++column)
      os << "  " << llvm::right_justify(cells[column], widths[column]);
    os << '\n';
  };
  if (!table.title.empty())
    os << "\n  " << table.title << '\n';
  line(table.columns);
  for (const std::vector<std::string> &row : table.rows)
    line(row);
  if (!table.note.empty())
    os << "  " << table.note << '\n';
}

} // namespace quadrille::reports
