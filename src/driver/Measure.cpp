#include "driver/Measure.h"

#include <sys/resource.h>

namespace quadrille::driver {

int64_t peakResidentBytes() {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * int64_t(1024); // Linux counts KiB
}

} // namespace quadrille::driver
