// conv2d_concat, "tensor_core": a 1x1 convolution on the matrix core (matrix_core.h) whose depth runs through
// the channels of two images, one after the other, and whose columns are written to two images. Channels are
// multiples of eight, so that a chunk of 16 bytes lies in one of them. Bytes: both inputs and both outputs
// once. FLOPs: 2 (C0 + C1) (K0 + K1) a pixel; 240 by 240 channels take 115200 for 960 bytes of 16 bits, 120
// per byte: memory is the limit on an H100.
#include "engine/ops/conv2d_concat.h"

#include "kernels/common/finish.h"
#include "kernels/conv2d_patches.h"

namespace plume::PLUME_KERNELS {
namespace {

// [rows, depth] where the depth is that of x0 and then that of x1.
template <class T>
struct ConcatRows {
  static constexpr bool kDepthMajor = true;
  using Plan = CopyPlan<kCoreRows, true>;
  const T *x0, *x1;
  int rows, channels0, channels1;
  int row = 0, depth = 0;  // this thread's place

  __device__ ConcatRows(const T* x0_, const T* x1_, int rows_, int channels0_, int channels1_)
      : x0(x0_), x1(x1_), rows(rows_), channels0(channels0_), channels1(channels1_) {}
  __device__ void begin(int first_row, int first) {
    row = first_row + Plan::row(0);
    depth = first + Plan::chunk() * kChunk;
  }
  __device__ void fetch(char* tile) {
    char* const to = Plan::place(tile);
    const bool in_first = depth < channels0;
    const int channel = in_first ? depth : depth - channels0, pitch = in_first ? channels0 : channels1;
    const T* const from = (in_first ? x0 : x1) + (row * pitch + channel);
#pragma unroll
    for (int pass = 0; pass < Plan::kPasses; ++pass) {
      const bool inside = channel < pitch && row + pass * Plan::kStep < rows;
      copy_chunk<true, false>(to + pass * Plan::kPassBytes, from + pass * Plan::kStep * pitch,
                              inside ? kChunk : 0, true);
    }
    depth += kCoreDepth;
  }
};

// Sums on their way to y0 and y1.
template <class T>
struct SplitStore {
  EpilogueView<T> finish;
  T *y0, *y1;
  int filters0, filters1;

  struct Columns {
    Activation activation;
    T* to;
    int pitch;
    ColumnAffine affine;

    __device__ static Nothing fetch(int) { return {}; }
    __device__ __forceinline__ void operator()(int row, const float (&sums)[kChunk], Nothing) const {
      float values[kChunk];
      affine.apply(sums, values);
      activate_all(activation, values);
      store_chunk(to + row * pitch, values, kChunk, kChunk);
    }
  };
  __device__ __forceinline__ Columns columns(int column) const {
    const bool first = column < filters0;
    return {finish.activation, first ? y0 + column : y1 + (column - filters0), first ? filters0 : filters1,
            ColumnAffine(finish, column, kChunk, true)};
  }
};

template <class T, int kColumns>
__global__ void __launch_bounds__(kCoreThreads, core_blocks(kColumns))
    conv2d_concat_core(const ConcatRows<T> x, const T* __restrict__ w, const CorePlan plan,
                       const SplitStore<T> store) {
  matrix_core<T, kColumns>(x, MatrixRows<T, kColumns>(w, plan.columns, plan.depth), plan,
                           WholeDepth<SplitStore<T>>{store});
}

template <class T>
void launch_conv2d_concat(const Context& context, const Tensor& x0, const Tensor& x1, const Tensor& w,
                          const Epilogue& epilogue, Tensor& y0, Tensor& y1) {
  const int64_t pixels = x0.size() / x0.dim(3);
  const SplitStore<T> store{EpilogueView<T>(epilogue), y0.data<T>(), y1.data<T>(), int(y0.dim(3)),
                            int(y1.dim(3))};
  choose_core(core_columns(pixels, w.dim(0)), true, true, [&](auto columns, auto, auto) {
    constexpr int kColumns = columns();
    const CorePlan plan(pixels, w.dim(0), w.dim(3), kColumns, 1);
    const ConcatRows<T> x(x0.data<T>(), x1.data<T>(), plan.rows, int(x0.dim(3)), int(x1.dim(3)));
    simt::launch<conv2d_concat_core<T, kColumns>>(
        {dim3(unsigned(plan.blocks())), dim3(kCoreThreads), CoreMemory<kColumns>::kBytes, stream_of(context)},
        x, w.data<T>(), plan, store);
  });
}

void run_conv2d_concat(Context& context, const Tensor& x0, const Tensor& x1, const Tensor& w, PackedFilter*,
                       const Epilogue& epilogue, Tensor& y0, Tensor& y1) {
  if (x0.dtype() == DType::f16)
    launch_conv2d_concat<f16>(context, x0, x1, w, epilogue, y0, y1);
  else
    launch_conv2d_concat<bf16>(context, x0, x1, w, epilogue, y0, y1);
}

bool fits_conv2d_concat(const Context&, const Tensor& x0, const Tensor& x1, const Tensor& w, PackedFilter*,
                        const Epilogue&, Tensor& y0, Tensor& y1) {
  return fits_core(x0, w, y0) && fits_core(x1, w, y1) && is_in_chunks(x0) && is_in_chunks(x1) &&
         is_in_chunks(w) && is_in_chunks(y0) && is_in_chunks(y1);
}

const bool conv2d_concat_registered =
    conv2d_concat_forward.add(kThisDevice, {{"tensor_core", fits_conv2d_concat, run_conv2d_concat}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
