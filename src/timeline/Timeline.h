// What happened when on a machine: tracks with spans, counters, and the kernels they belong to. Recording never changes
// cycles. Writers: Perfetto, CSV, JSON (timeline/Write.h).
#pragma once

#include "base/Units.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace quadrille::timeline {

enum class Category : uint8_t { Compute, Memory, Exchange, Sync, Stall, Io, Idle };
const char *nameOf(Category category);

using TrackId = uint32_t;
using KernelId = uint32_t;
constexpr KernelId noKernel = ~KernelId(0);

// A piece of the model's work, the same identity on every machine: ONNX nodes, kind, FLOPs and bytes.
struct KernelRecord {
  std::string name, kind, placement;
  std::vector<std::string> nodes;
  double flops = 0, bytes = 0;
};

// A resource of the machine: "MEM west 12", "MXM plane 0", "tile group 3", "link 5". Tracks form a tree by path.
struct Track {
  std::string name;
  std::optional<TrackId> parent;
};

struct Span {
  TrackId track = 0;
  Cycles begin, end; // [begin, end)
  Category category = Category::Compute;
  KernelId kernel = noKernel;
  std::string name;
  int64_t interval = 1; // takes begin, begin + interval, ... before end: all cycles, or one in so many
};

struct CounterSample {
  Cycles at;
  double value = 0;
};

struct Counter {
  std::string name, unit;
  std::optional<TrackId> parent;
  std::vector<CounterSample> samples; // ascending in time
};

// What a target reports besides: shown as it is.
struct Table {
  std::string title;
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows; // as many cells as columns
  std::string note;                           // a sentence below it, or empty
};

// What machines are compared by. Each is of all chips that all replicas of the program run on, unless it says
// otherwise, and absent where the machine has no such thing or the target does not know it.
struct Figures {
  // Programs that run side by side, each on chips of its own and each working on runs of its own. The timeline is that
  // of one of them.
  int64_t replicas = 1;
  // Of one replica: from the start of a run to that of the next when runs follow each other as closely as they can:
  // less than the cycles of one run where its parts overlap (stages of a pipeline).
  std::optional<Cycles> interval;
  // The same for what the host does, where it or its links serve several replicas in turn; absent: hostSeconds.
  std::optional<double> hostIntervalSeconds;
  std::optional<double> peakOperations;               // a second, of matrix products in the program's precision
  std::optional<double> memoryBytes, memoryPeakBytes; // what there is, and the most that is needed of it
  std::optional<double> energyJoules;                 // of one run of each replica
  std::optional<int64_t> instructions;                // that the program has
  std::string limitedBy;                              // what takes most of the cycles; "": not known
};

// Where the cycles of all devices went: each cycle of each device to one cause and at most one kernel, so that the sums
// over causes and kernels are the timeline's cycles for each device. What the causes are is the target's to say.
struct Attribution {
  struct Share {
    KernelId kernel = noKernel;
    std::vector<Cycles> cycles; // by cause, summed over devices
    double peakCycles = 0;      // that the kernel's multiplications would take at one device's peak
  };
  std::vector<std::string> causes;
  std::vector<std::vector<Cycles>> devices; // by device and cause
  std::vector<Share> kernels;               // those with cycles, in no particular order; cycles of none as noKernel's
  std::string peakName;                     // of the unit whose peak is meant: "MXM"
};

struct Timeline {
  std::string machine, model;
  double clockHertz = 0; // device clock; 0 for a machine without one (the host)
  Cycles cycles;         // total on the device
  double hostSeconds = 0;
  Figures figures;
  std::vector<KernelRecord> kernels;
  std::vector<Track> tracks;
  std::vector<Span> spans;
  std::vector<Counter> counters;
  std::vector<Table> tables;
  Attribution attribution;                 // empty where the target does not say
  std::vector<std::string> assumedFigures; // machine figures with status assumed that `cycles` depends on

  TrackId addTrack(std::string name, std::optional<TrackId> parent = std::nullopt) {
    tracks.push_back({std::move(name), parent});
    return static_cast<TrackId>(tracks.size() - 1);
  }
  // Says that there are so many replicas: of their figures all but those of one are multiplied.
  void replicate(int64_t replicas, double hostIntervalSeconds);
  // Between runs of a replica, as far as the host is concerned.
  double hostIntervalSeconds() const { return figures.hostIntervalSeconds.value_or(hostSeconds); }
  double deviceSeconds() const { return clockHertz > 0 ? static_cast<double>(cycles.value) / clockHertz : 0; }
};

} // namespace quadrille::timeline
