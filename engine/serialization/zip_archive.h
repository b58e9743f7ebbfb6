// Zip archives whose entries are stored, not compressed: what torch.save() writes.
//
// Format: PKWARE's APPNOTE.TXT. Sizes come from the central directory; the local header of each entry must
// agree with it.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/files/input_file.h"

namespace plume {

struct ZipEntry {
  std::string name;
  uint64_t header = 0;  // of the local header, in the file
  uint64_t begin = 0;   // of the content
  uint64_t size = 0;
  uint32_t crc = 0;
};

// An archive of which every entry has been checked: the headers agree, the contents lie inside the file, do
// not overlap and have the right CRC-32.
//
// Throws bad_input: "PATH: CLASS: ...", CLASS being ZipNoEndRecord, ZipMultiDisk, ZipContradiction (among the
// end records, zip64's included, and the directory), ZipEncrypted, ZipCompressed, ZipLocalHeader,
// ZipOutOfFile, ZipOverlap, ZipTooLarge (sum of sizes), ZipBadName (absolute, '..', NUL, not UTF-8, '\'),
// ZipDuplicateName, ZipCrcMismatch, Limit (more than kMaxEntries).
class ZipArchive {
 public:
  static constexpr uint64_t kMaxEntries = 200'000;

  // `file` outlives this object.
  explicit ZipArchive(const InputFile& file);

  const std::vector<ZipEntry>& entries() const { return entries_; }  // in the order of their headers
  const ZipEntry* find(const std::string& name) const;               // null when absent

 private:
  struct Directory {
    uint64_t entries, bytes, offset;
  };
  Directory find_directory() const;
  void read_directory(const Directory& directory);
  void check_local_headers(uint64_t end);
  void check_contents() const;
  [[noreturn]] void refuse(const char* kind, const std::string& what) const;

  const InputFile& file_;
  std::vector<ZipEntry> entries_;
  std::map<std::string, size_t> index_;
};

uint32_t crc32(uint32_t crc, const void* data, size_t bytes);  // begin with 0

}  // namespace plume
