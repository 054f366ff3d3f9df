// For tests and the fuzzer: makes the hashes of a damaged program file right again, so that what lies behind them is
// reached. Whatever is out of bounds is left as it is.
#pragma once

#include "program/Container.h"

#include <cstring>
#include <vector>

namespace quadrille::program {

inline void rehash(std::vector<std::byte> &bytes) {
  if (bytes.size() < sizeof(Header))
    return;
  Header header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  uint64_t tableSize = header.sectionCount * uint64_t(sizeof(SectionEntry));
  if (header.tableOffset <= bytes.size() && tableSize <= bytes.size() - header.tableOffset) {
    for (uint32_t i = 0; i < header.sectionCount; ++i) {
      SectionEntry entry;
      std::byte *place = bytes.data() + header.tableOffset + i * sizeof(SectionEntry);
      std::memcpy(&entry, place, sizeof(entry));
      if (entry.offset > bytes.size() || entry.size > bytes.size() - entry.offset)
        continue;
      entry.hash = hashOf(llvm::ArrayRef(bytes).slice(entry.offset, entry.size));
      std::memcpy(place, &entry, sizeof(entry));
    }
    header.tableHash = hashOf(llvm::ArrayRef(bytes).slice(header.tableOffset, tableSize));
  }
  std::memcpy(bytes.data(), &header, sizeof(header));
  header.headerHash = hashOf(llvm::ArrayRef(bytes).take_front(offsetof(Header, headerHash)));
  std::memcpy(bytes.data(), &header, sizeof(header));
}

} // namespace quadrille::program
