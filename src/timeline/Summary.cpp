#include "timeline/Summary.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <cassert>
#include <queue>

namespace quadrille::timeline {

const char *nameOf(Category category) {
  switch (category) {
  case Category::Compute:
    return "compute";
  case Category::Memory:
    return "memory";
  case Category::Exchange:
    return "exchange";
  case Category::Sync:
    return "sync";
  case Category::Stall:
    return "stall";
  case Category::Io:
    return "io";
  case Category::Idle:
    return "idle";
  }
  return "";
}

namespace {

bool isWork(Category category) {
  return category == Category::Compute || category == Category::Memory || category == Category::Exchange ||
         category == Category::Io;
}

// The cycles begin, begin + interval, ... before end.
struct Stretch {
  int64_t begin, end, interval;
  auto operator<=>(const Stretch &) const = default;
};
using Stretches = std::vector<Stretch>;

// How many cycles at least one of them takes; sorts.
Cycles unionOf(Stretches &stretches) {
  llvm::sort(stretches);
  stretches.erase(std::unique(stretches.begin(), stretches.end()), stretches.end());
  int64_t length = 0, reached = INT64_MIN; // cycles counted, all before `reached`
  // Of those that take one cycle in so many, what lies beyond.
  std::priority_queue<Stretch, Stretches, std::greater<>> rest;
  for (auto next = stretches.begin(); next != stretches.end() || !rest.empty();) {
    Stretch stretch;
    if (rest.empty() || (next != stretches.end() && *next < rest.top())) {
      stretch = *next++;
    } else {
      stretch = rest.top();
      rest.pop();
    }
    if (stretch.begin < reached) { // on to its first cycle that is not counted
      stretch.begin += (reached - stretch.begin + stretch.interval - 1) / stretch.interval * stretch.interval;
      if (stretch.begin < stretch.end)
        rest.push(stretch);
      continue;
    }
    if (stretch.begin >= stretch.end)
      continue;
    // It is alone until another begins.
    int64_t until =
        stretch.interval == 1
            ? stretch.end
            : std::max(stretch.begin + 1, std::min({stretch.end, next != stretches.end() ? next->begin : INT64_MAX,
                                                    rest.empty() ? INT64_MAX : rest.top().begin}));
    int64_t count = (until - stretch.begin - 1) / stretch.interval + 1;
    length += count;
    reached = stretch.begin + (count - 1) * stretch.interval + 1;
    stretch.begin += count * stretch.interval;
    if (stretch.begin < stretch.end)
      rest.push(stretch);
  }
  return Cycles(length);
}

} // namespace

Summary summarize(const Timeline &timeline) {
  Summary summary;
  for (const KernelRecord &kernel : timeline.kernels) {
    summary.flops += kernel.flops;
    summary.bytes += kernel.bytes;
  }

  // Spans by track, then by kernel; indices keep memory small for large timelines.
  std::vector<uint32_t> order(timeline.spans.size());
  for (uint32_t i = 0; i < order.size(); ++i)
    order[i] = i;
  auto forEachGroup = [&](auto key, auto handle) {
    llvm::sort(order, [&](uint32_t a, uint32_t b) {
      return std::pair(key(timeline.spans[a]), a) < std::pair(key(timeline.spans[b]), b);
    });
    for (size_t begin = 0; begin < order.size();) {
      size_t end = begin;
      while (end < order.size() && key(timeline.spans[order[end]]) == key(timeline.spans[order[begin]]))
        ++end;
      handle(llvm::ArrayRef(order).slice(begin, end - begin));
      begin = end;
    }
  };
  auto stretchOf = [](const Span &span) { return Stretch{span.begin.value, span.end.value, span.interval}; };

  forEachGroup([](const Span &span) { return span.track; },
               [&](llvm::ArrayRef<uint32_t> group) {
                 TrackTime time;
                 time.track = timeline.spans[group.front()].track;
                 std::array<Stretches, categoryCount> byCategory;
                 Stretches work;
                 for (uint32_t i : group) {
                   const Span &span = timeline.spans[i];
                   byCategory[static_cast<size_t>(span.category)].push_back(stretchOf(span));
                   if (isWork(span.category))
                     work.push_back(stretchOf(span));
                 }
                 for (size_t c = 0; c < categoryCount; ++c) {
                   time.inCategory[c] = unionOf(byCategory[c]);
                   summary.categories[c].onTracks += time.inCategory[c];
                 }
                 time.busy = unionOf(work);
                 if (timeline.cycles.value > 0)
                   time.utilisation = static_cast<double>(time.busy.value) / static_cast<double>(timeline.cycles.value);
                 summary.tracks.push_back(time);
               });

  forEachGroup([](const Span &span) { return span.category; },
               [&](llvm::ArrayRef<uint32_t> group) {
                 Stretches all;
                 for (uint32_t i : group)
                   all.push_back(stretchOf(timeline.spans[i]));
                 summary.categories[static_cast<size_t>(timeline.spans[group.front()].category)].active = unionOf(all);
               });

  forEachGroup([](const Span &span) { return std::pair(span.kernel, span.track); },
               [&](llvm::ArrayRef<uint32_t> group) {
                 const Span &first = timeline.spans[group.front()];
                 if (first.kernel == noKernel)
                   return;
                 if (summary.kernels.empty() || summary.kernels.back().kernel != first.kernel)
                   summary.kernels.push_back({first.kernel, first.begin, first.end, {}, {}});
                 KernelTime &time = summary.kernels.back();
                 Stretches work;
                 for (uint32_t i : group) {
                   const Span &span = timeline.spans[i];
                   time.begin = std::min(time.begin, span.begin);
                   time.end = std::max(time.end, span.end);
                   if (isWork(span.category))
                     work.push_back(stretchOf(span));
                 }
                 time.onTracks += unionOf(work);
               });
  size_t next = 0;
  forEachGroup([](const Span &span) { return span.kernel; },
               [&](llvm::ArrayRef<uint32_t> group) {
                 if (timeline.spans[group.front()].kernel == noKernel)
                   return;
                 Stretches work;
                 for (uint32_t i : group)
                   if (isWork(timeline.spans[i].category))
                     work.push_back(stretchOf(timeline.spans[i]));
                 assert(summary.kernels[next].kernel == timeline.spans[group.front()].kernel);
                 summary.kernels[next++].active = unionOf(work);
               });
  llvm::sort(summary.kernels, [](const KernelTime &a, const KernelTime &b) {
    return a.active != b.active ? a.active > b.active : a.kernel < b.kernel;
  });
  return summary;
}

} // namespace quadrille::timeline
