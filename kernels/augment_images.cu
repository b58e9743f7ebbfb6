// augment_images: one block per image, 256 threads over its pixels.
//
// Without image operations a thread makes whole pixels of the output: it looks up where in the source box a
// pixel comes from (resampling taps are read from a table that the host made, the rows' bytes between the two
// passes are computed again where they overlap), normalises it, and writes it. With operations the bytes of
// an image go back and forth between two scratch images in memory, which stay in L2; tables of 256 entries
// per channel, and the histograms behind them, are in shared memory. All arithmetic on bytes is in whole
// numbers, or in floats whose every rounding is spelled out, so that the result is the host's.
//
// Bytes per image of p output pixels: its pixels once, 3 p s written; each operation 6 p more, from L2. A
// resize by taps of k x k costs 3 k (k + 1) multiply-adds per pixel: 18 for 32 -> 224. The bound is memory
// bandwidth for 224 outputs, the launch for 32.
#include "engine/ops/augment_images.h"

#include "engine/math/resample.h"
#include "kernels/common/kernel.h"
#include "kernels/common/warp_reduce.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int kAugmentThreads = 256, kChannels = 3;

struct ImageBatch {
  const AugmentPlan* plans;
  const uint8_t* pixels;
  const int32_t* taps;
  int height, width;
  PixelNormalization normalization;
};

struct Rgb {
  uint8_t v[kChannels];
};

// The byte of channel c at (y, x) of the source box; black outside the image.
__device__ __forceinline__ int source_byte(const AugmentPlan& plan, const uint8_t* image, int y, int x,
                                           int c) {
  const int row = plan.source.top + y, column = plan.source.left + x;
  const bool inside = unsigned(row) < unsigned(plan.height) && unsigned(column) < unsigned(plan.width);
  return inside ? image[(int64_t(row) * plan.width + column) * kChannels + c] : 0;
}

// Pixel (y, x) of the resampled source box.
__device__ Rgb resampled_pixel(const AugmentPlan& plan, const uint8_t* image, const int32_t* taps, int y,
                               int x) {
  const ResampleTaps columns{taps + plan.column_taps}, rows{taps + plan.row_taps};
  const int32_t *across = columns.weights(x), *down = rows.weights(y);
  int32_t sum[kChannels] = {kResampleHalf, kResampleHalf, kResampleHalf};
  for (int j = 0; j < rows.count(y); ++j) {
    int32_t line[kChannels] = {kResampleHalf, kResampleHalf, kResampleHalf};
    for (int k = 0; k < columns.count(x); ++k)
#pragma unroll
      for (int c = 0; c < kChannels; ++c)
        line[c] += source_byte(plan, image, rows.first(y) + j, columns.first(x) + k, c) * across[k];
#pragma unroll
    for (int c = 0; c < kChannels; ++c) sum[c] += resampled_byte(line[c]) * down[j];
  }
  return {{resampled_byte(sum[0]), resampled_byte(sum[1]), resampled_byte(sum[2])}};
}

// Pixel (y, x) of the output: cut, resampled and mirrored.
__device__ __forceinline__ Rgb placed_pixel(const ImageBatch& batch, const AugmentPlan& plan,
                                            const uint8_t* image, int y, int x) {
  if (plan.flip) x = batch.width - 1 - x;
  if (!plan.target.contains(y, x)) return {};
  y -= plan.target.top, x -= plan.target.left;
  if (plan.column_taps >= 0) return resampled_pixel(plan, image, batch.taps, y, x);
  Rgb pixel;
#pragma unroll
  for (int c = 0; c < kChannels; ++c) pixel.v[c] = uint8_t(source_byte(plan, image, y, x, c));
  return pixel;
}

template <class T>
__device__ __forceinline__ void write_pixel(const ImageBatch& batch, const AugmentPlan& plan, int pixel,
                                            const uint8_t* bytes, T* out) {
  const bool erased = plan.erased.contains(pixel / batch.width, pixel % batch.width);
#pragma unroll
  for (int c = 0; c < kChannels; ++c) {
    const float value = fmaf(float(bytes[c]), batch.normalization.scale[c], batch.normalization.shift[c]);
    out[int64_t(pixel) * kChannels + c] = T(erased ? 0.0f : value);
  }
}

template <class T>
__global__ void __launch_bounds__(kAugmentThreads, 1)
    augment_pixels(ImageBatch batch, T* __restrict__ images) {
  const AugmentPlan& plan = batch.plans[blockIdx.x];
  const int pixels = batch.height * batch.width;
  T* out = images + int64_t(blockIdx.x) * pixels * kChannels;
  for (int i = int(blockIdx.y) * kAugmentThreads + int(threadIdx.x); i < pixels;
       i += int(gridDim.y) * kAugmentThreads) {
    const Rgb pixel = placed_pixel(batch, plan, batch.pixels + plan.offset, i / batch.width, i % batch.width);
    write_pixel(batch, plan, i, pixel.v, out);
  }
}

// What the threads of a block share about the image they work on.
struct TableMemory {
  int counts[kChannels][256];
  int running[kChannels][256];  // sums of counts, for equalize
  int darkest[kChannels], brightest[kChannels];
  uint8_t table[kChannels][256];
};

// running[c][v] = counts[c][0] + ... + counts[c][v]: every step adds the value `distance` entries before.
__device__ void accumulate(TableMemory& memory) {
  const int v = int(threadIdx.x);
  for (int c = 0; c < kChannels; ++c) memory.running[c][v] = memory.counts[c][v];
  for (int distance = 1; distance < 256; distance *= 2) {
    int before[kChannels];
    __syncthreads();
    for (int c = 0; c < kChannels; ++c) before[c] = v >= distance ? memory.running[c][v - distance] : 0;
    __syncthreads();
    for (int c = 0; c < kChannels; ++c) memory.running[c][v] += before[c];
  }
  __syncthreads();
}

// Fills memory.table; thread v makes the entries of value v. All threads of the block must call.
__device__ void make_table(const ImageOp& op, const uint8_t* image, int pixels, TableMemory& memory) {
  static_assert(kAugmentThreads == 256);
  const int v = int(threadIdx.x);
  int mean = 0;
  if (op.kind == ImageOpKind::contrast) {
    uint32_t sum = 0;
    for (int i = v; i < pixels; i += kAugmentThreads) {
      const uint8_t* p = image + int64_t(i) * kChannels;
      sum += uint32_t(luminance(p[0], p[1], p[2]));
    }
    mean = rounded_mean(block_sum<kAugmentThreads>(sum), pixels);
  }
  if (needs_histogram(op.kind)) {
    for (int c = 0; c < kChannels; ++c) memory.counts[c][v] = 0;
    if (v < kChannels) memory.darkest[v] = 255, memory.brightest[v] = 0;
    __syncthreads();
    for (int i = v; i < pixels; i += kAugmentThreads)
      for (int c = 0; c < kChannels; ++c) atomicAdd(&memory.counts[c][image[int64_t(i) * kChannels + c]], 1);
    __syncthreads();
    for (int c = 0; c < kChannels; ++c)
      if (memory.counts[c][v] > 0) {
        atomicMin(&memory.darkest[c], v);
        atomicMax(&memory.brightest[c], v);
      }
    accumulate(memory);
  }
  for (int c = 0; c < kChannels; ++c) {
    ChannelSummary summary;
    int darker = 0;
    if (needs_histogram(op.kind)) {
      summary.darkest = memory.darkest[c];
      summary.brightest = memory.brightest[c];
      summary.step = equalize_step(pixels, memory.counts[c][summary.brightest]);
      darker = memory.running[c][v] - memory.counts[c][v];
    }
    memory.table[c][v] = table_entry(op, v, summary, darker, mean);
  }
  __syncthreads();
}

// One operation on one pixel, from image to out; they may be the same where has_table or color.
__device__ __forceinline__ void apply_to_pixel(const ImageOp& op, const uint8_t* image, int i, int height,
                                               int width, const TableMemory& memory, uint8_t* out) {
  const uint8_t* from = image + int64_t(i) * kChannels;
  uint8_t* to = out + int64_t(i) * kChannels;
  if (has_table(op.kind)) {
#pragma unroll
    for (int c = 0; c < kChannels; ++c) to[c] = memory.table[c][from[c]];
  } else if (op.kind == ImageOpKind::color) {
    const int grey = luminance(from[0], from[1], from[2]);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) to[c] = blend(grey, from[c], op.factor);
  } else if (op.kind == ImageOpKind::affine) {
    const int source = affine_source(op, i / width, i % width, height, width);
#pragma unroll
    for (int c = 0; c < kChannels; ++c)
      to[c] = source < 0 ? uint8_t(0) : image[int64_t(source) * kChannels + c];
  } else {
    const bool inner = inner_pixel(i / width, i % width, height, width);
#pragma unroll
    for (int c = 0; c < kChannels; ++c)
      to[c] = inner ? blend(smoothed(from + c, width * kChannels), from[c], op.factor) : from[c];
  }
}

// scratch: two images of bytes per block.
template <class T>
__global__ void __launch_bounds__(kAugmentThreads, 1)
    augment_with_ops(ImageBatch batch, uint8_t* __restrict__ scratch, T* __restrict__ images) {
  SMEM(memory, TableMemory);
  const AugmentPlan& plan = batch.plans[blockIdx.x];
  const int pixels = batch.height * batch.width;
  const int64_t bytes = int64_t(pixels) * kChannels;
  uint8_t *image = scratch + 2 * int64_t(blockIdx.x) * bytes, *other = image + bytes;
  for (int i = int(threadIdx.x); i < pixels; i += kAugmentThreads) {
    const Rgb pixel = placed_pixel(batch, plan, batch.pixels + plan.offset, i / batch.width, i % batch.width);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) image[int64_t(i) * kChannels + c] = pixel.v[c];
  }
  for (int k = 0; k < plan.op_count; ++k) {
    const ImageOp& op = plan.ops[k];
    if (op.kind == ImageOpKind::identity) continue;
    __syncthreads();  // the image is complete
    if (has_table(op.kind)) make_table(op, image, pixels, memory);
    for (int i = int(threadIdx.x); i < pixels; i += kAugmentThreads)
      apply_to_pixel(op, image, i, batch.height, batch.width, memory, other);
    uint8_t* made = other;
    other = image;
    image = made;
  }
  __syncthreads();
  T* out = images + int64_t(blockIdx.x) * bytes;
  for (int i = int(threadIdx.x); i < pixels; i += kAugmentThreads)
    write_pixel(batch, plan, i, image + int64_t(i) * kChannels, out);
}

void run(Context& context, const AugmentBatch& batch, Tensor& images) {
  if (images.size() == 0) return;
  const ImageBatch view{static_cast<const AugmentPlan*>(batch.plans.raw()),
                        batch.pixels.data<uint8_t>(),
                        batch.taps.defined() ? batch.taps.data<int32_t>() : nullptr,
                        batch.height,
                        batch.width,
                        batch.normalization};
  const int64_t count = batch.images(), pixels = int64_t(batch.height) * batch.width;
  dispatch_floating(images.dtype(), [&](auto zero) {
    using T = decltype(zero);
    if (batch.has_ops) {
      Tensor scratch =
          Tensor::empty({count, 2, pixels * kChannels}, DType::u8, context.device(), "workspace");
      simt::launch<augment_with_ops<T>>({dim3(unsigned(count)), dim3(kAugmentThreads), 0, stream_of(context)},
                                        view, scratch.data<uint8_t>(), images.data<T>());
    } else {
      constexpr int64_t kPixelsPerBlock = 4 * kAugmentThreads;
      const dim3 grid(unsigned(count), unsigned(ceil_div(pixels, kPixelsPerBlock)));
      simt::launch<augment_pixels<T>>({grid, dim3(kAugmentThreads), 0, stream_of(context)}, view,
                                      images.data<T>());
    }
  });
}

const bool augment_images_registered =
    augment_images_forward.add(kThisDevice, {{"block_per_image", always, run}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
