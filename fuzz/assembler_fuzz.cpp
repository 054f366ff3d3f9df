// Text as the code of a tsp program, over variables and entry points that are given, on one chip or on two. Besides not
// crashing: what is assembled survives printing, assembling, encoding and decoding; checker and execution agree on
// whether it is legal and on the first fault; bursts and issue by issue give the same cycles and, on any input, the
// same outputs. (The directives that all targets share, and machine files, are another fuzzer's.)
#include "base/Error.h"
#include "base/Mix.h"
#include "machine/Machine.h"
#include "target/tsp/Assembly.h"
#include "target/tsp/Check.h"
#include "target/tsp/Simulate.h"
#include "target/tsp/WellFormed.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/ErrorHandling.h"

using namespace quadrille;

static constexpr uint64_t mostIssues = 5000; // executed; more would only be slow

static program::Program common(int64_t chips) {
  // Small memories: they are allocated bank by bank.
  std::string yaml = llvm::cantFail(machine::Machine::load(chips == 1 ? "unit-tsp" : "unit-tsp-node")).print();
  size_t words = yaml.find("mem.words_per_bank"), end = yaml.find('\n', words);
  for (size_t at; (at = yaml.find("8192", words)) < end;)
    yaml.replace(at, 4, " 256");
  std::string text = ".target tsp\n.chips " + std::to_string(chips) + "\n.machine-description\n";
  llvm::SmallVector<llvm::StringRef> lines;
  llvm::StringRef(yaml).trim().split(lines, '\n');
  for (llvm::StringRef line : lines)
    text += "| " + line.str() + "\n";
  text += R"(
.node "matmul" "MatMul"
.input "A" i8[53,128]
.input "B" i8[128,64]
.output "C" i32[53,64]
.weight "w" i8[4]
.data 01020304
.output "y" i8[4]
)";
  // As the random programs of the tests have them: words to work on, and maps.
  for (int i = 0; i < 4; ++i)
    text += ".input \"x" + std::to_string(i) + "\" u8[12,64]\n";
  auto weight = [&](const char *name, auto value) {
    text += std::string(".weight \"") + name + "\" u8[1,64]\n.values";
    for (int lane = 0; lane < 64; ++lane)
      text += " " + std::to_string(value(lane));
    text += "\n";
  };
  weight("rows", [](int lane) { return lane % 16 == 0 ? lane / 16 * 3 % 4 : lane % 16 == 1 ? 0 : 255; });
  weight("lanesLow", [](int lane) { return (lane * 5 + 3) % 64; });
  weight("lanesHigh", [](int) { return 0; });
  weight("lanes", [](int lane) { return lane * 7 % 17; });
  std::string outputs;
  for (int i = 0; i < 8; ++i) {
    text += ".output \"y" + std::to_string(i) + "\" u8[1,64]\n";
    outputs += " \"y" + std::to_string(i) + "\"";
  }
  text += ".entry \"matmul\" \"A\" \"B\" -> \"C\"\n.entry \"move\" -> \"y\"\n"
          ".entry \"units\" \"x0\" \"x1\" \"x2\" \"x3\" ->" +
          outputs + "\n";
  auto program = tsp::assemble(text, "common");
  if (!program)
    llvm::report_fatal_error(program.takeError());
  return std::move(*program);
}

namespace {

struct Outcome {
  std::string error; // empty: executed
  int64_t cycles = 0;
  target::NamedTensors outputs;
};

Outcome outcome(const program::Program &program, const target::NamedTensors *inputs, const std::string &entry,
                bool oneByOne) {
  target::RunOptions options;
  options.entryPoint = entry;
  auto result = tsp::execute(program, inputs, options, oneByOne);
  if (result)
    return {"", result->timeline.cycles.value, std::move(result->outputs)};
  Reported failure = report(result.takeError());
  if (failure.exitCode != static_cast<int>(Fault::User))
    llvm::report_fatal_error(
        llvm::StringRef("execution failed, and not by a fault of the program: " + failure.message));
  return {failure.message, 0, {}};
}

target::NamedTensors randomInputs(const program::Program &program, uint64_t seed) {
  target::NamedTensors inputs;
  for (const program::Variable &variable : program.variables)
    if (variable.role == program::VariableRole::Input) {
      Tensor tensor = Tensor::zeros(variable.type, variable.shape);
      for (std::byte &byte : llvm::MutableArrayRef(tensor.mutableBytes(), tensor.bytes().size()))
        byte = static_cast<std::byte>(splitMix(seed += splitMixIncrement));
      inputs[variable.name] = tensor;
    }
  return inputs;
}

} // namespace

static void execute(program::Program program, tsp::Code code, const tsp::Architecture &machine, uint64_t seed) {
  // Entry points without code are not there.
  for (size_t entry = program.entryPoints.size(); entry-- > 0;)
    if (code.entries[entry].chips.empty()) {
      code.entries.erase(code.entries.begin() + static_cast<ptrdiff_t>(entry));
      program.entryPoints.erase(program.entryPoints.begin() + static_cast<ptrdiff_t>(entry));
    }
  if (code.entries.empty())
    return;
  for (const tsp::EntryCode &entry : code.entries)
    if (tsp::issueCount(tsp::Queues(entry)) > mostIssues)
      return;
  program.setPayload(code.encode());
  target::Verdict verdict = tsp::check(program, code, machine);
  std::string first;
  for (const program::EntryPoint &entry : program.entryPoints) {
    Outcome bursts = outcome(program, nullptr, entry.name, false), single = outcome(program, nullptr, entry.name, true);
    if (bursts.error != single.error || bursts.cycles != single.cycles)
      llvm::report_fatal_error(
          llvm::StringRef("bursts and issue by issue differ: '" + bursts.error + "', '" + single.error + "'"));
    if (first.empty())
      first = bursts.error;
  }
  if (first.empty() != verdict.legal())
    llvm::report_fatal_error("checker and execution disagree: " +
                             llvm::Twine(verdict.legal() ? first : verdict.findings[0].message));
  if (!verdict.legal()) {
    const target::Finding &finding = verdict.findings[0];
    if (first != finding.message && first != finding.where + ": " + finding.message)
      llvm::report_fatal_error(llvm::StringRef("checker and execution find different faults: '" + first + "', '" +
                                               finding.where + ": " + finding.message + "'"));
    return;
  }
  target::NamedTensors inputs = randomInputs(program, seed);
  for (const program::EntryPoint &entry : program.entryPoints) {
    Outcome bursts = outcome(program, &inputs, entry.name, false), single = outcome(program, &inputs, entry.name, true);
    if (bursts.error != single.error || bursts.cycles != single.cycles)
      llvm::report_fatal_error(llvm::StringRef("with values, bursts and issue by issue differ: '" + bursts.error +
                                               "', '" + single.error + "'"));
    for (const auto &[name, tensor] : bursts.outputs)
      if (tensor.bytes() != single.outputs[name].bytes())
        llvm::report_fatal_error(llvm::StringRef("bursts and issue by issue give different '" + name + "'"));
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const program::Program bases[] = {common(1), common(2)};
  static const tsp::Architecture machines[] = {llvm::cantFail(tsp::Architecture::from(bases[0].machine)),
                                               llvm::cantFail(tsp::Architecture::from(bases[1].machine))};
  llvm::StringRef text(reinterpret_cast<const char *>(data), size);
  bool two = text.contains(".chip 1");
  const program::Program &base = bases[two];
  const tsp::Architecture &machine = machines[two];
  auto code = tsp::assembleCode(text, "fuzz", base, machine);
  if (!code) {
    if (report(code.takeError()).exitCode != static_cast<int>(Fault::User))
      llvm::report_fatal_error("assembling failed, and not by a fault of the text");
    return 0;
  }
  std::string printed;
  llvm::raw_string_ostream os(printed);
  if (llvm::Error error = tsp::printCode(*code, base, os))
    llvm::report_fatal_error(std::move(error));
  auto again = tsp::assembleCode(printed, "printed", base, machine);
  if (!again)
    llvm::report_fatal_error(again.takeError());
  if (!(*again == *code))
    llvm::report_fatal_error("a program changed by printing and assembling");
  program::Program program = base;
  program.setPayload(code->encode());
  auto decoded = tsp::Code::decode(program.payload());
  if (!decoded)
    llvm::report_fatal_error(decoded.takeError());
  if (!(*decoded == *code))
    llvm::report_fatal_error("a program changed by encoding and decoding");
  execute(base, std::move(*code), machine, size);
  return 0;
}
