#include "engine/ops/mix_batch.h"

#include "bench/support/slot_bench.h"

namespace plume {

static std::string describe(const MixTargetsParams& params) { return message("k{}", params.classes); }

}  // namespace plume

namespace plume::bench {
namespace {

Tensor half_mixed(Device device) {
  return Tensor::from(std::vector<float>{0.5f, 0.5f, 0, 1 << 20, 0, 1 << 20}, {6}, device);
}

// Networks do not mix their inputs: batches of the data sets' native images and of ImageNet's size.
void derive_images(SlotBench<MixImagesForward>& bench, Device device) {
  for (const int64_t size : {32, 64, 224}) {
    const Tensor x = outline(Tensor::empty({64, size, size, 3}, DType::f32, device));
    bench.note({x, half_mixed(device), x});
  }
}

void derive_targets(SlotBench<MixTargetsForward>& bench, Device device) {
  bench.note({Tensor::zeros({256}, DType::i32, device), half_mixed(device), MixTargetsParams{1000, 0.1f},
              outline(Tensor::empty({256, 1000}, DType::f32, device))});
}

const bool images = bench_slot<mix_images_forward>({.derive = derive_images});
const bool targets = bench_slot<mix_targets_forward>({.derive = derive_targets});

}  // namespace
}  // namespace plume::bench
