// conv2d for constant filters, on NHWC as it lies in memory: no layout is converted, and the epilogue is
// applied while the sums are at hand.
//
// Neighbouring output pixels are the rows of a product with panels of filters (panel_gemm.h); each filter tap
// is a segment of depth C whose row pointers are the pixels under the tap, or a row of zeros in the padding.
// With few channels a segment would be too short: then a segment is a whole filter row, S * C long. Output
// pixels go through the panels in chunks that stay in the cache. Gates of squeeze-excitation multiply a
// chunk's pixels on their way.
#include <algorithm>
#include <utility>

#include "engine/cpu/conv/own_conv2d.h"
#include "engine/cpu/conv/packed_layouts.h"
#include "engine/cpu/conv/panel_gemm.h"
#include "engine/cpu/parallel.h"
#include "engine/cpu/scratch.h"
#include "engine/ops/mbconv.h"

namespace plume::cpu {
namespace {

constexpr int64_t kShortSegment = 16;       // channels below which filter rows are the segments
constexpr int64_t kChunkBytes = 256 << 10;  // of input that a chunk of output pixels may touch
constexpr int64_t kLeastMacs = 64 << 10;    // multiply-adds worth a thread: a microsecond or two

struct Problem {
  int64_t height, width, channels, filters;
  int64_t out_height, out_width, pixels;
  int r, s;
  Conv2dParams params;
  const float* gates = nullptr;  // [images, channels], for every_pixel()

  int64_t depth() const { return int64_t(r) * s * channels; }
  // Output pixel i sees input pixel i and no other.
  bool every_pixel() const { return r == 1 && s == 1 && params.stride == 1 && params.padding == 0; }
  bool short_segments() const { return channels < kShortSegment && s > 1 && params.dilation == 1; }
};

// Finds the rows of the product: for output pixels their pointers into the image, [segment][row].
class RowFinder {
 public:
  // For up to `pixels` output pixels between two calls of restart().
  RowFinder(const Problem& p, const float* x, int64_t pixels)
      : p_(p),
        x_(x),
        depth_(p.short_segments() ? p.s * p.channels : p.channels),
        zeros_(p.every_pixel() ? 0 : size_t(depth_), 0.0f) {
    static thread_local Scratch<float> made;
    if (p.gates || (p.short_segments() && p.params.padding > 0)) made_ = made.get(pixels * p.r * depth_);
  }
  void restart() { next_made_ = made_; }

  // For `count` output pixels from `first` on.
  void find(int64_t first, int count, const float** rows) {
    if (p_.every_pixel()) {
      for (int i = 0; i < count; ++i)
        rows[i] = p_.gates ? gated_pixel(first + i) : x_ + (first + i) * p_.channels;
      return;
    }
    // Piece by piece of an output row.
    for (int i = 0; i < count;) {
      const int64_t line = (first + i) / p_.out_width, q = (first + i) % p_.out_width;
      const int64_t row = line % p_.out_height;
      const float* image = x_ + line / p_.out_height * p_.height * p_.width * p_.channels;
      const int length = int(std::min<int64_t>(count - i, p_.out_width - q));
      const int64_t h = row * p_.params.stride - p_.params.padding;
      if (p_.short_segments())
        find_filter_rows(image, h, q, length, rows + i, count);
      else
        find_taps(image, h, q, length, rows + i, count);
      i += length;
    }
  }

 private:
  // A segment is a tap.
  void find_taps(const float* image, int64_t h0, int64_t q, int length, const float** rows, int step) const {
    const int stride = p_.params.stride;
    for (int r = 0; r < p_.r; ++r)
      for (int s = 0; s < p_.s; ++s, rows += step) {
        const int64_t h = h0 + r * p_.params.dilation;
        const int64_t w = q * stride - p_.params.padding + s * p_.params.dilation;
        const bool row_inside = h >= 0 && h < p_.height;
        const float* pixel = image + (h * p_.width + w) * p_.channels;
        if (row_inside && w >= 0 && w + (length - 1) * stride < p_.width) {
          for (int i = 0; i < length; ++i) rows[i] = pixel + i * stride * p_.channels;
          continue;
        }
        for (int i = 0; i < length; ++i) {
          const bool inside = row_inside && w + i * stride >= 0 && w + i * stride < p_.width;
          rows[i] = inside ? pixel + i * stride * p_.channels : zeros_.data();
        }
      }
  }
  // A segment is a filter row; one that reaches over the image's edge is copied with its padding.
  void find_filter_rows(const float* image, int64_t h0, int64_t q, int length, const float** rows, int step) {
    const int stride = p_.params.stride;
    const int64_t w0 = q * stride - p_.params.padding;
    for (int r = 0; r < p_.r; ++r, rows += step) {
      const int64_t h = h0 + r;
      if (h < 0 || h >= p_.height) {
        std::fill_n(rows, length, zeros_.data());
        continue;
      }
      const float* pixels = image + (h * p_.width + w0) * p_.channels;
      for (int i = 0; i < length; ++i) rows[i] = pixels + i * stride * p_.channels;
      if (w0 >= 0 && w0 + (length - 1) * stride + p_.s <= p_.width) continue;
      for (int i = 0; i < length; ++i) {
        const int64_t w = w0 + i * stride;
        if (w < 0 || w + p_.s > p_.width) rows[i] = padded_row(rows[i], w);
      }
    }
  }
  // The filter row from column w on, where `pixels` would lie, with zeros outside the image.
  const float* padded_row(const float* pixels, int64_t w) {
    const int64_t left = std::max<int64_t>(0, -w), right = std::min<int64_t>(p_.s, p_.width - w);
    if (right <= left) return zeros_.data();
    float* const row = make_row();
    std::fill_n(row, depth_, 0.0f);
    std::copy(pixels + left * p_.channels, pixels + right * p_.channels, row + left * p_.channels);
    return row;
  }
  const float* gated_pixel(int64_t i) {
    const float* const pixel = x_ + i * p_.channels;
    const float* const gates = p_.gates + i / (p_.height * p_.width) * p_.channels;
    float* const row = make_row();
    PLUME_SIMD
    for (int64_t c = 0; c < p_.channels; ++c) row[c] = pixel[c] * gates[c];
    return row;
  }
  float* make_row() { return std::exchange(next_made_, next_made_ + depth_); }

  const Problem& p_;
  const float* x_;
  int64_t depth_;
  std::vector<float> zeros_;
  float *made_ = nullptr, *next_made_ = nullptr;  // rows that are not as they lie in memory
};

}  // namespace

const std::vector<float>& pack_for_indirect_gemm(const Tensor& w, PackedFilter& packed) {
  std::vector<float>& panels = packed_layouts(packed).panels;
  if (panels.empty()) panels = pack_panels(w.data<float>(), w.dim(0), w.size() / w.dim(0));
  return panels;
}

namespace {

void multiply(const Tensor& x, const float* gates, const Tensor& w, const Conv2dParams& params,
              const Epilogue& epilogue, Tensor& y, int64_t first_channel) {
  const Problem p{x.dim(1),      x.dim(2),      x.dim(3), w.dim(0), y.dim(1), y.dim(2), y.size() / y.dim(3),
                  int(w.dim(1)), int(w.dim(2)), params,   gates};
  const std::vector<float>& filter = pack_for_indirect_gemm(w, *params.packed);
  const int segments = p.short_segments() ? p.r : p.r * p.s;
  const int64_t depth = p.depth() / segments, panel_size = p.depth() * kPanelColumns;
  const float* in = x.data<float>();
  float* out = y.data<float>() + first_channel;
  const int64_t pitch = y.dim(3);
  const EpilogueView<float> finish(epilogue);

  const PanelKernel& kernel = panel_kernel();
  // A pixel of output touches about stride^2 pixels of input that its neighbours do not.
  const int64_t touched = p.channels * int64_t(sizeof(float)) * params.stride * params.stride;
  const int64_t most = std::clamp<int64_t>(kChunkBytes / touched, kernel.rows * 2, kernel.rows * 64);
  // Columns are split too where chunks are few, a tile's width at a time; where those are few as well, chunks
  // are shorter. As many for every thread, of whole tiles.
  const int64_t widths = ceil_div(p.filters, kernel.columns);
  int64_t chunks = ceil_div(p.pixels, most);
  const int64_t wanted = std::min<int64_t>(max_threads(), p.pixels * p.depth() * p.filters / kLeastMacs);
  if (chunks * widths < wanted) chunks = ceil_div(wanted, widths);
  if (chunks > 1) chunks = ceil_div(chunks, max_threads()) * max_threads();
  const int64_t chunk = ceil_div(ceil_div(p.pixels, chunks), kernel.rows) * kernel.rows;
  chunks = ceil_div(p.pixels, chunk);
  // Whole panels, about as many in each width.
  const auto first_filter = [&](int64_t width) {
    return std::min(panel_count(p.filters) * width / widths * kPanelColumns, p.filters);
  };
  const int64_t groups = std::clamp<int64_t>(4 * max_threads() / chunks, 1, widths);
  parallel_for(chunks * groups, 1, [&](int64_t begin, int64_t end) {
    static thread_local Scratch<const float*> pointers_of_rows;
    const float** const rows = pointers_of_rows.get(chunk * segments);
    RowFinder finder(p, in, chunk);
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t first = piece / groups * chunk, last = std::min(first + chunk, p.pixels);
      const int64_t group = piece % groups;
      const auto for_each_tile = [&](auto&& f) {
        for (int64_t pixel = first; pixel < last; pixel += kernel.rows)
          f(pixel, int(std::min<int64_t>(kernel.rows, last - pixel)),
            &rows[size_t((pixel - first) * segments)]);
      };
      finder.restart();
      for_each_tile(
          [&](int64_t pixel, int count, const float** pointers) { finder.find(pixel, count, pointers); });
      for (int64_t i = widths * group / groups; i < widths * (group + 1) / groups; ++i) {
        const int64_t k = first_filter(i);
        const int columns = int(first_filter(i + 1) - k);
        const float* panels = filter.data() + k / kPanelColumns * panel_size;
        for_each_tile([&](int64_t pixel, int count, const float** pointers) {
          kernel.multiply(count, columns, pointers, segments, depth, panels, panel_size,
                          {channel_epilogue(finish, k, pixel * pitch + k), out + pixel * pitch + k, pitch});
        });
      }
    }
  });
}

}  // namespace

void indirect_gemm(const Tensor& x, const Tensor& w, const Conv2dParams& params, const Epilogue& epilogue,
                   Tensor& y, int64_t first_channel) {
  multiply(x, nullptr, w, params, epilogue, y, first_channel);
}

namespace {

void run(Context&, const Tensor& x, const Tensor& w, const Conv2dParams& params, const Epilogue& epilogue,
         Tensor& y) {
  multiply(x, nullptr, w, params, epilogue, y, 0);
}
void run_gated(Context&, const Tensor& x, const Tensor& gate, const Tensor& w, PackedFilter* packed,
               const Epilogue& epilogue, Tensor& y) {
  multiply(x, gate.data<float>(), w, {.packed = packed}, epilogue, y, 0);
}

bool fits(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue&,
          Tensor& y) {
  return p.packed && x.dtype() == DType::f32 && w.size() > 0 && y.size() > 0;
}

bool fits_gated(const Context&, const Tensor& x, const Tensor&, const Tensor& w, PackedFilter* packed,
                const Epilogue&, Tensor& y) {
  return packed && x.dtype() == DType::f32 && w.size() > 0 && y.size() > 0;
}

const bool registered =
    conv2d_forward.add(Device::cpu, {{"indirect_gemm", fits, run}}, KernelSlotBase::kSpecial) &&
    gated_pointwise_forward.add(Device::cpu, {{"indirect_gemm", fits_gated, run_gated}},
                                KernelSlotBase::kSpecial);

}  // namespace
}  // namespace plume::cpu
