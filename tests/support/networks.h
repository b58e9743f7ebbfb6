// Inputs and comparisons for tests of whole networks.
#pragma once
#include "engine/modules/module.h"

namespace plume::test {

Tensor random_images(int n, int size, uint64_t seed = 3);  // [n, size, size, 3], standard normal

// Running statistics, scales and offsets of norms that are not those of a fresh network, so that folding them
// matters.
void disturb_norms(Module& model);

// Largest difference as a part of the largest magnitude; infinity where a value is not finite.
double relative_difference(const Tensor& a, const Tensor& b);

}  // namespace plume::test
