// depthwise_conv2d in f32 for 3x3 and 5x5 filters and strides 1 and 2. Forward: depthwise_row.h says how a
// row of outputs is computed. Backward: the gradients of the input at stride 1 are convolutions too; the
// others are in depthwise_gradient_rows.h.
#include <algorithm>

#include "engine/cpu/batch_norm.h"
#include "engine/cpu/conv/own_conv2d.h"
#include "engine/cpu/conv/panel_gemm.h"
#include "engine/cpu/depthwise_gradient_rows.h"
#include "engine/cpu/depthwise_row.h"
#include "engine/cpu/parallel.h"
#include "engine/cpu/scratch.h"
#include "engine/ops/depthwise_conv2d.h"

namespace plume::cpu {
namespace {

constexpr int kLeastChannels = 8;

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

constexpr int64_t kCacheBytes = 256 << 10;  // of input rows that are used again and again

// The rows of one image that some outputs read, normalised: into memory that stays with the thread.
class NormalisedRows {
 public:
  NormalisedRows(const Normaliser& norm, const Plane& plane, int filter, int stride)
      : norm_(norm), plane_(plane), filter_(filter), stride_(stride) {}
  // As many output rows read what stays in the second-level cache.
  int64_t at_once() const {
    const int64_t line = plane_.width * plane_.channels * int64_t(sizeof(float));
    return std::max<int64_t>(1, (kCacheBytes / line - filter_) / stride_ + 1);
  }
  // For the output rows first..last-1 of the image. Returns the first row's; `top` becomes its number.
  const float* get(const float* image, int64_t first, int64_t last, int64_t& top) const {
    top = std::clamp<int64_t>(first * stride_ - plane_.padding, 0, plane_.height);
    const int64_t end =
        std::clamp<int64_t>((last - 1) * stride_ - plane_.padding + filter_, top, plane_.height);
    static thread_local Scratch<float> rows;
    const int64_t line = plane_.width * plane_.channels;
    float* const to = rows.get((end - top) * line);
    norm_(image + top * line, (end - top) * plane_.width, to);
    return to;
  }

 private:
  const Normaliser& norm_;
  const Plane& plane_;
  int filter_, stride_;
};

void normalised_forward(const Tensor& x, const Normaliser& norm, const Tensor& w, const Conv2dParams& params,
                        Tensor& y) {
  const Plane g{x.dim(1), x.dim(2), x.dim(3), y.dim(1), y.dim(2), params.padding};
  const int filter = int(w.dim(0));
  const DepthwiseChannels rows(g.width, g.channels, filter, params, g.channels, g.out_width);
  const NormalisedRows source(norm, g, filter, params.stride);
  const float *px = x.data<float>(), *pw = w.data<float>();
  float* py = y.data<float>();
  // Blocks of rows, whatever the number of threads: their borders are normalised twice.
  const int64_t most = std::min(source.at_once(), g.out_height), blocks = ceil_div(g.out_height, most);
  const int64_t length = ceil_div(g.out_height, blocks);
  parallel_for(
      y.dim(0) * blocks, std::max<int64_t>(1, grain(g, filter) / length), [&](int64_t begin, int64_t end) {
        for (int64_t block = begin; block < end; ++block) {
          const int64_t n = block / blocks, first = block % blocks * length,
                        last = std::min(first + length, g.out_height);
          if (first >= last) continue;
          int64_t top;
          const float* const in = source.get(px + n * g.height * g.width * g.channels, first, last, top);
          for (int64_t p = first; p < last; ++p)
            rows.run(in, top, g.height, p, pw, {}, py + (n * g.out_height + p) * g.out_width * g.channels);
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

// The kernels by sixteen lanes where the channels are as many.
const DepthwiseGradientKernels& gradient_kernels([[maybe_unused]] int64_t channels) {
  static constexpr DepthwiseGradientKernels kEight = depthwise_gradient_kernels<Lanes8>();
#if defined(__x86_64__)
  if (has_avx512() && channels >= depthwise_gradient_kernels_avx512.lanes)
    return depthwise_gradient_kernels_avx512;
#endif
  return kEight;
}

// Stride 2: the filter's rows that reach input row h are those with r = h + padding (mod 2).
void backward_input_stride2(const Tensor& dy, const Tensor& w, const Conv2dParams& params, Tensor& dx) {
  const int filter = int(w.dim(0));
  const int64_t height = dx.dim(1), width = dx.dim(2), channels = dx.dim(3), out_height = dy.dim(1),
                out_width = dy.dim(2);
  const float *pdy = dy.data<float>(), *pw = w.data<float>();
  float* pdx = dx.data<float>();
  const DepthwiseGradientKernels& kernels = gradient_kernels(channels);
  parallel_for(dx.dim(0) * height, row_grain(width * channels * filter / 2), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t n = row / height, top = row % height + params.padding;
      DepthwiseInputGradientRow job{
          {}, {}, 0, out_width, channels, params.padding, pdx + row * width * channels, width};
      for (int r = int(top % 2); r < filter; r += 2) {
        const int64_t p = (top - r) / 2;
        if (top < r || p >= out_height) continue;
        job.dy[job.rows] = pdy + (n * out_height + p) * out_width * channels;
        job.w[job.rows++] = pw + r * filter * channels;
      }
      if (job.rows == 0)
        std::fill_n(job.dx, width * channels, 0.0f);
      else
        kernels.input_stride2(filter, job);
    }
  });
}

// Chunks of output rows depend on the problem alone; they are added in order. Of a chunk as many rows of an
// image are summed at once as stay in the second-level cache.
void backward_weight(const Tensor& x, const Normaliser* norm, const Tensor& dy, const Conv2dParams& params,
                     Tensor& dw) {
  constexpr int64_t kChunks = 16;
  const Plane g{x.dim(1), x.dim(2), x.dim(3), dy.dim(1), dy.dim(2), params.padding};
  const int filter = int(dw.dim(0));
  const float *px = x.data<float>(), *pdy = dy.data<float>();
  const DepthwiseGradientKernels& kernels = gradient_kernels(g.channels);
  const int64_t lanes = kernels.lanes, padded = ceil_div(g.channels, lanes) * lanes;
  const int64_t rows = dy.dim(0) * g.out_height, chunks = std::min(rows, kChunks);
  const int64_t size = filter * filter * padded;
  const int64_t most =
      std::max<int64_t>(1, kCacheBytes / (params.stride * g.width * g.channels * int64_t(sizeof(float))));
  std::vector<float> partial(size_t(chunks * size), 0.0f), zeros(size_t(g.width * g.channels), 0.0f);
  parallel_for(chunks, dy.size() * filter < kElementGrain ? chunks : 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk)
      for (int64_t row = rows * chunk / chunks, stop = rows * (chunk + 1) / chunks; row < stop;) {
        const int64_t n = row / g.out_height, first = row % g.out_height;
        const int64_t last = std::min({first + most, g.out_height, first + stop - row});
        const float* in = px + n * g.height * g.width * g.channels;
        int64_t top = 0;
        if (norm) in = NormalisedRows(*norm, g, filter, params.stride).get(in, first, last, top);
        kernels.filter(
            filter, params.stride,
            {in, pdy + n * g.out_height * g.out_width * g.channels, g.height, g.width, g.channels,
             g.out_width, first, last, top, g.padding, zeros.data(), partial.data() + chunk * size});
        row += last - first;
      }
  });
  float* out = dw.data<float>();
  const int64_t whole = g.channels / lanes * lanes;
  for (int64_t i = 0; i < dw.size(); ++i) {
    const int64_t tap = i / g.channels, c = i % g.channels;
    // The last vector, where it is not whole, ends with the channels.
    const int64_t at = tap * padded + (c < whole ? c : padded - g.channels + c);
    double sum = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += double(partial[size_t(chunk * size + at)]);
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

void run_forward(Context&, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                 const Epilogue& epilogue, Tensor& y) {
  depthwise_rows(x, w, params, epilogue, y);
}
void run_backward_input(Context&, const Tensor& dy, const Tensor& w, const Conv2dParams& params, Tensor& dx) {
  params.stride == 1 ? backward_input(dy, w, params, dx) : backward_input_stride2(dy, w, params, dx);
}
void run_backward_weight(Context&, const Tensor& x, const Tensor& dy, const Conv2dParams& params,
                         Tensor& dw) {
  backward_weight(x, nullptr, dy, params, dw);
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

void normalised_depthwise_rows(const Tensor& x, const Normaliser& norm, const Tensor& w,
                               const Conv2dParams& params, Tensor& y) {
  normalised_forward(x, norm, w, params, y);
}

void normalised_depthwise_backward_weight(const Tensor& x, const Normaliser& norm, const Tensor& dy,
                                          const Conv2dParams& params, Tensor& dw) {
  backward_weight(x, &norm, dy, params, dw);
}

bool fits_depthwise_rows(const Shape& x, const Shape& w, const Conv2dParams& p) {
  return w[0] == w[1] && (w[0] == 3 || w[0] == 5) && (p.stride == 1 || p.stride == 2) && p.dilation == 1 &&
         p.padding < w[0] && x[3] >= kLeastChannels && x.elements() > 0;
}

}  // namespace plume::cpu
