// Takes the tensor data out of a serialised ONNX message and leaves references to it.
#pragma once

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <optional>
#include <string>

namespace google::protobuf {
class Descriptor;
} // namespace google::protobuf

namespace quadrille::graph {

// What stands in raw_data after stripping: where the data lies in the file that was stripped.
struct DataReference {
  uint64_t offset = 0, size = 0;

  std::string encode() const;
  static std::optional<DataReference> decode(llvm::StringRef rawData);
};

// Checks the wire format of `bytes`, a message of type `root` (ONNX's ModelProto or TensorProto), against its schema
// and returns the message with the raw_data of every TensorProto, at any depth, replaced by a DataReference. Where all
// data of a float or double tensor is one packed float_data or double_data field, that becomes a raw_data reference
// too: the bytes are the same. Messages nest 100 deep at most. The failures name the field and the byte where it lies.
llvm::Expected<std::string> stripTensors(llvm::ArrayRef<std::byte> bytes, const google::protobuf::Descriptor &root);

} // namespace quadrille::graph
