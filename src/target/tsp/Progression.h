// Arithmetic progressions: the cycles, diagonals and addresses of an instruction and its Repeat.
#pragma once

#include <cstdint>
#include <numeric>
#include <optional>

namespace quadrille::tsp {

// first, first + interval, ..., `count` values; interval >= 1, count >= 1.
struct Progression {
  int64_t first = 0, interval = 1, count = 1;

  int64_t at(int64_t k) const { return first + k * interval; }
  int64_t last() const { return at(count - 1); }
  Progression shifted(int64_t by) const { return {first + by, interval, count}; }
  Progression part(int64_t from, int64_t length) const { return {at(from), interval, length}; }
  bool meets(const Progression &other) const { return first <= other.last() && other.first <= last(); } // their hulls
  std::optional<int64_t> indexOf(int64_t value) const {
    if (value < first || value > last() || (value - first) % interval != 0)
      return std::nullopt;
    return (value - first) / interval;
  }
};

// The index in `a` of the smallest value that both hold.
inline std::optional<int64_t> firstCommon(const Progression &a, const Progression &b) {
  if (!a.meets(b))
    return std::nullopt;
  int64_t from = b.first > a.first ? (b.first - a.first + a.interval - 1) / a.interval : 0;
  if (b.interval == 1)
    return from < a.count && a.at(from) <= b.last() ? std::optional(from) : std::nullopt;
  // The residues of a modulo b's interval repeat after interval / gcd steps.
  int64_t period = b.interval / std::gcd(a.interval, b.interval);
  for (int64_t k = from; k < a.count && k < from + period; ++k)
    if (b.indexOf(a.at(k)))
      return k;
  return std::nullopt;
}

} // namespace quadrille::tsp
