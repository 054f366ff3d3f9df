#include "target/tsp/SwitchUnit.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/ErrorHandling.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

namespace quadrille::tsp {

namespace {

// Where Switch.def has the operands.
namespace operand {
constexpr Member from = Member::Small1, to = Member::Small2, map = Member::Byte0;
constexpr Member a = Member::Small1, b = Member::Byte0, mask = Member::Byte1;
constexpr Member rotateSize = Member::Byte0;
constexpr Member distributeStreams = Member::Byte1, bypass = Member::Byte2;
constexpr Member link = Member::Small0, linkStream = Member::Small1;
} // namespace operand

Source sourceAt(const Instruction &instruction, Member member) {
  return Source::of(static_cast<uint8_t>(valueOf(instruction, member)));
}

// Whether the run starts at a multiple of `alignment` and ends where its direction does at the latest. `verb` is
// "takes" or "gives".
std::string runProblem(const Instruction &instruction, llvm::StringRef name, llvm::StringRef verb, StreamRun run,
                       int64_t alignment, const Architecture &machine) {
  bool aligned = run.first.index % alignment == 0;
  if (aligned && run.first.index + run.count <= machine.streams)
    return "";
  Source last = run.first;
  last.index = static_cast<uint8_t>(machine.streams - 1);
  return (name + "=" + print(run.first) + ": " + formOf(instruction.opcode)->mnemonic + " " + verb + " " +
          llvm::Twine(run.count) + " consecutive streams" +
          (aligned ? ", the last of this direction is " + print(last)
                   : " that start at a multiple of " + std::to_string(alignment)))
      .str();
}

std::string rotateProblem(const Instruction &instruction, const Architecture &machine) {
  int64_t size = valueOf(instruction, operand::rotateSize), entries = size * size;
  std::string problem = "size=" + std::to_string(size) + ": rotate ";
  if (!llvm::is_contained(machine.rotateSizes, size)) {
    std::string sizes;
    for (int64_t known : machine.rotateSizes)
      sizes += (sizes.empty() ? "" : ", ") + std::to_string(known);
    return problem + "has the block sizes " + sizes;
  }
  if (entries > machine.lanes)
    return problem + "takes " + std::to_string(entries) + " lanes, a superlane has " + std::to_string(machine.lanes);
  if (entries > machine.streams)
    return problem + "gives " + std::to_string(entries) + " streams, a direction has " +
           std::to_string(machine.streams);
  return runProblem(instruction, "to", "gives", {sourceAt(instruction, operand::to), entries}, 1, machine);
}

void shift(const std::byte *in, std::byte *out, int64_t lanes, int64_t bytes) {
  assert(-bytes < lanes && lanes < bytes);
  if (lanes >= 0) {
    std::memset(out, 0, lanes);
    std::memcpy(out + lanes, in, bytes - lanes);
  } else {
    std::memcpy(out, in - lanes, bytes + lanes);
    std::memset(out + bytes + lanes, 0, -lanes);
  }
}

void select(const std::byte *a, const std::byte *b, const std::byte *mask, std::byte *out, int64_t bytes) {
  for (int64_t lane = 0; lane < bytes; ++lane)
    out[lane] = mask[lane] != std::byte(0) ? a[lane] : b[lane];
}

std::string permute(const std::byte *in, const std::byte *mapLow, const std::byte *mapHigh, std::byte *out,
                    int64_t bytes) {
  auto source = [&](int64_t lane) {
    return std::to_integer<int64_t>(mapLow[lane]) | std::to_integer<int64_t>(mapHigh[lane]) << 8;
  };
  llvm::SmallVector<bool, 512> taken(bytes);
  for (int64_t lane = 0; lane < bytes; ++lane) {
    int64_t named = source(lane);
    if (named >= bytes)
      return ("map: lane " + llvm::Twine(lane) + " takes lane " + llvm::Twine(named) + ", the last is " +
              llvm::Twine(bytes - 1))
          .str();
    if (taken[named]) {
      int64_t first = 0;
      while (source(first) != named)
        ++first;
      return ("map: lanes " + llvm::Twine(first) + " and " + llvm::Twine(lane) + " both take lane " +
              llvm::Twine(named))
          .str();
    }
    taken[named] = true;
    out[lane] = in[named];
  }
  return "";
}

std::string distribute(const Instruction &instruction, llvm::ArrayRef<const std::byte *> inputs,
                       llvm::ArrayRef<std::byte *> outputs, const Architecture &machine) {
  int64_t lanes = machine.lanes, bytes = machine.vectorBytes(), bypass = valueOf(instruction, operand::bypass);
  const std::byte *map = inputs.back();
  const std::byte *beyond =
      std::find_if(map, map + bytes, [&](std::byte value) { return std::to_integer<int64_t>(value) > lanes; });
  if (beyond != map + bytes)
    return ("map: lane " + llvm::Twine(beyond - map) + " takes lane " + llvm::Twine(std::to_integer<int64_t>(*beyond)) +
            " of its superlane, the last is " + llvm::Twine(lanes - 1) + " and " + llvm::Twine(lanes) + " gives zero")
        .str();
  std::array<std::byte, 256> block; // lanes of one superlane, and the zero behind them
  block[lanes] = std::byte(0);
  for (size_t stream = 0; stream < outputs.size(); ++stream) {
    if (bypass >> stream & 1) {
      std::memcpy(outputs[stream], inputs[stream], bytes);
      continue;
    }
    for (int64_t base = 0; base < bytes; base += lanes) {
      std::memcpy(block.data(), inputs[stream] + base, lanes);
      for (int64_t lane = base; lane < base + lanes; ++lane)
        outputs[stream][lane] = block[std::to_integer<size_t>(map[lane])];
    }
  }
  return "";
}

void rotate(const std::byte *in, llvm::ArrayRef<std::byte *> outputs, int64_t size, const Architecture &machine) {
  llvm::SmallVector<int64_t, 16> source(size * size); // of each lane of the block
  for (int64_t r = 0; r < size; ++r)
    for (int64_t c = 0; c < size; ++c) {
      for (int64_t i = 0; i < size; ++i)
        for (int64_t j = 0; j < size; ++j)
          source[i * size + j] = (i + r) % size * size + (j + c) % size;
      std::byte *out = outputs[size * r + c];
      std::memset(out, 0, machine.vectorBytes());
      for (int64_t base = 0; base < machine.vectorBytes(); base += machine.lanes)
        for (int64_t lane = 0; lane < size * size; ++lane)
          out[base + lane] = in[base + source[lane]];
    }
}

// Sixteen rows of sixteen bytes. Dealing the second half of the block between the first moves every byte from index i
// to i's eight bits rotated left by one, so four deals exchange row and column. Compilers vectorise it.
using Block = std::array<std::byte, 256>;
void deal(const Block &in, Block &out) {
  for (size_t i = 0; i < 128; ++i) {
    out[2 * i] = in[i];
    out[2 * i + 1] = in[128 + i];
  }
}

void transpose(llvm::ArrayRef<const std::byte *> inputs, llvm::ArrayRef<std::byte *> outputs,
               const Architecture &machine) {
  int64_t lanes = machine.lanes;
  for (int64_t base = 0; base < machine.vectorBytes(); base += lanes) {
    if (lanes == 16) {
      Block a, b;
      for (size_t row = 0; row < 16; ++row)
        std::memcpy(a.data() + 16 * row, inputs[row] + base, 16);
      deal(a, b);
      deal(b, a);
      deal(a, b);
      deal(b, a);
      for (size_t row = 0; row < 16; ++row)
        std::memcpy(outputs[row] + base, a.data() + 16 * row, 16);
      continue;
    }
    for (int64_t i = 0; i < lanes; ++i)
      for (int64_t j = 0; j < lanes; ++j)
        outputs[i][base + j] = inputs[j][base + i];
  }
}

} // namespace

llvm::SmallVector<StreamRun, 3> switchInputs(const Instruction &instruction, const Architecture &machine) {
  switch (instruction.op()) {
  case Opcode::Shift:
  case Opcode::Rotate:
    return {{sourceAt(instruction, operand::from), 1}};
  case Opcode::Send:
    return {{sourceAt(instruction, operand::linkStream), 1}};
  case Opcode::Select:
    return {{sourceAt(instruction, operand::a), 1},
            {sourceAt(instruction, operand::b), 1},
            {sourceAt(instruction, operand::mask), 1}};
  case Opcode::Permute:
    return {{sourceAt(instruction, operand::from), 1}, {sourceAt(instruction, operand::map), 2}};
  case Opcode::Distribute:
    return {{sourceAt(instruction, operand::from), valueOf(instruction, operand::distributeStreams)},
            {sourceAt(instruction, operand::map), 1}};
  case Opcode::Transpose:
    return {{sourceAt(instruction, operand::from), machine.lanes}};
  case Opcode::Receive:
    return {};
  default:
    llvm_unreachable("not an instruction of the switch unit");
  }
}

std::optional<StreamRun> switchOutput(const Instruction &instruction, const Architecture &machine) {
  switch (instruction.op()) {
  case Opcode::Shift:
  case Opcode::Select:
  case Opcode::Permute:
    return StreamRun{sourceAt(instruction, operand::to), 1};
  case Opcode::Distribute:
    return StreamRun{sourceAt(instruction, operand::to), valueOf(instruction, operand::distributeStreams)};
  case Opcode::Rotate: {
    int64_t size = valueOf(instruction, operand::rotateSize);
    return StreamRun{sourceAt(instruction, operand::to), size * size};
  }
  case Opcode::Transpose:
    return StreamRun{sourceAt(instruction, operand::to), machine.lanes};
  case Opcode::Receive:
    return StreamRun{sourceAt(instruction, operand::linkStream), 1};
  case Opcode::Send:
    return std::nullopt;
  default:
    llvm_unreachable("not an instruction of the switch unit");
  }
}

std::optional<SwitchPart> switchPart(Opcode opcode) {
  switch (opcode) {
  case Opcode::Shift:
  case Opcode::Select:
    return SwitchPart::Shifter;
  case Opcode::Permute:
  case Opcode::Rotate:
    return SwitchPart::Permuter;
  case Opcode::Distribute:
    return SwitchPart::Distributor;
  case Opcode::Transpose:
    return SwitchPart::Transposer;
  case Opcode::Send:
  case Opcode::Receive:
    return std::nullopt;
  default:
    llvm_unreachable("not an instruction of the switch unit");
  }
}

llvm::StringRef nameOf(SwitchPart part) {
  static const char *const names[] = {"shifter", "permuter", "distributor", "transposer"};
  return names[static_cast<unsigned>(part)];
}

int64_t switchLatency(const Instruction &instruction, const Architecture &machine) {
  switch (instruction.op()) {
  case Opcode::Shift:
    return instruction.word[0] == 0 ? machine.switchShift : machine.switchShiftAcross;
  case Opcode::Select:
    return machine.switchShift;
  case Opcode::Permute:
    return machine.switchShiftAcross;
  case Opcode::Distribute:
    return machine.switchDistribute;
  case Opcode::Rotate:
    return machine.switchRotate;
  case Opcode::Transpose:
    return machine.switchTranspose;
  case Opcode::Send:
  case Opcode::Receive:
    return 0;
  default:
    llvm_unreachable("not an instruction of the switch unit");
  }
}

std::string switchProblem(const Instruction &instruction, unsigned hemisphere, const Architecture &machine) {
  auto fromAndTo = [&](int64_t count, int64_t alignment) {
    std::string problem =
        runProblem(instruction, "from", "takes", {sourceAt(instruction, operand::from), count}, alignment, machine);
    return !problem.empty() ? problem
                            : runProblem(instruction, "to", "gives", {sourceAt(instruction, operand::to), count},
                                         alignment, machine);
  };
  switch (instruction.op()) {
  case Opcode::Permute:
    return runProblem(instruction, "map", "takes", {sourceAt(instruction, operand::map), 2}, 2, machine);
  case Opcode::Distribute:
    return fromAndTo(valueOf(instruction, operand::distributeStreams), 1);
  case Opcode::Rotate:
    return rotateProblem(instruction, machine);
  case Opcode::Transpose:
    return fromAndTo(machine.lanes, machine.lanes);
  case Opcode::Send:
  case Opcode::Receive: {
    int64_t link = valueOf(instruction, operand::link);
    if (link % 2 == hemisphere)
      return "";
    return ("link=" + llvm::Twine(link) + ": " + (link % 2 == west ? "even" : "odd") +
            " links belong to the switch unit " + (link % 2 == west ? "west" : "east"))
        .str();
  }
  default:
    return "";
  }
}

std::string switchVector(const Instruction &instruction, llvm::ArrayRef<const std::byte *> inputs,
                         llvm::ArrayRef<std::byte *> outputs, const Architecture &machine) {
  int64_t bytes = machine.vectorBytes();
  switch (instruction.op()) {
  case Opcode::Shift:
    shift(inputs[0], outputs[0], instruction.word[0], bytes);
    return "";
  case Opcode::Select:
    select(inputs[0], inputs[1], inputs[2], outputs[0], bytes);
    return "";
  case Opcode::Permute:
    return permute(inputs[0], inputs[1], inputs[2], outputs[0], bytes);
  case Opcode::Distribute:
    return distribute(instruction, inputs, outputs, machine);
  case Opcode::Rotate:
    rotate(inputs[0], outputs, valueOf(instruction, operand::rotateSize), machine);
    return "";
  case Opcode::Transpose:
    transpose(inputs, outputs, machine);
    return "";
  default:
    llvm_unreachable("the instruction computes no vectors");
  }
}

static std::optional<LinkEnd> farEndOfGlobal(LinkEnd end, const Architecture &machine) {
  int64_t perNode = machine.chipsPerNode, others = machine.chips / perNode - 1;
  if (others <= 0)
    return std::nullopt;
  int64_t node = end.chip / perNode, port = (end.link - machine.localLinks) * perNode + end.chip % perNode;
  int64_t otherNode = port % others < node ? port % others : port % others + 1;
  int64_t farPort = port / others * others + (node < otherNode ? node : node - 1);
  if (farPort >= perNode * machine.globalLinks)
    return std::nullopt;
  return LinkEnd{otherNode * perNode + farPort % perNode, machine.localLinks + farPort / perNode};
}

std::optional<LinkEnd> farEnd(LinkEnd end, const Architecture &machine) {
  if (end.chip < 0 || end.chip >= machine.chips || end.link < 0)
    return std::nullopt;
  if (end.link >= machine.localLinks && end.link < machine.localLinks + machine.globalLinks)
    return farEndOfGlobal(end, machine);
  if (!machine.meshed || end.link >= machine.chipsPerNode - 1)
    return std::nullopt;
  // The others are the chips of the node in order, without this one.
  int64_t here = end.chip % machine.chipsPerNode;
  int64_t there = end.link < here ? end.link : end.link + 1;
  int64_t chip = end.chip - here + there;
  if (chip >= machine.chips)
    return std::nullopt;
  return LinkEnd{chip, here < there ? here : here - 1};
}

} // namespace quadrille::tsp
