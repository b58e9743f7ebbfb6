#include "engine/ops/linear.h"

#include "engine/autograd/tape.h"
#include "engine/ops/sum_rows.h"
#include "engine/profiler/cost.h"

namespace plume {

constinit KernelSlot<LinearForward> linear_forward{"linear.forward"};
constinit KernelSlot<LinearBackwardInput> linear_backward_input{"linear.backward_input"};
constinit KernelSlot<LinearBackwardWeight> linear_backward_weight{"linear.backward_weight"};

Variable linear(const Variable& x, const Variable& w, const Variable& bias) {
  PLUME_CHECK(x.shape().rank() == 2 && w.shape().rank() == 2 && x.dim(1) == w.dim(1),
              "linear: input {} does not fit weight {}", x.shape(), w.shape());
  Epilogue epilogue;
  if (bias.defined()) epilogue.shift = bias.value();
  Tensor y = empty({x.dim(0), w.dim(0)}, x.value());
  count_macs(Work::linear, y.size() * x.dim(1));
  linear_forward(x.context(), x.value(), w.value(), epilogue, y);
  return record("linear", y, {x, w, bias}, [x, w](const Tensor& dy, Gradients& g) {
    Context& context = x.context();
    if (g.wants(0)) {
      Tensor dx = empty_like(x.value());
      linear_backward_input(context, dy, w.value(), dx);
      g.add(0, dx);
    }
    if (g.wants(1)) {
      Tensor dw = empty_like(w.value());
      linear_backward_weight(context, x.value(), dy, dw);
      g.add(1, dw);
    }
    if (g.wants(2)) {
      Tensor db = Tensor::empty({dy.dim(1)}, DType::f32, dy.device());
      sum_rows_forward(context, dy, db);
      g.add(2, db);
    }
  });
}

}  // namespace plume
