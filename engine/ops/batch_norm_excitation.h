// batch_norm_excitation: what lies between two convolutions of a block with a squeeze-excitation, and the
// second one, in training.
//
//   u = activation( gamma * (x - mean) / sqrt(var + eps) + beta )        batch_norm.h, the batch's statistics
//   gate = gate( inner( pooled S1 + s1 ) S2 + s2 ), pooled: u's means    squeeze_excitation.h
//   y = conv1x1(u * gate, w)                                             mbconv.h
//
// One operation where a device has kernels for it, so that of the wide image as little moves as can: u is
// pooled as it is stored, u * gate is stored nowhere. Backward the gradient of u * gate is all that is read
// beside x, twice, since the sums that a norm's gradient needs are linear in what the gate's gradient adds:
//
//   dz = (dv gate[n, c] + s[n, c]) slope, where dv is the gradient of u * gate and s = dpooled / (H W):
//   sum of dz = sum over n of gate[n, c] A[n, c] + s[n, c] B[n, c], and of dz xhat with C and D,
//
// where A, B, C and D are an image's sums of dv slope, slope, dv slope xhat and slope xhat. They come out of
// the pass that adds up the gate's gradient, dv u, before anybody knows s.
//
// Values of the wide image that move, each step on its own: forward 3 (norm) + 3 + 1, backward 1 (dW) + 1
// (dv) + 4 + 5. Here: forward 3 + 1, backward 1 + 1 + 2 + 3.
#pragma once
#include "engine/ops/batch_norm.h"
#include "engine/ops/mbconv.h"

namespace plume {

// Two 1x1 convolutions with biases; filters or matrices.
struct ExcitationWeights {
  Variable w1, b1, w2, b2;
};

// Whether the kernels for all of it would run here. Otherwise the operations are the same one after the
// other.
bool fuses_batch_norm_excitation(const Variable& x, const Variable& weight);

// `weight`: a filter [K, 1, 1, C]; the other arguments as for batch_norm_train and squeeze_excitation.
Variable batch_norm_excitation_conv_train(const Variable& x, const Variable& gamma, const Variable& beta,
                                          Tensor& running_mean, Tensor& running_var,
                                          const BatchNormParams& norm, const ExcitationWeights& excitation,
                                          const SqueezeExcitationParams& params, const Variable& weight);

// batch_norm.forward_train without residual, and the means of y's planes (before y is rounded). `pooled`
// comes with room for one part of each; a variant that leaves more makes it anew (depthwise_pool.h).
using BatchNormPool = void(Context&, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                           const BatchNormParams&, Tensor& y, Tensor& mean, Tensor& inv_std,
                           Tensor& running_mean, Tensor& running_var, Tensor& pooled);
// From dv to x and all parameters but w. S1 [S, C] and S2 [C, S] are f32.
using BatchNormExcitationBackward = void(Context&, const Tensor& x, const Tensor& dv, const KnownNorm&,
                                         const Tensor& w1, const Tensor& w2, const SqueezeExcitationKept&,
                                         const SqueezeExcitationParams&, Tensor& dx, Tensor& dgamma,
                                         Tensor& dbeta, Tensor& dw1, Tensor& db1, Tensor& dw2, Tensor& db2);
extern KernelSlot<BatchNormPool> batch_norm_pool_forward;
extern KernelSlot<BatchNormExcitationBackward> batch_norm_excitation_backward;

}  // namespace plume
