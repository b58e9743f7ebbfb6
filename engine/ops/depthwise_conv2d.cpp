#include "engine/ops/depthwise_conv2d.h"

#include "engine/autograd/tape.h"
#include "engine/ops/cast.h"
#include "engine/ops/sum_rows.h"
#include "engine/profiler/cost.h"

namespace plume {

namespace {

CallCost cost(const Tensor& x, const Tensor& w, const Conv2dParams& p) {
  return {CallClass::depthwise, double(depthwise_conv2d_macs(x.shape(), w.shape(), p))};
}
CallCost forward_cost(const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue&,
                      const Tensor&) {
  return cost(x, w, p);
}
CallCost backward_input_cost(const Tensor&, const Tensor& w, const Conv2dParams& p, const Tensor& dx) {
  return cost(dx, w, p);
}
CallCost backward_weight_cost(const Tensor& x, const Tensor&, const Conv2dParams& p, const Tensor& dw) {
  return cost(x, dw, p);
}

}  // namespace

constinit KernelSlot<DepthwiseForward> depthwise_conv2d_forward{"depthwise_conv2d.forward", forward_cost};
constinit KernelSlot<DepthwiseBackwardInput> depthwise_conv2d_backward_input{
    "depthwise_conv2d.backward_input", backward_input_cost};
constinit KernelSlot<DepthwiseBackwardWeight> depthwise_conv2d_backward_weight{
    "depthwise_conv2d.backward_weight", backward_weight_cost};

Shape depthwise_conv2d_shape(const Shape& x, const Shape& w, const Conv2dParams& p) {
  PLUME_CHECK(x.rank() == 4 && w.rank() == 3,
              "depthwise_conv2d: input {} must have rank 4 and weight {} rank 3", x, w);
  PLUME_CHECK(x[3] == w[2], "depthwise_conv2d: weight {} has {} channels, input {} has {}", w, w[2], x, x[3]);
  return conv2d_shape(x, {w[2], w[0], w[1], x[3]}, p);
}

int64_t depthwise_conv2d_macs(const Shape& x, const Shape& w, const Conv2dParams& p) {
  return depthwise_conv2d_shape(x, w, p).elements() * w[0] * w[1];
}

Tensor depthwise_conv2d_fused(const Tensor& x, const Tensor& w, const Conv2dParams& p,
                              const Epilogue& epilogue) {
  Tensor y = empty(depthwise_conv2d_shape(x.shape(), w.shape(), p), x);
  count_macs(Work::depthwise, depthwise_conv2d_macs(x.shape(), w.shape(), p));
  depthwise_conv2d_forward(context(x.device()), x, w, p, epilogue, y);
  return y;
}

Variable depthwise_conv2d(const Variable& x, const Variable& w, const Variable& bias, const Conv2dParams& p) {
  Epilogue epilogue;
  if (bias.defined()) epilogue.shift = bias.value();
  const Tensor filter = value_in(w, x.dtype());
  Tensor y = depthwise_conv2d_fused(x.value(), filter, p, epilogue);
  return record("depthwise_conv2d", y, {x, w, bias},
                [x, filter, type = w.dtype(), p](const Tensor& dy, Gradients& g) {
                  depthwise_conv2d_gradients(g, dy, x, filter, type, p);
                  add_bias_gradient(g, 2, dy);
                });
}

void depthwise_conv2d_gradients(Gradients& g, const Tensor& dy, const Variable& x, const Tensor& w,
                                DType dw_type, const Conv2dParams& p) {
  Context& context = x.context();
  if (g.wants(0)) {
    Tensor dx = empty_like(x.value());
    depthwise_conv2d_backward_input(context, dy, w, p, dx);
    g.add(0, dx);
  }
  if (g.wants(1)) {
    Tensor dw = Tensor::empty(w.shape(), dw_type, w.device());
    depthwise_conv2d_backward_weight(context, x.value(), dy, p, dw);
    g.add(1, dw);
  }
}

}  // namespace plume
