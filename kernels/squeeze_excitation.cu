// squeeze_excitation: the gate of a channel needs the whole image, so an image-wide barrier parts what can be
// fused: x is read once to pool and once more to be scaled, and between them one launch does both small
// products.
//
//   pool    An image and a tile of channels per block, 16 bytes of channels per thread: sums over the plane,
//           of x forwards and of dy x backwards (kernels/common/row_tiling.h).
//   excite  By the image's last block (common/last_block.h). Forwards eight lanes share one output of a
//           product w v; the vectors between are in shared memory. Backwards the products are with the
//           transposed matrices: neighbouring threads take neighbouring columns, so that every row of w is
//           read as it lies, and warps share the rows.
//   scale   An image and a tile of channels per block: a thread works out its channels' gates (and dpooled)
//           once and goes down its pixels.
//   weights Four by two elements of dw1 or dw2 per thread, by blocks of their own beside scale's: a sum over
//           the images in order.
//
// Bytes: forwards x twice and y once, backwards x once, dy twice and dx once; all else is [N, C] or smaller.
// The bound is memory bandwidth, but for small planes (7x7) the launches: two each way.
#include "engine/ops/mbconv.h"
#include "kernels/common/last_block.h"
#include "kernels/squeeze_excitation_products.h"

namespace plume::PLUME_KERNELS {
namespace {

// sums[n, c] = factor * sum over the plane of x, or of x dy where there is a dy; then excite(n).
template <class T, int kWidth, class Excite>
__global__ void __launch_bounds__(kTilingThreads, 1)
    squeeze_pool(const T* __restrict__ x, const T* __restrict__ dy, int plane, int channels, float factor,
                 float* sums, unsigned* tickets, Excite excite) {
  using Vector = Pack<T, kWidth>;
  const int channel = int(blockIdx.y * blockDim.x + threadIdx.x) * kWidth;
  const int64_t image = blockIdx.x;
  float sum[kWidth] = {};
  if (channel < channels) {
    const int64_t first = image * plane * channels + channel;
    typename Vector::Word words[4] = {}, gradients[4] = {};
    walk_rows<4>(
        PlaneWalk(plane),
        [&](int k, int pixel) {
          const int64_t at = first + int64_t(pixel) * channels;
          words[k] = Vector::load(x + at).word();
          if (dy) gradients[k] = Vector::load(dy + at).word();
        },
        [&](int k, int) {
          float values[kWidth], factors[kWidth];
          Vector::widen(words[k], values);
          Vector::widen(gradients[k], factors);
#pragma unroll
          for (int i = 0; i < kWidth; ++i) sum[i] += dy ? values[i] * factors[i] : values[i];
        });
  }
  sum_over_rows_of_block(sum);
  if (threadIdx.y == 0 && channel < channels) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sums[image * channels + channel + i] = sum[i] * factor;
  }
  if (is_last_block(tickets + image, gridDim.y)) excite(image);
}

// out[i] = bias[i] + sum over j of w[i, j] v[j], kLanesPerOutput lanes per i. All threads of the block must
// call.
template <class W>
__device__ void matrix_vector(const W* w, const float* bias, const float* v, int rows, int columns,
                              float* out) {
  const int lane = thread_of_block() % kLanesPerOutput;
  const int group = thread_of_block() / kLanesPerOutput, groups = kExciteThreads / kLanesPerOutput;
  for (int first = 0; first < rows; first += groups) {
    const int i = first + group;
    float sum = 0.0f;
    if (i < rows)
      for (int j = lane; j < columns; j += kLanesPerOutput) sum += float(w[int64_t(i) * columns + j]) * v[j];
    sum = warp_sum<kLanesPerOutput>(sum);
    if (i < rows && lane == 0) out[i] = sum + bias[i];
  }
}

// Weights W. z1 may be null. With `gates` the gates are stored in the place of z2.
template <class W>
struct ExciteForward {
  const float* pooled;
  const W* w1;
  const float* b1;
  const W* w2;
  const float* b2;
  ExciteSizes s;
  SqueezeExcitationParams params;
  float *z1, *z2;
  float* gates = nullptr;  // null: z2 alone is wanted, which may be null otherwise
  int parts = 1;           // of a mean, in `pooled`
  float* means = nullptr;  // where their sums are kept, or null

  __device__ void operator()(int64_t image) const {
    float* mean = simt::dyn_smem<float>();  // [channels]
    float* hidden = mean + s.channels;      // [hidden]
    const int thread = thread_of_block();
    for (int c = thread; c < s.channels; c += kExciteThreads) {
      mean[c] = 0.0f;
      for (int part = 0; part < parts; ++part) mean[c] += pooled[(image * parts + part) * s.channels + c];
      if (means) means[image * s.channels + c] = mean[c];
    }
    __syncthreads();
    matrix_vector(w1, b1, mean, s.hidden, s.channels, hidden);
    __syncthreads();
    for (int q = thread; q < s.hidden; q += kExciteThreads) {
      if (z1) z1[image * s.hidden + q] = hidden[q];
      hidden[q] = activate(params.inner, hidden[q]);
    }
    __syncthreads();
    const int64_t row = image * s.channels;
    float* out = (z2 ? z2 : gates) + row;
    matrix_vector(w2, b2, hidden, s.channels, s.hidden, out);
    if (!gates) return;
    __syncthreads();
    for (int c = thread; c < s.channels; c += kExciteThreads) gates[row + c] = activate(params.gate, out[c]);
  }
};

// Where somebody else has pooled: an image per block.
template <class W>
__global__ void __launch_bounds__(kExciteThreads, 1) squeeze_excite(ExciteForward<W> excite) {
  excite(blockIdx.x);
}

// out = in * gate(z2) + shift, where there is one.
template <class T, int kWidth>
__device__ __forceinline__ void scale_image(const T* __restrict__ in, const float* __restrict__ z2,
                                            const float* __restrict__ shift, Activation gate, int64_t image,
                                            int plane, int channels, T* __restrict__ out) {
  using Vector = Pack<T, kWidth>;
  const int channel = int(blockIdx.y * blockDim.x + threadIdx.x) * kWidth;
  if (channel >= channels) return;
  float gates[kWidth], shifts[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    gates[i] = activate(gate, z2[image * channels + channel + i]);
    shifts[i] = shift ? shift[image * channels + channel + i] : 0.0f;
  }
  const int64_t first = image * plane * channels + channel;
  typename Vector::Word words[4] = {};
  walk_rows<4>(
      PlaneWalk(plane),
      [&](int k, int pixel) { words[k] = Vector::load(in + first + int64_t(pixel) * channels).word(); },
      [&](int k, int pixel) {
        float v[kWidth];
        Vector::widen(words[k], v);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) v[i] = v[i] * gates[i] + shifts[i];
        Vector::narrow(v).store(out + first + int64_t(pixel) * channels);
      });
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    squeeze_scale(const T* __restrict__ x, const float* __restrict__ z2, Activation gate, int plane,
                  int channels, T* __restrict__ y) {
  scale_image<T, kWidth>(x, z2, nullptr, gate, blockIdx.x, plane, channels, y);
}

// The rows of blocks before the images' do the weights: they take longer than one of these.
template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    squeeze_scale_backward(const T* __restrict__ dy, const float* __restrict__ z2,
                           const float* __restrict__ dpooled, Activation gate, int plane, int channels,
                           T* __restrict__ dx, unsigned before, WeightGradients weights) {
  if (blockIdx.x >= before)
    scale_image<T, kWidth>(dy, z2, dpooled, gate, blockIdx.x - before, plane, channels, dx);
  else
    weights(blockIdx.x * gridDim.y + blockIdx.y);
}

template <class T, int kWidth, class Excite>
void launch_pool(const Context& context, const Tensor& x, const T* dy, float factor, Tensor& sums,
                 const Excite& excite) {
  PLUME_CHECK(x.dim(0) <= kTickets, "squeeze_excitation: {} images, expected at most {}", x.dim(0), kTickets);
  simt::Launch launch = per_image<kWidth>(context, x);
  launch.smem = excite_bytes(excite.s);
  simt::launch<squeeze_pool<T, kWidth, Excite>>(launch, x.data<T>(), dy, excite.s.plane, excite.s.channels,
                                                factor, sums.data<float>(), tickets(), excite);
}

void run_squeeze_excitation_forward(Context& context, const Tensor& x, const Tensor& w1, const Tensor& b1,
                                    const Tensor& w2, const Tensor& b2, const SqueezeExcitationParams& params,
                                    Tensor& y, Tensor& pooled, Tensor& z1, Tensor& z2) {
  if (x.size() == 0) return;
  const ExciteSizes s = excite_sizes(x.dim(1) * x.dim(2), w1);
  const ExciteForward<float> excite{
      pooled.data<float>(), w1.data<float>(), b1.data<float>(), w2.data<float>(), b2.data<float>(), s, params,
      z1.data<float>(),     z2.data<float>()};
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_pack_width<T>(x.dim(3), [&](auto width) {
      launch_pool<T, width>(context, x, nullptr, 1.0f / float(s.plane), pooled, excite);
      simt::launch<squeeze_scale<T, width>>(per_image<width>(context, x), x.data<T>(), z2.data<float>(),
                                            params.gate, s.plane, s.channels, y.data<T>());
    });
  });
}

void run_squeeze_excitation_backward(Context& context, const Tensor& x, const Tensor& dy, const Tensor& w1,
                                     const Tensor& w2, const Tensor& pooled, const Tensor& z1,
                                     const Tensor& z2, const SqueezeExcitationParams& params, Tensor& dx,
                                     Tensor& dw1, Tensor& db1, Tensor& dw2, Tensor& db2) {
  if (x.size() == 0) return;
  const ExciteSizes s = excite_sizes(x.dim(1) * x.dim(2), w1);
  const auto like = [](const Tensor& t) {
    return Tensor::empty(t.shape(), DType::f32, t.device(), "workspace");
  };
  Tensor dz2 = like(z2), dz1 = like(z1), hidden = like(z1), dpooled = like(pooled);
  const ExciteBackward excite{
      z1.data<float>(), z2.data<float>(),  w1.data<float>(),  w2.data<float>(),     s,
      params,           dz2.data<float>(), dz1.data<float>(), hidden.data<float>(), dpooled.data<float>()};
  const WeightGradients weights{{dz1, pooled, dw1, db1}, {dz2, hidden, dw2, db2}};
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_pack_width<T>(x.dim(3), [&](auto width) {
      launch_pool<T, width>(context, x, dy.data<T>(), 1.0f, dz2, excite);
      simt::Launch launch = per_image<width>(context, x);
      const unsigned before = unsigned(ceil_div(weights.blocks(), launch.grid.y));
      launch.grid.x += before;
      simt::launch<squeeze_scale_backward<T, width>>(launch, dy.data<T>(), z2.data<float>(),
                                                     dpooled.data<float>(), params.gate, s.plane, s.channels,
                                                     dx.data<T>(), before, weights);
    });
  });
}

void run_gate(Context& context, const Tensor& pooled, const Tensor& w1, const Tensor& b1, const Tensor& w2,
              const Tensor& b2, const SqueezeExcitationParams& params, Tensor& gate,
              SqueezeExcitationKept& kept) {
  if (pooled.size() == 0) return;
  const ExciteSizes s = excite_sizes(1, w1);
  const auto place = [](Tensor& t) { return t.defined() ? t.data<float>() : nullptr; };
  dispatch_floating(w1.dtype(), [&](auto zero) {
    using W = decltype(zero);
    simt::launch<squeeze_excite<W>>(
        {dim3(unsigned(pooled.dim(0))), dim3(kExciteThreads), excite_bytes(s), stream_of(context)},
        ExciteForward<W>{pooled.data<float>(), w1.data<W>(), b1.data<float>(), w2.data<W>(), b2.data<float>(),
                         s, params, place(kept.z1), place(kept.z2), gate.data<float>(), int(pooled.dim(1)),
                         place(kept.pooled)});
  });
}

// For floats, and channels that no chunk divides: x is scaled, then convolved.
void run_gated_backward_weight(Context& context, const Tensor& x, const Tensor& gate, const Tensor& dy,
                               Tensor& dw) {
  Tensor scaled = Tensor::empty(x.shape(), x.dtype(), x.device(), "workspace");
  if (x.size() > 0)
    dispatch_floating(x.dtype(), [&](auto zero) {
      using T = decltype(zero);
      with_pack_width<T>(x.dim(3), [&](auto width) {
        simt::launch<squeeze_scale<T, width>>(per_image<width>(context, x), x.data<T>(), gate.data<float>(),
                                              Activation::identity, int(x.dim(1) * x.dim(2)), int(x.dim(3)),
                                              scaled.data<T>());
      });
    });
  conv2d_backward_weight(context, scaled, dy, {}, dw);
}

const bool squeeze_excitation_registered =
    squeeze_excitation_forward.add(kThisDevice,
                                   {{"image_per_block", always, run_squeeze_excitation_forward}}) &&
    squeeze_excitation_backward.add(kThisDevice,
                                    {{"image_per_block", always, run_squeeze_excitation_backward}}) &&
    squeeze_gate_forward.add(kThisDevice, {{"image_per_block", always, run_gate}}) &&
    gated_pointwise_backward_weight.add(kThisDevice, {{"scale_first", always, run_gated_backward_weight}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
