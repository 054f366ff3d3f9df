#include "target/tsp/Channels.h"

#include "llvm/ADT/STLExtras.h"

#include <tuple>

namespace quadrille::tsp {

llvm::Error Channels::add(const std::shared_ptr<Work> &work, const Queues &queues) {
  for (const ChannelEnd &drive : work->effects.drives) {
    Progression diagonals = work->burst.cycles.shifted(drive.delay - drive.coordinate);
    for (const Run &other : list[drive.channel])
      if (other.place == drive.place)
        if (auto k = firstCommon(diagonals, other.diagonals)) {
          int64_t otherIssue = *other.diagonals.indexOf(diagonals.at(*k));
          return hazardError(work->burst.issue(*k), queues,
                             hazard::twoDrivers(channelName(drive.channel, machine),
                                                print(other.work->burst.issue(otherIssue), queues)));
        }
    if (list[drive.channel].empty())
      active.push_back(drive.channel);
    list[drive.channel].push_back({diagonals, drive.place, drive.coordinate, drive.part, work});
  }
  return llvm::Error::success();
}

Channels::Found Channels::find(const Work &reader, const ChannelEnd &read, int64_t from, int64_t count) const {
  Progression wanted = reader.burst.cycles.part(from, count).shifted(read.delay - read.coordinate);
  const Run *nearest = nullptr;
  int64_t index = 0;
  for (const Run &run : list[read.channel])
    if (run.place <= read.place && (!nearest || run.place > nearest->place))
      if (auto at = run.diagonals.indexOf(wanted.first)) {
        nearest = &run;
        index = *at;
      }
  if (!nearest)
    return {};
  Found found{nearest->work.get(), 1, index, 1, nearest->part, nearest->coordinate};
  if (count > 1 && wanted.interval % nearest->diagonals.interval == 0) {
    found.step = wanted.interval / nearest->diagonals.interval;
    found.count = std::min(count, (nearest->diagonals.count - 1 - index) / found.step + 1);
  }
  // A driver further along may step in later.
  if (found.count > 1)
    for (const Run &run : list[read.channel])
      if (run.place <= read.place && run.place > nearest->place)
        if (auto k = firstCommon(wanted, run.diagonals))
          found.count = std::min(found.count, *k);
  int64_t executed = found.driver->done - found.first;
  found.count = executed <= 0 ? 0 : std::min(found.count, (executed - 1) / found.step + 1);
  return found;
}

llvm::Error Channels::find(const Context &context, const Work &reader, int64_t &count,
                           llvm::SmallVectorImpl<Found> &found) const {
  found.clear();
  for (const ChannelEnd &read : reader.effects.reads) {
    Found here = find(reader, read, reader.done, count);
    if (!here.driver)
      return context.hazard(reader, reader.done, hazard::undriven(channelName(read.channel, machine)));
    found.push_back(here);
    count = std::min(count, here.count);
    if (count == 0)
      return llvm::Error::success();
  }
  return llvm::Error::success();
}

Vectors Channels::vectors(const Context &context, const Found &found) const {
  if (!context.values)
    return {};
  return {context.result(*found.driver, found.part, found.first), found.step * machine.vectorBytes()};
}

void Channels::noteIfNotTaken(uint32_t channel, const Run &run) {
  if (!isLinkChannel(channel, machine) || run.work->taken == run.work->count())
    return;
  // Of a burst any may have been left: this says that one was, and its name counts only issue by issue.
  Issue issue = run.work->burst.issue(run.work->taken);
  if (!firstNotTaken ||
      std::tie(issue.cycle, issue.queue) < std::tie(firstNotTaken->first.cycle, firstNotTaken->first.queue))
    firstNotTaken = {issue, channel};
}

void Channels::drop(int64_t cycle) {
  llvm::erase_if(active, [&](uint32_t channel) {
    llvm::erase_if(list[channel], [&](const Run &run) {
      bool past = run.diagonals.last() + machine.farthest() < cycle;
      if (past)
        noteIfNotTaken(channel, run);
      return past;
    });
    return list[channel].empty();
  });
}

std::optional<LeftOver> Channels::leftOver() {
  for (uint32_t channel : active)
    for (const Run &run : list[channel])
      noteIfNotTaken(channel, run);
  if (!firstNotTaken)
    return std::nullopt;
  return LeftOver{firstNotTaken->first, hazard::neverTaken(channelName(firstNotTaken->second, machine))};
}

} // namespace quadrille::tsp
