// The passes over x that batch_norm and sync_batch_norm share on the cpu.
#pragma once
#include <functional>
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

// All channels' of a batch.
void batch_statistics(const Tensor& x, const BatchNormParams& params, Statistics statistics);

// Rows of f32 as a norm makes them, for operations that do so on the way; on the calling thread.
class Normaliser {
 public:
  // The rows of each call are a multiple of `unit`.
  Normaliser(const KnownNorm& norm, int64_t unit);
  // x and y [rows, channels]
  void operator()(const float* x, int64_t rows, float* y) const;

 private:
  int64_t repeats_, width_;
  std::vector<float> mean_, scale_, beta_;
  Activation activation_;
};

// What dz, the gradient before the activation, is made of: (dy + dy_more) * kept[image] * slope.
struct GradientSource {
  const Tensor &x, &y, &dy, &gamma, &beta, &mean, &inv_std;
  Activation activation;
  Tensor dy_more = {};           // or undefined
  std::vector<float> kept = {};  // or empty
};
// [2, C]: the sums of dz and of dz * xhat.
std::vector<double> gradient_sums(const GradientSource& source);
// dx = gamma * inv_std * (dz - means[c] - xhat * means[C + c]) with the means that the sums lead to, and
// unless undefined dresidual = dz, or dy + dy_more where samples are dropped.
using MeansOfSums = std::function<std::vector<double>(const std::vector<double>& sums)>;
void batch_norm_gradients(const GradientSource& source, const MeansOfSums& means_of, Tensor& dx,
                          Tensor& dresidual);

}  // namespace plume::cpu
