// batch_norm_excitation.backward, "image_per_block": from the gradient dv of u * gate to x, in two passes
// over x and dv (batch_norm_excitation.h says why two do). 16 bits, a thread has eight channels and goes down
// an image's pixels, of which a block has all, for a tile of channels.
//
//   sums    Of each image and channel five: dv u, and slope and slope (x - mean), with and without dv. The
//           image's last block computes what the gate's gradient needs of the small products
//           (ExciteBackward).
//   norm    dbeta and dgamma of a channel: its images' sums in order, 32 threads a channel.
//   apply   dx = scale dz - constant - linear (x - mean), what was summed last first; and beside it blocks
//           with the weights' gradients (WeightGradients). Of 7x7 pixels a block has two images.
//
// Bytes: x and dv twice, dx once; 20 for each image and channel. Per value some 20 FLOPs and, with silu, two
// special functions, in either pass: the bound is memory bandwidth.
#include "engine/ops/batch_norm_excitation.h"
#include "kernels/common/last_block.h"
#include "kernels/squeeze_excitation_products.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int kExcitedWidth = 8;

// [4, images, channels], so that threads side by side write what lies side by side: the sums of dv slope
// gate, slope, dv slope gate xhat, slope xhat.
struct ExcitedSums {
  float* values;
  int64_t count;  // of each

  __device__ float* operator[](int i) const { return values + i * count; }
};

// Of a thread's channels, which are never but whole packs.
__device__ __forceinline__ void load_eight(const float* __restrict__ from, float (&to)[kExcitedWidth]) {
#pragma unroll
  for (int part = 0; part < kExcitedWidth; part += 4) {
    const auto four = Pack<float, 4>::load(from + part);
#pragma unroll
    for (int i = 0; i < 4; ++i) to[part + i] = four[i];
  }
}
__device__ __forceinline__ void store_eight(float* __restrict__ to, const float (&from)[kExcitedWidth]) {
#pragma unroll
  for (int part = 0; part < kExcitedWidth; part += 4) {
    const float four[4] = {from[part], from[part + 1], from[part + 2], from[part + 3]};
    Pack<float, 4>::narrow(four).store(to + part);
  }
}

template <class T>
struct ExcitedSource {
  const T *x, *dv;
  const float *gamma, *beta, *mean, *inv_std, *z2;
  Activation gate;
  ExciteSizes s;
};

// A thread's channels of it.
template <class T>
struct ExcitedChannels {
  using Vector = Pack<T, kExcitedWidth>;
  float mean[kExcitedWidth], scale[kExcitedWidth], beta[kExcitedWidth];

  __device__ __forceinline__ ExcitedChannels(const ExcitedSource<T>& from, int channel) {
    float inv_std[kExcitedWidth];
    load_eight(from.mean + channel, mean);
    load_eight(from.gamma + channel, scale);
    load_eight(from.beta + channel, beta);
    load_eight(from.inv_std + channel, inv_std);
#pragma unroll
    for (int i = 0; i < kExcitedWidth; ++i) scale[i] *= inv_std[i];
  }
  struct Words {
    typename Vector::Word x, dv;
  };
  // Calls use(pixel, x less its mean, z, dv) for the pixels of an image, of its channels from `first` on.
  template <int kAtOnce, class Use>
  __device__ __forceinline__ void walk(const ExcitedSource<T>& from, int64_t first, Use&& use) const {
    Words words[kAtOnce]{};
    walk_rows<kAtOnce>(
        PlaneWalk(from.s.plane),
        [&](int k, int pixel) {
          const int64_t at = first + int64_t(pixel) * from.s.channels;
          words[k] = {Vector::load(from.x + at).word(), Vector::load(from.dv + at).word()};
        },
        [&](int k, int pixel) {
          float distance[kExcitedWidth], z[kExcitedWidth], dv[kExcitedWidth];
          Vector::widen(words[k].x, distance);
          Vector::widen(words[k].dv, dv);
#pragma unroll
          for (int i = 0; i < kExcitedWidth; ++i) {
            distance[i] -= mean[i];
            z[i] = distance[i] * scale[i] + beta[i];
          }
          use(pixel, distance, z, dv);
        });
  }
};

// As sum_over_rows_of_block(), in half of its memory and with a barrier more a step.
template <int kCount>
__device__ __forceinline__ void sum_rows_by_halves(float (&values)[kCount]) {
  SMEM(partial, float[kCount][kTilingThreads / 2]);
  const int lanes = int(blockDim.x), row = int(threadIdx.y);
  for (int half = int(blockDim.y) / 2; half > 0; half /= 2) {
    const int place = (row < half ? row : row - half) * lanes + int(threadIdx.x);
    if (row >= half && row < 2 * half) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) partial[i][place] = values[i];
    }
    __syncthreads();
    if (row < half) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) values[i] += partial[i][place];
    }
    __syncthreads();
  }
}

template <class T, int kActivation>
__global__ void __launch_bounds__(kTilingThreads, 2)
    excitation_gradient_sums(const ExcitedSource<T> source, const ExcitedSums sums, float* dgate,
                             unsigned* tickets, const ExciteBackward excite) {
  constexpr auto kKind = Activation(kActivation);
  const int channel = int(blockIdx.y * blockDim.x + threadIdx.x) * kExcitedWidth;
  const int64_t image = blockIdx.x, row = image * source.s.channels + channel;
  float mine[5 * kExcitedWidth] = {};
  if (channel < source.s.channels) {
    const ExcitedChannels<T> channels(source, channel);
    channels.template walk<4>(source, image * source.s.plane * source.s.channels + channel,
                              [&](int, const auto& distance, const auto& z, const auto& dv) {
#pragma unroll
                                for (int i = 0; i < kExcitedWidth; ++i) {
                                  const float slope = slope_from_input(kKind, z[i]),
                                              dz = through_slope(dv[i], slope);
                                  float* const sum = mine + 5 * i;
                                  sum[0] += dv[i] * activate(kKind, z[i]);
                                  sum[1] += dz;
                                  sum[2] += slope;
                                  sum[3] += dz * distance[i];
                                  sum[4] += slope * distance[i];
                                }
                              });
  }
  sum_rows_by_halves(mine);
  if (threadIdx.y == 0 && channel < source.s.channels) {
    float inv_std[kExcitedWidth], gate[kExcitedWidth], of[5][kExcitedWidth];
    load_eight(source.inv_std + channel, inv_std);
    load_eight(source.z2 + row, gate);
#pragma unroll
    for (int i = 0; i < kExcitedWidth; ++i) {
      gate[i] = activate(source.gate, gate[i]);
#pragma unroll
      for (int k = 0; k < 5; ++k) of[k][i] = mine[5 * i + k];
      of[1][i] *= gate[i];
      of[3][i] *= gate[i] * inv_std[i];
      of[4][i] *= inv_std[i];
    }
    store_eight(dgate + row, of[0]);
#pragma unroll
    for (int k = 0; k < 4; ++k) store_eight(sums[k] + row, of[k + 1]);
  }
  if (is_last_block(tickets + image, gridDim.y)) excite(image);
}

// Neighbouring threads have neighbouring channels.
constexpr unsigned kNormLanes = 8;
__global__ void __launch_bounds__(kTilingThreads)
    excitation_norm_sums(const ExcitedSums sums, const float* __restrict__ dpooled, int images, int channels,
                         float* __restrict__ dbeta, float* __restrict__ dgamma) {
  const int channel = int(blockIdx.x * blockDim.x + threadIdx.x);
  float mine[2] = {};
  if (channel < channels) {
#pragma unroll 8
    for (int n = int(threadIdx.y); n < images; n += int(kTilingThreads / kNormLanes)) {
      const int64_t at = int64_t(n) * channels + channel;
      const float shift = dpooled[at];
      mine[0] += sums[0][at] + shift * sums[1][at];
      mine[1] += sums[2][at] + shift * sums[3][at];
    }
  }
  sum_over_rows_of_block(mine);
  if (threadIdx.y != 0 || channel >= channels) return;
  dbeta[channel] = mine[0];
  dgamma[channel] = mine[1];
}

// Images of few pixels, two of which share what a block reads of its channels.
constexpr int kFewPixels = 64;
constexpr int images_of_block(int plane) { return plane <= kFewPixels ? 2 : 1; }

template <class T, int kActivation>
__global__ void __launch_bounds__(kTilingThreads, 2)
    excitation_input_gradient(const ExcitedSource<T> source, const float* __restrict__ dpooled,
                              const float* __restrict__ dbeta, const float* __restrict__ dgamma, int images,
                              T* __restrict__ dx, unsigned before, WeightGradients weights) {
  constexpr auto kKind = Activation(kActivation);
  if (blockIdx.x < before) return weights(blockIdx.x * gridDim.y + blockIdx.y);
  const int channel = int(blockIdx.y * blockDim.x + threadIdx.x) * kExcitedWidth;
  if (channel >= source.s.channels) return;
  const ExcitedChannels<T> channels(source, channel);
  // dx = (by_dv dv + shift) slope - constant - linear (x - mean)
  float constant[kExcitedWidth], linear[kExcitedWidth];
  load_eight(dbeta + channel, constant);
  load_eight(dgamma + channel, linear);
  {
    float inv_std[kExcitedWidth];
    load_eight(source.inv_std + channel, inv_std);
    const float of_row = 1.0f / (float(images) * float(source.s.plane));
#pragma unroll
    for (int i = 0; i < kExcitedWidth; ++i) {
      constant[i] *= channels.scale[i] * of_row;
      linear[i] *= channels.scale[i] * of_row * inv_std[i];
    }
  }
  const int end = (int(gridDim.x) - int(blockIdx.x)) * images_of_block(source.s.plane);
#pragma unroll 1
  for (int image = end - images_of_block(source.s.plane); image < min(end, images); ++image) {
    const int64_t row = int64_t(image) * source.s.channels + channel;
    float by_dv[kExcitedWidth], shift[kExcitedWidth];
    load_eight(source.z2 + row, by_dv);
    load_eight(dpooled + row, shift);
#pragma unroll
    for (int i = 0; i < kExcitedWidth; ++i) {
      by_dv[i] = activate(source.gate, by_dv[i]) * channels.scale[i];
      shift[i] *= channels.scale[i];
    }
    const int64_t first = int64_t(image) * source.s.plane * source.s.channels + channel;
    channels.template walk<2>(source, first, [&](int pixel, auto& distance, const auto& z, const auto& dv) {
#pragma unroll
      for (int i = 0; i < kExcitedWidth; ++i)
        distance[i] = through_slope(dv[i] * by_dv[i] + shift[i], slope_from_input(kKind, z[i])) -
                      (constant[i] + linear[i] * distance[i]);
      Pack<T, kExcitedWidth>::narrow(distance).store(dx + first + int64_t(pixel) * source.s.channels);
    });
  }
}

void run_excitation_backward(Context& context, const Tensor& x, const Tensor& dv, const KnownNorm& norm,
                             const Tensor& w1, const Tensor& w2, const SqueezeExcitationKept& kept,
                             const SqueezeExcitationParams& params, Tensor& dx, Tensor& dgamma, Tensor& dbeta,
                             Tensor& dw1, Tensor& db1, Tensor& dw2, Tensor& db2) {
  const ExciteSizes s = excite_sizes(x.dim(1) * x.dim(2), w1);
  const auto room = [&](const Shape& shape) {
    return Tensor::empty(shape, DType::f32, x.device(), "workspace");
  };
  Tensor dz2 = room(kept.z2.shape()), dz1 = room(kept.z1.shape()), hidden = room(kept.z1.shape());
  Tensor dpooled = room(kept.z2.shape()), all_sums = room({4, x.dim(0), s.channels});
  const ExcitedSums sums{all_sums.data<float>(), kept.z2.size()};
  const ExciteBackward excite{
      kept.z1.data<float>(), kept.z2.data<float>(), w1.data<float>(),     w2.data<float>(),     s, params,
      dz2.data<float>(),     dz1.data<float>(),     hidden.data<float>(), dpooled.data<float>()};
  const WeightGradients weights{{dz1, kept.pooled, dw1, db1}, {dz2, hidden, dw2, db2}};
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const ExcitedSource<T> source{x.data<T>(),
                                  dv.data<T>(),
                                  norm.gamma.data<float>(),
                                  norm.beta.data<float>(),
                                  norm.mean.data<float>(),
                                  norm.inv_std.data<float>(),
                                  kept.z2.data<float>(),
                                  params.gate,
                                  s};
    dispatch_activation(norm.activation, [&](auto kind) {
      constexpr int kKind = int(decltype(kind)::value);
      simt::Launch launch = per_image<kExcitedWidth>(context, x);
      launch.smem = excite_bytes(s);
      simt::launch<excitation_gradient_sums<T, kKind>>(launch, source, sums, dz2.data<float>(), tickets(),
                                                       excite);
      const unsigned tiles = unsigned(ceil_div(s.channels, kNormLanes));
      simt::launch<excitation_norm_sums>(
          {dim3(tiles), dim3(kNormLanes, kTilingThreads / kNormLanes), 0, stream_of(context)}, sums,
          dpooled.data<float>(), int(x.dim(0)), s.channels, dbeta.data<float>(), dgamma.data<float>());
      launch.smem = 0;
      const unsigned before = unsigned(ceil_div(weights.blocks(), launch.grid.y));
      launch.grid.x = before + unsigned(ceil_div(x.dim(0), images_of_block(s.plane)));
      simt::launch<excitation_input_gradient<T, kKind>>(launch, source, dpooled.data<float>(),
                                                        dbeta.data<float>(), dgamma.data<float>(),
                                                        int(x.dim(0)), dx.data<T>(), before, weights);
    });
  };
  x.dtype() == DType::f16 ? run(f16{}) : run(bf16{});
}

bool fits_excitation_backward(const Context&, const Tensor& x, const Tensor&, const KnownNorm&,
                              const Tensor& w1, const Tensor&, const SqueezeExcitationKept&,
                              const SqueezeExcitationParams&, Tensor&, Tensor&, Tensor&, Tensor&, Tensor&,
                              Tensor&, Tensor&) {
  constexpr size_t kMostBytes = 24 << 10;  // beside those of the sums
  return x.dtype() != DType::f32 && x.size() > 0 && x.dim(3) % kExcitedWidth == 0 && x.dim(0) <= kTickets &&
         excite_bytes(excite_sizes(1, w1)) <= kMostBytes;
}

const bool batch_norm_excitation_registered = batch_norm_excitation_backward.add(
    kThisDevice, {{"image_per_block", fits_excitation_backward, run_excitation_backward}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
