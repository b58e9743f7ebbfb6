// stochastic_depth: blockIdx.y is the image (of more than a grid has rows every 65535th), whose scale every
// thread works out for itself once; then one 16-byte vector per thread and step down the image.
//
// Bytes: reads x and the residual, writes y; without the residual (the gradient) a third less. The bound is
// memory bandwidth. An image that is left out still reads x: a branch around it would save its bytes, at p =
// 0.2 not 4 %.
#include "engine/ops/stochastic_depth.h"

#include "kernels/common/grid_stride.h"
#include "kernels/common/row_tiling.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T, int kWidth>
__global__ void stochastic_depth_image(const T* __restrict__ x, const T* __restrict__ residual,
                                       const int64_t* __restrict__ state, DropoutParams params,
                                       T* __restrict__ y, int64_t image, int64_t images) {
  using Vector = Pack<T, kWidth>;
  for (int64_t n = blockIdx.y; n < images; n += gridDim.y) {
    const float scale = stochastic_depth_scale(state, params, n);
    const int64_t first = n * image;
    for (int64_t i = grid_thread() * kWidth; i < image; i += grid_threads() * kWidth) {
      Vector v = Vector::load(x + first + i), shortcut = Vector::filled(T(0.0f));
      if (residual) shortcut = Vector::load(residual + first + i);
#pragma unroll
      for (int j = 0; j < kWidth; ++j) v[j] = T(float(v[j]) * scale + float(shortcut[j]));
      v.store(y + first + i);
    }
  }
}

void run(Context& context, const Tensor& x, const Tensor& residual, const Tensor& state,
         const DropoutParams& params, Tensor& y) {
  if (x.size() == 0) return;
  const int64_t image = x.size() / x.dim(0);
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_pack_width<T>(image, [&](auto width) {
      simt::Launch launch = grid_stride(context, ceil_div(image, 4 * width));
      launch.grid.y = unsigned(std::min<int64_t>(x.dim(0), 65535));
      simt::launch<stochastic_depth_image<T, width>>(
          launch, x.data<T>(), residual.defined() ? residual.data<T>() : nullptr, state.data<int64_t>(),
          params, y.data<T>(), image, x.dim(0));
    });
  });
}

const bool stochastic_depth_registered = stochastic_depth_forward.add(kThisDevice, {{"image", always, run}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
