#include "target/tsp/ChannelCheck.h"

#include "target/tsp/Meeting.h"

#include "llvm/ADT/BitVector.h"

namespace quadrille::tsp {

void ChannelCheck::add(uint32_t run, const Effects &effects) {
  list(drivers, run, effects.drives);
  list(readers, run, effects.reads);
}

void ChannelCheck::list(EndsByChannel &to, uint32_t run, llvm::ArrayRef<ChannelEnd> ends) {
  for (size_t begin = 0, end = 0; begin < ends.size(); begin = end) {
    const ChannelEnd &first = ends[begin];
    auto alike = [&](const ChannelEnd &other, size_t distance) {
      return other.channel == first.channel + distance && other.coordinate == first.coordinate &&
             other.place == first.place && other.delay == first.delay;
    };
    while (end < ends.size() && alike(ends[end], end - begin))
      ++end;
    auto width = static_cast<uint8_t>(end - begin);
    to[first.channel].push_back(
        {run, static_cast<int32_t>(first.place), first.delay - first.coordinate, static_cast<uint8_t>(begin), width});
    widest = std::max<uint32_t>(widest, width);
  }
}

// Ascending in the first diagonal.
std::vector<ChannelCheck::End> ChannelCheck::endsOf(const EndsByChannel &from, uint32_t channel) const {
  std::vector<End> result;
  for (uint32_t first = channel < widest ? 0 : channel - widest + 1; first <= channel; ++first)
    for (const Ends &ends : from[first])
      if (channel - first < ends.width)
        result.push_back({runs[ends.run].cycles.shifted(ends.delay), ends.place, ends.run,
                          static_cast<uint8_t>(ends.index + channel - first)});
  sortBySpan(result);
  return result;
}

class ChannelCheck::Channel {
public:
  Channel(ChannelCheck &check, uint32_t number)
      : check(check), findings(check.findings), number(number), drivers(check.endsOf(check.drivers, number)),
        readers(check.endsOf(check.readers, number)), holders(drivers) {}

  void resolve() {
    Meeting<End> driving(drivers);
    for (const End &reader : readers) {
      auto meeting = driving.with(reader.span);
      if (!findings.spend(Findings::Comparison, 1 + meeting.size()))
        return;
      findRest(reader, meeting, drivers, [&](const End &driver) { return driver.place <= reader.place; });
      if (!rest.empty())
        undriven(reader);
    }
    compareDrivers();
    if (!isLinkChannel(number, check.machine))
      return;
    Meeting<End> taking(readers);
    for (const End &driver : drivers) {
      auto meeting = taking.with(driver.span);
      if (!findings.spend(Findings::Comparison, 1 + meeting.size()))
        return;
      findRest(driver, meeting, readers, [](const End &) { return true; });
      bool wanted = true;
      for (IndexRange range : rest)
        for (int64_t k = range.first; k <= range.last && wanted; ++k)
          wanted = neverTaken(driver, k);
    }
  }

private:
  Issue issueOf(const End &end, int64_t k) const { return check.runs[end.run].issue(k); }
  std::string name() const { return channelName(number, check.machine); }

  // Leaves in `rest` which issues of `end` are on no diagonal of those of `others` that count.
  template <typename Counts>
  void findRest(const End &end, llvm::ArrayRef<uint32_t> meeting, const std::vector<End> &others,
                const Counts &counts) {
    rest.clear();
    covered.clear();
    scattered.clear();
    int64_t count = end.span.count;
    for (uint32_t index : meeting) {
      if (!counts(others[index]))
        continue;
      auto common = commonIndices(end.span, others[index].span);
      if (!common)
        continue;
      if (common->count == count)
        return;
      if (common->interval == 1 || common->count == 1)
        covered.push_back({common->first, common->last()});
      else
        scattered.push_back(*common);
    }
    if (!scattered.empty())
      return findRestOneByOne(count);
    llvm::sort(covered, [](const IndexRange &a, const IndexRange &b) { return a.first < b.first; });
    int64_t next = 0;
    for (IndexRange range : covered) {
      if (range.first > next)
        rest.push_back({next, range.first - 1});
      next = std::max(next, range.last + 1);
    }
    if (next < count)
      rest.push_back({next, count - 1});
  }
  // Drivers that interleave: only all together they cover the issues.
  void findRestOneByOne(int64_t count) {
    if (!findings.spend(Findings::Element, static_cast<size_t>(count)))
      return;
    llvm::BitVector seen(static_cast<unsigned>(count));
    for (IndexRange range : covered)
      seen.set(static_cast<unsigned>(range.first), static_cast<unsigned>(range.last + 1));
    for (const Progression &indices : scattered) {
      if (!findings.spend(Findings::Element, static_cast<size_t>(indices.count)))
        return;
      for (int64_t k = 0; k < indices.count; ++k)
        seen.set(static_cast<unsigned>(indices.at(k)));
    }
    for (int first = seen.find_first_unset(); first >= 0;) {
      int behind = seen.find_next(static_cast<unsigned>(first));
      rest.push_back({first, behind < 0 ? count - 1 : behind - 1});
      first = behind < 0 ? -1 : seen.find_next_unset(static_cast<unsigned>(behind));
    }
  }

  // The issues in `rest` read nothing.
  void undriven(const End &reader) {
    bool wanted = true;
    for (IndexRange range : rest)
      for (int64_t k = range.first; k <= range.last && wanted; ++k)
        wanted = findings.add(issueOf(reader, k), Findings::Stage::Undriven, reader.index, 0,
                              [&] { return hazard::undriven(name()); });
    const IssueRun &run = check.runs[reader.run];
    Opcode opcode = check.queues[run.queue].instructions[run.instruction].op();
    // Each of these is a finding itself: when there are many it no longer matters what else there is to find.
    constexpr size_t mostRanges = size_t(1) << 20;
    if ((opcode == Opcode::Gather || opcode == Opcode::Scatter) && check.missingRanges < mostRanges) {
      llvm::append_range(check.missing[reader.run], rest);
      check.missingRanges += rest.size();
    }
  }

  bool neverTaken(const End &driver, int64_t k) {
    return findings.addInTheEnd(issueOf(driver, k), [&] { return hazard::neverTaken(name()); });
  }

  void compareDrivers() {
    Meeting<End> driving(drivers);
    for (auto [index, driver] : llvm::enumerate(drivers)) {
      auto meeting = driving.with(driver.span);
      if (!findings.spend(Findings::Comparison, 1 + meeting.size()))
        return;
      for (uint32_t other : meeting.take_while([&, index = index](uint32_t other) { return other < index; }))
        if (drivers[other].place == driver.place)
          if (auto common = commonIndices(driver.span, drivers[other].span))
            twice(driver, drivers[other], driver.span.at(common->first));
    }
  }

  // Both drive at one place, on the diagonal `from` for the first time.
  void twice(const End &a, const End &b, int64_t from) {
    // Whichever is issued first is so on all diagonals that they share.
    auto before = [&](const End &x, const End &y) {
      return momentOf(issueOf(x, *x.span.indexOf(from)), check.queues) <
             momentOf(issueOf(y, *y.span.indexOf(from)), check.queues);
    };
    const End &first = before(a, b) ? a : b, &second = before(a, b) ? b : a;
    Progression later = *commonIndices(second.span, first.span), earlier = *commonIndices(first.span, second.span);
    for (int64_t k = 0; k < later.count && findings.spend(Findings::Conflict); ++k)
      if (!findings.add(issueOf(second, later.at(k)), Findings::Stage::Driver, second.index, 0,
                        [&] { return hazard::twoDrivers(name(), lastBefore(second, later.at(k))); }))
        break;
    if (isLinkChannel(number, check.machine)) // the later vector replaces it
      for (int64_t k = 0; k < earlier.count && findings.spend(Findings::Conflict); ++k)
        if (!neverTaken(first, earlier.at(k)))
          break;
  }
  // The last of those that drive in the place of a driver's issue before it.
  std::string lastBefore(const End &driver, int64_t k) {
    Moment moment = momentOf(issueOf(driver, k), check.queues), latest;
    Issue last;
    int64_t diagonal = driver.span.at(k);
    size_t compared = 0;
    holders.forEachAt(diagonal, [&](const End &other) {
      ++compared;
      Issue issue = issueOf(other, *other.span.indexOf(diagonal));
      Moment at = momentOf(issue, check.queues);
      if (other.place == driver.place && at < moment && at >= latest) {
        latest = at;
        last = issue;
      }
    });
    findings.spend(Findings::Comparison, compared);
    return print(last, check.queues);
  }

  ChannelCheck &check;
  Findings &findings;
  uint32_t number;
  std::vector<End> drivers, readers;
  Holders<End> holders;
  std::vector<IndexRange> rest, covered;
  std::vector<Progression> scattered;
};

void ChannelCheck::resolve() {
  for (uint32_t channel = 0; channel < drivers.size() && !findings.exhausted(); ++channel)
    Channel(*this, channel).resolve();
  for (auto &[run, ranges] : missing)
    llvm::sort(ranges, [](const IndexRange &a, const IndexRange &b) { return a.first < b.first; });
}

} // namespace quadrille::tsp
