#include "engine/ops/relu.h"

#include "engine/autograd/tape.h"

namespace plume {

constinit KernelSlot<ReluForward> relu_forward{"relu.forward", costs<CallClass::activation>};
constinit KernelSlot<ReluBackward> relu_backward{"relu.backward", costs<CallClass::activation>};

Variable relu(const Variable& x) {
  Tensor y = empty_like(x.value());
  relu_forward(x.context(), x.value(), y);
  return record("relu", y, {x}, [y](const Tensor& dy, Gradients& g) {
    Tensor dx = empty_like(dy);
    relu_backward(context(dy.device()), y, dy, dx);
    g.add(0, dx);
  });
}

}  // namespace plume
