#include "timeline/Timeline.h"

namespace quadrille::timeline {

void Timeline::replicate(int64_t replicas, double hostIntervalSeconds) {
  figures.replicas = replicas;
  if (replicas == 1)
    return;
  figures.hostIntervalSeconds = hostIntervalSeconds;
  for (std::optional<double> *figure :
       {&figures.peakOperations, &figures.memoryBytes, &figures.memoryPeakBytes, &figures.energyJoules})
    if (*figure)
      **figure *= static_cast<double>(replicas);
  if (figures.instructions)
    *figures.instructions *= replicas;
}

} // namespace quadrille::timeline
