// Host threads. Work is cut the same way for any number of threads, so results never depend on it.
#pragma once

#include "llvm/ADT/STLFunctionalExtras.h"

#include <cstdint>

namespace quadrille {

// Number of host threads used by parallelFor and by the libraries below it; 0 means one per core. Call before any work.
void setThreadCount(unsigned count);
unsigned threadCount();

// Calls body(begin, end) for consecutive ranges of at most `grain` items that cover [0, count), in parallel and in no
// stated order. The ranges depend on count and grain alone. Nested calls run serially.
void parallelFor(int64_t count, int64_t grain, llvm::function_ref<void(int64_t begin, int64_t end)> body);

} // namespace quadrille
