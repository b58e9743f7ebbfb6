// The blocks of MobileNetV3 and EfficientNetV2 in evaluation: what lies between their convolutions stays in
// shared memory (a drawing is in README.md).
//
// expand_depthwise, "tiled"
//   A block makes 7 x 7 outputs (4 x 4 at stride 2) of 64 expanded channels. The pixels under them, halo
//   included (81 for 3x3 filters, 121 for 5x5), are the rows of a matrix product with the expansion's filters
//   (block_gemm.h); activated, the 128 x 64 results lie in shared memory, and the depthwise filter passes
//   over them, a thread holding 16 bytes of channels. The outputs' sums for the squeeze-excitation are added
//   in the block; its mean is a part of those that squeeze_gate adds. Bytes: x about halo / outputs
//   = 1.7 times (3x3) or 2.5 times (5x5) per 64 expanded channels, from L2 after the first; d once. Unfused:
//   x once, the expanded image written and read, d once and again for pooling: with E = 6 C 14 or 20 bytes
//   per input byte against 6 and the reads from L2. FLOPs: the expansion's 2 C E grow by halo / outputs, the
//   price of the saved traffic.
//
// fused_mbconv, "tiled"
//   A block makes 128 output pixels x all (at most 64) filters. For each 64 of the E expanded channels: the
//   3x3 convolution as a product, activated into shared memory, and from there into the second product, whose
//   sums stay in registers. Bytes: x and y once (and the residual); unfused 2 E more per pixel. FLOPs: those
//   of both convolutions, 9 of 10 in the first; arithmetic is the limit.
#define PLUME_EXACT_ACTIVATIONS  // the fast ones, many at once, would spill
#include "engine/ops/mbconv.h"

#include "engine/ops/depthwise_pool.h"
#include "kernels/common/block_gemm.h"
#include "kernels/conv2d_sizes.h"

namespace plume::PLUME_KERNELS {
namespace {

// ---- expand_depthwise ----

struct ExpandSizes {
  int height, width, channels;          // x
  int expanded, out_height, out_width;  // d
  int padding, tiles_across, tiles_down;
  Activation activation1, activation2;
};

constexpr int expand_outputs(int stride) { return stride == 1 ? 7 : 4; }
constexpr int expand_halo(int filter, int stride) { return (expand_outputs(stride) - 1) * stride + filter; }

template <class T, int kFilter, int kStride>
struct ExpandShared {
  static constexpr int kHalo = expand_halo(kFilter, kStride);
  union {
    GemmStage<T> stages[2];
    float pooled[kGemmThreads * kVectorWidth<T>];
  };
  // Padded by 16 bytes: a warp's writes of eight rows fall into different banks.
  alignas(16) T expanded[kHalo * kHalo][kGemmColumns + kVectorWidth<T>];
};

template <class T, int kFilter, int kStride>
__global__ void __launch_bounds__(kGemmThreads, 1)
    expand_depthwise_tiled(const T* __restrict__ x, const T* __restrict__ w1, const float* __restrict__ b1,
                           const T* __restrict__ w2, const float* __restrict__ b2, const ExpandSizes s,
                           T* __restrict__ d, float* __restrict__ pooled) {
  using Vector = Pack<T, kVectorWidth<T>>;
  constexpr int kWidth = kVectorWidth<T>, kOutputs = expand_outputs(kStride),
                kHalo = expand_halo(kFilter, kStride);
  constexpr int kPacks = kGemmColumns / kWidth, kGroups = kGemmThreads / kPacks;
  static_assert(kHalo * kHalo <= kGemmRows);
  auto& shared = *simt::dyn_smem<ExpandShared<T, kFilter, kStride>>();
  const int tile = int(blockIdx.x) % (s.tiles_across * s.tiles_down), image = int(blockIdx.z);
  const int p0 = tile / s.tiles_across * kOutputs, q0 = tile % s.tiles_across * kOutputs;
  const int top = p0 * kStride - s.padding, left = q0 * kStride - s.padding;
  const int first_channel = int(blockIdx.y) * kGemmColumns;

  PatchPixels<T, true> pixels(x, nullptr, s.height, s.width, s.channels, 1, 1, [&](int row) -> PatchPlace {
    return {row < kHalo * kHalo ? image : -1, top + row / kHalo, left + row % kHalo};
  });
  FilterRows<T, true> filters(w1, 1, 1, s.channels, first_channel, s.expanded);
  GemmSums<T> sums;
  block_gemm(pixels, filters, steps_per_tap<T>(s.channels), shared.stages, sums);
  sums.for_each_pair([&](int row, int column, float first, float second) {
    if (row >= kHalo * kHalo) return;
    const int h = top + row / kHalo, v = left + row % kHalo, k = first_channel + column;
    // The depthwise convolution is padded with zeros, not with act1(b1).
    const bool inside = unsigned(h) < unsigned(s.height) && unsigned(v) < unsigned(s.width);
    const auto finish = [&](float sum, int channel) {
      return T(inside && channel < s.expanded ? activate(s.activation1, sum + b1[channel]) : 0.0f);
    };
    shared.expanded[row][column] = finish(first, k);
    shared.expanded[row][column + 1] = finish(second, k + 1);
  });
  __syncthreads();

  const int pack = int(threadIdx.x) % kPacks, group = int(threadIdx.x) / kPacks;
  const int channel = first_channel + pack * kWidth;
  float mine[kWidth] = {};  // of the thread's outputs
  if (channel < s.expanded) {
    for (int output = group; output < kOutputs * kOutputs; output += kGroups) {
      const int p = output / kOutputs, q = output % kOutputs;
      if (p0 + p >= s.out_height || q0 + q >= s.out_width) continue;
      float sum[kWidth] = {};
#pragma unroll
      for (int r = 0; r < kFilter; ++r) {
#pragma unroll
        for (int t = 0; t < kFilter; ++t) {
          const auto value =
              Vector::load(&shared.expanded[(p * kStride + r) * kHalo + q * kStride + t][pack * kWidth]);
          const auto tap = Vector::load(w2 + (r * kFilter + t) * s.expanded + channel);
#pragma unroll
          for (int i = 0; i < kWidth; ++i) sum[i] += float(value[i]) * float(tap[i]);
        }
      }
      Vector out;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        out[i] = T(activate(s.activation2, sum[i] + b2[channel + i]));
        mine[i] += float(out[i]);
      }
      out.store(d + ((int64_t(image) * s.out_height + p0 + p) * s.out_width + q0 + q) * s.expanded + channel);
    }
  }
  if (!pooled) return;
    // The stages' memory is free: every thread has passed the barrier after the product.
#pragma unroll
  for (int i = 0; i < kWidth; ++i) shared.pooled[group * kGemmColumns + pack * kWidth + i] = mine[i];
  __syncthreads();
  const int column = int(threadIdx.x);
  if (column >= kGemmColumns || first_channel + column >= s.expanded) return;
  float sum = 0.0f;
  for (int g = 0; g < kGroups; ++g) sum += shared.pooled[g * kGemmColumns + column];
  pooled[(int64_t(image) * s.tiles_across * s.tiles_down + tile) * s.expanded + first_channel + column] =
      sum / float(s.out_height * s.out_width);
}

// Calls f with filter size and stride as constants.
template <class F>
void dispatch_expand(int64_t filter, int stride, F&& f) {
  using std::integral_constant;
  const auto with_stride = [&](auto size) {
    stride == 1 ? f(size, integral_constant<int, 1>{}) : f(size, integral_constant<int, 2>{});
  };
  filter == 3 ? with_stride(integral_constant<int, 3>{}) : with_stride(integral_constant<int, 5>{});
}

struct ExpandGrid {
  int across, down;  // tiles of an image
  dim3 blocks;
};
ExpandGrid expand_grid(const Tensor& d, int stride) {
  const int64_t across = ceil_div(d.dim(2), expand_outputs(stride)),
                down = ceil_div(d.dim(1), expand_outputs(stride));
  return {int(across), int(down),
          dim3(unsigned(across * down), unsigned(ceil_div(d.dim(3), kGemmColumns)), unsigned(d.dim(0)))};
}

void run_expand(Context& context, const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2,
                const Tensor& b2, const ExpandDepthwiseParams& params, Tensor& d, Tensor& pooled) {
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    dispatch_expand(w2.dim(0), params.stride, [&](auto filter, auto stride) {
      const auto [across, down, blocks] = expand_grid(d, stride);
      const ExpandSizes s{int(x.dim(1)), int(x.dim(2)),   int(x.dim(3)),  int(w1.dim(0)),
                          int(d.dim(1)), int(d.dim(2)),   params.padding, across,
                          down,          params.expanded, params.out};
      const simt::Launch launch{blocks, dim3(kGemmThreads), sizeof(ExpandShared<T, filter, stride>),
                                stream_of(context)};
      if (pooled.defined() && across * down > 1) pooled = plane_means(d, across * down);
      simt::launch<expand_depthwise_tiled<T, filter, stride>>(
          launch, x.data<T>(), w1.data<T>(), b1.data<float>(), w2.data<T>(), b2.data<float>(), s, d.data<T>(),
          pooled.defined() ? pooled.data<float>() : nullptr);
    });
  });
}

bool fits_expand(const Context&, const Tensor& x, const Tensor& w1, const Tensor&, const Tensor& w2,
                 const Tensor&, const ExpandDepthwiseParams& p, Tensor& d, Tensor&) {
  const int64_t filter = w2.dim(0), width = x.dtype() == DType::f32 ? kVectorWidth<float> : kVectorWidth<f16>;
  return filter == w2.dim(1) && (filter == 3 || filter == 5) && (p.stride == 1 || p.stride == 2) &&
         x.dim(3) % width == 0 && w1.dim(0) % width == 0 && d.size() > 0 && x.dim(0) < 65536;
}

// ---- fused_mbconv ----

template <class T>
struct FusedShared {
  GemmStage<T> stages[2];
  OperandTile<T, kGemmRows, 64> expanded;
  OperandTile<T, kGemmColumns, 64> filters2;
};

template <class T>
__global__ void __launch_bounds__(kGemmThreads, 2)
    fused_mbconv_tiled(const T* __restrict__ x, const T* __restrict__ w1, const float* __restrict__ b1,
                       Activation activation1, const ConvSizes s, const T* __restrict__ w2, int outputs,
                       EpilogueView<T> finish, T* __restrict__ y) {
  using Vector = Pack<T, kVectorWidth<T>>;
  constexpr int kWidth = kVectorWidth<T>;
  auto& shared = *simt::dyn_smem<FusedShared<T>>();
  const int64_t first_pixel = int64_t(blockIdx.x) * kGemmRows, pixels = s.out_pixels();
  const int steps = s.filter_height * s.filter_width * steps_per_tap<T>(s.channels);
  GemmSums<T> out;
  for (int e0 = 0; e0 < s.filters; e0 += kGemmColumns) {
    PatchPixels<T, true> patches(x, nullptr, s.height, s.width, s.channels, s.filter_width, 1,
                                 [&](int row) -> PatchPlace {
                                   const int64_t pixel = first_pixel + row;
                                   if (pixel >= pixels) return {-1, 0, 0};
                                   const Index4 at(pixel, s.out_height, s.out_width, 1);
                                   return {at.a, at.h * s.stride - s.padding, at.w * s.stride - s.padding};
                                 });
    FilterRows<T, true> filters(w1, s.filter_height, s.filter_width, s.channels, e0, s.filters);
    GemmSums<T> sums;
    block_gemm(patches, filters, steps, shared.stages, sums);
    // Nobody reads these tiles any more: all threads have passed the product's barriers since.
    sums.for_each_pair([&](int row, int column, float first, float second) {
      const auto activated = [&](float sum, int e) {
        return T(e < s.filters ? activate(activation1, sum + b1[e]) : 0.0f);
      };
      shared.expanded.put(row, column, activated(first, e0 + column));
      shared.expanded.put(row, column + 1, activated(second, e0 + column + 1));
    });
    for (int i = int(threadIdx.x); i < kGemmColumns * 64 / kWidth; i += kGemmThreads) {
      const int k = i / (64 / kWidth), depth = i % (64 / kWidth) * kWidth;
      const bool exists = k < outputs && e0 + depth < s.filters;
      const auto values =
          exists ? Vector::load(w2 + int64_t(k) * s.filters + e0 + depth) : Vector::filled(T(0.0f));
      shared.filters2.put(k, depth, values);
    }
    __syncthreads();
    multiply(shared.expanded, shared.filters2, out);
  }
  const bool even = outputs % 2 == 0;
  out.for_each_pair([&](int row, int k, float first, float second) {
    const int64_t pixel = first_pixel + row;
    const int valid = outputs - k;
    if (pixel < pixels) finish_pair(finish, first, second, k, valid, pixel * outputs + k, even, y);
  });
}

void run_fused(Context& context, const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2,
               const Epilogue& epilogue, const FusedMbconvParams& params, Tensor& y) {
  const ConvSizes s(x, w1, y, {params.stride, params.padding, 1, nullptr});
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const simt::Launch launch{dim3(unsigned(ceil_div(s.out_pixels(), kGemmRows))), dim3(kGemmThreads),
                              sizeof(FusedShared<T>), stream_of(context)};
    simt::launch<fused_mbconv_tiled<T>>(launch, x.data<T>(), w1.data<T>(), b1.data<float>(), params.expanded,
                                        s, w2.data<T>(), int(w2.dim(0)), EpilogueView<T>(epilogue),
                                        y.data<T>());
  });
}

bool fits_fused(const Context&, const Tensor& x, const Tensor& w1, const Tensor&, const Tensor& w2,
                const Epilogue&, const FusedMbconvParams&, Tensor& y) {
  const int64_t width = x.dtype() == DType::f32 ? kVectorWidth<float> : kVectorWidth<f16>;
  return x.dim(3) % width == 0 && w1.dim(0) % width == 0 && w2.dim(0) <= kGemmColumns && y.size() > 0;
}

// Behind `separate`: two convolutions on the matrix core, or one and a depthwise one that pools, take less
// than these products of older kind, even at a batch of one (bench/NOTES.md).
constexpr int kBehind = KernelSlotBase::kOwn - 2;
const bool mbconv_registered =
    expand_depthwise_forward.add(kThisDevice, {{"tiled", fits_expand, run_expand}}, kBehind) &&
    fused_mbconv_forward.add(kThisDevice, {{"tiled", fits_fused, run_fused}}, kBehind);

}  // namespace
}  // namespace plume::PLUME_KERNELS
