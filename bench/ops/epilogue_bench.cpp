#include "engine/ops/epilogue.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

// Runs inside convolutions that leave plain sums behind.
void derive(BenchOf<epilogue_apply>& bench, Device device) {
  for (const auto& [x, w, params, epilogue, y] : recorded_calls<conv2d_forward>()) {
    if (epilogue.empty()) continue;
    bench.note({outline(Tensor::empty(y.shape(), DType::f32, device)), epilogue, y});
  }
}

const bool epilogue_registered = bench_slot<epilogue_apply>({.derive = derive});

}  // namespace
}  // namespace plume::bench
