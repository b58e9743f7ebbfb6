#include "data/sets/registry.h"

#include <algorithm>

#include "data/sets/cifar.h"
#include "data/sets/image_set.h"
#include "engine/core/error.h"
#include "engine/core/text.h"

namespace plume::data {

const std::vector<std::string>& dataset_names() {
  static const std::vector<std::string> names = {"synthetic", "cifar10", "cifar100", "tiny-imagenet",
                                                 "imagefolder"};
  return names;
}

std::shared_ptr<const Dataset> open_dataset(std::string_view name, const std::string& dir, Split split,
                                            const OpenOptions& options) {
  if (std::find(dataset_names().begin(), dataset_names().end(), name) == dataset_names().end())
    fail(ErrorKind::usage, "data set '{}' is unknown, did you mean '{}'?", name,
         nearest(name, dataset_names()));
  if (name == "synthetic")
    return make_synthetic(split, {.count = options.count, .seed = options.seed, .threads = options.threads});
  PLUME_CHECK(!dir.empty(), "data set {}: the folder of its files is not given", name);
  PLUME_CHECK(options.shorter_side == 0 || name == "imagefolder",
              "data set {}: is not resized when it is opened", name);
  for (const CifarFormat* format : {&cifar10_format(), &cifar100_format()})
    if (name == format->name) return load_cifar(*format, dir, split);
  const ImageSource source =
      name == "tiny-imagenet" ? list_tiny_imagenet(dir, split) : list_image_folder(dir, split);
  return open_image_set(
      source, {options.skip_bad, options.shorter_side, options.cache_dir, options.threads, options.log});
}

}  // namespace plume::data
