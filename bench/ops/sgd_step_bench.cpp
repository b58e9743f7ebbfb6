#include "engine/ops/sgd_step.h"

#include <cmath>

#include "bench/support/slot_bench.h"

namespace plume {

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

const bool registered = bench_slot<sgd_step>();

}  // namespace
}  // namespace bench
}  // namespace plume
