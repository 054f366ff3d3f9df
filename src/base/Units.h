// Quantities whose unit is part of the type: cycles and bytes never mix.
#pragma once

#include <compare>
#include <cstdint>

namespace quadrille {

template <typename Unit> struct Quantity {
  int64_t value = 0;

  constexpr Quantity() = default;
  constexpr explicit Quantity(int64_t value) : value(value) {}

  constexpr auto operator<=>(const Quantity &) const = default;
  constexpr Quantity operator+(Quantity other) const { return Quantity(value + other.value); }
  constexpr Quantity operator-(Quantity other) const { return Quantity(value - other.value); }
  constexpr Quantity operator*(int64_t factor) const { return Quantity(value * factor); }
  constexpr Quantity &operator+=(Quantity other) {
    value += other.value;
    return *this;
  }
  constexpr Quantity &operator-=(Quantity other) {
    value -= other.value;
    return *this;
  }
};

using Cycles = Quantity<struct CyclesUnit>;
using Bytes = Quantity<struct BytesUnit>;

} // namespace quadrille
