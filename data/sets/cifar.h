// CIFAR-10 and CIFAR-100 in their official binary layout (A. Krizhevsky, "Learning multiple layers of
// features from tiny images", 2009).
//
// A record is the label bytes (CIFAR-10: class; CIFAR-100: coarse class, fine class) followed by 3072 pixel
// bytes: the red, green and blue plane of a 32x32 image. A file is nothing but records.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace plume::data {

// A field may be changed to read smaller files of the same layout.
struct CifarFormat {
  std::string name;     // "cifar10"
  std::string title;    // "CIFAR-10", for messages
  std::string folder;   // the archive's folder: files are looked for in DIR, then in DIR/folder
  std::string archive;  // what the names of the official archives begin with
  std::vector<std::string> train_files, test_files;
  int64_t train_records = 0, test_records = 0;  // per file
  int coarse_classes = 0;                       // 0: records have no coarse label
  std::vector<std::string> class_names;
  ChannelStatistics statistics;
};

const CifarFormat& cifar10_format();
const CifarFormat& cifar100_format();  // labels are the 100 fine classes

// What all of its images are like (split: train).
DatasetInfo cifar_traits(const CifarFormat& format);

// Throws bad_input, naming the file, what was found and what was expected, when a file is missing, is not a
// regular file, has another size, holds a label out of range, or repeats another file of the split; and when
// the folder holds the version for Python or Matlab, or an archive, instead. Throws usage on Split::val.
std::shared_ptr<const Dataset> load_cifar(const CifarFormat& format, const std::string& dir, Split split);

}  // namespace plume::data
