#include "engine/ops/linear.h"

#include "engine/autograd/tape.h"
#include "engine/ops/cast.h"
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

Variable linear(const Variable& x, const Variable& w, const Variable& bias) {
  Epilogue epilogue;
  if (bias.defined()) epilogue.shift = bias.value();
  const Tensor weight = value_in(w, x.dtype());
  Tensor y = linear_fused(x.value(), weight, epilogue);
  return record("linear", y, {x, w, bias}, [x, weight, type = w.dtype()](const Tensor& dy, Gradients& g) {
    Context& context = x.context();
    if (g.wants(0)) {
      Tensor dx = empty_like(x.value());
      linear_backward_input(context, dy, weight, dx);
      g.add(0, dx);
    }
    if (g.wants(1)) {
      Tensor dw = Tensor::empty(weight.shape(), type, weight.device());
      linear_backward_weight(context, x.value(), dy, dw);
      g.add(1, dw);
    }
    add_bias_gradient(g, 2, dy);
  });
}

}  // namespace plume
