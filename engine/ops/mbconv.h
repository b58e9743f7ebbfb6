// The blocks of MobileNetV3 and EfficientNetV2 in evaluation, batch norms folded, as few passes as the
// squeeze-excitation allows: its gate needs the whole image, so it parts a block in two.
//
//   MBConv        d = act2(depthwise(act1(x W1 + b1), w2) + b2), pooled: means of d     expand_depthwise
//                 gate = gate(inner((sum of pooled) S1 + s1) S2 + s2)                   squeeze_gate
//                 y = epilogue((d * gate) W3)                                           gated_pointwise
//   FusedMBConv   y = epilogue(act(conv(x, w1) + b1) W2)                                fused_mbconv
//
//   x [N, H, W, C], W1 [E, 1, 1, C], w2 [R, R, E], d [N, P, Q, E], W3 [K, 1, 1, E], y [N, P, Q, K];
//   w1 [E, R, R, C], W2 [K, 1, 1, E]; biases and gate [N, E] are f32, as is pooled [N, parts, E], whose parts
//   make a mean together (depthwise_pool.h). S1 [S, E] and S2 [E, S] are of one type, f32 or 16 bits, which a
//   variant may then round the means and what lies between to.
//
// The E channels between, four to six times as many as outside, are what an unfused block spends its memory
// traffic on: expand_depthwise never stores act1(...), gated_pointwise never stores d * gate, fused_mbconv
// stores nothing in between. Nothing is recorded; training uses the separate operations, but where a
// squeeze-excitation and what lies around it are one (batch_norm_excitation.h).
#pragma once
#include "engine/core/kernel_slot.h"
#include "engine/math/epilogue.h"
#include "engine/ops/conv2d.h"
#include "engine/ops/squeeze_excitation.h"

namespace plume {

struct ExpandDepthwiseParams {
  Activation expanded = Activation::relu, out = Activation::relu;  // act1, act2
  int stride = 1, padding = 1;                                     // of the depthwise convolution
  PackedFilter* packed = nullptr;                                  // of W1 (conv2d.h)
};

struct FusedMbconvParams {
  Activation expanded = Activation::silu;
  int stride = 1, padding = 1;
  PackedFilter *packed1 = nullptr, *packed2 = nullptr;
};

// `pooled` may be null.
Tensor expand_depthwise(const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2,
                        const Tensor& b2, const ExpandDepthwiseParams& params, Tensor* pooled);
// The small products of squeeze_excitation; w1 and w2 may be 1x1 filters.
Tensor squeeze_gate(const Tensor& pooled, const Tensor& w1, const Tensor& b1, const Tensor& w2,
                    const Tensor& b2, const SqueezeExcitationParams& params);
Tensor gated_pointwise(const Tensor& x, const Tensor& gate, const Tensor& w, const Epilogue& epilogue,
                       PackedFilter* packed);
Tensor fused_mbconv(const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2,
                    const Epilogue& epilogue, const FusedMbconvParams& params);

// `pooled` is undefined when it is not wanted; otherwise as depthwise_pool.h has it.
using ExpandDepthwise = void(Context&, const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2,
                             const Tensor& b2, const ExpandDepthwiseParams&, Tensor& d, Tensor& pooled);
// All of `kept` is written, or in evaluation none of it.
using SqueezeGate = void(Context&, const Tensor& pooled, const Tensor& w1, const Tensor& b1, const Tensor& w2,
                         const Tensor& b2, const SqueezeExcitationParams&, Tensor& gate,
                         SqueezeExcitationKept& kept);
using GatedPointwise = void(Context&, const Tensor& x, const Tensor& gate, const Tensor& w, PackedFilter*,
                            const Epilogue&, Tensor& y);
// dW of W3, f32 or as x is, for training (batch_norm_excitation.h): x is multiplied by its gates as it is
// read.
using GatedPointwiseBackwardWeight = void(Context&, const Tensor& x, const Tensor& gate, const Tensor& dy,
                                          Tensor& dw);
using FusedMbconv = void(Context&, const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2,
                         const Epilogue&, const FusedMbconvParams&, Tensor& y);
extern KernelSlot<ExpandDepthwise> expand_depthwise_forward;
extern KernelSlot<SqueezeGate> squeeze_gate_forward;
extern KernelSlot<GatedPointwise> gated_pointwise_forward;
extern KernelSlot<GatedPointwiseBackwardWeight> gated_pointwise_backward_weight;
extern KernelSlot<FusedMbconv> fused_mbconv_forward;

}  // namespace plume
