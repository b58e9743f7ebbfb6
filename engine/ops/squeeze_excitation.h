// squeeze_excitation: channels weighted by a gate that sees the whole image (Hu et al. 2018).
//
//   pooled[n, c] = mean over h, w of x[n, h, w, c]
//   z1[n, q] = sum_c pooled[n, c] w1[q, c] + b1[q]            hidden = inner(z1)
//   z2[n, c] = sum_q hidden[n, q] w2[c, q] + b2[c]            gate = gate(z2)
//   y[n, h, w, c] = x[n, h, w, c] * gate[n, c]
//   x, y [N, H, W, C]; w1 [Q, C], b1 [Q], w2 [C, Q], b2 [C] and all that is [N, ...] are f32
//
// Two passes over x forward (pool, scale), three over x and dy backward at most: the two small products are
// done between them, in one launch.
#pragma once
#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"
#include "engine/math/activation.h"

namespace plume {

struct SqueezeExcitationParams {
  Activation inner = Activation::relu;        // relu in MobileNetV3, silu in EfficientNetV2
  Activation gate = Activation::hardsigmoid;  // hardsigmoid in MobileNetV3, sigmoid in EfficientNetV2
};

// What the gradient of the two products reads; undefined where nobody wants it.
struct SqueezeExcitationKept {
  Tensor pooled, z1, z2;

  template <class Self, class F>
  static void for_each_tensor(Self& self, F&& f) {
    f(self.pooled);
    f(self.z1);
    f(self.z2);
  }
};

// w1 and w2 may be given as 1x1 filters [Q, 1, 1, C] and [C, 1, 1, Q].
Variable squeeze_excitation(const Variable& x, const Variable& w1, const Variable& b1, const Variable& w2,
                            const Variable& b2, const SqueezeExcitationParams& params);

// pooled [N, C], z1 [N, Q] and z2 [N, C] are outputs, kept for the gradient.
using SqueezeExcitationForward = void(Context&, const Tensor& x, const Tensor& w1, const Tensor& b1,
                                      const Tensor& w2, const Tensor& b2, const SqueezeExcitationParams&,
                                      Tensor& y, Tensor& pooled, Tensor& z1, Tensor& z2);
// With dgate[n, c] = sum over h, w of dy x:
//   dz2 = dgate gate'(z2), dw2 = dz2^T hidden, db2 = sum dz2, dhidden = dz2 w2,
//   dz1 = dhidden inner'(z1), dw1 = dz1^T pooled, db1 = sum dz1, dpooled = dz1 w1,
//   dx = dy gate + dpooled / (H W)
using SqueezeExcitationBackward = void(Context&, const Tensor& x, const Tensor& dy, const Tensor& w1,
                                       const Tensor& w2, const Tensor& pooled, const Tensor& z1,
                                       const Tensor& z2, const SqueezeExcitationParams&, Tensor& dx,
                                       Tensor& dw1, Tensor& db1, Tensor& dw2, Tensor& db2);
extern KernelSlot<SqueezeExcitationForward> squeeze_excitation_forward;
extern KernelSlot<SqueezeExcitationBackward> squeeze_excitation_backward;

}  // namespace plume
