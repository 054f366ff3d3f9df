#include "target/ipu/TileMemory.h"

#include "base/Error.h"

#include "llvm/ADT/Twine.h"

#include <sys/mman.h>
#include <utility>

namespace quadrille::ipu {

llvm::Expected<TileMemory> TileMemory::make(int64_t tiles, int64_t bytesOfTile) {
  constexpr int64_t page = 4096; // tiles that share none do not touch each other's
  int64_t stride = (bytesOfTile + page - 1) / page * page;
  void *start = ::mmap(nullptr, static_cast<size_t>(tiles * stride), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED)
    return userError("the host has no room for the memories of " + llvm::Twine(tiles) + " tiles", {},
                     "raise the limit of address space (ulimit -v)");
  return TileMemory(static_cast<std::byte *>(start), tiles, stride);
}

TileMemory::TileMemory(TileMemory &&other) noexcept
    : start(std::exchange(other.start, nullptr)), tiles(other.tiles), stride(other.stride) {}

TileMemory::~TileMemory() {
  if (start)
    ::munmap(start, static_cast<size_t>(tiles * stride));
}

} // namespace quadrille::ipu
