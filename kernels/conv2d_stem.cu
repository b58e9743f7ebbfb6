// First layers (conv2d_stem.h): conv2d forward, "stem", and the same with a 3x3 max pooling behind it, of
// which only y is written: conv2d_max_pool forward, "stem".
//
// A block has a share of all rows of y, neighbouring ones, and up to 32 filters, and takes a band of rows of
// one image after the other: copies the rows of x under it, waits, multiplies. Meanwhile the other blocks of
// its multiprocessor multiply theirs. A warp takes 16 neighbouring pixels of a row at a time. Where it pools,
// it stays with its columns for the whole band: 16 columns of the convolution make 7 of y. The larger ones of
// three rows are found in its registers, of which the third is the next ones' first, and then those of three
// columns in its own part of shared memory. So no warp waits for another.
//
// Bytes: x once (and from the L2 once more for every further 32 filters, and a band's rows for the next one)
// and y once. FLOPs: 2 N P Q K R S C; a pooling multiplies every eighth column and a row of each band twice.
// 7x7, 64 filters, of 224x224: 236 MFLOP an image, which mma.sync does in 112 us for 256 of them on an H100,
// for 308 KB (60 us), 1.9 MB where nothing is pooled (163 us). Of 3x3 filters bytes are the limit.
#include "kernels/conv2d_stem.h"

#include "engine/ops/conv2d_max_pool.h"
#include "kernels/common/pair_max.h"
#include "kernels/conv2d_patches.h"

namespace plume::PLUME_KERNELS {
namespace {

// Calls body(product, image, row, rows, first filter) for each band of the block.
template <class T, int kSide, int kTiles, class Body>
__device__ __forceinline__ void for_each_band(const T* x, const T* w, const StemWalk& walk,
                                              const StemBands& bands, const EpilogueView<T>& finish,
                                              Body&& body) {
  using Product = StemProduct<T, kSide, kTiles>;
  constexpr int kThreads = stem_threads(kSide), kPatch = kSide * StemDepth<kSide>::kTaps;
  char* const memory = simt::dyn_smem<char>();
  StemShare share(bands, walk.groups);
  const int first_filter = share.group * kTiles * 8;
  const auto fetch = [&] {
    share.fetch<T, kThreads>(x, walk, memory + StemMemory<kSide, kTiles>::kRows);
    simt::async_commit();
    simt::async_wait<0>();
    __syncthreads();
  };
  const int values = min(walk.filters - first_filter, kTiles * 8) * kPatch;
  for (int i = int(threadIdx.x) * kChunk; i < values; i += kThreads * kChunk)
    simt::async_copy<16>(memory + 2 * i, w + (first_filter * kPatch + i));
  fetch();
  const Product product(memory, walk, finish, first_filter);
  while (true) {
    body(product, share.image, share.row, share.rows, first_filter);
    if (!share.go_on()) break;
    __syncthreads();  // nobody reads the band any more
    fetch();
  }
}

template <class T, int kSide, int kTiles>
__global__ void __launch_bounds__(stem_threads(kSide), stem_blocks(kSide, kTiles))
    conv2d_stem_rows(const T* __restrict__ x, const T* __restrict__ w, const StemWalk walk,
                     const StemBands bands, const FastDivide by_tiles, const EpilogueView<T> finish,
                     T* __restrict__ y) {
  const auto body = [&](const auto& product, int image, int row, int rows, int first) {
    const int lane = int(threadIdx.x) % 32, tiles = int(by_tiles.divisor);
    for (int i = int(threadIdx.x) / 32; i < rows * tiles; i += stem_threads(kSide) / 32) {
      const int r = by_tiles(i), column = (i - r * tiles) * 16;
      uint32_t pairs[kTiles][2];
      product.multiply(2 * r, column, pairs);
      product.stage(pairs);
      T* const to = y + (((image * walk.rows + row + r) * walk.columns + column) * walk.filters + first);
#pragma unroll
      for (int pass = 0; pass < 2; ++pass) {
        // Of eight lanes no two read the same bank.
        const int place = lane + 32 * pass;
        const int pixel = kTiles == 3 ? place / 3 : lane / 2 % 8 * 2 + pass;
        const int chunk = kTiles == 3 ? place % 3 : lane % 2 + lane / 16 * 2;
        if (chunk < kTiles && pixel < min(16, walk.columns - column) && first + chunk * kChunk < walk.filters)
          product.staged(pixel, chunk).store(to + (pixel * walk.filters + chunk * kChunk));
      }
    }
  };
  for_each_band<T, kSide, kTiles>(x, w, walk, bands, finish, body);
}

// Of a pooling, of 3x3 pixels two apart.
inline constexpr int kPooledColumns = 7;  // of 16 columns
struct StemPool {
  int columns, padding;

  PLUME_HD int tiles() const { return (columns + kPooledColumns - 1) / kPooledColumns; }
};

template <class T, int kSide, int kTiles>
__global__ void __launch_bounds__(stem_threads(kSide), stem_blocks(kSide, kTiles))
    conv2d_stem_max_pool(const T* __restrict__ x, const T* __restrict__ w, const StemWalk walk,
                         const StemBands bands, const StemPool pool, const EpilogueView<T> finish,
                         T* __restrict__ y) {
  const auto body = [&](const auto& product, int image, int row, int rows, int first) {
    const int lane = int(threadIdx.x) % 32, pooled = lane / 2 % 8, chunk = lane % 2 + lane / 16 * 2;
    for (int tile = int(threadIdx.x) / 32; tile < pool.tiles(); tile += stem_threads(kSide) / 32) {
      const int column = 2 * kPooledColumns * tile - pool.padding, top = 2 * row - pool.padding;
      const bool mine = pooled < min(kPooledColumns, pool.columns - kPooledColumns * tile) &&
                        chunk < kTiles && first + chunk * kChunk < walk.filters;
      T* to =
          y + (((image * bands.rows + row) * pool.columns + kPooledColumns * tile + pooled) * walk.filters +
               first + chunk * kChunk);
      uint32_t largest[kTiles][2], pairs[kTiles][2];
#pragma unroll
      for (int i = 0; i < 2 * kTiles; ++i) largest[i / 2][i % 2] = least_pair<T>();
      const auto put = [&] {
        product.stage(largest);
        if (mine) {
          // Of a window's columns some may lie outside the image: its nearest column is in the window, too.
          const auto of_column = [&](int i) {
            return product.staged(min(max(2 * pooled + i, -column), walk.columns - 1 - column), chunk);
          };
          larger_of_packs(larger_of_packs(of_column(0), of_column(1)), of_column(2)).store(to);
        }
        to += pool.columns * walk.filters;
      };
      // Rows of the image: the first one of the band, or the last ones, may be none.
      const int last = min(2 * rows, walk.rows - 1 - top);
#pragma unroll 1
      for (int r = max(0, -top); r <= last; ++r) {
        product.multiply(2 * r, column, pairs);
#pragma unroll
        for (int i = 0; i < 2 * kTiles; ++i)
          largest[i / 2][i % 2] = larger_of_pairs<T>(largest[i / 2][i % 2], pairs[i / 2][i % 2]);
        if (r % 2 != 0) continue;
        if (r > 0) put();
#pragma unroll
        for (int i = 0; i < 2 * kTiles; ++i) largest[i / 2][i % 2] = pairs[i / 2][i % 2];
      }
      if (last < 2 * rows) put();
    }
  };
  for_each_band<T, kSide, kTiles>(x, w, walk, bands, finish, body);
}

// f(T, kSide, kTiles), as constants.
template <class F>
void choose_stem(DType dtype, int side, int64_t filters, F&& f) {
  using std::integral_constant;
  const auto with_type = [&](auto zero) {
    using Four = integral_constant<int, 4>;
    if (side == 7) return f(zero, integral_constant<int, 7>{}, Four{});
    constexpr integral_constant<int, 3> kThree;
    if (filters <= 16) return f(zero, kThree, integral_constant<int, 2>{});
    if (filters <= 24) return f(zero, kThree, kThree);
    f(zero, kThree, Four{});
  };
  dtype == DType::f16 ? with_type(f16{}) : with_type(bf16{});
}

// f(T, kSide, kTiles, walk, bands) where the device has room for it. `pool`: null where nothing is pooled.
template <class F>
bool plan_stem(const Tensor& x, const ConvSizes& s, const Tensor& y, const MaxPool2dParams* pool, F&& f) {
  bool room = false;
  choose_stem(x.dtype(), s.filter_width, s.filters, [&](auto zero, auto side, auto tiles) {
    const int before = pool ? pool->padding : 0;
    const StemPool pooled{int(y.dim(2)), before};
    const int end = pool ? 2 * kPooledColumns * (pooled.tiles() - 1) - before + 15
                         : int(ceil_div(s.out_width, 16)) * 16 - 1;
    const StemWalk walk(s, x.raw(), before, end, tiles() * 8);
    StemBands bands{s.images, int(y.dim(1)), 2, -s.padding, s.filter_height};
    if (pool) bands = {s.images, int(y.dim(1)), 4, -s.padding - 2 * before, s.filter_height + 4};
    using Memory = StemMemory<side(), tiles()>;
    const int rows = (stem_bytes(Memory::kBlocks) - Memory::kRows) / walk.row_bytes();
    room = bands.cut((rows - bands.span + bands.step) / bands.step, Memory::kBlocks, walk.groups);
    if (room) f(zero, side, tiles, walk, bands);
  });
  return room;
}

bool fits_stem(const Tensor& x, const Tensor& w, const ConvSizes& s, const Epilogue& epilogue,
               const Tensor& y, const MaxPool2dParams* pool) {
  const auto aligned = [](const Tensor& t) { return reinterpret_cast<uintptr_t>(t.raw()) % 16 == 0; };
  return fits_core(x, w, y) && StemWalk::fits(s) && !epilogue.residual.defined() && aligned(w) &&
         aligned(y) && plan_stem(x, s, y, pool, [](auto...) {});
}

template <class Kind>
simt::Launch stem_launch(const Context& context, const StemWalk& walk, const StemBands& bands) {
  return {dim3(unsigned(bands.parts * walk.groups)), dim3(Kind::kWarps * 32),
          size_t(Kind::kRows + bands.rows_of_x(bands.most) * walk.row_bytes()), stream_of(context)};
}

void run_conv2d_stem(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                     const Epilogue& epilogue, Tensor& y) {
  const ConvSizes s(x, w, y, params);
  plan_stem(x, s, y, nullptr, [&](auto zero, auto side, auto tiles, const auto& walk, const auto& bands) {
    using T = decltype(zero);
    simt::launch<conv2d_stem_rows<T, side(), tiles()>>(
        stem_launch<StemMemory<side(), tiles()>>(context, walk, bands), x.data<T>(), w.data<T>(), walk, bands,
        FastDivide(int(ceil_div(s.out_width, 16))), EpilogueView<T>(epilogue), y.data<T>());
  });
}

bool fits_conv2d_stem(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                      const Epilogue& epilogue, Tensor& y) {
  return fits_stem(x, w, ConvSizes(x, w, y, params), epilogue, y, nullptr);
}

// The sizes of the convolution under a pooling.
ConvSizes pooled_sizes(const Tensor& x, const Tensor& w, const Conv2dParams& params, const Tensor& y) {
  ConvSizes s(x, w, y, params);
  const Shape whole = conv2d_shape(x.shape(), w.shape(), params);
  s.out_height = int(whole[1]);
  s.out_width = int(whole[2]);
  return s;
}

void run_stem_max_pool(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                       const Epilogue& epilogue, const MaxPool2dParams& pool, Tensor& y) {
  const ConvSizes s = pooled_sizes(x, w, params, y);
  plan_stem(x, s, y, &pool, [&](auto zero, auto side, auto tiles, const auto& walk, const auto& bands) {
    using T = decltype(zero);
    simt::launch<conv2d_stem_max_pool<T, side(), tiles()>>(
        stem_launch<StemMemory<side(), tiles()>>(context, walk, bands), x.data<T>(), w.data<T>(), walk, bands,
        StemPool{int(y.dim(2)), pool.padding}, EpilogueView<T>(epilogue), y.data<T>());
  });
}

bool fits_stem_max_pool(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                        const Epilogue& epilogue, const MaxPool2dParams& pool, Tensor& y) {
  return pool.window == 3 && pool.stride == 2 &&
         fits_stem(x, w, pooled_sizes(x, w, params, y), epilogue, y, &pool);
}

const bool conv2d_stem_registered =
    conv2d_forward.add(kThisDevice, {{"stem", fits_conv2d_stem, run_conv2d_stem}},
                       KernelSlotBase::kOwn + 2) &&
    conv2d_max_pool_forward.add(kThisDevice, {{"stem", fits_stem_max_pool, run_stem_max_pool}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
