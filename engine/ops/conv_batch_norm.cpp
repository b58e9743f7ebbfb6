#include "engine/ops/conv_batch_norm.h"

#include <string_view>

#include "engine/autograd/tape.h"
#include "engine/ops/cast.h"
#include "engine/profiler/cost.h"

namespace plume {

namespace {

bool depthwise(const Shape& w) { return w.rank() == 3; }

int64_t macs(const Shape& x, const Shape& w, const Conv2dParams& conv) {
  return depthwise(w) ? depthwise_conv2d_macs(x, w, conv) : conv2d_macs(x, w, conv);
}

CallCost conv_batch_norm_cost(const Tensor& x, const Tensor& w, const Conv2dParams& conv, const Tensor&,
                              const Tensor&, const Tensor&, const BatchNormParams&, const SampleDrop&,
                              const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                              const Tensor&) {
  return {CallClass::fused, double(macs(x.shape(), w.shape(), conv))};
}

}  // namespace

constinit KernelSlot<ConvBatchNormForward> conv_batch_norm_forward{"conv_batch_norm.forward",
                                                                   conv_batch_norm_cost};

namespace {

constexpr std::string_view kSeparate = "separate";

// On any device, for what no other variant takes.
void run_separate(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& conv,
                  const Tensor& gamma, const Tensor& beta, const Tensor& residual,
                  const BatchNormParams& params, const SampleDrop& drop, Tensor& z, Tensor& y, Tensor& mean,
                  Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  if (depthwise(w.shape()))
    depthwise_conv2d_forward(context, x, w, conv, {}, z);
  else
    conv2d_forward(context, x, w, conv, {}, z);
  batch_norm_forward_train(context, z, gamma, beta, residual, params, drop, y, mean, inv_std, running_mean,
                           running_var);
}

bool register_everywhere() {
  for (const Device device : {Device::cpu, Device::cuda, Device::simt})
    conv_batch_norm_forward.add(device, {{kSeparate.data(), always, run_separate}}, KernelSlotBase::kOwn - 1);
  return true;
}
const bool registered = register_everywhere();

}  // namespace

Shape conv_batch_norm_shape(const Shape& x, const Shape& w, const Conv2dParams& conv) {
  return depthwise(w) ? depthwise_conv2d_shape(x, w, conv) : conv2d_shape(x, w, conv);
}

bool fuses_conv_batch_norm(const Variable& x, const Variable& weight, const Conv2dParams& params) {
  Tensor none;
  const char* variant =
      conv_batch_norm_forward.choose(x.context(), x.value(), value_in(weight, x.dtype()), params, none, none,
                                     none, {}, {}, none, none, none, none, none, none);
  return variant != nullptr && variant != kSeparate;
}

Variable conv_batch_norm_train(const Variable& x, const Variable& weight, const Variable& gamma,
                               const Variable& beta, const Variable& residual, Tensor& running_mean,
                               Tensor& running_var, const Conv2dParams& conv, const BatchNormParams& params,
                               const SampleDrop& drop) {
  Tensor z = empty(conv_batch_norm_shape(x.shape(), weight.shape(), conv), x.value());
  check_batch_norm_train(z, gamma, beta, residual, params.activation, drop);
  Tensor y = empty_like(z), mean = empty_like(gamma.value()), inv_std = empty_like(gamma.value());
  const Tensor filter = value_in(weight, x.dtype());
  const Shape& w = weight.shape();
  count_macs(depthwise(w)       ? Work::depthwise
             : w[1] * w[2] == 1 ? Work::pointwise
                                : Work::dense,
             macs(x.shape(), w, conv));
  conv_batch_norm_forward(x.context(), x.value(), filter, conv, gamma.value(), beta.value(),
                          residual.defined() ? residual.value() : Tensor(), params, drop, z, y, mean, inv_std,
                          running_mean, running_var);
  return record_joining("conv_batch_norm", y, {x, weight, gamma, beta, residual},
                        [=, kept = kept_output(y, params.activation), type = weight.dtype()](
                            const Tensor& dy, const Tensor& more, Gradients& g) {
                          const Tensor dz = batch_norm_gradients(g, 2, z, kept, dy, more, gamma, beta, mean,
                                                                 inv_std, {params.activation, false}, drop);
                          if (depthwise(filter.shape()))
                            depthwise_conv2d_gradients(g, dz, x, filter, type, conv);
                          else
                            conv2d_gradients(g, dz, x, filter, type, conv, 1);
                        });
}

}  // namespace plume
