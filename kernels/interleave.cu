// interleave: the channels of a and b in turn, as one tensor or as its two halves, and the inverse. Threads
// stand over the rows of a and b (kernels/common/row_tiling.h): one pack of channels of both, which makes two
// neighbouring packs of the output. Each of these lies in one half as a whole, since a pack's width divides
// the number of channels.
//
// Bytes: every value is read once and written once. The bound is memory bandwidth. ShuffleNetV2's 58 and 116
// channels leave packs of two values: 4 bytes (f16) per access. Where the channels are a multiple of both
// packs of an output, as 116 are, these are one access of twice the width; otherwise a warp's accesses of
// them have gaps, but neighbouring threads still share their cache lines.
#include "engine/ops/interleave.h"

#include "kernels/common/row_tiling.h"

namespace plume::PLUME_KERNELS {
namespace {

// y0 and y1 hold the first and the second `channels` of the outputs' rows, `stride` values apart.
// They are written (kForward) or read; with kJoins `more` is added to y0, which is all of the outputs.
// kWhole: both packs of a thread's outputs lie in one half, and are one access.
template <class T, int kWidth, bool kWhole, bool kForward, bool kJoins>
__global__ void __launch_bounds__(kTilingThreads)
    interleave_rows(T* __restrict__ a, T* __restrict__ b, T* y0, T* y1, const T* more, int channels,
                    int stride, int64_t rows, int64_t rows_per_slice) {
  using Vector = Pack<T, kWidth>;
  const RowWalk<kWidth> walk(rows, rows_per_slice);
  if (walk.channel >= channels) return;
  const int low = 2 * walk.channel, high = low + kWidth;
  T* low_half = low < channels ? y0 + low : y1 + (low - channels);
  T* high_half = high < channels ? y0 + high : y1 + (high - channels);
  using Outputs = T[2 * kWidth];
  constexpr int kPart = kWhole ? 2 * kWidth : kWidth;  // of them in an access
  using Part = Pack<T, kPart>;
  const auto load = [](const T* from_low, const T* from_high, Outputs& outputs) {
#pragma unroll
    for (int part = 0; part < 2 * kWidth; part += kPart) {
      const Part pack = Part::load(part == 0 ? from_low : from_high);
#pragma unroll
      for (int i = 0; i < kPart; ++i) outputs[part + i] = pack[i];
    }
  };
  for (int64_t row = walk.first; row < walk.last; row += walk.step) {
    T *from_a = a + row * channels + walk.channel, *from_b = b + row * channels + walk.channel;
    T *to_low = low_half + row * stride, *to_high = high_half + row * stride;
    Vector inputs[2];
    Outputs outputs;
    if constexpr (kForward) {
      inputs[0] = Vector::load(from_a), inputs[1] = Vector::load(from_b);
#pragma unroll
      for (int part = 0; part < 2 * kWidth; part += kPart) {
        Part pack;
#pragma unroll
        for (int i = 0; i < kPart; ++i) pack[i] = inputs[(part + i) % 2][(part + i) / 2];
        pack.store(part == 0 ? to_low : to_high);
      }
    } else {
      load(to_low, to_high, outputs);
      if constexpr (kJoins) {
        const T* const other = more + row * stride;
        Outputs with;
        load(other + low, other + high, with);
#pragma unroll
        for (int i = 0; i < 2 * kWidth; ++i) outputs[i] = T(float(outputs[i]) + float(with[i]));
      }
#pragma unroll
      for (int i = 0; i < 2 * kWidth; ++i) inputs[i % 2][i / 2] = outputs[i];
      inputs[0].store(from_a);
      inputs[1].store(from_b);
    }
  }
}

// The widest pack that fits: 16 bytes, two values or one.
template <class T, class F>
void with_narrow_pack_width(int64_t channels, F&& f) {
  if (channels % kVectorWidth<T> != 0 && channels % 2 == 0)
    f(std::integral_constant<int, 2>{});
  else
    with_pack_width<T>(channels, f);
}

template <bool kForward, bool kJoins = false>
void run(Context& context, const Tensor& a, const Tensor& b, const Tensor& y0, const Tensor& y1,
         const Tensor& more = {}) {
  if (a.size() == 0) return;
  const int64_t channels = a.dim(a.rank() - 1), rows = a.size() / channels;
  dispatch_floating(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_narrow_pack_width<T>(channels, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      const RowTiling tiling(rows, channels / kWidth);
      const auto pointer = [](const Tensor& t) { return const_cast<T*>(t.data<T>()); };
      T* second = y1.defined() ? pointer(y1) : pointer(y0) + channels;
      const auto launch = [&](auto whole) {
        simt::launch<interleave_rows<T, kWidth, whole(), kForward, kJoins>>(
            tiling.launch(context), pointer(a), pointer(b), pointer(y0), second,
            kJoins ? more.data<T>() : nullptr, int(channels), int(y1.defined() ? channels : 2 * channels),
            rows, tiling.rows_per_slice);
      };
      if constexpr (2 * kWidth <= kVectorWidth<T>) {
        constexpr int kBoth = 2 * kWidth;
        const bool aligned = is_aligned<kBoth>(pointer(y0)) && is_aligned<kBoth>(second) &&
                             (!kJoins || is_aligned<kBoth>(more.data<T>()));
        if (channels % kBoth == 0 && aligned) return launch(std::true_type{});
      }
      launch(std::false_type{});
    });
  });
}

void run_interleave_forward(Context& context, const Tensor& a, const Tensor& b, Tensor& y0, Tensor& y1) {
  run<true>(context, a, b, y0, y1);
}
void run_interleave_backward(Context& context, const Tensor& dy0, const Tensor& dy1, const Tensor& more,
                             Tensor& da, Tensor& db) {
  if (more.defined())
    run<false, true>(context, da, db, dy0, dy1, more);
  else
    run<false>(context, da, db, dy0, dy1);
}

const bool interleave_registered =
    interleave_forward.add(kThisDevice, {{"rows", always, run_interleave_forward}}) &&
    interleave_backward.add(kThisDevice, {{"rows", always, run_interleave_backward}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
