#include "engine/ops/sgd_step.h"

#include <cmath>

#include "bench/support/slot_bench.h"

namespace plume {

template <class F>
void for_each_tensor(std::vector<SgdTensor>& tensors, F&& f) {
  for (SgdTensor& t : tensors) {
    f(t.parameter);
    f(t.gradient);
    f(t.velocity);
  }
}

std::string describe(const std::vector<SgdTensor>& tensors) {
  int64_t elements = 0;
  for (const SgdTensor& t : tensors) elements += t.parameter.size();
  return message("{}tensors_{}elements", tensors.size(), elements);
}

std::string describe(const SgdParams& p) {
  return message("momentum{}{}", std::round(double(p.momentum) * 1e3) / 1e3, p.nesterov ? "_nesterov" : "");
}

namespace bench {
namespace {

// Parameter and velocity are read and written, the gradient is read.
double bytes(const std::vector<SgdTensor>& tensors, const SgdParams&) {
  double sum = 0;
  for (const SgdTensor& t : tensors) sum += double(t.parameter.bytes()) * (t.velocity.defined() ? 5 : 3);
  return sum;
}

const bool registered = bench_slot<sgd_step>({.bytes = bytes});

}  // namespace
}  // namespace bench
}  // namespace plume
