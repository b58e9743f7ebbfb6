// Data sets by name.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"
#include "data/images/resize.h"
#include "data/sets/synthetic.h"

namespace plume::data {

// "synthetic" (the embedded set), "cifar10", "cifar100", "tiny-imagenet", "imagefolder".
const std::vector<std::string>& dataset_names();

struct OpenOptions {
  int64_t count = 0;  // images of the embedded set; 0 for its own number. Others are always opened whole.
  uint64_t seed = 1;  // of the embedded set
  // Of sets of image files:
  int64_t skip_bad = 0;  // so many unreadable images are left out (Dataset::skipped()); the next is an error
  int64_t shorter_side = 0;  // "imagefolder": reduced to this while packing (image_set.h); 0: as they are
  bool squash = false;       // "imagefolder": to a square of it
  Interpolation interpolation = Interpolation::bilinear;  // of that
  std::vector<std::string> class_names;  // "imagefolder": labels are places in these; see list_image_folder()
  std::string cache_dir;                 // see image_set.h
  int threads = 0;                       // that draw or decode; 0 for one per core
  std::function<void(const std::string&)> log;  // see image_set.h; stderr without it
};

// What all images of a set are like, as far as its name tells: statistics, the size where there is one, class
// names where they do not depend on files. Throws usage on an unknown name.
DatasetInfo dataset_traits(std::string_view name);

// The splits with labels that there are: of "imagefolder" those whose folders exist. Throws as
// open_dataset().
std::vector<Split> splits_of(std::string_view name, const std::string& dir);

// The split that a network is measured on where nobody says which: test where there is one, otherwise val.
struct MeasuredSplit {
  Split split = Split::test;
  std::string note;  // one line where that was a choice, or not the usual one; empty otherwise
  // Another split that a run can be selected on: val where test is measured.
  bool has_validation = false;
};
// Throws as open_dataset(), and bad_input where there is neither.
MeasuredSplit measured_split(std::string_view name, const std::string& dir);

// `dir` is the folder of the files; the embedded set has none and ignores it. Throws usage on an unknown name
// (with the nearest one), a missing dir, a split that the set never has or an option out of range, bad_input
// on missing or damaged files, resource on a full disk.
std::shared_ptr<const Dataset> open_dataset(std::string_view name, const std::string& dir, Split split,
                                            const OpenOptions& options = {});

}  // namespace plume::data
