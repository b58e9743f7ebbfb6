// batch_norm_max_pool of 3x3 windows two pixels apart, padded by one, of 16-bit images: "winners".
//
// Which pixel wins a window is known before the statistics are (engine/ops/batch_norm_max_pool.h). forward:
// (1) winners_and_statistics: one pass over x adds it up and stores each window's winner, its x and its place
// in the window; (2) the norm of the winners, a quarter of x, is y (batch_norm_passes.h). backward: no pixel
// but a winner has a gradient behind the norm, so that (1) dbeta and dgamma are sums over the winners
// (batch_norm_gradients.h); (2) gradient_of_windows: dx of every pixel, from dy of those windows that it won.
//
// Of both a thread has 16 bytes of channels and a column of y, which it goes down: to each pixel of y belong
// two rows and two columns of x, whose right lower ones lie in the next windows, too. winners_and_statistics
// keeps the largest of three pixels of a row for the windows above and below it; gradient_of_windows keeps
// dy and the places of the windows below for the next row. Blocks are tiles of channels x neighbouring
// columns; all their rows are shared out evenly, so that sums are left by as many blocks as run at once.
// Negative gammas: x is turned round as it is read, so that the least of it is the largest.
//
// Bytes, of M values of s: forward x once, the winners written and read, y, places; (3/4 + 1) sM + M/4.
// Backward the winners and dy, then x, dy, places and dx: (3/4 + 2) sM + M/4; with a second dy sM/2 more. The
// two operations in turn move 4 1/4 sM + M/4 and 6 1/4 sM + M/4 where x does not fit into the L2. Some 8
// instructions a value forward (half of them for the statistics), 15 backward: memory is the limit.
#include "engine/ops/batch_norm_max_pool.h"

#include "kernels/batch_norm_gradients.h"
#include "kernels/batch_norm_strips.h"
#include "kernels/common/pair_leaders.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int kPlacesOfRow = 3;
constexpr MaxPool2dParams kPool{.window = 3, .stride = 2, .padding = 1};

// x of channels whose gamma is negative is turned round.
template <class T>
struct Turning {
  Pairs signs;

  __device__ explicit Turning(const float* gamma) {
#pragma unroll
    for (int i = 0; i < Pairs::kCount; ++i)
      signs.of[i] = (gamma[2 * i] < 0 ? 0x8000u : 0u) | (gamma[2 * i + 1] < 0 ? 0x80000000u : 0u);
  }
  __device__ __forceinline__ uint4 operator()(const uint4& word) const {
    Pairs pairs(word);
#pragma unroll
    for (int i = 0; i < Pairs::kCount; ++i) pairs.of[i] ^= signs.of[i];
    return pairs.word();
  }
  __device__ static uint4 least() {
    Pairs pairs;
#pragma unroll
    for (uint32_t& pair : pairs.of) pair = least_pair<T>();
    return pairs.word();
  }
};

// Sums of x, less a value near it, over the pixels that a thread adds.
template <class T>
struct StatisticsOfThread {
  using Vector = Pack<T, kPooledWidth>;
  float from[kPooledWidth] = {}, sums[2 * kPooledWidth + 1] = {};  // the last one: how many
  int count = 0;

  // The mean of a few pixels, the same ones for all threads of these channels in the block.
  __device__ void start(const View4<const T>& x, const Strips& strips, int channel,
                        const Turning<T>& turned) {
    const int turn = int(blockIdx.y) * strips.turns_of_slice, strip = turn / strips.rows;
    const int column = strip * int(blockDim.y), image = column / strips.width;
    const int64_t pixels = int64_t(x.n) * x.h * x.w;
    const int64_t here =
        (int64_t(image) * x.h + 2 * (turn - strip * strips.rows)) * x.w + 2 * (column - image * strips.width);
    const int samples = int(min(pixels, int64_t(4)));
    const T* at = x.data + min(here, pixels - samples) * x.c + channel;
    for (int i = 0; i < samples; ++i, at += x.c) {
      float v[kPooledWidth];
      Vector::widen(turned(Vector::load(at).word()), v);
#pragma unroll
      for (int k = 0; k < kPooledWidth; ++k) from[k] += v[k];
    }
#pragma unroll
    for (float& value : from) value *= 1.0f / float(samples);
  }
  __device__ __forceinline__ void add(const typename Vector::Word& word) {
    float v[kPooledWidth];
    Vector::widen(word, v);
#pragma unroll
    for (int i = 0; i < kPooledWidth; ++i) {
      const float shifted = v[i] - from[i];
      sums[i] += shifted;
      sums[kPooledWidth + i] += shifted * shifted;
    }
    ++count;
  }
  // Of all threads of the block, for those with threadIdx.y = 0; x turned back.
  __device__ void finish(const float* gamma, bool there, Moments (&moments)[kPooledWidth]) {
    sums[2 * kPooledWidth] = float(count);
    sum_over_rows_of_block(sums);
    const float all = sums[2 * kPooledWidth], share = 1.0f / all;
#pragma unroll
    for (int i = 0; i < kPooledWidth; ++i) {
      const float mean = sums[i] * share, m2 = sums[kPooledWidth + i] - sums[i] * mean;
      const float sign = there && gamma[i] < 0 ? -1.0f : 1.0f;
      moments[i] = {all, sign * from[i], sign * mean, m2 < 0.0f ? 0.0f : m2};  // rounding; NaN passes
    }
  }
};

template <class T>
__global__ void __launch_bounds__(kTilingThreads, 2)
    winners_and_statistics(View4<const T> x, const Columns all, const float* __restrict__ gamma,
                           const Strips strips, T* __restrict__ winners, uint8_t* __restrict__ places,
                           Moments* partial, unsigned* tickets, FinishStatistics finish) {
  using Vector = Pack<T, kPooledWidth>;
  using Word = typename Vector::Word;
  using Leaders = PairLeaders<T, kPooledWidth>;
  const int channel = first_channel();
  gamma += channel;
  StatisticsOfThread<T> statistics;
  if (channel < x.c) {
    const Turning<T> turned(gamma);
    statistics.start(x, strips, channel, turned);
    const int64_t pitch = int64_t(x.w) * x.c;
    walk_strips(strips, [&](int image, int q, int first, int end) {
      const bool left = q > 0, right = 2 * q + 1 < x.w;
      const auto fetch = [&](const T* at, bool there, Word(&words)[kPlacesOfRow]) {
        words[0] = there && left ? turned(Vector::load(at - x.c).word()) : Turning<T>::least();
        words[1] = there ? turned(Vector::load(at).word()) : Turning<T>::least();
        words[2] = there && right ? turned(Vector::load(at + x.c).word()) : Turning<T>::least();
      };
      const auto leaders_of = [](const Word(&words)[kPlacesOfRow]) {
        Leaders leaders;
        leaders.start(words[0], 0);
        leaders.meet(words[1], 1);
        leaders.meet(words[2], 2);
        return leaders;
      };
      const T* at = &x.at(image, 2 * first, 2 * q, channel);
      Word rows[2][kPlacesOfRow];
      fetch(at - pitch, first > 0, rows[0]);
      Leaders above = leaders_of(rows[0]);
      int64_t to = ((int64_t(image) * strips.rows + first) * strips.width + q) * x.c + channel;
#pragma unroll 1
      for (int p = first; p < end; ++p) {
        const bool below = 2 * p + 1 < x.h;
        fetch(at, true, rows[0]);
        fetch(at + pitch, below, rows[1]);
        statistics.add(rows[0][1]);
        if (right) statistics.add(rows[0][2]);
        if (below) statistics.add(rows[1][1]);
        if (right && below) statistics.add(rows[1][2]);
        const Leaders under = leaders_of(rows[1]);
        above.meet(leaders_of(rows[0]), kPlacesOfRow);
        above.meet(under, 2 * kPlacesOfRow);
        Vector::of(turned(above.word())).store(winners + to);
        above.places().store(places + to);
        above = under;
        at += 2 * pitch;
        to += int64_t(strips.width) * x.c;
      }
    });
  }
  Moments mine[kPooledWidth];
  statistics.finish(gamma, channel < x.c, mine);
  merge_slices(mine, channel, partial, all, SliceOfRows::of_block(), tickets, finish);
}

// dy of a window, and of each channel the place of its winner; no place, where there is no such window.
template <class T>
struct WindowGradient {
  Pairs dy, more;
  uint32_t places[kPooledWidth / 4];

  __device__ __forceinline__ void fetch(const GradientSource<T>& source, const uint8_t* argmax, int64_t at,
                                        bool there, bool joined) {
    dy = more = {};
    places[0] = places[1] = 0xffffffffu;
    if (!there) return;
    dy = Pairs(Pack<T, kPooledWidth>::load(source.dy + at).word());
    if (joined) more = Pairs(Pack<T, kPooledWidth>::load(source.dy_more + at).word());
    const auto word = Pack<uint8_t, kPooledWidth>::load(argmax + at).word();
    places[0] = word.x, places[1] = word.y;
  }
  // dy + more of the n-th pair of channels.
  __device__ __forceinline__ void gradients(int n, bool joined, float (&sums)[2]) const {
    detail::widen_pair(T{}, dy.of[n], sums[0], sums[1]);
    if (!joined) return;
    float second[2];
    detail::widen_pair(T{}, more.of[n], second[0], second[1]);
    sums[0] += second[0], sums[1] += second[1];
  }
  __device__ __forceinline__ bool won(int channel, int place) const {
    const int shift = 8 * (channel % 4);
    return ((places[channel / 4] ^ uint32_t(place) << shift) & 0xffu << shift) == 0;
  }
};

// What the pixels of two channels have in common. In shared memory, since registers hold windows: 40 bytes
// from lane to lane are in different banks.
struct ChannelPair {
  float mean[2], scale[2], beta[2], constant[2], linear[2];
};

// source.dy, dy_more and argmax are of y; dbeta and dgamma sums over all rows of x.
template <class T, int kActivation, bool kJoined>
__global__ void __launch_bounds__(kTilingThreads, 2)
    gradient_of_windows(View4<const T> x, const Columns all, const GradientSource<T> source,
                        const uint8_t* __restrict__ argmax, const float* __restrict__ dbeta,
                        const float* __restrict__ dgamma, const Strips strips, T* __restrict__ dx) {
  using Vector = Pack<T, kPooledWidth>;
  constexpr auto kKind = Activation(kActivation);
  const int channel = first_channel();
  SMEM(pairs, ChannelPair[Pairs::kCount][kReductionLanes]);
  if (threadIdx.y == 0 && channel < x.c) {
    const GradientBefore<T, kPooledWidth> norm(source, kKind, false, all, channel);
    const ThroughStatistics<kPooledWidth> through(norm, dbeta, dgamma, nullptr, float(all.rows), all,
                                                  channel);
#pragma unroll
    for (int i = 0; i < kPooledWidth; ++i) {
      ChannelPair& pair = pairs[i / 2][threadIdx.x];
      pair.mean[i % 2] = norm.mean[i], pair.scale[i % 2] = norm.scale[i], pair.beta[i % 2] = norm.beta[i];
      pair.constant[i % 2] = through.constant[i], pair.linear[i % 2] = through.linear[i];
    }
  }
  __syncthreads();
  if (channel >= x.c) return;
  const int64_t pitch = int64_t(x.w) * x.c;
  walk_strips(strips, [&](int image, int q, int first, int end) {
    const bool right = 2 * q + 1 < x.w, next = q + 1 < strips.width;
    int64_t at = x.offset(image, 2 * first, 2 * q, channel);
    int64_t window = ((int64_t(image) * strips.rows + first) * strips.width + q) * x.c + channel;
    WindowGradient<T> here[2], under[2];  // of the windows of columns q and q + 1
    const auto fetch = [&](WindowGradient<T>(&windows)[2], bool there) {
      windows[0].fetch(source, argmax, window, there, kJoined);
      windows[1].fetch(source, argmax, window + x.c, there && next, kJoined);
    };
    fetch(here, true);
#pragma unroll 1
    for (int p = first; p < end; ++p) {
      const bool below = 2 * p + 1 < x.h;
      window += int64_t(strips.width) * x.c;
      fetch(under, p + 1 < strips.rows);
      const bool there[4] = {true, right, below, right && below};
      const int64_t pixels[4] = {at, at + x.c, at + pitch, at + pitch + x.c};
      Pairs words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        words[i] = there[i] ? Pairs(Vector::load(x.data + pixels[i]).word()) : Pairs{};
#pragma unroll
      for (int n = 0; n < kPooledWidth / 2; ++n) {
        int lane = int(threadIdx.x);
        keep(lane);  // read in every turn
        const ChannelPair& pair = pairs[n][lane];
        float gradients[4][2], values[4][2];
        here[0].gradients(n, kJoined, gradients[0]);
        here[1].gradients(n, kJoined, gradients[1]);
        under[0].gradients(n, kJoined, gradients[2]);
        under[1].gradients(n, kJoined, gradients[3]);
#pragma unroll
        for (int i = 0; i < 4; ++i) detail::widen_pair(T{}, words[i].of[n], values[i][0], values[i][1]);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int c = 2 * n + half;
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int right_of = i % 2, below_of = i / 2;
            float du = 0.0f;
            if (here[0].won(c, 4 + right_of + below_of * kPlacesOfRow)) du += gradients[0][half];
            if (right_of && here[1].won(c, 3 + below_of * kPlacesOfRow)) du += gradients[1][half];
            if (below_of && under[0].won(c, 1 + right_of)) du += gradients[2][half];
            if (right_of && below_of && under[1].won(c, 0)) du += gradients[3][half];
            const float distance = values[i][half] - pair.mean[half];
            const float slope = slope_from_input(kKind, distance * pair.scale[half] + pair.beta[half]);
            const float dz = kKind == Activation::identity ? du : through_slope(du, slope);
            values[i][half] = pair.scale[half] * dz - (pair.constant[half] + pair.linear[half] * distance);
          }
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) words[i].of[n] = detail::narrow_pair(T{}, values[i][0], values[i][1]);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (there[i]) Vector::of(words[i].word()).store(dx + pixels[i]);
      here[0] = under[0];
      here[1] = under[1];
      at += 2 * pitch;
    }
  });
}

// Calls f(T{}, integral_constant activation): of those that never fall.
template <class F>
void with_rising(DType dtype, Activation activation, F&& f) {
  const auto with_type = [&](auto kind) {
    constexpr std::integral_constant<int, int(decltype(kind)::value)> number;
    dtype == DType::f16 ? f(f16{}, number) : f(bf16{}, number);
  };
  if (activation == Activation::relu)
    with_type(std::integral_constant<Activation, Activation::relu>{});
  else if (activation == Activation::hardsigmoid)
    with_type(std::integral_constant<Activation, Activation::hardsigmoid>{});
  else
    with_type(std::integral_constant<Activation, Activation::identity>{});
}

void run_winners(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                 const BatchNormParams& params, const MaxPool2dParams&, Tensor& y, Tensor& winners,
                 Tensor& argmax, Tensor& mean, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  const StripTiling tiling(y);
  const Columns all(y);
  Tensor values = winners.defined() ? winners : empty_like(y);
  Tensor places = argmax.defined() ? argmax : Tensor::empty(y.shape(), DType::u8, y.device());
  const Statistics out(mean, inv_std, running_mean, running_var);
  const Normalisation norm{gamma.data<float>(), beta.data<float>(), out.mean, out.inv_std, nullptr,
                           params.eps,          DropView()};
  Tensor partial = Tensor::empty({tiling.grid.y + 1, all.columns, 4}, DType::f32, x.device(), "workspace");
  with_rising(x.dtype(), params.activation, [&](auto zero, auto kind) {
    using T = decltype(zero);
    simt::launch<winners_and_statistics<T>>(tiling.launch(context), view4<T>(x), Columns(x),
                                            gamma.data<float>(), tiling.strips, values.data<T>(),
                                            places.data<uint8_t>(), static_cast<Moments*>(partial.raw()),
                                            tickets(), FinishStatistics{params.eps, params.momentum, out});
    simt::launch<normalise<T, kPooledWidth, kind(), false>>(
        FlatTiling(all, kPooledWidth).launch(context), values.data<T>(), nullptr, all, norm, y.data<T>());
  });
}

void run_winners_backward(Context& context, const Tensor& x, const WindowWinners& winners, const Tensor& dy,
                          const Tensor& dy_more, const KnownNorm& norm, Tensor& dx, Tensor& dgamma,
                          Tensor& dbeta) {
  const Columns all(dy);
  const RowTiling reduction = reduction_tiling(all, kPooledWidth);
  Tensor partial = partial_of(reduction, all, 2, x.device());
  const StripTiling tiling(dy);
  with_rising(x.dtype(), norm.activation, [&](auto zero, auto kind) {
    using T = decltype(zero);
    const auto source = gradient_source<T>(winners.values, {}, dy, dy_more, norm.gamma, norm.beta, norm.mean,
                                           norm.inv_std, norm.activation);
    const auto launch = [&](auto joined) {
      simt::launch<gradient_sums<T, kPooledWidth, kind(), joined()>>(
          reduction.launch(context), source, all, reduction.rows_per_slice,
          static_cast<GradientSums*>(partial.raw()), tickets(), dbeta.data<float>(), dgamma.data<float>());
      simt::launch<gradient_of_windows<T, kind(), joined()>>(
          tiling.launch(context), view4<T>(x), Columns(x), source, winners.argmax.data<uint8_t>(),
          dbeta.data<float>(), dgamma.data<float>(), tiling.strips, dx.data<T>());
    };
    if (dy_more.defined())
      launch(std::true_type{});
    else
      launch(std::false_type{});
  });
}

// Of ceil_mode, where it makes no difference.
bool fits_pooling(const Tensor& x, const MaxPool2dParams& pool) {
  return x.dtype() != DType::f32 && x.dim(3) % kPooledWidth == 0 && x.size() > 0 &&
         pool.window == kPool.window && pool.stride == kPool.stride && pool.padding == kPool.padding &&
         max_pool2d_shape(x.shape(), pool) == max_pool2d_shape(x.shape(), kPool);
}
bool rises(Activation activation) { return !slope_needs_input(activation); }

bool fits_winners(const Context&, const Tensor& x, const Tensor&, const Tensor&,
                  const BatchNormParams& params, const MaxPool2dParams& pool, Tensor&, Tensor&, Tensor&,
                  Tensor&, Tensor&, Tensor&, Tensor&) {
  return fits_pooling(x, pool) && rises(params.activation);
}
bool fits_winners_backward(const Context&, const Tensor& x, const WindowWinners& winners, const Tensor&,
                           const Tensor&, const KnownNorm& norm, Tensor&, Tensor&, Tensor&) {
  return winners.values.defined() && fits_pooling(x, winners.pool) && rises(norm.activation);
}

const bool batch_norm_max_pool_registered =
    batch_norm_max_pool_forward.add(kThisDevice, {{"winners", fits_winners, run_winners}}) &&
    batch_norm_max_pool_backward.add(kThisDevice, {{"winners", fits_winners_backward, run_winners_backward}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
