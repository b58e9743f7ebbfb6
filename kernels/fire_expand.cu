// fire_expand: both expansions of a fire module in one launch, written into their places of the concatenated
// result, ReLU applied.
//
// tensor_core  16 bits, products on the matrix core: rows are pixels, columns first the 1x1 filters, then the
//              3x3, each with tiles of their own. Depth is (tap, channel) without gaps; a tile of 1x1 filters
//              has the middle tap alone. Tiles of the same pixels follow each other, so that x comes from
//              memory once; every block gets as many of either kind.
// in_place     Floats, and channels that 16-byte copies do not divide: a block writes 128 pixels x 64 filters
//              (block_gemm.h). blockIdx.x counts output pixels, blockIdx.y first the column tiles of the 1x1
//              filters, then those of the 3x3. These take nine times as long and start last, which leaves the
//              short ones to fill the gaps of the wave before.
//
// Bytes: x and y once; unfused, y is written twice and read once more. FLOPs: 2 N H W C (A + 9 B). With
// C = 16 and A = B = 64: 20480 FLOPs for 2 * (16 + 128) bytes of 16 bits, 71 per byte: memory is the limit on
// an H100 (270), the matrix product close behind.
#include "engine/ops/fire.h"

#include <numeric>

#include "kernels/common/block_gemm.h"
#include "kernels/conv2d_patches.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T>
struct Expansion {
  const T* w;
  const float* bias;
  int filters;
};

// ---- tensor_core ----

// The depth, some ten steps, is not worth cutting into slices.
struct FirePlan : CorePlan {
  static constexpr int kMiddleTap = 4;
  int channels;
  int threes;  // the first column of 3x3 filters, a tile's

  FirePlan(int64_t pixels, int64_t channels_, int64_t one, int64_t three, int columns_of_tile)
      : CorePlan(pixels, ceil_div(one, columns_of_tile) * columns_of_tile + three, 9 * channels_,
                 columns_of_tile, 1),
        channels(int(channels_)),
        threes(int(ceil_div(one, columns_of_tile)) * columns_of_tile),
        tiles_of_one_(threes / columns_of_tile) {}

  // A block with several tiles meets all columns equally often: no divisor is shared with their number.
  int blocks() const {
    int count = CorePlan::blocks();
    while (count < tiles() && count > 1 && std::gcd(count, column_tiles) != 1) --count;
    return count;
  }
  __device__ __forceinline__ int first_layer(const Tile& tile) const {
    return is_one(tile) ? kMiddleTap * channels : 0;
  }
  __device__ __forceinline__ int layers_of(const Tile& tile) const { return is_one(tile) ? channels : depth; }
  __device__ __forceinline__ int steps_of(const Tile& tile) const {
    return is_one(tile) ? (channels + kCoreDepth - 1) / kCoreDepth : steps;
  }

 private:
  int tiles_of_one_;
  __device__ __forceinline__ bool is_one(const Tile& tile) const { return tile.column < tiles_of_one_; }
};

template <class T, int kRows>
struct FireFilters {
  static constexpr bool kDepthMajor = true;
  using Copies = CopyPlan<kRows, true>;
  const Expansion<T>&one, &three;
  const FirePlan& plan;
  const T* next = nullptr;  // from this thread's place
  int pitch = 0, rows_left = 0, depth_left = 0;

  __device__ FireFilters(const Expansion<T>& one_, const Expansion<T>& three_, const FirePlan& plan_)
      : one(one_), three(three_), plan(plan_) {}
  __device__ void begin(int row, int depth) {
    const bool is_one = row < plan.threes;
    const int filter = row - (is_one ? 0 : plan.threes) + Copies::row(0);
    const int lane = depth - (is_one ? FirePlan::kMiddleTap * plan.channels : 0) + Copies::chunk() * kChunk;
    pitch = is_one ? plan.channels : plan.depth;
    rows_left = (is_one ? one.filters : three.filters) - filter;
    depth_left = pitch - lane;
    next = (is_one ? one.w : three.w) + (filter * pitch + lane);
  }
  __device__ void fetch(char* tile) {
    char* const to = Copies::place(tile);
#pragma unroll
    for (int pass = 0; pass < Copies::kPasses; ++pass)
      copy_chunk<true, false>(to + pass * Copies::kPassBytes, next + pass * Copies::kStep * pitch,
                              rows_left > pass * Copies::kStep ? depth_left : 0, true);
    next += kCoreDepth;
    depth_left -= kCoreDepth;
  }
};

template <class T>
struct FireStore {
  Expansion<T> one, three;
  int threes;
  T* y;

  struct Columns {
    T* to;
    int pitch, valid;
    int alignment;  // of both, where it is a power of two
    float bias[kChunk];

    __device__ static Nothing fetch(int) { return {}; }
    __device__ __forceinline__ void operator()(int row, const float (&sums)[kChunk], Nothing) const {
      if (valid <= 0) return;
      float values[kChunk];
#pragma unroll
      for (int i = 0; i < kChunk; ++i) values[i] = activate(Activation::relu, sums[i] + bias[i]);
      store_chunk(to + int64_t(row) * pitch, values, valid, alignment);
    }
  };
  __device__ __forceinline__ Columns columns(int column) const {
    const bool is_one = column < threes;
    const int k = is_one ? column : column - threes;
    Columns result;
    result.valid = (is_one ? one.filters : three.filters) - k;
    result.pitch = one.filters + three.filters;
    result.alignment = one.filters | three.filters;
    result.to = y + ((is_one ? 0 : one.filters) + k);
    load_chunk((is_one ? one.bias : three.bias) + k, result.valid,
               result.alignment % kChunk == 0 && result.valid > 0, result.bias);
    return result;
  }
};

template <class T, int kColumns>
__global__ void __launch_bounds__(kCoreThreads, core_blocks(kColumns))
    fire_expand_core(const T* __restrict__ x, const PatchWalk walk, const FirePlan plan,
                     const FireStore<T> store) {
  matrix_core<T, kColumns>(PatchRows<T, true>(x, walk),
                           FireFilters<T, kColumns>(store.one, store.three, plan), plan,
                           WholeDepth<FireStore<T>>{store});
}

template <class T>
void launch_fire_core(const Context& context, const Tensor& x, const Expansion<T>& one,
                      const Expansion<T>& three, Tensor& y) {
  const int height = int(x.dim(1)), width = int(x.dim(2)), channels = int(x.dim(3));
  PatchWalk walk(int(x.dim(0)), height, width, channels, height, width);
  walk.set_taps(3, 3);
  walk.top = walk.left = -1;
  // Wide tiles even where some columns are wasted: warps without any do nothing.
  const int most = std::max(one.filters, three.filters);
  const int tile = core_columns(walk.pixels(), most > 64 ? 128 : most);
  choose_core(tile, true, true, [&](auto columns, auto, auto) {
    constexpr int kColumns = columns();
    const FirePlan plan(walk.pixels(), channels, one.filters, three.filters, kColumns);
    const FireStore<T> store{one, three, plan.threes, y.data<T>()};
    simt::launch<fire_expand_core<T, kColumns>>(
        {dim3(unsigned(plan.blocks())), dim3(kCoreThreads), CoreMemory<kColumns>::kBytes, stream_of(context)},
        x.data<T>(), walk, plan, store);
  });
}

void run_fire_core(Context& context, const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w3,
                   const Tensor& b3, PackedFilter*, PackedFilter*, Tensor& y) {
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    launch_fire_core<T>(context, x, {w1.data<T>(), b1.data<float>(), int(w1.dim(0))},
                        {w3.data<T>(), b3.data<float>(), int(w3.dim(0))}, y);
  };
  x.dtype() == DType::f16 ? run(f16{}) : run(bf16{});
}

// A 1x1 filter is multiplied in steps of 16 channels, behind which the next tap's pixels lie: zeros in the
// filter would not make up for infinite ones.
bool fits_fire_core(const Context&, const Tensor& x, const Tensor& w1, const Tensor&, const Tensor& w3,
                    const Tensor&, PackedFilter*, PackedFilter*, Tensor& y) {
  return x.dim(3) % 16 == 0 && w1.size() > 0 && fits_core(x, w3, y);
}

// ---- in_place ----

template <class T, bool kVector>
__global__ void __launch_bounds__(kGemmThreads, 1)
    fire_expand_blocks(const T* __restrict__ x, Expansion<T> one, Expansion<T> three, int images, int height,
                       int width, int channels, T* __restrict__ y) {
  SMEM(stages, GemmStage<T>[2]);
  const int tiles_of_one = (one.filters + kGemmColumns - 1) / kGemmColumns;
  const bool is_one = int(blockIdx.y) < tiles_of_one;
  const Expansion<T> mine = is_one ? one : three;
  const int size = is_one ? 1 : 3, padding = is_one ? 0 : 1, place = is_one ? 0 : one.filters;
  const int first_filter = (int(blockIdx.y) - (is_one ? 0 : tiles_of_one)) * kGemmColumns;
  const int64_t pixels = int64_t(images) * height * width, first_pixel = int64_t(blockIdx.x) * kGemmRows;
  PatchPixels<T, kVector> patches(x, nullptr, height, width, channels, size, 1, [&](int row) -> PatchPlace {
    const int64_t pixel = first_pixel + row;
    if (pixel >= pixels) return {-1, 0, 0};
    const Index4 at(pixel, height, width, 1);
    return {at.a, at.h - padding, at.w - padding};
  });
  FilterRows<T, kVector> filters(mine.w, size, size, channels, first_filter, mine.filters);
  GemmSums<T> sums;
  block_gemm(patches, filters, size * size * steps_per_tap<T>(channels), stages, sums);

  const int out_channels = one.filters + three.filters;
  const bool even = out_channels % 2 == 0 && place % 2 == 0;
  sums.for_each_pair([&](int row, int column, float first, float second) {
    const int64_t pixel = first_pixel + row;
    const int k = first_filter + column, valid = mine.filters - k;
    if (pixel >= pixels || valid <= 0) return;
    const auto bias = load_pair(mine.bias + k, valid, true);
    store_pair(y + pixel * out_channels + place + k, activate(Activation::relu, first + bias[0]),
               activate(Activation::relu, second + bias[1]), valid, even);
  });
}

void run(Context& context, const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w3,
         const Tensor& b3, PackedFilter*, PackedFilter*, Tensor& y) {
  const int channels = int(x.dim(3)), filters1 = int(w1.dim(0)), filters3 = int(w3.dim(0));
  const simt::Launch launch{
      dim3(unsigned(ceil_div(x.dim(0) * x.dim(1) * x.dim(2), kGemmRows)),
           unsigned(ceil_div(filters1, kGemmColumns) + ceil_div(filters3, kGemmColumns))),
      dim3(kGemmThreads), 0, stream_of(context)};
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Expansion<T> one{w1.data<T>(), b1.data<float>(), filters1},
        three{w3.data<T>(), b3.data<float>(), filters3};
    const int n = int(x.dim(0)), h = int(x.dim(1)), w = int(x.dim(2));
    if (channels % kVectorWidth<T> == 0)
      simt::launch<fire_expand_blocks<T, true>>(launch, x.data<T>(), one, three, n, h, w, channels,
                                                y.data<T>());
    else
      simt::launch<fire_expand_blocks<T, false>>(launch, x.data<T>(), one, three, n, h, w, channels,
                                                 y.data<T>());
  });
}

bool fits(const Context&, const Tensor& x, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
          PackedFilter*, PackedFilter*, Tensor& y) {
  return x.size() > 0 && y.size() > 0;
}

const bool fire_expand_registered = fire_expand_forward.add(
    kThisDevice, {{"tensor_core", fits_fire_core, run_fire_core}, {"in_place", fits, run}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
