// Arithmetic progressions: the cycles, diagonals and addresses of an instruction and its Repeat.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <optional>
#include <utility>

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

// The indices in `a` of all values that both hold. In time that depends on the logarithm of the intervals only.
inline std::optional<Progression> commonIndices(const Progression &a, const Progression &b) {
  if (!a.meets(b))
    return std::nullopt;
  if (b.count == 1 || a.count == 1) {
    auto k = b.count == 1 ? a.indexOf(b.first) : b.indexOf(a.first) ? std::optional<int64_t>(0) : std::nullopt;
    return k ? std::optional(Progression{*k, 1, 1}) : std::nullopt;
  }
  // k solves a.interval * k = b.first - a.first modulo b.interval: one solution modulo b.interval / gcd.
  int64_t gcd = std::gcd(a.interval, b.interval), period = b.interval / gcd, distance = b.first - a.first;
  if (distance % gcd != 0)
    return std::nullopt;
  int64_t solution = 0;
  if (period > 1) {
    int64_t inverse = 1, next = 0; // inverse * a.interval / gcd = rest modulo period (extended Euclid)
    for (int64_t rest = a.interval / gcd % period, divisor = period; divisor != 0;) {
      int64_t quotient = rest / divisor;
      rest = std::exchange(divisor, rest - quotient * divisor);
      inverse = std::exchange(next, inverse - quotient * next);
    }
    auto modulo = [period](int64_t value) { return (value % period + period) % period; };
    solution = modulo(modulo(distance / gcd) * modulo(inverse));
  }
  int64_t lowest = distance > 0 ? (distance + a.interval - 1) / a.interval : 0;
  int64_t highest = std::min(a.count - 1, (b.last() - a.first) / a.interval);
  int64_t first = lowest > solution ? solution + (lowest - solution + period - 1) / period * period : solution;
  if (first > highest)
    return std::nullopt;
  return Progression{first, period, (highest - first) / period + 1};
}

} // namespace quadrille::tsp
