// The element types that a model or a machine can hold: one table, from which names, sizes and predicates come.
#pragma once

#include "llvm/ADT/StringRef.h"

#include <cstddef>
#include <cstdint>
#include <optional>

namespace quadrille {

// name, enumerator, bits as the format defines it, kind.
// On the host every element occupies a whole number of bytes: bool and the sub-byte integers take one byte each (sign-
// or zero-extended); files that pack them are unpacked by their reader.
// cb16 is Cerebras' 16-bit format: 1 sign, 6 exponent (bias 31), 9 mantissa bits.
#define QUADRILLE_ELEMENT_TYPES(X)                                                                                     \
  X("f64", f64, 64, Float)                                                                                             \
  X("f32", f32, 32, Float)                                                                                             \
  X("f16", f16, 16, Float)                                                                                             \
  X("bf16", bf16, 16, Float)                                                                                           \
  X("cb16", cb16, 16, Float)                                                                                           \
  X("f8e4m3fn", f8e4m3fn, 8, Float)                                                                                    \
  X("f8e4m3fnuz", f8e4m3fnuz, 8, Float)                                                                                \
  X("f8e5m2", f8e5m2, 8, Float)                                                                                        \
  X("f8e5m2fnuz", f8e5m2fnuz, 8, Float)                                                                                \
  X("i64", i64, 64, Signed)                                                                                            \
  X("i32", i32, 32, Signed)                                                                                            \
  X("i16", i16, 16, Signed)                                                                                            \
  X("i8", i8, 8, Signed)                                                                                               \
  X("i4", i4, 4, Signed)                                                                                               \
  X("i2", i2, 2, Signed)                                                                                               \
  X("u64", u64, 64, Unsigned)                                                                                          \
  X("u32", u32, 32, Unsigned)                                                                                          \
  X("u16", u16, 16, Unsigned)                                                                                          \
  X("u8", u8, 8, Unsigned)                                                                                             \
  X("u4", u4, 4, Unsigned)                                                                                             \
  X("u2", u2, 2, Unsigned)                                                                                             \
  X("bool", boolean, 1, Boolean)

enum class ElementType : uint8_t {
#define QUADRILLE_ENUMERATOR(text, name, bits, kind) name,
  QUADRILLE_ELEMENT_TYPES(QUADRILLE_ENUMERATOR)
#undef QUADRILLE_ENUMERATOR
};

enum class ElementKind : uint8_t { Float, Signed, Unsigned, Boolean };

constexpr unsigned bitWidth(ElementType type) {
  switch (type) {
#define QUADRILLE_CASE(text, name, bits, kind)                                                                         \
  case ElementType::name:                                                                                              \
    return bits;
    QUADRILLE_ELEMENT_TYPES(QUADRILLE_CASE)
#undef QUADRILLE_CASE
  }
  return 0;
}

constexpr ElementKind kindOf(ElementType type) {
  switch (type) {
#define QUADRILLE_CASE(text, name, bits, kind)                                                                         \
  case ElementType::name:                                                                                              \
    return ElementKind::kind;
    QUADRILLE_ELEMENT_TYPES(QUADRILLE_CASE)
#undef QUADRILLE_CASE
  }
  return ElementKind::Float;
}

// Bytes that one element takes in host memory.
constexpr size_t byteWidth(ElementType type) {
  return (bitWidth(type) + 7) / 8;
}

constexpr bool isFloat(ElementType type) {
  return kindOf(type) == ElementKind::Float;
}
constexpr bool isInteger(ElementType type) {
  return kindOf(type) == ElementKind::Signed || kindOf(type) == ElementKind::Unsigned;
}

constexpr llvm::StringLiteral nameOf(ElementType type) {
  switch (type) {
#define QUADRILLE_CASE(text, name, bits, kind)                                                                         \
  case ElementType::name:                                                                                              \
    return text;
    QUADRILLE_ELEMENT_TYPES(QUADRILLE_CASE)
#undef QUADRILLE_CASE
  }
  return "";
}

constexpr std::optional<ElementType> elementTypeNamed(llvm::StringRef text) {
#define QUADRILLE_MATCH(name_, name, bits, kind)                                                                       \
  if (text == name_)                                                                                                   \
    return ElementType::name;
  QUADRILLE_ELEMENT_TYPES(QUADRILLE_MATCH)
#undef QUADRILLE_MATCH
  return std::nullopt;
}

} // namespace quadrille
