#include "engine/ops/batch_norm.h"

#include "engine/autograd/tape.h"

namespace plume {

constinit KernelSlot<BatchNormForwardTrain> batch_norm_forward_train{"batch_norm.forward_train",
                                                                     costs<CallClass::batch_norm>};
constinit KernelSlot<BatchNormForwardEval> batch_norm_forward_eval{"batch_norm.forward_eval",
                                                                   costs<CallClass::batch_norm>};
constinit KernelSlot<BatchNormNormalise> batch_norm_normalise{"batch_norm.normalise",
                                                              costs<CallClass::batch_norm>};
constinit KernelSlot<BatchNormBackward> batch_norm_backward{"batch_norm.backward",
                                                            costs<CallClass::batch_norm>};
constinit KernelSlot<BatchNormInvStd> batch_norm_inv_std{"batch_norm.inv_std", costs<CallClass::batch_norm>};

void check_batch_norm(const Variable& x, const Variable& gamma, const Variable& beta,
                      const Variable& residual, Activation activation) {
  const Shape channels{x.dim(-1)};
  PLUME_CHECK(gamma.shape() == channels && beta.shape() == channels,
              "batch_norm: input {} needs gamma and beta of shape {}, got {} and {}", x.shape(), channels,
              gamma.shape(), beta.shape());
  PLUME_CHECK(!residual.defined() || (residual.shape() == x.shape() && residual.dtype() == x.dtype()),
              "batch_norm: residual and input must be alike");
  PLUME_CHECK(!residual.defined() || !slope_needs_input(activation), "batch_norm: {} with a residual",
              name(activation));
}

Tensor kept_output(const Tensor& y, Activation activation, bool residual) {
  return residual && activation != Activation::identity && !slope_needs_input(activation) ? y : Tensor();
}

Tensor batch_norm_gradients(Gradients& g, int gamma_place, const Tensor& x, const Tensor& y, const Tensor& dy,
                            const Tensor& more, const Variable& gamma, const Variable& beta,
                            const Tensor& mean, const Tensor& inv_std, BatchNormBackwardParams params,
                            const SampleDrop& drop) {
  const int residual_place = gamma_place + 2;
  Tensor dx = empty_like(x);
  Tensor dgamma = empty_like(mean), dbeta = empty_like(mean);
  Tensor dresidual;
  if (g.wants(residual_place)) {
    const bool same = params.activation == Activation::identity || drop.state.defined();
    if (same && !more.defined())
      g.add(residual_place, dy);
    else
      dresidual = empty_like(dy);
  }
  batch_norm_backward(gamma.context(), x, y, dy, more, gamma.value(), beta.value(), mean, inv_std, params,
                      drop, dx, dresidual, dgamma, dbeta);
  g.add(gamma_place, dgamma);
  g.add(gamma_place + 1, dbeta);
  if (dresidual.defined()) g.add(residual_place, dresidual);
  return dx;
}

namespace {

JoiningRule gradient_rule(const Variable& x, const Tensor& y, const Variable& gamma, const Variable& beta,
                          const Tensor& mean, const Tensor& inv_std, BatchNormBackwardParams params,
                          const SampleDrop& drop = {}) {
  return [x, y, gamma, beta, mean, inv_std, params, drop](const Tensor& dy, const Tensor& more,
                                                          Gradients& g) {
    g.add(0, batch_norm_gradients(g, 1, x.value(), y, dy, more, gamma, beta, mean, inv_std, params, drop));
  };
}

const Tensor& value_or_undefined(const Variable& v) {
  static const Tensor undefined;
  return v.defined() ? v.value() : undefined;
}

}  // namespace

void check_batch_norm_train(const Variable& x, const Variable& gamma, const Variable& beta,
                            const Variable& residual, Activation activation, const SampleDrop& drop) {
  check_batch_norm(x, gamma, beta, drop.state.defined() ? Variable() : residual, activation);
  PLUME_CHECK(!drop.state.defined() ||
                  (residual.defined() && residual.shape() == x.shape() && residual.dtype() == x.dtype() &&
                   !kept_output(x.value(), activation, true).defined()),
              "batch_norm: samples dropped with {} and residual {}", name(activation),
              to_string(value_or_undefined(residual)));
  PLUME_CHECK(x.value().size() > x.dim(-1),
              "batch_norm: training needs more than one value per channel, got input {}", x.shape());
}

Variable batch_norm_train(const Variable& x, const Variable& gamma, const Variable& beta,
                          const Variable& residual, Tensor& running_mean, Tensor& running_var,
                          const BatchNormParams& params, const SampleDrop& drop) {
  check_batch_norm_train(x, gamma, beta, residual, params.activation, drop);
  Tensor y = empty_like(x.value());
  Tensor mean = empty_like(gamma.value()), inv_std = empty_like(gamma.value());
  batch_norm_forward_train(x.context(), x.value(), gamma.value(), beta.value(), value_or_undefined(residual),
                           params, drop, y, mean, inv_std, running_mean, running_var);
  return record_joining("batch_norm", y, {x, gamma, beta, residual},
                        gradient_rule(x, kept_output(y, params.activation, residual.defined()), gamma, beta,
                                      mean, inv_std, {params.activation, false}, drop));
}

Variable batch_norm_eval(const Variable& x, const Variable& gamma, const Variable& beta,
                         const Variable& residual, const Tensor& running_mean, const Tensor& running_var,
                         const BatchNormParams& params) {
  check_batch_norm(x, gamma, beta, residual, params.activation);
  Tensor y = empty_like(x.value());
  batch_norm_forward_eval(x.context(), x.value(), gamma.value(), beta.value(), value_or_undefined(residual),
                          running_mean, running_var, params, y);
  if (!needs_grad({x, gamma, beta, residual})) return y;
  Tensor inv_std = empty_like(running_var);
  batch_norm_inv_std(x.context(), running_var, params.eps, inv_std);
  return record_joining("batch_norm", y, {x, gamma, beta, residual},
                        gradient_rule(x, kept_output(y, params.activation, residual.defined()), gamma, beta,
                                      running_mean.clone(), inv_std, {params.activation, true}));
}

}  // namespace plume
