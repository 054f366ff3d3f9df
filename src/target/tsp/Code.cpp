#include "target/tsp/Code.h"

#include "base/Error.h"
#include "target/tsp/Program_generated.h"

#include "llvm/ADT/Twine.h"

#include <cstring>

namespace quadrille::tsp {

static_assert(sizeof(Instruction) == sizeof(fbs::Instruction));
static_assert(UnitKind::Memory == static_cast<UnitKind>(fbs::Unit::Memory) &&
              UnitKind::Matrix == static_cast<UnitKind>(fbs::Unit::Matrix) &&
              UnitKind::Vector == static_cast<UnitKind>(fbs::Unit::Vector) &&
              UnitKind::Switch == static_cast<UnitKind>(fbs::Unit::Switch));
static_assert(AxisTarget::Address == static_cast<AxisTarget>(fbs::AxisTarget::Address));

std::string print(const QueueName &name) {
  std::string text = nameOf(name.unit).str();
  if (name.unit != UnitKind::Vector)
    text += name.hemisphere == west ? " west" : " east";
  text += " " + std::to_string(name.index);
  if (name.unit == UnitKind::Matrix || name.port != 0)
    text += "." + std::to_string(name.port);
  return text;
}

std::string queueProblem(const QueueName &name, const Architecture &machine) {
  struct Counts {
    const char *what;
    int64_t units, ports;
  };
  const Counts counts[] = {{"memory slice", machine.slices, machine.queuesPerSlice},
                           {"matrix plane", machine.planes, machine.queuesPerPlane},
                           {"arithmetic unit", machine.alus, 1},
                           {"switch queue", machine.switchQueues, 1}};
  const Counts &here = counts[static_cast<unsigned>(name.unit)];
  int64_t hemispheres = name.unit == UnitKind::Vector ? 1 : machine.hemispheres;
  if (name.hemisphere >= hemispheres)
    return ("hemisphere " + llvm::Twine(unsigned(name.hemisphere)) + " does not exist").str();
  if (name.index >= here.units)
    return (llvm::Twine(here.what) + " " + llvm::Twine(name.index) + " is not in 0.." + llvm::Twine(here.units - 1))
        .str();
  if (name.port >= here.ports)
    return ("queue " + llvm::Twine(unsigned(name.port)) + " of the unit is not in 0.." + llvm::Twine(here.ports - 1))
        .str();
  if (name.unit == UnitKind::Memory && machine.reserved[name.hemisphere][name.index])
    return "the slice is reserved for the system";
  return "";
}

llvm::Expected<Code> Code::decode(llvm::ArrayRef<std::byte> payload) {
  auto invalid = [](const llvm::Twine &what) {
    return userError("the program's tsp section is damaged: " + what, {}, "compile or assemble it again");
  };
  auto *bytes = reinterpret_cast<const uint8_t *>(payload.data());
  // A FlatBuffer may refer to one part many times, and each reference becomes a copy here. What this target writes
  // shares nothing: then a table takes 8 bytes with the reference to it, and all vectors together fit into the buffer.
  flatbuffers::Verifier verifier(bytes, payload.size(), /*max_depth=*/64,
                                 static_cast<flatbuffers::uoffset_t>(payload.size() / 8));
  if (payload.size() < 16 || payload.size() >= FLATBUFFERS_MAX_BUFFER_SIZE || !fbs::VerifyProgramBuffer(verifier))
    return invalid("it is not a valid FlatBuffer with the identifier QTSP");
  size_t copied = 0;
  auto isShared = [&](const auto *vector) {
    if (vector)
      copied += vector->size() * sizeof(*vector->Get(0));
    return copied > payload.size();
  };
  const char *shared = "two of its parts share their contents";
  const fbs::Program *root = fbs::GetProgram(bytes);
  Code code;
  if (root->entries())
    for (const fbs::Entry *entry : *root->entries()) {
      EntryCode &to = code.entries.emplace_back();
      if (!entry->chips())
        continue;
      for (const fbs::Chip *chip : *entry->chips()) {
        ChipCode &toChip = to.chips.emplace_back();
        if (!chip->queues())
          continue;
        for (const fbs::Queue *queue : *chip->queues()) {
          if (!queue->name())
            return invalid("a queue has no name");
          if (queue->name()->unit() > fbs::Unit::Switch)
            return invalid("a queue has an unknown unit");
          Queue &toQueue = toChip.queues.emplace_back();
          toQueue.name = {static_cast<UnitKind>(queue->name()->unit()), queue->name()->hemisphere(),
                          queue->name()->index(), queue->name()->port()};
          if (isShared(queue->instructions()) || isShared(queue->origins()))
            return invalid(shared);
          if (const auto *instructions = queue->instructions(); instructions && instructions->size() > 0) {
            toQueue.instructions.resize(instructions->size());
            std::memcpy(static_cast<void *>(toQueue.instructions.data()), instructions->Data(),
                        sizeof(Instruction) * instructions->size());
          }
          if (queue->origins())
            for (const fbs::Origin *origin : *queue->origins())
              toQueue.origins.push_back({origin->first(), origin->count(), origin->node()});
        }
      }
    }
  if (root->layouts())
    for (const fbs::Layout *layout : *root->layouts()) {
      Layout &to = code.layouts.emplace_back();
      to.variable = layout->variable();
      to.chip = layout->chip();
      to.bank = layout->bank();
      to.address = layout->address();
      if (isShared(layout->slices()) || isShared(layout->axes()) || isShared(layout->ranges()))
        return invalid(shared);
      if (layout->slices())
        for (const fbs::Slice *slice : *layout->slices())
          to.slices.push_back({slice->hemisphere(), slice->slice()});
      if (layout->axes())
        for (const fbs::Axis *axis : *layout->axes()) {
          if (axis->target() > fbs::AxisTarget::Address)
            return invalid("an axis of a layout has an unknown target");
          to.axes.push_back({axis->dimension(), static_cast<AxisTarget>(axis->target()), axis->extent(), axis->step()});
        }
      if (layout->ranges())
        for (const fbs::DimensionRange *range : *layout->ranges())
          to.ranges.push_back({range->dimension(), range->begin(), range->extent()});
    }
  return code;
}

std::vector<std::byte> Code::encode() const {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<fbs::Entry>> entryOffsets;
  for (const EntryCode &entry : entries) {
    std::vector<flatbuffers::Offset<fbs::Chip>> chipOffsets;
    for (const ChipCode &chip : entry.chips) {
      std::vector<flatbuffers::Offset<fbs::Queue>> queueOffsets;
      for (const Queue &queue : chip.queues) {
        fbs::QueueName name(static_cast<fbs::Unit>(queue.name.unit), queue.name.hemisphere, queue.name.index,
                            queue.name.port);
        auto instructions = builder.CreateVectorOfStructs(
            reinterpret_cast<const fbs::Instruction *>(queue.instructions.data()), queue.instructions.size());
        std::vector<fbs::Origin> origins;
        origins.reserve(queue.origins.size());
        for (const Origin &origin : queue.origins)
          origins.emplace_back(origin.first, origin.count, origin.node);
        auto originOffset = builder.CreateVectorOfStructs(origins);
        queueOffsets.push_back(fbs::CreateQueue(builder, &name, instructions, originOffset));
      }
      chipOffsets.push_back(fbs::CreateChip(builder, builder.CreateVector(queueOffsets)));
    }
    entryOffsets.push_back(fbs::CreateEntry(builder, builder.CreateVector(chipOffsets)));
  }
  std::vector<flatbuffers::Offset<fbs::Layout>> layoutOffsets;
  for (const Layout &layout : layouts) {
    std::vector<fbs::Slice> slices;
    slices.reserve(layout.slices.size());
    for (SliceName slice : layout.slices)
      slices.emplace_back(slice.hemisphere, slice.slice);
    std::vector<fbs::Axis> axes;
    axes.reserve(layout.axes.size());
    for (const Axis &axis : layout.axes)
      axes.emplace_back(axis.dimension, static_cast<fbs::AxisTarget>(axis.target), axis.extent, axis.step);
    auto sliceOffset = builder.CreateVectorOfStructs(slices);
    auto axisOffset = builder.CreateVectorOfStructs(axes);
    flatbuffers::Offset<flatbuffers::Vector<const fbs::DimensionRange *>> rangeOffset;
    if (!layout.ranges.empty()) {
      std::vector<fbs::DimensionRange> ranges;
      for (const DimensionRange &range : layout.ranges)
        ranges.emplace_back(range.dimension, range.begin, range.extent);
      rangeOffset = builder.CreateVectorOfStructs(ranges);
    }
    layoutOffsets.push_back(fbs::CreateLayout(builder, layout.variable, layout.chip, layout.bank, layout.address,
                                              sliceOffset, axisOffset, rangeOffset));
  }
  auto entryOffset = builder.CreateVector(entryOffsets);
  auto layoutOffset = builder.CreateVector(layoutOffsets);
  fbs::FinishProgramBuffer(builder, fbs::CreateProgram(builder, entryOffset, layoutOffset));
  auto *begin = reinterpret_cast<const std::byte *>(builder.GetBufferPointer());
  return {begin, begin + builder.GetSize()};
}

llvm::Expected<Loaded> Loaded::from(const program::Program &program) {
  auto machine = Architecture::from(program.machine);
  if (!machine)
    return machine.takeError();
  auto code = Code::decode(program.payload());
  if (!code)
    return code.takeError();
  return Loaded{std::move(*code), std::move(*machine)};
}

} // namespace quadrille::tsp
