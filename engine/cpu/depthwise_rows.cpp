// depthwise_conv2d in f32 for 3x3 and 5x5 filters and strides 1 and 2. Forward: depthwise_row.h says how a
// row of outputs is computed. Backward: the gradients of the input are convolutions too; those of the filter
// stay in registers over a row.
#include <algorithm>

#include "engine/cpu/conv/own_conv2d.h"
#include "engine/cpu/conv/panel_gemm.h"
#include "engine/cpu/depthwise_row.h"
#include "engine/cpu/parallel.h"
#include "engine/ops/depthwise_conv2d.h"

namespace plume::cpu {
namespace {

constexpr int kLanes = 8;
constexpr float kZeros[kLanes] = {};

// Calls f(first channel) so that vectors of eight cover all channels, the last one overlapping.
template <class F>
void for_each_vector(int64_t channels, F&& f) {
  for (int64_t c = 0; c + kLanes <= channels; c += kLanes) f(c);
  if (channels % kLanes != 0) f(channels - kLanes);
}

struct Plane {
  int64_t height, width, channels, out_height, out_width;
  int padding;
};

// Rows of one image that make a piece of work worth a thread.
int64_t grain(const Plane& g, int filter) { return row_grain(g.out_width * g.channels * filter); }

void forward(const Tensor& x, const Tensor& w, const Conv2dParams& params, const Epilogue& epilogue,
             Tensor& y) {
  const Plane g{x.dim(1), x.dim(2), x.dim(3), y.dim(1), y.dim(2), params.padding};
  const DepthwiseChannels rows(g.width, g.channels, int(w.dim(0)), params, g.channels, g.out_width);
  const float *px = x.data<float>(), *pw = w.data<float>();
  float* py = y.data<float>();
  const EpilogueView<float> e(epilogue);
  parallel_for(y.dim(0) * g.out_height, grain(g, rows.filter()), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t n = row / g.out_height, at = row * g.out_width * g.channels;
      rows.run(px + n * g.height * g.width * g.channels, 0, g.height, row % g.out_height, pw,
               channel_epilogue(e, 0, at), py + at);
    }
  });
}

// Stride 1: the convolution of dy with the filter turned by 180 degrees.
void backward_input(const Tensor& dy, const Tensor& w, const Conv2dParams& params, Tensor& dx) {
  const int filter = int(w.dim(0)), taps = filter * filter;
  const int64_t channels = w.dim(2);
  Tensor turned = Tensor::empty(w.shape(), DType::f32, Device::cpu, "workspace");
  for (int tap = 0; tap < taps; ++tap)
    std::copy_n(w.data<float>() + tap * channels, channels,
                turned.data<float>() + (taps - 1 - tap) * channels);
  forward(dy, turned, {1, filter - 1 - params.padding, 1}, {}, dx);
}

// Stride 2: the taps that reach input row h are those with r = h + padding (mod 2), and the same across.
// Pixels of one parity that are neighbours read neighbouring outputs, four of them at a time.
template <int kFilter>
void backward_input_stride2(const Tensor& dy, const Tensor& w, const Conv2dParams& params, Tensor& dx) {
  const int64_t height = dx.dim(1), width = dx.dim(2), channels = dx.dim(3), out_height = dy.dim(1),
                out_width = dy.dim(2);
  const float *pdy = dy.data<float>(), *pw = w.data<float>();
  float* pdx = dx.data<float>();
  parallel_for(dx.dim(0) * height, row_grain(width * channels * kFilter / 2),
               [&](int64_t begin, int64_t end) {
                 for (int64_t row = begin; row < end; ++row) {
                   const int64_t n = row / height, h = row % height;
                   const float* image = pdy + n * out_height * out_width * channels;
                   float* out = pdx + row * width * channels;
                   const int first_r = int((h + params.padding) % 2);
                   for (int parity = 0; parity < 2; ++parity) {
                     const int first_s = (parity + params.padding) % 2;
                     for (int64_t left = parity; left < width; left += 2 * kFewColumns) {
                       const int64_t q_of_tap0 = (left + params.padding) / 2;  // minus s / 2 for the others
                       const int columns = int(std::min<int64_t>(kFewColumns, (width - left + 1) / 2));
                       for_each_vector(channels, [&](int64_t c) {
                         Vector8 sums[kFewColumns] = {};
                         for (int r = first_r; r < kFilter; r += 2) {
                           const int64_t p = (h + params.padding - r) / 2;
                           if (h + params.padding < r || p >= out_height) continue;
                           const float* line = image + p * out_width * channels + c;
                           for (int s = first_s; s < kFilter; s += 2) {
                             const Vector8 tap = load8(pw + (r * kFilter + s) * channels + c);
                             const int64_t q = q_of_tap0 - s / 2;
#pragma GCC unroll 4
                             for (int j = 0; j < kFewColumns; ++j) {
                               const bool inside = q + j >= 0 && q + j < out_width;
                               sums[j] += tap * load8(inside ? line + (q + j) * channels : kZeros);
                             }
                           }
                         }
                         for (int j = 0; j < columns; ++j)
                           store8(out + (left + 2 * j) * channels + c, sums[j]);
                       });
                     }
                   }
                 }
               });
}

// Per output row, vector of channels and filter row: the row's taps sum over the columns in registers, then
// go to the chunk's partial sums. Chunks of rows depend on the problem alone; they are added in order.
template <int kFilter, int kStride>
void backward_weight(const Tensor& x, const Tensor& dy, const Conv2dParams& params, Tensor& dw) {
  const Plane g{x.dim(1), x.dim(2), x.dim(3), dy.dim(1), dy.dim(2), params.padding};
  const float *px = x.data<float>(), *pdy = dy.data<float>();
  constexpr int64_t kChunks = 16;
  const int64_t rows = dy.dim(0) * g.out_height, size = dw.size(), chunks = std::min(rows, kChunks);
  std::vector<float> partial(size_t(chunks * size), 0.0f);
  // Columns whose taps are all inside the image, and those before and after.
  const int64_t inner_begin = std::min<int64_t>((g.padding + kStride - 1) / kStride, g.out_width);
  const int64_t inner_end =
      std::clamp<int64_t>((g.width + g.padding - kFilter) / kStride + 1, inner_begin, g.out_width);
  parallel_for(chunks, dy.size() * kFilter < kElementGrain ? chunks : 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      float* sums = partial.data() + chunk * size;
      for (int64_t row = rows * chunk / chunks; row < rows * (chunk + 1) / chunks; ++row) {
        const int64_t n = row / g.out_height, top = row % g.out_height * kStride - g.padding;
        const float* gradients = pdy + row * g.out_width * g.channels;
        const int r0 = int(std::max<int64_t>(0, -top)), r1 = int(std::min<int64_t>(kFilter, g.height - top));
        const auto taps = [&](int64_t c) {
          for (int r = r0; r < r1; ++r) {
            const float* line = px + (n * g.height + top + r) * g.width * g.channels + c;
            Vector8 sum[kFilter] = {};
            const auto column = [&](int64_t q, bool check) __attribute__((always_inline)) {
              const Vector8 gradient = load8(gradients + q * g.channels + c);
              const int64_t left = q * kStride - g.padding;
#pragma GCC unroll 5
              for (int s = 0; s < kFilter; ++s) {
                const bool inside = !check || (left + s >= 0 && left + s < g.width);
                sum[s] += gradient * load8(inside ? line + (left + s) * g.channels : kZeros);
              }
            };
            for (int64_t q = 0; q < inner_begin; ++q) column(q, true);
            for (int64_t q = inner_begin; q < inner_end; ++q) column(q, false);
            for (int64_t q = inner_end; q < g.out_width; ++q) column(q, true);
            float* to = sums + int64_t(r) * kFilter * g.channels + c;
            for (int s = 0; s < kFilter; ++s)
              store8(to + s * g.channels, load8(to + s * g.channels) + sum[s]);
          }
        };
        for (int64_t c = 0; c + kLanes <= g.channels; c += kLanes) taps(c);
        const int64_t rest = g.channels % kLanes;
        if (rest == 0) continue;
        // The overlap must not be added twice: only the new lanes of the last vector count.
        const int64_t c = g.channels - kLanes;
        std::vector<float> kept(size_t(kFilter * kFilter * kLanes));
        for (int tap = 0; tap < kFilter * kFilter; ++tap)
          std::copy_n(sums + tap * g.channels + c, kLanes, kept.data() + tap * kLanes);
        taps(c);
        for (int tap = 0; tap < kFilter * kFilter; ++tap)
          std::copy_n(kept.data() + tap * kLanes, kLanes - rest, sums + tap * g.channels + c);
      }
    }
  });
  float* out = dw.data<float>();
  for (int64_t i = 0; i < size; ++i) {
    double sum = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += double(partial[size_t(chunk * size + i)]);
    out[i] = float(sum);
  }
}

bool usable(const Tensor& x, const Tensor& w, const Conv2dParams& p) {
  return x.dtype() == DType::f32 && fits_depthwise_rows(x.shape(), w.shape(), p);
}
bool fits_forward(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue&,
                  Tensor&) {
  return usable(x, w, p);
}
bool fits_backward_input(const Context&, const Tensor& dy, const Tensor& w, const Conv2dParams& p, Tensor&) {
  return usable(dy, w, p);
}
bool fits_backward_weight(const Context&, const Tensor& x, const Tensor&, const Conv2dParams& p, Tensor& dw) {
  return usable(x, dw, p);
}

// Calls f with the filter size and the stride as constants.
template <class F>
void dispatch_filter(int64_t size, int stride, F&& f) {
  const auto with_stride = [&](auto filter) {
    if (stride == 1)
      f(filter, std::integral_constant<int, 1>{});
    else
      f(filter, std::integral_constant<int, 2>{});
  };
  if (size == 3)
    with_stride(std::integral_constant<int, 3>{});
  else
    with_stride(std::integral_constant<int, 5>{});
}

void run_forward(Context&, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                 const Epilogue& epilogue, Tensor& y) {
  depthwise_rows(x, w, params, epilogue, y);
}
void run_backward_input(Context&, const Tensor& dy, const Tensor& w, const Conv2dParams& params, Tensor& dx) {
  dispatch_filter(w.dim(0), params.stride, [&](auto filter, auto stride) {
    if constexpr (stride == 1)
      backward_input(dy, w, params, dx);
    else
      backward_input_stride2<filter>(dy, w, params, dx);
  });
}
void run_backward_weight(Context&, const Tensor& x, const Tensor& dy, const Conv2dParams& params,
                         Tensor& dw) {
  dispatch_filter(dw.dim(0), params.stride,
                  [&](auto filter, auto stride) { backward_weight<filter, stride>(x, dy, params, dw); });
}

const bool registered =
    depthwise_conv2d_forward.add(Device::cpu, {{"rows", fits_forward, run_forward}},
                                 KernelSlotBase::kSpecial) &&
    depthwise_conv2d_backward_input.add(Device::cpu, {{"rows", fits_backward_input, run_backward_input}},
                                        KernelSlotBase::kSpecial) &&
    depthwise_conv2d_backward_weight.add(Device::cpu, {{"rows", fits_backward_weight, run_backward_weight}},
                                         KernelSlotBase::kSpecial);

DepthwiseRowKernel* row_kernel(int filter, int stride, int64_t out_width, [[maybe_unused]] int64_t channels) {
  const int columns = out_width % kManyColumns == 0 ? kManyColumns : kFewColumns;
#if defined(__x86_64__)
  if (has_avx512() && channels >= 16) return depthwise_row_avx512(filter, stride, columns);
#endif
  return depthwise_row_kernel<Lanes8>(filter, stride, columns);
}

}  // namespace

DepthwiseChannels::DepthwiseChannels(int64_t width, int64_t channels, int filter, const Conv2dParams& params,
                                     int64_t pitch, int64_t out_width)
    : kernel_(row_kernel(filter, params.stride, out_width, channels)),
      width_(width),
      channels_(channels),
      pitch_(pitch),
      out_width_(out_width),
      filter_(filter),
      stride_(params.stride),
      padding_(params.padding),
      zeros_(size_t(channels), 0.0f) {}

void DepthwiseChannels::run(const float* rows, int64_t first, int64_t height, int64_t out_row, const float* w,
                            const ChannelEpilogue& epilogue, float* out) const {
  const int64_t top = out_row * stride_ - padding_;
  const int first_tap = int(std::max<int64_t>(0, -top));
  const int last_tap = int(std::min<int64_t>(filter_, height - top));
  kernel_({rows + (top + first_tap - first) * width_ * channels_, width_, channels_, first_tap, last_tap,
           padding_, w, zeros_.data(), epilogue, out, out_width_, pitch_});
}

void depthwise_rows(const Tensor& x, const Tensor& w, const Conv2dParams& params, const Epilogue& epilogue,
                    Tensor& y) {
  forward(x, w, params, epilogue, y);
}

bool fits_depthwise_rows(const Shape& x, const Shape& w, const Conv2dParams& p) {
  return w[0] == w[1] && (w[0] == 3 || w[0] == 5) && (p.stride == 1 || p.stride == 2) && p.dilation == 1 &&
         p.padding < w[0] && x[3] >= kLanes && x.elements() > 0;
}

}  // namespace plume::cpu
