#include "target/tsp/Simulate.h"

#include "target/tsp/Dispatch.h"
#include "target/tsp/Matrix.h"
#include "target/tsp/Memory.h"
#include "target/tsp/WellFormed.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

#include <cstring>

namespace quadrille::tsp {

namespace {

using program::VariableRole;

// Tracks and spans: one track per unit, with one below it for each queue; one span for an instruction with its Repeat.
class Recorder {
public:
  Recorder(const program::Program &program, const Architecture &machine, llvm::ArrayRef<Queue> queues)
      : program(program), queues(queues), open(queues.size(), ~size_t(0)) {
    timeline.machine = machine.machineName;
    timeline.model = program.model ? program.model->path : "";
    timeline.clockHertz = machine.clockHertz;
    timeline.assumedFigures = machine.assumedFigures;
    std::map<std::string, timeline::TrackId> units;
    for (const Queue &queue : queues) {
      std::string name = print(queue.name);
      std::string unit = llvm::StringRef(name).rsplit(' ').first.str();
      auto [position, fresh] = units.try_emplace(unit);
      if (fresh)
        position->second = timeline.addTrack(unit);
      tracks.push_back(timeline.addTrack(name, position->second));
      kernels.emplace_back(queue.instructions.size(), timeline::noKernel);
      for (const Origin &origin : queue.origins)
        for (uint32_t i = 0; i < origin.count; ++i)
          kernels.back()[origin.first + i] = kernelOf(origin.node);
    }
  }

  void wait(uint32_t queue, int64_t begin, int64_t end) {
    timeline.spans.push_back(
        {tracks[queue], Cycles(begin), Cycles(end), timeline::Category::Sync, timeline::noKernel, "sync"});
  }
  void issue(const Issue &issue, const Instruction &instruction) {
    if (issue.iteration > 0) {
      timeline.spans[open[issue.queue]].end = Cycles(issue.cycle + 1);
      return;
    }
    open[issue.queue] = timeline.spans.size();
    bool computes = instruction.op() == Opcode::Activate || instruction.op() == Opcode::Accumulate;
    timeline.spans.push_back({tracks[issue.queue], Cycles(issue.cycle), Cycles(issue.cycle + 1),
                              computes ? timeline::Category::Compute : timeline::Category::Memory,
                              kernels[issue.queue][issue.instruction], print(instruction)});
  }
  void work(const Issue &issue, double flops, double bytes) {
    timeline::KernelId kernel = kernels[issue.queue][issue.instruction];
    if (kernel == timeline::noKernel)
      return;
    timeline.kernels[kernel].flops += flops;
    timeline.kernels[kernel].bytes += bytes;
  }

  timeline::Timeline timeline;

private:
  timeline::KernelId kernelOf(uint32_t node) {
    auto [position, fresh] = byNode.try_emplace(node, static_cast<timeline::KernelId>(timeline.kernels.size()));
    if (fresh) {
      const program::Node &from = program.nodes[node];
      timeline.kernels.push_back({from.name, from.operation, "", {from.name}, 0, 0});
    }
    return position->second;
  }

  const program::Program &program;
  llvm::ArrayRef<Queue> queues;
  std::vector<timeline::TrackId> tracks;
  std::vector<std::vector<timeline::KernelId>> kernels; // by queue and instruction
  std::map<uint32_t, timeline::KernelId> byNode;
  std::vector<size_t> open; // span of the queue's last instruction
};

class Execution {
public:
  Execution(const program::Program &program, const Loaded &loaded, size_t entry, const target::NamedTensors *inputs)
      : program(program), code(loaded.code), machine(loaded.machine), entryPoint(program.entryPoints[entry]),
        inputs(inputs), queues(loaded.code.entries[entry].chips[0].queues), streams(machine, queues, inputs != nullptr),
        memory(machine, queues, inputs != nullptr), matrix(machine, queues, inputs != nullptr),
        recorder(program, machine, queues) {}

  llvm::Expected<target::RunResult> run(const target::RunOptions &options) {
    if (llvm::Error error = load())
      return error;
    auto onWait = [&](uint32_t queue, int64_t begin, int64_t end) { recorder.wait(queue, begin, end); };
    Dispatcher dispatcher(queues, machine, onWait);
    if (llvm::Error error = dispatcher.start())
      return error;
    double total = static_cast<double>(issueCount(queues));
    int64_t done = 0, last = 0;
    while (true) {
      auto issue = dispatcher.next();
      if (!issue)
        return issue.takeError();
      if (!*issue)
        break;
      auto end = executeOne(**issue);
      if (!end)
        return end.takeError();
      last = std::max(last, *end);
      ++done;
      if (done % 65536 == 0 && options.progress && !options.progress(static_cast<double>(done) / total))
        return userError("the run was interrupted");
    }
    if (llvm::Error error = matrix.finish())
      return error;
    memory.settle();
    // Superlane k does everything k skews later: completion at superlane 0, and once through all superlanes.
    recorder.timeline.cycles = Cycles(done == 0 ? 0 : last + machine.superlanes * machine.superlaneSkew);
    target::RunResult result;
    if (llvm::Error error = store(result.outputs))
      return error;
    result.timeline = std::move(recorder.timeline);
    return result;
  }

private:
  llvm::Expected<int64_t> executeOne(const Issue &issue) {
    const Instruction &instruction = queues[issue.queue].instructions[issue.instruction];
    recorder.issue(issue, instruction);
    auto vector = static_cast<double>(machine.vectorBytes());
    switch (instruction.op()) {
    case Opcode::Read:
      recorder.work(issue, 0, vector);
      return memory.read(issue, instruction, streams);
    case Opcode::Write:
      recorder.work(issue, 0, vector);
      return memory.write(issue, instruction, streams);
    case Opcode::LoadWeights:
      return matrix.loadWeights(issue, instruction, streams);
    case Opcode::InstallWeights:
      return matrix.installWeights(issue, instruction);
    case Opcode::Activate: {
      double before = matrix.multiplies();
      auto end = matrix.activate(issue, instruction, streams);
      recorder.work(issue, 2 * (matrix.multiplies() - before), 0);
      return end;
    }
    case Opcode::Accumulate:
      return matrix.accumulate(issue, instruction, streams);
    case Opcode::Nop:
    case Opcode::Repeat:
    case Opcode::Sync:
    case Opcode::Notify:
      break;
    }
    return internalError("the dispatcher issued a control instruction");
  }

  // Puts weights, states and the entry's inputs into the memory.
  llvm::Error load() {
    for (const Layout &layout : code.layouts) {
      const program::Variable &variable = program.variables[layout.variable];
      bool taken = llvm::is_contained(entryPoint.inputs, layout.variable);
      if (variable.role == VariableRole::Output || (variable.role == VariableRole::Input && !taken))
        continue;
      Tensor data;
      if (inputs) {
        auto found = taken ? contentsOf(layout.variable) : program.dataOf(layout.variable);
        if (!found)
          return found.takeError();
        data = *found;
      }
      std::string failure;
      forEachWord(layout, variable, machine, [&](const WordAddress &word, LaneContents lanes) {
        std::byte *to = nullptr;
        if (!memory.place(word, to) && failure.empty())
          failure = overlapMessage(variable.name, word);
        if (to)
          for (int64_t lane = 0; lane < machine.vectorBytes(); ++lane)
            to[lane] = lanes[lane] < 0 ? std::byte(0) : data.bytes()[lanes[lane]];
      });
      if (!failure.empty())
        return userError(failure);
    }
    return llvm::Error::success();
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

  llvm::Error store(target::NamedTensors &outputs) {
    for (uint32_t index : entryPoint.outputs) {
      const program::Variable &variable = program.variables[index];
      for (const Layout &layout : code.layouts) {
        if (layout.variable != index)
          continue;
        Tensor tensor = inputs ? Tensor::zeros(variable.type, variable.shape) : Tensor();
        std::string failure;
        forEachWord(layout, variable, machine, [&](const WordAddress &word, LaneContents lanes) {
          const std::byte *from = nullptr;
          bool wanted = llvm::any_of(lanes, [](int64_t contents) { return contents >= 0; });
          if (!memory.holds(word, from) && wanted) {
            if (failure.empty())
              failure = hazard::outputNeverWritten(variable.name, print(word));
          } else if (from && wanted)
            for (int64_t lane = 0; lane < machine.vectorBytes(); ++lane)
              if (lanes[lane] >= 0)
                tensor.mutableBytes()[lanes[lane]] = from[lane];
        });
        if (!failure.empty())
          return userError(failure);
        if (inputs)
          outputs[variable.name] = tensor;
        break;
      }
    }
    return llvm::Error::success();
  }

  const program::Program &program;
  const Code &code;
  const Architecture &machine;
  const program::EntryPoint &entryPoint;
  const target::NamedTensors *inputs;
  const std::vector<Queue> &queues;
  Streams streams;
  Memory memory;
  Matrix matrix;
  Recorder recorder;
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
  for (size_t entry = 0; entry < program.entryPoints.size(); ++entry)
    if (program.entryPoints[entry].name == options.entryPoint)
      return Execution(program, *loaded, entry, inputs).run(options);
  std::vector<std::string> names;
  names.reserve(program.entryPoints.size());
  for (const auto &entry : program.entryPoints)
    names.push_back(entry.name);
  return userError("the program has no entry point '" + options.entryPoint + "'", {},
                   "choose one of: " + llvm::join(names, ", "));
}

} // namespace quadrille::tsp
