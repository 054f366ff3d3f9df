#include "target/ipu/Simulate.h"

#include "target/ipu/Check.h"
#include "target/ipu/Placements.h"
#include "target/ipu/Record.h"
#include "target/ipu/Steps.h"
#include "target/ipu/TileMemory.h"
#include "target/ipu/Vertices.h"

#include "base/Error.h"
#include "base/Parallel.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

#include <cstring>

namespace quadrille::ipu {

namespace {

using program::VariableRole;

// Tiles that one host thread executes at a time.
constexpr int64_t tilesTogether = 8;

class Execution {
public:
  Execution(const program::Program &program, const Loaded &loaded, size_t entry, const target::NamedTensors *inputs,
            const CycleModel &cycles)
      : program(program), code(loaded.code), machine(loaded.machine), entryPoint(program.entryPoints[entry]),
        entry(entry), inputs(inputs), steps(code, entry, machine, cycles, program.chips) {}

  llvm::Expected<target::RunResult> run(const target::RunOptions &options) {
    if (inputs) {
      auto made = TileMemory::make(program.chips * machine.tiles, machine.memoryBytes);
      if (!made)
        return made.takeError();
      memory.emplace(std::move(*made));
      if (llvm::Error error = load())
        return error;
      prepare();
    }
    Recorder recorder(program, code, entry, machine, steps);
    auto total = static_cast<double>(code.entries[entry].size());
    double done = 0;
    auto execute = [&](const Step &step) -> llvm::Error {
      if (options.progress && !options.progress(std::min(1.0, done++ / total)))
        return userError("the run was interrupted");
      if (!inputs)
        return llvm::Error::success();
      if (step.kind == StepKind::Execute)
        compute(step.index);
      else if (step.kind == StepKind::Exchange)
        exchange(code.exchanges[step.index]);
      return llvm::Error::success();
    };
    if (llvm::Error error = steps.run(execute, [&](const StepTime &time) { recorder.add(time); },
                                      [&](const Path &path) { recorder.add(path); }))
      return std::move(error);
    target::RunResult result;
    if (inputs)
      store(result.outputs);
    result.timeline = recorder.finish();
    return result;
  }

private:
  llvm::Error load() {
    for (const Placement &placement : code.placements) {
      const program::Variable &variable = program.variables[placement.variable];
      bool taken = llvm::is_contained(entryPoint.inputs, placement.variable);
      if (variable.role == VariableRole::Output || (variable.role == VariableRole::Input && !taken))
        continue;
      auto data = taken ? contentsOf(placement.variable) : program.dataOf(placement.variable);
      if (!data)
        return data.takeError();
      auto held = narrowed(*data, placement, variable);
      if (!held)
        return held.takeError();
      auto width = static_cast<int64_t>(byteWidth(placement.type));
      const std::byte *bytes = held->bytes().data();
      if (llvm::Error error = checkHeld(*data, placement, variable))
        return error;
      for (const Part &part : placement.parts)
        forEachRun(part, variable.shape, [&](const ElementRun &run) {
          std::byte *to = memory->of(run.tile) + run.address;
          for (int64_t i = 0; i < run.count; ++i, to += run.tileStride)
            if (run.index < 0)
              std::memset(to, 0, static_cast<size_t>(width));
            else
              std::memcpy(to, bytes + (run.index + i * run.hostStride) * width, static_cast<size_t>(width));
        });
    }
    return llvm::Error::success();
  }

  // In the type that the tiles hold.
  llvm::Expected<Tensor> narrowed(const Tensor &data, const Placement &placement, const program::Variable &variable) {
    if (placement.type == variable.type)
      return data;
    if (isBits(placement.type, variable.type))
      return Tensor::borrow(placement.type, data.shape(), data.bytes(), std::make_shared<Tensor>(data));
    return convert(data, placement.type);
  }

  // Of 64-bit integers, those that lie on tiles must be of 32 bits.
  llvm::Error checkHeld(const Tensor &data, const Placement &placement, const program::Variable &variable) {
    bool isSigned = variable.type == ElementType::i64;
    if (placement.type == variable.type || (!isSigned && variable.type != ElementType::u64))
      return llvm::Error::success();
    std::vector<int64_t> values = valuesOf<int64_t>(data); // of u64 the bits
    std::optional<int64_t> wrong;
    for (const Part &part : placement.parts)
      forEachRun(part, variable.shape, [&](const ElementRun &run) {
        for (int64_t i = 0; run.index >= 0 && i < run.count && !wrong; ++i)
          if (int64_t value = values[static_cast<size_t>(run.index + i * run.hostStride)];
              isSigned ? value != static_cast<int32_t>(value) : value != static_cast<uint32_t>(value))
            wrong = value;
      });
    if (!wrong)
      return llvm::Error::success();
    return userError("'" + variable.name + "' has the value " +
                         (isSigned ? std::to_string(*wrong) : std::to_string(static_cast<uint64_t>(*wrong))) +
                         ", beyond the 32 bits in which the machine holds " + nameOf(variable.type).str(),
                     {}, "the value must lie within 32 bits");
  }

  llvm::Expected<Tensor> contentsOf(uint32_t index) {
    const program::Variable &variable = program.variables[index];
    auto given = inputs->find(variable.name);
    if (given == inputs->end()) {
      if (variable.role == VariableRole::State && program.hasData(index))
        return program.dataOf(index);
      return userError("input '" + variable.name + "' is missing", {},
                       "give it as " + describe(variable.type, variable.shape));
    }
    const Tensor &tensor = given->second;
    if (!tensor.valid() || tensor.type() != variable.type || tensor.shape() != variable.shape)
      return userError("input '" + variable.name + "' is " + describe(tensor.type(), tensor.shape()), {},
                       "give it as " + describe(variable.type, variable.shape));
    return tensor;
  }

  void store(target::NamedTensors &outputs) {
    for (const Placement &placement : code.placements) {
      const program::Variable &variable = program.variables[placement.variable];
      if (!llvm::is_contained(entryPoint.outputs, placement.variable))
        continue;
      Tensor held = Tensor::zeros(placement.type, variable.shape);
      auto width = static_cast<int64_t>(byteWidth(placement.type));
      std::byte *bytes = held.mutableBytes();
      for (const Part &part : placement.parts)
        forEachRun(part, variable.shape, [&](const ElementRun &run) {
          const std::byte *from = memory->of(run.tile) + run.address;
          for (int64_t i = 0; run.index >= 0 && i < run.count; ++i, from += run.tileStride)
            std::memcpy(bytes + (run.index + i * run.hostStride) * width, from, static_cast<size_t>(width));
        });
      outputs[variable.name] =
          isBits(placement.type, variable.type)
              ? Tensor::borrow(variable.type, held.shape(), held.bytes(), std::make_shared<Tensor>(held))
              : convert(held, variable.type);
    }
  }

  struct Prepared {
    std::vector<std::unique_ptr<VertexFunction>> functions;
    std::vector<std::pair<uint32_t, std::vector<uint32_t>>> byTile; // tile, and its vertices in order
  };

  void prepare() {
    for (const ComputeSet &set : code.computeSets) {
      Prepared &to = prepared.emplace_back();
      std::map<uint32_t, std::vector<uint32_t>> byTile;
      for (auto [i, vertex] : llvm::enumerate(set.vertices)) {
        to.functions.push_back(VertexFunction::make(vertex, code.expressions));
        forEachTile(vertex.tiles, [&](uint32_t tile) { byTile[tile].push_back(static_cast<uint32_t>(i)); });
      }
      to.byTile.assign(std::make_move_iterator(byTile.begin()), std::make_move_iterator(byTile.end()));
    }
  }

  void compute(uint32_t set) {
    const Prepared &here = prepared[set];
    parallelFor(static_cast<int64_t>(here.byTile.size()), tilesTogether, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        for (const auto &[tile, vertices] = here.byTile[static_cast<size_t>(i)]; uint32_t vertex : vertices)
          here.functions[vertex]->execute(memory->of(tile));
    });
  }

  void exchange(const Exchange &exchange) {
    for (const Transfer &each : exchange.transfers) {
      const std::byte *from = memory->of(each.source) + each.sourceAddress;
      forEachTile(each.destinations, [&](uint32_t tile) {
        std::byte *to = memory->of(tile) + each.destinationAddress;
        for (int64_t row = 0; row < each.rows; ++row)
          std::memcpy(to + row * each.destinationStride, from + row * each.sourceStride, each.bytes);
      });
    }
  }

  const program::Program &program;
  const Code &code;
  const Architecture &machine;
  const program::EntryPoint &entryPoint;
  size_t entry;
  const target::NamedTensors *inputs;
  Steps steps;
  std::optional<TileMemory> memory;
  std::vector<Prepared> prepared; // by compute set
};

} // namespace

llvm::Expected<target::RunResult> execute(const program::Program &program, const target::NamedTensors *inputs,
                                          const target::RunOptions &options) {
  auto loaded = Loaded::from(program);
  if (!loaded)
    return loaded.takeError();
  auto findings = wellFormed(program, loaded->code, loaded->machine);
  if (!findings.empty())
    return userError(findings.front().message, {"", findings.front().where});
  auto machine = machine::Machine::parse(program.machine, "the program's machine");
  if (!machine)
    return machine.takeError();
  CycleModel cycles(*machine);
  std::vector<std::string> names;
  for (auto [entry, each] : llvm::enumerate(program.entryPoints)) {
    if (each.name == options.entryPoint)
      return Execution(program, *loaded, entry, inputs, cycles).run(options);
    names.push_back(each.name);
  }
  return userError("the program has no entry point '" + options.entryPoint + "'", {},
                   "choose one of: " + llvm::join(names, ", "));
}

} // namespace quadrille::ipu
