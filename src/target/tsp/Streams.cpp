#include "target/tsp/Streams.h"

#include "llvm/Support/MathExtras.h"

namespace quadrille::tsp {

Streams::Streams(const Architecture &machine, llvm::ArrayRef<Queue> queues, bool values)
    : machine(machine), queues(queues), values(values) {
  // When an instruction dispatched at cycle t is executed, drives reach up to diagonal t + skew + latency + farthest,
  // and reads go down to t + skew - farthest.
  int64_t latency = std::max(machine.memoryRead, machine.accumulate);
  window = static_cast<int64_t>(llvm::NextPowerOf2(latency + 2 * machine.farthest() + 1));
  ring = std::vector<Slot>(2 * machine.streams * window);
}

size_t Streams::slotIndex(Direction direction, int64_t stream, int64_t diagonal) const {
  return (static_cast<size_t>(direction) * machine.streams + stream) * window + (diagonal & (window - 1));
}

llvm::Expected<std::byte *> Streams::drive(Direction direction, int64_t stream, int64_t coordinate, int64_t cycle,
                                           const Issue &by) {
  int64_t diagonal = cycle - coordinate;
  Slot &slot = ring[slotIndex(direction, stream, diagonal)];
  if (!slot.empty() && slot.front().diagonal != diagonal) {
    for (Flight &flight : slot)
      if (flight.bytes)
        spare.push_back(std::move(flight.bytes));
    slot.clear();
  }
  for (const Flight &flight : slot)
    if (flight.coordinate == coordinate)
      return hazardError(by, queues, hazard::twoDrivers(direction, stream, print(flight.by, queues)));
  std::unique_ptr<std::byte[]> bytes;
  if (values) {
    if (spare.empty()) {
      bytes = std::make_unique_for_overwrite<std::byte[]>(machine.vectorBytes());
    } else {
      bytes = std::move(spare.back());
      spare.pop_back();
    }
  }
  std::byte *to = bytes.get();
  slot.push_back({diagonal, coordinate, by, std::move(bytes)});
  return to;
}

llvm::Expected<const std::byte *> Streams::read(Direction direction, int64_t stream, int64_t coordinate, int64_t cycle,
                                                const Issue &by) const {
  int64_t diagonal = cycle - coordinate;
  const Flight *nearest = nullptr;
  for (const Flight &flight : ring[slotIndex(direction, stream, diagonal)])
    if (flight.diagonal == diagonal && flight.coordinate <= coordinate &&
        (!nearest || flight.coordinate > nearest->coordinate))
      nearest = &flight;
  if (!nearest)
    return hazardError(by, queues, hazard::undriven(direction, stream));
  return nearest->bytes.get();
}

} // namespace quadrille::tsp
