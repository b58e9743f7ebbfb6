#include "engine/ops/any_conv2d.h"

#include "engine/profiler/cost.h"

namespace plume {

Shape any_conv2d_shape(const Shape& x, const Shape& w, const Conv2dParams& p) {
  return is_depthwise(w) ? depthwise_conv2d_shape(x, w, p) : conv2d_shape(x, w, p);
}

int64_t any_conv2d_macs(const Shape& x, const Shape& w, const Conv2dParams& p) {
  return is_depthwise(w) ? depthwise_conv2d_macs(x, w, p) : conv2d_macs(x, w, p);
}

void count_any_conv2d(const Shape& x, const Shape& w, const Conv2dParams& p) {
  count_macs(is_depthwise(w)    ? Work::depthwise
             : w[1] * w[2] == 1 ? Work::pointwise
                                : Work::dense,
             any_conv2d_macs(x, w, p));
}

void any_conv2d_forward(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& p,
                        Tensor& y) {
  auto& forward = is_depthwise(w.shape()) ? depthwise_conv2d_forward : conv2d_forward;
  forward(context, x, w, p, {}, y);
}

void any_conv2d_backward_input(Context& context, const Tensor& dy, const Tensor& w, const Conv2dParams& p,
                               Tensor& dx) {
  auto& backward = is_depthwise(w.shape()) ? depthwise_conv2d_backward_input : conv2d_backward_input;
  backward(context, dy, w, p, dx);
}

void any_conv2d_backward_weight(Context& context, const Tensor& x, const Tensor& dy, const Conv2dParams& p,
                                Tensor& dw) {
  auto& backward = is_depthwise(dw.shape()) ? depthwise_conv2d_backward_weight : conv2d_backward_weight;
  backward(context, x, dy, p, dw);
}

}  // namespace plume
