// Training reads x twice: once for the statistics and once to normalise; the gradient reads x, dy (and y)
// twice. The inner loops run over channels, so they are unit-stride vectors in NHWC.
#include "engine/cpu/batch_norm.h"

#include <cmath>

#include "engine/cpu/parallel.h"
#include "engine/ops/stochastic_depth.h"

namespace plume::cpu {
namespace {

// y = activation((x - mean) * scale + beta + residual) with scale = gamma * inv_std, or with kKept
// activation((x - mean) * scale + beta) * kept[image] + residual
template <class T, bool kResidual, bool kKept, Activation kActivation>
void normalise_rows(const T* x, const T* residual, const float* mean, const float* scale, const float* beta,
                    const std::vector<float>& kept, int64_t rows, int64_t channels, T* y) {
  const float* factors = kept.data();
  const int64_t plane = kKept ? rows / int64_t(kept.size()) : 1;
  parallel_for(rows, row_grain(channels), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = row * channels;
      const float factor = kKept ? factors[row / plane] : 1.0f;
      PLUME_SIMD
      for (int64_t c = 0; c < channels; ++c) {
        float v = (float(x[first + c]) - mean[c]) * scale[c] + beta[c];
        if constexpr (kResidual && !kKept) v += float(residual[first + c]);
        v = activate(kActivation, v);
        if constexpr (kKept) v = v * factor + float(residual[first + c]);
        y[first + c] = T(v);
      }
    }
  });
}

// Of every image; nothing where none are dropped.
std::vector<float> scales_of(const SampleDrop& drop, int64_t images) {
  std::vector<float> scales;
  for (int64_t n = 0; drop.state.defined() && n < images; ++n)
    scales.push_back(stochastic_depth_scale(drop.state.data<int64_t>(), drop.params, n));
  return scales;
}

void normalise(const Tensor& x, const Tensor& residual, const float* mean, const float* inv_std,
               const float* gamma, const float* beta, Activation activation, Tensor& y,
               const std::vector<float>& kept = {}) {
  const int64_t channels = x.dim(-1);
  std::vector<float> scale(static_cast<size_t>(channels));
  for (int64_t c = 0; c < channels; ++c) scale[size_t(c)] = gamma[c] * inv_std[c];
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* extra = residual.defined() ? residual.data<T>() : nullptr;
    dispatch_activation(activation, [&](auto kind) {
      const auto run = !kept.empty() ? normalise_rows<T, true, true, kind>
                       : extra       ? normalise_rows<T, true, false, kind>
                                     : normalise_rows<T, false, false, kind>;
      run(x.data<T>(), extra, mean, scale.data(), beta, kept, x.size() / channels, channels, y.data<T>());
    });
  });
}

// Sums of (x - shift) and (x - shift)^2 per channel. With the mean of a few samples as the shift nothing
// cancels when the mean is large beside the deviation.
template <class T>
std::vector<double> shifted_moments(const T* x, const float* shift, int64_t rows, int64_t channels) {
  return rows_sum<2>(rows, channels, [=](int64_t first, int64_t last, float* partial) {
    float *sum = partial, *squares = partial + channels;
    int64_t row = first;
    for (; row + 4 <= last; row += 4) {  // four rows per visit of the sums
      const T *x0 = x + row * channels, *x1 = x0 + channels, *x2 = x1 + channels, *x3 = x2 + channels;
      PLUME_SIMD
      for (int64_t c = 0; c < channels; ++c) {
        const float a = float(x0[c]) - shift[c], b = float(x1[c]) - shift[c];
        const float d = float(x2[c]) - shift[c], e = float(x3[c]) - shift[c];
        sum[c] += (a + b) + (d + e);
        squares[c] += (a * a + b * b) + (d * d + e * e);
      }
    }
    for (; row < last; ++row)
      for (int64_t c = 0; c < channels; ++c) {
        const float a = float(x[row * channels + c]) - shift[c];
        sum[c] += a;
        squares[c] += a * a;
      }
  });
}

// The gradient before the activation. Dy: T, or float where dy was made of several.
template <class T, class Dy, Activation kActivation>
struct GradientBefore {
  const T *x, *y;
  const Dy* dy;
  const float *mean, *scale, *beta;  // scale = gamma * inv_std

  float operator()(int64_t i, int64_t c) const {
    if constexpr (kActivation == Activation::identity)
      return float(dy[i]);
    else if constexpr (slope_needs_input(kActivation))
      return through_slope(kActivation, float(dy[i]), (float(x[i]) - mean[c]) * scale[c] + beta[c], 0.0f);
    else
      return through_slope(kActivation, float(dy[i]), 0.0f, float(y[i]));
  }
};

// Sums of dz and dz * (x - mean).
template <class T, class Dz>
std::vector<double> gradient_moments(const T* x, const Dz& dz, const float* mean, int64_t rows,
                                     int64_t channels) {
  return rows_sum<2>(rows, channels, [=](int64_t first, int64_t last, float* partial) {
    float *sum = partial, *product = partial + channels;
    int64_t row = first;
    for (; row + 2 <= last; row += 2) {
      const int64_t i = row * channels, j = i + channels;
      PLUME_SIMD
      for (int64_t c = 0; c < channels; ++c) {
        const float a = dz(i + c, c), b = dz(j + c, c);
        sum[c] += a + b;
        product[c] += a * (float(x[i + c]) - mean[c]) + b * (float(x[j + c]) - mean[c]);
      }
    }
    for (; row < last; ++row)
      for (int64_t c = 0; c < channels; ++c) {
        const float a = dz(row * channels + c, c);
        sum[c] += a;
        product[c] += a * (float(x[row * channels + c]) - mean[c]);
      }
  });
}

// dx = a * dz + b * (x - mean) + d, and dresidual = dz unless null
template <class T, bool kResidual, class Dz>
void gradient_rows(const T* x, const Dz& gradient, const float* mean, const float* a, const float* b,
                   const float* d, int64_t rows, int64_t channels, T* dx, T* dresidual) {
  parallel_for(rows, row_grain(channels), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = row * channels;
      PLUME_SIMD
      for (int64_t c = 0; c < channels; ++c) {
        const float dz = gradient(first + c, c);
        dx[first + c] = T(a[c] * dz + (b[c] * (float(x[first + c]) - mean[c]) + d[c]));
        if constexpr (kResidual) dresidual[first + c] = T(dz);
      }
    }
  });
}

// Calls f with the GradientBefore that fits; `scale` (gamma * inv_std) outlives it.
template <class F>
void with_gradient(const GradientSource& from, const std::vector<float>& scale, F&& f) {
  dispatch_floating(from.x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    dispatch_activation(from.activation, [&](auto kind) {
      dispatch_result<T>(from.dy.dtype(), [&](auto given) {
        using Dy = decltype(given);
        f(GradientBefore<T, Dy, decltype(kind)::value>{
            from.x.data<T>(), from.y.defined() ? from.y.data<T>() : nullptr, from.dy.data<Dy>(),
            from.mean.data<float>(), scale.data(), from.beta.data<float>()});
      });
    });
  });
}

std::vector<float> scale_of(const GradientSource& from) {
  std::vector<float> scale(size_t(from.channels()));
  for (size_t c = 0; c < scale.size(); ++c)
    scale[c] = from.gamma.data<float>()[c] * from.inv_std.data<float>()[c];
  return scale;
}

}  // namespace

ChannelMoments channel_moments(const Tensor& x) {
  const int64_t channels = x.dim(-1), rows = x.size() / channels;
  std::vector<float> shift(static_cast<size_t>(channels));
  const auto sums = dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* values = x.data<T>();
    const int64_t samples = std::min<int64_t>(rows, 16);
    for (int64_t row = 0; row < samples; ++row)
      for (int64_t c = 0; c < channels; ++c)
        shift[size_t(c)] += float(values[row * channels + c]) / float(samples);
    return shifted_moments(values, shift.data(), rows, channels);
  });
  ChannelMoments moments{std::vector<double>(size_t(channels)), std::vector<double>(size_t(channels))};
  for (size_t c = 0; c < size_t(channels); ++c) {
    const double offset = sums[c] / double(rows);
    const double m2 = sums[size_t(channels) + c] - offset * offset * double(rows);
    moments.mean[c] = double(shift[c]) + offset;
    moments.m2[c] = m2 < 0.0 ? 0.0 : m2;  // rounding; NaN passes
  }
  return moments;
}

void Statistics::set(int64_t c, double count, double centre, double m2, const BatchNormParams& params) {
  mean.data<float>()[c] = float(centre);
  inv_std.data<float>()[c] = float(1.0 / std::sqrt(m2 / count + double(params.eps)));
  float& moving_mean = running_mean.data<float>()[c];
  float& moving_var = running_var.data<float>()[c];
  moving_mean = (1.0f - params.momentum) * moving_mean + params.momentum * float(centre);
  moving_var = (1.0f - params.momentum) * moving_var + params.momentum * float(m2 / std::max(count - 1, 1.0));
}

std::vector<double> gradient_sums(const GradientSource& from) {
  const std::vector<float> scale = scale_of(from);
  std::vector<double> sums;
  with_gradient(from, scale, [&](const auto& dz) {
    sums = gradient_moments(dz.x, dz, dz.mean, from.rows(), from.channels());
  });
  for (size_t c = 0; c < scale.size(); ++c) sums[scale.size() + c] *= double(from.inv_std.data<float>()[c]);
  return sums;
}

void input_gradient(const GradientSource& from, const std::vector<double>& means, Tensor& dx,
                    Tensor& dresidual) {
  const std::vector<float> a = scale_of(from);
  std::vector<float> b(a.size()), d(a.size());
  for (size_t c = 0; c < a.size(); ++c) {
    const double inverse = double(from.inv_std.data<float>()[c]);
    const double slope = double(from.gamma.data<float>()[c]) * inverse;
    b[c] = float(-slope * means[a.size() + c] * inverse);
    d[c] = float(-slope * means[c]);
  }
  with_gradient(from, a,
                [&]<class T, class Dy, Activation kActivation>(const GradientBefore<T, Dy, kActivation>& dz) {
                  T* extra = dresidual.defined() ? dresidual.data<T>() : nullptr;
                  const auto run = extra ? gradient_rows<T, true, GradientBefore<T, Dy, kActivation>>
                                         : gradient_rows<T, false, GradientBefore<T, Dy, kActivation>>;
                  run(dz.x, dz, dz.mean, a.data(), b.data(), d.data(), from.rows(), from.channels(),
                      dx.data<T>(), extra);
                });
}

namespace {

void run_forward_train(Context&, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                       const Tensor& residual, const BatchNormParams& params, const SampleDrop& drop,
                       Tensor& y, Tensor& mean, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  if (x.size() == 0) return;
  const int64_t channels = x.dim(-1);
  const ChannelMoments moments = channel_moments(x);
  Statistics statistics{mean, inv_std, running_mean, running_var};
  for (int64_t c = 0; c < channels; ++c)
    statistics.set(c, double(x.size() / channels), moments.mean[size_t(c)], moments.m2[size_t(c)], params);
  normalise(x, residual, mean.data<float>(), inv_std.data<float>(), gamma.data<float>(), beta.data<float>(),
            params.activation, y, scales_of(drop, x.dim(0)));
}

void run_forward_eval(Context&, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                      const Tensor& residual, const Tensor& mean, const Tensor& var,
                      const BatchNormParams& params, Tensor& y) {
  if (x.size() == 0) return;
  const int64_t channels = x.dim(-1);
  std::vector<float> inv_std(static_cast<size_t>(channels));
  for (int64_t c = 0; c < channels; ++c)
    inv_std[size_t(c)] = 1.0f / std::sqrt(var.data<float>()[c] + params.eps);
  normalise(x, residual, mean.data<float>(), inv_std.data(), gamma.data<float>(), beta.data<float>(),
            params.activation, y);
}

// all = (dy + more) * kept[image], and `sum` without the factor; more and sum may be undefined, kept empty.
void join(const Tensor& dy, const Tensor& more, const std::vector<float>& kept, Tensor& all, Tensor& sum) {
  const int64_t image = kept.empty() ? dy.size() : dy.size() / int64_t(kept.size());
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *one = dy.data<T>(), *two = more.defined() ? more.data<T>() : nullptr;
    T* plain = sum.defined() ? sum.data<T>() : nullptr;
    float* out = all.data<float>();
    parallel_for(dy.size(), kElementGrain, [=, &kept](int64_t begin, int64_t end) {
      while (begin < end) {
        const float factor = kept.empty() ? 1.0f : kept[size_t(begin / image)];
        const int64_t stop = std::min(end, (begin / image + 1) * image);
        for (int64_t i = begin; i < stop; ++i) {
          const float v = float(one[i]) + (two ? float(two[i]) : 0.0f);
          if (plain) plain[i] = T(v);
          out[i] = v * factor;
        }
        begin = stop;
      }
    });
  });
}

void run_backward(Context&, const Tensor& x, const Tensor& y, const Tensor& dy, const Tensor& dy_more,
                  const Tensor& gamma, const Tensor& beta, const Tensor& mean, const Tensor& inv_std,
                  const BatchNormBackwardParams& params, const SampleDrop& drop, Tensor& dx,
                  Tensor& dresidual, Tensor& dgamma, Tensor& dbeta) {
  const size_t channels = size_t(x.dim(-1));
  if (channels == 0) return;
  Tensor none;
  // In f32, so that nothing is rounded twice.
  Tensor all = dy;
  if (dy_more.defined() || drop.state.defined()) {
    all = Tensor::empty(dy.shape(), DType::f32, Device::cpu, "workspace");
    join(dy, dy_more, scales_of(drop, x.dim(0)), all, drop.state.defined() ? dresidual : none);
  }
  const GradientSource source{x, y, all, gamma, beta, mean, inv_std, params.activation};
  std::vector<double> sums = gradient_sums(source);
  for (size_t c = 0; c < channels; ++c) {
    dbeta.data<float>()[c] = float(sums[c]);
    dgamma.data<float>()[c] = float(sums[channels + c]);
  }
  for (double& sum : sums) sum = params.fixed_statistics ? 0.0 : sum / double(source.rows());
  input_gradient(source, sums, dx, drop.state.defined() ? none : dresidual);
}

void run_inv_std(Context&, const Tensor& var, const float& eps, Tensor& inv_std) {
  const float* in = var.data<float>();
  float* out = inv_std.data<float>();
  for (int64_t c = 0; c < var.size(); ++c) out[c] = 1.0f / std::sqrt(in[c] + eps);
}

const bool registered = batch_norm_forward_train.add(Device::cpu, {{"loop", always, run_forward_train}}) &&
                        batch_norm_forward_eval.add(Device::cpu, {{"loop", always, run_forward_eval}}) &&
                        batch_norm_backward.add(Device::cpu, {{"loop", always, run_backward}}) &&
                        batch_norm_inv_std.add(Device::cpu, {{"loop", always, run_inv_std}});

}  // namespace
}  // namespace plume::cpu
