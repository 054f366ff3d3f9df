// What the memory of each tile holds: code, vertices' state, exchange code and data.
#pragma once

#include "program/Program.h"
#include "target/ipu/Code.h"

#include <array>

namespace quadrille::ipu {

enum MemoryKind : uint8_t { Stack, VertexCode, VertexState, ControlCode, ExchangeCode, Variables, memoryKinds };
const char *nameOf(MemoryKind kind);

struct TileUse {
  std::array<int64_t, memoryKinds> bytes = {};
  int64_t interleaved = 0; // of the variables' bytes those in interleaved memory
  int64_t lowestData = 0;  // address of the first byte that a vertex, transfer or variable uses

  int64_t code() const {
    return bytes[Stack] + bytes[VertexCode] + bytes[VertexState] + bytes[ControlCode] + bytes[ExchangeCode];
  }
  int64_t total() const { return code() + bytes[Variables]; }
};

// By tile of the program. Variables counts the words that anything of the program touches, each once. The program must
// be well-formed.
std::vector<TileUse> memoryUse(const program::Program &program, const Code &code, const Architecture &machine);
// The same without variables.
std::vector<TileUse> codeUse(const program::Program &program, const Code &code, const Architecture &machine);

// The state of a vertex on its tile.
int64_t stateBytesOf(const Vertex &vertex, const Architecture &machine);

} // namespace quadrille::ipu
