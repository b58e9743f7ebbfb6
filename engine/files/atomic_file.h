// A file that appears whole or not at all.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace plume {

// Writes PATH.tmp beside the file and renames it over the file in commit(), which returns when both the file
// and its name are on the disk. Until then, and after any error, what was at `path` is as it was; the
// temporary is removed by the destructor, and one that a killed process left is replaced.
//
// Throws resource, naming the path, the reason and on a full disk the bytes needed and free.
class AtomicFile {
 public:
  // `bytes`: the size to come, for messages.
  explicit AtomicFile(const std::string& path, uint64_t bytes = 0);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t bytes);                       // at the end
  void overwrite(uint64_t offset, const void* data, size_t bytes);  // what was written before
  void commit();                                                    // once, last

 private:
  void write_at(uint64_t offset, const void* data, size_t bytes);
  [[noreturn]] void fail_with(int error) const;

  std::string path_, temporary_, folder_;
  uint64_t expected_, written_ = 0;
  int file_ = -1;
};

void write_file_atomically(const std::string& path, std::string_view content);

}  // namespace plume
