#include <algorithm>
#include <cctype>
#include <filesystem>

#include "data/sets/image_source.h"
#include "engine/core/error.h"

namespace plume::data {
namespace {

namespace fs = std::filesystem;

bool is_image_name(const std::string& name) {
  std::string extension = fs::path(name).extension().string();
  for (char& c : extension) c = char(std::tolower(static_cast<unsigned char>(c)));
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

// "train", "val", "test"; empty when the split is not there.
std::string folder_of(const std::string& dir, Split split) {
  std::error_code ignored;
  if (split == Split::train) return fs::exists(dir + "/train", ignored) ? "train" : "";
  for (const char* name : {"val", "test"})
    if (fs::exists(dir + "/" + name, ignored)) return name;
  return "";
}

// A class that is in `here` alone.
void check_covered(const std::string& dir, const std::string& here, const std::string& there,
                   const std::vector<std::string>& classes_here,
                   const std::vector<std::string>& classes_there) {
  for (const std::string& name : classes_here)
    if (!std::binary_search(classes_there.begin(), classes_there.end(), name))
      fail(ErrorKind::bad_input, "{}/{}: has the class '{}', {} has not; both must have the same classes",
           dir, here, name, there);
}

}  // namespace

ImageSource list_image_folder(const std::string& dir, Split split) {
  const std::string folder = folder_of(dir, split);
  if (folder.empty()) {
    std::error_code ignored;
    if (!fs::is_directory(dir, ignored))
      fail(ErrorKind::bad_input, "{}: {}, expected a folder with {}", dir,
           fs::exists(dir, ignored) ? "is not a folder" : "no such folder",
           split == Split::train ? "train" : "val or test");
    fail(ErrorKind::bad_input, "{}: has no folder {}", dir, split == Split::train ? "train" : "val or test");
  }
  ImageSource source;
  source.info.name = "imagefolder";
  source.info.split = split;
  source.info.statistics = kImageNetStatistics;
  source.root = dir;
  std::vector<std::string>& classes = source.info.class_names;
  classes = folders_in(dir + "/" + folder);
  if (classes.empty())
    fail(ErrorKind::bad_input, "{}/{}: has no folders, expected one per class", dir, folder);
  const std::string other = folder_of(dir, split == Split::train ? Split::test : Split::train);
  if (!other.empty()) {
    const std::vector<std::string> others = folders_in(dir + "/" + other);
    check_covered(dir, folder, other, classes, others);
    check_covered(dir, other, folder, others, classes);
  }
  for (size_t label = 0; label < classes.size(); ++label) {
    const std::string below = folder + "/" + classes[label];
    const size_t before = source.files.size();
    for (const std::string& name : names_in(dir + "/" + below))
      if (is_image_name(name)) source.files.push_back({below + "/" + name, int32_t(label)});
    if (source.files.size() == before)
      fail(ErrorKind::bad_input, "{}/{}: has no images, expected *.jpg, *.jpeg or *.png", dir, below);
  }
  alternate_classes(source.files);
  return source;
}

}  // namespace plume::data
