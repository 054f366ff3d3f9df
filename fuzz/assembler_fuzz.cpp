// Text as the code of a tsp program, over variables and entry points that are given. Besides not crashing: what is
// assembled survives printing, assembling, encoding and decoding, and checker and execution agree on whether it is
// legal. (The directives that all targets share, and machine files, are another fuzzer's.)
#include "base/Error.h"
#include "target/tsp/Assembly.h"
#include "target/tsp/Check.h"
#include "target/tsp/Simulate.h"
#include "target/tsp/WellFormed.h"

#include "llvm/Support/ErrorHandling.h"

using namespace quadrille;

static constexpr uint64_t mostIssues = 5000; // executed; more would only be slow

static program::Program common() {
  auto program = tsp::assemble(R"(.target tsp
.machine unit-tsp
.node "matmul" "MatMul"
.input "A" i8[53,128]
.input "B" i8[128,64]
.output "C" i32[53,64]
.weight "w" i8[4]
.data 01020304
.output "y" i8[4]
.entry "matmul" "A" "B" -> "C"
.entry "move" -> "y"
)",
                               "common");
  if (!program)
    llvm::report_fatal_error(program.takeError());
  return std::move(*program);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const program::Program base = common();
  static const tsp::Architecture machine = llvm::cantFail(tsp::Architecture::from(base.machine));
  llvm::StringRef text(reinterpret_cast<const char *>(data), size);
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

  for (const tsp::EntryCode &entry : code->entries)
    if (entry.chips.size() != 1 || tsp::issueCount(entry.chips[0].queues) > mostIssues)
      return 0;
  target::Verdict verdict = tsp::check(program, *code, machine);
  std::string failure;
  for (const program::EntryPoint &entry : program.entryPoints) {
    target::RunOptions options;
    options.entryPoint = entry.name;
    if (auto result = tsp::execute(program, nullptr, options); !result)
      failure = report(result.takeError()).message;
  }
  if (failure.empty() != verdict.legal())
    llvm::report_fatal_error("checker and execution disagree: " +
                             llvm::Twine(verdict.legal() ? failure : verdict.findings[0].message));
  return 0;
}
