#include "target/ipu/Check.h"

#include "target/ipu/ByteSet.h"
#include "target/ipu/MemoryUse.h"
#include "target/ipu/Placements.h"
#include "target/ipu/Vertices.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/ADT/bit.h"

#include <map>
#include <memory>
#include <tuple>

namespace quadrille::ipu {

namespace {

class Checker {
public:
  Checker(const program::Program &program, const Code &code, const Architecture &machine)
      : program(program), code(code), machine(machine) {}

  target::Verdict run() {
    for (auto [i, set] : llvm::enumerate(code.computeSets))
      checkSet(set, ("compute set " + llvm::Twine(i) + " '" + set.name + "'").str());
    for (auto [i, exchange] : llvm::enumerate(code.exchanges))
      checkExchange(exchange, ("exchange " + llvm::Twine(i) + " '" + exchange.name + "'").str());
    checkMemory();
    // What writes over itself need not be followed.
    for (size_t entry = 0; entry < code.entries.size() && verdict.legal(); ++entry)
      follow(entry);
    return std::move(verdict);
  }

private:
  static constexpr size_t mostFindings = 100;
  void find(const llvm::Twine &where, const llvm::Twine &what) {
    if (verdict.findings.size() < mostFindings)
      verdict.findings.push_back({where.str(), what.str()});
  }
  static std::string rangeOf(const Access &access) {
    return std::to_string(access.first()) + ".." + std::to_string(access.end() - 1);
  }
  static bool same(const Access &a, const Access &b) {
    return a.address == b.address && a.bytes == b.bytes && a.extents == b.extents && a.strides == b.strides;
  }
  // Whether two points of the loops have a byte in common.
  static bool overlapsItself(const Access &access) {
    std::vector<std::pair<int64_t, int64_t>> loops; // stride, extent
    for (auto [extent, stride] : llvm::zip(access.extents, access.strides))
      if (extent > 1)
        loops.emplace_back(std::abs(stride), extent);
    llvm::sort(loops);
    int64_t span = access.bytes;
    for (auto [stride, extent] : loops) {
      if (stride < span)
        return true;
      span = stride * (extent - 1) + span;
    }
    return false;
  }

  void checkSet(const ComputeSet &set, const std::string &where) {
    std::vector<std::vector<Access>> accesses;
    std::map<uint32_t, std::vector<uint32_t>> byTile;
    for (auto [i, vertex] : llvm::enumerate(set.vertices)) {
      std::vector<Access> &own = accesses.emplace_back(accessesOf(vertex, code.expressions));
      std::string at = where + ", vertex " + std::to_string(i);
      for (const Access &a : own) {
        if (a.writes && overlapsItself(a))
          find(at, "it writes bytes " + rangeOf(a) + " more than once");
        for (const Access &b : own)
          if (&a != &b && a.writes && !same(a, b) && meet(a, b) && (!b.writes || &a < &b))
            find(at, "it writes bytes " + rangeOf(a) + ", which meet those that it " + (b.writes ? "writes" : "reads") +
                         " in another order, " + rangeOf(b));
      }
      forEachTile(vertex.tiles, [&](uint32_t tile) { byTile[tile].push_back(static_cast<uint32_t>(i)); });
    }
    // Most tiles have the same vertices as others.
    std::map<std::vector<uint32_t>, uint32_t> seen;
    for (auto &[tile, vertices] : byTile) {
      if (!seen.try_emplace(vertices, tile).second)
        continue;
      for (size_t i = 0; i < vertices.size(); ++i)
        for (size_t k = 0; k < vertices.size(); ++k)
          if (i != k)
            checkPair(accesses, vertices[i], vertices[k], tile, where);
    }
  }
  void checkPair(const std::vector<std::vector<Access>> &accesses, uint32_t first, uint32_t second, uint32_t tile,
                 const std::string &where) {
    if (first == second)
      return find(where + ", vertex " + llvm::Twine(first), "it is on tile " + llvm::Twine(tile) + " twice");
    for (const Access &a : accesses[first])
      for (const Access &b : accesses[second])
        if (a.writes && (!b.writes || first < second) && meet(a, b))
          return find(where + ", vertices " + llvm::Twine(first) + " and " + llvm::Twine(second),
                      "on tile " + llvm::Twine(tile) + " one writes bytes " + rangeOf(a) + ", which the other " +
                          (b.writes ? "writes" : "reads") + " at the same time");
  }

  void checkExchange(const Exchange &exchange, const std::string &where) {
    struct Interval {
      int64_t begin, end;
      size_t transfer;
      bool writes;
    };
    std::map<uint32_t, std::vector<Interval>> byTile;
    for (auto [i, each] : llvm::enumerate(exchange.transfers))
      for (uint32_t row = 0; row < each.rows; ++row) {
        int64_t from = each.sourceAddress + int64_t(row) * each.sourceStride;
        int64_t to = each.destinationAddress + int64_t(row) * each.destinationStride;
        byTile[each.source].push_back({from, from + each.bytes, i, false});
        forEachTile(each.destinations, [&, i = i, &each = each](uint32_t tile) {
          byTile[tile].push_back({to, to + each.bytes, i, true});
        });
      }
    for (auto &[tile, intervals] : byTile) {
      llvm::sort(intervals, [](const Interval &a, const Interval &b) {
        return std::tuple(a.begin, a.transfer, a.writes) < std::tuple(b.begin, b.transfer, b.writes);
      });
      // The farthest end so far, of what is written and of what is read.
      const Interval *written = nullptr, *read = nullptr;
      for (const Interval &each : intervals) {
        const Interval *other = written && written->end > each.begin            ? written
                                : each.writes && read && read->end > each.begin ? read
                                                                                : nullptr;
        if (other)
          find(where + ", transfers " + llvm::Twine(other->transfer) + " and " + llvm::Twine(each.transfer),
               "both touch byte " + llvm::Twine(each.begin) + " of tile " + llvm::Twine(tile) +
                   ", and one of them writes it");
        const Interval *&farthest = each.writes ? written : read;
        if (!farthest || each.end > farthest->end)
          farthest = &each;
      }
    }
  }

  void checkMemory() {
    std::vector<TileUse> uses = memoryUse(program, code, machine);
    for (auto [tile, use] : llvm::enumerate(uses)) {
      if (use.code() > machine.executableBytes)
        find("tile " + llvm::Twine(tile), "its code of " + llvm::Twine(use.code()) + " bytes is more than the " +
                                              llvm::Twine(machine.executableBytes) + " that can be executed");
      else if (use.bytes[Variables] > 0 && use.lowestData < use.code())
        find("tile " + llvm::Twine(tile), "its code of " + llvm::Twine(use.code()) +
                                              " bytes reaches into the data at " + llvm::Twine(use.lowestData));
    }
  }

  // Nothing is read before it has been written.
  void follow(size_t entry) {
    const program::EntryPoint &point = program.entryPoints[entry];
    std::vector<ByteSet> written(static_cast<size_t>(program.chips * machine.tiles));
    for (const Placement &placement : code.placements) {
      const program::Variable &variable = program.variables[placement.variable];
      bool loaded = variable.role == program::VariableRole::Weight || variable.role == program::VariableRole::State ||
                    llvm::is_contained(point.inputs, placement.variable);
      auto width = static_cast<int64_t>(byteWidth(placement.type));
      for (const Part &part : placement.parts)
        if (loaded)
          forEachRun(part, variable.shape, [&](const ElementRun &run) {
            for (int64_t i = 0; i < run.count; ++i) {
              int64_t at = run.address + i * run.tileStride;
              written[run.tile].add(at, at + width);
            }
          });
    }
    auto require = [&](uint32_t tile, int64_t begin, int64_t end, const llvm::Twine &where) {
      requireWritten(written[tile], tile, begin, end, where);
    };
    followSteps(entry, 0, code.entries[entry].size(), written);
    for (const Placement &placement : code.placements)
      if (llvm::is_contained(point.outputs, placement.variable))
        followOutput(placement, point.name, require);
  }
  void requireWritten(const ByteSet &written, uint32_t tile, int64_t begin, int64_t end, const llvm::Twine &where) {
    if (int64_t missing = written.firstMissing(begin, end); missing < end)
      find(where,
           "it reads byte " + llvm::Twine(missing) + " of tile " + llvm::Twine(tile) + ", which nothing has written");
  }
  void followSteps(size_t entry, size_t begin, size_t end, std::vector<ByteSet> &written) {
    for (size_t at = begin; at < end; ++at) {
      const Step &step = code.entries[entry][at];
      if (step.kind == StepKind::Repeat) {
        size_t last = endOfRepeat(entry, at);
        followTurns(entry, at, last, written);
        at = last;
      } else {
        followStep(entry, at, written);
      }
    }
  }
  size_t endOfRepeat(size_t entry, size_t at) const {
    for (size_t open = 0;; ++at) {
      StepKind kind = code.entries[entry][at].kind;
      open += kind == StepKind::Repeat;
      if (kind == StepKind::End && --open == 0)
        return at;
    }
  }
  // One turn finds all that there is and leaves what all do, unless words are sent of which only some bytes have been
  // written: then turns are followed until one leaves what an earlier one has left.
  void followTurns(size_t entry, size_t begin, size_t end, std::vector<ByteSet> &written) {
    bool sentBefore = sentPartly;
    sentPartly = false;
    std::vector<ByteSet> earlier;
    uint32_t turns = code.entries[entry][begin].index, turnOfEarlier = 0;
    for (uint32_t turn = 0; turn < turns && verdict.legal(); ++turn) {
      followSteps(entry, begin + 1, end, written);
      if (!sentPartly)
        break;
      // What lies between the two comes again and again, the last time perhaps not whole.
      if (turn > 0 && written == earlier) {
        turn = turns - 1 - (turns - 1 - turn) % (turn - turnOfEarlier);
      } else if (llvm::has_single_bit(turn + 1)) {
        earlier = written;
        turnOfEarlier = turn;
      }
    }
    sentPartly |= sentBefore;
  }
  void followStep(size_t entry, size_t i, std::vector<ByteSet> &written) {
    const Step &step = code.entries[entry][i];
    std::string where =
        ("entry point '" + llvm::Twine(program.entryPoints[entry].name) + "', step " + llvm::Twine(i)).str();
    if (step.kind == StepKind::Execute)
      followSet(code.computeSets[step.index], where, written);
    if (step.kind != StepKind::Exchange)
      return;
    for (bool writes : {false, true})
      for (auto [k, each] : llvm::enumerate(code.exchanges[step.index].transfers))
        for (uint32_t row = 0; row < each.rows; ++row) {
          int64_t from = each.sourceAddress + int64_t(row) * each.sourceStride;
          int64_t to = each.destinationAddress + int64_t(row) * each.destinationStride;
          if (writes)
            forEachTile(each.destinations, [&, &each = each](uint32_t tile) {
              sendWritten(written[each.source], from, written[tile], to, each.bytes);
            });
          else
            requireWords(written[each.source], each.source, from, each.bytes, where + ", transfer " + llvm::Twine(k));
        }
  }
  // Transfers move whole words. One of which a byte has been written may be sent: what is beside it arrives as
  // unwritten as it was.
  void requireWords(ByteSet &written, uint32_t tile, int64_t from, int64_t bytes, const llvm::Twine &where) {
    int64_t word = machine.exchangeGranularity;
    if (written.firstMissing(from, from + bytes) == from + bytes)
      return;
    for (int64_t at = from; at < from + bytes; at += word) {
      bool any = false;
      for (int64_t byte = at; byte < at + word; ++byte)
        any |= written.has(byte);
      if (!any)
        return find(where, "it sends the word at " + llvm::Twine(at) + " of tile " + llvm::Twine(tile) +
                               ", of which nothing has been written");
    }
  }
  void sendWritten(ByteSet &source, int64_t from, ByteSet &destination, int64_t to, int64_t bytes) {
    if (source.firstMissing(from, from + bytes) == from + bytes)
      return destination.add(to, to + bytes);
    sentPartly = true;
    for (int64_t i = 0; i < bytes; ++i)
      source.has(from + i) ? destination.add(to + i, to + i + 1) : destination.remove(to + i, to + i + 1);
  }
  void followSet(const ComputeSet &set, const std::string &where, std::vector<ByteSet> &written) {
    for (bool writes : {false, true})
      for (auto [k, vertex] : llvm::enumerate(set.vertices)) {
        std::vector<Access> accesses = accessesOf(vertex, code.expressions);
        for (const Access &access : accesses)
          if (access.writes == writes)
            access.forEachRun([&](int64_t at) {
              forEachTile(vertex.tiles, [&](uint32_t tile) {
                if (writes)
                  written[tile].add(at, at + access.bytes);
                else
                  requireWritten(written[tile], tile, at, at + access.bytes, where + ", vertex " + llvm::Twine(k));
              });
            });
      }
  }
  // Each element of an output comes from one place, which something has written.
  template <typename Require>
  void followOutput(const Placement &placement, const std::string &point, Require &&require) {
    const program::Variable &variable = program.variables[placement.variable];
    std::vector<bool> found(static_cast<size_t>(elementCount(variable.shape)));
    std::string where = "entry point '" + point + "', output '" + variable.name + "'";
    auto width = static_cast<int64_t>(byteWidth(placement.type));
    for (const Part &part : placement.parts)
      forEachRun(part, variable.shape, [&](const ElementRun &run) {
        for (int64_t i = 0; run.index >= 0 && i < run.count; ++i) {
          int64_t at = run.address + i * run.tileStride;
          require(run.tile, at, at + width, where);
          auto element = static_cast<size_t>(run.index + i * run.hostStride);
          if (found[element])
            find(where, "element " + llvm::Twine(element) + " lies in two places");
          found[element] = true;
        }
      });
    if (auto missing = llvm::find(found, false); missing != found.end())
      find(where, "element " + llvm::Twine(missing - found.begin()) + " lies nowhere");
  }

  const program::Program &program;
  const Code &code;
  const Architecture &machine;
  target::Verdict verdict;
  bool sentPartly = false; // some word of which not all bytes have been written
};

} // namespace

target::Verdict check(const program::Program &program, const Code &code, const Architecture &machine) {
  target::Verdict verdict;
  verdict.findings = wellFormed(program, code, machine);
  return verdict.findings.empty() ? Checker(program, code, machine).run() : verdict;
}

} // namespace quadrille::ipu
