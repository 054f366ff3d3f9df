#include "machine/Describe.h"

#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace quadrille::machine;
using testing::HasSubstr;

namespace {

const char *text = R"(
name: probe
architecture: gpu
description: "colour \e[31m"
figures:
  peak.f16: {value: 100 TFLOP/s, status: published, source: S}
  peak.f32: {value: 10 TFLOP/s, status: published, source: S}
  memory.bytes: {value: 64 GiB, status: published, source: S}
  memory.bandwidth: {value: 2 TB/s, status: published, source: S}
  share.compute: {value: 0.8, status: calibrated, measurements: [m1], source: S}
  share.memory: {value: 90 %, status: measured, source: S, note: N}
  launch: {value: 15 ns, status: assumed, range: [2 ns, 10 us], source: S}
  power.board: {value: 400 W, status: published, source: S}
)";

std::string described(bool json) {
  std::string result;
  llvm::raw_string_ostream os(result);
  describeMachine(llvm::cantFail(Machine::parse(text, "text")), os, json);
  return result;
}

TEST(Describe, tableIsAlignedGroupedAndMarksAssumedFigures) {
  EXPECT_EQ(described(false), R"(probe (gpu, 1 chip): colour  [31m
  figure            value  unit     status      range       source
peak
  peak.f16          100    TFLOP/s  published               S
  peak.f32          10     TFLOP/s  published               S
memory
  memory.bytes      64     GiB      published               S
  memory.bandwidth  2      TB/s     published               S
share
  share.compute     0.8             calibrated              S [m1]
  share.memory      0.9             measured                S (N)
general
* launch            15     ns       assumed     2 .. 10000  S
power
  power.board       400    W        published               S
8 figures, 1 of them assumed (*)
)");
}

TEST(Describe, jsonHoldsEveryFigure) {
  auto value = llvm::json::parse(described(true));
  ASSERT_TRUE(static_cast<bool>(value)) << llvm::toString(value.takeError());
  const llvm::json::Object *object = value->getAsObject();
  EXPECT_EQ(object->getString("name"), "probe");
  const llvm::json::Array *figures = object->getArray("figures");
  ASSERT_EQ(figures->size(), 8u);
  const llvm::json::Object *launch = (*figures)[6].getAsObject();
  EXPECT_EQ(launch->getString("key"), "launch");
  EXPECT_EQ(launch->getNumber("value"), 15e-9);
  EXPECT_EQ(launch->getString("unit"), "s");
  EXPECT_EQ(launch->getString("status"), "assumed");
  EXPECT_EQ((*launch->getArray("range"))[1].getAsNumber(), 10e-6);
  EXPECT_EQ(launch->getString("meaning"), "Time per kernel launch");
}

TEST(Describe, listsAllMachines) {
  std::string table, json;
  llvm::raw_string_ostream tableStream(table), jsonStream(json);
  describeMachines(tableStream, false);
  describeMachines(jsonStream, true);
  EXPECT_THAT(table, HasSubstr("\ngroqrack       tsp           72 "));
  auto value = llvm::json::parse(json);
  ASSERT_TRUE(static_cast<bool>(value)) << llvm::toString(value.takeError());
  EXPECT_EQ(value->getAsArray()->size(), machineNames().size());
  for (const llvm::json::Value &machine : *value->getAsArray())
    EXPECT_FALSE(machine.getAsObject()->get("error"));
}

// Every machine's table and JSON can be written.
TEST(Describe, everyMachine) {
  for (const std::string &name : machineNames()) {
    Machine machine = llvm::cantFail(Machine::load(name));
    std::string table, json;
    llvm::raw_string_ostream tableStream(table), jsonStream(json);
    describeMachine(machine, tableStream, false);
    describeMachine(machine, jsonStream, true);
    EXPECT_THAT(table, HasSubstr(std::to_string(machine.figures().size()) + " figures"));
    auto value = llvm::json::parse(json);
    ASSERT_TRUE(static_cast<bool>(value)) << name << ": " << llvm::toString(value.takeError());
    EXPECT_EQ(value->getAsObject()->getArray("figures")->size(), machine.figures().size());
  }
}

} // namespace
