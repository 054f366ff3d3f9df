// The memories of all tiles: zero until written, and what is not touched takes no room on the host.
#pragma once

#include "llvm/Support/Error.h"

#include <cstddef>
#include <cstdint>

namespace quadrille::ipu {

class TileMemory {
public:
  // User errors: the host has no address space for so much.
  static llvm::Expected<TileMemory> make(int64_t tiles, int64_t bytesOfTile);
  TileMemory(TileMemory &&other) noexcept;
  TileMemory &operator=(TileMemory &&) = delete;
  ~TileMemory();

  std::byte *of(int64_t tile) const { return start + tile * stride; }

private:
  TileMemory(std::byte *start, int64_t tiles, int64_t stride) : start(start), tiles(tiles), stride(stride) {}
  std::byte *start;
  int64_t tiles, stride;
};

} // namespace quadrille::ipu
