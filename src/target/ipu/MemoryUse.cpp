#include "target/ipu/MemoryUse.h"

#include "target/ipu/Exchanges.h"
#include "target/ipu/Placements.h"
#include "target/ipu/Vertices.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/bit.h"

#include <optional>
#include <set>

namespace quadrille::ipu {

const char *nameOf(MemoryKind kind) {
  static const char *const names[] = {"stack",        "vertex code",   "vertex state",
                                      "control code", "exchange code", "variables"};
  return names[kind];
}

namespace {

// Words of a tile that are used.
class Used {
public:
  explicit Used(int64_t wordBytes) : wordBytes(wordBytes) {}
  void add(int64_t begin, int64_t end) {
    auto last = static_cast<size_t>((end - 1) / wordBytes);
    if (last / 64 >= words.size())
      words.resize(last / 64 + 1);
    for (auto at = static_cast<size_t>(begin / wordBytes); at <= last; at = (at / 64 + 1) * 64) {
      uint64_t mask = ~uint64_t(0) << (at % 64);
      if (last / 64 == at / 64 && last % 64 != 63)
        mask &= (uint64_t(1) << (last % 64 + 1)) - 1;
      words[at / 64] |= mask;
    }
  }
  int64_t bytesFrom(int64_t begin) const {
    int64_t bytes = 0;
    for (auto i = static_cast<size_t>(begin / wordBytes / 64); i < words.size(); ++i) {
      int64_t before = std::max<int64_t>(0, begin / wordBytes - static_cast<int64_t>(i) * 64); // words of it
      bytes += llvm::popcount(words[i] >> before) * wordBytes;
    }
    return bytes;
  }
  // Bytes of them, and the first one's address.
  std::pair<int64_t, int64_t> count() const {
    int64_t bytes = 0;
    std::optional<int64_t> first;
    for (auto [i, word] : llvm::enumerate(words)) {
      bytes += llvm::popcount(word) * wordBytes;
      if (word != 0 && !first)
        first = (static_cast<int64_t>(i) * 64 + llvm::countr_zero(word)) * wordBytes;
    }
    return {bytes, first.value_or(0)};
  }

private:
  int64_t wordBytes;
  std::vector<uint64_t> words; // a bit each
};

} // namespace

int64_t stateBytesOf(const Vertex &vertex, const Architecture &machine) {
  int64_t fields = 0;
  for (const Parameter &parameter : formOf(vertex.codelet)->parameters)
    fields += parameter.kind == ParameterKind::Address || parameter.kind == ParameterKind::Addresses;
  return machine.vertexStateBytes + fields * machine.vertexFieldBytes;
}

namespace {

// `withData`: what vertices, transfers and variables use, too.
std::vector<TileUse> usesOf(const program::Program &program, const Code &code, const Architecture &machine,
                            bool withData) {
  std::vector<TileUse> uses(static_cast<size_t>(program.chips * machine.tiles));
  std::vector<Used> data(uses.size(), Used(machine.storeGranularity));
  std::vector<std::set<uint16_t>> codelets(uses.size());
  std::vector<int64_t> steps(uses.size());
  auto addAccess = [&](uint32_t tile, const Access &access) { data[tile].add(access.first(), access.end()); };
  for (const ComputeSet &set : code.computeSets) {
    std::vector<bool> here(uses.size());
    for (const Vertex &vertex : set.vertices) {
      std::vector<Access> accesses;
      if (withData)
        accesses = accessesOf(vertex, code.expressions);
      int64_t state = stateBytesOf(vertex, machine);
      forEachTile(vertex.tiles, [&](uint32_t tile) {
        uses[tile].bytes[VertexState] += state;
        codelets[tile].insert(vertex.codelet);
        here[tile] = true;
        for (const Access &access : accesses)
          addAccess(tile, access);
      });
    }
    for (size_t tile = 0; tile < here.size(); ++tile)
      steps[tile] += here[tile];
  }
  for (const Exchange &exchange : code.exchanges) {
    for (auto [tile, words] : codeWordsOf(exchange, machine))
      uses[tile].bytes[ExchangeCode] += words * machine.exchangeCodeWordBytes;
    for (size_t i = 0; withData && i < exchange.transfers.size(); ++i) {
      const Transfer &each = exchange.transfers[i];
      auto add = [&](uint32_t tile, int64_t address, int64_t stride) {
        addAccess(tile, {false, address, each.bytes, 1, {each.rows}, {stride}});
      };
      add(each.source, each.sourceAddress, each.sourceStride);
      forEachTile(each.destinations,
                  [&](uint32_t tile) { add(tile, each.destinationAddress, each.destinationStride); });
    }
  }
  for (const Placement &placement : code.placements)
    for (size_t i = 0; withData && i < placement.parts.size(); ++i) {
      const Part &part = placement.parts[i];
      int64_t span = spanOf(part, placement.type);
      forEachTile(part.tiles, [&](uint32_t tile) { data[tile].add(part.address, part.address + span); });
    }
  for (size_t tile = 0; tile < uses.size(); ++tile) {
    TileUse &use = uses[tile];
    // Expressions of elementwise vertices are codelets of their own.
    use.bytes[VertexCode] = static_cast<int64_t>(codelets[tile].size()) * machine.vertexCodeBytes;
    use.bytes[ControlCode] = steps[tile] * machine.controlCodeBytes;
    std::tie(use.bytes[Variables], use.lowestData) = data[tile].count();
    use.interleaved = data[tile].bytesFrom(machine.interleavedBegin());
    if (!withData || use.code() + use.bytes[Variables] > 0)
      use.bytes[Stack] = machine.stackBytes;
  }
  return uses;
}

} // namespace

std::vector<TileUse> memoryUse(const program::Program &program, const Code &code, const Architecture &machine) {
  return usesOf(program, code, machine, true);
}

std::vector<TileUse> codeUse(const program::Program &program, const Code &code, const Architecture &machine) {
  return usesOf(program, code, machine, false);
}

} // namespace quadrille::ipu
