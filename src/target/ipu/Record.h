// What a run reports besides values: the timeline with its tracks, figures and tables.
#pragma once

#include "target/ipu/MemoryUse.h"
#include "target/ipu/Steps.h"

#include "program/Program.h"
#include "timeline/Timeline.h"

#include <array>
#include <map>
#include <set>

namespace quadrille::ipu {

class Recorder {
public:
  Recorder(const program::Program &program, const Code &code, size_t entry, const Architecture &machine,
           const Steps &steps);

  void add(const StepTime &time);
  void add(const Path &path);
  timeline::Timeline finish();

private:
  // Of compute sets: what the last tile to come to the next exchange spends, by the purposes of its vertices.
  enum Cause { Exchanging = purposes, Sync, Idle, causeCount };
  static constexpr const char *causeNames[causeCount] = {"multiply", "reduce",   "elementwise", "move",
                                                         "exchange", "barriers", "idle"};
  struct Total { // of one step, over all its executions and IPUs
    int64_t executions = 0, cycles = 0, sync = 0, onPath = 0;
  };

  timeline::KernelId kernelOf(uint32_t node);
  void charge(int64_t ipu, timeline::KernelId kernel, unsigned cause, int64_t cycles);
  std::string nameOfStep(const Step &step) const;
  void addSteps();
  void addMemory();
  void addLiveness(uint32_t tile);
  void addWork();
  void addFigures();

  const program::Program &program;
  const Code &code;
  const std::vector<Step> &list;
  size_t entry;
  const Architecture &machine;
  const Steps &steps;
  timeline::Timeline timeline;
  std::map<uint32_t, timeline::KernelId> byNode;
  std::vector<std::array<timeline::TrackId, 2>> tracks; // by IPU: compute, exchange
  std::vector<int64_t> chargedUntil;                    // by IPU
  std::map<timeline::KernelId, std::array<int64_t, causeCount>> charged;
  std::vector<std::array<int64_t, causeCount>> byIpu;
  std::vector<Total> totals;                       // by step
  std::vector<int64_t> begins;                     // by step: when it was executed first
  std::vector<std::set<uint32_t>> nodes;           // by IPU: those behind the compute sets that it executes
  std::map<timeline::KernelId, double> peakCycles; // that a kernel's multiplications take at one IPU's peak
};

} // namespace quadrille::ipu
