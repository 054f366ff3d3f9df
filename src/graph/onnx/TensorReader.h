// The elements of stripped TensorProtos, from the file they were stripped from or from external files beside it.
#pragma once

#include "base/File.h"
#include "graph/onnx/ModelFile.h"

#include <map>
#include <mutex>

namespace quadrille::graph {

class TensorReader {
public:
  // `bytes` are the file's, kept alive by `owner`; `path` names it and its folder holds external data.
  TensorReader(llvm::ArrayRef<std::byte> bytes, std::shared_ptr<const void> owner, llvm::StringRef path)
      : bytes(bytes), owner(std::move(owner)), path(path) {}

  llvm::Expected<WeightData> read(const onnx::TensorProto &tensor) const;

private:
  struct ExternalFile {
    std::shared_ptr<const MappedFile> file; // null: absent
    std::string absence;
    std::string refusal; // not empty: may not be opened
  };

  llvm::Error readExternal(const onnx::TensorProto &tensor, uint64_t stored, WeightData &weight) const;
  ExternalFile openExternal(llvm::StringRef location) const;
  const ExternalFile &external(llvm::StringRef location) const;

  llvm::ArrayRef<std::byte> bytes;
  std::shared_ptr<const void> owner;
  std::string path;
  mutable std::mutex mutex;
  mutable std::map<std::string, ExternalFile> externalFiles; // by location; each is mapped once
};

// The shape of a tensor and its number of elements; refuses negative extents, more than `maximumRank` dimensions and
// sizes of 2^63 bits and more.
llvm::Expected<int64_t> checkedElementCount(llvm::ArrayRef<int64_t> shape, ElementType type);

// Bytes that `elements` elements take in a file, where sub-byte integers are packed; bools take a byte.
uint64_t storedBytes(ElementType type, int64_t elements);

} // namespace quadrille::graph
