#include "target/ipu/Liveness.h"

#include "target/ipu/Placements.h"
#include "target/ipu/Vertices.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>

namespace quadrille::ipu {

namespace {

// For each word the step that wrote it last and the one that has read that last.
class Words {
public:
  Words(size_t steps, int64_t wordBytes) : wordBytes(wordBytes), changes(steps + 1) {}

  void write(int64_t begin, int64_t end, int64_t step) {
    forEach(begin, end, [&](Word &word) {
      if (word.always)
        return;
      close(word);
      word.written = word.read = step;
    });
  }
  void read(int64_t begin, int64_t end, int64_t step) {
    forEach(begin, end, [&](Word &word) { word.read = std::max(word.read, step); });
  }
  void keep(int64_t begin, int64_t end) {
    forEach(begin, end, [&](Word &word) { word.always = true; });
  }
  Liveness finish() {
    Liveness result;
    for (Word &word : words) {
      if (word.always)
        result.alwaysLive += wordBytes;
      else
        close(word);
    }
    int64_t live = 0;
    for (size_t step = 0; step + 1 < changes.size(); ++step) {
      live += changes[step];
      result.temporary.push_back(live);
    }
    return result;
  }

private:
  struct Word {
    int64_t written = -1, read = -1;
    bool always = false;
  };
  template <typename Body> void forEach(int64_t begin, int64_t end, Body &&body) {
    auto last = static_cast<size_t>((end - 1) / wordBytes);
    if (last >= words.size())
      words.resize(last + 1);
    for (auto at = static_cast<size_t>(begin / wordBytes); at <= last; ++at)
      body(words[at]);
  }
  // What was written is live until it was read last.
  void close(const Word &word) {
    if (word.written < 0 || changes.size() < 2)
      return;
    changes[static_cast<size_t>(word.written)] += wordBytes;
    changes[static_cast<size_t>(std::min<int64_t>(word.read + 1, static_cast<int64_t>(changes.size()) - 1))] -=
        wordBytes;
  }

  int64_t wordBytes;
  std::vector<Word> words;
  std::vector<int64_t> changes; // of the live bytes, by step
};

// Steps in the order in which they are done, with two turns of each Repeat: the first one has what later ones read, the
// last one what is read behind it.
std::vector<size_t> twoTurns(const std::vector<Step> &steps) {
  std::vector<size_t> order;
  std::vector<std::pair<size_t, bool>> repeats; // its step, and whether the second turn is on
  for (size_t at = 0; at < steps.size(); ++at) {
    order.push_back(at);
    if (steps[at].kind == StepKind::Repeat) {
      repeats.emplace_back(at, steps[at].index < 2);
    } else if (steps[at].kind == StepKind::End) {
      if (repeats.back().second) {
        repeats.pop_back();
        continue;
      }
      repeats.back().second = true;
      at = repeats.back().first;
    }
  }
  return order;
}

} // namespace

size_t Liveness::peakStep() const {
  return static_cast<size_t>(llvm::max_element(temporary) - temporary.begin());
}

Liveness livenessOf(uint32_t tile, const program::Program &program, const Code &code, const Architecture &machine,
                    size_t entry) {
  const std::vector<Step> &steps = code.entries[entry];
  const program::EntryPoint &ports = program.entryPoints[entry];
  std::vector<size_t> order = twoTurns(steps);
  Words words(order.size(), machine.storeGranularity);
  auto forEachHere = [&](const Placement &placement, auto &&body) {
    for (const Part &part : placement.parts)
      if (isOn(part.tiles, tile))
        body(int64_t(part.address), part.address + spanOf(part, placement.type));
  };
  for (const Placement &placement : code.placements) {
    program::VariableRole role = program.variables[placement.variable].role;
    bool stays = role == program::VariableRole::Weight || role == program::VariableRole::State;
    bool comes = llvm::is_contained(ports.inputs, placement.variable);
    forEachHere(placement, [&](int64_t begin, int64_t end) {
      if (stays)
        words.keep(begin, end);
      else if (comes)
        words.write(begin, end, 0);
    });
  }
  for (auto [i, at] : llvm::enumerate(order)) {
    auto number = static_cast<int64_t>(i);
    const Step &step = steps[at];
    if (step.kind == StepKind::Execute)
      for (bool writes : {false, true})
        for (const Vertex &vertex : code.computeSets[step.index].vertices)
          if (isOn(vertex.tiles, tile))
            for (const Access &access : accessesOf(vertex, code.expressions))
              if (access.writes == writes)
                access.forEachRun([&](int64_t at) {
                  writes ? words.write(at, at + access.bytes, number) : words.read(at, at + access.bytes, number);
                });
    if (step.kind == StepKind::Exchange)
      for (bool writes : {false, true})
        for (const Transfer &each : code.exchanges[step.index].transfers)
          if (writes ? each.destinations.holds(tile) : each.source == tile)
            for (int64_t row = 0; row < each.rows; ++row) {
              int64_t at = writes ? each.destinationAddress + row * each.destinationStride
                                  : each.sourceAddress + row * each.sourceStride;
              writes ? words.write(at, at + each.bytes, number) : words.read(at, at + each.bytes, number);
            }
  }
  for (const Placement &placement : code.placements)
    if (llvm::is_contained(ports.outputs, placement.variable))
      forEachHere(placement,
                  [&](int64_t begin, int64_t end) { words.read(begin, end, static_cast<int64_t>(order.size()) - 1); });
  Liveness result = words.finish();
  std::vector<int64_t> byStep(steps.size());
  for (auto [at, bytes] : llvm::zip_equal(order, result.temporary))
    byStep[at] = std::max(byStep[at], bytes);
  result.temporary = std::move(byStep);
  result.tile = tile;
  return result;
}

} // namespace quadrille::ipu
