#include "engine/ops/batch_norm_max_pool.h"

#include "engine/autograd/tape.h"
#include "engine/ops/separate.h"

namespace plume {

constinit KernelSlot<BatchNormMaxPoolForward> batch_norm_max_pool_forward{"batch_norm_max_pool.forward",
                                                                          costs<CallClass::batch_norm>};
constinit KernelSlot<BatchNormMaxPoolBackward> batch_norm_max_pool_backward{"batch_norm_max_pool.backward",
                                                                            costs<CallClass::batch_norm>};

namespace {

void run_separate(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                  const BatchNormParams& params, const MaxPool2dParams& pool, Tensor& y, Tensor&,
                  Tensor& argmax, Tensor& mean, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  Tensor u = empty_like(x);
  batch_norm_forward_train(context, x, gamma, beta, {}, params, {}, u, mean, inv_std, running_mean,
                           running_var);
  max_pool2d_forward(context, u, pool, y, argmax);
}

void run_separate_backward(Context& context, const Tensor& x, const WindowWinners& winners, const Tensor& dy,
                           const Tensor& dy_more, const KnownNorm& norm, Tensor& dx, Tensor& dgamma,
                           Tensor& dbeta) {
  const auto before_pooling = [&](const Tensor& after) {
    if (!after.defined()) return Tensor();
    Tensor before = empty_like(x);
    max_pool2d_backward(context, after, winners.argmax, winners.pool, before);
    return before;
  };
  Tensor none;
  batch_norm_backward(context, x, none, before_pooling(dy), before_pooling(dy_more), norm.gamma, norm.beta,
                      norm.mean, norm.inv_std, {norm.activation, false}, {}, dx, none, dgamma, dbeta);
}

const bool registered = add_separate(batch_norm_max_pool_forward, run_separate) &&
                        add_separate(batch_norm_max_pool_backward, run_separate_backward);

}  // namespace

bool fuses_batch_norm_max_pool(const Variable& x, const BatchNormParams& params,
                               const MaxPool2dParams& pool) {
  Tensor none;
  return is_joint(batch_norm_max_pool_forward.choose(x.context(), x.value(), none, none, params, pool, none,
                                                     none, none, none, none, none, none));
}

void WindowWinners::keep(const Variable& x, const BatchNormParams& params) {
  const Shape windows = max_pool2d_shape(x.shape(), pool);
  argmax = Tensor::empty(windows, DType::u8, x.device());
  if (fuses_batch_norm_max_pool(x, params, pool)) values = empty(windows, x.value());
}

Variable batch_norm_max_pool_train(const Variable& x, const Variable& gamma, const Variable& beta,
                                   Tensor& running_mean, Tensor& running_var, const BatchNormParams& params,
                                   const MaxPool2dParams& pool) {
  check_batch_norm_train(x, gamma, beta, {}, params.activation, {});
  Tensor y = empty(max_pool2d_shape(x.shape(), pool), x.value());
  Tensor mean = empty_like(gamma.value()), inv_std = empty_like(gamma.value());
  WindowWinners winners{.values = {}, .argmax = {}, .pool = pool};
  if (needs_grad({x, gamma, beta})) winners.keep(x, params);
  batch_norm_max_pool_forward(x.context(), x.value(), gamma.value(), beta.value(), params, pool, y,
                              winners.values, winners.argmax, mean, inv_std, running_mean, running_var);
  return record_joining(
      "batch_norm_max_pool", y, {x, gamma, beta},
      [=, activation = params.activation](const Tensor& dy, const Tensor& more, Gradients& g) {
        Tensor dx = empty_like(x.value()), dgamma = empty_like(mean), dbeta = empty_like(mean);
        batch_norm_max_pool_backward(x.context(), x.value(), winners, dy, more,
                                     {gamma.value(), beta.value(), mean, inv_std, activation}, dx, dgamma,
                                     dbeta);
        g.add(0, dx);
        g.add(1, dgamma);
        g.add(2, dbeta);
      });
}

}  // namespace plume
