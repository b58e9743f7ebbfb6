#include "engine/files/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "engine/core/error.h"

namespace plume {

AtomicFile::AtomicFile(const std::string& path, uint64_t bytes)
    : path_(path), temporary_(path + ".tmp"), expected_(bytes) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  folder_ = parent.empty() ? "." : parent.string();
  struct stat status {};
  // A device or a pipe would be replaced by a file.
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode))
    fail(ErrorKind::resource, "{}: cannot be written: is {}", path,
         S_ISDIR(status.st_mode) ? "a folder" : "not a regular file");
  ::unlink(temporary_.c_str());
  file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (file_ < 0) fail_with(errno);
}

AtomicFile::~AtomicFile() {
  if (file_ < 0) return;
  ::close(file_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t bytes) {
  write_at(written_, data, bytes);
  written_ += bytes;
}

void AtomicFile::overwrite(uint64_t offset, const void* data, size_t bytes) {
  PLUME_CHECK(offset <= written_ && bytes <= written_ - offset, "{}: overwrites what is not there", path_);
  write_at(offset, data, bytes);
}

void AtomicFile::write_at(uint64_t offset, const void* data, size_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::pwrite(file_, next, bytes, off_t(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail_with(n < 0 ? errno : EIO);
    next += n;
    offset += uint64_t(n);
    bytes -= size_t(n);
  }
}

void AtomicFile::commit() {
  if (::fsync(file_) != 0) fail_with(errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_with(errno);
  ::close(file_);
  file_ = -1;
  // Makes the new name durable. A folder that may not be read, or a file system that cannot do it, is no
  // reason to stop: the file itself is complete.
  const int folder = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  const int error = ::fsync(folder) == 0 ? 0 : errno;
  ::close(folder);
  if (error == EIO) fail_with(error);
}

void AtomicFile::fail_with(int error) const {
  std::string details = std::strerror(error);
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    struct statvfs volume {};
    // What there is room for, the part that was written included.
    const bool known = (file_ < 0 || ::ftruncate(file_, 0) == 0) && ::statvfs(folder_.c_str(), &volume) == 0;
    details += message("; {} bytes needed, {} free", std::max(expected_, written_),
                       known ? std::to_string(uint64_t(volume.f_bavail) * volume.f_frsize) : "unknown");
  }
  fail(ErrorKind::resource, "{}: cannot be written: {}", path_, details);
}

void write_file_atomically(const std::string& path, std::string_view content) {
  AtomicFile file(path, content.size());
  file.write(content.data(), content.size());
  file.commit();
}

}  // namespace plume
