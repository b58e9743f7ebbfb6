// batch_norm.cu's one launch for both passes: groups of channels take turns, so that what the blocks of a
// group have summed is still in the L2 when others of the launch read it again to apply the sums.
#pragma once
#include "kernels/batch_norm_gradients.h"
#include "kernels/common/block_order.h"

namespace plume::PLUME_KERNELS {
namespace {

struct GroupJob {
  unsigned applies, tile, slice;
};

// Places in turn (block_order.h): sums of group 0, the first `lag` sums of group 1; then for each group g the
// blocks that apply it, behind the sums of g up to `lag` of those of g + 1, which work while the sums of g
// are merged. A group has as many blocks of either kind, of some tiles and all slices of rows. What was
// summed last is applied first: of groups that do not fit into the L2 at least that is still there.
struct GroupOrder {
  unsigned tiles, tiles_of_group, groups, slices, lag;

  __device__ unsigned blocks_of_group() const { return tiles_of_group * slices; }
  unsigned blocks_of_kind() const { return groups * tiles_of_group * slices; }

  __device__ GroupJob job(unsigned applies, unsigned number) const {
    const unsigned blocks = blocks_of_group(), group = number / blocks;
    unsigned place = number - group * blocks;
    if (applies) place = blocks - 1 - place;
    const unsigned slice = place / tiles_of_group;
    return {applies, group * tiles_of_group + place - slice * tiles_of_group, slice};
  }
  __device__ GroupJob of_place(unsigned place) const {
    if (place < lag) return job(0, place);
    const unsigned blocks = blocks_of_group(), group = (place - lag) / (2 * blocks);
    const unsigned rest = place - lag - group * 2 * blocks, sums = group + 1 < groups ? blocks : blocks - lag;
    return rest < sums ? job(0, group * blocks + lag + rest) : job(1, group * blocks + rest - sums);
  }
};

// The words of tickets() that a launch uses: blocks that have started; what merge_slices() counts; a flag for
// each tile whose sums are there, or one for all where columns are not channels.
struct GroupCounters {
  static constexpr unsigned kMerging = 32;  // in a line of its own
  unsigned* words;

  __device__ unsigned* merging() const { return words + kMerging; }
  __device__ unsigned* flag(const Columns& all, const SliceOfRows& at) const {
    return words + kMerging + 1 + at.tiles + (all.plain() ? at.tile : 0);
  }
  __device__ void wait_for_sums(const Columns& all, const SliceOfRows& at) const {
    wait_for(flag(all, at), all.plain() ? at.slices : at.slices * at.tiles);
  }
  static int64_t count(const GroupOrder& order) { return kMerging + 1 + 2 * int64_t(order.tiles); }
};

// The work of the calling block; all of its threads call, once. In a sample, which is one of both layers of
// the grid, blockIdx says it.
__device__ __forceinline__ GroupJob take_job(const GroupOrder& order, const GroupCounters& counters) {
  SMEM(job, GroupJob);
  if (threadIdx.x == 0 && threadIdx.y == 0) {
    const unsigned place = take_place(counters.words, gridDim.x * gridDim.z);
    job = simt::is_sample() ? order.job(blockIdx.z, blockIdx.x) : order.of_place(place);
  }
  __syncthreads();
  return job;
}

// The rows of a slice, of a tile's columns.
template <int kWidth>
__device__ __forceinline__ RowWalk<kWidth> walk_of(const SliceOfRows& at, const Columns& all,
                                                   int64_t rows_per_slice) {
  RowWalk<kWidth> walk(all.rows, rows_per_slice);
  walk.channel = int(at.tile * blockDim.x + threadIdx.x) * kWidth;
  walk.first = int64_t(at.slice) * rows_per_slice + threadIdx.y;
  walk.last = min(int64_t(at.slice + 1) * rows_per_slice, all.rows);
  return walk;
}

// The same rows from the last one to the first.
template <int kWidth>
struct BackwardWalk : RowWalk<kWidth> {
  int64_t mirror;

  __device__ explicit BackwardWalk(const RowWalk<kWidth>& walk)
      : RowWalk<kWidth>(walk), mirror(walk.first - threadIdx.y + walk.last - 1) {}
};
template <int kWidth>
__device__ __forceinline__ int64_t row_of(const BackwardWalk<kWidth>& walk, int64_t step) {
  return walk.mirror - step;
}

template <class T, int kWidth, int kActivation, bool kMore>
__global__ void __launch_bounds__(kTilingThreads, 2)
    batch_norm_in_groups(const T* __restrict__ x, const T* __restrict__ residual, const Columns all,
                         const GroupOrder order, int64_t rows_per_slice, Moments* partial,
                         const GroupCounters counters, FinishStatistics finish, Normalisation norm,
                         T* __restrict__ y) {
  const GroupJob job = take_job(order, counters);
  if (job.tile >= order.tiles) return;
  const SliceOfRows at{job.tile, order.tiles, job.slice, order.slices};
  const RowWalk<kWidth> walk = walk_of<kWidth>(at, all, rows_per_slice);
  if (job.applies) {
    counters.wait_for_sums(all, at);
    norm.var = nullptr;  // known when this is compiled: no square roots
    constexpr int kAtOnce = kMore ? 2 : 4;
    return normalise_rows<T, kWidth, kAtOnce>(x, residual, all, BackwardWalk<kWidth>(walk), norm,
                                              Activation(kActivation), kMore, y);
  }
  Moments mine[kWidth];
  moments_of_block(x, all, walk, mine);
  if (merge_slices(mine, walk.channel, partial, all, at, counters.merging(), finish))
    publish(counters.flag(all, at));
}

template <class T, int kWidth, int kActivation, bool kMore>
__global__ void __launch_bounds__(kTilingThreads, 2)
    batch_norm_gradient_in_groups(const GradientSource<T> source, bool fixed, const Columns all,
                                  const GroupOrder order, int64_t rows_per_slice, GradientSums* partial,
                                  const GroupCounters counters, float* dbeta, float* dgamma, float rows,
                                  T* __restrict__ dx, T* __restrict__ dresidual) {
  constexpr auto kKind = Activation(kActivation);
  const GroupJob job = take_job(order, counters);
  if (job.tile >= order.tiles) return;
  const SliceOfRows at{job.tile, order.tiles, job.slice, order.slices};
  const RowWalk<kWidth> walk = walk_of<kWidth>(at, all, rows_per_slice);
  if (job.applies) {
    counters.wait_for_sums(all, at);
    return input_gradient_rows<T, kWidth>(source, kKind, kMore, fixed ? nullptr : dbeta,
                                          fixed ? nullptr : dgamma, nullptr, rows, all,
                                          BackwardWalk<kWidth>(walk), dx, dresidual);
  }
  GradientSums mine[kWidth];
  gradient_sums_of_block(source, kKind, kMore, all, walk, mine);
  if (merge_slices(mine, walk.channel, partial, all, at, counters.merging(), StoreGradients{dbeta, dgamma}))
    publish(counters.flag(all, at));
}

// What two passes read and write: `twice` tensors are read by both, `once` are read or written by the second.
struct GroupTraffic {
  int twice, once;
  int64_t value_bytes;
};

// Blocks of a group that sum, and as many that apply: some three quarters of what a large GPU holds at once.
inline constexpr int64_t kGroupBlocks = 198;

// Groups as wide as leaves room in the L2 for what is touched between the two readings of a value. With a lag
// of a whole group these are, of tensors' parts as large as a group, 2 twice + once + (1 - p) (twice + once),
// where p is the value's place in its group; without one (1 - p) (twice + once).
struct GroupPlan {
  GroupOrder order;
  RowTiling tiling;  // of a group
  ReuseDistance reuse;

  GroupPlan(const Columns& all, int width, const GroupTraffic& traffic)
      : GroupPlan(all, all.columns / width, double(all.rows) * width * double(traffic.value_bytes), traffic) {
  }

  simt::Launch launch(const Context& context) const {
    return {dim3(order.blocks_of_kind(), 1, 2), tiling.block, 0, stream_of(context)};
  }
  // Cuts the rows otherwise.
  void take_slices(unsigned slices) {
    tiling.grid.y = order.slices = slices;
    if (order.lag > 0) order.lag = order.tiles_of_group * slices;
  }

 private:
  GroupPlan(const Columns& all, int64_t packs, double bytes_of_pack, const GroupTraffic& traffic)
      : GroupPlan(all, packs, bytes_of_pack, traffic, double(simt::l2_bytes())) {}
  GroupPlan(const Columns& all, int64_t packs, double bytes_of_pack, const GroupTraffic& traffic, double l2)
      : order{}, tiling(all.rows, packs, kReductionLanes, kReductionBlocks) {
    const double touched = 2 * traffic.twice + traffic.once, more = traffic.twice + traffic.once;
    const auto window = [&](unsigned packs_of_group) {
      return (touched + more) * packs_of_group * bytes_of_pack;
    };
    // Half of the L2: what one half of the multiprocessors reads may lie there a second time for the other.
    const double fits = l2 / 2, fits_mostly = 0.75 * l2;
    unsigned lanes = tiling.block.x, of_group = unsigned(packs);
    if (all.plain()) {
      if (lanes == kReductionLanes && window(lanes) > fits_mostly && window(lanes / 2) <= fits_mostly)
        lanes /= 2;
      for (of_group = lanes; of_group < packs && window(2 * of_group) <= fits;) of_group *= 2;
      of_group = std::min(of_group, unsigned(packs));
    }
    const bool lags = of_group < packs && window(of_group) <= fits_mostly;
    tiling = RowTiling(all.rows, of_group, lanes, kGroupBlocks);
    order.tiles = unsigned(ceil_div(packs, lanes));
    order.tiles_of_group = tiling.grid.x;
    order.groups = unsigned(ceil_div(order.tiles, order.tiles_of_group));
    order.slices = tiling.grid.y;
    const double group = of_group * bytes_of_pack;
    reuse = {0, more * group};
    if (lags) {
      order.lag = order.tiles_of_group * order.slices;
      reuse = {touched * group, (touched + more) * group};
    }
    PLUME_CHECK(GroupCounters::count(order) < kTickets, "batch_norm: {} channels are too many", all.channels);
  }
};

// Calls f(T{}, integral_constant pack width, columns) for a [.., channels] tensor. Of few channels so many
// rows are taken for one that tiles have no lane without columns; samples that are dropped have rows of their
// own.
template <class F>
void with_groups(const Tensor& x, const SampleDrop& drop, F&& f) {
  constexpr int kFewTiles = 2, kMostTogether = 32;
  with_columns(x, drop, [&](auto zero, auto width, const Columns& all) {
    constexpr int kTile = width() * int(kReductionLanes);
    if (!drop.state.defined() && width() > 1 && all.channels < kFewTiles * kTile) {
      const Columns wide(x, kTile);
      if (wide.columns % kTile == 0 && wide.columns <= kMostTogether * all.channels)
        return f(zero, width, wide);
    }
    f(zero, width, all);
  });
}

}  // namespace
}  // namespace plume::PLUME_KERNELS
