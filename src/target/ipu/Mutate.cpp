#include "target/ipu/Mutate.h"

#include "target/ipu/Code.h"
#include "target/ipu/Influence.h"

#include "base/Error.h"
#include "target/MutationValues.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"

#include <functional>
#include <limits>
#include <memory>

namespace quadrille::ipu {

namespace {

// One thing that can be changed.
struct Site {
  std::string where, field;
  int64_t value = 0, lowest = 0, highest = 0;
  std::function<void(int64_t)> set;
};

// Walks over all sites; keeps the one with the number that is wanted.
class Walk {
public:
  explicit Walk(uint64_t wanted) : wanted(wanted) {}

  void code(Code &code, int64_t tiles, int64_t memoryBytes) {
    for (auto [i, set] : llvm::enumerate(code.computeSets))
      for (auto [k, vertex] : llvm::enumerate(set.vertices))
        this->vertex(
            vertex,
            [&, i = i, k = k] {
              return "compute set " + std::to_string(i) + " '" + set.name + "', vertex " + std::to_string(k);
            },
            tiles, memoryBytes);
    for (auto [i, exchange] : llvm::enumerate(code.exchanges))
      for (auto [k, transfer] : llvm::enumerate(exchange.transfers)) {
        auto where = [&, i = i, k = k] {
          return "exchange " + std::to_string(i) + " '" + exchange.name + "', transfer " + std::to_string(k);
        };
        number(transfer.source, "source", 0, tiles - 1, where);
        number(transfer.destinations.first, "first destination", 0, tiles - 1, where);
        number(transfer.destinations.count, "count of destinations", 1, tiles, where);
        number(transfer.sourceAddress, "source address", 0, memoryBytes - 1, where);
        number(transfer.destinationAddress, "destination address", 0, memoryBytes - 1, where);
        number(transfer.rows, "rows", 1, 64, where);
        number(transfer.bytes, "bytes", 4, 4096, where);
        number(transfer.sourceStride, "source stride", -4096, 4096, where);
        number(transfer.destinationStride, "destination stride", -4096, 4096, where);
      }
    for (auto [i, steps] : llvm::enumerate(code.entries))
      for (auto [k, step] : llvm::enumerate(steps)) {
        constexpr size_t mostTurns = 64;
        size_t most = step.kind == StepKind::Execute  ? code.computeSets.size()
                      : step.kind == StepKind::Repeat ? mostTurns
                                                      : code.exchanges.size();
        number(step.index, "index", 0, static_cast<int64_t>(most) - 1,
               [&, i = i, k = k] { return "entry point " + std::to_string(i) + ", step " + std::to_string(k); });
      }
    for (auto [i, placement] : llvm::enumerate(code.placements))
      for (auto [k, part] : llvm::enumerate(placement.parts)) {
        auto where = [i = i, k = k] { return "placement " + std::to_string(i) + ", part " + std::to_string(k); };
        number(part.address, "address", 0, memoryBytes - 1, where);
        for (int64_t &begin : part.begin)
          number(begin, "begin", 0, 64, where);
        for (Digit &digit : part.digits)
          number(digit.stride, "stride", 0, 4096, where);
      }
  }

  uint64_t count() const { return seen; }
  std::optional<Site> site;

private:
  template <typename Where> void vertex(Vertex &vertex, Where &&where, int64_t tiles, int64_t memoryBytes) {
    for (TileRange &range : vertex.tiles) {
      number(range.first, "first tile", 0, tiles - 1, where);
      number(range.count, "tiles", 1, tiles, where);
    }
    const Form *form = formOf(vertex.codelet);
    for (size_t p = 0; form && p < std::min(vertex.values.size(), form->parameters.size()); ++p) {
      const Parameter &parameter = form->parameters[p];
      bool address = parameter.kind == ParameterKind::Address || parameter.kind == ParameterKind::Addresses;
      constexpr int64_t most = 4096;
      for (int64_t &value : vertex.values[p])
        number(value, parameter.name, std::max(parameter.minimum, -most),
               address ? memoryBytes - 1 : std::min(parameter.maximum, most), where);
    }
  }
  template <typename T, typename Where>
  void number(T &value, llvm::StringRef field, int64_t lowest, int64_t highest, Where &&where) {
    if (seen++ != wanted)
      return;
    site = Site{where(),
                field.str(),
                static_cast<int64_t>(value),
                lowest,
                std::max(lowest, highest),
                [&value](int64_t changed) { value = static_cast<T>(changed); }};
  }

  uint64_t wanted, seen = 0;
};

class MutationsOfProgram final : public target::Mutations {
public:
  MutationsOfProgram(const program::Program &program, Loaded decoded)
      : program(program), loaded(std::move(decoded)), fields(countOf()) {}
  bool empty() const { return fields == 0; }

  llvm::Expected<target::Mutation> make(uint64_t seed) override {
    target::Random random(seed);
    Walk one(random.below(fields));
    one.code(loaded.code, tiles(), loaded.machine.memoryBytes);
    const Site &site = *one.site;
    int64_t changed = std::clamp<int64_t>(target::another(random, site.value, site.lowest, site.highest),
                                          std::numeric_limits<int32_t>::min(), std::numeric_limits<uint32_t>::max());
    target::Mutation mutation;
    mutation.description =
        site.where + ": " + site.field + " " + std::to_string(site.value) + " -> " + std::to_string(changed);
    mutation.program = program;
    site.set(changed);
    mutation.program.setPayload(loaded.code.encode());
    site.set(site.value);
    return mutation;
  }

  void prove(target::Mutation &mutation) override {
    auto mutated = Loaded::from(mutation.program);
    if (!mutated) {
      llvm::consumeError(mutated.takeError()); // not legal: nothing is proven
      return;
    }
    if (!equalOutputs(program, loaded.code, mutated->code, loaded.machine))
      return;
    mutation.effect = target::MutationEffect::Benign;
    mutation.reason = "nothing that is done differently reaches an output";
  }

private:
  int64_t tiles() const { return program.chips * loaded.machine.tiles; }
  uint64_t countOf() {
    Walk all(std::numeric_limits<uint64_t>::max());
    all.code(loaded.code, tiles(), loaded.machine.memoryBytes);
    return all.count();
  }

  const program::Program &program;
  Loaded loaded;
  uint64_t fields;
};

} // namespace

llvm::Expected<std::unique_ptr<target::Mutations>> mutations(const program::Program &program) {
  auto loaded = Loaded::from(program);
  if (!loaded)
    return loaded.takeError();
  auto result = std::make_unique<MutationsOfProgram>(program, std::move(*loaded));
  if (result->empty())
    return userError("the program has no field that can be changed");
  return result;
}

llvm::Expected<target::Mutation> mutate(const program::Program &program, uint64_t seed) {
  auto all = mutations(program);
  if (!all)
    return all.takeError();
  return (*all)->make(seed);
}

} // namespace quadrille::ipu
