#include "engine/ops/max_pool2d.h"

#include "bench/support/slot_bench.h"
#include "engine/ops/conv2d_max_pool.h"

namespace plume {

std::string describe(const MaxPool2dParams& p) {
  return message("window{}_stride{}_pad{}{}", p.window, p.stride, p.padding, p.ceil_mode ? "_ceil" : "");
}

namespace bench {
namespace {

// The places of the maxima of random images.
void complete_backward(Context& context, Tensor& dy, Tensor& argmax, MaxPool2dParams& params, Tensor& dx) {
  const Tensor x = materialise(outline(dx), 1);
  Tensor y = empty_like(dy);
  max_pool2d_forward(context, x, params, y, argmax);
}

const bool max_pool2d_registered = bench_slot<max_pool2d_forward>() &&
                                   bench_slot<max_pool2d_backward>({.complete = complete_backward}) &&
                                   bench_slot<conv2d_max_pool_forward>();

}  // namespace
}  // namespace bench
}  // namespace plume
