#include "target/tsp/IssueRuns.h"

#include "llvm/ADT/STLExtras.h"

#include <map>
#include <queue>

namespace quadrille::tsp {

namespace {

// All queues up to their next sync; then, as long as notifications arrive, in the order of their arrival, the queues
// that wait for them.
class QueueWalk {
public:
  QueueWalk(const Queues &queues, const Architecture &machine)
      : queues(queues), machine(machine), capacity(machine.bufferBytes / machine.instructionBytes),
        perFetch(machine.fetchBytes / machine.instructionBytes), progress(queues.size()) {}

  IssueRuns take() {
    for (uint32_t queue = 0; queue < queues.size(); ++queue)
      walk(queue);
    while (!waiting.empty() && !arrivals.empty()) {
      auto [arrival, chip] = *arrivals.begin();
      arrivals.erase(arrivals.begin());
      for (uint32_t queue : std::exchange(waiting, {})) {
        if (progress[queue].clock >= arrival || queues.chipOf(queue) != chip) {
          waiting.push_back(queue);
          continue;
        }
        progress[queue].clock = arrival;
        progress[queue].next += 1;
        walk(queue);
      }
    }
    llvm::sort(waiting);
    for (uint32_t queue : waiting)
      result.notReleased.push_back({progress[queue].clock, queue, progress[queue].next, 0});
    return std::move(result);
  }

private:
  struct Progress {
    uint32_t next = 0;
    int64_t clock = 0;
    std::vector<int64_t> fetched; // arrivals, ascending
    size_t arrived = 0;           // of them
  };

  // Empty when the instruction is in the queue's buffer; a fetch also needs something to fetch, and room for it.
  std::string bufferProblem(Progress &at, uint32_t queue, bool fetches) const {
    auto index = static_cast<int64_t>(at.next), total = static_cast<int64_t>(queues[queue].instructions.size());
    while (at.arrived < at.fetched.size() && at.fetched[at.arrived] <= at.clock)
      ++at.arrived;
    if (index >= capacity + static_cast<int64_t>(at.arrived) * perFetch)
      return hazard::fetchUnderrun();
    int64_t ordered = capacity + static_cast<int64_t>(at.fetched.size()) * perFetch;
    if (fetches && ordered >= total)
      return hazard::fetchBeyond();
    if (fetches && ordered + perFetch - index - 1 > capacity)
      return hazard::fetchOverrun(capacity);
    return "";
  }

  void walk(uint32_t queue) {
    Progress &at = progress[queue];
    bool repeatable = false; // the instruction before this one
    for (; at.next < queues[queue].instructions.size(); ++at.next) {
      const Instruction &instruction = queues[queue].instructions[at.next];
      std::string problem =
          at.clock > hazard::longest ? hazard::tooLong() : bufferProblem(at, queue, instruction.op() == Opcode::Fetch);
      bool before = std::exchange(repeatable, false);
      if (problem.empty() && instruction.op() == Opcode::Repeat && !before)
        problem = hazard::nothingToRepeat();
      if (!problem.empty()) {
        result.problems.push_back({{at.clock, queue, at.next, 0}, std::move(problem)});
        return;
      }
      switch (instruction.op()) {
      case Opcode::Nop:
        at.clock += instruction.word[0];
        break;
      case Opcode::Notify:
        arrivals.emplace(at.clock + machine.barrier, queues.chipOf(queue));
        at.clock += 1;
        break;
      case Opcode::Sync:
        waiting.push_back(queue);
        return;
      case Opcode::Fetch:
        at.fetched.push_back(at.clock + machine.fetchLatency);
        at.clock += 1;
        break;
      case Opcode::Deskew:
        if (int64_t beyond = at.clock % machine.counterPeriod)
          at.clock += machine.counterPeriod - beyond;
        break;
      case Opcode::Repeat: {
        Progression &cycles = result.runs.back().cycles;
        cycles.interval = instruction.word[1];
        cycles.count = int64_t(instruction.word[0]) + 1;
        at.clock = cycles.last() + 1;
        break;
      }
      default:
        result.runs.push_back({queue, at.next, 0, {at.clock, 1, 1}});
        repeatable = true;
        at.clock += 1;
        break;
      }
    }
  }

  const Queues &queues;
  const Architecture &machine;
  int64_t capacity, perFetch;
  std::vector<Progress> progress;
  std::vector<uint32_t> waiting;
  std::multimap<int64_t, int64_t> arrivals; // of notifications, with their chips
  IssueRuns result;
};

} // namespace

IssueRuns issueRuns(const Queues &queues, const Architecture &machine) {
  return QueueWalk(queues, machine).take();
}

void forEachInOrder(std::vector<IssueRun> runs, const Queues &queues,
                    llvm::function_ref<bool(const IssueRun &part)> visit) {
  struct Pending {
    Moment moment; // of the next issue
    IssueRun rest;
    bool operator>(const Pending &other) const { return moment > other.moment; }
  };
  std::vector<std::pair<Moment, uint32_t>> sorted;
  sorted.reserve(runs.size());
  for (uint32_t i = 0; i < runs.size(); ++i)
    sorted.emplace_back(momentOf(runs[i].issue(0), queues), i);
  llvm::sort(sorted);
  std::priority_queue<Pending, std::vector<Pending>, std::greater<>> begun;
  for (size_t next = 0; next < sorted.size() || !begun.empty();) {
    Pending now;
    if (begun.empty() || (next < sorted.size() && sorted[next].first < begun.top().moment)) {
      now = {sorted[next].first, runs[sorted[next].second]};
      ++next;
    } else {
      now = begun.top();
      begun.pop();
    }
    const Progression &cycles = now.rest.cycles;
    int64_t count = cycles.count;
    const Moment *other = begun.empty() ? nullptr : &begun.top().moment;
    if (next < sorted.size() && (!other || sorted[next].first < *other))
      other = &sorted[next].first;
    if (other) {
      count = std::min(count, std::max<int64_t>(1, (other->cycle - cycles.first - 1) / cycles.interval + 1));
      if (count < cycles.count && Moment{cycles.at(count), now.moment.rank, now.moment.queue} < *other)
        ++count;
    }
    if (!visit(now.rest.part(0, count)))
      return;
    if (count < cycles.count) {
      now.rest = now.rest.part(count, cycles.count - count);
      now.moment.cycle = now.rest.cycles.first;
      begun.push(now);
    }
  }
}

} // namespace quadrille::tsp
