#include "data/loader.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "engine/core/error.h"
#include "engine/ops/augment_images.h"
#include "tests/support/drawn_images.h"
#include "tests/support/preprocessed.h"

namespace plume::data::loader_test {
namespace {

constexpr int kSize = 6;
constexpr size_t kImage = size_t(kSize) * kSize * kChannels;

DatasetInfo numbered_info() {
  DatasetInfo result;
  result.name = "numbered";
  result.height = result.width = kSize;
  result.class_names = {"a", "b", "c"};
  return result;
}
std::vector<uint8_t> numbered_pixels(int64_t count) {
  std::vector<uint8_t> pixels(size_t(count) * kImage);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = uint8_t(i / kImage * 7 + i % kImage);
  return pixels;
}
std::vector<int32_t> numbered_labels(int64_t count) {
  std::vector<int32_t> labels;
  for (int64_t i = 0; i < count; ++i) labels.push_back(int32_t(i % 3));
  return labels;
}

// Each image's bytes tell its index; it may be slow, or refuse one.
class NumberedDataset : public Dataset {
 public:
  explicit NumberedDataset(int64_t count)
      : Dataset(numbered_info(), numbered_pixels(count), numbered_labels(count)) {}
  Sample get(int64_t i) const override {
    ++reads;
    if (i == bad_index) fail(ErrorKind::bad_input, "image {} is damaged", i);
    if (delay.count() > 0) std::this_thread::sleep_for(delay * double(i % 3));
    return Dataset::get(i);
  }
  int64_t bad_index = -1;
  std::chrono::duration<double> delay{0};
  mutable std::atomic<int64_t> reads{0};
};

LoaderParams training_params(int workers) {
  LoaderParams params;
  params.batch_size = 8;
  params.workers = workers;
  params.prefetch = 3;
  params.sampler.shuffle = true;
  params.sampler.seed = 11;
  params.augment = test::cifar_augmentation(kImageNetStatistics, 12);
  return params;
}

struct Copy {
  std::vector<float> images;
  std::vector<int32_t> labels;
  int64_t epoch, index;
  bool operator==(const Copy&) const = default;
};

std::vector<Copy> drain(Loader& loader) {
  std::vector<Copy> batches;
  while (const std::optional<Batch> batch = loader.next()) {
    EXPECT_EQ(batch->images.shape(), (Shape{batch->count, kSize, kSize, kChannels}));
    EXPECT_EQ(batch->labels.shape(), (Shape{batch->count}));
    batches.push_back(
        {batch->images.to_vector<float>(), batch->labels.to_vector<int32_t>(), batch->epoch, batch->index});
  }
  return batches;
}

std::vector<Copy> epoch_with(int workers, int64_t epoch, int64_t first_batch = 0) {
  auto dataset = std::make_shared<NumberedDataset>(50);
  dataset->delay = std::chrono::microseconds(100);  // so that workers finish out of order
  Loader loader(dataset, training_params(workers));
  loader.start(epoch, first_batch);
  return drain(loader);
}

TEST(Loader, BatchesAreTheSameForAnyNumberOfWorkers) {
  const auto expected = epoch_with(0, 2);
  ASSERT_EQ(expected.size(), 7u);
  EXPECT_EQ(expected.back().labels.size(), 2u);
  for (const int workers : {1, 2, 5, 16}) EXPECT_EQ(epoch_with(workers, 2), expected) << workers;
}

TEST(Loader, BatchesAreTheSamplersOrderAugmented) {
  const auto dataset = std::make_shared<NumberedDataset>(50);
  const LoaderParams params = training_params(2);
  Loader loader(dataset, params);
  EXPECT_FALSE(loader.next());  // not started
  const Augmenter augmenter(kSize, kSize, params.augment);
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    loader.start(epoch);
    const auto order = Sampler(50, params.sampler).order(epoch);
    size_t position = 0;
    int64_t index = 0;
    for (const Copy& batch : drain(loader)) {
      EXPECT_EQ(batch.epoch, epoch);
      EXPECT_EQ(batch.index, index++);
      for (size_t i = 0; i < batch.labels.size(); ++i, ++position) {
        const Sample sample = dataset->get(order[position]);
        std::vector<float> expected(kImage);
        augmenter(sample, epoch, order[position], expected.data());
        ASSERT_EQ(batch.labels[i], sample.label);
        ASSERT_TRUE(
            std::equal(expected.begin(), expected.end(), batch.images.begin() + std::ptrdiff_t(i * kImage)));
      }
    }
    EXPECT_EQ(position, 50u);
  }
}

TEST(Loader, ResumesInTheMiddleOfAnEpoch) {
  const auto whole = epoch_with(2, 4);
  const auto rest = epoch_with(3, 4, 3);
  EXPECT_EQ(rest, std::vector<Copy>(whole.begin() + 3, whole.end()));
  EXPECT_TRUE(epoch_with(2, 4, 7).empty());
}

TEST(Loader, RestartsWhileWorkersAreBusy) {
  const auto dataset = std::make_shared<NumberedDataset>(50);
  dataset->delay = std::chrono::microseconds(300);
  Loader loader(dataset, training_params(3));
  for (int64_t epoch = 0; epoch < 10; ++epoch) {
    loader.start(epoch);
    const auto batch = loader.next();
    ASSERT_TRUE(batch);
    EXPECT_EQ(batch->epoch, epoch);
  }
}  // and is destroyed while they are

TEST(Loader, DropLastLeavesOutTheIncompleteBatch) {
  LoaderParams params = training_params(2);
  params.sampler.drop_last = true;
  Loader loader(std::make_shared<NumberedDataset>(50), params);
  EXPECT_EQ(loader.batches_per_epoch(), 6);
  EXPECT_EQ(loader.samples_per_epoch(), 48);
  loader.start(0);
  const auto batches = drain(loader);
  ASSERT_EQ(batches.size(), 6u);
  for (const Copy& batch : batches) EXPECT_EQ(batch.labels.size(), 8u);
}

TEST(Loader, WorkersStayWithinThePrefetch) {
  const auto dataset = std::make_shared<NumberedDataset>(800);
  Loader loader(dataset, training_params(4));
  loader.start(0);
  ASSERT_TRUE(loader.next());
  // One batch consumed and three ahead: 32 images, however long it waits.
  for (int i = 0; i < 500 && dataset->reads < 32; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(dataset->reads, 32);
}

TEST(Loader, AWorkersErrorArrivesAtItsBatch) {
  for (const int workers : {0, 1, 4}) {
    const auto dataset = std::make_shared<NumberedDataset>(50);
    dataset->bad_index = 29;
    LoaderParams params = training_params(workers);
    params.sampler.shuffle = false;
    Loader loader(dataset, params);
    loader.start(0);
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(loader.next());
    try {
      loader.next();
      FAIL() << "no error with " << workers << " workers";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input);
      EXPECT_STREQ(error.what(), "image 29 is damaged");
    }
    EXPECT_FALSE(loader.next());
    loader.start(1, 4);  // past the damaged image
    EXPECT_EQ(drain(loader).size(), 3u);
  }
}

// Images of three sizes, so that offsets matter.
std::shared_ptr<const Dataset> mixed_dataset(int64_t count) {
  auto pixels = std::make_shared<std::vector<uint8_t>>();
  DatasetContent content;
  for (int64_t i = 0; i < count; ++i) {
    const Image image = test::draw("noise", 7 + int(i % 3), 9 + int(i % 2));
    content.places.push_back({int64_t(pixels->size()), image.height, image.width});
    content.labels.push_back(int32_t(i % 3));
    pixels->insert(pixels->end(), image.pixels.begin(), image.pixels.end());
  }
  content.pixels = *pixels;
  content.owner = pixels;
  return std::make_shared<Dataset>(numbered_info(), std::move(content));
}

LoaderParams mixed_params() {
  LoaderParams params = training_params(2);
  params.augment.crop_padding = 0;
  params.augment.random_resized_crop = true;
  params.augment.output_height = params.augment.output_width = 8;
  params.augment.policy.policy = Policy::randaugment;
  params.augment.erasing = 0.5;
  return params;
}

struct Made {
  std::vector<std::vector<float>> images;
  std::vector<std::vector<int32_t>> labels;
  bool operator==(const Made&) const = default;
};

// All batches of an epoch, made where the loader says.
Made made_by(Loader& loader, int64_t first_batch = 0) {
  Made made;
  loader.start(1, first_batch);
  while (const std::optional<Batch> batch = loader.next()) {
    const Tensor images =
        batch->images.defined() ? batch->images : augment_images(batch->source, loader.params().device);
    EXPECT_EQ(images.dim(0), batch->count);
    made.images.push_back(images.to_vector<float>());
    made.labels.push_back(batch->labels.to_vector<int32_t>());
  }
  return made;
}

TEST(Loader, ADeviceMakesTheBatchesThatTheWorkersMake) {
  const auto mixed = mixed_dataset(50);
  const auto numbered = std::make_shared<NumberedDataset>(50);
  for (const auto& [dataset, params] :
       {std::pair{std::shared_ptr<const Dataset>(numbered), training_params(2)}, {mixed, mixed_params()}}) {
    LoaderParams p = params;
    Loader host(dataset, p);
    const Made expected = made_by(host), rest = made_by(host, 3);
    ASSERT_EQ(expected.images.size(), 7u);
    p.augment_on_device = true;
    for (const Device device : {Device::cpu, Device::simt})
      for (const int64_t resident : {0, 1 << 20})
        for (const int workers : {0, 1, 5}) {
          p.device = device;
          p.resident_bytes = resident;
          p.workers = workers;
          Loader loader(dataset, p);
          EXPECT_EQ(loader.resident(), resident > 0);
          EXPECT_EQ(made_by(loader), expected) << name(device) << " " << resident << " " << workers;
          EXPECT_EQ(made_by(loader, 3), rest) << name(device) << " " << resident << " " << workers;
        }
  }
}

TEST(Loader, ADataSetBeyondTheBudgetIsStreamed) {
  LoaderParams params = training_params(2);
  params.augment_on_device = true;
  params.resident_bytes = int64_t(kImage) * 50 - 1;
  EXPECT_FALSE(Loader(std::make_shared<NumberedDataset>(50), params).resident());
  params.resident_bytes = int64_t(kImage) * 50;
  EXPECT_TRUE(Loader(std::make_shared<NumberedDataset>(50), params).resident());
  params.resident_bytes = int64_t(kImage) * 20;
  params.sampler.limit = 20;
  EXPECT_TRUE(Loader(std::make_shared<NumberedDataset>(50), params).resident());
}

TEST(Loader, AnErrorArrivesAtItsBatchThoughTheNextIsMadeAhead) {
  for (const int workers : {0, 1, 4}) {
    const auto dataset = std::make_shared<NumberedDataset>(50);
    dataset->bad_index = 29;
    LoaderParams params = training_params(workers);
    params.sampler.shuffle = false;
    params.augment_on_device = true;
    Loader loader(dataset, params);
    loader.start(0);
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(loader.next());
    EXPECT_THROW(loader.next(), Error);
    EXPECT_FALSE(loader.next());
    EXPECT_EQ(made_by(loader, 4).images.size(), 3u);
  }
}

TEST(Loader, ImagesOfDifferentSizesNeedAnOutputSize) {
  EXPECT_THROW(Loader(mixed_dataset(5), {}), Error);
  EXPECT_NO_THROW(Loader(mixed_dataset(5), mixed_params()));
}

TEST(Loader, MeasuresTheTimeItWaits) {
  const auto dataset = std::make_shared<NumberedDataset>(24);
  dataset->delay = std::chrono::milliseconds(2);  // 8 images: 16 ms a batch
  Loader loader(dataset, training_params(1));
  EXPECT_EQ(loader.wait_seconds(), 0.0);
  loader.start(0);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(drain(loader).size(), 3u);
  const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_GT(loader.wait_seconds(), 0.03);
  EXPECT_LE(loader.wait_seconds(), wall);
}

TEST(Loader, RefusesImpossibleParameters) {
  const auto dataset = std::make_shared<NumberedDataset>(10);
  const auto refuses = [&](auto change) {
    LoaderParams params;
    change(params);
    EXPECT_THROW(Loader(dataset, params), Error);
  };
  refuses([](LoaderParams& p) { p.batch_size = 0; });
  refuses([](LoaderParams& p) { p.workers = -1; });
  refuses([](LoaderParams& p) { p.workers = 100'000; });
  refuses([](LoaderParams& p) { p.prefetch = 0; });
  refuses([](LoaderParams& p) { p.resident_bytes = -1; });
  EXPECT_THROW(Loader(nullptr, {}), Error);
  Loader loader(dataset, {});
  EXPECT_THROW(loader.start(-1), Error);
  EXPECT_THROW(loader.start(0, 2), Error);
}

}  // namespace
}  // namespace plume::data::loader_test
