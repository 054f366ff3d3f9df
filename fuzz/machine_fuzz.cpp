// Machine descriptions come from users and from program files. Whatever the text, parsing ends in a machine or in an
// error, and a machine prints to text that reads back to the same machine.
#include "machine/Machine.h"

#include "llvm/Support/ErrorHandling.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  using quadrille::machine::Machine;
  llvm::StringRef text(reinterpret_cast<const char *>(data), size);
  auto machine = Machine::parse(text, "fuzz");
  if (!machine) {
    llvm::consumeError(machine.takeError());
    return 0;
  }
  auto again = Machine::parse(machine->print(), "printed");
  if (!again)
    llvm::report_fatal_error(again.takeError());
  if (!(*machine == *again))
    llvm::report_fatal_error("a machine changed by printing and parsing");
  return 0;
}
