// fire_expand for constant filters: both convolutions write their channels of the output, so that nothing is
// concatenated.
#include "engine/cpu/conv/own_conv2d.h"
#include "engine/ops/fire.h"

namespace plume::cpu {
namespace {

void run(Context&, const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w3, const Tensor& b3,
         PackedFilter* packed1, PackedFilter* packed3, Tensor& y) {
  const auto convolve = [&](const Tensor& w, const Tensor& bias, const Conv2dParams& params, int64_t first) {
    const Epilogue epilogue{.shift = bias, .activation = Activation::relu};
    const auto& best = fits_winograd_4x4(x, w, params, y) ? winograd_4x4 : indirect_gemm;
    best(x, w, params, epilogue, y, first);
  };
  convolve(w1, b1, {.packed = packed1}, 0);
  convolve(w3, b3, {.padding = 1, .packed = packed3}, w1.dim(0));
}

bool fits(const Context&, const Tensor& x, const Tensor& w1, const Tensor&, const Tensor& w3, const Tensor&,
          PackedFilter* packed1, PackedFilter* packed3, Tensor& y) {
  return packed1 && packed3 && x.dtype() == DType::f32 && y.size() > 0 && w1.dim(0) > 0 && w3.dim(0) > 0;
}

const bool registered = fire_expand_forward.add(Device::cpu, {{"constant_in_place", fits, run}});

}  // namespace
}  // namespace plume::cpu
