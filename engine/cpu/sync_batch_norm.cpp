#include "engine/ops/sync_batch_norm.h"

#include "engine/cpu/batch_norm.h"

namespace plume::cpu {
namespace {

void run_statistics(Context&, const Tensor& x, Tensor& moments) {
  if (x.size() == 0) return moments.fill_zero();
  const ChannelMoments found = channel_moments(x);
  float* out = moments.data<float>();
  for (size_t c = 0; c < found.mean.size(); ++c) {
    out[3 * c] = float(x.size() / x.dim(-1));
    out[3 * c + 1] = float(found.mean[c]);
    out[3 * c + 2] = float(found.m2[c]);
  }
}

void run_merge(Context&, const Tensor& moments, const BatchNormParams& params, Tensor& count, Tensor& mean,
               Tensor& var, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  const int64_t channels = count.size();
  Statistics statistics{mean, inv_std, running_mean, running_var};
  for (int64_t c = 0; c < channels; ++c) {
    double all = 0, centre = 0, m2 = 0;
    for (int64_t rank = 0; rank < moments.dim(0); ++rank) {
      const float* part = moments.data<float>() + (rank * channels + c) * 3;
      if (part[0] == 0.0f) continue;
      const double before = all, delta = double(part[1]) - centre;
      all += double(part[0]);
      centre += delta * double(part[0]) / all;
      m2 += double(part[2]) + delta * delta * before * double(part[0]) / all;
    }
    statistics.set(c, all, centre, m2, params);
    count.data<float>()[c] = float(all);
    var.data<float>()[c] = float(m2 / all);
  }
}

void run_backward_sums(Context&, const Tensor& x, const Tensor& y, const Tensor& dy, const Tensor& gamma,
                       const Tensor& beta, const Tensor& mean, const Tensor& inv_std, Activation activation,
                       Tensor& dgamma, Tensor& dbeta) {
  if (x.dim(-1) == 0) return;
  const std::vector<double> sums = gradient_sums({x, y, dy, gamma, beta, mean, inv_std, activation});
  const size_t channels = sums.size() / 2;
  for (size_t c = 0; c < channels; ++c) {
    dbeta.data<float>()[c] = float(sums[c]);
    dgamma.data<float>()[c] = float(sums[channels + c]);
  }
}

void run_backward_input(Context&, const Tensor& x, const Tensor& y, const Tensor& dy, const Tensor& gamma,
                        const Tensor& beta, const Tensor& mean, const Tensor& inv_std, const Tensor& count,
                        const Tensor& sums, Activation activation, Tensor& dx, Tensor& dresidual) {
  if (x.dim(-1) == 0) return;
  const size_t channels = size_t(x.dim(-1));
  const float *dgamma = sums.data<float>(), *dbeta = dgamma + channels;
  std::vector<double> means(2 * channels);
  for (size_t c = 0; c < channels; ++c) {
    const double all = double(count.data<float>()[c]);
    means[c] = double(dbeta[c]) / all;
    means[channels + c] = double(dgamma[c]) / all;
  }
  batch_norm_gradients(
      {x, y, dy, gamma, beta, mean, inv_std, activation}, [&](const std::vector<double>&) { return means; },
      dx, dresidual);
}

const bool registered =
    sync_batch_norm_statistics.add(Device::cpu, {{"loop", always, run_statistics}}) &&
    sync_batch_norm_merge.add(Device::cpu, {{"loop", always, run_merge}}) &&
    sync_batch_norm_backward_sums.add(Device::cpu, {{"loop", always, run_backward_sums}}) &&
    sync_batch_norm_backward_input.add(Device::cpu, {{"loop", always, run_backward_input}});

}  // namespace
}  // namespace plume::cpu
