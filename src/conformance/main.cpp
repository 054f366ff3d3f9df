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

// The line that names the test, else the first one that names the reason of its failure.
Known *find(KnownFailures &known, const std::string &name, llvm::StringRef reason) {
  if (auto listed = known.byName.find(name); listed != known.byName.end())
    return &listed->second;
  for (Known &entry : known.byReason)
    if (reason.contains(entry.reason))
      return &entry;
  return nullptr;
}

// DIRECTORY/MACHINE.txt, else DIRECTORY/ARCHITECTURE.txt, else none.
std::string listFor(const machine::Machine &machine, const std::string &directory) {
  for (const std::string &name : {std::string(machine.name()), std::string(machine.architecture())})
    if (std::string path = directory + "/" + name + ".txt"; std::filesystem::exists(path))
      return path;
  return "";
}

llvm::Error run(const std::string &data, const std::string &machineName, const std::string &lists,
                const std::string &filter, const std::string &writeList, bool bindAll, bool verbose) {
  auto machine = machine::Machine::load(machineName);
  if (!machine)
    return machine.takeError();
  // What the reference does not pass need not be listed for other machines again.
  KnownFailures known, ofReference;
  // Where all inputs are bound more tests pass than the machine's list says.
  if (!lists.empty())
    for (const auto &[list, path] :
         {std::pair{&known, bindAll ? "" : listFor(*machine, lists)}, {&ofReference, lists + "/host.txt"}}) {
      if (path.empty())
        continue;
      auto read = readKnownFailures(path);
      if (!read)
        return read.takeError();
      *list = std::move(*read);
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
    Result result = runTest(data + "/" + name, *machine, bindAll);
    bool passes = result.outcome == Outcome::Passed || result.outcome == Outcome::Folded;
    auto fail = [&](const std::string &why) {
      llvm::outs() << "FAILED " << name << ": " << why << '\n';
      result.outcome = Outcome::Failed;
    };
    if (!passes)
      list += name + "\t" + (result.outcome == Outcome::Unsupported ? "unsupported" : "expected") + "\t" +
              result.reason + "\n";
    Known *listed = find(known, name, result.reason);
    if (listed)
      listed->used = true;
    if (listed && passes)
      fail("passes, but is listed as not passing: remove the stale entry");
    else if (!passes && !listed)
      listed = find(ofReference, name, result.reason);
    if (!passes && listed)
      result.outcome = listed->unsupported ? Outcome::Unsupported : Outcome::ExpectedFailure;
    else if (!passes)
      fail(result.reason);
    ++counts[result.outcome];
  }
  auto stale = [&](llvm::StringRef name, llvm::StringRef why) {
    llvm::outs() << "FAILED " << name << ": " << why << '\n';
    ++counts[Outcome::Failed];
  };
  for (const auto &[name, entry] : known.byName)
    if (!seen.count(name))
      stale(name, "listed, but there is no such test");
  for (const Known &entry : known.byReason)
    if (!entry.used && filter.empty())
      stale("*", "no test fails because of '" + entry.reason + "': remove the stale entry");
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
  std::string data, machine = "host", lists, filter, writeList;
  bool bindAll = false, verbose = false;
  app.add_option("DATA", data, "folder with one folder for each test")->required();
  app.add_option("--machine,-m", machine, "machine (default: host)");
  app.add_option("--lists", lists,
                 "folder with a list of the tests known not to pass, MACHINE.txt or ARCHITECTURE.txt");
  app.add_option("--filter", filter, "only tests whose name contains this");
  app.add_option("--write-list", writeList, "write the tests that do not pass, with their reasons");
  app.add_flag("--bind-all", bindAll, "every input is a constant: the importer computes the results");
  app.add_flag("--verbose,-v", verbose, "name each test before it runs");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(Fault::User);
  }
  if (llvm::Error error = run(data, machine, lists, filter, writeList, bindAll, verbose)) {
    Reported reported = report(std::move(error));
    llvm::outs().flush();
    llvm::errs() << "quadrille-conformance: " << reported.message << '\n';
    return reported.exitCode;
  }
  return 0;
}
