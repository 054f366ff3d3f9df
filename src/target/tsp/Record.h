// What a run reports besides values: the timeline with its tracks, counters and tables.
#pragma once

#include "target/tsp/Causes.h"
#include "target/tsp/Occupancy.h"
#include "timeline/Timeline.h"

#include <array>
#include <map>
#include <set>
#include <tuple>

namespace quadrille::tsp {

// Amounts over time in steps of equal length, which doubles as time goes on: a bounded number of steps.
class Series {
public:
  void add(const Progression &cycles, double each);
  int64_t step() const { return length; }
  const std::vector<double> &amounts() const { return steps; }
  double total() const;

  static constexpr int64_t mostSteps = 512;

private:
  int64_t length = 1;
  std::vector<double> steps;
};

class Recorder : public Observer {
public:
  Recorder(const program::Program &program, llvm::ArrayRef<Layout> layouts, const Architecture &machine,
           const Queues &queues, const Occupancy &occupancy);

  void wait(uint32_t queue, int64_t begin, int64_t end);
  void begin(const Work &work);
  void executed(const Work &work, int64_t from, int64_t count, llvm::ArrayRef<Channels::Found> operands) override {
    causes.executed(work, from, count, operands);
  }
  void multiplied(const Work &work, int64_t from, int64_t count, double products,
                  llvm::ArrayRef<Channels::Found> operands, const Issue &tile, const Issue *oddTile) override;
  void accumulated(const Work &work, int64_t from, int64_t count, const Burst &products) override {
    causes.accumulated(work, from, count, products);
  }

  // All that is known when the program has ended.
  timeline::Timeline finish(int64_t cycles, const program::EntryPoint &entry);

private:
  enum Energy { ProductsI8, ProductsF16, Operations, MemoryBytes, StreamBytes, LinkBytes, energyCount };
  timeline::KernelId kernelOf(uint32_t node);
  void spend(Energy kind, const Progression &cycles, double amount);
  double joulesOf(Energy kind) const;
  std::string chipName(int64_t chip) const;
  void addCounter(const std::string &name, const std::string &unit, const Series &series, int64_t cycles);
  void addPower(int64_t cycles);
  void dropUnusedFigures();
  void addChips();
  void addUnits(int64_t cycles);
  void addInstructions();
  void addStreams(int64_t cycles);
  void addMemory();
  void addEnergy(int64_t cycles);
  void addFigures(int64_t cycles);
  std::string largestCause() const;
  double idleJoules(int64_t cycles) const;
  double totalJoules(int64_t cycles) const;
  double bytesOf(llvm::ArrayRef<uint32_t> variables) const;
  void addHost(const program::EntryPoint &entry);
  void addReplicas(const program::EntryPoint &entry);

  const program::Program &program;
  const Architecture &machine;
  const Queues &queues;
  const Occupancy &occupancy;
  Causes causes;
  timeline::Timeline timeline;
  std::vector<timeline::TrackId> tracks;
  std::vector<std::vector<timeline::KernelId>> kernels; // by queue and instruction
  std::map<uint32_t, timeline::KernelId> byNode;
  std::vector<size_t> lastSpan;  // by queue
  std::vector<int64_t> issued;   // by opcode
  std::vector<int64_t> issuedBy; // by queue
  // From a chip's first dispatch until it has completed all, in cycles; end 0: it does nothing.
  struct Window {
    int64_t begin = 0, end = 0;
    int64_t sent = 0; // vectors
  };
  std::vector<Window> windows;                                          // by chip
  std::vector<int64_t> drivenTimes;                                     // by channel
  std::vector<std::array<Series, 2>> streams;                           // vectors driven, by chip and direction
  std::vector<std::set<uint32_t>> nodes;                                // by chip: those behind its instructions
  std::map<std::tuple<int64_t, UnitKind, unsigned>, Series> unitIssues; // by chip and hemisphere (the vector unit's: 0)
  Series energies[energyCount];                                         // amounts: products, operations, bytes
};

} // namespace quadrille::tsp
