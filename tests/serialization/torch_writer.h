// Writes pickles, zip archives and PyTorch's files byte by byte, the wrong ones too.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "engine/serialization/zip_archive.h"

namespace plume::test {

template <class T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

inline std::string pickle_of(const std::string& body) { return "\x80\x02" + body + "."; }
// Added up piece by piece: GCC 12 warns about "X" + std::string where it is inlined.
inline std::string text(const std::string& s) {
  std::string bytes = "X";
  bytes += raw(uint32_t(s.size()));
  return bytes += s;
}
inline std::string integer(int64_t n) {
  const bool narrow = n == int32_t(n);
  std::string bytes = narrow ? "J" : "\x8A\x08";
  return bytes += narrow ? raw(int32_t(n)) : raw(n);
}
inline std::string tuple(const std::vector<int64_t>& values) {
  std::string body = "(";
  for (const int64_t v : values) body += integer(v);
  return body + "t";
}
inline std::string dict(const std::string& items) { return "}(" + items + "u"; }
const std::string kOrderedDict = "ccollections\nOrderedDict\n)R";

inline std::string storage(const std::string& type, const std::string& key, int64_t count,
                           const std::string& view = "") {
  return "(" + text("storage") + "ctorch\n" + type + "Storage\n" + text(key) + text("cpu") + integer(count) +
         view + "tQ";
}
inline std::string tensor(const std::string& from, int64_t offset, const std::vector<int64_t>& size,
                          const std::vector<int64_t>& stride) {
  return "ctorch._utils\n_rebuild_tensor_v2\n(" + from + integer(offset) + tuple(size) + tuple(stride) +
         "\x89" + kOrderedDict + "tR";
}

// An entry of an archive as it is to be written; what is not set is right.
struct ZipItem {
  std::string name, content;
  uint16_t method = 0, flags = 0;
  std::string local_name = {};  // empty: the name
  uint32_t local_signature = 0x04034B50;
  int64_t wrong_crc = 0, wrong_size = 0, wrong_header = 0;  // added in the directory
  std::string extra = {};                                   // in the directory
  bool size_in_extra = false;                               // 0xFFFFFFFF in the directory's field
};

struct ZipEnd {
  uint16_t disk = 0, more_entries = 0;
  uint32_t more_offset = 0;
  bool zip64 = false;
  uint64_t more_entries64 = 0;
};

inline std::string zip_of(const std::vector<ZipItem>& items, const ZipEnd& end = {}) {
  std::string out, directory;
  for (const ZipItem& i : items) {
    const auto header = uint32_t(out.size()), size = uint32_t(i.content.size());
    const uint32_t crc = crc32(0, i.content.data(), i.content.size());
    const std::string local = i.local_name.empty() ? i.name : i.local_name;
    const auto common = raw(i.flags) + raw(i.method) + raw(uint32_t{0});
    out += raw(i.local_signature) + raw(uint16_t{0}) + common + raw(crc) + raw(size) + raw(size) +
           raw(uint16_t(local.size())) + raw(uint16_t{0}) + local + i.content;
    const uint32_t stated = i.size_in_extra ? 0xFFFFFFFF : uint32_t(size + i.wrong_size);
    directory += raw(uint32_t{0x02014B50}) + raw(uint16_t{0}) + raw(uint16_t{0}) + common +
                 raw(uint32_t(crc + i.wrong_crc)) + raw(stated) + raw(stated) + raw(uint16_t(i.name.size())) +
                 raw(uint16_t(i.extra.size())) + raw(uint16_t{0}) + raw(uint16_t{0}) + raw(uint16_t{0}) +
                 raw(uint32_t{0}) + raw(uint32_t(header + i.wrong_header)) + i.name + i.extra;
  }
  const uint64_t offset = out.size(), entries = items.size();
  out += directory;
  if (end.zip64) {
    const uint64_t record = out.size(), wide = entries + end.more_entries64;
    out += raw(uint32_t{0x06064B50}) + raw(uint64_t{44}) + raw(uint32_t{0}) + raw(uint32_t{0}) +
           raw(uint32_t{0}) + raw(wide) + raw(wide) + raw(uint64_t(directory.size())) + raw(offset);
    out += raw(uint32_t{0x07064B50}) + raw(uint32_t{0}) + raw(record) + raw(uint32_t{1});
  }
  const auto count = uint16_t(entries + end.more_entries);
  return out + raw(uint32_t{0x06054B50}) + raw(end.disk) + raw(uint16_t{0}) + raw(count) + raw(count) +
         raw(uint32_t(directory.size())) + raw(uint32_t(offset + end.more_offset)) + raw(uint16_t{0});
}

struct Legacy {
  std::string magic = std::string("\x8A\x0A\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19");
  int64_t version = 1001;
  std::string system = dict(text("little_endian") + "\x88");
  std::string object;
  std::vector<std::string> keys;
  std::string storages;

  std::string bytes() const {
    std::string list = "](";
    for (const std::string& key : keys) list += text(key);
    return pickle_of(magic) + pickle_of(integer(version)) + pickle_of(system) + pickle_of(object) +
           pickle_of(list + "e") + storages;
  }
};

}  // namespace plume::test
