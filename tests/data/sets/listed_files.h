// What a source of images lists, for tests to compare.
#pragma once
#include <string>
#include <vector>

#include "data/sets/image_source.h"
#include "tests/data/images/image_files.h"

namespace plume::data {

inline std::vector<std::string> paths(const ImageSource& source) {
  std::vector<std::string> all;
  for (const ImageFile& file : source.files) all.push_back(file.path);
  return all;
}
inline std::vector<int32_t> labels(const ImageSource& source) {
  std::vector<int32_t> all;
  for (const ImageFile& file : source.files) all.push_back(file.label);
  return all;
}

}  // namespace plume::data
