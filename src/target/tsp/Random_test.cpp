// Programs at random: checker and execution agree on what is legal and what is wrong, and bursts give what issue by
// issue gives. QUADRILLE_RANDOM_PROGRAMS sets how many are tried, QUADRILLE_RANDOM_FIRST the first seed.
#include "target/tsp/Check.h"
#include "target/tsp/Digest.h"
#include "target/tsp/RandomProgram.h"
#include "target/tsp/Simulate.h"
#include "target/tsp/WellFormed.h"

#include "llvm/ADT/StringExtras.h"

#include "gtest/gtest.h"

#include <cmath>
#include <cstdlib>
#include <numeric>

namespace quadrille::tsp {
namespace {

using target::NamedTensors;

struct Outcome {
  std::string error; // empty: executed
  int64_t cycles = 0;
  NamedTensors outputs;
  std::string report; // tables, counters and sums
};

Outcome outcome(const program::Program &program, const NamedTensors *inputs, bool oneByOne) {
  auto result = execute(program, inputs, {}, oneByOne);
  if (!result) {
    Reported why = report(result.takeError());
    EXPECT_EQ(why.exitCode, static_cast<int>(Fault::User)) << why.message;
    return {why.message, 0, {}, ""};
  }
  // Each cycle of each chip has one cause.
  for (const std::vector<Cycles> &chip : result->timeline.attribution.devices)
    EXPECT_EQ(std::accumulate(chip.begin(), chip.end(), Cycles()), result->timeline.cycles);
  return {"", result->timeline.cycles.value, std::move(result->outputs), reportOf(std::move(result->timeline))};
}

NamedTensors randomInputs(const program::Program &program, Chance &chance) {
  NamedTensors inputs;
  for (const program::Variable &variable : program.variables)
    if (variable.role == program::VariableRole::Input) {
      Tensor tensor = Tensor::uninitialized(variable.type, variable.shape);
      for (int64_t i = 0; i < tensor.elements(); ++i)
        tensor.mutableData<uint8_t>()[i] = static_cast<uint8_t>(chance.next());
      inputs[variable.name] = tensor;
    }
  return inputs;
}

std::string textOf(const program::Program &program) {
  std::string text;
  llvm::raw_string_ostream os(text);
  if (llvm::Error error = target::find("tsp")->disassemble(program, os))
    return report(std::move(error)).message;
  size_t code = text.find(".layout");
  return code == std::string::npos ? text : text.substr(code);
}

// What only contents can show: the checker reads none.
bool showsInContents(const std::string &message) {
  return message.find("map: lane") != std::string::npos || message.find("asks for word") != std::string::npos;
}

struct Counts {
  int64_t programs = 0, legal = 0, single = 0, ofContents = 0, equalDigests = 0;
  std::map<std::string, int64_t> instructions, findings; // in legal programs; by kind
};

struct Trial {
  target::Verdict verdict;
  Outcome outcome;
  std::optional<std::vector<Digest>> digest;
};

Trial tryProgram(const program::Program &program, const Code &code, const Architecture &machine,
                 const NamedTensors &inputs, Counts &counts) {
  ++counts.programs;
  Trial trial{check(program, code, machine), outcome(program, &inputs, false), std::nullopt};
  Outcome oneByOne = outcome(program, &inputs, true), estimate = outcome(program, nullptr, false);
  Outcome exactEstimate = outcome(program, nullptr, true);
  const target::Verdict &verdict = trial.verdict;
  EXPECT_EQ(verdict.legal(), estimate.error.empty())
      << (verdict.legal() ? estimate.error : verdict.findings[0].where + ": " + verdict.findings[0].message);
  EXPECT_EQ(estimate.error, exactEstimate.error);
  EXPECT_EQ(estimate.cycles, exactEstimate.cycles);
  EXPECT_EQ(estimate.report, exactEstimate.report);
  EXPECT_EQ(trial.outcome.error, oneByOne.error);
  EXPECT_EQ(trial.outcome.cycles, oneByOne.cycles);
  if (showsInContents(trial.outcome.error)) {
    ++counts.ofContents;
  } else {
    EXPECT_EQ(trial.outcome.error, estimate.error);
    EXPECT_EQ(trial.outcome.cycles, estimate.cycles);
    EXPECT_EQ(trial.outcome.report, estimate.report);
  }
  if (!verdict.legal()) {
    std::string kind = verdict.findings[0].message;
    llvm::erase_if(kind, [](char c) { return llvm::isDigit(c) || c == '-'; });
    ++counts.findings[kind.substr(0, 24)];
    counts.single += verdict.findings.size() == 1;
    auto is = [&](const target::Finding &finding) {
      return estimate.error == finding.where + ": " + finding.message || estimate.error == finding.message;
    };
    EXPECT_TRUE(is(verdict.findings[0])) << estimate.error << "\nfirst finding:\n"
                                         << verdict.findings[0].where << ": " << verdict.findings[0].message;
    return trial;
  }
  ++counts.legal;
  for (const ChipCode &chip : code.entries[0].chips)
    for (const Queue &queue : chip.queues)
      for (const Instruction &instruction : queue.instructions)
        ++counts.instructions[formOf(instruction.opcode)->mnemonic.str()];
  EXPECT_EQ(trial.outcome.outputs.size(), oneByOne.outputs.size());
  if (oneByOne.error.empty())
    EXPECT_EQ(trial.outcome.report, oneByOne.report);
  for (const auto &[name, tensor] : trial.outcome.outputs)
    EXPECT_TRUE(tensor.bytes() == oneByOne.outputs[name].bytes()) << name;
  trial.digest = digest(program, code, machine);
  EXPECT_TRUE(trial.digest.has_value());
  return trial;
}

int64_t setting(const char *name, int64_t fallback) {
  const char *text = std::getenv(name);
  return text ? std::atoll(text) : fallback;
}

void tryPrograms(const char *machineName, std::vector<std::pair<std::string, std::string>> figures, int64_t chips,
                 int64_t tries, std::vector<int64_t> also = {}) {
  figures.emplace_back("mem.words_per_bank", "256"); // banks are allocated whole
  std::string yaml = machineText(machineName, figures);
  auto machine = Architecture::from(llvm::StringRef(yaml));
  ASSERT_TRUE(bool(machine)) << report(machine.takeError()).message;
  program::Program program = randomBase(yaml, chips, *machine);
  Counts counts;
  int64_t first = setting("QUADRILLE_RANDOM_FIRST", 1);
  std::vector<int64_t> seeds = std::move(also); // of programs that once showed a defect
  for (int64_t i = 0; i < setting("QUADRILLE_RANDOM_PROGRAMS", tries); ++i)
    seeds.push_back(first + i);
  for (int64_t seed : seeds) {
    Chance chance(static_cast<uint64_t>(seed) * 1000003);
    NamedTensors inputs = randomInputs(program, chance);
    RandomCode random(program, *machine, static_cast<uint64_t>(seed));
    Code code = random.take();
    program.setPayload(code.encode());
    Trial original = tryProgram(program, code, *machine, inputs, counts);
    for (int variant = 0; variant < 2 && !testing::Test::HasFailure(); ++variant) {
      Code other = code;
      random.disturb(other);
      if (other == code || !wellFormed(program, other, *machine).empty())
        continue;
      program.setPayload(other.encode());
      Trial changed = tryProgram(program, other, *machine, inputs, counts);
      if (!changed.digest || changed.digest != original.digest || showsInContents(changed.outcome.error) ||
          showsInContents(original.outcome.error))
        continue;
      ++counts.equalDigests;
      for (const auto &[name, tensor] : original.outcome.outputs)
        EXPECT_EQ(tensor.bytes(), changed.outcome.outputs[name].bytes()) << "equal digests, but not equal in " << name;
    }
    if (testing::Test::HasFailure())
      FAIL() << machineName << ", seed " << seed << "\n" << textOf(program);
  }
  std::printf("%s: %lld programs, %lld legal, %lld of one finding, %lld with "
              "a fault in contents, %lld with the digest "
              "of another\n",
              machineName, (long long)counts.programs, (long long)counts.legal, (long long)counts.single,
              (long long)counts.ofContents, (long long)counts.equalDigests);
  if (std::getenv("QUADRILLE_RANDOM_PROGRAMS")) {
    for (const auto &[name, count] : counts.instructions)
      std::printf("  %s %lld\n", name.c_str(), (long long)count);
    for (const auto &[name, count] : counts.findings)
      std::printf("  finding '%s' %lld\n", name.c_str(), (long long)count);
  }
  EXPECT_GE(counts.legal * 10, counts.programs);
}

TEST(TspRandom, OneChip) {
  tryPrograms("unit-tsp", {}, 1, 300);
}
TEST(TspRandom, SeveralQueuesAndPortsOfASlice) {
  tryPrograms("unit-tsp",
              {{"icu.queues_per_mem_slice", "3"},
               {"icu.queues", "200"},
               {"mem.reads_per_cycle", "2"},
               {"mem.banks", "4"},
               {"timing.hop", "3"},
               {"vxm.routing", "[\"relaxed\"]"}},
              1, 300, {107615}); // a write that stays pending does not make an earlier one visible
}
// The least latencies that a machine file may give.
TEST(TspRandom, AtOnce) {
  tryPrograms("unit-tsp",
              {{"icu.queues_per_mem_slice", "2"},
               {"icu.queues", "200"},
               {"timing.dispatch_skew", "0"},
               {"timing.mem_read", "3"}, // longer than a gather, whose access is before its capture
               {"timing.mem_write", "1"},
               {"timing.mem_gather", "1"},
               {"timing.mem_scatter", "1"},
               {"timing.mxm_install", "0"},
               {"timing.mxm_multiply", "1"},
               {"timing.mxm_accumulate", "0"},
               {"timing.vxm_entry", "0"},
               {"timing.sxm_boundary", "0"},
               {"timing.sxm_to_mxm", "0"},
               {"timing.mxm_to_mem", "0"},
               {"timing.vxm_op", "1"},
               {"timing.sxm_shift", "1"},
               {"timing.sxm_distribute", "1"},
               {"icu.barrier", "1"}},
              1, 150);
}
TEST(TspRandom, FourChips) {
  tryPrograms("unit-tsp-node", {}, 4, 250);
}

} // namespace
} // namespace quadrille::tsp
