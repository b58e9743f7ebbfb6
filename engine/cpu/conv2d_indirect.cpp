// conv2d for constant filters, on NHWC as it lies in memory: no layout is converted, and the epilogue is
// applied while the sums are at hand.
//
// Six output pixels are the rows of a product with a panel of 16 filters (panel_gemm.h); each filter tap is a
// segment of depth C whose row pointers are the pixels under the tap, or a row of zeros in the padding. With
// few channels a segment would be too short: then the image is first copied with its padding, and a segment
// is a whole filter row, S * C long. Output pixels go through the panels in chunks that stay in the cache.
#include <algorithm>

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
  const Conv2dParams& c = p.params;
  const bool whole_rows = p.short_segments();
  const int taps = whole_rows ? 1 : p.s;
  for (int i = 0; i < count; ++i) {
    const int64_t pixel = first + i, q = pixel % p.out_width, line = pixel / p.out_width;
    const int64_t n = line / p.out_height, h0 = line % p.out_height * c.stride - c.padding,
                  w0 = q * c.stride - c.padding;
    const float* image = x + n * p.height * p.width * p.channels;
    for (int r = 0; r < p.r; ++r)
      for (int s = 0; s < taps; ++s) {
        const int64_t h = h0 + r * c.dilation, w = w0 + s * c.dilation;
        const bool inside = h >= 0 && h < p.height && w >= 0 && w < p.width;
        rows[(r * taps + s) * count + i] = inside ? image + (h * p.width + w) * p.channels : zeros;
      }
  }
}

void run(Context&, const Tensor& input, const Tensor& w, const Conv2dParams& params, const Epilogue& epilogue,
         Tensor& y) {
  Problem p{input.dim(1), input.dim(2),        input.dim(3),  w.dim(0),      y.dim(1),
            y.dim(2),     y.size() / w.dim(0), int(w.dim(1)), int(w.dim(2)), params};
  std::vector<float>& filter = packed_layouts(*params.packed).panels;
  if (filter.empty()) filter = pack_panels(w.data<float>(), p.filters, p.depth());
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
  float* out = y.data<float>();
  const EpilogueView<float> finish(epilogue);

  // A pixel of output touches about stride^2 pixels of input that its neighbours do not.
  const int64_t touched = p.channels * int64_t(sizeof(float)) * params.stride * params.stride;
  const int64_t chunk =
      std::clamp<int64_t>(kChunkBytes / touched, kPanelRows * 2, kPanelRows * 64) / kPanelRows * kPanelRows;
  const int64_t chunks = (p.pixels + chunk - 1) / chunk, panels = panel_count(p.filters);
  // Enough pieces to share out: few chunks are also split by panels.
  const int64_t groups = std::clamp<int64_t>(4 * max_threads() / chunks, 1, panels);
  parallel_for(chunks * groups, 1, [&](int64_t begin, int64_t end) {
    std::vector<const float*> rows(size_t(chunk / kPanelRows * segments * kPanelRows));
    float sums[kPanelRows][kPanelColumns];
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t first = piece / groups * chunk, last = std::min(first + chunk, p.pixels);
      const int64_t group = piece % groups;
      for (int64_t pixel = first; pixel < last; pixel += kPanelRows)
        find_rows(p, in, zeros.data(), pixel, int(std::min<int64_t>(kPanelRows, last - pixel)),
                  rows.data() + (pixel - first) * segments);
      for (int64_t panel = panels * group / groups; panel < panels * (group + 1) / groups; ++panel) {
        const int64_t k = panel * kPanelColumns;
        const int columns = int(std::min<int64_t>(kPanelColumns, p.filters - k));
        for (int64_t pixel = first; pixel < last; pixel += kPanelRows) {
          const int count = int(std::min<int64_t>(kPanelRows, last - pixel));
          multiply_panel(count, rows.data() + (pixel - first) * segments, segments, depth,
                         filter.data() + panel * panel_size, sums);
          for (int i = 0; i < count; ++i) {
            const int64_t at = (pixel + i) * p.filters + k;
            finish_columns(sums[i], finish, k, columns, at, out + at);
          }
        }
      }
    }
  });
}

bool fits(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue&,
          Tensor& y) {
  return p.packed && x.dtype() == DType::f32 && w.size() > 0 && y.size() > 0;
}

const bool registered =
    conv2d_forward.add(Device::cpu, {{"indirect_gemm", fits, run}}, KernelSlotBase::kSpecial);

}  // namespace
}  // namespace plume::cpu
