#include "tools/training/run_data.h"

#include <algorithm>
#include <utility>

#include "data/sets/registry.h"
#include "engine/ops/augment_images.h"
#include "tools/cli/main.h"
#include "tools/training/evaluation.h"
#include "tools/training/ranks.h"

namespace plume::tools {
namespace {

// Of the device's memory, for a data set that lies there as a whole.
constexpr int64_t kResidentBytes = int64_t(4) << 30;

data::LoaderParams training_params(const Recipe& r, const RunOptions& options, const data::Dataset& set,
                                   Device device) {
  data::LoaderParams params;
  params.batch_size = r.batch;
  params.workers = int(options.workers);
  params.sampler.shuffle = true;
  params.sampler.seed = uint64_t(r.seed);
  params.sampler.limit = r.limit_train;
  const int64_t images = r.limit_train ? std::min(r.limit_train, set.size()) : set.size();
  // A last batch of one image would leave batch norm without a variance.
  share_samples(params.sampler);
  params.sampler.drop_last = images >= r.batch * params.sampler.world;
  data::AugmentParams& augment = params.augment;
  augment.statistics = set.statistics();
  augment.seed = uint64_t(r.seed);
  augment.output_height = augment.output_width = int(r.image_size);
  augment.random_resized_crop = r.random_resized_crop;
  if (!r.random_resized_crop) {
    augment.crop_padding = int(r.crop_padding);
    augment.resize_shorter = int(shorter_side_for(set, r.image_size));
    augment.random_crop = augment.resize_shorter > 0;
  }
  augment.flip = !r.no_flip;
  const bool table = r.auto_augment == "cifar10" || r.auto_augment == "imagenet";
  augment.policy.policy = data::parse_policy((table ? "autoaugment_" : "") + r.auto_augment);
  augment.erasing = r.erasing;
  params.augment_on_device = !is_host(device);
  params.device = device;
  params.resident_bytes = kResidentBytes;
  return params;
}

}  // namespace

Json to_json(const data::DatasetDescription& description) {
  Json left_out = Json::object();
  for (const data::LeftOut& kind : description.left_out) left_out[kind.kind] = kind.count;
  return {{"folder", description.folder},
          {"split", name(description.split)},
          {"images", description.images},
          {"left_out", left_out}};
}

RunData open_run_data(const Recipe& r, const RunOptions& options, Device device) {
  const auto open = [&](data::Split split, int64_t limit) {
    return data::open_dataset(r.data, options.data_dir, split,
                              {.count = limit,
                               .skip_bad = options.skip_bad,
                               .shorter_side = r.data == "imagefolder" ? resized_side(r.image_size) : 0,
                               .cache_dir = options.cache_dir,
                               .log = log_line});
  };
  const data::MeasuredSplit measured = data::measured_split(r.data, options.data_dir);
  const auto train_set = open(data::Split::train, r.limit_train);
  const auto test_set = open(measured.split, r.limit_test);
  PLUME_CHECK(r.image_size > 0 || (train_set->uniform() && test_set->uniform()),
              "--image-size: the images of {} are of different sizes: say which one the network takes",
              r.data);
  PLUME_CHECK(
      r.image_size > 0 ||
          (train_set->height() == test_set->height() && train_set->width() == test_set->width()),
      "--image-size: the images of {} have {}x{} pixels in {}, {}x{} in {}: say which size the network "
      "takes",
      r.data, train_set->height(), train_set->width(), name(train_set->split()), test_set->height(),
      test_set->width(), name(test_set->split()));
  std::vector<std::string> notes = {"trains on " + to_line(train_set->description()),
                                    "measures on " + to_line(test_set->description())};
  if (!measured.note.empty()) notes.push_back(measured.note);
  return {train_set,
          test_set,
          data::Loader(train_set, training_params(r, options, *train_set, device)),
          evaluation_loader(test_set, r.batch, int(options.workers), r.limit_test, r.image_size, true),
          r.image_size > 0 ? r.image_size : train_set->height(),
          std::move(notes)};
}

void make_images(data::Batch& batch, Device device) {
  if (batch.images.defined()) return;
  batch.images = augment_images(batch.source, device);
  batch.labels = batch.labels.clone();
}

}  // namespace plume::tools
