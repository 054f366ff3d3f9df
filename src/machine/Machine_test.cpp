#include "machine/Machine.h"

#include "base/Error.h"
#include "machine/Schema.h"

#include "llvm/ADT/StringExtras.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

using namespace quadrille;
using namespace quadrille::machine;
using testing::Contains;
using testing::HasSubstr;

namespace {

std::string messageOf(llvm::Error error, int expectedCode = 2) {
  Reported reported = report(std::move(error));
  EXPECT_EQ(reported.exitCode, expectedCode) << reported.message;
  return reported.message;
}

// A complete description of the smallest architecture that has numbers, with one line replaced by the caller.
std::string gpuWith(llvm::StringRef key, llvm::StringRef line) {
  const std::pair<llvm::StringRef, llvm::StringRef> lines[] = {
      {"peak.f16", "{value: 100 TFLOP/s, status: published, source: S}"},
      {"peak.f32", "{value: 10 TFLOP/s, status: published, source: S}"},
      {"memory.bytes", "{value: 80 GB, status: published, source: S}"},
      {"memory.bandwidth", "{value: 2 TB/s, status: published, source: S}"},
      {"share.compute", "{value: 0.8, status: measured, source: S}"},
      {"share.memory", "{value: 90 %, status: measured, source: S}"},
      {"launch", "{value: 5 us, status: assumed, range: [2 us, 10 us], source: S}"},
      {"power.board", "{value: 400 W, status: published, source: S}"}};
  std::string text = "name: test\narchitecture: gpu\nfigures:\n";
  for (auto [name, value] : lines)
    if (name == key)
      text += line.empty() ? "" : ("  " + line + "\n").str();
    else
      text += ("  " + name + ": " + value + "\n").str();
  return text;
}

TEST(Machine, everyFileLoadsAndPrintsToAnEqualMachine) {
  std::vector<std::string> names = machineNames();
  for (const char *expected :
       {"groqcard", "groqnode",  "groqrack", "gc200",    "bow-ipu",  "bow-pod16", "bow-pod64", "sn10",
        "sn30",     "sn30-node", "sn40l",    "cs2",      "cs3",      "a100",      "h100",      "h200",
        "host",     "null",      "unit-tsp", "unit-ipu", "unit-rdu", "unit-wse"})
    EXPECT_THAT(names, Contains(expected));
  for (const std::string &name : names) {
    auto machine = Machine::load(name);
    if (!machine) {
      ADD_FAILURE() << messageOf(machine.takeError());
      continue;
    }
    EXPECT_EQ(machine->name(), name);
    EXPECT_FALSE(machine->description().empty()) << name;
    auto again = Machine::parse(machine->print(), "printed");
    if (!again) {
      ADD_FAILURE() << name << ": " << messageOf(again.takeError());
      continue;
    }
    EXPECT_TRUE(*machine == *again) << name;
    EXPECT_EQ(machine->print(), again->print()) << name;
  }
}

TEST(Machine, everyArchitectureHasASchemaAndAMachine) {
  std::vector<std::string> used;
  for (const std::string &name : machineNames())
    used.push_back(llvm::cantFail(Machine::load(name)).architecture());
  for (const std::string &architecture : architectures()) {
    auto schema = schemaOf(architecture);
    ASSERT_TRUE(static_cast<bool>(schema)) << messageOf(schema.takeError());
    EXPECT_EQ((*schema)->architecture, architecture);
    EXPECT_THAT(used, Contains(architecture));
  }
}

TEST(Machine, readsFigures) {
  Machine machine = llvm::cantFail(Machine::parse(gpuWith("", ""), "test.yaml"));
  EXPECT_EQ(machine.name(), "test");
  EXPECT_EQ(machine.chips(), 1);
  EXPECT_EQ(machine.bytes("memory.bytes"), Bytes(80'000'000'000));
  EXPECT_EQ(machine.real("launch"), 5e-6);
  EXPECT_EQ(machine.real("share.memory"), 0.9);
  const Figure *launch = machine.find("launch");
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->unit, "s");
  EXPECT_EQ(launch->status, Status::Assumed);
  EXPECT_EQ(launch->range, std::make_pair(2e-6, 10e-6));
  EXPECT_EQ(machine.find("no.such"), nullptr);
}

TEST(MachineDeath, refusesKeysThatTheSchemaDoesNotHave) {
  Machine machine = llvm::cantFail(Machine::parse(gpuWith("", ""), "test.yaml"));
  EXPECT_DEATH(machine.integer("no.such"), "has no figure 'no.such'");
  EXPECT_DEATH(machine.cycles("memory.bytes"), "is in bytes, not in cycles");
  EXPECT_DEATH(machine.integer("share.compute"), "not a whole number");
}

TEST(Machine, keepsNotesMeasurementsAndOddTexts) {
  Machine machine = llvm::cantFail(Machine::parse(
      gpuWith("share.compute",
              "share.compute: {value: 0.7, status: calibrated, source: \"a \\\"b\\\" \\t \\u00e9: {x}\", "
              "measurements: [m-1, 'm 2'], note: \"line\\nline\", range: [0.5, 0.9]}"),
      "test.yaml"));
  const Figure &figure = *machine.find("share.compute");
  EXPECT_EQ(figure.source, "a \"b\" \t \xc3\xa9: {x}");
  EXPECT_EQ(figure.note, "line\nline");
  EXPECT_EQ(figure.measurements, (std::vector<std::string>{"m-1", "m 2"}));
  EXPECT_TRUE(machine == llvm::cantFail(Machine::parse(machine.print(), "printed")));
}

struct Malformed {
  std::string text;
  const char *message;
};

TEST(Machine, malformedTexts) {
  const Malformed rows[] = {
      {"", "test.yaml:1: a map of keys and values is expected"},
      {"- a\n", "a map of keys and values is expected"},
      {"name: [\n", "not YAML"},
      {"name: x\n---\nname: y\n", "more than one YAML document"},
      {"name: &a x\ndescription: *a\n", "anchors and aliases are not supported"},
      {"name: !!str x\n", "tags are not supported"},
      {"name: x\nname: y\n", "test.yaml:2: 'name' is given twice"},
      {"name:\n", "'name' has no value"},
      {std::string("name: \xff\n"), "not UTF-8 text"},
      {std::string("name: \x01\n"), "a control character in the text"},
      {"a: [[[[[[[[[[1]]]]]]]]]]\n", "nested more than 8 levels deep"},
      {"a: [x" + std::string(100'000, ',') + "]\n", "commas without anything between them"},
      {"a: [x" + llvm::join(std::vector<std::string>(1000, ", #y"), "\n") + "\n]\n", "commas without anything"},
      {"a: ['x #'" + std::string(100'000, ',') + "]\n", "commas without anything"},
      {"nam: x\n", "unknown key 'nam' in a machine description; did you mean 'name'?"},
      {"architecture: gpu\n", "the machine has no 'name'"},
      {"name: ../x\narchitecture: gpu\n", "'../x' is not a name for a machine"},
      {"name: x\n", "the machine has no 'architecture'; known: gpu, host, ipu, null, rdu, tsp, wse"},
      {"name: x\narchitecture: gpo\n", "unknown architecture 'gpo'; did you mean 'gpu'?"},
      {"name: x\narchitecture: gpu\nchips: 0\n", "'chips' must be a whole number from 1"},
      {"name: x\narchitecture: gpu\nchip: {name: h100}\n", "must be self-contained"},
      {"name: x\narchitecture: gpu\nfigures: [1]\n", "'figures' must be a map"},
      {gpuWith("launch", ""), "machine 'test' has no figure launch"},
      {"name: x\narchitecture: tsp\nfigures: {}\n", "has no figure clock, geometry.superlanes"},
      {gpuWith("launch", "lunch: {value: 5 us, status: measured, source: S}"),
       "test.yaml:10: figure 'lunch': the schema of 'gpu' has no such figure; did you mean 'launch'?"},
      {gpuWith("launch", "launch: 5 us"), "the figure must be a map"},
      {gpuWith("launch", "launch: {valu: 5 us}"), "unknown key 'valu' in the figure; did you mean 'value'?"},
      {gpuWith("launch", "launch: {status: measured, source: S}"), "figure 'launch': no value"},
      {gpuWith("launch", "launch: {value: 5 us, status: measured}"), "figure 'launch': no source; say where"},
      {gpuWith("launch", "launch: {value: 5 us, source: S}"), "figure 'launch': no status; known: published"},
      {gpuWith("launch", "launch: {value: 5 us, source: S, status: guessed}"), "unknown status 'guessed'; known:"},
      {gpuWith("launch", "launch: {value: 5 us, source: S, status: assumed}"), "an assumed figure has no range"},
      {gpuWith("launch", "launch: {value: 5 us, source: S, status: calibrated}"), "names no measurements"},
      {gpuWith("launch", "launch: {value: 5, source: S, status: measured}"),
       "'5' has no unit; write for example '1 s'"},
      {gpuWith("launch", "launch: {value: 5 W, source: S, status: measured}"),
       "unit 'W' does not measure what this figure is; units that do: s, ms, us, ns, ps"},
      {gpuWith("launch", "launch: {value: fast, source: S, status: measured}"), "'fast' is not a number with a unit"},
      {gpuWith("launch", "launch: {value: inf s, source: S, status: measured}"), "is not a number with a unit"},
      {gpuWith("launch", "launch: {value: [1 s, 2 s], source: S, status: measured}"), "a value must be a single value"},
      {gpuWith("launch", "launch: {value: 2 s, source: S, status: measured}"), "outside the schema's bounds [0, 1] s"},
      {gpuWith("launch", "launch: {value: 5 us, source: S, status: assumed, range: [6 us, 9 us]}"),
       "the value 5e-06 is outside its range [6e-06, 9e-06] s"},
      {gpuWith("launch", "launch: {value: 5 us, source: S, status: assumed, range: [1 us, 4 us]}"),
       "the value 5e-06 is outside its range [1e-06, 4e-06] s; widen the range or correct the value"},
      {gpuWith("launch", "launch: {value: 5 us, source: S, status: assumed, range: [9 us, 1 us]}"),
       "the range ends below its beginning"},
      {gpuWith("launch", "launch: {value: 5 us, source: S, status: assumed, range: 9 us}"),
       "the range must be [LOWEST, HIGHEST]"},
      {gpuWith("memory.bytes", "memory.bytes: {value: 1.5 bytes, source: S, status: measured}"),
       "'1.5 bytes' is not a whole number of bytes"},
  };
  for (const Malformed &row : rows) {
    auto machine = Machine::parse(row.text, "test.yaml");
    if (machine) {
      ADD_FAILURE() << "accepted, but expected: " << row.message << "\n" << row.text;
      continue;
    }
    EXPECT_THAT(messageOf(machine.takeError()), HasSubstr(row.message)) << row.text;
  }
}

TEST(Machine, checksListsAgainstOtherFigures) {
  Machine unit = llvm::cantFail(Machine::load("unit-tsp"));
  auto replaced = [&](llvm::StringRef key, llvm::StringRef line) {
    std::string text = unit.print();
    size_t begin = text.find(("\n  " + key + ":").str()) + 1;
    return text.replace(begin, text.find('\n', begin) - begin, ("  " + key + ": " + line).str());
  };
  auto shorter =
      Machine::parse(replaced("vxm.input_stages", "{value: [0, 2], source: S, status: measured}"), "test.yaml");
  ASSERT_FALSE(static_cast<bool>(shorter));
  EXPECT_THAT(
      messageOf(shorter.takeError()),
      HasSubstr("figure 'vxm.input_stages': a list of 2 values; 4 are expected, the product of vxm.alu_columns"));
  auto beyond =
      Machine::parse(replaced("mem.reserved_west", "{value: [16], source: S, status: measured}"), "test.yaml");
  ASSERT_FALSE(static_cast<bool>(beyond));
  EXPECT_THAT(messageOf(beyond.takeError()), HasSubstr("the value 16 is not below 16, the mem.slices"));
  auto name = Machine::parse(replaced("system.topology", "{value: [ring], source: S, status: measured}"), "test.yaml");
  ASSERT_FALSE(static_cast<bool>(name));
  EXPECT_THAT(messageOf(name.takeError()),
              HasSubstr("unknown name 'ring'; known: single, mesh, dragonfly, rotational"));
}

TEST(Machine, unknownNames) {
  auto machine = Machine::load("groqkard");
  ASSERT_FALSE(static_cast<bool>(machine));
  EXPECT_THAT(messageOf(machine.takeError()),
              HasSubstr("unknown machine 'groqkard'; did you mean 'groqcard'? known: a100, bow-ipu"));
  auto path = Machine::load("/no/such/machine.yaml");
  ASSERT_FALSE(static_cast<bool>(path));
  EXPECT_THAT(messageOf(path.takeError()), HasSubstr("/no/such/machine.yaml"));
}

// Files of a user beside the installed ones.
class MachineFiles : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "quadrille-machines-XXXXXX").string();
    ASSERT_TRUE(mkdtemp(pattern.data()));
    directory = pattern;
  }
  void TearDown() override {
    unsetenv("QUADRILLE_MACHINES");
    std::filesystem::remove_all(directory);
  }
  std::string write(const std::string &name, const std::string &text) {
    std::ofstream(directory / name) << text;
    return (directory / name).string();
  }
  std::filesystem::path directory;
};

TEST_F(MachineFiles, buildOnAnotherMachine) {
  std::string path = write("fast.yaml", "chip: {name: groqcard, count: 3}\n"
                                        "defaults: {status: assumed, source: what if}\n"
                                        "figures:\n  clock: {value: 1 GHz, range: [0.9 GHz, 1.25 GHz]}\n");
  Machine fast = llvm::cantFail(Machine::load(path));
  Machine card = llvm::cantFail(Machine::load("groqcard"));
  EXPECT_EQ(fast.name(), "fast");
  EXPECT_EQ(fast.architecture(), "tsp");
  EXPECT_EQ(fast.chips(), 3);
  EXPECT_EQ(fast.real("clock"), 1e9);
  EXPECT_EQ(fast.find("clock")->source, "what if");
  EXPECT_EQ(fast.integer("timing.vxm_op"), card.integer("timing.vxm_op"));
  EXPECT_EQ(fast.figures().size(), card.figures().size());
  // Counts multiply along the chain.
  write("double.yaml", "chip: {name: fast, count: 2}\n");
  setenv("QUADRILLE_MACHINES", directory.c_str(), 1);
  EXPECT_EQ(llvm::cantFail(Machine::load("double")).chips(), 6);
  EXPECT_THAT(machineNames(), Contains("double"));
}

TEST_F(MachineFiles, shadowInstalledOnesByName) {
  write("h100.yaml", gpuWith("", ""));
  EXPECT_EQ(llvm::cantFail(Machine::load("h100")).real("peak.f16"), 989e12);
  setenv("QUADRILLE_MACHINES", ("/no/such:" + directory.string()).c_str(), 1);
  EXPECT_EQ(llvm::cantFail(Machine::load("h100")).real("peak.f16"), 100e12);
}

TEST_F(MachineFiles, cannotLeaveTheDirectoryOrLoop) {
  const std::pair<const char *, const char *> rows[] = {
      {"chip: {name: ../secret}\n", "'../secret' is not the name of a machine"},
      {"chip: {name: /etc/passwd}\n", "is not the name of a machine"},
      {"chip: {name: .hidden}\n", "is not the name of a machine"},
      {"chip: {name: loop}\n", "'chip' leads back to this machine"},
      {"chip: {name: nothing-here}\n", "unknown machine 'nothing-here'"},
      {"chip: {count: 3}\n", "'chip' has no 'name'"},
      {"chip: {name: groqcard, count: 0}\n", "'count' must be a whole number"},
      {"chip: {name: groqrack, count: 1000000}\n", "more than 1048576 chips"},
      {"chip: {name: groqcard}\nchips: 2\n", "both 'chip' and 'chips'"},
      {"architecture: ipu\nchip: {name: groqcard}\n", "architecture 'ipu' differs from that of the chip, 'tsp'"},
  };
  for (auto [text, message] : rows) {
    auto machine = Machine::load(write("loop.yaml", text));
    ASSERT_FALSE(static_cast<bool>(machine)) << text;
    EXPECT_THAT(messageOf(machine.takeError()), HasSubstr(message)) << text;
  }
}

TEST(Schema, malformedTexts) {
  const Malformed rows[] = {
      {"architecture: x\nfigures: {}\n", "the schema has no 'description'"},
      {"architecture: x\ndescription: d\nfigures:\n  a: {kind: complex, meaning: m}\n", "kind 'complex'"},
      {"architecture: x\ndescription: d\nfigures:\n  a: {kind: real, meaning: m}\n", "has no 'unit'"},
      {"architecture: x\ndescription: d\nfigures:\n  a: {kind: real, unit: ell, meaning: m}\n", "unknown unit 'ell'"},
      {"architecture: x\ndescription: d\nfigures:\n  a: {kind: real, unit: s, meaning: m}\n", "needs bounds"},
      {"architecture: x\ndescription: d\nfigures:\n  a: {kind: real, unit: s, bounds: [2, 1], meaning: m}\n",
       "needs bounds"},
      {"architecture: x\ndescription: d\nfigures:\n  \"a.{b,c\": {kind: names, meaning: m}\n", "braces do not match"},
      {"architecture: x\ndescription: d\nfigures:\n  \"a.{b,b}\": {kind: names, meaning: m}\n", "described twice"},
      {"architecture: x\ndescription: d\nfigures:\n  a: {kind: names, length: [b], meaning: m}\n",
       "refers to 'b', which is not a required integer figure"},
  };
  for (const Malformed &row : rows) {
    auto schema = parseSchema(row.text, "x.yaml");
    ASSERT_FALSE(static_cast<bool>(schema)) << row.text;
    EXPECT_THAT(messageOf(schema.takeError()), HasSubstr(row.message)) << row.text;
  }
}

TEST(Schema, bracesStandForSeveralKeys) {
  Schema schema = llvm::cantFail(parseSchema("architecture: x\ndescription: d\nfigures:\n"
                                             "  \"a.{b, c}.{d,e}\": {kind: names, meaning: m}\n",
                                             "x.yaml"));
  std::vector<std::string> keys;
  for (const SchemaFigure &figure : schema.figures)
    keys.push_back(figure.key);
  EXPECT_EQ(keys, (std::vector<std::string>{"a.b.d", "a.b.e", "a.c.d", "a.c.e"}));
}

} // namespace
