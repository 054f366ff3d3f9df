#include "driver/Compilation.h"

#include "base/Error.h"
#include "base/File.h"
#include "driver/Inputs.h"
#include "driver/Progress.h"
#include "target/host/Evaluate.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/xxhash.h"

#include <chrono>

namespace quadrille::driver {

static double secondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

static uint64_t hashOf(const MappedFile &file) {
  return llvm::xxh3_64bits(llvm::ArrayRef(reinterpret_cast<const uint8_t *>(file.bytes().data()), file.bytes().size()));
}

// A scalar literal ("16000", "0.5", "true") or a file with one array.
static llvm::Expected<Tensor> parseBinding(llvm::StringRef name, llvm::StringRef value) {
  int64_t integer;
  double real;
  if (!value.getAsInteger(10, integer))
    return Tensor::of<int64_t>(ElementType::i64, {}, {integer});
  if (value == "true" || value == "false")
    return Tensor::of<uint8_t>(ElementType::boolean, {}, {static_cast<uint8_t>(value == "true")});
  if (!value.getAsDouble(real))
    return Tensor::of<float>(ElementType::f32, {}, {static_cast<float>(real)});
  auto tensors = readTensorFile(value);
  if (!tensors)
    return tensors.takeError();
  if (auto it = tensors->find(name.str()); it != tensors->end())
    return it->second;
  if (tensors->size() != 1)
    return userError("--bind " + name + ": the file has no array of that name", {value.str(), ""});
  return tensors->begin()->second;
}

llvm::Expected<graph::ImportOptions> importOptions(const ModelArguments &arguments,
                                                   std::map<std::string, Shape> inputShapes) {
  graph::ImportOptions options;
  options.evaluate = host::evaluate;
  options.batch = arguments.batch;
  // A nameless array (.npy) is matched with the only input when the inputs are bound, and gives no shape before.
  inputShapes.erase("");
  options.inputShapes = std::move(inputShapes);
  options.dumpDirectory = arguments.dumpDirectory;
  for (const std::string &text : arguments.shapes) {
    auto assignment = splitAssignment(text, "--shape");
    if (!assignment)
      return assignment.takeError();
    int64_t extent;
    if (llvm::StringRef(assignment->second).getAsInteger(10, extent) || extent < 1)
      return userError("--shape " + text + ": the extent must be a positive integer");
    options.dimensions[assignment->first] = extent;
  }
  for (const std::string &text : arguments.bindings) {
    auto assignment = splitAssignment(text, "--bind");
    if (!assignment)
      return assignment.takeError();
    auto value = parseBinding(assignment->first, assignment->second);
    if (!value)
      return value.takeError();
    options.bindings.insert_or_assign(assignment->first, std::move(*value));
  }
  return options;
}

llvm::Expected<const target::Target *> targetOf(const machine::Machine &machine) {
  if (const target::Target *target = target::find(machine.architecture()))
    return target;
  std::vector<std::string> names;
  for (const target::Target *target : target::all())
    names.push_back(target->name().str());
  return userError("no compiler and simulator for architecture '" + machine.architecture() + "' in this version",
                   {"machine " + machine.name(), ""}, "architectures with one: " + llvm::join(names, ", "));
}

llvm::Expected<bool> isProgramFile(llvm::StringRef path) {
  auto file = MappedFile::open(path);
  if (!file)
    return file.takeError();
  return program::looksLikeProgram((*file)->bytes());
}

llvm::Expected<Compilation> openProgram(llvm::StringRef path) {
  auto program = program::Program::load(path);
  if (!program)
    return program.takeError();
  auto machine = machine::Machine::parse(program->machine, (path + ": machine description").str());
  if (!machine)
    return machine.takeError();
  auto target = targetOf(*machine);
  if (!target)
    return inFile(target.takeError(), path);
  if (program->target != (*target)->name())
    return userError("the program is for target '" + program->target +
                         "' but its machine description is of architecture '" + machine->architecture() + "'",
                     {path.str(), ""});
  return Compilation{std::nullopt, std::move(*machine), *target, std::move(*program), 0, path.str()};
}

llvm::Expected<Compilation> compileOrOpen(const ModelArguments &arguments, const target::NamedTensors &examples) {
  auto isProgram = isProgramFile(arguments.path);
  if (!isProgram)
    return isProgram.takeError();
  if (*isProgram) {
    if (!arguments.machine.empty() || arguments.batch || !arguments.shapes.empty() || !arguments.bindings.empty() ||
        !arguments.precision.empty() || arguments.chips)
      return userError(
          "a compiled program has its machine, shapes, precision and chips fixed", {arguments.path, ""},
          "leave out --machine, --batch, --shape, --bind, --precision and --chips, or give the ONNX model");
    return openProgram(arguments.path);
  }
  if (arguments.machine.empty())
    return userError("a model needs --machine NAME", {arguments.path, ""}, "`quadrille machines` lists them");
  auto machine = machine::Machine::load(arguments.machine);
  if (!machine)
    return machine.takeError();
  auto target = targetOf(*machine);
  if (!target)
    return target.takeError();

  Progress progress("compiling " + arguments.path + " for " + machine->name());
  auto begin = std::chrono::steady_clock::now();
  std::map<std::string, Shape> inputShapes;
  for (const auto &[name, tensor] : examples)
    inputShapes.emplace(name, tensor.shape());
  auto options = importOptions(arguments, std::move(inputShapes));
  if (!options)
    return options.takeError();
  auto graph = graph::loadModel(arguments.path, *options);
  if (!graph)
    return graph.takeError();
  target::CompileOptions compileOptions{arguments.precision, arguments.chips};
  auto plan = (*target)->plan(*graph, *machine, compileOptions);
  if (!plan)
    return inFile(plan.takeError(), arguments.path);
  auto program = (*target)->emit(*graph, **plan, *machine);
  if (!program)
    return inFile(program.takeError(), arguments.path);

  auto file = MappedFile::open(arguments.path);
  if (!file)
    return file.takeError();
  program::ModelReference reference;
  reference.path = arguments.path;
  reference.hash = hashOf(**file);
  reference.dimensions.assign(options->dimensions.begin(), options->dimensions.end());
  if (arguments.batch)
    reference.dimensions.emplace_back("--batch", arguments.batch);
  for (const std::string &text : arguments.bindings)
    reference.bindings.push_back(llvm::cantFail(splitAssignment(text, "--bind")));
  program->model = std::move(reference);
  Compilation result{std::move(*graph), std::move(*machine), *target, std::move(*program), 0, ""};
  result.compileSeconds = secondsSince(begin);
  return result;
}

llvm::Error loadReferenceGraph(Compilation &compilation) {
  if (compilation.graph)
    return llvm::Error::success();
  if (!compilation.program.model)
    return userError("the program names no model to check against", {},
                     "give the right outputs with --expected FILE, or compile it from an ONNX model");
  const program::ModelReference &reference = *compilation.program.model;
  // A program and its model that move together stay together: the program's folder comes first, then the path as it was
  // given to the compiler. The hash decides whether it is the model.
  llvm::SmallString<256> modelPath(reference.path);
  if (!compilation.programPath.empty() && llvm::sys::path::is_relative(modelPath)) {
    llvm::SmallString<256> beside(llvm::sys::path::parent_path(compilation.programPath));
    llvm::sys::path::append(beside, reference.path);
    if (llvm::sys::fs::exists(beside))
      modelPath = beside;
  }
  auto file = MappedFile::open(modelPath);
  if (!file)
    return file.takeError();
  if (hashOf(**file) != reference.hash)
    return userError("the model has changed since the program was compiled from it", {modelPath.str().str(), ""},
                     "compile again");
  ModelArguments arguments;
  arguments.path = modelPath.str().str();
  for (const auto &[name, value] : reference.dimensions)
    if (name == "--batch")
      arguments.batch = value;
    else
      arguments.shapes.push_back(name + "=" + std::to_string(value));
  for (const auto &[name, value] : reference.bindings)
    arguments.bindings.push_back(name + "=" + value);
  // Shapes that example inputs gave to symbolic dimensions are those of the program's inputs.
  std::map<std::string, Shape> shapes;
  for (const program::Variable &variable : compilation.program.variables)
    if (variable.role == program::VariableRole::Input)
      shapes.emplace(variable.name, variable.shape);
  auto options = importOptions(arguments, std::move(shapes));
  if (!options)
    return options.takeError();
  auto graph = graph::loadModel(arguments.path, *options);
  if (!graph)
    return graph.takeError();
  compilation.graph = std::move(*graph);
  return llvm::Error::success();
}

double defaultTolerance(llvm::StringRef precision) {
  if (precision == "f16")
    return 1e-2;
  if (precision == "bf16" || precision == "cb16")
    return 4e-2;
  return 1e-4;
}

llvm::Error requireLegal(const Compilation &compilation, llvm::StringRef path) {
  auto verdict = compilation.target->check(compilation.program);
  if (!verdict)
    return inFile(verdict.takeError(), path);
  if (verdict->legal())
    return llvm::Error::success();
  std::string message = "the program is not legal:";
  // One cause can show in every cycle of a repeated instruction.
  constexpr size_t shown = 10;
  for (const target::Finding &finding : llvm::ArrayRef(verdict->findings).take_front(shown))
    message += "\n  " + finding.where + ": " + finding.message;
  if (verdict->findings.size() > shown)
    message += "\n  and " + std::to_string(verdict->findings.size() - shown) + " more";
  return mismatchError(message, {path.str(), ""});
}

} // namespace quadrille::driver
