// conv_batch_norm of few pixels, "one_launch": the product of conv2d_tensor_core.cu, and behind it batch
// norm's passes (batch_norm_passes.h) by the last block of each tile of columns (last_block.h): it has all
// rows of these channels, and finds them in the L2.
//
// Bytes: x, w, z and y once, and z read twice more by one multiprocessor per tile of columns, which is what
// batch_norm's one_launch does in a launch of its own. Depth is cut into few slices, since that block alone
// adds them up. 16-bit types, channels and filters in multiples of 8. Which block is the last makes no
// difference: results repeat bit for bit.
#include "engine/ops/conv_batch_norm.h"

#include "kernels/batch_norm_passes.h"
#include "kernels/common/finish.h"
#include "kernels/conv2d_patches.h"

namespace plume::PLUME_KERNELS {
namespace {

// A tile's columns of [rows, columns] among the threads of a block: eight for each, and every step-th row.
template <int kColumns>
struct TileColumns {
  static constexpr int kLanes = kColumns / kChunk;
  int channel;
  int64_t first, last, step;

  __device__ TileColumns(int tile, int64_t rows)
      : channel(tile * kColumns + int(threadIdx.x) % kLanes * kChunk),
        first(int(threadIdx.x) / kLanes),
        last(rows),
        step(kCoreThreads / kLanes) {}
  __device__ bool begins() const { return threadIdx.x < kLanes; }

  // Adds up the values of the threads with these columns in a fixed order; those with begins() get the sums.
  template <int kCount>
  __device__ static __forceinline__ void sum(float (&values)[kCount]) {
    float* const mine = simt::dyn_smem<float>() + threadIdx.x;
    __syncthreads();  // nobody needs what was there
#pragma unroll
    for (int i = 0; i < kCount; ++i) mine[i * kCoreThreads] = values[i];
    for (int half = kCoreThreads / 2; half >= kLanes; half /= 2) {
      __syncthreads();
      if (int(threadIdx.x) >= half) continue;
#pragma unroll
      for (int i = 0; i < kCount; ++i) mine[i * kCoreThreads] += mine[i * kCoreThreads + half];
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = mine[i * kCoreThreads];
  }
};

// What follows the product.
template <class T>
struct NormTail {
  T *z, *y;
  const T* residual;
  Columns all;
  FinishStatistics finish;
  Normalisation norm;
  Activation activation;

  template <int kColumns>
  __device__ __forceinline__ void operator()(int tile, const float* partial, const CorePlan& plan) const {
    const TileColumns<kColumns> mine(tile, plan.rows);
    const bool here = mine.channel < plan.columns;
    if (partial && here) {
      const int64_t slice = int64_t(plan.rows) * plan.padded_columns();
      for (int64_t row = mine.first; row < mine.last; row += mine.step) {
        const float* from = partial + row * plan.padded_columns() + mine.channel;
        float sums[kChunk] = {};
#pragma unroll 4
        for (int s = 0; s < plan.slices; ++s, from += slice) {
          const auto low = Pack<float, 4>::load(from), high = Pack<float, 4>::load(from + 4);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            sums[i] += low[i];
            sums[4 + i] += high[i];
          }
        }
        store_chunk(z + row * plan.columns + mine.channel, sums, kChunk, plan.columns);
      }
    }
    __syncthreads();  // z is complete
    Moments moments[kChunk];
    moments_of_rows(
        z, all, mine, 0, [](auto& sums) { TileColumns<kColumns>::sum(sums); }, moments);
    if (mine.begins() && here) {
#pragma unroll
      for (int i = 0; i < kChunk; ++i) finish(mine.channel + i, moments[i]);
    }
    __syncthreads();  // what finish wrote is read below
    normalise_rows<T, kChunk>(z, residual, all, mine, norm, activation, true, y);
  }
};

template <class T, int kColumns, bool kMatrix>
__global__ void __launch_bounds__(kCoreThreads, core_blocks(kColumns))
    conv_batch_norm_core(const T* __restrict__ x, const T* __restrict__ w, const PatchWalk walk,
                         const CorePlan plan, float* partial, unsigned* tickets, const NormTail<T> tail) {
  const FinishStore<T> store{{}, tail.z, plan.columns};
  const InSlices<FinishStore<T>> put{partial, plan, store};
  const MatrixRows<T, kColumns> filters(w, plan.columns, plan.depth);
  if constexpr (kMatrix)
    matrix_core<T, kColumns>(MatrixRows<T, kCoreRows>(x, plan.rows, plan.depth), filters, plan, put);
  else
    matrix_core<T, kColumns>(PatchRows<T, true>(x, walk), filters, plan, put);
  const int tiles = plan.row_tiles * plan.column_tiles * plan.slices;
  for (int number = int(blockIdx.x); number < tiles; number += int(gridDim.x)) {
    const int column = plan.tile(number).column;
    if (is_last_block(tickets + column, unsigned(plan.row_tiles * plan.slices)))
      tail.template operator()<kColumns>(column, partial, plan);
  }
}

template <class T>
void launch_conv_batch_norm(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& conv,
                            const Tensor& gamma, const Tensor& beta, const Tensor& residual,
                            const BatchNormParams& params, const SampleDrop& drop, const Statistics& out,
                            Tensor& z, Tensor& y) {
  constexpr int64_t kMostPartialRows = 512;  // that one block adds up
  const PatchWalk walk = forward_patches(ConvSizes(x, w, z, conv));
  const NormTail<T> tail{z.data<T>(),
                         y.data<T>(),
                         data_or_null<T>(residual),
                         Columns(z),
                         {params.eps, params.momentum, out},
                         {gamma.data<float>(), beta.data<float>(), out.mean, out.inv_std, nullptr, params.eps,
                          DropView(drop, z)},
                         params.activation};
  const auto launch = [&](auto columns, auto is_matrix) {
    constexpr int kColumns = columns();
    const CorePlan plan(walk.pixels(), w.dim(0), walk.depth(), kColumns,
                        std::max<int64_t>(kMostPartialRows / walk.pixels(), 1));
    Tensor partial = plan.partial_sums(z.device());
    simt::launch<conv_batch_norm_core<T, kColumns, is_matrix()>>(
        {dim3(unsigned(plan.blocks())), dim3(kCoreThreads), CoreMemory<kColumns>::kBytes, stream_of(context)},
        x.data<T>(), w.data<T>(), walk, plan, partial.defined() ? partial.data<float>() : nullptr, tickets(),
        tail);
  };
  const auto choose_columns = [&](auto is_matrix) {
    if (core_columns(walk.pixels(), w.dim(0)) == 32)
      launch(std::integral_constant<int, 32>{}, is_matrix);
    else
      launch(std::integral_constant<int, 64>{}, is_matrix);
  };
  if (walk.is_matrix())
    choose_columns(std::true_type{});
  else
    choose_columns(std::false_type{});
}

void run_conv_batch_norm(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& conv,
                         const Tensor& gamma, const Tensor& beta, const Tensor& residual,
                         const BatchNormParams& params, const SampleDrop& drop, Tensor& z, Tensor& y,
                         Tensor& mean, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  const Statistics out(mean, inv_std, running_mean, running_var);
  if (x.dtype() == DType::f16)
    launch_conv_batch_norm<f16>(context, x, w, conv, gamma, beta, residual, params, drop, out, z, y);
  else
    launch_conv_batch_norm<bf16>(context, x, w, conv, gamma, beta, residual, params, drop, out, z, y);
}

// Whoever forces a variant of one of the two wants to see it run.
bool fits_conv_batch_norm(const Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& conv,
                          const Tensor&, const Tensor&, const Tensor&, const BatchNormParams&,
                          const SampleDrop&, Tensor&, Tensor&, Tensor&, Tensor&, Tensor&, Tensor&) {
  if (w.rank() != 4) return false;
  const Shape z = conv2d_shape(x.shape(), w.shape(), conv);
  const int64_t rows = z[0] * z[1] * z[2];
  return x.dtype() != DType::f32 && rows > 0 && rows <= kRowsOfOneBlock && x.dim(3) > 0 && z[3] > 0 &&
         x.dim(3) % kChunk == 0 && z[3] % kChunk == 0 && w.dim(1) <= kMostTaps && w.dim(2) <= kMostTaps &&
         x.raw() != nullptr && reinterpret_cast<uintptr_t>(x.raw()) % 16 == 0 &&
         reinterpret_cast<uintptr_t>(w.raw()) % 16 == 0 && !conv2d_forward.forced(context.device()) &&
         !batch_norm_forward_train.forced(context.device());
}

const bool conv_batch_norm_registered =
    conv_batch_norm_forward.add(kThisDevice, {{"one_launch", fits_conv_batch_norm, run_conv_batch_norm}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
