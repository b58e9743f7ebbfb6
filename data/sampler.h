// Which samples, in which order: a pure function of (seed, epoch), so that a position is all that a resumed
// run has to know.
#pragma once
#include <cstdint>
#include <vector>

namespace plume::data {

struct SamplerParams {
  bool shuffle = false;    // a new random order in every epoch; otherwise 0, 1, 2, ...
  bool drop_last = false;  // leave out the incomplete last batch, and what does not divide among the ranks
  uint64_t seed = 0;
  int rank = 0, world = 1;  // this process sees every world-th sample of the common order
  int64_t limit = 0;        // use only the first `limit` samples of the data set; 0 for all
};

class Sampler {
 public:
  // Throws usage on a rank outside the world, a negative limit, an empty share of the data.
  Sampler(int64_t dataset_size, const SamplerParams& params);

  // Samples per epoch for this rank. The shares of all ranks together hold every sample exactly once, unless
  // drop_last makes them equally long.
  int64_t size() const { return share_; }
  int64_t batches(int64_t batch_size) const;  // per epoch for this rank; throws usage when there is none
  // The data set indices of this rank, in order.
  std::vector<int64_t> order(int64_t epoch) const;

 private:
  int64_t count_ = 0, share_ = 0;
  SamplerParams params_;
};

}  // namespace plume::data
