#include "engine/files/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "engine/core/error.h"

namespace plume {

namespace {

const char* kind_of_file(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "not a regular file";
}

}  // namespace

InputFile::InputFile(const std::string& path, const std::string& expected) : path_(path) {
  const std::string wanted = expected.empty() ? "" : ", expected " + expected;
  struct stat status {};
  const auto check_regular = [&] {
    if (!S_ISREG(status.st_mode))
      fail(ErrorKind::bad_input, "{}: is {}{}", path, kind_of_file(status.st_mode), wanted);
  };
  // The kind is looked at before opening: opening a device may do something, opening a pipe may wait.
  if (::stat(path.c_str(), &status) != 0)
    fail(ErrorKind::bad_input, "{}: cannot be opened: {}{}", path, std::strerror(errno), wanted);
  check_regular();
  file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file_ < 0) fail(ErrorKind::bad_input, "{}: cannot be opened: {}", path, std::strerror(errno));
  try {
    if (::fstat(file_, &status) != 0)
      fail(ErrorKind::bad_input, "{}: cannot be examined: {}", path, std::strerror(errno));
    check_regular();  // what is open now, should it have been swapped in between
  } catch (...) {
    ::close(file_);
    throw;
  }
  size_ = uint64_t(status.st_size);
}

InputFile::~InputFile() { ::close(file_); }

void InputFile::read(uint64_t offset, void* to, uint64_t bytes) const {
  char* next = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t n = ::pread(file_, next, bytes, off_t(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      fail(ErrorKind::bad_input, "{}: cannot be read at byte {}: {}", path_, offset, std::strerror(errno));
    if (n == 0) fail(ErrorKind::bad_input, "{}: ends at byte {}, expected {} more", path_, offset, bytes);
    next += n;
    offset += uint64_t(n);
    bytes -= uint64_t(n);
  }
}

std::string InputFile::read_text(uint64_t offset, uint64_t bytes) const {
  if (offset > size_ || bytes > size_ - offset)
    fail(ErrorKind::bad_input, "{}: has {} bytes, expected {} from byte {} on", path_, size_, bytes, offset);
  std::string text(bytes, '\0');
  read(offset, text.data(), bytes);
  return text;
}

}  // namespace plume
