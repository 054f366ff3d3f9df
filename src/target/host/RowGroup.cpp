#include "target/host/RowGroup.h"

#include "base/Parallel.h"
#include "graph/KernelQueries.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"

#include <algorithm>

namespace quadrille::host {

using namespace graph;

namespace {

constexpr int64_t fewestRows = 16;

bool isPlainNest(const KernelGraph &graph, const Kernel &kernel) {
  return kernel.structured() && kernel.kind != KernelKind::Contract && kernel.kind != KernelKind::Window &&
         kernel.writes.size() == 1 && !hasNoPoints(kernel.loops);
}

bool startsWith(const Shape &shape, const Shape &extents) {
  return shape.size() >= extents.size() && std::equal(extents.begin(), extents.end(), shape.begin());
}

// A value as the group's kernels see it: at `at` for whole values; values inside the group have room for the rows of
// one chunk only.
struct Place {
  bool inside = false;
  size_t index = 0;     // of the step's reads or writes, or the offset in a thread's room for a chunk of one row
  int64_t rowBytes = 0; // inside
};

struct Member {
  std::unique_ptr<RangedOperation> operation;
  int64_t pointsOfRow = 1;
  llvm::SmallVector<Place, 4> reads;
  Place write;
};

class RowGroup final : public Operation {
public:
  std::vector<Member> members;
  int64_t rows = 1, chunkRows = 1;
  size_t chunkBytes = 0; // of the values inside, for chunkRows rows
  size_t readCount = 0;  // those of the step; places beyond are its writes

  llvm::Error run(llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) override {
    parallelFor(rows, chunkRows, [&](int64_t begin, int64_t end) {
      auto room = std::make_unique_for_overwrite<uint64_t[]>(chunkBytes / sizeof(uint64_t));
      auto *start = reinterpret_cast<std::byte *>(room.get());
      // Members address whole values: row `begin` of a value inside the group is the first of its room.
      auto placeOf = [&](const Place &place) -> std::byte * {
        if (place.inside)
          return reinterpret_cast<std::byte *>(reinterpret_cast<uintptr_t>(start) +
                                               place.index * static_cast<size_t>(chunkRows) -
                                               static_cast<size_t>(begin * place.rowBytes));
        return place.index < readCount ? const_cast<std::byte *>(reads[place.index]) // only ever read
                                       : writes[place.index - readCount];
      };
      llvm::SmallVector<const std::byte *, 4> operands;
      for (const Member &member : members) {
        operands.clear();
        for (const Place &place : member.reads)
          operands.push_back(placeOf(place));
        member.operation->runRange(begin * member.pointsOfRow, end * member.pointsOfRow, operands,
                                   {placeOf(member.write)});
      }
    });
    return llvm::Error::success();
  }
};

} // namespace

std::optional<Rows> rowsOf(const KernelGraph &graph, const Kernel &reduction) {
  if (!isPlainNest(graph, reduction) || !hasReduction(reduction.loops))
    return std::nullopt;
  Rows rows;
  rows.extents = graph.values[reduction.writes[0].value].shape;
  while (!rows.extents.empty() && rows.extents.back() == 1)
    rows.extents.pop_back();
  rows.count = elementCount(rows.extents);
  return rows.count >= fewestRows ? std::optional(rows) : std::nullopt;
}

bool fitsRows(const KernelGraph &graph, llvm::ArrayRef<ValueId> aliases, const Kernel &kernel, const Rows &rows,
              const ValueFlags &produced) {
  if (!isPlainNest(graph, kernel) || !startsWith(graph.values[kernel.writes[0].value].shape, rows.extents))
    return false;
  const AccessMap &written = kernel.writes[0].map;
  auto staysInRow = [&](const Read &read) {
    if (!produced[aliases[read.value]])
      return true;
    if (!startsWith(graph.values[read.value].shape, rows.extents))
      return false;
    for (size_t d = 0; d < rows.extents.size(); ++d)
      if (rows.extents[d] != 1 && read.map[d] != written[d])
        return false;
    return true;
  };
  return llvm::all_of(kernel.reads, staysInRow) && (!kernel.writes[0].initial || staysInRow(*kernel.writes[0].initial));
}

// Those of the first kernel of a step that has any.
static std::optional<Rows> rowsOfStep(const KernelGraph &graph, const Step &step) {
  for (uint32_t k : step.kernels)
    if (std::optional<Rows> rows = rowsOf(graph, graph.kernels[k]))
      return rows;
  return std::nullopt;
}

bool isRowGroup(const KernelGraph &graph, llvm::ArrayRef<ValueId> aliases, const Step &step) {
  if (step.kernels.size() < 2)
    return false;
  std::optional<Rows> rows = rowsOfStep(graph, step);
  if (!rows)
    return false;
  ValueFlags produced(graph.values.size(), false);
  for (uint32_t k : step.kernels) {
    if (!fitsRows(graph, aliases, graph.kernels[k], *rows, produced))
      return false;
    produced[graph.kernels[k].writes[0].value] = true;
  }
  return true;
}

llvm::Expected<OperationPointer> compileRowGroup(const KernelGraph &graph, const Decisions &decisions, const Step &step,
                                                 const ValueFlags &inside) {
  auto group = std::make_unique<RowGroup>();
  std::vector<ValueId> reads = stepReads(graph, decisions.aliases, step), writes = stepWrites(graph, step, inside);
  group->readCount = reads.size();
  group->rows = rowsOfStep(graph, step)->count;
  std::map<ValueId, Place> places; // by root
  for (auto [i, read] : llvm::enumerate(reads))
    places[decisions.aliases[read]] = {false, i, 0};
  for (auto [i, write] : llvm::enumerate(writes))
    places[write] = {false, reads.size() + i, 0};
  size_t bytesOfRow = 0;
  int64_t elementsOfRow = 1;
  for (uint32_t k : step.kernels) {
    const Kernel &kernel = graph.kernels[k];
    const Value &result = graph.values[kernel.writes[0].value];
    Member member;
    auto operation = compileStructured(graph, kernel);
    if (!operation)
      return operation.takeError();
    member.operation = std::move(*operation);
    member.pointsOfRow = elementCount(result.shape) / group->rows;
    elementsOfRow = std::max(elementsOfRow, member.pointsOfRow);
    if (inside[kernel.writes[0].value]) {
      int64_t rowBytes = member.pointsOfRow * static_cast<int64_t>(byteWidth(result.type));
      places[kernel.writes[0].value] = {true, bytesOfRow, rowBytes};
      // Whole words for each value, so that none is torn between two.
      bytesOfRow += (static_cast<size_t>(rowBytes) + 7) / 8 * 8;
    }
    for (ValueId operand : operandsOf(kernel))
      member.reads.push_back(places[decisions.aliases[operand]]);
    member.write = places[kernel.writes[0].value];
    group->members.push_back(std::move(member));
  }
  constexpr int64_t cacheBytes = 1 << 17, fewestElements = 1 << 13;
  int64_t fitting = cacheBytes / std::max<int64_t>(1, static_cast<int64_t>(bytesOfRow) + 4 * elementsOfRow);
  group->chunkRows = std::clamp<int64_t>(std::max(fitting, fewestElements / elementsOfRow), 1, group->rows);
  group->chunkBytes = bytesOfRow * static_cast<size_t>(group->chunkRows);
  return OperationPointer(std::move(group));
}

} // namespace quadrille::host
