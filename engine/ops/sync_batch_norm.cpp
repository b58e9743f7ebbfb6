#include "engine/ops/sync_batch_norm.h"

#include "engine/autograd/tape.h"

namespace plume {

constinit KernelSlot<SyncBatchNormStatistics> sync_batch_norm_statistics{"sync_batch_norm.statistics",
                                                                         costs<CallClass::batch_norm>};
constinit KernelSlot<SyncBatchNormMerge> sync_batch_norm_merge{"sync_batch_norm.merge",
                                                               costs<CallClass::batch_norm>};
constinit KernelSlot<SyncBatchNormBackwardSums> sync_batch_norm_backward_sums{"sync_batch_norm.backward_sums",
                                                                              costs<CallClass::batch_norm>};
constinit KernelSlot<SyncBatchNormBackwardInput> sync_batch_norm_backward_input{
    "sync_batch_norm.backward_input", costs<CallClass::batch_norm>};

Variable sync_batch_norm_train(const Variable& x, const Variable& gamma, const Variable& beta,
                               const Variable& residual, Tensor& running_mean, Tensor& running_var,
                               const BatchNormParams& params, Communicator& communicator) {
  check_batch_norm(x, gamma, beta, residual, params.activation);
  Context& context = x.context();
  const int64_t channels = x.dim(-1);
  Tensor own = empty({channels, 3}, gamma.value());
  sync_batch_norm_statistics(context, x.value(), own);
  Tensor moments = empty({communicator.size(), channels, 3}, own);
  communicator.all_gather(own, moments);

  Tensor count = empty_like(gamma.value()), mean = empty_like(count), var = empty_like(count),
         inv_std = empty_like(count);
  sync_batch_norm_merge(context, moments, params, count, mean, var, inv_std, running_mean, running_var);
  Tensor y = empty_like(x.value());
  const Tensor extra = residual.defined() ? residual.value() : Tensor();
  batch_norm_forward_eval(context, x.value(), gamma.value(), beta.value(), extra, mean, var, params, y);

  const Tensor kept = kept_output(y, params.activation, residual.defined());
  return record(
      "sync_batch_norm", y, {x, gamma, beta, residual},
      [=, activation = params.activation, ranks = &communicator](const Tensor& dy, Gradients& g) {
        Tensor dgamma = empty_like(mean), dbeta = empty_like(mean);
        sync_batch_norm_backward_sums(x.context(), x.value(), kept, dy, gamma.value(), beta.value(), mean,
                                      inv_std, activation, dgamma, dbeta);
        g.add(1, dgamma);
        g.add(2, dbeta);
        Tensor sums = empty({2, mean.size()}, mean);
        const DeviceBackend& device = backend(mean.device());
        device.copy(sums.data<float>(), dgamma.raw(), dgamma.bytes(), x.context().stream());
        device.copy(sums.data<float>() + mean.size(), dbeta.raw(), dbeta.bytes(), x.context().stream());
        ranks->all_reduce(sums);

        Tensor dx = empty_like(x.value()), dresidual;
        const bool same = activation == Activation::identity;  // dresidual is dy itself
        if (g.wants(3) && !same) dresidual = empty_like(dy);
        sync_batch_norm_backward_input(x.context(), x.value(), kept, dy, gamma.value(), beta.value(), mean,
                                       inv_std, count, sums, activation, dx, dresidual);
        g.add(0, dx);
        if (g.wants(3)) g.add(3, same ? dy : dresidual);
      });
}

}  // namespace plume
