// The outer layer of a .qdl file: header, sections, section table. Knows nothing of what the sections hold.
#pragma once

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace llvm {
class raw_pwrite_stream;
} // namespace llvm

namespace quadrille::program {

// All integers are little-endian.
struct Header {
  char magic[4];
  uint32_t version;
  uint32_t headerSize; // 64
  uint32_t sectionCount;
  uint64_t tableOffset;
  uint64_t fileSize;
  uint64_t tableHash; // xxh3 64 of the section table
  uint64_t reserved[2];
  uint64_t headerHash; // xxh3 64 of the 56 bytes before it
};
static_assert(sizeof(Header) == 64);

struct SectionEntry {
  uint32_t kind;
  uint32_t reserved;
  uint64_t offset, size;
  uint64_t hash; // xxh3 64 of the section's bytes
  char name[32]; // padded with NUL; the last byte is NUL
};
static_assert(sizeof(SectionEntry) == 64);

constexpr char magic[4] = {'Q', 'D', 'L', '1'};
constexpr uint64_t sectionAlignment = 4096;
constexpr uint64_t tableAlignment = 64;

enum class SectionKind : uint32_t { Metadata = 1, Payload = 2, Data = 3 };

struct Section {
  SectionKind kind;
  std::string name;
  llvm::ArrayRef<std::byte> bytes;
  uint64_t hash;
};

uint64_t hashOf(llvm::ArrayRef<std::byte> bytes);

struct Container {
  uint32_t version = 0; // of the format
  std::vector<Section> sections;
};

// Verifies the header and the table: sizes, offsets, alignment, order, padding. Section 0 is the metadata, 1 the
// payload, all others are data. The hashes of the sections themselves are for the caller to verify. The sections borrow
// from `bytes`.
llvm::Expected<Container> readContainer(llvm::ArrayRef<std::byte> bytes, llvm::StringRef fileName);

// User error when the bytes are not those that were written.
llvm::Error verifyHash(const Section &section, llvm::StringRef fileName);

void writeContainer(llvm::ArrayRef<Section> sections, llvm::raw_pwrite_stream &os);

} // namespace quadrille::program
