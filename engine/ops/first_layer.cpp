#include "engine/ops/first_layer.h"

#include "engine/autograd/tape.h"
#include "engine/ops/cast.h"
#include "engine/ops/separate.h"
#include "engine/profiler/cost.h"

namespace plume {

namespace {

CallCost backward_cost(const Tensor& x, const Conv2dParams& conv, const Tensor&, const WindowWinners&,
                       const Tensor&, const Tensor&, const KnownNorm&, const Tensor& dw, const Tensor&,
                       const Tensor&) {
  return {CallClass::fused, double(conv2d_macs(x.shape(), dw.shape(), conv))};
}

}  // namespace

constinit KernelSlot<FirstLayerBackward> first_layer_backward{"first_layer.backward", backward_cost};

namespace {

void run_separate(Context& context, const Tensor& x, const Conv2dParams& conv, const Tensor& z,
                  const WindowWinners& winners, const Tensor& dy, const Tensor& dy_more,
                  const KnownNorm& norm, Tensor& dw, Tensor& dgamma, Tensor& dbeta) {
  Tensor dz = empty_like(z), none;
  if (winners.argmax.defined())
    batch_norm_max_pool_backward(context, z, winners, dy, dy_more, norm, dz, dgamma, dbeta);
  else
    batch_norm_backward(context, z, none, dy, dy_more, norm.gamma, norm.beta, norm.mean, norm.inv_std,
                        {norm.activation, false}, {}, dz, none, dgamma, dbeta);
  conv2d_backward_weight(context, x, dz, conv, dw);
}

const bool registered = add_separate(first_layer_backward, run_separate);

WindowWinners winners_of(const MaxPool2dParams* pool) {
  return {.values = {}, .argmax = {}, .pool = pool ? *pool : MaxPool2dParams{.window = 0}};
}

}  // namespace

bool fuses_first_layer(const Variable& x, const Variable& weight, const Conv2dParams& conv,
                       const BatchNormParams& params, const MaxPool2dParams* pool) {
  if (x.requires_grad() || !weight.requires_grad() || weight.shape().rank() != 4) return false;
  Tensor none, filter = weight.value();
  return is_joint(first_layer_backward.choose(x.context(), x.value(), conv, none, winners_of(pool), none,
                                              none, {none, none, none, none, params.activation}, filter, none,
                                              none));
}

Variable first_layer_train(const Variable& x, const Variable& weight, const Variable& gamma,
                           const Variable& beta, Tensor& running_mean, Tensor& running_var,
                           const Conv2dParams& conv, const BatchNormParams& params,
                           const MaxPool2dParams* pool) {
  PLUME_CHECK(!x.requires_grad(), "first_layer: images have no gradient here");
  Context& context = x.context();
  const Tensor z = conv2d_fused(x.value(), value_in(weight, x.dtype()), conv, {});
  check_batch_norm_train(z, gamma, beta, {}, params.activation, {});
  Tensor y = pool ? empty(max_pool2d_shape(z.shape(), *pool), z) : empty_like(z);
  Tensor mean = empty_like(gamma.value()), inv_std = empty_like(gamma.value());
  WindowWinners winners = winners_of(pool);
  if (pool) {
    if (needs_grad({weight, gamma, beta})) winners.keep(z, params);
    batch_norm_max_pool_forward(context, z, gamma.value(), beta.value(), params, *pool, y, winners.values,
                                winners.argmax, mean, inv_std, running_mean, running_var);
  } else {
    batch_norm_forward_train(context, z, gamma.value(), beta.value(), {}, params, {}, y, mean, inv_std,
                             running_mean, running_var);
  }
  return record_joining(
      "first_layer", y, {x, weight, gamma, beta},
      [=, activation = params.activation](const Tensor& dy, const Tensor& more, Gradients& g) {
        Tensor dw = empty_like(weight.value()), dgamma = empty_like(mean), dbeta = empty_like(mean);
        first_layer_backward(x.context(), x.value(), conv, z, winners, dy, more,
                             {gamma.value(), beta.value(), mean, inv_std, activation}, dw, dgamma, dbeta);
        g.add(1, dw);
        g.add(2, dgamma);
        g.add(3, dbeta);
      });
}

}  // namespace plume
