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

#include "data/augment.h"
#include "data/dataset.h"
#include "data/sampler.h"
#include "engine/core/tensor.h"

namespace plume::data {

struct Batch {
  Tensor images;      // f32 [count, height, width, 3], normalised, host memory
  Tensor labels;      // i32 [count], host memory
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

  // Begins an epoch, at a batch in the middle of it when a run is resumed; what was under way is dropped.
  void start(int64_t epoch, int64_t first_batch = 0);
  // The next batch in order; nothing after the last of the epoch or before start(). Throws what a worker
  // threw, at the batch concerned; the epoch is then over.
  std::optional<Batch> next();
  // Seconds that next() has waited for data since the loader was made.
  double wait_seconds() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace plume::data
