#include "target/tsp/Simulate.h"

#include "target/tsp/Matrix.h"
#include "target/tsp/Memory.h"
#include "target/tsp/Record.h"
#include "target/tsp/StreamUnits.h"
#include "target/tsp/WellFormed.h"

#include "base/Error.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

namespace quadrille::tsp {

namespace {

using program::VariableRole;

// How many bursts may wait for their execution, and how many bytes they may make: the more, the longer the runs that
// are executed together, and the more memory is taken.
constexpr int64_t burstsTogether = 1024, bytesTogether = int64_t(64) << 20;

// The first 64-bit value that its low 32 bits do not hold.
std::optional<std::string> beyond32Bits(const Tensor &tensor) {
  if (tensor.type() == ElementType::i64) {
    for (int64_t value : valuesOf<int64_t>(tensor))
      if (value != static_cast<int32_t>(value))
        return std::to_string(value);
  } else {
    for (int64_t value : valuesOf<int64_t>(tensor)) // the bits of u64
      if (value != static_cast<uint32_t>(value))
        return std::to_string(static_cast<uint64_t>(value));
  }
  return std::nullopt;
}

// The upper halves of elements of which the lower ones are there.
void extendSigns(Tensor &tensor) {
  if (tensor.type() != ElementType::i64)
    return; // the upper half of an unsigned value is zero
  auto *values = tensor.mutableData<int64_t>();
  for (int64_t i = 0; i < tensor.elements(); ++i)
    values[i] = static_cast<int32_t>(values[i]);
}

class Execution {
public:
  Execution(const program::Program &program, const Loaded &loaded, size_t entry, const target::NamedTensors *inputs,
            bool oneByOne)
      : program(program), code(loaded.code), machine(loaded.machine), entryPoint(program.entryPoints[entry]),
        inputs(inputs), oneByOne(oneByOne), queues(loaded.code.entries[entry]), channels(machine, queues.chipCount()),
        occupancy(machine, queues.chipCount()), recorder(program, code.layouts, machine, queues, occupancy),
        context{machine, queues, channels, recorder, pool, inputs != nullptr},
        memory(context, queues.chipCount(), occupancy), matrix(context, queues.chipCount()), units(context) {}

  llvm::Expected<target::RunResult> run(const target::RunOptions &options) {
    if (llvm::Error error = load())
      return error;
    auto onWait = [&](uint32_t queue, int64_t begin, int64_t end) { recorder.wait(queue, begin, end); };
    Dispatcher dispatcher(queues, machine, oneByOne ? 1 : longestBurst(), onWait);
    double total = static_cast<double>(issueCount(queues));
    int64_t done = 0, last = 0, waiting = 0, waitingBytes = 0;
    while (true) {
      auto burst = dispatcher.next();
      if (!burst)
        return burst.takeError();
      if (!*burst)
        break;
      context.known = context.complete = (*burst)->cycles.first;
      if (waiting >= burstsTogether || waitingBytes >= bytesTogether) {
        if (llvm::Error error = advance())
          return error;
        waiting = waitingBytes = 0;
        if (options.progress && !options.progress(static_cast<double>(done) / total))
          return userError("the run was interrupted");
      }
      auto work = workOf(**burst);
      last = std::max(last, work->cycle(work->count() - 1) + work->effects.completion);
      done += work->count();
      ++waiting;
      waitingBytes += work->count() * work->effects.parts * machine.vectorBytes();
      if (llvm::Error error = begin(work))
        return error;
    }
    context.known = context.complete = std::numeric_limits<int64_t>::max();
    if (llvm::Error error = advance())
      return error;
    auto products = matrix.leftOver(), vector = channels.leftOver();
    if (auto &first = products && vector && precedes(vector->issue, products->issue, queues) ? vector
                      : products                                                             ? products
                                                                                             : vector)
      return hazardError(first->issue, queues, first->message);
    memory.settle();
    // Superlane k does everything k skews later: completion at superlane 0, and once through all superlanes.
    int64_t cycles = done == 0 ? 0 : last + machine.superlanes * machine.superlaneSkew;
    target::RunResult result;
    if (llvm::Error error = store(result.outputs, cycles))
      return error;
    occupancy.finish(cycles);
    result.timeline = recorder.finish(cycles, entryPoint);
    return result;
  }

private:
  // A burst is kept whole until nobody can meet its last vector: one of each queue is about what may wait. Shorter ones
  // would cost more time than they save memory.
  int64_t longestBurst() const {
    auto all = static_cast<int64_t>(queues.size()) * machine.vectorBytes();
    return std::max<int64_t>(64, bytesTogether / std::max<int64_t>(all, 1));
  }

  std::shared_ptr<Work> workOf(const Burst &burst) const {
    auto work = std::make_shared<Work>();
    const Queue &queue = queues[burst.queue];
    work->burst = burst;
    work->instruction = &queue.instructions[burst.instruction];
    work->queue = &queue.name;
    work->chip = queues.chipOf(burst.queue);
    work->effects = effectsOf(work->chip, queue.name, *work->instruction, machine);
    return work;
  }

  // Makes a burst known. One by one, everything it depends on has been executed, and it is executed at once.
  llvm::Error begin(const std::shared_ptr<Work> &work) {
    recorder.begin(*work);
    switch (work->queue->unit) {
    case UnitKind::Memory:
      memory.add(work);
      break;
    case UnitKind::Matrix:
      matrix.add(work);
      break;
    case UnitKind::Vector:
    case UnitKind::Switch:
      if (llvm::Error error = units.add(work))
        return error;
      break;
    case UnitKind::Any:
      break;
    }
    if (oneByOne) {
      ++context.known; // others of this cycle are to come
      if (llvm::Error error = advance())
        return error;
    }
    return channels.add(work, queues);
  }

  // Executes all issues before the cycle that is known, part by part as far as each has its operands, until none goes
  // on: the earliest that is left always can.
  llvm::Error advance() {
    for (bool progress = true; progress;) {
      progress = false;
      for (auto step : {+[](Execution &e) { return e.memory.step(); }, +[](Execution &e) { return e.units.step(); },
                        +[](Execution &e) { return e.matrix.step(); }}) {
        auto stepped = step(*this);
        if (!stepped)
          return stepped.takeError();
        progress |= *stepped;
      }
    }
    // What is past is still in the way of every search, and must itself be searched for: one by one, not every time.
    if (!oneByOne || context.complete - lastDrop >= machine.farthest()) {
      channels.drop(context.complete);
      units.drop(context.complete);
      lastDrop = context.complete;
    }
    return llvm::Error::success();
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
        if (isNarrowed(layout, variable))
          if (auto misfit = beyond32Bits(data))
            return userError("'" + variable.name + "' has the value " + *misfit +
                                 ", beyond the 32 bits in which the machine holds " + nameOf(variable.type).str(),
                             {}, "the value must lie within 32 bits");
      }
      const std::byte *bytes = inputs ? data.bytes().data() : nullptr;
      std::string failure;
      forEachWord(layout, variable, machine, [&](const WordAddress &word, const WordContents &contents) {
        std::byte *to = nullptr;
        if (!memory.place(layout.chip, word, to) && failure.empty())
          failure = overlapMessage(variable.name, word);
        occupancy.place(layout.chip, word.slice, word.bank, word.address);
        if (to)
          contents.load(bytes, to);
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

  llvm::Error store(target::NamedTensors &outputs, int64_t cycles) {
    std::vector<std::vector<const Layout *>> layoutsOf(program.variables.size());
    for (const Layout &layout : code.layouts)
      layoutsOf[layout.variable].push_back(&layout);
    for (uint32_t index : entryPoint.outputs) {
      const program::Variable &variable = program.variables[index];
      Tensor tensor = inputs ? Tensor::zeros(variable.type, variable.shape) : Tensor();
      std::byte *bytes = inputs ? tensor.mutableBytes() : nullptr;
      bool narrowed = false;
      std::string failure;
      for (const Layout *part : layoutsOf[index]) {
        const Layout &layout = *part;
        forEachWord(layout, variable, machine, [&](const WordAddress &word, const WordContents &contents) {
          const std::byte *from = nullptr;
          if (contents.empty)
            return;
          if (!memory.holds(layout.chip, word, from)) {
            if (failure.empty())
              failure = hazard::outputNeverWritten(variable.name, print(word));
          } else if (from) {
            contents.store(from, bytes);
          }
          occupancy.keep(layout.chip, word.slice, word.bank, word.address, cycles);
        });
        if (!failure.empty())
          return userError(failure);
        narrowed |= isNarrowed(layout, variable);
      }
      if (inputs && narrowed)
        extendSigns(tensor);
      if (inputs)
        outputs[variable.name] = tensor;
    }
    return llvm::Error::success();
  }

  const program::Program &program;
  const Code &code;
  const Architecture &machine;
  const program::EntryPoint &entryPoint;
  const target::NamedTensors *inputs;
  bool oneByOne;
  int64_t lastDrop = 0;
  Queues queues;
  VectorPool pool; // outlives all that channels and units hold
  Channels channels;
  Occupancy occupancy;
  Recorder recorder;
  Context context;
  Memory memory;
  Matrix matrix;
  StreamUnits units;
};

} // namespace

llvm::Expected<target::RunResult> execute(const program::Program &program, const target::NamedTensors *inputs,
                                          const target::RunOptions &options, bool oneByOne) {
  auto loaded = Loaded::from(program);
  if (!loaded)
    return loaded.takeError();
  auto findings = wellFormed(program, loaded->code, loaded->machine);
  if (!findings.empty())
    return userError(findings.front().message, {"", findings.front().where});
  for (size_t entry = 0; entry < program.entryPoints.size(); ++entry)
    if (program.entryPoints[entry].name == options.entryPoint) {
      auto result = Execution(program, *loaded, entry, inputs, oneByOne).run(options);
      if (result || oneByOne)
        return result;
      // Bursts are not met in the order of their issues. Which error comes first, only all issues one by one can say.
      std::string message = report(result.takeError()).message;
      auto exact = Execution(program, *loaded, entry, inputs, true).run(options);
      if (exact)
        return internalError("executed in bursts the program fails, one by one it does not: " + message);
      return exact;
    }
  std::vector<std::string> names;
  names.reserve(program.entryPoints.size());
  for (const auto &entry : program.entryPoints)
    names.push_back(entry.name);
  return userError("the program has no entry point '" + options.entryPoint + "'", {},
                   "choose one of: " + llvm::join(names, ", "));
}

} // namespace quadrille::tsp
