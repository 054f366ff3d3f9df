// Arrays in files: NumPy's .npz and .npy, and ONNX TensorProto files (.pb).
#pragma once

#include "base/Error.h"
#include "numerics/Tensor.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <map>
#include <string>

namespace quadrille::driver {

using NamedTensors = std::map<std::string, Tensor>;

// Reads every array of an .npz, or one array of an .npy or .pb (under the name stored in it, else the empty name).
// NumPy has no names for bf16 and the 8-bit floats; such arrays come as raw "|V2"/"|V1" bytes and are given u16/u8
// here. Fortran order is turned into row-major. User errors: damaged files, object arrays, big-endian arrays, unknown
// types.
llvm::Expected<NamedTensors> readTensorFile(llvm::StringRef path);

// Writes an .npz (uncompressed, as numpy.savez does), atomically. Floats that NumPy has no type for are widened to f32.
llvm::Error writeTensorFile(llvm::StringRef path, const NamedTensors &tensors);

// Parses one .npy image; `where` is for messages.
llvm::Expected<Tensor> parseNpy(llvm::ArrayRef<std::byte> bytes, const Where &where);

} // namespace quadrille::driver
