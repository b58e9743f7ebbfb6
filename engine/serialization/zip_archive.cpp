#include "engine/serialization/zip_archive.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "engine/core/error.h"
#include "engine/serialization/safetensors.h"
#include "engine/serialization/safetensors_header.h"

namespace plume {
namespace {

constexpr uint32_t kLocal = 0x04034B50, kCentral = 0x02014B50, kEnd = 0x06054B50;
constexpr uint32_t kEnd64 = 0x06064B50, kLocator64 = 0x07064B50;
constexpr uint64_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kEnd64Bytes = 56, kLocatorBytes = 20;
constexpr uint32_t kIn64 = 0xFFFFFFFF;  // "see the zip64 record"
constexpr uint16_t kIn64Short = 0xFFFF, kExtra64 = 1;
// Flags: encrypted, sizes after the content, strongly encrypted, header masked.
constexpr uint16_t kEncrypted = 1, kSizesLater = 8, kOtherEncryption = 1 << 6 | 1 << 13;

template <class T>
T number(std::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

using Crc32Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Crc32Tables make_tables() {
  Crc32Tables t{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320u : 0);
    t[0][byte] = crc;
  }
  for (size_t k = 1; k < 8; ++k)
    for (size_t byte = 0; byte < 256; ++byte)
      t[k][byte] = (t[k - 1][byte] >> 8) ^ t[0][t[k - 1][byte] & 0xFF];
  return t;
}
constexpr Crc32Tables kTables = make_tables();

// Of a TorchScript archive, whose code is compressed: "top/code/__torch__/models.py".
bool is_program(const std::string& entry) {
  return entry.find("/code/") != std::string::npos &&
         (entry.ends_with(".py") || entry.ends_with(".debug_pkl"));
}

const char* problem_of(const std::string& entry) {
  if (entry.empty()) return "is empty";
  if (entry.find('\0') != std::string::npos) return "holds NUL";
  if (entry.find('\\') != std::string::npos) return "holds a backslash";
  if (find_invalid_utf8(entry) != std::string_view::npos) return "is not UTF-8";
  if (entry[0] == '/' || (entry.size() > 1 && entry[1] == ':')) return "is absolute";
  const std::string framed = "/" + entry + "/";
  return framed.find("/../") != std::string::npos ? "leads out of its folder" : nullptr;
}

// The next of the 64-bit values that stand for fields too small for them, in their order.
class Extra64 {
 public:
  explicit Extra64(std::string_view extra) {
    while (extra.size() >= 4) {
      const auto id = number<uint16_t>(extra, 0), size = number<uint16_t>(extra, 2);
      if (size > extra.size() - 4) {
        broken_ = true;
        return;
      }
      if (id == kExtra64) {
        broken_ = broken_ || found_;
        found_ = true;
        values_ = extra.substr(4, size);
      }
      extra.remove_prefix(4 + size_t(size));
    }
  }
  std::optional<uint64_t> next() {
    if (values_.size() < 8) return {};
    const auto value = number<uint64_t>(values_, 0);
    values_.remove_prefix(8);
    return value;
  }
  bool broken() const { return broken_; }

 private:
  std::string_view values_;
  bool found_ = false, broken_ = false;
};

}  // namespace

uint32_t crc32(uint32_t crc, const void* data, size_t bytes) {
  const auto* next = static_cast<const unsigned char*>(data);
  crc = ~crc;
  for (; bytes >= 8; bytes -= 8, next += 8) {
    uint64_t word;
    std::memcpy(&word, next, 8);
    word ^= crc;
    crc = 0;
    for (size_t k = 0; k < 8; ++k) crc ^= kTables[7 - k][(word >> (8 * k)) & 0xFF];
  }
  for (; bytes > 0; --bytes, ++next) crc = (crc >> 8) ^ kTables[0][(crc ^ *next) & 0xFF];
  return ~crc;
}

ZipArchive::ZipArchive(const InputFile& file) : file_(file) {
  const Directory directory = find_directory();
  read_directory(directory);
  check_local_headers(directory.offset);
  check_contents();
}

const ZipEntry* ZipArchive::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &entries_[found->second];
}

ZipArchive::Directory ZipArchive::find_directory() const {
  // The record is the last thing in the file but for a comment of at most 64 KiB.
  const uint64_t tail_bytes = std::min<uint64_t>(file_.size(), kEndBytes + 0xFFFF);
  const uint64_t tail_at = file_.size() - tail_bytes;
  const std::string tail = file_.read_text(tail_at, tail_bytes);
  size_t at = std::string::npos;
  for (size_t i = tail.size() < kEndBytes ? 0 : tail.size() - kEndBytes + 1; i-- > 0;)
    if (number<uint32_t>(tail, i) == kEnd && number<uint16_t>(tail, i + 20) == tail.size() - i - kEndBytes) {
      at = i;
      break;
    }
  if (at == std::string::npos) refuse("ZipNoEndRecord", "has no end record: it is cut short or no archive");
  const std::string_view end = std::string_view(tail).substr(at, kEndBytes);
  const auto disk = number<uint16_t>(end, 4), first_disk = number<uint16_t>(end, 6);
  const auto here = number<uint16_t>(end, 8), entries = number<uint16_t>(end, 10);
  const auto bytes = number<uint32_t>(end, 12), offset = number<uint32_t>(end, 16);
  if ((disk != 0 && disk != kIn64Short) || (first_disk != 0 && first_disk != kIn64Short) || here != entries)
    refuse("ZipMultiDisk", message("is part {} of an archive in several parts", disk));

  uint64_t directory_end = tail_at + at;
  Directory result{entries, bytes, offset};
  const bool wanted =
      entries == kIn64Short || bytes == kIn64 || offset == kIn64 || disk != 0 || first_disk != 0;
  std::string locator;
  if (directory_end >= kLocatorBytes) locator = file_.read_text(directory_end - kLocatorBytes, kLocatorBytes);
  if (!locator.empty() && number<uint32_t>(locator, 0) == kLocator64) {
    if (number<uint32_t>(locator, 4) != 0 || number<uint32_t>(locator, 16) > 1)
      refuse("ZipMultiDisk", "is one of several parts");
    const auto record_at = number<uint64_t>(locator, 8);
    if (directory_end < kLocatorBytes + kEnd64Bytes ||
        record_at > directory_end - kLocatorBytes - kEnd64Bytes)
      refuse("ZipOutOfFile", message("has its zip64 record at byte {}", record_at));
    const std::string record = file_.read_text(record_at, kEnd64Bytes);
    if (number<uint32_t>(record, 0) != kEnd64 ||
        number<uint64_t>(record, 4) != directory_end - kLocatorBytes - record_at - 12)
      refuse("ZipContradiction", message("has no zip64 record at byte {}", record_at));
    if (number<uint32_t>(record, 16) != 0 || number<uint32_t>(record, 20) != 0 ||
        number<uint64_t>(record, 24) != number<uint64_t>(record, 32))
      refuse("ZipMultiDisk", "is one of several parts");
    const Directory wide{number<uint64_t>(record, 32), number<uint64_t>(record, 40),
                         number<uint64_t>(record, 48)};
    if ((entries != kIn64Short && entries != wide.entries) || (bytes != kIn64 && bytes != wide.bytes) ||
        (offset != kIn64 && offset != wide.offset))
      refuse("ZipContradiction", "its two end records differ");
    result = wide;
    directory_end = record_at;
  } else if (wanted) {
    refuse("ZipContradiction", "refers to a zip64 record that is not there");
  }
  if (result.offset > directory_end || result.bytes != directory_end - result.offset)
    refuse("ZipContradiction", message("has a directory of {} bytes at byte {}, expected to end at byte {}",
                                       result.bytes, result.offset, directory_end));
  if (result.entries > kMaxEntries) refuse("Limit", message("has {} entries", result.entries));
  if (result.entries > result.bytes / kCentralBytes)
    refuse("ZipContradiction",
           message("has {} entries in a directory of {} bytes", result.entries, result.bytes));
  return result;
}

void ZipArchive::read_directory(const Directory& directory) {
  const std::string text = file_.read_text(directory.offset, directory.bytes);
  std::string_view rest = text;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    if (rest.size() < kCentralBytes || number<uint32_t>(rest, 0) != kCentral)
      refuse("ZipContradiction", message("entry {} is not in the directory", i));
    const auto flags = number<uint16_t>(rest, 8), method = number<uint16_t>(rest, 10);
    const uint64_t name_bytes = number<uint16_t>(rest, 28), extra_bytes = number<uint16_t>(rest, 30);
    const uint64_t comment_bytes = number<uint16_t>(rest, 32);
    if (name_bytes + extra_bytes + comment_bytes > rest.size() - kCentralBytes)
      refuse("ZipContradiction", message("entry {} leaves the directory", i));
    ZipEntry entry;
    entry.name = rest.substr(kCentralBytes, name_bytes);
    if (const char* problem = problem_of(entry.name))
      refuse("ZipBadName", message("the name {} {}", in_quotes(entry.name), problem));
    const std::string quoted = in_quotes(entry.name);
    if ((flags & (kEncrypted | kOtherEncryption)) != 0) refuse("ZipEncrypted", quoted + " is encrypted");
    if (method != 0 && is_program(entry.name))
      refuse("ZipCompressed", message("holds {}: is a model as a program, as torch.jit.save() writes them, "
                                      "expected a dict of tensors: torch.save() its state_dict()",
                                      quoted));
    if (method != 0)
      refuse("ZipCompressed", message("{} has compression method {}, expected 0 (stored)", quoted, method));
    entry.crc = number<uint32_t>(rest, 16);
    uint64_t packed = number<uint32_t>(rest, 20);
    entry.size = number<uint32_t>(rest, 24);
    entry.header = number<uint32_t>(rest, 42);
    Extra64 extra(rest.substr(kCentralBytes + name_bytes, extra_bytes));
    for (uint64_t* field : {&entry.size, &packed, &entry.header}) {
      if (*field != kIn64) continue;
      const std::optional<uint64_t> wide = extra.next();
      if (!wide) refuse("ZipContradiction", quoted + " refers to a zip64 field that is not there");
      *field = *wide;
    }
    if (extra.broken() || extra.next())
      refuse("ZipContradiction", quoted + " has zip64 fields beyond those it refers to");
    if (packed != entry.size)
      refuse("ZipContradiction",
             message("{} is stored as {} bytes, expected {}", quoted, packed, entry.size));
    if (const auto disk = number<uint16_t>(rest, 34); disk != 0)
      refuse("ZipMultiDisk", message("{} is on part {}", quoted, disk));
    entries_.push_back(std::move(entry));
    rest.remove_prefix(kCentralBytes + name_bytes + extra_bytes + comment_bytes);
  }
  if (!rest.empty()) refuse("ZipContradiction", "its directory is longer than its entries");

  std::stable_sort(entries_.begin(), entries_.end(),
                   [](const ZipEntry& a, const ZipEntry& b) { return a.header < b.header; });
  for (size_t i = 0; i < entries_.size(); ++i)
    if (!index_.emplace(entries_[i].name, i).second)
      refuse("ZipDuplicateName", in_quotes(entries_[i].name) + " is there twice");
}

// Contents end where the directory begins.
void ZipArchive::check_local_headers(uint64_t end) {
  uint64_t sum = 0, previous = 0;
  for (ZipEntry& entry : entries_) {
    if (__builtin_add_overflow(sum, entry.size, &sum) || sum > file_.size())
      refuse("ZipTooLarge",
             message("its contents have more bytes than the file, which has {}", file_.size()));
    const std::string quoted = in_quotes(entry.name);
    const uint64_t name_bytes = entry.name.size();
    if (entry.header > end || end - entry.header < kLocalBytes + name_bytes)
      refuse("ZipOutOfFile", message("{} begins at byte {}", quoted, entry.header));
    if (entry.header < previous)
      refuse("ZipOverlap", message("{} begins at byte {}, inside another entry", quoted, entry.header));
    const std::string header = file_.read_text(entry.header, kLocalBytes + name_bytes);
    const auto flags = number<uint16_t>(header, 6), method = number<uint16_t>(header, 8);
    if (number<uint32_t>(header, 0) != kLocal || number<uint16_t>(header, 26) != name_bytes ||
        header.substr(kLocalBytes) != entry.name)
      refuse("ZipLocalHeader", message("{} has no header of its own at byte {}", quoted, entry.header));
    if ((flags & (kEncrypted | kOtherEncryption)) != 0) refuse("ZipEncrypted", quoted + " is encrypted");
    if (method != 0)
      refuse("ZipCompressed", message("{} has compression method {}, expected 0 (stored)", quoted, method));
    const auto crc = number<uint32_t>(header, 14), packed = number<uint32_t>(header, 18),
               size = number<uint32_t>(header, 22);
    const auto agrees = [&](uint64_t here, uint64_t expected) {
      return here == expected || here == kIn64 || ((flags & kSizesLater) != 0 && here == 0);
    };
    if (!agrees(packed, entry.size) || !agrees(size, entry.size) ||
        !(crc == entry.crc || ((flags & kSizesLater) != 0 && crc == 0)))
      refuse("ZipLocalHeader", quoted + " has another size or checksum in its header than in the directory");
    entry.begin = entry.header + kLocalBytes + name_bytes + number<uint16_t>(header, 28);
    if (entry.begin > end || entry.size > end - entry.begin)
      refuse("ZipOutOfFile", message("{} has {} bytes from byte {} on, the contents end at byte {}", quoted,
                                     entry.size, entry.begin, end));
    previous = entry.begin + entry.size;
  }
}

void ZipArchive::check_contents() const {
  std::vector<char> buffer(std::min<uint64_t>(uint64_t{1} << 20, file_.size()));
  for (const ZipEntry& entry : entries_) {
    uint32_t crc = 0;
    for (uint64_t done = 0; done < entry.size;) {
      const uint64_t part = std::min<uint64_t>(buffer.size(), entry.size - done);
      file_.read(entry.begin + done, buffer.data(), part);
      crc = crc32(crc, buffer.data(), part);
      done += part;
    }
    if (crc != entry.crc)
      refuse("ZipCrcMismatch", in_quotes(entry.name) + " is damaged: its checksum is another");
  }
}

void ZipArchive::refuse(const char* kind, const std::string& what) const {
  fail(ErrorKind::bad_input, "{}: {}: {}", file_.path(), kind, what);
}

}  // namespace plume
