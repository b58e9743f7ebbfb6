#include "engine/files/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "engine/core/error.h"

namespace plume {

InputFile::InputFile(const std::string& path) : path_(path) {
  // Non-blocking: opening a pipe that nobody writes to would wait for ever.
  file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file_ < 0) fail(ErrorKind::bad_input, "{}: cannot be opened: {}", path, std::strerror(errno));
  struct stat status {};
  const bool known = ::fstat(file_, &status) == 0;
  const int error = errno;
  if (known && S_ISREG(status.st_mode)) {
    size_ = uint64_t(status.st_size);
    return;
  }
  ::close(file_);
  if (!known) fail(ErrorKind::bad_input, "{}: cannot be read: {}", path, std::strerror(error));
  fail(ErrorKind::bad_input, "{}: is {}", path, S_ISDIR(status.st_mode) ? "a folder" : "not a regular file");
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
