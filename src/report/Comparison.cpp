#include "report/Comparison.h"

#include "base/Json.h"
#include "report/Format.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>

namespace quadrille::reports {

const char *nameOf(ComparisonStatus status) {
  switch (status) {
  case ComparisonStatus::Ok:
    return "ok";
  case ComparisonStatus::DoesNotFit:
    return "does_not_fit";
  case ComparisonStatus::Unsupported:
    return "unsupported";
  case ComparisonStatus::NotExecuted:
    return "not_executed";
  case ComparisonStatus::Disagrees:
    return "disagrees";
  case ComparisonStatus::Failed:
    return "failed";
  }
  return "";
}

// From the start of a run to that of the next, on the device.
static double intervalSeconds(const timeline::Timeline &timeline) {
  Cycles interval = timeline.figures.interval.value_or(timeline.cycles);
  return timeline.clockHertz > 0 ? static_cast<double>(interval.value) / timeline.clockHertz : 0;
}

std::optional<double> shareOfPeak(const timeline::Timeline &timeline, double productFlops) {
  double seconds = intervalSeconds(timeline);
  if (!timeline.figures.peakOperations || !(productFlops > 0) || !(seconds > 0))
    return std::nullopt;
  return static_cast<double>(timeline.figures.replicas) * productFlops / seconds / *timeline.figures.peakOperations;
}

std::optional<double> MachineComparison::latencySeconds() const {
  return timed() ? std::optional(timeline->deviceSeconds() + timeline->hostSeconds) : std::nullopt;
}

std::optional<double> MachineComparison::throughput() const {
  if (!timed())
    return std::nullopt;
  double interval = std::max(intervalSeconds(*timeline), timeline->hostIntervalSeconds());
  if (!(interval > 0))
    return std::nullopt;
  return static_cast<double>(program->replicas * std::max<int64_t>(program->batch, 1)) / interval;
}

std::optional<std::string> MachineComparison::limitedBy() const {
  if (!timed() || timeline->clockHertz == 0)
    return std::nullopt;
  if (timeline->hostIntervalSeconds() > intervalSeconds(*timeline))
    return "host link";
  return timeline->figures.limitedBy.empty() ? std::nullopt : std::optional(timeline->figures.limitedBy);
}

namespace {

template <typename... Values> std::string formatted(const char *format, Values... values) {
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format(format, values...);
  return text;
}

// "12.3 MiB"
std::string mebibytes(double bytes) {
  return formatted(bytes < 100 * 0x1p20 ? "%.1f" : "%.0f", bytes * 0x1p-20);
}

std::vector<std::string> cellsOf(const MachineComparison &machine) {
  std::string status = nameOf(machine.status);
  std::replace(status.begin(), status.end(), '_', ' ');
  std::vector<std::string> cells = {machine.machine, status};
  auto add = [&](std::optional<std::string> cell) { cells.push_back(cell.value_or("-")); };
  auto number = [&](std::optional<double> value, auto text) {
    add(value ? std::optional(text(*value)) : std::nullopt);
  };
  const auto &program = machine.program;
  add(program ? std::optional(std::to_string(program->chips)) : std::nullopt);
  add(program && program->replicas > 1 ? std::optional(std::to_string(program->replicas)) : std::nullopt);
  add(program ? std::optional(program->precision) : std::nullopt);
  const timeline::Timeline *timeline = machine.timed() ? &*machine.timeline : nullptr;
  add(timeline && timeline->clockHertz > 0 ? std::optional(std::to_string(timeline->cycles.value)) : std::nullopt);
  number(machine.latencySeconds(), duration);
  number(machine.throughput(), [](double value) { return formatted(value < 100 ? "%.1f" : "%.0f", value); });
  number(timeline ? shareOfPeak(*timeline, machine.productFlops) : std::nullopt,
         [](double value) { return formatted("%.3g%%", 100 * value); });
  if (timeline && timeline->figures.memoryBytes && timeline->figures.memoryPeakBytes)
    add(mebibytes(*timeline->figures.memoryPeakBytes) + " of " + mebibytes(*timeline->figures.memoryBytes));
  else
    add(std::nullopt);
  number(timeline ? timeline->figures.energyJoules : std::nullopt,
         [](double value) { return formatted("%.3g", value * 1e3); });
  number(machine.error ? std::optional(machine.error->relativeL2) : std::nullopt,
         [](double value) { return formatted("%.1e", value); });
  add(machine.limitedBy());
  return cells;
}

} // namespace

void printComparison(const Comparison &comparison, llvm::raw_ostream &os) {
  os << comparison.model;
  for (const MachineComparison &machine : comparison.machines)
    if (machine.program) {
      if (machine.program->batch > 0)
        os << ", batch " << machine.program->batch;
      break;
    }
  os << '\n';
  timeline::Table table;
  table.columns = {"machine", "status",  "chips",      "replicas", "precision", "cycles",    "latency",
                   "per s",   "of peak", "memory MiB", "mJ",       "error",     "limited by"};
  for (const MachineComparison &machine : comparison.machines)
    table.rows.push_back(cellsOf(machine));
  // What no machine has is no column.
  for (size_t column = table.columns.size(); column-- > 1;)
    if (llvm::all_of(table.rows, [&](const auto &row) { return row[column] == "-"; })) {
      table.columns.erase(table.columns.begin() + static_cast<ptrdiff_t>(column));
      for (std::vector<std::string> &row : table.rows)
        row.erase(row.begin() + static_cast<ptrdiff_t>(column));
    }
  printTable(table, os);
  // Machines that are made of the same chips often have the same reason.
  std::vector<std::pair<std::string, std::string>> reasons; // with the machines
  for (const MachineComparison &machine : comparison.machines) {
    if (machine.reason.empty())
      continue;
    auto same = llvm::find_if(reasons, [&](const auto &each) { return each.first == machine.reason; });
    if (same == reasons.end())
      reasons.emplace_back(machine.reason, machine.machine);
    else
      same->second += ", " + machine.machine;
  }
  for (const auto &[reason, machines] : reasons)
    os << "  " << machines << ": " << reason << '\n';
  std::string assumed;
  for (const MachineComparison &machine : comparison.machines)
    if (machine.timed() && !machine.timeline->assumedFigures.empty())
      assumed += (assumed.empty() ? "" : ", ") + machine.machine + " on " +
                 std::to_string(machine.timeline->assumedFigures.size());
  if (!assumed.empty())
    os << "  cycles depend on machine figures that are assumed, not published: " << assumed << "; --json names them\n";
}

void writeComparison(const Comparison &comparison, llvm::raw_ostream &os) {
  llvm::json::OStream json(os, 2);
  json.object([&] {
    writeText(json, "model", comparison.model);
    json.attributeArray("machines", [&] {
      for (const MachineComparison &machine : comparison.machines)
        json.object([&] {
          const auto &program = machine.program;
          const timeline::Timeline *timeline = machine.timed() ? &*machine.timeline : nullptr;
          bool clocked = timeline && timeline->clockHertz > 0;
          writeText(json, "machine", machine.machine);
          json.attribute("status", nameOf(machine.status));
          writeText(json, "reason", machine.reason.empty() ? std::nullopt : std::optional(machine.reason));
          writeInteger(json, "chips", program ? std::optional(program->chips) : std::nullopt);
          writeInteger(json, "replicas", program ? std::optional(program->replicas) : std::nullopt);
          writeText(json, "precision", program ? std::optional(program->precision) : std::nullopt);
          writeInteger(json, "batch", program ? std::optional(program->batch) : std::nullopt);
          writeInteger(json, "cycles", clocked ? std::optional(timeline->cycles.value) : std::nullopt);
          writeNumber(json, "latency_s", machine.latencySeconds());
          writeNumber(json, "throughput_per_s", machine.throughput());
          writeNumber(json, "device_s", clocked ? std::optional(timeline->deviceSeconds()) : std::nullopt);
          writeNumber(json, "host_s", timeline ? std::optional(timeline->hostSeconds) : std::nullopt);
          writeNumber(json, "host_interval_s",
                      timeline ? std::optional(timeline->hostIntervalSeconds()) : std::nullopt);
          writeNumber(json, "share_of_peak", timeline ? shareOfPeak(*timeline, machine.productFlops) : std::nullopt);
          if (timeline && timeline->figures.memoryBytes && timeline->figures.memoryPeakBytes)
            json.attributeObject("memory", [&] {
              writeNumber(json, "capacity_bytes", timeline->figures.memoryBytes);
              writeNumber(json, "peak_bytes", timeline->figures.memoryPeakBytes);
            });
          else
            json.attribute("memory", nullptr);
          writeNumber(json, "energy_j", timeline ? timeline->figures.energyJoules : std::nullopt);
          if (machine.error)
            json.attributeObject("error", [&] {
              writeNumber(json, "relative_l2", machine.error->relativeL2);
              writeNumber(json, "max_abs", machine.error->maxAbs);
            });
          else
            json.attribute("error", nullptr);
          writeText(json, "limited_by", machine.limitedBy());
          json.attributeArray("assumed", [&] {
            if (timeline)
              for (const std::string &figure : timeline->assumedFigures)
                json.value(llvm::json::fixUTF8(figure));
          });
        });
    });
  });
  os << '\n';
}

} // namespace quadrille::reports
