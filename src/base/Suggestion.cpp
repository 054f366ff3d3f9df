#include "base/Suggestion.h"

#include <algorithm>

namespace quadrille {

std::string suggestion(llvm::StringRef word, llvm::ArrayRef<std::string> candidates) {
  if (word.size() > 100)
    return "";
  const std::string *best = nullptr;
  unsigned bestDistance = std::max<unsigned>(1, word.size() / 3) + 1;
  for (const std::string &candidate : candidates) {
    unsigned distance = word.edit_distance(candidate, /*AllowReplacements=*/true, bestDistance);
    if (distance < bestDistance) {
      best = &candidate;
      bestDistance = distance;
    }
  }
  return best ? "did you mean '" + *best + "'?" : "";
}

} // namespace quadrille
