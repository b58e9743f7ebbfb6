#include "engine/ops/conv_batch_norm.h"

#include "engine/autograd/tape.h"
#include "engine/ops/cast.h"
#include "engine/ops/separate.h"
#include "engine/profiler/cost.h"

namespace plume {

namespace {

CallCost conv_batch_norm_cost(const Tensor& x, const Tensor& w, const Conv2dParams& conv, const Tensor&,
                              const Tensor&, const Tensor&, const BatchNormParams&, const SampleDrop&,
                              const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                              const Tensor&) {
  return {CallClass::fused, double(any_conv2d_macs(x.shape(), w.shape(), conv))};
}

CallCost backward_cost(const Tensor& x, const Tensor& w, const Conv2dParams& conv, const Tensor&,
                       const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                       const Tensor&, const Activation&, const Tensor&, const Tensor&, const Tensor&,
                       const Tensor&) {
  return {CallClass::fused, 2 * double(any_conv2d_macs(x.shape(), w.shape(), conv))};
}

}  // namespace

constinit KernelSlot<ConvBatchNormForward> conv_batch_norm_forward{"conv_batch_norm.forward",
                                                                   conv_batch_norm_cost};
constinit KernelSlot<ConvBatchNormBackward> conv_batch_norm_backward{"conv_batch_norm.backward",
                                                                     backward_cost};

namespace {

void run_separate(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& conv,
                  const Tensor& gamma, const Tensor& beta, const Tensor& residual,
                  const BatchNormParams& params, const SampleDrop& drop, Tensor& z, Tensor& y, Tensor& mean,
                  Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  any_conv2d_forward(context, x, w, conv, z);
  batch_norm_forward_train(context, z, gamma, beta, residual, params, drop, y, mean, inv_std, running_mean,
                           running_var);
}

void run_separate_backward(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& conv,
                           const Tensor& z, const Tensor& dy, const Tensor& dy_more, const Tensor& gamma,
                           const Tensor& beta, const Tensor& mean, const Tensor& inv_std,
                           const Activation& activation, Tensor& dx, Tensor& dw, Tensor& dgamma,
                           Tensor& dbeta) {
  Tensor dz = empty_like(z), none;
  batch_norm_backward(context, z, none, dy, dy_more, gamma, beta, mean, inv_std, {activation, false}, {}, dz,
                      none, dgamma, dbeta);
  if (is_depthwise(w.shape())) {
    depthwise_conv2d_backward_input(context, dz, w, conv, dx);
    depthwise_conv2d_backward_weight(context, x, dz, conv, dw);
  } else {
    conv2d_backward(context, x, w, dz, conv, dx, dw);
  }
}

const bool registered = add_separate(conv_batch_norm_forward, run_separate) &&
                        add_separate(conv_batch_norm_backward, run_separate_backward);

}  // namespace

bool fuses_conv_batch_norm(const Variable& x, const Variable& weight, const Conv2dParams& params) {
  Tensor none;
  const char* variant =
      conv_batch_norm_forward.choose(x.context(), x.value(), value_in(weight, x.dtype()), params, none, none,
                                     none, {}, {}, none, none, none, none, none, none);
  return is_joint(variant);
}

namespace {

// All gradients by one kernel, where there is one and all are wanted.
bool gradients_in_one(Gradients& g, const Variable& x, const Tensor& w, DType dw_type,
                      const Conv2dParams& conv, const Tensor& z, const Tensor& dy, const Tensor& more,
                      const Tensor& gamma, const Tensor& beta, const Tensor& mean, const Tensor& inv_std,
                      Activation activation) {
  if (!g.wants(0) || !g.wants(1)) return false;
  Context& context = x.context();
  Tensor dx = empty_like(x.value()), dw = Tensor::empty(w.shape(), dw_type, w.device());
  Tensor dgamma = empty_like(mean), dbeta = empty_like(mean);
  const char* variant = conv_batch_norm_backward.choose(context, x.value(), w, conv, z, dy, more, gamma, beta,
                                                        mean, inv_std, activation, dx, dw, dgamma, dbeta);
  if (!is_joint(variant)) return false;
  conv_batch_norm_backward(context, x.value(), w, conv, z, dy, more, gamma, beta, mean, inv_std, activation,
                           dx, dw, dgamma, dbeta);
  g.add(0, dx);
  g.add(1, dw);
  g.add(2, dgamma);
  g.add(3, dbeta);
  return true;
}

}  // namespace

Variable conv_batch_norm_train(const Variable& x, const Variable& weight, const Variable& gamma,
                               const Variable& beta, const Variable& residual, Tensor& running_mean,
                               Tensor& running_var, const Conv2dParams& conv, const BatchNormParams& params,
                               const SampleDrop& drop) {
  Tensor z = empty(any_conv2d_shape(x.shape(), weight.shape(), conv), x.value());
  check_batch_norm_train(z, gamma, beta, residual, params.activation, drop);
  Tensor y = empty_like(z), mean = empty_like(gamma.value()), inv_std = empty_like(gamma.value());
  const Tensor filter = value_in(weight, x.dtype());
  count_any_conv2d(x.shape(), weight.shape(), conv);
  conv_batch_norm_forward(x.context(), x.value(), filter, conv, gamma.value(), beta.value(),
                          residual.defined() ? residual.value() : Tensor(), params, drop, z, y, mean, inv_std,
                          running_mean, running_var);
  return record_joining(
      "conv_batch_norm", y, {x, weight, gamma, beta, residual},
      [=, kept = kept_output(y, params.activation, residual.defined()), type = weight.dtype()](
          const Tensor& dy, const Tensor& more, Gradients& g) {
        if (!residual.defined() && gradients_in_one(g, x, filter, type, conv, z, dy, more, gamma.value(),
                                                    beta.value(), mean, inv_std, params.activation))
          return;
        const Tensor dz = batch_norm_gradients(g, 2, z, kept, dy, more, gamma, beta, mean, inv_std,
                                               {params.activation, false}, drop);
        if (is_depthwise(filter.shape()))
          depthwise_conv2d_gradients(g, dz, x, filter, type, conv);
        else
          conv2d_gradients(g, dz, x, filter, type, conv, 1);
      });
}

}  // namespace plume
