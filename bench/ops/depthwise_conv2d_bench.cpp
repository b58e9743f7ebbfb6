#include "engine/ops/depthwise_conv2d.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

double forward_flops(const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue&,
                     const Tensor&) {
  return 2.0 * double(depthwise_conv2d_macs(x.shape(), w.shape(), p));
}
double backward_input_flops(const Tensor&, const Tensor& w, const Conv2dParams& p, const Tensor& dx) {
  return 2.0 * double(depthwise_conv2d_macs(dx.shape(), w.shape(), p));
}
double backward_weight_flops(const Tensor& x, const Tensor&, const Conv2dParams& p, const Tensor& dw) {
  return 2.0 * double(depthwise_conv2d_macs(x.shape(), dw.shape(), p));
}

const bool registered = bench_slot<depthwise_conv2d_forward>({.flops = forward_flops}) &&
                        bench_slot<depthwise_conv2d_backward_input>({.flops = backward_input_flops}) &&
                        bench_slot<depthwise_conv2d_backward_weight>({.flops = backward_weight_flops});

}  // namespace
}  // namespace plume::bench
