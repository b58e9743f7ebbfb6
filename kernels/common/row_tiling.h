// How blocks share a matrix [rows, channels] whose channels are neighbours in memory: NHWC activations with
// rows = N * H * W.
//
// threadIdx.x counts packs of kWidth channels, threadIdx.y rows: a warp reads whole cache lines, several rows
// of them when there are few channels. blockIdx.x counts tiles of channels, blockIdx.y slices of rows. A
// thread keeps what belongs to its channels in registers while it walks down the rows.
#pragma once
#include <algorithm>

#include "engine/ops/partial_sums.h"
#include "kernels/common/kernel.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {

inline constexpr int kTilingThreads = 256;

struct RowTiling {
  dim3 grid, block;
  int64_t rows_per_slice;

  // `packs` are channels / kWidth. As many slices as keep every multiprocessor busy, but at least four rows
  // for a thread, and no more blocks than there may be: one of these alone would be a round of its own. Tiles
  // are up to `most_lanes` packs wide.
  RowTiling(int64_t rows, int64_t packs, unsigned most_lanes = 32, int64_t most_blocks = 1024) {
    unsigned lanes = 1;
    while (lanes < most_lanes && lanes < packs) lanes *= 2;
    block = dim3(lanes, kTilingThreads / lanes);
    const int64_t tiles = std::max<int64_t>(ceil_div(packs, lanes), 1);
    const int64_t useful = std::max<int64_t>(ceil_div(rows, 4 * int64_t(block.y)), 1);
    const int64_t slices = std::clamp<int64_t>(most_blocks / tiles, 1, useful);
    rows_per_slice = std::max<int64_t>(ceil_div(rows, slices), 1);
    grid = dim3(unsigned(tiles), unsigned(std::max<int64_t>(ceil_div(rows, rows_per_slice), 1)));
  }
  int slices() const { return int(grid.y); }
  simt::Launch launch(const Context& context) const { return {grid, block, 0, stream_of(context)}; }
};

// The thread's first channel and its rows first, first + step, ... below last.
template <int kWidth>
struct RowWalk {
  int channel;
  int64_t first, last, step;

  __device__ RowWalk(int64_t rows, int64_t rows_per_slice)
      : channel(int(blockIdx.x * blockDim.x + threadIdx.x) * kWidth),
        first(int64_t(blockIdx.y) * rows_per_slice + threadIdx.y),
        last(min(int64_t(blockIdx.y + 1) * rows_per_slice, rows)),
        step(blockDim.y) {}
};

// The pixels of an image where a block has all of them.
struct PlaneWalk {
  int first, last, step;

  __device__ explicit PlaneWalk(int plane) : first(int(threadIdx.y)), last(plane), step(int(blockDim.y)) {}
};

// Visits the rows of a walk, a few at once: fetch(k, row) of all of these before use(k, row) of the first, so
// that their loads are on their way together. Only the last ones are asked whether they are there.
template <int kAtOnce, class Walk, class Fetch, class Use>
__device__ __forceinline__ void walk_rows(const Walk& walk, Fetch&& fetch, Use&& use) {
  auto row = walk.first;
#pragma unroll 1
  for (; row + (kAtOnce - 1) * walk.step < walk.last; row += kAtOnce * walk.step) {
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) fetch(k, row + k * walk.step);
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) use(k, row + k * walk.step);
  }
#pragma unroll
  for (int k = 0; k + 1 < kAtOnce; ++k)
    if (row + k * walk.step < walk.last) fetch(k, row + k * walk.step);
#pragma unroll
  for (int k = 0; k + 1 < kAtOnce; ++k)
    if (row + k * walk.step < walk.last) use(k, row + k * walk.step);
}

// A pixel of an [N, H, W, C] tensor by its number.
struct Pixel {
  int n, h, w;

  __device__ Pixel(int64_t number, int height, int width) {
    const int64_t row = number / width;
    w = int(number - row * width);
    n = int(row / height);
    h = int(row - int64_t(n) * height);
  }
  // To the pixel `step` numbers on, without dividing.
  __device__ void go_on(int64_t step, int height, int width) {
    w += int(step);
    while (w >= width) {
      w -= width;
      if (++h == height) h = 0, ++n;
    }
  }
};

// Calls f with the pack width that fits the channels: 16 bytes, or one value.
template <class T, class F>
void with_pack_width(int64_t channels, F&& f) {
  if (channels % kVectorWidth<T> == 0) {
    f(std::integral_constant<int, kVectorWidth<T>>{});
  } else {
    f(std::integral_constant<int, 1>{});
  }
}

// Adds up the values of the threads with equal threadIdx.x in a fixed order; those with threadIdx.y = 0 get
// the sums. All threads of a RowTiling block must call, once per kernel.
template <int kCount>
__device__ __forceinline__ void sum_over_rows_of_block(float (&values)[kCount]) {
  SMEM(partial, float[kCount][kTilingThreads]);
  const int thread = int(threadIdx.y * blockDim.x + threadIdx.x);
#pragma unroll
  for (int i = 0; i < kCount; ++i) partial[i][thread] = values[i];
  for (int half = int(blockDim.y) / 2; half > 0; half /= 2) {
    __syncthreads();
    if (int(threadIdx.y) < half) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) partial[i][thread] += partial[i][thread + half * int(blockDim.x)];
    }
  }
  if (threadIdx.y == 0) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = partial[i][thread];
  }
}

// out[i] = sum over slices of partial[slice, i] in a fixed order, i < n: the second pass of a reduction that
// was split over blocks. 32 x 8 threads add 32 neighbouring sums; i: that of the thread.
template <class T>
__device__ __forceinline__ void sum_slices_of_block(const float* __restrict__ partial, int slices,
                                                    int64_t columns, int64_t n, int64_t i,
                                                    T* __restrict__ out) {
  float sum[1] = {0.0f};
  if (i < n)
    for (int slice = int(threadIdx.y); slice < slices; slice += int(blockDim.y))
      sum[0] += partial[slice * columns + i];
  sum_over_rows_of_block(sum);
  if (i < n && threadIdx.y == 0) out[i] = T(sum[0]);
}

template <class T>
__global__ void sum_slices(const float* __restrict__ partial, int slices, int64_t n, T* __restrict__ out) {
  sum_slices_of_block(partial, slices, n, n, int64_t(blockIdx.x) * blockDim.x + threadIdx.x, out);
}

template <class T>
void launch_sum_slices(const Context& context, const float* partial, int slices, int64_t n, T* out) {
  simt::launch<sum_slices<T>>({dim3(unsigned(ceil_div(n, 32))), dim3(32, 8), 0, stream_of(context)}, partial,
                              slices, n, out);
}

// The same for a parameter's gradient, of an operation on values of T: an f32 one later, with others
// (engine/ops/partial_sums.h). `partial` f32 [slices, out.size()].
template <class T>
void finish_gradient(Context& context, const Tensor& partial, int slices, Tensor& out) {
  if (out.dtype() == DType::f32) return finish_sum(context, partial, out);
  launch_sum_slices(context, partial.data<float>(), slices, out.size(), out.data<T>());
}

}  // namespace plume::PLUME_KERNELS
