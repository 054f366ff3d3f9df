// Elements of any type moved by their width. Nothing but what `fillElements` writes needs to be aligned.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace quadrille {

// Calls `work` with a number of `width` bytes (1, 2, 4 or 8), for its type.
template <typename Work> void withWidth(size_t width, Work work) {
  switch (width) {
  case 1:
    return work(uint8_t());
  case 2:
    return work(uint16_t());
  case 4:
    return work(uint32_t());
  default:
    return work(uint64_t());
  }
}

// `count` elements, all equal to `bits`.
inline void fillElements(std::byte *destination, uint64_t bits, size_t width, int64_t count) {
  withWidth(width,
            [=]<typename T>(T) { std::fill_n(reinterpret_cast<T *>(destination), count, static_cast<T>(bits)); });
}

// `count` elements that lie `stride` apart, to dense ones.
inline void gatherStrided(std::byte *to, const std::byte *from, int64_t stride, size_t width, int64_t count) {
  if (stride == 1) {
    std::memcpy(to, from, static_cast<size_t>(count) * width);
    return;
  }
  withWidth(width, [=]<typename T>(T) {
    constexpr auto size = static_cast<int64_t>(sizeof(T));
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(to + i * size, from + i * stride * size, sizeof(T));
  });
}

// Dense elements to places `stride` apart.
inline void scatterStrided(std::byte *to, int64_t stride, const std::byte *from, size_t width, int64_t count) {
  if (stride == 1) {
    std::memcpy(to, from, static_cast<size_t>(count) * width);
    return;
  }
  withWidth(width, [=]<typename T>(T) {
    constexpr auto size = static_cast<int64_t>(sizeof(T));
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(to + i * stride * size, from + i * size, sizeof(T));
  });
}

} // namespace quadrille
