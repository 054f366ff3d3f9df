// JSON attributes that may be null.
#pragma once

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/JSON.h"

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>

namespace quadrille {

// JSON has no infinity and no NaN: they become null, as what is absent does.
inline void writeNumber(llvm::json::OStream &json, llvm::StringRef key, std::optional<double> value) {
  if (value && std::isfinite(*value))
    json.attribute(key, *value);
  else
    json.attribute(key, nullptr);
}

inline void writeInteger(llvm::json::OStream &json, llvm::StringRef key, std::optional<int64_t> value) {
  if (value)
    json.attribute(key, *value);
  else
    json.attribute(key, nullptr);
}

// Bytes that are no UTF-8 (names in models are what their writers made of them) are replaced.
inline void writeText(llvm::json::OStream &json, llvm::StringRef key, const std::optional<std::string> &value) {
  if (value)
    json.attribute(key, llvm::json::fixUTF8(*value));
  else
    json.attribute(key, nullptr);
}

} // namespace quadrille
