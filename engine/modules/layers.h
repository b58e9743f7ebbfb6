// The layers networks are made of. Parameters are f32 and are cast to the dtype of the input.
#pragma once
#include <memory>

#include "engine/modules/module.h"
#include "engine/ops/batch_norm.h"
#include "engine/ops/conv2d.h"

namespace plume {

class Conv2d : public Module {
 public:
  struct Options {
    int stride = 1;
    int padding = 0;
    bool bias = true;
  };
  Conv2d(int in_channels, int out_channels, int kernel, const Options& options);
  Variable forward(const Variable& x) override;

  Variable weight;  // [K, R, S, C]
  Variable bias;    // [K] or undefined
  Conv2dParams params;

 protected:
  void initialize_own(
      RandomSequence& random) override;  // Kaiming normal, fan out (torchvision's networks); bias 0
};

class BatchNorm2d : public Module {
 public:
  explicit BatchNorm2d(int channels, const BatchNormParams& options = {});
  Variable forward(const Variable& x) override { return forward(x, {}); }
  // activation(norm(x) + residual)
  Variable forward(const Variable& x, const Variable& residual);

  Variable weight, bias;  // gamma, beta
  Tensor running_mean, running_var;
  Tensor num_batches_tracked;  // i64, always on the host
  BatchNormParams params;

 protected:
  void initialize_own(RandomSequence& random) override;  // gamma 1, beta 0, mean 0, var 1
};

class Linear : public Module {
 public:
  Linear(int in_features, int out_features);
  Variable forward(const Variable& x) override;

  Variable weight;  // [out, in]
  Variable bias;    // [out]

 protected:
  void initialize_own(RandomSequence& random) override;  // uniform in +- 1 / sqrt(in): PyTorch's default
};

// A convolution and the batch norm after it. They stay separate modules with their own names; this pair
// computes them together and, once fused, as one convolution with folded weights and an epilogue.
class ConvBn {
 public:
  ConvBn(Conv2d& conv, BatchNorm2d& norm) : conv_(conv), norm_(norm) {}
  Variable forward(const Variable& x, const Variable& residual = {});
  void fuse(bool on);

 private:
  struct Folded {
    Tensor weight, shift;  // weight * gamma / sqrt(var + eps);  beta - mean * gamma / sqrt(var + eps)
    PackedFilter packed;
  };
  Conv2d& conv_;
  BatchNorm2d& norm_;
  std::unique_ptr<Folded> folded_;
};

}  // namespace plume
