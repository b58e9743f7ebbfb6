// Worker threads that make batches ahead of the training step.
//
//   Loader loader(dataset, params);
//   for (int64_t epoch = ...) {
//     loader.start(epoch);
//     while (std::optional<Batch> batch = loader.next()) ...
//   }
#pragma once
#include <cstdint>
#include <memory>
#include <optional>

#include "data/augment/augment.h"
#include "data/dataset.h"
#include "data/sampler.h"
#include "engine/core/tensor.h"
#include "engine/math/augment_plan.h"

namespace plume::data {

struct Batch {
  // Made by worker threads: f32 [count, height, width, 3], normalised, host memory. Undefined when the device
  // makes them: then `source` holds what it takes (augment_images), on the device.
  Tensor images;
  AugmentBatch source;
  Tensor labels;      // i32 [count], where the images are made
  int64_t count = 0;  // the batch size, or less in the last batch of an epoch
  int64_t epoch = 0;
  int64_t index = 0;  // of the batch in its epoch
};

struct LoaderParams {
  int64_t batch_size = 64;
  int workers = 2;   // threads; 0 makes each batch in next()
  int prefetch = 4;  // batches made ahead at most
  SamplerParams sampler;
  AugmentParams augment;
  // Worker threads only gather bytes and draw plans; `device` makes the images, the same to the last bit.
  bool augment_on_device = false;
  Device device = Device::cpu;
  // A data set of at most so many bytes is copied to the device as a whole, and batches are plans alone; a
  // larger one is streamed, the next batch while the device works on the present one. 0: always streamed.
  int64_t resident_bytes = 0;
};

// For one consumer thread. Batches are the same for any number of workers.
class Loader {
 public:
  // The data set must outlive the loader, so it is shared. Throws usage on parameters out of range.
  Loader(std::shared_ptr<const Dataset> dataset, const LoaderParams& params);
  ~Loader();  // stops the workers
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  const Dataset& dataset() const;
  const LoaderParams& params() const;
  int64_t samples_per_epoch() const;  // this rank's, those that drop_last leaves out not counted
  int64_t batches_per_epoch() const;
  bool resident() const;  // the data set lies on the device

  // Begins an epoch, at a batch in the middle of it when a run is resumed; what was under way is dropped.
  void start(int64_t epoch, int64_t first_batch = 0);
  // The next batch in order; nothing after the last of the epoch or before start(). Throws what a worker
  // threw, at the batch concerned; the epoch is then over. What a batch has on a device is overwritten after
  // the next call: by then all work that reads it must have been given to the device's stream.
  std::optional<Batch> next();
  // Seconds that next() has waited for data since the loader was made.
  double wait_seconds() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace plume::data
