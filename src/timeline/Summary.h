// Where the time went: cycles and utilisation for each track, category and kernel.
#pragma once

#include "timeline/Timeline.h"

#include <array>

namespace quadrille::timeline {

constexpr size_t categoryCount = 7;

struct CategoryTime {
  Cycles active;   // cycles in which at least one track is in this category
  Cycles onTracks; // summed over tracks
};

struct TrackTime {
  TrackId track = 0;
  std::array<Cycles, categoryCount> inCategory; // each cycle counts once in a category, however many spans cover it
  Cycles busy;                                  // cycles with compute, memory, exchange or io
  double utilisation = 0;                       // busy / the timeline's cycles; 0 when it has none
};

struct KernelTime {
  KernelId kernel = 0;
  Cycles begin, end; // of its first and last span
  Cycles active;     // cycles in which at least one track works on it (compute, memory, exchange or io)
  Cycles onTracks;   // the same summed over tracks
};

struct Summary {
  std::array<CategoryTime, categoryCount> categories; // indexed by Category
  std::vector<TrackTime> tracks;                      // those with spans, in the timeline's order
  std::vector<KernelTime> kernels; // those with spans, most active first, then in the timeline's order
  double flops = 0, bytes = 0;     // of all kernels of the timeline
};

Summary summarize(const Timeline &timeline);

} // namespace quadrille::timeline
