// The `quadrille` command: parses arguments, calls a command, reports its error.
#include "base/Error.h"
#include "base/Parallel.h"
#include "driver/Commands.h"
#include "driver/Compilation.h"

#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/raw_ostream.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>

using namespace quadrille;
using namespace quadrille::driver;

namespace {

constexpr int internalExit = static_cast<int>(Fault::Internal);

// An upper bound that no count needs catches numbers beyond 64 bits, which CLI11 would saturate.
const CLI::Range positiveCount(int64_t(1), int64_t(1) << 40, "COUNT");

// CLI11 would take -1 for 2^64 - 1.
const CLI::Validator seed(
    [](std::string &text) -> std::string {
      uint64_t number;
      return llvm::StringRef(text).getAsInteger(10, number) ? text + " is not an integer from 0 to 2^64 - 1" : "";
    },
    "SEED");

const CLI::Validator fileName([](std::string &text) { return text.empty() ? "the file name is empty" : ""; }, "FILE");

enum class Machines { None, One, Several };

void addModelOptions(CLI::App *app, ModelArguments &model, const std::string &what, Machines machines) {
  app->add_option("MODEL", model.path, what)->required()->check(fileName);
  if (machines == Machines::One)
    app->add_option("--machine,-m", model.machine, "machine name or YAML file (see `quadrille machines`)");
  if (machines != Machines::None) {
    app->add_option("--precision", model.precision,
                    "arithmetic of the contractions, f16.f16 with sums in f16; default: the machine's")
        ->check(CLI::IsMember(std::vector<std::string>(precisions().begin(), precisions().end())));
    app->add_option("--chips", model.chips, "number of chips; default: as many as needed")->check(positiveCount);
    app->add_option("--stages-at", model.stagesAt,
                    "ONNX nodes that each begin a stage on the next chip; may be given several times")
        ->type_name("NODE,...")
        ->allow_extra_args(false);
    app->add_option("--replicas", model.replicas,
                    "programs that run side by side, each on its own chips and runs; default: 1")
        ->check(positiveCount);
  }
  app->add_option("--batch", model.batch, "value of the batch dimension")->check(positiveCount);
  app->add_option("--shape", model.shapes, "value of a symbolic dimension, NAME=VALUE")->type_name("NAME=VALUE");
  app->add_option("--bind", model.bindings, "bind an input to a constant, NAME=NUMBER or NAME=FILE")
      ->type_name("NAME=VALUE");
  app->add_option("--dump-ir", model.dumpDirectory, "write the IR after every pass to this directory")->check(fileName);
}

void addInputFiles(CLI::App *app, std::vector<std::string> &files, const std::string &what) {
  app->add_option("--input,-i", files, what + ": .npz, .npy, or .pb (ONNX tensor); NAME=FILE for a single array")
      ->type_name("FILE");
}

void addEntryOption(CLI::App *app, std::string &entry) {
  app->add_option("--entry", entry, "entry point; default: inference, or the first")
      ->check([](const std::string &name) { return name.empty() ? std::string("the name is empty") : ""; })
      ->type_name("NAME");
}

void addInputOptions(CLI::App *app, InputArguments &inputs) {
  addInputFiles(app, inputs.files, "inputs");
  app->add_option("--random", inputs.random, "random values for the inputs that no file gives")->check(seed);
}

[[noreturn]] void internalDefect(const char *what) {
  std::fprintf(stderr, "quadrille: internal error: %s; this is a defect of Quadrille, please report it\n", what);
  std::_Exit(internalExit);
}

} // namespace

int main(int argc, char **argv) {
  llvm::install_fatal_error_handler([](void *, const char *reason, bool) { internalDefect(reason); });
  llvm::install_bad_alloc_error_handler([](void *, const char *reason, bool) { internalDefect(reason); });
  std::set_terminate([] { internalDefect("unexpected exception"); });

  CLI::App app{"Quadrille: compiler, simulator and profiler for the ALCF AI Testbed's accelerators"};
  app.set_version_flag("--version", QUADRILLE_VERSION);
  app.require_subcommand(1);
  unsigned threads = 0;
  app.add_option("--threads", threads, "host threads (default: all cores)");
  app.fallthrough();

  RunArguments run;
  CLI::App *runApp = app.add_subcommand("run", "execute a model or program on a simulated machine");
  addModelOptions(runApp, run.model, "ONNX file or compiled program (.qdl)", Machines::One);
  addInputOptions(runApp, run.inputs);
  addEntryOption(runApp, run.entry);
  runApp->add_flag("--check", run.check, "compare the outputs with the reference");
  runApp->add_option("--expected", run.expected, "compare with the outputs in these files instead")->type_name("FILE");
  runApp->add_option("--tolerance", run.tolerance, "largest relative L2 error that passes --check");
  runApp->add_option("--output,-o", run.output, "write the outputs (.npz)")->check(fileName);
  runApp->add_option("--trace", run.trace, "write a Perfetto trace")->check(fileName);
  runApp->add_option("--repeat", run.repeat, "execute this often and report the median time")->check(positiveCount);
  runApp->add_flag("--json", run.json, "print one JSON object");

  CompileArguments compile;
  CLI::App *compileApp = app.add_subcommand("compile", "compile a model to a program (.qdl)");
  addModelOptions(compileApp, compile.model, "ONNX file", Machines::One);
  compileApp
      ->add_option("--output,-o", compile.output,
                   "program file, - for standard output; default: the model's name with .qdl, in this folder")
      ->check(fileName);
  compileApp->add_flag("--json", compile.json, "print one JSON object");

  ProfileArguments profile;
  CLI::App *profileApp = app.add_subcommand("profile", "where time goes, before anything runs on hardware");
  addModelOptions(profileApp, profile.model, "ONNX file or compiled program (.qdl)", Machines::One);
  addInputOptions(profileApp, profile.inputs);
  addEntryOption(profileApp, profile.entry);
  profileApp->add_option("--trace", profile.trace, "write a Perfetto trace")->check(fileName);
  profileApp->add_option("--csv", profile.csv, "write the spans as CSV")->check(fileName);
  profileApp->add_flag("--json", profile.json, "print one JSON object");

  CompareArguments compare;
  CLI::App *compareApp = app.add_subcommand("compare", "one model on several machines: what fits, how fast, how right");
  addModelOptions(compareApp, compare.model, "ONNX file", Machines::Several);
  compareApp
      ->add_option("--machines,--machine,-m", compare.machines,
                   "machine names or YAML files; default: the host and every machine that has a compiler")
      ->delimiter(',')
      ->type_name("NAME,...");
  addInputOptions(compareApp, compare.inputs);
  compareApp->add_flag("--execute", compare.execute,
                       "execute the programs and compare their values with the reference (inputs: --random 1)");
  compareApp->add_flag("--json", compare.json, "print one JSON object");

  InspectArguments inspect;
  CLI::App *inspectApp = app.add_subcommand("inspect", "operators, kernels, parameters, FLOPs and bytes of a model");
  addModelOptions(inspectApp, inspect.model, "ONNX file", Machines::None);
  inspectApp->add_flag("--kernels", inspect.kernels, "list every kernel");
  inspectApp->add_flag("--json", inspect.json, "print one JSON object");

  MachinesArguments machines;
  CLI::App *machinesApp = app.add_subcommand("machines", "machine descriptions, every figure with its source");
  machinesApp->add_option("NAME", machines.name, "one machine in full");
  machinesApp->add_flag("--json", machines.json, "print JSON");

  TextArguments assemble, disassemble;
  CLI::App *assembleApp = app.add_subcommand("asm", "assemble program text to a program");
  assembleApp->add_option("FILE", assemble.input, "program text, - for standard input")->required()->check(fileName);
  assembleApp->add_option("--output,-o", assemble.output, "program file")->required()->check(fileName);
  CLI::App *disassembleApp = app.add_subcommand("disasm", "print a program as text");
  disassembleApp->add_option("PROGRAM", disassemble.input, "compiled program (.qdl)")->required()->check(fileName);
  disassembleApp->add_option("--output,-o", disassemble.output, "text file (default: standard output)")
      ->check(fileName);

  CheckArguments check;
  CLI::App *checkApp = app.add_subcommand("check", "whether a program is legal, or what is wrong where");
  checkApp->add_option("PROGRAM", check.program, "compiled program (.qdl)")->required()->check(fileName);

  MutateArguments mutate;
  CLI::App *mutateApp = app.add_subcommand("mutate", "flip one field at a time and see that somebody notices");
  mutateApp->add_option("PROGRAM", mutate.program, "compiled program (.qdl)")->required()->check(fileName);
  addInputFiles(mutateApp, mutate.inputFiles, "inputs of all runs; random ones for the others");
  addEntryOption(mutateApp, mutate.entry);
  mutateApp->add_option("--seed", mutate.seed, "first mutation (default 1)")->check(seed);
  mutateApp->add_option("--count", mutate.count, "number of mutations (default 100)")->check(positiveCount);
  mutateApp->add_flag("--all", mutate.all, "list every mutation");
  mutateApp->add_flag("--json", mutate.json, "print one JSON object");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    int code = app.exit(error, std::cout, std::cerr);
    return code == 0 ? 0 : static_cast<int>(Fault::User);
  }
  setThreadCount(threads);

  auto call = [&]() -> llvm::Error {
    if (*runApp)
      return runCommand(run);
    if (*compileApp)
      return compileCommand(compile);
    if (*profileApp)
      return profileCommand(profile);
    if (*compareApp)
      return compareCommand(compare);
    if (*inspectApp)
      return inspectCommand(inspect);
    if (*machinesApp)
      return machinesCommand(machines);
    if (*assembleApp)
      return assembleCommand(assemble);
    if (*disassembleApp)
      return disassembleCommand(disassemble);
    if (*checkApp)
      return checkCommand(check);
    return mutateCommand(mutate);
  };
  int code = 0;
  try {
    if (llvm::Error error = call()) {
      Reported reported = report(std::move(error));
      llvm::outs().flush();
      llvm::errs() << "quadrille: " << reported.message << '\n';
      code = reported.exitCode;
    }
  } catch (const std::bad_alloc &) {
    llvm::errs() << "quadrille: out of memory; a smaller --batch needs less\n";
    code = static_cast<int>(Fault::User);
  } catch (const std::exception &error) {
    internalDefect(error.what());
  }
  llvm::outs().flush();
  if (llvm::outs().has_error()) {
    // A closed pipe (| head) is no failure of the command; a full disk is.
    bool closedPipe = llvm::outs().error() == std::errc::broken_pipe;
    if (!closedPipe) {
      llvm::errs() << "quadrille: cannot write to standard output: " << llvm::outs().error().message() << '\n';
      code = code ? code : static_cast<int>(Fault::User);
    }
    llvm::outs().clear_error();
  }
  return code;
}
