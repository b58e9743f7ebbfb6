#include "data/sampler.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "engine/core/error.h"
#include "engine/core/random.h"

namespace plume::data {
namespace {
constexpr uint64_t kOrderStream = 0x6F726472ull << 32;  // keeps these random numbers apart from all others
}

Sampler::Sampler(int64_t dataset_size, const SamplerParams& params) : params_(params) {
  PLUME_CHECK(params.world >= 1 && params.rank >= 0 && params.rank < params.world,
              "sampler: rank {} in a world of {}", params.rank, params.world);
  PLUME_CHECK(params.limit >= 0, "sampler: limit {}, expected at least 0", params.limit);
  count_ = params.limit > 0 ? std::min(params.limit, dataset_size) : dataset_size;
  share_ = count_ / params.world;
  if (!params.drop_last && params.rank < count_ % params.world) ++share_;
  PLUME_CHECK(share_ > 0, "sampler: no samples for rank {} of {}: the data set has {}", params.rank,
              params.world, count_);
}

int64_t Sampler::batches(int64_t batch_size) const {
  PLUME_CHECK(batch_size > 0, "sampler: batch size {}, expected at least 1", batch_size);
  const int64_t full = share_ / batch_size;
  const int64_t count = !params_.drop_last && share_ % batch_size != 0 ? full + 1 : full;
  PLUME_CHECK(count > 0, "sampler: batch size {} is larger than the {} samples there are", batch_size,
              share_);
  return count;
}

std::vector<int64_t> Sampler::order(int64_t epoch) const {
  PLUME_CHECK(epoch >= 0, "sampler: epoch {}", epoch);
  std::vector<int64_t> all(static_cast<size_t>(count_));
  std::iota(all.begin(), all.end(), int64_t(0));
  if (params_.shuffle) {
    // Fisher-Yates; std::shuffle is not the same in every standard library.
    RandomSequence random(params_.seed, kOrderStream | uint64_t(epoch));
    for (size_t i = all.size(); i > 1; --i) std::swap(all[i - 1], all[random.below(i)]);
  }
  if (params_.world == 1) return all;
  std::vector<int64_t> mine(static_cast<size_t>(share_));
  for (size_t i = 0; i < mine.size(); ++i) mine[i] = all[i * size_t(params_.world) + size_t(params_.rank)];
  return mine;
}

}  // namespace plume::data
