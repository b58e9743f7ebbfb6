#include "engine/distributed/gradient_buckets.h"

#include "engine/core/context.h"

namespace plume {
namespace {

constexpr int64_t kAlignment = 64;  // elements: slices begin where allocations may

int64_t padded(int64_t elements) { return (elements + kAlignment - 1) / kAlignment * kAlignment; }

Tensor slice(const Tensor& values, int64_t first, const Shape& shape) {
  const auto owner = std::make_shared<Tensor>(values);
  const std::shared_ptr<void> storage(owner, owner->data<float>() + first);
  return Tensor::adopt(storage, shape, DType::f32, values.device());
}

}  // namespace

GradientBuckets::GradientBuckets(Communicator& communicator, std::vector<Variable> parameters,
                                 const BucketSizes& sizes)
    : communicator_(communicator) {
  size_t next = parameters.size();
  while (next > 0) {
    const int64_t most = buckets_.empty() ? sizes.first_bytes : sizes.other_bytes;
    int64_t elements = 0;
    const size_t end = next;
    do elements += padded(parameters[--next].value().size());
    while (next > 0 &&
           (elements + padded(parameters[next - 1].value().size())) * int64_t(sizeof(float)) <= most);
    Bucket bucket;
    bucket.values = Tensor::zeros({elements}, DType::f32, parameters[next].device(), "gradient");
    int64_t first = 0;
    for (size_t i = end; i-- > next;) {
      const Variable& p = parameters[i];
      PLUME_CHECK(p.dtype() == DType::f32 && p.device() == parameters[0].device(),
                  "gradient buckets: parameter {} beside {}", to_string(p.value()),
                  to_string(parameters[0].value()));
      places_[&p.value()] = {buckets_.size(), bucket.entries.size()};
      bucket.entries.push_back({p, slice(bucket.values, first, p.shape())});
      first += padded(p.value().size());
    }
    bucket.missing = bucket.entries.size();
    buckets_.push_back(std::move(bucket));
  }
}

void GradientBuckets::ready(Variable& parameter) {
  const auto place = places_.find(&parameter.value());
  if (place == places_.end()) return;
  const auto [bucket, entry] = place->second;
  take(buckets_[bucket].entries[entry]);
  --buckets_[bucket].missing;
  start_complete();
}

void GradientBuckets::take(Entry& entry) {
  PLUME_CHECK(!entry.ready, "gradient buckets: a parameter became ready twice; finish() ends a step");
  entry.ready = true;
  const Tensor& gradient = entry.parameter.grad();
  if (gradient.defined() && gradient.raw() != entry.slice.raw())
    entry.slice.copy_from(gradient);
  else if (!gradient.defined())
    entry.slice.fill_zero();
  entry.parameter.grad() = entry.slice;
}

void GradientBuckets::start_complete() {
  while (started_ < buckets_.size() && buckets_[started_].missing == 0) {
    buckets_[started_].sum = communicator_.start_all_reduce(buckets_[started_].values);
    ++started_;
  }
}

void GradientBuckets::finish() {
  for (Bucket& bucket : buckets_) {
    for (Entry& entry : bucket.entries)
      if (!entry.ready) take(entry);
    bucket.missing = 0;
  }
  start_complete();
  for (Bucket& bucket : buckets_) {
    bucket.sum.get();
    bucket.missing = bucket.entries.size();
    for (Entry& entry : bucket.entries) entry.ready = false;
  }
  started_ = 0;
}

}  // namespace plume
