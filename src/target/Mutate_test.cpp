#include "target/Mutate.h"

#include "base/Error.h"

#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quadrille::target {
namespace {

using testing::HasSubstr;

// A machine with y = x + addend, whose other fields bring about each outcome. Mutation n adds one to field n.
enum Field : uint64_t {
  Addend,      // a wrong value
  Delay,       // takes cycles, in estimate and simulation
  Unused,      // proven benign
  Hazardous,   // stops the simulation
  Illegal,     // refused by check
  HiddenDelay, // takes cycles in the simulation only
  Flaky,       // adds a number that differs from run to run
  Forgotten,   // must matter, but the simulator ignores it
  Large,       // adds one where x exceeds 1, which input 0 never does
  Endless,     // takes 2^30 cycles
  Defective,   // an internal error
  WronglyBenign,
  fields
};

class Toy : public Target {
public:
  llvm::StringRef name() const override { return "toy"; }
  Support supports(const graph::KernelGraph &, const graph::Kernel &, const machine::Machine &) const override {
    return Support::yes();
  }
  llvm::Expected<std::unique_ptr<Plan>> plan(const graph::KernelGraph &, const machine::Machine &,
                                             const CompileOptions &) const override {
    return nullptr;
  }
  llvm::Expected<program::Program> emit(const graph::KernelGraph &, const Plan &,
                                        const machine::Machine &) const override {
    return program::Program();
  }
  llvm::Error disassemble(const program::Program &, llvm::raw_ostream &) const override {
    return llvm::Error::success();
  }
  llvm::Expected<program::Program> assemble(llvm::StringRef, llvm::StringRef) const override {
    return program::Program();
  }

  static int64_t field(const program::Program &program, Field field) {
    return std::to_integer<int64_t>(program.payload()[field]);
  }
  llvm::Expected<Verdict> check(const program::Program &program) const override {
    Verdict verdict;
    if (field(program, Illegal))
      verdict.findings.push_back({"toy", "illegal"});
    return verdict;
  }
  llvm::Expected<timeline::Timeline> estimate(const program::Program &program, llvm::StringRef) const override {
    timeline::Timeline timeline;
    timeline.clockHertz = 1e9;
    timeline.cycles = Cycles(10 + field(program, Delay) + (field(program, Endless) << 30));
    return timeline;
  }
  llvm::Expected<RunResult> simulate(const program::Program &program, const NamedTensors &inputs,
                                     const RunOptions &) const override {
    ++runs;
    if (field(program, Hazardous))
      return mismatchError("two drivers on one stream");
    if (field(program, Defective))
      return internalError("surprise");
    float x = inputs.at("x").data<float>()[0];
    float y = x + static_cast<float>(field(program, Addend) + field(program, WronglyBenign)) +
              static_cast<float>(field(program, Flaky) * runs) + static_cast<float>(x > 1 ? field(program, Large) : 0);
    RunResult result;
    result.timeline = llvm::cantFail(estimate(program, ""));
    result.timeline.cycles += Cycles(field(program, HiddenDelay));
    result.outputs.emplace("y", Tensor::of<float>(ElementType::f32, {1}, {y}));
    return result;
  }
  llvm::Expected<Mutation> mutate(const program::Program &program, uint64_t seed) const override {
    Mutation mutation;
    mutation.description = "field " + std::to_string(seed);
    mutation.program = program;
    std::vector<std::byte> payload = program.payload().vec();
    payload[seed] = std::byte(std::to_integer<uint8_t>(payload[seed]) + 1);
    mutation.program.setPayload(payload);
    if (seed == Forgotten || seed == Addend)
      mutation.effect = MutationEffect::MustMatter;
    if (seed == Unused || seed == WronglyBenign) {
      mutation.effect = MutationEffect::Benign;
      mutation.reason = "nothing reads it";
    }
    return mutation;
  }
  mutable int runs = 0;
};

program::Program toyProgram() {
  program::Program program;
  program.setPayload(std::vector<std::byte>(fields, std::byte(0)));
  return program;
}

MutateOptions toyOptions() {
  MutateOptions options;
  options.seed = 0;
  options.count = fields;
  options.inputs = [](uint64_t number) -> llvm::Expected<NamedTensors> {
    NamedTensors inputs;
    inputs.emplace("x", Tensor::of<float>(ElementType::f32, {1}, {static_cast<float>(number)}));
    return inputs;
  };
  return options;
}

TEST(Mutate, EveryOutcome) {
  auto report = mutateAll(Toy(), toyProgram(), toyOptions());
  ASSERT_TRUE(bool(report)) << quadrille::report(report.takeError()).message;
  auto expectOutcome = [&](Field field, Outcome outcome, const char *reason) {
    EXPECT_EQ(nameOf(report->results[field].outcome), nameOf(outcome)) << report->results[field].description;
    EXPECT_THAT(report->results[field].reason, HasSubstr(reason));
  };
  // Input 0 is 0, so y goes from 0 to 1: the reference is all zero and the error 1 is the figure itself.
  expectOutcome(Addend, Outcome::WrongValue, "output 'y' differs, relative L2 1");
  expectOutcome(Delay, Outcome::Benign, "equal outputs on 3 inputs; 11 instead of 10 cycles");
  expectOutcome(Unused, Outcome::Benign, "nothing reads it; the same cycles");
  EXPECT_TRUE(report->results[Unused].proven);
  EXPECT_FALSE(report->results[Delay].proven);
  expectOutcome(Hazardous, Outcome::Hazard, "two drivers on one stream");
  expectOutcome(Illegal, Outcome::Check, "toy: illegal");
  expectOutcome(HiddenDelay, Outcome::Silent, "estimate says 10 cycles and simulation took 11");
  expectOutcome(Flaky, Outcome::Silent, "two runs on the same inputs differ: output 'y'");
  expectOutcome(Forgotten, Outcome::Silent, "although the field must matter");
  // x = 2 on input 2: y goes from 2 to 3.
  expectOutcome(Large, Outcome::WrongValue, "relative L2 0.5");
  expectOutcome(Endless, Outcome::Hazard, "watchdog: 1073741834 cycles instead of 10");
  expectOutcome(Defective, Outcome::Silent, "internal error in simulate: surprise");
  expectOutcome(WronglyBenign, Outcome::Silent, "holds it for benign: nothing reads it");
  EXPECT_EQ(report->count(Outcome::Silent), 5);
  EXPECT_EQ(report->provenBenign(), 1);
  EXPECT_FALSE(report->passed());
}

TEST(Mutate, ReportIsTextAndJson) {
  MutateOptions options = toyOptions();
  options.count = Delay + 1;
  options.tolerance = 1;
  auto report = mutateAll(Toy(), toyProgram(), options);
  ASSERT_TRUE(bool(report));
  EXPECT_TRUE(report->passed());
  std::string text, json;
  llvm::raw_string_ostream textStream(text), jsonStream(json);
  report->print(textStream);
  EXPECT_EQ(text, "2 mutations, seed 0\n"
                  "  check             0\n"
                  "  hazard            0\n"
                  "  wrong value       1   (1 within the tolerance 1 of run --check)\n"
                  "  benign            1   (0 proven, the others by equal outputs on 3 inputs)\n"
                  "  silent            0\n");
  report->writeJson(jsonStream);
  auto parsed = llvm::json::parse(json);
  ASSERT_TRUE(bool(parsed));
  EXPECT_EQ(parsed->getAsObject()->getInteger("wrong_value"), 1);
  EXPECT_EQ(parsed->getAsObject()->getArray("mutations")->size(), 2u);
}

TEST(Mutate, ProgramThatDoesNotRunIsAnError) {
  program::Program program = toyProgram();
  std::vector<std::byte> payload = program.payload().vec();
  payload[Hazardous] = std::byte(1);
  program.setPayload(payload);
  auto report = mutateAll(Toy(), program, toyOptions());
  EXPECT_EQ(quadrille::report(report.takeError()).message, "two drivers on one stream");
  payload[Hazardous] = std::byte(0);
  payload[HiddenDelay] = std::byte(1);
  program.setPayload(payload);
  EXPECT_EQ(quadrille::report(mutateAll(Toy(), program, toyOptions()).takeError()).exitCode, 70);
}

} // namespace
} // namespace quadrille::target
