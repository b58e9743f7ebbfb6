// All gradients of a norm and the 3x3 depthwise convolution of it (engine/ops/batch_norm_conv.h), "stream":
// of 16-bit images, padded by one, strides 1 and 2.
//
// The input's and the filter's gradient are made of the same products' neighbours: where u is the norm of x
//   du[h, w] = sum over taps (r, s) of dy[p, q] w[r, s],  dw[r, s] = sum over pixels of dy[p, q] u[h, w]
// with p stride = h + 1 - r, q likewise. So a thread that has two channels of a strip of four columns
// (depthwise_stream.h) and marches down the rows of x needs for both the same few pixels of dy: three rows of
// six at stride 1, two rows of three at stride 2, of which a row comes in with each step. It makes u of x as
// the forward pass did, stores du, and, while x and du are at hand, adds up dbeta and dgamma of the norm,
// which the first pass of the norm's gradient would read both again for. The last block of a tile of channels
// finishes these; a second launch makes dx of x, du and them. The filter's sums leave blocks as in
// depthwise_stream_weight.cu.
//
// Bytes: x, dy and du, then x, du and dx: 6 values of two bytes, where gradients one after the other move 9
// (4 for du and dw, 5 for the norm). Instructions of a value: 18 multiply-adds at stride 1, some 45 in all,
// with silu 50.
#include "kernels/batch_norm_view.h"
#include "kernels/common/last_block.h"
#include "kernels/depthwise_stream_weight.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int kSide = 3, kTaps = kSide * kSide;

// What a step's kStride rows of x, four columns wide, meet of dy: kRows rows, the newest of them first, from
// kBefore columns before the strip's own on.
template <int kStride>
struct MetGradients {
  static constexpr int kRows = 4 - kStride, kBefore = 2 - kStride;
  static constexpr int kColumns = kStride == 1 ? kStrip + 2 : kStrip / 2 + 1;

  // Whether row r of the filter joins the step's row number a and a row of dy, and which one of those kept.
  static constexpr bool meets(int a, int r) { return (a + 1 - r) % kStride == 0; }
  static constexpr int row(int a, int r) { return 1 - (a + 1 - r) / kStride; }
  // Calls f(column of dy, column of x, tap) for their products.
  template <class F>
  __device__ static __forceinline__ void for_each_product(int r, F&& f) {
#pragma unroll
    for (int column = 0; column < kStrip; ++column)
#pragma unroll
      for (int t = 0; t < kSide; ++t)
        if ((column + 1 - t) % kStride == 0) f((column + 1 - t) / kStride + kBefore, column, r * kSide + t);
  }
};

// dbeta, and dgamma less its inv_std.
struct NormSums {
  float of[2 * kStreamWidth] = {};
};

// What a thread reads of its two channels in each row: its taps and the norm. In shared memory, since
// registers are few.
template <class T>
struct ThreadConstants {
  using Taps = Pack<T, kStreamWidth>;
  using Two = Pack<float, kStreamWidth>;
  Taps taps[kTaps][kWeightThreads];
  Two scales[kWeightThreads], shifts[kWeightThreads], means[kWeightThreads];

  __device__ __forceinline__ void load(const T* w, const NormView& view, int channels, int channel) {
    const int thread = int(threadIdx.x);
#pragma unroll
    for (int t = 0; t < kTaps; ++t) taps[t][thread] = Taps::load(w + int64_t(t) * channels + channel);
    const auto norm = NormOfChannels<kStreamWidth>::load(view, channel);
    Two scale, shift;
#pragma unroll
    for (int c = 0; c < kStreamWidth; ++c) scale[c] = norm.scale[c], shift[c] = norm.shift[c];
    scales[thread] = scale;
    shifts[thread] = shift;
    means[thread] = Two::load(view.mean + channel);
  }
};

// The norm of thread number `thread` of the block, as it lies there.
template <class T, Activation kActivation>
struct MarchedNorm {
  using Vector = Pack<T, kStreamWidth>;
  const ThreadConstants<T>& constants;
  int thread;

  __device__ __forceinline__ float before_activation(float x, int c) const {
    return x * constants.scales[thread][c] + constants.shifts[thread][c];
  }
  // u, rounded as it was; 0 beside the image.
  __device__ __forceinline__ void apply(const float (&x)[kStreamWidth], bool inside,
                                        float (&u)[kStreamWidth]) const {
    float pair[kStreamWidth];
#pragma unroll
    for (int c = 0; c < kStreamWidth; ++c) pair[c] = activate(kActivation, before_activation(x[c], c));
    const auto stored = Vector::narrow(pair).word();
    Vector::widen(inside ? stored : typename Vector::Word{}, u);
  }
  __device__ __forceinline__ void add(const float (&x)[kStreamWidth], const float (&du)[kStreamWidth],
                                      NormSums& sums) const {
#pragma unroll
    for (int c = 0; c < kStreamWidth; ++c) {
      const float slope = slope_from_input(kActivation, before_activation(x[c], c));
      const float dz = kActivation == Activation::identity ? du[c] : through_slope(du[c], slope);
      sums.of[c] += dz;
      sums.of[kStreamWidth + c] += dz * (x[c] - constants.means[thread][c]);
    }
  }
};

// One strip of an image, from its first row to its last.
template <class T, Activation kActivation, int kStride>
__device__ __forceinline__ void march_strip(const T* x, const ThreadConstants<T>& constants, const T* dy,
                                            const DepthwiseSizes& s, int image, int v, int channel, T* du,
                                            float (&dw)[kTaps][kStreamWidth], NormSums& sums) {
  using Met = MetGradients<kStride>;
  using Vector = Pack<T, kStreamWidth>;
  using Rows = StreamedRows<T, kStrip>;
  using Gradients = StreamedRows<T, Met::kColumns>;
  Rows input(x, image, s.height, s.width, s.channels, 0, v, channel);
  Gradients gradient(dy, image, s.out_height, s.out_width, s.channels, 0, v / kStride - Met::kBefore,
                     channel);
  typename Rows::Word ahead[kStrip] = {};
  typename Gradients::Word gradient_ahead[Met::kColumns] = {};
  input.fetch(true, ahead);
  gradient.fetch(true, gradient_ahead);

  typename Gradients::Word met[Met::kRows][Met::kColumns] = {};  // as words: registers are few
  const auto next_gradients = [&] {
    move_down(met);
    copy_registers(gradient_ahead, met[0]);
    gradient.fetch(true, gradient_ahead);  // zeros behind the last
  };
  next_gradients();
  T* out = du + ((int64_t(image) * s.height * s.width) + v) * s.channels + channel;
#pragma unroll 1
  for (int h = 0; h < s.height; h += kStride) {
    next_gradients();
#pragma unroll
    for (int a = 0; a < kStride; ++a) {
      if (a > 0 && h + a >= s.height) break;
      typename Rows::Word now[kStrip];  // widened twice: registers are few
      copy_registers(ahead, now);
      input.fetch(true, ahead);
      int thread = int(threadIdx.x);
      keep(thread);  // read in every row
      const MarchedNorm<T, kActivation> norm{constants, thread};
      float u[kStrip][kStreamWidth], gradients[kStrip][kStreamWidth] = {};
      {
        float values[kStrip][kStreamWidth];
        Rows::widen(now, values);
#pragma unroll
        for (int t = 0; t < kStrip; ++t) norm.apply(values[t], input.inside() >> t & 1, u[t]);
      }
#pragma unroll
      for (int r = 0; r < kSide; ++r) {
        if (!Met::meets(a, r)) continue;
        float row[Met::kColumns][kStreamWidth];
        Gradients::widen(met[Met::row(a, r)], row);
        Met::for_each_product(r, [&](int of_dy, int column, int tap) {
          float w[kStreamWidth];
          norm.constants.taps[tap][norm.thread].widen(w);
#pragma unroll
          for (int c = 0; c < kStreamWidth; ++c) {
            gradients[column][c] += row[of_dy][c] * w[c];
            dw[tap][c] += row[of_dy][c] * u[column][c];
          }
        });
      }
      float values[kStrip][kStreamWidth];
      Rows::widen(now, values);
      keep(thread);
      const MarchedNorm<T, kActivation> again{constants, thread};
      T* pixel = out;
#pragma unroll
      for (int t = 0; t < kStrip; ++t) {
        if (input.inside() >> t & 1) {
          const Vector pair = Vector::narrow(gradients[t]);
          pair.store(pixel);
          float stored[kStreamWidth];
          pair.widen(stored);
          again.add(values[t], stored, sums);
        }
        go_on(pixel, unsigned(s.channels));
      }
      out += s.width * s.channels;
    }
  }
}

// du, and dw's sums of a slice in partial[blockIdx.y]; dbeta and dgamma of all by way of `norm_partial`
// [slices, pairs of channels, 4].
template <class T, int kActivation, int kStride>
__global__ void __launch_bounds__(kWeightThreads, weight_blocks(kSide))
    norm_depthwise_gradients(const T* __restrict__ x, const NormView view, const T* __restrict__ dy,
                             const T* __restrict__ w, const DepthwiseSizes s, const WeightTiling tiling,
                             T* __restrict__ du, float* __restrict__ partial, float* norm_partial,
                             unsigned* tickets, float* __restrict__ dbeta, float* __restrict__ dgamma) {
  constexpr int kSums = 2 * kStreamWidth;
  using Four = Pack<float, kSums>;
  SMEM(shared, float[kSide * kStreamWidth][kWeightThreads]);
  SMEM(constants, ThreadConstants<T>);
  const WeightThread at(tiling);
  float dw[kTaps][kStreamWidth] = {};
  NormSums sums;
  if (at.has_channels) {
    constants.load(w, view, s.channels, at.channel);
    const int across = (s.width + kStrip - 1) / kStrip, step = int(tiling.slices) * tiling.groups;
    for (int strip = int(blockIdx.y) * tiling.groups + at.group; strip < int(tiling.strips); strip += step)
      march_strip<T, Activation(kActivation), kStride>(x, constants, dy, s, strip / across,
                                                       strip % across * kStrip, at.channel, du, dw, sums);
  }
  leave_taps<kSide>(at, tiling, dw, s.channels, shared, partial);

  float all[kSums];
  at.add_groups(tiling, sums.of, shared, all);
  if (at.group == 0 && at.has_channels) {
    Four mine;
#pragma unroll
    for (int i = 0; i < kSums; ++i) mine[i] = all[i];
    mine.store(norm_partial + (int64_t(blockIdx.y) * tiling.pairs + at.pair) * kSums);
  }
  if (!is_last_block(tickets + blockIdx.x, gridDim.y)) return;
  NormSums of_group;
  if (at.has_channels) {
#pragma unroll 8
    for (int slice = at.group; slice < int(tiling.slices); slice += tiling.groups) {
      const auto four = Four::load(norm_partial + (int64_t(slice) * tiling.pairs + at.pair) * kSums);
#pragma unroll
      for (int i = 0; i < kSums; ++i) of_group.of[i] += four[i];
    }
  }
  at.add_groups(tiling, of_group.of, shared, all);
  if (at.group != 0 || !at.has_channels) return;
#pragma unroll
  for (int c = 0; c < kStreamWidth; ++c) {
    dbeta[at.channel + c] = all[c];
    dgamma[at.channel + c] = all[kStreamWidth + c] * view.inv_std[at.channel + c];
  }
}

// f(integral_constant activation), of those that networks have there; false for others.
template <class F>
bool with_marched(Activation activation, F&& f) {
  const auto with = [&](auto kind) {
    f(std::integral_constant<int, int(decltype(kind)::value)>{});
    return true;
  };
  switch (activation) {
    case Activation::relu:
      return with(std::integral_constant<Activation, Activation::relu>{});
    case Activation::silu:
      return with(std::integral_constant<Activation, Activation::silu>{});
    case Activation::hardswish:
      return with(std::integral_constant<Activation, Activation::hardswish>{});
    default:
      return false;
  }
}

void run_gradients(Context& context, const Tensor& x, const KnownNorm& norm, const Tensor& dy,
                   const Tensor& w, const Conv2dParams& conv, Tensor& dx, Tensor& dw, Tensor& dgamma,
                   Tensor& dbeta) {
  Tensor du = empty_like(x);
  const WeightTiling tiling(x.dim(0), x.dim(2), x.dim(3));
  Tensor partial = Tensor::empty({tiling.slices, dw.size()}, DType::f32, dw.device(), "workspace");
  Tensor norm_partial = Tensor::empty({tiling.slices, 2 * x.dim(3)}, DType::f32, dw.device(), "workspace");
  dispatch_16_bits(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_marched(norm.activation, [&](auto kind) {
      const auto launch = [&](auto stride) {
        simt::launch<norm_depthwise_gradients<T, kind(), stride()>>(
            tiling.launch(context), x.data<T>(), NormView(norm), dy.data<T>(), w.data<T>(),
            DepthwiseSizes(x, w, dy, conv), tiling, du.data<T>(), partial.data<float>(),
            norm_partial.data<float>(), tickets(), dbeta.data<float>(), dgamma.data<float>());
      };
      if (conv.stride == 1)
        launch(std::integral_constant<int, 1>{});
      else
        launch(std::integral_constant<int, 2>{});
    });
    finish_gradient<T>(context, partial, int(tiling.slices), dw);
  });
  norm_input_gradient(context, x, norm, du, dgamma, dbeta, dx);
}

bool fits_gradients(const Context&, const Tensor& x, const KnownNorm& norm, const Tensor& dy, const Tensor& w,
                    const Conv2dParams& conv, Tensor&, Tensor&, Tensor&, Tensor&) {
  return is_depthwise(w.shape()) && fits_stream(w.shape(), conv) && w.dim(0) == kSide && w.dim(1) == kSide &&
         conv.padding == 1 && x.dtype() != DType::f32 && dy.size() > 0 &&
         with_marched(norm.activation, [](auto) {});
}

const bool batch_norm_depthwise_gradients_registered =
    batch_norm_conv_backward.add(kThisDevice, {{"stream", fits_gradients, run_gradients}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
