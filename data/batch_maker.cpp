#include "data/batch_maker.h"

#include <cstring>

#include "engine/core/context.h"
#include "engine/memory/staging.h"

namespace plume::data {

BatchMaker::BatchMaker(const Dataset& dataset, const LoaderParams& params)
    : dataset_(dataset),
      augmenter_(dataset.height(), dataset.width(), params.augment),
      on_device_(params.augment_on_device),
      limit_(params.sampler.limit > 0 ? std::min(params.sampler.limit, dataset.size()) : dataset.size()) {
  if (on_device_ && params.resident_bytes > 0) copy_to_device(params.resident_bytes, params.device);
}

void BatchMaker::copy_to_device(int64_t most_bytes, Device device) {
  constexpr size_t kChunk = size_t(32) << 20;
  int64_t bytes = 0;
  std::vector<int64_t> offsets;
  for (int64_t i = 0; i < limit_; ++i) {
    offsets.push_back(bytes);
    bytes += int64_t(dataset_.get(i).pixels.size());
    if (bytes > most_bytes) return;
  }
  Tensor pool;
  try {
    pool = Tensor::empty({bytes}, DType::u8, device, "data set");
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::resource) throw;
    return;  // no room: the images are streamed
  }
  void* const stream = context(device).stream();
  std::vector<uint8_t> chunk;
  auto* to = static_cast<uint8_t*>(pool.raw());
  for (int64_t i = 0; i < limit_; ++i) {
    const Sample sample = dataset_.get(i);
    chunk.insert(chunk.end(), sample.pixels.begin(), sample.pixels.end());
    if (chunk.size() < kChunk && i + 1 < limit_) continue;
    backend(device).copy(to, chunk.data(), chunk.size(), stream);
    backend(device).synchronize(stream);
    to += chunk.size();
    chunk.clear();
  }
  pool_ = pool;
  offsets_ = std::move(offsets);
}

Batch BatchMaker::make(std::span<const int64_t> samples, int64_t epoch) const {
  Batch batch;
  batch.count = int64_t(samples.size());
  batch.epoch = epoch;
  const Shape labels{batch.count};
  batch.labels = on_device_ ? pinned_tensor(labels, DType::i32)
                            : Tensor::empty(labels, DType::i32, Device::cpu, "batch");
  if (on_device_)
    make_source(samples, batch);
  else
    make_images(samples, batch);
  return batch;
}

void BatchMaker::make_images(std::span<const int64_t> samples, Batch& batch) const {
  const int64_t height = augmenter_.height(), width = augmenter_.width();
  batch.images = Tensor::empty({batch.count, height, width, kChannels}, DType::f32, Device::cpu, "batch");
  float* image = batch.images.data<float>();
  int32_t* label = batch.labels.data<int32_t>();
  for (const int64_t which : samples) {
    const Sample sample = dataset_.get(which);
    augmenter_(sample, batch.epoch, which, image);
    image += height * width * kChannels;
    *label++ = sample.label;
  }
}

void BatchMaker::make_source(std::span<const int64_t> samples, Batch& batch) const {
  AugmentBatch& source = batch.source;
  source.height = augmenter_.height();
  source.width = augmenter_.width();
  source.normalization = augmenter_.normalization();
  source.plans = pinned_tensor({batch.count, int64_t(sizeof(AugmentPlan))}, DType::u8);
  auto* plan = static_cast<AugmentPlan*>(source.plans.raw());
  int32_t* label = batch.labels.data<int32_t>();
  TapTable taps;
  std::vector<Sample> gathered;
  int64_t bytes = 0;
  for (const int64_t which : samples) {
    const Sample sample = dataset_.get(which);
    augmenter_.check_sample(sample, which);
    *plan = augmenter_.plan({sample.height, sample.width}, batch.epoch, which, taps);
    plan->offset = resident() ? offsets_[size_t(which)] : bytes;
    source.has_ops = source.has_ops || plan->op_count > 0;
    bytes += int64_t(sample.pixels.size());
    *label++ = sample.label;
    ++plan;
    if (!resident()) gathered.push_back(sample);
  }
  if (!taps.values().empty()) {
    source.taps = pinned_tensor({int64_t(taps.values().size())}, DType::i32);
    std::memcpy(source.taps.raw(), taps.values().data(), source.taps.bytes());
  }
  if (resident()) {
    source.pixels = pool_;
    return;
  }
  source.pixels = pinned_tensor({bytes}, DType::u8);
  auto* to = source.pixels.data<uint8_t>();
  for (const Sample& sample : gathered) {
    std::memcpy(to, sample.pixels.data(), sample.pixels.size());
    to += sample.pixels.size();
  }
}

}  // namespace plume::data
