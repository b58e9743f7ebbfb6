#include "engine/ops/batch_norm_conv.h"

#include "engine/autograd/tape.h"
#include "engine/ops/cast.h"
#include "engine/ops/separate.h"
#include "engine/profiler/cost.h"

namespace plume {

namespace {

CallCost forward_cost(const Tensor& x, const Tensor&, const Tensor&, const BatchNormParams&, const Tensor& w,
                      const Conv2dParams& conv, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                      const Tensor&) {
  return {CallClass::fused, double(any_conv2d_macs(x.shape(), w.shape(), conv))};
}

CallCost weight_cost(const Tensor& x, const KnownNorm&, const Tensor&, const Conv2dParams& conv,
                     const Tensor& dw) {
  return {CallClass::fused, double(any_conv2d_macs(x.shape(), dw.shape(), conv))};
}

CallCost backward_cost(const Tensor& x, const KnownNorm&, const Tensor&, const Tensor& w,
                       const Conv2dParams& conv, const Tensor&, const Tensor&, const Tensor&, const Tensor&) {
  return {CallClass::fused, 2 * double(any_conv2d_macs(x.shape(), w.shape(), conv))};
}

}  // namespace

constinit KernelSlot<BatchNormConvForward> batch_norm_conv_forward{"batch_norm_conv.forward", forward_cost};
constinit KernelSlot<BatchNormConvBackwardWeight> batch_norm_conv_backward_weight{
    "batch_norm_conv.backward_weight", weight_cost};
constinit KernelSlot<BatchNormConvBackward> batch_norm_conv_backward{"batch_norm_conv.backward",
                                                                     backward_cost};

namespace {

void run_separate(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                  const BatchNormParams& params, const Tensor& w, const Conv2dParams& conv, Tensor& y,
                  Tensor& mean, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  Tensor u = empty_like(x);
  batch_norm_forward_train(context, x, gamma, beta, {}, params, {}, u, mean, inv_std, running_mean,
                           running_var);
  any_conv2d_forward(context, u, w, conv, y);
}

void run_separate_backward_weight(Context& context, const Tensor& x, const KnownNorm& norm, const Tensor& dy,
                                  const Conv2dParams& conv, Tensor& dw) {
  Tensor u = empty_like(x);
  batch_norm_normalise(context, x, norm, u);
  any_conv2d_backward_weight(context, u, dy, conv, dw);
}

void run_separate_backward(Context& context, const Tensor& x, const KnownNorm& norm, const Tensor& dy,
                           const Tensor& w, const Conv2dParams& conv, Tensor& dx, Tensor& dw, Tensor& dgamma,
                           Tensor& dbeta) {
  batch_norm_conv_backward_weight(context, x, norm, dy, conv, dw);
  Tensor du = empty_like(x), none;
  any_conv2d_backward_input(context, dy, w, conv, du);
  batch_norm_backward(context, x, none, du, none, norm.gamma, norm.beta, norm.mean, norm.inv_std,
                      {norm.activation, false}, {}, dx, none, dgamma, dbeta);
}

const bool registered = add_separate(batch_norm_conv_forward, run_separate) &&
                        add_separate(batch_norm_conv_backward_weight, run_separate_backward_weight) &&
                        add_separate(batch_norm_conv_backward, run_separate_backward);

}  // namespace

bool fuses_batch_norm_conv(const Variable& x, const BatchNormParams& params, const Variable& weight,
                           const Conv2dParams& conv) {
  Tensor none;
  const char* variant =
      batch_norm_conv_forward.choose(x.context(), x.value(), none, none, params, value_in(weight, x.dtype()),
                                     conv, none, none, none, none, none);
  return is_joint(variant);
}

Variable batch_norm_conv_train(const Variable& x, const Variable& gamma, const Variable& beta,
                               Tensor& running_mean, Tensor& running_var, const BatchNormParams& params,
                               const Variable& weight, const Conv2dParams& conv) {
  check_batch_norm_train(x, gamma, beta, {}, params.activation, {});
  Tensor y = empty(any_conv2d_shape(x.shape(), weight.shape(), conv), x.value());
  Tensor mean = empty_like(gamma.value()), inv_std = empty_like(gamma.value());
  const Tensor filter = value_in(weight, x.dtype());
  count_any_conv2d(x.shape(), weight.shape(), conv);
  batch_norm_conv_forward(x.context(), x.value(), gamma.value(), beta.value(), params, filter, conv, y, mean,
                          inv_std, running_mean, running_var);
  // The fourth place is a residual's, for batch_norm_gradients.
  return record("batch_norm_conv", y, {x, gamma, beta, {}, weight},
                [=, activation = params.activation, type = weight.dtype()](const Tensor& dy, Gradients& g) {
                  Context& context = x.context();
                  const KnownNorm norm{gamma.value(), beta.value(), mean, inv_std, activation};
                  Tensor dw;
                  if (g.wants(4)) dw = Tensor::empty(filter.shape(), type, filter.device());
                  if (g.wants(0) && g.wants(1) && g.wants(2) && g.wants(4)) {
                    Tensor dx = empty_like(x.value()), dgamma = empty_like(mean), dbeta = empty_like(mean);
                    batch_norm_conv_backward(context, x.value(), norm, dy, filter, conv, dx, dw, dgamma,
                                             dbeta);
                    g.add(0, dx);
                    g.add(1, dgamma);
                    g.add(2, dbeta);
                    g.add(4, dw);
                    return;
                  }
                  if (dw.defined()) {
                    batch_norm_conv_backward_weight(context, x.value(), norm, dy, conv, dw);
                    g.add(4, dw);
                  }
                  if (!g.wants(0) && !g.wants(1) && !g.wants(2)) return;
                  Tensor du = empty_like(x.value());
                  any_conv2d_backward_input(context, dy, filter, conv, du);
                  g.add(0, batch_norm_gradients(g, 1, x.value(), {}, du, {}, gamma, beta, mean, inv_std,
                                                {activation, false}, {}));
                });
}

}  // namespace plume
