#include "machine/Search.h"

#include "base/Error.h"
#include "base/Suggestion.h"
#include "machine/Machine.h"
#include "machine/Yaml.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

#include <cstdlib>
#include <set>

namespace quadrille::machine {

std::vector<std::string> machineDirectories() {
  std::vector<std::string> directories;
  auto add = [&](llvm::StringRef directory) {
    if (!directory.empty() && llvm::sys::fs::is_directory(directory) && !llvm::is_contained(directories, directory))
      directories.push_back(directory.str());
  };
  if (const char *environment = std::getenv("QUADRILLE_MACHINES")) {
    llvm::SmallVector<llvm::StringRef> parts;
    llvm::StringRef(environment).split(parts, ':');
    llvm::for_each(parts, add);
  }
  llvm::SmallString<256> installed(
      llvm::sys::fs::getMainExecutable(nullptr, reinterpret_cast<void *>(&machineDirectories)));
  llvm::sys::path::remove_filename(installed);
  llvm::sys::path::append(installed, "..", "share", "quadrille", "machines");
  add(installed);
  add(QUADRILLE_SOURCE_MACHINES);
  return directories;
}

std::vector<std::string> machineNames() {
  std::set<std::string> names;
  for (const std::string &directory : machineDirectories()) {
    std::error_code error;
    for (llvm::sys::fs::directory_iterator file(directory, error), end; file != end && !error; file.increment(error)) {
      llvm::StringRef path = file->path();
      if (llvm::sys::path::extension(path) == ".yaml" && isMachineName(llvm::sys::path::stem(path)))
        names.insert(llvm::sys::path::stem(path).str());
    }
  }
  return {names.begin(), names.end()};
}

bool isMachineName(llvm::StringRef name) {
  return !name.empty() && name.size() <= 64 && name.front() != '.' &&
         llvm::all_of(name, [](char c) { return llvm::isAlnum(c) || c == '-' || c == '_' || c == '.'; });
}

bool isRegularFile(llvm::StringRef path) {
  return llvm::sys::fs::is_regular_file(path);
}

std::string findMachine(llvm::StringRef name) {
  for (const std::string &directory : machineDirectories()) {
    llvm::SmallString<256> path(directory);
    llvm::sys::path::append(path, name + ".yaml");
    if (isRegularFile(path))
      return path.str().str();
  }
  return "";
}

llvm::Error unknownMachine(llvm::StringRef name) {
  std::vector<std::string> known = machineNames();
  std::string near = suggestion(name, known);
  return userError("unknown machine '" + name + "'", {},
                   (near.empty() ? "" : near + " ") + ("known: " + llvm::join(known, ", ")));
}

} // namespace quadrille::machine
