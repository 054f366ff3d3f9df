// quadrille-conformance DATA --machine NAME: runs the ONNX node tests below DATA on a machine.
#include "base/Error.h"
#include "base/File.h"
#include "conformance/Conformance.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/raw_ostream.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <set>

using namespace quadrille;
using namespace quadrille::conformance;

namespace {

llvm::Error run(const std::string &data, const std::string &machineName, const std::string &listPath,
                const std::string &filter, const std::string &writeList, bool verbose) {
  auto machine = machine::Machine::load(machineName);
  if (!machine)
    return machine.takeError();
  KnownFailures known;
  if (!listPath.empty()) {
    auto read = readKnownFailures(listPath);
    if (!read)
      return read.takeError();
    known = std::move(*read);
  }
  std::vector<std::string> names;
  std::error_code code;
  for (const auto &entry : std::filesystem::directory_iterator(data, code))
    if (entry.is_directory())
      names.push_back(entry.path().filename().string());
  if (names.empty())
    return userError("no tests there", {data, ""}, "unpack test/conformance/onnx_node_tests.tar.zst");
  std::sort(names.begin(), names.end());

  std::map<Outcome, int> counts;
  std::string list;
  std::set<std::string> seen;
  for (const std::string &name : names) {
    seen.insert(name);
    if (!filter.empty() && name.find(filter) == std::string::npos)
      continue;
    if (verbose)
      llvm::errs() << name << '\n';
    Result result = runTest(data + "/" + name, *machine);
    bool passes = result.outcome == Outcome::Passed || result.outcome == Outcome::Folded;
    auto listed = known.find(name);
    if (!passes)
      list += name + "\t" + (result.outcome == Outcome::Unsupported ? "unsupported" : "expected") + "\t" +
              result.reason + "\n";
    if (listed == known.end()) {
      if (!passes && result.outcome != Outcome::Unsupported)
        llvm::outs() << "FAILED " << name << ": " << result.reason << '\n';
    } else if (passes) {
      llvm::outs() << "FAILED " << name << ": passes, but is listed as not passing: remove the stale entry\n";
      result.outcome = Outcome::Failed;
    } else {
      result.outcome = listed->second.unsupported ? Outcome::Unsupported : Outcome::ExpectedFailure;
    }
    ++counts[result.outcome];
  }
  for (const auto &[name, entry] : known)
    if (!seen.count(name)) {
      llvm::outs() << "FAILED " << name << ": listed, but there is no such test\n";
      ++counts[Outcome::Failed];
    }
  if (!writeList.empty())
    if (llvm::Error error = writeFileAtomically(writeList, [&](llvm::raw_pwrite_stream &os) {
          os << "# Node tests that do not pass on " << machine->name() << ": name, unsupported or expected, reason.\n"
             << list;
          return llvm::Error::success();
        }))
      return error;
  llvm::outs() << counts[Outcome::Passed] << " passed, " << counts[Outcome::Failed] << " failed, "
               << counts[Outcome::Unsupported] << " unsupported, " << counts[Outcome::Folded] << " folded, "
               << counts[Outcome::ExpectedFailure] << " expected failures\n";
  if (filter.empty() && !writeList.empty())
    return llvm::Error::success(); // the list now names them
  if (counts[Outcome::Failed])
    return mismatchError("conformance on " + machine->name() + " failed");
  return llvm::Error::success();
}

} // namespace

int main(int argc, char **argv) {
  CLI::App app{"The ONNX node tests on a machine"};
  std::string data, machine = "host", list, filter, writeList;
  bool verbose = false;
  app.add_option("DATA", data, "folder with one folder for each test")->required();
  app.add_option("--machine,-m", machine, "machine (default: host)");
  app.add_option("--list", list, "tests known not to pass");
  app.add_option("--filter", filter, "only tests whose name contains this");
  app.add_option("--write-list", writeList, "write the tests that do not pass, with their reasons");
  app.add_flag("--verbose,-v", verbose, "name each test before it runs");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(Fault::User);
  }
  if (llvm::Error error = run(data, machine, list, filter, writeList, verbose)) {
    Reported reported = report(std::move(error));
    llvm::outs().flush();
    llvm::errs() << "quadrille-conformance: " << reported.message << '\n';
    return reported.exitCode;
  }
  return 0;
}
