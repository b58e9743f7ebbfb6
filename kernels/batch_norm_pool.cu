// batch_norm_pool, "channel_groups": batch_norm.cu's launch (batch_norm_groups.h), in which whoever applies a
// group's sums adds up what it stores, for the means of the planes. 16 bits, channels in packs of eight.
//
// Slices of rows are whole images, k of them, and an image has so many parts that the eight warps of a block
// share k * parts evenly: a warp goes down its part, several rows at once, and adds up its lanes' sums by
// shuffles. No barrier, no second launch: the parts' means go to memory, and squeeze_gate adds them.
//
// Bytes: as batch_norm forward, x and y once, x a second time from the L2 as far as a group fits; and 4 for
// each part. Per value one addition. The bound is memory bandwidth.
#include "engine/ops/batch_norm_excitation.h"
#include "engine/ops/depthwise_pool.h"
#include "kernels/batch_norm_groups.h"
#include "kernels/common/warp_reduce.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int kPoolWarps = kTilingThreads / 32, kPoolWidth = 8;

// Of the images of a slice.
struct PlaneParts {
  int images, plane, images_of_slice, parts, rows_of_part;

  // A slice takes at least `rows`.
  PlaneParts(int64_t images_, int64_t plane_, int64_t rows)
      : images(int(images_)), plane(int(plane_)), images_of_slice(1) {
    while (images_of_slice < kPoolWarps && images_of_slice * plane_ < rows) images_of_slice *= 2;
    if (images_of_slice == kPoolWarps)
      images_of_slice = int(ceil_div(rows, kPoolWarps * plane_)) * kPoolWarps;
    parts = std::max(kPoolWarps / images_of_slice, 1);
    rows_of_part = int(ceil_div(plane, parts));
  }
};

struct PartWalk {
  int channel;
  int64_t first, last;
  int step;
};

// The planes' parts of a slice, each by a warp of a block of lanes x rows.
template <class T, int kActivation>
__device__ __forceinline__ void normalise_parts(const T* __restrict__ x, const Columns& all,
                                                const Normalisation& norm, const PlaneParts& of,
                                                const SliceOfRows& at, T* __restrict__ y,
                                                float* __restrict__ pooled) {
  const int lanes = int(blockDim.x), thread = int(threadIdx.y) * lanes + int(threadIdx.x);
  const int rows_at_once = 32 / lanes, row = thread % 32 / lanes;
  const int channel = int(at.tile * blockDim.x + threadIdx.x) * kPoolWidth;
  const float share = 1.0f / float(of.plane);
#pragma unroll 1
  for (int unit = thread / 32; unit < of.images_of_slice * of.parts; unit += kPoolWarps) {
    const int image = int(at.slice) * of.images_of_slice + unit / of.parts, part = unit % of.parts;
    if (image >= of.images) return;
    const int begin = min(part * of.rows_of_part, of.plane), end = min(begin + of.rows_of_part, of.plane);
    const int64_t first = int64_t(image) * of.plane;
    float sums[kPoolWidth] = {};
    normalise_rows<T, kPoolWidth, 4>(x, nullptr, all,
                                     PartWalk{channel, first + begin + row, first + end, rows_at_once}, norm,
                                     Activation(kActivation), false, y, [&](const float(&v)[kPoolWidth]) {
#pragma unroll
                                       for (int i = 0; i < kPoolWidth; ++i) sums[i] += v[i];
                                     });
    for (int offset = lanes; offset < 32; offset *= 2) {
#pragma unroll
      for (int i = 0; i < kPoolWidth; ++i) sums[i] += __shfl_xor_sync(kFullWarp, sums[i], offset);
    }
    if (row != 0 || channel >= all.columns) continue;
    float* const to = pooled + (int64_t(image) * of.parts + part) * all.columns + channel;
#pragma unroll
    for (int i = 0; i < kPoolWidth; i += 4) {
      const float means[4] = {sums[i] * share, sums[i + 1] * share, sums[i + 2] * share, sums[i + 3] * share};
      Pack<float, 4>::narrow(means).store(to + i);
    }
  }
}

template <class T, int kActivation>
__global__ void __launch_bounds__(kTilingThreads, 2)
    batch_norm_pool_in_groups(const T* __restrict__ x, const Columns all, const GroupOrder order,
                              const PlaneParts of, Moments* partial, const GroupCounters counters,
                              FinishStatistics finish, Normalisation norm, T* __restrict__ y,
                              float* __restrict__ pooled) {
  const GroupJob job = take_job(order, counters);
  if (job.tile >= order.tiles) return;
  const SliceOfRows at{job.tile, order.tiles, job.slice, order.slices};
  if (job.applies) {
    counters.wait_for_sums(all, at);
    norm.var = nullptr;  // known when this is compiled: no square roots
    return normalise_parts<T, kActivation>(x, all, norm, of, at, y, pooled);
  }
  const auto walk = walk_of<kPoolWidth>(at, all, int64_t(of.images_of_slice) * of.plane);
  Moments mine[kPoolWidth];
  moments_of_block(x, all, walk, mine);
  if (merge_slices(mine, walk.channel, partial, all, at, counters.merging(), finish))
    publish(counters.flag(all, at));
}

void run_batch_norm_pool(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                         const BatchNormParams& params, Tensor& y, Tensor& mean, Tensor& inv_std,
                         Tensor& running_mean, Tensor& running_var, Tensor& pooled) {
  const Statistics out(mean, inv_std, running_mean, running_var);
  const Normalisation norm{gamma.data<float>(), beta.data<float>(), out.mean, out.inv_std, nullptr,
                           params.eps,          DropView()};
  const Columns all(x);
  GroupPlan plan(all, kPoolWidth, {1, 1, 2});
  const PlaneParts of(x.dim(0), x.dim(1) * x.dim(2), plan.tiling.rows_per_slice);
  plan.take_slices(unsigned(ceil_div(x.dim(0), of.images_of_slice)));
  if (of.parts > 1) pooled = plane_means(y, of.parts);
  Tensor partial = partial_of(plan.tiling, all, 4, x.device());
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    dispatch_activation(params.activation, [&](auto kind) {
      simt::declare_reuse(plan.reuse);
      simt::launch<batch_norm_pool_in_groups<T, int(decltype(kind)::value)>>(
          plan.launch(context), x.data<T>(), all, plan.order, of, static_cast<Moments*>(partial.raw()),
          GroupCounters{tickets()}, FinishStatistics{params.eps, params.momentum, out}, norm, y.data<T>(),
          pooled.data<float>());
    });
  };
  x.dtype() == DType::f16 ? run(f16{}) : run(bf16{});
}

bool fits_batch_norm_pool(const Context&, const Tensor& x, const Tensor&, const Tensor&,
                          const BatchNormParams&, Tensor&, Tensor&, Tensor&, Tensor&, Tensor&, Tensor&) {
  constexpr int64_t kMost = int64_t{1} << 30;
  return x.dtype() != DType::f32 && x.size() > 0 && x.size() < kMost && x.dim(3) % kPoolWidth == 0;
}

// Of few pixels convolutions and norms are fewer launches (conv_batch_norm.h, conv2d.backward).
bool batch_norm_pool_pays(const Context&, const Tensor& x, const Tensor&, const Tensor&,
                          const BatchNormParams&, Tensor&, Tensor&, Tensor&, Tensor&, Tensor&, Tensor&) {
  constexpr int64_t kFewPixels = 4096;
  return x.size() / x.dim(3) > kFewPixels;
}

const bool batch_norm_pool_registered = batch_norm_pool_forward.add(
    kThisDevice, {{"channel_groups", fits_batch_norm_pool, run_batch_norm_pool, batch_norm_pool_pays}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
