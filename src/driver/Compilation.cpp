#include "driver/Compilation.h"

#include "base/Error.h"
#include "base/File.h"
#include "driver/Inputs.h"
#include "driver/Measure.h"
#include "driver/Progress.h"
#include "program/Data.h"
#include "target/Compile.h"
#include "target/Stages.h"
#include "target/host/Evaluate.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/xxhash.h"

namespace quadrille::driver {

static uint64_t hashOf(const MappedFile &file) {
  return llvm::xxh3_64bits(llvm::ArrayRef(reinterpret_cast<const uint8_t *>(file.bytes().data()), file.bytes().size()));
}

// "16000", "0.5" or "true".
static std::optional<Tensor> parseLiteral(llvm::StringRef value) {
  int64_t integer;
  double real;
  if (!value.getAsInteger(10, integer))
    return Tensor::of<int64_t>(ElementType::i64, {}, {integer});
  if (value == "true" || value == "false")
    return Tensor::of<uint8_t>(ElementType::boolean, {}, {static_cast<uint8_t>(value == "true")});
  if (!value.getAsDouble(real))
    return Tensor::of<float>(ElementType::f32, {}, {static_cast<float>(real)});
  return std::nullopt;
}

// A literal or a file with one array.
static llvm::Expected<Tensor> parseBinding(llvm::StringRef name, llvm::StringRef value) {
  if (std::optional<Tensor> literal = parseLiteral(value))
    return std::move(*literal);
  auto tensors = readTensorFile(value);
  if (!tensors)
    return atNode(tensors.takeError(), ("--bind " + name).str());
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
        !arguments.precision.empty() || arguments.chips || arguments.replicas || !arguments.stagesAt.empty())
      return userError("a compiled program has its machine, shapes, precision, chips, stages and replicas fixed",
                       {arguments.path, ""},
                       "leave out --machine, --batch, --shape, --bind, --precision, --chips, --stages-at and "
                       "--replicas, or give the ONNX model");
    auto opened = openProgram(arguments.path);
    if (!opened)
      return opened.takeError();
    if (llvm::Error error = target::requireLegal(*opened->target, opened->program))
      return inFile(std::move(error), arguments.path);
    return opened;
  }
  if (arguments.machine.empty())
    return userError("a model needs --machine NAME", {arguments.path, ""}, "`quadrille machines` lists them");
  auto machine = machine::Machine::load(arguments.machine);
  if (!machine)
    return machine.takeError();
  if (auto target = targetOf(*machine); !target)
    return target.takeError();
  auto model = importModel(arguments, examples);
  if (!model)
    return model.takeError();
  auto options = compileOptions(arguments);
  if (!options)
    return inFile(options.takeError(), arguments.path);
  return compileFor(std::move(*machine), *model, *options);
}

llvm::Expected<target::CompileOptions> compileOptions(const ModelArguments &arguments) {
  target::CompileOptions options;
  options.precision = arguments.precision;
  options.chips = arguments.chips;
  options.replicas = std::max<int64_t>(arguments.replicas, 1);
  if (arguments.stagesAt.empty())
    return options;
  auto order = graph::nodesInOrder(arguments.path);
  if (!order)
    return order.takeError();
  auto begins = target::stageNodes(arguments.stagesAt, *order);
  if (!begins)
    return begins.takeError();
  options.cuts = {std::move(*begins), std::move(*order)};
  if (arguments.chips && arguments.chips != options.cuts.stages())
    return userError("--chips " + llvm::Twine(arguments.chips) + " contradicts --stages-at, which makes " +
                         llvm::Twine(options.cuts.stages()) + " stages",
                     {}, "leave out --chips");
  return options;
}

llvm::Expected<ImportedModel> importModel(const ModelArguments &arguments, const target::NamedTensors &examples) {
  Progress progress("importing " + arguments.path);
  Stopwatch watch;
  std::map<std::string, Shape> inputShapes;
  for (const auto &[name, tensor] : examples)
    inputShapes.emplace(name, tensor.shape());
  auto options = importOptions(arguments, std::move(inputShapes));
  if (!options)
    return options.takeError();
  auto graph = graph::loadModel(arguments.path, *options);
  if (!graph)
    return graph.takeError();
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
  return ImportedModel{std::move(*graph), std::move(reference), watch.seconds()};
}

llvm::Expected<Compilation> compileFor(machine::Machine machine, const ImportedModel &model,
                                       const target::CompileOptions &options) {
  auto target = targetOf(machine);
  if (!target)
    return target.takeError();
  Progress progress("compiling " + model.reference.path + " for " + machine.name());
  Stopwatch watch;
  auto program = target::compile(**target, model.graph, machine, options);
  if (!program)
    return inFile(program.takeError(), model.reference.path);
  program->model = model.reference;
  Compilation result{model.graph, std::move(machine), *target, std::move(*program), 0, ""};
  result.compileSeconds = model.importSeconds + watch.seconds();
  return result;
}

std::string referenceTo(llvm::StringRef file, llvm::StringRef program) {
  if (program != "-")
    if (auto below = program::pathBelow(file, llvm::sys::path::parent_path(program)))
      return *below;
  llvm::SmallString<256> absolute = file;
  if (llvm::sys::fs::make_absolute(absolute)) // no current folder: what was given must do
    return file.str();
  return absolute.str().str();
}

std::string bindingReference(llvm::StringRef value, llvm::StringRef program) {
  if (parseLiteral(value))
    return value.str();
  std::string file = referenceTo(value, program);
  return parseLiteral(file) ? "./" + file : file;
}

// A program and the files that it names stay together when they are moved together: the program's folder comes first,
// then the path as it was given to the compiler.
static std::string resolveReference(llvm::StringRef reference, llvm::StringRef program) {
  if (program.empty() || llvm::sys::path::is_absolute(reference))
    return reference.str();
  llvm::SmallString<256> beside(llvm::sys::path::parent_path(program));
  llvm::sys::path::append(beside, reference);
  return llvm::sys::fs::exists(beside) ? beside.str().str() : reference.str();
}

llvm::Error loadReferenceGraph(Compilation &compilation) {
  if (compilation.graph)
    return llvm::Error::success();
  if (!compilation.program.model)
    return userError("the program names no model to check against", {},
                     "give the right outputs with --expected FILE, or compile it from an ONNX model");
  const program::ModelReference &reference = *compilation.program.model;
  // The hash decides whether it is the model.
  std::string modelPath = resolveReference(reference.path, compilation.programPath);
  auto file = MappedFile::open(modelPath);
  if (!file)
    return file.takeError();
  if (hashOf(**file) != reference.hash)
    return userError("the model has changed since the program was compiled from it", {modelPath, ""}, "compile again");
  ModelArguments arguments;
  arguments.path = modelPath;
  for (const auto &[name, value] : reference.dimensions)
    if (name == "--batch")
      arguments.batch = value;
    else
      arguments.shapes.push_back(name + "=" + std::to_string(value));
  for (const auto &[name, value] : reference.bindings)
    arguments.bindings.push_back(name + "=" +
                                 (parseLiteral(value) ? value : resolveReference(value, compilation.programPath)));
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

llvm::ArrayRef<llvm::StringLiteral> precisions() {
  static constexpr llvm::StringLiteral known[] = {"f32", "f16", "f16.f16", "bf16", "cb16", "i8"};
  return known;
}

double defaultTolerance(llvm::StringRef precision) {
  if (precision == "f16")
    return 1e-2;
  if (precision == "bf16" || precision == "cb16")
    return 4e-2;
  return 1e-4;
}

} // namespace quadrille::driver
