#include "target/Mutate.h"

#include "base/Error.h"
#include "target/Compare.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>
#include <limits>

namespace quadrille::target {

llvm::StringRef nameOf(Outcome outcome) {
  switch (outcome) {
  case Outcome::Check:
    return "check";
  case Outcome::Hazard:
    return "hazard";
  case Outcome::WrongValue:
    return "wrong value";
  case Outcome::Benign:
    return "benign";
  case Outcome::Silent:
    return "silent";
  }
  return "";
}

namespace {

// Outputs equal on one input may be luck: a mutation is called benign after this many.
constexpr uint64_t inputSets = 3;
// Cycles that a short program may take beyond the watchdog's factor.
constexpr int64_t watchdogSlack = 1 << 20;

struct Difference {
  std::string output; // empty: none
  std::string what;
  double relativeL2 = 0;
};

// The worst difference of `outputs` from `reference`, bit by bit.
Difference differenceOf(const NamedTensors &outputs, const NamedTensors &reference) {
  Difference worst;
  for (const auto &[name, wanted] : reference) {
    Difference here{name, "", std::numeric_limits<double>::infinity()};
    auto it = outputs.find(name);
    if (it == outputs.end()) {
      here.what = "is missing";
    } else if (it->second.type() != wanted.type() || it->second.shape() != wanted.shape()) {
      here.what =
          "is " + describe(it->second.type(), it->second.shape()) + ", was " + describe(wanted.type(), wanted.shape());
    } else if (!bitwiseEqual(it->second, wanted)) {
      here.relativeL2 = compare(it->second, wanted).relativeL2;
      llvm::raw_string_ostream(here.what) << llvm::format("differs, relative L2 %.3g", here.relativeL2);
    } else {
      continue;
    }
    if (worst.output.empty() || here.relativeL2 > worst.relativeL2)
      worst = std::move(here);
  }
  for (const auto &[name, tensor] : outputs)
    if (!reference.count(name) && worst.output.empty())
      worst = {name, "is new", std::numeric_limits<double>::infinity()};
  return worst;
}

class Mutator {
public:
  Mutator(const Target &target, const program::Program &program, const MutateOptions &options)
      : target(target), program(program), options(options) {}

  // Runs the program as it is.
  llvm::Error prepare() {
    auto verdict = target.check(program);
    if (!verdict)
      return verdict.takeError();
    if (!verdict->legal())
      return mismatchError("the program to mutate is not legal: " + verdict->findings[0].where + ": " +
                           verdict->findings[0].message);
    auto all = target.mutations(program);
    if (!all)
      return all.takeError();
    mutations = std::move(*all);
    auto estimate = target.estimate(program, options.entryPoint);
    if (!estimate)
      return estimate.takeError();
    estimatedCycles = estimate->cycles;
    if (llvm::Error error = reference(0).takeError())
      return error;
    if (hasClock && cycles != estimatedCycles)
      return internalError("estimate says " + llvm::Twine(estimatedCycles.value) +
                           " cycles for the unmutated program, simulation took " + llvm::Twine(cycles.value));
    return llvm::Error::success();
  }

  llvm::Expected<MutationResult> tryMutation(uint64_t seed) {
    auto mutation = mutations->make(seed);
    if (!mutation)
      return mutation.takeError();
    if (mutation->program.payload() == program.payload())
      return internalError("mutation " + llvm::Twine(seed) + " (" + mutation->description +
                           ") leaves the program as it was");
    MutationResult result;
    result.seed = seed;
    result.description = mutation->description;
    if (llvm::Error error = classify(*mutation, result))
      return error;
    return result;
  }

  Cycles cyclesOfProgram() const { return cycles; }

private:
  // A diagnosed error is a good outcome, unless it says that it is a defect.
  static void fromError(llvm::Error error, Outcome outcome, llvm::StringRef stage, MutationResult &result) {
    Reported reported = report(std::move(error));
    bool defect = reported.exitCode == static_cast<int>(Fault::Internal);
    result.outcome = defect ? Outcome::Silent : outcome;
    result.reason = (defect ? "internal error in " + stage + ": " : llvm::Twine()).str() + reported.message;
  }

  // Errors are those of the unmutated program, which cannot occur any more, and of the inputs.
  llvm::Error classify(Mutation &mutation, MutationResult &result) {
    auto verdict = target.check(mutation.program);
    if (!verdict) {
      fromError(verdict.takeError(), Outcome::Check, "check", result);
      return llvm::Error::success();
    }
    if (!verdict->legal()) {
      result.outcome = Outcome::Check;
      result.reason = verdict->findings[0].where + ": " + verdict->findings[0].message;
      return llvm::Error::success();
    }
    auto estimate = target.estimate(mutation.program, options.entryPoint);
    if (!estimate) {
      fromError(estimate.takeError(), Outcome::Hazard, "estimate", result);
      return llvm::Error::success();
    }
    if (hasClock && estimate->cycles.value / watchdogFactor > cycles.value + watchdogSlack / watchdogFactor) {
      result.outcome = Outcome::Hazard;
      result.reason = ("watchdog: " + llvm::Twine(estimate->cycles.value) + " cycles instead of " +
                       llvm::Twine(cycles.value) + ", not simulated")
                          .str();
      return llvm::Error::success();
    }
    for (uint64_t set = 0; set < inputSets; ++set) {
      auto wanted = reference(set);
      if (!wanted)
        return wanted.takeError();
      const NamedTensors &inputs = inputsOf[set];
      auto run = target.simulate(mutation.program, inputs, runOptions());
      if (!run) {
        fromError(run.takeError(), Outcome::Hazard, "simulate", result);
        return llvm::Error::success();
      }
      if (hasClock && run->timeline.cycles != estimate->cycles) {
        result.outcome = Outcome::Silent;
        result.reason = ("check passes, but estimate says " + llvm::Twine(estimate->cycles.value) +
                         " cycles and simulation took " + llvm::Twine(run->timeline.cycles.value))
                            .str();
        return llvm::Error::success();
      }
      Difference difference = differenceOf(run->outputs, **wanted);
      if (!difference.output.empty()) {
        mutations->prove(mutation);
        wrongValue(mutation, inputs, *run, difference, result);
        return llvm::Error::success();
      }
    }
    mutations->prove(mutation);
    equalOutputs(mutation, estimate->cycles, result);
    return llvm::Error::success();
  }

  // A wrong value must at least be the program's own: running it again gives it again.
  void wrongValue(const Mutation &mutation, const NamedTensors &inputs, const RunResult &first,
                  const Difference &difference, MutationResult &result) {
    auto again = target.simulate(mutation.program, inputs, runOptions());
    if (!again) {
      result.outcome = Outcome::Silent;
      result.reason = "ran once, then failed on the same inputs: " + report(again.takeError()).message;
      return;
    }
    if (Difference change = differenceOf(again->outputs, first.outputs); !change.output.empty()) {
      result.outcome = Outcome::Silent;
      result.reason = "two runs on the same inputs differ: output '" + change.output + "' " + change.what;
      return;
    }
    if (mutation.effect == MutationEffect::Benign) {
      result.outcome = Outcome::Silent;
      result.reason = "output '" + difference.output + "' " + difference.what +
                      ", although the target holds it for benign: " + mutation.reason;
      return;
    }
    result.outcome = Outcome::WrongValue;
    result.reason = "output '" + difference.output + "' " + difference.what;
    result.relativeL2 = difference.relativeL2;
  }

  void equalOutputs(const Mutation &mutation, Cycles mutatedCycles, MutationResult &result) {
    if (mutation.effect == MutationEffect::MustMatter) {
      result.outcome = Outcome::Silent;
      result.reason =
          "the outputs are equal on " + std::to_string(inputSets) + " inputs, although the field must matter";
      if (!mutation.reason.empty())
        result.reason += ": " + mutation.reason;
      return;
    }
    result.outcome = Outcome::Benign;
    result.proven = mutation.effect == MutationEffect::Benign;
    std::string time = mutatedCycles == cycles ? "the same cycles"
                                               : std::to_string(mutatedCycles.value) + " instead of " +
                                                     std::to_string(cycles.value) + " cycles";
    result.reason =
        (result.proven ? mutation.reason : "equal outputs on " + std::to_string(inputSets) + " inputs") + "; " + time;
  }

  RunOptions runOptions() const {
    RunOptions run;
    run.entryPoint = options.entryPoint;
    return run;
  }

  // The unmutated program's outputs on input set `set`, computed once.
  llvm::Expected<const NamedTensors *> reference(uint64_t set) {
    while (outputsOf.size() <= set) {
      uint64_t number = outputsOf.size();
      auto inputs = options.inputs(number);
      if (!inputs)
        return inputs.takeError();
      auto run = target.simulate(program, *inputs, runOptions());
      if (!run)
        return run.takeError();
      hasClock = run->timeline.clockHertz > 0;
      if (number == 0)
        cycles = run->timeline.cycles;
      inputsOf.push_back(std::move(*inputs));
      outputsOf.push_back(std::move(run->outputs));
    }
    return &outputsOf[set];
  }

  const Target &target;
  const program::Program &program;
  const MutateOptions &options;
  Cycles cycles, estimatedCycles;
  bool hasClock = false;
  std::unique_ptr<Mutations> mutations;
  std::vector<NamedTensors> inputsOf, outputsOf;
};

} // namespace

llvm::Expected<MutationReport> mutateAll(const Target &target, const program::Program &program,
                                         const MutateOptions &options) {
  Mutator mutator(target, program, options);
  if (llvm::Error error = mutator.prepare())
    return error;
  MutationReport result;
  result.seed = options.seed;
  result.cycles = mutator.cyclesOfProgram();
  result.tolerance = options.tolerance;
  for (int64_t i = 0; i < options.count; ++i) {
    auto mutation = mutator.tryMutation(options.seed + static_cast<uint64_t>(i));
    if (!mutation)
      return mutation.takeError();
    result.results.push_back(std::move(*mutation));
    if (options.progress && !options.progress(static_cast<double>(i + 1) / static_cast<double>(options.count)))
      break;
  }
  return result;
}

//===-- Report
//-------------------------------------------------------------------------------------------------------===//

int64_t MutationReport::count(Outcome outcome) const {
  return llvm::count_if(results, [&](const MutationResult &result) { return result.outcome == outcome; });
}

int64_t MutationReport::provenBenign() const {
  return llvm::count_if(
      results, [](const MutationResult &result) { return result.outcome == Outcome::Benign && result.proven; });
}

int64_t MutationReport::withinTolerance() const {
  return llvm::count_if(results, [&](const MutationResult &result) {
    return result.outcome == Outcome::WrongValue && result.relativeL2 <= tolerance;
  });
}

static constexpr Outcome outcomes[] = {Outcome::Check, Outcome::Hazard, Outcome::WrongValue, Outcome::Benign,
                                       Outcome::Silent};

void MutationReport::print(llvm::raw_ostream &os, bool all) const {
  os << results.size() << " mutations, seed " << seed << '\n';
  for (Outcome outcome : outcomes) {
    os << llvm::format("  %-12s %6lld", nameOf(outcome).data(), static_cast<long long>(count(outcome)));
    if (outcome == Outcome::WrongValue && count(outcome))
      os << llvm::format("   (%lld within the tolerance %.3g of run --check)",
                         static_cast<long long>(withinTolerance()), tolerance);
    if (outcome == Outcome::Benign && count(outcome))
      os << llvm::format("   (%lld proven, the others by equal outputs on %d inputs)",
                         static_cast<long long>(provenBenign()), static_cast<int>(inputSets));
    os << '\n';
  }
  for (const MutationResult &result : results)
    if (all || result.outcome == Outcome::Silent)
      os << nameOf(result.outcome) << ": " << result.description << ": " << result.reason << " (mutation "
         << result.seed << ")\n";
}

void MutationReport::writeJson(llvm::raw_ostream &os) const {
  // Names in programs are UTF-8; messages could quote anything.
  auto text = [](const std::string &string) { return llvm::json::fixUTF8(string); };
  llvm::json::OStream json(os, 2);
  json.object([&] {
    json.attribute("seed", llvm::json::Value(seed));
    json.attribute("count", static_cast<int64_t>(results.size()));
    json.attribute("cycles", cycles.value);
    json.attribute("tolerance", tolerance);
    json.attribute("check", count(Outcome::Check));
    json.attribute("hazard", count(Outcome::Hazard));
    json.attribute("wrong_value", count(Outcome::WrongValue));
    json.attribute("wrong_value_within_tolerance", withinTolerance());
    json.attribute("benign", count(Outcome::Benign));
    json.attribute("benign_proven", provenBenign());
    json.attribute("silent", count(Outcome::Silent));
    json.attributeArray("mutations", [&] {
      for (const MutationResult &result : results)
        json.object([&] {
          json.attribute("seed", llvm::json::Value(result.seed));
          json.attribute("description", text(result.description));
          json.attribute("outcome", nameOf(result.outcome));
          json.attribute("reason", text(result.reason));
          if (result.outcome == Outcome::WrongValue) {
            if (std::isfinite(result.relativeL2))
              json.attribute("relative_l2", result.relativeL2);
            else
              json.attribute("relative_l2", nullptr);
          }
          if (result.outcome == Outcome::Benign)
            json.attribute("proven", result.proven);
        });
    });
  });
  os << '\n';
}

} // namespace quadrille::target
