#include "target/ipu/MemoryUse.h"

#include "target/ipu/Exchanges.h"
#include "target/ipu/Placements.h"
#include "target/ipu/Vertices.h"

#include "llvm/ADT/STLExtras.h"

#include <set>

namespace quadrille::ipu {

const char *nameOf(MemoryKind kind) {
  static const char *const names[] = {"stack",        "vertex code",   "vertex state",
                                      "control code", "exchange code", "variables"};
  return names[kind];
}

namespace {

// Bytes of a tile that are used, as intervals.
class Used {
public:
  void add(int64_t begin, int64_t end) { intervals.emplace_back(begin, end); }
  // How many, and the first.
  std::pair<int64_t, int64_t> count() {
    llvm::sort(intervals);
    int64_t bytes = 0, end = 0;
    for (auto [from, to] : intervals) {
      bytes += std::max<int64_t>(0, to - std::max(from, end));
      end = std::max(end, to);
    }
    return {bytes, intervals.empty() ? 0 : intervals.front().first};
  }

private:
  std::vector<std::pair<int64_t, int64_t>> intervals;
};

} // namespace

int64_t stateBytesOf(const Vertex &vertex, const Architecture &machine) {
  int64_t fields = 0;
  for (const Parameter &parameter : formOf(vertex.codelet)->parameters)
    fields += parameter.kind == ParameterKind::Address || parameter.kind == ParameterKind::Addresses;
  return machine.vertexStateBytes + fields * machine.vertexFieldBytes;
}

std::vector<TileUse> memoryUse(const program::Program &program, const Code &code, const Architecture &machine) {
  std::vector<TileUse> uses(static_cast<size_t>(program.chips * machine.tiles));
  std::vector<Used> data(uses.size());
  std::vector<std::set<uint16_t>> codelets(uses.size());
  std::vector<int64_t> steps(uses.size());
  auto addAccess = [&](uint32_t tile, const Access &access) { data[tile].add(access.first(), access.end()); };
  for (const ComputeSet &set : code.computeSets) {
    std::vector<bool> here(uses.size());
    for (const Vertex &vertex : set.vertices) {
      std::vector<Access> accesses = accessesOf(vertex, code.expressions);
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
    for (const Transfer &each : exchange.transfers) {
      auto add = [&](uint32_t tile, int64_t address, int64_t stride) {
        addAccess(tile, {false, address, each.bytes, 1, {each.rows}, {stride}});
      };
      add(each.source, each.sourceAddress, each.sourceStride);
      add(each.destination, each.destinationAddress, each.destinationStride);
    }
  }
  for (const Placement &placement : code.placements)
    for (const Part &part : placement.parts) {
      int64_t span = spanOf(part, placement.type);
      forEachTile(part.tiles, [&](uint32_t tile) { data[tile].add(part.address, part.address + span); });
    }
  for (size_t tile = 0; tile < uses.size(); ++tile) {
    TileUse &use = uses[tile];
    // Expressions of elementwise vertices are codelets of their own.
    use.bytes[VertexCode] = static_cast<int64_t>(codelets[tile].size()) * machine.vertexCodeBytes;
    use.bytes[ControlCode] = steps[tile] * machine.controlCodeBytes;
    std::tie(use.bytes[Variables], use.lowestData) = data[tile].count();
    if (use.code() + use.bytes[Variables] > 0)
      use.bytes[Stack] = machine.stackBytes;
  }
  return uses;
}

} // namespace quadrille::ipu
