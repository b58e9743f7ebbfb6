// A regular file opened for reading at any place.
#pragma once
#include <cstdint>
#include <string>

namespace plume {

// Throws bad_input, naming the path: when there is nothing, a folder, pipe or device (which is not waited
// for) or the file cannot be opened, and when a read fails or goes beyond the end.
class InputFile {
 public:
  // `expected` names the content for messages: "packed images".
  explicit InputFile(const std::string& path, const std::string& expected = "");
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  int descriptor() const { return file_; }
  void read(uint64_t offset, void* to, uint64_t bytes) const;
  // Throws before anything is allocated when the range does not lie inside the file.
  std::string read_text(uint64_t offset, uint64_t bytes) const;

 private:
  std::string path_;
  uint64_t size_ = 0;
  int file_ = -1;
};

}  // namespace plume
