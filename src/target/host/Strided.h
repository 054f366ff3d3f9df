// Elements of any type moved by their width.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace quadrille::host {

namespace detail {
template <typename T> void copyStridedAs(std::byte *to, const std::byte *from, int64_t stride, int64_t count) {
  auto *destination = reinterpret_cast<T *>(to);
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(destination + i, from + i * stride * static_cast<int64_t>(sizeof(T)), sizeof(T)); // maybe unaligned
}

template <typename T> void scatterStridedAs(std::byte *to, int64_t stride, const std::byte *from, int64_t count) {
  auto *destination = reinterpret_cast<T *>(to);
  auto *source = reinterpret_cast<const T *>(from);
  for (int64_t i = 0; i < count; ++i)
    destination[i * stride] = source[i];
}
} // namespace detail

// `count` elements of `width` bytes (1, 2, 4 or 8), all equal to `bits`.
inline void fill(std::byte *destination, uint64_t bits, size_t width, int64_t count) {
  switch (width) {
  case 1:
    std::memset(destination, static_cast<int>(bits & 0xff), static_cast<size_t>(count));
    return;
  case 2:
    std::fill_n(reinterpret_cast<uint16_t *>(destination), count, static_cast<uint16_t>(bits));
    return;
  case 4:
    std::fill_n(reinterpret_cast<uint32_t *>(destination), count, static_cast<uint32_t>(bits));
    return;
  default:
    std::fill_n(reinterpret_cast<uint64_t *>(destination), count, bits);
  }
}

// `count` elements that lie `stride` apart, to dense ones.
inline void copyStrided(std::byte *to, const std::byte *from, int64_t stride, size_t width, int64_t count) {
  if (stride == 1) {
    std::memcpy(to, from, static_cast<size_t>(count) * width);
    return;
  }
  switch (width) {
  case 1:
    return detail::copyStridedAs<uint8_t>(to, from, stride, count);
  case 2:
    return detail::copyStridedAs<uint16_t>(to, from, stride, count);
  case 4:
    return detail::copyStridedAs<uint32_t>(to, from, stride, count);
  default:
    return detail::copyStridedAs<uint64_t>(to, from, stride, count);
  }
}

// Dense elements to places `stride` apart.
inline void scatterStrided(std::byte *to, int64_t stride, const std::byte *from, size_t width, int64_t count) {
  if (stride == 1) {
    std::memcpy(to, from, static_cast<size_t>(count) * width);
    return;
  }
  switch (width) {
  case 1:
    return detail::scatterStridedAs<uint8_t>(to, stride, from, count);
  case 2:
    return detail::scatterStridedAs<uint16_t>(to, stride, from, count);
  case 4:
    return detail::scatterStridedAs<uint32_t>(to, stride, from, count);
  default:
    return detail::scatterStridedAs<uint64_t>(to, stride, from, count);
  }
}

} // namespace quadrille::host
