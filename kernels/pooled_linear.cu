// pooled_linear of few images, "one_launch": blockIdx.y has an image, whose plane each of its blocks pools
// for itself, and a warp makes one output. A thread adds up a pack of channels over some pixels, the block
// adds its threads' sums in a fixed order, and a warp multiplies the means, rounded as they would be in
// memory, by its row of the weight, which was on its way since before the pooling.
//
// Bytes: the weight once; the image, some 50 to 125 KB, once per block, from the L2: a multiprocessor reads
// it in a microsecond, and two launches take twice that longer. With many images a block for each 16 outputs
// of each would read more than a launch costs: these are left to the two operations.
#include "engine/ops/pooled_linear.h"

#include "engine/ops/global_avg_pool.h"
#include "engine/ops/linear.h"
#include "kernels/common/finish.h"
#include "kernels/common/kernel.h"
#include "kernels/common/warp_reduce.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int kPooledThreads = 512, kPooledWarps = kPooledThreads / kWarpSize;
constexpr int kPacksOfLane = 5;  // of a row of the weight: 1280 channels of 16 bits
constexpr int64_t kMostPooledImages = 4;

template <class T>
__global__ void __launch_bounds__(kPooledThreads, 1)
    pooled_linear_outputs(const T* __restrict__ x, const T* __restrict__ w, int plane, int channels,
                          int outputs, const EpilogueView<T> finish, T* __restrict__ y) {
  constexpr int kWidth = kVectorWidth<T>;
  using Vector = Pack<T, kWidth>;
  constexpr int kPitch = kPooledThreads + 32 / kWidth;  // no bank twice, by threads or by channels
  SMEM(partial, float[kWidth][kPitch]);
  SMEM(means, T[kPacksOfLane * kWarpSize * kWidth]);
  const int thread = int(threadIdx.x), lane = thread % kWarpSize, packs = channels / kWidth;
  const int output = int(blockIdx.x) * kPooledWarps + thread / kWarpSize;
  typename Vector::Word row[kPacksOfLane] = {};
#pragma unroll
  for (int i = 0; i < kPacksOfLane; ++i)
    if (output < outputs && lane + i * kWarpSize < packs)
      row[i] = Vector::load(w + int64_t(output) * channels + (lane + i * kWarpSize) * kWidth).word();

  const int groups = kPooledThreads / packs, group = thread / packs, pack = thread - group * packs;
  const T* const image = x + int64_t(blockIdx.y) * plane * channels;
  float sums[kWidth] = {};
  if (group < groups) {
#pragma unroll 7
    for (int pixel = group; pixel < plane; pixel += groups) {
      const auto v = Vector::load(image + pixel * channels + pack * kWidth);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sums[i] += float(v[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) partial[i][thread] = sums[i];
  __syncthreads();
  for (int c = thread; c < channels; c += kPooledThreads) {
    float sum = 0.0f;
    for (int g = 0; g < groups; ++g) sum += partial[c % kWidth][g * packs + c / kWidth];
    means[c] = T(sum / float(plane));
  }
  __syncthreads();

  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kPacksOfLane; ++i) {
    if (output >= outputs || lane + i * kWarpSize >= packs) continue;
    const auto weight = Vector::of(row[i]), mean = Vector::load(means + (lane + i * kWarpSize) * kWidth);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) sum += float(weight[j]) * float(mean[j]);
  }
  sum = warp_sum(sum);
  const int64_t at = int64_t(blockIdx.y) * outputs + output;
  if (lane == 0 && output < outputs) y[at] = T(finish(sum, output, at));
}

void run_pooled_linear(Context& context, const Tensor& x, const Tensor& w, const Epilogue& epilogue,
                       Tensor& y) {
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const dim3 blocks(unsigned(ceil_div(w.dim(0), kPooledWarps)), unsigned(x.dim(0)));
    simt::launch<pooled_linear_outputs<T>>({blocks, dim3(kPooledThreads), 0, stream_of(context)}, x.data<T>(),
                                           w.data<T>(), int(x.dim(1) * x.dim(2)), int(x.dim(3)),
                                           int(w.dim(0)), EpilogueView<T>(epilogue), y.data<T>());
  });
}

// Whoever forces a variant of one of the two wants to see it run.
bool fits_pooled_linear(const Context& context, const Tensor& x, const Tensor& w, const Epilogue&,
                        Tensor& y) {
  const int64_t width = 16 / int64_t(size_of(x.dtype())), channels = x.dim(3);
  return x.dim(0) <= kMostPooledImages && x.size() > 0 && x.size() < int64_t{1} << 30 && y.size() > 0 &&
         channels % width == 0 && channels <= kPacksOfLane * kWarpSize * width &&
         reinterpret_cast<uintptr_t>(x.raw()) % 16 == 0 && reinterpret_cast<uintptr_t>(w.raw()) % 16 == 0 &&
         !global_avg_pool_forward.forced(context.device()) && !linear_forward.forced(context.device());
}

const bool pooled_linear_registered =
    pooled_linear_forward.add(kThisDevice, {{"one_launch", fits_pooled_linear, run_pooled_linear}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
