// gated_pointwise: a 1x1 convolution whose pixels are multiplied by gates [N, C] within shared memory, so
// that the squeeze-excitation's d * gate is never stored.
//
// tensor_core  16 bits, a product on the matrix core: rows are pixels, columns filters, depth channels. A
//              thread copies 16 bytes of channels of neighbouring pixels, and multiplies them by their
//              image's gates as soon as they have arrived. Gates are rounded to 16 bits first: a product of
//              two values then takes one instruction.
// block_gemm   Floats, and channels that 16-byte copies do not divide: 128 pixels x 64 filters, the gates
//              multiplied between global and shared memory.
//
// Bytes: d, y and the residual once, d again for every further tile of columns from the L2, as W and the
// gates. FLOPs: 2 N H W C K.
#include "engine/ops/mbconv.h"
#include "kernels/common/block_gemm.h"
#include "kernels/common/gates.h"
#include "kernels/conv2d_patches.h"

namespace plume::PLUME_KERNELS {
namespace {

// ---- tensor_core ----

// [pixels, channels], row-major, each pixel times its image's gates: channels are a multiple of 8. A thread
// copies one chunk of neighbouring pixels, which mostly belong to one image: that image's gates are fetched
// while the step before is multiplied. Those of further images are waited for.
template <class T, int kDepth, int kRows = kCoreRows, int kThreads = kCoreThreads>
struct GatedRows {
  static constexpr bool kDepthMajor = true;
  using Plan = CopyPlan<kRows, true, kChunk, kDepth, kThreads>;
  using Words = typename ChunkGates<T>::Words;
  static constexpr int kPixels = Plan::kPasses;
  const T* x;
  Gates gates;
  int pixels, channels;
  int next = 0, pixels_left = 0, depth_left = 0;  // of the copies
  int valid = 0, of_first = 0, channel = 0;       // of what is multiplied: pixels, of the first one's image
  int of_image = 0;                               // where that image's gates begin
  Words ahead;                                    // its gates of the next step

  __device__ GatedRows(const T* x_, const Gates& gates_, int pixels_, int channels_)
      : x(x_), gates(gates_), pixels(pixels_), channels(channels_) {}

  __device__ static int row() { return int(threadIdx.x) / Plan::kChunks * kPixels; }
  // Which of them is i-th. Of two rows of four chunks, which a quarter warp reads at once, one is even and
  // one odd.
  __device__ static int turn(int i) {
    return Plan::kChunks >= 8 ? i : i ^ (int(threadIdx.x) / Plan::kChunks & 1);
  }
  // Of a pixel's chunk in the tile. Pixels of a thread that divide 8 differ in the low bits of the swizzle.
  __device__ static int place(int i) {
    if constexpr (8 % kPixels != 0) return swizzled<Plan::kChunks>(row() + i, Plan::chunk());
    const int flips = Plan::kChunks >= 8 ? i : i / 2;
    return (swizzled<Plan::kChunks>(row(), Plan::chunk()) ^ flips * 16) + i * Plan::kChunks * 16;
  }
  __device__ void begin(int first, int depth) {
    const int lane = depth + Plan::chunk() * kChunk;
    pixels_left = pixels - first - row();
    depth_left = channels - lane;
    next = (first + row()) * channels + lane;
  }
  __device__ void fetch(char* tile) {
#pragma unroll
    for (int k = 0; k < kPixels; ++k) {
      const int i = turn(k);
      copy_chunk<true, false>(tile + place(i), x + (next + i * channels), pixels_left > i ? depth_left : 0,
                              true);
    }
    next += kDepth;
    depth_left -= kDepth;
  }
  __device__ void follow(int first, int depth) {
    const int pixel = first + row(), image = gates.by_plane(min(pixel, pixels - 1));
    valid = min(pixels - pixel, kPixels);
    of_first = (image + 1) * int(gates.by_plane.divisor) - pixel;
    channel = depth + Plan::chunk() * kChunk;
    of_image = image * channels;
    ahead = {};  // nothing of the tile before need be kept in registers
    fetch_gates(of_image, ahead);
  }
  __device__ void arrived(char* tile) {
    scale(0, of_first, ahead, tile);
    int image = of_image;
#pragma unroll 1
    for (int end = of_first; end < valid;) {
      const int begin = end;
      end += int(gates.by_plane.divisor);
      image += channels;
      Words more;
      fetch_gates(image, more);
      scale(begin, end, more, tile);
    }
    channel += kDepth;
    fetch_gates(of_image, ahead);
  }

 private:
  __device__ void fetch_gates(int image, Words& to) const {
    if (channel < channels) to.fetch(gates.values + (image + channel));
  }
  // Multiplies the chunks of pixels `begin` to `end` - 1 by gates.
  __device__ static void scale(int begin, int end, const Words& by, char* tile) {
    const ChunkGates<T> factors(by);
#pragma unroll
    for (int k = 0; k < kPixels; ++k) {
      const int i = turn(k);
      if (i >= begin && i < end) factors.multiply(tile + place(i));
    }
  }
};

template <class T, int kColumns, int kDepth, int kRows>
__global__ void __launch_bounds__(core_threads(kRows, kColumns), core_blocks(kColumns, kDepth, kRows))
    gated_pointwise_core(const T* __restrict__ x, const Gates gates, const T* __restrict__ w,
                         const CorePlan plan, const SliceSums sums, const FinishStore<T> store) {
  constexpr int kThreads = core_threads(kRows, kColumns);
  matrix_core<T, kColumns, kDepth, kRows>(
      GatedRows<T, kDepth, kRows, kThreads>(x, gates, plan.rows, plan.depth),
      MatrixRows<T, kColumns, kChunk, kDepth, kThreads>(w, plan.columns, plan.depth), plan,
      InSlices<FinishStore<T>>{sums.partial, plan, store});
  if constexpr (kRows == kCoreRows) finish_slices<kColumns>(sums, plan, store);
}

// Wide tiles, even where some of their columns are wasted: every tile multiplies its pixels by their gates.
constexpr int gated_columns(int64_t pixels, int64_t filters) {
  const int columns = core_columns(pixels, filters);
  return columns == 64 && filters > 64 && core_columns(pixels, 128) == 128 ? 128 : columns;
}

template <class T>
void launch_core(const Context& context, const Tensor& x, const Tensor& gate, const Tensor& w,
                 const Epilogue& epilogue, Tensor& y) {
  const int64_t pixels = x.dim(0) * x.dim(1) * x.dim(2), channels = x.dim(3), filters = w.dim(0);
  const Gates gates{gate.data<float>(), FastDivide(int(x.dim(1) * x.dim(2)))};
  const FinishStore<T> store{EpilogueView<T>(epilogue), y.data<T>(), int(filters)};
  const auto launch = [&](auto columns, auto step, auto rows) {
    constexpr int kColumns = columns(), kDepth = step(), kRows = rows();
    const CorePlan plan(pixels, filters, channels, kColumns, kRows == kCoreRows ? 64 : 1, kDepth, kRows);
    Tensor partial = plan.partial_sums(y.device());
    const SliceSums sums(plan, partial);
    simt::launch<gated_pointwise_core<T, kColumns, kDepth, kRows>>(
        {dim3(unsigned(plan.blocks())), dim3(core_threads(kRows, kColumns)),
         CoreMemory<kColumns, kDepth, kRows>::kBytes, stream_of(context)},
        x.data<T>(), gates, w.data<T>(), plan, sums, store);
    launch_core_slices(context, sums, plan, store);
  };
  using std::integral_constant;
  constexpr integral_constant<int, kCoreRows> kCore;
  constexpr integral_constant<int, kWideRows> kWide;
  constexpr integral_constant<int, kCoreDepth> kStep;
  if (channels <= kShallowDepth && filters <= 32)
    return launch(integral_constant<int, 32>{}, integral_constant<int, kShallowDepth>{}, kCore);
  const TileSize tile =
      choose_tile(pixels, filters, channels, gated_columns(pixels, filters), 1, {kWide192, kWide128});
  if (tile.rows == kWideRows)
    return tile.columns == 128 ? launch(integral_constant<int, 128>{}, kStep, kWide)
                               : launch(integral_constant<int, 192>{}, kStep, kWide);
  choose_core(tile.columns, true, true, [&](auto columns, auto, auto) { launch(columns, kStep, kCore); });
}

void run_core(Context& context, const Tensor& x, const Tensor& gate, const Tensor& w, PackedFilter*,
              const Epilogue& epilogue, Tensor& y) {
  if (x.dtype() == DType::f16)
    launch_core<f16>(context, x, gate, w, epilogue, y);
  else
    launch_core<bf16>(context, x, gate, w, epilogue, y);
}

bool fits_gated_core(const Context&, const Tensor& x, const Tensor&, const Tensor& w, PackedFilter*,
                     const Epilogue&, Tensor& y) {
  return fits_core(x, w, y) && x.dim(3) % kChunk == 0;
}

// ---- block_gemm ----

template <class T, bool kVector>
__global__ void __launch_bounds__(kGemmThreads, 1)
    gated_pointwise_blocks(const T* __restrict__ x, const float* __restrict__ gate, const T* __restrict__ w,
                           const ConvSizes s, EpilogueView<T> finish, T* __restrict__ y) {
  SMEM(stages, GemmStage<T>[2]);
  const int64_t first_pixel = int64_t(blockIdx.x) * kGemmRows;
  const int first_filter = int(blockIdx.y) * kGemmColumns;
  PatchPixels<T, kVector, true> pixels(x, gate, s.height, s.width, s.channels, 1, 1,
                                       [&](int row) -> PatchPlace {
                                         const int64_t pixel = first_pixel + row;
                                         if (pixel >= s.out_pixels()) return {-1, 0, 0};
                                         const Index4 at(pixel, s.out_height, s.out_width, 1);
                                         return {at.a, at.h, at.w};
                                       });
  FilterRows<T, kVector> filters(w, 1, 1, s.channels, first_filter, s.filters);
  GemmSums<T> sums;
  block_gemm(pixels, filters, steps_per_tap<T>(s.channels), stages, sums);

  sums.for_each_pair([&](int row, int column, float first, float second) {
    const int64_t pixel = first_pixel + row;
    const int k = first_filter + column, valid = s.filters - k;
    if (pixel < s.out_pixels())
      finish_pair(finish, first, second, k, valid, pixel * s.filters + k, s.filters % 2 == 0, y);
  });
}

void run_gated(Context& context, const Tensor& x, const Tensor& gate, const Tensor& w, PackedFilter*,
               const Epilogue& epilogue, Tensor& y) {
  if (y.size() == 0) return;
  const ConvSizes s(x, w, y, {});
  const simt::Launch launch{
      dim3(unsigned(ceil_div(s.out_pixels(), kGemmRows)), unsigned(ceil_div(s.filters, kGemmColumns))),
      dim3(kGemmThreads), 0, stream_of(context)};
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const EpilogueView<T> finish(epilogue);
    const float* gates = gate.data<float>();
    if (s.channels % kVectorWidth<T> == 0)
      simt::launch<gated_pointwise_blocks<T, true>>(launch, x.data<T>(), gates, w.data<T>(), s, finish,
                                                    y.data<T>());
    else
      simt::launch<gated_pointwise_blocks<T, false>>(launch, x.data<T>(), gates, w.data<T>(), s, finish,
                                                     y.data<T>());
  });
}

const bool gated_pointwise_registered =
    gated_pointwise_forward.add(kThisDevice, {{"tensor_core", fits_gated_core, run_core}},
                                KernelSlotBase::kOwn + 1) &&
    gated_pointwise_forward.add(kThisDevice, {{"block_gemm", always, run_gated}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
