// What a user may have meant by a name that is not known.
#pragma once

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <string>

namespace quadrille {

// The candidate that differs little from `word`, as "did you mean 'x'?", or an empty text.
std::string suggestion(llvm::StringRef word, llvm::ArrayRef<std::string> candidates);

} // namespace quadrille
