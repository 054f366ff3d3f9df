#include "target/tsp/Matrix.h"

#include <bit>
#include <cstring>

namespace quadrille::tsp {

Matrix::Matrix(const Architecture &machine, llvm::ArrayRef<Queue> queues, bool values)
    : machine(machine), queues(queues), values(values), planes(machine.hemispheres * machine.planes) {
  for (Plane &plane : planes) {
    plane.latched.resize(machine.rows);
    plane.sums.resize(machine.accumulators);
  }
}

const Matrix::Tile *Matrix::tileAt(Plane &plane, int64_t cycle) {
  while (plane.tiles.size() > 1 && plane.tiles[1]->ready <= cycle)
    plane.tiles.pop_front();
  return !plane.tiles.empty() && plane.tiles.front()->ready <= cycle ? plane.tiles.front().get() : nullptr;
}

llvm::Expected<int64_t> Matrix::loadWeights(const Issue &issue, const Instruction &instruction, Streams &streams) {
  const QueueName &name = queues[issue.queue].name;
  Plane &plane = planeOf(name);
  int64_t capture = issue.cycle + machine.skew;
  int64_t row = stepped(instruction, issue.iteration);
  if (row < 0 || row + machine.installRows > machine.rows)
    return hazardError(issue, queues, hazard::outOfRange("row", row, machine.rows - machine.installRows));
  if (plane.lastLoad == capture)
    return hazardError(issue, queues, hazard::loadBusy());
  plane.lastLoad = capture;
  if (values && !plane.buffer)
    plane.buffer = std::make_shared<std::byte[]>(machine.rows * machine.vectorBytes());
  for (int64_t i = 0; i < machine.installRows; ++i) {
    auto from = streams.read(machine.outward(name.hemisphere), machine.installFirstStream[name.index] + i,
                             machine.matrixInputCoordinate(), capture, issue);
    if (!from)
      return from.takeError();
    plane.latched[row + i] = true;
    if (values)
      std::memcpy(plane.buffer.get() + (row + i) * machine.vectorBytes(), *from, machine.vectorBytes());
  }
  return capture + 1;
}

llvm::Expected<int64_t> Matrix::installWeights(const Issue &issue, const Instruction &instruction) {
  Plane &plane = planeOf(queues[issue.queue].name);
  int64_t capture = issue.cycle + machine.skew;
  int64_t rows = instruction.word[0];
  for (int64_t row = 0; row < rows; ++row)
    if (!plane.latched[row])
      return hazardError(issue, queues, hazard::rowsMissing(row));
  int64_t underWay = 0;
  for (const auto &tile : plane.tiles)
    underWay += tile->ready > capture;
  if (underWay >= machine.weightBuffers - 1)
    return hazardError(issue, queues, hazard::installing(machine.weightBuffers - 1));
  // The buffer's memory becomes the tile's; the next load takes fresh memory.
  int64_t ready = capture + machine.install;
  plane.tiles.push_back(std::make_shared<Tile>(
      Tile{ready, static_cast<ProductType>(instruction.small[0]), rows, std::move(plane.buffer)}));
  plane.buffer.reset();
  plane.latched.assign(machine.rows, false);
  return ready;
}

llvm::Expected<int64_t> Matrix::activate(const Issue &issue, const Instruction &instruction, Streams &streams) {
  const QueueName &name = queues[issue.queue].name;
  Plane &plane = planeOf(name);
  auto type = static_cast<ProductType>(instruction.small[0]);
  bool f16 = type == ProductType::F16;
  int64_t capture = issue.cycle + machine.skew;
  if (f16 && name.index % machine.tandem != 0)
    return hazardError(issue, queues, hazard::oddPlane());
  const Tile *tile = tileAt(plane, capture);
  const Tile *second = f16 ? tileAt(planeOf(name, 1), capture) : nullptr;
  if (!tile || (f16 && !second))
    return hazardError(issue, queues, hazard::notInstalled());
  if ((tile->type == ProductType::F16) != f16 || (second && second->type != ProductType::F16))
    return hazardError(issue, queues, hazard::wrongTile());
  if (second && second->rows != tile->rows)
    return hazardError(issue, queues, hazard::tandemTiles());
  for (int64_t i = 0; i <= (f16 ? 1 : 0); ++i) {
    int64_t &last = planeOf(name, i).lastActivation;
    if (last == capture)
      return hazardError(issue, queues, hazard::planeBusy());
    last = capture;
  }
  const std::byte *activations[2] = {};
  for (int64_t i = 0; i <= (f16 ? 1 : 0); ++i) {
    auto from = streams.read(machine.outward(name.hemisphere), instruction.small[1] + i,
                             machine.matrixInputCoordinate(), capture, issue);
    if (!from)
      return from.takeError();
    activations[i] = *from;
  }
  multiplyCount += static_cast<double>(tile->rows) * static_cast<double>(f16 ? machine.f16Columns : machine.columns);
  Products products{capture + machine.multiply, f16, issue, {}};
  if (values && f16) {
    Plane &pair = planeOf(name, 1);
    if (plane.lowTile != plane.tiles.front() || plane.highTile != pair.tiles.front()) {
      plane.lowTile = plane.tiles.front();
      plane.highTile = pair.tiles.front();
      plane.f16 = makeF16Tile(tile->weights.get(), second->weights.get(), tile->rows, machine.f16Columns,
                              machine.vectorBytes());
    }
    products.sums.resize(machine.f16Columns);
    multiplyF16(plane.f16, activations[0], activations[1], products.sums.data());
  } else if (values) {
    products.sums.resize(machine.columns);
    multiplyInteger(type, activations[0], tile->type, tile->weights.get(), tile->rows, machine.columns,
                    machine.vectorBytes(), products.sums.data());
  }
  plane.products.push_back(std::move(products));
  return capture + machine.multiply;
}

void Matrix::add(std::vector<uint32_t> &to, const std::vector<uint32_t> &from, bool f16) {
  for (size_t i = 0; i < to.size(); ++i)
    if (f16)
      to[i] = std::bit_cast<uint32_t>(std::bit_cast<float>(to[i]) + std::bit_cast<float>(from[i]));
    else
      to[i] += from[i];
}

llvm::Expected<int64_t> Matrix::accumulate(const Issue &issue, const Instruction &instruction, Streams &streams) {
  const QueueName &name = queues[issue.queue].name;
  Plane &plane = planeOf(name);
  auto mode = static_cast<AccumulateMode>(instruction.small[0]);
  int64_t capture = issue.cycle + machine.skew;
  int64_t number = stepped(instruction, issue.iteration);
  if (number < 0 || number >= machine.accumulators)
    return hazardError(issue, queues, hazard::outOfRange("sum", number, machine.accumulators - 1));
  if (!plane.products.empty() && plane.products.front().arrival < capture)
    return hazardError(plane.products.front().by, queues, hazard::productsLost());
  if (plane.products.empty() || plane.products.front().arrival != capture)
    return hazardError(issue, queues, hazard::noProducts());
  Products products = std::move(plane.products.front());
  plane.products.pop_front();
  Sum &sum = plane.sums[number];

  if (mode == AccumulateMode::Start) {
    if (sum.started)
      return hazardError(issue, queues, hazard::sumOverwritten(number));
    sum = {true, products.f16, issue, std::move(products.sums)};
    return capture + 1;
  }
  int64_t emission = capture;
  std::vector<uint32_t> result = std::move(products.sums);
  if (mode != AccumulateMode::Pass) {
    if (!sum.started)
      return hazardError(issue, queues, hazard::sumNotStarted(number));
    if (sum.f16 != products.f16)
      return hazardError(issue, queues, hazard::sumType(number));
    add(sum.sums, result, sum.f16);
    if (mode == AccumulateMode::Add)
      return capture + 1;
    result = std::move(sum.sums);
    sum = {};
    emission += machine.accumulate;
  }
  // Four byte planes, the least significant on the first stream. Lanes beyond the columns carry zero.
  for (int64_t i = 0; i < 4; ++i) {
    auto to = streams.drive(machine.inward(name.hemisphere), machine.resultStream(name.index) + i,
                            machine.matrixOutputCoordinate(), emission, issue);
    if (!to)
      return to.takeError();
    if (!values)
      continue;
    std::memset(*to, 0, machine.vectorBytes());
    for (size_t column = 0; column < result.size(); ++column)
      (*to)[column] = static_cast<std::byte>(result[column] >> (8 * i));
  }
  return emission + 1;
}

llvm::Error Matrix::finish() const {
  for (const Plane &plane : planes) {
    if (!plane.products.empty())
      return hazardError(plane.products.front().by, queues, hazard::productsLost());
    for (size_t number = 0; number < plane.sums.size(); ++number)
      if (plane.sums[number].started)
        return hazardError(plane.sums[number].by, queues, hazard::sumNotFinished(static_cast<int64_t>(number)));
  }
  return llvm::Error::success();
}

} // namespace quadrille::tsp
