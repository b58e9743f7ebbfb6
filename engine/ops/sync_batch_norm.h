// sync_batch_norm: batch_norm in training whose mean and variance are those of all ranks' batches together.
//
// The formula is that of batch_norm.h. Forward, the ranks gather count, mean and sum of squared distances per
// channel and merge them (Chan, Golub, LeVeque 1983); backward, they add up sum dz and sum dz * xhat, which
// dx needs. dgamma and dbeta are this rank's alone, like every parameter's gradient. The loss that is
// differentiated is the sum of all ranks' losses.
#pragma once
#include "engine/distributed/communicator.h"
#include "engine/ops/batch_norm.h"

namespace plume {

// Arguments as for batch_norm_train. All ranks must call; their batches may differ in size.
Variable sync_batch_norm_train(const Variable& x, const Variable& gamma, const Variable& beta,
                               const Variable& residual, Tensor& running_mean, Tensor& running_var,
                               const BatchNormParams& params, Communicator& communicator);

// moments f32 [C, 3]: count, mean, sum of squared distances from the mean.
using SyncBatchNormStatistics = void(Context&, const Tensor& x, Tensor& moments);
// moments f32 [ranks, C, 3]. All others f32 [C]: how many values there are, their mean, biased variance and
// 1 / sqrt(var + eps); the running statistics move.
using SyncBatchNormMerge = void(Context&, const Tensor& moments, const BatchNormParams&, Tensor& count,
                                Tensor& mean, Tensor& var, Tensor& inv_std, Tensor& running_mean,
                                Tensor& running_var);
// dbeta = sum dz; dgamma = sum dz * xhat. y: as BatchNormBackward has it.
using SyncBatchNormBackwardSums = void(Context&, const Tensor& x, const Tensor& y, const Tensor& dy,
                                       const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                                       const Tensor& inv_std, Activation, Tensor& dgamma, Tensor& dbeta);
// sums f32 [2, C]: all ranks' dgamma, then dbeta. dx = gamma * inv_std * (dz - dbeta/count - xhat *
// dgamma/count); dresidual = dz, written unless undefined.
using SyncBatchNormBackwardInput = void(Context&, const Tensor& x, const Tensor& y, const Tensor& dy,
                                        const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                                        const Tensor& inv_std, const Tensor& count, const Tensor& sums,
                                        Activation, Tensor& dx, Tensor& dresidual);
extern KernelSlot<SyncBatchNormStatistics> sync_batch_norm_statistics;
extern KernelSlot<SyncBatchNormMerge> sync_batch_norm_merge;
extern KernelSlot<SyncBatchNormBackwardSums> sync_batch_norm_backward_sums;
extern KernelSlot<SyncBatchNormBackwardInput> sync_batch_norm_backward_input;

}  // namespace plume
