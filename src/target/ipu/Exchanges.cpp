#include "target/ipu/Exchanges.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <cmath>

namespace quadrille::ipu {

int64_t fragmentsOf(const Transfer &transfer) {
  return transfer.destinationStride == static_cast<int64_t>(transfer.bytes) ? 1 : transfer.rows;
}

namespace {

struct Load {
  double received = 0; // bytes, those that a bus brings to several tiles at once counted by their share
  int64_t sent = 0, fragments = 0;
};

// Calls body(send, receivers) for every send with the transfers that receive it.
template <typename Body> void forEachSend(const Exchange &exchange, Body &&body) {
  for (size_t i = 0; i < exchange.transfers.size();) {
    size_t end = i + 1;
    while (end < exchange.transfers.size() && exchange.transfers[end].joins)
      ++end;
    body(exchange.transfers[i], llvm::ArrayRef(exchange.transfers).slice(i, end - i));
    i = end;
  }
}

llvm::DenseMap<uint32_t, Load> loadsOf(const Exchange &exchange, const Architecture &machine) {
  llvm::DenseMap<uint32_t, Load> loads;
  forEachSend(exchange, [&](const Transfer &send, llvm::ArrayRef<Transfer> receivers) {
    int64_t bytes = int64_t(send.rows) * send.bytes;
    // Tiles that share a bus and take the same from it get it at the higher rate.
    llvm::DenseMap<int64_t, int64_t> onBus;
    for (const Transfer &each : receivers)
      forEachTile(each.destinations, [&](uint32_t tile) { ++onBus[tile / machine.tilesPerBus]; });
    for (const Transfer &each : receivers)
      forEachTile(each.destinations, [&](uint32_t tile) {
        Load &load = loads[tile];
        bool shared = onBus[tile / machine.tilesPerBus] == machine.tilesPerBus;
        load.received += static_cast<double>(bytes) / (shared ? machine.sharedFactor : 1);
        load.fragments += fragmentsOf(each);
      });
    loads[send.source].sent += bytes;
  });
  return loads;
}

} // namespace

std::map<int64_t, ExchangeTime> timesOf(const Exchange &exchange, const Architecture &machine) {
  std::map<int64_t, ExchangeTime> times;
  std::map<std::pair<int64_t, int64_t>, int64_t> between; // bytes from one IPU to another
  forEachSend(exchange, [&](const Transfer &send, llvm::ArrayRef<Transfer> receivers) {
    int64_t from = machine.ipuOf(send.source);
    llvm::SmallVector<int64_t, 4> others;
    for (const Transfer &each : receivers)
      forEachTile(each.destinations, [&](uint32_t tile) {
        if (int64_t to = machine.ipuOf(tile); to != from && !llvm::is_contained(others, to))
          others.push_back(to);
      });
    for (int64_t to : others)
      between[{from, to}] += int64_t(send.rows) * send.bytes;
  });
  for (auto &[tile, load] : loadsOf(exchange, machine)) {
    ExchangeTime &time = times[machine.ipuOf(tile)];
    auto receive = static_cast<int64_t>(std::ceil(load.received / static_cast<double>(machine.receiveBytesPerCycle)));
    int64_t send = (load.sent + machine.sendBytesPerCycle - 1) / machine.sendBytesPerCycle;
    int64_t cycles = std::max({receive, send, load.fragments * machine.exchangeFragment});
    if (cycles > time.cycles || (cycles == time.cycles && tile < time.worstTile)) {
      time.cycles = cycles;
      time.worstTile = tile;
    }
    time.meanCycles += static_cast<double>(cycles) / static_cast<double>(machine.tiles);
    time.bytesReceived += static_cast<int64_t>(load.received);
    time.bytesSent += load.sent;
  }
  // Links of the ladder do not scale with the clock.
  std::map<int64_t, double> perIpu;
  for (auto [pair, bytes] : between) {
    auto [from, to] = pair;
    int64_t links = from / 2 == to / 2 ? machine.linksPair : from % 2 != to % 2 ? machine.linksRung : machine.linksUp;
    double seconds =
        static_cast<double>(bytes) / (static_cast<double>(links) * machine.linkBytesPerSecond * machine.linkEfficiency);
    perIpu[from] += seconds;
    perIpu[to] += 0;
  }
  for (auto [ipu, seconds] : perIpu) {
    ExchangeTime &time = times[ipu];
    time.spansIpus = true;
    time.cycles = std::max(time.cycles, static_cast<int64_t>(std::ceil(seconds * machine.clockHertz)));
  }
  return times;
}

std::map<uint32_t, int64_t> codeWordsOf(const Exchange &exchange, const Architecture &machine) {
  std::map<uint32_t, int64_t> words;
  for (auto &[tile, load] : loadsOf(exchange, machine))
    words[tile] = 1 + load.fragments * machine.exchangeFragmentWords;
  forEachSend(exchange, [&](const Transfer &send, llvm::ArrayRef<Transfer>) {
    words[send.source] += send.sourceStride == static_cast<int64_t>(send.bytes) ? 1 : send.rows;
  });
  return words;
}

} // namespace quadrille::ipu
