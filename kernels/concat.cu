// concat: rows of a and of b side by side, and the split that undoes it. Threads stand over the rows of y
// (kernels/common/row_tiling.h): one pack of channels each, which lies in a or in b as a whole, since a
// pack's width divides both numbers of channels.
//
// Bytes: every value is read once and written once. The bound is memory bandwidth; the way to beat it is to
// write the parts into their places at once.
#include "engine/ops/concat.h"

#include "kernels/common/row_tiling.h"

namespace plume::PLUME_KERNELS {
namespace {

// y is written (kJoin) or read.
template <class T, int kWidth, bool kJoin>
__global__ void __launch_bounds__(kTilingThreads)
    concat_rows(T* __restrict__ a, T* __restrict__ b, T* __restrict__ y, int channels_a, int channels_b,
                int64_t rows, int64_t rows_per_slice) {
  using Vector = Pack<T, kWidth>;
  const RowWalk<kWidth> walk(rows, rows_per_slice);
  const int channels = channels_a + channels_b;
  if (walk.channel >= channels) return;
  const bool in_a = walk.channel < channels_a;
  T* part = in_a ? a + walk.channel : b + (walk.channel - channels_a);
  const int stride = in_a ? channels_a : channels_b;
  for (int64_t row = walk.first; row < walk.last; row += walk.step) {
    T* whole = y + row * channels + walk.channel;
    if constexpr (kJoin)
      Vector::load(part + row * stride).store(whole);
    else
      Vector::load(whole).store(part + row * stride);
  }
}

template <bool kJoin>
void run(Context& context, const Tensor& a, const Tensor& b, const Tensor& y) {
  if (y.size() == 0) return;
  const int64_t channels_a = a.dim(a.rank() - 1), channels_b = b.dim(b.rank() - 1);
  const int64_t rows = y.size() / (channels_a + channels_b);
  dispatch_floating(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    // Divides both exactly if it divides their bitwise union.
    with_pack_width<T>(channels_a | channels_b, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      const RowTiling tiling(rows, (channels_a + channels_b) / kWidth);
      const auto pointer = [](const Tensor& t) { return const_cast<T*>(t.data<T>()); };
      simt::launch<concat_rows<T, kWidth, kJoin>>(tiling.launch(context), pointer(a), pointer(b), pointer(y),
                                                  int(channels_a), int(channels_b), rows,
                                                  tiling.rows_per_slice);
    });
  });
}

void run_concat_forward(Context& context, const Tensor& a, const Tensor& b, Tensor& y) {
  run<true>(context, a, b, y);
}
void run_concat_backward(Context& context, const Tensor& dy, Tensor& da, Tensor& db) {
  run<false>(context, da, db, dy);
}

const bool concat_registered = concat_forward.add(kThisDevice, {{"rows", always, run_concat_forward}}) &&
                               concat_backward.add(kThisDevice, {{"rows", always, run_concat_backward}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
