#include "target/tsp/MatrixCheck.h"

#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/STLExtras.h"

namespace quadrille::tsp {

void MatrixCheck::add(const IssueRun &run) {
  const QueueName &name = queues[run.queue].name;
  int64_t hemisphere = queues.chipOf(run.queue) * machine.hemispheres + name.hemisphere;
  Plane &plane = planes[hemisphere * machine.planes + name.index];
  switch (instructionOf(run).op()) {
  case Opcode::Activate:
    return plane.activations.push_back(run);
  case Opcode::Accumulate:
    return plane.sums.push_back(run);
  default:
    return plane.weights.push_back(run);
  }
}

void MatrixCheck::resolve() {
  for (Plane &plane : planes)
    followWeights(plane);
  // An f16 product takes both planes of a pair, the even one first: what the odd one sees of it is only what the even
  // one took.
  for (size_t even = 0; even < planes.size(); even += 2) {
    followActivations(planes[even], &planes[even + 1], false);
    followActivations(planes[even + 1], &planes[even], true);
  }
  for (Plane &plane : planes)
    followSums(plane);
}

// The same of issues [from, to); false when later ones need not be looked at.
bool MatrixCheck::findAll(const IssueRun &run, int64_t from, int64_t to,
                          llvm::function_ref<std::string(int64_t k)> message) {
  for (int64_t k = from; k < to; ++k)
    if (!findings.add(run.issue(k), [&] { return message(k); }))
      return false;
  return true;
}

// How many issues of a part, from the first one on, have a row or sum that exists: operand and step are linear, and
// that of the instruction itself exists.
int64_t MatrixCheck::withinRange(const IssueRun &run, llvm::StringRef what, int64_t last) {
  const Instruction &instruction = instructionOf(run);
  int64_t first = stepped(instruction, run.first), step = instruction.word[1];
  int64_t room = first < 0 || first > last ? 0
                 : step > 0                ? (last - first) / step + 1
                 : step < 0                ? first / -step + 1
                                           : run.count();
  int64_t count = std::min(room, run.count());
  findAll(run, count, run.count(),
          [&](int64_t k) { return hazard::outOfRange(what, stepped(instruction, run.first + k), last); });
  return count;
}

void MatrixCheck::followWeights(Plane &plane) {
  llvm::BitVector loaded(static_cast<unsigned>(machine.rows));
  int64_t lastLoad = -1;
  auto load = [&](const IssueRun &part) {
    int64_t count = withinRange(part, "row", machine.rows - machine.installRows), step = instructionOf(part).word[1];
    if (count == 0)
      return;
    bool busy = captureOf(part, 0) == lastLoad;
    if (busy)
      findAll(part, 0, 1, [](int64_t) { return hazard::loadBusy(); });
    lastLoad = captureOf(part, count - 1);
    int64_t distinct = step == 0 ? std::min<int64_t>(count, busy ? 2 : 1) : count;
    for (int64_t k = busy ? 1 : 0; k < distinct; ++k) {
      auto row = static_cast<unsigned>(stepped(instructionOf(part), part.first + k));
      loaded.set(row, row + static_cast<unsigned>(machine.installRows));
    }
  };
  auto install = [&](const IssueRun &part) {
    int64_t rows = instructionOf(part).word[0];
    for (int64_t k = 0; k < part.count(); ++k) {
      int64_t capture = captureOf(part, k);
      int missing = loaded.find_first_unset();
      if (missing >= 0 && missing < rows) {
        // Nothing is loaded between the issues of a part.
        findAll(part, k, part.count(), [&](int64_t) { return hazard::rowsMissing(missing); });
        return;
      }
      auto underWay = llvm::make_range(plane.tiles.rbegin(), plane.tiles.rend());
      int64_t count = 0;
      for (const Tile &tile : underWay) {
        if (tile.from <= capture || count >= machine.weightBuffers - 1)
          break;
        ++count;
      }
      if (count >= machine.weightBuffers - 1) {
        findAll(part, k, k + 1, [&](int64_t) { return hazard::installing(machine.weightBuffers - 1); });
        if (!findings.spend(Findings::Part))
          return;
        continue;
      }
      if (!findings.spend(Findings::Kept))
        return;
      plane.tiles.push_back({capture + machine.install, static_cast<ProductType>(instructionOf(part).small[0]), rows,
                             instructionOf(part).word[2]});
      loaded.reset();
    }
  };
  forEachInOrder(std::move(plane.weights), queues, [&](const IssueRun &part) {
    instructionOf(part).op() == Opcode::LoadWeights ? load(part) : install(part);
    return findings.spend(Findings::Part);
  });
}

// What is wrong with the tiles that the first issue of a part uses, and how many issues use the same ones. `odd` is
// null for a product of one plane.
std::string MatrixCheck::tileProblem(const IssueRun &part, const Plane &plane, const Plane *odd, int64_t &same) const {
  int64_t capture = captureOf(part, 0);
  same = part.count();
  auto tileOf = [&](const Plane &of) -> const Tile * {
    auto next = llvm::partition_point(of.tiles, [&](const Tile &tile) { return tile.from <= capture; });
    if (next != of.tiles.end())
      same = std::min(same, (next->from - capture - 1) / part.cycles.interval + 1);
    return next == of.tiles.begin() ? nullptr : &*std::prev(next);
  };
  const Tile *tile = tileOf(plane), *other = odd ? tileOf(*odd) : tile;
  if (!tile || !other)
    return hazard::notInstalled();
  bool f16 = instructionOf(part).small[0] == static_cast<uint8_t>(ProductType::F16);
  if ((tile->type == ProductType::F16) != f16 || (other->type == ProductType::F16) != f16)
    return hazard::wrongTile();
  return tile->rows != other->rows || tile->lane != other->lane ? hazard::tandemTiles() : "";
}

// `other` is the plane with which this one makes a pair.
void MatrixCheck::followActivations(Plane &plane, Plane *other, bool isOdd) {
  int64_t lastTake = -1;
  auto take = [&](IssueRun part, bool f16) {
    if (captureOf(part, 0) == lastTake) {
      findAll(part, 0, 1, [](int64_t) { return hazard::planeBusy(); });
      part = part.part(1, part.count() - 1);
      if (part.count() == 0)
        return;
    }
    lastTake = captureOf(part, part.count() - 1);
    if (f16 && !isOdd)
      other->tandem.push_back(part);
    else
      addProducts(f16 ? *other : plane, part, f16);
  };
  std::vector<IssueRun> runs = std::move(plane.activations);
  llvm::append_range(runs, plane.tandem);
  plane.tandem.clear();
  forEachInOrder(std::move(runs), queues, [&](IssueRun part) {
    bool f16 = instructionOf(part).small[0] == static_cast<uint8_t>(ProductType::F16);
    bool ofOdd = queues[part.queue].name.index % 2 != 0;
    if (f16 && ofOdd) {
      findAll(part, 0, part.count(), [](int64_t) { return hazard::oddPlane(); });
      return findings.spend(Findings::Part);
    }
    if (isOdd && !ofOdd) { // its tiles have been looked at
      take(part, f16);
      return findings.spend(Findings::Part);
    }
    while (part.count() > 0 && findings.spend(Findings::Part)) {
      int64_t same = 0;
      std::string problem = tileProblem(part, plane, f16 ? other : nullptr, same);
      if (problem.empty())
        take(part.part(0, same), f16);
      else
        findAll(part, 0, same, [&](int64_t) { return problem; });
      part = part.part(same, part.count() - same);
    }
    return !findings.exhausted();
  });
}

void MatrixCheck::addProducts(Plane &plane, const IssueRun &part, bool f16) {
  auto [last, isNew] = plane.lastProducts.try_emplace({part.queue, part.instruction}, plane.products.size());
  if (!isNew) {
    IssueRun &before = plane.products[last->second].by;
    if (before.first + before.count() == part.first) {
      before.cycles.count += part.count();
      return;
    }
    // Issues of a run that find the plane busy or without a tile take it apart.
    findings.spend(Findings::Kept);
    last->second = plane.products.size();
  }
  plane.products.push_back({part, f16});
}

// No sum took the products of the issues before `to`.
void MatrixCheck::lose(Products &products, int64_t to) {
  for (; products.consumed < to; ++products.consumed)
    if (!findings.addInTheEnd(products.by.issue(products.consumed), [] { return hazard::productsLost(); }))
      break;
  products.consumed = to;
}

void MatrixCheck::followSums(Plane &plane) {
  struct Sum {
    bool started = false, f16 = false;
    Issue by;
  };
  std::vector<Sum> sums(machine.accumulators);
  // Empty or the hazard of the issue.
  auto accumulate = [&](AccumulateMode mode, int64_t number, bool f16, const Issue &issue) -> std::string {
    Sum &sum = sums[number];
    if (mode == AccumulateMode::Start) {
      if (sum.started)
        return hazard::sumOverwritten(number);
      sum = {true, f16, issue};
      return "";
    }
    if (!sum.started)
      return hazard::sumNotStarted(number);
    if (sum.f16 != f16)
      return hazard::sumType(number);
    if (mode == AccumulateMode::Finish)
      sum.started = false;
    return "";
  };

  std::vector<Products> &products = plane.products;
  llvm::sort(products, [](const Products &a, const Products &b) { return a.by.cycles.first < b.by.cycles.first; });
  std::vector<Products *> arriving;
  size_t next = 0;
  // Whose products reach the sums at that capture, and of which issue.
  auto arrivalAt = [&](int64_t capture) -> std::pair<Products *, int64_t> {
    int64_t activated = capture - machine.skew - machine.multiply; // their dispatch
    for (; next < products.size() && products[next].by.cycles.first <= activated; ++next)
      arriving.push_back(&products[next]);
    llvm::erase_if(arriving, [&](Products *each) {
      bool past = each->by.cycles.last() < activated;
      if (past)
        lose(*each, each->by.count());
      return past;
    });
    for (Products *each : arriving)
      if (auto k = each->by.cycles.indexOf(activated); k && *k >= each->consumed)
        return {each, *k};
    return {nullptr, 0};
  };
  forEachInOrder(std::move(plane.sums), queues, [&](const IssueRun &part) {
    const Instruction &instruction = instructionOf(part);
    auto mode = static_cast<AccumulateMode>(instruction.small[0]);
    int64_t count = withinRange(part, "sum", machine.accumulators - 1), step = instruction.word[1];
    for (int64_t k = 0; k < count && findings.spend(Findings::Part);) {
      auto [from, at] = arrivalAt(captureOf(part, k));
      if (!from) {
        findings.add(part.issue(k), [] { return hazard::noProducts(); });
        ++k;
        continue;
      }
      lose(*from, at);
      bool together = from->by.cycles.interval == part.cycles.interval;
      int64_t end = k + (together ? std::min(count - k, from->by.count() - at) : 1);
      from->consumed = at + end - k;
      if (mode != AccumulateMode::Pass)
        for (int64_t i = k; i < end; ++i) {
          std::string problem = accumulate(mode, stepped(instruction, part.first + i), from->f16, part.issue(i));
          bool wanted = problem.empty() || findings.add(part.issue(i), [&] { return problem; });
          // Of the same sum, all issues behind the second find what it finds.
          if (step == 0 && i > k && (problem.empty() || !wanted))
            break;
        }
      k = end;
    }
    return !findings.exhausted();
  });
  for (Products &each : products)
    lose(each, each.by.count());
  for (auto [number, sum] : llvm::enumerate(sums))
    if (sum.started)
      findings.addInTheEnd(sum.by,
                           [&, number = number] { return hazard::sumNotFinished(static_cast<int64_t>(number)); });
}

} // namespace quadrille::tsp
