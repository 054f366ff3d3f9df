#include "target/tsp/Memory.h"

#include "target/tsp/Observer.h"
#include "target/tsp/Occupancy.h"

#include <cstring>

namespace quadrille::tsp {

Memory::Memory(const Context &context, int64_t chips, Occupancy &occupancy)
    : context(context), occupancy(occupancy), slices(chips * context.machine.hemispheres * context.machine.slices) {
  for (Slice &slice : slices)
    slice.banks.resize(context.machine.banks);
}

Memory::Bank &Memory::bankOf(Slice &slice, uint8_t index) {
  Bank &bank = slice.banks[index];
  if (bank.valid.empty()) {
    bank.valid.resize(context.machine.words);
    if (context.values)
      bank.bytes = std::make_unique_for_overwrite<std::byte[]>(context.machine.words * context.machine.vectorBytes());
  }
  return bank;
}

bool Memory::place(int64_t chip, const WordAddress &word, std::byte *&bytes) {
  Bank &bank = bankOf(sliceOf(chip, word.slice), word.bank);
  bytes = context.values ? wordOf(bank, word.address) : nullptr;
  bool fresh = !bank.valid[word.address];
  bank.valid[word.address] = true;
  return fresh;
}

bool Memory::holds(int64_t chip, const WordAddress &word, const std::byte *&bytes) {
  Bank &bank = bankOf(sliceOf(chip, word.slice), word.bank);
  bytes = context.values ? wordOf(bank, word.address) : nullptr;
  return bank.valid[word.address];
}

void Memory::add(std::shared_ptr<Work> work) {
  Slice &slice = sliceOf(work->chip, {work->queue->hemisphere, work->queue->index});
  slice.work.add(std::move(work));
  if (!std::exchange(slice.listed, true))
    active.push_back(&slice);
}

llvm::Expected<bool> Memory::step() {
  bool progress = false;
  for (Slice *slice : active) {
    auto stepped = step(*slice);
    if (!stepped)
      return stepped.takeError();
    progress |= *stepped;
  }
  std::erase_if(active, [](Slice *slice) { return slice->work.empty() && std::exchange(slice->listed, false); });
  return progress;
}

static int64_t addressOf(const Work &work, int64_t k) {
  return stepped(*work.instruction, work.burst.first + k);
}

// How many issues from `work.done` on have an address that exists.
int64_t Memory::addressable(const Work &work) const {
  int64_t address = addressOf(work, work.done), step = work.instruction->word[1];
  if (address < 0 || address >= context.machine.words)
    return 0;
  int64_t rest = work.count() - work.done;
  int64_t room = step > 0 ? (context.machine.words - 1 - address) / step : step < 0 ? address / -step : rest;
  return std::min(rest, room + 1);
}

llvm::Expected<bool> Memory::step(Slice &slice) {
  bool progress = false;
  llvm::SmallVector<Channels::Found, 4> found;
  while (Work *work = slice.work.next()) {
    // Issues of other queues of the slice come in between.
    int64_t count = context.before(*work, std::max(slice.work.nextOther(work), work->nextCycle() + 1));
    if (count == 0)
      break;
    Opcode opcode = work->instruction->op();
    if (opcode == Opcode::Read || opcode == Opcode::Write) {
      count = std::min(count, addressable(*work));
      if (count == 0)
        return context.hazard(*work, work->done,
                              hazard::outOfRange("address", addressOf(*work, work->done), context.machine.words - 1));
    } else if (int64_t last = int64_t(work->instruction->word[0]) + work->instruction->word[2] - 1;
               last >= context.machine.words) {
      return context.hazard(*work, work->done, hazard::outOfRange("address", last, context.machine.words - 1));
    }
    if (llvm::Error error = context.channels.find(context, *work, count, found))
      return std::move(error);
    if (count == 0)
      break;
    auto operand = [&](size_t i) { return context.channels.vectors(context, found[i]); };
    auto executed = opcode == Opcode::Read     ? read(slice, *work, count)
                    : opcode == Opcode::Write  ? write(slice, *work, count, operand(0))
                    : opcode == Opcode::Gather ? gather(slice, *work, count, operand(0))
                                               : scatter(slice, *work, count, operand(0), operand(1));
    if (!executed)
      return executed.takeError();
    context.observer.executed(*work, work->done, *executed, found);
    work->done += *executed;
    progress = true;
    slice.work.dropEnded();
  }
  return progress;
}

void Memory::apply(Slice &slice, const PendingWrite &write) {
  int64_t lanes = context.machine.lanes;
  Bank &bank = bankOf(slice, write.bank);
  if (write.superlanes.empty()) {
    bank.valid[write.address] = true;
    if (context.values)
      std::memcpy(wordOf(bank, write.address), write.bytes.data(), write.bytes.size());
    return;
  }
  for (auto [superlane, number] : llvm::enumerate(write.superlanes))
    std::memcpy(wordOf(bank, write.address + number) + superlane * lanes, write.bytes.data() + superlane * lanes,
                lanes);
}

// Writes that are visible to a reading in `cycle` reach the bank.
void Memory::apply(Slice &slice, int64_t cycle) {
  while (!slice.writes.empty() && slice.writes.front().visible <= cycle) {
    apply(slice, slice.writes.front());
    slice.writes.pop_front();
  }
}

void Memory::settle() {
  for (Slice &slice : slices)
    apply(slice, std::numeric_limits<int64_t>::max());
}

// Reserves the bank for one access `delay` after the dispatch of each of the next `count` issues. No later issue of the
// slice accesses a cycle before the first of these issues' capture, but for a gather that is faster than a read.
llvm::Error Memory::access(Slice &slice, const Work &work, int64_t count, int64_t delay, bool reads) {
  Progression cycles = work.burst.cycles.part(work.done, count).shifted(delay);
  uint8_t bank = work.instruction->small[0];
  int64_t now = work.nextCycle() + context.machine.skew +
                std::min<int64_t>(0, context.machine.memoryGather - context.machine.memoryRead);
  std::erase_if(slice.accesses, [&](const Access &other) { return other.cycles.last() < now; });
  int64_t most = reads ? context.machine.readsPerCycle : context.machine.writesPerCycle;
  for (const Access &other : slice.accesses)
    if (other.bank == bank)
      if (auto k = firstCommon(cycles, other.cycles)) {
        Issue by = other.by.issue(*other.cycles.indexOf(cycles.at(*k)));
        return context.hazard(work, work.done + *k, hazard::bankBusy(bank, print(by, context.queues)));
      }
  // Few are left: of those that meet these issues at all, how many in one cycle?
  for (const Access &other : slice.accesses) {
    auto k = other.reads == reads ? firstCommon(cycles, other.cycles) : std::nullopt;
    for (; k && *k < count; ++*k)
      if (llvm::count_if(slice.accesses, [&](const Access &each) {
            return each.reads == reads && each.cycles.indexOf(cycles.at(*k));
          }) >= most)
        return context.hazard(work, work.done + *k, hazard::tooManyAccesses(reads, most));
  }
  Burst by = work.burst;
  by.first += work.done;
  by.cycles = by.cycles.part(work.done, count);
  slice.accesses.push_back({cycles, bank, reads, by});
  return llvm::Error::success();
}

llvm::Expected<int64_t> Memory::read(Slice &slice, Work &work, int64_t count) {
  const Architecture &machine = context.machine;
  uint8_t bankIndex = work.instruction->small[0];
  Bank &bank = bankOf(slice, bankIndex);
  if (llvm::Error error = access(slice, work, count, machine.skew, true))
    return std::move(error);
  context.allocateResults(work);
  int64_t bytes = machine.vectorBytes();
  for (int64_t k = work.done; k < work.done + count; ++k) {
    int64_t address = addressOf(work, k), cycle = work.cycle(k);
    if (!slice.writes.empty())
      apply(slice, cycle + machine.skew);
    if (!bank.valid[address])
      return context.hazard(work, k, hazard::neverWritten(bankIndex, address));
    if (context.values)
      std::memcpy(context.result(work, 0, k), wordOf(bank, address), bytes);
    occupancy.read(work.chip, *work.queue, bankIndex, address, cycle);
  }
  return count;
}

llvm::Expected<int64_t> Memory::write(Slice &slice, Work &work, int64_t count, Vectors data) {
  const Architecture &machine = context.machine;
  uint8_t bankIndex = work.instruction->small[0];
  Bank &bank = bankOf(slice, bankIndex);
  if (llvm::Error error = access(slice, work, count, work.effects.completion - 1, false))
    return std::move(error);
  // No reading follows in the slice before the cycle after these issues; on another queue it may in the last one.
  int64_t seen = work.cycle(work.done + count - 1) + (machine.queuesPerSlice == 1) + machine.skew;
  int64_t bytes = machine.vectorBytes();
  for (int64_t k = 0; k < count; ++k) {
    int64_t address = addressOf(work, work.done + k), cycle = work.cycle(work.done + k);
    int64_t visible = cycle + work.effects.completion;
    occupancy.write(work.chip, *work.queue, bankIndex, address, cycle);
    if (visible <= seen) {
      if (!slice.writes.empty())
        apply(slice, visible);
      bank.valid[address] = true;
      if (context.values)
        std::memcpy(wordOf(bank, address), data.at(k), bytes);
      continue;
    }
    PendingWrite write{visible, bankIndex, address, {}, {}};
    if (context.values)
      write.bytes.assign(data.at(k), data.at(k) + bytes);
    auto later = llvm::find_if(slice.writes, [&](const PendingWrite &other) { return other.visible > visible; });
    slice.writes.insert(later, std::move(write));
  }
  return count;
}

// All words that a gather or scatter may touch have been written.
llvm::Error Memory::requireRegion(Slice &slice, const Work &work) {
  int64_t address = work.instruction->word[0], rows = work.instruction->word[2];
  Bank &bank = bankOf(slice, work.instruction->small[0]);
  for (int64_t row = address; row < address + rows; ++row)
    if (!bank.valid[row])
      return context.hazard(work, work.done, hazard::neverWritten(work.instruction->small[0], row));
  return llvm::Error::success();
}

// The word's number that each superlane asks for.
llvm::Expected<std::vector<int64_t>> Memory::numbers(const Work &work, int64_t k, const std::byte *map) const {
  std::vector<int64_t> numbers(context.machine.superlanes);
  int64_t rows = work.instruction->word[2];
  for (int64_t superlane = 0; superlane < context.machine.superlanes; ++superlane) {
    int64_t number = 0;
    for (int64_t byte = context.machine.gatherAddressBytes - 1; byte >= 0; --byte)
      number = number << 8 | static_cast<int64_t>(map[superlane * context.machine.lanes + byte]);
    if (number < 0 || number >= rows)
      return context.hazard(work, k, hazard::gatherOutOfRange(superlane, number, rows));
    numbers[superlane] = number;
  }
  return numbers;
}

llvm::Expected<int64_t> Memory::gather(Slice &slice, Work &work, int64_t count, Vectors map) {
  const Architecture &machine = context.machine;
  uint8_t bankIndex = work.instruction->small[0];
  Bank &bank = bankOf(slice, bankIndex);
  int64_t address = work.instruction->word[0], lanes = machine.lanes;
  if (llvm::Error error = access(slice, work, count, machine.skew + machine.memoryGather - machine.memoryRead, true))
    return std::move(error);
  context.allocateResults(work);
  for (int64_t k = 0; k < count; ++k) {
    int64_t issue = work.done + k;
    apply(slice, work.cycle(issue) + machine.skew);
    // What was once written stays so.
    if (issue == 0)
      if (llvm::Error error = requireRegion(slice, work))
        return std::move(error);
    if (k + 1 == count)
      for (int64_t row = 0; row < work.instruction->word[2]; ++row)
        occupancy.read(work.chip, *work.queue, bankIndex, address + row, work.cycle(issue));
    if (!context.values)
      continue;
    auto from = numbers(work, issue, map.at(k));
    if (!from)
      return from.takeError();
    for (auto [superlane, number] : llvm::enumerate(*from))
      std::memcpy(context.result(work, 0, issue) + superlane * lanes,
                  wordOf(bank, address + number) + superlane * lanes, lanes);
  }
  return count;
}

llvm::Expected<int64_t> Memory::scatter(Slice &slice, Work &work, int64_t count, Vectors map, Vectors data) {
  const Architecture &machine = context.machine;
  int64_t address = work.instruction->word[0];
  if (llvm::Error error = access(slice, work, count, work.effects.completion - 1, false))
    return std::move(error);
  for (int64_t k = 0; k < count; ++k) {
    int64_t issue = work.done + k, visible = work.cycle(issue) + work.effects.completion;
    apply(slice, work.cycle(issue) + machine.skew);
    if (issue == 0)
      if (llvm::Error error = requireRegion(slice, work))
        return std::move(error);
    if (k + 1 == count)
      for (int64_t row = 0; row < work.instruction->word[2]; ++row)
        occupancy.update(work.chip, *work.queue, work.instruction->small[0], address + row, work.cycle(issue));
    if (!context.values)
      continue;
    auto to = numbers(work, issue, map.at(k));
    if (!to)
      return to.takeError();
    auto later = llvm::find_if(slice.writes, [&](const PendingWrite &other) { return other.visible > visible; });
    slice.writes.insert(later,
                        {visible, work.instruction->small[0], address,
                         std::vector<std::byte>(data.at(k), data.at(k) + machine.vectorBytes()), std::move(*to)});
  }
  return count;
}

} // namespace quadrille::tsp
