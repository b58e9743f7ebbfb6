// batch_norm: normalisation over all but the last dimension, with what usually follows it fused in.
//
//   y = activation( gamma * (x - mean) / sqrt(var + eps) + beta + residual )      x, y, residual [..., C]
//
// Training uses the batch's mean and biased variance and moves the running statistics, the variance unbiased:
//   running = (1 - momentum) * running + momentum * batch
// gamma, beta, statistics and their gradients are f32 [C]. Source: Ioffe & Szegedy 2015; PyTorch's
// conventions.
#pragma once
#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"
#include "engine/math/activation.h"
#include "engine/ops/dropout.h"

namespace plume {

class Gradients;

struct BatchNormParams {
  float eps = 1e-5f;
  float momentum = 0.1f;
  Activation activation = Activation::identity;
};

// Where `state` is defined, whole samples are left out (stochastic_depth.h): of image n
//   y = residual + scale[n] * activation( gamma * (x - mean) / sqrt(var + eps) + beta )
// with a residual, and an activation whose slope does not come from its output.
struct SampleDrop {
  Tensor state;
  DropoutParams params;

  template <class Self, class F>
  static void for_each_tensor(Self& self, F&& f) {
    f(self.state);
  }
};

// `residual` may be undefined, and must be with an activation whose slope needs its input (sigmoid, silu,
// hardswish): the gradient computes that input once more from x. The running statistics are changed in place.
Variable batch_norm_train(const Variable& x, const Variable& gamma, const Variable& beta,
                          const Variable& residual, Tensor& running_mean, Tensor& running_var,
                          const BatchNormParams& params, const SampleDrop& drop = {});
// With fixed statistics; differentiable in x, gamma, beta and residual.
Variable batch_norm_eval(const Variable& x, const Variable& gamma, const Variable& beta,
                         const Variable& residual, const Tensor& running_mean, const Tensor& running_var,
                         const BatchNormParams& params);

// What sync_batch_norm and conv_batch_norm have in common: the check of the arguments; and the output, if the
// gradient reads it (keeping it would only hold memory otherwise): where a residual was added, without which
// the activation's input is made again from x.
void check_batch_norm(const Variable& x, const Variable& gamma, const Variable& beta,
                      const Variable& residual, Activation activation);
void check_batch_norm_train(const Variable& x, const Variable& gamma, const Variable& beta,
                            const Variable& residual, Activation activation, const SampleDrop& drop);
Tensor kept_output(const Tensor& y, Activation activation, bool residual);

struct BatchNormBackwardParams {
  Activation activation = Activation::identity;
  bool fixed_statistics = false;  // evaluation: mean and inv_std do not depend on x
};
// For operations that contain a batch norm: its gradients to the places of gamma, beta and the residual,
// which follow each other; returns dx. `more` may be undefined.
Tensor batch_norm_gradients(Gradients& gradients, int gamma_place, const Tensor& x, const Tensor& y,
                            const Tensor& dy, const Tensor& more, const Variable& gamma, const Variable& beta,
                            const Tensor& mean, const Tensor& inv_std, BatchNormBackwardParams params,
                            const SampleDrop& drop);

// residual may be undefined. mean and inv_std (1 / sqrt(var + eps)) are outputs, kept for the gradient.
using BatchNormForwardTrain = void(Context&, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                                   const Tensor& residual, const BatchNormParams&, const SampleDrop&,
                                   Tensor& y, Tensor& mean, Tensor& inv_std, Tensor& running_mean,
                                   Tensor& running_var);
using BatchNormForwardEval = void(Context&, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                                  const Tensor& residual, const Tensor& mean, const Tensor& var,
                                  const BatchNormParams&, Tensor& y);
// dz = (dy + dy_more) * slope, where dy_more may be undefined; dbeta = sum dz; dgamma = sum dz * xhat; dx =
// gamma * inv_std * (dz - dbeta/M - xhat * dgamma/M), without the last two terms for fixed statistics.
// dresidual = dz, or with a drop dy + dy_more, of which dz then has scale[n]; written unless undefined. The
// slope comes from y where that is defined, as with a residual before relu, else from gamma * xhat + beta.
using BatchNormBackward = void(Context&, const Tensor& x, const Tensor& y, const Tensor& dy,
                               const Tensor& dy_more, const Tensor& gamma, const Tensor& beta,
                               const Tensor& mean, const Tensor& inv_std, const BatchNormBackwardParams&,
                               const SampleDrop&, Tensor& dx, Tensor& dresidual, Tensor& dgamma,
                               Tensor& dbeta);
extern KernelSlot<BatchNormForwardTrain> batch_norm_forward_train;
extern KernelSlot<BatchNormForwardEval> batch_norm_forward_eval;
// What a batch norm makes of x once its statistics are known, for operations that make it again.
struct KnownNorm {
  Tensor gamma, beta, mean, inv_std;
  Activation activation = Activation::identity;

  template <class Self, class F>
  static void for_each_tensor(Self& self, F&& f) {
    f(self.gamma);
    f(self.beta);
    f(self.mean);
    f(self.inv_std);
  }
};
// y = activation( gamma * (x - mean) * inv_std + beta )
using BatchNormNormalise = void(Context&, const Tensor& x, const KnownNorm&, Tensor& y);
// 1 / sqrt(var + eps) of fixed statistics, for the gradient.
using BatchNormInvStd = void(Context&, const Tensor& var, const float& eps, Tensor& inv_std);
extern KernelSlot<BatchNormNormalise> batch_norm_normalise;
extern KernelSlot<BatchNormBackward> batch_norm_backward;
extern KernelSlot<BatchNormInvStd> batch_norm_inv_std;

}  // namespace plume
