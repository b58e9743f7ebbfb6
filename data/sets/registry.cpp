#include "data/sets/registry.h"

#include <algorithm>

#include "data/sets/cifar.h"
#include "data/sets/image_set.h"
#include "engine/core/error.h"
#include "engine/core/text.h"

namespace plume::data {
namespace {

void check_name(std::string_view name) {
  if (std::find(dataset_names().begin(), dataset_names().end(), name) == dataset_names().end())
    fail(ErrorKind::usage, "data set '{}' is unknown, did you mean '{}'?", name,
         nearest(name, dataset_names()));
}

void check_dir(std::string_view name, const std::string& dir) {
  PLUME_CHECK(!dir.empty(), "data set {}: the folder of its files is not given", name);
}

}  // namespace

const std::vector<std::string>& dataset_names() {
  static const std::vector<std::string> names = {"synthetic", "cifar10", "cifar100", "tiny-imagenet",
                                                 "imagefolder"};
  return names;
}

DatasetInfo dataset_traits(std::string_view name) {
  check_name(name);
  for (const CifarFormat* format : {&cifar10_format(), &cifar100_format()})
    if (name == format->name) return cifar_traits(*format);
  if (name == "synthetic") return synthetic_traits();
  if (name == "tiny-imagenet") return tiny_imagenet_traits();
  if (name == "imagefolder") return image_folder_traits();
  fail(ErrorKind::internal, "data set {}: has no traits", name);
}

std::vector<Split> splits_of(std::string_view name, const std::string& dir) {
  check_name(name);
  if (name == "tiny-imagenet") return {Split::train, Split::val};
  if (name != "imagefolder") return {Split::train, Split::test};
  check_dir(name, dir);
  return image_folder_splits(dir);
}

MeasuredSplit measured_split(std::string_view name, const std::string& dir) {
  const std::vector<Split> there = splits_of(name, dir);
  const auto has = [&](Split split) { return std::find(there.begin(), there.end(), split) != there.end(); };
  const bool val = has(Split::val), test = has(Split::test);
  if (val && test)
    return {Split::test, message("{}: has val and test: test is measured", printable(dir)), true};
  if (test) return {Split::test, ""};
  if (!val) fail(ErrorKind::bad_input, "{}: has no folder val or test", printable(dir));
  return {Split::val, name == "imagefolder" ? message("{}: has no test: val is measured", printable(dir))
                                            : message("{}: test has no labels: val is measured", name)};
}

std::shared_ptr<const Dataset> open_dataset(std::string_view name, const std::string& dir, Split split,
                                            const OpenOptions& options) {
  check_name(name);
  if (name == "synthetic")
    return make_synthetic(split, {.count = options.count, .seed = options.seed, .threads = options.threads});
  check_dir(name, dir);
  PLUME_CHECK(options.shorter_side == 0 || name == "imagefolder",
              "data set {}: is not resized when it is opened", name);
  PLUME_CHECK(options.class_names.empty() || name == "imagefolder", "data set {}: has classes of its own",
              name);
  for (const CifarFormat* format : {&cifar10_format(), &cifar100_format()})
    if (name == format->name) return load_cifar(*format, dir, split);
  const ImageSource source = name == "tiny-imagenet" ? list_tiny_imagenet(dir, split)
                                                     : list_image_folder(dir, split, options.class_names);
  return open_image_set(source, {.skip_bad = options.skip_bad,
                                 .shorter_side = options.shorter_side,
                                 .squash = options.squash,
                                 .interpolation = options.interpolation,
                                 .cache_dir = options.cache_dir,
                                 .threads = options.threads,
                                 .log = options.log});
}

}  // namespace plume::data
