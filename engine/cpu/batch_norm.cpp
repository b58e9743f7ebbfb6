// Training reads x twice: once for the statistics and once to normalise. The gradient reads x, dy (and y)
// twice; where dz, the gradient before the activation, takes an exponential or more tensors, the first pass
// leaves it for the second one. 16-bit tensors are widened first.
#include "engine/cpu/batch_norm.h"

#include <cmath>

#include "engine/cpu/batch_norm_rows.h"
#include "engine/cpu/conv/panel_gemm.h"
#include "engine/cpu/parallel.h"
#include "engine/cpu/vector8.h"
#include "engine/cpu/widened.h"
#include "engine/ops/stochastic_depth.h"

namespace plume::cpu {
namespace {

// For widths that no vector divides.
struct Lanes1 {
  static constexpr int64_t kCount = 1;
  using Vector = float;
  static float load(const float* p) { return *p; }
  static void store(float* p, float v) { *p = v; }
};

const BatchNormKernels& kernels_for(int64_t width) {
  static constexpr BatchNormKernels kOne = batch_norm_kernels<Lanes1>(),
                                    kEight = batch_norm_kernels<Lanes8>();
#if defined(__x86_64__)
  if (has_avx512() && width % batch_norm_kernels_avx512.lanes == 0) return batch_norm_kernels_avx512;
#endif
  return width % kEight.lanes == 0 ? kEight : kOne;
}

// Rows of channels as fewer, wider ones: the least that fill vectors and pay for a loop over them, of those
// that hold as many rows as divide a plane's.
struct WideRows {
  int64_t channels, repeats = 1, rows, width;

  WideRows(int64_t all, int64_t row_channels, int64_t planes = 1) : channels(row_channels) {
    constexpr int64_t kLeastWidth = 64, kMostWidth = 512, kMostLanes = 16;
    const int64_t plane = all / planes;
    for (int64_t r = 1; r <= std::min(kMostWidth / channels, plane); ++r) {
      if (plane % r != 0) continue;
      repeats = r;
      if (r * channels >= kLeastWidth && r * channels % kMostLanes == 0) break;
    }
    rows = all / repeats;
    width = channels * repeats;
  }
  std::vector<float> repeat(const float* values) const {
    std::vector<float> all(static_cast<size_t>(width));
    for (int64_t r = 0; r < repeats; ++r) std::copy_n(values, channels, all.data() + r * channels);
    return all;
  }
  std::vector<float> repeat(const std::vector<float>& values) const { return repeat(values.data()); }
  // block(first, last, sums [2, width]) adds the terms of some wide rows. Returns [2, channels].
  template <class F>
  std::vector<double> sum(const F& block) const {
    const std::vector<double> wide = rows_sum<2>(rows, width, block);
    std::vector<double> sums(size_t(2 * channels), 0.0);
    for (int64_t i = 0; i < 2; ++i)
      for (int64_t r = 0; r < repeats; ++r)
        for (int64_t c = 0; c < channels; ++c)
          sums[size_t(i * channels + c)] += wide[size_t(i * width + r * channels + c)];
    return sums;
  }
};

// Calls f(first, last, factor) for the parts of begin..end-1, of `rows`, that lie in one image each.
template <class F>
void for_each_image(int64_t begin, int64_t end, int64_t rows, const std::vector<float>& kept, const F& f) {
  const int64_t image = kept.empty() ? rows : rows / int64_t(kept.size());
  while (begin < end) {
    const int64_t n = begin / image, stop = std::min(end, (n + 1) * image);
    f(begin, stop, kept.empty() ? 1.0f : kept[size_t(n)]);
    begin = stop;
  }
}

// Of every image; nothing where none are dropped.
std::vector<float> scales_of(const SampleDrop& drop, int64_t images) {
  std::vector<float> scales;
  for (int64_t n = 0; drop.state.defined() && n < images; ++n)
    scales.push_back(stochastic_depth_scale(drop.state.data<int64_t>(), drop.params, n));
  return scales;
}

const float* data_or_null(const Tensor& t) { return t.defined() ? t.data<float>() : nullptr; }

std::vector<float> scale_of(const float* gamma, const float* inv_std, int64_t channels) {
  std::vector<float> scale(static_cast<size_t>(channels));
  for (int64_t c = 0; c < channels; ++c) scale[size_t(c)] = gamma[c] * inv_std[c];
  return scale;
}

void normalise(const Tensor& x, const Tensor& residual, const float* mean, const float* inv_std,
               const float* gamma, const float* beta, Activation activation, Tensor& y,
               const std::vector<float>& kept = {}) {
  const int64_t channels = x.dim(-1);
  const WideRows w(x.size() / channels, channels, std::max<int64_t>(1, int64_t(kept.size())));
  const std::vector<float> scale = w.repeat(scale_of(gamma, inv_std, channels)), means = w.repeat(mean),
                           shift = w.repeat(beta);
  const Tensor in = widened(x), extra = widened(residual);
  const float *px = in.data<float>(), *more = data_or_null(extra);
  const BatchNormKernels& kernels = kernels_for(w.width);
  through_f32(y, [&](Tensor& out) {
    float* py = out.data<float>();
    parallel_for(w.rows, row_grain(w.width), [&](int64_t begin, int64_t end) {
      for_each_image(begin, end, w.rows, kept, [&](int64_t first, int64_t last, float factor) {
        const int64_t at = first * w.width;
        kernels.normalise(
            {{px + at, means.data(), scale.data(), shift.data(), activation, last - first, w.width},
             more ? more + at : nullptr,
             !kept.empty(),
             factor,
             py + at});
      });
    });
  });
}

}  // namespace

// Sums of (x - shift) and (x - shift)^2 per channel: with the mean of a few samples as the shift nothing
// cancels when the mean is large beside the deviation.
ChannelMoments channel_moments(const Tensor& x) {
  const int64_t channels = x.dim(-1), rows = x.size() / channels;
  std::vector<float> shift(static_cast<size_t>(channels));
  const Tensor wide = widened(x);
  const float* values = wide.data<float>();
  const int64_t samples = std::min<int64_t>(rows, 16);
  for (int64_t row = 0; row < samples; ++row)
    for (int64_t c = 0; c < channels; ++c) shift[size_t(c)] += values[row * channels + c] / float(samples);
  const WideRows w(rows, channels);
  const std::vector<float> shifts = w.repeat(shift);
  const BatchNormKernels& kernels = kernels_for(w.width);
  const std::vector<double> sums = w.sum([&](int64_t first, int64_t last, float* partial) {
    kernels.moments({values + first * w.width, shifts.data(), last - first, w.width, partial});
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

void batch_statistics(const Tensor& x, const BatchNormParams& params, Statistics statistics) {
  const int64_t channels = x.dim(-1);
  const ChannelMoments moments = channel_moments(x);
  for (int64_t c = 0; c < channels; ++c)
    statistics.set(c, double(x.size() / channels), moments.mean[size_t(c)], moments.m2[size_t(c)], params);
}

Normaliser::Normaliser(const KnownNorm& norm, int64_t unit) : activation_(norm.activation) {
  const WideRows w(unit, norm.gamma.size());
  repeats_ = w.repeats;
  width_ = w.width;
  mean_ = w.repeat(norm.mean.data<float>());
  scale_ = w.repeat(scale_of(norm.gamma.data<float>(), norm.inv_std.data<float>(), w.channels));
  beta_ = w.repeat(norm.beta.data<float>());
}

void Normaliser::operator()(const float* x, int64_t rows, float* y) const {
  kernels_for(width_).normalise(
      {{x, mean_.data(), scale_.data(), beta_.data(), activation_, rows / repeats_, width_},
       nullptr,
       false,
       1.0f,
       y});
}

namespace {

// A gradient's operands in wide rows of f32.
class WideGradient {
 public:
  explicit WideGradient(const GradientSource& from)
      : w(from.x.size() / from.x.dim(-1), from.x.dim(-1), std::max<int64_t>(1, int64_t(from.kept.size()))),
        x_(widened(from.x)),
        y_(widened(from.y)),
        dy_(widened(from.dy)),
        more_(widened(from.dy_more)),
        mean_(w.repeat(from.mean.data<float>())),
        scale_(w.repeat(scale_of(from.gamma.data<float>(), from.inv_std.data<float>(), w.channels))),
        beta_(w.repeat(from.beta.data<float>())),
        activation_(from.activation) {}

  GradientRows rows(int64_t first, int64_t last, float kept) const {
    const int64_t at = first * w.width;
    const auto from_here = [at](const Tensor& t) { return t.defined() ? t.data<float>() + at : nullptr; };
    return {{from_here(x_), mean_.data(), scale_.data(), beta_.data(), activation_, last - first, w.width},
            from_here(y_),
            from_here(dy_),
            from_here(more_),
            kept};
  }

  const WideRows w;

 private:
  Tensor x_, y_, dy_, more_;
  std::vector<float> mean_, scale_, beta_;
  Activation activation_;
};

// [2, C], as gradient_sums; dz and dy + dy_more are kept where those are not null.
std::vector<double> sums_keeping(const GradientSource& from, float* dz, float* joined) {
  const WideGradient g(from);
  const BatchNormKernels& kernels = kernels_for(g.w.width);
  std::vector<double> sums = g.w.sum([&](int64_t begin, int64_t end, float* partial) {
    for_each_image(begin, end, g.w.rows, from.kept, [&](int64_t first, int64_t last, float kept) {
      const int64_t at = first * g.w.width;
      kernels.gradient_sums(
          {g.rows(first, last, kept), dz ? dz + at : nullptr, joined ? joined + at : nullptr, partial});
    });
  });
  const size_t channels = sums.size() / 2;
  for (size_t c = 0; c < channels; ++c) sums[channels + c] *= double(from.inv_std.data<float>()[c]);
  return sums;
}

// dx = gamma * inv_std * (dz - means[c] - xhat * means[C + c])
void input_gradient(const GradientSource& from, const std::vector<double>& means, Tensor& dx) {
  const WideGradient g(from);
  const float* const inv_std = from.inv_std.data<float>();
  const std::vector<float> slopes = scale_of(from.gamma.data<float>(), inv_std, g.w.channels);
  std::vector<float> b(slopes.size()), d(slopes.size());
  for (size_t c = 0; c < slopes.size(); ++c) {
    const double inverse = double(inv_std[c]), slope = double(from.gamma.data<float>()[c]) * inverse;
    b[c] = float(-slope * means[slopes.size() + c] * inverse);
    d[c] = float(-slope * means[c]);
  }
  const std::vector<float> a = g.w.repeat(slopes), wide_b = g.w.repeat(b), wide_d = g.w.repeat(d);
  float* out = dx.data<float>();
  const BatchNormKernels& kernels = kernels_for(g.w.width);
  parallel_for(g.w.rows, row_grain(g.w.width), [&](int64_t begin, int64_t end) {
    for_each_image(begin, end, g.w.rows, from.kept, [&](int64_t first, int64_t last, float kept) {
      kernels.input_gradient(
          {g.rows(first, last, kept), a.data(), wide_b.data(), wide_d.data(), out + first * g.w.width});
    });
  });
}

}  // namespace

std::vector<double> gradient_sums(const GradientSource& from) { return sums_keeping(from, nullptr, nullptr); }

void batch_norm_gradients(const GradientSource& from, const MeansOfSums& means_of, Tensor& dx,
                          Tensor& dresidual) {
  const bool dropped = !from.kept.empty();
  const bool costly = from.activation == Activation::silu || from.activation == Activation::sigmoid;
  const auto with_residual = [&](Tensor* residual) {
    through_f32(dx, [&](Tensor& out) {
      // Read again: cheaper than made again of an exponential, or of three tensors.
      if (!costly && !from.dy_more.defined() && !dropped && !residual)
        return input_gradient(from, means_of(gradient_sums(from)), out);
      Tensor dz = residual && !dropped ? *residual : out;
      const std::vector<double> sums =
          sums_keeping(from, dz.data<float>(), residual && dropped ? residual->data<float>() : nullptr);
      const Tensor none;
      input_gradient({from.x, none, dz, from.gamma, from.beta, from.mean, from.inv_std, Activation::identity},
                     means_of(sums), out);
    });
  };
  if (dresidual.defined())
    through_f32(dresidual, [&](Tensor& wide) { with_residual(&wide); });
  else
    with_residual(nullptr);
}

namespace {

void run_forward_train(Context&, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                       const Tensor& residual, const BatchNormParams& params, const SampleDrop& drop,
                       Tensor& y, Tensor& mean, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  if (x.size() == 0) return;
  batch_statistics(x, params, {mean, inv_std, running_mean, running_var});
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

void run_normalise(Context&, const Tensor& x, const KnownNorm& norm, Tensor& y) {
  if (x.size() == 0) return;
  normalise(x, {}, norm.mean.data<float>(), norm.inv_std.data<float>(), norm.gamma.data<float>(),
            norm.beta.data<float>(), norm.activation, y);
}

void run_backward(Context&, const Tensor& x, const Tensor& y, const Tensor& dy, const Tensor& dy_more,
                  const Tensor& gamma, const Tensor& beta, const Tensor& mean, const Tensor& inv_std,
                  const BatchNormBackwardParams& params, const SampleDrop& drop, Tensor& dx,
                  Tensor& dresidual, Tensor& dgamma, Tensor& dbeta) {
  const size_t channels = size_t(x.dim(-1));
  if (channels == 0) return;
  const GradientSource source{
      x, y, dy, gamma, beta, mean, inv_std, params.activation, dy_more, scales_of(drop, x.dim(0))};
  const auto means_of = [&](std::vector<double> sums) {
    for (size_t c = 0; c < channels; ++c) {
      dbeta.data<float>()[c] = float(sums[c]);
      dgamma.data<float>()[c] = float(sums[channels + c]);
    }
    for (double& sum : sums) sum = params.fixed_statistics ? 0.0 : sum / double(x.size() / int64_t(channels));
    return sums;
  };
  batch_norm_gradients(source, means_of, dx, dresidual);
}

void run_inv_std(Context&, const Tensor& var, const float& eps, Tensor& inv_std) {
  const float* in = var.data<float>();
  float* out = inv_std.data<float>();
  for (int64_t c = 0; c < var.size(); ++c) out[c] = 1.0f / std::sqrt(in[c] + eps);
}

const bool registered = batch_norm_forward_train.add(Device::cpu, {{"loop", always, run_forward_train}}) &&
                        batch_norm_forward_eval.add(Device::cpu, {{"loop", always, run_forward_eval}}) &&
                        batch_norm_normalise.add(Device::cpu, {{"loop", always, run_normalise}}) &&
                        batch_norm_backward.add(Device::cpu, {{"loop", always, run_backward}}) &&
                        batch_norm_inv_std.add(Device::cpu, {{"loop", always, run_inv_std}});

}  // namespace
}  // namespace plume::cpu
