// The passes over x that batch_norm and sync_batch_norm share on the cpu.
#pragma once
#include <vector>

#include "engine/ops/batch_norm.h"

namespace plume::cpu {

// Per channel: the mean and the sum of squared distances from it.
struct ChannelMoments {
  std::vector<double> mean, m2;
};
ChannelMoments channel_moments(const Tensor& x);

// What follows from channel c's moments over `count` values.
struct Statistics {
  Tensor &mean, &inv_std, &running_mean, &running_var;
  void set(int64_t c, double count, double centre, double m2, const BatchNormParams& params);
};

// What dz, the gradient before the activation, is made of.
struct GradientSource {
  const Tensor &x, &y, &dy, &gamma, &beta, &mean, &inv_std;
  Activation activation;
  int64_t channels() const { return x.dim(-1); }
  int64_t rows() const { return x.size() / channels(); }
};
// [2, C]: the sums of dz and of dz * xhat.
std::vector<double> gradient_sums(const GradientSource& source);
// dx = gamma * inv_std * (dz - means[c] - xhat * means[C + c]), and dresidual = dz unless undefined.
void input_gradient(const GradientSource& source, const std::vector<double>& means, Tensor& dx,
                    Tensor& dresidual);

}  // namespace plume::cpu
