#include "report/TextReport.h"

#include "report/Format.h"
#include "timeline/Summary.h"
#include "timeline/Write.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>

namespace quadrille::reports {

using namespace timeline;

static double percent(Cycles part, Cycles whole) {
  return whole.value > 0 ? 100.0 * static_cast<double>(part.value) / static_cast<double>(whole.value) : 0;
}

static void omitted(size_t total, size_t shown, const char *what, llvm::raw_ostream &os) {
  if (total > shown)
    os << "  ... and " << total - shown << " more " << what << '\n';
}

static std::string share(double part, double whole) {
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("%.1f%%", whole > 0 ? 100 * part / whole : 0);
  return text;
}

// Causes without a cycle have no row and no column.
static void printAttribution(const Timeline &timeline, const Summary &summary, size_t rows, llvm::raw_ostream &os) {
  const Attribution &attribution = timeline.attribution;
  auto all = static_cast<double>(timeline.cycles.value) * static_cast<double>(attribution.devices.size());
  if (all == 0)
    return;
  std::vector<Cycles> sums(attribution.causes.size());
  for (const std::vector<Cycles> &device : attribution.devices)
    for (size_t cause = 0; cause < sums.size(); ++cause)
      sums[cause] += device[cause];
  std::vector<size_t> causes;
  for (size_t cause = 0; cause < sums.size(); ++cause)
    if (sums[cause].value > 0)
      causes.push_back(cause);
  double peakCycles = 0;
  std::vector<Attribution::Share> shares = attribution.kernels;
  auto total = [](const Attribution::Share &of) {
    Cycles sum;
    for (Cycles each : of.cycles)
      sum += each;
    return sum;
  };
  for (const Attribution::Share &each : shares)
    peakCycles += each.peakCycles;
  llvm::sort(shares, [&](const Attribution::Share &a, const Attribution::Share &b) {
    return total(a) != total(b) ? total(a) > total(b) : a.kernel < b.kernel;
  });

  Table table{"where the cycles went", {"cause", "cycles", "share"}, {}, ""};
  for (size_t cause : causes)
    table.rows.push_back({attribution.causes[cause], std::to_string(sums[cause].value),
                          share(static_cast<double>(sums[cause].value), all)});
  table.note = attribution.peakName + " at " + share(peakCycles, all) + " of the peak";
  printTable(table, os);

  if (attribution.devices.size() > 1) {
    Table devices{"by device", {"device"}, {}, ""};
    for (size_t cause : causes)
      devices.columns.push_back(attribution.causes[cause]);
    for (auto [number, cycles] : llvm::enumerate(attribution.devices)) {
      std::vector<std::string> &row = devices.rows.emplace_back(1, std::to_string(number));
      for (size_t cause : causes)
        row.push_back(std::to_string(cycles[cause].value));
    }
    printTable(devices, os);
  }

  Table nodes{"by node", {"node", "cycles", "share"}, {}, ""};
  for (size_t cause : causes)
    nodes.columns.push_back(attribution.causes[cause]);
  nodes.columns.insert(nodes.columns.end(), {attribution.peakName, "bytes", "first", "last"});
  for (const Attribution::Share &each : llvm::ArrayRef(shares).take_front(rows)) {
    auto cycles = static_cast<double>(total(each).value);
    bool none = each.kernel == noKernel;
    std::vector<std::string> &row = nodes.rows.emplace_back(1, none ? "(none)" : timeline.kernels[each.kernel].name);
    row.push_back(std::to_string(total(each).value));
    row.push_back(share(cycles, all));
    for (size_t cause : causes)
      row.push_back(std::to_string(each.cycles[cause].value));
    row.push_back(share(each.peakCycles, cycles));
    row.push_back(none ? "-" : scaled(timeline.kernels[each.kernel].bytes) + "B");
    auto time = llvm::find_if(summary.kernels, [&](const KernelTime &of) { return of.kernel == each.kernel; });
    bool timed = !none && time != summary.kernels.end();
    row.push_back(timed ? std::to_string(time->begin.value) : "-");
    row.push_back(timed ? std::to_string(time->end.value - 1) : "-");
  }
  printTable(nodes, os);
  omitted(shares.size(), rows, "nodes", os);
}

void printProfile(const Timeline &timeline, llvm::raw_ostream &os, size_t rows) {
  Summary summary = summarize(timeline);
  os << timeline.model << " on " << timeline.machine << '\n';
  double seconds = timeline.deviceSeconds();
  if (timeline.figures.replicas > 1)
    os << "  replicas   " << timeline.figures.replicas << "; all below but for steady is of one\n";
  if (timeline.clockHertz > 0)
    os << "  device     " << timeline.cycles.value << " cycles, " << duration(seconds)
       << llvm::format(" at %.0f MHz\n", timeline.clockHertz / 1e6);
  else
    os << "  device     no clock\n";
  if (std::string steady = steadyState(timeline); !steady.empty())
    os << "  steady     " << steady << '\n';
  if (timeline.hostSeconds > 0)
    os << "  host       " << duration(timeline.hostSeconds)
       << (timeline.hostIntervalSeconds() > timeline.hostSeconds
               ? "; it takes " + duration(timeline.hostIntervalSeconds()) + " for a run of each replica beside"
               : "")
       << '\n';
  double total = seconds + timeline.hostSeconds;
  if (timeline.kernels.empty()) {
    os << "  work       not known: nothing is attributed to nodes of a model\n";
  } else {
    os << "  work       " << scaled(summary.flops) << "FLOP, " << scaled(summary.bytes)
       << "B read and written by kernels";
    if (total > 0)
      os << "; " << scaled(summary.flops / total) << "FLOP/s, " << scaled(summary.bytes / total) << "B/s";
    os << '\n';
  }

  if (!timeline.spans.empty()) {
    os << "\n  category    active cycles   share summed on tracks\n";
    for (size_t c = 0; c < categoryCount; ++c)
      if (const CategoryTime &time = summary.categories[c]; time.onTracks.value > 0)
        os << llvm::format("  %-10s %14lld %6.1f%% %16lld\n", nameOf(static_cast<Category>(c)),
                           static_cast<long long>(time.active.value), percent(time.active, timeline.cycles),
                           static_cast<long long>(time.onTracks.value));

    std::vector<TrackTime> tracks = summary.tracks;
    llvm::sort(tracks, [](const TrackTime &a, const TrackTime &b) {
      return a.busy != b.busy ? a.busy > b.busy : a.track < b.track;
    });
    os << "\n     busy cycles   used  track\n";
    for (const TrackTime &time : llvm::ArrayRef(tracks).take_front(rows))
      os << llvm::format("  %14lld %5.1f%%  ", static_cast<long long>(time.busy.value), 100 * time.utilisation)
         << pathOf(timeline, time.track) << '\n';
    omitted(tracks.size(), rows, "tracks", os);
  }

  if (!summary.kernels.empty()) {
    os << "\n   active cycles   share         FLOP   FLOP/cycle  kind       kernel (nodes)\n";
    for (const KernelTime &time : llvm::ArrayRef(summary.kernels).take_front(rows)) {
      const KernelRecord &kernel = timeline.kernels[time.kernel];
      os << llvm::format("  %14lld %6.1f%% %12s %12.1f  %-10s ", static_cast<long long>(time.active.value),
                         percent(time.active, timeline.cycles), scaled(kernel.flops).c_str(),
                         time.active.value > 0 ? kernel.flops / static_cast<double>(time.active.value) : 0.0,
                         kernel.kind.c_str())
         << kernel.name;
      if (!kernel.nodes.empty())
        os << " (" << llvm::join(kernel.nodes, ", ") << ')';
      os << '\n';
    }
    omitted(summary.kernels.size(), rows, "kernels", os);
  }

  printAttribution(timeline, summary, rows, os);

  for (const Table &table : timeline.tables)
    printTable(table, os);

  if (!timeline.assumedFigures.empty()) {
    os << "\n  These cycles depend on machine figures that are assumed, not published:\n";
    size_t column = 0;
    for (const std::string &figure : timeline.assumedFigures) {
      if (column == 0 || column + 1 + figure.size() > 116) {
        os << (column == 0 ? "   " : "\n   ");
        column = 3;
      }
      os << ' ' << figure;
      column += 1 + figure.size();
    }
    os << '\n';
  }
}

} // namespace quadrille::reports
