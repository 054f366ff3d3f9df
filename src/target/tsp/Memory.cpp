#include "target/tsp/Memory.h"

#include <cstring>

namespace quadrille::tsp {

Memory::Memory(const Architecture &machine, llvm::ArrayRef<Queue> queues, bool values)
    : machine(machine), queues(queues), values(values), slices(machine.hemispheres * machine.slices) {
  for (Slice &slice : slices)
    slice.banks.resize(machine.banks);
}

Memory::Bank &Memory::bankOf(Slice &slice, uint8_t index) {
  Bank &bank = slice.banks[index];
  if (bank.valid.empty()) {
    bank.valid.resize(machine.words);
    if (values)
      bank.bytes = std::make_unique_for_overwrite<std::byte[]>(machine.words * machine.vectorBytes());
  }
  return bank;
}

bool Memory::place(const WordAddress &word, std::byte *&bytes) {
  Bank &bank = bankOf(sliceOf(word.slice), word.bank);
  bytes = values ? bank.bytes.get() + word.address * machine.vectorBytes() : nullptr;
  bool fresh = !bank.valid[word.address];
  bank.valid[word.address] = true;
  return fresh;
}

bool Memory::holds(const WordAddress &word, const std::byte *&bytes) {
  Bank &bank = bankOf(sliceOf(word.slice), word.bank);
  bytes = values ? bank.bytes.get() + word.address * machine.vectorBytes() : nullptr;
  return bank.valid[word.address];
}

// Writes that are visible to a read that captures in `cycle` reach the bank.
void Memory::apply(Slice &slice, int64_t cycle) {
  while (!slice.writes.empty() && slice.writes.front().visible <= cycle) {
    PendingWrite &write = slice.writes.front();
    Bank &bank = bankOf(slice, write.bank);
    bank.valid[write.address] = true;
    if (values)
      std::memcpy(bank.bytes.get() + write.address * machine.vectorBytes(), write.bytes.get(), machine.vectorBytes());
    slice.writes.pop_front();
  }
}

void Memory::settle() {
  for (Slice &slice : slices)
    apply(slice, std::numeric_limits<int64_t>::max());
}

// Reserves a bank for one access in `cycle`; nothing that is executed later accesses a cycle before `now`.
llvm::Error Memory::access(Slice &slice, int64_t now, int64_t cycle, uint8_t bank, bool read, const Issue &by) {
  while (!slice.accesses.empty() && slice.accesses.front().cycle < now)
    slice.accesses.pop_front();
  int64_t same = 0;
  for (const Access &other : slice.accesses) {
    if (other.cycle != cycle)
      continue;
    if (other.bank == bank)
      return hazardError(by, queues, hazard::bankBusy(bank, print(other.by, queues)));
    same += other.read == read;
  }
  int64_t most = read ? machine.readsPerCycle : machine.writesPerCycle;
  if (same >= most)
    return hazardError(by, queues, hazard::tooManyAccesses(read, most));
  auto later = std::find_if(slice.accesses.begin(), slice.accesses.end(),
                            [&](const Access &other) { return other.cycle > cycle; });
  slice.accesses.insert(later, {cycle, bank, read, by});
  return llvm::Error::success();
}

llvm::Expected<int64_t> Memory::read(const Issue &issue, const Instruction &instruction, Streams &streams) {
  const QueueName &name = queues[issue.queue].name;
  Slice &slice = sliceOf({name.hemisphere, name.index});
  uint8_t bankIndex = instruction.small[0];
  int64_t address = stepped(instruction, issue.iteration);
  if (address < 0 || address >= machine.words)
    return hazardError(issue, queues, hazard::outOfRange("address", address, machine.words - 1));
  int64_t capture = issue.cycle + machine.skew;
  if (llvm::Error error = access(slice, capture, capture, bankIndex, true, issue))
    return error;
  apply(slice, capture);
  Bank &bank = bankOf(slice, bankIndex);
  if (!bank.valid[address])
    return hazardError(issue, queues, hazard::neverWritten(bankIndex, address));
  auto direction = static_cast<Direction>(instruction.small[2]);
  int64_t driven = capture + machine.memoryRead;
  auto to = streams.drive(direction, instruction.small[1],
                          machine.sliceCoordinate(name.hemisphere, name.index, direction), driven, issue);
  if (!to)
    return to.takeError();
  if (values)
    std::memcpy(*to, bank.bytes.get() + address * machine.vectorBytes(), machine.vectorBytes());
  return driven;
}

llvm::Expected<int64_t> Memory::write(const Issue &issue, const Instruction &instruction, Streams &streams) {
  const QueueName &name = queues[issue.queue].name;
  Slice &slice = sliceOf({name.hemisphere, name.index});
  uint8_t bank = instruction.small[0];
  int64_t address = stepped(instruction, issue.iteration);
  if (address < 0 || address >= machine.words)
    return hazardError(issue, queues, hazard::outOfRange("address", address, machine.words - 1));
  int64_t capture = issue.cycle + machine.skew;
  auto direction = static_cast<Direction>(instruction.small[2]);
  auto from = streams.read(direction, instruction.small[1],
                           machine.sliceCoordinate(name.hemisphere, name.index, direction), capture, issue);
  if (!from)
    return from.takeError();
  int64_t visible = capture + machine.memoryWrite;
  if (llvm::Error error = access(slice, capture, visible - 1, bank, false, issue))
    return error;
  PendingWrite write{visible, bank, address, nullptr};
  if (values) {
    write.bytes = std::make_unique_for_overwrite<std::byte[]>(machine.vectorBytes());
    std::memcpy(write.bytes.get(), *from, machine.vectorBytes());
  }
  slice.writes.push_back(std::move(write));
  return visible;
}

} // namespace quadrille::tsp
