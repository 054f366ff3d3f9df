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

void printProfile(const Timeline &timeline, llvm::raw_ostream &os, size_t rows) {
  Summary summary = summarize(timeline);
  os << timeline.model << " on " << timeline.machine << '\n';
  double seconds = timeline.deviceSeconds();
  if (timeline.clockHertz > 0)
    os << "  device     " << timeline.cycles.value << " cycles, " << duration(seconds)
       << llvm::format(" at %.0f MHz\n", timeline.clockHertz / 1e6);
  else
    os << "  device     no clock\n";
  if (std::string steady = steadyState(timeline); !steady.empty())
    os << "  steady     " << steady << '\n';
  if (timeline.hostSeconds > 0)
    os << "  host       " << duration(timeline.hostSeconds) << '\n';
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
