// Makes one batch of a loader, on whichever thread asks.
#pragma once
#include <span>

#include "data/loader.h"

namespace plume::data {

class BatchMaker {
 public:
  // Copies the data set to the device when the parameters want it there. The data set must outlive this.
  BatchMaker(const Dataset& dataset, const LoaderParams& params);

  // Of these samples. All in host memory, but for the pixels of a resident data set.
  Batch make(std::span<const int64_t> samples, int64_t epoch) const;
  bool resident() const { return pool_.defined(); }

 private:
  void copy_to_device(int64_t most_bytes, Device device);
  void make_images(std::span<const int64_t> samples, Batch& batch) const;
  void make_source(std::span<const int64_t> samples, Batch& batch) const;

  const Dataset& dataset_;
  Augmenter augmenter_;
  bool on_device_;
  int64_t limit_;
  Tensor pool_;                   // u8 [bytes] on the device
  std::vector<int64_t> offsets_;  // of each image in the pool
};

}  // namespace plume::data
