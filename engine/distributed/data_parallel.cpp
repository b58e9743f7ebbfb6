#include "engine/distributed/data_parallel.h"

#include <algorithm>

namespace plume {

DataParallel::DataParallel(Communicator& communicator, std::vector<Variable> parameters,
                           std::vector<Tensor*> buffers, const BucketSizes& sizes)
    : communicator_(communicator), parameters_(std::move(parameters)), buffers_(std::move(buffers)) {
  if (communicator_.size() == 1) return;
  check_alike();
  for (Variable& p : parameters_) communicator_.broadcast(p.value());
  share_buffers();
  std::vector<Variable> learned;
  for (const Variable& p : parameters_)
    if (p.requires_grad()) learned.push_back(p);
  buckets_ = std::make_unique<GradientBuckets>(communicator_, std::move(learned), sizes);
}

// Ranks that disagree would wait for each other for ever.
void DataParallel::check_alike() {
  constexpr const char* kWhat[] = {"parameters", "buffers", "numbers", "numbers to learn",
                                   "as the number of its device (0 cpu, 1 cuda, 2 simt)"};
  std::vector<int64_t> own(std::size(kWhat));
  own[0] = int64_t(parameters_.size());
  own[1] = int64_t(buffers_.size());
  for (const Variable& p : parameters_) {
    own[2] += p.value().size();
    own[3] += p.requires_grad() ? p.value().size() : 0;
    own[4] = int64_t(p.device());
  }
  const std::vector<int64_t> all = communicator_.all_gather(own);
  for (size_t i = 0; i < all.size(); ++i)
    PLUME_CHECK(all[i] == own[i % own.size()], "data parallel: rank {} has {} {}, rank {} has {}",
                communicator_.rank(), own[i % own.size()], kWhat[i % own.size()], i / own.size(), all[i]);
}

SharedStep DataParallel::begin_step(int64_t samples, int stop_signal) {
  SharedStep step;
  const std::vector<int64_t> all = communicator_.all_gather(std::vector<int64_t>{samples, stop_signal});
  for (size_t i = 0; i < all.size(); i += 2) {
    step.samples += all[i];
    step.even = step.even && all[i] == all[0];
    if (!step.stop_signal) step.stop_signal = int(all[i + 1]);
  }
  step.weight = step.samples ? float(double(samples) / double(step.samples)) : 0.0f;
  return step;
}

void DataParallel::backward(const Variable& loss, Tensor dy) {
  if (!buckets_) return plume::backward(loss, std::move(dy));
  plume::backward(loss, std::move(dy), [this](Variable& leaf) { buckets_->ready(leaf); });
  buckets_->finish();
}

void DataParallel::share_buffers() {
  for (Tensor* buffer : buffers_) communicator_.broadcast(*buffer);
}

}  // namespace plume
