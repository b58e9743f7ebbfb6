// expand_depthwise in pieces: a thread expands some channels of some rows of an image into a buffer that
// stays in its second-level cache, and the depthwise convolution and the pooling read them from there.
//
// Of the bytes that the operations one by one move, x + 4 E + d per image (E written with its lines fetched
// first, and read), memory sees x + d. The arithmetic stays the same but for rows that two pieces need. A
// pooled image is cut by channels only, so that a piece has all pixels of its means; others by rows first.
#include <algorithm>

#include "engine/cpu/conv/own_conv2d.h"
#include "engine/cpu/conv/panel_gemm.h"
#include "engine/cpu/mean_of_pixels.h"
#include "engine/cpu/scratch.h"
#include "engine/ops/mbconv.h"

namespace plume::cpu {
namespace {

Conv2dParams depthwise_params(const ExpandDepthwiseParams& p) { return {p.stride, p.padding, 1, nullptr}; }

// Into how many bands of rows and groups of channels an image is cut.
struct Cut {
  int64_t bands, groups;
};

Cut choose_cut(int64_t images, const Shape& expanded, int64_t out_height, bool pooled) {
  constexpr int64_t kCacheBytes = 384 << 10, kPiecesPerThread = 3, kFewestRows = 4;
  const int64_t threads = max_threads(), panels = panel_count(expanded[3]);
  const int64_t bytes = expanded[1] * expanded[2] * expanded[3] * int64_t(sizeof(float));
  int64_t parts = ceil_div(bytes, kCacheBytes);
  // Images enough are shared out evenly as they are.
  if (images % threads != 0 && images < 4 * threads)
    parts = std::max(parts, ceil_div(kPiecesPerThread * threads, images));
  const int64_t bands =
      pooled ? 1 : std::clamp<int64_t>(parts, 1, std::max<int64_t>(1, out_height / kFewestRows));
  return {bands, std::clamp<int64_t>(ceil_div(parts, bands), 1, panels)};
}

// y[pixel][c] = activation(x[pixel] w[c] + shift[c]) for `columns` filters, y with as many channels.
void expand(const float* x, int64_t pixels, int64_t channels, const float* panels, int64_t columns,
            const ChannelEpilogue& epilogue, float* y) {
  const PanelKernel& kernel = panel_kernel();
  const float* rows[kMostPanelRows];
  for (int64_t c = 0; c < columns; c += kernel.columns) {
    ChannelEpilogue tile = epilogue;
    if (tile.shift) tile.shift += c;
    const int count = int(std::min<int64_t>(kernel.columns, columns - c));
    for (int64_t first = 0; first < pixels; first += kernel.rows) {
      const int height = int(std::min<int64_t>(kernel.rows, pixels - first));
      for (int i = 0; i < height; ++i) rows[i] = x + (first + i) * channels;
      kernel.multiply(height, count, rows, 1, channels, panels + c * channels, channels * kPanelColumns,
                      {tile, y + first * columns + c, columns});
    }
  }
}

void run(Context&, const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2, const Tensor& b2,
         const ExpandDepthwiseParams& p, Tensor& d, Tensor& pooled) {
  const std::vector<float>& panels = pack_for_indirect_gemm(w1, *p.packed);
  const int64_t height = x.dim(1), width = x.dim(2), channels = x.dim(3), expanded = w1.dim(0);
  const int64_t out_height = d.dim(1), out_width = d.dim(2);
  const int filter = int(w2.dim(0));
  const Cut cut = choose_cut(x.dim(0), x.shape().with(-1, expanded), out_height, pooled.defined());
  const float *px = x.data<float>(), *pw2 = w2.data<float>(), *shift1 = b1.data<float>(),
              *shift2 = b2.data<float>();
  float *out = d.data<float>(), *means = pooled.defined() ? pooled.data<float>() : nullptr;

  parallel_for(x.dim(0) * cut.bands * cut.groups, 1, [&](int64_t begin, int64_t end) {
    static thread_local Scratch<float> buffer;
    std::vector<double> sums;
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t n = piece / (cut.bands * cut.groups), band = piece / cut.groups % cut.bands,
                    group = piece % cut.groups;
      const auto first_channel = [&](int64_t g) {
        return std::min(panel_count(expanded) * g / cut.groups * kPanelColumns, expanded);
      };
      const int64_t c = first_channel(group), columns = first_channel(group + 1) - c;
      const int64_t out_begin = out_height * band / cut.bands, out_end = out_height * (band + 1) / cut.bands;
      const int64_t first = std::max<int64_t>(0, out_begin * p.stride - p.padding);
      const int64_t last = std::min<int64_t>(height, (out_end - 1) * p.stride - p.padding + filter);
      const int64_t pixels = (last - first) * width;
      float* const rows = buffer.get(pixels * columns);
      expand(px + (n * height + first) * width * channels, pixels, channels, panels.data() + c * channels,
             columns, {.shift = shift1 + c, .activation = p.expanded}, rows);
      const DepthwiseChannels depthwise(width, columns, filter, depthwise_params(p), expanded, out_width);
      for (int64_t row = out_begin; row < out_end; ++row)
        depthwise.run(rows, first, height, row, pw2 + c, {.shift = shift2 + c, .activation = p.out},
                      out + (n * out_height + row) * out_width * expanded + c);
      if (means)
        mean_of_pixels(out + n * out_height * out_width * expanded + c, out_height * out_width, columns,
                       expanded, sums, means + n * expanded + c);
    }
  });
}

bool fits(const Context&, const Tensor& x, const Tensor& w1, const Tensor&, const Tensor& w2, const Tensor&,
          const ExpandDepthwiseParams& p, Tensor& d, Tensor&) {
  return p.packed && x.dtype() == DType::f32 && x.size() > 0 && d.size() > 0 &&
         w1.dim(0) % 8 == 0 &&  // every group of channels fills a vector
         fits_depthwise_rows(x.shape().with(-1, w1.dim(0)), w2.shape(), depthwise_params(p));
}

const bool registered = expand_depthwise_forward.add(Device::cpu, {{"in_pieces", fits, run}});

}  // namespace
}  // namespace plume::cpu
