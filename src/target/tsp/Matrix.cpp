#include "target/tsp/Matrix.h"

#include "target/tsp/Observer.h"

#include <cstring>

namespace quadrille::tsp {

static constexpr int64_t never = std::numeric_limits<int64_t>::max();

Matrix::Matrix(const Context &context, int64_t chips)
    : context(context), planes(chips * context.machine.hemispheres * context.machine.planes) {
  for (Plane &plane : planes) {
    plane.latched.resize(context.machine.rows);
    plane.sums.resize(context.machine.accumulators);
  }
}

void Matrix::add(std::shared_ptr<Work> work) {
  Plane &plane = planeOf(*work);
  if (!std::exchange(plane.listed, true))
    active.insert(llvm::lower_bound(active, &plane), &plane);
  switch (work->instruction->op()) {
  case Opcode::LoadWeights:
    return plane.loads.add(std::move(work));
  case Opcode::InstallWeights:
    return plane.installs.add(std::move(work));
  case Opcode::Activate:
    return plane.activations.add(std::move(work));
  default:
    return plane.accumulations.add(std::move(work));
  }
}

llvm::Expected<bool> Matrix::step() {
  bool progress = false;
  for (Plane *plane : active)
    for (bool again = true; std::exchange(again, false);)
      for (auto part : {&Matrix::load, &Matrix::install, &Matrix::activate, &Matrix::accumulate}) {
        auto stepped = (this->*part)(*plane);
        if (!stepped)
          return stepped.takeError();
        again |= *stepped;
        progress |= *stepped;
      }
  std::erase_if(active, [](Plane *plane) {
    return plane->loads.empty() && plane->installs.empty() && plane->activations.empty() &&
           plane->accumulations.empty() && std::exchange(plane->listed, false);
  });
  return progress;
}

llvm::Expected<bool> Matrix::load(Plane &plane) {
  const Architecture &machine = context.machine;
  bool progress = false;
  llvm::SmallVector<Channels::Found, 16> found;
  while (Work *work = plane.loads.next()) {
    // Rows that are captured with an install or before it belong to it.
    int64_t install = plane.installs.nextCycle();
    int64_t other = std::max(plane.loads.nextOther(work), work->nextCycle() + 1);
    int64_t count = context.before(*work, std::min(other, install == never ? never : install + 1));
    if (count == 0)
      break;
    const Instruction &instruction = *work->instruction;
    auto rowOf = [&](int64_t k) { return stepped(instruction, work->burst.first + k); };
    auto exists = [&](int64_t row) { return row >= 0 && row + machine.installRows <= machine.rows; };
    if (!exists(rowOf(work->done)))
      return context.hazard(*work, work->done,
                            hazard::outOfRange("row", rowOf(work->done), machine.rows - machine.installRows));
    while (!exists(rowOf(work->done + count - 1)))
      --count;
    if (plane.lastLoad == work->nextCycle())
      return context.hazard(*work, work->done, hazard::loadBusy());
    if (llvm::Error error = context.channels.find(context, *work, count, found))
      return std::move(error);
    if (count == 0)
      break;
    if (context.values && !plane.buffer)
      plane.buffer = std::make_shared<std::byte[]>(machine.rows * machine.vectorBytes());
    for (int64_t k = 0; k < count; ++k) {
      int64_t row = rowOf(work->done + k);
      for (int64_t i = 0; i < machine.installRows; ++i) {
        plane.latched[row + i] = true;
        if (context.values)
          std::memcpy(plane.buffer.get() + (row + i) * machine.vectorBytes(),
                      context.channels.vectors(context, found[i]).at(k), machine.vectorBytes());
      }
    }
    context.observer.executed(*work, work->done, count, found);
    work->done += count;
    plane.lastLoad = work->cycle(work->done - 1);
    plane.loads.dropEnded();
    progress = true;
  }
  return progress;
}

llvm::Expected<bool> Matrix::install(Plane &plane) {
  const Architecture &machine = context.machine;
  bool progress = false;
  while (Work *work = plane.installs.next()) {
    if (context.before(*work, work->nextCycle() + 1) == 0 || plane.loads.nextCycle() <= work->nextCycle())
      break;
    int64_t capture = work->nextCycle() + machine.skew, rows = work->instruction->word[0];
    for (int64_t row = 0; row < rows; ++row)
      if (!plane.latched[row])
        return context.hazard(*work, work->done, hazard::rowsMissing(row));
    int64_t underWay = llvm::count_if(plane.tiles, [&](const auto &tile) { return tile->ready > capture; });
    if (underWay >= machine.weightBuffers - 1)
      return context.hazard(*work, work->done, hazard::installing(machine.weightBuffers - 1));
    // The buffer's memory becomes the tile's; the next load takes fresh memory.
    auto tile = std::make_shared<TimedTile>();
    tile->type = static_cast<ProductType>(work->instruction->small[0]);
    tile->rows = rows;
    tile->lane = work->instruction->word[2];
    tile->weights = std::move(plane.buffer);
    tile->ready = capture + machine.install;
    tile->by = work->burst.issue(work->done);
    plane.tiles.push_back(std::move(tile));
    plane.buffer.reset();
    plane.latched.assign(machine.rows, false);
    context.observer.executed(*work, work->done, 1, {});
    ++work->done;
    plane.installs.dropEnded();
    progress = true;
  }
  // Activations that are still to come meet the latest tile that is ready by then, or a later one.
  int64_t earliest = std::min(context.complete, plane.activations.nextCycle());
  if ((&plane - planes.data()) % machine.tandem != 0)
    earliest = std::min(earliest, (&plane)[-1].activations.nextCycle());
  while (plane.tiles.size() > 1 && plane.tiles[1]->ready - machine.skew <= earliest)
    plane.tiles.pop_front();
  return progress;
}

const Matrix::TimedTile *Matrix::tileAt(Plane &plane, int64_t cycle, int64_t &until) const {
  const TimedTile *present = nullptr;
  for (const auto &tile : plane.tiles) {
    if (tile->ready > cycle) {
      until = std::min(until, tile->ready);
      break;
    }
    present = tile.get();
  }
  return present;
}

llvm::Expected<bool> Matrix::activate(Plane &plane) {
  const Architecture &machine = context.machine;
  bool progress = false;
  llvm::SmallVector<Channels::Found, 2> found;
  while (Work *work = plane.activations.next()) {
    auto type = static_cast<ProductType>(work->instruction->small[0]);
    bool f16 = type == ProductType::F16;
    if (f16 && work->queue->index % machine.tandem != 0)
      return context.hazard(*work, work->done, hazard::oddPlane());
    // Nothing that a present or coming install makes ready may be missed, and other activations take turns.
    Plane *pair[2] = {&plane, f16 ? &planeOf(*work, 1) : nullptr};
    int64_t limit = std::max(plane.activations.nextOther(work), work->nextCycle() + 1);
    int64_t partner = planes[(&plane - planes.data()) ^ 1].activations.nextCycle(
        [&](const Work &other) { return f16 || other.instruction->small[0] == uint8_t(ProductType::F16); });
    if (partner < work->nextCycle())
      break; // its turn: both occupy the same plane
    limit = std::min(limit, std::max(partner, work->nextCycle() + 1));
    for (Plane *each : pair)
      if (int64_t next = each ? each->installs.nextCycle() : never; next != never)
        limit = std::min(limit, next + machine.install);
    int64_t capture = work->nextCycle() + machine.skew, until = never;
    const TimedTile *tile = tileAt(plane, capture, until);
    const TimedTile *second = f16 ? tileAt(*pair[1], capture, until) : nullptr;
    int64_t count = context.before(*work, std::min(limit, until == never ? never : until - machine.skew));
    if (count == 0)
      break;
    if (!tile || (f16 && !second))
      return context.hazard(*work, work->done, hazard::notInstalled());
    if ((tile->type == ProductType::F16) != f16 || (second && second->type != ProductType::F16))
      return context.hazard(*work, work->done, hazard::wrongTile());
    if (second && (second->rows != tile->rows || second->lane != tile->lane))
      return context.hazard(*work, work->done, hazard::tandemTiles());
    for (Plane *each : pair)
      if (each && each->lastActivation == work->nextCycle())
        return context.hazard(*work, work->done, hazard::planeBusy());
    if (llvm::Error error = context.channels.find(context, *work, count, found))
      return std::move(error);
    if (count == 0)
      break;
    int64_t columns = f16 ? machine.f16Columns : machine.columns;
    context.observer.multiplied(*work, work->done, count,
                                static_cast<double>(tile->rows) * static_cast<double>(columns), found, tile->by,
                                second ? &second->by : nullptr);
    Products products{
        work->burst.cycles.part(work->done, count).shifted(machine.skew + machine.multiply), f16, work->burst, {}};
    products.by.first += work->done;
    products.by.cycles = work->burst.cycles.part(work->done, count);
    if (context.values) {
      products.sums.resize(count * columns);
      Vectors low = context.channels.vectors(context, found[0]);
      if (f16) {
        if (plane.lowTile.get() != tile || plane.highTile.get() != second) {
          auto share = [](const Plane &of, const TimedTile *wanted) {
            return *llvm::find_if(of.tiles, [&](const auto &each) { return each.get() == wanted; });
          };
          plane.lowTile = share(plane, tile);
          plane.highTile = share(*pair[1], second);
          plane.joined = joinTiles(*tile, *second, columns, machine.vectorBytes());
        }
        Vectors high = context.channels.vectors(context, found[1]);
        low.first += tile->lane;
        high.first += tile->lane;
        multiplyF16(low, high, count, plane.joined, tile->rows, columns, products.sums.data());
      } else {
        multiplyInteger(type, low, count, *tile, columns, machine.vectorBytes(), products.sums.data());
      }
    }
    plane.products.push_back(std::move(products));
    work->done += count;
    for (Plane *each : pair)
      if (each)
        each->lastActivation = work->cycle(work->done - 1);
    plane.activations.dropEnded();
    progress = true;
  }
  return progress;
}

llvm::Expected<bool> Matrix::accumulate(Plane &plane) {
  const Architecture &machine = context.machine;
  bool progress = false;
  while (Work *work = plane.accumulations.next()) {
    int64_t count = context.before(*work, std::max(plane.accumulations.nextOther(work), work->nextCycle() + 1));
    if (count == 0)
      break;
    auto mode = static_cast<AccumulateMode>(work->instruction->small[0]);
    int64_t capture = work->nextCycle() + machine.skew;
    auto numberOf = [&](int64_t k) { return stepped(*work->instruction, work->burst.first + k); };
    int64_t number = numberOf(work->done);
    if (number < 0 || number >= machine.accumulators)
      return context.hazard(*work, work->done, hazard::outOfRange("sum", number, machine.accumulators - 1));
    // Products that arrive now belong to activations of a known cycle: have they been executed?
    if (plane.activations.nextCycle() <= work->nextCycle() - machine.multiply)
      break;
    while (!plane.products.empty() && plane.products.front().arrivals.at(plane.products.front().taken) < capture)
      loseProducts(plane);
    if (plane.products.empty() || plane.products.front().arrivals.at(plane.products.front().taken) != capture)
      return context.hazard(*work, work->done, hazard::noProducts());
    Products &products = plane.products.front();
    count = products.arrivals.interval == work->burst.cycles.interval
                ? std::min(count, products.arrivals.count - products.taken)
                : 1;
    int64_t columns = products.f16 ? machine.f16Columns : machine.columns;
    if (mode == AccumulateMode::Finish || mode == AccumulateMode::Pass)
      context.allocateResults(*work);
    if (context.values && plane.sumValues.empty())
      plane.sumValues.resize(machine.accumulators * machine.columns);
    for (int64_t k = work->done; k < work->done + count; ++k) {
      number = numberOf(k);
      if (number < 0 || number >= machine.accumulators)
        return context.hazard(*work, k, hazard::outOfRange("sum", number, machine.accumulators - 1));
      Sum &sum = plane.sums[number];
      const uint32_t *values = nullptr;
      uint32_t *held = nullptr;
      if (context.values) {
        values = products.sums.data() + (products.taken + k - work->done) * columns;
        held = plane.sumValues.data() + number * machine.columns;
      }
      if (mode == AccumulateMode::Start) {
        if (sum.started)
          return context.hazard(*work, k, hazard::sumOverwritten(number));
        sum = {true, products.f16, work->burst.issue(k)};
        if (context.values)
          std::copy(values, values + columns, held);
        continue;
      }
      if (mode == AccumulateMode::Pass) {
        emit(*work, k, values, columns);
        continue;
      }
      if (!sum.started)
        return context.hazard(*work, k, hazard::sumNotStarted(number));
      if (sum.f16 != products.f16)
        return context.hazard(*work, k, hazard::sumType(number));
      if (context.values)
        addSums(held, values, columns, sum.f16);
      if (mode == AccumulateMode::Finish) {
        emit(*work, k, held, columns);
        sum = {};
      }
    }
    context.observer.accumulated(*work, work->done, count, products.by);
    products.taken += count;
    if (products.taken == products.arrivals.count)
      plane.products.pop_front();
    work->done += count;
    plane.accumulations.dropEnded();
    progress = true;
  }
  return progress;
}

// Four byte planes, the least significant first. Lanes beyond the columns carry zero.
void Matrix::emit(const Work &work, int64_t k, const uint32_t *sums, int64_t columns) const {
  if (!context.values)
    return;
  for (int64_t byte = 0; byte < context.machine.group; ++byte) {
    std::byte *to = context.result(work, byte, k);
    for (int64_t column = 0; column < columns; ++column)
      to[column] = static_cast<std::byte>(sums[column] >> (8 * byte));
    std::memset(to + columns, 0, context.machine.vectorBytes() - columns);
  }
}

// The next products of the plane go unused.
void Matrix::loseProducts(Plane &plane) {
  Products &products = plane.products.front();
  Issue issue = products.by.issue(products.taken);
  if (!firstLost || precedes(issue, *firstLost, context.queues))
    firstLost = issue;
  if (++products.taken == products.arrivals.count)
    plane.products.pop_front();
}

std::optional<LeftOver> Matrix::leftOver() {
  for (Plane &plane : planes)
    while (!plane.products.empty())
      loseProducts(plane);
  std::optional<LeftOver> first;
  if (firstLost)
    first = {*firstLost, hazard::productsLost()};
  for (const Plane &plane : planes)
    for (auto [number, sum] : llvm::enumerate(plane.sums))
      if (sum.started && (!first || precedes(sum.by, first->issue, context.queues)))
        first = {sum.by, hazard::sumNotFinished(static_cast<int64_t>(number))};
  return first;
}

} // namespace quadrille::tsp
