// What an exchange takes: the busiest tile's bytes, by its receiving and sending widths, and its control instructions.
#pragma once

#include "target/ipu/Code.h"

#include <map>

namespace quadrille::ipu {

struct ExchangeTime {
  int64_t cycles = 0;     // of the transfers, without the barrier before them
  bool spansIpus = false; // then the barrier does too
  uint32_t worstTile = 0;
  int64_t bytesReceived = 0, bytesSent = 0; // by all tiles
  double meanCycles = 0;                    // over the tiles of the IPUs that take part
};

// Of each IPU that takes part: internal exchanges of different IPUs are independent of each other.
std::map<int64_t, ExchangeTime> timesOf(const Exchange &exchange, const Architecture &machine);

// Words of exchange code that each tile needs for it, by tile.
std::map<uint32_t, int64_t> codeWordsOf(const Exchange &exchange, const Architecture &machine);

// Runs of the transfer that the receiver takes one pointer each for.
int64_t fragmentsOf(const Transfer &transfer);

} // namespace quadrille::ipu
