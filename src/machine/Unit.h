// Units of machine figures: "900 MHz", "64 bytes/cycle", "0.4 pJ". A compound unit is simple units joined by '/'.
#pragma once

#include "llvm/ADT/StringRef.h"

#include <optional>
#include <string>

namespace quadrille::machine {

// `value` in unit `from`, expressed in unit `to`; nothing when either is unknown or they measure different things.
std::optional<double> convertUnit(double value, llvm::StringRef from, llvm::StringRef to);

bool isUnit(llvm::StringRef unit);

// Every unit that converts to `unit`, for messages: "Hz, kHz, MHz, GHz".
std::string unitsLike(llvm::StringRef unit);

// The unit like `unit` in which `value` is easiest to read: "MHz" for 9e8 Hz, "KiB" for 638976 bytes.
std::string readableUnit(double value, llvm::StringRef unit);

// A finite decimal number, or 0x... (addresses). Nothing else: no digits grouping, no inf.
std::optional<double> parseNumber(llvm::StringRef text);

// The shortest decimal form that reads back to the same double; whole numbers without an exponent where they fit.
std::string formatNumber(double value);

// For people: 12 significant digits.
std::string formatRounded(double value);

} // namespace quadrille::machine
