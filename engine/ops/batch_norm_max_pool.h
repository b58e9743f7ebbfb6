// batch_norm_max_pool: the batch norm of an image and the max pooling that alone reads it, in training: how
// networks begin.
//
//   y = max_pool2d( activation( gamma * (x - mean) / sqrt(var + eps) + beta ) )
//
// as batch_norm.h, with the batch's statistics, and max_pool2d.h have them. An activation that never falls
// keeps the order of its inputs, and the norm keeps it or, where gamma is negative, turns it round. So which
// pixel of a window wins does not depend on the statistics: it is that of the largest x, or of the least. A
// device that has a kernel for both finds the winners while it adds up the statistics, normalises these
// alone, and stores neither the normalised image nor its gradient.
//
// y is the same, given the statistics: rounding, too, keeps the order. The gradient differs where several x
// of a window become one value, by rounding to 16 bits or by a gamma of 0: it then goes to the largest of
// these x (the first one of equal ones), not to the first of them.
#pragma once
#include "engine/ops/batch_norm.h"
#include "engine/ops/max_pool2d.h"

namespace plume {

// Whether a kernel for both would run here. Otherwise the two operations are the same in two steps.
bool fuses_batch_norm_max_pool(const Variable& x, const BatchNormParams& params, const MaxPool2dParams& pool);

// Arguments as for batch_norm_train and max_pool2d.
Variable batch_norm_max_pool_train(const Variable& x, const Variable& gamma, const Variable& beta,
                                   Tensor& running_mean, Tensor& running_var, const BatchNormParams& params,
                                   const MaxPool2dParams& pool);

// Outputs that are kept for the gradient: mean and inv_std; argmax as in max_pool2d.h, undefined where no
// gradient is wanted; and, undefined where none is wanted or this is done in two steps, the winners: x of
// each window's.
using BatchNormMaxPoolForward = void(Context&, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                                     const BatchNormParams&, const MaxPool2dParams&, Tensor& y,
                                     Tensor& winners, Tensor& argmax, Tensor& mean, Tensor& inv_std,
                                     Tensor& running_mean, Tensor& running_var);
// What the forward pass left, beside what batch_norm.backward reads.
struct WindowWinners {
  Tensor values, argmax;
  MaxPool2dParams pool;

  // Makes room for what the gradient needs of x.
  void keep(const Variable& x, const BatchNormParams& params);

  template <class Self, class F>
  static void for_each_tensor(Self& self, F&& f) {
    f(self.values);
    f(self.argmax);
  }
};
// Gradients as in batch_norm.h, of dy + dy_more, which may be undefined.
using BatchNormMaxPoolBackward = void(Context&, const Tensor& x, const WindowWinners&, const Tensor& dy,
                                      const Tensor& dy_more, const KnownNorm&, Tensor& dx, Tensor& dgamma,
                                      Tensor& dbeta);
extern KernelSlot<BatchNormMaxPoolForward> batch_norm_max_pool_forward;
extern KernelSlot<BatchNormMaxPoolBackward> batch_norm_max_pool_backward;

}  // namespace plume
