#include "engine/ops/batch_norm_max_pool.h"

#include "bench/support/slot_bench.h"

namespace plume {

std::string describe(const BatchNormParams& p);
std::string describe(const KnownNorm& norm);
std::string describe(const MaxPool2dParams& p);
std::string describe(const WindowWinners& winners) {
  return message("{}/{}", describe(winners.values), describe(winners.pool));
}

namespace bench {
namespace {

// Which of equal maxima wins is each variant's own affair: what is kept for the gradient is not compared.
void complete_forward(Context&, Tensor&, Tensor&, Tensor&, BatchNormParams&, MaxPool2dParams&, Tensor&,
                      Tensor& winners, Tensor& argmax, Tensor&, Tensor&, Tensor&, Tensor&) {
  winners = argmax = {};
}

// The winners of random images.
void complete_backward(Context& context, Tensor& x, WindowWinners& winners, Tensor& dy, Tensor&,
                       KnownNorm& norm, Tensor&, Tensor&, Tensor&) {
  Tensor y = empty_like(dy), running_mean = norm.mean.clone(), running_var = norm.mean.clone();
  batch_norm_max_pool_forward(context, x, norm.gamma, norm.beta, {.activation = norm.activation},
                              winners.pool, y, winners.values, winners.argmax, norm.mean, norm.inv_std,
                              running_mean, running_var);
}

const bool batch_norm_max_pool_registered =
    bench_slot<batch_norm_max_pool_forward>({.complete = complete_forward}) &&
    bench_slot<batch_norm_max_pool_backward>({.complete = complete_backward});

}  // namespace
}  // namespace bench
}  // namespace plume
