#include "target/tsp/Timetable.h"

#include "target/tsp/Progression.h"

#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/Hashing.h"
#include "llvm/ADT/STLExtras.h"

#include <cassert>

namespace quadrille::tsp {

Timetable::Timetable(const Architecture &machine)
    : machine(machine), indices(std::max({machine.slices, machine.alus, machine.switchQueues, machine.planes})),
      ports(std::max(machine.queuesPerSlice, machine.queuesPerPlane)), searches(searchesKept) {}

size_t Timetable::indexOf(const QueueName &queue) const {
  auto unit = static_cast<int64_t>(queue.unit);
  return channelCount(machine) + ((unit * machine.hemispheres + queue.hemisphere) * indices + queue.index) * ports +
         queue.port;
}

llvm::ArrayRef<Timetable::Use> Timetable::takenIn(size_t resource, int64_t bucket) const {
  if (resource >= taken.size() || bucket >= static_cast<int64_t>(taken[resource].size()))
    return {};
  return taken[resource][bucket];
}

// A queue that is longer than its buffer cannot, for long, dispatch faster than fetches bring instructions: an
// instruction, its Repeat, the idle time before it and its share of the fetches take this many cycles.
int64_t Timetable::spacing() const {
  int64_t capacity = machine.bufferBytes / machine.instructionBytes;
  int64_t perFetch = machine.fetchBytes / machine.instructionBytes;
  int64_t ahead = std::max<int64_t>(capacity - perFetch, 1); // instructions that can be on their way
  return (instructionsOfStep * (machine.fetchLatency + perFetch) + ahead - 1) / ahead;
}

// Each is an instruction and its Repeat. Before them a fetch may have been refused for want of room by a single
// instruction: what the buffer holds then must last until the fetch behind them has brought more, so they are half of
// it.
int64_t Timetable::stepsTogether() const {
  return std::max<int64_t>((machine.bufferBytes - machine.fetchBytes) / machine.instructionBytes / 4, 1);
}

std::optional<Timetable::Word> Timetable::wordOf(const Step &step) const {
  const Instruction &read = step.instruction;
  if (read.op() != Opcode::Read || step.interval != 1 || (step.count > 1 && read.word[1] != 0))
    return std::nullopt;
  return Word{indexOf(step.queue), step.value, read.small[0], read.word[0], read.small[1]};
}

Timetable::Use Timetable::useOf(const Turn &turn) const {
  // Before several steps at once the buffer must have time to fill, behind them too; and each fetch needs a cycle.
  int64_t perFetch = machine.fetchBytes / machine.instructionBytes;
  int64_t fetches = (turn.steps * instructionsOfStep + perFetch - 1) / perFetch;
  int64_t spare = std::max({int64_t(0), turn.begin + turn.steps * spacing() - turn.end, fetches - 1});
  if (turn.steps == 1)
    return {turn.queue, turn.begin, turn.end + spare, 0, 0, 1, turn.word ? spare + 1 : 0, turn.word};
  // A fetch may have been refused just before several: what they leave in the buffer must last until the fetch behind
  // them has brought more. Of it are the fetches that fill the buffer, as many as it has room for, and the idle time
  // before the first step that must wait.
  constexpr int64_t busy = 2; // instructions of a step without idle time: itself and its Repeat
  int64_t left = (machine.bufferBytes - machine.fetchBytes) / machine.instructionBytes - busy * turn.steps;
  int64_t fetchesAndIdle = machine.bufferBytes / machine.fetchBytes + 1;
  int64_t lasting = std::min(left / instructionsOfStep, (left - fetchesAndIdle) / (busy + 1)); // steps
  int64_t behind = std::max(spare, machine.fetchLatency + fetches - std::max<int64_t>(lasting, 0) * spacing());
  return {turn.queue, turn.begin - spare, turn.end + behind, 0, 0};
}

std::vector<Timetable::Use> Timetable::turnsOf(std::vector<Turn> turns) const {
  llvm::sort(turns,
             [](const Turn &a, const Turn &b) { return std::tie(a.queue, a.begin) < std::tie(b.queue, b.begin); });
  std::vector<Turn> apart;
  std::vector<Use> uses;
  for (Turn &turn : turns) {
    apart.push_back(std::move(turn));
    uses.push_back(useOf(apart.back()));
    while (uses.size() > 1 && uses[uses.size() - 2].resource == uses.back().resource &&
           uses.back().begin < uses[uses.size() - 2].end) {
      Turn last = apart.back();
      apart.pop_back();
      uses.pop_back();
      apart.back().end = std::max(apart.back().end, last.end);
      apart.back().steps += last.steps;
      uses.back() = useOf(apart.back());
    }
  }
  return uses;
}

std::vector<Timetable::Use> Timetable::usesOf(llvm::ArrayRef<Step> group, bool *hidden) const {
  std::vector<Use> uses;
  std::vector<size_t> flights; // of `uses`: those of channels
  std::vector<Effects> effects;
  for (const Step &step : group)
    effects.push_back(effectsOf(0, step.queue, step.instruction, machine));
  std::vector<Turn> turns;
  for (auto [i, step] : llvm::enumerate(group)) {
    // A cycle between two instructions is room for a fetch; behind a write its bank is still busy.
    bool writes = step.instruction.op() == Opcode::Write || step.instruction.op() == Opcode::Scatter;
    // So it is behind a gather, whose words come later than those of a read.
    bool gathers = step.instruction.op() == Opcode::Gather;
    int64_t busy = step.last() + 1 - step.cycle + (writes ? effects[i].completion : gathers ? machine.memoryGather : 1);
    std::optional<Word> word = wordOf(step);
    turns.push_back({indexOf(step.queue), step.cycle, step.cycle + busy, 1, word});
    // The chip's own end of a link stands for the link outward; the vectors that come in are spaced where they are
    // sent.
    if (step.instruction.op() == Opcode::Send)
      uses.push_back(
          {linkChannel(0, step.instruction.small[0], machine), step.cycle, step.last() + machine.linkInterval, 0, 0});
    for (const ChannelEnd &drive : effects[i].drives) {
      if (isLinkChannel(drive.channel, machine))
        continue;
      int64_t diagonal = step.cycle + drive.delay - drive.coordinate;
      flights.push_back(uses.size());
      uses.push_back({drive.channel, diagonal, diagonal + step.last() + 1 - step.cycle, drive.place, drive.place,
                      step.interval, 0, word});
    }
  }
  llvm::append_range(uses, turnsOf(std::move(turns)));
  // By channel and begin; and how far each and those before it on its channel reach, as long groups have many.
  llvm::sort(flights, [&](size_t a, size_t b) {
    return std::tuple(uses[a].resource, uses[a].begin, a) < std::tuple(uses[b].resource, uses[b].begin, b);
  });
  std::vector<int64_t> reach;
  for (auto [number, flight] : llvm::enumerate(flights)) {
    bool first = number == 0 || uses[flights[number - 1]].resource != uses[flight].resource;
    reach.push_back(first ? uses[flight].end : std::max(reach.back(), uses[flight].end));
  }
  std::vector<bool> seen(uses.size());
  std::vector<size_t> covering;
  for (auto [i, step] : llvm::enumerate(group))
    for (const ChannelEnd &read : effects[i].reads) {
      if (isLinkChannel(read.channel, machine))
        continue;
      int64_t diagonal = step.cycle + read.delay - read.coordinate, end = diagonal + step.last() + 1 - step.cycle;
      covering.clear();
      auto behind = llvm::partition_point(flights, [&](size_t flight) {
        return std::tuple(uses[flight].resource, uses[flight].begin) < std::tuple(size_t(read.channel), end);
      });
      for (auto number = static_cast<size_t>(behind - flights.begin());
           number-- > 0 && uses[flights[number]].resource == read.channel && reach[number] > diagonal;)
        if (const Use &use = uses[flights[number]]; diagonal < use.end && use.firstPlace <= read.place)
          covering.push_back(flights[number]);
      assert(!covering.empty() && "a group reads a stream that it does not drive");
      // Runs of vectors may come from several places; of those on the same diagonals the last one is seen.
      for (size_t flight : covering) {
        Use &use = uses[flight];
        if (llvm::any_of(covering, [&](size_t later) {
              const Use &other = uses[later];
              return other.firstPlace > use.firstPlace && other.begin <= use.begin && use.end <= other.end;
            }))
          continue;
        seen[flight] = true;
        use.lastPlace = std::max(use.lastPlace, read.place);
      }
    }
  if (hidden) // the last unit of a chain gives its result to no other
    *hidden = llvm::any_of(flights, [&](size_t flight) {
      return !seen[flight] && isStreamChannel(static_cast<uint32_t>(uses[flight].resource), machine);
    });
  return uses;
}

bool Timetable::meetsItself(llvm::ArrayRef<Step> group) const {
  bool hidden = false;
  std::vector<Use> uses = usesOf(group, &hidden);
  if (hidden)
    return true;
  for (size_t a = 0; a < uses.size(); ++a)
    for (size_t b = 0; b < a; ++b)
      if (uses[a].resource == uses[b].resource && uses[a].begin < uses[b].end && uses[b].begin < uses[a].end &&
          uses[a].firstPlace <= uses[b].lastPlace && uses[b].firstPlace <= uses[a].lastPlace)
        return true;
  // Within one queue each step has its cycles.
  std::vector<std::tuple<size_t, int64_t, int64_t>> steps;
  for (const Step &step : group)
    steps.emplace_back(indexOf(step.queue), step.cycle, step.cycle + step.count);
  llvm::sort(steps);
  for (size_t i = 1; i < steps.size(); ++i)
    if (std::get<0>(steps[i]) == std::get<0>(steps[i - 1]) && std::get<1>(steps[i]) < std::get<2>(steps[i - 1]))
      return true;
  return false;
}

int64_t Timetable::delayBehind(const Use &use, int64_t start, const Use &other) const {
  if (use.begin + start >= other.end || other.begin >= use.end + start || use.firstPlace > other.lastPlace ||
      other.firstPlace > use.lastPlace)
    return 0;
  // The same word again, in the same cycles or right before or behind: one instruction reads it for both.
  if (use.word && use.word == other.word) {
    int64_t begin = use.begin + start, end = use.end - use.behind + start;
    bool touches = begin <= other.end - other.behind && other.begin <= end;
    auto fits = [&](std::pair<int64_t, int64_t> cycles) {
      return cycles.second - cycles.first <= machine.repeatMaximum + 1;
    };
    if (touches && (use.resource != use.word->queue || fits(joined(*use.word, begin, end))))
      return 0;
  }
  if (use.interval == 1 && other.interval == 1)
    return other.end - use.begin - start;
  auto cyclesOf = [](const Use &of, int64_t later) {
    return Progression{of.begin + later, of.interval, (of.end - 1 - of.begin) / of.interval + 1};
  };
  Progression mine = cyclesOf(use, start), others = cyclesOf(other, 0);
  auto common = firstCommon(mine, others);
  if (!common)
    return 0;
  // As far as nothing nearer can be clear: the cycle that is taken by both leaves the other's.
  int64_t taken = mine.at(*common);
  return other.interval == 1 ? other.end - taken : use.interval == 1 ? taken + 1 - mine.first : 1;
}

int64_t Timetable::earliest(llvm::ArrayRef<Step> group, int64_t from) const {
  std::vector<Use> uses = usesOf(group);
  for (const Step &step : group)
    from = std::max(from, begin - step.cycle);
  int64_t start = from;
  // What is taken stays taken: the same uses find nothing now where they found nothing before.
  size_t hash = 0;
  for (const Use &use : uses)
    hash = llvm::hash_combine(hash, use.resource, use.begin, use.end, use.firstPlace, use.lastPlace, use.interval);
  Found &found = searches[hash % searches.size()];
  if (found.uses == uses && found.from <= from)
    start = std::max(start, found.start);
  for (bool again = true; again;) {
    again = false;
    for (const Use &use : uses)
      for (int64_t bucket = bucketOf(use.begin + start); bucket <= bucketOf(use.end - 1 + start); ++bucket)
        for (const Use &other : takenIn(use.resource, bucket)) {
          if (other.begin >= use.end + start)
            break; // ascending
          if (int64_t delay = delayBehind(use, start, other)) {
            start += delay;
            again = true;
          }
        }
  }
  if (found.uses != uses || found.from > from || found.start < from)
    found = {std::move(uses), from, start};
  else
    found.start = start; // from `found.from` on still nothing before
  return start;
}

std::pair<int64_t, int64_t> Timetable::joined(const Word &word, int64_t begin, int64_t end) const {
  auto known = runs.find(word);
  if (known == runs.end())
    return {begin, end};
  for (auto run = known->second.upper_bound(end); run != known->second.begin();) {
    --run;
    if (run->second.end < begin)
      break;
    begin = std::min(begin, run->first);
    end = std::max(end, run->second.end);
  }
  return {begin, end};
}

std::pair<int64_t, int64_t> Timetable::join(const Word &word, const Step &step, uint32_t node) {
  std::map<int64_t, Run> &known = runs[word];
  std::vector<Placed> &list = placed[step.queue];
  auto [begin, end] = joined(word, step.cycle, step.last() + 1);
  std::optional<size_t> place;
  for (auto run = known.lower_bound(begin); run != known.end() && run->first <= end; run = known.erase(run)) {
    if (place)
      list[*place].step.count = 0;
    place = run->second.place;
  }
  if (!place) {
    place = list.size();
    list.push_back({step, node});
  }
  Step &joined = list[*place].step;
  joined.cycle = begin;
  joined.count = end - begin;
  joined.instruction.word[1] = 0;
  known[begin] = {end, *place};
  return {begin, end};
}

void Timetable::place(llvm::ArrayRef<Step> group, int64_t start, uint32_t node) {
  std::vector<Use> uses = usesOf(group);
  for (Step step : group) {
    step.cycle += start;
    behind = std::max(behind, step.last() + 1);
    ++placedSteps;
    std::optional<Word> word = wordOf(step);
    // Another step of the same queue may be why the queue's use is none of a word.
    if (!word || llvm::none_of(uses, [&](const Use &use) { return use.resource == word->queue && use.word == word; })) {
      placed[step.queue].push_back({step, node});
      continue;
    }
    auto [begin, end] = join(*word, step, node);
    for (Use &use : uses)
      if (use.word == word) {
        use.begin -= step.cycle - begin;
        use.end += end - step.last() - 1;
      }
  }
  for (Use &use : uses) {
    use.begin += start;
    use.end += start;
    int64_t lastBucket = bucketOf(use.end - 1);
    taken.resize(std::max(taken.size(), use.resource + 1));
    std::vector<std::vector<Use>> &buckets = taken[use.resource];
    buckets.resize(std::max<size_t>(buckets.size(), lastBucket + 1));
    for (int64_t bucket = bucketOf(use.begin); bucket <= lastBucket; ++bucket)
      buckets[bucket].insert(
          llvm::upper_bound(buckets[bucket], use, [](const Use &a, const Use &b) { return a.begin < b.begin; }), use);
  }
}

void Timetable::emit(const QueueName &name, std::vector<Placed> steps, Queue &queue) const {
  std::erase_if(steps, [](const Placed &each) { return each.step.count == 0; });
  llvm::sort(steps, [](const Placed &a, const Placed &b) { return a.step.cycle < b.step.cycle; });
  queue.name = name;
  int64_t perFetch = machine.fetchBytes / machine.instructionBytes;
  int64_t capacity = machine.bufferBytes / machine.instructionBytes, requested = capacity, clock = 0;
  auto append = [&](const Instruction &instruction, uint32_t node) {
    auto index = static_cast<uint32_t>(queue.instructions.size());
    queue.instructions.push_back(instruction);
    if (!queue.origins.empty() && queue.origins.back().node == node &&
        queue.origins.back().first + queue.origins.back().count == index)
      ++queue.origins.back().count;
    else
      queue.origins.push_back({index, 1, node});
  };
  auto control = [](Opcode opcode, int64_t value, int64_t second = 0) {
    Instruction instruction;
    instruction.opcode = static_cast<uint8_t>(opcode);
    instruction.word[0] = static_cast<int32_t>(value);
    instruction.word[1] = static_cast<int32_t>(second);
    return instruction;
  };
  // Instructions for each step: idle times before it, itself, its Repeat. Fetches only shorten idle times.
  std::vector<int64_t> needed;
  int64_t end = 0, left = 0;
  for (const Placed &each : steps) {
    int64_t idle = each.step.cycle - end;
    needed.push_back((idle + machine.nopMaximum - 1) / machine.nopMaximum + 1 + (each.step.count > 1));
    left += needed.back();
    end = each.step.last() + 1;
  }
  for (auto [number, each] : llvm::enumerate(steps)) {
    const Step &step = each.step;
    int64_t begun = static_cast<int64_t>(queue.instructions.size()), fetches = 0;
    while (clock < step.cycle) {
      auto size = static_cast<int64_t>(queue.instructions.size());
      if (begun + fetches + left > requested && requested + perFetch - (size + 1) <= capacity) {
        append(control(Opcode::Fetch, 0), each.node);
        requested += perFetch;
        ++fetches;
        ++clock;
        continue;
      }
      int64_t idle = std::min(step.cycle - clock, machine.nopMaximum);
      append(control(Opcode::Nop, idle), each.node);
      clock += idle;
    }
    append(step.instruction, each.node);
    if (step.count > 1)
      append(control(Opcode::Repeat, step.count - 1, step.interval), each.node);
    clock = step.last() + 1;
    left -= needed[number];
  }
  // Fewer idle times were needed than there might have been: the last fetches may have nothing left to bring.
  for (auto &instruction : llvm::reverse(queue.instructions)) {
    if (requested - perFetch < static_cast<int64_t>(queue.instructions.size()) || requested == capacity)
      break;
    if (instruction.op() == Opcode::Fetch) {
      instruction = control(Opcode::Nop, 1);
      requested -= perFetch;
    }
  }
}

std::string Timetable::misread(llvm::ArrayRef<uint32_t> initial) const {
  struct Access {
    int64_t word;  // of all banks
    int64_t cycle; // of a write: when a read first sees it
    bool write;
    uint32_t value, node;
  };
  llvm::DenseSet<uint32_t> there(initial.begin(), initial.end());
  std::vector<Access> accesses;
  for (const auto &[name, steps] : placed) {
    if (name.unit != UnitKind::Memory)
      continue;
    accesses.clear();
    for (const Placed &each : steps) {
      const Instruction &instruction = each.step.instruction;
      if (instruction.op() != Opcode::Read && instruction.op() != Opcode::Write)
        continue;
      bool write = instruction.op() == Opcode::Write;
      for (int64_t k = 0; k < each.step.count; ++k)
        accesses.push_back({instruction.small[0] * machine.words + instruction.word[0] + k * instruction.word[1],
                            each.step.cycle + k * each.step.interval + (write ? machine.memoryWrite : 0), write,
                            each.step.value, each.node});
    }
    llvm::stable_sort(accesses, [](const Access &a, const Access &b) {
      return std::tuple(a.word, a.cycle, !a.write) < std::tuple(b.word, b.cycle, !b.write);
    });
    std::optional<uint32_t> holds;
    for (size_t i = 0; i < accesses.size(); ++i) {
      const Access &access = accesses[i];
      if (i > 0 && accesses[i - 1].word != access.word)
        holds.reset();
      if (access.write)
        holds = access.value;
      else if (holds ? *holds != access.value : !there.contains(access.value))
        return "value " + std::to_string(access.value) + " is read at cycle " + std::to_string(access.cycle) +
               " from " + print(name) + " bank " + std::to_string(access.word / machine.words) + " word " +
               std::to_string(access.word % machine.words) + " for node " + std::to_string(access.node) + ", where " +
               (holds ? "value " + std::to_string(*holds) + " lies" : std::string("nothing lies yet"));
    }
  }
  return "";
}

std::vector<Queue> Timetable::queues() const {
  std::vector<Queue> result;
  for (const auto &[name, steps] : placed)
    emit(name, steps, result.emplace_back());
  return result;
}

} // namespace quadrille::tsp
