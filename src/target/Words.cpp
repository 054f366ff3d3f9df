#include "target/Words.h"

#include "base/Error.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/raw_ostream.h"

#include <optional>

namespace quadrille::target {

using llvm::StringRef;
using llvm::Twine;

namespace {

// Without what follows a '#' outside of a string.
StringRef withoutComment(StringRef line) {
  bool quoted = false;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '#' && !quoted)
      return line.take_front(i);
    quoted ^= line[i] == '"';
    i += quoted && line[i] == '\\'; // an escaped quote ends nothing
  }
  return line;
}

std::optional<program::VariableRole> roleNamed(StringRef text) {
  using program::VariableRole;
  return llvm::StringSwitch<std::optional<VariableRole>>(text)
      .Case("input", VariableRole::Input)
      .Case("output", VariableRole::Output)
      .Case("weight", VariableRole::Weight)
      .Case("state", VariableRole::State)
      .Default(std::nullopt);
}

const char *roleWord(program::VariableRole role) {
  switch (role) {
  case program::VariableRole::Input:
    return "input";
  case program::VariableRole::Output:
    return "output";
  case program::VariableRole::Weight:
    return "weight";
  case program::VariableRole::State:
    return "state";
  }
  return "";
}

} // namespace

llvm::Error split(StringRef line, std::vector<Word> &words) {
  LineReader reader(withoutComment(line));
  while (!reader.atEnd()) {
    StringRef before = reader.remaining();
    Word word;
    word.quoted = before.starts_with("\"");
    if (word.quoted) {
      auto text = reader.quoted("a name");
      if (!text)
        return text.takeError();
      word.text = *text;
    } else {
      word.text = reader.word().str();
    }
    word.raw = before.drop_back(reader.remaining().size()).rtrim();
    words.push_back(std::move(word));
  }
  return llvm::Error::success();
}

llvm::Error integer(StringRef text, StringRef what, int64_t &value) {
  if (text.empty())
    return userError("expected " + what + " (an integer)");
  auto parsed = LineReader(text).integer(what);
  if (!parsed)
    return parsed.takeError();
  value = *parsed;
  return llvm::Error::success();
}
llvm::Error ranged(StringRef text, StringRef what, int64_t lowest, int64_t highest, int64_t &value) {
  if (llvm::Error error = integer(text, what, value))
    return error;
  if (highest < lowest)
    return userError(what + "=" + Twine(value) + ", but there is no " + what);
  if (value < lowest || value > highest)
    return userError(what + "=" + Twine(value) + " is not in " + Twine(lowest) + ".." + Twine(highest));
  return llvm::Error::success();
}

llvm::Error pairs(llvm::ArrayRef<Word> words, llvm::ArrayRef<StringRef> known, const Twine &of,
                  std::map<StringRef, StringRef> &values) {
  for (const Word &word : words) {
    auto [name, value] = word.raw.split('=');
    if (word.quoted || value.empty())
      return userError("expected NAME=VALUE, found '" + word.raw + "'");
    if (!llvm::is_contained(known, name))
      return userError("'" + of + "' has no operand '" + name + "'; expected " +
                       (known.empty() ? std::string("none") : llvm::join(known, ", ")));
    if (!values.emplace(name, value).second)
      return userError("operand '" + name + "' is given twice");
  }
  return llvm::Error::success();
}

llvm::Error variable(llvm::ArrayRef<Word> words, const VariableNames &names, uint32_t &index) {
  std::optional<program::VariableRole> role = words.size() == 2 ? roleNamed(words[0].text) : std::nullopt;
  if (!role)
    return userError("expected a variable: ROLE \"NAME\", with ROLE input, output, weight or state");
  std::optional<uint32_t> found = names.find(*role, words[1].text);
  if (!found)
    return userError("there is no " + words[0].text + " variable '" + words[1].text + "' above this line");
  index = *found;
  return llvm::Error::success();
}

std::string reference(const program::Variable &variable) {
  std::string text = std::string(roleWord(variable.role)) + " ";
  llvm::raw_string_ostream os(text);
  printQuoted(variable.name, os);
  return text;
}

} // namespace quadrille::target
