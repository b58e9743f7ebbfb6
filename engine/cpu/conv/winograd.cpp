// conv2d 3x3, stride 1, for constant filters, by Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray,
// "Fast Algorithms for Convolutional Neural Networks", 2016):
//
//   y_tile = A^T [ (G w G^T) . (B^T x_tile B) ] A,   6x6 input pixels -> 4x4 output pixels
//
// 36 products per channel pair instead of 144. The filter is transformed once (in double) and packed in
// panels; tiles of input are transformed a vector of channels at a time (winograd_tile.h), the sums over
// channels are 36 matrix products [tiles, C] x [C, K], and the transformation back applies the epilogue.
//
// Work per 4x4 outputs: 36 C K multiply-adds, and 144 C + 100 K additions or so for the transformations: they
// matter less the more channels there are. What is transformed must stay in the second-level cache of the
// core that uses it: products are computed for 48 output channels at a time and transformed back at once, and
// with tiles enough every thread takes its own chunk of them from input to output. The filter, fourfold as
// large, is then read once per chunk; with few tiles it is the bound, so the threads share the tiles and
// split the filters.
//
// Numerically the transformations add about two decimal digits to the rounding of a sum, relative to the
// largest value in a tile.
#include <algorithm>
#include <array>
#include <vector>

#include "engine/cpu/conv/own_conv2d.h"
#include "engine/cpu/conv/packed_layouts.h"
#include "engine/cpu/conv/panel_gemm.h"
#include "engine/cpu/conv/winograd_tile.h"
#include "engine/cpu/parallel.h"
#include "engine/cpu/scratch.h"

namespace plume::cpu {
namespace {

constexpr int kIn = kWinogradIn, kOut = kWinogradOut, kPositions = kWinogradPositions;
constexpr int64_t kLeastTiles = 16, kLeastChannels = 16;
constexpr int64_t kBlock = 48;  // most filters at a time: a tile's width of the widest kernel

constexpr double kFilterTransform[kIn][3] = {{1.0 / 4, 0, 0},
                                             {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                             {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                             {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                             {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                             {0, 0, 1}};

// w [K, 3, 3, C] as [position][panel][C][16].
std::vector<float> pack_filter(const float* w, int64_t filters, int64_t channels) {
  const int64_t position_size = panel_count(filters) * channels * kPanelColumns;
  std::vector<float> packed(size_t(kPositions * position_size), 0.0f);
  parallel_for(filters, 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k)
      for (int64_t c = 0; c < channels; ++c) {
        double half[kIn][3] = {};
        for (int i = 0; i < kIn; ++i)
          for (int s = 0; s < 3; ++s)
            for (int r = 0; r < 3; ++r)
              half[i][s] += kFilterTransform[i][r] * double(w[((k * 3 + r) * 3 + s) * channels + c]);
        const int64_t place = (k / kPanelColumns * channels + c) * kPanelColumns + k % kPanelColumns;
        for (int i = 0; i < kIn; ++i)
          for (int j = 0; j < kIn; ++j) {
            double value = 0;
            for (int s = 0; s < 3; ++s) value += half[i][s] * kFilterTransform[j][s];
            packed[size_t((i * kIn + j) * position_size + place)] = float(value);
          }
      }
  });
  return packed;
}

struct Sizes {
  int64_t height, width, channels, filters, out_height, out_width, pitch;  // pitch: the output's channels
  int padding;
  int64_t tile_rows, tile_columns, tiles;
};

struct Tile {
  int64_t n, p, q;  // its image and its first output pixel
  Tile(const Sizes& s, int64_t number)
      : n(number / (s.tile_rows * s.tile_columns)),
        p(number / s.tile_columns % s.tile_rows * kOut),
        q(number % s.tile_columns * kOut) {}
};

// v[position][tile - first][channel]
void transform_tile(const Sizes& s, const float* x, int64_t number, int64_t first, int64_t tiles, float* v) {
  const Tile tile(s, number);
  const WinogradInput input{x + tile.n * s.height * s.width * s.channels,
                            s.height,
                            s.width,
                            s.channels,
                            tile.p - s.padding,
                            tile.q - s.padding,
                            v + (number - first) * s.channels,
                            tiles * s.channels};
#if defined(__x86_64__)
  if (has_avx512() && s.channels >= 16) return winograd_input_avx512(input);
#endif
  winograd_input<Lanes8>(input);
}

// From m[position][tile - first][kBlock], the filters from `k` on: `count` of them exist.
void transform_back(const Sizes& s, const float* m, int64_t number, int64_t first, int64_t tiles, int64_t k,
                    int64_t count, const EpilogueView<float>& e, float* y) {
  const Tile tile(s, number);
  const int64_t at = ((tile.n * s.out_height + tile.p) * s.out_width + tile.q) * s.pitch + k;
  const WinogradOutput output{m + (number - first) * kBlock,
                              tiles * kBlock,
                              count,
                              int(std::min<int64_t>(kOut, s.out_height - tile.p)),
                              int(std::min<int64_t>(kOut, s.out_width - tile.q)),
                              y + at,
                              s.pitch,
                              s.out_width * s.pitch,
                              channel_epilogue(e, k, at)};
#if defined(__x86_64__)
  if (has_avx512() && count >= 16) return winograd_output_avx512(output);
#endif
  winograd_output<Lanes8>(output);
}

// What the threads share.
struct Job {
  const Sizes& s;
  const PanelKernel& kernel;
  const float* x;
  const float* filter;
  const EpilogueView<float>& finish;
  float* y;

  int64_t blocks() const { return ceil_div(s.filters, kBlock); }
  // The first filter of a block: of whole panels, as many in each as can be.
  int64_t first_filter(int64_t block) const {
    return std::min(panel_count(s.filters) * block / blocks() * kPanelColumns, s.filters);
  }

  // Products of the tiles first..first+tiles-1 in v with the filters of one block, and their way back; m
  // holds kPositions * tiles * kBlock values.
  void multiply(const float* v, int64_t first, int64_t tiles, int64_t block, float* m) const {
    const int64_t k = first_filter(block), count = first_filter(block + 1) - k;
    const int64_t panels = panel_count(s.filters), panel_size = s.channels * kPanelColumns;
    const int64_t padded = panel_count(count) * kPanelColumns;
    const float* rows[kMostPanelRows];
    for (int64_t position = 0; position < kPositions; ++position)
      for (int64_t c = 0; c < padded; c += kernel.columns) {
        const float* panel = filter + (position * panels + (k + c) / kPanelColumns) * panel_size;
        const int columns = int(std::min<int64_t>(kernel.columns, padded - c));
        for (int64_t t = 0; t < tiles; t += kernel.rows) {
          const int n = int(std::min<int64_t>(kernel.rows, tiles - t));
          const int64_t row = position * tiles + t;
          for (int r = 0; r < n; ++r) rows[r] = v + (row + r) * s.channels;
          kernel.multiply(n, columns, rows, 1, s.channels, panel, panel_size,
                          {{}, m + row * kBlock + c, kBlock});
        }
      }
    for (int64_t t = 0; t < tiles; ++t) transform_back(s, m, first + t, first, tiles, k, count, finish, y);
  }
};

}  // namespace

void winograd_4x4(const Tensor& x, const Tensor& w, const Conv2dParams& params, const Epilogue& epilogue,
                  Tensor& y, int64_t first_channel) {
  Sizes s{x.dim(1), x.dim(2), x.dim(3), w.dim(0), y.dim(1), y.dim(2), y.dim(3), params.padding, 0, 0, 0};
  s.tile_rows = ceil_div(s.out_height, kOut);
  s.tile_columns = ceil_div(s.out_width, kOut);
  s.tiles = x.dim(0) * s.tile_rows * s.tile_columns;
  std::vector<float>& filter = packed_layouts(*params.packed).winograd;
  if (filter.empty()) filter = pack_filter(w.data<float>(), s.filters, s.channels);
  const EpilogueView<float> finish(epilogue);
  const Job job{s, panel_kernel(), x.data<float>(), filter.data(), finish, y.data<float>() + first_channel};

  // Chunks fit into the second-level cache, unless each of them would read a filter from memory for less than
  // kLeastChunk tiles.
  constexpr int64_t kChunkBytes = 512 << 10, kLeastChunk = 32, kLeastShare = 24;
  const int64_t tile_bytes = kPositions * (s.channels + kBlock) * int64_t(sizeof(float));
  const int64_t wanted = std::max(kLeastChunk, kChunkBytes / tile_bytes);
  const bool share_tiles = s.tiles < kLeastShare * max_threads();
  int64_t chunks = ceil_div(s.tiles, wanted);
  if (!share_tiles) chunks = ceil_div(chunks, max_threads()) * max_threads();
  const int64_t chunk = ceil_div(s.tiles, chunks);
  chunks = ceil_div(s.tiles, chunk);

  const int64_t v_size = kPositions * chunk * s.channels, m_size = kPositions * chunk * kBlock;
  if (share_tiles) {
    Tensor shared = Tensor::empty({v_size}, DType::f32, x.device(), "workspace");
    float* v = shared.data<float>();
    for (int64_t first = 0; first < s.tiles; first += chunk) {
      const int64_t tiles = std::min(chunk, s.tiles - first);
      parallel_for(tiles, 1, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) transform_tile(s, job.x, first + t, first, tiles, v);
      });
      parallel_for(job.blocks(), 1, [&](int64_t begin, int64_t end) {
        static thread_local Scratch<float> own;
        float* const m = own.get(m_size);
        for (int64_t i = begin; i < end; ++i) job.multiply(v, first, tiles, i, m);
      });
    }
    return;
  }
  parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
    static thread_local Scratch<float> own;
    float *const v = own.get(v_size + m_size), *const m = v + v_size;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * chunk, tiles = std::min(chunk, s.tiles - first);
      for (int64_t t = 0; t < tiles; ++t) transform_tile(s, job.x, first + t, first, tiles, v);
      for (int64_t block = 0; block < job.blocks(); ++block) job.multiply(v, first, tiles, block, m);
    }
  });
}

bool fits_winograd_4x4(const Tensor& x, const Tensor& w, const Conv2dParams& p, const Tensor& y) {
  if (!p.packed || x.dtype() != DType::f32 || y.size() == 0) return false;
  if (w.dim(1) != 3 || w.dim(2) != 3 || p.stride != 1 || p.dilation != 1) return false;
  if (x.dim(3) < kLeastChannels || w.dim(0) < kLeastChannels) return false;
  return x.dim(0) * ceil_div(y.dim(1), kOut) * ceil_div(y.dim(2), kOut) >= kLeastTiles;
}

namespace {

void run(Context&, const Tensor& x, const Tensor& w, const Conv2dParams& params, const Epilogue& epilogue,
         Tensor& y) {
  winograd_4x4(x, w, params, epilogue, y, 0);
}
bool fits(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams& params, const Epilogue&,
          Tensor& y) {
  return fits_winograd_4x4(x, w, params, y);
}

const bool registered =
    conv2d_forward.add(Device::cpu, {{"winograd_4x4", fits, run}}, KernelSlotBase::kSpecial + 1);

}  // namespace
}  // namespace plume::cpu
