#include "data/sets/folder_walk.h"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "data/images/image.h"
#include "engine/core/error.h"
#include "engine/core/text.h"

namespace plume::data {
namespace {

namespace fs = std::filesystem;

// Files and folders. Links that fan out can make any number of paths from a few folders.
constexpr int64_t kMostEntries = 30'000'000;

std::string extension_of(const std::string& name) {
  std::string extension = fs::path(name).extension().string();
  for (char& c : extension) c = char(std::tolower(static_cast<unsigned char>(c)));
  return extension;
}

}  // namespace

bool is_readable_name(const std::string& name) {
  const auto known = readable_extensions();
  return std::find(known.begin(), known.end(), extension_of(name)) != known.end();
}

void LeftOutCounts::add_file(const std::string& name) {
  constexpr size_t kMostLetters = 8;
  const std::string extension = extension_of(name);
  if (extension.size() < 2) return add("without extension");
  const bool word = extension.size() <= 1 + kMostLetters &&
                    std::all_of(extension.begin() + 1, extension.end(),
                                [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); });
  add(word ? extension : "other");
}

std::vector<LeftOut> LeftOutCounts::list() const {
  std::vector<LeftOut> list;
  for (const auto& [kind, count] : counts_)
    if (count > 0) list.push_back({kind, count});
  std::stable_sort(list.begin(), list.end(),
                   [](const LeftOut& a, const LeftOut& b) { return a.count > b.count; });
  return list;
}

std::vector<std::string> FolderWalk::images(const std::string& folder) {
  std::vector<Place> found;
  descend(folder, found);
  std::sort(found.begin(), found.end());
  std::vector<std::string> paths;
  for (const auto& [in, name] : found) paths.push_back(in + "/" + name);
  return paths;
}

void FolderWalk::descend(const std::string& folder, std::vector<Place>& found) {
  const std::string path = root_ + "/" + folder;
  const auto refuse = [](const std::string& where, const std::string& why) {
    fail(ErrorKind::bad_input, "{}: {}, expected a folder of images", printable(where), why);
  };
  struct stat status {};
  std::error_code error;
  if (::stat(path.c_str(), &status) != 0) refuse(path, std::generic_category().message(errno));
  const Identity self{status.st_dev, status.st_ino};
  if (std::find(around_.begin(), around_.end(), self) != around_.end())
    refuse(path, "leads back to a folder around it, a loop of symbolic links");
  around_.push_back(self);
  fs::directory_iterator entry(path, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.front() == '.') continue;
    if (++entries_ > kMostEntries)
      refuse(path, message("brings more than {} files and folders", kMostEntries));
    std::error_code unknown;  // of a link that leads nowhere, or to itself
    const bool is_folder = entry->is_directory(unknown);
    if (is_folder)
      descend(folder + "/" + name, found);
    else if (is_readable_name(name))
      found.emplace_back(folder, name);  // what it is, and whether it is a file, is told by reading it
    else if (!unknown)
      left_out_.add_file(name);
    else if (unknown == std::errc::too_many_symbolic_link_levels)
      refuse(path + "/" + name, unknown.message());
    else
      left_out_.add("unusable links");
  }
  if (error) refuse(path, error.message());
  around_.pop_back();
}

}  // namespace plume::data
