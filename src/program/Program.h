// A compiled program: the .qdl container shared by all targets. The target's own part is an opaque verified FlatBuffer
// (`payload`); everything else is the same for every machine.
//
// File: 64-byte header (magic "QDL1", format version, section count, table offset, xxh3 hash of table and metadata), then
// page-aligned sections, each with kind, name, offset, size and xxh3 hash, in the section table at the end. Offsets are 64-bit; metadata is
// program/Metadata.fbs. docs/program-format.md is the normative description.
#pragma once

#include "numerics/Tensor.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace llvm {
class raw_pwrite_stream;
} // namespace llvm

namespace quadrille::program {

constexpr uint32_t formatVersion = 1;

struct Node {
  std::string name, operation;
};

enum class VariableRole : uint8_t { Input, Output, Weight, State };

// A named array that outlives an entry point. Data of weights is a raw section of this file or a span of another file
// (path and hash), or absent (plan and estimate work, simulate refuses).
struct Variable {
  std::string name;
  ElementType type = ElementType::f32;
  Shape shape;
  VariableRole role = VariableRole::Input;
  Tensor data; // weights and initial states: borrowed from the file's map; invalid otherwise
  struct External {
    std::string path;
    uint64_t offset = 0, size = 0, hash = 0; // hash: xxh3 64 of the span's bytes
  };
  std::optional<External> external;
};

// One thing that can be executed: "inference", or "forward", "backward", "update" for training.
struct EntryPoint {
  std::string name;
  std::vector<uint32_t> inputs, outputs; // indices of variables
};

// The model that a program was compiled from, for `--check` and for reports.
struct ModelReference {
  std::string path;
  uint64_t hash = 0;                                        // xxh3 64 of the file's bytes
  std::vector<std::pair<std::string, int64_t>> dimensions;  // values given to symbolic dimensions
  std::vector<std::pair<std::string, std::string>> bindings; // inputs bound to constants
};

class Program {
public:
  std::string target;           // "tsp"
  std::string machine;          // self-contained YAML (machine::Machine::print)
  std::string compilerRevision; // of the compiler that wrote it
  std::optional<ModelReference> model;
  std::vector<Node> nodes; // ONNX nodes behind the pieces
  std::vector<Variable> variables;
  std::vector<EntryPoint> entryPoints;

  // The target's FlatBuffer: owned after emit or borrowed from the mapped file.
  llvm::ArrayRef<std::byte> payload() const { return payloadBytes; }
  void setPayload(std::vector<std::byte> bytes);
  void borrowPayload(llvm::ArrayRef<std::byte> bytes, std::shared_ptr<const void> owner);

  // Verifies header, table, hashes, metadata and every index before anything is trusted; weights stay mapped. External
  // weights resolve relative to the program file's folder unless absolute. User errors name file and section.
  static llvm::Expected<Program> load(llvm::StringRef path);
  static llvm::Expected<Program> read(llvm::ArrayRef<std::byte> bytes, std::shared_ptr<const void> owner,
                                      llvm::StringRef fileName);
  llvm::Error save(llvm::StringRef path) const; // atomically
  llvm::Error write(llvm::raw_pwrite_stream &os) const;

private:
  llvm::ArrayRef<std::byte> payloadBytes;
  std::shared_ptr<const void> payloadOwner;
};

// True when the bytes begin like a .qdl file.
bool looksLikeProgram(llvm::ArrayRef<std::byte> bytes);

} // namespace quadrille::program
