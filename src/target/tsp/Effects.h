// What an instruction takes from and gives to the channels of the machine, and when, as data. With the .def files this
// is the definition of the machine that the simulator and the checker share; what they do with it they share not.
//
// A channel carries vectors along a line: a stream, the way from an arithmetic unit to others, or the link that arrives
// at a chip. A vector that is put on a channel at coordinate u in cycle t passes v in cycle t + v - u, so `t - u` names
// its diagonal in space and time for all its flight: nothing is ever shifted.
#pragma once

#include "target/tsp/Code.h"

#include "llvm/ADT/SmallVector.h"

namespace quadrille::tsp {

// One end of a channel: where an instruction reads or drives it, `delay` cycles after its dispatch.
//
// Along a channel places have an order. A driver further along replaces the vector for all who read beyond. `place` of
// a driver is its own; of a reader it is the last that it can see. A unit does not see what it drives itself.
struct ChannelEnd {
  uint32_t channel;
  int64_t coordinate, place, delay;
  uint8_t part = 0; // of a driver: which vector of the result
};

struct Effects {
  llvm::SmallVector<ChannelEnd, 4> reads; // operand after operand, low byte first
  llvm::SmallVector<ChannelEnd, 4> drives;
  int64_t parts = 0;      // vectors of the result: bytes of its elements, or streams
  int64_t completion = 0; // from dispatch until everything is over
};

// Of a legal instruction in a legal queue of chip `chip`. ABC's products reach ACC inside the plane, not over a
// channel.
Effects effectsOf(int64_t chip, const QueueName &queue, const Instruction &instruction, const Architecture &machine);

// Numbers of channels, chip after chip.
int64_t channelCount(const Architecture &machine); // of one chip
uint32_t streamChannel(int64_t chip, Direction direction, int64_t stream, const Architecture &machine);
uint32_t linkChannel(int64_t chip, int64_t link, const Architecture &machine);
bool isStreamChannel(uint32_t channel, const Architecture &machine);
bool isLinkChannel(uint32_t channel, const Architecture &machine);
// "stream e9", "the result of arithmetic unit 3", "link 2"
std::string channelName(uint32_t channel, const Architecture &machine);

} // namespace quadrille::tsp
