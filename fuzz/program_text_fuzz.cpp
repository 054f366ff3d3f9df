// Program text, read by the null target: what is accepted prints to text that reads back to the same program.
#include "base/Error.h"
#include "target/Target.h"

#include "llvm/Support/raw_ostream.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace quadrille::target {
const Target &nullTarget();
} // namespace quadrille::target

using namespace quadrille;

static void require(bool condition, const char *what) {
  if (condition)
    return;
  std::fprintf(stderr, "program_text_fuzz: %s\n", what);
  std::abort();
}

static std::string print(const program::Program &program) {
  std::string text;
  llvm::raw_string_ostream os(text);
  require(!errorToBool(target::nullTarget().disassemble(program, os)), "an assembled program cannot be printed");
  return os.str();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  llvm::StringRef text(reinterpret_cast<const char *>(data), size);
  // Machines by name come from files, which are another fuzzer's matter.
  if (text.contains(".machine "))
    return 0;
  auto program = target::nullTarget().assemble(text, "p.txt");
  if (!program) {
    require(report(program.takeError()).exitCode == 2, "bad text is not the user's fault");
    return 0;
  }
  std::string first = print(*program);
  auto again = target::nullTarget().assemble(first, "p.txt");
  require(bool(again), "printed text cannot be read");
  require(print(*again) == first, "it prints differently the second time");
  require(again->payload() == program->payload(), "the payload differs");
  require(again->machine == program->machine, "the machine differs");
  llvm::consumeError(target::nullTarget().check(*program).takeError());
  return 0;
}
