// conv2d for constant filters, on NHWC as it lies in memory: no layout is converted, and the epilogue is
// applied while the sums are at hand.
//
// Neighbouring output pixels are the rows of a product with panels of filters (panel_gemm.h); each filter tap is a
// segment of depth C whose row pointers are the pixels under the tap, or a row of zeros in the padding. With
// few channels a segment would be too short: then the image is first copied with its padding, and a segment
// is a whole filter row, S * C long. Output pixels go through the panels in chunks that stay in the cache.
#include <algorithm>

#include "engine/cpu/own_conv2d.h"
#include "engine/cpu/packed_layouts.h"
#include "engine/cpu/panel_gemm.h"
#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

constexpr int64_t kShortSegment = 16;       // channels below which filter rows are the segments
constexpr int64_t kChunkBytes = 256 << 10;  // of input that a chunk of output pixels may touch

struct Problem {
  int64_t height, width, channels, filters;
  int64_t out_height, out_width, pixels;
  int r, s;
  Conv2dParams params;

  int64_t depth() const { return int64_t(r) * s * channels; }
  // Output pixel i sees input pixel i and no other.
  bool every_pixel() const { return r == 1 && s == 1 && params.stride == 1 && params.padding == 0; }
  bool short_segments() const { return channels < kShortSegment && s > 1 && params.dilation == 1; }
};

// The image with its padding written out, [N, H + 2 pad, W + 2 pad, C].
Tensor padded(const Tensor& x, int padding) {
  const int64_t rows = x.dim(1) + 2 * padding, row = (x.dim(2) + 2 * padding) * x.dim(3);
  const int64_t inner = x.dim(2) * x.dim(3), offset = padding * x.dim(3);
  Tensor out =
      Tensor::empty({x.dim(0), rows, x.dim(2) + 2 * padding, x.dim(3)}, DType::f32, x.device(), "workspace");
  const float* from = x.data<float>();
  float* to = out.data<float>();
  parallel_for(x.dim(0) * rows, row_grain(row), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* line = to + i * row;
      const int64_t h = i % rows - padding;
      if (h < 0 || h >= x.dim(1)) {
        std::fill_n(line, row, 0.0f);
        continue;
      }
      std::fill_n(line, offset, 0.0f);
      std::copy_n(from + (i / rows * x.dim(1) + h) * inner, inner, line + offset);
      std::fill_n(line + offset + inner, row - offset - inner, 0.0f);
    }
  });
  return out;
}

// The row pointers of `count` output pixels from `first` on: [segment][row].
void find_rows(const Problem& p, const float* x, const float* zeros, int64_t first, int count,
               const float** rows) {
  if (p.every_pixel()) {
    for (int i = 0; i < count; ++i) rows[i] = x + (first + i) * p.channels;
    return;
  }
  const Conv2dParams& c = p.params;
  const int taps = p.short_segments() ? 1 : p.s;
  const int64_t line = first / p.out_width;
  int64_t q = first % p.out_width, row = line % p.out_height;
  const float* image = x + line / p.out_height * p.height * p.width * p.channels;
  for (int i = 0; i < count; ++i) {
    const int64_t h0 = row * c.stride - c.padding, w0 = q * c.stride - c.padding;
    const float* corner = image + (h0 * p.width + w0) * p.channels;
    for (int r = 0; r < p.r; ++r)
      for (int s = 0; s < taps; ++s) {
        const int64_t h = r * c.dilation, w = s * c.dilation;
        const bool inside =
            c.padding == 0 || (h0 + h >= 0 && h0 + h < p.height && w0 + w >= 0 && w0 + w < p.width);
        rows[(r * taps + s) * count + i] = inside ? corner + (h * p.width + w) * p.channels : zeros;
      }
    if (++q < p.out_width) continue;
    q = 0;
    if (++row < p.out_height) continue;
    row = 0;
    image += p.height * p.width * p.channels;
  }
}

}  // namespace

void pack_for_indirect_gemm(const Tensor& w, PackedFilter& packed) {
  std::vector<float>& panels = packed_layouts(packed).panels;
  if (panels.empty()) panels = pack_panels(w.data<float>(), w.dim(0), w.size() / w.dim(0));
}

void indirect_gemm(const Tensor& input, const Tensor& w, const Conv2dParams& params, const Epilogue& epilogue,
                   Tensor& y, int64_t first_channel) {
  Problem p{input.dim(1), input.dim(2),        input.dim(3),  w.dim(0),      y.dim(1),
            y.dim(2),     y.size() / y.dim(3), int(w.dim(1)), int(w.dim(2)), params};
  pack_for_indirect_gemm(w, *params.packed);
  const std::vector<float>& filter = packed_layouts(*params.packed).panels;
  Tensor x = input;
  if (p.short_segments() && params.padding > 0) {
    x = padded(input, params.padding);
    p.height = x.dim(1);
    p.width = x.dim(2);
    p.params.padding = 0;
  }
  const int segments = p.short_segments() ? p.r : p.r * p.s;
  const int64_t depth = p.depth() / segments, panel_size = p.depth() * kPanelColumns;
  const std::vector<float> zeros(size_t(depth), 0.0f);
  const float* in = x.data<float>();
  float* out = y.data<float>() + first_channel;
  const int64_t pitch = y.dim(3);
  const EpilogueView<float> finish(epilogue);

  const PanelKernel& kernel = panel_kernel(p.filters);
  // A pixel of output touches about stride^2 pixels of input that its neighbours do not.
  const int64_t touched = p.channels * int64_t(sizeof(float)) * params.stride * params.stride;
  const int64_t most = std::clamp<int64_t>(kChunkBytes / touched, kernel.rows * 2, kernel.rows * 64);
  // As many chunks for every thread, of whole tiles.
  int64_t chunks = ceil_div(p.pixels, most);
  if (chunks > 1) chunks = ceil_div(chunks, max_threads()) * max_threads();
  const int64_t chunk = ceil_div(ceil_div(p.pixels, chunks), kernel.rows) * kernel.rows;
  chunks = ceil_div(p.pixels, chunk);
  // Few chunks are also split by columns, a tile's width at a time, for enough pieces to share out.
  const int64_t widths = ceil_div(p.filters, kernel.columns);
  const int64_t groups = std::clamp<int64_t>(4 * max_threads() / chunks, 1, widths);
  parallel_for(chunks * groups, 1, [&](int64_t begin, int64_t end) {
    std::vector<const float*> rows(size_t(chunk * segments));
    SumTile sums;
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t first = piece / groups * chunk, last = std::min(first + chunk, p.pixels);
      const int64_t group = piece % groups;
      const auto for_each_tile = [&](auto&& f) {
        for (int64_t pixel = first; pixel < last; pixel += kernel.rows)
          f(pixel, int(std::min<int64_t>(kernel.rows, last - pixel)),
            &rows[size_t((pixel - first) * segments)]);
      };
      for_each_tile([&](int64_t pixel, int count, const float** pointers) {
        find_rows(p, in, zeros.data(), pixel, count, pointers);
      });
      for (int64_t i = widths * group / groups; i < widths * (group + 1) / groups; ++i) {
        const int64_t k = i * kernel.columns;
        const int columns = int(std::min<int64_t>(kernel.columns, p.filters - k));
        const float* panels = filter.data() + k / kPanelColumns * panel_size;
        for_each_tile([&](int64_t pixel, int count, const float** pointers) {
          kernel.multiply(count, columns, pointers, segments, depth, panels, panel_size, sums);
          finish_rows(
              sums[0], kTileColumns, count, finish, k, columns,
              [&](int j) { return (pixel + j) * pitch + k; }, out);
        });
      }
    }
  });
}

namespace {

void run(Context&, const Tensor& x, const Tensor& w, const Conv2dParams& params, const Epilogue& epilogue,
         Tensor& y) {
  indirect_gemm(x, w, params, epilogue, y, 0);
}

bool fits(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue&,
          Tensor& y) {
  return p.packed && x.dtype() == DType::f32 && w.size() > 0 && y.size() > 0;
}

const bool registered =
    conv2d_forward.add(Device::cpu, {{"indirect_gemm", fits, run}}, KernelSlotBase::kSpecial);

}  // namespace
}  // namespace plume::cpu
