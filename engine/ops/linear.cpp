#include "engine/ops/linear.h"

#include "engine/autograd/tape.h"
#include "engine/ops/cast.h"
#include "engine/ops/conv2d.h"
#include "engine/ops/sum_rows.h"
#include "engine/profiler/cost.h"

namespace plume {

namespace {

CallCost cost(const Tensor& rows, int64_t columns) {
  return {CallClass::linear, double(rows.size() * columns)};
}
CallCost forward_cost(const Tensor& x, const Tensor& w, const Epilogue&, const Tensor&) {
  return cost(x, w.dim(0));
}
CallCost backward_input_cost(const Tensor& dy, const Tensor& w, const Tensor&) { return cost(dy, w.dim(1)); }
CallCost backward_weight_cost(const Tensor& x, const Tensor& dy, const Tensor&) { return cost(x, dy.dim(1)); }

}  // namespace

constinit KernelSlot<LinearForward> linear_forward{"linear.forward", forward_cost};
constinit KernelSlot<LinearBackwardInput> linear_backward_input{"linear.backward_input", backward_input_cost};
constinit KernelSlot<LinearBackwardWeight> linear_backward_weight{"linear.backward_weight",
                                                                  backward_weight_cost};

Tensor linear_fused(const Tensor& x, const Tensor& w, const Epilogue& epilogue) {
  PLUME_CHECK(x.rank() == 2 && w.rank() == 2 && x.dim(1) == w.dim(1),
              "linear: input {} does not fit weight {}", x.shape(), w.shape());
  Tensor y = empty({x.dim(0), w.dim(0)}, x);
  count_macs(Work::linear, y.size() * x.dim(1));
  linear_forward(context(x.device()), x, w, epilogue, y);
  return y;
}

namespace {

// Both gradients as those of a 1x1 convolution, where one kernel makes both; else false.
bool backward_as_pixels(Context& context, const Tensor& x, const Tensor& w, const Tensor& dy, Tensor& dx,
                        Tensor& dw) {
  if (linear_backward_input.forced(context.device()) || linear_backward_weight.forced(context.device()))
    return false;
  const auto pixels = [](const Tensor& t) { return t.reshape({t.dim(0), 1, 1, t.dim(1)}); };
  Tensor dx_pixels = pixels(dx), dw_filters = pixels(dw);
  return conv2d_backward_in_one(context, pixels(x), pixels(w), pixels(dy), {}, dx_pixels, dw_filters);
}

}  // namespace

Variable linear(const Variable& x, const Variable& w, const Variable& bias) {
  Epilogue epilogue;
  if (bias.defined()) epilogue.shift = bias.value();
  const Tensor weight = value_in(w, x.dtype());
  Tensor y = linear_fused(x.value(), weight, epilogue);
  return record("linear", y, {x, w, bias}, [x, weight, type = w.dtype()](const Tensor& dy, Gradients& g) {
    Context& context = x.context();
    Tensor dx, dw;
    if (g.wants(0)) dx = empty_like(x.value());
    if (g.wants(1)) dw = Tensor::empty(weight.shape(), type, weight.device());
    if (!dx.defined() || !dw.defined() || !backward_as_pixels(context, x.value(), weight, dy, dx, dw)) {
      if (dx.defined()) linear_backward_input(context, dy, weight, dx);
      if (dw.defined()) linear_backward_weight(context, x.value(), dy, dw);
    }
    if (dx.defined()) g.add(0, dx);
    if (dw.defined()) g.add(1, dw);
    add_bias_gradient(g, 2, dy);
  });
}

}  // namespace plume
