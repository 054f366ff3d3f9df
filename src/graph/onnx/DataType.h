// ONNX's element type codes (TensorProto.DataType) and ours: one table. Codes newer than the installed ONNX headers are
// known by number.
#pragma once

#include "numerics/ElementType.h"

#include "llvm/Support/Error.h"

#include <cstdint>
#include <optional>
#include <string>

namespace quadrille::graph {

// code, ONNX's name in lower case as a tensor type writes it, our type or none.
// https://github.com/onnx/onnx/blob/main/onnx/onnx.in.proto, TensorProto.DataType (IR version 13)
#define QUADRILLE_ONNX_DATA_TYPES(X)                                                                                   \
  X(1, "float", ElementType::f32)                                                                                      \
  X(2, "uint8", ElementType::u8)                                                                                       \
  X(3, "int8", ElementType::i8)                                                                                        \
  X(4, "uint16", ElementType::u16)                                                                                     \
  X(5, "int16", ElementType::i16)                                                                                      \
  X(6, "int32", ElementType::i32)                                                                                      \
  X(7, "int64", ElementType::i64)                                                                                      \
  X(8, "string", std::nullopt)                                                                                         \
  X(9, "bool", ElementType::boolean)                                                                                   \
  X(10, "float16", ElementType::f16)                                                                                   \
  X(11, "double", ElementType::f64)                                                                                    \
  X(12, "uint32", ElementType::u32)                                                                                    \
  X(13, "uint64", ElementType::u64)                                                                                    \
  X(14, "complex64", std::nullopt)                                                                                     \
  X(15, "complex128", std::nullopt)                                                                                    \
  X(16, "bfloat16", ElementType::bf16)                                                                                 \
  X(17, "float8e4m3fn", ElementType::f8e4m3fn)                                                                         \
  X(18, "float8e4m3fnuz", ElementType::f8e4m3fnuz)                                                                     \
  X(19, "float8e5m2", ElementType::f8e5m2)                                                                             \
  X(20, "float8e5m2fnuz", ElementType::f8e5m2fnuz)                                                                     \
  X(21, "uint4", ElementType::u4)                                                                                      \
  X(22, "int4", ElementType::i4)                                                                                       \
  X(23, "float4e2m1", std::nullopt)                                                                                    \
  X(24, "float8e8m0", std::nullopt)                                                                                    \
  X(25, "uint2", ElementType::u2)                                                                                      \
  X(26, "int2", ElementType::i2)                                                                                       \
  X(27, "float6e2m3", std::nullopt)                                                                                    \
  X(28, "float6e3m2", std::nullopt)

// Our type of an ONNX code; an error that names the type (or the number) where we have none.
llvm::Expected<ElementType> elementTypeOfCode(int32_t code);

// ONNX's code of a type; nullopt for cb16, which ONNX lacks.
std::optional<int32_t> codeOfElementType(ElementType type);

// "float", "int8", ...; "type 99" for a number that ONNX does not define.
std::string nameOfCode(int32_t code);

} // namespace quadrille::graph
