// Programs as text and back, their legality, and their mutation.
#include "base/Error.h"
#include "base/File.h"
#include "driver/Compilation.h"
#include "driver/Inputs.h"
#include "driver/Outputs.h"
#include "driver/Progress.h"
#include "target/Mutate.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"

namespace quadrille::driver {

// Every text form begins, after comments, with ".target NAME", which says whose it is.
static llvm::Expected<const target::Target *> targetOfText(llvm::StringRef text, llvm::StringRef fileName) {
  llvm::SmallVector<llvm::StringRef> lines;
  text.split(lines, '\n');
  for (size_t i = 0; i < lines.size(); ++i) {
    llvm::StringRef line = lines[i].trim();
    if (line.empty() || line.starts_with("#") || line.starts_with(";") || line.starts_with("//"))
      continue;
    std::string where = "line " + std::to_string(i + 1);
    if (!line.consume_front(".target "))
      return userError("expected '.target NAME' before anything else", {fileName.str(), where}, "e.g. '.target tsp'");
    llvm::StringRef name = line.take_while([](char c) { return llvm::isAlnum(c) || c == '_' || c == '-'; });
    if (const target::Target *target = target::find(name))
      return target;
    return userError("unknown target '" + name + "'", {fileName.str(), where});
  }
  return userError("the program text is empty", {fileName.str(), ""});
}

// A pipe has no size; more than any program text is refused before memory is full.
static llvm::Error readStandardInput(std::string &text) {
  constexpr size_t longest = size_t(4) << 30, step = size_t(1) << 16;
  while (true) {
    size_t begin = text.size();
    text.resize(begin + step);
    auto got = llvm::sys::fs::readNativeFile(llvm::sys::fs::getStdinHandle(),
                                             llvm::MutableArrayRef(text.data() + begin, step));
    if (!got)
      return userError("cannot read: " + llvm::toString(got.takeError()), {"standard input", ""});
    text.resize(begin + *got);
    if (*got == 0)
      return llvm::Error::success();
    if (text.size() > longest)
      return userError("more than 4 GiB of program text", {"standard input", ""});
  }
}

llvm::Error assembleCommand(const TextArguments &arguments) {
  if (llvm::Error error = requireSeparateFiles(arguments.input, {{"--output", arguments.output}}, false))
    return error;
  bool standardInput = arguments.input == "-" || arguments.input == "/dev/stdin";
  std::string fileName = standardInput ? "standard input" : arguments.input;
  std::string piped;
  std::shared_ptr<const MappedFile> file;
  if (standardInput) {
    if (llvm::Error error = readStandardInput(piped))
      return error;
  } else {
    auto opened = MappedFile::open(arguments.input);
    if (!opened)
      return opened.takeError();
    file = std::move(*opened);
  }
  llvm::StringRef text = standardInput ? llvm::StringRef(piped) : file->text();
  auto target = targetOfText(text, fileName);
  if (!target)
    return target.takeError();
  auto program = (*target)->assemble(text, fileName);
  if (!program)
    return inFile(program.takeError(), fileName);
  return program->save(arguments.output);
}

llvm::Error disassembleCommand(const TextArguments &arguments) {
  if (llvm::Error error = requireSeparateFiles(arguments.input, {{"--output", arguments.output}}, false))
    return error;
  auto compilation = openProgram(arguments.input);
  if (!compilation)
    return compilation.takeError();
  return writeFileAtomically(arguments.output, [&](llvm::raw_pwrite_stream &os) {
    return compilation->target->disassemble(compilation->program, os);
  });
}

llvm::Error checkCommand(const CheckArguments &arguments) {
  auto compilation = openProgram(arguments.program);
  if (!compilation)
    return compilation.takeError();
  auto verdict = compilation->target->check(compilation->program);
  if (!verdict)
    return inFile(verdict.takeError(), arguments.program);
  for (const target::Finding &finding : verdict->findings)
    llvm::outs() << finding.where << ": " << finding.message << '\n';
  if (!verdict->legal())
    return mismatchError("the program is not legal, findings: " + llvm::Twine(verdict->findings.size()),
                         {arguments.program, ""});
  llvm::outs() << arguments.program << ": legal\n";
  return llvm::Error::success();
}

llvm::Error mutateCommand(const MutateArguments &arguments) {
  auto given = readNamedTensors(arguments.inputFiles, "--input");
  if (!given)
    return given.takeError();
  auto compilation = openProgram(arguments.program);
  if (!compilation)
    return compilation.takeError();
  auto entry = entryPointNamed(compilation->program, arguments.entry);
  if (!entry)
    return inFile(entry.takeError(), arguments.program);
  std::vector<Port> ports = inputPorts(compilation->program, *entry);
  target::MutateOptions options;
  options.entryPoint = *entry;
  options.seed = arguments.seed;
  options.count = arguments.count;
  options.tolerance = defaultTolerance(compilation->program.precision);
  options.inputs = [&](uint64_t number) { return bindInputs(ports, *given, number); };
  llvm::Expected<target::MutationReport> report = [&] {
    Progress progress("mutating " + arguments.program);
    options.progress = [&](double share) {
      progress.update(share);
      return true;
    };
    return target::mutateAll(*compilation->target, compilation->program, options);
  }();
  if (!report)
    return inFile(report.takeError(), arguments.program);
  if (arguments.json)
    report->writeJson(llvm::outs());
  else
    report->print(llvm::outs(), arguments.all);
  if (!report->passed())
    return mismatchError(llvm::Twine(report->count(target::Outcome::Silent)) + " mutations gave a silent wrong value",
                         {arguments.program, ""});
  return llvm::Error::success();
}

} // namespace quadrille::driver
