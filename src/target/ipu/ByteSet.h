// A set of bytes of a tile's memory.
#pragma once

#include "llvm/ADT/bit.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace quadrille::ipu {

// Some of the bytes of a tile: those that have been written, or may differ.
class ByteSet {
public:
  ByteSet() = default;
  ByteSet(ByteSet &&) = default;
  ByteSet &operator=(ByteSet &&) = default;
  ByteSet(const ByteSet &other) {
    for (const std::unique_ptr<Chunk> &chunk : other.chunks)
      chunks.push_back(chunk ? std::make_unique<Chunk>(*chunk) : nullptr);
  }
  ByteSet &operator=(const ByteSet &other) { return *this = ByteSet(other); }
  bool operator==(const ByteSet &other) const {
    static constexpr Chunk nothing = {};
    auto chunkOf = [](const ByteSet &set, size_t i) -> const Chunk & {
      return i < set.chunks.size() && set.chunks[i] ? *set.chunks[i] : nothing;
    };
    for (size_t i = 0; i < std::max(chunks.size(), other.chunks.size()); ++i)
      if (chunkOf(*this, i) != chunkOf(other, i))
        return false;
    return true;
  }
  void add(int64_t begin, int64_t end) {
    forEachWord(begin, end, [](uint64_t &word, uint64_t mask) { word |= mask; });
  }
  void remove(int64_t begin, int64_t end) {
    forEachWord(begin, end, [](uint64_t &word, uint64_t mask) { word &= ~mask; });
  }
  bool has(int64_t at) const { return wordAt(at) >> (at % 64) & 1; }
  // Whether a byte of the range is in the set.
  bool meets(int64_t begin, int64_t end) const {
    for (int64_t at = begin; at < end; at = (at / 64 + 1) * 64)
      if (maskOf(at, end) & wordAt(at))
        return true;
    return false;
  }
  // The first byte of the range that is not in the set; `end`: all are.
  int64_t firstMissing(int64_t begin, int64_t end) const {
    for (int64_t at = begin; at < end; at = (at / 64 + 1) * 64) {
      uint64_t mask = maskOf(at, end), missing = mask & ~wordAt(at);
      if (missing)
        return at / 64 * 64 + llvm::countr_zero(missing);
    }
    return end;
  }

private:
  static constexpr int64_t chunkBytes = 4096;
  using Chunk = std::array<uint64_t, chunkBytes / 64>;

  static uint64_t maskOf(int64_t at, int64_t end) {
    uint64_t mask = ~uint64_t(0) << (at % 64);
    if (int64_t left = end - at / 64 * 64; left < 64)
      mask &= (uint64_t(1) << left) - 1;
    return mask;
  }
  uint64_t wordAt(int64_t at) const {
    auto chunk = static_cast<size_t>(at / chunkBytes);
    return chunk < chunks.size() && chunks[chunk] ? (*chunks[chunk])[static_cast<size_t>(at % chunkBytes / 64)] : 0;
  }
  template <typename Body> void forEachWord(int64_t begin, int64_t end, Body &&body) {
    for (int64_t at = begin; at < end; at = (at / 64 + 1) * 64) {
      auto chunk = static_cast<size_t>(at / chunkBytes);
      if (chunk >= chunks.size())
        chunks.resize(chunk + 1);
      if (!chunks[chunk])
        chunks[chunk] = std::make_unique<Chunk>();
      body((*chunks[chunk])[static_cast<size_t>(at % chunkBytes / 64)], maskOf(at, end));
    }
  }
  std::vector<std::unique_ptr<Chunk>> chunks;
};

} // namespace quadrille::ipu
