// augment: writes a picture of what a network would be given in training, with the class names, so that a
// person can look.
#include <cmath>
#include <cstdio>

#include "data/images/png.h"
#include "data/loader.h"
#include "data/sets/registry.h"
#include "engine/files/atomic_file.h"
#include "engine/ops/augment_images.h"
#include "engine/ops/mix_batch.h"
#include "tools/cli/main.h"
#include "tools/cli/preprocessing.h"
#include "tools/pictures/sheet.h"
#include "tools/training/evaluation.h"

namespace {

using namespace plume;

constexpr int64_t kMostSamples = 4096, kMostSide = 1024;

struct Request {
  std::string data = "synthetic", data_dir, split = "train", out;
  int64_t count = 64, columns = 8, seed = 1, epoch = 0, repeat = 1;
  bool shuffle = false;

  int64_t image_size = 0, crop_padding = 4;
  bool squash = false, random_resized_crop = false, no_flip = false;
  std::string auto_augment = "none";
  int64_t randaugment_ops = 2, randaugment_magnitude = 9;
  double erasing = 0, mixup = 0, cutmix = 0;
};

// As the programs that train call them.
const std::vector<std::string> kPolicies{"none", "cifar10", "imagenet", "randaugment", "trivialaugment"};

data::AugmentParams augment_params(const Request& r, const data::Dataset& dataset,
                                   const data::Preprocessing& how) {
  data::AugmentParams p = data::training_augmentation(how, dataset, {r.crop_padding, r.random_resized_crop});
  p.seed = uint64_t(r.seed);
  p.flip = !r.no_flip;
  p.policy = {data::parse_policy(r.auto_augment), r.randaugment_ops, r.randaugment_magnitude};
  p.erasing = r.erasing;
  return p;
}

// The classes of a target and, where there are two, their shares.
std::vector<std::string> caption(const float* target, const std::vector<std::string>& classes) {
  std::vector<std::string> lines;
  for (size_t k = 0; k < classes.size(); ++k)
    if (target[k] == 1)
      lines.push_back(classes[k]);
    else if (target[k] > 0)
      lines.push_back(message("{}% {}", std::lround(double(target[k]) * 100), classes[k]));
  return lines;
}

int run(tools::Flags& flags) {
  Request r;
  flags.choice("--data", r.data, data::dataset_names(), "data set");
  flags.text("--data-dir", r.data_dir, "folder of the data set's files");
  flags.choice("--split", r.split, {"train", "val", "test"}, "of the data set");
  flags.text("--out", r.out, "the picture, a PNG file").required();
  flags.whole("--count", r.count, 1, kMostSamples, "samples of an epoch");
  flags.whole("--repeat", r.repeat, 1, kMostSamples,
              "epochs: each sample is shown so many times, side by side");
  flags.whole("--columns", r.columns, 1, kMostSamples, "of the picture");
  flags.whole("--seed", r.seed, 0, INT64_MAX, "of order and augmentation");
  flags.whole("--epoch", r.epoch, 0, 1'000'000, "the first epoch");
  flags.on("--shuffle", r.shuffle, "the samples that training begins with, not the data set's first");
  flags.whole("--image-size", r.image_size, 0, kMostSide, "of the outputs; 0: as the images are");
  flags.on("--squash", r.squash, "whole images to the outputs, whatever their shape");
  flags.whole("--crop-padding", r.crop_padding, 0, 1024, "random crop with this many pixels around");
  flags.on("--random-resized-crop", r.random_resized_crop, "crop of random place, size and shape");
  flags.on("--no-flip", r.no_flip, "do not mirror at random");
  flags.choice("--auto-augment", r.auto_augment, kPolicies, "policy of image operations");
  flags.whole("--randaugment-ops", r.randaugment_ops, 1, kMostImageOps, "operations per image");
  flags.whole("--randaugment-magnitude", r.randaugment_magnitude, 0, 30, "of the operations");
  flags.number("--erasing", r.erasing, 0, 1, "probability of random erasing");
  flags.number("--mixup", r.mixup, 0, 100, "MixUp's alpha; 0: off");
  flags.number("--cutmix", r.cutmix, 0, 100, "CutMix's alpha; 0: off");
  tools::DeviceFlags device_flags(flags);
  flags.parse();
  PLUME_CHECK(r.count * r.repeat <= kMostSamples, "--count times --repeat: {} images, at most {}",
              r.count * r.repeat, kMostSamples);
  PLUME_CHECK(r.out.ends_with(".png"), "--out {}: does not end in .png", r.out);
  const Device device = device_flags.open();

  data::OpenOptions options = {.count = r.shuffle ? 0 : r.count, .log = tools::log_line};
  if (r.image_size > 0)
    tools::reduce_as(options, r.data,
                     data::preprocessing_for(data::dataset_traits(r.data), r.image_size, r.squash));
  const auto dataset = data::open_dataset(r.data, r.data_dir, data::parse_split(r.split), options);
  const data::Preprocessing how = data::preprocessing_for(dataset->info(), r.image_size, r.squash);
  data::LoaderParams params;
  params.batch_size = std::min(r.count, dataset->size());
  params.workers = 0;
  params.sampler.shuffle = r.shuffle;
  params.sampler.seed = uint64_t(r.seed);
  params.augment = augment_params(r, *dataset, how);
  params.augment_on_device = true;
  params.device = device;
  data::Loader loader(dataset, params);
  const MixParams mix{float(r.mixup), float(r.cutmix)};
  BatchMixer mixer(mix, uint64_t(r.seed));

  std::vector<tools::CaptionedImage> sheet(size_t(params.batch_size * r.repeat));
  for (int64_t turn = 0; turn < r.repeat; ++turn) {
    loader.start(r.epoch + turn);
    const data::Batch batch = loader.next().value();
    Tensor images = augment_images(batch.source, device);
    mixer.begin_step(r.epoch + turn, int(images.dim(1)), int(images.dim(2)));
    const Tensor& state = mixer.state(device);
    if (mix.any()) images = mix_images(images, state);
    const Tensor targets = mix_targets(batch.labels, dataset->classes(), 0, state).to(Device::cpu);
    images = images.to(Device::cpu);
    for (int64_t i = 0; i < batch.count; ++i)
      sheet[size_t(i * r.repeat + turn)] = {
          data::as_seen(images.data<float>() + i * images.size() / images.dim(0), how),
          caption(targets.data<float>() + i * dataset->classes(), dataset->class_names())};
  }
  const data::Image picture = tools::contact_sheet(sheet, int(r.columns));
  write_file_atomically(r.out, data::encode_png(picture));
  std::printf("wrote %s: %zu samples of %s, %dx%d pixels\n", r.out.c_str(), sheet.size(), r.data.c_str(),
              picture.width, picture.height);
  std::printf("from %s\n", to_line(dataset->description()).c_str());
  std::printf("images: %s\n", tools::to_line(how).c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return plume::tools::run_tool(argc, argv, "Writes a contact sheet of augmented samples.", run);
}
