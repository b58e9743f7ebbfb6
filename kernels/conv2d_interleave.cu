// conv2d_interleave, "tensor_core": a 1x1 convolution on the matrix core (matrix_core.h) whose end is the
// channel shuffle. Eight neighbouring sums become the odd ones of sixteen neighbouring channels of y, the
// even ones come from a. These are two chunks of 16 bytes, each in one half of y; the chunk at the border
// belongs to both, which is why the second half begins with it in padded rows. Rows that are no whole chunks
// are left to the separate operations.
//
// Bytes: x, a and y once, 2 (C + K + 2 K) a pixel; convolution and shuffle on their own also write b and read
// it again, 2 * 2 K. With C = K = 116 a pixel takes 2 C K FLOPs, 29 per byte: memory is the limit. Depth is
// not cut into slices: it has a few steps, which a second launch would outlast.
#include "engine/ops/conv2d_interleave.h"

#include "kernels/common/finish.h"
#include "kernels/conv2d_patches.h"

namespace plume::PLUME_KERNELS {
namespace {

static_assert(kChunk == kChannelChunk);

// Rows of `pitch` places, of which the first is channel `begin` of y and channels first .. last - 1 are kept.
template <class T>
struct ShuffledRows {
  T* data = nullptr;
  int pitch = 0, begin = 0, first = 0, last = 0;

  // A row's eight channels from `channel` on, zeros where they are not kept.
  __device__ __forceinline__ void store(int row, int channel, Pack<T, kChunk> eight) const {
    const int place = channel - begin;
    if (place < 0 || place >= pitch) return;
    if (channel < first || channel + kChunk > last) {
#pragma unroll
      for (int i = 0; i < kChunk; ++i)
        if (channel + i < first || channel + i >= last) eight[i] = T(0.0f);
    }
    eight.store(data + (row * pitch + place));
  }
};

// Sums on their way to y.
template <class T>
struct ShuffleStore {
  EpilogueView<T> finish;
  bool whole_shift;  // may be read in chunks
  const T* a;
  int a_pitch, filters;
  ShuffledRows<T> y0, y1;

  struct Columns {
    const ShuffleStore& to;
    int column;
    ColumnAffine affine;

    // The even ones.
    __device__ __forceinline__ ChunkWords<T> fetch(int row) const {
      ChunkWords<T> even;
      even.load(to.a + (row * to.a_pitch + column), kChunk, true);
      return even;
    }
    __device__ __forceinline__ void operator()(int row, const float (&sums)[kChunk],
                                               const ChunkWords<T>& fetched) const {
      const auto even = Pack<T, kChunk>::of(fetched.words[0]);
      float odd[kChunk];
      affine.apply(sums, odd);
      activate_all(to.finish.activation, odd);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Pack<T, kChunk> eight;
#pragma unroll
        for (int i = 0; i < kChunk; ++i) {
          const int from = (half * kChunk + i) / 2;
          eight[i] = i % 2 == 0 ? even[from] : T(odd[from]);
        }
        to.y0.store(row, 2 * column + half * kChunk, eight);
        if (to.y1.data) to.y1.store(row, 2 * column + half * kChunk, eight);
      }
    }
  };
  __device__ __forceinline__ Columns columns(int column) const {
    return {*this, column, ColumnAffine(finish, column, filters - column, whole_shift)};
  }
};

template <class T, int kColumns>
__global__ void __launch_bounds__(kCoreThreads, core_blocks(kColumns))
    conv2d_interleave_core(const T* __restrict__ x, const T* __restrict__ w, const CorePlan plan,
                           const ShuffleStore<T> store) {
  matrix_core<T, kColumns>(MatrixRows<T, kCoreRows>(x, plan.rows, plan.depth),
                           MatrixRows<T, kColumns>(w, plan.columns, plan.depth), plan,
                           WholeDepth<ShuffleStore<T>>{store});
}

template <class T>
void launch_conv2d_interleave(const Context& context, const Tensor& x, const Tensor& w,
                              const Epilogue& epilogue, const Tensor& a, Tensor& y0, Tensor& y1) {
  const int filters = int(w.dim(0));
  const bool split = y1.defined();
  ShuffleStore<T> store{EpilogueView<T>(epilogue),
                        epilogue.shift.defined() && epilogue.shift.dim(0) >= chunked_channels(filters),
                        a.data<T>(),
                        int(a.dim(3)),
                        filters,
                        {y0.data<T>(), int(y0.dim(3)), 0, 0, split ? filters : 2 * filters},
                        {}};
  if (split)
    store.y1 = {y1.data<T>(), int(y1.dim(3)), filters - int(second_half_begin(filters)), filters,
                2 * filters};
  const int64_t pixels = x.size() / x.dim(3);
  choose_core(core_columns(pixels, filters), true, true, [&](auto columns, auto, auto) {
    constexpr int kColumns = columns();
    const CorePlan plan(pixels, filters, x.dim(3), kColumns, 1);
    simt::launch<conv2d_interleave_core<T, kColumns>>(
        {dim3(unsigned(plan.blocks())), dim3(kCoreThreads), CoreMemory<kColumns>::kBytes, stream_of(context)},
        x.data<T>(), w.data<T>(), plan, store);
  });
}

void run_conv2d_interleave(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams&,
                           const Epilogue& epilogue, const Tensor& a, Tensor& y0, Tensor& y1) {
  if (x.dtype() == DType::f16)
    launch_conv2d_interleave<f16>(context, x, w, epilogue, a, y0, y1);
  else
    launch_conv2d_interleave<bf16>(context, x, w, epilogue, a, y0, y1);
}

bool fits_conv2d_interleave(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams&,
                            const Epilogue&, const Tensor& a, Tensor& y0, Tensor& y1) {
  return fits_core(x, w, y0) && fits_core(a, w, y0) && is_in_chunks(x) && is_in_chunks(w) &&
         is_in_chunks(a) && is_in_chunks(y0) && (!y1.defined() || (fits_core(x, w, y1) && is_in_chunks(y1)));
}

const bool conv2d_interleave_registered = conv2d_interleave_forward.add(
    kThisDevice, {{"tensor_core", fits_conv2d_interleave, run_conv2d_interleave}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
