// The direct loops: every dtype, stride, padding and dilation, sums in float. Operands are widened to float
// once per use of a patch, not once per product.
#include "engine/ops/conv2d.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

// The sizes of a convolution, named once.
struct Sizes {
  int64_t images, height, width, channels;       // x [N, H, W, C]
  int64_t filters, filter_height, filter_width;  // w [K, R, S, C]
  int64_t out_height, out_width;                 // y [N, P, Q, K]
  int64_t stride, padding, dilation;

  Sizes(const Shape& x, const Shape& w, const Shape& y, const Conv2dParams& p)
      : images(x[0]),
        height(x[1]),
        width(x[2]),
        channels(x[3]),
        filters(w[0]),
        filter_height(w[1]),
        filter_width(w[2]),
        out_height(y[1]),
        out_width(y[2]),
        stride(p.stride),
        padding(p.padding),
        dilation(p.dilation) {}

  int64_t taps() const { return filter_height * filter_width; }
  int64_t patch() const { return taps() * channels; }
  int64_t out_pixels() const { return images * out_height * out_width; }
};

template <class T>
std::vector<float> widened(const T* values, int64_t count) {
  std::vector<float> out(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) out[size_t(i)] = float(values[i]);
  return out;
}

// The inputs under the filter at one output pixel, [R, S, C], zero outside the image.
template <class T>
void gather_patch(const T* x, const Sizes& s, int64_t pixel, float* patch) {
  const int64_t q = pixel % s.out_width, p = pixel / s.out_width % s.out_height;
  const int64_t n = pixel / (s.out_width * s.out_height);
  for (int64_t r = 0; r < s.filter_height; ++r)
    for (int64_t t = 0; t < s.filter_width; ++t, patch += s.channels) {
      const int64_t h = p * s.stride - s.padding + r * s.dilation;
      const int64_t w = q * s.stride - s.padding + t * s.dilation;
      if (h < 0 || h >= s.height || w < 0 || w >= s.width) {
        std::fill(patch, patch + s.channels, 0.0f);
        continue;
      }
      const T* values = x + ((n * s.height + h) * s.width + w) * s.channels;
      for (int64_t c = 0; c < s.channels; ++c) patch[c] = float(values[c]);
    }
}

void run_forward(Context&, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                 const Epilogue& epilogue, Tensor& y) {
  const Sizes s(x.shape(), w.shape(), y.shape(), params);
  const int64_t length = s.patch(), filters = s.filters;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    const std::vector<float> weights = widened(w.data<T>(), w.size());
    const EpilogueView<T> finish(epilogue);
    parallel_for(s.out_pixels(), row_grain(length * filters), [&, in, out](int64_t begin, int64_t end) {
      std::vector<float> patch_of(static_cast<size_t>(length));
      const float* patch = patch_of.data();
      for (int64_t pixel = begin; pixel < end; ++pixel) {
        gather_patch(in, s, pixel, patch_of.data());
        for (int64_t k = 0; k < filters; ++k) {
          const float* filter = weights.data() + k * length;
          float sum = 0.0f;
          PLUME_SIMD_SUM(sum)
          for (int64_t i = 0; i < length; ++i) sum += patch[i] * filter[i];
          out[pixel * filters + k] = T(finish(sum, int(k), pixel * filters + k));
        }
      }
    });
  });
}

// Gathers, for one input pixel, the gradients of all outputs it went into.
void run_backward_input(Context&, const Tensor& dy, const Tensor& w, const Conv2dParams& params, Tensor& dx) {
  const Sizes s(dx.shape(), w.shape(), dy.shape(), params);
  if (dx.size() == 0) return;
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* gradient = dy.data<T>();
    T* out = dx.data<T>();
    const std::vector<float> weights = widened(w.data<T>(), w.size());
    const int64_t channels = s.channels;
    parallel_for(
        dx.size() / channels, row_grain(s.patch() * s.filters),
        [&, gradient, out](int64_t begin, int64_t end) {
          std::vector<float> sums(static_cast<size_t>(channels));
          float* sum = sums.data();
          for (int64_t pixel = begin; pixel < end; ++pixel) {
            const int64_t wi = pixel % s.width, h = pixel / s.width % s.height,
                          n = pixel / (s.width * s.height);
            std::fill(sums.begin(), sums.end(), 0.0f);
            for (int64_t r = 0; r < s.filter_height; ++r) {
              const int64_t top = h + s.padding - r * s.dilation;
              if (top < 0 || top % s.stride != 0 || top / s.stride >= s.out_height) continue;
              for (int64_t t = 0; t < s.filter_width; ++t) {
                const int64_t left = wi + s.padding - t * s.dilation;
                if (left < 0 || left % s.stride != 0 || left / s.stride >= s.out_width) continue;
                const T* from =
                    gradient +
                    ((n * s.out_height + top / s.stride) * s.out_width + left / s.stride) * s.filters;
                for (int64_t k = 0; k < s.filters; ++k) {
                  const float g = float(from[k]);
                  const float* filter = weights.data() + k * s.patch() + (r * s.filter_width + t) * channels;
                  PLUME_SIMD
                  for (int64_t c = 0; c < channels; ++c) sum[c] += g * filter[c];
                }
              }
            }
            T* row = out + pixel * channels;
            for (int64_t c = 0; c < channels; ++c) row[c] = T(sum[c]);
          }
        });
  });
}

// Each task owns a few filters and walks over all output pixels, so nothing is shared between threads. Sums
// are kept per image first: a long chain of additions in float would lose digits.
void run_backward_weight(Context&, const Tensor& x, const Tensor& dy, const Conv2dParams& params,
                         Tensor& dw) {
  constexpr int64_t kFilters = 8;
  const Sizes s(x.shape(), dw.shape(), dy.shape(), params);
  const int64_t length = s.patch(), filters = s.filters, plane = s.out_height * s.out_width;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *in = x.data<T>(), *gradient = dy.data<T>();
    dispatch_result<T>(dw.dtype(), [&](auto result) {
      using Out = decltype(result);
      Out* out = dw.data<Out>();
      const int64_t tasks = (filters + kFilters - 1) / kFilters;
      parallel_for(
          tasks, row_grain(s.out_pixels() * length), [&, in, gradient, out](int64_t begin, int64_t end) {
            std::vector<float> patch_of(static_cast<size_t>(length)), image_sum(size_t(kFilters * length));
            std::vector<float> total(image_sum.size());
            const float* patch = patch_of.data();
            for (int64_t task = begin; task < end; ++task) {
              const int64_t first = task * kFilters, count = std::min(kFilters, filters - first);
              std::fill(total.begin(), total.end(), 0.0f);
              for (int64_t n = 0; n < s.images; ++n) {
                std::fill(image_sum.begin(), image_sum.end(), 0.0f);
                for (int64_t pixel = n * plane; pixel < (n + 1) * plane; ++pixel) {
                  gather_patch(in, s, pixel, patch_of.data());
                  for (int64_t k = 0; k < count; ++k) {
                    const float g = float(gradient[pixel * filters + first + k]);
                    float* sum = image_sum.data() + k * length;
                    PLUME_SIMD
                    for (int64_t i = 0; i < length; ++i) sum[i] += g * patch[i];
                  }
                }
                for (size_t i = 0; i < total.size(); ++i) total[i] += image_sum[i];
              }
              for (int64_t i = 0; i < count * length; ++i) out[first * length + i] = Out(total[size_t(i)]);
            }
          });
    });
  });
}

const bool registered = conv2d_forward.add(Device::cpu, {{"direct", always, run_forward}}) &&
                        conv2d_backward_input.add(Device::cpu, {{"direct", always, run_backward_input}}) &&
                        conv2d_backward_weight.add(Device::cpu, {{"direct", always, run_backward_weight}});

}  // namespace
}  // namespace plume::cpu
