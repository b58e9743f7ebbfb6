// conv2d 3x3, stride 1, for constant filters, by Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray,
// "Fast Algorithms for Convolutional Neural Networks", 2016):
//
//   y_tile = A^T [ (G w G^T) . (B^T x_tile B) ] A,   6x6 input pixels -> 4x4 output pixels
//
// 36 products per channel pair instead of 144. The filter is transformed once (in double) and packed in
// panels; tiles of input are transformed eight channels at a time, the sums over channels are 36 matrix
// products [tiles, C] x [C, K], and the transformation back applies the epilogue.
//
// Work per 4x4 outputs: 36 C K multiply-adds, and 144 C + 100 K additions or so for the transformations: they
// matter less the more channels there are. The filter grows fourfold: with few tiles reading it is the bound,
// and the variant does not fit. Numerically the transformations add about two decimal digits to the rounding
// of a sum, relative to the largest value in a tile.
#include <algorithm>
#include <array>

#include "engine/cpu/own_conv2d.h"
#include "engine/cpu/packed_layouts.h"
#include "engine/cpu/panel_gemm.h"
#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

constexpr int kIn = 6, kOut = 4, kPositions = kIn * kIn;
constexpr int64_t kLeastTiles = 16, kLeastChannels = 16;

constexpr double kFilterTransform[kIn][3] = {{1.0 / 4, 0, 0},
                                             {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                             {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                             {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                             {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                             {0, 0, 1}};

// B^T x, for six values.
inline void transform_input(const Vector8 (&x)[kIn], Vector8 (&v)[kIn]) {
  const Vector8 even = x[4] - 4.0f * x[2], odd = x[3] - 4.0f * x[1];
  const Vector8 even2 = x[4] - x[2], odd2 = 2.0f * (x[3] - x[1]);
  v[0] = 4.0f * x[0] - 5.0f * x[2] + x[4];
  v[1] = even + odd;
  v[2] = even - odd;
  v[3] = even2 + odd2;
  v[4] = even2 - odd2;
  v[5] = 4.0f * x[1] - 5.0f * x[3] + x[5];
}

// A^T m, for six values.
inline void transform_output(const Vector8 (&m)[kIn], Vector8 (&y)[kOut]) {
  const Vector8 sum1 = m[1] + m[2], difference1 = m[1] - m[2];
  const Vector8 sum2 = m[3] + m[4], difference2 = m[3] - m[4];
  y[0] = m[0] + sum1 + sum2;
  y[1] = difference1 + 2.0f * difference2;
  y[2] = sum1 + 4.0f * sum2;
  y[3] = difference1 + 8.0f * difference2 + m[5];
}

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
  const float* image = x + tile.n * s.height * s.width * s.channels;
  const int64_t h0 = tile.p - s.padding, w0 = tile.q - s.padding;
  for (int64_t c = 0; c < s.channels; c += 8) {
    Vector8 columns[kIn][kIn];  // [w][transformed row]
    for (int j = 0; j < kIn; ++j) {
      Vector8 column[kIn];
      for (int i = 0; i < kIn; ++i) {
        const int64_t h = h0 + i, w = w0 + j;
        const bool inside = h >= 0 && h < s.height && w >= 0 && w < s.width;
        column[i] = inside ? load8(image + (h * s.width + w) * s.channels + c) : Vector8{};
      }
      transform_input(column, columns[j]);
    }
    for (int i = 0; i < kIn; ++i) {
      Vector8 row[kIn], out[kIn];
      for (int j = 0; j < kIn; ++j) row[j] = columns[j][i];
      transform_input(row, out);
      for (int j = 0; j < kIn; ++j)
        store8(v + ((i * kIn + j) * tiles + number - first) * s.channels + c, out[j]);
    }
  }
}

// From m[position][tile - first][filter], filters padded to whole panels.
void finish_tile(const Sizes& s, const float* m, int64_t number, int64_t first, int64_t tiles,
                 const EpilogueView<float>& finish, float* y) {
  const Tile tile(s, number);
  const int64_t stride = panel_count(s.filters) * kPanelColumns;
  const int64_t rows = std::min<int64_t>(kOut, s.out_height - tile.p);
  const int64_t columns = std::min<int64_t>(kOut, s.out_width - tile.q);
  for (int64_t k = 0; k < s.filters; k += kPanelColumns) {
    float values[kOut][kOut][kPanelColumns];
    for (int half = 0; half < kPanelColumns; half += 8) {
      Vector8 partial[kIn][kOut];  // [column][output row]
      for (int j = 0; j < kIn; ++j) {
        Vector8 column[kIn];
        for (int i = 0; i < kIn; ++i)
          column[i] = load8(m + ((i * kIn + j) * tiles + number - first) * stride + k + half);
        transform_output(column, partial[j]);
      }
      for (int i = 0; i < kOut; ++i) {
        Vector8 row[kIn], out[kOut];
        for (int j = 0; j < kIn; ++j) row[j] = partial[j][i];
        transform_output(row, out);
        for (int j = 0; j < kOut; ++j) store8(values[i][j] + half, out[j]);
      }
    }
    const int count = int(std::min<int64_t>(kPanelColumns, s.filters - k));
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t pixel = (tile.n * s.out_height + tile.p + i) * s.out_width + tile.q;
      finish_rows(
          values[i][0], kPanelColumns, int(columns), finish, k, count,
          [&](int j) { return (pixel + j) * s.pitch + k; }, y);
    }
  }
}

}  // namespace

void winograd_4x4(const Tensor& x, const Tensor& w, const Conv2dParams& params, const Epilogue& epilogue,
                  Tensor& y, int64_t first_channel) {
  Sizes s{x.dim(1), x.dim(2), x.dim(3), w.dim(0), y.dim(1), y.dim(2), y.dim(3), params.padding, 0, 0, 0};
  s.tile_rows = (s.out_height + kOut - 1) / kOut;
  s.tile_columns = (s.out_width + kOut - 1) / kOut;
  s.tiles = x.dim(0) * s.tile_rows * s.tile_columns;
  std::vector<float>& filter = packed_layouts(*params.packed).winograd;
  if (filter.empty()) filter = pack_filter(w.data<float>(), s.filters, s.channels);

  // A chunk of tiles is transformed, multiplied and transformed back before it leaves the cache; but each
  // chunk reads the whole filter, so it is not too small either.
  constexpr int64_t kChunkBytes = 1 << 20, kLeastChunk = 48;
  const PanelKernel& kernel = panel_kernel(panel_count(s.filters) * kPanelColumns);
  const int64_t panels = panel_count(s.filters), width = panels * kPanelColumns;
  const int64_t widths = ceil_div(width, kernel.columns), panel_size = s.channels * kPanelColumns;
  const int64_t tile_bytes = kPositions * (s.channels + width) * int64_t(sizeof(float));
  const int64_t wanted = std::max(kLeastChunk, kChunkBytes / tile_bytes);
  const int64_t chunks = (s.tiles + wanted - 1) / wanted, chunk = (s.tiles + chunks - 1) / chunks;
  Tensor buffer =
      Tensor::empty({kPositions * chunk * (s.channels + width)}, DType::f32, x.device(), "workspace");
  float* const v = buffer.data<float>();
  float* const m = v + kPositions * chunk * s.channels;
  const float* in = x.data<float>();
  float* out = y.data<float>() + first_channel;
  const EpilogueView<float> finish(epilogue);

  for (int64_t first = 0; first < s.tiles; first += chunk) {
    const int64_t tiles = std::min(chunk, s.tiles - first);
    parallel_for(tiles, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) transform_tile(s, in, first + t, first, tiles, v);
    });
    parallel_for(kPositions * widths, 1, [&](int64_t begin, int64_t end) {
      SumTile sums;
      for (int64_t i = begin; i < end; ++i) {
        const int64_t position = i / widths, k = i % widths * kernel.columns;
        const int columns = int(std::min<int64_t>(kernel.columns, width - k));
        const float* panel = filter.data() + (position * panels + k / kPanelColumns) * panel_size;
        for (int64_t t = 0; t < tiles; t += kernel.rows) {
          const int count = int(std::min<int64_t>(kernel.rows, tiles - t));
          const float* rows[kTileRows];
          for (int r = 0; r < count; ++r) rows[r] = v + (position * tiles + t + r) * s.channels;
          kernel.multiply(count, columns, rows, 1, s.channels, panel, panel_size, sums);
          for (int r = 0; r < count; ++r)
            std::copy_n(sums[r], columns, m + (position * tiles + t + r) * width + k);
        }
      }
    });
    parallel_for(tiles, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) finish_tile(s, m, first + t, first, tiles, finish, out);
    });
  }
}

bool fits_winograd_4x4(const Tensor& x, const Tensor& w, const Conv2dParams& p, const Tensor& y) {
  if (!p.packed || x.dtype() != DType::f32 || y.size() == 0) return false;
  if (w.dim(1) != 3 || w.dim(2) != 3 || p.stride != 1 || p.dilation != 1) return false;
  if (x.dim(3) % 8 != 0 || x.dim(3) < kLeastChannels || w.dim(0) < kLeastChannels) return false;
  return x.dim(0) * ((y.dim(1) + kOut - 1) / kOut) * ((y.dim(2) + kOut - 1) / kOut) >= kLeastTiles;
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
