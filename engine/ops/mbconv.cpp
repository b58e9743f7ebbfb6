#include "engine/ops/mbconv.h"

#include "engine/ops/depthwise_conv2d.h"
#include "engine/ops/depthwise_pool.h"
#include "engine/ops/separate.h"
#include "engine/profiler/cost.h"

namespace plume {

namespace {

CallCost expand_depthwise_cost(const Tensor& x, const Tensor& w1, const Tensor&, const Tensor& w2,
                               const Tensor&, const ExpandDepthwiseParams&, const Tensor& d, const Tensor&) {
  const int64_t depthwise = d.size() * w2.dim(0) * w2.dim(1);
  return {CallClass::fused, double(conv2d_macs(x.shape(), w1.shape(), {}) + depthwise)};
}
CallCost squeeze_gate_cost(const Tensor& pooled, const Tensor& w1, const Tensor&, const Tensor&,
                           const Tensor&, const SqueezeExcitationParams&, const Tensor&,
                           const SqueezeExcitationKept&) {
  return {CallClass::squeeze_excitation, 2.0 * double(pooled.dim(0) * w1.size())};
}
CallCost gated_pointwise_cost(const Tensor& x, const Tensor&, const Tensor& w, PackedFilter* const&,
                              const Epilogue&, const Tensor&) {
  return {CallClass::pointwise, double(conv2d_macs(x.shape(), w.shape(), {}))};
}
CallCost gated_backward_weight_cost(const Tensor& x, const Tensor&, const Tensor&, const Tensor& dw) {
  return {CallClass::pointwise, double(conv2d_macs(x.shape(), dw.shape(), {}))};
}
CallCost fused_mbconv_cost(const Tensor& x, const Tensor& w1, const Tensor&, const Tensor& w2,
                           const Epilogue&, const FusedMbconvParams& p, const Tensor& y) {
  const int64_t expansion = conv2d_macs(x.shape(), w1.shape(), {p.stride, p.padding});
  return {CallClass::fused, double(expansion + y.size() * w2.dim(3))};
}

}  // namespace

constinit KernelSlot<ExpandDepthwise> expand_depthwise_forward{"expand_depthwise.forward",
                                                               expand_depthwise_cost};
constinit KernelSlot<SqueezeGate> squeeze_gate_forward{"squeeze_gate.forward", squeeze_gate_cost};
constinit KernelSlot<GatedPointwise> gated_pointwise_forward{"gated_pointwise.forward", gated_pointwise_cost};
constinit KernelSlot<GatedPointwiseBackwardWeight> gated_pointwise_backward_weight{
    "gated_pointwise.backward_weight", gated_backward_weight_cost};
constinit KernelSlot<FusedMbconv> fused_mbconv_forward{"fused_mbconv.forward", fused_mbconv_cost};

namespace {

Conv2dParams depthwise_params(const ExpandDepthwiseParams& p) { return {p.stride, p.padding, 1, nullptr}; }

// On any device, for what no other variant takes: one operation after the other.
void run_expand_depthwise(Context& context, const Tensor& x, const Tensor& w1, const Tensor& b1,
                          const Tensor& w2, const Tensor& b2, const ExpandDepthwiseParams& p, Tensor& d,
                          Tensor& pooled) {
  Tensor expanded = empty(x.shape().with(-1, w1.dim(0)), x);
  conv2d_forward(context, x, w1, {.packed = p.packed}, {.shift = b1, .activation = p.expanded}, expanded);
  const Epilogue end{.shift = b2, .activation = p.out};
  if (pooled.defined())
    depthwise_pool_forward(context, expanded, w2, depthwise_params(p), end, d, pooled);
  else
    depthwise_conv2d_forward(context, expanded, w2, depthwise_params(p), end, d);
}

void run_fused_mbconv(Context& context, const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2,
                      const Epilogue& epilogue, const FusedMbconvParams& p, Tensor& y) {
  Tensor expanded = empty(y.shape().with(-1, w1.dim(0)), x);
  conv2d_forward(context, x, w1, {p.stride, p.padding, 1, p.packed1}, {.shift = b1, .activation = p.expanded},
                 expanded);
  conv2d_forward(context, expanded, w2, {.packed = p.packed2}, epilogue, y);
}

const bool registered = add_separate(expand_depthwise_forward, run_expand_depthwise) &&
                        add_separate(fused_mbconv_forward, run_fused_mbconv);

}  // namespace

Tensor expand_depthwise(const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2,
                        const Tensor& b2, const ExpandDepthwiseParams& p, Tensor* pooled) {
  const Shape expanded = conv2d_shape(x.shape(), w1.shape(), {});
  PLUME_CHECK(w1.dim(1) == 1 && w1.dim(2) == 1, "expand_depthwise: filter {} must be 1x1", w1.shape());
  Tensor d = empty(depthwise_conv2d_shape(expanded, w2.shape(), depthwise_params(p)), x), nothing;
  if (pooled) *pooled = plane_means(d, 1);
  count_macs(Work::pointwise, conv2d_macs(x.shape(), w1.shape(), {}));
  count_macs(Work::depthwise, depthwise_conv2d_macs(expanded, w2.shape(), depthwise_params(p)));
  expand_depthwise_forward(context(x.device()), x, w1, b1, w2, b2, p, d, pooled ? *pooled : nothing);
  return d;
}

Tensor squeeze_gate(const Tensor& pooled, const Tensor& w1, const Tensor& b1, const Tensor& w2,
                    const Tensor& b2, const SqueezeExcitationParams& params) {
  PLUME_CHECK(pooled.rank() == 3, "squeeze_gate: pooled {} must have rank 3", pooled.shape());
  const int64_t images = pooled.dim(0), channels = pooled.dim(2), hidden = w1.dim(0);
  PLUME_CHECK(w1.size() == hidden * channels && w2.dim(0) == channels && w2.size() == hidden * channels,
              "squeeze_gate: pooled {} does not fit weights {} and {}", pooled.shape(), w1.shape(),
              w2.shape());
  PLUME_CHECK(w1.dtype() == w2.dtype(), "squeeze_gate: weights of types {} and {}, expected one", w1.dtype(),
              w2.dtype());
  Tensor gate = empty({images, channels}, pooled);
  count_macs(Work::squeeze_excitation, images * 2 * hidden * channels);
  SqueezeExcitationKept nothing;
  squeeze_gate_forward(context(pooled.device()), pooled, w1.reshape({hidden, channels}), b1,
                       w2.reshape({channels, hidden}), b2, params, gate, nothing);
  return gate;
}

Tensor gated_pointwise(const Tensor& x, const Tensor& gate, const Tensor& w, const Epilogue& epilogue,
                       PackedFilter* packed) {
  Tensor y = empty(conv2d_shape(x.shape(), w.shape(), {}), x);
  PLUME_CHECK(w.dim(1) == 1 && w.dim(2) == 1 && gate.shape() == Shape({x.dim(0), x.dim(3)}),
              "gated_pointwise: input {}, gate {} and filter {} do not fit", x.shape(), gate.shape(),
              w.shape());
  count_macs(Work::pointwise, conv2d_macs(x.shape(), w.shape(), {}));
  gated_pointwise_forward(context(x.device()), x, gate, w, packed, epilogue, y);
  return y;
}

Tensor fused_mbconv(const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2,
                    const Epilogue& epilogue, const FusedMbconvParams& p) {
  const Conv2dParams first{p.stride, p.padding, 1, nullptr};
  const Shape expanded = conv2d_shape(x.shape(), w1.shape(), first);
  PLUME_CHECK(w2.dim(1) == 1 && w2.dim(2) == 1, "fused_mbconv: filter {} must be 1x1", w2.shape());
  Tensor y = empty(conv2d_shape(expanded, w2.shape(), {}), x);
  count_macs(Work::dense, conv2d_macs(x.shape(), w1.shape(), first));
  count_macs(Work::pointwise, conv2d_macs(expanded, w2.shape(), {}));
  fused_mbconv_forward(context(x.device()), x, w1, b1, w2, epilogue, p, y);
  return y;
}

}  // namespace plume
