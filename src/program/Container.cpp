#include "program/Container.h"

#include "base/Error.h"
#include "program/Program.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Support/xxhash.h"

#include <bit>
#include <cstring>

namespace quadrille::program {

static_assert(std::endian::native == std::endian::little, "the file's structures are read and written in place");

uint64_t hashOf(llvm::ArrayRef<std::byte> bytes) {
  return llvm::xxh3_64bits(llvm::ArrayRef(reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()));
}

template <typename T> static llvm::ArrayRef<std::byte> bytesOf(const T &value) {
  return {reinterpret_cast<const std::byte *>(&value), sizeof(T)};
}

bool looksLikeProgram(llvm::ArrayRef<std::byte> bytes) {
  return bytes.size() >= sizeof(magic) && std::memcmp(bytes.data(), magic, sizeof(magic)) == 0;
}

static bool isZero(llvm::ArrayRef<std::byte> bytes) {
  return llvm::all_of(bytes, [](std::byte byte) { return byte == std::byte(0); });
}

static llvm::Expected<Header> readHeader(llvm::ArrayRef<std::byte> bytes, const Where &where) {
  if (!looksLikeProgram(bytes))
    return userError("not a Quadrille program (it does not begin with QDL1)", where,
                     "`quadrille compile MODEL --machine NAME -o FILE.qdl` writes one");
  if (bytes.size() < sizeof(Header))
    return userError("truncated: " + llvm::Twine(bytes.size()) + " bytes, the header alone has 64", where);
  Header header;
  std::memcpy(&header, bytes.data(), sizeof(Header));
  // The version comes first: another version may lay out the rest differently.
  if (header.version < 1 || header.version > formatVersion)
    return userError("program format version " + llvm::Twine(header.version) +
                         ", this version of Quadrille reads 1 to " + llvm::Twine(formatVersion),
                     where,
                     header.version > formatVersion ? "use a newer Quadrille, or compile the model again"
                                                    : "compile the model again");
  if (header.headerHash != hashOf(bytes.take_front(offsetof(Header, headerHash))))
    return userError("corrupted: the header's hash does not match", where);
  if (header.headerSize != sizeof(Header) || header.reserved[0] != 0 || header.reserved[1] != 0)
    return userError("corrupted: wrong header size or reserved fields", where);
  if (header.fileSize != bytes.size())
    return userError((bytes.size() < header.fileSize ? "truncated: " : "too long: ") + llvm::Twine(bytes.size()) +
                         " bytes, " + llvm::Twine(header.fileSize) + " were written",
                     where);
  if (header.sectionCount < 2)
    return userError("corrupted: " + llvm::Twine(header.sectionCount) + " sections, a program has at least two", where);
  // Neither side can overflow: the count has 32 bits and the offset is within the file.
  if (header.tableOffset < sizeof(Header) || header.tableOffset > bytes.size() ||
      bytes.size() - header.tableOffset != header.sectionCount * uint64_t(sizeof(SectionEntry)))
    return userError("corrupted: the section table does not fill the end of the file", where);
  return header;
}

llvm::Expected<Container> readContainer(llvm::ArrayRef<std::byte> bytes, llvm::StringRef fileName) {
  Where where{fileName.str(), "header"};
  auto header = readHeader(bytes, where);
  if (!header)
    return header.takeError();
  where.node = "section table";
  llvm::ArrayRef<std::byte> table = bytes.drop_front(header->tableOffset);
  if (header->tableHash != hashOf(table))
    return userError("corrupted: the hash does not match", where);

  Container container;
  container.version = header->version;
  std::vector<Section> &sections = container.sections;
  sections.reserve(header->sectionCount); // bounded by the file's size
  uint64_t end = sizeof(Header);
  for (uint32_t i = 0; i < header->sectionCount; ++i) {
    SectionEntry entry;
    std::memcpy(&entry, table.data() + i * sizeof(SectionEntry), sizeof(entry));
    llvm::StringRef nameField(entry.name, sizeof(entry.name));
    llvm::StringRef name = nameField.take_until([](char c) { return c == 0; });
    where.node = ("section " + llvm::Twine(i)).str();
    if (name.empty() || name.size() == nameField.size() ||
        !llvm::all_of(name, [](char c) { return c >= 0x20 && c < 0x7f; }) ||
        !llvm::all_of(nameField.drop_front(name.size()), [](char c) { return c == 0; }))
      return userError("corrupted: the name is not printable text that ends in NUL", where);
    where.node += (" '" + name + "'").str();
    SectionKind kind = i == 0 ? SectionKind::Metadata : i == 1 ? SectionKind::Payload : SectionKind::Data;
    if (entry.kind != static_cast<uint32_t>(kind) || entry.reserved != 0)
      return userError("corrupted: kind " + llvm::Twine(entry.kind) + ", expected " +
                           llvm::Twine(static_cast<uint32_t>(kind)),
                       where);
    if (entry.offset % sectionAlignment != 0)
      return userError("corrupted: offset " + llvm::Twine(entry.offset) + " is not a multiple of " +
                           llvm::Twine(sectionAlignment),
                       where);
    if (entry.offset < end)
      return userError("corrupted: offset " + llvm::Twine(entry.offset) + " overlaps what ends at " + llvm::Twine(end),
                       where);
    if (entry.offset > header->tableOffset || entry.size > header->tableOffset - entry.offset)
      return userError("corrupted: " + llvm::Twine(entry.size) + " bytes at offset " + llvm::Twine(entry.offset) +
                           " reach beyond the section table at " + llvm::Twine(header->tableOffset),
                       where);
    if (entry.offset - end >= sectionAlignment || !isZero(bytes.slice(end, entry.offset - end)))
      return userError("corrupted: a gap or non-zero padding before the section", where);
    sections.push_back({kind, name.str(), bytes.slice(entry.offset, entry.size), entry.hash});
    end = entry.offset + entry.size;
  }
  where.node = "section table";
  if (header->tableOffset != llvm::alignTo(end, tableAlignment) || !isZero(bytes.slice(end, header->tableOffset - end)))
    return userError("corrupted: a gap or non-zero padding before the table", where);
  return container;
}

llvm::Error verifyHash(const Section &section, llvm::StringRef fileName) {
  if (hashOf(section.bytes) != section.hash)
    return userError("corrupted: the hash does not match", {fileName.str(), "section '" + section.name + "'"});
  return llvm::Error::success();
}

void writeContainer(llvm::ArrayRef<Section> sections, llvm::raw_pwrite_stream &os) {
  std::vector<SectionEntry> entries;
  uint64_t end = sizeof(Header);
  for (const Section &section : sections) {
    SectionEntry entry = {};
    entry.kind = static_cast<uint32_t>(section.kind);
    entry.offset = llvm::alignTo(end, sectionAlignment);
    entry.size = section.bytes.size();
    entry.hash = section.hash;
    assert(section.name.size() < sizeof(entry.name));
    std::memcpy(entry.name, section.name.data(), section.name.size());
    entries.push_back(entry);
    end = entry.offset + entry.size;
  }
  llvm::ArrayRef<std::byte> table(reinterpret_cast<const std::byte *>(entries.data()),
                                  entries.size() * sizeof(SectionEntry));
  Header header = {};
  std::memcpy(header.magic, magic, sizeof(magic));
  header.version = formatVersion;
  header.headerSize = sizeof(Header);
  header.sectionCount = static_cast<uint32_t>(entries.size());
  header.tableOffset = llvm::alignTo(end, tableAlignment);
  header.fileSize = header.tableOffset + table.size();
  header.tableHash = hashOf(table);
  header.headerHash = hashOf(bytesOf(header).take_front(offsetof(Header, headerHash)));

  auto put = [&os](llvm::ArrayRef<std::byte> bytes) {
    os.write(reinterpret_cast<const char *>(bytes.data()), bytes.size());
  };
  put(bytesOf(header));
  uint64_t position = sizeof(Header);
  for (size_t i = 0; i < sections.size(); ++i) {
    os.write_zeros(static_cast<unsigned>(entries[i].offset - position));
    put(sections[i].bytes);
    position = entries[i].offset + entries[i].size;
  }
  os.write_zeros(static_cast<unsigned>(header.tableOffset - position));
  put(table);
}

} // namespace quadrille::program
