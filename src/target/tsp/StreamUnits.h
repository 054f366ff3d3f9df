// The vector units and switch units of all chips with their links: what takes vectors from channels and gives others,
// and keeps nothing.
#pragma once

#include "target/tsp/Channels.h"

#include <map>

namespace quadrille::tsp {

class StreamUnits {
public:
  explicit StreamUnits(const Context &context) : context(context), queues(context.queues.size()) {}

  // An error when a part of a switch unit or a link is occupied.
  llvm::Error add(std::shared_ptr<Work> work);
  // Executes what can be executed; whether that was anything.
  llvm::Expected<bool> step();
  // Forgets what no instruction from `cycle` on can meet.
  void drop(int64_t cycle);

private:
  // Who occupies what: a part of a switch unit, or the sending or receiving side of a link.
  struct Part {
    int64_t chip;
    uint8_t hemisphere, kind, number;
    auto operator<=>(const Part &) const = default;
  };
  llvm::Error occupy(const Work &work);
  llvm::Expected<bool> step(WorkList &list);
  llvm::Error execute(Work &work, int64_t count, llvm::ArrayRef<Channels::Found> found);

  const Context &context;
  std::vector<WorkList> queues;
  std::vector<uint32_t> active; // queues with work
  std::map<Part, std::vector<Burst>> occupied;
};

} // namespace quadrille::tsp
