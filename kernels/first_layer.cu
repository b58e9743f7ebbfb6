// Gradients of a first layer (engine/ops/first_layer.h) of 16-bit images, "stem": a stem's filter gradient
// (conv2d_stem_weight.h) that makes the gradient of z, the convolution's output, where it is multiplied.
//
// (1) norm_gradient_sums: dbeta and dgamma (batch_norm_gradients.h), of the winners alone where y is pooled;
// (2) a band's z comes into shared memory, and each thread turns what it has copied into the gradient of z:
//       dz = scale * slope * dy - (constant + linear * (z - mean))
//     dy from memory, or, where y is pooled, of those windows that z's pixel won (batch_norm_max_pool.h).
//
// FLOPs: 2 N P Q K R S C, and some 12 (pooled 20) instructions for each of M values of z. Bytes of s each:
// sums z and dy, then z, dy and x: 4sM + x. Pooled: the winners and dy, then z, dy, the winners' places and
// x: 1.75sM + M/4 + x. As operations apart, which store dz and read it again, 2sM more. (The gradient of
// ResNet18's stem, 256 images, on an H100: 850 MB where it was 1700.)
#include "engine/ops/first_layer.h"

#include "kernels/batch_norm_view.h"
#include "kernels/conv2d_stem_weight.h"

namespace plume::PLUME_KERNELS {
namespace {

// What the pixels of eight channels have in common, in shared memory: 176 bytes from chunk to chunk are other
// banks for each of eight.
struct StemNorm {
  float mean[kChunk], scale[kChunk], beta[kChunk], constant[kChunk], linear[kChunk];
  float unused[4];
};
static_assert(sizeof(StemNorm) == 176);

template <class T>
struct NormOperands {
  const T *z, *dy, *dy_more;
  const float *gamma, *beta, *mean, *inv_std, *dbeta, *dgamma;
  float rows;  // of z

  NormOperands(const Tensor& z_, const Tensor& dy_, const Tensor& more, const KnownNorm& norm,
               const Tensor& dbeta_, const Tensor& dgamma_)
      : z(z_.data<T>()),
        dy(dy_.data<T>()),
        dy_more(more.defined() ? more.data<T>() : nullptr),
        gamma(norm.gamma.data<float>()),
        beta(norm.beta.data<float>()),
        mean(norm.mean.data<float>()),
        inv_std(norm.inv_std.data<float>()),
        dbeta(dbeta_.data<float>()),
        dgamma(dgamma_.data<float>()),
        rows(float(z_.size() / z_.dim(3))) {}
};

// That of `channels`, from the block's first one on.
template <class T>
__device__ __forceinline__ void load_norm(const NormOperands<T>& operands, int first, int channels, int count,
                                          StemNorm* norms) {
  const int of_group = int(threadIdx.x), channel = first + of_group;
  if (of_group < count && channel < channels) {
    const float inv_std = operands.inv_std[channel], scale = operands.gamma[channel] * inv_std;
    StemNorm& norm = norms[of_group / kChunk];
    const int i = of_group % kChunk;
    norm.mean[i] = operands.mean[channel];
    norm.scale[i] = scale;
    norm.beta[i] = operands.beta[channel];
    norm.constant[i] = operands.dbeta[channel] * (scale / operands.rows);
    norm.linear[i] = operands.dgamma[channel] * (scale / operands.rows) * inv_std;
  }
  __syncthreads();
}

// Of the chunk of z at each of two places, with dy behind the activation, makes the gradient; of the second
// one if it is `there`.
template <class T, Activation kActivation>
__device__ __forceinline__ void make_gradients(char* first, char* second, bool there, const StemNorm& norm,
                                               const float (&dy)[2][kChunk]) {
  using Chunk = Pack<T, kChunk>;
  using Four = Pack<float, 4>;
  T* const at[2] = {reinterpret_cast<T*>(first), reinterpret_cast<T*>(second)};
  float values[2][kChunk];
#pragma unroll
  for (int n = 0; n < 2; ++n) Chunk::load(at[n]).widen(values[n]);
#pragma unroll
  for (int half = 0; half < kChunk; half += 4) {
    const auto mean = Four::load(norm.mean + half), scale = Four::load(norm.scale + half),
               beta = Four::load(norm.beta + half), constant = Four::load(norm.constant + half),
               linear = Four::load(norm.linear + half);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int c = i % 4;
      float& value = values[i / 4][half + c];
      const float gradient = dy[i / 4][half + c], distance = value - mean[c];
      const float slope = slope_from_input(kActivation, distance * scale[c] + beta[c]);
      const float du = kActivation == Activation::identity ? gradient : through_slope(gradient, slope);
      value = scale[c] * du - (constant[c] + linear[c] * distance);
    }
  }
  Chunk::narrow(values[0]).store(at[0]);
  if (there) Chunk::narrow(values[1]).store(at[1]);
}

// dy + dy_more of eight channels.
template <class T>
__device__ __forceinline__ void load_gradient(const NormOperands<T>& operands, int64_t at,
                                              float (&sums)[kChunk]) {
  using Chunk = Pack<T, kChunk>;
  Chunk::widen(Chunk::load(operands.dy + at).word(), sums);
  if (!operands.dy_more) return;
  float second[kChunk];
  Chunk::widen(Chunk::load(operands.dy_more + at).word(), second);
#pragma unroll
  for (int i = 0; i < kChunk; ++i) sums[i] += second[i];
}

// A thread copies a chunk of two neighbouring columns of z at a time, of which it makes the gradients, too.
template <class T>
struct MadeGradients {
  static constexpr bool kMade = true;
  const NormOperands<T>& operands;
  StemNorm* norms;
  int channels, count;  // of all groups, of one

  __device__ void begin(int first) { load_norm(operands, first, channels, count, norms); }
  template <class Band>
  __device__ __forceinline__ void copy(const Band& band) const {
    band.template for_each<2>([&](int row, int column, int chunk) {
      band.copy(operands.z, row, column, chunk);
      band.copy(operands.z, row, column + 1, chunk);
    });
  }
};

// Of y that is not pooled.
template <class T, Activation kActivation>
struct NormGradients : MadeGradients<T> {
  using MadeGradients<T>::operands, MadeGradients<T>::norms;

  template <class Band>
  __device__ __forceinline__ void arrived(const Band& band) const {
    band.template for_each<2>([&](int row, int column, int chunk) {
      if (!band.inside(column, chunk)) return;
      const bool second = band.inside(column + 1, chunk);
      float dy[2][kChunk] = {};
      load_gradient(operands, band.offset(row, column, chunk), dy[0]);
      if (second) load_gradient(operands, band.offset(row, column + 1, chunk), dy[1]);
      make_gradients<T, kActivation>(band.place(row, column, chunk), band.place(row, column + 1, chunk),
                                     second, norms[chunk], dy);
    });
  }
};

// Windows of 3x3 pixels, two apart, padded by one: row 2 p is the middle one of windows p, row 2 p + 1 the
// last one of windows p and the first one of p + 1; columns likewise, of which a thread takes two.
struct Windows {
  const uint8_t* places;  // of the winners
  int rows, columns;
};

template <class T, Activation kActivation>
struct WindowGradients : MadeGradients<T> {
  using MadeGradients<T>::operands, MadeGradients<T>::norms, MadeGradients<T>::channels;
  const Windows& windows;

  template <class Band>
  __device__ __forceinline__ void arrived(const Band& band) const {
    band.template for_each<2>([&](int row, int column, int chunk) {
      if (!band.inside(column, chunk)) return;
      const int h = band.share.row + row, p = h / 2;
      float dy[2][kChunk] = {};
      const auto meet = [&](int of_window, int window_row) {
        if (of_window >= windows.rows) return;
        const int first = (band.share.image * windows.rows + of_window) * windows.columns + column / 2;
        const int64_t at = int64_t(first) * channels + band.filter(chunk);
        add_wins(at, 3 * window_row + 1, dy[0], 3 * window_row + 2, dy[1]);
        if (column / 2 + 1 < windows.columns) add_wins(at + channels, -1, dy[0], 3 * window_row, dy[1]);
      };
      meet(p, 1 + h % 2);
      if (h % 2 != 0) meet(p + 1, 0);
      make_gradients<T, kActivation>(band.place(row, column, chunk), band.place(row, column + 1, chunk),
                                     band.inside(column + 1, chunk), norms[chunk], dy);
    });
  }

 private:
  // Adds the gradients of those channels of a window that its pixels `left_place` and `right_place` won.
  __device__ __forceinline__ void add_wins(int64_t at, int left_place, float (&left)[kChunk], int right_place,
                                           float (&right)[kChunk]) const {
    const auto words = Pack<uint8_t, kChunk>::load(windows.places + at).word();
    float gradients[kChunk];
    load_gradient(operands, at, gradients);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const int place = int((i < 4 ? words.x : words.y) >> 8 * (i % 4) & 0xffu);
      if (place == left_place) left[i] += gradients[i];
      if (place == right_place) right[i] += gradients[i];
    }
  }
};

template <class T, int kSide, int kTiles, int kActivation>
__global__ void __launch_bounds__(StemGradient<kSide, kTiles>::kThreads,
                                  StemGradient<kSide, kTiles>::blocks(true))
    first_layer_gradient(const T* __restrict__ x, const NormOperands<T> operands, const StemWalk walk,
                         const StemBands bands, const FastDivide by_tiles, const FastDivide by_chunks,
                         float* __restrict__ partial, int64_t size) {
  SMEM(norms, StemNorm[kTiles]);
  stem_gradient<T, kSide, kTiles>(
      x, NormGradients<T, Activation(kActivation)>{{operands, norms, walk.filters, kTiles * kChunk}}, walk,
      bands, by_tiles, by_chunks, partial, size);
}

template <class T, int kSide, int kTiles, int kActivation>
__global__ void __launch_bounds__(StemGradient<kSide, kTiles>::kThreads,
                                  StemGradient<kSide, kTiles>::blocks(true))
    pooled_first_layer_gradient(const T* __restrict__ x, const NormOperands<T> operands,
                                const Windows windows, const StemWalk walk, const StemBands bands,
                                const FastDivide by_tiles, const FastDivide by_chunks,
                                float* __restrict__ partial, int64_t size) {
  SMEM(norms, StemNorm[kTiles]);
  stem_gradient<T, kSide, kTiles>(
      x,
      WindowGradients<T, Activation(kActivation)>{{operands, norms, walk.filters, kTiles * kChunk}, windows},
      walk, bands, by_tiles, by_chunks, partial, size);
}

// f(T{}, side, tiles, activation, pooled), for what networks begin with; false for other layers.
template <class F>
bool choose_first_layer(DType dtype, int side, int64_t filters, Activation activation, bool pooled, F&& f) {
  using std::integral_constant;
  const auto with = [&](auto side_, auto tiles, auto kind, auto pooled_) {
    constexpr integral_constant<int, int(decltype(kind)::value)> number;
    dtype == DType::f16 ? f(f16{}, side_, tiles, number, pooled_) : f(bf16{}, side_, tiles, number, pooled_);
    return true;
  };
  constexpr integral_constant<int, 3> kThree;
  constexpr integral_constant<int, 4> kFourTiles;
  constexpr integral_constant<Activation, Activation::relu> kRelu;
  if (pooled) {
    if (activation != Activation::relu) return false;
    if (side == 7)
      return with(integral_constant<int, 7>{}, integral_constant<int, 8>{}, kRelu, std::true_type{});
    return filters <= 32 && with(kThree, kFourTiles, kRelu, std::true_type{});
  }
  if (side != 3) return false;
  if (filters <= 16 && activation == Activation::hardswish)
    return with(kThree, integral_constant<int, 2>{}, integral_constant<Activation, Activation::hardswish>{},
                std::false_type{});
  if (filters <= 32 && activation == Activation::silu)
    return with(kThree, kFourTiles, integral_constant<Activation, Activation::silu>{}, std::false_type{});
  return false;
}

bool is_pooled(const WindowWinners& winners) { return winners.pool.window != 0; }

// f(T{}, side, tiles, activation, pooled, plan), where the device has room for it.
template <class F>
bool plan_first_layer(const Tensor& x, const ConvSizes& s, const WindowWinners& winners,
                      const KnownNorm& norm, F&& f) {
  bool room = false;
  choose_first_layer(x.dtype(), s.filter_width, s.filters, norm.activation, is_pooled(winners),
                     [&](auto zero, auto side, auto tiles, auto activation, auto pooled) {
                       const StemGradientPlan<side(), tiles()> plan(x, s, true,
                                                                    tiles() * int(sizeof(StemNorm)));
                       room = plan.room;
                       if (room) f(zero, side, tiles, activation, pooled, plan);
                     });
  return room;
}

void run_stem(Context& context, const Tensor& x, const Conv2dParams& params, const Tensor& z,
              const WindowWinners& winners, const Tensor& dy, const Tensor& dy_more, const KnownNorm& norm,
              Tensor& dw, Tensor& dgamma, Tensor& dbeta) {
  norm_gradient_sums(context, is_pooled(winners) ? winners.values : z, norm, dy, dy_more, dgamma, dbeta);
  plan_first_layer(x, ConvSizes(x, dw, z, params), winners, norm,
                   [&](auto zero, auto side, auto tiles, auto activation, auto pooled, const auto& plan) {
                     using T = decltype(zero);
                     const NormOperands<T> operands(z, dy, dy_more, norm, dbeta, dgamma);
                     const simt::Launch launch{dim3(unsigned(plan.blocks())),
                                               dim3(StemGradient<side(), tiles()>::kThreads),
                                               size_t(plan.bytes), stream_of(context)};
                     in_slices_of_stem<T>(context, plan, dw, [&](float* to) {
                       if constexpr (pooled())
                         simt::launch<pooled_first_layer_gradient<T, side(), tiles(), activation()>>(
                             launch, x.data<T>(), operands,
                             Windows{winners.argmax.data<uint8_t>(), int(dy.dim(1)), int(dy.dim(2))},
                             plan.walk, plan.bands, plan.by_tiles, plan.by_chunks, to, dw.size());
                       else
                         simt::launch<first_layer_gradient<T, side(), tiles(), activation()>>(
                             launch, x.data<T>(), operands, plan.walk, plan.bands, plan.by_tiles,
                             plan.by_chunks, to, dw.size());
                     });
                   });
}

bool fits_pooling(const plume::Shape& z, const MaxPool2dParams& pool) {
  const plume::Shape y = max_pool2d_shape(z, pool);
  return pool.window == 3 && pool.stride == 2 && pool.padding == 1 && y[1] == (z[1] + 1) / 2 &&
         y[2] == (z[2] + 1) / 2;
}

// Before there is a z only what is known of any.
bool fits_stem(const Context&, const Tensor& x, const Conv2dParams& params, const Tensor& z,
               const WindowWinners& winners, const Tensor& dy, const Tensor& dy_more, const KnownNorm& norm,
               Tensor& dw, Tensor&, Tensor&) {
  const plume::Shape output = conv2d_shape(x.shape(), dw.shape(), params);
  const ConvSizes s(x, dw, output, params);
  if (x.dtype() == DType::f32 || x.size() == 0 || output.elements() >= int64_t{1} << 30 ||
      !StemWalk::fits(s) || (is_pooled(winners) && !fits_pooling(output, winners.pool)))
    return false;
  for (const Tensor* t : {&z, &dy, &dy_more})
    if (t->defined() && !is_in_chunks(*t)) return false;
  if (z.defined() && is_pooled(winners) && !winners.values.defined()) return false;
  return plan_first_layer(x, s, winners, norm, [](auto...) {});
}

const bool first_layer_registered = first_layer_backward.add(kThisDevice, {{"stem", fits_stem, run_stem}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
