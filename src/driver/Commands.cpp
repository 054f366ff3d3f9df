#include "driver/Commands.h"

#include "driver/Compilation.h"
#include "machine/Describe.h"

#include "llvm/Support/raw_ostream.h"

namespace quadrille::driver {

llvm::Error machinesCommand(const MachinesArguments &arguments) {
  if (arguments.name.empty()) {
    machine::describeMachines(llvm::outs(), arguments.json);
    return llvm::Error::success();
  }
  auto machine = machine::Machine::load(arguments.name);
  if (!machine)
    return machine.takeError();
  machine::describeMachine(*machine, llvm::outs(), arguments.json);
  return llvm::Error::success();
}

} // namespace quadrille::driver
