// Filter gradients of first layers, of rows of x in shared memory (conv2d_stem_rows.h): conv2d
// backward_weight, "stem".
//
// rows: (filter row, word of x under it), two values each; of 3x3 filters 15 words, of 7x7 ones 77
// columns: up to 64 filters,  depth: output pixels, 16 neighbouring ones of a row at a time
//
// A block keeps its sums for all of its bands (StemShare) and leaves a slice of dw; the slices are added in
// order, f32 ones with other layers' (partial_sums.h). Of 7x7 filters five warps have 16 words each; of 3x3
// ones eight have the same words, and every eighth 16 pixels. A lane's part of a fragment of A is a word for
// each of four pixels, regrouped: the first values of two pixels are a register, the second ones another.
// Words are taken by eights, the first eight of each row before the others, so that most are neighbours. dy
// lies beside the rows of x, a pitch of an odd number of 16 bytes, and is transposed by ldmatrix.
//
// FLOPs: 2 N P Q K R S C. Bytes: x and dy once, and a slice for each block. 7x7, 64 filters, of 224x224, 256
// images: 112 us of mma.sync on an H100, 488 MB (163 us). A warp's step of 16 pixels: 16 mma, 8 loads, 4
// ldmatrix; a block's is 120 wavefronts and, for conflicts of three of ten eights and for copies, 30 more,
// beside 128 clocks of tensor cores.
#include "kernels/common/mma.h"
#include "kernels/common/row_tiling.h"
#include "kernels/conv2d_patches.h"
#include "kernels/conv2d_stem_rows.h"

namespace plume::PLUME_KERNELS {
namespace {

template <int kSide, int kTiles>
struct StemGradient {
  static constexpr int kWords = kSide * StemDepth<kSide>::kWords;  // under all rows of a filter
  static constexpr int kParts = (kWords + 15) / 16;                // 16 words to a warp
  static constexpr int kSplits = kParts == 1 ? 8 : 1;              // of the pixels
  static constexpr int kThreads = kParts * kSplits * 32;
  static constexpr int kBlocks = kSide == 3 && kTiles == 8 ? 2 : 3;  // on a multiprocessor
  static constexpr int kChunks = kTiles == 2 ? 3 : kTiles + 1;       // from pixel to pixel of dy
};

// Of those words the n-th.
template <int kSide>
struct StemWord {
  int row, word;

  __device__ __forceinline__ explicit StemWord(int n) {
    constexpr int kRow = StemDepth<kSide>::kWords, kEights = kRow / 8 * 8, kOthers = kRow - kEights;
    const int others = n - kSide * kEights;
    row = others < 0 ? n / 8 : others / kOthers;
    word = others < 0 ? n % 8 : kEights + others - row * kOthers;
  }
};

// The values of two words of the pixels, the first ones and the second ones, of those that are there.
__device__ __forceinline__ void regroup(uint32_t a, uint32_t b, uint32_t there, uint32_t& first,
                                        uint32_t& second) {
  first = ((a & 0xffffu) | b << 16) & there;
  second = (a >> 16 | (b & 0xffff0000u)) & there;
}

template <class T, int kSide, int kTiles>
__global__ void __launch_bounds__(StemGradient<kSide, kTiles>::kThreads, StemGradient<kSide, kTiles>::kBlocks)
    conv2d_stem_weight(const T* __restrict__ x, const T* __restrict__ dy, const StemWalk walk,
                       const StemBands bands, const FastDivide by_tiles, const FastDivide by_chunks,
                       float* __restrict__ partial, int64_t size) {
  using Shape = StemGradient<kSide, kTiles>;
  constexpr int kTaps = StemDepth<kSide>::kTaps;
  constexpr int kPixelBytes = 16 * Shape::kChunks;
  char* const memory = simt::dyn_smem<char>();
  StemShare share(bands, walk.groups);
  const int tiles = int(by_tiles.divisor), pixels = 16 * tiles, first_filter = share.group * kTiles * 8;
  char* const rows = memory + bands.most * pixels * kPixelBytes;
  const auto fetch = [&] {
    share.fetch<T, Shape::kThreads>(x, walk, rows);
    const int chunks = int(by_chunks.divisor);
    for (int i = int(threadIdx.x); i < share.rows * pixels * chunks; i += Shape::kThreads) {
      const int pixel = by_chunks(i), chunk = i - pixel * chunks;
      const int row = by_tiles(pixel / 16), column = pixel - row * pixels;
      const int filter = first_filter + chunk * kChunk;
      const int from = ((share.image * walk.rows + share.row + row) * walk.columns + column) * walk.filters;
      copy_chunk<true, false>(memory + (pixel * kPixelBytes + chunk * 16), dy + (from + filter),
                              column < walk.columns && filter < walk.filters ? kChunk : 0, true);
    }
    simt::async_commit();
    simt::async_wait<0>();
    __syncthreads();
  };

  const int thread = int(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int part = warp % Shape::kParts, split = warp / Shape::kParts;
  // The lane's two words, and its first pixel.
  int number[2], offset[2];
#pragma unroll
  for (int f = 0; f < 2; ++f) {
    number[f] = part * 16 + f * 8 + lane / 4;
    const StemWord<kSide> at(min(number[f], Shape::kWords - 1));
    offset[f] = at.row * walk.pitch + at.word;
  }
  const uint32_t* const words = reinterpret_cast<const uint32_t*>(rows) + walk.begin + lane % 4 * 6;
  const char* const gradients = memory + (lane / 8 % 2 * 8 + lane % 8) * kPixelBytes + lane / 16 * 16;
  float sums[2][kTiles][4] = {};

  fetch();
  while (true) {
    for (int i = split; i < share.rows * tiles; i += Shape::kSplits) {
      const int row = by_tiles(i), column = (i - row * tiles) * 16;
      const int left = walk.columns - column - lane % 4 * 2;  // pixels from the lane's first one on
      const auto there = [&](int n) { return n > 1 ? 0xffffffffu : n > 0 ? 0xffffu : 0; };
      const uint32_t* const from = words + (2 * row * walk.pitch + 3 * column);
      const char* const stage = gradients + i * 16 * kPixelBytes;
      uint32_t a[2][4];
#pragma unroll
      for (int f = 0; f < 2; ++f) {
        const uint32_t* const at = from + offset[f];
        regroup(at[0], at[3], there(left), a[f][0], a[f][1]);
        regroup(at[24], at[27], there(left - 8), a[f][2], a[f][3]);
      }
#pragma unroll
      for (int n = 0; n < kTiles; n += 2) {
        uint32_t b[4];
        ldmatrix_x4_trans(b, stage + n * 16);
#pragma unroll
        for (int f = 0; f < 2; ++f)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const uint32_t fragment[2] = {b[2 * half], b[2 * half + 1]};
            mma_m16n8k16(T{}, sums[f][n + half], a[f], fragment);
          }
      }
    }
    if (!share.go_on()) break;
    __syncthreads();  // nobody reads the band any more
    fetch();
  }

  // The splits' sums one after the other.
  float* const buffer = reinterpret_cast<float*>(memory) + lane;
  float(&all)[8 * kTiles] = reinterpret_cast<float(&)[8 * kTiles]>(sums);
#pragma unroll 1
  for (int s = 0; s + 1 < Shape::kSplits; ++s) {
    __syncthreads();
    if (split == s) {
#pragma unroll
      for (int i = 0; i < 8 * kTiles; ++i) buffer[32 * i] = all[i];
    }
    __syncthreads();
    if (split != s + 1) continue;
#pragma unroll
    for (int i = 0; i < 8 * kTiles; ++i) all[i] += buffer[32 * i];
  }
  if (split != Shape::kSplits - 1) return;
  float* const slice = partial + (int(blockIdx.x) / walk.groups) * size;
#pragma unroll
  for (int f = 0; f < 2; ++f) {
    const StemWord<kSide> at(number[f]);
#pragma unroll
    for (int i = 0; i < 4 * kTiles; ++i) {
      const int value = 2 * at.word - walk.lead + i % 4 / 2,
                filter = first_filter + i / 4 * 8 + lane % 4 * 2 + i % 2;
      if (number[f] < Shape::kWords && unsigned(value) < unsigned(kTaps) && filter < walk.filters)
        slice[(filter * kSide + at.row) * kTaps + value] = sums[f][i / 4][i % 4];
    }
  }
}

template <class F>
void choose_stem_gradient(DType dtype, int side, int64_t filters, F&& f) {
  using std::integral_constant;
  const auto with_type = [&](auto zero) {
    using Eight = integral_constant<int, 8>;
    if (side == 7) return f(zero, integral_constant<int, 7>{}, Eight{});
    constexpr integral_constant<int, 3> kThree;
    if (filters <= 16) return f(zero, kThree, integral_constant<int, 2>{});
    if (filters <= 32) return f(zero, kThree, integral_constant<int, 4>{});
    f(zero, kThree, Eight{});
  };
  dtype == DType::f16 ? with_type(f16{}) : with_type(bf16{});
}

// f(T, kSide, kTiles, walk, bands, bytes of shared memory) where the device has room for it.
template <class F>
bool plan_stem_gradient(const Tensor& x, const ConvSizes& s, F&& f) {
  bool room = false;
  choose_stem_gradient(x.dtype(), s.filter_width, s.filters, [&](auto zero, auto side, auto tiles) {
    using Shape = StemGradient<side(), tiles()>;
    const int pixels = int(ceil_div(s.out_width, 16)) * 16;
    const StemWalk walk(s, x.raw(), 0, pixels - 1, tiles() * 8);
    StemBands bands{s.images, s.out_height, 2, -s.padding, s.filter_height};
    // The splits' sums take the place of a band.
    const int row = 16 * pixels * Shape::kChunks, least = tiles() * 1024;
    const int bytes = stem_bytes(Shape::kBlocks) - bands.rows_of_x(0) * walk.row_bytes();
    room = bands.cut(bytes / (row + 2 * walk.row_bytes()), Shape::kBlocks, walk.groups);
    if (room)
      f(zero, side, tiles, walk, bands,
        std::max(bands.most * row + bands.rows_of_x(bands.most) * walk.row_bytes(), least));
  });
  return room;
}

void run_stem_weight(Context& context, const Tensor& x, const Tensor& dy, const Conv2dParams& params,
                     Tensor& dw) {
  const ConvSizes s(x, dw, dy, params);
  plan_stem_gradient(
      x, s, [&](auto zero, auto side, auto tiles, const auto& walk, const auto& bands, int bytes) {
        using T = decltype(zero);
        constexpr int kThreads = StemGradient<side(), tiles()>::kThreads;
        const bool whole = bands.parts == 1 && dw.dtype() == DType::f32;
        const Shape parts{bands.parts, dw.size()};
        Tensor partial = whole ? dw : Tensor::empty(parts, DType::f32, dw.device(), "workspace");
        simt::launch<conv2d_stem_weight<T, side(), tiles()>>(
            {dim3(unsigned(bands.parts * walk.groups)), dim3(kThreads), size_t(bytes), stream_of(context)},
            x.data<T>(), dy.data<T>(), walk, bands, FastDivide(int(ceil_div(s.out_width, 16))),
            FastDivide(std::min(s.filters / kChunk, int(tiles()))), partial.data<float>(), dw.size());
        if (!whole) finish_gradient<T>(context, partial, bands.parts, dw);
      });
}

bool fits_stem_weight(const Context&, const Tensor& x, const Tensor& dy, const Conv2dParams& params,
                      Tensor& dw) {
  const ConvSizes s(x, dw, dy, params);
  return fits_core(x, dw, dy) && StemWalk::fits(s) && reinterpret_cast<uintptr_t>(dy.raw()) % 16 == 0 &&
         plan_stem_gradient(x, s, [](auto...) {});
}

const bool conv2d_stem_gradient_registered = conv2d_backward_weight.add(
    kThisDevice, {{"stem", fits_stem_weight, run_stem_weight}}, KernelSlotBase::kOwn + 2);

}  // namespace
}  // namespace plume::PLUME_KERNELS
