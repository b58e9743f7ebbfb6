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

// After a step of SGD on the cpu from a fresh network, ten classes, 64 x 64: the loss, all gradients, all
// parameters and running statistics.
using NamedValues = std::vector<std::pair<std::string, std::vector<float>>>;
NamedValues training_step_values(const std::string& network);

// What fixtures/make_networks.py and its like give to PyTorch, so that fixtures need not store it.
// `count` numbers in [-1, 1): splitmix64 of FNV-1a(name) + i, upper 24 bits.
std::vector<double> fixture_uniform(const std::string& name, int64_t count);
void set_fixture_state(Module& model);
Tensor fixture_images(const std::string& name, int64_t count, int64_t size);  // [count, size, size, 3]

}  // namespace plume::test
