// The embedded data set: images drawn by code, so that training needs no download.
//
// Each image shows one of 10 textured shapes at a random place, size and angle. The colours of shape and
// background are random, the shape may be lighter or darker than its background, and there is noise, so
// neither colour nor any single pixel tells the class: a linear model stays near chance, a small
// convolutional network learns it in minutes.
#pragma once
#include <cstdint>
#include <memory>

#include "data/dataset.h"

namespace plume::data {

inline constexpr int kSyntheticClasses = 10;
inline constexpr int kSyntheticSize = 32;  // pixels, both ways
inline constexpr int64_t kSyntheticTrainCount = 10'000, kSyntheticTestCount = 2'000;

struct SyntheticParams {
  int64_t count = 0;  // images; 0 for the split's default
  uint64_t seed = 1;  // image i is a function of (seed, split, i), whatever the count
  int threads = 0;    // that draw; 0 for one per core
};

// What all of its images are like (split: train).
DatasetInfo synthetic_traits();

// The labels follow each other 0, 1, ... 9, 0, ...; throws usage on a negative count, one above 10 million,
// or Split::val, which there is not.
std::shared_ptr<const Dataset> make_synthetic(Split split, const SyntheticParams& params = {});

}  // namespace plume::data
