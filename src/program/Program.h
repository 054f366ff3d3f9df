// A compiled program: the .qdl container shared by all targets. The target's own part is an opaque verified FlatBuffer
// (`payload`); everything else is the same for every machine.
//
// File: a 64-byte header, page-aligned sections with an xxh3 hash each (metadata, payload, weights), and the section
// table at the end. Offsets are 64-bit; metadata is program/Metadata.fbs. docs/program-format.md is the normative
// description.
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

constexpr uint32_t formatVersion = 2; // that is written; all versions up to it are read

struct Node {
  std::string name, operation;
};

enum class VariableRole : uint8_t { Input, Output, Weight, State };

class StoredData;

// A named array that outlives an entry point. The data of a weight or of an initial state is in one of three places, or
// nowhere (plan and estimate work, simulate refuses): given here as a tensor, a section of the program's file, or a
// span of another file. Read it with Program::dataOf, which knows them all.
struct Variable {
  std::string name;
  ElementType type = ElementType::f32;
  Shape shape;
  VariableRole role = VariableRole::Input;
  // What emit gives. In a loaded program it is invalid: the bytes are not verified before dataOf reads them.
  Tensor data;
  // Where the same bytes (`type` and `shape`, row-major, as Tensor holds them) lie in another file. When both are
  // given, `data` is used in memory, and saving writes a reference where it may and the data otherwise.
  struct External {
    std::string path; // as seen from the current directory; the file holds it relative to the program's folder
    uint64_t offset = 0, size = 0;
    std::optional<uint64_t> hash; // xxh3 64 of the span's bytes; computed on saving where it is missing
  };
  std::optional<External> external;
  std::shared_ptr<const StoredData> stored; // set by loading
};

// Empty when the shape is sane (no negative extent, bytes within 63 bits) and agrees with the data; else what is wrong.
std::string verify(const Variable &variable);

// One thing that can be executed: "inference", or "forward", "backward", "update" for training. Inputs are variables of
// role Input or State, outputs of role Output or State.
struct EntryPoint {
  std::string name;
  std::vector<uint32_t> inputs, outputs; // indices of variables
};

// The model that a program was compiled from, for `--check` and for reports.
struct ModelReference {
  std::string path;
  uint64_t hash = 0;                                         // xxh3 64 of the file's bytes
  std::vector<std::pair<std::string, int64_t>> dimensions;   // values given to symbolic dimensions
  std::vector<std::pair<std::string, std::string>> bindings; // inputs bound to constants
};

// Which files a loaded program may name as the home of its weights. A program may come from a stranger, so by default
// only files below its own folder are opened, after symbolic links are resolved.
enum class ExternalFiles : uint8_t { BelowProgram, Anywhere };

class Program {
public:
  std::string target;           // "tsp"
  std::string machine;          // self-contained YAML (machine::Machine::print)
  std::string compilerRevision; // of the compiler that wrote it
  std::string precision;        // arithmetic of the contractions: the name of an element type, or "none"
  int64_t chips = 1;            // that one replica runs on
  int64_t replicas = 1;         // of the program, on chips of their own, each working on runs of its own
  int64_t batch = 1;            // samples in one run of an entry point; 0 when the model has no batch dimension
  std::optional<ModelReference> model;
  std::vector<Node> nodes; // ONNX nodes behind the pieces
  std::vector<Variable> variables;
  std::vector<EntryPoint> entryPoints;

  // The target's FlatBuffer: owned after emit or borrowed from the mapped file. At least 16-byte aligned.
  llvm::ArrayRef<std::byte> payload() const { return payloadBytes; }
  void setPayload(std::vector<std::byte> bytes);
  void borrowPayload(llvm::ArrayRef<std::byte> bytes, std::shared_ptr<const void> owner);

  // The data of a weight or initial state; its hash is verified on the first call, and files beside the program are
  // opened then. May be called from several threads. User errors: no data anywhere, a missing or changed file, a file
  // that the program may not open, corrupted bytes.
  llvm::Expected<Tensor> dataOf(uint32_t variable) const;
  // Whether there is data to ask for; says nothing of whether it can be read.
  bool hasData(uint32_t variable) const;

  // Empty when well-formed, else what is wrong and where: unique names, roles, indices, shapes against sizes of
  // data.
  std::string verify() const;

  // Verifies header, table, hashes, metadata and every index before anything is trusted; weights stay mapped and are
  // verified by dataOf. External weights resolve relative to the program file's folder. User errors name file and
  // section.
  static llvm::Expected<Program> load(llvm::StringRef path, ExternalFiles external = ExternalFiles::BelowProgram);
  // The same from bytes that `owner` keeps alive, 16-byte aligned (asserted). `fileName` serves messages and as the
  // place from which external files are found.
  static llvm::Expected<Program> read(llvm::ArrayRef<std::byte> bytes, std::shared_ptr<const void> owner,
                                      llvm::StringRef fileName, ExternalFiles external = ExternalFiles::BelowProgram);

  // Writes the file atomically; "-" is standard output. A weight that lies in a file below the program's folder is
  // referred to (its bytes are hashed, not copied), any other is stored in the program, so that a saved program can
  // always be loaded without a permission. Equal programs give equal bytes.
  llvm::Error save(llvm::StringRef path) const;
  // The same to a stream, for a program whose folder is `folder`; empty: all data is stored in the program.
  llvm::Error write(llvm::raw_pwrite_stream &os, llvm::StringRef folder = "") const;

private:
  llvm::ArrayRef<std::byte> payloadBytes;
  std::shared_ptr<const void> payloadOwner;
};

// True when the bytes begin like a .qdl file.
bool looksLikeProgram(llvm::ArrayRef<std::byte> bytes);

} // namespace quadrille::program
