// Which images of a training set are held out of it, so that a run can be selected on images that it neither
// trains on nor is measured on.
#pragma once
#include <cstdint>
#include <vector>

#include "data/dataset.h"

namespace plume::data {

// `count` of the first `limit` images (0: of all), ascending: of every class as many as its share, at least
// one and never its last, drawn by `seed`. A class of a single image is left alone. A pure function of the
// labels, limit, count and seed. Throws bad_input, naming the bounds, where no such choice exists.
std::vector<int64_t> held_out(const Dataset& set, int64_t limit, int64_t count, uint64_t seed);

// How few and how many images held_out() can choose.
struct HeldOutBounds {
  int64_t least = 0, most = 0;
  bool allow(int64_t count) const { return count >= 1 && count >= least && count <= most; }
};
HeldOutBounds held_out_bounds(const Dataset& set, int64_t limit);

}  // namespace plume::data
