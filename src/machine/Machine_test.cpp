#include "machine/Machine.h"

#include <gtest/gtest.h>

#include "llvm/Support/raw_ostream.h"

using namespace quadrille;
using namespace quadrille::machine;

TEST(Machine, loadsAll) {
  for (const std::string &name : machineNames()) {
    auto machine = Machine::load(name);
    if (!machine) {
      ADD_FAILURE() << llvm::toString(machine.takeError());
      continue;
    }
    std::string text = machine->print();
    auto again = Machine::parse(text, "printed");
    if (!again) {
      ADD_FAILURE() << llvm::toString(again.takeError());
      continue;
    }
    EXPECT_TRUE(*machine == *again);
  }
}
