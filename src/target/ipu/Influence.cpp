#include "target/ipu/Influence.h"

#include "target/ipu/ByteSet.h"
#include "target/ipu/Placements.h"
#include "target/ipu/Vertices.h"

#include "llvm/ADT/STLExtras.h"

#include <map>
#include <memory>
#include <set>
#include <tuple>

namespace quadrille::ipu {

namespace {

// The vertex with zeros at what does not change its results: strides of loops of one turn, the width of loads.
Vertex essence(Vertex vertex) {
  auto values = [&](llvm::StringRef name) -> std::vector<int64_t> & {
    return vertex.values[formOf(vertex.codelet)->parameter(name)];
  };
  auto clear = [&](llvm::StringRef strides, llvm::ArrayRef<int64_t> extents) {
    for (auto [i, stride] : llvm::enumerate(values(strides)))
      if (extents[i % extents.size()] == 1)
        stride = 0;
  };
  switch (vertex.kind()) {
  case Codelet::Map:
  case Codelet::Copy:
    clear("in_strides", values("extents"));
    clear("out_strides", values("extents"));
    break;
  case Codelet::Reduce: {
    std::vector<int64_t> all = values("extents");
    llvm::append_range(all, values("reduced"));
    clear("in_strides", all);
    clear("out_strides", values("extents"));
    values("loads") = {0};
    break;
  }
  case Codelet::ConvPartial1x1Out:
    values("loads") = {0};
    break;
  case Codelet::ConvPartialnx1:
    values("loads") = {0};
    [[fallthrough]];
  case Codelet::ConvPartialVerticalMac:
    clear("stride", values("out_field"));
    clear("dilation", values("kernel"));
    break;
  default:
    break;
  }
  return vertex;
}

std::vector<std::byte> expressionsOf(const Code &code) {
  Code only;
  only.expressions = code.expressions;
  return only.encode();
}

// By tile and address: which element lies there, -1 for padding.
using Elements = std::map<std::pair<uint32_t, int64_t>, int64_t>;
Elements elementsOf(const Placement &placement, llvm::ArrayRef<int64_t> shape, bool withPadding) {
  Elements result;
  for (const Part &part : placement.parts)
    forEachRun(part, shape, [&](const ElementRun &run) {
      for (int64_t i = 0; i < run.count && (withPadding || run.index >= 0); ++i)
        result[{run.tile, run.address + i * run.tileStride}] = run.index < 0 ? -1 : run.index + i * run.hostStride;
    });
  return result;
}

class Influence {
public:
  Influence(const program::Program &program, const Code &before, const Code &after, const Architecture &machine)
      : program(program), before(before), after(after), wordBytes(machine.exchangeGranularity),
        tiles(static_cast<size_t>(program.chips * machine.tiles)) {}

  bool reachesNothing() {
    if (before.placements.size() != after.placements.size() || before.entries.size() != after.entries.size() ||
        before.computeSets.size() != after.computeSets.size() || before.exchanges.size() != after.exchanges.size() ||
        expressionsOf(before) != expressionsOf(after))
      return false;
    for (auto [old, changed] : llvm::zip(before.computeSets, after.computeSets))
      compareSets(old.vertices, changed.vertices);
    for (size_t entry = 0; entry < before.entries.size(); ++entry)
      if (!follow(entry))
        return false;
    return true;
  }

private:
  // What one of the programs or both do: a vertex on tiles. `differs`: only one of them.
  struct Work {
    const Vertex *vertex;
    std::vector<TileRange> tiles;
    bool differs;
  };

  void compareSets(llvm::ArrayRef<Vertex> old, llvm::ArrayRef<Vertex> changed) {
    std::vector<Work> &works = ofSet.emplace_back();
    changedSets.push_back(old != changed);
    if (!changedSets.back())
      return;
    for (size_t i = 0; i < std::max(old.size(), changed.size()); ++i) {
      if (i >= old.size() || i >= changed.size()) {
        const Vertex &only = i < old.size() ? old[i] : changed[i];
        works.push_back({&only, only.tiles, true});
        continue;
      }
      Vertex a = essence(old[i]), b = essence(changed[i]);
      if (a.codelet != b.codelet || a.values != b.values) {
        works.push_back({&old[i], old[i].tiles, true});
        works.push_back({&changed[i], changed[i].tiles, true});
        continue;
      }
      std::set<uint32_t> here, there;
      forEachTile(old[i].tiles, [&](uint32_t tile) { here.insert(tile); });
      forEachTile(changed[i].tiles, [&](uint32_t tile) { there.insert(tile); });
      Work both{&old[i], {}, false}, one{&old[i], {}, true};
      for (uint32_t tile : here)
        (there.count(tile) ? both : one).tiles.push_back({tile});
      for (uint32_t tile : there)
        if (!here.count(tile))
          one.tiles.push_back({tile});
      works.push_back(std::move(both));
      works.push_back(std::move(one));
    }
  }

  bool follow(size_t entry) {
    const program::EntryPoint &point = program.entryPoints[entry];
    const std::vector<Step> &old = before.entries[entry], &changed = after.entries[entry];
    if (old.size() != changed.size())
      return false;
    for (auto [a, b] : llvm::zip(old, changed)) // how often steps are done must agree
      if (a.kind != b.kind || (a.kind == StepKind::Repeat && a.index != b.index))
        return false;
    differ.clear();
    differ.resize(tiles);
    touched.assign(tiles, false);
    for (auto [a, b] : llvm::zip(before.placements, after.placements))
      if (!place(point, a, b))
        return false;
    std::vector<std::pair<size_t, uint32_t>> repeats; // step, turns left
    for (size_t at = 0; at < old.size(); ++at) {
      if (old[at].kind == StepKind::Repeat)
        repeats.emplace_back(at, old[at].index);
      else if (old[at].kind == StepKind::End && --repeats.back().second > 0)
        at = repeats.back().first;
      else if (old[at].kind == StepKind::End)
        repeats.pop_back();
      else if (old[at].kind == StepKind::Execute)
        execute(old[at].index, changed[at].index);
      else if (old[at].kind == StepKind::Exchange)
        exchange(before.exchanges[old[at].index], after.exchanges[changed[at].index]);
    }
    return llvm::none_of(before.placements, [&](const Placement &placement) {
      return llvm::is_contained(point.outputs, placement.variable) && reached(placement);
    });
  }

  // What is loaded differently; false: outputs are fetched from elsewhere.
  bool place(const program::EntryPoint &point, const Placement &old, const Placement &changed) {
    if (old == changed)
      return true;
    const program::Variable &variable = program.variables[old.variable];
    if (old.variable != changed.variable || old.type != changed.type)
      return false;
    auto width = static_cast<int64_t>(byteWidth(old.type));
    if (llvm::is_contained(point.outputs, old.variable) &&
        elementsOf(old, variable.shape, false) != elementsOf(changed, variable.shape, false))
      return false;
    Elements here = elementsOf(old, variable.shape, true), there = elementsOf(changed, variable.shape, true);
    auto only = [&](const Elements &these, const Elements &those) {
      for (auto [at, element] : these)
        if (auto other = those.find(at); other == those.end() || other->second != element)
          add(at.first, at.second, at.second + width);
    };
    only(here, there);
    only(there, here);
    return true;
  }

  void add(uint32_t tile, int64_t begin, int64_t end) {
    differ[tile].add(begin, end);
    touched[tile] = true;
  }

  void execute(uint32_t old, uint32_t changed) {
    std::vector<Work> works;
    if (old != changed)
      for (uint32_t set : {old, changed})
        for (const Vertex &vertex : (set == old ? before : after).computeSets[set].vertices)
          works.push_back({&vertex, vertex.tiles, true});
    else if (changedSets[old])
      works = ofSet[old];
    else if (llvm::is_contained(touched, true))
      for (const Vertex &vertex : before.computeSets[old].vertices)
        works.push_back({&vertex, vertex.tiles, false});
    // Vertices of a set neither read nor write what others write: all read before any writes.
    std::vector<std::tuple<uint32_t, bool, std::vector<Access> *>> writes;
    std::vector<std::unique_ptr<std::vector<Access>>> kept;
    for (const Work &work : works) {
      std::vector<Access> *accesses = nullptr;
      forEachTile(work.tiles, [&](uint32_t tile) {
        if (!work.differs && !touched[tile])
          return;
        if (!accesses) {
          kept.push_back(std::make_unique<std::vector<Access>>(accessesOf(*work.vertex, before.expressions)));
          accesses = kept.back().get();
        }
        writes.emplace_back(tile, work.differs || readsDifferent(tile, *accesses), accesses);
      });
    }
    // What both write alike last: where two works write the same bytes they are those of two programs.
    for (bool differs : {false, true})
      for (auto [tile, differently, accesses] : writes)
        if (differently == differs)
          for (const Access &access : *accesses)
            if (access.writes)
              access.forEachRun([&, tile = tile](int64_t at) {
                differs ? add(tile, at, at + access.bytes) : differ[tile].remove(at, at + access.bytes);
              });
  }
  bool readsDifferent(uint32_t tile, llvm::ArrayRef<Access> accesses) const {
    bool found = false;
    for (const Access &access : accesses)
      if (!access.writes && !found)
        access.forEachRun([&](int64_t at) { found = found || differ[tile].meets(at, at + access.bytes); });
    return found;
  }

  void exchange(const Exchange &old, const Exchange &changed) {
    // Sources are not written meanwhile, so that transfers may be done one by one. What only one program does comes
    // last, since it may write what the other one writes in both.
    bool paired = old.transfers.size() == changed.transfers.size();
    auto alike = [&](size_t i) { return paired && sameMove(old.transfers[i], changed.transfers[i]); };
    Words here, there;
    for (const Exchange *each : {&old, &changed})
      for (auto [i, transfer] : llvm::enumerate(each->transfers))
        if (!alike(i))
          addWords(transfer, each == &old ? here : there);
        else if (each == &old)
          forEachRow(transfer, [&, &transfer = transfer](int64_t from, uint32_t tile, int64_t to) {
            move(transfer.source, from, tile, to, transfer.bytes);
          });
    for (auto [to, from] : here)
      if (auto other = there.find(to); other != there.end() && other->second == from)
        move(from.first, from.second, to.first, to.second, wordBytes);
    for (const Words *words : {&here, &there})
      for (auto [to, from] : *words)
        if (auto other = (words == &here ? there : here).find(to);
            other == (words == &here ? there : here).end() || other->second != from)
          add(to.first, to.second, to.second + wordBytes);
  }
  // Tile and address of words that are received, and where they come from. Transfers of legal programs are whole words.
  using Words = std::map<std::pair<uint32_t, int64_t>, std::pair<uint32_t, int64_t>>;
  void addWords(const Transfer &each, Words &words) const {
    forEachRow(each, [&](int64_t from, uint32_t tile, int64_t to) {
      for (int64_t at = 0; at < each.bytes; at += wordBytes)
        words[{tile, to + at}] = {each.source, from + at};
    });
  }
  static bool sameMove(const Transfer &a, const Transfer &b) {
    return a.source == b.source && a.destinations == b.destinations && a.sourceAddress == b.sourceAddress &&
           a.destinationAddress == b.destinationAddress && a.rows == b.rows && a.bytes == b.bytes &&
           (a.rows == 1 || (a.sourceStride == b.sourceStride && a.destinationStride == b.destinationStride));
  }
  template <typename Body> static void forEachRow(const Transfer &each, Body &&body) {
    for (uint32_t row = 0; row < each.rows; ++row)
      forEachTile(each.destinations, [&](uint32_t tile) {
        body(each.sourceAddress + int64_t(row) * each.sourceStride, tile,
             each.destinationAddress + int64_t(row) * each.destinationStride);
      });
  }
  void move(uint32_t source, int64_t from, uint32_t tile, int64_t to, int64_t bytes) {
    if (!touched[source] && !touched[tile])
      return;
    if (touched[tile])
      differ[tile].remove(to, to + bytes);
    if (touched[source] && differ[source].meets(from, from + bytes))
      for (int64_t i = 0; i < bytes; ++i)
        if (differ[source].has(from + i))
          add(tile, to + i, to + i + 1);
  }

  bool reached(const Placement &placement) const {
    bool found = false;
    auto width = static_cast<int64_t>(byteWidth(placement.type));
    for (const Part &part : placement.parts)
      forEachRun(part, program.variables[placement.variable].shape, [&](const ElementRun &run) {
        for (int64_t i = 0; run.index >= 0 && i < run.count && !found; ++i)
          found = differ[run.tile].meets(run.address + i * run.tileStride, run.address + i * run.tileStride + width);
      });
    return found;
  }

  const program::Program &program;
  const Code &before, &after;
  int64_t wordBytes; // that transfers move at least
  size_t tiles;
  std::vector<bool> changedSets;
  std::vector<std::vector<Work>> ofSet; // of sets that changed
  std::vector<ByteSet> differ;          // by tile: bytes that may
  std::vector<bool> touched;            // tiles on which there have been any
};

} // namespace

bool equalOutputs(const program::Program &program, const Code &before, const Code &after, const Architecture &machine) {
  return Influence(program, before, after, machine).reachesNothing();
}

} // namespace quadrille::ipu
