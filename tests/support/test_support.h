// Helpers shared by the tests.
#pragma once
#include <filesystem>
#include <string>

namespace plume::test {

// A fresh empty folder that is removed with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& bytes);
// tests/fixtures/<name> of the sources that were built; PLUME_SOURCE_DIR names them where they have moved.
std::string fixture(const std::string& name);
// Tests run under a user-mode emulator (PLUME_EMULATED is set, by tools/test.sh), which starts no programs of
// its architecture and no threads after a fork.
bool is_emulated();

}  // namespace plume::test
