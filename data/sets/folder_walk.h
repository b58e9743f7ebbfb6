// Finds the image files below a folder, and counts what else lies there.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "data/dataset.h"

namespace plume::data {

// Whether the name has one of readable_extensions() (images/image.h), in upper or lower case. Other files are
// left out, and counted.
bool is_readable_name(const std::string& name);

// Files that are left out, by kind.
class LeftOutCounts {
 public:
  // By extension: ".webp"; "without extension", or "other" where it is no word.
  void add_file(const std::string& name);
  void add(const std::string& kind, int64_t count = 1) { counts_[kind] += count; }
  std::vector<LeftOut> list() const;  // most frequent first, then by name

 private:
  std::map<std::string, int64_t> counts_;
};

class FolderWalk {
 public:
  // Counts what is left out in `left_out`, which must outlive this.
  FolderWalk(std::string root, LeftOutCounts& left_out) : root_(std::move(root)), left_out_(left_out) {}

  // Paths below the root of the images in `folder` (below the root) and in all folders in it, in the order of
  // torchvision's ImageFolder: by folder, then by name. Hidden files and folders are passed over, links are
  // followed. Throws bad_input, naming the path, on a folder that cannot be listed, and on links that lead
  // round in circles.
  std::vector<std::string> images(const std::string& folder);

 private:
  using Identity = std::pair<uint64_t, uint64_t>;     // device and inode
  using Place = std::pair<std::string, std::string>;  // folder and name

  void descend(const std::string& folder, std::vector<Place>& found);

  const std::string root_;
  LeftOutCounts& left_out_;
  std::vector<Identity> around_;  // folders that lead to the one that is listed
  int64_t entries_ = 0;
};

}  // namespace plume::data
