#include "engine/files/read_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "engine/core/error.h"

namespace plume::data {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

const char* kind_of_file(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "not a regular file";
}

void read_fully(const Descriptor& file, const std::string& path, uint8_t* to, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t n = read(file.number(), to + done, bytes - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      fail(ErrorKind::bad_input, "{}: reading at byte {} failed: {}", path, done, std::strerror(errno));
    if (n == 0) fail(ErrorKind::bad_input, "{}: ends at byte {}, expected {} bytes", path, done, bytes);
    done += size_t(n);
  }
}

// Opens a regular file and tells its size; `wanted` completes "expected ...".
Descriptor open_regular(const std::string& path, const std::string& wanted, int64_t& size) {
  struct stat status {};
  const auto check_regular = [&] {
    if (!S_ISREG(status.st_mode))
      fail(ErrorKind::bad_input, "{}: is {}, expected {}", path, kind_of_file(status.st_mode), wanted);
  };
  // The kind is looked at before opening: opening a device may do something, opening a pipe may wait.
  if (stat(path.c_str(), &status) != 0)
    fail(ErrorKind::bad_input, "{}: {}, expected {}", path, std::strerror(errno), wanted);
  check_regular();
  Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.number() < 0) fail(ErrorKind::bad_input, "{}: cannot be opened: {}", path, std::strerror(errno));
  if (fstat(file.number(), &status) != 0)
    fail(ErrorKind::bad_input, "{}: cannot be examined: {}", path, std::strerror(errno));
  check_regular();  // what is open now, should it have been swapped in between
  size = status.st_size;
  if (size == 0) fail(ErrorKind::bad_input, "{}: is empty, expected {}", path, wanted);
  return file;
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
  int64_t found = 0;
  const Descriptor file = open_regular(path, wanted, found);
  if (found != size) {
    std::vector<uint8_t> head(size_t(std::min<int64_t>(found, 256)));
    read_fully(file, path, head.data(), head.size());
    if (const char* content = familiar_content(head))
      fail(ErrorKind::bad_input, "{}: holds {} ({} bytes), expected {}", path, content, found, wanted);
    fail(ErrorKind::bad_input, "{}: has {} bytes, expected {}", path, found, wanted);
  }
  std::vector<uint8_t> bytes(size_t(size), 0);
  read_fully(file, path, bytes.data(), bytes.size());
  return bytes;
}

std::vector<uint8_t> read_small_file(const std::string& path, int64_t most, const std::string& expected) {
  int64_t found = 0;
  const Descriptor file = open_regular(path, expected, found);
  if (found > most)
    fail(ErrorKind::bad_input, "{}: has {} bytes, expected {} of at most {} bytes", path, found, expected,
         most);
  std::vector<uint8_t> bytes(size_t(found), 0);
  read_fully(file, path, bytes.data(), bytes.size());
  return bytes;
}

MappedFile map_file(const std::string& path, const std::string& expected) {
  int64_t found = 0;
  const Descriptor file = open_regular(path, expected, found);
  const size_t size = size_t(found);
  void* const start = mmap(nullptr, size, PROT_READ, MAP_SHARED, file.number(), 0);
  if (start == MAP_FAILED)
    fail(ErrorKind::resource, "{}: {} bytes cannot be mapped: {}", path, size, std::strerror(errno));
  return {{static_cast<const uint8_t*>(start), size},
          std::shared_ptr<const void>(start, [size](const void* p) { munmap(const_cast<void*>(p), size); })};
}

}  // namespace plume::data
