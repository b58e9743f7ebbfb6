// conv_batch_norm of few pixels, "one_launch": the product of conv2d_tensor_core.cu, and behind it batch
// norm's passes (batch_norm_passes.h) by the last block of each tile of columns (last_block.h): it has all
// rows of these channels, and finds them in the L2.
//
// Bytes: x, w, z and y once, and z read twice more by one multiprocessor per tile of columns, which is what
// batch_norm's one_launch does in a launch of its own. Depth is cut into few slices, since that block alone
// adds them up. 16-bit types; channels and filters in multiples of 8, or behind a 1x1 filter of 4 or 2, as
// ShuffleNetV2's 116 and 58. Which block is the last makes no difference: results repeat bit for bit.
#include "engine/ops/conv_batch_norm.h"

#include "kernels/batch_norm_passes.h"
#include "kernels/common/finish.h"
#include "kernels/conv2d_patches.h"

namespace plume::PLUME_KERNELS {
namespace {

// A tile's columns of [rows, columns] among the threads of a block: kWidth for each, and every step-th row.
template <int kColumns, int kWidth>
struct TileColumns {
  static constexpr int kLanes = kColumns / kWidth;
  int channel;
  int64_t first, last, step;

  __device__ TileColumns(int tile, int64_t rows)
      : channel(tile * kColumns + int(threadIdx.x) % kLanes * kWidth),
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

// What follows the product, in packs of kWidth channels.
template <class T, int kWidth>
struct NormTail {
  T *z, *y;
  const T* residual;
  Columns all;
  FinishStatistics finish;
  Normalisation norm;
  Activation activation;

  template <int kColumns>
  __device__ __forceinline__ void operator()(int tile, const float* partial, const CorePlan& plan) const {
    const TileColumns<kColumns, kWidth> mine(tile, plan.rows);
    const bool here = mine.channel < plan.columns;
    if (partial && here) {
      for (int64_t row = mine.first; row < mine.last; row += mine.step) {
        float sums[kWidth];
        add_slices(partial, plan, int(row), mine.channel, sums);
        Pack<T, kWidth> result;
#pragma unroll
        for (int i = 0; i < kWidth; ++i) result[i] = T(sums[i]);
        result.store(z + row * plan.columns + mine.channel);
      }
    }
    __syncthreads();  // z is complete
    Moments moments[kWidth];
    moments_of_rows(
        z, all, mine, 0, [](auto& sums) { TileColumns<kColumns, kWidth>::sum(sums); }, moments);
    if (mine.begins() && here) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) finish(mine.channel + i, moments[i]);
    }
    __syncthreads();  // what finish wrote is read below
    normalise_rows<T, kWidth>(z, residual, all, mine, norm, activation, true, y);
  }
};

template <class T, int kColumns, int kReads>
__global__ void __launch_bounds__(kCoreThreads, core_blocks(kColumns))
    conv_batch_norm_core(const T* __restrict__ x, const T* __restrict__ w, const PatchWalk walk,
                         const CorePlan plan, float* partial, unsigned* tickets,
                         const NormTail<T, unit_of(Reads(kReads))> tail) {
  constexpr int kUnit = unit_of(Reads(kReads));
  const FinishStore<T> store{{}, tail.z, plan.columns};
  const InSlices<FinishStore<T>> put{partial, plan, store};
  const MatrixRows<T, kColumns, kUnit> filters(w, plan.columns, plan.depth);
  if constexpr (is_matrix(Reads(kReads)))
    matrix_core<T, kColumns>(MatrixRows<T, kCoreRows, kUnit>(x, plan.rows, plan.depth), filters, plan, put);
  else
    matrix_core<T, kColumns>(PatchRows<T, true>(x, walk), filters, plan, put);
  for (int number = int(blockIdx.x); number < plan.tiles(); number += int(gridDim.x)) {
    const int column = plan.tile(number).column;
    if (is_last_block(tickets + column, unsigned(plan.row_tiles * plan.slices)))
      tail.template operator()<kColumns>(column, partial, plan);
  }
}

// Of x and z alike, since z is read and written in packs of as many.
int unit_of_channels(const Tensor& x, const Tensor& w, const Shape& z) {
  return unit_of_copies({x.dim(3), z[3]}, {x.raw(), w.raw()});
}

template <class T>
void launch_conv_batch_norm(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& conv,
                            const Tensor& gamma, const Tensor& beta, const Tensor& residual,
                            const BatchNormParams& params, const SampleDrop& drop, const Statistics& out,
                            Tensor& z, Tensor& y) {
  constexpr int64_t kMostPartialRows = 512;  // that one block adds up
  const PatchWalk walk = forward_patches(ConvSizes(x, w, z, conv));
  const auto launch = [&](auto columns, auto kind) {
    constexpr int kColumns = columns(), kReads = int(kind()), kUnit = unit_of(kind());
    const NormTail<T, kUnit> tail{z.data<T>(),
                                  y.data<T>(),
                                  data_or_null<T>(residual),
                                  Columns(z),
                                  {params.eps, params.momentum, out},
                                  {gamma.data<float>(), beta.data<float>(), out.mean, out.inv_std, nullptr,
                                   params.eps, DropView(drop, z)},
                                  params.activation};
    const CorePlan plan(walk.pixels(), w.dim(0), is_matrix(kind()) ? x.dim(3) : walk.depth(), kColumns,
                        std::max<int64_t>(kMostPartialRows / walk.pixels(), 1));
    Tensor partial = plan.partial_sums(z.device());
    simt::launch<conv_batch_norm_core<T, kColumns, kReads>>(
        {dim3(unsigned(plan.blocks())), dim3(kCoreThreads), CoreMemory<kColumns>::kBytes, stream_of(context)},
        x.data<T>(), w.data<T>(), walk, plan, partial.defined() ? partial.data<float>() : nullptr, tickets(),
        tail);
  };
  using std::integral_constant;
  const auto choose_columns = [&](auto kind) {
    if (core_columns(walk.pixels(), w.dim(0)) == 32)
      launch(integral_constant<int, 32>{}, kind);
    else
      launch(integral_constant<int, 64>{}, kind);
  };
  switch (reads_of(unit_of_channels(x, w, z.shape()), walk.is_matrix())) {
    case Reads::matrix_by_4:
      return launch(integral_constant<int, 64>{}, integral_constant<Reads, Reads::matrix_by_4>{});
    case Reads::matrix_by_2:
      return launch(integral_constant<int, 64>{}, integral_constant<Reads, Reads::matrix_by_2>{});
    case Reads::matrix:
      return choose_columns(integral_constant<Reads, Reads::matrix>{});
    default:
      return choose_columns(integral_constant<Reads, Reads::chunks>{});
  }
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
  if (x.dtype() == DType::f32 || rows == 0 || rows > kRowsOfOneBlock || x.size() == 0 || w.size() == 0 ||
      w.dim(1) > kMostTaps || w.dim(2) > kMostTaps || conv2d_forward.forced(context.device()) ||
      batch_norm_forward_train.forced(context.device()))
    return false;
  const int unit = unit_of_channels(x, w, z);
  const bool matrix = w.dim(1) * w.dim(2) == 1 && conv.stride == 1 && conv.padding == 0;
  return unit == kChunk || (matrix && unit > 1);
}

const bool conv_batch_norm_registered =
    conv_batch_norm_forward.add(kThisDevice, {{"one_launch", fits_conv_batch_norm, run_conv_batch_norm}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
