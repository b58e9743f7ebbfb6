#include "tools/training/run_data.h"

#include <algorithm>
#include <utility>

#include "data/sets/registry.h"
#include "engine/ops/augment_images.h"
#include "tools/cli/json.h"
#include "tools/cli/main.h"
#include "tools/cli/preprocessing.h"
#include "tools/training/checkpoint.h"
#include "tools/training/evaluation.h"
#include "tools/training/ranks.h"

namespace plume::tools {
namespace {

// For a data set that lies on the device as a whole: no more than a quarter of what is free there, since the
// network comes later.
int64_t resident_bytes(Device device) {
  constexpr int64_t kMost = int64_t(4) << 30;
  const auto ask = backend(device).available_memory;
  return ask ? std::min(kMost, int64_t(ask() / 4)) : kMost;
}

data::LoaderParams training_params(const Recipe& r, const RunOptions& options, const Selection& selection,
                                   const data::Preprocessing& how, Device device) {
  const data::Dataset& set = *selection.train_set;
  data::LoaderParams params;
  params.batch_size = r.batch;
  params.workers = int(options.workers);
  params.sampler.shuffle = true;
  params.sampler.seed = uint64_t(r.seed);
  params.sampler.limit = selection.train_limit;
  const int64_t images = selection.train_limit ? std::min(selection.train_limit, set.size()) : set.size();
  // A last batch of one image would leave batch norm without a variance.
  share_samples(params.sampler);
  params.sampler.drop_last = images >= r.batch * params.sampler.world;
  data::AugmentParams& augment = params.augment;
  augment = data::training_augmentation(how, set, {r.crop_padding, r.random_resized_crop});
  augment.seed = uint64_t(r.seed);
  augment.flip = !r.no_flip;
  augment.policy.policy = data::parse_policy(r.auto_augment);
  augment.erasing = r.erasing;
  params.augment_on_device = !is_host(device);
  params.device = device;
  params.resident_bytes = resident_bytes(device);
  return params;
}

// Which size the network takes must not be a question of the split.
void check_sizes(const Recipe& r, const data::Dataset& train, const data::Dataset& other) {
  const data::ImageSize size = data::preprocessing_for(train.info(), r.image_size).crop,
                        others = data::preprocessing_for(other.info(), r.image_size).crop;
  PLUME_CHECK(
      size == others,
      "--image-size: the images of {} have {}x{} pixels in {}, {}x{} in {}: say which size the network "
      "takes",
      r.data, size.height, size.width, name(train.split()), others.height, others.width, name(other.split()));
}

std::string selection_note(const Selection& s, const data::Dataset& test_set) {
  if (!s.validation_set)
    return message("selects on the {} split, which it is measured on too (--validation 0)",
                   name(test_set.split()));
  return message("selects on {}; the {} split is measured once, at the end", s.about, name(test_set.split()));
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

data::Preprocessing wanted_preprocessing(const Recipe& r) {
  if (r.weights.empty()) return {};
  return describe_weights(open_weights(r.weights), r.model).preprocessing;
}

RunData open_run_data(const Recipe& r, const RunOptions& options, Device device,
                      const data::Preprocessing& wanted) {
  const auto prepared = [&](const data::DatasetInfo& images) {
    data::Preprocessing how = data::preprocessing_for(images, r.image_size, r.squash);
    how.interpolation = wanted.interpolation;
    how.rotate180 = wanted.rotate180;
    return how;
  };
  const auto open = [&](data::Split split, int64_t limit) {
    data::OpenOptions open_options = {
        .count = limit, .skip_bad = options.skip_bad, .cache_dir = options.cache_dir, .log = log_line};
    if (r.image_size > 0) reduce_as(open_options, r.data, prepared(data::dataset_traits(r.data)));
    return data::open_dataset(r.data, options.data_dir, split, open_options);
  };
  const data::MeasuredSplit measured = data::measured_split(r.data, options.data_dir);
  const auto whole_set = open(data::Split::train, r.limit_train);
  const auto test_set = open(measured.split, r.limit_test);
  OpenValidation open_val;
  if (measured.has_validation) open_val = [&] { return open(data::Split::val, r.limit_test); };
  const data::Preprocessing how = prepared(whole_set->info());
  check_sizes(r, *whole_set, *test_set);
  const Selection selection = select_images(r, whole_set, open_val);
  if (selection.validation_set) check_sizes(r, *whole_set, *selection.validation_set);
  std::vector<std::string> notes = {"trains on " + to_line(selection.train_set->description()),
                                    "measures on " + to_line(test_set->description())};
  if (!measured.note.empty()) notes.push_back(measured.note);
  notes.push_back(selection_note(selection, *test_set));
  notes.push_back("images: " + to_line(how));
  const auto each_once = [&](std::shared_ptr<const data::Dataset> set, int64_t limit) {
    return evaluation_loader(std::move(set), r.batch, int(options.workers), limit, how, true, device);
  };
  std::unique_ptr<data::Loader> validation;
  if (selection.validation_set)
    validation.reset(new data::Loader(each_once(selection.validation_set, selection.validation_limit)));
  return {selection,
          test_set,
          whole_set->fingerprint(),
          data::Loader(selection.train_set, training_params(r, options, selection, how, device)),
          std::move(validation),
          each_once(test_set, r.limit_test),
          how,
          std::move(notes)};
}

void make_images(data::Batch& batch, Device device) {
  if (batch.images.defined()) return;
  batch.images = augment_images(batch.source, device);
  batch.labels = batch.labels.clone();
}

}  // namespace plume::tools
