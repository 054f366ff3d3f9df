// Text as the code of an ipu program, over variables that are given. Besides not crashing: what is assembled survives
// printing, assembling, encoding and decoding; what the checker passes is executed without an error, and takes the
// cycles that the estimate says.
#include "base/Error.h"
#include "machine/Machine.h"
#include "target/ipu/Assembly.h"
#include "target/ipu/Check.h"
#include "target/ipu/Simulate.h"

#include "llvm/Support/ErrorHandling.h"

using namespace quadrille;

static constexpr double mostSteps = 1000, mostPoints = 1e6; // executed; more would only be slow

static const char *const common = R"(.target ipu
.machine unit-ipu
.precision "f32"
.node "node" "Add"
.input "x" f32[8]
.output "y" f32[8]
.input "h" f16[4,16]
.output "z" f32[4,16]
)";

// Whether a program can be executed in little time.
static bool isSmall(const ipu::Code &code) {
  for (const std::vector<ipu::Step> &steps : code.entries) {
    double factor = 1, executed = 0;
    std::vector<double> factors;
    for (const ipu::Step &step : steps) {
      executed += factor;
      if (step.kind == ipu::StepKind::Repeat) {
        factors.push_back(step.index);
        factor *= step.index;
      } else if (step.kind == ipu::StepKind::End && !factors.empty() && factors.back() > 0) {
        factor /= factors.back();
        factors.pop_back();
      }
    }
    if (executed > mostSteps)
      return false;
  }
  for (const ipu::ComputeSet &set : code.computeSets)
    for (const ipu::Vertex &vertex : set.vertices) {
      double points = 1;
      const ipu::Form *form = ipu::formOf(vertex.codelet);
      for (size_t i = 0; form && i < vertex.values.size() && i < form->parameters.size(); ++i)
        if (form->parameters[i].kind == ipu::ParameterKind::Count ||
            form->parameters[i].kind == ipu::ParameterKind::Counts)
          for (int64_t value : vertex.values[i])
            points *= value > 1 && form->parameters[i].minimum == 1 ? static_cast<double>(value) : 1;
      if (points > mostPoints)
        return false;
    }
  return true;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string text = common + std::string(reinterpret_cast<const char *>(data), size);
  auto program = ipu::assemble(text, "fuzz");
  if (!program) {
    if (report(program.takeError()).exitCode == static_cast<int>(Fault::Internal))
      llvm::report_fatal_error("a text gives an internal error");
    return 0;
  }
  std::string printed;
  llvm::raw_string_ostream os(printed);
  if (llvm::Error error = ipu::disassemble(*program, os))
    llvm::report_fatal_error(llvm::StringRef("what was assembled has no text: " + report(std::move(error)).message));
  auto again = ipu::assemble(printed, "printed");
  if (!again)
    llvm::report_fatal_error(llvm::StringRef("its text is refused: " + report(again.takeError()).message));
  if (again->payload() != program->payload())
    llvm::report_fatal_error("its text gives another program");
  auto loaded = ipu::Loaded::from(*program);
  if (!loaded)
    llvm::report_fatal_error(llvm::StringRef("it cannot be decoded: " + report(loaded.takeError()).message));
  if (!isSmall(loaded->code) || !ipu::check(*program, loaded->code, loaded->machine).legal())
    return 0;
  target::NamedTensors inputs;
  for (const program::Variable &variable : program->variables)
    if (variable.role == program::VariableRole::Input)
      inputs[variable.name] = Tensor::zeros(variable.type, variable.shape);
  for (const program::EntryPoint &entry : program->entryPoints) {
    target::RunOptions options;
    options.entryPoint = entry.name;
    auto estimated = ipu::execute(*program, nullptr, options), executed = ipu::execute(*program, &inputs, options);
    if (!estimated || !executed)
      llvm::report_fatal_error("a legal program cannot be executed");
    if (estimated->timeline.cycles.value != executed->timeline.cycles.value)
      llvm::report_fatal_error("estimate and simulation differ");
  }
  return 0;
}
