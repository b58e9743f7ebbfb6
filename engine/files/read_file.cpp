#include "engine/files/read_file.h"

#include <sys/mman.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "engine/core/error.h"
#include "engine/files/input_file.h"

namespace plume {
namespace {

void check_filled(const InputFile& file, const std::string& wanted) {
  if (file.size() == 0) fail(ErrorKind::bad_input, "{}: is empty, expected {}", file.path(), wanted);
}

std::vector<uint8_t> first_bytes(const InputFile& file, uint64_t count) {
  std::vector<uint8_t> bytes(std::min(count, file.size()));
  file.read(0, bytes.data(), bytes.size());
  return bytes;
}

}  // namespace

const char* familiar_content(std::span<const uint8_t> bytes) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()),
                              std::min<size_t>(bytes.size(), 256));
  std::string lower(head);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return char(std::tolower(c)); });
  if (head.starts_with("\x1f\x8b")) return "gzip data: unpack the archive first";
  if (head.starts_with("PK\x03\x04")) return "a zip archive: unpack it first";
  if (head.starts_with("version https://git-lfs"))
    return "a Git LFS pointer: fetch the real file with 'git lfs pull'";
  if (lower.find("<!doctype html") != std::string::npos || lower.find("<html") != std::string::npos)
    return "an HTML page: the download failed";
  if (head.size() > 1 && head[0] == '\x80' && head[1] >= 2 && head[1] <= 5)
    return "a Python pickle: the binary version of the data set is needed";
  return nullptr;
}

std::vector<uint8_t> read_sized_file(const std::string& path, int64_t size, const std::string& expected) {
  const std::string wanted = message("{} bytes of {}", size, expected);
  const InputFile file(path, wanted);
  check_filled(file, wanted);
  if (file.size() != uint64_t(size)) {
    if (const char* content = familiar_content(first_bytes(file, 256)))
      fail(ErrorKind::bad_input, "{}: holds {} ({} bytes), expected {}", path, content, file.size(), wanted);
    fail(ErrorKind::bad_input, "{}: has {} bytes, expected {}", path, file.size(), wanted);
  }
  return first_bytes(file, uint64_t(size));
}

std::vector<uint8_t> read_small_file(const std::string& path, int64_t most, const std::string& expected) {
  const InputFile file(path, expected);
  check_filled(file, expected);
  if (file.size() > uint64_t(most))
    fail(ErrorKind::bad_input, "{}: has {} bytes, expected {} of at most {} bytes", path, file.size(),
         expected, most);
  return first_bytes(file, file.size());
}

MappedFile map_file(const std::string& path, const std::string& expected) {
  const InputFile file(path, expected);
  check_filled(file, expected);
  const size_t size = size_t(file.size());
  void* const start = mmap(nullptr, size, PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (start == MAP_FAILED)
    fail(ErrorKind::resource, "{}: {} bytes cannot be mapped: {}", path, size, std::strerror(errno));
  return {{static_cast<const uint8_t*>(start), size},
          std::shared_ptr<const void>(start, [size](const void* p) { munmap(const_cast<void*>(p), size); })};
}

}  // namespace plume
