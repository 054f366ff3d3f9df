#include "target/tsp/Effects.h"

#include "target/tsp/SwitchUnit.h"
#include "target/tsp/VectorUnit.h"

namespace quadrille::tsp {

namespace {

constexpr int64_t resultBytesOfAlu = 4; // channels of an arithmetic unit: the bytes of its result

// The numbers of one chip's channels: streams eastward, westward, results of arithmetic units, links that arrive.
int64_t firstResult(const Architecture &machine) {
  return 2 * machine.streams;
}
int64_t firstLink(const Architecture &machine) {
  return firstResult(machine) + resultBytesOfAlu * machine.alus;
}
uint32_t resultChannel(int64_t chip, int64_t alu, int64_t byte, const Architecture &machine) {
  return static_cast<uint32_t>(chip * channelCount(machine) + firstResult(machine) + alu * resultBytesOfAlu + byte);
}

// Places along a channel, in its direction. Two per cycle of flight: units take at the first and give at the second, so
// that none sees its own result. Memory slices of one position see each other.
int64_t takingPlace(int64_t coordinate) {
  return 2 * coordinate;
}
int64_t givingPlace(int64_t coordinate) {
  return 2 * coordinate + 1;
}

class Collector {
public:
  Collector(int64_t chip, const QueueName &queue, const Instruction &instruction, const Architecture &machine)
      : chip(chip), queue(queue), instruction(instruction), machine(machine) {}

  Effects take() {
    switch (queue.unit) {
    case UnitKind::Memory:
      memory();
      break;
    case UnitKind::Matrix:
      matrix();
      break;
    case UnitKind::Vector:
      vector();
      break;
    case UnitKind::Switch:
      switchUnit();
      break;
    case UnitKind::Any:
      break;
    }
    return std::move(effects);
  }

private:
  void read(Direction direction, int64_t stream, int64_t coordinate, int64_t place) {
    effects.reads.push_back({streamChannel(chip, direction, stream, machine), coordinate, place, machine.skew});
  }
  void drive(Direction direction, int64_t stream, int64_t coordinate, int64_t place, int64_t delay, int64_t part) {
    effects.drives.push_back(
        {streamChannel(chip, direction, stream, machine), coordinate, place, delay, static_cast<uint8_t>(part)});
    effects.parts = std::max(effects.parts, part + 1);
  }

  void memory() {
    auto at = [&](Source stream) { return machine.sliceCoordinate(queue.hemisphere, queue.index, stream.direction()); };
    auto readHere = [&](Source stream) { read(stream.direction(), stream.index, at(stream), takingPlace(at(stream))); };
    auto driveHere = [&](Source stream, int64_t latency) {
      drive(stream.direction(), stream.index, at(stream), takingPlace(at(stream)), machine.skew + latency, 0);
      effects.completion = machine.skew + latency;
    };
    Source stream = Source::of(instruction.small[1]), map = Source::of(instruction.small[2]);
    switch (instruction.op()) {
    case Opcode::Read:
      driveHere(stream, machine.memoryRead);
      break;
    case Opcode::Write:
      readHere(stream);
      effects.completion = machine.skew + machine.memoryWrite;
      break;
    case Opcode::Gather:
      readHere(map);
      driveHere(stream, machine.memoryGather);
      break;
    case Opcode::Scatter:
      readHere(map);
      readHere(stream);
      effects.completion = machine.skew + machine.memoryScatter;
      break;
    default:
      break;
    }
  }

  void matrix() {
    int64_t input = machine.matrixInputCoordinate(), output = machine.matrixOutputCoordinate();
    auto readRun = [&](int64_t first, int64_t count) {
      for (int64_t i = 0; i < count; ++i)
        read(machine.outward(queue.hemisphere), first + i, input, takingPlace(input));
    };
    switch (instruction.op()) {
    case Opcode::LoadWeights:
      readRun(machine.installFirstStream[queue.index], machine.installRows);
      effects.completion = machine.skew + 1;
      break;
    case Opcode::InstallWeights:
      effects.completion = machine.skew + machine.install;
      break;
    case Opcode::Activate:
      readRun(Source::of(instruction.small[1]).index, instruction.small[0] == uint8_t(ProductType::F16) ? 2 : 1);
      effects.completion = machine.skew + machine.multiply;
      break;
    case Opcode::Accumulate: {
      auto mode = static_cast<AccumulateMode>(instruction.small[0]);
      effects.completion = machine.skew + 1;
      if (mode != AccumulateMode::Finish && mode != AccumulateMode::Pass)
        break;
      int64_t latency = mode == AccumulateMode::Finish ? machine.accumulate : 0;
      for (int64_t i = 0; i < machine.group; ++i)
        drive(machine.inward(queue.hemisphere), machine.resultStream(queue.index) + i, output, takingPlace(output),
              machine.skew + latency, i);
      effects.completion += latency;
      break;
    }
    default:
      break;
    }
  }

  void vector() {
    int64_t latency = isTranscendental(instruction.op()) ? machine.vectorTranscendental : machine.vectorOperation;
    int64_t inside = machine.skew + machine.vectorEntry;
    for (int64_t operand = 0; operand < operandCount(instruction); ++operand) {
      Source source = operandSource(instruction, operand);
      for (int64_t byte = 0; byte < operandBytes(instruction, operand); ++byte)
        if (source.isStream())
          read(source.direction(), source.index + byte, 0, takingPlace(0));
        else
          effects.reads.push_back({resultChannel(chip, source.index, byte, machine), 0, 0, inside});
    }
    Source to = Source::of(instruction.small[2]);
    for (int64_t byte = 0; byte < resultBytes(instruction); ++byte) {
      effects.drives.push_back(
          {resultChannel(chip, queue.index, byte, machine), 0, 0, inside + latency, static_cast<uint8_t>(byte)});
      if (to.isStream())
        drive(to.direction(), to.index + byte, 0, givingPlace(0), inside + latency, byte);
    }
    effects.parts = resultBytes(instruction);
    effects.completion = inside + latency + 1;
  }

  void switchUnit() {
    auto at = [&](Direction direction) { return machine.switchCoordinate(queue.hemisphere, direction); };
    for (const StreamRun &run : switchInputs(instruction, machine))
      for (int64_t i = 0; i < run.count; ++i)
        read(run.first.direction(), run.first.index + i, at(run.first.direction()),
             takingPlace(at(run.first.direction())));
    effects.completion = machine.skew + switchLatency(instruction, machine) + 1;
    if (instruction.op() == Opcode::Receive)
      effects.reads.push_back({linkChannel(chip, instruction.small[0], machine), 0, 0, machine.skew});
    if (instruction.op() == Opcode::Send) {
      effects.completion = machine.skew + machine.linkLatency;
      if (auto end = farEnd({chip, instruction.small[0]}, machine))
        effects.drives.push_back({linkChannel(end->chip, end->link, machine), 0, 0, effects.completion});
      effects.parts = 1;
    }
    if (auto run = switchOutput(instruction, machine))
      for (int64_t i = 0; i < run->count; ++i)
        drive(run->first.direction(), run->first.index + i, at(run->first.direction()),
              givingPlace(at(run->first.direction())), machine.skew + switchLatency(instruction, machine), i);
  }

  int64_t chip;
  const QueueName &queue;
  const Instruction &instruction;
  const Architecture &machine;
  Effects effects;
};

} // namespace

Effects effectsOf(int64_t chip, const QueueName &queue, const Instruction &instruction, const Architecture &machine) {
  return Collector(chip, queue, instruction, machine).take();
}

int64_t channelCount(const Architecture &machine) {
  return firstLink(machine) + machine.linksUsed;
}
uint32_t streamChannel(int64_t chip, Direction direction, int64_t stream, const Architecture &machine) {
  return static_cast<uint32_t>(chip * channelCount(machine) + static_cast<int64_t>(direction) * machine.streams +
                               stream);
}
uint32_t linkChannel(int64_t chip, int64_t link, const Architecture &machine) {
  return static_cast<uint32_t>(chip * channelCount(machine) + firstLink(machine) + link);
}
bool isStreamChannel(uint32_t channel, const Architecture &machine) {
  return channel % channelCount(machine) < firstResult(machine);
}
bool isLinkChannel(uint32_t channel, const Architecture &machine) {
  return channel % channelCount(machine) >= firstLink(machine);
}
std::string channelName(uint32_t channel, const Architecture &machine) {
  int64_t local = channel % channelCount(machine);
  if (local < firstResult(machine))
    return "stream " + print(Source{local < machine.streams ? Source::East : Source::West,
                                    static_cast<uint8_t>(local % machine.streams)});
  if (local < firstLink(machine))
    return "the result of arithmetic unit " + std::to_string((local - firstResult(machine)) / resultBytesOfAlu);
  return "link " + std::to_string(local - firstLink(machine));
}

} // namespace quadrille::tsp
