// The payload of a program as plain data: decoded from its FlatBuffer, and encoded canonically (equal code, equal
// bytes).
#pragma once

#include "target/ipu/Architecture.h"
#include "target/ipu/Codelets.h"

#include "numerics/BlockExpression.h"
#include "program/Program.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"

#include <cstddef>
#include <string>
#include <vector>

namespace quadrille::ipu {

constexpr uint32_t noNode = ~uint32_t(0);

struct TileRange {
  uint32_t first = 0, count = 1, step = 1;
  uint32_t tile(uint32_t k) const { return first + k * step; }
  bool holds(uint32_t tile) const {
    if (tile < first)
      return false;
    uint32_t distance = tile - first;
    return step == 0 ? distance == 0 : distance % step == 0 && distance / step < count;
  }
  bool operator==(const TileRange &) const = default;
};
int64_t tileCount(llvm::ArrayRef<TileRange> ranges);
bool isOn(llvm::ArrayRef<TileRange> ranges, uint32_t tile);
template <typename Function> void forEachTile(llvm::ArrayRef<TileRange> ranges, Function &&function) {
  for (const TileRange &range : ranges)
    for (uint32_t k = 0; k < range.count; ++k)
      function(range.tile(k));
}
template <typename Function> void forEachTile(const TileRange &range, Function &&function) {
  forEachTile(llvm::ArrayRef(range), std::forward<Function>(function));
}
// "0..1471", "0..30/2,64": every second from 0 to 30, and 64.
std::string print(llvm::ArrayRef<TileRange> ranges);

struct Vertex {
  uint16_t codelet = 0;
  std::vector<TileRange> tiles;
  std::vector<std::vector<int64_t>> values; // by parameter of the codelet

  Codelet kind() const { return static_cast<Codelet>(codelet); }
  bool operator==(const Vertex &) const = default;
};

struct ComputeSet {
  std::string name;
  std::vector<Vertex> vertices;
  bool operator==(const ComputeSet &) const = default;
};

struct Transfer {
  uint32_t source = 0;    // tile
  TileRange destinations; // all receive at the same address
  uint32_t sourceAddress = 0, destinationAddress = 0;
  uint32_t rows = 1, bytes = 0;
  int32_t sourceStride = 0, destinationStride = 0; // bytes
  bool joins = false;
  bool operator==(const Transfer &) const = default;
};

struct Exchange {
  std::string name;
  std::vector<Transfer> transfers;
  bool operator==(const Exchange &) const = default;
};

enum class StepKind : uint8_t { Execute, Exchange, Repeat, End, Read, Write };

struct Step {
  StepKind kind = StepKind::Execute;
  uint32_t index = 0;
  uint32_t node = noNode;
  bool operator==(const Step &) const = default;
};

struct Digit {
  uint8_t dimension = 0;
  uint32_t extent = 1, stride = 0; // bytes
  bool operator==(const Digit &) const = default;
};

struct Part {
  std::vector<TileRange> tiles;
  uint32_t address = 0;
  std::vector<int64_t> begin, extents, shift; // by dimension
  std::vector<Digit> digits;
  bool operator==(const Part &) const = default;
};

struct Placement {
  uint32_t variable = 0;
  ElementType type = ElementType::f32; // on the tiles
  std::vector<Part> parts;
  bool operator==(const Placement &) const = default;
};

struct Code {
  std::vector<BlockExpression> expressions;
  std::vector<Placement> placements;
  std::vector<ComputeSet> computeSets;
  std::vector<Exchange> exchanges;
  std::vector<std::vector<Step>> entries; // by entry point of the container

  // Verifies the buffer and that expressions are well-formed, nothing about legality. User errors.
  static llvm::Expected<Code> decode(llvm::ArrayRef<std::byte> payload);
  std::vector<std::byte> encode() const;
};

// A program of this target, decoded, with its machine.
struct Loaded {
  Code code;
  Architecture machine;
  static llvm::Expected<Loaded> from(const program::Program &program);
};

} // namespace quadrille::ipu
