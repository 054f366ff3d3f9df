// What a command took of this computer.
#pragma once

#include <chrono>
#include <cstdint>

namespace quadrille::driver {

class Stopwatch {
public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); }

private:
  std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
};

// The most memory that this process has held.
int64_t peakResidentBytes();

} // namespace quadrille::driver
