// Where the cycles went: each cycle of each chip to one cause and one node, by what the program does in it. README.md,
// "Where the cycles went", states the rule.
#pragma once

#include "target/tsp/Observer.h"
#include "target/tsp/Selections.h"
#include "timeline/Timeline.h"

#include "llvm/ADT/STLFunctionalExtras.h"

#include <array>
#include <map>
#include <tuple>

namespace quadrille::tsp {

class Occupancy;

// Work first; of several kinds in one cycle the first counts.
enum class Cause : uint8_t { Matrix, Vector, Install, Movement, Held, Fill, Drain, Idle };
constexpr size_t causeCount = 8;

class Causes {
public:
  Causes(const program::Program &program, llvm::ArrayRef<Layout> layouts, const Architecture &machine,
         const Queues &queues, const Occupancy &occupancy);

  // The queue idles until `end`, for a barrier or a counter.
  void wait(uint32_t queue, int64_t end) { waits[queue].push_back(end); }
  // As Observer's.
  void executed(const Work &work, int64_t from, int64_t count, llvm::ArrayRef<Channels::Found> operands);
  void multiplied(const Work &work, int64_t from, int64_t count, double products,
                  llvm::ArrayRef<Channels::Found> operands, const Issue &tile, const Issue *oddTile);
  void accumulated(const Work &work, int64_t from, int64_t count, const Burst &products);

  // When the program has ended, in `cycles`. `kernelOf` gives the kernel of an instruction of a queue.
  timeline::Attribution finish(int64_t cycles,
                               llvm::function_ref<timeline::KernelId(uint32_t queue, uint32_t instruction)> kernelOf);

private:
  struct By {
    uint32_t queue = 0, instruction = 0;
    auto operator<=>(const By &) const = default;
  };
  // Issues that are work.
  struct Part {
    Progression cycles;
    Cause cause;
    bool first; // begins with the first issue of its instruction
    By by;
    double peakCycles; // of each issue
  };
  // From the dispatch of the first instruction on the way to a destination until what it brings is there.
  struct Flight {
    int64_t begin, end;
    By by; // the instruction at the destination
  };
  // Of an instruction's first issue.
  struct Timing {
    int64_t start = 0; // dispatch of the earliest on the streams to it
    int64_t slack = 0; // by how many cycles it could be dispatched earlier, all else unchanged
  };
  struct Plane {
    std::vector<SelectionRows::Number> rows; // of the load buffer
    int64_t lastLoad = 0, nextLoad = 0;      // the latest dispatch of LW; the earliest that does not meet an IW
  };
  struct Tile {
    Selection selection = Selection::None;
    int64_t ready = 0; // the earliest dispatch of ABC that meets it
  };
  class Painter;

  void forgetWritten();
  Timing &timingOf(const Burst &burst) { return timings[burst.queue][burst.instruction]; }
  Timing begin(const Work &work, int64_t from, llvm::ArrayRef<Channels::Found> operands) const;
  int64_t releaseOf(uint32_t queue, int64_t cycle) const;
  int64_t slackOfWords(const Work &work, int64_t from) const;
  void addPart(const Work &work, int64_t from, Progression cycles, Cause cause, double peakCycles = 0);
  void addFlight(const Work &work, int64_t from, int64_t count);
  Plane &planeOf(const Work &work);
  void load(Plane &plane, const Work &work, int64_t from, int64_t count, llvm::ArrayRef<Channels::Found> operands);
  size_t bankOf(const Work &work) const {
    return ((work.chip * machine.hemispheres + work.queue->hemisphere) * machine.slices + work.queue->index) *
               machine.banks +
           work.instruction->small[0];
  }
  auto tileKey(const Issue &issue) const { return std::tuple(issue.queue, issue.instruction, issue.iteration); }

  const Architecture &machine;
  const Queues &queues;
  const Occupancy &occupancy;
  SelectionRows selections;
  std::vector<std::vector<int64_t>> waits;  // by queue: when each is over, ascending
  std::vector<std::vector<Timing>> timings; // by queue and instruction
  std::vector<Plane> planes;
  std::map<std::tuple<uint32_t, uint32_t, int64_t>, Tile> tiles; // by install
  std::map<size_t, std::vector<int64_t>> scattered; // by bank and address: the earliest read of what a scatter wrote
  std::vector<std::vector<Part>> parts;             // by chip
  std::vector<std::vector<Flight>> flights;         // by chip
  std::vector<size_t> lastPart, lastFlight;         // by queue
};

} // namespace quadrille::tsp
