// epilogue: finishes the f32 sums of a convolution or matrix product, y = act(sums * scale + shift +
// residual).
//
// One pack of up to 16 bytes of y per thread and step of a grid-stride loop; packs lie within a row of
// channels, so a channel count that no pack divides goes value by value. Reads 4 bytes of sums and the
// residual, writes y; scale and shift stay in cache. Bound by memory bandwidth. y may be the sums, so no
// pointer is __restrict__; a thread reads its values before it writes them.
#include "engine/ops/epilogue.h"

#include "kernels/common/finish.h"
#include "kernels/common/grid_stride.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T, int N>
__global__ void epilogue_vector(const float* sums, EpilogueView<T> finish, T* y, int64_t n, int channels) {
  constexpr int kHalf = N > 4 ? 4 : N;  // f32 sums come in packs of at most four
  for (int64_t i = grid_thread(); i < n / N; i += grid_threads()) {
    const int64_t first = i * N;
    const int channel = int(first % channels);
    float values[N];
#pragma unroll
    for (int part = 0; part < N; part += kHalf) {
      const Pack<float, kHalf> in = Pack<float, kHalf>::load(sums + first + part);
#pragma unroll
      for (int j = 0; j < kHalf; ++j) values[part + j] = in[j];
    }
    finish_pack<T, N>(finish, values, channel, first).store(y + first);
  }
}

template <class T, int N>
void launch(Context& context, const Tensor& sums, const Epilogue& epilogue, Tensor& y) {
  simt::launch<epilogue_vector<T, N>>(grid_stride(context, ceil_div(y.size(), N)), sums.data<float>(),
                                      EpilogueView<T>(epilogue), y.data<T>(), y.size(), int(y.dim(-1)));
}

void run(Context& context, const Tensor& sums, const Epilogue& epilogue, Tensor& y) {
  if (y.size() == 0) return;
  dispatch_floating(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWide = kVectorWidth<T>;
    const bool wide =
        y.dim(-1) % kWide == 0 && is_aligned<kWide>(y.data<T>()) && is_aligned<4>(sums.data<float>());
    if (wide)
      launch<T, kWide>(context, sums, epilogue, y);
    else
      launch<T, 1>(context, sums, epilogue, y);
  });
}

const bool epilogue_registered = epilogue_apply.add(kThisDevice, {{"vector", always, run}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
