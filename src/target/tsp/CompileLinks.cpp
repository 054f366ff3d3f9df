// What one chip sends to the next: words are read to the switch unit that has a link there and sent; the next chip
// receives them in the cycle of their arrival and writes them into its memory.
#include "base/Error.h"
#include "graph/KernelQueries.h"
#include "target/Refusal.h"
#include "target/tsp/CompilerState.h"
#include "target/tsp/SwitchUnit.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::tsp {

static std::vector<Cable> cablesBetween(int64_t sender, int64_t receiver, const Architecture &machine) {
  std::vector<Cable> cables;
  for (int64_t link = 0; link < machine.linksUsed; ++link)
    if (auto end = farEnd({sender, link}, machine); end && end->chip == receiver)
      cables.push_back({link, end->link});
  return cables;
}

llvm::Expected<std::vector<int64_t>> linkedChips(int64_t count, const Architecture &machine) {
  std::vector<int64_t> order;
  std::optional<int64_t> entry; // of the node: where the one before has its cable
  for (int64_t first = 0; first < count; first += machine.chipsPerNode) {
    int64_t end = std::min(count, first + machine.chipsPerNode);
    std::optional<int64_t> exit, next;
    for (int64_t chip = first; chip < end && end < count && !exit; ++chip)
      for (int64_t link = machine.localLinks; link < machine.linksUsed && !exit && entry != chip; ++link)
        if (auto far = farEnd({chip, link}, machine);
            far && far->chip >= end && far->chip < std::min(count, end + machine.chipsPerNode)) {
          exit = chip;
          next = far->chip;
        }
    if (end < count && !exit)
      return target::unsupportedError(machine.machineName + " has no links from node " +
                                          llvm::Twine(first / machine.chipsPerNode) + " to the next",
                                      {}, "give the machine file system.node_wiring, or --chips for one node");
    if (entry)
      order.push_back(*entry);
    for (int64_t chip = first; chip < end; ++chip)
      if (entry != chip && exit != chip)
        order.push_back(chip);
    if (exit)
      order.push_back(*exit);
    entry = next;
  }
  return order;
}

Step CompilerState::linkStep(Opcode opcode, int64_t link, Source stream, int64_t cycle, int64_t count) const {
  Step step;
  // Each end of each link has a queue, as far as there are queues.
  int64_t queue = (2 * (link / machine.hemispheres) + (opcode == Opcode::Receive ? 1 : 0)) % machine.switchQueues;
  step.queue = {UnitKind::Switch, static_cast<uint8_t>(link % machine.hemispheres), static_cast<uint16_t>(queue), 0};
  step.instruction.opcode = static_cast<uint8_t>(opcode);
  step.instruction.small[0] = static_cast<uint8_t>(link);
  step.instruction.small[1] = stream.byte();
  step.cycle = cycle;
  step.count = count;
  step.interval = machine.linkInterval;
  return step;
}

llvm::Error CompilerState::assumeArrived(llvm::ArrayRef<std::optional<Region>> shapes) {
  std::map<uint32_t, RegionPointer> shared; // by number
  for (graph::ValueId value : part.arriving) {
    const graph::Value &of = graph.values[value];
    RegionPointer known = shapes[value] ? shared[shapes[value]->number] : nullptr;
    if (!known) {
      Region shape = shapes[value] ? shapes[value]->shape()
                                   : Region::of(of.type, rowsOf(of.shape), columnsOf(of.shape), machine.vectorBytes());
      if (shape.wordsNeeded() > machine.words)
        shape.segmentRows = 0; // as many as it needs
      auto region = allocateInSegments(std::move(shape), {});
      if (!region)
        return region.takeError();
      known = *region;
      assumedThere.push_back(known->number);
      if (shapes[value])
        shared[shapes[value]->number] = known;
    }
    regions[value] = known;
  }
  return llvm::Error::success();
}

llvm::Error CompilerState::receive(CompilerState &sender) {
  std::vector<Cable> cables = cablesBetween(sender.chip, chip, machine);
  if (cables.empty())
    return internalError("chip " + llvm::Twine(sender.chip) + " has no link to chip " + llvm::Twine(chip));

  // Values that share a region there share one here.
  struct Arrival {
    RegionPointer from, to;
    size_t needed; // the first kernel here that reads it; behind all: it is only sent on
  };
  std::vector<Arrival> arrivals;
  for (graph::ValueId value : part.arriving) {
    const RegionPointer &from = sender.regions[value];
    size_t needed = part.first;
    while (needed < part.end && !llvm::is_contained(graph::operandsOf(graph.kernels[needed]), value))
      ++needed;
    auto known = llvm::find_if(arrivals, [&](const Arrival &arrival) { return arrival.from == from; });
    if (known == arrivals.end()) {
      auto region = allocateInSegments(from->shape(), {});
      if (!region)
        return region.takeError();
      known = arrivals.insert(arrivals.end(), {from, *region, needed});
    }
    known->needed = std::min(known->needed, needed);
    regions[value] = known->to;
  }
  llvm::stable_sort(arrivals, [](const Arrival &a, const Arrival &b) { return a.needed < b.needed; });

  // The slices of a region in turn on the links.
  std::vector<std::vector<TransferRun>> runs(cables.size());
  size_t turn = 0;
  for (const Arrival &arrival : arrivals)
    for (int64_t row = 0, count; row < arrival.from->rows; row += count) {
      count = arrival.from->together(row, 1, std::min(arrival.from->rows - row, machine.repeatMaximum + 1));
      for (int64_t piece = 0; piece < arrival.from->pieces; ++piece)
        for (int64_t byte = 0; byte < arrival.from->bytes(); ++byte)
          runs[turn++ % runs.size()].push_back(
              {arrival.from, arrival.to, piece, byte, row, count, arrival.needed == arrivals.front().needed});
    }

  // What the first kernel needs a link sends without a gap, as early as the last of it allows: beginning sooner would
  // make that no earlier, and keep both chips longer. The other values follow when they are there.
  int64_t from = 0;
  for (const std::vector<TransferRun> &ofLink : runs) {
    int64_t before = 0;
    for (const TransferRun &run : ofLink) {
      if (run.first)
        from = std::max(from, run.from->readableFrom(run.row, 1, run.count, machine.linkInterval) - before);
      before += run.count * machine.linkInterval;
    }
  }
  std::optional<int64_t> begin;
  for (auto [cable, ofLink] : llvm::zip(cables, runs))
    for (const TransferRun &run : ofLink) {
      int64_t received = transfer(sender, cable, run, from);
      begin = std::min(begin.value_or(received), received);
    }
  // Until then the chip may be at work on the input before.
  timetable.beginAt(begin.value_or(0));
  return llvm::Error::success();
}

int64_t CompilerState::transfer(CompilerState &sender, const Cable &cable, const TransferRun &run, int64_t from) {
  Region &source = *run.from, &target = *run.to;
  auto sides = static_cast<unsigned>(machine.hemispheres);
  Direction out = machine.outward(cable.near % sides), in = machine.inward(cable.far % sides);
  int64_t leaves = machine.switchCoordinate(cable.near % sides, out);
  int64_t enters = machine.switchCoordinate(cable.far % sides, in);
  // Cycles count from the dispatch of the first send.
  int64_t read = coordinate(source, run.piece, run.byte, run.row, out) - leaves - machine.memoryRead;
  int64_t write = machine.linkLatency + coordinate(target, run.piece, run.byte, run.row, in) - enters;
  from = std::max(
      {from, source.readableFrom(run.row, 1, run.count, machine.linkInterval) - read, target.writable - write});
  std::vector<Step> sent, received;
  int64_t start = std::numeric_limits<int64_t>::max();
  constexpr int64_t mostVariants = 4; // streams of which the one that is free first is taken
  for (int64_t stream = machine.streams - std::min(mostVariants, machine.streams); stream < machine.streams; ++stream) {
    std::vector<Step> near = {
        sender.access(Opcode::Read, source, run.piece, run.byte, run.row, 1, streamOf(out, stream), read, run.count),
        linkStep(Opcode::Send, cable.near, streamOf(out, stream), 0, run.count)};
    std::vector<Step> far = {
        linkStep(Opcode::Receive, cable.far, streamOf(in, stream), machine.linkLatency, run.count),
        access(Opcode::Write, target, run.piece, run.byte, run.row, 1, streamOf(in, stream), write, run.count)};
    near[0].interval = far[1].interval = machine.linkInterval;
    int64_t at = from;
    while (true) {
      int64_t there = timetable.earliest(far, sender.timetable.earliest(near, at));
      if (there == sender.timetable.earliest(near, there)) {
        at = there;
        break;
      }
      at = there;
    }
    if (at < start) {
      start = at;
      sent = std::move(near);
      received = std::move(far);
    }
  }
  sender.timetable.place(sent, start, sender.node);
  timetable.place(received, start, node);
  source.lastRead = std::max(source.lastRead, start + sent[0].last());
  for (int64_t k = 0; k < run.count; ++k)
    target.wrote(run.row + k, start + received[1].cycle + k * machine.linkInterval + machine.memoryWrite);
  return start + received[0].cycle;
}

} // namespace quadrille::tsp
