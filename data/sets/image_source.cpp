#include "data/sets/image_source.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <utility>

#include "engine/core/error.h"

namespace plume::data {

namespace fs = std::filesystem;

uint64_t source_fingerprint(const ImageSource& source) {
  uint64_t hash = hash_text(source.info.name, uint64_t(source.info.split));
  for (const std::string& name : source.info.class_names) hash = hash_text(name, hash);
  for (const ImageFile& file : source.files) {
    struct stat status {};
    if (::stat(source.path(file).c_str(), &status) != 0) status = {};
    const int64_t facts[] = {file.label, int64_t(status.st_mode), int64_t(status.st_size),
                             int64_t(status.st_mtim.tv_sec), int64_t(status.st_mtim.tv_nsec)};
    hash = hash_bytes({reinterpret_cast<const uint8_t*>(facts), sizeof facts}, hash_text(file.path, hash));
  }
  return hash;
}

std::vector<std::string> names_in(const std::string& folder) {
  std::error_code error;
  std::vector<std::string> names;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    std::string name = entry->path().filename().string();
    if (name.front() != '.') names.push_back(std::move(name));
  }
  if (error) fail(ErrorKind::bad_input, "{}: {}, expected a folder of images", folder, error.message());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> folders_in(const std::string& folder) {
  std::vector<std::string> folders;
  for (const std::string& name : names_in(folder)) {
    const std::string path = folder + "/" + name;
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (error) fail(ErrorKind::bad_input, "{}: {}, expected a class's folder", path, error.message());
    if (fs::is_directory(status)) folders.push_back(name);
  }
  return folders;
}

void alternate_classes(std::vector<ImageFile>& files) {
  struct Placed {
    int64_t place;
    ImageFile file;
  };
  std::map<int32_t, int64_t> counts;
  std::vector<Placed> placed;
  for (ImageFile& file : files) {
    const int64_t place = counts[file.label]++;
    placed.push_back({place, std::move(file)});
  }
  std::stable_sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) {
    return std::pair(a.place, a.file.label) < std::pair(b.place, b.file.label);
  });
  for (size_t i = 0; i < files.size(); ++i) files[i] = std::move(placed[i].file);
}

}  // namespace plume::data
