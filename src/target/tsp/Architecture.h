// The figures of a machine that a program of this target depends on, read once, and the geometry that follows from
// them.
#pragma once

#include "machine/Machine.h"

#include "llvm/Support/Error.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace quadrille::tsp {

enum class Direction : uint8_t { East, West };
constexpr unsigned west = 0, east = 1; // hemispheres

struct Architecture {
  // Counts.
  int64_t superlanes, lanes, hemispheres;
  int64_t slices, slicesPerPosition, banks, words, readsPerCycle, writesPerCycle;
  int64_t streams, group; // streams per direction; streams of a 32-bit value
  int64_t queuesPerSlice, queuesPerPlane, nopMaximum, repeatMaximum;
  int64_t planes, rows, columns, installRows, weightBuffers; // planes: per hemisphere
  int64_t tandem;                                            // planes that make one fp16 unit
  int64_t f16Rows, f16Columns, accumulators;
  int64_t alus, aluColumns;
  bool strictRouting;
  int64_t switchQueues, shifters, permuters, transposers, distributors, distributeStreams; // per hemisphere
  int64_t gatherAddressBytes;
  int64_t instructionBytes, fetchBytes, bufferBytes;
  int64_t chips, chipsPerNode, linksUsed, localLinks;
  std::vector<int64_t> chipCounts;                      // numbers of chips that a program may use, ascending
  int64_t globalLinks;                                  // of a chip, to other nodes; 0: no cables are known
  bool meshed;                                          // inside a node: all chips pairwise linked
  std::vector<int64_t> installFirstStream, resultGroup; // per plane of a hemisphere
  std::vector<int64_t> largeAlus, rotateSizes;
  std::vector<int64_t> eastOrder, westOrder;                // [column]: when a stream of that direction meets it
  std::vector<std::vector<bool>> inputGroups, outputGroups; // [mesh row][stream group]
  std::vector<std::vector<bool>> reserved;                  // [hemisphere][slice]

  // Cycles.
  int64_t hop, skew, superlaneSkew, barrier, memoryRead, memoryWrite, memoryGather, memoryScatter;
  int64_t install, multiply, accumulate;
  int64_t vectorEntry, vectorOperation, vectorTranscendental;
  int64_t switchShift, switchShiftAcross, switchDistribute, switchTranspose, switchRotate;
  int64_t fetchLatency, linkInterval, linkLatency, counterPeriod;
  int64_t memoryPosition, toSwitch, toMatrix, fromMatrix;

  double clockHertz;
  // Joules, and joules per byte; watts; bytes and seconds of the host link.
  double energyProductI8, energyProductF16, energyOperation, energyMemoryByte, energyStreamByte, energyLinkByte;
  int64_t reorderThreads;
  double idleWatts, hostBytesPerSecond, hostFixedSeconds, reorderBytesPerSecond;
  std::string machineName;
  std::vector<std::string> assumedFigures;  // of those above that cycles depend on
  std::vector<std::string> assumedEnergies; // of those that energy depends on

  // User errors: another architecture, or figures that contradict each other.
  static llvm::Expected<Architecture> from(const machine::Machine &machine);
  static llvm::Expected<Architecture> from(llvm::StringRef machineYaml);

  int64_t vectorBytes() const { return superlanes * lanes; }
  // Products of a chip in a cycle in which all its planes multiply.
  int64_t productsPerCycle(bool f16) const {
    return hemispheres * (f16 ? planes / tandem * f16Rows * f16Columns : planes * rows * columns);
  }
  // Of the slices kept for the system, which hold the program's text.
  int64_t textBytes() const { return reservedSlices() * banks * words * vectorBytes(); }
  // Of the other slices of a chip.
  int64_t dataWords() const { return (hemispheres * slices - reservedSlices()) * banks * words; }

  // Streams only carry vectors along a line, one position per hop, so every place on it has a coordinate in cycles of
  // flight: a vector that passes coordinate u at cycle t passes v at cycle t + v - u. Coordinates grow in the stream's
  // direction; the vector unit is at 0. The matrix unit lies at different coordinates for what it takes and what it
  // gives, because the switch unit before it takes different times in the two directions.
  int64_t sliceCoordinate(unsigned hemisphere, int64_t slice, Direction direction) const {
    return along(hemisphere, slicePosition(slice) * hop, direction);
  }
  Direction outward(unsigned hemisphere) const { return hemisphere == east ? Direction::East : Direction::West; }
  Direction inward(unsigned hemisphere) const { return hemisphere == east ? Direction::West : Direction::East; }
  // The switch unit, for streams of that direction.
  int64_t switchCoordinate(unsigned hemisphere, Direction direction) const {
    return along(hemisphere, slicePosition(slices - 1) * hop + toSwitch, direction);
  }
  int64_t matrixInputCoordinate() const { return slicePosition(slices - 1) * hop + toMatrix; }       // outward
  int64_t matrixOutputCoordinate() const { return -(slicePosition(slices - 1) * hop + fromMatrix); } // inward
  // Where a stream ends.
  int64_t streamEnd(Direction direction) const {
    return direction == Direction::East && hemispheres == 1 ? 0 : matrixInputCoordinate();
  }
  // Largest magnitude of a coordinate.
  int64_t farthest() const { return slicePosition(slices - 1) * hop + std::max({toSwitch, toMatrix, fromMatrix}); }

  // First stream of the group on which a plane returns its sums.
  int64_t resultStream(int64_t plane) const { return resultGroup[plane] * group; }

private:
  int64_t reservedSlices() const {
    int64_t count = 0;
    for (const std::vector<bool> &slicesOfHemisphere : reserved)
      count += std::count(slicesOfHemisphere.begin(), slicesOfHemisphere.end(), true);
    return count;
  }
  int64_t slicePosition(int64_t slice) const { return memoryPosition + slice / slicesPerPosition; }
  static int64_t along(unsigned hemisphere, int64_t distance, Direction direction) {
    return (hemisphere == east) == (direction == Direction::East) ? distance : -distance;
  }
};

} // namespace quadrille::tsp
