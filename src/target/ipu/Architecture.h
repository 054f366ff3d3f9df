// The figures of a machine that a program of this target depends on, read once.
#pragma once

#include "machine/Machine.h"
#include "numerics/ElementType.h"

#include "llvm/Support/Error.h"

#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

namespace quadrille::ipu {

struct Architecture {
  // Counts.
  int64_t tiles, workers, ipus;
  std::vector<int64_t> ipuCounts;                                      // that a program may use, ascending
  std::vector<int64_t> verticalMacChannelsF16, verticalMacChannelsF32; // see verticalMacChannels()
  int64_t slimWindow, slimChannels; // elements of a row and channels that the slim convolution takes together
  std::vector<int64_t> slimStrides;
  int64_t tilesPerBus, ipusPerHop, ipusPerMachine;

  // Bytes of a tile's memory: all of it, from the start the part that holds code, at the end the part that cannot be
  // loaded; the widest load; stores narrower than the granularity read, modify and write.
  int64_t memoryBytes, executableBytes, tailBytes, loadBytes, storeGranularity, elementBytes;
  int64_t interleavedBytes, wideLoadBytes; // the last part of it, and the loads that only that one has
  int64_t stackBytes, vertexCodeBytes, vertexStateBytes, vertexFieldBytes, controlCodeBytes;
  int64_t exchangeGranularity, exchangeCodeWordBytes, exchangeFragmentWords;

  double planProportion; // share of a tile's memory that the operands and sums of a contraction may take

  // Bytes per cycle.
  int64_t receiveBytesPerCycle, sendBytesPerCycle;
  double sharedFactor;
  // Cycles.
  int64_t exchangeFragment, syncInternal, syncGlobal;
  double syncHopSeconds;

  double clockHertz;
  // Between IPUs: links to the neighbours in the ladder, and bytes per second and direction of a link.
  int64_t linksPair, linksRung, linksUp, linksDown;
  double linkBytesPerSecond, linkEfficiency;
  double hostBytesPerSecond, idleWatts;
  // Multiply-accumulates of a tile in a cycle, f16 with f16 and f32 partials, f32.
  double productsF16F16, productsF16F32, productsF32F32;
  // Input channels of a unit in a pass, and how many kernel rows may share them.
  int64_t unitWeightsF16F16, unitWeightsF16F32, unitWeightsF32F32;
  std::vector<int64_t> filterHeights;
  std::string machineName;
  std::vector<std::string> assumedFigures; // of those above that cycles depend on

  // User errors: another architecture, or figures that contradict each other.
  static llvm::Expected<Architecture> from(const machine::Machine &machine);
  static llvm::Expected<Architecture> from(llvm::StringRef machineYaml);

  // Channels that the depthwise vertex takes together, by the type of its partial sums.
  llvm::ArrayRef<int64_t> verticalMacChannels(ElementType partials) const {
    return partials == ElementType::f16 ? verticalMacChannelsF16 : verticalMacChannelsF32;
  }
  int64_t unitWeights(ElementType type, ElementType partials) const {
    return type == ElementType::f32       ? unitWeightsF32F32
           : partials == ElementType::f32 ? unitWeightsF16F32
                                          : unitWeightsF16F16;
  }

  // Of arrays that any vertex or transfer can read.
  int64_t arrayAlignment() const { return std::lcm(loadBytes, exchangeGranularity); }

  // Where the interleaved part of a tile's memory begins.
  int64_t interleavedBegin() const { return memoryBytes - interleavedBytes; }

  int64_t ipuOf(int64_t tile) const { return tile / tiles; }
  // A barrier that spans IPUs or the host (section 4.3 of the sources: poplibs' tools).
  int64_t globalSync(int64_t ipusInProgram) const;
};

} // namespace quadrille::ipu
